/* SPDX-License-Identifier: Apache-2.0
 * The public calls that look after logs: verify, locate, salvage, copy; on logs at rest, and on one
 * that is being written and trimmed meanwhile. */
#include "unit/recover/rig.h"

#include "base/num.h"
#include "support/temp_dir.h"

#include <pthread.h>

#define BLOCK 512u
#define SEGMENT (16u * BLOCK)

static void build(struct log_builder *log, size_t batches)
{
    log_builder_init(log, NULL);
    for (size_t i = 0; i < batches; i++) {
        log_builder_batch(log, 3, 100);
    }
}

/* ---- verify ---- */

static void verify_tells_the_verdict_and_returns_0(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_close_clean(&log, NULL);
    struct weir_report report;
    struct weir_error error;
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, &error), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.records, 120);
    assert_int_equal(report.error.code, 0);
    assert_false(report.writer_live);
    log_builder_flip(&log, log.batches[17].header.lsn + 99, 1);
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, &error), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CORRUPT);
    assert_int_equal(report.bad_lsn, log.batches[17].header.lsn);
    assert_int_equal(report.error.code, WEIR_ECORRUPT);
    assert_int_equal(report.error.system_code, 0);
    assert_true(report.error.text[0] != '\0');
    log_builder_exit(&log);
}

static void verify_without_a_control_file_finds_it_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    struct weir_report report;
    struct weir_error error;
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, &error), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CORRUPT);
    assert_int_equal(report.segments, 2);
    assert_string_equal(report.error.file, "weir.control");
    assert_non_null(strstr(report.why, "salvage"));
    log_builder_exit(&log);
}

static void what_is_no_log_is_said(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, NULL);
    char target[TEMP_DIR_BYTES];
    temp_dir_make(target);
    struct weir_report report;
    struct weir_place place;
    struct weir_copy_report copied;
    struct weir_error error;
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, &error), WEIR_ENOLOG);
    assert_int_equal(error.code, WEIR_ENOLOG);
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, NULL), WEIR_ENOLOG);
    assert_int_equal(weir_locate(log.path, 4096, &place, &error), WEIR_ENOLOG);
    assert_int_equal(weir_salvage(log.path, target, NULL, NULL, NULL, &copied, &error),
                     WEIR_ENOLOG);
    assert_int_equal(weir_copy(log.path, target, NULL, NULL, &copied, &error), WEIR_ENOLOG);
    assert_int_equal(weir_verify("/nonexistent/log", NULL, NULL, &report, &error), -ENOENT);
    assert_int_equal(error.system_code, ENOENT);
    assert_int_equal(weir_verify(NULL, NULL, NULL, &report, &error), -EINVAL);
    assert_int_equal(weir_verify(log.path, NULL, NULL, NULL, &error), -EINVAL);
    assert_int_equal(weir_locate(NULL, 0, &place, &error), -EINVAL);
    assert_int_equal(weir_locate(log.path, 0, NULL, &error), -EINVAL);
    assert_int_equal(weir_salvage(log.path, NULL, NULL, NULL, NULL, &copied, &error), -EINVAL);
    assert_int_equal(weir_copy(log.path, target, NULL, NULL, NULL, &error), -EINVAL);
    assert_true(error.text[0] != '\0');
    temp_dir_remove(target);
    log_builder_exit(&log);
}

/* ---- locate ---- */

static void locate_knows_every_byte(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    log_builder_begin(&log);
    log_builder_skip(&log, 50);
    log_builder_add(&log, "x", 1, 99, false);
    log_builder_end(&log);
    log_builder_gap(&log, log.position.lsn + 4 * BLOCK);
    log_builder_batch(&log, 1, 700);
    log_builder_prepare(&log, 1);
    rig_close_clean(&log, NULL);
    struct weir_place place;
    struct weir_error error;
    const uint64_t before = temp_dir_fingerprint(log.path, NULL);
    for (weir_lsn lsn = 0; lsn < log.segments[log.segment_count - 1].end; lsn += 17) {
        assert_int_equal(weir_locate(log.path, lsn, &place, &error), 0);
        const struct weir__range segment = log_builder_segment(&log, lsn);
        assert_true(place.found_segment);
        assert_int_equal(place.asked_lsn, lsn);
        assert_int_equal(place.offset, lsn - segment.base);
        assert_int_equal(place.segment_end_lsn, segment.end);
        assert_true(place.what[0] != '\0');
        const struct log_builder_batch *batch = NULL;
        for (size_t i = 0; i < log.batch_count; i++) {
            if (lsn >= log.batches[i].header.lsn && lsn < log.batches[i].end) {
                batch = &log.batches[i];
            }
        }
        assert_int_equal(place.in_batch, batch != NULL);
        if (batch != NULL) {
            assert_int_equal(place.batch.lsn, batch->header.lsn);
            assert_int_equal(place.batch.end_lsn, batch->end);
            assert_int_equal(place.batch.chain, batch->header.chain);
            assert_int_equal(place.batch.segment_lsn, segment.base);
        }
        const struct log_builder_record *record = NULL;
        for (size_t i = 0; i < log.record_count; i++) {
            const struct log_builder_record *const r = &log.records[i];
            if (lsn >= r->lsn && lsn < r->lsn + weir__frame_span(r->bytes)) {
                record = r;
            }
        }
        assert_int_equal(place.in_record, record != NULL);
        assert_int_equal(place.record_lsn, record == NULL ? 0 : record->lsn);
        assert_int_equal(place.record_tag, record == NULL ? 0 : record->tag);
        assert_int_equal(place.record_bytes, record == NULL ? 0 : record->bytes);
    }
    assert_int_equal(weir_locate(log.path, (weir_lsn)1 << 40, &place, &error), 0);
    assert_false(place.found_segment);
    assert_true(before == temp_dir_fingerprint(log.path, NULL));

    log_builder_flip(&log, log.records[5].lsn + 40, 1);
    assert_int_equal(weir_locate(log.path, log.records[4].lsn, &place, &error), 0);
    assert_false(place.in_batch);
    assert_false(place.in_record);
    assert_non_null(strstr(place.what, "does not verify"));
    /* Without a control file the segments say enough. */
    log_builder_control_write_copy(&log, 0, NULL);
    log_builder_control_write_copy(&log, 1, NULL);
    assert_int_equal(weir_locate(log.path, log.records[8].lsn, &place, &error), 0);
    assert_true(place.in_record);
    log_builder_exit(&log);
}

static void locate_does_not_show_what_was_cut(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    log_builder_cut(&log, log.batches[4].end);
    log_builder_batch(&log, 1, 10);
    rig_crash(&log, log.position.lsn, NULL);
    struct weir_place place;
    struct weir_error error;
    assert_int_equal(weir_locate(log.path, log.position.lsn + 100, &place, &error), 0);
    assert_false(place.in_batch);
    assert_non_null(strstr(place.what, "belong to no batch"));
    log_builder_exit(&log);
}

/* ---- salvage and copy at rest ---- */

static void count_gap(void *ctx, const struct weir_gap *gap)
{
    (void)gap;
    ++*(size_t *)ctx;
}

static void salvage_and_copy_make_logs_that_verify(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_close_clean(&log, NULL);
    char copy[TEMP_DIR_BYTES];
    char salvage[TEMP_DIR_BYTES];
    temp_dir_make(copy);
    temp_dir_make(salvage);
    struct weir_copy_report copied;
    struct weir_report report;
    struct weir_error error;
    assert_int_equal(weir_copy(log.path, copy, NULL, NULL, &copied, &error), 0);
    assert_int_equal(copied.records, 120);
    assert_int_equal(weir_copy(log.path, copy, NULL, NULL, &copied, &error), WEIR_EEXISTS);
    assert_int_equal(weir_verify(copy, NULL, NULL, &report, &error), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.records, 120);
    log_builder_flip(&log, log.records[60].lsn + 50, 1);
    size_t gaps = 0;
    temp_dir_remove(copy);
    assert_int_equal(weir_copy(log.path, copy, NULL, NULL, &copied, &error), WEIR_ECORRUPT);
    assert_int_equal(error.code, WEIR_ECORRUPT);
    assert_int_equal(weir_salvage(log.path, salvage, count_gap, NULL, &gaps, &copied, &error), 0);
    assert_int_equal(gaps, 1);
    assert_int_equal(copied.records, 119);
    assert_int_equal(weir_verify(salvage, NULL, NULL, &report, &error), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.records, 119);
    temp_dir_remove(copy);
    temp_dir_remove(salvage);
    log_builder_exit(&log);
}

/* ---- while it is written ---- */

struct writer {
    struct weir_log *log;
    WEIR__ATOMIC(uint32_t) stop;
    uint64_t count;
    int code;
};

/* Record i says i, in its tag and at its front. */
static void *writer_run(void *ctx)
{
    struct writer *const writer = ctx;
    uint8_t payload[700];
    memset(payload, 0x5a, sizeof payload);
    weir_lsn lsn = 0;
    while (writer->code == 0 && weir__load(&writer->stop, relaxed) == 0) {
        memcpy(payload, &writer->count, sizeof writer->count);
        const size_t bytes = 8 + (size_t)(writer->count * 31 % (sizeof payload - 8));
        writer->code = weir_append(writer->log, payload, bytes, writer->count, &lsn);
        writer->count++;
        if (writer->code == 0 && writer->count % 64 == 0) {
            writer->code = weir_wait(writer->log, lsn, WEIR_DURABLE, WEIR_FOREVER);
        }
    }
    return NULL;
}

/* Returns how many records the log at path holds; they must follow each other. *first_out: number
 * of the first. */
static uint64_t count_records(const char *path, uint64_t *first_out)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    options.read_only = true;
    struct weir_log *log = NULL;
    struct weir_error error;
    assert_int_equal(weir_open(path, &options, &log, &error), 0);
    struct weir_cursor *cursor = NULL;
    assert_int_equal(weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor), 0);
    struct weir_entry entry;
    uint64_t count = 0;
    int code;
    while ((code = weir_cursor_next(cursor, WEIR_TRY, &entry)) == 0) {
        if (count == 0) {
            *first_out = entry.tag;
        }
        assert_int_equal(entry.tag, *first_out + count);
        assert_memory_equal(entry.data, &entry.tag, sizeof entry.tag);
        assert_int_equal(entry.bytes, 8 + entry.tag * 31 % 692);
        count++;
    }
    assert_int_equal(code, WEIR_EEND);
    weir_cursor_close(cursor);
    assert_int_equal(weir_close(log, NULL), 0);
    return count;
}

static void a_live_log_is_verified_and_copied(void **state)
{
    (void)state;
    char path[TEMP_DIR_BYTES];
    temp_dir_make(path);
    struct weir_options options = WEIR_OPTIONS_INIT;
    options.segment_bytes = 256 * 1024;
    options.slot_bytes = 64 * 1024;
    options.record_bytes_max = 64 * 1024;
    struct writer writer = {0};
    struct weir_error error;
    assert_int_equal(weir_open(path, &options, &writer.log, &error), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, writer_run, &writer), 0);

    struct weir_report report;
    struct weir_copy_report copied;
    unsigned copies = 0;
    for (unsigned round = 0; round < 12; round++) {
        assert_int_equal(weir_verify(path, NULL, NULL, &report, &error), 0);
        if (report.verdict != WEIR_VERDICT_CLEAN) {
            fail_msg("round %u: verdict %d: %s", round, (int)report.verdict, report.why);
        }
        assert_true(report.writer_live);

        char copy[TEMP_DIR_BYTES];
        temp_dir_make(copy);
        assert_int_equal(weir_salvage(path, copy, NULL, NULL, NULL, &copied, &error), -EBUSY);
        const weir_lsn durable = weir_durable_lsn(writer.log);
        const int code = weir_copy(path, copy, NULL, NULL, &copied, &error);
        if (code == 0) {
            assert_true(copied.end_lsn >= durable);
            uint64_t first = 0;
            const uint64_t count = count_records(copy, &first);
            assert_int_equal(count, copied.records);
            copies++;
        } else {
            /* Trimmed faster than it could be copied, time and again. */
            assert_int_equal(code, WEIR_EPASSED);
        }
        temp_dir_remove(copy);
        const weir_lsn oldest = weir_oldest_lsn(writer.log);
        assert_int_equal(
            weir_trim(writer.log, oldest + (weir_durable_lsn(writer.log) - oldest) / 2),
            0);
    }
    assert_true(copies > 0);
    weir__store(&writer.stop, 1, relaxed);
    (void)pthread_join(thread, NULL);
    assert_int_equal(writer.code, 0);
    assert_int_equal(weir_close(writer.log, &error), 0);
    assert_int_equal(weir_verify(path, NULL, NULL, &report, &error), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_false(report.writer_live);
    uint64_t first = 0;
    const uint64_t count = count_records(path, &first);
    assert_int_equal(first + count, writer.count);
    temp_dir_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verify_tells_the_verdict_and_returns_0),
        cmocka_unit_test(verify_without_a_control_file_finds_it_corrupt),
        cmocka_unit_test(what_is_no_log_is_said),
        cmocka_unit_test(locate_knows_every_byte),
        cmocka_unit_test(locate_does_not_show_what_was_cut),
        cmocka_unit_test(salvage_and_copy_make_logs_that_verify),
        cmocka_unit_test(a_live_log_is_verified_and_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
