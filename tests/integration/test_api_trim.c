/* SPDX-License-Identifier: Apache-2.0
 * Trimming: what is given up, what is used again, what a pinning cursor holds back, and what is
 * there after reopening. */
#include "base/atomic.h"
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

#define RECORD_BYTES ((size_t)6000)

static const struct rig_way *const posix_way = &rig_ways[8];

static void append(struct rig *rig, uint64_t first_tag, unsigned count, weir_lsn *last_out)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(rig_append(rig, first_tag + i, RECORD_BYTES, last_out), 0);
    }
}

static void check_ledger(struct rig *rig)
{
    char why[256] = "";
    (void)ledger_check(&rig->ledger, rig->log, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
}

struct trimmed {
    struct rig *rig;
    weir_lsn oldest;
    uint64_t segments;
};

static bool oldest_reached(void *ctx)
{
    const struct trimmed *const trimmed = ctx;
    return weir_oldest_lsn(trimmed->rig->log) >= trimmed->oldest;
}

static bool few_segments(void *ctx)
{
    const struct trimmed *const trimmed = ctx;
    return temp_dir_count(trimmed->rig->path, ".weir") <= trimmed->segments;
}

/* ---- giving up ------------------------------------------------------------------------------- */

static void a_trim_takes_effect_at_any_position(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    weir_lsn last = 0;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 1, 100, &last);

    assert_int_equal(weir_trim(rig.log, weir_durable_lsn(rig.log) + 1), -EINVAL);
    assert_int_equal(weir_trim(rig.log, UINT64_MAX), -EINVAL);
    assert_int_equal(weir_oldest_lsn(rig.log), RIG_BLOCK);
    assert_int_equal(weir_trim(rig.log, 0), 0);
    assert_int_equal(weir_trim(rig.log, RIG_BLOCK), 0);
    assert_int_equal(weir_oldest_lsn(rig.log), RIG_BLOCK);

    /* In the middle of a record: those at or behind it stay. */
    for (size_t i = 10; i < 90; i += 20) {
        const weir_lsn before = rig.ledger.entries[i].lsn + (i % 40 == 10 ? 1 : 0);
        assert_int_equal(weir_trim(rig.log, before), 0);
        assert_int_equal(weir_oldest_lsn(rig.log), before);
        assert_int_equal(weir_trim(rig.log, before - 1), 0); /* nothing to do */
        assert_int_equal(weir_oldest_lsn(rig.log), before);
        check_ledger(&rig);
        assert_int_equal(weir_cursor_open(rig.log, before - 1, WEIR_DURABLE, 0, &cursor),
                         WEIR_EPASSED);
        assert_int_equal(weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor), 0);
        assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), 0);
        assert_int_equal(entry.lsn, rig.ledger.entries[i + (i % 40 == 10)].lsn);
        weir_cursor_close(cursor);
    }

    /* All of it: the log is empty and goes on. */
    assert_int_equal(weir_trim(rig.log, weir_durable_lsn(rig.log)), 0);
    assert_int_equal(weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor), 0);
    assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), WEIR_EEND);
    append(&rig, 1000, 1, &last);
    assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), 0);
    assert_int_equal(entry.lsn, last);
    weir_cursor_close(cursor);
    assert_int_equal(rig_close(&rig), 0);

    assert_int_equal(rig_open_plain(&rig), 0);
    assert_true(weir_oldest_lsn(rig.log) > rig.ledger.entries[99].lsn);
    check_ledger(&rig);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Trimmed segments come back as new ones; the directory stays small; nothing of the old bytes is
 * ever taken for a record. */
static void trimmed_segments_are_used_again(void **state)
{
    (void)state;
    for (unsigned way = 0; way < rig_way_count; way++) {
        struct rig rig;
        struct weir_stats stats;
        uint64_t tag = 1;
        if (!rig_way_usable(&rig_ways[way])) {
            continue;
        }
        rig_make(&rig, &rig_ways[way]);
        rig.options.recycle_segments = 2;
        for (int opening = 0; opening < 3; opening++) {
            assert_int_equal(rig_open(&rig), 0);
            check_ledger(&rig);
            for (int round = 0; round < 8; round++) {
                weir_lsn last;
                append(&rig, tag, 45, &last); /* more than a segment */
                tag += 45;
                assert_int_equal(weir_trim(rig.log, last), 0);
                check_ledger(&rig);
            }
            weir_stats(rig.log, &stats);
            assert_int_not_equal(stats.segments_recycled, 0);
            assert_int_equal(stats.trims, 8);
            /* The one in use, the one prepared, two kept, and one on its way. */
            struct trimmed trimmed = {.rig = &rig, .segments = 5};
            assert_true(wait_until(few_segments, &trimmed));
            assert_int_equal(rig_close(&rig), 0);
        }

        /* A power cut at the end: recycled files hold sound batches of their former life. */
        char crashed[TEMP_DIR_BYTES];
        char why[256] = "";
        assert_int_equal(rig_open(&rig), 0);
        append(&rig, tag, 60, NULL);
        temp_dir_make(crashed);
        fault_io_crash(&rig.fault, crashed);
        (void)ledger_check_dir(&rig.ledger, crashed, &rig.options, true, why);
        assert_string_equal(why, "");
        temp_dir_remove(crashed);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* Those that nobody will need again are removed. */
static void trimmed_segments_too_many_are_removed(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_stats stats;
    weir_lsn last;
    rig_make(&rig, posix_way);
    rig.options.recycle_segments = 1;
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 1, 400, &last); /* ten segments */
    assert_true(temp_dir_count(rig.path, ".weir") >= 10);
    weir_stats(rig.log, &stats);
    const uint64_t disk_bytes = stats.disk_bytes;
    assert_int_equal(weir_trim(rig.log, last), 0);
    struct trimmed trimmed = {.rig = &rig, .segments = 4};
    assert_true(wait_until(few_segments, &trimmed));
    weir_stats(rig.log, &stats);
    assert_true(stats.segments_removed >= 6);
    assert_true(stats.disk_bytes < disk_bytes);
    check_ledger(&rig);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- pins ------------------------------------------------------------------------------------ */

static void a_pinning_cursor_holds_back_the_trim(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *pinned;
    struct weir_cursor *loose;
    struct weir_entry entry;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 1, 200, NULL);
    assert_int_equal(
        weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_PIN, &pinned),
        0);
    assert_int_equal(weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &loose), 0);
    const weir_lsn end = weir_durable_lsn(rig.log);
    assert_int_equal(weir_trim(rig.log, end), 0);
    assert_true(weir_oldest_lsn(rig.log) <= rig.ledger.entries[0].lsn);

    /* The trim follows the cursor by itself, never past it. */
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(weir_cursor_next(pinned, WEIR_TRY, &entry), 0);
        assert_int_equal(entry.lsn, rig.ledger.entries[i].lsn);
        assert_true(payload_holds(entry.tag, entry.data, entry.bytes));
        assert_true(weir_oldest_lsn(rig.log) <= weir_cursor_lsn(pinned));
        if (i % 50 == 49) {
            struct trimmed trimmed = {.rig = &rig, .oldest = rig.ledger.entries[i - 10].lsn};
            assert_true(wait_until(oldest_reached, &trimmed));
        }
    }
    /* It holds the batch of its last record. */
    struct trimmed trimmed = {.rig = &rig, .oldest = rig.ledger.entries[198].lsn};
    assert_true(wait_until(oldest_reached, &trimmed));
    /* The one that does not pin sees what is still there, as it was, or is told that it has been
     * left behind. */
    int code = 0;
    for (size_t i = 0; i < 200 && code == 0; i++) {
        code = weir_cursor_next(loose, WEIR_TRY, &entry);
        if (code == 0) {
            assert_int_equal(entry.lsn, rig.ledger.entries[i].lsn);
            assert_true(payload_holds(entry.tag, entry.data, entry.bytes));
        }
    }
    assert_true(code == 0 || code == WEIR_EPASSED);
    weir_cursor_close(loose);
    weir_cursor_close(pinned);
    trimmed.oldest = end;
    assert_true(wait_until(oldest_reached, &trimmed));
    append(&rig, 1000, 10, NULL);
    check_ledger(&rig);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A cursor that is closed where it stands lets the trim go all the way. */
static void closing_the_cursor_lets_the_trim_go(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *pinned;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 1, 100, NULL);
    const weir_lsn from = rig.ledger.entries[40].lsn;
    assert_int_equal(weir_cursor_open(rig.log, from, WEIR_DURABLE, WEIR_CURSOR_PIN, &pinned), 0);
    struct trimmed trimmed = {.rig = &rig, .oldest = weir_durable_lsn(rig.log)};
    assert_int_equal(weir_trim(rig.log, trimmed.oldest), 0);
    assert_true(weir_oldest_lsn(rig.log) <= from); /* the batch that holds it */
    assert_true(weir_oldest_lsn(rig.log) > rig.ledger.entries[39].lsn);
    weir_cursor_close(pinned);
    assert_true(wait_until(oldest_reached, &trimmed));
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* There is room for 64 of them; the 65th is told, and room is made by closing one. */
static void pins_have_an_end(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *cursors[64];
    struct weir_cursor *one_more;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 1, 10, NULL);
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(
            weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_PIN, &cursors[i]),
            0);
    }
    assert_int_equal(
        weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_PIN, &one_more),
        -EAGAIN);
    weir_cursor_close(cursors[30]);
    assert_int_equal(
        weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_PIN, &cursors[30]),
        0);
    for (size_t i = 0; i < 64; i++) {
        weir_cursor_close(cursors[i]);
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- all at once ----------------------------------------------------------------------------- */

struct traffic {
    struct rig *rig;
    WEIR__ATOMIC(uint32_t) stop;
};

static void append_on(struct worker *worker)
{
    struct traffic *const traffic = worker->ctx;
    uint8_t payload[RECORD_BYTES];
    for (uint64_t i = 0; weir__load(&traffic->stop, acquire) == 0; i++) {
        const uint64_t tag = (uint64_t)(worker->index + 1) << 32 | i;
        const size_t bytes = random_below(&worker->random, sizeof payload);
        payload_fill(tag, payload, bytes);
        const int code = weir_append(traffic->rig->log, payload, bytes, tag, NULL);
        if (code != 0) {
            worker_fail(worker, "append: %s", weir_error_name(code));
            return;
        }
    }
}

/* Reads from the oldest, pinned: nothing may disappear under it, whatever is trimmed and recycled
 * meanwhile. */
static void read_pinned(struct worker *worker)
{
    struct traffic *const traffic = worker->ctx;
    while (weir__load(&traffic->stop, acquire) == 0) {
        struct weir_cursor *cursor;
        struct weir_entry entry;
        weir_lsn last = 0;
        int code =
            weir_cursor_open(traffic->rig->log,
                             WEIR_LSN_OLDEST,
                             WEIR_DURABLE,
                             WEIR_CURSOR_PIN | (worker->index % 2 ? WEIR_CURSOR_READ_AHEAD : 0),
                             &cursor);
        if (code != 0) {
            worker_fail(worker, "cursor: %s", weir_error_name(code));
            return;
        }
        for (int i = 0; i < 300; i++) {
            code = weir_cursor_next(cursor, 1000000, &entry);
            if (code == WEIR_EEND) {
                break;
            }
            if (code != 0 || entry.lsn <= last ||
                !payload_holds(entry.tag, entry.data, entry.bytes)) {
                struct weir_error error;
                (void)weir_cursor_error(cursor, &error);
                worker_fail(worker,
                            "record after LSN %" PRIu64 ": %s %s",
                            last,
                            weir_error_name(code),
                            error.text);
                break;
            }
            last = entry.lsn;
        }
        weir_cursor_close(cursor);
    }
}

static void trim_on(struct worker *worker)
{
    struct traffic *const traffic = worker->ctx;
    struct weir_log *const log = traffic->rig->log;
    while (weir__load(&traffic->stop, acquire) == 0) {
        const weir_lsn durable = weir_durable_lsn(log);
        const weir_lsn oldest = weir_oldest_lsn(log);
        const weir_lsn before = oldest + random_below(&worker->random, durable - oldest + 1);
        const int code = weir_trim(log, before);
        if (code != 0) {
            worker_fail(worker, "trim: %s", weir_error_name(code));
            return;
        }
        if (weir_oldest_lsn(log) > weir_durable_lsn(log)) {
            worker_fail(worker, "trimmed beyond what is durable");
        }
        random_pause(&worker->random);
    }
}

struct grown {
    struct rig *rig;
    uint64_t recycled;
};

static bool recycled_enough(void *ctx)
{
    const struct grown *const grown = ctx;
    struct weir_stats stats;
    weir_stats(grown->rig->log, &stats);
    return stats.segments_recycled >= grown->recycled;
}

static void pinned_readers_live_through_trims_and_recycling(void **state)
{
    (void)state;
    struct rig rig;
    struct traffic traffic = {.rig = &rig};
    struct workers appenders;
    struct workers readers;
    struct workers trimmer;
    rig_make(&rig, &rig_ways[0]);
    rig.options.slots = 6;
    assert_int_equal(rig_open_plain(&rig), 0);
    workers_start(&appenders, 2, append_on, &traffic, test_seed());
    workers_start(&readers, 3, read_pinned, &traffic, test_seed() + 1);
    workers_start(&trimmer, 1, trim_on, &traffic, test_seed() + 2);
    struct grown grown = {&rig, test_rounds(60)};
    const bool enough = wait_until(recycled_enough, &grown);
    weir__store(&traffic.stop, 1u, release);
    workers_finish(&appenders);
    workers_finish(&readers);
    workers_finish(&trimmer);
    assert_true(enough);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trim_takes_effect_at_any_position),
        cmocka_unit_test(trimmed_segments_are_used_again),
        cmocka_unit_test(trimmed_segments_too_many_are_removed),
        cmocka_unit_test(a_pinning_cursor_holds_back_the_trim),
        cmocka_unit_test(closing_the_cursor_lets_the_trim_go),
        cmocka_unit_test(pins_have_an_end),
        cmocka_unit_test(pinned_readers_live_through_trims_and_recycling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
