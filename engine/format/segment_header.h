/* SPDX-License-Identifier: Apache-2.0
 * The first block of a segment, and segment names: FORMAT.md sections 1 and 4. */
#ifndef WEIR_FORMAT_SEGMENT_HEADER_H
#define WEIR_FORMAT_SEGMENT_HEADER_H

#include <stdbool.h>
#include <stdint.h>
#include <weir/codes.h>

#define WEIR__SEGMENT_HEADER_BYTES 128u
#define WEIR__SEGMENT_MAGIC 0x47455357u
#define WEIR__SEGMENT_NAME_BYTES 39u /* 16 + 1 + 16 + 5 and the final zero */
#define WEIR__SEGMENT_NONE UINT64_MAX
#define WEIR__FORMAT_VERSION 1u
#define WEIR__LSN_MAX ((weir_lsn)1 << 63) /* the largest position; ends may equal it */
#define WEIR__BLOCK_BYTES_MIN 512u
#define WEIR__BLOCK_BYTES_MAX 65536u

enum weir__segment_origin { WEIR__SEGMENT_ZEROED = 1, WEIR__SEGMENT_RECYCLED = 2 };

struct weir__segment_header {
    uint64_t log_id;
    uint64_t number;
    weir_lsn base;
    uint64_t bytes;
    uint64_t epoch;
    uint64_t prev_number;
    weir_lsn prev_base;
    uint32_t block_bytes;
    uint32_t origin;
    uint64_t wall_ns;
};

/* Writes the 128 used bytes; the rest of the block is the caller's to zero. */
void weir__segment_header_encode(const struct weir__segment_header *header,
                                 uint8_t out[WEIR__SEGMENT_HEADER_BYTES]);
/* 0; WEIR_EFORMAT: sound, but of another version or with unknown features; WEIR_ECORRUPT: not
 * sound. why_out may be NULL. */
int weir__segment_header_decode(const uint8_t in[WEIR__SEGMENT_HEADER_BYTES],
                                struct weir__segment_header *header_out,
                                const char **why_out);

void weir__segment_name(weir_lsn base, weir_lsn end, char out[WEIR__SEGMENT_NAME_BYTES]);
/* Strict: exactly the pattern, lower case, base < end <= WEIR__LSN_MAX, both multiples of 512. */
bool weir__segment_name_parse(const char *name, weir_lsn *base_out, weir_lsn *end_out);

#endif
