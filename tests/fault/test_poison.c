/* SPDX-License-Identifier: Apache-2.0
 * The first write or sync error ends a log: nothing is acknowledged behind it, no sync is tried
 * again, the first cause is kept, what was acknowledged before stays readable and is there after
 * reopening. Writes that are only short, or to be tried again, end nothing. */
#include "format/segment_header.h"
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PRODUCERS 3u
#define RECORDS 4u
#define RECORD_BYTES ((size_t)7000) /* two fill a slot */
#define FULL_BYTES ((size_t)16000)  /* one fills a slot: four blocks */

/* ---- a small workload ------------------------------------------------------------------------ */

struct work {
    struct rig *rig;
    pthread_mutex_t mutex;
    unsigned good;         /* guarded by mutex */
    unsigned failed;       /* guarded by mutex */
    weir_lsn acknowledged; /* guarded by mutex: the highest */
};

static void produce(struct worker *worker)
{
    struct work *const work = worker->ctx;
    bool failed = false;

    for (unsigned i = 0; i < RECORDS; i++) {
        weir_lsn lsn = 1;
        const int code =
            rig_append(work->rig, (uint64_t)(worker->index + 1) << 32 | i, RECORD_BYTES, &lsn);
        if (code != 0 && code != WEIR_EFAILED) {
            worker_fail(worker, "append: %s", weir_error_name(code));
        }
        if (code == 0 && failed) {
            worker_fail(worker, "an append succeeded after one had failed");
        }
        if (failed && lsn != WEIR_LSN_NONE) {
            worker_fail(worker, "a poisoned log gave LSN %" PRIu64 " away", lsn);
        }
        failed = failed || code != 0;
        (void)pthread_mutex_lock(&work->mutex);
        work->good += code == 0;
        work->failed += code != 0;
        if (code == 0 && lsn > work->acknowledged) {
            work->acknowledged = lsn;
        }
        (void)pthread_mutex_unlock(&work->mutex);
    }
}

/* ---- what must hold of a poisoned log -------------------------------------------------------- */

/* The first spoilt operation to come back, of those at this offset; UINT64_MAX: at any. */
static bool spoilt_op(struct rig *rig, uint64_t offset, struct fault_op *op_out)
{
    struct fault_op *ops;
    bool found = false;
    const size_t count = fault_io_ops(&rig->fault, &ops);
    for (size_t i = 0; i < count; i++) {
        const bool fits = offset == UINT64_MAX || ops[i].offset == offset;
        if (ops[i].spoilt && ops[i].ended != 0 && fits &&
            (!found || ops[i].ended < op_out->ended)) {
            *op_out = ops[i];
            found = true;
        }
    }
    free(ops);
    return found;
}

/* When the log first knew: a chain is known to have failed when its sync has come back too, if only
 * as cancelled. */
static uint64_t known_at(struct rig *rig, const struct fault_op *spoilt)
{
    uint64_t known = UINT64_MAX;
    struct fault_op *ops;
    const size_t count = fault_io_ops(&rig->fault, &ops);
    for (size_t i = 0; i < count; i++) {
        const bool end =
            ops[i].spoilt || (ops[i].kind == FAULT_SYNC && ops[i].result == -ECANCELED);
        const bool half = rig->way->io == WEIR_IO_CHAIN && ops[i].kind == FAULT_WRITE;
        if (end && !half && ops[i].ended >= spoilt->ended && ops[i].ended < known) {
            known = ops[i].ended;
        }
    }
    free(ops);
    return known;
}

static void check_refusals(struct rig *rig, weir_lsn durable)
{
    const struct weir_record record = {NULL, 0, 1};
    weir_lsn lsn = 1;

    assert_int_equal(weir_append(rig->log, "x", 1, 1, NULL), WEIR_EFAILED);
    assert_int_equal(weir_append_wait(rig->log, "x", 1, 1, WEIR_APPENDED, &lsn), WEIR_EFAILED);
    assert_int_equal(lsn, WEIR_LSN_NONE);
    assert_int_equal(weir_append_group(rig->log, &record, 1, WEIR_TRY, NULL), WEIR_EFAILED);
    assert_int_equal(weir_append_group(rig->log, &record, 1, 1000000, NULL), WEIR_EFAILED);
    assert_int_equal(weir_sync(rig->log, WEIR_FOREVER), WEIR_EFAILED);
    assert_int_equal(weir_wait(rig->log, durable, WEIR_DURABLE, WEIR_FOREVER), WEIR_EFAILED);
    assert_int_equal(weir_wait(rig->log, durable - 1, WEIR_DURABLE, WEIR_FOREVER), 0);
    assert_int_equal(weir_trim(rig->log, durable), WEIR_EFAILED);
    assert_int_equal(weir_shutdown(rig->log, WEIR_FOREVER), WEIR_EFAILED);
}

/* Readers get everything up to the durable LSN, and are told that there will never be more. */
static void check_readers(struct rig *rig)
{
    char why[256] = "";
    struct weir_cursor *cursor;
    struct weir_entry entry;

    (void)ledger_check(&rig->ledger, rig->log, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
    assert_int_equal(
        weir_cursor_open(rig->log, weir_durable_lsn(rig->log), WEIR_DURABLE, 0, &cursor),
        0);
    assert_int_equal(weir_cursor_next(cursor, WEIR_FOREVER, &entry), WEIR_EEND);
    weir_cursor_close(cursor);
}

/* What a power cut would leave, and what reopening finds. */
static void check_survivors(struct rig *rig, const char *path)
{
    char why[256] = "";
    (void)ledger_check_dir(&rig->ledger, path, &rig->options, false, why);
    assert_string_equal(why, "");
}

static void check_poisoned(struct rig *rig, int cause, weir_lsn acknowledged)
{
    struct fault_op op;
    struct weir_error error;
    struct event_seen event;
    weir_lsn base;
    weir_lsn end;
    const weir_lsn durable = weir_durable_lsn(rig->log);

    assert_int_equal(weir_log_error(rig->log, &error), cause);
    assert_int_equal(error.code, cause);
    assert_int_equal(error.system_code, -cause);
    assert_true(spoilt_op(rig, UINT64_MAX, &op));
    assert_string_equal(error.file, op.name);
    assert_true(weir__segment_name_parse(error.file, &base, &end));
    assert_int_equal(error.lsn, base + error.offset);
    assert_int_equal(error.lsn % RIG_BLOCK, 0);
    if (op.kind == FAULT_WRITE) {
        struct fault_op same;
        assert_true(spoilt_op(rig, error.offset, &same));
    }
    assert_string_not_equal(error.text, "");

    /* Nothing at or behind the failed batch is acknowledged. */
    assert_true(durable <= error.lsn);
    assert_true(acknowledged < durable || acknowledged == 0);

    /* Once; told just after the waiters were woken. */
    assert_true(events_wait(&rig->events, WEIR_EVENT_POISON, 1));
    assert_int_equal(events_count(&rig->events, WEIR_EVENT_POISON), 1);
    assert_true(events_last(&rig->events, WEIR_EVENT_POISON, &event));
    assert_int_equal(event.code, cause);
    assert_int_equal(event.lsn, error.lsn);

    check_refusals(rig, durable);
    check_readers(rig);

    /* The kernel may call pages clean that never got to the device: a second sync would lie. */
    const struct fault_look again = {.syncs = true, .name = op.name, .after = known_at(rig, &op)};
    assert_int_equal(fault_io_count(&rig->fault, &again), 0);
    assert_int_equal(weir_durable_lsn(rig->log), durable);
    assert_int_equal(weir_log_error(rig->log, &error), cause);

    char crashed[TEMP_DIR_BYTES];
    temp_dir_make(crashed);
    fault_io_crash(&rig->fault, crashed);
    check_survivors(rig, crashed);
    temp_dir_remove(crashed);

    fault_io_heal(&rig->fault);
    assert_int_equal(rig_close(rig), WEIR_EFAILED);
    assert_int_equal(rig->error.code, cause);
    assert_int_equal(rig->error.lsn, durable);
    assert_string_not_equal(rig->error.text, "");
    check_survivors(rig, rig->path);
}

/* Runs the workload with one rule. False: the rule found nothing to spoil, and all went well. */
static bool run(const struct rig_way *way, const struct fault_rule *rule, unsigned producers)
{
    struct rig rig;
    struct work work = {.rig = &rig};
    char why[256] = "";

    rig_make(&rig, way);
    assert_int_equal(rig_open(&rig), 0);
    fault_io_forget(&rig.fault);
    const unsigned armed = fault_io_arm(&rig.fault, rule);
    (void)pthread_mutex_init(&work.mutex, NULL);
    workers_run(producers, produce, &work, test_seed());
    (void)pthread_mutex_destroy(&work.mutex);

    const bool spoilt = fault_io_spoilt(&rig.fault, armed) > 0;
    if (spoilt) {
        assert_int_not_equal(work.failed, 0);
        check_poisoned(&rig, rule->error, work.acknowledged);
    } else {
        assert_int_equal(work.failed, 0);
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 0);
        (void)ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why);
        assert_string_equal(why, "");
        assert_int_equal(rig_close(&rig), 0);
    }
    rig_destroy(&rig);
    return spoilt;
}

/* Every k in turn until k lies beyond the workload; what follows the k-th fails too, or does not.
 * Returns how many were spoilt. */
static unsigned every(const struct rig_way *way, struct fault_rule rule, unsigned producers)
{
    for (unsigned k = 0; k < 64; k++) {
        bool any = false;
        for (unsigned times = 0; times < 2; times++) {
            if (producers > 1 && times != k % 2) {
                continue; /* there are many of these; with one producer it is both */
            }
            rule.skip = k;
            rule.times = times;
            any |= run(way, &rule, producers);
        }
        if (!any) {
            return k;
        }
    }
    fail_msg("the workload has no end");
    return 0;
}

static void each_way(void (*test)(const struct rig_way *way))
{
    for (unsigned i = 0; i < rig_way_count; i++) {
        if (rig_way_usable(&rig_ways[i])) {
            print_message("%s\n", rig_ways[i].name);
            test(&rig_ways[i]);
        } else {
            print_message("skipped, io_uring is refused here: %s\n", rig_ways[i].name);
        }
    }
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void write_errors(const struct rig_way *way)
{
    const struct fault_rule rule = {.kind = FAULT_WRITE, .name = ".weir", .error = -EIO};
    assert_true(every(way, rule, PRODUCERS) > 0);
    assert_true(every(way, rule, 1) >= RECORDS);
}

/* Every write of the workload, in turn. */
static void every_write_error_poisons(void **state)
{
    (void)state;
    each_way(write_errors);
}

static void sync_errors(const struct rig_way *way)
{
    /* A durable write whose bytes got there, and whose flush failed, is a failed sync. */
    const struct fault_rule durable = {
        .kind = FAULT_WRITE,
        .durable = FAULT_DURABLE_WRITE,
        .name = ".weir",
        .error = -EIO,
        .afterwards = true,
    };
    const struct fault_rule sync = {.kind = FAULT_SYNC, .name = ".weir", .error = -EIO};
    const struct fault_rule sync_after = {.kind = FAULT_SYNC,
                                          .name = ".weir",
                                          .error = -EIO,
                                          .afterwards = true};
    unsigned spoilt = every(way, durable, PRODUCERS);
    spoilt += every(way, sync, PRODUCERS);
    spoilt += every(way, sync_after, PRODUCERS);
    assert_true(spoilt > 0);
    spoilt = every(way, durable, 1);
    spoilt += every(way, sync, 1);
    assert_true(spoilt >= RECORDS);
}

/* Every sync of the workload, in turn; the next one would succeed, or fail as well. */
static void every_sync_error_poisons_and_is_not_tried_again(void **state)
{
    (void)state;
    each_way(sync_errors);
}

/* Nobody knows what a copy of the control file holds after a failed write: the log ends, the
 * records do not. */
static void a_failing_control_file_poisons(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_error error;
    weir_lsn lsn;
    rig_make(&rig, &rig_ways[rig_way_count - 1]);
    assert_int_equal(rig_open(&rig), 0);
    for (uint64_t tag = 1; tag <= 4; tag++) {
        assert_int_equal(rig_append(&rig, tag, 100, &lsn), 0);
    }
    (void)fault_io_arm(
        &rig.fault,
        &(struct fault_rule){.kind = FAULT_WRITE, .name = "weir.control", .error = -EIO});
    assert_int_equal(weir_trim(rig.log, lsn), WEIR_EFAILED);
    assert_int_equal(weir_log_error(rig.log, &error), -EIO);
    assert_string_equal(error.file, "weir.control");
    assert_int_equal(weir_append(rig.log, "x", 1, 0, NULL), WEIR_EFAILED);
    assert_true(events_wait(&rig.events, WEIR_EVENT_POISON, 1));
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 1);
    fault_io_heal(&rig.fault);
    assert_int_equal(rig_close(&rig), WEIR_EFAILED);
    check_survivors(&rig, rig.path);
    rig_destroy(&rig);
}

/* A clean mark that cannot be written costs nothing but the mark. */
static void a_close_that_cannot_mark_the_log_clean_says_so(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, &rig_ways[rig_way_count - 1]);
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
    const weir_lsn durable = weir_durable_lsn(rig.log);
    (void)fault_io_arm(
        &rig.fault,
        &(struct fault_rule){.kind = FAULT_WRITE, .name = "weir.control", .error = -EIO});
    assert_int_equal(rig_close(&rig), WEIR_EFAILED);
    assert_int_equal(rig.error.code, -EIO);
    assert_int_equal(rig.error.lsn, durable);
    fault_io_heal(&rig.fault);
    check_survivors(&rig, rig.path);
    rig_destroy(&rig);
}

/* ---- what is no error ------------------------------------------------------------------------ */

/* Appends one batch of four blocks whose first write comes back with `bytes`. */
static void shorten_one(const struct rig_way *way, size_t bytes, unsigned times)
{
    struct rig rig;
    struct weir_stats stats;
    weir_lsn lsn;
    char why[256] = "";

    rig_make(&rig, way);
    assert_int_equal(rig_open(&rig), 0);
    const unsigned rule = fault_io_arm(&rig.fault,
                                       &(struct fault_rule){
                                           .kind = FAULT_WRITE,
                                           .name = ".weir",
                                           .times = times,
                                           .shortened = true,
                                           .bytes = bytes,
                                       });
    const uint64_t after = fault_io_now(&rig.fault);
    assert_int_equal(rig_append(&rig, 1, FULL_BYTES, &lsn), 0);
    assert_true(rig_record_durable(&rig, lsn, 1, FULL_BYTES));
    assert_int_equal(fault_io_spoilt(&rig.fault, rule), times);

    /* Each one goes on from the last whole block, and the last of them has a sync of its own behind
     * it. */
    struct fault_op *ops;
    const size_t count = fault_io_ops(&rig.fault, &ops);
    uint64_t due = UINT64_MAX;
    uint64_t last_end = 0;
    unsigned seen = 0;
    for (size_t i = 0; i < count; i++) {
        if (ops[i].kind != FAULT_WRITE || ops[i].begun <= after ||
            strstr(ops[i].name, ".weir") == NULL) {
            continue;
        }
        if (due != UINT64_MAX) {
            assert_int_equal(ops[i].offset, due);
        }
        assert_int_equal(ops[i].spoilt, seen < times);
        due = ops[i].offset + (uint64_t)ops[i].result / RIG_BLOCK * RIG_BLOCK;
        last_end = ops[i].dsync ? ops[i].begun : ops[i].ended;
        seen++;
    }
    free(ops);
    assert_int_equal(seen, times + 1);
    const struct fault_look syncs = {.syncs = true,
                                     .name = ".weir",
                                     .after = way->io == WEIR_IO_CHAIN ? after : last_end - 1};
    assert_true(fault_io_count(&rig.fault, &syncs) >= (way->io == WEIR_IO_CHAIN ? times + 1 : 1));

    weir_stats(rig.log, &stats);
    assert_int_equal(stats.writes_short, times);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 0);
    (void)ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
    assert_int_equal(rig_close(&rig), 0);
    check_survivors(&rig, rig.path);
    rig_destroy(&rig);
}

static const size_t short_lengths[] = {1, 511, 512, 4095, 4096, 4097, 8191, 8192, 12289, 16383};

static void short_writes(const struct rig_way *way)
{
    for (size_t i = 0; i < sizeof short_lengths / sizeof short_lengths[0]; i++) {
        shorten_one(way, short_lengths[i], 1);
    }
    shorten_one(way, 4096, 2);
    shorten_one(way, 100, 7); /* no whole block at all, again and again */
}

/* A remainder goes out from the last whole block, under a new sync. */
static void short_writes_are_continued_under_a_new_sync(void **state)
{
    (void)state;
    each_way(short_writes);
}

/* Several batches in one write: the cut may be inside any of them, or between two. */
static void short_runs(const struct rig_way *way)
{
    static const size_t lengths[] = {1, 4096, 16383, 16384, 16385, 20480, 30000, 40000, 49152};
    static uint8_t payload[FULL_BYTES];
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct rig rig;
        char why[256] = "";
        rig_make(&rig, way);
        rig.options.slots = 16;
        rig.options.max_inflight = 1;
        assert_int_equal(rig_open(&rig), 0);
        (void)fault_io_arm(
            &rig.fault,
            &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .hold = true});
        for (uint64_t tag = 0; tag < 8; tag++) {
            weir_lsn lsn;
            payload_fill(tag, payload, sizeof payload);
            assert_int_equal(weir_append(rig.log, payload, sizeof payload, tag, &lsn), 0);
            ledger_add(&rig.ledger, lsn, tag, sizeof payload);
            if (tag == 0) {
                assert_true(fault_io_wait_held(&rig.fault, 1));
            }
        }
        const unsigned rule = fault_io_arm(&rig.fault,
                                           &(struct fault_rule){
                                               .kind = FAULT_WRITE,
                                               .name = ".weir",
                                               .times = 1,
                                               .shortened = true,
                                               .bytes = lengths[i],
                                           });
        fault_io_release(&rig.fault);
        assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
        assert_int_equal(fault_io_spoilt(&rig.fault, rule), 1);
        for (size_t j = 0; j < rig.ledger.count; j++) {
            const struct ledger_entry *const entry = &rig.ledger.entries[j];
            assert_true(rig_record_durable(&rig, entry->lsn, entry->tag, entry->bytes));
        }
        (void)ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why);
        assert_string_equal(why, "");
        assert_int_equal(rig_close(&rig), 0);
        check_survivors(&rig, rig.path);
        rig_destroy(&rig);
    }
}

static void short_writes_of_several_batches_are_continued(void **state)
{
    (void)state;
    each_way(short_runs);
}

static void tries_again(const struct rig_way *way)
{
    struct rig rig;
    struct weir_error error;
    weir_lsn lsn;
    rig_make(&rig, way);
    assert_int_equal(rig_open(&rig), 0);
    const unsigned rule = fault_io_arm(
        &rig.fault,
        &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .times = 5, .error = -EAGAIN});
    assert_int_equal(rig_append(&rig, 1, 100, &lsn), 0);
    assert_int_equal(fault_io_spoilt(&rig.fault, rule), 5);
    assert_true(rig_record_durable(&rig, lsn, 1, 100));
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 0);

    /* For ever is too long: some day it is an error like any other. */
    fault_io_disarm(&rig.fault, rule);
    fault_io_forget(&rig.fault);
    (void)fault_io_arm(
        &rig.fault,
        &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .error = -EAGAIN});
    assert_int_equal(rig_append(&rig, 2, 100, &lsn), WEIR_EFAILED);
    assert_int_equal(weir_log_error(rig.log, &error), -EAGAIN);
    fault_io_heal(&rig.fault);
    assert_int_equal(rig_close(&rig), WEIR_EFAILED);
    check_survivors(&rig, rig.path);
    rig_destroy(&rig);
}

static void writes_to_be_tried_again_are(void **state)
{
    (void)state;
    each_way(tries_again);
}

/* A write that takes nothing is no progress, and nobody says why. */
static void no_progress(const struct rig_way *way)
{
    struct rig rig;
    struct weir_error error;
    rig_make(&rig, way);
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE,
                                            .name = ".weir",
                                            .times = 1,
                                            .shortened = true,
                                            .bytes = 0});
    assert_int_equal(rig_append(&rig, 2, 100, NULL), WEIR_EFAILED);
    assert_int_equal(weir_log_error(rig.log, &error), -EIO);
    assert_int_equal(rig_close(&rig), WEIR_EFAILED);
    check_survivors(&rig, rig.path);
    rig_destroy(&rig);
}

static void a_write_of_nothing_is_an_error(void **state)
{
    (void)state;
    each_way(no_progress);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_write_error_poisons),
        cmocka_unit_test(every_sync_error_poisons_and_is_not_tried_again),
        cmocka_unit_test(a_failing_control_file_poisons),
        cmocka_unit_test(a_close_that_cannot_mark_the_log_clean_says_so),
        cmocka_unit_test(short_writes_are_continued_under_a_new_sync),
        cmocka_unit_test(short_writes_of_several_batches_are_continued),
        cmocka_unit_test(writes_to_be_tried_again_are),
        cmocka_unit_test(a_write_of_nothing_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
