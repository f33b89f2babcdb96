/* SPDX-License-Identifier: Apache-2.0
 * Carrying out the operations of a batch.
 *
 * The happy path, in order: windows of up to max_inflight operations go out, each as one linked run
 * and one submission; the run's end is waited for, and the next window begins. Side by side: each
 * operation is a run of its own, as many as there is room for are submitted together, and as they
 * come back further ones follow; an operation that meets one under way waits for it, a Sync for all
 * of them, and all behind it for the Sync.
 *
 * Two operations meet where the bytes that they touch overlap and one is a write. A write beyond
 * the end of the file touches all that lies between for whoever reads there: it is a hole then, and
 * was no part of the file before.
 *
 * Direct files: what is read comes in whole blocks into memory of ours, and the result points to
 * the bytes asked for. A write of whole blocks goes out from where it lies. Any other is carried
 * out alone, with nothing else under way, through buffers: its edge blocks are read, completed and
 * written with the rest, and a file that has got longer by padding is cut back. Until the cut the
 * padding can be seen, and where cutting fails it stays: the operation fails then.
 *
 * Syncs go by turns with those of the writer and of other executors on it (io/syncs.h): a window
 * with one in it goes out in our turn, which ends with it.
 *
 * What can fail: each operation. In order, none behind it was begun. Side by side, what was under
 * way is seen to its end, and the lowest failed index counts. A failed Sync is final: the kernel
 * may have dropped what it could not write, so the next one would report success over a loss; every
 * later Sync of the file fails as it did, whoever asks for it. A queue that breaks leaves all that
 * it had been given alone for good.
 *
 * One thread at a time, not always the same. */
#include "base/check.h"
#include "base/num.h"
#include "base/plant.h"
#include "io/executor_state.h"
#include "port/clock.h"

#include <errno.h>
#include <string.h>

/* Memory for direct operations is aligned to the file's block, but no device wants more than this.
 */
#define EXECUTOR_PAGE UINT64_C(4096)
/* What is read stands at a multiple of this, or of the file's block. */
#define EXECUTOR_READ_ALIGN 64u
#define NO_READ SIZE_MAX

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

bool weir__executor_is_nothing(const struct weir_executor *executor, const struct weir_op *op)
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

static uint64_t range_room(const struct executor_range *range)
{
    return weir__align_up(range->end - range->start, EXECUTOR_READ_ALIGN);
}

uint64_t weir__executor_read_room(const struct weir_executor *executor, const struct weir_op *op)
{
    const struct executor_range range = op_range(executor, op);
    return range_room(&range);
}

void weir__executor_fail(struct weir_executor *executor, size_t index, int code)
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

    weir__check(slot < executor->active_count && range->place == at);
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

/* Our turn is over, if we have it. */
static void sync_leave(struct weir_executor *executor, int code)
{
    if (executor->sync_turn) {
        executor->sync_turn = false;
        weir__io_syncs_leave(executor->syncs, code);
    }
}

/* Before a Sync goes out: waits for our turn. False: a sync of the file has failed, and none may
 * tell otherwise any more. */
static bool sync_take(struct weir_executor *executor)
{
    if (!executor->sync_turn) {
        weir__io_syncs_take(executor->syncs);
        executor->sync_turn = true;
        executor->sync_code = weir__io_syncs_failed(executor->syncs);
    }
    if (executor->sync_code != 0) {
        sync_leave(executor, 0);
    }
    return executor->sync_code == 0;
}

void weir__executor_ended(void *ctx, struct weir__transfer_run *run, int code)
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
            sync_leave(executor, code);
        }
        weir__executor_fail(executor, executor->places[first + run->first].index, code);
    }
    if (run->ops[run->count - 1].kind == WEIR__OP_SYNC || !executor->side_by_side) {
        sync_leave(executor, 0);
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
        executor->memory_at += (size_t)range_room(&range);
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
        /* A Sync under way may have failed. */
        sync_leave(executor, count);
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
        sync_leave(executor, 0);
        weir__executor_fail(executor, index, code);
        return false;
    }
    while (transfer->in_flight > 0) {
        if (!executor_reap(executor, transfer->in_flight)) {
            weir__executor_fail(executor,
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
        weir__executor_fail(executor, executor->next, code);
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
    /* Where it failed nothing tells which parts got there: the padding may have. */
    code = edges.last > length ? weir__io_file_unpad(file, length, edges.last) : 0;
    if (!written) {
        return;
    }
    if (code != 0) {
        weir__executor_fail(executor, executor->next, code);
        return;
    }
    executor->grown = weir__max_u64(executor->grown, length);
    executor->length = executor->grown;
    executor->next++;
}

/* Has it to be carried out with nothing else under way, by executor_alone? */
static bool op_is_alone(const struct weir_executor *executor, const struct weir_op *op)
{
    return (op->kind == WEIR_OP_SYNC && executor->sync_code != 0) || op_is_unaligned(executor, op);
}

/* Carries out the batch's next operation, which is such a one. */
static void executor_alone(struct weir_executor *executor, const struct weir_op *op)
{
    if (op->kind == WEIR_OP_SYNC) {
        weir__executor_fail(executor, executor->next, executor->sync_code);
    } else {
        executor_write_unaligned(executor, op);
    }
}

/* ---- in order -------------------------------------------------------------------------------- */

/* Fills a window from the next operation on. Returns how many are to be submitted. */
static unsigned window_fill(struct weir_executor *executor)
{
    unsigned count = 0;

    while (executor->next < executor->count && count < executor->places_max) {
        const struct weir_op *const op = weir__batch_op(executor->batch, executor->next);
        if (weir__executor_is_nothing(executor, op)) {
            executor_pass(executor, op);
            continue;
        }
        if (op_is_alone(executor, op)) {
            break;
        }
        /* The kernel's polling thread takes entries when it likes, and may take a part of a run and
         * lack memory for the next: the rest then starts as a run of its own. A Sync must not be
         * such a rest, nor run beside one, so it goes out alone. */
        const bool sync_alone =
            op->kind == WEIR_OP_SYNC && executor->device.effective.config.kernel_poll;
        if ((sync_alone && count > 0) || (op->kind == WEIR_OP_SYNC && !sync_take(executor))) {
            break;
        }
        place_fill(executor, count, op);
        executor->next++;
        count++;
        if (sync_alone) {
            break;
        }
    }
    return count;
}

void weir__executor_in_order(struct weir_executor *executor)
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
        if (weir__executor_is_nothing(executor, op)) {
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
            if (!sync_take(executor)) {
                continue;
            }
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

void weir__executor_side_by_side(struct weir_executor *executor)
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
            sync_leave(executor, 0);
            executor->next = executor->places[executor->starting[0] - executor->runs].index;
            weir__executor_fail(executor, executor->next, code);
        }
        if (executor->active_count == 0) {
            if (executor->next == executor->count || executor->code != 0) {
                return;
            }
            continue;
        }
        all = all || executor->barrier || executor->code != 0 || executor->next == executor->count;
        if (!executor_reap(executor, all ? executor->active_count : 1)) {
            weir__executor_fail(executor, side_first(executor), executor->broken);
            return;
        }
    }
}
