/* SPDX-License-Identifier: Apache-2.0
 * What the queue makes of a kernel that takes nothing, or only the first part of a push.
 *
 * Real kernels do that when memory is out, which no test can order. So this file compiles the queue
 * itself, with a submit in front of the real one that takes as many entries as the test allows, and
 * errors that the test gives. */
#include <liburing.h>

static int submit_in_front(struct io_uring *ring);
#define io_uring_submit submit_in_front
#include "port/uring.c"
#undef io_uring_submit

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

static int submit_in_front(struct io_uring *ring)
{
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
    /* Hides the entries behind the first `step` from the real submit, as the kernel would leave
     * them. */
    const unsigned tail = ring->sq.sqe_tail;
    const unsigned ready = io_uring_sq_ready(ring);
    const unsigned take = ready < (unsigned)step ? ready : (unsigned)step;
    ring->sq.sqe_tail = tail - (ready - take);
    const int taken = io_uring_submit(ring);
    ring->sq.sqe_tail = tail;
    return taken;
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
        const int reaped = weir__uring_reap(NULL,
                                            queue,
                                            events,
                                            ENTRIES,
                                            1,
                                            weir__deadline(INT64_C(20000000000)));
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
