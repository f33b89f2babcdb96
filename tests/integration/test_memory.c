/* SPDX-License-Identifier: Apache-2.0
 * All memory comes through one seam, is given back, and stays below the bound that the header
 * gives. The host's hooks, jemalloc where the process has it, malloc else. */
#include "support/rig.h"
#include "support/threads.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB 1024u
#define MIB (1024u * KIB)

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define OWN_ALLOCATOR 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define OWN_ALLOCATOR 1
#endif
#endif

static const struct rig_way *const posix_way = &rig_ways[8];

/* ---- a host's allocator ---------------------------------------------------------------------- */

struct host {
    pthread_mutex_t mutex;
    uint64_t bytes;
    uint64_t peak;
    uint64_t blocks;
    uint64_t calls;
    /* Sizes and alignments that make no sense, blocks given back with another size. */
    uint64_t wrong;
    uint64_t fail_at; /* this call gets nothing; 0: none */
};

/* In front of each block: what it was asked for. */
struct block {
    void *start;
    size_t bytes;
    size_t magic;
};

#define MAGIC ((size_t)0x600db10c)

static void *host_alloc(void *ctx, size_t bytes, size_t align)
{
    struct host *const host = ctx;
    (void)pthread_mutex_lock(&host->mutex);
    const bool fails = ++host->calls == host->fail_at;
    if (align == 0 || (align & (align - 1)) != 0 || bytes == 0) {
        host->wrong++;
    }
    (void)pthread_mutex_unlock(&host->mutex);
    /* Mapped, so that nothing of it passes through malloc; filled, so that nobody counts on zeros.
     */
    const size_t room = bytes + align + sizeof(struct block);
    char *const start =
        fails ? MAP_FAILED
              : mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        return NULL;
    }
    memset(start, 0xdb, room);
    const uintptr_t at =
        ((uintptr_t)start + sizeof(struct block) + align - 1) & ~(uintptr_t)(align - 1);
    const struct block block = {start, bytes, MAGIC ^ align};
    memcpy((char *)at - sizeof block, &block, sizeof block);
    (void)pthread_mutex_lock(&host->mutex);
    host->blocks++;
    host->bytes += bytes;
    host->peak = host->bytes > host->peak ? host->bytes : host->peak;
    (void)pthread_mutex_unlock(&host->mutex);
    return (void *)at;
}

static void host_release(void *ctx, void *memory, size_t bytes)
{
    struct host *const host = ctx;
    struct block block;
    memcpy(&block, (char *)memory - sizeof block, sizeof block);
    (void)pthread_mutex_lock(&host->mutex);
    if (memory == NULL || block.bytes != bytes) {
        host->wrong++;
    }
    host->blocks--;
    host->bytes -= bytes;
    (void)pthread_mutex_unlock(&host->mutex);
    const size_t align = block.magic ^ MAGIC;
    (void)munmap(block.start, block.bytes + align + sizeof block);
}

static void host_init(struct host *host, struct weir_memory_hooks *hooks)
{
    memset(host, 0, sizeof *host);
    (void)pthread_mutex_init(&host->mutex, NULL);
    *hooks = (struct weir_memory_hooks){host_alloc, host_release, host};
}

/* The keeper may be at it too. */
static uint64_t host_look(struct host *host, const uint64_t *field)
{
    (void)pthread_mutex_lock(&host->mutex);
    const uint64_t value = *field;
    (void)pthread_mutex_unlock(&host->mutex);
    return value;
}

/* The k-th call from now on gets nothing; 0: all get something. */
static void host_fail(struct host *host, uint64_t k)
{
    (void)pthread_mutex_lock(&host->mutex);
    if (k != 0) {
        host->calls = 0;
    }
    host->fail_at = k;
    (void)pthread_mutex_unlock(&host->mutex);
}

struct balance {
    struct host *host;
    struct weir_log *log;
};

/* What the log says is what its host says. */
static bool balanced(void *ctx)
{
    const struct balance *const balance = ctx;
    struct weir_stats stats;
    weir_stats(balance->log, &stats);
    return stats.memory_bytes == host_look(balance->host, &balance->host->bytes) &&
           stats.memory_bytes_peak == host_look(balance->host, &balance->host->peak);
}

/* ---- work that uses all of it ---------------------------------------------------------------- */

struct busy {
    struct rig *rig;
    uint32_t record_bytes_max;
};

static void work(struct worker *worker)
{
    struct busy *const busy = worker->ctx;
    uint8_t *const payload = malloc(busy->record_bytes_max);
    if (payload == NULL) {
        abort();
    }
    for (uint64_t i = 0; i < 40; i++) {
        const uint64_t tag = (uint64_t)(worker->index + 1) << 32 | i;
        const size_t bytes = i % 10 == 9
                                 ? busy->record_bytes_max
                                 : random_below(&worker->random, 5000) % busy->record_bytes_max;
        payload_fill(tag, payload, bytes);
        weir_lsn lsn;
        const int code = weir_append(busy->rig->log, payload, bytes, tag, &lsn);
        if (code != 0) {
            worker_fail(worker, "append: %s", weir_error_name(code));
            break;
        }
        ledger_add(&busy->rig->ledger, lsn, tag, bytes);
    }
    free(payload);
}

static void check_ledger(struct rig *rig)
{
    char why[256] = "";
    (void)ledger_check(&rig->ledger, rig->log, WEIR_DURABLE, UINT64_MAX, true, why);
    assert_string_equal(why, "");
}

/* ---- the bound ------------------------------------------------------------------------------- */

static const struct weir_options option_sets[] = {
    {.struct_bytes = sizeof(struct weir_options)},
    {.struct_bytes = sizeof(struct weir_options),
     .io = WEIR_IO_POSIX,
     .segment_bytes = 256 * KIB,
     .slot_bytes = 4 * KIB,
     .slots = 2,
     .max_inflight = 1,
     .record_bytes_max = 4 * KIB},
    {.struct_bytes = sizeof(struct weir_options),
     .segment_bytes = MIB,
     .slot_bytes = 16 * KIB,
     .slots = 512,
     .max_inflight = 256,
     .oversize_buffers = 64,
     .record_bytes_max = 64 * KIB},
    {.struct_bytes = sizeof(struct weir_options),
     .segment_bytes = 4 * MIB,
     .slot_bytes = 512 * KIB,
     .slots = 3,
     .max_inflight = 2,
     .oversize_buffers = 5,
     .record_bytes_max = 2 * MIB},
    {.struct_bytes = sizeof(struct weir_options),
     .segment_bytes = 2 * MIB,
     .slot_bytes = 4 * MIB,
     .slots = 4,
     .block_bytes = 65536,
     .record_bytes_max = MIB,
     .spare_segments = 3},
    {.struct_bytes = sizeof(struct weir_options),
     .buffered = true,
     .segment_bytes = 128 * KIB,
     .block_bytes = 512,
     .slot_bytes = 4 * KIB,
     .slots = 16,
     .recycle_segments = 1},
};

static void memory_stays_below_its_bound_and_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof option_sets / sizeof option_sets[0]; i++) {
        struct host host;
        struct weir_memory_hooks hooks;
        struct rig rig;
        struct weir_stats stats;
        struct weir_log_info info;
        char copied[TEMP_DIR_BYTES];
        temp_dir_make(copied);
        rig_make(&rig, posix_way);
        rig.options = option_sets[i];
        host_init(&host, &hooks);
        rig.options.memory = &hooks;
        const uint64_t bound = weir_memory_bound(&rig.options);
        const uint64_t cursor_bound = weir_cursor_memory_bound(&rig.options);
        assert_true(bound > 0 && cursor_bound > 0);
        for (int opening = 0; opening < 2; opening++) { /* a new log, and one to be recovered */
            assert_int_equal(rig_open_plain(&rig), 0);
            weir_log_describe(rig.log, &info);
            assert_string_equal(info.memory_source, "host");
            struct busy busy = {&rig,
                                info.record_bytes_max < 2 * MIB ? info.record_bytes_max : 2 * MIB};
            if (opening == 0) {
                workers_run(4, work, &busy, test_seed());
            }
            assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
            if (opening == 1) {
                temp_dir_copy(rig.path, copied); /* one that was not closed clean */
            }
            assert_int_equal(weir_trim(rig.log, weir_durable_lsn(rig.log) / 2), 0);
            weir_stats(rig.log, &stats);
            const uint64_t peak = host_look(&host, &host.peak);
            print_message("set %zu: peak %" PRIu64 " of %" PRIu64 "\n", i, peak, bound);
            assert_true(peak <= bound);
            assert_true(stats.memory_bytes_peak <= bound);
            struct balance balance = {&host, rig.log};
            assert_true(wait_until(balanced, &balance));

            /* A cursor on top, which grows with the largest batch. */
            check_ledger(&rig);
            assert_true(wait_until(balanced, &balance));
            assert_true(host_look(&host, &host.peak) <= bound + cursor_bound);
            assert_int_equal(rig_close(&rig), 0);
            assert_int_equal(host.blocks, 0);
            assert_int_equal(host.bytes, 0);
            assert_int_equal(host.wrong, 0);
            host.peak = 0;
        }
        struct weir_log *log;
        assert_int_equal(weir_open(copied, &rig.options, &log, NULL), 0);
        assert_true(host_look(&host, &host.peak) <= bound);
        assert_int_equal(weir_close(log, NULL), 0);
        assert_int_equal(host.blocks, 0);
        temp_dir_remove(copied);
        rig_destroy(&rig);
        (void)pthread_mutex_destroy(&host.mutex);
    }
}

/* Neither the heap of the host nor anything else grows by a record. */
static void nothing_is_allocated_per_append(void **state)
{
    (void)state;
    struct host host;
    struct weir_memory_hooks hooks;
    struct rig rig;
    rig_make(&rig, posix_way);
    host_init(&host, &hooks);
    rig.options.memory = &hooks;
    rig.options.segment_bytes = 8 * MIB;
    assert_int_equal(rig_open_plain(&rig), 0);
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(rig_append(&rig, i, 1000, NULL), 0);
    }
    struct weir_stats stats;
    do {
        weir_stats(rig.log, &stats);
    } while (stats.segments_prefilled == 0); /* the spare is there: the keeper rests */
    const uint64_t calls = host_look(&host, &host.calls);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(weir_append(rig.log, &i, sizeof i, i, NULL), 0);
        if (i % 10 == 0) {
            assert_int_equal(weir_append_wait(rig.log, &i, sizeof i, i, WEIR_DURABLE, NULL), 0);
        }
    }
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    assert_int_equal(host_look(&host, &host.calls), calls);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
    (void)pthread_mutex_destroy(&host.mutex);
}

/* With hooks nothing worth mention comes from malloc: no buffer, no table. */
static void with_hooks_malloc_is_left_alone(void **state)
{
    (void)state;
#ifdef OWN_ALLOCATOR
    skip();
#else
    struct host host;
    struct weir_memory_hooks hooks;
    struct rig rig;
    if (dlsym(RTLD_DEFAULT, "mallocx") != NULL) {
        skip();
    }
    rig_make(&rig, posix_way);
    host_init(&host, &hooks);
    rig.options.memory = &hooks;
    rig.options.slots = 64;
    rig.options.oversize_buffers = 8;
    const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_int_equal(rig_open_plain(&rig), 0);
    assert_int_equal(weir_append_wait(rig.log, "x", 1, 0, WEIR_DURABLE, NULL), 0);
    const size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_true(host_look(&host, &host.bytes) > MIB);
    assert_true(after < before + 16 * KIB); /* what the C library takes for two threads */
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
    (void)pthread_mutex_destroy(&host.mutex);
#endif
}

/* ---- out of memory --------------------------------------------------------------------------- */

/* Each allocation of an opening in turn gets nothing: -ENOMEM, with nothing left behind; or the log
 * does without. */
static void every_failed_allocation_is_survived(void **state)
{
    (void)state;
    for (int again = 0; again < 2; again++) {
        struct host host;
        struct weir_memory_hooks hooks;
        struct rig rig;
        uint64_t refused = 0;
        rig_make(&rig, posix_way);
        host_init(&host, &hooks);
        rig.options.memory = &hooks;
        if (again) {
            assert_int_equal(rig_open_plain(&rig), 0);
            assert_int_equal(rig_append(&rig, 1, 1000, NULL), 0);
            assert_int_equal(rig_close(&rig), 0);
        }
        for (uint64_t k = 1;; k++) {
            if (!again) {
                temp_dir_remove(rig.path);
            }
            host_fail(&host, k);
            const int code = rig_open_plain(&rig);
            const bool failed = host_look(&host, &host.calls) >= k;
            host_fail(&host, 0);
            if (code != 0) {
                assert_int_equal(code, -ENOMEM);
                assert_int_equal(rig.error.code, -ENOMEM);
                assert_string_not_equal(rig.error.text, "");
                assert_int_equal(host.blocks, 0);
                refused++;
            } else {
                assert_int_equal(weir_append_wait(rig.log, "x", 1, 0, WEIR_DURABLE, NULL), 0);
                assert_int_equal(rig_close(&rig), 0);
            }
            assert_int_equal(host.blocks, 0);
            assert_int_equal(host.bytes, 0);
            assert_int_equal(host.wrong, 0);
            if (!failed) {
                assert_int_equal(code, 0);
                break;
            }
        }
        assert_true(refused > 5);
        rig_destroy(&rig);
        (void)pthread_mutex_destroy(&host.mutex);
    }
}

/* A cursor that gets none is refused, or goes on later; the log does not care. */
static void a_cursor_without_memory_is_refused(void **state)
{
    (void)state;
    struct host host;
    struct weir_memory_hooks hooks;
    struct rig rig;
    rig_make(&rig, posix_way);
    host_init(&host, &hooks);
    rig.options.memory = &hooks;
    assert_int_equal(rig_open_plain(&rig), 0);
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(rig_append(&rig, i, 60000, NULL), 0);
    }
    const uint64_t before = host_look(&host, &host.bytes);
    for (uint64_t k = 1;; k++) {
        struct weir_cursor *cursor = NULL;
        struct weir_entry entry;
        host_fail(&host, k);
        int code = weir_cursor_open(rig.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor);
        const bool opened = code == 0;
        for (uint64_t i = 0; i < 20 && code == 0; i++) {
            code = weir_cursor_next(cursor, WEIR_TRY, &entry);
            if (code == -ENOMEM) {
                code = weir_cursor_next(cursor, WEIR_TRY, &entry); /* its position is unchanged */
            }
            if (code == 0) {
                assert_int_equal(entry.tag, i);
                assert_true(payload_holds(i, entry.data, entry.bytes));
            }
        }
        const bool failed = host_look(&host, &host.calls) >= k;
        host_fail(&host, 0);
        if (opened) {
            assert_int_equal(code, 0);
            weir_cursor_close(cursor);
        } else {
            assert_int_equal(code, -ENOMEM);
        }
        assert_int_equal(host_look(&host, &host.bytes), before);
        if (!failed) {
            break;
        }
    }
    assert_int_equal(rig_close(&rig), 0);
    assert_int_equal(host.blocks, 0);
    rig_destroy(&rig);
    (void)pthread_mutex_destroy(&host.mutex);
}

/* ---- jemalloc -------------------------------------------------------------------------------- */

typedef int mallctl_function(const char *, void *, size_t *, void *, size_t);

static bool mallctl_u64(mallctl_function *mallctl, const char *name, uint64_t *value_out)
{
    size_t bytes = sizeof *value_out;
    return mallctl(name, value_out, &bytes, NULL, 0) == 0;
}

/* Where mallocx is in the process the log uses it, in an arena of its own; where it is not, malloc.
 */
static void the_source_is_jemalloc_where_the_process_has_it(void **state)
{
    (void)state;
    void *const mallocx = dlsym(RTLD_DEFAULT, "mallocx");
    struct rig rig;
    struct weir_log_info info;
    struct weir_stats stats;
    rig_make(&rig, posix_way);
    rig.options.slots = 64;
    rig.options.slot_bytes = 128 * KIB;
    mallctl_function *mallctl = NULL;
    void *const symbol = dlsym(RTLD_DEFAULT, "mallctl");
    memcpy(&mallctl, &symbol, sizeof mallctl);
    uint64_t epoch = 1;
    uint64_t allocated = 0;
    if (mallocx != NULL) {
        (void)mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
        assert_true(mallctl_u64(mallctl, "stats.allocated", &allocated));
    }
    assert_int_equal(rig_open_plain(&rig), 0);
    weir_log_describe(rig.log, &info);
    weir_stats(rig.log, &stats);
    print_message("memory: %s, %" PRIu64 " bytes\n", info.memory_source, stats.memory_bytes);
    assert_string_equal(info.memory_source, mallocx != NULL ? "jemalloc" : "malloc");
    assert_true(stats.memory_bytes >= 64 * 128 * KIB);
    if (mallocx != NULL) {
        /* Really: jemalloc knows of those bytes, and of their end. */
        uint64_t open_allocated;
        (void)mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
        assert_true(mallctl_u64(mallctl, "stats.allocated", &open_allocated));
        assert_true(open_allocated >= allocated + 64 * 128 * KIB);
        assert_int_equal(weir_append_wait(rig.log, "x", 1, 0, WEIR_DURABLE, NULL), 0);
        assert_int_equal(rig_close(&rig), 0);
        (void)mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
        assert_true(mallctl_u64(mallctl, "stats.allocated", &open_allocated));
        assert_true(open_allocated < allocated + MIB);
    } else {
        assert_int_equal(rig_close(&rig), 0);
    }
    rig_destroy(&rig);
}

#define PRELOADED "WEIR_TEST_PRELOADED"

/* The same, and the rest, in a process that gets jemalloc by preloading. */
static void preloading_jemalloc_is_enough(void **state)
{
    (void)state;
#ifdef OWN_ALLOCATOR
    skip();
#else
    if (getenv(PRELOADED) != NULL) {
        skip();
    }
    const pid_t child = fork();
    if (child == 0) {
        char seed[32];
        (void)snprintf(seed, sizeof seed, "%" PRIu64, test_seed());
        (void)setenv(PRELOADED, "1", 1);
        (void)setenv("LD_PRELOAD", "libjemalloc.so.2", 1);
        (void)execl("/proc/self/exe", "test_memory, preloaded", "--seed", seed, (char *)NULL);
        _exit(98);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: this machine has no libjemalloc.so.2\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
#endif
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    if (getenv(PRELOADED) != NULL && dlsym(RTLD_DEFAULT, "mallocx") == NULL) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_stays_below_its_bound_and_comes_back),
        cmocka_unit_test(nothing_is_allocated_per_append),
        cmocka_unit_test(with_hooks_malloc_is_left_alone),
        cmocka_unit_test(every_failed_allocation_is_survived),
        cmocka_unit_test(a_cursor_without_memory_is_refused),
        cmocka_unit_test(the_source_is_jemalloc_where_the_process_has_it),
        cmocka_unit_test(preloading_jemalloc_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
