/* SPDX-License-Identifier: Apache-2.0
 * Frame headers: what is written is read back, and nothing else is accepted. */
#include "format/frame.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define LOG_ID 0x1122334455667788u
#define NONCE 0x0102030405060708u
#define EPOCH 3u
#define LSN ((weir_lsn)0x101060)

static uint32_t test_salt(void)
{
    return weir__frame_salt(LOG_ID, NONCE, EPOCH);
}

static const struct weir__frame sample = {
    .bytes = 100,
    .payload_crc = 0xA1B2C3D4u,
    .tag = 0xFEDCBA9876543210u,
    .type = WEIR__FRAME_RECORD,
    .flags = WEIR__FRAME_MORE,
};

/* Puts a checksum that holds over whatever the first 20 bytes say. */
static void reseal(uint8_t header[WEIR__FRAME_HEADER_BYTES], uint32_t salt, weir_lsn lsn)
{
    uint8_t place[8];
    weir__put_u64(place, lsn);
    weir__put_u32(header + 20, weir__crc32c(weir__crc32c(salt, place, 8), header, 20));
}

static void assert_refused(const uint8_t *header,
                           uint64_t room,
                           uint32_t salt,
                           weir_lsn lsn,
                           const char *expected)
{
    struct weir__frame frame;
    const char *why = NULL;
    assert_int_equal(weir__frame_decode(header, room, salt, lsn, &frame, &why), WEIR_ECORRUPT);
    assert_non_null(why);
    assert_string_equal(why, expected);
}

static void frame_reads_back_what_was_written(void **state)
{
    (void)state;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    weir__frame_encode(&sample, test_salt(), LSN, header);
    struct weir__frame frame;
    const char *why = "not touched";
    assert_int_equal(weir__frame_decode(header, 128, test_salt(), LSN, &frame, &why), 0);
    assert_null(why);
    assert_int_equal(frame.bytes, sample.bytes);
    assert_int_equal(frame.payload_crc, sample.payload_crc);
    assert_true(frame.tag == sample.tag);
    assert_int_equal(frame.type, sample.type);
    assert_int_equal(frame.flags, sample.flags);
    assert_int_equal(weir__frame_decode(header, 128, test_salt(), LSN, &frame, NULL), 0);
}

/* The offsets of FORMAT.md section 6, one by one. */
/* Reading again trusts the checksum and nothing else: what reaches beyond the room is refused. */
static void frame_read_again_is_the_same_and_stays_within_its_room(void **state)
{
    (void)state;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    const char *why = NULL;
    weir__frame_encode(&sample, test_salt(), LSN, header);
    const uint64_t span = weir__frame_span(sample.bytes);
    struct weir__frame decoded;
    struct weir__frame frame;
    assert_int_equal(weir__frame_decode(header, span, test_salt(), LSN, &decoded, NULL), 0);
    assert_true(weir__frame_read(header, span, &frame, &why));
    assert_null(why);
    assert_int_equal(frame.bytes, decoded.bytes);
    assert_int_equal(frame.payload_crc, decoded.payload_crc);
    assert_int_equal(frame.tag, decoded.tag);
    assert_int_equal(frame.type, decoded.type);
    assert_int_equal(frame.flags, decoded.flags);
    for (uint64_t room = 0; room < span; room++) {
        assert_false(weir__frame_read(header, room, &frame, &why));
        assert_string_equal(why, "frame length");
    }
    header[16] = 0x77;
    assert_false(weir__frame_read(header, span, &frame, &why));
    assert_string_equal(why, "frame type");
}

static void frame_fields_stand_where_the_format_says(void **state)
{
    (void)state;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    weir__frame_encode(&sample, test_salt(), LSN, header);
    assert_int_equal(weir__get_u32(header), 100);
    assert_int_equal(weir__get_u32(header + 4), 0xA1B2C3D4u);
    assert_true(weir__get_u64(header + 8) == 0xFEDCBA9876543210u);
    assert_int_equal(weir__get_u16(header + 16), 1);
    assert_int_equal(weir__get_u16(header + 18), 1);

    uint8_t text[8 + 20];
    weir__put_u64(text, LSN);
    memcpy(text + 8, header, 20);
    assert_int_equal(weir__get_u32(header + 20), weir__crc32c(test_salt(), text, sizeof text));
}

static void frame_span_is_header_payload_and_padding(void **state)
{
    (void)state;
    assert_true(weir__frame_span(0) == 24);
    assert_true(weir__frame_span(1) == 32);
    assert_true(weir__frame_span(7) == 32);
    assert_true(weir__frame_span(8) == 32);
    assert_true(weir__frame_span(9) == 40);
    /* The largest lengths do not wrap at 32 bits. */
    for (uint64_t k = 0; k < 8; k++) {
        const uint64_t expected = 24 + (k == 7 ? UINT64_C(0xFFFFFFF8) : UINT64_C(0x100000000));
        assert_true(weir__frame_span(UINT32_MAX - k) == expected);
    }
}

/* A length is accepted when it fits exactly, and refused when one unit less is left. */
static void frame_length_is_compared_with_the_room(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {
        0,
        1,
        7,
        8,
        9,
        4096,
        UINT32_MAX - 32,
        UINT32_MAX - 24,
        UINT32_MAX - 23,
        UINT32_MAX - 8,
        UINT32_MAX - 7,
        UINT32_MAX - 6,
        UINT32_MAX - 1,
        UINT32_MAX,
    };
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct weir__frame frame = sample;
        frame.bytes = lengths[i];
        uint8_t header[WEIR__FRAME_HEADER_BYTES];
        weir__frame_encode(&frame, test_salt(), LSN, header);
        const uint64_t span = weir__frame_span(lengths[i]);
        struct weir__frame got;
        assert_int_equal(weir__frame_decode(header, span, test_salt(), LSN, &got, NULL), 0);
        assert_int_equal(got.bytes, lengths[i]);
        assert_int_equal(weir__frame_decode(header, UINT64_MAX, test_salt(), LSN, &got, NULL), 0);
        assert_refused(header, span - 1, test_salt(), LSN, "frame length");
        assert_refused(header, span - 8, test_salt(), LSN, "frame length");
        if (lengths[i] > 0) {
            assert_refused(header, 24, test_salt(), LSN, "frame length");
        }
    }
}

/* Where not even a header fits, the bytes are not looked at: NULL would crash. */
static void frame_without_room_for_a_header_is_not_touched(void **state)
{
    (void)state;
    for (uint64_t room = 0; room < WEIR__FRAME_HEADER_BYTES; room++) {
        assert_refused(NULL, room, test_salt(), LSN, "frame length");
    }
}

static void frame_every_flipped_bit_is_detected(void **state)
{
    (void)state;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    weir__frame_encode(&sample, test_salt(), LSN, header);
    for (unsigned bit = 0; bit < 8 * WEIR__FRAME_HEADER_BYTES; bit++) {
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_refused(header, UINT64_MAX, test_salt(), LSN, "frame checksum");
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    struct weir__frame frame;
    assert_int_equal(weir__frame_decode(header, UINT64_MAX, test_salt(), LSN, &frame, NULL), 0);
}

static void frame_of_zeros_or_ones_is_refused(void **state)
{
    (void)state;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    memset(header, 0, sizeof header);
    assert_refused(header, UINT64_MAX, test_salt(), LSN, "frame checksum");
    memset(header, 0xFF, sizeof header);
    assert_refused(header, UINT64_MAX, test_salt(), LSN, "frame checksum");
    /* Zeros under a checksum that holds are still no frame. */
    memset(header, 0, sizeof header);
    reseal(header, test_salt(), LSN);
    assert_refused(header, UINT64_MAX, test_salt(), LSN, "frame type");
}

static void frame_types_and_flags_that_nobody_defined_are_refused(void **state)
{
    (void)state;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    for (uint32_t type = 0; type <= UINT16_MAX; type++) {
        weir__frame_encode(&sample, test_salt(), LSN, header);
        if (type == WEIR__FRAME_RECORD || type == WEIR__FRAME_SKIP) {
            continue;
        }
        weir__put_u16(header + 16, (uint16_t)type);
        reseal(header, test_salt(), LSN);
        assert_refused(header, UINT64_MAX, test_salt(), LSN, "frame type");
    }
    for (unsigned bit = 1; bit < 16; bit++) {
        weir__frame_encode(&sample, test_salt(), LSN, header);
        weir__put_u16(header + 18, (uint16_t)(1u << bit));
        reseal(header, test_salt(), LSN);
        assert_refused(header, UINT64_MAX, test_salt(), LSN, "frame flags");
    }
}

static void frame_skip_carries_neither_checksum_nor_flags(void **state)
{
    (void)state;
    struct weir__frame skip = {.bytes = 16, .payload_crc = 0x1234u, .type = WEIR__FRAME_SKIP};
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    weir__frame_encode(&skip, test_salt(), LSN, header);
    assert_int_equal(weir__get_u32(header + 4), 0); /* the encoder sees to it */
    struct weir__frame frame;
    assert_int_equal(weir__frame_decode(header, 40, test_salt(), LSN, &frame, NULL), 0);
    assert_int_equal(frame.type, WEIR__FRAME_SKIP);
    assert_int_equal(frame.payload_crc, 0);

    weir__put_u32(header + 4, 1);
    reseal(header, test_salt(), LSN);
    assert_refused(header, 40, test_salt(), LSN, "frame flags");

    skip.flags = WEIR__FRAME_MORE;
    weir__frame_encode(&skip, test_salt(), LSN, header);
    assert_refused(header, 40, test_salt(), LSN, "frame flags");
}

/* A frame is bound to its place: each single bit of LSN, log id, nonce and epoch counts. */
static void frame_moved_to_another_place_or_history_is_refused(void **state)
{
    (void)state;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    weir__frame_encode(&sample, test_salt(), LSN, header);
    for (unsigned bit = 0; bit < 64; bit++) {
        const uint64_t flip = UINT64_C(1) << bit;
        assert_refused(header, 128, test_salt(), LSN ^ flip, "frame checksum");
        assert_refused(header,
                       128,
                       weir__frame_salt(LOG_ID ^ flip, NONCE, EPOCH),
                       LSN,
                       "frame checksum");
        assert_refused(header,
                       128,
                       weir__frame_salt(LOG_ID, NONCE ^ flip, EPOCH),
                       LSN,
                       "frame checksum");
        assert_refused(header,
                       128,
                       weir__frame_salt(LOG_ID, NONCE, EPOCH ^ flip),
                       LSN,
                       "frame checksum");
    }
    for (uint64_t away = 8; away <= 65536; away += 8) {
        assert_refused(header, 128, test_salt(), LSN + away, "frame checksum");
        assert_refused(header, 128, test_salt(), LSN - away, "frame checksum");
    }
    assert_refused(header, 128, weir__frame_salt(NONCE, LOG_ID, EPOCH), LSN, "frame checksum");
    assert_refused(header, 128, 0, LSN, "frame checksum");
}

static void frame_salt_is_the_checksum_of_log_nonce_and_epoch(void **state)
{
    (void)state;
    static const uint8_t text[24] = {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* log id */
                                     0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* nonce */
                                     0x03, 0,    0,    0,    0,    0,    0,    0};   /* epoch */
    assert_int_equal(test_salt(), weir__crc32c(0, text, sizeof text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_reads_back_what_was_written),
        cmocka_unit_test(frame_read_again_is_the_same_and_stays_within_its_room),
        cmocka_unit_test(frame_fields_stand_where_the_format_says),
        cmocka_unit_test(frame_span_is_header_payload_and_padding),
        cmocka_unit_test(frame_length_is_compared_with_the_room),
        cmocka_unit_test(frame_without_room_for_a_header_is_not_touched),
        cmocka_unit_test(frame_every_flipped_bit_is_detected),
        cmocka_unit_test(frame_of_zeros_or_ones_is_refused),
        cmocka_unit_test(frame_types_and_flags_that_nobody_defined_are_refused),
        cmocka_unit_test(frame_skip_carries_neither_checksum_nor_flags),
        cmocka_unit_test(frame_moved_to_another_place_or_history_is_refused),
        cmocka_unit_test(frame_salt_is_the_checksum_of_log_nonce_and_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
