/* SPDX-License-Identifier: Apache-2.0
 * CRC32C against published values, against a bit-by-bit form, and the forms against each other. */
#include "base/crc32c.h"

#include "base/crc32c_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DATA_BYTES = 20000 };

static unsigned char data[DATA_BYTES + 16];

/* One bit at a time: slow, and too simple to be wrong in the same way. */
static uint32_t crc_of_bits(uint32_t crc, const unsigned char *at, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? UINT32_C(0x82F63B78) : 0);
        }
    }
    return ~crc;
}

static int fill_data(void **state)
{
    (void)state;
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < sizeof data; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        data[i] = (unsigned char)(seed >> 56);
    }
    return 0;
}

static void expect_vector(const void *bytes, size_t len, uint32_t expected)
{
    assert_int_equal(weir__crc32c(0, bytes, len), expected);
    assert_int_equal(weir__crc32c_portable(0, bytes, len), expected);
}

/* RFC 3720, B.4, and the check value of the catalogue of CRCs. */
static void published_vectors_come_out(void **state)
{
    (void)state;
    unsigned char bytes[32];
    expect_vector("", 0, 0);
    expect_vector("123456789", 9, 0xE3069283);
    memset(bytes, 0, sizeof bytes);
    expect_vector(bytes, sizeof bytes, 0x8A9136AA);
    memset(bytes, 0xff, sizeof bytes);
    expect_vector(bytes, sizeof bytes, 0x62A8AB43);
    for (unsigned i = 0; i < 32; i++) {
        bytes[i] = (unsigned char)i;
    }
    expect_vector(bytes, sizeof bytes, 0x46DD794E);
    for (unsigned i = 0; i < 32; i++) {
        bytes[i] = (unsigned char)(31 - i);
    }
    expect_vector(bytes, sizeof bytes, 0x113FDB5C);
    static const unsigned char iscsi_read[48] = {
        0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
        0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0,    0,
    };
    expect_vector(iscsi_read, sizeof iscsi_read, 0xD9963A56);
}

/* The table is 2048 constants in a file; nobody reads them, so they are derived again. */
static void table_is_what_its_comment_says(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) {
            c = (c >> 1) ^ ((c & 1) != 0 ? UINT32_C(0x82F63B78) : 0);
        }
        assert_int_equal(crc32c_table[0][i], c);
        for (int row = 1; row < 8; row++) {
            c = (c >> 8) ^ crc32c_table[0][c & 255];
            assert_int_equal(crc32c_table[row][i], c);
        }
    }
}

static void portable_form_agrees_with_single_bits(void **state)
{
    (void)state;
    for (size_t at = 0; at < 9; at++) {
        for (size_t len = 0; len <= 300; len++) {
            const uint32_t start = (uint32_t)(len * 2654435761u);
            if (weir__crc32c_portable(start, data + at, len) !=
                crc_of_bits(start, data + at, len)) {
                fail_msg("at %zu, len %zu", at, len);
            }
        }
    }
}

/* Every length where the fast form changes its loop, some in between. */
static size_t length_step(size_t len)
{
    const bool near = len < 1050 || (len > 2000 && len < 2050) || (len > 4070 && len < 4100) ||
                      (len > 5080 && len < 5110) || (len > 8150 && len < 8180);
    return near ? 1 : 37;
}

/* Lengths around every change of loop of each form: 8, 24 per word of three streams from 96 on, the
 * blocks of 3 x 336 and 3 x 1360, 64 and 256, and several of them. */
static void every_form_agrees_with_the_portable_one(void **state)
{
    (void)state;
    uint32_t none = 0;
    unsigned forms = 0;
    while (weir__crc32c_form(forms, &none, "", 0) != NULL) {
        forms++;
    }
    assert_true(forms >= 1);
    for (size_t at = 0; at < 9; at++) {
        for (size_t len = 0; len <= DATA_BYTES; len += length_step(len)) {
            const uint32_t start = (uint32_t)(len * 2654435761u);
            const uint32_t expected = weir__crc32c_portable(start, data + at, len);
            if (weir__crc32c(start, data + at, len) != expected) {
                fail_msg("form in use: at %zu, len %zu", at, len);
            }
            for (unsigned i = 0; i < forms; i++) {
                uint32_t crc = start;
                const char *name = weir__crc32c_form(i, &crc, data + at, len);
                if (crc != expected) {
                    fail_msg("form %s: at %zu, len %zu", name, at, len);
                }
            }
        }
    }
}

static uint64_t word_at(size_t at, unsigned bytes)
{
    uint64_t word = 0;
    for (unsigned i = 0; i < bytes; i++) {
        word |= (uint64_t)data[at + i] << (8 * i);
    }
    return word;
}

/* What a frame's header is summed with, against the bytes laid out one behind another. */
static void form_for_words_agrees_with_the_one_for_bytes(void **state)
{
    (void)state;
    for (size_t at = 0; at + 28 <= 1000; at++) {
        const uint32_t start = (uint32_t)(at * 2654435761u);
        assert_int_equal(weir__crc32c_words(start,
                                            word_at(at, 8),
                                            word_at(at + 8, 8),
                                            word_at(at + 16, 8),
                                            (uint32_t)word_at(at + 24, 4)),
                         weir__crc32c_portable(start, data + at, 28));
    }
}

/* Headers and payloads are summed piece by piece. */
static void result_fed_back_goes_on_over_the_next_bytes(void **state)
{
    (void)state;
    const uint32_t whole = weir__crc32c(0, data, DATA_BYTES);
    for (size_t cut = 0; cut <= DATA_BYTES; cut += 1 + cut / 16) {
        const uint32_t first = weir__crc32c(0, data, cut);
        assert_int_equal(weir__crc32c(first, data + cut, DATA_BYTES - cut), whole);
    }
}

/* What a checksum is for, on a length that takes all loops of the fast form. */
static void any_single_flipped_bit_changes_the_result(void **state)
{
    (void)state;
    enum { LEN = 4080 + 1008 + 8 + 3 };
    const uint32_t whole = weir__crc32c(0, data, LEN);
    for (size_t i = 0; i < LEN; i++) {
        const unsigned char flip = (unsigned char)(1u << (i % 8));
        data[i] ^= flip;
        const uint32_t changed = weir__crc32c(0, data, LEN);
        data[i] ^= flip;
        assert_int_not_equal(changed, whole);
    }
}

static void form_has_a_known_name(void **state)
{
    (void)state;
    const char *const name = weir__crc32c_name();
    print_message("form in use: %s\n", name);
    assert_true(strcmp(name, "avx512") == 0 || strcmp(name, "sse4.2+pclmul") == 0 ||
                strcmp(name, "sse4.2") == 0 || strcmp(name, "armv8") == 0 ||
                strcmp(name, "portable") == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_come_out),
        cmocka_unit_test(table_is_what_its_comment_says),
        cmocka_unit_test(portable_form_agrees_with_single_bits),
        cmocka_unit_test(every_form_agrees_with_the_portable_one),
        cmocka_unit_test(form_for_words_agrees_with_the_one_for_bytes),
        cmocka_unit_test(result_fed_back_goes_on_over_the_next_bytes),
        cmocka_unit_test(any_single_flipped_bit_changes_the_result),
        cmocka_unit_test(form_has_a_known_name),
    };
    return cmocka_run_group_tests(tests, fill_data, NULL);
}
