/* SPDX-License-Identifier: Apache-2.0
 * The appending writer: where bytes go, when they are there, and what an error leaves.
 *
 * Every test runs four times: over a ring and over a pool of threads, buffered and with O_DIRECT.
 * Where the kernel refuses a ring those variants are skipped, where the file system refuses
 * O_DIRECT they run buffered, and say so. */
#include "io/writer.h"
#include "io/writer_state.h"
#include "port/clock.h"
#include "support/fault_io.h"
#include "support/temp_dir.h"
#include "support/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BUFFER_BYTES 4096u
#define BUFFERS 4u

struct variant {
    const char *name;
    enum weir_io_backend backend;
    enum fault_queue_kind queue;
    bool direct;
};

static struct variant variants[] = {
    {"ring, buffered", WEIR_IO_BACKEND_URING, FAULT_QUEUE_RING, false},
    {"ring, direct", WEIR_IO_BACKEND_URING, FAULT_QUEUE_RING, true},
    {"pool, buffered", WEIR_IO_BACKEND_POSIX, FAULT_QUEUE_THREADS, false},
    {"pool, direct", WEIR_IO_BACKEND_POSIX, FAULT_QUEUE_THREADS, true},
};
#define VARIANTS (sizeof variants / sizeof variants[0])

struct bench {
    const struct variant *variant;
    char dir[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    struct fault_io fault;
    struct weir_io_config config;
    struct weir_writer *writer;
    struct weir_error error;
};

/* ---- bench ---- */

static int set_up(void **state)
{
    struct bench *const bench = calloc(1, sizeof *bench);
    if (bench == NULL) {
        return -1;
    }
    bench->variant = *state;
    temp_dir_make(bench->dir);
    temp_dir_join(bench->dir, "file", bench->path);
    fault_io_init(&bench->fault, bench->variant->queue);
    bench->config = weir_io_config_minimal();
    bench->config.backend = bench->variant->backend;
    bench->config.direct_io = bench->variant->direct;
    bench->config.registered_buffers = BUFFERS;
    bench->config.buffer_bytes = BUFFER_BYTES;
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *const bench = *state;
    fault_io_exit(&bench->fault);
    temp_dir_remove(bench->dir);
    free(bench);
    return 0;
}

/* What the file stands behind: the system, for tests that spoil nothing. */
static void open_plainly(struct bench *bench, bool must_exist)
{
    const int code = (must_exist ? weir_writer_open : weir_writer_create)(bench->path,
                                                                          &bench->config,
                                                                          &bench->writer,
                                                                          &bench->error);
    if (code != 0) {
        fail_msg("%d: %s", code, bench->error.text);
    }
}

static void open_faulty(struct bench *bench)
{
    const int code = weir__writer_open_with(&bench->fault.io,
                                            bench->path,
                                            false,
                                            &bench->config,
                                            &bench->writer,
                                            &bench->error);
    if (code != 0) {
        fail_msg("%d: %s", code, bench->error.text);
    }
}

static void close_well(struct bench *bench)
{
    const int code = weir_writer_close(bench->writer, &bench->error);
    if (code != 0) {
        fail_msg("%d: %s", code, bench->error.text);
    }
    bench->writer = NULL;
}

/* The byte that stands at a position, whoever wrote it, in tests that write in order. */
static uint8_t byte_at(uint64_t position)
{
    return (uint8_t)((position * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static void write_next(struct bench *bench, size_t bytes)
{
    const uint64_t offset = weir_writer_offset(bench->writer);
    uint8_t *const data = malloc(bytes + 1);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++) {
        data[i] = byte_at(offset + i);
    }
    uint64_t told = 0;
    assert_int_equal(weir_writer_write(bench->writer, data, bytes, &told), 0);
    assert_int_equal(told, offset);
    free(data);
}

static void put_file(const char *path, uint64_t bytes)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    for (uint64_t i = 0; i < bytes; i++) {
        const uint8_t byte = byte_at(i);
        assert_int_equal(write(file, &byte, 1), 1);
    }
    assert_int_equal(close(file), 0);
}

static uint8_t *read_file(const char *path, uint64_t *bytes_out)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    struct stat status;
    assert_int_equal(fstat(file, &status), 0);
    const size_t bytes = (size_t)status.st_size;
    uint8_t *const data = malloc(bytes + 1);
    assert_non_null(data);
    for (size_t done = 0; done < bytes;) {
        const ssize_t got = pread(file, data + done, bytes - done, (off_t)done);
        assert_true(got > 0);
        done += (size_t)got;
    }
    (void)close(file);
    *bytes_out = bytes;
    return data;
}

/* The file has exactly so many bytes, each the one of its position. */
static void assert_file(const struct bench *bench, uint64_t bytes)
{
    uint64_t found;
    uint8_t *const data = read_file(bench->path, &found);
    assert_int_equal(found, bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        if (data[i] != byte_at(i)) {
            fail_msg("byte %" PRIu64 " is not what was written there", i);
        }
    }
    free(data);
}

static bool sleeps(void *ctx)
{
    struct weir_writer *const writer = ctx;
    return weir__load(&writer->sleep, acquire) != WRITER_AWAKE;
}

/* ---- opening ---- */

static void a_new_file_is_made_and_closes_empty(void **state)
{
    struct bench *const bench = *state;
    struct weir_io_effective effective;
    open_faulty(bench);
    assert_int_equal(weir_writer_offset(bench->writer), 0);
    assert_int_equal(weir_writer_error(bench->writer, &bench->error), 0);
    assert_int_equal(bench->error.code, 0);
    weir_writer_effective(bench->writer, &effective);
    if (!effective.config.direct_io && bench->variant->direct) {
        print_message("no O_DIRECT here: buffered\n");
        assert_non_null(strstr(effective.reason, "O_DIRECT"));
    }
    assert_true(effective.block_bytes >= (effective.config.direct_io ? 512 : 1));
    close_well(bench);
    assert_file(bench, 0);
    assert_int_equal(fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_WRITE}), 0);
    assert_int_equal(
        fault_io_count(&bench->fault,
                       &(struct fault_look){.kind = FAULT_SYNC_DIR, .succeeded = true}),
        1);
    assert_int_equal(weir_writer_close(NULL, NULL), 0);
}

/* Fault 1 of those that this layer must not have: a file that is there is written from its
 * beginning. */
static void an_existing_file_is_gone_on_with_at_its_end(void **state)
{
    struct bench *const bench = *state;
    static const uint64_t ends[] = {0, 1, 511, 512, 513, 4095, 4096, 4097, 12288, 70001};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        put_file(bench->path, ends[i]);
        open_plainly(bench, true);
        assert_int_equal(weir_writer_offset(bench->writer), ends[i]);
        write_next(bench, 3);
        assert_int_equal(weir_writer_flush(bench->writer), 0);
        assert_file(bench, ends[i] + 3);
        write_next(bench, 2 * BUFFER_BYTES + 77);
        close_well(bench);
        assert_file(bench, ends[i] + 3 + 2 * BUFFER_BYTES + 77);
        /* And again, by the call that would have made it. */
        open_plainly(bench, false);
        write_next(bench, 1);
        close_well(bench);
        assert_file(bench, ends[i] + 4 + 2 * BUFFER_BYTES + 77);
    }
}

static void a_last_block_that_cannot_be_read_is_an_error(void **state)
{
    struct bench *const bench = *state;
    struct weir_io_effective effective;
    put_file(bench->path, 700);
    open_faulty(bench);
    weir_writer_effective(bench->writer, &effective);
    close_well(bench);
    if (!effective.config.direct_io) {
        return; /* nothing to complete: a write may begin at any byte */
    }
    const unsigned rule = fault_io_arm(
        &bench->fault,
        &(struct fault_rule){.kind = FAULT_READ, .name = "file", .times = 1, .error = -EIO});
    assert_int_equal(weir__writer_open_with(&bench->fault.io,
                                            bench->path,
                                            true,
                                            &bench->config,
                                            &bench->writer,
                                            &bench->error),
                     -EIO);
    assert_int_equal(bench->error.code, -EIO);
    assert_string_equal(bench->error.file, "file");
    assert_non_null(strstr(bench->error.text, "last block"));
    fault_io_disarm(&bench->fault, rule);

    /* A short one is read again, from the start of the block. */
    const unsigned twice = fault_io_arm(&bench->fault,
                                        &(struct fault_rule){.kind = FAULT_READ,
                                                             .name = "file",
                                                             .times = 2,
                                                             .shortened = true,
                                                             .bytes = 0});
    open_faulty(bench);
    assert_int_equal(fault_io_spoilt(&bench->fault, twice), 2);
    write_next(bench, 5);
    close_well(bench);
    assert_file(bench, 705);
}

static void what_cannot_be_opened_is_refused(void **state)
{
    struct bench *const bench = *state;
    struct weir_writer *writer = (struct weir_writer *)&writer;
    struct weir_writer *const before = writer;

    assert_int_equal(weir_writer_open(bench->path, &bench->config, &writer, &bench->error),
                     -ENOENT);
    assert_int_equal(bench->error.code, -ENOENT);
    assert_string_equal(bench->error.file, "file");
    assert_int_equal(weir_writer_create(bench->dir, &bench->config, &writer, &bench->error),
                     -EISDIR);
    assert_int_equal(weir_writer_create(NULL, &bench->config, &writer, &bench->error), -EINVAL);
    assert_int_equal(symlink("elsewhere", bench->path), 0);
    assert_int_equal(weir_writer_create(bench->path, &bench->config, &writer, &bench->error),
                     -ELOOP);
    assert_int_equal(weir_writer_create(bench->path, &bench->config, &writer, NULL), -ELOOP);
    assert_ptr_equal(writer, before);
    assert_int_equal(temp_dir_count(bench->dir, "elsewhere"), 0);
}

static void one_buffer_is_too_few(void **state)
{
    struct bench *const bench = *state;
    for (uint32_t count = 0; count < 2; count++) {
        bench->config.registered_buffers = count;
        assert_int_equal(
            weir_writer_create(bench->path, &bench->config, &bench->writer, &bench->error),
            -EINVAL);
        assert_int_equal(bench->error.code, -EINVAL);
        assert_non_null(strstr(bench->error.text, "registered_buffers"));
        assert_int_equal(temp_dir_count(bench->dir, ""), 0);
    }
    bench->config.registered_buffers = 2;
    bench->config.buffer_bytes = 4097;
    assert_int_equal(weir_writer_create(bench->path, &bench->config, &bench->writer, &bench->error),
                     -EINVAL);
    assert_non_null(strstr(bench->error.text, "buffer_bytes"));
}

/* The second opening is the one with O_DIRECT. */
static void a_file_system_without_direct_io_is_told_and_used(void **state)
{
    struct bench *const bench = *state;
    struct weir_io_effective effective;
    const unsigned rule = fault_io_arm(&bench->fault,
                                       &(struct fault_rule){.kind = FAULT_OPEN,
                                                            .name = "file",
                                                            .skip = 1,
                                                            .times = 1,
                                                            .error = -EINVAL});
    open_faulty(bench);
    weir_writer_effective(bench->writer, &effective);
    assert_false(effective.config.direct_io);
    assert_int_equal(effective.block_bytes, 1);
    assert_int_equal(fault_io_spoilt(&bench->fault, rule), bench->variant->direct);
    assert_int_equal(strstr(effective.reason, "direct_io") != NULL, bench->variant->direct);
    write_next(bench, 9999);
    close_well(bench);
    assert_file(bench, 9999);
}

/* tmpfs, where there is one: whatever it says to O_DIRECT, the bytes are right. */
static void another_file_system_will_do(void **state)
{
    struct bench *const bench = *state;
    struct weir_io_effective effective;
    char path[64];
    if (access("/dev/shm", W_OK) != 0) {
        skip();
    }
    (void)snprintf(path, sizeof path, "/dev/shm/weir-test-writer-%ld", (long)getpid());
    char before[TEMP_DIR_BYTES];
    memcpy(before, bench->path, sizeof before);
    (void)snprintf(bench->path, sizeof bench->path, "%s", path);
    open_plainly(bench, false);
    weir_writer_effective(bench->writer, &effective);
    print_message("tmpfs: direct_io %d %s\n", effective.config.direct_io, effective.reason);
    assert_true(effective.config.direct_io || !bench->variant->direct ||
                strstr(effective.reason, "direct_io") != NULL);
    for (unsigned i = 0; i < 9; i++) {
        write_next(bench, 1777);
        assert_int_equal(weir_writer_flush(bench->writer), 0);
    }
    close_well(bench);
    assert_file(bench, UINT64_C(9) * 1777);
    (void)unlink(path);
}

/* ---- writing ---- */

static void an_empty_write_tells_the_end(void **state)
{
    struct bench *const bench = *state;
    uint64_t offset = 1;
    open_plainly(bench, false);
    assert_int_equal(weir_writer_write(bench->writer, NULL, 0, &offset), 0);
    assert_int_equal(offset, 0);
    write_next(bench, 5);
    assert_int_equal(weir_writer_write(bench->writer, "", 0, &offset), 0);
    assert_int_equal(offset, 5);
    assert_int_equal(weir_writer_write(bench->writer, "", 0, NULL), 0);
    assert_int_equal(weir_writer_write(bench->writer, NULL, 1, &offset), -EINVAL);
    assert_int_equal(weir_writer_offset(bench->writer), 5);
    close_well(bench);
    assert_file(bench, 5);
}

static void a_write_may_be_larger_than_all_buffers(void **state)
{
    struct bench *const bench = *state;
    bench->config.registered_buffers = 2;
    bench->config.max_inflight = 1;
    bench->config.sq_entries = 1;
    open_plainly(bench, false);
    write_next(bench, 1);
    write_next(bench, (size_t)13 * BUFFER_BYTES + 5);
    assert_int_equal(weir_writer_flush(bench->writer), 0);
    assert_file(bench, 1 + (uint64_t)13 * BUFFER_BYTES + 5);
    write_next(bench, (size_t)7 * BUFFER_BYTES);
    close_well(bench);
    assert_file(bench, 6 + (uint64_t)20 * BUFFER_BYTES);
}

/* With O_DIRECT the last block goes out padded and is cut: the length must be right after each. */
static void the_length_is_exact_after_every_flush(void **state)
{
    struct bench *const bench = *state;
    struct random random = {test_seed()};
    open_plainly(bench, false);
    for (unsigned i = 0; i < 200; i++) {
        write_next(bench, (size_t)random_below(&random, i % 10 == 0 ? 20000 : 700));
        assert_int_equal(i % 7 == 3 ? weir_writer_sync(bench->writer)
                                    : weir_writer_flush(bench->writer),
                         0);
        struct stat status;
        assert_int_equal(stat(bench->path, &status), 0);
        assert_int_equal(status.st_size, weir_writer_offset(bench->writer));
        if (i % 20 == 0) {
            assert_file(bench, weir_writer_offset(bench->writer));
        }
    }
    const uint64_t bytes = weir_writer_offset(bench->writer);
    struct weir_io_stats stats;
    weir_writer_stats(bench->writer, &stats);
    assert_int_equal(weir_io_stats_in_flight(&stats), 0);
    assert_true(stats.bytes_written >= bytes);
    assert_int_equal(stats.cqe_overflows, 0);
    assert_int_equal(stats.sq_dropped, 0);
    close_well(bench);
    assert_file(bench, bytes);
}

/* What is in the file below the end when a padded block is written again must not come to grief:
 * every byte is looked at after each of many small flushes across several blocks. */
static void blocks_are_completed_byte_by_byte(void **state)
{
    struct bench *const bench = *state;
    open_plainly(bench, false);
    for (unsigned i = 0; i < 40; i++) {
        write_next(bench, 131);
        assert_int_equal(weir_writer_flush(bench->writer), 0);
        assert_file(bench, (uint64_t)(i + 1) * 131);
    }
    close_well(bench);
}

struct range {
    uint64_t offset;
    uint64_t bytes;
    uint64_t salt;
};

#define PRODUCERS 16u
#define WRITES_EACH 400u

struct crowd {
    struct bench *bench;
    struct range ranges[PRODUCERS][WRITES_EACH];
    unsigned writes;
};

static void fill(uint8_t *data, size_t bytes, uint64_t salt)
{
    struct random random = {salt};
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value = i % 8 == 0 ? random_next(&random) : value >> 8;
        data[i] = (uint8_t)value;
    }
}

static void crowd_write(struct worker *worker)
{
    struct crowd *const crowd = worker->ctx;
    struct weir_writer *const writer = crowd->bench->writer;
    const size_t room = (size_t)7 * BUFFER_BYTES;
    uint8_t *const data = malloc(room);

    for (unsigned i = 0; i < crowd->writes && data != NULL; i++) {
        struct range *const range = &crowd->ranges[worker->index][i];
        range->bytes = random_below(&worker->random, i % 32 == 0 ? room : 300);
        range->salt = random_next(&worker->random);
        fill(data, (size_t)range->bytes, range->salt);
        int code = weir_writer_write(writer, data, (size_t)range->bytes, &range->offset);
        if (code == 0 && random_below(&worker->random, 16) == 0) {
            code = weir_writer_flush(writer);
        }
        if (code == 0 && random_below(&worker->random, 64) == 0) {
            code = weir_writer_sync(writer);
        }
        if (code != 0) {
            worker_fail(worker, "write %u: %d", i, code);
            break;
        }
    }
    free(data);
}

static int range_order(const void *left, const void *right)
{
    const struct range *const a = left;
    const struct range *const b = right;
    /* An empty one stands before the one that begins where it does. */
    return a->offset != b->offset ? (a->offset < b->offset ? -1 : 1)
                                  : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static void assert_crowd(struct crowd *crowd, uint64_t start)
{
    struct bench *const bench = crowd->bench;
    const size_t count = (size_t)PRODUCERS * crowd->writes;
    struct range *const all = malloc(count * sizeof *all);
    uint8_t *const want = malloc((size_t)7 * BUFFER_BYTES);
    assert_non_null(all);
    assert_non_null(want);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        memcpy(all + (size_t)i * crowd->writes,
               crowd->ranges[i],
               crowd->writes * sizeof crowd->ranges[i][0]);
    }
    qsort(all, count, sizeof *all, range_order);
    uint64_t bytes;
    uint8_t *const data = read_file(bench->path, &bytes);
    uint64_t at = start;
    for (size_t i = 0; i < count; i++) {
        if (all[i].bytes == 0) {
            continue; /* where it stood is anybody's */
        }
        /* Neither a gap nor an overlap. */
        assert_int_equal(all[i].offset, at);
        at += all[i].bytes;
        assert_true(at <= bytes);
        fill(want, (size_t)all[i].bytes, all[i].salt);
        if (memcmp(data + all[i].offset, want, (size_t)all[i].bytes) != 0) {
            fail_msg("what was written at %" PRIu64 " does not stand there", all[i].offset);
        }
    }
    assert_int_equal(at, bytes);
    free(data);
    free(want);
    free(all);
}

/* Fault 2: the offset is told before the place is taken. */
static void writes_of_many_threads_stand_where_their_offsets_say(void **state)
{
    struct bench *const bench = *state;
    struct crowd *const crowd = calloc(1, sizeof *crowd);
    assert_non_null(crowd);
    crowd->bench = bench;
    crowd->writes = test_rounds(WRITES_EACH);
    if (crowd->writes > WRITES_EACH) {
        crowd->writes = WRITES_EACH;
    }
    put_file(bench->path, 1001);
    open_plainly(bench, true);
    workers_run(PRODUCERS, crowd_write, crowd, test_seed());
    close_well(bench);
    assert_crowd(crowd, 1001);
    free(crowd);
}

/* The same with operations that come back in any order and late. */
static void order_of_completion_does_not_matter(void **state)
{
    struct bench *const bench = *state;
    struct crowd *const crowd = calloc(1, sizeof *crowd);
    assert_non_null(crowd);
    crowd->bench = bench;
    crowd->writes = test_rounds(WRITES_EACH / 8);
    if (crowd->writes > WRITES_EACH) {
        crowd->writes = WRITES_EACH;
    }
    bench->fault.jitter = test_seed() | 1;
    open_faulty(bench);
    workers_run(PRODUCERS, crowd_write, crowd, test_seed() + 1);
    close_well(bench);
    assert_crowd(crowd, 0);
    free(crowd);
}

/* ---- flush and sync ---- */

struct holding {
    struct bench *bench;
    unsigned held;
    WEIR__ATOMIC(uint32_t) released;
    WEIR__ATOMIC(uint32_t) returned;
    int code;
    int sync_code; /* expected */
};

static void holding_release(struct worker *worker)
{
    struct holding *const holding = worker->ctx;
    if (!fault_io_wait_held(&holding->bench->fault, holding->held)) {
        worker_fail(worker, "nothing was begun");
    }
    weir__store(&holding->released, 1u, release);
    fault_io_release(&holding->bench->fault);
}

static void holding_flush(struct worker *worker)
{
    struct holding *const holding = worker->ctx;
    holding->code = weir_writer_flush(holding->bench->writer);
    weir__store(&holding->returned, 1u, release);
}

static void holding_sync(struct worker *worker)
{
    struct holding *const holding = worker->ctx;
    const int code = weir_writer_sync(holding->bench->writer);
    if (code != holding->sync_code) {
        worker_fail(worker, "sync: %d", code);
    }
}

static void hold(struct bench *bench, enum fault_kind kind)
{
    (void)fault_io_arm(
        &bench->fault,
        &(struct fault_rule){.kind = kind, .name = "file", .times = 1, .hold = true});
}

/* At its return the kernel has the bytes: a killed process loses none. */
static void a_flush_returns_after_its_writes_have_come_back(void **state)
{
    struct bench *const bench = *state;
    struct workers workers;
    open_faulty(bench);
    for (unsigned i = 0; i < 5; i++) {
        struct holding holding = {.bench = bench, .held = 1};
        hold(bench, FAULT_WRITE);
        write_next(bench, i * 1000 + 1);
        workers_start(&workers, 1, holding_release, &holding, 0);
        assert_int_equal(weir_writer_flush(bench->writer), 0);
        assert_true(weir__load(&holding.released, acquire) != 0);
        assert_file(bench, weir_writer_offset(bench->writer));
        workers_finish(&workers);
    }
    close_well(bench);
}

static void holding_write_long(struct worker *worker)
{
    struct holding *const holding = worker->ctx;
    static const uint8_t data[BUFFERS * BUFFER_BYTES + 10];
    const int code = weir_writer_write(holding->bench->writer, data, sizeof data, NULL);
    if (code != 0) {
        worker_fail(worker, "%d", code);
    }
}

static bool is_reserved(void *ctx)
{
    return weir_writer_offset(ctx) == BUFFERS * BUFFER_BYTES + 10;
}

/* Its last bytes are committed after everything before them is in the file and the owner has gone
 * to sleep: they fill no buffer, and nobody else would wake it. */
static void a_flush_is_served_by_whoever_commits_last(void **state)
{
    struct bench *const bench = *state;
    for (unsigned i = 0; i < 20; i++) {
        struct workers workers;
        struct holding holding = {.bench = bench};
        (void)unlink(bench->path);
        open_faulty(bench);
        (void)fault_io_arm(&bench->fault,
                           &(struct fault_rule){.kind = FAULT_WRITE, .name = "file", .hold = true});
        workers_start(&workers, 1, holding_write_long, &holding, 0);
        assert_true(fault_io_wait_held(&bench->fault, BUFFERS));
        assert_true(wait_until(is_reserved, bench->writer));
        fault_io_release(&bench->fault);
        assert_int_equal(weir_writer_flush(bench->writer), 0);
        workers_finish(&workers);
        struct stat status;
        assert_int_equal(stat(bench->path, &status), 0);
        assert_int_equal(status.st_size, BUFFERS * BUFFER_BYTES + 10);
        close_well(bench);
    }
}

static void a_flush_of_nothing_writes_nothing(void **state)
{
    struct bench *const bench = *state;
    open_faulty(bench);
    write_next(bench, 100);
    assert_int_equal(weir_writer_flush(bench->writer), 0);
    const size_t before = fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_WRITE});
    assert_int_equal(weir_writer_flush(bench->writer), 0);
    assert_int_equal(weir_writer_sync(bench->writer), 0);
    assert_int_equal(fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_WRITE}),
                     before);
    close_well(bench);
}

static void a_sync_is_begun_after_the_writes_have_come_back(void **state)
{
    struct bench *const bench = *state;
    bench->fault.jitter = test_seed() | 1;
    open_faulty(bench);
    for (unsigned i = 0; i < 10; i++) {
        fault_io_forget(&bench->fault);
        write_next(bench, (size_t)3 * BUFFER_BYTES + i * 100);
        assert_int_equal(weir_writer_sync(bench->writer), 0);
        assert_int_equal(fault_io_unsynced(&bench->fault, "file"), 0);
        struct fault_op *ops;
        const size_t count = fault_io_ops(&bench->fault, &ops);
        uint64_t written = 0;
        unsigned syncs = 0;
        for (size_t k = 0; k < count; k++) {
            if (ops[k].kind == FAULT_WRITE || ops[k].kind == FAULT_TRUNCATE) {
                assert_true(ops[k].ended != 0);
                written = ops[k].ended > written ? ops[k].ended : written;
            }
        }
        for (size_t k = 0; k < count; k++) {
            if (ops[k].kind == FAULT_SYNC) {
                syncs++;
                assert_true(ops[k].begun > written && ops[k].ended != 0);
                assert_int_equal(ops[k].result, 0);
            }
        }
        assert_int_equal(syncs, 1);
        free(ops);
    }
    /* Nothing new: it is asked for all the same, somebody else may have written. */
    fault_io_forget(&bench->fault);
    assert_int_equal(weir_writer_sync(bench->writer), 0);
    assert_int_equal(fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_SYNC}), 1);
    close_well(bench);
}

struct asked {
    struct weir_writer *writer;
    uint64_t tickets;
};

static bool all_asked(void *ctx)
{
    const struct asked *const asked = ctx;
    return weir__load(&asked->writer->sync_asked, acquire) >= asked->tickets;
}

/* Fault 4, its other half: one sync, not one for each who waits. */
static void one_sync_serves_all_who_wait(void **state)
{
    struct bench *const bench = *state;
    struct workers first;
    struct workers others;
    struct holding holding = {.bench = bench};
    open_faulty(bench);
    write_next(bench, 10);
    hold(bench, FAULT_SYNC);
    workers_start(&first, 1, holding_sync, &holding, 0);
    assert_true(fault_io_wait_held(&bench->fault, 1));
    /* These come while it is under way: it is too late for them, and one more does for all. */
    write_next(bench, 10);
    workers_start(&others, 8, holding_sync, &holding, 0);
    struct asked asked = {.writer = bench->writer, .tickets = 9};
    assert_true(wait_until(all_asked, &asked));
    fault_io_release(&bench->fault);
    workers_finish(&first);
    workers_finish(&others);
    assert_int_equal(fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_SYNC}), 2);
    assert_int_equal(fault_io_unsynced(&bench->fault, "file"), 0);
    close_well(bench);
}

static void holding_write(struct worker *worker)
{
    struct holding *const holding = worker->ctx;
    holding->code = weir_writer_write(holding->bench->writer, "abc", 3, NULL);
    weir__store(&holding->returned, 1u, release);
}

static bool has_returned(void *ctx)
{
    struct holding *const holding = ctx;
    return weir__load(&holding->returned, acquire) != 0;
}

/* Fault 4: a flush keeps everybody from writing until the device is done. */
static void a_flush_does_not_hold_writers_up(void **state)
{
    struct bench *const bench = *state;
    struct workers flush;
    struct workers write;
    struct holding flushing = {.bench = bench};
    struct holding writing = {.bench = bench};
    open_faulty(bench);
    assert_int_equal(weir_writer_write(bench->writer, "xyz", 3, NULL), 0);
    hold(bench, FAULT_WRITE);
    workers_start(&flush, 1, holding_flush, &flushing, 0);
    assert_true(fault_io_wait_held(&bench->fault, 1));
    workers_start(&write, 1, holding_write, &writing, 0);
    const bool returned = wait_until(has_returned, &writing);
    fault_io_heal(&bench->fault);
    workers_finish(&flush);
    workers_finish(&write);
    assert_true(returned);
    assert_int_equal(flushing.code, 0);
    assert_int_equal(writing.code, 0);
    close_well(bench);
}

/* Fault 5: what came in during a flush is counted off with what was flushed. */
static void what_is_written_during_a_flush_is_not_forgotten(void **state)
{
    struct bench *const bench = *state;
    struct workers workers;
    struct holding holding = {.bench = bench};
    open_faulty(bench);
    write_next(bench, 1000);
    hold(bench, FAULT_WRITE);
    workers_start(&workers, 1, holding_flush, &holding, 0);
    assert_true(fault_io_wait_held(&bench->fault, 1));
    write_next(bench, 500);
    fault_io_release(&bench->fault);
    workers_finish(&workers);
    assert_int_equal(holding.code, 0);
    assert_int_equal(weir_writer_flush(bench->writer), 0);
    assert_file(bench, 1500);
    write_next(bench, 3 * BUFFER_BYTES);
    close_well(bench);
    assert_file(bench, 1500 + 3 * BUFFER_BYTES);
}

/* A padded block is cut off afterwards: what was written above it meanwhile would go with it. */
static void nothing_is_begun_above_a_padded_block(void **state)
{
    struct bench *const bench = *state;
    struct workers workers;
    struct weir_io_effective effective;
    struct holding holding = {.bench = bench};
    open_faulty(bench);
    weir_writer_effective(bench->writer, &effective);
    write_next(bench, 1000);
    hold(bench, FAULT_WRITE);
    workers_start(&workers, 1, holding_flush, &holding, 0);
    assert_true(fault_io_wait_held(&bench->fault, 1));
    /* Fills the rest of the buffer and the next one. */
    write_next(bench, 2 * BUFFER_BYTES - 1000);
    /* Its owner was woken, and has done what it is going to do. */
    assert_true(wait_until(sleeps, bench->writer));
    fault_io_release(&bench->fault);
    workers_finish(&workers);
    assert_int_equal(weir_writer_flush(bench->writer), 0);
    assert_file(bench, 2 * BUFFER_BYTES);
    struct fault_op cut;
    const bool was_cut = fault_io_find(&bench->fault,
                                       &(struct fault_look){.kind = FAULT_TRUNCATE, .name = "file"},
                                       &cut);
    assert_int_equal(was_cut, effective.config.direct_io);
    if (was_cut) {
        assert_int_equal(cut.result, 0);
        assert_int_equal(
            fault_io_count(&bench->fault,
                           &(struct fault_look){.kind = FAULT_WRITE, .after = cut.ended}),
            2);
    } else {
        /* Without padding the next buffer goes out beside it. */
        struct fault_op above;
        struct fault_op below;
        assert_true(
            fault_io_find(&bench->fault,
                          &(struct fault_look){.kind = FAULT_WRITE, .offset_from = BUFFER_BYTES},
                          &above));
        assert_true(
            fault_io_find(&bench->fault, &(struct fault_look){.kind = FAULT_WRITE}, &below));
        assert_true(above.begun < below.ended);
    }
    close_well(bench);
}

/* ---- errors ---- */

/* Everything says so from now on, and the file is let alone. */
static void assert_failed(struct bench *bench, int code, uint64_t offset_min)
{
    uint64_t offset = 77;
    const uint64_t now = fault_io_now(&bench->fault);
    fault_io_heal(&bench->fault);
    assert_int_equal(weir_writer_sync(bench->writer), code);
    assert_int_equal(weir_writer_flush(bench->writer), code);
    assert_int_equal(weir_writer_write(bench->writer, "x", 1, &offset), code);
    assert_int_equal(offset, 77);
    assert_int_equal(weir_writer_error(bench->writer, &bench->error), code);
    assert_int_equal(bench->error.code, code);
    assert_int_equal(bench->error.system_code, -code);
    assert_string_equal(bench->error.file, "file");
    assert_true(bench->error.offset >= offset_min);
    assert_true(strlen(bench->error.text) > 10);
    struct weir_error last;
    assert_int_equal(weir_writer_close(bench->writer, &last), code);
    bench->writer = NULL;
    assert_memory_equal(&last, &bench->error, sizeof last);
    assert_int_equal(
        fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_WRITE, .after = now}),
        0);
    assert_int_equal(
        fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_SYNC, .after = now}),
        0);
    assert_int_equal(
        fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_TRUNCATE, .after = now}),
        0);
}

/* Fault 3: the rest of what waited is lost, and the next sync reports success. */
static void an_error_in_the_middle_stays(void **state)
{
    struct bench *const bench = *state;
    static const int codes[] = {-EIO, -ENOSPC, -EDQUOT, -EFBIG};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        (void)unlink(bench->path);
        open_faulty(bench);
        (void)fault_io_arm(&bench->fault,
                           &(struct fault_rule){.kind = FAULT_WRITE,
                                                .name = "file",
                                                .offset_from = (uint64_t)2 * BUFFER_BYTES,
                                                .times = 1,
                                                .error = codes[i]});
        write_next(bench, (size_t)3 * BUFFER_BYTES + 100);
        assert_int_equal(weir_writer_flush(bench->writer), codes[i]);
        assert_failed(bench, codes[i], (uint64_t)2 * BUFFER_BYTES);
        assert_true(bench->error.offset < (uint64_t)4 * BUFFER_BYTES);
    }
}

/* What fails later, because of it or not, does not take its place. */
static void the_first_error_is_kept(void **state)
{
    struct bench *const bench = *state;
    open_faulty(bench);
    (void)fault_io_arm(&bench->fault,
                       &(struct fault_rule){.kind = FAULT_WRITE,
                                            .name = "file",
                                            .offset_from = BUFFER_BYTES,
                                            .error = -ENOSPC,
                                            .hold = true});
    write_next(bench, 2 * BUFFER_BYTES);
    assert_true(fault_io_wait_held(&bench->fault, 1));
    (void)fault_io_arm(&bench->fault,
                       &(struct fault_rule){.kind = FAULT_QUEUE_PUSH, .times = 1, .error = -EIO});
    write_next(bench, BUFFER_BYTES);
    assert_int_equal(weir_writer_flush(bench->writer), -EIO);
    struct weir_error first;
    assert_int_equal(weir_writer_error(bench->writer, &first), -EIO);
    /* The held one comes back before the close is through. */
    fault_io_release(&bench->fault);
    assert_int_equal(weir_writer_close(bench->writer, &bench->error), -EIO);
    assert_memory_equal(&first, &bench->error, sizeof first);
}

static void nothing_is_synced_behind_a_write_that_failed(void **state)
{
    struct bench *const bench = *state;
    open_faulty(bench);
    (void)fault_io_arm(
        &bench->fault,
        &(struct fault_rule){.kind = FAULT_WRITE, .name = "file", .times = 1, .error = -EIO});
    write_next(bench, 100);
    assert_int_equal(weir_writer_sync(bench->writer), -EIO);
    assert_int_equal(fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_SYNC}), 0);
    assert_failed(bench, -EIO, 0);
}

static void a_failed_sync_is_not_tried_again(void **state)
{
    struct bench *const bench = *state;
    open_faulty(bench);
    (void)fault_io_arm(
        &bench->fault,
        &(struct fault_rule){.kind = FAULT_SYNC, .name = "file", .times = 1, .error = -EIO});
    write_next(bench, 100);
    assert_int_equal(weir_writer_flush(bench->writer), 0);
    assert_int_equal(weir_writer_sync(bench->writer), -EIO);
    assert_failed(bench, -EIO, 0);
}

static void a_length_that_cannot_be_cut_is_an_error(void **state)
{
    struct bench *const bench = *state;
    struct weir_io_effective effective;
    open_faulty(bench);
    weir_writer_effective(bench->writer, &effective);
    (void)fault_io_arm(
        &bench->fault,
        &(struct fault_rule){.kind = FAULT_TRUNCATE, .name = "file", .times = 1, .error = -EIO});
    write_next(bench, 100);
    if (!effective.config.direct_io) {
        assert_int_equal(weir_writer_flush(bench->writer), 0); /* nothing was padded */
        close_well(bench);
        assert_int_equal(
            fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_TRUNCATE}),
            0);
        return;
    }
    assert_int_equal(weir_writer_flush(bench->writer), -EIO);
    assert_failed(bench, -EIO, 100);
}

static void short_writes_are_gone_on_with(void **state)
{
    struct bench *const bench = *state;
    static const size_t parts[] = {1, 512, 513, 4095};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        (void)unlink(bench->path);
        open_faulty(bench);
        const unsigned rule = fault_io_arm(&bench->fault,
                                           &(struct fault_rule){.kind = FAULT_WRITE,
                                                                .name = "file",
                                                                .times = 5,
                                                                .shortened = true,
                                                                .bytes = parts[i]});
        write_next(bench, (size_t)3 * BUFFER_BYTES + 700);
        assert_int_equal(weir_writer_sync(bench->writer), 0);
        assert_int_equal(fault_io_spoilt(&bench->fault, rule), 5);
        fault_io_disarm(&bench->fault, rule);
        assert_file(bench, (uint64_t)3 * BUFFER_BYTES + 700);
        assert_int_equal(fault_io_unsynced(&bench->fault, "file"), 0);
        close_well(bench);
    }
}

static void a_write_that_moves_nothing_is_an_error(void **state)
{
    struct bench *const bench = *state;
    open_faulty(bench);
    (void)fault_io_arm(&bench->fault,
                       &(struct fault_rule){.kind = FAULT_WRITE,
                                            .name = "file",
                                            .times = 1,
                                            .shortened = true,
                                            .bytes = 0});
    write_next(bench, 100);
    assert_int_equal(weir_writer_flush(bench->writer), -EIO);
    assert_failed(bench, -EIO, 0);
}

static void writes_that_are_put_off_are_tried_again(void **state)
{
    struct bench *const bench = *state;
    open_faulty(bench);
    (void)fault_io_arm(
        &bench->fault,
        &(struct fault_rule){.kind = FAULT_WRITE, .name = "file", .times = 3, .error = -EAGAIN});
    write_next(bench, (size_t)2 * BUFFER_BYTES + 1);
    close_well(bench);
    assert_file(bench, 2 * BUFFER_BYTES + 1);
}

static void a_queue_that_breaks_is_an_error(void **state)
{
    struct bench *const bench = *state;
    static const enum fault_kind kinds[] = {FAULT_QUEUE_PUSH, FAULT_QUEUE_REAP};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        open_faulty(bench);
        (void)fault_io_arm(&bench->fault,
                           &(struct fault_rule){.kind = kinds[i], .times = 1, .error = -EIO});
        write_next(bench, 100);
        assert_int_equal(weir_writer_flush(bench->writer), -EIO);
        fault_io_heal(&bench->fault);
        assert_int_equal(weir_writer_sync(bench->writer), -EIO);
        assert_int_equal(weir_writer_close(bench->writer, &bench->error), -EIO);
    }
}

static void crowd_until_it_fails(struct worker *worker)
{
    struct holding *const holding = worker->ctx;
    static const uint8_t data[3 * BUFFER_BYTES];
    int code = 0;
    for (unsigned i = 0; i < 1000 && code == 0; i++) {
        code = weir_writer_write(holding->bench->writer, data, sizeof data, NULL);
    }
    if (code != -EIO) {
        worker_fail(worker, "%d", code);
    }
}

/* All buffers are full and the device is held: the error reaches everybody who sleeps. */
static void writers_without_a_buffer_learn_of_an_error(void **state)
{
    struct bench *const bench = *state;
    struct workers writing;
    struct workers flushing;
    struct workers syncing;
    struct holding holding = {.bench = bench, .sync_code = -EIO};
    open_faulty(bench);
    (void)fault_io_arm(
        &bench->fault,
        &(struct fault_rule){.kind = FAULT_WRITE, .name = "file", .error = -EIO, .hold = true});
    workers_start(&writing, 4, crowd_until_it_fails, &holding, 0);
    assert_true(fault_io_wait_held(&bench->fault, BUFFERS));
    workers_start(&flushing, 1, holding_flush, &holding, 0);
    struct asked asked = {.writer = bench->writer, .tickets = 1};
    workers_start(&syncing, 1, holding_sync, &holding, 0);
    assert_true(wait_until(all_asked, &asked));
    /* Only what is held has been begun: it fails, and no other write is. */
    fault_io_release(&bench->fault);
    workers_finish(&writing);
    workers_finish(&flushing);
    workers_finish(&syncing);
    assert_int_equal(holding.code, -EIO);
    assert_failed(bench, -EIO, 0);
}

/* ---- lengths ---- */

static struct weir__io_ops far_ops;
static uint64_t far_bytes;

static int far_info(struct weir__io *io, int file, struct weir__file_info *info_out)
{
    const int code = weir__io_system()->ops->info(io, file, info_out);
    info_out->bytes = far_bytes;
    return code;
}

/* Near the end of what a file can be: refused before anything is taken. */
static void a_file_does_not_grow_beyond_what_a_position_can_say(void **state)
{
    struct bench *const bench = *state;
    const size_t huge = (size_t)5 << 30;
    put_file(bench->path, 1);
    bench->config.direct_io = false; /* the last block is not there to be read */
    far_ops = bench->fault.ops;
    far_ops.info = far_info;
    bench->fault.io.ops = &far_ops;
    static const uint64_t left[] = {0, 10, UINT64_C(1) << 32};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        far_bytes = WRITER_POSITION_MAX - left[i];
        open_faulty(bench);
        uint64_t offset = 0;
        /* The data are not looked at, so one byte will do. */
        assert_int_equal(weir_writer_write(bench->writer, "x", (size_t)left[i] + 1, &offset),
                         -EFBIG);
        assert_int_equal(weir_writer_write(bench->writer, "x", huge, &offset), -EFBIG);
        assert_int_equal(weir_writer_write(bench->writer, "x", SIZE_MAX, &offset), -EFBIG);
        assert_int_equal(weir_writer_offset(bench->writer), far_bytes);
        assert_int_equal(weir_writer_write(bench->writer, "x", 0, &offset), 0);
        assert_int_equal(offset, far_bytes);
        assert_int_equal(weir_writer_error(bench->writer, NULL), 0);
        close_well(bench);
    }
    /* A file that is longer still can be opened, and not written to. */
    far_bytes = WRITER_POSITION_MAX + 12345;
    open_faulty(bench);
    assert_int_equal(weir_writer_write(bench->writer, "x", 1, NULL), -EFBIG);
    assert_int_equal(weir_writer_write(bench->writer, "x", huge, NULL), -EFBIG);
    close_well(bench);
}

/* Fault 6: a length of 4 GiB and one byte is one byte. The device refuses everything, so that only
 * a few buffers of it are ever copied. */
static void a_length_above_4_gib_is_not_cut(void **state)
{
    struct bench *const bench = *state;
    const size_t bytes = ((size_t)1 << 32) + 1;
    void *const data =
        mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(data, MAP_FAILED);
    open_faulty(bench);
    (void)fault_io_arm(&bench->fault,
                       &(struct fault_rule){.kind = FAULT_WRITE, .name = "file", .error = -EIO});
    assert_int_equal(weir_writer_write(bench->writer, data, bytes, NULL), -EIO);
    assert_int_equal(weir_writer_offset(bench->writer), bytes);
    assert_failed(bench, -EIO, 0);
    (void)munmap(data, bytes);
}

/* ---- memory ---- */

struct counted {
    WEIR__ATOMIC(int64_t) bytes;
    WEIR__ATOMIC(uint32_t) blocks;
    WEIR__ATOMIC(int32_t) left; /* so many more are given; below 0: any number */
};

static void *counted_alloc(void *ctx, size_t bytes, size_t align)
{
    struct counted *const counted = ctx;
    if (weir__load(&counted->left, relaxed) == 0) {
        return NULL;
    }
    weir__fetch_sub(&counted->left, 1, relaxed);
    weir__fetch_add(&counted->bytes, (int64_t)bytes, relaxed);
    weir__fetch_add(&counted->blocks, 1u, relaxed);
    void *block = NULL;
    return posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, bytes) == 0
               ? block
               : NULL;
}

static void counted_release(void *ctx, void *block, size_t bytes)
{
    struct counted *const counted = ctx;
    weir__fetch_sub(&counted->bytes, (int64_t)bytes, relaxed);
    free(block);
}

static void all_memory_comes_from_the_hooks_and_goes_back(void **state)
{
    struct bench *const bench = *state;
    struct counted counted = {0};
    const struct weir_memory_hooks hooks = {counted_alloc, counted_release, &counted};
    weir__store(&counted.left, -1, relaxed);
    bench->config.memory = &hooks;
    open_plainly(bench, false);
    const uint32_t blocks = weir__load(&counted.blocks, relaxed);
    assert_true(weir__load(&counted.bytes, relaxed) >= (int64_t)BUFFERS * BUFFER_BYTES);
    write_next(bench, 100000);
    assert_int_equal(weir_writer_sync(bench->writer), 0);
    assert_int_equal(weir__load(&counted.blocks, relaxed), blocks); /* none on the way */
    close_well(bench);
    assert_int_equal(weir__load(&counted.bytes, relaxed), 0);

    /* Out of memory at any point: -ENOMEM, and nothing stays behind. */
    for (uint32_t left = 0; left < blocks; left++) {
        weir__store(&counted.left, (int32_t)left, relaxed);
        assert_int_equal(
            weir_writer_create(bench->path, &bench->config, &bench->writer, &bench->error),
            -ENOMEM);
        assert_int_equal(bench->error.code, -ENOMEM);
        assert_int_equal(weir__load(&counted.bytes, relaxed), 0);
    }
}

/* ---- running ---- */

#define TEST(name)                                                                                 \
    {                                                                                              \
#name, name                                                                                \
    }

static const struct {
    const char *name;
    CMUnitTestFunction run;
} bodies[] = {
    TEST(a_new_file_is_made_and_closes_empty),
    TEST(an_existing_file_is_gone_on_with_at_its_end),
    TEST(a_last_block_that_cannot_be_read_is_an_error),
    TEST(what_cannot_be_opened_is_refused),
    TEST(one_buffer_is_too_few),
    TEST(a_file_system_without_direct_io_is_told_and_used),
    TEST(another_file_system_will_do),
    TEST(an_empty_write_tells_the_end),
    TEST(a_write_may_be_larger_than_all_buffers),
    TEST(the_length_is_exact_after_every_flush),
    TEST(blocks_are_completed_byte_by_byte),
    TEST(writes_of_many_threads_stand_where_their_offsets_say),
    TEST(order_of_completion_does_not_matter),
    TEST(a_flush_returns_after_its_writes_have_come_back),
    TEST(a_flush_is_served_by_whoever_commits_last),
    TEST(a_flush_of_nothing_writes_nothing),
    TEST(a_sync_is_begun_after_the_writes_have_come_back),
    TEST(one_sync_serves_all_who_wait),
    TEST(a_flush_does_not_hold_writers_up),
    TEST(what_is_written_during_a_flush_is_not_forgotten),
    TEST(nothing_is_begun_above_a_padded_block),
    TEST(an_error_in_the_middle_stays),
    TEST(the_first_error_is_kept),
    TEST(nothing_is_synced_behind_a_write_that_failed),
    TEST(a_failed_sync_is_not_tried_again),
    TEST(a_length_that_cannot_be_cut_is_an_error),
    TEST(short_writes_are_gone_on_with),
    TEST(a_write_that_moves_nothing_is_an_error),
    TEST(writes_that_are_put_off_are_tried_again),
    TEST(a_queue_that_breaks_is_an_error),
    TEST(writers_without_a_buffer_learn_of_an_error),
    TEST(a_file_does_not_grow_beyond_what_a_position_can_say),
    TEST(a_length_above_4_gib_is_not_cut),
    TEST(all_memory_comes_from_the_hooks_and_goes_back),
};
#define BODIES (sizeof bodies / sizeof bodies[0])

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    static char names[BODIES * VARIANTS][128];
    static struct CMUnitTest tests[BODIES * VARIANTS];
    const bool ring = fault_io_has_ring();
    size_t count = 0;
    if (!ring) {
        print_message("no io_uring here: the pool only\n");
    }
    for (size_t i = 0; i < BODIES; i++) {
        for (size_t k = 0; k < VARIANTS; k++) {
            if (variants[k].queue == FAULT_QUEUE_RING && !ring) {
                continue;
            }
            (void)snprintf(names[count],
                           sizeof names[count],
                           "%s (%s)",
                           bodies[i].name,
                           variants[k].name);
            tests[count] = (struct CMUnitTest){
                .name = names[count],
                .test_func = bodies[i].run,
                .setup_func = set_up,
                .teardown_func = tear_down,
                .initial_state = &variants[k],
            };
            count++;
        }
    }
    return _cmocka_run_group_tests("io.writer", tests, count, NULL, NULL);
}
