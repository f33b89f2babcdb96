/* SPDX-License-Identifier: Apache-2.0
 * Opening, sharing, forking, shutting down, closing, reopening: who may do what, and what they are
 * told. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/control.h"
#include "format/segment_header.h"
#include "port/clock.h"
#include "segment/dir.h"
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct rig_way *const posix_way = &rig_ways[8];

static void check_ledger(struct rig *rig)
{
    char why[256] = "";
    (void)ledger_check(&rig->ledger, rig->log, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
}

static void check_dir(struct rig *rig)
{
    char why[256] = "";
    (void)ledger_check_dir(&rig->ledger, rig->path, &rig->options, true, why);
    assert_string_equal(why, "");
}

/* ---- shutting down --------------------------------------------------------------------------- */

struct leaving {
    struct rig *rig;
    WEIR__ATOMIC(uint64_t) appended;
};

/* Appends until it is told to go, in every form; what was appended must be made durable all the
 * same. */
static void append_until_shutdown(struct worker *worker)
{
    struct leaving *const leaving = worker->ctx;
    struct weir_log *const log = leaving->rig->log;
    uint8_t payload[3000];
    for (uint64_t i = 0;; i++) {
        const uint64_t tag = (uint64_t)(worker->index + 1) << 32 | i;
        const size_t bytes = random_below(&worker->random, sizeof payload);
        const struct weir_piece piece = {payload, bytes};
        const struct weir_record record = {&piece, 1, tag};
        weir_lsn lsn = WEIR_LSN_NONE;
        payload_fill(tag, payload, bytes);
        const uint64_t form = random_below(&worker->random, 4);
        int code;
        if (form == 0) {
            code = weir_append_wait(log, payload, bytes, tag, WEIR_DURABLE, &lsn);
        } else {
            const int64_t timeouts[] = {WEIR_FOREVER, WEIR_TRY, 1000000};
            code = weir_append_group(log, &record, 1, timeouts[form - 1], &lsn);
        }
        if (code == 0) {
            ledger_add(&leaving->rig->ledger, lsn, tag, bytes);
            weir__fetch_add(&leaving->appended, UINT64_C(1), relaxed);
        } else if (code == WEIR_ESHUTDOWN) {
            if (lsn != WEIR_LSN_NONE) {
                worker_fail(worker, "a record was appended, and then refused");
            }
            break;
        } else if (!(code == -EAGAIN && form == 2) && !(code == -ETIMEDOUT && form == 3)) {
            worker_fail(worker, "append: %s", weir_error_name(code));
            break;
        }
    }
    /* From here on for good. */
    const int again = weir_append(log, "x", 1, 0, NULL);
    const int waited = weir_wait(log, UINT64_MAX, WEIR_DURABLE, WEIR_FOREVER);
    const int synced = weir_sync(log, WEIR_FOREVER);
    if (again != WEIR_ESHUTDOWN || waited != WEIR_ESHUTDOWN || synced != 0) {
        worker_fail(worker,
                    "after the shutdown: append %s, wait %s, sync %s",
                    weir_error_name(again),
                    weir_error_name(waited),
                    weir_error_name(synced));
    }
}

static bool some_appended(void *ctx)
{
    return weir__load(&((struct leaving *)ctx)->appended, relaxed) > 200;
}

static void a_shutdown_under_load_loses_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct leaving leaving = {.rig = &rig};
        struct workers workers;
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        assert_int_equal(rig_open(&rig), 0);
        workers_start(&workers, 8, append_until_shutdown, &leaving, test_seed());
        assert_true(wait_until(some_appended, &leaving));
        assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);
        assert_int_equal(weir_shutdown(rig.log, WEIR_TRY), 0);
        workers_finish(&workers);
        assert_int_equal(weir_trim(rig.log, weir_durable_lsn(rig.log)), WEIR_ESHUTDOWN);
        check_ledger(&rig); /* readers go on */
        assert_int_equal(rig_close(&rig), 0);
        check_dir(&rig);
        rig_destroy(&rig);
    }
}

/* A shutdown that does not get done in time says so, and can be asked again. */
static void a_shutdown_has_a_deadline(void **state)
{
    (void)state;
    struct rig rig;
    weir_lsn lsn;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open(&rig), 0);
    (void)fault_io_arm(&rig.fault,
                       &(struct fault_rule){.kind = FAULT_WRITE, .name = ".weir", .hold = true});
    assert_int_equal(weir_append(rig.log, NULL, 0, 0, &lsn), 0);
    assert_true(fault_io_wait_held(&rig.fault, 1));
    assert_int_equal(weir_shutdown(rig.log, WEIR_TRY), -ETIMEDOUT);
    assert_int_equal(weir_shutdown(rig.log, 10000000), -ETIMEDOUT);
    assert_int_equal(weir_append(rig.log, NULL, 0, 0, NULL), WEIR_ESHUTDOWN);
    fault_io_release(&rig.fault);
    assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);
    assert_true(weir_durable_lsn(rig.log) > lsn);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* A cursor at the tail of a log that shuts down is told that there is no more. */
static void wait_at_tail(struct worker *worker)
{
    struct rig *const rig = worker->ctx;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    if (weir_cursor_open(rig->log, WEIR_LSN_OLDEST, (enum weir_level)worker->index, 0, &cursor) !=
        0) {
        worker_fail(worker, "open");
        return;
    }
    int code = weir_cursor_next(cursor, WEIR_FOREVER, &entry);
    if (code != 0) {
        worker_fail(worker, "first: %s", weir_error_name(code));
    }
    code = weir_cursor_next(cursor, WEIR_FOREVER, &entry);
    if (code != WEIR_EEND) {
        worker_fail(worker, "at the end: %s", weir_error_name(code));
    }
    weir_cursor_close(cursor);
}

static void a_shutdown_ends_the_wait_of_cursors(void **state)
{
    (void)state;
    struct rig rig;
    struct workers workers;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    workers_start(&workers, 3, wait_at_tail, &rig, test_seed());
    assert_int_equal(weir_append_wait(rig.log, "x", 1, 0, WEIR_DURABLE, NULL), 0);
    weir__sleep_ns(5000000);
    assert_int_equal(weir_shutdown(rig.log, WEIR_FOREVER), 0);
    workers_finish(&workers);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

static void close_waits_for_cursors_to_be_closed(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_cursor *cursors[2];
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    assert_int_equal(weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursors[0]), 0);
    assert_int_equal(
        weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, WEIR_CURSOR_PIN, &cursors[1]),
        0);
    assert_int_equal(weir_close(rig.log, &rig.error), -EBUSY);
    /* Nothing was done: the log is as it was. */
    assert_int_equal(weir_append_wait(rig.log, "x", 1, 0, WEIR_DURABLE, NULL), 0);
    weir_cursor_close(cursors[0]);
    assert_int_equal(weir_close(rig.log, &rig.error), -EBUSY);
    weir_cursor_close(cursors[1]);
    weir_cursor_close(NULL);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- what an opening finds ------------------------------------------------------------------- */

static void a_new_directory_is_its_owners_alone(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_log *log;
    struct stat st;
    char path[TEMP_DIR_BYTES];
    rig_make(&rig, posix_way);
    temp_dir_join(rig.path, "log", path);
    const mode_t mask = umask(0);
    const int code = weir_open(path, &rig.options, &log, NULL);
    (void)umask(mask);
    assert_int_equal(code, 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(weir_close(log, NULL), 0);
    rig_destroy(&rig);
}

/* Each figure of a log that was cut off: everything is scanned from where the log begins. After a
 * clean close nothing is. */
static void a_report_tells_what_was_scanned(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_log *log;
    struct weir_log_info info;
    struct weir_report report;
    char copied[TEMP_DIR_BYTES];
    rig_make(&rig, posix_way);
    rig.options.segment_bytes = 4 * RIG_SEGMENT;
    assert_int_equal(rig_open_plain(&rig), 0);
    weir_log_report(rig.log, &report);
    assert_int_equal(report.segments, 1); /* a new log has one already */
    assert_int_equal(report.scan_from_lsn, RIG_BLOCK);
    assert_int_equal(report.error.offset, UINT64_MAX);
    assert_int_equal(report.error.lsn, UINT64_MAX);
    weir_log_describe(rig.log, &info);
    for (uint64_t tag = 1; tag <= 50; tag++) {
        assert_int_equal(rig_append(&rig, tag, 6000, NULL), 0);
    }
    assert_int_equal(weir_append_wait(rig.log, NULL, 0, 51, WEIR_DURABLE, NULL), 0);
    const weir_lsn end = weir_durable_lsn(rig.log);
    temp_dir_make(copied);
    temp_dir_copy(rig.path, copied);
    assert_int_equal(rig_close(&rig), 0);

    assert_int_equal(weir_open(copied, &rig.options, &log, NULL), 0);
    weir_log_report(log, &report);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.oldest_lsn, RIG_BLOCK);
    assert_int_equal(report.end_lsn, end);
    assert_int_equal(report.scan_from_lsn, RIG_BLOCK);
    assert_int_equal(report.promise_lsn,
                     end - RIG_BLOCK); /* the last batch tells of those before */
    assert_int_equal(report.epoch, 1);
    assert_int_equal(report.log_id, info.log_id);
    assert_int_equal(report.records, 51);
    assert_int_equal(report.batches, 51);
    assert_true(report.bytes_scanned >= end - RIG_BLOCK);
    assert_true(report.bytes_scanned <= 8 * RIG_SEGMENT);
    assert_int_equal(report.bytes_cut, 0);
    assert_int_equal(report.segments, 1);
    assert_int_equal(report.bad_lsn, UINT64_MAX);
    assert_int_equal(report.evidence_lsn, UINT64_MAX);
    assert_false(report.writer_live);
    assert_int_equal(report.error.code, 0);
    assert_int_equal(report.error.offset, UINT64_MAX);
    assert_string_not_equal(report.why, "");
    assert_int_equal(weir_close(log, NULL), 0);
    temp_dir_remove(copied);

    assert_int_equal(rig_open_plain(&rig), 0);
    weir_log_report(rig.log, &report);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.end_lsn, end);
    assert_int_equal(report.scan_from_lsn, end);
    assert_int_equal(report.promise_lsn, end);
    assert_int_equal(report.records, 0);
    assert_int_equal(report.batches, 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* The control file's version and the checksum that makes it believable, in both copies. */
static void make_newer(const char *dir)
{
    char path[TEMP_DIR_BYTES];
    temp_dir_join(dir, WEIR__CONTROL_NAME, path);
    const int file = open(path, O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    for (unsigned copy = 0; copy < 2; copy++) {
        uint8_t bytes[WEIR__CONTROL_USED_BYTES];
        const off_t at = (off_t)(copy * WEIR__CONTROL_COPY_OFFSET);
        assert_int_equal(pread(file, bytes, sizeof bytes, at), sizeof bytes);
        weir__put_u32(bytes + 8, WEIR__FORMAT_VERSION + 1);
        weir__put_u32(bytes + 4, weir__crc32c(0, bytes + 8, sizeof bytes - 8));
        assert_int_equal(pwrite(file, bytes, sizeof bytes, at), sizeof bytes);
    }
    (void)close(file);
}

/* Corrupt, unreadable, of a later version: refused with the place, and not a byte is touched. */
static void what_cannot_be_recovered_is_left_as_it_was(void **state)
{
    (void)state;
    static const int codes[] = {WEIR_ECORRUPT, WEIR_EUNREADABLE, WEIR_EFORMAT};
    for (size_t i = 0; i < 3; i++) {
        struct rig rig;
        struct rig other;
        char name[TEMP_DIR_BYTES];
        char path[TEMP_DIR_BYTES];
        rig_make(&rig, posix_way);
        rig_make(&other, posix_way);
        assert_int_equal(rig_open_plain(&rig), 0);
        for (uint64_t tag = 1; tag <= 20; tag++) {
            assert_int_equal(rig_append(&rig, tag, 6000, NULL), 0);
        }
        temp_dir_copy(rig.path, other.path); /* as a killed process leaves it */
        assert_int_equal(rig_close(&rig), 0);

        const weir_lsn bad = rig.ledger.entries[10].lsn;
        assert_true(temp_dir_first(other.path, ".weir", name));
        if (codes[i] == WEIR_ECORRUPT) {
            uint8_t byte;
            temp_dir_join(other.path, name, path);
            const int file = open(path, O_RDWR | O_CLOEXEC);
            assert_int_equal(pread(file, &byte, 1, (off_t)bad + 1000), 1);
            byte ^= 1;
            assert_int_equal(pwrite(file, &byte, 1, (off_t)bad + 1000), 1);
            (void)close(file);
        } else if (codes[i] == WEIR_EUNREADABLE) {
            (void)fault_io_arm(&other.fault,
                               &(struct fault_rule){.kind = FAULT_READ,
                                                    .name = ".weir",
                                                    .offset_from = RIG_BLOCK,
                                                    .error = -EIO});
        } else {
            make_newer(other.path);
        }
        /* The live page belongs to a writer that is there, not to the log. */
        const uint64_t before = temp_dir_fingerprint(other.path, "weir.live");
        for (int round = 0; round < 2; round++) {
            assert_int_equal(rig_open(&other), codes[i]);
            assert_null(other.log);
            assert_int_equal(other.error.code, codes[i]);
            assert_string_not_equal(other.error.text, "");
            assert_int_equal(other.error.system_code, codes[i] == WEIR_EUNREADABLE ? EIO : 0);
            if (codes[i] == WEIR_EFORMAT) {
                assert_string_equal(other.error.file, WEIR__CONTROL_NAME);
            } else {
                assert_string_equal(other.error.file, name);
                assert_int_equal(other.error.offset, other.error.lsn); /* the first segment */
            }
            assert_true(codes[i] != WEIR_ECORRUPT ||
                        (other.error.lsn <= bad + 1000 && other.error.lsn > bad - RIG_BLOCK));
            assert_int_equal(temp_dir_fingerprint(other.path, "weir.live"), before);
        }
        rig_destroy(&other);
        rig_destroy(&rig);
    }
}

/* ---- one writer ------------------------------------------------------------------------------ */

/* Runs `run` in a forked child. Its value is the child's exit code; 99: it died. */
static int in_child(int (*run)(void *ctx), void *ctx)
{
    const pid_t child = fork();
    if (child == 0) {
        _exit(run(ctx));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static int second_open(void *ctx)
{
    const struct rig *const rig = ctx;
    struct weir_options options = rig->options;
    struct weir_log *log = NULL;
    struct weir_error error;
    options.lock_timeout_ns = UINT64_MAX; /* do not wait */
    options.on_event = NULL;
    const int code = weir_open(rig->path, &options, &log, &error);
    if (code != -EBUSY || error.code != -EBUSY || error.text[0] == '\0' || log != NULL) {
        return 1;
    }
    return 0;
}

static void a_second_writer_is_refused(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct rig rig;
        rig_make(&rig, way == 0 ? posix_way : &rig_ways[0]);
        assert_int_equal(rig_open_plain(&rig), 0);
        assert_int_equal(second_open(&rig), 0);
        assert_int_equal(in_child(second_open, &rig), 0);
        /* The first one has not noticed. */
        assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
        const uint64_t begin = weir__now_ns();
        struct weir_options options = rig.options;
        struct weir_log *log;
        options.lock_timeout_ns = 50000000;
        assert_int_equal(weir_open(rig.path, &options, &log, NULL), -EBUSY);
        assert_true(weir__now_ns() - begin >= 50000000);
        assert_int_equal(rig_close(&rig), 0);
        /* Free again at once, with whatever ring it had. */
        rig.options.lock_timeout_ns = UINT64_MAX;
        assert_int_equal(rig_open_plain(&rig), 0);
        check_ledger(&rig);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* A child that lives on does not keep the log of a parent that has closed it. */
static void a_forked_child_keeps_no_lock_of_a_closed_log(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct rig rig;
        int ends[2];
        rig_make(&rig, way == 0 ? posix_way : &rig_ways[0]);
        assert_int_equal(rig_open_plain(&rig), 0);
        assert_int_equal(pipe(ends), 0);
        const pid_t child = fork();
        if (child == 0) {
            char byte;
            (void)close(ends[1]);
            _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1); /* until the parent lets go */
        }
        (void)close(ends[0]);
        assert_int_equal(rig_close(&rig), 0);
        rig.options.lock_timeout_ns = UINT64_MAX;
        assert_int_equal(rig_open_plain(&rig), 0);
        assert_int_equal(rig_close(&rig), 0);
        (void)close(ends[1]);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        rig_destroy(&rig);
    }
}

struct inherited {
    struct weir_log *log;
    struct weir_cursor *cursor;
};

/* Every call that could do anything. Returns the number of the first that does not say
 * WEIR_EFORKED. */
static int every_call(void *ctx)
{
    const struct inherited *const inherited = ctx;
    struct weir_log *const log = inherited->log;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    struct weir_error error;
    struct weir_batch_info batch;
    const struct weir_record record = {NULL, 0, 0};
    const int codes[] = {
        weir_append(log, "x", 1, 0, NULL),
        weir_appendv(log, NULL, 0, 0, NULL),
        weir_append_group(log, &record, 1, WEIR_TRY, NULL),
        weir_append_group(log, &record, 1, WEIR_FOREVER, NULL),
        weir_append_wait(log, "x", 1, 0, WEIR_DURABLE, NULL),
        weir_wait(log, 1, WEIR_DURABLE, WEIR_TRY),
        weir_wait(log, UINT64_MAX, WEIR_DURABLE, WEIR_FOREVER),
        weir_sync(log, WEIR_FOREVER),
        weir_trim(log, 4096),
        weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor),
        weir_cursor_next(inherited->cursor, WEIR_FOREVER, &entry),
        weir_cursor_batch(inherited->cursor, &batch),
        weir_cursor_error(inherited->cursor, &error),
        weir_cursor_error(inherited->cursor, NULL),
        weir_log_error(log, &error),
        weir_log_error(log, NULL),
        weir_shutdown(log, WEIR_FOREVER),
        weir_close(log, &error),
        weir_close(log, NULL),
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i] != WEIR_EFORKED) {
            return (int)i + 1;
        }
    }
    weir_cursor_close(inherited->cursor); /* does nothing */
    return 0;
}

static void a_forked_child_is_refused_everything(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct rig rig;
        struct inherited inherited;
        rig_make(&rig, way == 0 ? posix_way : &rig_ways[0]);
        assert_int_equal(rig_open_plain(&rig), 0);
        inherited.log = rig.log;
        for (uint64_t tag = 1; tag < 20; tag++) {
            assert_int_equal(rig_append(&rig, tag, 1000, NULL), 0);
        }
        assert_int_equal(
            weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &inherited.cursor),
            0);
        assert_int_equal(in_child(every_call, &inherited), 0);
        /* And the parent goes on. */
        for (uint64_t tag = 20; tag < 40; tag++) {
            assert_int_equal(rig_append(&rig, tag, 1000, NULL), 0);
        }
        check_ledger(&rig);
        weir_cursor_close(inherited.cursor);
        assert_int_equal(rig_close(&rig), 0);
        check_dir(&rig);
        rig_destroy(&rig);
    }
}

/* ---- read-only ------------------------------------------------------------------------------- */

struct sight {
    struct ledger *ledger;
    struct weir_log *reader;
    char *why;
};

static bool reader_sees_all(void *ctx)
{
    const struct sight *const sight = ctx;
    return ledger_check(sight->ledger, sight->reader, WEIR_DURABLE, UINT64_MAX, true, sight->why);
}

/* Beside a live writer, in the same process: it reads what is durable, and can do nothing else. */
static void a_read_only_log_reads_beside_its_writer(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_log *reader;
    struct weir_error error;
    struct weir_report report;
    char why[256] = "";
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    for (uint64_t tag = 1; tag < 50; tag++) {
        assert_int_equal(rig_append(&rig, tag, 3000, NULL), 0);
    }
    struct weir_options options = rig.options;
    options.read_only = true;
    assert_int_equal(weir_open(rig.path, &options, &reader, &error), 0);
    weir_log_report(reader, &report);
    assert_true(report.writer_live);
    struct sight first_sight = {&rig.ledger, reader, why};
    assert_true(wait_until(reader_sees_all, &first_sight));
    assert_int_equal(weir_append(reader, "x", 1, 0, NULL), WEIR_EREADONLY);
    assert_int_equal(weir_append_wait(reader, "x", 1, 0, WEIR_DURABLE, NULL), WEIR_EREADONLY);
    assert_int_equal(weir_sync(reader, WEIR_FOREVER), WEIR_EREADONLY);
    assert_int_equal(weir_wait(reader, 1, WEIR_DURABLE, WEIR_TRY), WEIR_EREADONLY);
    assert_int_equal(weir_trim(reader, 4096), WEIR_EREADONLY);
    assert_int_equal(weir_shutdown(reader, WEIR_FOREVER), 0);
    for (uint64_t tag = 50; tag < 60; tag++) {
        assert_int_equal(rig_append(&rig, tag, 3000, NULL), 0);
        /* What is new is told to other processes just after the waiters are woken. */
        struct sight sight = {&rig.ledger, reader, why};
        assert_true(wait_until(reader_sees_all, &sight));
    }
    assert_int_equal(weir_close(reader, &error), 0);
    assert_int_equal(rig_close(&rig), 0);

    /* Without a writer too, and without changing a byte. */
    const uint64_t before = temp_dir_fingerprint(rig.path, NULL);
    assert_int_equal(weir_open(rig.path, &options, &reader, &error), 0);
    weir_log_report(reader, &report);
    assert_false(report.writer_live);
    (void)ledger_check(&rig.ledger, reader, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
    assert_int_equal(weir_close(reader, &error), 0);
    assert_int_equal(temp_dir_fingerprint(rig.path, NULL), before);
    rig_destroy(&rig);
}

/* It neither asks for the writer's lock nor has it: others open before and after it. */
static void a_read_only_log_is_in_nobodys_way(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_log *readers[2];
    struct weir_log_info info;
    struct weir_log_info seen;
    char why[256] = "";
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    assert_int_equal(rig_append(&rig, 1, 3000, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    struct weir_options options = rig.options;
    options.read_only = true;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(weir_open(rig.path, &options, &readers[i], NULL), 0);
    }
    rig.options.lock_timeout_ns = UINT64_MAX;
    assert_int_equal(rig_open_plain(&rig), 0);
    assert_int_equal(rig_append(&rig, 2, 3000, NULL), 0);
    weir_log_describe(rig.log, &info);
    for (size_t i = 0; i < 2; i++) {
        struct sight sight = {&rig.ledger, readers[i], why};
        assert_true(wait_until(reader_sees_all, &sight));
        weir_log_describe(readers[i], &seen);
        assert_int_equal(seen.log_id, info.log_id);
        assert_int_equal(seen.block_bytes, info.block_bytes);
        assert_int_equal(seen.segment_bytes, info.segment_bytes);
        assert_string_equal(seen.fs_name, info.fs_name);
        assert_string_equal(seen.memory_source, info.memory_source);
        assert_false(seen.io_uring);
        assert_false(seen.lock_in_ring);
        assert_int_equal(weir_close(readers[i], NULL), 0);
    }
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

static void expect_same_report(const struct weir_report *before, struct weir_log *log)
{
    struct weir_report now;
    weir_log_report(log, &now);
    assert_int_equal(now.verdict, before->verdict);
    assert_int_equal(now.oldest_lsn, before->oldest_lsn);
    assert_int_equal(now.end_lsn, before->end_lsn);
    assert_int_equal(now.promise_lsn, before->promise_lsn);
    assert_int_equal(now.scan_from_lsn, before->scan_from_lsn);
    assert_int_equal(now.epoch, before->epoch);
    assert_int_equal(now.log_id, before->log_id);
    assert_int_equal(now.records, before->records);
    assert_int_equal(now.bytes_scanned, before->bytes_scanned);
    assert_int_equal(now.segments, before->segments);
    assert_int_equal(now.writer_live, before->writer_live);
    assert_string_equal(now.why, before->why);
}

static bool reader_at_the_end(void *ctx)
{
    const struct sight *const sight = ctx;
    const struct ledger *const ledger = sight->ledger;
    return weir_durable_lsn(sight->reader) > ledger->entries[ledger->count - 1].lsn;
}

/* Whatever becomes of the log, also for a reader, which looks again and again. */
static void a_report_is_constant_until_close(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_log *reader;
    struct weir_report own;
    struct weir_report seen;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    weir_log_report(rig.log, &own);
    assert_int_equal(rig_append(&rig, 1, 3000, NULL), 0);
    struct weir_options options = rig.options;
    options.read_only = true;
    assert_int_equal(weir_open(rig.path, &options, &reader, NULL), 0);
    weir_log_report(reader, &seen);
    assert_true(seen.writer_live);
    assert_int_equal(seen.error.offset, UINT64_MAX);
    assert_int_equal(seen.error.lsn, UINT64_MAX);
    for (uint64_t tag = 2; tag < 100; tag++) {
        assert_int_equal(rig_append(&rig, tag, 3000, NULL), 0);
    }
    assert_int_equal(weir_trim(rig.log, rig.ledger.entries[50].lsn), 0);
    struct sight sight = {&rig.ledger, reader, NULL};
    assert_true(wait_until(reader_at_the_end, &sight));
    expect_same_report(&own, rig.log);
    expect_same_report(&seen, reader);

    /* Without its writer the log is scanned again, and beside the next one it is not. */
    assert_int_equal(rig_close(&rig), 0);
    for (int look = 0; look < 3; look++) {
        weir__sleep_ns(25000000); /* the pause that it makes between two looks */
        (void)weir_durable_lsn(reader);
        expect_same_report(&seen, reader);
    }
    assert_int_equal(rig_open_plain(&rig), 0);
    assert_int_equal(rig_append(&rig, 200, 3000, NULL), 0);
    assert_true(wait_until(reader_at_the_end, &sight));
    expect_same_report(&seen, reader);
    assert_int_equal(weir_close(reader, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- reopening ------------------------------------------------------------------------------- */

/* Other sizes for what is to come, the old ones for what is there. */
static void reopening_with_other_sizes_reads_everything(void **state)
{
    (void)state;
    static const struct {
        uint64_t segment_bytes;
        uint32_t slot_bytes;
        uint32_t slots;
        uint32_t record_bytes_max;
    } sizes[] = {
        {RIG_SEGMENT, 16384, 4, 65536},
        {2 * RIG_SEGMENT, 65536, 2, 300000},
        {RIG_SEGMENT / 2, 4096, 16, 1000},
        {0, 16384, 4, 65536}, /* as it is */
        {4 * RIG_SEGMENT, 1 << 20, 3, 1000000},
        {RIG_SEGMENT / 4, 8192, 2, 0},
        {RIG_SEGMENT, 16384, 4, 65536},
    };
    struct rig rig;
    uint64_t tag = 1;
    rig_make(&rig, posix_way);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct weir_log_info info;
        rig.options.segment_bytes = sizes[i].segment_bytes;
        rig.options.slot_bytes = sizes[i].slot_bytes;
        rig.options.slots = sizes[i].slots;
        rig.options.record_bytes_max = sizes[i].record_bytes_max;
        assert_int_equal(rig_open_plain(&rig), 0);
        weir_log_describe(rig.log, &info);
        assert_int_equal(info.epoch, i + 1);
        assert_int_equal(info.segment_bytes,
                         sizes[i].segment_bytes != 0 ? sizes[i].segment_bytes
                                                     : sizes[i - 1].segment_bytes);
        check_ledger(&rig); /* batches of larger slots through the cursors of smaller ones */
        for (int j = 0; j < 100; j++) {
            size_t bytes = (size_t)j * 331;
            bytes = bytes < info.record_bytes_max ? bytes : info.record_bytes_max;
            assert_int_equal(rig_append(&rig, tag++, bytes, NULL), 0);
        }
        assert_int_equal(rig_append(&rig, tag++, info.record_bytes_max, NULL), 0);
        check_ledger(&rig);
        assert_int_equal(rig_close(&rig), 0);
    }
    check_dir(&rig);
    rig_destroy(&rig);
}

/* LSNs are 64 bits all the way: across 2^32, 2^40, 2^62, and to the highest that may be asked for.
 */
static void lsns_may_begin_anywhere(void **state)
{
    (void)state;
    const weir_lsn highest =
        ((UINT64_C(1) << 63) - (UINT64_C(1) << 40) - 1) / RIG_SEGMENT * RIG_SEGMENT - RIG_SEGMENT;
    const weir_lsn starts[] = {
        (UINT64_C(1) << 32) - RIG_SEGMENT / 2,
        (UINT64_C(1) << 40) - RIG_SEGMENT,
        (UINT64_C(1) << 40) - RIG_BLOCK,
        (UINT64_C(1) << 62) - RIG_SEGMENT - RIG_BLOCK,
        (UINT64_C(1) << 62) - RIG_BLOCK,
        highest,
    };
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        struct rig rig;
        struct weir_report report;
        weir_lsn lsn;
        weir_lsn middle = 0;
        rig_make(&rig, i % 2 == 0 ? posix_way : &rig_ways[4]);
        rig.options.first_lsn = starts[i];
        assert_int_equal(rig_open(&rig), 0);
        assert_int_equal(weir_oldest_lsn(rig.log), starts[i] + RIG_BLOCK);
        for (uint64_t tag = 1; tag <= 150; tag++) {
            assert_int_equal(rig_append(&rig, tag, 6000, &lsn), 0);
            assert_true(lsn > starts[i] + RIG_BLOCK);
            middle = tag == 75 ? lsn : middle;
        }
        assert_true(lsn > starts[i] + 2 * RIG_SEGMENT);
        check_ledger(&rig);
        assert_int_equal(rig_close(&rig), 0);

        rig.options.first_lsn = 0; /* looked at only when a log is created */
        assert_int_equal(rig_open(&rig), 0);
        weir_log_report(rig.log, &report);
        assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
        assert_true(report.end_lsn > lsn);
        check_ledger(&rig);
        assert_int_equal(rig_append(&rig, 1000, 6000, &lsn), 0);
        assert_true(lsn >= report.end_lsn);
        assert_int_equal(weir_trim(rig.log, middle), 0);
        assert_int_equal(weir_oldest_lsn(rig.log), middle);
        check_ledger(&rig);
        assert_int_equal(rig_close(&rig), 0);
        check_dir(&rig);
        rig_destroy(&rig);
    }
}

/* Opened and closed, again and again, with and without records: nothing grows, nothing is lost. */
static void opening_and_closing_is_idempotent(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    for (uint64_t round = 0; round < 20; round++) {
        struct weir_report report;
        weir_lsn lsn;
        assert_int_equal(rig_open_plain(&rig), 0);
        weir_log_report(rig.log, &report);
        assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
        assert_int_equal(report.bytes_cut, 0);
        check_ledger(&rig);
        if (round % 3 == 0) {
            assert_int_equal(rig_append(&rig, round, 100, &lsn), 0);
        }
        assert_int_equal(rig_close(&rig), 0);
        assert_true(temp_dir_count(rig.path, ".weir") <= 3);
    }
    check_dir(&rig);
    rig_destroy(&rig);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shutdown_under_load_loses_nothing),
        cmocka_unit_test(a_shutdown_has_a_deadline),
        cmocka_unit_test(a_shutdown_ends_the_wait_of_cursors),
        cmocka_unit_test(close_waits_for_cursors_to_be_closed),
        cmocka_unit_test(a_new_directory_is_its_owners_alone),
        cmocka_unit_test(a_report_tells_what_was_scanned),
        cmocka_unit_test(what_cannot_be_recovered_is_left_as_it_was),
        cmocka_unit_test(a_second_writer_is_refused),
        cmocka_unit_test(a_forked_child_keeps_no_lock_of_a_closed_log),
        cmocka_unit_test(a_forked_child_is_refused_everything),
        cmocka_unit_test(a_read_only_log_reads_beside_its_writer),
        cmocka_unit_test(a_read_only_log_is_in_nobodys_way),
        cmocka_unit_test(a_report_is_constant_until_close),
        cmocka_unit_test(reopening_with_other_sizes_reads_everything),
        cmocka_unit_test(lsns_may_begin_anywhere),
        cmocka_unit_test(opening_and_closing_is_idempotent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
