/* SPDX-License-Identifier: Apache-2.0
 * Copies of the control file, and the live page (FORMAT.md sections 3 and 7).
 *
 * A copy is read in this order: magic, checksum, version, features, fields. Which of two good
 * copies counts is asked on a higher floor. The live page has no checksum, because it changes while
 * it is read: it is a hint, and its reader verifies whatever it leads to.
 *
 * Pure functions of their arguments: any thread, no state. */
#include "format/control.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/segment_header.h"

#define CONTROL_AT_MAGIC 0
#define CONTROL_AT_CRC 4
#define CONTROL_AT_VERSION 8
#define CONTROL_AT_FEATURES 12
#define CONTROL_AT_HINTS 16
#define CONTROL_AT_BLOCK_BYTES 20
#define CONTROL_AT_LOG_ID 24
#define CONTROL_AT_GENERATION 32
#define CONTROL_AT_EPOCH 40
#define CONTROL_AT_EPOCH_LSN 48
#define CONTROL_AT_EPOCH_NONCE 56
#define CONTROL_AT_OLDEST_LSN 64
#define CONTROL_AT_PROMISE 72
#define CONTROL_AT_SEGMENT_BYTES 80
#define CONTROL_AT_FIRST_LSN 88
#define CONTROL_AT_CHECKPOINT_LSN 96
#define CONTROL_AT_CHECKPOINT_EPOCH 104
#define CONTROL_AT_CHECKPOINT_EPOCH_LSN 112
#define CONTROL_AT_CHECKPOINT_NONCE 120
#define CONTROL_AT_CHECKPOINT_CHAIN 128
#define CONTROL_AT_FLAGS 132
#define CONTROL_AT_WALL_NS 136
#define CONTROL_AT_PARENT_LOG_ID 144
#define CONTROL_AT_RESERVED 152

static uint32_t control_crc(const uint8_t *copy)
{
    return weir__crc32c(0,
                        copy + CONTROL_AT_VERSION,
                        WEIR__CONTROL_USED_BYTES - CONTROL_AT_VERSION);
}

void weir__control_encode(const struct weir__control *control,
                          uint8_t out[WEIR__CONTROL_USED_BYTES])
{
    memset(out, 0, WEIR__CONTROL_USED_BYTES);
    weir__put_u32(out + CONTROL_AT_MAGIC, WEIR__CONTROL_MAGIC);
    weir__put_u32(out + CONTROL_AT_VERSION, WEIR__FORMAT_VERSION);
    weir__put_u32(out + CONTROL_AT_BLOCK_BYTES, control->block_bytes);
    weir__put_u64(out + CONTROL_AT_LOG_ID, control->log_id);
    weir__put_u64(out + CONTROL_AT_GENERATION, control->generation);
    weir__put_u64(out + CONTROL_AT_EPOCH, control->epoch.epoch);
    weir__put_u64(out + CONTROL_AT_EPOCH_LSN, control->epoch.lsn);
    weir__put_u64(out + CONTROL_AT_EPOCH_NONCE, control->epoch.nonce);
    weir__put_u64(out + CONTROL_AT_OLDEST_LSN, control->oldest_lsn);
    weir__put_u64(out + CONTROL_AT_PROMISE, control->promise);
    weir__put_u64(out + CONTROL_AT_SEGMENT_BYTES, control->segment_bytes);
    weir__put_u64(out + CONTROL_AT_FIRST_LSN, control->first_lsn);
    weir__put_u64(out + CONTROL_AT_CHECKPOINT_LSN, control->checkpoint.lsn);
    weir__put_u64(out + CONTROL_AT_CHECKPOINT_EPOCH, control->checkpoint.epoch);
    weir__put_u64(out + CONTROL_AT_CHECKPOINT_EPOCH_LSN, control->checkpoint.epoch_lsn);
    weir__put_u64(out + CONTROL_AT_CHECKPOINT_NONCE, control->checkpoint.nonce);
    weir__put_u32(out + CONTROL_AT_CHECKPOINT_CHAIN, control->checkpoint.chain);
    weir__put_u32(out + CONTROL_AT_FLAGS, control->flags);
    weir__put_u64(out + CONTROL_AT_WALL_NS, control->wall_ns);
    weir__put_u64(out + CONTROL_AT_PARENT_LOG_ID, control->parent_log_id);
    weir__put_u32(out + CONTROL_AT_CRC, control_crc(out));
}

static void control_read(const uint8_t *in, struct weir__control *control_out)
{
    *control_out = (struct weir__control){
        .block_bytes = weir__get_u32(in + CONTROL_AT_BLOCK_BYTES),
        .log_id = weir__get_u64(in + CONTROL_AT_LOG_ID),
        .generation = weir__get_u64(in + CONTROL_AT_GENERATION),
        .epoch.epoch = weir__get_u64(in + CONTROL_AT_EPOCH),
        .epoch.lsn = weir__get_u64(in + CONTROL_AT_EPOCH_LSN),
        .epoch.nonce = weir__get_u64(in + CONTROL_AT_EPOCH_NONCE),
        .oldest_lsn = weir__get_u64(in + CONTROL_AT_OLDEST_LSN),
        .promise = weir__get_u64(in + CONTROL_AT_PROMISE),
        .segment_bytes = weir__get_u64(in + CONTROL_AT_SEGMENT_BYTES),
        .first_lsn = weir__get_u64(in + CONTROL_AT_FIRST_LSN),
        .checkpoint.lsn = weir__get_u64(in + CONTROL_AT_CHECKPOINT_LSN),
        .checkpoint.epoch = weir__get_u64(in + CONTROL_AT_CHECKPOINT_EPOCH),
        .checkpoint.epoch_lsn = weir__get_u64(in + CONTROL_AT_CHECKPOINT_EPOCH_LSN),
        .checkpoint.nonce = weir__get_u64(in + CONTROL_AT_CHECKPOINT_NONCE),
        .checkpoint.chain = weir__get_u32(in + CONTROL_AT_CHECKPOINT_CHAIN),
        .flags = weir__get_u32(in + CONTROL_AT_FLAGS),
        .wall_ns = weir__get_u64(in + CONTROL_AT_WALL_NS),
        .parent_log_id = weir__get_u64(in + CONTROL_AT_PARENT_LOG_ID),
    };
}

/* The rules of section 3 between the fields of one copy; NULL when they hold. */
static const char *control_fault(const struct weir__control *control)
{
    const uint32_t block = control->block_bytes;
    const struct weir__position *checkpoint = &control->checkpoint;

    if (!weir__is_pow2(block) || block < WEIR__BLOCK_BYTES_MIN || block > WEIR__BLOCK_BYTES_MAX) {
        return "control block size";
    }
    if (control->log_id == 0) {
        return "control log id";
    }
    if (control->generation == 0) {
        return "control generation";
    }
    if (control->epoch.epoch == 0) {
        return "control epoch";
    }
    if (control->epoch.lsn > WEIR__LSN_MAX || control->promise > WEIR__LSN_MAX ||
        checkpoint->lsn > WEIR__LSN_MAX) {
        return "control position beyond the largest LSN"; /* the other ones are bounded by these,
                                                             below */
    }
    if (control->first_lsn > control->oldest_lsn || control->oldest_lsn > control->promise) {
        return "control oldest LSN";
    }
    if (control->segment_bytes % block != 0 || control->segment_bytes / block < 2 ||
        control->segment_bytes > WEIR__LSN_MAX) {
        return "control segment size";
    }
    if (control->first_lsn % block != 0 || control->epoch.lsn % block != 0 ||
        checkpoint->lsn % block != 0) {
        return "control position not at a block";
    }
    if (checkpoint->epoch > control->epoch.epoch || checkpoint->epoch_lsn > checkpoint->lsn) {
        return "control checkpoint";
    }
    if (checkpoint->epoch == control->epoch.epoch &&
        (checkpoint->nonce != control->epoch.nonce ||
         checkpoint->epoch_lsn != control->epoch.lsn)) {
        return "control checkpoint of another history";
    }
    if ((control->flags & ~WEIR__CONTROL_CLEAN) != 0) {
        return "control flags";
    }
    return NULL;
}

int weir__control_decode(const uint8_t in[WEIR__CONTROL_USED_BYTES],
                         struct weir__control *control_out,
                         const char **why_out)
{
    int status = WEIR_ECORRUPT;
    const char *why = NULL;

    control_read(in, control_out);
    if (weir__get_u32(in + CONTROL_AT_MAGIC) != WEIR__CONTROL_MAGIC) {
        why = "control magic";
    } else if (weir__get_u32(in + CONTROL_AT_CRC) != control_crc(in)) {
        why = "control checksum";
    } else if (weir__get_u32(in + CONTROL_AT_VERSION) != WEIR__FORMAT_VERSION) {
        status = WEIR_EFORMAT;
        why = "control version";
    } else if (weir__get_u32(in + CONTROL_AT_FEATURES) != 0) {
        status = WEIR_EFORMAT;
        why = "control features";
    } else if (weir__get_u32(in + CONTROL_AT_HINTS) ==
                   0 && /* else the bytes may belong to the feature */
               !weir__all_zero(in + CONTROL_AT_RESERVED,
                               WEIR__CONTROL_USED_BYTES - CONTROL_AT_RESERVED)) {
        why = "control reserved bytes";
    } else {
        why = control_fault(control_out);
        if (why == NULL) {
            status = 0;
        }
    }
    if (why_out != NULL) {
        *why_out = why;
    }
    return status;
}

/* ---- the live page ---- */

#define LIVE_AT_MAGIC 0
#define LIVE_AT_VERSION 4
#define LIVE_AT_RESERVED 48
#define LIVE_USED_BYTES 64

void weir__live_encode(const struct weir__live *live, uint8_t out[64])
{
    memset(out, 0, LIVE_USED_BYTES);
    weir__put_u32(out + LIVE_AT_MAGIC, WEIR__LIVE_MAGIC);
    weir__put_u32(out + LIVE_AT_VERSION, WEIR__FORMAT_VERSION);
    weir__put_u64(out + WEIR__LIVE_LOG_ID, live->log_id);
    weir__put_u64(out + WEIR__LIVE_EPOCH, live->epoch);
    weir__put_u64(out + WEIR__LIVE_DURABLE, live->durable);
    weir__put_u64(out + WEIR__LIVE_WRITTEN, live->written);
    weir__put_u64(out + WEIR__LIVE_OLDEST, live->oldest);
}

bool weir__live_decode(const uint8_t in[64], struct weir__live *live_out)
{
    *live_out = (struct weir__live){
        .log_id = weir__get_u64(in + WEIR__LIVE_LOG_ID),
        .epoch = weir__get_u64(in + WEIR__LIVE_EPOCH),
        .durable = weir__get_u64(in + WEIR__LIVE_DURABLE),
        .written = weir__get_u64(in + WEIR__LIVE_WRITTEN),
        .oldest = weir__get_u64(in + WEIR__LIVE_OLDEST),
    };
    /* How the positions stand to each other is not asked: they were not read in one instant. */
    return weir__get_u32(in + LIVE_AT_MAGIC) == WEIR__LIVE_MAGIC &&
           weir__get_u32(in + LIVE_AT_VERSION) == WEIR__FORMAT_VERSION && live_out->log_id != 0 &&
           live_out->epoch != 0 && live_out->durable <= WEIR__LSN_MAX &&
           live_out->written <= WEIR__LSN_MAX && live_out->oldest <= WEIR__LSN_MAX &&
           weir__all_zero(in + LIVE_AT_RESERVED, LIVE_USED_BYTES - LIVE_AT_RESERVED);
}
