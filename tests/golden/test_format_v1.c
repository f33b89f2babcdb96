/* SPDX-License-Identifier: Apache-2.0
 * Format version 1, held fast by files that never change: tests/golden/v1/.
 *
 *   control.bin            one copy of the control file, a block of 4,096
 *   segment_header.bin     the first block of the first segment of a log with blocks of 512
 *   0000...weir            a recycled segment of 64 KiB with blocks of 4,096
 *
 * What they hold stands below, in literal numbers. Each file is decoded field by field against
 * these numbers, and the numbers, encoded again, must give the file byte for byte. Checksums are
 * compared with a bitwise CRC32C that shares no code with the engine, and three pieces stand here
 * in hand-written hex.
 *
 * The files were made by `test_format_v1 --write DIR`, which encodes the same numbers. A build of a
 * later format keeps this test and these files as they are, and adds its own. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/batch.h"
#include "format/control.h"
#include "format/frame.h"
#include "format/segment_header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BLOCK 4096u
#define LOG_ID 0x1122334455667788u
#define NONCE_1 0x0102030405060708u
#define NONCE_3 0x8877665544332211u
#define WALL_NS 1700000000000000000u
#define BASE 0x100000u
#define END 0x110000u
#define SEGMENT_FILE "0000000000100000-0000000000110000.weir"

/* ---- what the files hold ---- */

static const struct weir__control control = {
    .block_bytes = 4096,
    .log_id = LOG_ID,
    .generation = 7,
    .epoch = {.epoch = 3, .lsn = 0x107000, .nonce = NONCE_3},
    .oldest_lsn = 0xF1000,
    .promise = 0x109000,
    .segment_bytes = 65536,
    .first_lsn = 0,
    .checkpoint =
        {.lsn = 0x109000, .epoch = 3, .epoch_lsn = 0x107000, .nonce = NONCE_3, .chain = 0x4761DDE3},
    .flags = WEIR__CONTROL_CLEAN,
    .wall_ns = WALL_NS + 6,
    .parent_log_id = 0x99AABBCCDDEEFF00u,
};

static const struct weir__segment_header first_segment = {
    .log_id = LOG_ID,
    .number = 0,
    .base = 0,
    .bytes = 1048576,
    .epoch = 1,
    .prev_number = WEIR__SEGMENT_NONE,
    .prev_base = 0,
    .block_bytes = 512,
    .origin = WEIR__SEGMENT_ZEROED,
    .wall_ns = WALL_NS,
};

static const struct weir__segment_header segment = {
    .log_id = LOG_ID,
    .number = 16,
    .base = BASE,
    .bytes = 65536,
    .epoch = 1,
    .prev_number = 15,
    .prev_base = 0xF0000,
    .block_bytes = 4096,
    .origin = WEIR__SEGMENT_RECYCLED,
    .wall_ns = WALL_NS,
};

struct golden_frame {
    weir_lsn lsn;
    uint64_t tag;
    uint16_t type;
    uint16_t flags;
    uint32_t bytes;
    const char *payload; /* NULL: byte i is (i * 7 + 3) mod 256 */
};

struct golden_batch {
    struct weir__batch batch;
    weir_lsn end;
    uint32_t chain_after;
    enum weir__batch_verdict verdict;
    size_t frame_count;
    struct golden_frame frames[5];
};

/* Where the log was when it came to this segment: a block short of the end of the one before. */
static const struct weir__position start = {.lsn = 0xFF000,
                                            .epoch = 1,
                                            .epoch_lsn = 0x1000,
                                            .nonce = NONCE_1,
                                            .chain = 0xC0FFEE01};
static const struct weir__epoch newest = {.epoch = 3, .lsn = 0x107000, .nonce = NONCE_3};

static const struct golden_batch batches[] = {
    /* The first batch of a segment: records around a multiple of 8, one of them empty. */
    {.batch = {.log_id = LOG_ID,
               .lsn = 0x101000,
               .prev_end = 0xFF000,
               .epoch = 1,
               .epoch_lsn = 0x1000,
               .nonce = NONCE_1,
               .promise = 0xFE000,
               .wall_ns = WALL_NS + 1,
               .bytes = 160,
               .records = 5,
               .chain = 0xC0FFEE01},
     .end = 0x102000,
     .chain_after = 0x90395CF1,
     .verdict = WEIR__BATCH_OK,
     .frame_count = 5,
     .frames = {{0x101060, 1, WEIR__FRAME_RECORD, 0, 4, "weir"},
                {0x101080, 2, WEIR__FRAME_RECORD, 0, 0, ""},
                {0x101098, 3, WEIR__FRAME_RECORD, 0, 7, "1234567"},
                {0x1010B8, 4, WEIR__FRAME_RECORD, 0, 8, "12345678"},
                {0x1010D8, UINT64_MAX, WEIR__FRAME_RECORD, 0, 9, "123456789"}}},
    /* Two blocks: a group of three, a reservation that was given up, a record. */
    {.batch = {.log_id = LOG_ID,
               .lsn = 0x102000,
               .prev_end = 0x102000,
               .epoch = 1,
               .epoch_lsn = 0x1000,
               .nonce = NONCE_1,
               .promise = 0x101000,
               .wall_ns = WALL_NS + 2,
               .bytes = 5184,
               .records = 4,
               .chain = 0x90395CF1},
     .end = 0x104000,
     .chain_after = 0x740EEBCA,
     .verdict = WEIR__BATCH_OK,
     .frame_count = 5,
     .frames = {{0x102060, 10, WEIR__FRAME_RECORD, WEIR__FRAME_MORE, 5000, NULL},
                {0x103400, 11, WEIR__FRAME_RECORD, WEIR__FRAME_MORE, 1, "b"},
                {0x103420, 12, WEIR__FRAME_RECORD, 0, 17, "last of a group!!"},
                {0x103450,
                 0,
                 WEIR__FRAME_SKIP,
                 0,
                 13,
                 "\xEE\xEE\xEE\xEE\xEE\xEE\xEE\xEE\xEE\xEE\xEE\xEE\xEE"},
                {0x103478, 13, WEIR__FRAME_RECORD, 0, 14, "after the skip"}}},
    /* A gap of three blocks: its own, and two that nobody reads. */
    {.batch = {.log_id = LOG_ID,
               .lsn = 0x104000,
               .prev_end = 0x104000,
               .epoch = 1,
               .epoch_lsn = 0x1000,
               .nonce = NONCE_1,
               .promise = 0x104000,
               .wall_ns = WALL_NS + 3,
               .flags = WEIR__BATCH_GAP,
               .chain = 0x740EEBCA,
               .gap_end = 0x107000},
     .end = 0x107000,
     .chain_after = 0xEB0ADDD6,
     .verdict = WEIR__BATCH_OK},
    /* Epoch 2 was opened and wrote nothing. Epoch 3 begins with a batch without frames. */
    {.batch = {.log_id = LOG_ID,
               .lsn = 0x107000,
               .prev_end = 0x107000,
               .epoch = 3,
               .epoch_lsn = 0x107000,
               .nonce = NONCE_3,
               .promise = 0x107000,
               .wall_ns = WALL_NS + 4,
               .chain = 0xEB0ADDD6},
     .end = 0x108000,
     .chain_after = 0xF79D481A,
     .verdict = WEIR__BATCH_OK},
    {.batch = {.log_id = LOG_ID,
               .lsn = 0x108000,
               .prev_end = 0x108000,
               .epoch = 3,
               .epoch_lsn = 0x107000,
               .nonce = NONCE_3,
               .promise = 0x108000,
               .wall_ns = WALL_NS + 5,
               .bytes = 40,
               .records = 1,
               .chain = 0xF79D481A},
     .end = 0x109000,
     .chain_after = 0x4761DDE3,
     .verdict = WEIR__BATCH_OK,
     .frame_count = 1,
     .frames = {{0x108060, 20, WEIR__FRAME_RECORD, 0, 11, "third epoch"}}},
    /* The end. Behind it stands what epoch 1 had written there: sound, and stale. */
    {.batch = {.log_id = LOG_ID,
               .lsn = 0x109000,
               .prev_end = 0x109000,
               .epoch = 1,
               .epoch_lsn = 0x1000,
               .nonce = NONCE_1,
               .promise = 0x109000,
               .wall_ns = WALL_NS + 3,
               .bytes = 32,
               .records = 1,
               .chain = 0xDEAD0001},
     .end = 0x10A000,
     .verdict = WEIR__BATCH_STALE,
     .frame_count = 1,
     .frames = {{0x109060, 21, WEIR__FRAME_RECORD, 0, 5, "stale"}}},
};

#define GAP_INSIDE 0x105000u  /* two blocks of 0xDB */
#define ZEROS 0x10A000u       /* zeros from here */
#define EARLIER_USE 0x10F000u /* the last block: 0x5A, from before the file was recycled */

#define BATCH_COUNT (sizeof batches / sizeof batches[0])

/* ---- encoding them ---- */

static uint8_t payload_byte(const struct golden_frame *frame, uint32_t i)
{
    return frame->payload == NULL ? (uint8_t)(i * 7 + 3) : (uint8_t)frame->payload[i];
}

static void encode_control(uint8_t out[BLOCK])
{
    memset(out, 0, BLOCK);
    weir__control_encode(&control, out);
}

static void encode_first_segment(uint8_t out[512])
{
    memset(out, 0, 512);
    weir__segment_header_encode(&first_segment, out);
}

static void encode_segment(uint8_t out[END - BASE])
{
    memset(out, 0, END - BASE);
    weir__segment_header_encode(&segment, out);
    for (size_t b = 0; b < BATCH_COUNT; b++) {
        const struct golden_batch *golden = &batches[b];
        const uint32_t salt =
            weir__frame_salt(golden->batch.log_id, golden->batch.nonce, golden->batch.epoch);
        weir__batch_encode(&golden->batch, out + (golden->batch.lsn - BASE));
        for (size_t f = 0; f < golden->frame_count; f++) {
            const struct golden_frame *frame = &golden->frames[f];
            uint8_t *header = out + (frame->lsn - BASE);
            uint8_t *payload = header + WEIR__FRAME_HEADER_BYTES;
            for (uint32_t i = 0; i < frame->bytes; i++) {
                payload[i] = payload_byte(frame, i);
            }
            const struct weir__frame fields = {
                .bytes = frame->bytes,
                .payload_crc = weir__crc32c(0, payload, frame->bytes),
                .tag = frame->tag,
                .type = frame->type,
                .flags = frame->flags,
            };
            weir__frame_encode(&fields, salt, frame->lsn, header);
        }
    }
    memset(out + (GAP_INSIDE - BASE), 0xDB, 2 * BLOCK);
    memset(out + (EARLIER_USE - BASE), 0x5A, BLOCK);
}

/* ---- files ---- */

static FILE *open_in(const char *dir, const char *name, const char *mode)
{
    char path[4096];
    const int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    return length > 0 && (size_t)length < sizeof path ? fopen(path, mode) : NULL;
}

static bool write_file(const char *dir, const char *name, const uint8_t *bytes, size_t count)
{
    FILE *file = open_in(dir, name, "wb");
    if (file == NULL) {
        return false;
    }
    const bool written = fwrite(bytes, 1, count, file) == count;
    return fclose(file) == 0 && written;
}

static int write_all(const char *dir)
{
    static uint8_t bytes[END - BASE];
    encode_control(bytes);
    bool ok = write_file(dir, "control.bin", bytes, BLOCK);
    encode_first_segment(bytes);
    ok = write_file(dir, "segment_header.bin", bytes, 512) && ok;
    encode_segment(bytes);
    ok = write_file(dir, SEGMENT_FILE, bytes, sizeof bytes) && ok;
    if (!ok) {
        fprintf(stderr, "cannot write to %s\n", dir);
    }
    return ok ? 0 : 1;
}

/* The checkout: from the environment, from the build, or from this file's own path. */
static void golden_dir(char *out, size_t bytes)
{
    const char *source = getenv("WEIR_SOURCE_DIR");
#ifdef WEIR_SOURCE_DIR
    if (source == NULL) {
        source = WEIR_SOURCE_DIR;
    }
#endif
    if (source != NULL) {
        snprintf(out, bytes, "%s/tests/golden/v1", source);
        return;
    }
    const char *slash = strrchr(__FILE__, '/');
    snprintf(out,
             bytes,
             "%.*s/v1",
             slash == NULL ? 1 : (int)(slash - __FILE__),
             slash == NULL ? "." : __FILE__);
}

/* Exactly `count` bytes, and no more. */
static void read_golden(const char *name, uint8_t *bytes, size_t count)
{
    char dir[2048];
    golden_dir(dir, sizeof dir);
    FILE *file = open_in(dir, name, "rb");
    if (file == NULL) {
        fail_msg("no %s in %s", name, dir);
        return;
    }
    const size_t got = fread(bytes, 1, count, file);
    const int more = fgetc(file);
    fclose(file);
    assert_int_equal(got, count);
    assert_int_equal(more, EOF);
}

static void assert_bytes_equal(const uint8_t *a, const uint8_t *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (a[i] != b[i]) {
            fail_msg("byte %zu: 0x%02x, and 0x%02x when encoded again", i, a[i], b[i]);
        }
    }
}

/* ---- a checksum that shares nothing with the engine's ---- */

static uint32_t reference_crc32c(uint32_t crc, const uint8_t *data, size_t bytes)
{
    crc = ~crc;
    for (size_t i = 0; i < bytes; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            const uint32_t in = (data[i] >> bit ^ crc) & 1u;
            crc = crc >> 1 ^ (in != 0 ? 0x82F63B78u : 0);
        }
    }
    return ~crc;
}

static uint32_t reference_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void reference_put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> 8 * i);
    }
}

/* ---- the tests ---- */

static void reference_checksum_is_crc32c(void **state)
{
    (void)state;
    const uint8_t digits[] = "123456789";
    assert_int_equal(reference_crc32c(0, digits, 9), 0xE3069283u);
    assert_int_equal(reference_crc32c(reference_crc32c(0, digits, 4), digits + 4, 5), 0xE3069283u);
    assert_int_equal(weir__crc32c(0, digits, 9), 0xE3069283u);
}

static void control_copy_reads_as_it_was_written(void **state)
{
    (void)state;
    uint8_t bytes[BLOCK];
    read_golden("control.bin", bytes, sizeof bytes);
    struct weir__control got;
    assert_int_equal(weir__control_decode(bytes, &got, NULL), 0);
    assert_int_equal(got.block_bytes, 4096);
    assert_true(got.log_id == 0x1122334455667788u);
    assert_true(got.generation == 7);
    assert_true(got.epoch.epoch == 3);
    assert_true(got.epoch.lsn == 0x107000);
    assert_true(got.epoch.nonce == 0x8877665544332211u);
    assert_true(got.oldest_lsn == 0xF1000);
    assert_true(got.promise == 0x109000);
    assert_true(got.segment_bytes == 65536);
    assert_true(got.first_lsn == 0);
    assert_true(got.checkpoint.lsn == 0x109000);
    assert_true(got.checkpoint.epoch == 3);
    assert_true(got.checkpoint.epoch_lsn == 0x107000);
    assert_true(got.checkpoint.nonce == 0x8877665544332211u);
    assert_int_equal(got.checkpoint.chain, 0x4761DDE3);
    assert_int_equal(got.flags, 1);
    assert_true(got.wall_ns == 1700000000000000006u);
    assert_true(got.parent_log_id == 0x99AABBCCDDEEFF00u);
    assert_int_equal(reference_u32(bytes + 4), reference_crc32c(0, bytes + 8, 248));

    uint8_t again[BLOCK];
    encode_control(again);
    assert_bytes_equal(bytes, again, sizeof bytes);
}

static void assert_segment_header(const uint8_t *bytes, const struct weir__segment_header *expected)
{
    struct weir__segment_header got;
    assert_int_equal(weir__segment_header_decode(bytes, &got, NULL), 0);
    assert_true(got.log_id == expected->log_id);
    assert_true(got.number == expected->number);
    assert_true(got.base == expected->base);
    assert_true(got.bytes == expected->bytes);
    assert_true(got.epoch == expected->epoch);
    assert_true(got.prev_number == expected->prev_number);
    assert_true(got.prev_base == expected->prev_base);
    assert_int_equal(got.block_bytes, expected->block_bytes);
    assert_int_equal(got.origin, expected->origin);
    assert_true(got.wall_ns == expected->wall_ns);
    assert_int_equal(reference_u32(bytes + 4), reference_crc32c(0, bytes + 8, 120));
}

static void first_segment_header_reads_as_it_was_written(void **state)
{
    (void)state;
    uint8_t bytes[512];
    read_golden("segment_header.bin", bytes, sizeof bytes);
    assert_segment_header(bytes, &first_segment);
    uint8_t again[512];
    encode_first_segment(again);
    assert_bytes_equal(bytes, again, sizeof bytes);
}

static void segment_is_the_same_when_encoded_again(void **state)
{
    (void)state;
    static uint8_t bytes[END - BASE];
    static uint8_t again[END - BASE];
    read_golden(SEGMENT_FILE, bytes, sizeof bytes);
    encode_segment(again);
    assert_bytes_equal(bytes, again, sizeof bytes);

    weir_lsn base = 0;
    weir_lsn end = 0;
    assert_true(weir__segment_name_parse(SEGMENT_FILE, &base, &end));
    assert_true(base == 0x100000);
    assert_true(end == 0x110000);
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(base, end, name);
    assert_string_equal(name, SEGMENT_FILE);
    assert_segment_header(bytes, &segment);
}

/* The frames that the check reports, compared one by one with the golden ones. */
struct expect {
    const struct golden_batch *golden;
    const uint8_t *file;
    size_t seen;
    size_t wrong;
};

static void expect_frame(void *ctx, weir_lsn lsn, const struct weir__frame *frame)
{
    struct expect *expect = ctx;
    const size_t f = expect->seen++;
    if (f >= expect->golden->frame_count) {
        expect->wrong++;
        return;
    }
    const struct golden_frame *golden = &expect->golden->frames[f];
    if (lsn != golden->lsn || frame->tag != golden->tag || frame->type != golden->type ||
        frame->flags != golden->flags || frame->bytes != golden->bytes) {
        expect->wrong++;
        return;
    }
    for (uint32_t i = 0; i < frame->bytes; i++) {
        if (expect->file[lsn - BASE + WEIR__FRAME_HEADER_BYTES + i] != payload_byte(golden, i)) {
            expect->wrong++;
            return;
        }
    }
}

static void assert_batch_fields(const struct weir__batch *got, const struct weir__batch *expected)
{
    assert_true(got->log_id == expected->log_id);
    assert_true(got->lsn == expected->lsn);
    assert_true(got->prev_end == expected->prev_end);
    assert_true(got->epoch == expected->epoch);
    assert_true(got->epoch_lsn == expected->epoch_lsn);
    assert_true(got->nonce == expected->nonce);
    assert_true(got->promise == expected->promise);
    assert_true(got->wall_ns == expected->wall_ns);
    assert_int_equal(got->bytes, expected->bytes);
    assert_int_equal(got->records, expected->records);
    assert_int_equal(got->flags, expected->flags);
    assert_int_equal(got->chain, expected->chain);
    assert_true(got->gap_end == expected->gap_end);
}

/* From the position before the segment through all batches to the end, as recovery does it. */
static void segment_reads_batch_by_batch(void **state)
{
    (void)state;
    static uint8_t bytes[END - BASE];
    read_golden(SEGMENT_FILE, bytes, sizeof bytes);
    struct weir__position position = start;
    for (size_t b = 0; b < BATCH_COUNT; b++) {
        const struct golden_batch *golden = &batches[b];
        const uint8_t *in = bytes + (golden->batch.lsn - BASE);
        struct weir__batch got;
        assert_int_equal(weir__batch_judge(in,
                                           golden->batch.lsn,
                                           END,
                                           BLOCK,
                                           LOG_ID,
                                           &position,
                                           &newest,
                                           &got,
                                           NULL),
                         golden->verdict);
        assert_batch_fields(&got, &golden->batch);
        assert_true(weir__batch_end(&got, BLOCK) == golden->end);

        struct expect expect = {.golden = golden, .file = bytes};
        struct weir__batch_check check;
        weir__batch_check_begin(&check, &got, BLOCK);
        check.frame_seen = expect_frame;
        check.ctx = &expect;
        const size_t blocks = (WEIR__BATCH_HEADER_BYTES + (size_t)got.bytes + BLOCK - 1) / BLOCK;
        assert_int_equal(weir__batch_check_feed(&check,
                                                in + WEIR__BATCH_HEADER_BYTES,
                                                blocks * BLOCK - WEIR__BATCH_HEADER_BYTES),
                         0);
        assert_int_equal(weir__batch_check_end(&check), 0);
        assert_int_equal(expect.wrong, 0);
        assert_int_equal(expect.seen, golden->frame_count);

        if (golden->verdict == WEIR__BATCH_OK) {
            position = weir__position_after(&got, BLOCK);
            assert_true(position.lsn == golden->end);
            assert_int_equal(position.chain, golden->chain_after);
        }
    }
    /* What the control file calls the end is where the log ends. */
    assert_true(position.lsn == control.checkpoint.lsn);
    assert_true(position.epoch == control.checkpoint.epoch);
    assert_true(position.epoch_lsn == control.checkpoint.epoch_lsn);
    assert_true(position.nonce == control.checkpoint.nonce);
    assert_int_equal(position.chain, control.checkpoint.chain);

    struct weir__batch got;
    assert_int_equal(weir__batch_judge(bytes + (ZEROS - BASE),
                                       ZEROS,
                                       END,
                                       BLOCK,
                                       LOG_ID,
                                       &position,
                                       &newest,
                                       &got,
                                       NULL),
                     WEIR__BATCH_ZERO);
    assert_int_equal(weir__batch_judge(bytes + (EARLIER_USE - BASE),
                                       EARLIER_USE,
                                       END,
                                       BLOCK,
                                       LOG_ID,
                                       &position,
                                       &newest,
                                       &got,
                                       NULL),
                     WEIR__BATCH_NOT_OURS);
}

/* Every checksum in the segment, computed a second time from the text of FORMAT.md alone. */
static void segment_checksums_agree_with_the_reference(void **state)
{
    (void)state;
    static uint8_t bytes[END - BASE];
    read_golden(SEGMENT_FILE, bytes, sizeof bytes);
    for (size_t b = 0; b < BATCH_COUNT; b++) {
        const struct golden_batch *golden = &batches[b];
        const uint8_t *header = bytes + (golden->batch.lsn - BASE);
        assert_int_equal(reference_u32(header + 4), reference_crc32c(0, header + 8, 88));

        uint8_t text[32];
        reference_put_u64(text, golden->batch.lsn);
        reference_put_u64(text + 8, golden->end);
        reference_put_u64(text + 16, golden->batch.epoch);
        reference_put_u64(text + 24, golden->batch.nonce);
        if (golden->verdict == WEIR__BATCH_OK) {
            assert_int_equal(reference_crc32c(golden->batch.chain, text, 32), golden->chain_after);
        }

        reference_put_u64(text, golden->batch.log_id);
        reference_put_u64(text + 8, golden->batch.nonce);
        reference_put_u64(text + 16, golden->batch.epoch);
        const uint32_t salt = reference_crc32c(0, text, 24);
        for (size_t f = 0; f < golden->frame_count; f++) {
            const struct golden_frame *frame = &golden->frames[f];
            const uint8_t *at = bytes + (frame->lsn - BASE);
            uint8_t place[8];
            reference_put_u64(place, frame->lsn);
            assert_int_equal(reference_u32(at + 20),
                             reference_crc32c(reference_crc32c(salt, place, 8), at, 20));
            assert_int_equal(
                reference_u32(at + 4),
                frame->type == WEIR__FRAME_SKIP ? 0 : reference_crc32c(0, at + 24, frame->bytes));
        }
    }
}

/* The first batch header, byte by byte. */
static const uint8_t written_batch_header[96] = {
    'W',  'B',  'A',  'T',                          /* magic */
    0x6D, 0x42, 0xDC, 0xBC,                         /* CRC32C of the rest */
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* log id */
    0x00, 0x10, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, /* LSN 0x101000 */
    0x00, 0xF0, 0x0F, 0x00, 0x00, 0x00, 0x00, 0x00, /* prev_end 0xFF000 */
    0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* epoch 1 */
    0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* its start 0x1000 */
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* its nonce */
    0x00, 0xE0, 0x0F, 0x00, 0x00, 0x00, 0x00, 0x00, /* promise 0xFE000 */
    0x01, 0x00, 0x2A, 0x36, 0xFE, 0x9C, 0x97, 0x17, /* wall clock 1700000000000000001 */
    0xA0, 0x00, 0x00, 0x00,                         /* 160 bytes of frames */
    0x05, 0x00, 0x00, 0x00,                         /* 5 records */
    0x00, 0x00, 0x00, 0x00,                         /* flags */
    0x01, 0xEE, 0xFF, 0xC0,                         /* chain */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* no gap */
};

/* Its first frame: "weir" with tag 1 at LSN 0x101060. */
static const uint8_t written_frame[32] = {
    0x04, 0x00, 0x00, 0x00,                         /* 4 bytes */
    0xC6, 0x1E, 0xB7, 0x47,                         /* CRC32C of "weir" */
    0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* tag */
    0x01, 0x00,                                     /* a record */
    0x00, 0x00,                                     /* flags */
    0x1F, 0x8A, 0xFA, 0xEF,                         /* CRC32C, salted */
    'w',  'e',  'i',  'r',  0x00, 0x00, 0x00, 0x00, /* payload and padding */
};

/* The used bytes of segment_header.bin. */
static const uint8_t written_segment_header[128] = {
    'W',  'S',  'E',  'G',                          /* magic */
    0x8C, 0xD3, 0xCC, 0xA5,                         /* CRC32C of the rest */
    0x01, 0x00, 0x00, 0x00,                         /* version */
    0x00, 0x00, 0x00, 0x00,                         /* features */
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* log id */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* number 0 */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* base 0 */
    0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, /* 1 MiB */
    0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* epoch 1 */
    0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, /* no predecessor */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* nor its base */
    0x00, 0x02, 0x00, 0x00,                         /* blocks of 512 */
    0x01, 0x00, 0x00, 0x00,                         /* zeros were written */
    0x00, 0x00, 0x2A, 0x36, 0xFE, 0x9C, 0x97, 0x17, /* wall clock */
};

static void hand_written_bytes_agree_with_files_and_reference(void **state)
{
    (void)state;
    static uint8_t bytes[END - BASE];
    read_golden(SEGMENT_FILE, bytes, sizeof bytes);
    assert_memory_equal(bytes + 0x1000, written_batch_header, sizeof written_batch_header);
    assert_memory_equal(bytes + 0x1060, written_frame, sizeof written_frame);
    read_golden("segment_header.bin", bytes, 512);
    assert_memory_equal(bytes, written_segment_header, sizeof written_segment_header);

    assert_int_equal(reference_crc32c(0, written_batch_header + 8, 88), 0xBCDC426Du);
    assert_int_equal(reference_crc32c(0, written_segment_header + 8, 120), 0xA5CCD38Cu);
    assert_int_equal(reference_crc32c(0, written_frame + 24, 4), 0x47B71EC6u);

    static const uint8_t salt_text[24] = {
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* log id */
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* nonce */
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* epoch */
    };
    static const uint8_t place[8] = {0x60, 0x10, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00};
    uint32_t crc = reference_crc32c(0, salt_text, sizeof salt_text);
    assert_int_equal(crc, 0xEB31DC56u);
    crc = reference_crc32c(crc, place, sizeof place);
    crc = reference_crc32c(crc, written_frame, 20);
    assert_int_equal(crc, 0xEFFA8A1Fu);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_all(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_checksum_is_crc32c),
        cmocka_unit_test(control_copy_reads_as_it_was_written),
        cmocka_unit_test(first_segment_header_reads_as_it_was_written),
        cmocka_unit_test(segment_is_the_same_when_encoded_again),
        cmocka_unit_test(segment_reads_batch_by_batch),
        cmocka_unit_test(segment_checksums_agree_with_the_reference),
        cmocka_unit_test(hand_written_bytes_agree_with_files_and_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
