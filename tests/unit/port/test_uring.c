/* SPDX-License-Identifier: Apache-2.0
 * The queue over io_uring: the battery in each shape of a ring, and what only a ring has. Skipped as
 * a whole, with the reason, where the kernel refuses rings. */
#include "port/uring.h"

#include "unit/port/queue_battery.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- the ring's own: room ---- */

static struct weir__queue *open_shaped(const struct weir__queue_config *config,
                                       struct weir__queue_info *info)
{
    struct weir__queue *queue = NULL;
    assert_int_equal(io->ops->queue_open(io, &mem, config, &queue, info), 0);
    return queue;
}

/* As much as may be under way, again and again, never reaped before it is full: nothing finds the
 * completion ring full, since fewer are let in than were asked for. */
static void two_entries_never_overflow_under_any_load(void **state)
{
    (void)state;
    const struct weir__queue_config config = {.entries = 16, .ring_entries = 2, .lock_file = -1};
    struct weir__queue_info info;
    struct weir__queue *const queue = open_shaped(&config, &info);
    /* Its writes are complete when they are submitted: the hardest load for the completion ring. */
    const int file = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0);
    char text[] = "o";
    const struct iovec iov = {text, 1};
    unsigned pushed = 0;
    for (unsigned round = 0; round < 500; round++) {
        const struct weir__op op = op_write(file, &iov, 0, round);
        while (io->ops->queue_push(io, queue, &op, 1) == 0) {
            pushed++;
        }
        if (round % 3 == 0) {
            io->ops->queue_wake(io, queue);
        }
        struct weir__event events[16];
        const unsigned min = round % 4;
        const int reaped =
            io->ops->queue_reap(io, queue, events, 16, min, weir__deadline(PATIENCE_NS));
        assert_true(reaped >= 0);
        pushed -= (unsigned)reaped;
    }
    struct weir__queue_faults faults = {1, 1};
    io->ops->queue_faults(io, queue, &faults);
    assert_int_equal(faults.overflows, 0);
    assert_int_equal(faults.dropped, 0);
    assert_int_equal(info.ring_entries, 2);
    assert_int_equal(info.completion_entries, 4);
    assert_int_equal(info.entries, 3);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

static void entry_that_the_kernel_cannot_read_is_counted(void **state)
{
    (void)state;
    struct weir__queue *const queue = open_queue(ENTRIES);
    struct weir__queue_faults faults = {1, 1};
    io->ops->queue_faults(io, queue, &faults);
    assert_int_equal(faults.dropped, 0);
    for (unsigned i = 1; i <= 3; i++) {
        weir__uring_spoil_entry(queue);
        io->ops->queue_faults(io, queue, &faults);
        assert_int_equal(faults.dropped, i);
        assert_int_equal(faults.overflows, 0);
    }
    /* The ring goes on as if nothing had been. */
    const int file = create("after-drop");
    char text[] = "d";
    const struct iovec iov = {text, 1};
    for (unsigned i = 0; i < 2 * ENTRIES; i++) {
        const struct weir__op op = op_write(file, &iov, 0, 0);
        int32_t result = -1;
        assert_int_equal(io->ops->queue_push(io, queue, &op, 1), 0);
        assert_int_equal(reap_all(queue, &result, 1), 1);
        assert_int_equal(result, 1);
    }
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* Runs stay whole: the failed one cancels its own, wherever the pieces are cut. */
static void push_longer_than_the_ring_goes_out_in_pieces(void **state)
{
    (void)state;
    struct weir__queue_config config = shape;
    config.entries = 7;
    config.ring_entries = 4;
    struct weir__queue_info info;
    struct weir__queue *const queue = open_shaped(&config, &info);
    assert_int_equal(info.ring_entries, 4);
    assert_int_equal(info.entries, 7);
    const int file = create("pieces");
    char text[] = "p";
    const struct iovec iov = {text, 1};
    int32_t results[7];
    /* Runs of 3, 2 and 2: cut behind the first, though one more would fit. */
    struct weir__op ops[7];
    for (unsigned i = 0; i < 7; i++) {
        ops[i] = op_write(i == 3 ? -1 : file, &iov, i, i);
        ops[i].link = i != 2 && i != 4 && i != 6;
    }
    for (int round = 0; round < 5; round++) {
        assert_int_equal(io->ops->queue_push(io, queue, ops, 7), 0);
        assert_int_equal(reap_all(queue, results, 7), 7);
        for (unsigned i = 0; i < 7; i++) {
            assert_int_equal(results[i], i == 3 ? -EBADF : i == 4 ? -ECANCELED : 1);
        }
    }
    /* A run that no piece can hold; in front of it one that could go: nothing has gone. */
    for (unsigned i = 0; i < 7; i++) {
        ops[i].file = file;
        ops[i].link = i != 1 && i != 6;
    }
    assert_int_equal(io->ops->queue_push(io, queue, ops, 7), -EINVAL);
    struct weir__event event;
    assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, 1), 0);
    ops[5].link = false;
    assert_int_equal(io->ops->queue_push(io, queue, ops, 7), 0);
    assert_int_equal(reap_all(queue, results, 7), 7);
    io->ops->queue_close(io, &mem, queue);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* ---- the ring's own: the kernel's thread ---- */

static bool wait_idle(const struct weir__queue *queue)
{
    const uint64_t deadline_ns = weir__deadline(PATIENCE_NS);
    while (!weir__uring_poll_idle(queue)) {
        if (weir__now_ns() >= deadline_ns) {
            return false;
        }
        weir__sleep_ns(NS_PER_MS);
    }
    return true;
}

/* Its flag tells that it sleeps, and a push wakes it. The other one's idle time is an hour: it
 * cannot have begun to sleep before. */
static void kernel_thread_sleeps_after_its_idle_time_and_is_woken(void **state)
{
    (void)state;
    struct weir__queue_config config = {
        .entries = ENTRIES,
        .kernel_poll = true,
        .kernel_poll_idle_ms = 3600000,
        .lock_file = -1,
    };
    struct weir__queue_info info;
    struct weir__queue *const awake = open_shaped(&config, &info);
    if (!info.kernel_poll) {
        assert_non_null(strstr(info.note, "no kernel poll"));
        print_message("skipped: %s\n", info.note);
        io->ops->queue_close(io, &mem, awake);
        skip();
    }
    config.kernel_poll_idle_ms = 1;
    struct weir__queue *const queue = open_shaped(&config, &info);
    assert_true(info.kernel_poll);
    const int file = create("polled");
    char text[] = "k";
    const struct iovec iov = {text, 1};
    const struct weir__op op = op_write(file, &iov, 0, 0);
    int32_t result = -1;
    assert_int_equal(io->ops->queue_push(io, awake, &op, 1), 0);
    assert_int_equal(reap_all(awake, &result, 1), 1);
    for (int round = 0; round < 5; round++) {
        assert_true(wait_idle(queue));
        result = -1;
        assert_int_equal(io->ops->queue_push(io, queue, &op, 1), 0);
        assert_int_equal(reap_all(queue, &result, 1), 1);
        assert_int_equal(result, 1);
    }
    assert_false(weir__uring_poll_idle(awake));
    io->ops->queue_close(io, &mem, queue);
    io->ops->queue_close(io, &mem, awake);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* The ring is full of a read that nothing ends, which the sleeping thread has yet to see: a wait
 * that begins now is ended by a wake all the same. */
static void wake_reaches_a_wait_that_began_with_a_full_ring(void **state)
{
    (void)state;
    const struct weir__queue_config config = {
        .entries = 1,
        .kernel_poll = true,
        .kernel_poll_idle_ms = 1,
        .lock_file = -1,
    };
    struct weir__queue_info info;
    struct weir__queue *const queue = open_shaped(&config, &info);
    if (!info.kernel_poll) {
        print_message("skipped: %s\n", info.note);
        io->ops->queue_close(io, &mem, queue);
        skip();
    }
    assert_int_equal(info.ring_entries, 1);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    for (unsigned round = 0; round < 10; round++) {
        struct weir__event event;
        char byte;
        const struct iovec iov = {&byte, 1};
        struct weir__op op = op_write(ends[0], &iov, 0, round);
        op.kind = WEIR__OP_READ;
        /* The standing read is used up, so that the wait has to prepare another. */
        io->ops->queue_wake(io, queue);
        assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, WEIR__NEVER), 0);
        assert_true(wait_idle(queue));
        assert_int_equal(io->ops->queue_push(io, queue, &op, 1), 0);
        struct waker waker;
        memset(&waker, 0, sizeof waker);
        waker.queue = queue;
        waker.after_ns = 20 * NS_PER_MS;
        pthread_t thread;
        assert_int_equal(weir__thread_start(&thread, "waker", waker_run, &waker), 0);
        const uint64_t deadline_ns = weir__deadline(PATIENCE_NS / 3);
        const int reaped = io->ops->queue_reap(io, queue, &event, 1, 1, deadline_ns);
        const bool in_time = weir__now_ns() < deadline_ns;
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(reaped, 0);
        assert_true(in_time);
        assert_int_equal(write(ends[1], "r", 1), 1);
        assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, weir__deadline(PATIENCE_NS)),
                         1);
        assert_int_equal(event.result, 1);
    }
    io->ops->queue_close(io, &mem, queue);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* ---- the ring's own: life ---- */

/* The reason for registering it: a killed process's writes still land, and until then nobody else
 * may open the log. */
static void registered_lock_outlives_its_descriptor_until_the_close(void **state)
{
    (void)state;
    const int lock = create("lock");
    assert_int_equal(io->ops->lock(io, lock), 0);
    const struct weir__queue_config config = {.entries = ENTRIES, .lock_file = lock};
    struct weir__queue *queue = NULL;
    struct weir__queue_info info;
    assert_int_equal(io->ops->queue_open(io, &mem, &config, &queue, &info), 0);
    if (!info.lock_registered) {
        print_message("skipped: %s\n", info.note);
        io->ops->queue_close(io, &mem, queue);
        assert_int_equal(io->ops->close(io, lock), 0);
        skip();
    }
    assert_int_equal(io->ops->close(io, lock), 0);
    int second = -1;
    assert_int_equal(io->ops->open(io, dir, "lock", WEIR__OPEN_WRITE, &second), 0);
    assert_int_equal(io->ops->lock(io, second), -EBUSY);
    /* The registration must not be in the way of ordinary ops. */
    const int file = create("beside-lock");
    char text[] = "w";
    const struct iovec iov = {text, 1};
    const struct weir__op op = op_write(file, &iov, 0, 0);
    int32_t result = -1;
    assert_int_equal(io->ops->queue_push(io, queue, &op, 1), 0);
    assert_int_equal(reap_all(queue, &result, 1), 1);
    assert_int_equal(result, 1);
    assert_int_equal(io->ops->lock(io, second), -EBUSY);
    io->ops->queue_close(io, &mem, queue);
    /* At once, not some time later. */
    assert_int_equal(io->ops->lock(io, second), 0);
    assert_int_equal(io->ops->close(io, second), 0);
    assert_int_equal(io->ops->close(io, file), 0);
}

static int check_low_descriptors(void)
{
    (void)close(0);
    (void)close(1);
    (void)close(2);
    const struct weir__queue_config config = {.entries = ENTRIES, .lock_file = -1};
    struct weir__queue *queue = NULL;
    struct weir__queue_info info;
    char reason[200];
    if (weir__uring_probe(reason, sizeof reason) != 0 ||
        io->ops->queue_open(io, &mem, &config, &queue, &info) != 0) {
        return 1;
    }
    for (int low = 0; low < 3; low++) {
        if (fcntl(low, F_GETFD) != -1) {
            return 2;
        }
    }
    /* It must work on the descriptor that it was moved to. */
    int file = -1;
    if (io->ops->open(io, dir, "low", WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &file) != 0) {
        return 3;
    }
    char text[] = "l";
    const struct iovec iov = {text, 1};
    const struct weir__op op = op_write(file, &iov, 0, 0);
    int32_t result = -1;
    if (io->ops->queue_push(io, queue, &op, 1) != 0 || reap_all(queue, &result, 1) != 1) {
        return 4;
    }
    io->ops->queue_close(io, &mem, queue);
    return result == 1 ? 0 : 5;
}

static void ring_takes_no_descriptor_below_3(void **state)
{
    (void)state;
    assert_int_equal(in_child(check_low_descriptors), 0);
}

static unsigned count_descriptors(void)
{
    unsigned count = 0;
    for (int file = 0; file < 256; file++) {
        count += fcntl(file, F_GETFD) != -1;
    }
    return count;
}

static void open_and_close_leak_no_descriptor(void **state)
{
    (void)state;
    const unsigned before = count_descriptors();
    for (int round = 0; round < 10; round++) {
        struct weir__queue *const queue = open_queue(ENTRIES);
        io->ops->queue_wake(io, queue);
        struct weir__event event;
        assert_int_equal(io->ops->queue_reap(io, queue, &event, 1, 1, WEIR__NEVER), 0);
        io->ops->queue_close(io, &mem, queue);
        char reason[200];
        assert_int_equal(weir__uring_probe(reason, sizeof reason), 0);
    }
    assert_int_equal(count_descriptors(), before);
}

/* ---- refusals ---- */

/* Registered buffers count against RLIMIT_MEMLOCK for everyone but root. */
static int check_memlock(void)
{
    const size_t bytes = (size_t)8 << 20;
    const struct rlimit limit = {1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || (geteuid() == 0 && setuid(65534) != 0)) {
        return 77;
    }
    char *const block = weir__mem_alloc_io(&mem, bytes);
    if (block == NULL) {
        return 1;
    }
    const struct iovec buffer = {block, bytes};
    const struct weir__queue_config config = {.entries = ENTRIES,
                                              .lock_file = -1,
                                              .buffers = &buffer,
                                              .buffer_count = 1};
    struct weir__queue *queue = NULL;
    struct weir__queue_info info;
    const int error = io->ops->queue_open(io, &mem, &config, &queue, &info);
    if (error == -EPERM) {
        return 77; /* this user may not have rings at all */
    }
    if (error != 0) {
        return 2;
    }
    if (info.buffers_registered || strstr(info.note, "RLIMIT_MEMLOCK") == NULL) {
        return 3;
    }
    /* Writes from the buffer go on, unfixed; to a descriptor opened before the change of user. */
    const struct iovec iov = {block, BLOCK_BYTES};
    const struct weir__op op = op_write(dir, &iov, 0, 0);
    int32_t result = 1;
    if (io->ops->queue_push(io, queue, &op, 1) != 0 || reap_all(queue, &result, 1) != 1) {
        return 4;
    }
    io->ops->queue_close(io, &mem, queue);
    return result == -EBADF ? 0 : 5;
}

static void refused_buffers_are_a_note_and_no_failure(void **state)
{
    (void)state;
    const int result = in_child(check_memlock);
    if (result == 77) {
        print_message("skipped: cannot become a user without privileges\n");
        skip();
    }
    assert_int_equal(result, 0);
}

static int filter_error;

static int check_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)filter_error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        return 77;
    }
    char reason[256];
    if (weir__uring_probe(reason, sizeof reason) != -filter_error) {
        return 1;
    }
    static const struct {
        int error;
        const char *words;
    } expected[] = {
        {EPERM, "seccomp"},
        {ENOSYS, "without io_uring"},
        {ENOMEM, "memory"},
        {EMFILE, "RLIMIT_NOFILE"},
        {ENFILE, "fs.file-max"},
        {EIO, "io_uring_setup failed"},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        if (expected[i].error == filter_error && strstr(reason, expected[i].words) == NULL) {
            return 2;
        }
    }
    /* Cut to the room that there is, and terminated. */
    char tight[8];
    memset(tight, 'x', sizeof tight);
    if (weir__uring_probe(tight, sizeof tight) != -filter_error || strlen(tight) != 7) {
        return 3;
    }
    const struct weir__queue_config config = {.entries = ENTRIES, .lock_file = -1};
    struct weir__queue *queue = NULL;
    struct weir__queue_info info;
    const unsigned before = count_descriptors();
    if (io->ops->queue_open(io, &mem, &config, &queue, &info) != -filter_error || queue != NULL) {
        return 4;
    }
    return count_descriptors() == before && weir__load(&mem.bytes, relaxed) == 0 ? 0 : 5;
}

/* Containers and hardened systems: the reason must name the way out. */
static void probe_says_why_a_ring_is_refused(void **state)
{
    (void)state;
    static const int errors[] = {EPERM, ENOSYS, ENOMEM, EMFILE, ENFILE, EIO};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        filter_error = errors[i];
        const int result = in_child(check_filter);
        if (result == 77) {
            print_message("skipped: no seccomp filters here\n");
            skip();
        }
        assert_int_equal(result, 0);
    }
}

static bool kernel_polls(void)
{
    struct weir__mem own;
    weir__mem_init(&own, NULL);
    const struct weir__queue_config config = {.entries = 1, .kernel_poll = true, .lock_file = -1};
    struct weir__queue *queue = NULL;
    struct weir__queue_info info;
    const bool opened = io->ops->queue_open(io, &own, &config, &queue, &info) == 0;
    if (opened) {
        io->ops->queue_close(io, &own, queue);
    }
    weir__mem_exit(&own);
    return opened && info.kernel_poll;
}

int main(void)
{
    io = weir__io_system();
    char reason[256];
    const int refused = weir__uring_probe(reason, sizeof reason);
    if (refused != 0) {
        print_message("skipped: error %d: %s\n", -refused, reason);
        return 77;
    }
    const struct CMUnitTest battery[] = {QUEUE_BATTERY};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_entries_never_overflow_under_any_load),
        cmocka_unit_test(entry_that_the_kernel_cannot_read_is_counted),
        cmocka_unit_test(push_longer_than_the_ring_goes_out_in_pieces),
        cmocka_unit_test(kernel_thread_sleeps_after_its_idle_time_and_is_woken),
        cmocka_unit_test(wake_reaches_a_wait_that_began_with_a_full_ring),
        cmocka_unit_test(registered_lock_outlives_its_descriptor_until_the_close),
        cmocka_unit_test(ring_takes_no_descriptor_below_3),
        cmocka_unit_test(open_and_close_leak_no_descriptor),
        cmocka_unit_test(refused_buffers_are_a_note_and_no_failure),
        cmocka_unit_test(probe_says_why_a_ring_is_refused),
    };
    int failed = cmocka_run_group_tests(battery, set_up, tear_down);
    shape.wanders = true;
    failed += cmocka_run_group_tests(battery, set_up, tear_down);
    /* A ring longer than what may be under way; its completion ring has room to spare. */
    shape.wanders = false;
    shape.ring_entries = 64;
    failed += cmocka_run_group_tests(battery, set_up, tear_down);
    shape.ring_entries = 0;
    if (kernel_polls()) {
        shape.kernel_poll = true;
        shape.kernel_poll_idle_ms = 1;
        failed += cmocka_run_group_tests(battery, set_up, tear_down);
        shape.kernel_poll = false;
    }
    failed += cmocka_run_group_tests(tests, set_up, tear_down);
    return failed == 0 ? 0 : 1;
}
