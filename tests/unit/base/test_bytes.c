/* SPDX-License-Identifier: Apache-2.0
 * Little-endian access and the search for bytes that are not zero. */
#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The disk format is little-endian on every machine, so the bytes are looked at one by one. */
static void put_writes_the_low_byte_first(void **state)
{
    (void)state;
    unsigned char bytes[8];
    weir__put_u16(bytes, 0x0102);
    assert_memory_equal(bytes, "\x02\x01", 2);
    weir__put_u32(bytes, 0x01020304);
    assert_memory_equal(bytes, "\x04\x03\x02\x01", 4);
    weir__put_u64(bytes, UINT64_C(0x0102030405060708));
    assert_memory_equal(bytes, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
}

/* Fields of a frame are not aligned; the sanitizer build would catch a plain load here. */
static void get_reads_back_what_put_wrote_at_any_alignment(void **state)
{
    (void)state;
    for (size_t at = 0; at < 8; at++) {
        unsigned char bytes[24];
        memset(bytes, 0xee, sizeof bytes);
        weir__put_u16(bytes + at, 0xfedc);
        assert_int_equal(weir__get_u16(bytes + at), 0xfedc);
        assert_int_equal(bytes[at + 2], 0xee);
        weir__put_u32(bytes + at, 0xfedcba98);
        assert_int_equal(weir__get_u32(bytes + at), 0xfedcba98);
        assert_int_equal(bytes[at + 4], 0xee);
        weir__put_u64(bytes + at, UINT64_C(0xfedcba9876543210));
        assert_true(weir__get_u64(bytes + at) == UINT64_C(0xfedcba9876543210));
        assert_int_equal(bytes[at + 8], 0xee);
    }
}

/* Every length around the step of the fast loop, every alignment, every place of the one byte that
 * matters, with bytes outside of the range that must not count. */
static void all_zero_sees_each_byte_of_the_range_and_no_other(void **state)
{
    (void)state;
    enum { LEN_MAX = 150, ALIGN_MAX = 9 };
    unsigned char bytes[LEN_MAX + ALIGN_MAX + 1];
    for (size_t at = 1; at < ALIGN_MAX; at++) {
        for (size_t len = 0; len <= LEN_MAX; len++) {
            memset(bytes, 0xff, sizeof bytes);
            memset(bytes + at, 0, len);
            if (!weir__all_zero(bytes + at, len)) {
                fail_msg("zeros not seen as zeros: at %zu, len %zu", at, len);
            }
            for (size_t i = 0; i < len; i++) {
                bytes[at + i] = (unsigned char)(1u << (i % 8));
                if (weir__all_zero(bytes + at, len)) {
                    fail_msg("byte %zu overlooked: at %zu, len %zu", i, at, len);
                }
                bytes[at + i] = 0;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_writes_the_low_byte_first),
        cmocka_unit_test(get_reads_back_what_put_wrote_at_any_alignment),
        cmocka_unit_test(all_zero_sees_each_byte_of_the_range_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
