/* SPDX-License-Identifier: Apache-2.0
 * Bounded queues of small indices over Concurrency Kit's ck_ring.
 *
 * ck_ring orders stores only, and its multi-producer enqueue waits for an enqueuer that was
 * preempted between taking a place and filling it. So it carries slots (one entry per sealed slot),
 * never records, and nobody relies on it for visibility: whoever takes an index acquires the slot's
 * own atomic state. The rings of the engine are sized so that an enqueue cannot find them full. */
#ifndef WEIR_PORT_RING_H
#define WEIR_PORT_RING_H

#include "port/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct weir__ring;

/* A ring that holds at least `entries` indices (rounded up: a ck_ring of size n holds n - 1). 0 or
 * -ENOMEM. */
int weir__ring_create(struct weir__mem *mem, uint32_t entries, struct weir__ring **ring_out);
void weir__ring_destroy(struct weir__mem *mem, struct weir__ring *ring);

/* One enqueuer and one dequeuer at a time. False: full / empty. A ring is used by this pair or by
 * the next one for all its life: they do not keep the same counters. */
bool weir__ring_put_spsc(struct weir__ring *ring, uint32_t index);
bool weir__ring_take_spsc(struct weir__ring *ring, uint32_t *index_out);
/* Any number of enqueuers, one dequeuer. */
bool weir__ring_put_mpsc(struct weir__ring *ring, uint32_t index);
bool weir__ring_take_mpsc(struct weir__ring *ring, uint32_t *index_out);
/* Entries at some moment during the call; exact only for the dequeuer, and then a lower bound. */
uint32_t weir__ring_count(struct weir__ring *ring);

#endif
