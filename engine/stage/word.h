/* SPDX-License-Identifier: Apache-2.0
 * The packing of the reservation word, and the small steps that producers and flusher share.
 * Private to this floor.
 *
 * Room of the units field: cap + (T + 1) * (cap + 1) < 2^36, where T threads can be inside a
 * reservation at once: 32,700 with slots of 16 MiB. It holds because a thread whose add was refused
 * adds again only after it has read the word open. */
#ifndef WEIR_STAGE_WORD_H
#define WEIR_STAGE_WORD_H

#include "stage/stage.h"

#define WORD_UNITS_BITS 36u
#define WORD_SLOT_BITS 10u
#define WORD_UNITS_MASK ((UINT64_C(1) << WORD_UNITS_BITS) - 1)
#define WORD_SLOT_MASK ((UINT64_C(1) << WORD_SLOT_BITS) - 1)

#define PEND_BIAS (UINT64_C(1) << 31)
#define PEND_LOW UINT64_C(0xffffffff)
#define PEND_FREE UINT64_MAX
#define PINS_CLOSED (UINT32_C(1) << 31)
#define ACK_WAITERS 1u
#define ACK_FAILED 2u

static inline uint64_t word_pack(uint64_t opening, uint32_t slot, uint64_t units)
{
    return opening << (WORD_UNITS_BITS + WORD_SLOT_BITS) | (uint64_t)slot << WORD_UNITS_BITS |
           units;
}

static inline uint64_t word_units(uint64_t word)
{
    return word & WORD_UNITS_MASK;
}

static inline uint32_t word_slot(uint64_t word)
{
    return (uint32_t)(word >> WORD_UNITS_BITS & WORD_SLOT_MASK);
}

static inline uint64_t word_opening(uint64_t word)
{
    return word >> (WORD_UNITS_BITS + WORD_SLOT_BITS);
}

/* The same opening of the same slot, whatever was added since. */
static inline bool word_same_opening(uint64_t a, uint64_t b)
{
    return a >> WORD_UNITS_BITS == b >> WORD_UNITS_BITS;
}

static inline bool word_open(const struct weir__stage *stage, uint64_t word)
{
    return word_units(word) <= stage->cap;
}

/* An add that cannot fit: closes the slot if it was open. */
static inline uint64_t word_seal(const struct weir__stage *stage)
{
    return (uint64_t)stage->cap + 1;
}

/* True once life seq has been acknowledged, going by the value of an ack word: at or past, never
 * "equal", for the slot may have been used and acknowledged again. */
static inline bool ack_reached(uint32_t ack, uint64_t seq)
{
    return (int32_t)((ack & ~3u) - ((uint32_t)(seq + 1) << 2)) >= 0;
}

/* Wakes everybody who sleeps on a generation: the change comes first, then the bump. */
void weir__gen_bump(WEIR__ATOMIC(uint32_t) *gen);
/* Sleeps while *gen is seen: sets the waiter bit and waits. 0 look again, -ETIMEDOUT. */
int weir__gen_wait(WEIR__ATOMIC(uint32_t) *gen, uint32_t seen, uint64_t deadline_ns);

/* Wakes the flusher if it sleeps, after something was published by an RMW-less store before it. */
void weir__stage_nudge(struct weir__stage *stage);
/* Wakes the flusher: fl_sleep was seen to be set. */
void weir__stage_kick(struct weir__stage *stage);

/* ---- the role: every function below belongs to its holder ------------------------------------ */

/* The open slot was closed with `end` units in it: where the next batch goes. */
void weir__role_close(struct weir__stage *stage, uint32_t slot, uint32_t end);
/* Makes sure that frames of `bytes` fit where the role stands, going to the next segment if need
 * be. False: that is not prepared. */
bool weir__role_plan(struct weir__stage *stage, uint64_t bytes);
/* Opens a slot with `units` already reserved for the caller. The role is gone when this returns. */
void weir__role_open(struct weir__stage *stage, uint32_t slot, uint32_t units);
/* Gives the role to the flusher. need: 0, or the bytes for which there is no prepared space: W
 * stays closed until there is. */
void weir__role_leave(struct weir__stage *stage, uint64_t need);
/* A free slot, or WEIR__SLOT_NONE. */
uint32_t weir__role_take_free(struct weir__stage *stage);
/* Removes the bias of a closed slot; pushes it if every producer had committed. Not only for the
 * role holder: the slot is the closer's until then. */
void weir__stage_seal(struct weir__stage *stage, uint32_t slot, uint32_t end, bool full);
void weir__stage_push(struct weir__stage *stage, uint32_t slot);

#endif
