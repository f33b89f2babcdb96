/* SPDX-License-Identifier: Apache-2.0
 * Following a log forward, batch by batch.
 *
 * State: a position P, which the next batch must continue, and at most one batch in hand, verified
 * as a whole, of which frames are shown one by one. The happy path of a fetch:
 *   1. P lies below the limit of the cursor's level, else there is nothing to look at yet;
 *   2. the batch that continues P is asked for in memory; else its header is read from the files:
 * at P, or, where the log left P's segment at P, in the first batch's place of the next segment;
 *   3. the header is judged against P, and a batch that ends above the limit is left alone: it is
 * not there yet;
 *   4. frames and padding are verified in one go, where they lie in the window if they lie there in
 * one piece, else in a buffer; a segment's own header was verified when the cursor turned to it;
 *   5. only then is the first record shown. P moves when the last one was.
 *
 * What can fail: the bytes. A failure is not believed at once. The oldest LSN is read again (the
 * file may have been recycled under us: "passed"), then the newest epoch ("cut"), then everything
 * is read again, past the page cache and with the list of segments renewed, since what was seen may
 * be the middle of another process's write. What fails three times is told with file, offset and
 * LSN, and leaves the cursor where it was. One thread at a time. */
#include "read/cursor.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/compiler.h"
#include "base/num.h"
#include "io/transfer.h"
#include "port/clock.h"
#include "segment/segment.h"

#include <errno.h>
#include <string.h>

/* Large enough for the window to get huge pages, without which direct reads measured 3 times
 * slower. */
#define CURSOR_CHUNK_BYTES ((size_t)1024 * 1024 / WEIR__CHUNKS_SMALLER)
#define CURSOR_DEPTH_AHEAD 4u
#define CURSOR_BUFFER_ALIGN 64u
#define CURSOR_TRIES 3u
/* Between two looks at a limit that lies inside a batch. */
#define CURSOR_POLL_NS UINT64_C(1000000)

/* A batch that was found to continue the position. */
struct cursor_found {
    struct weir__batch batch;
    weir_lsn end;
    struct weir__range range; /* its segment; base == end: not known, for a batch in memory */
    bool in_memory;           /* all of it stands in the buffer, zeros behind the frames included */
};

/* Where the next batch may stand in the files, and what was found there. */
struct cursor_place {
    bool possible; /* a whole block there lies below the limit */
    bool judged;   /* the header was read: */
    enum weir__batch_verdict verdict;
    struct weir__range range;
    weir_lsn lsn;
    struct weir__fault fault; /* why it is not the one */
};

/* What one attempt goes by: read once, at its start. */
struct cursor_view {
    struct weir__epoch newest;
    weir_lsn limit;       /* batches that end above it are not shown */
    weir_lsn files_limit; /* nothing in the files is looked at from here on */
    bool renewed;         /* the list of segments was loaded again */
};

struct weir__cursor {
    struct weir__cursor_config config;
    struct weir__window *window;

    bool turned;     /* the window has window_range */
    bool doubt;      /* a failure is looked at again: past the page cache */
    bool anchored;   /* position.chain is known; else the next batch is taken at its word */
    bool placed;     /* where the next batch stands is known: place_range and place_lsn */
    bool exit_known; /* exit_base and exit_lsn hold */
    bool in_hand;    /* there is a current batch */
    bool shown;      /* `last` holds the batch of the last record */
    struct weir__range window_range;
    /* Segments whose headers hold: the last two, since a log's end may lie between two. base ==
     * end: none. */
    struct weir__range headed[2];

    struct weir__position position;
    weir_lsn start; /* records below it are skipped */
    /* Segment of the batch that ends at the position; base == end: not known. */
    struct weir__range home;
    struct weir__range place_range;
    weir_lsn place_lsn;
    /* Where the log left the segment that ends at exit_base, as the first batch behind it tells. */
    weir_lsn exit_base;
    weir_lsn exit_lsn;

    struct cursor_found current;
    const uint8_t *frames; /* current.batch.bytes of them, verified */
    uint32_t frames_done;
    struct cursor_found last;

    uint8_t *buffer;
    size_t buffer_bytes;
    uint8_t *block; /* of the first batch behind a segment */
    weir_lsn moved; /* as last told */
    struct weir__fault fault;
    uint64_t records;
    uint64_t bytes;
    uint64_t memory_batches;
    uint64_t block_reads;
};

/* ---- opening and closing --------------------------------------------------------------------- */

static void cursor_window_config(const struct weir__cursor_config *config,
                                 struct weir__window_config *window_out)
{
    *window_out = (struct weir__window_config){
        .dir = config->dir,
        .chunk_bytes = CURSOR_CHUNK_BYTES,
        .depth = config->read_ahead ? CURSOR_DEPTH_AHEAD : 1,
        .block_bytes = config->block_bytes,
    };
}

size_t weir__cursor_memory(const struct weir__cursor_config *config)
{
    struct weir__window_config window;
    cursor_window_config(config, &window);
    return sizeof(struct weir__cursor) + config->batch_bytes +
           weir__mem_io_bytes(config->block_bytes) + weir__window_memory(&window);
}

void weir__cursor_close(struct weir__cursor *cursor)
{
    if (cursor == NULL) {
        return;
    }
    struct weir__mem *const mem = cursor->config.mem;
    weir__window_close(cursor->window);
    weir__mem_free(mem, cursor->buffer, cursor->buffer_bytes);
    weir__mem_free_io(mem, cursor->block, cursor->config.block_bytes);
    weir__mem_free(mem, cursor, sizeof *cursor);
}

/* The largest number of bytes that header, frames and padding of a batch can take. */
static uint64_t cursor_batch_bytes_max(const struct weir__cursor *cursor)
{
    return weir__align_up((uint64_t)cursor->config.batch_bytes_max + WEIR__BATCH_HEADER_BYTES,
                          cursor->config.block_bytes);
}

/* Makes the buffer hold `bytes`; the first `keep` bytes stay. */
static int cursor_room(struct weir__cursor *cursor, size_t bytes, size_t keep)
{
    if (bytes <= cursor->buffer_bytes) {
        return 0;
    }
    weir__debug(bytes <= cursor_batch_bytes_max(cursor));
    struct weir__mem *const mem = cursor->config.mem;
    uint8_t *const larger = weir__mem_alloc(mem, bytes, CURSOR_BUFFER_ALIGN);
    if (larger == NULL) {
        return -ENOMEM;
    }
    if (keep > 0) {
        memcpy(larger, cursor->buffer, keep);
    }
    weir__mem_free(mem, cursor->buffer, cursor->buffer_bytes);
    cursor->buffer = larger;
    cursor->buffer_bytes = bytes;
    return 0;
}

static void cursor_tell_moved(struct weir__cursor *cursor, weir_lsn lsn)
{
    if (cursor->config.moved != NULL && lsn != cursor->moved) {
        cursor->config.moved(cursor->config.ctx, lsn);
    }
    cursor->moved = lsn;
}

/* ---- failures -------------------------------------------------------------------------------- */

/* A fault about a position in a segment. */
static int cursor_fault(struct weir__fault *fault,
                        int code,
                        struct weir__range range,
                        weir_lsn lsn,
                        const char *why)
{
    if (range.base == range.end) {
        return weir__fault_set(fault, code, "", UINT64_MAX, lsn, "%s (in memory)", why);
    }
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    return weir__fault_set(fault, code, name, lsn - range.base, lsn, "%s", why);
}

static int cursor_passed(struct weir__fault *fault, weir_lsn wanted, weir_lsn oldest)
{
    return weir__fault_set(fault,
                           WEIR_EPASSED,
                           "",
                           UINT64_MAX,
                           oldest,
                           "position %llu was trimmed away, the oldest is %llu",
                           (unsigned long long)wanted,
                           (unsigned long long)oldest);
}

/* True when the log was cut below the position: what was shown last is no longer part of it. A cut
 * exactly at the position takes nothing away; the new epoch goes on from there. */
static bool cursor_cut(const struct weir__cursor *cursor, const struct weir__epoch *newest)
{
    return newest->epoch > cursor->position.epoch && newest->lsn < cursor->position.lsn;
}

static int cursor_cut_fault(const struct weir__cursor *cursor,
                            struct weir__fault *fault,
                            const struct weir__epoch *newest)
{
    return weir__fault_set(fault,
                           WEIR_EEPOCH,
                           "",
                           UINT64_MAX,
                           newest->lsn,
                           "epoch %llu began at %llu, below this position %llu of epoch %llu",
                           (unsigned long long)newest->epoch,
                           (unsigned long long)newest->lsn,
                           (unsigned long long)cursor->position.lsn,
                           (unsigned long long)cursor->position.epoch);
}

/* Where the cursor stands for its user. */
static weir_lsn cursor_wanted(const struct weir__cursor *cursor)
{
    return weir__max_u64(cursor->position.lsn, cursor->start);
}

/* Decides what a failed attempt means. 0: try again. */
static int cursor_reconsider(struct weir__cursor *cursor,
                             int result,
                             unsigned attempt,
                             struct weir__fault *fault)
{
    const struct weir__cursor_config *const config = &cursor->config;
    const weir_lsn oldest = config->oldest(config->ctx);
    if (cursor_wanted(cursor) < oldest) {
        *fault = WEIR__FAULT_NONE;
        return cursor_passed(fault, cursor_wanted(cursor), oldest);
    }
    const struct weir__epoch newest = config->newest(config->ctx);
    if (cursor_cut(cursor, &newest)) {
        *fault = WEIR__FAULT_NONE;
        return cursor_cut_fault(cursor, fault, &newest);
    }
    if ((result != WEIR_ECORRUPT && result != -ENOENT) || attempt + 1 >= CURSOR_TRIES) {
        if (result == -ENOENT) {
            /* A file of the log's middle is gone. */
            fault->code = WEIR_ECORRUPT;
            return WEIR_ECORRUPT;
        }
        return result;
    }
    /* The list of segments may be old, the page cache may be, and the file in hand may be another
     * one by now. */
    if (config->refresh != NULL) {
        (void)config->refresh(config->ctx);
    }
    weir__window_forget(cursor->window);
    cursor->turned = false;
    memset(cursor->headed, 0, sizeof cursor->headed);
    cursor->home = (struct weir__range){0};
    cursor->exit_known = false;
    cursor->doubt = true;
    return 0;
}

/* ---- finding the next batch ------------------------------------------------------------------ */

static void cursor_look(struct weir__cursor *cursor, struct cursor_view *view_out)
{
    const struct weir__cursor_config *const config = &cursor->config;
    *view_out = (struct cursor_view){
        .newest = config->newest(config->ctx),
        .limit = config->limit(config->ctx, config->level),
    };
}

/* How far the files may be looked at. Asked after the memory was: what has left it was written
 * before. */
static void cursor_look_at_files(struct weir__cursor *cursor, struct cursor_view *view)
{
    const struct weir__cursor_config *const config = &cursor->config;
    view->files_limit =
        config->level == WEIR_APPENDED ? config->limit(config->ctx, WEIR_WRITTEN) : view->limit;
}

/* Like weir__catalog_find; loads the list again once per attempt where it lacks the segment. */
static bool cursor_segment(struct weir__cursor *cursor,
                           struct cursor_view *view,
                           weir_lsn lsn,
                           struct weir__range *range_out)
{
    const struct weir__cursor_config *const config = &cursor->config;
    if (weir__catalog_find(config->catalog, lsn, range_out)) {
        return true;
    }
    if (config->refresh == NULL || view->renewed) {
        return false;
    }
    view->renewed = true;
    return config->refresh(config->ctx) >= 0 && weir__catalog_find(config->catalog, lsn, range_out);
}

static bool range_same(struct weir__range a, struct weir__range b)
{
    return a.base == b.base && a.end == b.end;
}

/* The window has turned to a segment of the log: it must say so itself. The bytes that are read here
 * are those in front of its first batch. */
static int cursor_check_header(struct weir__cursor *cursor,
                               const struct cursor_view *view,
                               struct weir__range range,
                               struct weir__fault *fault)
{
    const struct weir__cursor_config *const config = &cursor->config;
    if (range_same(cursor->headed[0], range) || range_same(cursor->headed[1], range)) {
        return 0;
    }
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    int result = weir__window_copy(cursor->window,
                                   range.base,
                                   view->files_limit,
                                   bytes,
                                   sizeof bytes,
                                   fault);
    if (result < 0) {
        return cursor_fault(fault, result, range, range.base, "segment header could not be read");
    }
    struct weir__segment_header header;
    const char *why = NULL;
    result = weir__segment_header_decode(bytes, &header, &why);
    if (result == 0 && header.log_id != config->log_id) {
        why = "segment header of another log";
        result = WEIR_ECORRUPT;
    } else if (result == 0 &&
               (header.base != range.base || header.bytes != range.end - range.base ||
                header.block_bytes != config->block_bytes)) {
        why = "segment header that names other LSNs or blocks than the log has here";
        result = WEIR_ECORRUPT;
    }
    if (result < 0) {
        return cursor_fault(fault, result, range, range.base, why);
    }
    cursor->headed[1] = cursor->headed[0];
    cursor->headed[0] = range;
    return 0;
}

/* Turns the window to a segment. Near the end of a log that is being written the page cache may
 * hold what a direct write of another process has replaced. */
static int cursor_turn(struct weir__cursor *cursor,
                       const struct cursor_view *view,
                       struct weir__range range,
                       struct weir__fault *fault)
{
    if (cursor->turned && range_same(cursor->window_range, range)) {
        return 0;
    }
    weir__window_past_cache(cursor->window,
                            cursor->doubt ||
                                (cursor->config.live_tail && view->files_limit < range.end));
    /* Below the limit nothing changes any more, and what does not verify is read again past the
     * cache. */
    weir__window_cached_below(cursor->window, cursor->doubt ? 0 : view->files_limit);
    int result = weir__window_turn(cursor->window, range, false, fault);
    if (result == 0) {
        result = cursor_check_header(cursor, view, range, fault);
    }
    cursor->turned = result == 0;
    cursor->window_range = range;
    return result;
}

/* The position that a header claims to continue. */
static struct weir__position position_claimed(const uint8_t in[WEIR__BATCH_HEADER_BYTES])
{
    struct weir__batch batch;
    (void)weir__batch_decode(in, &batch);
    return weir__position_before(&batch);
}

/* Judges a header against the position, as far as that is known. */
static enum weir__batch_verdict cursor_judge(const struct weir__cursor *cursor,
                                             const struct cursor_view *view,
                                             const uint8_t *header,
                                             weir_lsn lsn,
                                             weir_lsn segment_end,
                                             struct weir__batch *batch_out,
                                             const char **why_out)
{
    const struct weir__cursor_config *const config = &cursor->config;
    struct weir__position position = cursor->position;
    if (!cursor->anchored) {
        position = position_claimed(header);
        position.lsn = cursor->position.lsn;
    }
    return weir__batch_judge(header,
                             lsn,
                             segment_end,
                             config->block_bytes,
                             config->log_id,
                             &position,
                             &view->newest,
                             batch_out,
                             why_out);
}

/* Fills `found` for a batch that was judged good. 1, or WEIR_ECORRUPT for one that cannot be. */
static int cursor_accept(const struct weir__cursor *cursor,
                         const struct weir__batch *batch,
                         struct weir__range range,
                         struct cursor_found *found_out,
                         struct weir__fault *fault)
{
    *found_out = (struct cursor_found){
        .batch = *batch,
        .end = weir__batch_end(batch, cursor->config.block_bytes),
        .range = range,
    };
    if ((batch->flags & WEIR__BATCH_GAP) == 0 &&
        found_out->end - batch->lsn > cursor_batch_bytes_max(cursor)) {
        return cursor_fault(fault,
                            WEIR_ECORRUPT,
                            range,
                            batch->lsn,
                            "batch larger than any can be");
    }
    return 1;
}

/* Looks at a place. 1 the batch there continues the position, 0 it does not, or could not be read:
 * place->fault. */
static int cursor_try_place(struct weir__cursor *cursor,
                            const struct cursor_view *view,
                            struct cursor_place *place,
                            struct cursor_found *found_out)
{
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    int result = cursor_turn(cursor, view, place->range, &place->fault);
    if (result == 0) {
        result = weir__window_copy(cursor->window,
                                   place->lsn,
                                   view->files_limit,
                                   header,
                                   sizeof header,
                                   &place->fault);
    }
    if (result < 0) {
        (void)cursor_fault(&place->fault,
                           result,
                           place->range,
                           place->lsn,
                           "batch header could not be read");
        return 0;
    }
    struct weir__batch batch;
    const char *why = NULL;
    place->judged = true;
    place->verdict = cursor_judge(cursor, view, header, place->lsn, place->range.end, &batch, &why);
    if (place->verdict != WEIR__BATCH_OK) {
        (void)cursor_fault(&place->fault, WEIR_ECORRUPT, place->range, place->lsn, why);
        return 0;
    }
    return cursor_accept(cursor, &batch, place->range, found_out, &place->fault) > 0 ? 1 : 0;
}

/* True when the log left the segment in front of `next` at the position. The first batch of `next`
 * tells, once it lies below the limit: it is final then. Asked first, once per segment, because it
 * is sure: what stands at the position itself in such a segment was never written, or is of an
 * earlier use, or was cut. */
static bool cursor_left_here(struct weir__cursor *cursor,
                             const struct cursor_view *view,
                             struct weir__range next)
{
    const struct weir__cursor_config *const config = &cursor->config;
    if (next.base + 2 * (uint64_t)config->block_bytes > view->files_limit) {
        return false;
    }
    if (!cursor->exit_known || cursor->exit_base != next.base) {
        struct weir__io *const io = config->dir->io;
        int file = -1;
        if (weir__segment_open(config->dir, next, WEIR__OPEN_DIRECT, &file, NULL) < 0) {
            return false;
        }
        const int result =
            weir__io_read_full(io, file, cursor->block, config->block_bytes, config->block_bytes);
        (void)io->ops->close(io, file);
        cursor->block_reads++;
        struct weir__batch batch;
        if (result < 0 || !weir__batch_decode(cursor->block, &batch) ||
            batch.log_id != config->log_id || batch.lsn != next.base + config->block_bytes) {
            return false;
        }
        cursor->exit_known = true;
        cursor->exit_base = next.base;
        cursor->exit_lsn = batch.prev_end;
    }
    return cursor->exit_lsn == cursor->position.lsn;
}

/* Of two places that do not hold the batch, the one is told that looks as if it should. A sound
 * batch in the next segment that continues something else says that the log did go on here. */
static int cursor_tell_place(const struct cursor_place *here,
                             const struct cursor_place *next,
                             struct weir__fault *fault)
{
    bool tell_next = !here->possible;
    if (here->possible && here->judged && next->possible) {
        tell_next =
            !next->judged ||
            (next->verdict == WEIR__BATCH_DAMAGED && here->verdict != WEIR__BATCH_DAMAGED) ||
            (next->verdict != WEIR__BATCH_UNCHAINED && here->verdict == WEIR__BATCH_ZERO);
        tell_next = tell_next && next->range.base != next->range.end;
    }
    *fault = tell_next ? next->fault : here->fault;
    return fault->code;
}

/* In the files. 1 found, 0 nothing there yet, negative with fault. */
static int cursor_find_in_files(struct weir__cursor *cursor,
                                struct cursor_view *view,
                                struct cursor_found *found_out,
                                struct weir__fault *fault)
{
    const uint32_t block_bytes = cursor->config.block_bytes;
    const weir_lsn lsn = cursor->position.lsn;
    if (cursor->placed) {
        struct cursor_place place = {.range = cursor->place_range,
                                     .lsn = cursor->place_lsn,
                                     .fault = WEIR__FAULT_NONE};
        if (place.lsn + block_bytes > view->files_limit) {
            return 0;
        }
        if (cursor_try_place(cursor, view, &place, found_out) > 0) {
            return 1;
        }
        *fault = place.fault;
        return fault->code;
    }
    if (lsn >= view->files_limit) {
        return 0;
    }

    /* At the position itself, if its segment has room there. */
    struct cursor_place here = {.lsn = lsn, .fault = WEIR__FAULT_NONE};
    struct cursor_place next = {.lsn = lsn, .fault = WEIR__FAULT_NONE};
    if (lsn > cursor->home.base && lsn <= cursor->home.end) {
        here.range = cursor->home;
    }
    weir_lsn next_base = lsn;
    if (here.range.end != 0 || (lsn > 0 && cursor_segment(cursor, view, lsn - 1, &here.range))) {
        here.possible = lsn + block_bytes <= weir__min_u64(here.range.end, view->files_limit);
        next_base = here.range.end;
    }
    if (here.possible && cursor->exit_known && cursor->exit_base == next_base &&
        cursor->exit_lsn != lsn && cursor_try_place(cursor, view, &here, found_out) > 0) {
        return 1; /* the usual case in a segment that the log has left: nothing else needs a look */
    }
    /* Else at the start of the next segment. */
    next.lsn = next_base + block_bytes;
    next.possible = next.lsn + block_bytes <= view->files_limit;
    if (next.possible &&
        !(cursor_segment(cursor, view, next_base, &next.range) && next.range.base == next_base)) {
        next.range = (struct weir__range){0};
        (void)weir__fault_set(&next.fault,
                              WEIR_ECORRUPT,
                              "",
                              UINT64_MAX,
                              next_base,
                              "no segment begins at %llu",
                              (unsigned long long)next_base);
    }
    const bool next_there = next.possible && next.range.end != 0;
    const bool next_first = next_there && cursor_left_here(cursor, view, next.range);
    if (next_first && cursor_try_place(cursor, view, &next, found_out) > 0) {
        return 1;
    }
    if (here.possible && here.fault.code == 0 &&
        cursor_try_place(cursor, view, &here, found_out) > 0) {
        return 1;
    }
    if (next_there && !next_first && cursor_try_place(cursor, view, &next, found_out) > 0) {
        return 1;
    }
    /* With neither possible, no place can hold a whole block below the limit. */
    return here.possible || next.possible ? cursor_tell_place(&here, &next, fault) : 0;
}

/* In memory. 1 found (and in the buffer), 0 not there, negative with fault. */
static int cursor_find_in_memory(struct weir__cursor *cursor,
                                 const struct cursor_view *view,
                                 struct cursor_found *found_out,
                                 struct weir__fault *fault)
{
    const struct weir__cursor_config *const config = &cursor->config;
    if (config->from_memory == NULL) {
        return 0;
    }
    const weir_lsn lsn = cursor->position.lsn;
    size_t bytes = config->from_memory(config->ctx, lsn, cursor->buffer, cursor->buffer_bytes);
    if (bytes > cursor->buffer_bytes) {
        if (bytes > cursor_batch_bytes_max(cursor)) {
            return cursor_fault(fault,
                                WEIR_ECORRUPT,
                                (struct weir__range){0},
                                lsn,
                                "batch larger than any can be");
        }
        const int result = cursor_room(cursor, bytes, 0);
        if (result < 0) {
            return cursor_fault(fault,
                                result,
                                (struct weir__range){0},
                                lsn,
                                "no memory for a batch");
        }
        bytes = config->from_memory(config->ctx, lsn, cursor->buffer, cursor->buffer_bytes);
    }
    if (bytes == 0 || bytes > cursor->buffer_bytes) {
        return 0; /* or gone between the two calls: it is in the files by then */
    }

    struct weir__range range = {0};
    struct weir__batch batch;
    const char *why = "batch cut short";
    bool good = bytes >= WEIR__BATCH_HEADER_BYTES;
    weir_lsn batch_lsn = lsn;
    if (good) {
        (void)weir__batch_decode(cursor->buffer, &batch);
        batch_lsn = batch.lsn;
        if (!weir__catalog_find(config->catalog, batch_lsn, &range)) {
            range = (struct weir__range){0};
        }
        const weir_lsn segment_end = range.end != 0 ? range.end : WEIR__LSN_MAX;
        good = cursor_judge(cursor, view, cursor->buffer, batch_lsn, segment_end, &batch, &why) ==
               WEIR__BATCH_OK;
    }
    if (good && bytes != WEIR__BATCH_HEADER_BYTES + (size_t)batch.bytes) {
        why = "batch of another length than its header says";
        good = false;
    }
    if (!good) {
        return cursor_fault(fault, WEIR_ECORRUPT, (struct weir__range){0}, batch_lsn, why);
    }
    const int result = cursor_accept(cursor, &batch, range, found_out, fault);
    if (result < 0) {
        return result;
    }
    found_out->in_memory = true;
    return 1;
}

/* The batch that continues the position. 1 found, 0 nothing that may be shown yet, negative with
 * fault. */
static int cursor_find(struct weir__cursor *cursor,
                       struct cursor_view *view,
                       struct cursor_found *found_out,
                       struct weir__fault *fault)
{
    if (cursor_cut(cursor, &view->newest)) {
        return cursor_cut_fault(cursor, fault, &view->newest);
    }
    if (view->limit <= cursor->position.lsn) {
        return 0;
    }
    int result = cursor_find_in_memory(cursor, view, found_out, fault);
    if (result == 0) {
        cursor_look_at_files(cursor, view);
        result = cursor_find_in_files(cursor, view, found_out, fault);
    }
    if (result > 0 && (found_out->end > view->limit ||
                       (!found_out->in_memory && found_out->end > view->files_limit))) {
        if (cursor->config.level != WEIR_APPENDED) {
            /* These limits are ends of batches. One of the two is not the log's. */
            return cursor_fault(fault,
                                WEIR_ECORRUPT,
                                found_out->range,
                                found_out->batch.lsn,
                                "batch reaches beyond the limit, which is none's end");
        }
        return 0;
    }
    return result;
}

/* ---- taking a batch in hand ------------------------------------------------------------------ */

/* Gets the bytes of a batch that was found in the files: in place where they lie in one piece. */
static int cursor_load(struct weir__cursor *cursor,
                       const struct cursor_view *view,
                       const struct cursor_found *found,
                       const uint8_t **data_out,
                       struct weir__fault *fault)
{
    const size_t bytes = (size_t)(found->end - found->batch.lsn);
    const uint8_t *data = NULL;
    size_t have = 0;
    int result =
        weir__window_peek(cursor->window, found->batch.lsn, view->files_limit, &data, &have, fault);
    if (result == 0 && have < bytes) {
        result = cursor_room(cursor, bytes, 0);
        if (result == 0) {
            result = weir__window_copy(cursor->window,
                                       found->batch.lsn,
                                       view->files_limit,
                                       cursor->buffer,
                                       bytes,
                                       fault);
        }
        data = cursor->buffer;
    }
    if (result < 0) {
        return cursor_fault(fault,
                            result,
                            found->range,
                            found->batch.lsn,
                            "batch could not be read");
    }
    *data_out = data;
    return 0;
}

/* Verifies all that stands behind the header. */
static int cursor_verify(const struct weir__cursor *cursor,
                         const struct cursor_found *found,
                         const uint8_t *data,
                         struct weir__fault *fault)
{
    const size_t bytes = (size_t)(found->end - found->batch.lsn);
    struct weir__batch_check check;
    weir__batch_check_begin(&check, &found->batch, cursor->config.block_bytes);
    int result = weir__batch_check_feed(&check,
                                        data + WEIR__BATCH_HEADER_BYTES,
                                        bytes - WEIR__BATCH_HEADER_BYTES);
    if (result == 0) {
        result = weir__batch_check_end(&check);
    }
    if (result < 0) {
        const struct weir__range range = found->in_memory ? (struct weir__range){0} : found->range;
        return cursor_fault(fault, result, range, check.frame_lsn, check.why);
    }
    return 0;
}

/* One attempt. 1 a batch is in hand, 0 nothing yet, negative with fault. */
static int
cursor_attempt(struct weir__cursor *cursor, weir_lsn *limit_out, struct weir__fault *fault)
{
    struct cursor_view view;
    struct cursor_found found = {0};
    cursor_look(cursor, &view);
    *limit_out = view.limit;
    int result = cursor_find(cursor, &view, &found, fault);
    if (result <= 0) {
        return result;
    }
    const uint8_t *data = cursor->buffer;
    const bool gap = (found.batch.flags & WEIR__BATCH_GAP) != 0;
    if (!gap && found.in_memory) {
        /* Nothing of the padding was copied. It is zero on disk, and checked as such there. */
        const size_t filled = WEIR__BATCH_HEADER_BYTES + found.batch.bytes;
        const size_t bytes = (size_t)(found.end - found.batch.lsn);
        result = cursor_room(cursor, bytes, filled);
        if (result < 0) {
            return cursor_fault(fault,
                                result,
                                found.range,
                                found.batch.lsn,
                                "no memory for a batch");
        }
        memset(cursor->buffer + filled, 0, bytes - filled);
        data = cursor->buffer;
    } else if (!gap) {
        result = cursor_load(cursor, &view, &found, &data, fault);
        if (result < 0) {
            return result;
        }
    }
    if (!gap) {
        result = cursor_verify(cursor, &found, data, fault);
        if (result < 0) {
            return result;
        }
    }
    cursor->current = found;
    cursor->in_hand = true;
    cursor->frames = gap ? NULL : data + WEIR__BATCH_HEADER_BYTES;
    cursor->frames_done = 0;
    if (found.in_memory) {
        cursor->memory_batches++;
    }
    cursor_tell_moved(cursor, found.batch.lsn);
    return 1;
}

/* Takes the next batch in hand. As cursor_attempt, after up to three of them. */
static int cursor_fetch(struct weir__cursor *cursor, weir_lsn *limit_out)
{
    cursor->doubt = false;
    for (unsigned attempt = 0;; attempt++) {
        struct weir__fault fault = WEIR__FAULT_NONE;
        int result = cursor_attempt(cursor, limit_out, &fault);
        if (result >= 0) {
            return result;
        }
        result = cursor_reconsider(cursor, result, attempt, &fault);
        if (result != 0) {
            cursor->fault = fault;
            return result;
        }
    }
}

/* Steps behind a batch. */
static void cursor_step(struct weir__cursor *cursor, const struct cursor_found *found)
{
    weir__debug(found->end > cursor->position.lsn);
    cursor->position = weir__position_after(&found->batch, cursor->config.block_bytes);
    cursor->anchored = true;
    cursor->home = found->range;
    cursor->placed = false;
    cursor->in_hand = false;
}

/* ---- seeking --------------------------------------------------------------------------------- */

/* Puts the position in front of the first batch of a segment, taken at its word. */
static int cursor_anchor(struct weir__cursor *cursor,
                         const struct cursor_view *view,
                         struct weir__range range,
                         weir_lsn lsn,
                         struct weir__fault *fault)
{
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    int result = cursor_turn(cursor, view, range, fault);
    if (result == 0) {
        result =
            weir__window_copy(cursor->window, lsn, view->files_limit, header, sizeof header, fault);
    }
    if (result < 0) {
        return cursor_fault(fault, result, range, lsn, "batch header could not be read");
    }
    const struct weir__position position = position_claimed(header);
    struct weir__batch batch;
    const char *why = NULL;
    if (weir__batch_judge(header,
                          lsn,
                          range.end,
                          cursor->config.block_bytes,
                          cursor->config.log_id,
                          &position,
                          &view->newest,
                          &batch,
                          &why) != WEIR__BATCH_OK) {
        return cursor_fault(fault, WEIR_ECORRUPT, range, lsn, why);
    }
    cursor->position = position;
    cursor->anchored = true;
    cursor->home = (struct weir__range){0};
    cursor->placed = true;
    cursor->place_range = range;
    cursor->place_lsn = lsn;
    return 0;
}

/* Puts the position somewhere at or below the start: in front of its segment, or, where all that is
 * durable lies below the start, at the end of that. */
static int
cursor_begin(struct weir__cursor *cursor, struct cursor_view *view, struct weir__fault *fault)
{
    const struct weir__cursor_config *const config = &cursor->config;
    /* Before the epoch, so that the epoch is not older than the position. What is durable now is in
     * the files. */
    const weir_lsn durable = config->limit(config->ctx, WEIR_DURABLE);
    cursor_look(cursor, view);
    cursor_look_at_files(cursor, view);
    if (cursor->start < durable) {
        struct weir__range range = {0};
        if (!cursor_segment(cursor, view, cursor->start, &range)) {
            return weir__fault_set(fault,
                                   WEIR_ECORRUPT,
                                   "",
                                   UINT64_MAX,
                                   cursor->start,
                                   "no segment holds %llu",
                                   (unsigned long long)cursor->start);
        }
        const weir_lsn first = range.base + config->block_bytes;
        if (first + config->block_bytes <= weir__min_u64(durable, view->files_limit)) {
            return cursor_anchor(cursor, view, range, first, fault);
        }
    }
    /* Whatever comes next is taken at its word: it says which chain it continues, and of which
     * epoch it is. */
    cursor->position = (struct weir__position){
        .lsn = durable,
        .epoch = view->newest.epoch,
        .epoch_lsn = view->newest.lsn,
        .nonce = view->newest.nonce,
    };
    cursor->anchored = false;
    cursor->home = (struct weir__range){0};
    cursor->placed = false;
    return 0;
}

/* One attempt to stand in front of the batch that holds the start, or that comes next behind it. */
static int cursor_seek_attempt(struct weir__cursor *cursor, struct weir__fault *fault)
{
    struct cursor_view view;
    int result = cursor_begin(cursor, &view, fault);
    /* Headers only. Each turn steps behind a batch that ends at or below the start. */
    while (result == 0) {
        struct cursor_found found = {0};
        cursor_look(cursor, &view);
        result = cursor_find(cursor, &view, &found, fault);
        if (result <= 0) {
            return result;
        }
        if (found.end > cursor->start) {
            cursor->placed = !found.in_memory;
            cursor->place_range = found.range;
            cursor->place_lsn = found.batch.lsn;
            cursor_tell_moved(cursor, weir__min_u64(found.batch.lsn, cursor->start));
            return 0;
        }
        cursor_step(cursor, &found);
        result = 0;
    }
    return result;
}

static int cursor_seek(struct weir__cursor *cursor, weir_lsn lsn)
{
    const struct weir__cursor_config *const config = &cursor->config;
    cursor->doubt = false;
    for (unsigned attempt = 0;; attempt++) {
        cursor->start = lsn == WEIR_LSN_OLDEST ? config->oldest(config->ctx) : lsn;
        /* Told first and looked at afterwards: a cursor that pins holds back every trim that is not
         * seen here. */
        cursor_tell_moved(cursor, cursor->start);
        struct weir__fault fault = WEIR__FAULT_NONE;
        const weir_lsn oldest = config->oldest(config->ctx);
        int result = 0;
        if (cursor->start < oldest) {
            result = cursor_passed(&fault, cursor->start, oldest);
        } else {
            result = cursor_seek_attempt(cursor, &fault);
        }
        if (result >= 0) {
            return 0;
        }
        /* All that is wanted as yet is the start, whatever was met on the way to it. */
        cursor->position = (struct weir__position){.epoch = UINT64_MAX};
        const bool moved =
            (result == WEIR_EPASSED && lsn == WEIR_LSN_OLDEST) || result == WEIR_EEPOCH;
        if (moved && attempt + 1 < CURSOR_TRIES) {
            continue;
        }
        result = cursor_reconsider(cursor, result, attempt, &fault);
        if (result == WEIR_EPASSED && lsn == WEIR_LSN_OLDEST && attempt + 1 < CURSOR_TRIES) {
            continue; /* trimmed under us: the oldest is another one now */
        }
        if (result != 0) {
            cursor->fault = fault;
            return result;
        }
    }
}

int weir__cursor_open(const struct weir__cursor_config *config,
                      weir_lsn lsn,
                      struct weir__cursor **cursor_out,
                      struct weir__fault *fault)
{
    struct weir__cursor *const cursor =
        weir__mem_alloc(config->mem, sizeof *cursor, _Alignof(struct weir__cursor));
    if (cursor == NULL) {
        return weir__fault_set(fault, -ENOMEM, "", UINT64_MAX, lsn, "no memory for a cursor");
    }
    cursor->config = *config;
    cursor->moved = UINT64_MAX;
    cursor->fault = WEIR__FAULT_NONE;
    struct weir__window_config window;
    cursor_window_config(config, &window);
    int result = weir__window_open(&window, &cursor->window);
    if (result == 0) {
        cursor->buffer = weir__mem_alloc(config->mem, config->batch_bytes, CURSOR_BUFFER_ALIGN);
        cursor->buffer_bytes = config->batch_bytes;
        cursor->block = weir__mem_alloc_io(config->mem, config->block_bytes);
        result = cursor->buffer == NULL || cursor->block == NULL ? -ENOMEM : 0;
    }
    if (result < 0) {
        (void)weir__fault_set(&cursor->fault,
                              result,
                              "",
                              UINT64_MAX,
                              lsn,
                              "no memory for a cursor's buffers");
        cursor->buffer_bytes = cursor->buffer == NULL ? 0 : cursor->buffer_bytes;
    } else {
        result = cursor_seek(cursor, lsn);
    }
    if (result < 0) {
        if (fault != NULL && fault->code == 0) {
            *fault = cursor->fault;
        }
        weir__cursor_close(cursor);
        return result;
    }
    *cursor_out = cursor;
    return 0;
}

/* ---- records --------------------------------------------------------------------------------- */

/* The next record of the batch in hand. 1 shown, 0 there is none left, WEIR_ECORRUPT: verified
 * bytes changed. */
static int cursor_show(struct weir__cursor *cursor, struct weir_entry *entry_out)
{
    const struct weir__batch *const batch = &cursor->current.batch;
    while (cursor->frames_done < batch->bytes) {
        const weir_lsn lsn = batch->lsn + WEIR__BATCH_HEADER_BYTES + cursor->frames_done;
        const uint8_t *const at = cursor->frames + cursor->frames_done;
        struct weir__frame frame;
        const char *why = NULL;
        /* The batch was verified as a whole when it was fetched. */
        if (!weir__frame_read(at, batch->bytes - cursor->frames_done, &frame, &why)) {
            cursor->fault = WEIR__FAULT_NONE;
            return cursor_fault(&cursor->fault, WEIR_ECORRUPT, (struct weir__range){0}, lsn, why);
        }
        cursor->frames_done += (uint32_t)weir__frame_span(frame.bytes);
        if (frame.type != WEIR__FRAME_RECORD || lsn < cursor->start) {
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
        cursor->records++;
        cursor->bytes += frame.bytes;
        cursor->last = cursor->current;
        cursor->shown = true;
        return 1;
    }
    return 0;
}

/* Waits for something to look at. 0: look again; WEIR_EEND; or what the wait failed with. */
static int cursor_wait(struct weir__cursor *cursor, weir_lsn limit, uint64_t deadline_ns)
{
    const struct weir__cursor_config *const config = &cursor->config;
    int result;
    if (limit <= cursor->position.lsn) {
        result = config->wait(config->ctx, cursor->position.lsn, config->level, deadline_ns);
    } else {
        /* The limit lies inside a batch that is not complete. Whether its completion moves the
         * limit is not ours to know, so it is looked at again now and then. */
        const uint64_t now_ns = weir__now_ns();
        const uint64_t soon_ns = weir__min_u64(deadline_ns, now_ns + CURSOR_POLL_NS);
        result = config->wait(config->ctx, limit, config->level, soon_ns);
        if (result == -ETIMEDOUT && soon_ns < deadline_ns) {
            result = 0;
        }
    }
    if (result == -ETIMEDOUT) {
        return WEIR_EEND;
    }
    if (result == WEIR_ESHUTDOWN) {
        /* It may have moved for the last time in between. */
        return config->limit(config->ctx, config->level) > limit ? 0 : WEIR_EEND;
    }
    if (result < 0) {
        cursor->fault = WEIR__FAULT_NONE;
        return weir__fault_set(&cursor->fault,
                               result,
                               "",
                               UINT64_MAX,
                               cursor->position.lsn,
                               "waiting for a record failed");
    }
    return 0;
}

int weir__cursor_next(struct weir__cursor *cursor,
                      uint64_t deadline_ns,
                      struct weir_entry *entry_out)
{
    /* Each turn shows a record, steps behind a batch, or sleeps. */
    for (;;) {
        if (cursor->in_hand) {
            const int shown = cursor_show(cursor, entry_out);
            if (shown != 0) {
                return shown > 0 ? 0 : shown;
            }
            cursor_step(cursor, &cursor->current);
            cursor_tell_moved(cursor, cursor_wanted(cursor));
        }
        weir_lsn limit = 0;
        const int fetched = cursor_fetch(cursor, &limit);
        if (fetched < 0) {
            return fetched;
        }
        if (fetched == 0) {
            const int result = cursor_wait(cursor, limit, deadline_ns);
            if (result < 0) {
                return result;
            }
        }
    }
}

/* ---- questions ------------------------------------------------------------------------------- */

weir_lsn weir__cursor_lsn(const struct weir__cursor *cursor)
{
    if (!cursor->in_hand) {
        return cursor_wanted(cursor);
    }
    const struct weir__batch *const batch = &cursor->current.batch;
    const weir_lsn lsn = cursor->frames_done < batch->bytes
                             ? batch->lsn + WEIR__BATCH_HEADER_BYTES + cursor->frames_done
                             : cursor->current.end;
    return weir__max_u64(lsn, cursor->start);
}

const struct weir__fault *weir__cursor_fault(const struct weir__cursor *cursor)
{
    return &cursor->fault;
}

int weir__cursor_batch(const struct weir__cursor *cursor, struct weir_batch_info *info_out)
{
    if (!cursor->shown) {
        return WEIR_EEND;
    }
    const struct weir__batch *const batch = &cursor->last.batch;
    *info_out = (struct weir_batch_info){
        .lsn = batch->lsn,
        .end_lsn = cursor->last.end,
        .prev_end_lsn = batch->prev_end,
        .promise_lsn = batch->promise,
        .epoch = batch->epoch,
        .epoch_lsn = batch->epoch_lsn,
        .wall_ns = batch->wall_ns,
        .records = batch->records,
        .bytes = batch->bytes,
        .chain = batch->chain,
        .segment_lsn = cursor->last.range.base,
        .segment_end_lsn = cursor->last.range.end,
    };
    return 0;
}

void weir__cursor_counts(const struct weir__cursor *cursor, struct weir__cursor_counts *counts_out)
{
    *counts_out = (struct weir__cursor_counts){
        .records = cursor->records,
        .bytes = cursor->bytes,
        .memory_batches = cursor->memory_batches,
    };
    weir__window_counts(cursor->window, &counts_out->reads, &counts_out->read_bytes);
    counts_out->reads += cursor->block_reads;
    counts_out->read_bytes += cursor->block_reads * cursor->config.block_bytes;
}
