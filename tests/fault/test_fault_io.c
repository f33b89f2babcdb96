/* SPDX-License-Identifier: Apache-2.0
 * The device that the fault tests use, tested itself: it must spoil what it was told to and nothing
 * else, and its picture of what a power cut would leave must not flatter. */
#include "port/clock.h"
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

#include <cmocka.h>

#define BLOCK 4096u
/* The name says where LSN 0 is: at offset 0. */
#define NAME "0000000000000000-0000000000100000.weir"

struct device {
    struct fault_io fault;
    struct weir__mem mem;
    char path[TEMP_DIR_BYTES];
    int dir;
    int file;
    struct weir__queue *queue;
    uint8_t *bytes; /* 16 blocks of 'a', 'b', ... */
};

static void device_make(struct device *device, enum fault_queue_kind kind, struct weir__io *base)
{
    struct weir__queue_info info;
    const struct weir__queue_config config = {.entries = 16, .lock_file = -1};
    memset(device, 0, sizeof *device);
    weir__mem_init(&device->mem, NULL);
    temp_dir_make(device->path);
    fault_io_init(&device->fault, kind);
    device->fault.base = base;
    struct weir__io *const io = &device->fault.io;
    assert_int_equal(io->ops->open_dir(io, device->path, false, &device->dir), 0);
    assert_int_equal(
        io->ops->open(io, device->dir, NAME, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &device->file),
        0);
    assert_int_equal(io->ops->queue_open(io, &device->mem, &config, &device->queue, &info), 0);
    assert_int_equal(posix_memalign((void **)&device->bytes, BLOCK, (size_t)16 * BLOCK), 0);
    for (unsigned i = 0; i < 16; i++) {
        memset(device->bytes + (size_t)i * BLOCK, 'a' + (int)i, BLOCK);
    }
}

static void device_destroy(struct device *device)
{
    struct weir__io *const io = &device->fault.io;
    io->ops->queue_close(io, &device->mem, device->queue);
    (void)io->ops->close(io, device->file);
    (void)io->ops->close(io, device->dir);
    fault_io_exit(&device->fault);
    weir__mem_exit(&device->mem);
    temp_dir_remove(device->path);
    free(device->bytes);
}

/* Pushes ops and collects all their results, by `data`. */
static void run(struct device *device, const struct weir__op *ops, unsigned count, int32_t *results)
{
    struct weir__io *const io = &device->fault.io;
    assert_int_equal(io->ops->queue_push(io, device->queue, ops, count), 0);
    for (unsigned left = count; left > 0;) {
        struct weir__event events[16];
        const int got = io->ops->queue_reap(io,
                                            device->queue,
                                            events,
                                            16,
                                            true,
                                            weir__now_ns() + TEST_PATIENCE_NS);
        assert_true(got >= 0); /* 0: woken, by a heal perhaps */
        for (int i = 0; i < got; i++) {
            results[events[i].data] = events[i].result;
        }
        left -= (unsigned)got;
    }
}

static bool durable(struct device *device, unsigned block, unsigned count)
{
    return fault_io_durable_at(&device->fault,
                               (weir_lsn)block * BLOCK,
                               device->bytes + (size_t)block * BLOCK,
                               (size_t)count * BLOCK);
}

/* The ring, the pool in its place, and the threads that need neither. */
static void each_queue(void (*test)(struct device *device))
{
    for (int kind = 0; kind < 3; kind++) {
        struct device device;
        if (kind == 0 && !fault_io_has_ring()) {
            print_message("skipped, io_uring is refused here\n");
            continue;
        }
        device_make(&device,
                    kind == 2 ? FAULT_QUEUE_THREADS : FAULT_QUEUE_RING,
                    kind == 1 ? weir__io_system_pool() : weir__io_system());
        test(&device);
        device_destroy(&device);
    }
}

#define WRITE_OP(device, block, blocks)                                                            \
    {                                                                                              \
        .kind = WEIR__OP_WRITE, .file = (device)->file,                                            \
        .iov = &(struct iovec){(device)->bytes + (size_t)(block)*BLOCK, (size_t)(blocks)*BLOCK},   \
        .iov_count = 1, .offset = (uint64_t)(block)*BLOCK                                          \
    }

/* ---- the picture ----------------------------------------------------------------------------- */

/* Written is not durable, synced is; and a sync covers only what had come back when it began. */
static void calls_become_durable_by_syncs(struct device *device)
{
    struct weir__io *const io = &device->fault.io;
    const struct iovec iov = {device->bytes, 2 * BLOCK};
    const struct iovec second = {device->bytes + 2 * BLOCK, BLOCK};
    assert_int_equal(io->ops->write(io, device->file, &iov, 1, 0, false), 2 * BLOCK);
    assert_false(durable(device, 0, 1));
    assert_int_equal(fault_io_unsynced(&device->fault, ".weir"), 2 * BLOCK);
    assert_int_equal(io->ops->sync(io, device->file), 0);
    assert_true(durable(device, 0, 2));
    assert_false(durable(device, 0, 3));
    assert_int_equal(fault_io_unsynced(&device->fault, ".weir"), 0);
    /* A durable write makes itself durable, and nothing else. */
    assert_int_equal(io->ops->write(io, device->file, &iov, 1, 8 * BLOCK, false), 2 * BLOCK);
    assert_int_equal(io->ops->write(io, device->file, &second, 1, 2 * BLOCK, true), BLOCK);
    assert_true(durable(device, 0, 3));
    assert_int_equal(fault_io_unsynced(&device->fault, ".weir"), 2 * BLOCK);
    /* Failed ones are nothing. */
    (void)fault_io_arm(&device->fault,
                       &(struct fault_rule){.kind = FAULT_SYNC, .times = 1, .error = -EIO});
    assert_int_equal(io->ops->sync(io, device->file), -EIO);
    assert_int_equal(fault_io_unsynced(&device->fault, ".weir"), 2 * BLOCK);
    fault_io_lie(&device->fault, ".weir");
    assert_int_equal(io->ops->sync(io, device->file), 0);
    assert_int_equal(fault_io_unsynced(&device->fault, ".weir"), 2 * BLOCK);
    fault_io_heal(&device->fault);
    assert_int_equal(io->ops->sync(io, device->file), 0);
    assert_int_equal(fault_io_unsynced(&device->fault, ".weir"), 0);
}

static void written_is_not_durable(void **state)
{
    (void)state;
    each_queue(calls_become_durable_by_syncs);
}

static void queued_ops_become_durable(struct device *device)
{
    int32_t results[4] = {1, 1, 1, 1};
    /* A sync that is pushed beside a write covers nothing of it; one that is linked does. */
    const struct weir__op beside[] = {WRITE_OP(device, 0, 1),
                                      {.kind = WEIR__OP_SYNC, .file = device->file, .data = 1}};
    run(device, beside, 2, results);
    assert_int_equal(results[0], BLOCK);
    assert_int_equal(results[1], 0);
    assert_false(durable(device, 0, 1));
    struct weir__op linked[] = {WRITE_OP(device, 1, 1),
                                {.kind = WEIR__OP_SYNC, .file = device->file, .data = 1}};
    linked[0].link = true;
    run(device, linked, 2, results);
    assert_true(durable(device, 0, 2)); /* both: the first had come back long before */
    struct weir__op dsync[] = {WRITE_OP(device, 2, 2)};
    dsync[0].dsync = true;
    run(device, dsync, 1, results);
    assert_true(durable(device, 0, 4));

    /* A lying device. */
    fault_io_lie(&device->fault, ".weir");
    linked[0].iov = &(struct iovec){device->bytes + 4 * BLOCK, BLOCK};
    linked[0].offset = 4 * BLOCK;
    run(device, linked, 2, results);
    assert_int_equal(results[1], 0);
    dsync[0].offset = 5 * BLOCK;
    dsync[0].iov = &(struct iovec){device->bytes + 5 * BLOCK, BLOCK};
    run(device, dsync, 1, results);
    assert_int_equal(results[0], BLOCK);
    assert_false(durable(device, 4, 1));
    assert_false(durable(device, 5, 1));
}

static void a_sync_covers_what_had_come_back_when_it_began(void **state)
{
    (void)state;
    each_queue(queued_ops_become_durable);
}

/* The image on disk is the image. */
static void a_crash_leaves_the_image(struct device *device)
{
    struct weir__io *const io = &device->fault.io;
    const struct iovec first = {device->bytes, BLOCK};
    const struct iovec second = {device->bytes + BLOCK, BLOCK};
    char crashed[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    uint8_t found[3 * BLOCK];
    assert_int_equal(io->ops->write(io, device->file, &second, 1, 0, true), BLOCK);
    assert_int_equal(io->ops->write(io, device->file, &first, 1, 0, false), BLOCK);
    assert_int_equal(io->ops->write(io, device->file, &first, 1, BLOCK, true), BLOCK);
    temp_dir_make(crashed);
    fault_io_crash(&device->fault, crashed);
    temp_dir_join(crashed, NAME, path);
    FILE *const file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(found, 1, sizeof found, file), 2 * BLOCK);
    (void)fclose(file);
    assert_memory_equal(found, device->bytes + BLOCK, BLOCK); /* the older bytes */
    assert_memory_equal(found + BLOCK, device->bytes, BLOCK);
    temp_dir_remove(crashed);
}

static void what_was_not_synced_is_gone_after_a_crash(void **state)
{
    (void)state;
    each_queue(a_crash_leaves_the_image);
}

/* ---- spoiling -------------------------------------------------------------------------------- */

static void spoils_the_right_ones(struct device *device)
{
    int32_t results[4];
    const unsigned rule = fault_io_arm(&device->fault,
                                       &(struct fault_rule){.kind = FAULT_WRITE,
                                                            .name = ".weir",
                                                            .skip = 1,
                                                            .times = 2,
                                                            .error = -EIO});
    const struct weir__op one[] = {WRITE_OP(device, 0, 1)};
    const int32_t due[] = {BLOCK, -EIO, -EIO, BLOCK};
    for (int i = 0; i < 4; i++) {
        run(device, one, 1, results);
        assert_int_equal(results[0], due[i]);
    }
    assert_int_equal(fault_io_spoilt(&device->fault, rule), 2);

    /* Behind a failed one, and behind a short one, the rest of a chain is cancelled; other chains
     * are not. */
    fault_io_heal(&device->fault);
    struct weir__op chains[] = {WRITE_OP(device, 0, 2),
                                {.kind = WEIR__OP_SYNC, .file = device->file, .data = 1},
                                WRITE_OP(device, 2, 2),
                                {.kind = WEIR__OP_SYNC, .file = device->file, .data = 3}};
    chains[0].link = chains[2].link = true;
    chains[2].data = 2;
    (void)fault_io_arm(&device->fault,
                       &(struct fault_rule){.kind = FAULT_WRITE, .times = 1, .error = -EIO});
    run(device, chains, 4, results);
    assert_int_equal(results[0], -EIO);
    assert_int_equal(results[1], -ECANCELED);
    assert_int_equal(results[2], 2 * BLOCK);
    assert_int_equal(results[3], 0);
    static const size_t lengths[] = {1, 511, 4096, 5000};
    for (size_t i = 0; i < 4; i++) {
        fault_io_heal(&device->fault);
        (void)fault_io_arm(&device->fault,
                           &(struct fault_rule){.kind = FAULT_WRITE,
                                                .times = 1,
                                                .shortened = true,
                                                .bytes = lengths[i]});
        run(device, chains, 4, results);
        assert_int_equal(results[0], lengths[i]);
        assert_int_equal(results[1], -ECANCELED);
        assert_int_equal(results[2], 2 * BLOCK);
        assert_int_equal(results[3], 0);
    }
    fault_io_heal(&device->fault);
    (void)fault_io_arm(&device->fault,
                       &(struct fault_rule){.kind = FAULT_SYNC, .times = 1, .error = -EIO});
    run(device, chains, 4, results);
    assert_int_equal(results[0] + results[2], 4 * BLOCK);
    assert_int_equal(results[1] + results[3], -EIO);
}

static void rules_spoil_what_they_name_and_nothing_else(void **state)
{
    (void)state;
    each_queue(spoils_the_right_ones);
}

static void holds_and_releases(struct device *device)
{
    struct weir__io *const io = &device->fault.io;
    struct weir__event events[4];
    const struct weir__op ops[] = {WRITE_OP(device, 0, 1)};
    (void)fault_io_arm(&device->fault, &(struct fault_rule){.kind = FAULT_WRITE, .hold = true});
    assert_int_equal(io->ops->queue_push(io, device->queue, ops, 1), 0);
    assert_true(fault_io_wait_held(&device->fault, 1));
    assert_int_equal(
        io->ops->queue_reap(io, device->queue, events, 4, true, weir__now_ns() + 10000000),
        0);
    fault_io_release(&device->fault);
    int got = 0;
    for (int i = 0; i < 100 && got == 0;
         i++) { /* the release may be told as a wake-up of its own */
        got = io->ops->queue_reap(io,
                                  device->queue,
                                  events,
                                  4,
                                  true,
                                  weir__now_ns() + TEST_PATIENCE_NS);
    }
    assert_int_equal(got, 1);
    assert_int_equal(events[0].result, BLOCK);

    /* A wake-up ends a wait, the one under way or the next. */
    io->ops->queue_wake(io, device->queue);
    assert_int_equal(
        io->ops->queue_reap(io, device->queue, events, 4, true, weir__now_ns() + TEST_PATIENCE_NS),
        0);
}

static void held_operations_begin_when_they_are_released(void **state)
{
    (void)state;
    each_queue(holds_and_releases);
}

static void counts_what_was_done(struct device *device)
{
    struct weir__io *const io = &device->fault.io;
    int32_t results[2];
    struct fault_op op;
    fault_io_forget(&device->fault);
    const uint64_t before = fault_io_now(&device->fault);
    const struct iovec iov = {device->bytes, BLOCK};
    struct weir__op linked[] = {WRITE_OP(device, 1, 1),
                                {.kind = WEIR__OP_SYNC, .file = device->file, .data = 1}};
    linked[0].link = true;
    assert_int_equal(io->ops->write(io, device->file, &iov, 1, 0, true), BLOCK);
    run(device, linked, 2, results);
    assert_int_equal(fault_io_count(&device->fault, &(struct fault_look){.kind = FAULT_WRITE}), 2);
    assert_int_equal(fault_io_count(&device->fault, &(struct fault_look){.syncs = true}), 2);
    assert_int_equal(
        fault_io_count(&device->fault, &(struct fault_look){.syncs = true, .way = FAULT_QUEUED}),
        1);
    assert_int_equal(fault_io_count(&device->fault, &(struct fault_look){.name = "weir.control"}),
                     0);
    assert_true(fault_io_find(&device->fault, &(struct fault_look){.kind = FAULT_SYNC}, &op));
    assert_true(op.begun > before && op.ended > op.begun);
    assert_string_equal(op.name, NAME);
    assert_int_equal(op.result, 0);
}

static void operations_are_written_down_in_order(void **state)
{
    (void)state;
    each_queue(counts_what_was_done);
}

/* What is asked for at once comes at once; a queue's figures pass; and a release reaches every queue
 * that there is, not only the one opened last. */
static void waits_for_all(struct device *device)
{
    struct weir__io *const io = &device->fault.io;
    struct weir__queue_info info;
    const struct weir__queue_config config = {.entries = 16, .lock_file = -1};
    struct weir__queue *later = NULL;
    assert_int_equal(io->ops->queue_open(io, &device->mem, &config, &later, &info), 0);
    struct weir__op ops[4];
    for (unsigned i = 0; i < 4; i++) {
        ops[i] = (struct weir__op){.kind = WEIR__OP_SYNC, .file = device->file, .data = i};
    }
    struct weir__event events[16];
    const uint64_t deadline_ns = weir__now_ns() + TEST_PATIENCE_NS;
    assert_int_equal(io->ops->queue_push(io, device->queue, ops, 4), 0);
    assert_int_equal(io->ops->queue_reap(io, device->queue, events, 16, 4, deadline_ns), 4);

    fault_io_arm(&device->fault, &(struct fault_rule){.kind = FAULT_SYNC, .hold = true});
    assert_int_equal(io->ops->queue_push(io, device->queue, ops, 1), 0);
    assert_true(fault_io_wait_held(&device->fault, 1));
    fault_io_release(&device->fault);
    int got = 0;
    while (got == 0 && weir__now_ns() < deadline_ns) {
        got = io->ops->queue_reap(io, device->queue, events, 16, 1, WEIR__NEVER);
    }
    assert_int_equal(got, 1);
    struct weir__queue_faults faults = {1, 1};
    io->ops->queue_faults(io, device->queue, &faults);
    assert_int_equal(faults.overflows, 0);
    assert_int_equal(faults.dropped, 0);
    io->ops->queue_close(io, &device->mem, later);
}

static void several_events_and_several_queues(void **state)
{
    (void)state;
    each_queue(waits_for_all);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_is_not_durable),
        cmocka_unit_test(a_sync_covers_what_had_come_back_when_it_began),
        cmocka_unit_test(what_was_not_synced_is_gone_after_a_crash),
        cmocka_unit_test(rules_spoil_what_they_name_and_nothing_else),
        cmocka_unit_test(held_operations_begin_when_they_are_released),
        cmocka_unit_test(operations_are_written_down_in_order),
        cmocka_unit_test(several_events_and_several_queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
