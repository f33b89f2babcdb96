/* SPDX-License-Identifier: Apache-2.0
 * Where a log ends and why: every verdict, reached from states that are put together byte by byte.
 */
#include "unit/recover/rig.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/num.h"

#define BLOCK 512u
#define SEGMENT (16u * BLOCK)

/* ---- what is expected ---- */

static void expect_end(const struct weir__scan_result *result,
                       const struct log_builder *log,
                       enum weir_verdict verdict,
                       weir_lsn end)
{
    if (result->report.verdict != verdict || result->end.lsn != end) {
        print_message("verdict %d, end %llu: %s\n",
                      (int)result->report.verdict,
                      (unsigned long long)result->end.lsn,
                      result->report.why);
    }
    assert_int_equal(result->report.verdict, verdict);
    assert_int_equal(result->end.lsn, end);
    assert_int_equal(result->report.end_lsn, end);
    assert_true(result->report.why[0] != '\0');
    assert_int_equal(result->report.log_id, log->log_id);
    const bool bad = verdict == WEIR_VERDICT_CORRUPT || verdict == WEIR_VERDICT_UNREADABLE;
    assert_int_equal(result->report.bad_lsn != UINT64_MAX, bad);
    assert_int_equal(result->report.error.code,
                     verdict == WEIR_VERDICT_CORRUPT      ? WEIR_ECORRUPT
                     : verdict == WEIR_VERDICT_UNREADABLE ? WEIR_EUNREADABLE
                                                          : 0);
}

/* Both ways of looking must agree where the scan from the checkpoint begins at the log's beginning.
 */
static struct weir__scan_result
expect_both(const struct log_builder *log, enum weir_verdict verdict, weir_lsn end)
{
    const struct weir__scan_result from_oldest = rig_look(log, true);
    expect_end(&from_oldest, log, verdict, end);
    const struct weir__scan_result from_checkpoint = rig_look(log, false);
    expect_end(&from_checkpoint, log, verdict, end);
    if (from_oldest.report.scan_from_lsn == from_checkpoint.report.scan_from_lsn) {
        assert_int_equal(from_oldest.report.records, from_checkpoint.report.records);
    }
    return from_oldest;
}

static void
expect_corrupt_at(const struct weir__scan_result *result, struct weir__range range, weir_lsn lsn)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    assert_int_equal(result->report.bad_lsn, lsn);
    assert_int_equal(result->report.error.lsn, lsn);
    assert_int_equal(result->report.error.offset, lsn - range.base);
    assert_string_equal(result->report.error.file, name);
}

static void build(struct log_builder *log, size_t batches)
{
    log_builder_init(log, NULL);
    for (size_t i = 0; i < batches; i++) {
        log_builder_batch(log, 3, 100);
    }
}

/* ---- clean ---- */

static void closed_log_is_clean(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    log_builder_prepare(&log, 2);
    rig_close_clean(&log, NULL);

    struct weir__scan_result result = rig_look(&log, true);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 120);
    assert_int_equal(result.report.batches, 40);
    assert_int_equal(result.end.chain, log.position.chain);
    assert_int_equal(result.segment.base, log.segment.base);
    assert_int_equal(result.segment.end, log.segment.end);
    assert_int_equal(result.segment_number, log.segment.base / SEGMENT);
    assert_int_equal(result.report.segments, log.segment.base / SEGMENT + 1);
    assert_non_null(strstr(result.report.why, "closed cleanly"));

    /* From the checkpoint there is nothing left to scan. */
    result = rig_look(&log, false);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 0);
    assert_int_equal(result.report.scan_from_lsn, log.position.lsn);
    log_builder_exit(&log);
}

static void zeros_behind_are_clean(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    log_builder_prepare(&log, 2);
    rig_crash(&log, log.batches[5].end, NULL);
    const struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 60);
    assert_int_equal(result.report.promise_lsn, log.batches[19].header.promise);
    log_builder_exit(&log);
}

static void log_without_a_segment_is_clean(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, &(struct log_builder_config){.first_lsn = 64 * BLOCK});
    struct weir__control control;
    log_builder_control(&log, &control);
    /* As the engine creates it: the first position is behind the header's block. */
    control.oldest_lsn = control.promise = control.checkpoint.lsn = log.first_lsn + BLOCK;
    control.epoch.lsn = control.checkpoint.epoch_lsn = control.checkpoint.lsn;
    log_builder_control_write(&log, &control);
    struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CLEAN, 65 * BLOCK);
    assert_int_equal(result.segment.base, log.first_lsn);
    assert_int_equal(result.segment.end, log.first_lsn);
    assert_int_equal(result.segment_number, WEIR__SEGMENT_NONE);

    log_builder_prepare(&log, 2);
    result = expect_both(&log, WEIR_VERDICT_CLEAN, 65 * BLOCK);
    assert_int_equal(result.segment.base, log.first_lsn);
    assert_int_equal(result.segment.end, log.first_lsn + SEGMENT);
    assert_int_equal(result.segment_number, 0);
    assert_int_equal(result.report.segments, 1);
    log_builder_exit(&log);
}

static void both_words_for_the_origin_are_understood(void **state)
{
    (void)state;
    /* The builder's first batch continues the segment's base; the engine's continues the first
     * block behind it. */
    struct log_builder log;
    log_builder_init(&log, NULL);
    log.position.lsn = log.position.epoch_lsn = log.newest.lsn = BLOCK;
    log_builder_prepare(&log, 1);
    log.segment = log.segments[0];
    for (size_t i = 0; i < 20; i++) {
        log_builder_batch(&log, 3, 100);
    }
    struct weir__control control;
    log_builder_control(&log, &control);
    control.checkpoint.lsn = control.checkpoint.epoch_lsn = BLOCK;
    control.promise = log.position.lsn;
    log_builder_control_write(&log, &control);
    const struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 60);

    /* From the oldest with a checkpoint far along: the first segment is anchored at the origin. */
    control.checkpoint = log.position;
    log_builder_control_write(&log, &control);
    const struct weir__scan_result whole = rig_look(&log, true);
    expect_end(&whole, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(whole.report.records, 60);
    log_builder_exit(&log);
}

static void gaps_and_empty_batches_are_passed(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 4);
    log_builder_begin(&log);
    log_builder_end(&log);
    log_builder_gap(&log, log.position.lsn + 4 * BLOCK);
    log_builder_begin(&log);
    log_builder_skip(&log, 40);
    log_builder_add(&log, NULL, 0, 9, false);
    log_builder_end(&log);
    log_builder_gap(&log, log.segment.end);
    log_builder_batch(&log, 3, 100);
    rig_crash(&log, log.position.lsn, NULL);
    const struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, log.record_count);
    log_builder_exit(&log);
}

static void a_batch_may_be_larger_than_a_chunk(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, &(struct log_builder_config){.segment_bytes = (uint64_t)8 << 20});
    log_builder_batch(&log, 1, (size_t)5 << 20);
    log_builder_batch(&log, 2000, 700);
    log_builder_batch(&log, 1, (size_t)5 << 20);
    rig_crash(&log, 0, NULL);
    const struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 2002);
    log_builder_flip(&log, log.batches[2].end - 700, 1);
    expect_both(&log, WEIR_VERDICT_TORN, log.batches[1].end);
    log_builder_exit(&log);
}

/* ---- torn ---- */

static void torn_header_is_cut(void **state)
{
    (void)state;
    /* Every byte of the header of a batch that nobody promised. */
    for (unsigned byte = 0; byte < WEIR__BATCH_HEADER_BYTES; byte++) {
        struct log_builder log;
        build(&log, 20);
        const struct log_builder_batch *const last = &log.batches[19];
        rig_crash(&log, last->header.promise, NULL);
        log_builder_flip(&log, last->header.lsn + byte, 0x10);
        const struct weir__scan_result result =
            expect_both(&log, WEIR_VERDICT_TORN, last->header.lsn);
        assert_int_equal(result.report.records, 57);
        assert_int_equal(result.report.bytes_cut, last->end - last->header.lsn);
        log_builder_exit(&log);
    }
}

static void torn_payload_is_cut(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    const struct log_builder_batch *const last = &log.batches[19];
    rig_crash(&log, last->header.promise, NULL);
    /* Up to the last byte of the padding. */
    for (weir_lsn lsn = last->header.lsn + WEIR__BATCH_HEADER_BYTES; lsn < last->end; lsn += 5) {
        log_builder_flip(&log, lsn, 0x80);
        const struct weir__scan_result result =
            expect_both(&log, WEIR_VERDICT_TORN, last->header.lsn);
        assert_int_equal(result.report.bytes_cut, last->end - last->header.lsn);
        log_builder_flip(&log, lsn, 0x80);
    }
    expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    log_builder_exit(&log);
}

static void a_hole_above_every_promise_is_torn(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 10);
    const weir_lsn end = log.position.lsn;
    log.promise = end;
    log.hold = true;
    log_builder_batch(&log, 3, 100);
    log.hold = false;
    log_builder_batch(&log, 3, 100);
    const size_t behind = log.batch_count - 1;
    rig_crash(&log, end, NULL);
    struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_TORN, end);
    assert_int_equal(result.report.evidence_lsn, log.batches[behind].header.lsn);
    assert_int_equal(result.report.bytes_cut, log.position.lsn - end);

    /* The same with the hole at a segment's end. */
    log_builder_rotate(&log);
    log_builder_batch(&log, 3, 100);
    result = expect_both(&log, WEIR_VERDICT_TORN, end);
    assert_int_equal(result.report.bytes_cut, log.position.lsn - end);
    log_builder_exit(&log);
}

static void stray_bytes_in_a_zeroed_segment_are_torn(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 10);
    log_builder_prepare(&log, 1);
    rig_crash(&log, log.position.lsn, NULL);
    /* The second half of a batch whose first block never arrived. */
    log_builder_noise(&log, log.position.lsn + BLOCK, log.position.lsn + 2 * BLOCK, 7);
    const struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_TORN, log.position.lsn);
    assert_int_equal(result.report.bytes_cut, 2 * BLOCK);
    assert_int_equal(result.report.evidence_lsn, log.position.lsn + BLOCK);
    log_builder_exit(&log);
}

static void torn_first_batch_of_the_next_segment_is_cut(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 10);
    const weir_lsn end = log.position.lsn;
    log_builder_rotate(&log);
    log_builder_batch(&log, 3, 100);
    rig_crash(&log, end, NULL);
    log_builder_flip(&log, log.batches[10].header.lsn + 200, 1);
    const struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_TORN, end);
    assert_int_equal(result.segment.base, 0);
    log_builder_exit(&log);
}

/* ---- stale ---- */

static void recycled_segment_behind_is_stale(void **state)
{
    (void)state;
    for (int header = 0; header < 2; header++) {
        struct log_builder log;
        build(&log, 40);
        const struct weir__range from = log.segments[0];
        const weir_lsn base = log.segments[log.segment_count - 1].end;
        struct weir__control control;
        log_builder_control(&log, &control);
        control.oldest_lsn = log.segments[1].base;
        control.promise = log.position.lsn;
        control.checkpoint = weir__position_after(&log.batches[20].header, BLOCK);
        log_builder_control_write(&log, &control);
        /* Without the new header a crash came between rename and header: prepared, unused. */
        log_builder_recycle(&log, from, (struct weir__range){base, base + SEGMENT}, header != 0);
        const struct weir__scan_result result =
            expect_both(&log, WEIR_VERDICT_STALE, log.position.lsn);
        assert_int_equal(result.report.evidence_lsn, base + BLOCK);
        assert_int_equal(result.report.bytes_cut, 0);
        log_builder_exit(&log);
    }
}

static void batches_in_a_recycled_segment_are_found(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    const struct weir__range from = log.segments[0];
    const weir_lsn base = log.segments[log.segment_count - 1].end;
    log_builder_recycle(&log, from, (struct weir__range){base, base + SEGMENT}, true);
    log_builder_rotate(&log);
    log_builder_batch(&log, 5, 200);
    log_builder_batch(&log, 5, 200);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.oldest_lsn = log.segments[0].base;
    control.checkpoint = weir__position_after(&log.batches[20].header, BLOCK);
    log_builder_control_write(&log, &control);
    expect_both(&log, WEIR_VERDICT_STALE, log.position.lsn);
    /* And a torn one there is torn, not stale: it is of the newest epoch. */
    log_builder_flip(&log, log.batches[41].header.lsn + 300, 4);
    expect_both(&log, WEIR_VERDICT_TORN, log.batches[40].end);
    log_builder_exit(&log);
}

static void longer_tail_of_an_earlier_epoch_is_stale(void **state)
{
    (void)state;
    for (size_t newer = 0; newer < 6; newer++) {
        struct log_builder log;
        build(&log, 30);
        log_builder_cut(&log, log.batches[4].end);
        for (size_t i = 0; i < newer; i++) {
            log_builder_batch(&log, 3, 100);
        }
        rig_crash(&log, log.position.lsn, NULL);
        const struct weir__scan_result result =
            expect_both(&log, WEIR_VERDICT_STALE, log.position.lsn);
        assert_int_equal(result.report.records, log.record_count);
        assert_int_equal(result.end.epoch, newer == 0 ? 1 : 2);
        assert_int_equal(result.report.evidence_lsn, log.position.lsn);
        log_builder_exit(&log);
    }
}

static void tail_of_an_earlier_epoch_is_stale_also_between_its_batches(void **state)
{
    (void)state;
    /* The newer epoch's end falls into the middle of an older batch. */
    struct log_builder log;
    log_builder_init(&log, NULL);
    for (size_t i = 0; i < 8; i++) {
        log_builder_batch(&log, 3, 400); /* three blocks each */
    }
    log_builder_cut(&log, log.batches[0].end);
    log_builder_batch(&log, 1, 100);
    rig_crash(&log, log.position.lsn, NULL);
    expect_both(&log, WEIR_VERDICT_STALE, log.position.lsn);
    log_builder_exit(&log);
}

static void diverged_copy_is_stale(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 10);
    const weir_lsn end = log.position.lsn;
    log_builder_epoch(&log);
    log_builder_batch(&log, 3, 100);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.promise = end;
    control.epoch.nonce ^= 0xff; /* this directory began the same epoch by itself */
    log_builder_control_write(&log, &control);
    expect_both(&log, WEIR_VERDICT_STALE, end);
    log_builder_exit(&log);
}

/* ---- corrupt ---- */

static void damage_below_a_later_batchs_promise_is_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 30);
    rig_crash(&log, 0, NULL);
    for (size_t bad = 0; bad < 29; bad++) {
        const weir_lsn lsn = log.batches[bad].header.lsn;
        for (unsigned at = 0; at < 3; at++) {
            /* magic, checksum, payload */
            const weir_lsn byte = lsn + (at == 2 ? 250 : 4 * at);
            log_builder_flip(&log, byte, 1);
            const weir_lsn end = bad == 0 ? 0 : log.batches[bad - 1].end;
            if (bad == 28) {
                /* The last batch's promise ends where this one did: it proves it too. */
                assert_int_equal(log.batches[29].header.promise, log.batches[28].end);
            }
            const struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CORRUPT, end);
            expect_corrupt_at(&result, log_builder_segment(&log, lsn), lsn);
            assert_true(result.report.evidence_lsn > lsn);
            log_builder_flip(&log, byte, 1);
        }
    }
    expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    log_builder_exit(&log);
}

static void damage_below_the_controls_promise_is_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 10);
    const weir_lsn lsn = log.batches[9].header.lsn;
    rig_crash(&log, log.position.lsn, NULL);
    log_builder_flip(&log, lsn + 130, 1);
    struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[8].end);
    expect_corrupt_at(&result, log.segments[0], lsn);
    assert_int_equal(result.report.evidence_lsn, log.position.lsn);
    /* Zeroed as a whole it is still known to have been there. */
    log_builder_fill(&log, lsn, lsn + BLOCK, 0);
    result = expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[8].end);
    expect_corrupt_at(&result, log.segments[0], lsn);
    log_builder_exit(&log);
}

static void only_a_later_segment_knows(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    const weir_lsn lsn = log.batches[10].header.lsn;
    for (size_t i = 11; i < 19; i++) {
        log_builder_fill(&log, log.batches[i].header.lsn, log.batches[i].end, 0);
    }
    log_builder_flip(&log, lsn + 77, 2);
    rig_crash(&log, 0, NULL);
    const struct weir__scan_result result =
        expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[9].end);
    expect_corrupt_at(&result, log.segments[0], lsn);
    assert_int_equal(result.report.evidence_lsn, log.batches[19].header.lsn);
    log_builder_exit(&log);
}

static void a_missing_segment_is_corrupt_and_named(void **state)
{
    (void)state;
    /* 15 batches to a segment. Below the checkpoint the names alone tell. */
    for (size_t missing = 0; missing < 3; missing++) {
        struct log_builder log;
        build(&log, 50);
        struct weir__control control;
        rig_close_clean(&log, &control);
        const struct weir__range range = log.segments[missing];
        log_builder_remove(&log, range);
        for (int oldest = 0; oldest < 2; oldest++) {
            const struct weir__scan_result result = rig_look(&log, oldest != 0);
            assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
            expect_corrupt_at(&result, range, range.base);
            assert_int_equal(result.report.records, 0);
        }
        log_builder_exit(&log);
    }
    /* Above it a later batch proves it. */
    struct log_builder log;
    build(&log, 50);
    rig_crash(&log, 0, NULL);
    const struct weir__range range = log.segments[1];
    log_builder_remove(&log, range);
    const struct weir__scan_result result =
        expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[14].end);
    expect_corrupt_at(&result, range, range.base);
    log_builder_exit(&log);
    /* The last one, above the checkpoint, with a promise. */
    build(&log, 50);
    rig_crash(&log, log.position.lsn, NULL);
    log_builder_remove(&log, log.segments[3]);
    expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[44].end);
    log_builder_exit(&log);
    /* The only one. */
    build(&log, 5);
    rig_close_clean(&log, NULL);
    log_builder_remove(&log, log.segments[0]);
    assert_int_equal(rig_look(&log, true).report.verdict, WEIR_VERDICT_CORRUPT);
    assert_int_equal(rig_look(&log, false).report.verdict, WEIR_VERDICT_CORRUPT);
    log_builder_exit(&log);
}

static void poke_segment_header(struct log_builder *log,
                                struct weir__range range,
                                uint64_t log_id,
                                weir_lsn base)
{
    const struct weir__segment_header header = {
        .log_id = log_id,
        .number = 1,
        .base = base,
        .bytes = range.end - range.base,
        .epoch = 1,
        .prev_number = WEIR__SEGMENT_NONE,
        .block_bytes = log->block_bytes,
        .origin = WEIR__SEGMENT_ZEROED,
    };
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    weir__segment_header_encode(&header, bytes);
    log_builder_poke(log, range.base, bytes, sizeof bytes);
}

static void a_foreign_segment_in_the_middle_is_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 50);
    rig_crash(&log, 0, NULL);
    const struct weir__range range = log.segments[1];
    /* Only the header is foreign: the batches would continue. */
    poke_segment_header(&log, range, log.log_id + 1, range.base);
    struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[14].end);
    expect_corrupt_at(&result, range, range.base);
    /* Of this log, but of another place. */
    poke_segment_header(&log, range, log.log_id, range.base + SEGMENT);
    result = expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[14].end);
    expect_corrupt_at(&result, range, range.base);
    /* Bytes of another log altogether. */
    log_builder_noise(&log, range.base, range.end, 3);
    result = expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[14].end);
    log_builder_exit(&log);
}

static void two_segments_over_the_same_lsns_are_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 50);
    rig_close_clean(&log, NULL);
    char path[400];
    (void)snprintf(path,
                   sizeof path,
                   "%s/%016x-%016x.weir",
                   log.path,
                   3 * BLOCK,
                   SEGMENT + 3 * BLOCK);
    FILE *const file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), SEGMENT), 0);
    (void)fclose(file);
    for (int oldest = 0; oldest < 2; oldest++) {
        const struct weir__scan_result result = rig_look(&log, oldest != 0);
        assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
        assert_int_equal(result.report.bad_lsn, 3 * BLOCK);
    }
    log_builder_exit(&log);
}

static void leftovers_of_another_size_do_not_hide_the_next_segment(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 15);
    /* Behind the end, beginning where the next segment begins: a shorter one, made before the size
     * was changed. */
    char path[400];
    (void)
        snprintf(path, sizeof path, "%s/%016x-%016x.weir", log.path, SEGMENT, SEGMENT + 8 * BLOCK);
    FILE *const file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), 8 * BLOCK), 0);
    (void)fclose(file);
    rig_crash(&log, 0, NULL);
    expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    /* With batches in the longer one the two are in each other's way, and no reader could tell them
     * apart. */
    log_builder_batch(&log, 3, 100);
    log_builder_batch(&log, 3, 100);
    const struct weir__scan_result result = rig_look(&log, false);
    assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
    assert_int_equal(result.report.records, 51);
    log_builder_exit(&log);
}

static void a_clean_end_beyond_what_verifies_is_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    rig_close_clean(&log, NULL);
    log_builder_flip(&log, log.batches[19].header.lsn + 300, 1);
    const struct weir__scan_result result = rig_look(&log, true);
    expect_end(&result, &log, WEIR_VERDICT_CORRUPT, log.batches[18].end);
    assert_int_equal(result.report.evidence_lsn, log.position.lsn);
    log_builder_exit(&log);
}

static void an_older_control_file_is_noticed(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    rig_close_clean(&log, NULL); /* and this is put back later */
    const weir_lsn end = log.position.lsn;
    log_builder_epoch(&log);
    log_builder_batch(&log, 3, 100);
    log_builder_batch(&log, 3, 100);
    for (int oldest = 0; oldest < 2; oldest++) {
        const struct weir__scan_result result = rig_look(&log, oldest != 0);
        expect_end(&result, &log, WEIR_VERDICT_CORRUPT, end);
        assert_int_equal(result.report.evidence_lsn, end);
        assert_int_equal(result.epoch_max, 2);
        assert_non_null(strstr(result.report.why, "control file is older"));
    }
    log_builder_exit(&log);
}

static void an_earlier_epochs_promise_ends_where_the_next_began(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    struct weir__control before;
    log_builder_control(&log, &before);
    before.promise = log.position.lsn;
    before.generation = 7;
    log_builder_cut(&log, log.batches[4].end);
    struct weir__control after;
    log_builder_control(&log, &after);
    after.promise = log.position.lsn;
    after.generation = 8;
    /* A suffix was cut off; the crash came between the two copies. */
    log_builder_control_write_copy(&log, 0, &before);
    log_builder_control_write_copy(&log, 1, &after);
    struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_STALE, log.position.lsn);
    assert_int_equal(result.report.promise_lsn, log.position.lsn);
    /* Below that start the earlier word counts. */
    log_builder_flip(&log, log.batches[3].header.lsn + 120, 1);
    result = expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[2].end);
    log_builder_exit(&log);
}

static void the_newest_epochs_start_is_a_promise(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 10);
    log_builder_epoch(&log);
    rig_crash(&log, 0, NULL);
    expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    log_builder_flip(&log, log.batches[9].header.lsn + 120, 1);
    const struct weir__scan_result result =
        expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[8].end);
    assert_int_equal(result.report.evidence_lsn, log.position.lsn);
    log_builder_exit(&log);
}

static void a_damaged_segment_header_is_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_crash(&log, 0, NULL);
    for (size_t i = 0; i < 3; i++) {
        log_builder_flip(&log, log.segments[i].base + 41, 1);
        const struct weir__scan_result result = rig_look(&log, true);
        assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
        expect_corrupt_at(&result, log.segments[i], log.segments[i].base);
        log_builder_flip(&log, log.segments[i].base + 41, 1);
    }
    log_builder_exit(&log);
}

static void a_newer_format_is_refused(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    log_builder_prepare(&log, 1);
    rig_crash(&log, 0, NULL);
    for (size_t i = 0; i < log.segment_count; i++) {
        uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
        uint8_t changed[WEIR__SEGMENT_HEADER_BYTES];
        log_builder_peek(&log, log.segments[i].base, bytes, sizeof bytes);
        memcpy(changed, bytes, sizeof bytes);
        weir__put_u32(changed + 8, WEIR__FORMAT_VERSION + 1);
        weir__put_u32(changed + 4, weir__crc32c(0, changed + 8, sizeof changed - 8));
        log_builder_poke(&log, log.segments[i].base, changed, sizeof changed);
        struct rig *const rig = malloc(sizeof *rig);
        rig_init(rig, &log);
        assert_int_equal(rig_load(rig), 0);
        const struct weir__scan_config config = rig_config(rig, true);
        struct weir__scan_result result;
        assert_int_equal(weir__scan(&config, &result, &rig->fault), WEIR_EFORMAT);
        assert_int_equal(rig->fault.code, WEIR_EFORMAT);
        assert_int_equal(rig->fault.lsn, log.segments[i].base);
        rig_exit(rig);
        free(rig);
        log_builder_poke(&log, log.segments[i].base, bytes, sizeof bytes);
    }
    log_builder_exit(&log);
}

/* ---- the oldest segment as anchor ---- */

static void a_trimmed_log_is_anchored_in_its_oldest_segment(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 50);
    struct weir__control control;
    rig_close_clean(&log, &control);
    log_builder_remove(&log, log.segments[0]);
    control.oldest_lsn = log.batches[20].header.lsn;
    log_builder_control_write(&log, &control);
    struct weir__scan_result result = rig_look(&log, true);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 35 * 3);
    assert_int_equal(result.report.scan_from_lsn, log.segments[0].base + BLOCK);
    /* A checkpoint that was trimmed away: the same, from the anchor. */
    control.checkpoint = weir__position_after(&log.batches[5].header, BLOCK);
    control.flags = 0;
    log_builder_control_write(&log, &control);
    result = rig_look(&log, false);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 35 * 3);
    /* What does not verify there was promised. */
    log_builder_flip(&log, log.segments[0].base + BLOCK + 30, 1);
    for (int oldest = 0; oldest < 2; oldest++) {
        result = rig_look(&log, oldest != 0);
        assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
        expect_corrupt_at(&result, log.segments[0], log.segments[0].base + BLOCK);
    }
    log_builder_exit(&log);
}

static void a_checkpoint_below_the_oldest_segment_is_not_leaned_on(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 30);
    assert_int_equal(log.position.lsn, 2 * SEGMENT);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.promise = log.position.lsn;
    control.oldest_lsn = log.segments[1].base + 3 * BLOCK;
    control.checkpoint = weir__position_after(&log.batches[5].header, BLOCK);
    log_builder_control_write(&log, &control);
    /* A live writer may give the first segment up while it is looked at. */
    struct rig *const rig = malloc(sizeof *rig);
    struct weir__scan_result result;
    rig_init(rig, &log);
    rig_scan(rig, true, &result);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 45);
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(log.segments[0].base, log.segments[0].end, name);
    for (size_t i = 0; i < rig->io.opened_count; i++) {
        assert_string_not_equal(rig->io.opened[i], name);
    }
    /* Where the oldest segment holds no batch yet, nothing else leads to the end. */
    control.oldest_lsn = log.position.lsn;
    control.checkpoint = weir__position_after(&log.batches[25].header, BLOCK);
    log_builder_control_write(&log, &control);
    log_builder_prepare(&log, 1);
    rig_scan(rig, true, &result);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 12);
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

/* Everything was trimmed, the log's end is a segment's end, and the next segment's first batch was
 * torn by a crash: its header is sound, and it is no anchor but the end's torn tail. */
static void a_torn_first_batch_of_the_oldest_segment_is_cut(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 30);
    const weir_lsn end = log.position.lsn;
    assert_int_equal(end, 2 * SEGMENT);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.promise = end;
    control.oldest_lsn = end;
    control.flags = 0;
    control.checkpoint = weir__position_after(&log.batches[25].header, BLOCK);
    log_builder_control_write(&log, &control);
    log_builder_batch(&log, 3, 100);
    log_builder_flip(&log, end + BLOCK + WEIR__BATCH_HEADER_BYTES + 40, 1);
    for (int oldest = 0; oldest < 2; oldest++) {
        const struct weir__scan_result result = rig_look(&log, oldest != 0);
        assert_int_equal(result.report.verdict, WEIR_VERDICT_TORN);
        assert_int_equal(result.report.end_lsn, end);
    }
    /* Promised, it is damage. */
    control.promise = log.position.lsn;
    log_builder_control_write(&log, &control);
    for (int oldest = 0; oldest < 2; oldest++) {
        const struct weir__scan_result result = rig_look(&log, oldest != 0);
        assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
        assert_int_equal(result.report.bad_lsn, end + BLOCK);
    }
    log_builder_exit(&log);
}

static void segments_below_the_oldest_are_ignored(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 50);
    struct weir__control control;
    rig_close_clean(&log, &control);
    control.oldest_lsn = log.segments[1].base;
    log_builder_control_write(&log, &control);
    log_builder_noise(&log, log.segments[0].base, log.segments[0].end, 5);
    const struct weir__scan_result result = rig_look(&log, true);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.segments, 3);
    log_builder_exit(&log);
}

static void everything_trimmed_is_an_empty_log(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 30); /* fills two segments exactly */
    assert_int_equal(log.position.lsn, 2 * SEGMENT);
    struct weir__control control;
    rig_close_clean(&log, &control);
    control.oldest_lsn = log.position.lsn;
    log_builder_control_write(&log, &control);
    log_builder_remove(&log, log.segments[0]);
    for (int oldest = 0; oldest < 2; oldest++) {
        const struct weir__scan_result result = rig_look(&log, oldest != 0);
        expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    }
    /* The one that holds the byte before the end is never given up, unless the next one is there.
     */
    const struct weir__range last = log.segments[0];
    log_builder_prepare(&log, 1);
    log_builder_remove(&log, last);
    for (int oldest = 0; oldest < 2; oldest++) {
        const struct weir__scan_result result = rig_look(&log, oldest != 0);
        expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    }
    log_builder_remove(&log, log.segments[0]);
    for (int oldest = 0; oldest < 2; oldest++) {
        const struct weir__scan_result result = rig_look(&log, oldest != 0);
        assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
        assert_int_equal(result.report.bad_lsn, 2 * SEGMENT);
        assert_non_null(strstr(result.report.why, "a segment is missing"));
    }
    log_builder_exit(&log);
}

/* ---- what cannot be read ---- */

static struct weir__scan_result look_bad(const struct log_builder *log,
                                         bool from_oldest,
                                         struct weir__range range,
                                         weir_lsn from,
                                         weir_lsn to)
{
    struct rig *const rig = malloc(sizeof *rig);
    struct weir__scan_result result;
    rig_init(rig, log);
    rig_bad(&rig->io, range, from - range.base, to - range.base);
    rig_scan(rig, from_oldest, &result);
    rig_exit(rig);
    free(rig);
    return result;
}

static void a_read_error_is_never_an_end(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    log_builder_prepare(&log, 1);
    rig_crash(&log, 0, NULL);
    /* Each block of every segment: header, batches, behind the end, prepared. */
    for (size_t i = 0; i < log.segment_count; i++) {
        const struct weir__range range = log.segments[i];
        for (weir_lsn lsn = range.base; lsn < range.end; lsn += BLOCK) {
            const struct weir__scan_result result = look_bad(&log, false, range, lsn, lsn + BLOCK);
            assert_int_equal(result.report.verdict, WEIR_VERDICT_UNREADABLE);
            expect_corrupt_at(&result, range, lsn);
            assert_int_equal(result.report.error.code, WEIR_EUNREADABLE);
            assert_true(result.end.lsn <= weir__max_u64(lsn, log.position.lsn));
        }
    }
    log_builder_exit(&log);
}

static void an_unreadable_block_behind_a_clean_end_does_not_matter(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    log_builder_prepare(&log, 1);
    rig_close_clean(&log, NULL);
    const struct weir__scan_result result =
        look_bad(&log, false, log.segment, log.position.lsn, log.segment.end);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    log_builder_exit(&log);
}

static void an_unreadable_block_in_an_unused_end_does_not_matter(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 10);
    log_builder_rotate(&log);
    log_builder_batch(&log, 3, 100);
    rig_crash(&log, 0, NULL);
    const struct weir__range first = log.segments[0];
    const weir_lsn unused = log.batches[9].end;
    const struct weir__scan_result result = look_bad(&log, false, first, unused, first.end);
    /* The next segment's first batch says where it continues. What lies behind the end is searched
     * in its own segment. */
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    log_builder_exit(&log);
}

static void an_unreadable_block_behind_damage_is_unreadable_not_torn(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    const struct log_builder_batch *const torn = &log.batches[17];
    rig_crash(&log, torn->header.promise, NULL);
    log_builder_flip(&log, torn->header.lsn + 100, 1);
    log_builder_fill(&log, log.batches[18].header.lsn, log.batches[18].end, 0);
    /* The only witness cannot be read. */
    const weir_lsn witness = log.batches[19].header.lsn;
    const struct weir__scan_result result =
        look_bad(&log, false, log.segment, witness, witness + BLOCK);
    assert_int_equal(result.report.verdict, WEIR_VERDICT_UNREADABLE);
    assert_int_equal(result.report.bad_lsn, witness);
    expect_both(&log, WEIR_VERDICT_CORRUPT, log.batches[16].end);
    log_builder_exit(&log);
}

/* ---- the control file ---- */

static void one_copy_lost_is_said_and_survived(void **state)
{
    (void)state;
    for (unsigned lost = 0; lost < 2; lost++) {
        struct log_builder log;
        build(&log, 20);
        rig_close_clean(&log, NULL);
        log_builder_control_write_copy(&log, lost, NULL);
        const struct weir__scan_result result = rig_look(&log, true);
        expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
        assert_int_equal(result.report.records, 60);
        assert_non_null(strstr(result.report.why, "control file is lost"));
        log_builder_exit(&log);
    }
}

static void the_largest_epoch_is_found_anywhere(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 10);
    struct weir__control control;
    log_builder_control(&log, &control);
    /* A segment that a later owner prepared. */
    log.newest.epoch = 9;
    log_builder_prepare(&log, 1);
    log_builder_control_write(&log, &control);
    struct weir__scan_result result = rig_look(&log, false);
    assert_int_equal(result.epoch_max, 9);
    assert_int_equal(result.report.epoch, 1);
    /* The older copy of the control file. */
    control.generation = 5;
    log_builder_control_write_copy(&log, 0, &control);
    control.epoch.epoch = 12;
    control.generation = 4;
    log_builder_control_write_copy(&log, 1, &control);
    result = rig_look(&log, false);
    assert_int_equal(result.epoch_max, 12);
    log_builder_exit(&log);
}

static int control_of(const struct log_builder *log)
{
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, log);
    const int code = rig_load(rig);
    assert_int_equal(code, rig->fault.code);
    rig_exit(rig);
    free(rig);
    return code;
}

static void a_log_without_control_copies_is_refused(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, NULL);
    assert_int_equal(control_of(&log), WEIR_ENOLOG);
    log_builder_prepare(&log, 1);
    assert_int_equal(control_of(&log), WEIR_ECORRUPT);
    log_builder_control_write_copy(&log, 0, NULL);
    log_builder_control_write_copy(&log, 1, NULL);
    assert_int_equal(control_of(&log), WEIR_ECORRUPT);
    log_builder_remove(&log, log.segments[0]);
    assert_int_equal(control_of(&log), WEIR_ECORRUPT);
    log_builder_exit(&log);
}

/* ---- truncated files, flipped bits ---- */

static void a_truncated_file_never_passes(void **state)
{
    (void)state;
    static const unsigned odd[] = {0, 1, 97, 511};
    for (size_t segment = 0; segment < 2; segment++) {
        for (uint64_t blocks = 0; blocks < 16; blocks++) {
            for (size_t i = 0; i < WEIR__ARRAY_COUNT(odd); i++) {
                struct log_builder log;
                build(&log, 20);
                rig_close_clean(&log, NULL);
                log_builder_truncate(&log, log.segments[segment], blocks * BLOCK + odd[i]);
                const struct weir__scan_result result = rig_look(&log, true);
                assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
                assert_int_equal(result.report.error.code, WEIR_ECORRUPT);
                log_builder_exit(&log);
            }
        }
    }
}

static void every_flipped_bit_of_a_closed_log_is_noticed(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, &(struct log_builder_config){.segment_bytes = 4 * BLOCK});
    log_builder_batch(&log, 2, 60);
    log_builder_epoch(&log);
    log_builder_batch(&log, 1, 500);
    log_builder_batch(&log, 3, 20);
    log_builder_begin(&log);
    log_builder_skip(&log, 0); /* what a skip holds means nothing and is not checked */
    log_builder_add(&log, "group", 5, 1, true);
    log_builder_add(&log, "", 0, 2, false);
    log_builder_end(&log);
    rig_close_clean(&log, NULL);

    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, &log);
    assert_int_equal(rig_load(rig), 0);
    const struct weir__scan_config config = rig_config(rig, true);
    struct weir__scan_result result;
    unsigned flips = 0;
    for (size_t i = 0; i < log.segment_count; i++) {
        const struct weir__range range = log.segments[i];
        for (weir_lsn lsn = range.base; lsn < range.end; lsn++) {
            bool used = lsn - range.base < WEIR__SEGMENT_HEADER_BYTES;
            for (size_t b = 0; b < log.batch_count; b++) {
                used = used || (lsn >= log.batches[b].header.lsn && lsn < log.batches[b].end);
            }
            for (unsigned bit = 0; bit < 8; bit++) {
                /* Unused bytes mean nothing: one bit of each is enough. */
                if (!used && bit != lsn % 8) {
                    continue;
                }
                log_builder_flip(&log, lsn, (uint8_t)(1u << bit));
                assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
                if (used) {
                    assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
                } else {
                    assert_int_equal(result.report.verdict, WEIR_VERDICT_CLEAN);
                    assert_int_equal(result.report.records, log.record_count);
                    assert_int_equal(result.end.lsn, log.position.lsn);
                }
                log_builder_flip(&log, lsn, (uint8_t)(1u << bit));
                flips++;
            }
        }
    }
    assert_true(flips > 10000);
    assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

static void every_flipped_bit_of_a_control_copy_leaves_the_other(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 5);
    struct weir__control control;
    rig_close_clean(&log, &control);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, &log);
    for (unsigned copy = 0; copy < 2; copy++) {
        for (unsigned bit = 0; bit < WEIR__CONTROL_USED_BYTES * 8; bit++) {
            struct weir__control good = control;
            good.generation += copy;
            uint8_t bytes[WEIR__CONTROL_USED_BYTES];
            weir__control_encode(&good, bytes);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            char path[400];
            (void)snprintf(path, sizeof path, "%s/weir.control", log.path);
            FILE *const file = fopen(path, "r+");
            assert_non_null(file);
            assert_int_equal(fseek(file, (long)(copy * WEIR__CONTROL_COPY_OFFSET), SEEK_SET), 0);
            assert_int_equal(fwrite(bytes, sizeof bytes, 1, file), 1);
            (void)fclose(file);
            struct weir__scan_result result;
            rig_scan(rig, true, &result);
            expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
            assert_int_equal(result.report.records, 15);
        }
        log_builder_control_write(&log, &control);
    }
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

/* ---- manners ---- */

static void scanning_twice_gives_the_same(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_crash(&log, 0, NULL);
    log_builder_flip(&log, log.batches[39].header.lsn + 140, 1);
    const struct weir__scan_result first = rig_look(&log, false);
    const struct weir__scan_result second = rig_look(&log, false);
    assert_memory_equal(&first, &second, sizeof first);
    log_builder_exit(&log);
}

static void nothing_before_the_checkpoints_segment_is_opened(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 50);
    log_builder_prepare(&log, 1);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.checkpoint = weir__position_after(&log.batches[35].header, BLOCK);
    log_builder_control_write(&log, &control);
    struct rig *const rig = malloc(sizeof *rig);
    struct weir__scan_result result;
    rig_init(rig, &log);
    rig_scan(rig, false, &result);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(result.report.records, 14 * 3);
    for (size_t i = 0; i < rig->io.opened_count; i++) {
        weir_lsn base;
        weir_lsn end;
        if (weir__segment_name_parse(rig->io.opened[i], &base, &end)) {
            assert_true(base >= log.batches[35].segment.base);
        }
    }
    /* Closed cleanly it reads the last segment's header and the places where a batch could be, no
     * more. */
    rig_close_clean(&log, NULL);
    rig->io.reads = 0;
    rig_scan(rig, false, &result);
    assert_true(rig->io.reads < 10);
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

static void a_scan_writes_nothing(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_crash(&log, 0, NULL);
    log_builder_flip(&log, log.batches[30].header.lsn + 140, 1);
    struct rig *const rig = malloc(sizeof *rig);
    struct weir__scan_result result;
    rig_init(rig, &log);
    rig_scan(rig, true, &result);
    rig_scan(rig, false, &result);
    assert_int_equal(rig->io.changes, 0);
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

struct seen {
    const struct log_builder *log;
    size_t batches;
    weir_lsn piece_end;
    size_t stop_at;
    uint64_t done;
    uint64_t total;
    bool fell;
};

static int seen_batch(void *ctx, const struct weir__batch *batch, struct weir__range segment)
{
    struct seen *const seen = ctx;
    const struct log_builder_batch *const expected = &seen->log->batches[seen->batches];
    if (memcmp(batch, &expected->header, sizeof *batch) != 0 ||
        segment.base != expected->segment.base || seen->piece_end != expected->end) {
        return -EDOM;
    }
    seen->batches++;
    return seen->batches == seen->stop_at ? -ERANGE : 0;
}

static int
seen_piece(void *ctx, const struct weir__batch *batch, weir_lsn lsn, const void *data, size_t bytes)
{
    struct seen *const seen = ctx;
    const struct log_builder_batch *const expected = &seen->log->batches[seen->batches];
    if (lsn == batch->lsn + WEIR__BATCH_HEADER_BYTES) {
        seen->piece_end = lsn;
    }
    if (lsn != seen->piece_end || lsn + bytes > expected->end ||
        memcmp(data, expected->image + (lsn - expected->header.lsn), bytes) != 0) {
        return -EDOM;
    }
    seen->piece_end += bytes;
    return 0;
}

static int seen_any_piece(void *ctx,
                          const struct weir__batch *batch,
                          weir_lsn lsn,
                          const void *data,
                          size_t bytes)
{
    struct seen *const seen = ctx;
    (void)batch, (void)data;
    seen->piece_end = lsn + bytes;
    return 0;
}

static void seen_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct seen *const seen = ctx;
    seen->fell = seen->fell || done < seen->done || done > total;
    seen->done = done;
    seen->total = total;
}

static void batches_are_shown_in_order_with_their_bytes(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, &(struct log_builder_config){.segment_bytes = (uint64_t)6 << 20});
    for (size_t i = 0; i < 40; i++) {
        log_builder_batch(&log, 4, (i * 37 % 11) * 40000);
    }
    rig_crash(&log, 0, NULL);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, &log);
    assert_int_equal(rig_load(rig), 0);
    struct weir__scan_config config = rig_config(rig, true);
    struct seen seen = {.log = &log};
    config.batch = seen_batch;
    config.piece = seen_piece;
    config.progress = seen_progress;
    config.ctx = &seen;
    struct weir__scan_result result;
    assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
    assert_int_equal(seen.batches, 40);
    assert_false(seen.fell);
    assert_true(seen.total > 0);
    assert_int_equal(seen.done, seen.total);
    seen = (struct seen){.log = &log, .stop_at = 5};
    assert_int_equal(weir__scan(&config, &result, &rig->fault), -ERANGE);
    assert_int_equal(seen.batches, 5);
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

static void a_limit_ends_the_look(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    log_builder_prepare(&log, 1);
    rig_crash(&log, 0, NULL);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, &log);
    struct weir__scan_result result;
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(rig_load(rig), 0);
        struct weir__scan_config config = rig_config(rig, true);
        config.limit = log.batches[i].end;
        config.durable = config.limit;
        /* Above it bytes may be in any state. */
        if (i + 1 < 40) {
            log_builder_flip(&log, log.batches[i].end + 60, 0xff);
        }
        assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
        expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.batches[i].end);
        assert_int_equal(result.report.records, 3 * (i + 1));
        /* In the middle of a batch: up to the one before. */
        config.limit = log.batches[i].end - 8;
        config.durable = 0;
        assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
        expect_end(&result, &log, WEIR_VERDICT_CLEAN, i == 0 ? 0 : log.batches[i - 1].end);
        if (i + 1 < 40) {
            log_builder_flip(&log, log.batches[i].end + 60, 0xff);
        }
    }
    /* Below it everything must hold. */
    struct weir__scan_config config = rig_config(rig, true);
    config.limit = config.durable = log.batches[20].end;
    log_builder_flip(&log, log.batches[20].header.lsn + 60, 1);
    assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
    expect_end(&result, &log, WEIR_VERDICT_CORRUPT, log.batches[19].end);
    assert_int_equal(result.report.evidence_lsn, log.batches[20].end);
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

/* The limit lies in the first batch of the oldest segment, whose beginning was trimmed: nothing can be
 * said yet, and nothing is wrong. */
static void a_limit_within_the_first_batch_is_no_damage(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.oldest_lsn = control.promise = log.segments[1].base;
    control.checkpoint = (struct weir__position){.lsn = log.first_lsn + BLOCK};
    log_builder_control_write(&log, &control);
    log_builder_remove(&log, log.segments[0]);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, &log);
    assert_int_equal(rig_load(rig), 0);
    struct weir__scan_config config = rig_config(rig, true);
    struct weir__scan_result result;
    config.limit = log.segments[0].base + 2 * BLOCK - 8;
    assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
    assert_int_equal(result.report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(result.report.records, 0);
    assert_non_null(strstr(result.report.why, "lies within the first batch"));
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

/* The damage is in an early piece of a batch of several: the end lies before the batch all the same,
 * the place is named, and nothing behind the damage is read. */
static void damage_in_an_early_piece_of_a_batch_is_where_it_is(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, &(struct log_builder_config){.segment_bytes = (uint64_t)16 << 20});
    log_builder_batch(&log, 1, 100);
    log_builder_batch(&log, 8000, 700);
    const struct log_builder_batch large = log.batches[1];
    const weir_lsn frame = log.records[2000].lsn;
    rig_crash(&log, 0, NULL);
    struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CLEAN, large.end);
    log_builder_flip(&log, frame + WEIR__FRAME_HEADER_BYTES + 3, 1);
    result = expect_both(&log, WEIR_VERDICT_TORN, large.header.lsn);
    assert_int_equal(result.report.records, 1);
    assert_int_equal(result.report.bytes_cut, large.end - large.header.lsn);
    struct rig *const rig = malloc(sizeof *rig);
    struct seen seen = {.log = &log};
    rig_init(rig, &log);
    assert_int_equal(rig_load(rig), 0);
    struct weir__scan_config config = rig_config(rig, true);
    config.piece = seen_any_piece;
    config.ctx = &seen;
    assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
    assert_true(seen.piece_end > large.header.lsn);
    assert_true(seen.piece_end < frame + 700);
    rig_exit(rig);
    /* Where a promise decides, the rest of the batch is not read for it. */
    rig_crash(&log, large.end, NULL);
    rig_init(rig, &log);
    rig_scan(rig, true, &result);
    expect_end(&result, &log, WEIR_VERDICT_CORRUPT, large.header.lsn);
    const uint64_t reads = rig->io.reads;
    log_builder_flip(&log, frame + WEIR__FRAME_HEADER_BYTES + 3, 1);
    log_builder_flip(&log, large.end - 700, 1);
    rig->io.reads = 0;
    rig_scan(rig, true, &result);
    expect_end(&result, &log, WEIR_VERDICT_CORRUPT, large.header.lsn);
    assert_true(reads < rig->io.reads);
    rig_exit(rig);
    free(rig);
    log_builder_flip(&log, large.end - 700, 1);
    log_builder_flip(&log, frame + WEIR__FRAME_HEADER_BYTES + 3, 1);
    rig_crash(&log, 0, NULL);
    /* A batch behind knows better, and the frame is named. */
    log_builder_batch(&log, 1, 100);
    result = expect_both(&log, WEIR_VERDICT_CORRUPT, large.header.lsn);
    expect_corrupt_at(&result, large.segment, large.header.lsn);
    assert_int_equal(result.report.evidence_lsn, log.batches[2].header.lsn);
    char text[64];
    (void)snprintf(text, sizeof text, "at LSN %llu), but", (unsigned long long)frame);
    assert_non_null(strstr(result.report.why, text));
    log_builder_exit(&log);
}

/* A file of a segment's name, filled with zeros, and nothing in it that the builder knows of. */
static void put_leftover(const struct log_builder *log, struct weir__range range)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    char path[400];
    weir__segment_name(range.base, range.end, name);
    (void)snprintf(path, sizeof path, "%s/%s", log->path, name);
    FILE *const file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), (off_t)(range.end - range.base)), 0);
    (void)fclose(file);
}

static void remove_leftover(const struct log_builder *log, struct weir__range range)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    assert_int_equal(unlinkat(log->dir, name, 0), 0);
}

static bool was_opened(const struct rig *rig, struct weir__range range)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    for (size_t i = 0; i < rig->io.opened_count; i++) {
        if (strcmp(rig->io.opened[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* A name that is no multiple of the block, or leaves no room behind a header, is nobody's, also where
 * the next segment would begin. */
static void a_next_segment_of_other_blocks_is_never_opened(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 15);
    assert_int_equal(log.position.lsn, SEGMENT);
    rig_crash(&log, 0, NULL);
    const struct weir__range names[] = {
        {SEGMENT, SEGMENT + 8 * BLOCK + 256},
        {SEGMENT, SEGMENT + BLOCK},
    };
    for (size_t i = 0; i < WEIR__ARRAY_COUNT(names); i++) {
        put_leftover(&log, names[i]);
        for (int oldest = 0; oldest < 2; oldest++) {
            struct rig *const rig = malloc(sizeof *rig);
            struct weir__scan_result result;
            rig_init(rig, &log);
            rig_scan(rig, oldest != 0, &result);
            expect_end(&result, &log, WEIR_VERDICT_CLEAN, SEGMENT);
            assert_false(was_opened(rig, names[i]));
            rig_exit(rig);
            free(rig);
        }
        remove_leftover(&log, names[i]);
    }
    log_builder_exit(&log);
}

/* Nor is the oldest segment one by such a name: it is missing, and was promised. */
static void an_oldest_segment_of_other_blocks_is_no_anchor(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 30);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.promise = log.position.lsn;
    control.oldest_lsn = log.segments[1].base;
    control.checkpoint = weir__position_after(&log.batches[5].header, BLOCK);
    log_builder_control_write(&log, &control);
    const struct weir__range wrong = {log.segments[1].base, log.segments[1].base + BLOCK};
    char from[WEIR__SEGMENT_NAME_BYTES];
    char to[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(log.segments[1].base, log.segments[1].end, from);
    weir__segment_name(wrong.base, wrong.end, to);
    assert_int_equal(renameat(log.dir, from, log.dir, to), 0);
    for (int oldest = 0; oldest < 2; oldest++) {
        struct rig *const rig = malloc(sizeof *rig);
        struct weir__scan_result result;
        rig_init(rig, &log);
        rig_scan(rig, oldest != 0, &result);
        expect_end(&result, &log, WEIR_VERDICT_CORRUPT, SEGMENT);
        assert_int_equal(result.report.bad_lsn, wrong.base);
        assert_false(was_opened(rig, wrong));
        rig_exit(rig);
        free(rig);
    }
    assert_int_equal(renameat(log.dir, to, log.dir, from), 0);
    const struct weir__scan_result result = rig_look(&log, true);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, log.position.lsn);
    log_builder_exit(&log);
}

/* Two files begin where the next segment would, and neither continues the log. What the first looks
 * like does not hide that the second cannot be read, nor that a limit lies in its first batch. */
static void of_two_next_segments_the_one_that_matters_counts(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 15);
    assert_int_equal(log.position.lsn, SEGMENT);
    rig_crash(&log, 0, NULL);
    const struct weir__range shorter = {SEGMENT, SEGMENT + 8 * BLOCK};
    const struct weir__range longer = {SEGMENT, 2 * SEGMENT};
    put_leftover(&log, shorter);
    put_leftover(&log, longer);
    expect_both(&log, WEIR_VERDICT_CLEAN, SEGMENT);
    /* More was promised, and none of them has it. */
    rig_crash(&log, SEGMENT + 2 * BLOCK, NULL);
    struct weir__scan_result result = expect_both(&log, WEIR_VERDICT_CORRUPT, SEGMENT);
    expect_corrupt_at(&result, shorter, SEGMENT + BLOCK);
    /* One of them could have it: that is no damage. */
    const struct weir__range both[] = {shorter, longer};
    for (size_t i = 0; i < 2; i++) {
        for (int promised = 0; promised < 2; promised++) {
            rig_crash(&log, promised != 0 ? SEGMENT + 2 * BLOCK : 0, NULL);
            for (int oldest = 0; oldest < 2; oldest++) {
                result = look_bad(&log,
                                  oldest != 0,
                                  both[i],
                                  both[i].base + BLOCK,
                                  both[i].base + 2 * BLOCK);
                expect_end(&result, &log, WEIR_VERDICT_UNREADABLE, SEGMENT);
                expect_corrupt_at(&result, both[i], both[i].base + BLOCK);
            }
        }
    }
    remove_leftover(&log, longer);

    /* The longer one is the log's next, and its first batch ends above the limit: nothing is said of
     * it. Its promise is that of a live writer, below the end. */
    log_builder_batch(&log, 3, 300);
    assert_true(log.batches[15].end - log.batches[15].header.lsn > BLOCK);
    rig_crash(&log, 0, NULL);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, &log);
    assert_int_equal(rig_load(rig), 0);
    struct weir__scan_config config = rig_config(rig, false);
    config.limit = log.batches[15].header.lsn + BLOCK;
    config.durable = SEGMENT;
    assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
    expect_end(&result, &log, WEIR_VERDICT_CLEAN, SEGMENT);
    assert_non_null(strstr(result.report.why, "nothing was asked beyond"));
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

/* A live writer's limit lies in the first batch of the oldest segment, and the checkpoint below it is
 * still held: the batch is an anchor, and what the writer may give up is not looked at. */
static void a_limit_within_an_anchor_leaves_it_one(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 15);
    log_builder_batch(&log, 3, 300);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.oldest_lsn = control.promise = log.segments[1].base + BLOCK;
    control.checkpoint = weir__position_after(&log.batches[5].header, BLOCK);
    log_builder_control_write(&log, &control);
    struct rig *const rig = malloc(sizeof *rig);
    struct weir__scan_result result;
    rig_init(rig, &log);
    assert_int_equal(rig_load(rig), 0);
    struct weir__scan_config config = rig_config(rig, true);
    config.limit = log.batches[15].header.lsn + BLOCK;
    assert_true(config.limit < log.batches[15].end);
    assert_int_equal(weir__scan(&config, &result, &rig->fault), 0);
    assert_int_equal(result.report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(result.report.records, 0);
    assert_non_null(strstr(result.report.why, "lies within the first batch"));
    assert_false(was_opened(rig, log.segments[0]));
    rig_exit(rig);
    free(rig);
    log_builder_exit(&log);
}

static int stop_when_told(void *ctx,
                          const struct weir__batch *batch,
                          weir_lsn lsn,
                          const void *data,
                          size_t bytes)
{
    unsigned *const left = ctx;
    (void)batch, (void)lsn, (void)data, (void)bytes;
    return --*left == 0 ? -ECANCELED : 0;
}

static void whoever_gets_the_bytes_may_end_the_scan(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 4; kind++) {
        const bool anchored = kind % 2 != 0;
        unsigned left = kind < 2 ? 1 : 5;
        struct log_builder log;
        build(&log, 40);
        struct weir__control control;
        log_builder_control(&log, &control);
        if (anchored) {
            control.oldest_lsn = control.promise = log.segments[1].base;
        }
        log_builder_control_write(&log, &control);
        struct rig *const rig = malloc(sizeof *rig);
        rig_init(rig, &log);
        assert_int_equal(rig_load(rig), 0);
        struct weir__scan_config config = rig_config(rig, true);
        struct weir__scan_result result;
        config.piece = stop_when_told;
        config.ctx = &left;
        assert_int_equal(weir__scan(&config, &result, &rig->fault), -ECANCELED);
        rig_exit(rig);
        free(rig);
        log_builder_exit(&log);
    }
}

/* Only the checkpoint knows that there was more: of a clean close, or of a log in use. */
static void the_checkpoint_is_a_promise(void **state)
{
    (void)state;
    for (int closed = 0; closed < 2; closed++) {
        struct log_builder log;
        log_builder_init(&log, NULL);
        log.promise = 0;
        for (size_t i = 0; i < 20; i++) {
            log_builder_batch(&log, 3, 100);
        }
        struct weir__control control;
        rig_close_clean(&log, &control);
        control.promise = log.batches[3].end;
        control.flags = closed != 0 ? WEIR__CONTROL_CLEAN : 0;
        log_builder_control_write(&log, &control);
        log_builder_flip(&log, log.batches[10].header.lsn + 120, 1);
        const struct weir__scan_result result = rig_look(&log, true);
        expect_end(&result, &log, WEIR_VERDICT_CORRUPT, log.batches[9].end);
        assert_int_equal(result.report.evidence_lsn, log.position.lsn);
        assert_non_null(
            strstr(result.report.why, closed != 0 ? "the clean close" : "the checkpoint"));
        log_builder_exit(&log);
    }
}

/* Names that are sound by themselves and do not fit the log's blocks, and a header that says another
 * block than the log has. */
static void a_segment_of_other_blocks_is_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log,
                     &(struct log_builder_config){.block_bytes = 4096, .segment_bytes = 65536});
    for (size_t i = 0; i < 60; i++) {
        log_builder_batch(&log, 3, 1000);
    }
    rig_close_clean(&log, NULL);
    assert_true(log.segment_count > 3);
    struct weir__segment_header header;
    uint8_t right[WEIR__SEGMENT_HEADER_BYTES];
    uint8_t wrong[WEIR__SEGMENT_HEADER_BYTES];
    const struct weir__range second = log.segments[1];
    log_builder_peek(&log, second.base, right, sizeof right);
    assert_int_equal(weir__segment_header_decode(right, &header, NULL), 0);
    header.block_bytes = 2048;
    weir__segment_header_encode(&header, wrong);
    log_builder_poke(&log, second.base, wrong, sizeof wrong);
    struct weir__scan_result result = rig_look(&log, true);
    assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
    expect_corrupt_at(&result, second, second.base);
    assert_non_null(strstr(result.report.why, "another block size"));
    header.block_bytes = 4096;
    header.bytes -= 4096;
    weir__segment_header_encode(&header, wrong);
    log_builder_poke(&log, second.base, wrong, sizeof wrong);
    result = rig_look(&log, true);
    assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
    expect_corrupt_at(&result, second, second.base);
    log_builder_poke(&log, second.base, right, sizeof right);

    /* The first segment ends a block of 512 bytes early, and its name says so. */
    char from[400];
    char to[400];
    char name[WEIR__SEGMENT_NAME_BYTES];
    const struct weir__range first = log.segments[0];
    weir__segment_name(first.base, first.end, name);
    (void)snprintf(from, sizeof from, "%s/%s", log.path, name);
    const struct weir__range names[] = {
        {first.base, first.end - 512},
        {first.base, first.base + 4096},
        {first.base, first.end + 512},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        weir__segment_name(names[i].base, names[i].end, name);
        (void)snprintf(to, sizeof to, "%s/%s", log.path, name);
        assert_int_equal(rename(from, to), 0);
        for (int oldest = 0; oldest < 2; oldest++) {
            result = rig_look(&log, oldest != 0);
            assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
            assert_int_equal(result.report.bad_lsn, first.base);
            assert_non_null(strstr(result.report.why, "does not fit the log's blocks"));
        }
        assert_int_equal(rename(to, from), 0);
    }
    expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    /* Behind the end such a name is nobody's. */
    const struct weir__range last = log.segments[log.segment_count - 1];
    weir__segment_name(last.end + 512, last.end + 65536 + 512, name);
    (void)snprintf(to, sizeof to, "%s/%s", log.path, name);
    FILE *const file = fopen(to, "w");
    assert_non_null(file);
    (void)fclose(file);
    rig_crash(&log, 0, NULL);
    expect_both(&log, WEIR_VERDICT_CLEAN, log.position.lsn);
    assert_int_equal(unlink(to), 0);
    log_builder_exit(&log);
}

/* The first batch of the oldest segment of a trimmed log: its header holds, a frame does not. */
static void a_damaged_first_batch_of_the_oldest_segment_is_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    struct weir__control control;
    rig_close_clean(&log, &control);
    const struct weir__range oldest = log.segments[1];
    control.oldest_lsn = oldest.base;
    log_builder_control_write(&log, &control);
    log_builder_flip(&log, oldest.base + BLOCK + 200, 1);
    const struct weir__scan_result result = rig_look(&log, true);
    assert_int_equal(result.report.verdict, WEIR_VERDICT_CORRUPT);
    expect_corrupt_at(&result, oldest, oldest.base + BLOCK);
    assert_non_null(strstr(result.report.why, "first batch of the oldest segment"));
    log_builder_exit(&log);
}

/* Closed cleanly at its end, and still somebody promised more. */
static void a_promise_above_a_clean_end_is_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    struct weir__control control;
    rig_close_clean(&log, &control);
    control.promise = log.position.lsn + 2 * BLOCK;
    log_builder_control_write(&log, &control);
    const struct weir__scan_result result =
        expect_both(&log, WEIR_VERDICT_CORRUPT, log.position.lsn);
    assert_int_equal(result.report.evidence_lsn, control.promise);
    log_builder_exit(&log);
}

/* ---- anything at all ---- */

static void noise_never_breaks_the_scan(void **state)
{
    (void)state;
    uint64_t seed = 1;
    const char *const given = getenv("WEIR_TEST_SEED");
    if (given != NULL) {
        seed = strtoull(given, NULL, 0);
    }
    uint64_t random = seed;
    for (unsigned round = 0; round < 120; round++) {
        struct log_builder log;
        build(&log, 5 + log_builder_random(&random) % 40);
        if (log_builder_random(&random) % 2 == 0) {
            log_builder_cut(&log, log.batches[log_builder_random(&random) % log.batch_count].end);
            log_builder_batch(&log, 2, 90);
        }
        rig_crash(&log, log_builder_random(&random) % 2 == 0 ? 0 : log.position.lsn, NULL);
        const unsigned hits = 1 + (unsigned)(log_builder_random(&random) % 4);
        weir_lsn lowest = UINT64_MAX;
        for (unsigned i = 0; i < hits; i++) {
            const struct weir__range range =
                log.segments[log_builder_random(&random) % log.segment_count];
            const weir_lsn from = range.base + log_builder_random(&random) % SEGMENT;
            const uint64_t room = range.end - from;
            const weir_lsn to = from + 1 + log_builder_random(&random) % weir__min_u64(room, 700);
            log_builder_noise(&log,
                              from,
                              weir__min_u64(to, range.end),
                              log_builder_random(&random));
            lowest = weir__min_u64(lowest, from);
        }
        const struct weir__scan_result result = rig_look(&log, round % 2 == 0);
        /* What ends below the first damage is there, whatever the verdict; nothing but what was
         * written is. */
        weir_lsn sound = 0;
        for (size_t i = 0; i < log.batch_count && log.batches[i].end <= lowest; i++) {
            sound = log.batches[i].end;
        }
        const bool headers = result.report.verdict == WEIR_VERDICT_CORRUPT;
        if ((!headers && result.end.lsn < sound) || result.end.lsn > log.position.lsn) {
            print_message("round %u, seed %llu: WEIR_TEST_SEED=%llu\n",
                          round,
                          (unsigned long long)seed,
                          (unsigned long long)seed);
            fail_msg("end %llu, sound %llu: %s",
                     (unsigned long long)result.end.lsn,
                     (unsigned long long)sound,
                     result.report.why);
        }
        log_builder_exit(&log);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_log_is_clean),
        cmocka_unit_test(zeros_behind_are_clean),
        cmocka_unit_test(log_without_a_segment_is_clean),
        cmocka_unit_test(both_words_for_the_origin_are_understood),
        cmocka_unit_test(gaps_and_empty_batches_are_passed),
        cmocka_unit_test(a_batch_may_be_larger_than_a_chunk),
        cmocka_unit_test(torn_header_is_cut),
        cmocka_unit_test(torn_payload_is_cut),
        cmocka_unit_test(a_hole_above_every_promise_is_torn),
        cmocka_unit_test(stray_bytes_in_a_zeroed_segment_are_torn),
        cmocka_unit_test(torn_first_batch_of_the_next_segment_is_cut),
        cmocka_unit_test(recycled_segment_behind_is_stale),
        cmocka_unit_test(batches_in_a_recycled_segment_are_found),
        cmocka_unit_test(longer_tail_of_an_earlier_epoch_is_stale),
        cmocka_unit_test(tail_of_an_earlier_epoch_is_stale_also_between_its_batches),
        cmocka_unit_test(diverged_copy_is_stale),
        cmocka_unit_test(damage_below_a_later_batchs_promise_is_corrupt),
        cmocka_unit_test(damage_below_the_controls_promise_is_corrupt),
        cmocka_unit_test(only_a_later_segment_knows),
        cmocka_unit_test(a_missing_segment_is_corrupt_and_named),
        cmocka_unit_test(a_foreign_segment_in_the_middle_is_corrupt),
        cmocka_unit_test(two_segments_over_the_same_lsns_are_corrupt),
        cmocka_unit_test(leftovers_of_another_size_do_not_hide_the_next_segment),
        cmocka_unit_test(a_clean_end_beyond_what_verifies_is_corrupt),
        cmocka_unit_test(an_older_control_file_is_noticed),
        cmocka_unit_test(an_earlier_epochs_promise_ends_where_the_next_began),
        cmocka_unit_test(the_newest_epochs_start_is_a_promise),
        cmocka_unit_test(a_damaged_segment_header_is_corrupt),
        cmocka_unit_test(a_newer_format_is_refused),
        cmocka_unit_test(a_trimmed_log_is_anchored_in_its_oldest_segment),
        cmocka_unit_test(a_checkpoint_below_the_oldest_segment_is_not_leaned_on),
        cmocka_unit_test(a_torn_first_batch_of_the_oldest_segment_is_cut),
        cmocka_unit_test(segments_below_the_oldest_are_ignored),
        cmocka_unit_test(everything_trimmed_is_an_empty_log),
        cmocka_unit_test(a_read_error_is_never_an_end),
        cmocka_unit_test(an_unreadable_block_behind_a_clean_end_does_not_matter),
        cmocka_unit_test(an_unreadable_block_in_an_unused_end_does_not_matter),
        cmocka_unit_test(an_unreadable_block_behind_damage_is_unreadable_not_torn),
        cmocka_unit_test(one_copy_lost_is_said_and_survived),
        cmocka_unit_test(the_largest_epoch_is_found_anywhere),
        cmocka_unit_test(a_log_without_control_copies_is_refused),
        cmocka_unit_test(a_truncated_file_never_passes),
        cmocka_unit_test(every_flipped_bit_of_a_closed_log_is_noticed),
        cmocka_unit_test(every_flipped_bit_of_a_control_copy_leaves_the_other),
        cmocka_unit_test(scanning_twice_gives_the_same),
        cmocka_unit_test(nothing_before_the_checkpoints_segment_is_opened),
        cmocka_unit_test(a_scan_writes_nothing),
        cmocka_unit_test(batches_are_shown_in_order_with_their_bytes),
        cmocka_unit_test(a_limit_ends_the_look),
        cmocka_unit_test(a_limit_within_the_first_batch_is_no_damage),
        cmocka_unit_test(damage_in_an_early_piece_of_a_batch_is_where_it_is),
        cmocka_unit_test(a_next_segment_of_other_blocks_is_never_opened),
        cmocka_unit_test(an_oldest_segment_of_other_blocks_is_no_anchor),
        cmocka_unit_test(of_two_next_segments_the_one_that_matters_counts),
        cmocka_unit_test(a_limit_within_an_anchor_leaves_it_one),
        cmocka_unit_test(whoever_gets_the_bytes_may_end_the_scan),
        cmocka_unit_test(the_checkpoint_is_a_promise),
        cmocka_unit_test(a_segment_of_other_blocks_is_corrupt),
        cmocka_unit_test(a_damaged_first_batch_of_the_oldest_segment_is_corrupt),
        cmocka_unit_test(a_promise_above_a_clean_end_is_corrupt),
        cmocka_unit_test(noise_never_breaks_the_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
