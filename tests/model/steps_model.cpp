/* SPDX-License-Identifier: Apache-2.0
 * Each step of the slot protocol by itself, so that a full search ends: the text of engine/stage, two or three threads that meet in one step, from a state
 * that the text itself has brought about before they begin.
 *
 * The flusher of these drivers takes, serves, acknowledges and sleeps as engine/drain/flusher.c does; writing takes no time. Frames are race-checked variables: what
 * is taken must hold what was filled, and what is acknowledged must have been taken. stage_model.cpp has whole lives of slots. */
#include "model.hpp"

#include "stage_ports.hpp"

struct world {
    struct weir__stage *stage;
    WEIR__ATOMIC(uint64_t) prepared_end, current_end;
    WEIR__ATOMIC(int32_t) space_error;
    struct weir__stage_flusher part;
    rl::var<uint64_t> *unit[4][4]; /* of the slots, by place */
    rl::var<uint64_t> *header[4];  /* written by whoever takes */
    rl::var<uint64_t> *disk[8];    /* by sequence: written before that life is acknowledged */
    struct weir__place place[4];   /* of records that were reserved before the threads began */
    uint64_t life;                 /* of the slot that is looked at */
    matom<uint32_t> left;          /* threads that have records to come */
    rl::var<uint64_t> *part_holder; /* written by whoever plays the flusher: two who are not ordered are a race */
    uint32_t hidden[4], hidden_count;
    uint32_t records; /* taken */
    uint32_t limit;   /* when the flusher may leave: records */
    bool shown;       /* the first slot was, before the threads began */
    rl::var<uint64_t> *fault;    /* why the log failed: written before it is told */
    rl::var<uint64_t> *prepared; /* the next segment: written before it is told */
    /* slots taken, by sequence */
    int slot_of_life[8];
};
struct scenario {
    const char *name;
    uint32_t slots, cap;
    int threads;
    void (*before)(world &);
    void (*thread[3])(world &);
    bool by_lsn, reads, frontier, fails;
    uint32_t oversize_units; /* of one buffer; 0: there is none */
};
static const scenario *now;
static world *the;
static const weir_lsn START = 8;

/* ---- what the threads do ---------------------------------------------------------------------------------------- */

static rl::var<uint64_t> *unit_at(const void *at)
{
    for (uint32_t i = 0; i < the->stage->slot_count; i++) {
        const uint8_t *b = the->stage->slots[i].buffer;
        if ((const uint8_t *)at >= b && (const uint8_t *)at < b + the->stage->slots[i].buffer_bytes) {
            size_t u = (size_t)((const uint8_t *)at - b) / 8;
            ENSURE(u >= 12 && u - 12 < 4);
            return the->unit[i][u - 12];
        }
    }
    failed("a place in no buffer");
    return 0;
}
static void fill(world &, const struct weir__place &place)
{
    for (uint32_t u = 0; u < place.units; u++) (*unit_at(place.at + u * 8))(RL_INFO) = place.lsn + u * 8;
}
static void fail_with_reason(world &w)
{
    (*w.fault)(RL_INFO) = 1;
    weir__stage_fail(w.stage);
}
/* Who was told of a failure finds its reason. */
static void failed_for(world &w, int code)
{
    ENSURE(code == WEIR_EFAILED && (uint64_t)(*w.fault)(RL_INFO).load() == 1);
}
static void fill_commit(world &w, int i)
{
    fill(w, w.place[i]);
    weir__stage_commit(w.stage, &w.place[i], 1);
}
static int append(world &w, uint32_t units, uint64_t deadline, struct weir__place *out = 0)
{
    struct weir__place place;
    int code = weir__stage_reserve(w.stage, units * 8, deadline, &place);
    if (code == 0) {
        fill(w, place);
        weir__stage_commit(w.stage, &place, 1);
        if (out) *out = place;
    }
    return code;
}
static void reserve_before(world &w, int i, uint32_t units)
{
    ENSURE(weir__stage_reserve(w.stage, units * 8, WEIR__NEVER, &w.place[i]) == 0);
}
static void durable(world &w, const struct weir__place &place)
{
    looks[rl::thread_index()] = 1;
    ENSURE(weir__stage_wait(w.stage, place.lsn, WEIR__LEVEL_DURABLE, place.slot, place.seq, WEIR__NEVER) == 0);
    looks[rl::thread_index()] = 0;
    ENSURE((uint64_t)(*w.disk[place.seq])(RL_INFO).load() > place.lsn);
}

/* Takes what is complete. */
static bool take(world &w)
{
    uint32_t index;
    bool did = false;
    while (weir__stage_take(w.stage, &index)) {
        struct weir__slot *slot = &w.stage->slots[index];
        SITE(model, "load", relaxed);
        uint64_t seq = do_load(&slot->seq, site_);
        weir_lsn base = do_load(&slot->base, site_);
        uint32_t end = slot->end, records = slot->records;
        ENSURE(end > 0 && end <= (index < now->slots ? now->cap : now->oversize_units) && records > 0 && seq < 8 && w.slot_of_life[seq] < 0);
        for (uint32_t u = 0; u < end; u++) ENSURE((uint64_t)(*w.unit[index][u])(RL_INFO).load() == base + 96 + u * 8);
        (*w.header[index])(RL_INFO) = base;
        w.slot_of_life[seq] = (int)index;
        w.records += records;
        did = true;
    }
    return did;
}
/* Acknowledges what was taken, in order, and gives it back. */
static bool finish(world &w)
{
    bool did = false;
    for (uint32_t i = 0; i < w.hidden_count;) {
        if (weir__stage_unpinned(w.stage, w.hidden[i])) {
            (*w.header[w.hidden[i]])(RL_INFO) = 0;
            weir__stage_give(w.stage, w.hidden[i]);
            w.hidden[i] = w.hidden[--w.hidden_count];
            did = true;
        } else {
            i++;
        }
    }
    while (w.part.next_ack < 8 && w.slot_of_life[w.part.next_ack] >= 0) {
        uint64_t seq = w.part.next_ack;
        uint32_t index = (uint32_t)w.slot_of_life[seq];
        SITE(model, "load", relaxed);
        uint32_t end = w.stage->slots[index].end;
        weir_lsn to = do_load(&w.stage->slots[index].base, site_) + 96 + end * 8;
        if (now->reads && !(w.shown && seq == 0)) weir__stage_show(w.stage, index, to);
        (*w.disk[seq])(RL_INFO) = to;
        w.part.next_ack++;
        weir__stage_acknowledge(w.stage, index, seq, WEIR__LEVEL_DURABLE, to);
        if (now->reads && !weir__stage_hide(w.stage, index)) {
            w.hidden[w.hidden_count++] = index;
        } else {
            (*w.header[index])(RL_INFO) = 0;
            for (uint32_t u = 0; u < 4; u++) (void)(*w.unit[index][u])(RL_INFO).load();
            weir__stage_give(w.stage, index);
        }
        did = true;
    }
    return did;
}
static void nap(world &w)
{
    SITE(model, "load", acquire);
    if (!weir__stage_going_to_sleep(w.stage, &w.part, WEIR__FL_IDLE, true)) return;
    for (uint32_t i = 0; i < w.hidden_count; i++) {
        if (weir__stage_unpinned(w.stage, w.hidden[i])) {
            weir__stage_awake(w.stage);
            return;
        }
    }
    while (do_load(&w.stage->fl_sleep, site_) == WEIR__FL_IDLE) weir__futex_wait(&w.stage->fl_sleep, WEIR__FL_IDLE, WEIR__NEVER);
    weir__stage_awake(w.stage);
}
/* The flusher until it has taken and acknowledged so many records. */
static void flush(world &w)
{
    for (;;) {
        bool did = finish(w);
        did |= take(w);
        if (w.records >= w.limit) break;
        if (weir__stage_serve(w.stage, &w.part, true)) did = true;
        if (!did) nap(w);
    }
    finish(w);
    weir__stage_serve(w.stage, &w.part, false); /* a slot that it closed is followed by an open one */
}
/* One look of the flusher, which never sleeps: serve, take. */
static void look(world &w)
{
    weir__stage_serve(w.stage, &w.part, true);
    take(w);
}
static void take_only(world &w) { take(w); }
/* The flusher until it has left after a shutdown. */
static void flush_to_end(world &w)
{
    for (;;) {
        bool did = finish(w);
        did |= take(w);
        if (weir__stage_serve(w.stage, &w.part, true)) did = true;
        if (w.part.final && w.part.next_ack == w.stage->role.seq) break;
        if (!did) nap(w);
    }
    weir__stage_leave(w.stage);
}

/* The same, and lends its part instead of sleeping only; the part is lent no more once so many records were taken. */
static bool may_lend(world &w)
{
    return w.hidden_count == 0 && !w.part.must_open && !w.part.final && !w.part.shut_seen && w.records < w.limit;
}
static void sleep_lent(world &w)
{
    SITE(model, "load", acquire);
    for (;;) {
        uint32_t how = do_load(&w.stage->fl_sleep, site_);
        if (how == WEIR__FL_AWAKE) break;
        weir__futex_wait(&w.stage->fl_sleep, how, WEIR__NEVER);
    }
    weir__stage_awake(w.stage);
}
static void flush_and_lend(world &w)
{
    for (;;) {
        (*w.part_holder)(RL_INFO) = 0;
        bool did = finish(w);
        did |= take(w);
        if (w.records >= w.limit) break;
        if (weir__stage_serve(w.stage, &w.part, true)) did = true;
        if (did) continue;
        if (!may_lend(w)) {
            nap(w);
        } else if (weir__stage_going_to_sleep(w.stage, &w.part, WEIR__FL_LENDS, true)) {
            sleep_lent(w);
        }
    }
    finish(w);
    weir__stage_serve(w.stage, &w.part, false);
}
/* A producer that takes the part if it is to be had: weir__flusher_alone. */
static void turn(world &w)
{
    (*w.part_holder)(RL_INFO) = 1;
    weir__stage_serve(w.stage, &w.part, true);
    bool did = take(w);
    did &= finish(w);
    if (did && may_lend(w)) weir__stage_return(w.stage, &w.part);
    else weir__stage_hand_over(w.stage);
}
static void fill_alone(world &w, int i)
{
    fill(w, w.place[i]);
    if (weir__stage_commit_alone(w.stage, &w.place[i], 1)) turn(w);
}
static void append_alone(world &w)
{
    struct weir__place place;
    ENSURE(weir__stage_reserve(w.stage, 8, WEIR__NEVER, &place) == 0);
    fill(w, place);
    if (weir__stage_commit_alone(w.stage, &place, 1)) turn(w);
}

/* ---- what was there before ---------------------------------------------------------------------------------------- */

static void open_one(world &w) { ENSURE(weir__stage_serve(w.stage, &w.part, false)); }
/* The first slot is sealed and taken; the second, if there is one, is open and full; the role is the flusher's otherwise. */
static void one_taken(world &w)
{
    open_one(w);
    ENSURE(append(w, now->cap, WEIR__NEVER, &w.place[0]) == 0);
    ENSURE((append(w, now->cap, 0) == 0) == (now->slots > 1));
    ENSURE(take(w));
}
/* The flusher sleeps and lends its part. */
static void lent_out(world &w)
{
    open_one(w);
    ENSURE(weir__stage_going_to_sleep(w.stage, &w.part, WEIR__FL_LENDS, true));
}
/* It wakes, or was left asleep with nothing to do. */
static void wake_and_flush(world &w)
{
    sleep_lent(w);
    flush(w);
}
/* One record is in a slot that the segment's end follows: the next life's slot is shorter. */
static void end_near(world &w, weir_lsn segment_end)
{
    SITE(model, "store", relaxed);
    do_store(&w.prepared_end, segment_end, site_);
    w.stage->role.segment_end = segment_end;
}
/* The keeper: one more segment. */
static void prepare(world &w)
{
    SITE(model, "store", release);
    (*w.prepared)(RL_INFO) = 1;
    do_store(&w.prepared_end, w.stage->config.segment_bytes + 112, site_);
    weir__stage_frontier_moved(w.stage);
}
static void copy_if_any(world &w) { weir__stage_copy(w.stage, START, (void *)"", 4096); }
/* Copies the first batch, or it has left memory: then it is on the disk, and the level says so. */
static void copy_or_gone(world &w)
{
    SITE(model, "load", acquire);
    if (weir__stage_copy(w.stage, START, (void *)"", 4096) > 0) return;
    ENSURE(do_load(&w.stage->level[0], site_) > START);
}
/* Until W is open again. */
static void serve_until_open(world &w)
{
    while (!weir__stage_serve(w.stage, &w.part, false) || w.part.must_open) nap(w);
}

/* Names: the step, and the variant. */
static const scenario scenarios[] = {
    /* A producer reserves and commits while the flusher seals. */
    {"reserve-seal", 2, 2, 2, open_one, {[](world &w) { w.limit = 1; flush(w); }, [](world &w) { ENSURE(append(w, 1, WEIR__NEVER) == 0); }}},
    {"reserve-seal-3", 2, 2, 3, open_one,
     {look, [](world &w) { append(w, 1, 0); }, [](world &w) { append(w, 1, 0); }}},
    {"reserve-close", 3, 2, 2, [](world &w) { open_one(w); reserve_before(w, 0, 1); },
     {[](world &w) { append(w, 2, WEIR__NEVER); }, [](world &w) { append(w, 1, 0); fill_commit(w, 0); }}},
    {"reserve-close-3", 4, 2, 3, [](world &w) { open_one(w); append(w, 1, 0); },
     {look, [](world &w) { append(w, 2, 0); }, [](world &w) { append(w, 1, 0); }}},
    /* Two records are being committed while their slot is sealed: by the flusher, or by a closer. */
    {"commit-seal", 2, 2, 3, [](world &w) { open_one(w); reserve_before(w, 0, 1); reserve_before(w, 1, 1); },
     {look, [](world &w) { fill_commit(w, 0); }, [](world &w) { fill_commit(w, 1); }}},
    {"commit-close", 2, 2, 3, [](world &w) { open_one(w); reserve_before(w, 0, 1); reserve_before(w, 1, 1); },
     {[](world &w) { take(w); append(w, 1, 0); take(w); }, [](world &w) { fill_commit(w, 0); }, [](world &w) { fill_commit(w, 1); }}},
    {"commit-commit", 1, 2, 3, [](world &w) { open_one(w); reserve_before(w, 0, 1); reserve_before(w, 1, 1); w.limit = 2; },
     {flush, [](world &w) { fill_commit(w, 0); }, [](world &w) { fill_commit(w, 1); }}},
    {"push-push", 2, 1, 3, [](world &w) { open_one(w); reserve_before(w, 0, 1); reserve_before(w, 1, 1); append(w, 1, 0); w.limit = 2; },
     {flush, [](world &w) { fill_commit(w, 0); }, [](world &w) { fill_commit(w, 1); }}},
    /* An add that comes too late for one slot meets the next: it waits for it, or does not. */
    {"open-late", 3, 1, 2, [](world &w) { open_one(w); reserve_before(w, 0, 1); },
     {[](world &w) { ENSURE(append(w, 1, WEIR__NEVER) == 0); }, [](world &w) { append(w, 1, 0); }}},
    {"open-late-wait", 3, 1, 2, [](world &w) { open_one(w); reserve_before(w, 0, 1); },
     {[](world &w) { append(w, 1, WEIR__NEVER); }, [](world &w) { append(w, 1, WEIR__NEVER); }}},
    {"open-late-3", 4, 1, 3, [](world &w) { open_one(w); reserve_before(w, 0, 1); },
     {[](world &w) { append(w, 1, 0); }, [](world &w) { append(w, 1, 0); }, [](world &w) { append(w, 1, 0); }}},
    {"open-owed", 1, 1, 2, one_taken,
     {[](world &w) { finish(w); ENSURE(weir__stage_serve(w.stage, &w.part, false)); }, [](world &w) { append(w, 1, WEIR__NEVER); }}},
    /* A slot is given back while adds come: the next life is written over the last. */
    {"retire-late", 2, 1, 2, one_taken,
     {[](world &w) { finish(w); }, [](world &w) { ENSURE(append(w, 1, WEIR__NEVER) == 0); }}},
    {"retire-late-3", 2, 1, 3, one_taken,
     {[](world &w) { finish(w); }, [](world &w) { append(w, 1, 0); }, [](world &w) { append(w, 1, 0); }}},
    {"retire-wait", 1, 1, 2, one_taken,
     {[](world &w) {
          finish(w);
          weir__stage_serve(w.stage, &w.part, false);
          append(w, 1, 0);
          append(w, 1, 0);
          take(w);
          finish(w);
      },
      [](world &w) { durable(w, w.place[0]); }}},
    {"retire-read", 1, 1, 2, one_taken,
     {[](world &w) {
          finish(w);
          finish(w);
          weir__stage_serve(w.stage, &w.part, false);
          append(w, 1, 0);
      },
      [](world &w) { weir__stage_copy(w.stage, START, (void *)"", 4096); }}, false, true},
    /* The flusher goes to sleep while something comes: a record in a half-full slot, a full slot, the role, the end, space; and one who waits for it. */
    {"sleep-commit", 2, 2, 2, [](world &w) { open_one(w); w.limit = 1; }, {flush, [](world &w) { ENSURE(append(w, 1, 0) == 0); }}},
    {"sleep-push", 2, 1, 2, [](world &w) { open_one(w); reserve_before(w, 0, 1); ENSURE(append(w, 1, WEIR__NEVER) == 0); w.limit = 2; },
     {flush, [](world &w) { fill_commit(w, 0); }}},
    {"sleep-shut", 2, 1, 2, open_one, {flush_to_end, [](world &w) { weir__stage_shut(w.stage); ENSURE(weir__stage_wait_drained(w.stage, WEIR__NEVER) == 0); }}},
    {"sleep-owed", 1, 1, 2, [](world &w) { open_one(w); append(w, 1, WEIR__NEVER); },
     {[](world &w) { nap(w); take(w); finish(w); weir__stage_serve(w.stage, &w.part, false); },
      [](world &w) { ENSURE(append(w, 1, 0) == -EAGAIN); }}},
    {"sleep-unpin", 1, 1, 2, [](world &w) { one_taken(w); weir__stage_show(w.stage, 0, 1000); w.shown = true; w.limit = 1; },
     {[](world &w) { finish(w); while (w.hidden_count) { weir__stage_serve(w.stage, &w.part, false); nap(w); finish(w); } serve_until_open(w); },
      [](world &w) { weir__stage_copy(w.stage, START, (void *)"", 4096); }}, false, true},
    {"sleep-frontier", 2, 1, 2,
     [](world &w) {
         open_one(w);
         append(w, 1, WEIR__NEVER);
         SITE(model, "store", relaxed);
         do_store(&w.prepared_end, 112, site_);
         w.stage->role.segment_end = 112;
         ENSURE(append(w, 1, 0) != 0);
         take(w);
     },
     {serve_until_open, [](world &w) {
          prepare(w);
      }}, false, false, true},
    {"sleep-open", 3, 1, 2, [](world &w) { open_one(w); reserve_before(w, 0, 1); },
     {nap, [](world &w) { ENSURE(append(w, 1, WEIR__NEVER) == 0); }}},
    /* The flusher's add meets a slot that was opened behind its look. */
    {"seal-next", 3, 1, 2, [](world &w) { open_one(w); append(w, 1, 0); },
     {look, [](world &w) { append(w, 1, 0); }}},
    {"gather", 3, 1, 2, [](world &w) { open_one(w); append(w, 1, 0); },
     {[](world &w) { weir__stage_gathering(w.stage); }, [](world &w) { append(w, 1, 0); }}},
    /* The part is lent: to a lone producer, while another commits, while the flusher is called, while the log is shut. */
    {"lend", 2, 1, 2, [](world &w) { open_one(w); reserve_before(w, 0, 1); w.limit = 1; }, {flush_and_lend, [](world &w) { fill_alone(w, 0); }}},
    {"lend-again", 2, 2, 2, [](world &w) { open_one(w); reserve_before(w, 0, 1); w.limit = 2; },
     {flush_and_lend, [](world &w) { fill_alone(w, 0); append(w, 1, WEIR__NEVER); }}},
    {"lend-commit", 2, 2, 3, [](world &w) { open_one(w); reserve_before(w, 0, 1); reserve_before(w, 1, 1); w.limit = 2; },
     {flush_and_lend, [](world &w) { fill_alone(w, 0); }, [](world &w) { fill_commit(w, 1); }}},
    {"lend-straggler", 2, 2, 2, [](world &w) { open_one(w); reserve_before(w, 0, 1); reserve_before(w, 1, 1); w.limit = 2; },
     {flush_and_lend, [](world &w) { fill_alone(w, 0); fill_commit(w, 1); }}},
    {"lend-nudge", 2, 1, 3, [](world &w) { open_one(w); reserve_before(w, 0, 1); w.limit = 1; },
     {flush_and_lend, [](world &w) { fill_alone(w, 0); }, [](world &w) { weir__stage_rouse(w.stage); }}},
    /* Two producers, the flusher, and slots that are used again: walked within bounds. */
    {"lives-1", 1, 1, 3, open_one,
     {[](world &w) { w.limit = 2; flush(w); }, [](world &w) { ENSURE(append(w, 1, WEIR__NEVER) == 0); }, [](world &w) { ENSURE(append(w, 1, WEIR__NEVER) == 0); }}},
    {"lives-2", 2, 1, 3, one_taken,
     {[](world &w) { w.limit = 4; flush(w); }, [](world &w) { ENSURE(append(w, 1, WEIR__NEVER) == 0); }, [](world &w) { ENSURE(append(w, 1, WEIR__NEVER) == 0); }}},
    {"lives-acks", 1, 1, 3, open_one,
     {[](world &w) { w.limit = 2; flush(w); },
      [](world &w) { struct weir__place p; ENSURE(append(w, 1, WEIR__NEVER, &p) == 0); durable(w, p); },
      [](world &w) { ENSURE(append(w, 1, WEIR__NEVER) == 0); }}},
    {"lend-append", 1, 1, 2, [](world &w) { open_one(w); w.limit = 1; }, {flush_and_lend, append_alone}},
    {"lend-over", 2, 2, 2, [](world &w) { lent_out(w); reserve_before(w, 0, 1); reserve_before(w, 1, 1); w.limit = 2; },
     {wake_and_flush, [](world &w) { fill_alone(w, 0); fill_commit(w, 1); }}},
    {"lend-return", 2, 1, 2, [](world &w) { lent_out(w); reserve_before(w, 0, 1); w.limit = 2; },
     {wake_and_flush, [](world &w) { fill_alone(w, 0); append(w, 1, WEIR__NEVER); }}},
    {"lend-turns", 2, 2, 2, [](world &w) { lent_out(w); reserve_before(w, 0, 1); reserve_before(w, 1, 1); },
     {[](world &w) { fill_alone(w, 0); }, [](world &w) { fill_alone(w, 1); }}},
    {"lend-kick", 2, 1, 2, [](world &w) { lent_out(w); reserve_before(w, 0, 1); w.limit = 1; },
     {[](world &w) { fill_alone(w, 0); }, [](world &w) { weir__stage_rouse(w.stage); }}},
    {"lend-meanwhile", 1, 2, 2, [](world &w) { lent_out(w); },
     {[](world &w) {
          weir__stage_rouse(w.stage);
          sleep_lent(w);
          (*w.part_holder)(RL_INFO) = 0;
          look(w);
          finish(w);
          weir__stage_serve(w.stage, &w.part, false);
          if (may_lend(w)) weir__stage_going_to_sleep(w.stage, &w.part, WEIR__FL_LENDS, true);
      },
      append_alone}},
    {"lend-back", 2, 1, 3,
     [](world &w) {
         lent_out(w);
         reserve_before(w, 0, 1);
         fill(w, w.place[0]);
         ENSURE(weir__stage_commit_alone(w.stage, &w.place[0], 1));
         weir__stage_serve(w.stage, &w.part, true);
         ENSURE(take(w) & finish(w));
         w.limit = 2;
     },
     {wake_and_flush, [](world &w) { weir__stage_return(w.stage, &w.part); }, [](world &w) { append(w, 1, 0); }}},
    {"lend-twice", 2, 1, 2, [](world &w) { open_one(w); w.limit = 2; },
     {[](world &w) {
          if (weir__stage_going_to_sleep(w.stage, &w.part, WEIR__FL_LENDS, true)) return;
          (*w.part_holder)(RL_INFO) = 0;
          take(w);
          finish(w);
      }, [](world &w) { append_alone(w); append(w, 1, 0); }}},
    {"wait-ack", 1, 1, 2, [](world &w) { open_one(w); struct weir__place p; ENSURE(append(w, 1, WEIR__NEVER, &p) == 0); w.place[0] = p; w.limit = 1; },
     {flush, [](world &w) { durable(w, w.place[0]); }}},
    {"wait-ack-3", 1, 2, 3, [](world &w) { open_one(w); append(w, 1, WEIR__NEVER, &w.place[0]); append(w, 1, WEIR__NEVER, &w.place[1]); w.limit = 2; },
     {flush, [](world &w) { durable(w, w.place[0]); }, [](world &w) { durable(w, w.place[1]); }}},
    {"wait-lsn", 1, 1, 2, [](world &w) { open_one(w); append(w, 1, WEIR__NEVER, &w.place[0]); w.place[0].slot = WEIR__SLOT_NONE; w.limit = 1; },
     {flush, [](world &w) { durable(w, w.place[0]); }}, true},
    {"wait-all", 1, 1, 2, [](world &w) { open_one(w); append(w, 1, WEIR__NEVER, &w.place[0]); w.limit = 1; },
     {flush, [](world &w) {
          ENSURE(weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER) == 0);
          ENSURE((uint64_t)(*w.disk[0])(RL_INFO).load() > w.place[0].lsn);
      }}, true},
    {"wait-ahead", 1, 1, 2, [](world &w) { open_one(w); w.place[0].lsn = START + 96; w.place[0].slot = WEIR__SLOT_NONE; },
     {[](world &w) { append(w, 1, 0); look(w); finish(w); }, [](world &w) { durable(w, w.place[0]); }}, true},
    {"wait-reuse", 2, 1, 2,
     [](world &w) {
         open_one(w);
         append(w, 1, 0);
         append(w, 1, 0, &w.place[1]);
         append(w, 1, 0);
         w.place[1].slot = WEIR__SLOT_NONE;
         take(w);
         w.slot_of_life[1] = -1;
     },
     {[](world &w) {
          finish(w);
          weir__stage_serve(w.stage, &w.part, false);
          w.slot_of_life[1] = 1;
          finish(w);
      },
      [](world &w) { durable(w, w.place[1]); }}, true},
    {"all-closed", 1, 1, 2, one_taken,
     {[](world &w) { finish(w); weir__stage_serve(w.stage, &w.part, false); },
      [](world &w) {
          ENSURE(weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER) == 0);
          ENSURE((uint64_t)(*w.disk[0])(RL_INFO).load() > w.place[0].lsn);
      }}, true},
    {"all-first", 1, 2, 2, [](world &w) { end_near(w, START + 2 * 104); open_one(w); append(w, 1, 0, &w.place[0]); },
     {[](world &w) { look(w); finish(w); weir__stage_serve(w.stage, &w.part, false); },
      [](world &w) {
          ENSURE(weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER) == 0);
          ENSURE((uint64_t)(*w.disk[0])(RL_INFO).load() > w.place[0].lsn);
      }}, true, false, true},
    {"all-frontier", 2, 1, 2, [](world &w) { end_near(w, 112); open_one(w); },
     {[](world &w) { append(w, 1, 0, &w.place[0]); append(w, 1, 0); take(w); finish(w); },
      [](world &w) {
          /* Its own record is in, or the other's; what W's close covers. */
          ENSURE(weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER) == 0);
      }}, true, false, true},
    {"all-own", 2, 1, 2, [](world &w) { end_near(w, 112); open_one(w); append(w, 1, 0, &w.place[0]); },
     {[](world &w) { append(w, 1, 0); take(w); finish(w); },
      [](world &w) {
          ENSURE(weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER) == 0);
          ENSURE((uint64_t)(*w.disk[0])(RL_INFO).load() > w.place[0].lsn);
      }}, true, false, true},
    {"all-sealed", 2, 1, 2, [](world &w) { end_near(w, 112); open_one(w); append(w, 1, 0, &w.place[0]); },
     {[](world &w) { look(w); finish(w); },
      [](world &w) {
          ENSURE(weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER) == 0);
          ENSURE((uint64_t)(*w.disk[0])(RL_INFO).load() > w.place[0].lsn);
      }}, true, false, true},
    {"end-own", 3, 1, 2, [](world &w) { open_one(w); append(w, 1, 0, &w.place[0]); },
     {[](world &w) { append(w, 1, 0); }, [](world &w) { ENSURE(weir__stage_end(w.stage) >= w.place[0].lsn + 8); }}, true},
    {"end-falls", 3, 1, 2, [](world &w) { open_one(w); append(w, 1, 0, &w.place[0]); },
     {[](world &w) { weir__stage_end(w.stage); append(w, 1, 0); },
      [](world &w) {
          weir_lsn first = weir__stage_end(w.stage);
          ENSURE(weir__stage_end(w.stage) >= first);
      }}, true},
    {"show-read", 2, 1, 2, open_one,
     {[](world &w) { append(w, 1, 0); look(w); finish(w); }, copy_if_any}, false, true},
    {"show-complete", 2, 1, 2, [](world &w) { open_one(w); },
     {[](world &w) { append(w, 1, 0); look(w); weir__stage_show(w.stage, 0, START + 104); },
      [](world &w) {
          ENSURE(weir__stage_wait_complete(w.stage, START, WEIR__NEVER) == 0);
          ENSURE(weir__stage_copy(w.stage, START, (void *)"", 4096) > 0);
      }}, false, true},
    {"show-next", 2, 1, 2, [](world &w) { open_one(w); append(w, 1, 0); },
     {[](world &w) {
          append(w, 1, 0);
          take(w);
          weir__stage_show(w.stage, 0, START + 104);
          look(w);
          weir__stage_show(w.stage, 1, START + 208);
      },
      [](world &w) {
          ENSURE(weir__stage_wait_complete(w.stage, START + 104, WEIR__NEVER) == 0);
          ENSURE(weir__stage_copy(w.stage, START + 104, (void *)"", 4096) > 0);
      }}, false, true},
    {"read-gone-3", 2, 1, 3, [](world &w) { open_one(w); append(w, 1, 0); look(w); weir__stage_show(w.stage, 0, START + 104); w.shown = true; append(w, 1, 0); },
     {[](world &w) { finish(w); }, [](world &w) { append(w, 1, 0); }, copy_or_gone}, false, true},
    {"read-gone", 2, 1, 2, [](world &w) { open_one(w); append(w, 1, 0); look(w); weir__stage_show(w.stage, 0, START + 104); w.shown = true; },
     {[](world &w) { finish(w); append(w, 1, 0); append(w, 1, 0); }, copy_or_gone}, false, true},
    {"shut-last", 2, 1, 2, [](world &w) { open_one(w); append(w, 1, 0, &w.place[0]); },
     {flush_to_end, [](world &w) {
          weir__stage_shut(w.stage);
          ENSURE(weir__stage_wait_drained(w.stage, WEIR__NEVER) == 0);
          ENSURE((uint64_t)(*w.disk[0])(RL_INFO).load() > w.place[0].lsn);
      }}},
    {"shut-reserve", 1, 1, 2, one_taken,
     {[](world &w) { weir__stage_shut(w.stage); flush_to_end(w); }, [](world &w) { int code = append(w, 1, WEIR__NEVER); ENSURE(code == 0 || code == WEIR_ESHUTDOWN); }}},
    {"shut-all", 1, 1, 2, one_taken,
     {[](world &w) { weir__stage_shut(w.stage); flush_to_end(w); },
      [](world &w) {
          ENSURE(weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER) == 0);
          ENSURE((uint64_t)(*w.disk[0])(RL_INFO).load() > w.place[0].lsn);
      }}, true},
    {"oversize-give", 2, 1, 2, [](world &w) { open_one(w); ENSURE(append(w, 2, 0) == 0); ENSURE(take(w)); },
     {[](world &w) { finish(w); }, [](world &w) { ENSURE(append(w, 2, WEIR__NEVER) == 0); }}, false, false, false, false, 2},
    {"oversize-add", 3, 1, 2, open_one,
     {[](world &w) { w.limit = 1; flush(w); }, [](world &w) { ENSURE(append(w, 2, WEIR__NEVER) == 0); }}, true, false, false, false, 2},
    {"oversize-behind", 3, 2, 3, [](world &w) { open_one(w); reserve_before(w, 0, 1); },
     {take_only, [](world &w) { fill_commit(w, 0); }, [](world &w) { ENSURE(append(w, 3, WEIR__NEVER) == 0); }}, false, false, false, false, 3},
    {"oversize-late", 3, 1, 2, [](world &w) { open_one(w); append(w, 1, 0); },
     {[](world &w) { append(w, 1, 0); }, [](world &w) { append(w, 2, 0); }}, false, false, false, false, 2},
    {"oversize-frontier", 2, 1, 2, [](world &w) { end_near(w, 112); open_one(w); w.limit = 1; },
     {[](world &w) { prepare(w); flush(w); },
      [](world &w) { ENSURE(append(w, 2, WEIR__NEVER) == 0 && (uint64_t)(*w.prepared)(RL_INFO).load() == 1); }}, true, false, true, false, 2},
    {"frontier", 3, 1, 2, [](world &w) { end_near(w, 112); open_one(w); ENSURE(append(w, 1, 0) == 0); },
     {prepare, [](world &w) { if (append(w, 1, 0) == 0) ENSURE((uint64_t)(*w.prepared)(RL_INFO).load() == 1); }}, false, false, true},
    {"fail-all", 1, 1, 2, [](world &w) { open_one(w); append(w, 1, WEIR__NEVER, &w.place[0]); },
     {fail_with_reason, [](world &w) { failed_for(w, weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER)); }}, true, false, false, true},
    {"fail-closed", 1, 1, 2, one_taken,
     {fail_with_reason, [](world &w) { failed_for(w, weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER)); }}, true, false, false, true},
    {"fail-leave", 1, 1, 2, [](world &w) { open_one(w); append(w, 1, WEIR__NEVER, &w.place[0]); },
     {[](world &w) { fail_with_reason(w); weir__stage_leave(w.stage); },
      [](world &w) { failed_for(w, weir__stage_wait(w.stage, w.place[0].lsn, WEIR__LEVEL_DURABLE, w.place[0].slot, w.place[0].seq, WEIR__NEVER)); }},
     false, false, false, true},
    {"fail-shut", 1, 1, 2, [](world &w) { one_taken(w); weir__stage_shut(w.stage); },
     {[](world &w) { weir__stage_leave(w.stage); fail_with_reason(w); },
      [](world &w) {
          int code = weir__stage_wait_all(w.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER);
          if (code != 0) failed_for(w, code);
      }}, true, false, false, true},
    {"fail-wait", 1, 1, 2, [](world &w) { open_one(w); append(w, 1, WEIR__NEVER, &w.place[0]); },
     {fail_with_reason, [](world &w) {
          failed_for(w, weir__stage_wait(w.stage, w.place[0].lsn, WEIR__LEVEL_DURABLE, w.place[0].slot, w.place[0].seq, WEIR__NEVER));
      }}, false, false, false, true},
    {"fail-reserve", 1, 1, 2, [](world &w) { open_one(w); append(w, 1, WEIR__NEVER); },
     {fail_with_reason, [](world &w) { failed_for(w, append(w, 1, WEIR__NEVER)); }}, false, false, false, true},
};
static rl::iteration_t stopped;
static int tally;
static int threads;
static int threads_of(const scenario *s) { return s->threads; }

template <int N> struct test : rl::test_suite<test<N>, N> {
    world w;
    static rl::var<uint64_t> *fresh() { rl::var<uint64_t> *v = new (vars.take()) rl::var<uint64_t>; (*v)(RL_INFO) = 0; return v; }
    static void wake_ring(void *) {}
    void before()
    {
        the = &w;
        memset(looks, 0, sizeof looks);
        pool32.used = pool64.used = vars.used = 0;
        spurious = false;
        the_word = 0;
        memset((void *)&w, 0, sizeof w);
        for (int &slot : w.slot_of_life) slot = -1;
        w.limit = ~0u;
        w.current_end.cheap = 1;
        w.prepared_end.touch();
        w.space_error.touch();
        struct weir__stage *stage = w.stage = (struct weir__stage *)calloc(1, sizeof *stage);
        struct weir__stage_config config;
        memset((void *)&config, 0, sizeof config);
        config.mem = (struct weir__mem *)&w;
        config.slots = now->slots;
        config.slot_bytes = 96 + now->cap * 8;
        config.oversize_buffers = now->oversize_units != 0;
        config.oversize_bytes = 96 + now->oversize_units * 8;
        config.block_bytes = 8;
        config.segment_bytes = 1 << 20;
        config.prepared_end = &w.prepared_end;
        config.space_error = &w.space_error;
        config.current_end = &w.current_end;
        config.wake_ring = wake_ring;
        w.prepared_end.a->store(config.segment_bytes, rl::mo_relaxed, RL_INFO);
        struct weir__position start;
        memset(&start, 0, sizeof start);
        start.lsn = START;
        start.chain = 77;
        ENSURE(weir__stage_init(stage, &config, &start, 0, config.segment_bytes, 1) == 0);
        stage_touch(stage);
        for (uint32_t i = 0; i < stage->slot_count; i++) {
            header(i);
            for (uint32_t u = 0; u < 4; u++) w.unit[i][u] = fresh();
        }
        for (auto &life : w.disk) life = fresh();
        w.part_holder = fresh();
        w.fault = fresh();
        w.prepared = fresh();
        the_word = &stage->word;
        word_limit = stage->cap + (N + 1) * (stage->cap + 1) * 2;
        now->before(w);
        stage_lean(stage, now->by_lsn, now->reads, now->frontier, now->oversize_units != 0, now->fails);
        if (!now->frontier) { w.prepared_end.make_cheap(); w.space_error.make_cheap(); }
        if (!strstr(now->name, "shut") && !strstr(now->name, "close") && !strstr(now->name, "leave")) { stage->shut.make_cheap(); stage->exit_gen.make_cheap(); stage->drained.make_cheap(); }
    }
    void header(uint32_t i) { w.header[i] = fresh(); }
    void thread(unsigned index) { now->thread[index](w); }
    void after()
    {
        /* Whatever is left is complete, and is what was filled. */
        take(w);
        weir__stage_exit(w.stage);
        free(w.stage);
        pool32.drop();
        pool64.drop();
        vars.drop();
    }
};
static void *model_memcpy(void *to, const void *from, size_t bytes)
{
    weir_lsn start = 0;
    for (uint32_t i = 0; i < the->stage->slot_count; i++) {
        if (the->stage->slots[i].buffer == from) start = (uint64_t)(*the->header[i])(RL_INFO).load();
    }
    for (size_t u = 12; u < bytes / 8; u++) {
        rl::var<uint64_t> *at = unit_at((const uint8_t *)from + u * 8);
        ENSURE((uint64_t)(*at)(RL_INFO).load() == start + u * 8);
    }
    return to;
}
static void tally_print(void) { printf("\n"); }
static void mark_sites(void) { stage_mark_sites(); }

#define MODEL_THREADS 2
#include "model_run.hpp"
