/* SPDX-License-Identifier: Apache-2.0
 * Rings of indices: bounds, order, and that nothing is lost or doubled between threads. Threads
 * record; main asserts. */
#include "port/ring.h"

#include "port/clock.h"
#include "port/thread.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PRODUCERS = 4, PER_PRODUCER = 20000 };

static struct weir__mem mem;

static int set_up(void **state)
{
    (void)state;
    weir__mem_init(&mem, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    const bool balanced = weir__load(&mem.bytes, relaxed) == 0;
    weir__mem_exit(&mem);
    return balanced ? 0 : -1;
}

/* What the engine relies on: as many entries as asked for, whatever the rounding. */
static void ring_holds_at_least_what_was_asked(void **state)
{
    (void)state;
    for (uint32_t entries = 1; entries <= 70; entries++) {
        struct weir__ring *ring = NULL;
        assert_int_equal(weir__ring_create(&mem, entries, &ring), 0);
        for (uint32_t i = 0; i < entries; i++) {
            assert_int_equal(weir__ring_count(ring), i);
            assert_true(weir__ring_put_mpsc(ring, i));
        }
        /* It has an end, within the next power of two. */
        uint32_t more = 0;
        while (more <= 2 * entries + 4 && weir__ring_put_mpsc(ring, entries + more)) {
            more++;
        }
        assert_true(more <= 2 * entries + 3);
        uint32_t index = 0;
        for (uint32_t i = 0; i < entries + more; i++) {
            assert_true(weir__ring_take_mpsc(ring, &index));
            assert_int_equal(index, i);
        }
        assert_false(weir__ring_take_mpsc(ring, &index));
        weir__ring_destroy(&mem, ring);
    }
}

/* An index travels as a pointer; 0 must not be taken for "nothing". */
static void every_value_of_an_index_passes(void **state)
{
    (void)state;
    static const uint32_t values[] = {0, 1, 0x7fffffff, 0x80000000, UINT32_MAX, 0};
    struct weir__ring *single = NULL;
    struct weir__ring *many = NULL;
    assert_int_equal(weir__ring_create(&mem, 2, &single), 0);
    assert_int_equal(weir__ring_create(&mem, 2, &many), 0);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        uint32_t index = 77;
        assert_true(weir__ring_put_spsc(single, values[i]));
        assert_true(weir__ring_take_spsc(single, &index));
        assert_int_equal(index, values[i]);
        assert_false(weir__ring_take_spsc(single, &index));
        assert_true(weir__ring_put_mpsc(many, values[i]));
        assert_true(weir__ring_take_mpsc(many, &index));
        assert_int_equal(index, values[i]);
    }
    weir__ring_destroy(&mem, single);
    weir__ring_destroy(&mem, many);
}

struct stingy {
    int left; /* allocations until the first refusal */
    size_t bytes;
};

static void *stingy_alloc(void *ctx, size_t bytes, size_t align)
{
    struct stingy *const stingy = ctx;
    if (stingy->left-- <= 0) {
        return NULL;
    }
    void *block = NULL;
    if (posix_memalign(&block, align, bytes) != 0) {
        return NULL;
    }
    stingy->bytes += bytes;
    return block;
}

static void stingy_release(void *ctx, void *block, size_t bytes)
{
    struct stingy *const stingy = ctx;
    stingy->bytes -= bytes;
    free(block);
}

static void ring_without_memory_is_refused_and_leaks_nothing(void **state)
{
    (void)state;
    for (int allowed = 0; allowed < 2; allowed++) {
        struct stingy stingy = {.left = allowed};
        const struct weir__mem_hooks hooks = {stingy_alloc, stingy_release, &stingy};
        struct weir__mem tight;
        weir__mem_init(&tight, &hooks);
        struct weir__ring *ring = NULL;
        assert_int_equal(weir__ring_create(&tight, 8, &ring), -ENOMEM);
        assert_int_equal(stingy.bytes, 0);
        weir__mem_exit(&tight);
    }
    struct weir__ring *ring = NULL;
    assert_int_equal(weir__ring_create(&mem, UINT32_MAX, &ring), -ENOMEM);
}

struct producer {
    struct weir__ring *ring;
    uint32_t number;
    bool single;
    bool gave_up; /* written before the thread's end */
};

static void *producer_run(void *arg)
{
    struct producer *const producer = arg;
    for (uint32_t i = 0; i < PER_PRODUCER; i++) {
        const uint32_t index = producer->number * PER_PRODUCER + i;
        /* For each step: all of them take long where others have the processors. */
        const uint64_t deadline_ns = weir__deadline(INT64_C(60000000000));
        while (!(producer->single ? weir__ring_put_spsc(producer->ring, index)
                                  : weir__ring_put_mpsc(producer->ring, index))) {
            if (weir__now_ns() > deadline_ns) {
                producer->gave_up = true;
                return NULL;
            }
            sched_yield();
        }
    }
    return NULL;
}

/* Runs `count` producers against this thread over a ring so small that it is often full. Every
 * index must come exactly once, and those of one producer in the order of their puts. */
static void run_producers(uint32_t count, bool single)
{
    struct weir__ring *ring = NULL;
    assert_int_equal(weir__ring_create(&mem, 15, &ring), 0);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    for (uint32_t i = 0; i < count; i++) {
        producers[i] = (struct producer){.ring = ring, .number = i, .single = single};
        assert_int_equal(weir__thread_start(&threads[i], "producer", producer_run, &producers[i]),
                         0);
    }
    uint32_t next[PRODUCERS] = {0};
    uint32_t taken = 0;
    uint32_t wrong = 0;
    uint32_t over_full = 0;
    uint64_t deadline_ns = weir__deadline(INT64_C(60000000000));
    while (taken < count * PER_PRODUCER && weir__now_ns() < deadline_ns) {
        if (weir__ring_count(ring) > 15) {
            over_full++;
        }
        uint32_t index;
        if (!(single ? weir__ring_take_spsc(ring, &index) : weir__ring_take_mpsc(ring, &index))) {
            sched_yield();
            continue;
        }
        taken++;
        deadline_ns = weir__deadline(INT64_C(60000000000));
        const uint32_t from = index / PER_PRODUCER;
        if (from >= count || index % PER_PRODUCER != next[from]) {
            wrong++;
        } else {
            next[from]++;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(producers[i].gave_up);
        assert_int_equal(next[i], PER_PRODUCER);
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(over_full, 0);
    uint32_t index;
    assert_false(weir__ring_take_mpsc(ring, &index));
    weir__ring_destroy(&mem, ring);
}

static void one_producer_hands_over_everything_in_order(void **state)
{
    (void)state;
    run_producers(1, true);
}

static void many_producers_lose_and_double_nothing(void **state)
{
    (void)state;
    run_producers(PRODUCERS, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_holds_at_least_what_was_asked),
        cmocka_unit_test(every_value_of_an_index_passes),
        cmocka_unit_test(ring_without_memory_is_refused_and_leaks_nothing),
        cmocka_unit_test(one_producer_hands_over_everything_in_order),
        cmocka_unit_test(many_producers_lose_and_double_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
