/* SPDX-License-Identifier: Apache-2.0
 * io_uring refused: `auto` goes on without it and says why, a way that needs it is an error and
 * says so. */
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

static const int refusals[] = {-ENOSYS, -EPERM, -ENOMEM, -EMFILE};
#define REFUSALS (sizeof refusals / sizeof refusals[0])

static const struct rig_way *way_of(enum weir_io io)
{
    for (unsigned i = 0; i < rig_way_count; i++) {
        if (rig_ways[i].io == io && rig_ways[i].queue == FAULT_QUEUE_THREADS) {
            return &rig_ways[i];
        }
    }
    return NULL;
}

/* The words for a refusal: on a machine that refuses it for a reason of its own, that reason's. */
static void assert_names(const char *text, int code)
{
    if (fault_io_has_ring()) {
        assert_non_null(strstr(text, weir_strerror(code)));
    }
    assert_non_null(strstr(text, "io_uring"));
}

/* The event that tells of io_uring; there may be another one about O_DIRECT. */
static unsigned fallbacks(struct rig *rig, char text_out[256])
{
    unsigned count = 0;
    (void)pthread_mutex_lock(&rig->events.mutex);
    for (unsigned i = 0; i < rig->events.count; i++) {
        const struct event_seen *const event = &rig->events.list[i];
        if (event->kind == WEIR_EVENT_FALLBACK && strstr(event->text, "O_DIRECT") == NULL) {
            (void)snprintf(text_out, 256, "%s", event->text);
            count++;
        }
    }
    (void)pthread_mutex_unlock(&rig->events.mutex);
    return count;
}

static void auto_goes_on_without_the_ring(void **state)
{
    (void)state;
    for (size_t i = 0; i < REFUSALS; i++) {
        struct rig rig;
        struct weir_log_info info;
        struct weir_stats stats;
        char text[256] = "";
        char why[256] = "";
        rig_make(&rig, way_of(WEIR_IO_AUTO));
        (void)fault_io_arm(&rig.fault,
                           &(struct fault_rule){.kind = FAULT_QUEUE_OPEN, .error = refusals[i]});
        assert_int_equal(rig_open(&rig), 0);
        assert_int_equal(fallbacks(&rig, text), 1);
        assert_names(text, refusals[i]);

        weir_log_describe(rig.log, &info);
        assert_int_equal(info.io_asked, WEIR_IO_AUTO);
        assert_int_equal(info.io_used, WEIR_IO_POSIX);
        assert_false(info.io_uring);
        assert_false(info.lock_in_ring);
        assert_false(info.buffers_registered);
        assert_names(info.io_reason, refusals[i]);

        for (uint64_t tag = 1; tag <= 50; tag++) {
            weir_lsn lsn;
            assert_int_equal(rig_append(&rig, tag, 3000, &lsn), 0);
            assert_true(rig_record_durable(&rig, lsn, tag, 3000));
        }
        weir_stats(rig.log, &stats);
        assert_int_equal(stats.submits, 0);
        assert_int_equal(stats.chains, 0);
        assert_true(stats.syncs >= 50);
        assert_true(ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why));
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

static void a_way_that_needs_the_ring_is_refused_without_it(void **state)
{
    (void)state;
    static const struct {
        enum weir_io io;
        const char *name;
    } ways[] = {{WEIR_IO_CHAIN, "chain"}, {WEIR_IO_DSYNC, "dsync"}};
    for (size_t i = 0; i < REFUSALS * 2; i++) {
        const int refusal = refusals[i / 2];
        struct rig rig;
        rig_make(&rig, way_of(ways[i % 2].io));
        const unsigned rule =
            fault_io_arm(&rig.fault,
                         &(struct fault_rule){.kind = FAULT_QUEUE_OPEN, .error = refusal});
        assert_int_equal(rig_open(&rig), refusal);
        assert_null(rig.log);
        assert_int_equal(rig.error.code, refusal);
        assert_int_equal(rig.error.system_code, -refusal);
        assert_non_null(strstr(rig.error.text, ways[i % 2].name));
        assert_names(rig.error.text, refusal);

        /* Nothing of it is left: the same directory opens by another way, and by this one when it
         * is let. */
        rig.options.io = WEIR_IO_POSIX;
        assert_int_equal(rig_open(&rig), 0);
        assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
        assert_int_equal(rig_close(&rig), 0);
        fault_io_disarm(&rig.fault, rule);
        rig.options.io = ways[i % 2].io;
        assert_int_equal(rig_open(&rig), 0);
        assert_int_equal(rig_append(&rig, 2, 100, NULL), 0);
        struct weir_log_info info;
        weir_log_describe(rig.log, &info);
        assert_int_equal(info.io_asked, ways[i % 2].io);
        assert_int_equal(info.io_used, ways[i % 2].io);
        assert_true(info.io_uring);
        assert_string_not_equal(info.io_reason, "");
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* The first durable write is made at opening, so that a way that does not work shows there and not
 * at the first record. */
static void a_way_that_fails_its_first_write_is_refused(void **state)
{
    (void)state;
    static const enum weir_io ios[] = {WEIR_IO_CHAIN, WEIR_IO_DSYNC, WEIR_IO_POSIX, WEIR_IO_AUTO};
    for (size_t i = 0; i < sizeof ios / sizeof ios[0]; i++) {
        struct rig rig;
        rig_make(&rig, way_of(ios[i]));
        const struct fault_rule rule = {
            .kind = ios[i] == WEIR_IO_CHAIN ? FAULT_SYNC : FAULT_WRITE,
            .name = ".weir",
            .way = ios[i] == WEIR_IO_CHAIN || ios[i] == WEIR_IO_DSYNC ? FAULT_QUEUED : FAULT_CALLED,
            .error = -EOPNOTSUPP,
        };
        (void)fault_io_arm(&rig.fault, &rule);
        assert_int_equal(rig_open(&rig), -EOPNOTSUPP);
        assert_null(rig.log);
        assert_string_not_equal(rig.error.text, "");
        fault_io_heal(&rig.fault);
        assert_int_equal(rig_open(&rig), 0);
        assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

static void posix_asks_for_no_ring(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_log_info info;
    char text[256];
    rig_make(&rig, way_of(WEIR_IO_POSIX));
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
    weir_log_describe(rig.log, &info);
    assert_int_equal(info.io_used, WEIR_IO_POSIX);
    assert_false(info.io_uring);
    assert_string_not_equal(info.io_reason, "");
    assert_int_equal(fallbacks(&rig, text), 0);
    assert_int_equal(fault_io_count(&rig.fault, &(struct fault_look){.kind = FAULT_QUEUE_OPEN}), 0);
    rig_destroy(&rig);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_goes_on_without_the_ring),
        cmocka_unit_test(a_way_that_needs_the_ring_is_refused_without_it),
        cmocka_unit_test(a_way_that_fails_its_first_write_is_refused),
        cmocka_unit_test(posix_asks_for_no_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
