/* SPDX-License-Identifier: Apache-2.0
 * What the queue makes of a kernel that takes nothing, or only the first part of a push.
 *
 * Real kernels do that when memory is out, which no test can order. So this file compiles the queue
 * itself, with a submit in front of the real one that takes as many entries as the test allows, and
 * errors that the test gives. The other calls that enter the kernel have one in front of them that
 * counts, and the setting up one that refuses. */
#include <liburing.h>

static int submit_in_front(struct io_uring *ring);
static int sleep_in_front(struct io_uring *ring,
                          struct io_uring_cqe **completion_out,
                          unsigned want,
                          struct __kernel_timespec *limit,
                          sigset_t *mask);
static int bring_in_front(struct io_uring *ring);
static int init_in_front(unsigned entries, struct io_uring *ring, struct io_uring_params *params);
static int
register_in_front(unsigned ring_file, unsigned opcode, const void *argument, unsigned count);
#define io_uring_submit submit_in_front
#define io_uring_submit_and_wait_timeout sleep_in_front
#define io_uring_get_events bring_in_front
#define io_uring_queue_init_params init_in_front
#define io_uring_register register_in_front
#include "port/uring.c"
#undef io_uring_submit
#undef io_uring_submit_and_wait_timeout
#undef io_uring_get_events
#undef io_uring_queue_init_params
#undef io_uring_register

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { ENTRIES = 8, STEPS_MAX = 8 };

/* What the next submits do: > 0 take at most so many entries, < 0 fail so; after the last step all
 * is taken. */
static int steps[STEPS_MAX];
static unsigned step_count;
static unsigned step_next;
/* Not 0: what every submit fails with. */
static int step_forever;

/* Calls that entered the kernel: one each, since a sleep without a signal is one. */
static unsigned entered;
/* Not 0: the next sleep first hands over so many entries alone. */
static unsigned sleep_cut;
/* Setups with one of these flags are refused so. */
static unsigned refused_flags;
static int refused_error;
/* A registration that fails so; 0: none. */
static unsigned refused_registration;

static int
register_in_front(unsigned ring_file, unsigned opcode, const void *argument, unsigned count)
{
    return refused_registration != 0 && opcode == refused_registration
               ? refused_error
               : io_uring_register(ring_file, opcode, argument, count);
}

/* Hides the entries behind the first `count` from the real submit, as the kernel would leave them.
 */
static int submit_first(struct io_uring *ring, unsigned count)
{
    const unsigned tail = ring->sq.sqe_tail;
    const unsigned ready = io_uring_sq_ready(ring);
    const unsigned take = ready < count ? ready : count;
    ring->sq.sqe_tail = tail - (ready - take);
    const int taken = io_uring_submit(ring);
    ring->sq.sqe_tail = tail;
    return taken;
}

static int sleep_in_front(struct io_uring *ring,
                          struct io_uring_cqe **completion_out,
                          unsigned want,
                          struct __kernel_timespec *limit,
                          sigset_t *mask)
{
    entered++;
    if (sleep_cut > 0) {
        /* liburing goes on with the rest, in the same call. */
        (void)submit_first(ring, sleep_cut);
        sleep_cut = 0;
    }
    return io_uring_submit_and_wait_timeout(ring, completion_out, want, limit, mask);
}

static int bring_in_front(struct io_uring *ring)
{
    entered++;
    return io_uring_get_events(ring);
}

static int init_in_front(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    if ((params->flags & refused_flags) != 0) {
        return refused_error;
    }
    return io_uring_queue_init_params(entries, ring, params);
}

static int submit_in_front(struct io_uring *ring)
{
    entered++;
    if (step_forever != 0) {
        return step_forever;
    }
    if (step_next >= step_count) {
        return io_uring_submit(ring);
    }
    const int step = steps[step_next++];
    if (step < 0) {
        return step;
    }
    return submit_first(ring, (unsigned)step);
}

static void play(const int *list, unsigned count)
{
    memcpy(steps, list, count * sizeof steps[0]);
    step_count = count;
    step_next = 0;
}
#define PLAY(...) play((const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static char root[PATH_MAX];
static char text[] = "0123456789";
static const struct iovec iov = {text, 10};
static struct weir__mem mem;
static struct weir__queue *queue;
static int file = -1;

static int set_up(void **state)
{
    (void)state;
    const char *const base = getenv("TMPDIR");
    (void)snprintf(root, sizeof root, "%s/weir-submit.XXXXXX", base != NULL ? base : "/tmp");
    file = mkstemp(root);
    weir__mem_init(&mem, NULL);
    const struct weir__queue_config config = {.entries = ENTRIES, .lock_file = -1};
    struct weir__queue_info info;
    step_count = 0;
    return file < 0 ? -1 : weir__uring_open(NULL, &mem, &config, &queue, &info);
}

/* With the standing read of the eventfd out of the way, so that steps count ops only. */
static int set_up_armed(void **state)
{
    struct weir__event none;
    return set_up(state) != 0 ? -1 : weir__uring_reap(NULL, queue, &none, 1, 1, 1);
}

/* A ring of four, so that longer pushes go out in pieces. */
static int set_up_short(void **state)
{
    (void)state;
    if (set_up(state) != 0) {
        return -1;
    }
    weir__uring_close(NULL, &mem, queue);
    const struct weir__queue_config config = {.entries = 7, .ring_entries = 4, .lock_file = -1};
    struct weir__queue_info info;
    struct weir__event none;
    return weir__uring_open(NULL, &mem, &config, &queue, &info) != 0
               ? -1
               : weir__uring_reap(NULL, queue, &none, 1, 1, 1);
}

static int tear_down(void **state)
{
    (void)state;
    weir__uring_close(NULL, &mem, queue);
    const bool balanced = weir__load(&mem.bytes, relaxed) == 0;
    weir__mem_exit(&mem);
    (void)close(file);
    return unlink(root) != 0 || !balanced ? -1 : 0;
}

/* "w" a write, "W" one that is linked to the next op, "s" a sync. Each writes at 100 times its
 * index. */
static int push(const char *kinds)
{
    struct weir__op ops[ENTRIES + 1];
    const unsigned count = (unsigned)strlen(kinds);
    for (unsigned i = 0; i < count; i++) {
        ops[i] = (struct weir__op){
            .kind = kinds[i] == 's' ? WEIR__OP_SYNC : WEIR__OP_WRITE,
            .file = file,
            .iov = &iov,
            .iov_count = 1,
            .offset = (uint64_t)i * 100,
            .link = kinds[i] == 'W',
            .data = i,
        };
    }
    return weir__uring_push(NULL, queue, ops, count);
}

/* Takes exactly count events: "+" stands for success in full, "c" for -ECANCELED. */
static void expect_events(const char *kinds, const char *expected)
{
    const unsigned count = (unsigned)strlen(expected);
    char seen[ENTRIES + 1] = "";
    unsigned got = 0;
    while (got < count) {
        struct weir__event events[ENTRIES];
        const int reaped =
            weir__uring_reap(NULL, queue, events, ENTRIES, 1, weir__deadline(INT64_C(20000000000)));
        assert_true(reaped > 0);
        for (int i = 0; i < reaped; i++) {
            const uint64_t data = events[i].data;
            assert_true(data < count && seen[data] == '\0');
            const int32_t full = kinds[data] == 's' ? 0 : 10;
            seen[data] = events[i].result == full         ? '+'
                         : events[i].result == -ECANCELED ? 'c'
                                                          : '?';
            got++;
        }
    }
    assert_string_equal(seen, expected);
    /* Nothing else comes; and the wait sends what lies ready, so that the next steps count from
     * there. */
    struct weir__event none;
    assert_int_equal(weir__uring_reap(NULL, queue, &none, 1, 1, 1), 0);
    assert_int_equal(io_uring_sq_ready(&queue->ring), 0);
    assert_int_equal(queue->in_flight, 0);
}

static void interrupted_and_busy_submits_are_repeated(void **state)
{
    (void)state;
    PLAY(-EINTR, -EAGAIN, -EINTR, -EBUSY);
    assert_int_equal(push("Ws"), 0);
    assert_int_equal(step_next, 4);
    expect_events("Ws", "++");
}

/* A sync whose write stayed in the part that was taken must not run by itself. */
static void run_that_was_cut_is_cancelled_behind_the_cut(void **state)
{
    (void)state;
    PLAY(1);
    assert_int_equal(push("WWs"), 0);
    expect_events("WWs", "+cc");
    PLAY(2);
    assert_int_equal(push("WWs"), 0);
    expect_events("WWs", "++c");
    /* Taken in three parts; what was cancelled is handed over as entries that do nothing. */
    PLAY(1, 1, 1);
    assert_int_equal(push("WWWs"), 0);
    expect_events("WWWs", "+ccc");
}

/* The read of the eventfd goes out with a sleep. One that the kernel had no memory for lies in front
 * of the next push; it must not be counted as an op. */
static void entry_in_front_of_a_push_is_not_taken_for_one_of_its_ops(void **state)
{
    (void)state;
    queue_arm_wake(queue);
    assert_true(queue->wake_armed);
    assert_int_equal(io_uring_sq_ready(&queue->ring), 1);
    PLAY(2);
    assert_int_equal(push("Ws"), 0);
    expect_events("Ws", "+c");
    assert_true(queue->wake_armed);
    weir__uring_wake(NULL, queue);
    struct weir__event none;
    assert_int_equal(weir__uring_reap(NULL, queue, &none, 1, 1, WEIR__NEVER), 0);
    /* Taken alone, and then a failure: the push has not begun. */
    queue_arm_wake(queue);
    PLAY(1, -ENXIO);
    assert_int_equal(push("Ws"), -ENXIO);
    assert_int_equal(push("Ws"), 0);
    expect_events("Ws", "++");
}

static void runs_that_were_not_begun_are_sent_whole(void **state)
{
    (void)state;
    PLAY(2);
    assert_int_equal(push("WsWsw"), 0);
    expect_events("WsWsw", "+++++");
    PLAY(1);
    assert_int_equal(push("WsWsw"), 0);
    expect_events("WsWsw", "+c+++");
    PLAY(3, 2);
    assert_int_equal(push("WsWsWs"), 0);
    expect_events("WsWsWs", "+++c+c"); /* the second part ends inside the third run */
    PLAY(3, 1);
    assert_int_equal(push("WsWsWs"), 0);
    expect_events("WsWsWs", "+++c++");
    PLAY(1, 1, 1, 1);
    assert_int_equal(push("wwwww"), 0);
    expect_events("wwwww", "+++++");
}

static void push_that_fails_before_its_first_op_leaves_nothing(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        PLAY(-ENXIO);
        assert_int_equal(push("WsWsWsWs"), -ENXIO);
        assert_int_equal(queue->in_flight, 0);
    }
    struct weir__event none;
    assert_int_equal(weir__uring_reap(NULL, queue, &none, 1, 0, 0), 0);
    /* All places are free again, and the entries of the failed pushes have become ones that do
     * nothing. */
    assert_int_equal(push("Wsssssss"), 0);
    expect_events("Wsssssss", "++++++++");
    struct stat status;
    assert_int_equal(fstat(file, &status), 0);
    assert_int_equal(status.st_size, 10);
}

static void push_that_fails_in_the_middle_ends_as_cancelled_events(void **state)
{
    (void)state;
    PLAY(3, -ENXIO);
    assert_int_equal(push("WsWsw"), 0);
    expect_events("WsWsw", "+++cc");
    PLAY(2, -ENXIO);
    assert_int_equal(push("WsWsWsws"), 0);
    expect_events("WsWsWsws", "++cccccc");
    assert_int_equal(push("WsWsWsws"), 0);
    expect_events("WsWsWsws", "++++++++");
}

/* A kernel that stays full: the push gives up with an error of its own, since -EAGAIN would mean
 * "reap first". */
static void kernel_that_stays_full_ends_in_ebusy(void **state)
{
    (void)state;
    step_forever = -EAGAIN;
    const uint64_t before_ns = weir__now_ns();
    assert_int_equal(push("Ws"), -EBUSY);
    assert_true(weir__now_ns() - before_ns >= URING_RETRIES * URING_RETRY_NS);
    step_forever = 0;
    assert_int_equal(push("Ws"), 0);
    expect_events("Ws", "++");
}

/* What went out stands, so what did not is told by events; a piece refused in front of everything
 * is a push refused. */
static void piece_that_fails_ends_as_cancelled_events(void **state)
{
    (void)state;
    PLAY(4, -ENXIO);
    assert_int_equal(push("WsWsWsw"), 0);
    expect_events("WsWsWsw", "++++ccc");
    PLAY(-ENXIO);
    assert_int_equal(push("WsWsWsw"), -ENXIO);
    assert_int_equal(queue->in_flight, 0);
    struct weir__event none;
    assert_int_equal(weir__uring_reap(NULL, queue, &none, 1, 1, 1), 0); /* sends what is left */
    /* Cut inside of a piece: the piece goes on behind the run that was cut, and so does the push. */
    PLAY(1);
    assert_int_equal(push("WsWsWsw"), 0);
    expect_events("WsWsWsw", "+c+++++");
    /* Runs are never cut by a piece's end: 3 and not 4 go out first. */
    PLAY(3, 2, -ENXIO);
    assert_int_equal(push("WWsWsWs"), 0);
    expect_events("WWsWsWs", "+++++cc");
    assert_int_equal(push("WWsWsWs"), 0);
    expect_events("WWsWsWs", "+++++++");
}

/* One call hands a long run over, one sleeps for all of it, the standing read included, whoever may
 * use the ring; and closing what stands behind that read is no call for each. */
static void long_run_and_its_reap_enter_the_kernel_twice(void **state)
{
    (void)state;
    enum { LONG = 256 };
    static struct weir__op ops[LONG];
    static struct weir__event events[LONG];
    for (unsigned shape = 0; shape < 2; shape++) {
        const struct weir__queue_config config = {
            .entries = LONG,
            .ring_entries = shape * 1024,
            .wanders = shape == 1,
            .lock_file = -1,
        };
        struct weir__queue *own = NULL;
        struct weir__queue_info info;
        assert_int_equal(weir__uring_open(NULL, &mem, &config, &own, &info), 0);
        for (int round = 0; round < 5; round++) {
            for (unsigned i = 0; i < LONG; i++) {
                ops[i] = (struct weir__op){
                    .kind = i + 1 < LONG ? WEIR__OP_WRITE : WEIR__OP_SYNC,
                    .file = file,
                    .iov = &iov,
                    .iov_count = 1,
                    .offset = (uint64_t)i * 10,
                    .link = i + 1 < LONG,
                    .data = i,
                };
            }
            entered = 0;
            assert_int_equal(weir__uring_push(NULL, own, ops, LONG), 0);
            unsigned got = 0;
            while (got < LONG) {
                /* Taken in parts, as by one who has room for fewer. */
                const int reaped = weir__uring_reap(NULL,
                                                    own,
                                                    events + got,
                                                    LONG - got < 64 ? LONG - got : 64,
                                                    LONG - got,
                                                    WEIR__NEVER);
                assert_true(reaped > 0);
                got += (unsigned)reaped;
            }
            assert_in_range(entered, 1, 2);
            for (unsigned i = 0; i < LONG; i++) {
                assert_int_equal(events[i].result, events[i].data + 1 < LONG ? 10 : 0);
            }
        }
        entered = 0;
        weir__uring_close(NULL, &mem, own);
        assert_in_range(entered, 0, 3);
    }
}

static void *wake_run(void *arg)
{
    (void)arg;
    weir__sleep_ns(UINT64_C(20000000));
    weir__uring_wake(NULL, queue);
    return NULL;
}

/* Out of memory, the kernel takes the standing read and none of the no-ops behind it: they run at
 * once, and a wake is one completion. */
static void wake_whose_crowd_was_cut_off_ends_a_wait_for_several(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    char bytes[3];
    struct iovec iovs[3];
    struct weir__op ops[3];
    for (unsigned i = 0; i < 3; i++) {
        iovs[i] = (struct iovec){&bytes[i], 1};
        ops[i] = (struct weir__op){
            .kind = WEIR__OP_READ,
            .file = ends[0],
            .iov = &iovs[i],
            .iov_count = 1,
            .data = i,
        };
    }
    assert_int_equal(weir__uring_push(NULL, queue, ops, 3), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_run, NULL), 0);
    struct weir__event events[ENTRIES];
    const uint64_t deadline_ns = weir__deadline(INT64_C(10000000000));
    sleep_cut = 1;
    const int woken = weir__uring_reap(NULL, queue, events, ENTRIES, 3, deadline_ns);
    const bool in_time = weir__now_ns() < deadline_ns;
    assert_int_equal(pthread_join(thread, NULL), 0);
    /* Before anything can fail: the close waits for the reads. */
    assert_int_equal(write(ends[1], "abc", 3), 3);
    assert_int_equal(sleep_cut, 0);
    assert_int_equal(woken, 0);
    assert_true(in_time);
    assert_int_equal(weir__uring_reap(NULL, queue, events, ENTRIES, 3, WEIR__NEVER), 3);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void refused_kernel_poll_is_a_note_and_no_failure(void **state)
{
    (void)state;
    const struct weir__queue_config config = {
        .entries = ENTRIES,
        .kernel_poll = true,
        .kernel_poll_idle_ms = 1,
        .lock_file = -1,
    };
    refused_flags = IORING_SETUP_SQPOLL;
    refused_error = -EPERM;
    struct weir__queue *own = NULL;
    struct weir__queue_info info;
    const int error = weir__uring_open(NULL, &mem, &config, &own, &info);
    refused_flags = 0;
    assert_int_equal(error, 0);
    assert_false(info.kernel_poll);
    assert_non_null(strstr(info.note, "no kernel poll: error 1"));
    assert_int_equal(info.ring_entries, ENTRIES);
    const struct weir__op op = {.kind = WEIR__OP_SYNC, .file = file, .data = 5};
    struct weir__event event;
    assert_int_equal(weir__uring_push(NULL, own, &op, 1), 0);
    assert_int_equal(weir__uring_reap(NULL, own, &event, 1, 1, WEIR__NEVER), 1);
    assert_int_equal(event.data, 5);
    assert_int_equal(event.result, 0);
    weir__uring_close(NULL, &mem, own);
}

/* What interrupts nobody would leave a thread waiting for one that is busy elsewhere. */
static void ring_that_wanders_asks_for_no_owner(void **state)
{
    (void)state;
    for (unsigned wanders = 0; wanders < 2; wanders++) {
        const struct weir__queue_config config = {
            .entries = ENTRIES,
            .wanders = wanders == 1,
            .lock_file = -1,
        };
        const unsigned single =
            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN;
        refused_flags = wanders == 1 ? single : 0;
        refused_error = -EIO;
        struct weir__queue *own = NULL;
        struct weir__queue_info info;
        const int error = weir__uring_open(NULL, &mem, &config, &own, &info);
        refused_flags = 0;
        assert_int_equal(error, 0);
        assert_int_equal((own->ring.flags & single) == 0, wanders == 1);
        weir__uring_close(NULL, &mem, own);
    }
}

/* ---- what the ring may do --------------------------------------------------------------------- */

/* One entry past the queue; its result. */
static int submit_raw(void (*prepare)(struct io_uring_sqe *entry), unsigned flags)
{
    struct io_uring_sqe *const entry = io_uring_get_sqe(&queue->ring);
    struct io_uring_cqe *completion = NULL;
    assert_non_null(entry);
    memset(entry, 0, sizeof *entry);
    prepare(entry);
    entry->flags |= (uint8_t)flags;
    entry->user_data = UINT64_C(0x7777);
    (void)io_uring_submit(&queue->ring);
    for (;;) {
        assert_int_equal(io_uring_wait_cqe(&queue->ring, &completion), 0);
        const bool ours = completion->user_data == UINT64_C(0x7777);
        const int result = completion->res;
        io_uring_cqe_seen(&queue->ring, completion);
        if (ours) {
            return result;
        }
    }
}

static char raw_bytes[8];

static void raw_read(struct io_uring_sqe *entry)
{
    io_uring_prep_read(entry, file, raw_bytes, sizeof raw_bytes, 0);
}

static void raw_open(struct io_uring_sqe *entry)
{
    io_uring_prep_openat(entry, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
}

static void raw_unlink(struct io_uring_sqe *entry)
{
    io_uring_prep_unlinkat(entry, AT_FDCWD, root, 0);
}

static void raw_send(struct io_uring_sqe *entry)
{
    io_uring_prep_send(entry, file, raw_bytes, sizeof raw_bytes, 0);
}

static void raw_poll(struct io_uring_sqe *entry)
{
    io_uring_prep_poll_add(entry, file, 1);
}

/* Whoever takes over the process cannot use the ring to open, remove or send, which a filter of
 * system calls would not see; nor register more with it. */
static void ring_does_no_more_than_the_log_needs(void **state)
{
    (void)state;
    static void (*const refused[])(struct io_uring_sqe * entry) = {
        raw_open,
        raw_unlink,
        raw_send,
        raw_poll,
    };
    assert_int_equal(pwrite(file, text, 10, 0), 10);
    assert_int_equal(submit_raw(raw_read, 0), sizeof raw_bytes);
    assert_memory_equal(raw_bytes, text, sizeof raw_bytes);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(submit_raw(refused[i], 0), -EACCES);
    }
    assert_int_equal(submit_raw(raw_read, IOSQE_ASYNC), -EACCES);
    struct stat status;
    assert_int_equal(stat(root, &status), 0);
    const int sink = queue->wake_file;
    assert_int_equal(
        io_uring_register((unsigned)queue->ring.ring_fd, IORING_REGISTER_EVENTFD, &sink, 1),
        -EACCES);
    assert_int_equal(
        io_uring_register((unsigned)queue->ring.ring_fd, IORING_REGISTER_FILES, &file, 1),
        -EACCES);
}

/* A kernel before 5.10 knows neither restrictions nor rings that begin disabled. */
static void what_an_old_kernel_refuses_is_told(void **state)
{
    (void)state;
    const struct weir__queue_config config = {.entries = ENTRIES, .lock_file = -1};
    struct weir__queue *own = NULL;
    struct weir__queue_info info;

    refused_registration = IORING_REGISTER_RESTRICTIONS;
    refused_error = -EINVAL;
    assert_int_equal(weir__uring_open(NULL, &mem, &config, &own, &info), 0);
    assert_non_null(strstr(info.note, "ops not restricted: error 22"));
    const struct weir__op op = {.kind = WEIR__OP_SYNC, .file = file, .data = 5};
    struct weir__event event;
    assert_int_equal(weir__uring_push(NULL, own, &op, 1), 0);
    assert_int_equal(weir__uring_reap(NULL, own, &event, 1, 1, WEIR__NEVER), 1);
    assert_int_equal(event.result, 0);
    weir__uring_close(NULL, &mem, own);

    own = NULL;
    refused_registration = IORING_REGISTER_ENABLE_RINGS;
    assert_int_equal(weir__uring_open(NULL, &mem, &config, &own, &info), -EINVAL);
    refused_registration = 0;
    refused_flags = IORING_SETUP_R_DISABLED;
    assert_int_equal(weir__uring_open(NULL, &mem, &config, &own, &info), -EINVAL);
    refused_flags = 0;
    assert_null(own);
}

int main(void)
{
    char reason[256];
    const int refused = weir__uring_probe(reason, sizeof reason);
    if (refused != 0) {
        print_message("skipped: error %d: %s\n", -refused, reason);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(interrupted_and_busy_submits_are_repeated,
                                        set_up_armed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(run_that_was_cut_is_cancelled_behind_the_cut,
                                        set_up_armed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(runs_that_were_not_begun_are_sent_whole,
                                        set_up_armed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(push_that_fails_before_its_first_op_leaves_nothing,
                                        set_up_armed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(push_that_fails_in_the_middle_ends_as_cancelled_events,
                                        set_up_armed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(kernel_that_stays_full_ends_in_ebusy,
                                        set_up_armed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(entry_in_front_of_a_push_is_not_taken_for_one_of_its_ops,
                                        set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(piece_that_fails_ends_as_cancelled_events,
                                        set_up_short,
                                        tear_down),
        cmocka_unit_test_setup_teardown(long_run_and_its_reap_enter_the_kernel_twice,
                                        set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(wake_whose_crowd_was_cut_off_ends_a_wait_for_several,
                                        set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(refused_kernel_poll_is_a_note_and_no_failure,
                                        set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(ring_that_wanders_asks_for_no_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ring_does_no_more_than_the_log_needs,
                                        set_up_armed,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_an_old_kernel_refuses_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
