/* SPDX-License-Identifier: Apache-2.0
 * The keeper: the log's background thread. It prepares segments ahead of need (the frontier),
 * recycles or removes trimmed ones, and writes the control file: checkpoints, promises, trims.
 * It never touches a segment that may hold live batches.
 *
 * The frontier: a slot may be opened only inside prepared space. `prepared_end` moves, with
 * release, after a segment is completely on disk; whoever reads it with acquire may use ready[]
 * for every segment below it. */
#ifndef WEIR_KEEP_KEEPER_H
#define WEIR_KEEP_KEEPER_H

#include "base/atomic.h"
#include "base/compiler.h"
#include "segment/control_file.h"
#include "segment/segment.h"

#include <pthread.h>
#include <stdalign.h>

/* Segments that may be in use or prepared at once: the one being acknowledged, those with writes
 * under way, the spares. */
#define WEIR__READY_MAX 32u
#define WEIR__KEEPER_TICK_NS                                                                       \
    UINT64_C(100000000) /* the longest between two of the host's ticks, but for I/O */

struct weir__ready {
    struct weir__range range;
    uint64_t number;
    int file; /* open for writing */
};

/* Counters of the keeper: written by it alone (relaxed), read by anyone. */
struct weir__keeper_counters {
    WEIR__ATOMIC(uint64_t) segments_prefilled, segments_recycled, segments_adopted,
        segments_removed;
    /* Bytes of zeros written; chunks of them written at full speed. */
    WEIR__ATOMIC(uint64_t) prefill_bytes, prefill_unthrottled;
    /* Copies of the control file; checkpoints and trims in them. */
    WEIR__ATOMIC(uint64_t) control_writes, checkpoints, trims;
};

/* Every function is required. None is called after weir__keeper_stop. */
struct weir__keeper_config {
    struct weir__dir *dir;
    struct weir__control_file *control; /* open for writing; the keeper's from start to stop */
    struct weir__catalog *catalog;
    uint64_t segment_bytes;
    uint32_t spare_segments;
    uint32_t recycle_segments;
    /* Highest LSN known durable; called by the keeper thread. */
    weir_lsn (*durable)(void *ctx);
    /* End of the log, about: how fast space is used. */
    weir_lsn (*end)(void *ctx);
    /* The frontier moved, or space_error changed: whoever waits for space must look again.
     * Keeper thread. */
    void (*frontier_moved)(void *ctx);
    /* A control write failed: the log must be poisoned. Called once. Keeper thread. */
    void (*failed)(void *ctx, const struct weir__fault *fault);
    /* Disk low (code != 0), or back (code == 0). Keeper thread. */
    void (*space)(void *ctx, int code, uint64_t wanted_bytes);
    /* Lowest LSN that a pinning cursor needs, UINT64_MAX if none. The trim goes to the lower of
     * that and target: whoever pins later, below it, is too late. Keeper thread. */
    weir_lsn (*pinned)(void *ctx, weir_lsn target);
    /* Once per wake-up, at least every 100 ms: the watchdog's look at the slots. Keeper thread. */
    void (*tick)(void *ctx, uint64_t now_ns);
    void *ctx;
};

/* What only the keeper thread touches (and init, prepare_now, stop, while there is none). */
struct weir__keeper_state {
    weir_lsn last_base;  /* base of the last prepared segment; meaningful when next_number > 0 */
    bool leftovers_gone; /* what stood beyond the end and does not fit was removed */

    /* Filling. */
    int error;             /* why the last try failed, 0: it did not */
    uint64_t retry_due_ns; /* then: no further try before it */
    uint64_t chunk_due_ns; /* no chunk of zeros before it, when throttled */
    bool recycling; /* the last segment was a trimmed file: the next one may become one, too */

    /* How fast the log is used. */
    uint64_t sample_ns;
    weir_lsn sample_end;
    uint64_t use_per_ms; /* bytes; 0 = at rest */

    /* Trims. */
    weir_lsn trim_target; /* to be reached as soon as nothing pins */

    /* The idle promise. */
    weir_lsn durable_seen;
    uint64_t durable_since_ns;

    uint64_t reclaim_retry_ns; /* a removal failed: none before it */
};

struct weir__keeper {
    struct weir__keeper_config config;
    struct weir__prepare prepare;
    pthread_t thread;
    bool started;
    /* [number % MAX]; an entry is published by ready_end and prepared_end, reused after ready_first
     * has passed it. */
    struct weir__ready ready[WEIR__READY_MAX];
    uint64_t next_number;            /* keeper thread: number of the next segment to prepare */
    weir_lsn next_base;              /* keeper thread: its base = end of the last prepared one */
    struct weir__keeper_state state; /* keeper thread */

    /* prepared_end: everything below lies in prepared segments. store-release: keeper;
     * load-acquire: role holder. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) prepared_end;
    /* ready[] holds the numbers [ready_first, ready_end). store-release: keeper, ready_end
     * before prepared_end, ready_first before the file is closed; load-acquire:
     * weir__keeper_ready. */
    WEIR__ATOMIC(uint64_t) ready_first;
    WEIR__ATOMIC(uint64_t) ready_end;
    /* 0, or why the next segment cannot be prepared (negative errno). store-release: keeper;
     * load-acquire: appenders that wait. */
    WEIR__ATOMIC(int32_t) space_error;
    /* 1: a control write failed, or the keeper has left: trims end. store-release: keeper;
     * load-acquire: weir__keeper_trim. */
    WEIR__ATOMIC(uint32_t) broken;
    /* current_end: end of the segment in which slots are being opened. store-relaxed: role
     * holder; load-relaxed: keeper. A hint. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) current_end;
    /* starving: appenders wait for the frontier: fill at full speed. store-relaxed: flusher;
     * load-relaxed: keeper. A hint; kick after it. */
    WEIR__ATOMIC(uint32_t) starving;
    /* retired_end: segments that end at or below it get no more writes and syncs. store-release:
     * flusher; load-acquire: keeper, closes their files. */
    WEIR__ATOMIC(uint64_t) retired_end;
    /* Mailbox for one checkpoint: 0 empty, 1 full. Flusher finds 0 (acquire), fills, stores 1
     * (release); keeper takes (acquire), then stores 0 (release). */
    WEIR__ATOMIC(uint32_t) checkpoint_full;
    struct weir__position checkpoint; /* guarded by checkpoint_full */
    /* trim_asked: highest trim not yet looked at, 0 none. Raised by CAS (release), emptied by the
     * keeper's exchange (acq_rel). */
    WEIR__ATOMIC(uint64_t) trim_asked;
    /* trim_tickets: requests made. RMW acq_rel after trim_asked was raised; load-acquire: keeper,
     * before it empties trim_asked. */
    WEIR__ATOMIC(uint64_t) trim_tickets;
    /* trim_done: tickets answered. store-release: keeper, after `oldest`; load-acquire: who waits.
     * Compared with tickets by difference. */
    WEIR__ATOMIC(uint64_t) trim_done;
    /* oldest: the durable oldest LSN. store-release: keeper; load-acquire: anyone. */
    WEIR__ATOMIC(uint64_t) oldest;
    /* trim_gen: futex word of those who wait for a trim. Bumped (release) after trim_done, after
     * broken. */
    WEIR__ATOMIC(uint32_t) trim_gen;
    /* wake: futex word: 1 = there is something to do. RMWs acq_rel by all. stop: finish and
     * return; release/acquire. */
    WEIR__ATOMIC(uint32_t) wake;
    WEIR__ATOMIC(uint32_t) stop;
    struct weir__keeper_counters counters;
};

/* current: the segment that holds the log's end, already open and headed; becomes
 * ready[current.number % MAX], its file the keeper's to close. NULL: there is none yet (a new
 * log): the first one, number 0, begins at the control file's first_lsn. retired_end starts at
 * the current segment's base. Leftover segments beyond it in the catalog are adopted when they
 * fit (length segment_bytes, base where the next one is due) and removed when not. 0 or -ENOMEM;
 * the file of `current` is then still the caller's. */
int weir__keeper_init(struct weir__keeper *keeper,
                      const struct weir__keeper_config *config,
                      const struct weir__ready *current);
/* Before start, by the opener: adopts, recycles or fills one segment now, at full speed. Used
 * when the log's end stands at a segment's end, and at creation. On an error nothing is left
 * under way and the call can be made again. frontier_moved is called as ever. */
int weir__keeper_prepare_now(struct weir__keeper *keeper, struct weir__fault *fault);
int weir__keeper_start(struct weir__keeper *keeper);
void weir__keeper_kick(struct weir__keeper *keeper); /* any thread */
/* Stops and joins the thread, if there is one; abandons a fill under way; closes the files of
 * ready[]. A checkpoint still in the mailbox is dropped. The control file stays the caller's.
 * Needed after an init, also when start failed; safe on a zeroed struct, and twice. */
void weir__keeper_stop(struct weir__keeper *keeper);

/* The prepared segment of this number; NULL if it is not prepared or was retired. Any thread
 * that knows by acquire that the segment lies below prepared_end. The entry stays as it is until
 * retired_end passes it: only who keeps that from happening (the flusher, the role holder) may
 * use what it got. */
const struct weir__ready *weir__keeper_ready(struct weir__keeper *keeper, uint64_t number);
/* Gives up the records below `before` and waits until that is durable in both copies. Returns 0
 * once the keeper has looked at the request and oldest >= min(before, pinned(), durable()), each
 * as it stood at some moment of this call. What was held back by a pin happens by itself when
 * the pin moves; what lay beyond the durable LSN is not asked for again. A caller that wants to
 * know reads `oldest`. WEIR_EFAILED when *failed is found non-zero first (set when the log is
 * poisoned or stopping), or the keeper has stopped; the trim may be durable or not then. Any
 * thread. Sleeps. */
int weir__keeper_trim(struct weir__keeper *keeper, weir_lsn before, WEIR__ATOMIC(uint32_t) *failed);

#endif
