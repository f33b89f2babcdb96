/* SPDX-License-Identifier: Apache-2.0
 * The producer side in memory: reserving, filling, committing, sealing, opening and retiring slots.
 * No file I/O.
 *
 * A slot is a buffer that many producers fill at once and that becomes one batch. One 64-bit word W
 * = {sequence, slot index, units} is all that producers contend for: a fetch-add of the record's
 * size in units of 8 bytes either falls inside the open slot (the place is the caller's), or
 * crosses its end (the caller is the closer and opens the next slot), or finds it closed (the
 * caller waits). Whoever commits last in a sealed slot pushes it to the flusher. Orders and
 * partners: ORDERING.md.
 *
 * The role is the right to open the next slot. It is born by the one add that crosses the end, dies
 * with the store that opens W, is left to the flusher through `owed`, and is the flusher's for good
 * after a shutdown. While it exists W is closed, and at most one thread has it. */
#ifndef WEIR_STAGE_STAGE_H
#define WEIR_STAGE_STAGE_H

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/err.h"
#include "format/batch.h"
#include "port/mem.h"
#include "port/ring.h"
#include "stage/crowd.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/codes.h>

#define WEIR__UNIT 8u
#define WEIR__SLOTS_MAX 1023u /* ten bits of W */
#define WEIR__SLOT_NONE UINT32_MAX

/* Levels a waiter can ask for; the values of enum weir_level. */
enum weir__level { WEIR__LEVEL_DURABLE = 0, WEIR__LEVEL_WRITTEN = 1, WEIR__LEVELS = 2 };

/* Values of fl_sleep. While it is LENDS nobody has the flusher's part (its tables, and the role if
 * that was left to it); LENT and CALLED: a producer has it; else the flusher's thread has it. */
enum weir__fl {
    WEIR__FL_AWAKE = 0,  /* the flusher runs, or has been woken */
    WEIR__FL_IDLE = 1,   /* it sleeps with nothing under way: any commit wakes it */
    WEIR__FL_RING = 2,   /* it sleeps on its ring: only a push wakes it */
    WEIR__FL_LENDS = 3,  /* as IDLE; and a lone producer may take its part instead */
    WEIR__FL_LENT = 4,   /* a producer has it and looks around before it gives it back */
    WEIR__FL_CALLED = 5, /* as LENT; and the flusher is to be woken then */
};

struct weir__slot {
    uint8_t *buffer;     /* set before start */
    size_t buffer_bytes; /* set before start */

    /* pend: low 32 bits: BIAS less the committed units until the seal, end less committed units
     * after it; high 32 bits: records committed. Zero in the low half is reached once, by one
     * thread, which pushes the slot. RMW release: committers and the sealer; store: role holder
     * before it opens. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) pend;
    /* waits[level]: waits that registered here, in all lives. fetch_add relaxed: waiters, on the
     * line that their commit has just written; load relaxed: whoever plays the flusher. A figure:
     * one that comes late counts for the next life. */
    WEIR__ATOMIC(uint64_t) waits[WEIR__LEVELS];

    /* ack[level]: bit 0 somebody sleeps, bit 1 failed, rest (sequence + 1) of the last life
     * acknowledged. Only grows. store-release (exchange): flusher; load-acquire: waiters, who also
     * set bit 0 by CAS. Compared "at or past", so the wrap after 2^30 lives is harmless. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint32_t) ack[WEIR__LEVELS];
    /* pins: bit 31 closed to readers, rest readers that copy right now. RMWs only. */
    WEIR__ATOMIC(uint32_t) pins;

    /* Facts of a life. Written by the role holder before the store that opens W (release), stable
     * until the slot is retired. Atomic because waiters and cursors look at them without a place in
     * the slot (relaxed, then verified). */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) base;
    WEIR__ATOMIC(uint64_t) prev_end;
    WEIR__ATOMIC(uint64_t) seq;
    WEIR__ATOMIC(uint32_t)
    first; /* value of W's units at which this life began: a slot near a segment's end is shorter */
    /* When the seal found producers still copying: its time, for the watchdog; 0 otherwise.
     * Relaxed: a hint. */
    WEIR__ATOMIC(uint64_t) straggling_since_ns;
    uint64_t segment_number;
    weir_lsn segment_base;
    uint32_t chain;
    uint32_t end;     /* units, written by the sealer before its RMW on pend */
    uint32_t records; /* written by the flusher when it takes the slot */
    bool full;        /* sealed by a record that did not fit */
};

/* Where the next batch goes. Owned by the holder of the role. */
struct weir__role {
    weir_lsn prev_end;
    weir_lsn base;
    weir_lsn segment_base;
    weir_lsn segment_end;
    uint64_t segment_number;
    uint64_t seq;
    uint64_t opening; /* openings so far: what W calls its sequence, so that a slot opened again is
                         told from before */
    uint64_t need; /* bytes of the record that did not fit at the frontier: the flusher opens where
                      it does. 0: any */
    uint32_t chain;
    uint32_t slot; /* an empty slot in hand, or WEIR__SLOT_NONE */
};

/* Producers take turns: two processors that add to W in turn wait for its cache line each time, and
 * for the lines at the records' borders, which costs three times what one of them needs alone. So a
 * producer that does not wait and has made a run of adds lets the others have theirs, if there are
 * any. Hints by processor, relaxed: nothing but time hangs on them. */
#define WEIR__TURNS 64u /* processors that are told apart */

struct weir__turn {
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) last; /* W behind the last add made here */
    WEIR__ATOMIC(uint32_t) adds;                     /* since the last pause or wait */
};

struct weir__turns {
    alignas(WEIR__LINE) WEIR__ATOMIC(uint32_t) over; /* turns that have ended */
    WEIR__ATOMIC(uint32_t) waits_since; /* what that was when somebody last began to wait for one */
};

struct weir__stage_counters {
    WEIR__ATOMIC(uint64_t) stalls_slot, stalls_oversize, stalls_straggler;
    WEIR__ATOMIC(uint64_t) refused_again, refused_timeout, refused_space;
    WEIR__ATOMIC(uint64_t) flusher_wakes, ack_wakes;
    WEIR__ATOMIC(uint64_t) waits[WEIR__LEVELS]; /* by no slot's word; the others: slot.waits */
    WEIR__ATOMIC(uint64_t) waits_slept, yield_pauses;
    WEIR__ATOMIC(uint64_t) turn_pauses; /* turns after which others were let on */
};

struct weir__stage_config {
    struct weir__mem *mem;
    uint32_t slots;
    uint32_t slot_bytes;
    uint32_t oversize_buffers;
    uint64_t oversize_bytes; /* of one such buffer: header, frames and padding of the largest record
                                or group */
    uint32_t block_bytes;
    uint64_t segment_bytes;
    uint64_t epoch;
    uint64_t nonce;
    /* Everything below it is prepared. store-release: keeper; load-acquire here. */
    WEIR__ATOMIC(uint64_t) *prepared_end;
    /* Why the next segment cannot be prepared, or 0. */
    WEIR__ATOMIC(int32_t) *space_error;
    /* Hint to the keeper: end of the segment in which slots are opened. */
    WEIR__ATOMIC(uint64_t) *current_end;
    /* From so many waiting producers on they yield a few times before they sleep, 0: never; and
     * from so many on for longer. */
    uint32_t yield_from;
    uint32_t yield_long_from;
    /* Ends a wait of the flusher on its ring (fl_sleep == 2). Any thread. */
    void (*wake_ring)(void *ctx);
    void *ctx;
};

struct weir__stage {
    struct weir__stage_config config;
    struct weir__slot *slots; /* config.slots ordinary ones, then the oversize ones */
    uint32_t slot_count;      /* both kinds */
    uint32_t cap;             /* units of frames that a whole ordinary slot takes */
    uint8_t *buffers;
    size_t buffers_bytes;
    struct weir__ring *sealed; /* any producer puts, the flusher takes */
    struct weir__ring *free;   /* the flusher puts, the role holder takes */

    /* W: [63..46] opening, low 18 bits (two looks at W that agree on it saw one opening), [45..36]
     * slot index, [35..0] units. Adds: seq_cst, any producer; the opening store: seq_cst, role
     * holder. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) word;

    /* fl_sleep: futex word, enum weir__fl; who may play the flusher's part. All writes are RMWs, so
     * that every push is in its release sequence. ORDERING.md, "The part that is lent". */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint32_t) fl_sleep;
    /* How many times a producer took the part: its holder writes, the watchdog reads. Relaxed: a
     * hint. */
    WEIR__ATOMIC(uint32_t) lendings;

    /* Generations with a waiter bit (bit 0): something changed, look again. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint32_t) open_gen; /* W was opened, or never will be */
    WEIR__ATOMIC(uint32_t) free_gen;                     /* a slot was given back */
    WEIR__ATOMIC(uint32_t) frontier_gen;                 /* prepared space grew or cannot */
    WEIR__ATOMIC(uint32_t) oversize_gen;                 /* an oversize buffer was given back */
    WEIR__ATOMIC(uint32_t) level_gen[WEIR__LEVELS];      /* a level's LSN moved */
    WEIR__ATOMIC(uint32_t) complete_gen;                 /* `complete` moved */
    WEIR__ATOMIC(uint32_t) exit_gen; /* the flusher is final and has drained, or has failed */

    /* Read by every wait, written rarely. crowd: producers that wait at once, as of late.
     * Relaxed: the flusher writes, waiters read; a hint. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint32_t) crowd;
    /* No yields before this time: somebody took the CPU for a whole slice. Relaxed, any thread; a
     * hint, the last one who writes is as right as any. */
    WEIR__ATOMIC(uint64_t) yields_off_ns;
    WEIR__ATOMIC(uint64_t)
    yields_pause_ns; /* how long the last such pause was. Relaxed, as above */

    alignas(WEIR__LINE)
        WEIR__ATOMIC(uint32_t) owed; /* 1: the role is left to the flusher. release/acquire */
    WEIR__ATOMIC(uint32_t) shut;     /* 1: no new records */
    WEIR__ATOMIC(uint32_t) failed;   /* 1: poisoned. release/acquire */
    WEIR__ATOMIC(uint32_t)
    at_frontier;                    /* 1: W is closed because the next segment is not prepared */
    WEIR__ATOMIC(uint32_t) drained; /* 1: the flusher has left */
    WEIR__ATOMIC(uint64_t)
    sealed_end; /* end LSN of the last batch that was closed. Role holder, relaxed: `closed` or
                   `at_frontier` publishes it */
    WEIR__ATOMIC(uint64_t)
    closed; /* the last opening that is over, with sealed_end behind it. Role holder, release */
    WEIR__ATOMIC(uint64_t) end_seen;      /* highest end told to anybody. CAS relaxed */
    WEIR__ATOMIC(uint64_t) oversize_free; /* bit per oversize buffer */

    /* level[l]: everything below has reached it. store-release: flusher; load-acquire: anyone. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) level[WEIR__LEVELS];
    WEIR__ATOMIC(uint64_t)
    complete; /* end of the last batch in order that is complete in memory. As level */

    struct weir__turns taking_turns;
    struct weir__turn turns[WEIR__TURNS];

    struct weir__role role;
    /* Set before exit: the kernel may still read them, so they are never freed. */
    bool keep_buffers;
    struct weir__stage_counters counters;
};

/* start: the position that the first batch continues; segment: where it goes; number of that
 * segment. */
int weir__stage_init(struct weir__stage *stage,
                     const struct weir__stage_config *config,
                     const struct weir__position *start,
                     weir_lsn segment_base,
                     weir_lsn segment_end,
                     uint64_t segment_number);
/* After the flusher and every caller have left. Safe on a zeroed struct. */
void weir__stage_exit(struct weir__stage *stage);
/* Bytes that init allocates for a config, as the seam counts them. */
uint64_t weir__stage_memory(const struct weir__stage_config *config);

/* What whoever plays the flusher has besides its own tables. */
struct weir__stage_flusher {
    uint64_t next_ack; /* sequence of the next life to be acknowledged */
    bool shut_seen;
    bool final;     /* the role is the flusher's for good: W never opens again */
    bool must_open; /* the role is the flusher's, and a slot must be opened */
};

/* ---- producers ------------------------------------------------------------------------------- */

struct weir__place {
    uint32_t slot;
    uint32_t units;
    uint64_t seq;
    weir_lsn lsn;
    uint8_t *at;
};

/* Reserves bytes (a multiple of WEIR__UNIT) in one batch. deadline_ns: 0 = try, WEIR__NEVER = as
 * long as it takes. 0 | -EAGAIN | -ETIMEDOUT | -ENOSPC (or another reason of the keeper's) |
 * WEIR_ESHUTDOWN | WEIR_EFAILED: nothing reserved. On 0 the caller fills place->at and commits
 * soon: the batch waits for it. */
int weir__stage_reserve(struct weir__stage *stage,
                        uint64_t bytes,
                        uint64_t deadline_ns,
                        struct weir__place *place_out);
void weir__stage_commit(struct weir__stage *stage,
                        const struct weir__place *place,
                        uint32_t records);
/* The same by a caller who will wait for the record. True: it is alone, the flusher sleeps, and the
 * flusher's part is the caller's now: the functions of the flusher below, until it calls
 * weir__stage_return or weir__stage_hand_over. The record's slot is open and holds it. */
bool weir__stage_commit_alone(struct weir__stage *stage,
                              const struct weir__place *place,
                              uint32_t records);
/* Gives the part back to a flusher that goes on sleeping; wakes it if there is something to do. Only
 * in a state in which it could sleep with WEIR__FL_LENDS. */
void weir__stage_return(struct weir__stage *stage, const struct weir__stage_flusher *flusher);
/* Gives the part to the flusher, in any state, and wakes it. */
void weir__stage_hand_over(struct weir__stage *stage);

/* Sleeps until the level's LSN lies above lsn. slot and seq: the place of lsn if known
 * (WEIR__SLOT_NONE otherwise). 0 | -ETIMEDOUT | WEIR_EFAILED | WEIR_ESHUTDOWN the flusher has left
 * and it will never come. */
int weir__stage_wait(struct weir__stage *stage,
                     weir_lsn lsn,
                     enum weir__level level,
                     uint32_t slot,
                     uint64_t seq,
                     uint64_t deadline_ns);
/* Sleeps until a batch that ends above lsn is complete in memory, and all before it. Return as
 * weir__stage_wait. */
int weir__stage_wait_complete(struct weir__stage *stage, weir_lsn lsn, uint64_t deadline_ns);
/* Sleeps until everything reserved before the call has reached the level. Return as
 * weir__stage_wait. */
int weir__stage_wait_all(struct weir__stage *stage, enum weir__level level, uint64_t deadline_ns);
/* Says what a yield from then_ns to now_ns was worth, and starts a pause if a stranger had the CPU.
 * Any thread. */
enum weir__yield_verdict
weir__stage_yielded(struct weir__stage *stage, uint64_t then_ns, uint64_t now_ns);
/* Waits for a level so far. */
uint64_t weir__stage_waits(struct weir__stage *stage, enum weir__level level);
/* Records committed and not durable: those of each slot, looked at one after another. */
uint64_t weir__stage_pending_records(struct weir__stage *stage);
/* About where the next record would go. */
weir_lsn weir__stage_end(struct weir__stage *stage);

/* Copies header and frames of the complete batch that continues prev_end, if it is still in memory:
 * count of bytes, 0 if it is not, or a count above room with nothing copied. 0 although `complete`
 * was seen above it: it has left memory, and whoever loads a level from then on sees that it had
 * reached it. Never waits for the flusher, and never makes it wait longer than a copy. */
size_t weir__stage_copy(struct weir__stage *stage, weir_lsn prev_end, void *to, size_t room);

/* Asks for the end: no new records from now on. Any thread. */
void weir__stage_shut(struct weir__stage *stage);
/* Poisons: everybody who waits gets WEIR_EFAILED. Any thread; the first call counts. */
void weir__stage_fail(struct weir__stage *stage);
/* Wakes those who wait for prepared space. Keeper. */
void weir__stage_frontier_moved(struct weir__stage *stage);
/* Sleeps until the flusher has left. 0, -ETIMEDOUT. */
int weir__stage_wait_drained(struct weir__stage *stage, uint64_t deadline_ns);
/* Makes the flusher look around, as a commit does. Any thread. */
void weir__stage_rouse(struct weir__stage *stage);
/* The longest that a sealed slot has been waiting for a producer: ns (0: none), and its LSN.
 * Watchdog. */
uint64_t weir__stage_straggler(struct weir__stage *stage, uint64_t now_ns, weir_lsn *lsn_out);
/* Whether there is something that waits for nobody but the flusher: a complete batch at or above
 * `level`, or an open slot whose records are all committed. A hint. Watchdog. */
bool weir__stage_due(struct weir__stage *stage, weir_lsn level);
/* Whether a producer has the flusher's part, and which time that is. Watchdog. */
bool weir__stage_lent(struct weir__stage *stage, uint32_t *lending_out);

/* ---- the flusher's part: one thread at a time ------------------------------------------------ */

/* Waits that have registered in a slot, in all its lives, for any level. */
uint64_t weir__stage_slot_waits(struct weir__stage *stage, uint32_t slot);
/* The open slot that holds records, or WEIR__SLOT_NONE. A look: it may be closed by now. */
uint32_t weir__stage_gathering(struct weir__stage *stage);
/* The next complete slot, in whatever order they were completed; its `records` is set. False: none
 * now. */
bool weir__stage_take(struct weir__stage *stage, uint32_t *slot_out);
/* Serves the role if it was left, notices a shutdown, and, if may_seal, seals the open slot when it
 * holds records and can be replaced. True if anything was done. */
bool weir__stage_serve(struct weir__stage *stage,
                       struct weir__stage_flusher *flusher,
                       bool may_seal);
/* Opens a taken slot to readers: its bytes will not change until it is retired. complete_end: end
 * of the last batch in order. */
void weir__stage_show(struct weir__stage *stage, uint32_t slot, weir_lsn complete_end);
/* Life `seq` of slot has reached a level, and so has everything below end: publishes and wakes. In
 * order of seq per level. */
void weir__stage_acknowledge(struct weir__stage *stage,
                             uint32_t slot,
                             uint64_t seq,
                             enum weir__level level,
                             weir_lsn end);
/* Closes a slot to readers; true: it may be given back now, false: a reader still copies, ask
 * weir__stage_unpinned later. */
bool weir__stage_hide(struct weir__stage *stage, uint32_t slot);
bool weir__stage_unpinned(struct weir__stage *stage, uint32_t slot);
/* Gives a retired slot back. */
void weir__stage_give(struct weir__stage *stage, uint32_t slot);
/* Announces sleep (how: WEIR__FL_IDLE, _RING or _LENDS) and looks once more: true if there is nothing
 * to do, or a producer has taken the part, and the caller may sleep on fl_sleep, or (_RING) on its
 * ring, until fl_sleep is 0. may_seal as it would be passed to serve. _LENDS only with nothing under
 * way, the role not the flusher's, and no shutdown seen; from the call on, until fl_sleep is 0, the
 * caller touches nothing of its part. */
bool weir__stage_going_to_sleep(struct weir__stage *stage,
                                const struct weir__stage_flusher *flusher,
                                enum weir__fl how,
                                bool may_seal);
void weir__stage_awake(struct weir__stage *stage);
/* The flusher leaves: wakes everybody who waits for it. */
void weir__stage_leave(struct weir__stage *stage);
uint32_t weir__stage_free_count(struct weir__stage *stage);

#endif
