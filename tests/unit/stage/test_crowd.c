/* SPDX-License-Identifier: Apache-2.0
 * The crowd, collecting and yields: arithmetic, with a clock that the test sets. */
#include "stage/crowd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A burst is met at once; one lower look says nothing. */
static void crowd_rises_at_once_and_falls_by_a_sixteenth_after_sixteen_lower_looks(void **state)
{
    (void)state;
    struct weir__crowd crowd = {0};

    assert_int_equal(weir__crowd_look(&crowd, 64), 64);
    for (unsigned i = 1; i < WEIR__CROWD_PATIENCE; i++) {
        assert_int_equal(weir__crowd_look(&crowd, 1), 64);
    }
    assert_int_equal(weir__crowd_look(&crowd, 1), 60);
    assert_int_equal(weir__crowd_look(&crowd, 61), 61);
}

/* Two that alternate are two: any look that is as high begins the count again. */
static void crowd_stays_while_one_look_in_sixteen_is_as_high(void **state)
{
    (void)state;
    struct weir__crowd crowd = {0};

    (void)weir__crowd_look(&crowd, 2);
    for (unsigned i = 0; i < 400; i++) {
        assert_int_equal(weir__crowd_look(&crowd, i % 15 == 14 ? 2 : 1), 2);
    }
}

/* ceil, so that a small crowd comes down to nothing. */
static void crowd_of_one_falls_to_none(void **state)
{
    (void)state;
    struct weir__crowd crowd = {.size = 3};

    for (unsigned i = 0; i < 3 * WEIR__CROWD_PATIENCE; i++) {
        (void)weir__crowd_look(&crowd, 0);
    }
    assert_int_equal(crowd.size, 0);
}

static void collect_does_not_begin_when_all_are_in(void **state)
{
    (void)state;
    struct weir__collect collect;

    weir__collect_init(&collect);
    assert_false(weir__collect_begin(&collect, 4, 4, 1000));
    assert_true(weir__collect_begin(&collect, 3, 4, 1000));
    assert_int_equal(weir__collect_step(&collect, 4, 2000), WEIR__COLLECT_MET);
}

/* Each who comes prolongs the wait, up to the limit and no further. */
static void collect_ends_after_quiet_or_at_the_limit(void **state)
{
    (void)state;
    struct weir__collect collect;

    weir__collect_init(&collect);
    assert_true(weir__collect_begin(&collect, 1, 9, 0));
    assert_int_equal(weir__collect_step(&collect, 1, WEIR__COLLECT_QUIET_NS - 1), WEIR__COLLECT_ON);
    assert_int_equal(weir__collect_step(&collect, 1, WEIR__COLLECT_QUIET_NS), WEIR__COLLECT_MISS);

    assert_true(weir__collect_begin(&collect, 1, 9, 0));
    assert_int_equal(weir__collect_step(&collect, 2, 20000), WEIR__COLLECT_ON);
    assert_int_equal(weir__collect_step(&collect, 3, WEIR__COLLECT_LIMIT_NS - 1), WEIR__COLLECT_ON);
    assert_int_equal(weir__collect_step(&collect, 4, WEIR__COLLECT_LIMIT_NS), WEIR__COLLECT_MISS);
}

/* A clock that stands still must not hold a batch for ever. */
static void collect_ends_though_the_clock_stands(void **state)
{
    (void)state;
    struct weir__collect collect;
    unsigned turns = 1;

    weir__collect_init(&collect);
    assert_true(weir__collect_begin(&collect, 1, 2, 7));
    while (weir__collect_step(&collect, 1, 7) == WEIR__COLLECT_ON) {
        turns++;
    }
    assert_int_equal(turns, WEIR__COLLECT_TURNS_MAX);
}

/* Where it does not pay it is left alone for 256 batches, and then tried again. */
static void collect_that_misses_pauses_and_comes_back(void **state)
{
    (void)state;
    struct weir__collect collect;

    weir__collect_init(&collect);
    for (int i = 0; i < WEIR__COLLECT_SCORE_MAX / 2; i++) {
        assert_true(weir__collect_begin(&collect, 1, 2, 0));
        assert_int_equal(weir__collect_step(&collect, 1, WEIR__COLLECT_LIMIT_NS),
                         WEIR__COLLECT_MISS);
    }
    for (unsigned i = 0; i < WEIR__COLLECT_PAUSE; i++) {
        assert_false(weir__collect_begin(&collect, 1, 2, 0));
    }
    assert_true(weir__collect_begin(&collect, 1, 2, 0));
    assert_int_equal(weir__collect_step(&collect, 1, WEIR__COLLECT_LIMIT_NS), WEIR__COLLECT_MISS);
    assert_false(weir__collect_begin(&collect, 1, 2, 0));
}

/* Two hits outweigh a miss: with one miss in four it is never left alone. */
static void collect_that_mostly_meets_goes_on(void **state)
{
    (void)state;
    struct weir__collect collect;

    weir__collect_init(&collect);
    for (int i = 0; i < 1000; i++) {
        const uint32_t waiting = i % 4 == 0 ? 1 : 2;
        assert_true(weir__collect_begin(&collect, 1, 2, 0));
        assert_int_equal(weir__collect_step(&collect, waiting, WEIR__COLLECT_LIMIT_NS),
                         waiting == 2 ? WEIR__COLLECT_MET : WEIR__COLLECT_MISS);
    }
}

static void a_crowd_yields_a_few_times_and_a_large_one_longer(void **state)
{
    (void)state;

    assert_int_equal(weir__yields_allowed(15, 16, 24), 0);
    assert_int_equal(weir__yields_allowed(16, 16, 24), WEIR__YIELDS_FEW);
    assert_int_equal(weir__yields_allowed(23, 16, 24), WEIR__YIELDS_FEW);
    assert_int_equal(weir__yields_allowed(24, 16, 24), WEIR__YIELDS_MAX);
    assert_int_equal(weir__yields_allowed(UINT32_MAX, 16, 24), WEIR__YIELDS_MAX);
    assert_int_equal(weir__yields_allowed(12, 12, 12), WEIR__YIELDS_MAX);
    assert_int_equal(weir__yields_allowed(UINT32_MAX, 0, 0), 0);
}

static void yield_tells_alone_from_others_and_from_a_hog(void **state)
{
    (void)state;

    assert_int_equal(weir__yield_took(WEIR__YIELD_ALONE_NS - 1, 64), WEIR__YIELD_ALONE);
    assert_int_equal(weir__yield_took(WEIR__YIELD_ALONE_NS, 64), WEIR__YIELD_ON);
    assert_int_equal(weir__yield_took(WEIR__YIELD_HOG_NS + 64u * WEIR__YIELD_TURN_NS, 64),
                     WEIR__YIELD_ON);
    assert_int_equal(weir__yield_took(WEIR__YIELD_HOG_NS + 64u * WEIR__YIELD_TURN_NS + 1, 64),
                     WEIR__YIELD_HOG);
}

/* One that comes back is met with ever longer pauses; one that stayed away for a second is new. */
static void yield_pause_doubles_up_to_a_second_and_forgets(void **state)
{
    (void)state;
    uint64_t pause_ns = 0;
    uint64_t end_ns = 0;
    uint64_t now_ns = UINT64_C(5000000000);

    const uint64_t expected_ms[] = {16, 32, 64, 128, 256, 512, 1000, 1000};
    for (size_t i = 0; i < sizeof expected_ms / sizeof expected_ms[0]; i++) {
        pause_ns = weir__yield_pause(pause_ns, end_ns, now_ns);
        assert_int_equal(pause_ns, expected_ms[i] * 1000000);
        end_ns = now_ns + pause_ns;
        now_ns = end_ns + 3000000;
    }
    now_ns = end_ns + WEIR__YIELD_PAUSE_MAX_NS + 1;
    assert_int_equal(weir__yield_pause(pause_ns, end_ns, now_ns), WEIR__YIELD_PAUSE_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crowd_rises_at_once_and_falls_by_a_sixteenth_after_sixteen_lower_looks),
        cmocka_unit_test(crowd_stays_while_one_look_in_sixteen_is_as_high),
        cmocka_unit_test(crowd_of_one_falls_to_none),
        cmocka_unit_test(collect_does_not_begin_when_all_are_in),
        cmocka_unit_test(collect_ends_after_quiet_or_at_the_limit),
        cmocka_unit_test(collect_ends_though_the_clock_stands),
        cmocka_unit_test(collect_that_misses_pauses_and_comes_back),
        cmocka_unit_test(collect_that_mostly_meets_goes_on),
        cmocka_unit_test(a_crowd_yields_a_few_times_and_a_large_one_longer),
        cmocka_unit_test(yield_tells_alone_from_others_and_from_a_hog),
        cmocka_unit_test(yield_pause_doubles_up_to_a_second_and_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
