/* SPDX-License-Identifier: Apache-2.0
 * Chunked reading: whatever the pattern, chunk, depth and queue, the bytes are those of the
 * file, and nothing at or above the limit is ever asked for.
 *
 * The io here stands in front of the system's and looks at every read. It can fail one block,
 * cut results short, refuse the queue, or play one itself that fails as the plain reads do. The
 * reader thread comes through it too, so it records and the tests assert. */
#include "base/num.h"
#include "port/clock.h"
#include "segment/segment.h"
#include "segment/window.h"
#include "unit/segment/test_files.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define KIB ((size_t)1024)
#define FILE_BYTES ((size_t)3072 * 1024)
#define BASE ((weir_lsn)0x40000000)
#define NOTHING_BAD UINT64_MAX
#define PLAYED_ENTRIES 64
#define BLOCKS_MAX 1024

enum queue_kind {
    QUEUE_SYSTEM,
    QUEUE_PLAYED,
    QUEUE_REFUSED,
    QUEUE_BREAKS,
    QUEUE_FULL,
    QUEUE_KINDS
};

static uint64_t seed_base = 20240229;

struct fixture {
    struct weir__io io; /* first: the table's functions get its address */
    struct weir__io_ops ops;
    struct weir__mem mem;
    struct weir__dir dir;
    char path[FILES_PATH_BYTES];
    struct weir__range range;
    struct weir__fault fault;
    uint8_t *content;
    uint64_t seed;
    /* What was allocated and not released: memory that a broken queue may still write to is
     * never freed. */
    struct {
        void *block;
        size_t bytes;
    } blocks[BLOCKS_MAX];
    unsigned allocation_fails; /* after so many; 0: none */

    enum queue_kind kind;
    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t changed;
    uint64_t fetch_end;  /* no byte at or above it may be asked for */
    bool fetched_beyond; /* but one was */
    uint64_t bad;        /* offset of a block of bad_bytes that cannot be read */
    uint64_t bad_bytes;
    int bad_error;
    bool bad_once; /* heals after the first failure */
    bool short_reads;
    uint64_t short_seed;
    uint64_t reads;
    uint64_t queue_opens;
    uint64_t largest;
    int cached_says; /* what the page cache is said to hold */
    unsigned cached_asked;
    unsigned cached_reads; /* made without O_DIRECT */
    unsigned direct_reads; /* made with it */
    /* The played queue. */
    struct weir__event events[PLAYED_ENTRIES];
    unsigned event_count;
    bool woken;
    bool broke; /* so it may have memory for good */
};

static struct fixture *fixture_of(struct weir__io *io)
{
    return (struct fixture *)io;
}

static uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Looks at one read before it is made. 0, or the error that it meets; *bytes may get smaller. */
static int look(struct fixture *f, size_t *bytes, uint64_t offset, bool direct)
{
    int error = 0;
    (void)pthread_mutex_lock(&f->mutex);
    f->reads++;
    f->largest = weir__max_u64(f->largest, *bytes);
    if (offset + *bytes > f->fetch_end) {
        f->fetched_beyond = true;
    }
    if (f->bad != NOTHING_BAD && offset < f->bad + f->bad_bytes && f->bad < offset + *bytes) {
        error = f->bad_error;
        if (f->bad_once) {
            f->bad = NOTHING_BAD;
        }
    } else if (f->short_reads && *bytes > 1) {
        const uint64_t unit = direct ? 4096 : 1;
        const uint64_t kept = random_next(&f->short_seed) % *bytes;
        const uint64_t fewer = weir__max_u64(weir__align_down(kept, unit), unit);
        *bytes = (size_t)weir__min_u64(fewer, *bytes);
    }
    (void)pthread_mutex_unlock(&f->mutex);
    return error;
}

static ssize_t
fixture_read(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    struct fixture *const f = fixture_of(io);
    const bool direct = (fcntl(file, F_GETFL) & O_DIRECT) != 0;
    const int error = look(f, &bytes, offset, direct);
    (void)pthread_mutex_lock(&f->mutex);
    f->direct_reads += direct;
    f->cached_reads += !direct;
    (void)pthread_mutex_unlock(&f->mutex);
    return error != 0
               ? error
               : weir__io_system()->ops->read(weir__io_system(), file, buffer, bytes, offset);
}

static int fixture_cached(struct weir__io *io, int file, uint64_t bytes)
{
    struct fixture *const f = fixture_of(io);
    (void)file;
    f->cached_asked++;
    return bytes == FILE_BYTES ? f->cached_says : -EDOM;
}

static int fixture_queue_open(struct weir__io *io,
                              struct weir__mem *mem,
                              const struct weir__queue_config *config,
                              struct weir__queue **queue_out,
                              struct weir__queue_info *info_out)
{
    struct fixture *const f = fixture_of(io);
    (void)pthread_mutex_lock(&f->mutex);
    f->queue_opens++;
    (void)pthread_mutex_unlock(&f->mutex);
    if (f->kind == QUEUE_REFUSED) {
        return -EPERM;
    }
    if (f->kind == QUEUE_SYSTEM) {
        return weir__io_system()->ops->queue_open(weir__io_system(),
                                                  mem,
                                                  config,
                                                  queue_out,
                                                  info_out);
    }
    f->event_count = 0;
    f->woken = false;
    *queue_out = (struct weir__queue *)f;
    return 0;
}

static void
fixture_queue_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue)
{
    if (fixture_of(io)->kind == QUEUE_SYSTEM) {
        weir__io_system()->ops->queue_close(weir__io_system(), mem, queue);
    }
}

static int fixture_queue_push(struct weir__io *io,
                              struct weir__queue *queue,
                              const struct weir__op *ops,
                              unsigned count)
{
    struct fixture *const f = fixture_of(io);
    if (f->kind == QUEUE_SYSTEM) {
        for (unsigned i = 0; i < count; i++) {
            size_t bytes = ops[i].iov->iov_len;
            (void)look(f, &bytes, ops[i].offset, f->dir.direct);
        }
        return weir__io_system()->ops->queue_push(weir__io_system(), queue, ops, count);
    }
    for (unsigned i = 0; i < count; i++) {
        const ssize_t got =
            fixture_read(io, ops[i].file, ops[i].iov->iov_base, ops[i].iov->iov_len, ops[i].offset);
        (void)pthread_mutex_lock(&f->mutex);
        if (f->event_count < PLAYED_ENTRIES) {
            f->events[f->event_count++] =
                (struct weir__event){.data = ops[i].data, .result = (int32_t)got};
        }
        (void)pthread_mutex_unlock(&f->mutex);
    }
    return 0;
}

static int fixture_queue_reap(struct weir__io *io,
                              struct weir__queue *queue,
                              struct weir__event *events,
                              unsigned max,
                              unsigned min,
                              uint64_t deadline_ns)
{
    struct fixture *const f = fixture_of(io);
    if (f->kind == QUEUE_SYSTEM) {
        return weir__io_system()
            ->ops->queue_reap(weir__io_system(), queue, events, max, min, deadline_ns);
    }
    (void)pthread_mutex_lock(&f->mutex);
    while (min > 0 && f->event_count == 0 && !f->woken) {
        (void)pthread_cond_wait(&f->changed, &f->mutex);
    }
    int count = 0;
    if (f->kind == QUEUE_BREAKS && f->event_count > 0) {
        f->broke = true;
        count = -EIO;
    } else {
        /* The last one first: completions come in any order. */
        while (f->event_count > 0 && (unsigned)count < max) {
            events[count++] = f->events[--f->event_count];
        }
    }
    f->woken = false;
    (void)pthread_mutex_unlock(&f->mutex);
    return count;
}

static void fixture_queue_wake(struct weir__io *io, struct weir__queue *queue)
{
    struct fixture *const f = fixture_of(io);
    if (f->kind == QUEUE_SYSTEM) {
        weir__io_system()->ops->queue_wake(weir__io_system(), queue);
        return;
    }
    (void)pthread_mutex_lock(&f->mutex);
    f->woken = true;
    (void)pthread_cond_signal(&f->changed);
    (void)pthread_mutex_unlock(&f->mutex);
}

static void *fixture_alloc(void *ctx, size_t bytes, size_t align)
{
    struct fixture *const f = ctx;
    void *block = NULL;
    (void)pthread_mutex_lock(&f->mutex);
    const bool fails = f->allocation_fails == 1;
    f->allocation_fails -= f->allocation_fails > 1;
    if (!fails && posix_memalign(&block, align, bytes) == 0) {
        unsigned i = 0;
        while (i < BLOCKS_MAX - 1 && f->blocks[i].block != NULL) {
            i++;
        }
        f->blocks[i].block = block;
        f->blocks[i].bytes = bytes;
    }
    (void)pthread_mutex_unlock(&f->mutex);
    return block;
}

static void fixture_release(void *ctx, void *block, size_t bytes)
{
    struct fixture *const f = ctx;
    (void)bytes;
    (void)pthread_mutex_lock(&f->mutex);
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        if (f->blocks[i].block == block) {
            f->blocks[i].block = NULL;
        }
    }
    (void)pthread_mutex_unlock(&f->mutex);
    free(block);
}

/* Frees what was not released; returns how many. */
static unsigned blocks_left(struct fixture *f)
{
    unsigned left = 0;
    for (unsigned i = 0; i < BLOCKS_MAX; i++) {
        if (f->blocks[i].block != NULL) {
            free(f->blocks[i].block);
            f->blocks[i].block = NULL;
            left++; /* the seam no longer counts it */
        }
    }
    return left;
}

static int setup(void **state)
{
    struct fixture *const f = calloc(1, sizeof *f);
    if (f == NULL || !files_make_dir(f->path)) {
        free(f);
        return -1;
    }
    f->content = malloc(FILE_BYTES);
    f->seed = seed_base;
    for (size_t i = 0; f->content != NULL && i < FILE_BYTES; i += 8) {
        const uint64_t word = random_next(&f->seed);
        memcpy(f->content + i, &word, sizeof word);
    }
    f->range = (struct weir__range){BASE, BASE + FILE_BYTES};
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(f->range.base, f->range.end, name);
    if (f->content == NULL || !files_write(f->path, name, f->content, FILE_BYTES, 0)) {
        return -1;
    }
    f->ops = *weir__io_system()->ops;
    f->ops.read = fixture_read;
    f->ops.cached = fixture_cached;
    f->ops.queue_open = fixture_queue_open;
    f->ops.queue_close = fixture_queue_close;
    f->ops.queue_push = fixture_queue_push;
    f->ops.queue_reap = fixture_queue_reap;
    f->ops.queue_wake = fixture_queue_wake;
    f->io.ops = &f->ops;
    f->bad = NOTHING_BAD;
    f->bad_error = -EIO;
    f->bad_bytes = 4096;
    f->fetch_end = FILE_BYTES;
    f->fault = WEIR__FAULT_NONE;
    (void)pthread_mutex_init(&f->mutex, NULL);
    (void)pthread_cond_init(&f->changed, NULL);
    const struct weir__mem_hooks hooks = {.alloc = fixture_alloc,
                                          .release = fixture_release,
                                          .ctx = f};
    weir__mem_init(&f->mem, &hooks);
    *state = f;
    return weir__dir_open(&f->dir, &f->io, &f->mem, f->path, false, true, &f->fault);
}

static int teardown(void **state)
{
    struct fixture *const f = *state;
    if (!f->broke && weir__load(&f->mem.bytes, relaxed) != 0) {
        return -1; /* a test gave up in the middle: its window, and perhaps a thread, use all this
                    */
    }
    weir__dir_close(&f->dir);
    (void)blocks_left(f);
    weir__mem_exit(&f->mem);
    (void)pthread_cond_destroy(&f->changed);
    (void)pthread_mutex_destroy(&f->mutex);
    files_remove_dir(f->path);
    free(f->content);
    free(f);
    return 0;
}

static void limit_set(struct fixture *f, uint64_t fetch_end)
{
    (void)pthread_mutex_lock(&f->mutex);
    f->fetch_end = fetch_end;
    (void)pthread_mutex_unlock(&f->mutex);
}

static bool limit_held(struct fixture *f)
{
    (void)pthread_mutex_lock(&f->mutex);
    const bool held = !f->fetched_beyond;
    (void)pthread_mutex_unlock(&f->mutex);
    return held;
}

static struct weir__window *open_window(struct fixture *f, size_t chunk_bytes, unsigned depth)
{
    const struct weir__window_config config = {
        .dir = &f->dir,
        .chunk_bytes = chunk_bytes,
        .depth = depth,
    };
    struct weir__window *window = NULL;
    assert_int_equal(weir__window_open(&config, &window), 0);
    assert_int_equal(weir__window_turn(window, f->range, false, &f->fault), 0);
    return window;
}

static void
peek_is_content(struct fixture *f, struct weir__window *window, uint64_t offset, uint64_t limit)
{
    const uint8_t *data = NULL;
    size_t bytes = 0;
    const int result =
        weir__window_peek(window, BASE + offset, BASE + limit, &data, &bytes, &f->fault);
    if (result != 0) {
        print_error("at %llu, limit %llu: %s\n",
                    (unsigned long long)offset,
                    (unsigned long long)limit,
                    f->fault.text);
    }
    assert_int_equal(result, 0);
    assert_true(bytes >= 1);
    assert_true(offset + bytes <= limit);
    assert_memory_equal(data, f->content + offset, bytes);
}

/* Hops and scans over the file under changing limits. */
static void read_around(struct fixture *f, size_t chunk_bytes, unsigned depth, unsigned steps)
{
    struct weir__window *const window = open_window(f, chunk_bytes, depth);
    uint8_t *const copy = malloc(FILE_BYTES);
    assert_non_null(copy);
    uint64_t offset = 0;
    uint64_t limit_before = FILE_BYTES;
    for (unsigned i = 0; i < steps; i++) {
        const uint64_t dice = random_next(&f->seed);
        if (dice % 8 == 0) {
            offset = random_next(&f->seed) % FILE_BYTES;
        }
        uint64_t limit = FILE_BYTES;
        if (dice % 3 == 0) {
            limit = weir__align_up(offset + 1 + random_next(&f->seed) % (300 * KIB), 4096);
            limit = weir__min_u64(limit, FILE_BYTES);
        }
        if (limit < limit_before) {
            /* What was handed to the background under a higher limit must not be judged by this
             * one: wait for it. */
            weir__window_forget(window);
        }
        limit_before = limit;
        limit_set(f, limit);
        if (dice % 5 == 0) {
            const size_t bytes = (size_t)(random_next(&f->seed) % (limit - offset + 1));
            assert_int_equal(
                weir__window_copy(window, BASE + offset, BASE + limit, copy, bytes, &f->fault),
                0);
            assert_memory_equal(copy, f->content + offset, bytes);
            offset += bytes;
        } else {
            peek_is_content(f, window, offset, limit);
            offset += random_next(&f->seed) % (64 * KIB);
        }
        if (offset >= FILE_BYTES) {
            offset = random_next(&f->seed) % FILE_BYTES;
        }
        assert_true(limit_held(f));
    }
    free(copy);
    weir__window_close(window);
}

static void window_gives_the_bytes_of_the_file(void **state)
{
    struct fixture *const f = *state;
    static const size_t chunks[] = {64 * KIB, 128 * KIB, 1024 * KIB, 0};
    static const unsigned depths[] = {1, 2, 4, 0, 7};
    for (int kind = 0; kind < QUEUE_KINDS; kind++) {
        f->kind = (enum queue_kind)kind;
        for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
            for (size_t j = 0; j < sizeof depths / sizeof depths[0]; j++) {
                f->short_reads = false;
                read_around(f, chunks[i], depths[j], 60);
                f->short_reads = true;
                read_around(f, chunks[i], depths[j], 20);
            }
        }
    }
}

/* The same through the page cache, where offsets are free. */
static void window_gives_the_bytes_of_the_file_buffered(void **state)
{
    struct fixture *const f = *state;
    f->dir.direct = false;
    window_gives_the_bytes_of_the_file(state);
}

static void window_reads_every_byte_once_in_a_scan(void **state)
{
    struct fixture *const f = *state;
    for (int kind = 0; kind < QUEUE_KINDS; kind++) {
        for (unsigned depth = 1; depth <= 4; depth++) {
            f->kind = (enum queue_kind)kind;
            struct weir__window *const window = open_window(f, 256 * KIB, depth);
            for (uint64_t offset = 0; offset < FILE_BYTES; offset += 4096) {
                peek_is_content(f, window, offset, FILE_BYTES);
            }
            uint64_t reads = 0;
            uint64_t bytes = 0;
            weir__window_counts(window, &reads, &bytes);
            assert_true(reads >= FILE_BYTES / (256 * KIB));
            if (f->kind != QUEUE_BREAKS) {
                assert_int_equal(bytes, FILE_BYTES);
            }
            weir__window_close(window);
        }
    }
}

/* Who walks over headers far apart must not read all that lies between. */
static void window_reads_little_after_a_jump(void **state)
{
    struct fixture *const f = *state;
    struct weir__window *const window = open_window(f, 1024 * KIB, 1);
    for (uint64_t offset = 0; offset < FILE_BYTES; offset += 512 * KIB) {
        peek_is_content(f, window, offset, FILE_BYTES);
    }
    assert_true(f->largest <= 64 * KIB);
    weir__window_close(window);
}

static void window_reads_what_a_copy_needs_in_one_piece(void **state)
{
    struct fixture *const f = *state;
    struct weir__window *const window = open_window(f, 1024 * KIB, 1);
    uint8_t *const copy = malloc(600 * KIB);
    assert_non_null(copy);
    assert_int_equal(
        weir__window_copy(window, BASE + 4096, BASE + FILE_BYTES, copy, 600 * KIB, &f->fault),
        0);
    assert_memory_equal(copy, f->content + 4096, 600 * KIB);
    assert_int_equal(f->reads, 1);
    free(copy);
    weir__window_close(window);
}

static void window_follows_a_growing_limit_without_passing_it(void **state)
{
    struct fixture *const f = *state;
    for (int kind = 0; kind < QUEUE_KINDS; kind++) {
        for (unsigned depth = 1; depth <= 4; depth += 3) {
            f->kind = (enum queue_kind)kind;
            struct weir__window *const window = open_window(f, 64 * KIB, depth);
            uint64_t limit = 0;
            uint64_t offset = 0;
            while (limit < FILE_BYTES) {
                limit = weir__min_u64(FILE_BYTES, limit + 4096 * (1 + random_next(&f->seed) % 40));
                limit_set(f, limit);
                while (offset < limit) {
                    peek_is_content(f, window, offset, limit);
                    offset += 4096;
                }
                assert_true(limit_held(f));
            }
            weir__window_close(window);
        }
    }
}

/* A limit inside a block: only what lies below that block may be fetched, so the rest is not
 * there yet. */
static void window_rounds_a_limit_down_to_the_block(void **state)
{
    struct fixture *const f = *state;
    struct weir__window *const window = open_window(f, 64 * KIB, 4);
    const uint8_t *data = NULL;
    size_t bytes = 0;
    limit_set(f, 8192);
    assert_int_equal(
        weir__window_peek(window, BASE + 4096, BASE + 8192 + 100, &data, &bytes, &f->fault),
        0);
    assert_int_equal(bytes, 4096);
    assert_int_equal(
        weir__window_peek(window, BASE + 8192, BASE + 8192 + 100, &data, &bytes, &f->fault),
        -EINVAL);
    assert_true(limit_held(f));
    weir__window_close(window);
}

/* Bytes that are in hand from an earlier, higher limit are not given out above a lower one. */
static void window_gives_nothing_above_a_lower_limit(void **state)
{
    struct fixture *const f = *state;
    struct weir__window *const window = open_window(f, 64 * KIB, 1);
    peek_is_content(f, window, 0, FILE_BYTES);
    const uint8_t *data = NULL;
    size_t bytes = 0;
    assert_int_equal(weir__window_peek(window, BASE, BASE + 8192, &data, &bytes, &f->fault), 0);
    assert_int_equal(bytes, 8192);
    assert_int_equal(weir__window_peek(window, BASE + 8192, BASE + 8192, &data, &bytes, &f->fault),
                     -EINVAL);
    weir__window_close(window);
}

static void window_refuses_positions_outside_of_the_segment(void **state)
{
    struct fixture *const f = *state;
    struct weir__window *const window = open_window(f, 0, 0);
    const uint8_t *data = NULL;
    size_t bytes = 0;
    const weir_lsn end = BASE + FILE_BYTES;
    assert_int_equal(weir__window_peek(window, BASE - 1, end, &data, &bytes, &f->fault), -EINVAL);
    assert_int_equal(weir__window_peek(window, end, UINT64_MAX, &data, &bytes, &f->fault), -EINVAL);
    assert_int_equal(weir__window_peek(window, BASE, BASE, &data, &bytes, &f->fault), -EINVAL);
    assert_int_equal(weir__window_peek(window, BASE, 0, &data, &bytes, &f->fault), -EINVAL);
    assert_int_equal(f->fault.code, 0);
    assert_int_equal(weir__window_peek(window, end - 1, UINT64_MAX, &data, &bytes, &f->fault), 0);
    assert_int_equal(bytes, 1);
    weir__window_close(window);

    const struct weir__window_config config = {.dir = &f->dir};
    struct weir__window *unturned = NULL;
    assert_int_equal(weir__window_open(&config, &unturned), 0);
    assert_int_equal(weir__window_peek(unturned, BASE, end, &data, &bytes, &f->fault), -EINVAL);
    weir__window_close(unturned);
    weir__window_close(NULL);
}

/* Reads from `offset` on in steps of a block until something is refused; returns where. */
static uint64_t scan_until_fault(struct fixture *f, struct weir__window *window, uint64_t offset)
{
    f->fault = WEIR__FAULT_NONE;
    while (offset < FILE_BYTES) {
        const uint8_t *data = NULL;
        size_t bytes = 0;
        const int result =
            weir__window_peek(window, BASE + offset, BASE + FILE_BYTES, &data, &bytes, &f->fault);
        if (result != 0) {
            assert_int_equal(result, WEIR_EUNREADABLE);
            assert_int_equal(f->fault.code, WEIR_EUNREADABLE);
            return offset;
        }
        assert_memory_equal(data, f->content + offset, bytes);
        offset += weir__min_u64(bytes, 4096);
    }
    return offset;
}

static void window_names_the_block_that_cannot_be_read(void **state)
{
    struct fixture *const f = *state;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(f->range.base, f->range.end, name);
    for (int kind = 0; kind < QUEUE_KINDS; kind++) {
        if (kind == QUEUE_SYSTEM) {
            continue; /* it would read the block, which is a good one in truth */
        }
        for (unsigned depth = 1; depth <= 4; depth += 3) {
            f->kind = (enum queue_kind)kind;
            for (uint64_t bad = 0; bad < FILE_BYTES; bad += 300 * KIB) {
                f->bad = bad;
                struct weir__window *const window = open_window(f, 256 * KIB, depth);
                /* Everything in front of it is given out, and the fault is exact, also a second
                 * time. */
                assert_int_equal(scan_until_fault(f, window, 0), bad);
                assert_int_equal(f->fault.offset, bad);
                assert_int_equal(f->fault.lsn, BASE + bad);
                assert_string_equal(f->fault.file, name);
                assert_int_equal(scan_until_fault(f, window, bad), bad);
                assert_int_equal(f->fault.offset, bad);
                /* What lies behind can be read, and so can the block once the device has it again.
                 */
                assert_int_equal(scan_until_fault(f, window, bad + 4096), FILE_BYTES);
                f->bad = NOTHING_BAD;
                assert_int_equal(scan_until_fault(f, window, bad), FILE_BYTES);
                weir__window_close(window);
            }
        }
    }
}

static void window_reads_on_after_an_error_that_goes_away(void **state)
{
    struct fixture *const f = *state;
    f->bad_once = true;
    for (unsigned depth = 1; depth <= 4; depth += 3) {
        f->kind = QUEUE_PLAYED;
        f->bad = 700 * KIB;
        struct weir__window *const window = open_window(f, 256 * KIB, depth);
        assert_int_equal(scan_until_fault(f, window, 0), FILE_BYTES);
        assert_int_equal(f->bad, NOTHING_BAD);
        weir__window_close(window);
    }
}

/* Want of memory says nothing about the block. */
static void window_passes_want_of_memory_through(void **state)
{
    struct fixture *const f = *state;
    f->bad = 0;
    f->bad_error = -ENOMEM;
    struct weir__window *const window = open_window(f, 64 * KIB, 1);
    const uint8_t *data = NULL;
    size_t bytes = 0;
    assert_int_equal(weir__window_peek(window, BASE, BASE + FILE_BYTES, &data, &bytes, &f->fault),
                     -ENOMEM);
    assert_int_equal(f->fault.code, -ENOMEM);
    f->bad = NOTHING_BAD;
    peek_is_content(f, window, 0, FILE_BYTES);
    weir__window_close(window);
}

static void window_tells_where_a_file_ends_early(void **state)
{
    struct fixture *const f = *state;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(f->range.base, f->range.end, name);
    char path[FILES_PATH_BYTES];
    files_path(f->path, name, path);
    for (int kind = 0; kind < QUEUE_KINDS; kind++) {
        for (unsigned depth = 1; depth <= 4; depth += 3) {
            f->kind = (enum queue_kind)kind;
            static const uint64_t ends[] = {0, 4096, 300 * KIB, 1000 * KIB + 77, FILE_BYTES - 1};
            for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
                struct weir__window *const window = open_window(f, 256 * KIB, depth);
                assert_int_equal(truncate(path, (off_t)ends[i]), 0);
                uint64_t offset = 0;
                f->fault = WEIR__FAULT_NONE;
                const uint8_t *data = NULL;
                size_t bytes = 0;
                int result = 0;
                while ((result = weir__window_peek(window,
                                                   BASE + offset,
                                                   BASE + FILE_BYTES,
                                                   &data,
                                                   &bytes,
                                                   &f->fault)) == 0) {
                    assert_memory_equal(data, f->content + offset, bytes);
                    offset += bytes;
                }
                assert_int_equal(result, WEIR_EUNREADABLE);
                assert_int_equal(offset, ends[i]);
                assert_int_equal(f->fault.offset, ends[i]);
                weir__window_close(window);
                assert_true(files_write(f->path, name, f->content, FILE_BYTES, 0));
            }
        }
    }
}

static void window_keeps_or_forgets_as_told(void **state)
{
    struct fixture *const f = *state;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(f->range.base, f->range.end, name);
    struct weir__window *const window = open_window(f, 64 * KIB, 1);
    peek_is_content(f, window, 0, FILE_BYTES);
    const uint64_t reads = f->reads;
    /* The same range, kept: no new read. */
    assert_int_equal(weir__window_turn(window, f->range, true, &f->fault), 0);
    peek_is_content(f, window, 0, FILE_BYTES);
    assert_int_equal(f->reads, reads);
    /* Forgotten: read anew, in the same file. */
    f->content[0] ^= 1;
    assert_true(files_write(f->path, name, f->content, 4096, 0));
    weir__window_forget(window);
    peek_is_content(f, window, 0, FILE_BYTES);
    /* Turned without keep: the file is opened anew, which may be another one by now. */
    char old_path[FILES_PATH_BYTES];
    char new_path[FILES_PATH_BYTES];
    files_path(f->path, name, old_path);
    files_path(f->path, "elsewhere", new_path);
    assert_int_equal(rename(old_path, new_path), 0);
    f->content[0] ^= 1;
    assert_true(files_write(f->path, name, f->content, FILE_BYTES, 0));
    assert_int_equal(weir__window_turn(window, f->range, false, &f->fault), 0);
    peek_is_content(f, window, 0, FILE_BYTES);
    /* A range that is not there. */
    const struct weir__range none = {BASE + FILE_BYTES, BASE + 2 * FILE_BYTES};
    assert_int_equal(weir__window_turn(window, none, true, &f->fault), -ENOENT);
    const uint8_t *data = NULL;
    size_t bytes = 0;
    assert_int_equal(weir__window_peek(window, BASE, BASE + 4096, &data, &bytes, &f->fault),
                     -EINVAL);
    weir__window_close(window);
}

/* A file renamed away while it is read stays readable: the descriptor is what counts. */
static void window_reads_on_in_a_renamed_file(void **state)
{
    struct fixture *const f = *state;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(f->range.base, f->range.end, name);
    struct weir__window *const window = open_window(f, 64 * KIB, 4);
    peek_is_content(f, window, 0, FILE_BYTES);
    char old_path[FILES_PATH_BYTES];
    char new_path[FILES_PATH_BYTES];
    files_path(f->path, name, old_path);
    files_path(f->path, "elsewhere", new_path);
    assert_int_equal(rename(old_path, new_path), 0);
    assert_int_equal(scan_until_fault(f, window, 0), FILE_BYTES);
    weir__window_close(window);
}

static void window_reads_past_the_cache_on_demand(void **state)
{
    struct fixture *const f = *state;
    if (!f->dir.facts.direct) {
        skip();
    }
    f->dir.direct = false;
    struct weir__window *const window = open_window(f, 64 * KIB, 1);
    peek_is_content(f, window, 100, FILE_BYTES);
    weir__window_past_cache(window, true);
    const uint64_t reads = f->reads;
    assert_int_equal(weir__window_turn(window, f->range, true, &f->fault), 0);
    peek_is_content(f, window, 100, FILE_BYTES);
    assert_int_equal(f->reads, reads + 1);
    assert_int_equal(scan_until_fault(f, window, 0), FILE_BYTES);
    weir__window_past_cache(window, false);
    assert_int_equal(weir__window_turn(window, f->range, true, &f->fault), 0);
    peek_is_content(f, window, 100, FILE_BYTES);
    assert_false(f->dir.direct);
    weir__window_close(window);
}

/* Turns, reads all, and tells whether it was through the page cache. */
static bool reads_from_the_cache(struct fixture *f, struct weir__window *window, bool keep)
{
    f->cached_reads = 0;
    f->direct_reads = 0;
    assert_int_equal(weir__window_turn(window, f->range, keep, &f->fault), 0);
    weir__window_forget(window);
    assert_int_equal(scan_until_fault(f, window, 0), FILE_BYTES);
    assert_true((f->cached_reads == 0) != (f->direct_reads == 0));
    return f->cached_reads > 0;
}

static void window_reads_from_the_cache_what_that_holds(void **state)
{
    struct fixture *const f = *state;
    if (!f->dir.direct) {
        skip();
    }
    for (unsigned depth = 1; depth <= 4; depth += 3) {
        f->kind = QUEUE_PLAYED;
        f->cached_says = 1;
        f->cached_asked = 0;
        struct weir__window *const window = open_window(f, 1024 * KIB, depth);
        /* Not asked to: past the cache, and nobody is asked. */
        assert_false(reads_from_the_cache(f, window, false));
        assert_int_equal(f->cached_asked, 0);
        assert_int_equal(weir__window_cached(window), 0);
        /* A segment that may still grow is not among them. */
        weir__window_cached_below(window, f->range.end - 1);
        assert_false(reads_from_the_cache(f, window, false));
        assert_int_equal(f->cached_asked, 0);
        weir__window_cached_below(window, f->range.end);
        assert_true(reads_from_the_cache(f, window, false));
        assert_int_equal(f->cached_asked, 1);
        assert_int_equal(weir__window_cached(window), FILE_BYTES);
        /* Kept, and no longer so once it is not wanted. */
        assert_true(reads_from_the_cache(f, window, true));
        assert_int_equal(f->cached_asked, 1);
        weir__window_cached_below(window, 0);
        assert_false(reads_from_the_cache(f, window, true));
        assert_int_equal(weir__window_cached(window), 2 * FILE_BYTES);
        /* It goes before the other one's word, as a scan wants it. */
        weir__window_cached_below(window, f->range.end);
        weir__window_past_cache(window, true);
        assert_true(reads_from_the_cache(f, window, false));
        weir__window_past_cache(window, false);
        /* Not there, or not to be told. */
        f->cached_says = 0;
        assert_false(reads_from_the_cache(f, window, false));
        f->cached_says = -ENOSYS;
        assert_false(reads_from_the_cache(f, window, false));
        /* Another host may have written. */
        f->cached_says = 1;
        const unsigned asked = f->cached_asked;
        f->dir.facts.network = true;
        assert_false(reads_from_the_cache(f, window, false));
        assert_int_equal(f->cached_asked, asked);
        f->dir.facts.network = false;
        weir__window_close(window);
    }
}

static void window_asks_for_a_queue_once(void **state)
{
    struct fixture *const f = *state;
    for (int kind = 0; kind < QUEUE_KINDS; kind++) {
        f->kind = (enum queue_kind)kind;
        f->queue_opens = 0;
        struct weir__window *const window = open_window(f, 64 * KIB, 4);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(scan_until_fault(f, window, 0), FILE_BYTES);
            assert_int_equal(weir__window_turn(window, f->range, false, &f->fault), 0);
        }
        assert_int_equal(f->queue_opens, 1);
        weir__window_close(window);
        /* Nothing to read ahead: no queue, no thread. */
        f->queue_opens = 0;
        struct weir__window *const small = open_window(f, 64 * KIB, 4);
        peek_is_content(f, small, 0, 64 * KIB);
        assert_int_equal(f->queue_opens, 0);
        weir__window_close(small);
    }
}

/* The queue cannot be waited for any more, and may still write: its memory is left to it. */
static void window_leaves_memory_to_a_queue_that_breaks(void **state)
{
    struct fixture *const f = *state;
    f->kind = QUEUE_BREAKS;
    struct weir__window *window = open_window(f, 64 * KIB, 4);
    assert_int_equal(scan_until_fault(f, window, 0), FILE_BYTES);
    weir__window_close(window);
    assert_int_equal(blocks_left(f), 1);
    assert_int_equal(weir__load(&f->mem.bytes, relaxed), 0);
    /* No other memory to be had: said so, until there is. */
    window = open_window(f, 64 * KIB, 4);
    f->allocation_fails = 1;
    f->fault = WEIR__FAULT_NONE;
    const uint8_t *data = NULL;
    size_t bytes = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            weir__window_peek(window, BASE, BASE + FILE_BYTES, &data, &bytes, &f->fault),
            -ENOMEM);
        assert_int_equal(f->fault.code, -ENOMEM);
    }
    f->allocation_fails = 0;
    assert_int_equal(scan_until_fault(f, window, 0), FILE_BYTES);
    weir__window_close(window);
    assert_int_equal(blocks_left(f), 1);
    /* Closed before anybody noticed. */
    window = open_window(f, 64 * KIB, 4);
    f->allocation_fails = 1;
    assert_int_equal(weir__window_peek(window, BASE, BASE + FILE_BYTES, &data, &bytes, &f->fault),
                     -ENOMEM);
    weir__window_close(window);
    f->allocation_fails = 0;
    assert_int_equal(blocks_left(f), 1);
}

struct passenger {
    struct fixture *f;
    struct weir__window *window;
    bool same;
};

static void *read_elsewhere(void *arg)
{
    struct passenger *const p = arg;
    p->same = true;
    for (uint64_t offset = 0; offset < FILE_BYTES && p->same;) {
        const uint8_t *data = NULL;
        size_t bytes = 0;
        p->same = weir__window_peek(p->window,
                                    BASE + offset,
                                    BASE + FILE_BYTES,
                                    &data,
                                    &bytes,
                                    &p->f->fault) == 0 &&
                  memcmp(data, p->f->content + offset, bytes) == 0;
        offset += bytes;
    }
    return NULL;
}

/* One thread at a time, but not always the same one: a queue belongs to one thread, a cursor
 * does not. */
static void window_may_pass_from_thread_to_thread(void **state)
{
    struct fixture *const f = *state;
    struct weir__window *const window = open_window(f, 64 * KIB, 4);
    for (int i = 0; i < 4; i++) {
        peek_is_content(f, window, 0, FILE_BYTES);
        struct passenger passenger = {.f = f, .window = window};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, read_elsewhere, &passenger), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_true(passenger.same);
    }
    weir__window_close(window);
}

static void window_allocates_what_it_says(void **state)
{
    struct fixture *const f = *state;
    static const size_t chunks[] = {1, 64 * KIB, 65 * KIB, 0, 3072 * KIB};
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        for (unsigned depth = 0; depth < 9; depth++) {
            const struct weir__window_config config = {.dir = &f->dir,
                                                       .chunk_bytes = chunks[i],
                                                       .depth = depth};
            const uint64_t before = weir__load(&f->mem.bytes, relaxed);
            struct weir__window *window = NULL;
            assert_int_equal(weir__window_open(&config, &window), 0);
            assert_int_equal(weir__load(&f->mem.bytes, relaxed) - before,
                             weir__window_memory(&config));
            weir__window_close(window);
            assert_int_equal(weir__load(&f->mem.bytes, relaxed), before);
        }
    }
}

#define WINDOW_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* --seed N: other random choices. */
int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
        seed_base = strtoull(argv[2], NULL, 0);
    }
    print_message("rerun with: %s --seed %llu\n", argv[0], (unsigned long long)seed_base);
    const struct CMUnitTest tests[] = {
        WINDOW_TEST(window_gives_the_bytes_of_the_file),
        WINDOW_TEST(window_gives_the_bytes_of_the_file_buffered),
        WINDOW_TEST(window_reads_every_byte_once_in_a_scan),
        WINDOW_TEST(window_reads_little_after_a_jump),
        WINDOW_TEST(window_reads_what_a_copy_needs_in_one_piece),
        WINDOW_TEST(window_follows_a_growing_limit_without_passing_it),
        WINDOW_TEST(window_rounds_a_limit_down_to_the_block),
        WINDOW_TEST(window_gives_nothing_above_a_lower_limit),
        WINDOW_TEST(window_refuses_positions_outside_of_the_segment),
        WINDOW_TEST(window_names_the_block_that_cannot_be_read),
        WINDOW_TEST(window_reads_on_after_an_error_that_goes_away),
        WINDOW_TEST(window_passes_want_of_memory_through),
        WINDOW_TEST(window_tells_where_a_file_ends_early),
        WINDOW_TEST(window_keeps_or_forgets_as_told),
        WINDOW_TEST(window_reads_on_in_a_renamed_file),
        WINDOW_TEST(window_reads_past_the_cache_on_demand),
        WINDOW_TEST(window_reads_from_the_cache_what_that_holds),
        WINDOW_TEST(window_asks_for_a_queue_once),
        WINDOW_TEST(window_leaves_memory_to_a_queue_that_breaks),
        WINDOW_TEST(window_may_pass_from_thread_to_thread),
        WINDOW_TEST(window_allocates_what_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
