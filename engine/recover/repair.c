/* SPDX-License-Identifier: Apache-2.0
 * Writes again what the scan accepted above the last promise, and syncs what it relied on.
 *
 * The happy path, for each segment from the one where the scan began to the one that holds the end:
 *   1. walk its batches from header to header, passing over those that end at or below the promise;
 *   2. read each of the others past the page cache and write the same bytes to the same place;
 *   3. sync the file, also where nothing was written: bytes below a promise that a sync reported
 * may be trusted, names and lengths are synced with it. Then the directory is synced. Headers were
 * judged by the scan a moment ago: here they only have to be the same batches.
 *
 * Why write at all: after a failed sync the kernel holds pages for clean that never reached the
 * device, and a second sync says nothing about them. A write makes them dirty again.
 *
 * What can fail: reading, writing, syncing. The first failure ends it and is returned; nothing is
 * tried again. Memory is one window and one buffer. One thread. */
#include "recover/repair.h"

#include "base/check.h"
#include "base/compiler.h"
#include "base/num.h"
#include "base/plant.h"
#include "io/transfer.h"
#include "segment/segment.h"

#include <errno.h>
#include <string.h>

#define REPAIR_BUFFER_BYTES (((size_t)1 << 20) / WEIR__CHUNKS_SMALLER)

struct repair {
    struct weir__dir *dir;
    const struct weir__scan_result *scan;
    struct weir__fault *fault;
    struct weir__window *window;
    uint8_t *buffer;
    struct weir__position position; /* what the next batch continues, if it is known */
    bool position_known;
    struct weir__range range; /* the segment in work */
    int file;
    char name[WEIR__SEGMENT_NAME_BYTES];
};

/* Writes [from, end) again, as it stands. Both are multiples of the block. */
static int repair_rewrite(struct repair *repair, weir_lsn from, weir_lsn end)
{
    struct weir__io *const io = repair->dir->io;
    while (from < end) {
        const size_t bytes = (size_t)weir__min_u64(end - from, REPAIR_BUFFER_BYTES);
        int result = weir__window_copy(repair->window,
                                       from,
                                       UINT64_MAX,
                                       repair->buffer,
                                       bytes,
                                       repair->fault);
        if (result < 0) {
            return result;
        }
        const uint64_t offset = from - repair->range.base;
        result = weir__io_write_full(io, repair->file, repair->buffer, bytes, offset, false);
        if (result < 0) {
            return weir__fault_set(repair->fault,
                                   result,
                                   repair->name,
                                   offset,
                                   from,
                                   "cannot write a recovered batch again: %s",
                                   weir__code_text(result));
        }
        from += bytes;
    }
    return 0;
}

/* The batch that continues the walk at `at`; false: none does in this segment. */
static bool repair_next(const struct repair *repair,
                        const uint8_t header[WEIR__BATCH_HEADER_BYTES],
                        weir_lsn at,
                        struct weir__batch *batch_out)
{
    struct weir__position position = repair->position;
    if (!repair->position_known) {
        /* The scan came into this segment by this batch, so it is the one that was due. */
        if (!weir__batch_decode(header, batch_out)) {
            return false;
        }
        position = weir__position_before(batch_out);
    }
    return weir__batch_judge(header,
                             at,
                             repair->range.end,
                             repair->scan->block_bytes,
                             repair->scan->report.log_id,
                             &position,
                             &repair->scan->newest,
                             batch_out,
                             NULL) == WEIR__BATCH_OK;
}

/* Walks the batches of the segment from `at` on, to the log's end or to where this segment has no
 * further one. */
static int repair_batches(struct repair *repair, weir_lsn at)
{
    const uint32_t block_bytes = repair->scan->block_bytes;
    const weir_lsn stop = weir__min_u64(repair->scan->end.lsn, repair->range.end);
    while (at < stop) {
        uint8_t header[WEIR__BATCH_HEADER_BYTES];
        const int result =
            weir__window_copy(repair->window, at, UINT64_MAX, header, sizeof header, repair->fault);
        if (result < 0) {
            return result;
        }
        struct weir__batch batch;
        if (!repair_next(repair, header, at, &batch)) {
            break;
        }
        if (weir__batch_end(&batch, block_bytes) > repair->scan->report.promise_lsn &&
            !WEIR__PLANTED(kept_not_rewritten)) {
            /* Of a gap only its own block is ours to write. */
            const int rewritten = repair_rewrite(
                repair,
                at,
                weir__align_up(at + WEIR__BATCH_HEADER_BYTES + batch.bytes, block_bytes));
            if (rewritten < 0) {
                return rewritten;
            }
        }
        repair->position = weir__position_after(&batch, block_bytes);
        repair->position_known = true;
        weir__check(repair->position.lsn > at);
        at = repair->position.lsn;
    }
    return 0;
}

/* One segment, from `at` on. */
static int repair_segment(struct repair *repair, struct weir__range range, weir_lsn at)
{
    struct weir__dir *const dir = repair->dir;
    repair->range = range;
    weir__segment_name(range.base, range.end, repair->name);
    int result = weir__segment_open(dir,
                                    range,
                                    WEIR__OPEN_WRITE | WEIR__OPEN_DIRECT,
                                    &repair->file,
                                    repair->fault);
    if (result < 0) {
        return result;
    }
    /* Segments that end below the promise need the sync only. */
    if (range.end > repair->scan->report.promise_lsn) {
        result = weir__window_turn(repair->window, range, false, repair->fault);
        if (result == 0) {
            result = repair_batches(repair, at);
        }
        /* The walk must arrive where the scan did. Before that a segment may leave room at its end
         * unused: whether it did so rightly is seen by the next one's first batch. */
        if (result == 0 && repair->scan->end.lsn <= range.end &&
            (!repair->position_known || repair->position.lsn != repair->scan->end.lsn)) {
            result = weir__fault_set(repair->fault,
                                     WEIR_ECORRUPT,
                                     repair->name,
                                     UINT64_MAX,
                                     repair->position.lsn,
                                     "the batch behind LSN %llu is no longer what was scanned",
                                     (unsigned long long)repair->position.lsn);
        }
    } else {
        repair->position_known = false;
    }
    if (result == 0) {
        result = dir->io->ops->sync(dir->io, repair->file);
        if (result < 0) {
            (void)weir__fault_set(repair->fault,
                                  result,
                                  repair->name,
                                  UINT64_MAX,
                                  range.base,
                                  "cannot sync a recovered segment: %s",
                                  weir__code_text(result));
        }
    }
    (void)dir->io->ops->close(dir->io, repair->file);
    return result;
}

/* The segments from the one that the scan began in to the last one, which lie end to end. */
static int repair_segments(struct repair *repair, struct weir__catalog *catalog)
{
    const struct weir__range last = repair->scan->segment;
    const weir_lsn from = repair->scan->report.scan_from_lsn;
    /* A position belongs to the segment that holds the byte before it; where that one is gone, to
     * the next. */
    struct weir__range range;
    weir_lsn at = from;
    if (!weir__catalog_find(catalog, from == 0 ? 0 : from - 1, &range)) {
        if (!weir__catalog_next(catalog, from, &range)) {
            range = last;
        }
    }
    if (at <= range.base) {
        at = range.base + repair->scan->block_bytes;
    }
    for (;;) {
        if (range.base > last.base) {
            return 0;
        }
        /* Where names overlap the scan's word counts. */
        if (range.base == last.base) {
            range = last;
        }
        const int result = repair_segment(repair, range, at);
        if (result < 0 || range.base == last.base) {
            return result;
        }
        const weir_lsn end = range.end;
        if (!weir__catalog_next(catalog, end, &range) || range.base != end) {
            return weir__fault_set(repair->fault,
                                   WEIR_ECORRUPT,
                                   "",
                                   UINT64_MAX,
                                   end,
                                   "the segment that begins at LSN %llu went away",
                                   (unsigned long long)end);
        }
        at = range.base + repair->scan->block_bytes;
    }
}

int weir__repair(struct weir__dir *dir,
                 struct weir__catalog *catalog,
                 const struct weir__scan_result *scan,
                 struct weir__fault *fault)
{
    weir__check(scan->report.verdict == WEIR_VERDICT_CLEAN ||
                scan->report.verdict == WEIR_VERDICT_STALE ||
                scan->report.verdict == WEIR_VERDICT_TORN);
    struct repair repair = {
        .dir = dir,
        .scan = scan,
        .fault = fault,
        .position = scan->begin,
        .position_known = true,
        .file = -1,
    };
    int result = 0;
    if (WEIR__PLANTED(kept_not_durable)) {
        return 0;
    }
    if (scan->segment.base < scan->segment.end) {
        const struct weir__window_config config = {.dir = dir, .depth = 1};
        repair.buffer = weir__mem_alloc_io(dir->mem, REPAIR_BUFFER_BYTES);
        result = repair.buffer == NULL ? -ENOMEM : weir__window_open(&config, &repair.window);
        if (result < 0) {
            (void)weir__fault_set(fault,
                                  result,
                                  "",
                                  UINT64_MAX,
                                  UINT64_MAX,
                                  "no memory to repair the log");
        } else {
            weir__window_past_cache(repair.window, dir->facts.direct_align <= scan->block_bytes);
            result = repair_segments(&repair, catalog);
            weir__window_close(repair.window);
        }
        weir__mem_free_io(dir->mem, repair.buffer, REPAIR_BUFFER_BYTES);
    }
    if (result == 0) {
        result = dir->io->ops->sync_dir(dir->io, dir->file);
        if (result < 0) {
            (void)weir__fault_set(fault,
                                  result,
                                  ".",
                                  UINT64_MAX,
                                  UINT64_MAX,
                                  "cannot sync the log's directory: %s",
                                  weir__code_text(result));
        }
    }
    return result;
}
