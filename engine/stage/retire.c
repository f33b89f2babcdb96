/* SPDX-License-Identifier: Apache-2.0
 * The flusher's part of the stage: taking complete slots, sealing and opening on its own account,
 * acknowledging, giving back, and going to sleep without missing a wake-up. One thread, the
 * flusher. */
#include "base/check.h"
#include "port/wait.h"
#include "stage/stage.h"
#include "stage/word.h"

bool weir__stage_take(struct weir__stage *stage, uint32_t *slot_out)
{
    uint32_t index;

    if (!weir__ring_take_mpsc(stage->sealed, &index)) {
        return false;
    }
    struct weir__slot *slot = &stage->slots[index];
    /* The ring carries the index; this acquires what every producer put into the slot, and the
     * sealer's `end`. */
    uint64_t pend = weir__load(&slot->pend, acquire);
    weir__check((pend & PEND_LOW) == 0);
    slot->records = (uint32_t)(pend >> 32);
    weir__store(&slot->straggling_since_ns, UINT64_C(0), relaxed);
    *slot_out = index;
    return true;
}

uint64_t weir__stage_waits(struct weir__stage *stage, enum weir__level level)
{
    uint64_t waits = weir__load(&stage->counters.waits[level], relaxed);

    for (uint32_t i = 0; i < stage->slot_count; i++) {
        waits += weir__load(&stage->slots[i].waits[level], relaxed);
    }
    return waits;
}

uint64_t weir__stage_slot_waits(struct weir__stage *stage, uint32_t index)
{
    struct weir__slot *slot = &stage->slots[index];

    return weir__load(&slot->waits[WEIR__LEVEL_DURABLE], relaxed) +
           weir__load(&slot->waits[WEIR__LEVEL_WRITTEN], relaxed);
}

uint32_t weir__stage_gathering(struct weir__stage *stage)
{
    uint64_t word = weir__load(&stage->word, acquire); /* as in serve */

    if (!word_open(stage, word) ||
        word_units(word) <= weir__load(&stage->slots[word_slot(word)].first, relaxed)) {
        return WEIR__SLOT_NONE;
    }
    return word_slot(word);
}

uint64_t weir__stage_pending_records(struct weir__stage *stage)
{
    uint64_t records = 0;

    for (uint32_t i = 0; i < stage->slot_count; i++) {
        struct weir__slot *const slot = &stage->slots[i];
        /* Relaxed: figures of a moment. The sequence first: a life that follows in between is at
         * worst not seen to be pending yet. */
        const uint64_t seq = weir__load(&slot->seq, relaxed);
        const uint64_t pend = weir__load(&slot->pend, relaxed);
        if (pend != PEND_FREE &&
            !ack_reached(weir__load(&slot->ack[WEIR__LEVEL_DURABLE], relaxed), seq)) {
            records += pend >> 32;
        }
    }
    return records;
}

uint32_t weir__stage_free_count(struct weir__stage *stage)
{
    return weir__ring_count(stage->free);
}

/* Whether the open slot holds something and can be closed: another is free, or everything before it
 * is acknowledged (with few slots this very one will then be the next free one). A look, not a
 * promise: a closer may take the last slot meanwhile, and must_open covers that. */
static bool
can_seal(struct weir__stage *stage, const struct weir__stage_flusher *flusher, uint64_t word)
{
    struct weir__slot *slot = &stage->slots[word_slot(word)];

    if (word_units(word) <= weir__load(&slot->first, relaxed)) {
        return false;
    }
    return weir__stage_free_count(stage) > 0 ||
           flusher->next_ack == weir__load(&slot->seq, relaxed);
}

/* Opens a slot for the role that is ours. False: no slot, or no prepared space. */
static bool open_for_all(struct weir__stage *stage)
{
    if (!weir__role_plan(stage, stage->role.need)) {
        if (!weir__load(&stage->at_frontier, relaxed)) {
            weir__store(&stage->at_frontier, 1u, release);
            weir__gen_bump(&stage->open_gen);
        }
        return false;
    }
    if (stage->role.slot == WEIR__SLOT_NONE) {
        stage->role.slot = weir__role_take_free(stage);
    }
    if (stage->role.slot == WEIR__SLOT_NONE) {
        return false;
    }
    weir__role_open(stage, stage->role.slot, 0);
    return true;
}

static bool seal_open(struct weir__stage *stage, struct weir__stage_flusher *flusher)
{
    /* acquire: the facts of the slot; nothing of ours has to be seen by whoever adds next. */
    uint64_t before = weir__fetch_add(&stage->word, word_seal(stage), acquire);

    if (!word_open(stage, before)) {
        return true; /* a closer was faster; the role is its */
    }
    uint32_t index = word_slot(before);
    uint32_t end = (uint32_t)word_units(before) - weir__load(&stage->slots[index].first, relaxed);
    weir__role_close(stage, index, end);
    if (flusher->shut_seen) {
        flusher->final = true;
    } else {
        flusher->must_open = !open_for_all(stage);
    }
    if (end > 0) {
        weir__stage_seal(stage, index, end, false);
    }
    return true;
}

bool weir__stage_serve(struct weir__stage *stage,
                       struct weir__stage_flusher *flusher,
                       bool may_seal)
{
    bool did = false;

    if (!flusher->shut_seen && weir__load(&stage->shut, relaxed)) {
        flusher->shut_seen = true;
        weir__gen_bump(&stage->open_gen);
        weir__gen_bump(&stage->free_gen);
        weir__gen_bump(&stage->frontier_gen);
        weir__gen_bump(&stage->oversize_gen);
        did = true;
    }
    if (!flusher->must_open && !flusher->final && weir__load(&stage->owed, acquire)) {
        weir__store(&stage->owed,
                    0u,
                    relaxed); /* the next holder of the role comes after the slot that we open */
        flusher->must_open = true;
        did = true;
    }
    if (flusher->must_open) {
        if (flusher->shut_seen) {
            flusher->must_open = false;
            flusher->final = true;
            did = true;
        } else if (open_for_all(stage)) {
            flusher->must_open = false;
            did = true;
        }
    }
    if (!flusher->must_open && !flusher->final) {
        uint64_t word = weir__load(&stage->word, acquire);
        if (word_open(stage, word) &&
            (flusher->shut_seen || (may_seal && can_seal(stage, flusher, word)))) {
            did = seal_open(stage, flusher);
        }
    }
    return did;
}

void weir__stage_show(struct weir__stage *stage, uint32_t index, weir_lsn complete_end)
{
    /* Release: header, frames and `end` before the slot is open to readers. RMW: readers that fail
     * lift and lower the count meanwhile. */
    weir__fetch_sub(&stage->slots[index].pins, PINS_CLOSED, release);
    /* Behind it: who sees that the batch is complete can copy it. */
    weir__store(&stage->complete, complete_end, release);
    weir__gen_bump(&stage->complete_gen);
}

void weir__stage_acknowledge(struct weir__stage *stage,
                             uint32_t index,
                             uint64_t seq,
                             enum weir__level level,
                             weir_lsn end)
{
    struct weir__slot *slot = &stage->slots[index];

    weir__store(&stage->level[level], end, release);
    if (weir__exchange(&slot->ack[level], (uint32_t)(seq + 1) << 2, release) & ACK_WAITERS) {
        weir__fetch_add(&stage->counters.ack_wakes, UINT64_C(1), relaxed);
        weir__futex_wake(&slot->ack[level], INT32_MAX);
    }
    weir__gen_bump(&stage->level_gen[level]);
}

bool weir__stage_hide(struct weir__stage *stage, uint32_t index)
{
    /* Acquire: a reader that had it pinned is done when the count says so. Release: who finds it
     * closed sees the level that it had reached. */
    return (weir__fetch_add(&stage->slots[index].pins, PINS_CLOSED, acq_rel) & ~PINS_CLOSED) == 0;
}

bool weir__stage_unpinned(struct weir__stage *stage, uint32_t index)
{
    return weir__load(&stage->slots[index].pins, acquire) == PINS_CLOSED;
}

void weir__stage_give(struct weir__stage *stage, uint32_t index)
{
    struct weir__slot *slot = &stage->slots[index];

    /* No longer to be found by readers; base stays for waiters, whose ack is past. Release: who finds
     * it gone sees the level that it had reached. */
    weir__store(&slot->prev_end, UINT64_MAX, release);
    if (index >= stage->config.slots) {
        weir__fetch_or(&stage->oversize_free,
                       UINT64_C(1) << (index - stage->config.slots),
                       release);
        weir__gen_bump(&stage->oversize_gen);
        return;
    }
    /* Release: the I/O on the buffer is over. Acquired by whoever takes the slot. */
    weir__store(&slot->pend, PEND_FREE, release);
    bool put = weir__ring_put_spsc(stage->free, index);
    weir__check(put);
    weir__gen_bump(&stage->free_gen);
}

/* Whether there is something to do for a flusher in this state, W being `word`. Relaxed: the RMW
 * before it acquired what a nudge published, and who does it looks again. */
static bool anything_to_do(struct weir__stage *stage,
                           const struct weir__stage_flusher *flusher,
                           uint64_t word,
                           bool may_seal)
{
    bool busy = weir__ring_count(stage->sealed) > 0 || weir__load(&stage->failed, relaxed) ||
                (!flusher->shut_seen && weir__load(&stage->shut, relaxed)) ||
                (!flusher->final && !flusher->must_open && weir__load(&stage->owed, relaxed));
    if (!busy && flusher->must_open) {
        busy = weir__role_plan(stage, stage->role.need) &&
               (stage->role.slot != WEIR__SLOT_NONE || weir__stage_free_count(stage) > 0);
    }
    if (!busy && !flusher->must_open && !flusher->final && word_open(stage, word)) {
        busy = flusher->shut_seen || (may_seal && can_seal(stage, flusher, word));
    }
    return busy;
}

bool weir__stage_going_to_sleep(struct weir__stage *stage,
                                const struct weir__stage_flusher *flusher,
                                enum weir__fl how,
                                bool may_seal)
{
    /* Before the announcement: behind it the original may be another's. */
    const struct weir__stage_flusher seen = *flusher;

    weir__debug(how != WEIR__FL_LENDS || (!seen.must_open && !seen.final && !seen.shut_seen));
    /* seq_cst against a commit's add on W and load of fl_sleep: one of the two sees the other. As
     * an RMW of this word it also acquires every push, `owed`, `shut` and frontier move whose nudge
     * came before. Lending, it releases all that the part consists of. */
    weir__exchange(&stage->fl_sleep, (uint32_t)how, seq_cst);
    uint64_t word = weir__load(&stage->word, seq_cst);
    if (!anything_to_do(stage, &seen, word, may_seal)) {
        return true;
    }
    if (how != WEIR__FL_LENDS) {
        weir__stage_awake(stage);
        return false;
    }
    /* The loser sleeps: a producer has the part, and looks for itself when it gives it back; or
     * the flusher has been woken already. Acquire: it may have been lent and given back since. */
    uint32_t lends = WEIR__FL_LENDS;
    return !weir__cas(&stage->fl_sleep, &lends, (uint32_t)WEIR__FL_AWAKE, acquire);
}

void weir__stage_return(struct weir__stage *stage, const struct weir__stage_flusher *flusher)
{
    const struct weir__stage_flusher seen = *flusher; /* as above */
    uint32_t lent = WEIR__FL_LENT;

    weir__debug(!seen.must_open && !seen.final && !seen.shut_seen);
    /* Orders as the exchange above. The loser was called meanwhile. */
    if (!weir__cas(&stage->fl_sleep, &lent, (uint32_t)WEIR__FL_LENDS, seq_cst)) {
        weir__stage_hand_over(stage);
        return;
    }
    uint64_t word = weir__load(&stage->word, seq_cst);
    if (anything_to_do(stage, &seen, word, true)) {
        weir__stage_kick(stage);
    }
}

void weir__stage_hand_over(struct weir__stage *stage)
{
    /* Releases the part; and, an RMW, passes on the nudges that came while it was lent. */
    weir__exchange(&stage->fl_sleep, (uint32_t)WEIR__FL_AWAKE, release);
    weir__fetch_add(&stage->counters.flusher_wakes, UINT64_C(1), relaxed);
    weir__futex_wake(&stage->fl_sleep, 1);
}

void weir__stage_awake(struct weir__stage *stage)
{
    /* An RMW as well: the nudges of others stay in the release sequence that our next exchange
     * acquires. */
    weir__exchange(&stage->fl_sleep, 0u, relaxed);
}

void weir__stage_leave(struct weir__stage *stage)
{
    weir__store(&stage->drained, 1u, release);
    for (int level = 0; level < WEIR__LEVELS; level++) {
        weir__gen_bump(&stage->level_gen[level]);
    }
    weir__gen_bump(&stage->open_gen);
    weir__gen_bump(&stage->free_gen);
    weir__gen_bump(&stage->frontier_gen);
    weir__gen_bump(&stage->oversize_gen);
    weir__gen_bump(&stage->complete_gen);
    weir__gen_bump(&stage->exit_gen);
}
