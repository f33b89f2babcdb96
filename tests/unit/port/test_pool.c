/* SPDX-License-Identifier: Apache-2.0
 * The queue over a pool of threads: the ring's battery, and what only a pool has. */
#include "port/pool.h"

#include "unit/port/queue_battery.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* The pool's table, with reads of gate_file as plain ones: they wait for a byte. */
static ssize_t
gated_read(struct weir__io *self, int file, void *buffer, size_t bytes, uint64_t offset)
{
    (void)self;
    if (file != gate_file) {
        return weir__io_system_pool()->ops->read(weir__io_system_pool(),
                                                 file,
                                                 buffer,
                                                 bytes,
                                                 offset);
    }
    (void)weir__fetch_add(&gate_begun, 1, relaxed);
    const ssize_t got = read(file, buffer, bytes);
    return got < 0 ? -errno : got;
}

/* A run at a time is the owner's own work: no thread is ever asked for. */
static void one_run_at_a_time_starts_no_thread(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("alone");
    char text[] = "a";
    const struct iovec iov = {text, 1};
    for (int round = 0; round < 50; round++) {
        struct weir__op ops[2] = {op_write(file, &iov, 0, 0), op_sync(file, 1)};
        ops[0].link = true;
        int32_t results[2];
        assert_int_equal(io->ops->queue_push(io, queue, ops, 2), 0);
        assert_int_equal(reap_all(queue, results, 2), 2);
        assert_int_equal(results[0], 1);
        assert_int_equal(results[1], 0);
    }
    assert_int_equal(weir__pool_threads(queue), 0);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* Runs that wait do so side by side, up to the bound; the rest wait their turn. */
static void runs_go_side_by_side_up_to_the_bound(void **state)
{
    (void)state;
    static const unsigned entries[] = {3, WEIR__POOL_THREADS + 8};
    for (size_t e = 0; e < 2; e++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        gate_file = ends[0];
        weir__store(&gate_begun, 0, relaxed);
        const unsigned count = entries[e];
        const unsigned bound = count < WEIR__POOL_THREADS ? count : WEIR__POOL_THREADS;
        const struct weir__queue_config config = {.entries = count, .lock_file = -1};
        struct weir__queue *queue = NULL;
        struct weir__queue_info info;
        assert_int_equal(io->ops->queue_open(io, &mem, &config, &queue, &info), 0);
        assert_int_equal(info.threads, bound);
        assert_int_equal(info.ring_entries, 0);
        assert_string_equal(info.note, "");
        assert_int_equal(weir__pool_threads(queue), 0);
        char bytes[WEIR__POOL_THREADS + 8];
        struct iovec iovs[WEIR__POOL_THREADS + 8];
        struct weir__op ops[WEIR__POOL_THREADS + 8];
        for (unsigned i = 0; i < count; i++) {
            iovs[i] = (struct iovec){&bytes[i], 1};
            ops[i] = op_write(ends[0], &iovs[i], 0, i);
            ops[i].kind = WEIR__OP_READ;
        }
        assert_int_equal(io->ops->queue_push(io, queue, ops, count), 0);
        assert_true(gate_wait(bound));
        assert_int_equal(weir__pool_threads(queue), bound);
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(write(ends[1], "x", 1), 1);
        }
        int32_t results[WEIR__POOL_THREADS + 8];
        assert_int_equal(reap_all(queue, results, count), count);
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(results[i], 1);
            assert_int_equal(bytes[i], 'x');
        }
        assert_int_equal(weir__pool_threads(queue), bound);
        io->ops->queue_close(io, &mem, queue);
        gate_file = INT_MAX;
        (void)close(ends[0]);
        (void)close(ends[1]);
    }
}

/* The owner was woken, or out of time, before it came to the run: somebody else does it. */
static void run_left_lying_is_carried_out_without_a_reap(void **state)
{
    (void)state;
    for (int timed = 0; timed < 2; timed++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        gate_file = ends[0];
        weir__store(&gate_begun, 0, relaxed);
        struct weir__queue *const queue = open_queue(ENTRIES);
        char byte = 0;
        const struct iovec iov = {&byte, 1};
        struct weir__op op = op_write(ends[0], &iov, 0, 0);
        op.kind = WEIR__OP_READ;
        assert_int_equal(io->ops->queue_push(io, queue, &op, 1), 0);
        struct weir__event event;
        if (timed == 0) {
            io->ops->queue_wake(io, queue);
        }
        assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, timed == 0 ? WEIR__NEVER : 1),
                         0);
        assert_true(gate_wait(1));
        assert_int_equal(write(ends[1], "r", 1), 1);
        int32_t result = -1;
        assert_int_equal(reap_all(queue, &result, 1), 1);
        assert_int_equal(result, 1);
        io->ops->queue_close(io, &mem, queue);
        gate_file = INT_MAX;
        (void)close(ends[0]);
        (void)close(ends[1]);
    }
}

static void note_tells_only_what_was_asked_for(void **state)
{
    (void)state;
    char byte;
    const struct iovec buffer = {&byte, 1};
    for (unsigned asked = 0; asked < 4; asked++) {
        const struct weir__queue_config config = {
            .entries = 1,
            .lock_file = -1,
            .kernel_poll = (asked & 1) != 0,
            .buffers = &buffer,
            .buffer_count = asked / 2,
        };
        struct weir__queue *queue = NULL;
        struct weir__queue_info info;
        assert_int_equal(io->ops->queue_open(io, &mem, &config, &queue, &info), 0);
        assert_int_equal(strstr(info.note, "no kernel poll") != NULL, asked & 1);
        assert_int_equal(strstr(info.note, "buffers not registered") != NULL, asked / 2);
        assert_false(info.kernel_poll);
        assert_false(info.buffers_registered);
        io->ops->queue_close(io, &mem, queue);
    }
}

static int check_no_threads(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof code / sizeof code[0], code};
    struct weir__queue *const queue = open_queue(ENTRIES);
    const int file = create("threadless");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        return 77;
    }
    char text[] = "n";
    const struct iovec iov = {text, 1};
    struct weir__op ops[ENTRIES];
    for (unsigned i = 0; i < ENTRIES; i++) {
        ops[i] = op_write(file, &iov, i, i);
    }
    int32_t results[ENTRIES];
    for (int round = 0; round < 3; round++) {
        if (io->ops->queue_push(io, queue, ops, ENTRIES) != 0) {
            return 1;
        }
        /* By looks alone, and by waits. */
        struct weir__event event;
        for (unsigned i = 0; i < ENTRIES && round == 0; i++) {
            if (io->ops->queue_reap(io, queue, &event, 1, 0, 0) != 1 || event.result != 1) {
                return 2;
            }
        }
        if (round > 0 && reap_all(queue, results, ENTRIES) != ENTRIES) {
            return 3;
        }
    }
    if (weir__pool_threads(queue) != 0) {
        return 4;
    }
    /* And what nobody reaped is done by the close. */
    for (unsigned i = 0; i < ENTRIES; i++) {
        ops[i].offset = 1000 + i;
    }
    if (io->ops->queue_push(io, queue, ops, ENTRIES) != 0) {
        return 5;
    }
    io->ops->queue_close(io, &mem, queue);
    struct weir__file_info info;
    return io->ops->info(io, file, &info) == 0 && info.bytes == 1000 + ENTRIES ? 0 : 6;
}

/* A process at its limit of threads goes on, one op after another. */
static void without_threads_the_owner_does_all(void **state)
{
    (void)state;
    const int result = in_child(check_no_threads);
    if (result == 77) {
        print_message("skipped: no seccomp filters here\n");
        skip();
    }
    assert_int_equal(result, 0);
}

int main(void)
{
    static struct weir__io_ops ops;
    static struct weir__io gated = {.ops = &ops};
    ops = *weir__io_system_pool()->ops;
    ops.read = gated_read;
    io = &gated;
    gate_file = INT_MAX;
    const struct CMUnitTest tests[] = {
        QUEUE_BATTERY,
        cmocka_unit_test(one_run_at_a_time_starts_no_thread),
        cmocka_unit_test(runs_go_side_by_side_up_to_the_bound),
        cmocka_unit_test(run_left_lying_is_carried_out_without_a_reap),
        cmocka_unit_test(note_tells_only_what_was_asked_for),
        cmocka_unit_test(without_threads_the_owner_does_all),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
