/* SPDX-License-Identifier: Apache-2.0
 * Reading a damaged log, and learning what it is.
 *
 * The happy path: the control file gives log id, block and promises, else what most headers say;
 * segments that cannot be of this log are dropped; a walk over all the others follows the chain and
 * collects the epochs it leads through, and settles which of them may stand where. Payload can
 * imitate a batch down to its checksums, but not the chain's value.
 *
 * A block that cannot be read reads as zeros and is remembered as bad. What can fail: memory, an
 * unknown format version, a directory in which nothing is recognised. One thread. */
#include "recover/salvage_state.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/num.h"
#include "io/transfer.h"

#include <errno.h>
#include <string.h>

#define SALVAGE_PROGRESS_BYTES ((uint64_t)4 << 20)
/* How far into a segment the first batch is looked for when nothing tells the block. */
#define SALVAGE_GUESS_BYTES 131072u
#define SALVAGE_BLOCK_MIN 512u
#define SALVAGE_BLOCK_MAX 65536u
#define SALVAGE_ROOM_MIN 16u

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

int weir__salvage_no_memory(struct weir__salvage_state *salvage)
{
    return weir__fault_set(salvage->fault,
                           -ENOMEM,
                           "",
                           UINT64_MAX,
                           UINT64_MAX,
                           "no memory to salvage the log");
}

/* ---- reading ---- */

void weir__salvage_reader_close(struct weir__salvage_state *salvage)
{
    struct weir__salvage_reader *const reader = &salvage->reader;
    if (reader->file >= 0) {
        (void)salvage->dir->io->ops->close(salvage->dir->io, reader->file);
        reader->file = -1;
    }
    reader->have = 0;
}

/* 0, or why there is nothing to read; the segment then reads as zeros. */
int weir__salvage_reader_turn(struct weir__salvage_state *salvage,
                              const struct weir__salvage_segment *segment)
{
    const struct weir__range range = segment->range;
    struct weir__salvage_reader *const reader = &salvage->reader;
    struct weir__io *const io = salvage->dir->io;
    weir__salvage_reader_close(salvage);
    reader->range = range;
    reader->bytes = 0;
    reader->bad_code = 0;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(segment->named.base, segment->named.end, name);
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
        weir__salvage_reader_close(salvage);
        reader->bad_code = code;
        return code;
    }
    reader->bytes = weir__min_u64(info.bytes, range.end - range.base);
    return 0;
}

weir_lsn weir__salvage_reader_end(const struct weir__salvage_state *salvage)
{
    const struct weir__salvage_reader *const reader = &salvage->reader;
    const weir_lsn end = weir__align_up(reader->range.base + reader->bytes, salvage->block_bytes);
    return weir__min_u64(end, reader->range.end);
}

void weir__salvage_reader_skip(struct weir__salvage_state *salvage)
{
    const struct weir__salvage_reader *const reader = &salvage->reader;
    const uint64_t length = reader->range.end - reader->range.base;
    const uint64_t seen = reader->from + reader->have;
    if (reader->bytes < length && seen < length) {
        weir__salvage_progress(salvage, length - seen);
    }
}

static void reader_give_up(struct weir__salvage_reader *reader, size_t from, size_t to, int code)
{
    for (size_t page = from / WEIR__SALVAGE_PAGE_BYTES;
         page < (to + WEIR__SALVAGE_PAGE_BYTES - 1) / WEIR__SALVAGE_PAGE_BYTES;
         page++) {
        reader->bad[page] = 1;
    }
    reader->bad_code = code;
}

void weir__salvage_progress(struct weir__salvage_state *salvage, uint64_t bytes)
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
static void reader_fetch(struct weir__salvage_state *salvage, uint64_t offset)
{
    struct weir__salvage_reader *const reader = &salvage->reader;
    struct weir__io *const io = salvage->dir->io;
    const uint64_t length = reader->range.end - reader->range.base;
    reader->from = weir__align_down(offset, WEIR__SALVAGE_PAGE_BYTES);
    reader->have = (size_t)weir__min_u64(WEIR__SALVAGE_CHUNK_BYTES, length - reader->from);
    memset(reader->chunk, 0, reader->have);
    memset(reader->bad, 0, sizeof reader->bad);
    weir__salvage_progress(salvage, reader->have);
    if (reader->file < 0) {
        memset(reader->bad, 1, sizeof reader->bad);
        return;
    }
    size_t done = 0;
    while (done < reader->have) {
        size_t got = 0;
        const int code = weir__io_read_upto(io,
                                            reader->file,
                                            reader->chunk + done,
                                            reader->have - done,
                                            reader->from + done,
                                            1,
                                            &got);
        done += got;
        if (code == 0) {
            if (done < reader->have) {
                reader_give_up(reader, done, reader->have, WEIR_EUNREADABLE);
            }
            return;
        }
        /* A long read fails for one bad sector: go on page by page. */
        size_t next = (done / WEIR__SALVAGE_PAGE_BYTES + 1) * WEIR__SALVAGE_PAGE_BYTES;
        next = next < reader->have ? next : reader->have;
        (void)weir__io_read_upto(io,
                                 reader->file,
                                 reader->chunk + done,
                                 next - done,
                                 reader->from + done,
                                 1,
                                 &got);
        done += got;
        if (got > 0) {
            continue;
        }
        memset(reader->chunk + done, 0, next - done);
        reader_give_up(reader, done, next, code);
        done = next;
    }
}

/* Bytes at lsn, as many as the chunk in hand has. */
const uint8_t *
weir__salvage_reader_peek(struct weir__salvage_state *salvage, weir_lsn lsn, size_t *bytes_out)
{
    struct weir__salvage_reader *const reader = &salvage->reader;
    const uint64_t offset = lsn - reader->range.base;
    weir__check(lsn >= reader->range.base && lsn < reader->range.end);
    if (reader->have == 0 || offset < reader->from || offset - reader->from >= reader->have) {
        reader_fetch(salvage, offset);
    }
    *bytes_out = (size_t)(reader->from + reader->have - offset);
    return reader->chunk + (offset - reader->from);
}

void weir__salvage_reader_copy(struct weir__salvage_state *salvage,
                               weir_lsn lsn,
                               void *to,
                               uint64_t bytes)
{
    uint8_t *out = to;
    while (bytes > 0) {
        size_t have = 0;
        const uint8_t *const data = weir__salvage_reader_peek(salvage, lsn, &have);
        const size_t take = (size_t)weir__min_u64(have, bytes);
        memcpy(out, data, take);
        out += take;
        lsn += take;
        bytes -= take;
    }
}

/* Could the byte at lsn not be read? It was looked at last. */
bool weir__salvage_reader_bad(const struct weir__salvage_state *salvage, weir_lsn lsn)
{
    const struct weir__salvage_reader *const reader = &salvage->reader;
    const uint64_t offset = lsn - reader->range.base;
    return offset >= reader->from && offset - reader->from < reader->have &&
           reader->bad[(offset - reader->from) / WEIR__SALVAGE_PAGE_BYTES] != 0;
}

/* ---- the facts ---- */

static int segments_list(struct weir__salvage_state *salvage, struct weir__catalog *catalog)
{
    struct weir__range *ranges;
    size_t count;
    int code = weir__catalog_copy(catalog, salvage->mem, &ranges, &count);
    for (size_t i = 0; i < count && code == 0; i++) {
        code = array_grow(salvage->mem,
                          (void **)&salvage->segments,
                          salvage->segment_count,
                          &salvage->segment_room,
                          sizeof *salvage->segments);
        if (code == 0) {
            salvage->segments[salvage->segment_count++] =
                (struct weir__salvage_segment){.range = ranges[i], .named = ranges[i]};
        }
    }
    weir__mem_free(salvage->mem, ranges, count * sizeof *ranges);
    return code;
}

static int segment_header_look(struct weir__salvage_state *salvage,
                               struct weir__salvage_segment *segment,
                               struct weir__segment_header *header_out)
{
    segment->open_code = weir__salvage_reader_turn(salvage, segment);
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    weir__salvage_reader_copy(salvage, segment->range.base, bytes, sizeof bytes);
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
static int facts_from_segments(struct weir__salvage_state *salvage)
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

/* Without any sound segment header: where first batches stand tells the block, and they carry the
 * log id. */
static void facts_from_batches(struct weir__salvage_state *salvage)
{
    uint64_t votes = 0;
    for (size_t i = 0; i < salvage->segment_count; i++) {
        const struct weir__range range = salvage->segments[i].range;
        const uint64_t stop = weir__min_u64(range.end - range.base, SALVAGE_GUESS_BYTES);
        (void)weir__salvage_reader_turn(salvage, &salvage->segments[i]);
        for (uint64_t offset = SALVAGE_BLOCK_MIN; offset < stop; offset += SALVAGE_BLOCK_MIN) {
            uint8_t header[WEIR__BATCH_HEADER_BYTES];
            struct weir__batch batch;
            weir__salvage_reader_copy(salvage, range.base + offset, header, sizeof header);
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

/* A name that promises more than there is, which the header does not bear out, is taken for what the
 * file holds: the new log's segments are made as long as the ranges say. The reader stands at it. */
static void segment_cut(struct weir__salvage_state *salvage, struct weir__salvage_segment *segment)
{
    const uint64_t block = salvage->block_bytes;
    struct weir__range *const range = &segment->range;
    const weir_lsn end = weir__max_u64(weir__salvage_reader_end(salvage), range->base + 2 * block);
    /* A hole of one block would be none that a segment can have stood in. */
    if (segment->open_code == 0 && !segment->agrees && range->end - range->base > 2 * block &&
        range->end > end && range->end - end >= 2 * block) {
        range->end = end;
    }
}

/* Drops what is not of this log, what lies below its oldest LSN, and of two over the same LSNs the
 * worse. */
static int segments_choose(struct weir__salvage_state *salvage)
{
    size_t kept = 0;
    const uint64_t block = salvage->block_bytes;
    for (size_t i = 0; i < salvage->segment_count; i++) {
        struct weir__salvage_segment segment = salvage->segments[i];
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
        segment_cut(salvage, &segment);
        if (kept > 0) {
            struct weir__salvage_segment *const last = &salvage->segments[kept - 1];
            if (range.base < last->range.end) {
                /* A leftover of another size may begin where a segment does. Without a header that
                 * speaks for either, the longer one can hold more. */
                const bool longer = segment.agrees == last->agrees &&
                                    range.base == last->range.base &&
                                    segment.range.end > last->range.end;
                if ((segment.agrees && !last->agrees) || longer) {
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
int weir__salvage_facts(struct weir__salvage_state *salvage, struct weir__catalog *catalog)
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
        return weir__salvage_no_memory(salvage);
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

static int epoch_note(struct weir__salvage_state *salvage, const struct weir__salvage_epoch *seen)
{
    for (size_t i = 0; i < salvage->epoch_count; i++) {
        struct weir__salvage_epoch *const epoch = &salvage->epochs[i];
        if (epoch->epoch == seen->epoch && epoch->nonce == seen->nonce && epoch->lsn == seen->lsn) {
            epoch->verified += seen->verified;
            epoch->sound += seen->sound;
            epoch->promise = weir__max_u64(epoch->promise, seen->promise);
            epoch->last = weir__max_u64(epoch->last, seen->last);
            epoch->control = epoch->control || seen->control;
            epoch->sure = epoch->sure || seen->sure;
            epoch->run = weir__max_u64(epoch->run, seen->run);
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

static bool epoch_better(const struct weir__salvage_epoch *a, const struct weir__salvage_epoch *b)
{
    if (a->control != b->control) {
        return a->control;
    }
    if (a->sure != b->sure) {
        return a->sure;
    }
    return a->verified != b->verified ? a->verified > b->verified : a->sound > b->sound;
}

/* Could this one, that is not sure, be added to those that count without any batch of theirs being
 * given up for it? */
static bool epoch_harmless(const struct weir__salvage_state *salvage,
                           size_t count,
                           const struct weir__salvage_epoch *unsure)
{
    for (size_t i = 0; i < count; i++) {
        const struct weir__salvage_epoch *const other = &salvage->epochs[i];
        const bool apart = other->epoch < unsure->epoch
                               ? other->lsn < unsure->lsn && other->last < unsure->lsn
                               : other->epoch > unsure->epoch && other->lsn > unsure->last;
        if (!apart) {
            return false;
        }
    }
    return true;
}

/* Of two histories of one number the better founded stays; of two epochs the later hides the
 * earlier from its start on. One that nothing led to may be payload that imitates a batch: it
 * counts only where it costs nothing. */
static void epochs_settle(struct weir__salvage_state *salvage)
{
    struct weir__salvage_epoch *const epochs = salvage->epochs;
    uint64_t highest = 0; /* the largest that is sure and that more than a header speaks for */
    for (size_t i = 0; i < salvage->epoch_count; i++) {
        if (epochs[i].control || (epochs[i].sure && epochs[i].verified > 0)) {
            highest = weir__max_u64(highest, epochs[i].epoch);
        }
    }
    /* The sure ones first, from the newest down; the others, and those of one number, the better
     * founded first. There are few. */
    for (size_t i = 1; i < salvage->epoch_count; i++) {
        const struct weir__salvage_epoch moved = epochs[i];
        size_t to = i;
        while (to > 0) {
            const struct weir__salvage_epoch *const before = &epochs[to - 1];
            const bool newer = moved.sure && before->sure && moved.epoch != before->epoch;
            if (newer                        ? moved.epoch < before->epoch
                : moved.sure == before->sure ? !epoch_better(&moved, before)
                                             : !moved.sure) {
                break;
            }
            epochs[to] = epochs[to - 1];
            to--;
        }
        epochs[to] = moved;
    }
    size_t kept = 0;
    weir_lsn bound = UINT64_MAX; /* where the next later one began */
    uint64_t last = 0;
    for (size_t i = 0; i < salvage->epoch_count; i++) {
        const struct weir__salvage_epoch epoch = epochs[i];
        if (epoch.sure) {
            if ((highest != 0 && epoch.epoch > highest) || epoch.epoch == last ||
                epoch.lsn >= bound) {
                continue;
            }
            salvage->promise =
                weir__max_u64(salvage->promise,
                              weir__max_u64(weir__min_u64(epoch.promise, bound), epoch.lsn));
            bound = epoch.lsn;
            last = epoch.epoch;
        } else if (!epoch_harmless(salvage, kept, &epoch)) {
            continue;
        }
        epochs[kept] = epoch;
        epochs[kept].salt = weir__frame_salt(salvage->log_id, epoch.nonce, epoch.epoch);
        kept++;
    }
    salvage->epoch_count = kept;
    for (size_t i = 1; i < kept; i++) {
        const struct weir__salvage_epoch moved = epochs[i];
        size_t to = i;
        while (to > 0 && epochs[to - 1].lsn > moved.lsn) {
            epochs[to] = epochs[to - 1];
            to--;
        }
        epochs[to] = moved;
    }
}

/* The epoch that may stand at lsn; NULL: none is known. */
const struct weir__salvage_epoch *weir__salvage_epoch_due(const struct weir__salvage_state *salvage,
                                                          weir_lsn lsn)
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
bool weir__salvage_batch_sound(struct weir__salvage_state *salvage,
                               weir_lsn lsn,
                               struct weir__batch *batch_out)
{
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    weir__salvage_reader_copy(salvage, lsn, header, sizeof header);
    if (!weir__batch_decode(header, batch_out) || batch_out->log_id != salvage->log_id ||
        batch_out->lsn != lsn) {
        return false;
    }
    const weir_lsn end = weir__batch_end(batch_out, salvage->block_bytes);
    return end <= salvage->reader.range.end && end % salvage->block_bytes == 0;
}

bool weir__salvage_batch_due(const struct weir__salvage_state *salvage,
                             const struct weir__batch *batch)
{
    const struct weir__salvage_epoch *const due = weir__salvage_epoch_due(salvage, batch->lsn);
    return due != NULL && due->epoch == batch->epoch && due->nonce == batch->nonce &&
           due->lsn == batch->epoch_lsn && (due->sure || (batch->flags & WEIR__BATCH_GAP) == 0);
}

/* Reads the batch into the body. 1: it verifies; 0: it does not, *why_out says why; negative: no
 * memory. */
int weir__salvage_batch_read(struct weir__salvage_state *salvage,
                             const struct weir__batch *batch,
                             const char **why_out)
{
    const uint64_t bytes =
        weir__align_up(WEIR__BATCH_HEADER_BYTES + (uint64_t)batch->bytes, salvage->block_bytes);
    if (bytes > weir__salvage_reader_end(salvage) - batch->lsn) {
        *why_out = "the file ends early";
        return 0; /* no memory for what is not there */
    }
    if (weir__image_reserve(&salvage->body, bytes) != 0) {
        return weir__salvage_no_memory(salvage);
    }
    weir__salvage_reader_copy(salvage, batch->lsn, salvage->body.bytes, bytes);
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

/* ---- the first walk ---- */

/* Rule 4 of a batch: the control file knows the newest epoch and where it began. */
static bool batch_allowed(const struct weir__salvage_state *salvage,
                          const struct weir__batch *batch)
{
    if (!salvage->control_known) {
        return true;
    }
    const struct weir__epoch *const newest = &salvage->control.epoch;
    if (batch->lsn >= newest->lsn) {
        return batch->epoch == newest->epoch && batch->nonce == newest->nonce &&
               batch->epoch_lsn == newest->lsn;
    }
    return batch->epoch < newest->epoch;
}

static bool batch_epoch_sure(const struct weir__salvage_state *salvage,
                             const struct weir__batch *batch)
{
    for (size_t i = 0; i < salvage->epoch_count; i++) {
        const struct weir__salvage_epoch *const epoch = &salvage->epochs[i];
        if (epoch->sure && epoch->epoch == batch->epoch && epoch->nonce == batch->nonce &&
            epoch->lsn == batch->epoch_lsn) {
            return true;
        }
    }
    return false;
}

/* Does the chain lead from there to it: at once, or over one batch in between whose header is lost?
 * Whoever wrote payload cannot know the chain's value, which the nonce is part of. */
static bool batch_follows(const struct weir__position *at, const struct weir__batch *batch)
{
    if (batch->prev_end < at->lsn) {
        return false;
    }
    const bool same =
        batch->epoch == at->epoch && batch->nonce == at->nonce && batch->epoch_lsn == at->epoch_lsn;
    const bool founds = batch->epoch > at->epoch && batch->epoch_lsn == batch->prev_end;
    const uint32_t chain =
        batch->prev_end == at->lsn
            ? at->chain
            : weir__chain_next(at->chain, at->lsn, batch->prev_end, at->epoch, at->nonce);
    return (same || founds) && batch->chain == chain;
}

/* A batch that is sure, and not cut. If a loose run leads to it, that one was part of the log: none
 * but its writer knew the chain's value there. */
static void learn_chain(struct weir__salvage_state *salvage, const struct weir__batch *batch)
{
    if (salvage->loose_known && batch_follows(&salvage->loose, batch)) {
        for (size_t i = 0; i < salvage->epoch_count; i++) {
            struct weir__salvage_epoch *const epoch = &salvage->epochs[i];
            epoch->sure = epoch->sure || epoch->run == salvage->loose_run;
        }
    }
    salvage->loose_known = false;
    salvage->chain = weir__position_after(batch, salvage->block_bytes);
    salvage->chain_known = true;
}

/* One that verifies and that nothing leads to. */
static void learn_loose(struct weir__salvage_state *salvage, const struct weir__batch *batch)
{
    if (!salvage->loose_known || !batch_follows(&salvage->loose, batch)) {
        salvage->loose_run++;
    }
    salvage->loose = weir__position_after(batch, salvage->block_bytes);
    salvage->loose_known = true;
}

/* Takes note of a sound header. *step_out: how far to move on. Over all of a batch that can be
 * believed, and of one that cannot no further than what was verified, since it may be payload of
 * another. 0, or negative: no memory. */
static int learn_batch(struct weir__salvage_state *salvage,
                       const struct weir__batch *batch,
                       uint64_t *step_out)
{
    const uint32_t block = salvage->block_bytes;
    *step_out = block;
    if (!batch_allowed(salvage, batch)) {
        return 0;
    }
    const char *why = NULL;
    const int verifies = weir__salvage_batch_read(salvage, batch, &why);
    if (verifies < 0) {
        return verifies;
    }
    /* Batches do not cross segments, so nothing but a batch ever stood in a segment's first place.
     */
    const bool sure = batch->lsn == salvage->reader.range.base + block ||
                      batch_epoch_sure(salvage, batch) ||
                      (salvage->chain_known && batch_follows(&salvage->chain, batch));
    /* What a later epoch cut may still stand behind it. */
    const bool cut = salvage->chain_known && batch->epoch < salvage->chain.epoch;
    if (sure && !cut) {
        learn_chain(salvage, batch);
        *step_out = salvage->chain.lsn - batch->lsn;
    } else if (verifies > 0) {
        if (!sure) {
            learn_loose(salvage, batch);
        }
        *step_out = weir__align_up(WEIR__BATCH_HEADER_BYTES + (uint64_t)batch->bytes, block);
    }
    const struct weir__salvage_epoch seen = {
        .epoch = batch->epoch,
        .nonce = batch->nonce,
        .lsn = batch->epoch_lsn,
        .promise = batch->promise,
        .verified = verifies > 0 ? 1 : 0,
        .sound = 1,
        .last = verifies > 0 && !cut ? batch->lsn : 0,
        .run = verifies > 0 && !sure ? salvage->loose_run : 0,
        .sure = sure,
    };
    return epoch_note(salvage, &seen) == 0 ? 0 : weir__salvage_no_memory(salvage);
}

/* What the control file says of epochs. */
static int learn_control(struct weir__salvage_state *salvage)
{
    const struct weir__epoch *const newest = &salvage->control.epoch;
    const struct weir__position *const checkpoint = &salvage->control.checkpoint;
    const struct weir__salvage_epoch known[] = {
        {.epoch = newest->epoch,
         .nonce = newest->nonce,
         .lsn = newest->lsn,
         .control = true,
         .sure = true},
        {.epoch = checkpoint->epoch,
         .nonce = checkpoint->nonce,
         .lsn = checkpoint->epoch_lsn,
         .control = true,
         .sure = true},
    };
    for (size_t i = 0; i < WEIR__ARRAY_COUNT(known); i++) {
        if (known[i].epoch != 0 && epoch_note(salvage, &known[i]) != 0) {
            return weir__salvage_no_memory(salvage);
        }
    }
    return 0;
}

int weir__salvage_learn(struct weir__salvage_state *salvage)
{
    int code = salvage->control_known ? learn_control(salvage) : 0;
    for (size_t i = 0; i < salvage->segment_count && code == 0; i++) {
        const struct weir__range range = salvage->segments[i].range;
        if (weir__salvage_reader_turn(salvage, &salvage->segments[i]) != 0) {
            weir__salvage_progress(salvage, range.end - range.base);
            continue;
        }
        weir_lsn lsn = range.base + salvage->block_bytes;
        while (lsn < weir__salvage_reader_end(salvage) && code == 0) {
            struct weir__batch batch;
            uint64_t step = salvage->block_bytes;
            if (weir__salvage_batch_sound(salvage, lsn, &batch)) {
                code = learn_batch(salvage, &batch, &step);
            }
            lsn += step;
        }
        weir__salvage_reader_skip(salvage);
    }
    if (code == 0) {
        epochs_settle(salvage);
    }
    return code;
}
