/* SPDX-License-Identifier: Apache-2.0
 * The one seam through which the engine gets memory.
 *
 * Three sources, tried in this order: the host's hooks; jemalloc, where the process has it (found
 * by dlsym, so that preloading works and a process without it still runs), in an arena of the log's
 * own; malloc. Every byte is counted. Nothing is allocated on the append path. */
#ifndef WEIR_PORT_MEM_H
#define WEIR_PORT_MEM_H

#include "base/atomic.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The host's own allocator. alloc gets a power-of-two alignment and may return NULL; release gets
 * the size back. */
struct weir__mem_hooks {
    void *(*alloc)(void *ctx, size_t bytes, size_t align);
    void (*release)(void *ctx, void *block, size_t bytes);
    void *ctx;
};

struct weir__mem {
    struct weir__mem_hooks hooks; /* alloc == NULL: not used */
    bool no_huge_pages;           /* set before start: I/O buffers are not asked onto them */
    const char *source;           /* "host", "jemalloc", "malloc"; static text */
    /* jemalloc's functions and the log's own arena; NULL: not used. Set before start. */
    void *(*je_mallocx)(size_t bytes, int flags);
    void (*je_dallocx)(void *block, int flags);
    unsigned arena;
    /* Bytes now and at the highest; relaxed: counters only, nothing is published by them. */
    WEIR__ATOMIC(uint64_t) bytes;
    WEIR__ATOMIC(uint64_t) bytes_peak;
    /* 1: blocks were given up, and the arena stays with them. Relaxed: read when nobody else is
     * left. */
    WEIR__ATOMIC(uint32_t) abandoned;
};

/* hooks may be NULL. Never fails: malloc is always there. */
void weir__mem_init(struct weir__mem *mem, const struct weir__mem_hooks *hooks);
/* Everything allocated must have been freed. Destroys the jemalloc arena. */
void weir__mem_exit(struct weir__mem *mem);

/* Zeroed memory, aligned to align (power of two, >= 8). NULL: none to be had. Any thread. */
void *weir__mem_alloc(struct weir__mem *mem, size_t bytes, size_t align);
/* bytes as it was allocated. block may be NULL. Any thread. */
void weir__mem_free(struct weir__mem *mem, void *block, size_t bytes);

/* Gives a block up without freeing it: the kernel may still use it, and nobody can find out until
 * when. It is no longer counted and stays for good, also when the seam is closed. block may be
 * NULL. */
void weir__mem_abandon(struct weir__mem *mem, void *block, size_t bytes);

/* I/O buffers: aligned to 2 MiB from 2 MiB up and asked onto huge pages (unless no_huge_pages), else
 * to 4 KiB; kept out of forked children (MADV_DONTFORK, undone before the memory goes back). bytes
 * is rounded up to the alignment: weir__mem_io_bytes. */
void *weir__mem_alloc_io(struct weir__mem *mem, size_t bytes);
void weir__mem_free_io(struct weir__mem *mem, void *block, size_t bytes);
size_t weir__mem_io_bytes(size_t bytes);

/* A page that reads 1 in this process and 0 in a forked child (MADV_WIPEONFORK). NULL where the
 * kernel has no such thing or memory is out: the caller then compares process ids. */
uint32_t *weir__mem_alloc_fork_mark(struct weir__mem *mem);
void weir__mem_free_fork_mark(struct weir__mem *mem, uint32_t *mark);

#endif
