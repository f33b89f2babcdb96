/* SPDX-License-Identifier: Apache-2.0
 * The stage (engine/stage) under Relacy: the text of production, compiled as C++ with atomics, plain fields, futexes and rings of the model.
 *
 * Weaker than the real thing on purpose: a ring hands indices over relaxed; a futex orders nothing at all, not even between a waker and the
 * woken; futex_wait may return for no reason (flag S). Plain fields of slot and role, frames, headers and the "disk" are race-checked variables. A
 * toy flusher does what engine/drain/flusher.c does with the stage; I/O is a number of turns.
 *
 * run.sh builds and runs it. Arguments: see main(). */
#include "model.hpp"

#include "stage_ports.hpp"

/* ---- scenarios ------------------------------------------------------------------------------------------------------ */

/* A thread is a list of acts, separated by blanks:
 *   <n>[a|w|l][t|d]  append n units; wait for it by its place, or a: do not, or w: by LSN alone, or l: by its place, taking the flusher's part
 *                  if that is to be had (the flusher lends it in scenarios with an l); t: try (thrice at most), d: with a deadline
 *   A  wait_all; must cover all that this thread committed     S  shut     F  fail
 *   K  prepare one more segment                                E  say that no more space can be had
 *   Y  let some time pass; YY: much
 *   R  read from memory, as far as it goes (twelve looks)       L<n>  wait for the LSN n units past the start, until it is there or shut
 * The flusher is thread 0. The last thread that is not a reader or an L shuts the log. */
struct scenario {
    const char *name;
    uint32_t slots, cap;
    uint32_t oversize, oversize_units;
    uint32_t segment_units; /* 0: no end */
    uint32_t io;            /* 0: I/O ends at once; else slots in flight at most */
    const char *script[4];
    bool spurious;
};
static const scenario scenarios[] = {
    {"S0", 1, 1, 0, 0, 0, 0, {"1", "1"}},
    {"S1", 2, 1, 0, 0, 0, 0, {"1", "1"}},
    {"reuse", 1, 1, 0, 0, 0, 0, {"1a", "1a"}},
    {"S2", 2, 2, 0, 0, 0, 2, {"1 1", "1 1"}},
    {"S3", 1, 2, 0, 0, 0, 0, {"1a 1a 1", "2 1a"}},
    {"S4", 2, 2, 0, 0, 0, 2, {"1 1t 1", "2a 1t", "1 2at"}},
    {"S5", 2, 2, 0, 0, 0, 1, {"1 S", "2a 1 1 1", "1t 1 1a 1"}},
    {"S6", 1, 1, 0, 0, 0, 1, {"1a 1a 1a", "1a 1a 1 S"}},
    {"S7", 2, 1, 0, 0, 0, 2, {"1a 1 1a 1", "1 1a 1 1a"}},
    {"S8", 1, 1, 0, 0, 0, 0, {"1at 1at 1at", "1at 1at 1"}},
    {"S9", 3, 3, 0, 0, 0, 2, {"1 1 1", "1 1 1", "2a 1a 2"}},
    {"S10", 1, 1, 0, 0, 0, 1, {"1 S", "1a 1a 1a 1a", "1 1 1"}},
    {"timed", 1, 1, 0, 0, 0, 1, {"1ad 1ad 1d", "1ad 1 1d"}},
    {"spurious", 2, 2, 0, 0, 0, 1, {"1 1t 1", "2a 1", "1 2at"}, true},
    {"two-slots", 2, 2, 0, 0, 0, 1, {"1 2 1w", "2a 1a 2"}},
    {"by-lsn", 2, 3, 0, 0, 0, 1, {"1w 1a", "1w 2w"}},
    {"ahead", 2, 4, 0, 0, 0, 1, {"1 1", "L0 L14"}},
    {"ahead-idle", 2, 4, 0, 0, 0, 1, {"1 YY", "L6"}},
    {"wait-all-1", 1, 2, 0, 0, 0, 1, {"1a A 1a A", "2a 1a"}},
    {"wait-all-2", 2, 2, 0, 0, 0, 1, {"1a A", "2a 1a 2a"}},
    {"wait-all-3", 2, 3, 0, 0, 28, 0, {"A 1a A", "2a 3a", "K K K K K"}},
    {"wait-all-4", 1, 2, 0, 0, 0, 0, {"2a A", "1a"}},
    {"oversize", 2, 2, 1, 4, 0, 1, {"1a 4 1", "4w 1a"}},
    {"oversize-1", 1, 1, 1, 3, 0, 1, {"3a 3t", "1 1a", "1a 3"}},
    {"oversize-2", 2, 2, 2, 4, 0, 2, {"4a 1", "4a 4t S", "1 2"}},
    {"frontier", 2, 3, 0, 0, 30, 0, {"1a 3a 2", "2 1", "K K K K K"}},
    {"frontier-1", 1, 3, 0, 0, 28, 1, {"1 3a", "2 1w", "K K K K K K"}},
    {"frontier-big", 2, 2, 1, 4, 40, 1, {"1 4 1a", "2a 4w", "K K K K K K"}},
    {"no-space", 2, 3, 0, 0, 30, 0, {"3a 2a 1a", "2a 1ta", "E"}},
    {"readers", 2, 2, 0, 0, 0, 1, {"1 2 1", "2a 1", "R"}},
    {"reader-1", 1, 1, 0, 0, 0, 0, {"1a 1a 1a 1", "R"}},
    {"reader-big", 1, 1, 1, 3, 0, 1, {"1a 3a 1", "R"}},
    {"fail", 2, 2, 0, 0, 0, 1, {"1 2 1", "2 1 1w", "Y F"}},
    {"fail-1", 1, 1, 1, 3, 0, 1, {"1 3 1", "1d 1", "Y F"}},
    {"fail-all", 1, 2, 0, 0, 28, 1, {"1a A", "2a 2 A", "Y F"}},
    {"lend-0", 2, 1, 0, 0, 0, 0, {"1l", "1l"}},
    {"lend-1", 1, 2, 0, 0, 0, 0, {"1l 1l", "1l 1l"}},
    {"lend-2", 2, 2, 0, 0, 0, 0, {"1l 2l 1l", "1a 1 1l", "1l 1a"}},
    {"lend-3", 3, 3, 0, 0, 0, 0, {"1l 1l 1l", "1l 1l", "2a 1 1l"}},
    {"lend-big", 2, 2, 1, 4, 0, 0, {"1l 4l 1l", "2l 4"}},
    {"lend-frontier", 1, 3, 0, 0, 28, 0, {"1l 3l", "2l 1l", "K K K K K K"}},
    {"lend-no-space", 2, 3, 0, 0, 30, 0, {"3l 2l 1l", "2a 1ta", "E"}},
    {"lend-readers", 2, 2, 0, 0, 0, 0, {"1l 2l 1l", "1l", "R"}},
    {"lend-fail", 2, 2, 0, 0, 0, 0, {"1l 2l 1l", "1l 1", "Y F"}},
    {"lend-shut", 2, 2, 0, 0, 0, 0, {"1l S", "1l 1l", "1l 1a"}},
    {"lend-all", 1, 2, 0, 0, 0, 0, {"1l A", "1a 1l A"}},
    {"lend-spurious", 2, 2, 0, 0, 0, 0, {"1l 1l", "1l 1l"}, true},
};
static const scenario *now;
static rl::iteration_t stopped;
static struct { uint64_t sleeps1, sleeps2, kicks, wopen, wover, again, refused, taken, copies, straggle, lent, returned; } tally;

static const weir_lsn START = 8;
static const int IDS = 32;

template <int N> struct test : rl::test_suite<test<N>, N> {
    struct weir__stage *stage;
    WEIR__ATOMIC(uint64_t) prepared_end, current_end;
    WEIR__ATOMIC(int32_t) space_error;
    uint64_t segment_bytes;
    /* frames and headers */
    rl::var<uint64_t> *unit[6][8], *header[6];
    rl::var<uint64_t> *disk[IDS];
    bool committed[IDS], seen[IDS];
    int ids, active;
    bool fail_called, shut_called, nospace;
    uint32_t wake_ring_count;
    /* the toy flusher's */
    struct batch { int state; uint32_t slot; weir_lsn lsn, end, prev_end; uint32_t chain; int ids[8]; int id_count; } pending[64];
    struct weir__stage_flusher part;
    uint32_t inflight;
    uint64_t next_show, taken_end;
    weir_lsn last_end;
    uint32_t chain;
    uint32_t retained[64], retained_head, retained_tail, hidden[8], hidden_count;
    bool down, lend;
    rl::var<uint64_t> *part_holder; /* written by whoever plays the flusher: two who are not ordered are a race */

    static test *self;
    static void wake_ring(void *ctx) { ((test *)ctx)->wake_ring_count++; }

    void before()
    {
        self = this;
        memset(looks, 0, sizeof looks);
        pool32.used = pool64.used = vars.used = 0;
        spurious = now->spurious;
        the_word = 0;
        memset((void *)&prepared_end, 0, sizeof prepared_end);
        memset((void *)&current_end, 0, sizeof current_end);
        memset((void *)&space_error, 0, sizeof space_error);
        memset(committed, 0, sizeof committed);
        memset(seen, 0, sizeof seen);
        memset(pending, 0, sizeof pending);
        memset(&part, 0, sizeof part);
        ids = 0;
        active = 0;
        fail_called = shut_called = nospace = down = false;
        wake_ring_count = inflight = retained_head = retained_tail = hidden_count = 0;
        next_show = taken_end = 0;
        last_end = START;
        chain = 77;
        segment_bytes = now->segment_units ? now->segment_units * 8 : 1 << 20;
        current_end.cheap = 1;
        prepared_end.touch();
        space_error.touch();
        prepared_end.a->store(segment_bytes, rl::mo_relaxed, RL_INFO);
        stage = (struct weir__stage *)calloc(1, sizeof *stage);
        struct weir__stage_config config;
        memset((void *)&config, 0, sizeof config);
        config.mem = (struct weir__mem *)&prepared_end;
        config.slots = now->slots;
        config.slot_bytes = 96 + now->cap * 8;
        config.oversize_buffers = now->oversize;
        config.oversize_bytes = 96 + now->oversize_units * 8;
        config.block_bytes = 8;
        config.segment_bytes = segment_bytes;
        config.prepared_end = &prepared_end;
        config.space_error = &space_error;
        config.current_end = &current_end;
        config.wake_ring = wake_ring;
        config.ctx = this;
        struct weir__position start;
        memset(&start, 0, sizeof start);
        start.lsn = START;
        start.chain = 77;
        ENSURE(weir__stage_init(stage, &config, &start, 0, segment_bytes, 1) == 0);
        stage_touch(stage);
        if (search.on) {
            std::string all;
            for (auto *script : now->script) all += script ? std::string(script) + " " : "";
            auto has = [&](const char *acts) { return all.find_first_of(acts) != std::string::npos; };
            stage_lean(stage, has("wAL"), has("R"), has("KE") || now->segment_units != 0, now->oversize != 0, has("F"));
            if (!has("KE")) { prepared_end.make_cheap(); space_error.make_cheap(); }
        }
        for (uint32_t i = 0; i < stage->slot_count; i++) {
            header[i] = fresh();
            for (int u = 0; u < 8; u++) unit[i][u] = fresh();
        }
        part_holder = fresh();
        lend = false;
        for (int i = 0; i < N - 1; i++) lend |= now->script[i] && strchr(now->script[i], 'l');
        for (int i = 0; i < IDS; i++) disk[i] = i < 20 ? fresh() : 0;
        the_word = &stage->word;
        uint64_t seal = stage->cap + 1;
        word_limit = stage->cap + (N + 1) * seal * 2;
        for (int i = 0; i < N - 1; i++) {
            if (now->script[i] && !strchr("RLKFEY", now->script[i][0])) active++;
        }
    }
    rl::var<uint64_t> *fresh() { rl::var<uint64_t> *v = new (vars.take()) rl::var<uint64_t>; (*v)(RL_INFO) = 0; return v; }

    int slot_of(const void *p, int *at)
    {
        for (uint32_t i = 0; i < stage->slot_count; i++) {
            const uint8_t *b = stage->slots[i].buffer;
            if ((const uint8_t *)p >= b && (const uint8_t *)p < b + stage->slots[i].buffer_bytes) {
                *at = (int)(((const uint8_t *)p - b) / 8) - 12;
                return (int)i;
            }
        }
        failed("a place in no buffer");
        return 0;
    }

    /* -- the flusher, after engine/drain/flusher.c -- */
    void hold() { (*part_holder)(RL_INFO) = rl::thread_index(); }
    bool take_complete()
    {
        hold();
        bool did = false;
        uint32_t index;
        while (weir__stage_take(stage, &index)) {
            struct weir__slot *slot = &stage->slots[index];
            SITE(model, "load", relaxed);
            uint64_t seq = do_load(&slot->seq, site_);
            ENSURE(seq < 64);
            batch *b = &pending[seq];
            ENSURE(b->state == 0);
            b->state = 1;
            b->slot = index;
            b->lsn = do_load(&slot->base, site_);
            b->prev_end = do_load(&slot->prev_end, site_);
            uint32_t end = slot->end, records = slot->records;
            ENSURE(end > 0 && 96 + end * 8 <= slot->buffer_bytes);
            b->end = b->lsn + 96 + end * 8;
            b->chain = slot->chain;
            ENSURE((uint64_t)slot->segment_base == (uint64_t)(slot->segment_number - 1) * segment_bytes);
            ENSURE(b->lsn >= slot->segment_base + 8 && b->end <= slot->segment_base + segment_bytes);
            int last = -1;
            for (uint32_t u = 0; u < end; u++) {
                uint64_t value = (*unit[index][u])(RL_INFO);
                int id = (int)(value >> 40);
                ENSURE((value & ((UINT64_C(1) << 40) - 1)) == b->lsn + 96 + u * 8);
                if (id != last) {
                    ENSURE(!seen[id]);
                    seen[id] = true;
                    b->ids[b->id_count++] = id;
                    last = id;
                }
            }
            ENSURE((int)records == b->id_count);
            (*header[index])(RL_INFO) = b->lsn;
            if (seq >= taken_end) taken_end = seq + 1;
            tally.taken++;
            did = true;
        }
        while (did && next_show < 64 && pending[next_show].state != 0) {
            weir__stage_show(stage, pending[next_show].slot, pending[next_show].end);
            next_show++;
        }
        return did;
    }
    bool submit()
    {
        hold();
        bool did = false;
        for (uint64_t q = part.next_ack; q < taken_end; q++) {
            if (pending[q].state == 1 && (now->io == 0 || inflight < now->io)) {
                pending[q].state = now->io == 0 ? 3 : 2;
                inflight += now->io != 0;
                did = true;
            }
        }
        return did;
    }
    void complete_one()
    {
        uint32_t pick = inflight > 1 ? rl::rand(inflight) : 0;
        for (uint64_t q = part.next_ack; q < taken_end; q++) {
            if (pending[q].state == 2 && pick-- == 0) {
                pending[q].state = 3;
                inflight--;
                return;
            }
        }
    }
    bool acknowledge()
    {
        hold();
        bool did = false;
        while (part.next_ack < next_show && pending[part.next_ack].state == 3) {
            uint64_t q = part.next_ack;
            batch *b = &pending[q];
            ENSURE(b->prev_end == last_end);
            ENSURE(b->lsn == last_end || (b->lsn % segment_bytes == 8 && b->lsn > last_end));
            ENSURE(b->chain == chain);
            chain = weir__chain_next(chain, b->lsn, b->end, 0, 0);
            last_end = b->end;
            for (int i = 0; i < b->id_count; i++) (*disk[b->ids[i]])(RL_INFO) = 1;
            weir__stage_acknowledge(stage, b->slot, q, WEIR__LEVEL_WRITTEN, b->end);
            part.next_ack++;
            weir__stage_acknowledge(stage, b->slot, q, WEIR__LEVEL_DURABLE, b->end);
            b->state = 4;
            if (b->slot >= now->slots) give_back(b->slot);
            else retained[retained_tail++] = b->slot;
            did = true;
        }
        return did;
    }
    bool retire()
    {
        hold();
        bool did = false;
        for (uint32_t i = 0; i < hidden_count;) {
            if (weir__stage_unpinned(stage, hidden[i])) {
                give(hidden[i]);
                hidden[i] = hidden[--hidden_count];
                did = true;
            } else {
                i++;
            }
        }
        while (retained_head != retained_tail) {
            uint32_t index = retained[retained_head];
            if (weir__stage_free_count(stage) >= (now->slots > 1 ? now->slots / 2 : 1)) break;
            retained_head++;
            give_back(index);
            did = true;
        }
        return did;
    }
    void give_back(uint32_t index)
    {
        if (weir__stage_hide(stage, index)) give(index);
        else hidden[hidden_count++] = index;
    }
    void give(uint32_t index)
    {
        /* The last use of the buffer: what is filled next has to come after it. */
        for (int u = 0; u < 8; u++) (void)(*unit[index][u])(RL_INFO).load();
        (*header[index])(RL_INFO) = 0;
        weir__stage_give(stage, index);
    }
    bool may_lend()
    {
        return lend && inflight == 0 && taken_end == part.next_ack && hidden_count == 0 && !down && !part.must_open && !part.final &&
               !part.shut_seen;
    }
    void sleep_until_awake()
    {
        SITE(model, "load", acquire);
        for (;;) {
            uint32_t how = do_load(&stage->fl_sleep, site_);
            if (how == WEIR__FL_AWAKE) break;
            weir__futex_wait(&stage->fl_sleep, how, WEIR__NEVER);
        }
        weir__stage_awake(stage);
    }
    /* A producer that has the part, after weir__flusher_alone. */
    bool turn_alone()
    {
        SITE(model, "load", acquire);
        hold();
        if (do_load(&stage->failed, site_)) return false;
        weir__stage_serve(stage, &part, true);
        take_complete();
        if (taken_end != part.next_ack + 1 || pending[part.next_ack].state != 1) return false;
        submit();
        bool did = acknowledge();
        retire();
        return did;
    }
    void alone()
    {
        tally.lent++;
        if (turn_alone() && may_lend()) {
            tally.returned++;
            weir__stage_return(stage, &part);
        } else {
            weir__stage_hand_over(stage);
        }
    }
    void flusher()
    {
        SITE(model, "load", acquire);
        for (;;) {
            bool did = false;
            if (inflight > 0 && rl::rand(2)) { complete_one(); did = true; }
            did |= !down && acknowledge();
            did |= retire();
            did |= take_complete();
            bool may_seal = inflight == 0 && !down;
            if (weir__stage_serve(stage, &part, may_seal)) { take_complete(); did = true; }
            if (!down && do_load(&stage->failed, site_)) down = true;
            if (down) {
                if (inflight == 0) break;
                complete_one();
                continue;
            }
            did |= submit();
            if (part.final && inflight == 0 && part.next_ack == stage->role.seq) break;
            if (did) continue;
            if (may_lend()) {
                if (!weir__stage_going_to_sleep(stage, &part, WEIR__FL_LENDS, may_seal)) continue;
                tally.sleeps1++;
                sleep_until_awake();
            } else if (inflight == 0) {
                if (!weir__stage_going_to_sleep(stage, &part, WEIR__FL_IDLE, may_seal) || still_hidden()) continue;
                tally.sleeps1++;
                sleep_until_awake();
            } else if (inflight >= now->io) {
                complete_one();
            } else if (weir__stage_going_to_sleep(stage, &part, WEIR__FL_RING, false) && !still_hidden()) {
                tally.sleeps2++;
                uint32_t before = wake_ring_count;
                rl::ctx().yield(1, RL_INFO);
                if (wake_ring_count == before || rl::rand(2)) complete_one();
                else tally.kicks++;
                weir__stage_awake(stage);
            }
        }
        weir__stage_leave(stage);
    }
    bool still_hidden()
    {
        for (uint32_t i = 0; i < hidden_count && !planted(NO_LOOK_AT_HIDDEN); i++) {
            if (weir__stage_unpinned(stage, hidden[i])) {
                weir__stage_awake(stage);
                return true;
            }
        }
        return false;
    }

    /* -- the others -- */
    void append(uint32_t units, char wait, char mode, uint64_t *mine)
    {
        struct weir__place place;
        int code = 0;
        for (int t = 0; t < 3; t++) {
            code = weir__stage_reserve(stage, units * 8, mode == 't' ? 0 : mode == 'd' ? 1000 : WEIR__NEVER, &place);
            if (code != -EAGAIN && code != -ETIMEDOUT) break;
            tally.again++;
            rl::ctx().yield(1, RL_INFO);
        }
        if (code != 0) {
            tally.refused++;
            ENSURE((code == -EAGAIN && mode == 't') || (code == -ETIMEDOUT && mode == 'd') || (code == WEIR_ESHUTDOWN && shut_called) ||
                   (code == WEIR_EFAILED && fail_called) || (code == -ENOSPC && nospace));
            return;
        }
        int at, id = ids++;
        ENSURE(id < 20);
        int index = slot_of(place.at, &at);
        ENSURE(index == (int)place.slot && place.units == units);
        for (uint32_t u = 0; u < units; u++) (*unit[index][at + u])(RL_INFO) = (uint64_t)id << 40 | (place.lsn + u * 8);
        committed[id] = true;
        weir_lsn lsn = place.lsn;
        if (wait != 'l') weir__stage_commit(stage, &place, 1);
        else if (weir__stage_commit_alone(stage, &place, 1)) alone();
        *mine |= UINT64_C(1) << id;
        if (wait == 'a') return;
        uint32_t slot = wait == 'w' ? WEIR__SLOT_NONE : place.slot;
        looks[rl::thread_index()] = 1;
        code = weir__stage_wait(stage, lsn, WEIR__LEVEL_DURABLE, slot, place.seq, WEIR__NEVER);
        looks[rl::thread_index()] = 0;
        if (code == 0) on_disk(UINT64_C(1) << id);
        else ENSURE(code == WEIR_EFAILED && fail_called);
    }
    void on_disk(uint64_t mine)
    {
        for (int i = 0; i < 20; i++) {
            if (mine >> i & 1) ENSURE((uint64_t)(*disk[i])(RL_INFO).load() == 1);
        }
    }
    void shut()
    {
        shut_called = true;
        weir__stage_shut(stage);
    }
    void run(const char *s)
    {
        static const char none[] = "";
        uint64_t mine = 0;
        bool counts = !strchr("RLKFEY", s[0]);
        weir_lsn read_to = START;
        for (; *s; s++) {
            if (*s >= '1' && *s <= '9') {
                uint32_t n = (uint32_t)(*s - '0');
                char wait = 'p', mode = 'n';
                for (; s[1] && s[1] != ' '; s++) {
                    if (s[1] == 'a' || s[1] == 'w' || s[1] == 'l') wait = s[1];
                    else mode = s[1];
                }
                append(n, wait, mode, &mine);
            } else if (*s == 'A') {
                int code = weir__stage_wait_all(stage, WEIR__LEVEL_DURABLE, WEIR__NEVER);
                if (code == 0) on_disk(mine);
                else ENSURE((code == WEIR_EFAILED && fail_called) || (code == WEIR_ESHUTDOWN && shut_called));
            } else if (*s == 'S') {
                shut();
            } else if (*s == 'F') {
                fail_called = true;
                weir__stage_fail(stage);
            } else if (*s == 'K' || *s == 'E') {
                SITE(model, "store", release);
                if (*s == 'K') do_store(&prepared_end, prepared_end.a->debug_value() + segment_bytes, site_);
                else { nospace = true; do_store(&space_error, -ENOSPC, site_); }
                weir__stage_frontier_moved(stage);
            } else if (*s == 'R') {
                for (int look = 0; look < 12; look++) {
                    copied = 0;
                    size_t bytes = weir__stage_copy(stage, read_to, (void *)none, 4096);
                    if (bytes > 0) {
                        ENSURE(copied == bytes);
                        read_to = copied_base + bytes;
                        tally.copies++;
                    } else {
                        rl::ctx().yield(1, RL_INFO);
                    }
                }
            } else if (*s == 'L') {
                int n = atoi(s + 1);
                while (s[1] >= '0' && s[1] <= '9') s++;
                looks[rl::thread_index()] = 1;
                int code = weir__stage_wait(stage, START + 96 + n * 8, WEIR__LEVEL_DURABLE, WEIR__SLOT_NONE, 0, WEIR__NEVER);
                looks[rl::thread_index()] = 0;
                ENSURE(code == 0 || (code == WEIR_ESHUTDOWN && shut_called));
            } else if (*s == 'Y') {
                for (int n = s[1] == 'Y' ? 400 : (int)rl::rand(60); n > 0; n--) rl::ctx().yield(1, RL_INFO);
                if (s[1] == 'Y') s++;
            }
        }
        if (search.on) {
            step(&active, true); /* who is the last depends on the others */
            rl::ctx().sched();
        }
        if (counts && --active == 0) {
            shut();
            ENSURE(weir__stage_wait_drained(stage, WEIR__NEVER) == 0);
        }
    }
    size_t copied;
    weir_lsn copied_base;
    void copy(const void *from, size_t bytes)
    {
        int at;
        int index = slot_of(from, &at);
        copied = bytes;
        copied_base = (*header[index])(RL_INFO);
        for (size_t u = 0; u < (bytes - 96) / 8; u++) {
            uint64_t value = (*unit[index][u])(RL_INFO);
            ENSURE((value & ((UINT64_C(1) << 40) - 1)) == copied_base + 96 + u * 8);
        }
    }
    void thread(unsigned index)
    {
        if (index == 0) flusher();
        else if (now->script[index - 1]) run(now->script[index - 1]);
    }
    void after()
    {
        if (!fail_called) {
            for (int i = 0; i < ids; i++) ENSURE(committed[i] && seen[i] && (uint64_t)(*disk[i])(RL_INFO).load() == 1);
        }
        tally.wopen += stage->counters.stalls_slot.plain;
        tally.wover += stage->counters.stalls_oversize.plain;
        tally.straggle += stage->counters.stalls_straggler.plain;
        weir__stage_exit(stage);
        free(stage);
        pool32.drop();
        pool64.drop();
        vars.drop();
    }
};
template <int N> test<N> *test<N>::self;
static int threads;
static void *model_memcpy(void *to, const void *from, size_t bytes)
{
    if (threads == 3) test<3>::self->copy(from, bytes);
    else test<4>::self->copy(from, bytes);
    return to;
}

static int threads_of(const scenario *s) { return s->script[2] ? 4 : 3; }

static void tally_print(void)
{
    printf("slots %llu sleeps %llu + %llu stalls %llu + %llu again %llu refused %llu copies %llu stragglers %llu lent %llu returned %llu\n",
           (unsigned long long)tally.taken, (unsigned long long)tally.sleeps1, (unsigned long long)tally.sleeps2,
           (unsigned long long)tally.wopen, (unsigned long long)tally.wover, (unsigned long long)tally.again,
           (unsigned long long)tally.refused, (unsigned long long)tally.copies, (unsigned long long)tally.straggle,
           (unsigned long long)tally.lent, (unsigned long long)tally.returned);
}

static void mark_sites(void) { stage_mark_sites(); }

#define MODEL_THREADS 3
#include "model_run.hpp"
