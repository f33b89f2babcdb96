/* SPDX-License-Identifier: Apache-2.0
 * What the models of the stage share: the text of engine/stage, and stand-ins for the rings and the chain.
 *
 * A ring hands indices over and orders nothing: all its accesses are relaxed. Of ck_ring's documented order two things are kept, and ORDERING.md says
 * that the stage needs no more: an index is seen only after it was put (the entry before the tail), and whoever takes one reads the newest value of the slot's own word
 * (SITE's `fresh`; mark_sites). Each falls to a fault that can be planted, MODEL_FAULT in the environment, and run.sh shows that the fault is found:
 *   ring-stale    the slot's word may be an older one            ring-early   an index is seen before it is put
 *   ring-loses    two who put at once may put over one another   ring-twice   an index may be taken again
 * Of the futex (model_ports.hpp):
 *   futex-blind   sleeps without a look at the word              futex-one    wakes one where all are asked for
 *   futex-deaf    a wake that comes between the look and the sleep is lost */
static void *model_memcpy(void *to, const void *from, size_t bytes);

#if __has_include("stage/crowd.c")
#include "stage/crowd.c"
#endif
#include "stage/stage.c"
#include "stage/reserve.c"
#include "stage/retire.c"
#define memcpy model_memcpy
#include "stage/wait.c"
#undef memcpy
#if __has_include("stage/token.c")
#include "stage/token.c"
#endif

#include "model_ports.hpp"

uint32_t weir__chain_next(uint32_t chain, weir_lsn lsn, weir_lsn end, uint64_t, uint64_t)
{
    return chain * 31u + (uint32_t)(lsn * 7 + end);
}

/* consumer: two takers that are not ordered are a race. */
struct weir__ring {
    matom<uint32_t> head, tail;
    rl::var<uint64_t> *consumer;
    bool one_looks; /* at head: the taker alone */
    uint32_t entry[256];
};
int weir__ring_create(struct weir__mem *, uint32_t, struct weir__ring **out)
{
    *out = (struct weir__ring *)calloc(1, sizeof **out);
    (*out)->head.touch();
    (*out)->tail.touch();
    for (uint32_t &entry : (*out)->entry) entry = ~0u;
    (*out)->consumer = new (vars.take()) rl::var<uint64_t>;
    (*(*out)->consumer)(RL_INFO) = 0;
    return 0;
}
void weir__ring_destroy(struct weir__mem *, struct weir__ring *ring) { free(ring); }
static bool ring_put(struct weir__ring *ring, uint32_t index)
{
    step(&ring->tail, true);
    if (planted(RING_LOSES)) {
        uint32_t last = ring->tail.a->load(rl::mo_relaxed, RL_INFO);
        ring->entry[last] = index;
        step(&ring->tail, true);
        ring->tail.a->store(last + 1, rl::mo_relaxed, RL_INFO);
        return true;
    }
    uint32_t at = ring->tail.a->rmw(rl::rmw_type_t<rl::rmw_type_add>(), (uint32_t)1, rl::mo_relaxed, RL_INFO);
    if (planted(RING_EARLY)) {
        step(&ring->entry[at], true);
        rl::ctx().sched();
    }
    ENSURE(at < 256);
    ring->entry[at] = index; /* no other thread runs between the two */
    return true;
}
static uint32_t ring_head(struct weir__ring *ring)
{
    if (ring->one_looks) return ring->head.plain;
    step(&ring->head, false);
    return ring->head.a->load(rl::mo_relaxed, RL_INFO);
}
static uint32_t ring_tail(struct weir__ring *ring)
{
    step(&ring->tail, false);
    return ring->tail.a->load(rl::mo_relaxed, RL_INFO);
}
static bool ring_take(struct weir__ring *ring, uint32_t *out)
{
    uint32_t head = ring->head.plain; /* its own: */
    (*ring->consumer)(RL_INFO) = head;
    if (ring_tail(ring) == head) return false;
    if (planted(RING_EARLY)) {
        step(&ring->entry[head], false);
        rl::ctx().sched();
    }
    *out = ring->entry[head];
    ENSURE(*out < 256);
    if (planted(RING_TWICE) && rl::rand(2)) return true;
    ring->head.plain = head + 1;
    if (!ring->one_looks) {
        step(&ring->head, true);
        ring->head.a->store(head + 1, rl::mo_relaxed, RL_INFO);
    }
    return true;
}
bool weir__ring_put_spsc(struct weir__ring *ring, uint32_t index) { return ring_put(ring, index); }
bool weir__ring_put_mpsc(struct weir__ring *ring, uint32_t index) { return ring_put(ring, index); }
bool weir__ring_take_spsc(struct weir__ring *ring, uint32_t *out) { return ring_take(ring, out); }
bool weir__ring_take_mpsc(struct weir__ring *ring, uint32_t *out) { return ring_take(ring, out); }
uint32_t weir__ring_count(struct weir__ring *ring)
{
    uint32_t head = ring_head(ring);
    uint32_t tail = ring_tail(ring);
    return tail >= head ? tail - head : 0;
}

/* Everything has its value before the threads begin. */
static void stage_touch(struct weir__stage *stage)
{
    matom<uint32_t> *w32[] = {&stage->fl_sleep, &stage->open_gen, &stage->free_gen, &stage->frontier_gen, &stage->oversize_gen,
                              &stage->level_gen[0], &stage->level_gen[1], &stage->complete_gen, &stage->exit_gen, &stage->owed,
                              &stage->shut, &stage->failed, &stage->at_frontier, &stage->drained};
    for (auto *a : w32) a->touch();
    matom<uint64_t> *w64[] = {&stage->sealed_end, &stage->complete, &stage->level[0], &stage->level[1], &stage->word, &stage->end_seen, &stage->closed,
                              &stage->oversize_free};
    for (auto *a : w64) a->touch();
    stage->taking_turns.over.cheap = stage->taking_turns.waits_since.cheap = stage->lendings.cheap = stage->crowd.cheap = stage->yields_off_ns.cheap = stage->yields_pause_ns.cheap = 1;
    matom<uint64_t> *count = (matom<uint64_t> *)&stage->counters;
    for (size_t i = 0; i < sizeof stage->counters / sizeof *count; i++) count[i].cheap = 1;
    for (size_t i = 0; i < WEIR__TURNS; i++) stage->turns[i].last.cheap = stage->turns[i].adds.cheap = 1;
    for (uint32_t i = 0; i < stage->slot_count; i++) {
        struct weir__slot *s = &stage->slots[i];
        s->pend.touch(); s->ack[0].touch(); s->ack[1].touch(); s->pins.touch(); s->base.touch(); s->prev_end.touch(); s->seq.touch();
        s->first.touch();
        s->straggling_since_ns.cheap = 1;
        s->waits[0].cheap = s->waits[1].cheap = 1;
        s->segment_number.touch(); s->segment_base.touch(); s->chain.touch(); s->end.touch(); s->records.touch(); s->full.touch();
    }
}

/* What nobody but one thread at a time looks at in a scenario is no step of its own. by_lsn: somebody waits by LSN, for all, or looks at the end; reads: somebody
 * reads from memory; frontier, oversize, fails: what they say. */
static void stage_lean(struct weir__stage *stage, bool by_lsn, bool reads, bool frontier, bool oversize, bool fails)
{
    stage->sealed->one_looks = true; /* the flusher alone counts it and takes from it */
    stage->level[1].make_cheap();
    stage->level_gen[1].make_cheap();
    if (!reads) {
        stage->complete.make_cheap();
        stage->complete_gen.make_cheap();
    }
    if (!by_lsn) {
        stage->end_seen.make_cheap();
        stage->closed.make_cheap();
        stage->level_gen[0].make_cheap();
        stage->sealed_end.make_cheap();
    }
    if (!frontier) {
        stage->at_frontier.make_cheap();
        stage->frontier_gen.make_cheap();
    }
    if (!oversize) {
        stage->oversize_gen.make_cheap();
        stage->oversize_free.make_cheap();
    }
    if (!fails) stage->failed.make_cheap();
    for (uint32_t i = 0; i < stage->slot_count; i++) {
        struct weir__slot *s = &stage->slots[i];
        if (!fails) s->ack[1].make_cheap();
        if (!reads) s->pins.make_cheap();
        if (!by_lsn) {
            s->base.make_one();
            s->seq.make_one();
            s->first.make_one();
        }
        if (!by_lsn && !reads) s->prev_end.make_one();
    }
}

static void stage_mark_sites(void)
{
    for (site *s = __start_model_sites; s < __stop_model_sites; s++) {
        s->fresh = !planted(RING_STALE) &&
                   (!strcmp(s->expr, "&slot->pend") && !strcmp(s->func, "weir__stage_take") || !strcmp(s->func, "weir__role_take_free"));
    }
}
