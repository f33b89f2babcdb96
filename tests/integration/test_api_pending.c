/* SPDX-License-Identifier: Apache-2.0
 * What is on its way: weir_pending_batch_bytes, weir_pending_batch_ops, weir_has_pending_batch,
 * weir_max_batch_bytes, weir_size, weir_flush_batch. The device is held, so that nothing comes back
 * before the test has looked. */
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct rig_way *const posix_way = &rig_ways[8];

static void hold(struct rig *rig, enum fault_kind kind)
{
    const struct fault_rule rule = {.kind = kind, .name = ".weir", .hold = true};
    (void)fault_io_arm(&rig->fault, &rule);
}

/* The flusher may close the open batch at any moment, and its padding then counts: the figure
 * together with the end that it was taken at. The end never falls, so two equal looks have it
 * between them. */
static uint64_t pending_bytes(struct rig *rig, weir_lsn *end_out)
{
    uint64_t bytes;

    do {
        *end_out = weir_end_lsn(rig->log);
        bytes = weir_pending_batch_bytes(rig->log);
    } while (weir_end_lsn(rig->log) != *end_out);
    return bytes;
}

/* From the append on, as long as it is not durable; records of a group count one by one. */
static void what_is_appended_is_pending_until_it_is_durable(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        assert_int_equal(rig_open(&rig), 0);
        assert_int_equal(weir_pending_batch_ops(rig.log), 0);
        assert_int_equal(weir_pending_batch_bytes(rig.log), 0);
        assert_false(weir_has_pending_batch(rig.log));
        assert_int_equal(weir_max_batch_bytes(rig.log), rig.options.slot_bytes);

        hold(&rig, FAULT_WRITE);
        uint64_t ops = 0;
        weir_lsn lsn = 0;
        weir_lsn end;
        for (unsigned n = 1; n <= 5; n++) {
            const struct weir_piece piece = {"pending", 7};
            const struct weir_record records[3] = {{&piece, 1, 1}, {&piece, 0, 2}, {&piece, 1, 3}};
            weir_lsn lsns[3];
            assert_int_equal(weir_append_group(rig.log, records, n % 3 + 1, WEIR_FOREVER, lsns), 0);
            ops += n % 3 + 1;
            lsn = lsns[n % 3];
            assert_int_equal(weir_pending_batch_ops(rig.log), ops);
            assert_true(weir_has_pending_batch(rig.log));
            assert_true(weir_pending_batch_bytes(rig.log) >= ops * 24 + 5 * 7);
            assert_int_equal(weir_size(rig.log), weir_end_lsn(rig.log));
            assert_true(weir_size(rig.log) > lsn);
            const uint64_t bytes = pending_bytes(&rig, &end);
            assert_int_equal(bytes, end - weir_durable_lsn(rig.log));
        }
        fault_io_heal(&rig.fault);
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, WEIR_FOREVER), 0);
        assert_int_equal(weir_pending_batch_ops(rig.log), 0);
        assert_int_equal(weir_pending_batch_bytes(rig.log), 0);
        assert_false(weir_has_pending_batch(rig.log));
        assert_true(weir_size(rig.log) >= weir_durable_lsn(rig.log));
        assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);
        assert_int_equal(weir_pending_batch_ops(rig.log), 0);
        assert_int_equal(weir_pending_batch_bytes(rig.log), 0);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* Slots are used again and again: lives that are over count no more. */
static void figures_stay_exact_over_many_lives(void **state)
{
    (void)state;
    struct rig rig;
    uint8_t payload[5000] = {0};
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(weir_append(rig.log, payload, 1 + i * 13 % 5000, i, NULL), 0);
        if (i % 7 == 0) {
            assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
            assert_int_equal(weir_pending_batch_ops(rig.log), 0);
        } else {
            assert_true(weir_pending_batch_ops(rig.log) <= i % 7);
        }
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* An open slot without a record may stand far behind the last one: in the next segment. */
static void an_empty_slot_is_not_pending(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    for (unsigned i = 0; i < 3 * RIG_SEGMENT / RIG_BLOCK; i++) {
        assert_int_equal(rig_append(&rig, i, 100, NULL), 0);
        assert_int_equal(weir_pending_batch_bytes(rig.log), 0);
        assert_int_equal(weir_pending_batch_ops(rig.log), 0);
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A flush is over when the kernel has the bytes: the sync behind them is still held. */
static void flush_waits_for_the_kernel_and_not_for_the_device(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        if (!rig_way_usable(&rig_ways[i]) || rig_ways[i].io != WEIR_IO_CHAIN) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        assert_int_equal(rig_open(&rig), 0);
        hold(&rig, FAULT_SYNC);
        weir_lsn lsn;
        assert_int_equal(weir_append(rig.log, "flushed", 7, 0, &lsn), 0);
        assert_int_equal(weir_flush_batch(rig.log, WEIR_FOREVER), 0);
        assert_true(weir_written_lsn(rig.log) > lsn);
        assert_true(weir_durable_lsn(rig.log) <= lsn);
        assert_int_equal(weir_pending_batch_ops(rig.log), 1);
        assert_int_equal(weir_sync(rig.log, 1000000), -ETIMEDOUT);
        fault_io_heal(&rig.fault);
        assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

static void flush_answers_as_a_sync_does(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(weir_flush_batch(rig.log, WEIR_TRY), 0); /* nothing to wait for */
    hold(&rig, FAULT_WRITE);
    assert_int_equal(weir_append(rig.log, "held", 4, 0, NULL), 0);
    assert_int_equal(weir_flush_batch(rig.log, 1000000), -ETIMEDOUT);
    fault_io_heal(&rig.fault);
    assert_int_equal(weir_flush_batch(rig.log, WEIR_FOREVER), 0);

    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_log *reader;
    options.read_only = true;
    assert_int_equal(weir_open(rig.path, &options, &reader, NULL), 0);
    assert_int_equal(weir_flush_batch(reader, WEIR_FOREVER), WEIR_EREADONLY);
    assert_int_equal(weir_pending_batch_ops(reader), 0);
    assert_int_equal(weir_pending_batch_bytes(reader), 0);
    assert_false(weir_has_pending_batch(reader));
    assert_int_equal(weir_max_batch_bytes(reader), 0);
    assert_int_equal(weir_size(reader), weir_end_lsn(reader));
    assert_int_equal(weir_close(reader, NULL), 0);

    const struct fault_rule bad = {.kind = FAULT_WRITE, .name = ".weir", .times = 1, .error = -EIO};
    (void)fault_io_arm(&rig.fault, &bad);
    assert_int_equal(weir_append(rig.log, "lost", 4, 0, NULL), 0);
    assert_int_equal(weir_flush_batch(rig.log, WEIR_FOREVER), WEIR_EFAILED);
    assert_int_equal(rig_close(&rig), WEIR_EFAILED);
    rig_destroy(&rig);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_appended_is_pending_until_it_is_durable),
        cmocka_unit_test(figures_stay_exact_over_many_lives),
        cmocka_unit_test(an_empty_slot_is_not_pending),
        cmocka_unit_test(flush_waits_for_the_kernel_and_not_for_the_device),
        cmocka_unit_test(flush_answers_as_a_sync_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
