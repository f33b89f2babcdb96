/* SPDX-License-Identifier: Apache-2.0
 * A ring that takes nothing more, or that cannot be waited for, ends a log as a failed write does:
 * what was acknowledged is safe, nobody hangs, and closing works although nobody knows what is
 * under way. */
#include "base/atomic.h"
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RECORD_BYTES ((size_t)7000) /* two fill a slot */

static void queue_error(const struct rig_way *way, const struct fault_rule *rule)
{
    static uint8_t filler[RECORD_BYTES];
    struct rig rig;
    struct weir_error error;
    char why[256] = "";

    rig_make(&rig, way);
    rig.options.slots = 8;
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
    /* The first write is held, so that AUTO too has several pending and turns to the queue. */
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .hold = true});
    payload_fill(2, filler, sizeof filler);
    assert_int_equal(weir_append(rig.log, filler, 1, 2, NULL), 0);
    assert_true(fault_io_wait_held(&rig.fault, 1));
    for (int j = 0; j < 5; j++) {
        assert_int_equal(weir_append(rig.log, filler, sizeof filler, 2, NULL), 0);
    }
    (void)fault_io_arm(&rig.fault, rule);
    fault_io_release(&rig.fault);
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), WEIR_EFAILED);
    assert_int_equal(weir_log_error(rig.log, &error), rule->error);
    assert_int_equal(weir_append(rig.log, "x", 1, 2, NULL), WEIR_EFAILED);
    assert_true(events_wait(&rig.events, WEIR_EVENT_POISON, 1));
    assert_int_equal(rig_close(&rig), WEIR_EFAILED);
    assert_true(events_wait(&rig.events, WEIR_EVENT_POISON, 1)); /* told behind it */
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 1);
    (void)ledger_check_dir(&rig.ledger, rig.path, &rig.options, false, why);
    assert_string_equal(why, "");
    rig_destroy(&rig);
}

static void each_way(const struct fault_rule *rule)
{
    for (unsigned i = 0; i < rig_way_count; i++) {
        if (rig_ways[i].io != WEIR_IO_POSIX && rig_way_usable(&rig_ways[i])) {
            print_message("%s\n", rig_ways[i].name);
            queue_error(&rig_ways[i], rule);
        }
    }
}

static void a_queue_that_takes_nothing_poisons(void **state)
{
    (void)state;
    each_way(&(struct fault_rule){.kind = FAULT_QUEUE_PUSH, .error = -ENOMEM});
}

/* The kernel may still be at work on the slots: they must outlive the log, whichever allocator they
 * came from. */
static void a_queue_that_cannot_be_waited_for_poisons(void **state)
{
    (void)state;
    each_way(&(struct fault_rule){.kind = FAULT_QUEUE_REAP, .error = -EBADF, .times = 1});
}

/* ---- what stands behind a failure ---- */

/* Keeps what comes back until the events of two chains are there: the one that failed ends first. */
static int (*reap_each)(struct weir__io *io,
                        struct weir__queue *queue,
                        struct weir__event *events,
                        unsigned max,
                        unsigned min,
                        uint64_t deadline_ns);
static WEIR__ATOMIC(uint32_t) together; /* relaxed: set while nothing can come back */
static struct weir__event kept[4];      /* the flusher's */
static unsigned kept_count;

static int reap_together(struct weir__io *io,
                         struct weir__queue *queue,
                         struct weir__event *events,
                         unsigned max,
                         unsigned min,
                         uint64_t deadline_ns)
{
    const int count = reap_each(io, queue, events, max, min, deadline_ns);
    if (count < 0 || weir__load(&together, relaxed) == 0) {
        return count;
    }
    for (int i = 0; i < count; i++) {
        kept[kept_count++] = events[i];
    }
    if (kept_count < 4) {
        return 0; /* as if woken */
    }
    /* The syncs, cancelled, between the write that failed and the one that came back short. */
    unsigned at = 0;
    for (int pass = 0; pass < 3; pass++) {
        for (unsigned i = 0; i < 4; i++) {
            const int32_t result = kept[i].result;
            if (pass == (result == -EIO ? 0 : result < 0 ? 1 : 2)) {
                events[at++] = kept[i];
            }
        }
    }
    weir__store(&together, 0, relaxed);
    return (int)at;
}

/* Of two writes that came back together the first has failed, the second is short: the log has
 * ended before it could be gone on with. */
static void nothing_goes_on_behind_a_failure(void **state)
{
    (void)state;
    static uint8_t filler[RECORD_BYTES];
    static const struct rig_way way = {"chain", WEIR_IO_CHAIN, FAULT_QUEUE_THREADS, 0};
    struct rig rig;

    rig_make(&rig, &way);
    rig.options.slots = 8;
    reap_each = rig.fault.ops.queue_reap;
    rig.fault.ops.queue_reap = reap_together;
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE,
                                            .name = ".weir",
                                            .times = 1,
                                            .error = -EIO,
                                            .hold = true});
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE,
                                            .name = ".weir",
                                            .times = 1,
                                            .shortened = true,
                                            .bytes = RIG_BLOCK,
                                            .hold = true});
    const struct fault_look look = {.kind = FAULT_WRITE,
                                    .name = ".weir",
                                    .way = FAULT_QUEUED,
                                    .after = fault_io_now(&rig.fault)};
    kept_count = 0;
    weir__store(&together, 1, relaxed);
    payload_fill(2, filler, sizeof filler);
    assert_int_equal(weir_append(rig.log, filler, 1, 2, NULL), 0);
    assert_true(fault_io_wait_held(&rig.fault, 1));
    for (int j = 0; j < 3; j++) { /* a full slot, and one that is not */
        assert_int_equal(weir_append(rig.log, filler, sizeof filler, 2, NULL), 0);
    }
    assert_true(fault_io_wait_held(&rig.fault, 2));
    fault_io_release(&rig.fault);
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), WEIR_EFAILED);
    assert_int_equal(rig_close(&rig), WEIR_EFAILED);
    assert_int_equal(weir__load(&together, relaxed), 0);
    assert_int_equal(kept_count, 4);
    assert_int_equal(fault_io_count(&rig.fault, &look), 2);
    rig_destroy(&rig);
}

/* ---- the first write ---- */

static int (*push_each)(struct weir__io *io,
                        struct weir__queue *queue,
                        const struct weir__op *ops,
                        unsigned count);
static WEIR__ATOMIC(uintptr_t) pushed; /* relaxed: what the last push writes from */

static int push_noted(struct weir__io *io,
                      struct weir__queue *queue,
                      const struct weir__op *ops,
                      unsigned count)
{
    weir__store(&pushed, (uintptr_t)ops[0].iov[0].iov_base, relaxed);
    return push_each(io, queue, ops, count);
}

static void *spared_alloc(void *ctx, size_t bytes, size_t align)
{
    void *block;
    (void)ctx;
    return posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, bytes) == 0
               ? block
               : NULL;
}

/* Whoever frees what was pushed gets nothing freed. */
static void spared_release(void *ctx, void *block, size_t bytes)
{
    (void)bytes;
    if (weir__load(&pushed, relaxed) == (uintptr_t)block) {
        (void)weir__fetch_add((WEIR__ATOMIC(uint32_t) *)ctx, 1, relaxed);
        return;
    }
    free(block);
}

/* A log that demands the ring tries it by writing its segment's header: where the ring breaks
 * meanwhile, that write may come at any time, from the memory that it was given. */
static void the_trial_of_a_queue_that_breaks_keeps_its_memory(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        const struct rig_way *const way = &rig_ways[i];
        WEIR__ATOMIC(uint32_t) freed = 0;
        const struct weir_memory_hooks hooks = {spared_alloc, spared_release, &freed};
        struct rig rig;
        if ((way->io != WEIR_IO_CHAIN && way->io != WEIR_IO_DSYNC) || !rig_way_usable(way)) {
            continue;
        }
        rig_make(&rig, way);
        assert_int_equal(rig_open_plain(&rig), 0);
        assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
        assert_int_equal(rig_close(&rig), 0);
        weir__store(&pushed, 0, relaxed);
        push_each = rig.fault.ops.queue_push;
        rig.fault.ops.queue_push = push_noted;
        rig.options.memory = &hooks;
        (void)fault_io_arm(&rig.fault,
                           &(struct fault_rule){.kind = FAULT_QUEUE_REAP, .error = -EBADF});
        assert_int_equal(rig_open(&rig), -EBADF);
        assert_int_not_equal(weir__load(&pushed, relaxed), 0);
        assert_int_equal(weir__load(&freed, relaxed), 0);
        fault_io_heal(&rig.fault);
        rig.options.memory = NULL;
        assert_int_equal(rig_open(&rig), 0);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_that_takes_nothing_poisons),
        cmocka_unit_test(a_queue_that_cannot_be_waited_for_poisons),
        cmocka_unit_test(nothing_goes_on_behind_a_failure),
        cmocka_unit_test(the_trial_of_a_queue_that_breaks_keeps_its_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
