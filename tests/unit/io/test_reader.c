/* SPDX-License-Identifier: Apache-2.0
 * Any part of a file, from any thread: the bytes, the end of the file, faults, lanes.
 *
 * The files hold a pattern in which each byte follows from its position, so that whatever a read
 * brings can be checked by itself. */
#include "io/reader.h"
#include "port/tsan.h"
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB ((size_t)1024)
#define BUFFER (16 * KIB)
#define BLOCK ((size_t)4096)
#define FILE_BYTES (5 * KIB * KIB + 1234)
#define GUARD 64u
#define GUARD_BYTE 0xa5
#define NAME "pattern"

struct way {
    const char *name;
    enum weir_io_backend backend;
    bool direct;
};

static const struct way ways[] = {
    {"ring, buffered", WEIR_IO_BACKEND_URING, false},
    {"ring, direct", WEIR_IO_BACKEND_URING, true},
    {"pool, buffered", WEIR_IO_BACKEND_POSIX, false},
    {"pool, direct", WEIR_IO_BACKEND_POSIX, true},
};
#define WAYS (sizeof ways / sizeof ways[0])

static char root[TEMP_DIR_BYTES];
static uint8_t *memory; /* aligned to a page, FILE_BYTES and more */
#define MEMORY_BYTES (8 * KIB * KIB)

/* ---- the pattern ----------------------------------------------------------------------------- */

static uint64_t pattern_word(uint64_t index)
{
    struct random random = {.state = index};
    return random_next(&random);
}

static void pattern_fill(uint64_t offset, uint8_t *out, size_t bytes)
{
    for (size_t i = 0; i < bytes;) {
        const uint64_t at = offset + i;
        uint64_t word = pattern_word(at / 8) >> 8 * (at % 8);
        for (uint64_t j = at % 8; j < 8 && i < bytes; j++, i++) {
            out[i] = (uint8_t)word;
            word >>= 8;
        }
    }
}

static bool pattern_holds(uint64_t offset, const uint8_t *in, size_t bytes)
{
    uint8_t want[512];
    for (size_t i = 0; i < bytes;) {
        const size_t part = bytes - i < sizeof want ? bytes - i : sizeof want;
        pattern_fill(offset + i, want, part);
        if (memcmp(in + i, want, part) != 0) {
            return false;
        }
        i += part;
    }
    return true;
}

static void must(bool holds, const char *what)
{
    if (!holds) {
        perror(what);
        abort();
    }
}

static void file_grow(const char *path, uint64_t from, uint64_t to)
{
    static uint8_t part[64 * 1024];
    const int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    must(file >= 0, path);
    while (from < to) {
        const size_t bytes = to - from < sizeof part ? (size_t)(to - from) : sizeof part;
        pattern_fill(from, part, bytes);
        must(pwrite(file, part, bytes, (off_t)from) == (ssize_t)bytes, "pwrite");
        from += bytes;
    }
    must(close(file) == 0, "close");
}

static void path_of(const char *name, char out[TEMP_DIR_BYTES])
{
    temp_dir_join(root, name, out);
}

static void file_make(const char *name, uint64_t bytes)
{
    char path[TEMP_DIR_BYTES];
    path_of(name, path);
    (void)unlink(path);
    file_grow(path, 0, bytes);
}

/* ---- readers --------------------------------------------------------------------------------- */

static struct weir_io_config config_of(const struct way *way)
{
    struct weir_io_config config = weir_io_config_default();
    config.backend = way->backend;
    config.direct_io = way->direct;
    config.sq_entries = 64;
    config.max_inflight = 64;
    config.registered_buffers = 16;
    config.buffer_bytes = BUFFER;
    return config;
}

static bool usable(const struct way *way)
{
    if (way->backend == WEIR_IO_BACKEND_URING && !weir_io_uring_available(NULL, 0)) {
        print_message("no io_uring here: left out: %s\n", way->name);
        return false;
    }
    return true;
}

static struct weir_reader *
reader_open(const char *name, const struct weir_io_config *config, struct weir__io *seam)
{
    struct weir_reader *reader = NULL;
    struct weir_error error = {0};
    char path[TEMP_DIR_BYTES];
    path_of(name, path);
    if (weir__reader_open_with(path, config, seam, &reader, &error) != 0) {
        fail_msg("%s: %s", path, error.text);
    }
    return reader;
}

/* Reads, and looks at every byte in and around the buffer. to: with GUARD bytes on both sides. */
static bool read_is_right(struct weir_reader *reader,
                          uint64_t offset,
                          uint8_t *to,
                          size_t bytes,
                          uint64_t file_bytes,
                          char why[256])
{
    const uint64_t left = offset < file_bytes ? file_bytes - offset : 0;
    const int64_t want = (int64_t)(bytes < left ? bytes : left);
    memset(to - GUARD, GUARD_BYTE, GUARD);
    memset(to + bytes, GUARD_BYTE, GUARD);
    const int64_t got = weir_reader_read_at(reader, offset, to, bytes);
    if (got != want) {
        (void)snprintf(why,
                       256,
                       "%zu bytes at %llu: %lld, not %lld",
                       bytes,
                       (unsigned long long)offset,
                       (long long)got,
                       (long long)want);
        return false;
    }
    bool kept = pattern_holds(offset, to, (size_t)got);
    for (unsigned i = 0; i < GUARD; i++) {
        kept = kept && to[-1 - (ptrdiff_t)i] == GUARD_BYTE && to[bytes + i] == GUARD_BYTE;
    }
    if (!kept) {
        (void)snprintf(why, 256, "%zu bytes at %llu: wrong", bytes, (unsigned long long)offset);
    }
    return kept;
}

static void assert_read(struct weir_reader *reader,
                        uint64_t offset,
                        uint8_t *to,
                        size_t bytes,
                        uint64_t file_bytes)
{
    char why[256];
    if (!read_is_right(reader, offset, to, bytes, file_bytes, why)) {
        fail_msg("%s", why);
    }
}

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(root);
    memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return -1;
    }
    file_make(NAME, FILE_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(root);
    return munmap(memory, MEMORY_BYTES);
}

/* ---- the bytes ------------------------------------------------------------------------------- */

static void read_brings_the_bytes_of_any_place_to_any_memory(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,
                                   1,
                                   511,
                                   512,
                                   513,
                                   4095,
                                   4096,
                                   4097,
                                   BUFFER - 1,
                                   BUFFER,
                                   BUFFER + 1,
                                   2 * BUFFER,
                                   4 * BUFFER + 7};
    static const uint64_t places[] =
        {0, 1, 511, 512, 4095, 4096, 4097, BUFFER - 1, BUFFER, BUFFER + 1, 1000003};
    static const size_t skews[] = {0, 1, 512};
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const struct weir_io_config config = config_of(&ways[w]);
        struct weir_reader *const reader = reader_open(NAME, &config, NULL);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
                for (size_t k = 0; k < sizeof skews / sizeof skews[0]; k++) {
                    uint8_t *const to = memory + BLOCK + skews[k];
                    assert_read(reader, places[p], to, sizes[s], FILE_BYTES);
                }
            }
        }
        /* Of several MiB, as it is and askew. */
        assert_read(reader, 0, memory + BLOCK, FILE_BYTES, FILE_BYTES);
        assert_read(reader, BLOCK, memory + BLOCK, 4 * KIB * KIB, FILE_BYTES);
        assert_read(reader, 12345, memory + BLOCK + 3, 3 * KIB * KIB + 5, FILE_BYTES);
        assert_read(reader, BLOCK + 8, memory + 2 * BLOCK + 8, KIB * KIB, FILE_BYTES);
        weir_reader_close(reader);
    }
}

static void read_ends_exactly_where_the_file_ends(void **state)
{
    (void)state;
    static const size_t lengths[] = {0,
                                     1,
                                     511,
                                     512,
                                     513,
                                     4095,
                                     4096,
                                     4097,
                                     BUFFER - 1,
                                     BUFFER,
                                     BUFFER + 1,
                                     3 * BUFFER - 4096,
                                     3 * BUFFER,
                                     3 * BUFFER + 513};
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        const size_t length = lengths[l];
        file_make("end", length);
        for (size_t w = 0; w < WAYS; w++) {
            if (!usable(&ways[w])) {
                continue;
            }
            const struct weir_io_config config = config_of(&ways[w]);
            struct weir_reader *const reader = reader_open("end", &config, NULL);
            const size_t places[] = {0,
                                     length / 2,
                                     length > 0 ? length - 1 : 0,
                                     length,
                                     length + 1,
                                     (length + BLOCK) & ~(BLOCK - 1),
                                     length + 5 * BUFFER};
            const size_t sizes[] = {1, BLOCK, BUFFER, BUFFER + 1, 6 * BUFFER, 6 * BUFFER + 9};
            for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
                for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
                    assert_read(reader, places[p], memory + BLOCK, sizes[s], length);
                    assert_read(reader, places[p], memory + BLOCK + 1, sizes[s], length);
                }
            }
            uint64_t bytes = 77;
            assert_int_equal(weir_reader_bytes(reader, &bytes), 0);
            assert_int_equal(bytes, length);
            weir_reader_close(reader);
        }
    }
}

static void exact_read_brings_all_or_says_that_the_file_ends(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const struct weir_io_config config = config_of(&ways[w]);
        struct weir_reader *const reader = reader_open(NAME, &config, NULL);
        const size_t large = 10 * BUFFER;
        assert_int_equal(weir_reader_read_exact_at(reader, FILE_BYTES - large, memory, large), 0);
        assert_true(pattern_holds(FILE_BYTES - large, memory, large));
        assert_int_equal(weir_reader_read_exact_at(reader, FILE_BYTES - large + 1, memory, large),
                         -ENODATA);
        assert_int_equal(weir_reader_read_exact_at(reader, FILE_BYTES - 100, memory, 100), 0);
        assert_true(pattern_holds(FILE_BYTES - 100, memory, 100));
        assert_int_equal(weir_reader_read_exact_at(reader, FILE_BYTES - 100, memory, 101),
                         -ENODATA);
        assert_int_equal(weir_reader_read_exact_at(reader, FILE_BYTES + 1, memory, 1), -ENODATA);
        assert_int_equal(weir_reader_read_exact_at(reader, FILE_BYTES + 1, memory, 0), 0);
        weir_reader_close(reader);
    }
}

static void read_beyond_the_largest_position_is_refused(void **state)
{
    (void)state;
    const uint64_t top = UINT64_C(1) << 63;
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const struct weir_io_config config = config_of(&ways[w]);
        struct weir_reader *const reader = reader_open(NAME, &config, NULL);
        assert_int_equal(weir_reader_read_at(reader, top, memory, 1), -EINVAL);
        assert_int_equal(weir_reader_read_at(reader, top - 1, memory, 2), -EINVAL);
        assert_int_equal(weir_reader_read_at(reader, UINT64_MAX, memory, 1), -EINVAL);
        assert_int_equal(weir_reader_read_at(reader, 5, memory, SIZE_MAX), -EINVAL);
        assert_int_equal(weir_reader_read_at(reader, 5, NULL, 1), -EINVAL);
        assert_int_equal(weir_reader_read_at(reader, top - 1, memory, 1), 0);
        assert_int_equal(weir_reader_read_at(reader, top - 5000, memory, 4500), 0);
        assert_int_equal(weir_reader_read_at(reader, top - 3 * BUFFER, memory, 3 * BUFFER), 0);
        assert_int_equal(weir_reader_read_at(reader, 5, NULL, 0), 0);
        weir_reader_close(reader);
    }
}

/* The length of a read is no 32-bit number: of 4 GiB and 10 bytes it is not the 10 that are left.
 * The memory is only promised, not there, behind what the file fills. */
static void length_beyond_32_bits_is_not_cut(void **state)
{
    (void)state;
    const size_t huge = ((size_t)1 << 32) + 10;
    uint8_t *const to = mmap(NULL,
                             huge,
                             PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                             -1,
                             0);
    assert_ptr_not_equal(to, MAP_FAILED);
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const struct weir_io_config config = config_of(&ways[w]);
        struct weir_reader *const reader = reader_open(NAME, &config, NULL);
        assert_int_equal(weir_reader_read_at(reader, 0, to, huge), FILE_BYTES);
        assert_true(pattern_holds(0, to, FILE_BYTES));
        weir_reader_close(reader);
    }
    assert_int_equal(munmap(to, huge), 0);
}

static void no_read_moves_a_position(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const struct weir_io_config config = config_of(&ways[w]);
        struct weir_reader *const reader = reader_open(NAME, &config, NULL);
        const int file = weir__reader_file(reader)->file;
        assert_int_equal(lseek(file, 0, SEEK_CUR), 0);
        assert_read(reader, 8192, memory + BLOCK, 4096, FILE_BYTES);
        assert_int_equal(lseek(file, 0, SEEK_CUR), 0);
        assert_read(reader, 8193, memory + BLOCK, 10 * BUFFER, FILE_BYTES);
        assert_int_equal(lseek(file, 0, SEEK_CUR), 0);
        weir_reader_close(reader);
    }
}

/* ---- many threads ---------------------------------------------------------------------------- */

#define THREADS 16u

struct crowd {
    struct weir_reader *reader;
    unsigned reads;
};

static void read_around(struct worker *worker)
{
    struct crowd *const crowd = worker->ctx;
    const size_t room = 20 * BUFFER + BLOCK + 2 * GUARD;
    uint8_t *const to = malloc(room);
    char why[256];
    must(to != NULL, "malloc");
    for (unsigned i = 0; i < crowd->reads; i++) {
        const bool large = random_below(&worker->random, 3) == 0;
        const size_t bytes = (size_t)random_below(&worker->random, large ? 20 * BUFFER : BUFFER);
        const uint64_t offset = random_below(&worker->random, FILE_BYTES + BUFFER);
        const size_t skew = (size_t)random_below(&worker->random, BLOCK);
        if (!read_is_right(crowd->reader, offset, to + GUARD + skew, bytes, FILE_BYTES, why)) {
            worker_fail(worker, "%s", why);
            break;
        }
    }
    free(to);
}

static void sixteen_threads_each_get_the_bytes_of_their_place(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const struct weir_io_config config = config_of(&ways[w]);
        struct crowd crowd = {.reads = test_rounds(150)};
        crowd.reader = reader_open(NAME, &config, NULL);
        workers_run(THREADS, read_around, &crowd, test_seed());
        struct weir__reader_counts counts;
        weir__reader_counts(crowd.reader, &counts);
        assert_true(counts.ring > 0);
        assert_true(counts.here > 0);
        assert_true(counts.lanes >= 1 && counts.lanes <= WEIR__READER_LANES);
        /* All that was begun has ended, and all that ended was counted. */
        struct weir_io_stats stats;
        weir_reader_stats(crowd.reader, &stats);
        assert_true(stats.ops_submitted > 0);
        assert_int_equal(stats.ops_submitted, stats.ops_completed);
        assert_int_equal(stats.bytes_written, 0);
        assert_int_equal(stats.cqe_overflows, 0);
        assert_int_equal(stats.sq_dropped, 0);
        weir_reader_close(crowd.reader);
    }
}

struct held {
    struct fault_io fault;
    struct weir_reader *reader;
    unsigned lanes; /* calls on a ring that are waited for */
    size_t bytes;
};

static bool all_lanes_taken(void *ctx)
{
    struct held *const held = ctx;
    struct weir__reader_counts counts;
    weir__reader_counts(held->reader, &counts);
    return counts.ring == held->lanes;
}

static void read_large(struct worker *worker)
{
    struct held *const held = worker->ctx;
    uint8_t *const to = malloc(held->bytes + 2 * GUARD);
    char why[256];
    must(to != NULL, "malloc");
    const uint64_t offset = worker->index * 1000;
    if (!read_is_right(held->reader, offset, to + GUARD, held->bytes, FILE_BYTES, why)) {
        worker_fail(worker, "%s", why);
    }
    free(to);
}

static void read_while_others_are_held(struct worker *worker)
{
    read_large(worker);
    struct held *const held = worker->ctx;
    uint8_t to[1000 + 2 * GUARD];
    char why[256];
    if (!read_is_right(held->reader, 777, to + GUARD, 1000, FILE_BYTES, why)) {
        worker_fail(worker, "%s", why);
    }
}

static bool read_finished(void *ctx)
{
    struct fault_io *const fault = &((struct held *)ctx)->fault;
    const struct fault_look look = {.kind = FAULT_READ,
                                    .way = FAULT_CALLED,
                                    .succeeded = true,
                                    .offset_from = 0};
    /* The small one is the last, and the only one of its place. */
    struct fault_op *ops;
    const size_t count = fault_io_ops(fault, &ops);
    bool seen = false;
    for (size_t i = 0; i < count; i++) {
        seen = seen || (ops[i].kind == FAULT_READ && !ops[i].queued && ops[i].ended != 0 &&
                        ops[i].offset <= 777 && ops[i].result >= 1000);
    }
    free(ops);
    return seen && fault_io_count(fault, &look) >= 2;
}

/* Eight calls have all the lanes, and the device does not answer them: a ninth is not kept. */
static void read_waits_for_nobody_elses_io(void **state)
{
    (void)state;
    for (int direct = 0; direct < 2; direct++) {
        struct held held = {.lanes = WEIR__READER_LANES, .bytes = 3 * BUFFER};
        struct workers holders;
        struct workers others;
        fault_io_init(&held.fault, FAULT_QUEUE_THREADS);
        struct weir_io_config config = config_of(&ways[2 + direct]);
        held.reader = reader_open(NAME, &config, &held.fault.io);
        (void)fault_io_arm(
            &held.fault,
            &(struct fault_rule){.kind = FAULT_READ, .way = FAULT_QUEUED, .hold = true});
        workers_start(&holders, WEIR__READER_LANES, read_large, &held, 1);
        const bool taken = wait_until(all_lanes_taken, &held);
        workers_start(&others, 1, read_while_others_are_held, &held, 2);
        const bool finished = wait_until(read_finished, &held);
        struct weir__reader_counts counts;
        weir__reader_counts(held.reader, &counts);
        fault_io_heal(&held.fault);
        workers_finish(&holders);
        workers_finish(&others);
        assert_true(taken);
        assert_true(finished);
        assert_int_equal(counts.lanes, WEIR__READER_LANES);
        assert_int_equal(counts.ring, WEIR__READER_LANES);
        /* The large one, and where memory of ours is needed the small one. */
        struct weir_io_effective effective;
        weir_reader_effective(held.reader, &effective);
        assert_true(counts.crowded >= 1);
        assert_int_equal(counts.here, counts.crowded + (effective.config.direct_io ? 0 : 1));
        weir_reader_close(held.reader);
        fault_io_exit(&held.fault);
    }
}

/* ---- operations in flight -------------------------------------------------------------------- */

static size_t queued_under_way(struct fault_io *fault)
{
    struct fault_op *ops;
    const size_t count = fault_io_ops(fault, &ops);
    size_t under_way = 0;
    for (size_t i = 0; i < count; i++) {
        under_way += ops[i].kind == FAULT_READ && ops[i].queued && ops[i].ended == 0 ? 1 : 0;
    }
    free(ops);
    return under_way;
}

static bool three_calls_begun(void *ctx)
{
    struct weir__reader_counts counts;
    weir__reader_counts(((struct held *)ctx)->reader, &counts);
    return counts.ring + counts.here == 3;
}

/* max_inflight is for all lanes together: of six, a call of four pieces takes four, the next one
 * gets two, and the third has to do without. */
static void operations_in_flight_are_bounded_over_all_lanes(void **state)
{
    (void)state;
    struct held held = {.bytes = 4 * BUFFER};
    struct workers first;
    struct workers second;
    struct workers third;
    struct weir_io_config config = config_of(&ways[2]);
    struct weir__reader_counts counts;
    fault_io_init(&held.fault, FAULT_QUEUE_THREADS);
    config.max_inflight = 6;
    held.reader = reader_open(NAME, &config, &held.fault.io);
    (void)fault_io_arm(&held.fault,
                       &(struct fault_rule){.kind = FAULT_READ, .way = FAULT_QUEUED, .hold = true});
    workers_start(&first, 1, read_large, &held, 1);
    const bool one = fault_io_wait_held(&held.fault, 4);
    workers_start(&second, 1, read_large, &held, 1);
    const bool two = fault_io_wait_held(&held.fault, 6);
    workers_start(&third, 1, read_large, &held, 1);
    const bool three = wait_until(three_calls_begun, &held);
    weir__reader_counts(held.reader, &counts);
    const size_t under_way = queued_under_way(&held.fault);
    fault_io_heal(&held.fault);
    workers_finish(&first);
    workers_finish(&second);
    workers_finish(&third);
    assert_true(one && two && three);
    assert_true(under_way <= 6);
    assert_true(counts.ring <= 2);
    assert_int_equal(counts.ring + counts.here, 3);
    weir_reader_close(held.reader);
    fault_io_exit(&held.fault);
}

/* The first submission has all the pieces that may be in flight: they go side by side. */
static void pieces_of_a_large_read_go_side_by_side(void **state)
{
    (void)state;
    for (int direct = 0; direct < 2; direct++) {
        struct held held = {.bytes = 12 * BUFFER};
        struct workers workers;
        struct weir_io_config config = config_of(&ways[2 + direct]);
        fault_io_init(&held.fault, FAULT_QUEUE_THREADS);
        config.max_inflight = 8;
        config.registered_buffers = 64;
        held.reader = reader_open(NAME, &config, &held.fault.io);
        (void)fault_io_arm(
            &held.fault,
            &(struct fault_rule){.kind = FAULT_READ, .way = FAULT_QUEUED, .hold = true});
        workers_start(&workers, 1, read_large, &held, 1);
        const bool eight = fault_io_wait_held(&held.fault, 8);
        const size_t under_way = queued_under_way(&held.fault);
        fault_io_heal(&held.fault);
        workers_finish(&workers);
        assert_true(eight);
        assert_int_equal(under_way, 8);
        weir_reader_close(held.reader);
        fault_io_exit(&held.fault);
    }
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* A seam under both queues, buffered and direct. */
struct bench {
    struct fault_io fault;
    struct weir_reader *reader;
    bool direct;
};

static bool bench_open(struct bench *bench, unsigned number, const char *name)
{
    const enum fault_queue_kind kind = number < 2 ? FAULT_QUEUE_THREADS : FAULT_QUEUE_RING;
    if (number == 4 || (kind == FAULT_QUEUE_RING && !fault_io_has_ring())) {
        return false;
    }
    bench->direct = number % 2 == 1;
    fault_io_init(&bench->fault, kind);
    struct weir_io_config config = config_of(&ways[bench->direct ? 3 : 2]);
    config.backend = WEIR_IO_BACKEND_AUTO;
    bench->reader = reader_open(name, &config, &bench->fault.io);
    return true;
}

static void bench_close(struct bench *bench)
{
    weir_reader_close(bench->reader);
    fault_io_exit(&bench->fault);
}

static void error_of_one_piece_is_the_reads_error(void **state)
{
    (void)state;
    struct bench bench;
    for (unsigned b = 0; bench_open(&bench, b, NAME); b++) {
        const unsigned rule = fault_io_arm(&bench.fault,
                                           &(struct fault_rule){.kind = FAULT_READ,
                                                                .way = FAULT_QUEUED,
                                                                .offset_from = 5 * BUFFER,
                                                                .times = 1,
                                                                .error = -EIO});
        assert_int_equal(weir_reader_read_at(bench.reader, 1, memory, 20 * BUFFER), -EIO);
        assert_int_equal(fault_io_spoilt(&bench.fault, rule), 1);
        assert_int_equal(weir_reader_read_exact_at(bench.reader, 1, memory, 20 * BUFFER), 0);
        (void)fault_io_arm(&bench.fault,
                           &(struct fault_rule){.kind = FAULT_READ, .times = 1, .error = -EIO});
        assert_int_equal(weir_reader_read_exact_at(bench.reader, 1, memory, 20 * BUFFER), -EIO);
        assert_read(bench.reader, 1, memory + BLOCK, 20 * BUFFER, FILE_BYTES);
        bench_close(&bench);
    }
}

/* Good bytes, and an error behind them: how much is good nobody would know. */
static void error_behind_good_bytes_wins(void **state)
{
    (void)state;
    struct bench bench;
    for (unsigned b = 0; bench_open(&bench, b, NAME); b++) {
        (void)fault_io_arm(
            &bench.fault,
            &(struct fault_rule){.kind = FAULT_READ, .times = 1, .shortened = true, .bytes = 4096});
        (void)fault_io_arm(&bench.fault,
                           &(struct fault_rule){.kind = FAULT_READ,
                                                .times = 1,
                                                .offset_from = 8192 + 4096,
                                                .error = -EIO});
        assert_int_equal(weir_reader_read_at(bench.reader, 8192, memory, BUFFER), -EIO);
        fault_io_heal(&bench.fault);
        assert_read(bench.reader, 8192, memory + BLOCK, BUFFER, FILE_BYTES);
        bench_close(&bench);
    }
}

static void short_result_in_the_middle_is_gone_on_with(void **state)
{
    (void)state;
    static const size_t lengths[] = {512, 4096, 8192, 1, 100, 5000, 0};
    struct bench bench;
    for (unsigned b = 0; bench_open(&bench, b, NAME); b++) {
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
            if (lengths[l] == 0 && !bench.direct) {
                continue; /* nothing is the file's end, and nothing else */
            }
            const size_t part = lengths[l] == 0 ? 100 : lengths[l];
            for (unsigned k = 0; k < 3; k++) {
                const unsigned rule = fault_io_arm(&bench.fault,
                                                   &(struct fault_rule){.kind = FAULT_READ,
                                                                        .skip = k,
                                                                        .times = 1,
                                                                        .shortened = true,
                                                                        .bytes = part});
                assert_read(bench.reader, 4096, memory + BLOCK, 5 * BUFFER, FILE_BYTES);
                assert_read(bench.reader, 4097, memory + BLOCK + 1, 5 * BUFFER, FILE_BYTES);
                assert_read(bench.reader, 4096, memory + BLOCK, BUFFER, FILE_BYTES);
                assert_read(bench.reader, 3, memory + BLOCK, BUFFER, FILE_BYTES);
                assert_int_equal(fault_io_spoilt(&bench.fault, rule), 1);
                fault_io_disarm(&bench.fault, rule);
            }
        }
        bench_close(&bench);
    }
}

static void busy_device_is_asked_again(void **state)
{
    (void)state;
    struct bench bench;
    for (unsigned b = 0; bench_open(&bench, b, NAME); b++) {
        const unsigned rule = fault_io_arm(
            &bench.fault,
            &(struct fault_rule){.kind = FAULT_READ, .skip = 1, .times = 5, .error = -EAGAIN});
        assert_read(bench.reader, 100, memory + BLOCK, 6 * BUFFER, FILE_BYTES);
        assert_read(bench.reader, 100, memory + BLOCK, 1000, FILE_BYTES);
        assert_int_equal(fault_io_spoilt(&bench.fault, rule), 5);
        bench_close(&bench);
    }
}

/* What the ring does not take is read without it. */
static void refused_submission_is_no_error(void **state)
{
    (void)state;
    struct bench bench;
    for (unsigned b = 0; bench_open(&bench, b, NAME); b++) {
        for (unsigned skip = 0; skip < 2; skip++) {
            const unsigned rule = fault_io_arm(&bench.fault,
                                               &(struct fault_rule){.kind = FAULT_QUEUE_PUSH,
                                                                    .skip = skip,
                                                                    .times = 1,
                                                                    .error = -ENOMEM});
            /* More than may be in flight, so that there is a second submission. */
            assert_read(bench.reader, 100, memory + BLOCK, 100 * BUFFER, FILE_BYTES);
            assert_int_equal(fault_io_spoilt(&bench.fault, rule), 1);
            fault_io_disarm(&bench.fault, rule);
        }
        bench_close(&bench);
    }
}

/* A ring that breaks takes its read with it, and no other. */
static void broken_ring_is_not_used_again(void **state)
{
    (void)state;
    struct bench bench;
    struct weir__reader_counts before;
    struct weir__reader_counts after;
    for (unsigned b = 0; bench_open(&bench, b, NAME); b++) {
        (void)fault_io_arm(
            &bench.fault,
            &(struct fault_rule){.kind = FAULT_QUEUE_REAP, .times = 1, .error = -EBADF});
        assert_int_equal(weir_reader_read_at(bench.reader, 0, memory, 10 * BUFFER), -EBADF);
        weir__reader_counts(bench.reader, &before);
        uint8_t *const other = memory + MEMORY_BYTES / 2;
        assert_read(bench.reader, 5, other, 10 * BUFFER, FILE_BYTES);
        assert_read(bench.reader, 5, other, 100, FILE_BYTES);
        weir__reader_counts(bench.reader, &after);
        /* Another lane was opened for it. */
        assert_int_equal(before.lanes, 1);
        assert_int_equal(after.lanes, 2);
        assert_int_equal(after.ring, before.ring + 1);
        bench_close(&bench);
    }
}

static void lane_that_cannot_be_opened_is_done_without(void **state)
{
    (void)state;
    struct held held = {.lanes = 1, .bytes = 3 * BUFFER};
    struct workers holder;
    struct weir__reader_counts counts;
    struct weir_io_config config = config_of(&ways[2]);
    fault_io_init(&held.fault, FAULT_QUEUE_THREADS);
    held.reader = reader_open(NAME, &config, &held.fault.io);
    (void)fault_io_arm(&held.fault,
                       &(struct fault_rule){.kind = FAULT_QUEUE_OPEN, .error = -EMFILE});
    (void)fault_io_arm(&held.fault,
                       &(struct fault_rule){.kind = FAULT_READ, .way = FAULT_QUEUED, .hold = true});
    workers_start(&holder, 1, read_large, &held, 1);
    const bool taken = wait_until(all_lanes_taken, &held);
    char why[256] = "";
    const bool right = read_is_right(held.reader, 5, memory + BLOCK, 10 * BUFFER, FILE_BYTES, why);
    weir__reader_counts(held.reader, &counts);
    fault_io_heal(&held.fault);
    workers_finish(&holder);
    assert_true(taken);
    assert_string_equal(why, "");
    assert_true(right);
    assert_int_equal(counts.lanes, 1);
    assert_int_equal(counts.crowded, 1);
    weir_reader_close(held.reader);
    fault_io_exit(&held.fault);
}

/* ---- a file that grows ----------------------------------------------------------------------- */

struct growth {
    char path[TEMP_DIR_BYTES];
    struct weir_reader *reader;
    WEIR__ATOMIC(uint64_t) begun; /* relaxed: bounds for the reader, the file itself is the rest */
    WEIR__ATOMIC(uint64_t) done;
    uint64_t to;
};

static void grow(struct worker *worker)
{
    struct growth *const growth = worker->ctx;
    const int file = open(growth->path, O_WRONLY | O_CLOEXEC);
    uint8_t part[3000];
    uint64_t at = 0;
    must(file >= 0, "open");
    while (at < growth->to) {
        const size_t bytes = (size_t)random_below(&worker->random, sizeof part) + 1;
        pattern_fill(at, part, bytes);
        weir__store(&growth->begun, at + bytes, release);
        if (pwrite(file, part, bytes, (off_t)at) != (ssize_t)bytes) {
            worker_fail(worker, "write: %d", errno);
            break;
        }
        at += bytes;
        weir__store(&growth->done, at, release);
    }
    weir__store(&growth->done, UINT64_MAX, release);
    (void)close(file);
}

/* Whatever a read tells of a growing file was its length at some moment of the read. */
static void read_of_a_growing_file_is_exact(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        struct growth growth = {.to = test_rounds(10) * 10 * BUFFER};
        struct workers workers;
        file_make("grows", 0);
        path_of("grows", growth.path);
        const struct weir_io_config config = config_of(&ways[w]);
        growth.reader = reader_open("grows", &config, NULL);
        workers_start(&workers, 1, grow, &growth, test_seed());
        char why[256] = "";
        for (;;) {
            const uint64_t low = weir__load(&growth.done, acquire);
            if (low == UINT64_MAX || why[0] != '\0') {
                break;
            }
            /* The last pieces, and more than there is. */
            const uint64_t offset = low > 6 * BUFFER ? low - 6 * BUFFER : 0;
            const int64_t got = weir_reader_read_at(growth.reader, offset, memory + 1, 12 * BUFFER);
            const uint64_t high = weir__load(&growth.begun, acquire);
            const uint64_t full = offset + 12 * BUFFER;
            if (got < 0 || offset + (uint64_t)got < (low < full ? low : full) ||
                offset + (uint64_t)got > high || !pattern_holds(offset, memory + 1, (size_t)got)) {
                (void)snprintf(why,
                               sizeof why,
                               "%lld bytes at %llu of a file of %llu to %llu",
                               (long long)got,
                               (unsigned long long)offset,
                               (unsigned long long)low,
                               (unsigned long long)high);
            }
        }
        workers_finish(&workers);
        assert_string_equal(why, "");
        weir_reader_close(growth.reader);
    }
}

/* A queue that carries reads out as they are pushed, one after the other, and lets the file grow
 * between two of them. */
struct grower {
    struct weir__io io;
    struct weir__io_ops ops;
    char path[TEMP_DIR_BYTES];
    uint64_t from;
    bool grown;
    struct weir__event events[64];
    unsigned count;
};

static int grower_open(struct weir__io *io,
                       struct weir__mem *mem,
                       const struct weir__queue_config *config,
                       struct weir__queue **queue_out,
                       struct weir__queue_info *info_out)
{
    (void)mem;
    *queue_out = io->ctx;
    *info_out = (struct weir__queue_info){.entries = config->entries};
    return 0;
}

static void grower_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue)
{
    (void)io, (void)mem, (void)queue;
}

static int grower_push(struct weir__io *io,
                       struct weir__queue *queue,
                       const struct weir__op *ops,
                       unsigned count)
{
    struct grower *const grower = io->ctx;
    (void)queue;
    for (unsigned i = 0; i < count; i++) {
        if (ops[i].offset >= 2 * BUFFER && !grower->grown) {
            file_grow(grower->path, grower->from, FILE_BYTES);
            grower->grown = true;
        }
        const ssize_t got =
            preadv(ops[i].file, ops[i].iov, (int)ops[i].iov_count, (off_t)ops[i].offset);
        grower->events[grower->count++] =
            (struct weir__event){ops[i].data, got < 0 ? -errno : (int32_t)got};
    }
    return 0;
}

static int grower_reap(struct weir__io *io,
                       struct weir__queue *queue,
                       struct weir__event *events,
                       unsigned max,
                       unsigned min,
                       uint64_t deadline_ns)
{
    struct grower *const grower = io->ctx;
    (void)queue, (void)min, (void)deadline_ns;
    must(grower->count <= max, "reap");
    const unsigned count = grower->count;
    memcpy(events, grower->events, count * sizeof *events);
    grower->count = 0;
    return (int)count;
}

static void
grower_faults(struct weir__io *io, struct weir__queue *queue, struct weir__queue_faults *faults_out)
{
    (void)io, (void)queue;
    *faults_out = (struct weir__queue_faults){0};
}

/* The file ends within the second piece, and the third, which begins when the file has grown, is
 * whole: no hole may be told as read. */
static void growth_between_two_pieces_leaves_no_hole(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {BUFFER + 100, BUFFER + BLOCK, 2 * BUFFER - 1, BUFFER};
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        for (int direct = 0; direct < 2; direct++) {
            struct grower grower = {.ops = *weir__io_system()->ops, .from = lengths[l]};
            struct weir_io_config config = config_of(&ways[2 + direct]);
            config.registered_buffers = 64; /* so that all pieces may go round at once */
            grower.ops.queue_open = grower_open;
            grower.ops.queue_close = grower_close;
            grower.ops.queue_push = grower_push;
            grower.ops.queue_reap = grower_reap;
            grower.ops.queue_faults = grower_faults;
            grower.io = (struct weir__io){.ops = &grower.ops, .ctx = &grower};
            file_make("grows", lengths[l]);
            path_of("grows", grower.path);
            struct weir_reader *const reader = reader_open("grows", &config, &grower.io);
            assert_read(reader, 0, memory + BLOCK + (direct == 1 ? 3 : 0), 4 * BUFFER, FILE_BYTES);
            assert_true(grower.grown);
            weir_reader_close(reader);
        }
    }
}

/* ---- config, figures, memory ----------------------------------------------------------------- */

static void figures_tell_what_was_read(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const struct weir_io_config config = config_of(&ways[w]);
        struct weir_reader *const reader = reader_open(NAME, &config, NULL);
        struct weir_io_stats stats;
        weir_reader_stats(reader, &stats);
        assert_int_equal(stats.ops_submitted, 0);
        assert_int_equal(stats.bytes_read, 0);
        assert_int_equal(weir_reader_read_at(reader, 0, memory, 4096), 4096);
        weir_reader_stats(reader, &stats);
        assert_int_equal(stats.ops_submitted, 1);
        assert_int_equal(stats.ops_completed, 1);
        assert_int_equal(stats.bytes_read, 4096);
        /* Five pieces on the ring. */
        assert_int_equal(weir_reader_read_at(reader, 0, memory, 5 * BUFFER), 5 * BUFFER);
        weir_reader_stats(reader, &stats);
        assert_int_equal(stats.ops_submitted, 6);
        assert_int_equal(stats.ops_completed, 6);
        assert_int_equal(stats.bytes_read, 4096 + 5 * BUFFER);
        assert_int_equal(weir_io_stats_in_flight(&stats), 0);

        struct weir__reader_counts counts;
        weir__reader_counts(reader, &counts);
        assert_int_equal(counts.here, 1);
        assert_int_equal(counts.ring, 1);
        assert_int_equal(counts.lanes, 1);
        assert_int_equal(counts.bounced, 0);
        /* Only where it has to go round. */
        assert_int_equal(weir_reader_read_at(reader, 1, memory, 100), 100);
        weir__reader_counts(reader, &counts);
        struct weir_io_effective effective;
        weir_reader_effective(reader, &effective);
        assert_int_equal(counts.bounced, effective.config.direct_io ? 1 : 0);
        weir_reader_close(reader);
    }
}

static void effective_config_says_what_became_of_each_field(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const struct weir_io_config config = config_of(&ways[w]);
        struct weir_reader *const reader = reader_open(NAME, &config, NULL);
        struct weir_io_effective effective;
        weir_reader_effective(reader, &effective);
        assert_int_equal(effective.config.backend, ways[w].backend);
        assert_int_equal(effective.config.buffer_bytes, BUFFER);
        assert_int_equal(effective.config.max_inflight, 64);
        /* The directory's file system takes O_DIRECT if it takes it from us. */
        char path[TEMP_DIR_BYTES];
        path_of(NAME, path);
        const int file = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
        assert_int_equal(effective.config.direct_io, ways[w].direct && file >= 0);
        if (file >= 0) {
            assert_int_equal(close(file), 0);
        }
        if (effective.config.direct_io) {
            assert_true(effective.block_bytes >= 512);
        } else {
            assert_int_equal(effective.block_bytes, 1);
        }
        if (ways[w].backend == WEIR_IO_BACKEND_POSIX) {
            assert_true(effective.threads > 0);
            assert_int_equal(effective.cq_entries, 0);
        } else {
            assert_int_equal(effective.threads, 0);
            assert_true(effective.cq_entries >= 64);
            if (strstr(effective.reason, "buffers") == NULL) {
                assert_int_equal(effective.config.registered_buffers, 16);
            }
        }
        assert_ptr_equal(weir__reader_config(reader)->memory, NULL);
        assert_int_equal(weir__reader_config(reader)->direct_io, ways[w].direct);
        weir_reader_close(reader);
    }
}

/* No buffers at all, the smallest ones, one operation in flight: slower, and nothing else. */
static void smallest_configs_read_the_same(void **state)
{
    (void)state;
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        for (uint32_t buffers = 0; buffers < 4; buffers++) {
            struct weir_io_config config = config_of(&ways[w]);
            config.registered_buffers = buffers == 3 ? 1024 : buffers;
            config.buffer_bytes = 4096;
            config.max_inflight = 1 + 3 * (buffers % 2);
            config.sq_entries = 1;
            struct weir_reader *const reader = reader_open(NAME, &config, NULL);
            assert_read(reader, 0, memory + BLOCK, 64 * KIB, FILE_BYTES);
            assert_read(reader, 3, memory + BLOCK, 64 * KIB, FILE_BYTES);
            assert_read(reader, 4096, memory + BLOCK + 1, 64 * KIB, FILE_BYTES);
            assert_read(reader, 4095, memory + BLOCK + 1, 3, FILE_BYTES);
            assert_read(reader, FILE_BYTES - 5000, memory + BLOCK, 64 * KIB, FILE_BYTES);
            weir_reader_close(reader);
        }
    }
}

/* tmpfs took no O_DIRECT for long; whichever it does, the bytes are the same and it is told. */
static void file_system_without_direct_io_is_read_through_the_cache(void **state)
{
    (void)state;
    char dir[] = "/dev/shm/weir-reader.XXXXXX";
    char path[64];
    if (mkdtemp(dir) == NULL) {
        skip();
    }
    (void)snprintf(path, sizeof path, "%s/plain", dir);
    file_grow(path, 0, 10 * BUFFER + 5);
    const int file = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const struct weir_io_config config = config_of(&ways[w]);
        struct weir_reader *reader = NULL;
        struct weir_error error;
        struct weir_io_effective effective;
        assert_int_equal(weir_reader_open(path, &config, &reader, &error), 0);
        weir_reader_effective(reader, &effective);
        assert_int_equal(effective.config.direct_io, ways[w].direct && file >= 0);
        assert_int_equal(strstr(effective.reason, "O_DIRECT") != NULL, ways[w].direct && file < 0);
        assert_read(reader, 0, memory + BLOCK, 20 * BUFFER, 10 * BUFFER + 5);
        assert_read(reader, 7, memory + BLOCK, BUFFER, 10 * BUFFER + 5);
        weir_reader_close(reader);
    }
    if (file >= 0) {
        assert_int_equal(close(file), 0);
    }
    temp_dir_remove(dir);
}

/* The file system's no, made by the seam: whatever this machine's file systems take. */
static void refused_direct_io_is_told(void **state)
{
    (void)state;
    struct fault_io fault;
    struct weir_io_config config = config_of(&ways[3]);
    struct weir_io_effective effective;
    fault_io_init(&fault, FAULT_QUEUE_THREADS);
    /* The second opening of the file is the direct one. */
    const unsigned rule = fault_io_arm(
        &fault,
        &(struct fault_rule){.kind = FAULT_OPEN, .name = NAME, .skip = 1, .error = -EINVAL});
    struct weir_reader *const reader = reader_open(NAME, &config, &fault.io);
    assert_int_equal(fault_io_spoilt(&fault, rule), 1);
    weir_reader_effective(reader, &effective);
    assert_false(effective.config.direct_io);
    assert_int_equal(effective.block_bytes, 1);
    assert_non_null(strstr(effective.reason, "O_DIRECT"));
    assert_read(reader, 1, memory + BLOCK, 10 * BUFFER, FILE_BYTES);
    weir_reader_close(reader);
    fault_io_exit(&fault);
}

static void what_cannot_be_opened_is_refused_with_its_name(void **state)
{
    (void)state;
    struct weir_reader *reader = NULL;
    struct weir_error error = {0};
    char path[TEMP_DIR_BYTES];
    char link[TEMP_DIR_BYTES];

    path_of("missing", path);
    assert_int_equal(weir_reader_open(path, NULL, &reader, &error), -ENOENT);
    assert_int_equal(error.code, -ENOENT);
    assert_string_equal(error.file, "missing");
    path_of(NAME, path);
    path_of("link", link);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(weir_reader_open(link, NULL, &reader, NULL), -ELOOP);
    assert_true(weir_reader_open(root, NULL, &reader, &error) < 0);

    struct weir_io_config config = weir_io_config_default();
    config.buffer_bytes = 4097;
    assert_int_equal(weir_reader_open(path, &config, &reader, &error), -EINVAL);
    assert_non_null(strstr(error.text, "buffer_bytes"));
    assert_null(reader);
    weir_reader_close(NULL);
}

struct purse {
    WEIR__ATOMIC(uint64_t) out; /* bytes; relaxed: looked at when nobody else is left */
    WEIR__ATOMIC(uint64_t) calls;
    uint64_t fails; /* the call of this number, from 1; 0: none */
};

static void *purse_alloc(void *ctx, size_t bytes, size_t align)
{
    struct purse *const purse = ctx;
    void *block;
    if (weir__fetch_add(&purse->calls, 1, relaxed) + 1 == purse->fails ||
        posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, bytes) != 0) {
        return NULL;
    }
    (void)weir__fetch_add(&purse->out, bytes, relaxed);
    return block;
}

static void purse_release(void *ctx, void *block, size_t bytes)
{
    struct purse *const purse = ctx;
    (void)weir__fetch_sub(&purse->out, bytes, relaxed);
    free(block);
}

/* Each allocation fails once: an opening says so and leaves nothing, a read says so or does
 * without, and the next one is as good as any. */
static void lack_of_memory_is_told_and_nothing_is_kept(void **state)
{
    (void)state;
    char path[TEMP_DIR_BYTES];
    path_of(NAME, path);
    for (size_t w = 2; w < WAYS; w++) {
        bool opened = false;
        bool untouched = false;
        for (uint64_t fails = 1; !untouched; fails++) {
            struct purse purse = {.fails = fails};
            const struct weir_memory_hooks hooks = {purse_alloc, purse_release, &purse};
            struct weir_io_config config = config_of(&ways[w]);
            struct weir_reader *reader = NULL;
            struct weir_error error = {0};
            config.memory = &hooks;
            config.registered_buffers = 0; /* pieces that go round need memory of their own */
            const int code = weir_reader_open(path, &config, &reader, &error);
            if (code != 0) {
                assert_int_equal(code, -ENOMEM);
                assert_int_equal(error.code, -ENOMEM);
                assert_true(error.text[0] != '\0');
                assert_int_equal(weir__load(&purse.out, relaxed), 0);
                assert_false(opened);
                continue;
            }
            opened = true;
            int64_t got = weir_reader_read_at(reader, 1, memory + 1, 5 * BUFFER);
            assert_true(got == (int64_t)(5 * BUFFER) || got == -ENOMEM);
            got = weir_reader_read_at(reader, 1, memory + 1, 100);
            assert_true(got == 100 || got == -ENOMEM);
            untouched = weir__load(&purse.calls, relaxed) < fails;
            purse.fails = 0;
            assert_read(reader, 1, memory + BLOCK + 1, 5 * BUFFER, FILE_BYTES);
            assert_read(reader, 1, memory + BLOCK + 1, 100, FILE_BYTES);
            weir_reader_close(reader);
            assert_int_equal(weir__load(&purse.out, relaxed), 0);
        }
        assert_true(opened);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_brings_the_bytes_of_any_place_to_any_memory),
        cmocka_unit_test(read_ends_exactly_where_the_file_ends),
        cmocka_unit_test(exact_read_brings_all_or_says_that_the_file_ends),
        cmocka_unit_test(read_beyond_the_largest_position_is_refused),
        cmocka_unit_test(length_beyond_32_bits_is_not_cut),
        cmocka_unit_test(no_read_moves_a_position),
        cmocka_unit_test(sixteen_threads_each_get_the_bytes_of_their_place),
        cmocka_unit_test(read_waits_for_nobody_elses_io),
        cmocka_unit_test(operations_in_flight_are_bounded_over_all_lanes),
        cmocka_unit_test(pieces_of_a_large_read_go_side_by_side),
        cmocka_unit_test(error_of_one_piece_is_the_reads_error),
        cmocka_unit_test(error_behind_good_bytes_wins),
        cmocka_unit_test(short_result_in_the_middle_is_gone_on_with),
        cmocka_unit_test(busy_device_is_asked_again),
        cmocka_unit_test(refused_submission_is_no_error),
        cmocka_unit_test(broken_ring_is_not_used_again),
        cmocka_unit_test(lane_that_cannot_be_opened_is_done_without),
        cmocka_unit_test(read_of_a_growing_file_is_exact),
        cmocka_unit_test(growth_between_two_pieces_leaves_no_hole),
        cmocka_unit_test(figures_tell_what_was_read),
        cmocka_unit_test(effective_config_says_what_became_of_each_field),
        cmocka_unit_test(smallest_configs_read_the_same),
        cmocka_unit_test(file_system_without_direct_io_is_read_through_the_cache),
        cmocka_unit_test(refused_direct_io_is_told),
        cmocka_unit_test(what_cannot_be_opened_is_refused_with_its_name),
        cmocka_unit_test(lack_of_memory_is_told_and_nothing_is_kept),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
