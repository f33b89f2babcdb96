/* SPDX-License-Identifier: Apache-2.0
 * Copies of the control file, and the live page. */
#include "format/control.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/segment_header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define BYTES WEIR__CONTROL_USED_BYTES

static const struct weir__control sample = {
    .block_bytes = 4096,
    .log_id = 0x1122334455667788u,
    .generation = 7,
    .epoch = {.epoch = 3, .lsn = 0x107000, .nonce = 0x8877665544332211u},
    .oldest_lsn = 0xF1060,
    .promise = 0x109000,
    .segment_bytes = 0x10000,
    .first_lsn = 0x10000,
    .checkpoint = {.lsn = 0x109000,
                   .epoch = 3,
                   .epoch_lsn = 0x107000,
                   .nonce = 0x8877665544332211u,
                   .chain = 0xA1B2C3D4u},
    .flags = WEIR__CONTROL_CLEAN,
    .wall_ns = 0x1797ABCDEF012345u,
    .parent_log_id = 0x99AABBCCDDEEFF00u,
};

static void reseal(uint8_t copy[BYTES])
{
    weir__put_u32(copy + 4, weir__crc32c(0, copy + 8, BYTES - 8));
}

static void assert_decodes(const uint8_t *bytes, int expected, const char *expected_why)
{
    struct weir__control control;
    const char *why = NULL;
    assert_int_equal(weir__control_decode(bytes, &control, &why), expected);
    assert_int_equal(weir__control_decode(bytes, &control, NULL), expected);
    if (expected_why == NULL) {
        assert_null(why);
    } else {
        assert_non_null(why);
        assert_string_equal(why, expected_why);
    }
}

static void assert_fields(struct weir__control control, const char *expected_why)
{
    uint8_t bytes[BYTES];
    weir__control_encode(&control, bytes);
    assert_decodes(bytes, expected_why == NULL ? 0 : WEIR_ECORRUPT, expected_why);
}

static void control_reads_back_what_was_written(void **state)
{
    (void)state;
    uint8_t bytes[BYTES];
    memset(bytes, 0xAA, sizeof bytes); /* the encoder leaves no byte as it was */
    weir__control_encode(&sample, bytes);
    struct weir__control got;
    assert_int_equal(weir__control_decode(bytes, &got, NULL), 0);
    assert_int_equal(got.block_bytes, sample.block_bytes);
    assert_true(got.log_id == sample.log_id);
    assert_true(got.generation == sample.generation);
    assert_true(got.epoch.epoch == sample.epoch.epoch);
    assert_true(got.epoch.lsn == sample.epoch.lsn);
    assert_true(got.epoch.nonce == sample.epoch.nonce);
    assert_true(got.oldest_lsn == sample.oldest_lsn);
    assert_true(got.promise == sample.promise);
    assert_true(got.segment_bytes == sample.segment_bytes);
    assert_true(got.first_lsn == sample.first_lsn);
    assert_true(got.checkpoint.lsn == sample.checkpoint.lsn);
    assert_true(got.checkpoint.epoch == sample.checkpoint.epoch);
    assert_true(got.checkpoint.epoch_lsn == sample.checkpoint.epoch_lsn);
    assert_true(got.checkpoint.nonce == sample.checkpoint.nonce);
    assert_int_equal(got.checkpoint.chain, sample.checkpoint.chain);
    assert_int_equal(got.flags, sample.flags);
    assert_true(got.wall_ns == sample.wall_ns);
    assert_true(got.parent_log_id == sample.parent_log_id);
    assert_true(weir__all_zero(bytes + 152, BYTES - 152));
}

static void control_every_flipped_bit_is_detected(void **state)
{
    (void)state;
    uint8_t bytes[BYTES];
    weir__control_encode(&sample, bytes);
    for (unsigned bit = 0; bit < 8 * BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_decodes(bytes, WEIR_ECORRUPT, bit < 32 ? "control magic" : "control checksum");
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_decodes(bytes, 0, NULL);
}

/* A copy that was written in part: the front new, the rest as it was, cut at every byte. */
static void control_torn_copy_is_detected(void **state)
{
    (void)state;
    struct weir__control next = sample;
    next.generation += 2;
    next.promise += 0x1000;
    next.checkpoint.lsn += 0x1000;
    next.checkpoint.chain = 0x55555555u;
    next.wall_ns += 1000000007u;
    uint8_t old[BYTES];
    uint8_t new[BYTES];
    weir__control_encode(&sample, old);
    weir__control_encode(&next, new);
    for (size_t cut = 0; cut <= BYTES; cut++) {
        uint8_t torn[BYTES];
        memcpy(torn, old, BYTES);
        memcpy(torn, new, cut);
        if (memcmp(torn, old, BYTES) == 0 || memcmp(torn, new, BYTES) == 0) {
            assert_decodes(torn, 0, NULL);
        } else {
            assert_decodes(torn, WEIR_ECORRUPT, "control checksum");
        }
    }
}

static void control_of_zeros_or_ones_is_damaged(void **state)
{
    (void)state;
    uint8_t bytes[BYTES] = {0};
    assert_decodes(bytes, WEIR_ECORRUPT, "control magic");
    memset(bytes, 0xFF, sizeof bytes);
    assert_decodes(bytes, WEIR_ECORRUPT, "control magic");
}

static void control_of_another_version_or_feature_is_told_from_damage(void **state)
{
    (void)state;
    static const uint32_t versions[] = {0, 2, 3, 0x10001, UINT32_MAX};
    uint8_t bytes[BYTES];
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        weir__control_encode(&sample, bytes);
        weir__put_u32(bytes + 8, versions[i]);
        reseal(bytes);
        assert_decodes(bytes, WEIR_EFORMAT, "control version");
        memset(bytes + 12, 0xFF, BYTES - 12);
        reseal(bytes);
        assert_decodes(bytes, WEIR_EFORMAT, "control version");
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        weir__control_encode(&sample, bytes);
        weir__put_u32(bytes + 12, UINT32_C(1) << bit);
        reseal(bytes);
        assert_decodes(bytes, WEIR_EFORMAT, "control features");
    }
    weir__control_encode(&sample, bytes);
    weir__put_u32(bytes + 8, 2);
    assert_decodes(bytes, WEIR_ECORRUPT, "control checksum");
}

/* A feature that a reader may ignore is ignored, and so is what it keeps in reserved bytes. */
static void control_features_to_ignore_are_ignored(void **state)
{
    (void)state;
    uint8_t bytes[BYTES];
    for (unsigned bit = 0; bit < 32; bit++) {
        weir__control_encode(&sample, bytes);
        weir__put_u32(bytes + 16, UINT32_C(1) << bit);
        reseal(bytes);
        assert_decodes(bytes, 0, NULL);
        bytes[200] = 1;
        reseal(bytes);
        assert_decodes(bytes, 0, NULL);
    }
}

static void control_reserved_bytes_must_be_zero(void **state)
{
    (void)state;
    uint8_t bytes[BYTES];
    for (unsigned at = 152; at < BYTES; at++) {
        weir__control_encode(&sample, bytes);
        bytes[at] = 0x80;
        reseal(bytes);
        assert_decodes(bytes, WEIR_ECORRUPT, "control reserved bytes");
    }
}

static void control_unknown_flags_are_refused(void **state)
{
    (void)state;
    for (unsigned bit = 1; bit < 32; bit++) {
        struct weir__control c = sample;
        c.flags = UINT32_C(1) << bit;
        assert_fields(c, "control flags");
    }
    struct weir__control c = sample;
    c.flags = 0;
    assert_fields(c, NULL);
}

static void control_fields_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    static const uint32_t blocks[] = {0, 1, 256, 511, 513, 4097, 131072, UINT32_MAX};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        struct weir__control c = sample;
        c.block_bytes = blocks[i];
        assert_fields(c, "control block size");
    }
    for (uint32_t block = 512; block <= 65536; block *= 2) {
        struct weir__control c = sample;
        c.block_bytes = block;
        c.segment_bytes = 2 * (uint64_t)block;
        c.epoch.lsn = c.checkpoint.epoch_lsn = 0x100000;
        c.checkpoint.lsn = 0x100000;
        assert_fields(c, NULL);
        c.segment_bytes = block;
        assert_fields(c, "control segment size");
    }
    struct weir__control c = sample;
    c.log_id = 0;
    assert_fields(c, "control log id");
    c = sample;
    c.generation = 0;
    assert_fields(c, "control generation");
    c = sample;
    c.epoch.epoch = 0;
    assert_fields(c, "control epoch");
    c = sample;
    c.oldest_lsn = c.promise + 1;
    assert_fields(c, "control oldest LSN");
    c = sample;
    c.oldest_lsn = c.first_lsn - 1;
    assert_fields(c, "control oldest LSN");
    static const uint64_t sizes[] = {0, 1, 4096, 0x10000 + 512, UINT64_MAX, UINT64_MAX - 4095};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        c = sample;
        c.segment_bytes = sizes[i];
        assert_fields(c, "control segment size");
    }
    c = sample;
    c.first_lsn = 0x10200;
    assert_fields(c, "control position not at a block");
    c = sample;
    c.epoch.lsn = c.checkpoint.epoch_lsn = 0x107200;
    assert_fields(c, "control position not at a block");
    c = sample;
    c.checkpoint.lsn = 0x108200;
    assert_fields(c, "control position not at a block");
}

static void control_checkpoint_belongs_to_the_history(void **state)
{
    (void)state;
    struct weir__control c = sample;
    c.checkpoint.epoch = 4;
    assert_fields(c, "control checkpoint");
    c = sample;
    c.checkpoint.epoch_lsn = c.checkpoint.lsn + 1;
    assert_fields(c, "control checkpoint");
    c = sample;
    c.checkpoint.nonce ^= 1;
    assert_fields(c, "control checkpoint of another history");
    c = sample;
    c.checkpoint.epoch_lsn -= 4096;
    assert_fields(c, "control checkpoint of another history");
    /* Of an older epoch nothing is known here. */
    c = sample;
    c.checkpoint = (struct weir__position){.lsn = 0x107000,
                                           .epoch = 1,
                                           .epoch_lsn = 0x11000,
                                           .nonce = 99,
                                           .chain = 5};
    assert_fields(c, NULL);
}

/* A log that holds nothing yet: the position at which every log begins. */
static void control_of_a_new_log_is_accepted(void **state)
{
    (void)state;
    struct weir__control c = {
        .block_bytes = 512,
        .log_id = 1,
        .generation = 1,
        .epoch = {.epoch = 1, .lsn = 512, .nonce = 0},
        .segment_bytes = 1024,
        .checkpoint = {.lsn = 512},
    };
    assert_fields(c, NULL);
}

static void control_positions_end_at_the_largest(void **state)
{
    (void)state;
    struct weir__control c = sample;
    c.promise = WEIR__LSN_MAX;
    c.oldest_lsn = WEIR__LSN_MAX;
    c.checkpoint.lsn = WEIR__LSN_MAX;
    c.segment_bytes = WEIR__LSN_MAX;
    assert_fields(c, NULL);
    c.epoch.lsn = WEIR__LSN_MAX; /* and of the checkpoint nothing is below its epoch */
    c.checkpoint.epoch_lsn = WEIR__LSN_MAX;
    assert_fields(c, NULL);
    c.segment_bytes = WEIR__LSN_MAX + 4096;
    assert_fields(c, "control segment size");
    c = sample;
    c.promise = WEIR__LSN_MAX + 1;
    assert_fields(c, "control position beyond the largest LSN");
    c = sample;
    c.checkpoint.lsn = WEIR__LSN_MAX + 4096;
    assert_fields(c, "control position beyond the largest LSN");
    c = sample;
    c.epoch.lsn = UINT64_MAX - 4095;
    assert_fields(c, "control position beyond the largest LSN");
    c = sample;
    c.first_lsn = UINT64_MAX - 4095;
    assert_fields(c, "control oldest LSN");
}

/* ---- the live page ---- */

static const struct weir__live live_sample = {
    .log_id = 0x1122334455667788u,
    .epoch = 3,
    .durable = 0x108000,
    .written = 0x109000,
    .oldest = 0xF1000,
};

static void live_reads_back_what_was_written(void **state)
{
    (void)state;
    uint8_t bytes[64];
    memset(bytes, 0xAA, sizeof bytes);
    weir__live_encode(&live_sample, bytes);
    assert_true(weir__get_u64(bytes + WEIR__LIVE_EPOCH) == 3);
    struct weir__live got;
    assert_true(weir__live_decode(bytes, &got));
    assert_true(got.log_id == live_sample.log_id);
    assert_true(got.epoch == live_sample.epoch);
    assert_true(got.durable == live_sample.durable);
    assert_true(got.written == live_sample.written);
    assert_true(got.oldest == live_sample.oldest);
}

static void live_page_that_is_not_valid_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[64] = {0};
    struct weir__live got;
    assert_false(weir__live_decode(bytes, &got));
    memset(bytes, 0xFF, sizeof bytes);
    assert_false(weir__live_decode(bytes, &got));

    for (unsigned bit = 0; bit < 64; bit++) { /* magic and version */
        weir__live_encode(&live_sample, bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(weir__live_decode(bytes, &got));
    }
    for (unsigned at = 48; at < 64; at++) {
        weir__live_encode(&live_sample, bytes);
        bytes[at] = 1;
        assert_false(weir__live_decode(bytes, &got));
    }
    struct weir__live live = live_sample;
    live.epoch = 0; /* being set up */
    weir__live_encode(&live, bytes);
    assert_false(weir__live_decode(bytes, &got));

    static const unsigned positions[] = {WEIR__LIVE_DURABLE, WEIR__LIVE_WRITTEN, WEIR__LIVE_OLDEST};
    for (size_t i = 0; i < 3; i++) {
        weir__live_encode(&live_sample, bytes);
        weir__put_u64(bytes + positions[i], WEIR__LSN_MAX);
        assert_true(weir__live_decode(bytes, &got));
        weir__put_u64(bytes + positions[i], WEIR__LSN_MAX + 1);
        assert_false(weir__live_decode(bytes, &got));
    }
}

/* The fields are not read in one instant: a durable LSN above the written one is no fault. */
static void live_positions_may_be_of_different_instants(void **state)
{
    (void)state;
    struct weir__live live = live_sample;
    live.durable = live.written + 4096;
    uint8_t bytes[64];
    weir__live_encode(&live, bytes);
    struct weir__live got;
    assert_true(weir__live_decode(bytes, &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_reads_back_what_was_written),
        cmocka_unit_test(control_every_flipped_bit_is_detected),
        cmocka_unit_test(control_torn_copy_is_detected),
        cmocka_unit_test(control_of_zeros_or_ones_is_damaged),
        cmocka_unit_test(control_of_another_version_or_feature_is_told_from_damage),
        cmocka_unit_test(control_features_to_ignore_are_ignored),
        cmocka_unit_test(control_reserved_bytes_must_be_zero),
        cmocka_unit_test(control_unknown_flags_are_refused),
        cmocka_unit_test(control_fields_that_contradict_each_other_are_refused),
        cmocka_unit_test(control_checkpoint_belongs_to_the_history),
        cmocka_unit_test(control_of_a_new_log_is_accepted),
        cmocka_unit_test(control_positions_end_at_the_largest),
        cmocka_unit_test(live_reads_back_what_was_written),
        cmocka_unit_test(live_page_that_is_not_valid_is_refused),
        cmocka_unit_test(live_positions_may_be_of_different_instants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
