/* SPDX-License-Identifier: Apache-2.0
 * No record is acknowledged before a sync that covers it has come back.
 *
 * Producers look at the image that a power cut would leave, at the very moment in which the log
 * says that their record is durable. The same producers also run over I/O that only says that it
 * syncs: then the look must find something, or it is worth nothing. */
#include "support/rig.h"
#include "support/threads.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PRODUCERS 6u
#define PAYLOAD_MAX 3000u
#define UNSURE_MAX 8u

struct look {
    struct rig *rig;
    unsigned records;
    pthread_mutex_t mutex;
    unsigned premature; /* guarded by mutex: acknowledged, and not in the image */
    bool report;        /* a premature one is a failure */
};

struct mine {
    weir_lsn lsn;
    uint64_t tag;
    size_t bytes;
};

/* The log has just said that this record is durable. */
static void acknowledged(struct worker *worker, const struct mine *mine)
{
    struct look *const look = worker->ctx;
    if (!rig_record_durable(look->rig, mine->lsn, mine->tag, mine->bytes)) {
        (void)pthread_mutex_lock(&look->mutex);
        look->premature++;
        (void)pthread_mutex_unlock(&look->mutex);
        if (look->report) {
            worker_fail(worker,
                        "record of %zu bytes at LSN %" PRIu64 " acknowledged before its sync",
                        mine->bytes,
                        mine->lsn);
        }
    }
    ledger_add(&look->rig->ledger, mine->lsn, mine->tag, mine->bytes);
}

/* Every form in which the log can say so: append_wait, wait, sync, the durable LSN. */
static void produce(struct worker *worker)
{
    struct look *const look = worker->ctx;
    struct weir_log *const log = look->rig->log;
    static _Thread_local uint8_t payload[PAYLOAD_MAX];
    struct mine unsure[UNSURE_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < look->records; i++) {
        struct mine *const mine = &unsure[count++];
        mine->tag = (uint64_t)(worker->index + 1) << 32 | i;
        mine->bytes = (size_t)random_below(&worker->random, PAYLOAD_MAX + 1);
        payload_fill(mine->tag, payload, mine->bytes);
        uint64_t form =
            count == UNSURE_MAX || i + 1 == look->records ? 1 : random_below(&worker->random, 6);
        int code;
        if (form == 0) {
            code = weir_append_wait(log, payload, mine->bytes, mine->tag, WEIR_DURABLE, &mine->lsn);
        } else {
            code = weir_append(log, payload, mine->bytes, mine->tag, &mine->lsn);
        }
        if (code == 0 && form == 1) {
            code = weir_sync(log, WEIR_FOREVER);
        } else if (code == 0 && form == 2) {
            code = weir_wait(log, mine->lsn, WEIR_DURABLE, WEIR_FOREVER);
        }
        if (code != 0) {
            worker_fail(worker, "append %u: %s", i, weir_error_name(code));
            return;
        }
        if (form <= 2) {
            for (unsigned j = 0; j < count; j++) {
                acknowledged(worker, &unsure[j]);
            }
            count = 0;
        } else if (form == 3) {
            const weir_lsn durable = weir_durable_lsn(log);
            unsigned kept = 0;
            for (unsigned j = 0; j < count; j++) {
                if (unsure[j].lsn < durable) {
                    acknowledged(worker, &unsure[j]);
                } else {
                    unsure[kept++] = unsure[j];
                }
            }
            count = kept;
        }
        random_pause(&worker->random);
    }
}

/* What was acknowledged until some moment must be in the image of a later one. */
static void cut_power(struct rig *rig, char why[256])
{
    struct ledger before;
    char crashed[TEMP_DIR_BYTES];

    ledger_init(&before);
    (void)pthread_mutex_lock(&rig->ledger.mutex);
    for (size_t i = 0; i < rig->ledger.count; i++) {
        const struct ledger_entry *const entry = &rig->ledger.entries[i];
        ledger_add(&before, entry->lsn, entry->tag, entry->bytes);
    }
    (void)pthread_mutex_unlock(&rig->ledger.mutex);
    temp_dir_make(crashed);
    fault_io_crash(&rig->fault, crashed);
    why[0] = '\0';
    (void)ledger_check_dir(&before, crashed, &rig->options, false, why);
    temp_dir_remove(crashed);
    ledger_exit(&before);
}

static void run_way(const struct rig_way *way, bool lie)
{
    struct rig rig;
    struct look look = {.rig = &rig, .records = test_rounds(120), .report = !lie};
    struct workers workers;
    char why[256];

    print_message("%s%s\n", way->name, lie ? ", lying" : "");
    rig_make(&rig, way);
    rig.fault.jitter = test_seed() | 1;
    assert_int_equal(rig_open(&rig), 0);
    if (lie) {
        fault_io_lie(&rig.fault, ".weir");
    }
    (void)pthread_mutex_init(&look.mutex, NULL);
    workers_start(&workers, PRODUCERS, produce, &look, test_seed());
    for (int i = 0; i < 3 && !lie; i++) {
        cut_power(&rig, why);
        assert_string_equal(why, "");
    }
    workers_finish(&workers);
    (void)pthread_mutex_destroy(&look.mutex);

    cut_power(&rig, why);
    if (lie) {
        assert_int_not_equal(look.premature, 0);
        assert_string_not_equal(why, "");
    } else {
        assert_int_equal(look.premature, 0);
        assert_string_equal(why, "");
        assert_int_equal(rig.ledger.count, PRODUCERS * look.records);
    }
    fault_io_heal(&rig.fault);
    assert_int_equal(rig_close(&rig), 0);
    assert_true(ledger_check_dir(&rig.ledger, rig.path, &rig.options, true, why));
    rig_destroy(&rig);
}

/* The promise that everything else rests on. */
static void no_acknowledgement_precedes_the_return_of_its_sync(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        if (rig_way_usable(&rig_ways[i])) {
            run_way(&rig_ways[i], false);
        } else {
            print_message("skipped, io_uring is refused here: %s\n", rig_ways[i].name);
        }
    }
}

/* The same test over a device that lies must find premature acknowledgements, and records missing
 * after a power cut. */
static void a_device_that_lies_is_found_out(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        if (rig_way_usable(&rig_ways[i])) {
            run_way(&rig_ways[i], true);
        }
    }
}

/* The flusher counts a batch just after it has woken those who wait for it. */
static bool hundred_counted(void *ctx)
{
    struct weir_stats stats;
    weir_stats(((struct rig *)ctx)->log, &stats);
    return stats.batches_durable >= 100;
}

/* One record after the other: none can share a sync with the one before. */
static void one_producer_gets_a_sync_for_every_batch(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct weir_stats stats;
        struct weir_stats before;
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        rig_make(&rig, &rig_ways[i]);
        assert_int_equal(rig_open(&rig), 0);
        weir_stats(rig.log, &before);
        const uint64_t after = fault_io_now(&rig.fault);
        for (uint64_t tag = 1; tag <= 100; tag++) {
            assert_int_equal(rig_append(&rig, tag, 128, NULL), 0);
        }
        assert_true(wait_until(hundred_counted, &rig));
        weir_stats(rig.log, &stats);
        const struct fault_look syncs = {.syncs = true,
                                         .name = ".weir",
                                         .after = after,
                                         .succeeded = true};
        const size_t counted = fault_io_count(&rig.fault, &syncs);
        assert_int_equal(stats.batches_durable, 100);
        assert_true(counted >= stats.batches_durable);
        assert_int_equal(counted, stats.syncs - before.syncs);
        rig_destroy(&rig);
    }
}

/* A sync that is held back holds back the acknowledgement, for as long as it takes. */
struct held {
    struct rig *rig;
    int code;
    uint64_t acknowledged_at;
};

static void append_one(struct worker *worker)
{
    struct held *const held = worker->ctx;
    held->code = rig_append(held->rig, 7, 100, NULL);
    held->acknowledged_at = fault_io_now(&held->rig->fault);
}

static void a_held_sync_holds_the_acknowledgement(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig_way_count; i++) {
        const struct rig_way *const way = &rig_ways[i];
        struct rig rig;
        struct held held = {.rig = &rig, .code = 1};
        struct workers workers;
        if (!rig_way_usable(way)) {
            continue;
        }
        rig_make(&rig, way);
        assert_int_equal(rig_open(&rig), 0);
        const struct fault_rule hold = {
            .kind = way->io == WEIR_IO_CHAIN ? FAULT_SYNC : FAULT_WRITE,
            .name = ".weir",
            .durable = FAULT_ANY_WRITE,
            .hold = true,
        };
        const uint64_t after = fault_io_now(&rig.fault);
        (void)fault_io_arm(&rig.fault, &hold);
        workers_start(&workers, 1, append_one, &held, test_seed());
        assert_true(fault_io_wait_held(&rig.fault, 1));
        assert_int_equal(weir_durable_lsn(rig.log), RIG_BLOCK);
        assert_int_equal(weir_sync(rig.log, 20000000), -ETIMEDOUT);
        fault_io_release(&rig.fault);
        workers_finish(&workers);
        assert_int_equal(held.code, 0);

        struct fault_op op;
        const struct fault_look syncs = {.syncs = true, .name = ".weir", .after = after};
        assert_true(fault_io_find(&rig.fault, &syncs, &op));
        assert_int_not_equal(op.ended, 0);
        assert_true(op.ended <= held.acknowledged_at);
        rig_destroy(&rig);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_acknowledgement_precedes_the_return_of_its_sync),
        cmocka_unit_test(a_device_that_lies_is_found_out),
        cmocka_unit_test(one_producer_gets_a_sync_for_every_batch),
        cmocka_unit_test(a_held_sync_holds_the_acknowledgement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
