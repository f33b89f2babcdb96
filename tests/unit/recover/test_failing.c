/* SPDX-License-Identifier: Apache-2.0
 * Scan, repair, copy and salvage while one thing after the other fails: every allocation, and every
 * call on files, once and from then on for ever. Whatever fails: the source stays as it is, nothing
 * leaks, no record is made up, an end of the log is never what a failure is taken for, and what
 * could not be made whole is not there. */
#include "unit/recover/rig.h"

#include "api/log.h"
#include "base/num.h"
#include "recover/repair.h"
#include "recover/rewrite.h"
#include "stress/memory_dir.h"

#include <dirent.h>
#include <fcntl.h>

#define BLOCK 512u
#define FROM "log"
#define TO "out"

struct world {
    struct memory_dir memory;
    struct weir__mem mem;
    bool armed;
    bool forever;
    unsigned calls;     /* since it was armed */
    unsigned fail_call; /* this one fails, from 1; 0: none */
    int error;
    enum memory_call failed; /* the first that did */
    unsigned allocations;
    unsigned fail_allocation;
    /* Not 0: before the read of this number, from 1, a trim takes the first segment away. */
    unsigned trim_at;
    unsigned reads;
    struct weir__control trimmed;
    struct weir__range gone;
};

/* What a writer in another process does: the control file first, then the file. Behind the seam's
 * back, since it is called under its mutex. */
static void world_trim(struct world *world)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    uint8_t copy[WEIR__CONTROL_USED_BYTES];
    weir__segment_name(world->gone.base, world->gone.end, name);
    weir__control_encode(&world->trimmed, copy);
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        struct memory_file *const file = &world->memory.files[i];
        if (!file->used || strcmp(world->memory.dirs[file->dir], FROM) != 0) {
            continue;
        }
        if (strcmp(file->name, "weir.control") == 0) {
            memcpy(file->data, copy, sizeof copy);
            memcpy(file->data + WEIR__CONTROL_COPY_OFFSET, copy, sizeof copy);
        } else if (strcmp(file->name, name) == 0) {
            memset(file->data, 0xaa, file->bytes); /* as recycled */
        }
    }
}

static long world_before(void *ctx, enum memory_call call, const char *name, size_t bytes)
{
    struct world *const world = ctx;
    (void)name;
    (void)bytes;
    if (!world->armed) {
        return 0;
    }
    world->calls++;
    if (call == MEMORY_CALL_read && ++world->reads == world->trim_at) {
        world_trim(world);
    }
    if (world->fail_call == 0 || world->calls < world->fail_call ||
        (world->calls > world->fail_call && !world->forever)) {
        return 0;
    }
    if (world->calls == world->fail_call) {
        world->failed = call;
    }
    return world->error;
}

static void *world_alloc(void *ctx, size_t bytes, size_t align)
{
    struct world *const world = ctx;
    if (world->armed && ++world->allocations == world->fail_allocation) {
        return NULL;
    }
    return memory_hooks.alloc(memory_hooks.ctx, bytes, align);
}

static void world_release(void *ctx, void *block, size_t bytes)
{
    (void)ctx;
    memory_hooks.release(memory_hooks.ctx, block, bytes);
}

static struct world *world_new(void)
{
    struct world *const world = calloc(1, sizeof *world);
    assert_non_null(world);
    memory_dir_init(&world->memory);
    world->memory.before = world_before;
    world->memory.before_ctx = world;
    world->memory.file_bytes_max = UINT64_MAX;
    const struct weir__mem_hooks hooks = {world_alloc, world_release, world};
    weir__mem_init(&world->mem, &hooks);
    return world;
}

static void world_free(struct world *world)
{
    weir__mem_exit(&world->mem);
    memory_dir_exit(&world->memory);
    free(world);
}

/* The files of a log that was built on disk. */
static void world_load(struct world *world, const struct log_builder *log)
{
    memory_dir_clear(&world->memory, NULL);
    DIR *const list = opendir(log->path);
    assert_non_null(list);
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        struct memory_file *const to = memory_dir_make(&world->memory, FROM, entry->d_name);
        const int file = openat(dirfd(list), entry->d_name, O_RDONLY | O_CLOEXEC);
        assert_true(file >= 0);
        uint8_t bytes[4096];
        size_t offset = 0;
        ssize_t got;
        while ((got = read(file, bytes, sizeof bytes)) > 0) {
            memory_file_write(to, offset, bytes, (size_t)got);
            offset += (size_t)got;
        }
        assert_int_equal(close(file), 0);
    }
    (void)closedir(list);
}

static void world_arm(struct world *world)
{
    world->armed = true;
    world->calls = 0;
    world->allocations = 0;
    world->reads = 0;
    world->failed = MEMORY_CALLS;
}

static bool world_met(const struct world *world)
{
    return (world->fail_call != 0 && world->calls >= world->fail_call) ||
           (world->fail_allocation != 0 && world->allocations >= world->fail_allocation);
}

/* Chooses what fails next; false: everything did. What fails must have been met before. */
static bool world_next(struct world *world, bool allocations)
{
    unsigned *const fail = allocations ? &world->fail_allocation : &world->fail_call;
    if (*fail != 0 && !world_met(world)) {
        *fail = 0;
        return false;
    }
    ++*fail;
    return true;
}

/* ---- logs ---- */

/* unpromised: no header tells that anything before it was durable. */
static void build_rich(struct log_builder *log, bool unpromised)
{
    log_builder_init(
        log,
        &(struct log_builder_config){.segment_bytes = 64 * BLOCK, .first_lsn = 64 * BLOCK});
    log->promise = unpromised ? log->first_lsn : UINT64_MAX;
    for (size_t i = 0; i < 3; i++) {
        log_builder_batch(log, 4, 900 + 100 * i);
    }
    log_builder_begin(log);
    log_builder_add(log, "first", 5, 11, true);
    log_builder_add(log, "second", 6, 12, false);
    log_builder_skip(log, 77);
    log_builder_add(log, "after", 5, 14, false);
    log_builder_end(log);
    log_builder_epoch(log);
    log_builder_batch(log, 1, 9000);
    const weir_lsn cut = log->position.lsn;
    log_builder_batch(log, 2, 400);
    log_builder_cut(log, cut);
    log_builder_rotate(log);
    for (size_t i = 0; i < 24; i++) {
        log_builder_batch(log, 10, 290);
    }
    log_builder_prepare(log, 1);
}

/* Every record of `to` is one of the log's, in order; how many there are. */
static size_t records_there(struct world *world, const struct log_builder *log)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    options.read_only = true;
    options.must_exist = true;
    options.no_huge_pages = true;
    options.io = WEIR_IO_POSIX;
    struct weir_log *out = NULL;
    struct weir_cursor *cursor = NULL;
    assert_int_equal(weir__open_with(&world->memory.io, TO, &options, &out, NULL), 0);
    struct weir_report report;
    weir_log_report(out, &report);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(weir_cursor_open(out, WEIR_LSN_OLDEST, WEIR_WRITTEN, 0, &cursor), 0);
    size_t count = 0;
    size_t at = 0;
    struct weir_entry entry;
    int code;
    while ((code = weir_cursor_next(cursor, WEIR_TRY, &entry)) == 0) {
        while (at < log->record_count && log->records[at].lsn < entry.lsn) {
            at++;
        }
        assert_true(at < log->record_count);
        const struct log_builder_record *const record = &log->records[at];
        assert_int_equal(record->lsn, entry.lsn);
        assert_int_equal(record->tag, entry.tag);
        assert_int_equal(record->bytes, entry.bytes);
        assert_memory_equal(record->data, entry.data, entry.bytes);
        count++;
    }
    assert_int_equal(code, WEIR_EEND);
    weir_cursor_close(cursor);
    assert_int_equal(weir_close(out, NULL), 0);
    return count;
}

/* Files of `to` other than the lock. */
static unsigned files_there(const struct world *world)
{
    unsigned count = 0;
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        const struct memory_file *const file = &world->memory.files[i];
        count += file->used && file->name[0] != '\0' && strcmp(file->name, "weir.lock") != 0 &&
                 strcmp(world->memory.dirs[file->dir], TO) == 0;
    }
    return count;
}

/* ---- copy and salvage ---- */

struct rewritten {
    int code;
    struct weir__fault fault;
    struct weir_copy_report report;
    uint64_t gaps;
};

static void count_gap(void *ctx, const struct weir_gap *gap)
{
    struct rewritten *const rewritten = ctx;
    assert_true(gap->from_lsn < gap->to_lsn);
    assert_true(gap->why[0] != '\0');
    rewritten->gaps++;
}

static struct rewritten rewrite(struct world *world, bool salvage)
{
    struct rewritten rewritten = {.fault = WEIR__FAULT_NONE};
    struct weir__dir dir;
    memory_dir_clear(&world->memory, TO);
    const uint64_t before = memory_dir_hash(&world->memory, FROM);
    assert_int_equal(
        weir__dir_look(&dir, &world->memory.io, &world->mem, FROM, false, &rewritten.fault),
        0);
    const struct weir__rewrite_config config = {
        .from = &dir,
        .to_path = TO,
        .salvage = salvage,
        .limit = UINT64_MAX,
        .gap = count_gap,
        .ctx = &rewritten,
    };
    world_arm(world);
    rewritten.code = weir__rewrite(&config, &rewritten.report, &rewritten.fault);
    world->armed = false;
    weir__dir_close(&dir);
    assert_true(memory_dir_hash(&world->memory, FROM) == before);
    assert_int_equal(memory_dir_open_count(&world->memory), 0);
    assert_int_equal(weir__load(&world->mem.bytes, relaxed), 0);
    return rewritten;
}

/* Once whole, then with each failure. */
static void rewrite_with_failures(struct world *world, const struct log_builder *log, bool salvage)
{
    const struct rewritten whole = rewrite(world, salvage);
    assert_int_equal(whole.code, 0);
    const size_t all = records_there(world, log);
    assert_int_equal(all, whole.report.records);
    assert_true(all > 20);
    unsigned failed = 0;
    unsigned survived = 0;

    while (world_next(world, true)) {
        const struct rewritten now = rewrite(world, salvage);
        if (now.code == 0) {
            /* Something that can be done without, like reading ahead. */
            assert_int_equal(records_there(world, log), all);
            assert_int_equal(now.gaps, whole.gaps);
            continue;
        }
        assert_int_equal(now.code, -ENOMEM);
        assert_int_equal(now.fault.code, -ENOMEM);
        assert_true(now.fault.text[0] != '\0');
        assert_int_equal(files_there(world), 0);
        failed++;
    }
    assert_true(failed > 5);

    static const int errors[] = {-EIO, -ENOMEM, -ENOSPC};
    for (unsigned e = 0; e < WEIR__ARRAY_COUNT(errors); e++) {
        for (int forever = 0; forever < 2; forever++) {
            world->error = errors[e];
            world->forever = forever != 0;
            while (world_next(world, false)) {
                const struct rewritten now = rewrite(world, salvage);
                if (now.code == 0) {
                    /* What could not be read is told as a gap, or was not needed. */
                    const size_t there = records_there(world, log);
                    assert_int_equal(there, now.report.records);
                    assert_int_equal(now.report.gaps, now.gaps);
                    assert_true(there == all || (salvage && now.gaps > 0));
                    assert_true(there <= log->record_count);
                    survived++;
                    continue;
                }
                assert_int_equal(now.fault.code, now.code);
                assert_true(now.fault.text[0] != '\0');
                if (world->failed != MEMORY_CALL_unlink && forever == 0) {
                    assert_int_equal(files_there(world), 0);
                }
                failed++;
            }
        }
    }
    assert_true(failed > 60);
    assert_true(survived > 0);
}

static void a_copy_that_fails_leaves_nothing(void **state)
{
    (void)state;
    struct world *const world = world_new();
    struct log_builder log;
    build_rich(&log, false);
    rig_close_clean(&log, NULL);
    world_load(world, &log);
    rewrite_with_failures(world, &log, false);
    log_builder_exit(&log);
    world_free(world);
}

static void a_salvage_that_fails_leaves_nothing(void **state)
{
    (void)state;
    struct world *const world = world_new();
    for (int damage = 0; damage < 4; damage++) {
        struct log_builder log;
        build_rich(&log, false);
        if (damage < 2) {
            rig_close_clean(&log, NULL);
        }
        if (damage > 0) {
            /* A batch is gone, a payload is bad, a header is bad. */
            log_builder_fill(&log, log.batches[9].header.lsn, log.batches[9].end, 0);
            log_builder_flip(&log, log.batches[2].header.lsn + 400, 4);
            log_builder_flip(&log, log.batches[12].header.lsn + 30, 4);
        }
        if (damage == 3) {
            /* Two segments in the middle are gone: their place is made anew, hollow. */
            assert_true(log.segment_count > 4);
            log_builder_remove(&log, log.segments[1]);
            log_builder_remove(&log, log.segments[1]);
        }
        world_load(world, &log);
        rewrite_with_failures(world, &log, true);
        log_builder_exit(&log);
    }
    world_free(world);
}

/* A writer trims while its log is copied: the copy is to be begun again, and nothing was damaged. */
static void a_copy_overtaken_by_a_trim_says_so(void **state)
{
    (void)state;
    struct world *const world = world_new();
    struct log_builder log;
    build_rich(&log, false);
    rig_close_clean(&log, &world->trimmed);
    world->gone = log.segments[0];
    world->trimmed.oldest_lsn = world->gone.end;
    world->trimmed.generation += 2;
    unsigned overtaken = 0;
    unsigned whole = 0;
    for (world->trim_at = 1; whole < 2; world->trim_at++) {
        struct rewritten rewritten = {.fault = WEIR__FAULT_NONE};
        struct weir__dir dir;
        world_load(world, &log);
        assert_int_equal(
            weir__dir_look(&dir, &world->memory.io, &world->mem, FROM, false, &rewritten.fault),
            0);
        const struct weir__rewrite_config config = {
            .from = &dir,
            .to_path = TO,
            .limit = UINT64_MAX,
        };
        world_arm(world);
        const int code = weir__rewrite(&config, &rewritten.report, &rewritten.fault);
        world->armed = false;
        weir__dir_close(&dir);
        if (code == 0) {
            whole += world->reads < world->trim_at;
            (void)records_there(world, &log);
        } else {
            assert_int_equal(code, WEIR_EPASSED);
            assert_int_equal(rewritten.fault.code, WEIR_EPASSED);
            assert_int_equal(files_there(world), 0);
            overtaken++;
        }
        assert_true(world->trim_at < 10000);
    }
    assert_true(overtaken > 0);
    log_builder_exit(&log);
    world_free(world);
}

/* ---- scan and repair ---- */

struct scanned {
    int code;
    int repair_code;
    struct weir__fault fault;
    struct weir__scan_result result;
};

static struct scanned scan(struct world *world, bool from_oldest, bool repair)
{
    struct scanned scanned = {.fault = WEIR__FAULT_NONE};
    struct weir__dir dir;
    struct weir__catalog catalog;
    struct weir__control_found found;
    assert_int_equal(
        weir__dir_look(&dir, &world->memory.io, &world->mem, FROM, false, &scanned.fault),
        0);
    assert_int_equal(weir__catalog_init(&catalog, &world->mem), 0);
    assert_int_equal(weir__catalog_load(&catalog, &dir, &scanned.fault), 0);
    assert_int_equal(weir__scan_control(&dir, &catalog, &found, &scanned.fault), 0);
    const struct weir__scan_config config = {
        .dir = &dir,
        .catalog = &catalog,
        .control = &found,
        .from_oldest = from_oldest,
    };
    if (!repair) {
        world_arm(world);
    }
    scanned.code = weir__scan(&config, &scanned.result, &scanned.fault);
    if (repair) {
        assert_int_equal(scanned.code, 0);
        world_arm(world);
        scanned.repair_code = weir__repair(&dir, &catalog, &scanned.result, &scanned.fault);
    }
    world->armed = false;
    weir__catalog_exit(&catalog);
    weir__dir_close(&dir);
    assert_int_equal(memory_dir_open_count(&world->memory), 0);
    assert_int_equal(weir__load(&world->mem.bytes, relaxed), 0);
    return scanned;
}

/* A call that fails is told: by a code, or as a block that cannot be read. It is never an end, and
 * never damage. */
static void a_scan_never_takes_a_failure_for_an_end(void **state)
{
    (void)state;
    struct world *const world = world_new();
    struct log_builder log;
    build_rich(&log, false);
    for (int closed = 0; closed < 2; closed++) {
        if (closed != 0) {
            rig_close_clean(&log, NULL);
        } else {
            rig_crash(&log, log.first_lsn, NULL);
        }
        world_load(world, &log);
        for (int from_oldest = 0; from_oldest < 2; from_oldest++) {
            const struct scanned whole = scan(world, from_oldest != 0, false);
            assert_int_equal(whole.code, 0);
            assert_int_equal(whole.result.end.lsn, log.position.lsn);
            unsigned told = 0;
            for (int kind = 0; kind < 5; kind++) {
                /* Allocations, then calls: two errors, once and for ever. */
                world->error = kind % 2 == 0 ? -ENOMEM : -EIO;
                world->forever = kind > 2;
                while (world_next(world, kind == 0)) {
                    const struct scanned now = scan(world, from_oldest != 0, false);
                    const struct weir_report *const report = &now.result.report;
                    if (now.code != 0) {
                        assert_true(now.code == world->error);
                        assert_int_equal(now.fault.code, now.code);
                        assert_true(now.fault.text[0] != '\0');
                        told++;
                    } else if (report->verdict == WEIR_VERDICT_UNREADABLE) {
                        assert_true(kind > 0);
                        assert_int_equal(report->error.code, WEIR_EUNREADABLE);
                        assert_true(report->bad_lsn != UINT64_MAX);
                        told++;
                    } else {
                        assert_int_equal(report->verdict, whole.result.report.verdict);
                        assert_int_equal(report->end_lsn, whole.result.report.end_lsn);
                        assert_int_equal(report->records, whole.result.report.records);
                    }
                }
            }
            assert_true(told > 5);
        }
    }
    log_builder_exit(&log);
    world_free(world);
}

/* What was to be made durable and could not be is an error; nothing else was changed, and the next
 * repair does all of it. A read that fails once is tried again. */
static void a_repair_that_fails_is_told(void **state)
{
    (void)state;
    struct world *const world = world_new();
    struct log_builder log;
    build_rich(&log, true);
    rig_crash(&log, log.first_lsn, NULL);
    world_load(world, &log);
    const uint64_t before = memory_dir_hash(&world->memory, FROM);
    assert_int_equal(scan(world, true, true).repair_code, 0);
    unsigned told = 0;
    for (int kind = 0; kind < 5; kind++) {
        /* As above. */
        world->error = kind % 2 == 0 ? -ENOMEM : -EIO;
        world->forever = kind > 2;
        while (world_next(world, kind == 0)) {
            const struct scanned now = scan(world, true, true);
            assert_true(memory_dir_hash(&world->memory, FROM) == before);
            if (!world_met(world) ||
                (now.repair_code == 0 && !world->forever && world->failed == MEMORY_CALL_read)) {
                assert_int_equal(now.repair_code, 0);
                continue;
            }
            assert_true(now.repair_code == world->error || now.repair_code == WEIR_EUNREADABLE);
            assert_int_equal(now.fault.code, now.repair_code);
            assert_true(now.fault.text[0] != '\0');
            told++;
        }
    }
    assert_true(told > 5);
    log_builder_exit(&log);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_that_fails_leaves_nothing),
        cmocka_unit_test(a_salvage_that_fails_leaves_nothing),
        cmocka_unit_test(a_copy_overtaken_by_a_trim_says_so),
        cmocka_unit_test(a_scan_never_takes_a_failure_for_an_end),
        cmocka_unit_test(a_repair_that_fails_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
