/* SPDX-License-Identifier: Apache-2.0
 * What the flusher does for many that wait: it lets those whom it has just woken put their next
 * records into one batch. Which producers wait is fixed by a write that is held; no time counts. */
#include "api/log.h"
#include "support/rig.h"
#include "support/threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define RECORD_BYTES ((size_t)100)
#define OTHERS 3u

struct caller {
    struct rig *rig;
    uint64_t tag;
    int code;
    pthread_t thread;
};

static void *call_append(void *arg)
{
    struct caller *const caller = arg;
    caller->code = rig_append(caller->rig, caller->tag, RECORD_BYTES, NULL);
    return NULL;
}

static void caller_start(struct caller *caller, struct rig *rig, uint64_t tag)
{
    *caller = (struct caller){.rig = rig, .tag = tag, .code = 1};
    if (pthread_create(&caller->thread, NULL, call_append, caller) != 0) {
        abort();
    }
}

/* The others wait, each in the slot behind the batch that is held. */
static bool others_wait(void *ctx)
{
    struct weir__stage *const stage = &((struct rig *)ctx)->log->stage;
    const uint32_t gathering = weir__stage_gathering(stage);
    return gathering != WEIR__SLOT_NONE && weir__stage_slot_waits(stage, gathering) == OTHERS;
}

/* One batch, and three records behind it: when it is acknowledged, four wait, and one of them is about
 * to come back. The flusher lets it, before it seals what the three have put. */
static void a_flusher_collects_those_it_has_woken(void **state)
{
    (void)state;
    for (int off = 0; off <= 1; off++) {
        struct rig rig;
        struct caller first;
        struct caller others[OTHERS];
        struct weir_stats stats;
        const struct fault_rule hold = {.kind = FAULT_WRITE,
                                        .name = ".weir",
                                        .way = FAULT_CALLED,
                                        .durable = FAULT_DURABLE_WRITE,
                                        .times = 1,
                                        .hold = true};
        rig_make(&rig, &rig_ways[8]);
        rig.options.policy = off ? WEIR_POLICY_OFF : WEIR_POLICY_DEFAULT;
        assert_int_equal(rig_open(&rig), 0);
        (void)fault_io_arm(&rig.fault, &hold);
        caller_start(&first, &rig, 1);
        assert_true(fault_io_wait_held(&rig.fault, 1));
        for (unsigned i = 0; i < OTHERS; i++) {
            caller_start(&others[i], &rig, 2 + i);
        }
        assert_true(wait_until(others_wait, &rig));
        weir_stats(rig.log, &stats);
        assert_int_equal(stats.collects, 0);
        fault_io_release(&rig.fault);
        (void)pthread_join(first.thread, NULL);
        assert_int_equal(first.code, 0);
        for (unsigned i = 0; i < OTHERS; i++) {
            (void)pthread_join(others[i].thread, NULL);
            assert_int_equal(others[i].code, 0);
        }
        weir_stats(rig.log, &stats);
        assert_int_equal(stats.collects > 0, !off);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_flusher_collects_those_it_has_woken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
