/* SPDX-License-Identifier: Apache-2.0
 * The producer side of a log, one step after the other: one thread plays producers, flusher and
 * keeper. */
#include "unit/stage/toy_flusher.h"

#include "port/wait.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SLOT_BYTES 4096u
#define CAP ((SLOT_BYTES - WEIR__BATCH_HEADER_BYTES) / WEIR__UNIT)
#define CAP_BYTES ((uint64_t)CAP * WEIR__UNIT)
#define SEGMENT ((uint64_t)64 * 1024)
#define SOON UINT64_C(20000000)

static const struct toy_config usual = {
    .slots = 3,
    .slot_bytes = SLOT_BYTES,
    .oversize_buffers = 1,
    .oversize_bytes = 16384,
    .segment_bytes = SEGMENT,
    .segments = 16,
};

static uint64_t soon(void)
{
    return weir__now_ns() + SOON;
}

/* A stage whose first slot is open. */
static void open_toy(struct toy *toy, const struct toy_config *config)
{
    toy_make(toy, config);
    toy_turn(toy);
}

static void close_toy(struct toy *toy)
{
    assert_string_equal(toy->failure, "");
    toy_destroy(toy);
}

static weir_lsn first_lsn(weir_lsn base)
{
    return base + WEIR__BATCH_HEADER_BYTES;
}

/* ---- reserving ------------------------------------------------------------------------------- */

/* In place of the C library's. This process has one thread: who is let run is what on_yield does. */
static unsigned yields;
static struct toy *on_yield; /* its flusher takes a turn */
static bool long_yield;      /* so long that somebody else must have run */

int sched_yield(void)
{
    yields++;
    if (on_yield != NULL) {
        toy_turn(on_yield);
    }
    if (long_yield) {
        const uint64_t end_ns = weir__now_ns() + UINT64_C(2) * WEIR__YIELD_ALONE_NS;
        while (weir__now_ns() < end_ns) {
        }
    }
    return 0;
}

/* The role starts with the flusher: nobody writes to a slot before it has opened one. */
static void nothing_is_reserved_before_the_flusher_opens_a_slot(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    toy_make(&toy, &usual);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, 0, &place), -EAGAIN);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, soon(), &place), -ETIMEDOUT);
    assert_int_equal(weir__stage_end(&toy.stage), TOY_BLOCK);
    /* And so there is nothing to wait for. */
    assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, 0), 0);
    assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_WRITTEN, soon()), 0);
    toy_turn(&toy);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, 0, &place), 0);
    weir__stage_commit(&toy.stage, &place, 1);
    close_toy(&toy);
}

/* Places follow each other without a hole, in order, behind the batch's header. */
static void places_are_dense_and_in_order(void **state)
{
    (void)state;
    struct toy toy;
    open_toy(&toy, &usual);
    weir_lsn due = first_lsn(TOY_BLOCK);
    const uint8_t *at = toy.stage.slots[0].buffer + WEIR__BATCH_HEADER_BYTES;
    for (uint64_t bytes = 8; bytes <= 240; bytes += 8) {
        struct weir__place place;
        assert_int_equal(toy_append(&toy, bytes, 0, &place), 0);
        assert_int_equal(place.lsn, due);
        assert_ptr_equal(place.at, at);
        assert_int_equal(place.units, bytes / 8);
        assert_int_equal(place.slot, 0);
        assert_int_equal(place.seq, 0);
        due += bytes;
        at += bytes;
        assert_int_equal(weir__stage_end(&toy.stage), due);
    }
    close_toy(&toy);
}

/* The first append behind a turn of this processor: did it let others on before? */
static bool pauses(struct toy *toy)
{
    const uint64_t before = weir__load(&toy->stage.counters.turn_pauses, relaxed);
    struct weir__place place;
    weir__store(&toy->stage.turns[weir__cpu() % WEIR__TURNS].adds, 128u, relaxed);
    assert_int_equal(toy_append(toy, 8, 0, &place), 0);
    return weir__load(&toy->stage.counters.turn_pauses, relaxed) != before;
}

/* A run of adds is counted where it is made; it is over after 128, and at every wait, because who
 * waits lets the others on anyway. */
static void a_turn_ends_after_a_run_and_at_a_wait(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    cpu_set_t before;
    cpu_set_t here;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&here);
    CPU_SET((size_t)sched_getcpu(), &here);
    if (sched_setaffinity(0, sizeof here, &here) != 0) {
        skip();
    }
    open_toy(&toy, &usual);
    const struct weir__turn *turn = &toy.stage.turns[weir__cpu() % WEIR__TURNS];
    for (unsigned i = 1; i <= 10; i++) {
        assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
        assert_int_equal(weir__load(&turn->adds, relaxed), i);
    }
    assert_int_equal(weir__stage_wait(&toy.stage,
                                      place.lsn,
                                      WEIR__LEVEL_DURABLE,
                                      place.slot,
                                      place.seq,
                                      weir__now_ns()),
                     -ETIMEDOUT);
    assert_int_equal(weir__load(&turn->adds, relaxed), 0);
    for (unsigned i = 0; i < 300; i++) {
        assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
        assert_int_equal(weir__load(&turn->adds, relaxed), i % 128 + 1);
    }
    /* Turns end, but nobody else adds or waits: there was no pause. */
    struct weir__turns *turns = &toy.stage.taking_turns;
    assert_int_equal(weir__load(&turns->over, relaxed), 2);
    assert_int_equal(weir__load(&toy.stage.counters.turn_pauses, relaxed), 0);
    assert_false(pauses(&toy));
    assert_int_equal(weir__load(&turns->over, relaxed), 3);
    /* Somebody has moved W behind the last add here: one pause, and none after it. */
    weir__store(&toy.stage.turns[weir__cpu() % WEIR__TURNS].last, UINT64_C(0), relaxed);
    assert_true(pauses(&toy));
    assert_false(pauses(&toy));
    /* Somebody waits for this turn to end; and that was for an earlier one. */
    weir__store(&turns->waits_since, weir__load(&turns->over, relaxed), relaxed);
    assert_true(pauses(&toy));
    assert_false(pauses(&toy));
    weir__store(&turns->waits_since, weir__load(&turns->over, relaxed) - 1, relaxed);
    assert_false(pauses(&toy));
    close_toy(&toy);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

/* The add that does not fit closes the slot, and its record is the first of the next one. */
static void the_closer_opens_the_next_slot_with_its_own_record(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place first;
    struct weir__place closer;
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, 1000, 0, &first), 0);
    assert_int_equal(toy_append(&toy, CAP_BYTES - 992, 0, &closer), 0);
    assert_int_not_equal(closer.slot, first.slot);
    assert_int_equal(closer.seq, 1);
    const weir_lsn end = weir__align_up(first.lsn + 1000, TOY_BLOCK);
    assert_int_equal(closer.lsn, first_lsn(end));
    assert_int_equal(weir__load(&toy.stage.sealed_end, acquire), end);

    assert_true(toy_take(&toy));
    assert_int_equal(toy.batches[0].units, 125);
    assert_int_equal(toy.batches[0].records, 1);
    assert_true(toy.batches[0].full);
    assert_int_equal(toy.batches[0].prev_end, TOY_BLOCK);
    assert_false(toy_take(&toy)); /* the next one is open */
    assert_true(weir__stage_serve(&toy.stage, &toy.part, true));
    assert_true(toy_take(&toy));
    assert_int_equal(toy.batches[1].prev_end, end);
    assert_int_equal(toy.batches[1].base, end);
    assert_false(toy.batches[1].full);
    close_toy(&toy);
}

/* To the last unit: the slot stays open, and the next record closes it. */
static void a_slot_takes_records_to_its_last_unit(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &place), 0);
    assert_int_equal(place.slot, 0);
    assert_false(toy_take(&toy));
    assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
    assert_int_equal(place.slot, 1);
    assert_int_equal(place.lsn, first_lsn(TOY_BLOCK + SLOT_BYTES));
    assert_true(toy_take(&toy));
    assert_int_equal(toy.batches[0].units, CAP);
    close_toy(&toy);
}

/* Whoever commits last pushes the slot, whether that is a producer or the one that closed it. */
static void a_sealed_slot_is_pushed_by_the_last_commit(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place a;
    struct weir__place b;
    struct weir__place c;
    open_toy(&toy, &usual);
    assert_int_equal(weir__stage_reserve(&toy.stage, 800, 0, &a), 0);
    assert_int_equal(weir__stage_reserve(&toy.stage, 80, 0, &b), 0);
    assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &c), 0); /* closes */
    assert_false(toy_take(&toy));
    toy_fill(&b);
    weir__stage_commit(&toy.stage, &b, 2);
    assert_false(toy_take(&toy));
    toy_fill(&a);
    weir__stage_commit(&toy.stage, &a, 3);
    assert_true(toy_take(&toy));
    assert_int_equal(toy.batches[0].records, 5);
    assert_int_equal(toy.batches[0].units, 110);
    close_toy(&toy);
}

/* A producer that sits on its place is told by the slot that waits for it. */
static void a_straggler_is_seen_from_the_seal_to_its_commit(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place a;
    struct weir__place b;
    weir_lsn lsn = 1;
    open_toy(&toy, &usual);
    assert_int_equal(weir__stage_reserve(&toy.stage, 80, 0, &a), 0);
    assert_int_equal(weir__stage_straggler(&toy.stage, weir__now_ns() + 1000, &lsn), 0);
    assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &b), 0);
    assert_true(weir__stage_straggler(&toy.stage, weir__now_ns() + 1000, &lsn) >= 1000);
    assert_int_equal(lsn, TOY_BLOCK);
    assert_int_equal(weir__load(&toy.stage.counters.stalls_straggler, relaxed), 1);
    toy_fill(&a);
    weir__stage_commit(&toy.stage, &a, 1);
    toy_turn(&toy);
    assert_int_equal(weir__stage_straggler(&toy.stage, weir__now_ns() + 1000, &lsn), 0);
    close_toy(&toy);
}

/* Of two, the one that sits longer counts, whichever slot it stands in; and none has waited while the
 * clock stood still. */
static void the_straggler_that_waits_longest_is_told(void **state)
{
    (void)state;
    const uint64_t later = UINT64_C(5000000000);
    struct toy toy;
    struct weir__place older;
    struct weir__place younger;
    struct weir__place place;
    weir_lsn lsn = 1;
    open_toy(&toy, &usual);
    assert_int_equal(weir__stage_reserve(&toy.stage, 80, 0, &older), 0);
    for (unsigned turn = 0; turn < 2; turn++) {
        assert_int_equal(toy_append(&toy, CAP_BYTES - 40, 0, &place), 0);
        assert_true(place.slot != older.slot);
        const struct weir__slot *const first = &toy.stage.slots[older.slot];
        const uint64_t since = weir__load(&first->straggling_since_ns, relaxed);
        assert_int_equal(weir__stage_straggler(&toy.stage, since + 1, &lsn), 1);
        assert_int_equal(lsn, weir__load(&first->base, relaxed));
        lsn = 1;
        assert_int_equal(weir__stage_straggler(&toy.stage, since, &lsn), 0);
        assert_int_equal(weir__stage_straggler(&toy.stage, since - 1, &lsn), 0);
        assert_int_equal(lsn, 1);

        assert_int_equal(weir__stage_reserve(&toy.stage, 32, 0, &younger), 0);
        assert_int_equal(younger.slot, place.slot);
        assert_true(turn == 0 ? older.slot < younger.slot : older.slot > younger.slot);
        while (weir__now_ns() == since) {
        }
        const int code = weir__stage_reserve(&toy.stage, 800, 0, &place);
        assert_int_equal(code, turn == 0 ? 0 : -EAGAIN); /* closed at least */
        const struct weir__slot *const second = &toy.stage.slots[younger.slot];
        const uint64_t then = weir__load(&second->straggling_since_ns, relaxed);
        assert_true(then > since);
        assert_int_equal(weir__stage_straggler(&toy.stage, then + later, &lsn),
                         then + later - since);
        assert_int_equal(lsn, weir__load(&first->base, relaxed));

        /* The older one is done: the younger one is the longest now. */
        toy_fill(&older);
        weir__stage_commit(&toy.stage, &older, 1);
        assert_int_equal(weir__stage_straggler(&toy.stage, then + later, &lsn), later);
        assert_int_equal(lsn, weir__load(&second->base, relaxed));
        if (turn == 0) {
            toy_fill(&place);
            weir__stage_commit(&toy.stage, &place, 1);
            toy_turn(&toy);
        }
        older = younger;
    }
    /* From here on it is the flusher whom they wait for. */
    toy_fill(&older);
    weir__stage_commit(&toy.stage, &older, 1);
    assert_int_equal(weir__stage_straggler(&toy.stage, weir__now_ns() + later, &lsn), 0);
    toy_turn(&toy);
    assert_int_equal(weir__stage_straggler(&toy.stage, weir__now_ns() + later, &lsn), 0);
    close_toy(&toy);
}

/* The flusher is waited for when something is complete that it has not acknowledged, or when an open
 * slot holds committed records and no others; not for what a producer still copies. */
static void the_flusher_is_due_for_what_waits_for_nobody_else(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place first;
    struct weir__place second;
    struct weir__place place;
    toy_make(&toy, &usual);
    assert_false(weir__stage_due(&toy.stage, TOY_BLOCK));
    toy_turn(&toy);
    assert_false(weir__stage_due(&toy.stage, TOY_BLOCK));
    assert_int_equal(weir__stage_reserve(&toy.stage, 80, 0, &first), 0);
    assert_false(weir__stage_due(&toy.stage, TOY_BLOCK));
    toy_fill(&first);
    weir__stage_commit(&toy.stage, &first, 1);
    assert_true(weir__stage_due(&toy.stage, TOY_BLOCK));
    assert_int_equal(weir__stage_reserve(&toy.stage, 80, 0, &first), 0);
    assert_false(weir__stage_due(&toy.stage, TOY_BLOCK));

    /* That one is sealed, and the next one is open and held, too. */
    assert_int_equal(toy_append(&toy, CAP_BYTES - 40, 0, &place), 0);
    assert_int_equal(weir__stage_reserve(&toy.stage, 32, 0, &second), 0);
    assert_true(second.slot == place.slot && second.slot != first.slot);
    assert_false(weir__stage_due(&toy.stage, TOY_BLOCK));
    toy_fill(&first);
    weir__stage_commit(&toy.stage, &first, 1);
    assert_true(weir__stage_due(&toy.stage, TOY_BLOCK));
    assert_false(weir__stage_due(&toy.stage, TOY_BLOCK + 1)); /* as if acknowledged */
    toy_fill(&second);
    weir__stage_commit(&toy.stage, &second, 1);
    assert_true(weir__stage_due(&toy.stage, TOY_BLOCK + 1));
    toy_turn(&toy);
    assert_int_equal(toy.part.next_ack, 2);
    assert_false(weir__stage_due(&toy.stage, TOY_BLOCK));
    close_toy(&toy);
}

/* ---- back-pressure --------------------------------------------------------------------------- */

/* Both slots full: every form of refusal, the role left to the flusher, and life after it. */
static void two_slots_press_back_and_go_on(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    struct toy_config config = usual;
    config.slots = 2;
    for (int timed = 0; timed < 2; timed++) {
        open_toy(&toy, &config);
        assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &place), 0);
        assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &place), 0);
        /* This one closes the second slot, and finds no third. */
        assert_int_equal(weir__stage_reserve(&toy.stage, 8, timed ? soon() : 0, &place),
                         timed ? -ETIMEDOUT : -EAGAIN);
        assert_int_equal(weir__load(&toy.stage.owed, acquire), 1);
        /* Closed, and what is in the two is not durable. */
        assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, 0), -ETIMEDOUT);
        assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, soon()), -ETIMEDOUT);
        /* These find it closed, and add nothing to the word. */
        const uint64_t word = weir__load(&toy.stage.word, acquire);
        assert_int_equal(weir__stage_reserve(&toy.stage, 8, 0, &place), -EAGAIN);
        assert_int_equal(weir__stage_reserve(&toy.stage, 8, soon(), &place), -ETIMEDOUT);
        assert_int_equal(weir__load(&toy.stage.word, acquire), word);
        assert_true(weir__load(&toy.stage.counters.refused_again, relaxed) >= 1);
        assert_true(weir__load(&toy.stage.counters.refused_timeout, relaxed) >= 1);

        toy_turn(&toy);
        assert_int_equal(toy.part.next_ack, 2);
        assert_int_equal(weir__load(&toy.stage.owed, acquire), 0);
        assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
        assert_int_equal(place.seq, 2);
        assert_int_equal(place.lsn, first_lsn(TOY_BLOCK + 2 * SLOT_BYTES));
        close_toy(&toy);
    }
}

/* The last slot of all can be sealed when everything before it is acknowledged, though no other is
 * free. */
static void the_flusher_seals_the_last_slot_when_all_before_it_is_acknowledged(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    struct toy_config config = usual;
    config.slots = 2;
    open_toy(&toy, &config);
    assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &place), 0);
    assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
    assert_true(toy_take(&toy));
    /* Not now: the free ring is empty, and the first life is not acknowledged. */
    assert_false(weir__stage_serve(&toy.stage, &toy.part, true));
    toy_turn(&toy);
    assert_int_equal(toy.part.next_ack, 2);
    close_toy(&toy);
}

/* ---- segments -------------------------------------------------------------------------------- */

/* Near a segment's end a slot is as short as what is left. */
static void slots_near_a_segments_end_are_short(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    struct toy_config config = usual;
    config.segment_bytes = 8 * TOY_BLOCK + SLOT_BYTES; /* header, a slot, seven blocks */
    config.segments = 3;
    open_toy(&toy, &config);
    assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &place), 0);
    /* Seven blocks are left: less than a slot. */
    const uint64_t room = 7 * TOY_BLOCK - WEIR__BATCH_HEADER_BYTES;
    assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
    assert_int_equal(place.lsn, first_lsn(TOY_BLOCK + SLOT_BYTES));
    assert_int_equal(toy_append(&toy, room - 16, 0, &place), 0);
    assert_int_equal(place.seq, 1);
    assert_int_equal(toy_append(&toy, 8, 0, &place), 0); /* the last unit of the segment */
    assert_int_equal(place.seq, 1);
    assert_int_equal(place.lsn + 8, config.segment_bytes);
    /* And the next one stands behind the next segment's header. */
    assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
    assert_int_equal(place.seq, 2);
    assert_int_equal(place.lsn, first_lsn(config.segment_bytes + TOY_BLOCK));
    toy_turn(&toy);
    assert_int_equal(toy.batches[1].end, config.segment_bytes);
    assert_int_equal(toy.batches[2].prev_end, config.segment_bytes);
    assert_int_equal(toy.stage.slots[toy.batches[2].slot].segment_number, 1);
    assert_int_equal(toy.stage.slots[toy.batches[2].slot].segment_base, config.segment_bytes);
    close_toy(&toy);
}

/* A record that does not fit what is left leaves it unused. */
static void a_record_too_long_for_the_rest_goes_to_the_next_segment(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    struct toy_config config = usual;
    config.segment_bytes = 3 * TOY_BLOCK + SLOT_BYTES;
    open_toy(&toy, &config);
    assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &place), 0);
    assert_int_equal(toy_append(&toy, 2 * TOY_BLOCK, 0, &place), 0);
    assert_int_equal(place.lsn, first_lsn(config.segment_bytes + TOY_BLOCK));
    toy_turn(&toy);
    assert_int_equal(toy.batches[1].prev_end, TOY_BLOCK + SLOT_BYTES);
    close_toy(&toy);
}

static void move_frontier(struct toy *toy, uint64_t segments)
{
    weir__fetch_add(&toy->prepared_end, segments * toy->segment_bytes, release);
    weir__stage_frontier_moved(&toy->stage);
}

/* No slot is opened beyond what is prepared, whoever would open it. */
static void nothing_opens_beyond_the_frontier(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    struct toy_config config = usual;
    config.segment_bytes = TOY_BLOCK + SLOT_BYTES; /* one batch each */
    config.segments = 1;
    open_toy(&toy, &config);
    assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &place), 0);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, 0, &place), -EAGAIN);
    toy_turn(&toy); /* the batch is acknowledged, but there is nowhere to go on */
    assert_int_equal(toy.part.next_ack, 1);
    assert_int_equal(weir__load(&toy.stage.at_frontier, acquire), 1);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, 0, &place), -EAGAIN);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, soon(), &place), -ETIMEDOUT);
    assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, soon()), 0);

    /* Without space everybody is told, also those who would wait for ever. */
    weir__store(&toy.space_error, -ENOSPC, release);
    weir__stage_frontier_moved(&toy.stage);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, 0, &place), -ENOSPC);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, soon(), &place), -ENOSPC);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, WEIR__NEVER, &place), -ENOSPC);
    assert_int_equal(weir__stage_reserve(&toy.stage, CAP_BYTES, WEIR__NEVER, &place), -ENOSPC);
    assert_true(weir__load(&toy.stage.counters.refused_space, relaxed) >= 4);
    assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER), 0);

    weir__store(&toy.space_error, 0, release);
    move_frontier(&toy, 1);
    toy_turn(&toy);
    assert_int_equal(weir__load(&toy.stage.at_frontier, acquire), 0);
    assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
    assert_int_equal(place.lsn, first_lsn(config.segment_bytes + TOY_BLOCK));
    close_toy(&toy);
}

/* ---- oversize -------------------------------------------------------------------------------- */

/* Behind an empty slot: that one is opened again, elsewhere, in the same life. */
static void an_oversize_record_takes_a_batch_of_its_own(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place big;
    struct weir__place small;
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, CAP_BYTES + 8, 0, &big), 0);
    assert_int_equal(big.slot, usual.slots);
    assert_int_equal(big.lsn, first_lsn(TOY_BLOCK));
    assert_int_equal(toy_append(&toy, 8, 0, &small), 0);
    assert_int_equal(small.slot, 0);
    assert_int_equal(small.lsn, first_lsn(weir__align_up(big.lsn + CAP_BYTES + 8, TOY_BLOCK)));
    assert_int_equal(small.seq, 1);
    toy_turn(&toy);
    assert_int_equal(toy.part.next_ack, 2);
    assert_int_equal(toy.batches[0].records, 1);
    assert_int_equal(toy.batches[0].units, CAP + 1);
    assert_int_equal(toy.batches[1].prev_end, toy.batches[0].end);
    close_toy(&toy);
}

/* Behind records: those are sealed before it, and stay before it in the order. */
static void an_oversize_record_keeps_its_place_in_the_order(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place before;
    struct weir__place big;
    struct weir__place after;
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, 8, 0, &before), 0);
    assert_int_equal(toy_append(&toy, CAP_BYTES + 800, 0, &big), 0);
    assert_int_equal(toy_append(&toy, 8, 0, &after), 0);
    assert_int_equal(before.seq, 0);
    assert_int_equal(big.seq, 1);
    assert_int_equal(after.seq, 2);
    assert_true(before.lsn < big.lsn && big.lsn < after.lsn);
    toy_turn(&toy);
    assert_int_equal(toy.part.next_ack, 3);
    close_toy(&toy);
}

static void oversize_has_its_limits(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place big;
    struct weir__place place;
    open_toy(&toy, &usual);
    const uint64_t most = usual.oversize_bytes - WEIR__BATCH_HEADER_BYTES;
    assert_int_equal(weir__stage_reserve(&toy.stage, most + 8, 0, &place), WEIR_ETOOBIG);
    assert_int_equal(weir__stage_reserve(&toy.stage, most, 0, &big), 0);
    /* One buffer: the second one waits for it; small records do not. */
    assert_int_equal(weir__stage_reserve(&toy.stage, most, 0, &place), -EAGAIN);
    assert_int_equal(weir__stage_reserve(&toy.stage, most, soon(), &place), -ETIMEDOUT);
    assert_int_equal(weir__load(&toy.stage.counters.stalls_oversize, relaxed), 1);
    assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
    toy_fill(&big);
    weir__stage_commit(&toy.stage, &big, 1);
    toy_turn(&toy);
    assert_int_equal(toy_append(&toy, most, 0, &big), 0);
    toy_turn(&toy);
    assert_int_equal(toy.part.next_ack, 3);
    close_toy(&toy);
}

/* A refused oversize record gives its buffer back, and the slot that it had closed goes out. */
static void an_oversize_record_at_the_frontier_is_refused_without_a_trace(void **state)
{
    (void)state;
    for (int timed = 0; timed < 2; timed++) {
        struct toy toy;
        struct weir__place place;
        struct toy_config config = usual;
        config.segment_bytes = 16384;
        config.oversize_bytes = 8192;
        config.segments = 1;
        const uint64_t big = 8000;
        open_toy(&toy, &config);
        assert_int_equal(toy_append(&toy, big, 0, &place), 0);
        toy_turn(&toy);
        assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
        /* A deadline that comes while the next segment is being made is the caller's, too. */
        assert_int_equal(weir__stage_reserve(&toy.stage, big, timed ? soon() : 0, &place),
                         timed ? -ETIMEDOUT : -EAGAIN);
        assert_int_equal(weir__load(&toy.stage.counters.refused_timeout, relaxed), timed);
        assert_int_equal(weir__load(&toy.stage.oversize_free, acquire), 1);
        weir__store(&toy.space_error, -ENOSPC, release);
        weir__stage_frontier_moved(&toy.stage);
        toy_turn(&toy);
        assert_int_equal(toy.part.next_ack, 2);
        assert_int_equal(weir__stage_reserve(&toy.stage, big, WEIR__NEVER, &place), -ENOSPC);
        assert_int_equal(weir__load(&toy.stage.oversize_free, acquire), 1);
        weir__store(&toy.space_error, 0, release);
        move_frontier(&toy, 1);
        toy_turn(&toy);
        assert_int_equal(toy_append(&toy, big, 0, &place), 0);
        assert_int_equal(place.lsn, first_lsn(config.segment_bytes + TOY_BLOCK));
        toy_turn(&toy);
        assert_int_equal(toy.part.next_ack, 3);
        close_toy(&toy);
    }
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* A wait for a position ends when its level is above it, and only then; a deadline ends it,
 * wherever the position lies. */
static void waits_end_with_the_level_or_the_deadline(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    open_toy(&toy, &usual);
    for (int life = 0; life < 5; life++) {
        assert_int_equal(toy_append(&toy, 80, 0, &place), 0);
        for (enum weir__level level = WEIR__LEVEL_DURABLE; level < WEIR__LEVELS; level++) {
            assert_int_equal(
                weir__stage_wait(&toy.stage, place.lsn, level, place.slot, place.seq, 0),
                -ETIMEDOUT);
            assert_int_equal(
                weir__stage_wait(&toy.stage, place.lsn, level, place.slot, place.seq, soon()),
                -ETIMEDOUT);
            assert_int_equal(
                weir__stage_wait(&toy.stage, place.lsn, level, WEIR__SLOT_NONE, 0, soon()),
                -ETIMEDOUT);
        }
        assert_int_equal(weir__stage_wait_complete(&toy.stage, place.lsn, soon()), -ETIMEDOUT);
        assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, soon()), -ETIMEDOUT);
        toy_turn(&toy);
        for (enum weir__level level = WEIR__LEVEL_DURABLE; level < WEIR__LEVELS; level++) {
            assert_int_equal(
                weir__stage_wait(&toy.stage, place.lsn, level, place.slot, place.seq, WEIR__NEVER),
                0);
            assert_int_equal(
                weir__stage_wait(&toy.stage, place.lsn, level, WEIR__SLOT_NONE, 0, WEIR__NEVER),
                0);
            /* In the unused rest of the block, at the next batch, inside what was a slot's room,
             * far away. */
            const weir_lsn end = weir__load(&toy.stage.level[level], acquire);
            const weir_lsn ahead[] = {end,
                                      end + 8,
                                      end + 96,
                                      end + SLOT_BYTES,
                                      end + SEGMENT * 100};
            for (size_t i = 0; i < sizeof ahead / sizeof ahead[0]; i++) {
                assert_int_equal(
                    weir__stage_wait(&toy.stage, ahead[i], level, WEIR__SLOT_NONE, 0, soon()),
                    -ETIMEDOUT);
            }
            assert_int_equal(weir__stage_wait(&toy.stage, end - 1, level, WEIR__SLOT_NONE, 0, 0),
                             0);
        }
        assert_int_equal(weir__stage_wait_complete(&toy.stage, place.lsn, WEIR__NEVER), 0);
        assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER), 0);
    }
    close_toy(&toy);
}

/* Where many wait, whoever is let run is likely to be the flusher: this one is spared its sleep. One
 * that is alone has nobody to let run. */
static void one_of_a_crowd_lets_others_run_before_it_sleeps(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    open_toy(&toy, &usual);
    for (uint32_t crowd = 0; crowd <= 3; crowd++) {
        weir__store(&toy.stage.crowd, crowd, relaxed);
        weir__store(&toy.stage.counters.waits_slept, UINT64_C(0), relaxed);
        assert_int_equal(toy_append(&toy, 80, 0, &place), 0);
        const bool many = crowd >= toy.stage.config.yield_from;
        yields = 0;
        on_yield = &toy;
        assert_int_equal(weir__stage_wait(&toy.stage,
                                          place.lsn,
                                          WEIR__LEVEL_DURABLE,
                                          place.slot,
                                          place.seq,
                                          many ? weir__deadline(UINT64_C(4000000000)) : soon()),
                         many ? 0 : -ETIMEDOUT);
        on_yield = NULL;
        assert_int_equal(yields > 0, many);
        assert_int_equal(weir__load(&toy.stage.counters.waits_slept, relaxed) > 0, !many);
        toy_turn(&toy);
    }
    close_toy(&toy);
}

/* A crowd that does not fill the CPU yields a few times, a larger one for longer. A yield that seems
 * to have taken a whole time slice ends it early, so each is tried until it was let. */
static void a_larger_crowd_yields_for_longer(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, 80, 0, &place), 0);
    long_yield = true;
    const uint32_t most[] =
        {[2] = WEIR__YIELDS_FEW, [3] = WEIR__YIELDS_FEW, [4] = WEIR__YIELDS_MAX};
    for (uint32_t crowd = 2; crowd <= 4; crowd++) {
        weir__store(&toy.stage.crowd, crowd, relaxed);
        unsigned seen = 0;
        for (unsigned i = 0; i < 10000 && seen < most[crowd]; i++) {
            weir__store(&toy.stage.yields_off_ns, UINT64_C(0), relaxed);
            yields = 0;
            assert_int_equal(weir__stage_wait(&toy.stage,
                                              place.lsn,
                                              WEIR__LEVEL_DURABLE,
                                              place.slot,
                                              place.seq,
                                              weir__deadline(UINT64_C(2000000))),
                             -ETIMEDOUT);
            assert_true(yields <= most[crowd]);
            seen = yields > seen ? yields : seen;
        }
        assert_int_equal(seen, most[crowd]);
    }
    long_yield = false;
    toy_turn(&toy);
    close_toy(&toy);
}

/* The written level goes ahead of the durable one. */
static void levels_move_one_by_one(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, 80, 0, &place), 0);
    assert_true(weir__stage_serve(&toy.stage, &toy.part, true));
    assert_true(toy_take(&toy));
    toy_show(&toy);
    assert_int_equal(weir__stage_wait_complete(&toy.stage, place.lsn, 0), 0);
    toy_acknowledge(&toy, &toy.batches[0], WEIR__LEVEL_WRITTEN);
    assert_int_equal(
        weir__stage_wait(&toy.stage, place.lsn, WEIR__LEVEL_WRITTEN, place.slot, 0, WEIR__NEVER),
        0);
    assert_int_equal(
        weir__stage_wait(&toy.stage, place.lsn, WEIR__LEVEL_DURABLE, place.slot, 0, soon()),
        -ETIMEDOUT);
    assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, soon()), -ETIMEDOUT);
    toy.part.next_ack++;
    toy_acknowledge(&toy, &toy.batches[0], WEIR__LEVEL_DURABLE);
    assert_int_equal(
        weir__stage_wait(&toy.stage, place.lsn, WEIR__LEVEL_DURABLE, place.slot, 0, WEIR__NEVER),
        0);
    close_toy(&toy);
}

/* ---- reading from memory --------------------------------------------------------------------- */

static void a_copy_gives_exactly_the_bytes_of_the_batch(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    uint8_t bytes[SLOT_BYTES + 8];
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, 1000, 0, &place), 0);
    assert_int_equal(weir__stage_copy(&toy.stage, TOY_BLOCK, bytes, sizeof bytes), 0); /* open */
    assert_true(weir__stage_serve(&toy.stage, &toy.part, true));
    assert_int_equal(weir__stage_copy(&toy.stage, TOY_BLOCK, bytes, sizeof bytes), 0); /* sealed */
    assert_true(toy_take(&toy));
    toy_show(&toy);

    const size_t whole = WEIR__BATCH_HEADER_BYTES + 1000;
    memset(bytes, 0xee, sizeof bytes);
    assert_int_equal(weir__stage_copy(&toy.stage, TOY_BLOCK, bytes, whole), whole);
    assert_true(toy_bytes_hold(bytes, TOY_BLOCK, 125));
    assert_int_equal(bytes[whole], 0xee);
    /* Too little room: how much there is, and nothing else. */
    memset(bytes, 0xee, sizeof bytes);
    assert_int_equal(weir__stage_copy(&toy.stage, TOY_BLOCK, bytes, whole - 1), whole);
    assert_int_equal(weir__stage_copy(&toy.stage, TOY_BLOCK, NULL, 0), whole);
    assert_int_equal(bytes[0], 0xee);
    /* Another position: nobody continues it. */
    assert_int_equal(weir__stage_copy(&toy.stage, TOY_BLOCK + 8, bytes, sizeof bytes), 0);
    assert_int_equal(weir__stage_copy(&toy.stage, UINT64_MAX - 1, bytes, sizeof bytes), 0);

    assert_true(weir__stage_hide(&toy.stage, toy.batches[0].slot));
    assert_int_equal(weir__stage_copy(&toy.stage, TOY_BLOCK, bytes, sizeof bytes), 0);
    toy.part.next_ack++;
    toy_acknowledge(&toy, &toy.batches[0], WEIR__LEVEL_WRITTEN);
    toy_acknowledge(&toy, &toy.batches[0], WEIR__LEVEL_DURABLE);
    weir__stage_give(&toy.stage, toy.batches[0].slot);
    assert_int_equal(weir__stage_copy(&toy.stage, TOY_BLOCK, bytes, sizeof bytes), 0);
    close_toy(&toy);
}

/* A reader in the middle of its copy keeps the slot; the flusher asks again. */
static void a_pin_keeps_a_slot_from_being_given(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, 80, 0, &place), 0);
    assert_true(weir__stage_serve(&toy.stage, &toy.part, true));
    assert_true(toy_take(&toy));
    toy_show(&toy);
    struct weir__slot *const slot = &toy.stage.slots[toy.batches[0].slot];
    weir__fetch_add(&slot->pins, 2u, acq_rel);
    assert_false(weir__stage_hide(&toy.stage, toy.batches[0].slot));
    assert_false(weir__stage_unpinned(&toy.stage, toy.batches[0].slot));
    weir__fetch_sub(&slot->pins, 1u, acq_rel);
    assert_false(weir__stage_unpinned(&toy.stage, toy.batches[0].slot));
    weir__fetch_sub(&slot->pins, 1u, acq_rel);
    assert_true(weir__stage_unpinned(&toy.stage, toy.batches[0].slot));
    close_toy(&toy);
}

/* ---- sleep and waking ------------------------------------------------------------------------ */

static bool may_sleep(struct toy *toy, uint32_t how, bool may_seal)
{
    const bool may = weir__stage_going_to_sleep(&toy->stage, &toy->part, how, may_seal);
    assert_int_equal(weir__load(&toy->stage.fl_sleep, acquire), may ? how : 0);
    return may;
}

/* The flusher lies down only when there is nothing to do, and whoever makes something to do wakes
 * it. */
static void the_flusher_sleeps_only_with_nothing_to_do(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    struct weir__place straggler;
    toy_make(&toy, &usual);
    assert_false(may_sleep(&toy, 1, true)); /* the role is owed */
    toy_turn(&toy);
    assert_true(may_sleep(&toy, 1, true));

    /* A commit into the open slot wakes a flusher that has nothing under way. */
    assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
    assert_int_equal(weir__load(&toy.stage.fl_sleep, acquire), 0);
    assert_false(may_sleep(&toy, 1, true));
    /* With I/O under way the slot stays open, to become fuller. */
    assert_true(may_sleep(&toy, 2, false));
    assert_int_equal(toy_append(&toy, 8, 0, &place), 0);
    assert_int_equal(weir__load(&toy.stage.fl_sleep, acquire), 2);
    assert_int_equal(toy.ring_wakes, 0);

    /* But a complete slot wakes it, through its ring. */
    assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &place), 0);
    assert_int_equal(weir__load(&toy.stage.fl_sleep, acquire), 0);
    assert_int_equal(toy.ring_wakes, 1);
    assert_false(may_sleep(&toy, 2, false)); /* there is something to take */
    toy_turn(&toy);
    assert_int_equal(toy.part.next_ack, 2);

    /* One that is not complete does not. */
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, 0, &straggler), 0);
    assert_true(may_sleep(&toy, 2, false));
    assert_int_equal(toy_append(&toy, CAP_BYTES, 0, &place), 0);
    assert_int_equal(weir__load(&toy.stage.fl_sleep, acquire), 2);
    toy_fill(&straggler);
    weir__stage_commit(&toy.stage, &straggler, 1);
    assert_int_equal(weir__load(&toy.stage.fl_sleep, acquire), 0);
    assert_int_equal(toy.ring_wakes, 2);
    toy_turn(&toy);

    assert_true(may_sleep(&toy, 1, true));
    weir__stage_frontier_moved(&toy.stage);
    assert_int_equal(weir__load(&toy.stage.fl_sleep, acquire), 0);
    assert_true(may_sleep(&toy, 1, true));
    weir__stage_shut(&toy.stage);
    assert_int_equal(weir__load(&toy.stage.fl_sleep, acquire), 0);
    assert_false(may_sleep(&toy, 1, true));
    toy_turn(&toy);
    assert_true(toy.part.final);
    assert_true(weir__load(&toy.stage.counters.flusher_wakes, relaxed) >= 5);
    close_toy(&toy);
}

/* ---- ends ------------------------------------------------------------------------------------ */

/* What was reserved goes out; nobody reserves any more; the word never opens again. */
static void a_shutdown_seals_what_is_there(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    struct weir__place late;
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, 80, 0, &place), 0);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, 0, &late), 0);
    weir__stage_shut(&toy.stage);
    assert_int_equal(weir__stage_reserve(&toy.stage, 8, WEIR__NEVER, &place), WEIR_ESHUTDOWN);
    assert_int_equal(weir__stage_reserve(&toy.stage, CAP_BYTES + 8, 0, &place), WEIR_ESHUTDOWN);
    toy_turn(&toy);
    assert_true(toy.part.final);
    assert_int_equal(toy.part.next_ack, 0); /* one is still inside */
    assert_int_equal(weir__stage_wait_drained(&toy.stage, soon()), -ETIMEDOUT);
    toy_fill(&late);
    weir__stage_commit(&toy.stage, &late, 1);
    toy_turn(&toy);
    assert_int_equal(toy.part.next_ack, 1);
    assert_int_equal(toy.stage.role.seq, 1);
    assert_int_equal(toy.batches[0].records, 2);
    weir__stage_leave(&toy.stage);
    assert_int_equal(weir__stage_wait_drained(&toy.stage, WEIR__NEVER), 0);
    assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER), 0);
    assert_int_equal(
        weir__stage_wait(&toy.stage, late.lsn, WEIR__LEVEL_DURABLE, late.slot, late.seq, 0),
        0);
    assert_int_equal(
        weir__stage_wait(&toy.stage, SEGMENT, WEIR__LEVEL_DURABLE, WEIR__SLOT_NONE, 0, WEIR__NEVER),
        WEIR_ESHUTDOWN);
    assert_int_equal(weir__stage_wait_complete(&toy.stage, SEGMENT, WEIR__NEVER), WEIR_ESHUTDOWN);
    close_toy(&toy);
}

/* An empty open slot is no batch. */
static void a_shutdown_of_an_idle_stage_writes_nothing(void **state)
{
    (void)state;
    struct toy toy;
    open_toy(&toy, &usual);
    weir__stage_shut(&toy.stage);
    toy_turn(&toy);
    assert_true(toy.part.final);
    assert_int_equal(toy.part.next_ack, toy.stage.role.seq);
    assert_int_equal(toy.taken_end, 0);
    close_toy(&toy);
}

/* Who asks for the end waits for a closer that has not said it yet, and for nobody else: not where W
 * is closed for long, or for good, over a slot that holds nothing. */
static void an_end_that_is_known_is_not_waited_for(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place place;
    toy_make(&toy, &usual);
    yields = 0;
    assert_int_equal(weir__stage_end(&toy.stage), TOY_BLOCK); /* not open yet */
    toy_turn(&toy);
    assert_int_equal(weir__stage_end(&toy.stage), TOY_BLOCK);
    assert_int_equal(toy_append(&toy, 80, 0, &place), 0);
    const weir_lsn end = place.lsn + 80;
    assert_int_equal(weir__stage_end(&toy.stage), end);
    toy_turn(&toy);
    assert_int_equal(weir__stage_end(&toy.stage), weir__align_up(end, TOY_BLOCK));
    weir__stage_shut(&toy.stage);
    toy_turn(&toy);
    assert_true(toy.part.final);
    assert_int_equal(weir__stage_end(&toy.stage), weir__align_up(end, TOY_BLOCK));
    assert_int_equal(yields, 0);
    close_toy(&toy);

    /* A closer that stands between its add and its word is waited for, not for ever. */
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, 80, 0, &place), 0);
    (void)weir__fetch_add(&toy.stage.word, word_seal(&toy.stage), seq_cst);
    assert_int_equal(weir__stage_end(&toy.stage), TOY_BLOCK);
    assert_true(yields > 0);
    weir__role_close(&toy.stage, place.slot, 10);
    yields = 0;
    assert_int_equal(weir__stage_end(&toy.stage), weir__align_up(place.lsn + 80, TOY_BLOCK));
    assert_int_equal(yields, 0);
    close_toy(&toy);
}

/* What was acknowledged before stays acknowledged; all else is refused, whoever asks. */
static void a_failure_refuses_everything_from_there_on(void **state)
{
    (void)state;
    struct toy toy;
    struct weir__place good;
    struct weir__place lost;
    struct weir__place place;
    open_toy(&toy, &usual);
    assert_int_equal(toy_append(&toy, 80, 0, &good), 0);
    toy_turn(&toy);
    assert_int_equal(toy_append(&toy, 80, 0, &lost), 0);
    weir__stage_fail(&toy.stage);
    for (int form = 0; form < 3; form++) {
        const uint64_t deadlines[] = {0, soon(), WEIR__NEVER};
        assert_int_equal(weir__stage_reserve(&toy.stage, 8, deadlines[form], &place), WEIR_EFAILED);
        assert_int_equal(weir__stage_reserve(&toy.stage, CAP_BYTES + 8, deadlines[form], &place),
                         WEIR_EFAILED);
        assert_int_equal(weir__stage_wait(&toy.stage,
                                          lost.lsn,
                                          WEIR__LEVEL_DURABLE,
                                          lost.slot,
                                          lost.seq,
                                          deadlines[form]),
                         WEIR_EFAILED);
        assert_int_equal(weir__stage_wait(&toy.stage,
                                          lost.lsn,
                                          WEIR__LEVEL_WRITTEN,
                                          WEIR__SLOT_NONE,
                                          0,
                                          deadlines[form]),
                         WEIR_EFAILED);
        assert_int_equal(weir__stage_wait(&toy.stage,
                                          good.lsn,
                                          WEIR__LEVEL_DURABLE,
                                          good.slot,
                                          good.seq,
                                          deadlines[form]),
                         0);
        assert_int_equal(weir__stage_wait_all(&toy.stage, WEIR__LEVEL_DURABLE, deadlines[form]),
                         WEIR_EFAILED);
    }
    assert_false(may_sleep(&toy, 1, true));
    close_toy(&toy);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* The bound that the public formula is made of. */
static void a_stage_allocates_no_more_than_it_says(void **state)
{
    (void)state;
    struct toy toy;
    toy_make(&toy, &usual);
    assert_true(weir__load(&toy.mem.bytes_peak, relaxed) <= weir__stage_memory(&toy.stage.config));
    const uint64_t after_open = weir__load(&toy.mem.bytes, relaxed);
    toy_turn(&toy);
    for (int i = 0; i < 100; i++) {
        struct weir__place place;
        assert_int_equal(toy_append(&toy, i % 10 == 0 ? CAP_BYTES + 8 : 800, 0, &place), 0);
        toy_turn(&toy);
    }
    assert_int_equal(weir__load(&toy.mem.bytes, relaxed), after_open);
    close_toy(&toy);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_reserved_before_the_flusher_opens_a_slot),
        cmocka_unit_test(places_are_dense_and_in_order),
        cmocka_unit_test(a_turn_ends_after_a_run_and_at_a_wait),
        cmocka_unit_test(the_closer_opens_the_next_slot_with_its_own_record),
        cmocka_unit_test(a_slot_takes_records_to_its_last_unit),
        cmocka_unit_test(a_sealed_slot_is_pushed_by_the_last_commit),
        cmocka_unit_test(a_straggler_is_seen_from_the_seal_to_its_commit),
        cmocka_unit_test(the_straggler_that_waits_longest_is_told),
        cmocka_unit_test(the_flusher_is_due_for_what_waits_for_nobody_else),
        cmocka_unit_test(two_slots_press_back_and_go_on),
        cmocka_unit_test(the_flusher_seals_the_last_slot_when_all_before_it_is_acknowledged),
        cmocka_unit_test(slots_near_a_segments_end_are_short),
        cmocka_unit_test(a_record_too_long_for_the_rest_goes_to_the_next_segment),
        cmocka_unit_test(nothing_opens_beyond_the_frontier),
        cmocka_unit_test(an_oversize_record_takes_a_batch_of_its_own),
        cmocka_unit_test(an_oversize_record_keeps_its_place_in_the_order),
        cmocka_unit_test(oversize_has_its_limits),
        cmocka_unit_test(an_oversize_record_at_the_frontier_is_refused_without_a_trace),
        cmocka_unit_test(waits_end_with_the_level_or_the_deadline),
        cmocka_unit_test(one_of_a_crowd_lets_others_run_before_it_sleeps),
        cmocka_unit_test(a_larger_crowd_yields_for_longer),
        cmocka_unit_test(levels_move_one_by_one),
        cmocka_unit_test(a_copy_gives_exactly_the_bytes_of_the_batch),
        cmocka_unit_test(a_pin_keeps_a_slot_from_being_given),
        cmocka_unit_test(the_flusher_sleeps_only_with_nothing_to_do),
        cmocka_unit_test(a_shutdown_seals_what_is_there),
        cmocka_unit_test(an_end_that_is_known_is_not_waited_for),
        cmocka_unit_test(a_shutdown_of_an_idle_stage_writes_nothing),
        cmocka_unit_test(a_failure_refuses_everything_from_there_on),
        cmocka_unit_test(a_stage_allocates_no_more_than_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
