/* SPDX-License-Identifier: Apache-2.0
 * Cursors over logs that were built byte by byte. Whatever happens to the files, a cursor shows
 * records of the log, in order, or says what is wrong; it never shows anything else.
 *
 * The reader here plays the log's part towards the cursor: positions, memory and waiting are
 * fields that a test sets. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/num.h"
#include "port/clock.h"
#include "port/tsan.h"
#include "read/cursor.h"
#include "support/log_builder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BATCH_BYTES ((size_t)1024)
#define BATCH_BYTES_MAX ((size_t)16 * 1024)
#define NOTHING_BAD UINT64_MAX
#define LEVELS 3
#define BLOCKS_KEPT 8
/* Tens of thousands of cursors are opened one after the other. ThreadSanitizer makes each of
 * them slow, and has nothing to find in one thread. */
#ifdef WEIR__TSAN
#define EVERY_LSN 61
#else
#define EVERY_LSN 1
#endif

static uint64_t seed_base = 1;

struct reader {
    struct weir__io io; /* first: the table's functions get its address */
    struct weir__io_ops ops;
    struct weir__mem mem;
    /* Cursors are opened by the ten thousand here, so the largest blocks are kept for the next one.
     */
    struct {
        void *block;
        size_t bytes;
        size_t align;
    } kept[BLOCKS_KEPT];
    unsigned allocations;
    unsigned allocation_fails; /* the one of this number, from 1; 0: none */
    struct log_builder log;
    struct weir__dir dir;
    struct weir__catalog catalog;
    struct weir__fault fault;
    struct weir__cursor *cursor;
    bool read_ahead;
    bool live_tail;
    bool no_refresh;
    size_t batch_bytes;
    size_t batch_bytes_max;
    enum weir_level level;

    /* What the log says. */
    weir_lsn limits[LEVELS];
    weir_lsn oldest;
    weir_lsn oldest_later; /* from the time on that it was asked for oldest_after times; 0: never */
    unsigned oldest_after;
    unsigned oldest_asked;
    struct weir__epoch newest;
    bool memory; /* batches that are not written are in memory */
    bool memory_all;
    size_t memory_cut; /* bytes that it holds back of each */
    unsigned memory_asked;
    weir_lsn moved;
    unsigned moved_count;
    unsigned refreshed;

    /* What wait does: lets `wait_script` act, and returns what it says. NULL: -ETIMEDOUT. */
    int (*wait_script)(struct reader *reader, weir_lsn above);
    unsigned waited;
    weir_lsn wait_above;
    uint64_t wait_deadline;

    /* What the device does to a byte range of any file: fails, or flips a bit, so many times. */
    uint64_t bad_offset;
    int bad_error; /* 0: flips */
    unsigned bad_times;
};

/* ---- the log's part -------------------------------------------------------------------------- */

static weir_lsn reader_limit(void *ctx, enum weir_level level)
{
    const struct reader *const reader = ctx;
    return reader->limits[level];
}

static weir_lsn reader_oldest(void *ctx)
{
    struct reader *const reader = ctx;
    const unsigned asked = reader->oldest_asked++;
    return reader->oldest_later != 0 && asked >= reader->oldest_after ? reader->oldest_later
                                                                      : reader->oldest;
}

static struct weir__epoch reader_newest(void *ctx)
{
    const struct reader *const reader = ctx;
    return reader->newest;
}

static size_t reader_from_memory(void *ctx, weir_lsn prev_end, void *to, size_t room)
{
    struct reader *const reader = ctx;
    reader->memory_asked++;
    for (size_t i = 0; reader->memory && i < reader->log.batch_count; i++) {
        const struct log_builder_batch *const batch = &reader->log.batches[i];
        if (batch->header.prev_end != prev_end || (batch->written && !reader->memory_all)) {
            continue;
        }
        const size_t bytes = WEIR__BATCH_HEADER_BYTES + batch->header.bytes;
        if (bytes <= room) {
            memcpy(to, batch->image, bytes);
        }
        return bytes - reader->memory_cut;
    }
    return 0;
}

static int reader_wait(void *ctx, weir_lsn above, enum weir_level level, uint64_t deadline_ns)
{
    struct reader *const reader = ctx;
    reader->waited++;
    reader->wait_above = above;
    reader->wait_deadline = deadline_ns;
    if (level != reader->level) {
        return -EDOM;
    }
    return reader->wait_script == NULL ? -ETIMEDOUT : reader->wait_script(reader, above);
}

static int reader_refresh(void *ctx)
{
    struct reader *const reader = ctx;
    reader->refreshed++;
    return weir__catalog_load(&reader->catalog, &reader->dir, NULL);
}

static void reader_moved(void *ctx, weir_lsn lsn)
{
    struct reader *const reader = ctx;
    reader->moved = lsn;
    reader->moved_count++;
}

static ssize_t
reader_read(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    struct reader *const reader = (struct reader *)io;
    const ssize_t got =
        weir__io_system()->ops->read(weir__io_system(), file, buffer, bytes, offset);
    const uint64_t bad = reader->bad_offset;
    if (got > 0 && bad != NOTHING_BAD && bad >= offset && bad < offset + (uint64_t)got &&
        reader->bad_times > 0) {
        reader->bad_times--;
        if (reader->bad_error != 0) {
            return reader->bad_error;
        }
        ((uint8_t *)buffer)[bad - offset] ^= 0x10;
    }
    return got;
}

static void *reader_alloc(void *ctx, size_t bytes, size_t align)
{
    struct reader *const reader = ctx;
    reader->allocations++;
    if (reader->allocations == reader->allocation_fails) {
        return NULL;
    }
    for (int i = 0; i < BLOCKS_KEPT; i++) {
        if (reader->kept[i].block != NULL && reader->kept[i].bytes == bytes &&
            reader->kept[i].align >= align) {
            void *const block = reader->kept[i].block;
            reader->kept[i].block = NULL;
            return block;
        }
    }
    void *block = NULL;
    return posix_memalign(&block, align, bytes) == 0 ? block : NULL;
}

static void reader_release(void *ctx, void *block, size_t bytes)
{
    struct reader *const reader = ctx;
    for (int i = 0; i < BLOCKS_KEPT && bytes >= (size_t)64 * 1024; i++) {
        if (reader->kept[i].block == NULL) {
            reader->kept[i].block = block;
            reader->kept[i].bytes = bytes;
            reader->kept[i].align = (size_t)1 << __builtin_ctzll((uintptr_t)block);
            return;
        }
    }
    free(block);
}

/* ---- setting up ------------------------------------------------------------------------------ */

static int setup(void **state)
{
    struct reader *const reader = calloc(1, sizeof *reader);
    if (reader == NULL) {
        return -1;
    }
    reader->ops = *weir__io_system()->ops;
    reader->ops.read = reader_read;
    reader->io.ops = &reader->ops;
    reader->bad_offset = NOTHING_BAD;
    reader->batch_bytes = BATCH_BYTES;
    reader->batch_bytes_max = BATCH_BYTES_MAX;
    reader->fault = WEIR__FAULT_NONE;
    const struct weir__mem_hooks hooks = {.alloc = reader_alloc,
                                          .release = reader_release,
                                          .ctx = reader};
    weir__mem_init(&reader->mem, &hooks);
    reader->oldest_after = 1;
    *state = reader;
    return 0;
}

static void reader_close(struct reader *reader)
{
    weir__cursor_close(reader->cursor);
    reader->cursor = NULL;
}

static int teardown(void **state)
{
    struct reader *const reader = *state;
    reader_close(reader);
    weir__catalog_exit(&reader->catalog);
    weir__dir_close(&reader->dir);
    const bool leaked = weir__load(&reader->mem.bytes, relaxed) != 0;
    if (!leaked) {
        weir__mem_exit(&reader->mem);
    }
    log_builder_exit(&reader->log);
    for (int i = 0; i < BLOCKS_KEPT; i++) {
        free(reader->kept[i].block);
    }
    free(reader);
    return leaked ? -1 : 0;
}

/* Everything built so far is durable, nothing is trimmed. */
static void reader_catch_up(struct reader *reader)
{
    for (int level = 0; level < LEVELS; level++) {
        reader->limits[level] = reader->log.position.lsn;
    }
    reader->newest = reader->log.newest;
}

/* Opens the directory of the log that was built. */
static void reader_begin(struct reader *reader)
{
    assert_int_equal(weir__dir_open(&reader->dir,
                                    &reader->io,
                                    &reader->mem,
                                    reader->log.path,
                                    false,
                                    reader->log.block_bytes >= 4096,
                                    &reader->fault),
                     0);
    assert_int_equal(weir__catalog_init(&reader->catalog, &reader->mem), 0);
    assert_int_equal(weir__catalog_load(&reader->catalog, &reader->dir, &reader->fault), 0);
    reader->oldest = reader->log.first_lsn;
    reader_catch_up(reader);
}

/* The same for another log in the place of the first. */
static void reader_again(struct reader *reader)
{
    reader_close(reader);
    weir__catalog_exit(&reader->catalog);
    weir__dir_close(&reader->dir);
    log_builder_exit(&reader->log);
}

static struct weir__cursor_config reader_config(struct reader *reader)
{
    return (struct weir__cursor_config){
        .dir = &reader->dir,
        .mem = &reader->mem,
        .catalog = &reader->catalog,
        .block_bytes = reader->log.block_bytes,
        .log_id = reader->log.log_id,
        .batch_bytes = reader->batch_bytes,
        .batch_bytes_max = reader->batch_bytes_max,
        .level = reader->level,
        .read_ahead = reader->read_ahead,
        .live_tail = reader->live_tail,
        .limit = reader_limit,
        .oldest = reader_oldest,
        .newest = reader_newest,
        .from_memory = reader_from_memory,
        .wait = reader_wait,
        .refresh = reader->no_refresh ? NULL : reader_refresh,
        .moved = reader_moved,
        .ctx = reader,
    };
}

static int reader_try_open(struct reader *reader, weir_lsn lsn)
{
    reader_close(reader);
    const struct weir__cursor_config config = reader_config(reader);
    reader->fault = WEIR__FAULT_NONE;
    return weir__cursor_open(&config, lsn, &reader->cursor, &reader->fault);
}

static void reader_open(struct reader *reader, weir_lsn lsn)
{
    const int result = reader_try_open(reader, lsn);
    if (result != 0) {
        print_error("open at %llu: %s\n", (unsigned long long)lsn, reader->fault.text);
    }
    assert_int_equal(result, 0);
}

static int reader_next(struct reader *reader, struct weir_entry *entry_out)
{
    return weir__cursor_next(reader->cursor, 0, entry_out);
}

static bool same_record(const struct weir_entry *entry, const struct log_builder_record *record)
{
    return entry->lsn == record->lsn && entry->epoch == record->epoch &&
           entry->tag == record->tag && entry->bytes == record->bytes &&
           entry->more == record->more &&
           (record->bytes == 0 || memcmp(entry->data, record->data, record->bytes) == 0);
}

/* The next record is number `index` of the log. */
static void expect_record(struct reader *reader, size_t index)
{
    struct weir_entry entry;
    const int result = reader_next(reader, &entry);
    if (result != 0) {
        print_error("record %zu: %d, %s\n",
                    index,
                    result,
                    result == WEIR_EEND ? "none" : weir__cursor_fault(reader->cursor)->text);
    }
    assert_int_equal(result, 0);
    assert_true(index < reader->log.record_count);
    assert_true(same_record(&entry, &reader->log.records[index]));
    assert_true(weir__cursor_lsn(reader->cursor) > entry.lsn);
}

static void expect_end(struct reader *reader)
{
    struct weir_entry entry;
    const unsigned waited = reader->waited;
    assert_int_equal(reader_next(reader, &entry), WEIR_EEND);
    assert_true(reader->waited > waited);
}

/* Records from `index` on up to, not including, `end`, and then no more. */
static void expect_records(struct reader *reader, size_t index, size_t end)
{
    for (; index < end; index++) {
        expect_record(reader, index);
    }
    expect_end(reader);
}

static void expect_fault(struct reader *reader, int code)
{
    struct weir_entry entry;
    const weir_lsn before = weir__cursor_lsn(reader->cursor);
    const int result = reader_next(reader, &entry);
    if (result != code) {
        print_error("got %d: %s\n", result, weir__cursor_fault(reader->cursor)->text);
    }
    assert_int_equal(result, code);
    assert_int_equal(weir__cursor_fault(reader->cursor)->code, code);
    assert_true(weir__cursor_fault(reader->cursor)->text[0] != '\0');
    assert_int_equal(weir__cursor_lsn(reader->cursor), before);
}

/* How many records belong to batches that end at or below lsn. */
static size_t records_below(const struct reader *reader, weir_lsn lsn)
{
    size_t count = 0;
    while (count < reader->log.record_count &&
           reader->log.batches[reader->log.records[count].batch].end <= lsn) {
        count++;
    }
    return count;
}

/* The first record at or after lsn, if it is one of the first `end`; else nothing yet. */
static void expect_first(struct reader *reader, weir_lsn lsn, size_t end)
{
    const size_t index = log_builder_find(&reader->log, lsn);
    if (index < end) {
        expect_record(reader, index);
    } else {
        expect_end(reader);
    }
}

/* A log with everything in it that a log can have. */
static void build_all(struct log_builder *log)
{
    log_builder_batch(log, 3, 100);
    log_builder_begin(log);
    log_builder_add(log, NULL, 0, 1, false); /* empty */
    log_builder_add(log, "a", 1, 2, true);   /* a group */
    log_builder_add(log, NULL, 0, 3, true);
    log_builder_add(log, "ccccccc", 7, 4, false);
    log_builder_skip(log, 0);
    log_builder_skip(log, 33);
    log_builder_add(log, "dddddddd", 8, UINT64_MAX, false);
    log_builder_end(log);
    log_builder_begin(
        log); /* nothing but skips, at the start, in the middle and at the end of the log */
    log_builder_skip(log, 100);
    log_builder_skip(log, 1);
    log_builder_end(log);
    log_builder_batch(log, 1, 3 * (size_t)log->block_bytes);
    log_builder_begin(log); /* nothing at all */
    log_builder_end(log);
    log_builder_epoch(log);
    log_builder_batch(log, 2, log->block_bytes);
    log_builder_rotate(log); /* unused end */
    log_builder_batch(log, 4, 20);
    log_builder_gap(log, log->position.lsn + 3 * (weir_lsn)log->block_bytes);
    log_builder_batch(log, 1, 0);
    const weir_lsn cut = log->position.lsn; /* stale batches behind a cut */
    log_builder_batch(log, 2, log->block_bytes);
    log_builder_batch(log, 2, 17);
    log_builder_cut(log, cut);
    log_builder_batch(log, 1, 11);
    log_builder_batch(log, 1, 4 * (size_t)log->block_bytes);
    log_builder_gap(log, log->segment.end); /* up to the very end */
    /* Exactly full: the next position is the next segment's base. */
    const uint64_t room = log->segment_bytes - log->block_bytes;
    log_builder_batch(log, 1, (size_t)(room - WEIR__BATCH_HEADER_BYTES - WEIR__FRAME_HEADER_BYTES));
    log_builder_begin(log);
    log_builder_skip(log, 5);
    log_builder_add(log, "last", 4, 9, false);
    log_builder_end(log);
    log_builder_prepare(log, 1);
}

/* A different one for each seed. */
static void build_random(struct log_builder *log, uint64_t seed, unsigned steps)
{
    uint64_t state = seed;
    for (unsigned i = 0; i < steps; i++) {
        const uint64_t dice = log_builder_random(&state) % 20;
        const size_t bytes =
            (size_t)(log_builder_random(&state) % (3 * (uint64_t)log->block_bytes));
        if (dice == 0) {
            log_builder_rotate(log);
        } else if (dice == 1) {
            log_builder_epoch(log);
        } else if (dice == 2 && log->batch_count > 0) {
            log_builder_cut(log, log->batches[log_builder_random(&state) % log->batch_count].end);
        } else if (dice == 3 && !log->rotate && log->segment.base != log->segment.end) {
            const weir_lsn from = log->position.lsn;
            if (from > log->segment.base && from + log->block_bytes <= log->segment.end) {
                const uint64_t blocks = (log->segment.end - from) / log->block_bytes;
                log_builder_gap(log,
                                from +
                                    (1 + log_builder_random(&state) % blocks) * log->block_bytes);
            }
        } else if (dice < 8) {
            log_builder_begin(log);
            if (dice % 2 == 0) {
                log_builder_skip(log, bytes);
            }
            log_builder_add(log, "begin", 5, dice, true);
            log_builder_add(log, &state, sizeof state, dice, false);
            log_builder_skip(log, 3);
            log_builder_end(log);
        } else {
            log_builder_batch(log, 1 + dice % 3, bytes);
        }
    }
    log_builder_prepare(log, 1);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void cursor_shows_every_record_in_order(void **state)
{
    struct reader *const reader = *state;
    static const uint32_t blocks[] = {512, 4096};
    for (int i = 0; i < 8; i++) {
        const struct log_builder_config config = {
            .block_bytes = blocks[i % 2],
            .first_lsn = i % 4 < 2 ? 0 : UINT64_C(0x7000000) * blocks[i % 2],
        };
        reader->read_ahead = i >= 4;
        reader->live_tail = i % 3 == 1;
        if (i > 0) {
            reader_again(reader);
        }
        log_builder_init(&reader->log, &config);
        build_all(&reader->log);
        reader->batch_bytes_max = reader->log.segment_bytes;
        reader_begin(reader);
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_records(reader, 0, reader->log.record_count);
        assert_int_equal(weir__cursor_lsn(reader->cursor), reader->log.position.lsn);
        struct weir__cursor_counts counts;
        weir__cursor_counts(reader->cursor, &counts);
        assert_int_equal(counts.records, reader->log.record_count);
        assert_int_equal(counts.memory_batches, 0);
        assert_true(counts.reads > 0);
        assert_true(counts.read_bytes > counts.bytes);
    }
}

static void cursor_shows_random_logs(void **state)
{
    struct reader *const reader = *state;
    reader->batch_bytes_max = (size_t)1024 * 1024;
    for (uint64_t seed = seed_base; seed < seed_base + 60; seed++) {
        if (seed > seed_base) {
            reader_again(reader);
        }
        /* Segments of many chunks every now and then, for the read-ahead. */
        const bool large = seed % 20 == 0;
        const struct log_builder_config config = {
            .block_bytes = seed % 3 == 0 ? 4096 : 512,
            .segment_bytes = large ? UINT64_C(6) * 1024 * 1024 : 0,
        };
        log_builder_init(&reader->log, &config);
        build_random(&reader->log, seed, large ? 1500 : 60);
        reader_begin(reader);
        for (int ahead = 0; ahead < 2; ahead++) {
            reader->read_ahead = ahead == 1;
            reader_open(reader, WEIR_LSN_OLDEST);
            expect_records(reader, 0, reader->log.record_count);
        }
    }
}

static void cursor_tells_about_the_batch(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    reader_open(reader, WEIR_LSN_OLDEST);
    struct weir_batch_info info;
    assert_int_equal(weir__cursor_batch(reader->cursor, &info), WEIR_EEND);
    for (size_t i = 0; i < reader->log.record_count; i++) {
        expect_record(reader, i);
        const struct log_builder_batch *const batch =
            &reader->log.batches[reader->log.records[i].batch];
        assert_int_equal(weir__cursor_batch(reader->cursor, &info), 0);
        assert_int_equal(info.lsn, batch->header.lsn);
        assert_int_equal(info.end_lsn, batch->end);
        assert_int_equal(info.prev_end_lsn, batch->header.prev_end);
        assert_int_equal(info.promise_lsn, batch->header.promise);
        assert_int_equal(info.epoch, batch->header.epoch);
        assert_int_equal(info.epoch_lsn, batch->header.epoch_lsn);
        assert_int_equal(info.wall_ns, batch->header.wall_ns);
        assert_int_equal(info.records, batch->header.records);
        assert_int_equal(info.bytes, batch->header.bytes);
        assert_int_equal(info.chain, batch->header.chain);
        assert_int_equal(info.segment_lsn, batch->segment.base);
        assert_int_equal(info.segment_end_lsn, batch->segment.end);
    }
    expect_end(reader);
    assert_int_equal(weir__cursor_batch(reader->cursor, &info), 0);
}

static void cursor_allocates_what_it_says(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    for (int ahead = 0; ahead < 2; ahead++) {
        reader->read_ahead = ahead == 1;
        const uint64_t before = weir__load(&reader->mem.bytes, relaxed);
        const struct weir__cursor_config config = reader_config(reader);
        reader_open(reader, WEIR_LSN_OLDEST);
        assert_int_equal(weir__load(&reader->mem.bytes, relaxed) - before,
                         weir__cursor_memory(&config));
        expect_records(reader, 0, reader->log.record_count);
        assert_true(weir__load(&reader->mem.bytes, relaxed) - before <=
                    weir__cursor_memory(&config) + BATCH_BYTES_MAX);
        reader_close(reader);
        assert_int_equal(weir__load(&reader->mem.bytes, relaxed), before);
    }
}

/* ---- seeking --------------------------------------------------------------------------------- */

/* Whatever LSN is asked for, the first record at or after it comes, and then the next ones. */
static void cursor_seeks_to_every_lsn(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    const weir_lsn end = reader->log.position.lsn + reader->log.block_bytes;
    for (weir_lsn lsn = 0; lsn <= end; lsn += EVERY_LSN) {
        reader_open(reader, lsn);
        assert_true(weir__cursor_lsn(reader->cursor) >= lsn);
        const size_t first = log_builder_find(&reader->log, lsn);
        for (size_t i = first; i < reader->log.record_count && i < first + 2; i++) {
            expect_record(reader, i);
        }
        if (first == reader->log.record_count) {
            expect_end(reader);
        }
    }
    reader_open(reader, UINT64_MAX);
    expect_end(reader);
}

/* The same where the log ends in every possible place. */
static void cursor_seeks_below_every_limit(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    const weir_lsn end = reader->log.position.lsn;
    for (size_t i = 0; i < reader->log.batch_count; i++) {
        const weir_lsn limit = reader->log.batches[i].end;
        for (int level = 0; level < LEVELS; level++) {
            reader->limits[level] = limit;
        }
        for (weir_lsn lsn = 0; lsn <= end + 512; lsn += 200) {
            reader_open(reader, lsn);
            expect_first(reader, lsn, records_below(reader, limit));
        }
    }
}

/* A cursor in front of the end shows what comes when it comes, and nothing that lies below the
 * start. */
static void cursor_waits_for_a_start_that_is_not_there_yet(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    const size_t count = reader->log.record_count;
    for (size_t i = 0; i < reader->log.batch_count; i++) {
        for (size_t wanted = 0; wanted < count; wanted += 3) {
            for (int level = 0; level < LEVELS; level++) {
                reader->limits[level] = reader->log.batches[i].end;
            }
            reader_open(reader, reader->log.records[wanted].lsn - 1);
            if (records_below(reader, reader->limits[0]) <= wanted) {
                expect_end(reader);
            }
            reader_catch_up(reader);
            expect_records(reader, wanted, count);
        }
    }
}

static void cursor_reads_an_empty_log_when_it_fills(void **state)
{
    struct reader *const reader = *state;
    for (int prepared = 0; prepared < 2; prepared++) {
        for (weir_lsn first = 0; first < 2; first++) {
            const struct log_builder_config config = {.first_lsn = first * 1024 * 1024};
            if (prepared + (int)first > 0) {
                reader_again(reader);
            }
            log_builder_init(&reader->log, &config);
            log_builder_prepare(&reader->log, (size_t)prepared);
            reader_begin(reader);
            reader_open(reader, WEIR_LSN_OLDEST);
            expect_end(reader);
            log_builder_batch(&reader->log, 2, 10);
            expect_end(reader);
            reader_catch_up(reader);
            expect_records(reader, 0, 2);
        }
    }
}

/* Trims do not respect batches: nothing below the oldest LSN is shown, and its segment is enough
 * to start from. */
static void cursor_starts_at_an_oldest_in_the_middle(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    const size_t count = reader->log.record_count;
    for (weir_lsn oldest = 0; oldest < reader->log.position.lsn; oldest += 8) {
        reader->oldest = oldest;
        while (reader->log.segments[0].end <= oldest) {
            log_builder_remove(&reader->log, reader->log.segments[0]);
            assert_int_equal(reader_refresh(reader), 0);
        }
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_first(reader, oldest, count);
        if (oldest > 0) {
            assert_int_equal(reader_try_open(reader, oldest - 1), oldest == 1 ? 0 : WEIR_EPASSED);
            if (oldest > 1) {
                assert_int_equal(reader->fault.code, WEIR_EPASSED);
                assert_int_equal(reader->fault.lsn, oldest);
            }
        }
        reader_open(reader, oldest + 1);
        expect_first(reader, oldest + 1, count);
    }
    /* Everything trimmed, the next segment not there yet. */
    reader->oldest = reader->log.position.lsn;
    reader_open(reader, WEIR_LSN_OLDEST);
    expect_end(reader);
    log_builder_batch(&reader->log, 1, 1);
    reader_catch_up(reader);
    expect_record(reader, count);
}

/* The oldest LSN moves between the first look and the reading. */
static void cursor_starts_at_the_new_oldest_when_trimmed_meanwhile(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    reader->oldest_later = reader->log.segments[1].base;
    log_builder_remove(&reader->log, reader->log.segments[0]);
    assert_int_equal(reader_refresh(reader), 0);
    reader_open(reader, WEIR_LSN_OLDEST);
    expect_record(reader, log_builder_find(&reader->log, reader->oldest_later));
    for (reader->oldest_after = 0; reader->oldest_after < 4; reader->oldest_after++) {
        reader->oldest_asked = 0;
        assert_int_equal(reader_try_open(reader, 600), WEIR_EPASSED);
        assert_int_equal(reader->fault.lsn, reader->oldest_later);
        reader->oldest_asked = 0;
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_record(reader, log_builder_find(&reader->log, reader->oldest_later));
    }
}

/* ---- limits, levels, memory ------------------------------------------------------------------ */

static void cursor_shows_nothing_above_the_limit_of_its_level(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    for (int level = 0; level < LEVELS; level++) {
        reader->level = (enum weir_level)level;
        reader_catch_up(reader);
        for (int below = 0; below <= level; below++) {
            reader->limits[below] = reader->log.first_lsn;
        }
        if (level == WEIR_APPENDED) {
            reader->limits[WEIR_WRITTEN] = reader->log.position.lsn;
        }
        reader_open(reader, WEIR_LSN_OLDEST);
        size_t shown = 0;
        for (weir_lsn limit = 0; limit <= reader->log.position.lsn; limit += 128) {
            bool boundary = false;
            for (size_t i = 0; i < reader->log.batch_count; i++) {
                boundary = boundary || reader->log.batches[i].end == limit;
            }
            if (!boundary && level != WEIR_APPENDED) {
                continue; /* only that one may lie inside a batch */
            }
            reader->limits[level] = limit;
            const size_t below = records_below(reader, limit);
            expect_records(reader, shown, below);
            shown = below;
        }
        assert_int_equal(shown, reader->log.record_count);
    }
}

/* Of the levels whose limits are ends of batches, one that is not is told: somebody named a position
 * that is not the log's. Waiting for the rest would be waiting for ever. */
static void cursor_tells_a_limit_that_is_no_batchs_end(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    for (int level = WEIR_DURABLE; level <= WEIR_WRITTEN; level++) {
        reader->level = (enum weir_level)level;
        for (size_t i = 0; i < reader->log.batch_count; i++) {
            const struct log_builder_batch *const batch = &reader->log.batches[i];
            if (batch->end - batch->header.lsn <= reader->log.block_bytes) {
                continue;
            }
            reader_catch_up(reader);
            for (int below = 0; below <= level; below++) {
                reader->limits[below] = batch->header.lsn + reader->log.block_bytes;
            }
            reader_open(reader, WEIR_LSN_OLDEST);
            const size_t before = records_below(reader, batch->header.lsn);
            for (size_t j = 0; j < before; j++) {
                expect_record(reader, j);
            }
            struct weir_entry entry;
            assert_int_equal(reader_next(reader, &entry), WEIR_ECORRUPT);
            assert_int_equal(weir__cursor_fault(reader->cursor)->code, WEIR_ECORRUPT);
            assert_int_equal(weir__cursor_fault(reader->cursor)->lsn, batch->header.lsn);
            /* The same on the way to its records. */
            assert_int_equal(reader_try_open(reader, batch->header.lsn), WEIR_ECORRUPT);
            assert_int_equal(reader->fault.lsn, batch->header.lsn);
        }
    }
}

/* Batches that are in no file yet come from memory, and what stands in their place on disk is
 * not looked at. */
static void cursor_prefers_batches_in_memory(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    const size_t written = reader->log.record_count;
    const weir_lsn written_lsn = reader->log.position.lsn;
    reader->log.hold = true;
    build_all(&reader->log);
    const weir_lsn held_lsn = reader->log.batches[reader->log.batch_count - 1].segment.base;
    log_builder_noise(&reader->log, held_lsn + 512, held_lsn + 1024, 1);
    reader_begin(reader);
    reader->memory = true;
    for (int level = 0; level < LEVELS; level++) {
        reader->level = (enum weir_level)level;
        reader_catch_up(reader);
        reader->limits[WEIR_DURABLE] = written_lsn;
        reader->limits[WEIR_WRITTEN] =
            level >= WEIR_APPENDED ? written_lsn : reader->log.position.lsn;
        const size_t end = level == WEIR_DURABLE ? written : reader->log.record_count;
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_records(reader, 0, end);
        struct weir__cursor_counts counts;
        weir__cursor_counts(reader->cursor, &counts);
        assert_int_equal(counts.memory_batches > 0, level != WEIR_DURABLE);
        /* And seeking into what is in memory only. */
        for (weir_lsn lsn = written_lsn - 1024; lsn < reader->log.position.lsn + 512; lsn += 24) {
            reader_open(reader, lsn);
            expect_first(reader, lsn, end);
        }
    }
    /* They leave memory for the files, one after the other, while the cursor reads. */
    reader->level = WEIR_APPENDED;
    reader_open(reader, WEIR_LSN_OLDEST);
    for (size_t i = 0; i < reader->log.record_count; i++) {
        expect_record(reader, i);
        if (i % 4 == 3) {
            log_builder_flush(&reader->log, 1);
            for (size_t j = 0; j < reader->log.batch_count && reader->log.batches[j].written; j++) {
                reader->limits[WEIR_WRITTEN] = reader->log.batches[j].end;
            }
        }
    }
    expect_end(reader);
}

/* A log of which nothing has reached a file. */
static void cursor_reads_a_log_that_is_only_in_memory(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    reader->log.hold = true;
    build_all(&reader->log);
    reader_begin(reader);
    reader->memory = true;
    reader->level = WEIR_APPENDED;
    reader->limits[WEIR_DURABLE] = reader->log.first_lsn;
    reader->limits[WEIR_WRITTEN] = reader->log.first_lsn;
    for (weir_lsn lsn = 0; lsn < reader->log.position.lsn; lsn += 16) {
        reader_open(reader, lsn);
        expect_first(reader, lsn, reader->log.record_count);
    }
    reader_open(reader, WEIR_LSN_OLDEST);
    expect_records(reader, 0, reader->log.record_count);
    struct weir__cursor_counts counts;
    weir__cursor_counts(reader->cursor, &counts);
    assert_int_equal(counts.reads, 0);
}

/* A batch in memory is verified like any other. */
static void cursor_does_not_trust_memory(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    log_builder_batch(&reader->log, 1, 50);
    reader->log.hold = true;
    log_builder_batch(&reader->log, 3, 50);
    reader_begin(reader);
    reader->memory = true;
    struct log_builder_batch *const batch = &reader->log.batches[1];
    for (size_t i = 0; i < WEIR__BATCH_HEADER_BYTES + batch->header.bytes; i++) {
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_record(reader, 0);
        batch->image[i] ^= 0x40;
        struct weir_entry entry;
        assert_int_equal(reader_next(reader, &entry), WEIR_ECORRUPT);
        batch->image[i] ^= 0x40;
        expect_records(reader, 1, 4);
    }
    /* Nor a batch of another length than its header says. */
    for (reader->memory_cut = 1; reader->memory_cut < 200; reader->memory_cut += 30) {
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_record(reader, 0);
        expect_fault(reader, WEIR_ECORRUPT);
    }
}

/* Whichever allocation fails: said so, nothing leaks, and the next call can do it. */
static void cursor_does_without_memory_that_is_not_there(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader->batch_bytes = 64;
    reader_begin(reader);
    for (int memory = 0; memory < 2; memory++) {
        reader->memory = memory == 1;
        reader->memory_all = true;
        int failed = 0;
        for (unsigned number = 1; number <= 12; number++) {
            const uint64_t before = weir__load(&reader->mem.bytes, relaxed);
            reader->allocations = 0;
            reader->allocation_fails = number;
            const int result = reader_try_open(reader, WEIR_LSN_OLDEST);
            if (result != 0) {
                assert_int_equal(result, -ENOMEM);
                assert_int_equal(reader->fault.code, -ENOMEM);
                assert_int_equal(weir__load(&reader->mem.bytes, relaxed), before);
                failed++;
                continue;
            }
            for (size_t i = 0; i < reader->log.record_count;) {
                struct weir_entry entry;
                const int next = reader_next(reader, &entry);
                if (next != 0) {
                    assert_int_equal(next, -ENOMEM);
                    assert_int_equal(weir__cursor_fault(reader->cursor)->code, -ENOMEM);
                    failed++;
                    continue;
                }
                assert_true(same_record(&entry, &reader->log.records[i]));
                i++;
            }
            expect_end(reader);
            reader_close(reader);
        }
        assert_true(failed >= 5 + memory);
    }
}

static void cursor_grows_its_buffer_up_to_the_bound(void **state)
{
    struct reader *const reader = *state;
    const struct log_builder_config config = {.segment_bytes = UINT64_C(4) * 1024 * 1024};
    log_builder_init(&reader->log, &config);
    log_builder_batch(&reader->log, 1, 10);
    log_builder_batch(&reader->log, 1, 700 * (size_t)1024);
    log_builder_batch(&reader->log, 1, 1500 * (size_t)1024);
    log_builder_batch(&reader->log, 1, 10);
    reader_begin(reader);
    for (int memory = 0; memory < 2; memory++) {
        reader->memory = memory == 1;
        reader->memory_all = true;
        reader->batch_bytes = 0;
        reader->batch_bytes_max = 1501 * (size_t)1024;
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_records(reader, 0, 4);
        /* A header that asks for more than there can be is corrupt, not a reason to allocate. */
        reader->batch_bytes_max = 1000 * (size_t)1024;
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_record(reader, 0);
        expect_record(reader, 1);
        const uint64_t before = weir__load(&reader->mem.bytes, relaxed);
        expect_fault(reader, WEIR_ECORRUPT);
        assert_int_equal(weir__load(&reader->mem.bytes, relaxed), before);
    }
}

/* ---- waiting --------------------------------------------------------------------------------- */

static int wait_then_catch_up(struct reader *reader, weir_lsn above)
{
    (void)above;
    if (reader->waited < 5) {
        return 0; /* for no reason */
    }
    reader_catch_up(reader);
    return 0;
}

static int wait_shut_down(struct reader *reader, weir_lsn above)
{
    (void)reader;
    (void)above;
    return WEIR_ESHUTDOWN;
}

static int wait_shut_down_after_more(struct reader *reader, weir_lsn above)
{
    (void)above;
    reader_catch_up(reader);
    return WEIR_ESHUTDOWN;
}

static int wait_fail(struct reader *reader, weir_lsn above)
{
    (void)reader;
    (void)above;
    return WEIR_EFAILED;
}

static void cursor_waits_at_the_end(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    log_builder_batch(&reader->log, 1, 10);
    reader_begin(reader);
    const weir_lsn end = reader->log.position.lsn;
    log_builder_batch(&reader->log, 1, 10);
    struct weir_entry entry;

    reader_open(reader, WEIR_LSN_OLDEST);
    expect_record(reader, 0);
    assert_int_equal(weir__cursor_next(reader->cursor, 12345, &entry), WEIR_EEND);
    assert_int_equal(reader->waited, 1);
    assert_int_equal(reader->wait_above, end);
    assert_int_equal(reader->wait_deadline, 12345);

    reader->wait_script = wait_shut_down;
    assert_int_equal(weir__cursor_next(reader->cursor, WEIR__NEVER, &entry), WEIR_EEND);
    assert_int_equal(reader->waited, 2);
    assert_int_equal(weir__cursor_fault(reader->cursor)->code, 0);

    reader->wait_script = wait_fail;
    assert_int_equal(weir__cursor_next(reader->cursor, WEIR__NEVER, &entry), WEIR_EFAILED);
    assert_int_equal(weir__cursor_fault(reader->cursor)->code, WEIR_EFAILED);

    reader->waited = 0;
    reader->wait_script = wait_then_catch_up;
    assert_int_equal(weir__cursor_next(reader->cursor, WEIR__NEVER, &entry), 0);
    assert_true(same_record(&entry, &reader->log.records[1]));
    assert_int_equal(reader->waited, 5);

    /* What came with the last breath is still shown. */
    log_builder_batch(&reader->log, 1, 10);
    reader->wait_script = wait_shut_down_after_more;
    assert_int_equal(weir__cursor_next(reader->cursor, WEIR__NEVER, &entry), 0);
    assert_true(same_record(&entry, &reader->log.records[2]));
    assert_int_equal(weir__cursor_next(reader->cursor, WEIR__NEVER, &entry), WEIR_EEND);
}

static int wait_poll(struct reader *reader, weir_lsn above)
{
    if (above < reader->limits[reader->level]) {
        return -EDOM; /* the cursor would spin */
    }
    if (reader->waited == 3) {
        log_builder_flush(&reader->log, 1);
        reader->limits[WEIR_WRITTEN] = reader->log.batches[reader->log.batch_count - 1].end;
    }
    return -ETIMEDOUT;
}

/* A limit in the middle of things: the cursor looks again now and then, up to its own deadline. */
static void cursor_polls_while_the_limit_lies_inside_a_batch(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    log_builder_batch(&reader->log, 1, 10);
    reader_begin(reader);
    reader->log.hold = true;
    log_builder_batch(&reader->log, 1, 1000);
    reader->level = WEIR_APPENDED;
    reader->limits[WEIR_APPENDED] = reader->log.position.lsn;
    struct weir_entry entry;

    reader_open(reader, WEIR_LSN_OLDEST);
    expect_record(reader, 0);
    assert_int_equal(weir__cursor_next(reader->cursor, 77, &entry), WEIR_EEND);
    assert_int_equal(reader->wait_deadline, 77);
    assert_int_equal(reader->waited, 1);

    reader->waited = 0;
    reader->wait_script = wait_poll;
    assert_int_equal(weir__cursor_next(reader->cursor, WEIR__NEVER, &entry), 0);
    assert_true(same_record(&entry, &reader->log.records[1]));
    assert_int_equal(reader->waited, 3);
    assert_true(reader->wait_deadline < WEIR__NEVER);
}

static void cursor_tells_what_it_needs_no_more(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    const struct log_builder_record *const middle = &reader->log.records[5];
    reader_open(reader, middle->lsn);
    assert_int_equal(reader->moved, reader->log.batches[middle->batch].header.lsn);
    for (size_t i = 5; i < reader->log.record_count; i++) {
        expect_record(reader, i);
        assert_int_equal(reader->moved,
                         reader->log.batches[reader->log.records[i].batch].header.lsn);
    }
    expect_end(reader);
    assert_int_equal(reader->moved, reader->log.position.lsn);
    /* Once per batch, not once per record or look. */
    assert_true(reader->moved_count <= 2 * reader->log.batch_count + 2);
    const unsigned count = reader->moved_count;
    expect_end(reader);
    assert_int_equal(reader->moved_count, count);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Reads all from the beginning. Every record that is shown is the right one. Returns how many
 * came, *code_out what came then. */
static size_t read_all(struct reader *reader, int *code_out)
{
    struct weir_entry entry;
    size_t count = 0;
    *code_out = reader_try_open(reader, WEIR_LSN_OLDEST);
    while (*code_out == 0) {
        *code_out = reader_next(reader, &entry);
        if (*code_out == 0) {
            assert_true(count < reader->log.record_count);
            assert_true(same_record(&entry, &reader->log.records[count]));
            count++;
        }
    }
    return count;
}

/* One bit of one byte, for every byte but some of long payloads and of what nobody reads: what
 * lies in front is shown, the batch is not, or nothing of the segment whose header it is, and the
 * fault names it. */
static void cursor_finds_every_flipped_byte(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    const struct log_builder *const log = &reader->log;
    for (size_t s = 0; s < log->segment_count; s++) {
        const struct weir__range range = log->segments[s];
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(range.base, range.end, name);
        weir_lsn step = 1;
        for (weir_lsn lsn = range.base; lsn < range.end; lsn += step) {
            size_t hit = 0; /* the batch that it belongs to */
            while (hit < log->batch_count &&
                   !(lsn >= log->batches[hit].header.lsn && lsn < log->batches[hit].end)) {
                hit++;
            }
            const bool header = lsn < range.base + WEIR__SEGMENT_HEADER_BYTES;
            if (header) { /* the segment's first batch is the first that is not shown */
                hit = 0;
                while (hit < log->batch_count && log->batches[hit].header.lsn < range.base) {
                    hit++;
                }
            }
            const bool far =
                !header && (hit == log->batch_count || (lsn > log->batches[hit].header.lsn + 400 &&
                                                        lsn + 100 < log->batches[hit].end));
            step = far ? 23 : EVERY_LSN;
            const bool gap =
                hit < log->batch_count && (log->batches[hit].header.flags & WEIR__BATCH_GAP) != 0;
            const bool harmless =
                hit == log->batch_count ||
                (gap && !header && lsn >= log->batches[hit].header.lsn + WEIR__BATCH_HEADER_BYTES);
            log_builder_flip(&reader->log, lsn, (uint8_t)(1u << (lsn % 8)));
            int code = 0;
            const size_t count = read_all(reader, &code);
            if (harmless || (!header && log->batches[hit].header.bytes == 0)) {
                /* A skip's payload means nothing; a gap's inside neither. */
                assert_true(!harmless || (code == WEIR_EEND && count == log->record_count));
            }
            if (!harmless && !header && code == WEIR_EEND) {
                /* Only the payload of a skip is not covered by a checksum. */
                assert_int_equal(count, log->record_count);
                const uint8_t *const image = log->batches[hit].image;
                size_t at = WEIR__BATCH_HEADER_BYTES;
                bool skip = false;
                while (at < WEIR__BATCH_HEADER_BYTES + log->batches[hit].header.bytes) {
                    uint32_t bytes;
                    memcpy(&bytes, image + at, sizeof bytes);
                    const size_t offset = (size_t)(lsn - log->batches[hit].header.lsn);
                    if (image[at + 16] == WEIR__FRAME_SKIP &&
                        offset >= at + WEIR__FRAME_HEADER_BYTES &&
                        offset < at + WEIR__FRAME_HEADER_BYTES + bytes) {
                        skip = true;
                    }
                    at += (size_t)weir__frame_span(bytes);
                }
                assert_true(skip);
            } else if (!harmless) {
                assert_int_equal(code, WEIR_ECORRUPT);
                size_t before = 0;
                while (before < log->record_count && log->records[before].batch < hit) {
                    before++;
                }
                assert_int_equal(count, before);
                const struct weir__fault *const fault =
                    reader->cursor != NULL ? weir__cursor_fault(reader->cursor) : &reader->fault;
                assert_string_equal(fault->file, name);
                assert_true(header ? fault->lsn == range.base
                                   : fault->lsn >= log->batches[hit].header.lsn &&
                                         fault->lsn < log->batches[hit].end);
                assert_int_equal(fault->offset, fault->lsn - range.base);
                assert_true(fault->text[0] != '\0');
            }
            log_builder_flip(&reader->log, lsn, (uint8_t)(1u << (lsn % 8)));
            if (reader->cursor != NULL && code == WEIR_ECORRUPT) {
                /* The position is unchanged: mended, it goes on. */
                expect_records(reader, count, log->record_count);
            }
        }
    }
}

/* A segment's header that is sound and not the one that belongs there; then the log goes on as if
 * nothing had been. */
static void cursor_refuses_a_header_that_is_not_this_segments(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    struct log_builder *const log = &reader->log;
    const struct weir__range range = log->segments[1];
    size_t before = 0;
    while (log->batches[log->records[before].batch].header.lsn < range.base) {
        before++;
    }
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    uint8_t right[WEIR__SEGMENT_HEADER_BYTES];
    log_builder_peek(log, range.base, right, sizeof right);
    for (int field = 0; field < 5; field++) {
        struct weir__segment_header header;
        uint8_t wrong[WEIR__SEGMENT_HEADER_BYTES];
        assert_int_equal(weir__segment_header_decode(right, &header, NULL), 0);
        int code = WEIR_ECORRUPT;
        switch (field) {
        case 0:
            header.log_id++;
            break;
        case 1:
            header.base += header.bytes;
            break;
        case 2:
            header.bytes += log->block_bytes;
            break;
        case 3:
            header.block_bytes *= 2;
            break;
        default: /* of a build to come */
            code = WEIR_EFORMAT;
            break;
        }
        weir__segment_header_encode(&header, wrong);
        if (field == 4) {
            weir__put_u32(wrong + 8, 2);
            weir__put_u32(wrong + 4, weir__crc32c(0, wrong + 8, sizeof wrong - 8));
        }
        reader_open(reader, WEIR_LSN_OLDEST);
        log_builder_poke(&reader->log, range.base, wrong, sizeof wrong);
        for (size_t i = 0; i < before; i++) {
            expect_record(reader, i);
        }
        expect_fault(reader, code);
        const struct weir__fault *const fault = weir__cursor_fault(reader->cursor);
        assert_string_equal(fault->file, name);
        assert_int_equal(fault->lsn, range.base);
        assert_int_equal(fault->offset, 0);
        assert_int_equal(reader_try_open(reader, range.base + 600), code);
        assert_int_equal(reader->fault.lsn, range.base);
        log_builder_poke(&reader->log, range.base, right, sizeof right);
        reader_open(reader, range.base);
        expect_records(reader, before, log->record_count);
    }
    /* Or that cannot be read. */
    reader->bad_error = -EIO;
    reader->bad_offset = 0;
    reader->bad_times = UINT32_MAX;
    assert_int_equal(reader_try_open(reader, range.base), WEIR_EUNREADABLE);
    assert_string_equal(reader->fault.file, name);
    assert_int_equal(reader->fault.lsn, range.base);
    assert_int_equal(reader->fault.system_code, EIO);
}

/* Blocks of noise, zeros or other blocks of the same log, anywhere: right records or none. */
static void cursor_never_shows_wrong_bytes(void **state)
{
    struct reader *const reader = *state;
    uint64_t dice = seed_base + 4711;
    for (uint64_t seed = seed_base; seed < seed_base + 20; seed++) {
        if (seed > seed_base) {
            reader_again(reader);
        }
        log_builder_init(&reader->log, NULL);
        build_random(&reader->log, seed, 50);
        reader_begin(reader);
        struct log_builder *const log = &reader->log;
        for (int i = 0; i < 60; i++) {
            const struct weir__range range =
                log->segments[log_builder_random(&dice) % log->segment_count];
            const uint64_t bytes = range.end - range.base;
            const weir_lsn from = range.base + log_builder_random(&dice) % (bytes - 1);
            const weir_lsn to = from + 1 + log_builder_random(&dice) % (range.end - from);
            uint8_t *const before = malloc(bytes);
            assert_non_null(before);
            log_builder_peek(log, range.base, before, bytes);
            switch (i % 4) {
            case 0:
                log_builder_noise(log, from, to, dice);
                break;
            case 1:
                log_builder_fill(log, from, to, 0);
                break;
            case 2: /* the whole segment moved by a block */
                log_builder_poke(log, range.base + 512, before, bytes - 512);
                break;
            default: { /* a block of another segment */
                const struct weir__range other =
                    log->segments[log_builder_random(&dice) % log->segment_count];
                uint8_t block[512];
                const uint64_t offset = weir__align_down(from - range.base, 512);
                log_builder_peek(log, other.base + offset, block, sizeof block);
                log_builder_poke(log, range.base + offset, block, sizeof block);
                break;
            }
            }
            reader->read_ahead = i % 2 == 1;
            int code = 0;
            const size_t count = read_all(reader, &code);
            assert_true(code == WEIR_ECORRUPT || (code == WEIR_EEND && count == log->record_count));
            /* From anywhere else too. */
            const weir_lsn start = log_builder_random(&dice) % (log->position.lsn + 1);
            int result = reader_try_open(reader, start);
            size_t index = log_builder_find(log, start);
            struct weir_entry entry;
            while (result == 0) {
                result = reader_next(reader, &entry);
                if (result == 0) {
                    assert_true(index < log->record_count);
                    assert_true(same_record(&entry, &log->records[index]));
                    index++;
                }
            }
            assert_true(result == WEIR_ECORRUPT || result == WEIR_EEND);
            log_builder_poke(log, range.base, before, bytes);
            free(before);
        }
    }
}

/* What was read in the middle of somebody's write is right the next time: no error. */
static void cursor_looks_again_before_it_complains(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    for (int j = 0; j < 5; j++) { /* all in one file: the device is bad at an offset in any */
        log_builder_batch(&reader->log, 2, 200);
    }
    reader_begin(reader);
    for (unsigned times = 1; times <= 3; times++) {
        for (uint64_t offset = 512; offset < 2048; offset += 100) {
            reader_open(reader, WEIR_LSN_OLDEST); /* reads the first header */
            reader_close(reader);
            reader->bad_offset = offset;
            reader->bad_times = times;
            int code = 0;
            const size_t count = read_all(reader, &code);
            assert_int_equal(reader->bad_times, 0);
            if (times < 3) {
                assert_int_equal(code, WEIR_EEND);
                assert_int_equal(count, reader->log.record_count);
            } else {
                assert_int_equal(code, WEIR_ECORRUPT);
            }
        }
    }
}

static void cursor_names_a_block_that_cannot_be_read(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    const struct log_builder_batch *const first = &reader->log.batches[0];
    const struct log_builder_batch *const second = &reader->log.batches[1];
    reader_open(reader, WEIR_LSN_OLDEST);
    reader_close(reader);
    reader->bad_error = -EIO;
    reader->bad_offset = second->header.lsn - second->segment.base + 100;
    reader->bad_times = UINT32_MAX;
    reader_open(reader, WEIR_LSN_OLDEST);
    for (size_t i = 0; i < first->header.records; i++) {
        expect_record(reader, i);
    }
    expect_fault(reader, WEIR_EUNREADABLE);
    const struct weir__fault *const fault = weir__cursor_fault(reader->cursor);
    assert_int_equal(fault->offset, second->header.lsn - second->segment.base);
    assert_int_equal(fault->lsn, second->header.lsn);
    /* Not retried in a hurry, but the next call does look again. */
    reader->bad_times = 0;
    expect_records(reader, first->header.records, reader->log.record_count);
    /* Below the oldest LSN nobody minds. */
    reader_open(reader, WEIR_LSN_OLDEST);
    expect_record(reader, 0);
    reader->bad_times = UINT32_MAX;
    reader_close(reader);
    reader->bad_offset = 600;
    assert_int_equal(reader_try_open(reader, WEIR_LSN_OLDEST), WEIR_EUNREADABLE);
    assert_int_equal(reader->fault.code, WEIR_EUNREADABLE);
    reader->oldest_asked = 0;
    reader->oldest_later = reader->log.position.lsn;
    assert_int_equal(reader_try_open(reader, 520), WEIR_EPASSED);
}

static void cursor_misses_a_segment_in_the_middle(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    const struct weir__range second = reader->log.segments[1];
    const struct weir__range last = reader->log.segments[reader->log.segment_count - 1];
    const struct weir__range elsewhere = {last.end, last.end + (second.end - second.base)};
    log_builder_recycle(&reader->log, second, elsewhere, false);
    const size_t here = log_builder_find(&reader->log, second.base);
    /* The list still has it, or has it no more: either way the log is damaged. */
    for (int i = 0; i < 2; i++) {
        reader->no_refresh = i == 0;
        reader_open(reader, WEIR_LSN_OLDEST);
        for (size_t j = 0; j < here; j++) {
            expect_record(reader, j);
        }
        expect_fault(reader, WEIR_ECORRUPT);
        assert_int_equal(reader_try_open(reader, second.base + 600), WEIR_ECORRUPT);
        assert_int_equal(reader->fault.code, WEIR_ECORRUPT);
        reader_open(reader, second.end);
        expect_record(reader, log_builder_find(&reader->log, second.end));
        assert_int_equal(reader_refresh(reader), 0);
    }
    /* Unless all that was trimmed. */
    reader_open(reader, WEIR_LSN_OLDEST);
    for (size_t j = 0; j < here; j++) {
        expect_record(reader, j);
    }
    reader->oldest = second.end;
    expect_fault(reader, WEIR_EPASSED);
    assert_int_equal(weir__cursor_fault(reader->cursor)->lsn, second.end);
    reader_open(reader, WEIR_LSN_OLDEST);
    expect_record(reader, log_builder_find(&reader->log, second.end));
}

/* The file under the cursor becomes another segment. Until the log says that the position was
 * trimmed this is damage, and never are the new bytes shown. */
static void cursor_is_passed_when_its_file_is_recycled(void **state)
{
    struct reader *const reader = *state;
    const size_t bytes = 30000;
    const struct log_builder_config config = {.segment_bytes = UINT64_C(6) * 1024 * 1024};
    reader->batch_bytes_max = 4 * bytes;
    for (size_t ahead = 0; ahead < 2; ahead++) {
        if (ahead > 0) {
            reader_again(reader);
        }
        log_builder_init(&reader->log, &config);
        struct log_builder *const log = &reader->log;
        while (log->segment_count < 3) {
            log_builder_batch(log, 2, bytes);
        }
        reader_begin(reader);
        reader->read_ahead = ahead == 1;
        const struct weir__range first = log->segments[0];
        const weir_lsn end = log->segments[log->segment_count - 1].end;
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_record(reader, 0);
        log_builder_recycle(log, first, (struct weir__range){end, end + log->segment_bytes}, true);
        while (log->position.lsn < end + log->segment_bytes - 4 * bytes) {
            log_builder_batch(log, 2, bytes); /* new batches over the old bytes */
        }
        assert_int_equal(reader_refresh(reader), 0);
        struct weir_entry entry;
        size_t shown = 1;
        int result;
        while ((result = reader_next(reader, &entry)) == 0) {
            /* What was fetched before is still good. */
            assert_true(same_record(&entry, &log->records[shown]));
            shown++;
        }
        assert_int_equal(result, WEIR_ECORRUPT);
        assert_true(log->records[shown].lsn < first.end);
        reader->oldest = first.end;
        expect_fault(reader, WEIR_EPASSED);
        assert_int_equal(weir__cursor_fault(reader->cursor)->lsn, first.end);
        reader_catch_up(reader);
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_records(reader, log_builder_find(log, first.end), log->record_count);
    }
}

/* Trimmed to the end of a segment while the cursor stands there: nothing was missed, so it goes
 * on. */
static void cursor_goes_on_behind_a_segment_that_is_gone(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    log_builder_batch(&reader->log, 3, 100);
    const size_t first = reader->log.record_count;
    log_builder_rotate(&reader->log);
    log_builder_batch(&reader->log, 3, 100);
    reader_begin(reader);
    reader_open(reader, WEIR_LSN_OLDEST);
    for (size_t i = 0; i < first; i++) {
        expect_record(reader, i);
    }
    log_builder_remove(&reader->log, reader->log.segments[0]);
    assert_int_equal(reader_refresh(reader), 0);
    reader->oldest = reader->log.segments[0].base;
    expect_records(reader, first, reader->log.record_count);
}

/* Segments that another process adds are found by loading the list again. */
static void cursor_renews_the_list_of_segments(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    log_builder_batch(&reader->log, 1, 100);
    reader_begin(reader);
    reader_open(reader, WEIR_LSN_OLDEST);
    expect_record(reader, 0);
    for (int i = 0; i < 30; i++) {
        log_builder_batch(&reader->log, 1, 900);
    }
    reader_catch_up(reader);
    expect_records(reader, 1, 31);
    assert_int_equal(reader->refreshed, 1);
    /* Without a way to do that the segment is simply missing. */
    reader->no_refresh = true;
    reader_open(reader, reader->log.position.lsn);
    expect_end(reader);
    log_builder_rotate(&reader->log);
    log_builder_batch(&reader->log, 1, 10);
    reader_catch_up(reader);
    expect_fault(reader, WEIR_ECORRUPT);
    assert_int_equal(reader_refresh(reader), 0);
    expect_record(reader, 31);
}

static void cursor_tells_a_truncated_file(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    build_all(&reader->log);
    reader_begin(reader);
    reader_open(reader, WEIR_LSN_OLDEST);
    expect_record(reader, 0);
    reader_close(reader);
    log_builder_truncate(&reader->log, reader->log.segments[0], 700);
    assert_int_equal(reader_try_open(reader, WEIR_LSN_OLDEST), WEIR_ECORRUPT);
    assert_true(reader->fault.file[0] != '\0');
}

/* ---- epochs ---------------------------------------------------------------------------------- */

static void cursor_tells_a_cut_below_its_position(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    reader->level = WEIR_WRITTEN;
    for (int i = 0; i < 6; i++) {
        log_builder_batch(&reader->log, 2, 200);
    }
    reader_begin(reader);
    const weir_lsn cut = reader->log.batches[3].end;
    for (size_t read = 0; read <= 12; read++) {
        if (read > 0) {
            reader_again(reader);
            log_builder_init(&reader->log, NULL);
            for (int i = 0; i < 6; i++) {
                log_builder_batch(&reader->log, 2, 200);
            }
            reader_begin(reader);
        }
        reader->limits[WEIR_DURABLE] = cut;
        reader_open(reader, WEIR_LSN_OLDEST);
        for (size_t i = 0; i < read; i++) {
            expect_record(reader, i);
        }
        log_builder_cut(&reader->log, cut);
        log_builder_batch(&reader->log, 1, 30);
        reader_catch_up(reader);
        if (read <= 8) {
            /* All that was read is still there: on into the new epoch. */
            expect_records(reader, read, 9);
            continue;
        }
        if (read % 2 == 1) {
            /* The rest of the batch in hand was taken while it was good. */
            struct weir_entry entry;
            assert_int_equal(reader_next(reader, &entry), 0);
            assert_int_equal(entry.epoch, 1);
        }
        for (int i = 0; i < 2; i++) {
            expect_fault(reader, WEIR_EEPOCH);
            assert_int_equal(weir__cursor_fault(reader->cursor)->lsn, cut);
        }
    }
}

/* The window has bytes of the old epoch from above the cut: they are read anew, not held against
 * the log. */
static void cursor_drops_what_it_read_ahead_of_a_cut(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    reader->level = WEIR_WRITTEN;
    for (int i = 0; i < 6; i++) {
        log_builder_batch(&reader->log, 1, 200);
    }
    reader_begin(reader);
    reader_open(reader, WEIR_LSN_OLDEST);
    expect_record(reader, 0);
    expect_record(reader, 1);
    log_builder_cut(&reader->log, reader->log.batches[2].end);
    log_builder_batch(&reader->log, 1, 100);
    log_builder_batch(&reader->log, 2, 10);
    reader_catch_up(reader);
    expect_records(reader, 2, reader->log.record_count);
}

/* A cut in front of sound batches, a first batch of the new epoch that does not fit there, and
 * then one more epoch, so that the control file no longer knows of the first cut. By the format
 * a batch without frames takes the place of the old ones. Where it does not, they still stand at
 * the position, and nothing is wrong with them but that the log went on elsewhere: the first
 * batch of the next segment tells. */
static void cursor_follows_a_cut_into_the_next_segment(void **state)
{
    struct reader *const reader = *state;
    for (int i = 0; i < 4; i++) {
        const bool torn = i % 2 == 1;
        if (i > 0) {
            reader_again(reader);
        }
        log_builder_init(&reader->log, NULL);
        reader->log.loose_epochs = i >= 2;
        log_builder_batch(&reader->log, 1, 4000);
        const weir_lsn cut = reader->log.position.lsn;
        log_builder_batch(&reader->log, 1, 200);
        log_builder_batch(&reader->log, 1, 200);
        if (torn) {
            log_builder_flip(&reader->log, cut + 200, 1); /* its header is good */
        }
        log_builder_cut(&reader->log, cut);
        log_builder_batch(&reader->log, 1, 5000);
        log_builder_epoch(&reader->log);
        log_builder_batch(&reader->log, 1, 10);
        reader_begin(reader);
        reader_open(reader, WEIR_LSN_OLDEST);
        expect_records(reader, 0, 3);
        reader_open(reader, cut);
        expect_records(reader, 1, 3);
    }
}

/* A cut that the cursor does not know of yet: nothing of the old epoch is shown above it. */
static void cursor_shows_nothing_stale(void **state)
{
    struct reader *const reader = *state;
    log_builder_init(&reader->log, NULL);
    for (int i = 0; i < 6; i++) {
        log_builder_batch(&reader->log, 1, 200);
    }
    const weir_lsn old_end = reader->log.position.lsn;
    const weir_lsn cut = reader->log.batches[2].end;
    log_builder_cut(&reader->log, cut);
    reader_begin(reader);
    /* A limit left over from before the cut. */
    for (int level = 0; level < LEVELS; level++) {
        reader->limits[level] = old_end;
    }
    int code = 0;
    assert_int_equal(read_all(reader, &code), 3);
    assert_int_equal(code, WEIR_ECORRUPT);
    reader_catch_up(reader);
    expect_end(reader);
    log_builder_batch(&reader->log, 1, 200);
    reader_catch_up(reader);
    expect_records(reader, 3, 4);
}

/* Another log's files, or a copy of this one that went its own way, have the same LSNs. */
static void cursor_refuses_another_log(void **state)
{
    struct reader *const reader = *state;
    const struct log_builder_config config = {.log_id = 77};
    log_builder_init(&reader->log, &config);
    build_all(&reader->log);
    reader_begin(reader);
    reader->log.log_id = 78;
    assert_int_equal(reader_try_open(reader, WEIR_LSN_OLDEST), WEIR_ECORRUPT);
    assert_int_equal(reader->fault.lsn, 0); /* the segment's header says so first */
    reader->log.log_id = 77;
    reader->newest.nonce++;
    int code = 0;
    const size_t count = read_all(reader, &code);
    assert_int_equal(code, WEIR_ECORRUPT);
    assert_true(count < reader->log.record_count);
}

#define CURSOR_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* --seed N: other random choices. */
int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
        seed_base = strtoull(argv[2], NULL, 0);
    }
    print_message("rerun with: %s --seed %llu\n", argv[0], (unsigned long long)seed_base);
    const struct CMUnitTest tests[] = {
        CURSOR_TEST(cursor_shows_every_record_in_order),
        CURSOR_TEST(cursor_shows_random_logs),
        CURSOR_TEST(cursor_tells_about_the_batch),
        CURSOR_TEST(cursor_allocates_what_it_says),
        CURSOR_TEST(cursor_seeks_to_every_lsn),
        CURSOR_TEST(cursor_seeks_below_every_limit),
        CURSOR_TEST(cursor_waits_for_a_start_that_is_not_there_yet),
        CURSOR_TEST(cursor_reads_an_empty_log_when_it_fills),
        CURSOR_TEST(cursor_starts_at_an_oldest_in_the_middle),
        CURSOR_TEST(cursor_starts_at_the_new_oldest_when_trimmed_meanwhile),
        CURSOR_TEST(cursor_shows_nothing_above_the_limit_of_its_level),
        CURSOR_TEST(cursor_tells_a_limit_that_is_no_batchs_end),
        CURSOR_TEST(cursor_prefers_batches_in_memory),
        CURSOR_TEST(cursor_reads_a_log_that_is_only_in_memory),
        CURSOR_TEST(cursor_does_not_trust_memory),
        CURSOR_TEST(cursor_does_without_memory_that_is_not_there),
        CURSOR_TEST(cursor_grows_its_buffer_up_to_the_bound),
        CURSOR_TEST(cursor_waits_at_the_end),
        CURSOR_TEST(cursor_polls_while_the_limit_lies_inside_a_batch),
        CURSOR_TEST(cursor_tells_what_it_needs_no_more),
        CURSOR_TEST(cursor_finds_every_flipped_byte),
        CURSOR_TEST(cursor_refuses_a_header_that_is_not_this_segments),
        CURSOR_TEST(cursor_never_shows_wrong_bytes),
        CURSOR_TEST(cursor_looks_again_before_it_complains),
        CURSOR_TEST(cursor_names_a_block_that_cannot_be_read),
        CURSOR_TEST(cursor_misses_a_segment_in_the_middle),
        CURSOR_TEST(cursor_is_passed_when_its_file_is_recycled),
        CURSOR_TEST(cursor_goes_on_behind_a_segment_that_is_gone),
        CURSOR_TEST(cursor_renews_the_list_of_segments),
        CURSOR_TEST(cursor_tells_a_truncated_file),
        CURSOR_TEST(cursor_tells_a_cut_below_its_position),
        CURSOR_TEST(cursor_drops_what_it_read_ahead_of_a_cut),
        CURSOR_TEST(cursor_follows_a_cut_into_the_next_segment),
        CURSOR_TEST(cursor_shows_nothing_stale),
        CURSOR_TEST(cursor_refuses_another_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
