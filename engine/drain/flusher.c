/* SPDX-License-Identifier: Apache-2.0
 * The flusher's loop: taking, acknowledging, retiring, sleeping. How bytes get to the device is
 * submit.c.
 *
 * Happy path: take -> header and padding -> submit -> written -> durable -> acknowledge in order ->
 * retained for readers -> given back. */
#include "drain/flusher.h"

#include "base/check.h"
#include "base/plant.h"
#include "format/batch.h"
#include "port/clock.h"
#include "port/thread.h"
#include "port/wait.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct weir__pending *weir__flusher_pending(struct weir__flusher *flusher, uint64_t seq)
{
    return &flusher->pending[seq & flusher->pending_mask];
}

void weir__flusher_wake(struct weir__flusher *flusher)
{
    flusher->config.dir->io->ops->queue_wake(flusher->config.dir->io, flusher->queue);
}

void weir__flusher_fail(struct weir__flusher *flusher,
                        int code,
                        const char *what,
                        uint64_t segment_number,
                        uint64_t offset,
                        weir_lsn lsn)
{
    struct weir__fault *fault = &flusher->fault;
    const struct weir__ready *ready = weir__keeper_ready(flusher->config.keeper, segment_number);
    char name[WEIR__SEGMENT_NAME_BYTES] = "";

    if (flusher->failed) {
        return; /* the first cause counts */
    }
    flusher->failed = true;
    flusher->transfer.stopped = true; /* at once: more events may stand behind this one */
    if (ready) {
        weir__segment_name(ready->range.base, ready->range.end, name);
    }
    weir__fault_set(fault,
                    code,
                    name,
                    offset,
                    lsn,
                    "%s failed: %s; nothing from this LSN on is acknowledged: close and reopen",
                    what,
                    weir__code_text(code));
    if (flusher->alone) {
        flusher->fault_late =
            true; /* the host hears of it from the flusher, in no call of its own */
    } else {
        flusher->config.failed(flusher->config.ctx, fault);
    }
}

/* ---- taking ---------------------------------------------------------------------------------- */

/* Writes the header and the zeros behind the frames: from here on the bytes of the batch do not
 * change. */
static void batch_finish(struct weir__flusher *flusher,
                         struct weir__slot *slot,
                         const struct weir__pending *pending)
{
    const struct weir__flusher_config *config = &flusher->config;
    uint32_t bytes = slot->end * WEIR__UNIT;
    struct weir__batch batch = {
        .log_id = config->log_id,
        .lsn = pending->lsn,
        .prev_end = weir__load(&slot->prev_end, relaxed),
        .epoch = config->epoch.epoch,
        .epoch_lsn = config->epoch.lsn,
        .nonce = config->epoch.nonce,
        .promise = weir__load(
            &config->stage->level[WEIR__PLANTED(batch_promise_ahead) ? WEIR__LEVEL_WRITTEN
                                                                     : WEIR__LEVEL_DURABLE],
            relaxed), /* our own store */
        .wall_ns = weir__wall_ns(),
        .bytes = bytes,
        .records = slot->records,
        .chain = slot->chain,
    };

    weir__batch_encode(&batch, slot->buffer);
    size_t used = WEIR__BATCH_HEADER_BYTES + bytes;
    size_t padding = (size_t)(pending->end - pending->lsn) - used;
    memset(slot->buffer + used, 0, padding);

    struct weir__flusher_counters *counters = &flusher->counters;
    weir__tally(&counters->batches, 1);
    weir__tally(&counters->appends, slot->records);
    weir__tally(&counters->frame_bytes, bytes);
    weir__tally(&counters->header_bytes, WEIR__BATCH_HEADER_BYTES);
    weir__tally(&counters->padding_bytes, padding);
    if (pending->slot >= config->stage->config.slots) {
        weir__tally(&counters->batches_oversize, 1);
    } else {
        weir__tally(slot->full ? &counters->batches_sealed_full : &counters->batches_sealed_idle,
                    1);
    }
}

/* Batches become visible to readers in order, so that a cursor finds no hole: a straggler holds up
 * those behind it. */
static void show_in_order(struct weir__flusher *flusher)
{
    for (;;) {
        struct weir__pending *pending = weir__flusher_pending(flusher, flusher->next_show);
        if (pending->state == WEIR__BATCH_NONE || pending->seq != flusher->next_show) {
            return;
        }
        weir__stage_show(flusher->config.stage, pending->slot, pending->end);
        flusher->next_show++;
    }
}

static bool take_complete(struct weir__flusher *flusher)
{
    struct weir__stage *stage = flusher->config.stage;
    bool did = false;
    uint32_t index;

    while (weir__stage_take(stage, &index)) {
        struct weir__slot *slot = &stage->slots[index];
        uint64_t seq = weir__load(&slot->seq, relaxed);
        struct weir__pending *pending = weir__flusher_pending(flusher, seq);
        weir__check(pending->state == WEIR__BATCH_NONE);
        pending->state = WEIR__BATCH_TAKEN;
        pending->written = false;
        pending->slot = index;
        pending->seq = seq;
        pending->lsn = weir__load(&slot->base, relaxed);
        pending->end = weir__align_up(pending->lsn + WEIR__BATCH_HEADER_BYTES +
                                          (uint64_t)slot->end * WEIR__UNIT,
                                      flusher->config.block_bytes);
        pending->segment_number = slot->segment_number;
        pending->segment_base = slot->segment_base;
        pending->records = slot->records;
        batch_finish(flusher, slot, pending);
        if (seq >= flusher->taken_end) {
            flusher->taken_end = seq + 1;
        }
        flusher->taken++;
        if (slot->segment_number > flusher->newest_segment) {
            flusher->newest_segment = slot->segment_number;
            weir__tally(&flusher->counters.rotations, 1);
            weir__keeper_kick(
                flusher->config.keeper); /* the next one must be ready before it is needed */
        }
        did = true;
    }
    if (did) {
        show_in_order(flusher);
    }
    return did;
}

/* ---- acknowledging and retiring -------------------------------------------------------------- */

static void position_advance(struct weir__flusher *flusher, const struct weir__pending *pending)
{
    struct weir__position *position = &flusher->position;
    const struct weir__epoch *epoch = &flusher->config.epoch;

    position->chain =
        weir__chain_next(position->chain, pending->lsn, pending->end, epoch->epoch, epoch->nonce);
    position->lsn = pending->end;
    position->epoch = epoch->epoch;
    position->epoch_lsn = epoch->lsn;
    position->nonce = epoch->nonce;
}

/* The last batch of a segment was acknowledged: nothing will be written to it again, and recovery
 * may start behind it. */
static void segment_left(struct weir__flusher *flusher, const struct weir__pending *next)
{
    struct weir__keeper *keeper = flusher->config.keeper;

    if (weir__load(&keeper->checkpoint_full, acquire) == 0) {
        keeper->checkpoint = flusher->position;
        if (WEIR__PLANTED(checkpoint_ahead)) {
            const struct weir__position kept = flusher->position;
            for (uint64_t seq = next->seq; seq < flusher->next_written; seq++) {
                position_advance(flusher, weir__flusher_pending(flusher, seq));
            }
            keeper->checkpoint = flusher->position;
            flusher->position = kept;
        }
        weir__store(&keeper->checkpoint_full, 1u, release);
    }
    flusher->acked_segment = next->segment_number;
    flusher->acked_segment_base = next->segment_base;
    weir__store(&keeper->retired_end, next->segment_base, release);
    weir__keeper_kick(keeper);
}

/* Closes a slot to readers and gives it back, now or when the last one has copied. */
static void give_back(struct weir__flusher *flusher, uint32_t index)
{
    if (weir__stage_hide(flusher->config.stage, index)) {
        weir__stage_give(flusher->config.stage, index);
    } else {
        flusher->hidden[flusher->hidden_count++] = index;
    }
}

/* ---- the crowd ------------------------------------------------------------------------------- */

/* Waits for this life of the slot, as far as they have registered. */
static uint32_t waiting_in(struct weir__flusher *flusher, uint32_t index)
{
    return (uint32_t)(weir__stage_slot_waits(flusher->config.stage, index) -
                      flusher->waits_seen[index]);
}

/* Just before something is acknowledged: who waits now, in what is complete and in the open slot. */
static void look_at_crowd(struct weir__flusher *flusher)
{
    struct weir__stage *stage = flusher->config.stage;
    uint32_t gathering = weir__stage_gathering(stage);
    uint32_t waiting = gathering == WEIR__SLOT_NONE ? 0 : waiting_in(flusher, gathering);

    if (flusher->alone) {
        waiting++; /* this thread, which has not registered */
    }

    for (uint64_t seq = flusher->stage_part.next_ack; seq < flusher->taken_end; seq++) {
        struct weir__pending *pending = weir__flusher_pending(flusher, seq);
        if (pending->state != WEIR__BATCH_NONE && pending->seq == seq &&
            pending->slot != gathering) {
            waiting += waiting_in(flusher, pending->slot);
        }
    }
    uint32_t before = flusher->crowd.size;
    uint32_t size = weir__crowd_look(&flusher->crowd, waiting);
    if (size != before) {
        weir__store(&stage->crowd, size, relaxed); /* its line is every waiter's: no idle stores */
    }
}

/* Nothing is under way, and the open slot may be sealed: lets those who were just woken put their
 * next records into it first, for a bounded time. */
static void collect(struct weir__flusher *flusher)
{
    struct weir__stage *stage = flusher->config.stage;
    uint32_t goal = (uint32_t)weir__min_u64(flusher->crowd.size, flusher->config.collect_max);

    if (goal < 2 || WEIR__PLANTED(nobody_collects)) {
        return;
    }
    uint32_t gathering = weir__stage_gathering(stage);
    if (gathering == WEIR__SLOT_NONE) {
        return;
    }
    uint64_t now_ns = weir__now_ns();
    if (now_ns < weir__load(&stage->yields_off_ns, relaxed) ||
        !weir__collect_begin(&flusher->collect, waiting_in(flusher, gathering), goal, now_ns)) {
        return;
    }
    weir__tally(&flusher->counters.collects, 1);
    for (;;) {
        weir__yield();
        const uint64_t then_ns = now_ns;
        now_ns = weir__now_ns();
        if (weir__stage_yielded(stage, then_ns, now_ns) == WEIR__YIELD_HOG) {
            return;
        }
        if (weir__stage_gathering(stage) != gathering) {
            return; /* full, and somebody else has sealed it */
        }
        switch (weir__collect_step(&flusher->collect, waiting_in(flusher, gathering), now_ns)) {
        case WEIR__COLLECT_ON:
            continue;
        case WEIR__COLLECT_MET:
            weir__tally(&flusher->counters.collects_met, 1);
            return;
        case WEIR__COLLECT_MISS:
            return;
        }
    }
}

static bool acknowledge_in_order(struct weir__flusher *flusher)
{
    struct weir__stage *stage = flusher->config.stage;
    uint64_t *next_ack = &flusher->stage_part.next_ack;
    bool did = false;

    /* Poisoned by the keeper or the watchdog, too: those who waited have been told. */
    if (flusher->failed || weir__load(&stage->failed, acquire)) {
        return false;
    }
    /* The live page before the waiters: whoever has its acknowledgement, and then looks at the log
     * from outside, finds it there. Relaxed: both are this thread's. */
    weir_lsn durable = weir__load(&stage->level[WEIR__LEVEL_DURABLE], relaxed);
    weir_lsn written = weir__load(&stage->level[WEIR__LEVEL_WRITTEN], relaxed);
    for (;;) {
        struct weir__pending *pending = weir__flusher_pending(flusher, flusher->next_written);
        if (pending->state == WEIR__BATCH_NONE || pending->seq != flusher->next_written ||
            !pending->written) {
            break;
        }
        written = pending->end;
        weir__dir_live_publish(flusher->config.dir, durable, written);
        weir__stage_acknowledge(stage,
                                pending->slot,
                                pending->seq,
                                WEIR__LEVEL_WRITTEN,
                                pending->end);
        flusher->next_written++;
        did = true;
    }
    struct weir__pending *first = weir__flusher_pending(flusher, *next_ack);
    if (first->state == WEIR__BATCH_DURABLE && first->seq == *next_ack) {
        look_at_crowd(flusher);
    }
    for (;;) {
        struct weir__pending *pending = weir__flusher_pending(flusher, *next_ack);
        if (pending->state != WEIR__BATCH_DURABLE || pending->seq != *next_ack) {
            break;
        }
        weir__check(*next_ack < flusher->next_written && *next_ack < flusher->next_show);
        if (pending->segment_number != flusher->acked_segment) {
            segment_left(flusher, pending);
        }
        position_advance(flusher, pending);
        durable = pending->end;
        weir__dir_live_publish(flusher->config.dir, durable, written);
        flusher->waits_seen[pending->slot] = weir__stage_slot_waits(stage, pending->slot);
        (*next_ack)++; /* before the wake-up: a slot that waits for this very batch can be sealed */
        weir__stage_acknowledge(stage,
                                pending->slot,
                                pending->seq,
                                WEIR__LEVEL_DURABLE,
                                pending->end);
        weir__tally(&flusher->counters.batches_durable, 1);
        pending->state = WEIR__BATCH_NONE;
        if (pending->slot >= stage->config.slots) {
            give_back(flusher, pending->slot); /* there are few of these, and each is large */
        } else {
            flusher->retained[flusher->retained_tail] = pending->slot;
            flusher->retained_tail = (flusher->retained_tail + 1) % (stage->slot_count + 1);
        }
        did = true;
    }
    return did;
}

/* Acknowledged slots stay open to readers for as long as producers have enough free ones. */
static bool retire(struct weir__flusher *flusher)
{
    struct weir__stage *stage = flusher->config.stage;
    uint32_t enough = stage->config.slots / 2;
    bool did = false;

    for (uint32_t i = 0; i < flusher->hidden_count;) {
        if (weir__stage_unpinned(stage, flusher->hidden[i])) {
            weir__stage_give(stage, flusher->hidden[i]);
            flusher->hidden[i] = flusher->hidden[--flusher->hidden_count];
            did = true;
        } else {
            i++;
        }
    }
    while (flusher->retained_head != flusher->retained_tail) {
        if (weir__stage_free_count(stage) >= enough) {
            break;
        }
        uint32_t index = flusher->retained[flusher->retained_head];
        flusher->retained_head = (flusher->retained_head + 1) % (stage->slot_count + 1);
        give_back(flusher, index);
        did = true;
    }
    return did;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static bool may_seal(const struct weir__flusher *flusher)
{
    return flusher->inflight == 0 && !flusher->failed;
}

/* Whether the part is in a state in which a producer can take it: nothing is under way, and nothing
 * stands in the tables but slots kept for readers. */
static bool may_lend(const struct weir__flusher *flusher)
{
    const struct weir__stage_flusher *part = &flusher->stage_part;

    return flusher->config.lend && flusher->crowd.size <= 1 && flusher->inflight == 0 &&
           flusher->taken == 0 && flusher->unsynced == 0 && flusher->hidden_count == 0 &&
           !flusher->failed && !part->must_open && !part->final && !part->shut_seen;
}

/* Announces sleep; false: there is something to do after all. */
static bool may_sleep(struct weir__flusher *flusher, enum weir__fl how)
{
    struct weir__stage *stage = flusher->config.stage;

    if (!weir__stage_going_to_sleep(stage,
                                    &flusher->stage_part,
                                    how,
                                    how != WEIR__FL_RING && may_seal(flusher))) {
        return false;
    }
    if (how == WEIR__FL_LENDS) {
        weir__tally(&flusher->counters.flusher_sleeps, 1);
        return true; /* and nothing else of the part is touched: it may be another's */
    }
    /* A reader that let go before we announced it woke nobody; the announcement acquired what it
     * did. */
    for (uint32_t i = 0; i < flusher->hidden_count; i++) {
        if (weir__stage_unpinned(stage, flusher->hidden[i])) {
            weir__stage_awake(stage);
            return false;
        }
    }
    weir__tally(&flusher->counters.flusher_sleeps, 1);
    return true;
}

static void sleep_or_wait(struct weir__flusher *flusher)
{
    struct weir__stage *stage = flusher->config.stage;

    if (flusher->inflight == 0) {
        if (may_sleep(flusher, may_lend(flusher) ? WEIR__FL_LENDS : WEIR__FL_IDLE)) {
            /* Acquire, AWAKE: whatever a producer did with the part. Through all other values it
             * sleeps: between lending and lent the word changes without waking anybody. */
            for (;;) {
                const uint32_t how = weir__load(&stage->fl_sleep, acquire);
                if (how == WEIR__FL_AWAKE) {
                    break;
                }
                weir__futex_wait(&stage->fl_sleep, how, WEIR__NEVER);
            }
            weir__stage_awake(stage);
        }
    } else if (flusher->inflight >= flusher->flight_count) {
        /* Producers pay no wake-up: nothing could be submitted anyway. */
        weir__submit_reap(flusher, true);
    } else if (may_sleep(flusher, WEIR__FL_RING)) {
        weir__submit_reap(flusher, true);
        weir__stage_awake(stage);
    }
}

/* Tells the keeper when appenders wait for it, and counts it once per wait. */
static void note_starving(struct weir__flusher *flusher)
{
    struct weir__keeper *keeper = flusher->config.keeper;
    bool starving =
        flusher->stage_part.must_open && weir__load(&flusher->config.stage->at_frontier, relaxed);

    if (starving != (weir__load(&keeper->starving, relaxed) != 0)) {
        weir__store(&keeper->starving, starving ? 1u : 0u, relaxed);
        if (starving) {
            weir__tally(&flusher->counters.stalls_segment, 1);
            weir__keeper_kick(keeper);
        }
    }
}

static void run_until_drained(struct weir__flusher *flusher)
{
    struct weir__stage *stage = flusher->config.stage;
    struct weir__stage_flusher *part = &flusher->stage_part;

    for (;;) {
        if (flusher->fault_late) {
            flusher->fault_late = false;
            flusher->config.failed(flusher->config.ctx, &flusher->fault);
        }
        bool did = flusher->inflight > 0 && weir__submit_reap(flusher, false);
        did |= acknowledge_in_order(flusher);
        did |= retire(flusher);
        did |= take_complete(flusher);
        if (may_seal(flusher) && flusher->taken == 0) {
            collect(flusher);
        }
        if (weir__stage_serve(stage, part, may_seal(flusher))) {
            take_complete(flusher);
            did = true;
        }
        note_starving(flusher);
        if (!flusher->failed && weir__load(&stage->failed, acquire)) {
            flusher->failed = true; /* poisoned by another: the keeper or the watchdog */
        }
        if (flusher->failed) {
            if (flusher->inflight == 0) {
                return;
            }
            weir__submit_reap(flusher, true);
            continue;
        }
        did |= weir__submit_taken(flusher);
        if (part->final && flusher->inflight == 0 && part->next_ack == stage->role.seq) {
            return;
        }
        if (!did) {
            sleep_or_wait(flusher);
        }
    }
}

/* ---- a lone producer ------------------------------------------------------------------------- */

/* One turn: its own batch, and no more. False: there is more to do. */
static bool turn_alone(struct weir__flusher *flusher)
{
    struct weir__stage *stage = flusher->config.stage;

    if (weir__load(&stage->failed, acquire)) {
        return false;
    }
    /* A slot in which somebody else still copies is sealed and not complete: nobody waits for that
     * with the part in hand. */
    weir__stage_serve(stage, &flusher->stage_part, true);
    take_complete(flusher);
    if (flusher->taken != 1) {
        return false;
    }
    weir__submit_alone(flusher);
    bool did = acknowledge_in_order(flusher);
    if (did) {
        weir__tally(&flusher->counters.batches_alone, 1);
    }
    retire(flusher);
    return did;
}

void weir__flusher_alone(struct weir__flusher *flusher)
{
    int cancel;

    /* A write is a point of cancellation, and a thread that ended there would take the part along. */
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    flusher->alone = true;
    const bool done = turn_alone(flusher);
    flusher->alone = false;
    if (done && may_lend(flusher)) {
        weir__stage_return(flusher->config.stage, &flusher->stage_part);
    } else {
        weir__stage_hand_over(flusher->config.stage);
    }
    (void)pthread_setcancelstate(cancel, NULL);
}

static void *flusher_main(void *arg)
{
    struct weir__flusher *flusher = arg;

    flusher->start_code = weir__submit_open(flusher, &flusher->start_fault);
    bool ok = flusher->start_code == 0;
    weir__store(&flusher->ready, ok ? 1u : 2u, release);
    weir__futex_wake(&flusher->ready, INT32_MAX);
    if (ok) {
        run_until_drained(flusher);
        weir__stage_leave(flusher->config.stage);
    }
    /* A producer that saw us asleep on the ring may still be about to wake it: the ring lives until
     * nobody can be inside a call any more. It is closed by the thread that opened it, as the
     * kernel wants. */
    while (weir__load(&flusher->joining, acquire) == 0) {
        weir__futex_wait(&flusher->joining, 0, WEIR__NEVER);
    }
    weir__submit_close(flusher);
    return NULL;
}

/* ---- starting and joining -------------------------------------------------------------------- */

static uint64_t pending_count(uint32_t slot_count)
{
    uint64_t count = 4;

    while (count < 2 * (uint64_t)slot_count) {
        count *= 2;
    }
    return count;
}

static uint64_t lists_bytes(uint32_t slot_count)
{
    return slot_count * sizeof(uint64_t) + (2 * (uint64_t)slot_count + 1) * sizeof(uint32_t);
}

uint64_t weir__flusher_memory(uint32_t slot_count, uint32_t max_inflight)
{
    return pending_count(slot_count) * sizeof(struct weir__pending) +
           (max_inflight + 1) * sizeof(struct weir__flight) + lists_bytes(slot_count) +
           weir__transfer_memory(2 * (max_inflight + 1));
}

static void flusher_free(struct weir__flusher *flusher)
{
    struct weir__mem *mem = flusher->config.mem;
    uint32_t slot_count = flusher->config.stage->slot_count;

    weir__mem_free(mem, flusher->pending, (flusher->pending_mask + 1) * sizeof *flusher->pending);
    if (flusher->transfer.broken) {
        /* The kernel may still look at the flights' vectors. */
        weir__mem_abandon(mem, flusher->flights, flusher->flight_count * sizeof *flusher->flights);
        flusher->flights = NULL;
    }
    weir__mem_free(mem, flusher->flights, flusher->flight_count * sizeof *flusher->flights);
    weir__mem_free(mem, flusher->waits_seen, lists_bytes(slot_count));
    flusher->pending = NULL;
    flusher->flights = NULL;
    flusher->waits_seen = NULL;
}

int weir__flusher_start(struct weir__flusher *flusher,
                        const struct weir__flusher_config *config,
                        struct weir__fault *fault)
{
    uint32_t slot_count = config->stage->slot_count;

    memset(flusher, 0, sizeof *flusher);
    flusher->config = *config;
    flusher->start_fault = WEIR__FAULT_NONE;
    flusher->fault = WEIR__FAULT_NONE;
    flusher->pending_mask = pending_count(slot_count) - 1;
    flusher->flight_count = config->max_inflight + 1; /* one more for a covering sync */
    flusher->position = config->start;
    flusher->acked_segment = config->first->number;
    flusher->acked_segment_base = config->first->range.base;
    flusher->newest_segment = config->first->number;
    flusher->pending =
        weir__mem_alloc(config->mem, (flusher->pending_mask + 1) * sizeof *flusher->pending, 8);
    flusher->flights =
        weir__mem_alloc(config->mem, flusher->flight_count * sizeof *flusher->flights, 8);
    flusher->waits_seen = weir__mem_alloc(config->mem, lists_bytes(slot_count), 8);
    weir__collect_init(&flusher->collect);
    if (!flusher->pending || !flusher->flights || !flusher->waits_seen) {
        flusher_free(flusher);
        return weir__fault_set(fault,
                               -ENOMEM,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "no memory for the flusher's tables");
    }
    flusher->retained = (uint32_t *)(flusher->waits_seen + slot_count);
    flusher->hidden = flusher->retained + slot_count + 1;

    int code = weir__thread_start(&flusher->thread, "weir-flusher", flusher_main, flusher);
    if (code != 0) {
        flusher_free(flusher);
        return weir__fault_set(fault,
                               code,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "cannot start the flusher thread");
    }
    flusher->started = true;
    while (weir__load(&flusher->ready, acquire) == 0) {
        weir__futex_wait(&flusher->ready, 0, WEIR__NEVER);
    }
    if (weir__load(&flusher->ready, acquire) == 2) {
        code = flusher->start_code;
        *fault = flusher->start_fault;
        weir__flusher_join(flusher);
        return code;
    }
    return 0;
}

void weir__flusher_join(struct weir__flusher *flusher)
{
    if (!flusher->started) {
        return;
    }
    weir__store(&flusher->joining, 1u, release);
    weir__futex_wake(&flusher->joining, INT32_MAX);
    pthread_join(flusher->thread, NULL);
    flusher->started = false;
    flusher_free(flusher);
}
