/* SPDX-License-Identifier: Apache-2.0
 * Frame headers: 24 bytes in front of every payload (FORMAT.md section 6).
 *
 * The checksum over a header starts from the epoch's salt and from the frame's own LSN, so a header
 * that was written elsewhere, at another time or by another copy of the log does not verify here.
 * Nothing of a header is believed before its checksum held; only then is its length compared with
 * the room that is left.
 *
 * Pure functions of their arguments: any thread, no state. */
#include "format/frame.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/plant.h"

#define FRAME_AT_BYTES 0
#define FRAME_AT_PAYLOAD_CRC 4
#define FRAME_AT_TAG 8
#define FRAME_AT_TYPE 16
#define FRAME_AT_FLAGS 18
#define FRAME_AT_CRC 20

_Static_assert(FRAME_AT_CRC + 4 == WEIR__FRAME_HEADER_BYTES,
               "the checksum is the last field of a frame header");
_Static_assert(FRAME_AT_PAYLOAD_CRC == FRAME_AT_BYTES + 4 && FRAME_AT_FLAGS == FRAME_AT_TYPE + 2,
               "two fields are written as one word");
_Static_assert(FRAME_AT_BYTES == 0 && FRAME_AT_TAG == 8 && FRAME_AT_TYPE == 16 &&
                   FRAME_AT_CRC == 20,
               "weir__frame_put writes them there");
_Static_assert(WEIR__FRAME_HEADER_BYTES % WEIR__FRAME_ALIGN == 0, "payloads start aligned");

uint32_t weir__frame_salt(uint64_t log_id, uint64_t nonce, uint64_t epoch)
{
    uint8_t text[24];
    weir__put_u64(text, log_id);
    weir__put_u64(text + 8, nonce);
    weir__put_u64(text + 16, epoch);
    if (WEIR__PLANTED(salt_without_epoch)) {
        return weir__crc32c(0, text, 8);
    }
    return weir__crc32c(0, text, sizeof text);
}

/* The fields in front of the checksum, as three words. */
static uint32_t
frame_header_crc(uint32_t salt, weir_lsn lsn, uint64_t sizes, uint64_t tag, uint32_t kind)
{
    return weir__crc32c_words(salt, lsn, sizes, tag, kind);
}

void weir__frame_encode(const struct weir__frame *frame,
                        uint32_t salt,
                        weir_lsn lsn,
                        uint8_t out[WEIR__FRAME_HEADER_BYTES])
{
    if (frame->type == WEIR__FRAME_RECORD) {
        weir__frame_put(out, frame->bytes, frame->payload_crc, frame->tag, frame->flags, salt, lsn);
        return;
    }
    const uint32_t payload_crc = frame->type == WEIR__FRAME_SKIP ? 0 : frame->payload_crc;
    const uint64_t sizes = (uint64_t)payload_crc << 32 | frame->bytes;
    const uint32_t kind = (uint32_t)frame->flags << 16 | frame->type;

    weir__put_u64(out + FRAME_AT_BYTES, sizes);
    weir__put_u64(out + FRAME_AT_TAG, frame->tag);
    weir__put_u32(out + FRAME_AT_TYPE, kind);
    weir__put_u32(out + FRAME_AT_CRC, frame_header_crc(salt, lsn, sizes, frame->tag, kind));
}

/* What is wrong with the fields of a header whose checksum held; NULL if nothing is. */
static const char *frame_fields_fault(const struct weir__frame *frame, uint64_t room)
{
    if (frame->type != WEIR__FRAME_RECORD && frame->type != WEIR__FRAME_SKIP) {
        return "frame type";
    }
    if ((frame->flags & ~WEIR__FRAME_MORE) != 0) {
        return "frame flags";
    }
    if (frame->type == WEIR__FRAME_SKIP && (frame->flags != 0 || frame->payload_crc != 0)) {
        return "frame flags";
    }
    if (weir__frame_span(frame->bytes) > room) {
        return "frame length";
    }
    return NULL;
}

static void frame_fields(const uint8_t *in, struct weir__frame *frame)
{
    frame->bytes = weir__get_u32(in + FRAME_AT_BYTES);
    frame->payload_crc = weir__get_u32(in + FRAME_AT_PAYLOAD_CRC);
    frame->tag = weir__get_u64(in + FRAME_AT_TAG);
    frame->type = weir__get_u16(in + FRAME_AT_TYPE);
    frame->flags = weir__get_u16(in + FRAME_AT_FLAGS);
}

bool weir__frame_read(const uint8_t *in,
                      uint64_t room,
                      struct weir__frame *frame_out,
                      const char **why_out)
{
    *why_out = "frame length";
    if (room < WEIR__FRAME_HEADER_BYTES) {
        return false;
    }
    frame_fields(in, frame_out);
    *why_out = frame_fields_fault(frame_out, room);
    return *why_out == NULL;
}

int weir__frame_decode(const uint8_t *in,
                       uint64_t room,
                       uint32_t salt,
                       weir_lsn lsn,
                       struct weir__frame *frame_out,
                       const char **why_out)
{
    const char *why = NULL;
    *frame_out = (struct weir__frame){0};
    if (room < WEIR__FRAME_HEADER_BYTES) {
        why = "frame length"; /* not even a header fits: `in` is not touched */
    } else if (weir__get_u32(in + FRAME_AT_CRC) !=
               frame_header_crc(salt,
                                lsn,
                                weir__get_u64(in),
                                weir__get_u64(in + FRAME_AT_TAG),
                                weir__get_u32(in + FRAME_AT_TYPE))) {
        why = "frame checksum";
    } else {
        frame_fields(in, frame_out);
        why = frame_fields_fault(frame_out, room);
    }
    if (why_out != NULL) {
        *why_out = why;
    }
    return why == NULL ? 0 : WEIR_ECORRUPT;
}
