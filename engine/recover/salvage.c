/* SPDX-License-Identifier: Apache-2.0
 * What can still be read of a damaged log goes into a new one; what cannot is named.
 *
 * The happy path:
 *   1. the facts: log id and block size from the control file, else from what most headers say; the usable segments;
 *   2. a first walk over all of them learns the epochs: their nonces, where each began, what each promised;
 *   3. a second walk takes batches that verify as they are. Of a batch whose frames are damaged it takes each frame that
 *      verifies by itself. Where no header leads on, frames are searched at every multiple of 8, with the salt of the one
 *      epoch that can stand there, and put into new batches at their LSNs;
 *   4. everything between is accounted for: `known` is the position up to which all is taken, is structure (headers,
 *      padding, unused room), or was told as a gap.
 *
 * A frame's checksum covers its LSN, log id, epoch and nonce, so a frame that verifies stands where it was written and is of
 * this log. Which epoch may stand at a position: the newest of those that had begun at or below it. An earlier one's bytes
 * there were cut, and do not come back.
 *
 * Blocks that cannot be read are read as zeros and go the way of all bytes that do not verify. What can fail: the target,
 * memory, an unknown format version. Memory is a chunk, one batch, and an entry per epoch and segment. One thread. */
#include "recover/salvage.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/num.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SALVAGE_CHUNK_BYTES ((size_t)1 << 20)
#define SALVAGE_PAGE_BYTES 4096u /* what is given up around a byte that cannot be read */
#define SALVAGE_PROGRESS_BYTES ((uint64_t)4 << 20)
#define SALVAGE_GUESS_BYTES                                                                        \
    131072u /* how far into a segment the first batch is looked for when nothing tells the block */
#define SALVAGE_BLOCK_MIN 512u
#define SALVAGE_BLOCK_MAX 65536u
#define SALVAGE_ROOM_MIN 16u

#define LLU(v) ((unsigned long long)(v))

struct salvage_segment {
    struct weir__range range;
    int open_code; /* why it cannot be opened; 0: it can */
    bool agrees;   /* its header holds and says what its name says */
};

/* What is known of an epoch. */
struct salvage_epoch {
    uint64_t epoch;
    uint64_t nonce;
    weir_lsn lsn; /* where it began */
    weir_lsn promise;
    uint64_t verified; /* batches that hold throughout */
    uint64_t sound;    /* headers that do */
    bool control;      /* the control file knows it */
    uint32_t salt;
};

/* A segment, read chunk by chunk. */
struct salvage_reader {
    struct weir__range range;
    int file;      /* -1: none; reads as zeros, all bad */
    uint64_t from; /* file offset of the chunk */
    size_t have;   /* bytes of it */
    uint8_t *chunk;
    uint8_t bad[SALVAGE_CHUNK_BYTES /
                SALVAGE_PAGE_BYTES]; /* pages of the chunk that could not be read */
    int bad_code;                    /* why; WEIR_EUNREADABLE: the file ends early */
};

/* Frames on their way to the new log. */
struct salvage_frames {
    bool open;
    weir_lsn lsn;      /* of the batch */
    weir_lsn end;      /* behind the last frame */
    weir_lsn last_lsn; /* the last frame */
    uint64_t wall_ns;
    struct weir__image image;
};

struct salvage {
    const struct weir__rewrite_config *config;
    struct weir__target *target;
    struct weir__salvage_result *result;
    struct weir__fault *fault;
    struct weir__dir *dir;
    struct weir__mem *mem;

    bool control_known;
    struct weir__control control;
    uint64_t log_id;
    uint32_t block_bytes;
    uint64_t segment_bytes;
    weir_lsn oldest;
    weir_lsn promise;

    struct salvage_segment *segments;
    size_t segment_count;
    size_t segment_room;
    struct salvage_epoch
        *epochs; /* after the first walk: rising, each beginning above the one before */
    size_t epoch_count;
    size_t epoch_room;

    struct salvage_reader reader;
    struct weir__image body; /* the batch in work, as the source has it */

    size_t at;        /* the segment in work */
    size_t target_at; /* the one that the target is in */
    weir_lsn known;
    weir_lsn lost_to; /* the end of the last gap */
    bool odd;         /* from odd_lsn on there are bytes above `known` that nothing explains */
    weir_lsn odd_lsn;
    char why[sizeof((struct weir_gap *)0)->why]; /* the first thing that was wrong above `known` */
    struct salvage_frames frames;

    uint64_t progress_done;
    uint64_t progress_said;
    uint64_t progress_total;
};

/* ---- arrays ---- */

/* Room for one more element. */
static int
array_grow(struct weir__mem *mem, void **array, size_t count, size_t *room, size_t element_bytes)
{
    if (count < *room) {
        return 0;
    }
    const size_t more = *room == 0 ? SALVAGE_ROOM_MIN : *room * 2;
    void *const grown = weir__mem_alloc(mem, more * element_bytes, 16);
    if (grown == NULL) {
        return -ENOMEM;
    }
    if (count > 0) {
        memcpy(grown, *array, count * element_bytes);
    }
    weir__mem_free(mem, *array, *room * element_bytes);
    *array = grown;
    *room = more;
    return 0;
}

static int salvage_no_memory(struct salvage *salvage)
{
    return weir__fault_set(salvage->fault,
                           -ENOMEM,
                           "",
                           UINT64_MAX,
                           UINT64_MAX,
                           "no memory to salvage the log");
}

/* ---- reading ---- */

static void reader_close(struct salvage *salvage)
{
    struct salvage_reader *const reader = &salvage->reader;
    if (reader->file >= 0) {
        (void)salvage->dir->io->ops->close(salvage->dir->io, reader->file);
        reader->file = -1;
    }
    reader->have = 0;
}

/* 0, or why there is nothing to read; the segment then reads as zeros. */
static int reader_turn(struct salvage *salvage, struct weir__range range)
{
    struct salvage_reader *const reader = &salvage->reader;
    struct weir__io *const io = salvage->dir->io;
    reader_close(salvage);
    reader->range = range;
    reader->bad_code = 0;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    int code = io->ops->open(io, salvage->dir->file, name, WEIR__OPEN_READ, &reader->file);
    if (code != 0) {
        reader->file = -1;
        reader->bad_code = code;
        return code;
    }
    struct weir__file_info info;
    code = io->ops->info(io, reader->file, &info);
    if (code == 0 && !info.regular) {
        code = -EINVAL;
    }
    if (code != 0) {
        reader_close(salvage);
        reader->bad_code = code;
    }
    return code;
}

static void reader_give_up(struct salvage_reader *reader, size_t from, size_t to, int code)
{
    for (size_t page = from / SALVAGE_PAGE_BYTES;
         page < (to + SALVAGE_PAGE_BYTES - 1) / SALVAGE_PAGE_BYTES;
         page++) {
        reader->bad[page] = 1;
    }
    reader->bad_code = code;
}

static void salvage_progress(struct salvage *salvage, uint64_t bytes)
{
    salvage->progress_done += bytes;
    if (salvage->config->progress != NULL && salvage->progress_done < salvage->progress_total &&
        salvage->progress_done - salvage->progress_said >= SALVAGE_PROGRESS_BYTES) {
        salvage->progress_said = salvage->progress_done;
        salvage->config->progress(salvage->config->ctx,
                                  salvage->progress_done,
                                  salvage->progress_total);
    }
}

/* Fetches the chunk that holds a file offset. */
static void reader_fetch(struct salvage *salvage, uint64_t offset)
{
    struct salvage_reader *const reader = &salvage->reader;
    struct weir__io *const io = salvage->dir->io;
    const uint64_t length = reader->range.end - reader->range.base;
    reader->from = weir__align_down(offset, SALVAGE_PAGE_BYTES);
    reader->have = (size_t)weir__min_u64(SALVAGE_CHUNK_BYTES, length - reader->from);
    memset(reader->chunk, 0, reader->have);
    memset(reader->bad, 0, sizeof reader->bad);
    salvage_progress(salvage, reader->have);
    if (reader->file < 0) {
        memset(reader->bad, 1, sizeof reader->bad);
        return;
    }
    size_t done = 0;
    while (done < reader->have) {
        const ssize_t got = io->ops->read(io,
                                          reader->file,
                                          reader->chunk + done,
                                          reader->have - done,
                                          reader->from + done);
        if (got > 0) {
            done += (size_t)got;
            continue;
        }
        if (got == 0) {
            reader_give_up(reader, done, reader->have, WEIR_EUNREADABLE);
            return;
        }
        /* A long read fails for one bad sector: go on page by page. */
        size_t next = (done / SALVAGE_PAGE_BYTES + 1) * SALVAGE_PAGE_BYTES;
        next = next < reader->have ? next : reader->have;
        const ssize_t piece =
            io->ops->read(io, reader->file, reader->chunk + done, next - done, reader->from + done);
        if (piece > 0) {
            done += (size_t)piece;
            continue;
        }
        memset(reader->chunk + done, 0, next - done);
        reader_give_up(reader, done, next, (int)got);
        done = next;
    }
}

/* Bytes at lsn, as many as the chunk in hand has. */
static const uint8_t *reader_peek(struct salvage *salvage, weir_lsn lsn, size_t *bytes_out)
{
    struct salvage_reader *const reader = &salvage->reader;
    const uint64_t offset = lsn - reader->range.base;
    weir__check(lsn >= reader->range.base && lsn < reader->range.end);
    if (reader->have == 0 || offset < reader->from || offset - reader->from >= reader->have) {
        reader_fetch(salvage, offset);
    }
    *bytes_out = (size_t)(reader->from + reader->have - offset);
    return reader->chunk + (offset - reader->from);
}

static void reader_copy(struct salvage *salvage, weir_lsn lsn, void *to, uint64_t bytes)
{
    uint8_t *out = to;
    while (bytes > 0) {
        size_t have = 0;
        const uint8_t *const data = reader_peek(salvage, lsn, &have);
        const size_t take = (size_t)weir__min_u64(have, bytes);
        memcpy(out, data, take);
        out += take;
        lsn += take;
        bytes -= take;
    }
}

/* Could the byte at lsn not be read? It was looked at last. */
static bool reader_bad(const struct salvage *salvage, weir_lsn lsn)
{
    const struct salvage_reader *const reader = &salvage->reader;
    const uint64_t offset = lsn - reader->range.base;
    return offset >= reader->from && offset - reader->from < reader->have &&
           reader->bad[(offset - reader->from) / SALVAGE_PAGE_BYTES] != 0;
}

/* ---- the facts ---- */

static int segments_list(struct salvage *salvage, struct weir__catalog *catalog)
{
    struct weir__range range;
    weir_lsn from = 0;
    while (weir__catalog_next(catalog, from, &range)) {
        const int code = array_grow(salvage->mem,
                                    (void **)&salvage->segments,
                                    salvage->segment_count,
                                    &salvage->segment_room,
                                    sizeof *salvage->segments);
        if (code != 0) {
            return code;
        }
        salvage->segments[salvage->segment_count++] = (struct salvage_segment){.range = range};
        from = range.base + 1; /* of two that begin together only the first counts */
    }
    return 0;
}

static int segment_header_look(struct salvage *salvage,
                               struct salvage_segment *segment,
                               struct weir__segment_header *header_out)
{
    segment->open_code = reader_turn(salvage, segment->range);
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    reader_copy(salvage, segment->range.base, bytes, sizeof bytes);
    const char *why = NULL;
    const int code = weir__segment_header_decode(bytes, header_out, &why);
    if (code == WEIR_EFORMAT) {
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(segment->range.base, segment->range.end, name);
        return weir__fault_set(salvage->fault,
                               WEIR_EFORMAT,
                               name,
                               0,
                               segment->range.base,
                               "%s",
                               why);
    }
    return code == 0 ? 1 : 0;
}

/* Without a control file: what most segment headers say. */
static int facts_from_segments(struct salvage *salvage)
{
    uint64_t votes = 0;
    for (size_t i = 0; i < salvage->segment_count; i++) {
        struct weir__segment_header header;
        const int sound = segment_header_look(salvage, &salvage->segments[i], &header);
        if (sound < 0) {
            return sound;
        }
        if (sound == 0) {
            continue;
        }
        if (votes == 0) {
            salvage->log_id = header.log_id;
            salvage->block_bytes = header.block_bytes;
            salvage->segment_bytes = header.bytes;
            votes = 1;
        } else if (header.log_id == salvage->log_id) {
            votes++;
        } else {
            votes--;
        }
    }
    return 0;
}

/* Without any sound segment header: where first batches stand tells the block, and they carry the log id. */
static void facts_from_batches(struct salvage *salvage)
{
    uint64_t votes = 0;
    for (size_t i = 0; i < salvage->segment_count; i++) {
        const struct weir__range range = salvage->segments[i].range;
        const uint64_t stop = weir__min_u64(range.end - range.base, SALVAGE_GUESS_BYTES);
        (void)reader_turn(salvage, range);
        for (uint64_t offset = SALVAGE_BLOCK_MIN; offset < stop; offset += SALVAGE_BLOCK_MIN) {
            uint8_t header[WEIR__BATCH_HEADER_BYTES];
            struct weir__batch batch;
            reader_copy(salvage, range.base + offset, header, sizeof header);
            if (!weir__batch_decode(header, &batch) || batch.lsn != range.base + offset) {
                continue;
            }
            if (votes == 0) {
                salvage->log_id = batch.log_id;
                votes = 1;
            } else {
                votes = batch.log_id == salvage->log_id ? votes + 1 : votes - 1;
            }
            if (batch.log_id == salvage->log_id && weir__is_pow2(offset) &&
                offset <= SALVAGE_BLOCK_MAX &&
                (salvage->block_bytes == 0 || offset < salvage->block_bytes)) {
                salvage->block_bytes = (uint32_t)offset;
            }
            break;
        }
        salvage->segment_bytes = weir__max_u64(salvage->segment_bytes, range.end - range.base);
    }
}

/* Drops what is not of this log, what lies below its oldest LSN, and of two over the same LSNs the worse. */
static int segments_choose(struct salvage *salvage)
{
    size_t kept = 0;
    const uint64_t block = salvage->block_bytes;
    for (size_t i = 0; i < salvage->segment_count; i++) {
        struct salvage_segment segment = salvage->segments[i];
        struct weir__segment_header header;
        const int sound = segment_header_look(salvage, &segment, &header);
        if (sound < 0) {
            return sound;
        }
        const struct weir__range range = segment.range;
        if ((sound > 0 && header.log_id != salvage->log_id) || range.end <= salvage->oldest ||
            range.base % block != 0 || range.end % block != 0 ||
            range.end - range.base < 2 * block) {
            continue;
        }
        segment.agrees = sound > 0 && header.base == range.base &&
                         header.bytes == range.end - range.base && header.block_bytes == block;
        if (kept > 0) {
            struct salvage_segment *const last = &salvage->segments[kept - 1];
            if (range.base < last->range.end) {
                if (segment.agrees && !last->agrees) {
                    *last = segment;
                }
                continue;
            }
            if (range.base > last->range.end && range.base - last->range.end < 2 * block) {
                continue; /* no segment can have stood between */
            }
        }
        salvage->segments[kept++] = segment;
    }
    salvage->segment_count = kept;
    for (size_t i = 0; i < kept; i++) {
        const struct weir__range range = salvage->segments[i].range;
        salvage->progress_total += 2 * (range.end - range.base);
    }
    salvage->progress_done = 0;
    return 0;
}

/* Who is it, and what is there? */
static int salvage_facts(struct salvage *salvage, struct weir__catalog *catalog)
{
    struct weir__control_found found;
    struct weir__fault ignored = WEIR__FAULT_NONE;
    int code = weir__control_load(salvage->dir, &found, &ignored);
    if (code == WEIR_EFORMAT || code == -ENOMEM) {
        if (salvage->fault != NULL) {
            *salvage->fault = ignored;
        }
        return code;
    }
    /* Two copies of different logs, or none that can be read: the segments know better. */
    salvage->control_known = code == 0 && found.newest >= 0;
    code = 0;
    if (segments_list(salvage, catalog) != 0) {
        return salvage_no_memory(salvage);
    }
    if (salvage->control_known) {
        salvage->control = found.copy[found.newest];
        salvage->log_id = salvage->control.log_id;
        salvage->block_bytes = salvage->control.block_bytes;
        salvage->segment_bytes = salvage->control.segment_bytes;
        salvage->oldest = salvage->control.oldest_lsn;
        salvage->promise = weir__max_u64(salvage->control.promise, salvage->control.checkpoint.lsn);
        if (found.valid[found.newest ^ 1]) {
            const struct weir__control *const other = &found.copy[found.newest ^ 1];
            const bool same = other->epoch.epoch == salvage->control.epoch.epoch;
            salvage->promise = weir__max_u64(
                salvage->promise,
                same ? other->promise : weir__min_u64(other->promise, salvage->control.epoch.lsn));
        }
    } else {
        code = facts_from_segments(salvage);
        if (code == 0 && salvage->block_bytes == 0) {
            facts_from_batches(salvage);
        }
    }
    salvage->oldest = weir__max_u64(salvage->oldest, salvage->config->oldest);
    if (code < 0) {
        return code;
    }
    if (salvage->block_bytes == 0) {
        return weir__fault_set(salvage->fault,
                               WEIR_ENOLOG,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "nothing here can be recognised as part of a log");
    }
    return segments_choose(salvage);
}

/* ---- epochs ---- */

static int epoch_note(struct salvage *salvage, const struct salvage_epoch *seen)
{
    for (size_t i = 0; i < salvage->epoch_count; i++) {
        struct salvage_epoch *const epoch = &salvage->epochs[i];
        if (epoch->epoch == seen->epoch && epoch->nonce == seen->nonce && epoch->lsn == seen->lsn) {
            epoch->verified += seen->verified;
            epoch->sound += seen->sound;
            epoch->promise = weir__max_u64(epoch->promise, seen->promise);
            epoch->control = epoch->control || seen->control;
            return 0;
        }
    }
    const int code = array_grow(salvage->mem,
                                (void **)&salvage->epochs,
                                salvage->epoch_count,
                                &salvage->epoch_room,
                                sizeof *salvage->epochs);
    if (code == 0) {
        salvage->epochs[salvage->epoch_count++] = *seen;
    }
    return code;
}

static bool epoch_better(const struct salvage_epoch *a, const struct salvage_epoch *b)
{
    if (a->control != b->control) {
        return a->control;
    }
    return a->verified != b->verified ? a->verified > b->verified : a->sound > b->sound;
}

/* Of two histories of one number the better founded stays; of two epochs the later hides the earlier from its start on. */
static void epochs_settle(struct salvage *salvage)
{
    struct salvage_epoch *const epochs = salvage->epochs;
    uint64_t sure = 0; /* the largest that more than a header speaks for */
    for (size_t i = 0; i < salvage->epoch_count; i++) {
        if (epochs[i].control || epochs[i].verified > 0) {
            sure = weir__max_u64(sure, epochs[i].epoch);
        }
    }
    /* Sorted from the newest down, the better founded first; there are few. */
    for (size_t i = 1; i < salvage->epoch_count; i++) {
        const struct salvage_epoch moved = epochs[i];
        size_t to = i;
        while (to > 0 &&
               (epochs[to - 1].epoch < moved.epoch ||
                (epochs[to - 1].epoch == moved.epoch && epoch_better(&moved, &epochs[to - 1])))) {
            epochs[to] = epochs[to - 1];
            to--;
        }
        epochs[to] = moved;
    }
    size_t kept = 0;
    weir_lsn bound = UINT64_MAX; /* where the next later one began */
    uint64_t last = 0;
    for (size_t i = 0; i < salvage->epoch_count; i++) {
        const struct salvage_epoch epoch = epochs[i];
        if ((sure != 0 && epoch.epoch > sure) || epoch.epoch == last || epoch.lsn >= bound) {
            continue;
        }
        salvage->promise =
            weir__max_u64(salvage->promise,
                          weir__max_u64(weir__min_u64(epoch.promise, bound), epoch.lsn));
        bound = epoch.lsn;
        last = epoch.epoch;
        epochs[kept] = epoch;
        epochs[kept].salt = weir__frame_salt(salvage->log_id, epoch.nonce, epoch.epoch);
        kept++;
    }
    salvage->epoch_count = kept;
    for (size_t i = 0; i < kept / 2; i++) {
        const struct salvage_epoch swapped = epochs[i];
        epochs[i] = epochs[kept - 1 - i];
        epochs[kept - 1 - i] = swapped;
    }
}

/* The epoch that may stand at lsn; NULL: none is known. */
static const struct salvage_epoch *epoch_due(const struct salvage *salvage, weir_lsn lsn)
{
    size_t low = 0;
    size_t high = salvage->epoch_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (salvage->epochs[middle].lsn <= lsn) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? NULL : &salvage->epochs[low - 1];
}

/* A header at lsn that holds by itself and fits its place. */
static bool batch_sound(struct salvage *salvage, weir_lsn lsn, struct weir__batch *batch_out)
{
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    reader_copy(salvage, lsn, header, sizeof header);
    if (!weir__batch_decode(header, batch_out) || batch_out->log_id != salvage->log_id ||
        batch_out->lsn != lsn) {
        return false;
    }
    const weir_lsn end = weir__batch_end(batch_out, salvage->block_bytes);
    return end <= salvage->reader.range.end && end % salvage->block_bytes == 0;
}

static bool batch_due(const struct salvage *salvage, const struct weir__batch *batch)
{
    const struct salvage_epoch *const due = epoch_due(salvage, batch->lsn);
    return due != NULL && due->epoch == batch->epoch && due->nonce == batch->nonce &&
           due->lsn == batch->epoch_lsn;
}

/* Reads the batch into the body. 1: it verifies; 0: it does not, *why_out says why; negative: no memory. */
static int
batch_read(struct salvage *salvage, const struct weir__batch *batch, const char **why_out)
{
    const uint64_t bytes =
        weir__align_up(WEIR__BATCH_HEADER_BYTES + (uint64_t)batch->bytes, salvage->block_bytes);
    if (weir__image_reserve(&salvage->body, bytes) != 0) {
        return salvage_no_memory(salvage);
    }
    reader_copy(salvage, batch->lsn, salvage->body.bytes, bytes);
    struct weir__batch_check check;
    weir__batch_check_begin(&check, batch, salvage->block_bytes);
    int code = weir__batch_check_feed(&check,
                                      salvage->body.bytes + WEIR__BATCH_HEADER_BYTES,
                                      (size_t)(bytes - WEIR__BATCH_HEADER_BYTES));
    if (code == 0) {
        code = weir__batch_check_end(&check);
    }
    *why_out = check.why;
    return code == 0 ? 1 : 0;
}

/* The first walk. */
static int salvage_learn(struct salvage *salvage)
{
    if (salvage->control_known) {
        const struct weir__epoch *const newest = &salvage->control.epoch;
        const struct weir__position *const checkpoint = &salvage->control.checkpoint;
        const struct salvage_epoch known[] = {
            {.epoch = newest->epoch, .nonce = newest->nonce, .lsn = newest->lsn, .control = true},
            {.epoch = checkpoint->epoch,
             .nonce = checkpoint->nonce,
             .lsn = checkpoint->epoch_lsn,
             .control = true},
        };
        for (size_t i = 0; i < WEIR__ARRAY_COUNT(known); i++) {
            if (known[i].epoch != 0 && epoch_note(salvage, &known[i]) != 0) {
                return salvage_no_memory(salvage);
            }
        }
    }
    for (size_t i = 0; i < salvage->segment_count; i++) {
        const struct weir__range range = salvage->segments[i].range;
        if (reader_turn(salvage, range) != 0) {
            salvage_progress(salvage, range.end - range.base);
            continue;
        }
        weir_lsn lsn = range.base + salvage->block_bytes;
        while (lsn < range.end) {
            struct weir__batch batch;
            if (!batch_sound(salvage, lsn, &batch)) {
                lsn += salvage->block_bytes;
                continue;
            }
            const char *why = NULL;
            const int verifies = batch_read(salvage, &batch, &why);
            if (verifies < 0) {
                return verifies;
            }
            const struct salvage_epoch seen = {
                .epoch = batch.epoch,
                .nonce = batch.nonce,
                .lsn = batch.epoch_lsn,
                .promise = batch.promise,
                .verified = verifies > 0 ? 1 : 0,
                .sound = 1,
            };
            if (epoch_note(salvage, &seen) != 0) {
                return salvage_no_memory(salvage);
            }
            lsn = verifies > 0 ? weir__batch_end(&batch, salvage->block_bytes)
                               : lsn + salvage->block_bytes;
        }
    }
    epochs_settle(salvage);
    return 0;
}

/* ---- accounts ---- */

static weir_lsn block_up(const struct salvage *salvage, weir_lsn lsn)
{
    return weir__align_up(lsn, salvage->block_bytes);
}

/* Something is wrong above `known`: the first word counts. */
static void salvage_why(struct salvage *salvage, const char *format, ...) WEIR__PRINTF(2, 3);

static void salvage_why(struct salvage *salvage, const char *format, ...)
{
    if (salvage->why[0] != '\0') {
        return;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(salvage->why, sizeof salvage->why, format, args);
    va_end(args);
}

static void salvage_odd(struct salvage *salvage, weir_lsn lsn)
{
    if (!salvage->odd && lsn >= salvage->known) {
        salvage->odd = true;
        salvage->odd_lsn = lsn;
    }
}

static void known_raise(struct salvage *salvage, weir_lsn lsn)
{
    if (lsn > salvage->known) {
        salvage->known = lsn;
        salvage->odd = false;
        salvage->why[0] = '\0';
    }
}

/* Tells the gap from `known` to `to`. */
static void salvage_lose(struct salvage *salvage, weir_lsn to)
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
static void salvage_continue(struct salvage *salvage, const struct weir__batch *batch)
{
    const weir_lsn reached = block_up(salvage, salvage->known);
    const bool odd = salvage->odd && salvage->odd_lsn < batch->prev_end;
    if (batch->prev_end > reached || (batch->prev_end == reached && odd)) {
        salvage_lose(salvage, batch->prev_end);
    }
    known_raise(salvage, batch->lsn);
}

/* ---- into the new log ---- */

static int target_gap_whole(struct salvage *salvage, struct weir__range range)
{
    /* A file of the usual size may be recycled one day, so it has to have its blocks. */
    const bool hollow = range.end - range.base != salvage->segment_bytes;
    const int code = weir__target_enter(salvage->target, range, hollow);
    return code == 0 ? weir__target_gap(salvage->target, range.end) : code;
}

/* What was lost at the end of the target's segment is marked there. */
static int target_mark_lost(struct salvage *salvage)
{
    struct weir__target *const target = salvage->target;
    const weir_lsn to = weir__min_u64(block_up(salvage, salvage->lost_to), target->range.end);
    return to > weir__target_place(target) ? weir__target_gap(target, to) : 0;
}

/* Brings the target into the segment in work; what lies between becomes gaps. */
static int target_follow(struct salvage *salvage)
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
static void frames_end_group(struct salvage_frames *frames)
{
    uint8_t *const flags = frames->image.bytes + (frames->last_lsn - frames->lsn) + 18;
    weir__put_u16(flags, (uint16_t)(weir__get_u16(flags) & ~WEIR__FRAME_MORE));
}

static int frames_flush(struct salvage *salvage)
{
    struct salvage_frames *const frames = &salvage->frames;
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

/* Where a batch can begin that holds a frame at lsn: what lies between header and frame must be nothing or a frame to skip. */
static bool
frames_choose(const struct salvage *salvage, weir_lsn lsn, weir_lsn lowest, weir_lsn *begin_out)
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

static int
frames_append(struct salvage *salvage, const struct weir__frame *frame, const uint8_t *payload)
{
    struct salvage_frames *const frames = &salvage->frames;
    const uint64_t offset = frames->end - frames->lsn;
    const uint64_t span = weir__frame_span(frame->bytes);
    if (weir__image_reserve(&frames->image, offset + span) != 0) {
        return salvage_no_memory(salvage);
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

static int frames_skip(struct salvage *salvage, uint64_t bytes)
{
    weir__check(bytes >= WEIR__FRAME_HEADER_BYTES && bytes % WEIR__FRAME_ALIGN == 0);
    const struct weir__frame skip = {
        .bytes = (uint32_t)(bytes - WEIR__FRAME_HEADER_BYTES),
        .type = WEIR__FRAME_SKIP,
    };
    return frames_append(salvage, &skip, NULL);
}

/* Puts a frame into the batch in hand, or into a new one. 1: done; 0: there is no place for it; negative: failed. */
static int frames_put(struct salvage *salvage,
                      weir_lsn lsn,
                      const struct weir__frame *frame,
                      const uint8_t *payload)
{
    struct salvage_frames *const frames = &salvage->frames;
    int code = 0;
    weir_lsn begin = 0;
    if (frames->open && lsn != frames->end) {
        /* Where there is room for another header the batch ends here, as it did in the source, mostly. */
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
            return salvage_no_memory(salvage);
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
static int take_batch(struct salvage *salvage, const struct weir__batch *batch)
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
static void frame_continue(struct salvage *salvage, weir_lsn lsn)
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

/* What seems to be a frame's header at lsn, without its checksum: spares most places the computation. */
static bool frame_plausible(const uint8_t *header, uint64_t room)
{
    const uint16_t type = weir__get_u16(header + 16);
    return (type == WEIR__FRAME_RECORD || type == WEIR__FRAME_SKIP) &&
           weir__get_u16(header + 18) <= WEIR__FRAME_MORE &&
           weir__frame_span(weir__get_u32(header)) <= room;
}

/* Looks for a frame at lsn. 1: one was taken; 0: none that verifies; negative: failed. *span_out: how far to move on. */
static int take_frame(struct salvage *salvage,
                      weir_lsn lsn,
                      weir_lsn end,
                      const struct salvage_epoch *epoch,
                      uint64_t *span_out)
{
    *span_out = WEIR__FRAME_ALIGN;
    uint8_t header[WEIR__FRAME_HEADER_BYTES];
    reader_copy(salvage, lsn, header, sizeof header);
    struct weir__frame frame;
    if (!frame_plausible(header, end - lsn) ||
        weir__frame_decode(header, end - lsn, epoch->salt, lsn, &frame, NULL) != 0) {
        if (weir__get_u64(header) != 0 || reader_bad(salvage, lsn)) {
            salvage_odd(salvage, lsn);
        }
        return 0;
    }
    /* From here on the length is to be believed. */
    const uint64_t span = weir__frame_span(frame.bytes);
    *span_out = span;
    const uint8_t *payload = NULL;
    if (frame.type == WEIR__FRAME_RECORD) {
        if (weir__image_reserve(&salvage->body, (uint64_t)frame.bytes + 1) != 0) {
            return salvage_no_memory(salvage);
        }
        reader_copy(salvage, lsn + WEIR__FRAME_HEADER_BYTES, salvage->body.bytes, frame.bytes);
        payload = salvage->body.bytes;
        if (weir__crc32c(0, payload, frame.bytes) != frame.payload_crc) {
            salvage_odd(salvage, lsn);
            salvage_why(salvage,
                        reader_bad(salvage, lsn)
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
static int take_damaged(struct salvage *salvage, const struct weir__batch *batch, const char *why)
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
    const struct salvage_epoch *const epoch = epoch_due(salvage, batch->lsn);
    weir_lsn lsn = frames;
    while (code == 0 && lsn + WEIR__FRAME_HEADER_BYTES <= frames_end) {
        uint64_t step = 0;
        const int took = take_frame(salvage, lsn, frames_end, epoch, &step);
        if (took < 0) {
            return took;
        }
        if (took == 0) {
            salvage_why(salvage,
                        reader_bad(salvage, lsn) ? "at LSN %llu the device cannot be read (%s)"
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

static bool block_zero(struct salvage *salvage, weir_lsn lsn)
{
    const weir_lsn end = lsn + salvage->block_bytes;
    while (lsn < end) {
        size_t have = 0;
        const uint8_t *const data = reader_peek(salvage, lsn, &have);
        have = (size_t)weir__min_u64(have, end - lsn);
        if (!weir__all_zero(data, have)) {
            return false;
        }
        lsn += have;
    }
    return true;
}

/* From a place without a header that leads on: takes frames until there is one again. *lsn: in and out. */
static int take_stray(struct salvage *salvage, weir_lsn *lsn)
{
    const struct weir__range range = salvage->reader.range;
    const uint32_t block = salvage->block_bytes;
    salvage->frames.wall_ns = 0;
    while (*lsn + WEIR__FRAME_HEADER_BYTES <= range.end) {
        if (*lsn % block == 0) {
            struct weir__batch batch;
            const bool sound = batch_sound(salvage, *lsn, &batch);
            if (sound && batch_due(salvage, &batch)) {
                return 0;
            }
            if (sound) {
                /* Of an earlier epoch, and whole: it was cut, so nothing is missing where it stands. */
                const char *why = NULL;
                const int verifies = batch_read(salvage, &batch, &why);
                if (verifies < 0) {
                    return verifies;
                }
                *lsn +=
                    verifies > 0
                        ? weir__align_up(WEIR__BATCH_HEADER_BYTES + (uint64_t)batch.bytes, block)
                        : 0;
                if (verifies > 0) {
                    continue;
                }
            }
            if (block_zero(salvage, *lsn)) {
                if (reader_bad(salvage, *lsn)) {
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
        const struct salvage_epoch *const epoch = epoch_due(salvage, *lsn);
        if (epoch == NULL) {
            salvage_odd(salvage, *lsn);
            *lsn = weir__min_u64(block_up(salvage, *lsn + 1), range.end);
            continue;
        }
        uint64_t step = 0;
        const int took = take_frame(salvage, *lsn, range.end, epoch, &step);
        if (took < 0) {
            return took;
        }
        *lsn += step;
    }
    *lsn = range.end;
    return 0;
}

/* ---- the second walk ---- */

static int salvage_segment(struct salvage *salvage)
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
    const int open_code = reader_turn(salvage, range);
    if (open_code != 0) {
        salvage_why(salvage,
                    "the segment at LSN %llu cannot be opened: %s",
                    LLU(range.base),
                    weir__code_text(open_code));
        salvage_odd(salvage, weir__max_u64(range.base, salvage->known));
        salvage_progress(salvage, range.end - range.base);
        return 0;
    }
    weir_lsn lsn = range.base + salvage->block_bytes;
    while (lsn < range.end) {
        struct weir__batch batch;
        int code;
        if (!batch_sound(salvage, lsn, &batch) || !batch_due(salvage, &batch)) {
            code = take_stray(salvage, &lsn);
            /* Frames of a lost header may reach into the block of the next one's, never beyond its start. */
            if (code == 0 && lsn < range.end) {
                lsn = block_up(salvage, lsn);
            }
        } else {
            const char *why = NULL;
            code = batch_read(salvage, &batch, &why);
            if (code >= 0) {
                code = code > 0 ? take_batch(salvage, &batch) : take_damaged(salvage, &batch, why);
            }
            lsn = weir__batch_end(&batch, salvage->block_bytes);
        }
        if (code < 0) {
            return code;
        }
    }
    /* A batch does not reach over a segment's end. */
    return frames_flush(salvage);
}

/* Everything is taken: what was promised beyond? */
static int salvage_end(struct salvage *salvage)
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

static int salvage_run(struct salvage *salvage, struct weir__catalog *catalog)
{
    int code = salvage_facts(salvage, catalog);
    if (code == 0 && salvage->segment_count == 0) {
        code = weir__fault_set(salvage->fault,
                               WEIR_ENOLOG,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "there is no segment of this log");
    }
    if (code == 0) {
        code = salvage_learn(salvage);
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
            /* An empty log, or one of which nothing is left: the new one begins where the old one would have gone on. */
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
    struct salvage salvage = {
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
    salvage.reader.chunk = weir__mem_alloc_io(mem, SALVAGE_CHUNK_BYTES);
    const int code =
        salvage.reader.chunk == NULL ? salvage_no_memory(&salvage) : salvage_run(&salvage, catalog);
    result_out->oldest = salvage.oldest;
    reader_close(&salvage);
    weir__mem_free_io(mem, salvage.reader.chunk, SALVAGE_CHUNK_BYTES);
    weir__image_release(&salvage.body);
    weir__image_release(&salvage.frames.image);
    weir__mem_free(mem, salvage.segments, salvage.segment_room * sizeof *salvage.segments);
    weir__mem_free(mem, salvage.epochs, salvage.epoch_room * sizeof *salvage.epochs);
    return code;
}
