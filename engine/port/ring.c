/* SPDX-License-Identifier: Apache-2.0
 * Rings of indices: ck_ring with its buffer from the memory seam.
 *
 * This file is compiled without ThreadSanitizer (CMakeLists.txt says so too): Concurrency Kit
 * orders its accesses with assembly that the sanitizer cannot see, and would be reported for races
 * that are none. Nothing is hidden by that, because no caller takes visibility from a ring: it
 * acquires the slot's own state. */
#include "port/ring.h"

#include "base/compiler.h"
#include "base/num.h"

#include <ck_ring.h>
#include <errno.h>
#include <stddef.h>

/* ck_ring counts in unsigned int and needs a power of two; half of that range leaves its
 * differences unambiguous. */
#define RING_ENTRIES_MAX (UINT32_C(1) << 30)

struct weir__ring {
    ck_ring_t ring;
    ck_ring_buffer_t *buffer;
    size_t buffer_bytes;
};

int weir__ring_create(struct weir__mem *mem, uint32_t entries, struct weir__ring **ring_out)
{
    if (entries >= RING_ENTRIES_MAX) {
        return -ENOMEM;
    }
    /* One place stays empty to tell full from empty; ck_ring asks for at least 4. */
    uint32_t size = 4;
    while (size < entries + 1) {
        size *= 2;
    }
    struct weir__ring *ring = weir__mem_alloc(mem, sizeof *ring, WEIR__LINE);
    if (ring == NULL) {
        return -ENOMEM;
    }
    ring->buffer_bytes = (size_t)size * sizeof *ring->buffer;
    ring->buffer = weir__mem_alloc(mem, ring->buffer_bytes, WEIR__LINE);
    if (ring->buffer == NULL) {
        weir__mem_free(mem, ring, sizeof *ring);
        return -ENOMEM;
    }
    ck_ring_init(&ring->ring, size);
    *ring_out = ring;
    return 0;
}

void weir__ring_destroy(struct weir__mem *mem, struct weir__ring *ring)
{
    if (ring == NULL) {
        return;
    }
    weir__mem_free(mem, ring->buffer, ring->buffer_bytes);
    weir__mem_free(mem, ring, sizeof *ring);
}

/* The ring carries pointers; an index travels as one and is never followed. */
static void *ring_pack(uint32_t index)
{
    return (void *)(uintptr_t)index; /* NOLINT(performance-no-int-to-ptr) */
}

bool weir__ring_put_spsc(struct weir__ring *ring, uint32_t index)
{
    return ck_ring_enqueue_spsc(&ring->ring, ring->buffer, ring_pack(index));
}

bool weir__ring_take_spsc(struct weir__ring *ring, uint32_t *index_out)
{
    void *entry;
    if (!ck_ring_dequeue_spsc(&ring->ring, ring->buffer, &entry)) {
        return false;
    }
    *index_out = (uint32_t)(uintptr_t)entry;
    return true;
}

bool weir__ring_put_mpsc(struct weir__ring *ring, uint32_t index)
{
    return ck_ring_enqueue_mpsc(&ring->ring, ring->buffer, ring_pack(index));
}

bool weir__ring_take_mpsc(struct weir__ring *ring, uint32_t *index_out)
{
    void *entry;
    if (!ck_ring_dequeue_mpsc(&ring->ring, ring->buffer, &entry)) {
        return false;
    }
    *index_out = (uint32_t)(uintptr_t)entry;
    return true;
}

uint32_t weir__ring_count(struct weir__ring *ring)
{
    return ck_ring_size(&ring->ring);
}
