/* SPDX-License-Identifier: Apache-2.0
 * A stage with everything around it that a log would give it, and nothing more: a flusher that
 * writes nowhere, a frontier that a test moves, and a device that lets batches come back in any
 * order.
 *
 * Every unit of 8 bytes in a slot is stamped with its own LSN by whoever reserved it, so that one
 * look at a batch tells whether all of it was filled, by its owner, for this life. Either one
 * thread plays all parts, by toy_turn, or toy_start runs the flusher and the device as threads. */
#ifndef WEIR_TESTS_UNIT_STAGE_TOY_FLUSHER_H
#define WEIR_TESTS_UNIT_STAGE_TOY_FLUSHER_H

#include "base/num.h"
#include "port/clock.h"
#include "port/wait.h"
#include "stage/stage.h"
#include "stage/word.h"
#include "support/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOY_BLOCK 512u
#define TOY_BATCHES_MAX 65536u
#define TOY_INFLIGHT_MAX 3u
#define TOY_STAMP UINT64_C(0xa5a5000000000000)

struct toy_batch {
    bool taken;
    bool done; /* flusher and device: guarded by ring_mutex */
    uint32_t slot;
    uint64_t seq;
    weir_lsn base;
    weir_lsn prev_end;
    weir_lsn end;
    uint32_t units;
    uint32_t records;
    bool full;
};

struct toy_pinned {
    uint32_t slots[WEIR__SLOTS_MAX];
    unsigned count;
};

struct toy {
    struct weir__mem mem;
    struct weir__stage stage;
    struct weir__stage_flusher part;
    uint64_t segment_bytes;
    WEIR__ATOMIC(uint64_t) prepared_end;
    WEIR__ATOMIC(int32_t) space_error;
    WEIR__ATOMIC(uint64_t) current_end;
    struct toy_batch *batches; /* by seq. The flusher's until it has left */
    uint64_t taken_end;
    uint64_t next_show;
    uint64_t next_written;
    char failure[256]; /* the flusher's; read after the join */

    /* What the flusher says of itself just before it acknowledges. */
    WEIR__ATOMIC(uint64_t) said[WEIR__LEVELS];

    /* With threads. */
    pthread_t flusher;
    pthread_t device;
    struct random flusher_random;
    struct random device_random;
    bool lend;                /* set before start: a producer may play the flusher */
    struct toy_pinned pinned; /* the flusher's part, as everything that says flusher */
    WEIR__ATOMIC(uint64_t) lent;
    unsigned inflight;    /* flusher */
    uint64_t next_submit; /* flusher */
    /* Set before start: batches from this seq on never come back, until released. */
    uint64_t hold_from;
    pthread_mutex_t ring_mutex; /* guards the rest */
    pthread_cond_t ring_changed;
    uint64_t submitted[TOY_BATCHES_MAX];
    unsigned submitted_count;
    unsigned completed; /* not yet seen by the flusher */
    bool ring_woken;
    bool device_stop;
    bool released;
    unsigned ring_wakes;
    uint64_t shown_end; /* batches below it may be copied */
};

static inline uint64_t toy_stamp(weir_lsn lsn)
{
    return TOY_STAMP ^ lsn;
}

static inline void toy_wake_ring(void *ctx)
{
    struct toy *const toy = ctx;
    (void)pthread_mutex_lock(&toy->ring_mutex);
    toy->ring_woken = true;
    toy->ring_wakes++;
    (void)pthread_cond_broadcast(&toy->ring_changed);
    (void)pthread_mutex_unlock(&toy->ring_mutex);
}

struct toy_config {
    uint32_t slots;
    uint32_t slot_bytes;
    uint32_t oversize_buffers;
    uint64_t oversize_bytes;
    uint64_t segment_bytes;
    uint64_t segments; /* prepared at the start */
};

static inline void toy_make(struct toy *toy, const struct toy_config *config)
{
    memset(toy, 0, sizeof *toy);
    toy->batches = calloc(TOY_BATCHES_MAX, sizeof *toy->batches);
    if (toy->batches == NULL) {
        abort();
    }
    toy->hold_from = UINT64_MAX;
    toy->segment_bytes = config->segment_bytes;
    weir__mem_init(&toy->mem, NULL);
    weir__store(&toy->prepared_end, config->segments * config->segment_bytes, relaxed);
    (void)pthread_mutex_init(&toy->ring_mutex, NULL);
    (void)pthread_cond_init(&toy->ring_changed, NULL);
    const struct weir__stage_config stage = {
        .mem = &toy->mem,
        .slots = config->slots,
        .slot_bytes = config->slot_bytes,
        .oversize_buffers = config->oversize_buffers,
        .oversize_bytes = config->oversize_bytes,
        .block_bytes = TOY_BLOCK,
        .segment_bytes = config->segment_bytes,
        .yield_from = 2, /* the crowd is 0 where a test leaves it alone: nobody yields */
        .yield_long_from = 4,
        .epoch = 1,
        .nonce = 2,
        .prepared_end = &toy->prepared_end,
        .space_error = &toy->space_error,
        .current_end = &toy->current_end,
        .wake_ring = toy_wake_ring,
        .ctx = toy,
    };
    const struct weir__position start = {.lsn = TOY_BLOCK,
                                         .epoch = 1,
                                         .epoch_lsn = TOY_BLOCK,
                                         .nonce = 2};
    if (weir__stage_init(&toy->stage, &stage, &start, 0, config->segment_bytes, 0) != 0) {
        abort();
    }
}

static inline void toy_destroy(struct toy *toy)
{
    weir__stage_exit(&toy->stage);
    weir__mem_exit(&toy->mem);
    (void)pthread_cond_destroy(&toy->ring_changed);
    (void)pthread_mutex_destroy(&toy->ring_mutex);
    free(toy->batches);
}

static inline void toy_fail(struct toy *toy, const char *what, uint64_t number)
{
    if (toy->failure[0] == '\0') {
        (void)snprintf(toy->failure,
                       sizeof toy->failure,
                       "%s (%llu)",
                       what,
                       (unsigned long long)number);
    }
}

/* ---- producers ------------------------------------------------------------------------------- */

/* Stamps every unit of a place. */
static inline void toy_fill(const struct weir__place *place)
{
    for (uint32_t i = 0; i < place->units; i++) {
        const uint64_t stamp = toy_stamp(place->lsn + (uint64_t)i * WEIR__UNIT);
        memcpy(place->at + (size_t)i * WEIR__UNIT, &stamp, sizeof stamp);
    }
}

/* Reserve, fill, commit. */
static inline int
toy_append(struct toy *toy, uint64_t bytes, uint64_t deadline_ns, struct weir__place *place)
{
    const int code = weir__stage_reserve(&toy->stage, bytes, deadline_ns, place);
    if (code == 0) {
        toy_fill(place);
        weir__stage_commit(&toy->stage, place, 1);
    }
    return code;
}

/* ---- the flusher ----------------------------------------------------------------------------- */

/* Whether header and frames are as toy_take and the producers made them. */
static inline bool toy_bytes_hold(const uint8_t *bytes, weir_lsn base, uint32_t units)
{
    for (uint32_t i = 0; i < WEIR__BATCH_HEADER_BYTES / WEIR__UNIT + units; i++) {
        uint64_t found;
        memcpy(&found, bytes + (size_t)i * WEIR__UNIT, sizeof found);
        if (found != toy_stamp(base + (uint64_t)i * WEIR__UNIT)) {
            return false;
        }
    }
    return true;
}

/* Takes one complete slot into the table. */
static inline bool toy_take(struct toy *toy)
{
    struct weir__stage *const stage = &toy->stage;
    uint32_t index;
    if (!weir__stage_take(stage, &index)) {
        return false;
    }
    struct weir__slot *const slot = &stage->slots[index];
    const uint64_t seq = weir__load(&slot->seq, relaxed);
    if (seq >= TOY_BATCHES_MAX) {
        abort();
    }
    struct toy_batch *const batch = &toy->batches[seq];
    if (batch->taken) {
        toy_fail(toy, "a life was taken twice", seq);
    }
    *batch = (struct toy_batch){
        .taken = true,
        .slot = index,
        .seq = seq,
        .base = weir__load(&slot->base, relaxed),
        .prev_end = weir__load(&slot->prev_end, relaxed),
        .units = slot->end,
        .records = slot->records,
        .full = slot->full,
    };
    batch->end =
        weir__align_up(batch->base + WEIR__BATCH_HEADER_BYTES + (uint64_t)batch->units * WEIR__UNIT,
                       TOY_BLOCK);
    for (uint32_t i = 0; i < WEIR__BATCH_HEADER_BYTES / WEIR__UNIT; i++) {
        const uint64_t stamp = toy_stamp(batch->base + (uint64_t)i * WEIR__UNIT);
        memcpy(slot->buffer + (size_t)i * WEIR__UNIT, &stamp, sizeof stamp);
    }
    if (batch->units == 0) {
        toy_fail(toy, "an empty slot was pushed", seq);
    }
    if (!toy_bytes_hold(slot->buffer, batch->base, batch->units)) {
        toy_fail(toy, "a batch was pushed before all of it was filled", seq);
    }
    if (seq >= toy->taken_end) {
        toy->taken_end = seq + 1;
    }
    return true;
}

static inline void toy_show(struct toy *toy)
{
    while (toy->next_show < TOY_BATCHES_MAX && toy->batches[toy->next_show].taken) {
        const struct toy_batch *const batch = &toy->batches[toy->next_show];
        weir__stage_show(&toy->stage, batch->slot, batch->end);
        toy->next_show++;
    }
}

static inline void
toy_acknowledge(struct toy *toy, const struct toy_batch *batch, enum weir__level level)
{
    weir__store(&toy->said[level], batch->end, release);
    weir__stage_acknowledge(&toy->stage, batch->slot, batch->seq, level, batch->end);
}

/* One thread's turn of everything: what is complete is acknowledged and given back at once. */
static inline void toy_turn(struct toy *toy)
{
    bool did = true;
    while (did) {
        did = false;
        while (toy_take(toy)) {
            did = true;
        }
        toy_show(toy);
        while (toy->part.next_ack < toy->next_show) {
            const struct toy_batch *const batch = &toy->batches[toy->part.next_ack++];
            toy_acknowledge(toy, batch, WEIR__LEVEL_WRITTEN);
            toy_acknowledge(toy, batch, WEIR__LEVEL_DURABLE);
            if (weir__stage_hide(&toy->stage, batch->slot)) {
                weir__stage_give(&toy->stage, batch->slot);
            } else {
                toy_fail(toy, "a slot is pinned and nobody is there", batch->slot);
            }
            did = true;
        }
        did |= weir__stage_serve(&toy->stage, &toy->part, true);
    }
}

/* ---- with threads ---------------------------------------------------------------------------- */

static inline void *toy_device(void *arg)
{
    struct toy *const toy = arg;
    (void)pthread_mutex_lock(&toy->ring_mutex);
    for (;;) {
        unsigned ready = 0;
        unsigned pick[TOY_INFLIGHT_MAX + 1];
        for (unsigned i = 0; i < toy->submitted_count && ready <= TOY_INFLIGHT_MAX; i++) {
            if (toy->released || toy->submitted[i] < toy->hold_from) {
                pick[ready++] = i;
            }
        }
        if (ready == 0) {
            if (toy->device_stop) {
                break;
            }
            (void)pthread_cond_wait(&toy->ring_changed, &toy->ring_mutex);
            continue;
        }
        const unsigned at = pick[random_below(&toy->device_random, ready)];
        const uint64_t seq = toy->submitted[at];
        toy->submitted[at] = toy->submitted[--toy->submitted_count];
        (void)pthread_mutex_unlock(&toy->ring_mutex);
        random_pause(&toy->device_random);
        (void)pthread_mutex_lock(&toy->ring_mutex);
        toy->batches[seq].done = true;
        toy->completed++;
        (void)pthread_cond_broadcast(&toy->ring_changed);
    }
    (void)pthread_mutex_unlock(&toy->ring_mutex);
    return NULL;
}

/* Collects completions. wait: until there is one, or somebody wakes the ring. */
static inline bool toy_reap(struct toy *toy, bool wait)
{
    (void)pthread_mutex_lock(&toy->ring_mutex);
    while (wait && toy->completed == 0 && !toy->ring_woken) {
        (void)pthread_cond_wait(&toy->ring_changed, &toy->ring_mutex);
    }
    if (wait) {
        toy->ring_woken = false;
    }
    const unsigned completed = toy->completed;
    toy->completed = 0;
    (void)pthread_mutex_unlock(&toy->ring_mutex);
    toy->inflight -= completed;
    return completed > 0;
}

static inline bool toy_is_done(struct toy *toy, uint64_t seq)
{
    (void)pthread_mutex_lock(&toy->ring_mutex);
    const bool done = seq < TOY_BATCHES_MAX && toy->batches[seq].taken && toy->batches[seq].done;
    (void)pthread_mutex_unlock(&toy->ring_mutex);
    return done;
}

static inline bool toy_submit(struct toy *toy)
{
    bool did = false;
    while (toy->next_submit < toy->next_show && toy->inflight < TOY_INFLIGHT_MAX) {
        (void)pthread_mutex_lock(&toy->ring_mutex);
        toy->submitted[toy->submitted_count++] = toy->next_submit++;
        (void)pthread_cond_broadcast(&toy->ring_changed);
        (void)pthread_mutex_unlock(&toy->ring_mutex);
        toy->inflight++;
        did = true;
    }
    return did;
}

static inline bool toy_acknowledge_in_order(struct toy *toy, struct toy_pinned *pinned)
{
    struct weir__stage *const stage = &toy->stage;
    bool did = false;
    while (toy_is_done(toy, toy->next_written)) {
        toy_acknowledge(toy, &toy->batches[toy->next_written++], WEIR__LEVEL_WRITTEN);
        random_pause(&toy->flusher_random);
        did = true;
    }
    while (toy->part.next_ack < toy->next_written) {
        const struct toy_batch *const batch = &toy->batches[toy->part.next_ack++];
        toy_acknowledge(toy, batch, WEIR__LEVEL_DURABLE);
        random_pause(&toy->flusher_random);
        if (weir__stage_hide(stage, batch->slot)) {
            weir__stage_give(stage, batch->slot);
        } else {
            pinned->slots[pinned->count++] = batch->slot;
        }
        did = true;
    }
    for (unsigned i = 0; i < pinned->count;) {
        if (weir__stage_unpinned(stage, pinned->slots[i])) {
            weir__stage_give(stage, pinned->slots[i]);
            pinned->slots[i] = pinned->slots[--pinned->count];
            did = true;
        } else {
            i++;
        }
    }
    return did;
}

static inline void toy_show_to_readers(struct toy *toy)
{
    toy_show(toy);
    (void)pthread_mutex_lock(&toy->ring_mutex);
    toy->shown_end = toy->next_show;
    (void)pthread_mutex_unlock(&toy->ring_mutex);
}

static inline bool toy_may_lend(const struct toy *toy)
{
    const struct weir__stage_flusher *const part = &toy->part;
    return toy->lend && toy->inflight == 0 && toy->pinned.count == 0 &&
           part->next_ack == toy->taken_end && !part->must_open && !part->final && !part->shut_seen;
}

/* As weir__flusher_alone: one batch, acknowledged at once. */
static inline bool toy_turn_alone(struct toy *toy)
{
    struct weir__stage *const stage = &toy->stage;
    if (weir__load(&stage->failed, acquire)) {
        return false;
    }
    (void)weir__stage_serve(stage, &toy->part, true);
    while (toy_take(toy)) {
    }
    toy_show_to_readers(toy);
    if (toy->taken_end != toy->part.next_ack + 1 || toy->next_show != toy->taken_end) {
        return false;
    }
    const struct toy_batch *const batch = &toy->batches[toy->part.next_ack++];
    toy->next_submit++;
    toy->next_written++;
    toy_acknowledge(toy, batch, WEIR__LEVEL_WRITTEN);
    toy_acknowledge(toy, batch, WEIR__LEVEL_DURABLE);
    if (weir__stage_hide(stage, batch->slot)) {
        weir__stage_give(stage, batch->slot);
    } else {
        toy->pinned.slots[toy->pinned.count++] = batch->slot;
    }
    return true;
}

static inline void toy_alone(struct toy *toy)
{
    weir__fetch_add(&toy->lent, UINT64_C(1), relaxed);
    if (toy_turn_alone(toy) && toy_may_lend(toy)) {
        weir__stage_return(&toy->stage, &toy->part);
    } else {
        weir__stage_hand_over(&toy->stage);
    }
}

static inline void *toy_flusher(void *arg)
{
    struct toy *const toy = arg;
    struct weir__stage *const stage = &toy->stage;
    struct toy_pinned *const pinned = &toy->pinned;

    for (;;) {
        bool did = toy->inflight > 0 && toy_reap(toy, false);
        did |= toy_acknowledge_in_order(toy, pinned);
        while (toy_take(toy)) {
            did = true;
        }
        toy_show_to_readers(toy);
        random_pause(&toy->flusher_random);
        did |= weir__stage_serve(stage, &toy->part, toy->inflight == 0);
        if (weir__load(&stage->failed, acquire)) {
            break;
        }
        did |= toy_submit(toy);
        if (toy->part.final && toy->inflight == 0 && toy->part.next_ack == stage->role.seq) {
            break;
        }
        if (did) {
            continue;
        }
        const enum weir__fl how = toy_may_lend(toy)                          ? WEIR__FL_LENDS
                                  : toy->inflight == 0 && pinned->count == 0 ? WEIR__FL_IDLE
                                                                             : WEIR__FL_RING;
        if (!weir__stage_going_to_sleep(stage, &toy->part, how, how != WEIR__FL_RING)) {
            continue;
        }
        bool unpinned = false; /* a reader that let go before the announcement woke nobody */
        for (unsigned i = 0; how == WEIR__FL_RING && i < pinned->count; i++) {
            unpinned |= weir__stage_unpinned(stage, pinned->slots[i]);
        }
        if (how != WEIR__FL_RING) {
            for (;;) {
                const uint32_t value = weir__load(&stage->fl_sleep, acquire);
                if (value == WEIR__FL_AWAKE) {
                    break;
                }
                (void)weir__futex_wait(&stage->fl_sleep, value, WEIR__NEVER);
            }
        } else if (!unpinned) {
            (void)toy_reap(toy, true);
        }
        weir__stage_awake(stage);
    }
    weir__stage_leave(stage);
    return NULL;
}

static inline void toy_start(struct toy *toy, uint64_t seed)
{
    toy->flusher_random.state = seed;
    toy->device_random.state = seed + 1;
    weir__store(&toy->stage.crowd, seed % 4 == 0 ? 64u : 0u, relaxed);
    toy->lend = seed % 2 == 1;
    if (pthread_create(&toy->flusher, NULL, toy_flusher, toy) != 0 ||
        pthread_create(&toy->device, NULL, toy_device, toy) != 0) {
        abort();
    }
}

static inline void toy_release(struct toy *toy)
{
    (void)pthread_mutex_lock(&toy->ring_mutex);
    toy->released = true;
    (void)pthread_cond_broadcast(&toy->ring_changed);
    (void)pthread_mutex_unlock(&toy->ring_mutex);
}

/* After weir__stage_shut or weir__stage_fail. */
static inline void toy_join(struct toy *toy)
{
    (void)pthread_join(toy->flusher, NULL);
    (void)pthread_mutex_lock(&toy->ring_mutex);
    toy->device_stop = true;
    toy->released = true;
    (void)pthread_cond_broadcast(&toy->ring_changed);
    (void)pthread_mutex_unlock(&toy->ring_mutex);
    (void)pthread_join(toy->device, NULL);
}

#endif
