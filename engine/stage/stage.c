/* SPDX-License-Identifier: Apache-2.0
 * Setting the stage up, and the steps that producers and flusher share: generations, waking the
 * flusher, the role, sealing.
 *
 * The happy path of a slot's life: role_open stores W -> producers add to W, fill, commit -> an add
 * crosses the end, its thread is the closer: role_close, role_plan, role_open (the next slot), seal
 * (this one) -> the last commit pushes it -> the flusher takes, shows, writes, acknowledges, hides
 * and gives it back. */
#include "stage/stage.h"

#include "base/check.h"
#include "port/clock.h"
#include "port/wait.h"
#include "stage/word.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(((struct weir__stage *)0)->word) == 8,
               "the reservation word is one 64-bit word");
_Static_assert(WEIR__SLOTS_MAX <= WORD_SLOT_MASK, "every slot index fits into the word");

static uint64_t slots_bytes(const struct weir__stage_config *config)
{
    return (uint64_t)(config->slots + config->oversize_buffers) * sizeof(struct weir__slot);
}

static uint64_t buffers_bytes(const struct weir__stage_config *config)
{
    return (uint64_t)config->slots * config->slot_bytes;
}

uint64_t weir__stage_memory(const struct weir__stage_config *config)
{
    uint64_t rings = 2 * (64 * (uint64_t)(config->slots + config->oversize_buffers) + 4096);
    return slots_bytes(config) + weir__mem_io_bytes(buffers_bytes(config)) +
           config->oversize_buffers * (uint64_t)weir__mem_io_bytes(config->oversize_bytes) + rings;
}

static int slots_init(struct weir__stage *stage)
{
    const struct weir__stage_config *config = &stage->config;

    stage->slots = weir__mem_alloc(config->mem, slots_bytes(config), WEIR__LINE);
    stage->buffers_bytes = buffers_bytes(config);
    stage->buffers = weir__mem_alloc_io(config->mem, stage->buffers_bytes);
    if (!stage->slots || !stage->buffers) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < stage->slot_count; i++) {
        struct weir__slot *slot = &stage->slots[i];
        if (i < config->slots) {
            slot->buffer = stage->buffers + (size_t)i * config->slot_bytes;
            slot->buffer_bytes = config->slot_bytes;
        } else {
            slot->buffer = weir__mem_alloc_io(config->mem, config->oversize_bytes);
            slot->buffer_bytes = config->oversize_bytes;
            if (!slot->buffer) {
                return -ENOMEM;
            }
        }
        weir__store(&slot->pend, PEND_FREE, relaxed);
        weir__store(&slot->pins, PINS_CLOSED, relaxed);
        weir__store(&slot->prev_end, UINT64_MAX, relaxed);
        weir__store(&slot->base, UINT64_MAX, relaxed);
    }
    return 0;
}

int weir__stage_init(struct weir__stage *stage,
                     const struct weir__stage_config *config,
                     const struct weir__position *start,
                     weir_lsn segment_base,
                     weir_lsn segment_end,
                     uint64_t segment_number)
{
    memset(stage, 0, sizeof *stage);
    stage->config = *config;
    stage->slot_count = config->slots + config->oversize_buffers;
    stage->cap = (config->slot_bytes - WEIR__BATCH_HEADER_BYTES) / WEIR__UNIT;
    weir__check(stage->slot_count <= WEIR__SLOTS_MAX);
    weir__check(start->lsn <= segment_end);

    int code = slots_init(stage);
    if (code == 0) {
        code = weir__ring_create(config->mem, 2 * stage->slot_count, &stage->sealed);
    }
    if (code == 0) {
        code = weir__ring_create(config->mem, 2 * stage->slot_count, &stage->free);
    }
    if (code != 0) {
        weir__stage_exit(stage);
        return code;
    }
    for (uint32_t i = 0; i < config->slots; i++) {
        bool put = weir__ring_put_spsc(stage->free, i);
        weir__check(put);
    }
    uint64_t all =
        config->oversize_buffers == 64 ? UINT64_MAX : (UINT64_C(1) << config->oversize_buffers) - 1;
    weir__store(&stage->oversize_free, all, relaxed);
    for (int level = 0; level < WEIR__LEVELS; level++) {
        weir__store(&stage->level[level], start->lsn, relaxed);
    }
    weir__store(&stage->complete, start->lsn, relaxed);
    weir__store(&stage->taking_turns.waits_since, UINT32_MAX, relaxed); /* nobody waits */
    weir__store(&stage->sealed_end, start->lsn, relaxed);
    weir__store(config->current_end, segment_end, relaxed);

    stage->role = (struct weir__role){
        .prev_end = start->lsn,
        .base = weir__max_u64(start->lsn, segment_base + config->block_bytes),
        .segment_base = segment_base,
        .segment_end = segment_end,
        .segment_number = segment_number,
        .seq = 0,
        .chain = start->chain,
        .slot = WEIR__SLOT_NONE,
    };
    /* Closed, with the role left to the flusher: its first act is to open a slot. */
    weir__store(&stage->word, word_pack(0, 0, word_seal(stage)), relaxed);
    weir__store(&stage->owed, 1u, relaxed); /* the flusher's thread is started behind it */
    return 0;
}

static void buffer_free(struct weir__stage *stage, uint8_t *buffer, size_t bytes)
{
    if (stage->keep_buffers) {
        weir__mem_abandon(stage->config.mem, buffer, weir__mem_io_bytes(bytes));
    } else {
        weir__mem_free_io(stage->config.mem, buffer, bytes);
    }
}

void weir__stage_exit(struct weir__stage *stage)
{
    struct weir__mem *mem = stage->config.mem;

    if (!mem) {
        return;
    }
    weir__ring_destroy(mem, stage->free);
    weir__ring_destroy(mem, stage->sealed);
    for (uint32_t i = stage->config.slots; stage->slots && i < stage->slot_count; i++) {
        buffer_free(stage, stage->slots[i].buffer, stage->slots[i].buffer_bytes);
    }
    buffer_free(stage, stage->buffers, stage->buffers_bytes);
    weir__mem_free(mem, stage->slots, slots_bytes(&stage->config));
    memset(stage, 0, sizeof *stage);
}

/* ---- generations ----------------------------------------------------------------------------- */

void weir__gen_bump(WEIR__ATOMIC(uint32_t) *gen)
{
    uint32_t seen = weir__load(gen, relaxed);

    /* Release: whoever loads the new generation sees the change that came before. The loop ends:
     * each failure means that another bump or a waiter's bit got in, and those are few. */
    while (!weir__cas(gen, &seen, (seen + 2) & ~1u, release)) {
    }
    if (seen & 1u) {
        weir__futex_wake(gen, INT32_MAX);
    }
}

int weir__gen_wait(WEIR__ATOMIC(uint32_t) *gen, uint32_t seen, uint64_t deadline_ns)
{
    /* Relaxed: the bit only tells the bumper to wake; if the CAS fails there was a bump, and the
     * caller looks again. */
    if (!(seen & 1u) && !weir__cas(gen, &seen, seen | 1u, relaxed)) {
        return 0;
    }
    return weir__futex_wait(gen, seen | 1u, deadline_ns);
}

/* ---- waking the flusher ---------------------------------------------------------------------- */

void weir__stage_kick(struct weir__stage *stage)
{
    uint32_t how = weir__load(&stage->fl_sleep, relaxed);
    uint32_t next;

    /* Relaxed: an RMW, it leaves what a nudge published, or whoever gave the part back, in the
     * release sequence. Each failure means that
     * another thread changed the word: to AWAKE or CALLED, and there is nothing left to do, or
     * between the two forms of lending. */
    do {
        if (how == WEIR__FL_AWAKE || how == WEIR__FL_CALLED) {
            return; /* somebody else woke it, or had it called */
        }
        next = how == WEIR__FL_LENT ? WEIR__FL_CALLED : WEIR__FL_AWAKE;
    } while (!weir__cas(&stage->fl_sleep, &how, next, relaxed));
    if (how == WEIR__FL_LENT) {
        return; /* it is woken by whoever has its part */
    }
    weir__fetch_add(&stage->counters.flusher_wakes, UINT64_C(1), relaxed);
    if (how == WEIR__FL_RING) {
        stage->config.wake_ring(stage->config.ctx);
    } else {
        weir__futex_wake(&stage->fl_sleep, 1);
    }
}

void weir__stage_nudge(struct weir__stage *stage)
{
    /* An RMW, not a load: either it comes before the flusher's exchange in the order of this word,
     * and that exchange acquires what was published here, or it sees that the flusher sleeps. A
     * plain load could pass the store that published. */
    if (weir__fetch_or(&stage->fl_sleep, 0u, release) != 0) {
        weir__stage_kick(stage);
    }
}

static void sealed_put(struct weir__stage *stage, uint32_t slot)
{
    bool put = weir__ring_put_mpsc(stage->sealed, slot);
    weir__check(put); /* the ring has room for every slot twice */
}

void weir__stage_push(struct weir__stage *stage, uint32_t slot)
{
    sealed_put(stage, slot);
    weir__stage_nudge(stage);
}

/* ---- the role -------------------------------------------------------------------------------- */

void weir__role_close(struct weir__stage *stage, uint32_t index, uint32_t end)
{
    const struct weir__stage_config *config = &stage->config;
    struct weir__slot *slot = &stage->slots[index];
    struct weir__role *role = &stage->role;
    weir_lsn base = weir__load(&slot->base, relaxed); /* ours to read: W's acquire came before */
    uint64_t seq = weir__load(&slot->seq, relaxed);

    if (end == 0) {
        /* Nobody has anything in it: the slot stays in hand and is opened again, in the same life,
         * perhaps elsewhere. */
        role->slot = index;
        role->base = base;
        role->prev_end = weir__load(&slot->prev_end, relaxed);
        role->seq = seq;
        role->chain = slot->chain;
        weir__store(&stage->closed, role->opening, release);
        return;
    }
    weir_lsn batch_end =
        weir__align_up(base + WEIR__BATCH_HEADER_BYTES + (uint64_t)end * WEIR__UNIT,
                       config->block_bytes);
    role->chain = weir__chain_next(slot->chain, base, batch_end, config->epoch, config->nonce);
    role->prev_end = batch_end;
    role->base = batch_end;
    role->seq = seq + 1;
    role->slot = WEIR__SLOT_NONE;
    weir__store(&stage->sealed_end, batch_end, relaxed);
    weir__store(&stage->closed, role->opening, release);
}

bool weir__role_plan(struct weir__stage *stage, uint64_t bytes)
{
    const struct weir__stage_config *config = &stage->config;
    struct weir__role *role = &stage->role;
    uint64_t need = weir__align_up(WEIR__BATCH_HEADER_BYTES + weir__max_u64(bytes, WEIR__UNIT),
                                   config->block_bytes);

    if (role->segment_end - role->base >= need) {
        return true;
    }
    weir_lsn next_end = role->segment_end + config->segment_bytes;
    if (weir__load(config->prepared_end, acquire) < next_end) {
        return false;
    }
    role->segment_base = role->segment_end;
    role->segment_end = next_end;
    role->segment_number++;
    role->base = role->segment_base + config->block_bytes;
    weir__store(config->current_end, next_end, relaxed);
    weir__check(role->segment_end - role->base >= need);
    return true;
}

/* The facts of the life that begins where the role stands. */
static void role_inscribe(struct weir__stage *stage, struct weir__slot *slot)
{
    const struct weir__role *role = &stage->role;

    /* Release, each: who reads one of these sees W closed, and so that its look at the open slot
     * failed. */
    weir__store(&slot->base, role->base, release);
    weir__store(&slot->prev_end, role->prev_end, release);
    /* Release, after base: who reads this sequence and then the base reads this base or a later
     * one. */
    weir__store(&slot->seq, role->seq, release);
    weir__store(&slot->straggling_since_ns, UINT64_C(0), relaxed);
    slot->segment_number = role->segment_number;
    slot->segment_base = role->segment_base;
    slot->chain = role->chain;
}

void weir__role_open(struct weir__stage *stage, uint32_t index, uint32_t units)
{
    struct weir__role *role = &stage->role;
    struct weir__slot *slot = &stage->slots[index];
    uint64_t room = (role->segment_end - role->base - WEIR__BATCH_HEADER_BYTES) / WEIR__UNIT;
    uint32_t cap = (uint32_t)weir__min_u64(stage->cap, room);

    weir__debug(units <= cap);
    role_inscribe(stage, slot);
    weir__store(&slot->first, stage->cap - cap, release);
    weir__store(&slot->pend, PEND_BIAS, relaxed); /* published by the store of W */
    weir__store(&stage->at_frontier, 0u, relaxed);
    uint64_t opening = ++role->opening;
    role->slot = WEIR__SLOT_NONE;
    role->need = 0;
    /* From here on the role is gone. seq_cst because this store is also the reservation of the
     * opener's own record. */
    weir__store(&stage->word, word_pack(opening, index, stage->cap - cap + units), seq_cst);
    weir__gen_bump(&stage->open_gen);
}

void weir__role_leave(struct weir__stage *stage, uint64_t need)
{
    bool at_frontier = need > 0;

    stage->role.need = need;
    if (at_frontier) {
        weir__store(&stage->at_frontier, 1u, release);
    }
    weir__store(&stage->owed, 1u, release);
    if (at_frontier) {
        weir__gen_bump(&stage->open_gen); /* those who sleep may have to learn that space is out */
    }
    weir__stage_nudge(stage);
}

uint32_t weir__role_take_free(struct weir__stage *stage)
{
    uint32_t index;

    if (!weir__ring_take_spsc(stage->free, &index)) {
        return WEIR__SLOT_NONE;
    }
    /* The ring carries the index; this carries what the flusher did to the slot before it gave it
     * back. */
    uint64_t pend = weir__load(&stage->slots[index].pend, acquire);
    weir__check(pend == PEND_FREE);
    return index;
}

void weir__stage_seal(struct weir__stage *stage, uint32_t index, uint32_t end, bool full)
{
    struct weir__slot *slot = &stage->slots[index];
    uint64_t bias = PEND_BIAS - end;

    weir__debug(end > 0);
    slot->end = end;
    slot->full = full;
    /* Before the RMW: behind it the slot may be another's. Relaxed: only the watchdog and a counter
     * look. */
    if ((weir__load(&slot->pend, relaxed) & PEND_LOW) != bias) {
        weir__store(&slot->straggling_since_ns, weir__now_ns(), relaxed);
        weir__fetch_add(&stage->counters.stalls_straggler, UINT64_C(1), relaxed);
    }
    if ((weir__fetch_sub(&slot->pend, bias, release) & PEND_LOW) == bias) {
        sealed_put(stage, index);
        if (full) {
            weir__stage_nudge(stage);
        } /* else sealed by whoever has the flusher's part: it takes what is in the ring next, and
             must not call for itself */
    }
}
