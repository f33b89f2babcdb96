/* SPDX-License-Identifier: Apache-2.0
 * Segment headers and segment names: damage, another version and contradictions are three different
 * answers. */
#include "format/segment_header.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BYTES WEIR__SEGMENT_HEADER_BYTES

static const struct weir__segment_header sample = {
    .log_id = 0x1122334455667788u,
    .number = 16,
    .base = 0x100000,
    .bytes = 0x10000,
    .epoch = 3,
    .prev_number = 15,
    .prev_base = 0xF0000,
    .block_bytes = 4096,
    .origin = WEIR__SEGMENT_RECYCLED,
    .wall_ns = 0x1797ABCDEF012345u,
};

static void reseal(uint8_t header[BYTES])
{
    weir__put_u32(header + 4, weir__crc32c(0, header + 8, BYTES - 8));
}

static void assert_decodes(const uint8_t *bytes, int expected, const char *expected_why)
{
    struct weir__segment_header header;
    const char *why = NULL;
    assert_int_equal(weir__segment_header_decode(bytes, &header, &why), expected);
    assert_int_equal(weir__segment_header_decode(bytes, &header, NULL), expected);
    if (expected_why == NULL) {
        assert_null(why);
    } else {
        assert_non_null(why);
        assert_string_equal(why, expected_why);
    }
}

static void assert_fields(struct weir__segment_header header, const char *expected_why)
{
    uint8_t bytes[BYTES];
    weir__segment_header_encode(&header, bytes);
    assert_decodes(bytes, expected_why == NULL ? 0 : WEIR_ECORRUPT, expected_why);
}

static void header_reads_back_what_was_written(void **state)
{
    (void)state;
    uint8_t bytes[BYTES];
    memset(bytes, 0xAA, sizeof bytes); /* the encoder leaves no byte as it was */
    weir__segment_header_encode(&sample, bytes);
    struct weir__segment_header got;
    assert_int_equal(weir__segment_header_decode(bytes, &got, NULL), 0);
    assert_true(got.log_id == sample.log_id);
    assert_true(got.number == sample.number);
    assert_true(got.base == sample.base);
    assert_true(got.bytes == sample.bytes);
    assert_true(got.epoch == sample.epoch);
    assert_true(got.prev_number == sample.prev_number);
    assert_true(got.prev_base == sample.prev_base);
    assert_int_equal(got.block_bytes, sample.block_bytes);
    assert_int_equal(got.origin, sample.origin);
    assert_true(got.wall_ns == sample.wall_ns);
    assert_true(weir__all_zero(bytes + 88, BYTES - 88));
}

static void header_every_flipped_bit_is_detected(void **state)
{
    (void)state;
    uint8_t bytes[BYTES];
    weir__segment_header_encode(&sample, bytes);
    for (unsigned bit = 0; bit < 8 * BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_decodes(bytes,
                       WEIR_ECORRUPT,
                       bit < 32 ? "segment magic" : "segment header checksum");
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_decodes(bytes, 0, NULL);
}

static void header_of_zeros_or_ones_is_damaged(void **state)
{
    (void)state;
    uint8_t bytes[BYTES] = {0};
    assert_decodes(bytes, WEIR_ECORRUPT, "segment magic");
    memset(bytes, 0xFF, sizeof bytes);
    assert_decodes(bytes, WEIR_ECORRUPT, "segment magic");
}

/* Sound bytes of a build that knows more are not damage. What stands behind the version may mean
 * anything then. */
static void header_of_another_version_or_feature_is_told_from_damage(void **state)
{
    (void)state;
    static const uint32_t versions[] = {0, 2, 3, 0x10001, UINT32_MAX};
    uint8_t bytes[BYTES];
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        weir__segment_header_encode(&sample, bytes);
        weir__put_u32(bytes + 8, versions[i]);
        reseal(bytes);
        assert_decodes(bytes, WEIR_EFORMAT, "segment version");
        memset(bytes + 12, 0xFF, BYTES - 12);
        reseal(bytes);
        assert_decodes(bytes, WEIR_EFORMAT, "segment version");
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        weir__segment_header_encode(&sample, bytes);
        weir__put_u32(bytes + 12, UINT32_C(1) << bit);
        reseal(bytes);
        assert_decodes(bytes, WEIR_EFORMAT, "segment features");
        memset(bytes + 16, 0xFF, BYTES - 16);
        reseal(bytes);
        assert_decodes(bytes, WEIR_EFORMAT, "segment features");
    }
    /* Without a checksum that holds, a version is only a damaged version. */
    weir__segment_header_encode(&sample, bytes);
    weir__put_u32(bytes + 8, 2);
    assert_decodes(bytes, WEIR_ECORRUPT, "segment header checksum");
}

static void header_reserved_bytes_must_be_zero(void **state)
{
    (void)state;
    uint8_t bytes[BYTES];
    for (unsigned at = 88; at < BYTES; at++) {
        weir__segment_header_encode(&sample, bytes);
        bytes[at] = 1;
        reseal(bytes);
        assert_decodes(bytes, WEIR_ECORRUPT, "segment reserved bytes");
    }
}

static void header_fields_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    struct weir__segment_header h = sample;
    h.log_id = 0;
    assert_fields(h, "segment log id");
    h = sample;
    h.epoch = 0;
    assert_fields(h, "segment epoch");

    static const uint32_t origins[] = {0, 3, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        h = sample;
        h.origin = origins[i];
        assert_fields(h, "segment origin");
    }
    static const uint32_t blocks[] = {0, 1, 256, 511, 513, 4095, 4097, 131072, UINT32_MAX};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        h = sample;
        h.block_bytes = blocks[i];
        assert_fields(h, "segment block size");
    }
    static const uint64_t sizes[] = {0, 1, 4096, 0x10000 - 1, 0x10000 + 512, UINT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        h = sample;
        h.bytes = sizes[i];
        assert_fields(h, "segment size");
    }
    h = sample;
    h.base = 0x100200;
    assert_fields(h, "segment base");
    h = sample;
    h.prev_number = 16;
    assert_fields(h, "segment predecessor");
    h = sample;
    h.prev_base = 0x100000;
    assert_fields(h, "segment predecessor");
    h = sample;
    h.prev_number = WEIR__SEGMENT_NONE;
    assert_fields(h, "segment predecessor");
    h.prev_base = 0;
    assert_fields(h, NULL);
}

static void header_accepts_the_extremes(void **state)
{
    (void)state;
    struct weir__segment_header h = sample;
    h.number = 0;
    h.base = 0;
    h.prev_number = WEIR__SEGMENT_NONE;
    h.prev_base = 0;
    assert_fields(h, NULL);
    for (uint32_t block = 512; block <= 65536; block *= 2) {
        h.block_bytes = block;
        h.bytes = 2 * (uint64_t)block;
        assert_fields(h, NULL);
        h.bytes = block;
        assert_fields(h, "segment size");
    }
}

static void header_positions_do_not_wrap(void **state)
{
    (void)state;
    struct weir__segment_header h = sample;
    h.base = WEIR__LSN_MAX - h.bytes; /* ends exactly at the largest position */
    assert_fields(h, NULL);
    h.base += 4096;
    assert_fields(h, "segment base");
    h.base = WEIR__LSN_MAX;
    assert_fields(h, "segment base");
    h.base = WEIR__LSN_MAX + 4096;
    assert_fields(h, "segment base");
    h.base = UINT64_MAX - 4095;
    assert_fields(h, "segment base");
    h = sample;
    h.bytes = UINT64_MAX - 4095; /* base + bytes wraps to a small number */
    assert_fields(h, "segment base");
}

/* ---- names ---- */

/* Parses a copy in a block of exactly its size, so that a sanitizer sees a read behind its end. */
static bool parse_exact(const char *name, weir_lsn *base_out, weir_lsn *end_out)
{
    const size_t bytes = strlen(name) + 1;
    char *copy = malloc(bytes);
    assert_non_null(copy);
    memcpy(copy, name, bytes);
    const bool ok = weir__segment_name_parse(copy, base_out, end_out);
    free(copy);
    return ok;
}

static void name_is_two_positions_in_hex(void **state)
{
    (void)state;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(0x100000, 0x110000, name);
    assert_string_equal(name, "0000000000100000-0000000000110000.weir");
    weir__segment_name(0x123456789ABCDE00u, WEIR__LSN_MAX, name);
    assert_string_equal(name, "123456789abcde00-8000000000000000.weir");
    weir_lsn base = 0;
    weir_lsn end = 0;
    assert_true(parse_exact(name, &base, &end));
    assert_true(base == 0x123456789ABCDE00u);
    assert_true(end == WEIR__LSN_MAX);
}

static void name_reads_back_over_the_whole_range(void **state)
{
    (void)state;
    for (unsigned low = 9; low < 63; low++) {
        for (unsigned high = low + 1; high <= 63; high++) {
            char name[WEIR__SEGMENT_NAME_BYTES];
            weir__segment_name(UINT64_C(1) << low, UINT64_C(1) << high, name);
            weir_lsn base = 0;
            weir_lsn end = 0;
            assert_true(parse_exact(name, &base, &end));
            assert_true(base == UINT64_C(1) << low);
            assert_true(end == UINT64_C(1) << high);
        }
    }
}

static void name_that_does_not_match_exactly_is_foreign(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",
        "0",
        ".weir",
        "weir.control",
        "weir.prepare",
        "0000000000100000",
        "0000000000100000-",
        "0000000000100000-0000000000110000",
        "0000000000100000-0000000000110000.wei",
        "0000000000100000-0000000000110000.weir ",
        "0000000000100000-0000000000110000.weir\n",
        "0000000000100000-0000000000110000.weir~",
        "0000000000100000-0000000000110000.weirs",
        "0000000000100000-0000000000110000.WEIR",
        "0000000000100000-0000000000110000,weir",
        " 0000000000100000-0000000000110000.weir",
        "./0000000000100000-0000000000110000.weir",
        "0000000000100000_0000000000110000.weir",
        "0000000000100000--000000000110000.weir",
        "0000000000100000- 000000000110000.weir",
        "0000000000100000-+000000000110000.weir",
        "+000000000100000-0000000000110000.weir",
        "-000000000100000-0000000000110000.weir",
        " 000000000100000-0000000000110000.weir",
        "000000000010000 -0000000000110000.weir",
        "0x00000000100000-0x00000000110000.weir",
        "00000000000ABC00-0000000000110000.weir",
        "00000000000abc00-00000000001A0000.weir",
        "000000000000g000-0000000000110000.weir",
        "00000000000/0000-0000000000110000.weir",
        "00000000000:0000-0000000000110000.weir",
        "00000000000`0000-0000000000110000.weir",
        "00000000000\303\251000-0000000000110000.weir",
        /* one digit less, one more */
        "000000000100000-0000000000110000.weir",
        "0000000000100000-000000000110000.weir",
        "00000000000100000-0000000000110000.weir",
        "0000000000100000-00000000000110000.weir",
        "10000000000100000-10000000000110000.weir",
        /* base not below end */
        "0000000000100000-0000000000100000.weir",
        "0000000000110000-0000000000100000.weir",
        "0000000000000000-0000000000000000.weir",
        /* not at a block */
        "0000000000100001-0000000000110000.weir",
        "0000000000100100-0000000000110000.weir",
        "0000000000100000-0000000000110100.weir",
        "0000000000100000-00000000001101ff.weir",
        /* above the largest position */
        "0000000000100000-8000000000000200.weir",
        "8000000000000000-8000000000000200.weir",
        "0000000000100000-fffffffffffffe00.weir",
        "fffffffffffffc00-fffffffffffffe00.weir",
        "0000000000100000-ffffffffffffffff.weir",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        weir_lsn base = 77;
        weir_lsn end = 78;
        if (parse_exact(names[i], &base, &end)) {
            fail_msg("accepted \"%s\"", names[i]);
        }
        assert_true(base == 77 && end == 78); /* written only on success */
    }
    weir_lsn base;
    weir_lsn end;
    assert_true(parse_exact("0000000000100000-0000000000110000.weir", &base, &end));
    assert_true(parse_exact("0000000000000000-0000000000000200.weir", &base, &end));
    assert_true(parse_exact("7ffffffffffffe00-8000000000000000.weir", &base, &end));
}

/* Cut at every length and changed at every place: nothing but the original parses to the original.
 */
static void name_is_strict_at_every_byte(void **state)
{
    (void)state;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(0x100000, 0x110000, name);
    weir_lsn base;
    weir_lsn end;
    for (size_t length = 0; length < WEIR__SEGMENT_NAME_BYTES - 1; length++) {
        char cut[WEIR__SEGMENT_NAME_BYTES];
        memcpy(cut, name, length);
        cut[length] = 0;
        assert_false(parse_exact(cut, &base, &end));
    }
    for (size_t at = 0; at < WEIR__SEGMENT_NAME_BYTES - 1; at++) {
        for (int c = 1; c < 256; c++) {
            char changed[WEIR__SEGMENT_NAME_BYTES];
            memcpy(changed, name, sizeof changed);
            changed[at] = (char)c;
            if (parse_exact(changed, &base, &end)) {
                char again[WEIR__SEGMENT_NAME_BYTES];
                weir__segment_name(base, end, again);
                assert_string_equal(again, changed);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_reads_back_what_was_written),
        cmocka_unit_test(header_every_flipped_bit_is_detected),
        cmocka_unit_test(header_of_zeros_or_ones_is_damaged),
        cmocka_unit_test(header_of_another_version_or_feature_is_told_from_damage),
        cmocka_unit_test(header_reserved_bytes_must_be_zero),
        cmocka_unit_test(header_fields_that_contradict_each_other_are_refused),
        cmocka_unit_test(header_accepts_the_extremes),
        cmocka_unit_test(header_positions_do_not_wrap),
        cmocka_unit_test(name_is_two_positions_in_hex),
        cmocka_unit_test(name_reads_back_over_the_whole_range),
        cmocka_unit_test(name_that_does_not_match_exactly_is_foreign),
        cmocka_unit_test(name_is_strict_at_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
