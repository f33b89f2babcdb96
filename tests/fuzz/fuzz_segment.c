/* SPDX-License-Identifier: Apache-2.0
 * The bytes of one segment. First every decoder alone, over every block of it; then a log of which it
 * is the only segment, with a control file made to fit its first batch. The first byte chooses how
 * the bytes are cut into pieces, and what look_at does.
 *
 * What has to hold of the decoders: what decodes, encodes to the same bytes; a batch that is fed in
 * pieces is judged as one that is fed at once. */
#include "base/bytes.h"
#include "base/num.h"
#include "format/batch.h"
#include "format/control.h"
#include "format/segment_header.h"
#include "fuzz/look.h"
#include "fuzz/target.h"
#include "segment/dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMAGE_BYTES_MAX ((size_t)64 * 1024)

static void holds(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "does not hold: %s\n", what);
        abort();
    }
}

/* ---- decoders -------------------------------------------------------------------------------- */

static void seen_count(void *ctx, weir_lsn lsn, const struct weir__frame *frame)
{
    uint64_t *const sum = ctx;
    *sum = (*sum ^ lsn ^ frame->tag) * UINT64_C(0x100000001b3);
}

/* Rules 6 and 7 over data, in pieces of up to `piece` bytes. */
static int batch_check(const struct weir__batch *batch,
                       uint32_t block_bytes,
                       const uint8_t *data,
                       size_t bytes,
                       size_t piece,
                       uint64_t *sum)
{
    struct weir__batch_check check;
    weir__batch_check_begin(&check, batch, block_bytes);
    check.frame_seen = seen_count;
    check.ctx = sum;
    int code = 0;
    for (size_t at = 0; at < bytes && code == 0;) {
        const size_t some = (size_t)weir__min_u64(piece, bytes - at);
        code = weir__batch_check_feed(&check, data + at, some);
        at += some;
    }
    code = code == 0 ? weir__batch_check_end(&check) : code;
    holds(code == 0 || check.why != NULL, "a batch is refused for a reason");
    return code;
}

static void
decode_batch(const uint8_t *at, size_t room, weir_lsn lsn, uint32_t block_bytes, size_t piece)
{
    struct weir__batch batch;
    if (!weir__batch_decode(at, &batch)) {
        return;
    }
    uint8_t again[WEIR__BATCH_HEADER_BYTES];
    weir__batch_encode(&batch, again);
    holds(memcmp(again, at, sizeof again) == 0, "a batch header encodes as it was");
    /* Judged against what it says itself it continues. */
    const struct weir__position position = weir__position_before(&batch);
    const struct weir__epoch newest = {batch.epoch, batch.epoch_lsn, batch.nonce};
    const char *why = NULL;
    struct weir__batch judged;
    const enum weir__batch_verdict verdict = weir__batch_judge(at,
                                                               lsn,
                                                               lsn + room,
                                                               block_bytes,
                                                               batch.log_id,
                                                               &position,
                                                               &newest,
                                                               &judged,
                                                               &why);
    const weir_lsn end = weir__batch_end(&batch, block_bytes);
    holds(verdict != WEIR__BATCH_ZERO, "a header is not zero");
    holds(verdict != WEIR__BATCH_OK || end <= lsn + room, "a batch ends in its segment");
    holds(end > batch.lsn, "a batch is not empty");
    if (verdict != WEIR__BATCH_OK) {
        return;
    }
    const size_t extent =
        (size_t)(weir__align_up(WEIR__BATCH_HEADER_BYTES + (uint64_t)batch.bytes, block_bytes)) -
        WEIR__BATCH_HEADER_BYTES;
    holds(extent <= room - WEIR__BATCH_HEADER_BYTES, "its frames lie in the segment");
    const uint8_t *const frames = at + WEIR__BATCH_HEADER_BYTES;
    uint64_t once = 0;
    uint64_t pieces = 0;
    const int code = batch_check(&batch, block_bytes, frames, extent, extent, &once);
    holds(batch_check(&batch, block_bytes, frames, extent, piece, &pieces) == code,
          "pieces are judged as the whole");
    holds(code != 0 || once == pieces, "pieces show the same frames");
    if (code == 0 && batch.bytes > 0) {
        struct weir__frame frame;
        const uint32_t salt = weir__frame_salt(batch.log_id, batch.nonce, batch.epoch);
        holds(weir__frame_decode(frames,
                                 batch.bytes,
                                 salt,
                                 lsn + WEIR__BATCH_HEADER_BYTES,
                                 &frame,
                                 &why) == 0,
              "the first frame decodes alone");
        uint8_t header[WEIR__FRAME_HEADER_BYTES];
        weir__frame_encode(&frame, salt, lsn + WEIR__BATCH_HEADER_BYTES, header);
        holds(memcmp(header, frames, sizeof header) == 0, "a frame encodes as it was");
    }
}

static void decode_all(const uint8_t *image, size_t bytes, size_t piece)
{
    struct weir__segment_header header;
    struct weir__control control;
    struct weir__live live;
    const char *why = NULL;
    uint8_t again[WEIR__CONTROL_USED_BYTES];
    weir_lsn base = 0;
    uint32_t block_bytes = WEIR__BLOCK_BYTES_MIN;
    if (weir__segment_header_decode(image, &header, &why) == 0) {
        weir__segment_header_encode(&header, again);
        holds(memcmp(again, image, WEIR__SEGMENT_HEADER_BYTES) == 0,
              "a segment header encodes as it was");
        base = header.base;
        block_bytes = header.block_bytes;
    } else {
        holds(why != NULL, "a header is refused for a reason");
    }
    if (weir__control_decode(image, &control, &why) == 0 && weir__get_u32(image + 16) == 0) {
        weir__control_encode(&control, again);
        holds(memcmp(again, image, WEIR__CONTROL_USED_BYTES) == 0,
              "a control copy encodes as it was");
    }
    (void)weir__live_decode(image, &live);
    for (size_t at = 0; at + block_bytes <= bytes; at += block_bytes) {
        decode_batch(image + at, bytes - at, base + at, block_bytes, piece);
    }
}

/* ---- a log around it ------------------------------------------------------------------------- */

/* A control file that lets the segment be read: of its log, its first batch's epoch, all promises
 * as low as they can be. False: it cannot be one. */
static bool control_around(const uint8_t *image, size_t bytes, struct weir__control *control)
{
    struct weir__segment_header header;
    const char *why;
    if (weir__segment_header_decode(image, &header, &why) != 0 || bytes > header.bytes) {
        return false;
    }
    *control = (struct weir__control){
        .block_bytes = header.block_bytes,
        .log_id = header.log_id,
        .generation = 1,
        .epoch = {header.epoch, header.base, 1},
        .oldest_lsn = header.base,
        .promise = header.base + header.block_bytes,
        .segment_bytes = header.bytes,
        .first_lsn = header.base,
        .checkpoint = {.lsn = header.base + header.block_bytes},
    };
    struct weir__batch batch;
    if (bytes >= header.block_bytes + WEIR__BATCH_HEADER_BYTES &&
        weir__batch_decode(image + header.block_bytes, &batch)) {
        control->epoch = (struct weir__epoch){batch.epoch, batch.epoch_lsn, batch.nonce};
        /* A log of one segment that is not the first: trimmed, and checked up to here. */
        if (batch.chain != 0 || batch.prev_end > header.base + header.block_bytes) {
            control->first_lsn = 0;
            control->checkpoint = weir__position_before(&batch);
            control->checkpoint.epoch = batch.epoch;
            control->checkpoint.epoch_lsn = batch.epoch_lsn;
            control->checkpoint.nonce = batch.nonce;
            /* Only what is durable is trimmed: the batch that begins in front of the segment is. */
            control->promise = weir__min_u64(weir__batch_end(&batch, header.block_bytes),
                                             header.base + header.bytes);
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct memory_dir *memory;
    if (memory == NULL) {
        memory = malloc(sizeof *memory);
        holds(memory != NULL, "memory");
        memory_dir_init(memory);
    }
    if (bytes < 1 + WEIR__CONTROL_USED_BYTES) {
        return 0;
    }
    const uint8_t flags = data[0];
    const uint8_t *const image = data + 1;
    bytes = (size_t)weir__min_u64(bytes - 1, IMAGE_BYTES_MAX);
    decode_all(image, bytes, 1 + (flags >> 3));

    struct weir__control control;
    if (control_around(image, bytes, &control)) {
        uint8_t copy[WEIR__CONTROL_USED_BYTES];
        weir__control_encode(&control, copy);
        struct memory_file *file = memory_dir_make(memory, "log", WEIR__CONTROL_NAME);
        memory_file_resize(file, WEIR__CONTROL_FILE_BYTES);
        memory_file_write(file, 0, copy, sizeof copy);
        memory_file_write(file, WEIR__CONTROL_COPY_OFFSET, copy, sizeof copy);
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(control.oldest_lsn, control.oldest_lsn + control.segment_bytes, name);
        file = memory_dir_make(memory, "log", name);
        memory_file_write(file, 0, image, bytes);
        if (control.segment_bytes <= IMAGE_BYTES_MAX) {
            memory_file_resize(file, (size_t)control.segment_bytes);
        }
        look_at(memory, flags & (LOOK_APPEND | LOOK_QUEUE | LOOK_SALVAGE));
        memory_dir_clear(memory, NULL);
    }
    return 0;
}

#ifdef WEIR_FUZZ

#include "fuzz/repair.h"
#include "support/threads.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t room, unsigned seed)
{
    struct random random = {seed};
    if (bytes < 1 + WEIR__CONTROL_USED_BYTES || random_below(&random, 2) == 0) {
        bytes = LLVMFuzzerMutate(data, bytes, room);
    } else {
        /* A field of a header, at a block. */
        const size_t blocks = bytes / 512;
        const size_t at = 1 + 512 * (blocks == 0 ? 0 : random_below(&random, blocks)) + 8 +
                          4 * random_below(&random, 28);
        if (at + 8 <= bytes) {
            const uint64_t old = weir__get_u64(data + at);
            const uint64_t values[] = {0,
                                       1,
                                       old + 1,
                                       old + 512,
                                       old - 512,
                                       old * 2,
                                       UINT64_MAX,
                                       UINT64_C(1) << 63,
                                       old ^ UINT64_C(1) << (seed & 63)};
            const uint64_t value = values[random_below(&random, sizeof values / sizeof values[0])];
            if (random_below(&random, 2) == 0) {
                weir__put_u64(data + at, value);
            } else {
                weir__put_u32(data + at, (uint32_t)value);
            }
        }
    }
    if (bytes > 1 + WEIR__CONTROL_USED_BYTES && random_below(&random, 8) != 0) {
        uint32_t block_bytes = weir__get_u32(data + 1 + 72);
        if (!weir__is_pow2(block_bytes) || block_bytes < 512 || block_bytes > 65536) {
            block_bytes = 512;
        }
        if (weir__get_u32(data + 1) == WEIR__CONTROL_MAGIC) {
            repair_control(data + 1, bytes - 1);
        } else {
            struct repair_chain chain = {0};
            repair_segment(data + 1,
                           bytes - 1,
                           weir__get_u64(data + 1 + 32),
                           block_bytes,
                           random_below(&random, 3) == 0 ? &chain : NULL);
        }
    }
    return bytes;
}

#endif
