/* SPDX-License-Identifier: Apache-2.0
 * Checked arithmetic at its edges. */
#include "base/num.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void is_pow2_knows_the_64_powers_and_nothing_else(void **state)
{
    (void)state;
    assert_false(weir__is_pow2(0));
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_true(weir__is_pow2(UINT64_C(1) << bit));
        if (bit > 1) {
            assert_false(weir__is_pow2((UINT64_C(1) << bit) + 1));
            assert_false(weir__is_pow2((UINT64_C(1) << bit) - 1));
        }
    }
    assert_false(weir__is_pow2(UINT64_MAX));
}

static void align_moves_to_the_nearest_multiple(void **state)
{
    (void)state;
    for (uint64_t align = 1; align <= 4096; align *= 2) {
        for (uint64_t v = 0; v < 10000; v += 7) {
            const uint64_t up = weir__align_up(v, align);
            const uint64_t down = weir__align_down(v, align);
            assert_true(up % align == 0 && up >= v && up - v < align);
            assert_true(down % align == 0 && down <= v && v - down < align);
        }
    }
    const uint64_t high = UINT64_C(1) << 63;
    assert_true(weir__align_up(high - 1, 4096) == high);
    assert_true(weir__align_down(UINT64_MAX, 4096) == UINT64_MAX - 4095);
}

/* Lengths read from disk go through these two, so a wrap must be told and not computed. */
static void add_and_mul_tell_a_wrap(void **state)
{
    (void)state;
    uint64_t result = 0;
    assert_true(weir__add_u64(UINT64_MAX - 1, 1, &result));
    assert_true(result == UINT64_MAX);
    assert_false(weir__add_u64(UINT64_MAX, 1, &result));
    assert_false(weir__add_u64(UINT64_C(1) << 63, UINT64_C(1) << 63, &result));

    assert_true(weir__mul_u64(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &result));
    assert_true(result == UINT64_MAX - UINT32_MAX);
    assert_false(weir__mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &result));
    assert_true(weir__mul_u64(UINT64_MAX, 0, &result));
    assert_true(result == 0);
}

static void min_and_max_pick_by_unsigned_value(void **state)
{
    (void)state;
    assert_true(weir__min_u64(1, UINT64_MAX) == 1);
    assert_true(weir__min_u64(UINT64_MAX, 1) == 1);
    assert_true(weir__max_u64(1, UINT64_MAX) == UINT64_MAX);
    assert_true(weir__max_u64(UINT64_MAX, 1) == UINT64_MAX);
    assert_true(weir__max_u64(7, 7) == 7 && weir__min_u64(7, 7) == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_pow2_knows_the_64_powers_and_nothing_else),
        cmocka_unit_test(align_moves_to_the_nearest_multiple),
        cmocka_unit_test(add_and_mul_tell_a_wrap),
        cmocka_unit_test(min_and_max_pick_by_unsigned_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
