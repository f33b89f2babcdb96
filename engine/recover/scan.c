/* SPDX-License-Identifier: Apache-2.0
 * Where the log ends, and why there.
 *
 * The happy path:
 *   1. the control file gives a position and the highest promises; the names in the directory give
 * the segments;
 *   2. the segments from the oldest LSN to the position must lie end to end;
 *   3. batches are judged and read through the window for as long as each continues the one before,
 * in its segment or as the first batch of the next one;
 *   4. at the first that does not, the promises seen so far decide, and if they lie below,
 * everything behind is searched, block by block, for a batch of the newest epoch that knows of a
 * higher one;
 *   5. what was found behind gives the verdict its name.
 * Points 4 and 5 are scan_behind.c.
 *
 * What can fail: reading. A block that cannot be read is never an end of the log; it is reported
 * and nothing is decided behind it. Memory is one window and the list of names. Every loop moves on
 * by at least a block. One thread. */
#include "recover/scan_state.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/compiler.h"
#include "base/num.h"
#include "base/plant.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SCAN_PROGRESS_BYTES ((uint64_t)4 << 20)
/* An epoch beyond this is not an epoch but bytes that look like one; the opener counts on from the
 * largest. */
#define SCAN_EPOCH_MAX ((uint64_t)1 << 62)
/* What the window holds by default: four chunks of 1 MiB. */
#define SCAN_WINDOW_BYTES (((uint64_t)4 << 20) / WEIR__CHUNKS_SMALLER)

#define LLU(v) ((unsigned long long)(v))

/* ---- verdicts ---- */

/* Adds to the sentence. */
void weir__scan_why(struct weir__scan_state *scan, const char *format, ...)
{
    char *const why = scan->result->report.why;
    const size_t room = sizeof scan->result->report.why;
    const size_t have = strlen(why);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why + have, room - have, format, args);
    va_end(args);
}

/* The fault becomes the report's error: of a log that is corrupt or cannot be read, not of the
 * scan. */
static int scan_decide(struct weir__scan_state *scan,
                       enum weir_verdict verdict,
                       weir_lsn bad_lsn,
                       const struct weir__fault *fault)
{
    struct weir_report *const report = &scan->result->report;
    report->verdict = verdict;
    report->bad_lsn = bad_lsn;
    struct weir_error *const error = &report->error;
    error->code = fault->code;
    error->system_code =
        fault->code < 0 && fault->code >= -4095 ? -fault->code : fault->system_code;
    error->offset = fault->offset;
    error->lsn = fault->lsn;
    (void)snprintf(error->file, sizeof error->file, "%s", fault->file);
    (void)snprintf(error->text, sizeof error->text, "%s", fault->text);
    return WEIR__SCAN_DECIDED;
}

/* Damage at bad_lsn; the text goes into the error and the sentence. range.end == range.base: the
 * file is not known. */
int weir__scan_corrupt(struct weir__scan_state *scan,
                       struct weir__range range,
                       weir_lsn bad_lsn,
                       const char *format,
                       ...)
{
    char name[WEIR__SEGMENT_NAME_BYTES] = "";
    uint64_t offset = UINT64_MAX;
    if (range.end > range.base) {
        weir__segment_name(range.base, range.end, name);
        offset = bad_lsn - range.base;
    }
    char text[sizeof((struct weir__fault *)0)->text];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct weir__fault fault = WEIR__FAULT_NONE;
    (void)weir__fault_set(&fault, WEIR_ECORRUPT, name, offset, bad_lsn, "%s", text);
    weir__scan_why(scan, "%s", text);
    return scan_decide(scan, WEIR_VERDICT_CORRUPT, bad_lsn, &fault);
}

/* What a failed call on a segment means: unreadable and short files are verdicts, the rest are
 * failures of the scan. */
int weir__scan_failed(struct weir__scan_state *scan,
                      int code,
                      struct weir__range range,
                      const struct weir__fault *fault)
{
    if (code == WEIR_EUNREADABLE) {
        const weir_lsn lsn = fault->lsn == UINT64_MAX ? range.base : fault->lsn;
        weir__scan_why(scan, "the block at LSN %llu cannot be read: %s", LLU(lsn), fault->text);
        return scan_decide(scan, WEIR_VERDICT_UNREADABLE, lsn, fault);
    }
    if (code == WEIR_ECORRUPT) {
        const weir_lsn lsn = fault->lsn == UINT64_MAX ? range.base : fault->lsn;
        weir__scan_why(scan, "segment %s: %s", fault->file, fault->text);
        return scan_decide(scan, WEIR_VERDICT_CORRUPT, lsn, fault);
    }
    if (scan->fault != NULL && scan->fault->code == 0) {
        *scan->fault = *fault;
        scan->fault->code = code;
    }
    return code;
}

void weir__scan_promise(struct weir__scan_state *scan,
                        weir_lsn promise,
                        enum weir__scan_witness witness,
                        weir_lsn at)
{
    if (promise > scan->promise) {
        scan->promise = promise;
        scan->witness = witness;
        scan->promise_at = at;
    }
}

void weir__scan_epoch_seen(struct weir__scan_state *scan, uint64_t epoch)
{
    if (epoch > scan->result->epoch_max && epoch < SCAN_EPOCH_MAX) {
        scan->result->epoch_max = epoch;
    }
}

/* ---- progress ---- */

/* Says how far the reading is, now that it stands at lsn of a segment. Segments are walked upwards.
 */
void weir__scan_progress(struct weir__scan_state *scan, size_t index, weir_lsn lsn)
{
    if (scan->config->progress == NULL) {
        return;
    }
    while (scan->progress_index < index) {
        const struct weir__range passed = scan->ranges[scan->progress_index];
        if (passed.end > scan->progress_from) {
            scan->progress_before += passed.end - weir__max_u64(passed.base, scan->progress_from);
        }
        scan->progress_index++;
    }
    const weir_lsn from = weir__max_u64(scan->ranges[index].base, scan->progress_from);
    const uint64_t done = scan->progress_before + (lsn > from ? lsn - from : 0);
    if (done - scan->progress_said >= SCAN_PROGRESS_BYTES && done < scan->progress_total) {
        scan->progress_said = done;
        scan->config->progress(scan->config->ctx, done, scan->progress_total);
    }
}

static void scan_progress_begin(struct weir__scan_state *scan, weir_lsn from)
{
    scan->progress_from = from;
    for (size_t i = 0; i < scan->count; i++) {
        if (scan->ranges[i].end > from) {
            scan->progress_total += scan->ranges[i].end - weir__max_u64(scan->ranges[i].base, from);
        }
    }
}

/* ---- segments ---- */

bool weir__scan_aligned(const struct weir__scan_state *scan, struct weir__range range)
{
    return range.base % scan->block_bytes == 0 && range.end % scan->block_bytes == 0 &&
           range.end - range.base >= 2 * (uint64_t)scan->block_bytes;
}

/* Takes the catalog's list. It is judged as it stood at one moment. */
static int scan_list(struct weir__scan_state *scan)
{
    const int result =
        weir__catalog_copy(scan->config->catalog, scan->dir->mem, &scan->ranges, &scan->count);
    scan->room = scan->count * sizeof *scan->ranges;
    return result;
}

/* The segment that a position belongs to: the one that holds the byte before it. */
static size_t scan_holder(const struct weir__scan_state *scan, weir_lsn lsn)
{
    for (size_t i = 0; i < scan->count && scan->ranges[i].base < lsn; i++) {
        if (lsn <= scan->ranges[i].end) {
            return i;
        }
    }
    return WEIR__SCAN_NONE;
}

/* The first segment that begins at lsn. Several can: leftovers of another size. */
static size_t scan_beginning_at(const struct weir__scan_state *scan, weir_lsn lsn, size_t from)
{
    for (size_t i = from; i < scan->count && scan->ranges[i].base <= lsn; i++) {
        if (scan->ranges[i].base == lsn) {
            return i;
        }
    }
    return WEIR__SCAN_NONE;
}

/* Segments must lie end to end from `from` to `to`. */
static int scan_cover(struct weir__scan_state *scan, weir_lsn from, weir_lsn to)
{
    weir_lsn covered = from;
    for (size_t i = 0; covered < to; i++) {
        if (i < scan->count && scan->ranges[i].end <= covered) {
            continue; /* below, or a stray that another one covers */
        }
        if (i == scan->count || scan->ranges[i].base > covered) {
            struct weir__range missing = {covered, to};
            if (i < scan->count && scan->ranges[i].base < to) {
                missing.end = scan->ranges[i].base;
            }
            scan->result->report.evidence_lsn = to;
            return weir__scan_corrupt(scan,
                                      missing,
                                      missing.base,
                                      "a segment is missing: no file holds LSN %llu up to %llu",
                                      LLU(missing.base),
                                      LLU(missing.end));
        }
        const struct weir__range range = scan->ranges[i];
        if (!weir__scan_aligned(scan, range)) {
            return weir__scan_corrupt(scan,
                                      range,
                                      range.base,
                                      "a segment's name does not fit the log's blocks of %u bytes",
                                      scan->block_bytes);
        }
        if (i + 1 < scan->count && scan->ranges[i + 1].base < range.end &&
            scan->ranges[i + 1].base < to) {
            const struct weir__range other = scan->ranges[i + 1];
            return weir__scan_corrupt(
                scan,
                other,
                other.base,
                "two segments hold LSN %llu: one from %llu to %llu, one from %llu to %llu",
                LLU(other.base),
                LLU(range.base),
                LLU(range.end),
                LLU(other.base),
                LLU(other.end));
        }
        covered = range.end;
    }
    return WEIR__SCAN_GO_ON;
}

int weir__scan_header_read(struct weir__scan_state *scan,
                           struct weir__range range,
                           uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES],
                           struct weir__fault *fault)
{
    const int result = weir__window_turn(scan->window, range, true, fault);
    if (result < 0) {
        return result;
    }
    return weir__window_copy(scan->window,
                             range.base,
                             UINT64_MAX,
                             bytes,
                             WEIR__SEGMENT_HEADER_BYTES,
                             fault);
}

/* What a segment's header says. *why_out is NULL when it is one of this log and agrees with the
 * name, else a phrase. WEIR_EFORMAT: written by a build that knows more than this one. */
int weir__scan_header_judge(struct weir__scan_state *scan,
                            struct weir__range range,
                            const uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES],
                            struct weir__segment_header *header_out,
                            const char **why_out)
{
    const int result = weir__segment_header_decode(bytes, header_out, why_out);
    if (result == WEIR_EFORMAT) {
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(range.base, range.end, name);
        return weir__fault_set(scan->fault, WEIR_EFORMAT, name, 0, range.base, "%s", *why_out);
    }
    if (result < 0) {
        return WEIR__SCAN_GO_ON;
    }
    *why_out = NULL;
    if (header_out->log_id != scan->control->log_id) {
        *why_out = "it is of another log";
        return WEIR__SCAN_GO_ON;
    }
    weir__scan_epoch_seen(scan, header_out->epoch);
    if (header_out->base != range.base || header_out->bytes != range.end - range.base) {
        *why_out = "it names other LSNs than the file's name";
    } else if (header_out->block_bytes != scan->block_bytes) {
        *why_out = "it has another block size";
    }
    return WEIR__SCAN_GO_ON;
}

/* A segment that holds part of the log must say so itself. Makes it the current one. */
static int scan_enter(struct weir__scan_state *scan,
                      size_t index,
                      const uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES])
{
    const struct weir__range range = scan->ranges[index];
    struct weir__segment_header header;
    const char *why = NULL;
    const int step = weir__scan_header_judge(scan, range, bytes, &header, &why);
    if (step != WEIR__SCAN_GO_ON) {
        return step;
    }
    if (why != NULL) {
        return weir__scan_corrupt(scan,
                                  range,
                                  range.base,
                                  "the header of the segment at LSN %llu does not hold: %s",
                                  LLU(range.base),
                                  why);
    }
    scan->index = index;
    scan->number = header.number;
    return WEIR__SCAN_GO_ON;
}

/* The segment in which the scan begins. */
static int scan_enter_first(struct weir__scan_state *scan, size_t index)
{
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    struct weir__fault fault = WEIR__FAULT_NONE;
    const int result = weir__scan_header_read(scan, scan->ranges[index], bytes, &fault);
    if (result < 0) {
        return weir__scan_failed(scan, result, scan->ranges[index], &fault);
    }
    return scan_enter(scan, index, bytes);
}

/* ---- batches ---- */

/* Reads and checks what stands behind a header that continues the position. What does not hold is
 * in the finding. */
static int scan_body(struct weir__scan_state *scan, struct weir__scan_finding *finding)
{
    struct weir__batch_check check;
    weir__batch_check_begin(&check, &finding->batch, scan->block_bytes);
    weir_lsn at = finding->lsn + WEIR__BATCH_HEADER_BYTES;
    const weir_lsn end = weir__align_up(at + finding->batch.bytes, scan->block_bytes);
    int result = 0;
    while (at < end && result == 0) {
        const uint8_t *data = NULL;
        size_t bytes = 0;
        result = weir__window_peek(scan->window, at, UINT64_MAX, &data, &bytes, &finding->fault);
        if (result < 0) {
            return result;
        }
        weir__check(bytes > 0);
        bytes = (size_t)weir__min_u64(bytes, end - at);
        result = weir__batch_check_feed(&check, data, bytes);
        if (result == 0 && scan->config->piece != NULL && !scan->quiet) {
            scan->said = scan->config->piece(scan->config->ctx, &finding->batch, at, data, bytes);
            if (scan->said != 0) {
                return WEIR__SCAN_STOPPED;
            }
        }
        at += bytes;
    }
    if (result == 0) {
        result = weir__batch_check_end(&check);
    }
    if (result != 0) {
        finding->body = true;
        finding->why = check.why;
        finding->frame_lsn = check.frame_lsn;
    }
    return 0;
}

/* Looks at one place where the batch that is due may stand. The window has turned to its segment. A
 * block that cannot be read is put into the finding: the batch may stand at the other place. */
static int scan_look_in(struct weir__scan_state *scan, struct weir__scan_finding *finding)
{
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    int result = weir__window_copy(scan->window,
                                   finding->lsn,
                                   UINT64_MAX,
                                   header,
                                   sizeof header,
                                   &finding->fault);
    if (result == 0) {
        finding->looked = true;
        finding->verdict = weir__batch_judge(header,
                                             finding->lsn,
                                             finding->range.end,
                                             scan->block_bytes,
                                             scan->control->log_id,
                                             &scan->at,
                                             &scan->control->epoch,
                                             &finding->batch,
                                             &finding->why);
        if (finding->verdict == WEIR__BATCH_OK || finding->verdict == WEIR__BATCH_STALE ||
            finding->verdict == WEIR__BATCH_UNCHAINED) {
            weir__scan_epoch_seen(scan, finding->batch.epoch);
        }
        if (finding->verdict != WEIR__BATCH_OK) {
            return WEIR__SCAN_GO_ON;
        }
        if (weir__batch_end(&finding->batch, scan->block_bytes) > scan->limit) {
            finding->beyond_limit = true;
            return WEIR__SCAN_GO_ON;
        }
        result = WEIR__PLANTED(frames_not_checked) ? 0 : scan_body(scan, finding);
    }
    if (result == WEIR_EUNREADABLE) {
        finding->looked = false;
        finding->failed = !WEIR__PLANTED(read_error_is_end);
        return WEIR__SCAN_GO_ON;
    }
    return result < 0 ? weir__scan_failed(scan, result, finding->range, &finding->fault) : result;
}

static struct weir__scan_finding finding_at(struct weir__range range, weir_lsn lsn)
{
    return (struct weir__scan_finding){.lsn = lsn, .range = range, .fault = WEIR__FAULT_NONE};
}

/* The same for the position in its own segment. */
static int scan_look_here(struct weir__scan_state *scan,
                          struct weir__range range,
                          weir_lsn lsn,
                          struct weir__scan_finding *finding)
{
    *finding = finding_at(range, lsn);
    const int result = weir__window_turn(scan->window, range, true, &finding->fault);
    return result < 0 ? weir__scan_failed(scan, result, range, &finding->fault)
                      : scan_look_in(scan, finding);
}

static bool finding_accepted(const struct weir__scan_finding *finding)
{
    return finding->looked && finding->verdict == WEIR__BATCH_OK && !finding->body &&
           !finding->beyond_limit;
}

static int scan_accept(struct weir__scan_state *scan, const struct weir__scan_finding *finding)
{
    struct weir_report *const report = &scan->result->report;
    const struct weir__batch *const batch = &finding->batch;
    const weir_lsn before = scan->at.lsn;
    scan->at = weir__position_after(batch, scan->block_bytes);
    weir__check(scan->at.lsn > before);
    report->batches++;
    report->records += batch->records;
    report->bytes_scanned +=
        weir__align_up(batch->lsn + WEIR__BATCH_HEADER_BYTES + batch->bytes, scan->block_bytes) -
        batch->lsn;
    weir__scan_promise(scan, batch->promise, WEIR__SCAN_WITNESS_BATCH, batch->lsn);
    weir__scan_progress(scan, scan->index, scan->at.lsn);
    if (scan->config->batch != NULL) {
        scan->said = scan->config->batch(scan->config->ctx, batch, finding->range);
    }
    return scan->said == 0 ? WEIR__SCAN_GO_ON : WEIR__SCAN_STOPPED;
}

/* The first batch of the segment that begins where the position's ends. Of several candidates the
 * first that continues counts, also where it ends above the limit; else the first that cannot be
 * read, for it might; else the first. */
static int scan_next_segment(struct weir__scan_state *scan, struct weir__scan_stop *stop)
{
    stop->next_base = scan->index == WEIR__SCAN_NONE ? scan->at.lsn : scan->ranges[scan->index].end;
    size_t index = scan_beginning_at(scan, stop->next_base, 0);
    struct weir__scan_finding finding;
    for (; index != WEIR__SCAN_NONE; index = scan_beginning_at(scan, stop->next_base, index + 1)) {
        const struct weir__range range = scan->ranges[index];
        const weir_lsn first = range.base + scan->block_bytes;
        if (!weir__scan_aligned(scan, range) || first >= scan->limit) {
            continue;
        }
        finding = finding_at(range, first);
        uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
        const int result = weir__scan_header_read(scan, range, bytes, &finding.fault);
        if (result == WEIR_EUNREADABLE || result == WEIR_ECORRUPT) {
            finding.failed = true;
        } else if (result < 0) {
            return weir__scan_failed(scan, result, range, &finding.fault);
        } else {
            int step = scan_look_in(scan, &finding);
            if (step == WEIR__SCAN_GO_ON && finding_accepted(&finding)) {
                step = scan_enter(scan, index, bytes);
                stop->there = finding;
                return step;
            }
            if (step != WEIR__SCAN_GO_ON) {
                return step;
            }
            if (finding.beyond_limit) {
                stop->there = finding;
                return WEIR__SCAN_GO_ON;
            }
        }
        if (!stop->there.failed && (finding.failed || !stop->there.looked)) {
            stop->there = finding;
        }
    }
    return WEIR__SCAN_GO_ON;
}

/* Accepts batches up to the first that does not continue. */
static int scan_batches(struct weir__scan_state *scan, struct weir__scan_stop *stop)
{
    for (;;) {
        *stop = (struct weir__scan_stop){.limited = scan->at.lsn >= scan->limit};
        if (stop->limited) {
            return WEIR__SCAN_GO_ON;
        }
        int step;
        if (scan->index != WEIR__SCAN_NONE && scan->at.lsn < scan->ranges[scan->index].end) {
            step = scan_look_here(scan, scan->ranges[scan->index], scan->at.lsn, &stop->here);
            if (step != WEIR__SCAN_GO_ON) {
                return step;
            }
        }
        const struct weir__scan_finding *next = &stop->here;
        if (!finding_accepted(next)) {
            step = scan_next_segment(scan, stop);
            if (step != WEIR__SCAN_GO_ON) {
                return step;
            }
            next = &stop->there;
        }
        if (!finding_accepted(next)) {
            stop->limited = stop->here.beyond_limit || stop->there.beyond_limit;
            return WEIR__SCAN_GO_ON;
        }
        step = scan_accept(scan, next);
        if (step != WEIR__SCAN_GO_ON) {
            return step;
        }
    }
}

/* ---- where to begin ---- */

/* A header at the first place of a segment that is not the log's first. */
static bool scan_anchor_sound(const struct weir__scan_state *scan,
                              struct weir__range range,
                              const uint8_t header[WEIR__BATCH_HEADER_BYTES],
                              struct weir__batch *batch_out)
{
    return weir__batch_decode(header, batch_out) &&
           batch_out->lsn == range.base + scan->block_bytes &&
           batch_out->log_id == scan->control->log_id && batch_out->prev_end <= range.base;
}

/* Is there one, and does its whole batch hold? What stands in the way is met again. A header alone
 * is no anchor: the batch may be the log's torn end, above every promise, or one that was cut. */
static bool scan_anchor_there(struct weir__scan_state *scan, size_t index)
{
    const struct weir__range range = scan->ranges[index];
    const weir_lsn first = range.base + scan->block_bytes;
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    struct weir__batch batch;
    if (!weir__scan_aligned(scan, range) ||
        weir__window_turn(scan->window, range, true, NULL) != 0 ||
        weir__window_copy(scan->window, first, UINT64_MAX, header, sizeof header, NULL) != 0 ||
        !scan_anchor_sound(scan, range, header, &batch)) {
        return false;
    }
    const struct weir__position at = scan->at;
    struct weir__scan_finding finding = finding_at(range, first);
    scan->at = weir__position_before(&batch);
    scan->quiet = true;
    const int step = scan_look_in(scan, &finding);
    scan->quiet = false;
    scan->at = at;
    return step == WEIR__SCAN_GO_ON && (finding_accepted(&finding) || finding.beyond_limit);
}

/* The first batch of the oldest segment is its own anchor: what it says it continues was trimmed.
 */
static int scan_anchor(struct weir__scan_state *scan, size_t index)
{
    const struct weir__range range = scan->ranges[index];
    const weir_lsn first = range.base + scan->block_bytes;
    int step = scan_enter_first(scan, index);
    if (step != WEIR__SCAN_GO_ON) {
        return step;
    }
    struct weir__fault fault = WEIR__FAULT_NONE;
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    const int result =
        weir__window_copy(scan->window, first, UINT64_MAX, header, sizeof header, &fault);
    if (result < 0) {
        return weir__scan_failed(scan, result, range, &fault);
    }
    struct weir__batch batch;
    const bool sound = scan_anchor_sound(scan, range, header, &batch);
    struct weir__scan_finding finding = {.why = "no sound header"};
    if (sound) {
        scan->at = weir__position_before(&batch);
        scan->result->begin = scan->at;
        scan->result->report.scan_from_lsn = first;
        step = scan_look_here(scan, range, first, &finding);
        if (step != WEIR__SCAN_GO_ON) {
            return step;
        }
        if (finding.failed) {
            return weir__scan_failed(scan, finding.fault.code, range, &finding.fault);
        }
        if (finding.beyond_limit) {
            weir__scan_why(scan,
                           "the limit, LSN %llu, lies within the first batch",
                           LLU(scan->limit));
            scan->result->report.verdict = WEIR_VERDICT_CLEAN;
            return WEIR__SCAN_DECIDED;
        }
        if (finding_accepted(&finding)) {
            return scan_accept(scan, &finding);
        }
    }
    scan->at = (struct weir__position){.lsn = first};
    scan->result->report.evidence_lsn = scan->promise;
    return weir__scan_corrupt(
        scan,
        range,
        first,
        "the first batch of the oldest segment, at LSN %llu, does not verify (%s)",
        LLU(first),
        finding.why);
}

/* The log's first segment is still there: its first batch continues the origin, with a chain of 0
 * and whatever epoch was the newest then. The origin is the first place for a batch; the segment's
 * base will do as well, since nothing lies between. */
static int scan_origin(struct weir__scan_state *scan, size_t index)
{
    const struct weir__range range = scan->ranges[index];
    const weir_lsn first = range.base + scan->block_bytes;
    int step = scan_enter_first(scan, index);
    if (step != WEIR__SCAN_GO_ON) {
        return step;
    }
    struct weir__fault fault = WEIR__FAULT_NONE;
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    struct weir__batch batch;
    const int result =
        weir__window_copy(scan->window, first, UINT64_MAX, header, sizeof header, &fault);
    scan->at = (struct weir__position){.lsn = first};
    if (result == 0 && weir__batch_decode(header, &batch) && batch.lsn == first &&
        batch.prev_end == range.base) {
        scan->at.lsn = range.base;
        scan->index = WEIR__SCAN_NONE;
    }
    scan->result->begin = scan->at;
    return WEIR__SCAN_GO_ON; /* a block that cannot be read is met again */
}

/* Chooses the start, sees to it that the segments up to there are complete, and enters its segment.
 */
static int scan_begin(struct weir__scan_state *scan)
{
    struct weir_report *const report = &scan->result->report;
    const struct weir__control *const control = scan->control;
    const weir_lsn oldest = weir__max_u64(control->oldest_lsn, control->first_lsn);
    const weir_lsn origin = control->first_lsn + scan->block_bytes;

    scan->at = control->checkpoint;
    scan->index = scan_holder(scan, scan->at.lsn);
    const bool checkpoint_held = scan->index != WEIR__SCAN_NONE ||
                                 scan_beginning_at(scan, scan->at.lsn, 0) != WEIR__SCAN_NONE;
    size_t oldest_index = WEIR__SCAN_NONE; /* the segment that holds the oldest LSN */
    for (size_t i = 0; i < scan->count && scan->ranges[i].base <= oldest; i++) {
        if (oldest < scan->ranges[i].end) {
            oldest_index = i;
            break;
        }
    }
    bool from_checkpoint = oldest_index == WEIR__SCAN_NONE;
    if (!from_checkpoint) {
        const struct weir__range range = scan->ranges[oldest_index];
        if (!scan->config->from_oldest) {
            from_checkpoint = scan->at.lsn >= oldest || checkpoint_held;
        } else if (checkpoint_held && scan->at.lsn <= range.base + scan->block_bytes) {
            /* A checkpoint below the oldest segment serves only where that one has no sound batch
             * yet: a live writer may give up what lies below at any time. */
            from_checkpoint = scan->at.lsn >= range.base || !scan_anchor_there(scan, oldest_index);
        }
    }

    if (!from_checkpoint) {
        const struct weir__range range = scan->ranges[oldest_index];
        report->scan_from_lsn = range.base + scan->block_bytes;
        scan_progress_begin(scan, range.base);
        /* A hole in the middle of the names is found before anything is read. */
        const weir_lsn covered_to = weir__max_u64(scan->at.lsn, oldest);
        scan->index = oldest_index;
        scan->at = (struct weir__position){.lsn = range.base};
        scan->result->begin = scan->at;
        const int step = scan_cover(scan, oldest, covered_to);
        if (step != WEIR__SCAN_GO_ON) {
            return step;
        }
        return range.base == control->first_lsn ? scan_origin(scan, oldest_index)
                                                : scan_anchor(scan, oldest_index);
    }

    report->scan_from_lsn = scan->at.lsn;
    scan->result->begin = scan->at;
    scan_progress_begin(scan, scan->at.lsn);
    /* A log that has nothing yet needs no segment: they are made after the control file. */
    if (scan->at.lsn > origin && oldest < scan->at.lsn) {
        const int step = scan_cover(scan, oldest, scan->at.lsn);
        if (step != WEIR__SCAN_GO_ON) {
            return step;
        }
    }
    return scan->index == WEIR__SCAN_NONE ? WEIR__SCAN_GO_ON : scan_enter_first(scan, scan->index);
}

/* All that was promised before a batch is looked at. An earlier epoch's word holds up to the newest
 * one's start. */
static void scan_promises(struct weir__scan_state *scan)
{
    const struct weir__control_found *const found = scan->config->control;
    const struct weir__control *const newest = scan->control;
    weir__scan_promise(scan, newest->promise, WEIR__SCAN_WITNESS_CONTROL, newest->promise);
    const struct weir__control *const other = &found->copy[found->newest ^ 1];
    if (found->valid[found->newest ^ 1]) {
        weir__scan_epoch_seen(scan, other->epoch.epoch);
        const bool same =
            other->epoch.epoch == newest->epoch.epoch && other->epoch.nonce == newest->epoch.nonce;
        const weir_lsn promise =
            same ? other->promise : weir__min_u64(other->promise, newest->epoch.lsn);
        weir__scan_promise(scan, promise, WEIR__SCAN_WITNESS_CONTROL, promise);
    }
    weir__scan_promise(scan, newest->epoch.lsn, WEIR__SCAN_WITNESS_EPOCH, newest->epoch.lsn);
    weir__scan_promise(scan,
                       newest->checkpoint.lsn,
                       (newest->flags & WEIR__CONTROL_CLEAN) != 0 ? WEIR__SCAN_WITNESS_CLOSE
                                                                  : WEIR__SCAN_WITNESS_CHECKPOINT,
                       newest->checkpoint.lsn);
    weir__scan_promise(scan,
                       scan->config->durable,
                       WEIR__SCAN_WITNESS_CALLER,
                       scan->config->durable);
}

/* ---- the whole ---- */

/* A log that came past its origin has a segment that holds its end, or one that begins there: the
 * one that holds the byte before a checkpoint is never given up. */
static int scan_end_held(struct weir__scan_state *scan)
{
    const weir_lsn end = scan->at.lsn;
    if (end <= scan->control->first_lsn + scan->block_bytes || scan->index != WEIR__SCAN_NONE ||
        scan_beginning_at(scan, end, 0) != WEIR__SCAN_NONE) {
        return WEIR__SCAN_GO_ON;
    }
    return weir__scan_corrupt(scan,
                              (struct weir__range){end, end},
                              end,
                              "a segment is missing: no file holds the log's end, LSN %llu",
                              LLU(end));
}

static int scan_run(struct weir__scan_state *scan)
{
    struct weir__scan_stop stop;
    int step = scan_begin(scan);
    if (step == WEIR__SCAN_GO_ON) {
        step = scan_batches(scan, &stop);
    }
    if (step == WEIR__SCAN_GO_ON) {
        /* The segments that were entered on the way lie end to end; a second file over one of them
         * may not. */
        const struct weir__control *const control = scan->control;
        const weir_lsn oldest = weir__max_u64(control->oldest_lsn, control->first_lsn);
        if (scan->at.lsn > control->first_lsn + scan->block_bytes && oldest < scan->at.lsn) {
            step = scan_cover(scan, oldest, scan->at.lsn);
        }
    }
    if (step == WEIR__SCAN_GO_ON) {
        step = scan_end_held(scan);
    }
    if (step == WEIR__SCAN_GO_ON) {
        step = weir__scan_judge_end(scan, &stop);
    }
    return step == WEIR__SCAN_STOPPED ? scan->said : step < 0 ? step : 0;
}

static void scan_finish(struct weir__scan_state *scan)
{
    struct weir__scan_result *const result = scan->result;
    struct weir_report *const report = &result->report;
    const struct weir__control_found *const found = scan->config->control;
    const struct weir__control *const control = scan->control;

    result->end = scan->at;
    result->segment_number = scan->number;
    if (scan->index != WEIR__SCAN_NONE) {
        result->segment = scan->ranges[scan->index];
    } else {
        const weir_lsn base = scan->at.lsn == control->first_lsn + scan->block_bytes
                                  ? control->first_lsn
                                  : scan->at.lsn;
        result->segment = (struct weir__range){base, base};
    }
    report->oldest_lsn = control->oldest_lsn;
    report->end_lsn = scan->at.lsn;
    report->promise_lsn = scan->promise;
    report->epoch = control->epoch.epoch;
    report->log_id = control->log_id;
    for (size_t i = 0; i < scan->count; i++) {
        if (scan->ranges[i].base < scan->at.lsn && scan->ranges[i].end > control->oldest_lsn) {
            report->segments++;
        }
    }
    if (!found->valid[found->newest ^ 1]) {
        weir__scan_why(scan, "; copy %d of the control file is lost", found->newest ^ 1);
    }
    if (scan->config->progress != NULL) {
        scan->config->progress(scan->config->ctx, scan->progress_total, scan->progress_total);
    }
}

/* A small log does not need large chunks. */
static int scan_window_open(struct weir__scan_state *scan)
{
    struct weir__window_config config = {.dir = scan->dir};
    uint64_t bytes = 0;
    for (size_t i = 0; i < scan->count && bytes < SCAN_WINDOW_BYTES; i++) {
        bytes += weir__min_u64(scan->ranges[i].end - scan->ranges[i].base, SCAN_WINDOW_BYTES);
    }
    if (bytes < SCAN_WINDOW_BYTES) {
        config.chunk_bytes = (size_t)(bytes / 4 + 1); /* rounded up to what the window likes */
    }
    return weir__window_open(&config, &scan->window);
}

int weir__scan(const struct weir__scan_config *config,
               struct weir__scan_result *result_out,
               struct weir__fault *fault)
{
    weir__check(config->control->newest == 0 || config->control->newest == 1);
    const struct weir__control *const control = &config->control->copy[config->control->newest];
    *result_out = (struct weir__scan_result){
        .epoch_max = control->epoch.epoch,
        .block_bytes = control->block_bytes,
        .newest = control->epoch,
        .report = {.bad_lsn = UINT64_MAX, .evidence_lsn = UINT64_MAX},
    };
    struct weir_error *const error = &result_out->report.error;
    error->offset = UINT64_MAX;
    error->lsn = UINT64_MAX;
    struct weir__scan_state scan = {
        .config = config,
        .result = result_out,
        .fault = fault,
        .dir = config->dir,
        .control = control,
        .block_bytes = control->block_bytes,
        .limit = config->limit == 0 ? UINT64_MAX : config->limit,
        .index = WEIR__SCAN_NONE,
        .number = WEIR__SEGMENT_NONE,
    };
    int result = scan_list(&scan);
    if (result == 0) {
        scan.block = weir__mem_alloc(config->dir->mem, scan.block_bytes, 8);
        result = scan.block == NULL ? -ENOMEM : scan_window_open(&scan);
    }
    if (result == 0) {
        /* A cached page is no evidence of what the disk holds. */
        weir__window_past_cache(scan.window, config->dir->facts.direct_align <= scan.block_bytes);
        if (config->cached) {
            weir__window_cached_below(scan.window, scan.limit);
        }
        scan_promises(&scan);
        result_out->report.writer_live = weir__dir_writer_live(config->dir);
        result = scan_run(&scan);
    } else {
        (void)
            weir__fault_set(fault, result, "", UINT64_MAX, UINT64_MAX, "no memory to scan the log");
    }
    if (result == 0) {
        scan_finish(&scan);
        result_out->report.bytes_cached = weir__window_cached(scan.window);
    }
    if (scan.window != NULL) {
        weir__window_close(scan.window);
    }
    weir__mem_free(config->dir->mem, scan.block, scan.block_bytes);
    weir__mem_free(config->dir->mem, scan.ranges, scan.room);
    return result;
}

int weir__scan_control(struct weir__dir *dir,
                       struct weir__catalog *catalog,
                       struct weir__control_found *found_out,
                       struct weir__fault *fault)
{
    const int result = weir__control_load(dir, found_out, fault);
    if (result < 0 || found_out->newest >= 0) {
        return result;
    }
    if (found_out->exists) {
        return weir__fault_set(
            fault,
            WEIR_ECORRUPT,
            WEIR__CONTROL_NAME,
            0,
            UINT64_MAX,
            "neither copy of the control file verifies; salvage can still read the log");
    }
    if (weir__catalog_count(catalog) > 0) {
        return weir__fault_set(
            fault,
            WEIR_ECORRUPT,
            WEIR__CONTROL_NAME,
            UINT64_MAX,
            UINT64_MAX,
            "there are segments, but no control file; salvage can still read the log");
    }
    return weir__fault_set(fault,
                           WEIR_ENOLOG,
                           "",
                           UINT64_MAX,
                           UINT64_MAX,
                           "the directory holds no log");
}
