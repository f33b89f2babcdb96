/* SPDX-License-Identifier: Apache-2.0
 * What a scan kept is written again, byte for byte, and synced; stopped anywhere and begun anew it
 * comes to the same. */
#include "unit/recover/rig.h"

#include "base/num.h"
#include "recover/repair.h"

#define BLOCK 512u
#define SEGMENT (16u * BLOCK)

/* All bytes of all segments, to compare. */
struct picture {
    uint8_t *bytes;
    size_t count;
};

static struct picture picture_take(struct log_builder *log)
{
    struct picture picture = {0};
    for (size_t i = 0; i < log->segment_count; i++) {
        const struct weir__range range = log->segments[i];
        picture.bytes = realloc(picture.bytes, picture.count + (range.end - range.base));
        assert_non_null(picture.bytes);
        log_builder_peek(log, range.base, picture.bytes + picture.count, range.end - range.base);
        picture.count += range.end - range.base;
    }
    return picture;
}

static void picture_expect(struct picture *picture, struct log_builder *log)
{
    const struct picture now = picture_take(log);
    assert_int_equal(now.count, picture->count);
    assert_memory_equal(now.bytes, picture->bytes, now.count);
    free(now.bytes);
}

static void build(struct log_builder *log, size_t batches)
{
    log_builder_init(log, NULL);
    for (size_t i = 0; i < batches; i++) {
        log_builder_batch(log, 3, 100);
    }
}

static int repair(struct rig *rig, struct weir__scan_result *result_out)
{
    rig_scan(rig, false, result_out);
    rig->io.changes = rig->io.writes = rig->io.syncs = rig->io.dir_syncs = 0;
    rig->io.written = 0;
    rig->io.differs = false;
    return weir__repair(&rig->dir, &rig->catalog, result_out, &rig->fault);
}

static struct rig *rig_new(const struct log_builder *log)
{
    struct rig *const rig = malloc(sizeof *rig);
    assert_non_null(rig);
    rig_init(rig, log);
    return rig;
}

static void rig_free(struct rig *rig)
{
    rig_exit(rig);
    free(rig);
}

static void only_what_lies_above_the_promise_is_written(void **state)
{
    (void)state;
    for (size_t promised = 0; promised < 40; promised += 3) {
        struct log_builder log;
        log_builder_init(&log, NULL);
        /* One promise in all headers, so that there is something above it. */
        for (size_t i = 0; i < 40; i++) {
            log.promise = UINT64_MAX;
            if (i >= promised) {
                log.promise = promised == 0 ? 0 : log.batches[promised - 1].end;
            }
            log_builder_batch(&log, 3, 100);
        }
        log_builder_prepare(&log, 1);
        rig_crash(&log, 0, NULL);
        struct picture before = picture_take(&log);
        struct rig *const rig = rig_new(&log);
        struct weir__scan_result result;
        assert_int_equal(repair(rig, &result), 0);
        assert_int_equal(result.report.verdict, WEIR_VERDICT_CLEAN);
        assert_false(rig->io.differs);
        assert_int_equal(rig->io.written, (40 - promised) * BLOCK);
        /* Every segment that was scanned, not the prepared one. */
        assert_int_equal(rig->io.syncs, log.segment_count - 1);
        assert_int_equal(rig->io.dir_syncs, 1);
        picture_expect(&before, &log);
        free(before.bytes);
        rig_free(rig);
        log_builder_exit(&log);
    }
}

static void a_closed_log_is_only_synced(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_close_clean(&log, NULL);
    struct rig *const rig = rig_new(&log);
    struct weir__scan_result result;
    assert_int_equal(repair(rig, &result), 0);
    assert_int_equal(rig->io.writes, 0);
    assert_int_equal(rig->io.syncs, 1);
    assert_int_equal(rig->io.dir_syncs, 1);
    rig_free(rig);
    log_builder_exit(&log);
}

static void a_log_without_a_segment_needs_only_its_directory(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, NULL);
    rig_crash(&log, 0, NULL);
    struct rig *const rig = rig_new(&log);
    struct weir__scan_result result;
    assert_int_equal(repair(rig, &result), 0);
    assert_int_equal(rig->io.changes, 1);
    assert_int_equal(rig->io.dir_syncs, 1);
    rig_free(rig);
    log_builder_exit(&log);
}

/* Gaps, unused ends, a torn tail, large batches, several epochs, stale batches where the log has
 * gone on elsewhere. */
static void build_rich(struct log_builder *log)
{
    log_builder_init(
        log,
        &(struct log_builder_config){.segment_bytes = 128 * BLOCK, .first_lsn = SEGMENT});
    log->promise = SEGMENT;
    for (size_t i = 0; i < 6; i++) {
        log_builder_batch(log, 4, 900 + 100 * i);
    }
    log_builder_gap(log, log->position.lsn + 7 * BLOCK);
    log_builder_batch(log, 1, 20000);
    const weir_lsn cut = log->position.lsn;
    log_builder_batch(log, 2, 10);
    log_builder_batch(log, 2, 5000);
    log_builder_cut(log, cut);
    /* The older epoch's batch stands at the position, sound and with the right chain; the log goes
     * on in the next segment. */
    log_builder_rotate(log);
    for (size_t i = 0; i < 5; i++) {
        log_builder_batch(log, 10, 300);
    }
    log_builder_gap(log, log->segment.end);
    log_builder_batch(log, 1, 0);
    log_builder_begin(log);
    log_builder_end(log);
    log_builder_batch(log, 3, 700);
    log_builder_flip(log, log->batches[log->batch_count - 1].header.lsn + 1000, 1);
}

static void stopped_at_any_call_it_comes_to_the_same(void **state)
{
    (void)state;
    struct log_builder log;
    build_rich(&log);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.promise = SEGMENT;
    control.epoch.lsn = log.newest.lsn;
    log_builder_control_write(&log, &control);
    struct picture before = picture_take(&log);
    struct rig *const rig = rig_new(&log);
    struct weir__scan_result first;
    assert_int_equal(repair(rig, &first), 0);
    assert_int_equal(first.report.verdict, WEIR_VERDICT_TORN);
    assert_int_equal(first.end.lsn, log.batches[log.batch_count - 1].header.lsn);
    assert_false(rig->io.differs);
    /* The promise is the start of the newest epoch: what follows it was written, and the gap's own
     * block only. */
    uint64_t expected = 0;
    for (size_t i = 0; i + 1 < log.batch_count; i++) {
        expected += log.batches[i].end > first.report.promise_lsn ? log.batches[i].image_bytes : 0;
    }
    assert_true(expected > 0);
    assert_int_equal(rig->io.written, expected);
    const unsigned calls = rig->io.changes;
    assert_true(calls > 5);
    for (unsigned stop = 1; stop <= calls; stop++) {
        struct weir__scan_result result;
        rig->io.stop_at = stop;
        assert_int_equal(repair(rig, &result), -EIO);
        assert_int_equal(rig->fault.code, -EIO);
        assert_int_equal(rig->io.changes, stop);
        picture_expect(&before, &log);
        rig->io.stop_at = 0;
        assert_int_equal(repair(rig, &result), 0);
        assert_memory_equal(&result.end, &first.end, sizeof first.end);
        assert_memory_equal(&result.report, &first.report, sizeof first.report);
        assert_int_equal(rig->io.changes, calls);
        picture_expect(&before, &log);
    }
    free(before.bytes);
    rig_free(rig);
    log_builder_exit(&log);
}

static void large_batches_are_written_in_pieces(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, &(struct log_builder_config){.segment_bytes = (uint64_t)8 << 20});
    log.promise = 0;
    log_builder_batch(&log, 1, (size_t)5 << 20);
    log_builder_batch(&log, 1, (size_t)5 << 20);
    rig_crash(&log, 0, NULL);
    struct picture before = picture_take(&log);
    struct rig *const rig = rig_new(&log);
    struct weir__scan_result result;
    assert_int_equal(repair(rig, &result), 0);
    assert_false(rig->io.differs);
    assert_int_equal(rig->io.written, log.batches[0].image_bytes + log.batches[1].image_bytes);
    assert_true(rig->io.writes > 2);
    picture_expect(&before, &log);
    free(before.bytes);
    rig_free(rig);
    log_builder_exit(&log);
}

static void a_trimmed_log_is_repaired_from_its_anchor(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 50);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.oldest_lsn = log.batches[20].header.lsn;
    control.promise = control.oldest_lsn;
    control.checkpoint = weir__position_after(&log.batches[2].header, BLOCK);
    log_builder_control_write(&log, &control);
    log_builder_remove(&log, log.segments[0]);
    struct rig *const rig = rig_new(&log);
    struct weir__scan_result result;
    assert_int_equal(repair(rig, &result), 0);
    assert_int_equal(result.report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(result.end.lsn, log.position.lsn);
    assert_int_equal(rig->io.written, BLOCK); /* the last batch's own promise covers the rest */
    assert_int_equal(rig->io.syncs, 3);
    rig_free(rig);
    log_builder_exit(&log);
}

static void bytes_that_changed_meanwhile_are_noticed(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, NULL);
    log.promise = 0;
    for (size_t i = 0; i < 40; i++) {
        log_builder_batch(&log, 3, 100);
    }
    rig_crash(&log, 0, NULL);
    static const size_t changed[] = {0, 7, 14, 15, 20, 39};
    for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++) {
        struct rig *const rig = rig_new(&log);
        struct weir__scan_result result;
        rig_scan(rig, false, &result);
        log_builder_flip(&log, log.batches[changed[i]].header.lsn + 20, 1);
        assert_int_equal(weir__repair(&rig->dir, &rig->catalog, &result, &rig->fault),
                         WEIR_ECORRUPT);
        assert_int_equal(rig->fault.code, WEIR_ECORRUPT);
        log_builder_flip(&log, log.batches[changed[i]].header.lsn + 20, 1);
        rig_free(rig);
    }
    /* A segment that went away. */
    struct rig *const rig = rig_new(&log);
    struct weir__scan_result result;
    rig_scan(rig, false, &result);
    const struct weir__range gone = log.segments[1];
    log_builder_remove(&log, gone);
    assert_true(weir__repair(&rig->dir, &rig->catalog, &result, &rig->fault) < 0);
    rig->fault = WEIR__FAULT_NONE;
    assert_true(weir__catalog_remove(&rig->catalog, gone));
    assert_int_equal(weir__repair(&rig->dir, &rig->catalog, &result, &rig->fault), WEIR_ECORRUPT);
    rig_free(rig);
    log_builder_exit(&log);
}

static void a_read_error_ends_it(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, NULL);
    log.promise = 0;
    for (size_t i = 0; i < 20; i++) {
        log_builder_batch(&log, 3, 100);
    }
    rig_crash(&log, 0, NULL);
    struct rig *const rig = rig_new(&log);
    struct weir__scan_result result;
    rig_scan(rig, false, &result);
    rig_bad(&rig->io, log.segments[0], 5 * BLOCK, 6 * BLOCK);
    assert_int_equal(weir__repair(&rig->dir, &rig->catalog, &result, &rig->fault),
                     WEIR_EUNREADABLE);
    assert_int_equal(rig->fault.lsn, 5 * BLOCK);
    rig_free(rig);
    log_builder_exit(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_lies_above_the_promise_is_written),
        cmocka_unit_test(a_closed_log_is_only_synced),
        cmocka_unit_test(a_log_without_a_segment_needs_only_its_directory),
        cmocka_unit_test(stopped_at_any_call_it_comes_to_the_same),
        cmocka_unit_test(large_batches_are_written_in_pieces),
        cmocka_unit_test(a_trimmed_log_is_repaired_from_its_anchor),
        cmocka_unit_test(bytes_that_changed_meanwhile_are_noticed),
        cmocka_unit_test(a_read_error_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
