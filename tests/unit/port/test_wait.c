/* SPDX-License-Identifier: Apache-2.0
 * Futex waits, and the threads that do them. Worker threads record; the main thread asserts after
 * the join. */
#include "port/wait.h"

#include "port/clock.h"
#include "port/thread.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define NS_PER_MS UINT64_C(1000000)
enum { SLEEPERS = 4 };

struct room {
    /* 0 until the door opens: store-release main, load-acquire sleepers. */
    WEIR__ATOMIC(uint32_t) word;
    /* Sleepers that are about to sleep; relaxed, only a hint to main when to open. */
    WEIR__ATOMIC(uint32_t) inside;
    int results[SLEEPERS]; /* each written by one sleeper before its end */
};

struct sleeper {
    struct room *room;
    int number;
};

static void *sleeper_run(void *arg)
{
    struct sleeper *const sleeper = arg;
    struct room *const room = sleeper->room;
    const uint64_t deadline_ns = weir__deadline((int64_t)(20000 * NS_PER_MS));
    (void)weir__fetch_add(&room->inside, 1, relaxed);
    int result = 0;
    while (weir__load(&room->word, acquire) == 0 && result == 0) {
        result = weir__futex_wait(&room->word, 0, deadline_ns);
    }
    room->results[sleeper->number] = result;
    return NULL;
}

static void wait_returns_at_once_when_the_value_has_changed(void **state)
{
    (void)state;
    WEIR__ATOMIC(uint32_t) word = 5;
    assert_int_equal(weir__futex_wait(&word, 4, WEIR__NEVER), 0);
}

static void wait_ends_at_its_deadline_and_not_before(void **state)
{
    (void)state;
    WEIR__ATOMIC(uint32_t) word = 5;
    const uint64_t deadline_ns = weir__deadline((int64_t)(20 * NS_PER_MS));
    int result;
    do {
        result = weir__futex_wait(&word, 5, deadline_ns);
    } while (result == 0);
    assert_int_equal(result, -ETIMEDOUT);
    assert_true(weir__now_ns() >= deadline_ns);
    /* A deadline that is over already. */
    assert_int_equal(weir__futex_wait(&word, 5, 1), -ETIMEDOUT);
}

static void wake_without_sleepers_wakes_nobody(void **state)
{
    (void)state;
    WEIR__ATOMIC(uint32_t) word = 0;
    assert_int_equal(weir__futex_wake(&word, INT32_MAX), 0);
}

/* None of the sleepers may run into its deadline of 20 s. */
static void wake_of_all_ends_every_wait(void **state)
{
    (void)state;
    struct room room;
    memset(&room, 0, sizeof room);
    struct sleeper sleepers[SLEEPERS];
    pthread_t threads[SLEEPERS];
    for (int i = 0; i < SLEEPERS; i++) {
        room.results[i] = -1;
        sleepers[i] = (struct sleeper){.room = &room, .number = i};
        assert_int_equal(weir__thread_start(&threads[i], "sleeper", sleeper_run, &sleepers[i]), 0);
    }
    while (weir__load(&room.inside, relaxed) < SLEEPERS) {
        weir__sleep_ns(NS_PER_MS);
    }
    weir__sleep_ns(20 * NS_PER_MS);
    weir__store(&room.word, 1, release);
    const int woken = weir__futex_wake(&room.word, INT32_MAX);
    for (int i = 0; i < SLEEPERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(room.results[i], 0);
    }
    assert_true(woken >= 0 && woken <= SLEEPERS);
}

/* One turn each, many times: a lost wake would stop the two for 20 s and show as a timeout. */
enum { TURNS = 5000 };

static int take_turns(WEIR__ATOMIC(uint32_t) *word, uint32_t mine)
{
    const uint64_t deadline_ns = weir__deadline((int64_t)(20000 * NS_PER_MS));
    for (int turn = 0; turn < TURNS; turn++) {
        uint32_t seen = weir__load(word, acquire);
        while (seen != mine) {
            const int result = weir__futex_wait(word, seen, deadline_ns);
            if (result != 0) {
                return result;
            }
            seen = weir__load(word, acquire);
        }
        weir__store(word, 1 - mine, release);
        (void)weir__futex_wake(word, 1);
    }
    return 0;
}

struct turns {
    WEIR__ATOMIC(uint32_t) word;
    int result;
};

static void *turns_run(void *arg)
{
    struct turns *const turns = arg;
    turns->result = take_turns(&turns->word, 1);
    return NULL;
}

static void no_wake_is_lost_between_two_threads(void **state)
{
    (void)state;
    struct turns turns;
    memset(&turns, 0, sizeof turns);
    turns.result = -1;
    pthread_t thread;
    assert_int_equal(weir__thread_start(&thread, "turns", turns_run, &turns), 0);
    const int result = take_turns(&turns.word, 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(result, 0);
    assert_int_equal(turns.result, 0);
}

struct seen_thread {
    sigset_t blocked;
    char name[16];
};

static void *look_at_thread(void *arg)
{
    struct seen_thread *const seen = arg;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
    /* The starter sets the name; give it the time. */
    for (int i = 0; i < 60000; i++) {
        (void)pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
        if (strcmp(seen->name, "weir-name") == 0) {
            break;
        }
        weir__sleep_ns(NS_PER_MS);
    }
    return NULL;
}

/* A host's signal handlers must not run on our threads, its crash handler must, and its own mask
 * stays. */
static void thread_starts_named_and_with_signals_blocked(void **state)
{
    (void)state;
    sigset_t before;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &before);
    struct seen_thread seen;
    memset(&seen, 0, sizeof seen);
    pthread_t thread;
    assert_int_equal(weir__thread_start(&thread, "weir-name", look_at_thread, &seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(seen.name, "weir-name");
    assert_int_equal(sigismember(&seen.blocked, SIGTERM), 1);
    assert_int_equal(sigismember(&seen.blocked, SIGALRM), 1);
    assert_int_equal(sigismember(&seen.blocked, SIGXFSZ), 1);
    assert_int_equal(sigismember(&seen.blocked, SIGSEGV), 0);
    sigset_t after;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
    assert_int_equal(sigismember(&after, SIGALRM), sigismember(&before, SIGALRM));
}

static void spinning_takes_at_least_as_long_as_asked(void **state)
{
    (void)state;
    for (uint64_t ns = 0; ns <= 4000; ns += 500) {
        const uint64_t begin_ns = weir__now_ns();
        weir__spin_ns(ns);
        assert_true(weir__now_ns() - begin_ns >= ns);
    }
}

/* As long as asked where the word is what it was; at once, whatever was asked, where it is not. */
static void spinning_ends_when_the_word_changes(void **state)
{
    (void)state;
    WEIR__ATOMIC(uint32_t) word;
    weir__store(&word, 7u, relaxed);
    const uint64_t begin_ns = weir__now_ns();
    weir__spin_while(&word, 7, 4000);
    assert_true(weir__now_ns() - begin_ns >= 4000);
    weir__spin_while(&word, 8, UINT64_MAX);
}

/* A thread that is bound to a processor gets that one's number, or always the same where libc does
 * not have it. */
static void *look_at_cpus(void *arg)
{
    unsigned *const wrong = arg;
    const unsigned before = weir__cpu();
    cpu_set_t mine;
    bool numbers = true;
    bool fixed = true;

    if (sched_getaffinity(0, sizeof mine, &mine) != 0) {
        return NULL;
    }
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (CPU_ISSET(cpu, &mine) && sched_setaffinity(0, sizeof one, &one) == 0) {
            const unsigned seen = weir__cpu();
            numbers = numbers && seen == cpu;
            fixed = fixed && seen == before;
        }
    }
    *wrong = !numbers && !fixed;
    return NULL;
}

static void a_bound_thread_is_told_its_processor(void **state)
{
    (void)state;
    unsigned wrong = 0;
    pthread_t thread;
    assert_int_equal(weir__thread_start(&thread, "weir-cpus", look_at_cpus, &wrong), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait_returns_at_once_when_the_value_has_changed),
        cmocka_unit_test(wait_ends_at_its_deadline_and_not_before),
        cmocka_unit_test(wake_without_sleepers_wakes_nobody),
        cmocka_unit_test(wake_of_all_ends_every_wait),
        cmocka_unit_test(no_wake_is_lost_between_two_threads),
        cmocka_unit_test(spinning_takes_at_least_as_long_as_asked),
        cmocka_unit_test(spinning_ends_when_the_word_changes),
        cmocka_unit_test(a_bound_thread_is_told_its_processor),
        cmocka_unit_test(thread_starts_named_and_with_signals_blocked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
