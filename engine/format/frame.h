/* SPDX-License-Identifier: Apache-2.0
 * A record as it stands on disk: FORMAT.md section 6. Bytes only; no I/O, no atomics. */
#ifndef WEIR_FORMAT_FRAME_H
#define WEIR_FORMAT_FRAME_H

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/num.h"

#include <stdbool.h>
#include <stdint.h>
#include <weir/codes.h>

#define WEIR__FRAME_HEADER_BYTES 24u
#define WEIR__FRAME_ALIGN 8u

enum weir__frame_type { WEIR__FRAME_RECORD = 1, WEIR__FRAME_SKIP = 2 };
#define WEIR__FRAME_MORE 1u

struct weir__frame {
    uint32_t bytes;
    uint32_t payload_crc;
    uint64_t tag;
    uint16_t type;
    uint16_t flags;
};

/* What a payload of `bytes` takes in a batch: header, payload, padding. bytes <= UINT32_MAX. */
static inline uint64_t weir__frame_span(uint64_t bytes)
{
    return WEIR__FRAME_HEADER_BYTES + weir__align_up(bytes, WEIR__FRAME_ALIGN);
}

/* The state from which every header CRC of one epoch starts. */
uint32_t weir__frame_salt(uint64_t log_id, uint64_t nonce, uint64_t epoch);

/* Writes the 24 header bytes. Payload and padding are the caller's. */
void weir__frame_encode(const struct weir__frame *frame,
                        uint32_t salt,
                        weir_lsn lsn,
                        uint8_t out[WEIR__FRAME_HEADER_BYTES]);

/* The same for a record, by value: what an append needs. A frame in memory would be loaded in other
 * widths than it was stored in, and such a load waits until those stores, and all that came before
 * them, have left the core. */
static inline void weir__frame_put(uint8_t *out,
                                   uint32_t bytes,
                                   uint32_t payload_crc,
                                   uint64_t tag,
                                   uint16_t flags,
                                   uint32_t salt,
                                   weir_lsn lsn)
{
    const uint64_t sizes = (uint64_t)payload_crc << 32 | bytes;
    const uint32_t kind = (uint32_t)flags << 16 | WEIR__FRAME_RECORD;

    weir__put_u64(out, sizes);
    weir__put_u64(out + 8, tag);
    weir__put_u32(out + 16, kind);
    weir__put_u32(out + 20, weir__crc32c_words(salt, lsn, sizes, tag, kind));
}

/* Checks and reads a header; `room` is what is left of the batch's frames from this header on. 0,
 * or WEIR_ECORRUPT with *why_out (may be NULL) a static phrase: "frame checksum", "frame length",
 * "frame type", "frame flags". The payload is not looked at. */
int weir__frame_decode(const uint8_t *in,
                       uint64_t room,
                       uint32_t salt,
                       weir_lsn lsn,
                       struct weir__frame *frame_out,
                       const char **why_out);

/* Reads a header again whose checksum held before: fields and room are looked at, the checksum is
 * not. False: *why_out as above. */
bool weir__frame_read(const uint8_t *in,
                      uint64_t room,
                      struct weir__frame *frame_out,
                      const char **why_out);

#endif
