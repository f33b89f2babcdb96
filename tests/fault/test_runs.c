/* SPDX-License-Identifier: Apache-2.0
 * Batches that wait go out in one write, and no more of them than a write may hold. A write that is
 * held lets them gather; no time counts. */
#include "drain/flusher.h"
#include "support/rig.h"
#include "support/threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RECORD_BYTES ((size_t)9000) /* one to a slot */
#define BATCH_BYTES ((uint64_t)3 * RIG_BLOCK)
#define RECORDS (WEIR__RUN_MAX + 8u)

/* More complete batches than a write's vector has room for, and fewer bytes than it may have. They go
 * out as a full one and the rest, end to end, and each is acknowledged. */
static void a_run_ends_at_the_most_batches_of_a_write(void **state)
{
    (void)state;
    static uint8_t payload[RECORD_BYTES];
    for (unsigned i = 0; i < rig_way_count; i++) {
        struct rig rig;
        struct fault_op *ops;
        char why[256] = "";
        weir_lsn lsn;
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        print_message("%s\n", rig_ways[i].name);
        rig_make(&rig, &rig_ways[i]);
        rig.options.slots = 5 * WEIR__RUN_MAX; /* a run is a quarter of them at most */
        rig.options.segment_bytes = (uint64_t)1 << 20;
        rig.options.max_inflight = 1;
        assert_int_equal(rig_open(&rig), 0);
        (void)fault_io_arm(&rig.fault,
                           &(struct fault_rule){.kind = FAULT_WRITE,
                                                .name = ".weir",
                                                .offset_from = RIG_BLOCK,
                                                .times = 1,
                                                .hold = true});
        payload_fill(1, payload, 100);
        assert_int_equal(weir_append(rig.log, payload, 100, 1, &lsn), 0);
        ledger_add(&rig.ledger, lsn, 1, 100);
        assert_true(fault_io_wait_held(&rig.fault, 1));
        for (uint64_t tag = 2; tag < 2 + RECORDS; tag++) {
            payload_fill(tag, payload, sizeof payload);
            assert_int_equal(weir_append(rig.log, payload, sizeof payload, tag, &lsn), 0);
            ledger_add(&rig.ledger, lsn, tag, sizeof payload);
        }
        const uint64_t before = fault_io_now(&rig.fault);
        fault_io_release(&rig.fault);
        assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);

        uint64_t largest = 0;
        uint64_t bytes = 0;
        uint64_t due = 0;
        const size_t count = fault_io_ops(&rig.fault, &ops);
        for (size_t j = 0; j < count; j++) {
            if (ops[j].kind != FAULT_WRITE || ops[j].begun <= before ||
                strstr(ops[j].name, ".weir") == NULL || ops[j].offset < 2 * RIG_BLOCK) {
                continue;
            }
            /* All of them lie in the first segment, behind the batch that was held. */
            if (strcmp(ops[j].name, "0000000000000000-0000000000100000.weir") == 0) {
                assert_int_equal(ops[j].offset, due == 0 ? 2 * RIG_BLOCK : due);
                due = ops[j].offset + ops[j].bytes;
                largest = ops[j].bytes > largest ? ops[j].bytes : largest;
                bytes += ops[j].bytes;
            }
        }
        free(ops);
        assert_int_equal(largest, WEIR__RUN_MAX * BATCH_BYTES);
        assert_int_equal(bytes, RECORDS * BATCH_BYTES);
        assert_int_equal(rig_close(&rig), 0);
        (void)ledger_check_dir(&rig.ledger, rig.path, &rig.options, true, why);
        assert_string_equal(why, "");
        rig_destroy(&rig);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_run_ends_at_the_most_batches_of_a_write)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
