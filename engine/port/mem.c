/* SPDX-License-Identifier: Apache-2.0
 * The memory seam: host hooks, else jemalloc in an arena of the log's own, else malloc.
 *
 * jemalloc is looked up by name in the running process; mallocx is the evidence, since nobody else
 * has it. Neither its header nor its library is needed at build time: a shared library that needs
 * Debian's copy cannot be dlopened (static TLS). The private arena keeps the log's blocks apart
 * from the host's, and its destruction gives every page back at close. No thread cache is used:
 * blocks come at open and go at close, often from different threads.
 *
 * Any thread; the only state that changes after weir__mem_init is two counters. Failure is NULL,
 * never an abort. */
#include "port/mem.h"

#include "base/check.h"
#include "base/num.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEM_HUGE_BYTES ((size_t)2 << 20)
#define MEM_PAGE_BYTES_MIN ((size_t)4096)

/* The flag word of jemalloc's *allocx functions, derived here from its manual and header (unchanged
 * since 4.0): bits 0-5 the binary logarithm of the alignment, bit 6 zeroed memory, bits 8-19 the
 * thread cache plus 2 (so that "none", which is -1, becomes 1), bits 20-31 the arena plus 1. */
#define MEM_JE_ZERO 0x40
#define MEM_JE_TCACHE_NONE (1 << 8)
#define MEM_JE_ARENA_MAX 2046u

typedef int mem_je_mallctl(const char *, void *, size_t *, void *, size_t);

static int mem_je_flags(const struct weir__mem *mem, size_t align, bool zero)
{
    return (int)((mem->arena + 1u) << 20) | MEM_JE_TCACHE_NONE | __builtin_ctzll(align) |
           (zero ? MEM_JE_ZERO : 0);
}

/* dlsym gives an object pointer; ISO C has no cast from it to a function pointer, POSIX has the
 * same representation. */
#define MEM_SYMBOL(function_out, name)                                                             \
    do {                                                                                           \
        void *symbol = dlsym(RTLD_DEFAULT, (name));                                                \
        _Static_assert(sizeof symbol == sizeof *(function_out), "one representation");             \
        memcpy((function_out), &symbol, sizeof symbol);                                            \
    } while (0)

static mem_je_mallctl *mem_je_control(void)
{
    mem_je_mallctl *mallctl = NULL;
    MEM_SYMBOL(&mallctl, "mallctl");
    return mallctl;
}

static void mem_je_destroy_arena(unsigned arena)
{
    mem_je_mallctl *const mallctl = mem_je_control();
    char name[40];
    (void)snprintf(name, sizeof name, "arena.%u.destroy", arena);
    /* A refusal leaves an empty arena behind, which costs the host next to nothing. */
    (void)mallctl(name, NULL, NULL, NULL, 0);
}

/* True when jemalloc is in the process and has given us an arena. */
static bool mem_je_init(struct weir__mem *mem)
{
    MEM_SYMBOL(&mem->je_mallocx, "mallocx");
    MEM_SYMBOL(&mem->je_dallocx, "dallocx");
    mem_je_mallctl *const mallctl = mem_je_control();
    if (mem->je_mallocx == NULL || mem->je_dallocx == NULL || mallctl == NULL) {
        return false;
    }
    unsigned arena = 0;
    size_t arena_bytes = sizeof arena;
    if (mallctl("arenas.create", &arena, &arena_bytes, NULL, 0) != 0) {
        return false;
    }
    if (arena > MEM_JE_ARENA_MAX) {
        /* The number would not fit into the flag word's sign-free part. */
        mem_je_destroy_arena(arena);
        return false;
    }
    mem->arena = arena;
    return true;
}

void weir__mem_init(struct weir__mem *mem, const struct weir__mem_hooks *hooks)
{
    memset(mem, 0, sizeof *mem);
    if (hooks != NULL && hooks->alloc != NULL) {
        mem->hooks = *hooks;
        mem->source = "host";
    } else if (mem_je_init(mem)) {
        mem->source = "jemalloc";
    } else {
        mem->je_mallocx = NULL;
        mem->je_dallocx = NULL;
        mem->source = "malloc";
    }
}

void weir__mem_exit(struct weir__mem *mem)
{
    weir__debug(weir__load(&mem->bytes, relaxed) == 0);
    if (mem->je_mallocx != NULL && weir__load(&mem->abandoned, relaxed) == 0) {
        mem_je_destroy_arena(mem->arena);
    }
    memset(mem, 0, sizeof *mem);
}

/* There in programs built with LeakSanitizer, NULL elsewhere. */
__attribute__((weak)) void __lsan_ignore_object(const void *object);

void weir__mem_abandon(struct weir__mem *mem, void *block, size_t bytes)
{
    if (block == NULL) {
        return;
    }
    /* Not a leak by mistake: freed memory that the kernel still uses would be worse. */
    if (__lsan_ignore_object != NULL) {
        __lsan_ignore_object(block);
    }
    weir__store(&mem->abandoned, 1u, relaxed);
    (void)weir__fetch_sub(&mem->bytes, (uint64_t)bytes, relaxed);
}

/* Counters: every order is relaxed, since nothing is read on their account. */
static void mem_count(struct weir__mem *mem, size_t bytes)
{
    const uint64_t now = weir__fetch_add(&mem->bytes, bytes, relaxed) + bytes;
    uint64_t peak = weir__load(&mem->bytes_peak, relaxed);
    /* A loser finds a higher peak and tries again only while its own count is higher still. */
    while (now > peak && !weir__cas(&mem->bytes_peak, &peak, now, relaxed)) {
    }
}

static void *mem_take(struct weir__mem *mem, size_t bytes, size_t align, bool zero)
{
    weir__check(weir__is_pow2(align));
    if (align < sizeof(void *)) {
        align = sizeof(void *);
    }
    const size_t asked = bytes == 0 ? 1 : bytes;
    void *block = NULL;
    bool zeroed = false;
    if (mem->hooks.alloc != NULL) {
        block = mem->hooks.alloc(mem->hooks.ctx, asked, align);
    } else if (mem->je_mallocx != NULL) {
        block = mem->je_mallocx(asked, mem_je_flags(mem, align, zero));
        zeroed = zero;
    } else if (zero && align <= _Alignof(max_align_t)) {
        block = calloc(1, asked);
        zeroed = true;
    } else if (posix_memalign(&block, align, asked) != 0) {
        block = NULL;
    }
    if (block == NULL) {
        return NULL;
    }
    weir__debug((uintptr_t)block % align == 0);
    if (zero && !zeroed) {
        memset(block, 0, asked);
    }
    mem_count(mem, bytes);
    return block;
}

void *weir__mem_alloc(struct weir__mem *mem, size_t bytes, size_t align)
{
    return mem_take(mem, bytes, align, true);
}

void weir__mem_free(struct weir__mem *mem, void *block, size_t bytes)
{
    if (block == NULL) {
        return;
    }
    (void)weir__fetch_sub(&mem->bytes, bytes, relaxed);
    if (mem->hooks.alloc != NULL) {
        mem->hooks.release(mem->hooks.ctx, block, bytes == 0 ? 1 : bytes);
    } else if (mem->je_mallocx != NULL) {
        /* Not sdallocx: it wants the alignment again, which changes the size class and is not kept
         * anywhere. */
        mem->je_dallocx(block, MEM_JE_TCACHE_NONE);
    } else {
        free(block);
    }
}

/* madvise works on the system's pages, which may be larger than 4 KiB. */
static size_t mem_page_bytes(void)
{
    const long page_bytes = sysconf(_SC_PAGESIZE);
    return page_bytes > (long)MEM_PAGE_BYTES_MIN ? (size_t)page_bytes : MEM_PAGE_BYTES_MIN;
}

static size_t mem_io_align(size_t bytes)
{
    return bytes >= MEM_HUGE_BYTES ? MEM_HUGE_BYTES : mem_page_bytes();
}

size_t weir__mem_io_bytes(size_t bytes)
{
    const size_t align = mem_io_align(bytes);
    return bytes > SIZE_MAX - align ? 0 : (size_t)weir__align_up(bytes == 0 ? 1 : bytes, align);
}

void *weir__mem_alloc_io(struct weir__mem *mem, size_t bytes)
{
    const size_t rounded = weir__mem_io_bytes(bytes);
    if (rounded == 0) {
        return NULL;
    }
    void *const block = mem_take(mem, rounded, mem_io_align(bytes), false);
    if (block == NULL) {
        return NULL;
    }
    /* Advice before the first touch, so that the clearing below faults huge pages in. Both are a
     * gain where they work and no loss where they do not; the results are not looked at. */
    if (rounded >= MEM_HUGE_BYTES && !mem->no_huge_pages) {
        (void)madvise(block, rounded, MADV_HUGEPAGE);
    }
    (void)madvise(block, rounded, MADV_DONTFORK);
    /* Cleared, so that no byte of the host's heap can reach the disk as padding. */
    memset(block, 0, rounded);
    return block;
}

void weir__mem_free_io(struct weir__mem *mem, void *block, size_t bytes)
{
    if (block == NULL) {
        return;
    }
    const size_t rounded = weir__mem_io_bytes(bytes);
    /* Whoever gets these pages next expects them in its children. */
    (void)madvise(block, rounded, MADV_DOFORK);
    weir__mem_free(mem, block, rounded);
}

uint32_t *weir__mem_alloc_fork_mark(struct weir__mem *mem)
{
    const size_t page_bytes = mem_page_bytes();
    uint32_t *const mark = mem_take(mem, page_bytes, page_bytes, true);
    if (mark == NULL) {
        return NULL;
    }
    /* Refused before Linux 4.14, and on memory of the host that is shared or backed by a file. */
    if (madvise(mark, page_bytes, MADV_WIPEONFORK) != 0) {
        weir__mem_free(mem, mark, page_bytes);
        return NULL;
    }
    *mark = 1;
    return mark;
}

void weir__mem_free_fork_mark(struct weir__mem *mem, uint32_t *mark)
{
    if (mark == NULL) {
        return;
    }
    const size_t page_bytes = mem_page_bytes();
    (void)madvise(mark, page_bytes, MADV_KEEPONFORK);
    weir__mem_free(mem, mark, page_bytes);
}
