/* SPDX-License-Identifier: Apache-2.0
 * Batches carried out: order, results, barriers, errors, the bytes of the file; in order and side
 * by side, over the ring, the pool, and threads that answer in any order; buffered and direct.
 *
 * Everything goes through a fault_io, whose list of operations tells what was asked for when. */
#include "io/batch.h"
#include "io/executor.h"
#include "io/reader.h"
#include "io/writer.h"
#include "support/fault_io.h"
#include "support/temp_dir.h"
#include "support/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NAME "file"
#define BLOCK ((size_t)4096)
#define OP_BYTES (2 * BLOCK)
#define INFLIGHT 24u
#define FILE_BYTES_MAX ((size_t)2 << 20)

enum queue { QUEUE_RING, QUEUE_POOL, QUEUE_THREADS };

struct way {
    const char *name;
    enum queue queue;
    bool direct;
    unsigned flags;
};

#define SIDE WEIR_EXECUTOR_SIDE_BY_SIDE

static const struct way ways[] = {
    {"ring, buffered, in order", QUEUE_RING, false, 0},
    {"ring, buffered, side by side", QUEUE_RING, false, SIDE},
    {"ring, direct, in order", QUEUE_RING, true, 0},
    {"ring, direct, side by side", QUEUE_RING, true, SIDE},
    {"pool, buffered, in order", QUEUE_POOL, false, 0},
    {"pool, buffered, side by side", QUEUE_POOL, false, SIDE},
    {"pool, direct, in order", QUEUE_POOL, true, 0},
    {"pool, direct, side by side", QUEUE_POOL, true, SIDE},
    {"threads, buffered, in order", QUEUE_THREADS, false, 0},
    {"threads, buffered, side by side", QUEUE_THREADS, false, SIDE},
    {"threads, direct, in order", QUEUE_THREADS, true, 0},
    {"threads, direct, side by side", QUEUE_THREADS, true, SIDE},
};
#define WAYS (sizeof ways / sizeof ways[0])

/* ---- a file with an executor on it ----------------------------------------------------------- */

struct rig {
    const struct way *way;
    char root[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    struct fault_io fault;
    struct weir__io_file writer;
    struct weir__io_file reader;
    struct weir_io_config config;
    struct weir_executor *executor;
    struct weir_batch *batch;
    struct weir_execution execution;
    int code;
};

static void must(bool holds, const char *what)
{
    if (!holds) {
        perror(what);
        abort();
    }
}

/* Byte `at` of a file as the tests find it. */
static uint8_t old_byte(uint64_t at)
{
    return (uint8_t)(at * 13 + at / 251 + 1);
}

static uint8_t new_byte(unsigned tag, uint64_t i)
{
    return (uint8_t)(tag * 37 + i * 5 + i / 256 + 128);
}

static void rig_make(struct rig *rig, const struct way *way, uint64_t file_bytes)
{
    memset(rig, 0, sizeof *rig);
    rig->way = way;
    temp_dir_make(rig->root);
    temp_dir_join(rig->root, NAME, rig->path);
    uint8_t *const bytes = malloc(file_bytes + 1);
    must(bytes != NULL, "malloc");
    for (uint64_t i = 0; i < file_bytes; i++) {
        bytes[i] = old_byte(i);
    }
    const int file = open(rig->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    must(file >= 0 && pwrite(file, bytes, file_bytes, 0) == (ssize_t)file_bytes, rig->path);
    must(close(file) == 0, "close");
    free(bytes);

    fault_io_init(&rig->fault,
                  way->queue == QUEUE_THREADS ? FAULT_QUEUE_THREADS : FAULT_QUEUE_RING);
    if (way->queue == QUEUE_POOL) {
        rig->fault.base = weir__io_system_pool();
    }
    rig->fault.jitter = way->queue == QUEUE_THREADS ? test_seed() | 1 : 0;
    rig->config = weir_io_config_default();
    rig->config.sq_entries = 64;
    rig->config.max_inflight = INFLIGHT;
    rig->config.registered_buffers = 2;
    rig->config.buffer_bytes = OP_BYTES;
    assert_int_equal(weir_batch_new(NULL, &rig->batch), 0);
    assert_int_equal(weir__io_file_open(&rig->fault.io,
                                        rig->path,
                                        WEIR__OPEN_WRITE,
                                        way->direct,
                                        &rig->writer,
                                        NULL),
                     0);
    assert_int_equal(weir__io_file_open(&rig->fault.io,
                                        rig->path,
                                        WEIR__OPEN_READ,
                                        way->direct,
                                        &rig->reader,
                                        NULL),
                     0);
}

static void rig_open(struct rig *rig)
{
    struct weir_error error = {0};
    if (weir__executor_open_on(&rig->writer,
                               &rig->reader,
                               &rig->config,
                               &rig->fault.io,
                               rig->way->flags,
                               &rig->executor,
                               &error) != 0) {
        fail_msg("%s: %s", rig->way->name, error.text);
    }
}

static void rig_destroy(struct rig *rig)
{
    fault_io_heal(&rig->fault);
    weir_executor_close(rig->executor);
    weir_batch_free(rig->batch);
    weir__io_file_close(&rig->writer);
    weir__io_file_close(&rig->reader);
    fault_io_exit(&rig->fault);
    temp_dir_remove(rig->root);
}

/* False: this machine cannot. Each way is made ready with a file of so many bytes. */
static bool rig_begin(struct rig *rig, size_t way, uint64_t file_bytes)
{
    if (ways[way].queue == QUEUE_RING && !fault_io_has_ring()) {
        print_message("no io_uring here: left out: %s\n", ways[way].name);
        return false;
    }
    rig_make(rig, &ways[way], file_bytes);
    if (ways[way].direct && !rig->writer.direct) {
        print_message("no O_DIRECT here: left out: %s\n", ways[way].name);
        rig_destroy(rig);
        return false;
    }
    rig_open(rig);
    return true;
}

static void rig_write(struct rig *rig, uint64_t offset, size_t bytes, unsigned tag)
{
    uint8_t *const data = malloc(bytes + 1);
    must(data != NULL, "malloc");
    for (size_t i = 0; i < bytes; i++) {
        data[i] = new_byte(tag, i);
    }
    assert_int_equal(weir_batch_write(rig->batch, offset, data, bytes), 0);
    free(data);
}

static int rig_execute(struct rig *rig)
{
    memset(&rig->execution, 0xee, sizeof rig->execution);
    rig->code = weir_executor_execute(rig->executor, rig->batch, &rig->execution);
    return rig->code;
}

static void assert_done(const struct rig *rig, size_t executed, size_t reads)
{
    if (rig->code != 0) {
        fail_msg("%s: %d at %zu", rig->way->name, rig->code, rig->execution.failed);
    }
    assert_int_equal(rig->execution.executed, executed);
    assert_true(rig->execution.failed == SIZE_MAX);
    assert_int_equal(rig->execution.code, 0);
    assert_int_equal(rig->execution.unsure, 0);
    assert_int_equal(rig->execution.read_count, reads);
    assert_true(weir_batch_is_empty(rig->batch));
}

static bool is_new(const void *bytes, size_t count, unsigned tag, uint64_t from)
{
    for (size_t i = 0; i < count; i++) {
        if (((const uint8_t *)bytes)[i] != new_byte(tag, from + i)) {
            return false;
        }
    }
    return true;
}

static bool is_old(const void *bytes, size_t count, uint64_t at)
{
    for (size_t i = 0; i < count; i++) {
        if (((const uint8_t *)bytes)[i] != old_byte(at + i)) {
            return false;
        }
    }
    return true;
}

/* The file as it is now. Returns its length. */
static size_t rig_file(const struct rig *rig, uint8_t *bytes)
{
    const int file = open(rig->path, O_RDONLY | O_CLOEXEC);
    must(file >= 0, rig->path);
    const ssize_t got = pread(file, bytes, FILE_BYTES_MAX, 0);
    must(got >= 0 && close(file) == 0, "pread");
    return (size_t)got;
}

static size_t rig_count(struct rig *rig, enum fault_kind kind, uint64_t after)
{
    return fault_io_count(&rig->fault,
                          &(struct fault_look){.kind = kind, .name = NAME, .after = after});
}

static uint8_t content[FILE_BYTES_MAX];
static uint8_t model[FILE_BYTES_MAX];

/* ---- results --------------------------------------------------------------------------------- */

static void reads_come_back_in_order_with_their_offsets(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (!rig_begin(&rig, w, 40 * BLOCK)) {
            continue;
        }
        /* Backwards, of all alignments, between writes elsewhere. */
        for (unsigned i = 0; i < 30; i++) {
            const uint64_t offset = (30 - i) * BLOCK + i * 3;
            assert_int_equal(weir_batch_read(rig.batch, offset, 100 + i * 300), 0);
            rig_write(&rig, (60 + i) * BLOCK, BLOCK, i);
        }
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 60, 30);
        for (unsigned i = 0; i < 30; i++) {
            const struct weir_read_result *const read = &rig.execution.reads[i];
            assert_int_equal(read->offset, (30 - i) * BLOCK + i * 3);
            assert_int_equal(read->bytes, 100 + i * 300);
            assert_true(is_old(read->data, read->bytes, read->offset));
        }
        rig_destroy(&rig);
    }
}

static void a_read_is_short_at_the_end_of_the_file_only(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 1, 511, 512, BLOCK, 3 * BLOCK, 3 * BLOCK + 700};
    for (size_t w = 0; w < WAYS; w++) {
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
            const uint64_t length = lengths[l];
            struct rig rig;
            if (!rig_begin(&rig, w, length)) {
                break;
            }
            static const uint64_t offsets[] =
                {0, 1, 511, 512, 4095, 4096, 8192, 12288, 12988, 13000, 1000000};
            static const size_t sizes[] = {0, 1, 512, 4096, 5000, 20000};
            const size_t offset_count = sizeof offsets / sizeof offsets[0];
            const size_t size_count = sizeof sizes / sizeof sizes[0];
            for (size_t i = 0; i < offset_count * size_count; i++) {
                assert_int_equal(
                    weir_batch_read(rig.batch, offsets[i / size_count], sizes[i % size_count]),
                    0);
            }
            /* Where no file has bytes, and the kernel would refuse to look. */
            assert_int_equal(weir_batch_read(rig.batch, (UINT64_C(1) << 63) - 5, 5), 0);
            assert_int_equal(weir_batch_read(rig.batch, (UINT64_C(1) << 63) - 9000, 9000), 0);
            const size_t count = offset_count * size_count + 2;
            assert_int_equal(rig_execute(&rig), 0);
            assert_done(&rig, count, count);
            for (size_t i = 0; i < count; i++) {
                const struct weir_read_result *const read = &rig.execution.reads[i];
                const uint64_t asked = i < count - 2 ? sizes[i % size_count] : 9000;
                const uint64_t left = read->offset < length ? length - read->offset : 0;
                assert_int_equal(read->bytes, asked < left ? asked : left);
                assert_non_null(read->data);
                assert_true(is_old(read->data, read->bytes, read->offset));
            }
            rig_destroy(&rig);
        }
    }
}

/* In a batch each operation finds what those before it left: also a hole, and a longer file. */
static void operations_that_overlap_see_their_order(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (!rig_begin(&rig, w, 2 * BLOCK)) {
            continue;
        }
        rig_write(&rig, 0, 2 * BLOCK, 1);
        rig_write(&rig, BLOCK, 2 * BLOCK, 2);
        assert_int_equal(weir_batch_read(rig.batch, 0, 4 * BLOCK), 0);
        rig_write(&rig, 0, BLOCK, 3);
        assert_int_equal(weir_batch_read(rig.batch, BLOCK / 2, BLOCK), 0);
        assert_int_equal(weir_batch_read(rig.batch, 4 * BLOCK, BLOCK), 0);
        rig_write(&rig, 6 * BLOCK, BLOCK, 4);
        assert_int_equal(weir_batch_read(rig.batch, 4 * BLOCK, BLOCK), 0);
        assert_int_equal(weir_batch_read(rig.batch, 7 * BLOCK, BLOCK), 0);
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 9, 5);
        const struct weir_read_result *const reads = rig.execution.reads;
        assert_int_equal(reads[0].bytes, 3 * BLOCK);
        assert_true(is_new(reads[0].data, BLOCK, 1, 0));
        assert_true(is_new((const uint8_t *)reads[0].data + BLOCK, 2 * BLOCK, 2, 0));
        assert_int_equal(reads[1].bytes, BLOCK);
        assert_true(is_new(reads[1].data, BLOCK / 2, 3, BLOCK / 2));
        assert_true(is_new((const uint8_t *)reads[1].data + BLOCK / 2, BLOCK / 2, 2, 0));
        assert_int_equal(reads[2].bytes, 0);
        assert_int_equal(reads[3].bytes, BLOCK);
        for (size_t i = 0; i < BLOCK; i++) {
            assert_int_equal(((const uint8_t *)reads[3].data)[i], 0);
        }
        assert_int_equal(reads[4].bytes, 0);
        assert_int_equal(rig_file(&rig, content), 7 * BLOCK);
        assert_true(is_new(content, BLOCK, 3, 0));
        assert_true(is_new(content + BLOCK, 2 * BLOCK, 2, 0));
        assert_true(is_new(content + 6 * BLOCK, BLOCK, 4, 0));
        rig_destroy(&rig);
    }
}

static void an_empty_batch_and_empty_operations_submit_nothing(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        struct weir_io_stats stats;
        if (!rig_begin(&rig, w, 3 * BLOCK)) {
            continue;
        }
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 0, 0);
        assert_int_equal(weir_executor_execute(rig.executor, rig.batch, NULL), 0);
        assert_int_equal(weir_batch_write(rig.batch, 5, NULL, 0), 0);
        assert_int_equal(weir_batch_read(rig.batch, 7, 0), 0);
        assert_int_equal(weir_batch_write(rig.batch, UINT64_C(1) << 63, "", 0), 0);
        assert_int_equal(weir_batch_read(rig.batch, 3, 0), 0);
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 4, 2);
        assert_int_equal(rig.execution.reads[0].offset, 7);
        assert_int_equal(rig.execution.reads[0].bytes, 0);
        assert_int_equal(rig.execution.reads[1].offset, 3);
        weir_executor_stats(rig.executor, &stats);
        assert_int_equal(stats.ops_submitted, 0);
        assert_int_equal(rig_count(&rig, FAULT_QUEUE_PUSH, 0), 0);
        assert_int_equal(rig_file(&rig, content), 3 * BLOCK);
        rig_destroy(&rig);
    }
}

/* ---- order ----------------------------------------------------------------------------------- */

static void run_execute(struct worker *worker)
{
    struct rig *const rig = worker->ctx;
    (void)rig_execute(rig);
}

/* So many operations of a kind have come back well. */
struct came_back {
    struct rig *rig;
    enum fault_kind kind;
    size_t count;
};

static bool came_back(void *ctx)
{
    const struct came_back *const want = ctx;
    return fault_io_count(
               &want->rig->fault,
               &(struct fault_look){.kind = want->kind, .name = NAME, .succeeded = true}) >=
           want->count;
}

/* So many have begun. */
static bool were_begun(void *ctx)
{
    const struct came_back *const want = ctx;
    return rig_count(want->rig, want->kind, 0) >= want->count;
}

/* In order, an operation that does not come back holds up all behind it; side by side only those
 * that overlap, and a Sync. */
static void what_is_under_way_holds_up_what_has_to_wait(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        struct workers workers;
        struct fault_op op;
        if (!rig_begin(&rig, w, 0)) {
            continue;
        }
        const bool side = rig.way->flags != 0;
        /* 0..7 beside each other; 8 over the held one; 9 behind it. */
        for (unsigned i = 0; i < 8; i++) {
            rig_write(&rig, i * OP_BYTES, OP_BYTES, i);
        }
        rig_write(&rig, 2 * OP_BYTES, OP_BYTES, 8);
        rig_write(&rig, 20 * OP_BYTES, OP_BYTES, 9);
        assert_int_equal(weir_batch_sync(rig.batch), 0);
        rig_write(&rig, 21 * OP_BYTES, OP_BYTES, 10);
        (void)fault_io_arm(&rig.fault,
                           &(struct fault_rule){.kind = FAULT_WRITE,
                                                .name = NAME,
                                                .offset_from = 2 * OP_BYTES,
                                                .times = 1,
                                                .hold = true});
        workers_start(&workers, 1, run_execute, &rig, 1);
        const bool held = fault_io_wait_held(&rig.fault, 1);
        struct came_back beside = {&rig, FAULT_WRITE, side ? 7 : 0};
        const bool came = wait_until(came_back, &beside);
        const size_t written = fault_io_count(
            &rig.fault,
            &(struct fault_look){.kind = FAULT_WRITE, .name = NAME, .succeeded = true});
        const size_t begun = rig_count(&rig, FAULT_WRITE, 0);
        const size_t synced = fault_io_count(
            &rig.fault,
            &(struct fault_look){.kind = FAULT_SYNC, .name = NAME, .succeeded = true});
        const size_t sync_begun = rig_count(&rig, FAULT_SYNC, 0);
        const size_t file_bytes = rig_file(&rig, content);
        fault_io_release(&rig.fault);
        workers_finish(&workers);

        assert_true(held);
        assert_true(came);
        assert_int_equal(synced, 0);
        if (side) {
            assert_int_equal(written, 7);
            assert_int_equal(begun, 8);
            assert_int_equal(sync_begun, 0);
            assert_int_equal(file_bytes, 8 * OP_BYTES);
        } else {
            /* Submitted all the same, as one run: but nothing behind the held one has begun. */
            assert_true(written <= 2);
            assert_true(file_bytes <= 2 * OP_BYTES);
        }
        assert_done(&rig, 12, 0);
        assert_int_equal(rig_file(&rig, content), 22 * OP_BYTES);
        for (unsigned i = 0; i < 8; i++) {
            assert_true(is_new(content + i * OP_BYTES, OP_BYTES, i == 2 ? 8 : i, 0));
        }
        assert_true(fault_io_find(&rig.fault, &(struct fault_look){.kind = FAULT_SYNC}, &op));
        rig_destroy(&rig);
    }
}

/* Every write before a Sync has come back before the Sync is asked for, or is linked in front of
 * it; none behind it is begun before it has ended. What a power cut would leave agrees. */
static void a_sync_comes_between_what_is_before_and_behind(void **state)
{
    (void)state;
    enum { ROUNDS = 4, WRITES = 15 };
    for (size_t w = 0; w < WAYS; w++) {
        for (unsigned inflight = 1; inflight <= INFLIGHT; inflight += 7) {
            struct rig rig;
            if (!rig_begin(&rig, w, 0)) {
                break;
            }
            weir_executor_close(rig.executor);
            rig.config.max_inflight = inflight;
            rig_open(&rig);
            for (unsigned i = 0; i < ROUNDS * WRITES; i++) {
                if (i > 0 && i % WRITES == 0) {
                    assert_int_equal(weir_batch_sync(rig.batch), 0);
                }
                rig_write(&rig, i * OP_BYTES, OP_BYTES, i);
            }
            assert_int_equal(weir_batch_sync(rig.batch), 0);
            assert_int_equal(rig_execute(&rig), 0);
            assert_done(&rig, ROUNDS * WRITES + ROUNDS, 0);
            assert_int_equal(fault_io_unsynced(&rig.fault, NAME), 0);

            struct fault_op *ops;
            const size_t count = fault_io_ops(&rig.fault, &ops);
            uint64_t sync_begun[ROUNDS];
            uint64_t sync_ended[ROUNDS];
            unsigned syncs = 0;
            unsigned writes = 0;
            for (size_t i = 0; i < count; i++) {
                if (ops[i].kind == FAULT_SYNC && syncs < ROUNDS) {
                    sync_begun[syncs] = ops[i].begun;
                    sync_ended[syncs++] = ops[i].ended;
                }
            }
            assert_int_equal(syncs, ROUNDS);
            for (size_t i = 0; i < count; i++) {
                if (ops[i].kind != FAULT_WRITE) {
                    continue;
                }
                writes++;
                const size_t round = ops[i].offset / OP_BYTES / WRITES;
                assert_true(ops[i].ended < sync_ended[round]);
                if (round > 0) {
                    assert_true(ops[i].ended > sync_ended[round - 1]);
                }
                if (rig.way->flags != 0) {
                    assert_true(ops[i].ended < sync_begun[round]);
                    assert_true(round == 0 || ops[i].begun > sync_ended[round - 1]);
                }
            }
            assert_int_equal(writes, ROUNDS * WRITES);
            free(ops);
            rig_destroy(&rig);
        }
    }
}

/* A read beyond the end finds nothing there, and so it must be although a write behind it in the
 * batch makes the file longer. */
static void a_read_beyond_the_end_holds_up_what_lengthens_the_file(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        struct workers workers;
        if (!rig_begin(&rig, w, 2 * BLOCK)) {
            continue;
        }
        rig_write(&rig, 0, BLOCK, 1);
        assert_int_equal(weir_batch_read(rig.batch, 4 * BLOCK, BLOCK), 0);
        rig_write(&rig, BLOCK, BLOCK, 2); /* within the file: not held up */
        rig_write(&rig, 8 * BLOCK, BLOCK, 3);
        (void)fault_io_arm(
            &rig.fault,
            &(struct fault_rule){.kind = FAULT_READ, .name = NAME, .times = 1, .hold = true});
        workers_start(&workers, 1, run_execute, &rig, 1);
        const bool held = fault_io_wait_held(&rig.fault, 1);
        const bool side = rig.way->flags != 0;
        struct came_back within = {&rig, FAULT_WRITE, side ? 2 : 0};
        const bool came = wait_until(came_back, &within);
        const size_t begun = rig_count(&rig, FAULT_WRITE, 0);
        fault_io_release(&rig.fault);
        workers_finish(&workers);
        assert_true(held);
        assert_true(came);
        if (side) {
            assert_int_equal(begun, 2);
        }
        assert_done(&rig, 4, 1);
        assert_int_equal(rig.execution.reads[0].bytes, 0);
        assert_int_equal(rig_file(&rig, content), 9 * BLOCK);
        rig_destroy(&rig);
    }
}

/* And the other way round: what a write leaves between the end and itself is there for a read
 * behind it in the batch. */
static void a_write_beyond_the_end_holds_up_who_reads_the_hole(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        struct workers workers;
        if (!rig_begin(&rig, w, 2 * BLOCK)) {
            continue;
        }
        rig_write(&rig, 8 * BLOCK, BLOCK, 1);
        assert_int_equal(weir_batch_read(rig.batch, 0, BLOCK), 0); /* not held up */
        assert_int_equal(weir_batch_read(rig.batch, 4 * BLOCK, BLOCK), 0);
        (void)fault_io_arm(
            &rig.fault,
            &(struct fault_rule){.kind = FAULT_WRITE, .name = NAME, .times = 1, .hold = true});
        workers_start(&workers, 1, run_execute, &rig, 1);
        const bool held = fault_io_wait_held(&rig.fault, 1);
        const bool side = rig.way->flags != 0;
        struct came_back within = {&rig, FAULT_READ, side ? 1 : 0};
        const bool came = wait_until(came_back, &within);
        const size_t begun = rig_count(&rig, FAULT_READ, 0);
        fault_io_release(&rig.fault);
        workers_finish(&workers);
        assert_true(held);
        assert_true(came);
        if (side) {
            assert_int_equal(begun, 1);
        }
        assert_done(&rig, 3, 2);
        assert_true(is_old(rig.execution.reads[0].data, BLOCK, 0));
        assert_int_equal(rig.execution.reads[1].bytes, BLOCK);
        for (size_t i = 0; i < BLOCK; i++) {
            assert_int_equal(((const uint8_t *)rig.execution.reads[1].data)[i], 0);
        }
        rig_destroy(&rig);
    }
}

/* What is read is told in the order of the batch, whatever came back first. */
static void reads_that_came_back_late_keep_their_place(void **state)
{
    (void)state;
    enum { READS = 14, BESIDE = 4 };
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        struct workers workers;
        if (!rig_begin(&rig, w, READS * OP_BYTES)) {
            continue;
        }
        weir_executor_close(rig.executor);
        rig.config.max_inflight = BESIDE;
        rig_open(&rig);
        for (unsigned i = 0; i < READS; i++) {
            assert_int_equal(weir_batch_read(rig.batch, i * OP_BYTES, OP_BYTES), 0);
        }
        (void)fault_io_arm(
            &rig.fault,
            &(struct fault_rule){.kind = FAULT_READ, .name = NAME, .times = 2, .hold = true});
        workers_start(&workers, 1, run_execute, &rig, 1);
        const bool side = rig.way->flags != 0;
        const bool held = fault_io_wait_held(&rig.fault, side ? 2 : 1);
        /* The last of them are waited for together. */
        struct came_back others = {&rig, FAULT_READ, side ? READS - BESIDE : 0};
        const bool came = wait_until(came_back, &others);
        fault_io_release(&rig.fault);
        workers_finish(&workers);
        assert_true(held);
        assert_true(came);
        assert_done(&rig, READS, READS);
        for (unsigned i = 0; i < READS; i++) {
            const struct weir_read_result *const read = &rig.execution.reads[i];
            assert_int_equal(read->offset, i * OP_BYTES);
            assert_int_equal(read->bytes, OP_BYTES);
            assert_true(is_old(read->data, OP_BYTES, i * OP_BYTES));
        }
        rig_destroy(&rig);
    }
}

/* Never more with the kernel than max_inflight; and refilled one by one. */
static void max_inflight_bounds_and_is_refilled(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        struct workers workers;
        if (!rig_begin(&rig, w, 0)) {
            continue;
        }
        const bool side = rig.way->flags != 0;
        weir_executor_close(rig.executor);
        rig.config.max_inflight = 4;
        rig_open(&rig);
        for (unsigned i = 0; i < 30; i++) {
            rig_write(&rig, i * OP_BYTES, OP_BYTES, i);
        }
        (void)fault_io_arm(
            &rig.fault,
            &(struct fault_rule){.kind = FAULT_WRITE, .name = NAME, .times = 1, .hold = true});
        workers_start(&workers, 1, run_execute, &rig, 1);
        const bool held = fault_io_wait_held(&rig.fault, 1);
        struct came_back others = {&rig, FAULT_WRITE, side ? 30 : 4};
        const bool came = wait_until(were_begun, &others);
        const size_t begun = rig_count(&rig, FAULT_WRITE, 0);
        fault_io_release(&rig.fault);
        workers_finish(&workers);
        assert_true(held);
        assert_true(came);
        assert_int_equal(begun, side ? 30 : 4);
        assert_done(&rig, 30, 0);

        struct fault_op *ops;
        const size_t count = fault_io_ops(&rig.fault, &ops);
        for (size_t i = 0; i < count; i++) {
            unsigned beside = 0;
            for (size_t j = 0; j <= i; j++) {
                beside += ops[j].kind == FAULT_WRITE && ops[j].begun <= ops[i].begun &&
                          ops[j].ended > ops[i].begun;
            }
            assert_true(beside <= 4);
        }
        free(ops);
        rig_destroy(&rig);
    }
}

/* In order: one submission for each window of max_inflight, its Syncs in it. */
static void in_order_a_window_is_one_submission(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (ways[w].flags != 0 || !rig_begin(&rig, w, 40 * BLOCK)) {
            continue;
        }
        for (unsigned i = 0; i < 100; i++) {
            if (i % 9 == 8) {
                assert_int_equal(weir_batch_sync(rig.batch), 0);
            } else if (i % 9 == 4) {
                assert_int_equal(weir_batch_read(rig.batch, i % 40 * BLOCK, BLOCK), 0);
            } else if (i % 9 == 6) {
                assert_int_equal(weir_batch_write(rig.batch, 0, NULL, 0), 0);
            } else {
                rig_write(&rig, i % 40 * BLOCK, BLOCK, i);
            }
        }
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 100, 11);
        /* 89 that have to be submitted. */
        assert_int_equal(rig_count(&rig, FAULT_QUEUE_PUSH, 0), (89 + INFLIGHT - 1) / INFLIGHT);
        rig_destroy(&rig);
    }
}

/* A linked run cannot be longer than the ring: the window is the smaller of the two. */
static void a_small_ring_makes_small_windows(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (!rig_begin(&rig, w, 0)) {
            continue;
        }
        weir_executor_close(rig.executor);
        rig.config.sq_entries = 4;
        rig_open(&rig);
        struct weir_io_effective effective;
        weir_executor_effective(rig.executor, &effective);
        if (rig.way->flags == 0) {
            assert_int_equal(effective.config.max_inflight, 4);
            assert_true(strstr(effective.reason, "max_inflight") != NULL);
        } else if (rig.way->queue != QUEUE_RING) {
            assert_int_equal(effective.config.max_inflight, INFLIGHT);
        }
        for (unsigned i = 0; i < 50; i++) {
            rig_write(&rig, i * OP_BYTES, OP_BYTES, i);
        }
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 50, 0);
        assert_int_equal(rig_file(&rig, content), 50 * OP_BYTES);
        for (unsigned i = 0; i < 50; i++) {
            assert_true(is_new(content + i * OP_BYTES, OP_BYTES, i, 0));
        }
        rig_destroy(&rig);
    }
}

/* ---- errors ---------------------------------------------------------------------------------- */

#define ERROR_OPS 20u
#define ERROR_READS_AT (100 * OP_BYTES)

/* The batch of the tests of errors: 20 operations, Syncs at 6 and 13, a read at every fourth. */
static enum weir_op_kind error_kind(size_t index)
{
    return index == 6 || index == 13 ? WEIR_OP_SYNC : index % 4 == 3 ? WEIR_OP_READ : WEIR_OP_WRITE;
}

static uint64_t error_offset(size_t index)
{
    switch (error_kind(index)) {
    case WEIR_OP_SYNC:
        return 0;
    case WEIR_OP_READ:
        return ERROR_READS_AT + index * OP_BYTES;
    default:
        return index * OP_BYTES;
    }
}

static void error_batch(struct rig *rig)
{
    for (unsigned i = 0; i < ERROR_OPS; i++) {
        switch (error_kind(i)) {
        case WEIR_OP_SYNC:
            assert_int_equal(weir_batch_sync(rig->batch), 0);
            break;
        case WEIR_OP_READ:
            assert_int_equal(weir_batch_read(rig->batch, error_offset(i), OP_BYTES), 0);
            break;
        default:
            rig_write(rig, error_offset(i), OP_BYTES, i);
            break;
        }
    }
}

static struct fault_rule error_rule(size_t index)
{
    struct fault_rule rule = {.kind = FAULT_WRITE, .name = NAME, .times = 1};
    if (error_kind(index) == WEIR_OP_SYNC) {
        rule.kind = FAULT_SYNC;
        rule.skip = index > 6;
    } else {
        rule.kind = error_kind(index) == WEIR_OP_READ ? FAULT_READ : FAULT_WRITE;
        rule.offset_from = error_offset(index);
    }
    return rule;
}

/* The batch keeps [from, 20), with their data. */
static void assert_keeps(const struct rig *rig, size_t from)
{
    struct weir_op op;
    assert_int_equal(weir_batch_len(rig->batch), ERROR_OPS - from);
    for (size_t i = from; i < ERROR_OPS; i++) {
        assert_int_equal(weir_batch_at(rig->batch, i - from, &op), 0);
        assert_int_equal(op.kind, error_kind(i));
        assert_int_equal(op.offset, error_offset(i));
        if (op.kind == WEIR_OP_WRITE) {
            assert_true(is_new(op.data, OP_BYTES, (unsigned)i, 0));
        }
    }
}

/* The reads of [from, to) are the results. */
static void assert_reads(const struct rig *rig, size_t from, size_t to)
{
    size_t at = 0;
    for (size_t i = from; i < to; i++) {
        if (error_kind(i) != WEIR_OP_READ) {
            continue;
        }
        assert_true(at < rig->execution.read_count);
        const struct weir_read_result *const read = &rig->execution.reads[at++];
        assert_int_equal(read->offset, error_offset(i));
        assert_int_equal(read->bytes, OP_BYTES);
        assert_true(is_old(read->data, OP_BYTES, read->offset));
    }
    assert_int_equal(at, rig->execution.read_count);
}

/* The writes of [from, to) are in the file, or none of them is. */
static void assert_writes(const struct rig *rig, size_t from, size_t to, bool there)
{
    (void)rig_file(rig, content);
    for (size_t i = from; i < to; i++) {
        if (error_kind(i) == WEIR_OP_WRITE) {
            const uint64_t at = error_offset(i);
            assert_true(there ? is_new(content + at, OP_BYTES, (unsigned)i, 0)
                              : is_old(content + at, OP_BYTES, at));
        }
    }
}

/* Operations of the log that stand behind index k in the batch. Of those that succeeded, or of all.
 */
static size_t reached_behind(struct rig *rig, size_t k, bool succeeded)
{
    struct fault_op *ops;
    const size_t count = fault_io_ops(&rig->fault, &ops);
    size_t reached = 0;
    size_t syncs = 0;
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        if (ops[i].kind == FAULT_SYNC) {
            index = syncs++ == 0 ? 6 : 13;
        } else if (ops[i].kind == FAULT_WRITE) {
            index = ops[i].offset / OP_BYTES;
        } else if (ops[i].kind == FAULT_READ) {
            index = (ops[i].offset - ERROR_READS_AT) / OP_BYTES;
        }
        reached += index > k && (!succeeded || ops[i].result >= 0);
    }
    free(ops);
    return reached;
}

static void check_error_at(struct rig *rig, size_t k, int code)
{
    struct fault_rule rule = error_rule(k);
    rule.error = code;
    error_batch(rig);
    const unsigned armed = fault_io_arm(&rig->fault, &rule);
    fault_io_forget(&rig->fault);
    assert_int_equal(rig_execute(rig), code);
    assert_int_equal(fault_io_spoilt(&rig->fault, armed), 1);
    assert_int_equal(rig->execution.code, code);
    assert_int_equal(rig->execution.failed, k);
    assert_int_equal(rig->execution.executed, k);
    assert_keeps(rig, k);
    assert_reads(rig, 0, k);
    assert_writes(rig, 0, k, true);
    if (rig->way->flags == 0) {
        assert_int_equal(rig->execution.unsure, 0);
        assert_int_equal(reached_behind(rig, k, true), 0);
        assert_writes(rig, k, ERROR_OPS, false);
    } else {
        assert_int_equal(rig->execution.unsure, reached_behind(rig, k, false));
    }

    fault_io_heal(&rig->fault);
    fault_io_forget(&rig->fault);
    if (error_kind(k) == WEIR_OP_SYNC) {
        /* What the device refused may be marked clean by now: another sync would find nothing to
         * do and report success over a loss. */
        assert_int_equal(rig_execute(rig), code);
        assert_int_equal(rig->execution.failed, 0);
        assert_int_equal(rig->execution.executed, 0);
        assert_int_equal(rig->execution.read_count, 0);
        assert_int_equal(rig_count(rig, FAULT_QUEUE_PUSH, 0), 0);
        assert_keeps(rig, k);
        weir_executor_close(rig->executor);
        rig_open(rig);
    }
    assert_int_equal(rig_execute(rig), 0);
    assert_done(rig, ERROR_OPS - k, rig->execution.read_count);
    assert_reads(rig, k, ERROR_OPS);
    assert_writes(rig, 0, ERROR_OPS, true);
}

static void an_error_tells_its_index_and_keeps_the_rest(void **state)
{
    (void)state;
    static const int codes[] = {-EIO, -ENOSPC};
    for (size_t w = 0; w < WAYS; w++) {
        for (size_t k = 0; k < ERROR_OPS; k++) {
            struct rig rig;
            if (!rig_begin(&rig, w, ERROR_READS_AT + ERROR_OPS * OP_BYTES)) {
                break;
            }
            check_error_at(&rig, k, codes[(k + w) % 2]);
            rig_destroy(&rig);
        }
    }
}

/* The rest of a batch that failed is not lost: a Sync executed later stands for all of it. */
static void the_rest_of_a_failed_batch_is_written_before_a_later_sync(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (!rig_begin(&rig, w, 0)) {
            continue;
        }
        for (unsigned i = 0; i < 10; i++) {
            rig_write(&rig, i * OP_BYTES, OP_BYTES, i);
        }
        (void)fault_io_arm(&rig.fault,
                           &(struct fault_rule){.kind = FAULT_WRITE,
                                                .name = NAME,
                                                .offset_from = 4 * OP_BYTES,
                                                .times = 1,
                                                .error = -EIO});
        assert_int_equal(rig_execute(&rig), -EIO);
        assert_int_equal(rig.execution.failed, 4);
        assert_int_equal(weir_batch_len(rig.batch), 6);
        assert_int_equal(weir_batch_sync(rig.batch), 0);
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 7, 0);
        assert_int_equal(fault_io_unsynced(&rig.fault, NAME), 0);
        assert_int_equal(rig_file(&rig, content), 10 * OP_BYTES);
        for (unsigned i = 0; i < 10; i++) {
            assert_true(is_new(content + i * OP_BYTES, OP_BYTES, i, 0));
        }
        rig_destroy(&rig);
    }
}

/* A short result is gone on with, and nothing behind it is skipped or done too early. */
static void short_results_are_gone_on_with(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        for (size_t k = 0; k < ERROR_OPS; k++) {
            struct rig rig;
            if (error_kind(k) == WEIR_OP_SYNC) {
                continue;
            }
            if (!rig_begin(&rig, w, ERROR_READS_AT + ERROR_OPS * OP_BYTES)) {
                break;
            }
            struct fault_rule rule = error_rule(k);
            rule.shortened = true;
            rule.bytes = BLOCK;
            error_batch(&rig);
            const unsigned armed = fault_io_arm(&rig.fault, &rule);
            assert_int_equal(rig_execute(&rig), 0);
            assert_int_equal(fault_io_spoilt(&rig.fault, armed), 1);
            assert_done(&rig, ERROR_OPS, 5);
            assert_reads(&rig, 0, ERROR_OPS);
            assert_writes(&rig, 0, ERROR_OPS, true);
            rig_destroy(&rig);
        }
    }
}

/* Side by side several may fail: the first one of the batch counts, not of the clock. */
static void of_several_errors_the_lowest_index_counts(void **state)
{
    (void)state;
    static const unsigned late_ones[] = {2, 5};
    for (size_t w = 0; w < 2 * WAYS; w++) {
        const unsigned late = late_ones[w % 2];
        struct rig rig;
        struct workers workers;
        if (ways[w / 2].flags == 0 || !rig_begin(&rig, w / 2, 0)) {
            continue;
        }
        for (unsigned i = 0; i < 8; i++) {
            rig_write(&rig, i * OP_BYTES, OP_BYTES, i);
        }
        /* One fails late, the other at once. The rule of the one behind is armed first: it fits
         * neither's forerunner. */
        for (unsigned i = 0; i < 2; i++) {
            const unsigned index = i == 0 ? 5 : 2;
            (void)fault_io_arm(&rig.fault,
                               &(struct fault_rule){.kind = FAULT_WRITE,
                                                    .name = NAME,
                                                    .offset_from = index * OP_BYTES,
                                                    .times = 1,
                                                    .error = index == 2 ? -ENOSPC : -EIO,
                                                    .hold = index == late});
        }
        workers_start(&workers, 1, run_execute, &rig, 1);
        const bool held = fault_io_wait_held(&rig.fault, 1);
        fault_io_release(&rig.fault);
        workers_finish(&workers);
        assert_true(held);
        assert_int_equal(rig.code, -ENOSPC);
        assert_int_equal(rig.execution.failed, 2);
        assert_int_equal(rig.execution.executed, 2);
        assert_int_equal(rig.execution.unsure, 5);
        assert_int_equal(weir_batch_len(rig.batch), 6);
        fault_io_heal(&rig.fault);
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 6, 0);
        rig_destroy(&rig);
    }
}

static void after_an_error_nothing_more_is_submitted(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (!rig_begin(&rig, w, 0)) {
            continue;
        }
        weir_executor_close(rig.executor);
        rig.config.max_inflight = 2;
        rig_open(&rig);
        for (unsigned i = 0; i < 40; i++) {
            rig_write(&rig, i * OP_BYTES, OP_BYTES, i);
        }
        (void)fault_io_arm(&rig.fault,
                           &(struct fault_rule){.kind = FAULT_WRITE,
                                                .name = NAME,
                                                .offset_from = 10 * OP_BYTES,
                                                .times = 1,
                                                .error = -EIO});
        assert_int_equal(rig_execute(&rig), -EIO);
        assert_int_equal(rig.execution.failed, 10);
        /* While 10 was under way one other may have been, again and again: each came back before
         * the next was begun, so an error that is seen late shows as more than these. */
        const struct fault_look behind = {.kind = FAULT_WRITE,
                                          .name = NAME,
                                          .offset_from = 11 * OP_BYTES};
        const size_t reached = fault_io_count(&rig.fault, &behind);
        assert_int_equal(rig.execution.unsure, rig.way->flags == 0 ? 0 : reached);
        if (rig.way->flags == 0) {
            assert_true(reached <= 1);
        }
        struct fault_op failed;
        assert_true(fault_io_find(
            &rig.fault,
            &(struct fault_look){.kind = FAULT_WRITE, .name = NAME, .offset_from = 10 * OP_BYTES},
            &failed));
        struct fault_look later = behind;
        later.after = failed.ended;
        /* It may have come back in one reap with its neighbour's end. */
        assert_int_equal(fault_io_count(&rig.fault, &later), 0);
        rig_destroy(&rig);
    }
}

static void a_refused_submission_is_the_error_of_its_first_operation(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (!rig_begin(&rig, w, 0)) {
            continue;
        }
        weir_executor_close(rig.executor);
        rig.config.max_inflight = 4;
        rig_open(&rig);
        for (unsigned i = 0; i < 12; i++) {
            rig_write(&rig, i * OP_BYTES, OP_BYTES, i);
        }
        (void)fault_io_arm(
            &rig.fault,
            &(struct fault_rule){.kind = FAULT_QUEUE_PUSH, .skip = 1, .times = 1, .error = -EBUSY});
        assert_int_equal(rig_execute(&rig), -EBUSY);
        assert_int_equal(rig.execution.failed, 4);
        assert_int_equal(rig.execution.executed, 4);
        assert_int_equal(rig.execution.unsure, 0);
        assert_int_equal(rig_count(&rig, FAULT_WRITE, 0), 4);
        assert_int_equal(weir_batch_len(rig.batch), 8);
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 8, 0);
        assert_int_equal(rig_file(&rig, content), 12 * OP_BYTES);
        rig_destroy(&rig);
    }
}

static void what_lacks_its_file_is_refused_before_anything_is_done(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        for (unsigned side = 0; side < 2; side++) {
            struct rig rig;
            if (!rig_begin(&rig, w, 4 * BLOCK)) {
                break;
            }
            weir_executor_close(rig.executor);
            assert_int_equal(weir__executor_open_on(side == 0 ? &rig.writer : NULL,
                                                    side == 0 ? NULL : &rig.reader,
                                                    &rig.config,
                                                    &rig.fault.io,
                                                    rig.way->flags,
                                                    &rig.executor,
                                                    NULL),
                             0);
            for (unsigned i = 0; i < 5; i++) {
                if (side == 0) {
                    rig_write(&rig, i * BLOCK, BLOCK, i);
                } else {
                    assert_int_equal(weir_batch_read(rig.batch, i * BLOCK, BLOCK), 0);
                }
                assert_int_equal(weir_batch_sync(rig.batch), 0);
            }
            if (side == 0) {
                assert_int_equal(weir_batch_read(rig.batch, 0, 0), 0);
            } else {
                assert_int_equal(weir_batch_write(rig.batch, 0, NULL, 0), 0);
            }
            assert_int_equal(rig_execute(&rig), -EINVAL);
            assert_int_equal(rig.execution.failed, 10);
            assert_int_equal(rig.execution.executed, 0);
            assert_int_equal(rig.execution.code, -EINVAL);
            assert_int_equal(rig.execution.read_count, 0);
            assert_int_equal(rig.execution.unsure, 0);
            assert_int_equal(rig_count(&rig, FAULT_QUEUE_PUSH, 0), 0);
            assert_int_equal(weir_batch_len(rig.batch), 11);
            rig_destroy(&rig);
        }
    }
}

static void a_sync_without_a_writer_succeeds_and_does_nothing(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (!rig_begin(&rig, w, 4 * BLOCK)) {
            continue;
        }
        weir_executor_close(rig.executor);
        assert_int_equal(weir__executor_open_on(NULL,
                                                &rig.reader,
                                                &rig.config,
                                                &rig.fault.io,
                                                rig.way->flags,
                                                &rig.executor,
                                                NULL),
                         0);
        assert_int_equal(weir_batch_sync(rig.batch), 0);
        assert_int_equal(weir_batch_sync(rig.batch), 0);
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 2, 0);
        assert_int_equal(rig_count(&rig, FAULT_QUEUE_PUSH, 0), 0);
        assert_int_equal(weir_batch_read(rig.batch, BLOCK, 10), 0);
        assert_int_equal(weir_batch_sync(rig.batch), 0);
        assert_int_equal(weir_batch_read(rig.batch, 2 * BLOCK, 10), 0);
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 3, 2);
        assert_int_equal(rig_count(&rig, FAULT_SYNC, 0), 0);
        assert_int_equal(rig_count(&rig, FAULT_QUEUE_PUSH, 0), 1);
        assert_true(is_old(rig.execution.reads[1].data, 10, 2 * BLOCK));
        rig_destroy(&rig);
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

struct hooks {
    struct weir_memory_hooks table;
    size_t refuse_bytes; /* as large as this or larger; 0: none */
    unsigned refuse_at;  /* this one and all behind it; 0: none */
    unsigned count;
    unsigned live;
    void *blocks[512];
};

static void *hooks_alloc(void *ctx, size_t bytes, size_t align)
{
    struct hooks *const hooks = ctx;
    void *block = NULL;
    hooks->count++;
    if ((hooks->refuse_bytes != 0 && bytes >= hooks->refuse_bytes) ||
        (hooks->refuse_at != 0 && hooks->count >= hooks->refuse_at) ||
        posix_memalign(&block, align, bytes) != 0) {
        return NULL;
    }
    hooks->live++;
    for (size_t i = 0; i < sizeof hooks->blocks / sizeof hooks->blocks[0]; i++) {
        if (hooks->blocks[i] == NULL) {
            hooks->blocks[i] = block;
            return block;
        }
    }
    abort();
}

static void hooks_release(void *ctx, void *block, size_t bytes)
{
    struct hooks *const hooks = ctx;
    (void)bytes;
    for (size_t i = 0; i < sizeof hooks->blocks / sizeof hooks->blocks[0]; i++) {
        if (hooks->blocks[i] == block) {
            hooks->blocks[i] = NULL;
            hooks->live--;
            free(block);
            return;
        }
    }
    abort();
}

static void hooks_init(struct hooks *hooks)
{
    *hooks = (struct hooks){.table = {hooks_alloc, hooks_release, hooks}};
}

static void no_memory_for_results_leaves_the_batch_as_it_was(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        struct hooks hooks;
        if (!rig_begin(&rig, w, 4 * BLOCK)) {
            continue;
        }
        hooks_init(&hooks);
        weir_executor_close(rig.executor);
        rig.config.memory = &hooks.table;
        rig_open(&rig);
        rig_write(&rig, 0, BLOCK, 1);
        assert_int_equal(weir_batch_read(rig.batch, 0, (size_t)1 << 20), 0);
        assert_int_equal(weir_batch_read(rig.batch, 0, (size_t)1 << 62), 0);
        assert_int_equal(weir_batch_read(rig.batch, 0, (size_t)1 << 63), 0);
        assert_int_equal(weir_batch_read(rig.batch, 0, (size_t)1 << 63), 0);
        assert_int_equal(rig_execute(&rig), -ENOMEM);
        assert_int_equal(rig.execution.failed, 1);
        assert_int_equal(rig.execution.executed, 0);
        assert_int_equal(weir_batch_len(rig.batch), 5);
        /* Together they are 2^64 and a MiB, or little less. */
        weir_batch_clear(rig.batch);
        assert_int_equal(weir_batch_read(rig.batch, 0, (size_t)1 << 20), 0);
        assert_int_equal(weir_batch_read(rig.batch, 0, (size_t)1 << 63), 0);
        assert_int_equal(weir_batch_read(rig.batch, 0, (size_t)1 << 63), 0);
        assert_int_equal(rig_execute(&rig), -ENOMEM);
        assert_int_equal(rig.execution.failed, 0);
        assert_int_equal(weir_batch_len(rig.batch), 3);
        weir_batch_clear(rig.batch);
        rig_write(&rig, 0, BLOCK, 1);
        assert_int_equal(weir_batch_read(rig.batch, 0, (size_t)1 << 20), 0);
        hooks.refuse_bytes = (size_t)1 << 20;
        assert_int_equal(rig_execute(&rig), -ENOMEM);
        assert_int_equal(rig.execution.failed, 1);
        assert_int_equal(rig_count(&rig, FAULT_QUEUE_PUSH, 0), 0);
        hooks.refuse_bytes = 0;
        assert_int_equal(rig_execute(&rig), 0);
        assert_done(&rig, 2, 1);
        assert_int_equal(rig.execution.reads[0].bytes, 4 * BLOCK);
        assert_true(is_new(rig.execution.reads[0].data, BLOCK, 1, 0));
        rig_destroy(&rig);
        assert_int_equal(hooks.live, 0);
    }
}

static void no_memory_at_opening_leaves_nothing_behind(void **state)
{
    (void)state;
    struct rig rig;
    struct hooks hooks;
    if (!rig_begin(&rig, WAYS - 2, 0)) {
        return;
    }
    weir_executor_close(rig.executor);
    hooks_init(&hooks);
    rig.config.memory = &hooks.table;
    bool opened = false;
    for (unsigned at = 1; !opened && at < 100; at++) {
        struct weir_error error = {0};
        hooks.count = 0;
        hooks.refuse_at = at;
        rig.executor = NULL;
        const int code = weir__executor_open_on(&rig.writer,
                                                &rig.reader,
                                                &rig.config,
                                                &rig.fault.io,
                                                0,
                                                &rig.executor,
                                                &error);
        opened = code == 0;
        if (!opened) {
            assert_int_equal(code, -ENOMEM);
            assert_int_equal(error.code, -ENOMEM);
            assert_null(rig.executor);
            assert_int_equal(hooks.live, 0);
        }
    }
    assert_true(opened);
    assert_true(hooks.count > 8);
    rig_destroy(&rig);
}

/* The kernel may still read the batch's data and write into ours: neither is freed, and nothing
 * more is begun. */
static void a_broken_queue_leaves_its_memory_alone(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        struct hooks hooks;
        struct hooks batch_hooks;
        if (!rig_begin(&rig, w, 8 * OP_BYTES)) {
            continue;
        }
        hooks_init(&hooks);
        hooks_init(&batch_hooks);
        weir_executor_close(rig.executor);
        weir_batch_free(rig.batch);
        assert_int_equal(weir_batch_new(&batch_hooks.table, &rig.batch), 0);
        rig.config.memory = &hooks.table;
        rig_open(&rig);
        rig_write(&rig, 0, OP_BYTES, 1);
        assert_int_equal(rig_execute(&rig), 0);

        assert_int_equal(weir_batch_read(rig.batch, 0, OP_BYTES), 0);
        rig_write(&rig, OP_BYTES, OP_BYTES, 2);
        rig_write(&rig, 2 * OP_BYTES, OP_BYTES, 3);
        (void)fault_io_arm(
            &rig.fault,
            &(struct fault_rule){.kind = FAULT_QUEUE_REAP, .times = 1, .error = -EBADF});
        assert_int_equal(rig_execute(&rig), -EBADF);
        assert_int_equal(rig.execution.failed, 0);
        assert_int_equal(rig.execution.executed, 0);
        assert_int_equal(rig.execution.unsure, 2);
        assert_int_equal(rig.execution.read_count, 0);
        assert_int_equal(weir_batch_len(rig.batch), 3);
        const size_t begun = rig_count(&rig, FAULT_QUEUE_PUSH, 0);
        assert_int_equal(rig_execute(&rig), -EBADF);
        assert_int_equal(rig.execution.failed, 0);
        assert_int_equal(rig.execution.unsure, 0);
        assert_int_equal(rig_count(&rig, FAULT_QUEUE_PUSH, 0), begun);
        rig_destroy(&rig);
        /* Vectors, results, buffers of the executor; data of the batch's two writes. */
        assert_true(hooks.live >= 3);
        assert_int_equal(batch_hooks.live, 2);
        for (size_t i = 0; i < sizeof hooks.blocks / sizeof hooks.blocks[0]; i++) {
            free(hooks.blocks[i]);
            free(batch_hooks.blocks[i]);
        }
    }
}

/* ---- direct writes of any place and length --------------------------------------------------- */

static void model_write(size_t *length, uint64_t offset, size_t bytes, unsigned tag)
{
    for (size_t i = 0; i < bytes; i++) {
        model[offset + i] = new_byte(tag, i);
    }
    if (bytes > 0 && offset + bytes > *length) {
        *length = (size_t)offset + bytes;
    }
}

static void model_begin(size_t length)
{
    memset(model, 0, sizeof model);
    for (size_t i = 0; i < length; i++) {
        model[i] = old_byte(i);
    }
}

static void assert_file(const struct rig *rig, size_t length)
{
    memset(content, 0, length < 4096 ? 4096 : length);
    const size_t got = rig_file(rig, content);
    if (got != length) {
        fail_msg("%s: %zu bytes, not %zu", rig->way->name, got, length);
    }
    for (size_t i = 0; i < length; i++) {
        if (content[i] != model[i]) {
            fail_msg("%s: byte %zu is %u, not %u", rig->way->name, i, content[i], model[i]);
        }
    }
}

static void writes_of_any_place_keep_their_neighbours_and_the_length(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 4000, BLOCK, BLOCK + 1, 5 * BLOCK, 5 * BLOCK + 77};
    static const struct {
        uint64_t offset;
        size_t bytes;
    } writes[] = {
        {0, 1},
        {0, BLOCK},
        {1, 1},
        {BLOCK - 1, 2},
        {BLOCK, 100},
        {BLOCK + 100, BLOCK - 100},
        {BLOCK + 100, BLOCK},
        {3, 3 * BLOCK},
        {2 * BLOCK, 3 * BLOCK},
        {5 * BLOCK + 50, 20},
        {5 * BLOCK + 70, 30},
        {9 * BLOCK + 5, 10},
        {100, 70000}, /* more than all buffers together */
        {0, 70001},
    };
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (!rig_begin(&rig, w, 0)) {
            continue;
        }
        for (unsigned own = 0; own < 2; own++) {
            /* Through the device's buffers, or the executor's own. */
            weir_executor_close(rig.executor);
            rig.config.registered_buffers = own == 0 ? 2 : 0;
            rig_open(&rig);
            for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
                for (unsigned i = 0; i < sizeof writes / sizeof writes[0]; i++) {
                    size_t length = lengths[l];
                    model_begin(length);
                    must(truncate(rig.path, 0) == 0, "truncate");
                    const int file = open(rig.path, O_WRONLY | O_CLOEXEC);
                    must(file >= 0 && pwrite(file, model, length, 0) == (ssize_t)length, "pwrite");
                    must(close(file) == 0, "close");
                    rig_write(&rig, writes[i].offset, writes[i].bytes, i);
                    assert_int_equal(rig_execute(&rig), 0);
                    assert_done(&rig, 1, 0);
                    model_write(&length, writes[i].offset, writes[i].bytes, i);
                    assert_file(&rig, length);
                }
            }
        }
        rig_destroy(&rig);
    }
}

/* Each step of such a write refused once: it fails, says so, and is whole when it is tried again;
 * the file is never longer than it or the write. */
static void a_failed_step_of_an_unaligned_write_fails_it(void **state)
{
    (void)state;
    enum { WITH_PADDING = 0 };
    static const struct {
        struct fault_rule rule;
        size_t length; /* afterwards: the other of its two pieces is in the file */
    } steps[] = {
        {{.kind = FAULT_READ, .name = NAME, .times = 1, .error = -EIO}, 3 * BLOCK + 9},
        {{.kind = FAULT_READ, .name = NAME, .skip = 1, .times = 1, .error = -EIO}, 3 * BLOCK + 9},
        {{.kind = FAULT_WRITE, .name = NAME, .times = 1, .error = -ENOSPC}, 3 * BLOCK + 50},
        {{.kind = FAULT_WRITE,
          .name = NAME,
          .skip = 1,
          .times = 1,
          .error = -EIO,
          .afterwards = true},
         3 * BLOCK + 50},
        {{.kind = FAULT_TRUNCATE, .name = NAME, .times = 1, .error = -EPERM}, WITH_PADDING},
    };
    for (size_t w = 0; w < WAYS; w++) {
        for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
            struct rig rig;
            size_t length = 3 * BLOCK + 9;
            if (!ways[w].direct || !rig_begin(&rig, w, length)) {
                continue;
            }
            model_begin(length);
            /* In two pieces, with both edges. */
            rig_write(&rig, 6 * BLOCK, 0, 0);
            rig_write(&rig, 77, 3 * BLOCK + 50 - 77, 5);
            rig_write(&rig, 8 * BLOCK, BLOCK, 6);
            (void)fault_io_arm(&rig.fault, &steps[s].rule);
            assert_int_equal(rig_execute(&rig), steps[s].rule.error);
            assert_int_equal(rig.execution.failed, 1);
            assert_int_equal(rig.execution.executed, 1);
            assert_int_equal(rig.execution.unsure, 0);
            assert_int_equal(weir_batch_len(rig.batch), 2);
            const size_t block = rig.writer.block_bytes;
            const size_t padded = (3 * BLOCK + 50 + block - 1) / block * block;
            assert_int_equal(rig_file(&rig, content),
                             steps[s].length == WITH_PADDING ? padded : steps[s].length);
            fault_io_heal(&rig.fault);
            if (steps[s].rule.kind == FAULT_TRUNCATE) {
                /* The padding has become part of the file, as the failure said. */
                length = padded;
            }
            assert_int_equal(rig_execute(&rig), 0);
            assert_done(&rig, 2, 0);
            model_write(&length, 77, 3 * BLOCK + 50 - 77, 5);
            model_write(&length, 8 * BLOCK, BLOCK, 6);
            assert_file(&rig, length);
            rig_destroy(&rig);
        }
    }
}

/* Whole blocks from memory that suits go out as they are: one write, no read, no copy. */
static void whole_blocks_go_straight(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        if (!ways[w].direct || !rig_begin(&rig, w, 0)) {
            continue;
        }
        for (unsigned i = 0; i < 10; i++) {
            rig_write(&rig, i * 5 * BLOCK, 5 * BLOCK, i);
        }
        assert_int_equal(rig_execute(&rig), 0);
        assert_int_equal(rig_count(&rig, FAULT_WRITE, 0), 10);
        assert_int_equal(rig_count(&rig, FAULT_READ, 0), 0);
        assert_int_equal(rig_count(&rig, FAULT_TRUNCATE, 0), 0);
        assert_int_equal(rig_count(&rig, FAULT_QUEUE_PUSH, 0), 1);
        rig_destroy(&rig);
    }
}

/* ---- against a model ------------------------------------------------------------------------- */

#define MODEL_BYTES ((uint64_t)192 << 10)
#define MODEL_READS 1024u

struct model_run {
    struct rig *rig;
    struct weir_executor *executor;
    const char *path;
    struct random random;
    size_t length;
    unsigned tag;
    /* What the reads of the batch are to bring. */
    struct {
        uint64_t offset;
        size_t bytes;
        uint8_t *data;
    } expected[MODEL_READS];
    size_t expected_count;
};

static size_t random_bytes(struct random *random)
{
    switch (random_below(random, 8)) {
    case 0:
        return 0;
    case 1:
        return (size_t)(1 + random_below(random, 4)) * BLOCK;
    case 2:
        return (size_t)(1 + random_below(random, 7)) * 512;
    case 3:
        return (size_t)random_below(random, 40000);
    default:
        return (size_t)random_below(random, 3000);
    }
}

/* Puts one random operation into the batch, and carries it out in the model. False: no memory. */
static bool model_step(struct model_run *run, struct weir_batch *batch)
{
    static uint8_t data[65536];
    struct random *const random = &run->random;
    const uint64_t unit = random_below(random, 3) == 0 ? BLOCK : random_below(random, 2) ? 512 : 1;
    const uint64_t offset = random_below(random, MODEL_BYTES) / unit * unit;
    const size_t bytes = random_bytes(random);

    switch (random_below(random, 16)) {
    case 0:
        return weir_batch_sync(batch) == 0;
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6: {
        const size_t left = offset < run->length ? run->length - (size_t)offset : 0;
        const size_t got = bytes < left ? bytes : left;
        uint8_t *const copy = malloc(got + 1);
        if (copy == NULL) {
            return false;
        }
        memcpy(copy, model + offset, got);
        run->expected[run->expected_count].offset = offset;
        run->expected[run->expected_count].bytes = got;
        run->expected[run->expected_count++].data = copy;
        return weir_batch_read(batch, offset, bytes) == 0;
    }
    default:
        run->tag++;
        for (size_t i = 0; i < bytes; i++) {
            data[i] = new_byte(run->tag, i);
        }
        model_write(&run->length, offset, bytes, run->tag);
        return weir_batch_write(batch, offset, data, bytes) == 0;
    }
}

/* Executes batches of random lengths until so many operations are done. */
static void model_operate(struct worker *worker)
{
    struct model_run *const run = worker->ctx;
    struct weir_batch *batch = NULL;
    unsigned left = 500;

    if (weir_batch_new(NULL, &batch) != 0) {
        worker_fail(worker, "no batch");
        return;
    }
    while (left > 0 && worker->failure[0] == '\0') {
        const unsigned count = 1 + (unsigned)random_below(&run->random, left < 90 ? left : 90);
        run->expected_count = 0;
        for (unsigned i = 0; i < count; i++) {
            if (!model_step(run, batch)) {
                worker_fail(worker, "no memory");
            }
        }
        struct weir_execution execution;
        const int code = weir_executor_execute(run->executor, batch, &execution);
        if (code != 0 || execution.executed != count || weir_batch_len(batch) != 0 ||
            execution.read_count != run->expected_count) {
            worker_fail(worker, "%d at %zu of %u", code, execution.failed, count);
        }
        for (size_t i = 0; i < run->expected_count; i++) {
            const struct weir_read_result *const read = &execution.reads[i];
            if (worker->failure[0] == '\0' &&
                (read->offset != run->expected[i].offset || read->bytes != run->expected[i].bytes ||
                 memcmp(read->data, run->expected[i].data, read->bytes) != 0)) {
                worker_fail(worker,
                            "read %zu of %zu bytes at %llu, not %zu at %llu, or other bytes",
                            i,
                            read->bytes,
                            (unsigned long long)read->offset,
                            run->expected[i].bytes,
                            (unsigned long long)run->expected[i].offset);
            }
            free(run->expected[i].data);
        }
        left -= count;
    }
    weir_batch_free(batch);
}

/* A thousand operations, half of them by each of two threads in turn, on one executor. */
static void random_batches_agree_with_a_model(void **state)
{
    (void)state;
    static struct model_run run;
    const unsigned rounds = test_rounds(1);
    for (size_t w = 0; w < WAYS; w++) {
        for (unsigned round = 0; round < rounds; round++) {
            struct rig rig;
            if (!rig_begin(&rig, w, 50000)) {
                break;
            }
            model_begin(50000);
            run = (struct model_run){
                .rig = &rig,
                .executor = rig.executor,
                .random = {test_seed() + w * 1000 + round},
                .length = 50000,
            };
            workers_run(1, model_operate, &run, 1);
            workers_run(1, model_operate, &run, 2);
            assert_file(&rig, run.length);
            rig_destroy(&rig);
        }
    }
}

/* ---- figures, configs, the public way in ----------------------------------------------------- */

static void stats_count_operations_and_bytes(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        struct rig rig;
        struct weir_io_stats stats;
        if (!rig_begin(&rig, w, 10 * BLOCK)) {
            continue;
        }
        for (unsigned i = 0; i < 10; i++) {
            rig_write(&rig, i * BLOCK, BLOCK, i);
            assert_int_equal(weir_batch_read(rig.batch, i * BLOCK, 2 * BLOCK), 0);
            if (i % 5 == 0) {
                assert_int_equal(weir_batch_sync(rig.batch), 0);
            }
        }
        weir_executor_stats(rig.executor, &stats);
        assert_int_equal(stats.ops_submitted, 0);
        assert_int_equal(stats.ops_completed, 0);
        assert_int_equal(rig_execute(&rig), 0);
        weir_executor_stats(rig.executor, &stats);
        assert_int_equal(stats.bytes_written, 10 * BLOCK);
        assert_int_equal(stats.bytes_read, 19 * BLOCK);
        /* The one that met the end asks again, and in order so do those behind it. */
        assert_true(stats.ops_submitted >= 23);
        assert_int_equal(stats.ops_submitted, stats.ops_completed);
        assert_int_equal(weir_io_stats_in_flight(&stats), 0);
        assert_int_equal(stats.cqe_overflows, 0);
        assert_int_equal(stats.sq_dropped, 0);
        rig_destroy(&rig);
    }
}

static void wrong_ways_to_open_are_refused(void **state)
{
    (void)state;
    struct weir_executor *executor = NULL;
    struct weir_error error = {0};
    struct rig rig;
    assert_int_equal(weir_executor_open(NULL, NULL, NULL, 0, &executor, &error), -EINVAL);
    assert_true(strstr(error.text, "writer") != NULL);
    assert_int_equal(weir_executor_open(NULL, NULL, NULL, 0, &executor, NULL), -EINVAL);
    assert_int_equal(weir_executor_for_writer(NULL, &executor, NULL), -EINVAL);
    assert_int_equal(weir_executor_for_reader(NULL, &executor, NULL), -EINVAL);
    rig_make(&rig, &ways[WAYS - 1], 0);
    assert_int_equal(
        weir__executor_open_on(&rig.writer, NULL, &rig.config, &rig.fault.io, 2, &executor, &error),
        -EINVAL);
    assert_true(strstr(error.text, "flags") != NULL);
    rig.config.max_inflight = 0;
    assert_int_equal(
        weir__executor_open_on(&rig.writer, NULL, &rig.config, &rig.fault.io, 0, &executor, &error),
        -EINVAL);
    assert_true(strstr(error.text, "max_inflight") != NULL);
    rig.config.max_inflight = 4;
    (void)fault_io_arm(&rig.fault, &(struct fault_rule){.kind = FAULT_QUEUE_OPEN, .error = -EPERM});
    rig.config.backend = WEIR_IO_BACKEND_URING;
    assert_int_equal(
        weir__executor_open_on(&rig.writer, NULL, &rig.config, &rig.fault.io, 0, &executor, &error),
        -EPERM);
    assert_null(executor);
    weir_executor_close(NULL);
    rig_destroy(&rig);
}

/* ---- a polling ring -------------------------------------------------------------------------- */

/* The pool, which says of itself that the kernel polls, and counts pushes that hold a sync. */
static struct {
    struct weir__io io;
    struct weir__io_ops ops;
    unsigned syncs_alone;
    unsigned syncs_in_company;
} polled;

static int polled_open(struct weir__io *io,
                       struct weir__mem *mem,
                       const struct weir__queue_config *config,
                       struct weir__queue **queue_out,
                       struct weir__queue_info *info_out)
{
    struct weir__io *const pool = weir__io_system_pool();
    const int code = pool->ops->queue_open(pool, mem, config, queue_out, info_out);
    (void)io;
    info_out->kernel_poll = config->kernel_poll;
    info_out->ring_entries = config->ring_entries;
    info_out->completion_entries = 2 * config->ring_entries;
    return code;
}

static int polled_push(struct weir__io *io,
                       struct weir__queue *queue,
                       const struct weir__op *ops,
                       unsigned count)
{
    struct weir__io *const pool = weir__io_system_pool();
    (void)io;
    for (unsigned i = 0; i < count; i++) {
        if (ops[i].kind == WEIR__OP_SYNC) {
            polled.syncs_alone += count == 1;
            polled.syncs_in_company += count > 1;
        }
    }
    return pool->ops->queue_push(pool, queue, ops, count);
}

/* The thread of such a ring may take a part of a linked run: no sync may be in one. */
static void a_polling_ring_gets_its_syncs_alone(void **state)
{
    (void)state;
    for (int poll = 0; poll < 2; poll++) {
        char root[TEMP_DIR_BYTES];
        char path[TEMP_DIR_BYTES];
        struct weir_writer *writer = NULL;
        struct weir_executor *executor = NULL;
        struct weir_batch *batch = NULL;
        struct weir_io_config config = weir_io_config_minimal();
        memset(&polled, 0, sizeof polled);
        polled.ops = *weir__io_system_pool()->ops;
        polled.ops.queue_open = polled_open;
        polled.ops.queue_push = polled_push;
        polled.io = (struct weir__io){.ops = &polled.ops};
        temp_dir_make(root);
        temp_dir_join(root, NAME, path);
        assert_int_equal(weir_writer_create(path, &config, &writer, NULL), 0);
        config.kernel_poll = poll != 0;
        assert_int_equal(weir__executor_open_on(weir__writer_file(writer),
                                                NULL,
                                                &config,
                                                &polled.io,
                                                0,
                                                &executor,
                                                NULL),
                         0);
        assert_int_equal(weir_batch_new(NULL, &batch), 0);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(weir_batch_write(batch, 10 * (uint64_t)i, "abc", 3), 0);
            assert_int_equal(weir_batch_write(batch, 10 * (uint64_t)i + 3, "def", 3), 0);
            assert_int_equal(weir_batch_sync(batch), 0);
        }
        assert_int_equal(weir_executor_execute(executor, batch, NULL), 0);
        assert_int_equal(polled.syncs_alone, poll != 0 ? 3 : 0);
        assert_int_equal(polled.syncs_in_company, poll != 0 ? 0 : 3);
        weir_executor_close(executor);
        weir_batch_free(batch);
        assert_int_equal(weir_writer_close(writer, NULL), 0);
        temp_dir_remove(root);
    }
}

/* On a public writer and reader, with their config, over the system. */
static void a_public_executor_works_on_its_writer_and_reader(void **state)
{
    (void)state;
    static const enum weir_io_backend backends[] = {WEIR_IO_BACKEND_URING, WEIR_IO_BACKEND_POSIX};
    for (unsigned i = 0; i < 8; i++) {
        char root[TEMP_DIR_BYTES];
        char path[TEMP_DIR_BYTES];
        struct weir_writer *writer = NULL;
        struct weir_reader *reader = NULL;
        struct weir_executor *executor = NULL;
        struct weir_batch *batch = NULL;
        struct weir_execution execution;
        struct weir_io_effective effective;
        struct weir_error error = {0};
        struct weir_io_config config = weir_io_config_minimal();
        config.backend = backends[i % 2];
        config.direct_io = i / 2 % 2 == 1;
        config.max_inflight = 7;
        /* Once through the kernel's thread. */
        config.kernel_poll = i == 4;
        config.sq_poll_idle_ms = 1;
        if (config.backend == WEIR_IO_BACKEND_URING && !weir_io_uring_available(NULL, 0)) {
            print_message("no io_uring here\n");
            continue;
        }
        temp_dir_make(root);
        temp_dir_join(root, NAME, path);
        assert_int_equal(weir_batch_new(NULL, &batch), 0);
        assert_int_equal(weir_writer_create(path, &config, &writer, NULL), 0);
        assert_int_equal(weir_reader_open(path, &config, &reader, NULL), 0);
        if (weir_executor_open(writer, reader, NULL, i / 4, &executor, &error) != 0) {
            fail_msg("%s", error.text);
        }
        weir_executor_effective(executor, &effective);
        assert_int_equal(effective.config.backend, config.backend);
        assert_int_equal(effective.config.max_inflight, 7);
        assert_int_equal(effective.config.direct_io, weir__writer_file(writer)->direct);
        assert_int_equal(effective.block_bytes, weir__writer_file(writer)->block_bytes);

        assert_int_equal(weir_batch_write(batch, 10, "abcdef", 6), 0);
        assert_int_equal(weir_batch_sync(batch), 0);
        assert_int_equal(weir_batch_read(batch, 0, 100), 0);
        assert_int_equal(weir_executor_execute(executor, batch, &execution), 0);
        assert_int_equal(execution.executed, 3);
        assert_int_equal(execution.read_count, 1);
        assert_int_equal(execution.reads[0].bytes, 16);
        assert_memory_equal((const uint8_t *)execution.reads[0].data + 10, "abcdef", 6);
        weir_executor_close(executor);

        assert_int_equal(weir_executor_for_writer(writer, &executor, NULL), 0);
        assert_int_equal(weir_batch_write(batch, 12, "XY", 2), 0);
        assert_int_equal(weir_executor_execute(executor, batch, NULL), 0);
        assert_int_equal(weir_batch_read(batch, 0, 1), 0);
        assert_int_equal(weir_executor_execute(executor, batch, NULL), -EINVAL);
        weir_batch_clear(batch);
        weir_executor_close(executor);

        assert_int_equal(weir_executor_for_reader(reader, &executor, NULL), 0);
        weir_executor_effective(executor, &effective);
        assert_int_equal(effective.config.max_inflight, 7);
        assert_int_equal(weir_batch_read(batch, 10, 6), 0);
        assert_int_equal(weir_batch_sync(batch), 0);
        assert_int_equal(weir_executor_execute(executor, batch, &execution), 0);
        assert_memory_equal(execution.reads[0].data, "abXYef", 6);
        weir_executor_close(executor);

        weir_batch_free(batch);
        weir_reader_close(reader);
        assert_int_equal(weir_writer_close(writer, NULL), 0);
        temp_dir_remove(root);
    }
}

/* O_DIRECT that was asked for and is not there, is told. */
static void effective_tells_what_the_files_are(void **state)
{
    (void)state;
    struct weir_io_effective effective;
    struct rig rig;
    rig_make(&rig, &ways[WAYS - 4], 0);
    assert_false(rig.way->direct);
    rig.config.direct_io = true;
    rig_open(&rig);
    weir_executor_effective(rig.executor, &effective);
    assert_false(effective.config.direct_io);
    assert_int_equal(effective.block_bytes, 1);
    assert_true(strstr(effective.reason, "direct_io") != NULL);
    rig_destroy(&rig);
}

/* ---- for tests/integration/test_executor_enters.sh ------------------------------------------- */

/* Executes a batch of `writes` writes of 4 KiB and a Sync (none: an empty batch) on a ring, and
 * nothing else: so that its system calls can be counted from outside. */
static int drive(const char *path, unsigned writes, unsigned inflight, bool direct)
{
    struct weir_writer *writer = NULL;
    struct weir_executor *executor = NULL;
    struct weir_batch *batch = NULL;
    struct weir_io_config config = weir_io_config_default();
    /* The writer is on the pool: the ring is the executor's alone. */
    config.backend = WEIR_IO_BACKEND_POSIX;
    config.direct_io = direct;
    if (weir_writer_create(path, &config, &writer, NULL) != 0) {
        return 1;
    }
    config.backend = WEIR_IO_BACKEND_URING;
    config.max_inflight = inflight;
    if (weir_batch_new(NULL, &batch) != 0 ||
        weir_executor_open(writer, NULL, &config, 0, &executor, NULL) != 0) {
        return 1;
    }
    for (unsigned i = 0; i < writes; i++) {
        if (weir_batch_write(batch, i * BLOCK, model, BLOCK) != 0) {
            return 1;
        }
    }
    if (writes > 0 && weir_batch_sync(batch) != 0) {
        return 1;
    }
    const int code = weir_executor_execute(executor, batch, NULL);
    weir_executor_close(executor);
    weir_batch_free(batch);
    return weir_writer_close(writer, NULL) == 0 && code == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "--drive") == 0) {
        return drive(argv[2],
                     (unsigned)strtoul(argv[3], NULL, 10),
                     (unsigned)strtoul(argv[4], NULL, 10),
                     strcmp(argv[5], "direct") == 0);
    }
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_come_back_in_order_with_their_offsets),
        cmocka_unit_test(a_read_is_short_at_the_end_of_the_file_only),
        cmocka_unit_test(operations_that_overlap_see_their_order),
        cmocka_unit_test(an_empty_batch_and_empty_operations_submit_nothing),
        cmocka_unit_test(what_is_under_way_holds_up_what_has_to_wait),
        cmocka_unit_test(a_sync_comes_between_what_is_before_and_behind),
        cmocka_unit_test(a_read_beyond_the_end_holds_up_what_lengthens_the_file),
        cmocka_unit_test(a_write_beyond_the_end_holds_up_who_reads_the_hole),
        cmocka_unit_test(reads_that_came_back_late_keep_their_place),
        cmocka_unit_test(max_inflight_bounds_and_is_refilled),
        cmocka_unit_test(in_order_a_window_is_one_submission),
        cmocka_unit_test(a_small_ring_makes_small_windows),
        cmocka_unit_test(an_error_tells_its_index_and_keeps_the_rest),
        cmocka_unit_test(the_rest_of_a_failed_batch_is_written_before_a_later_sync),
        cmocka_unit_test(short_results_are_gone_on_with),
        cmocka_unit_test(of_several_errors_the_lowest_index_counts),
        cmocka_unit_test(after_an_error_nothing_more_is_submitted),
        cmocka_unit_test(a_refused_submission_is_the_error_of_its_first_operation),
        cmocka_unit_test(what_lacks_its_file_is_refused_before_anything_is_done),
        cmocka_unit_test(a_sync_without_a_writer_succeeds_and_does_nothing),
        cmocka_unit_test(no_memory_for_results_leaves_the_batch_as_it_was),
        cmocka_unit_test(no_memory_at_opening_leaves_nothing_behind),
        cmocka_unit_test(a_broken_queue_leaves_its_memory_alone),
        cmocka_unit_test(writes_of_any_place_keep_their_neighbours_and_the_length),
        cmocka_unit_test(a_failed_step_of_an_unaligned_write_fails_it),
        cmocka_unit_test(whole_blocks_go_straight),
        cmocka_unit_test(random_batches_agree_with_a_model),
        cmocka_unit_test(stats_count_operations_and_bytes),
        cmocka_unit_test(wrong_ways_to_open_are_refused),
        cmocka_unit_test(a_polling_ring_gets_its_syncs_alone),
        cmocka_unit_test(a_public_executor_works_on_its_writer_and_reader),
        cmocka_unit_test(effective_tells_what_the_files_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
