/* SPDX-License-Identifier: Apache-2.0
 * Directories that hold what they should not: segments that are missing, doubled, renamed, of another
 * log or no regular files; control files that are missing, another's, of another version; names that
 * are nearly right. One table: what is done to a log that was closed, and what a writer, a reader and
 * weir_verify must say.
 *
 * Whoever is refused has changed nothing: names, kinds, lengths, bytes and times of change are those
 * from before, outside of the directory as well. Whoever is let in finds every record, and foreign
 * files are as they were. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/control.h"
#include "format/segment_header.h"
#include "segment/dir.h"
#include "support/temp_dir.h"
#include "support/threads.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <weir/weir.h>

#include <cmocka.h>

#define BLOCK 512u
#define SEGMENT ((uint64_t)16 * 1024)
#define RECORDS 55u
#define RECORD_BYTES 1000u
#define ENTRIES_MAX 64u

struct place {
    char log[TEMP_DIR_BYTES];
    char outside[TEMP_DIR_BYTES];
    char other[TEMP_DIR_BYTES]; /* another log, with the same LSNs */
};

/* Where the segment of a number lies; the last one that holds records is the sixth. */
enum { FIRST = 0, MIDDLE = 1, LAST = 5 };

static void segment_name(unsigned number, char name[WEIR__SEGMENT_NAME_BYTES])
{
    weir__segment_name(number * SEGMENT, (number + 1) * SEGMENT, name);
}

static void segment_path(const char *dir, unsigned number, char path[TEMP_DIR_BYTES])
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    segment_name(number, name);
    temp_dir_join(dir, name, path);
}

static void file_copy(const char *from, const char *to)
{
    static char bytes[1 << 18];
    const int in = open(from, O_RDONLY);
    const int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(in >= 0 && out >= 0);
    const ssize_t got = read(in, bytes, sizeof bytes);
    assert_true(got >= 0 && got < (ssize_t)sizeof bytes);
    assert_int_equal(write(out, bytes, (size_t)got), got);
    assert_int_equal(close(in), 0);
    assert_int_equal(close(out), 0);
}

static void file_patch(const char *path, off_t offset, const void *bytes, size_t count)
{
    const int file = open(path, O_WRONLY);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, bytes, count, offset), count);
    assert_int_equal(close(file), 0);
}

static void file_make(const char *dir, const char *name, const char *text)
{
    char path[TEMP_DIR_BYTES];
    temp_dir_join(dir, name, path);
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), strlen(text));
    assert_int_equal(close(file), 0);
}

static struct weir_options options_for(bool read_only)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    options.io = WEIR_IO_POSIX;
    options.read_only = read_only;
    options.buffered = true;
    options.block_bytes = BLOCK;
    options.segment_bytes = SEGMENT;
    options.slot_bytes = 4096;
    options.slots = 2;
    options.record_bytes_max = 4096;
    options.must_exist = true;
    options.no_huge_pages = true;
    return options;
}

static void log_write(const char *dir)
{
    struct weir_options options = options_for(false);
    struct weir_log *log = NULL;
    options.must_exist = false;
    assert_int_equal(weir_open(dir, &options, &log, NULL), 0);
    uint8_t payload[RECORD_BYTES];
    for (unsigned tag = 0; tag < RECORDS; tag++) {
        memset(payload, (int)tag + 1, sizeof payload);
        assert_int_equal(weir_append_wait(log, payload, sizeof payload, tag, WEIR_DURABLE, NULL),
                         0);
    }
    assert_int_equal(weir_close(log, NULL), 0);
}

/* ---- what there is --------------------------------------------------------------------------- */

struct entry {
    char name[80];
    mode_t mode;
    off_t bytes;
    struct timespec changed;
    uint64_t hash;
};

struct snapshot {
    struct entry entries[ENTRIES_MAX];
    unsigned count;
};

static int entry_order(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static uint64_t path_hash(const char *path, const struct stat *status)
{
    static char bytes[1 << 18];
    ssize_t got = 0;
    if (S_ISLNK(status->st_mode)) {
        got = readlink(path, bytes, sizeof bytes);
    } else if (S_ISREG(status->st_mode)) {
        const int file = open(path, O_RDONLY);
        assert_true(file >= 0);
        got = read(file, bytes, sizeof bytes);
        assert_int_equal(close(file), 0);
    }
    assert_true(got >= 0);
    return weir__crc32c(0, bytes, (size_t)got);
}

/* The lock and the live page are the writers' own: an opening may touch them before it knows what
 * the log is. Where they are links, they count. */
static bool counts(const char *name, const struct stat *status)
{
    return S_ISLNK(status->st_mode) ||
           (strcmp(name, WEIR__LOCK_NAME) != 0 && strcmp(name, WEIR__LIVE_NAME) != 0);
}

static void snapshot_take(const char *dir, struct snapshot *snapshot)
{
    memset(snapshot, 0, sizeof *snapshot);
    DIR *const list = opendir(dir);
    assert_non_null(list);
    const struct dirent *at;
    while ((at = readdir(list)) != NULL) {
        char path[TEMP_DIR_BYTES];
        struct stat status;
        if (strcmp(at->d_name, ".") == 0 || strcmp(at->d_name, "..") == 0) {
            continue;
        }
        temp_dir_join(dir, at->d_name, path);
        assert_int_equal(lstat(path, &status), 0);
        if (!counts(at->d_name, &status)) {
            continue;
        }
        assert_true(snapshot->count < ENTRIES_MAX);
        struct entry *const entry = &snapshot->entries[snapshot->count++];
        (void)snprintf(entry->name, sizeof entry->name, "%.79s", at->d_name);
        entry->mode = status.st_mode;
        entry->bytes = status.st_size;
        entry->changed = status.st_mtim;
        entry->hash = path_hash(path, &status);
    }
    assert_int_equal(closedir(list), 0);
    qsort(snapshot->entries, snapshot->count, sizeof snapshot->entries[0], entry_order);
}

static const struct entry *snapshot_find(const struct snapshot *snapshot, const char *name)
{
    for (unsigned i = 0; i < snapshot->count; i++) {
        if (strcmp(snapshot->entries[i].name, name) == 0) {
            return &snapshot->entries[i];
        }
    }
    return NULL;
}

static bool entry_same(const struct entry *a, const struct entry *b)
{
    return a != NULL && b != NULL && strcmp(a->name, b->name) == 0 && a->mode == b->mode &&
           a->bytes == b->bytes && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec && a->hash == b->hash;
}

static bool snapshot_same(const struct snapshot *a, const struct snapshot *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (unsigned i = 0; i < a->count; i++) {
        if (!entry_same(&a->entries[i], &b->entries[i])) {
            print_message("%s is not as it was\n", a->entries[i].name);
            return false;
        }
    }
    return true;
}

/* ---- what is done to it ---------------------------------------------------------------------- */

static void remove_segment(struct place *place, unsigned number)
{
    char path[TEMP_DIR_BYTES];
    segment_path(place->log, number, path);
    assert_int_equal(unlink(path), 0);
}

static void first_missing(struct place *place)
{
    remove_segment(place, FIRST);
}

static void middle_missing(struct place *place)
{
    remove_segment(place, MIDDLE);
}

static void last_missing(struct place *place)
{
    remove_segment(place, LAST);
}

/* A copy of a segment, under the name of LSNs that the log has not reached. */
static void doubled_behind(struct place *place)
{
    char from[TEMP_DIR_BYTES];
    char to[TEMP_DIR_BYTES];
    segment_path(place->log, MIDDLE, from);
    segment_path(place->log, 9, to);
    file_copy(from, to);
}

/* A copy over LSNs that other segments hold. */
static void doubled_across(struct place *place)
{
    char from[TEMP_DIR_BYTES];
    char to[TEMP_DIR_BYTES];
    char name[WEIR__SEGMENT_NAME_BYTES];
    segment_path(place->log, MIDDLE, from);
    weir__segment_name(SEGMENT + BLOCK, 2 * SEGMENT + BLOCK, name);
    temp_dir_join(place->log, name, to);
    file_copy(from, to);
}

static void of_another_log(struct place *place, unsigned number)
{
    char from[TEMP_DIR_BYTES];
    char to[TEMP_DIR_BYTES];
    segment_path(place->other, number, from);
    segment_path(place->log, number, to);
    file_copy(from, to);
}

static void middle_of_another_log(struct place *place)
{
    of_another_log(place, MIDDLE);
}

static void last_of_another_log(struct place *place)
{
    of_another_log(place, LAST);
}

static void foreign_files(struct place *place)
{
    file_make(place->log, "notes.txt", "not weir's");
    file_make(place->log, "0000000000000000-0000000000004000.weir.bak", "a backup");
    file_make(place->log, "000000000000A000-000000000000B000.weir", "upper case");
    file_make(place->log, "0000000000000000-0000000000000000.weir", "empty");
    file_make(place->log, "000000000000c000-0000000000008000.weir", "backwards");
    file_make(place->log, "000000000000c001-0000000000010001.weir", "off");
    file_make(place->log, "-000000000000000-0000000000004000.weir", "a sign");
    file_make(place->log, "00000000000c000-0000000000010000.weir", "short");
    file_make(place->log, "8000000000000200-8000000000004200.weir", "beyond every LSN");
}

static void directory_in_place(struct place *place)
{
    char path[TEMP_DIR_BYTES];
    remove_segment(place, LAST);
    segment_path(place->log, LAST, path);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void fifo_in_place(struct place *place)
{
    char path[TEMP_DIR_BYTES];
    remove_segment(place, LAST);
    segment_path(place->log, LAST, path);
    assert_int_equal(mkfifo(path, 0600), 0);
}

/* The bytes are right; they are somewhere else. */
static void link_of(struct place *place, const char *name)
{
    char from[TEMP_DIR_BYTES];
    char to[TEMP_DIR_BYTES];
    temp_dir_join(place->log, name, from);
    temp_dir_join(place->outside, name, to);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(symlink(to, from), 0);
}

static void link_in_place(struct place *place)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    segment_name(LAST, name);
    link_of(place, name);
}

static void control_a_link(struct place *place)
{
    link_of(place, WEIR__CONTROL_NAME);
}

static void lock_a_link(struct place *place)
{
    link_of(place, WEIR__LOCK_NAME);
}

static void renamed(struct place *place)
{
    char from[TEMP_DIR_BYTES];
    char to[TEMP_DIR_BYTES];
    segment_path(place->log, MIDDLE, from);
    segment_path(place->log, 9, to);
    assert_int_equal(rename(from, to), 0);
}

static void exchanged(struct place *place)
{
    char a[TEMP_DIR_BYTES];
    char b[TEMP_DIR_BYTES];
    char aside[TEMP_DIR_BYTES];
    segment_path(place->log, MIDDLE, a);
    segment_path(place->log, LAST, b);
    temp_dir_join(place->outside, "aside", aside);
    assert_int_equal(rename(a, aside), 0);
    assert_int_equal(rename(b, a), 0);
    assert_int_equal(rename(aside, b), 0);
}

/* Changes a field of both copies, and their checksums with it. */
static void control_field(struct place *place, size_t offset, uint32_t value)
{
    char path[TEMP_DIR_BYTES];
    uint8_t copy[WEIR__CONTROL_USED_BYTES];
    temp_dir_join(place->log, WEIR__CONTROL_NAME, path);
    for (off_t at = 0; at < WEIR__CONTROL_FILE_BYTES; at += WEIR__CONTROL_COPY_OFFSET) {
        const int file = open(path, O_RDONLY);
        assert_int_equal(pread(file, copy, sizeof copy, at), sizeof copy);
        assert_int_equal(close(file), 0);
        weir__put_u32(copy + offset, value);
        if (offset != 0) {
            weir__put_u32(copy + 4, weir__crc32c(0, copy + 8, sizeof copy - 8));
        }
        file_patch(path, at, copy, sizeof copy);
    }
}

static void control_version(struct place *place)
{
    control_field(place, 8, 2);
}

static void control_feature(struct place *place)
{
    control_field(place, 12, 1u << 31);
}

static void control_magic(struct place *place)
{
    control_field(place, 0, 0x5743544C); /* as a machine of the other order would have it */
}

static void segment_field(struct place *place, unsigned number, size_t offset, uint32_t value)
{
    char path[TEMP_DIR_BYTES];
    uint8_t header[WEIR__SEGMENT_HEADER_BYTES];
    segment_path(place->log, number, path);
    const int file = open(path, O_RDONLY);
    assert_int_equal(pread(file, header, sizeof header, 0), sizeof header);
    assert_int_equal(close(file), 0);
    weir__put_u32(header + offset, value);
    weir__put_u32(header + 4, weir__crc32c(0, header + 8, sizeof header - 8));
    file_patch(path, 0, header, sizeof header);
}

static void segment_version(struct place *place)
{
    segment_field(place, LAST, 8, 2);
}

static void segment_feature(struct place *place)
{
    segment_field(place, LAST, 12, 1);
}

static void control_missing(struct place *place)
{
    char path[TEMP_DIR_BYTES];
    temp_dir_join(place->log, WEIR__CONTROL_NAME, path);
    assert_int_equal(unlink(path), 0);
}

static void control_of_another_log(struct place *place)
{
    char from[TEMP_DIR_BYTES];
    char to[TEMP_DIR_BYTES];
    temp_dir_join(place->other, WEIR__CONTROL_NAME, from);
    temp_dir_join(place->log, WEIR__CONTROL_NAME, to);
    file_copy(from, to);
}

/* A hard link is a backup: read as ever, and not written over. */
static void two_names(struct place *place)
{
    char from[TEMP_DIR_BYTES];
    char to[TEMP_DIR_BYTES];
    segment_path(place->log, MIDDLE, from);
    temp_dir_join(place->outside, "backup", to);
    assert_int_equal(link(from, to), 0);
}

static void leftovers(struct place *place)
{
    char path[TEMP_DIR_BYTES];
    file_make(place->log, WEIR__PREPARE_NAME, "half a segment");
    temp_dir_join(place->log, WEIR__LIVE_NAME, path);
    (void)unlink(path);
    file_make(place->log, WEIR__LIVE_NAME, "no page");
}

static void last_short(struct place *place)
{
    char path[TEMP_DIR_BYTES];
    segment_path(place->log, LAST, path);
    assert_int_equal(truncate(path, SEGMENT - BLOCK), 0);
}

static void last_empty(struct place *place)
{
    char path[TEMP_DIR_BYTES];
    segment_path(place->log, LAST, path);
    assert_int_equal(truncate(path, 0), 0);
}

enum expected {
    ALL,       /* everybody is let in and finds everything */
    REFUSED,   /* nobody is */
    NO_WRITER, /* a writer is refused; a reader may get what there is */
    FOUND,     /* let in, for the checkpoint lies above; a reader gets an error where it is, and
                  weir_verify says corrupt */
};

static const struct row {
    const char *what;
    void (*change)(struct place *place);
    enum expected expected;
    int code;        /* of the writer's refusal, 0: any */
    bool in_outside; /* what lies outside has to be as it was */
} rows[] = {
    {"the first segment missing", first_missing, NO_WRITER, WEIR_ECORRUPT, false},
    {"a segment in the middle missing", middle_missing, NO_WRITER, WEIR_ECORRUPT, false},
    {"the last segment missing", last_missing, NO_WRITER, WEIR_ECORRUPT, false},
    {"a segment copied to a later name", doubled_behind, ALL, 0, false},
    {"a segment copied across two others", doubled_across, NO_WRITER, WEIR_ECORRUPT, false},
    {"a segment of another log in the middle", middle_of_another_log, FOUND, 0, false},
    {"a segment of another log at the end", last_of_another_log, NO_WRITER, WEIR_ECORRUPT, false},
    {"foreign files and names that are nearly right", foreign_files, ALL, 0, false},
    {"a directory named like a segment", directory_in_place, NO_WRITER, 0, false},
    {"a fifo named like a segment", fifo_in_place, NO_WRITER, 0, false},
    {"a symbolic link named like a segment", link_in_place, NO_WRITER, 0, true},
    {"the control file a symbolic link", control_a_link, REFUSED, 0, true},
    {"the lock a symbolic link", lock_a_link, NO_WRITER, 0, true},
    {"a segment renamed", renamed, NO_WRITER, WEIR_ECORRUPT, false},
    {"two segments exchanged", exchanged, NO_WRITER, WEIR_ECORRUPT, false},
    {"a later version in the control file", control_version, REFUSED, WEIR_EFORMAT, false},
    {"an unknown feature in the control file", control_feature, REFUSED, WEIR_EFORMAT, false},
    {"the control file of the other byte order", control_magic, REFUSED, WEIR_ECORRUPT, false},
    {"a later version in a segment", segment_version, NO_WRITER, WEIR_EFORMAT, false},
    {"an unknown feature in a segment", segment_feature, NO_WRITER, WEIR_EFORMAT, false},
    {"the control file missing", control_missing, REFUSED, WEIR_ECORRUPT, false},
    {"the control file of another log", control_of_another_log, NO_WRITER, WEIR_ECORRUPT, false},
    {"a segment with a second name", two_names, ALL, 0, true},
    {"leftovers of a crash", leftovers, ALL, 0, false},
    {"the last segment cut short", last_short, NO_WRITER, WEIR_ECORRUPT, false},
    {"the last segment empty", last_empty, NO_WRITER, WEIR_ECORRUPT, false},
};

/* ---- what comes of it ------------------------------------------------------------------------ */

/* Every record that is given out is one that was appended, in order. Returns the last call's. */
static int records_read(struct weir_log *log, unsigned *count_out)
{
    struct weir_cursor *cursor = NULL;
    struct weir_entry entry;
    *count_out = 0;
    int code = weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor);
    while (code == 0 && (code = weir_cursor_next(cursor, WEIR_TRY, &entry)) == 0) {
        assert_int_equal(entry.tag, *count_out);
        assert_int_equal(entry.bytes, RECORD_BYTES);
        for (size_t at = 0; at < entry.bytes; at++) {
            assert_int_equal(((const uint8_t *)entry.data)[at], (uint8_t)(entry.tag + 1));
        }
        (*count_out)++;
    }
    weir_cursor_close(cursor);
    return code;
}

static void read_as(const struct row *row, const char *dir, bool read_only)
{
    const struct weir_options options = options_for(read_only);
    struct weir_log *log = NULL;
    struct weir_error error;
    unsigned count = 0;
    const int code = weir_open(dir, &options, &log, &error);
    if (code != 0) {
        assert_int_equal(error.code, code);
        assert_true(error.text[0] != '\0');
    }
    const bool refused = row->expected == REFUSED || (!read_only && row->expected == NO_WRITER);
    if (refused) {
        assert_int_not_equal(code, 0);
        assert_true(row->code == 0 || code == row->code || read_only);
        return;
    }
    if (row->expected == NO_WRITER && code != 0) {
        return;
    }
    assert_int_equal(code, 0);
    const int end = records_read(log, &count);
    if (row->expected == ALL) {
        assert_int_equal(end, WEIR_EEND);
        assert_int_equal(count, RECORDS);
    } else if (row->expected == FOUND) {
        assert_int_equal(end, WEIR_ECORRUPT);
        assert_true(count < RECORDS);
    } else {
        /* Never silently fewer. */
        assert_int_equal(end == WEIR_EEND, count == RECORDS);
    }
    assert_int_equal(weir_close(log, NULL), 0);
}

static void verify(const struct row *row, const char *dir)
{
    struct weir_report report;
    const int code = weir_verify(dir, NULL, NULL, &report, NULL);
    if (row->expected == ALL) {
        assert_int_equal(code, 0);
        assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    } else if (code == 0 && row->change != lock_a_link) {
        assert_true(report.verdict == WEIR_VERDICT_CORRUPT ||
                    report.verdict == WEIR_VERDICT_UNREADABLE);
    }
}

static void row_run(const struct row *row, const char *whole, const char *other)
{
    struct place place;
    struct snapshot before;
    struct snapshot after;
    struct snapshot outside;
    print_message("  %s\n", row->what);
    temp_dir_make(place.log);
    temp_dir_make(place.outside);
    (void)snprintf(place.other, sizeof place.other, "%s", other);
    temp_dir_copy(whole, place.log);
    row->change(&place);
    snapshot_take(place.log, &before);
    snapshot_take(place.outside, &outside);

    verify(row, place.log);
    read_as(row, place.log, true);
    snapshot_take(place.log, &after);
    assert_true(snapshot_same(&before, &after)); /* whoever looks changes nothing */

    read_as(row, place.log, false);
    snapshot_take(place.log, &after);
    if (row->expected == REFUSED || row->expected == NO_WRITER) {
        assert_true(snapshot_same(&before, &after));
    } else {
        /* What is not the log's is as it was. */
        for (unsigned i = 0; i < before.count; i++) {
            weir_lsn base;
            weir_lsn end;
            const char *const name = before.entries[i].name;
            if (!weir__segment_name_parse(name, &base, &end) && strncmp(name, "weir.", 5) != 0) {
                assert_true(entry_same(&before.entries[i], snapshot_find(&after, name)));
            }
        }
    }
    snapshot_take(place.outside, &after);
    assert_true(!row->in_outside || snapshot_same(&outside, &after));
    temp_dir_remove(place.log);
    temp_dir_remove(place.outside);
}

static void what_does_not_belong_is_told_and_left_alone(void **state)
{
    (void)state;
    char whole[TEMP_DIR_BYTES];
    char other[TEMP_DIR_BYTES];
    temp_dir_make(whole);
    temp_dir_make(other);
    log_write(whole);
    log_write(other);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        row_run(&rows[i], whole, other);
    }
    temp_dir_remove(whole);
    temp_dir_remove(other);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_belong_is_told_and_left_alone),
    };
    return cmocka_run_group_tests_name("integration.api_foreign", tests, NULL, NULL);
}
