/* SPDX-License-Identifier: Apache-2.0
 * The memory seam over each of its sources. The jemalloc one is reached by running this program
 * again with jemalloc preloaded; what is checked there is the same function. */
#include "port/mem.h"

#include "port/tsan.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#if defined(WEIR__TSAN) && !defined(TEST_SANITIZED)
#define TEST_SANITIZED 1
#endif

#define HUGE_BYTES ((size_t)2 << 20)
enum { EXIT_NO_JEMALLOC = 42 };

/* A host's allocator that keeps books. */
struct books {
    unsigned allocs;
    unsigned releases;
    size_t bytes;
    bool wrong_align;
    bool refuse;
};

static void *books_alloc(void *ctx, size_t bytes, size_t align)
{
    struct books *const books = ctx;
    if (books->refuse) {
        return NULL;
    }
    if (align == 0 || (align & (align - 1)) != 0) {
        books->wrong_align = true;
        return NULL;
    }
    void *block = NULL;
    if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, bytes) != 0) {
        return NULL;
    }
    /* A host's memory is not clean. */
    memset(block, 0xdb, bytes);
    books->allocs++;
    books->bytes += bytes;
    return block;
}

static void books_release(void *ctx, void *block, size_t bytes)
{
    struct books *const books = ctx;
    books->releases++;
    books->bytes -= bytes;
    free(block);
}

static bool is_filled_with(const unsigned char *bytes, size_t len, unsigned char value)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != value) {
            return false;
        }
    }
    return true;
}

/* Runs in a child: 0 if the range is gone there and the mark reads 0. */
static int look_from_child(void *buffer, size_t bytes, const uint32_t *mark)
{
    const pid_t child = fork();
    if (child < 0) {
        return -1;
    }
    if (child == 0) {
        /* msync says ENOMEM for pages that are not mapped. */
        const bool gone = msync(buffer, bytes, MS_ASYNC) != 0 && errno == ENOMEM;
        _exit((gone ? 0 : 1) | (mark == NULL || *mark == 0 ? 0 : 2));
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        return -1;
    }
    return WEXITSTATUS(status);
}

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);                  \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

/* Everything that every source must do, without cmocka, so that the preloaded run can call it too.
 */
static bool seam_behaves(struct weir__mem *mem)
{
    static const size_t sizes[] = {0, 1, 7, 8, 100, 384, 4095, 4096, 5000, 70000, 3000000};
    for (size_t align = 8; align <= HUGE_BYTES; align *= 4) {
        unsigned char *blocks[sizeof sizes / sizeof sizes[0]];
        uint64_t sum = 0;
        /* Twice, so that the second round meets memory that was used. */
        for (int round = 0; round < 2; round++) {
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                blocks[i] = weir__mem_alloc(mem, sizes[i], align);
                EXPECT(blocks[i] != NULL);
                EXPECT((uintptr_t)blocks[i] % align == 0);
                EXPECT(is_filled_with(blocks[i], sizes[i], 0));
                memset(blocks[i], 0xa5, sizes[i]);
                sum += sizes[i];
                EXPECT(weir__load(&mem->bytes, relaxed) == sum);
                EXPECT(weir__load(&mem->bytes_peak, relaxed) >= sum);
            }
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                EXPECT(is_filled_with(blocks[i], sizes[i], 0xa5));
                weir__mem_free(mem, blocks[i], sizes[i]);
                sum -= sizes[i];
            }
            EXPECT(weir__load(&mem->bytes, relaxed) == 0);
        }
    }
    weir__mem_free(mem, NULL, 100);
    EXPECT(weir__load(&mem->bytes, relaxed) == 0);

    static const size_t io_sizes[] = {1, 4096, 5000, (size_t)1 << 20, HUGE_BYTES, HUGE_BYTES + 1};
    for (size_t i = 0; i < sizeof io_sizes / sizeof io_sizes[0]; i++) {
        const size_t rounded = weir__mem_io_bytes(io_sizes[i]);
        const size_t align = io_sizes[i] >= HUGE_BYTES ? HUGE_BYTES : 4096;
        EXPECT(rounded >= io_sizes[i] && rounded % align == 0);
        EXPECT(weir__mem_io_bytes(rounded) == rounded);
        unsigned char *const buffer = weir__mem_alloc_io(mem, io_sizes[i]);
        EXPECT(buffer != NULL);
        EXPECT((uintptr_t)buffer % align == 0);
        EXPECT(weir__load(&mem->bytes, relaxed) == rounded);
        EXPECT(is_filled_with(buffer, rounded, 0));
        uint32_t *const mark = weir__mem_alloc_fork_mark(mem);
        EXPECT(mark == NULL || *mark == 1);
        EXPECT(look_from_child(buffer, rounded, mark) == 0);
        EXPECT(mark == NULL || *mark == 1);
        weir__mem_free_fork_mark(mem, mark);
        weir__mem_free_io(mem, buffer, io_sizes[i]);
        EXPECT(weir__load(&mem->bytes, relaxed) == 0);
    }
    return true;
}

static void malloc_serves_where_there_is_nothing_else(void **state)
{
    (void)state;
    struct weir__mem mem;
    weir__mem_init(&mem, NULL);
    print_message("source: %s\n", mem.source);
    assert_true(seam_behaves(&mem));
    weir__mem_exit(&mem);
}

static void hooks_get_every_block_and_get_it_back(void **state)
{
    (void)state;
    struct books books = {0};
    const struct weir__mem_hooks hooks = {books_alloc, books_release, &books};
    struct weir__mem mem;
    weir__mem_init(&mem, &hooks);
    assert_string_equal(mem.source, "host");
    assert_true(seam_behaves(&mem));
    assert_false(books.wrong_align);
    assert_true(books.allocs > 100);
    assert_int_equal(books.allocs, books.releases);
    assert_int_equal(books.bytes, 0);
    weir__mem_exit(&mem);
}

static void refusal_of_the_host_is_null_and_counts_nothing(void **state)
{
    (void)state;
    struct books books = {.refuse = true};
    const struct weir__mem_hooks hooks = {books_alloc, books_release, &books};
    struct weir__mem mem;
    weir__mem_init(&mem, &hooks);
    assert_null(weir__mem_alloc(&mem, 100, 8));
    assert_null(weir__mem_alloc_io(&mem, 100));
    assert_null(weir__mem_alloc_fork_mark(&mem));
    assert_true(weir__load(&mem.bytes, relaxed) == 0);
    assert_true(weir__load(&mem.bytes_peak, relaxed) == 0);
    weir__mem_exit(&mem);
}

static void sizes_that_would_wrap_are_refused(void **state)
{
    (void)state;
    struct weir__mem mem;
    weir__mem_init(&mem, NULL);
    assert_int_equal(weir__mem_io_bytes(SIZE_MAX), 0);
    assert_null(weir__mem_alloc_io(&mem, SIZE_MAX));
    assert_null(weir__mem_alloc_io(&mem, SIZE_MAX - 4096));
    weir__mem_exit(&mem);
}

/* A block that goes back must be whole in later children again, or they would crash in the host's
 * memory. */
static void buffer_given_back_is_inherited_again(void **state)
{
    (void)state;
    struct books books = {0};
    const struct weir__mem_hooks hooks = {books_alloc, books_release, &books};
    /* The host's memory here is one mapping that it keeps. */
    struct weir__mem mem;
    weir__mem_init(&mem, &hooks);
    unsigned char *const buffer = weir__mem_alloc_io(&mem, HUGE_BYTES);
    assert_non_null(buffer);
    assert_int_equal(look_from_child(buffer, HUGE_BYTES, NULL), 0);
    assert_int_equal(madvise(buffer, HUGE_BYTES, MADV_DOFORK), 0);
    assert_int_equal(look_from_child(buffer, HUGE_BYTES, NULL), 1);
    weir__mem_free_io(&mem, buffer, HUGE_BYTES);
    weir__mem_exit(&mem);
}

static void peak_stays_when_memory_goes(void **state)
{
    (void)state;
    struct weir__mem mem;
    weir__mem_init(&mem, NULL);
    void *const first = weir__mem_alloc(&mem, 1000, 8);
    void *const second = weir__mem_alloc(&mem, 500, 8);
    weir__mem_free(&mem, first, 1000);
    void *const third = weir__mem_alloc(&mem, 100, 8);
    assert_true(weir__load(&mem.bytes, relaxed) == 600);
    assert_true(weir__load(&mem.bytes_peak, relaxed) == 1500);
    weir__mem_free(&mem, second, 500);
    weir__mem_free(&mem, third, 100);
    weir__mem_exit(&mem);
}

/* The arena that jemalloc itself says a block lies in, or UINT_MAX. */
static unsigned arena_of(void *block)
{
    int (*mallctl)(const char *, void *, size_t *, void *, size_t) = NULL;
    void *const symbol = dlsym(RTLD_DEFAULT, "mallctl");
    memcpy(&mallctl, &symbol, sizeof symbol);
    unsigned arena = UINT_MAX;
    size_t arena_bytes = sizeof arena;
    if (mallctl == NULL ||
        mallctl("arenas.lookup", &arena, &arena_bytes, (void *)&block, sizeof block) != 0) {
        return UINT_MAX;
    }
    return arena;
}

/* Two logs in one process must have an arena each; a number that is used twice would mix them. */
static bool arenas_are_private(void)
{
    struct weir__mem first;
    struct weir__mem second;
    weir__mem_init(&first, NULL);
    weir__mem_init(&second, NULL);
    EXPECT(strcmp(first.source, "jemalloc") == 0);
    EXPECT(strcmp(second.source, "jemalloc") == 0);
    EXPECT(first.arena != second.arena);
    void *const of_first = weir__mem_alloc(&first, 100, 8);
    void *const of_second = weir__mem_alloc_io(&second, HUGE_BYTES);
    EXPECT(arena_of(of_first) == first.arena);
    EXPECT(arena_of(of_second) == second.arena);
    weir__mem_free(&first, of_first, 100);
    weir__mem_free_io(&second, of_second, HUGE_BYTES);
    EXPECT(seam_behaves(&second));
    EXPECT(seam_behaves(&first));
    weir__mem_exit(&first);
    EXPECT(seam_behaves(&second));
    weir__mem_exit(&second);
    return true;
}

static int run_preloaded(void)
{
    struct weir__mem mem;
    weir__mem_init(&mem, NULL);
    const bool here = strcmp(mem.source, "jemalloc") == 0;
    weir__mem_exit(&mem);
    if (!here) {
        return EXIT_NO_JEMALLOC;
    }
    return arenas_are_private() ? 0 : 1;
}

static void jemalloc_is_found_when_it_is_preloaded(void **state)
{
    (void)state;
#ifdef TEST_SANITIZED
    print_message("skipped: a sanitizer brings its own allocator\n");
    skip();
#else
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)setenv("LD_PRELOAD", "libjemalloc.so.2", 1);
        (void)execl("/proc/self/exe", "test_mem", "--preloaded", (char *)NULL);
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == EXIT_NO_JEMALLOC) {
        print_message("skipped: libjemalloc.so.2 is not installed\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
#endif
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--preloaded") == 0) {
        return run_preloaded();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malloc_serves_where_there_is_nothing_else),
        cmocka_unit_test(hooks_get_every_block_and_get_it_back),
        cmocka_unit_test(refusal_of_the_host_is_null_and_counts_nothing),
        cmocka_unit_test(sizes_that_would_wrap_are_refused),
        cmocka_unit_test(buffer_given_back_is_inherited_again),
        cmocka_unit_test(peak_stays_when_memory_goes),
        cmocka_unit_test(jemalloc_is_found_when_it_is_preloaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
