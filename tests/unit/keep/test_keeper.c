/* SPDX-License-Identifier: Apache-2.0
 * The keeper against real files, with a log that consists of four numbers: what is durable,
 * where the end is, what is pinned, and where slots are opened. Nothing here depends on when
 * something happens, only on whether: waits poll with a bound that a loaded machine does not
 * reach. */
#include "base/num.h"
#include "keep/keeper.h"
#include "port/clock.h"
#include "unit/segment/test_files.h"
#include "unit/segment/trace_io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define BLOCK 4096u
#define CHUNK WEIR__PREFILL_CHUNK_BYTES
#define SEGMENT ((uint64_t)2 * CHUNK)
#define NS_PER_MS UINT64_C(1000000)
#define PATIENCE_NS (UINT64_C(60000) * NS_PER_MS)
#define EVENTS_MAX 64u

struct fixture {
    struct weir__mem mem;
    char path[FILES_PATH_BYTES];
    struct trace_io trace;
    struct weir__dir dir;
    struct weir__fault fault;
    struct weir__control_file cf;
    struct weir__catalog catalog;
    struct weir__keeper *keeper;
    struct weir__keeper_config config;

    /* The log. */
    WEIR__ATOMIC(uint64_t) durable, end, pinned;
    WEIR__ATOMIC(uint32_t) failed;

    /* What the keeper's thread told. */
    WEIR__ATOMIC(uint64_t) frontier_moves, ticks, failures;
    struct weir__fault failure; /* guarded by failures: written before it is raised */
    struct {
        int code;
        uint64_t wanted;
    } space[EVENTS_MAX]; /* guarded by space_count: written before it is raised */
    WEIR__ATOMIC(uint32_t) space_count;

    /* `oldest` and the generation as each write of the control file found them; guarded by
     * writes_seen. */
    uint64_t oldest_seen[EVENTS_MAX];
    WEIR__ATOMIC(uint32_t) writes_seen;
};

/* ---- the keeper's view of the log ---- */

static weir_lsn world_durable(void *ctx)
{
    struct fixture *f = ctx;
    return weir__load(&f->durable, acquire);
}

static weir_lsn world_end(void *ctx)
{
    struct fixture *f = ctx;
    return weir__load(&f->end, relaxed);
}

static weir_lsn world_pinned(void *ctx, weir_lsn target)
{
    (void)target;
    struct fixture *f = ctx;
    return weir__load(&f->pinned, acquire);
}

static void world_frontier_moved(void *ctx)
{
    struct fixture *f = ctx;
    (void)weir__fetch_add(&f->frontier_moves, UINT64_C(1), release);
}

static void world_failed(void *ctx, const struct weir__fault *fault)
{
    struct fixture *f = ctx;
    f->failure = *fault;
    (void)weir__fetch_add(&f->failures, UINT64_C(1), release);
}

static void world_space(void *ctx, int code, uint64_t wanted_bytes)
{
    struct fixture *f = ctx;
    const uint32_t count = weir__load(&f->space_count, relaxed);
    if (count < EVENTS_MAX) {
        f->space[count].code = code;
        f->space[count].wanted = wanted_bytes;
        weir__store(&f->space_count, count + 1, release);
    }
}

static void world_tick(void *ctx, uint64_t now_ns)
{
    struct fixture *f = ctx;
    (void)now_ns;
    (void)weir__fetch_add(&f->ticks, UINT64_C(1), release);
}

static void see_control_writes(void *ctx, const struct trace_op *op)
{
    struct fixture *f = ctx;
    if (op->kind != TRACE_WRITE || strcmp(op->name, WEIR__CONTROL_NAME) != 0) {
        return;
    }
    const uint32_t count = weir__load(&f->writes_seen, relaxed);
    if (count < EVENTS_MAX) {
        f->oldest_seen[count] = weir__load(&f->keeper->oldest, acquire);
        weir__store(&f->writes_seen, count + 1, release);
    }
}

/* ---- setting up ---- */

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL || !files_make_dir(f->path)) {
        free(f);
        return -1;
    }
    weir__mem_init(&f->mem, NULL);
    f->keeper = weir__mem_alloc(&f->mem, sizeof *f->keeper, WEIR__LINE);
    trace_init(&f->trace);
    f->fault = WEIR__FAULT_NONE;
    f->cf.file = -1;
    weir__store(&f->pinned, UINT64_MAX, relaxed);
    *state = f;
    const struct weir__control first = {
        .block_bytes = BLOCK,
        .log_id = 4711,
        .epoch = {.epoch = 1, .lsn = 0, .nonce = 99},
        .segment_bytes = SEGMENT,
        .checkpoint = {.lsn = 0, .epoch = 1, .epoch_lsn = 0, .nonce = 99},
    };
    if (f->keeper == NULL ||
        weir__dir_open(&f->dir, &f->trace.io, &f->mem, f->path, false, true, &f->fault) != 0 ||
        weir__catalog_init(&f->catalog, &f->mem) != 0 ||
        weir__control_create(&f->cf, &f->dir, &first, &f->fault) != 0) {
        return -1;
    }
    f->config = (struct weir__keeper_config){
        .dir = &f->dir,
        .control = &f->cf,
        .catalog = &f->catalog,
        .segment_bytes = SEGMENT,
        .spare_segments = 1,
        .recycle_segments = 4,
        .durable = world_durable,
        .end = world_end,
        .frontier_moved = world_frontier_moved,
        .failed = world_failed,
        .space = world_space,
        .pinned = world_pinned,
        .tick = world_tick,
        .ctx = f,
    };
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    weir__keeper_stop(f->keeper);
    weir__mem_free(&f->mem, f->keeper, sizeof *f->keeper);
    weir__control_close(&f->cf);
    weir__catalog_exit(&f->catalog);
    weir__dir_close(&f->dir);
    trace_exit(&f->trace);
    weir__mem_exit(&f->mem);
    files_remove_dir(f->path);
    free(f);
    return 0;
}

/* A new log with `count` segments prepared, slots being opened in the last of them, and the
 * thread running. */
static void start_with(struct fixture *f, uint64_t count)
{
    assert_int_equal(weir__keeper_init(f->keeper, &f->config, NULL), 0);
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(weir__keeper_prepare_now(f->keeper, &f->fault), 0);
    }
    weir__store(&f->keeper->current_end, count * SEGMENT, relaxed);
    assert_int_equal(weir__keeper_start(f->keeper), 0);
}

static const char *name_at(uint64_t number)
{
    static char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(number * SEGMENT, (number + 1) * SEGMENT, name);
    return name;
}

/* ---- waiting ---- */

#define wait_for(condition)                                                                        \
    do {                                                                                           \
        const uint64_t wait_end_ns = weir__now_ns() + PATIENCE_NS;                                 \
        while (!(condition)) {                                                                     \
            assert_true(weir__now_ns() < wait_end_ns);                                             \
            weir__sleep_ns(NS_PER_MS);                                                             \
        }                                                                                          \
    } while (0)

/* The keeper has gone through its loop a few times more: whatever it would do by now, it has
 * done. */
static void wait_turns(struct fixture *f)
{
    for (int i = 0; i < 4; i++) {
        const uint64_t ticks = weir__load(&f->ticks, acquire);
        weir__keeper_kick(f->keeper);
        wait_for(weir__load(&f->ticks, acquire) > ticks);
    }
}

static uint64_t prepared(struct fixture *f)
{
    return weir__load(&f->keeper->prepared_end, acquire);
}

static void put_checkpoint(struct fixture *f, weir_lsn lsn)
{
    wait_for(weir__load(&f->keeper->checkpoint_full, acquire) == 0);
    f->keeper->checkpoint = (struct weir__position){.lsn = lsn, .epoch = 1, .nonce = 99};
    weir__store(&f->keeper->checkpoint_full, 1u, release);
    weir__keeper_kick(f->keeper);
    wait_for(weir__load(&f->keeper->checkpoint_full, acquire) == 0);
}

/* The log has been written up to lsn, and the flusher is done with the segments below it. */
static void put_end(struct fixture *f, weir_lsn lsn)
{
    weir__store(&f->end, lsn, relaxed);
    weir__store(&f->durable, lsn, release);
    weir__store(&f->keeper->retired_end, lsn / SEGMENT * SEGMENT, release);
}

static void load_control(struct fixture *f, struct weir__control_found *found_out)
{
    assert_int_equal(weir__control_load(&f->dir, found_out, &f->fault), 0);
    assert_true(found_out->newest >= 0);
}

static void assert_header(struct fixture *f, uint64_t number, uint32_t origin)
{
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    assert_true(files_read(f->path, name_at(number), bytes, sizeof bytes, 0));
    struct weir__segment_header header;
    assert_int_equal(weir__segment_header_decode(bytes, &header, NULL), 0);
    assert_int_equal(header.log_id, 4711);
    assert_int_equal(header.number, number);
    assert_int_equal(header.base, number * SEGMENT);
    assert_int_equal(header.bytes, SEGMENT);
    assert_int_equal(header.epoch, 1);
    assert_int_equal(header.block_bytes, BLOCK);
    assert_int_equal(header.prev_number, number == 0 ? WEIR__SEGMENT_NONE : number - 1);
    assert_int_equal(header.prev_base, number == 0 ? 0 : (number - 1) * SEGMENT);
    assert_int_equal(header.origin, origin);
}

/* ---- the frontier ---- */

static void first_segment_of_a_new_log_is_number_0(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(weir__keeper_init(f->keeper, &f->config, NULL), 0);
    assert_int_equal(prepared(f), 0);
    assert_null(weir__keeper_ready(f->keeper, 0));
    assert_int_equal(weir__keeper_prepare_now(f->keeper, &f->fault), 0);
    assert_int_equal(prepared(f), SEGMENT);
    const struct weir__ready *ready = weir__keeper_ready(f->keeper, 0);
    assert_non_null(ready);
    assert_int_equal(ready->number, 0);
    assert_int_equal(ready->range.base, 0);
    assert_int_equal(ready->range.end, SEGMENT);
    assert_true(fcntl(ready->file, F_GETFD) >= 0);
    assert_header(f, 0, WEIR__SEGMENT_ZEROED);
    assert_int_equal(weir__catalog_count(&f->catalog), 1);
    assert_null(weir__keeper_ready(f->keeper, 1));
}

static void prepare_now_that_fails_can_be_made_again(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(weir__keeper_init(f->keeper, &f->config, NULL), 0);
    trace_fail(&f->trace, 0, TRACE_WRITE, WEIR__PREPARE_NAME, 1, 1, -ENOSPC);
    assert_int_equal(weir__keeper_prepare_now(f->keeper, &f->fault), -ENOSPC);
    assert_int_equal(f->fault.code, -ENOSPC);
    assert_false(files_exists(f->path, WEIR__PREPARE_NAME));
    f->fault = WEIR__FAULT_NONE;
    assert_int_equal(weir__keeper_prepare_now(f->keeper, &f->fault), 0);
    assert_header(f, 0, WEIR__SEGMENT_ZEROED);
}

/* The frontier stays the asked number of segments ahead of where slots are opened, and no
 * further. */
static void frontier_moves_ahead_as_the_log_grows(void **state)
{
    struct fixture *f = *state;
    f->config.spare_segments = 2;
    start_with(f, 1);
    for (uint64_t current = 1; current <= 5; current++) {
        const uint64_t moves = weir__load(&f->frontier_moves, acquire);
        weir__store(&f->keeper->current_end, current * SEGMENT, relaxed);
        weir__keeper_kick(f->keeper);
        wait_for(prepared(f) == (current + 2) * SEGMENT);
        wait_for(weir__load(&f->frontier_moves, acquire) > moves);
        wait_turns(f);
        assert_int_equal(prepared(f), (current + 2) * SEGMENT);
    }
    assert_int_equal(weir__catalog_count(&f->catalog), 7);
    for (uint64_t number = 0; number < 7; number++) {
        assert_header(f, number, WEIR__SEGMENT_ZEROED);
        assert_int_equal(files_bytes(f->path, name_at(number)), SEGMENT);
        const struct weir__ready *ready = weir__keeper_ready(f->keeper, number);
        assert_non_null(ready);
        assert_int_equal(ready->number, number);
        assert_int_equal(ready->range.base, number * SEGMENT);
    }
    assert_null(weir__keeper_ready(f->keeper, 7));
    assert_int_equal(weir__load(&f->keeper->counters.segments_prefilled, relaxed), 7);
    assert_int_equal(weir__load(&f->keeper->counters.prefill_bytes, relaxed), 7 * SEGMENT);
    /* Nobody was starving and nothing was used: no chunk went at full speed. */
    assert_int_equal(weir__load(&f->keeper->counters.prefill_unthrottled, relaxed), 0);
    assert_int_equal(weir__load(&f->space_count, acquire), 0);
}

static void starving_appenders_get_chunks_at_full_speed(void **state)
{
    struct fixture *f = *state;
    f->config.spare_segments = 3;
    start_with(f, 1);
    weir__store(&f->keeper->starving, 1u, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(prepared(f) == 4 * SEGMENT);
    wait_turns(f);
    assert_true(weir__load(&f->keeper->counters.prefill_unthrottled, relaxed) > 0);
}

/* Nobody waits yet, but what is prepared would be used up before a slow fill ends. */
static void fast_log_gets_chunks_at_full_speed(void **state)
{
    struct fixture *f = *state;
    start_with(f, 1);
    weir_lsn end = 0;
    uint64_t end_ns = weir__now_ns() + PATIENCE_NS;
    while (weir__load(&f->keeper->counters.prefill_unthrottled, relaxed) == 0) {
        assert_true(weir__now_ns() < end_ns);
        /* Like a log that uses whatever is there. */
        end = weir__min_u64(end + CHUNK, prepared(f));
        weir__store(&f->end, end, relaxed);
        weir__store(&f->durable, end, release);
        weir__store(&f->keeper->current_end, weir__align_up(end, SEGMENT), relaxed);
        weir__store(&f->keeper->retired_end, weir__align_down(end, SEGMENT), release);
        weir__keeper_kick(f->keeper);
        weir__sleep_ns(NS_PER_MS);
    }
    assert_int_equal(weir__load(&f->failures, acquire), 0);
}

/* With no spares asked for, one is made when somebody stands at the frontier. */
static void starving_appenders_get_a_segment_without_spares(void **state)
{
    struct fixture *f = *state;
    f->config.spare_segments = 0;
    start_with(f, 1);
    wait_turns(f);
    assert_int_equal(prepared(f), SEGMENT);
    weir__store(&f->keeper->starving, 1u, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(prepared(f) == 2 * SEGMENT);
    wait_turns(f);
    assert_int_equal(prepared(f), 2 * SEGMENT);
}

/* Never more than the table holds; a retired one makes room, and its file is closed. */
static void frontier_stops_when_the_table_is_full(void **state)
{
    struct fixture *f = *state;
    f->config.spare_segments = 2 * WEIR__READY_MAX;
    start_with(f, 1);
    weir__store(&f->keeper->starving, 1u, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(prepared(f) == WEIR__READY_MAX * SEGMENT);
    wait_turns(f);
    assert_int_equal(prepared(f), WEIR__READY_MAX * SEGMENT);
    const int file = weir__keeper_ready(f->keeper, 0)->file;
    assert_true(fcntl(file, F_GETFD) >= 0);

    weir__store(&f->keeper->retired_end, 2 * SEGMENT - 1, release); /* the second one is not done */
    weir__keeper_kick(f->keeper);
    wait_for(prepared(f) == (WEIR__READY_MAX + 1) * SEGMENT);
    wait_turns(f);
    assert_int_equal(prepared(f), (WEIR__READY_MAX + 1) * SEGMENT);
    assert_null(weir__keeper_ready(f->keeper, 0));
    assert_non_null(weir__keeper_ready(f->keeper, 1));
    assert_int_equal(weir__keeper_ready(f->keeper, WEIR__READY_MAX)->number, WEIR__READY_MAX);
}

static unsigned open_files(void)
{
    unsigned count = 0;
    DIR *const list = opendir("/proc/self/fd");
    assert_non_null(list);
    while (readdir(list) != NULL) {
        count++;
    }
    closedir(list);
    return count;
}

/* In the middle of a slow fill: back soon, no file left open, the half-filled one removed. */
static void stop_is_prompt_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    f->config.segment_bytes = 4096u * (uint64_t)CHUNK; /* minutes, at rest: never finished here */
    const unsigned before = open_files();
    assert_int_equal(weir__keeper_init(f->keeper, &f->config, NULL), 0);
    weir__store(&f->keeper->current_end, 0, relaxed);
    assert_int_equal(weir__keeper_start(f->keeper), 0);
    wait_for(weir__load(&f->keeper->counters.prefill_bytes, relaxed) > 2 * (uint64_t)CHUNK);
    const uint64_t start_ns = weir__now_ns();
    weir__keeper_stop(f->keeper);
    assert_true(weir__now_ns() - start_ns < 10000 * NS_PER_MS);
    assert_int_equal(open_files(), before);
    assert_false(files_exists(f->path, WEIR__PREPARE_NAME));
    assert_int_equal(weir__catalog_count(&f->catalog), 0);
    weir__keeper_stop(f->keeper); /* twice is safe */
}

static void host_is_called_though_nothing_happens(void **state)
{
    struct fixture *f = *state;
    start_with(f, 1);
    wait_for(prepared(f) == 2 * SEGMENT);
    const uint64_t ticks = weir__load(&f->ticks, acquire);
    wait_for(weir__load(&f->ticks, acquire) >= ticks + 5);
}

/* ---- an existing log ---- */

static void make_segment(struct fixture *f, weir_lsn base, weir_lsn end, int fill)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(base, end, name);
    assert_true(files_fill(f->path, name, fill, (size_t)(end - base)));
}

static bool has_segment(struct fixture *f, weir_lsn base, weir_lsn end)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(base, end, name);
    return files_exists(f->path, name);
}

/* Behind the end: what is due next is adopted, one after another; what does not fit in is
 * removed. What stands before the end is nobody's leftover. */
static void leftovers_are_adopted_or_removed(void **state)
{
    struct fixture *f = *state;
    make_segment(f, 3 * SEGMENT, 4 * SEGMENT, 0);                    /* data */
    make_segment(f, 4 * SEGMENT, 5 * SEGMENT, 0x11);                 /* current */
    make_segment(f, 5 * SEGMENT, 6 * SEGMENT, 0x22);                 /* fits */
    make_segment(f, 5 * SEGMENT, 5 * SEGMENT + BLOCK, 0x33);         /* shorter, same base */
    make_segment(f, 6 * SEGMENT, 7 * SEGMENT, 0x44);                 /* fits */
    make_segment(f, 6 * SEGMENT + BLOCK, 7 * SEGMENT + BLOCK, 0x55); /* across */
    make_segment(f, 9 * SEGMENT, 10 * SEGMENT, 0x66);                /* behind a gap */
    assert_true(files_fill(f->path, "notes.txt", 1, 10));
    assert_int_equal(weir__catalog_load(&f->catalog, &f->dir, &f->fault), 0);
    assert_int_equal(weir__catalog_count(&f->catalog), 7);

    struct weir__ready current = {.range = {.base = 4 * SEGMENT, .end = 5 * SEGMENT},
                                  .number = 4,
                                  .file = -1};
    assert_int_equal(
        weir__segment_open(&f->dir, current.range, WEIR__OPEN_WRITE, &current.file, NULL),
        0);
    f->config.spare_segments = 3;
    assert_int_equal(weir__keeper_init(f->keeper, &f->config, &current), 0);
    assert_int_equal(prepared(f), 5 * SEGMENT);
    assert_int_equal(weir__keeper_ready(f->keeper, 4)->file, current.file);
    assert_int_equal(weir__keeper_start(f->keeper), 0);
    wait_for(prepared(f) == 8 * SEGMENT);

    assert_header(f, 5, WEIR__SEGMENT_RECYCLED);
    assert_header(f, 6, WEIR__SEGMENT_RECYCLED);
    assert_header(f, 7, WEIR__SEGMENT_ZEROED);
    uint8_t byte = 0;
    assert_true(files_read(f->path, name_at(5), &byte, 1, BLOCK));
    assert_int_equal(byte, 0x22);
    assert_int_equal(weir__load(&f->keeper->counters.segments_adopted, relaxed), 2);
    assert_true(has_segment(f, 3 * SEGMENT, 4 * SEGMENT));
    assert_true(has_segment(f, 4 * SEGMENT, 5 * SEGMENT));
    assert_false(has_segment(f, 5 * SEGMENT, 5 * SEGMENT + BLOCK));
    assert_false(has_segment(f, 6 * SEGMENT + BLOCK, 7 * SEGMENT + BLOCK));
    assert_false(has_segment(f, 9 * SEGMENT, 10 * SEGMENT));
    assert_true(files_exists(f->path, "notes.txt"));
    assert_int_equal(weir__catalog_count(&f->catalog), 5);

    /* All removals came before the first batch could be written: before the first header's
     * directory sync. */
    const long last_unlink = trace_find(&f->trace, TRACE_UNLINK, "", 0);
    assert_true(last_unlink >= 0);
    const long first_header = trace_find(&f->trace, TRACE_WRITE, name_at(5), 0);
    assert_int_equal(trace_find(&f->trace, TRACE_UNLINK, ".weir", first_header), -1);
}

/* A leftover with a second name is a backup's: its bytes stay, the segment is made anew. */
static void hard_linked_leftover_is_not_adopted(void **state)
{
    struct fixture *f = *state;
    make_segment(f, 0, SEGMENT, 0x77);
    assert_true(files_link(f->path, name_at(0), "backup"));
    assert_int_equal(weir__catalog_load(&f->catalog, &f->dir, &f->fault), 0);
    start_with(f, 1);
    assert_header(f, 0, WEIR__SEGMENT_ZEROED);
    uint8_t byte = 0;
    assert_true(files_read(f->path, "backup", &byte, 1, 0));
    assert_int_equal(byte, 0x77);
}

/* ---- trims ---- */

static void trim_is_in_both_copies_before_oldest_moves(void **state)
{
    struct fixture *f = *state;
    f->trace.before = see_control_writes;
    f->trace.ctx = f;
    start_with(f, 3);
    put_end(f, 2 * SEGMENT + BLOCK);
    const weir_lsn before = SEGMENT + 12345; /* anywhere */
    assert_int_equal(weir__keeper_trim(f->keeper, before, &f->failed), 0);
    assert_int_equal(weir__load(&f->keeper->oldest, acquire), before);
    /* Both copies, after an idle promise at most; every one of them while `oldest` had not
     * moved. */
    const uint32_t writes = weir__load(&f->writes_seen, acquire);
    assert_in_range(writes, 2, 3);
    for (uint32_t i = 0; i < writes; i++) {
        assert_int_equal(f->oldest_seen[i], 0);
    }
    struct weir__control_found found;
    load_control(f, &found);
    for (int copy = 0; copy < 2; copy++) {
        assert_true(found.valid[copy]);
        assert_int_equal(found.copy[copy].oldest_lsn, before);
        assert_int_equal(found.copy[copy].promise, 2 * SEGMENT + BLOCK);
    }
    /* Lower than now: nothing to do. */
    assert_int_equal(weir__keeper_trim(f->keeper, before - 1, &f->failed), 0);
    assert_int_equal(weir__keeper_trim(f->keeper, 0, &f->failed), 0);
    assert_int_equal(weir__load(&f->writes_seen, acquire), writes);
    assert_int_equal(weir__load(&f->keeper->counters.trims, relaxed), 1);
}

/* A pinned trim returns when what is possible is done; the rest follows when the pin moves, to
 * where was asked. */
static void trim_goes_as_far_as_the_pin_and_follows_it(void **state)
{
    struct fixture *f = *state;
    start_with(f, 3);
    put_end(f, 2 * SEGMENT + BLOCK);
    weir__store(&f->pinned, 5 * BLOCK, release);
    assert_int_equal(weir__keeper_trim(f->keeper, 2 * SEGMENT, &f->failed), 0);
    assert_int_equal(weir__load(&f->keeper->oldest, acquire), 5 * BLOCK);
    assert_int_equal(weir__keeper_trim(f->keeper, SEGMENT, &f->failed), 0);
    assert_int_equal(weir__load(&f->keeper->oldest, acquire), 5 * BLOCK);
    weir__store(&f->pinned, 9 * BLOCK, release);
    wait_for(weir__load(&f->keeper->oldest, acquire) == 9 * BLOCK);
    weir__store(&f->pinned, UINT64_MAX, release);
    wait_for(weir__load(&f->keeper->oldest, acquire) == 2 * SEGMENT);
}

/* Nothing above the durable LSN is trimmed, then or later. */
static void trim_stops_at_the_durable_lsn(void **state)
{
    struct fixture *f = *state;
    start_with(f, 3);
    put_end(f, SEGMENT + BLOCK);
    assert_int_equal(weir__keeper_trim(f->keeper, UINT64_MAX, &f->failed), 0);
    assert_int_equal(weir__load(&f->keeper->oldest, acquire), SEGMENT + BLOCK);
    put_end(f, 2 * SEGMENT);
    wait_turns(f);
    assert_int_equal(weir__load(&f->keeper->oldest, acquire), SEGMENT + BLOCK);
}

struct trimmer {
    struct fixture *f;
    pthread_t thread;
    unsigned index;
    int result;
    bool reached;
};

static void *trim_step_by_step(void *arg)
{
    struct trimmer *t = arg;
    t->reached = true;
    for (uint64_t i = 1; i <= 20 && t->result == 0; i++) {
        const weir_lsn before = (i * 4 + t->index) * 512;
        t->result = weir__keeper_trim(t->f->keeper, before, &t->f->failed);
        t->reached = t->reached && weir__load(&t->f->keeper->oldest, acquire) >= before;
    }
    return NULL;
}

static void trims_of_many_threads_all_come_true(void **state)
{
    struct fixture *f = *state;
    start_with(f, 2);
    put_end(f, SEGMENT);
    struct trimmer trimmers[4];
    for (unsigned i = 0; i < 4; i++) {
        trimmers[i] = (struct trimmer){.f = f, .index = i};
        assert_int_equal(pthread_create(&trimmers[i].thread, NULL, trim_step_by_step, &trimmers[i]),
                         0);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(trimmers[i].thread, NULL), 0);
        assert_int_equal(trimmers[i].result, 0);
        assert_true(trimmers[i].reached);
    }
    assert_int_equal(weir__load(&f->keeper->oldest, acquire), 83 * 512);
}

static void trim_ends_when_the_log_fails(void **state)
{
    struct fixture *f = *state;
    start_with(f, 1);
    put_end(f, BLOCK);
    weir__store(&f->failed, 1u, release);
    const int result = weir__keeper_trim(f->keeper, BLOCK, &f->failed);
    assert_true(result == WEIR_EFAILED || result == 0);
    weir__keeper_stop(f->keeper);
    assert_int_equal(weir__keeper_trim(f->keeper, 2 * BLOCK, &f->failed), WEIR_EFAILED);
    weir__store(&f->failed, 0u, release); /* nor for ever, with nobody left to do it */
    assert_int_equal(weir__keeper_trim(f->keeper, 2 * BLOCK, &f->failed), WEIR_EFAILED);
}

/* ---- what is trimmed ---- */

static void trimmed_segments_are_recycled(void **state)
{
    struct fixture *f = *state;
    start_with(f, 4);
    wait_for(prepared(f) == 5 * SEGMENT);
    const uint8_t mark = 0x99;
    assert_true(files_write(f->path, name_at(0), &mark, 1, BLOCK));
    put_end(f, 3 * SEGMENT + 8 * BLOCK);
    put_checkpoint(f, 3 * SEGMENT + 4 * BLOCK);
    assert_int_equal(weir__keeper_trim(f->keeper, 2 * SEGMENT, &f->failed), 0);
    wait_turns(f);
    assert_int_equal(weir__load(&f->keeper->counters.segments_removed, relaxed), 0);

    trace_clear(&f->trace);
    weir__store(&f->keeper->current_end, 5 * SEGMENT, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(prepared(f) == 6 * SEGMENT);
    assert_false(files_exists(f->path, name_at(0)));
    assert_true(files_exists(f->path, name_at(1)));
    assert_header(f, 5, WEIR__SEGMENT_RECYCLED);
    uint8_t byte = 0;
    assert_true(files_read(f->path, name_at(5), &byte, 1, BLOCK));
    assert_int_equal(byte, mark);
    assert_int_equal(weir__load(&f->keeper->counters.segments_recycled, relaxed), 1);
    assert_int_equal(trace_count(&f->trace, TRACE_WRITE, WEIR__PREPARE_NAME), 0);
    /* The catalog went along. */
    struct weir__range range;
    assert_true(weir__catalog_next(&f->catalog, 0, &range));
    assert_int_equal(range.base, SEGMENT);
    assert_true(weir__catalog_find(&f->catalog, 5 * SEGMENT, &range));
    assert_int_equal(weir__catalog_count(&f->catalog), 5);
}

/* Once trimmed files have become segments, the next one is waited for until half of the current
 * segment is used: no zero is written meanwhile, and a trim in time spares them. */
static void fill_waits_for_the_next_trim(void **state)
{
    struct fixture *f = *state;
    start_with(f, 4);
    wait_for(prepared(f) == 5 * SEGMENT);
    put_end(f, 3 * SEGMENT + 8 * BLOCK);
    put_checkpoint(f, 3 * SEGMENT + 4 * BLOCK);
    assert_int_equal(weir__keeper_trim(f->keeper, SEGMENT, &f->failed), 0);
    weir__store(&f->keeper->current_end, 5 * SEGMENT, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(prepared(f) == 6 * SEGMENT);
    assert_int_equal(weir__load(&f->keeper->counters.segments_recycled, relaxed), 1);

    trace_clear(&f->trace);
    put_end(f, 4 * SEGMENT + 8 * BLOCK);
    put_checkpoint(f, 4 * SEGMENT + 4 * BLOCK);
    weir__store(&f->end, 5 * SEGMENT + 8 * BLOCK, relaxed);
    weir__store(&f->keeper->current_end, 6 * SEGMENT, relaxed);
    weir__keeper_kick(f->keeper);
    wait_turns(f);
    assert_int_equal(prepared(f), 6 * SEGMENT);
    assert_int_equal(trace_count(&f->trace, TRACE_WRITE, WEIR__PREPARE_NAME), 0);
    assert_int_equal(weir__keeper_trim(f->keeper, 2 * SEGMENT, &f->failed), 0);
    wait_for(prepared(f) == 7 * SEGMENT);
    assert_int_equal(weir__load(&f->keeper->counters.segments_recycled, relaxed), 2);
    assert_int_equal(trace_count(&f->trace, TRACE_WRITE, WEIR__PREPARE_NAME), 0);

    /* No trim, and half is used: zeros. */
    weir__store(&f->end, 6 * SEGMENT + SEGMENT / 2, relaxed);
    weir__store(&f->keeper->current_end, 7 * SEGMENT, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(prepared(f) == 8 * SEGMENT);
    assert_header(f, 7, WEIR__SEGMENT_ZEROED);
    /* That one was no trimmed file: the next one does not wait. */
    weir__store(&f->keeper->current_end, 8 * SEGMENT, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(prepared(f) == 9 * SEGMENT);
    assert_header(f, 8, WEIR__SEGMENT_ZEROED);
}

struct held_fill {
    WEIR__ATOMIC(uint32_t) held, let_go;
};

static void hold_first_zeros(void *ctx, const struct trace_op *op)
{
    struct held_fill *hold = ctx;
    if (op->kind != TRACE_WRITE || strcmp(op->name, WEIR__PREPARE_NAME) != 0 ||
        weir__load(&hold->held, acquire) != 0) {
        return;
    }
    weir__store(&hold->held, 1u, release);
    while (weir__load(&hold->let_go, acquire) == 0) {
        weir__sleep_ns(NS_PER_MS);
    }
}

static void *trim_one(void *arg)
{
    struct fixture *f = arg;
    (void)weir__keeper_trim(f->keeper, SEGMENT, &f->failed);
    return NULL;
}

/* A trim that comes while a segment is being filled, with nobody in a hurry: the trimmed file
 * becomes the segment, the zeros are given up. */
static void fill_gives_way_to_a_trimmed_file(void **state)
{
    struct fixture *f = *state;
    struct held_fill hold = {0};
    weir__store(&hold.held, 1u, relaxed); /* not yet */
    f->trace.ctx = &hold;
    f->trace.before = hold_first_zeros;
    start_with(f, 3);
    wait_for(prepared(f) == 4 * SEGMENT);
    put_end(f, 2 * SEGMENT + 8 * BLOCK);
    put_checkpoint(f, 2 * SEGMENT + 4 * BLOCK);
    weir__store(&hold.held, 0u, release);
    weir__store(&f->keeper->current_end, 4 * SEGMENT, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(weir__load(&hold.held, acquire) != 0);
    pthread_t trimmer;
    assert_int_equal(pthread_create(&trimmer, NULL, trim_one, f), 0);
    wait_for(weir__load(&f->keeper->trim_tickets, acquire) != 0);
    weir__store(&hold.let_go, 1u, release);
    assert_int_equal(pthread_join(trimmer, NULL), 0);
    wait_for(prepared(f) == 5 * SEGMENT);
    assert_header(f, 4, WEIR__SEGMENT_RECYCLED);
    assert_false(files_exists(f->path, name_at(0)));
    assert_false(files_exists(f->path, WEIR__PREPARE_NAME));
    assert_int_equal(weir__load(&f->keeper->counters.segments_recycled, relaxed), 1);
}

/* A failure behind the rename: the file bears the new name, and is adopted by the next try. */
static void recycle_that_failed_half_way_is_taken_up(void **state)
{
    struct fixture *f = *state;
    start_with(f, 3);
    wait_for(prepared(f) == 4 * SEGMENT);
    put_end(f, 2 * SEGMENT + 8 * BLOCK);
    put_checkpoint(f, 2 * SEGMENT + 4 * BLOCK);
    assert_int_equal(weir__keeper_trim(f->keeper, SEGMENT, &f->failed), 0);
    trace_fail(&f->trace, 0, TRACE_SYNC, name_at(4), 0, 1, -EIO);
    weir__store(&f->keeper->current_end, 4 * SEGMENT, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(weir__load(&f->space_count, acquire) == 2);
    assert_int_equal(f->space[0].code, -EIO);
    assert_int_equal(prepared(f), 5 * SEGMENT);
    assert_header(f, 4, WEIR__SEGMENT_RECYCLED);
    assert_false(files_exists(f->path, name_at(0)));
    assert_int_equal(weir__load(&f->keeper->counters.segments_adopted, relaxed), 1);
    assert_int_equal(weir__catalog_count(&f->catalog), 4);
}

static void hard_linked_segment_is_unlinked_and_not_recycled(void **state)
{
    struct fixture *f = *state;
    start_with(f, 3);
    wait_for(prepared(f) == 4 * SEGMENT);
    const uint8_t mark = 0x99;
    assert_true(files_write(f->path, name_at(0), &mark, 1, BLOCK));
    assert_true(files_link(f->path, name_at(0), "backup"));
    put_end(f, 2 * SEGMENT + 8 * BLOCK);
    put_checkpoint(f, 2 * SEGMENT + 4 * BLOCK);
    assert_int_equal(weir__keeper_trim(f->keeper, SEGMENT, &f->failed), 0);
    weir__store(&f->keeper->current_end, 4 * SEGMENT, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(prepared(f) == 5 * SEGMENT);
    assert_header(f, 4, WEIR__SEGMENT_ZEROED);
    assert_false(files_exists(f->path, name_at(0)));
    uint8_t byte = 0;
    assert_true(files_read(f->path, "backup", &byte, 1, BLOCK));
    assert_int_equal(byte, mark);
    assert_int_equal(files_bytes(f->path, "backup"), SEGMENT);
    assert_int_equal(weir__load(&f->keeper->counters.segments_recycled, relaxed), 0);
    assert_int_equal(weir__load(&f->keeper->counters.segments_removed, relaxed), 1);
}

static void surplus_of_trimmed_segments_is_removed(void **state)
{
    struct fixture *f = *state;
    f->config.recycle_segments = 2;
    start_with(f, 7);
    wait_for(prepared(f) == 8 * SEGMENT);
    put_end(f, 6 * SEGMENT + 8 * BLOCK);
    put_checkpoint(f, 6 * SEGMENT + 4 * BLOCK);
    assert_int_equal(weir__keeper_trim(f->keeper, 5 * SEGMENT, &f->failed), 0);
    wait_for(weir__load(&f->keeper->counters.segments_removed, relaxed) == 3);
    wait_turns(f);
    assert_int_equal(weir__load(&f->keeper->counters.segments_removed, relaxed), 3);
    for (uint64_t number = 0; number < 8; number++) {
        assert_int_equal(files_exists(f->path, name_at(number)), number >= 3);
    }
    assert_int_equal(weir__catalog_count(&f->catalog), 5);
}

/* A removal that fails does no harm and is tried again. */
static void failed_removal_is_tried_again(void **state)
{
    struct fixture *f = *state;
    f->config.recycle_segments = 0;
    start_with(f, 3);
    trace_fail(&f->trace, 0, TRACE_UNLINK, ".weir", 0, 1, -EIO);
    put_end(f, 2 * SEGMENT + 8 * BLOCK);
    put_checkpoint(f, 2 * SEGMENT + 4 * BLOCK);
    assert_int_equal(weir__keeper_trim(f->keeper, SEGMENT, &f->failed), 0);
    wait_for(weir__load(&f->keeper->counters.segments_removed, relaxed) == 1);
    assert_false(files_exists(f->path, name_at(0)));
    assert_int_equal(weir__load(&f->failures, acquire), 0);
}

/* What a recovery would read stays, also one that finds only the older copy of the control file:
 * nothing goes while the checkpoint, the flusher or the lower copy is behind. */
static void segments_that_recovery_needs_are_kept(void **state)
{
    struct fixture *f = *state;
    f->config.recycle_segments = 0;
    start_with(f, 4);
    wait_for(prepared(f) == 5 * SEGMENT);
    weir__store(&f->durable, 3 * SEGMENT + 8 * BLOCK, release);
    assert_int_equal(weir__keeper_trim(f->keeper, 3 * SEGMENT, &f->failed), 0);
    wait_turns(f);
    assert_int_equal(weir__load(&f->keeper->counters.segments_removed, relaxed), 0);

    /* The checkpoint is there, but the flusher is not done. Nothing waits for it, so it goes to
     * one copy. */
    put_checkpoint(f, 2 * SEGMENT);
    wait_turns(f);
    assert_int_equal(weir__load(&f->keeper->counters.segments_removed, relaxed), 0);
    assert_int_equal(weir__control_checkpoint_low(&f->cf), 0);

    /* The flusher is done; one copy of the control file still starts at 0. */
    weir__store(&f->keeper->retired_end, 3 * SEGMENT, release);
    wait_turns(f);
    assert_int_equal(weir__load(&f->keeper->counters.segments_removed, relaxed), 0);

    /* Both copies have a checkpoint now: the segment that ends where it stands holds the last
     * byte before it, and stays. */
    put_checkpoint(f, 2 * SEGMENT);
    wait_for(weir__load(&f->keeper->counters.segments_removed, relaxed) == 1);
    wait_turns(f);
    assert_int_equal(weir__load(&f->keeper->counters.segments_removed, relaxed), 1);
    assert_false(files_exists(f->path, name_at(0)));
    assert_true(files_exists(f->path, name_at(1)));

    put_checkpoint(f, 3 * SEGMENT + 4 * BLOCK);
    wait_for(weir__load(&f->keeper->counters.segments_removed, relaxed) == 3);
    assert_true(files_exists(f->path, name_at(3)));
}

/* ---- lack of space, and other failures ---- */

static void lack_of_space_is_told_and_ends(void **state)
{
    struct fixture *f = *state;
    static const int errors[] = {-ENOSPC, -EDQUOT, -EMFILE, -ENFILE, -ENOMEM};
    start_with(f, 1);
    wait_for(prepared(f) == 2 * SEGMENT);
    for (uint32_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        const uint64_t segment = i + 2;
        /* No space in the middle of the fill; no descriptors at its beginning. */
        if (i < 2) {
            trace_fail(&f->trace, 0, TRACE_WRITE, WEIR__PREPARE_NAME, 1, -1, errors[i]);
        } else {
            trace_fail(&f->trace, 0, TRACE_OPEN, WEIR__PREPARE_NAME, 0, -1, errors[i]);
        }
        const uint64_t moves = weir__load(&f->frontier_moves, acquire);
        weir__store(&f->keeper->current_end, segment * SEGMENT, relaxed);
        weir__keeper_kick(f->keeper);
        wait_for(weir__load(&f->keeper->space_error, acquire) == errors[i]);
        wait_for(weir__load(&f->frontier_moves, acquire) > moves);
        wait_turns(f);
        assert_int_equal(weir__load(&f->space_count, acquire), 2 * i + 1);
        assert_int_equal(f->space[2 * i].code, errors[i]);
        assert_int_equal(f->space[2 * i].wanted, i < 2 ? SEGMENT - CHUNK : SEGMENT);
        assert_int_equal(prepared(f), segment * SEGMENT);

        trace_heal(&f->trace);
        weir__keeper_kick(f->keeper);
        wait_for(prepared(f) == (segment + 1) * SEGMENT);
        wait_for(weir__load(&f->space_count, acquire) == 2 * i + 2);
        assert_int_equal(weir__load(&f->keeper->space_error, acquire), 0);
        assert_int_equal(f->space[2 * i + 1].code, 0);
        assert_header(f, segment, WEIR__SEGMENT_ZEROED);
    }
    assert_int_equal(weir__load(&f->failures, acquire), 0);
}

/* Without a kick it is tried again too. */
static void lack_of_space_ends_without_a_kick(void **state)
{
    struct fixture *f = *state;
    start_with(f, 1);
    wait_for(prepared(f) == 2 * SEGMENT);
    trace_fail(&f->trace, 0, TRACE_WRITE, WEIR__PREPARE_NAME, 0, 3, -ENOSPC);
    weir__store(&f->keeper->current_end, 2 * SEGMENT, relaxed);
    wait_for(prepared(f) == 3 * SEGMENT);
    assert_int_equal(weir__load(&f->keeper->space_error, acquire), 0);
}

/* The way out of a full disk: a trim frees a segment, which is recycled although a fill was
 * under way. */
static void trim_ends_lack_of_space(void **state)
{
    struct fixture *f = *state;
    start_with(f, 3);
    wait_for(prepared(f) == 4 * SEGMENT);
    trace_fail(&f->trace, 0, TRACE_WRITE, WEIR__PREPARE_NAME, 1, -1, -ENOSPC);
    put_end(f, 2 * SEGMENT + 8 * BLOCK);
    put_checkpoint(f, 2 * SEGMENT + 4 * BLOCK);
    weir__store(&f->keeper->current_end, 4 * SEGMENT, relaxed);
    weir__keeper_kick(f->keeper);
    wait_for(weir__load(&f->keeper->space_error, acquire) == -ENOSPC);
    assert_int_equal(weir__keeper_trim(f->keeper, SEGMENT, &f->failed), 0);
    wait_for(prepared(f) == 5 * SEGMENT);
    wait_for(weir__load(&f->keeper->space_error, acquire) == 0);
    assert_header(f, 4, WEIR__SEGMENT_RECYCLED);
    assert_false(files_exists(f->path, WEIR__PREPARE_NAME));
}

/* An error of the device while preparing: told to those at the frontier, tried again with a new
 * file; the log goes on. */
static void device_error_while_preparing_poisons_nothing(void **state)
{
    struct fixture *f = *state;
    static const enum trace_kind kinds[] = {TRACE_WRITE, TRACE_SYNC, TRACE_RENAME, TRACE_SYNC_DIR};
    start_with(f, 1);
    wait_for(prepared(f) == 2 * SEGMENT);
    for (uint64_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        trace_fail(&f->trace, 0, kinds[i], "", 0, 1, -EIO);
        weir__store(&f->keeper->current_end, (i + 2) * SEGMENT, relaxed);
        weir__keeper_kick(f->keeper);
        wait_for(weir__load(&f->space_count, acquire) == 2 * i + 2);
        assert_int_equal(f->space[2 * i].code, -EIO);
        assert_int_equal(f->space[2 * i + 1].code, 0);
        assert_int_equal(prepared(f), (i + 3) * SEGMENT);
        assert_int_equal(weir__load(&f->keeper->space_error, acquire), 0);
        /* Behind the rename there was a file to adopt. */
        assert_header(f,
                      i + 2,
                      kinds[i] == TRACE_SYNC_DIR ? WEIR__SEGMENT_RECYCLED : WEIR__SEGMENT_ZEROED);
    }
    assert_int_equal(weir__load(&f->failures, acquire), 0);
}

/* A leftover whose header cannot be written gives way to another file. */
static void leftover_that_cannot_be_written_is_replaced(void **state)
{
    struct fixture *f = *state;
    make_segment(f, SEGMENT, 2 * SEGMENT, 0x22);
    assert_int_equal(weir__catalog_load(&f->catalog, &f->dir, &f->fault), 0);
    trace_fail(&f->trace, 0, TRACE_WRITE, name_at(1), 0, 1, -EIO);
    start_with(f, 1);
    wait_for(prepared(f) == 2 * SEGMENT);
    assert_header(f, 1, WEIR__SEGMENT_ZEROED);
    assert_int_equal(weir__catalog_count(&f->catalog), 2);
}

/* ---- the control file ---- */

static void checkpoint_lands_in_one_copy_in_turn(void **state)
{
    struct fixture *f = *state;
    /* Settled first: an idle promise in between would take its turn too. */
    weir__store(&f->durable, 40 * BLOCK, release);
    start_with(f, 1);
    wait_for(weir__load(&f->keeper->counters.control_writes, relaxed) == 1);
    wait_turns(f);
    struct weir__control_found found;
    load_control(f, &found);
    int newest = found.newest;
    for (uint64_t i = 1; i <= 3; i++) {
        put_checkpoint(f, 10 * i * BLOCK);
        wait_for(weir__load(&f->keeper->counters.checkpoints, relaxed) == i);
        load_control(f, &found);
        assert_true(found.valid[0] && found.valid[1]);
        assert_int_equal(found.newest, newest ^ 1);
        newest = found.newest;
        assert_int_equal(found.copy[newest].checkpoint.lsn, 10 * i * BLOCK);
        assert_int_equal(found.copy[newest].checkpoint.epoch, 1);
        assert_int_equal(found.copy[newest].checkpoint.nonce, 99);
        assert_int_equal(found.copy[newest ^ 1].checkpoint.lsn, 10 * (i - 1) * BLOCK);
    }
    assert_int_equal(weir__load(&f->keeper->counters.control_writes, relaxed), 4);
    /* A checkpoint carries what is durable by then. */
    put_end(f, 50 * BLOCK);
    put_checkpoint(f, 45 * BLOCK);
    wait_for(weir__load(&f->keeper->counters.checkpoints, relaxed) == 4);
    load_control(f, &found);
    assert_int_equal(found.copy[found.newest].checkpoint.lsn, 45 * BLOCK);
    assert_int_equal(found.copy[found.newest].promise, 50 * BLOCK);
}

/* After a second in which nothing happened the last batches get a promise, in one copy, once. */
static void idle_log_gets_its_promise(void **state)
{
    struct fixture *f = *state;
    start_with(f, 1);
    wait_for(prepared(f) == 2 * SEGMENT);
    wait_turns(f);
    assert_int_equal(weir__load(&f->keeper->counters.control_writes, relaxed), 0);
    put_end(f, 7 * BLOCK);
    wait_for(weir__load(&f->keeper->counters.control_writes, relaxed) == 1);
    struct weir__control_found found;
    load_control(f, &found);
    assert_int_equal(found.copy[found.newest].promise, 7 * BLOCK);
    assert_int_equal(found.copy[found.newest ^ 1].promise, 0);
    wait_turns(f);
    assert_int_equal(weir__load(&f->keeper->counters.control_writes, relaxed), 1);
}

/* A log that was closed cleanly is no longer so once the keeper has written. */
static void clean_mark_does_not_survive(void **state)
{
    struct fixture *f = *state;
    struct weir__control clean = f->cf.current;
    clean.flags |= WEIR__CONTROL_CLEAN;
    assert_int_equal(weir__control_write(&f->cf, &clean, true, &f->fault), 0);
    start_with(f, 1);
    put_end(f, 4 * BLOCK);
    assert_int_equal(weir__keeper_trim(f->keeper, BLOCK, &f->failed), 0);
    struct weir__control_found found;
    load_control(f, &found);
    assert_int_equal(found.copy[0].flags, 0);
    assert_int_equal(found.copy[1].flags, 0);
}

/* The first failed write of the control file is reported, once, and none follows. */
static void failed_control_write_is_the_last(void **state)
{
    struct fixture *f = *state;
    start_with(f, 3);
    wait_for(prepared(f) == 4 * SEGMENT);
    put_end(f, 2 * SEGMENT);
    trace_fail(&f->trace, 0, TRACE_WRITE, WEIR__CONTROL_NAME, 1, 1, -EIO);
    assert_int_equal(weir__keeper_trim(f->keeper, SEGMENT, &f->failed), WEIR_EFAILED);
    assert_int_equal(weir__load(&f->failures, acquire), 1);
    assert_int_equal(f->failure.code, -EIO);
    assert_string_equal(f->failure.file, WEIR__CONTROL_NAME);
    assert_int_equal(weir__load(&f->keeper->oldest, acquire), 0);

    trace_clear(&f->trace);
    put_checkpoint(f, SEGMENT);
    assert_int_equal(weir__keeper_trim(f->keeper, SEGMENT, &f->failed), WEIR_EFAILED);
    wait_turns(f);
    assert_int_equal(trace_count(&f->trace, TRACE_WRITE, WEIR__CONTROL_NAME), 0);
    assert_int_equal(weir__load(&f->failures, acquire), 1);
    /* The rest of its work goes on: appends are refused elsewhere. */
    assert_true(files_exists(f->path, name_at(0)));
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(first_segment_of_a_new_log_is_number_0),
        TEST(prepare_now_that_fails_can_be_made_again),
        TEST(frontier_moves_ahead_as_the_log_grows),
        TEST(starving_appenders_get_chunks_at_full_speed),
        TEST(fast_log_gets_chunks_at_full_speed),
        TEST(starving_appenders_get_a_segment_without_spares),
        TEST(frontier_stops_when_the_table_is_full),
        TEST(stop_is_prompt_and_leaves_nothing),
        TEST(host_is_called_though_nothing_happens),
        TEST(leftovers_are_adopted_or_removed),
        TEST(hard_linked_leftover_is_not_adopted),
        TEST(trim_is_in_both_copies_before_oldest_moves),
        TEST(trim_goes_as_far_as_the_pin_and_follows_it),
        TEST(trim_stops_at_the_durable_lsn),
        TEST(trims_of_many_threads_all_come_true),
        TEST(trim_ends_when_the_log_fails),
        TEST(trimmed_segments_are_recycled),
        TEST(fill_waits_for_the_next_trim),
        TEST(fill_gives_way_to_a_trimmed_file),
        TEST(recycle_that_failed_half_way_is_taken_up),
        TEST(hard_linked_segment_is_unlinked_and_not_recycled),
        TEST(surplus_of_trimmed_segments_is_removed),
        TEST(failed_removal_is_tried_again),
        TEST(segments_that_recovery_needs_are_kept),
        TEST(lack_of_space_is_told_and_ends),
        TEST(lack_of_space_ends_without_a_kick),
        TEST(trim_ends_lack_of_space),
        TEST(device_error_while_preparing_poisons_nothing),
        TEST(leftover_that_cannot_be_written_is_replaced),
        TEST(checkpoint_lands_in_one_copy_in_turn),
        TEST(idle_log_gets_its_promise),
        TEST(clean_mark_does_not_survive),
        TEST(failed_control_write_is_the_last),
    };
    return cmocka_run_group_tests_name("unit.keep.keeper", tests, NULL, NULL);
}
