/* SPDX-License-Identifier: Apache-2.0
 * Appending and waiting as a user does it: every size, groups, levels, limits, and what comes back
 * by a cursor. */
#include "format/frame.h"
#include "port/clock.h"
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEADER 96u
#define FRAME 24u
#define SOON_NS INT64_C(20000000)

static void open_rig(struct rig *rig, enum weir_io io)
{
    for (unsigned i = 0; i < rig_way_count; i++) {
        if (rig_ways[i].io == io) {
            rig_make(rig, &rig_ways[i]);
            assert_int_equal(rig_open_plain(rig), 0);
            return;
        }
    }
    fail();
}

/* ---- records --------------------------------------------------------------------------------- */

/* Sizes around everything that has an edge, tags around everything that has one. */
static void every_size_and_tag_comes_back(void **state)
{
    (void)state;
    static uint8_t payload[60000];
    static const size_t sizes[] = {0,     1,     7,     8,     9,     23,   24,
                                   25,    4071,  4072,  4095,  4096,  4097, 16263,
                                   16264, 16265, 16383, 16384, 20000, 60000};
    static const uint64_t tags[] = {0,
                                    1,
                                    UINT64_MAX,
                                    UINT64_C(1) << 63,
                                    UINT64_C(0x0123456789abcdef)};
    struct rig rig;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    open_rig(&rig, WEIR_IO_AUTO);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        weir_lsn lsn = 0;
        const uint64_t tag = tags[i % 5];
        payload_fill(tag, payload, sizes[i]);
        assert_int_equal(weir_append(rig.log, sizes[i] > 0 ? payload : NULL, sizes[i], tag, &lsn),
                         0);
        assert_true(lsn > RIG_BLOCK);
        ledger_add(&rig.ledger, lsn, tag, sizes[i]);
    }
    assert_int_equal(weir_append(rig.log, NULL, 0, 5, NULL), 0); /* nobody asks where */
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    assert_int_equal(weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor), 0);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), 0);
        assert_int_equal(entry.lsn, rig.ledger.entries[i].lsn);
        assert_int_equal(entry.tag, tags[i % 5]);
        assert_int_equal(entry.bytes, sizes[i]);
        assert_int_equal(entry.epoch, 1);
        assert_false(entry.more);
        assert_true(payload_holds(entry.tag, entry.data, entry.bytes));
    }
    assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), 0);
    assert_int_equal(entry.tag, 5);
    assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), WEIR_EEND);
    weir_cursor_close(cursor);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Pieces are joined, empty ones and none at all included. */
static void pieces_are_joined(void **state)
{
    (void)state;
    uint8_t payload[1000];
    struct weir_piece pieces[64];
    struct rig rig;
    struct random random = {test_seed()};
    open_rig(&rig, WEIR_IO_POSIX);
    for (uint64_t tag = 0; tag < 200; tag++) {
        payload_fill(tag, payload, sizeof payload);
        size_t count = random_below(&random, 64);
        size_t done = 0;
        for (size_t i = 0; i < count; i++) {
            size_t bytes = random_below(&random, 40);
            bytes = bytes < sizeof payload - done ? bytes : sizeof payload - done;
            pieces[i] = (struct weir_piece){bytes > 0 ? payload + done : NULL, bytes};
            done += bytes;
        }
        weir_lsn lsn;
        assert_int_equal(weir_appendv(rig.log, count > 0 ? pieces : NULL, count, tag, &lsn), 0);
        ledger_add(&rig.ledger, lsn, tag, done);
    }
    char why[256] = "";
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    (void)ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
    rig_destroy(&rig);
}

static void nonsense_is_refused_without_a_trace(void **state)
{
    (void)state;
    struct rig rig;
    weir_lsn lsn = 77;
    open_rig(&rig, WEIR_IO_POSIX);
    const weir_lsn end = weir_end_lsn(rig.log);
    const struct weir_piece null_piece = {NULL, 1};
    const struct weir_piece huge[] = {{"x", SIZE_MAX}, {"x", 2}};
    const struct weir_record null_record = {&null_piece, 1, 0};
    const struct weir_record no_pieces = {NULL, 1, 0};
    const struct weir_record overflow = {huge, 2, 0};
    assert_int_equal(weir_append(rig.log, NULL, 1, 0, &lsn), -EINVAL);
    assert_int_equal(weir_appendv(rig.log, NULL, 1, 0, &lsn), -EINVAL);
    assert_int_equal(weir_append_group(rig.log, NULL, 1, WEIR_TRY, &lsn), -EINVAL);
    assert_int_equal(weir_append_group(rig.log, &null_record, 0, WEIR_TRY, &lsn), -EINVAL);
    assert_int_equal(weir_append_group(rig.log, &null_record, 1, WEIR_TRY, &lsn), -EINVAL);
    assert_int_equal(weir_append_group(rig.log, &no_pieces, 1, WEIR_TRY, &lsn), -EINVAL);
    assert_int_equal(weir_append_group(rig.log, &overflow, 1, WEIR_TRY, &lsn), -EINVAL);
    assert_int_equal(lsn, 77);
    assert_int_equal(weir_append_wait(rig.log, "x", 1, 0, (enum weir_level)3, &lsn), -EINVAL);
    assert_int_equal(weir_append_wait(rig.log, NULL, 1, 0, WEIR_DURABLE, &lsn), -EINVAL);
    assert_int_equal(lsn, WEIR_LSN_NONE);
    assert_int_equal(weir_wait(rig.log, 1, (enum weir_level)3, WEIR_TRY), -EINVAL);
    struct weir_cursor *cursor;
    assert_int_equal(weir_cursor_open(rig.log, 0, (enum weir_level)3, 0, &cursor), -EINVAL);
    assert_int_equal(weir_cursor_open(rig.log, 0, WEIR_DURABLE, 4, &cursor), -EINVAL);
    assert_int_equal(weir_cursor_open(rig.log, 0, WEIR_DURABLE, 0, NULL), -EINVAL);
    assert_int_equal(weir_end_lsn(rig.log), end);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static uint8_t zeros[1 << 20];

/* To the last byte: one record, one group, through a slot or an oversize buffer, up to what an
 * empty segment holds. */
static void the_largest_record_fits_and_one_byte_more_does_not(void **state)
{
    (void)state;
    static const uint32_t limits[] =
        {1, 100, 16264, 16265, 65536, RIG_SEGMENT - RIG_BLOCK - 96 - 24 - 8};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct rig rig;
        weir_lsn lsn;
        char why[256] = "";
        rig_make(&rig, &rig_ways[8]);
        rig.options.record_bytes_max = limits[i];
        assert_int_equal(rig_open_plain(&rig), 0);
        for (int round = 0; round < 3; round++) {
            assert_int_equal(rig_append(&rig, 1, limits[i], &lsn), 0);
            assert_int_equal(weir_append(rig.log, zeros, limits[i] + 1, 0, &lsn), WEIR_ETOOBIG);
            assert_int_equal(weir_append_wait(rig.log, zeros, limits[i] + 1, 0, WEIR_DURABLE, &lsn),
                             WEIR_ETOOBIG);
            assert_int_equal(lsn, WEIR_LSN_NONE);
        }
        (void)ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why);
        assert_string_equal(why, "");
        assert_int_equal(rig_close(&rig), 0);
        assert_true(ledger_check_dir(&rig.ledger, rig.path, &rig.options, true, why));
        rig_destroy(&rig);
    }
}

/* Slots may be larger than a segment. Then the segment is the limit, and nothing else happens than
 * a refusal. */
static void a_group_larger_than_a_segment_is_refused(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, &rig_ways[8]);
    rig.options.segment_bytes = 65536;
    rig.options.slot_bytes = 1 << 20;
    rig.options.record_bytes_max = 0;
    assert_int_equal(rig_open_plain(&rig), 0);
    const uint64_t room = 65536 - RIG_BLOCK - HEADER;
    for (size_t bytes = 1000; bytes < 40000; bytes += 1000) {
        const struct weir_piece piece = {zeros, bytes};
        const struct weir_record group[3] = {{&piece, 1, 1}, {&piece, 1, 2}, {&piece, 1, 3}};
        const uint64_t span = 3 * (FRAME + (bytes + 7) / 8 * 8);
        assert_int_equal(weir_append_group(rig.log, group, 3, WEIR_FOREVER, NULL),
                         span <= room ? 0 : WEIR_ETOOBIG);
    }
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- groups ---------------------------------------------------------------------------------- */

#define GROUP_MAX 200u

static void groups_stand_together_in_order(void **state)
{
    (void)state;
    static uint8_t payload[GROUP_MAX][300];
    static struct weir_piece pieces[GROUP_MAX];
    static struct weir_record records[GROUP_MAX];
    static weir_lsn lsns[GROUP_MAX];
    struct random random = {test_seed()};
    struct rig rig;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    open_rig(&rig, WEIR_IO_AUTO);
    const size_t counts[] = {1, 2, 3, 127, 128, 129, 130, 200};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        for (size_t j = 0; j < counts[i]; j++) {
            const size_t bytes = random_below(&random, sizeof payload[0] + 1);
            payload_fill(j, payload[j], bytes);
            pieces[j] = (struct weir_piece){payload[j], bytes};
            records[j] = (struct weir_record){&pieces[j], 1, j};
        }
        assert_int_equal(weir_append_group(rig.log, records, counts[i], WEIR_FOREVER, lsns), 0);
        assert_int_equal(weir_wait(rig.log, lsns[counts[i] - 1], WEIR_DURABLE, WEIR_FOREVER), 0);
        assert_int_equal(weir_cursor_open(rig.log, lsns[0], WEIR_DURABLE, 0, &cursor), 0);
        struct weir_batch_info first_batch;
        for (size_t j = 0; j < counts[i]; j++) {
            struct weir_batch_info batch;
            if (j > 0) {
                assert_int_equal(lsns[j], lsns[j - 1] + FRAME + (pieces[j - 1].bytes + 7) / 8 * 8);
            }
            assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), 0);
            assert_int_equal(entry.lsn, lsns[j]);
            assert_int_equal(entry.tag, j);
            assert_int_equal(entry.more, j + 1 < counts[i]);
            assert_int_equal(entry.bytes, pieces[j].bytes);
            assert_true(payload_holds(j, entry.data, entry.bytes));
            assert_int_equal(weir_cursor_batch(cursor, &batch), 0);
            if (j == 0) {
                first_batch = batch;
            }
            assert_int_equal(batch.lsn, first_batch.lsn); /* one batch: all or none */
        }
        weir_cursor_close(cursor);
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

static void a_group_beyond_the_limits_is_refused_whole(void **state)
{
    (void)state;
    struct rig rig;
    weir_lsn lsns[2] = {7, 7};
    open_rig(&rig, WEIR_IO_POSIX); /* slots of 16 KiB, records up to 64 KiB */
    const struct weir_piece half = {zeros, 32768 - FRAME};
    const struct weir_piece most = {zeros, 32768};
    const struct weir_piece more = {zeros, 32769};
    const struct weir_piece beyond = {zeros, 65537};
    const struct weir_record fits[2] = {{&half, 1, 0}, {&most, 1, 0}};
    const struct weir_record too_big[2] = {{&half, 1, 0}, {&more, 1, 0}};
    const struct weir_record one_too_big[2] = {{&beyond, 1, 0}, {NULL, 0, 0}};
    assert_int_equal(weir_append_group(rig.log, fits, 2, WEIR_FOREVER, lsns), 0);
    assert_int_equal(lsns[1], lsns[0] + 32768);
    lsns[0] = lsns[1] = 7;
    const weir_lsn end = weir_end_lsn(rig.log);
    assert_int_equal(weir_append_group(rig.log, too_big, 2, WEIR_FOREVER, lsns), WEIR_ETOOBIG);
    assert_int_equal(weir_append_group(rig.log, one_too_big, 2, WEIR_FOREVER, lsns), WEIR_ETOOBIG);
    assert_int_equal(lsns[0], 7);
    assert_int_equal(lsns[1], 7);
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    assert_true(weir_end_lsn(rig.log) - end <
                RIG_BLOCK); /* at most the padding of what was there */
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A power cut at any moment: of every group all records are there, or none. */
struct atomic_groups {
    struct rig *rig;
    WEIR__ATOMIC(uint32_t) stop;
};

static void append_groups(struct worker *worker)
{
    struct atomic_groups *const shared = worker->ctx;
    uint8_t payload[500];
    struct weir_piece pieces[8];
    struct weir_record records[8];
    uint64_t number = (uint64_t)(worker->index + 1) << 32;
    while (weir__load(&shared->stop, acquire) == 0) {
        const size_t count = 1 + random_below(&worker->random, 8);
        const bool large = random_below(&worker->random, 8) == 0;
        number += 16;
        for (size_t i = 0; i < count; i++) {
            /* The tag names the group, the place in it, and how many there are. */
            const size_t bytes = large ? 6000 : random_below(&worker->random, sizeof payload);
            pieces[i] = (struct weir_piece){large ? zeros : payload, bytes};
            records[i] = (struct weir_record){&pieces[i], 1, (number | i) << 4 | (count - 1)};
        }
        const int code = weir_append_group(shared->rig->log, records, count, WEIR_FOREVER, NULL);
        if (code != 0) {
            worker_fail(worker, "group: %s", weir_error_name(code));
            return;
        }
        random_pause(&worker->random);
    }
}

static void check_groups(const char *path, const struct weir_options *options)
{
    struct weir_options o = *options;
    struct weir_log *log;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    o.on_event = NULL;
    o.io = WEIR_IO_POSIX;
    assert_int_equal(weir_open(path, &o, &log, NULL), 0);
    assert_int_equal(weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor), 0);
    uint64_t due = 0;
    uint64_t left = 0;
    int code;
    while ((code = weir_cursor_next(cursor, WEIR_TRY, &entry)) == 0) {
        const uint64_t count = (entry.tag & 15) + 1;
        if (left == 0) {
            due = entry.tag;
            left = count;
            assert_int_equal(entry.tag >> 4 & 15, 0); /* begins with its first */
        }
        assert_int_equal(entry.tag, due);
        due += 16;
        left--;
        assert_int_equal(entry.more, left > 0);
    }
    assert_int_equal(code, WEIR_EEND);
    assert_int_equal(left, 0);
    weir_cursor_close(cursor);
    assert_int_equal(weir_close(log, NULL), 0);
}

static void a_power_cut_leaves_whole_groups(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct atomic_groups shared = {.rig = &rig};
        struct workers workers;
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        rig.fault.jitter = test_seed() | 1;
        assert_int_equal(rig_open(&rig), 0);
        workers_start(&workers, 4, append_groups, &shared, test_seed());
        for (unsigned cut = 0; cut < test_rounds(5); cut++) {
            char crashed[TEMP_DIR_BYTES];
            weir__sleep_ns(3000000);
            temp_dir_make(crashed);
            fault_io_crash(&rig.fault, crashed);
            check_groups(crashed, &rig.options);
            temp_dir_remove(crashed);
        }
        weir__store(&shared.stop, 1u, release);
        workers_finish(&workers);
        assert_int_equal(rig_close(&rig), 0);
        check_groups(rig.path, &rig.options);
        rig_destroy(&rig);
    }
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void append_wait_takes_every_level(void **state)
{
    (void)state;
    static const enum weir_io ios[] = {WEIR_IO_AUTO, WEIR_IO_CHAIN, WEIR_IO_DSYNC, WEIR_IO_POSIX};
    for (size_t i = 0; i < 4; i++) {
        struct rig rig;
        weir_lsn lsn;
        if (ios[i] != WEIR_IO_POSIX && !fault_io_has_ring()) {
            continue;
        }
        open_rig(&rig, ios[i]);
        for (int round = 0; round < 20; round++) {
            assert_int_equal(weir_append_wait(rig.log, "abc", 3, 0, WEIR_APPENDED, &lsn), 0);
            assert_true(lsn > RIG_BLOCK);
            assert_int_equal(weir_append_wait(rig.log, "abc", 3, 0, WEIR_WRITTEN, &lsn), 0);
            assert_true(lsn < weir_written_lsn(rig.log));
            assert_int_equal(weir_append_wait(rig.log, "abc", 3, 0, WEIR_DURABLE, &lsn), 0);
            assert_true(lsn < weir_durable_lsn(rig.log));
            assert_true(weir_durable_lsn(rig.log) <= weir_written_lsn(rig.log));
            assert_int_equal(weir_append_wait(rig.log, "abc", 3, 0, WEIR_DURABLE, NULL), 0);
        }
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* No position falls, in whatever moment it is looked at, and none is behind what its caller knows.
 */
struct positions {
    struct rig *rig;
    WEIR__ATOMIC(uint32_t) stop;
};

static void move_positions(struct worker *worker)
{
    struct positions *const positions = worker->ctx;
    struct weir_log *const log = positions->rig->log;
    while (weir__load(&positions->stop, acquire) == 0) {
        weir_lsn lsn;
        const size_t bytes = random_below(&worker->random, 20000); /* some beyond a slot */
        const enum weir_level level = (enum weir_level)random_below(&worker->random, 3);
        const int code = weir_append_wait(log, zeros, bytes, 0, level, &lsn);
        if (code != 0) {
            worker_fail(worker, "append: %s", weir_error_name(code));
            return;
        }
        if (weir_end_lsn(log) <= lsn) {
            worker_fail(worker, "the end lies before LSN %" PRIu64 ", which was appended", lsn);
        }
    }
}

static void positions_never_fall(void **state)
{
    (void)state;
    struct rig rig;
    struct positions positions = {.rig = &rig};
    struct workers workers;
    weir_lsn last[3] = {0};
    unsigned fell = 0;
    open_rig(&rig, WEIR_IO_AUTO);
    workers_start(&workers, 4, move_positions, &positions, test_seed());
    for (unsigned look = 0; look < test_rounds(200000); look++) {
        const weir_lsn now[3] = {weir_durable_lsn(rig.log),
                                 weir_written_lsn(rig.log),
                                 weir_end_lsn(rig.log)};
        for (int i = 0; i < 3; i++) {
            fell += now[i] < last[i];
            last[i] = now[i];
        }
        if (look % 64 == 0) {
            weir__sleep_ns(10000);
        }
    }
    weir__store(&positions.stop, 1u, release);
    const bool good = workers_join(&workers);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
    assert_true(good);
    assert_int_equal(fell, 0);
}

/* With a sync that hangs: written comes, durable does not. */
static void written_does_not_wait_for_the_sync(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        weir_lsn lsn;
        if (rig_ways[i].io != WEIR_IO_CHAIN || !rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        assert_int_equal(rig_open(&rig), 0);
        (void)fault_io_arm(&rig.fault,
                           &(struct fault_rule){.kind = FAULT_SYNC, .name = ".weir", .hold = true});
        assert_int_equal(weir_append_wait(rig.log, "abc", 3, 0, WEIR_WRITTEN, &lsn), 0);
        assert_true(fault_io_wait_held(&rig.fault, 1));
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, SOON_NS), -ETIMEDOUT);
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, WEIR_TRY), -EAGAIN);
        assert_int_equal(weir_sync(rig.log, SOON_NS), -ETIMEDOUT);
        assert_true(weir_written_lsn(rig.log) > lsn);
        assert_true(weir_durable_lsn(rig.log) < lsn);
        fault_io_release(&rig.fault);
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, WEIR_FOREVER), 0);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* Positions that nobody has appended yet: inside the block that was just written, in the next slot,
 * far away. */
static void waits_for_the_future_end_by_time_or_by_records(void **state)
{
    (void)state;
    struct rig rig;
    weir_lsn lsn;
    open_rig(&rig, WEIR_IO_AUTO);
    static const enum weir_level levels[] = {WEIR_DURABLE, WEIR_WRITTEN, WEIR_APPENDED};
    for (int round = 0; round < 4; round++) {
        assert_int_equal(weir_append_wait(rig.log, "abc", 3, 0, WEIR_DURABLE, &lsn), 0);
        for (size_t i = 0; i < 3; i++) {
            const weir_lsn end = weir_end_lsn(rig.log);
            assert_int_equal(weir_wait(rig.log, end, levels[i], WEIR_TRY), -EAGAIN);
            assert_int_equal(weir_wait(rig.log, end, levels[i], SOON_NS), -ETIMEDOUT);
            assert_int_equal(weir_wait(rig.log, end + 10, levels[i], SOON_NS), -ETIMEDOUT);
            assert_int_equal(weir_wait(rig.log, end + 20000, levels[i], SOON_NS), -ETIMEDOUT);
            assert_int_equal(weir_wait(rig.log, UINT64_MAX, levels[i], SOON_NS), -ETIMEDOUT);
            assert_int_equal(weir_wait(rig.log, lsn, levels[i], WEIR_TRY), 0);
            assert_int_equal(weir_wait(rig.log, 0, levels[i], WEIR_TRY), 0);
        }
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

struct future {
    struct weir_log *log;
    weir_lsn lsn;
    enum weir_level level;
};

static void wait_for_future(struct worker *worker)
{
    struct future *const future = worker->ctx;
    const weir_lsn lsn = future->lsn + worker->index * 5000;
    const int code = weir_wait(future->log, lsn, future->level, WEIR_FOREVER);
    if (code != 0) {
        worker_fail(worker, "wait: %s", weir_error_name(code));
    }
    const weir_lsn reached = future->level == WEIR_DURABLE ? weir_durable_lsn(future->log)
                                                           : weir_written_lsn(future->log);
    if (future->level != WEIR_APPENDED && reached <= lsn) {
        worker_fail(worker, "woken at %" PRIu64 ", before %" PRIu64, reached, lsn);
    }
}

static void waiters_for_the_future_are_woken_when_it_comes(void **state)
{
    (void)state;
    for (enum weir_level level = WEIR_DURABLE; level <= WEIR_APPENDED; level++) {
        struct rig rig;
        struct workers workers;
        open_rig(&rig, WEIR_IO_AUTO);
        assert_int_equal(weir_append_wait(rig.log, "abc", 3, 0, WEIR_DURABLE, NULL), 0);
        struct future future = {rig.log, weir_end_lsn(rig.log) + 100, level};
        workers_start(&workers, 8, wait_for_future, &future, test_seed());
        for (int i = 0; i < 30; i++) {
            assert_int_equal(weir_append_wait(rig.log, zeros, 3000, 0, WEIR_DURABLE, NULL), 0);
        }
        workers_finish(&workers);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* A cursor at the tail waits as long as it was told, and wakes for the next record. */
struct tail {
    struct rig *rig;
    unsigned records;
};

static void follow(struct worker *worker)
{
    struct tail *const tail = worker->ctx;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    int code = weir_cursor_open(tail->rig->log,
                                WEIR_LSN_OLDEST,
                                (enum weir_level)(worker->index % 3),
                                worker->index >= 3 ? WEIR_CURSOR_PIN : 0,
                                &cursor);
    if (code != 0) {
        worker_fail(worker, "open: %s", weir_error_name(code));
        return;
    }
    for (uint64_t i = 0; i < tail->records; i++) {
        code = weir_cursor_next(cursor, WEIR_FOREVER, &entry);
        if (code != 0 || entry.tag != i || !payload_holds(i, entry.data, entry.bytes)) {
            worker_fail(worker, "record %" PRIu64 ": %s", i, weir_error_name(code));
            break;
        }
    }
    code = weir_cursor_next(cursor, 10000000, &entry);
    if (code != WEIR_EEND) {
        worker_fail(worker, "behind the last: %s", weir_error_name(code));
    }
    code = weir_cursor_next(cursor, WEIR_TRY, &entry);
    if (code != WEIR_EEND) {
        worker_fail(worker, "behind the last, trying: %s", weir_error_name(code));
    }
    weir_cursor_close(cursor);
}

static void cursors_follow_the_tail(void **state)
{
    (void)state;
    struct rig rig;
    struct tail tail = {.rig = &rig, .records = test_rounds(300)};
    struct workers workers;
    struct random random = {test_seed()};
    open_rig(&rig, WEIR_IO_AUTO);
    workers_start(&workers, 6, follow, &tail, test_seed());
    for (uint64_t i = 0; i < tail.records; i++) {
        uint8_t payload[3000];
        const size_t bytes = random_below(&random, sizeof payload);
        payload_fill(i, payload, bytes);
        assert_int_equal(weir_append(rig.log, payload, bytes, i, NULL), 0);
        random_pause(&random);
    }
    workers_finish(&workers);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* sync covers what this thread saw return, whoever appended it; on an idle log it is nothing. */
static void sync_covers_everything_before_it(void **state)
{
    (void)state;
    struct rig rig;
    weir_lsn lsn = 0;
    open_rig(&rig, WEIR_IO_AUTO);
    assert_int_equal(weir_sync(rig.log, WEIR_TRY), 0);
    assert_int_equal(weir_sync(rig.log, SOON_NS), 0);
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < round; i++) {
            assert_int_equal(weir_append(rig.log, zeros, (size_t)i * 97, 0, &lsn), 0);
        }
        assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
        assert_true(weir_durable_lsn(rig.log) > lsn || round == 0);
        assert_int_equal(weir_sync(rig.log, WEIR_TRY), 0);
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Appends that take turns: each begins when the one before, on another thread, has returned. */
struct turns {
    struct weir_log *log;
    weir_lsn *lsns;
    uint32_t count;
    WEIR__ATOMIC(uint32_t) next;
};

#define TURN_THREADS 3u

static void append_in_turn(struct worker *worker)
{
    struct turns *const turns = worker->ctx;
    for (;;) {
        const uint32_t turn = weir__load(&turns->next, acquire);
        if (turn >= turns->count) {
            return;
        }
        if (turn % TURN_THREADS != worker->index) {
            (void)sched_yield();
            continue;
        }
        const size_t bytes = random_below(&worker->random, 20000); /* some beyond a slot */
        const int code = weir_append(turns->log, zeros, bytes, turn, &turns->lsns[turn]);
        if (code != 0) {
            worker_fail(worker, "append: %s", weir_error_name(code));
            weir__store(&turns->next, turns->count, release);
            return;
        }
        weir__store(&turns->next, turn + 1, release);
    }
}

/* And a sync covers what others appended, once it was seen to have returned. */
static void an_append_after_another_has_the_higher_lsn(void **state)
{
    (void)state;
    static weir_lsn lsns[1000];
    struct rig rig;
    open_rig(&rig, WEIR_IO_AUTO);
    struct turns turns = {rig.log, lsns, test_rounds(1000), 0};
    turns.count = turns.count < 1000 ? turns.count : 1000;
    workers_run(TURN_THREADS, append_in_turn, &turns, test_seed());
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    assert_true(weir_durable_lsn(rig.log) > lsns[turns.count - 1]);
    for (uint32_t i = 1; i < turns.count; i++) {
        assert_true(lsns[i] > lsns[i - 1]);
    }
    struct weir_cursor *cursor;
    struct weir_entry entry;
    assert_int_equal(weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor), 0);
    for (uint32_t i = 0; i < turns.count; i++) {
        assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), 0);
        assert_int_equal(entry.lsn, lsns[i]);
        assert_int_equal(entry.tag, i);
    }
    weir_cursor_close(cursor);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A durable write whose bytes got there and whose flush failed: with dsync and posix nothing says
 * that the kernel has it, so it is not written. Nor is the append's LSN kept from who waited. */
static void with_durable_writes_written_comes_with_durable(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        weir_lsn lsn = 1;
        if ((rig_ways[i].io != WEIR_IO_DSYNC && rig_ways[i].io != WEIR_IO_POSIX) ||
            !rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        assert_int_equal(rig_open(&rig), 0);
        assert_int_equal(weir_append_wait(rig.log, "x", 1, 0, WEIR_WRITTEN, NULL), 0);
        assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
        const weir_lsn durable = weir_durable_lsn(rig.log);
        assert_int_equal(weir_written_lsn(rig.log), durable);
        (void)fault_io_arm(&rig.fault,
                           &(struct fault_rule){.kind = FAULT_WRITE,
                                                .name = ".weir",
                                                .error = -EIO,
                                                .afterwards = true});
        assert_int_equal(weir_append_wait(rig.log, "x", 1, 0, WEIR_WRITTEN, &lsn), WEIR_EFAILED);
        assert_int_equal(lsn, durable + HEADER);
        assert_int_equal(weir_written_lsn(rig.log), durable);
        assert_int_equal(weir_durable_lsn(rig.log), durable);
        fault_io_heal(&rig.fault);
        assert_int_equal(rig_close(&rig), WEIR_EFAILED);
        rig_destroy(&rig);
    }
}

/* While the device hangs: an append is a matter of memory, a try is no wait. */
static void an_append_does_not_wait_for_the_device(void **state)
{
    (void)state;
    struct rig rig;
    weir_lsn lsn;
    rig_make(&rig, &rig_ways[8]);
    assert_int_equal(rig_open(&rig), 0);
    static const enum fault_kind kinds[] = {FAULT_OPEN,
                                            FAULT_READ,
                                            FAULT_WRITE,
                                            FAULT_SYNC,
                                            FAULT_RENAME};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        (void)fault_io_arm(&rig.fault, &(struct fault_rule){.kind = kinds[i], .hold = true});
    }
    assert_int_equal(weir_append(rig.log, "x", 1, 0, &lsn), 0);
    assert_true(fault_io_wait_held(&rig.fault, 1));
    assert_int_equal(weir_append_wait(rig.log, "x", 1, 0, WEIR_APPENDED, &lsn), 0);
    assert_int_equal(weir_append(rig.log, zeros, 40000, 0, &lsn), 0);
    assert_int_equal(weir_sync(rig.log, WEIR_TRY), -ETIMEDOUT);
    assert_int_equal(weir_sync(rig.log, SOON_NS), -ETIMEDOUT);
    assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, WEIR_TRY), -EAGAIN);
    fault_io_release(&rig.fault);
    assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, WEIR_FOREVER), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_and_tag_comes_back),
        cmocka_unit_test(pieces_are_joined),
        cmocka_unit_test(nonsense_is_refused_without_a_trace),
        cmocka_unit_test(the_largest_record_fits_and_one_byte_more_does_not),
        cmocka_unit_test(a_group_larger_than_a_segment_is_refused),
        cmocka_unit_test(groups_stand_together_in_order),
        cmocka_unit_test(a_group_beyond_the_limits_is_refused_whole),
        cmocka_unit_test(a_power_cut_leaves_whole_groups),
        cmocka_unit_test(append_wait_takes_every_level),
        cmocka_unit_test(positions_never_fall),
        cmocka_unit_test(written_does_not_wait_for_the_sync),
        cmocka_unit_test(waits_for_the_future_end_by_time_or_by_records),
        cmocka_unit_test(waiters_for_the_future_are_woken_when_it_comes),
        cmocka_unit_test(cursors_follow_the_tail),
        cmocka_unit_test(sync_covers_everything_before_it),
        cmocka_unit_test(an_append_after_another_has_the_higher_lsn),
        cmocka_unit_test(with_durable_writes_written_comes_with_durable),
        cmocka_unit_test(an_append_does_not_wait_for_the_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
