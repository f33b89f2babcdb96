/* SPDX-License-Identifier: Apache-2.0
 * A ring that takes nothing more, or that cannot be waited for, ends a log as a failed write does:
 * what was acknowledged is safe, nobody hangs, and closing works although nobody knows what is
 * under way. */
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

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_that_takes_nothing_poisons),
        cmocka_unit_test(a_queue_that_cannot_be_waited_for_poisons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
