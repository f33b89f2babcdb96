/* SPDX-License-Identifier: Apache-2.0
 * Whose the flusher's part is: every value of fl_sleep, and every way from one to the next, by one
 * thread that plays them all. */
#include "toy_flusher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct toy_config config = {.slots = 4,
                                         .slot_bytes = 4096,
                                         .oversize_buffers = 1,
                                         .oversize_bytes = 8192,
                                         .segment_bytes = 1 << 20,
                                         .segments = 2};
static struct toy toy;

static uint32_t how(void)
{
    return weir__load(&toy.stage.fl_sleep, acquire);
}

static int begin(void **state)
{
    (void)state;
    toy_make(&toy, &config);
    toy_turn(&toy);
    return 0;
}

static int end(void **state)
{
    (void)state;
    toy_destroy(&toy);
    return 0;
}

static bool sleeps_as(enum weir__fl value)
{
    return weir__stage_going_to_sleep(&toy.stage, &toy.part, value, value != WEIR__FL_RING);
}

/* Reserves, fills and commits as one who will wait. */
static bool commit_alone(void)
{
    struct weir__place place;
    if (weir__stage_reserve(&toy.stage, 64, 0, &place) != 0) {
        abort();
    }
    toy_fill(&place);
    return weir__stage_commit_alone(&toy.stage, &place, 1);
}

static void one_that_is_alone_takes_the_part_and_gives_it_back(void **state)
{
    (void)state;
    assert_true(sleeps_as(WEIR__FL_LENDS));
    assert_true(commit_alone());
    assert_int_equal(how(), WEIR__FL_LENT);
    toy_turn(&toy);
    weir__stage_return(&toy.stage, &toy.part);
    assert_int_equal(how(), WEIR__FL_LENDS);
    assert_int_equal(toy.part.next_ack, 1);
    assert_int_equal(weir__load(&toy.stage.counters.flusher_wakes, relaxed), 0);
    assert_true(commit_alone()); /* and again */
}

static void a_flusher_that_does_not_lend_is_woken(void **state)
{
    (void)state;
    assert_false(commit_alone()); /* awake */
    toy_turn(&toy);
    assert_true(sleeps_as(WEIR__FL_IDLE));
    assert_false(commit_alone());
    assert_int_equal(how(), WEIR__FL_AWAKE);
    toy_turn(&toy);
    assert_true(sleeps_as(WEIR__FL_RING));
    assert_false(commit_alone());
    assert_int_equal(how(),
                     WEIR__FL_RING); /* a record in a half-full slot does not wake it there */
}

/* A record of somebody else before ours: the flusher, who can wait for it, is the one to seal. */
static void one_that_is_not_the_first_in_its_slot_wakes(void **state)
{
    (void)state;
    struct weir__place first;
    assert_int_equal(weir__stage_reserve(&toy.stage, 64, 0, &first), 0);
    assert_true(sleeps_as(WEIR__FL_LENDS) || how() == WEIR__FL_AWAKE);
    weir__exchange(&toy.stage.fl_sleep, (uint32_t)WEIR__FL_LENDS, seq_cst);
    assert_false(commit_alone());
    assert_int_equal(how(), WEIR__FL_AWAKE);
}

static void one_of_a_crowd_wakes(void **state)
{
    (void)state;
    weir__store(&toy.stage.crowd, 2u, relaxed);
    assert_true(sleeps_as(WEIR__FL_LENDS));
    assert_false(commit_alone());
    assert_int_equal(how(), WEIR__FL_AWAKE);
}

/* Commits and nudges while the part is lent: the first wake nobody, and are seen at the return; the
 * others are marked, and the return is a hand-over. */
static void what_comes_while_it_is_lent_is_not_lost(void **state)
{
    (void)state;
    struct weir__place place;
    assert_true(sleeps_as(WEIR__FL_LENDS));
    assert_true(commit_alone());
    toy_turn(&toy);
    assert_int_equal(toy_append(&toy, 64, 0, &place), 0);
    assert_int_equal(how(), WEIR__FL_LENT);
    weir__stage_return(&toy.stage, &toy.part);
    assert_int_equal(how(), WEIR__FL_AWAKE);

    toy_turn(&toy);
    assert_true(sleeps_as(WEIR__FL_LENDS));
    assert_true(commit_alone());
    toy_turn(&toy);
    weir__stage_rouse(&toy.stage);
    assert_int_equal(how(), WEIR__FL_CALLED);
    weir__stage_rouse(&toy.stage);
    assert_int_equal(how(), WEIR__FL_CALLED);
    weir__stage_return(&toy.stage, &toy.part);
    assert_int_equal(how(), WEIR__FL_AWAKE);
}

static void a_nudge_wakes_and_so_does_a_hand_over(void **state)
{
    (void)state;
    assert_true(sleeps_as(WEIR__FL_LENDS));
    weir__stage_rouse(&toy.stage);
    assert_int_equal(how(), WEIR__FL_AWAKE);
    assert_true(sleeps_as(WEIR__FL_LENDS));
    assert_true(commit_alone());
    weir__stage_hand_over(&toy.stage);
    assert_int_equal(how(), WEIR__FL_AWAKE);
    assert_int_equal(weir__load(&toy.stage.counters.flusher_wakes, relaxed), 2);
}

/* The announcement finds a record that was committed before: nobody is left to wake it. */
static void lending_with_work_to_do_is_no_sleep(void **state)
{
    (void)state;
    struct weir__place place;
    assert_int_equal(toy_append(&toy, 64, 0, &place), 0);
    assert_false(sleeps_as(WEIR__FL_LENDS));
    assert_int_equal(how(), WEIR__FL_AWAKE);
}

static void a_shutdown_while_it_is_lent_calls_the_flusher(void **state)
{
    (void)state;
    assert_true(sleeps_as(WEIR__FL_LENDS));
    assert_true(commit_alone());
    weir__stage_shut(&toy.stage);
    assert_int_equal(how(), WEIR__FL_CALLED);
    weir__stage_hand_over(&toy.stage);
    assert_int_equal(how(), WEIR__FL_AWAKE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_that_is_alone_takes_the_part_and_gives_it_back,
                                        begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_flusher_that_does_not_lend_is_woken, begin, end),
        cmocka_unit_test_setup_teardown(one_that_is_not_the_first_in_its_slot_wakes, begin, end),
        cmocka_unit_test_setup_teardown(one_of_a_crowd_wakes, begin, end),
        cmocka_unit_test_setup_teardown(what_comes_while_it_is_lent_is_not_lost, begin, end),
        cmocka_unit_test_setup_teardown(a_nudge_wakes_and_so_does_a_hand_over, begin, end),
        cmocka_unit_test_setup_teardown(lending_with_work_to_do_is_no_sleep, begin, end),
        cmocka_unit_test_setup_teardown(a_shutdown_while_it_is_lent_calls_the_flusher, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
