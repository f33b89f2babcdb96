/* SPDX-License-Identifier: Apache-2.0
 * Executors: a batch as a whole.
 *
 * The happy path: all that can be refused beforehand is looked at (a file for each operation,
 * memory for what is read), the operations are carried out (executor_run.c), what became of them is
 * told, and what was carried out leaves the batch.
 *
 * What can fail: an operation without its file and memory for results, before anything is done;
 * then the operations. One thread at a time, not always the same. */
#include "io/executor.h"

#include "base/check.h"
#include "base/err.h"
#include "base/num.h"
#include "base/plant.h"
#include "io/executor_state.h"
#include "io/reader.h"
#include "io/writer_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EXECUTOR_ERRNO_MAX 4095
#define EXECUTOR_EDGES_ALIGN ((size_t)4096)
/* What unaligned direct writes go through where the config has no buffers. */
#define EXECUTOR_PIECES 4u
#define EXECUTOR_PIECE_BYTES ((size_t)64 << 10)
/* Memory for what is read that is kept although a batch needs much less. */
#define EXECUTOR_KEEP_BYTES ((size_t)4 << 20)

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
            weir__executor_fail(executor, i, -EINVAL);
            return;
        }
        writes |= op->kind == WEIR_OP_WRITE;
        if (op->kind != WEIR_OP_READ) {
            continue;
        }
        first_read = reads++ == 0 ? i : first_read;
        if (!weir__executor_is_nothing(executor, op)) {
            const uint64_t room = weir__executor_read_room(executor, op);
            code = weir__add_u64(bytes, room, &bytes) ? code : -ENOMEM;
        }
    }
    code = code != 0 ? code : reads_reserve(executor, reads, bytes);
    if (code != 0) {
        weir__executor_fail(executor, first_read, code);
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
    weir__check(executor->code != 0 || executor->next == executor->count);
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
            execution->unsure += !weir__executor_is_nothing(executor, weir__batch_op(batch, i));
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
        weir__executor_fail(executor, 0, executor->broken);
    } else {
        executor_prepare(executor);
    }
    const bool begun = executor->code == 0;
    if (begun && executor->side_by_side) {
        weir__executor_side_by_side(executor);
    } else if (begun) {
        weir__executor_in_order(executor);
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
    executor->edges = weir__mem_alloc(&executor->mem, executor->edges_bytes, EXECUTOR_EDGES_ALIGN);
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

/* In order a window is one linked run, which cannot be longer than the ring: more in flight would
 * only take the room that a sleep for all of them needs. True: it was cut. */
static bool executor_cut_inflight(struct weir_io_config *config, unsigned flags)
{
    uint32_t ring = 1;

    /* The kernel rounds up. */
    while (ring < config->sq_entries) {
        ring *= 2;
    }
    if ((flags & WEIR_EXECUTOR_SIDE_BY_SIDE) != 0 || config->backend == WEIR_IO_BACKEND_POSIX ||
        config->max_inflight <= ring) {
        return false;
    }
    config->max_inflight = ring;
    return true;
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
    weir__io_memory(&mem, settled.memory);
    struct weir_executor *const executor =
        weir__mem_alloc(&mem, sizeof *executor, _Alignof(struct weir_executor));
    if (executor == NULL) {
        weir__mem_exit(&mem);
        return executor_refuse(-ENOMEM, error_out, weir__code_text(-ENOMEM));
    }
    executor->mem = mem;
    const bool cut = executor_cut_inflight(&settled, flags);
    code = weir__io_device_open(&executor->device, &settled, seam, true, error_out);
    if (code != 0) {
        weir__mem_free(&mem, executor, sizeof *executor);
        weir__mem_exit(&mem);
        return code;
    }
    executor->device.transfer.ended = weir__executor_ended;
    executor->device.transfer.ctx = executor;
    executor->writer = writer;
    executor->reader = reader;
    executor->side_by_side = (flags & WEIR_EXECUTOR_SIDE_BY_SIDE) != 0;
    executor->one_file = executor_is_one_file(writer, reader);
    executor->syncs =
        writer != NULL && writer->syncs != NULL ? writer->syncs : &executor->own_syncs;
    code = executor_open_tables(executor);
    if (code != 0) {
        weir_executor_close(executor);
        return executor_refuse(code, error_out, weir__code_text(code));
    }
    executor_set_effective(executor, settled.direct_io);
    if (cut) {
        weir__io_device_refused(&executor->device,
                                "max_inflight: operations in order go out in one piece, and no "
                                "more than sq_entries do");
    }
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
