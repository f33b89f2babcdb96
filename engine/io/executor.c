/* SPDX-License-Identifier: Apache-2.0
 * Carrying out a batch.
 *
 * The happy path, in order: all that can be refused beforehand is looked at (a file for each
 * operation, memory for what is read), then windows of up to max_inflight operations go out, each
 * as one linked run and one submission; the run's end is waited for, and the next window begins.
 * Side by side: each operation is a run of its own, as many as there is room for are submitted
 * together, and as they come back further ones follow; an operation that meets one under way waits
 * for it, a Sync for all of them, and all behind it for the Sync.
 *
 * Two operations meet where the bytes that they touch overlap and one is a write. A write beyond
 * the end of the file touches all that lies between for whoever reads there: it is a hole then, and
 * was no part of the file before.
 *
 * Direct files: what is read comes in whole blocks into memory of ours, and the result points to
 * the bytes asked for. A write of whole blocks goes out from where it lies, or through buffers if
 * the memory does not suit. Any other is carried out alone, with nothing else under way: its edge
 * blocks are read, completed and written with the rest, and a file that has got longer by padding
 * is cut back. Until the cut the padding can be seen, and where cutting fails it stays: the
 * operation fails then.
 *
 * What can fail: each operation. In order, none behind it was begun. Side by side, what was under
 * way is seen to its end, and the lowest failed index counts. A failed Sync is final: the kernel
 * may have dropped what it could not write, so the next one would report success over a loss; every
 * later Sync of this executor fails as it did. A queue that breaks leaves all that it had been
 * given alone for good.
 *
 * One thread at a time, not always the same. */
#include "io/executor.h"

#include "base/check.h"
#include "base/err.h"
#include "base/num.h"
#include "base/plant.h"
#include "io/batch.h"
#include "io/device.h"
#include "io/reader.h"
#include "io/writer_state.h"
#include "port/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EXECUTOR_ERRNO_MAX 4095
/* Memory for direct operations is aligned to the file's block, but no device wants more than this.
 */
#define EXECUTOR_PAGE ((size_t)4096)
/* What unaligned direct writes go through where the config has no buffers. */
#define EXECUTOR_PIECES 4u
#define EXECUTOR_PIECE_BYTES ((size_t)64 << 10)
/* Memory for what is read that is kept although a batch needs much less. */
#define EXECUTOR_KEEP_BYTES ((size_t)4 << 20)
/* What is read stands at a multiple of this, or of the file's block. */
#define EXECUTOR_READ_ALIGN 64u
#define NO_READ SIZE_MAX

/* An operation that is with the transfer. One to each of its ops. */
struct executor_place {
    size_t index;     /* in the batch */
    size_t read;      /* which of the reads; NO_READ: it is none of the batch's */
    const void *data; /* of a read: where the bytes asked for will stand */
    size_t skip;      /* of a read: bytes before them */
    size_t bytes;     /* of a read: asked for */
    uint64_t offset;  /* of a read: asked for */
    unsigned active;  /* side by side: where it stands in `active` */
};

/* The bytes of its file that an operation touches. */
struct executor_range {
    uint64_t start;
    uint64_t end;
    uint64_t reach; /* of a write: where they begin for those who read */
    bool writes;
    unsigned place;
};

struct weir_executor {
    struct weir__mem mem;
    struct weir__io_device device;
    const struct weir__io_file *writer; /* NULL: none */
    const struct weir__io_file *reader;
    bool side_by_side;
    bool one_file;   /* what is written may be read */
    unsigned window; /* operations of one linked run, at most */
    int sync_code;   /* of the first Sync that failed, 0 */
    int broken;      /* what the queue broke with, 0 */

    /* As many of each as may be in flight. */
    unsigned places_max;
    struct executor_place *places;
    struct weir__transfer_op *ops;
    struct iovec *iov;
    struct weir__transfer_run *runs;
    struct weir__transfer_run **starting;
    unsigned *unused;              /* side by side: places that are free */
    struct executor_range *active; /* side by side: of those that are not */

    /* Direct writes: room for two blocks, and what unaligned ones go through. */
    uint8_t *edges; /* NULL: the writer's file is not direct */
    size_t edges_bytes;
    uint8_t *pieces; /* behind the edges, or the device's buffers */
    size_t piece_bytes;
    unsigned piece_count;

    /* What was read. */
    struct weir_read_result *reads;
    size_t reads_max;
    uint8_t *memory;
    size_t memory_bytes;

    /* The execution under way. */
    const struct weir_batch *batch;
    size_t count;
    size_t next;      /* the first operation that was not begun */
    size_t next_read; /* of which this is the number of reads */
    size_t memory_at; /* and what they have of the memory */
    size_t reads_over;
    size_t failed;
    int code;
    unsigned unused_count;
    unsigned active_count;
    bool barrier;    /* a Sync is under way */
    uint64_t length; /* side by side: what the file is known to hold */
    uint64_t grown;  /* and what it will, with the writes that have come back */
};

/* ---- operations ------------------------------------------------------------------------------ */

static uint64_t op_block(const struct weir_executor *executor, const struct weir_op *op)
{
    return op->kind == WEIR_OP_READ ? executor->reader->block_bytes : executor->writer->block_bytes;
}

/* No file has bytes from here on; the kernel refuses to look. */
static uint64_t executor_end_max(uint64_t block)
{
    return weir__align_down(INT64_MAX, block);
}

/* Nothing has to be submitted for it? */
static bool op_is_nothing(const struct weir_executor *executor, const struct weir_op *op)
{
    switch (op->kind) {
    case WEIR_OP_SYNC:
        return executor->writer == NULL;
    case WEIR_OP_READ:
        return op->bytes == 0 || op->offset >= executor_end_max(op_block(executor, op));
    default:
        return op->bytes == 0;
    }
}

/* Has it to be carried out alone, by steps of its own? */
static bool op_is_unaligned(const struct weir_executor *executor, const struct weir_op *op)
{
    if (op->kind != WEIR_OP_WRITE || !executor->writer->direct) {
        return false;
    }
    const uint64_t block = executor->writer->block_bytes;
    const uint64_t align = weir__min_u64(block, EXECUTOR_PAGE);
    return op->offset % block != 0 || op->bytes % block != 0 || (uintptr_t)op->data % align != 0;
}

/* What it touches. It is neither a Sync nor nothing. */
static struct executor_range op_range(const struct weir_executor *executor,
                                      const struct weir_op *op)
{
    struct executor_range range = {.writes = op->kind == WEIR_OP_WRITE};

    if (range.writes) {
        range.start = op->offset;
        range.end = op->offset + op->bytes;
        range.reach = weir__min_u64(range.start, executor->length);
    } else {
        /* Whole blocks. */
        const uint64_t block = op_block(executor, op);
        const uint64_t end = weir__align_up(op->offset + op->bytes, block);
        range.start = weir__align_down(op->offset, block);
        range.end = weir__min_u64(end, executor_end_max(block));
    }
    return range;
}

/* Bytes of our memory that go to a read. */
static uint64_t read_room(const struct executor_range *range)
{
    return weir__align_up(range->end - range->start, EXECUTOR_READ_ALIGN);
}

/* The lowest one counts. */
static void executor_fail(struct weir_executor *executor, size_t index, int code)
{
    if (index < executor->failed) {
        executor->failed = index;
        executor->code = code;
    }
}

/* An operation of the batch is carried out: what it has read becomes a result. */
static void
place_over(struct weir_executor *executor, const struct executor_place *place, size_t done)
{
    if (place->read == NO_READ) {
        return;
    }
    const size_t got = done > place->skip ? done - place->skip : 0;
    size_t at = place->read;
    if (WEIR__PLANTED(read_order)) {
        at = executor->reads_over++;
    }
    executor->reads[at] = (struct weir_read_result){
        .offset = place->offset,
        .data = place->data,
        .bytes = got < place->bytes ? got : place->bytes,
    };
}

/* Side by side: an operation has come back. The last of those under way takes its place among them.
 */
static void place_leave(struct weir_executor *executor, unsigned at, bool well)
{
    const unsigned slot = executor->places[at].active;
    const struct executor_range *const range = &executor->active[slot];

    if (well && range->writes) {
        executor->grown = weir__max_u64(executor->grown, range->end);
    }
    executor->active[slot] = executor->active[--executor->active_count];
    executor->places[executor->active[slot].place].active = slot;
    executor->unused[executor->unused_count++] = at;
    executor->barrier = false;
    if (executor->active_count == 0) {
        executor->length = executor->grown;
    }
}

static void executor_ended(void *ctx, struct weir__transfer_run *run, int code)
{
    struct weir_executor *const executor = ctx;
    const size_t first = (size_t)(run->ops - executor->ops);

    for (unsigned i = 0; i < run->count && run->ops[i].over; i++) {
        place_over(executor, &executor->places[first + i], run->ops[i].done);
    }
    if (code != 0) {
        const struct weir__transfer_op *const op = &run->ops[run->first];
        if (op->kind == WEIR__OP_SYNC && executor->sync_code == 0) {
            executor->sync_code = code;
        }
        executor_fail(executor, executor->places[first + run->first].index, code);
    }
    if (executor->active_count > 0) {
        place_leave(executor, (unsigned)first, code == 0);
    }
}

/* Makes a transfer's op of the batch's next operation, at a place. It is not nothing. */
static void place_fill(struct weir_executor *executor, unsigned at, const struct weir_op *op)
{
    static const enum weir__op_kind kinds[] = {
        [WEIR_OP_WRITE] = WEIR__OP_WRITE,
        [WEIR_OP_READ] = WEIR__OP_READ,
        [WEIR_OP_SYNC] = WEIR__OP_SYNC,
    };
    struct executor_place *const place = &executor->places[at];
    struct iovec *const iov = &executor->iov[at];
    const struct weir__io_file *const file =
        op->kind == WEIR_OP_READ ? executor->reader : executor->writer;

    *place = (struct executor_place){.index = executor->next, .read = NO_READ};
    *iov = (struct iovec){0};
    executor->ops[at] = (struct weir__transfer_op){
        .kind = kinds[op->kind],
        .file = file->file,
        .block_bytes = file->block_bytes,
        .iov = iov,
        .iov_count = op->kind == WEIR_OP_SYNC ? 0 : 1,
    };
    if (op->kind == WEIR_OP_SYNC) {
        return;
    }
    const struct executor_range range = op_range(executor, op);
    if (op->kind == WEIR_OP_WRITE) {
        /* iovec has no const form; a write does not touch the bytes. */
        const union {
            const void *in;
            void *out;
        } base = {.in = op->data};
        iov->iov_base = base.out;
    } else {
        uint8_t *const memory = executor->memory + executor->memory_at;
        place->read = executor->next_read++;
        place->offset = op->offset;
        place->bytes = op->bytes;
        place->skip = (size_t)(op->offset - range.start);
        place->data = memory + place->skip;
        iov->iov_base = memory;
        executor->memory_at += (size_t)read_room(&range);
    }
    iov->iov_len = (size_t)(range.end - range.start);
    executor->ops[at].offset = range.start;
    executor->ops[at].bytes = iov->iov_len;
}

/* Carries out the batch's next operation, for which nothing has to be submitted. */
static void executor_pass(struct weir_executor *executor, const struct weir_op *op)
{
    if (op->kind == WEIR_OP_READ) {
        const struct executor_place place = {
            .read = executor->next_read++,
            .data = "",
            .offset = op->offset,
        };
        place_over(executor, &place, 0);
    }
    executor->next++;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Collects at least `min`. False: the queue is broken, and what was under way may be carried out or
 * not. */
static bool executor_reap(struct weir_executor *executor, unsigned min)
{
    const int count = weir__transfer_reap(&executor->device.transfer, min, WEIR__NEVER);
    if (count < 0) {
        executor->broken = count;
    }
    return count >= 0;
}

/* Begins runs of this executor's and sees all of them to their end. The runs' places are filled.
 * False: one has failed, or the queue has broken. */
static bool executor_carry(struct weir_executor *executor, unsigned count)
{
    struct weir__transfer *const transfer = &executor->device.transfer;
    const size_t index = executor->places[0].index;

    for (unsigned i = 0; i < count; i++) {
        executor->starting[i] = &executor->runs[i];
    }
    const int code = weir__transfer_start_many(transfer, executor->starting, count);
    if (code != 0) {
        executor_fail(executor, index, code);
        return false;
    }
    while (transfer->in_flight > 0) {
        if (!executor_reap(executor, transfer->in_flight)) {
            executor_fail(executor,
                          executor->places[executor->runs[0].first].index,
                          executor->broken);
            return false;
        }
    }
    return executor->code == 0;
}

/* ---- direct writes that are not of whole blocks ---------------------------------------------- */

/* The parts of one such write. */
struct executor_edges {
    const struct weir_op *op;
    uint64_t block;
    uint64_t first; /* whole blocks around it */
    uint64_t last;
    uint64_t end;
    const uint8_t *head; /* the block at its beginning, NULL: it begins with one */
    const uint8_t *tail; /* the block at its end, NULL: it ends with one, or it is `head` */
};

/* An op of the next operation's own steps, as run number `at`. */
static void step_fill(struct weir_executor *executor,
                      unsigned at,
                      enum weir__op_kind kind,
                      uint8_t *memory,
                      size_t bytes,
                      uint64_t offset)
{
    executor->places[at] = (struct executor_place){.index = executor->next, .read = NO_READ};
    executor->iov[at] = (struct iovec){.iov_base = memory, .iov_len = bytes};
    executor->ops[at] = (struct weir__transfer_op){
        .kind = kind,
        .file = executor->writer->file,
        .block_bytes = executor->writer->block_bytes,
        .iov = &executor->iov[at],
        .iov_count = 1,
        .offset = offset,
        .bytes = bytes,
    };
    executor->runs[at] = (struct weir__transfer_run){.ops = &executor->ops[at], .count = 1};
}

/* Reads the block at `offset` into `memory`; zeros where the file has none. */
static bool edge_read(struct weir_executor *executor, uint8_t *memory, uint64_t offset)
{
    const size_t block = executor->writer->block_bytes;

    step_fill(executor, 0, WEIR__OP_READ, memory, block, offset);
    if (!executor_carry(executor, 1)) {
        return false;
    }
    memset(memory + executor->ops[0].done, 0, block - executor->ops[0].done);
    return true;
}

/* Puts together the part [from, to) of the padded write. */
static void
piece_build(const struct executor_edges *edges, uint8_t *piece, uint64_t from, uint64_t to)
{
    const uint64_t data_from = weir__max_u64(from, edges->op->offset);
    const uint64_t data_to = weir__min_u64(to, edges->end);

    if (from == edges->first && edges->head != NULL) {
        memcpy(piece, edges->head, (size_t)edges->block);
    }
    if (to == edges->last && edges->tail != NULL) {
        memcpy(piece + (to - from) - edges->block, edges->tail, (size_t)edges->block);
    }
    memcpy(piece + (data_from - from),
           (const uint8_t *)edges->op->data + (data_from - edges->op->offset),
           (size_t)(data_to - data_from));
}

/* Writes all of it, as many pieces at once as there are buffers. */
static bool edges_write(struct weir_executor *executor, const struct executor_edges *edges)
{
    uint64_t at = edges->first;

    while (at < edges->last) {
        unsigned count = 0;
        for (; count < executor->piece_count && at < edges->last; count++) {
            uint8_t *const piece = executor->pieces + count * executor->piece_bytes;
            const uint64_t to = weir__min_u64(edges->last, at + executor->piece_bytes);
            piece_build(edges, piece, at, to);
            step_fill(executor, count, WEIR__OP_WRITE, piece, (size_t)(to - at), at);
            at = to;
        }
        if (!executor_carry(executor, count)) {
            return false;
        }
    }
    return true;
}

/* Carries out the batch's next operation, with nothing else under way. */
static void executor_write_unaligned(struct weir_executor *executor, const struct weir_op *op)
{
    const struct weir__io_file *const file = executor->writer;
    const uint64_t block = file->block_bytes;
    struct executor_edges edges = {
        .op = op,
        .block = block,
        .first = weir__align_down(op->offset, block),
        .last = weir__align_up(op->offset + op->bytes, block),
        .end = op->offset + op->bytes,
    };
    struct weir__file_info info;

    int code = file->io->ops->info(file->io, file->file, &info);
    if (code == 0 && edges.last > executor_end_max(block)) {
        code = -EFBIG;
    }
    if (code != 0) {
        executor_fail(executor, executor->next, code);
        return;
    }
    const uint64_t last_block = edges.last - block;
    const bool one_block = last_block == edges.first;
    if (edges.first < op->offset || (one_block && edges.end < edges.last)) {
        edges.head = executor->edges;
        if (!edge_read(executor, executor->edges, edges.first)) {
            return;
        }
    }
    if (!one_block && edges.end < edges.last) {
        edges.tail = executor->edges + block;
        if (!edge_read(executor, executor->edges + block, last_block)) {
            return;
        }
    }
    const bool written = edges_write(executor, &edges);
    if (executor->broken != 0) {
        return;
    }
    const uint64_t length = weir__max_u64(info.bytes, edges.end);
    if (!written) {
        /* Nothing tells which parts got there: the padding may have. */
        code = file->io->ops->info(file->io, file->file, &info);
        if (code == 0 && info.bytes > length) {
            (void)file->io->ops->truncate(file->io, file->file, length);
        }
        return;
    }
    if (edges.last > length) {
        code = file->io->ops->truncate(file->io, file->file, length);
        if (code != 0) {
            executor_fail(executor, executor->next, code);
            return;
        }
    }
    executor->grown = weir__max_u64(executor->grown, length);
    executor->length = executor->grown;
    executor->next++;
}

/* Carries out the batch's next operation where it has to be alone. False: it has not. */
static bool executor_alone(struct weir_executor *executor, const struct weir_op *op)
{
    if (op->kind == WEIR_OP_SYNC && executor->sync_code != 0) {
        executor_fail(executor, executor->next, executor->sync_code);
        return true;
    }
    if (op_is_unaligned(executor, op)) {
        executor_write_unaligned(executor, op);
        return true;
    }
    return false;
}

static bool op_is_alone(const struct weir_executor *executor, const struct weir_op *op)
{
    return (op->kind == WEIR_OP_SYNC && executor->sync_code != 0) || op_is_unaligned(executor, op);
}

/* ---- in order -------------------------------------------------------------------------------- */

/* Fills a window from the next operation on. Returns how many are to be submitted. */
static unsigned window_fill(struct weir_executor *executor)
{
    unsigned count = 0;

    while (executor->next < executor->count && count < executor->window) {
        const struct weir_op *const op = weir__batch_op(executor->batch, executor->next);
        if (op_is_nothing(executor, op)) {
            executor_pass(executor, op);
            continue;
        }
        if (op_is_alone(executor, op)) {
            break;
        }
        place_fill(executor, count, op);
        executor->next++;
        count++;
    }
    return count;
}

static void execute_in_order(struct weir_executor *executor)
{
    while (executor->next < executor->count && executor->code == 0) {
        const unsigned count = window_fill(executor);
        if (count > 0) {
            executor->runs[0] = (struct weir__transfer_run){.ops = executor->ops, .count = count};
            (void)executor_carry(executor, 1);
        } else if (executor->next < executor->count) {
            executor_alone(executor, weir__batch_op(executor->batch, executor->next));
        }
    }
}

/* ---- side by side ---------------------------------------------------------------------------- */

/* Does it have to wait for one of those under way? */
static bool side_meets(const struct weir_executor *executor, const struct executor_range *range)
{
    for (unsigned i = 0; i < executor->active_count; i++) {
        const struct executor_range *const other = &executor->active[i];
        if (range->writes == other->writes) {
            if (range->writes && range->start < other->end && other->start < range->end) {
                return true;
            }
            continue;
        }
        const uint64_t start = range->writes ? range->reach : range->start;
        const uint64_t other_start = other->writes ? other->reach : other->start;
        if (executor->one_file && start < other->end && other_start < range->end) {
            return true;
        }
    }
    return false;
}

/* Puts the batch's next operation among those under way. */
static struct weir__transfer_run *
side_take(struct weir_executor *executor, const struct weir_op *op, struct executor_range range)
{
    const unsigned at = executor->unused[--executor->unused_count];

    place_fill(executor, at, op);
    range.place = at;
    executor->places[at].active = executor->active_count;
    executor->active[executor->active_count++] = range;
    executor->runs[at] = (struct weir__transfer_run){.ops = &executor->ops[at], .count = 1};
    executor->next++;
    return &executor->runs[at];
}

/* Takes as many operations as may go now. *all_out: before the next one can, all under way have to
 * come back. Returns how many are to be submitted. */
static unsigned side_fill(struct weir_executor *executor, bool *all_out)
{
    unsigned count = 0;

    *all_out = false;
    while (executor->next < executor->count && executor->code == 0 && executor->unused_count > 0 &&
           !executor->barrier) {
        const struct weir_op *const op = weir__batch_op(executor->batch, executor->next);
        if (op_is_nothing(executor, op)) {
            executor_pass(executor, op);
            continue;
        }
        const bool alone = op_is_alone(executor, op);
        if (executor->active_count > 0 &&
            (alone || (op->kind == WEIR_OP_SYNC && !WEIR__PLANTED(batch_no_barrier)))) {
            *all_out = true;
            break;
        }
        if (alone) {
            executor_alone(executor, op);
            continue;
        }
        struct executor_range range = {0};
        if (op->kind == WEIR_OP_SYNC) {
            executor->barrier = !WEIR__PLANTED(batch_no_barrier);
        } else {
            range = op_range(executor, op);
            if (side_meets(executor, &range)) {
                break;
            }
        }
        executor->starting[count++] = side_take(executor, op, range);
    }
    return count;
}

/* Index of the first operation under way. */
static size_t side_first(const struct weir_executor *executor)
{
    size_t first = SIZE_MAX;
    for (unsigned i = 0; i < executor->active_count; i++) {
        const size_t index = executor->places[executor->active[i].place].index;
        first = index < first ? index : first;
    }
    return first;
}

static void execute_side_by_side(struct weir_executor *executor)
{
    struct weir__transfer *const transfer = &executor->device.transfer;

    for (;;) {
        bool all;
        const unsigned count = side_fill(executor, &all);
        const int code =
            count > 0 ? weir__transfer_start_many(transfer, executor->starting, count) : 0;
        if (code != 0) {
            /* None of these was begun: they leave as they came. */
            executor->active_count -= count;
            executor->unused_count += count;
            executor->barrier = false;
            executor->next = executor->places[executor->starting[0] - executor->runs].index;
            executor_fail(executor, executor->next, code);
        }
        if (executor->active_count == 0) {
            if (executor->next == executor->count || executor->code != 0) {
                return;
            }
            continue;
        }
        all = all || executor->barrier || executor->code != 0 || executor->next == executor->count;
        if (!executor_reap(executor, all ? executor->active_count : 1)) {
            executor_fail(executor, side_first(executor), executor->broken);
            return;
        }
    }
}

/* ---- a batch --------------------------------------------------------------------------------- */

/* Memory for so many reads of so many bytes together, each in whole blocks. */
static int reads_reserve(struct weir_executor *executor, size_t count, uint64_t bytes)
{
    if (count > executor->reads_max) {
        const size_t more = weir__max_u64(count, 2 * executor->reads_max);
        if (more > SIZE_MAX / sizeof *executor->reads) {
            return -ENOMEM;
        }
        weir__mem_free(&executor->mem,
                       executor->reads,
                       executor->reads_max * sizeof *executor->reads);
        executor->reads_max = 0;
        executor->reads = weir__mem_alloc(&executor->mem, more * sizeof *executor->reads, 8);
        if (executor->reads == NULL) {
            return -ENOMEM;
        }
        executor->reads_max = more;
    }
    const bool spacious =
        executor->memory_bytes > EXECUTOR_KEEP_BYTES && executor->memory_bytes / 4 > bytes;
    if (bytes > executor->memory_bytes || spacious) {
        weir__mem_free_io(&executor->mem, executor->memory, executor->memory_bytes);
        executor->memory = NULL;
        executor->memory_bytes = 0;
        if (bytes > SIZE_MAX) {
            return -ENOMEM;
        }
        executor->memory = bytes > 0 ? weir__mem_alloc_io(&executor->mem, (size_t)bytes) : NULL;
        if (bytes > 0 && executor->memory == NULL) {
            return -ENOMEM;
        }
        executor->memory_bytes = (size_t)bytes;
    }
    return 0;
}

/* What can be refused before anything is carried out. */
static void executor_prepare(struct weir_executor *executor)
{
    size_t reads = 0;
    size_t first_read = 0;
    bool writes = false;
    uint64_t bytes = 0;
    int code = 0;

    for (size_t i = 0; i < executor->count; i++) {
        const struct weir_op *const op = weir__batch_op(executor->batch, i);
        const struct weir__io_file *const file =
            op->kind == WEIR_OP_READ ? executor->reader : executor->writer;
        if (file == NULL && op->kind != WEIR_OP_SYNC) {
            executor_fail(executor, i, -EINVAL);
            return;
        }
        writes |= op->kind == WEIR_OP_WRITE;
        if (op->kind != WEIR_OP_READ) {
            continue;
        }
        first_read = reads++ == 0 ? i : first_read;
        if (!op_is_nothing(executor, op)) {
            const struct executor_range range = op_range(executor, op);
            code = weir__add_u64(bytes, read_room(&range), &bytes) ? code : -ENOMEM;
        }
    }
    code = code != 0 ? code : reads_reserve(executor, reads, bytes);
    if (code != 0) {
        executor_fail(executor, first_read, code);
        return;
    }
    struct weir__file_info info;
    if (executor->side_by_side && executor->one_file && reads > 0 && writes &&
        executor->writer->io->ops->info(executor->writer->io, executor->writer->file, &info) == 0) {
        /* Not known: 0, and every write meets every read below its end. */
        executor->length = executor->grown = info.bytes;
    }
}

/* Tells what became of the batch, and takes out what was carried out. */
static void executor_conclude(struct weir_executor *executor,
                              struct weir_batch *batch,
                              bool begun,
                              struct weir_execution *execution)
{
    const size_t executed = !begun ? 0 : executor->code == 0 ? executor->count : executor->failed;

    *execution = (struct weir_execution){
        .executed = executed,
        .failed = executor->failed,
        .code = executor->code,
        .reads = executor->reads,
    };
    for (size_t i = 0; i < executed; i++) {
        execution->read_count += weir__batch_op(batch, i)->kind == WEIR_OP_READ;
    }
    if (begun && executor->code != 0 && (executor->side_by_side || executor->broken != 0)) {
        for (size_t i = executor->failed + 1; i < executor->next; i++) {
            execution->unsure += !op_is_nothing(executor, weir__batch_op(batch, i));
        }
    }
    if (executor->broken != 0) {
        weir__batch_abandon(batch);
    }
    if (WEIR__PLANTED(drained_rest_lost)) {
        weir__batch_drop(batch, executor->count);
        return;
    }
    weir__batch_drop(batch, executed);
}

int weir_executor_execute(struct weir_executor *executor,
                          struct weir_batch *batch,
                          struct weir_execution *execution_out)
{
    struct weir_execution execution;

    executor->batch = batch;
    executor->count = weir_batch_len(batch);
    executor->next = executor->next_read = executor->memory_at = executor->reads_over = 0;
    executor->failed = SIZE_MAX;
    executor->code = 0;
    executor->length = executor->grown = 0;
    if (executor->broken != 0) {
        executor_fail(executor, 0, executor->broken);
    } else {
        executor_prepare(executor);
    }
    const bool begun = executor->code == 0;
    if (begun && executor->side_by_side) {
        execute_side_by_side(executor);
    } else if (begun) {
        execute_in_order(executor);
    }
    executor_conclude(executor, batch, begun, &execution);
    executor->batch = NULL;
    if (execution_out != NULL) {
        *execution_out = execution;
    }
    return execution.code;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static int executor_refuse(int code, struct weir_error *error_out, const char *text)
{
    if (error_out != NULL) {
        *error_out = (struct weir_error){
            .code = code,
            .system_code = code < 0 && code >= -EXECUTOR_ERRNO_MAX ? -code : 0,
            .offset = UINT64_MAX,
            .lsn = UINT64_MAX,
        };
        (void)snprintf(error_out->text, sizeof error_out->text, "executor: %s", text);
    }
    return code;
}

/* What direct writes that are not of whole blocks go through. */
static int executor_open_edges(struct weir_executor *executor)
{
    if (executor->writer == NULL || !executor->writer->direct) {
        return 0;
    }
    const struct weir__io_device *const device = &executor->device;
    const size_t block = executor->writer->block_bytes;
    const size_t buffer_bytes = device->effective.config.buffer_bytes;
    const bool lent = device->buffers != NULL && buffer_bytes % block == 0;
    executor->piece_bytes =
        lent ? buffer_bytes : (size_t)weir__max_u64(EXECUTOR_PIECE_BYTES, block);
    const size_t pieces = lent ? device->buffers_bytes / buffer_bytes : EXECUTOR_PIECES;
    executor->piece_count = (unsigned)weir__min_u64(pieces, executor->places_max);
    executor->edges_bytes = 2 * block + (lent ? 0 : executor->piece_count * executor->piece_bytes);
    executor->edges = weir__mem_alloc(&executor->mem, executor->edges_bytes, EXECUTOR_PAGE);
    if (executor->edges == NULL) {
        return -ENOMEM;
    }
    executor->pieces = lent ? device->buffers : executor->edges + 2 * block;
    return 0;
}

static int executor_open_tables(struct weir_executor *executor)
{
    struct weir__mem *const mem = &executor->mem;
    const size_t count = executor->device.transfer.entries;

    executor->places_max = (unsigned)count;
    executor->places = weir__mem_alloc(mem, count * sizeof *executor->places, 8);
    executor->ops = weir__mem_alloc(mem, count * sizeof *executor->ops, 8);
    executor->iov = weir__mem_alloc(mem, count * sizeof *executor->iov, 8);
    executor->runs = weir__mem_alloc(mem, count * sizeof *executor->runs, 8);
    executor->starting = weir__mem_alloc(mem, count * sizeof(struct weir__transfer_run *), 8);
    executor->unused = weir__mem_alloc(mem, count * sizeof *executor->unused, 8);
    executor->active = weir__mem_alloc(mem, count * sizeof *executor->active, 8);
    if (executor->places == NULL || executor->ops == NULL || executor->iov == NULL ||
        executor->runs == NULL || executor->starting == NULL || executor->unused == NULL ||
        executor->active == NULL) {
        return -ENOMEM;
    }
    while (executor->unused_count < count) {
        /* Taken from the end: the first place first. */
        executor->unused[executor->unused_count] = (unsigned)count - 1 - executor->unused_count;
        executor->unused_count++;
    }
    return executor_open_edges(executor);
}

static void executor_close_tables(struct weir_executor *executor)
{
    struct weir__mem *const mem = &executor->mem;
    const size_t count = executor->places_max;

    if (executor->broken != 0) {
        /* The kernel may still look at these, or write into them. */
        weir__mem_abandon(mem, executor->iov, count * sizeof *executor->iov);
        weir__mem_abandon(mem, executor->edges, executor->edges_bytes);
        weir__mem_abandon(mem, executor->memory, weir__mem_io_bytes(executor->memory_bytes));
        executor->iov = NULL;
        executor->edges = NULL;
        executor->memory = NULL;
    }
    weir__mem_free(mem, executor->places, count * sizeof *executor->places);
    weir__mem_free(mem, executor->ops, count * sizeof *executor->ops);
    weir__mem_free(mem, executor->iov, count * sizeof *executor->iov);
    weir__mem_free(mem, executor->runs, count * sizeof *executor->runs);
    weir__mem_free(mem, executor->starting, count * sizeof(struct weir__transfer_run *));
    weir__mem_free(mem, executor->unused, count * sizeof *executor->unused);
    weir__mem_free(mem, executor->active, count * sizeof *executor->active);
    weir__mem_free(mem, executor->edges, executor->edges_bytes);
    weir__mem_free(mem, executor->reads, executor->reads_max * sizeof *executor->reads);
    weir__mem_free_io(mem, executor->memory, executor->memory_bytes);
}

/* May what is read be what was written? */
static bool executor_is_one_file(const struct weir__io_file *writer,
                                 const struct weir__io_file *reader)
{
    struct weir__file_info written;
    struct weir__file_info read;

    if (writer == NULL || reader == NULL) {
        return false;
    }
    if (writer->io->ops->info(writer->io, writer->file, &written) != 0 ||
        reader->io->ops->info(reader->io, reader->file, &read) != 0) {
        return true;
    }
    return written.device == read.device && written.inode == read.inode;
}

/* What the files make of the config. */
static void executor_set_effective(struct weir_executor *executor, bool direct_wanted)
{
    const struct weir__io_file *const files[] = {executor->writer, executor->reader};
    struct weir_io_effective *const effective = &executor->device.effective;

    effective->config.direct_io = true;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (files[i] == NULL) {
            continue;
        }
        effective->block_bytes =
            (uint32_t)weir__max_u64(effective->block_bytes, files[i]->block_bytes);
        if (files[i]->direct) {
            continue;
        }
        effective->config.direct_io = false;
        if (direct_wanted) {
            weir__io_device_refused(&executor->device,
                                    files[i]->note[0] != '\0'
                                        ? files[i]->note
                                        : "direct_io: a file was opened without it");
        }
    }
}

int weir__executor_open_on(const struct weir__io_file *writer,
                           const struct weir__io_file *reader,
                           const struct weir_io_config *config,
                           struct weir__io *seam,
                           unsigned flags,
                           struct weir_executor **executor_out,
                           struct weir_error *error_out)
{
    struct weir_io_config settled;
    struct weir__mem mem;
    struct weir__mem_hooks hooks = {0};

    if (writer == NULL && reader == NULL) {
        return executor_refuse(-EINVAL, error_out, "it needs a writer, a reader, or both");
    }
    if ((flags & ~(unsigned)WEIR_EXECUTOR_SIDE_BY_SIDE) != 0) {
        return executor_refuse(-EINVAL, error_out, "flags: WEIR_EXECUTOR_SIDE_BY_SIDE or 0");
    }
    int code = weir__io_config_settle(config, &settled, error_out);
    if (code != 0) {
        return code;
    }
    if (settled.memory != NULL) {
        hooks = (struct weir__mem_hooks){
            .alloc = settled.memory->alloc,
            .release = settled.memory->release,
            .ctx = settled.memory->ctx,
        };
    }
    weir__mem_init(&mem, settled.memory != NULL ? &hooks : NULL);
    struct weir_executor *const executor =
        weir__mem_alloc(&mem, sizeof *executor, _Alignof(struct weir_executor));
    if (executor == NULL) {
        weir__mem_exit(&mem);
        return executor_refuse(-ENOMEM, error_out, weir__code_text(-ENOMEM));
    }
    executor->mem = mem;
    code = weir__io_device_open(&executor->device, &settled, seam, true, error_out);
    if (code != 0) {
        weir__mem_free(&mem, executor, sizeof *executor);
        weir__mem_exit(&mem);
        return code;
    }
    const struct weir_io_config *const effective = &executor->device.effective.config;
    executor->device.transfer.ended = executor_ended;
    executor->device.transfer.ctx = executor;
    executor->writer = writer;
    executor->reader = reader;
    executor->side_by_side = (flags & WEIR_EXECUTOR_SIDE_BY_SIDE) != 0;
    executor->one_file = executor_is_one_file(writer, reader);
    executor->window = executor->device.transfer.entries;
    if (effective->backend == WEIR_IO_BACKEND_URING) {
        /* A linked run goes out in one piece. */
        executor->window = (unsigned)weir__min_u64(executor->window, effective->sq_entries);
    }
    code = executor_open_tables(executor);
    if (code != 0) {
        weir_executor_close(executor);
        return executor_refuse(code, error_out, weir__code_text(code));
    }
    executor_set_effective(executor, settled.direct_io);
    *executor_out = executor;
    return 0;
}

/* The seam that a file was opened through, NULL if it is the system's. */
static struct weir__io *executor_seam(const struct weir__io_file *file)
{
    return file->io == weir__io_system() || file->io == weir__io_system_pool() ? NULL : file->io;
}

int weir_executor_open(struct weir_writer *writer,
                       struct weir_reader *reader,
                       const struct weir_io_config *config,
                       unsigned flags,
                       struct weir_executor **executor_out,
                       struct weir_error *error_out)
{
    const struct weir__io_file *const write_to = writer != NULL ? weir__writer_file(writer) : NULL;
    const struct weir__io_file *const read_from = reader != NULL ? weir__reader_file(reader) : NULL;
    struct weir__io *seam = NULL;

    if (writer != NULL) {
        config = config != NULL ? config : &writer->config;
        seam = executor_seam(write_to);
    } else if (reader != NULL) {
        config = config != NULL ? config : weir__reader_config(reader);
        seam = executor_seam(read_from);
    }
    return weir__executor_open_on(write_to,
                                  read_from,
                                  config,
                                  seam,
                                  flags,
                                  executor_out,
                                  error_out);
}

int weir_executor_for_writer(struct weir_writer *writer,
                             struct weir_executor **executor_out,
                             struct weir_error *error_out)
{
    return weir_executor_open(writer, NULL, NULL, 0, executor_out, error_out);
}

int weir_executor_for_reader(struct weir_reader *reader,
                             struct weir_executor **executor_out,
                             struct weir_error *error_out)
{
    return weir_executor_open(NULL, reader, NULL, 0, executor_out, error_out);
}

void weir_executor_effective(struct weir_executor *executor,
                             struct weir_io_effective *effective_out)
{
    *effective_out = executor->device.effective;
}

void weir_executor_stats(struct weir_executor *executor, struct weir_io_stats *stats_out)
{
    weir__io_device_stats(&executor->device, stats_out);
}

void weir_executor_close(struct weir_executor *executor)
{
    if (executor == NULL) {
        return;
    }
    executor_close_tables(executor);
    weir__io_device_close(&executor->device);
    struct weir__mem mem = executor->mem;
    weir__mem_free(&mem, executor, sizeof *executor);
    weir__mem_exit(&mem);
}
