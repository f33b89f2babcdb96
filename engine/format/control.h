/* SPDX-License-Identifier: Apache-2.0
 * One copy of the control file, and the live page: FORMAT.md sections 3 and 7. */
#ifndef WEIR_FORMAT_CONTROL_H
#define WEIR_FORMAT_CONTROL_H

#include "format/batch.h"

#include <stdbool.h>
#include <stdint.h>
#include <weir/codes.h>

#define WEIR__CONTROL_MAGIC 0x4C544357u
#define WEIR__CONTROL_USED_BYTES 256u
#define WEIR__CONTROL_COPY_OFFSET 65536u
#define WEIR__CONTROL_FILE_BYTES 131072u
#define WEIR__CONTROL_CLEAN 1u

struct weir__control {
    uint32_t block_bytes;
    uint64_t log_id;
    uint64_t generation;
    struct weir__epoch epoch;
    weir_lsn oldest_lsn;
    weir_lsn promise;
    uint64_t segment_bytes;
    weir_lsn first_lsn;
    struct weir__position checkpoint;
    uint32_t flags;
    uint64_t wall_ns;
    uint64_t parent_log_id;
};

void weir__control_encode(const struct weir__control *control,
                          uint8_t out[WEIR__CONTROL_USED_BYTES]);
/* 0; WEIR_EFORMAT: sound but of another version or with unknown features; WEIR_ECORRUPT: not sound
 * (CRC, or fields that contradict each other: block not a power of two in 512..65536, positions
 * beyond 2^63, oldest above promise...). */
int weir__control_decode(const uint8_t in[WEIR__CONTROL_USED_BYTES],
                         struct weir__control *control_out,
                         const char **why_out);

#define WEIR__LIVE_MAGIC 0x56494C57u
#define WEIR__LIVE_BYTES 4096u
#define WEIR__LIVE_LOG_ID 8u
#define WEIR__LIVE_EPOCH 16u
#define WEIR__LIVE_DURABLE 24u
#define WEIR__LIVE_WRITTEN 32u
#define WEIR__LIVE_OLDEST 40u

struct weir__live {
    uint64_t log_id;
    uint64_t epoch;
    weir_lsn durable;
    weir_lsn written;
    weir_lsn oldest;
};

void weir__live_encode(const struct weir__live *live, uint8_t out[64]);
/* False: not a live page, or not valid now. */
bool weir__live_decode(const uint8_t in[64], struct weir__live *live_out);

#endif
