/* SPDX-License-Identifier: Apache-2.0
 * Batches: the header, the question whether it continues a position, and the check of what stands
 * behind it (FORMAT.md section 5).
 *
 * Reading goes in two steps. weir__batch_judge looks at 96 bytes and says what they are: nothing,
 * bytes of another use, a batch of another epoch, a damaged one, one that hangs on nothing, or the
 * batch that is due. Only the last one is worth reading on: its frames and padding go through
 * weir__batch_check_feed in pieces of any size.
 *
 * Arbitrary bytes are legal input everywhere. Sums of positions cannot wrap: decode refuses
 * positions above 2^63 before anything is added to them, and what is added is at most a u32 and a
 * block. Pure functions: any thread. */
#include "format/batch.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/plant.h"
#include "format/segment_header.h"

#define BATCH_AT_MAGIC 0
#define BATCH_AT_CRC 4
#define BATCH_AT_LOG_ID 8
#define BATCH_AT_LSN 16
#define BATCH_AT_PREV_END 24
#define BATCH_AT_EPOCH 32
#define BATCH_AT_EPOCH_LSN 40
#define BATCH_AT_NONCE 48
#define BATCH_AT_PROMISE 56
#define BATCH_AT_WALL_NS 64
#define BATCH_AT_BYTES 72
#define BATCH_AT_RECORDS 76
#define BATCH_AT_FLAGS 80
#define BATCH_AT_CHAIN 84
#define BATCH_AT_GAP_END 88

_Static_assert(BATCH_AT_GAP_END + 8 == WEIR__BATCH_HEADER_BYTES,
               "the gap's end is the last field of a batch header");
_Static_assert(WEIR__BATCH_HEADER_BYTES % WEIR__FRAME_ALIGN == 0, "frames start aligned");

/* ---- the end, the chain, the position ---- */

/* Where the frames end: padding starts here. */
static weir_lsn batch_frames_end(const struct weir__batch *batch)
{
    return batch->lsn + WEIR__BATCH_HEADER_BYTES + batch->bytes;
}

weir_lsn weir__batch_end(const struct weir__batch *batch, uint32_t block_bytes)
{
    if ((batch->flags & WEIR__BATCH_GAP) != 0) {
        return batch->gap_end;
    }
    return weir__align_up(batch_frames_end(batch), block_bytes);
}

uint32_t
weir__chain_next(uint32_t chain, weir_lsn lsn, weir_lsn end, uint64_t epoch, uint64_t nonce)
{
    uint8_t text[32];
    weir__put_u64(text, lsn);
    weir__put_u64(text + 8, end);
    weir__put_u64(text + 16, epoch);
    weir__put_u64(text + 24, nonce);
    return weir__crc32c(chain, text, sizeof text);
}

struct weir__position weir__position_after(const struct weir__batch *batch, uint32_t block_bytes)
{
    const weir_lsn end = weir__batch_end(batch, block_bytes);
    return (struct weir__position){
        .lsn = end,
        .epoch = batch->epoch,
        .epoch_lsn = batch->epoch_lsn,
        .nonce = batch->nonce,
        .chain = weir__chain_next(batch->chain, batch->lsn, end, batch->epoch, batch->nonce),
    };
}

struct weir__position weir__position_before(const struct weir__batch *batch)
{
    return (struct weir__position){
        .lsn = batch->prev_end,
        .epoch = batch->epoch,
        .epoch_lsn = batch->epoch_lsn,
        .nonce = batch->nonce,
        .chain = batch->chain,
    };
}

/* ---- the header ---- */

static uint32_t batch_header_crc(const uint8_t *header)
{
    return weir__crc32c(0, header + BATCH_AT_LOG_ID, WEIR__BATCH_HEADER_BYTES - BATCH_AT_LOG_ID);
}

void weir__batch_encode(const struct weir__batch *batch, uint8_t out[WEIR__BATCH_HEADER_BYTES])
{
    weir__put_u32(out + BATCH_AT_MAGIC, WEIR__BATCH_MAGIC);
    weir__put_u64(out + BATCH_AT_LOG_ID, batch->log_id);
    weir__put_u64(out + BATCH_AT_LSN, batch->lsn);
    weir__put_u64(out + BATCH_AT_PREV_END, batch->prev_end);
    weir__put_u64(out + BATCH_AT_EPOCH, batch->epoch);
    weir__put_u64(out + BATCH_AT_EPOCH_LSN, batch->epoch_lsn);
    weir__put_u64(out + BATCH_AT_NONCE, batch->nonce);
    weir__put_u64(out + BATCH_AT_PROMISE, batch->promise);
    weir__put_u64(out + BATCH_AT_WALL_NS, batch->wall_ns);
    weir__put_u32(out + BATCH_AT_BYTES, batch->bytes);
    weir__put_u32(out + BATCH_AT_RECORDS, batch->records);
    weir__put_u32(out + BATCH_AT_FLAGS, batch->flags);
    weir__put_u32(out + BATCH_AT_CHAIN, batch->chain);
    weir__put_u64(out + BATCH_AT_GAP_END, batch->gap_end);
    weir__put_u32(out + BATCH_AT_CRC, batch_header_crc(out));
}

static void batch_read(const uint8_t *in, struct weir__batch *batch_out)
{
    *batch_out = (struct weir__batch){
        .log_id = weir__get_u64(in + BATCH_AT_LOG_ID),
        .lsn = weir__get_u64(in + BATCH_AT_LSN),
        .prev_end = weir__get_u64(in + BATCH_AT_PREV_END),
        .epoch = weir__get_u64(in + BATCH_AT_EPOCH),
        .epoch_lsn = weir__get_u64(in + BATCH_AT_EPOCH_LSN),
        .nonce = weir__get_u64(in + BATCH_AT_NONCE),
        .promise = weir__get_u64(in + BATCH_AT_PROMISE),
        .wall_ns = weir__get_u64(in + BATCH_AT_WALL_NS),
        .bytes = weir__get_u32(in + BATCH_AT_BYTES),
        .records = weir__get_u32(in + BATCH_AT_RECORDS),
        .flags = weir__get_u32(in + BATCH_AT_FLAGS),
        .chain = weir__get_u32(in + BATCH_AT_CHAIN),
        .gap_end = weir__get_u64(in + BATCH_AT_GAP_END),
    };
}

/* Rule 5 as far as it needs nothing but the header itself; NULL when it holds. */
static const char *batch_fields_fault(const struct weir__batch *batch)
{
    if (batch->lsn > WEIR__LSN_MAX ||
        WEIR__LSN_MAX - batch->lsn < WEIR__BATCH_HEADER_BYTES + (uint64_t)batch->bytes) {
        return "batch beyond the largest LSN";
    }
    if (batch->prev_end > batch->lsn) {
        return "batch in front of its predecessor's end";
    }
    if (batch->epoch == 0 || batch->epoch_lsn > batch->prev_end) {
        return "batch epoch";
    }
    if (batch->promise > batch->lsn) {
        return "batch promise";
    }
    if ((batch->flags & ~WEIR__BATCH_GAP) != 0) {
        return "batch flags";
    }
    if (batch->bytes % WEIR__FRAME_ALIGN != 0) {
        return "batch length";
    }
    if (batch->records > batch->bytes / WEIR__FRAME_HEADER_BYTES) {
        return "batch count of records";
    }
    if ((batch->flags & WEIR__BATCH_GAP) == 0) {
        return batch->gap_end == 0 ? NULL : "batch with the end of a gap, but none";
    }
    if (batch->bytes != 0) { /* and with it records, see above */
        return "gap with frames";
    }
    if (batch->gap_end <= batch->lsn || batch->gap_end > WEIR__LSN_MAX) {
        return "gap length";
    }
    return NULL;
}

static const char *batch_fault(const uint8_t *in, const struct weir__batch *batch)
{
    if (weir__get_u32(in + BATCH_AT_MAGIC) != WEIR__BATCH_MAGIC) {
        return "batch magic";
    }
    if (weir__get_u32(in + BATCH_AT_CRC) != batch_header_crc(in)) {
        return "batch header checksum";
    }
    return batch_fields_fault(batch);
}

bool weir__batch_decode(const uint8_t in[WEIR__BATCH_HEADER_BYTES], struct weir__batch *batch_out)
{
    batch_read(in, batch_out);
    return batch_fault(in, batch_out) == NULL;
}

/* ---- the verdict ---- */

/* Rule 5 as far as it needs the place; the header is sound by itself. NULL when it holds. */
static const char *
batch_place_fault(const struct weir__batch *batch, weir_lsn segment_end, uint32_t block_bytes)
{
    const weir_lsn end = weir__batch_end(batch, block_bytes);
    if (batch->lsn % block_bytes != 0) {
        return "batch not at a block";
    }
    if (end % block_bytes != 0) {
        return "gap not up to a block";
    }
    if (end > segment_end) {
        return "batch beyond the segment's end";
    }
    return NULL;
}

/* Is the batch of an epoch that may stand here? NULL if so. First rule 4: the control file knows
 * the newest epoch, and from where on nothing older counts. Then rule 3: epochs do not go back
 * along the log, and one number is one history. */
static const char *batch_epoch_fault(const struct weir__batch *batch,
                                     const struct weir__position *position,
                                     const struct weir__epoch *newest)
{
    if (batch->epoch > newest->epoch) {
        return "epoch above the control file's";
    }
    if (batch->epoch < newest->epoch) {
        if (batch->prev_end >= newest->lsn && !WEIR__PLANTED(older_epoch_accepted)) {
            return "older epoch above the start of the newest";
        }
    } else if (batch->nonce != newest->nonce || batch->epoch_lsn != newest->lsn) {
        return "another history of the newest epoch";
    }
    if (batch->epoch < position->epoch) {
        return "older epoch than that of the batch before";
    }
    if (batch->epoch == position->epoch &&
        (batch->nonce != position->nonce || batch->epoch_lsn != position->epoch_lsn)) {
        return "another history of the epoch of the batch before";
    }
    return NULL;
}

/* Rules 2 and 3 as far as they tie the batch to the position; the epoch may stand here. NULL when
 * they hold. */
static const char *batch_link_fault(const struct weir__batch *batch,
                                    const struct weir__position *position)
{
    if (batch->prev_end != position->lsn) {
        return "batch continues another position";
    }
    if (batch->chain != position->chain && !WEIR__PLANTED(chain_not_checked)) {
        return "batch continues another chain";
    }
    if (batch->epoch > position->epoch && batch->epoch_lsn != position->lsn) {
        return "new epoch that did not begin here";
    }
    return NULL;
}

enum weir__batch_verdict weir__batch_judge(const uint8_t in[WEIR__BATCH_HEADER_BYTES],
                                           weir_lsn lsn,
                                           weir_lsn segment_end,
                                           uint32_t block_bytes,
                                           uint64_t log_id,
                                           const struct weir__position *position,
                                           const struct weir__epoch *newest,
                                           struct weir__batch *batch_out,
                                           const char **why_out)
{
    enum weir__batch_verdict verdict = WEIR__BATCH_OK;
    const char *why = NULL;

    batch_read(in, batch_out);
    if (weir__all_zero(in, WEIR__BATCH_HEADER_BYTES)) {
        verdict = WEIR__BATCH_ZERO;
        why = "zeros";
    } else if (weir__get_u32(in + BATCH_AT_MAGIC) != WEIR__BATCH_MAGIC) {
        verdict = WEIR__BATCH_NOT_OURS;
        why = "batch magic";
    } else if (batch_out->log_id != log_id) {
        verdict = WEIR__BATCH_NOT_OURS;
        why = "batch of another log";
    } else if (batch_out->lsn != lsn) {
        verdict = WEIR__BATCH_NOT_OURS;
        why = "batch of another LSN";
    } else if ((why = batch_fault(in, batch_out)) != NULL) {
        verdict = WEIR__BATCH_DAMAGED;
    } else if ((why = batch_place_fault(batch_out, segment_end, block_bytes)) != NULL) {
        verdict = WEIR__BATCH_DAMAGED;
    } else if ((why = batch_epoch_fault(batch_out, position, newest)) != NULL) {
        verdict = WEIR__BATCH_STALE;
    } else if ((why = batch_link_fault(batch_out, position)) != NULL) {
        verdict = WEIR__BATCH_UNCHAINED;
    } else {
        why = "continues the position";
    }
    if (why_out != NULL) {
        *why_out = why;
    }
    return verdict;
}

/* ---- what stands behind the header ---- */

/* The order in which a batch passes: HEADER, PAYLOAD, FRAME_PADDING for each frame, PADDING to the
 * end. REFUSED is final. */
enum batch_check_state {
    BATCH_CHECK_HEADER,
    BATCH_CHECK_PAYLOAD,
    BATCH_CHECK_FRAME_PADDING,
    BATCH_CHECK_PADDING,
    BATCH_CHECK_REFUSED,
};

static int batch_check_refuse(struct weir__batch_check *check, const char *why)
{
    check->state = BATCH_CHECK_REFUSED;
    check->why = why;
    return WEIR_ECORRUPT;
}

/* To the next frame, or, behind the last one, to the padding: by then the frames must add up. */
static int batch_check_next(struct weir__batch_check *check)
{
    if (check->frames_left != 0) {
        check->state = BATCH_CHECK_HEADER;
        check->header_have = 0;
        return 0;
    }
    if ((check->frame.flags & WEIR__FRAME_MORE) != 0) {
        return batch_check_refuse(check, "group without its last frame");
    }
    if (check->records_seen != check->batch.records) {
        return batch_check_refuse(check, "batch count of records");
    }
    check->state = BATCH_CHECK_PADDING;
    return 0;
}

void weir__batch_check_begin(struct weir__batch_check *check,
                             const struct weir__batch *batch,
                             uint32_t block_bytes)
{
    const weir_lsn frames_end = batch_frames_end(batch);
    *check = (struct weir__batch_check){
        .batch = *batch,
        .salt = weir__frame_salt(batch->log_id, batch->nonce, batch->epoch),
        .frames_left = batch->bytes,
        /* To the end of the last block; what a gap covers is not looked at. */
        .padding_left = weir__align_up(frames_end, block_bytes) - frames_end,
        .frame_lsn = batch->lsn + WEIR__BATCH_HEADER_BYTES,
    };
    (void)batch_check_next(
        check); /* a refusal here stays in the state, and feed and end report it */
}

/* A whole frame header is there: read it. */
static int batch_check_header(struct weir__batch_check *check)
{
    const bool in_group =
        (check->frame.flags & WEIR__FRAME_MORE) != 0; /* of the frame before; none: zero */
    const char *why = NULL;
    const int status = weir__frame_decode(check->header,
                                          check->frames_left,
                                          check->salt,
                                          check->frame_lsn,
                                          &check->frame,
                                          &why);
    if (status != 0) {
        return batch_check_refuse(check, why);
    }
    if (in_group && check->frame.type != WEIR__FRAME_RECORD) {
        return batch_check_refuse(check, "skip inside a group");
    }
    check->payload_left = check->frame.bytes;
    check->frame_padding_left = (uint32_t)(weir__frame_span(check->frame.bytes) -
                                           WEIR__FRAME_HEADER_BYTES - check->frame.bytes);
    check->payload_crc = 0;
    check->state = BATCH_CHECK_PAYLOAD;
    return 0;
}

/* The frame in work is complete and holds. */
static int batch_check_frame_done(struct weir__batch_check *check)
{
    if (check->frame.type == WEIR__FRAME_RECORD) {
        check->records_seen++; /* at most bytes / 24 times: no wrap */
    }
    if (check->frame_seen != NULL) {
        check->frame_seen(check->ctx, check->frame_lsn, &check->frame);
    }
    const uint64_t span = weir__frame_span(check->frame.bytes);
    check->frames_left -= span; /* decode saw to it that span fits */
    check->frame_lsn += span;
    return batch_check_next(check);
}

/* Records that lie whole in what is fed, as nearly all do, and hold: bytes taken. The first that
 * does not is left, untouched, to the states below, which say what is wrong with it. */
static uint64_t batch_check_whole(struct weir__batch_check *check, const uint8_t *in, uint64_t left)
{
    uint64_t taken = 0;

    while (check->state == BATCH_CHECK_HEADER && check->header_have == 0 &&
           left - taken >= WEIR__FRAME_HEADER_BYTES &&
           check->frames_left >= WEIR__FRAME_HEADER_BYTES) {
        const uint8_t *const at = in + taken;
        struct weir__frame frame;
        if (weir__frame_decode(at,
                               check->frames_left,
                               check->salt,
                               check->frame_lsn,
                               &frame,
                               NULL) != 0 ||
            frame.type != WEIR__FRAME_RECORD) {
            break;
        }
        const uint64_t span = weir__frame_span(frame.bytes);
        const uint64_t used = WEIR__FRAME_HEADER_BYTES + (uint64_t)frame.bytes;
        if (span > left - taken ||
            weir__crc32c(0, at + WEIR__FRAME_HEADER_BYTES, frame.bytes) != frame.payload_crc ||
            (span > used && !weir__all_zero(at + used, (size_t)(span - used)))) {
            break;
        }
        check->frame = frame;
        taken += span;
        if (batch_check_frame_done(check) != 0) {
            break; /* the refusal stays in the state */
        }
    }
    return taken;
}

int weir__batch_check_feed(struct weir__batch_check *check, const void *data, size_t bytes)
{
    const uint64_t whole = batch_check_whole(check, data, bytes);
    const uint8_t *in = (const uint8_t *)data + whole;
    uint64_t left = bytes - whole;
    int status = 0;

    /* Each turn takes what the state can use, at most what is left, and moves on when the state has
     * all it needs. The loop ends: a turn takes a byte, or leaves a state whose need is already
     * met, and every frame needs a header. */
    while (status == 0) {
        uint64_t take = 0;
        switch (check->state) {
        case BATCH_CHECK_HEADER:
            if (check->frames_left < WEIR__FRAME_HEADER_BYTES) {
                status = batch_check_refuse(check, "frame length");
                break;
            }
            if (left == 0) {
                return 0;
            }
            take = weir__min_u64(left, WEIR__FRAME_HEADER_BYTES - check->header_have);
            memcpy(check->header + check->header_have, in, (size_t)take);
            check->header_have += (uint32_t)take;
            if (check->header_have == WEIR__FRAME_HEADER_BYTES) {
                status = batch_check_header(check);
            }
            break;

        case BATCH_CHECK_PAYLOAD:
            take = weir__min_u64(left, check->payload_left);
            if (take != 0) {
                if (check->frame.type == WEIR__FRAME_RECORD) {
                    check->payload_crc = weir__crc32c(check->payload_crc, in, (size_t)take);
                }
                check->payload_left -= take;
            }
            if (check->payload_left != 0) {
                return 0; /* took all there was */
            }
            if (check->payload_crc != check->frame.payload_crc) { /* both 0 in a skip */
                status = batch_check_refuse(check, "payload checksum");
                break;
            }
            check->state = BATCH_CHECK_FRAME_PADDING;
            break;

        case BATCH_CHECK_FRAME_PADDING:
            take = weir__min_u64(left, check->frame_padding_left);
            if (take != 0) {
                if (!weir__all_zero(in, (size_t)take)) {
                    status = batch_check_refuse(check, "frame padding");
                    break;
                }
                check->frame_padding_left -= (uint32_t)take;
            }
            if (check->frame_padding_left != 0) {
                return 0;
            }
            status = batch_check_frame_done(check);
            break;

        case BATCH_CHECK_PADDING:
            if (left == 0) {
                return 0;
            }
            if (left > check->padding_left) {
                status = batch_check_refuse(check, "bytes behind the batch");
                break;
            }
            take = left;
            if (!weir__all_zero(in, (size_t)take)) {
                status = batch_check_refuse(check, "batch padding");
                break;
            }
            check->padding_left -= take;
            break;

        default: /* BATCH_CHECK_REFUSED */
            return WEIR_ECORRUPT;
        }
        if (take != 0) {
            in += take;
            left -= take;
        }
    }
    return status;
}

int weir__batch_check_end(struct weir__batch_check *check)
{
    if (check->state == BATCH_CHECK_REFUSED) {
        return WEIR_ECORRUPT;
    }
    if (check->state != BATCH_CHECK_PADDING || check->padding_left != 0) {
        return batch_check_refuse(check, "batch cut short");
    }
    return 0;
}
