/* SPDX-License-Identifier: Apache-2.0
 * Batches: every damaged bit is seen, every verdict is reached for the right reason, and the check
 * of what stands behind a header gives one answer however its input is cut.
 *
 * The random tests print their seed; `--seed N` runs them again. */
#include "format/batch.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/segment_header.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BLOCK 512u
#define LOG_ID 0x1122334455667788u
#define NONCE 0x0102030405060708u
#define LSN ((weir_lsn)0x10200)
#define SEGMENT_END ((weir_lsn)0x20000)
#define CHAIN 0xC0FFEE01u

static uint64_t seed = 20240607;

/* ---- building batches ---- */

struct build {
    struct weir__batch batch;
    uint8_t bytes[8192]; /* header, frames, padding */
    size_t used;         /* header and frames so far; whole blocks when finished */
};

/* A batch without frames at LSN, of epoch 3 that began at 0x10000. */
static const struct weir__batch plain = {
    .log_id = LOG_ID,
    .lsn = LSN,
    .prev_end = LSN,
    .epoch = 3,
    .epoch_lsn = 0x10000,
    .nonce = NONCE,
    .promise = 0x10000,
    .wall_ns = 0x1797ABCDEF012345u,
    .chain = CHAIN,
};

/* The position and the newest epoch that `plain` continues. */
static const struct weir__position due = {.lsn = LSN,
                                          .epoch = 3,
                                          .epoch_lsn = 0x10000,
                                          .nonce = NONCE,
                                          .chain = CHAIN};
static const struct weir__epoch newest = {.epoch = 3, .lsn = 0x10000, .nonce = NONCE};

static void build_begin(struct build *b, struct weir__batch batch)
{
    memset(b, 0, sizeof *b);
    b->batch = batch;
    b->used = WEIR__BATCH_HEADER_BYTES;
}

static uint32_t build_salt(const struct build *b)
{
    return weir__frame_salt(b->batch.log_id, b->batch.nonce, b->batch.epoch);
}

/* Adds a frame and returns where it starts. */
static size_t build_frame(struct build *b,
                          enum weir__frame_type type,
                          uint16_t flags,
                          const void *payload,
                          uint32_t bytes)
{
    const size_t at = b->used;
    const struct weir__frame frame = {
        .bytes = bytes,
        .payload_crc = weir__crc32c(0, payload, bytes),
        .tag = at,
        .type = (uint16_t)type,
        .flags = flags,
    };
    assert_true(at + weir__frame_span(bytes) <= sizeof b->bytes);
    weir__frame_encode(&frame, build_salt(b), b->batch.lsn + at, b->bytes + at);
    if (bytes != 0) {
        memcpy(b->bytes + at + WEIR__FRAME_HEADER_BYTES, payload, bytes);
    }
    b->used += (size_t)weir__frame_span(bytes);
    b->batch.bytes += (uint32_t)weir__frame_span(bytes);
    b->batch.records += type == WEIR__FRAME_RECORD;
    return at;
}

static void build_end(struct build *b)
{
    weir__batch_encode(&b->batch, b->bytes);
    b->used = (size_t)weir__align_up(b->used, BLOCK);
}

/* Records of lengths 0, 1, 7 and 8, a group of three, one record longer than a block: three blocks.
 */
static void build_mixed(struct build *b)
{
    uint8_t large[700];
    for (size_t i = 0; i < sizeof large; i++) {
        large[i] = (uint8_t)(i * 7 + 3);
    }
    build_begin(b, plain);
    build_frame(b, WEIR__FRAME_RECORD, 0, "", 0);
    build_frame(b, WEIR__FRAME_RECORD, 0, "1", 1);
    build_frame(b, WEIR__FRAME_RECORD, 0, "1234567", 7);
    build_frame(b, WEIR__FRAME_RECORD, 0, "12345678", 8);
    build_frame(b, WEIR__FRAME_RECORD, WEIR__FRAME_MORE, "one", 3);
    build_frame(b, WEIR__FRAME_RECORD, WEIR__FRAME_MORE, "", 0);
    build_frame(b, WEIR__FRAME_RECORD, 0, "three", 5);
    build_frame(b, WEIR__FRAME_RECORD, 0, large, sizeof large);
    build_end(b);
    assert_int_equal(b->used, 3 * BLOCK);
}

/* ---- reading them ---- */

static enum weir__batch_verdict judge_at(const uint8_t *bytes,
                                         struct weir__position position,
                                         struct weir__epoch epoch,
                                         const char **why_out)
{
    struct weir__batch batch;
    return weir__batch_judge(bytes,
                             LSN,
                             SEGMENT_END,
                             BLOCK,
                             LOG_ID,
                             &position,
                             &epoch,
                             &batch,
                             why_out);
}

static void assert_verdict(const struct weir__batch *batch,
                           struct weir__position position,
                           struct weir__epoch epoch,
                           enum weir__batch_verdict expected,
                           const char *expected_why)
{
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(batch, bytes);
    const char *why = NULL;
    const enum weir__batch_verdict verdict = judge_at(bytes, position, epoch, &why);
    assert_non_null(why);
    assert_string_equal(why, expected_why);
    assert_int_equal(verdict, expected);
    assert_int_equal(judge_at(bytes, position, epoch, NULL), expected);
}

static void assert_damaged(struct weir__batch batch, const char *expected_why)
{
    assert_verdict(&batch, due, newest, WEIR__BATCH_DAMAGED, expected_why);
}

struct seen {
    unsigned count;
    weir_lsn lsns[64];
    struct weir__frame frames[64];
};

static void note_frame(void *ctx, weir_lsn lsn, const struct weir__frame *frame)
{
    struct seen *seen = ctx;
    if (seen->count < 64) {
        seen->lsns[seen->count] = lsn;
        seen->frames[seen->count] = *frame;
    }
    seen->count++;
}

struct answer {
    int feed;
    int end;
    const char *why;
    weir_lsn frame_lsn;
    struct seen seen;
};

/* Feeds bytes[96..used) in pieces whose lengths repeat `pieces`, the last of them for ever. */
static struct answer check_in_pieces(const struct weir__batch *batch,
                                     const uint8_t *bytes,
                                     size_t used,
                                     const size_t *pieces,
                                     size_t count)
{
    struct answer answer;
    memset(&answer, 0, sizeof answer);
    struct weir__batch_check check;
    weir__batch_check_begin(&check, batch, BLOCK);
    check.frame_seen = note_frame;
    check.ctx = &answer.seen;
    size_t at = WEIR__BATCH_HEADER_BYTES;
    for (size_t i = 0; at < used && answer.feed == 0; i++) {
        const size_t piece = (size_t)weir__min_u64(pieces[i < count ? i : count - 1], used - at);
        /* A block of its own, so that a sanitizer sees a read behind the piece. */
        uint8_t *copy = malloc(piece + 1);
        assert_non_null(copy);
        memcpy(copy + 1, bytes + at, piece);
        answer.feed = weir__batch_check_feed(&check, copy + 1, piece);
        free(copy);
        at += piece;
    }
    answer.end = weir__batch_check_end(&check);
    answer.why = check.why;
    answer.frame_lsn = check.frame_lsn;
    return answer;
}

static struct answer check_whole(const struct weir__batch *batch, const uint8_t *bytes, size_t used)
{
    return check_in_pieces(batch, bytes, used, &used, 1);
}

static void assert_same_answer(const struct answer *a, const struct answer *b)
{
    assert_int_equal(a->feed, b->feed);
    assert_int_equal(a->end, b->end);
    assert_true((a->why == NULL) == (b->why == NULL));
    if (a->why != NULL) {
        assert_string_equal(a->why, b->why);
    }
    assert_true(a->frame_lsn == b->frame_lsn);
    assert_int_equal(a->seen.count, b->seen.count);
    assert_memory_equal(&a->seen, &b->seen, sizeof a->seen);
}

static void assert_check_refuses(const struct build *b, const char *expected_why)
{
    const struct answer answer = check_whole(&b->batch, b->bytes, b->used);
    assert_int_equal(answer.end, WEIR_ECORRUPT);
    assert_non_null(answer.why);
    assert_string_equal(answer.why, expected_why);
}

static void assert_check_accepts(const struct build *b)
{
    const struct answer answer = check_whole(&b->batch, b->bytes, b->used);
    assert_null(answer.why);
    assert_int_equal(answer.feed, 0);
    assert_int_equal(answer.end, 0);
}

/* Header and all: would a reader take these bytes for the batch that is due? */
static bool reader_accepts(const uint8_t *bytes, size_t used)
{
    struct weir__batch batch;
    if (weir__batch_judge(bytes, LSN, SEGMENT_END, BLOCK, LOG_ID, &due, &newest, &batch, NULL) !=
        WEIR__BATCH_OK) {
        return false;
    }
    const struct answer answer = check_whole(&batch, bytes, used);
    return answer.feed == 0 && answer.end == 0;
}

/* ---- the header ---- */

static void batch_reads_back_what_was_written(void **state)
{
    (void)state;
    struct weir__batch batch = plain;
    batch.bytes = 240;
    batch.records = 7;
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    memset(bytes, 0xAA, sizeof bytes);
    weir__batch_encode(&batch, bytes);
    struct weir__batch got;
    assert_true(weir__batch_decode(bytes, &got));
    assert_true(got.log_id == batch.log_id);
    assert_true(got.lsn == batch.lsn);
    assert_true(got.prev_end == batch.prev_end);
    assert_true(got.epoch == batch.epoch);
    assert_true(got.epoch_lsn == batch.epoch_lsn);
    assert_true(got.nonce == batch.nonce);
    assert_true(got.promise == batch.promise);
    assert_true(got.wall_ns == batch.wall_ns);
    assert_int_equal(got.bytes, batch.bytes);
    assert_int_equal(got.records, batch.records);
    assert_int_equal(got.flags, batch.flags);
    assert_int_equal(got.chain, batch.chain);
    assert_true(got.gap_end == 0);
}

/* For reports, decode tells what the bytes say even where they do not hold. */
static void batch_decode_tells_what_damaged_bytes_say(void **state)
{
    (void)state;
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(&plain, bytes);
    bytes[4] ^= 1;
    struct weir__batch got;
    assert_false(weir__batch_decode(bytes, &got));
    assert_true(got.lsn == LSN);
    assert_true(got.nonce == NONCE);
}

static void batch_every_flipped_bit_of_a_header_is_detected(void **state)
{
    (void)state;
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(&plain, bytes);
    for (unsigned bit = 0; bit < 8 * WEIR__BATCH_HEADER_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct weir__batch got;
        assert_false(weir__batch_decode(bytes, &got));
        /* Bits of magic, log id and LSN make it somebody else's, the rest damage. */
        const bool identity = bit < 4 * 8 || (bit >= 8 * 8 && bit < 24 * 8);
        assert_int_equal(judge_at(bytes, due, newest, NULL),
                         identity ? WEIR__BATCH_NOT_OURS : WEIR__BATCH_DAMAGED);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(judge_at(bytes, due, newest, NULL), WEIR__BATCH_OK);
}

/* Header, frames and padding of three blocks: not one bit may change unseen. */
static void batch_every_flipped_bit_of_the_whole_is_detected(void **state)
{
    (void)state;
    struct build b;
    build_mixed(&b);
    assert_true(reader_accepts(b.bytes, b.used));
    for (size_t bit = 0; bit < 8 * b.used; bit++) {
        b.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (reader_accepts(b.bytes, b.used)) {
            fail_msg("bit %zu flipped unseen", bit);
        }
        b.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(reader_accepts(b.bytes, b.used));
}

/* A skip's payload is the one place that means nothing: bits there are free, its header and padding
 * are not. */
static void batch_bits_of_a_skip_are_free_in_its_payload_only(void **state)
{
    (void)state;
    struct build b;
    build_begin(&b, plain);
    build_frame(&b, WEIR__FRAME_RECORD, 0, "before", 6);
    const size_t at = build_frame(&b, WEIR__FRAME_SKIP, 0, "0123456789", 10);
    build_frame(&b, WEIR__FRAME_RECORD, 0, "behind", 6);
    build_end(&b);
    const size_t payload = at + WEIR__FRAME_HEADER_BYTES;
    for (size_t bit = 0; bit < 8 * b.used; bit++) {
        b.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const bool free_bit = bit >= 8 * payload && bit < 8 * (payload + 10);
        assert_int_equal(reader_accepts(b.bytes, b.used), free_bit);
        b.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* A write that stopped: from any byte on the old bytes, here zeros or an older batch of the same
 * place. */
static void batch_torn_at_any_byte_is_detected(void **state)
{
    (void)state;
    struct build b;
    build_mixed(&b);
    struct build older;
    struct weir__batch batch = plain;
    batch.epoch = 1;
    batch.nonce = 99;
    build_begin(&older, batch);
    build_frame(&older, WEIR__FRAME_RECORD, 0, "older", 5);
    memset(older.bytes + older.used, 0x77, sizeof older.bytes - older.used);
    build_end(&older);

    size_t last = b.used; /* behind the last byte that is not zero */
    while (b.bytes[last - 1] == 0) {
        last--;
    }
    for (size_t cut = 0; cut < b.used; cut++) {
        uint8_t torn[sizeof b.bytes] = {0};
        memcpy(torn, b.bytes, cut);
        assert_int_equal(reader_accepts(torn, b.used), cut >= last);
        memcpy(torn + cut, older.bytes + cut, b.used - cut);
        assert_false(reader_accepts(torn, b.used));
    }
}

static void batch_fields_that_cannot_be_are_damage(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    b.prev_end = LSN + 1;
    assert_damaged(b, "batch in front of its predecessor's end");
    b = plain;
    b.epoch = 0;
    assert_damaged(b, "batch epoch");
    b = plain;
    b.epoch_lsn = LSN + 1;
    assert_damaged(b, "batch epoch");
    b = plain;
    b.promise = LSN + 1;
    assert_damaged(b, "batch promise");
    b.promise = LSN;
    assert_verdict(&b, due, newest, WEIR__BATCH_OK, "continues the position");
    for (uint32_t bytes = 1; bytes < 8; bytes++) {
        b = plain;
        b.bytes = bytes;
        assert_damaged(b, "batch length");
    }
    b = plain;
    b.records = 1;
    assert_damaged(b, "batch count of records");
    b.bytes = 48;
    b.records = 3;
    assert_damaged(b, "batch count of records");
    b.records = 2;
    assert_verdict(&b, due, newest, WEIR__BATCH_OK, "continues the position");
    b = plain;
    b.gap_end = LSN + BLOCK;
    assert_damaged(b, "batch with the end of a gap, but none");
    for (unsigned bit = 1; bit < 32; bit++) {
        b = plain;
        b.flags = UINT32_C(1) << bit;
        assert_damaged(b, "batch flags");
        b.flags |= WEIR__BATCH_GAP;
        assert_damaged(b, "batch flags");
    }
}

static void batch_gap_has_an_end_and_no_frames(void **state)
{
    (void)state;
    struct weir__batch gap = plain;
    gap.flags = WEIR__BATCH_GAP;
    assert_damaged(gap, "gap length");
    gap.gap_end = LSN;
    assert_damaged(gap, "gap length");
    gap.gap_end = LSN + 1;
    assert_damaged(gap, "gap not up to a block");
    gap.gap_end = SEGMENT_END + BLOCK;
    assert_damaged(gap, "batch beyond the segment's end");
    gap.gap_end = WEIR__LSN_MAX + BLOCK;
    assert_damaged(gap, "gap length");
    gap.gap_end = UINT64_MAX - (BLOCK - 1);
    assert_damaged(gap, "gap length");

    gap.gap_end = LSN + BLOCK; /* the smallest: its own block */
    assert_verdict(&gap, due, newest, WEIR__BATCH_OK, "continues the position");
    gap.gap_end = SEGMENT_END;
    assert_verdict(&gap, due, newest, WEIR__BATCH_OK, "continues the position");
    assert_true(weir__batch_end(&gap, BLOCK) == SEGMENT_END);
    gap.bytes = 24;
    assert_damaged(gap, "gap with frames");
    gap.records = 1;
    assert_damaged(gap, "gap with frames");
    gap.bytes = 0;
    assert_damaged(gap, "batch count of records");
}

/* ---- lengths and positions at their limits ---- */

static void batch_ends_at_the_next_block(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    assert_true(weir__batch_end(&b, BLOCK) == LSN + BLOCK); /* without frames: one block */
    b.bytes = BLOCK - 96;
    assert_true(weir__batch_end(&b, BLOCK) == LSN + BLOCK);
    b.bytes += 8;
    assert_true(weir__batch_end(&b, BLOCK) == LSN + 2 * BLOCK);
    b.bytes = UINT32_MAX - 7;
    assert_true(weir__batch_end(&b, BLOCK) == LSN + UINT64_C(0x100000000) + BLOCK);
    assert_true(weir__batch_end(&b, 65536) == UINT64_C(0x100020000));
}

static void batch_must_end_within_its_segment(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    b.bytes = (uint32_t)(SEGMENT_END - LSN - 96);
    assert_verdict(&b, due, newest, WEIR__BATCH_OK, "continues the position");
    b.bytes += 8;
    assert_damaged(b, "batch beyond the segment's end");
    for (uint32_t k = 0; k < 512; k++) {
        b.bytes = UINT32_MAX - k;
        assert_damaged(b, b.bytes % 8 == 0 ? "batch beyond the segment's end" : "batch length");
    }
}

static void batch_positions_do_not_wrap(void **state)
{
    (void)state;
    const struct weir__epoch epoch = {.epoch = 3, .lsn = 0x10000, .nonce = NONCE};
    static const uint64_t lsns[] = {
        WEIR__LSN_MAX - BLOCK,
        WEIR__LSN_MAX,
        WEIR__LSN_MAX + BLOCK,
        UINT64_MAX - 2 * BLOCK + 1,
        UINT64_MAX - BLOCK + 1,
        UINT64_MAX - 95,
        UINT64_MAX,
    };
    static const uint32_t lengths[] = {0, 8, BLOCK - 96, BLOCK - 88, UINT32_MAX - 7};
    for (size_t i = 0; i < sizeof lsns / sizeof lsns[0]; i++) {
        for (size_t j = 0; j < sizeof lengths / sizeof lengths[0]; j++) {
            struct weir__batch b = plain;
            b.lsn = b.prev_end = lsns[i];
            b.bytes = lengths[j];
            uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
            weir__batch_encode(&b, bytes);
            const bool fits = i == 0 && lengths[j] <= BLOCK - 96;
            struct weir__position position = due;
            position.lsn = lsns[i];
            struct weir__batch got;
            assert_int_equal(weir__batch_decode(bytes, &got), fits);
            static const uint64_t ends[] = {WEIR__LSN_MAX, UINT64_MAX};
            for (size_t k = 0; k < 2; k++) {
                assert_int_equal(weir__batch_judge(bytes,
                                                   lsns[i],
                                                   ends[k],
                                                   BLOCK,
                                                   LOG_ID,
                                                   &position,
                                                   &epoch,
                                                   &got,
                                                   NULL),
                                 fits ? WEIR__BATCH_OK : WEIR__BATCH_DAMAGED);
            }
        }
    }
}

/* A gap may reach the largest position, and that is then the position after it. */
static void batch_gap_may_end_at_the_largest_position(void **state)
{
    (void)state;
    struct weir__batch gap = plain;
    gap.flags = WEIR__BATCH_GAP;
    gap.gap_end = WEIR__LSN_MAX;
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(&gap, bytes);
    struct weir__batch got;
    assert_int_equal(
        weir__batch_judge(bytes, LSN, WEIR__LSN_MAX, BLOCK, LOG_ID, &due, &newest, &got, NULL),
        WEIR__BATCH_OK);
    assert_true(weir__position_after(&got, BLOCK).lsn == WEIR__LSN_MAX);
}

static void batch_starts_at_a_block(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    b.lsn = LSN + 8;
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(&b, bytes);
    struct weir__batch got;
    const char *why = NULL;
    assert_int_equal(
        weir__batch_judge(bytes, LSN + 8, SEGMENT_END, BLOCK, LOG_ID, &due, &newest, &got, &why),
        WEIR__BATCH_DAMAGED);
    assert_string_equal(why, "batch not at a block");
}

/* ---- the verdicts ---- */

static void judge_ok_when_the_position_is_continued(void **state)
{
    (void)state;
    assert_verdict(&plain, due, newest, WEIR__BATCH_OK, "continues the position");
    /* The same where the log was left at the end of the segment before, some blocks in front of
     * this one. */
    struct weir__batch b = plain;
    struct weir__position position = due;
    b.prev_end = position.lsn = LSN - 5 * BLOCK;
    struct weir__epoch epoch = newest;
    position.epoch_lsn = b.epoch_lsn = epoch.lsn = LSN - 5 * BLOCK;
    b.promise = 0;
    assert_verdict(&b, position, epoch, WEIR__BATCH_OK, "continues the position");
}

static void judge_ok_for_the_first_batch_of_an_epoch(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    b.epoch_lsn = LSN;
    const struct weir__epoch epoch = {.epoch = 3, .lsn = LSN, .nonce = NONCE};
    struct weir__position position = due;
    position.epoch = 2;
    position.epoch_lsn = 0x8000;
    position.nonce = 5;
    assert_verdict(&b, position, epoch, WEIR__BATCH_OK, "continues the position");
    /* Epochs 1 and 2 were opened and nothing was appended: the number may jump. */
    position.epoch = 0;
    assert_verdict(&b, position, epoch, WEIR__BATCH_OK, "continues the position");
}

/* The first batch of a log, at the position where all logs begin. */
static void judge_ok_for_the_first_batch_of_a_log(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    b.lsn = b.prev_end = b.epoch_lsn = BLOCK;
    b.epoch = 1;
    b.promise = 0;
    b.chain = 0;
    const struct weir__position position = {.lsn = BLOCK};
    const struct weir__epoch epoch = {.epoch = 1, .lsn = BLOCK, .nonce = NONCE};
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(&b, bytes);
    struct weir__batch got;
    assert_int_equal(
        weir__batch_judge(bytes, BLOCK, SEGMENT_END, BLOCK, LOG_ID, &position, &epoch, &got, NULL),
        WEIR__BATCH_OK);
}

/* Below the newest epoch's start, batches of older epochs are what is due. */
static void judge_ok_for_older_epochs_below_the_newest_start(void **state)
{
    (void)state;
    const struct weir__epoch later = {.epoch = 9, .lsn = LSN + BLOCK, .nonce = 1};
    assert_verdict(&plain, due, later, WEIR__BATCH_OK, "continues the position");
    /* The change from epoch 1 to 3 in the middle of the log. */
    struct weir__batch b = plain;
    b.epoch_lsn = LSN;
    struct weir__position position = due;
    position.epoch = 1;
    position.nonce = 4;
    position.epoch_lsn = 0;
    assert_verdict(&b, position, later, WEIR__BATCH_OK, "continues the position");
}

static void judge_zero_means_all_96_bytes(void **state)
{
    (void)state;
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES] = {0};
    const char *why = NULL;
    assert_int_equal(judge_at(bytes, due, newest, &why), WEIR__BATCH_ZERO);
    assert_string_equal(why, "zeros");
    for (unsigned bit = 0; bit < 8 * WEIR__BATCH_HEADER_BYTES; bit++) {
        memset(bytes, 0, sizeof bytes);
        bytes[bit / 8] = (uint8_t)(1u << bit % 8);
        assert_int_equal(judge_at(bytes, due, newest, NULL), WEIR__BATCH_NOT_OURS);
    }
}

static void judge_not_ours_for_another_magic_log_or_place(void **state)
{
    (void)state;
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    memset(bytes, 0xFF, sizeof bytes);
    const char *why = NULL;
    assert_int_equal(judge_at(bytes, due, newest, &why), WEIR__BATCH_NOT_OURS);
    assert_string_equal(why, "batch magic");

    struct weir__batch b = plain;
    b.log_id ^= 1;
    assert_verdict(&b, due, newest, WEIR__BATCH_NOT_OURS, "batch of another log");
    /* The same file one turn of recycling ago. */
    b = plain;
    b.lsn = b.prev_end = LSN - 0x10000;
    b.promise = b.epoch_lsn = 0;
    assert_verdict(&b, due, newest, WEIR__BATCH_NOT_OURS, "batch of another LSN");
    b = plain;
    b.lsn += BLOCK;
    assert_verdict(&b, due, newest, WEIR__BATCH_NOT_OURS, "batch of another LSN");
}

/* Rule 4: at or above the newest epoch's start nothing older counts, one block below it does. */
static void judge_stale_for_an_older_epoch_above_the_newest_start(void **state)
{
    (void)state;
    struct weir__epoch epoch = {.epoch = 4, .lsn = LSN, .nonce = 77};
    assert_verdict(&plain,
                   due,
                   epoch,
                   WEIR__BATCH_STALE,
                   "older epoch above the start of the newest");
    epoch.lsn = LSN - BLOCK;
    assert_verdict(&plain,
                   due,
                   epoch,
                   WEIR__BATCH_STALE,
                   "older epoch above the start of the newest");
    epoch.lsn = LSN + BLOCK;
    assert_verdict(&plain, due, epoch, WEIR__BATCH_OK, "continues the position");
    epoch.lsn = LSN + 1;
    assert_verdict(&plain, due, epoch, WEIR__BATCH_OK, "continues the position");
}

/* Epoch 4 was opened here and wrote a batch that was cut; 5 was opened here too and has appended
 * nothing yet. */
static void judge_stale_after_epochs_without_an_append(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    b.epoch = 4;
    b.epoch_lsn = LSN;
    b.nonce = 44;
    const struct weir__epoch fourth = {.epoch = 4, .lsn = LSN, .nonce = 44};
    const struct weir__epoch fifth = {.epoch = 5, .lsn = LSN, .nonce = 55};
    assert_verdict(&b, due, fourth, WEIR__BATCH_OK, "continues the position");
    assert_verdict(&b, due, fifth, WEIR__BATCH_STALE, "older epoch above the start of the newest");
    b.epoch = 5;
    b.nonce = 55;
    assert_verdict(&b, due, fifth, WEIR__BATCH_OK, "continues the position");
    /* A position that already is in the new epoch, as after an open, gives the same answer. */
    const struct weir__position opened = {.lsn = LSN,
                                          .epoch = 5,
                                          .epoch_lsn = LSN,
                                          .nonce = 55,
                                          .chain = CHAIN};
    assert_verdict(&b, opened, fifth, WEIR__BATCH_OK, "continues the position");
}

/* A copy of the directory that went its own way: same log id, LSN and epoch number. */
static void judge_stale_for_a_diverged_copy(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    b.nonce ^= 1;
    assert_verdict(&b, due, newest, WEIR__BATCH_STALE, "another history of the newest epoch");
    b = plain;
    b.epoch_lsn += BLOCK;
    assert_verdict(&b, due, newest, WEIR__BATCH_STALE, "another history of the newest epoch");

    /* The same below the start of a later epoch, where only the position knows. */
    const struct weir__epoch later = {.epoch = 9, .lsn = LSN + BLOCK, .nonce = 1};
    b = plain;
    b.nonce ^= 1;
    assert_verdict(&b,
                   due,
                   later,
                   WEIR__BATCH_STALE,
                   "another history of the epoch of the batch before");
    b = plain;
    b.epoch_lsn += BLOCK;
    assert_verdict(&b,
                   due,
                   later,
                   WEIR__BATCH_STALE,
                   "another history of the epoch of the batch before");

    /* Its first batch of the epoch, in place of ours. */
    b = plain;
    b.epoch_lsn = LSN;
    b.nonce = 1000;
    const struct weir__epoch ours = {.epoch = 3, .lsn = LSN, .nonce = NONCE};
    struct weir__position before = due;
    before.epoch = 2;
    assert_verdict(&b, before, ours, WEIR__BATCH_STALE, "another history of the newest epoch");
}

static void judge_stale_when_epochs_would_go_back(void **state)
{
    (void)state;
    const struct weir__epoch later = {.epoch = 9, .lsn = LSN + BLOCK, .nonce = 1};
    struct weir__position position = due;
    position.epoch = 4;
    assert_verdict(&plain,
                   position,
                   later,
                   WEIR__BATCH_STALE,
                   "older epoch than that of the batch before");
}

/* The control file is older than the log, as after restoring it alone from a backup. */
static void judge_stale_for_an_epoch_above_the_newest(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    b.epoch = 4;
    assert_verdict(&b, due, newest, WEIR__BATCH_STALE, "epoch above the control file's");
    const struct weir__epoch later = {.epoch = 3, .lsn = LSN + BLOCK, .nonce = NONCE};
    assert_verdict(&b, due, later, WEIR__BATCH_STALE, "epoch above the control file's");
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(&b, bytes);
    struct weir__batch got;
    weir__batch_judge(bytes, LSN, SEGMENT_END, BLOCK, LOG_ID, &due, &newest, &got, NULL);
    assert_true(got.epoch == 4); /* what the caller looks at */
}

/* Bytes that begin below the newest start cannot be of the newest epoch. */
static void judge_refuses_the_newest_epoch_below_its_start(void **state)
{
    (void)state;
    const struct weir__epoch epoch = {.epoch = 3, .lsn = LSN + BLOCK, .nonce = NONCE};
    assert_verdict(&plain, due, epoch, WEIR__BATCH_STALE, "another history of the newest epoch");
    struct weir__batch b = plain;
    b.epoch_lsn = LSN + BLOCK; /* above its own prev_end */
    assert_damaged(b, "batch epoch");
}

static void judge_damaged_when_the_checksum_fails(void **state)
{
    (void)state;
    uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(&plain, bytes);
    bytes[70] ^= 0x10;
    const char *why = NULL;
    assert_int_equal(judge_at(bytes, due, newest, &why), WEIR__BATCH_DAMAGED);
    assert_string_equal(why, "batch header checksum");
    /* Damage comes before age: what a damaged header says of its epoch is worth nothing. */
    const struct weir__epoch fourth = {.epoch = 4, .lsn = LSN, .nonce = 4};
    assert_int_equal(judge_at(bytes, due, fourth, NULL), WEIR__BATCH_DAMAGED);
}

static void judge_unchained_when_the_position_is_another(void **state)
{
    (void)state;
    struct weir__position position = due;
    position.chain ^= 1;
    assert_verdict(&plain,
                   position,
                   newest,
                   WEIR__BATCH_UNCHAINED,
                   "batch continues another chain");
    position = due;
    position.lsn -= BLOCK;
    assert_verdict(&plain,
                   position,
                   newest,
                   WEIR__BATCH_UNCHAINED,
                   "batch continues another position");
    /* The epoch that is due, but it began where the log is not: the batches between were lost. */
    struct weir__batch b = plain;
    position = due;
    position.epoch = 2;
    assert_verdict(&b,
                   position,
                   newest,
                   WEIR__BATCH_UNCHAINED,
                   "new epoch that did not begin here");
    const struct weir__epoch later = {.epoch = 9, .lsn = LSN + BLOCK, .nonce = 1};
    assert_verdict(&b, position, later, WEIR__BATCH_UNCHAINED, "new epoch that did not begin here");
}

/* Why the first batch of an epoch must stand where the log was cut (FORMAT.md section 5): a sound
 * batch of epoch 3 was cut off by epoch 4, and by now the newest epoch is 5 and began further on.
 * Only what epoch 4 wrote at the cut tells. */
static void judge_refuses_what_was_cut_once_the_new_epoch_has_a_batch(void **state)
{
    (void)state;
    const struct weir__epoch fourth = {.epoch = 4, .lsn = LSN - BLOCK, .nonce = 44};
    const struct weir__epoch fifth = {.epoch = 5, .lsn = LSN + 8 * BLOCK, .nonce = 55};
    const struct weir__batch first = {.log_id = LOG_ID,
                                      .lsn = LSN - BLOCK,
                                      .prev_end = LSN - BLOCK,
                                      .epoch = 4,
                                      .epoch_lsn = LSN - BLOCK,
                                      .nonce = 44,
                                      .chain = CHAIN};
    const struct weir__position after = weir__position_after(&first, BLOCK);
    assert_true(after.lsn == LSN);
    struct weir__batch cut = plain;
    cut.chain = after.chain; /* even if the chain agreed by chance */
    assert_verdict(&cut,
                   after,
                   fourth,
                   WEIR__BATCH_STALE,
                   "older epoch above the start of the newest");
    assert_verdict(&cut,
                   after,
                   fifth,
                   WEIR__BATCH_STALE,
                   "older epoch than that of the batch before");
}

/* ---- the chain ---- */

static void chain_depends_on_everything_that_it_names(void **state)
{
    (void)state;
    const uint32_t chain = weir__chain_next(CHAIN, LSN, LSN + BLOCK, 3, NONCE);
    for (unsigned bit = 0; bit < 64; bit++) {
        const uint64_t flip = UINT64_C(1) << bit;
        assert_int_not_equal(chain, weir__chain_next(CHAIN, LSN ^ flip, LSN + BLOCK, 3, NONCE));
        assert_int_not_equal(chain, weir__chain_next(CHAIN, LSN, (LSN + BLOCK) ^ flip, 3, NONCE));
        assert_int_not_equal(chain, weir__chain_next(CHAIN, LSN, LSN + BLOCK, 3 ^ flip, NONCE));
        assert_int_not_equal(chain, weir__chain_next(CHAIN, LSN, LSN + BLOCK, 3, NONCE ^ flip));
        if (bit < 32) {
            assert_int_not_equal(
                chain,
                weir__chain_next(CHAIN ^ (uint32_t)flip, LSN, LSN + BLOCK, 3, NONCE));
        }
    }
}

static void position_after_a_batch_is_its_end_and_its_epoch(void **state)
{
    (void)state;
    struct weir__batch b = plain;
    b.bytes = BLOCK;
    struct weir__position after = weir__position_after(&b, BLOCK);
    assert_true(after.lsn == LSN + 2 * BLOCK);
    assert_true(after.epoch == 3);
    assert_true(after.epoch_lsn == 0x10000);
    assert_true(after.nonce == NONCE);
    assert_int_equal(after.chain, weir__chain_next(CHAIN, LSN, LSN + 2 * BLOCK, 3, NONCE));

    b.bytes = 0;
    b.flags = WEIR__BATCH_GAP;
    b.gap_end = SEGMENT_END;
    after = weir__position_after(&b, BLOCK);
    assert_true(after.lsn == SEGMENT_END);
    assert_int_equal(after.chain, weir__chain_next(CHAIN, LSN, SEGMENT_END, 3, NONCE));
}

/* ---- what stands behind the header ---- */

static void check_sees_every_frame_in_order(void **state)
{
    (void)state;
    struct build b;
    build_mixed(&b);
    const struct answer answer = check_whole(&b.batch, b.bytes, b.used);
    assert_int_equal(answer.end, 0);
    static const uint32_t lengths[] = {0, 1, 7, 8, 3, 0, 5, 700};
    assert_int_equal(answer.seen.count, 8);
    weir_lsn lsn = LSN + WEIR__BATCH_HEADER_BYTES;
    for (size_t i = 0; i < 8; i++) {
        assert_true(answer.seen.lsns[i] == lsn);
        assert_int_equal(answer.seen.frames[i].bytes, lengths[i]);
        assert_true(answer.seen.frames[i].tag == lsn - LSN);
        assert_int_equal(answer.seen.frames[i].flags, i == 4 || i == 5 ? WEIR__FRAME_MORE : 0);
        lsn += weir__frame_span(lengths[i]);
    }
    assert_true(answer.frame_lsn == lsn);
}

static void check_gives_one_answer_wherever_the_feed_is_split(void **state)
{
    (void)state;
    struct build b;
    build_mixed(&b);
    const struct answer whole = check_whole(&b.batch, b.bytes, b.used);
    assert_int_equal(whole.end, 0);
    for (size_t split = 0; split <= b.used - WEIR__BATCH_HEADER_BYTES; split++) {
        const size_t pieces[] = {split, b.used};
        const struct answer answer = check_in_pieces(&b.batch, b.bytes, b.used, pieces, 2);
        assert_same_answer(&whole, &answer);
    }
    for (size_t piece = 1; piece < 64; piece++) {
        const struct answer answer = check_in_pieces(&b.batch, b.bytes, b.used, &piece, 1);
        assert_same_answer(&whole, &answer);
    }
}

/* The same for damage: what is refused, why and at which frame does not depend on the cuts. */
static void check_refuses_alike_wherever_the_feed_is_split(void **state)
{
    (void)state;
    struct build b;
    build_mixed(&b);
    for (size_t at = WEIR__BATCH_HEADER_BYTES; at < b.used; at += 3) {
        b.bytes[at] ^= 0x20;
        const struct answer whole = check_whole(&b.batch, b.bytes, b.used);
        assert_int_equal(whole.end, WEIR_ECORRUPT);
        for (size_t split = 0; split <= b.used - WEIR__BATCH_HEADER_BYTES; split += 7) {
            const size_t pieces[] = {split, b.used};
            const struct answer answer = check_in_pieces(&b.batch, b.bytes, b.used, pieces, 2);
            assert_same_answer(&whole, &answer);
        }
        const size_t one = 1;
        const struct answer answer = check_in_pieces(&b.batch, b.bytes, b.used, &one, 1);
        assert_same_answer(&whole, &answer);
        b.bytes[at] ^= 0x20;
    }
}

static void check_misses_what_was_not_fed(void **state)
{
    (void)state;
    struct build b;
    build_mixed(&b);
    for (size_t used = WEIR__BATCH_HEADER_BYTES; used < b.used; used++) {
        const struct answer answer = check_whole(&b.batch, b.bytes, used);
        assert_int_equal(answer.feed, 0);
        assert_int_equal(answer.end, WEIR_ECORRUPT);
        assert_string_equal(answer.why, "batch cut short");
    }
}

static void check_refuses_bytes_behind_the_batch(void **state)
{
    (void)state;
    struct build b;
    build_mixed(&b);
    const struct answer answer = check_whole(&b.batch, b.bytes, b.used + 1);
    assert_int_equal(answer.feed, WEIR_ECORRUPT);
    assert_string_equal(answer.why, "bytes behind the batch");
    const size_t pieces[] = {b.used - WEIR__BATCH_HEADER_BYTES, 1};
    const struct answer split = check_in_pieces(&b.batch, b.bytes, b.used + 1, pieces, 2);
    assert_same_answer(&answer, &split);
}

/* What was refused stays refused, with its first reason. */
static void check_does_not_recover_from_a_refusal(void **state)
{
    (void)state;
    struct build b;
    build_mixed(&b);
    struct weir__batch_check check;
    weir__batch_check_begin(&check, &b.batch, BLOCK);
    const uint8_t junk[WEIR__FRAME_HEADER_BYTES] = {1};
    assert_int_equal(weir__batch_check_feed(&check, junk, sizeof junk), WEIR_ECORRUPT);
    assert_string_equal(check.why, "frame checksum");
    assert_true(check.frame_lsn == LSN + WEIR__BATCH_HEADER_BYTES);
    assert_int_equal(weir__batch_check_feed(&check, b.bytes + 96, b.used - 96), WEIR_ECORRUPT);
    assert_int_equal(weir__batch_check_feed(&check, NULL, 0), WEIR_ECORRUPT);
    assert_int_equal(weir__batch_check_end(&check), WEIR_ECORRUPT);
    assert_string_equal(check.why, "frame checksum");
}

static void check_accepts_batches_without_frames(void **state)
{
    (void)state;
    struct build b;
    build_begin(&b, plain);
    build_end(&b);
    assert_int_equal(b.used, BLOCK);
    assert_check_accepts(&b);
    b.bytes[BLOCK - 1] = 1;
    assert_check_refuses(&b, "batch padding");
}

/* Of a gap only its own block is looked at. */
static void check_of_a_gap_ends_with_its_block(void **state)
{
    (void)state;
    struct build b;
    struct weir__batch gap = plain;
    gap.flags = WEIR__BATCH_GAP;
    gap.gap_end = LSN + 8 * BLOCK;
    build_begin(&b, gap);
    memset(b.bytes + BLOCK, 0xDB, 7 * BLOCK);
    build_end(&b);
    assert_int_equal(b.used, BLOCK);
    assert_check_accepts(&b);
    b.bytes[BLOCK - 1] = 1;
    assert_check_refuses(&b, "batch padding");
}

/* Frames of every length around a multiple of 8, alone in their batch: each fits exactly, and no
 * byte less will do. */
static void check_accepts_every_length_and_nothing_around_it(void **state)
{
    (void)state;
    uint8_t payload[1100];
    memset(payload, 0x5A, sizeof payload);
    for (uint32_t bytes = 0; bytes <= sizeof payload; bytes++) {
        struct build b;
        build_begin(&b, plain);
        build_frame(&b, WEIR__FRAME_RECORD, 0, payload, bytes);
        build_end(&b);
        assert_check_accepts(&b);
        b.batch.bytes -= 8; /* the header says less than the frame takes */
        assert_check_refuses(&b, "frame length");
        b.batch.bytes += 16; /* or more: 8 bytes are left, too few for a header */
        assert_check_refuses(&b, "frame length");
        b.batch.bytes += 16; /* or room for a header of zeros */
        b.used += BLOCK;     /* which may lie in a block more */
        assert_check_refuses(&b, "frame checksum");
    }
}

static void check_refuses_lengths_that_lie(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 64; k++) {
        struct build b;
        build_begin(&b, plain);
        build_frame(&b, WEIR__FRAME_RECORD, 0, "payload", 7);
        const struct weir__frame lie = {.bytes = UINT32_MAX - k, .type = WEIR__FRAME_RECORD};
        weir__frame_encode(&lie, build_salt(&b), LSN + 96, b.bytes + 96);
        build_end(&b);
        assert_check_refuses(&b, "frame length");
    }
}

/* The largest batch that the format can say: one skip over all of it, 4 GiB in pieces, constant
 * memory. */
static void check_passes_the_largest_batch(void **state)
{
    (void)state;
    struct weir__batch batch = plain;
    batch.bytes = UINT32_MAX - 7;
    struct weir__batch_check check;
    weir__batch_check_begin(&check, &batch, BLOCK);
    const struct weir__frame skip = {.bytes = UINT32_MAX - 7 - 24, .type = WEIR__FRAME_SKIP};
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    weir__frame_encode(&skip, weir__frame_salt(LOG_ID, NONCE, 3), LSN + 96, header);
    assert_int_equal(weir__batch_check_feed(&check, header, sizeof header), 0);
    const size_t piece = 1u << 20;
    uint8_t *junk = malloc(piece);
    assert_non_null(junk);
    memset(junk, 0xEE, piece);
    for (uint64_t left = skip.bytes; left != 0;) {
        const size_t bytes = (size_t)weir__min_u64(left, piece);
        assert_int_equal(weir__batch_check_feed(&check, junk, bytes), 0);
        left -= bytes;
    }
    free(junk);
    static const uint8_t zeros[BLOCK];
    assert_true(check.padding_left == BLOCK - 96 + 8);
    assert_int_equal(weir__batch_check_feed(&check, zeros, BLOCK - 96 + 8), 0);
    assert_int_equal(weir__batch_check_end(&check), 0);
}

static void check_counts_records(void **state)
{
    (void)state;
    struct build b;
    build_begin(&b, plain);
    build_frame(&b, WEIR__FRAME_RECORD, 0, "a", 1);
    build_frame(&b, WEIR__FRAME_SKIP, 0, "b", 1);
    build_frame(&b, WEIR__FRAME_RECORD, 0, "c", 1);
    build_end(&b);
    assert_int_equal(b.batch.records, 2);
    assert_check_accepts(&b);
    b.batch.records = 3;
    assert_check_refuses(&b, "batch count of records");
    b.batch.records = 1;
    assert_check_refuses(&b, "batch count of records");

    build_begin(&b, plain); /* nothing but a skip */
    build_frame(&b, WEIR__FRAME_SKIP, 0, "b", 1);
    build_end(&b);
    assert_check_accepts(&b);
    /* A header that nobody decoded: records without bytes. Refused before anything is fed. */
    struct weir__batch batch = plain;
    batch.records = 1;
    struct weir__batch_check check;
    weir__batch_check_begin(&check, &batch, BLOCK);
    assert_int_equal(weir__batch_check_end(&check), WEIR_ECORRUPT);
    assert_string_equal(check.why, "batch count of records");
}

static void check_wants_groups_whole(void **state)
{
    (void)state;
    struct build b;
    build_begin(&b, plain);
    build_frame(&b, WEIR__FRAME_RECORD, WEIR__FRAME_MORE, "a", 1);
    build_end(&b);
    assert_check_refuses(&b, "group without its last frame");

    build_begin(&b, plain);
    build_frame(&b, WEIR__FRAME_RECORD, WEIR__FRAME_MORE, "a", 1);
    build_frame(&b, WEIR__FRAME_SKIP, 0, "b", 1);
    build_end(&b);
    assert_check_refuses(&b, "skip inside a group");

    build_begin(&b, plain);
    build_frame(&b, WEIR__FRAME_RECORD, WEIR__FRAME_MORE, "a", 1);
    build_frame(&b, WEIR__FRAME_RECORD, 0, "b", 1);
    build_frame(&b, WEIR__FRAME_SKIP, 0, "c", 1);
    build_end(&b);
    assert_check_accepts(&b);
}

static void check_wants_zeros_where_padding_is(void **state)
{
    (void)state;
    struct build b;
    build_begin(&b, plain);
    const size_t at = build_frame(&b, WEIR__FRAME_RECORD, 0, "a", 1);
    build_end(&b);
    for (size_t i = 1; i < 8; i++) {
        b.bytes[at + WEIR__FRAME_HEADER_BYTES + i] = 0x80;
        assert_check_refuses(&b, "frame padding");
        b.bytes[at + WEIR__FRAME_HEADER_BYTES + i] = 0;
    }
    for (size_t i = at + 32; i < b.used; i++) {
        b.bytes[i] = 1;
        assert_check_refuses(&b, "batch padding");
        b.bytes[i] = 0;
    }
    b.bytes[at + WEIR__FRAME_HEADER_BYTES] ^= 1;
    assert_check_refuses(&b, "payload checksum");
}

/* ---- the salt ---- */

/* A whole sound batch whose frames come from elsewhere: another place, epoch, nonce or log. */
static void check_refuses_frames_that_were_moved(void **state)
{
    (void)state;
    for (int what = 0; what < 5; what++) {
        struct weir__batch origin = plain;
        switch (what) {
        case 1:
            origin.lsn = origin.prev_end = LSN + BLOCK;
            break;
        case 2:
            origin.epoch = 2;
            break;
        case 3:
            origin.nonce ^= 1;
            break;
        case 4:
            origin.log_id ^= 1;
            break;
        default: /* nothing is moved: the test itself is right */
            break;
        }
        struct build b;
        build_begin(&b, origin);
        build_frame(&b, WEIR__FRAME_RECORD, 0, "a record", 8);
        build_end(&b);
        struct weir__batch batch = plain;
        batch.bytes = b.batch.bytes;
        batch.records = b.batch.records;
        b.batch = batch;
        if (what == 0) {
            assert_check_accepts(&b);
        } else {
            assert_check_refuses(&b, "frame checksum");
        }
    }

    /* Two frames of one batch that changed places. */
    struct build b;
    build_begin(&b, plain);
    build_frame(&b, WEIR__FRAME_RECORD, 0, "first", 5);
    build_frame(&b, WEIR__FRAME_RECORD, 0, "other", 5);
    build_end(&b);
    uint8_t frame[32];
    memcpy(frame, b.bytes + 96, 32);
    memcpy(b.bytes + 96, b.bytes + 128, 32);
    memcpy(b.bytes + 128, frame, 32);
    assert_check_refuses(&b, "frame checksum");
}

/* A user put the image of a frame into a payload, for the very LSN at which it would lie, with the
 * nonce that the log had. As payload it is read like any other. When the file's blocks are used
 * again under the next nonce, and the write of the second block is lost, the image lies where a
 * frame is due: it must not become a record. */
static void check_refuses_a_frame_inside_an_old_payload(void **state)
{
    (void)state;
    const size_t image_at = BLOCK; /* the second block begins with the image */
    uint8_t payload[BLOCK];
    memset(payload, 0, sizeof payload);
    const size_t payload_at = WEIR__BATCH_HEADER_BYTES + WEIR__FRAME_HEADER_BYTES;
    const struct weir__frame image = {.bytes = 8,
                                      .payload_crc = weir__crc32c(0, "forged!!", 8),
                                      .tag = 1,
                                      .type = WEIR__FRAME_RECORD};
    weir__frame_encode(&image,
                       weir__frame_salt(LOG_ID, NONCE, 3),
                       LSN + image_at,
                       payload + image_at - payload_at);
    memcpy(payload + image_at - payload_at + WEIR__FRAME_HEADER_BYTES, "forged!!", 8);

    struct build old;
    build_begin(&old, plain);
    build_frame(&old, WEIR__FRAME_RECORD, 0, payload, (uint32_t)(image_at - payload_at + 32));
    build_end(&old);
    const struct answer answer = check_whole(&old.batch, old.bytes, old.used);
    assert_int_equal(answer.end, 0);
    assert_int_equal(answer.seen.count, 1); /* a payload, not a frame */

    /* Under the old nonce the image would pass: it is the nonce that refuses it. */
    for (int fresh = 0; fresh < 2; fresh++) {
        struct weir__batch next = plain;
        if (fresh == 1) {
            next.epoch = 4;
            next.nonce = 0xBADC0FFEE0DDF00Du;
            next.epoch_lsn = LSN;
        }
        struct build b;
        build_begin(&b, next);
        memset(payload, 0x11, sizeof payload);
        build_frame(&b, WEIR__FRAME_RECORD, 0, payload, (uint32_t)(image_at - payload_at));
        assert_int_equal(b.used, image_at);
        build_frame(&b, WEIR__FRAME_RECORD, 0, "genuine!", 8);
        build_end(&b);
        assert_check_accepts(&b);
        memcpy(b.bytes + image_at, old.bytes + image_at, 32); /* the lost write */
        if (fresh == 1) {
            assert_check_refuses(&b, "frame checksum");
        } else {
            assert_check_accepts(&b);
        }
    }
}

/* ---- anything at all ---- */

static uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

/* Headers of random fields under checksums that hold: whatever is called OK lies inside its
 * segment, at a block, and its check can be run. */
static void random_headers_are_judged_within_bounds(void **state)
{
    (void)state;
    uint64_t r = seed;
    unsigned ok = 0;
    for (int i = 0; i < 200000; i++) {
        struct weir__batch b = plain;
        for (uint64_t changes = random_next(&r) % 4; changes != 0; changes--) {
            static const uint64_t values[] = {0,
                                              1,
                                              8,
                                              BLOCK,
                                              LSN,
                                              SEGMENT_END,
                                              WEIR__LSN_MAX,
                                              UINT32_MAX,
                                              UINT32_MAX - 7,
                                              UINT64_MAX};
            uint64_t value = random_next(&r);
            if (value % 4 != 0) {
                value = values[value / 4 % 10] + random_next(&r) % 3 * 8 - 8;
            }
            switch (random_next(&r) % 10) {
            case 0:
                b.prev_end = value;
                break;
            case 1:
                b.epoch = value;
                break;
            case 2:
                b.epoch_lsn = value;
                break;
            case 3:
                b.nonce = value;
                break;
            case 4:
                b.promise = value;
                break;
            case 5:
                b.records = (uint32_t)value;
                break;
            case 6:
                b.flags = (uint32_t)value % 3;
                break;
            case 7:
                b.chain = (uint32_t)value;
                break;
            case 8:
                b.gap_end = value;
                break;
            default:
                b.bytes = (uint32_t)value;
                break;
            }
        }
        uint8_t bytes[WEIR__BATCH_HEADER_BYTES];
        weir__batch_encode(&b, bytes);
        struct weir__batch got;
        if (weir__batch_judge(bytes, LSN, SEGMENT_END, BLOCK, LOG_ID, &due, &newest, &got, NULL) ==
            WEIR__BATCH_OK) {
            ok++;
            const weir_lsn end = weir__batch_end(&got, BLOCK);
            assert_true(end > LSN && end <= SEGMENT_END && end % BLOCK == 0);
            assert_true(got.prev_end == LSN && got.chain == CHAIN && got.nonce == NONCE);
        }
    }
    assert_true(ok > 1000); /* else the test tests nothing */
}

/* Random bytes, and sound batches with random damage, in random pieces: nothing but the original is
 * accepted, and nothing makes the check read where it must not. */
static void random_damage_is_refused(void **state)
{
    (void)state;
    uint64_t r = seed ^ 0xD00D;
    struct build b;
    build_mixed(&b);
    const struct answer whole = check_whole(&b.batch, b.bytes, b.used);
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[sizeof b.bytes];
        memcpy(bytes, b.bytes, b.used);
        if (i % 8 == 0) {
            for (size_t at = WEIR__BATCH_HEADER_BYTES; at < b.used; at++) {
                bytes[at] = (uint8_t)random_next(&r);
            }
        }
        for (uint64_t changes = random_next(&r) % 4; changes != 0; changes--) {
            const size_t at = 96 + (size_t)(random_next(&r) % (b.used - 96));
            const size_t run = 1 + (size_t)(random_next(&r) % 40);
            for (size_t k = at; k < at + run && k < b.used; k++) {
                bytes[k] = (uint8_t)random_next(&r);
            }
        }
        size_t pieces[16];
        for (size_t k = 0; k < 16; k++) {
            pieces[k] = 1 + (size_t)(random_next(&r) % 200);
        }
        const struct answer answer = check_in_pieces(&b.batch, bytes, b.used, pieces, 16);
        if (memcmp(bytes, b.bytes, b.used) == 0) {
            assert_same_answer(&whole, &answer);
        } else {
            assert_int_equal(answer.end, WEIR_ECORRUPT);
        }
    }
}

/* Batches that nobody decoded: begin, feed and end stay within bounds for any fields. */
static void random_batches_can_be_checked(void **state)
{
    (void)state;
    uint64_t r = seed ^ 0xBEEF;
    uint8_t bytes[256];
    for (int i = 0; i < 20000; i++) {
        struct weir__batch batch = plain;
        batch.lsn = random_next(&r);
        batch.bytes = (uint32_t)(random_next(&r) >> (32 + random_next(&r) % 32));
        batch.records = (uint32_t)(random_next(&r) % 3);
        struct weir__batch_check check;
        weir__batch_check_begin(&check, &batch, BLOCK);
        for (size_t k = 0; k < sizeof bytes; k++) {
            bytes[k] = i % 2 == 0 ? 0 : (uint8_t)random_next(&r);
        }
        (void)weir__batch_check_feed(&check, bytes, random_next(&r) % sizeof bytes);
        (void)weir__batch_check_feed(&check, bytes, random_next(&r) % sizeof bytes);
        if (batch.bytes != 0 || batch.records != 0) {
            assert_int_equal(weir__batch_check_end(&check), WEIR_ECORRUPT);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
        seed = strtoull(argv[2], NULL, 0);
    }
    printf("run again with: %s --seed %" PRIu64 "\n", argv[0], seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_reads_back_what_was_written),
        cmocka_unit_test(batch_decode_tells_what_damaged_bytes_say),
        cmocka_unit_test(batch_every_flipped_bit_of_a_header_is_detected),
        cmocka_unit_test(batch_every_flipped_bit_of_the_whole_is_detected),
        cmocka_unit_test(batch_bits_of_a_skip_are_free_in_its_payload_only),
        cmocka_unit_test(batch_torn_at_any_byte_is_detected),
        cmocka_unit_test(batch_fields_that_cannot_be_are_damage),
        cmocka_unit_test(batch_gap_has_an_end_and_no_frames),
        cmocka_unit_test(batch_ends_at_the_next_block),
        cmocka_unit_test(batch_must_end_within_its_segment),
        cmocka_unit_test(batch_positions_do_not_wrap),
        cmocka_unit_test(batch_gap_may_end_at_the_largest_position),
        cmocka_unit_test(batch_starts_at_a_block),
        cmocka_unit_test(judge_ok_when_the_position_is_continued),
        cmocka_unit_test(judge_ok_for_the_first_batch_of_an_epoch),
        cmocka_unit_test(judge_ok_for_the_first_batch_of_a_log),
        cmocka_unit_test(judge_ok_for_older_epochs_below_the_newest_start),
        cmocka_unit_test(judge_zero_means_all_96_bytes),
        cmocka_unit_test(judge_not_ours_for_another_magic_log_or_place),
        cmocka_unit_test(judge_stale_for_an_older_epoch_above_the_newest_start),
        cmocka_unit_test(judge_stale_after_epochs_without_an_append),
        cmocka_unit_test(judge_stale_for_a_diverged_copy),
        cmocka_unit_test(judge_stale_when_epochs_would_go_back),
        cmocka_unit_test(judge_stale_for_an_epoch_above_the_newest),
        cmocka_unit_test(judge_refuses_the_newest_epoch_below_its_start),
        cmocka_unit_test(judge_damaged_when_the_checksum_fails),
        cmocka_unit_test(judge_unchained_when_the_position_is_another),
        cmocka_unit_test(judge_refuses_what_was_cut_once_the_new_epoch_has_a_batch),
        cmocka_unit_test(chain_depends_on_everything_that_it_names),
        cmocka_unit_test(position_after_a_batch_is_its_end_and_its_epoch),
        cmocka_unit_test(check_sees_every_frame_in_order),
        cmocka_unit_test(check_gives_one_answer_wherever_the_feed_is_split),
        cmocka_unit_test(check_refuses_alike_wherever_the_feed_is_split),
        cmocka_unit_test(check_misses_what_was_not_fed),
        cmocka_unit_test(check_refuses_bytes_behind_the_batch),
        cmocka_unit_test(check_does_not_recover_from_a_refusal),
        cmocka_unit_test(check_accepts_batches_without_frames),
        cmocka_unit_test(check_of_a_gap_ends_with_its_block),
        cmocka_unit_test(check_accepts_every_length_and_nothing_around_it),
        cmocka_unit_test(check_refuses_lengths_that_lie),
        cmocka_unit_test(check_passes_the_largest_batch),
        cmocka_unit_test(check_counts_records),
        cmocka_unit_test(check_wants_groups_whole),
        cmocka_unit_test(check_wants_zeros_where_padding_is),
        cmocka_unit_test(check_refuses_frames_that_were_moved),
        cmocka_unit_test(check_refuses_a_frame_inside_an_old_payload),
        cmocka_unit_test(random_headers_are_judged_within_bounds),
        cmocka_unit_test(random_damage_is_refused),
        cmocka_unit_test(random_batches_can_be_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
