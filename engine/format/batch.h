/* SPDX-License-Identifier: Apache-2.0
 * A batch as it stands on disk, and the chain that binds batches: FORMAT.md section 5. Bytes only.
 */
#ifndef WEIR_FORMAT_BATCH_H
#define WEIR_FORMAT_BATCH_H

#include "format/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/codes.h>

#define WEIR__BATCH_HEADER_BYTES 96u
#define WEIR__BATCH_MAGIC 0x54414257u
#define WEIR__BATCH_GAP 1u

struct weir__batch {
    uint64_t log_id;
    weir_lsn lsn;
    weir_lsn prev_end;
    uint64_t epoch;
    weir_lsn epoch_lsn;
    uint64_t nonce;
    weir_lsn promise;
    uint64_t wall_ns;
    uint32_t bytes;
    uint32_t records;
    uint32_t flags;
    uint32_t chain;
    weir_lsn gap_end;
};

/* What the next batch must continue. */
struct weir__position {
    weir_lsn lsn;
    uint64_t epoch;
    weir_lsn epoch_lsn;
    uint64_t nonce;
    uint32_t chain;
};

/* The newest epoch, as the control file has it. */
struct weir__epoch {
    uint64_t epoch;
    weir_lsn lsn;
    uint64_t nonce;
};

/* Where the batch ends: the position after it. */
weir_lsn weir__batch_end(const struct weir__batch *batch, uint32_t block_bytes);
uint32_t
weir__chain_next(uint32_t chain, weir_lsn lsn, weir_lsn end, uint64_t epoch, uint64_t nonce);
struct weir__position weir__position_after(const struct weir__batch *batch, uint32_t block_bytes);
/* The position that a batch says it continues: of one that is taken at its word. */
struct weir__position weir__position_before(const struct weir__batch *batch);

void weir__batch_encode(const struct weir__batch *batch, uint8_t out[WEIR__BATCH_HEADER_BYTES]);

enum weir__batch_verdict {
    WEIR__BATCH_OK,       /* rules 2 to 5: continues the position */
    WEIR__BATCH_ZERO,     /* all 96 bytes are zero */
    WEIR__BATCH_NOT_OURS, /* no header of this log at this LSN: magic, log id or LSN differ (bytes
                             of an earlier use) */
    WEIR__BATCH_STALE,    /* a sound header of this LSN, of an epoch that is not the one due here */
    WEIR__BATCH_DAMAGED,  /* begins like a header of this log and LSN, but checksum or fields do not
                             hold */
    WEIR__BATCH_UNCHAINED, /* sound and of the due epoch, but does not continue the position (chain,
                              prev_end) */
};

/* Reads the fields and checks magic, CRC and the field rules that need no context (5, without the
 * segment's end). False: not a sound header; *batch_out then holds what the bytes say, for reports
 * only. */
bool weir__batch_decode(const uint8_t in[WEIR__BATCH_HEADER_BYTES], struct weir__batch *batch_out);

/* Rules 2-5 for a header found at `lsn`, whose segment ends at segment_end. That `lsn` is one of
 * the two places of rule 1 is the caller's to see to. A batch of an epoch above newest->epoch is
 * STALE too: look at batch_out->epoch before overwriting it, since it says that the control file is
 * older than the log. why_out (may be NULL) gets a static phrase. */
enum weir__batch_verdict weir__batch_judge(const uint8_t in[WEIR__BATCH_HEADER_BYTES],
                                           weir_lsn lsn,
                                           weir_lsn segment_end,
                                           uint32_t block_bytes,
                                           uint64_t log_id,
                                           const struct weir__position *position,
                                           const struct weir__epoch *newest,
                                           struct weir__batch *batch_out,
                                           const char **why_out);

/* Rules 6 and 7, fed with the bytes behind the header in pieces of any size, up to the end of the
 * batch's last block (of a GAP batch: of its only block, not up to gap_end). Constant memory.
 * frame_seen (may be NULL; set it and ctx after begin) is called for each frame, skips too, once
 * its payload and padding have verified. A frame that was seen is not yet to be believed: the batch
 * may still be refused. */
struct weir__batch_check {
    struct weir__batch batch;
    uint32_t salt;
    uint32_t state;
    uint64_t frames_left;  /* bytes of frames not yet consumed */
    uint64_t padding_left; /* zeros behind the frames not yet consumed */
    uint32_t records_seen;
    weir_lsn frame_lsn; /* of the frame in work */
    struct weir__frame frame;
    uint64_t payload_left;
    uint32_t frame_padding_left;
    uint32_t payload_crc;
    uint32_t header_have;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    const char *why; /* set when a piece was refused */
    void (*frame_seen)(void *ctx, weir_lsn lsn, const struct weir__frame *frame);
    void *ctx;
};

void weir__batch_check_begin(struct weir__batch_check *check,
                             const struct weir__batch *batch,
                             uint32_t block_bytes);
/* 0, or WEIR_ECORRUPT with check->why and check->frame_lsn. */
int weir__batch_check_feed(struct weir__batch_check *check, const void *data, size_t bytes);
/* 0 when everything was fed and held. */
int weir__batch_check_end(struct weir__batch_check *check);

#endif
