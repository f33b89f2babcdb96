/* SPDX-License-Identifier: Apache-2.0
 * Copy and salvage: what is in the new log, which gaps are told, and that the source is left as it
 * was. */
#include "unit/recover/rig.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/num.h"
#include "recover/rewrite.h"

#include <dirent.h>
#include <fcntl.h>

#define BLOCK 512u
#define SEGMENT (16u * BLOCK)
#define GAPS_MAX 64

/* ---- a log as it is read back ---- */

struct read_record {
    weir_lsn lsn;
    uint64_t tag;
    uint8_t *data;
    size_t bytes;
    bool more;
};

struct read_log {
    struct read_record *records;
    size_t count;
    uint8_t *image;
    struct weir__scan_result result;
    struct weir__control control;
};

static int
read_piece(void *ctx, const struct weir__batch *batch, weir_lsn lsn, const void *data, size_t bytes)
{
    struct read_log *const log = ctx;
    const size_t offset = lsn - batch->lsn;
    log->image = realloc(log->image, offset + bytes);
    assert_non_null(log->image);
    memcpy(log->image + offset, data, bytes);
    return 0;
}

static int read_batch(void *ctx, const struct weir__batch *batch, struct weir__range segment)
{
    struct read_log *const log = ctx;
    (void)segment;
    const uint32_t salt = weir__frame_salt(batch->log_id, batch->nonce, batch->epoch);
    for (size_t offset = 0; offset < batch->bytes;) {
        const uint8_t *const at = log->image + WEIR__BATCH_HEADER_BYTES + offset;
        const weir_lsn lsn = batch->lsn + WEIR__BATCH_HEADER_BYTES + offset;
        struct weir__frame frame;
        assert_int_equal(weir__frame_decode(at, batch->bytes - offset, salt, lsn, &frame, NULL), 0);
        if (frame.type == WEIR__FRAME_RECORD && lsn >= log->control.oldest_lsn) {
            log->records = realloc(log->records, (log->count + 1) * sizeof *log->records);
            assert_non_null(log->records);
            struct read_record *const record = &log->records[log->count++];
            *record = (struct read_record){
                .lsn = lsn,
                .tag = frame.tag,
                .bytes = frame.bytes,
                .more = (frame.flags & WEIR__FRAME_MORE) != 0,
                .data = malloc(frame.bytes + 1u),
            };
            memcpy(record->data, at + WEIR__FRAME_HEADER_BYTES, frame.bytes);
        }
        offset += weir__frame_span(frame.bytes);
    }
    return 0;
}

/* Reads a whole log through the scan; it must be closed cleanly. */
static void read_open(struct read_log *log, const char *path)
{
    memset(log, 0, sizeof *log);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init_at(rig, path);
    assert_int_equal(rig_load(rig), 0);
    log->control = rig->found.copy[rig->found.newest];
    struct weir__scan_config config = rig_config(rig, true);
    config.batch = read_batch;
    config.piece = read_piece;
    config.ctx = log;
    assert_int_equal(weir__scan(&config, &log->result, &rig->fault), 0);
    if (log->result.report.verdict != WEIR_VERDICT_CLEAN) {
        print_message("the new log: %s\n", log->result.report.why);
    }
    assert_int_equal(log->result.report.verdict, WEIR_VERDICT_CLEAN);
    assert_non_null(strstr(log->result.report.why, "closed cleanly"));
    rig_exit(rig);
    free(rig);
}

static void read_close(struct read_log *log)
{
    for (size_t i = 0; i < log->count; i++) {
        free(log->records[i].data);
    }
    free(log->records);
    free(log->image);
}

/* ---- directories ---- */

static void dir_make(char path_out[300])
{
    const char *const parent = getenv("TMPDIR");
    (void)snprintf(path_out, 300, "%s/weir-new-XXXXXX", parent == NULL ? "/tmp" : parent);
    assert_non_null(mkdtemp(path_out));
}

/* Files other than the lock. */
static size_t dir_count(const char *path)
{
    DIR *const list = opendir(path);
    assert_non_null(list);
    size_t count = 0;
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        count += entry->d_name[0] != '.' && strcmp(entry->d_name, "weir.lock") != 0;
    }
    (void)closedir(list);
    return count;
}

static void dir_remove(const char *path)
{
    DIR *const list = opendir(path);
    assert_non_null(list);
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        (void)unlinkat(dirfd(list), entry->d_name, 0);
    }
    (void)closedir(list);
    assert_int_equal(rmdir(path), 0);
}

/* Sum over names, sizes, times and bytes of a directory's files. */
static uint64_t dir_sum(const char *path)
{
    uint64_t sum = 0;
    DIR *const list = opendir(path);
    assert_non_null(list);
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        struct stat status;
        assert_int_equal(fstatat(dirfd(list), entry->d_name, &status, AT_SYMLINK_NOFOLLOW), 0);
        uint64_t one = (uint64_t)status.st_size * 31 + (uint64_t)status.st_mtim.tv_nsec * 7 +
                       (uint64_t)status.st_mtim.tv_sec;
        for (const char *c = entry->d_name; *c != '\0'; c++) {
            one = one * 131 + (uint8_t)*c;
        }
        const int file = openat(dirfd(list), entry->d_name, O_RDONLY | O_CLOEXEC);
        assert_true(file >= 0);
        uint8_t bytes[4096];
        ssize_t got;
        while ((got = read(file, bytes, sizeof bytes)) > 0) {
            for (ssize_t i = 0; i < got; i++) {
                one = one * 1099511628211u + bytes[i];
            }
        }
        assert_int_equal(close(file), 0);
        sum += one;
    }
    (void)closedir(list);
    return sum;
}

/* ---- one rewrite ---- */

struct rewrite {
    char path[300];
    struct weir_copy_report report;
    struct weir__fault fault;
    struct weir_gap gaps[GAPS_MAX];
    size_t gap_count;
    uint64_t done;
    uint64_t total;
    bool fell;
};

static void rewrite_gap(void *ctx, const struct weir_gap *gap)
{
    struct rewrite *const rewrite = ctx;
    assert_true(rewrite->gap_count < GAPS_MAX);
    rewrite->gaps[rewrite->gap_count++] = *gap;
}

static void rewrite_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct rewrite *const rewrite = ctx;
    rewrite->fell = rewrite->fell || done < rewrite->done || done > total;
    rewrite->done = done;
    rewrite->total = total;
}

static struct weir__rewrite_config
rewrite_config(struct rewrite *rewrite, struct rig *rig, bool salvage)
{
    return (struct weir__rewrite_config){
        .from = &rig->dir,
        .to_path = rewrite->path,
        .salvage = salvage,
        .limit = UINT64_MAX,
        .gap = rewrite_gap,
        .progress = rewrite_progress,
        .ctx = rewrite,
    };
}

static int rewrite_run(struct rewrite *rewrite, const struct log_builder *log, bool salvage)
{
    memset(rewrite, 0, sizeof *rewrite);
    rewrite->fault = WEIR__FAULT_NONE;
    dir_make(rewrite->path);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, log);
    const uint64_t before = dir_sum(log->path);
    const struct weir__rewrite_config config = rewrite_config(rewrite, rig, salvage);
    const int code = weir__rewrite(&config, &rewrite->report, &rewrite->fault);
    assert_true(before == dir_sum(log->path));
    assert_false(rewrite->fell);
    if (code == 0) {
        assert_int_equal(rewrite->done, rewrite->total);
        assert_int_equal(rewrite->fault.code, 0);
    } else {
        assert_int_equal(rewrite->fault.code, code);
        assert_int_equal(dir_count(rewrite->path), 0);
    }
    rig_exit(rig);
    free(rig);
    return code;
}

/* The new log holds exactly the records for which lost[] is false (NULL: all), at their LSNs. */
static void
expect_records(const struct rewrite *rewrite, const struct log_builder *log, const bool *lost)
{
    struct read_log *const found = malloc(sizeof *found);
    read_open(found, rewrite->path);
    size_t at = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < log->record_count; i++) {
        const struct log_builder_record *const expected = &log->records[i];
        if ((lost != NULL && lost[i]) || expected->lsn < found->control.oldest_lsn) {
            continue;
        }
        if (at == found->count || found->records[at].lsn != expected->lsn) {
            fail_msg("record %zu at LSN %llu: found %s %llu",
                     i,
                     (unsigned long long)expected->lsn,
                     at == found->count ? "the end at" : "LSN",
                     (unsigned long long)(at == found->count ? found->result.end.lsn
                                                             : found->records[at].lsn));
        }
        assert_int_equal(found->records[at].tag, expected->tag);
        assert_int_equal(found->records[at].bytes, expected->bytes);
        assert_memory_equal(found->records[at].data, expected->data, expected->bytes);
        const bool next_lost = lost != NULL && i + 1 < log->record_count && lost[i + 1];
        assert_int_equal(found->records[at].more, expected->more && !next_lost);
        bytes += expected->bytes;
        at++;
    }
    assert_int_equal(at, found->count);
    assert_int_equal(rewrite->report.records, at);
    assert_int_equal(rewrite->report.bytes, bytes);
    assert_int_equal(rewrite->report.gaps, rewrite->gap_count);
    uint64_t gap_bytes = 0;
    for (size_t i = 0; i < rewrite->gap_count; i++) {
        assert_true(rewrite->gaps[i].from_lsn < rewrite->gaps[i].to_lsn);
        assert_true(rewrite->gaps[i].why[0] != '\0');
        gap_bytes += rewrite->gaps[i].to_lsn - rewrite->gaps[i].from_lsn;
    }
    assert_int_equal(rewrite->report.gap_bytes, gap_bytes);
    assert_int_equal(rewrite->report.end_lsn, found->result.end.lsn);
    assert_int_equal(rewrite->report.oldest_lsn, found->control.oldest_lsn);
    assert_int_equal(rewrite->report.log_id, found->control.log_id);
    assert_int_equal(found->control.parent_log_id, log->log_id);
    assert_true(found->control.log_id != log->log_id);
    assert_int_equal(found->control.epoch.epoch, 1);
    read_close(found);
    free(found);
}

static void expect_gap(const struct rewrite *rewrite, size_t index, weir_lsn from, weir_lsn to)
{
    if (index >= rewrite->gap_count || rewrite->gaps[index].from_lsn != from ||
        rewrite->gaps[index].to_lsn != to) {
        for (size_t i = 0; i < rewrite->gap_count; i++) {
            print_message("gap %zu: %llu to %llu: %s\n",
                          i,
                          (unsigned long long)rewrite->gaps[i].from_lsn,
                          (unsigned long long)rewrite->gaps[i].to_lsn,
                          rewrite->gaps[i].why);
        }
        fail_msg("gap %zu is not %llu to %llu",
                 index,
                 (unsigned long long)from,
                 (unsigned long long)to);
    }
}

static void build(struct log_builder *log, size_t batches)
{
    log_builder_init(log, NULL);
    for (size_t i = 0; i < batches; i++) {
        log_builder_batch(log, 3, 100);
    }
}

/* Groups, skips, empty records, large batches, unused ends, epochs. */
static void build_rich(struct log_builder *log)
{
    log_builder_init(
        log,
        &(struct log_builder_config){.segment_bytes = 128 * BLOCK, .first_lsn = 2 * SEGMENT});
    for (size_t i = 0; i < 5; i++) {
        log_builder_batch(log, 4, 900 + 100 * i);
    }
    log_builder_begin(log);
    log_builder_add(log, "first", 5, 11, true);
    log_builder_add(log, "second", 6, 12, true);
    log_builder_add(log, "", 0, 13, false);
    log_builder_skip(log, 77);
    log_builder_add(log, "after", 5, 14, false);
    log_builder_end(log);
    log_builder_batch(log, 1, 20000);
    log_builder_epoch(log);
    log_builder_batch(log, 2, 10);
    log_builder_begin(log);
    log_builder_end(log);
    const weir_lsn cut = log->position.lsn;
    log_builder_batch(log, 2, 4000);
    log_builder_batch(log, 2, 4000);
    log_builder_cut(log, cut);
    log_builder_rotate(log);
    for (size_t i = 0; i < 30; i++) {
        log_builder_batch(log, 10, 290);
    }
    log_builder_prepare(log, 2);
}

/* ---- copy ---- */

static void a_copy_holds_every_record_at_its_lsn(void **state)
{
    (void)state;
    struct log_builder log;
    build_rich(&log);
    rig_close_clean(&log, NULL);
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, false), 0);
    expect_records(&rewrite, &log, NULL);
    assert_int_equal(rewrite.gap_count, 0);
    assert_int_equal(rewrite.report.batches, log.batch_count);
    assert_int_equal(rewrite.report.end_lsn, log.position.lsn);
    /* The prepared segments are not part of it. */
    assert_int_equal(rewrite.report.segments, log.segment_count - 2);
    /* A salvage of a sound log is the same. */
    struct rewrite salvage;
    assert_int_equal(rewrite_run(&salvage, &log, true), 0);
    expect_records(&salvage, &log, NULL);
    assert_int_equal(salvage.gap_count, 0);
    assert_int_equal(salvage.report.batches, log.batch_count);
    assert_int_equal(salvage.report.end_lsn, log.position.lsn);
    dir_remove(salvage.path);
    /* And a copy of the copy, by way of its own files. */
    struct rig *const rig = malloc(sizeof *rig);
    rig_init_at(rig, rewrite.path);
    struct rewrite again = {.fault = WEIR__FAULT_NONE};
    dir_make(again.path);
    const struct weir__rewrite_config config = rewrite_config(&again, rig, false);
    assert_int_equal(weir__rewrite(&config, &again.report, &again.fault), 0);
    rig_exit(rig);
    free(rig);
    assert_int_equal(again.report.records, rewrite.report.records);
    assert_int_equal(again.report.end_lsn, rewrite.report.end_lsn);
    dir_remove(again.path);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

static void an_empty_log_is_copied_empty(void **state)
{
    (void)state;
    for (size_t segments = 0; segments < 2; segments++) {
        struct log_builder log;
        log_builder_init(&log, &(struct log_builder_config){.first_lsn = SEGMENT});
        log_builder_prepare(&log, segments);
        struct weir__control control;
        log_builder_control(&log, &control);
        control.oldest_lsn = control.promise = control.checkpoint.lsn = log.first_lsn + BLOCK;
        control.epoch.lsn = control.checkpoint.epoch_lsn = control.checkpoint.lsn;
        log_builder_control_write(&log, &control);
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, false), 0);
        assert_int_equal(rewrite.report.segments, segments);
        assert_int_equal(rewrite.report.end_lsn, SEGMENT + BLOCK);
        expect_records(&rewrite, &log, NULL);
        dir_remove(rewrite.path);
        log_builder_exit(&log);
    }
}

static void a_copy_begins_at_the_oldest_record(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 50);
    struct weir__control control;
    rig_close_clean(&log, &control);
    for (size_t i = 0; i <= 49; i += 7) {
        control.oldest_lsn =
            log.batches[i].header.lsn + WEIR__BATCH_HEADER_BYTES + 128; /* its second record */
        log_builder_control_write(&log, &control);
        for (int salvage = 0; salvage < 2; salvage++) {
            struct rewrite rewrite;
            assert_int_equal(rewrite_run(&rewrite, &log, salvage != 0), 0);
            expect_records(&rewrite, &log, NULL);
            assert_int_equal(rewrite.report.oldest_lsn, control.oldest_lsn);
            assert_int_equal(rewrite.report.records, (50 - i) * 3 - 1);
            assert_int_equal(rewrite.gap_count, 0);
            assert_int_equal(rewrite.report.end_lsn, log.position.lsn);
            dir_remove(rewrite.path);
        }
    }
    /* Nothing left at all. */
    control.oldest_lsn = log.position.lsn;
    log_builder_control_write(&log, &control);
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, false), 0);
    assert_int_equal(rewrite.report.records, 0);
    assert_int_equal(rewrite.report.end_lsn, log.position.lsn);
    expect_records(&rewrite, &log, NULL);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

static void a_copy_ends_at_its_limit(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_crash(&log, 0, NULL);
    for (size_t i = 0; i < 40; i += 3) {
        struct rewrite rewrite = {.fault = WEIR__FAULT_NONE};
        dir_make(rewrite.path);
        struct rig *const rig = malloc(sizeof *rig);
        rig_init(rig, &log);
        struct weir__rewrite_config config = rewrite_config(&rewrite, rig, false);
        config.limit = log.batches[i].end;
        config.durable = config.limit;
        assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), 0);
        assert_int_equal(rewrite.report.end_lsn, log.batches[i].end);
        assert_int_equal(rewrite.report.records, 3 * (i + 1));
        struct read_log *const found = malloc(sizeof *found);
        read_open(found, rewrite.path);
        assert_int_equal(found->count, 3 * (i + 1));
        read_close(found);
        free(found);
        rig_exit(rig);
        free(rig);
        dir_remove(rewrite.path);
    }
    log_builder_exit(&log);
}

static void a_damaged_log_is_not_copied(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_close_clean(&log, NULL);
    log_builder_flip(&log, log.batches[20].header.lsn + 200, 1);
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, false), WEIR_ECORRUPT);
    assert_int_equal(rewrite.fault.lsn, log.batches[20].header.lsn);
    dir_remove(rewrite.path);
    log_builder_flip(&log, log.batches[20].header.lsn + 200, 1);
    /* A torn tail is left out, as an opening would. */
    rig_crash(&log, log.batches[39].header.promise, NULL);
    log_builder_flip(&log, log.batches[39].header.lsn + 200, 1);
    assert_int_equal(rewrite_run(&rewrite, &log, false), 0);
    assert_int_equal(rewrite.report.records, 117);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

static void what_was_trimmed_meanwhile_is_told_from_damage(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    struct weir__control control;
    rig_close_clean(&log, &control);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, &log);
    /* The catalog is loaded and a segment goes away before it is read: it was trimmed. */
    struct rewrite rewrite = {.fault = WEIR__FAULT_NONE};
    dir_make(rewrite.path);
    const struct weir__rewrite_config config = rewrite_config(&rewrite, rig, false);
    log_builder_fill(&log, log.segments[0].base, log.segments[0].end, 0xaa);
    assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), WEIR_ECORRUPT);
    rewrite.fault = WEIR__FAULT_NONE;
    control.oldest_lsn = log.segments[1].base;
    log_builder_control_write(&log, &control);
    assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), 0);
    assert_int_equal(rewrite.report.records, 25 * 3);
    rig_exit(rig);
    free(rig);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

/* What a live writer does while its log is copied: at the first read of a batch of the segment that the
 * copy begins in. */
enum passing { PASSING_DAMAGE, PASSING_PROMISE, PASSING_TRIM, PASSING_CHECKPOINT };

static struct {
    struct log_builder *log;
    struct weir__control control;
    enum passing what;
    bool done;
} passing;

static void passing_write(void)
{
    struct log_builder *const log = passing.log;
    const struct weir__range left = log->segments[1];
    log_builder_fill(log, left.base, left.end, 0xaa);
    if (passing.what == PASSING_DAMAGE) {
        return;
    }
    passing.control.generation += 2;
    log_builder_batch(log, 3, 100);
    passing.control.promise = log->position.lsn;
    if (passing.what == PASSING_TRIM) {
        passing.control.oldest_lsn = log->position.lsn;
    }
    if (passing.what == PASSING_CHECKPOINT) {
        passing.control.checkpoint = log->position;
        log_builder_remove(log, left);
    }
    log_builder_control_write(log, &passing.control);
}

static ssize_t
passing_read(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    const struct weir__range first = passing.log->segments[1];
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(first.base, first.end, name);
    if (!passing.done && strcmp(rig_of(io)->names[file], name) == 0 &&
        offset + bytes > passing.control.checkpoint.lsn - first.base) {
        passing.done = true;
        passing_write();
    }
    return rig_read(io, file, buffer, bytes, offset);
}

/* Everything was trimmed, and the last segment stays for the checkpoint in it alone. Then the writer
 * goes on in the next one, checkpoints there, and uses the file anew: the oldest LSN stands still, and
 * the copy is to begin again all the same, as after a trim. Where neither moves, the same bytes are
 * damage. */
static void a_checkpoint_that_moved_on_is_told_from_damage(void **state)
{
    (void)state;
    for (int what = PASSING_DAMAGE; what <= PASSING_CHECKPOINT; what++) {
        struct log_builder log;
        struct weir__control control;
        build(&log, 30);
        const weir_lsn end = log.position.lsn;
        assert_int_equal(end, 2 * SEGMENT);
        log_builder_prepare(&log, 1);
        log_builder_control(&log, &control);
        control.promise = control.oldest_lsn = end;
        control.checkpoint = weir__position_after(&log.batches[25].header, BLOCK);
        log_builder_control_write(&log, &control);
        passing.log = &log;
        passing.control = control;
        passing.what = (enum passing)what;
        passing.done = false;
        struct rewrite rewrite = {.fault = WEIR__FAULT_NONE};
        dir_make(rewrite.path);
        struct rig *const rig = malloc(sizeof *rig);
        rig_init(rig, &log);
        rig->io.ops.read = passing_read;
        struct weir__rewrite_config config = rewrite_config(&rewrite, rig, false);
        config.limit = config.durable = end;
        const int code = what >= PASSING_TRIM ? WEIR_EPASSED : WEIR_ECORRUPT;
        assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), code);
        assert_true(passing.done);
        assert_int_equal(rewrite.fault.code, code);
        assert_int_equal(dir_count(rewrite.path), 0);
        if (what == PASSING_CHECKPOINT) {
            /* Begun again, it is well. */
            rewrite.fault = WEIR__FAULT_NONE;
            config.limit = config.durable = log.position.lsn;
            assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), 0);
            expect_records(&rewrite, &log, NULL);
            assert_int_equal(rewrite.report.records, 3);
            assert_int_equal(rewrite.report.end_lsn, log.position.lsn);
        }
        rig_exit(rig);
        free(rig);
        dir_remove(rewrite.path);
        log_builder_exit(&log);
    }
}

static void a_limit_below_the_oldest_record_is_a_mistake(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.promise = log.position.lsn;
    control.oldest_lsn = log.segments[1].base;
    log_builder_control_write(&log, &control);
    struct rewrite rewrite = {.fault = WEIR__FAULT_NONE};
    dir_make(rewrite.path);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, &log);
    struct weir__rewrite_config config = rewrite_config(&rewrite, rig, false);
    config.limit = control.oldest_lsn - BLOCK;
    assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), -EINVAL);
    assert_int_equal(rewrite.fault.code, -EINVAL);
    assert_int_equal(dir_count(rewrite.path), 0);
    rig_exit(rig);
    free(rig);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

/* Everything trimmed: the copy goes on where the log would, whether its next segment is there or
 * not. What is salvaged does so where there is one; a segment below the oldest LSN is nobody's. */
static void a_log_of_which_all_was_trimmed_is_copied_empty(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        const bool salvage = kind % 2 != 0;
        const bool prepared = kind >= 2;
        struct log_builder log;
        build(&log, 15);
        struct weir__control control;
        rig_close_clean(&log, &control);
        control.oldest_lsn = log.position.lsn;
        log_builder_control_write(&log, &control);
        if (prepared) {
            log_builder_prepare(&log, 1);
        }
        struct rewrite rewrite;
        const int code = rewrite_run(&rewrite, &log, salvage);
        if (salvage && !prepared) {
            assert_int_equal(code, WEIR_ENOLOG);
        } else {
            assert_int_equal(code, 0);
            assert_int_equal(rewrite.report.records, 0);
            assert_int_equal(rewrite.report.gaps, 0);
            assert_true(rewrite.report.end_lsn == log.position.lsn ||
                        rewrite.report.end_lsn == log.position.lsn + BLOCK);
            expect_records(&rewrite, &log, NULL);
        }
        dir_remove(rewrite.path);
        log_builder_exit(&log);
    }
}

static void a_log_in_the_way_is_left_alone(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 10);
    rig_close_clean(&log, NULL);
    struct log_builder other;
    build(&other, 3);
    rig_close_clean(&other, NULL);
    struct rig *const rig = malloc(sizeof *rig);
    rig_init(rig, &log);
    for (int salvage = 0; salvage < 2; salvage++) {
        const uint64_t before = dir_sum(log.path);
        struct rewrite rewrite = {.fault = WEIR__FAULT_NONE};
        (void)snprintf(rewrite.path, sizeof rewrite.path, "%s", other.path);
        struct weir__rewrite_config config = rewrite_config(&rewrite, rig, salvage != 0);
        assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), WEIR_EEXISTS);
        assert_int_equal(rig_look(&other, true).report.records, 9);
        /* Nor onto itself. */
        rewrite.fault = WEIR__FAULT_NONE;
        config.to_path = log.path;
        assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), WEIR_EEXISTS);
        assert_int_equal(rig_look(&log, true).report.records, 30);
        (void)before;
    }
    rig_exit(rig);
    free(rig);
    log_builder_exit(&other);
    log_builder_exit(&log);
}

static void a_failure_leaves_nothing_and_no_log(void **state)
{
    (void)state;
    struct log_builder log;
    build_rich(&log);
    rig_close_clean(&log, NULL);
    log_builder_fill(&log, log.batches[20].header.lsn, log.batches[20].end, 0);
    unsigned stopped = 0;
    for (int salvage = 0; salvage < 2; salvage++) {
        if (salvage == 0) {
            log_builder_poke(&log,
                             log.batches[20].header.lsn,
                             log.batches[20].image,
                             log.batches[20].image_bytes);
        } else {
            log_builder_fill(&log, log.batches[20].header.lsn, log.batches[20].end, 0);
        }
        for (unsigned stop = 1;; stop += 1 + stop / 16) {
            struct rewrite rewrite = {.fault = WEIR__FAULT_NONE};
            dir_make(rewrite.path);
            struct rig *const rig = malloc(sizeof *rig);
            rig_init(rig, &log);
            rig->io.stop_at = stop;
            const struct weir__rewrite_config config = rewrite_config(&rewrite, rig, salvage != 0);
            const int code = weir__rewrite(&config, &rewrite.report, &rewrite.fault);
            rig_exit(rig);
            free(rig);
            if (code == 0) {
                dir_remove(rewrite.path);
                break;
            }
            assert_int_equal(code, -EIO);
            assert_int_equal(rewrite.fault.code, -EIO);
            assert_int_equal(dir_count(rewrite.path), 0);
            stopped++;
            dir_remove(rewrite.path);
        }
    }
    assert_true(stopped > 40);
    log_builder_exit(&log);
}

/* ---- salvage ---- */

static bool *lost_none(const struct log_builder *log)
{
    bool *const lost = calloc(log->record_count + 1, sizeof *lost);
    assert_non_null(lost);
    return lost;
}

static void a_damaged_payload_costs_its_record_only(void **state)
{
    (void)state;
    struct log_builder log;
    build_rich(&log);
    rig_close_clean(&log, NULL);
    for (size_t i = 0; i < log.record_count; i += 5) {
        if (log.records[i].bytes == 0) {
            continue;
        }
        bool *const lost = lost_none(&log);
        lost[i] = true;
        const weir_lsn lsn = log.records[i].lsn;
        log_builder_flip(&log, lsn + WEIR__FRAME_HEADER_BYTES + log.records[i].bytes / 2, 8);
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
        expect_records(&rewrite, &log, lost);
        assert_int_equal(rewrite.gap_count, 1);
        expect_gap(&rewrite, 0, lsn, lsn + weir__frame_span(log.records[i].bytes));
        assert_int_equal(rewrite.report.end_lsn, log.position.lsn);
        dir_remove(rewrite.path);
        free(lost);
        log_builder_flip(&log, lsn + WEIR__FRAME_HEADER_BYTES + log.records[i].bytes / 2, 8);
    }
    log_builder_exit(&log);
}

static void a_damaged_frame_header_costs_its_record_only(void **state)
{
    (void)state;
    struct log_builder log;
    build_rich(&log);
    rig_close_clean(&log, NULL);
    for (unsigned byte = 0; byte < WEIR__FRAME_HEADER_BYTES; byte++) {
        const size_t i = 20 + byte;
        bool *const lost = lost_none(&log);
        lost[i] = true;
        const weir_lsn lsn = log.records[i].lsn;
        log_builder_flip(&log, lsn + byte, 2);
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
        expect_records(&rewrite, &log, lost);
        assert_int_equal(rewrite.gap_count, 1);
        expect_gap(&rewrite, 0, lsn, lsn + weir__frame_span(log.records[i].bytes));
        dir_remove(rewrite.path);
        free(lost);
        log_builder_flip(&log, lsn + byte, 2);
    }
    log_builder_exit(&log);
}

static void a_damaged_batch_header_costs_nothing(void **state)
{
    (void)state;
    struct log_builder log;
    build_rich(&log);
    rig_close_clean(&log, NULL);
    for (size_t i = 0; i < log.batch_count; i += 3) {
        for (unsigned byte = 0; byte < WEIR__BATCH_HEADER_BYTES; byte += 13) {
            const weir_lsn lsn = log.batches[i].header.lsn;
            log_builder_flip(&log, lsn + byte, 1);
            struct rewrite rewrite;
            assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
            expect_records(&rewrite, &log, NULL);
            /* One without frames leaves nothing that could be found. */
            assert_int_equal(rewrite.gap_count, log.batches[i].header.bytes == 0);
            dir_remove(rewrite.path);
            log_builder_flip(&log, lsn + byte, 1);
        }
    }
    /* Nor do several in a row, at a segment's beginning, or all. */
    for (size_t i = 0; i < log.batch_count; i++) {
        log_builder_fill(&log,
                         log.batches[i].header.lsn,
                         log.batches[i].header.lsn + WEIR__BATCH_HEADER_BYTES,
                         0xee);
    }
    /* The newest epoch's nonce is known from the control file. The first one's stood in those
     * headers only, and the second's in batches that were cut, to which nothing leads: no proof of
     * an epoch, payload could say the same. */
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
    bool *const lost = lost_none(&log);
    for (size_t i = 0; i < log.record_count; i++) {
        lost[i] = log.records[i].epoch < 3;
    }
    expect_records(&rewrite, &log, lost);
    assert_int_equal(rewrite.gap_count, 1);
    free(lost);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

static void a_lost_batch_is_one_gap(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_close_clean(&log, NULL);
    for (size_t i = 0; i < 40; i++) {
        for (int how = 0; how < 2; how++) {
            const weir_lsn from = log.batches[i].header.lsn;
            const weir_lsn to = log.batches[i].end;
            if (how == 0) {
                log_builder_fill(&log, from, to, 0);
            } else {
                log_builder_noise(&log, from, to, i);
            }
            bool *const lost = lost_none(&log);
            lost[3 * i] = lost[3 * i + 1] = lost[3 * i + 2] = true;
            struct rewrite rewrite;
            assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
            expect_records(&rewrite, &log, lost);
            assert_int_equal(rewrite.gap_count, 1);
            /* At a segment's beginning the loss is known from where the batch before ended. */
            expect_gap(&rewrite, 0, i == 0 ? from : log.batches[i - 1].end, to);
            assert_int_equal(rewrite.report.end_lsn, log.position.lsn);
            dir_remove(rewrite.path);
            free(lost);
            log_builder_poke(&log, from, log.batches[i].image, log.batches[i].image_bytes);
        }
    }
    log_builder_exit(&log);
}

static void several_gaps_are_told_in_order(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 60);
    rig_close_clean(&log, NULL);
    bool *const lost = lost_none(&log);
    /* A record of a batch, two batches in a row, a segment's last, and everything from a place on.
     */
    log_builder_flip(&log, log.records[10].lsn + 30, 1);
    lost[10] = true;
    for (size_t i = 6; i < 8; i++) {
        log_builder_fill(&log, log.batches[i].header.lsn, log.batches[i].end, 0);
        lost[3 * i] = lost[3 * i + 1] = lost[3 * i + 2] = true;
    }
    log_builder_noise(&log, log.batches[14].header.lsn, log.batches[14].end, 4);
    lost[42] = lost[43] = lost[44] = true;
    log_builder_noise(&log, log.batches[50].header.lsn, log.batches[59].end, 4);
    for (size_t i = 150; i < 180; i++) {
        lost[i] = true;
    }
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
    expect_records(&rewrite, &log, lost);
    assert_int_equal(rewrite.gap_count, 4);
    expect_gap(&rewrite, 0, log.records[10].lsn, log.records[11].lsn);
    expect_gap(&rewrite, 1, log.batches[6].header.lsn, log.batches[7].end);
    expect_gap(&rewrite, 2, log.batches[14].header.lsn, log.batches[14].end);
    expect_gap(&rewrite, 3, log.batches[50].header.lsn, log.batches[59].end);
    free(lost);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

static void missing_segments_are_gaps(void **state)
{
    (void)state;
    for (unsigned missing = 1; missing < 15; missing++) {
        struct log_builder log;
        build(&log, 60); /* four segments of 15 batches */
        rig_close_clean(&log, NULL);
        bool *const lost = lost_none(&log);
        for (unsigned i = 4; i-- > 0;) {
            if ((missing & 1u << i) != 0) {
                log_builder_remove(&log, log.segments[i]);
                for (size_t r = 45 * i; r < 45 * (i + 1); r++) {
                    lost[r] = true;
                }
            }
        }
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
        expect_records(&rewrite, &log, lost);
        /* Neighbours are one gap. */
        unsigned runs = 0;
        for (unsigned i = 0; i < 4; i++) {
            runs += (missing & 1u << i) != 0 && (i == 0 || (missing & 1u << (i - 1)) == 0);
        }
        assert_int_equal(rewrite.gap_count, runs);
        free(lost);
        dir_remove(rewrite.path);
        log_builder_exit(&log);
    }
}

static void what_cannot_be_read_is_a_gap(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, &(struct log_builder_config){.block_bytes = 4096});
    for (size_t i = 0; i < 40; i++) {
        log_builder_batch(&log, 3, 1000);
    }
    rig_close_clean(&log, NULL);
    for (size_t i = 0; i < 40; i += 7) {
        struct rig *const rig = malloc(sizeof *rig);
        struct rewrite rewrite = {.fault = WEIR__FAULT_NONE};
        dir_make(rewrite.path);
        rig_init(rig, &log);
        const struct weir__range range = log.batches[i].segment;
        rig_bad(&rig->io,
                range,
                log.batches[i].header.lsn - range.base,
                log.batches[i].end - range.base);
        const struct weir__rewrite_config config = rewrite_config(&rewrite, rig, true);
        assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), 0);
        bool *const lost = lost_none(&log);
        lost[3 * i] = lost[3 * i + 1] = lost[3 * i + 2] = true;
        expect_records(&rewrite, &log, lost);
        assert_int_equal(rewrite.gap_count, 1);
        expect_gap(&rewrite,
                   0,
                   i == 0 ? log.batches[0].header.lsn : log.batches[i - 1].end,
                   log.batches[i].end);
        assert_non_null(strstr(rewrite.gaps[0].why, "cannot be read"));
        free(lost);
        rig_exit(rig);
        free(rig);
        dir_remove(rewrite.path);
    }
    log_builder_exit(&log);
}

static void a_short_file_gives_what_it_has(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_close_clean(&log, NULL);
    log_builder_truncate(&log, log.segments[1], 6 * BLOCK + 50);
    bool *const lost = lost_none(&log);
    for (size_t i = 0; i < log.record_count; i++) {
        const weir_lsn lsn = log.records[i].lsn;
        lost[i] = lsn >= log.segments[1].base + 6 * BLOCK && lsn < log.segments[1].end;
    }
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
    expect_records(&rewrite, &log, lost);
    assert_int_equal(rewrite.gap_count, 1);
    free(lost);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

/* A device that has no room beyond the first MiB of a file. */
static ssize_t write_or_no_room(struct weir__io *io,
                                int file,
                                const struct iovec *iov,
                                unsigned iov_count,
                                uint64_t offset,
                                bool dsync)
{
    return offset >= (uint64_t)1 << 20 ? -ENOSPC
                                       : rig_write(io, file, iov, iov_count, offset, dsync);
}

/* A name may promise more than a file will ever hold; the time that salvage takes is the file's. */
static void a_name_beyond_its_file_costs_nothing(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_close_clean(&log, NULL);
    const struct weir__range last = log.segments[log.segment_count - 1];
    const struct weir__range longer = {last.base, (uint64_t)1 << 62};
    char from[WEIR__SEGMENT_NAME_BYTES];
    char to[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(last.base, last.end, from);
    weir__segment_name(longer.base, longer.end, to);
    assert_int_equal(renameat(log.dir, from, log.dir, to), 0);
    struct rig *const rig = malloc(sizeof *rig);
    struct rewrite rewrite = {.fault = WEIR__FAULT_NONE};
    dir_make(rewrite.path);
    rig_init(rig, &log);
    const struct weir__rewrite_config config = rewrite_config(&rewrite, rig, true);
    assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), 0);
    expect_records(&rewrite, &log, NULL);
    assert_true(rig->io.reads < 1000);
    rig_exit(rig);
    free(rig);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

/* Nor does a length in a header that holds, of a batch that a file of its name could have held. */
static void a_length_beyond_its_file_costs_nothing(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 40);
    rig_close_clean(&log, NULL);
    const size_t last = log.batch_count - 1;
    const struct weir__range range = log.batches[last].segment;
    const weir_lsn lsn = log.batches[last].header.lsn;
    struct weir__batch header = log.batches[last].header;
    header.bytes = UINT32_MAX - 7;
    header.records = 1;
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(&header, bytes);
    log_builder_poke(&log, lsn, bytes, sizeof bytes);
    /* Header and name agree on 1 TiB, and the file holds what it held. */
    const struct weir__range longer = {range.base, range.base + ((uint64_t)1 << 40)};
    uint8_t block[WEIR__SEGMENT_HEADER_BYTES];
    struct weir__segment_header segment;
    log_builder_peek(&log, range.base, block, sizeof block);
    assert_int_equal(weir__segment_header_decode(block, &segment, NULL), 0);
    segment.bytes = longer.end - longer.base;
    weir__segment_header_encode(&segment, block);
    log_builder_poke(&log, range.base, block, sizeof block);
    char from[WEIR__SEGMENT_NAME_BYTES];
    char to[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, from);
    weir__segment_name(longer.base, longer.end, to);
    assert_int_equal(renameat(log.dir, from, log.dir, to), 0);
    struct rig *const rig = malloc(sizeof *rig);
    struct rewrite rewrite = {.fault = WEIR__FAULT_NONE};
    dir_make(rewrite.path);
    rig_init(rig, &log);
    struct weir__rewrite_config config = rewrite_config(&rewrite, rig, true);
    /* Into a target that has no room: what counts is how much was asked for on the way there. */
    rig->io.ops.write = write_or_no_room;
    assert_int_equal(weir__rewrite(&config, &rewrite.report, &rewrite.fault), -ENOSPC);
    assert_true(weir__load(&rig->mem.bytes_peak, relaxed) < (uint64_t)64 << 20);
    rig_exit(rig);
    free(rig);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

static void without_a_control_file_all_is_still_there(void **state)
{
    (void)state;
    /* Its copies lost; then also the file; then also the segments' headers. */
    for (int how = 0; how < 3; how++) {
        struct log_builder log;
        build_rich(&log);
        rig_close_clean(&log, NULL);
        log_builder_control_write_copy(&log, 0, NULL);
        log_builder_control_write_copy(&log, 1, NULL);
        if (how > 0) {
            assert_int_equal(unlinkat(log.dir, "weir.control", 0), 0);
        }
        for (size_t i = 0; how > 1 && i < log.segment_count; i++) {
            log_builder_noise(&log, log.segments[i].base, log.segments[i].base + 128, i);
        }
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
        expect_records(&rewrite, &log, NULL);
        assert_int_equal(rewrite.gap_count, 0);
        dir_remove(rewrite.path);
        log_builder_exit(&log);
    }
}

static void what_was_cut_does_not_come_back(void **state)
{
    (void)state;
    for (int control = 0; control < 2; control++) {
        for (size_t newer = 1; newer < 8; newer += 3) {
            struct log_builder log;
            build(&log, 40);
            log_builder_cut(&log, log.batches[5].end);
            for (size_t i = 0; i < newer; i++) {
                log_builder_batch(&log, 2, 60);
            }
            /* Behind the end, and in the segments behind, stand sound batches of the earlier epoch.
             */
            if (control != 0) {
                rig_crash(&log, log.position.lsn, NULL);
            }
            struct rewrite rewrite;
            assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
            expect_records(&rewrite, &log, NULL);
            assert_int_equal(rewrite.gap_count, 0);
            assert_int_equal(rewrite.report.end_lsn, log.position.lsn);
            dir_remove(rewrite.path);
            /* With damage in front of them as well. */
            log_builder_noise(&log, log.batches[3].header.lsn, log.batches[3].end, 9);
            bool *const lost = lost_none(&log);
            lost[9] = lost[10] = lost[11] = true;
            assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
            expect_records(&rewrite, &log, lost);
            assert_int_equal(rewrite.gap_count, 1);
            free(lost);
            dir_remove(rewrite.path);
            log_builder_exit(&log);
        }
    }
}

static void a_foreign_segment_is_left_out(void **state)
{
    (void)state;
    /* Without a control file most segments say which log it is. */
    for (int control = 0; control < 2; control++) {
        struct log_builder log;
        build(&log, 60);
        rig_close_clean(&log, NULL);
        if (control == 0) {
            log_builder_control_write_copy(&log, 0, NULL);
            log_builder_control_write_copy(&log, 1, NULL);
        }
        struct log_builder other;
        log_builder_init(&other, &(struct log_builder_config){.log_id = 77});
        for (size_t i = 0; i < 45; i++) {
            log_builder_batch(&other, 3, 100);
        }
        /* Its middle segment in our log's place. */
        uint8_t bytes[SEGMENT];
        log_builder_peek(&other, other.segments[1].base, bytes, sizeof bytes);
        log_builder_poke(&log, log.segments[1].base, bytes, sizeof bytes);
        bool *const lost = lost_none(&log);
        for (size_t i = 45; i < 90; i++) {
            lost[i] = true;
        }
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
        expect_records(&rewrite, &log, lost);
        assert_int_equal(rewrite.gap_count, 1);
        expect_gap(&rewrite, 0, log.batches[14].end, log.batches[29].end);
        free(lost);
        dir_remove(rewrite.path);
        log_builder_exit(&other);
        log_builder_exit(&log);
    }
}

static void gaps_of_the_source_stay_gaps(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 5);
    const size_t first = log_builder_gap(&log, log.position.lsn + 4 * BLOCK);
    log_builder_batch(&log, 3, 100);
    const size_t second = log_builder_gap(&log, log.segment.end);
    log_builder_batch(&log, 3, 100);
    rig_close_clean(&log, NULL);
    for (int salvage = 0; salvage < 2; salvage++) {
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, salvage != 0), 0);
        expect_records(&rewrite, &log, NULL);
        assert_int_equal(rewrite.gap_count, 2);
        expect_gap(&rewrite, 0, log.batches[first].header.lsn, log.batches[first].end);
        expect_gap(&rewrite, 1, log.batches[second].header.lsn, log.batches[second].end);
        assert_int_equal(rewrite.report.end_lsn, log.position.lsn);
        dir_remove(rewrite.path);
    }
    log_builder_exit(&log);
}

static void many_segments_are_salvaged(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, &(struct log_builder_config){.segment_bytes = 4 * BLOCK});
    for (size_t i = 0; i < 300; i++) {
        if (i % 2 == 0) {
            log_builder_epoch(&log);
        }
        log_builder_batch(&log, 3, 100);
    }
    assert_true(log.segment_count >= 100);
    rig_close_clean(&log, NULL);
    log_builder_flip(&log, log.batches[100].header.lsn + 120, 1);
    bool *const lost = lost_none(&log);
    lost[300] = true;
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
    expect_records(&rewrite, &log, lost);
    free(lost);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

/* The padding behind a gap's header is not zero: the gap is one all the same. */
static void a_gap_with_bad_padding_is_a_gap(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 5);
    const size_t gap = log_builder_gap(&log, log.position.lsn + 4 * BLOCK);
    log_builder_batch(&log, 3, 100);
    rig_close_clean(&log, NULL);
    log_builder_flip(&log, log.batches[gap].header.lsn + 300, 1);
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
    expect_records(&rewrite, &log, NULL);
    assert_int_equal(rewrite.gap_count, 1);
    expect_gap(&rewrite, 0, log.batches[gap].header.lsn, log.batches[gap].end);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

/* A segment that a later build wrote: nobody here knows what its bytes mean. */
static void a_newer_segment_is_refused(void **state)
{
    (void)state;
    for (int control = 0; control < 2; control++) {
        struct log_builder log;
        build(&log, 40);
        rig_close_clean(&log, NULL);
        if (control == 0) {
            log_builder_control_write_copy(&log, 0, NULL);
            log_builder_control_write_copy(&log, 1, NULL);
        }
        uint8_t header[WEIR__SEGMENT_HEADER_BYTES];
        log_builder_peek(&log, log.segments[1].base, header, sizeof header);
        weir__put_u32(header + 8, 2);
        weir__put_u32(header + 4, weir__crc32c(0, header + 8, sizeof header - 8));
        log_builder_poke(&log, log.segments[1].base, header, sizeof header);
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, true), WEIR_EFORMAT);
        assert_true(rewrite.fault.file[0] != '\0');
        dir_remove(rewrite.path);
        log_builder_exit(&log);
    }
}

/* Files that share LSNs with a segment, or leave no room for one in between, or are none: what the
 * headers agree on counts. */
static void files_in_a_segments_way_cost_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < 7; kind++) {
        struct log_builder log;
        char path[400];
        build(&log, 45);
        rig_close_clean(&log, NULL);
        const weir_lsn base = log.segments[1].base;
        const weir_lsn end = log.segments[2].end;
        weir_lsn from = base + 3 * BLOCK;
        weir_lsn to = from + SEGMENT;
        if (kind == 1) { /* before it */
            from = base - 3 * BLOCK;
            to = from + SEGMENT;
        } else if (kind == 2) { /* one block behind the last */
            from = end + BLOCK;
            to = from + SEGMENT;
        } else if (kind == 3) { /* a directory behind the last */
            from = end;
            to = from + SEGMENT;
        } else if (kind >= 5) { /* shorter, from where a segment begins: listed before it */
            from = base;
            to = from + 8 * BLOCK;
        } else if (kind == 4) { /* of one block */
            from = end;
            to = from + BLOCK;
        }
        (void)snprintf(path,
                       sizeof path,
                       "%s/%016llx-%016llx.weir",
                       log.path,
                       (unsigned long long)from,
                       (unsigned long long)to);
        if (kind == 3) {
            assert_int_equal(mkdir(path, 0700), 0);
        } else {
            const int file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
            assert_true(file >= 0);
            assert_int_equal(ftruncate(file, (off_t)(to - from)), 0);
            assert_int_equal(close(file), 0);
        }
        if (kind == 6) { /* and no header speaks for either */
            log_builder_fill(&log, base, base + WEIR__SEGMENT_HEADER_BYTES, 0);
        }
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
        expect_records(&rewrite, &log, NULL);
        dir_remove(rewrite.path);
        assert_int_equal(kind == 3 ? rmdir(path) : unlink(path), 0);
        log_builder_exit(&log);
    }
}

/* The other copy of the control file is of an earlier epoch: what it promised above the newest one's
 * start was cut. */
static void an_earlier_epochs_promise_is_no_gap(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 20);
    struct weir__control before;
    log_builder_control(&log, &before);
    before.promise = log.position.lsn;
    const weir_lsn cut = log.batches[9].end;
    log_builder_cut(&log, cut);
    struct weir__control control;
    log_builder_control(&log, &control);
    control.promise = cut;
    control.generation = before.generation + 1;
    log_builder_control_write_copy(&log, 0, &before);
    log_builder_control_write_copy(&log, 1, &control);
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
    expect_records(&rewrite, &log, NULL);
    assert_int_equal(rewrite.gap_count, 0);
    assert_int_equal(rewrite.report.end_lsn, cut);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

/* Of a damaged batch that the oldest LSN lies in, what lies below is nobody's. */
static void records_below_the_oldest_of_a_damaged_batch_are_left_out(void **state)
{
    (void)state;
    struct log_builder log;
    build(&log, 5);
    log_builder_batch(&log, 10, 300);
    log_builder_batch(&log, 3, 100);
    struct weir__control control;
    rig_close_clean(&log, &control);
    control.oldest_lsn = log.records[20].lsn;
    log_builder_control_write(&log, &control);
    log_builder_flip(&log, log.records[22].lsn + 100, 1);
    bool *const lost = lost_none(&log);
    for (size_t i = 0; i < 20; i++) {
        lost[i] = true;
    }
    lost[22] = true;
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
    expect_records(&rewrite, &log, lost);
    assert_int_equal(rewrite.gap_count, 1);
    free(lost);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

static void nothing_to_salvage_is_no_log(void **state)
{
    (void)state;
    struct log_builder log;
    log_builder_init(&log, NULL);
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, true), WEIR_ENOLOG);
    dir_remove(rewrite.path);
    assert_int_equal(rewrite_run(&rewrite, &log, false), WEIR_ENOLOG);
    dir_remove(rewrite.path);
    log_builder_prepare(&log, 2);
    assert_int_equal(rewrite_run(&rewrite, &log, true), WEIR_ENOLOG);
    dir_remove(rewrite.path);
    log_builder_noise(&log, log.segments[0].base, log.segments[0].end, 1);
    log_builder_noise(&log, log.segments[1].base, log.segments[1].end, 2);
    assert_int_equal(rewrite_run(&rewrite, &log, true), WEIR_ENOLOG);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

static void frames_in_payload_are_no_records(void **state)
{
    (void)state;
    /* Payload that imitates what a search looks for: a batch of this very log, from another place.
     */
    struct log_builder log;
    build(&log, 5);
    log_builder_begin(&log);
    uint8_t payload[3 * BLOCK];
    memcpy(payload, log.batches[2].image, BLOCK);
    memcpy(payload + BLOCK, log.batches[3].image + 96, BLOCK - 96);
    memset(payload + 2 * BLOCK - 96, 1, BLOCK + 96);
    log_builder_add(&log, payload, sizeof payload, 5, false);
    log_builder_add(&log, "kept", 4, 6, false);
    const size_t index = log_builder_end(&log);
    log_builder_batch(&log, 3, 100);
    rig_close_clean(&log, NULL);
    log_builder_fill(&log,
                     log.batches[index].header.lsn,
                     log.batches[index].header.lsn + 96 + 24,
                     0x55);
    bool *const lost = lost_none(&log);
    lost[15] = true;
    struct rewrite rewrite;
    assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
    expect_records(&rewrite, &log, lost);
    assert_int_equal(rewrite.gap_count, 1);
    free(lost);
    dir_remove(rewrite.path);
    log_builder_exit(&log);
}

/* A whole batch at a block boundary, as whoever writes payload could make one: all but a nonce that
 * counts. */
static void forge(const struct log_builder *log, uint8_t *out, weir_lsn lsn, uint64_t epoch)
{
    static const char text[] = "never appended";
    const uint64_t nonce = 0x4141;
    struct weir__batch batch = {
        .log_id = log->log_id,
        .lsn = lsn,
        .prev_end = lsn,
        .epoch = epoch,
        .epoch_lsn = lsn,
        .nonce = nonce,
        .bytes = (uint32_t)weir__frame_span(sizeof text),
        .records = 1,
    };
    const struct weir__frame frame = {
        .bytes = sizeof text,
        .payload_crc = weir__crc32c(0, text, sizeof text),
        .tag = 666,
        .type = WEIR__FRAME_RECORD,
    };
    memset(out, 0, BLOCK);
    weir__batch_encode(&batch, out);
    weir__frame_encode(&frame,
                       weir__frame_salt(log->log_id, nonce, epoch),
                       lsn + WEIR__BATCH_HEADER_BYTES,
                       out + WEIR__BATCH_HEADER_BYTES);
    memcpy(out + WEIR__BATCH_HEADER_BYTES + WEIR__FRAME_HEADER_BYTES, text, sizeof text);
}

static void a_batch_in_payload_is_none(void **state)
{
    (void)state;
    /* Bit 0: without a control file; bit 1: a later epoch behind, so that the forged one is not
     * above the newest. Damaged are a record before the forged batch, the payload around it, or the
     * batch's first block. */
    for (unsigned how = 0; how < 12; how++) {
        const unsigned damage = how / 4;
        struct log_builder log;
        build(&log, 5);
        const weir_lsn at = log.position.lsn;
        const weir_lsn second = at + WEIR__BATCH_HEADER_BYTES + weir__frame_span(100);
        const weir_lsn forged =
            weir__align_up(second + WEIR__FRAME_HEADER_BYTES + 1, (uint64_t)BLOCK);
        uint8_t payload[3 * BLOCK];
        memset(payload, 'p', sizeof payload);
        forge(&log,
              payload + (forged - second - WEIR__FRAME_HEADER_BYTES),
              forged,
              (how & 2) != 0 ? 2 : 99);
        log_builder_begin(&log);
        log_builder_add(&log, payload, 100, 1, false);
        log_builder_add(&log, payload, sizeof payload, 2, false);
        log_builder_end(&log);
        for (size_t i = 0; i < 20; i++) {
            log_builder_batch(&log, 3, 100);
            if (i == 10 && (how & 2) != 0) {
                log_builder_epoch(&log);
                log_builder_epoch(&log);
            }
        }
        rig_crash(&log, log.position.lsn, NULL);
        if ((how & 1) != 0) {
            log_builder_control_write_copy(&log, 0, NULL);
            log_builder_control_write_copy(&log, 1, NULL);
        }
        bool *const lost = lost_none(&log);
        lost[15] = damage != 1;
        lost[16] = damage != 0;
        if (damage == 0) {
            log_builder_flip(&log, second - 40, 1);
        } else if (damage == 1) {
            log_builder_flip(&log, second + WEIR__FRAME_HEADER_BYTES, 1);
        } else {
            log_builder_fill(&log, at, at + BLOCK, 0);
        }
        struct rewrite rewrite;
        assert_int_equal(rewrite_run(&rewrite, &log, true), 0);
        expect_records(&rewrite, &log, lost);
        assert_true(rewrite.gap_count >= 1);
        assert_true(rewrite.gaps[0].from_lsn >= at);
        assert_true(rewrite.gaps[rewrite.gap_count - 1].to_lsn <= log.batches[5].end);
        if (damage == 2) {
            assert_non_null(strstr(rewrite.gaps[0].why, "nothing leads"));
        }
        free(lost);
        dir_remove(rewrite.path);
        log_builder_exit(&log);
    }
}

/* Whatever is done to a log: every record whose batch is untouched comes out, nothing comes out
 * that was not put in, and no gap covers a record that came out. */
static void noise_costs_no_more_than_it_hits(void **state)
{
    (void)state;
    uint64_t seed = 1;
    const char *const given = getenv("WEIR_TEST_SEED");
    if (given != NULL) {
        seed = strtoull(given, NULL, 0);
    }
    uint64_t random = seed;
    for (unsigned round = 0; round < 60; round++) {
        struct log_builder log;
        build_rich(&log);
        rig_close_clean(&log, NULL);
        if (log_builder_random(&random) % 3 == 0) {
            log_builder_control_write_copy(&log, 0, NULL);
            log_builder_control_write_copy(&log, 1, NULL);
        }
        bool *const hit = lost_none(&log);
        bool origin_hit = false; /* what proves the first epoch's nonce by itself */
        const unsigned hits = 1 + (unsigned)(log_builder_random(&random) % 12);
        for (unsigned i = 0; i < hits; i++) {
            const weir_lsn from = log.first_lsn + log_builder_random(&random) %
                                                      (log.position.lsn - log.first_lsn - 1);
            const struct weir__range range = log_builder_segment(&log, from);
            const weir_lsn to =
                weir__min_u64(from + 1 + log_builder_random(&random) % 3000, range.end);
            log_builder_noise(&log, from, to, log_builder_random(&random));
            origin_hit = origin_hit || from < log.batches[0].header.lsn + WEIR__BATCH_HEADER_BYTES;
            for (size_t r = 0; r < log.record_count; r++) {
                const weir_lsn end = log.records[r].lsn + weir__frame_span(log.records[r].bytes);
                hit[r] = hit[r] || (log.records[r].lsn < to && end > from);
            }
        }
        struct rewrite rewrite;
        const int code = rewrite_run(&rewrite, &log, true);
        if (code != 0) {
            fail_msg("WEIR_TEST_SEED=%llu, round %u: code %d",
                     (unsigned long long)seed,
                     round,
                     code);
        }
        struct read_log *const found = malloc(sizeof *found);
        read_open(found, rewrite.path);
        size_t at = 0;
        for (size_t r = 0; r < log.record_count; r++) {
            const struct log_builder_record *const expected = &log.records[r];
            const bool there = at < found->count && found->records[at].lsn == expected->lsn;
            /* Of the middle epoch the nonce may be lost with its two headers, and of the first one
             * what proves it. */
            const bool proven = expected->epoch == 3 || (expected->epoch == 1 && !origin_hit);
            if (!there && !hit[r] && proven) {
                fail_msg("WEIR_TEST_SEED=%llu, round %u: the record at LSN %llu is missing",
                         (unsigned long long)seed,
                         round,
                         (unsigned long long)expected->lsn);
            }
            bool told = false;
            for (size_t g = 0; g < rewrite.gap_count; g++) {
                told = told || (expected->lsn >= rewrite.gaps[g].from_lsn &&
                                expected->lsn < rewrite.gaps[g].to_lsn);
            }
            if (told == there) {
                fail_msg("WEIR_TEST_SEED=%llu, round %u: the record at LSN %llu is %s",
                         (unsigned long long)seed,
                         round,
                         (unsigned long long)expected->lsn,
                         there ? "there and told as lost" : "not there and not told");
            }
            if (there) {
                assert_int_equal(found->records[at].tag, expected->tag);
                assert_int_equal(found->records[at].bytes, expected->bytes);
                assert_memory_equal(found->records[at].data, expected->data, expected->bytes);
                at++;
            }
        }
        assert_int_equal(at, found->count);
        for (size_t g = 1; g < rewrite.gap_count; g++) {
            assert_true(rewrite.gaps[g].from_lsn >= rewrite.gaps[g - 1].to_lsn);
        }
        read_close(found);
        free(found);
        free(hit);
        dir_remove(rewrite.path);
        log_builder_exit(&log);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_holds_every_record_at_its_lsn),
        cmocka_unit_test(an_empty_log_is_copied_empty),
        cmocka_unit_test(a_copy_begins_at_the_oldest_record),
        cmocka_unit_test(a_copy_ends_at_its_limit),
        cmocka_unit_test(a_damaged_log_is_not_copied),
        cmocka_unit_test(what_was_trimmed_meanwhile_is_told_from_damage),
        cmocka_unit_test(a_checkpoint_that_moved_on_is_told_from_damage),
        cmocka_unit_test(a_limit_below_the_oldest_record_is_a_mistake),
        cmocka_unit_test(a_log_of_which_all_was_trimmed_is_copied_empty),
        cmocka_unit_test(a_log_in_the_way_is_left_alone),
        cmocka_unit_test(a_failure_leaves_nothing_and_no_log),
        cmocka_unit_test(a_damaged_payload_costs_its_record_only),
        cmocka_unit_test(a_damaged_frame_header_costs_its_record_only),
        cmocka_unit_test(a_damaged_batch_header_costs_nothing),
        cmocka_unit_test(a_lost_batch_is_one_gap),
        cmocka_unit_test(several_gaps_are_told_in_order),
        cmocka_unit_test(missing_segments_are_gaps),
        cmocka_unit_test(what_cannot_be_read_is_a_gap),
        cmocka_unit_test(a_short_file_gives_what_it_has),
        cmocka_unit_test(a_name_beyond_its_file_costs_nothing),
        cmocka_unit_test(a_length_beyond_its_file_costs_nothing),
        cmocka_unit_test(without_a_control_file_all_is_still_there),
        cmocka_unit_test(what_was_cut_does_not_come_back),
        cmocka_unit_test(a_foreign_segment_is_left_out),
        cmocka_unit_test(gaps_of_the_source_stay_gaps),
        cmocka_unit_test(many_segments_are_salvaged),
        cmocka_unit_test(a_gap_with_bad_padding_is_a_gap),
        cmocka_unit_test(a_newer_segment_is_refused),
        cmocka_unit_test(files_in_a_segments_way_cost_nothing),
        cmocka_unit_test(an_earlier_epochs_promise_is_no_gap),
        cmocka_unit_test(records_below_the_oldest_of_a_damaged_batch_are_left_out),
        cmocka_unit_test(nothing_to_salvage_is_no_log),
        cmocka_unit_test(frames_in_payload_are_no_records),
        cmocka_unit_test(a_batch_in_payload_is_none),
        cmocka_unit_test(noise_costs_no_more_than_it_hits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
