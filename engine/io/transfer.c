/* SPDX-License-Identifier: Apache-2.0
 * Runs of operations, carried to their end.
 *
 * The happy path: a run's ops are pushed as one linked run; each event stores its op's result; with
 * the last one the run is settled: from its first op on, what came back in full is over, and when
 * all are, the owner is told.
 *
 * Nothing is linked behind an op that is larger than the kernel moves at once, for the kernel would
 * begin it after the part that it has moved: such an op ends its push, and the next push goes on
 * behind it.
 *
 * What settling does with the rest:
 * - short: the op goes on from its last whole block. What was linked behind it was cancelled, and
 *   is pushed again with it: a sync is therefore always begun after all of its write had come back.
 * - -EAGAIN, -EINTR, and -ECANCELED (the kernel took only a part of the push): pushed again. Never
 *   a sync that failed by itself: what it could not write may be marked clean by now.
 * - a read that gets nothing, or twice no more than a part of a block, met the file's end: over.
 * - a write that moves nothing is an error, since nothing says that the next one would.
 * - any other error ends the run at that op; none behind it was carried out, for it was linked.
 *
 * Pushing again without progress is bounded. The owner's thread only. */
#include "io/transfer.h"

#include "base/check.h"
#include "base/compiler.h"
#include "base/num.h"
#include "base/plant.h"

#include <errno.h>
#include <string.h>

#define TRANSFER_TRIES 1000u
/* The kernel moves no more at once (INT_MAX down to a page's border, of pages up to 64 KiB), and a
 * link takes that much for all that was asked for. */
#define TRANSFER_LINK_BYTES ((size_t)0x7fff0000)

static void tally(WEIR__ATOMIC(uint64_t) *counter, uint64_t more)
{
    /* One writer: a relaxed load and store do; nothing is published by a figure. */
    weir__store(counter, weir__load(counter, relaxed) + more, relaxed);
}

size_t weir__transfer_memory(unsigned entries)
{
    return entries * sizeof(struct weir__op);
}

void weir__transfer_begin(struct weir__transfer *transfer,
                          struct weir__io *io,
                          struct weir__queue *queue,
                          unsigned entries,
                          struct weir__op *scratch,
                          struct weir__transfer_counters *counters)
{
    *transfer = (struct weir__transfer){
        .io = io,
        .queue = queue,
        .entries = entries,
        .counters = counters,
        .scratch = scratch,
    };
}

int weir__transfer_init(struct weir__transfer *transfer,
                        struct weir__mem *mem,
                        struct weir__io *io,
                        struct weir__queue *queue,
                        unsigned entries,
                        struct weir__transfer_counters *counters)
{
    struct weir__op *const scratch = weir__mem_alloc(mem, weir__transfer_memory(entries), 8);
    weir__transfer_begin(transfer, io, queue, entries, scratch, counters);
    transfer->mem = mem;
    return scratch == NULL ? -ENOMEM : 0;
}

void weir__transfer_exit(struct weir__transfer *transfer)
{
    if (transfer->mem != NULL && transfer->scratch != NULL) {
        weir__mem_free(transfer->mem, transfer->scratch, weir__transfer_memory(transfer->entries));
        transfer->scratch = NULL;
    }
}

/* ---- results --------------------------------------------------------------------------------- */

/* Drops `done` bytes from the front of what is to go. */
static void op_advance(struct weir__transfer_op *op, size_t done)
{
    unsigned at = 0;

    weir__check(done <= op->bytes);
    op->offset += done;
    op->bytes -= done;
    op->done += done;
    while (at < op->iov_count && done >= op->iov[at].iov_len) {
        done -= op->iov[at].iov_len;
        at++;
    }
    op->iov_count -= at;
    if (at > 0) {
        memmove(op->iov, op->iov + at, op->iov_count * sizeof *op->iov);
    }
    if (done > 0) {
        op->iov[0].iov_base = (uint8_t *)op->iov[0].iov_base + done;
        op->iov[0].iov_len -= done;
    }
}

enum settled { SETTLED_OVER, SETTLED_AGAIN, SETTLED_FAILED };

/* What its result makes of an op. */
static enum settled op_settle(struct weir__transfer_op *op,
                              struct weir__transfer_counters *counters,
                              bool *progress,
                              int *code)
{
    const int32_t result = op->result;

    *progress = false;
    *code = result;
    if (result == -ECANCELED) {
        return SETTLED_AGAIN;
    }
    if (op->kind == WEIR__OP_SYNC) {
        if (WEIR__PLANTED(sync_retried) && result < 0) {
            return SETTLED_AGAIN;
        }
        /* Anything but 0 is a failed sync, and final. */
        *code = result < 0 ? result : result > 0 ? -EIO : 0;
        return result == 0 ? SETTLED_OVER : SETTLED_FAILED;
    }
    if (result == -EAGAIN || result == -EINTR) {
        return SETTLED_AGAIN;
    }
    if (result < 0) {
        return SETTLED_FAILED;
    }
    const size_t moved = (size_t)result;
    if (moved > op->bytes) {
        *code = -EIO;
        return SETTLED_FAILED;
    }
    *progress = true;
    if (moved == op->bytes) {
        op_advance(op, moved);
        return SETTLED_OVER;
    }
    if (op->kind == WEIR__OP_READ) {
        const size_t whole = (size_t)weir__align_down(moved, op->block_bytes);
        if (whole == 0 && moved <= op->tail) {
            op_advance(op, moved);
            return SETTLED_OVER;
        }
        op->tail = moved - whole;
        op_advance(op, whole);
        return SETTLED_AGAIN;
    }
    if (moved == 0) {
        *code = -EIO;
        return SETTLED_FAILED;
    }
    if (counters != NULL) {
        tally(&counters->writes_short, 1);
    }
    if (WEIR__PLANTED(short_rest_dropped)) {
        op_advance(op, op->bytes);
        return SETTLED_OVER;
    }
    const size_t whole = (size_t)weir__align_down(moved, op->block_bytes);
    *progress = whole > 0;
    op_advance(op, whole);
    return SETTLED_AGAIN;
}

/* An op's figures, when it has come back. */
static void op_count(struct weir__transfer_counters *counters,
                     const struct weir__transfer_op *op,
                     int32_t result)
{
    tally(&counters->ops_completed, 1);
    if (result > 0 && op->kind == WEIR__OP_WRITE) {
        tally(&counters->bytes_written, (uint64_t)result);
    } else if (result > 0 && op->kind == WEIR__OP_READ) {
        tally(&counters->bytes_read, (uint64_t)result);
    }
}

/* An op's figures, when it goes out. */
static void op_count_out(struct weir__transfer_counters *counters,
                         const struct weir__transfer_op *op)
{
    tally(&counters->ops_submitted, 1);
    if (op->kind == WEIR__OP_WRITE) {
        tally(&counters->writes, 1);
    }
    if (op->kind == WEIR__OP_SYNC || op->dsync) {
        tally(&counters->syncs, 1);
    }
}

/* ---- pushing --------------------------------------------------------------------------------- */

/* The run's ops that are not over, as the seam takes them; up to one that nothing may be linked
 * behind. */
static unsigned run_prepare(struct weir__transfer_run *run, struct weir__op *ops)
{
    unsigned count = 0;
    bool link = true;

    for (run->end = run->first; link; run->end++) {
        struct weir__transfer_op *const op = &run->ops[run->end];
        link = run->end + 1 < run->count && op->bytes <= TRANSFER_LINK_BYTES;
        op->run = run;
        ops[count++] = (struct weir__op){
            .kind = op->kind,
            .file = op->file,
            .iov = op->iov,
            .iov_count = op->iov_count,
            .offset = op->offset,
            .dsync = op->dsync,
            .link = link,
            .data = (uint64_t)(uintptr_t)op,
        };
    }
    run->due = count;
    return count;
}

static int transfer_push(struct weir__transfer *transfer, unsigned count)
{
    const int code =
        transfer->io->ops->queue_push(transfer->io, transfer->queue, transfer->scratch, count);
    if (code == 0) {
        transfer->in_flight += count;
        tally(&transfer->counters->pushes, 1);
    }
    return code;
}

static void run_count_out(struct weir__transfer *transfer, const struct weir__transfer_run *run)
{
    for (unsigned i = run->first; i < run->end; i++) {
        op_count_out(transfer->counters, &run->ops[i]);
    }
}

static void run_begin(struct weir__transfer_run *run)
{
    weir__check(run->count > 0);
    run->first = 0;
    run->tries = 0;
    for (unsigned i = 0; i < run->count; i++) {
        struct weir__transfer_op *const op = &run->ops[i];
        weir__check(op->block_bytes > 0);
        op->done = 0;
        op->tail = 0;
        op->over = false;
    }
}

int weir__transfer_start_many(struct weir__transfer *transfer,
                              struct weir__transfer_run *const *runs,
                              unsigned count)
{
    unsigned ops = 0;

    for (unsigned i = 0; i < count; i++) {
        weir__check(runs[i]->count <= transfer->entries - transfer->in_flight - ops);
        run_begin(runs[i]);
        ops += run_prepare(runs[i], transfer->scratch + ops);
    }
    const int code = transfer->broken ? -EIO : transfer_push(transfer, ops);
    if (code == 0) {
        for (unsigned i = 0; i < count; i++) {
            run_count_out(transfer, runs[i]);
        }
    }
    return code;
}

int weir__transfer_start(struct weir__transfer *transfer, struct weir__transfer_run *run)
{
    return weir__transfer_start_many(transfer, &run, 1);
}

/* ---- settling -------------------------------------------------------------------------------- */

/* All results of a push are in. True: pushed again, or to be. False: ended, with *code. */
static bool
run_settle(struct weir__transfer_run *run, struct weir__transfer_counters *counters, int *code)
{
    *code = 0;
    for (; run->first < run->end; run->first++) {
        struct weir__transfer_op *const op = &run->ops[run->first];
        bool progress;
        const enum settled settled = op_settle(op, counters, &progress, code);
        if (settled == SETTLED_FAILED) {
            return false;
        }
        if (progress) {
            run->tries = 0;
        }
        if (settled == SETTLED_AGAIN) {
            /* -ECANCELED would blame the op for what its forerunners met. */
            *code = *code == -ECANCELED ? -EAGAIN : *code < 0 ? *code : -EIO;
            return ++run->tries <= TRANSFER_TRIES;
        }
        op->over = true;
        *code = 0;
    }
    return run->first < run->count;
}

static void transfer_settle(struct weir__transfer *transfer, struct weir__transfer_run *run)
{
    int code;

    if (run_settle(run, transfer->counters, &code)) {
        if (transfer->stopped) {
            transfer->ended(transfer->ctx, run, -ECANCELED);
            return;
        }
        code = transfer_push(transfer, run_prepare(run, transfer->scratch));
        if (code == 0) {
            run_count_out(transfer, run);
            return;
        }
    }
    transfer->ended(transfer->ctx, run, code);
}

int weir__transfer_reap(struct weir__transfer *transfer, unsigned min, uint64_t deadline_ns)
{
    struct weir__event events[64];
    const int count = transfer->io->ops->queue_reap(transfer->io,
                                                    transfer->queue,
                                                    events,
                                                    WEIR__ARRAY_COUNT(events),
                                                    min,
                                                    deadline_ns);
    if (count < 0) {
        transfer->broken = true;
        return count;
    }
    for (int i = 0; i < count; i++) {
        struct weir__transfer_op *const op =
            (struct weir__transfer_op *)(uintptr_t)events[i].data; /* NOLINT */
        struct weir__transfer_run *const run = op->run;
        weir__check(run->due > 0 && transfer->in_flight > 0);
        transfer->in_flight--;
        op->result = events[i].result;
        op_count(transfer->counters, op, op->result);
        if (op->kind == WEIR__OP_WRITE && transfer->written != NULL && op->result > 0 &&
            (size_t)op->result == op->bytes) {
            transfer->written(transfer->ctx, op);
        }
        if (--run->due == 0) {
            transfer_settle(transfer, run);
        }
    }
    return count;
}

/* ---- without a queue ------------------------------------------------------------------------- */

static void op_here(struct weir__io *io, struct weir__transfer_op *op)
{
    ssize_t result = 0;

    op_advance(op, 0); /* empty pieces in front would read as the file's end */
    switch (op->kind) {
    case WEIR__OP_WRITE:
        result = io->ops->write(io, op->file, op->iov, op->iov_count, op->offset, op->dsync);
        break;
    case WEIR__OP_READ:
        /* One piece at a time: the others are what is left of a short result. */
        if (op->iov_count > 0) {
            result =
                io->ops->read(io, op->file, op->iov[0].iov_base, op->iov[0].iov_len, op->offset);
        }
        break;
    case WEIR__OP_SYNC:
        result = io->ops->sync(io, op->file);
        break;
    }
    op->result = result > INT32_MAX ? INT32_MAX : (int32_t)result;
}

int weir__transfer_here(struct weir__io *io,
                        struct weir__transfer_run *run,
                        struct weir__transfer_counters *counters)
{
    int code = 0;

    run_begin(run);
    while (run->first < run->count) {
        struct weir__transfer_op *const op = &run->ops[run->first];
        if (counters != NULL) {
            op_count_out(counters, op);
        }
        op_here(io, op);
        if (counters != NULL) {
            op_count(counters, op, op->result);
        }
        run->end = run->first + 1;
        if (!run_settle(run, counters, &code) && code != 0) {
            return code;
        }
    }
    return 0;
}

/* One op by the caller's own calls. */
static int
range_here(struct weir__io *io, struct weir__transfer_op *op, struct iovec range, size_t *done_out)
{
    struct weir__transfer_run run = {.ops = op, .count = 1};
    op->iov = &range;
    op->iov_count = 1;
    op->bytes = range.iov_len;
    const int code = range.iov_len == 0 ? 0 : weir__transfer_here(io, &run, NULL);
    op->iov = NULL;
    *done_out = op->done;
    return code;
}

int weir__io_read_upto(struct weir__io *io,
                       int file,
                       void *buffer,
                       size_t bytes,
                       uint64_t offset,
                       uint32_t block_bytes,
                       size_t *done_out)
{
    struct weir__transfer_op op = {
        .kind = WEIR__OP_READ,
        .file = file,
        .block_bytes = block_bytes,
        .offset = offset,
    };
    return range_here(io, &op, (struct iovec){.iov_base = buffer, .iov_len = bytes}, done_out);
}

static int write_here(struct weir__io *io,
                      struct weir__transfer_op *op,
                      const void *buffer,
                      size_t bytes,
                      size_t *done_out)
{
    /* iovec has no const form; a write does not touch the bytes. */
    const union {
        const void *in;
        void *out;
    } base = {.in = buffer};
    return range_here(io, op, (struct iovec){.iov_base = base.out, .iov_len = bytes}, done_out);
}

int weir__io_write_upto(struct weir__io *io,
                        int file,
                        const void *buffer,
                        size_t bytes,
                        uint64_t offset,
                        uint32_t block_bytes,
                        size_t *done_out)
{
    struct weir__transfer_op op = {
        .kind = WEIR__OP_WRITE,
        .file = file,
        .block_bytes = block_bytes,
        .offset = offset,
    };
    return write_here(io, &op, buffer, bytes, done_out);
}

int weir__io_read_full(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    size_t done;
    const int code = weir__io_read_upto(io, file, buffer, bytes, offset, 1, &done);
    return code != 0 ? code : done < bytes ? -ENODATA : 0;
}

int weir__io_write_full(struct weir__io *io,
                        int file,
                        const void *buffer,
                        size_t bytes,
                        uint64_t offset,
                        bool dsync)
{
    struct weir__transfer_op op = {
        .kind = WEIR__OP_WRITE,
        .file = file,
        .dsync = dsync,
        .block_bytes = 1,
        .offset = offset,
    };
    size_t done;
    return write_here(io, &op, buffer, bytes, &done);
}
