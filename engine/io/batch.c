/* SPDX-License-Identifier: Apache-2.0
 * A list of operations, with the data of its writes.
 *
 * The happy path: an operation is put at the end of an array that doubles when it is full; its data
 * are copied into the chunk in use, at the bottom where they are large (each at a page's start), at
 * the top, downwards, where they are small. A chunk never moves and never grows, so neither do
 * data. When the last operation with data in a chunk leaves the batch, the chunk is kept for the
 * next ones, up to a bound: a batch that is filled and emptied again and again allocates nothing.
 *
 * What can fail: memory, and then nothing has changed, because the entry is written last. One
 * thread at a time. */
#include "io/batch.h"

#include "base/check.h"
#include "base/num.h"
#include "io/device.h"

#include <errno.h>
#include <string.h>

#define BATCH_ENTRIES_FIRST ((size_t)64)
/* Chunks double from the first size to the second; larger data get a chunk of their own. */
#define BATCH_CHUNK_FIRST ((size_t)16 << 10)
#define BATCH_CHUNK_LAST ((size_t)1 << 20)
/* What an empty batch holds on to. */
#define BATCH_SPARE_BYTES ((size_t)4 << 20)
#define BATCH_SMALL_ALIGN ((size_t)8)
/* Positions of a file end here. */
#define BATCH_OFFSET_MAX (UINT64_C(1) << 63)

/* Stands at the end of its memory, so that the memory's start is a page's. */
struct batch_chunk {
    struct batch_chunk *next;
    uint8_t *memory;
    size_t bytes; /* all of it, this struct included */
    size_t low;   /* free from here */
    size_t high;  /* to here */
    size_t live;  /* operations in the batch that have data in it */
};

struct batch_entry {
    struct weir_op op;
    struct batch_chunk *chunk; /* of its data; NULL: it has none */
};

struct batch_list {
    struct batch_entry *entries;
    size_t capacity;
    size_t count;
    struct batch_chunk *chunks; /* in use; the first one takes small data */
    struct batch_chunk *spares;
    size_t spare_bytes;
    size_t chunk_bytes; /* of the next one */
    size_t write_ops;
    size_t sync_ops;
    uint64_t write_bytes;
    uint64_t read_bytes;
    bool abandoned;
};

struct weir_batch {
    struct weir__mem mem;
    struct batch_list list;
};

/* ---- chunks ---------------------------------------------------------------------------------- */

static void chunk_reset(struct batch_chunk *chunk)
{
    chunk->next = NULL;
    chunk->low = 0;
    chunk->high = chunk->bytes - sizeof *chunk;
    chunk->live = 0;
}

static struct batch_chunk *chunk_new(struct weir__mem *mem, size_t bytes)
{
    uint8_t *const memory = weir__mem_alloc(mem, bytes, WEIR__BATCH_ALIGN);
    if (memory == NULL) {
        return NULL;
    }
    void *const end = memory + bytes - sizeof(struct batch_chunk);
    struct batch_chunk *const chunk = end;
    chunk->memory = memory;
    chunk->bytes = bytes;
    chunk_reset(chunk);
    return chunk;
}

static void chunk_free(struct weir__mem *mem, struct batch_chunk *chunk, bool abandoned)
{
    if (abandoned) {
        weir__mem_abandon(mem, chunk->memory, chunk->bytes);
    } else {
        weir__mem_free(mem, chunk->memory, chunk->bytes);
    }
}

static void chunks_free(struct weir__mem *mem, struct batch_chunk *first, bool abandoned)
{
    while (first != NULL) {
        struct batch_chunk *const next = first->next;
        chunk_free(mem, first, abandoned);
        first = next;
    }
}

/* Nothing lives in it any more. */
static void chunk_retire(struct weir__mem *mem, struct batch_list *list, struct batch_chunk *chunk)
{
    if (list->abandoned || chunk->bytes > BATCH_CHUNK_LAST ||
        chunk->bytes > BATCH_SPARE_BYTES - list->spare_bytes) {
        chunk_free(mem, chunk, list->abandoned);
        return;
    }
    chunk_reset(chunk);
    chunk->next = list->spares;
    list->spares = chunk;
    list->spare_bytes += chunk->bytes;
}

static size_t data_align(size_t bytes)
{
    return bytes >= WEIR__BATCH_ALIGNED_BYTES ? WEIR__BATCH_ALIGN
           : bytes >= WEIR__BATCH_SECTOR      ? WEIR__BATCH_SECTOR
                                              : BATCH_SMALL_ALIGN;
}

/* Room for data in a chunk; NULL: there is none. */
static uint8_t *chunk_take(struct batch_chunk *chunk, size_t bytes)
{
    const size_t align = data_align(bytes);
    if (align == WEIR__BATCH_ALIGN) {
        const size_t at = (size_t)weir__align_up(chunk->low, align);
        if (at > chunk->high || bytes > chunk->high - at) {
            return NULL;
        }
        chunk->low = at + bytes;
        return chunk->memory + at;
    }
    if (bytes > chunk->high) {
        return NULL;
    }
    const size_t at = (size_t)weir__align_down(chunk->high - bytes, align);
    if (at < chunk->low) {
        return NULL;
    }
    chunk->high = at;
    return chunk->memory + at;
}

/* Data of a length fit into an empty chunk of so many bytes? */
static bool chunk_suits(size_t chunk_bytes, size_t bytes)
{
    return chunk_bytes >= sizeof(struct batch_chunk) + WEIR__BATCH_SECTOR &&
           bytes <= chunk_bytes - sizeof(struct batch_chunk) - WEIR__BATCH_SECTOR;
}

static struct batch_chunk *spare_take(struct batch_list *list, size_t bytes)
{
    for (struct batch_chunk **at = &list->spares; *at != NULL; at = &(*at)->next) {
        struct batch_chunk *const chunk = *at;
        if (chunk_suits(chunk->bytes, bytes)) {
            *at = chunk->next;
            list->spare_bytes -= chunk->bytes;
            return chunk;
        }
    }
    return NULL;
}

/* An empty chunk that data of this length fit into, put in use. NULL: no memory. */
static struct batch_chunk *chunk_add(struct weir__mem *mem, struct batch_list *list, size_t bytes)
{
    struct batch_chunk *chunk = spare_take(list, bytes);
    if (chunk == NULL && bytes <= list->chunk_bytes / 4) {
        chunk = chunk_new(mem, list->chunk_bytes);
        if (chunk != NULL && list->chunk_bytes < BATCH_CHUNK_LAST) {
            list->chunk_bytes *= 2;
        }
    } else if (chunk == NULL) {
        /* Its own: the rest of the chunk in use is not given up for it. */
        uint64_t own;
        if (!weir__add_u64(bytes, sizeof *chunk + WEIR__BATCH_SECTOR + BATCH_SMALL_ALIGN, &own) ||
            own > SIZE_MAX) {
            return NULL;
        }
        chunk = chunk_new(mem, (size_t)weir__align_down(own, BATCH_SMALL_ALIGN));
        if (chunk != NULL && list->chunks != NULL) {
            chunk->next = list->chunks->next;
            list->chunks->next = chunk;
            return chunk;
        }
    }
    if (chunk != NULL) {
        chunk->next = list->chunks;
        list->chunks = chunk;
    }
    return chunk;
}

/* ---- the list -------------------------------------------------------------------------------- */

static void list_free(struct weir__mem *mem, struct batch_list *list)
{
    chunks_free(mem, list->chunks, list->abandoned);
    chunks_free(mem, list->spares, list->abandoned);
    weir__mem_free(mem, list->entries, list->capacity * sizeof *list->entries);
}

static bool list_reserve(struct weir__mem *mem, struct batch_list *list)
{
    if (list->count < list->capacity) {
        return true;
    }
    const size_t capacity = list->capacity == 0 ? BATCH_ENTRIES_FIRST : list->capacity * 2;
    if (capacity > SIZE_MAX / sizeof *list->entries) {
        return false;
    }
    struct batch_entry *const entries =
        weir__mem_alloc(mem, capacity * sizeof *entries, _Alignof(struct batch_entry));
    if (entries == NULL) {
        return false;
    }
    if (list->count > 0) {
        memcpy(entries, list->entries, list->count * sizeof *entries);
    }
    weir__mem_free(mem, list->entries, list->capacity * sizeof *list->entries);
    list->entries = entries;
    list->capacity = capacity;
    return true;
}

static void list_count(struct batch_list *list, const struct weir_op *op)
{
    list->write_ops += op->kind == WEIR_OP_WRITE;
    list->sync_ops += op->kind == WEIR_OP_SYNC;
    list->write_bytes += op->kind == WEIR_OP_WRITE ? op->bytes : 0;
    list->read_bytes += op->kind == WEIR_OP_READ ? op->bytes : 0;
}

static void list_count_out(struct batch_list *list, const struct weir_op *op)
{
    list->write_ops -= op->kind == WEIR_OP_WRITE;
    list->sync_ops -= op->kind == WEIR_OP_SYNC;
    list->write_bytes -= op->kind == WEIR_OP_WRITE ? op->bytes : 0;
    list->read_bytes -= op->kind == WEIR_OP_READ ? op->bytes : 0;
}

/* Retires the chunks that nothing lives in. */
static void list_sweep(struct weir__mem *mem, struct batch_list *list)
{
    struct batch_chunk **at = &list->chunks;
    while (*at != NULL) {
        struct batch_chunk *const chunk = *at;
        if (chunk->live > 0) {
            at = &chunk->next;
            continue;
        }
        *at = chunk->next;
        chunk_retire(mem, list, chunk);
    }
}

static void list_drop(struct weir__mem *mem, struct batch_list *list, size_t count)
{
    weir__check(count <= list->count);
    bool emptied = false;
    for (size_t i = 0; i < count; i++) {
        const struct batch_entry *const entry = &list->entries[i];
        list_count_out(list, &entry->op);
        if (entry->chunk != NULL) {
            weir__check(entry->chunk->live > 0);
            emptied |= --entry->chunk->live == 0;
        }
    }
    if (count > 0) {
        list->count -= count;
        memmove(list->entries, list->entries + count, list->count * sizeof *list->entries);
    }
    if (emptied) {
        list_sweep(mem, list);
    }
}

/* Puts an operation at the end. 0, or -ENOMEM with everything as it was. */
static int list_add(struct weir__mem *mem, struct batch_list *list, const struct weir_op *op)
{
    struct batch_entry entry = {.op = *op};

    if (!list_reserve(mem, list)) {
        return -ENOMEM;
    }
    if (op->kind == WEIR_OP_WRITE && op->bytes > 0) {
        uint8_t *data = list->chunks == NULL ? NULL : chunk_take(list->chunks, op->bytes);
        entry.chunk = list->chunks;
        if (data == NULL) {
            entry.chunk = chunk_add(mem, list, op->bytes);
            if (entry.chunk == NULL) {
                return -ENOMEM;
            }
            data = chunk_take(entry.chunk, op->bytes);
            weir__check(data != NULL);
        }
        memcpy(data, op->data, op->bytes);
        entry.op.data = data;
        entry.chunk->live++;
    }
    list_count(list, &entry.op);
    list->entries[list->count++] = entry;
    return 0;
}

/* ---- the public batch ------------------------------------------------------------------------ */

int weir_batch_new(const struct weir_memory_hooks *memory, struct weir_batch **batch_out)
{
    struct weir__mem mem;

    weir__io_memory(&mem, memory);
    struct weir_batch *const batch =
        weir__mem_alloc(&mem, sizeof *batch, _Alignof(struct weir_batch));
    if (batch == NULL) {
        weir__mem_exit(&mem);
        return -ENOMEM;
    }
    batch->mem = mem;
    batch->list.chunk_bytes = BATCH_CHUNK_FIRST;
    *batch_out = batch;
    return 0;
}

void weir_batch_free(struct weir_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    list_free(&batch->mem, &batch->list);
    struct weir__mem mem = batch->mem;
    weir__mem_free(&mem, batch, sizeof *batch);
    weir__mem_exit(&mem);
}

static bool range_fits(uint64_t offset, size_t bytes)
{
    return offset <= BATCH_OFFSET_MAX && bytes <= BATCH_OFFSET_MAX - offset;
}

int weir_batch_write(struct weir_batch *batch, uint64_t offset, const void *data, size_t bytes)
{
    if (batch == NULL || (data == NULL && bytes > 0)) {
        return -EINVAL;
    }
    if (!range_fits(offset, bytes)) {
        return -EFBIG;
    }
    return list_add(&batch->mem,
                    &batch->list,
                    &(struct weir_op){
                        .kind = WEIR_OP_WRITE,
                        .offset = offset,
                        .data = bytes > 0 ? data : NULL,
                        .bytes = bytes,
                    });
}

int weir_batch_read(struct weir_batch *batch, uint64_t offset, size_t bytes)
{
    if (batch == NULL) {
        return -EINVAL;
    }
    if (!range_fits(offset, bytes)) {
        return -EFBIG;
    }
    return list_add(&batch->mem,
                    &batch->list,
                    &(struct weir_op){.kind = WEIR_OP_READ, .offset = offset, .bytes = bytes});
}

int weir_batch_sync(struct weir_batch *batch)
{
    if (batch == NULL) {
        return -EINVAL;
    }
    return list_add(&batch->mem, &batch->list, &(struct weir_op){.kind = WEIR_OP_SYNC});
}

size_t weir_batch_len(const struct weir_batch *batch)
{
    return batch->list.count;
}

bool weir_batch_is_empty(const struct weir_batch *batch)
{
    return batch->list.count == 0;
}

void weir_batch_clear(struct weir_batch *batch)
{
    list_drop(&batch->mem, &batch->list, batch->list.count);
}

void weir_batch_drain(struct weir_batch *batch,
                      void (*take)(void *ctx, const struct weir_op *op),
                      void *ctx)
{
    /* Taken off first: whoever takes an operation may put another one into the batch. */
    struct batch_list list = batch->list;
    batch->list = (struct batch_list){
        .chunk_bytes = list.chunk_bytes,
        .abandoned = list.abandoned,
    };
    for (size_t i = 0; i < list.count; i++) {
        take(ctx, &list.entries[i].op);
    }
    list_drop(&batch->mem, &list, list.count);
    if (batch->list.capacity == 0) {
        batch->list = list;
    } else {
        list_free(&batch->mem, &list);
    }
}

int weir_batch_at(const struct weir_batch *batch, size_t index, struct weir_op *op_out)
{
    if (batch == NULL || op_out == NULL || index >= batch->list.count) {
        return -EINVAL;
    }
    *op_out = batch->list.entries[index].op;
    return 0;
}

uint64_t weir_batch_pending_write_bytes(const struct weir_batch *batch)
{
    return batch->list.write_bytes;
}

size_t weir_batch_pending_write_ops(const struct weir_batch *batch)
{
    return batch->list.write_ops;
}

size_t weir_batch_pending_read_ops(const struct weir_batch *batch)
{
    return batch->list.count - batch->list.write_ops - batch->list.sync_ops;
}

void weir_batch_stats(const struct weir_batch *batch, struct weir_batch_stats *stats_out)
{
    const struct batch_list *const list = &batch->list;
    *stats_out = (struct weir_batch_stats){
        .total_ops = list->count,
        .write_ops = list->write_ops,
        .read_ops = list->count - list->write_ops - list->sync_ops,
        .sync_ops = list->sync_ops,
        .write_bytes = list->write_bytes,
        .read_bytes = list->read_bytes,
    };
}

/* ---- for the executor ------------------------------------------------------------------------ */

const struct weir_op *weir__batch_op(const struct weir_batch *batch, size_t index)
{
    weir__check(index < batch->list.count);
    return &batch->list.entries[index].op;
}

void weir__batch_drop(struct weir_batch *batch, size_t count)
{
    list_drop(&batch->mem, &batch->list, count);
}

void weir__batch_abandon(struct weir_batch *batch)
{
    batch->list.abandoned = true;
}

uint64_t weir__batch_memory(const struct weir_batch *batch)
{
    /* Relaxed: only its one user's thread changes it. */
    return weir__load(&batch->mem.bytes, relaxed);
}
