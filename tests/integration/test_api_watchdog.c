/* SPDX-License-Identifier: Apache-2.0
 * A producer that sits on its reservation: the log tells of it, and, where it was asked to, gives
 * itself up. The producer here is parked between reservation and commit, through the stage's own
 * functions. */
#include "api/log.h"
#include "format/frame.h"
#include "port/clock.h"
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

static const struct rig_way *const posix_way = &rig_ways[8];

static void park(struct rig *rig, struct weir__place *place)
{
    assert_int_equal(weir__stage_reserve(&rig->log->stage, 64, WEIR__NEVER, place), 0);
}

/* The producer comes back, and gives its reservation up. */
static void unpark(struct rig *rig, const struct weir__place *place)
{
    const struct weir__frame frame = {.bytes = 64 - WEIR__FRAME_HEADER_BYTES,
                                      .type = WEIR__FRAME_SKIP};
    memset(place->at, 0, 64);
    weir__frame_encode(&frame, rig->log->frame_salt, place->lsn, place->at);
    weir__stage_commit(&rig->log->stage, place, 0);
}

static void check_dir(struct rig *rig, bool exact)
{
    char why[256] = "";
    (void)ledger_check_dir(&rig->ledger, rig->path, &rig->options, exact, why);
    assert_string_equal(why, "");
}

/* ---- the warning ----------------------------------------------------------------------------- */

static void a_parked_producer_is_told_of_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct weir__place place;
        struct event_seen event;
        weir_lsn lsn;
        uint8_t payload[100];
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        rig.options.stall_warn_ns = 30 * MS;
        assert_int_equal(rig_open(&rig), 0);
        assert_int_equal(rig_append(&rig, 1, 100, NULL), 0);
        park(&rig, &place);
        payload_fill(2, payload, sizeof payload);
        assert_int_equal(weir_append(rig.log, payload, sizeof payload, 2, &lsn), 0);
        ledger_add(&rig.ledger, lsn, 2, sizeof payload);
        assert_true(events_wait(&rig.events, WEIR_EVENT_STALL, 1));
        assert_true(events_last(&rig.events, WEIR_EVENT_STALL, &event));
        assert_true(event.value >= 30 * MS);
        assert_true(event.lsn <= place.lsn && place.lsn - event.lsn < RIG_BLOCK);
        assert_string_not_equal(event.text, "");

        /* Nothing behind it becomes durable; what was, is; readers see what is. */
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, (int64_t)(300 * MS)), -ETIMEDOUT);
        assert_int_equal(weir_sync(rig.log, (int64_t)(10 * MS)), -ETIMEDOUT);
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_STALL), 1);
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 0);
        assert_int_equal(weir_log_error(rig.log, NULL), 0);

        unpark(&rig, &place);
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, WEIR_FOREVER), 0);
        assert_int_equal(rig_append(&rig, 3, 100, NULL), 0);
        struct weir_stats stats;
        weir_stats(rig.log, &stats);
        assert_int_equal(stats.stalls_straggler, 1);
        assert_int_equal(rig_close(&rig), 0);
        check_dir(&rig, true); /* the reservation that was given up is no record */
        rig_destroy(&rig);
    }
}

/* So is one whose record is larger than a slot. */
static void a_parked_oversize_producer_is_told_of(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct weir__place place;
        struct event_seen event;
        weir_lsn lsn;
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        rig.options.stall_warn_ns = 30 * MS;
        assert_int_equal(rig_open(&rig), 0);
        const uint32_t span = rig.log->options.slot_bytes + 4096;
        assert_int_equal(weir__stage_reserve(&rig.log->stage, span, WEIR__NEVER, &place), 0);
        assert_int_equal(weir_append(rig.log, NULL, 0, 0, &lsn), 0);
        assert_true(events_wait(&rig.events, WEIR_EVENT_STALL, 1));
        assert_true(events_last(&rig.events, WEIR_EVENT_STALL, &event));
        assert_true(event.value >= 30 * MS);
        assert_true(event.lsn <= place.lsn && place.lsn - event.lsn < RIG_BLOCK);
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, (int64_t)(10 * MS)), -ETIMEDOUT);

        const struct weir__frame frame = {.bytes = span - WEIR__FRAME_HEADER_BYTES,
                                          .type = WEIR__FRAME_SKIP};
        memset(place.at, 0, span);
        weir__frame_encode(&frame, rig.log->frame_salt, place.lsn, place.at);
        weir__stage_commit(&rig.log->stage, &place, 0);
        assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, WEIR_FOREVER), 0);
        assert_int_equal(rig_close(&rig), 0);
        rig_destroy(&rig);
    }
}

/* Another one, later, is told of again. */
static void each_stall_is_told_of(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    rig.options.stall_warn_ns = 20 * MS;
    assert_int_equal(rig_open(&rig), 0);
    for (unsigned stall = 1; stall <= 3; stall++) {
        struct weir__place place;
        park(&rig, &place);
        assert_int_equal(weir_append(rig.log, NULL, 0, 0, NULL), 0);
        assert_true(events_wait(&rig.events, WEIR_EVENT_STALL, stall));
        unpark(&rig, &place);
        assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    }
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_STALL), 3);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* Producers that are merely slow are nothing to tell of. */
static void a_short_stall_is_nothing(void **state)
{
    (void)state;
    struct rig rig;
    rig_make(&rig, posix_way);
    rig.options.stall_warn_ns = TEST_PATIENCE_NS;
    rig.options.stall_limit_ns = TEST_PATIENCE_NS;
    assert_int_equal(rig_open(&rig), 0);
    for (int i = 0; i < 10; i++) {
        struct weir__place place;
        park(&rig, &place);
        assert_int_equal(weir_append(rig.log, NULL, 0, 0, NULL), 0);
        weir__sleep_ns(15 * MS);
        unpark(&rig, &place);
    }
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_STALL), 0);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 0);
    assert_int_equal(rig_close(&rig), 0);
    rig_destroy(&rig);
}

/* ---- the limit ------------------------------------------------------------------------------- */

struct stuck {
    struct rig *rig;
    int codes[4];
};

static void be_stuck(struct worker *worker)
{
    struct stuck *const stuck = worker->ctx;
    struct weir_log *const log = stuck->rig->log;
    switch (worker->index) {
    case 0:
        stuck->codes[0] = weir_append_wait(log, "x", 1, 0, WEIR_DURABLE, NULL);
        break;
    case 1:
        stuck->codes[1] = weir_sync(log, WEIR_FOREVER);
        stuck->codes[1] =
            stuck->codes[1] == 0 ? WEIR_EFAILED : stuck->codes[1]; /* too early to wait */
        break;
    case 2:
        stuck->codes[2] = weir_wait(log, UINT64_MAX, WEIR_WRITTEN, WEIR_FOREVER);
        break;
    default:
        stuck->codes[3] = 0;
        while (stuck->codes[3] == 0) {
            stuck->codes[3] = weir_append(log, "0123456789", 10, 0, NULL);
        }
        break;
    }
}

static void beyond_the_limit_the_log_gives_itself_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct stuck stuck = {.rig = &rig};
        struct workers workers;
        struct weir__place place;
        struct weir_error error;
        struct event_seen event;
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        rig.options.stall_warn_ns = 10 * MS;
        rig.options.stall_limit_ns = 60 * MS;
        assert_int_equal(rig_open(&rig), 0);
        for (uint64_t tag = 1; tag <= 5; tag++) {
            assert_int_equal(rig_append(&rig, tag, 100, NULL), 0);
        }
        const weir_lsn durable = weir_durable_lsn(rig.log);
        park(&rig, &place);
        workers_start(&workers, 4, be_stuck, &stuck, test_seed());
        workers_finish(&workers);
        for (int j = 0; j < 4; j++) {
            assert_int_equal(stuck.codes[j], WEIR_EFAILED);
        }
        assert_int_equal(weir_log_error(rig.log, &error), WEIR_ESTALLED);
        assert_true(error.lsn <= place.lsn && place.lsn - error.lsn < 4 * RIG_BLOCK);
        assert_int_equal(error.system_code, 0);
        assert_string_not_equal(error.text, "");
        assert_true(events_wait(&rig.events, WEIR_EVENT_POISON, 1));
        assert_true(events_last(&rig.events, WEIR_EVENT_POISON, &event));
        assert_int_equal(event.code, WEIR_ESTALLED);
        assert_int_equal(weir_append(rig.log, "x", 1, 0, NULL), WEIR_EFAILED);
        assert_int_equal(weir_durable_lsn(rig.log), durable);

        /* The producer wakes up at last, and does no harm. */
        unpark(&rig, &place);
        assert_int_equal(weir_durable_lsn(rig.log), durable);
        assert_int_equal(rig_close(&rig), WEIR_EFAILED);
        assert_int_equal(rig.error.lsn, durable);
        assert_true(events_wait(&rig.events, WEIR_EVENT_POISON, 1)); /* told behind it */
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 1);
        check_dir(&rig, false);
        rig_destroy(&rig);
    }
}

static bool flusher_sleeps(void *ctx)
{
    struct weir_log *const log = ((struct rig *)ctx)->log;
    const uint32_t how = weir__load(&log->stage.fl_sleep, acquire);
    /* With the spare segment ready nobody else has a reason to wake it. */
    return weir__load(&log->keeper.counters.segments_prefilled, relaxed) > 0 &&
           (how == WEIR__FL_IDLE || how == WEIR__FL_LENDS);
}

/* Nobody else commits to that batch, so nobody closes it: what the reservation holds up is a sync.
 * It is told of all the same. */
static void a_lone_parked_producer_is_told_of(void **state)
{
    (void)state;
    struct rig rig;
    struct weir__place place;
    rig_make(&rig, posix_way);
    rig.options.stall_warn_ns = 20 * MS;
    assert_int_equal(rig_open(&rig), 0);
    assert_true(
        wait_until(flusher_sleeps, &rig)); /* a reservation does not wake it, a commit does */
    weir__sleep_ns(100 * MS);
    park(&rig, &place);
    assert_int_equal(weir_sync(rig.log, (int64_t)(3000 * MS)), -ETIMEDOUT);
    /* The sync that gave up has left its wish behind. */
    const bool told = events_wait(&rig.events, WEIR_EVENT_STALL, 1);
    unpark(&rig, &place);
    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
    assert_int_equal(rig_close(&rig), 0);
    assert_true(told);
    assert_int_equal(events_count(&rig.events, WEIR_EVENT_STALL), 1);
    rig_destroy(&rig);
}

/* ---- the flusher ----------------------------------------------------------------------------- */

/* A write that does not come back is told of, each time once. It is nobody's fault: nothing is given
 * up, whatever the limit, and no producer is blamed for what it has committed meanwhile. When the
 * write comes back, everything is acknowledged. */
static void a_flusher_that_does_not_come_back_is_told_of(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct event_seen event;
        static uint8_t payload[20000];
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        rig.options.stall_warn_ns = 30 * MS;
        rig.options.stall_limit_ns = 60 * MS;
        assert_int_equal(rig_open(&rig), 0);
        for (unsigned turn = 0; turn < 2; turn++) {
            const weir_lsn durable = weir_durable_lsn(rig.log);
            weir_lsn lsn;
            (void)fault_io_arm(&rig.fault,
                               &(struct fault_rule){.kind = FAULT_WRITE,
                                                    .name = "-",
                                                    .offset_from = RIG_BLOCK,
                                                    .hold = true});
            /* The last one is larger than a slot. */
            for (uint64_t tag = 3 * turn; tag < 3 * turn + 3; tag++) {
                const size_t bytes = tag == 3 * turn + 2 ? sizeof payload : 100;
                payload_fill(tag, payload, bytes);
                assert_int_equal(weir_append(rig.log, payload, bytes, tag, &lsn), 0);
                ledger_add(&rig.ledger, lsn, tag, bytes);
                assert_true(fault_io_wait_held(&rig.fault, 1));
            }
            assert_true(events_wait(&rig.events, WEIR_EVENT_SLOW, turn + 1));
            assert_true(events_last(&rig.events, WEIR_EVENT_SLOW, &event));
            assert_true(event.value >= 30 * MS);
            assert_int_equal(event.code, 0);
            assert_int_equal(event.lsn, durable);
            assert_string_not_equal(event.text, "");
            assert_int_equal(weir_wait(rig.log, lsn, WEIR_DURABLE, (int64_t)(300 * MS)),
                             -ETIMEDOUT);
            assert_int_equal(events_count(&rig.events, WEIR_EVENT_SLOW), turn + 1);
            fault_io_release(&rig.fault);
            assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
        }
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_STALL), 0);
        assert_int_equal(events_count(&rig.events, WEIR_EVENT_POISON), 0);
        assert_int_equal(weir_log_error(rig.log, NULL), 0);
        assert_int_equal(rig_close(&rig), 0);
        check_dir(&rig, true);
        rig_destroy(&rig);
    }
}

/* ---- the watchdog's time --------------------------------------------------------------------- */

/* A log of which only the stage is there, looked at by nobody but the test. */
struct bare {
    struct weir_log log;
    struct weir__mem mem;
    struct events events;
    WEIR__ATOMIC(uint64_t) prepared_end;
    WEIR__ATOMIC(int32_t) space_error;
    WEIR__ATOMIC(uint64_t) current_end;
    struct weir__stage_flusher part;
};

static void bare_make(struct bare *bare)
{
    memset(bare, 0, sizeof *bare);
    weir__mem_init(&bare->mem, NULL);
    events_init(&bare->events);
    weir__store(&bare->prepared_end, UINT64_C(1) << 20, relaxed);
    const struct weir__stage_config config = {.mem = &bare->mem,
                                              .slots = 2,
                                              .slot_bytes = 4096,
                                              .oversize_buffers = 1,
                                              .oversize_bytes = 8192,
                                              .block_bytes = RIG_BLOCK,
                                              .segment_bytes = UINT64_C(1) << 20,
                                              .prepared_end = &bare->prepared_end,
                                              .space_error = &bare->space_error,
                                              .current_end = &bare->current_end};
    const struct weir__position start = {.lsn = RIG_BLOCK};
    assert_int_equal(weir__stage_init(&bare->log.stage, &config, &start, 0, UINT64_C(1) << 20, 0),
                     0);
    bare->log.options.stall_warn_ns = 1000 * MS;
    bare->log.options.stall_limit_ns = 10000 * MS;
    bare->log.options.on_event = events_on;
    bare->log.options.event_ctx = &bare->events;
    (void)weir__stage_serve(&bare->log.stage, &bare->part, false);
}

static void bare_destroy(struct bare *bare)
{
    weir__stage_exit(&bare->log.stage);
    weir__mem_exit(&bare->mem);
    events_exit(&bare->events);
}

/* So many looks, a tick apart. */
static void look_often(struct bare *bare, uint64_t *now_ns, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        *now_ns += WEIR__KEEPER_TICK_NS;
        weir__log_watch(&bare->log, *now_ns);
    }
}

/* A process that was stopped for an hour has held nobody up: what was overdue by the clock is not when
 * it goes on. What is not mended by then is told of, and given up, in its time. */
static void judge(struct bare *bare, uint64_t *now_ns)
{
    look_often(bare, now_ns, 5);
    *now_ns += 3600000 * MS;
    weir__log_watch(&bare->log, *now_ns);
    assert_int_equal(events_count(&bare->events, WEIR_EVENT_STALL), 0);
    assert_int_equal(events_count(&bare->events, WEIR_EVENT_POISON), 0);
    look_often(bare, now_ns, 10);
    assert_int_equal(events_count(&bare->events, WEIR_EVENT_STALL), 1);
    *now_ns += 3600000 * MS;
    look_often(bare, now_ns, 10);
    assert_int_equal(events_count(&bare->events, WEIR_EVENT_POISON), 0);
    look_often(bare, now_ns, 100);
    assert_int_equal(events_count(&bare->events, WEIR_EVENT_STALL), 1);
    assert_int_equal(events_count(&bare->events, WEIR_EVENT_POISON), 1);
}

static void a_stopped_process_leaves_no_producer_overdue(void **state)
{
    (void)state;
    static struct bare bare;
    struct weir__place parked;
    uint64_t now_ns = weir__now_ns();
    bare_make(&bare);
    weir__log_watch(&bare.log, now_ns);
    assert_int_equal(weir__stage_reserve(&bare.log.stage, 64, 0, &parked), 0);
    (void)weir__stage_serve(&bare.log.stage, &bare.part, true); /* sealed, and it straggles */
    judge(&bare, &now_ns);
    bare_destroy(&bare);
}

static void a_stopped_process_leaves_no_lone_producer_overdue(void **state)
{
    (void)state;
    static struct bare bare;
    struct weir__place place;
    uint64_t now_ns = weir__now_ns();
    bare_make(&bare);
    weir__log_watch(&bare.log, now_ns);
    for (unsigned i = 0; i < 3; i++) {
        /* Each time it is another one. */
        assert_true(weir__stage_going_to_sleep(&bare.log.stage, &bare.part, WEIR__FL_LENDS, false));
        assert_int_equal(weir__stage_reserve(&bare.log.stage, 64, 0, &place), 0);
        memset(place.at, 0, 64);
        assert_true(weir__stage_commit_alone(&bare.log.stage, &place, 1));
        look_often(&bare, &now_ns, 9);
        (void)weir__stage_serve(&bare.log.stage, &bare.part, true);
        uint32_t slot;
        assert_true(weir__stage_take(&bare.log.stage, &slot));
        const weir_lsn end = weir__align_up(place.lsn + 64, RIG_BLOCK);
        weir__stage_acknowledge(&bare.log.stage, slot, place.seq, WEIR__LEVEL_DURABLE, end);
        bare.part.next_ack++;
        weir__stage_give(&bare.log.stage, slot);
        if (i < 2) {
            weir__stage_awake(&bare.log.stage);
        }
    }
    assert_int_equal(events_count(&bare.events, WEIR_EVENT_STALL), 0);
    look_often(&bare, &now_ns, 1);
    weir__stage_awake(&bare.log.stage);
    look_often(&bare, &now_ns, 1);

    assert_true(weir__stage_going_to_sleep(&bare.log.stage, &bare.part, WEIR__FL_LENDS, false));
    assert_int_equal(weir__stage_reserve(&bare.log.stage, 64, 0, &place), 0);
    assert_true(weir__stage_commit_alone(&bare.log.stage, &place, 1));
    judge(&bare, &now_ns);
    bare_destroy(&bare);
}

/* Nor a flusher: nobody plays it here. What is committed waits for it, in an open slot or in a sealed
 * one; what is only reserved does not, and where a producer is to blame, the flusher is not. */
static void a_stopped_process_leaves_no_flusher_overdue(void **state)
{
    (void)state;
    for (int sealed = 0; sealed < 2; sealed++) {
        static struct bare bare;
        struct weir__place place;
        struct weir__place parked;
        uint64_t now_ns = weir__now_ns();
        bare_make(&bare);
        weir__log_watch(&bare.log, now_ns);
        assert_int_equal(weir__stage_reserve(&bare.log.stage, 64, 0, &place), 0);
        assert_int_equal(weir__stage_reserve(&bare.log.stage, 64, 0, &parked), 0);
        weir__stage_commit(&bare.log.stage, &place, 1);
        look_often(&bare, &now_ns, 30);
        assert_int_equal(events_count(&bare.events, WEIR_EVENT_SLOW), 0);
        if (sealed) {
            (void)weir__stage_serve(&bare.log.stage, &bare.part, true);
            look_often(&bare, &now_ns, 30);
            assert_int_equal(events_count(&bare.events, WEIR_EVENT_STALL), 1);
            assert_int_equal(events_count(&bare.events, WEIR_EVENT_SLOW), 0);
        }
        weir__stage_commit(&bare.log.stage, &parked, 1);
        if (sealed) {
            look_often(&bare, &now_ns, 5);
            now_ns += 3600000 * MS;
            weir__log_watch(&bare.log, now_ns);
            assert_int_equal(events_count(&bare.events, WEIR_EVENT_SLOW), 0);
        }
        look_often(&bare, &now_ns, 10);
        assert_int_equal(events_count(&bare.events, WEIR_EVENT_SLOW), 1);
        look_often(&bare, &now_ns, 200);
        assert_int_equal(events_count(&bare.events, WEIR_EVENT_SLOW), 1);
        assert_int_equal(events_count(&bare.events, WEIR_EVENT_STALL), sealed);
        assert_int_equal(events_count(&bare.events, WEIR_EVENT_POISON), 0);
        bare_destroy(&bare);
    }
}

/* A log that was given up waits for nobody. */
static void a_failed_log_is_not_slow(void **state)
{
    (void)state;
    static struct bare bare;
    struct weir__place place;
    uint64_t now_ns = weir__now_ns();
    bare_make(&bare);
    weir__log_watch(&bare.log, now_ns);
    assert_int_equal(weir__stage_reserve(&bare.log.stage, 64, 0, &place), 0);
    weir__stage_commit(&bare.log.stage, &place, 1);
    look_often(&bare, &now_ns, 5);
    weir__stage_fail(&bare.log.stage);
    look_often(&bare, &now_ns, 30);
    assert_int_equal(events_count(&bare.events, WEIR_EVENT_SLOW), 0);
    bare_destroy(&bare);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_parked_producer_is_told_of_once),
        cmocka_unit_test(a_parked_oversize_producer_is_told_of),
        cmocka_unit_test(each_stall_is_told_of),
        cmocka_unit_test(a_short_stall_is_nothing),
        cmocka_unit_test(beyond_the_limit_the_log_gives_itself_up),
        cmocka_unit_test(a_lone_parked_producer_is_told_of),
        cmocka_unit_test(a_flusher_that_does_not_come_back_is_told_of),
        cmocka_unit_test(a_stopped_process_leaves_no_producer_overdue),
        cmocka_unit_test(a_stopped_process_leaves_no_lone_producer_overdue),
        cmocka_unit_test(a_stopped_process_leaves_no_flusher_overdue),
        cmocka_unit_test(a_failed_log_is_not_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
