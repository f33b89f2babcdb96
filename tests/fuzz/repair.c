/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/repair.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/num.h"
#include "format/batch.h"
#include "format/control.h"
#include "format/segment_header.h"
#include "segment/dir.h"

#include <stdlib.h>
#include <string.h>

void repair_control(uint8_t *data, size_t bytes)
{
    for (size_t at = 0; at + WEIR__CONTROL_USED_BYTES <= bytes; at += WEIR__CONTROL_COPY_OFFSET) {
        if (!weir__all_zero(data + at, WEIR__CONTROL_USED_BYTES)) {
            weir__put_u32(data + at, WEIR__CONTROL_MAGIC);
            weir__put_u32(data + at + 4,
                          weir__crc32c(0, data + at + 8, WEIR__CONTROL_USED_BYTES - 8));
        }
    }
}

/* Frames of a batch, for as far as their lengths lead. */
static void repair_frames(uint8_t *batch, size_t room, weir_lsn lsn)
{
    const uint32_t salt = weir__frame_salt(weir__get_u64(batch + 8),
                                           weir__get_u64(batch + 48),
                                           weir__get_u64(batch + 32));
    const size_t end =
        (size_t)weir__min_u64(room, WEIR__BATCH_HEADER_BYTES + weir__get_u32(batch + 72));
    size_t at = WEIR__BATCH_HEADER_BYTES;
    while (at + WEIR__FRAME_HEADER_BYTES <= end) {
        uint8_t *const frame = batch + at;
        const uint64_t bytes = weir__get_u32(frame);
        if (bytes > end - at - WEIR__FRAME_HEADER_BYTES) {
            break;
        }
        const bool record = weir__get_u16(frame + 16) != WEIR__FRAME_SKIP;
        weir__put_u32(frame + 4,
                      record ? weir__crc32c(0, frame + WEIR__FRAME_HEADER_BYTES, (size_t)bytes)
                             : 0);
        uint8_t text[8];
        weir__put_u64(text, lsn + at);
        const uint32_t crc = weir__crc32c(weir__crc32c(salt, text, sizeof text), frame, 20);
        weir__put_u32(frame + 20, crc);
        at += (size_t)weir__frame_span(bytes);
    }
}

static void repair_batch(uint8_t *batch,
                         size_t room,
                         weir_lsn lsn,
                         uint32_t block_bytes,
                         struct repair_chain *chain)
{
    if (chain != NULL) {
        weir__put_u64(batch + 16, lsn);
        if (chain->begun) {
            weir__put_u64(batch + 24, chain->end);
            weir__put_u32(batch + 84, chain->chain);
        }
    }
    weir__put_u32(batch + 4, weir__crc32c(0, batch + 8, WEIR__BATCH_HEADER_BYTES - 8));
    repair_frames(batch, room, lsn);
    struct weir__batch header;
    if (chain != NULL && weir__batch_decode(batch, &header)) {
        const struct weir__position after = weir__position_after(&header, block_bytes);
        *chain = (struct repair_chain){true, after.lsn, after.chain};
    }
}

void repair_segment(uint8_t *data,
                    size_t bytes,
                    weir_lsn base,
                    uint32_t block_bytes,
                    struct repair_chain *chain)
{
    if (bytes < WEIR__SEGMENT_HEADER_BYTES) {
        return;
    }
    if (!weir__all_zero(data, WEIR__SEGMENT_HEADER_BYTES)) {
        weir__put_u32(data, WEIR__SEGMENT_MAGIC);
        weir__put_u32(data + 4, weir__crc32c(0, data + 8, WEIR__SEGMENT_HEADER_BYTES - 8));
    }
    for (size_t at = block_bytes; at + WEIR__BATCH_HEADER_BYTES <= bytes; at += block_bytes) {
        if (weir__get_u32(data + at) == WEIR__BATCH_MAGIC) {
            repair_batch(data + at, bytes - at, base + at, block_bytes, chain);
        }
    }
}

void repair_dir(struct memory_dir *memory, const char *dir, bool links)
{
    struct memory_file *const control = memory_dir_find(memory, dir, WEIR__CONTROL_NAME);
    uint32_t block_bytes = WEIR__BLOCK_BYTES_MIN;
    if (control != NULL) {
        repair_control(control->data, control->bytes);
        if (control->bytes >= 24) {
            block_bytes = weir__get_u32(control->data + 20);
        }
    }
    if (!weir__is_pow2(block_bytes) || block_bytes < WEIR__BLOCK_BYTES_MIN ||
        block_bytes > WEIR__BLOCK_BYTES_MAX) {
        block_bytes = WEIR__BLOCK_BYTES_MIN;
    }
    /* In the order of the segments: there are few. */
    struct repair_chain chain = {0};
    weir_lsn from = 0;
    for (unsigned round = 0; round < MEMORY_FILES_MAX; round++) {
        struct memory_file *next = NULL;
        weir_lsn next_base = UINT64_MAX;
        for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
            struct memory_file *const file = &memory->files[i];
            weir_lsn base;
            weir_lsn end;
            if (file->used && strcmp(memory->dirs[file->dir], dir) == 0 &&
                weir__segment_name_parse(file->name, &base, &end) && base >= from &&
                base < next_base) {
                next = file;
                next_base = base;
            }
        }
        if (next == NULL) {
            break;
        }
        repair_segment(next->data, next->bytes, next_base, block_bytes, links ? &chain : NULL);
        from = next_base + 1;
    }
}
