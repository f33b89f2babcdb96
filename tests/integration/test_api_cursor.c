/* SPDX-License-Identifier: Apache-2.0
 * Cursors as a user meets them: what each level shows, where a cursor begins and how long it waits,
 * and what it says when the log was trimmed, cut, damaged, shut down or poisoned under it. Pins
 * stand in test_api_trim.c, cursors and weir_close in test_api_life.c. */
#include "format/control.h"
#include "port/clock.h"
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define HEADER 96u
#define FRAME 24u
#define RECORD_BYTES ((size_t)6000)
#define PATIENCE ((int64_t)TEST_PATIENCE_NS)
#define LEVELS 3

static const struct rig_way *const posix_way = &rig_ways[8];
/* On threads, for any machine: the one way in which written comes before durable. */
static const struct rig_way *const chain_way = &rig_ways[6];

/* ---- helpers --------------------------------------------------------------------------------- */

static void append(struct rig *rig, uint64_t first_tag, unsigned count, weir_lsn *last_out)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(rig_append(rig, first_tag + i, RECORD_BYTES, last_out), 0);
    }
}

/* Appended and not waited for. */
static weir_lsn append_only(struct rig *rig, uint64_t tag)
{
    static uint8_t payload[RECORD_BYTES];
    weir_lsn lsn = WEIR_LSN_NONE;
    payload_fill(tag, payload, sizeof payload);
    assert_int_equal(weir_append(rig->log, payload, sizeof payload, tag, &lsn), 0);
    return lsn;
}

static struct weir_log *open_reader(const struct rig *rig)
{
    struct weir_options options = rig->options;
    struct weir_log *reader = NULL;
    options.read_only = true;
    options.on_event = NULL;
    assert_int_equal(weir_open(rig->path, &options, &reader, NULL), 0);
    return reader;
}

static struct weir_cursor *
open_cursor(struct weir_log *log, weir_lsn lsn, enum weir_level level, unsigned flags)
{
    struct weir_cursor *cursor = NULL;
    assert_int_equal(weir_cursor_open(log, lsn, level, flags, &cursor), 0);
    assert_non_null(cursor);
    return cursor;
}

static void expect_record(struct weir_cursor *cursor, int64_t timeout_ns, uint64_t tag)
{
    struct weir_entry entry;
    assert_int_equal(weir_cursor_next(cursor, timeout_ns, &entry), 0);
    assert_int_equal(entry.tag, tag);
    assert_int_equal(entry.bytes, RECORD_BYTES);
    assert_true(payload_holds(tag, entry.data, entry.bytes));
}

static void expect_end(struct weir_cursor *cursor, int64_t timeout_ns)
{
    struct weir_entry entry;
    const weir_lsn lsn = weir_cursor_lsn(cursor);
    assert_int_equal(weir_cursor_next(cursor, timeout_ns, &entry), WEIR_EEND);
    assert_int_equal(weir_cursor_lsn(cursor), lsn);
}

/* Refused twice in the same words, and nothing moved. */
static void expect_error(struct weir_cursor *cursor, int code, struct weir_error *error_out)
{
    const weir_lsn lsn = weir_cursor_lsn(cursor);
    for (int round = 0; round < 2; round++) {
        struct weir_entry entry;
        assert_int_equal(weir_cursor_next(cursor, WEIR_FOREVER, &entry), code);
        assert_int_equal(weir_cursor_lsn(cursor), lsn);
        assert_int_equal(weir_cursor_error(cursor, NULL), code);
        assert_int_equal(weir_cursor_error(cursor, error_out), code);
        assert_int_equal(error_out->code, code);
        assert_string_not_equal(error_out->text, "");
    }
}

/* The log begins at LSN 0 and its segments are of one size, so an LSN says which file it is in. */
static int segment_file(const struct rig *rig, weir_lsn lsn, char name_out[TEMP_DIR_BYTES])
{
    char path[TEMP_DIR_BYTES];
    const weir_lsn base = lsn / RIG_SEGMENT * RIG_SEGMENT;
    (void)snprintf(name_out,
                   TEMP_DIR_BYTES,
                   "%016" PRIx64 "-%016" PRIx64 ".weir",
                   base,
                   base + RIG_SEGMENT);
    temp_dir_join(rig->path, name_out, path);
    const int file = open(path, O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    return file;
}

static void flip(const struct rig *rig, weir_lsn lsn, char name_out[TEMP_DIR_BYTES])
{
    uint8_t byte = 0;
    const int file = segment_file(rig, lsn, name_out);
    const off_t at = (off_t)(lsn % RIG_SEGMENT);
    assert_int_equal(pread(file, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(file, &byte, 1, at), 1);
    (void)close(file);
}

static bool file_is_there(const struct rig *rig, weir_lsn lsn)
{
    char name[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    (void)snprintf(name,
                   sizeof name,
                   "%016" PRIx64 "-%016" PRIx64 ".weir",
                   lsn / RIG_SEGMENT * RIG_SEGMENT,
                   lsn / RIG_SEGMENT * RIG_SEGMENT + RIG_SEGMENT);
    temp_dir_join(rig->path, name, path);
    return access(path, F_OK) == 0;
}

/* ---- levels and waiting ---------------------------------------------------------------------- */

/* In the writer's process a record shows at APPENDED before its write, at WRITTEN before its sync,
 * at DURABLE behind it. Another handle cannot know of it before the write: APPENDED is WRITTEN
 * there. */
static void each_level_shows_what_has_reached_it(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *own[LEVELS];
    struct weir_cursor *others[LEVELS];
    rig_make(&rig, chain_way);
    assert_int_equal(rig_open(&rig), 0);
    append(&rig, 1, 1, NULL);
    struct weir_log *const reader = open_reader(&rig);
    for (int level = 0; level < LEVELS; level++) {
        own[level] = open_cursor(rig.log, WEIR_LSN_OLDEST, (enum weir_level)level, 0);
        others[level] = open_cursor(reader, WEIR_LSN_OLDEST, (enum weir_level)level, 0);
        expect_record(own[level], WEIR_TRY, 1);
        expect_record(others[level], PATIENCE, 1); /* told just after the waiters are woken */
    }

    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .hold = true});
    (void)append_only(&rig, 2);
    assert_true(fault_io_wait_held(&rig.fault, 1));
    expect_record(own[WEIR_APPENDED], PATIENCE, 2);
    expect_end(own[WEIR_WRITTEN], WEIR_TRY);
    expect_end(own[WEIR_DURABLE], WEIR_TRY);
    weir__sleep_ns(5000000); /* the reader looks at most once per ms */
    for (int level = 0; level < LEVELS; level++) {
        expect_end(others[level], WEIR_TRY);
    }
    fault_io_release(&rig.fault);
    expect_record(own[WEIR_WRITTEN], PATIENCE, 2);
    expect_record(own[WEIR_DURABLE], PATIENCE, 2);
    for (int level = 0; level < LEVELS; level++) {
        expect_record(others[level], PATIENCE, 2);
    }

    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_SYNC, .name = ".weir", .hold = true});
    (void)append_only(&rig, 3);
    assert_true(fault_io_wait_held(&rig.fault, 1));
    expect_record(own[WEIR_APPENDED], PATIENCE, 3);
    expect_record(own[WEIR_WRITTEN], PATIENCE, 3);
    expect_end(own[WEIR_DURABLE], WEIR_TRY);
    expect_record(others[WEIR_WRITTEN], PATIENCE, 3);
    expect_record(others[WEIR_APPENDED], PATIENCE, 3);
    expect_end(others[WEIR_DURABLE], WEIR_TRY);
    fault_io_release(&rig.fault);
    expect_record(own[WEIR_DURABLE], PATIENCE, 3);
    expect_record(others[WEIR_DURABLE], PATIENCE, 3);

    for (int level = 0; level < LEVELS; level++) {
        weir_cursor_close(own[level]);
        weir_cursor_close(others[level]);
    }
    assert_int_equal(weir_close(reader, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Not shorter than it was told, at an empty log's beginning and behind its last record. */
static void a_timeout_is_waited_out(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    struct weir_log *const reader = open_reader(&rig);
    for (uint64_t tag = 0; tag < 2; tag++) {
        for (int i = 0; i < 2 * LEVELS; i++) {
            struct weir_log *const log = i < LEVELS ? rig.log : reader;
            struct weir_cursor *const cursor =
                open_cursor(log, WEIR_LSN_OLDEST, (enum weir_level)(i % LEVELS), 0);
            if (tag > 0) {
                expect_record(cursor, PATIENCE, tag);
            }
            const uint64_t begin = weir__now_ns();
            expect_end(cursor, 15000000);
            assert_true(weir__now_ns() - begin >= 15000000);
            expect_end(cursor, WEIR_TRY);
            weir_cursor_close(cursor);
        }
        append(&rig, tag + 1, 1, NULL);
    }
    assert_int_equal(weir_close(reader, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A reader of another handle that sleeps at the tail finds what comes. */
static void follow_to_the_last(struct worker *worker)
{
    struct rig *const rig = worker->ctx;
    struct weir_options options = rig->options;
    struct weir_log *reader;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    options.read_only = true;
    options.on_event = NULL;
    int code = weir_open(rig->path, &options, &reader, NULL);
    if (code != 0) {
        worker_fail(worker, "open: %s", weir_error_name(code));
        return;
    }
    code = weir_cursor_open(reader, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor);
    for (uint64_t tag = 1; code == 0 && tag <= 60; tag++) {
        code = weir_cursor_next(cursor, WEIR_FOREVER, &entry);
        if (code != 0 || entry.tag != tag || !payload_holds(tag, entry.data, entry.bytes)) {
            worker_fail(worker, "record %" PRIu64 ": %s", tag, weir_error_name(code));
            break;
        }
    }
    weir_cursor_close(cursor);
    code = weir_close(reader, NULL);
    if (code != 0) {
        worker_fail(worker, "close: %s", weir_error_name(code));
    }
}

static void a_reader_at_the_tail_goes_on_for_ever(void **state)
{
    (void)state;
    struct rig rig;
    struct workers workers;
    struct random random = {test_seed()};
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    workers_start(&workers, 2, follow_to_the_last, &rig, test_seed());
    for (uint64_t tag = 1; tag <= 60; tag++) {
        append(&rig, tag, 1, NULL);
        random_pause(&random);
    }
    workers_finish(&workers);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- where it begins ------------------------------------------------------------------------- */

/* At any position: the record that starts there, else the next one; behind the end the first one
 * that comes to stand there. */
static void a_cursor_begins_at_or_after_its_lsn(void **state)
{
    (void)state;
    const size_t count = 120; /* three segments */
    struct rig rig;
    struct weir_entry entry;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 0, (unsigned)count, NULL);
    struct weir_log *const reader = open_reader(&rig);
    for (size_t i = 0; i < count; i++) {
        const weir_lsn lsn = rig.ledger.entries[i].lsn;
        const weir_lsn before = i > 0 ? rig.ledger.entries[i - 1].lsn + 1 : 1 + RIG_BLOCK;
        const weir_lsn from[] = {before, lsn - 1, lsn};
        for (size_t j = 0; j < 3; j++) {
            struct weir_cursor *const cursor = open_cursor(j == i % 3 ? reader : rig.log,
                                                           from[j],
                                                           WEIR_DURABLE,
                                                           i % 2 == 0 ? WEIR_CURSOR_READ_AHEAD : 0);
            assert_true(weir_cursor_lsn(cursor) >= from[j]);
            assert_true(weir_cursor_lsn(cursor) <= lsn);
            assert_int_equal(weir_cursor_next(cursor, PATIENCE, &entry), 0);
            assert_int_equal(entry.lsn, lsn);
            assert_int_equal(entry.tag, i);
            assert_true(weir_cursor_lsn(cursor) > lsn);
            weir_cursor_close(cursor);
        }
    }

    const weir_lsn ahead = weir_end_lsn(rig.log) + 2 * RIG_BLOCK + 1;
    struct weir_cursor *const cursor = open_cursor(rig.log, ahead, WEIR_DURABLE, 0);
    struct weir_cursor *const other = open_cursor(reader, ahead, WEIR_DURABLE, 0);
    expect_end(cursor, WEIR_TRY);
    expect_end(other, WEIR_TRY);
    assert_int_equal(weir_cursor_lsn(cursor), ahead);
    weir_lsn lsn = 0;
    uint64_t tag = count;
    while (lsn < ahead) {
        append(&rig, tag++, 1, &lsn);
    }
    assert_true(tag > count + 1); /* the first of them lay below */
    expect_record(cursor, PATIENCE, tag - 1);
    expect_record(other, PATIENCE, tag - 1);
    weir_cursor_close(cursor);
    weir_cursor_close(other);
    assert_int_equal(weir_close(reader, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* What is refused leaves the caller's pointer alone; a cursor that met no error has none. */
static void a_fresh_cursor_has_nothing_to_tell(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_error error;
    struct weir_batch_info batch;
    struct weir_cursor *refused = (void *)1;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 1, 2, NULL);
    assert_int_equal(weir_trim(rig.log, rig.ledger.entries[1].lsn), 0);
    assert_int_equal(weir_cursor_open(rig.log, 1, WEIR_DURABLE, 0, &refused), WEIR_EPASSED);
    assert_int_equal(weir_cursor_open(rig.log, 1, WEIR_DURABLE, WEIR_CURSOR_PIN, &refused),
                     WEIR_EPASSED);
    assert_int_equal(weir_cursor_open(rig.log, 0, WEIR_DURABLE, 8, &refused), -EINVAL);
    assert_ptr_equal(refused, (void *)1);

    struct weir_cursor *const cursor = open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0);
    memset(&error, 0xff, sizeof error);
    assert_int_equal(weir_cursor_error(cursor, &error), 0);
    assert_int_equal(error.code, 0);
    assert_string_equal(error.text, "");
    assert_int_equal(weir_cursor_error(cursor, NULL), 0);
    assert_int_equal(weir_cursor_batch(cursor, &batch), WEIR_EEND);
    expect_record(cursor, WEIR_TRY, 2);
    expect_end(cursor, WEIR_TRY);
    assert_int_equal(weir_cursor_error(cursor, NULL), 0); /* the end is no error */
    weir_cursor_close(cursor);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- what it shows --------------------------------------------------------------------------- */

/* Groups and records of all sizes, beyond a slot too, over many segments and two openings. */
static void fill_mixed(struct rig *rig, uint64_t first_tag)
{
    static uint8_t payload[40000];
    struct random random = {test_seed()};
    for (uint64_t tag = first_tag; tag < first_tag + 300; tag += 3) {
        struct weir_piece pieces[3];
        struct weir_record records[3];
        weir_lsn lsns[3];
        const size_t limit = tag % 10 == 0 ? 20000 : 3000;
        size_t used = 0;
        for (size_t i = 0; i < 3; i++) {
            const size_t bytes = random_below(&random, limit) % (sizeof payload - used);
            payload_fill(tag + i, payload + used, bytes);
            pieces[i] = (struct weir_piece){payload + used, bytes};
            records[i] = (struct weir_record){&pieces[i], 1, tag + i};
            used += bytes;
        }
        assert_int_equal(weir_append_group(rig->log, records, 3, WEIR_FOREVER, lsns), 0);
        for (size_t i = 0; i < 3; i++) {
            ledger_add(&rig->ledger, lsns[i], tag + i, pieces[i].bytes);
        }
    }
    assert_int_equal(weir_sync(rig->log, WEIR_FOREVER), 0);
}

static void expect_same_batch(const struct weir_batch_info *one, const struct weir_batch_info *two)
{
    assert_int_equal(one->lsn, two->lsn);
    assert_int_equal(one->end_lsn, two->end_lsn);
    assert_int_equal(one->prev_end_lsn, two->prev_end_lsn);
    assert_int_equal(one->promise_lsn, two->promise_lsn);
    assert_int_equal(one->epoch, two->epoch);
    assert_int_equal(one->epoch_lsn, two->epoch_lsn);
    assert_int_equal(one->wall_ns, two->wall_ns);
    assert_int_equal(one->records, two->records);
    assert_int_equal(one->bytes, two->bytes);
    assert_int_equal(one->chain, two->chain);
    assert_int_equal(one->segment_lsn, two->segment_lsn);
    assert_int_equal(one->segment_end_lsn, two->segment_end_lsn);
}

static void reading_ahead_shows_the_same(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    fill_mixed(&rig, 0);
    assert_int_equal(rig_close(&rig), 0);
    assert_int_equal(rig_open_plain(&rig), 0);
    fill_mixed(&rig, 300);
    assert_true(weir_end_lsn(rig.log) > 4 * RIG_SEGMENT);
    struct weir_log *const reader = open_reader(&rig);
    struct weir_cursor *const cursors[4] = {
        open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0),
        open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_READ_AHEAD),
        open_cursor(reader, WEIR_LSN_OLDEST, WEIR_DURABLE, 0),
        open_cursor(reader, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_READ_AHEAD),
    };
    for (size_t i = 0; i < rig.ledger.count; i++) {
        const struct ledger_entry *const due = &rig.ledger.entries[i];
        struct weir_batch_info first_batch = {0};
        for (size_t j = 0; j < 4; j++) {
            struct weir_entry entry;
            assert_int_equal(weir_cursor_next(cursors[j], PATIENCE, &entry), 0);
            assert_int_equal(entry.lsn, due->lsn);
            assert_int_equal(entry.tag, due->tag);
            assert_int_equal(entry.bytes, due->bytes);
            assert_int_equal(entry.more, i % 3 != 2);
            assert_int_equal(entry.epoch, i < 300 ? 1 : 2);
            assert_true(payload_holds(entry.tag, entry.data, entry.bytes));
            struct weir_batch_info batch;
            assert_int_equal(weir_cursor_batch(cursors[j], &batch), 0);
            if (j == 0) {
                first_batch = batch;
            }
            expect_same_batch(&first_batch, &batch);
        }
    }
    for (size_t j = 0; j < 4; j++) {
        expect_end(cursors[j], WEIR_TRY);
        weir_cursor_close(cursors[j]);
    }
    assert_int_equal(weir_close(reader, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Each field, when it comes from memory and when it comes from the files, over rotations and into
 * another epoch. */
static void a_batch_is_told_of_in_full(void **state)
{
    (void)state;
    enum { EACH = 40 }; /* more than a segment holds */
    static struct weir_batch_info batches[2 * EACH];
    struct rig rig;
    weir_lsn prev_end = RIG_BLOCK;
    weir_lsn epoch_lsn = RIG_BLOCK;
    uint32_t last_chain = 0;
    const uint64_t begin_ns = weir__wall_ns();
    rig_make(&rig, posix_way);
    for (uint64_t epoch = 1; epoch <= 2; epoch++) {
        assert_int_equal(rig_open_plain(&rig), 0);
        struct weir_cursor *const tail =
            open_cursor(rig.log, weir_durable_lsn(rig.log), WEIR_DURABLE, 0);
        for (uint64_t i = 0; i < EACH; i++) {
            const uint64_t tag = (epoch - 1) * EACH + i;
            struct weir_batch_info *const batch = &batches[tag];
            weir_lsn lsn;
            append(&rig, tag, 1, &lsn);
            expect_record(tail, WEIR_TRY, tag);
            assert_int_equal(weir_cursor_batch(tail, batch), 0);
            assert_int_equal(batch->lsn, lsn - HEADER);
            assert_int_equal(batch->lsn % RIG_BLOCK, 0);
            assert_int_equal(batch->bytes, FRAME + RECORD_BYTES);
            assert_int_equal(batch->end_lsn, batch->lsn + 2 * RIG_BLOCK);
            assert_int_equal(batch->prev_end_lsn, prev_end);
            assert_int_equal(batch->records, 1);
            assert_int_equal(batch->epoch, epoch);
            assert_int_equal(batch->epoch_lsn, epoch_lsn);
            assert_int_equal(batch->promise_lsn, prev_end); /* each was waited for */
            assert_true(batch->wall_ns >= begin_ns && batch->wall_ns <= weir__wall_ns());
            assert_int_equal(batch->segment_lsn, lsn / RIG_SEGMENT * RIG_SEGMENT);
            assert_int_equal(batch->segment_end_lsn, batch->segment_lsn + RIG_SEGMENT);
            assert_true(tag == 0 || batch->chain != last_chain);
            last_chain = batch->chain;
            prev_end = batch->end_lsn;
        }
        weir_cursor_close(tail);
        epoch_lsn = prev_end;
        assert_int_equal(rig_close(&rig), 0);
    }
    assert_int_equal(batches[EACH - 1].segment_lsn, RIG_SEGMENT);
    assert_int_equal(batches[2 * EACH - 1].segment_lsn, 2 * RIG_SEGMENT);

    assert_int_equal(rig_open_plain(&rig), 0);
    struct weir_cursor *const files = open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0);
    for (uint64_t tag = 0; tag < 2 * EACH; tag++) {
        struct weir_batch_info batch;
        expect_record(files, WEIR_TRY, tag);
        assert_int_equal(weir_cursor_batch(files, &batch), 0);
        expect_same_batch(&batches[tag], &batch);
    }
    expect_end(files, WEIR_TRY);
    struct weir_batch_info batch;
    assert_int_equal(weir_cursor_batch(files, &batch), 0); /* still that of the last record */
    expect_same_batch(&batches[2 * EACH - 1], &batch);
    weir_cursor_close(files);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Whatever others do meanwhile: other cursors, the slots' next lives, the file's next life. */
static void data_lives_until_the_next_call_on_its_cursor(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_entry entries[3];
    rig_make(&rig, posix_way);
    rig.options.recycle_segments = 1;
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 0, 60, NULL);
    struct weir_cursor *const cursors[3] = {
        open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0),
        open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_READ_AHEAD),
        open_cursor(rig.log, weir_durable_lsn(rig.log), WEIR_DURABLE, 0),
    };
    append(&rig, 60, 1, NULL);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(weir_cursor_next(cursors[i], WEIR_TRY, &entries[i]), 0);
    }
    struct weir_cursor *const busy = open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0);
    for (uint64_t tag = 0; tag <= 60; tag++) {
        expect_record(busy, WEIR_TRY, tag);
    }
    for (uint64_t tag = 61; tag < 200; tag++) {
        append(&rig, tag, 1, NULL);
        expect_record(busy, WEIR_TRY, tag);
        if (tag % 20 == 0) {
            assert_int_equal(weir_trim(rig.log, rig.ledger.entries[tag - 2].lsn), 0);
        }
    }
    for (size_t i = 0; i < 3; i++) {
        const uint64_t tag = i < 2 ? 0 : 60;
        assert_int_equal(entries[i].tag, tag);
        assert_true(payload_holds(tag, entries[i].data, entries[i].bytes));
        weir_cursor_close(cursors[i]);
    }
    weir_cursor_close(busy);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- other processes ------------------------------------------------------------------------- */

#define CHILD_RECORDS 150u

/* The value is the number of the first step that went wrong, 0: none. */
static int read_in_child(const struct rig *rig, int go)
{
    struct weir_options options = rig->options;
    struct weir_log *log;
    struct weir_cursor *cursor;
    struct weir_report report;
    struct weir_entry entry;
    char byte;
    options.read_only = true;
    options.on_event = NULL;
    if (read(go, &byte, 1) != 1 || weir_open(rig->path, &options, &log, NULL) != 0) {
        return 1;
    }
    weir_log_report(log, &report);
    if (!report.writer_live ||
        weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_READ_AHEAD, &cursor) !=
            0) {
        return 2;
    }
    for (uint64_t tag = 1; tag <= CHILD_RECORDS; tag++) {
        if (weir_cursor_next(cursor, PATIENCE, &entry) != 0 || entry.tag != tag ||
            entry.bytes != RECORD_BYTES || !payload_holds(tag, entry.data, entry.bytes)) {
            return 3;
        }
    }
    if (weir_cursor_next(cursor, WEIR_TRY, &entry) != WEIR_EEND) {
        return 4;
    }
    weir_cursor_close(cursor);
    return weir_close(log, NULL) == 0 ? 0 : 5;
}

/* It is forked before there is a writer, and so has nothing of it but the files. */
static void another_process_reads_beside_the_writer(void **state)
{
    (void)state;
    struct rig rig;
    int ends[2];
    rig_make(&rig, posix_way);
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        _exit(read_in_child(&rig, ends[0]));
    }
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 1, 10, NULL);
    assert_int_equal(write(ends[1], "x", 1), 1);
    append(&rig, 11, CHILD_RECORDS - 10, NULL);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- trimmed, cut, damaged ------------------------------------------------------------------- */

struct passing {
    const struct rig *rig;
    weir_lsn lsn;
};

static bool file_is_gone(void *ctx)
{
    const struct passing *const passing = ctx;
    return !file_is_there(passing->rig, passing->lsn);
}

/* It may finish what it has read ahead of the trim, and then is told; never is anything else shown
 * in its place. A handle that cannot hold a trim back is told as well, pinned or not. */
static void a_cursor_is_passed_by_a_trim(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_error error;
    rig_make(&rig, posix_way);
    rig.options.recycle_segments = 1;
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 0, 400, NULL); /* 13 segments */
    struct weir_log *const reader = open_reader(&rig);
    struct weir_cursor *const cursors[4] = {
        open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0),
        open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_WRITTEN, WEIR_CURSOR_READ_AHEAD),
        open_cursor(reader, WEIR_LSN_OLDEST, WEIR_DURABLE, 0),
        open_cursor(reader, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_PIN),
    };
    for (size_t i = 0; i < 4; i++) {
        for (uint64_t tag = 0; tag < 5; tag++) {
            expect_record(cursors[i], PATIENCE, tag);
        }
    }
    const weir_lsn before = rig.ledger.entries[390].lsn;
    assert_int_equal(weir_trim(rig.log, before), 0);
    assert_int_equal(weir_oldest_lsn(rig.log), before);
    /* All but the one that may be kept, so that what was read ahead ends before the trim does. */
    for (uint64_t i = 0; i < 10; i++) {
        struct passing passing = {&rig, rig.ledger.entries[i * 31].lsn};
        assert_true(wait_until(file_is_gone, &passing));
    }
    for (size_t i = 0; i < 4; i++) {
        struct weir_entry entry;
        uint64_t tag = 5;
        weir_lsn lsn = weir_cursor_lsn(cursors[i]);
        int code;
        while ((code = weir_cursor_next(cursors[i], WEIR_FOREVER, &entry)) == 0) {
            assert_int_equal(entry.tag, tag);
            assert_true(payload_holds(tag, entry.data, entry.bytes));
            assert_true(++tag < 390);
            lsn = weir_cursor_lsn(cursors[i]);
        }
        assert_int_equal(code, WEIR_EPASSED);
        assert_int_equal(weir_cursor_lsn(cursors[i]), lsn);
        expect_error(cursors[i], WEIR_EPASSED, &error);
        assert_int_equal(error.lsn, before); /* where to go on */
        weir_cursor_close(cursors[i]);
        struct weir_log *const log = i < 2 ? rig.log : reader;
        struct weir_cursor *late = NULL;
        assert_int_equal(weir_cursor_open(log, before - 1, WEIR_DURABLE, 0, &late), WEIR_EPASSED);
        late = open_cursor(log, error.lsn, WEIR_DURABLE, 0);
        expect_record(late, PATIENCE, 390);
        weir_cursor_close(late);
    }
    assert_int_equal(weir_close(reader, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A record that was written and not synced is shown at WRITTEN; then the power is cut, which takes
 * it back. Who read it must learn that it is gone, and not be led on behind it. */
static void a_cursor_learns_that_the_log_was_cut(void **state)
{
    (void)state;
    static const uint8_t nothing[2 * RIG_BLOCK];
    struct rig rig;
    struct weir_error error;
    struct weir_report report;
    char name[TEMP_DIR_BYTES];
    rig_make(&rig, chain_way);
    assert_int_equal(rig_open(&rig), 0);
    append(&rig, 1, 3, NULL);
    const weir_lsn cut = weir_durable_lsn(rig.log);
    struct weir_log *const reader = open_reader(&rig);
    struct weir_cursor *const ahead = open_cursor(reader, WEIR_LSN_OLDEST, WEIR_WRITTEN, 0);
    struct weir_cursor *const level = open_cursor(reader, WEIR_LSN_OLDEST, WEIR_DURABLE, 0);
    for (uint64_t tag = 1; tag <= 3; tag++) {
        expect_record(ahead, PATIENCE, tag);
        expect_record(level, PATIENCE, tag);
    }
    (void)fault_io_arm(
        &rig.fault,
        &(struct fault_rule){.kind = FAULT_SYNC, .name = ".weir", .hold = true, .error = -EIO});
    (void)append_only(&rig, 4);
    expect_record(ahead, PATIENCE, 4);
    expect_end(level, WEIR_TRY);
    fault_io_release(&rig.fault);
    assert_int_equal(rig_close(&rig), WEIR_EFAILED);
    const int file = segment_file(&rig, cut, name);
    assert_int_equal(pwrite(file, nothing, sizeof nothing, (off_t)(cut % RIG_SEGMENT)),
                     sizeof nothing);
    (void)close(file);

    assert_int_equal(rig_open(&rig), 0);
    weir_log_report(rig.log, &report);
    assert_int_equal(report.end_lsn, cut);
    expect_error(ahead, WEIR_EEPOCH, &error);
    assert_int_equal(error.lsn, cut);
    append(&rig, 5, 3, NULL); /* to beyond where it stands */
    expect_error(ahead, WEIR_EEPOCH, &error);
    /* The one that stood at the cut has lost nothing. */
    for (uint64_t tag = 5; tag <= 7; tag++) {
        struct weir_entry entry;
        assert_int_equal(weir_cursor_next(level, PATIENCE, &entry), 0);
        assert_int_equal(entry.tag, tag);
        assert_int_equal(entry.epoch, 2);
    }
    weir_cursor_close(ahead);
    weir_cursor_close(level);
    assert_int_equal(weir_close(reader, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A cursor that does not open says why, also where nothing was looked at. */
static void a_cursor_that_does_not_open_says_why(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *cursor = NULL;
    struct weir_error error;
    rig_make(&rig, posix_way);
    rig.options.first_lsn = (weir_lsn)8 * RIG_SEGMENT;
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 0, 10, NULL);
    assert_int_equal(weir_cursor_open_with(rig.log, 1, WEIR_DURABLE, 0, &cursor, &error),
                     WEIR_EPASSED);
    assert_int_equal(error.code, WEIR_EPASSED);
    assert_int_equal(error.lsn, weir_oldest_lsn(rig.log));
    assert_int_equal(
        weir_cursor_open_with(rig.log, 1, WEIR_DURABLE, WEIR_CURSOR_PIN, &cursor, &error),
        WEIR_EPASSED);
    assert_int_equal(error.code, WEIR_EPASSED);
    assert_int_equal(weir_cursor_open_with(rig.log, 0, WEIR_DURABLE, 8, &cursor, &error), -EINVAL);
    assert_int_equal(error.code, -EINVAL);
    assert_int_equal(error.lsn, UINT64_MAX);
    assert_true(error.text[0] != '\0');
    assert_null(cursor);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Somebody wrote a control file whose checkpoint and promise lie inside a batch, and sound it is: the
 * opening believes it. What is read then is no end of the log. */
static void a_forged_checkpoint_is_told_by_readers(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_error error;
    char path[TEMP_DIR_BYTES];
    weir_lsn last = 0;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 0, 8, &last);
    assert_int_equal(rig_close(&rig), 0);
    temp_dir_join(rig.path, "weir.control", path);
    const int file = open(path, O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    for (off_t at = 0; at < 2 * (off_t)WEIR__CONTROL_COPY_OFFSET; at += WEIR__CONTROL_COPY_OFFSET) {
        uint8_t copy[WEIR__CONTROL_USED_BYTES];
        struct weir__control control;
        assert_int_equal(pread(file, copy, sizeof copy, at), sizeof copy);
        assert_int_equal(weir__control_decode(copy, &control, NULL), 0);
        control.promise = last - HEADER + RIG_BLOCK;
        control.checkpoint.lsn = control.promise;
        weir__control_encode(&control, copy);
        assert_int_equal(pwrite(file, copy, sizeof copy, at), sizeof copy);
    }
    assert_int_equal(close(file), 0);
    for (int level = 0; level < LEVELS; level++) {
        struct weir_log *const log = open_reader(&rig);
        struct weir_cursor *const cursor =
            open_cursor(log, WEIR_LSN_OLDEST, (enum weir_level)level, 0);
        for (uint64_t tag = 0; tag < 7; tag++) {
            expect_record(cursor, WEIR_TRY, tag);
        }
        struct weir_entry entry;
        assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), WEIR_ECORRUPT);
        assert_int_equal(weir_cursor_error(cursor, &error), WEIR_ECORRUPT);
        assert_int_equal(error.lsn, last - HEADER);
        weir_cursor_close(cursor);
        assert_int_equal(weir_close(log, NULL), 0);
    }
    rig_destroy(&rig);
}

/* A segment's own header, below the checkpoint, where no opening looks: readers do. */
static void a_damaged_segment_header_is_told_by_readers(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_error error;
    char name[TEMP_DIR_BYTES];
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 0, 100, NULL);
    assert_int_equal(rig_close(&rig), 0);
    assert_int_equal(rig_open_plain(&rig), 0); /* the checkpoint stands at the end */
    size_t first = 0;                          /* record of the second segment */
    while (rig.ledger.entries[first].lsn < RIG_SEGMENT) {
        first++;
    }
    for (int i = 0; i < 4; i++) {
        const unsigned flags = i % 2 == 1 ? WEIR_CURSOR_READ_AHEAD : 0;
        struct weir_log *const log = i < 2 ? rig.log : open_reader(&rig);
        struct weir_report report;
        weir_log_report(log, &report);
        assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
        flip(&rig, RIG_SEGMENT + 40, name);
        struct weir_cursor *const cursor = open_cursor(log, WEIR_LSN_OLDEST, WEIR_DURABLE, flags);
        for (uint64_t tag = 0; tag < first; tag++) {
            expect_record(cursor, PATIENCE, tag);
        }
        expect_error(cursor, WEIR_ECORRUPT, &error);
        assert_string_equal(error.file, name);
        assert_int_equal(error.lsn, RIG_SEGMENT);
        assert_int_equal(error.offset, 0);
        struct weir_cursor *behind = NULL;
        assert_int_equal(weir_cursor_open_with(log,
                                               rig.ledger.entries[first + 3].lsn,
                                               WEIR_DURABLE,
                                               flags,
                                               &behind,
                                               &error),
                         WEIR_ECORRUPT);
        assert_int_equal(error.lsn, RIG_SEGMENT);
        flip(&rig, RIG_SEGMENT + 40, name);
        for (uint64_t tag = first; tag < 100; tag++) {
            expect_record(cursor, PATIENCE, tag);
        }
        weir_cursor_close(cursor);
        if (log != rig.log) {
            assert_int_equal(weir_close(log, NULL), 0);
        }
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* One bit of a payload or of a header, somewhere in the middle of a file: everything before it
 * comes, then the place, again and again; when the bit is right again, everything behind it. */
static void damage_is_told_with_its_place(void **state)
{
    (void)state;
    const size_t count = 100;
    const size_t bad = 40; /* in the second segment, not its first */
    struct rig rig;
    struct weir_error error;
    char name[TEMP_DIR_BYTES];
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 0, (unsigned)count, NULL);
    const weir_lsn record = rig.ledger.entries[bad].lsn;
    for (int i = 0; i < 8; i++) {
        const bool header = i % 2 == 1;
        const unsigned flags = i % 4 >= 2 ? WEIR_CURSOR_READ_AHEAD : 0;
        struct weir_log *const log = i < 4 ? rig.log : open_reader(&rig);
        flip(&rig, header ? record - HEADER + 20 : record + FRAME + 3000, name);
        struct weir_cursor *const cursor = open_cursor(log, WEIR_LSN_OLDEST, WEIR_DURABLE, flags);
        for (uint64_t tag = 0; tag < bad; tag++) {
            expect_record(cursor, PATIENCE, tag);
        }
        expect_error(cursor, WEIR_ECORRUPT, &error);
        assert_string_equal(error.file, name);
        assert_int_equal(error.lsn, header ? record - HEADER : record);
        assert_int_equal(error.offset, error.lsn % RIG_SEGMENT);
        assert_int_equal(weir_cursor_lsn(cursor), record - HEADER);
        struct weir_batch_info batch;
        assert_int_equal(weir_cursor_batch(cursor, &batch), 0);
        assert_int_equal(batch.end_lsn, record - HEADER); /* still that of the last record */

        /* To begin behind it in its segment, its header is needed and its payload is not. */
        struct weir_cursor *behind = NULL;
        const int code = weir_cursor_open_with(log,
                                               rig.ledger.entries[bad + 5].lsn,
                                               WEIR_DURABLE,
                                               flags,
                                               &behind,
                                               &error);
        assert_int_equal(code, header ? WEIR_ECORRUPT : 0);
        if (code == 0) {
            expect_record(behind, PATIENCE, bad + 5);
            weir_cursor_close(behind);
        } else {
            assert_int_equal(error.code, code);
            assert_string_equal(error.file, name);
            assert_int_equal(error.lsn, record - HEADER);
            assert_int_equal(error.offset, error.lsn % RIG_SEGMENT);
            assert_true(error.text[0] != '\0');
        }
        flip(&rig, header ? record - HEADER + 20 : record + FRAME + 3000, name);
        for (uint64_t tag = bad; tag < count; tag++) {
            expect_record(cursor, PATIENCE, tag);
        }
        expect_end(cursor, WEIR_TRY);
        weir_cursor_close(cursor);
        if (log != rig.log) {
            assert_int_equal(weir_close(log, NULL), 0);
        }
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A block that the device cannot read. */
static void a_block_that_cannot_be_read_is_told_with_its_place(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_error error;
    char name[TEMP_DIR_BYTES];
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    append(&rig, 0, 100, NULL);
    struct weir_cursor *const cursor = open_cursor(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0);
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_READ, .name = ".weir", .error = -EIO});
    struct weir_cursor *refused = NULL;
    assert_int_equal(weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &refused),
                     WEIR_EUNREADABLE);
    struct weir_entry entry;
    uint64_t tag = 0;
    weir_lsn lsn = weir_cursor_lsn(cursor);
    int code;
    while ((code = weir_cursor_next(cursor, WEIR_TRY, &entry)) == 0) {
        assert_int_equal(entry.tag, tag++); /* what the opening had read already */
        lsn = weir_cursor_lsn(cursor);
    }
    assert_int_equal(code, WEIR_EUNREADABLE);
    assert_int_equal(weir_cursor_lsn(cursor), lsn);
    expect_error(cursor, WEIR_EUNREADABLE, &error);
    (void)close(segment_file(&rig, error.lsn, name));
    assert_string_equal(error.file, name);
    assert_int_equal(error.offset, error.lsn % RIG_SEGMENT);
    assert_int_equal(error.system_code, EIO);
    assert_non_null(strstr(error.text, weir_strerror(-EIO)));
    assert_true(tag < 100);
    fault_io_heal(&rig.fault);
    for (; tag < 100; tag++) {
        expect_record(cursor, WEIR_TRY, tag);
    }
    weir_cursor_close(cursor);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- ends ------------------------------------------------------------------------------------ */

/* Nothing will come any more: no wait, however long it was to be. */
static void a_log_that_is_shut_down_is_read_to_its_end(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *early[LEVELS];
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    append(&rig, 0, 100, NULL);
    for (int level = 0; level < LEVELS; level++) {
        early[level] = open_cursor(rig.log, WEIR_LSN_OLDEST, (enum weir_level)level, 0);
    }
    (void)append_only(&rig, 100);
    assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);
    for (int level = 0; level < LEVELS; level++) {
        struct weir_cursor *const late =
            open_cursor(rig.log, WEIR_LSN_OLDEST, (enum weir_level)level, WEIR_CURSOR_PIN);
        struct weir_cursor *const behind =
            open_cursor(rig.log, weir_end_lsn(rig.log) + 1, (enum weir_level)level, 0);
        for (uint64_t tag = 0; tag <= 100; tag++) {
            expect_record(early[level], WEIR_FOREVER, tag);
            expect_record(late, WEIR_FOREVER, tag);
        }
        for (int round = 0; round < 2; round++) {
            expect_end(early[level], WEIR_FOREVER);
            expect_end(late, WEIR_FOREVER);
            expect_end(behind, WEIR_FOREVER);
        }
        weir_cursor_close(early[level]);
        weir_cursor_close(late);
        weir_cursor_close(behind);
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Everything up to the durable LSN, at every level, and then the end for good. The append that
 * waited is told its LSN: its fate is unknown. */
static void a_poisoned_log_is_read_up_to_what_is_durable(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *early[LEVELS];
    weir_lsn lsn = WEIR_LSN_NONE;
    rig_make(&rig, chain_way);
    assert_int_equal(rig_open(&rig), 0);
    append(&rig, 0, 100, NULL);
    for (int level = 0; level < LEVELS; level++) {
        early[level] = open_cursor(rig.log, WEIR_LSN_OLDEST, (enum weir_level)level, 0);
        expect_record(early[level], WEIR_TRY, 0);
    }
    const weir_lsn durable = weir_durable_lsn(rig.log);
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_SYNC, .name = ".weir", .error = -EIO});
    assert_int_equal(rig_append(&rig, 100, RECORD_BYTES, &lsn), WEIR_EFAILED);
    assert_int_equal(lsn, durable + HEADER);
    assert_int_equal(weir_durable_lsn(rig.log), durable);
    for (int level = 0; level < LEVELS; level++) {
        struct weir_entry entry;
        struct weir_cursor *const late =
            open_cursor(rig.log, WEIR_LSN_OLDEST, (enum weir_level)level, 0);
        expect_record(late, WEIR_FOREVER, 0);
        for (uint64_t tag = 1; tag < 100; tag++) {
            expect_record(early[level], WEIR_FOREVER, tag);
            expect_record(late, WEIR_FOREVER, tag);
        }
        if (level != WEIR_DURABLE) {
            /* What was written or appended and never synced may show at those levels. */
            const int code = weir_cursor_next(late, WEIR_FOREVER, &entry);
            assert_true(code == WEIR_EEND || (code == 0 && entry.lsn == lsn));
            (void)weir_cursor_next(early[level], WEIR_FOREVER, &entry);
        }
        expect_end(early[level], WEIR_FOREVER);
        expect_end(late, WEIR_FOREVER);
        weir_cursor_close(early[level]);
        weir_cursor_close(late);
    }
    struct weir_cursor *const beyond = open_cursor(rig.log, lsn, WEIR_DURABLE, 0);
    expect_end(beyond, WEIR_FOREVER);
    weir_cursor_close(beyond);
    assert_int_equal(rig_close(&rig), WEIR_EFAILED);
    rig_destroy(&rig);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_level_shows_what_has_reached_it),
        cmocka_unit_test(a_timeout_is_waited_out),
        cmocka_unit_test(a_reader_at_the_tail_goes_on_for_ever),
        cmocka_unit_test(a_cursor_begins_at_or_after_its_lsn),
        cmocka_unit_test(a_fresh_cursor_has_nothing_to_tell),
        cmocka_unit_test(reading_ahead_shows_the_same),
        cmocka_unit_test(a_batch_is_told_of_in_full),
        cmocka_unit_test(data_lives_until_the_next_call_on_its_cursor),
        cmocka_unit_test(another_process_reads_beside_the_writer),
        cmocka_unit_test(a_cursor_is_passed_by_a_trim),
        cmocka_unit_test(a_cursor_learns_that_the_log_was_cut),
        cmocka_unit_test(a_cursor_that_does_not_open_says_why),
        cmocka_unit_test(a_forged_checkpoint_is_told_by_readers),
        cmocka_unit_test(a_damaged_segment_header_is_told_by_readers),
        cmocka_unit_test(damage_is_told_with_its_place),
        cmocka_unit_test(a_block_that_cannot_be_read_is_told_with_its_place),
        cmocka_unit_test(a_log_that_is_shut_down_is_read_to_its_end),
        cmocka_unit_test(a_poisoned_log_is_read_up_to_what_is_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
