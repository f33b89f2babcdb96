/* SPDX-License-Identifier: Apache-2.0
 * Waiting for a level, reading batches from memory, shutting down and failing: everything that
 * looks at slots without holding a place in them. Facts of a life are read relaxed and then
 * verified, because the slot may be given back at any moment. Any thread. */
#include "port/wait.h"
#include "base/check.h"
#include "base/plant.h"
#include "port/clock.h"
#include "stage/crowd.h"
#include "stage/stage.h"
#include "stage/word.h"

#include <errno.h>
#include <string.h>

static bool level_above(struct weir__stage *stage, enum weir__level level, weir_lsn lsn)
{
    return weir__load(&stage->level[level], acquire) > lsn;
}

/* 0, or why the level will never get above lsn; -EAGAIN: it still may. */
static int level_verdict(struct weir__stage *stage, enum weir__level level, weir_lsn lsn)
{
    if (level_above(stage, level, lsn)) {
        return 0;
    }
    /* Whoever set one of these moved the level before, so that a second look is final. `drained`
     * first: a flusher that leaves because of a failure saw `failed`, so that a load after it does,
     * too. */
    bool drained = weir__load(&stage->drained, acquire) != 0;
    if (weir__load(&stage->failed, acquire)) {
        return level_above(stage, level, lsn) ? 0 : WEIR_EFAILED;
    }
    if (drained) {
        return level_above(stage, level, lsn) ? 0 : WEIR_ESHUTDOWN;
    }
    return -EAGAIN;
}

/* Facts of the open life, read consistently. False: W is closed, or changed under the look. */
static bool look_at_open(struct weir__stage *stage,
                         uint32_t *index_out,
                         uint64_t *seq_out,
                         weir_lsn *end_out,
                         bool *empty_out)
{
    uint64_t word = weir__load(&stage->word, acquire);

    if (!word_open(stage, word)) {
        return false;
    }
    uint32_t index = word_slot(word);
    /* Acquire, each: the second look at W comes after them. */
    struct weir__slot *slot = &stage->slots[index];
    uint64_t used = word_units(word) - weir__load(&slot->first, acquire);
    /* Relaxed: with a later one a wait sleeps on the slot's word all the same, which this life
     * changes. */
    uint64_t seq = weir__load(&slot->seq, relaxed);
    weir_lsn base = weir__load(&slot->base, acquire);
    weir_lsn prev_end = weir__load(&slot->prev_end, acquire);
    /* Facts change only while W is closed, and an opening that was closed is not open again: still
     * open means unchanged. */
    uint64_t again = weir__load(&stage->word, relaxed);
    if (!word_open(stage, again) || !word_same_opening(word, again)) {
        return false;
    }
    *index_out = index;
    *seq_out = seq;
    *empty_out = used == 0;
    *end_out = used == 0 ? prev_end : base + WEIR__BATCH_HEADER_BYTES + used * WEIR__UNIT;
    return true;
}

/* The life that is certain to be acknowledged and whose acknowledgement may bring the level above
 * lsn: one with records in it, at or below lsn, not acknowledged yet. WEIR__SLOT_NONE: none is
 * known. A slot that is open and empty is none: it can be closed empty and opened elsewhere, and
 * its word would never be touched. */
static uint32_t
find_by_lsn(struct weir__stage *stage, enum weir__level level, weir_lsn lsn, uint64_t *seq_out)
{
    uint32_t found = WEIR__SLOT_NONE;
    weir_lsn found_base = 0;

    /* Relaxed: who misses a slot sleeps on an earlier one's word, or on the level's. */
    if (weir__load(&stage->sealed_end, relaxed) <= lsn) {
        weir_lsn end;
        bool empty;
        bool open = look_at_open(stage, &found, seq_out, &end, &empty);
        return open && !empty && end > lsn ? found : WEIR__SLOT_NONE;
    }
    /* Below the end of what was closed with records in it: the highest life that begins at or below
     * lsn. */
    for (uint32_t i = 0; i < stage->slot_count; i++) {
        struct weir__slot *slot = &stage->slots[i];
        /* Before base: this base belongs to that life or a later one; if to a later one, the ack of
         * that life has been reached. */
        uint64_t seq = weir__load(&slot->seq, acquire);
        weir_lsn base = weir__load(&slot->base, relaxed);
        if (base <= lsn && base >= found_base &&
            !ack_reached(weir__load(&slot->ack[level], relaxed), seq)) {
            found = i;
            found_base = base;
            *seq_out = seq;
        }
    }
    return found;
}

enum weir__yield_verdict
weir__stage_yielded(struct weir__stage *stage, uint64_t then_ns, uint64_t now_ns)
{
    const uint32_t crowd = weir__load(&stage->crowd, relaxed);
    const enum weir__yield_verdict verdict = weir__yield_took(now_ns - then_ns, crowd);
    uint64_t end_ns = weir__load(&stage->yields_off_ns, relaxed);

    if (verdict == WEIR__YIELD_HOG && now_ns >= end_ns) {
        const uint64_t last_ns = weir__load(&stage->yields_pause_ns, relaxed);
        const uint64_t pause_ns = weir__yield_pause(last_ns, end_ns, now_ns);
        /* The loser met the same stranger: one pause for both. */
        if (weir__cas(&stage->yields_off_ns, &end_ns, now_ns + pause_ns, relaxed)) {
            weir__store(&stage->yields_pause_ns, pause_ns, relaxed);
            weir__fetch_add(&stage->counters.yield_pauses, UINT64_C(1), relaxed);
        }
    }
    return verdict;
}

/* Lets others run for as long as *word stays what it was, a bounded number of times: where many
 * wait, the one that runs meanwhile is likely to be the flusher or a producer of the next batch,
 * and this thread is spared a sleep and a wake-up. True: the word has changed. */
static bool yield_first(struct weir__stage *stage,
                        WEIR__ATOMIC(uint32_t) *word,
                        uint32_t value,
                        uint64_t deadline_ns,
                        uint32_t *left)
{
    if (*left == 0) {
        return false;
    }
    uint64_t now_ns = weir__now_ns();
    if (now_ns < weir__load(&stage->yields_off_ns, relaxed)) {
        *left = 0;
        return false;
    }
    while (*left > 0 && now_ns < deadline_ns) {
        (*left)--;
        weir__yield();
        /* Bit 0 only says that somebody else went to sleep. Relaxed: the caller looks at the level
         * again. */
        if (((weir__load(word, relaxed) ^ value) & ~1u) != 0) {
            return true;
        }
        const uint64_t then_ns = now_ns;
        now_ns = weir__now_ns();
        const enum weir__yield_verdict verdict = weir__stage_yielded(stage, then_ns, now_ns);
        if (verdict != WEIR__YIELD_ON) {
            *left = 0;
        }
    }
    return false;
}

int weir__stage_wait(struct weir__stage *stage,
                     weir_lsn lsn,
                     enum weir__level level,
                     uint32_t index,
                     uint64_t seq,
                     uint64_t deadline_ns)
{
    const struct weir__stage_config *const config = &stage->config;
    bool counted = false;
    bool late = false;
    uint32_t yields = weir__yields_allowed(weir__load(&stage->crowd, relaxed),
                                           config->yield_from,
                                           config->yield_long_from);

    /* Who waits makes room enough for others: no pause on top of it. */
    weir__store(&stage->turns[weir__cpu() % WEIR__TURNS].adds, 0u, relaxed);
    for (;;) {
        int code = level_verdict(stage, level, lsn);
        if (code != -EAGAIN) {
            return code;
        }
        if (late || deadline_ns == 0) {
            return -ETIMEDOUT;
        }
        /* The slot's own word when lsn is in a slot, so that only the acknowledgement of that batch
         * wakes us; else any move of the level. The level's word is loaded first: a slot that lsn
         * gets after the search is acknowledged after it, too. */
        uint32_t value = weir__load(&stage->level_gen[level], acquire);
        WEIR__ATOMIC(uint32_t) *word = &stage->level_gen[level];
        if (index == WEIR__SLOT_NONE) {
            index = find_by_lsn(stage, level, lsn, &seq);
        }
        if (index != WEIR__SLOT_NONE) {
            word = &stage->slots[index].ack[level];
            value = weir__load(word, acquire);
        }
        if (!counted) {
            counted = true;
            weir__fetch_add(index == WEIR__SLOT_NONE ? &stage->counters.waits[level]
                                                     : &stage->slots[index].waits[level],
                            UINT64_C(1),
                            relaxed);
        }
        /* After the value: a change since then makes the wait return. */
        code = level_verdict(stage, level, lsn);
        if (code != -EAGAIN) {
            return code;
        }
        if (index != WEIR__SLOT_NONE && (ack_reached(value, seq) || (value & ACK_FAILED))) {
            index = WEIR__SLOT_NONE; /* that life is over and did not hold lsn: the next search
                                        leaves it out */
            continue;
        }
        if (!WEIR__PLANTED(nobody_yields) &&
            yield_first(stage, word, value, deadline_ns, &yields)) {
            continue;
        }
        weir__fetch_add(&stage->counters.waits_slept, UINT64_C(1), relaxed);
        late = weir__gen_wait(word, value, deadline_ns) == -ETIMEDOUT;
        if (WEIR__PLANTED(woken_is_enough) && !late) {
            return 0;
        }
    }
}

int weir__stage_wait_complete(struct weir__stage *stage, weir_lsn lsn, uint64_t deadline_ns)
{
    bool late = false;

    for (;;) {
        uint32_t gen = weir__load(&stage->complete_gen, acquire);
        if (weir__load(&stage->complete, acquire) > lsn) {
            return 0;
        }
        int code = level_verdict(stage, WEIR__LEVEL_WRITTEN, lsn);
        if (code != -EAGAIN) {
            return code;
        }
        if (late || deadline_ns == 0) {
            return -ETIMEDOUT;
        }
        late = weir__gen_wait(&stage->complete_gen, gen, deadline_ns) == -ETIMEDOUT;
    }
}

weir_lsn weir__stage_end(struct weir__stage *stage)
{
    uint32_t index;
    uint64_t seq;
    weir_lsn end = 0;
    bool empty;

    /* Between two slots the end of the last closed batch is the answer, once its closer has said
     * it: a few hundred looks outlast a closer that was preempted. */
    weir_lsn seen = weir__load(&stage->end_seen, relaxed); /* a number, and nothing behind it */
    for (int look = 0; look < 400; look++) {
        if (look_at_open(stage, &index, &seq, &end, &empty)) {
            break;
        }
        uint64_t word = weir__load(&stage->word, acquire);
        uint64_t closed = weir__load(&stage->closed, acquire);
        end = weir__load(&stage->sealed_end, relaxed); /* published by closed */
        if (!word_open(stage, word) &&
            word_opening(word) == word_opening(word_pack(closed, 0, 0))) {
            break;
        }
        if (look >= 4) {
            weir__yield();
        }
    }
    /* It never falls, whoever looks: the loser of the CAS sees a higher one, or tries again. */
    while (end > seen && !weir__cas(&stage->end_seen, &seen, end, relaxed)) {
    }
    return weir__max_u64(end, seen);
}

/* W is closed, its closer has said where the log ends so far, and the level is there: nothing that was
 * reserved before is left to wait for. Not so at once behind a start, or while the flusher, which
 * wakes before it opens, has yet to open a slot. */
static bool closed_and_done(struct weir__stage *stage, enum weir__level level)
{
    /* Acquire, each: `closed` is told behind sealed_end. */
    const uint64_t word = weir__load(&stage->word, acquire);
    const uint64_t closed = weir__load(&stage->closed, acquire);
    const weir_lsn end = weir__load(&stage->sealed_end, acquire);

    return !word_open(stage, word) && word_opening(word) == word_opening(word_pack(closed, 0, 0)) &&
           weir__load(&stage->level[level], acquire) >= end;
}

int weir__stage_wait_all(struct weir__stage *stage, enum weir__level level, uint64_t deadline_ns)
{
    bool late = false;

    for (;;) {
        uint32_t index;
        uint64_t seq;
        weir_lsn end;
        bool empty;
        uint32_t gen = weir__load(&stage->open_gen, acquire);

        if (look_at_open(stage, &index, &seq, &end, &empty)) {
            return weir__stage_wait(stage,
                                    end - 1,
                                    level,
                                    empty ? WEIR__SLOT_NONE : index,
                                    seq,
                                    deadline_ns);
        }
        if (weir__load(&stage->failed, acquire)) {
            return WEIR_EFAILED;
        }
        if (weir__load(&stage->shut, relaxed)) {
            int code = weir__stage_wait_drained(stage, deadline_ns);
            return code == 0 && weir__load(&stage->failed, acquire) ? WEIR_EFAILED : code;
        }
        if (weir__load(&stage->at_frontier, acquire)) {
            /* Closed until there is space: what was reserved has been sealed. */
            return weir__stage_wait(stage,
                                    /* published by at_frontier */
                                    weir__load(&stage->sealed_end, relaxed) - 1,
                                    level,
                                    WEIR__SLOT_NONE,
                                    0,
                                    deadline_ns);
        }
        if (late || deadline_ns == 0) {
            return closed_and_done(stage, level) ? 0 : -ETIMEDOUT;
        }
        if (word_open(stage, weir__load(&stage->word, relaxed))) {
            continue;
        }
        late = weir__gen_wait(&stage->open_gen, gen, deadline_ns) == -ETIMEDOUT;
    }
}

/* ---- reading from memory --------------------------------------------------------------------- */

static void unpin(struct weir__stage *stage, struct weir__slot *slot)
{
    /* Release: the copy is over before the flusher sees the count fall. */
    if (weir__fetch_sub(&slot->pins, 1u, release) == (PINS_CLOSED | 1u)) {
        weir__stage_nudge(stage); /* the flusher may be waiting to give it back */
    }
}

size_t weir__stage_copy(struct weir__stage *stage, weir_lsn prev_end, void *to, size_t room)
{
    for (uint32_t i = 0; i < stage->slot_count; i++) {
        struct weir__slot *slot = &stage->slots[i];
        /* Acquire: if the batch was here and is not any more, the caller sees the level that it had
         * reached before it left, and so how far it may look in the files. */
        if (weir__load(&slot->prev_end, acquire) != prev_end) {
            continue;
        }
        /* Acquire: pairs with the release that opened the slot to readers. A failed try only lifts
         * and lowers the count. */
        bool closed = (weir__fetch_add(&slot->pins, 1u, acquire) & PINS_CLOSED) != 0;
        if (closed || weir__load(&slot->prev_end, relaxed) != prev_end) {
            unpin(stage, slot);
            continue;
        }
        size_t bytes = WEIR__BATCH_HEADER_BYTES + (size_t)slot->end * WEIR__UNIT;
        if (bytes <= room) {
            memcpy(to, slot->buffer, bytes);
        }
        unpin(stage, slot);
        return bytes;
    }
    return 0;
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void bump_all(struct weir__stage *stage)
{
    weir__gen_bump(&stage->open_gen);
    weir__gen_bump(&stage->free_gen);
    weir__gen_bump(&stage->frontier_gen);
    weir__gen_bump(&stage->oversize_gen);
    weir__gen_bump(&stage->level_gen[WEIR__LEVEL_DURABLE]);
    weir__gen_bump(&stage->level_gen[WEIR__LEVEL_WRITTEN]);
    weir__gen_bump(&stage->complete_gen);
    weir__gen_bump(&stage->exit_gen);
}

void weir__stage_shut(struct weir__stage *stage)
{
    weir__store(
        &stage->shut,
        1u,
        relaxed); /* published to the flusher by the nudge, to sleepers by the flusher's bumps */
    weir__stage_nudge(stage);
}

void weir__stage_fail(struct weir__stage *stage)
{
    weir__store(&stage->failed, 1u, release);
    bump_all(stage);
    for (uint32_t i = 0; i < stage->slot_count; i++) {
        for (int level = 0; level < WEIR__LEVELS; level++) {
            /* Changes the word, so that nobody falls asleep on its old value; release: who sees it
             * sees `failed`. */
            if (weir__fetch_or(&stage->slots[i].ack[level], ACK_FAILED, release) & ACK_WAITERS) {
                weir__futex_wake(&stage->slots[i].ack[level], INT32_MAX);
            }
        }
    }
    weir__stage_nudge(stage);
}

void weir__stage_frontier_moved(struct weir__stage *stage)
{
    weir__gen_bump(&stage->frontier_gen);
    weir__gen_bump(&stage->open_gen);
    weir__stage_nudge(stage);
}

int weir__stage_wait_drained(struct weir__stage *stage, uint64_t deadline_ns)
{
    bool late = false;

    for (;;) {
        uint32_t gen = weir__load(&stage->exit_gen, acquire);
        if (weir__load(&stage->drained, acquire)) {
            return 0;
        }
        if (late || deadline_ns == 0) {
            return -ETIMEDOUT;
        }
        late = weir__gen_wait(&stage->exit_gen, gen, deadline_ns) == -ETIMEDOUT;
    }
}

void weir__stage_rouse(struct weir__stage *stage)
{
    weir__stage_nudge(stage);
}

uint64_t weir__stage_straggler(struct weir__stage *stage, uint64_t now_ns, weir_lsn *lsn_out)
{
    uint64_t longest = 0;

    for (uint32_t i = 0; i < stage->slot_count; i++) {
        struct weir__slot *slot = &stage->slots[i];
        uint64_t since = weir__load(&slot->straggling_since_ns, relaxed);
        /* Complete, it waits for the flusher, who clears the time when it takes the slot. */
        if ((weir__load(&slot->pend, relaxed) & PEND_LOW) == 0) {
            continue;
        }
        if (since != 0 && now_ns > since && now_ns - since > longest) {
            longest = now_ns - since;
            *lsn_out = weir__load(&slot->base, relaxed);
        }
    }
    return longest;
}

bool weir__stage_due(struct weir__stage *stage, weir_lsn level)
{
    /* Relaxed, all: what is looked for stands still. */
    for (uint32_t i = 0; i < stage->slot_count; i++) {
        struct weir__slot *slot = &stage->slots[i];
        if ((weir__load(&slot->pend, relaxed) & PEND_LOW) == 0 &&
            weir__load(&slot->base, relaxed) >= level) {
            return true;
        }
    }
    const uint64_t word = weir__load(&stage->word, relaxed);
    if (!word_open(stage, word)) {
        return false;
    }
    struct weir__slot *open = &stage->slots[word_slot(word)];
    const uint64_t used = word_units(word) - weir__load(&open->first, relaxed);
    return used > 0 && (weir__load(&open->pend, relaxed) & PEND_LOW) == PEND_BIAS - used;
}

bool weir__stage_lent(struct weir__stage *stage, uint32_t *lending_out)
{
    const uint32_t how = weir__load(&stage->fl_sleep, relaxed);

    *lending_out = weir__load(&stage->lendings, relaxed);
    return how == WEIR__FL_LENT || how == WEIR__FL_CALLED;
}
