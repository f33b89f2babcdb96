/* SPDX-License-Identifier: Apache-2.0
 * A device: each field of the config does something that can be seen, in the ring itself where
 * there is one; what is refused is told; nothing that the kernel may still use is freed. */
#include "io/device.h"
#include "port/clock.h"
#include "port/uring.h"
#include "support/fault_io.h"
#include "support/temp_dir.h"
#include "support/threads.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define BLOCK_BYTES 4096u

static char dir_path[TEMP_DIR_BYTES];

static int group_setup(void **state)
{
    (void)state;
    temp_dir_make(dir_path);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    temp_dir_remove(dir_path);
    return 0;
}

static void need_ring(void)
{
    if (!fault_io_has_ring()) {
        print_message("skipped: no io_uring here\n");
        skip();
    }
}

static struct weir_io_config small_config(enum weir_io_backend backend)
{
    struct weir_io_config config = weir_io_config_minimal();
    config.backend = backend;
    config.sq_entries = 8;
    config.max_inflight = 8;
    config.registered_buffers = 4;
    return config;
}

/* The value of a line of the kernel's own description of the only ring of this process; -1: there
 * is no such line, or no ring. */
static long ring_line(const char *key)
{
    DIR *const files = opendir("/proc/self/fd");
    assert_non_null(files);
    long value = -1;
    unsigned rings = 0;
    for (const struct dirent *entry; (entry = readdir(files)) != NULL;) {
        char path[300];
        char target[64] = "";
        (void)snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        if (readlink(path, target, sizeof target - 1) < 0 ||
            strcmp(target, "anon_inode:[io_uring]") != 0) {
            continue;
        }
        rings++;
        (void)snprintf(path, sizeof path, "/proc/self/fdinfo/%s", entry->d_name);
        FILE *const info = fopen(path, "r");
        assert_non_null(info);
        for (char line[256]; fgets(line, sizeof line, info) != NULL;) {
            if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':') {
                value = strtol(line + strlen(key) + 1, NULL, 0);
            }
        }
        (void)fclose(info);
    }
    (void)closedir(files);
    assert_true(rings <= 1);
    return value;
}

/* Does this kernel tell of its rings? */
static bool rings_are_told(void)
{
    struct weir__io_device device;
    const struct weir_io_config config = small_config(WEIR_IO_BACKEND_URING);
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    const bool told = ring_line("SqMask") >= 0;
    weir__io_device_close(&device);
    return told;
}

/* ---- work -------------------------------------------------------------------------------------- */

/* One run: a write, and the sync behind it. */
struct job {
    struct weir__transfer_op ops[2];
    struct weir__transfer_run run;
    struct iovec iov;
    unsigned ends;
    int code;
};

static void job_ended(void *ctx, struct weir__transfer_run *run, int code)
{
    struct job *const job = run->user;
    (void)ctx;
    job->ends++;
    job->code = code;
}

static void job_set_up(struct job *job, int file, void *data, size_t bytes, uint64_t offset)
{
    *job = (struct job){
        .ops = {{.kind = WEIR__OP_WRITE,
                 .file = file,
                 .block_bytes = 1,
                 .iov_count = 1,
                 .offset = offset,
                 .bytes = bytes},
                {.kind = WEIR__OP_SYNC, .file = file, .block_bytes = 1}},
        .iov = {.iov_base = data, .iov_len = bytes},
        .code = 1,
    };
    job->ops[0].iov = &job->iov;
    job->run = (struct weir__transfer_run){.ops = job->ops, .count = 2, .user = job};
}

static int job_do(struct weir__io_device *device, struct job *job)
{
    device->transfer.ended = job_ended;
    int code = weir__transfer_start(&device->transfer, &job->run);
    while (code == 0 && job->ends == 0) {
        const int got = weir__transfer_reap(&device->transfer, 1, WEIR__NEVER);
        code = got < 0 ? got : 0;
    }
    return code != 0 ? code : job->code;
}

/* ---- the ring's fields ----------------------------------------------------------------------- */

static void ring_is_as_large_as_asked_for_rounded_up(void **state)
{
    (void)state;
    static const struct {
        uint32_t asked;
        uint32_t got;
    } rows[] = {{1, 1}, {2, 2}, {5, 8}, {64, 64}, {1000, 1024}};
    need_ring();
    const bool told = rings_are_told();

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct weir_io_config config = small_config(WEIR_IO_BACKEND_URING);
        struct weir__io_device device;
        config.sq_entries = rows[i].asked;
        config.max_inflight = 1;
        assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
        const struct weir_io_effective *const effective = &device.effective;
        assert_int_equal(effective->config.sq_entries, rows[i].got);
        assert_true(effective->cq_entries >= 2 * rows[i].got);
        assert_int_equal(effective->config.backend, WEIR_IO_BACKEND_URING);
        assert_int_equal(effective->threads, 0);
        assert_string_equal(effective->reason, "");
        if (told) {
            assert_int_equal(ring_line("SqMask"), rows[i].got - 1);
            assert_int_equal(ring_line("CqMask"), effective->cq_entries - 1);
        }
        weir__io_device_close(&device);
    }
}

static void operations_in_flight_are_cut_to_what_completions_have_room_for(void **state)
{
    (void)state;
    need_ring();
    struct weir_io_config config = small_config(WEIR_IO_BACKEND_URING);
    struct weir__io_device device;
    config.sq_entries = 2;
    config.max_inflight = 64;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    assert_true(device.effective.config.max_inflight >= 1);
    assert_true(device.effective.config.max_inflight < device.effective.cq_entries);
    assert_int_equal(device.transfer.entries, device.effective.config.max_inflight);
    assert_non_null(strstr(device.effective.reason, "max_inflight cut to "));
    weir__io_device_close(&device);

    /* The pool has no such bound. */
    config.backend = WEIR_IO_BACKEND_POSIX;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    assert_int_equal(device.effective.config.max_inflight, 64);
    assert_int_equal(device.transfer.entries, 64);
    weir__io_device_close(&device);
}

static bool poll_sleeps(void *ctx)
{
    return weir__uring_poll_idle(((struct weir__io_device *)ctx)->queue);
}

static bool can_poll(void)
{
    struct weir_io_config config = small_config(WEIR_IO_BACKEND_URING);
    struct weir__io_device device;
    config.kernel_poll = true;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    const bool polls = device.effective.config.kernel_poll;
    if (!polls) {
        assert_non_null(strstr(device.effective.reason, "no kernel poll"));
        assert_int_equal(device.effective.config.sq_poll_idle_ms, 0);
    }
    weir__io_device_close(&device);
    return polls;
}

static void kernel_polls_where_asked_and_not_elsewhere(void **state)
{
    (void)state;
    need_ring();
    if (!can_poll()) {
        print_message("skipped: the kernel's polling thread is refused here\n");
        skip();
    }
    const bool told = rings_are_told() && ring_line("SqThread") == -1;
    struct weir_io_config config = small_config(WEIR_IO_BACKEND_URING);
    struct weir__io_device device;

    config.sq_poll_idle_ms = 10;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    assert_false(device.effective.config.kernel_poll);
    assert_int_equal(device.effective.config.sq_poll_idle_ms, 0);
    assert_true(!told || ring_line("SqThread") <= 0);
    weir__io_device_close(&device);

    config.kernel_poll = true;
    config.sq_poll_idle_ms = 1;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    assert_true(device.effective.config.kernel_poll);
    assert_int_equal(device.effective.config.sq_poll_idle_ms, 1);
    assert_true(!told || ring_line("SqThread") > 0);
    assert_true(wait_until(poll_sleeps, &device));
    weir__io_device_close(&device);

    config.sq_poll_idle_ms = 0;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    assert_int_equal(device.effective.config.sq_poll_idle_ms, 1000);
    weir__io_device_close(&device);
}

/* One that may idle for ten minutes is awake while one of 1 ms, busy after it, has gone to sleep.
 * The time counts from the last submission. */
static void idle_time_is_the_kernels_threads(void **state)
{
    (void)state;
    need_ring();
    if (!can_poll()) {
        print_message("skipped: the kernel's polling thread is refused here\n");
        skip();
    }
    struct weir_io_config config = small_config(WEIR_IO_BACKEND_URING);
    struct weir__io_device patient;
    struct weir__io_device hasty;
    char path[TEMP_DIR_BYTES];
    char text[] = "busy";
    struct job job;
    temp_dir_join(dir_path, "busy", path);
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    config.kernel_poll = true;
    config.sq_poll_idle_ms = 600000;
    assert_int_equal(weir__io_device_open(&patient, &config, NULL, true, NULL), 0);
    job_set_up(&job, file, text, sizeof text, 0);
    assert_int_equal(job_do(&patient, &job), 0);
    config.sq_poll_idle_ms = 1;
    assert_int_equal(weir__io_device_open(&hasty, &config, NULL, true, NULL), 0);
    job_set_up(&job, file, text, sizeof text, 0);
    assert_int_equal(job_do(&hasty, &job), 0);
    assert_true(wait_until(poll_sleeps, &hasty));
    assert_false(poll_sleeps(&patient));
    weir__io_device_close(&hasty);
    weir__io_device_close(&patient);
    (void)close(file);
}

/* ---- buffers --------------------------------------------------------------------------------- */

static void assert_buffers_are_there(struct weir__io_device *device, uint32_t count)
{
    const uint32_t bytes = device->effective.config.buffer_bytes;
    assert_int_equal(device->buffers_bytes, (size_t)count * bytes);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *const buffer = weir__io_device_buffer(device, i);
        assert_int_equal((uintptr_t)buffer % 4096, 0);
        assert_ptr_equal(buffer, device->buffers + (size_t)i * bytes);
        memset(buffer, (int)i, bytes);
    }
}

static void buffers_are_registered_with_the_ring(void **state)
{
    (void)state;
    need_ring();
    const bool told = rings_are_told();
    static const uint32_t counts[] = {0, 1, 2, 64};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct weir_io_config config = small_config(WEIR_IO_BACKEND_URING);
        struct weir__io_device device;
        config.registered_buffers = counts[i];
        config.buffer_bytes = i % 2 == 0 ? 4096 : 12288;
        assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
        assert_int_equal(device.effective.config.registered_buffers, counts[i]);
        assert_int_equal(device.effective.config.buffer_bytes, config.buffer_bytes);
        assert_string_equal(device.effective.reason, "");
        assert_true(!told || ring_line("UserBufs") == (long)counts[i]);
        assert_buffers_are_there(&device, counts[i]);
        weir__io_device_close(&device);
    }
}

static void pool_has_the_buffers_and_says_that_nobody_knows_them(void **state)
{
    (void)state;
    struct weir_io_config config = small_config(WEIR_IO_BACKEND_POSIX);
    struct weir__io_device device;
    config.kernel_poll = true;
    config.sq_poll_idle_ms = 10;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    assert_int_equal(device.effective.config.backend, WEIR_IO_BACKEND_POSIX);
    assert_int_equal(device.effective.config.registered_buffers, 0);
    assert_int_equal(device.effective.config.sq_entries, 0);
    assert_int_equal(device.effective.cq_entries, 0);
    assert_true(device.effective.threads > 0);
    assert_false(device.effective.config.kernel_poll);
    assert_int_equal(device.effective.config.sq_poll_idle_ms, 0);
    assert_non_null(strstr(device.effective.reason, "buffers not registered"));
    assert_non_null(strstr(device.effective.reason, "no kernel poll"));
    assert_buffers_are_there(&device, 4);
    /* No ring was made on the way. */
    assert_int_equal(ring_line("SqMask"), -1);
    weir__io_device_close(&device);

    config.kernel_poll = false;
    config.registered_buffers = 0;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    assert_string_equal(device.effective.reason, "");
    weir__io_device_close(&device);
}

/* Registered buffers count against RLIMIT_MEMLOCK for everyone but root. */
static int check_memlock(void)
{
    const struct rlimit limit = {1 << 20, 1 << 20};
    char path[TEMP_DIR_BYTES];
    temp_dir_join(dir_path, "unprivileged", path);
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || setrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
        (geteuid() == 0 && setuid(65534) != 0)) {
        return 77;
    }
    struct weir_io_config config = small_config(WEIR_IO_BACKEND_URING);
    config.registered_buffers = 8;
    config.buffer_bytes = 1 << 20;
    struct weir__io_device device;
    const int error = weir__io_device_open(&device, &config, NULL, true, NULL);
    if (error == -EPERM) {
        return 77; /* this user may not have rings at all */
    }
    if (error != 0) {
        return 1;
    }
    if (device.effective.config.backend != WEIR_IO_BACKEND_URING ||
        device.effective.config.registered_buffers != 0) {
        return 2;
    }
    if (strstr(device.effective.reason, "buffers not registered") == NULL ||
        strstr(device.effective.reason, "RLIMIT_MEMLOCK") == NULL) {
        return 3;
    }
    /* They are buffers all the same. */
    if (device.buffers == NULL || device.buffers_bytes != (size_t)8 << 20) {
        return 4;
    }
    uint8_t *const last = weir__io_device_buffer(&device, 7);
    memset(last, 7, 1 << 20);
    struct job job;
    job_set_up(&job, file, last, 1 << 20, 0);
    if (job_do(&device, &job) != 0) {
        return 5;
    }
    weir__io_device_close(&device);
    uint8_t byte = 0;
    return pread(file, &byte, 1, (1 << 20) - 1) == 1 && byte == 7 ? 0 : 6;
}

static void buffers_that_are_not_registered_are_told_and_used_all_the_same(void **state)
{
    (void)state;
    need_ring();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(check_memlock());
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: cannot become a user without privileges\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- the choice ------------------------------------------------------------------------------ */

static void ring_is_taken_where_it_is_there(void **state)
{
    (void)state;
    const struct weir_io_config config = small_config(WEIR_IO_BACKEND_AUTO);
    struct weir__io_device device;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, false, NULL), 0);
    if (fault_io_has_ring()) {
        assert_int_equal(device.effective.config.backend, WEIR_IO_BACKEND_URING);
        assert_ptr_equal(device.io, weir__io_system());
        assert_string_equal(device.effective.reason, "");
    } else {
        assert_int_equal(device.effective.config.backend, WEIR_IO_BACKEND_POSIX);
        assert_ptr_equal(device.io, weir__io_system_pool());
        assert_non_null(strstr(device.effective.reason, "no io_uring: "));
    }
    assert_false(device.effective.config.direct_io);
    assert_int_equal(device.effective.block_bytes, 1);
    weir__io_device_close(&device);
}

static void refused_ring_is_a_pool_or_the_error(void **state)
{
    (void)state;
    struct fault_io fault;
    fault_io_init(&fault, FAULT_QUEUE_THREADS);
    struct weir_io_config config = small_config(WEIR_IO_BACKEND_AUTO);
    struct weir__io_device device;
    struct weir_error error = {0};

    fault_io_arm(&fault,
                 &(struct fault_rule){.kind = FAULT_QUEUE_OPEN, .times = 1, .error = -EMFILE});
    assert_int_equal(weir__io_device_open(&device, &config, &fault.io, true, &error), 0);
    assert_ptr_equal(device.io, weir__io_system_pool());
    assert_int_equal(device.effective.config.backend, WEIR_IO_BACKEND_POSIX);
    assert_true(device.effective.threads > 0);
    /* Refused for no reason that the probe meets: the code's own words. */
    assert_non_null(strstr(device.effective.reason, "no io_uring: "));
    assert_non_null(strstr(device.effective.reason, weir_strerror(-EMFILE)));
    weir__io_device_close(&device);

    config.backend = WEIR_IO_BACKEND_URING;
    fault_io_arm(&fault,
                 &(struct fault_rule){.kind = FAULT_QUEUE_OPEN, .times = 1, .error = -EMFILE});
    assert_int_equal(weir__io_device_open(&device, &config, &fault.io, true, &error), -EMFILE);
    assert_int_equal(error.code, -EMFILE);
    assert_int_equal(error.system_code, EMFILE);
    assert_non_null(strstr(error.text, "io_uring was demanded"));
    assert_non_null(strstr(error.text, weir_strerror(-EMFILE)));

    /* A pool that is refused is the end of it. */
    config.backend = WEIR_IO_BACKEND_POSIX;
    fault_io_arm(&fault,
                 &(struct fault_rule){.kind = FAULT_QUEUE_OPEN, .times = 1, .error = -ENOMEM});
    assert_int_equal(weir__io_device_open(&device, &config, &fault.io, true, &error), -ENOMEM);
    assert_int_equal(error.code, -ENOMEM);
    fault_io_exit(&fault);
}

/* ---- memory ---------------------------------------------------------------------------------- */

struct tally {
    unsigned calls;
    unsigned fail_at; /* number of the call that gets nothing; 0: none */
    size_t blocks;
    size_t bytes;
};

static void *tally_alloc(void *ctx, size_t bytes, size_t align)
{
    struct tally *const tally = ctx;
    void *block = NULL;
    if (++tally->calls == tally->fail_at ||
        posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, bytes) != 0) {
        return NULL;
    }
    tally->blocks++;
    tally->bytes += bytes;
    return block;
}

static void tally_release(void *ctx, void *block, size_t bytes)
{
    struct tally *const tally = ctx;
    tally->blocks--;
    tally->bytes -= bytes;
    free(block);
}

static void memory_is_the_hosts_and_all_of_it_goes_back(void **state)
{
    (void)state;
    for (unsigned backend = WEIR_IO_BACKEND_URING; backend <= WEIR_IO_BACKEND_POSIX; backend++) {
        if (backend == WEIR_IO_BACKEND_URING && !fault_io_has_ring()) {
            continue;
        }
        struct tally tally = {0};
        const struct weir_memory_hooks hooks = {tally_alloc, tally_release, &tally};
        struct weir_io_config config = small_config((enum weir_io_backend)backend);
        config.memory = &hooks;
        struct weir__io_device device;
        assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
        assert_true(tally.blocks >= 2);
        assert_true(tally.bytes >= 4 * (size_t)4096);
        assert_ptr_equal(device.effective.config.memory, &hooks);
        weir__io_device_close(&device);
        assert_int_equal(tally.blocks, 0);
        assert_int_equal(tally.bytes, 0);

        /* Each allocation that fails is -ENOMEM, and nothing stays. */
        const unsigned calls = tally.calls;
        for (unsigned at = 1; at <= calls; at++) {
            struct weir_error error = {0};
            tally.calls = 0;
            tally.fail_at = at;
            assert_int_equal(weir__io_device_open(&device, &config, NULL, true, &error), -ENOMEM);
            assert_int_equal(error.code, -ENOMEM);
            assert_int_equal(tally.blocks, 0);
        }
    }
}

/* ---- closing --------------------------------------------------------------------------------- */

struct closing {
    struct weir__io_device device;
    _Atomic(bool) closed;
};

static void close_it(struct worker *worker)
{
    struct closing *const closing = worker->ctx;
    weir__io_device_close(&closing->device);
    atomic_store_explicit(&closing->closed, true, memory_order_release);
}

static void close_waits_for_what_is_in_flight(void **state)
{
    (void)state;
    struct fault_io fault;
    fault_io_init(&fault, FAULT_QUEUE_THREADS);
    int dir = -1;
    int file = -1;
    assert_int_equal(fault.io.ops->open_dir(&fault.io, dir_path, false, &dir), 0);
    assert_int_equal(
        fault.io.ops->open(&fault.io, dir, "held", WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &file),
        0);
    struct closing closing = {.closed = false};
    const struct weir_io_config config = small_config(WEIR_IO_BACKEND_AUTO);
    assert_int_equal(weir__io_device_open(&closing.device, &config, &fault.io, true, NULL), 0);
    struct job job;
    char text[] = "held back";
    job_set_up(&job, file, text, sizeof text, 0);
    closing.device.transfer.ended = job_ended;

    fault_io_arm(&fault, &(struct fault_rule){.kind = FAULT_WRITE, .name = "held", .hold = true});
    assert_int_equal(weir__transfer_start(&closing.device.transfer, &job.run), 0);
    assert_true(fault_io_wait_held(&fault, 1));
    struct workers workers;
    workers_start(&workers, 1, close_it, &closing, test_seed());
    for (unsigned i = 0; i < 100; i++) {
        struct random random = {.state = i};
        random_pause(&random);
        assert_false(atomic_load_explicit(&closing.closed, memory_order_acquire));
    }
    fault_io_release(&fault);
    workers_finish(&workers);
    assert_true(atomic_load_explicit(&closing.closed, memory_order_acquire));
    assert_int_equal(job.ends, 0); /* the owner is not told any more */
    char back[sizeof text] = "";
    assert_int_equal(pread(file, back, sizeof back, 0), sizeof back);
    assert_string_equal(back, text);
    (void)fault.io.ops->close(&fault.io, file);
    (void)fault.io.ops->close(&fault.io, dir);
    fault_io_exit(&fault);
}

/* What the kernel may still write into is never given back: neither where it was known to be broken,
 * nor where it breaks while the closing waits. */
static void broken_ring_keeps_its_buffers_for_good(void **state)
{
    (void)state;
    enum { SOUND, BROKEN_BEFORE, BROKEN_BY_CLOSING, CASES };
    const struct fault_rule breaks = {.kind = FAULT_QUEUE_REAP, .times = 1, .error = -EIO};
    char text[] = "lost from sight";
    for (unsigned how = SOUND; how < CASES; how++) {
        struct fault_io fault;
        fault_io_init(&fault, FAULT_QUEUE_THREADS);
        int dir = -1;
        int file = -1;
        assert_int_equal(fault.io.ops->open_dir(&fault.io, dir_path, false, &dir), 0);
        assert_int_equal(fault.io.ops->open(&fault.io,
                                            dir,
                                            "broken",
                                            WEIR__OPEN_WRITE | WEIR__OPEN_CREATE,
                                            &file),
                         0);
        struct tally tally = {0};
        const struct weir_memory_hooks hooks = {tally_alloc, tally_release, &tally};
        struct weir_io_config config = small_config(WEIR_IO_BACKEND_AUTO);
        config.memory = &hooks;
        struct weir__io_device device;
        struct job job;
        assert_int_equal(weir__io_device_open(&device, &config, &fault.io, true, NULL), 0);
        uint8_t *const buffers = device.buffers;
        device.transfer.ended = job_ended;
        if (how == BROKEN_BEFORE) {
            fault_io_arm(&fault, &breaks);
            assert_int_equal(weir__transfer_reap(&device.transfer, 0, 0), -EIO);
            assert_true(device.transfer.broken);
        } else {
            job_set_up(&job, file, text, sizeof text, 0);
            assert_int_equal(weir__transfer_start(&device.transfer, &job.run), 0);
        }
        if (how == BROKEN_BY_CLOSING) {
            fault_io_arm(&fault, &breaks);
        }
        weir__io_device_close(&device);
        const unsigned kept = how == SOUND ? 0 : 1;
        assert_int_equal(tally.blocks, kept);
        assert_int_equal(tally.bytes, kept * 4 * (size_t)4096);
        if (kept != 0) {
            free(buffers);
        }
        (void)fault.io.ops->close(&fault.io, file);
        (void)fault.io.ops->close(&fault.io, dir);
        fault_io_exit(&fault);
    }
}

/* ---- figures --------------------------------------------------------------------------------- */

static void figures_are_what_was_done(void **state)
{
    (void)state;
    char path[TEMP_DIR_BYTES];
    temp_dir_join(dir_path, "figures", path);
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    for (unsigned backend = WEIR_IO_BACKEND_URING; backend <= WEIR_IO_BACKEND_POSIX; backend++) {
        if (backend == WEIR_IO_BACKEND_URING && !fault_io_has_ring()) {
            continue;
        }
        const struct weir_io_config config = small_config((enum weir_io_backend)backend);
        struct weir__io_device device;
        struct weir_io_stats stats;
        assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
        weir__io_device_stats(&device, &stats);
        assert_int_equal(stats.ops_submitted | stats.ops_completed | stats.bytes_written |
                             stats.bytes_read | stats.cqe_overflows | stats.sq_dropped,
                         0);
        struct job job;
        job_set_up(&job, file, weir__io_device_buffer(&device, 1), BLOCK_BYTES, 0);
        assert_int_equal(job_do(&device, &job), 0);
        job_set_up(&job, file, weir__io_device_buffer(&device, 2), 100, 0);
        job.ops[0].kind = WEIR__OP_READ;
        assert_int_equal(job_do(&device, &job), 0);
        weir__io_device_stats(&device, &stats);
        assert_int_equal(stats.ops_submitted, 4);
        assert_int_equal(stats.ops_completed, 4);
        assert_int_equal(stats.bytes_written, BLOCK_BYTES);
        assert_int_equal(stats.bytes_read, 100);
        assert_int_equal(stats.cqe_overflows, 0);
        assert_int_equal(stats.sq_dropped, 0);
        weir__io_device_close(&device);
    }
    (void)close(file);
}

static void entries_that_the_kernel_cannot_read_are_counted(void **state)
{
    (void)state;
    need_ring();
    const struct weir_io_config config = small_config(WEIR_IO_BACKEND_URING);
    struct weir__io_device device;
    struct weir_io_stats stats;
    assert_int_equal(weir__io_device_open(&device, &config, NULL, true, NULL), 0);
    weir__uring_spoil_entry(device.queue);
    weir__io_device_stats(&device, &stats);
    assert_int_equal(stats.sq_dropped, 1);
    assert_int_equal(stats.cqe_overflows, 0);
    assert_int_equal(stats.ops_submitted, 0);
    weir__io_device_close(&device);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_is_as_large_as_asked_for_rounded_up),
        cmocka_unit_test(operations_in_flight_are_cut_to_what_completions_have_room_for),
        cmocka_unit_test(kernel_polls_where_asked_and_not_elsewhere),
        cmocka_unit_test(idle_time_is_the_kernels_threads),
        cmocka_unit_test(buffers_are_registered_with_the_ring),
        cmocka_unit_test(pool_has_the_buffers_and_says_that_nobody_knows_them),
        cmocka_unit_test(buffers_that_are_not_registered_are_told_and_used_all_the_same),
        cmocka_unit_test(ring_is_taken_where_it_is_there),
        cmocka_unit_test(refused_ring_is_a_pool_or_the_error),
        cmocka_unit_test(memory_is_the_hosts_and_all_of_it_goes_back),
        cmocka_unit_test(close_waits_for_what_is_in_flight),
        cmocka_unit_test(broken_ring_keeps_its_buffers_for_good),
        cmocka_unit_test(figures_are_what_was_done),
        cmocka_unit_test(entries_that_the_kernel_cannot_read_are_counted),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
