/* SPDX-License-Identifier: Apache-2.0
 * Producers: reserving a place and committing it.
 *
 * One fetch-add decides. It fits: the place is ours. It crosses the end: we are the closer and open
 * the next slot with our own record in it. The slot was closed: we wait until it is open, and only
 * then add again. Producer threads only; nothing is allocated. */
#include "base/check.h"
#include "base/compiler.h"
#include "base/plant.h"
#include "port/clock.h"
#include "port/wait.h"
#include "stage/stage.h"
#include "stage/word.h"

#include <errno.h>

/* A turn: so many adds, then so long a pause, if others add as well. Measured on two processors:
 * longer turns gain little and are felt as longer pauses. */
#define TURN_ADDS 128u
#define TURN_PAUSE_NS 8000u

/* Of records up to so many units the lines of those to come are asked for, so far ahead. */
#define PREFETCH_UNITS 64u
#define PREFETCH_DISTANCE 512u

/* Looks at W while its closer opens the next slot, which takes a few hundred ns, before the caller
 * sleeps. */
#define OPEN_LOOKS 8u
#define OPEN_LOOK_NS 150u

static void count(WEIR__ATOMIC(uint64_t) *counter)
{
    weir__fetch_add(counter, UINT64_C(1), relaxed); /* a figure, nothing hangs on it */
}

/* Why no record can be taken at all, or 0. */
static int closed_for_good(struct weir__stage *stage)
{
    if (weir__load(&stage->failed, acquire)) {
        return WEIR_EFAILED;
    }
    return weir__load(&stage->shut, relaxed) ? WEIR_ESHUTDOWN : 0;
}

/* What a caller gets who may not wait: -EAGAIN, or why there is no space. */
static int refusal(struct weir__stage *stage)
{
    /* Relaxed: a number to tell. Who misses it is told to try again. */
    if (weir__load(&stage->at_frontier, relaxed)) {
        int32_t space = weir__load(stage->config.space_error, relaxed);
        if (space != 0) {
            count(&stage->counters.refused_space);
            return space;
        }
    }
    count(&stage->counters.refused_again);
    return -EAGAIN;
}

/* Sleeps until W is open. 0, or why it will not be for this caller. */
static int wait_open(struct weir__stage *stage, uint64_t deadline_ns)
{
    bool counted = false;
    bool late = false;
    unsigned looks = 0;

    for (;;) {
        uint32_t gen =
            weir__load(&stage->open_gen,
                       acquire); /* before W: a bump between the two makes the wait return */
        int code = closed_for_good(stage);
        if (code != 0) {
            return code;
        }
        if (word_open(stage, weir__load(&stage->word, relaxed))) {
            return 0;
        }
        /* Relaxed, both: a change after gen was loaded makes the wait return. */
        if (weir__load(&stage->at_frontier, relaxed)) {
            int32_t space = weir__load(stage->config.space_error, relaxed);
            if (space != 0) {
                count(&stage->counters.refused_space);
                return space;
            }
        }
        if (late) {
            count(&stage->counters.refused_timeout);
            return -ETIMEDOUT;
        }
        if (looks < OPEN_LOOKS && !weir__load(&stage->at_frontier, relaxed)) {
            looks++;
            weir__spin_ns(OPEN_LOOK_NS);
            continue;
        }
        if (!counted) {
            counted = true;
            count(&stage->counters.stalls_slot);
        }
        late = weir__gen_wait(&stage->open_gen, gen, deadline_ns) == -ETIMEDOUT;
    }
}

/* A free slot for the holder of the role. WEIR__SLOT_NONE: none before the deadline, or shut down,
 * or failed. */
static uint32_t wait_free(struct weir__stage *stage, uint64_t deadline_ns)
{
    bool late = false;

    count(&stage->counters.stalls_slot);
    weir__stage_nudge(stage); /* the flusher may sleep over slots that it keeps open to readers */
    for (;;) {
        uint32_t gen = weir__load(&stage->free_gen, acquire);
        uint32_t index = weir__role_take_free(stage);
        if (index != WEIR__SLOT_NONE) {
            return index;
        }
        if (late || closed_for_good(stage) != 0) {
            return WEIR__SLOT_NONE;
        }
        late = weir__gen_wait(&stage->free_gen, gen, deadline_ns) == -ETIMEDOUT;
    }
}

/* Ours is the add that crossed the end of slot `index`, `end` units in: opens the next slot with
 * `units` of ours in it. 0 with *slot_out; -EAGAIN: the role was left to the flusher because the
 * next segment is not prepared: wait and try again; else final. */
static int close_slot(struct weir__stage *stage,
                      uint32_t index,
                      uint32_t end,
                      uint32_t units,
                      uint64_t deadline_ns,
                      uint32_t *slot_out)
{
    weir__role_close(stage, index, end);
    if (!weir__role_plan(stage, (uint64_t)units * WEIR__UNIT)) {
        if (end > 0) {
            weir__stage_seal(stage, index, end, true);
        }
        weir__role_leave(stage, (uint64_t)units * WEIR__UNIT);
        return -EAGAIN;
    }
    uint32_t next = stage->role.slot;
    if (next == WEIR__SLOT_NONE) {
        next = weir__role_take_free(stage);
    }
    if (next != WEIR__SLOT_NONE) {
        /* Open first: the word is closed for the shortest time. */
        weir__role_open(stage, next, units);
        if (end > 0) {
            weir__stage_seal(stage, index, end, true);
        }
        *slot_out = next;
        return 0;
    }
    /* Seal first: with few slots this one is the next free one. */
    weir__stage_seal(stage, index, end, true);
    if (deadline_ns != 0) {
        next = wait_free(stage, deadline_ns);
    }
    if (next != WEIR__SLOT_NONE) {
        weir__role_open(stage, next, units);
        *slot_out = next;
        return 0;
    }
    weir__role_leave(stage, 0);
    int code = closed_for_good(stage);
    if (code == 0 && deadline_ns == 0) {
        code = -EAGAIN; /* counted by the caller */
    } else if (code == 0) {
        count(&stage->counters.refused_timeout);
        code = -ETIMEDOUT;
    }
    return code;
}

static inline void place_set(struct weir__stage *stage,
                             uint32_t index,
                             uint32_t offset,
                             uint32_t units,
                             struct weir__place *place)
{
    struct weir__slot *slot = &stage->slots[index];
    uint64_t bytes = WEIR__BATCH_HEADER_BYTES + (uint64_t)offset * WEIR__UNIT;

    place->slot = index;
    place->units = units;
    place->seq = weir__load(&slot->seq, relaxed);
    place->lsn = weir__load(&slot->base, relaxed) + bytes;
    place->at = slot->buffer + bytes;
}

/* Before an add that nobody waits for: ends our turn, and lets another who adds have his, if there is
 * one: W was moved from elsewhere behind our last add, or somebody has begun to wait since the last
 * turn ended. All relaxed: nothing but time hangs on it. */
static WEIR__COLD void turn_end(struct weir__stage *stage, struct weir__turn *turn)
{
    struct weir__turns *turns = &stage->taking_turns;
    const bool others =
        weir__load(&turns->waits_since, relaxed) == weir__load(&turns->over, relaxed) ||
        weir__load(&stage->word, relaxed) != weir__load(&turn->last, relaxed);

    weir__store(&turn->adds, 0u, relaxed);
    const uint32_t over = weir__fetch_add(&turns->over, 1u, relaxed) + 1;
    if (!others) {
        return;
    }
    count(&stage->counters.turn_pauses);
    weir__store(&turns->waits_since, over, relaxed);
    /* The other one may have stopped, or been preempted: not much longer than a turn takes. */
    weir__spin_while(&turns->over, over, TURN_PAUSE_NS);
    if (weir__load(&turns->waits_since, relaxed) == over) {
        weir__store(&turns->waits_since, UINT32_MAX, relaxed); /* we do not wait any more */
    }
}

static inline void turn_note(struct weir__turn *turn, uint64_t word)
{
    weir__store(&turn->last, word, relaxed);
    weir__store(&turn->adds, weir__load(&turn->adds, relaxed) + 1, relaxed);
}

/* What an add on W found: `before`. Our place is inside the open slot, and the place of the record
 * behind it will be wanted soon. */
static inline bool add_fits(struct weir__stage *stage,
                            struct weir__turn *turn,
                            uint64_t before,
                            uint32_t units,
                            struct weir__place *place)
{
    uint64_t at = word_units(before);
    uint32_t index = word_slot(before);

    if (WEIR__UNLIKELY(at + units > stage->cap)) {
        return false;
    }
    turn_note(turn, before + units);
    uint32_t first = weir__load(&stage->slots[index].first, relaxed); /* W's acquire came before */
    place_set(stage, index, (uint32_t)at - first, units, place);
    /* Small records: the add on `pend` waits until what was copied is in the cache. */
    if (units <= PREFETCH_UNITS) {
        for (uint32_t ahead = 0; ahead < units * WEIR__UNIT; ahead += 64) {
            WEIR__PREFETCH_WRITE(place->at + PREFETCH_DISTANCE + ahead);
        }
    }
    return true;
}

/* All that is not a first add inside the open slot. added: *before is what ours found, and it did not
 * fit. */
static WEIR__COLD int reserve_in_slot(struct weir__stage *stage,
                                      uint32_t units,
                                      uint64_t deadline_ns,
                                      bool added,
                                      uint64_t before,
                                      struct weir__place *place)
{
    struct weir__turn *turn = &stage->turns[weir__cpu() % WEIR__TURNS];

    for (;; added = false) {
        int code = 0;
        if (!added) {
            code = closed_for_good(stage);
            if (code != 0) {
                return code;
            }
            /* Callers who may return without a place could add again and again; they, and those who
             * were told that space is out, add only after they have read the word open. The others
             * wait after a refusal, which comes to the same. */
            if (deadline_ns != WEIR__NEVER || weir__load(&stage->at_frontier, relaxed)) {
                if (!word_open(stage, weir__load(&stage->word, relaxed))) {
                    if (deadline_ns == 0) {
                        return refusal(stage);
                    }
                    code = wait_open(stage, deadline_ns);
                    if (code != 0) {
                        return code;
                    }
                    continue;
                }
            }
            before = weir__fetch_add(&stage->word, (uint64_t)units, seq_cst);
            if (add_fits(stage, turn, before, units, place)) {
                return 0;
            }
        }
        uint64_t at = word_units(before);
        uint32_t index = word_slot(before);
        if (at <= stage->cap) {
            uint32_t first = weir__load(&stage->slots[index].first, relaxed);
            code = close_slot(stage, index, (uint32_t)at - first, units, deadline_ns, &index);
            if (code == 0) {
                place_set(stage, index, 0, units, place);
                return 0;
            }
            if (code != -EAGAIN || deadline_ns == 0) {
                return code == -EAGAIN ? refusal(stage) : code;
            }
            continue; /* the word is closed, and at_frontier makes us read it before the next add */
        }
        if (deadline_ns == 0) {
            return refusal(stage);
        }
        code = wait_open(stage, deadline_ns);
        if (code != 0) {
            return code;
        }
    }
}

/* ---- records and groups beyond a slot -------------------------------------------------------- */

static int oversize_take(struct weir__stage *stage, uint64_t deadline_ns, uint32_t *index_out)
{
    bool counted = false;
    bool late = false;

    for (;;) {
        uint32_t gen = weir__load(&stage->oversize_gen, acquire);
        int code = closed_for_good(stage);
        if (code != 0) {
            return code;
        }
        uint64_t bits = weir__load(&stage->oversize_free, relaxed); /* the CAS acquires */
        /* The loser of the CAS sees the fresh bits; each failure means that another took or gave a
         * buffer. Acquire: what the flusher did to the buffer is over. */
        while (bits != 0) {
            unsigned bit = (unsigned)__builtin_ctzll(bits);
            if (weir__cas(&stage->oversize_free, &bits, bits & (bits - 1), acquire)) {
                *index_out = stage->config.slots + bit;
                return 0;
            }
        }
        if (deadline_ns == 0) {
            count(&stage->counters.refused_again);
            return -EAGAIN;
        }
        if (late) {
            count(&stage->counters.refused_timeout);
            return -ETIMEDOUT;
        }
        if (!counted) {
            counted = true;
            count(&stage->counters.stalls_oversize);
        }
        late = weir__gen_wait(&stage->oversize_gen, gen, deadline_ns) == -ETIMEDOUT;
    }
}

static void oversize_return(struct weir__stage *stage, uint32_t index)
{
    /* Relaxed: nothing was done to it, and an RMW passes on what the flusher released. */
    weir__fetch_or(&stage->oversize_free, UINT64_C(1) << (index - stage->config.slots), relaxed);
    weir__gen_bump(&stage->oversize_gen);
}

/* Sleeps until prepared space ends elsewhere than at `seen`. */
static int wait_frontier(struct weir__stage *stage, uint64_t seen, uint64_t deadline_ns)
{
    bool late = false;

    for (;;) {
        uint32_t gen = weir__load(&stage->frontier_gen, acquire);
        int code = closed_for_good(stage);
        if (code != 0) {
            return code;
        }
        /* Relaxed, both: as in wait_open; the role's holder acquires. */
        if (weir__load(stage->config.prepared_end, relaxed) != seen) {
            return 0;
        }
        int32_t space = weir__load(stage->config.space_error, relaxed);
        if (space != 0) {
            count(&stage->counters.refused_space);
            return space;
        }
        if (late) {
            count(&stage->counters.refused_timeout);
            return -ETIMEDOUT;
        }
        late = weir__gen_wait(&stage->frontier_gen, gen, deadline_ns) == -ETIMEDOUT;
    }
}

/* Holding the role behind a closed slot: puts the oversize slot `big` where the role stands, and
 * opens an ordinary one behind it. */
static void oversize_insert(struct weir__stage *stage,
                            uint32_t big,
                            uint32_t units,
                            uint32_t closed,
                            uint32_t closed_end)
{
    const struct weir__stage_config *config = &stage->config;
    struct weir__role *role = &stage->role;
    struct weir__slot *slot = &stage->slots[big];
    uint32_t next = role->slot;

    weir__store(&slot->base, role->base, relaxed);
    weir__store(&slot->prev_end, role->prev_end, relaxed);
    weir__store(&slot->seq, role->seq, release);
    weir__store(&slot->first, 0u, relaxed);
    /* Closed from the beginning, and its producer is still to copy: for the watchdog. */
    weir__store(&slot->straggling_since_ns,
                WEIR__PLANTED(oversize_not_watched) ? UINT64_C(0) : weir__now_ns(),
                relaxed);
    slot->segment_number = role->segment_number;
    slot->segment_base = role->segment_base;
    slot->chain = role->chain;
    slot->end = units;
    slot->full = true;
    /* No bias: one producer, one commit, which pushes. Relaxed: that producer is this thread. */
    weir__store(&slot->pend, (uint64_t)units, relaxed);

    weir_lsn end =
        weir__align_up(role->base + WEIR__BATCH_HEADER_BYTES + (uint64_t)units * WEIR__UNIT,
                       config->block_bytes);
    role->chain = weir__chain_next(role->chain, role->base, end, config->epoch, config->nonce);
    role->prev_end = end;
    role->base = end;
    role->seq++;
    weir__store(&stage->sealed_end, end, relaxed); /* as in role_close */

    bool planned = weir__role_plan(stage, 0);
    if (planned && next == WEIR__SLOT_NONE) {
        next = weir__role_take_free(stage);
        role->slot = next;
    }
    if (planned && next != WEIR__SLOT_NONE) {
        weir__role_open(stage, next, 0);
    } else {
        weir__role_leave(stage, planned ? 0 : WEIR__UNIT);
    }
    if (closed_end > 0) {
        weir__stage_seal(stage, closed, closed_end, true);
    }
}

static WEIR__COLD int reserve_oversize(struct weir__stage *stage,
                                       uint32_t units,
                                       uint64_t deadline_ns,
                                       struct weir__place *place)
{
    uint32_t big;
    int code = oversize_take(stage, deadline_ns, &big);

    if (code != 0) {
        return code;
    }
    for (;;) {
        code = closed_for_good(stage);
        if (code != 0) {
            break;
        }
        if (!word_open(stage, weir__load(&stage->word, relaxed))) {
            code = deadline_ns == 0 ? refusal(stage) : wait_open(stage, deadline_ns);
            if (code != 0) {
                break;
            }
            continue;
        }
        /* acquire: as the flusher's seal. The record is not in the slot that W tells of: its push
         * wakes the flusher. */
        uint64_t before = weir__fetch_add(&stage->word, word_seal(stage), acquire);
        if (!word_open(stage, before)) {
            continue;
        }
        uint32_t index = word_slot(before);
        uint32_t end =
            (uint32_t)word_units(before) - weir__load(&stage->slots[index].first, relaxed);
        uint64_t prepared = weir__load(stage->config.prepared_end, relaxed);
        weir__role_close(stage, index, end);
        if (weir__role_plan(stage, (uint64_t)units * WEIR__UNIT)) {
            oversize_insert(stage, big, units, index, end);
            place_set(stage, big, 0, units, place);
            return 0;
        }
        if (end > 0) {
            weir__stage_seal(stage, index, end, true);
        }
        weir__role_leave(stage, (uint64_t)units * WEIR__UNIT);
        code = deadline_ns == 0 ? refusal(stage) : wait_frontier(stage, prepared, deadline_ns);
        if (code != 0) {
            break;
        }
    }
    oversize_return(stage, big);
    return code;
}

int weir__stage_reserve(struct weir__stage *stage,
                        uint64_t bytes,
                        uint64_t deadline_ns,
                        struct weir__place *place_out)
{
    const uint64_t units = bytes / WEIR__UNIT;

    weir__debug(bytes % WEIR__UNIT == 0 && units > 0);
    if (WEIR__UNLIKELY(units > stage->cap)) {
        return WEIR__BATCH_HEADER_BYTES + bytes > stage->config.oversize_bytes
                   ? WEIR_ETOOBIG
                   : reserve_oversize(stage, (uint32_t)units, deadline_ns, place_out);
    }
    struct weir__turn *turn = &stage->turns[weir__cpu() % WEIR__TURNS];
    if (WEIR__UNLIKELY(weir__load(&turn->adds, relaxed) >= TURN_ADDS)) {
        turn_end(stage, turn);
    }
    /* As in reserve_in_slot, which takes every case that is not the usual one. */
    if (WEIR__UNLIKELY(deadline_ns != WEIR__NEVER || weir__load(&stage->at_frontier, relaxed) ||
                       closed_for_good(stage) != 0)) {
        return reserve_in_slot(stage, (uint32_t)units, deadline_ns, false, 0, place_out);
    }
    const uint64_t before = weir__fetch_add(&stage->word, units, seq_cst);
    if (WEIR__LIKELY(add_fits(stage, turn, before, (uint32_t)units, place_out))) {
        return 0;
    }
    return reserve_in_slot(stage, (uint32_t)units, deadline_ns, true, before, place_out);
}

void weir__stage_commit(struct weir__stage *stage,
                        const struct weir__place *place,
                        uint32_t records)
{
    struct weir__slot *slot = &stage->slots[place->slot];
    uint64_t change = ((uint64_t)records << 32) - place->units;

    /* Releases the bytes just filled. Whoever takes the slot acquires the whole sequence. */
    uint64_t before = WEIR__PLANTED(commit_no_release)
                          ? weir__fetch_add(&slot->pend, change, acquire)
                          : weir__fetch_add(&slot->pend, change, release);
    if ((before & PEND_LOW) == place->units) {
        weir__stage_push(stage, place->slot);
        return;
    }
    uint32_t how = weir__load(&stage->fl_sleep, seq_cst);
    if (how == WEIR__FL_IDLE || how == WEIR__FL_LENDS) {
        weir__stage_kick(stage); /* it sleeps with nothing under way, and this slot is not empty */
    }
}

bool weir__stage_commit_alone(struct weir__stage *stage,
                              const struct weir__place *place,
                              uint32_t records)
{
    struct weir__slot *slot = &stage->slots[place->slot];
    uint64_t change = ((uint64_t)records << 32) - place->units;

    /* The first in it, and nobody else has waited lately: relaxed, both only say whether it is worth
     * a try. */
    bool alone = place->at == slot->buffer + WEIR__BATCH_HEADER_BYTES &&
                 weir__load(&stage->crowd, relaxed) <= 1;
    /* As in commit. */
    uint64_t before = WEIR__PLANTED(commit_no_release)
                          ? weir__fetch_add(&slot->pend, change, acquire)
                          : weir__fetch_add(&slot->pend, change, release);
    if ((before & PEND_LOW) == place->units) {
        weir__stage_push(stage, place->slot);
        return false;
    }
    uint32_t how = weir__load(&stage->fl_sleep, seq_cst);
    /* Acquires what the last one who had the part did with it; the loser looks at what it lost to. */
    if (alone && how == WEIR__FL_LENDS &&
        weir__cas(&stage->fl_sleep, &how, (uint32_t)WEIR__FL_LENT, acquire)) {
        /* The last holder's store came before the word that we have just acquired. */
        weir__store(&stage->lendings, weir__load(&stage->lendings, relaxed) + 1, relaxed);
        return true;
    }
    if (how == WEIR__FL_IDLE || how == WEIR__FL_LENDS) {
        weir__stage_kick(stage);
    }
    return false;
}
