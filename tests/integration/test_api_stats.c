/* SPDX-License-Identifier: Apache-2.0
 * Counters that can be reckoned are exactly what was done; the others keep their relations, and
 * none ever falls. And the events of a healthy life. */
#include "base/atomic.h"
#include "port/clock.h"
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
#include <sys/stat.h>

#include <cmocka.h>

#define HEADER 96u
#define FRAME 24u

static const struct rig_way *const posix_way = &rig_ways[8];

struct counted {
    struct rig *rig;
    uint64_t batches;
};

/* The flusher counts just after it has woken those who wait. */
static bool all_counted(void *ctx)
{
    const struct counted *const counted = ctx;
    struct weir_stats stats;
    weir_stats(counted->rig->log, &stats);
    return stats.batches_durable == counted->batches;
}

/* ---- exact ----------------------------------------------------------------------------------- */

/* One record at a time, each waited for: a batch, a write and a sync each. */
static void lone_appends_are_counted_exactly(void **state)
{
    (void)state;
    for (unsigned way = 0; way < rig_way_count; way++) {
        struct rig rig;
        struct weir_stats s;
        struct weir_log_info info;
        uint64_t frames = 0;
        uint64_t blocks = 0;
        if (!rig_way_usable(&rig_ways[way])) {
            continue;
        }
        rig_make(&rig, &rig_ways[way]);
        rig.options.segment_bytes = 4 * RIG_SEGMENT;
        assert_int_equal(rig_open(&rig), 0);
        weir_stats(rig.log, &s);
        assert_int_equal(s.appends, 0);
        assert_int_equal(s.batches, 0);
        assert_int_equal(s.write_bytes, 0);
        assert_int_equal(s.syncs, 0);
        const uint64_t after = fault_io_now(&rig.fault);
        for (uint64_t i = 0; i < 100; i++) {
            const size_t bytes = (size_t)i * 61;
            assert_int_equal(rig_append(&rig, i, bytes, NULL), 0);
            const uint64_t span = FRAME + (bytes + 7) / 8 * 8;
            frames += span;
            blocks += (HEADER + span + RIG_BLOCK - 1) / RIG_BLOCK;
        }
        struct counted counted = {&rig, 100};
        assert_true(wait_until(all_counted, &counted));
        weir_stats(rig.log, &s);
        weir_log_describe(rig.log, &info);
        assert_int_equal(s.appends, 100);
        assert_int_equal(s.frame_bytes, frames);
        assert_int_equal(s.batches, 100);
        assert_int_equal(s.header_bytes, 100 * HEADER);
        assert_int_equal(s.padding_bytes, blocks * RIG_BLOCK - frames - 100 * HEADER);
        assert_int_equal(s.write_bytes, blocks * RIG_BLOCK);
        assert_int_equal(weir_durable_lsn(rig.log), RIG_BLOCK + blocks * RIG_BLOCK);
        assert_int_equal(s.batches_sealed_idle, 100);
        assert_int_equal(s.batches_sealed_full, 0);
        assert_int_equal(s.batches_oversize, 0);
        assert_int_equal(s.writes, 100);
        assert_int_equal(s.writes_short, 0);
        assert_int_equal(s.syncs, 100);
        assert_int_equal(s.chains, rig.way->io == WEIR_IO_CHAIN ? 100 : 0);
        assert_int_equal(s.covering_syncs, 0);
        assert_int_equal(s.submits,
                         rig.way->io == WEIR_IO_CHAIN || rig.way->io == WEIR_IO_DSYNC ? 100 : 0);
        assert_int_equal(s.rotations, 0);
        assert_true(s.stalls_slot <= 100); /* the flusher may just be closing a slot */
        assert_true(s.stalls_straggler <= 100);
        assert_int_equal(s.stalls_oversize, 0);
        assert_int_equal(s.refused_again + s.refused_timeout + s.refused_space, 0);
        assert_true(s.waits_durable <= 100);
        assert_int_equal(s.waits_written, 0);
        assert_true(s.ack_wakes <= s.waits_durable);
        assert_true(s.flusher_wakes <= s.flusher_sleeps);
        assert_int_equal(s.pending_bytes, 0);
        assert_int_equal(s.inflight, 0);
        assert_true(s.inflight_max <= rig.options.max_inflight + 1);
        assert_true(s.slots_free <= rig.options.slots);
        assert_int_equal(s.trims, 0);
        assert_int_equal(s.segments_recycled, 0);
        assert_int_equal(s.segments_removed, 0);

        /* What the files saw. */
        const struct fault_look writes = {.kind = FAULT_WRITE,
                                          .name = ".weir",
                                          .after = after,
                                          .offset_from = RIG_BLOCK};
        const struct fault_look syncs = {.syncs = true, .name = ".weir", .after = after};
        assert_int_equal(fault_io_count(&rig.fault, &writes), s.writes);
        assert_int_equal(fault_io_count(&rig.fault, &syncs), s.syncs);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* Refusals, each in its own column; oversize records, in theirs. */
static void refusals_and_oversize_are_counted(void **state)
{
    (void)state;
    static uint8_t payload[30000];
    struct rig rig;
    struct weir_stats s;
    const struct weir_piece piece = {payload, 10000};
    const struct weir_piece big = {payload, sizeof payload};
    const struct weir_record record = {&piece, 1, 0};
    const struct weir_record big_record = {&big, 1, 0};
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .hold = true});
    assert_int_equal(weir_append_group(rig.log, &big_record, 1, WEIR_FOREVER, NULL), 0);
    assert_true(fault_io_wait_held(&rig.fault, 1));
    assert_int_equal(weir_append_group(rig.log, &big_record, 1, WEIR_TRY, NULL), -EAGAIN);
    assert_int_equal(weir_append_group(rig.log, &big_record, 1, 1000000, NULL), -ETIMEDOUT);
    unsigned taken = 0;
    while (weir_append_group(rig.log, &record, 1, WEIR_TRY, NULL) == 0) {
        taken++;
    }
    assert_int_equal(taken, rig.options.slots);
    assert_int_equal(weir_append_group(rig.log, &record, 1, WEIR_TRY, NULL), -EAGAIN);
    assert_int_equal(weir_append_group(rig.log, &record, 1, 1000000, NULL), -ETIMEDOUT);
    weir_stats(rig.log, &s);
    assert_int_equal(s.refused_again, 3);
    assert_int_equal(s.refused_timeout, 2);
    assert_int_equal(s.stalls_oversize, 1);
    assert_int_equal(s.slots_free, 0);
    assert_true(s.pending_bytes > 0);
    fault_io_release(&rig.fault);
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    struct counted counted = {&rig, 1 + taken};
    assert_true(wait_until(all_counted, &counted));
    weir_stats(rig.log, &s);
    assert_int_equal(s.batches_oversize, 1);
    assert_int_equal(s.batches_sealed_full + s.batches_sealed_idle, taken);
    assert_int_equal(s.appends, 1 + taken);
    assert_int_equal(s.pending_bytes, 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

static uint64_t size_of_segments(const char *dir)
{
    /* By name, since a log's segments are as long as their names say. */
    char name[TEMP_DIR_BYTES];
    uint64_t bytes = 0;
    if (temp_dir_first(dir, ".weir", name)) {
        char path[TEMP_DIR_BYTES];
        struct stat st;
        temp_dir_join(dir, name, path);
        assert_int_equal(stat(path, &st), 0);
        bytes = (uint64_t)st.st_size * temp_dir_count(dir, ".weir");
    }
    return bytes;
}

/* The keeper may be at work on one more: a file has its name before, or after, it is counted. */
static bool disk_is_told(void *ctx)
{
    struct rig *const rig = ctx;
    struct weir_stats s;
    weir_stats(rig->log, &s);
    const uint64_t on_disk = size_of_segments(rig->path);
    return s.disk_bytes == on_disk || s.disk_bytes + RIG_SEGMENT == on_disk;
}

static void segments_and_readers_are_counted(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_stats s;
    struct weir_stats after_scan;
    char why[256] = "";
    uint64_t payload = 0;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    for (uint64_t i = 0; i < 200; i++) {
        assert_int_equal(rig_append(&rig, i, 5000 + i, NULL), 0);
        payload += 5000 + i;
    }
    /* The keeper is done when the spare is there again. */
    (void)fault_io_arm(
        &rig.fault,
        &(struct fault_rule){.kind = FAULT_OPEN, .name = "weir.prepare", .hold = true});
    weir_stats(rig.log, &s);
    const uint64_t entered = weir_durable_lsn(rig.log) / RIG_SEGMENT;
    assert_int_equal(s.rotations, entered);
    assert_true(s.segments_prefilled >= entered);
    assert_true(s.prefill_bytes >= s.segments_prefilled * RIG_SEGMENT);
    assert_true(s.checkpoints <= entered);
    fault_io_release(&rig.fault);

    (void)ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
    weir_stats(rig.log, &after_scan);
    assert_int_equal(after_scan.cursor_records, 200);
    assert_int_equal(after_scan.cursor_bytes, payload);
    assert_true(after_scan.cursor_read_bytes >= payload * 9 / 10);
    assert_true(after_scan.cursor_reads > 0);
    assert_true(after_scan.cursor_slot_batches <= 200);
    assert_true(after_scan.memory_bytes <= after_scan.memory_bytes_peak);
    assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);
    assert_true(wait_until(disk_is_told, &rig));
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- one by one ------------------------------------------------------------------------------ */

struct sleepers {
    struct rig *rig;
    weir_lsn lsn;
    enum weir_level level;
    uint64_t count;
};

static void sleep_for_level(struct worker *worker)
{
    struct sleepers *const sleepers = worker->ctx;
    const int code = weir_wait(sleepers->rig->log, sleepers->lsn, sleepers->level, WEIR_FOREVER);
    if (code != 0) {
        worker_fail(worker, "wait: %s", weir_error_name(code));
    }
}

static bool all_sleep(void *ctx)
{
    const struct sleepers *const sleepers = ctx;
    struct weir_stats s;
    weir_stats(sleepers->rig->log, &s);
    return (sleepers->level == WEIR_DURABLE ? s.waits_durable : s.waits_written) >= sleepers->count;
}

/* One for each that sleeps, at the level at which it does, and one call that wakes them all. */
static void waits_are_counted_by_level(void **state)
{
    (void)state;
    for (enum weir_level level = WEIR_DURABLE; level <= WEIR_WRITTEN; level++) {
        struct rig rig;
        struct weir_stats s;
        struct workers workers;
        rig_make(&rig, posix_way);
        assert_int_equal(rig_open(&rig), 0);
        struct sleepers sleepers = {&rig, 0, level, 7};
        (void)fault_io_arm(
            &rig.fault,
            &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .hold = true});
        assert_int_equal(weir_append(rig.log, "x", 1, 0, &sleepers.lsn), 0);
        assert_true(fault_io_wait_held(&rig.fault, 1));
        assert_int_equal(weir_wait(rig.log, sleepers.lsn, level, WEIR_TRY), -EAGAIN);
        weir_stats(rig.log, &s);
        assert_int_equal(s.waits_durable + s.waits_written, 0); /* a try is no sleep */
        assert_int_equal(s.ack_wakes, 0);
        assert_int_equal(s.pending_bytes, weir_end_lsn(rig.log) - weir_durable_lsn(rig.log));
        assert_true(s.pending_bytes >= HEADER + FRAME + 1);
        workers_start(&workers, 7, sleep_for_level, &sleepers, test_seed());
        const bool asleep = wait_until(all_sleep, &sleepers);
        weir__sleep_ns(2000000); /* into the kernel, most of them */
        fault_io_release(&rig.fault);
        workers_finish(&workers);
        assert_true(asleep);
        weir_stats(rig.log, &s);
        assert_int_equal(s.waits_durable, level == WEIR_DURABLE ? 7 : 0);
        assert_int_equal(s.waits_written, level == WEIR_WRITTEN ? 7 : 0);
        assert_true(s.ack_wakes <= 1); /* one batch, one word */
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

static bool waiter_woken(void *ctx)
{
    struct rig *const rig = ctx;
    struct weir_stats s;
    weir_lsn lsn;
    /* In two calls: who appends and waits in one may sync its record itself, and wakes nobody. */
    assert_int_equal(weir_append(rig->log, "x", 1, 0, &lsn), 0);
    assert_int_equal(weir_wait(rig->log, lsn, WEIR_DURABLE, WEIR_FOREVER), 0);
    weir_stats(rig->log, &s);
    return s.ack_wakes > 0 && s.flusher_wakes > 0 && s.flusher_sleeps > 0;
}

/* Who is fast enough does not sleep, and then nobody has to be woken: sooner or later one does. */
static void sleeping_and_waking_is_counted(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    assert_true(wait_until(waiter_woken, &rig));
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

static void append_one(struct worker *worker)
{
    struct sleepers *const sleepers = worker->ctx;
    static const uint8_t payload[10000];
    const int code = weir_append(sleepers->rig->log, payload, sizeof payload, 0, NULL);
    if (code != 0) {
        worker_fail(worker, "append: %s", weir_error_name(code));
    }
}

static bool all_stalled(void *ctx)
{
    const struct sleepers *const sleepers = ctx;
    struct weir_stats s;
    weir_stats(sleepers->rig->log, &s);
    return s.stalls_slot >= sleepers->count;
}

/* While the first batch hangs: each further record of this size closes the slot before its own, the
 * last slot stays open, and whoever comes then sleeps. */
static void slots_are_counted_by_who_closed_them(void **state)
{
    (void)state;
    static const uint8_t payload[10000];
    const struct weir_piece piece = {payload, sizeof payload};
    const struct weir_record record = {&piece, 1, 0};
    struct rig rig;
    struct weir_stats s;
    struct workers workers;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .hold = true});
    assert_int_equal(weir_append(rig.log, payload, sizeof payload, 0, NULL), 0);
    assert_true(fault_io_wait_held(&rig.fault, 1)); /* the flusher closed that one */
    for (unsigned i = 1; i < rig.options.slots; i++) {
        assert_int_equal(weir_append_group(rig.log, &record, 1, WEIR_TRY, NULL), 0);
    }
    weir_stats(rig.log, &s);
    const uint64_t stalls = s.stalls_slot; /* the flusher may just have been closing the first */
    assert_int_equal(s.slots_free, 0);
    assert_int_equal(weir_append_group(rig.log, &record, 1, WEIR_TRY, NULL), -EAGAIN);
    struct sleepers sleepers = {.rig = &rig, .count = stalls + 3};
    workers_start(&workers, 3, append_one, &sleepers, test_seed());
    const bool asleep = wait_until(all_stalled, &sleepers);
    weir_stats(rig.log, &s);
    fault_io_release(&rig.fault);
    workers_finish(&workers);
    assert_true(asleep);
    assert_int_equal(s.stalls_slot, stalls + 3);
    assert_int_equal(s.refused_again, 1);
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    const uint64_t batches = 1 + (rig.options.slots - 1) + 3;
    struct counted counted = {&rig, batches};
    assert_true(wait_until(all_counted, &counted));
    weir_stats(rig.log, &s);
    assert_true(s.batches_sealed_full >=
                rig.options.slots - 1);      /* the refused one closed one too */
    assert_true(s.batches_sealed_idle >= 2); /* the first, and the last */
    assert_int_equal(s.batches_sealed_full + s.batches_sealed_idle, batches);
    assert_int_equal(s.appends, batches);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

static bool segment_waited_for(void *ctx)
{
    struct weir_stats s;
    weir_stats(((struct rig *)ctx)->log, &s);
    return s.stalls_segment > 0;
}

/* Appends one record more, or is refused: at the end of the last segment, and not because the
 * flusher was just about to open a slot. */
static bool at_the_last_segments_end(void *ctx)
{
    static const uint8_t payload[10000];
    struct rig *const rig = ctx;
    const struct weir_piece piece = {payload, sizeof payload};
    const struct weir_record record = {&piece, 1, 0};
    const int code = weir_append_group(rig->log, &record, 1, WEIR_TRY, NULL);
    assert_true(code == 0 || code == -EAGAIN);
    assert_int_equal(weir_sync(rig->log, WEIR_FOREVER), 0);
    return code == -EAGAIN && segment_waited_for(rig);
}

/* No segment is made: appends wait for one, and are refused once it is known that there is none. */
static void waiting_for_segments_is_counted(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_stats s;
    struct workers workers;
    struct sleepers sleepers = {.rig = &rig};
    static const uint8_t payload[10000];
    rig_make(&rig, posix_way);
    rig.options.segment_bytes = 4 * RIG_SEGMENT; /* made piece by piece */
    const struct fault_rule hold = {.kind = FAULT_WRITE, .name = "weir.prepare", .hold = true};
    assert_int_equal(rig_open(&rig), 0);
    (void)fault_io_arm(&rig.fault, &hold);
    assert_true(wait_until(at_the_last_segments_end, &rig));
    workers_start(&workers, 1, append_one, &sleepers, test_seed());
    const bool waited = wait_until(segment_waited_for, &rig);
    fault_io_release(&rig.fault);
    workers_finish(&workers);
    assert_true(waited);
    weir_stats(rig.log, &s);
    assert_int_equal(s.refused_space, 0);
    assert_true(s.stalls_segment >= 1);
    assert_true(s.prefill_unthrottled >= 1); /* while it was waited for */

    (void)fault_io_arm(
        &rig.fault,
        &(struct fault_rule){.kind = FAULT_WRITE, .name = "weir.prepare", .error = -ENOSPC});
    unsigned refused = 0;
    for (unsigned i = 0; i < 400 && refused < 5; i++) {
        const int code = weir_append(rig.log, payload, sizeof payload, 0, NULL);
        assert_true(code == 0 || code == -ENOSPC);
        refused += code == -ENOSPC;
    }
    weir_stats(rig.log, &s);
    assert_int_equal(refused, 5);
    assert_int_equal(s.refused_space, 5);
    fault_io_heal(&rig.fault);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* What the files saw of the keeper: looked at until both sides have said the same. */
struct keeping {
    struct rig *rig;
    struct weir_stats s;
    uint64_t control;
    uint64_t filled;
    uint64_t recycled;
    uint64_t removed;
};

static bool keeping_agrees(void *ctx)
{
    struct keeping *const keeping = ctx;
    struct fault_op *ops;
    const size_t count = fault_io_ops(&keeping->rig->fault, &ops);
    keeping->control = keeping->filled = keeping->recycled = keeping->removed = 0;
    for (size_t i = 0; i < count; i++) {
        const bool segment = strstr(ops[i].name, ".weir") != NULL;
        if (ops[i].ended == 0 || ops[i].result < 0) {
            continue;
        }
        if (ops[i].kind == FAULT_WRITE && strcmp(ops[i].name, "weir.control") == 0) {
            keeping->control++;
        } else if (ops[i].kind == FAULT_RENAME && segment) {
            const bool made = strcmp(ops[i].from, "weir.prepare") == 0;
            keeping->filled += made;
            keeping->recycled += !made;
        } else if (ops[i].kind == FAULT_UNLINK && segment) {
            keeping->removed++;
        }
    }
    free(ops);
    weir_stats(keeping->rig->log, &keeping->s);
    const struct weir_stats *const s = &keeping->s;
    return s->control_writes == keeping->control && s->segments_prefilled == keeping->filled &&
           s->segments_recycled == keeping->recycled && s->segments_removed == keeping->removed &&
           keeping->recycled > 0 && keeping->removed > 0 && keeping->filled > 0;
}

static void the_keepers_work_is_counted_exactly(void **state)
{
    (void)state;
    struct rig rig;
    struct keeping keeping = {.rig = &rig};
    weir_lsn last = 0;
    rig_make(&rig, posix_way);
    rig.options.recycle_segments = 1;
    assert_int_equal(rig_open(&rig), 0);
    fault_io_forget(&rig.fault);
    for (uint64_t i = 0; i < 300; i++) {
        assert_int_equal(rig_append(&rig, i, 6000, &last), 0);
    }
    assert_int_equal(weir_trim(rig.log, last), 0);
    for (uint64_t i = 300; i < 400; i++) {
        assert_int_equal(rig_append(&rig, i, 6000, &last), 0);
    }
    assert_int_equal(weir_trim(rig.log, last), 0);
    assert_int_equal(weir_trim(rig.log, 0), 0); /* nothing to do is no trim */
    assert_true(wait_until(keeping_agrees, &keeping));
    assert_int_equal(keeping.s.trims, 2);
    assert_true(keeping.s.checkpoints >= 1);
    assert_true(keeping.s.checkpoints <= keeping.s.rotations);
    assert_true(keeping.s.control_writes >= 2 * 2 + keeping.s.checkpoints);
    assert_true(keeping.s.prefill_bytes >=
                keeping.s.segments_prefilled * (RIG_SEGMENT - RIG_BLOCK));
    assert_true(keeping.s.prefill_bytes <= (keeping.s.segments_prefilled + 1) * RIG_SEGMENT +
                                               keeping.s.segments_recycled * RIG_SEGMENT);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* The newest batch stands in memory: no file is asked for it. An old one does not. */
static void reading_from_memory_and_from_files_is_told_apart(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    struct weir_stats before;
    struct weir_stats after;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    for (uint64_t i = 0; i < 150; i++) { /* into the third segment */
        assert_int_equal(rig_append(&rig, i, 3000, NULL), 0);
    }
    weir_stats(rig.log, &before);
    assert_int_equal(before.cursor_records, 0);
    assert_int_equal(weir_cursor_open(rig.log, weir_durable_lsn(rig.log), WEIR_DURABLE, 0, &cursor),
                     0);
    assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), WEIR_EEND);
    weir_stats(rig.log, &before);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(rig_append(&rig, 100 + i, 3000, NULL), 0);
        assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), 0);
        assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), WEIR_EEND);
        weir_stats(rig.log, &after);
        assert_int_equal(after.cursor_slot_batches - before.cursor_slot_batches, i);
        assert_int_equal(after.cursor_records, i);
        assert_int_equal(after.cursor_bytes, i * 3000);
        assert_int_equal(after.cursor_reads, before.cursor_reads);
        assert_int_equal(after.cursor_read_bytes, before.cursor_read_bytes);
    }
    weir_cursor_close(cursor);

    const uint64_t sequence = fault_io_now(&rig.fault);
    weir_stats(rig.log, &before);
    assert_int_equal(weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor), 0);
    for (uint64_t i = 0; i < 140; i++) {
        assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), 0);
    }
    weir_cursor_close(cursor);
    weir_stats(rig.log, &after);
    assert_int_equal(after.cursor_slot_batches, before.cursor_slot_batches);
    assert_int_equal(after.cursor_records - before.cursor_records, 140);
    assert_int_equal(after.cursor_bytes - before.cursor_bytes, 140 * 3000);
    const struct fault_look reads = {.kind = FAULT_READ, .name = ".weir", .after = sequence};
    assert_int_equal(after.cursor_reads - before.cursor_reads, fault_io_count(&rig.fault, &reads));
    assert_true(after.cursor_read_bytes - before.cursor_read_bytes >= 140 * 3000);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Two writes whose syncs are one: both are under way when the first comes back. */
static void operations_under_way_are_counted(void **state)
{
    (void)state;
    for (unsigned way = 0; way < rig_way_count; way++) {
        struct rig rig;
        struct weir_stats s;
        static const uint8_t payload[10000];
        if (rig_ways[way].queue != FAULT_QUEUE_THREADS ||
            (rig_ways[way].io != WEIR_IO_CHAIN && rig_ways[way].io != WEIR_IO_DSYNC)) {
            continue;
        }
        rig_make(&rig, &rig_ways[way]);
        rig.options.slots = 8;
        rig.options.max_inflight = 2;
        assert_int_equal(rig_open(&rig), 0);
        weir_stats(rig.log, &s);
        assert_int_equal(s.inflight, 0);
        (void)fault_io_arm(
            &rig.fault,
            &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .hold = true});
        for (unsigned i = 0; i < 5; i++) {
            assert_int_equal(weir_append(rig.log, payload, sizeof payload, 0, NULL), 0);
            if (i < 2) {
                /* The third closes the second's slot, which then goes out beside the first. */
                assert_true(i > 0 || fault_io_wait_held(&rig.fault, 1));
            }
        }
        assert_true(fault_io_wait_held(&rig.fault, 2));
        weir_stats(rig.log, &s);
        assert_int_equal(s.inflight, 2);
        assert_int_equal(s.inflight_max, 2); /* as it was limited */
        fault_io_release(&rig.fault);
        assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
        struct counted counted = {&rig, 5};
        (void)wait_until(all_counted, &counted);
        assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);
        weir_stats(rig.log, &s);
        assert_int_equal(s.inflight, 0);
        assert_int_equal(s.inflight_max, 2);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* ---- under load ------------------------------------------------------------------------------ */

struct load {
    struct rig *rig;
    WEIR__ATOMIC(uint32_t) stop;
};

static void append_on(struct worker *worker)
{
    struct load *const load = worker->ctx;
    static const uint8_t payload[3000];
    while (weir__load(&load->stop, acquire) == 0) {
        const size_t bytes = random_below(&worker->random, sizeof payload);
        weir_lsn lsn;
        int code = weir_append(load->rig->log, payload, bytes, 0, &lsn);
        if (code == 0 && random_below(&worker->random, 4) == 0) {
            code = weir_wait(load->rig->log, lsn, WEIR_DURABLE, WEIR_FOREVER);
        }
        if (code != 0) {
            worker_fail(worker, "append: %s", weir_error_name(code));
            return;
        }
    }
}

/* Those that say "now" may fall; the others must not, from one snapshot to the next. */
static void check_growth(const struct weir_stats *before, const struct weir_stats *after)
{
    struct weir_stats b = *before;
    b.memory_bytes = b.slots_free = b.inflight = b.pending_bytes = b.disk_bytes = 0;
#define CHECK_GROWTH(name, what)                                                                   \
    if (after->name < b.name) {                                                                    \
        fail_msg("%s fell from %" PRIu64 " to %" PRIu64, #name, b.name, after->name);              \
    }
    WEIR_STATS_TABLE(CHECK_GROWTH)
#undef CHECK_GROWTH
}

static void counters_never_fall_and_keep_their_relations(void **state)
{
    (void)state;
    for (unsigned way = 0; way < rig_way_count; way++) {
        struct rig rig;
        struct load load = {.rig = &rig};
        struct workers workers;
        struct weir_stats last = {0};
        if (!rig_way_usable(&rig_ways[way])) {
            continue;
        }
        rig_make(&rig, &rig_ways[way]);
        assert_int_equal(rig_open(&rig), 0);
        workers_start(&workers, 6, append_on, &load, test_seed());
        for (unsigned look = 0; look < test_rounds(300); look++) {
            struct weir_stats now;
            weir_stats(rig.log, &now);
            check_growth(&last, &now);
            assert_true(now.slots_free <= rig.options.slots);
            assert_true(now.inflight <= rig.options.max_inflight + 1);
            assert_true(now.inflight_max <= rig.options.max_inflight + 1);
            last = now;
            weir__sleep_ns(200000);
        }
        weir__store(&load.stop, 1u, release);
        workers_finish(&workers);
        assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);

        struct weir_stats s;
        weir_stats(rig.log, &s);
        check_growth(&last, &s);
        assert_int_equal(s.batches_durable, s.batches);
        assert_int_equal(s.batches_sealed_full + s.batches_sealed_idle + s.batches_oversize,
                         s.batches);
        assert_int_equal(s.header_bytes, s.batches * HEADER);
        assert_int_equal(s.write_bytes, s.frame_bytes + s.header_bytes + s.padding_bytes);
        assert_true(s.frame_bytes >= s.appends * FRAME);
        assert_true(s.writes <= s.batches);
        assert_true(s.covering_syncs + s.chains <= s.syncs);
        assert_true(s.chains <= s.writes);
        assert_int_equal(s.pending_bytes, 0);
        assert_int_equal(s.inflight, 0);
        switch (rig.way->io) {
        case WEIR_IO_CHAIN:
            assert_int_equal(s.chains, s.writes);
            assert_int_equal(s.syncs, s.writes);
            break;
        case WEIR_IO_DSYNC:
        case WEIR_IO_POSIX:
            assert_int_equal(s.chains, 0);
            assert_int_equal(s.syncs, s.writes);
            break;
        default:
            assert_int_equal(s.chains, 0);
            if (rig.way->fua == 1) {
                assert_int_equal(s.syncs, s.writes);
                assert_int_equal(s.covering_syncs, 0);
            }
            break;
        }
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

/* A healthy log is silent; one that was cut off tells what it cut, once. */
static void a_torn_end_is_told_of_at_opening(void **state)
{
    (void)state;
    struct rig rig;
    struct event_seen event;
    struct weir_report report;
    char crashed[TEMP_DIR_BYTES];
    char why[256] = "";
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    for (uint64_t tag = 1; tag <= 10; tag++) {
        assert_int_equal(rig_append(&rig, tag, 6000, NULL), 0);
    }
    for (unsigned kind = 0; kind < rig.events.count; kind++) {
        assert_int_equal(rig.events.list[kind].kind,
                         WEIR_EVENT_FALLBACK); /* O_DIRECT refused here */
    }
    /* A batch whose write came back with its first block only, and then the power was cut. */
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE,
                                            .name = ".weir",
                                            .times = 1,
                                            .shortened = true,
                                            .bytes = RIG_BLOCK});
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .hold = true});
    static uint8_t payload[15000];
    payload_fill(11, payload, sizeof payload);
    assert_int_equal(weir_append(rig.log, payload, sizeof payload, 11, NULL), 0);
    assert_true(fault_io_wait_held(&rig.fault, 1));
    temp_dir_make(crashed);
    fault_io_crash(&rig.fault, crashed);
    fault_io_heal(&rig.fault);
    assert_int_equal(rig_close(&rig), 0);

    struct weir_options options = rig.options;
    struct weir_log *log;
    rig.events.count = 0;
    assert_int_equal(weir_open(crashed, &options, &log, NULL), 0);
    weir_log_report(log, &report);
    assert_int_equal(report.verdict, WEIR_VERDICT_TORN);
    assert_true(report.bytes_cut > 0);
    assert_string_not_equal(report.why, "");
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_RECOVERED), 1);
    assert_true(events_last(&rig.events, WEIR_EVENT_RECOVERED, &event));
    assert_int_equal(event.value, report.bytes_cut);
    assert_int_equal(event.lsn, report.end_lsn);
    assert_string_not_equal(event.text, "");
    (void)ledger_check(&rig.ledger, log, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
    assert_int_equal(weir_close(log, NULL), 0);

    rig.events.count = 0;
    assert_int_equal(weir_open(crashed, &options, &log, NULL), 0);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_RECOVERED), 0);
    assert_int_equal(weir_close(log, NULL), 0);
    temp_dir_remove(crashed);
    rig_destroy(&rig);
}

/* Progress of the scan, from nothing to all. */
struct progress {
    unsigned calls;
    uint64_t done;
    uint64_t total;
    bool fell;
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct progress *const progress = ctx;
    progress->calls++;
    progress->fell |= done < progress->done || done > total;
    progress->done = done;
    progress->total = total;
}

static void opening_tells_its_progress(void **state)
{
    (void)state;
    struct rig rig;
    struct progress progress = {0};
    rig_make(&rig, posix_way);
    rig.options.segment_bytes = 16 * RIG_SEGMENT;
    assert_int_equal(rig_open(&rig), 0);
    for (uint64_t tag = 1; tag <= 100; tag++) {
        assert_int_equal(rig_append(&rig, tag, 15000, NULL), 0);
    }
    char crashed[TEMP_DIR_BYTES];
    temp_dir_make(crashed); /* not closed clean: there is something to scan */
    fault_io_crash(&rig.fault, crashed);
    assert_int_equal(rig_close(&rig), 0);
    struct weir_options options = rig.options;
    struct weir_log *log;
    options.on_progress = on_progress;
    options.progress_ctx = &progress;
    assert_int_equal(weir_open(crashed, &options, &log, NULL), 0);
    assert_int_equal(weir_close(log, NULL), 0);
    assert_true(progress.calls > 0);
    assert_false(progress.fell);
    assert_true(progress.total > 0);
    temp_dir_remove(crashed);
    rig_destroy(&rig);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lone_appends_are_counted_exactly),
        cmocka_unit_test(refusals_and_oversize_are_counted),
        cmocka_unit_test(segments_and_readers_are_counted),
        cmocka_unit_test(waits_are_counted_by_level),
        cmocka_unit_test(sleeping_and_waking_is_counted),
        cmocka_unit_test(slots_are_counted_by_who_closed_them),
        cmocka_unit_test(waiting_for_segments_is_counted),
        cmocka_unit_test(the_keepers_work_is_counted_exactly),
        cmocka_unit_test(reading_from_memory_and_from_files_is_told_apart),
        cmocka_unit_test(operations_under_way_are_counted),
        cmocka_unit_test(counters_never_fall_and_keep_their_relations),
        cmocka_unit_test(a_torn_end_is_told_of_at_opening),
        cmocka_unit_test(opening_tells_its_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
