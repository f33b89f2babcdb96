/* SPDX-License-Identifier: Apache-2.0
 * Clocks, deadlines and sleeps. Upper bounds are wide: the machine may be busy. */
#include "port/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>

#include <cmocka.h>

#define NS_PER_MS UINT64_C(1000000)

static void monotonic_clock_never_goes_back(void **state)
{
    (void)state;
    uint64_t last_ns = weir__now_ns();
    for (int i = 0; i < 10000; i++) {
        const uint64_t now_ns = weir__now_ns();
        assert_true(now_ns >= last_ns);
        last_ns = now_ns;
    }
}

static void wall_clock_stands_after_2020(void **state)
{
    (void)state;
    assert_true(weir__wall_ns() > UINT64_C(1577836800) * 1000 * NS_PER_MS);
}

static void deadline_is_now_plus_timeout(void **state)
{
    (void)state;
    const uint64_t before_ns = weir__now_ns();
    const uint64_t deadline_ns = weir__deadline((int64_t)(50 * NS_PER_MS));
    const uint64_t after_ns = weir__now_ns();
    assert_true(deadline_ns >= before_ns + 50 * NS_PER_MS);
    assert_true(deadline_ns <= after_ns + 50 * NS_PER_MS);
    assert_true(weir__deadline(0) <= weir__now_ns());
}

static void deadline_of_a_negative_timeout_is_never(void **state)
{
    (void)state;
    assert_true(weir__deadline(-1) == WEIR__NEVER);
    assert_true(weir__deadline(INT64_MIN) == WEIR__NEVER);
    /* The largest timeout lies in the future and does not wrap. */
    assert_true(weir__deadline(INT64_MAX) > weir__now_ns());
}

static void ignore_signal(int number)
{
    (void)number;
}

/* An interval timer interrupts the sleep every millisecond; it must neither end early nor start
 * anew each time. */
static void sleep_lasts_its_time_in_spite_of_signals(void **state)
{
    (void)state;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = ignore_signal;
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    const struct itimerval every_ms = {{0, 1000}, {0, 1000}};
    assert_int_equal(setitimer(ITIMER_REAL, &every_ms, NULL), 0);
    const uint64_t before_ns = weir__now_ns();
    weir__sleep_ns(30 * NS_PER_MS);
    const uint64_t slept_ns = weir__now_ns() - before_ns;
    const struct itimerval off = {{0, 0}, {0, 0}};
    assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
    assert_true(slept_ns >= 30 * NS_PER_MS);
    /* Far beyond what a loaded machine needs: a sleep that begins anew with each signal never
     * ends. */
    assert_true(slept_ns < 60000 * NS_PER_MS);
    weir__sleep_ns(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_clock_never_goes_back),
        cmocka_unit_test(wall_clock_stands_after_2020),
        cmocka_unit_test(deadline_is_now_plus_timeout),
        cmocka_unit_test(deadline_of_a_negative_timeout_is_never),
        cmocka_unit_test(sleep_lasts_its_time_in_spite_of_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
