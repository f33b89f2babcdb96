/* SPDX-License-Identifier: Apache-2.0
 * Calls on logs that nobody here has open: verify, locate, salvage, copy.
 *
 * Each brings its own memory and directory handle, looks, and puts everything back. A log that
 * another process writes to meanwhile is looked at up to the LSN that was durable at the call:
 * above it bytes are still changing. Such a log may also be trimmed while it is read; what then
 * seems to be damage below its new oldest LSN is none, so the look begins again, a bounded number
 * of times.
 *
 * What can fail: what the floors below report. Nothing is ever written to the log that is looked
 * at. Any thread. */
#include "api/error.h"
#include "base/bytes.h"
#include "base/num.h"
#include "recover/rewrite.h"
#include "segment/segment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OFFLINE_TRIES 16

#define LLU(v) ((unsigned long long)(v))

/* A log's directory, looked at from outside. */
struct offline {
    struct weir__mem mem;
    struct weir__dir dir;
    struct weir__catalog catalog;
    bool catalog_made;
    struct weir__control_found control;
    bool live;        /* somebody writes to it */
    weir_lsn durable; /* live: everything below is durable and complete */
};

static int
offline_open(struct offline *offline, const char *path, bool direct, struct weir__fault *fault)
{
    memset(offline, 0, sizeof *offline);
    weir__mem_init(&offline->mem, NULL);
    int code = weir__dir_look(&offline->dir, weir__io_system(), &offline->mem, path, direct, fault);
    if (code == 0) {
        code = weir__catalog_init(&offline->catalog, &offline->mem);
        offline->catalog_made = code == 0;
    }
    return code;
}

static void offline_close(struct offline *offline)
{
    if (offline->catalog_made) {
        weir__catalog_exit(&offline->catalog);
    }
    weir__dir_close(&offline->dir);
    weir__mem_exit(&offline->mem);
}

/* Names, control file, and how far a live writer is. */
static int offline_look(struct offline *offline, struct weir__fault *fault)
{
    struct weir__dir *const dir = &offline->dir;
    int code = weir__catalog_load(&offline->catalog, dir, fault);
    if (code == 0) {
        code = weir__scan_control(dir, &offline->catalog, &offline->control, fault);
    }
    if (code != 0) {
        return code;
    }
    const struct weir__control *const control = &offline->control.copy[offline->control.newest];
    offline->live = weir__dir_writer_live(dir);
    if (!offline->live) {
        return 0;
    }
    offline->durable = control->promise;
    struct weir__live live;
    if (weir__dir_live_read(dir, &live) && live.log_id == control->log_id &&
        live.epoch == control->epoch.epoch) {
        offline->durable = weir__max_u64(live.durable, control->promise);
    }
    /* The names once more: a segment that was made since they were read may hold the durable LSN.
     */
    return weir__catalog_load(&offline->catalog, dir, fault);
}

/* Did the log move on under the look that has just failed? Then what failed may be gone rather than
 * bad. */
static bool offline_moved(struct offline *offline)
{
    struct weir__control_found now;
    struct weir__fault fault = WEIR__FAULT_NONE;
    if (weir__dir_writer_live(&offline->dir) != offline->live) {
        return true;
    }
    if (weir__scan_control(&offline->dir, &offline->catalog, &now, &fault) != 0) {
        return false;
    }
    const struct weir__control *const then = &offline->control.copy[offline->control.newest];
    const struct weir__control *const next = &now.copy[now.newest];
    return next->oldest_lsn != then->oldest_lsn || next->checkpoint.lsn != then->checkpoint.lsn ||
           next->epoch.epoch != then->epoch.epoch || next->epoch.nonce != then->epoch.nonce;
}

/* The end of every call: the fault goes out, if there is one. */
static int offline_finish(struct offline *offline,
                          int code,
                          struct weir__fault *fault,
                          struct weir_error *error_out)
{
    offline_close(offline);
    if (code < 0) {
        if (fault->code == 0) {
            (void)weir__fault_set(fault,
                                  code,
                                  "",
                                  UINT64_MAX,
                                  UINT64_MAX,
                                  "%s",
                                  weir__code_text(code));
        }
        weir__error_from_fault(fault, error_out);
    }
    return code;
}

static int offline_refuse(struct weir_error *error_out, const char *what)
{
    struct weir__fault fault = WEIR__FAULT_NONE;
    (void)weir__fault_set(&fault, -EINVAL, "", UINT64_MAX, UINT64_MAX, "%s must not be NULL", what);
    weir__error_from_fault(&fault, error_out);
    return -EINVAL;
}

/* ---- verify ---------------------------------------------------------------------------------- */

/* A directory whose control file is lost is a log that is corrupt: that is a finding, not a failure
 * to look. */
static void verify_without_control(struct offline *offline,
                                   const struct weir__fault *fault,
                                   struct weir_report *report_out)
{
    *report_out = (struct weir_report){
        .verdict = WEIR_VERDICT_CORRUPT,
        .bad_lsn = UINT64_MAX,
        .evidence_lsn = UINT64_MAX,
        .segments = weir__catalog_count(&offline->catalog),
        .writer_live = weir__dir_writer_live(&offline->dir),
    };
    weir__error_from_fault(fault, &report_out->error);
    (void)snprintf(report_out->why, sizeof report_out->why, "%s", fault->text);
}

static bool verdict_good(const struct weir_report *report)
{
    return report->verdict == WEIR_VERDICT_CLEAN || report->verdict == WEIR_VERDICT_STALE;
}

static bool verdict_bad(const struct weir_report *report)
{
    return report->verdict == WEIR_VERDICT_CORRUPT || report->verdict == WEIR_VERDICT_UNREADABLE;
}

int weir_verify_with(const char *dir,
                     unsigned flags,
                     void (*progress)(void *ctx, uint64_t done, uint64_t total),
                     void *ctx,
                     struct weir_report *report_out,
                     struct weir_error *error_out)
{
    if (dir == NULL || report_out == NULL) {
        return offline_refuse(error_out, dir == NULL ? "dir" : "report_out");
    }
    if ((flags & ~(unsigned)WEIR_VERIFY_CACHED) != 0) {
        struct weir__fault unknown = WEIR__FAULT_NONE;
        (void)weir__fault_set(&unknown,
                              -EINVAL,
                              "",
                              UINT64_MAX,
                              UINT64_MAX,
                              "flags 0x%x are not known",
                              flags);
        weir__error_from_fault(&unknown, error_out);
        return -EINVAL;
    }
    bool cached = (flags & WEIR_VERIFY_CACHED) != 0;
    struct offline offline;
    struct weir__fault fault = WEIR__FAULT_NONE;
    int code = offline_open(&offline, dir, true, &fault);
    bool again = code == 0;
    for (int i = 0; again && i < OFFLINE_TRIES; i++) {
        fault = WEIR__FAULT_NONE;
        code = offline_look(&offline, &fault);
        if (code == WEIR_ECORRUPT) {
            verify_without_control(&offline, &fault, report_out);
            code = 0;
            break;
        }
        if (code != 0) {
            break;
        }
        const struct weir__scan_config config = {
            .dir = &offline.dir,
            .catalog = &offline.catalog,
            .control = &offline.control,
            .from_oldest = true,
            .cached = cached && i + 1 < OFFLINE_TRIES,
            .limit = offline.live ? weir__max_u64(offline.durable, 1) : 0,
            .durable = offline.live ? offline.durable : 0,
            .progress = progress,
            .ctx = ctx,
        };
        struct weir__scan_result result;
        code = weir__scan(&config, &result, &fault);
        if (code == 0) {
            *report_out = result.report;
            report_out->writer_live = offline.live;
            if (report_out->bytes_cached > 0 && !verdict_good(report_out)) {
                cached = false; /* the device is asked before anything bad is said */
                continue;
            }
        }
        again = (code == -ENOENT || (code == 0 && verdict_bad(report_out)) ||
                 (code == 0 && !offline.live)) &&
                offline_moved(&offline);
    }
    return offline_finish(&offline, code, &fault, error_out);
}

int weir_verify(const char *dir,
                void (*progress)(void *ctx, uint64_t done, uint64_t total),
                void *ctx,
                struct weir_report *report_out,
                struct weir_error *error_out)
{
    return weir_verify_with(dir, 0, progress, ctx, report_out, error_out);
}

/* ---- locate ---------------------------------------------------------------------------------- */

struct locate {
    struct offline *offline;
    struct weir_place *place;
    struct weir__window *window;
    struct weir__fault *fault;
    struct weir__range range;
    uint32_t block_bytes;
    uint64_t log_id;
    const struct weir__epoch *newest; /* NULL: the control file is lost */
    uint16_t frame_type;              /* of the frame that holds the LSN; 0: none */
};

static void locate_frame_seen(void *ctx, weir_lsn lsn, const struct weir__frame *frame)
{
    struct locate *const locate = ctx;
    struct weir_place *const place = locate->place;
    if (place->asked_lsn < lsn || place->asked_lsn - lsn >= weir__frame_span(frame->bytes)) {
        return;
    }
    locate->frame_type = frame->type;
    place->record_lsn = lsn;
    place->record_bytes = frame->bytes;
    place->record_tag = frame->tag;
}

/* Reads the batch that spans the LSN. Its frames are believed only when all of it verifies. */
static int locate_batch(struct locate *locate, const struct weir__batch *batch)
{
    struct weir_place *const place = locate->place;
    const weir_lsn asked = place->asked_lsn;
    struct weir__batch_check check;
    weir__batch_check_begin(&check, batch, locate->block_bytes);
    check.frame_seen = locate_frame_seen;
    check.ctx = locate;
    weir_lsn at = batch->lsn + WEIR__BATCH_HEADER_BYTES;
    const weir_lsn end = weir__align_up(at + batch->bytes, locate->block_bytes);
    int verifies = 0;
    while (at < end && verifies == 0) {
        const uint8_t *data = NULL;
        size_t bytes = 0;
        const int code =
            weir__window_peek(locate->window, at, UINT64_MAX, &data, &bytes, locate->fault);
        if (code < 0) {
            return code;
        }
        bytes = (size_t)weir__min_u64(bytes, end - at);
        verifies = weir__batch_check_feed(&check, data, bytes);
        at += bytes;
    }
    if (verifies == 0) {
        verifies = weir__batch_check_end(&check);
    }
    if (verifies != 0) {
        place->record_lsn = 0;
        place->record_bytes = 0;
        place->record_tag = 0;
        (void)snprintf(place->what,
                       sizeof place->what,
                       "in the batch at LSN %llu, which does not verify: %s at LSN %llu",
                       LLU(batch->lsn),
                       check.why,
                       LLU(check.frame_lsn));
        return 0;
    }
    place->in_batch = true;
    place->batch = (struct weir_batch_info){
        .lsn = batch->lsn,
        .end_lsn = weir__batch_end(batch, locate->block_bytes),
        .prev_end_lsn = batch->prev_end,
        .promise_lsn = batch->promise,
        .epoch = batch->epoch,
        .epoch_lsn = batch->epoch_lsn,
        .wall_ns = batch->wall_ns,
        .records = batch->records,
        .bytes = batch->bytes,
        .chain = batch->chain,
        .segment_lsn = locate->range.base,
        .segment_end_lsn = locate->range.end,
    };
    place->in_record = locate->frame_type == WEIR__FRAME_RECORD;
    if (place->in_record) {
        const char *const part =
            asked == place->record_lsn ? "at the start of"
            : asked - place->record_lsn < WEIR__FRAME_HEADER_BYTES + place->record_bytes
                ? "inside"
                : "in the padding of";
        (void)snprintf(place->what,
                       sizeof place->what,
                       "%s the record at LSN %llu: %llu bytes, tag %llu",
                       part,
                       LLU(place->record_lsn),
                       LLU(place->record_bytes),
                       LLU(place->record_tag));
        return 0;
    }
    place->record_lsn = 0;
    place->record_bytes = 0;
    place->record_tag = 0;
    const char *part = "in the padding of";
    if (locate->frame_type == WEIR__FRAME_SKIP) {
        part = "in a reservation that was given up, in";
    } else if ((batch->flags & WEIR__BATCH_GAP) != 0) {
        part = "in the gap that salvage left with";
    } else if (asked - batch->lsn < WEIR__BATCH_HEADER_BYTES) {
        part = "in the header of";
    }
    (void)snprintf(place->what,
                   sizeof place->what,
                   "%s the batch at LSN %llu",
                   part,
                   LLU(batch->lsn));
    return 0;
}

/* Is it a batch that belongs where it stands, as far as it says itself? */
static bool locate_sound(const struct locate *locate,
                         const uint8_t *header,
                         weir_lsn at,
                         struct weir__batch *batch_out)
{
    if (!weir__batch_decode(header, batch_out) || batch_out->lsn != at ||
        batch_out->log_id != locate->log_id) {
        return false;
    }
    const weir_lsn end = weir__batch_end(batch_out, locate->block_bytes);
    if (end > locate->range.end || end % locate->block_bytes != 0) {
        return false;
    }
    const struct weir__epoch *const newest = locate->newest;
    return newest == NULL || batch_out->prev_end < newest->lsn ||
           (batch_out->epoch >= newest->epoch &&
            (batch_out->epoch > newest->epoch || batch_out->nonce == newest->nonce));
}

/* Walks the segment's batches up to the one that spans the LSN. Where a header does not hold the
 * next block is tried. */
static int locate_walk(struct locate *locate)
{
    struct weir_place *const place = locate->place;
    const weir_lsn asked = place->asked_lsn;
    weir_lsn at = locate->range.base + locate->block_bytes;
    weir_lsn known = 0; /* end of the last batch that was seen */
    while (at <= asked) {
        uint8_t header[WEIR__BATCH_HEADER_BYTES];
        const int code =
            weir__window_copy(locate->window, at, UINT64_MAX, header, sizeof header, locate->fault);
        if (code < 0) {
            return code;
        }
        struct weir__batch batch;
        if (!locate_sound(locate, header, at, &batch)) {
            at += locate->block_bytes;
            continue;
        }
        known = weir__batch_end(&batch, locate->block_bytes);
        if (asked < known) {
            return locate_batch(locate, &batch);
        }
        at = known;
    }
    const weir_lsn block_lsn =
        locate->range.base + weir__align_down(asked - locate->range.base, locate->block_bytes);
    bool zeros = true;
    for (uint32_t done = 0; done < locate->block_bytes && zeros;) {
        uint8_t piece[512];
        const int code = weir__window_copy(locate->window,
                                           block_lsn + done,
                                           UINT64_MAX,
                                           piece,
                                           sizeof piece,
                                           locate->fault);
        if (code < 0) {
            return code;
        }
        zeros = weir__all_zero(piece, sizeof piece);
        done += (uint32_t)sizeof piece;
    }
    if (known == 0) {
        (void)snprintf(place->what,
                       sizeof place->what,
                       "in a block of %s; no batch stands before it in its segment",
                       zeros ? "zeros" : "bytes that belong to no batch");
    } else {
        (void)snprintf(place->what,
                       sizeof place->what,
                       "in a block of %s; the last batch before it in its segment ends at LSN %llu",
                       zeros ? "zeros" : "bytes that belong to no batch",
                       LLU(known));
    }
    return 0;
}

static int locate_segment(struct locate *locate)
{
    struct weir_place *const place = locate->place;
    struct weir__catalog *const catalog = &locate->offline->catalog;
    if (!weir__catalog_find(catalog, place->asked_lsn, &locate->range)) {
        struct weir__range next;
        if (weir__catalog_next(catalog, place->asked_lsn, &next)) {
            (void)snprintf(place->what,
                           sizeof place->what,
                           "in no segment; the next one begins at LSN %llu",
                           LLU(next.base));
        } else {
            (void)snprintf(place->what, sizeof place->what, "in no segment, and none lies behind");
        }
        return 0;
    }
    const struct weir__range range = locate->range;
    place->found_segment = true;
    place->offset = place->asked_lsn - range.base;
    place->segment_lsn = range.base;
    place->segment_end_lsn = range.end;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    (void)snprintf(place->file, sizeof place->file, "%s", name);

    int code = weir__window_turn(locate->window, range, false, locate->fault);
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    if (code == 0) {
        code = weir__window_copy(locate->window,
                                 range.base,
                                 UINT64_MAX,
                                 bytes,
                                 sizeof bytes,
                                 locate->fault);
    }
    if (code < 0) {
        return code;
    }
    struct weir__segment_header header;
    const char *why = NULL;
    code = weir__segment_header_decode(bytes, &header, &why);
    if (code == WEIR_EFORMAT) {
        return weir__fault_set(locate->fault, code, name, 0, range.base, "%s", why);
    }
    if (locate->newest == NULL) {
        if (code < 0) {
            (void)snprintf(
                place->what,
                sizeof place->what,
                "in a segment whose header does not hold (%s), of a log whose control file is lost",
                why);
            return 0;
        }
        locate->log_id = header.log_id;
        locate->block_bytes = header.block_bytes;
    }
    if (place->offset < locate->block_bytes) {
        (void)snprintf(place->what,
                       sizeof place->what,
                       "in the segment's header%s%s",
                       code < 0 ? ", which does not hold: " : "",
                       code < 0 ? why : "");
        return 0;
    }
    if (range.base % locate->block_bytes != 0 || range.end % locate->block_bytes != 0) {
        (void)snprintf(place->what,
                       sizeof place->what,
                       "in a segment that does not fit the log's blocks");
        return 0;
    }
    return locate_walk(locate);
}

int weir_locate(const char *dir,
                weir_lsn lsn,
                struct weir_place *place_out,
                struct weir_error *error_out)
{
    if (dir == NULL || place_out == NULL) {
        return offline_refuse(error_out, dir == NULL ? "dir" : "place_out");
    }
    struct offline offline;
    struct weir__fault fault = WEIR__FAULT_NONE;
    struct weir_place place = {.asked_lsn = lsn};
    struct locate locate = {.offline = &offline, .place = &place, .fault = &fault};
    int code = offline_open(&offline, dir, true, &fault);
    if (code == 0) {
        code = offline_look(&offline, &fault);
        if (code == 0) {
            const struct weir__control *const control =
                &offline.control.copy[offline.control.newest];
            locate.newest = &control->epoch;
            locate.log_id = control->log_id;
            locate.block_bytes = control->block_bytes;
        } else if (code == WEIR_ECORRUPT) {
            /* The segments still say enough. */
            fault = WEIR__FAULT_NONE;
            code = 0;
        }
    }
    if (code == 0) {
        const struct weir__window_config config = {.dir = &offline.dir, .depth = 1};
        code = weir__window_open(&config, &locate.window);
    }
    if (code == 0) {
        code = locate_segment(&locate);
        weir__window_close(locate.window);
    }
    if (code == 0) {
        *place_out = place;
    }
    return offline_finish(&offline, code, &fault, error_out);
}

/* ---- salvage and copy ------------------------------------------------------------------------ */

int weir_salvage(const char *dir,
                 const char *new_dir,
                 void (*on_gap)(void *ctx, const struct weir_gap *gap),
                 void (*progress)(void *ctx, uint64_t done, uint64_t total),
                 void *ctx,
                 struct weir_copy_report *report_out,
                 struct weir_error *error_out)
{
    if (dir == NULL || new_dir == NULL || report_out == NULL) {
        return offline_refuse(error_out,
                              dir == NULL       ? "dir"
                              : new_dir == NULL ? "new_dir"
                                                : "report_out");
    }
    struct offline offline;
    struct weir__fault fault = WEIR__FAULT_NONE;
    /* Through the page cache: what a damaged device gives once is kept. */
    int code = offline_open(&offline, dir, false, &fault);
    if (code == 0 && weir__dir_writer_live(&offline.dir)) {
        code = weir__fault_set(&fault,
                               -EBUSY,
                               WEIR__LOCK_NAME,
                               UINT64_MAX,
                               UINT64_MAX,
                               "a writer has the log open: close it first, or use copy");
    }
    if (code == 0) {
        const struct weir__rewrite_config config = {
            .from = &offline.dir,
            .to_path = new_dir,
            .salvage = true,
            .limit = UINT64_MAX,
            .gap = on_gap,
            .progress = progress,
            .ctx = ctx,
        };
        code = weir__rewrite(&config, report_out, &fault);
    }
    return offline_finish(&offline, code, &fault, error_out);
}

int weir_copy(const char *dir,
              const char *new_dir,
              void (*progress)(void *ctx, uint64_t done, uint64_t total),
              void *ctx,
              struct weir_copy_report *report_out,
              struct weir_error *error_out)
{
    if (dir == NULL || new_dir == NULL || report_out == NULL) {
        return offline_refuse(error_out,
                              dir == NULL       ? "dir"
                              : new_dir == NULL ? "new_dir"
                                                : "report_out");
    }
    struct offline offline;
    struct weir__fault fault = WEIR__FAULT_NONE;
    int code = offline_open(&offline, dir, true, &fault);
    bool again = code == 0;
    weir_lsn durable = 0; /* at the call: what is copied at least */
    for (int i = 0; again && i < OFFLINE_TRIES; i++) {
        fault = WEIR__FAULT_NONE;
        code = offline_look(&offline, &fault);
        if (code != 0) {
            break;
        }
        if (offline.live) {
            durable = weir__max_u64(durable, offline.durable);
        }
        const struct weir__rewrite_config config = {
            .from = &offline.dir,
            .to_path = new_dir,
            .limit = offline.live ? weir__max_u64(durable, 1) : UINT64_MAX,
            .durable = durable,
            .progress = progress,
            .ctx = ctx,
        };
        code = weir__rewrite(&config, report_out, &fault);
        again = code == WEIR_EPASSED ||
                ((code == -ENOENT || code == WEIR_ECORRUPT || code == WEIR_EUNREADABLE) &&
                 offline_moved(&offline));
    }
    return offline_finish(&offline, code, &fault, error_out);
}
