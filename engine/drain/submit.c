/* SPDX-License-Identifier: Apache-2.0
 * Four ways to durability, and the rules of each.
 *
 *   sync      pwritev2(RWF_DSYNC) by this thread. WEIR_IO_POSIX always; WEIR_IO_AUTO when one batch
 *             is pending and nothing is under way.
 *   chain     WRITE linked to FSYNC(DATASYNC) on the ring. WEIR_IO_CHAIN.
 *   dsync     one WRITE with RWF_DSYNC on the ring. WEIR_IO_DSYNC; WEIR_IO_AUTO with several
 *             pending on a device with FUA.
 *   covering  free writes on the ring, and one sync submitted after they came back that covers them
 *             all. WEIR_IO_AUTO with several pending.
 *
 * A batch is durable when its writes came back in full and a sync of its file that was submitted
 * after that (or linked behind it, or its own DSYNC) came back 0. What a short write leaves goes out
 * again with a new sync, and a failed sync is final: io/transfer.c. The ring is the flusher thread's alone;
 * the plain call is made by whoever plays the flusher. */
#include "base/check.h"
#include "base/plant.h"
#include "drain/flusher.h"
#include "port/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct weir__io *flusher_io(struct weir__flusher *flusher)
{
    return flusher->config.dir->io;
}

/* ---- runs: batches that go out in one write -------------------------------------------------- */

struct run {
    uint64_t first_seq;
    uint64_t last_seq;
    uint64_t segment_number;
    int file;
    uint64_t offset;
    size_t bytes;
    struct iovec iov[WEIR__RUN_MAX];
    unsigned count;
};

/* The first run of taken batches at or after *seq: contiguous in sequence and in one segment.
 * False: none. */
static bool
run_find(struct weir__flusher *flusher, uint64_t *seq, size_t bytes_max, struct run *run)
{
    struct weir__stage *stage = flusher->config.stage;

    memset(run, 0, offsetof(struct run, iov));
    run->count = 0;
    for (; *seq < flusher->taken_end; (*seq)++) {
        struct weir__pending *pending = weir__flusher_pending(flusher, *seq);
        bool takeable = pending->state == WEIR__BATCH_TAKEN && pending->seq == *seq;
        if (run->count == 0) {
            if (!takeable) {
                continue;
            }
            const struct weir__ready *ready =
                weir__keeper_ready(flusher->config.keeper, pending->segment_number);
            weir__check(ready != NULL);
            run->first_seq = *seq;
            run->segment_number = pending->segment_number;
            run->file = ready->file;
            run->offset = pending->lsn - pending->segment_base;
        } else if (!takeable || pending->segment_number != run->segment_number ||
                   pending->lsn - pending->segment_base != run->offset + run->bytes ||
                   run->count == WEIR__RUN_MAX ||
                   run->bytes + (pending->end - pending->lsn) > bytes_max) {
            break;
        }
        size_t bytes = (size_t)(pending->end - pending->lsn);
        run->iov[run->count++] = (struct iovec){stage->slots[pending->slot].buffer, bytes};
        run->bytes += bytes;
        run->last_seq = *seq;
    }
    return run->count > 0;
}

static void run_state(struct weir__flusher *flusher,
                      uint64_t first,
                      uint64_t last,
                      enum weir__batch_state state,
                      bool written)
{
    for (uint64_t seq = first; seq <= last; seq++) {
        struct weir__pending *pending = weir__flusher_pending(flusher, seq);
        pending->state = state;
        pending->written |= written;
    }
}

/* An operation of some batches has failed for good. */
static void op_fail(struct weir__flusher *flusher,
                    const struct weir__transfer_op *op,
                    uint64_t seq,
                    int code,
                    const char *what)
{
    const struct weir__pending *first = weir__flusher_pending(flusher, seq);

    weir__flusher_fail(flusher, code, what, first->segment_number, op->offset, first->lsn);
}

/* A run of batches as the write that carries it. The vector is the run's, and changes as it goes.
 */
static struct weir__transfer_op
run_write(const struct weir__flusher *flusher, struct run *run, struct iovec *iov, bool dsync)
{
    return (struct weir__transfer_op){
        .kind = WEIR__OP_WRITE,
        .file = run->file,
        .dsync = dsync,
        .block_bytes = flusher->config.block_bytes,
        .iov = iov,
        .iov_count = run->count,
        .offset = run->offset,
        .bytes = run->bytes,
    };
}

/* ---- sync: this thread writes ---------------------------------------------------------------- */

static void write_here(struct weir__flusher *flusher, struct run *run)
{
    const bool dsync = !WEIR__PLANTED(written_is_durable);
    struct weir__transfer_op op = run_write(flusher, run, run->iov, dsync);
    struct weir__transfer_run alone = {.ops = &op, .count = 1};

    flusher->taken -= (uint32_t)(run->last_seq - run->first_seq + 1);
    weir__tally(&flusher->counters.write_bytes, run->bytes);
    int code = weir__transfer_here(flusher_io(flusher), &alone, &flusher->transfers);
    if (code != 0) {
        op_fail(flusher, &op, run->first_seq, code, "durable write");
        return;
    }
    run_state(flusher, run->first_seq, run->last_seq, WEIR__BATCH_DURABLE, true);
}

/* ---- the ring -------------------------------------------------------------------------------- */

static struct weir__flight *flight_new(struct weir__flusher *flusher)
{
    for (uint32_t i = 0; i < flusher->flight_count; i++) {
        if (!flusher->flights[i].used) {
            struct weir__flight *flight = &flusher->flights[i];
            flight->used = true;
            flight->covering = flight->chained = flight->dsync = false;
            flusher->inflight++;
            weir__store(&flusher->counters.inflight, flusher->inflight, relaxed);
            if (flusher->inflight > weir__load(&flusher->counters.inflight_max, relaxed)) {
                weir__store(&flusher->counters.inflight_max, flusher->inflight, relaxed);
            }
            return flight;
        }
    }
    return NULL;
}

static void flight_done(struct weir__flusher *flusher, struct weir__flight *flight)
{
    flight->used = false;
    flusher->inflight--;
    weir__store(&flusher->counters.inflight, flusher->inflight, relaxed);
}

/* Puts a flight's operations on the ring. */
static void flight_start(struct weir__flusher *flusher, struct weir__flight *flight, unsigned count)
{
    flight->run = (struct weir__transfer_run){.ops = flight->ops, .count = count, .user = flight};
    int code = weir__transfer_start(&flusher->transfer, &flight->run);
    if (code != 0) {
        op_fail(flusher, &flight->ops[0], flight->first_seq, code, "submission to io_uring");
        flight_done(flusher, flight);
    }
}

static void fly(struct weir__flusher *flusher, struct run *run, bool chained, bool dsync)
{
    struct weir__flight *flight = flight_new(flusher);

    weir__check(flight != NULL);
    flight->chained = chained;
    flight->dsync = dsync;
    flight->first_seq = run->first_seq;
    flight->last_seq = run->last_seq;
    memcpy(flight->iov, run->iov, run->count * sizeof run->iov[0]);
    flight->ops[0] = run_write(flusher, run, flight->iov, dsync);
    if (chained) {
        flight->ops[1] = (struct weir__transfer_op){
            .kind = WEIR__OP_SYNC,
            .file = run->file,
            .block_bytes = flusher->config.block_bytes,
            .offset = run->offset,
        };
        weir__tally(&flusher->counters.chains, 1);
    }
    flusher->taken -= (uint32_t)(run->last_seq - run->first_seq + 1);
    weir__tally(&flusher->counters.write_bytes, run->bytes);
    run_state(flusher, run->first_seq, run->last_seq, WEIR__BATCH_WRITING, false);
    flight_start(flusher, flight, chained ? 2 : 1);
}

/* One sync for everything that was written, and has come back, to the segment of the lowest such
 * batch. One at a time: the next one then covers more. */
static bool cover(struct weir__flusher *flusher)
{
    struct weir__flight *flight = NULL;
    uint64_t segment_number = 0;
    uint64_t covered = 0;

    if (flusher->unsynced == 0 || flusher->inflight_covering > 0) {
        return false;
    }
    for (uint64_t seq = flusher->stage_part.next_ack; seq < flusher->taken_end; seq++) {
        struct weir__pending *pending = weir__flusher_pending(flusher, seq);
        if (pending->state != WEIR__BATCH_UNSYNCED || pending->seq != seq ||
            (flight && pending->segment_number != segment_number)) {
            continue;
        }
        if (!flight) {
            flight = flight_new(flusher);
            weir__check(flight != NULL); /* one is kept for this */
            const struct weir__ready *ready =
                weir__keeper_ready(flusher->config.keeper,
                                   WEIR__PLANTED(old_segment_not_synced) ? flusher->newest_segment
                                                                         : pending->segment_number);
            weir__check(ready != NULL);
            segment_number = pending->segment_number;
            flight->covering = true;
            flight->first_seq = seq;
            flight->ops[0] = (struct weir__transfer_op){
                .kind = WEIR__OP_SYNC,
                .file = ready->file,
                .block_bytes = flusher->config.block_bytes,
                .offset = pending->lsn - pending->segment_base,
            };
        }
        flight->last_seq = seq;
        pending->state = WEIR__BATCH_SYNCING;
        flusher->unsynced--;
        covered++;
    }
    weir__check(flight != NULL);
    if (covered > 1) {
        weir__tally(&flusher->counters.covering_syncs, 1);
    }
    flusher->inflight_covering++;
    flight_start(flusher, flight, 1);
    return true;
}

static void covered_done(struct weir__flusher *flusher, const struct weir__flight *flight)
{
    const struct weir__pending *first = weir__flusher_pending(flusher, flight->first_seq);
    uint64_t segment_number = first->segment_number;

    for (uint64_t seq = flight->first_seq; seq <= flight->last_seq; seq++) {
        struct weir__pending *pending = weir__flusher_pending(flusher, seq);
        if (pending->state == WEIR__BATCH_SYNCING && pending->seq == seq &&
            pending->segment_number == segment_number) {
            pending->state = WEIR__BATCH_DURABLE;
        }
        if (WEIR__PLANTED(sync_covers_later) && pending->state == WEIR__BATCH_UNSYNCED &&
            pending->seq == seq) {
            pending->state = WEIR__BATCH_DURABLE;
            flusher->unsynced--;
        }
    }
}

/* The kernel has a flight's write: it survives this process. Durable comes with the sync. */
static void flight_written(void *ctx, struct weir__transfer_op *op)
{
    struct weir__flusher *flusher = ctx;
    const struct weir__flight *flight = op->run->user;

    for (uint64_t seq = flight->first_seq; seq <= flight->last_seq; seq++) {
        weir__flusher_pending(flusher, seq)->written = true;
    }
}

static void flight_ended(void *ctx, struct weir__transfer_run *run, int code)
{
    struct weir__flusher *flusher = ctx;
    struct weir__flight *flight = run->user;

    if (flight->covering) {
        flusher->inflight_covering--;
    }
    if (code != 0) {
        const struct weir__transfer_op *op = &run->ops[run->first];
        const char *what = op->kind == WEIR__OP_SYNC ? "sync" : "write";
        op_fail(flusher, op, flight->first_seq, code, what);
    } else if (flight->covering) {
        covered_done(flusher, flight);
    } else if (flight->chained || flight->dsync || WEIR__PLANTED(ack_before_sync)) {
        run_state(flusher, flight->first_seq, flight->last_seq, WEIR__BATCH_DURABLE, true);
    } else {
        run_state(flusher, flight->first_seq, flight->last_seq, WEIR__BATCH_UNSYNCED, true);
        flusher->unsynced += (uint32_t)(flight->last_seq - flight->first_seq + 1);
    }
    flight_done(flusher, flight);
}

bool weir__submit_reap(struct weir__flusher *flusher, bool wait)
{
    flusher->transfer.stopped = flusher->failed;
    int count = weir__transfer_reap(&flusher->transfer, wait ? 1 : 0, WEIR__NEVER);

    if (count < 0) {
        const struct weir__pending *pending =
            weir__flusher_pending(flusher, flusher->stage_part.next_ack);
        weir__flusher_fail(flusher,
                           count,
                           "waiting for io_uring",
                           pending->segment_number,
                           UINT64_MAX,
                           pending->lsn);
        /* What is under way cannot be known any more; the kernel may still read the slots, which
         * are left alone for good. */
        flusher->inflight = 0;
        flusher->config.stage->keep_buffers = true;
        return true;
    }
    return count > 0;
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* A part of the slots' memory, so that producers have free ones while it is under way. */
static size_t run_bytes_max(const struct weir__flusher *flusher, bool ring)
{
    const struct weir__stage_config *config = &flusher->config.stage->config;
    size_t all = (size_t)config->slots * config->slot_bytes;

    return ring ? all / 4 : all / 2;
}

void weir__submit_alone(struct weir__flusher *flusher)
{
    uint64_t seq = flusher->stage_part.next_ack;
    struct run run;

    if (run_find(flusher, &seq, run_bytes_max(flusher, false), &run)) {
        write_here(flusher, &run);
    }
}

bool weir__submit_taken(struct weir__flusher *flusher)
{
    enum weir_io io = flusher->config.io;
    uint64_t seq = flusher->stage_part.next_ack;
    bool did = false;
    struct run run;

    /* WEIR_IO_POSIX opens no ring. */
    if (flusher->taken > 0 && (!flusher->ring || (io == WEIR_IO_AUTO && flusher->inflight == 0 &&
                                                  flusher->unsynced == 0 && flusher->taken == 1))) {
        if (run_find(flusher, &seq, run_bytes_max(flusher, false), &run)) {
            write_here(flusher, &run);
            return true;
        }
    }
    bool chained = io == WEIR_IO_CHAIN;
    bool dsync = io == WEIR_IO_DSYNC || (io == WEIR_IO_AUTO && flusher->multi_dsync);
    while (flusher->taken > 0 &&
           flusher->inflight - flusher->inflight_covering < flusher->config.max_inflight &&
           !flusher->failed && run_find(flusher, &seq, run_bytes_max(flusher, true), &run)) {
        fly(flusher, &run, chained, dsync);
        did = true;
    }
    if (!flusher->failed) {
        did |= cover(flusher);
    }
    return did;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_queue(struct weir__flusher *flusher)
{
    struct weir__stage *stage = flusher->config.stage;
    struct iovec buffers[WEIR__SLOTS_MAX + 1];
    unsigned count = 0;

    /* One range for the ordinary slots, one per oversize slot: memory is registered in ranges of at
     * most 1 GiB. */
    for (size_t done = 0; done < stage->buffers_bytes;) {
        size_t bytes =
            (size_t)weir__min_u64(stage->buffers_bytes - done, (uint64_t)stage->config.slot_bytes);
        buffers[count++] = (struct iovec){stage->buffers + done, bytes};
        done += bytes;
    }
    for (uint32_t i = stage->config.slots; i < stage->slot_count; i++) {
        buffers[count++] = (struct iovec){stage->slots[i].buffer, stage->slots[i].buffer_bytes};
    }
    struct weir__queue_config config = {
        .entries = 2 * flusher->flight_count + 2,
        .lock_file = flusher->config.dir->lock_file,
        .buffers = buffers,
        .buffer_count = count,
    };
    struct weir__io *io = flusher_io(flusher);
    struct weir__mem *mem = flusher->config.mem;
    int code = io->ops->queue_open(io, mem, &config, &flusher->queue, &flusher->queue_info);
    if (code == 0) {
        code = weir__transfer_init(&flusher->transfer,
                                   mem,
                                   io,
                                   flusher->queue,
                                   2 * flusher->flight_count,
                                   &flusher->transfers);
        if (code != 0) {
            io->ops->queue_close(io, mem, flusher->queue);
            flusher->queue = NULL;
        }
    }
    flusher->transfer.written = flight_written;
    flusher->transfer.ended = flight_ended;
    flusher->transfer.ctx = flusher;
    return code;
}

/* The end of the one flight that try_way waits for. */
static void trial_ended(void *ctx, struct weir__transfer_run *run, int code)
{
    (void)ctx;
    *(int *)run->user = code;
    run->user = NULL;
}

/* Rewrites the first segment's header, byte for byte, the way the first batch will go: a refusal
 * shows here, before any record depends on it. */
static int try_way(struct weir__flusher *flusher, bool by_ring)
{
    struct weir__io *io = flusher_io(flusher);
    const struct weir__flusher_config *config = &flusher->config;
    uint64_t begin = weir__now_ns();

    if (!by_ring) {
        int code = weir__io_write_full(io,
                                       config->first->file,
                                       config->first_header,
                                       config->block_bytes,
                                       0,
                                       true);
        flusher->sync_ns = weir__now_ns() - begin;
        return code;
    }
    bool chained = config->io == WEIR_IO_CHAIN;
    /* On memory that outlives the queue, whatever becomes of it. */
    struct weir__flight *flight = &flusher->flights[0];
    flight->iov[0] = (struct iovec){(void *)(uintptr_t)config->first_header, config->block_bytes};
    flight->ops[0] = (struct weir__transfer_op){
        .kind = WEIR__OP_WRITE,
        .file = config->first->file,
        .dsync = !chained,
        .block_bytes = config->block_bytes,
        .iov = flight->iov,
        .iov_count = 1,
        .bytes = config->block_bytes,
    };
    flight->ops[1] = (struct weir__transfer_op){
        .kind = WEIR__OP_SYNC,
        .file = config->first->file,
        .block_bytes = config->block_bytes,
    };
    int result = 0;
    flight->run = (struct weir__transfer_run){
        .ops = flight->ops,
        .count = chained ? 2 : 1,
        .user = &result,
    };
    struct weir__transfer_counters uncounted = {0};
    flusher->transfer.written = NULL;
    flusher->transfer.ended = trial_ended;
    flusher->transfer.counters = &uncounted;
    int code = weir__transfer_start(&flusher->transfer, &flight->run);
    while (code == 0 && flight->run.user != NULL) {
        int got = weir__transfer_reap(&flusher->transfer, 1, WEIR__NEVER);
        code = got < 0 ? got : 0;
    }
    if (flusher->transfer.broken) {
        /* As in weir__submit_reap: the header may still be on its way to the segment. */
        config->stage->keep_buffers = true;
    }
    flusher->transfer.written = flight_written;
    flusher->transfer.ended = flight_ended;
    flusher->transfer.counters = &flusher->transfers;
    code = code == 0 ? result : code;
    flusher->sync_ns = weir__now_ns() - begin;
    return code;
}

static int refused(struct weir__flusher *flusher,
                   struct weir__fault *fault,
                   int code,
                   const char *way,
                   const char *reason)
{
    (void)flusher;
    return weir__fault_set(fault,
                           code,
                           "",
                           UINT64_MAX,
                           UINT64_MAX,
                           "io = %s was asked for, and refused: %s; use auto or posix",
                           way,
                           reason);
}

int weir__submit_open(struct weir__flusher *flusher, struct weir__fault *fault)
{
    enum weir_io io = flusher->config.io;
    char *reason = flusher->io_reason;
    size_t room = sizeof flusher->io_reason;
    char refusal[256] = "";
    int code = 0;

    if (io == WEIR_IO_POSIX) {
        snprintf(reason, room, "posix was asked for: pwritev2(RWF_DSYNC) by the flusher");
    } else {
        code = open_queue(flusher);
        if (code == 0) {
            flusher->ring = true;
        } else {
            weir__uring_probe(refusal, sizeof refusal);
            if (refusal[0] == '\0') {
                snprintf(refusal, sizeof refusal, "io_uring_setup: %s", weir__code_text(code));
            }
        }
    }
    if (io == WEIR_IO_CHAIN || io == WEIR_IO_DSYNC) {
        const char *way = io == WEIR_IO_CHAIN ? "chain" : "dsync";
        if (code != 0) {
            return refused(flusher, fault, code, way, refusal);
        }
        code = try_way(flusher, true);
        if (code != 0) {
            return refused(flusher, fault, code, way, weir__code_text(code));
        }
        snprintf(reason, room, "%s was asked for", way);
        return 0;
    }
    code = try_way(flusher, false);
    if (code != 0) {
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(flusher->config.first->range.base,
                           flusher->config.first->range.end,
                           name);
        return weir__fault_set(fault,
                               code,
                               name,
                               0,
                               flusher->config.first->range.base,
                               "a durable write to the segment failed: %s",
                               weir__code_text(code));
    }
    if (io == WEIR_IO_AUTO) {
        flusher->multi_dsync = flusher->ring && flusher->config.dir->facts.fua == 1;
        if (!flusher->ring) {
            snprintf(reason,
                     room,
                     "auto without io_uring: pwritev2(RWF_DSYNC) by the flusher; %s",
                     refusal);
        } else {
            snprintf(reason,
                     room,
                     "auto: one pending batch by pwritev2(RWF_DSYNC), several on the ring %s",
                     flusher->multi_dsync ? "with RWF_DSYNC (the device has FUA)"
                                          : "under one covering sync (no FUA: a sync each would "
                                            "flush the device each time)");
        }
    }
    return 0;
}

void weir__submit_close(struct weir__flusher *flusher)
{
    if (flusher->ring) {
        flusher_io(flusher)->ops->queue_close(flusher_io(flusher),
                                              flusher->config.mem,
                                              flusher->queue);
        weir__transfer_exit(&flusher->transfer);
        flusher->ring = false;
        flusher->queue = NULL;
    }
}
