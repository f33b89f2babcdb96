/* SPDX-License-Identifier: Apache-2.0
 * The producer side of a log under many threads: random sizes, waits, pauses and ends, over a
 * device whose batches come back in any order. Every unit that anybody reserved must come out once,
 * filled, in its place; nobody hangs, and nobody is told a thing too early. Run under
 * ThreadSanitizer it also shows that every byte was handed over. */
#include "unit/stage/toy_flusher.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define SLOT_BYTES 4096u
#define OVERSIZE_BYTES 12288u
#define SEGMENT ((uint64_t)32 * 1024)
#define PRODUCERS_MAX 8u
#define RECORDS_MAX 200u

/* ---- the storm ------------------------------------------------------------------------------- */

enum storm_end { END_WHEN_DONE, END_SHUTDOWN, END_FAILURE };

struct appended {
    weir_lsn lsn;
    uint32_t units;
    uint64_t seq;
};

struct storm {
    struct toy toy;
    unsigned producers;
    unsigned records; /* each */
    enum storm_end end;
    bool space_comes_and_goes;
    struct appended appended[PRODUCERS_MAX][RECORDS_MAX];
    unsigned counts[PRODUCERS_MAX];
    /* The highest LSN of an append that has returned: whoever begins after has a higher one. */
    WEIR__ATOMIC(uint64_t) returned;
    WEIR__ATOMIC(uint32_t) producing;
    WEIR__ATOMIC(uint32_t) done; /* producers have left */
};

static uint64_t random_bytes(struct random *random)
{
    switch (random_below(random, 16)) {
    case 0: /* beyond a slot */
        return SLOT_BYTES + random_below(random, (OVERSIZE_BYTES - SLOT_BYTES) / 8 - 16) * 8;
    case 1: /* a whole slot */
        return SLOT_BYTES - WEIR__BATCH_HEADER_BYTES;
    case 2:
    case 3:
        return 8 + random_below(random, (SLOT_BYTES - WEIR__BATCH_HEADER_BYTES) / 8) * 8;
    default:
        return 8 + random_below(random, 60) * 8;
    }
}

static void raise_returned(struct storm *storm, weir_lsn lsn)
{
    uint64_t seen = weir__load(&storm->returned, relaxed);
    while (seen < lsn && !weir__cas(&storm->returned, &seen, lsn, release)) {
    }
}

static bool expected_end(const struct storm *storm, int code)
{
    return (code == WEIR_ESHUTDOWN && storm->end == END_SHUTDOWN) ||
           (code == WEIR_EFAILED && storm->end == END_FAILURE);
}

/* After the stage said that lsn has reached the level. */
static void check_level(struct worker *worker, weir_lsn lsn, enum weir__level level)
{
    struct storm *const storm = worker->ctx;
    if (weir__load(&storm->toy.said[level], acquire) <= lsn) {
        worker_fail(worker,
                    "LSN %" PRIu64 " was told to have reached level %d too early",
                    lsn,
                    level);
    }
}

static void wait_somehow(struct worker *worker, const struct weir__place *place)
{
    struct storm *const storm = worker->ctx;
    struct weir__stage *const stage = &storm->toy.stage;
    const uint64_t what = random_below(&worker->random, 10);
    const enum weir__level level = what % 2 == 0 ? WEIR__LEVEL_DURABLE : WEIR__LEVEL_WRITTEN;
    int code = 0;

    if (what < 4) {
        const bool known = what < 2;
        code = weir__stage_wait(stage,
                                place->lsn,
                                level,
                                known ? place->slot : WEIR__SLOT_NONE,
                                place->seq,
                                WEIR__NEVER);
        if (code == 0) {
            check_level(worker, place->lsn, level);
        }
    } else if (what == 4) {
        code = weir__stage_wait_all(stage, WEIR__LEVEL_DURABLE, WEIR__NEVER);
        if (code == 0) {
            check_level(worker, place->lsn, WEIR__LEVEL_DURABLE);
        }
    } else if (what == 5) {
        code = weir__stage_wait_complete(stage, place->lsn, WEIR__NEVER);
        if (code == 0 && weir__load(&stage->complete, acquire) <= place->lsn) {
            worker_fail(worker, "LSN %" PRIu64 " is not complete", place->lsn);
        }
    } else if (what == 6) {
        /* A position that may not be there for long. */
        code = weir__stage_wait(stage,
                                place->lsn + random_below(&worker->random, 3 * SLOT_BYTES),
                                level,
                                WEIR__SLOT_NONE,
                                0,
                                weir__now_ns() + random_below(&worker->random, 1000000));
        code = code == -ETIMEDOUT ? 0 : code;
    }
    if (code == 0 || expected_end(storm, code)) {
        return;
    }
    worker_fail(worker, "wait %" PRIu64 ": %d", what, code);
}

static void produce(struct worker *worker)
{
    struct storm *const storm = worker->ctx;
    struct toy *const toy = &storm->toy;
    unsigned *const count = &storm->counts[worker->index];

    while (*count < storm->records && worker->failure[0] == '\0') {
        const uint64_t bytes = random_bytes(&worker->random);
        const uint64_t how = random_below(&worker->random, 4);
        const uint64_t deadline_ns = how == 0 ? 0
                                     : how == 1
                                         ? weir__now_ns() + random_below(&worker->random, 2000000)
                                         : WEIR__NEVER;
        const weir_lsn returned = weir__load(&storm->returned, acquire);
        struct weir__place place;
        const int code = weir__stage_reserve(&toy->stage, bytes, deadline_ns, &place);
        if (expected_end(storm, code)) {
            break;
        }
        if (code != 0) {
            if (code != -ENOSPC && !(code == -EAGAIN && deadline_ns == 0) &&
                !(code == -ETIMEDOUT && how == 1)) {
                worker_fail(worker, "reserve: %d", code);
            }
            random_pause(&worker->random);
            continue;
        }
        if (place.lsn <= returned) {
            worker_fail(worker,
                        "LSN %" PRIu64 " was given out after %" PRIu64 " had been returned",
                        place.lsn,
                        returned);
        }
        random_pause(&worker->random);
        toy_fill(&place);
        storm->appended[worker->index][(*count)++] =
            (struct appended){place.lsn, place.units, place.seq};
        if (random_below(&worker->random, 2) == 0) {
            weir__stage_commit(&toy->stage, &place, 1);
        } else if (weir__stage_commit_alone(&toy->stage, &place, 1)) {
            toy_alone(toy);
        }
        raise_returned(storm, place.lsn);
        wait_somehow(worker, &place);
    }
    weir__fetch_sub(&storm->producing, 1u, acq_rel);
}

/* Prepares segments late, and now and then says for a while that it cannot. */
static void keep(struct worker *worker)
{
    struct storm *const storm = worker->ctx;
    struct toy *const toy = &storm->toy;
    while (weir__load(&storm->done, acquire) == 0) {
        const uint64_t prepared = weir__load(&toy->prepared_end, relaxed);
        if (weir__load(&toy->current_end, relaxed) < prepared) {
            weir__sleep_ns(50000);
            continue;
        }
        weir__sleep_ns(random_below(&worker->random, 300000));
        if (storm->space_comes_and_goes && random_below(&worker->random, 4) == 0) {
            weir__store(&toy->space_error, -ENOSPC, release);
            weir__stage_frontier_moved(&toy->stage);
            weir__sleep_ns(random_below(&worker->random, 1000000));
            weir__store(&toy->space_error, 0, release);
        }
        weir__store(&toy->prepared_end, prepared + SEGMENT, release);
        weir__stage_frontier_moved(&toy->stage);
    }
}

/* Copies batches from memory while they may be taken away. */
static void read_batches(struct worker *worker)
{
    struct storm *const storm = worker->ctx;
    struct toy *const toy = &storm->toy;
    uint8_t *const bytes = malloc(OVERSIZE_BYTES);
    if (bytes == NULL) {
        abort();
    }
    while (weir__load(&storm->done, acquire) == 0) {
        (void)pthread_mutex_lock(&toy->ring_mutex);
        const uint64_t shown_end = toy->shown_end;
        (void)pthread_mutex_unlock(&toy->ring_mutex);
        if (shown_end == 0) {
            weir__sleep_ns(50000);
            continue;
        }
        const uint64_t back = random_below(&worker->random, 6);
        const struct toy_batch *const batch =
            &toy->batches[back < shown_end ? shown_end - 1 - back : 0];
        const size_t whole = WEIR__BATCH_HEADER_BYTES + (size_t)batch->units * WEIR__UNIT;
        const size_t got = weir__stage_copy(&toy->stage, batch->prev_end, bytes, OVERSIZE_BYTES);
        if (got != 0 && got != whole) {
            worker_fail(worker, "a batch of %zu bytes was copied as %zu", whole, got);
        }
        if (got == whole && !toy_bytes_hold(bytes, batch->base, batch->units)) {
            worker_fail(worker, "the copy at LSN %" PRIu64 " holds other bytes", batch->base);
        }
        random_pause(&worker->random);
    }
    free(bytes);
}

struct unit_range {
    weir_lsn lsn;
    uint64_t bytes;
    uint64_t seq;
};

static int range_order(const void *a, const void *b)
{
    const struct unit_range *const x = a;
    const struct unit_range *const y = b;
    return (x->lsn > y->lsn) - (x->lsn < y->lsn);
}

/* Every batch is filled from its first unit to its last by records that touch each other and do not
 * overlap. */
static void check_tiling(struct storm *storm)
{
    struct toy *const toy = &storm->toy;
    static struct unit_range ranges[PRODUCERS_MAX * RECORDS_MAX];
    size_t count = 0;
    for (unsigned p = 0; p < storm->producers; p++) {
        for (unsigned i = 0; i < storm->counts[p]; i++) {
            const struct appended *const appended = &storm->appended[p][i];
            if (i > 0) {
                assert_true(appended->lsn > storm->appended[p][i - 1].lsn);
            }
            ranges[count++] = (struct unit_range){appended->lsn,
                                                  (uint64_t)appended->units * WEIR__UNIT,
                                                  appended->seq};
        }
    }
    qsort(ranges, count, sizeof ranges[0], range_order);

    const bool all = storm->end != END_FAILURE;
    size_t at = 0;
    weir_lsn prev_end = TOY_BLOCK;
    for (uint64_t seq = 0; seq < toy->taken_end && at < count; seq++) {
        const struct toy_batch *const batch = &toy->batches[seq];
        if (!batch->taken) {
            assert_false(all); /* after a failure some never became complete */
            return;
        }
        assert_int_equal(batch->prev_end, prev_end);
        assert_true(batch->base == prev_end || batch->base % SEGMENT == TOY_BLOCK);
        assert_int_equal(batch->base / SEGMENT, (batch->end - 1) / SEGMENT);
        prev_end = batch->end;
        weir_lsn due = batch->base + WEIR__BATCH_HEADER_BYTES;
        const weir_lsn end = due + (uint64_t)batch->units * WEIR__UNIT;
        uint32_t records = 0;
        while (at < count && ranges[at].lsn < end) {
            assert_int_equal(ranges[at].lsn, due);
            assert_int_equal(ranges[at].seq, seq);
            due += ranges[at].bytes;
            records++;
            at++;
        }
        assert_int_equal(due, end);
        assert_int_equal(records, batch->records);
    }
    if (all) {
        assert_int_equal(at, count);
        assert_int_equal(toy->part.next_ack, toy->taken_end);
        assert_int_equal(toy->part.next_ack, toy->stage.role.seq);
        for (int level = 0; level < WEIR__LEVELS; level++) {
            assert_int_equal(weir__load(&toy->stage.level[level], acquire), prev_end);
        }
        assert_int_equal(weir__load(&toy->stage.complete, acquire), prev_end);
    }
}

static bool nobody_produces(void *ctx)
{
    return weir__load(&((struct storm *)ctx)->producing, acquire) == 0;
}

static uint64_t storms_lent; /* how often a producer has played the flusher */

static void run_storm(uint64_t seed, enum storm_end end)
{
    static struct storm storm;
    struct random random = {seed};
    struct workers producers;
    struct workers keeper;
    struct workers readers;
    const struct toy_config config = {
        .slots = 2 + (uint32_t)random_below(&random, 4),
        .slot_bytes = SLOT_BYTES,
        .oversize_buffers = 1 + (uint32_t)random_below(&random, 3),
        .oversize_bytes = OVERSIZE_BYTES,
        .segment_bytes = SEGMENT,
        .segments = 1 + random_below(&random, 2),
    };

    memset(&storm, 0, sizeof storm);
    storm.producers = 1 + (unsigned)random_below(&random, PRODUCERS_MAX);
    storm.records = 20 + (unsigned)random_below(&random, RECORDS_MAX - 20);
    storm.end = end;
    storm.space_comes_and_goes = random_below(&random, 3) == 0;
    toy_make(&storm.toy, &config);
    weir__store(&storm.producing, storm.producers, release);
    toy_start(&storm.toy, random_next(&random));
    workers_start(&keeper, 1, keep, &storm, random_next(&random));
    workers_start(&readers, 1, read_batches, &storm, random_next(&random));
    workers_start(&producers, storm.producers, produce, &storm, random_next(&random));
    if (end != END_WHEN_DONE) {
        weir__sleep_ns(random_below(&random, 3000000));
        if (end == END_SHUTDOWN) {
            weir__stage_shut(&storm.toy.stage);
        } else {
            weir__stage_fail(&storm.toy.stage);
        }
    }
    assert_true(wait_until(nobody_produces, &storm));
    const bool good = workers_join(&producers);
    if (end == END_WHEN_DONE) {
        assert_int_equal(weir__stage_wait_all(&storm.toy.stage, WEIR__LEVEL_DURABLE, WEIR__NEVER),
                         0);
        weir__stage_shut(&storm.toy.stage);
    }
    assert_int_equal(weir__stage_wait_drained(&storm.toy.stage, weir__now_ns() + TEST_PATIENCE_NS),
                     0);
    weir__store(&storm.done, 1u, release);
    toy_join(&storm.toy);
    workers_finish(&keeper);
    workers_finish(&readers);
    assert_true(good);
    assert_string_equal(storm.toy.failure, "");
    storms_lent += weir__load(&storm.toy.lent, relaxed);
    check_tiling(&storm);
    toy_destroy(&storm.toy);
}

/* The round that failed; told when the next test begins, or at the end. */
static uint64_t failing_seed;

static void tell_failing_seed(void)
{
    if (failing_seed != 0) {
        (void)fprintf(stderr, "failed in a round with --seed %" PRIu64 "\n", failing_seed);
    }
    failing_seed = 0;
}

static void storms(enum storm_end end)
{
    const unsigned rounds = test_rounds(250);
    tell_failing_seed();
    for (unsigned i = 0; i < rounds; i++) {
        failing_seed = test_seed() + i * UINT64_C(1000003);
        run_storm(failing_seed, end);
    }
    failing_seed = 0;
    print_message("a producer played the flusher %llu times\n", (unsigned long long)storms_lent);
}

static void a_storm_leaves_every_record_in_its_place(void **state)
{
    (void)state;
    storms(END_WHEN_DONE);
}

static void a_shutdown_in_a_storm_loses_nothing_that_was_reserved(void **state)
{
    (void)state;
    storms(END_SHUTDOWN);
}

static void a_failure_in_a_storm_lets_everybody_go(void **state)
{
    (void)state;
    storms(END_FAILURE);
}

/* ---- who is woken ---------------------------------------------------------------------------- */

#define WAITERS 4u

struct sleepers {
    struct toy *toy;
    struct weir__place place[2];
    WEIR__ATOMIC(uint32_t) threads[2 * WAITERS]; /* their kernel ids */
};

static void sleep_for_ack(struct worker *worker)
{
    struct sleepers *const sleepers = worker->ctx;
    const struct weir__place *const place = &sleepers->place[worker->index / WAITERS];
    weir__store(&sleepers->threads[worker->index], (uint32_t)syscall(SYS_gettid), release);
    const int code = weir__stage_wait(&sleepers->toy->stage,
                                      place->lsn,
                                      WEIR__LEVEL_DURABLE,
                                      worker->index % 2 == 0 ? place->slot : WEIR__SLOT_NONE,
                                      place->seq,
                                      WEIR__NEVER);
    if (code != 0) {
        worker_fail(worker, "wait: %d", code);
    }
    if (weir__load(&sleepers->toy->stage.level[WEIR__LEVEL_DURABLE], acquire) <= place->lsn) {
        worker_fail(worker, "woken too early");
    }
}

/* State and count of voluntary switches: a thread that sleeps without being woken switches no more.
 */
static bool thread_sleeps(uint32_t thread, uint64_t *switches_out)
{
    char path[64];
    char line[128];
    char state = '?';
    (void)snprintf(path, sizeof path, "/proc/self/task/%u/status", thread);
    FILE *const file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "State: %c", &state);
        (void)sscanf(line, "voluntary_ctxt_switches: %" SCNu64, switches_out);
    }
    (void)fclose(file);
    return state == 'S';
}

static bool all_asleep(void *ctx)
{
    struct sleepers *const sleepers = ctx;
    for (unsigned i = 0; i < 2 * WAITERS; i++) {
        const uint32_t thread = weir__load(&sleepers->threads[i], acquire);
        uint64_t switches;
        if (thread == 0 || !thread_sleeps(thread, &switches)) {
            return false;
        }
    }
    /* Asleep on the words that this is about, not on something else on the way. */
    for (int i = 0; i < 2; i++) {
        const struct weir__slot *const slot = &sleepers->toy->stage.slots[sleepers->place[i].slot];
        if ((weir__load(&slot->ack[WEIR__LEVEL_DURABLE], acquire) & ACK_WAITERS) == 0) {
            return false;
        }
    }
    return weir__stage_waits(&sleepers->toy->stage, WEIR__LEVEL_DURABLE) == 2 * WAITERS;
}

/* Two batches, four sleepers each: the acknowledgement of one is nothing to those of the other. */
static void only_the_waiters_of_the_acknowledged_batch_are_woken(void **state)
{
    (void)state;
    static struct toy toy;
    struct sleepers sleepers = {.toy = &toy};
    struct workers workers;
    uint64_t before[WAITERS];
    uint64_t after[WAITERS];
    const struct toy_config config = {.slots = 4,
                                      .slot_bytes = SLOT_BYTES,
                                      .oversize_buffers = 1,
                                      .oversize_bytes = OVERSIZE_BYTES,
                                      .segment_bytes = SEGMENT,
                                      .segments = 4};
    toy_make(&toy, &config);
    toy_turn(&toy);
    assert_int_equal(toy_append(&toy, SLOT_BYTES - 96, 0, &sleepers.place[0]), 0);
    assert_int_equal(toy_append(&toy, SLOT_BYTES - 96, 0, &sleepers.place[1]), 0);
    struct weir__place third;
    assert_int_equal(toy_append(&toy, 8, 0, &third), 0);
    assert_true(toy_take(&toy));
    assert_true(toy_take(&toy));
    toy_show(&toy);
    workers_start(&workers, 2 * WAITERS, sleep_for_ack, &sleepers, 1);
    assert_true(wait_until(all_asleep, &sleepers));
    for (unsigned i = 0; i < WAITERS; i++) {
        assert_true(thread_sleeps(weir__load(&sleepers.threads[WAITERS + i], acquire), &before[i]));
    }

    struct weir__slot *const second = &toy.stage.slots[sleepers.place[1].slot];
    const uint32_t word = weir__load(&second->ack[WEIR__LEVEL_DURABLE], acquire);
    const uint32_t level_gen = weir__load(&toy.stage.level_gen[WEIR__LEVEL_DURABLE], acquire);
    toy.part.next_ack++;
    toy_acknowledge(&toy, &toy.batches[0], WEIR__LEVEL_WRITTEN);
    toy_acknowledge(&toy, &toy.batches[0], WEIR__LEVEL_DURABLE);
    for (unsigned i = 0; i < WAITERS; i++) {
        (void)pthread_join(workers.worker[i].thread, NULL);
        assert_string_equal(workers.worker[i].failure, "");
    }
    assert_int_equal(weir__load(&toy.stage.counters.ack_wakes, relaxed), 1);
    assert_int_equal(level_gen & 1u, 0); /* nobody slept on the level as such */
    assert_int_equal(weir__load(&second->ack[WEIR__LEVEL_DURABLE], acquire), word);
    weir__sleep_ns(20000000); /* a wrong wake-up would have come through by now; a right program
                                 does not depend on it */
    for (unsigned i = 0; i < WAITERS; i++) {
        assert_true(thread_sleeps(weir__load(&sleepers.threads[WAITERS + i], acquire), &after[i]));
        assert_int_equal(after[i], before[i]);
    }

    toy.part.next_ack++;
    toy_acknowledge(&toy, &toy.batches[1], WEIR__LEVEL_WRITTEN);
    toy_acknowledge(&toy, &toy.batches[1], WEIR__LEVEL_DURABLE);
    for (unsigned i = WAITERS; i < 2 * WAITERS; i++) {
        (void)pthread_join(workers.worker[i].thread, NULL);
        assert_string_equal(workers.worker[i].failure, "");
    }
    assert_int_equal(weir__load(&toy.stage.counters.ack_wakes, relaxed), 2);
    assert_string_equal(toy.failure, "");
    toy_destroy(&toy);
}

/* ---- every place to sleep -------------------------------------------------------------------- */

enum bed {
    BED_OPEN,     /* a closer has the role and no slot */
    BED_FREE,     /* is that closer */
    BED_OVERSIZE, /* the buffer is taken */
    BED_DURABLE,
    BED_WRITTEN,
    BED_FUTURE,
    BED_COMPLETE,
    BED_ALL,
    BED_DRAINED,
    BEDS
};

struct dormitory {
    struct toy *toy;
    struct weir__place held; /* reserved, not committed */
    WEIR__ATOMIC(uint32_t) threads[BEDS];
    int codes[BEDS];
};

static void lie_down(struct worker *worker)
{
    struct dormitory *const dormitory = worker->ctx;
    struct weir__stage *const stage = &dormitory->toy->stage;
    const struct weir__place *const held = &dormitory->held;
    struct weir__place place;
    int code = 0;

    weir__store(&dormitory->threads[worker->index], (uint32_t)syscall(SYS_gettid), release);
    switch ((enum bed)worker->index) {
    case BED_OPEN:
    case BED_FREE: /* whoever comes second */
        code = weir__stage_reserve(stage, SLOT_BYTES - 96, WEIR__NEVER, &place);
        break;
    case BED_OVERSIZE:
        code = weir__stage_reserve(stage, SLOT_BYTES, WEIR__NEVER, &place);
        break;
    case BED_DURABLE:
        code = weir__stage_wait(stage,
                                held->lsn,
                                WEIR__LEVEL_DURABLE,
                                held->slot,
                                held->seq,
                                WEIR__NEVER);
        break;
    case BED_WRITTEN:
        code = weir__stage_wait(stage,
                                held->lsn,
                                WEIR__LEVEL_WRITTEN,
                                WEIR__SLOT_NONE,
                                0,
                                WEIR__NEVER);
        break;
    case BED_FUTURE:
        code = weir__stage_wait(stage,
                                SEGMENT * 9,
                                WEIR__LEVEL_DURABLE,
                                WEIR__SLOT_NONE,
                                0,
                                WEIR__NEVER);
        break;
    case BED_COMPLETE:
        code = weir__stage_wait_complete(stage, held->lsn, WEIR__NEVER);
        break;
    case BED_ALL:
        code = weir__stage_wait_all(stage, WEIR__LEVEL_DURABLE, WEIR__NEVER);
        break;
    case BED_DRAINED:
        code = weir__stage_wait_drained(stage, WEIR__NEVER);
        break;
    default:
        break;
    }
    dormitory->codes[worker->index] = code;
}

static bool all_in_bed(void *ctx)
{
    struct dormitory *const dormitory = ctx;
    for (unsigned i = 0; i < BEDS; i++) {
        const uint32_t thread = weir__load(&dormitory->threads[i], acquire);
        uint64_t switches;
        if (thread == 0 || !thread_sleeps(thread, &switches)) {
            return false;
        }
    }
    return true;
}

static void wake_all(bool failure)
{
    static struct toy toy;
    struct dormitory dormitory = {.toy = &toy};
    struct workers workers;
    struct weir__place place;
    struct weir__place big;
    const struct toy_config config = {.slots = 2,
                                      .slot_bytes = SLOT_BYTES,
                                      .oversize_buffers = 1,
                                      .oversize_bytes = OVERSIZE_BYTES,
                                      .segment_bytes = SEGMENT,
                                      .segments = 4};
    toy_make(&toy, &config);
    toy_turn(&toy);
    assert_int_equal(weir__stage_reserve(&toy.stage, SLOT_BYTES, 0, &big), 0);
    assert_int_equal(weir__stage_reserve(&toy.stage, 80, 0, &dormitory.held), 0);
    assert_int_equal(toy_append(&toy, SLOT_BYTES - 96, 0, &place), 0);
    workers_start(&workers, BEDS, lie_down, &dormitory, 1);
    assert_true(wait_until(all_in_bed, &dormitory));

    if (failure) {
        weir__stage_fail(&toy.stage);
        for (unsigned i = 0; i < BED_DRAINED; i++) {
            (void)pthread_join(workers.worker[i].thread, NULL);
            assert_int_equal(dormitory.codes[i], WEIR_EFAILED);
        }
        weir__stage_leave(&toy.stage);
        (void)pthread_join(workers.worker[BED_DRAINED].thread, NULL);
        assert_int_equal(dormitory.codes[BED_DRAINED], 0);
    } else {
        weir__stage_shut(&toy.stage);
        toy_turn(&toy);
        for (unsigned i = BED_OPEN; i <= BED_OVERSIZE; i++) {
            (void)pthread_join(workers.worker[i].thread, NULL);
            assert_int_equal(dormitory.codes[i], WEIR_ESHUTDOWN);
        }
        /* What was reserved is still to come. */
        toy_fill(&big);
        weir__stage_commit(&toy.stage, &big, 1);
        toy_fill(&dormitory.held);
        weir__stage_commit(&toy.stage, &dormitory.held, 1);
        toy_turn(&toy);
        assert_int_equal(toy.part.next_ack, 3);
        assert_int_equal(toy.stage.role.seq, 3);
        weir__stage_leave(&toy.stage);
        for (unsigned i = BED_DURABLE; i < BEDS; i++) {
            (void)pthread_join(workers.worker[i].thread, NULL);
            assert_int_equal(dormitory.codes[i], i == BED_FUTURE ? WEIR_ESHUTDOWN : 0);
        }
    }
    for (unsigned i = 0; i < BEDS; i++) {
        assert_string_equal(workers.worker[i].failure, "");
    }
    assert_string_equal(toy.failure, "");
    toy_destroy(&toy);
}

static void a_failure_wakes_whoever_sleeps_wherever(void **state)
{
    (void)state;
    wake_all(true);
}

static void a_shutdown_wakes_whoever_sleeps_wherever(void **state)
{
    (void)state;
    wake_all(false);
}

/* The frontier has a bed of its own: oversize records wait there, holding a buffer. */
struct at_frontier {
    struct toy *toy;
    uint64_t bytes;
    WEIR__ATOMIC(uint32_t) thread;
    int code;
    struct weir__place place;
};

static void reserve_at_frontier(struct worker *worker)
{
    struct at_frontier *const at = worker->ctx;
    weir__store(&at->thread, (uint32_t)syscall(SYS_gettid), release);
    at->code = toy_append(at->toy, at->bytes, WEIR__NEVER, &at->place);
}

static bool waits_at_frontier(void *ctx)
{
    struct at_frontier *const at = ctx;
    const uint32_t thread = weir__load(&at->thread, acquire);
    uint64_t switches;
    return thread != 0 && weir__load(&at->toy->stage.at_frontier, acquire) != 0 &&
           thread_sleeps(thread, &switches);
}

static void those_at_the_frontier_go_on_when_it_moves(void **state)
{
    (void)state;
    enum { MOVES, SPACE_ENDS, SHUTDOWN, FAILURE, OUTCOMES };
    const int expected[OUTCOMES] = {0, -ENOSPC, WEIR_ESHUTDOWN, WEIR_EFAILED};
    for (unsigned i = 0; i < 2 * OUTCOMES; i++) {
        static struct toy toy;
        struct workers workers;
        struct weir__place place;
        const struct toy_config config = {.slots = 4,
                                          .slot_bytes = SLOT_BYTES,
                                          .oversize_buffers = 1,
                                          .oversize_bytes = OVERSIZE_BYTES,
                                          .segment_bytes = 16384,
                                          .segments = 1};
        struct at_frontier at = {.toy = &toy, .bytes = i < OUTCOMES ? 4000 : 12000, .code = 1};
        toy_make(&toy, &config);
        toy_turn(&toy);
        for (int j = 0; j < 3; j++) {
            assert_int_equal(toy_append(&toy, 4000, 0, &place), 0);
            toy_turn(&toy);
        }
        workers_start(&workers, 1, reserve_at_frontier, &at, 1);
        assert_true(wait_until(waits_at_frontier, &at));
        switch (i % OUTCOMES) {
        case MOVES:
            weir__store(&toy.prepared_end, 2 * config.segment_bytes, release);
            weir__stage_frontier_moved(&toy.stage);
            break;
        case SPACE_ENDS:
            weir__store(&toy.space_error, -ENOSPC, release);
            weir__stage_frontier_moved(&toy.stage);
            break;
        case SHUTDOWN:
            weir__stage_shut(&toy.stage);
            break;
        default:
            weir__stage_fail(&toy.stage);
            break;
        }
        toy_turn(&toy); /* the flusher's part: to open, or to pass the shutdown on */
        workers_finish(&workers);
        assert_int_equal(at.code, expected[i % OUTCOMES]);
        if (at.code == 0) {
            assert_int_equal(at.place.lsn,
                             config.segment_bytes + TOY_BLOCK + WEIR__BATCH_HEADER_BYTES);
        }
        toy_turn(&toy);
        assert_int_equal(weir__load(&toy.stage.oversize_free, acquire), 1);
        assert_string_equal(toy.failure, "");
        toy_destroy(&toy);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_waiters_of_the_acknowledged_batch_are_woken),
        cmocka_unit_test(a_failure_wakes_whoever_sleeps_wherever),
        cmocka_unit_test(a_shutdown_wakes_whoever_sleeps_wherever),
        cmocka_unit_test(those_at_the_frontier_go_on_when_it_moves),
        cmocka_unit_test(a_storm_leaves_every_record_in_its_place),
        cmocka_unit_test(a_shutdown_in_a_storm_loses_nothing_that_was_reserved),
        cmocka_unit_test(a_failure_in_a_storm_lets_everybody_go),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tell_failing_seed();
    return failed;
}
