/* SPDX-License-Identifier: Apache-2.0
 * One file of a log read by itself: the records that a cursor shows, verified, and nothing else,
 * whatever became of the file; and the bytes of any file. */
#include "api/segment_reader.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/batch.h"
#include "format/segment_header.h"
#include "support/fault_io.h"
#include "support/log_builder.h"
#include "support/rig.h"
#include "support/temp_dir.h"
#include "support/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define RECORDS_MAX 4096u
#define FILES_MAX 64u
#define KIB ((size_t)1024)

struct way {
    const char *name;
    enum weir_io_backend backend;
    bool direct;
};

static const struct way ways[] = {
    {"ring, buffered", WEIR_IO_BACKEND_URING, false},
    {"ring, direct", WEIR_IO_BACKEND_URING, true},
    {"pool, buffered", WEIR_IO_BACKEND_POSIX, false},
    {"pool, direct", WEIR_IO_BACKEND_POSIX, true},
};
#define WAYS (sizeof ways / sizeof ways[0])

struct seen {
    weir_lsn lsn;
    uint64_t epoch;
    uint64_t tag;
    size_t bytes;
    uint32_t sum;
    bool more;
    struct weir_batch_info batch;
};

/* What a cursor showed of a log, and its files in the order of their names. */
struct shown {
    size_t count;
    struct seen records[RECORDS_MAX];
    unsigned file_count;
    char files[FILES_MAX][TEMP_DIR_BYTES];
    weir_lsn bases[FILES_MAX];
};

static struct shown shown;

static uint32_t sum_of(const void *data, size_t bytes)
{
    return weir__crc32c(17, data, bytes);
}

static struct seen seen_of(const struct weir_entry *entry)
{
    return (struct seen){
        .lsn = entry->lsn,
        .epoch = entry->epoch,
        .tag = entry->tag,
        .bytes = entry->bytes,
        .sum = sum_of(entry->data, entry->bytes),
        .more = entry->more,
    };
}

static bool usable(const struct way *way)
{
    return way->backend != WEIR_IO_BACKEND_URING || weir_io_uring_available(NULL, 0);
}

static struct weir_io_config config_of(const struct way *way)
{
    struct weir_io_config config = weir_io_config_minimal();
    config.backend = way->backend;
    config.direct_io = way->direct;
    config.buffer_bytes = 16 * KIB;
    return config;
}

static struct weir_segment *segment_open(const char *path, const struct way *way)
{
    struct weir_segment *segment = NULL;
    struct weir_error error = {0};
    const struct weir_io_config config = config_of(way);
    if (weir_segment_open(path, &config, &segment, &error) != 0) {
        fail_msg("%s: %s", path, error.text);
    }
    return segment;
}

static void
assert_same(const struct weir_entry *entry, const struct seen *want, const char *way_name)
{
    const struct seen got = seen_of(entry);
    if (got.lsn != want->lsn || got.epoch != want->epoch || got.tag != want->tag ||
        got.bytes != want->bytes || got.sum != want->sum || got.more != want->more) {
        fail_msg("%s: a record at %llu with tag %llu, not at %llu with tag %llu",
                 way_name,
                 (unsigned long long)got.lsn,
                 (unsigned long long)got.tag,
                 (unsigned long long)want->lsn,
                 (unsigned long long)want->tag);
    }
}

/* ---- a real log ------------------------------------------------------------------------------ */

/* Which of its bytes are read back by whom is none of its business: any way will do. */
static const struct rig_way *plain_way(void)
{
    for (unsigned i = 0; i < rig_way_count; i++) {
        if (rig_ways[i].io == WEIR_IO_POSIX) {
            return &rig_ways[i];
        }
    }
    fail();
    return NULL;
}

static void append_group(struct weir_log *log, uint64_t tag)
{
    static const char text[] = "one of three";
    const struct weir_piece piece = {text, sizeof text};
    const struct weir_record records[] = {
        {&piece, 1, tag},
        {NULL, 0, tag + 1},
        {&piece, 1, tag + 2},
    };
    assert_int_equal(weir_append_group(log, records, 3, WEIR_FOREVER, NULL), 0);
}

/* Records of every kind, through several segments: empty ones, groups, some larger than a slot and
 * than the window of a segment reader. */
static void append_much(struct weir_log *log, uint64_t tag)
{
    static uint8_t payload[60000];
    static const size_t sizes[] = {0, 1, 100, 4072, 9000, 60000, 24, 333};
    for (unsigned i = 0; i < 40; i++) {
        const size_t bytes = sizes[i % 8];
        payload_fill(tag + i, payload, bytes);
        assert_int_equal(weir_append(log, bytes > 0 ? payload : NULL, bytes, tag + i, NULL), 0);
        append_group(log, tag + 1000 * i);
        if (i % 3 == 0) {
            assert_int_equal(weir_sync(log, WEIR_FOREVER), 0);
        }
    }
    assert_int_equal(weir_sync(log, WEIR_FOREVER), 0);
}

static void shown_by_cursor(struct weir_log *log)
{
    struct weir_cursor *cursor;
    struct weir_entry entry;
    shown.count = 0;
    assert_int_equal(weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor), 0);
    while (weir_cursor_next(cursor, WEIR_TRY, &entry) == 0) {
        assert_true(shown.count < RECORDS_MAX);
        struct seen *const seen = &shown.records[shown.count++];
        *seen = seen_of(&entry);
        assert_int_equal(weir_cursor_batch(cursor, &seen->batch), 0);
    }
    weir_cursor_close(cursor);
}

static void files_of(const char *path)
{
    shown.file_count = 0;
    weir_lsn base = 0;
    weir_lsn end = 0;
    /* One begins where the one before ends. */
    for (;;) {
        char name[WEIR__SEGMENT_NAME_BYTES];
        char file[TEMP_DIR_BYTES];
        end = base + RIG_SEGMENT;
        weir__segment_name(base, end, name);
        temp_dir_join(path, name, file);
        if (access(file, R_OK) != 0) {
            return;
        }
        assert_true(shown.file_count < FILES_MAX);
        memcpy(shown.files[shown.file_count], file, sizeof file);
        shown.bases[shown.file_count++] = base;
        base = end;
    }
}

/* A log of two epochs, closed, and what a cursor shows of it. */
static void make_log(struct rig *rig)
{
    rig_make(rig, plain_way());
    assert_int_equal(rig_open_plain(rig), 0);
    append_much(rig->log, 1);
    assert_int_equal(rig_close(rig), 0);
    assert_int_equal(rig_open_plain(rig), 0);
    append_much(rig->log, UINT64_C(1) << 40);
    shown_by_cursor(rig->log);
    assert_int_equal(rig_close(rig), 0);
    files_of(rig->path);
    assert_true(shown.count > 2 * 40 * 4 - 1);
    assert_true(shown.file_count >= 4);
    assert_true(shown.records[0].epoch < shown.records[shown.count - 1].epoch);
}

/* Index of the first record of a file, and behind its last. */
static size_t first_of(unsigned file)
{
    size_t i = 0;
    while (i < shown.count && shown.records[i].lsn < shown.bases[file]) {
        i++;
    }
    return i;
}

static size_t behind_last_of(unsigned file)
{
    size_t i = first_of(file);
    while (i < shown.count && shown.records[i].lsn < shown.bases[file] + RIG_SEGMENT) {
        i++;
    }
    return i;
}

static void segments_hold_what_a_cursor_shows(void **state)
{
    (void)state;
    struct rig rig;
    make_log(&rig);
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            print_message("no io_uring here: left out: %s\n", ways[w].name);
            continue;
        }
        size_t next = 0;
        for (unsigned f = 0; f < shown.file_count; f++) {
            struct weir_segment *const segment = segment_open(shown.files[f], &ways[w]);
            struct weir_segment_info info;
            struct weir_entry entry;
            uint64_t bytes = 0;
            weir_segment_describe(segment, &info);
            assert_true(info.is_segment);
            assert_int_equal(info.number, f);
            assert_int_equal(info.base_lsn, shown.bases[f]);
            assert_int_equal(info.end_lsn, shown.bases[f] + RIG_SEGMENT);
            assert_int_equal(info.block_bytes, RIG_BLOCK);
            assert_true(info.log_id != 0);
            assert_int_equal(weir_segment_len(segment, &bytes), 0);
            assert_int_equal(bytes, RIG_SEGMENT);
            assert_false(weir_segment_is_empty(segment));
            int result;
            while ((result = weir_segment_next(segment, &entry)) == 0) {
                assert_true(next < shown.count);
                assert_same(&entry, &shown.records[next], ways[w].name);
                next++;
            }
            assert_int_equal(result, WEIR_EEND);
            /* And again, as often as one likes. */
            assert_int_equal(weir_segment_next(segment, &entry), WEIR_EEND);
            struct weir_io_stats stats;
            weir_segment_stats(segment, &stats);
            assert_true(stats.bytes_read > 0);
            assert_int_equal(stats.ops_submitted, stats.ops_completed);
            weir_segment_close(segment);
        }
        assert_int_equal(next, shown.count);
    }
    rig_destroy(&rig);
}

static uint8_t *slurp(const char *path)
{
    uint8_t *const bytes = malloc(RIG_SEGMENT);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_non_null(bytes);
    assert_true(file >= 0);
    assert_int_equal(pread(file, bytes, RIG_SEGMENT, 0), RIG_SEGMENT);
    assert_int_equal(close(file), 0);
    return bytes;
}

static void poke(const char *path, uint64_t offset, const void *data, size_t bytes)
{
    const int file = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, data, bytes, (off_t)offset), bytes);
    assert_int_equal(close(file), 0);
}

static void flip(const char *path, uint64_t offset)
{
    const int file = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    assert_true(file >= 0);
    assert_int_equal(pread(file, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(file, &byte, 1, (off_t)offset), 1);
    assert_int_equal(close(file), 0);
}

/* Nothing unframed: every byte of a file is the header's, a batch's with its frames one behind the
 * other, or zero. */
static void everything_in_a_segment_is_framed(void **state)
{
    (void)state;
    struct rig rig;
    make_log(&rig);
    for (unsigned f = 0; f < shown.file_count; f++) {
        uint8_t *const bytes = slurp(shown.files[f]);
        size_t at = RIG_BLOCK;
        size_t next = first_of(f);
        assert_true(weir__all_zero(bytes + WEIR__SEGMENT_HEADER_BYTES,
                                   RIG_BLOCK - WEIR__SEGMENT_HEADER_BYTES));
        while (at < RIG_SEGMENT && !weir__all_zero(bytes + at, RIG_BLOCK)) {
            struct weir__batch batch;
            struct weir__batch_check check;
            assert_true(weir__batch_decode(bytes + at, &batch));
            assert_int_equal(batch.lsn, shown.bases[f] + at);
            const size_t end = (size_t)(weir__batch_end(&batch, RIG_BLOCK) - shown.bases[f]);
            weir__batch_check_begin(&check, &batch, RIG_BLOCK);
            assert_int_equal(weir__batch_check_feed(&check,
                                                    bytes + at + WEIR__BATCH_HEADER_BYTES,
                                                    end - at - WEIR__BATCH_HEADER_BYTES),
                             0);
            assert_int_equal(weir__batch_check_end(&check), 0);
            next += batch.records;
            at = end;
        }
        assert_int_equal(next, behind_last_of(f));
        assert_true(weir__all_zero(bytes + at, RIG_SEGMENT - at));
        free(bytes);
    }
    rig_destroy(&rig);
}

static void seek_goes_to_the_first_record_at_or_behind(void **state)
{
    (void)state;
    struct rig rig;
    make_log(&rig);
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        const unsigned f = 1;
        struct weir_segment *const segment = segment_open(shown.files[f], &ways[w]);
        struct weir_entry entry;
        const size_t first = first_of(f);
        const size_t behind = behind_last_of(f);
        assert_true(behind - first > 10);
        /* Backwards, so that it is not the order that does it. */
        for (size_t i = behind; i-- > first;) {
            assert_int_equal(weir_segment_seek(segment, shown.records[i].lsn), 0);
            assert_int_equal(weir_segment_next(segment, &entry), 0);
            assert_same(&entry, &shown.records[i], ways[w].name);
            assert_int_equal(weir_segment_seek(segment, shown.records[i].lsn + 1), 0);
            const int result = weir_segment_next(segment, &entry);
            if (i + 1 == behind) {
                assert_int_equal(result, WEIR_EEND);
            } else {
                assert_int_equal(result, 0);
                assert_same(&entry, &shown.records[i + 1], ways[w].name);
            }
        }
        const weir_lsn base = shown.bases[f];
        const weir_lsn starts[] = {WEIR_LSN_OLDEST, base, base + 1, shown.records[first].lsn - 1};
        for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
            assert_int_equal(weir_segment_seek(segment, starts[s]), 0);
            assert_int_equal(weir_segment_next(segment, &entry), 0);
            assert_same(&entry, &shown.records[first], ways[w].name);
        }
        assert_int_equal(weir_segment_seek(segment, base - 1), -EINVAL);
        assert_int_equal(weir_segment_seek(segment, base + RIG_SEGMENT + 1), -EINVAL);
        /* A refused one moved nothing. */
        assert_int_equal(weir_segment_next(segment, &entry), 0);
        assert_same(&entry, &shown.records[first + 1], ways[w].name);
        assert_int_equal(weir_segment_seek(segment, base + RIG_SEGMENT), 0);
        assert_int_equal(weir_segment_next(segment, &entry), WEIR_EEND);
        weir_segment_close(segment);
    }
    rig_destroy(&rig);
}

/* What was the end a moment ago is not, when the log went on. */
static void segment_of_a_live_log_goes_on_with_it(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_entry entry;
    rig_make(&rig, plain_way());
    assert_int_equal(rig_open_plain(&rig), 0);
    files_of(rig.path);
    assert_true(shown.file_count >= 1);
    struct weir_segment *const segment = segment_open(shown.files[0], &ways[2]);
    assert_int_equal(weir_segment_next(segment, &entry), WEIR_EEND);
    for (uint64_t tag = 1; tag < 20; tag++) {
        for (uint64_t i = 0; i < tag % 3 + 1; i++) {
            assert_int_equal(rig_append(&rig, 100 * tag + i, 50, NULL), 0);
        }
        for (uint64_t i = 0; i < tag % 3 + 1; i++) {
            assert_int_equal(weir_segment_next(segment, &entry), 0);
            assert_int_equal(entry.tag, 100 * tag + i);
            assert_true(payload_holds(entry.tag, entry.data, entry.bytes));
        }
        /* Asked at the end, and not asked: what was read ahead says nothing of what came since. */
        if (tag % 2 == 0) {
            assert_int_equal(weir_segment_next(segment, &entry), WEIR_EEND);
        }
    }
    weir_segment_close(segment);
    rig_destroy(&rig);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Reads the file of a log up to where it says something, and returns that. */
static int read_until(unsigned file, const struct way *way, size_t *next_out, weir_lsn *lsn_out)
{
    struct weir_segment *const segment = segment_open(shown.files[file], way);
    struct weir_entry entry;
    size_t next = first_of(file);
    int result;
    while ((result = weir_segment_next(segment, &entry)) == 0) {
        assert_true(next < shown.count);
        assert_same(&entry, &shown.records[next], way->name);
        next++;
    }
    *next_out = next;
    *lsn_out = entry.lsn;
    /* It stays there. */
    assert_int_equal(weir_segment_next(segment, &entry), result);
    assert_int_equal(entry.lsn, *lsn_out);
    weir_segment_close(segment);
    return result;
}

/* A record in the middle of a file, with bytes, whose batch has others in front of it. */
static size_t victim_of(unsigned file)
{
    const size_t first = first_of(file);
    for (size_t i = first + 8; i < behind_last_of(file); i++) {
        const struct seen *const seen = &shown.records[i];
        if (seen->bytes > 0 && shown.records[i - 1].batch.lsn == seen->batch.lsn &&
            seen->batch.lsn != shown.records[first].batch.lsn) {
            return i;
        }
    }
    fail();
    return 0;
}

static size_t first_of_batch(size_t record)
{
    size_t i = record;
    while (i > 0 && shown.records[i - 1].batch.lsn == shown.records[record].batch.lsn) {
        i--;
    }
    return i;
}

/* One bad byte of payload, and the batch is not shown, not even the records in front of it. */
static void damaged_payload_is_told_with_its_batch(void **state)
{
    (void)state;
    struct rig rig;
    size_t next;
    weir_lsn lsn;
    make_log(&rig);
    const unsigned f = 1;
    const size_t victim = victim_of(f);
    const struct seen *const seen = &shown.records[victim];
    const uint64_t payload = seen->lsn - shown.bases[f] + WEIR__FRAME_HEADER_BYTES;
    /* Payload, tag, length, and the zeros behind the frames. */
    const uint64_t places[] = {payload,
                               payload + seen->bytes - 1,
                               payload - 16,
                               payload - 24,
                               seen->batch.end_lsn - shown.bases[f] - 1};
    for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
        flip(shown.files[f], places[p]);
        for (size_t w = 0; w < WAYS; w++) {
            if (!usable(&ways[w])) {
                continue;
            }
            assert_int_equal(read_until(f, &ways[w], &next, &lsn), WEIR_ECORRUPT);
            assert_int_equal(lsn, seen->batch.lsn);
            assert_int_equal(next, first_of_batch(victim));
        }
        flip(shown.files[f], places[p]);
    }
    assert_int_equal(read_until(f, &ways[2], &next, &lsn), WEIR_EEND);
    assert_int_equal(next, behind_last_of(f));
    rig_destroy(&rig);
}

/* A damaged batch header could be anything: the file goes no further, as at a torn end. */
static void damaged_batch_header_ends_the_file(void **state)
{
    (void)state;
    struct rig rig;
    size_t next;
    weir_lsn lsn;
    make_log(&rig);
    const unsigned f = 1;
    const size_t victim = victim_of(f);
    const uint64_t header = shown.records[victim].batch.lsn - shown.bases[f];
    static const uint64_t fields[] = {0, 4, 8, 16, 24, 32, 40, 48, 72, 76, 84};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        flip(shown.files[f], header + fields[i]);
        for (size_t w = 0; w < WAYS; w++) {
            if (!usable(&ways[w])) {
                continue;
            }
            assert_int_equal(read_until(f, &ways[w], &next, &lsn), WEIR_EEND);
            assert_int_equal(next, first_of_batch(victim));
        }
        flip(shown.files[f], header + fields[i]);
    }
    rig_destroy(&rig);
}

static void file_with_a_damaged_header_is_no_segment(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_entry entry;
    struct weir_segment_info info;
    make_log(&rig);
    uint8_t *const bytes = slurp(shown.files[0]);
    static const uint64_t places[] = {0, 4, 8, 16, 32, 40, 72, 127};
    for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
        flip(shown.files[0], places[p]);
        struct weir_segment *const segment = segment_open(shown.files[0], &ways[2]);
        weir_segment_describe(segment, &info);
        assert_false(info.is_segment);
        assert_int_equal(weir_segment_next(segment, &entry), WEIR_EFORMAT);
        assert_int_equal(weir_segment_seek(segment, RIG_BLOCK), WEIR_EFORMAT);
        /* Its bytes are there all the same. */
        uint8_t *const read = malloc(RIG_SEGMENT);
        assert_non_null(read);
        assert_int_equal(weir_segment_read_range(segment, 128, read, RIG_SEGMENT - 128), 0);
        assert_memory_equal(read, bytes + 128, RIG_SEGMENT - 128);
        free(read);
        weir_segment_close(segment);
        flip(shown.files[0], places[p]);
    }
    free(bytes);
    rig_destroy(&rig);
}

static void truncated_file_shows_its_whole_batches(void **state)
{
    (void)state;
    struct rig rig;
    size_t next;
    weir_lsn lsn;
    make_log(&rig);
    const unsigned f = 1;
    const size_t victim = victim_of(f);
    const struct weir_batch_info *const batch = &shown.records[victim].batch;
    const uint64_t from = batch->lsn - shown.bases[f];
    const uint64_t end = batch->end_lsn - shown.bases[f];
    /* Shorter and shorter. Where not even its header is left, nothing was begun. */
    const struct {
        uint64_t bytes;
        int result;
    } cuts[] = {
        {end - 1, WEIR_ECORRUPT},
        {end - 513, WEIR_ECORRUPT},
        {from + 97, WEIR_ECORRUPT},
        {from + 96, WEIR_ECORRUPT},
        {from + 95, WEIR_EEND},
        {from + 1, WEIR_EEND},
        {from, WEIR_EEND},
    };
    for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
        assert_int_equal(truncate(shown.files[f], (off_t)cuts[c].bytes), 0);
        for (size_t w = 0; w < WAYS; w++) {
            if (!usable(&ways[w])) {
                continue;
            }
            assert_int_equal(read_until(f, &ways[w], &next, &lsn), cuts[c].result);
            assert_int_equal(lsn, cuts[c].result == WEIR_ECORRUPT ? batch->lsn : 0);
            assert_int_equal(next, first_of_batch(victim));
        }
    }
    /* Within its header. */
    assert_int_equal(truncate(shown.files[f], 127), 0);
    struct weir_segment *const segment = segment_open(shown.files[f], &ways[2]);
    struct weir_entry entry;
    assert_int_equal(weir_segment_next(segment, &entry), WEIR_EFORMAT);
    weir_segment_close(segment);
    rig_destroy(&rig);
}

/* Bytes that no append has framed: text, a batch of another place, one of another log. */
static void foreign_bytes_are_never_a_record(void **state)
{
    (void)state;
    struct rig rig;
    struct rig other;
    size_t next;
    weir_lsn lsn;
    make_log(&rig);
    const unsigned f = 1;
    const size_t victim = victim_of(f);
    const uint64_t at = shown.records[victim].batch.lsn - shown.bases[f];
    const size_t stop = first_of_batch(victim);
    uint8_t *const bytes = slurp(shown.files[f]);

    /* Raw bytes where a batch belongs, and behind the last one. */
    uint8_t text[RIG_BLOCK];
    memset(text, 'x', sizeof text);
    poke(shown.files[f], at, text, sizeof text);
    assert_int_equal(read_until(f, &ways[2], &next, &lsn), WEIR_EEND);
    assert_int_equal(next, stop);
    /* A sound batch of the same file, of another place. */
    poke(shown.files[f], at, bytes + RIG_BLOCK, RIG_BLOCK);
    assert_int_equal(read_until(f, &ways[2], &next, &lsn), WEIR_EEND);
    assert_int_equal(next, stop);
    poke(shown.files[f], 0, bytes, RIG_SEGMENT);
    assert_int_equal(read_until(f, &ways[2], &next, &lsn), WEIR_EEND);
    assert_int_equal(next, behind_last_of(f));

    /* The same place of another log: same LSNs, another identity. */
    rig_make(&other, plain_way());
    assert_int_equal(rig_open_plain(&other), 0);
    append_much(other.log, 1);
    assert_int_equal(rig_close(&other), 0);
    char name[WEIR__SEGMENT_NAME_BYTES];
    char path[TEMP_DIR_BYTES];
    weir__segment_name(shown.bases[f], shown.bases[f] + RIG_SEGMENT, name);
    temp_dir_join(other.path, name, path);
    uint8_t *const others = slurp(path);
    poke(shown.files[f], RIG_BLOCK, others + RIG_BLOCK, RIG_SEGMENT - RIG_BLOCK);
    assert_int_equal(read_until(f, &ways[2], &next, &lsn), WEIR_EEND);
    assert_int_equal(next, first_of(f));
    free(others);
    free(bytes);
    rig_destroy(&other);
    rig_destroy(&rig);
}

/* ---- logs by hand ---------------------------------------------------------------------------- */

static void path_of(const struct log_builder *log, struct weir__range range, char *out)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    temp_dir_join(log->path, name, out);
}

/* All records of one file, which must be those of log->records from *next on. */
static int builder_read(const struct log_builder *log, struct weir__range range, size_t *next)
{
    char path[TEMP_DIR_BYTES];
    struct weir_entry entry;
    int result;
    path_of(log, range, path);
    struct weir_segment *const segment = segment_open(path, &ways[2]);
    while ((result = weir_segment_next(segment, &entry)) == 0) {
        assert_true(*next < log->record_count);
        const struct log_builder_record *const want = &log->records[*next];
        assert_int_equal(entry.lsn, want->lsn);
        assert_int_equal(entry.epoch, want->epoch);
        assert_int_equal(entry.tag, want->tag);
        assert_int_equal(entry.bytes, want->bytes);
        assert_int_equal(entry.more, want->more);
        assert_memory_equal(entry.data, want->data, want->bytes);
        (*next)++;
    }
    weir_segment_close(segment);
    return result;
}

/* Gaps are stepped over, skipped reservations are not shown, epochs go on, a batch may be empty. */
static void gaps_skips_and_epochs_are_followed(void **state)
{
    (void)state;
    static const uint32_t blocks[] = {512, 4096};
    for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
        struct log_builder log;
        const uint32_t block = blocks[b];
        log_builder_init(&log,
                         &(struct log_builder_config){.block_bytes = block,
                                                      .segment_bytes = 32 * (uint64_t)block,
                                                      .first_lsn = 64 * (uint64_t)block});
        log_builder_batch(&log, 3, 100);
        log_builder_begin(&log);
        log_builder_add(&log, "x", 1, 7, true);
        log_builder_add(&log, NULL, 0, 8, false);
        log_builder_skip(&log, 40);
        log_builder_add(&log, "behind", 6, 9, false);
        log_builder_end(&log);
        log_builder_begin(&log);
        log_builder_skip(&log, 8);
        log_builder_end(&log);
        /* What a gap covers may be anything. */
        const weir_lsn gap = log.position.lsn;
        log_builder_gap(&log, gap + 4 * (uint64_t)block);
        log_builder_noise(&log, gap + block, gap + 4 * (uint64_t)block, 5);
        log_builder_batch(&log, 2, 50);
        log_builder_epoch(&log);
        log_builder_batch(&log, 1, 10);
        log_builder_batch(&log, 4, block);
        log_builder_rotate(&log);
        log_builder_batch(&log, 5, 20);
        log_builder_gap(&log, log_builder_segment(&log, log.position.lsn).end);
        log_builder_batch(&log, 1, 1);

        size_t next = 0;
        for (size_t s = 0; s < log.segment_count; s++) {
            assert_int_equal(builder_read(&log, log.segments[s], &next), WEIR_EEND);
        }
        assert_int_equal(log.segment_count, 3);
        assert_int_equal(next, log.record_count);

        /* Within the gap: the first one behind it. */
        char path[TEMP_DIR_BYTES];
        struct weir_entry entry;
        path_of(&log, log.segments[0], path);
        struct weir_segment *const segment = segment_open(path, &ways[2]);
        assert_int_equal(weir_segment_seek(segment, gap + 2 * (uint64_t)block), 0);
        assert_int_equal(weir_segment_next(segment, &entry), 0);
        assert_int_equal(entry.lsn, log.records[log_builder_find(&log, gap)].lsn);
        weir_segment_close(segment);
        log_builder_exit(&log);
    }
}

/* What was cut stays in the file, sound by itself. Behind the cut it does not continue the epoch
 * that began there; and where a whole file was cut and made ready again, its header is newer. */
static void batches_that_were_cut_are_not_shown(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, NULL);
    log_builder_batch(&log, 2, 100);
    log_builder_batch(&log, 2, 100);
    const weir_lsn cut = log.position.lsn;
    log_builder_batch(&log, 2, 100);
    log_builder_batch(&log, 2, 100);
    log_builder_rotate(&log);
    log_builder_batch(&log, 3, 100);
    const struct weir__range second = log.segments[1];
    log_builder_cut(&log, cut);
    log_builder_batch(&log, 1, 5);

    size_t next = 0;
    assert_int_equal(builder_read(&log, log.segments[0], &next), WEIR_EEND);
    assert_int_equal(next, log.record_count);

    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    struct weir__segment_header header;
    log_builder_peek(&log, second.base, bytes, sizeof bytes);
    assert_int_equal(weir__segment_header_decode(bytes, &header, NULL), 0);
    header.epoch = log.newest.epoch;
    header.origin = WEIR__SEGMENT_RECYCLED;
    weir__segment_header_encode(&header, bytes);
    log_builder_poke(&log, second.base, bytes, sizeof bytes);
    assert_int_equal(builder_read(&log, second, &next), WEIR_EEND);
    assert_int_equal(next, log.record_count);
    log_builder_exit(&log);
}

/* The largest block that was asked for. Relaxed: looked at when nobody else is left. */
static void *measure_alloc(void *ctx, size_t bytes, size_t align)
{
    WEIR__ATOMIC(uint64_t) *const largest = ctx;
    void *block;
    if (bytes > weir__load(largest, relaxed)) {
        weir__store(largest, bytes, relaxed);
    }
    return posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, bytes) == 0
               ? block
               : NULL;
}

static void measure_release(void *ctx, void *block, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(block);
}

/* A header may say any size that its checksum covers: no memory is taken on its word. */
static void size_of_a_batch_is_not_believed_beyond_the_file(void **state)
{
    (void)state;
    struct log_builder log;
    char path[TEMP_DIR_BYTES];
    log_builder_init(&log, NULL);
    log_builder_batch(&log, 1, 10);
    const size_t large = log_builder_batch(&log, 1, 10);
    const struct weir__range range = log.segments[0];
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    struct weir__segment_header header;
    log_builder_peek(&log, range.base, bytes, sizeof bytes);
    assert_int_equal(weir__segment_header_decode(bytes, &header, NULL), 0);
    header.bytes = UINT64_C(1) << 40;
    weir__segment_header_encode(&header, bytes);
    log_builder_poke(&log, range.base, bytes, sizeof bytes);
    uint8_t batch_bytes[WEIR__BATCH_HEADER_BYTES];
    struct weir__batch batch = log.batches[large].header;
    batch.bytes = UINT32_MAX - 7;
    weir__batch_encode(&batch, batch_bytes);
    log_builder_poke(&log, batch.lsn, batch_bytes, sizeof batch_bytes);

    path_of(&log, range, path);
    WEIR__ATOMIC(uint64_t) largest = 0;
    const struct weir_memory_hooks hooks = {measure_alloc, measure_release, &largest};
    struct weir_io_config config = config_of(&ways[2]);
    struct weir_segment *segment = NULL;
    struct weir_entry entry;
    config.memory = &hooks;
    assert_int_equal(weir_segment_open(path, &config, &segment, NULL), 0);
    assert_int_equal(weir_segment_next(segment, &entry), 0);
    assert_int_equal(weir_segment_next(segment, &entry), WEIR_ECORRUPT);
    assert_int_equal(entry.lsn, batch.lsn);
    weir_segment_close(segment);
    assert_in_range(weir__load(&largest, relaxed), 1, KIB * KIB);
    log_builder_exit(&log);
}

/* ---- reads that fail ------------------------------------------------------------------------- */

static void failed_read_is_told_and_can_be_tried_again(void **state)
{
    (void)state;
    struct rig rig;
    struct fault_io fault;
    struct weir_segment *segment = NULL;
    struct weir_error error = {0};
    struct weir_entry entry;
    make_log(&rig);
    const unsigned f = 1;
    const size_t victim = victim_of(f);
    const uint64_t at = shown.records[victim].batch.lsn - shown.bases[f];
    const struct weir_io_config config = config_of(&ways[2]);

    fault_io_init(&fault, FAULT_QUEUE_THREADS);
    const unsigned first =
        fault_io_arm(&fault, &(struct fault_rule){.kind = FAULT_READ, .times = 1, .error = -EIO});
    assert_int_equal(
        weir__segment_reader_open_with(shown.files[f], &config, &fault.io, &segment, &error),
        -EIO);
    assert_int_equal(fault_io_spoilt(&fault, first), 1);
    assert_int_equal(error.code, -EIO);
    assert_true(error.text[0] != '\0');
    assert_null(segment);

    assert_int_equal(
        weir__segment_reader_open_with(shown.files[f], &config, &fault.io, &segment, &error),
        0);
    (void)fault_io_arm(
        &fault,
        &(struct fault_rule){.kind = FAULT_READ, .offset_from = at, .times = 2, .error = -EIO});
    unsigned failures = 0;
    int result;
    size_t next = first_of(f);
    while ((result = weir_segment_next(segment, &entry)) != WEIR_EEND) {
        if (result == -EIO) {
            failures++;
            continue;
        }
        assert_int_equal(result, 0);
        assert_same(&entry, &shown.records[next], "faults");
        next++;
    }
    assert_int_equal(failures, 2);
    assert_int_equal(next, behind_last_of(f));
    weir_segment_close(segment);
    fault_io_exit(&fault);
    rig_destroy(&rig);
}

/* The block that was taken last, and whether it was given back. */
struct last {
    void *block;
    size_t bytes;
    void *lost;
    bool lost_released;
};

static void *last_alloc(void *ctx, size_t bytes, size_t align)
{
    struct last *const last = ctx;
    last->bytes = bytes;
    if (posix_memalign(&last->block, align < sizeof(void *) ? sizeof(void *) : align, bytes) != 0) {
        last->block = NULL;
    }
    return last->block;
}

static void last_release(void *ctx, void *block, size_t bytes)
{
    struct last *const last = ctx;
    (void)bytes;
    if (block != NULL && block == last->lost) {
        last->lost_released = true;
        return;
    }
    free(block);
}

/* A ring that broke may still write into the window: that is neither used again nor freed. */
static void window_of_a_broken_ring_is_left_alone(void **state)
{
    (void)state;
    struct rig rig;
    struct fault_io fault;
    struct last last = {0};
    const struct weir_memory_hooks hooks = {last_alloc, last_release, &last};
    struct weir_segment *segment = NULL;
    struct weir_entry entry;
    struct weir_io_config config = weir_io_config_minimal();
    uint8_t *untouched;
    make_log(&rig);
    config.memory = &hooks; /* small buffers: all but the smallest batches come by the ring */
    fault_io_init(&fault, FAULT_QUEUE_THREADS);
    assert_int_equal(
        weir__segment_reader_open_with(shown.files[0], &config, &fault.io, &segment, NULL),
        0);
    const unsigned held =
        fault_io_arm(&fault,
                     &(struct fault_rule){.kind = FAULT_READ, .way = FAULT_QUEUED, .hold = true});
    (void)fault_io_arm(&fault,
                       &(struct fault_rule){.kind = FAULT_QUEUE_REAP, .times = 1, .error = -EBADF});
    int result;
    size_t next = first_of(0);
    while ((result = weir_segment_next(segment, &entry)) != WEIR_EEND) {
        if (result == -EBADF) {
            /* Its ring was there already: the window was what was taken last. */
            assert_null(last.lost);
            last.lost = last.block;
            break;
        }
        assert_int_equal(result, 0);
        next++;
    }
    assert_non_null(last.lost);
    const size_t bytes = last.bytes;
    untouched = malloc(bytes);
    assert_non_null(untouched);
    assert_true(fault_io_wait_held(&fault, 1));
    fault_io_disarm(&fault, held);
    memset(last.lost, 0x5a, bytes);
    memset(untouched, 0x5a, bytes);
    while ((result = weir_segment_next(segment, &entry)) != WEIR_EEND) {
        assert_int_equal(result, 0);
        assert_same(&entry, &shown.records[next], "a broken ring");
        next++;
    }
    assert_int_equal(next, behind_last_of(0));
    assert_memory_equal(last.lost, untouched, bytes);
    /* What was under way comes after all. */
    fault_io_heal(&fault);
    weir_segment_close(segment);
    assert_false(last.lost_released);
    free(last.lost);
    free(untouched);
    fault_io_exit(&fault);
    rig_destroy(&rig);
}

/* ---- plain files ----------------------------------------------------------------------------- */

struct plain {
    struct weir_segment *segment;
    const uint8_t *bytes;
    size_t count;
};

static void read_plain(struct worker *worker)
{
    const struct plain *const plain = worker->ctx;
    uint8_t *const to = malloc(plain->count + 100);
    if (to == NULL) {
        abort();
    }
    for (unsigned i = 0; i < 100; i++) {
        const size_t from = (size_t)random_below(&worker->random, plain->count + 50);
        const size_t most = (size_t)random_below(&worker->random, plain->count);
        const size_t left = from < plain->count ? plain->count - from : 0;
        const size_t want = most < left ? most : left;
        const int64_t got = weir_segment_read_messages(plain->segment, from, to, most);
        if (got != (int64_t)want || memcmp(to, plain->bytes + from, want) != 0) {
            worker_fail(worker, "%zu at %zu: %lld", most, from, (long long)got);
            break;
        }
        const int exact = weir_segment_read_range(plain->segment, from, to, most);
        if (exact != (most <= left || most == 0 ? 0 : -ENODATA)) {
            worker_fail(worker, "%zu at %zu, exactly: %d", most, from, exact);
            break;
        }
    }
    free(to);
}

static void plain_file_is_read_by_bytes(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    struct plain plain = {.count = 300000};
    uint8_t *const bytes = malloc(plain.count);
    assert_non_null(bytes);
    payload_fill(42, bytes, plain.count);
    plain.bytes = bytes;
    temp_dir_make(dir);
    temp_dir_join(dir, "plain", path);
    const int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    for (size_t w = 0; w < WAYS; w++) {
        if (!usable(&ways[w])) {
            continue;
        }
        struct weir_segment_info info;
        struct weir_entry entry;
        uint64_t length = 7;
        uint8_t byte;
        assert_int_equal(ftruncate(file, 0), 0);
        plain.segment = segment_open(path, &ways[w]);
        assert_true(weir_segment_is_empty(plain.segment));
        assert_int_equal(weir_segment_len(plain.segment, &length), 0);
        assert_int_equal(length, 0);
        assert_int_equal(weir_segment_read_messages(plain.segment, 0, &byte, 1), 0);
        assert_int_equal(weir_segment_read_range(plain.segment, 0, &byte, 1), -ENODATA);
        assert_int_equal(pwrite(file, bytes, plain.count, 0), plain.count);
        assert_false(weir_segment_is_empty(plain.segment));
        assert_int_equal(weir_segment_len(plain.segment, &length), 0);
        assert_int_equal(length, plain.count);
        weir_segment_describe(plain.segment, &info);
        assert_false(info.is_segment);
        assert_int_equal(weir_segment_next(plain.segment, &entry), WEIR_EFORMAT);
        assert_int_equal(weir_segment_seek(plain.segment, 0), WEIR_EFORMAT);
        workers_run(4, read_plain, &plain, test_seed());
        weir_segment_close(plain.segment);
    }
    weir_segment_close(NULL);
    assert_int_equal(close(file), 0);
    free(bytes);

    struct weir_segment *segment = NULL;
    struct weir_error error = {0};
    temp_dir_join(dir, "missing", path);
    assert_int_equal(weir_segment_open(path, NULL, &segment, &error), -ENOENT);
    assert_string_equal(error.file, "missing");
    assert_null(segment);
    temp_dir_remove(dir);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_hold_what_a_cursor_shows),
        cmocka_unit_test(everything_in_a_segment_is_framed),
        cmocka_unit_test(seek_goes_to_the_first_record_at_or_behind),
        cmocka_unit_test(segment_of_a_live_log_goes_on_with_it),
        cmocka_unit_test(damaged_payload_is_told_with_its_batch),
        cmocka_unit_test(damaged_batch_header_ends_the_file),
        cmocka_unit_test(file_with_a_damaged_header_is_no_segment),
        cmocka_unit_test(truncated_file_shows_its_whole_batches),
        cmocka_unit_test(foreign_bytes_are_never_a_record),
        cmocka_unit_test(gaps_skips_and_epochs_are_followed),
        cmocka_unit_test(batches_that_were_cut_are_not_shown),
        cmocka_unit_test(size_of_a_batch_is_not_believed_beyond_the_file),
        cmocka_unit_test(failed_read_is_told_and_can_be_tried_again),
        cmocka_unit_test(window_of_a_broken_ring_is_left_alone),
        cmocka_unit_test(plain_file_is_read_by_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
