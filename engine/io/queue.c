/* SPDX-License-Identifier: Apache-2.0
 * Operations of the caller's own, many at once.
 *
 * The happy path: a submit fills an entry of the table per request, each a run of one operation,
 * and starts them all in one submission; a wait reaps, which calls back for what has ended; such
 * entries stand in a list until a wait has room to hand them out, and are free again then. Short
 * results are the transfer's business: an entry ends once.
 *
 * What can fail: a request by its own error, which is its end; a submission, of which nothing was
 * begun then; the ring itself, after which nothing is taken any more, and what had ended before is
 * still handed out. One thread at a time; the figures from any. */
#include "io/queue.h"

#include "base/check.h"
#include "base/err.h"
#include "base/num.h"
#include "port/clock.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Direct descriptors want multiples of a power of two between these; see entry_block. */
#define QUEUE_BLOCK_MIN 512u
#define QUEUE_BLOCK_MAX 4096u

struct queue_entry {
    struct weir__transfer_run run;
    struct weir__transfer_op op;
    struct iovec iov;
    struct queue_entry *next; /* in the free list or among the ended */
    void *user;
    int64_t result;
};

struct weir_io_queue {
    struct weir__mem mem; /* of this block and the tables */
    struct weir__io_device device;
    uint32_t buffer_count;
    int code; /* what broke the ring, for good; 0 */
    unsigned count;
    unsigned active; /* entries whose run has not ended */
    unsigned ended;  /* entries not yet handed out */
    struct queue_entry *free;
    struct queue_entry *ended_first;
    struct queue_entry *ended_last;
    struct queue_entry *entries;          /* count of them */
    struct weir__transfer_run **starting; /* count of them */
};

/* ---- opening and closing --------------------------------------------------------------------- */

static void queue_free(struct weir_io_queue *queue)
{
    struct weir__mem mem = queue->mem;
    const size_t count = queue->count;

    weir__mem_free(&mem, queue->starting, count * sizeof(struct weir__transfer_run *));
    weir__mem_free(&mem, queue->entries, count * sizeof *queue->entries);
    weir__mem_free(&mem, queue, sizeof *queue);
    weir__mem_exit(&mem);
}

static int queue_no_memory(struct weir_error *error_out)
{
    if (error_out != NULL) {
        *error_out = (struct weir_error){
            .code = -ENOMEM,
            .system_code = ENOMEM,
            .offset = UINT64_MAX,
            .lsn = UINT64_MAX,
        };
        (void)snprintf(error_out->text,
                       sizeof error_out->text,
                       "no memory for a queue: %s",
                       weir__code_text(-ENOMEM));
    }
    return -ENOMEM;
}

/* A request's operation has come to its end. */
static void queue_ended(void *ctx, struct weir__transfer_run *run, int code)
{
    struct weir_io_queue *const queue = ctx;
    struct queue_entry *const entry = run->user;

    weir__check(queue->active > 0);
    entry->result = code != 0 ? code : (int64_t)entry->op.done;
    entry->next = NULL;
    if (queue->ended_last == NULL) {
        queue->ended_first = entry;
    } else {
        queue->ended_last->next = entry;
    }
    queue->ended_last = entry;
    queue->active--;
    queue->ended++;
}

static int queue_tables(struct weir_io_queue *queue)
{
    const unsigned count = queue->device.transfer.entries;

    queue->count = count;
    queue->entries = weir__mem_alloc(&queue->mem, count * sizeof *queue->entries, 8);
    queue->starting = weir__mem_alloc(&queue->mem, count * sizeof(struct weir__transfer_run *), 8);
    if (queue->entries == NULL || queue->starting == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = count; i > 0; i--) {
        queue->entries[i - 1].next = queue->free;
        queue->free = &queue->entries[i - 1];
    }
    return 0;
}

int weir__io_queue_open_with(const struct weir_io_config *config,
                             struct weir__io *seam,
                             struct weir_io_queue **queue_out,
                             struct weir_error *error_out)
{
    struct weir_io_config settled;
    struct weir__mem mem;

    int code = weir__io_config_settle(config, &settled, error_out);
    if (code != 0) {
        return code;
    }
    weir__io_memory(&mem, settled.memory);
    struct weir_io_queue *const queue =
        weir__mem_alloc(&mem, sizeof *queue, _Alignof(struct weir_io_queue));
    if (queue == NULL) {
        weir__mem_exit(&mem);
        return queue_no_memory(error_out);
    }
    queue->mem = mem;
    code = weir__io_device_open(&queue->device, &settled, seam, true, error_out);
    if (code != 0) {
        queue_free(queue);
        return code;
    }
    queue->buffer_count = settled.registered_buffers;
    queue->device.transfer.ended = queue_ended;
    queue->device.transfer.ctx = queue;
    code = queue_tables(queue);
    if (code != 0) {
        weir__io_device_close(&queue->device);
        queue_free(queue);
        return queue_no_memory(error_out);
    }
    *queue_out = queue;
    return 0;
}

int weir_io_queue_open(const struct weir_io_config *config,
                       struct weir_io_queue **queue_out,
                       struct weir_error *error_out)
{
    return weir__io_queue_open_with(config, NULL, queue_out, error_out);
}

void weir_io_queue_close(struct weir_io_queue *queue)
{
    if (queue == NULL) {
        return;
    }
    weir__io_device_close(&queue->device);
    if (queue->device.transfer.broken) {
        /* The kernel may still look at the entries' vectors. */
        weir__mem_abandon(&queue->mem, queue->entries, queue->count * sizeof *queue->entries);
        queue->entries = NULL;
    }
    queue_free(queue);
}

/* ---- submitting ------------------------------------------------------------------------------ */

static bool request_is_valid(const struct weir_io_request *request)
{
    if (request->kind == WEIR_OP_SYNC) {
        return true;
    }
    if (request->kind != WEIR_OP_WRITE && request->kind != WEIR_OP_READ) {
        return false;
    }
    return (request->data != NULL || request->bytes == 0) && request->offset <= INT64_MAX &&
           request->bytes <= INT64_MAX - request->offset;
}

/* What a short read goes on from a multiple of. Whether the descriptor is a direct one we are not
 * told; but if it is, the request is a multiple of the device's block, which is one of these, and
 * must stay one. A short write goes on from where it stopped: what a direct one wrote is a multiple
 * already, and a plain one may have stopped at a limit that is none. */
static uint32_t entry_block(const struct weir_io_request *request)
{
    const uint64_t place = request->offset | request->bytes;

    if (request->kind != WEIR_OP_READ) {
        return 1;
    }
    return place % QUEUE_BLOCK_MAX == 0   ? QUEUE_BLOCK_MAX
           : place % QUEUE_BLOCK_MIN == 0 ? QUEUE_BLOCK_MIN
                                          : 1;
}

static void entry_prepare(struct queue_entry *entry, const struct weir_io_request *request)
{
    const bool sync = request->kind == WEIR_OP_SYNC;

    entry->user = request->user;
    entry->iov = (struct iovec){.iov_base = request->data, .iov_len = request->bytes};
    entry->op = (struct weir__transfer_op){
        .kind = sync                             ? WEIR__OP_SYNC
                : request->kind == WEIR_OP_WRITE ? WEIR__OP_WRITE
                                                 : WEIR__OP_READ,
        .file = request->fd,
        .dsync = request->kind == WEIR_OP_WRITE && request->durable,
        .block_bytes = entry_block(request),
        .iov = &entry->iov,
        .iov_count = sync ? 0 : 1,
        .offset = sync ? 0 : request->offset,
        .bytes = sync ? 0 : request->bytes,
    };
    entry->run = (struct weir__transfer_run){.ops = &entry->op, .count = 1, .user = entry};
}

int weir_io_queue_submit(struct weir_io_queue *queue,
                         const struct weir_io_request *requests,
                         size_t count)
{
    unsigned taken = 0;
    struct queue_entry *free = queue->free;

    if (queue->code != 0) {
        return queue->code;
    }
    if (requests == NULL && count > 0) {
        return -EINVAL;
    }
    for (; taken < count && free != NULL && request_is_valid(&requests[taken]); taken++) {
        entry_prepare(free, &requests[taken]);
        queue->starting[taken] = &free->run;
        free = free->next;
    }
    if (taken == 0) {
        return count == 0 ? 0 : free == NULL ? -EAGAIN : -EINVAL;
    }
    const int code = weir__transfer_start_many(&queue->device.transfer, queue->starting, taken);
    if (code != 0) {
        return code;
    }
    queue->free = free;
    queue->active += taken;
    return (int)taken;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Hands out what has ended. */
static size_t queue_take(struct weir_io_queue *queue, struct weir_io_end *ends, size_t max)
{
    size_t count = 0;

    for (; count < max && queue->ended > 0; count++) {
        struct queue_entry *const entry = queue->ended_first;
        ends[count] = (struct weir_io_end){.user = entry->user, .result = entry->result};
        queue->ended_first = entry->next;
        if (entry->next == NULL) {
            queue->ended_last = NULL;
        }
        queue->ended--;
        entry->next = queue->free;
        queue->free = entry;
    }
    return count;
}

/* Reaps until `want` entries have ended (or all of them), or time is up. */
static int queue_reap(struct weir_io_queue *queue, size_t want, int64_t timeout_ns)
{
    const bool tries = timeout_ns == WEIR_TRY;
    const uint64_t deadline_ns = tries ? 0 : weir__deadline(timeout_ns);
    const size_t due = (size_t)weir__min_u64(want, queue->ended + queue->active);

    do {
        const unsigned missing = due > queue->ended ? (unsigned)(due - queue->ended) : 0;
        const int got =
            weir__transfer_reap(&queue->device.transfer, tries ? 0 : missing, deadline_ns);
        if (got < 0) {
            return got;
        }
        if (got == 0 && (tries || (timeout_ns > 0 && weir__now_ns() >= deadline_ns))) {
            break;
        }
        /* Short ones went out again: what has come back need not have ended. */
    } while (queue->ended < due);
    return 0;
}

int weir_io_queue_wait(struct weir_io_queue *queue,
                       struct weir_io_end *ends,
                       size_t max,
                       size_t min,
                       int64_t timeout_ns)
{
    if (ends == NULL && max > 0) {
        return -EINVAL;
    }
    max = (size_t)weir__min_u64(max, INT_MAX);
    min = (size_t)weir__min_u64(max, min);
    if (queue->active > 0 && queue->ended < max && queue->code == 0) {
        queue->code = queue_reap(queue, min, timeout_ns);
    }
    const size_t count = queue_take(queue, ends, max);
    return count == 0 ? queue->code : (int)count;
}

/* ---- questions ------------------------------------------------------------------------------- */

void *weir_io_queue_buffer(struct weir_io_queue *queue, uint32_t index)
{
    return index < queue->buffer_count ? weir__io_device_buffer(&queue->device, index) : NULL;
}

void weir_io_queue_effective(struct weir_io_queue *queue, struct weir_io_effective *effective_out)
{
    *effective_out = queue->device.effective;
}

void weir_io_queue_stats(struct weir_io_queue *queue, struct weir_io_stats *stats_out)
{
    weir__io_device_stats(&queue->device, stats_out);
}

struct weir__io_device *weir__io_queue_device(struct weir_io_queue *queue)
{
    return &queue->device;
}
