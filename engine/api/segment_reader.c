/* SPDX-License-Identifier: Apache-2.0
 * One file of a log, or a plain file, read without the log around it.
 *
 * Bytes come from a reader (io/reader.h) as they are. Records are walked like a cursor's, with what
 * one file can tell. The happy path of a fetch:
 *   1. the header at the position is judged: the first batch of the file is taken at its word,
 *      each further one must continue the one before (FORMAT.md section 5 without rule 4, which
 *      asks the control file);
 *   2. frames and padding are verified in one go;
 *   3. only then is the first record shown. The position moves when the last one was.
 * A first batch of an epoch in which the file was not made yet stands there from an earlier use.
 *
 * Bytes are read a window at a time: buffer_bytes from a batch's header on, or the batch where that
 * is larger. A live log goes on writing behind what the window saw, so nothing is refused on the
 * word of a window that an earlier call has read.
 *
 * What can fail: reads, memory for a large batch, and the bytes. A failure leaves the position
 * where it was: the same call can be made again. A window that a broken ring may still write into
 * is left to it, and the next call gets another. Bytes: any thread; records: one at a time. */
#include "api/segment_reader.h"

#include "base/num.h"
#include "base/plant.h"
#include "format/batch.h"
#include "format/segment_header.h"
#include "io/device.h"
#include "io/reader.h"

#include <errno.h>
#include <string.h>

struct weir_segment {
    struct weir__mem mem;
    struct weir_reader *reader;
    struct weir_segment_info info; /* set before start */
    size_t window_min;

    /* Of the records: one thread at a time. */
    bool anchored; /* the position is a batch's word, else only its place is known */
    bool in_hand;  /* there is a current batch */
    struct weir__position position;
    weir_lsn start; /* records below it are not shown */
    struct weir__batch batch;
    const uint8_t *frames; /* batch.bytes of them in the window, verified */
    uint32_t frames_done;
    uint32_t salt;
    uint8_t *window;
    size_t window_room;
    size_t window_bytes; /* 0: nothing in it */
    weir_lsn window_lsn;
};

/* ---- opening and closing --------------------------------------------------------------------- */

/* Is it a segment, and of what? 0, or why the first bytes could not be read. */
static int segment_look(struct weir_segment *segment)
{
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    struct weir__segment_header header;

    const int64_t got = weir_reader_read_at(segment->reader, 0, bytes, sizeof bytes);
    if (got < 0) {
        return (int)got;
    }
    if ((size_t)got < sizeof bytes || weir__segment_header_decode(bytes, &header, NULL) != 0) {
        return 0;
    }
    segment->info = (struct weir_segment_info){
        .is_segment = true,
        .log_id = header.log_id,
        .number = header.number,
        .base_lsn = header.base,
        .end_lsn = header.base + header.bytes,
        .epoch = header.epoch,
        .block_bytes = header.block_bytes,
    };
    segment->position.lsn = header.base + header.block_bytes;
    segment->window_min = (size_t)weir__align_up(segment->window_min, header.block_bytes);
    return 0;
}

int weir__segment_reader_open_with(const char *path,
                                   const struct weir_io_config *config,
                                   struct weir__io *seam,
                                   struct weir_segment **segment_out,
                                   struct weir_error *error_out)
{
    struct weir_reader *reader;
    struct weir__mem mem;

    int code = weir__reader_open_with(path, config, seam, &reader, error_out);
    if (code != 0) {
        return code;
    }
    const struct weir_io_config *const settled = weir__reader_config(reader);
    weir__io_memory(&mem, settled->memory);
    struct weir_segment *const segment =
        weir__mem_alloc(&mem, sizeof *segment, _Alignof(struct weir_segment));
    if (segment == NULL) {
        code = weir__io_file_error(weir__reader_file(reader),
                                   -ENOMEM,
                                   UINT64_MAX,
                                   "no memory for a segment reader",
                                   error_out);
        weir_reader_close(reader);
        weir__mem_exit(&mem);
        return code;
    }
    segment->mem = mem;
    segment->reader = reader;
    segment->window_min = settled->buffer_bytes;
    code = segment_look(segment);
    if (code != 0) {
        (void)weir__io_file_error(weir__reader_file(reader),
                                  code,
                                  0,
                                  "cannot read the file's first bytes",
                                  error_out);
        weir_segment_close(segment);
        return code;
    }
    *segment_out = segment;
    return 0;
}

int weir_segment_open(const char *path,
                      const struct weir_io_config *config,
                      struct weir_segment **segment_out,
                      struct weir_error *error_out)
{
    return weir__segment_reader_open_with(path, config, NULL, segment_out, error_out);
}

void weir_segment_close(struct weir_segment *segment)
{
    if (segment == NULL) {
        return;
    }
    weir_reader_close(segment->reader);
    struct weir__mem mem = segment->mem;
    weir__mem_free_io(&mem, segment->window, segment->window_room);
    weir__mem_free(&mem, segment, sizeof *segment);
    weir__mem_exit(&mem);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

int64_t weir_segment_read_messages(struct weir_segment *segment,
                                   uint64_t offset,
                                   void *buffer,
                                   size_t max_bytes)
{
    return weir_reader_read_at(segment->reader, offset, buffer, max_bytes);
}

int weir_segment_read_range(struct weir_segment *segment,
                            uint64_t offset,
                            void *buffer,
                            size_t bytes)
{
    return weir_reader_read_exact_at(segment->reader, offset, buffer, bytes);
}

int weir_segment_len(struct weir_segment *segment, uint64_t *bytes_out)
{
    return weir_reader_bytes(segment->reader, bytes_out);
}

bool weir_segment_is_empty(struct weir_segment *segment)
{
    uint64_t bytes;
    return weir_reader_bytes(segment->reader, &bytes) == 0 && bytes == 0;
}

void weir_segment_describe(struct weir_segment *segment, struct weir_segment_info *info_out)
{
    *info_out = segment->info;
}

void weir_segment_stats(struct weir_segment *segment, struct weir_io_stats *stats_out)
{
    weir_reader_stats(segment->reader, stats_out);
}

/* ---- the window ------------------------------------------------------------------------------ */

/* Makes the window large enough. What stood in it is gone then. */
static int window_grow(struct weir_segment *segment, weir_lsn lsn, size_t bytes)
{
    uint64_t file_bytes;

    if (bytes <= segment->window_room) {
        return 0;
    }
    if (bytes > segment->window_min) {
        /* A header says how large its batch is, but only the file shows that there is so much. */
        const int code = weir_reader_bytes(segment->reader, &file_bytes);
        if (code != 0) {
            return code;
        }
        if (lsn - segment->info.base_lsn + bytes > file_bytes) {
            return -ENODATA;
        }
    }
    weir__mem_free_io(&segment->mem, segment->window, segment->window_room);
    segment->window_room = 0;
    segment->window_bytes = 0;
    segment->window = weir__mem_alloc_io(&segment->mem, bytes);
    if (segment->window == NULL) {
        return -ENOMEM;
    }
    segment->window_room = bytes;
    return 0;
}

/* The bytes at an LSN, in the window. 0; -ENODATA: the file ends before; what the read failed with.
 * The caller knows that they lie below the segment's end. */
static int
window_get(struct weir_segment *segment, weir_lsn lsn, size_t bytes, const uint8_t **data_out)
{
    if (lsn < segment->window_lsn || lsn - segment->window_lsn > segment->window_bytes ||
        segment->window_bytes - (lsn - segment->window_lsn) < bytes) {
        const uint64_t left = segment->info.end_lsn - lsn;
        const size_t want = (size_t)weir__min_u64(left, weir__max_u64(bytes, segment->window_min));
        const int code = window_grow(segment, lsn, want);
        if (code != 0) {
            return code;
        }
        segment->window_bytes = 0;
        bool lost;
        const int64_t got = weir__reader_read(segment->reader,
                                              lsn - segment->info.base_lsn,
                                              segment->window,
                                              want,
                                              &lost);
        if (lost) {
            weir__mem_abandon(&segment->mem,
                              segment->window,
                              weir__mem_io_bytes(segment->window_room));
            segment->window = NULL;
            segment->window_room = 0;
        }
        if (got < 0) {
            return (int)got;
        }
        segment->window_lsn = lsn;
        segment->window_bytes = (size_t)got;
        if ((size_t)got < bytes) {
            return -ENODATA;
        }
    }
    *data_out = segment->window + (lsn - segment->window_lsn);
    return 0;
}

/* ---- batches --------------------------------------------------------------------------------- */

/* Does a header continue the position? */
static bool segment_judge(const struct weir_segment *segment,
                          const uint8_t header[WEIR__BATCH_HEADER_BYTES],
                          struct weir__batch *batch_out)
{
    /* Newer than all others, and begun behind all of them: rule 4 has nothing to say. */
    static const struct weir__epoch any = {.epoch = UINT64_MAX, .lsn = UINT64_MAX};
    const struct weir_segment_info *const info = &segment->info;
    struct weir__position position = segment->position;

    if (!segment->anchored) {
        if (!weir__batch_decode(header, batch_out) || batch_out->epoch < info->epoch) {
            return false;
        }
        position = weir__position_before(batch_out);
    }
    return weir__batch_judge(header,
                             segment->position.lsn,
                             info->end_lsn,
                             info->block_bytes,
                             info->log_id,
                             &position,
                             &any,
                             batch_out,
                             NULL) == WEIR__BATCH_OK;
}

/* Steps behind a batch. */
static void segment_step(struct weir_segment *segment, const struct weir__batch *batch)
{
    segment->position = weir__position_after(batch, segment->info.block_bytes);
    segment->anchored = true;
    segment->in_hand = false;
}

/* Frames and padding of a batch, all of them. */
static int segment_verify(const struct weir_segment *segment,
                          const struct weir__batch *batch,
                          const uint8_t *data,
                          size_t bytes)
{
    struct weir__batch_check check;

    if (WEIR__PLANTED(crc_not_checked)) {
        return 0;
    }
    weir__batch_check_begin(&check, batch, segment->info.block_bytes);
    const int code = weir__batch_check_feed(&check,
                                            data + WEIR__BATCH_HEADER_BYTES,
                                            bytes - WEIR__BATCH_HEADER_BYTES);
    return code != 0 ? code : weir__batch_check_end(&check);
}

/* Looks at the position. 1: a batch is in hand, or was stepped behind; 0: none continues here;
 * WEIR_ECORRUPT: one does, but does not verify; or what a read failed with. */
static int segment_attempt(struct weir_segment *segment)
{
    const uint32_t block_bytes = segment->info.block_bytes;
    const weir_lsn lsn = segment->position.lsn;
    const uint8_t *data;
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    struct weir__batch batch;

    if (segment->info.end_lsn - lsn < block_bytes) {
        return 0;
    }
    int code = window_get(segment, lsn, sizeof header, &data);
    if (code != 0) {
        return code == -ENODATA ? 0 : code;
    }
    memcpy(header, data, sizeof header);
    if (!segment_judge(segment, header, &batch)) {
        return 0;
    }
    if (weir__batch_end(&batch, block_bytes) <= segment->start) {
        segment_step(segment, &batch);
        return 1;
    }
    /* Of a gap its one block: what it covers is not to be read. */
    const size_t bytes =
        (size_t)weir__align_up(WEIR__BATCH_HEADER_BYTES + (uint64_t)batch.bytes, block_bytes);
    code = window_get(segment, lsn, bytes, &data);
    if (code != 0) {
        return code == -ENODATA ? WEIR_ECORRUPT : code;
    }
    /* It may have been read once more, and somebody may be writing. */
    if (memcmp(header, data, sizeof header) != 0 ||
        segment_verify(segment, &batch, data, bytes) != 0) {
        return WEIR_ECORRUPT;
    }
    segment->batch = batch;
    segment->in_hand = true;
    segment->frames = data + WEIR__BATCH_HEADER_BYTES;
    segment->frames_done = 0;
    segment->salt = weir__frame_salt(batch.log_id, batch.nonce, batch.epoch);
    return 1;
}

/* As segment_attempt, but by bytes of this call where an earlier one's will not do. */
static int segment_fetch(struct weir_segment *segment)
{
    const bool kept = segment->window_bytes > 0;
    int result = segment_attempt(segment);
    if (kept && (result == 0 || result == WEIR_ECORRUPT)) {
        segment->window_bytes = 0;
        result = segment_attempt(segment);
    }
    return result;
}

/* ---- records --------------------------------------------------------------------------------- */

/* The next record of the batch in hand. 1 shown, 0 there is none left, WEIR_ECORRUPT: the bytes
 * changed after they had verified. */
static int segment_show(struct weir_segment *segment, struct weir_entry *entry_out)
{
    const struct weir__batch *const batch = &segment->batch;

    while (segment->frames_done < batch->bytes) {
        const weir_lsn lsn = batch->lsn + WEIR__BATCH_HEADER_BYTES + segment->frames_done;
        const uint8_t *const at = segment->frames + segment->frames_done;
        struct weir__frame frame;
        if (weir__frame_decode(at,
                               batch->bytes - segment->frames_done,
                               segment->salt,
                               lsn,
                               &frame,
                               NULL) != 0) {
            return WEIR_ECORRUPT;
        }
        segment->frames_done += (uint32_t)weir__frame_span(frame.bytes);
        if (frame.type != WEIR__FRAME_RECORD || lsn < segment->start) {
            continue;
        }
        *entry_out = (struct weir_entry){
            .lsn = lsn,
            .epoch = batch->epoch,
            .tag = frame.tag,
            .data = at + WEIR__FRAME_HEADER_BYTES,
            .bytes = frame.bytes,
            .more = (frame.flags & WEIR__FRAME_MORE) != 0,
        };
        return 1;
    }
    return 0;
}

int weir_segment_next(struct weir_segment *segment, struct weir_entry *entry_out)
{
    *entry_out = (struct weir_entry){0};
    if (!segment->info.is_segment) {
        return WEIR_EFORMAT;
    }
    /* Each turn shows a record, steps behind a batch, takes one in hand, or ends. */
    for (;;) {
        int result;
        if (segment->in_hand) {
            result = segment_show(segment, entry_out);
            if (result > 0) {
                return 0;
            }
            if (result == 0) {
                segment_step(segment, &segment->batch);
                continue;
            }
            /* Read anew by the next call. */
            segment->in_hand = false;
            segment->window_bytes = 0;
        } else {
            result = segment_fetch(segment);
            if (result > 0) {
                continue;
            }
        }
        if (result == WEIR_ECORRUPT) {
            entry_out->lsn = segment->position.lsn;
        }
        return result == 0 ? WEIR_EEND : result;
    }
}

int weir_segment_seek(struct weir_segment *segment, weir_lsn lsn)
{
    const struct weir_segment_info *const info = &segment->info;

    if (!info->is_segment) {
        return WEIR_EFORMAT;
    }
    if (lsn != WEIR_LSN_OLDEST && (lsn < info->base_lsn || lsn > info->end_lsn)) {
        return -EINVAL;
    }
    segment->position = (struct weir__position){.lsn = info->base_lsn + info->block_bytes};
    segment->anchored = false;
    segment->in_hand = false;
    segment->start = lsn;
    return 0;
}
