/* SPDX-License-Identifier: Apache-2.0
 * What a writer and the executors on it share, its file: the turn to sync it, a failed sync, and
 * what stands behind the writer's end.
 *
 * The tests on files run over a ring and over threads, with executors of both kinds; those about
 * padding want O_DIRECT, and are skipped where there is none. */
#include "io/executor.h"
#include "io/syncs.h"
#include "io/writer.h"
#include "io/writer_state.h"
#include "support/fault_io.h"
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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NAME "file"
#define BLOCK ((size_t)4096)

/* ---- the turn -------------------------------------------------------------------------------- */

static void count_wake(void *ctx)
{
    unsigned *const wakes = ctx;
    (*wakes)++;
}

/* Alone, each side has it whenever it asks. */
static void turn_is_had_at_once_where_nobody_has_it(void **state)
{
    (void)state;
    unsigned wakes = 0;
    struct weir__io_syncs syncs = {.wake = count_wake, .ctx = &wakes};
    for (int i = 0; i < 3; i++) {
        weir__io_syncs_take(&syncs);
        weir__io_syncs_leave(&syncs, 0);
        assert_true(weir__io_syncs_take_owner(&syncs));
        weir__io_syncs_leave(&syncs, 0);
    }
    assert_int_equal(wakes, 0);
    assert_int_equal(weir__io_syncs_failed(&syncs), 0);
}

/* The owner is told when what it could not have is free, and only then. */
static void owner_is_woken_by_who_leaves(void **state)
{
    (void)state;
    unsigned wakes = 0;
    struct weir__io_syncs syncs = {.wake = count_wake, .ctx = &wakes};
    weir__io_syncs_take(&syncs);
    assert_false(weir__io_syncs_take_owner(&syncs));
    assert_false(weir__io_syncs_take_owner(&syncs));
    assert_int_equal(wakes, 0);
    weir__io_syncs_leave(&syncs, 0);
    assert_int_equal(wakes, 1);
    assert_true(weir__io_syncs_take_owner(&syncs));
    weir__io_syncs_leave(&syncs, 0);
    assert_int_equal(wakes, 1);

    /* One that has given up is not waited for. */
    weir__io_syncs_take(&syncs);
    assert_false(weir__io_syncs_take_owner(&syncs));
    weir__io_syncs_give_up(&syncs);
    weir__io_syncs_leave(&syncs, 0);
    assert_int_equal(wakes, 1);
    weir__io_syncs_take(&syncs);
    weir__io_syncs_leave(&syncs, 0);
}

/* The first failure stays, and the owner hears of every one. */
static void first_failure_stays(void **state)
{
    (void)state;
    unsigned wakes = 0;
    struct weir__io_syncs syncs = {.wake = count_wake, .ctx = &wakes};
    static const int codes[] = {0, -EIO, -ENOSPC, 0};
    static const int kept[] = {0, -EIO, -EIO, -EIO};
    static const unsigned woken[] = {0, 1, 2, 2};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        weir__io_syncs_take(&syncs);
        weir__io_syncs_leave(&syncs, codes[i]);
        assert_int_equal(weir__io_syncs_failed(&syncs), kept[i]);
        assert_int_equal(wakes, woken[i]);
    }
}

struct crowd {
    struct weir__io_syncs syncs;
    WEIR__ATOMIC(uint32_t) owner_word; /* futex-less: the owner polls it */
    unsigned rounds;
    uint64_t inside;    /* guarded by the turn */
    uint64_t by_owner;  /* guarded by the turn */
    uint64_t by_others; /* guarded by the turn */
};

static void crowd_wake(void *ctx)
{
    struct crowd *const crowd = ctx;
    weir__store(&crowd->owner_word, 1, release);
}

static bool crowd_was_woken(void *ctx)
{
    struct crowd *const crowd = ctx;
    return weir__exchange(&crowd->owner_word, 0, acq_rel) != 0;
}

static void crowd_run(struct worker *worker)
{
    struct crowd *const crowd = worker->ctx;
    for (unsigned i = 0; i < crowd->rounds; i++) {
        if (worker->index == 0) {
            while (!weir__io_syncs_take_owner(&crowd->syncs)) {
                if (!wait_until(crowd_was_woken, crowd)) {
                    worker_fail(worker, "the owner was not woken");
                    return;
                }
            }
            crowd->by_owner++;
        } else {
            weir__io_syncs_take(&crowd->syncs);
            crowd->by_others++;
        }
        if (++crowd->inside != 1) {
            worker_fail(worker, "two had the turn");
        }
        random_pause(&worker->random);
        crowd->inside--;
        weir__io_syncs_leave(&crowd->syncs, 0);
    }
}

/* One owner and many executors: never two at a time, and all come to their end. */
static void one_at_a_time_has_the_turn(void **state)
{
    (void)state;
    struct crowd crowd = {.syncs = {.wake = crowd_wake}, .rounds = test_rounds(400)};
    crowd.syncs.ctx = &crowd;
    workers_run(6, crowd_run, &crowd, test_seed());
    assert_int_equal(crowd.by_owner, crowd.rounds);
    assert_int_equal(crowd.by_others, 5 * (uint64_t)crowd.rounds);
    assert_int_equal(crowd.inside, 0);
    assert_true(weir__load(&crowd.syncs.turn, relaxed) < 4); /* nobody waits, nobody has it */
}

struct waiting {
    struct weir__io_syncs *syncs;
    WEIR__ATOMIC(uint32_t) had;
};

static void waiting_take(struct worker *worker)
{
    struct waiting *const waiting = worker->ctx;
    weir__io_syncs_take(waiting->syncs);
    (void)weir__fetch_add(&waiting->had, 1u, acq_rel);
    weir__io_syncs_leave(waiting->syncs, 0);
}

static bool one_is_counted(void *ctx)
{
    struct weir__io_syncs *const syncs = ctx;
    return weir__load(&syncs->turn, acquire) >= 8;
}

static bool one_had_it(void *ctx)
{
    struct waiting *const waiting = ctx;
    return weir__load(&waiting->had, acquire) != 0;
}

/* Who has just had it lets the other side go first. */
static void sides_take_turns(void **state)
{
    (void)state;
    unsigned wakes = 0;
    struct weir__io_syncs syncs = {.wake = count_wake, .ctx = &wakes};
    struct waiting waiting = {.syncs = &syncs};
    struct workers workers;
    assert_true(weir__io_syncs_take_owner(&syncs));
    workers_start(&workers, 1, waiting_take, &waiting, 0);
    assert_true(wait_until(one_is_counted, &syncs));
    /* It is the executor's now: the owner does not get it before, however often it asks. */
    weir__io_syncs_leave(&syncs, 0);
    const bool took = weir__io_syncs_take_owner(&syncs);
    if (took) {
        assert_int_equal(weir__load(&waiting.had, acquire), 1);
        weir__io_syncs_leave(&syncs, 0);
    } else {
        weir__io_syncs_give_up(&syncs);
    }
    assert_true(wait_until(one_had_it, &waiting));
    workers_finish(&workers);

    /* And the other way round. */
    waiting.had = 0;
    weir__io_syncs_take(&syncs);
    assert_false(weir__io_syncs_take_owner(&syncs));
    weir__io_syncs_leave(&syncs, 0);
    workers_start(&workers, 1, waiting_take, &waiting, 0);
    assert_true(wait_until(one_is_counted, &syncs));
    assert_int_equal(weir__load(&waiting.had, acquire), 0);
    assert_true(weir__io_syncs_take_owner(&syncs));
    assert_int_equal(weir__load(&waiting.had, acquire), 0);
    weir__io_syncs_leave(&syncs, 0);
    workers_finish(&workers);
    assert_int_equal(weir__load(&waiting.had, acquire), 1);
}

/* ---- a file with a writer and executors ------------------------------------------------------ */

struct bench {
    char root[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    struct fault_io fault;
    struct weir_writer *writer;
    struct weir_executor *executor;
    struct weir_batch *batch;
};

struct variant {
    bool ring;
    bool direct;
    unsigned flags;
};

static const struct variant variants[] = {
    {true, false, 0},
    {true, true, WEIR_EXECUTOR_SIDE_BY_SIDE},
    {false, true, 0},
    {false, false, WEIR_EXECUTOR_SIDE_BY_SIDE},
};
#define VARIANTS (sizeof variants / sizeof variants[0])

/* False: this machine cannot. */
static bool bench_begin(struct bench *bench, const struct variant *variant)
{
    struct weir_io_config config = weir_io_config_minimal();
    memset(bench, 0, sizeof *bench);
    if (variant->ring && !fault_io_has_ring()) {
        print_message("no io_uring here\n");
        return false;
    }
    temp_dir_make(bench->root);
    temp_dir_join(bench->root, NAME, bench->path);
    fault_io_init(&bench->fault, variant->ring ? FAULT_QUEUE_RING : FAULT_QUEUE_THREADS);
    config.backend = variant->ring ? WEIR_IO_BACKEND_URING : WEIR_IO_BACKEND_POSIX;
    config.direct_io = variant->direct;
    assert_int_equal(
        weir__writer_open_with(&bench->fault.io, bench->path, false, &config, &bench->writer, NULL),
        0);
    assert_int_equal(
        weir_executor_open(bench->writer, NULL, NULL, variant->flags, &bench->executor, NULL),
        0);
    assert_int_equal(weir_batch_new(NULL, &bench->batch), 0);
    return true;
}

/* Returns what closing the writer says. */
static int bench_end(struct bench *bench)
{
    fault_io_heal(&bench->fault);
    weir_batch_free(bench->batch);
    weir_executor_close(bench->executor);
    const int code = weir_writer_close(bench->writer, NULL);
    fault_io_exit(&bench->fault);
    temp_dir_remove(bench->root);
    return code;
}

static size_t syncs_begun(struct bench *bench)
{
    return fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_SYNC, .name = NAME});
}

static int executor_sync(struct weir_executor *executor)
{
    struct weir_batch *batch = NULL;
    assert_int_equal(weir_batch_new(NULL, &batch), 0);
    assert_int_equal(weir_batch_sync(batch), 0);
    const int code = weir_executor_execute(executor, batch, NULL);
    weir_batch_free(batch);
    return code;
}

/* The kernel tells an error to the first who syncs, and to nobody after. Whoever that was, nobody
 * who shares the file is told that his bytes are safe. */
static void a_failed_sync_is_everybodys(void **state)
{
    (void)state;
    for (size_t i = 0; i < VARIANTS; i++) {
        for (int by_writer = 0; by_writer < 2; by_writer++) {
            struct bench bench;
            struct weir_executor *other = NULL;
            struct weir_error error;
            if (!bench_begin(&bench, &variants[i])) {
                continue;
            }
            assert_int_equal(
                weir_executor_open(bench.writer, NULL, NULL, variants[i].flags, &other, NULL),
                0);
            assert_int_equal(weir_writer_write(bench.writer, "abc", 3, NULL), 0);
            assert_int_equal(weir_writer_flush(bench.writer), 0);
            (void)fault_io_arm(
                &bench.fault,
                &(struct fault_rule){.kind = FAULT_SYNC, .name = NAME, .times = 1, .error = -EIO});
            if (by_writer != 0) {
                assert_int_equal(weir_writer_sync(bench.writer), -EIO);
            } else {
                assert_int_equal(executor_sync(bench.executor), -EIO);
            }
            assert_int_equal(weir_writer_sync(bench.writer), -EIO);
            assert_int_equal(weir_writer_flush(bench.writer), -EIO);
            assert_int_equal(weir_writer_write(bench.writer, "d", 1, NULL), -EIO);
            assert_int_equal(weir_writer_error(bench.writer, &error), -EIO);
            assert_non_null(strstr(error.text, by_writer != 0 ? "cannot sync" : "executor"));
            assert_int_equal(executor_sync(bench.executor), -EIO);
            assert_int_equal(executor_sync(other), -EIO);
            /* None was tried again. */
            assert_int_equal(syncs_begun(&bench), 1);
            weir_executor_close(other);
            assert_int_equal(bench_end(&bench), -EIO);
        }
    }
}

struct syncing {
    struct bench *bench;
    int code;
};

static void syncing_writer(struct worker *worker)
{
    struct syncing *const syncing = worker->ctx;
    syncing->code = weir_writer_sync(syncing->bench->writer);
}

static void syncing_executor(struct worker *worker)
{
    struct syncing *const syncing = worker->ctx;
    syncing->code = weir_executor_execute(syncing->bench->executor, syncing->bench->batch, NULL);
}

/* The second one waits, or has begun, which it must not. */
static bool owner_waits(void *ctx)
{
    struct bench *const bench = ctx;
    return (weir__load(&bench->writer->syncs.turn, acquire) & 4u) != 0 || syncs_begun(bench) > 1;
}

static bool executor_waits(void *ctx)
{
    struct bench *const bench = ctx;
    return weir__load(&bench->writer->syncs.turn, acquire) >= 8 || syncs_begun(bench) > 1;
}

/* A sync that is under way while another one fails might be the one that the kernel does not tell:
 * so they do not go at once. */
static void syncs_of_a_file_go_one_at_a_time(void **state)
{
    (void)state;
    for (size_t i = 0; i < VARIANTS; i++) {
        for (unsigned k = 0; k < 4; k++) {
            const bool writer_first = k % 2 == 0;
            const int error = k < 2 ? -EIO : 0;
            struct bench bench;
            struct workers first;
            struct workers second;
            if (!bench_begin(&bench, &variants[i])) {
                continue;
            }
            struct syncing by_writer = {.bench = &bench, .code = 1};
            struct syncing by_executor = {.bench = &bench, .code = 1};
            assert_int_equal(weir_writer_write(bench.writer, "abc", 3, NULL), 0);
            assert_int_equal(weir_writer_flush(bench.writer), 0);
            assert_int_equal(weir_batch_sync(bench.batch), 0);
            (void)fault_io_arm(&bench.fault,
                               &(struct fault_rule){.kind = FAULT_SYNC,
                                                    .name = NAME,
                                                    .times = 1,
                                                    .hold = true,
                                                    .error = error});
            if (writer_first) {
                workers_start(&first, 1, syncing_writer, &by_writer, 0);
            } else {
                workers_start(&first, 1, syncing_executor, &by_executor, 0);
            }
            assert_true(fault_io_wait_held(&bench.fault, 1));
            if (writer_first) {
                workers_start(&second, 1, syncing_executor, &by_executor, 0);
            } else {
                workers_start(&second, 1, syncing_writer, &by_writer, 0);
            }
            const bool seen = wait_until(writer_first ? executor_waits : owner_waits, &bench);
            const size_t begun = syncs_begun(&bench);
            fault_io_release(&bench.fault);
            workers_finish(&first);
            workers_finish(&second);
            assert_true(seen);
            assert_int_equal(begun, 1);
            assert_int_equal(by_writer.code, error);
            assert_int_equal(by_executor.code, error);
            assert_int_equal(syncs_begun(&bench), error == 0 ? 2 : 1);
            assert_int_equal(bench_end(&bench), error);
        }
    }
}

static void busy_run(struct worker *worker)
{
    struct bench *const bench = worker->ctx;
    const unsigned rounds = test_rounds(60);
    for (unsigned i = 0; i < rounds; i++) {
        int code;
        if (worker->index == 0) {
            code = weir_batch_sync(bench->batch);
            code = code != 0 ? code : weir_executor_execute(bench->executor, bench->batch, NULL);
        } else {
            code = weir_writer_write(bench->writer, "abc", 3, NULL);
            code = code != 0 ? code : weir_writer_sync(bench->writer);
        }
        if (code != 0) {
            worker_fail(worker, "%d", code);
            return;
        }
    }
}

/* All at once, without an error: nobody waits for ever. */
static void many_syncs_all_come_to_their_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < VARIANTS; i++) {
        struct bench bench;
        if (!bench_begin(&bench, &variants[i])) {
            continue;
        }
        workers_run(4, busy_run, &bench, test_seed());
        assert_int_equal(bench_end(&bench), 0);
    }
}

/* A broken ring under an executor's Sync: nobody knows how that ended, so it has failed for all. */
static void a_sync_that_is_lost_has_failed(void **state)
{
    (void)state;
    for (size_t i = 0; i < VARIANTS; i++) {
        struct bench bench;
        struct workers workers;
        if (!bench_begin(&bench, &variants[i])) {
            continue;
        }
        struct syncing by_executor = {.bench = &bench, .code = 1};
        assert_int_equal(weir_batch_sync(bench.batch), 0);
        (void)fault_io_arm(
            &bench.fault,
            &(struct fault_rule){.kind = FAULT_QUEUE_REAP, .times = 1, .error = -EBADF});
        workers_start(&workers, 1, syncing_executor, &by_executor, 0);
        workers_finish(&workers);
        assert_int_equal(by_executor.code, -EBADF);
        assert_int_equal(weir_writer_sync(bench.writer), -EBADF);
        assert_int_equal(bench_end(&bench), -EBADF);
    }
}

/* ---- padding --------------------------------------------------------------------------------- */

static uint64_t file_bytes(const struct bench *bench)
{
    struct stat status;
    assert_int_equal(stat(bench->path, &status), 0);
    return (uint64_t)status.st_size;
}

static void assert_bytes(const struct bench *bench, uint64_t offset, const char *text)
{
    char found[64] = "";
    const int file = open(bench->path, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pread(file, found, strlen(text), (off_t)offset), (ssize_t)strlen(text));
    assert_int_equal(close(file), 0);
    assert_memory_equal(found, text, strlen(text));
}

/* What an executor has put behind the writer's end is not cut off with the writer's padding. */
static void a_flush_leaves_what_stands_behind_the_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < VARIANTS; i++) {
        struct bench bench;
        if (!bench_begin(&bench, &variants[i])) {
            continue;
        }
        assert_int_equal(weir_writer_write(bench.writer, "abc", 3, NULL), 0);
        assert_int_equal(weir_writer_flush(bench.writer), 0);
        assert_int_equal(file_bytes(&bench), 3);
        assert_int_equal(weir_batch_write(bench.batch, 16 * BLOCK, "far away", 8), 0);
        assert_int_equal(weir_executor_execute(bench.executor, bench.batch, NULL), 0);
        assert_int_equal(file_bytes(&bench), 16 * BLOCK + 8);
        assert_int_equal(weir_writer_write(bench.writer, "def", 3, NULL), 0);
        assert_int_equal(weir_writer_flush(bench.writer), 0);
        assert_int_equal(file_bytes(&bench), 16 * BLOCK + 8);
        assert_bytes(&bench, 0, "abcdef");
        assert_bytes(&bench, 16 * BLOCK, "far away");
        assert_int_equal(bench_end(&bench), 0);
    }
}

/* An unaligned write far below the end fails while the writer goes on: what the writer was told to
 * be in the file stays there. */
static void a_failed_write_cuts_nothing_that_others_have_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < VARIANTS; i++) {
        struct bench bench;
        struct workers workers;
        static const uint8_t zeros[8 * BLOCK];
        if (!bench_begin(&bench, &variants[i])) {
            continue;
        }
        struct syncing by_executor = {.bench = &bench, .code = 1};
        assert_int_equal(weir_writer_write(bench.writer, zeros, sizeof zeros, NULL), 0);
        assert_int_equal(weir_writer_flush(bench.writer), 0);
        assert_int_equal(weir_batch_write(bench.batch, 10, "hello", 5), 0);
        (void)fault_io_arm(&bench.fault,
                           &(struct fault_rule){.kind = FAULT_WRITE,
                                                .name = NAME,
                                                .times = 1,
                                                .hold = true,
                                                .error = -EIO});
        workers_start(&workers, 1, syncing_executor, &by_executor, 0);
        assert_true(fault_io_wait_held(&bench.fault, 1));
        assert_int_equal(weir_writer_write(bench.writer, "behind", 6, NULL), 0);
        const int code = weir_writer_flush(bench.writer);
        fault_io_release(&bench.fault);
        workers_finish(&workers);
        assert_int_equal(code, 0);
        assert_int_equal(by_executor.code, -EIO);
        assert_int_equal(file_bytes(&bench), sizeof zeros + 6);
        assert_bytes(&bench, sizeof zeros, "behind");
        assert_int_equal(bench_end(&bench), 0);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turn_is_had_at_once_where_nobody_has_it),
        cmocka_unit_test(owner_is_woken_by_who_leaves),
        cmocka_unit_test(first_failure_stays),
        cmocka_unit_test(one_at_a_time_has_the_turn),
        cmocka_unit_test(sides_take_turns),
        cmocka_unit_test(a_failed_sync_is_everybodys),
        cmocka_unit_test(syncs_of_a_file_go_one_at_a_time),
        cmocka_unit_test(many_syncs_all_come_to_their_end),
        cmocka_unit_test(a_sync_that_is_lost_has_failed),
        cmocka_unit_test(a_flush_leaves_what_stands_behind_the_end),
        cmocka_unit_test(a_failed_write_cuts_nothing_that_others_have_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
