/* SPDX-License-Identifier: Apache-2.0
 * A full disk is met when a segment is prepared, before any record depends on it: appends are
 * refused, nothing is lost, nothing hangs, and when space comes back the log goes on by itself. */
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
#include <unistd.h>

#include <cmocka.h>

#define RECORD_BYTES ((size_t)6000)
#define RECORDS_MAX 400u /* far more than two segments hold */

static const struct rig_way *const posix_way = &rig_ways[8];

static const struct fault_rule full_disk = {.kind = FAULT_WRITE,
                                            .name = "weir.prepare",
                                            .error = -ENOSPC};

static void check_ledger(struct rig *rig, bool exact)
{
    char why[256] = "";
    (void)ledger_check(&rig->ledger, rig->log, WEIR_DURABLE, UINT64_MAX, exact, why);
    assert_string_equal(why, "");
}

static void check_dir(struct rig *rig)
{
    char why[256] = "";
    (void)ledger_check_dir(&rig->ledger, rig->path, &rig->options, true, why);
    assert_string_equal(why, "");
}

/* Appends until one is refused. Returns its code. */
static int fill(struct rig *rig, uint64_t first_tag)
{
    for (unsigned i = 0; i < RECORDS_MAX; i++) {
        const int code = rig_append(rig, first_tag + i, RECORD_BYTES, NULL);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

struct wanted {
    struct rig *rig;
    uint64_t tag;
    unsigned rule;
    unsigned spoilt;
};

static bool appends_again(void *ctx)
{
    struct wanted *const wanted = ctx;
    return rig_append(wanted->rig, wanted->tag, RECORD_BYTES, NULL) == 0;
}

static bool spoilt_often(void *ctx)
{
    const struct wanted *const wanted = ctx;
    return fault_io_spoilt(&wanted->rig->fault, wanted->rule) >= wanted->spoilt;
}

static bool error_gone(void *ctx)
{
    return weir_log_error(((struct rig *)ctx)->log, NULL) == 0;
}

/* ---- what every caller gets ------------------------------------------------------------------ */

static void refuses_and_goes_on(const struct fault_rule *rule)
{
    static uint8_t big[60000];
    const struct weir_piece piece = {big, RECORD_BYTES};
    const struct weir_piece big_piece = {big, sizeof big};
    const struct weir_record record = {&piece, 1, 0};
    const struct weir_record big_record = {&big_piece, 1, 0};
    struct rig rig;
    struct weir_error error;
    struct event_seen event;
    weir_lsn lsn = 1;

    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    struct wanted wanted = {.rig = &rig, .tag = 99999, .spoilt = 3};
    wanted.rule = fault_io_arm(&rig.fault, rule);
    assert_int_equal(fill(&rig, 1), rule->error);
    assert_true(rig.ledger.count > 0);

    /* Whatever is asked now is answered, and nothing waits for what may never come. */
    assert_int_equal(weir_append_wait(rig.log, big, RECORD_BYTES, 0, WEIR_DURABLE, &lsn),
                     rule->error);
    assert_int_equal(lsn, WEIR_LSN_NONE);
    const int timed = weir_append_group(rig.log, &record, 1, 20000000, NULL);
    assert_true(timed == rule->error || timed == -ETIMEDOUT);
    const int tried = weir_append_group(rig.log, &record, 1, WEIR_TRY, NULL);
    assert_true(tried == rule->error || tried == -EAGAIN);
    assert_int_equal(weir_append_group(rig.log, &big_record, 1, WEIR_FOREVER, NULL), rule->error);
    const int big_timed = weir_append_group(rig.log, &big_record, 1, 20000000, NULL);
    assert_true(big_timed == rule->error || big_timed == -ETIMEDOUT);
    const int big_tried = weir_append_group(rig.log, &big_record, 1, WEIR_TRY, NULL);
    assert_true(big_tried == rule->error || big_tried == -EAGAIN);
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    assert_int_equal(weir_wait(rig.log, weir_durable_lsn(rig.log) - 1, WEIR_DURABLE, WEIR_FOREVER),
                     0);
    assert_int_equal(weir_wait(rig.log, weir_end_lsn(rig.log), WEIR_DURABLE, 20000000), -ETIMEDOUT);
    check_ledger(&rig, true);

    assert_int_equal(weir_log_error(rig.log, &error), rule->error);
    assert_int_equal(error.code, rule->error);
    assert_string_not_equal(error.text, "");

    /* Told once, however often it is tried. */
    assert_true(wait_until(spoilt_often, &wanted));
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_SPACE_LOW), 1);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_SPACE_BACK), 0);
    assert_true(events_last(&rig.events, WEIR_EVENT_SPACE_LOW, &event));
    assert_int_equal(event.code, rule->error);
    assert_true(event.value <= RIG_SEGMENT); /* what is left of it */

    fault_io_heal(&rig.fault);
    assert_true(wait_until(appends_again, &wanted));
    assert_true(events_wait(&rig.events, WEIR_EVENT_SPACE_BACK, 1));
    assert_true(wait_until(error_gone, &rig));
    assert_int_equal(fill(&rig, 5000), 0);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_SPACE_LOW), 1);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_SPACE_BACK), 1);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 0);
    check_ledger(&rig, true);
    assert_int_equal(rig_close(&rig), 0);
    check_dir(&rig);
    rig_destroy(&rig);
}

/* Wherever the file system says it: at a write of zeros, at the file's creation, its sync, its
 * renaming, or the directory's sync. */
static void a_full_disk_refuses_appends_and_goes_away(void **state)
{
    (void)state;
    const struct fault_rule rules[] = {
        full_disk,
        {.kind = FAULT_WRITE, .name = "weir.prepare", .error = -EDQUOT},
        {.kind = FAULT_OPEN, .name = "weir.prepare", .error = -ENOSPC},
        {.kind = FAULT_OPEN, .name = "weir.prepare", .error = -EMFILE},
        {.kind = FAULT_SYNC, .name = "weir.prepare", .error = -ENOSPC},
        {.kind = FAULT_RENAME, .name = ".weir", .error = -ENOSPC},
        {.kind = FAULT_SYNC_DIR, .error = -ENOSPC},
        {.kind = FAULT_WRITE, .name = "weir.prepare", .error = -EIO},
        {.kind = FAULT_SYNC, .name = "weir.prepare", .error = -EIO},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        print_message("rule %zu\n", i);
        refuses_and_goes_on(&rules[i]);
    }
}

/* A close in that state closes: everything appended is durable. */
static void a_full_log_closes_clean(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    (void)fault_io_arm(&rig.fault, &full_disk);
    assert_int_equal(fill(&rig, 1), -ENOSPC);
    assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);
    assert_int_equal(weir_append(rig.log, "x", 1, 0, NULL), WEIR_ESHUTDOWN);
    assert_int_equal(rig_close(&rig), 0);
    fault_io_heal(&rig.fault);
    check_dir(&rig);
    rig_destroy(&rig);
}

/* Trimmed segments are space: no new one has to be written. */
static void trimming_makes_room_on_a_full_disk(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(fill(&rig, 1), 0); /* several segments */
    (void)fault_io_arm(&rig.fault, &full_disk);
    assert_int_equal(fill(&rig, 1000), -ENOSPC);
    assert_int_equal(weir_trim(rig.log, weir_durable_lsn(rig.log)), 0);
    struct wanted wanted = {.rig = &rig, .tag = 5000};
    assert_true(wait_until(appends_again, &wanted));
    assert_true(events_wait(&rig.events, WEIR_EVENT_SPACE_BACK, 1));
    struct weir_stats stats;
    weir_stats(rig.log, &stats);
    assert_int_not_equal(stats.segments_recycled, 0);
    check_ledger(&rig, true);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A log whose last segment is full to its last byte, and no room for another: it opens, or nobody
 * could trim it. */
static void a_full_log_opens(void **state)
{
    (void)state;
    struct rig rig;
    char name[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    for (uint64_t tag = 1; tag < RIG_SEGMENT / RIG_BLOCK; tag++) {
        assert_int_equal(rig_append(&rig, tag, 100, NULL), 0);
    }
    assert_int_equal(weir_durable_lsn(rig.log), RIG_SEGMENT);
    assert_int_equal(rig_close(&rig), 0);
    (void)snprintf(name,
                   sizeof name,
                   "%016" PRIx64 "-%016" PRIx64 ".weir",
                   RIG_SEGMENT,
                   2 * RIG_SEGMENT);
    temp_dir_join(rig.path, name, path);
    (void)unlink(path); /* what was prepared */
    fault_io_exit(&rig.fault);
    fault_io_init(&rig.fault, posix_way->queue);

    (void)fault_io_arm(&rig.fault, &full_disk);
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(rig_append(&rig, 1000, 100, NULL), -ENOSPC);
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    check_ledger(&rig, true);
    fault_io_heal(&rig.fault);
    struct wanted wanted = {.rig = &rig, .tag = 2000};
    assert_true(wait_until(appends_again, &wanted));
    check_ledger(&rig, true);
    assert_int_equal(rig_close(&rig), 0);
    check_dir(&rig);
    rig_destroy(&rig);
}

/* ---- many producers -------------------------------------------------------------------------- */

struct crowd {
    struct rig *rig;
    unsigned records;
};

static void insist(struct worker *worker)
{
    struct crowd *const crowd = worker->ctx;
    static _Thread_local uint8_t payload[RECORD_BYTES];
    for (unsigned i = 0; i < crowd->records;) {
        const uint64_t tag = (uint64_t)(worker->index + 1) << 32 | i;
        const size_t bytes = random_below(&worker->random, RECORD_BYTES) + 1;
        payload_fill(tag, payload, bytes);
        const struct weir_piece piece = {payload, bytes};
        const struct weir_record record = {&piece, 1, tag};
        const int64_t timeouts[] = {WEIR_FOREVER, WEIR_TRY, 1000000};
        const int64_t timeout_ns = timeouts[random_below(&worker->random, 3)];
        weir_lsn lsn;
        int code = weir_append_group(crowd->rig->log, &record, 1, timeout_ns, &lsn);
        if (code == 0) {
            i++;
            code = weir_wait(crowd->rig->log, lsn, WEIR_DURABLE, WEIR_FOREVER);
            if (code != 0) {
                worker_fail(worker, "wait: %s", weir_error_name(code));
            }
            ledger_add(&crowd->rig->ledger, lsn, tag, bytes);
        } else if (code != -ENOSPC && !(code == -EAGAIN && timeout_ns == WEIR_TRY) &&
                   !(code == -ETIMEDOUT && timeout_ns > 0)) {
            worker_fail(worker, "append: %s", weir_error_name(code));
            return;
        } else {
            random_pause(&worker->random);
        }
    }
}

/* Space comes and goes under many producers that do not give up. */
static void producers_live_through_space_that_comes_and_goes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct crowd crowd = {.rig = &rig, .records = 100}; /* enough to need space three times */
        struct workers workers;
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        assert_int_equal(rig_open(&rig), 0);
        struct wanted wanted = {.rig = &rig, .spoilt = 1};
        wanted.rule = fault_io_arm(&rig.fault, &full_disk);
        workers_start(&workers, 4, insist, &crowd, test_seed());
        for (unsigned turn = 1; turn <= 3; turn++) {
            assert_true(wait_until(spoilt_often, &wanted));
            fault_io_disarm(&rig.fault, wanted.rule);
            assert_true(events_wait(&rig.events, WEIR_EVENT_SPACE_BACK, turn));
            if (turn < 3) {
                wanted.rule = fault_io_arm(&rig.fault, &full_disk);
            }
        }
        workers_finish(&workers);
        assert_int_equal(rig.ledger.count, 4 * crowd.records);
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_SPACE_LOW),
                         events_count(&rig.events, WEIR_EVENT_SPACE_BACK));
        check_ledger(&rig, true);
        assert_int_equal(rig_close(&rig), 0);
        check_dir(&rig);
        rig_destroy(&rig);
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Every operation of an opening that could meet a full disk, in turn. The log may do without (the
 * live page), or refuses with that code and a sentence; the next opening finds everything. */
static void every_operation(struct rig *rig, bool reopen)
{
    static const enum fault_kind kinds[] =
        {FAULT_OPEN, FAULT_WRITE, FAULT_SYNC, FAULT_RENAME, FAULT_TRUNCATE, FAULT_SYNC_DIR};
    unsigned refused = 0;
    uint64_t tag = 1000;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (unsigned k = 0;; k++) {
            assert_true(k < 256);
            if (!reopen) {
                temp_dir_remove(rig->path);
                rig->ledger.count = 0;
            }
            const struct fault_rule rule = {.kind = kinds[i],
                                            .skip = k,
                                            .times = 1,
                                            .error = -ENOSPC};
            const unsigned armed = fault_io_arm(&rig->fault, &rule);
            const int code = rig_open(rig);
            const bool spoilt = fault_io_spoilt(&rig->fault, armed) > 0;
            fault_io_heal(&rig->fault);
            if (code != 0) {
                assert_int_equal(code, -ENOSPC);
                assert_true(spoilt);
                assert_int_equal(rig->error.code, -ENOSPC);
                assert_string_not_equal(rig->error.text, "");
                refused++;
                assert_int_equal(rig_open(rig), 0);
            }
            check_ledger(rig, true);
            struct wanted wanted = {.rig = rig, .tag = tag++};
            assert_true(wait_until(appends_again, &wanted));
            assert_int_equal(rig_close(rig), 0);
            if (!spoilt) {
                break;
            }
        }
    }
    assert_true(refused > 3);
}

static void a_full_disk_at_creation_fails_cleanly(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    every_operation(&rig, false);
    rig_destroy(&rig);
}

static void a_full_disk_at_reopening_fails_cleanly(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    assert_int_equal(rig_append(&rig, 1, 5000, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    every_operation(&rig, true);
    check_dir(&rig);
    rig_destroy(&rig);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_refuses_appends_and_goes_away),
        cmocka_unit_test(a_full_log_closes_clean),
        cmocka_unit_test(trimming_makes_room_on_a_full_disk),
        cmocka_unit_test(a_full_log_opens),
        cmocka_unit_test(producers_live_through_space_that_comes_and_goes),
        cmocka_unit_test(a_full_disk_at_creation_fails_cleanly),
        cmocka_unit_test(a_full_disk_at_reopening_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
