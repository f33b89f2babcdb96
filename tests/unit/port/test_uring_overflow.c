/* SPDX-License-Identifier: Apache-2.0
 * What queue_faults tells of a queue that lets in more operations than its completion ring has room
 * for. This file compiles the queue itself with that fault planted; the queue without it is held to
 * zero by test_uring.c. */
#include "base/plant.h"

/* Whatever the build has planted, this file has its own. */
#undef WEIR__PLANTED
#define WEIR__PLANTED(name) OVERFLOW_PLANTED_##name
#define OVERFLOW_PLANTED_cqe_bound 1
#define OVERFLOW_PLANTED_lock_not_in_ring 0
#include "port/uring.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The kernel keeps what found no room, so everything comes back; but it is told. */
static void ring_of_two_that_ignores_its_bound_overflows(void **state)
{
    (void)state;
    enum { FLIGHT = 16 };
    /* Its writes are complete when they are submitted, so none is late enough to find room. */
    const int file = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0);
    struct weir__mem mem;
    weir__mem_init(&mem, NULL);
    const struct weir__queue_config config = {
        .entries = FLIGHT,
        .ring_entries = 2,
        .lock_file = -1,
    };
    struct weir__queue *queue = NULL;
    struct weir__queue_info info;
    assert_int_equal(weir__uring_open(NULL, &mem, &config, &queue, &info), 0);
    assert_int_equal(info.entries, FLIGHT);
    assert_int_equal(info.completion_entries, 4);
    char text[] = "v";
    const struct iovec iov = {text, 1};
    uint64_t before = 0;
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < FLIGHT; i++) {
            const struct weir__op op = {
                .kind = WEIR__OP_WRITE,
                .file = file,
                .iov = &iov,
                .iov_count = 1,
                .data = i,
            };
            assert_int_equal(weir__uring_push(NULL, queue, &op, 1), 0);
        }
        unsigned seen = 0;
        for (unsigned got = 0; got < FLIGHT;) {
            struct weir__event events[FLIGHT];
            const int reaped = weir__uring_reap(NULL,
                                                queue,
                                                events,
                                                FLIGHT,
                                                1,
                                                weir__deadline(INT64_C(30000000000)));
            assert_true(reaped > 0);
            for (int i = 0; i < reaped; i++) {
                assert_int_equal(events[i].result, 1);
                seen |= 1u << events[i].data;
            }
            got += (unsigned)reaped;
        }
        assert_int_equal(seen, (1u << FLIGHT) - 1);
        struct weir__queue_faults faults = {0, 1};
        weir__uring_faults(NULL, queue, &faults);
        /* Each round is a rise of its own. */
        assert_true(faults.overflows > before);
        assert_int_equal(faults.dropped, 0);
        before = faults.overflows;
    }
    weir__uring_close(NULL, &mem, queue);
    assert_int_equal(weir__load(&mem.bytes, relaxed), 0);
    weir__mem_exit(&mem);
    assert_int_equal(close(file), 0);
}

int main(void)
{
    char reason[256];
    const int refused = weir__uring_probe(reason, sizeof reason);
    if (refused != 0) {
        print_message("skipped: error %d: %s\n", -refused, reason);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_of_two_that_ignores_its_bound_overflows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
