/* SPDX-License-Identifier: Apache-2.0
 * What every queue of the seam must do, on real files, whoever carries it out: one battery for the
 * ring, in each of its shapes, and for the pool.
 *
 * Included by one test program for each backend, which sets `io` and `shape` and runs
 * QUEUE_BATTERY between set_up and tear_down. */
#ifndef WEIR_TESTS_UNIT_PORT_QUEUE_BATTERY_H
#define WEIR_TESTS_UNIT_PORT_QUEUE_BATTERY_H

#include "base/atomic.h"
#include "io/transfer.h"
#include "port/clock.h"
#include "port/io.h"
#include "port/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NS_PER_MS UINT64_C(1000000)
/* Long enough for any disk, short of the test's own limit. */
#define PATIENCE_NS INT64_C(30000000000)
#define BLOCK_BYTES 4096u
enum { ENTRIES = 8 };

static char root[PATH_MAX];
/* Set by the test's main: the backend, and how its queues are opened. */
static struct weir__io *io;
static struct weir__queue_config shape = {.lock_file = -1};
/* Pool: reads of this descriptor are plain ones, which wait in the kernel until there is a byte; so
 * many have begun. -1: a ring's own reads do that by themselves. Relaxed: only counted. */
static int gate_file = -1;
static WEIR__ATOMIC(uint32_t) gate_begun;
static struct weir__mem mem;
static int dir = -1;

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    const char *const base = getenv("TMPDIR");
    (void)snprintf(root, sizeof root, "%s/weir-queue.XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(root) == NULL) {
        return -1;
    }
    weir__mem_init(&mem, NULL);
    return io->ops->open_dir(io, root, false, &dir);
}

static int tear_down(void **state)
{
    (void)state;
    (void)io->ops->close(io, dir);
    const bool balanced = weir__load(&mem.bytes, relaxed) == 0;
    weir__mem_exit(&mem);
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 || !balanced ? -1 : 0;
}

static int create(const char *name)
{
    int file = -1;
    assert_int_equal(io->ops->open(io, dir, name, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &file), 0);
    return file;
}

static struct weir__queue *open_queue(unsigned entries)
{
    struct weir__queue_config config = shape;
    config.entries = entries;
    struct weir__queue *queue = NULL;
    struct weir__queue_info info;
    assert_int_equal(io->ops->queue_open(io, &mem, &config, &queue, &info), 0);
    assert_int_equal(info.entries, entries);
    assert_int_equal(info.kernel_poll, shape.kernel_poll);
    return queue;
}

static struct weir__op op_write(int file, const struct iovec *iov, uint64_t offset, uint64_t data)
{
    return (struct weir__op){.kind = WEIR__OP_WRITE,
                             .file = file,
                             .iov = iov,
                             .iov_count = 1,
                             .offset = offset,
                             .data = data};
}

static struct weir__op op_sync(int file, uint64_t data)
{
    return (struct weir__op){.kind = WEIR__OP_SYNC, .file = file, .data = data};
}

/* Waits for `count` events and puts the result of the one with data i into results[i]. Returns how
 * many came; data beyond count or twice is a failure that shows as a missing event. */
static unsigned reap_all(struct weir__queue *queue, int32_t *results, unsigned count)
{
    unsigned got = 0;
    bool seen[64] = {false};
    const uint64_t deadline_ns = weir__deadline(PATIENCE_NS);
    while (got < count && weir__now_ns() < deadline_ns) {
        struct weir__event events[4];
        const int reaped = io->ops->queue_reap(io, queue, events, 4, 1, deadline_ns);
        if (reaped < 0) {
            return got;
        }
        for (int i = 0; i < reaped; i++) {
            if (events[i].data >= count || seen[events[i].data]) {
                return got;
            }
            seen[events[i].data] = true;
            results[events[i].data] = events[i].result;
            got++;
        }
    }
    return got;
}

static int in_child(int (*check)(void))
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(check());
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- what ops do ---- */

static void linked_write_and_sync_both_succeed(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("linked");
    char text[] = "durable";
    const struct iovec iov = {text, 7};
    struct weir__op ops[2] = {op_write(file, &iov, 100, 0), op_sync(file, 1)};
    ops[0].link = true;
    assert_int_equal(io->ops->queue_push(io, queue, ops, 2), 0);
    int32_t results[2] = {-1, -1};
    assert_int_equal(reap_all(queue, results, 2), 2);
    assert_int_equal(results[0], 7);
    assert_int_equal(results[1], 0);
    char back[7];
    assert_int_equal(io->ops->read(io, file, back, 7, 100), 7);
    assert_memory_equal(back, text, 7);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* One range, several, and a read back of both kinds, with and without durability. */
static void writes_and_reads_of_every_shape_move_the_bytes(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("shapes");
    char a[] = "aaaa";
    char b[] = "bbbbbb";
    const struct iovec two[2] = {{a, 4}, {b, 6}};
    for (int dsync = 0; dsync < 2; dsync++) {
        struct weir__op ops[2] = {op_write(file, two, 0, 0), op_write(file, two, 50, 1)};
        ops[0].iov_count = 2;
        ops[0].dsync = dsync != 0;
        ops[1].dsync = dsync != 0;
        int32_t results[2] = {-1, -1};
        assert_int_equal(io->ops->queue_push(io, queue, ops, 2), 0);
        assert_int_equal(reap_all(queue, results, 2), 2);
        assert_int_equal(results[0], 10);
        assert_int_equal(results[1], 4);
    }
    char c[4];
    char d[6];
    char e[100];
    const struct iovec back_two[2] = {{c, 4}, {d, 6}};
    const struct iovec back_one = {e, sizeof e};
    struct weir__op reads[2] = {op_write(file, back_two, 0, 0), op_write(file, &back_one, 50, 1)};
    reads[0].kind = WEIR__OP_READ;
    reads[0].iov_count = 2;
    reads[1].kind = WEIR__OP_READ;
    int32_t results[2] = {-1, -1};
    assert_int_equal(io->ops->queue_push(io, queue, reads, 2), 0);
    assert_int_equal(reap_all(queue, results, 2), 2);
    assert_int_equal(results[0], 10);
    assert_int_equal(results[1], 4); /* short: the file ends */
    assert_memory_equal(c, "aaaa", 4);
    assert_memory_equal(d, "bbbbbb", 6);
    assert_memory_equal(e, "aaaa", 4);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* Ranges inside one registered buffer, across two of them, beyond an end, and not registered at
 * all. */
static void registered_buffers_serve_what_lies_inside_and_harm_nothing_else(void **state)
{
    (void)state;
    const size_t bytes = 4 * BLOCK_BYTES;
    char *const block = weir__mem_alloc_io(&mem, bytes);
    assert_non_null(block);
    for (size_t i = 0; i < bytes; i++) {
        block[i] = (char)(i * 7 + i / 256);
    }
    /* The last quarter stays unregistered. */
    const struct iovec buffers[2] = {{block, BLOCK_BYTES}, {block + BLOCK_BYTES, 2 * BLOCK_BYTES}};
    const struct weir__queue_config config = {.entries = ENTRIES,
                                              .lock_file = -1,
                                              .buffers = buffers,
                                              .buffer_count = 2};
    struct weir__queue *queue = NULL;
    struct weir__queue_info info;
    assert_int_equal(io->ops->queue_open(io, &mem, &config, &queue, &info), 0);
    print_message("buffers registered: %d, note: \"%s\"\n", info.buffers_registered, info.note);
    const int file = create("fixed");
    const struct iovec ranges[5] = {
        {block, BLOCK_BYTES},
        {block + BLOCK_BYTES + 1, 2 * BLOCK_BYTES - 1},
        {block + 100, BLOCK_BYTES},
        {block + 2 * BLOCK_BYTES, 2 * BLOCK_BYTES},
        {block + 3 * BLOCK_BYTES, 10},
    };
    struct weir__op ops[5];
    for (unsigned i = 0; i < 5; i++) {
        ops[i] = op_write(file, &ranges[i], i * bytes, i);
        ops[i].dsync = i % 2 == 0;
    }
    int32_t results[5];
    assert_int_equal(io->ops->queue_push(io, queue, ops, 5), 0);
    assert_int_equal(reap_all(queue, results, 5), 5);
    char *const back = malloc(bytes);
    assert_non_null(back);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(results[i], ranges[i].iov_len);
        assert_int_equal(weir__io_read_full(io, file, back, ranges[i].iov_len, i * bytes), 0);
        assert_memory_equal(back, ranges[i].iov_base, ranges[i].iov_len);
    }
    /* And reads into them. */
    memcpy(back, block, bytes);
    memset(block, 0, bytes);
    for (unsigned i = 0; i < 2; i++) {
        ops[i].kind = WEIR__OP_READ;
    }
    assert_int_equal(io->ops->queue_push(io, queue, ops, 2), 0);
    assert_int_equal(reap_all(queue, results, 2), 2);
    assert_memory_equal(block, back, BLOCK_BYTES);
    assert_memory_equal(block + BLOCK_BYTES + 1, back + BLOCK_BYTES + 1, 2 * BLOCK_BYTES - 1);
    free(back);
    io->ops->queue_close(io, &mem, queue);
    weir__mem_free_io(&mem, block, bytes);
    assert_int_equal(io->ops->close(io, file), 0);
}

static int check_short_write(void)
{
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {10240, 10240};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) {
        return 1;
    }
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("short");
    static char bytes[BLOCK_BYTES];
    const struct iovec iov = {bytes, sizeof bytes};
    struct weir__op ops[4] = {
        op_write(file, &iov, 0, 0),
        op_write(file, &iov, 8192, 1),
        op_write(file, &iov, 0, 2),
        op_sync(file, 3),
    };
    for (int i = 0; i < 3; i++) {
        ops[i].link = true;
    }
    int32_t results[4] = {1, 1, 1, 1};
    if (io->ops->queue_push(io, queue, ops, 4) != 0 || reap_all(queue, results, 4) != 4) {
        return 2;
    }
    io->ops->queue_close(io, &mem, queue);
    return results[0] == 4096 && results[1] == 2048 && results[2] == -ECANCELED &&
                   results[3] == -ECANCELED
               ? 0
               : 3;
}

/* The rule that the engine's acknowledgement rests on: short is positive, and nothing behind it
 * runs. */
static void short_write_cancels_the_rest_of_its_run(void **state)
{
    (void)state;
    assert_int_equal(in_child(check_short_write), 0);
}

static void failed_op_cancels_its_own_run_and_no_other(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("independent");
    char text[] = "x";
    const struct iovec iov = {text, 1};
    struct weir__op ops[5] = {
        op_write(-1, &iov, 0, 0),
        op_sync(file, 1),
        op_write(file, &iov, 0, 2),
        op_sync(file, 3),
        op_sync(file, 4),
    };
    ops[0].link = true;
    ops[2].link = true;
    int32_t results[5];
    assert_int_equal(io->ops->queue_push(io, queue, ops, 5), 0);
    assert_int_equal(reap_all(queue, results, 5), 5);
    assert_int_equal(results[0], -EBADF);
    assert_int_equal(results[1], -ECANCELED);
    assert_int_equal(results[2], 1);
    assert_int_equal(results[3], 0);
    assert_int_equal(results[4], 0);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* ---- bounds ---- */

static void push_beyond_the_entries_is_refused_as_a_whole(void **state)
{
    (void)state;
    static const unsigned sizes[] = {1, 3, 8};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const unsigned entries = sizes[s];
        struct weir__queue *const queue = open_queue(entries);
        const int file = create("bounds");
        char text[] = "y";
        const struct iovec iov = {text, 1};
        struct weir__op ops[ENTRIES + 1];
        for (unsigned i = 0; i <= entries; i++) {
            ops[i] = op_write(file, &iov, i, i);
        }
        struct weir__event events[ENTRIES];
        assert_int_equal(io->ops->queue_push(io, queue, ops, entries + 1), -EAGAIN);
        assert_int_equal(io->ops->queue_push(io, queue, ops, 0), 0);
        assert_int_equal(io->ops->queue_reap(io, queue, events, ENTRIES, 0, 0), 0);
        /* Room is counted by events taken, not by ops that the kernel has done. Several rounds,
         * each with a wake, so that the standing read competes for places. */
        for (int round = 0; round < 20; round++) {
            assert_int_equal(io->ops->queue_push(io, queue, ops, entries), 0);
            assert_int_equal(io->ops->queue_push(io, queue, &ops[entries], 1), -EAGAIN);
            io->ops->queue_wake(io, queue);
            int32_t results[ENTRIES];
            assert_int_equal(reap_all(queue, results, entries), entries);
            for (unsigned i = 0; i < entries; i++) {
                assert_int_equal(results[i], 1);
            }
        }
        io->ops->queue_close(io, &mem, queue);
        assert_int_equal(io->ops->close(io, file), 0);
    }
}

static void config_out_of_range_is_refused(void **state)
{
    (void)state;
    struct weir__queue *queue = NULL;
    struct weir__queue_info info;
    struct weir__queue_config config = {.entries = 0, .lock_file = -1};
    assert_int_equal(io->ops->queue_open(io, &mem, &config, &queue, &info), -EINVAL);
    config.entries = WEIR__QUEUE_ENTRIES_MAX + 1;
    assert_int_equal(io->ops->queue_open(io, &mem, &config, &queue, &info), -EINVAL);
    assert_null(queue);
    config.entries = WEIR__QUEUE_ENTRIES_MAX;
    assert_int_equal(io->ops->queue_open(io, &mem, &config, &queue, &info), 0);
    io->ops->queue_close(io, &mem, queue);
}

/* ---- waiting and waking ---- */

static void wait_without_events_ends_at_its_deadline(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    struct weir__event event;
    for (int round = 0; round < 3; round++) {
        const uint64_t deadline_ns = weir__deadline((int64_t)(10 * NS_PER_MS));
        assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, deadline_ns), 0);
        assert_true(weir__now_ns() >= deadline_ns);
    }
    /* One that is over, and a look that does not wait. */
    assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, 1), 0);
    assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 0, WEIR__NEVER), 0);
    io->ops->queue_close(io, &mem, queue);
}

struct waker {
    struct weir__queue *queue;
    uint64_t after_ns;
    /* Asked to stop: relaxed, a flag without data. */
    WEIR__ATOMIC(uint32_t) stop;
    bool repeat;
};

static void *waker_run(void *arg)
{
    struct waker *const waker = arg;
    do {
        weir__sleep_ns(waker->after_ns);
        io->ops->queue_wake(io, waker->queue);
    } while (waker->repeat && weir__load(&waker->stop, relaxed) == 0);
    return NULL;
}

static void wake_ends_a_wait_that_has_no_deadline(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    for (int round = 0; round < 20; round++) {
        struct waker waker;
        memset(&waker, 0, sizeof waker);
        waker.queue = queue;
        waker.after_ns = (uint64_t)(round % 4) * NS_PER_MS;
        pthread_t thread;
        assert_int_equal(weir__thread_start(&thread, "waker", waker_run, &waker), 0);
        struct weir__event event;
        /* Without the wake this never returns, and the test's own limit ends it. */
        const int reaped = io->ops->queue_reap(io, queue, &event, 1, 1, WEIR__NEVER);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(reaped, 0);
    }
    io->ops->queue_close(io, &mem, queue);
}

static void wake_before_the_wait_ends_the_next_one(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    struct weir__event event;
    enum { WAKES = 3 };
    /* Before the first wait the standing read does not exist yet; afterwards it does. */
    for (int round = 0; round < 3; round++) {
        for (int wakes = 0; wakes < WAKES; wakes++) {
            io->ops->queue_wake(io, queue);
        }
        assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, WEIR__NEVER), 0);
        /* Several may count as one or as each; no wait ends for none. */
        int ended = 1;
        for (;;) {
            const uint64_t deadline_ns = weir__deadline((int64_t)(5 * NS_PER_MS));
            assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, deadline_ns), 0);
            if (weir__now_ns() >= deadline_ns) {
                break;
            }
            assert_true(++ended <= WAKES);
        }
    }
    io->ops->queue_close(io, &mem, queue);
}

/* Bytes that the waker wrote before its wake are there after it: TSan checks the hand-off. */
struct letter {
    struct weir__queue *queue;
    WEIR__ATOMIC(uint32_t) sent; /* release writer, acquire reader: publishes text */
    int text;
};

static void *letter_run(void *arg)
{
    struct letter *const letter = arg;
    letter->text = 4711;
    weir__store(&letter->sent, 1, release);
    io->ops->queue_wake(io, letter->queue);
    return NULL;
}

static void what_was_stored_before_a_wake_is_seen_after_it(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    for (int round = 0; round < 50; round++) {
        struct letter letter;
        memset(&letter, 0, sizeof letter);
        letter.queue = queue;
        pthread_t thread;
        assert_int_equal(weir__thread_start(&thread, "letter", letter_run, &letter), 0);
        struct weir__event event;
        (void)io->ops->queue_reap(io, queue, &event, 1, 1, WEIR__NEVER);
        const uint32_t sent = weir__load(&letter.sent, acquire);
        const int text = sent == 1 ? letter.text : 0;
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(sent, 1);
        assert_int_equal(text, 4711);
    }
    io->ops->queue_close(io, &mem, queue);
}

static void ignore_signal(int number)
{
    (void)number;
}

/* A program that ignored EINTR hung for ever here: nothing was submitted, and it waited for it. */
static void signals_neither_lose_ops_nor_end_waits_early(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("signals");
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = ignore_signal;
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    const struct itimerval often = {{0, 200}, {0, 200}};
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);

    unsigned wrong = 0;
    char text[] = "z";
    const struct iovec iov = {text, 1};
    for (int round = 0; round < 200; round++) {
        struct weir__op ops[2] = {op_write(file, &iov, 0, 0), op_sync(file, 1)};
        ops[0].link = true;
        int32_t results[2] = {-1, -1};
        wrong += io->ops->queue_push(io, queue, ops, 2) != 0;
        wrong += reap_all(queue, results, 2) != 2 || results[0] != 1 || results[1] != 0;
    }
    struct weir__event event;
    const uint64_t deadline_ns = weir__deadline((int64_t)(20 * NS_PER_MS));
    const int reaped = io->ops->queue_reap(io, queue, &event, 1, 1, deadline_ns);
    const uint64_t end_ns = weir__now_ns();

    const struct itimerval off = {{0, 0}, {0, 0}};
    assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
    assert_int_equal(wrong, 0);
    assert_int_equal(reaped, 0);
    assert_true(end_ns >= deadline_ns);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* Pushes of changing size and shape against a stream of wakes: each op must come back exactly once,
 * with its result. */
static void every_op_comes_back_once_under_a_stream_of_wakes(void **state)
{
    (void)state;
    enum { OPS = 4000, BLOCKS = 64, FLIGHT = 13 };
    struct weir__queue *const queue = open_queue(FLIGHT);
    const int file = create("stream");
    struct waker waker;
    memset(&waker, 0, sizeof waker);
    waker.queue = queue;
    waker.after_ns = 20000;
    waker.repeat = true;
    pthread_t thread;
    assert_int_equal(weir__thread_start(&thread, "waker", waker_run, &waker), 0);

    static unsigned char seen[OPS];
    memset(seen, 0, sizeof seen);
    static char text[128];
    static struct iovec iovs[OPS]; /* each lives until its event */
    unsigned wrong = 0;
    unsigned sent = 0;
    unsigned back = 0;
    uint32_t seed = 12345;
    const uint64_t deadline_ns = weir__deadline(2 * PATIENCE_NS);
    while (back < OPS && wrong == 0 && weir__now_ns() < deadline_ns) {
        seed = seed * 1664525 + 1013904223;
        unsigned count = 1 + (seed >> 16) % FLIGHT;
        count = count < OPS - sent ? count : OPS - sent;
        struct weir__op ops[FLIGHT];
        for (unsigned i = 0; i < count; i++) {
            iovs[sent + i] = (struct iovec){text, 1 + (sent + i) % 100};
            ops[i] = op_write(file, &iovs[sent + i], (sent + i) % BLOCKS * 128, sent + i);
            ops[i].link = (seed >> (i % 16) & 1) != 0 && i + 1 < count;
        }
        const int pushed = count == 0 ? -EAGAIN : io->ops->queue_push(io, queue, ops, count);
        if (pushed == 0) {
            sent += count;
        } else if (pushed != -EAGAIN) {
            wrong++;
        }
        struct weir__event events[5];
        const int reaped = io->ops->queue_reap(io,
                                               queue,
                                               events,
                                               1 + (seed >> 8) % 5,
                                               pushed != 0 ? 1 : 0,
                                               deadline_ns);
        for (int i = 0; i < reaped; i++) {
            const uint64_t data = events[i].data;
            if (data >= sent || seen[data]++ != 0 || events[i].result != (int)(1 + data % 100)) {
                wrong++;
            }
            back++;
        }
        wrong += reaped < 0;
    }
    weir__store(&waker.stop, 1, relaxed);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(wrong, 0);
    assert_int_equal(back, OPS);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* ---- several at once ---- */

/* What a batch costs one sleep for. Nothing wakes here, so fewer would be a sleep cut short. */
static void reap_sleeps_until_so_many_have_come(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("several");
    char text[] = "m";
    const struct iovec iov = {text, 1};
    struct weir__op ops[ENTRIES];
    for (unsigned i = 0; i < ENTRIES; i++) {
        ops[i] = op_write(file, &iov, i, i);
        ops[i].dsync = true;
    }
    struct weir__event events[ENTRIES];
    const uint64_t deadline_ns = weir__deadline(PATIENCE_NS);
    for (int round = 0; round < 20; round++) {
        const unsigned count = 1 + (unsigned)round % ENTRIES;
        assert_int_equal(io->ops->queue_push(io, queue, ops, count), 0);
        assert_int_equal(io->ops->queue_reap(io, queue, events, ENTRIES, count, deadline_ns),
                         count);
        /* No more than are under way can come; and more than there is room for are kept. */
        assert_int_equal(io->ops->queue_push(io, queue, ops, count), 0);
        const unsigned room = count > 1 ? count / 2 : 1;
        assert_int_equal(io->ops->queue_reap(io, queue, events, room, 100, deadline_ns), room);
        if (room < count) {
            assert_int_equal(
                io->ops->queue_reap(io, queue, events, ENTRIES, count - room, deadline_ns),
                count - room);
        }
        /* Nothing under way: at least one, which does not come. */
        assert_int_equal(io->ops->queue_reap(io, queue, events, ENTRIES, 3, 1), 0);
    }
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* A short read is what a file's end makes, and it cancels like a short write. */
static void short_read_cancels_the_rest_of_its_run(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("end");
    char text[] = "0123456789";
    const struct iovec iov = {text, 10};
    assert_int_equal(io->ops->write(io, file, &iov, 1, 0, false), 10);
    char a[4];
    char b[100];
    const struct iovec pieces[2] = {{a, 4}, {b, 100}};
    struct weir__op ops[4] = {
        op_write(file, &pieces[0], 0, 0),
        op_write(file, pieces, 0, 1),
        op_sync(file, 2),
        op_sync(file, 3),
    };
    ops[0].kind = WEIR__OP_READ;
    ops[1].kind = WEIR__OP_READ;
    ops[1].iov_count = 2;
    ops[0].link = ops[1].link = ops[2].link = true;
    int32_t results[4];
    assert_int_equal(io->ops->queue_push(io, queue, ops, 4), 0);
    assert_int_equal(reap_all(queue, results, 4), 4);
    assert_int_equal(results[0], 4);
    assert_int_equal(results[1], 10);
    assert_int_equal(results[2], -ECANCELED);
    assert_int_equal(results[3], -ECANCELED);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* More than any one call moves: what there is comes, and not nothing, as at the file's end. */
static void read_of_more_than_a_result_can_tell_comes_back_short(void **state)
{
    (void)state;
    const size_t bytes = (size_t)INT32_MAX + 4097;
    void *const space = mmap(NULL,
                             bytes,
                             PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                             -1,
                             0);
    assert_ptr_not_equal(space, MAP_FAILED);
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("huge");
    char text[] = "0123456789";
    const struct iovec iov = {text, 10};
    assert_int_equal(io->ops->write(io, file, &iov, 1, 0, false), 10);
    char a[4];
    const struct iovec pieces[2] = {{a, 4}, {space, bytes}};
    struct weir__op op = op_write(file, &pieces[1], 0, 0);
    op.kind = WEIR__OP_READ;
    int32_t result = -1;
    assert_int_equal(io->ops->queue_push(io, queue, &op, 1), 0);
    assert_int_equal(reap_all(queue, &result, 1), 1);
    assert_int_equal(result, 10);
    assert_memory_equal(space, text, 10);
    /* Behind another range it may be left for the next call. */
    op.iov = pieces;
    op.iov_count = 2;
    assert_int_equal(io->ops->queue_push(io, queue, &op, 1), 0);
    assert_int_equal(reap_all(queue, &result, 1), 1);
    assert_in_range(result, 4, 10);
    assert_memory_equal(a, text, 4);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
    assert_int_equal(munmap(space, bytes), 0);
}

/* Until both reads are with whoever carries them out: a pool's owner would take one itself. */
static bool gate_wait(unsigned count)
{
    const uint64_t deadline_ns = weir__deadline(PATIENCE_NS);
    while (gate_file >= 0 && weir__load(&gate_begun, relaxed) < count) {
        if (weir__now_ns() >= deadline_ns) {
            return false;
        }
        weir__sleep_ns(NS_PER_MS);
    }
    return true;
}

/* Two reads that nothing ends, and a wait for both: one completion more is not enough to end it, so
 * a wake must be more than that. In every state that the wake can be in. */
static void wake_ends_a_wait_for_several(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const bool pool = gate_file >= 0;
    if (pool) {
        gate_file = ends[0];
    }
    struct weir__queue *const queue = open_queue(ENTRIES);
    struct weir__event events[ENTRIES];
    /* A wait for one first: its standing read is of the plain kind. */
    assert_int_equal(io->ops->queue_reap(io, queue, events, ENTRIES, 1, 1), 0);
    weir__store(&gate_begun, 0, relaxed);
    char bytes[2];
    const struct iovec iovs[2] = {{&bytes[0], 1}, {&bytes[1], 1}};
    struct weir__op ops[2] = {op_write(ends[0], &iovs[0], 0, 0), op_write(ends[0], &iovs[1], 0, 1)};
    ops[0].kind = ops[1].kind = WEIR__OP_READ;
    assert_int_equal(io->ops->queue_push(io, queue, ops, 2), 0);
    assert_true(gate_wait(2));
    for (int round = 0; round < 20; round++) {
        struct waker waker;
        memset(&waker, 0, sizeof waker);
        waker.queue = queue;
        waker.after_ns = (uint64_t)(round % 3) * NS_PER_MS;
        pthread_t thread;
        assert_int_equal(weir__thread_start(&thread, "waker", waker_run, &waker), 0);
        const int reaped = io->ops->queue_reap(io, queue, events, ENTRIES, 2, WEIR__NEVER);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(reaped, 0);
        /* And one that was there before the wait. */
        io->ops->queue_wake(io, queue);
        assert_int_equal(io->ops->queue_reap(io, queue, events, ENTRIES, 2, WEIR__NEVER), 0);
        /* Nothing is left of them. */
        const uint64_t deadline_ns = weir__deadline((int64_t)NS_PER_MS);
        assert_int_equal(io->ops->queue_reap(io, queue, events, ENTRIES, 2, deadline_ns), 0);
        assert_true(weir__now_ns() >= deadline_ns);
    }
    assert_int_equal(write(ends[1], "ab", 2), 2);
    assert_int_equal(
        io->ops->queue_reap(io, queue, events, ENTRIES, 2, weir__deadline(PATIENCE_NS)),
        2);
    assert_int_equal(events[0].result, 1);
    assert_int_equal(events[1].result, 1);
    io->ops->queue_close(io, &mem, queue);
    if (pool) {
        gate_file = INT_MAX;
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* One that never sleeps must get its results all the same. */
static void looks_alone_bring_every_result(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("looks");
    char text[] = "l";
    const struct iovec iov = {text, 1};
    const uint64_t deadline_ns = weir__deadline(PATIENCE_NS);
    for (unsigned round = 0; round < 20; round++) {
        struct weir__op ops[2] = {op_write(file, &iov, 0, 0), op_sync(file, 1)};
        ops[0].link = true;
        assert_int_equal(io->ops->queue_push(io, queue, ops, 2), 0);
        unsigned got = 0;
        while (got < 2 && weir__now_ns() < deadline_ns) {
            struct weir__event events[2];
            const int reaped = io->ops->queue_reap(io, queue, events, 2, 0, 0);
            assert_true(reaped >= 0);
            got += (unsigned)reaped;
            (void)sched_yield();
        }
        assert_int_equal(got, 2);
    }
    struct weir__queue_faults faults = {1, 1};
    io->ops->queue_faults(io, queue, &faults);
    assert_int_equal(faults.overflows, 0);
    assert_int_equal(faults.dropped, 0);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* ---- several threads, one at a time ---- */

/* Whose turn it is: release who passes it on, acquire who takes it; the queue goes with it. */
struct turns {
    WEIR__ATOMIC(uint32_t) turn;
    struct weir__queue *queue;
    int file;
    unsigned wrong[2];
};
struct turner {
    struct turns *turns;
    unsigned self;
};
enum { TURNS = 200, TURN_OPS = 4 };

static char turn_text[TURN_OPS] = "turn";
static struct iovec turn_iovs[TURN_OPS];

/* Takes what the other one pushed, pushes for the other one, and passes the queue on. */
static void *turns_run(void *arg)
{
    const struct turner *const turner = arg;
    struct turns *const turns = turner->turns;
    const uint64_t deadline_ns = weir__deadline(PATIENCE_NS);
    for (unsigned turn = turner->self; turn < TURNS; turn += 2) {
        while (weir__load(&turns->turn, acquire) != turn) {
            if (weir__now_ns() >= deadline_ns) {
                turns->wrong[turner->self]++;
                return NULL;
            }
            (void)sched_yield();
        }
        unsigned got = 0;
        while (turn > 0 && got < TURN_OPS) {
            struct weir__event events[TURN_OPS];
            const int reaped = io->ops->queue_reap(io,
                                                   turns->queue,
                                                   events,
                                                   TURN_OPS,
                                                   TURN_OPS - got,
                                                   deadline_ns);
            if (reaped <= 0) {
                turns->wrong[turner->self]++;
                return NULL;
            }
            for (int i = 0; i < reaped; i++) {
                turns->wrong[turner->self] += events[i].result != (events[i].data == 3 ? 0 : 1);
            }
            got += (unsigned)reaped;
        }
        struct weir__op ops[TURN_OPS];
        for (unsigned i = 0; i < TURN_OPS; i++) {
            turn_iovs[i] = (struct iovec){&turn_text[i], 1};
            ops[i] = i == 3 ? op_sync(turns->file, i) : op_write(turns->file, &turn_iovs[i], i, i);
            ops[i].link = i == 2;
        }
        turns->wrong[turner->self] +=
            turn + 1 < TURNS && io->ops->queue_push(io, turns->queue, ops, TURN_OPS) != 0;
        weir__store(&turns->turn, turn + 1, release);
    }
    return NULL;
}

/* Each takes what the other has pushed. */
static void two_threads_use_a_queue_in_turn(void **state)
{
    (void)state;
    const bool wandered = shape.wanders;
    shape.wanders = true;
    struct turns turns;
    memset(&turns, 0, sizeof turns);
    turns.queue = open_queue(ENTRIES);
    turns.file = create("turns");
    struct turner turners[2] = {{&turns, 0}, {&turns, 1}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weir__thread_start(&threads[i], "turner", turns_run, &turners[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(turns.wrong[0], 0);
    assert_int_equal(turns.wrong[1], 0);
    assert_int_equal(weir__load(&turns.turn, acquire), TURNS);
    io->ops->queue_close(io, &mem, turns.queue);
    assert_int_equal(io->ops->close(io, turns.file), 0);
    shape.wanders = wandered;
}

/* ---- life of a queue ---- */

/* The caller's buffers may go right after the close, so nothing may still be on its way. */
static void close_waits_for_what_is_in_flight(void **state)
{
    (void)state;
    const size_t bytes = (size_t)1 << 20;
    const int file = create("drained");
    for (int round = 0; round < 5; round++) {
        struct weir__queue *const queue = open_queue(ENTRIES);
        char *const block = weir__mem_alloc_io(&mem, bytes);
        assert_non_null(block);
        memset(block, 'a' + round, bytes);
        const struct iovec iov = {block, bytes};
        struct weir__op ops[ENTRIES];
        for (unsigned i = 0; i < ENTRIES; i++) {
            ops[i] = op_write(file, &iov, i * bytes, i);
            ops[i].link = i + 1 < ENTRIES;
        }
        ops[ENTRIES - 1] = op_sync(file, ENTRIES - 1);
        assert_int_equal(io->ops->queue_push(io, queue, ops, ENTRIES), 0);
        io->ops->queue_close(io, &mem, queue);
        weir__mem_free_io(&mem, block, bytes);
        struct weir__file_info info;
        assert_int_equal(io->ops->info(io, file, &info), 0);
        assert_true(info.bytes == (ENTRIES - 1) * bytes);
        for (unsigned i = 0; i < ENTRIES - 1; i++) {
            char ends[2];
            assert_int_equal(io->ops->read(io, file, &ends[0], 1, i * bytes), 1);
            assert_int_equal(io->ops->read(io, file, &ends[1], 1, (i + 1) * bytes - 1), 1);
            assert_int_equal(ends[0], 'a' + round);
            assert_int_equal(ends[1], 'a' + round);
        }
    }
    assert_int_equal(io->ops->close(io, file), 0);
}

static void close_accepts_queues_in_every_state(void **state)
{
    (void)state;
    io->ops->queue_close(io, &mem, NULL);
    struct weir__event event;
    /* Never used. */
    io->ops->queue_close(io, &mem, open_queue(1));
    /* Standing read armed. */
    struct weir__queue *queue = open_queue(1);
    assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, 1), 0);
    assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, weir__deadline(1000)), 0);
    io->ops->queue_close(io, &mem, queue);
    /* A wake that nobody has taken. */
    queue = open_queue(1);
    io->ops->queue_wake(io, queue);
    io->ops->queue_close(io, &mem, queue);
    assert_true(weir__load(&mem.bytes, relaxed) == 0);
}

#define QUEUE_BATTERY                                                                              \
    cmocka_unit_test(linked_write_and_sync_both_succeed),                                          \
        cmocka_unit_test(writes_and_reads_of_every_shape_move_the_bytes),                          \
        cmocka_unit_test(registered_buffers_serve_what_lies_inside_and_harm_nothing_else),         \
        cmocka_unit_test(short_write_cancels_the_rest_of_its_run),                                 \
        cmocka_unit_test(short_read_cancels_the_rest_of_its_run),                                  \
        cmocka_unit_test(read_of_more_than_a_result_can_tell_comes_back_short),                    \
        cmocka_unit_test(failed_op_cancels_its_own_run_and_no_other),                              \
        cmocka_unit_test(push_beyond_the_entries_is_refused_as_a_whole),                           \
        cmocka_unit_test(config_out_of_range_is_refused),                                          \
        cmocka_unit_test(wait_without_events_ends_at_its_deadline),                                \
        cmocka_unit_test(wake_ends_a_wait_that_has_no_deadline),                                   \
        cmocka_unit_test(wake_before_the_wait_ends_the_next_one),                                  \
        cmocka_unit_test(what_was_stored_before_a_wake_is_seen_after_it),                          \
        cmocka_unit_test(signals_neither_lose_ops_nor_end_waits_early),                            \
        cmocka_unit_test(every_op_comes_back_once_under_a_stream_of_wakes),                        \
        cmocka_unit_test(reap_sleeps_until_so_many_have_come),                                     \
        cmocka_unit_test(wake_ends_a_wait_for_several),                                            \
        cmocka_unit_test(looks_alone_bring_every_result),                                          \
        cmocka_unit_test(two_threads_use_a_queue_in_turn),                                         \
        cmocka_unit_test(close_waits_for_what_is_in_flight),                                       \
        cmocka_unit_test(close_accepts_queues_in_every_state)

#endif
