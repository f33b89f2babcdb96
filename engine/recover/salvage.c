/* SPDX-License-Identifier: Apache-2.0
 * What can still be read of a damaged log goes into a new one; what cannot is named.
 *
 * The happy path (1 and 2 in salvage_facts.c):
 *   1. the facts: log id and block size from the control file, else from what most headers say; the
 * usable segments;
 *   2. a first walk over all of them learns the epochs: their nonces, where each began, what each
 * promised;
 *   3. a second walk takes batches that verify as they are. Of a batch whose frames are damaged it
 * takes each frame that verifies by itself. Where no header leads on, frames are searched at every
 * multiple of 8, with the salt of the one epoch that is sure to stand there, and put into new
 * batches at their LSNs;
 *   4. everything between is accounted for: `known` is the position up to which all is taken, is
 * structure (headers, padding, unused room), or was told as a gap.
 *
 * A frame's checksum covers its LSN, log id, epoch and nonce, so a frame that verifies stands where
 * it was written and is of this log. Which epoch may stand at a position: the newest of those that
 * had begun at or below it. An earlier one's bytes there were cut, and do not come back.
 *
 * Blocks that cannot be read are read as zeros and go the way of all bytes that do not verify. What
 * can fail: the target, memory, an unknown format version. Memory is a chunk, one batch, and an
 * entry per epoch and segment. One thread. */
#include "recover/salvage_state.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/num.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LLU(v) ((unsigned long long)(v))

/* ---- accounts ---- */

static weir_lsn block_up(const struct weir__salvage_state *salvage, weir_lsn lsn)
{
    return weir__align_up(lsn, salvage->block_bytes);
}

/* Something is wrong above `known`: the first word counts. */
static void salvage_why(struct weir__salvage_state *salvage, const char *format, ...)
    WEIR__PRINTF(2, 3);

static void salvage_why(struct weir__salvage_state *salvage, const char *format, ...)
{
    if (salvage->why[0] != '\0') {
        return;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(salvage->why, sizeof salvage->why, format, args);
    va_end(args);
}

static void salvage_odd(struct weir__salvage_state *salvage, weir_lsn lsn)
{
    if (!salvage->odd && lsn >= salvage->known) {
        salvage->odd = true;
        salvage->odd_lsn = lsn;
    }
}

static void known_raise(struct weir__salvage_state *salvage, weir_lsn lsn)
{
    if (lsn > salvage->known) {
        salvage->known = lsn;
        salvage->odd = false;
        salvage->why[0] = '\0';
    }
}

/* Tells the gap from `known` to `to`. */
static void salvage_lose(struct weir__salvage_state *salvage, weir_lsn to)
{
    if (to <= salvage->known) {
        return;
    }
    salvage_why(salvage, "no batch stands at LSN %llu", LLU(salvage->known));
    struct weir_gap gap = {.from_lsn = salvage->known, .to_lsn = to};
    (void)snprintf(gap.why, sizeof gap.why, "%s", salvage->why);
    salvage->result->gaps++;
    salvage->result->gap_bytes += to - salvage->known;
    salvage->lost_to = to;
    known_raise(salvage, to);
    if (salvage->config->gap != NULL) {
        salvage->config->gap(salvage->config->ctx, &gap);
    }
}

/* A batch that says what it continues: is anything missing before it? */
static void salvage_continue(struct weir__salvage_state *salvage, const struct weir__batch *batch)
{
    const weir_lsn reached = block_up(salvage, salvage->known);
    const bool odd = salvage->odd && salvage->odd_lsn < batch->prev_end;
    if (batch->prev_end > reached || (batch->prev_end == reached && odd)) {
        salvage_lose(salvage, batch->prev_end);
    }
    known_raise(salvage, batch->lsn);
}

/* ---- into the new log ---- */

static int target_gap_whole(struct weir__salvage_state *salvage, struct weir__range range)
{
    /* A file of the usual size may be recycled one day, so it has to have its blocks. */
    const bool hollow = range.end - range.base != salvage->segment_bytes;
    const int code = weir__target_enter(salvage->target, range, hollow);
    return code == 0 ? weir__target_gap(salvage->target, range.end) : code;
}

/* What was lost at the end of the target's segment is marked there. */
static int target_mark_lost(struct weir__salvage_state *salvage)
{
    struct weir__target *const target = salvage->target;
    const weir_lsn to = weir__min_u64(block_up(salvage, salvage->lost_to), target->range.end);
    return to > weir__target_place(target) ? weir__target_gap(target, to) : 0;
}

/* Brings the target into the segment in work; what lies between becomes gaps. */
static int target_follow(struct weir__salvage_state *salvage)
{
    struct weir__target *const target = salvage->target;
    const struct weir__range range = salvage->segments[salvage->at].range;
    if (target->range.base == target->range.end) {
        salvage->target_at = salvage->at;
        return weir__target_enter(target, range, false);
    }
    if (salvage->target_at == salvage->at) {
        return 0;
    }
    int code = target_mark_lost(salvage);
    while (code == 0 && salvage->target_at < salvage->at) {
        const struct weir__range next = salvage->segments[salvage->target_at + 1].range;
        if (next.base > target->range.end) {
            code = target_gap_whole(salvage, (struct weir__range){target->range.end, next.base});
            continue;
        }
        salvage->target_at++;
        code = salvage->target_at == salvage->at ? weir__target_enter(target, next, false)
                                                 : target_gap_whole(salvage, next);
    }
    return code;
}

/* The last frame stands alone: whatever belonged to its group behind it is lost. */
static void frames_end_group(struct weir__salvage_frames *frames)
{
    uint8_t *const flags = frames->image.bytes + (frames->last_lsn - frames->lsn) + 18;
    weir__put_u16(flags, (uint16_t)(weir__get_u16(flags) & ~WEIR__FRAME_MORE));
}

static int frames_flush(struct weir__salvage_state *salvage)
{
    struct weir__salvage_frames *const frames = &salvage->frames;
    if (!frames->open) {
        return 0;
    }
    frames->open = false;
    frames_end_group(frames);
    return weir__target_batch(salvage->target,
                              frames->lsn,
                              &frames->image,
                              frames->end - frames->lsn - WEIR__BATCH_HEADER_BYTES,
                              frames->wall_ns);
}

/* Where a batch can begin that holds a frame at lsn: what lies between header and frame must be
 * nothing or a frame to skip. */
static bool frames_choose(const struct weir__salvage_state *salvage,
                          weir_lsn lsn,
                          weir_lsn lowest,
                          weir_lsn *begin_out)
{
    if (lsn < lowest + WEIR__BATCH_HEADER_BYTES) {
        return false;
    }
    weir_lsn begin = weir__align_down(lsn - WEIR__BATCH_HEADER_BYTES, salvage->block_bytes);
    const uint64_t between = lsn - WEIR__BATCH_HEADER_BYTES - begin;
    if (between != 0 && between < WEIR__FRAME_HEADER_BYTES) {
        begin = begin >= salvage->block_bytes ? begin - salvage->block_bytes : 0;
    }
    *begin_out = begin;
    return begin >= lowest;
}

static int frames_append(struct weir__salvage_state *salvage,
                         const struct weir__frame *frame,
                         const uint8_t *payload)
{
    struct weir__salvage_frames *const frames = &salvage->frames;
    const uint64_t offset = frames->end - frames->lsn;
    const uint64_t span = weir__frame_span(frame->bytes);
    if (weir__image_reserve(&frames->image, offset + span) != 0) {
        return weir__salvage_no_memory(salvage);
    }
    uint8_t *const at = frames->image.bytes + offset;
    memset(at, 0, (size_t)span);
    weir__frame_encode(frame,
                       0,
                       frames->end,
                       at); /* the checksum comes when the batch is written */
    if (frame->type == WEIR__FRAME_RECORD && frame->bytes > 0) {
        memcpy(at + WEIR__FRAME_HEADER_BYTES, payload, frame->bytes);
    }
    frames->last_lsn = frames->end;
    frames->end += span;
    return 0;
}

static int frames_skip(struct weir__salvage_state *salvage, uint64_t bytes)
{
    weir__check(bytes >= WEIR__FRAME_HEADER_BYTES && bytes % WEIR__FRAME_ALIGN == 0);
    const struct weir__frame skip = {
        .bytes = (uint32_t)(bytes - WEIR__FRAME_HEADER_BYTES),
        .type = WEIR__FRAME_SKIP,
    };
    return frames_append(salvage, &skip, NULL);
}

/* Puts a frame into the batch in hand, or into a new one. 1: done; 0: there is no place for it;
 * negative: failed. */
static int frames_put(struct weir__salvage_state *salvage,
                      weir_lsn lsn,
                      const struct weir__frame *frame,
                      const uint8_t *payload)
{
    struct weir__salvage_frames *const frames = &salvage->frames;
    int code = 0;
    weir_lsn begin = 0;
    if (frames->open && lsn != frames->end) {
        /* Where there is room for another header the batch ends here, as it did in the source,
         * mostly. */
        const uint64_t between = lsn - frames->end;
        if (frames_choose(salvage, lsn, block_up(salvage, frames->end), &begin)) {
            code = frames_flush(salvage);
        } else if (between >= WEIR__FRAME_HEADER_BYTES && between <= UINT32_MAX) {
            frames_end_group(frames);
            code = frames_skip(salvage, between);
        } else {
            return 0;
        }
        if (code < 0) {
            return code;
        }
    }
    if (!frames->open) {
        code = target_follow(salvage);
        if (code < 0) {
            return code;
        }
        if (!frames_choose(salvage, lsn, weir__target_place(salvage->target), &begin)) {
            return 0;
        }
        frames->open = true;
        frames->lsn = begin;
        frames->end = begin + WEIR__BATCH_HEADER_BYTES;
        code = weir__image_reserve(&frames->image, WEIR__BATCH_HEADER_BYTES);
        if (code != 0) {
            frames->open = false;
            return weir__salvage_no_memory(salvage);
        }
        if (lsn > frames->end) {
            code = frames_skip(salvage, lsn - frames->end);
        }
    }
    if (code == 0) {
        code = frames_append(salvage, frame, payload);
    }
    return code == 0 ? 1 : code;
}

/* A batch that verifies. */
static int take_batch(struct weir__salvage_state *salvage, const struct weir__batch *batch)
{
    salvage_continue(salvage, batch);
    const weir_lsn end = weir__batch_end(batch, salvage->block_bytes);
    if (end <= salvage->oldest) {
        known_raise(salvage, end);
        return 0;
    }
    if ((batch->flags & WEIR__BATCH_GAP) != 0) {
        salvage_why(salvage, "a gap of the source, left by an earlier salvage");
        salvage_lose(salvage, end);
        return 0;
    }
    int code = frames_flush(salvage);
    if (code == 0) {
        code = target_follow(salvage);
    }
    if (code == 0) {
        code = weir__target_batch(salvage->target,
                                  batch->lsn,
                                  &salvage->body,
                                  batch->bytes,
                                  batch->wall_ns);
    }
    known_raise(salvage, end);
    return code;
}

/* ---- frames without a batch that holds ---- */

/* Is anything missing before a frame that was found at lsn? */
static void frame_continue(struct weir__salvage_state *salvage, weir_lsn lsn)
{
    if (lsn <= salvage->known) {
        return;
    }
    /* A header stood before it where one was due, and nothing but the header is missing. */
    const weir_lsn header = lsn - WEIR__BATCH_HEADER_BYTES;
    const struct weir__range range = salvage->reader.range;
    const bool due = header == block_up(salvage, salvage->known) ||
                     (header == range.base + salvage->block_bytes && salvage->known <= range.base);
    if (!due || (salvage->odd && salvage->odd_lsn < header)) {
        salvage_lose(salvage, lsn);
    }
    known_raise(salvage, lsn);
}

/* What seems to be a frame's header at lsn, without its checksum: spares most places the
 * computation. */
static bool frame_plausible(const uint8_t *header, uint64_t room)
{
    const uint16_t type = weir__get_u16(header + 16);
    return (type == WEIR__FRAME_RECORD || type == WEIR__FRAME_SKIP) &&
           weir__get_u16(header + 18) <= WEIR__FRAME_MORE &&
           weir__frame_span(weir__get_u32(header)) <= room;
}

/* Looks for a frame at lsn. 1: one was taken; 0: none that verifies; negative: failed. *span_out:
 * how far to move on. */
static int take_frame(struct weir__salvage_state *salvage,
                      weir_lsn lsn,
                      weir_lsn end,
                      const struct weir__salvage_epoch *epoch,
                      uint64_t *span_out)
{
    *span_out = WEIR__FRAME_ALIGN;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    weir__salvage_reader_copy(salvage, lsn, header, sizeof header);
    struct weir__frame frame;
    if (!epoch->sure || !frame_plausible(header, end - lsn) ||
        weir__frame_decode(header, end - lsn, epoch->salt, lsn, &frame, NULL) != 0) {
        if (weir__get_u64(header) != 0 || weir__salvage_reader_bad(salvage, lsn)) {
            salvage_odd(salvage, lsn);
        }
        return 0;
    }
    /* From here on the length is to be believed. */
    const uint64_t span = weir__frame_span(frame.bytes);
    *span_out = span;
    const uint8_t *payload = NULL;
    if (lsn + span > weir__salvage_reader_end(salvage)) {
        salvage_odd(salvage, lsn);
        salvage_why(salvage, "the file ends early, in the record at LSN %llu", LLU(lsn));
        return 0;
    }
    if (frame.type == WEIR__FRAME_RECORD) {
        if (weir__image_reserve(&salvage->body, (uint64_t)frame.bytes + 1) != 0) {
            return weir__salvage_no_memory(salvage);
        }
        weir__salvage_reader_copy(salvage,
                                  lsn + WEIR__FRAME_HEADER_BYTES,
                                  salvage->body.bytes,
                                  frame.bytes);
        payload = salvage->body.bytes;
        if (weir__crc32c(0, payload, frame.bytes) != frame.payload_crc) {
            salvage_odd(salvage, lsn);
            salvage_why(salvage,
                        weir__salvage_reader_bad(salvage, lsn)
                            ? "the payload of the record at LSN %llu cannot be read"
                            : "the payload of the record at LSN %llu does not verify",
                        LLU(lsn));
            return 0;
        }
    }
    if (lsn + span <= salvage->oldest) {
        known_raise(salvage, lsn + span);
        return 1;
    }
    const weir_lsn known = salvage->known;
    if (lsn < known) {
        return 0; /* cannot be: what is known was passed */
    }
    frame_continue(salvage, lsn);
    const int put = frames_put(salvage, lsn, &frame, payload);
    if (put < 0) {
        return put;
    }
    if (put == 0) {
        salvage_odd(salvage, lsn);
        salvage_why(salvage, "the record at LSN %llu has no place in a batch", LLU(lsn));
        return 0;
    }
    known_raise(salvage, lsn + span);
    return 1;
}

/* The frames of a batch whose header holds and which does not verify as a whole. */
static int
take_damaged(struct weir__salvage_state *salvage, const struct weir__batch *batch, const char *why)
{
    salvage_continue(salvage, batch);
    const weir_lsn frames = batch->lsn + WEIR__BATCH_HEADER_BYTES;
    const weir_lsn frames_end = frames + batch->bytes;
    const weir_lsn end = weir__batch_end(batch, salvage->block_bytes);
    if ((batch->flags & WEIR__BATCH_GAP) != 0) {
        return take_batch(salvage, batch); /* only the padding of its block is wrong */
    }
    known_raise(salvage, frames);
    int code = frames_flush(salvage);
    salvage->frames.wall_ns = batch->wall_ns;
    const struct weir__salvage_epoch *const epoch = weir__salvage_epoch_due(salvage, batch->lsn);
    const weir_lsn readable = weir__min_u64(frames_end, weir__salvage_reader_end(salvage));
    weir_lsn lsn = frames;
    while (code == 0 && lsn + WEIR__FRAME_HEADER_BYTES <= readable) {
        uint64_t step = 0;
        const int took = take_frame(salvage, lsn, frames_end, epoch, &step);
        if (took < 0) {
            return took;
        }
        if (took == 0) {
            salvage_why(salvage,
                        weir__salvage_reader_bad(salvage, lsn)
                            ? "at LSN %llu the device cannot be read (%s)"
                            : "the frame at LSN %llu does not verify (%s)",
                        LLU(lsn),
                        why);
        }
        lsn += step;
    }
    if (code == 0) {
        salvage_lose(salvage, frames_end);
        known_raise(salvage, end);
        code = frames_flush(salvage);
    }
    return code;
}

static bool block_zero(struct weir__salvage_state *salvage, weir_lsn lsn)
{
    const weir_lsn end = lsn + salvage->block_bytes;
    while (lsn < end) {
        size_t have = 0;
        const uint8_t *const data = weir__salvage_reader_peek(salvage, lsn, &have);
        have = (size_t)weir__min_u64(have, end - lsn);
        if (!weir__all_zero(data, have)) {
            return false;
        }
        lsn += have;
    }
    return true;
}

/* A batch that verifies and is not of the epoch due there: is it told? Of an earlier epoch than one
 * that is sure it was cut, and nothing is missing where it stands. */
static void pass_batch(struct weir__salvage_state *salvage, const struct weir__batch *batch)
{
    const struct weir__salvage_epoch *const due = weir__salvage_epoch_due(salvage, batch->lsn);
    const weir_lsn end = batch->lsn + WEIR__BATCH_HEADER_BYTES + batch->bytes;
    if (end <= salvage->known || (due != NULL && due->sure && batch->epoch < due->epoch)) {
        return;
    }
    salvage_why(salvage,
                "the batch at LSN %llu is of epoch %llu from LSN %llu, to which nothing leads",
                LLU(batch->lsn),
                LLU(batch->epoch),
                LLU(batch->epoch_lsn));
    salvage_lose(salvage, end);
}

/* From a place without a header that leads on: takes frames until there is one again. *lsn: in and
 * out. */
static int take_stray(struct weir__salvage_state *salvage, weir_lsn *lsn)
{
    const weir_lsn end = weir__salvage_reader_end(salvage);
    const uint32_t block = salvage->block_bytes;
    salvage->frames.wall_ns = 0;
    while (*lsn + WEIR__FRAME_HEADER_BYTES <= end) {
        if (*lsn % block == 0) {
            struct weir__batch batch;
            const bool sound = weir__salvage_batch_sound(salvage, *lsn, &batch);
            if (sound && weir__salvage_batch_due(salvage, &batch)) {
                return 0;
            }
            if (sound) {
                const char *why = NULL;
                const int verifies = weir__salvage_batch_read(salvage, &batch, &why);
                if (verifies < 0) {
                    return verifies;
                }
                *lsn +=
                    verifies > 0
                        ? weir__align_up(WEIR__BATCH_HEADER_BYTES + (uint64_t)batch.bytes, block)
                        : 0;
                if (verifies > 0) {
                    pass_batch(salvage, &batch);
                    continue;
                }
            }
            if (block_zero(salvage, *lsn)) {
                if (weir__salvage_reader_bad(salvage, *lsn)) {
                    salvage_odd(salvage, *lsn);
                    salvage_why(salvage,
                                "the block at LSN %llu cannot be read: %s",
                                LLU(*lsn),
                                salvage->reader.bad_code == WEIR_EUNREADABLE
                                    ? "the file ends early"
                                    : weir__code_text(salvage->reader.bad_code));
                }
                *lsn += block;
                continue;
            }
            if (!sound) {
                salvage_why(salvage, "no batch header verifies at LSN %llu", LLU(*lsn));
            }
        }
        const struct weir__salvage_epoch *const epoch = weir__salvage_epoch_due(salvage, *lsn);
        if (epoch == NULL) {
            salvage_odd(salvage, *lsn);
            *lsn = weir__min_u64(block_up(salvage, *lsn + 1), end);
            continue;
        }
        uint64_t step = 0;
        const int took = take_frame(salvage, *lsn, end, epoch, &step);
        if (took < 0) {
            return took;
        }
        *lsn += step;
    }
    *lsn = end;
    return 0;
}

/* ---- the second walk ---- */

static int salvage_segment(struct weir__salvage_state *salvage)
{
    const struct weir__range range = salvage->segments[salvage->at].range;
    if (salvage->at > 0) {
        const weir_lsn before = salvage->segments[salvage->at - 1].range.end;
        if (before < range.base) {
            salvage_why(salvage,
                        "no segment holds LSN %llu up to %llu",
                        LLU(before),
                        LLU(range.base));
        }
    }
    const int open_code = weir__salvage_reader_turn(salvage, &salvage->segments[salvage->at]);
    if (open_code != 0) {
        salvage_why(salvage,
                    "the segment at LSN %llu cannot be opened: %s",
                    LLU(range.base),
                    weir__code_text(open_code));
        salvage_odd(salvage, weir__max_u64(range.base, salvage->known));
        weir__salvage_progress(salvage, range.end - range.base);
        return 0;
    }
    const weir_lsn file_end = weir__salvage_reader_end(salvage);
    weir_lsn lsn = range.base + salvage->block_bytes;
    while (lsn < file_end) {
        struct weir__batch batch;
        int code;
        if (!weir__salvage_batch_sound(salvage, lsn, &batch) ||
            !weir__salvage_batch_due(salvage, &batch)) {
            code = take_stray(salvage, &lsn);
            /* Frames of a lost header may reach into the block of the next one's, never beyond its
             * start. */
            if (code == 0 && lsn < file_end) {
                lsn = block_up(salvage, lsn);
            }
        } else {
            const char *why = NULL;
            weir_lsn end = weir__batch_end(&batch, salvage->block_bytes);
            code = weir__salvage_batch_read(salvage, &batch, &why);
            if (code > 0) {
                code = take_batch(salvage, &batch);
            } else if (code == 0 && weir__salvage_epoch_due(salvage, lsn)->sure) {
                code = take_damaged(salvage, &batch, why);
            } else if (code == 0) {
                /* Its length is not to be believed either. */
                salvage_odd(salvage, lsn);
                salvage_why(salvage, "the batch at LSN %llu does not verify (%s)", LLU(lsn), why);
                end = lsn + salvage->block_bytes;
            }
            lsn = end;
        }
        if (code < 0) {
            return code;
        }
    }
    if (lsn < range.end && file_end < range.end) {
        salvage_odd(salvage, weir__max_u64(lsn, salvage->known));
        salvage_why(salvage, "the block at LSN %llu cannot be read: the file ends early", LLU(lsn));
    }
    weir__salvage_reader_skip(salvage);
    /* A batch does not reach over a segment's end. */
    return frames_flush(salvage);
}

/* Everything is taken: what was promised beyond? */
static int salvage_end(struct weir__salvage_state *salvage)
{
    const bool odd = salvage->odd && salvage->odd_lsn < salvage->promise;
    if (salvage->promise > block_up(salvage, salvage->known) ||
        (salvage->promise > salvage->known && odd)) {
        if (salvage->known >= salvage->segments[salvage->segment_count - 1].range.end) {
            salvage_why(salvage, "no segment holds LSN %llu", LLU(salvage->known));
        }
        salvage_lose(salvage, salvage->promise);
    }
    if (salvage->target->range.base < salvage->target->range.end) {
        return target_mark_lost(salvage);
    }
    return 0;
}

static int salvage_run(struct weir__salvage_state *salvage, struct weir__catalog *catalog)
{
    int code = weir__salvage_facts(salvage, catalog);
    if (code == 0 && salvage->segment_count == 0) {
        code = weir__fault_set(salvage->fault,
                               WEIR_ENOLOG,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "there is no segment of this log");
    }
    if (code == 0) {
        code = weir__salvage_learn(salvage);
    }
    if (code != 0) {
        return code;
    }
    const weir_lsn first = salvage->segments[0].range.base;
    salvage->known = first + salvage->block_bytes;
    if (salvage->control_known) {
        /* Segments may be missing in front. */
        salvage->known =
            weir__max_u64(salvage->oldest, salvage->control.first_lsn + salvage->block_bytes);
        if (salvage->known < first) {
            salvage_why(salvage,
                        "no segment holds LSN %llu up to %llu",
                        LLU(salvage->known),
                        LLU(first));
        }
    }
    code = weir__target_begin(
        salvage->target,
        salvage->block_bytes,
        weir__max_u64(salvage->segment_bytes, 2 * (uint64_t)salvage->block_bytes),
        salvage->log_id,
        first,
        salvage->oldest);
    for (; code == 0 && salvage->at < salvage->segment_count; salvage->at++) {
        code = salvage_segment(salvage);
    }
    if (code == 0) {
        salvage->at--;
        code = salvage_end(salvage);
    }
    if (code == 0 && salvage->target->batches == 0) {
        if (!salvage->control_known) {
            return weir__fault_set(salvage->fault,
                                   WEIR_ENOLOG,
                                   "",
                                   UINT64_MAX,
                                   UINT64_MAX,
                                   "no record could be read");
        }
        if (salvage->target->range.base == salvage->target->range.end) {
            /* An empty log, or one of which nothing is left: the new one begins where the old one
             * would have gone on. */
            salvage->at = salvage->segment_count - 1;
            code = target_follow(salvage);
        }
    }
    if (code == 0 && salvage->config->progress != NULL) {
        salvage->config->progress(salvage->config->ctx,
                                  salvage->progress_total,
                                  salvage->progress_total);
    }
    return code;
}

int weir__salvage(const struct weir__rewrite_config *config,
                  struct weir__catalog *catalog,
                  struct weir__target *target,
                  struct weir__salvage_result *result_out,
                  struct weir__fault *fault)
{
    *result_out = (struct weir__salvage_result){0};
    struct weir__mem *const mem = config->from->mem;
    struct weir__salvage_state salvage = {
        .config = config,
        .target = target,
        .result = result_out,
        .fault = fault,
        .dir = config->from,
        .mem = mem,
        .reader = {.file = -1},
        .body = {.mem = mem},
        .frames = {.image = {.mem = mem}},
    };
    salvage.reader.chunk = weir__mem_alloc_io(mem, WEIR__SALVAGE_CHUNK_BYTES);
    const int code = salvage.reader.chunk == NULL ? weir__salvage_no_memory(&salvage)
                                                  : salvage_run(&salvage, catalog);
    result_out->oldest = salvage.oldest;
    weir__salvage_reader_close(&salvage);
    weir__mem_free_io(mem, salvage.reader.chunk, WEIR__SALVAGE_CHUNK_BYTES);
    weir__image_release(&salvage.body);
    weir__image_release(&salvage.frames.image);
    weir__mem_free(mem, salvage.segments, salvage.segment_room * sizeof *salvage.segments);
    weir__mem_free(mem, salvage.epochs, salvage.epoch_room * sizeof *salvage.epochs);
    return code;
}
