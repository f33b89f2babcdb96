/* SPDX-License-Identifier: Apache-2.0
 * A lone producer plays the flusher's part and makes its record durable itself: no earlier than the
 * flusher would, with the same end when the write fails, and whoever comes meanwhile is served
 * behind it. */
#include "api/log.h"
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RECORD_BYTES ((size_t)100)
#define MS UINT64_C(1000000)

static bool lends(void *ctx)
{
    struct rig *const rig = ctx;
    return weir__load(&rig->log->stage.fl_sleep, acquire) == WEIR__FL_LENDS;
}

static bool lent(void *ctx)
{
    struct rig *const rig = ctx;
    return weir__load(&rig->log->stage.fl_sleep, acquire) == WEIR__FL_LENT;
}

static bool called(void *ctx)
{
    struct rig *const rig = ctx;
    return weir__load(&rig->log->stage.fl_sleep, acquire) == WEIR__FL_CALLED;
}

static uint64_t alone(struct rig *rig)
{
    struct weir_stats stats;
    weir_stats(rig->log, &stats);
    return stats.batches_alone;
}

static uint64_t wakes(struct rig *rig)
{
    struct weir_stats stats;
    weir_stats(rig->log, &stats);
    return stats.flusher_wakes;
}

static bool way_lends(const struct rig_way *way)
{
    return way->io == WEIR_IO_AUTO || way->io == WEIR_IO_POSIX;
}

/* The keeper may call the flusher at any moment, so an append is not always the producer's own. */
#define TRIES 1000u

static void only_auto_and_posix_lend_and_never_with_the_policy_off(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        for (int off = 0; off <= 1; off++) {
            struct rig rig;
            if (!rig_way_usable(&rig_ways[i])) {
                continue;
            }
            rig_make(&rig, &rig_ways[i]);
            rig.options.policy = off ? WEIR_POLICY_OFF : WEIR_POLICY_DEFAULT;
            assert_int_equal(rig_open(&rig), 0);
            if (way_lends(rig.way) && !off) {
                uint64_t tag = 0;
                while (alone(&rig) < 3 && tag < TRIES) {
                    assert_true(wait_until(lends, &rig));
                    assert_int_equal(rig_append(&rig, ++tag, RECORD_BYTES, NULL), 0);
                }
                assert_true(alone(&rig) >= 3);
            } else {
                for (uint64_t tag = 1; tag <= 50; tag++) {
                    assert_int_equal(rig_append(&rig, tag, RECORD_BYTES, NULL), 0);
                    assert_false(lends(&rig));
                }
                assert_int_equal(alone(&rig), 0);
            }
            assert_int_equal(rig_close(&rig), 0);
            rig_destroy(&rig);
        }
    }
}

/* Each record is in the image of a power cut when its call returns; over a device that lies it is
 * not, and this very look finds that. */
static void its_acknowledgement_does_not_precede_its_sync(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        for (int lie = 0; lie <= 1; lie++) {
            struct rig rig;
            if (!rig_way_usable(&rig_ways[i]) || !way_lends(&rig_ways[i])) {
                continue;
            }
            rig_make(&rig, &rig_ways[i]);
            assert_int_equal(rig_open(&rig), 0);
            if (lie) {
                fault_io_lie(&rig.fault, ".weir");
            }
            unsigned own = 0;
            unsigned premature = 0;
            unsigned woken = 0; /* the flusher, by a call of the producer's own */
            for (uint64_t tag = 1; own < 20 && tag < TRIES; tag++) {
                weir_lsn lsn;
                assert_true(wait_until(lends, &rig));
                const uint64_t before = alone(&rig);
                const uint64_t wakes_before = wakes(&rig);
                assert_int_equal(rig_append(&rig, tag, RECORD_BYTES, &lsn), 0);
                if (alone(&rig) == before + 1) {
                    own++;
                    woken += wakes(&rig) != wakes_before;
                    premature += !rig_record_durable(&rig, lsn, tag, RECORD_BYTES);
                    assert_true(weir_durable_lsn(rig.log) > lsn);
                }
            }
            assert_int_equal(own, 20);
            assert_true(woken < own); /* the keeper may wake it now and then */
            assert_int_equal(premature, lie ? 20 : 0);
            fault_io_heal(&rig.fault);
            assert_int_equal(rig_close(&rig), 0);
            rig_destroy(&rig);
        }
    }
}

/* ---- held in its write ----------------------------------------------------------------------- */

struct caller {
    struct rig *rig;
    uint64_t tag;
    int code;
    weir_lsn lsn;
    pthread_t thread;
};

static void *call_append(void *arg)
{
    struct caller *const caller = arg;
    caller->code = rig_append(caller->rig, caller->tag, RECORD_BYTES, &caller->lsn);
    return NULL;
}

static void caller_start(struct caller *caller, struct rig *rig, uint64_t tag)
{
    *caller = (struct caller){.rig = rig, .tag = tag, .code = 1};
    if (pthread_create(&caller->thread, NULL, call_append, caller) != 0) {
        abort();
    }
}

/* Starts a producer that has the part and is held in its write, with an error behind it or without.
 * False: this time the flusher was called first; everything is as before. */
static bool hold_alone(struct rig *rig, struct caller *caller, uint64_t tag, int error)
{
    const struct fault_rule hold = {.kind = FAULT_WRITE,
                                    .name = ".weir",
                                    .way = FAULT_CALLED,
                                    .durable = FAULT_DURABLE_WRITE,
                                    .times = 1,
                                    .error = error,
                                    .hold = true};
    assert_true(wait_until(lends, rig));
    (void)fault_io_arm(&rig->fault, &hold);
    caller_start(caller, rig, tag);
    assert_true(fault_io_wait_held(&rig->fault, 1));
    return lent(rig) || called(rig);
}

static void let_go(struct rig *rig, struct caller *caller)
{
    fault_io_release(&rig->fault);
    (void)pthread_join(caller->thread, NULL);
}

/* Opens a log whose lone producer is held in its write. */
static void open_and_hold(struct rig *rig, struct caller *caller)
{
    assert_int_equal(rig_open(rig), 0);
    for (uint64_t tag = 1; !hold_alone(rig, caller, tag, 0); tag++) {
        let_go(rig, caller);
        assert_int_equal(caller->code, 0);
        assert_true(tag < TRIES);
    }
}

/* They wake nobody while the part is lent; the one who gives it back sees them. */
static void those_who_come_meanwhile_are_served_behind_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct caller first;
        struct caller others[4];
        if (!rig_way_usable(&rig_ways[i]) || !way_lends(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        open_and_hold(&rig, &first);
        const weir_lsn durable = weir_durable_lsn(rig.log);
        for (unsigned j = 0; j < 4; j++) {
            caller_start(&others[j], &rig, 5000 + j);
        }
        assert_int_equal(weir_sync(rig.log, 20000000), -ETIMEDOUT);
        assert_int_equal(weir_durable_lsn(rig.log), durable);
        let_go(&rig, &first);
        assert_int_equal(first.code, 0);
        for (unsigned j = 0; j < 4; j++) {
            (void)pthread_join(others[j].thread, NULL);
            assert_int_equal(others[j].code, 0);
            assert_true(others[j].lsn > first.lsn);
        }
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

static void a_shutdown_meanwhile_ends_when_it_is_through(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct caller first;
        if (!rig_way_usable(&rig_ways[i]) || !way_lends(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        open_and_hold(&rig, &first);
        assert_int_equal(weir_shutdown(rig.log, 20000000), -ETIMEDOUT);
        assert_true(called(&rig));
        assert_int_equal(weir_append(rig.log, "x", 1, 1, NULL), WEIR_ESHUTDOWN);
        let_go(&rig, &first);
        assert_int_equal(first.code, 0);
        assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* Nobody can take the part from a thread that has it, and nobody has a reservation open: the watchdog
 * tells all the same, once. */
static void one_that_does_not_come_back_is_told_of(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct caller first;
        struct event_seen event;
        weir_lsn lsn;
        if (!rig_way_usable(&rig_ways[i]) || !way_lends(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        rig.options.stall_warn_ns = 30 * MS;
        open_and_hold(&rig, &first);
        const weir_lsn durable = weir_durable_lsn(rig.log);
        assert_true(events_wait(&rig.events, WEIR_EVENT_STALL, 1));
        assert_true(events_last(&rig.events, WEIR_EVENT_STALL, &event));
        assert_true(event.value >= 30 * MS);
        assert_int_equal(event.lsn, durable);
        assert_string_not_equal(event.text, "");
        /* Another one who comes is no second stall. */
        assert_int_equal(weir_append(rig.log, "x", 1, 7000, &lsn), 0);
        ledger_add(&rig.ledger, lsn, 7000, 1);
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, (int64_t)(300 * MS)), -ETIMEDOUT);
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_STALL), 1);
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 0);
        let_go(&rig, &first);
        assert_int_equal(first.code, 0);
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, WEIR_FOREVER), 0);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* Beyond the limit those who wait are let go; who comes back acknowledges nothing. */
static void beyond_the_limit_the_others_are_let_go(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct caller first;
        struct caller second;
        struct weir_error error;
        if (!rig_way_usable(&rig_ways[i]) || !way_lends(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        rig.options.stall_warn_ns = 10 * MS;
        rig.options.stall_limit_ns = 60 * MS;
        open_and_hold(&rig, &first);
        const weir_lsn durable = weir_durable_lsn(rig.log);
        caller_start(&second, &rig, 6000);
        (void)pthread_join(second.thread, NULL);
        assert_int_equal(second.code, WEIR_EFAILED);
        assert_int_equal(weir_log_error(rig.log, &error), WEIR_ESTALLED);
        assert_int_equal(error.lsn, durable);
        assert_int_equal(weir_append(rig.log, "x", 1, 0, NULL), WEIR_EFAILED);
        let_go(&rig, &first);
        assert_int_equal(first.code, WEIR_EFAILED);
        assert_int_equal(weir_durable_lsn(rig.log), durable);
        assert_true(events_wait(&rig.events, WEIR_EVENT_POISON, 1)); /* told behind the failure */
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 1);
        assert_int_equal(rig_close(&rig), WEIR_EFAILED);
        assert_int_equal(rig.error.lsn, durable);
        char why[256] = "";
        assert_true(ledger_check_dir(&rig.ledger, rig.path, &rig.options, false, why));
        rig_destroy(&rig);
    }
}

/* A write is a point of cancellation: a thread that ended there would take the flusher's part along,
 * and nothing would ever be durable again. */
static void a_cancelled_thread_finishes_what_it_has_begun(void **state)
{
    (void)state;
    struct rig rig;
    struct caller first;
    struct caller second;
    rig_make(&rig, &rig_ways[8]);
    open_and_hold(&rig, &first);
    assert_int_equal(pthread_cancel(first.thread), 0);
    let_go(&rig, &first);
    caller_start(&second, &rig, 6000);
    (void)pthread_join(second.thread, NULL);
    assert_int_equal(second.code, 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- a failed write -------------------------------------------------------------------------- */

struct told {
    struct events *events;
    pthread_t caller;
    WEIR__ATOMIC(uint32_t) in_call; /* a poisoning told by the thread that appends */
};

static void tell(void *ctx, const struct weir_event *event)
{
    struct told *const told = ctx;
    if (event->kind == WEIR_EVENT_POISON && pthread_equal(pthread_self(), told->caller)) {
        weir__store(&told->in_call, 1u, relaxed);
    }
    events_on(told->events, event);
}

/* The log is poisoned as by the flusher, and the host hears of it from the engine's thread: not in
 * a call of its own, under whatever locks it holds there. */
static void a_failed_write_poisons_and_the_flusher_tells(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct told told = {.events = &rig.events, .caller = pthread_self()};
        if (!rig_way_usable(&rig_ways[i]) || !way_lends(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        rig.options.on_event = tell;
        rig.options.event_ctx = &told;
        assert_int_equal(rig_open(&rig), 0);
        uint64_t tag = 0;
        while (alone(&rig) == 0 && tag < TRIES) {
            assert_true(wait_until(lends, &rig));
            assert_int_equal(rig_append(&rig, ++tag, RECORD_BYTES, NULL), 0);
        }
        const weir_lsn durable = weir_durable_lsn(rig.log);
        const uint64_t by_itself = alone(&rig);
        const struct fault_rule rule = {.kind = FAULT_WRITE,
                                        .name = ".weir",
                                        .way = FAULT_CALLED,
                                        .durable = FAULT_DURABLE_WRITE,
                                        .error = EIO};
        (void)fault_io_arm(&rig.fault, &rule);
        assert_true(wait_until(lends, &rig));
        weir_lsn lsn = WEIR_LSN_NONE;
        assert_int_equal(rig_append(&rig, ++tag, RECORD_BYTES, &lsn), WEIR_EFAILED);
        assert_true(lsn >= durable && lsn != WEIR_LSN_NONE);
        assert_true(events_wait(&rig.events, WEIR_EVENT_POISON, 1));
        assert_int_equal(weir__load(&told.in_call, relaxed), 0);
        assert_int_equal(weir_durable_lsn(rig.log), durable);
        assert_int_equal(alone(&rig), by_itself);
        assert_int_equal(weir_append(rig.log, "x", 1, 1, NULL), WEIR_EFAILED);
        struct weir_error error;
        assert_int_equal(weir_log_error(rig.log, &error), -EIO);
        assert_non_null(strstr(error.text, "durable write"));
        fault_io_heal(&rig.fault);
        assert_int_equal(rig_close(&rig), WEIR_EFAILED);
        char why[256] = "";
        assert_true(ledger_check_dir(&rig.ledger, rig.path, &rig.options, false, why));
        rig_destroy(&rig);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_auto_and_posix_lend_and_never_with_the_policy_off),
        cmocka_unit_test(its_acknowledgement_does_not_precede_its_sync),
        cmocka_unit_test(those_who_come_meanwhile_are_served_behind_it),
        cmocka_unit_test(a_shutdown_meanwhile_ends_when_it_is_through),
        cmocka_unit_test(one_that_does_not_come_back_is_told_of),
        cmocka_unit_test(beyond_the_limit_the_others_are_let_go),
        cmocka_unit_test(a_cancelled_thread_finishes_what_it_has_begun),
        cmocka_unit_test(a_failed_write_poisons_and_the_flusher_tells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
