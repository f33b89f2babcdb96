/* SPDX-License-Identifier: Apache-2.0
 * The config: what the presets hold, what is refused and by which name, whether io_uring is there,
 * and the arithmetic of the figures. */
#include "io/device.h"
#include "support/fault_io.h"
#include "support/threads.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- presets --------------------------------------------------------------------------------- */

static void assert_preset(struct weir_io_config config,
                          uint32_t sq_entries,
                          bool kernel_poll,
                          uint32_t sq_poll_idle_ms,
                          uint32_t max_inflight,
                          bool direct_io,
                          uint32_t registered_buffers,
                          uint32_t buffer_kib)
{
    assert_int_equal(config.struct_bytes, sizeof config);
    assert_int_equal(config.sq_entries, sq_entries);
    assert_int_equal(config.kernel_poll, kernel_poll);
    assert_int_equal(config.sq_poll_idle_ms, sq_poll_idle_ms);
    assert_int_equal(config.max_inflight, max_inflight);
    assert_int_equal(config.direct_io, direct_io);
    assert_int_equal(config.registered_buffers, registered_buffers);
    assert_int_equal(config.buffer_bytes, buffer_kib * 1024);
    assert_int_equal(config.backend, WEIR_IO_BACKEND_AUTO);
    assert_null(config.memory);
    assert_int_equal(weir_io_config_check(&config, NULL), 0);
}

static void each_preset_holds_the_values_that_are_listed_for_it(void **state)
{
    (void)state;
    assert_preset(weir_io_config_default(), 1024, false, 10, 256, false, 64, 64);
    assert_preset(weir_io_config_high_throughput(), 4096, true, 100, 1024, true, 256, 256);
    assert_preset(weir_io_config_low_latency(), 256, true, 1, 64, true, 32, 16);
    assert_preset(weir_io_config_minimal(), 128, false, 0, 32, false, 8, 4);
}

static void no_config_is_the_default(void **state)
{
    (void)state;
    struct weir_io_config settled;
    const struct weir_io_config expected = weir_io_config_default();
    assert_int_equal(weir_io_config_check(NULL, NULL), 0);
    assert_int_equal(weir__io_config_settle(NULL, &settled, NULL), 0);
    assert_int_equal(settled.struct_bytes, expected.struct_bytes);
    assert_int_equal(settled.sq_entries, expected.sq_entries);
    assert_int_equal(settled.max_inflight, expected.max_inflight);
    assert_int_equal(settled.registered_buffers, expected.registered_buffers);
    assert_int_equal(settled.buffer_bytes, expected.buffer_bytes);
}

/* ---- checks ---------------------------------------------------------------------------------- */

static void assert_accepted(const struct weir_io_config *config)
{
    struct weir_error error = {.code = 1};
    assert_int_equal(weir_io_config_check(config, &error), 0);
    assert_int_equal(error.code, 1); /* not written to */
}

static void assert_refused(const struct weir_io_config *config, const char *field)
{
    struct weir_error error = {0};
    char words[64];
    struct weir_io_queue *queue = (struct weir_io_queue *)(uintptr_t)1;

    (void)snprintf(words, sizeof words, "config %s: ", field);
    assert_int_equal(weir_io_config_check(config, NULL), -EINVAL);
    assert_int_equal(weir_io_config_check(config, &error), -EINVAL);
    assert_int_equal(error.code, -EINVAL);
    assert_int_equal(error.system_code, EINVAL);
    if (strncmp(error.text, words, strlen(words)) != 0) {
        fail_msg("\"%s\" does not name %s", error.text, field);
    }
    /* Its bounds, too. */
    assert_true(strlen(error.text) > strlen(words) + 5);
    /* An opening asks the same. */
    memset(&error, 0, sizeof error);
    assert_int_equal(weir_io_queue_open(config, &queue, &error), -EINVAL);
    assert_true(strncmp(error.text, words, strlen(words)) == 0);
    assert_ptr_equal(queue, (struct weir_io_queue *)(uintptr_t)1);
}

static void each_field_beyond_its_bounds_is_refused_by_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        size_t offset;
        uint32_t good[4];
        uint32_t bad[4]; /* repeated where there are fewer */
    } rows[] = {
        {"sq_entries",
         offsetof(struct weir_io_config, sq_entries),
         {1, 3, 1024, 32768},
         {0, 32769, 65536, UINT32_MAX}},
        {"max_inflight",
         offsetof(struct weir_io_config, max_inflight),
         {1, 2, 255, 4096},
         {0, 4097, 65536, UINT32_MAX}},
        {"registered_buffers",
         offsetof(struct weir_io_config, registered_buffers),
         {0, 1, 2, 1024},
         {1025, 4096, 1u << 31, UINT32_MAX}},
        {"buffer_bytes",
         offsetof(struct weir_io_config, buffer_bytes),
         {4096, 8192, 12288, 16 << 20},
         {0, 4095, 4096 + 512, (16 << 20) + 4096}},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t k = 0; k < 4; k++) {
            struct weir_io_config config = weir_io_config_minimal();
            memcpy((char *)&config + rows[i].offset, &rows[i].good[k], sizeof(uint32_t));
            assert_accepted(&config);
            memcpy((char *)&config + rows[i].offset, &rows[i].bad[k], sizeof(uint32_t));
            assert_refused(&config, rows[i].field);
        }
    }
}

static void *never_alloc(void *ctx, size_t bytes, size_t align)
{
    (void)ctx;
    (void)bytes;
    (void)align;
    return NULL;
}

static void never_release(void *ctx, void *block, size_t bytes)
{
    (void)ctx;
    (void)block;
    (void)bytes;
}

static void backend_and_hooks_are_refused_by_their_names(void **state)
{
    (void)state;
    struct weir_io_config config = weir_io_config_minimal();
    for (unsigned backend = 0; backend <= 2; backend++) {
        config.backend = (enum weir_io_backend)backend;
        assert_accepted(&config);
    }
    config.backend = (enum weir_io_backend)3;
    assert_refused(&config, "backend");

    config = weir_io_config_minimal();
    const struct weir_memory_hooks both = {.alloc = never_alloc, .release = never_release};
    const struct weir_memory_hooks one = {.alloc = never_alloc};
    const struct weir_memory_hooks other = {.release = never_release};
    config.memory = &both;
    assert_accepted(&config);
    config.memory = &one;
    assert_refused(&config, "memory");
    config.memory = &other;
    assert_refused(&config, "memory");
}

/* A config of a later header is taken if it asks for nothing that this build does not know. */
static void length_of_the_struct_is_looked_at(void **state)
{
    (void)state;
    struct {
        struct weir_io_config config;
        uint8_t more[16];
    } later;
    memset(&later, 0, sizeof later);
    later.config = weir_io_config_low_latency();
    assert_refused(&(struct weir_io_config){0}, "struct_bytes");
    later.config.struct_bytes = offsetof(struct weir_io_config, memory);
    assert_refused(&later.config, "struct_bytes");

    later.config.struct_bytes = sizeof later;
    assert_accepted(&later.config);
    struct weir_io_config settled;
    assert_int_equal(weir__io_config_settle(&later.config, &settled, NULL), 0);
    assert_int_equal(settled.struct_bytes, sizeof settled);
    assert_int_equal(settled.sq_entries, 256);
    later.more[15] = 1;
    assert_refused(&later.config, "struct_bytes");
    /* What lies behind the length is not looked at. */
    later.config.struct_bytes = sizeof later - 1;
    assert_accepted(&later.config);
}

/* ---- io_uring -------------------------------------------------------------------------------- */

static void availability_is_that_of_a_real_ring(void **state)
{
    (void)state;
    char reason[400];
    memset(reason, 'x', sizeof reason);
    const bool available = weir_io_uring_available(reason, sizeof reason);
    assert_int_equal(available, fault_io_has_ring());
    assert_int_equal(available, reason[0] == '\0');
    assert_int_equal(weir_io_uring_available(NULL, 0), available);
    /* A reason that is too long for its place is cut. */
    char small[4] = "xxx";
    assert_int_equal(weir_io_uring_available(small, sizeof small), available);
    assert_true(memchr(small, '\0', sizeof small) != NULL);

    struct weir_io_config config = weir_io_config_minimal();
    struct weir_io_queue *queue = NULL;
    config.backend = WEIR_IO_BACKEND_URING;
    assert_int_equal(weir_io_queue_open(&config, &queue, NULL) == 0, available);
    weir_io_queue_close(queue);
}

/* Forbids io_uring to this process. */
static bool forbid_rings(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int check_without_rings(void)
{
    char reason[400] = "";
    struct weir_error error = {0};
    struct weir_io_effective effective;
    struct weir_io_queue *queue = NULL;
    struct weir_io_config config = weir_io_config_default();

    if (!forbid_rings()) {
        return 77;
    }
    if (weir_io_uring_available(reason, sizeof reason) || strstr(reason, "seccomp") == NULL) {
        return 1;
    }
    if (weir_io_uring_available(NULL, 0)) {
        return 2;
    }
    /* Demanded: an error with that reason. */
    config.backend = WEIR_IO_BACKEND_URING;
    if (weir_io_queue_open(&config, &queue, &error) != -EPERM || error.code != -EPERM ||
        strstr(error.text, "seccomp") == NULL) {
        return 3;
    }
    /* Left to us: the pool, and that reason. */
    config.backend = WEIR_IO_BACKEND_AUTO;
    if (weir_io_queue_open(&config, &queue, &error) != 0) {
        return 4;
    }
    weir_io_queue_effective(queue, &effective);
    weir_io_queue_close(queue);
    if (effective.config.backend != WEIR_IO_BACKEND_POSIX || effective.threads == 0 ||
        effective.cq_entries != 0 || effective.config.sq_entries != 0 ||
        strstr(effective.reason, "seccomp") == NULL) {
        return 5;
    }
    return 0;
}

static void ring_that_is_forbidden_is_told_with_who_forbids_it(void **state)
{
    (void)state;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(check_without_rings());
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: no seccomp here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- figures --------------------------------------------------------------------------------- */

static void in_flight_saturates_at_nothing(void **state)
{
    (void)state;
    struct weir_io_stats stats = {.ops_submitted = 10, .ops_completed = 4};
    assert_int_equal(weir_io_stats_in_flight(&stats), 6);
    stats.ops_completed = 10;
    assert_int_equal(weir_io_stats_in_flight(&stats), 0);
    stats.ops_completed = 11;
    assert_int_equal(weir_io_stats_in_flight(&stats), 0);
    stats = (struct weir_io_stats){.ops_submitted = UINT64_MAX};
    assert_true(weir_io_stats_in_flight(&stats) == UINT64_MAX);
}

static bool is_about(double value, double expected)
{
    return value > expected - 1e-12 && value < expected + 1e-12;
}

static void completion_rate_stays_between_nothing_and_all(void **state)
{
    (void)state;
    struct weir_io_stats stats = {0};
    assert_true(is_about(weir_io_stats_completion_rate(&stats), 1.0));
    stats.ops_submitted = 4;
    assert_true(is_about(weir_io_stats_completion_rate(&stats), 0.0));
    stats.ops_completed = 1;
    assert_true(is_about(weir_io_stats_completion_rate(&stats), 0.25));
    stats.ops_completed = 4;
    assert_true(is_about(weir_io_stats_completion_rate(&stats), 1.0));
    stats.ops_completed = 5;
    assert_true(is_about(weir_io_stats_completion_rate(&stats), 1.0));
    stats.ops_submitted = 0;
    assert_true(is_about(weir_io_stats_completion_rate(&stats), 1.0));
    stats = (struct weir_io_stats){.ops_submitted = UINT64_MAX, .ops_completed = UINT64_MAX - 1};
    assert_true(weir_io_stats_completion_rate(&stats) <= 1.0);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_preset_holds_the_values_that_are_listed_for_it),
        cmocka_unit_test(no_config_is_the_default),
        cmocka_unit_test(each_field_beyond_its_bounds_is_refused_by_its_name),
        cmocka_unit_test(backend_and_hooks_are_refused_by_their_names),
        cmocka_unit_test(length_of_the_struct_is_looked_at),
        cmocka_unit_test(availability_is_that_of_a_real_ring),
        cmocka_unit_test(ring_that_is_forbidden_is_told_with_who_forbids_it),
        cmocka_unit_test(in_flight_saturates_at_nothing),
        cmocka_unit_test(completion_rate_stays_between_nothing_and_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
