/* SPDX-License-Identifier: Apache-2.0
 * Logs that nobody here has open: verify, locate, salvage, copy, probe, and what they promise about
 * codes, reports and directories. At the end, openings whose outcome only these calls can show. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/control.h"
#include "format/segment_header.h"
#include "port/io.h"
#include "segment/dir.h"
#include "support/log_builder.h"
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define HEADER 96u
#define FRAME 24u
#define BLOCK 512u
#define SEGMENT (16u * (uint64_t)BLOCK)
#define PLACE_ROUNDS 4u

static const struct rig_way *const posix_way = &rig_ways[8];

/* ---- a directory that must stay as it is ----------------------------------------------------- */

/* Bytes and names, and besides them what the kernel saw: a write of the same bytes, or a file that
 * came and went, leaves nothing to compare. */
struct watch {
    const char *path;
    uint64_t fingerprint;
    size_t entries;
    int file;
};

static void watch_begin(struct watch *watch, const char *path)
{
    watch->path = path;
    watch->fingerprint = temp_dir_fingerprint(path, NULL);
    watch->entries = temp_dir_count(path, "");
    watch->file = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    assert_true(watch->file >= 0);
    assert_true(inotify_add_watch(watch->file,
                                  path,
                                  IN_ATTRIB | IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MODIFY |
                                      IN_MOVE | IN_DELETE_SELF | IN_MOVE_SELF) >= 0);
}

/* The kernel queues an event before the call that caused it returns, so there is nothing to wait
 * for. It would also show an unnamed file, by its number. */
static void watch_end(struct watch *watch)
{
    _Alignas(struct inotify_event) char events[4096];
    ssize_t got;
    while ((got = read(watch->file, events, sizeof events)) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct inotify_event *const event = (const void *)(events + at);
            fail_msg("%s: event 0x%x on \"%s\"",
                     watch->path,
                     (unsigned)event->mask,
                     event->len > 0 ? event->name : "");
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
    (void)close(watch->file);
    assert_int_equal(temp_dir_count(watch->path, ""), watch->entries);
    assert_true(temp_dir_fingerprint(watch->path, NULL) == watch->fingerprint);
}

/* ---- the system's I/O, watched and spoilt ---------------------------------------------------- */

/* These calls take no I/O of a test's own, so the system's table is exchanged while one runs. Only
 * where no log is open: other threads read the table. */
#define SEAM_FILES 1024

static struct seam {
    const struct weir__io_ops *system;
    struct weir__io_ops ops;
    char names[SEAM_FILES][64];
    bool dirty[SEAM_FILES]; /* written, and not synced since */
    bool dir_dirty;         /* a name was made or changed, and its directory not synced since */
    unsigned lost;          /* files closed dirty */
    unsigned writes;
    char bad_name[64]; /* reads of it that touch [bad_from, bad_to) fail */
    uint64_t bad_from;
    uint64_t bad_to;
    bool
        cache_lies; /* reads through the page cache find a bit at bad_from turned, and do not fail */
    unsigned lies;
    unsigned stop_at; /* the write with this number, and all behind it, find a full disk; 0: none */
} seam;

static int seam_open(struct weir__io *io, int dir, const char *name, unsigned flags, int *file_out)
{
    const int code = seam.system->open(io, dir, name, flags, file_out);
    if (code == 0 && *file_out < SEAM_FILES) {
        (void)snprintf(seam.names[*file_out], sizeof seam.names[0], "%s", name);
        seam.dirty[*file_out] = false;
        seam.dir_dirty = seam.dir_dirty || (flags & WEIR__OPEN_CREATE) != 0;
    }
    return code;
}

static int seam_close(struct weir__io *io, int file)
{
    if (file < SEAM_FILES && seam.dirty[file]) {
        seam.lost++;
    }
    return seam.system->close(io, file);
}

/* The page cache holds everything, and its pages are not what the device holds. */
static int seam_cached(struct weir__io *io, int file, uint64_t bytes)
{
    (void)io, (void)file, (void)bytes;
    return 1;
}

static ssize_t seam_read(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    if (seam.cache_lies && (fcntl(file, F_GETFL) & O_DIRECT) == 0 &&
        strcmp(seam.names[file], seam.bad_name) == 0) {
        const ssize_t got = seam.system->read(io, file, buffer, bytes, offset);
        if (got > 0 && seam.bad_from >= offset && seam.bad_from - offset < (uint64_t)got) {
            ((uint8_t *)buffer)[seam.bad_from - offset] ^= 0x40;
            seam.lies++;
        }
        return got;
    }
    if (seam.bad_name[0] != '\0' && strcmp(seam.names[file], seam.bad_name) == 0 &&
        offset < seam.bad_to && offset + bytes > seam.bad_from) {
        return -EIO;
    }
    return seam.system->read(io, file, buffer, bytes, offset);
}

static ssize_t seam_write(struct weir__io *io,
                          int file,
                          const struct iovec *iov,
                          unsigned iov_count,
                          uint64_t offset,
                          bool dsync)
{
    seam.writes++;
    if (seam.stop_at != 0 && seam.writes >= seam.stop_at) {
        return -ENOSPC;
    }
    seam.dirty[file] = seam.dirty[file] || !dsync;
    return seam.system->write(io, file, iov, iov_count, offset, dsync);
}

static int seam_truncate(struct weir__io *io, int file, uint64_t bytes)
{
    seam.dirty[file] = true;
    return seam.system->truncate(io, file, bytes);
}

static int seam_sync(struct weir__io *io, int file)
{
    const int code = seam.system->sync(io, file);
    seam.dirty[file] = seam.dirty[file] && code != 0;
    return code;
}

static int seam_rename(struct weir__io *io, int dir, const char *from, const char *to)
{
    seam.dir_dirty = true;
    return seam.system->rename(io, dir, from, to);
}

static int seam_sync_dir(struct weir__io *io, int dir)
{
    const int code = seam.system->sync_dir(io, dir);
    seam.dir_dirty = seam.dir_dirty && code != 0;
    return code;
}

/* Reads then come through the table. */
static int seam_queue_open(struct weir__io *io,
                           struct weir__mem *mem,
                           const struct weir__queue_config *config,
                           struct weir__queue **queue_out,
                           struct weir__queue_info *info_out)
{
    (void)io, (void)mem, (void)config, (void)queue_out, (void)info_out;
    return -ENOSYS;
}

static void seam_begin(void)
{
    memset(&seam, 0, sizeof seam);
    seam.system = weir__io_system()->ops;
    seam.ops = *seam.system;
    seam.ops.open = seam_open;
    seam.ops.close = seam_close;
    seam.ops.read = seam_read;
    seam.ops.write = seam_write;
    seam.ops.truncate = seam_truncate;
    seam.ops.sync = seam_sync;
    seam.ops.rename = seam_rename;
    seam.ops.sync_dir = seam_sync_dir;
    seam.ops.queue_open = seam_queue_open;
    weir__io_system()->ops = &seam.ops;
}

static void seam_end(void)
{
    weir__io_system()->ops = seam.system;
}

/* ---- progress -------------------------------------------------------------------------------- */

struct progress {
    unsigned calls;
    bool fell;
    uint64_t done;
    uint64_t total;
};

static void progress_on(void *ctx, uint64_t done, uint64_t total)
{
    struct progress *const progress = ctx;
    if (progress->calls++ > 0 && (done <= progress->done || total != progress->total)) {
        progress->fell = true;
    }
    progress->done = done;
    progress->total = total;
}

static void progress_holds(const struct progress *progress, unsigned calls)
{
    assert_true(progress->calls >= calls);
    assert_false(progress->fell);
    assert_int_equal(progress->done, progress->total);
    assert_int_not_equal(progress->total, 0);
}

/* ---- what a log holds ------------------------------------------------------------------------ */

#define SEEN_MAX 1024u

struct seen {
    weir_lsn lsn;
    uint64_t epoch;
    uint64_t tag;
    size_t bytes;
    uint32_t crc;
    bool more;
    struct weir_batch_info batch;
};

/* Every record of a log, by a cursor. The list is the caller's to free. */
static size_t read_all(const char *path, struct seen **list_out)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_log *log;
    struct weir_cursor *cursor;
    struct weir_entry entry;
    size_t count = 0;
    int code;
    struct seen *const list = calloc(SEEN_MAX, sizeof *list);
    options.read_only = true;
    assert_int_equal(weir_open(path, &options, &log, NULL), 0);
    assert_int_equal(weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_APPENDED, 0, &cursor), 0);
    while ((code = weir_cursor_next(cursor, WEIR_TRY, &entry)) == 0) {
        assert_true(count < SEEN_MAX);
        list[count] = (struct seen){.lsn = entry.lsn,
                                    .epoch = entry.epoch,
                                    .tag = entry.tag,
                                    .bytes = entry.bytes,
                                    .crc = weir__crc32c(0, entry.data, entry.bytes),
                                    .more = entry.more};
        assert_int_equal(weir_cursor_batch(cursor, &list[count].batch), 0);
        count++;
    }
    assert_int_equal(code, WEIR_EEND);
    weir_cursor_close(cursor);
    assert_int_equal(weir_close(log, NULL), 0);
    *list_out = list;
    return count;
}

static void same_record(const struct seen *a, const struct seen *b)
{
    assert_int_equal(a->lsn, b->lsn);
    assert_int_equal(a->tag, b->tag);
    assert_int_equal(a->bytes, b->bytes);
    assert_int_equal(a->crc, b->crc);
    assert_int_equal(a->more, b->more);
}

/* The bytes that a record takes: header, payload, zeros. */
static uint64_t span(size_t bytes)
{
    return FRAME + (bytes + 7) / 8 * 8;
}

/* ---- logs made and damaged ------------------------------------------------------------------- */

static void put_at(const char *dir, const char *name, uint64_t offset, const void *data, size_t n)
{
    char path[TEMP_DIR_BYTES];
    temp_dir_join(dir, name, path);
    const int file = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, data, n, (off_t)offset), n);
    (void)close(file);
}

/* Changes the byte at an LSN of a log with segments of RIG_SEGMENT from 0 on. */
static void flip(const char *dir, weir_lsn lsn)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    char path[TEMP_DIR_BYTES];
    uint8_t byte;
    const weir_lsn base = lsn / RIG_SEGMENT * RIG_SEGMENT;
    weir__segment_name(base, base + RIG_SEGMENT, name);
    temp_dir_join(dir, name, path);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(file, &byte, 1, (off_t)(lsn - base)), 1);
    (void)close(file);
    byte ^= 0x40;
    put_at(dir, name, lsn - base, &byte, 1);
}

/* A later version in both copies of the control file. */
static void make_newer(const char *dir)
{
    char path[TEMP_DIR_BYTES];
    temp_dir_join(dir, WEIR__CONTROL_NAME, path);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    for (uint64_t copy = 0; copy < 2; copy++) {
        uint8_t bytes[WEIR__CONTROL_USED_BYTES];
        const uint64_t at = copy * WEIR__CONTROL_COPY_OFFSET;
        assert_int_equal(pread(file, bytes, sizeof bytes, (off_t)at), sizeof bytes);
        weir__put_u32(bytes + 8, WEIR__FORMAT_VERSION + 1);
        weir__put_u32(bytes + 4, weir__crc32c(0, bytes + 8, sizeof bytes - 8));
        put_at(dir, WEIR__CONTROL_NAME, at, bytes, sizeof bytes);
    }
    (void)close(file);
}

static void build(struct log_builder *log, size_t batches)
{
    log_builder_init(log, NULL);
    for (size_t i = 0; i < batches; i++) {
        log_builder_batch(log, 3, 100);
    }
}

/* The control file of a log that was killed, or closed, having promised so much. */
static void build_control(struct log_builder *log, weir_lsn promise, uint32_t flags)
{
    struct weir__control control;
    log_builder_control(log, &control);
    control.promise = promise;
    control.flags = flags;
    if (flags != 0) {
        control.checkpoint = log->position;
    }
    log_builder_control_write(log, &control);
}

/* A name in an existing directory where nothing stands yet. */
static void fresh(const char *parent, const char *name, char path[TEMP_DIR_BYTES])
{
    temp_dir_join(parent, name, path);
    temp_dir_remove(path);
    assert_int_equal(access(path, F_OK), -1);
}

static void group(struct rig *rig, uint64_t tag, size_t count, size_t bytes)
{
    uint8_t payload[8][1000];
    struct weir_piece pieces[8];
    struct weir_record records[8];
    weir_lsn lsns[8];
    for (size_t i = 0; i < count; i++) {
        payload_fill(tag + i, payload[i], bytes);
        pieces[i] = (struct weir_piece){payload[i], bytes};
        records[i] = (struct weir_record){&pieces[i], 1, tag + i};
    }
    assert_int_equal(weir_append_group(rig->log, records, count, WEIR_FOREVER, lsns), 0);
    assert_int_equal(weir_wait(rig->log, lsns[count - 1], WEIR_DURABLE, WEIR_FOREVER), 0);
    for (size_t i = 0; i < count; i++) {
        ledger_add(&rig->ledger, lsns[i], tag + i, bytes);
    }
}

/* The keeper makes the segment behind the one in use ahead of need, in its own time. */
static bool next_is_prepared(void *ctx)
{
    const struct rig *const rig = ctx;
    const weir_lsn base = (weir_end_lsn(rig->log) / RIG_SEGMENT + 1) * RIG_SEGMENT;
    char name[WEIR__SEGMENT_NAME_BYTES];
    char path[TEMP_DIR_BYTES];
    weir__segment_name(base, base + RIG_SEGMENT, name);
    temp_dir_join(rig->path, name, path);
    return access(path, F_OK) == 0;
}

/* Opens a log as its next owner would, reads it, appends to it, closes it. */
static void is_usable(const char *path, uint64_t log_id)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_log *log;
    struct weir_report report;
    weir_lsn lsn;
    options.io = WEIR_IO_POSIX;
    options.slot_bytes = 65536;
    options.slots = 2;
    options.lock_timeout_ns = UINT64_MAX; /* nobody may still have it */
    assert_int_equal(weir_open(path, &options, &log, NULL), 0);
    weir_log_report(log, &report);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.log_id, log_id);
    assert_int_equal(weir_append_wait(log, "x", 1, 7, WEIR_DURABLE, &lsn), 0);
    assert_true(lsn > report.end_lsn);
    assert_int_equal(weir_close(log, NULL), 0);
    assert_int_equal(weir_verify(path, NULL, NULL, &report, NULL), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
}

/* ---- what is no log -------------------------------------------------------------------------- */

struct outcome {
    int verify;
    int locate;
    int salvage;
    int copy;
};

/* Every call on a directory, with and without somewhere to put the error, and what it did to both
 * directories: nothing. */
static void all_refuse(const char *path, const char *target, const struct outcome *expected)
{
    const int codes[4] = {expected->verify, expected->locate, expected->salvage, expected->copy};
    for (unsigned call = 0; call < 8; call++) {
        struct weir_report report = {.records = 77};
        struct weir_place place = {.offset = 77};
        struct weir_copy_report copied = {.records = 77};
        struct weir_error error = {.code = 1, .text = ""};
        struct weir_error *const error_out = call < 4 ? &error : NULL;
        const int code = call % 4 == 0   ? weir_verify(path, NULL, NULL, &report, error_out)
                         : call % 4 == 1 ? weir_locate(path, 4096, &place, error_out)
                         : call % 4 == 2
                             ? weir_salvage(path, target, NULL, NULL, NULL, &copied, error_out)
                             : weir_copy(path, target, NULL, NULL, &copied, error_out);
        if (code != codes[call % 4]) {
            fail_msg("call %u: %s instead of %s: %s",
                     call,
                     weir_error_name(code),
                     weir_error_name(codes[call % 4]),
                     error.text);
        }
        if (error_out != NULL) {
            assert_int_equal(error.code, code);
            assert_int_equal(error.system_code, code > -4096 ? -code : 0);
            assert_string_not_equal(error.text, "");
        }
        assert_int_equal(report.records, 77);
        assert_int_equal(place.offset, 77);
        assert_int_equal(copied.records, 77);
        assert_int_equal(access(target, F_OK), -1); /* nothing was made for nothing */
    }
}

static void what_is_no_log_is_said(void **state)
{
    (void)state;
    struct watch watch;
    char path[TEMP_DIR_BYTES];
    char missing[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    char other[TEMP_DIR_BYTES];
    temp_dir_make(path);
    temp_dir_make(other);
    fresh(other, "new", target);
    watch_begin(&watch, path);
    const struct outcome no_log = {WEIR_ENOLOG, WEIR_ENOLOG, WEIR_ENOLOG, WEIR_ENOLOG};
    all_refuse(path, target, &no_log);
    fresh(path, "nothing", missing);
    const struct outcome not_there = {-ENOENT, -ENOENT, -ENOENT, -ENOENT};
    all_refuse(missing, target, &not_there);
    watch_end(&watch);

    /* Somebody else's files, one of them with a name that is nearly a segment's. */
    temp_dir_join(path, "0000000000000000-0000000000001000.WEIR", missing);
    const int file = open(missing, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(file, "x", 1), 1);
    (void)close(file);
    watch_begin(&watch, path);
    all_refuse(path, target, &no_log);
    watch_end(&watch);
    const struct outcome no_dir = {-ENOTDIR, -ENOTDIR, -ENOTDIR, -ENOTDIR};
    all_refuse(missing, target, &no_dir);
    temp_dir_remove(path);
    temp_dir_remove(other);
}

/* Also by salvage: what this build does not know it would take for damage. */
static void a_log_of_a_later_version_is_refused(void **state)
{
    (void)state;
    struct log_builder log;
    struct watch watch;
    char other[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    temp_dir_make(other);
    fresh(other, "new", target);
    build(&log, 20);
    build_control(&log, log.position.lsn, 0);
    make_newer(log.path);
    watch_begin(&watch, log.path);
    struct weir_report report;
    struct weir_place place;
    struct weir_copy_report copied;
    struct weir_error error;
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, &error), WEIR_EFORMAT);
    assert_int_equal(error.code, WEIR_EFORMAT);
    assert_string_equal(error.file, WEIR__CONTROL_NAME);
    assert_int_equal(weir_locate(log.path, 4096, &place, &error), WEIR_EFORMAT);
    assert_int_equal(error.code, WEIR_EFORMAT);
    assert_int_equal(weir_copy(log.path, target, NULL, NULL, &copied, &error), WEIR_EFORMAT);
    assert_int_equal(access(target, F_OK), -1);
    assert_int_equal(weir_salvage(log.path, target, NULL, NULL, NULL, &copied, &error),
                     WEIR_EFORMAT);
    assert_int_equal(error.code, WEIR_EFORMAT);
    watch_end(&watch);
    assert_int_equal(weir_verify(target, NULL, NULL, &report, NULL), WEIR_ENOLOG);
    log_builder_exit(&log);
    temp_dir_remove(other);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct log_builder log;
    struct weir_report report;
    struct weir_place place;
    struct weir_copy_report copied;
    struct weir_probe probe;
    char target[TEMP_DIR_BYTES];
    build(&log, 3);
    build_control(&log, log.position.lsn, WEIR__CONTROL_CLEAN);
    fresh(log.path, "new", target);
    for (unsigned round = 0; round < 2; round++) {
        struct weir_error error;
        struct weir_error *const out = round == 0 ? &error : NULL;
        const struct {
            int code;
            const char *what;
        } calls[] = {
#define CALL(what, call) {(memset(&error, 0, sizeof error), call), what}
            CALL("verify: dir", weir_verify(NULL, NULL, NULL, &report, out)),
            CALL("verify: report", weir_verify(log.path, NULL, NULL, NULL, out)),
            CALL("locate: dir", weir_locate(NULL, 0, &place, out)),
            CALL("locate: place", weir_locate(log.path, 0, NULL, out)),
            CALL("salvage: dir", weir_salvage(NULL, target, NULL, NULL, NULL, &copied, out)),
            CALL("salvage: new_dir", weir_salvage(log.path, NULL, NULL, NULL, NULL, &copied, out)),
            CALL("salvage: report", weir_salvage(log.path, target, NULL, NULL, NULL, NULL, out)),
            CALL("copy: dir", weir_copy(NULL, target, NULL, NULL, &copied, out)),
            CALL("copy: new_dir", weir_copy(log.path, NULL, NULL, NULL, &copied, out)),
            CALL("copy: report", weir_copy(log.path, target, NULL, NULL, NULL, out)),
            CALL("probe: dir", weir_probe(NULL, &probe, out)),
            CALL("probe: probe", weir_probe(log.path, NULL, out)),
#undef CALL
        };
        for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
            if (calls[i].code != -EINVAL) {
                fail_msg("%s: %s", calls[i].what, weir_error_name(calls[i].code));
            }
        }
        if (out != NULL) {
            assert_int_equal(error.code, -EINVAL); /* of the last one */
            assert_int_equal(error.system_code, EINVAL);
            assert_int_equal(error.offset, UINT64_MAX);
            assert_int_equal(error.lsn, UINT64_MAX);
            assert_string_not_equal(error.text, "");
        }
    }
    log_builder_exit(&log);
}

/* ---- verify ---------------------------------------------------------------------------------- */

struct end {
    enum weir_verdict verdict;
    size_t batches; /* that verify */
    weir_lsn end_lsn;
    weir_lsn promise_lsn;
    weir_lsn bad_lsn;
    bool evidence;
    uint64_t bytes_cut;
    int error;
};

static void verify_finds(struct log_builder *log, const struct end *end)
{
    struct watch watch;
    struct weir_report report;
    struct weir_report again;
    struct weir_error error = {.code = 1};
    struct progress progress = {0};
    watch_begin(&watch, log->path);
    assert_int_equal(weir_verify(log->path, progress_on, &progress, &report, &error), 0);
    assert_int_equal(weir_verify(log->path, NULL, NULL, &again, NULL), 0);
    watch_end(&watch);
    progress_holds(&progress, 1);
    if (report.verdict != end->verdict) {
        fail_msg("verdict %d instead of %d: %s",
                 (int)report.verdict,
                 (int)end->verdict,
                 report.why);
    }
    assert_string_not_equal(report.why, "");
    assert_int_equal(report.batches, end->batches);
    assert_int_equal(report.records, 3 * end->batches);
    assert_true(report.bytes_scanned >= end->batches * BLOCK);
    assert_int_equal(report.end_lsn, end->end_lsn);
    assert_int_equal(report.promise_lsn, end->promise_lsn);
    assert_int_equal(report.bad_lsn, end->bad_lsn);
    assert_int_equal(report.evidence_lsn != UINT64_MAX, end->evidence);
    assert_int_equal(report.bytes_cut, end->bytes_cut);
    assert_int_equal(report.epoch, log->newest.epoch);
    assert_int_equal(report.log_id, log->log_id);
    assert_false(report.writer_live);
    assert_int_equal(report.error.code, end->error);
    if (end->error == 0) {
        assert_int_equal(report.error.offset, UINT64_MAX);
        assert_int_equal(report.error.lsn, UINT64_MAX);
        assert_string_equal(report.error.file, "");
    } else {
        const struct weir__range range = log_builder_segment(log, end->bad_lsn);
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(range.base, range.end, name);
        assert_string_equal(report.error.file, name);
        assert_int_equal(report.error.lsn, end->bad_lsn);
        assert_int_equal(report.error.offset, end->bad_lsn - range.base);
        assert_string_not_equal(report.error.text, "");
    }
    assert_int_equal(again.verdict, report.verdict);
    assert_int_equal(again.end_lsn, report.end_lsn);
    assert_string_equal(again.why, report.why);
}

/* The same log, ended in every way there is. Finding that it is damaged is no failure to look. */
static void verify_names_every_end(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    const struct log_builder_batch *const last = &log.batches[39];
    const weir_lsn end = log.position.lsn;

    build_control(&log, end, WEIR__CONTROL_CLEAN);
    struct end expected = {WEIR_VERDICT_CLEAN, 40, end, end, UINT64_MAX, false, 0, 0};
    verify_finds(&log, &expected);
    build_control(&log, 2 * BLOCK, 0); /* killed: zeros behind the end say as much */
    expected.promise_lsn = last->header.promise;
    verify_finds(&log, &expected);

    /* The last batch, above everything that was promised. */
    log_builder_flip(&log, last->header.lsn + 200, 1);
    expected = (struct end){WEIR_VERDICT_TORN,
                            39,
                            last->header.lsn,
                            last->header.promise, /* of a header that holds */
                            UINT64_MAX,
                            true,
                            BLOCK,
                            0};
    verify_finds(&log, &expected);

    /* The same bytes, promised. */
    build_control(&log, end, 0);
    expected.verdict = WEIR_VERDICT_CORRUPT;
    expected.promise_lsn = end;
    expected.bad_lsn = last->header.lsn;
    expected.bytes_cut = 0;
    expected.error = WEIR_ECORRUPT;
    verify_finds(&log, &expected);

    /* A block that cannot be read, in the second segment. */
    log_builder_flip(&log, last->header.lsn + 200, 1);
    const struct log_builder_batch *const bad = &log.batches[20];
    seam_begin();
    weir__segment_name(bad->segment.base, bad->segment.end, seam.bad_name);
    seam.bad_from = bad->header.lsn - bad->segment.base;
    seam.bad_to = seam.bad_from + 1;
    expected = (struct end){WEIR_VERDICT_UNREADABLE,
                            20,
                            bad->header.lsn,
                            end,
                            bad->header.lsn,
                            false,
                            0,
                            WEIR_EUNREADABLE};
    verify_finds(&log, &expected);
    seam_end();
    log_builder_exit(&log);

    /* A file that was used before: the oldest segment stands behind the end again. */
    build(&log, 45);
    assert_int_equal(log.segment_count, 3);
    const struct weir__range first = log.segments[0];
    const struct weir__range next = {log.segments[2].end, log.segments[2].end + SEGMENT};
    log_builder_recycle(&log, first, next, true);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.oldest_lsn = first.end + BLOCK;
    control.checkpoint = log.position;
    control.promise = log.position.lsn;
    log_builder_control_write(&log, &control);
    expected = (struct end){WEIR_VERDICT_STALE,
                            30,
                            log.position.lsn,
                            log.position.lsn,
                            UINT64_MAX,
                            true,
                            0,
                            0};
    verify_finds(&log, &expected);
    log_builder_exit(&log);
}

/* Neither copy of the control file: a log that is corrupt, not one that cannot be looked at. */
static void verify_without_a_control_file_says_corrupt(void **state)
{
    (void)state;
    struct log_builder log;
    struct watch watch;
    struct weir_report report;
    struct weir_place place;
    struct weir_copy_report copied;
    struct weir_error error;
    char other[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    temp_dir_make(other);
    fresh(other, "new", target);
    build(&log, 20);
    watch_begin(&watch, log.path);
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, &error), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CORRUPT);
    assert_int_equal(report.segments, 2);
    assert_int_equal(report.error.code, WEIR_ECORRUPT);
    assert_string_equal(report.error.file, WEIR__CONTROL_NAME);
    assert_string_not_equal(report.why, "");
    assert_int_equal(weir_locate(log.path, log.records[7].lsn, &place, &error), 0);
    assert_true(place.in_record);
    assert_int_equal(place.record_tag, log.records[7].tag);
    assert_int_equal(weir_copy(log.path, target, NULL, NULL, &copied, &error), WEIR_ECORRUPT);
    assert_int_equal(access(target, F_OK), -1);
    assert_int_equal(weir_salvage(log.path, target, NULL, NULL, NULL, &copied, &error), 0);
    watch_end(&watch);
    assert_int_equal(copied.records, 60);
    assert_int_equal(copied.gaps, 0);
    log_builder_exit(&log);
    temp_dir_remove(other);
}

/* The report against what the log itself, its cursors and its directory say, over several epochs
 * and a trim. */
static void verify_counts_the_whole_log(void **state)
{
    (void)state;
    struct rig rig;
    struct watch watch;
    struct weir_log_info info;
    struct weir_report report;
    struct seen *list;
    rig_make(&rig, posix_way);
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        assert_int_equal(rig_open_plain(&rig), 0);
        for (uint64_t i = 0; i < 40; i++) {
            assert_int_equal(rig_append(&rig, 100 * epoch + i, 100 * (size_t)i, NULL), 0);
        }
        weir_log_describe(rig.log, &info);
        assert_true(wait_until(next_is_prepared, &rig));
        assert_int_equal(rig_close(&rig), 0);
    }
    watch_begin(&watch, rig.path);
    const size_t count = read_all(rig.path, &list);
    assert_int_equal(weir_verify(rig.path, NULL, NULL, &report, NULL), 0);
    watch_end(&watch);
    assert_int_equal(count, 120);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.records, 120);
    assert_int_equal(report.batches, 120); /* each was waited for */
    assert_int_equal(report.oldest_lsn, RIG_BLOCK);
    assert_int_equal(report.scan_from_lsn, RIG_BLOCK);
    assert_int_equal(report.end_lsn, list[119].batch.end_lsn);
    assert_int_equal(report.promise_lsn, report.end_lsn);
    assert_int_equal(report.epoch, 3);
    assert_int_equal(report.epoch, info.epoch);
    assert_int_equal(report.log_id, info.log_id);
    assert_true(report.bytes_scanned >= 40 * 39 * 50 * 3);
    assert_true(report.bytes_scanned <= report.end_lsn);
    const uint64_t segments = (report.end_lsn + RIG_SEGMENT - 1) / RIG_SEGMENT;
    assert_int_equal(report.segments, segments);
    assert_true(temp_dir_count(rig.path, ".weir") > segments); /* one is prepared */

    const weir_lsn middle = list[119].lsn;
    assert_int_equal(rig_open_plain(&rig), 0);
    assert_int_equal(weir_trim(rig.log, middle), 0);
    assert_int_equal(rig_close(&rig), 0);
    assert_int_equal(weir_verify(rig.path, NULL, NULL, &report, NULL), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.oldest_lsn, middle);
    /* It begins where the segment of the oldest record does: what leads there is read as well. */
    assert_int_equal(report.scan_from_lsn, middle / RIG_SEGMENT * RIG_SEGMENT + RIG_BLOCK);
    assert_int_equal(report.epoch, 4);
    assert_int_equal(report.segments, 1);
    free(list);
    rig_destroy(&rig);
}

/* With WEIR_VERIFY_CACHED what the page cache holds is read from there, and only then; what does not
 * verify there is not the log's fault. */
static void verify_of_cached_pages_asks_the_device_before_it_says_bad(void **state)
{
    struct rig rig;
    struct weir_report device;
    struct weir_report report;
    struct weir_probe probe;
    struct weir_error error;
    (void)state;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    static uint8_t payload[3000];
    weir_lsn lsn = 0;
    for (uint64_t tag = 0; tag < 200; tag++) {
        payload_fill(tag, payload, sizeof payload);
        assert_int_equal(weir_append(rig.log, payload, sizeof payload, tag, &lsn), 0);
    }
    assert_int_equal(rig_close(&rig), 0);
    assert_int_equal(weir_verify_with(rig.path, 2, NULL, NULL, &report, &error), -EINVAL);
    assert_int_equal(error.code, -EINVAL);
    assert_int_equal(weir_verify(rig.path, NULL, NULL, &device, NULL), 0);
    assert_int_equal(device.bytes_cached, 0);
    assert_int_equal(weir_probe(rig.path, &probe, NULL), 0);

    seam_begin();
    seam.ops.cached = seam_cached;
    assert_int_equal(weir_verify(rig.path, NULL, NULL, &report, NULL), 0);
    assert_int_equal(report.bytes_cached, 0);
    assert_int_equal(weir_verify_with(rig.path, WEIR_VERIFY_CACHED, NULL, NULL, &report, NULL), 0);
    assert_true(!probe.direct || report.bytes_cached >= report.bytes_scanned);
    assert_int_equal(report.verdict, device.verdict);
    assert_int_equal(report.records, device.records);
    assert_int_equal(report.end_lsn, device.end_lsn);
    assert_string_equal(report.why, device.why);
    /* A page that lies. */
    weir__segment_name(0, RIG_SEGMENT, seam.bad_name);
    seam.bad_from = RIG_SEGMENT / 2;
    seam.bad_to = seam.bad_from;
    seam.cache_lies = true;
    assert_int_equal(weir_verify_with(rig.path, WEIR_VERIFY_CACHED, NULL, NULL, &report, NULL), 0);
    if (probe.direct) {
        assert_true(seam.lies > 0);
        assert_int_equal(report.bytes_cached, 0);
        assert_int_equal(report.verdict, device.verdict);
        assert_int_equal(report.records, device.records);
        assert_string_equal(report.why, device.why);
        /* A cursor reads closed segments so, too, and goes by the device as well. */
        struct seen *list;
        seam.lies = 0;
        assert_int_equal(read_all(rig.path, &list), 200);
        assert_true(seam.lies > 0);
        for (uint64_t tag = 0; tag < 200; tag++) {
            payload_fill(tag, payload, sizeof payload);
            assert_int_equal(list[tag].tag, tag);
            assert_int_equal(list[tag].crc, weir__crc32c(0, payload, sizeof payload));
        }
        free(list);
    }
    seam_end();
    rig_destroy(&rig);
}

/* Bytes done of total, in steps, rising to the whole. Enough bytes that there are steps. */
static void progress_rises_to_the_whole(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_report report;
    struct weir_copy_report copied;
    char target[TEMP_DIR_BYTES];
    rig_make(&rig, posix_way);
    rig.options.segment_bytes = UINT64_C(2) << 20;
    rig.options.slot_bytes = 1 << 20;
    rig.options.slots = 2;
    rig.options.record_bytes_max = 1000000;
    assert_int_equal(rig_open_plain(&rig), 0);
    for (uint64_t tag = 0; tag < 12; tag++) {
        assert_int_equal(rig_append(&rig, tag, 900000, NULL), 0);
    }
    assert_int_equal(rig_close(&rig), 0);
    struct progress progress = {0};
    assert_int_equal(weir_verify(rig.path, progress_on, &progress, &report, NULL), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    progress_holds(&progress, 3);
    assert_true(progress.total >= report.end_lsn);

    temp_dir_make(target);
    progress = (struct progress){0};
    assert_int_equal(weir_copy(rig.path, target, progress_on, &progress, &copied, NULL), 0);
    progress_holds(&progress, 3);
    assert_int_equal(copied.bytes, 12 * 900000);
    temp_dir_remove(target);
    progress = (struct progress){0};
    assert_int_equal(weir_salvage(rig.path, target, NULL, progress_on, &progress, &copied, NULL),
                     0);
    progress_holds(&progress, 3);
    assert_int_equal(copied.bytes, 12 * 900000);
    temp_dir_remove(target);
    rig_destroy(&rig);
}

/* ---- locate ---------------------------------------------------------------------------------- */

static struct weir_place located(const char *path, weir_lsn lsn)
{
    struct weir_place place;
    struct weir_error error = {.text = ""};
    if (weir_locate(path, lsn, &place, &error) != 0) {
        fail_msg("LSN %llu: %s", (unsigned long long)lsn, error.text);
    }
    assert_int_equal(place.asked_lsn, lsn);
    assert_string_not_equal(place.what, "");
    if (!place.in_record) {
        assert_int_equal(place.record_lsn, 0);
        assert_int_equal(place.record_bytes, 0);
        assert_int_equal(place.record_tag, 0);
    }
    return place;
}

/* In a file of a log whose segments have RIG_SEGMENT bytes each, from 0 on. */
static struct weir_place located_in_file(const char *path, weir_lsn lsn)
{
    const weir_lsn base = lsn / RIG_SEGMENT * RIG_SEGMENT;
    char name[WEIR__SEGMENT_NAME_BYTES];
    const struct weir_place place = located(path, lsn);
    weir__segment_name(base, base + RIG_SEGMENT, name);
    assert_true(place.found_segment);
    assert_string_equal(place.file, name);
    assert_int_equal(place.offset, lsn - base);
    assert_int_equal(place.segment_lsn, base);
    assert_int_equal(place.segment_end_lsn, base + RIG_SEGMENT);
    return place;
}

static void not_in_a_batch(const char *path, weir_lsn lsn)
{
    const struct weir_place place = located_in_file(path, lsn);
    assert_false(place.in_batch);
    assert_false(place.in_record);
}

static void in_no_segment(const char *path, weir_lsn lsn)
{
    const struct weir_place place = located(path, lsn);
    assert_false(place.found_segment);
    assert_string_equal(place.file, "");
    assert_false(place.in_batch);
    assert_false(place.in_record);
}

static void same_batch(const struct weir_batch_info *a, const struct weir_batch_info *b)
{
    assert_int_equal(a->lsn, b->lsn);
    assert_int_equal(a->end_lsn, b->end_lsn);
    assert_int_equal(a->prev_end_lsn, b->prev_end_lsn);
    assert_int_equal(a->promise_lsn, b->promise_lsn);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->epoch_lsn, b->epoch_lsn);
    assert_int_equal(a->wall_ns, b->wall_ns);
    assert_int_equal(a->records, b->records);
    assert_int_equal(a->bytes, b->bytes);
    assert_int_equal(a->chain, b->chain);
    assert_int_equal(a->segment_lsn, b->segment_lsn);
    assert_int_equal(a->segment_end_lsn, b->segment_end_lsn);
}

/* Every byte of a record is in it: header, payload, the zeros up to the next multiple of 8. */
static void record_is_found(const char *path, const struct seen *seen)
{
    const weir_lsn lsns[] = {seen->lsn,
                             seen->lsn + 1,
                             seen->lsn + FRAME - 1,
                             seen->lsn + FRAME + (seen->bytes > 0 ? seen->bytes - 1 : 0),
                             seen->lsn + span(seen->bytes) - 1};
    for (size_t i = 0; i < sizeof lsns / sizeof lsns[0]; i++) {
        if (lsns[i] >= seen->lsn + span(seen->bytes)) {
            continue; /* an empty record ends with its header */
        }
        const struct weir_place place = located_in_file(path, lsns[i]);
        assert_true(place.in_batch);
        assert_true(place.in_record);
        assert_int_equal(place.record_lsn, seen->lsn);
        assert_int_equal(place.record_bytes, seen->bytes);
        assert_int_equal(place.record_tag, seen->tag);
        same_batch(&place.batch, &seen->batch);
    }
}

/* What belongs to a batch and to no record: its header, and the zeros up to the block's end. */
static void batch_is_found(const char *path, const struct weir_batch_info *batch)
{
    const weir_lsn lsns[] = {batch->lsn,
                             batch->lsn + HEADER - 1,
                             batch->lsn + HEADER + batch->bytes,
                             batch->end_lsn - 1};
    for (size_t i = 0; i < sizeof lsns / sizeof lsns[0]; i++) {
        if (i >= 2 && batch->lsn + HEADER + batch->bytes == batch->end_lsn) {
            continue; /* full to the last byte */
        }
        const struct weir_place place = located_in_file(path, lsns[i]);
        assert_true(place.in_batch);
        assert_false(place.in_record);
        same_batch(&place.batch, batch);
    }
}

/* Everything that a log of two epochs has: records of every size, groups, oversize ones, ends of
 * segments that were left unused, prepared space, and what lies beyond. */
static void locate_tells_what_stands_there(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 7, 8, 9, 500, 4072, 12000, 30000, 60000};
    struct rig rig;
    struct watch watch;
    struct weir_report report;
    struct seen *list;
    size_t left = 0;
    uint64_t tag = 1;
    rig_make(&rig, posix_way);
    for (int epoch = 0; epoch < 2; epoch++) {
        assert_int_equal(rig_open_plain(&rig), 0);
        for (unsigned round = 0; round < PLACE_ROUNDS; round++) {
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                assert_int_equal(rig_append(&rig, tag++, sizes[i], NULL), 0);
            }
            group(&rig, tag, 5, 333);
            tag += 5;
        }
        assert_true(wait_until(next_is_prepared, &rig));
        assert_int_equal(rig_close(&rig), 0);
    }
    watch_begin(&watch, rig.path);
    assert_int_equal(weir_verify(rig.path, NULL, NULL, &report, NULL), 0);
    const size_t count = read_all(rig.path, &list);
    assert_int_equal(count, tag - 1);
    for (size_t i = 0; i < count; i++) {
        const struct weir_batch_info *const batch = &list[i].batch;
        record_is_found(rig.path, &list[i]);
        if (i > 0 && batch->lsn == list[i - 1].batch.lsn) {
            continue;
        }
        batch_is_found(rig.path, batch);
        if (batch->prev_end_lsn < batch->segment_lsn) {
            /* The end of the segment before was too short for it. */
            not_in_a_batch(rig.path, batch->prev_end_lsn);
            not_in_a_batch(rig.path, batch->segment_lsn - 1);
            left++;
        }
    }
    assert_true(left > 0);
    const weir_lsn last_base = list[count - 1].batch.segment_lsn;
    for (weir_lsn base = 0; base <= last_base; base += RIG_SEGMENT) {
        not_in_a_batch(rig.path, base); /* the segment's header */
        not_in_a_batch(rig.path, base + RIG_BLOCK - 1);
    }
    not_in_a_batch(rig.path, report.end_lsn);
    not_in_a_batch(rig.path, last_base + RIG_SEGMENT - 1);
    not_in_a_batch(rig.path, last_base + RIG_SEGMENT + RIG_BLOCK); /* prepared */
    in_no_segment(rig.path, last_base + 16 * RIG_SEGMENT);
    in_no_segment(rig.path, UINT64_MAX);
    watch_end(&watch);

    /* A batch that does not verify is none, and its records are not believed. */
    flip(rig.path, list[5].lsn + FRAME + 3);
    not_in_a_batch(rig.path, list[5].lsn);
    record_is_found(rig.path, &list[6]);
    free(list);
    rig_destroy(&rig);
}

static bool first_is_gone(void *ctx)
{
    char name[TEMP_DIR_BYTES];
    return temp_dir_first(((struct rig *)ctx)->path, ".weir", name) &&
           strncmp(name, "0000000000000000-", 17) != 0;
}

/* Below the oldest record: in no file any more, or in one that holds something newer too. */
static void locate_below_the_oldest_record(void **state)
{
    (void)state;
    struct rig rig;
    struct watch watch;
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    for (uint64_t tag = 1; tag <= 100; tag++) {
        assert_int_equal(rig_append(&rig, tag, 9000, NULL), 0);
    }
    const weir_lsn below = rig.ledger.entries[79].lsn;
    const weir_lsn oldest = rig.ledger.entries[80].lsn;
    const weir_lsn first = rig.ledger.entries[0].lsn;
    assert_int_equal(oldest / RIG_SEGMENT, below / RIG_SEGMENT);
    assert_int_equal(weir_trim(rig.log, oldest), 0);
    /* A file is given up only below the checkpoints, which come with the rotations. */
    for (uint64_t tag = 101; tag <= 180; tag++) {
        assert_int_equal(rig_append(&rig, tag, 9000, NULL), 0);
    }
    assert_true(wait_until(first_is_gone, &rig));
    assert_int_equal(rig_close(&rig), 0);
    watch_begin(&watch, rig.path);
    in_no_segment(rig.path, 0);
    in_no_segment(rig.path, first);
    const struct weir_place place = located_in_file(rig.path, below);
    assert_true(place.in_record);
    assert_int_equal(place.record_tag, 80);
    assert_int_equal(located_in_file(rig.path, oldest).record_tag, 81);
    watch_end(&watch);
    rig_destroy(&rig);
}

/* ---- salvage --------------------------------------------------------------------------------- */

#define GAPS_MAX 16u

struct gaps {
    unsigned count;
    struct weir_gap list[GAPS_MAX];
    struct progress progress;
};

static void gaps_on(void *ctx, const struct weir_gap *gap)
{
    struct gaps *const gaps = ctx;
    if (gaps->count < GAPS_MAX) {
        gaps->list[gaps->count] = *gap;
    }
    gaps->count++;
}

static void gaps_progress(void *ctx, uint64_t done, uint64_t total)
{
    progress_on(&((struct gaps *)ctx)->progress, done, total);
}

/* Told in order, without overlap, each with a reason, and in sum what the report says. */
static void gaps_hold(const struct gaps *gaps, const struct weir_copy_report *report)
{
    uint64_t bytes = 0;
    assert_int_equal(report->gaps, gaps->count);
    for (unsigned i = 0; i < gaps->count; i++) {
        assert_true(gaps->list[i].from_lsn < gaps->list[i].to_lsn);
        assert_true(i == 0 || gaps->list[i - 1].to_lsn <= gaps->list[i].from_lsn);
        assert_string_not_equal(gaps->list[i].why, "");
        bytes += gaps->list[i].to_lsn - gaps->list[i].from_lsn;
    }
    assert_int_equal(report->gap_bytes, bytes);
}

/* A log as a killed process leaves it: promised in its batches, and never closed. */
static void make_killed(struct rig *rig, char path[TEMP_DIR_BYTES])
{
    temp_dir_make(path);
    rig_make(rig, posix_way);
    assert_int_equal(rig_open_plain(rig), 0);
    for (uint64_t tag = 1; tag <= 10; tag++) {
        assert_int_equal(rig_append(rig, tag, 700, NULL), 0);
    }
    for (uint64_t tag = 11; tag <= 35; tag += 5) {
        group(rig, tag, 5, 500);
    }
    for (uint64_t tag = 36; tag <= 40; tag++) {
        assert_int_equal(rig_append(rig, tag, 700, NULL), 0);
    }
    temp_dir_copy(rig->path, path);
    assert_int_equal(rig_close(rig), 0);
}

/* Groups that lost a record: at their front, in the middle, at the end. What verifies is kept at
 * its LSN, the gap is where the record was, and nobody takes the rest for a whole group. */
static void salvage_keeps_what_verifies_of_a_group(void **state)
{
    (void)state;
    struct rig rig;
    struct watch watch;
    struct gaps gaps = {0};
    struct weir_copy_report report;
    struct weir_report source;
    struct weir_error error;
    struct weir_place place;
    struct seen *before;
    struct seen *after;
    char path[TEMP_DIR_BYTES];
    char other[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    /* Index of the damaged record, of the five from 10, 15, 20 and 25 on; one group stays whole. */
    static const size_t bad[] = {10, 17, 24, 28};
    make_killed(&rig, path);
    temp_dir_make(other);
    fresh(other, "new", target);
    assert_int_equal(read_all(path, &before), 40);
    for (size_t i = 0; i < 4; i++) {
        flip(path, before[bad[i]].lsn + FRAME + 10);
    }
    rig.options.lock_timeout_ns = UINT64_MAX;
    assert_int_equal(weir_open(path, &rig.options, &rig.log, &error), WEIR_ECORRUPT);
    assert_int_equal(weir_verify(path, NULL, NULL, &source, NULL), 0);
    assert_int_equal(source.verdict, WEIR_VERDICT_CORRUPT);

    watch_begin(&watch, path);
    assert_int_equal(weir_copy(path, target, NULL, NULL, &report, &error), WEIR_ECORRUPT);
    assert_int_equal(weir_salvage(path, target, gaps_on, gaps_progress, &gaps, &report, &error), 0);
    watch_end(&watch);
    gaps_hold(&gaps, &report);
    progress_holds(&gaps.progress, 1);
    assert_int_equal(gaps.count, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct seen *const lost = &before[bad[i]];
        assert_int_equal(gaps.list[i].from_lsn, lost->lsn);
        assert_int_equal(gaps.list[i].to_lsn, lost->lsn + span(lost->bytes));
    }
    assert_int_equal(report.records, 36);
    assert_int_equal(report.bytes, 15 * 700 + 21 * 500);
    assert_int_not_equal(report.log_id, source.log_id);
    assert_int_equal(report.oldest_lsn, RIG_BLOCK);
    assert_int_equal(report.end_lsn, before[39].batch.end_lsn);
    assert_int_equal(report.segments, 1);

    const size_t count = read_all(target, &after);
    assert_int_equal(count, 36);
    size_t at = 0;
    for (size_t i = 0; i < 40; i++) {
        if (i == bad[0] || i == bad[1] || i == bad[2] || i == bad[3]) {
            continue;
        }
        /* The one before the gap is the last of what is left. */
        const bool last = i + 1 == bad[1] || i + 1 == bad[2] || i + 1 == bad[3];
        before[i].more = before[i].more && !last;
        same_record(&after[at], &before[i]);
        at++;
    }
    /* What stands in the gap now is in a batch and no record. */
    place = located(target, gaps.list[1].from_lsn + FRAME);
    assert_true(place.found_segment);
    assert_false(place.in_record);
    free(before);
    free(after);
    is_usable(target, report.log_id);
    temp_dir_remove(path);
    temp_dir_remove(other);
    rig_destroy(&rig);
}

/* Whole batches lost, one with its neighbour, and the end of the file: gaps in order; the gap stays
 * one in the new log, and a copy of it keeps it. Without callbacks it is all the same. */
static void salvage_tells_every_gap(void **state)
{
    (void)state;
    struct log_builder log;
    struct watch watch;
    struct gaps gaps = {0};
    struct weir_copy_report report;
    struct weir_copy_report silent;
    struct weir_copy_report copied;
    char other[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    char second[TEMP_DIR_BYTES];
    char third[TEMP_DIR_BYTES];
    temp_dir_make(other);
    fresh(other, "a", target);
    fresh(other, "b", second);
    fresh(other, "c", third);
    build(&log, 40);
    build_control(&log, log.position.lsn, WEIR__CONTROL_CLEAN);
    const struct log_builder_batch *const batches = log.batches;
    log_builder_noise(&log, batches[3].header.lsn, batches[3].end, 1);
    log_builder_noise(&log, batches[20].header.lsn, batches[21].end, 2);
    log_builder_noise(&log, batches[39].header.lsn, batches[39].end, 3);
    watch_begin(&watch, log.path);
    assert_int_equal(weir_salvage(log.path, target, gaps_on, gaps_progress, &gaps, &report, NULL),
                     0);
    assert_int_equal(weir_salvage(log.path, second, NULL, NULL, NULL, &silent, NULL), 0);
    watch_end(&watch);
    gaps_hold(&gaps, &report);
    assert_int_equal(gaps.count, 3);
    static const size_t first[] = {3, 20, 39};
    static const size_t last[] = {3, 21, 39};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(gaps.list[i].from_lsn, batches[first[i]].header.lsn);
        assert_int_equal(gaps.list[i].to_lsn, batches[last[i]].end);
    }
    assert_int_equal(report.records, 36 * 3);
    assert_int_equal(report.bytes, 36 * 3 * 100);
    assert_int_equal(report.end_lsn, log.position.lsn);
    assert_int_equal(silent.records, report.records);
    assert_int_equal(silent.gaps, report.gaps);
    assert_int_equal(silent.gap_bytes, report.gap_bytes);
    assert_int_not_equal(silent.log_id, report.log_id);

    /* What was lost is marked there, by a batch without records, so that the log goes on. */
    const struct weir_place place = located(target, batches[20].header.lsn + BLOCK + 5);
    assert_true(place.in_batch);
    assert_false(place.in_record);
    assert_int_equal(place.batch.lsn, batches[20].header.lsn);
    assert_int_equal(place.batch.end_lsn, batches[21].end);
    assert_int_equal(place.batch.records, 0);
    assert_int_equal(weir_copy(target, third, NULL, NULL, &copied, NULL), 0);
    assert_int_equal(copied.gaps, 3);
    assert_int_equal(copied.records, report.records);

    struct seen *list;
    assert_int_equal(read_all(third, &list), 36 * 3);
    for (size_t i = 0; i < copied.records; i++) {
        const size_t index = log_builder_find(&log, list[i].lsn);
        assert_int_equal(log.records[index].lsn, list[i].lsn);
        assert_int_equal(log.records[index].tag, list[i].tag);
        assert_int_equal(weir__crc32c(0, log.records[index].data, 100), list[i].crc);
    }
    free(list);
    is_usable(target, report.log_id);
    is_usable(third, copied.log_id);
    log_builder_exit(&log);
    temp_dir_remove(other);
}

/* ---- the target ------------------------------------------------------------------------------ */

/* By weir_salvage or by weir_copy. */
static int rewrite(bool salvage,
                   const char *from,
                   const char *to,
                   struct weir_copy_report *report,
                   struct weir_error *error)
{
    return salvage ? weir_salvage(from, to, NULL, NULL, NULL, report, error)
                   : weir_copy(from, to, NULL, NULL, report, error);
}

/* A target that holds a log, whole, in part, or the source itself, is left as it is. */
static void a_log_in_the_way_is_left_alone(void **state)
{
    (void)state;
    struct log_builder log;
    struct log_builder whole;
    struct log_builder part;
    struct watch watch[3];
    struct weir_copy_report report = {.records = 77};
    struct weir_error error;
    char missing[TEMP_DIR_BYTES];
    build(&log, 20);
    build_control(&log, log.position.lsn, WEIR__CONTROL_CLEAN);
    build(&whole, 5);
    build_control(&whole, whole.position.lsn, WEIR__CONTROL_CLEAN);
    build(&part, 5); /* segments alone are somebody's records, too */
    const char *const targets[] = {log.path, whole.path, part.path};
    for (size_t i = 0; i < 3; i++) {
        for (int salvage = 0; salvage < 2; salvage++) {
            /* The lock that it looks under is a file that a log has. */
            char lock[TEMP_DIR_BYTES];
            temp_dir_join(targets[i], WEIR__LOCK_NAME, lock);
            (void)close(open(lock, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
            const uint64_t before = temp_dir_fingerprint(targets[i], NULL);
            assert_int_equal(rewrite(salvage, log.path, targets[i], &report, &error), WEIR_EEXISTS);
            assert_int_equal(error.code, WEIR_EEXISTS);
            assert_string_not_equal(error.text, "");
            assert_int_equal(rewrite(salvage, log.path, targets[i], &report, NULL), WEIR_EEXISTS);
            assert_true(temp_dir_fingerprint(targets[i], NULL) == before);
            assert_int_equal(report.records, 77);
        }
    }
    /* It is created, its parent is not. */
    watch_begin(&watch[0], log.path);
    temp_dir_join(whole.path, "no/new", missing);
    for (int salvage = 0; salvage < 2; salvage++) {
        assert_int_equal(rewrite(salvage, log.path, missing, &report, &error), -ENOENT);
        assert_int_equal(error.code, -ENOENT);
        assert_int_equal(error.system_code, ENOENT);
    }
    temp_dir_join(whole.path, WEIR__CONTROL_NAME, missing);
    for (int salvage = 0; salvage < 2; salvage++) {
        assert_int_equal(rewrite(salvage, log.path, missing, &report, &error), -ENOTDIR);
    }
    watch_end(&watch[0]);
    log_builder_exit(&log);
    log_builder_exit(&whole);
    log_builder_exit(&part);
}

/* Nothing of the new log is left in caches when the call returns; its names are durable, too. */
static void the_new_log_is_durable_clean_and_its_owners_alone(void **state)
{
    (void)state;
    struct log_builder log;
    struct watch watch;
    struct weir_copy_report report;
    struct weir_report verified;
    struct weir_error error;
    struct stat status;
    char other[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    temp_dir_make(other);
    build(&log, 40);
    build_control(&log, log.position.lsn, 0);
    for (int salvage = 0; salvage < 2; salvage++) {
        fresh(other, "new", target);
        watch_begin(&watch, log.path);
        seam_begin();
        const int code = rewrite(salvage, log.path, target, &report, &error);
        seam_end();
        watch_end(&watch);
        assert_int_equal(code, 0);
        assert_int_not_equal(seam.writes, 0);
        assert_int_equal(seam.lost, 0);
        assert_false(seam.dir_dirty);
        assert_int_equal(stat(target, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0700);
        assert_int_equal(report.records, 120);
        assert_int_equal(report.bytes, 12000);
        assert_int_equal(report.batches, 40);
        assert_int_equal(report.segments, temp_dir_count(target, ".weir"));
        assert_int_equal(report.gaps, 0);
        assert_int_equal(report.gap_bytes, 0);
        assert_int_equal(report.oldest_lsn, BLOCK);
        assert_int_equal(report.end_lsn, log.position.lsn);
        assert_int_not_equal(report.log_id, 0);
        assert_int_not_equal(report.log_id, log.log_id);
        assert_int_equal(weir_verify(target, NULL, NULL, &verified, NULL), 0);
        assert_int_equal(verified.verdict, WEIR_VERDICT_CLEAN);
        /* Closed, and not only found to have nothing behind it. */
        assert_int_equal(verified.promise_lsn, log.position.lsn);
        assert_non_null(strstr(verified.why, "closed cleanly"));
        assert_int_equal(verified.records, 120);
        assert_int_equal(verified.log_id, report.log_id);
        is_usable(target, report.log_id);
    }

    /* A disk that is full at any of its writes: the code comes back, and what is left is no log.
     * The same call can be made again. */
    for (int salvage = 0; salvage < 2; salvage++) {
        for (unsigned stop_at = 1;; stop_at += 7) {
            fresh(other, "new", target);
            seam_begin();
            seam.stop_at = stop_at;
            const int code = rewrite(salvage, log.path, target, &report, &error);
            seam_end();
            if (code == 0) {
                assert_true(stop_at > 40);
                break;
            }
            assert_int_equal(code, -ENOSPC);
            assert_int_equal(error.code, -ENOSPC);
            assert_string_not_equal(error.text, "");
            assert_int_equal(weir_verify(target, NULL, NULL, &verified, NULL), WEIR_ENOLOG);
            assert_int_equal(temp_dir_count(target, ".weir"), 0);
            if (stop_at == 1) {
                assert_int_equal(rewrite(salvage, log.path, target, &report, &error), 0);
            }
        }
    }
    log_builder_exit(&log);
    temp_dir_remove(other);
}

/* ---- copy ------------------------------------------------------------------------------------ */

/* Records, LSNs, groups of a log of several epochs and segments, trimmed in the middle. */
static void a_copy_has_the_same_records_at_the_same_lsns(void **state)
{
    (void)state;
    struct rig rig;
    struct watch watch;
    struct weir_copy_report report;
    struct weir_report source;
    struct weir_report verified;
    struct weir_error error;
    struct seen *before;
    struct seen *after;
    char other[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    uint64_t tag = 1;
    temp_dir_make(other);
    rig_make(&rig, posix_way);
    for (int epoch = 1; epoch <= 3; epoch++) {
        assert_int_equal(rig_open_plain(&rig), 0);
        for (uint64_t i = 0; i < 50; i++) {
            assert_int_equal(rig_append(&rig, tag++, (size_t)(i * 197 % 9000), NULL), 0);
            group(&rig, tag, 3, 100);
            tag += 3;
        }
        if (epoch == 2) {
            assert_int_equal(weir_trim(rig.log, rig.ledger.entries[101].lsn), 0);
        }
        assert_int_equal(rig_close(&rig), 0);
    }
    assert_int_equal(weir_verify(rig.path, NULL, NULL, &source, NULL), 0);
    const size_t count = read_all(rig.path, &before);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += before[i].bytes;
    }
    for (int salvage = 0; salvage < 2; salvage++) {
        fresh(other, "new", target);
        watch_begin(&watch, rig.path);
        assert_int_equal(rewrite(salvage, rig.path, target, &report, &error), 0);
        watch_end(&watch);
        assert_int_equal(read_all(target, &after), count);
        for (size_t i = 0; i < count; i++) {
            same_record(&after[i], &before[i]);
        }
        free(after);
        assert_int_equal(report.records, count);
        assert_int_equal(report.bytes, bytes);
        assert_int_equal(report.gaps, 0);
        assert_int_equal(report.oldest_lsn, source.oldest_lsn);
        assert_int_equal(report.end_lsn, source.end_lsn);
        assert_int_equal(report.segments, temp_dir_count(target, ".weir"));
        assert_int_not_equal(report.log_id, source.log_id);
        assert_int_equal(weir_verify(target, NULL, NULL, &verified, NULL), 0);
        assert_int_equal(verified.verdict, WEIR_VERDICT_CLEAN);
        assert_int_equal(verified.oldest_lsn, source.oldest_lsn);
        assert_int_equal(verified.end_lsn, source.end_lsn);
        assert_int_equal(verified.log_id, report.log_id);
        is_usable(target, report.log_id);
    }
    /* The source goes on as if nothing had been. */
    is_usable(rig.path, source.log_id);
    free(before);
    temp_dir_remove(other);
    rig_destroy(&rig);
}

/* Damage below a promise is the source's, and a target that was begun is taken away again; a torn
 * tail was never promised, and is no damage. */
static void a_damaged_log_is_not_copied_a_torn_one_is(void **state)
{
    (void)state;
    struct log_builder log;
    struct watch watch;
    struct weir_copy_report report = {.records = 77};
    struct weir_error error;
    char other[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    temp_dir_make(other);
    fresh(other, "new", target);
    build(&log, 40);
    build_control(&log, log.position.lsn, 0);
    const struct log_builder_batch *const bad = &log.batches[30];
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(bad->segment.base, bad->segment.end, name);
    log_builder_flip(&log, bad->header.lsn + 150, 1);
    watch_begin(&watch, log.path);
    assert_int_equal(weir_copy(log.path, target, NULL, NULL, &report, &error), WEIR_ECORRUPT);
    watch_end(&watch);
    assert_int_equal(error.code, WEIR_ECORRUPT);
    assert_string_equal(error.file, name);
    assert_int_equal(error.lsn, bad->header.lsn);
    assert_int_equal(error.offset, bad->header.lsn - bad->segment.base);
    assert_non_null(strstr(error.text, "salvage"));
    assert_int_equal(report.records, 77);
    assert_int_equal(temp_dir_count(target, ".weir"), 0);
    assert_int_equal(temp_dir_count(target, WEIR__CONTROL_NAME), 0);

    /* A block that cannot be read is told apart from one that was read and is wrong. */
    log_builder_flip(&log, bad->header.lsn + 150, 1);
    seam_begin();
    (void)snprintf(seam.bad_name, sizeof seam.bad_name, "%s", name);
    seam.bad_from = bad->header.lsn - bad->segment.base;
    seam.bad_to = seam.bad_from + 1;
    const int code = weir_copy(log.path, target, NULL, NULL, &report, &error);
    seam_end();
    assert_int_equal(code, WEIR_EUNREADABLE);
    assert_int_equal(error.lsn, bad->header.lsn);
    assert_int_equal(temp_dir_count(target, ".weir"), 0);

    /* The same with salvage: the records that the page held are a gap. */
    struct gaps gaps = {0};
    seam_begin();
    (void)snprintf(seam.bad_name, sizeof seam.bad_name, "%s", name);
    seam.bad_from = bad->header.lsn - bad->segment.base;
    seam.bad_to = seam.bad_from + 1;
    const int salvaged = weir_salvage(log.path, target, gaps_on, NULL, &gaps, &report, &error);
    seam_end();
    assert_int_equal(salvaged, 0);
    gaps_hold(&gaps, &report);
    assert_int_equal(gaps.count, 1);
    assert_true(gaps.list[0].from_lsn <= bad->header.lsn && gaps.list[0].to_lsn >= bad->end);
    assert_true(report.records < 120 && report.records > 90);

    /* Torn: up to the tear. */
    temp_dir_remove(target);
    build_control(&log, 2 * BLOCK, 0);
    log_builder_flip(&log, log.batches[39].header.lsn + 150, 1);
    assert_int_equal(weir_copy(log.path, target, NULL, NULL, &report, &error), 0);
    assert_int_equal(report.records, 117);
    assert_int_equal(report.end_lsn, log.batches[39].header.lsn);
    is_usable(target, report.log_id);
    log_builder_exit(&log);
    temp_dir_remove(other);
}

/* ---- beside a writer ------------------------------------------------------------------------- */

/* A writer that stands still: its lock, and its word for what is durable. Everything above may
 * change under a reader's eyes, so it is not looked at. */
static void only_what_a_writer_made_durable_is_looked_at(void **state)
{
    (void)state;
    struct log_builder log;
    struct watch watch;
    struct weir_report report;
    struct weir_copy_report copied;
    struct weir_error error;
    char other[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    char lock_path[TEMP_DIR_BYTES];
    temp_dir_make(other);
    fresh(other, "new", target);
    build(&log, 40);
    build_control(&log, log.batches[10].end, 0);
    const struct log_builder_batch *const last = &log.batches[25];
    const struct weir__live live = {.log_id = log.log_id,
                                    .epoch = log.newest.epoch,
                                    .durable = last->end,
                                    .written = log.position.lsn,
                                    .oldest = BLOCK};
    log_builder_live_write(&log, &live);
    log_builder_noise(&log, log.batches[30].header.lsn, log.batches[30].end, 4);
    temp_dir_join(log.path, WEIR__LOCK_NAME, lock_path);
    const int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(lock, F_OFD_SETLK, &range), 0);

    watch_begin(&watch, log.path);
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, &error), 0);
    assert_true(report.writer_live);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.end_lsn, last->end);
    assert_int_equal(report.records, 26 * 3);
    assert_true(located(log.path, last->header.lsn + HEADER).in_record);
    assert_int_equal(weir_salvage(log.path, target, NULL, NULL, NULL, &copied, &error), -EBUSY);
    assert_int_equal(error.code, -EBUSY);
    assert_int_equal(error.system_code, EBUSY);
    assert_string_not_equal(error.text, "");
    assert_int_equal(access(target, F_OK), -1);
    assert_int_equal(weir_copy(log.path, target, NULL, NULL, &copied, &error), 0);
    assert_int_equal(copied.records, 26 * 3);
    assert_int_equal(copied.end_lsn, last->end);
    watch_end(&watch);
    is_usable(target, copied.log_id);
    temp_dir_remove(target);

    /* What it made durable must verify, also where no batch and no control file says so. */
    log_builder_flip(&log, last->header.lsn + 150, 1);
    watch_begin(&watch, log.path);
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, &error), 0);
    assert_int_equal(report.verdict, WEIR_VERDICT_CORRUPT);
    assert_int_equal(report.bad_lsn, last->header.lsn);
    assert_true(report.writer_live);
    assert_int_equal(weir_copy(log.path, target, NULL, NULL, &copied, &error), WEIR_ECORRUPT);
    watch_end(&watch);

    /* The lock is what makes it live, not the page: without it the tail is judged like any. */
    (void)close(lock);
    log_builder_flip(&log, last->header.lsn + 150, 1);
    assert_int_equal(weir_verify(log.path, NULL, NULL, &report, &error), 0);
    assert_false(report.writer_live);
    assert_int_equal(report.end_lsn, log.batches[29].end);
    assert_int_equal(weir_salvage(log.path, target, NULL, NULL, NULL, &copied, &error), 0);
    assert_int_equal(copied.records, 39 * 3);
    log_builder_exit(&log);
    temp_dir_remove(other);
}

struct caught_up {
    const char *path;
    weir_lsn durable;
    int code;
    struct weir_report report;
};

static bool sees_durable(void *ctx)
{
    struct caught_up *const seen = ctx;
    seen->code = weir_verify(seen->path, NULL, NULL, &seen->report, NULL);
    return seen->code != 0 || seen->report.end_lsn >= seen->durable;
}

/* Beside a real one, in the same process, between its appends. Its page tells what is durable just
 * after its own waiters are woken. */
static void a_live_log_is_verified_located_and_copied(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_copy_report copied;
    struct weir_error error;
    struct weir_probe probe;
    struct seen *list;
    char other[TEMP_DIR_BYTES];
    char target[TEMP_DIR_BYTES];
    temp_dir_make(other);
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    for (unsigned round = 0; round < 4; round++) {
        for (uint64_t i = 0; i < 30; i++) {
            assert_int_equal(rig_append(&rig, 1000 * round + i, 5000, NULL), 0);
        }
        const weir_lsn durable = weir_durable_lsn(rig.log);
        const struct ledger_entry *const last = &rig.ledger.entries[rig.ledger.count - 1];
        struct caught_up seen = {.path = rig.path, .durable = durable};
        assert_true(wait_until(sees_durable, &seen));
        assert_int_equal(seen.code, 0);
        assert_int_equal(seen.report.verdict, WEIR_VERDICT_CLEAN);
        assert_true(seen.report.writer_live);
        assert_int_equal(seen.report.records, rig.ledger.count);
        assert_int_equal(seen.report.end_lsn, durable);
        const struct weir_place place = located_in_file(rig.path, last->lsn);
        assert_true(place.in_record);
        assert_int_equal(place.record_tag, last->tag);
        fresh(other, "new", target);
        assert_int_equal(weir_salvage(rig.path, target, NULL, NULL, NULL, &copied, &error), -EBUSY);
        assert_int_equal(access(target, F_OK), -1);
        assert_int_equal(weir_copy(rig.path, target, NULL, NULL, &copied, &error), 0);
        assert_int_equal(copied.end_lsn, durable);
        assert_int_equal(copied.records, rig.ledger.count);
        assert_int_equal(weir_probe(rig.path, &probe, &error), 0);
        assert_int_equal(read_all(target, &list), rig.ledger.count);
        for (size_t i = 0; i < rig.ledger.count; i++) {
            assert_int_equal(list[i].lsn, rig.ledger.entries[i].lsn);
            assert_int_equal(list[i].tag, rig.ledger.entries[i].tag);
        }
        free(list);
    }
    /* None of that was in the writer's way. */
    char why[256] = "";
    (void)ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
    assert_int_equal(rig_close(&rig), 0);
    temp_dir_remove(other);
    rig_destroy(&rig);
}

/* ---- a directory that cannot be written ------------------------------------------------------ */

struct guest {
    char log[TEMP_DIR_BYTES];
    char hidden[TEMP_DIR_BYTES];
    char copied[TEMP_DIR_BYTES];
    char salvaged[TEMP_DIR_BYTES];
    weir_lsn lsn;
};

/* Run by somebody who may read the log and nothing else. The number of what went wrong. */
static int guest_run(const struct guest *guest)
{
    struct weir_report report;
    struct weir_place place;
    struct weir_copy_report copied;
    struct weir_probe probe;
    struct weir_error error;
    char inside[TEMP_DIR_BYTES];
    temp_dir_join(guest->log, "new", inside);
    if (weir_verify(guest->log, NULL, NULL, &report, &error) != 0 ||
        report.verdict != WEIR_VERDICT_CLEAN || report.records != 20) {
        return 1;
    }
    if (weir_locate(guest->log, guest->lsn, &place, &error) != 0 || !place.in_record) {
        return 2;
    }
    if (weir_copy(guest->log, guest->copied, NULL, NULL, &copied, &error) != 0 ||
        copied.records != 20) {
        return 3;
    }
    if (weir_salvage(guest->log, guest->salvaged, NULL, NULL, NULL, &copied, &error) != 0 ||
        copied.records != 20) {
        return 4;
    }
    if (weir_copy(guest->log, inside, NULL, NULL, &copied, &error) != -EACCES ||
        error.system_code != EACCES) {
        return 5;
    }
    if (weir_probe(guest->log, &probe, &error) != -EACCES || error.code != -EACCES ||
        error.text[0] == '\0') {
        return 6;
    }
    if (weir_verify(guest->hidden, NULL, NULL, &report, &error) != -EACCES ||
        weir_locate(guest->hidden, 0, &place, &error) != -EACCES || error.code != -EACCES) {
        return 7;
    }
    return 0;
}

#define GUEST_UID 65534u
#define GUEST_SKIP 77

/* Looking at a log takes no more than the right to read it. */
static void the_right_to_read_is_enough(void **state)
{
    (void)state;
    struct rig rig;
    struct guest guest;
    struct watch watch;
    char other[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    static const char *const names[] = {WEIR__CONTROL_NAME, WEIR__LOCK_NAME, WEIR__LIVE_NAME};
    temp_dir_make(other);
    rig_make(&rig, posix_way);
    assert_int_equal(rig_open_plain(&rig), 0);
    for (uint64_t tag = 1; tag <= 20; tag++) {
        assert_int_equal(rig_append(&rig, tag, 3000, &guest.lsn), 0);
    }
    assert_true(wait_until(next_is_prepared, &rig));
    assert_int_equal(rig_close(&rig), 0);
    (void)snprintf(guest.log, sizeof guest.log, "%s", rig.path);
    temp_dir_join(other, "hidden", guest.hidden);
    temp_dir_join(other, "copied", guest.copied);
    temp_dir_join(other, "salvaged", guest.salvaged);
    assert_int_equal(mkdir(guest.hidden, 0000), 0);
    assert_int_equal(chmod(other, 0777), 0);
    for (weir_lsn base = 0; base < 2 * RIG_SEGMENT; base += RIG_SEGMENT) {
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(base, base + RIG_SEGMENT, name);
        temp_dir_join(rig.path, name, path);
        assert_int_equal(chmod(path, 0444), 0);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        temp_dir_join(rig.path, names[i], path);
        assert_int_equal(chmod(path, 0444), 0);
    }
    assert_int_equal(chmod(rig.path, 0555), 0);
    watch_begin(&watch, rig.path);
    const pid_t child = fork();
    if (child == 0) {
        /* Permissions are nothing to root. */
        if (geteuid() == 0 && (setgid((gid_t)GUEST_UID) != 0 || setuid((uid_t)GUEST_UID) != 0)) {
            _exit(GUEST_SKIP);
        }
        _exit(access(guest.log, R_OK | X_OK) != 0 ? GUEST_SKIP : guest_run(&guest));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    watch_end(&watch);
    assert_int_equal(chmod(rig.path, 0700), 0);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == GUEST_SKIP) {
        print_message("nobody else to be here\n");
    } else {
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_int_equal(chmod(guest.hidden, 0700), 0);
    temp_dir_remove(other);
    rig_destroy(&rig);
}

/* ---- probe ----------------------------------------------------------------------------------- */

/* What it says must be what a log there finds, and be consistent in itself. */
static void probe_says_what_a_log_would_find(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_log_info info;
    struct weir_probe probe;
    struct weir_error error;
    struct rlimit limit;
    rig_make(&rig, posix_way);
    rig.options.io = WEIR_IO_AUTO;
    assert_int_equal(rig_open_plain(&rig), 0);
    weir_log_describe(rig.log, &info);
    assert_int_equal(rig_close(&rig), 0);
    const uint64_t before = temp_dir_fingerprint(rig.path, NULL);
    const size_t entries = temp_dir_count(rig.path, "");
    memset(&probe, 0xff, sizeof probe);
    assert_int_equal(weir_probe(rig.path, &probe, &error), 0);
    assert_true(temp_dir_fingerprint(rig.path, NULL) == before);
    assert_int_equal(temp_dir_count(rig.path, ""), entries);

    assert_int_equal(strncmp(probe.kernel, "Linux ", 6), 0);
    assert_int_equal(probe.io_uring, probe.io_uring_code == 0);
    assert_int_equal(probe.io_uring, info.io_uring);
    assert_true(probe.io_uring_code <= 0);
    assert_true(probe.io_uring || probe.io_uring_reason[0] != '\0');
    assert_string_not_equal(probe.io_uring_opcodes, "");
    assert_string_equal(probe.fs_name, info.fs_name);
    assert_int_equal(probe.direct, info.direct);
    assert_true(probe.direct_align >= 512);
    assert_int_equal(probe.fua, info.fua);
    assert_true(probe.fua >= -1 && probe.fua <= 1);
    assert_true(probe.write_cache >= -1 && probe.write_cache <= 1);
    assert_int_not_equal(probe.free_bytes, 0);
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    assert_int_equal(probe.memlock_bytes,
                     limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur);
    assert_string_equal(probe.memory_source, info.memory_source);
    assert_string_equal(probe.crc32c, info.crc32c);
    assert_int_not_equal(probe.sync_ns_p50, 0);
    assert_true(probe.sync_ns_p50 <= probe.sync_ns_p99);
    assert_int_equal(probe.chain_ns_p50 != 0, probe.io_uring);
    assert_int_equal(probe.io_auto, probe.io_uring ? WEIR_IO_AUTO : WEIR_IO_POSIX);
    assert_string_not_equal(probe.io_auto_reason, "");
    assert_int_equal(probe.policy, info.policy);
    assert_int_equal(probe.cores, info.cores);
    assert_int_equal(probe.yield_from, info.yield_from);
    assert_int_equal(probe.collect_max, info.collect_max);
    if (probe.sync_ns_p50 >= 15000 || probe.write_cache == 0) {
        assert_false(probe.sync_implausible);
    } else if (probe.write_cache == 1 && !probe.network) {
        assert_true(probe.sync_implausible);
    }
    rig_destroy(&rig);
}

/* One scratch file of 1 MiB comes, is written, and goes; nothing else is touched. A directory needs
 * no log for that, and nobody has to want the error. */
static void probe_takes_its_scratch_file_away(void **state)
{
    (void)state;
    _Alignas(struct inotify_event) static char events[1 << 18];
    struct weir_probe probe;
    struct weir_error error;
    char path[TEMP_DIR_BYTES];
    char missing[TEMP_DIR_BYTES];
    char name[TEMP_DIR_BYTES] = "";
    unsigned made = 0;
    unsigned gone = 0;
    temp_dir_make(path);
    const int file = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    assert_true(inotify_add_watch(file, path, IN_CREATE | IN_DELETE | IN_MOVE) >= 0);
    assert_int_equal(weir_probe(path, &probe, NULL), 0);
    const ssize_t got = read(file, events, sizeof events);
    for (ssize_t at = 0; at < got;) {
        const struct inotify_event *const event = (const void *)(events + at);
        if (event->len > 0 && strncmp(event->name, ".weir-probe-", 12) != 0) {
            made += (event->mask & IN_CREATE) != 0;
            gone += (event->mask & IN_DELETE) != 0;
            assert_false((event->mask & IN_MOVE) != 0);
            (void)snprintf(name, sizeof name, "%.200s", event->name);
        }
        at += (ssize_t)(sizeof *event + event->len);
    }
    (void)close(file);
    assert_int_equal(made, 1);
    assert_int_equal(gone, 1);
    assert_int_equal(temp_dir_count(path, ""), 0);
    assert_string_not_equal(name, WEIR__PREPARE_NAME);

    /* Also when its disk is full. */
    seam_begin();
    seam.stop_at = 2;
    const int code = weir_probe(path, &probe, &error);
    seam_end();
    assert_int_equal(code, -ENOSPC);
    assert_int_equal(error.code, -ENOSPC);
    assert_int_equal(error.system_code, ENOSPC);
    assert_string_not_equal(error.text, "");
    assert_int_equal(temp_dir_count(path, ""), 0);

    fresh(path, "nothing", missing);
    assert_int_equal(weir_probe(missing, &probe, &error), -ENOENT);
    assert_int_equal(error.code, -ENOENT);
    assert_string_not_equal(error.text, "");
    assert_int_equal(weir_probe(missing, &probe, NULL), -ENOENT);
    temp_dir_remove(path);
}

/* ---- where an epoch begins ------------------------------------------------------------------- */

static struct weir_report verified_clean(const char *path)
{
    struct weir_report report;
    assert_int_equal(weir_verify(path, NULL, NULL, &report, NULL), 0);
    if (report.verdict != WEIR_VERDICT_CLEAN) {
        fail_msg("verdict %d: %s", (int)report.verdict, report.why);
    }
    return report;
}

/* With less room in the segment than a first record may need, each opening puts a batch without
 * frames where the log was cut; when no room is left there is nothing to mark. The record that does
 * not fit then stands in the next segment, and the log goes on from there however often it is
 * opened. */
static void an_epoch_begins_where_the_log_was_cut(void **state)
{
    (void)state;
    for (uint64_t openings = 1; openings <= 5; openings++) {
        struct rig rig;
        struct weir_report report;
        struct weir_log_info info;
        char why[256] = "";
        weir_lsn lsn;
        rig_make(&rig, posix_way);
        rig.options.slot_bytes = 65536;
        rig.options.slots = 2;
        assert_int_equal(rig_open_plain(&rig), 0);
        /* A block each, up to three from the end. */
        for (uint64_t tag = 1; weir_durable_lsn(rig.log) < RIG_SEGMENT - 3 * RIG_BLOCK; tag++) {
            assert_int_equal(rig_append(&rig, tag, 100, NULL), 0);
        }
        assert_int_equal(rig_close(&rig), 0);
        weir_lsn end = verified_clean(rig.path).end_lsn;
        assert_int_equal(end, RIG_SEGMENT - 3 * RIG_BLOCK);
        for (uint64_t opening = 1; opening <= openings; opening++) {
            assert_int_equal(rig_open_plain(&rig), 0);
            weir_log_report(rig.log, &report);
            weir_log_describe(rig.log, &info);
            assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
            assert_int_equal(report.end_lsn, end);
            assert_int_equal(info.epoch, 1 + opening);
            if (opening == openings) {
                assert_int_equal(rig_append(&rig, 1000, 60000, &lsn), 0);
                assert_true(lsn > RIG_SEGMENT);
            }
            assert_int_equal(rig_close(&rig), 0);
            if (end < RIG_SEGMENT) {
                const struct weir_place place = located_in_file(rig.path, end);
                assert_true(place.in_batch);
                assert_int_equal(place.batch.lsn, end);
                assert_int_equal(place.batch.prev_end_lsn, end);
                assert_int_equal(place.batch.epoch, 1 + opening);
                assert_int_equal(place.batch.epoch_lsn, end);
                assert_int_equal(place.batch.records, 0);
                assert_int_equal(place.batch.bytes, 0);
                assert_int_equal(place.batch.end_lsn, end + RIG_BLOCK);
                end += RIG_BLOCK;
            }
            report = verified_clean(rig.path);
            assert_int_equal(report.records, rig.ledger.count);
            assert_true(opening == openings || report.end_lsn == end);
        }
        const struct weir_place place = located_in_file(rig.path, lsn);
        assert_true(place.in_record);
        assert_int_equal(place.record_tag, 1000);
        assert_int_equal(place.batch.prev_end_lsn, end);
        assert_int_equal(place.batch.epoch, 1 + openings);
        for (int again = 0; again < 3; again++) {
            assert_int_equal(rig_open_plain(&rig), 0);
            (void)ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why);
            assert_string_equal(why, "");
            assert_int_equal(rig_close(&rig), 0);
            assert_int_equal(verified_clean(rig.path).records, rig.ledger.count);
        }
        rig_destroy(&rig);
    }
}

/* What the mark is for. Sound batches of an epoch that was cut stand behind the cut; a later epoch
 * puts its first record into the next segment. Once a still later one has begun, only their epoch
 * would speak against them, and it is an older one like that of the batches that count. */
static void what_was_cut_stays_cut(void **state)
{
    (void)state;
    const struct log_builder_config config = {.block_bytes = RIG_BLOCK, .segment_bytes = 65536};
    struct log_builder log;
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_log *writer;
    struct weir_error error = {.text = ""};
    struct seen *list;
    static uint8_t payload[24000];
    weir_lsn lsn;
    log_builder_init(&log, &config);
    for (int i = 0; i < 13; i++) {
        log_builder_batch(&log, 3, 100);
    }
    const weir_lsn cut = log.batches[9].end;
    log_builder_cut(&log, cut);
    build_control(&log, cut, 0);
    options.io = WEIR_IO_POSIX;
    options.slot_bytes = 32768;
    options.slots = 2;
    options.record_bytes_max = sizeof payload;
    for (uint64_t opening = 0; opening < 5; opening++) {
        if (weir_open(log.path, &options, &writer, &error) != 0) {
            fail_msg("opening %u: %s", (unsigned)opening, error.text);
        }
        if (opening == 0) {
            payload_fill(1000, payload, sizeof payload);
            assert_int_equal(
                weir_append_wait(writer, payload, sizeof payload, 1000, WEIR_DURABLE, &lsn),
                0);
            assert_true(lsn > 65536);
        }
        assert_int_equal(weir_close(writer, NULL), 0);
        const struct weir_place place = located(log.path, cut);
        assert_true(place.in_batch);
        assert_int_equal(place.batch.epoch, 3);
        assert_int_equal(place.batch.records, 0);
        assert_int_equal(verified_clean(log.path).records, 31);
        assert_int_equal(read_all(log.path, &list), 31);
        for (size_t i = 0; i < 30; i++) {
            assert_int_equal(list[i].lsn, log.records[i].lsn);
            assert_int_equal(list[i].tag, log.records[i].tag);
        }
        assert_int_equal(list[30].lsn, lsn);
        assert_int_equal(list[30].tag, 1000);
        free(list);
    }
    log_builder_exit(&log);
}

/* ---- oversize records behind small slots ----------------------------------------------------- */

/* One buffer for all of them, and as few and as small slots as there may be: each must come back
 * although nothing pushes it out, behind slots that are kept for readers and at segments' ends. The
 * patience is there to fail with a sentence rather than by the test's time limit. */
static void oversize_records_in_a_row_do_not_hang(void **state)
{
    (void)state;
    static const struct {
        uint32_t slots;
        size_t sizes[6];
    } rows[] = {
        {2, {60000, 60000}},
        {2, {100, 60000, 60000}},
        {2, {100, 60000, 100, 60000, 5000, 60000}},
        {8, {100, 60000, 60000}},
        {8, {60000, 5000, 60000, 60000, 100, 30000}},
    };
    static uint8_t payload[60000];
    for (unsigned way = 0; way < rig_way_count; way++) {
        if (!rig_way_usable(&rig_ways[way])) {
            continue;
        }
        for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
            struct rig rig;
            char why[256] = "";
            weir_lsn lsn = 0;
            uint64_t tag = 1;
            rig_make(&rig, &rig_ways[way]);
            rig.options.slot_bytes = RIG_BLOCK;
            rig.options.slots = rows[row].slots;
            rig.options.oversize_buffers = 1;
            assert_int_equal(rig_open(&rig), 0);
            for (int round = 0; round < 4; round++) {
                for (size_t i = 0; i < 6 && rows[row].sizes[i] > 0; i++) {
                    const size_t bytes = rows[row].sizes[i];
                    const struct weir_piece piece = {payload, bytes};
                    const struct weir_record record = {&piece, 1, tag};
                    payload_fill(tag, payload, bytes);
                    if (weir_append_group(rig.log, &record, 1, (int64_t)TEST_PATIENCE_NS, &lsn) !=
                        0) {
                        fail_msg("%s, row %zu: record %u has no place",
                                 rig_ways[way].name,
                                 row,
                                 (unsigned)tag);
                    }
                    ledger_add(&rig.ledger, lsn, tag++, bytes);
                }
                assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, (int64_t)TEST_PATIENCE_NS),
                                 0);
            }
            (void)ledger_check(&rig.ledger, rig.log, WEIR_DURABLE, UINT64_MAX, true, why);
            assert_string_equal(why, "");
            assert_int_equal(rig_close(&rig), 0);
            assert_int_equal(verified_clean(rig.path).records, rig.ledger.count);
            rig_destroy(&rig);
        }
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_log_is_said),
        cmocka_unit_test(a_log_of_a_later_version_is_refused),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(verify_names_every_end),
        cmocka_unit_test(verify_without_a_control_file_says_corrupt),
        cmocka_unit_test(verify_counts_the_whole_log),
        cmocka_unit_test(verify_of_cached_pages_asks_the_device_before_it_says_bad),
        cmocka_unit_test(progress_rises_to_the_whole),
        cmocka_unit_test(locate_tells_what_stands_there),
        cmocka_unit_test(locate_below_the_oldest_record),
        cmocka_unit_test(salvage_keeps_what_verifies_of_a_group),
        cmocka_unit_test(salvage_tells_every_gap),
        cmocka_unit_test(a_log_in_the_way_is_left_alone),
        cmocka_unit_test(the_new_log_is_durable_clean_and_its_owners_alone),
        cmocka_unit_test(a_copy_has_the_same_records_at_the_same_lsns),
        cmocka_unit_test(a_damaged_log_is_not_copied_a_torn_one_is),
        cmocka_unit_test(only_what_a_writer_made_durable_is_looked_at),
        cmocka_unit_test(a_live_log_is_verified_located_and_copied),
        cmocka_unit_test(the_right_to_read_is_enough),
        cmocka_unit_test(probe_says_what_a_log_would_find),
        cmocka_unit_test(probe_takes_its_scratch_file_away),
        cmocka_unit_test(an_epoch_begins_where_the_log_was_cut),
        cmocka_unit_test(what_was_cut_stays_cut),
        cmocka_unit_test(oversize_records_in_a_row_do_not_hang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
