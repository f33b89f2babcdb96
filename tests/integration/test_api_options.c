/* SPDX-License-Identifier: Apache-2.0
 * Options: every refusal names the option and leaves nothing behind, defaults are what the header
 * says. And the words for codes. */
#include "api/log.h"
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (MIB * KIB)

static void *no_memory(void *ctx, size_t bytes, size_t align)
{
    (void)ctx, (void)bytes, (void)align;
    return NULL;
}

static const struct weir_memory_hooks half_hooks = {.alloc = no_memory};

struct refusal {
    const char *option;
    struct weir_options options;
};

#define REFUSED(name, ...)                                                                         \
    {                                                                                              \
        name,                                                                                      \
        {                                                                                          \
            .struct_bytes = sizeof(struct weir_options), __VA_ARGS__                               \
        }                                                                                          \
    }

static const struct refusal refusals[] = {
    {"struct_bytes", {.struct_bytes = 0}},
    {"struct_bytes", {.struct_bytes = 8}},
    REFUSED("io", .io = (enum weir_io)4),
    REFUSED("io", .io = (enum weir_io) - 1),
    REFUSED("block_bytes", .block_bytes = 256),
    REFUSED("block_bytes", .block_bytes = 513),
    REFUSED("block_bytes", .block_bytes = 131072),
    REFUSED("slot_bytes", .slot_bytes = 2048),
    REFUSED("slot_bytes", .slot_bytes = 5000),
    REFUSED("slot_bytes", .slot_bytes = 17 * MIB),
    REFUSED("slot_bytes", .slot_bytes = 4096, .block_bytes = 8192),
    REFUSED("slots", .slots = 1),
    REFUSED("slots", .slots = 513),
    REFUSED("oversize_buffers", .oversize_buffers = 65),
    REFUSED("max_inflight", .max_inflight = 257),
    REFUSED("spare_segments", .spare_segments = 17),
    REFUSED("segment_bytes", .segment_bytes = 4097),
    REFUSED("segment_bytes", .segment_bytes = 8192),
    REFUSED("segment_bytes", .segment_bytes = UINT64_C(1) << 41),
    REFUSED("first_lsn", .first_lsn = 100),
    REFUSED("first_lsn", .first_lsn = UINT64_C(1) << 63),
    REFUSED("first_lsn", .first_lsn = UINT64_MAX - 4095),
    REFUSED("record_bytes_max", .record_bytes_max = UINT32_C(1) << 31),
    REFUSED("policy", .policy = (enum weir_policy)3),
    REFUSED("policy", .policy = (enum weir_policy) - 1),
    REFUSED("memory", .memory = &half_hooks),
};

static void every_refusal_names_the_option(void **state)
{
    (void)state;
    char parent[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    temp_dir_make(parent);
    temp_dir_join(parent, "log", path);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct weir_log *log = (void *)1;
        struct weir_error error;
        struct stat st;
        print_message("%zu: %s\n", i, refusals[i].option);
        assert_int_equal(weir_open(path, &refusals[i].options, &log, &error), -EINVAL);
        assert_ptr_equal(log, (void *)1); /* written only on 0 */
        assert_int_equal(error.code, -EINVAL);
        assert_non_null(strstr(error.text, refusals[i].option));
        assert_int_equal(error.offset, UINT64_MAX);
        assert_int_equal(error.lsn, UINT64_MAX);
        assert_int_not_equal(stat(path, &st), 0); /* not even the directory */
        assert_int_equal(weir_memory_bound(&refusals[i].options), 0);
        assert_int_equal(weir_cursor_memory_bound(&refusals[i].options), 0);
        assert_int_equal(weir_open(path, &refusals[i].options, &log, NULL), -EINVAL);
    }
    temp_dir_remove(parent);
}

/* Refused where the segment's size is known. */
static void a_record_limit_beyond_a_segment_is_refused(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, &rig_ways[8]);
    rig.options.record_bytes_max = RIG_SEGMENT;
    assert_int_equal(rig_open_plain(&rig), -EINVAL);
    assert_non_null(strstr(rig.error.text, "record_bytes_max"));
    /* The largest that fits; one byte more is too many. */
    const uint32_t most = RIG_SEGMENT - RIG_BLOCK - 96 - 24 - 8;
    rig.options.record_bytes_max = most + 1;
    assert_int_equal(rig_open_plain(&rig), -EINVAL);
    rig.options.record_bytes_max = most;
    assert_int_equal(rig_open_plain(&rig), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig.options.record_bytes_max = most + 1;
    assert_int_equal(rig_open_plain(&rig), -EINVAL);
    assert_non_null(strstr(rig.error.text, "record_bytes_max"));
    rig_destroy(&rig);
}

/* At reopening against the log's own block. */
static void sizes_that_are_no_multiple_of_the_logs_block_are_refused(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, &rig_ways[8]);
    rig.options.block_bytes = 16384;
    rig.options.slot_bytes = 32768;
    assert_int_equal(rig_open_plain(&rig), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig.options.block_bytes = 0;
    rig.options.slot_bytes = 20480;
    assert_int_equal(rig_open_plain(&rig), -EINVAL);
    assert_non_null(strstr(rig.error.text, "slot_bytes"));
    rig.options.slot_bytes = 32768;
    rig.options.segment_bytes = RIG_SEGMENT + 4096;
    assert_int_equal(rig_open_plain(&rig), -EINVAL);
    assert_non_null(strstr(rig.error.text, "segment_bytes"));
    rig_destroy(&rig);
}

/* A struct of another age: shorter, or longer and zero beyond what this library knows. */
static void structs_of_other_versions_are_read_as_far_as_they_go(void **state)
{
    (void)state;
    struct {
        struct weir_options options;
        unsigned char tail[64];
    } newer;
    struct rig rig;
    rig_make(&rig, &rig_ways[8]);
    memset(&newer, 0, sizeof newer);
    newer.options = rig.options;
    newer.options.struct_bytes = sizeof newer;
    struct weir_log *log;
    assert_int_equal(weir_open(rig.path, &newer.options, &log, NULL), 0);
    assert_int_equal(weir_close(log, NULL), 0);

    newer.tail[63] = 1;
    struct weir_error error;
    assert_int_equal(weir_open(rig.path, &newer.options, &log, &error), -EINVAL);
    assert_non_null(strstr(error.text, "struct_bytes"));

    /* Nothing behind segment_bytes counts: 300 slots would be refused, were they read. */
    struct weir_options older = rig.options;
    older.struct_bytes = offsetof(struct weir_options, block_bytes);
    older.slots = 3000;
    assert_int_equal(weir_open(rig.path, &older, &log, &error), 0);
    struct weir_log_info info;
    weir_log_describe(log, &info);
    assert_int_equal(info.slots, 8);
    assert_int_equal(weir_close(log, NULL), 0);
    rig_destroy(&rig);
}

/* Bytes of this process that were asked onto huge pages. */
static uint64_t advised_huge(void)
{
    FILE *const maps = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long from = 0;
    unsigned long to = 0;
    uint64_t bytes = 0;
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long a;
        unsigned long b;
        if (sscanf(line, "%lx-%lx ", &a, &b) == 2) {
            from = a;
            to = b;
        } else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " hg") != NULL) {
            bytes += to - from;
        }
    }
    (void)fclose(maps);
    return bytes;
}

static void huge_pages_are_asked_for_unless_refused(void **state)
{
    (void)state;
    for (int refused = 0; refused < 2; refused++) {
        const uint64_t before = advised_huge(); /* what was freed may stay advised */
        char path[TEMP_DIR_BYTES];
        struct weir_options options = WEIR_OPTIONS_INIT;
        struct weir_log *log;
        struct weir_log_info info;
        options.no_huge_pages = refused != 0;
        temp_dir_make(path);
        assert_int_equal(weir_open(path, &options, &log, NULL), 0);
        weir_log_describe(log, &info);
        assert_int_equal(info.huge_pages, refused == 0);
        assert_int_equal(advised_huge() >= before + 8 * MIB, refused == 0);
        assert_int_equal(weir_close(log, NULL), 0);
        temp_dir_remove(path);
    }
}

/* From 8 or 6 waiting producers per core on they yield, 16 per core are collected; or nobody. */
static void policy_is_described_in_numbers(void **state)
{
    (void)state;
    const uint32_t per_core[] = {
        [WEIR_POLICY_DEFAULT] = 8,
        [WEIR_POLICY_LOW_LATENCY] = 6,
        [WEIR_POLICY_OFF] = 0,
    };
    for (int policy = WEIR_POLICY_DEFAULT; policy <= WEIR_POLICY_OFF; policy++) {
        struct rig rig;
        struct weir_log_info info;
        rig_make(&rig, &rig_ways[8]);
        rig.options.policy = (enum weir_policy)policy;
        assert_int_equal(rig_open_plain(&rig), 0);
        weir_log_describe(rig.log, &info);
        assert_int_equal(info.policy, policy);
        assert_true(info.cores >= 1);
        assert_int_equal(info.yield_from, per_core[policy] * info.cores);
        assert_int_equal(info.collect_max, policy == WEIR_POLICY_OFF ? 0 : 16 * info.cores);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

static void defaults_are_what_the_header_says(void **state)
{
    (void)state;
    char path[TEMP_DIR_BYTES];
    struct weir_log *log;
    struct weir_log_info info;
    struct weir_error error;
    struct weir_report report;
    temp_dir_make(path);
    assert_int_equal(weir_open(path, NULL, &log, &error), 0);
    assert_int_equal(error.code, 0);
    weir_log_describe(log, &info);
    assert_int_equal(info.io_asked, WEIR_IO_AUTO);
    assert_int_equal(info.io_used, info.io_uring ? WEIR_IO_AUTO : WEIR_IO_POSIX);
    assert_true(info.block_bytes >= 4096);
    assert_int_equal(info.slot_bytes, MIB);
    assert_int_equal(info.slots, 8);
    assert_int_equal(info.max_inflight, 8);
    assert_int_equal(info.record_bytes_max, 16 * MIB);
    assert_int_equal(info.segment_bytes, 64 * MIB);
    assert_int_equal(info.epoch, 1);
    assert_int_not_equal(info.log_id, 0);
    assert_string_not_equal(info.fs_name, "");
    assert_string_not_equal(info.crc32c, "");
    assert_string_not_equal(info.io_reason, "");
    assert_true(info.sync_ns > 0);
    assert_true(info.huge_pages);
    assert_int_equal(info.policy, WEIR_POLICY_DEFAULT);
    weir_log_report(log, &report);
    assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
    assert_int_equal(report.end_lsn, info.block_bytes);
    assert_int_equal(weir_oldest_lsn(log), info.block_bytes);
    assert_int_equal(weir_durable_lsn(log), info.block_bytes);
    assert_int_equal(weir_log_error(log, &error), 0);
    assert_int_equal(error.code, 0);
    assert_int_equal(weir_close(log, &error), 0);
    temp_dir_remove(path);
}

/* Also where there was nothing to find. */
static void the_report_names_the_log_and_its_epoch(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, &rig_ways[8]);
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        struct weir_log_info info;
        struct weir_report report;
        assert_int_equal(rig_open_plain(&rig), 0);
        weir_log_describe(rig.log, &info);
        weir_log_report(rig.log, &report);
        assert_int_equal(info.epoch, epoch);
        assert_int_equal(report.log_id, info.log_id);
        assert_true(report.epoch == epoch || report.epoch == epoch - 1); /* before or after */
        assert_true(report.epoch >= 1);
        assert_int_equal(report.verdict, WEIR_VERDICT_CLEAN);
        assert_string_not_equal(report.why, "");
        assert_int_equal(rig_close(&rig), 0);
    }
    rig_destroy(&rig);
}

/* ---- what is taken --------------------------------------------------------------------------- */

#define TAKEN(...)                                                                                 \
    {                                                                                              \
        .struct_bytes = sizeof(struct weir_options), __VA_ARGS__                                   \
    }

/* The first and the last value of every range. */
static const struct weir_options taken[] = {
    TAKEN(.io = WEIR_IO_POSIX),
    TAKEN(.slot_bytes = 4096),
    TAKEN(.slot_bytes = 16 * MIB),
    TAKEN(.slots = 2),
    TAKEN(.slots = 512),
    TAKEN(.oversize_buffers = 1),
    TAKEN(.oversize_buffers = 64),
    TAKEN(.max_inflight = 1),
    TAKEN(.max_inflight = 256),
    TAKEN(.spare_segments = 1),
    TAKEN(.spare_segments = 16),
    TAKEN(.recycle_segments = 1),
    TAKEN(.recycle_segments = UINT32_MAX),
    TAKEN(.lock_timeout_ns = 1),
    TAKEN(.stall_warn_ns = UINT64_MAX, .stall_limit_ns = UINT64_MAX),
    TAKEN(.record_bytes_max = 1),
    TAKEN(.first_lsn = 4096),
    TAKEN(.block_bytes = 8192, .slot_bytes = 8192),
};

static void every_bound_is_inside(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        struct weir_options settled;
        struct weir__fault fault = WEIR__FAULT_NONE;
        print_message("%zu\n", i);
        assert_int_equal(weir__options_check(&taken[i], &settled, &fault), 0);
        assert_int_not_equal(weir_memory_bound(&taken[i]), 0);
        assert_int_not_equal(weir_cursor_memory_bound(&taken[i]), 0);
    }
}

/* Those that an open log does not describe. */
static void defaults_behind_the_scenes(void **state)
{
    (void)state;
    const struct weir_options none = WEIR_OPTIONS_INIT;
    const struct weir_options *const asked[2] = {NULL, &none};
    for (size_t i = 0; i < 2; i++) {
        struct weir_options settled;
        struct weir__fault fault = WEIR__FAULT_NONE;
        assert_int_equal(weir__options_check(asked[i], &settled, &fault), 0);
        assert_int_equal(settled.oversize_buffers, 1);
        assert_int_equal(settled.spare_segments, 1);
        assert_int_equal(settled.recycle_segments, 16);
        assert_int_equal(settled.lock_timeout_ns, UINT64_C(2000000000));
        assert_int_equal(settled.stall_warn_ns, UINT64_C(1000000000));
        assert_int_equal(settled.stall_limit_ns, 0);
        assert_int_equal(settled.first_lsn, 0);
        assert_false(settled.read_only || settled.must_exist || settled.buffered);
    }
    struct weir_options settled;
    const struct weir_options impatient = TAKEN(.lock_timeout_ns = UINT64_MAX);
    assert_int_equal(weir__options_check(&impatient, &settled, NULL), 0);
    assert_int_equal(settled.lock_timeout_ns, 0);
}

/* By the formula of the header: each I/O buffer rounded up to 2 MiB, or to 4 KiB below that. */
static void the_memory_bound_follows_its_formula(void **state)
{
    (void)state;
    const struct weir_options none = WEIR_OPTIONS_INIT;
    const uint64_t plain = weir_memory_bound(NULL);
    assert_int_equal(weir_memory_bound(&none), plain);
    assert_int_equal(weir_cursor_memory_bound(&none), weir_cursor_memory_bound(NULL));
    assert_true(plain >= 8 * MIB + 16 * MIB); /* slots, and one buffer for the largest record */

    const struct weir_options slots = TAKEN(.slots = 64, .slot_bytes = 2 * MIB);
    const uint64_t slots_more = weir_memory_bound(&slots) - plain;
    assert_true(slots_more >= 120 * MIB && slots_more < 121 * MIB);
    const struct weir_options oversize = TAKEN(.oversize_buffers = 5);
    const uint64_t oversize_more = weir_memory_bound(&oversize) - plain;
    assert_true(oversize_more >= 4 * 16 * MIB && oversize_more < 4 * 19 * MIB);
    const struct weir_options records = TAKEN(.record_bytes_max = 48 * MIB, .segment_bytes = GIB);
    const uint64_t records_more = weir_memory_bound(&records) - plain;
    assert_true(records_more >= 32 * MIB && records_more < 35 * MIB);
    assert_true(weir_cursor_memory_bound(&records) >= weir_cursor_memory_bound(NULL) + 32 * MIB);
}

/* An open log tells what it was asked for, where that is nothing like the defaults. */
static void a_log_describes_what_it_was_asked_for(void **state)
{
    (void)state;
    struct rig rig;
    struct weir_log_info info;
    struct weir_log_info buffered;
    struct event_seen event;
    rig_make(&rig, &rig_ways[8]);
    rig.options.block_bytes = 8192;
    rig.options.slot_bytes = 24576;
    rig.options.slots = 5;
    rig.options.max_inflight = 3;
    rig.options.record_bytes_max = 12345;
    rig.options.segment_bytes = 3 * RIG_SEGMENT;
    assert_int_equal(rig_open_plain(&rig), 0);
    weir_log_describe(rig.log, &info);
    assert_int_equal(info.io_asked, WEIR_IO_POSIX);
    assert_int_equal(info.io_used, WEIR_IO_POSIX);
    assert_int_equal(info.block_bytes, 8192);
    assert_int_equal(info.slot_bytes, 24576);
    assert_int_equal(info.slots, 5);
    assert_int_equal(info.max_inflight, 3);
    assert_int_equal(info.record_bytes_max, 12345);
    assert_int_equal(info.segment_bytes, 3 * RIG_SEGMENT);
    assert_int_equal(info.epoch, 1);
    assert_false(info.huge_pages); /* all of it is smaller than one */
    assert_true(info.fua >= -1 && info.fua <= 1);
    /* Refused or in use, and told when refused. */
    assert_int_equal(info.direct, !events_last(&rig.events, WEIR_EVENT_FALLBACK, &event));
    assert_int_equal(rig_close(&rig), 0);

    rig.events.count = 0;
    rig.options.buffered = true;
    assert_int_equal(rig_open_plain(&rig), 0);
    weir_log_describe(rig.log, &buffered);
    assert_false(buffered.direct);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_FALLBACK), 0); /* as it was asked */
    assert_int_equal(buffered.log_id, info.log_id);
    assert_int_equal(buffered.epoch, 2);
    assert_int_equal(rig_append(&rig, 1, 5000, NULL), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Where the ring is to be had, it is described as it is. */
static void a_log_on_the_ring_describes_it(void **state)
{
    (void)state;
    for (unsigned way = 0; way < rig_way_count; way++) {
        struct rig rig;
        struct weir_log_info info;
        if (rig_ways[way].queue != FAULT_QUEUE_RING || !rig_way_usable(&rig_ways[way])) {
            continue;
        }
        rig_make(&rig, &rig_ways[way]);
        assert_int_equal(rig_open_plain(&rig), 0);
        weir_log_describe(rig.log, &info);
        assert_int_equal(info.io_asked, rig_ways[way].io);
        assert_int_equal(info.io_used, rig_ways[way].io);
        assert_true(info.io_uring);
        assert_int_equal(info.lock_in_ring, rig.log->flusher.queue_info.lock_registered);
        assert_int_equal(info.buffers_registered, rig.log->flusher.queue_info.buffers_registered);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

struct prepared {
    struct rig *rig;
    size_t files;
};

static bool so_many_files(void *ctx)
{
    const struct prepared *const prepared = ctx;
    return temp_dir_count(prepared->rig->path, ".weir") >= prepared->files;
}

static void as_many_segments_as_asked_are_prepared_ahead(void **state)
{
    (void)state;
    for (uint32_t spare = 0; spare <= 4; spare += 2) {
        struct rig rig;
        rig_make(&rig, &rig_ways[8]);
        rig.options.spare_segments = spare;
        assert_int_equal(rig_open_plain(&rig), 0);
        struct prepared prepared = {&rig, 1 + (spare > 0 ? spare : 1)};
        assert_true(wait_until(so_many_files, &prepared));
        for (uint64_t tag = 0; tag < 45; tag++) {
            assert_int_equal(rig_append(&rig, tag, 6000, NULL), 0); /* into the second segment */
        }
        prepared.files++;
        assert_true(wait_until(so_many_files, &prepared));
        assert_int_equal(rig_close(&rig), 0);
        assert_int_equal(temp_dir_count(rig.path, ".weir"), prepared.files); /* and none more */
        rig_destroy(&rig);
    }
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    char parent[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    struct weir_log *log = NULL;
    struct weir_error error;
    struct weir_options options = WEIR_OPTIONS_INIT;
    temp_dir_make(parent);
    assert_int_equal(weir_open(NULL, NULL, &log, &error), -EINVAL);
    assert_int_equal(error.code, -EINVAL);
    assert_string_not_equal(error.text, "");
    assert_int_equal(weir_open(parent, NULL, NULL, &error), -EINVAL);

    temp_dir_join(parent, "missing/log", path); /* the parent is not created */
    assert_int_equal(weir_open(path, NULL, &log, &error), -ENOENT);
    assert_string_not_equal(error.text, "");
    temp_dir_join(parent, "log", path);
    options.must_exist = true;
    assert_int_equal(weir_open(path, &options, &log, &error), WEIR_ENOLOG);
    options.must_exist = false;
    options.read_only = true;
    assert_int_equal(weir_open(path, &options, &log, &error), WEIR_ENOLOG);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(weir_open(path, &options, &log, &error), WEIR_ENOLOG);
    options.read_only = false;
    options.must_exist = true;
    assert_int_equal(weir_open(path, &options, &log, &error), WEIR_ENOLOG);
    assert_null(log);

    /* A symbolic link in the directory's place is not followed. */
    char link[TEMP_DIR_BYTES];
    temp_dir_join(parent, "link", link);
    assert_int_equal(symlink(path, link), 0);
    options.must_exist = false;
    assert_int_not_equal(weir_open(link, &options, &log, &error), 0);
    assert_null(log);
    assert_int_equal(weir_close(NULL, &error), 0);
    temp_dir_remove(parent);
}

/* ---- words ----------------------------------------------------------------------------------- */

static void every_code_has_a_name_and_a_sentence(void **state)
{
    (void)state;
#define CHECK_CODE(name, value, words)                                                             \
    assert_int_equal(name, value);                                                                 \
    assert_string_equal(weir_error_name(name), #name);                                             \
    assert_string_equal(weir_strerror(name), words);
    WEIR_ERROR_TABLE(CHECK_CODE)
#undef CHECK_CODE
    assert_string_equal(weir_error_name(-ENOSPC), "ENOSPC");
    assert_string_equal(weir_error_name(-EBUSY), "EBUSY");
    assert_string_not_equal(weir_strerror(-ENOSPC), weir_strerror(-EBUSY));
    const int odd[] = {0, 1, -1000000, INT32_MIN, INT32_MAX, -4096, -10000, -10999};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        assert_non_null(weir_strerror(odd[i]));
        assert_non_null(weir_error_name(odd[i]));
    }
    assert_string_equal(weir_version(), WEIR_VERSION_STRING);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_refusal_names_the_option),
        cmocka_unit_test(a_record_limit_beyond_a_segment_is_refused),
        cmocka_unit_test(sizes_that_are_no_multiple_of_the_logs_block_are_refused),
        cmocka_unit_test(structs_of_other_versions_are_read_as_far_as_they_go),
        cmocka_unit_test(policy_is_described_in_numbers),
        cmocka_unit_test(defaults_are_what_the_header_says),
        cmocka_unit_test(huge_pages_are_asked_for_unless_refused),
        cmocka_unit_test(the_report_names_the_log_and_its_epoch),
        cmocka_unit_test(every_bound_is_inside),
        cmocka_unit_test(defaults_behind_the_scenes),
        cmocka_unit_test(the_memory_bound_follows_its_formula),
        cmocka_unit_test(a_log_describes_what_it_was_asked_for),
        cmocka_unit_test(a_log_on_the_ring_describes_it),
        cmocka_unit_test(as_many_segments_as_asked_are_prepared_ahead),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(every_code_has_a_name_and_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
