/* SPDX-License-Identifier: Apache-2.0
 * Where the log ends, and why there.
 *
 * The happy path:
 *   1. the control file gives a position and the highest promises; the names in the directory give the segments;
 *   2. the segments from the oldest LSN to the position must lie end to end;
 *   3. batches are judged and read through the window for as long as each continues the one before, in its segment or as
 *      the first batch of the next one;
 *   4. at the first that does not, the promises seen so far decide, and if they lie below, everything behind is searched,
 *      block by block, for a batch of the newest epoch that knows of a higher one;
 *   5. what was found behind gives the verdict its name.
 * Only what a checksum covers is believed, and only batches of the newest epoch are witnesses: bytes of an earlier epoch
 * say nothing about what was promised later, and below the newest epoch's start everything was promised when it began.
 *
 * What can fail: reading. A block that cannot be read is never an end of the log; it is reported and nothing is decided
 * behind it. Memory is one window and the list of names. Every loop moves on by at least a block. One thread. */
#include "recover/scan.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/num.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SCAN_PROGRESS_BYTES ((uint64_t)4 << 20)
/* An epoch beyond this is not an epoch but bytes that look like one; the opener counts on from the largest. */
#define SCAN_EPOCH_MAX ((uint64_t)1 << 62)
/* What the window holds by default: four chunks of 1 MiB. */
#define SCAN_WINDOW_BYTES ((uint64_t)4 << 20)
#define SCAN_NONE SIZE_MAX

/* What the steps below return, as int; negative: the scan itself failed. */
enum scan_step {
    SCAN_GO_ON = 0,
    SCAN_DECIDED, /* the verdict is in the report */
    SCAN_STOPPED, /* a callback said so: scan->said */
};

/* Who promised. */
enum scan_witness {
    SCAN_WITNESS_NONE,
    SCAN_WITNESS_CONTROL,
    SCAN_WITNESS_CLOSE,
    SCAN_WITNESS_EPOCH,
    SCAN_WITNESS_CHECKPOINT,
    SCAN_WITNESS_CALLER,
    SCAN_WITNESS_BATCH,
};

/* What stands at a place where a batch could be. */
struct scan_finding {
    bool looked;       /* there was such a place, and it could be read */
    bool failed;       /* there was, and it could not: fault */
    bool beyond_limit; /* a batch that continues, but ends above the limit */
    bool body;         /* the header continues the position, what stands behind it does not hold */
    enum weir__batch_verdict verdict;
    const char *why; /* static */
    weir_lsn lsn;
    weir_lsn frame_lsn; /* body: where the frames stopped making sense */
    struct weir__range range;
    struct weir__batch batch;
    struct weir__fault fault; /* failed */
};

/* What the search behind the end saw. */
struct scan_behind {
    bool hole;         /* batches of the newest epoch that nothing leads to */
    weir_lsn hole_lsn; /* the first of them */
    bool torn;         /* bytes that no earlier use explains */
    weir_lsn torn_lsn;
    weir_lsn torn_end; /* end of the last of them, holes included */
    bool stale;        /* bytes of an earlier use */
    weir_lsn stale_lsn;
    uint64_t stale_epoch; /* of a batch that shows it; 0: none did */
};

struct scan {
    const struct weir__scan_config *config;
    struct weir__scan_result *result;
    struct weir__fault *fault;
    struct weir__dir *dir;
    const struct weir__control *control; /* the copy that counts */
    uint32_t block_bytes;
    weir_lsn limit;
    int said; /* by a callback that ended the scan */
    struct weir__window *window;
    uint8_t *block;             /* room for one */
    struct weir__range *ranges; /* the catalog as it was at the start, sorted by base */
    size_t count;
    size_t room;

    struct weir__position at; /* what the next batch must continue */
    size_t index;             /* the segment that holds at.lsn - 1, or SCAN_NONE */
    uint64_t number;          /* of that segment */

    weir_lsn promise;
    weir_lsn promise_at; /* where the witness stands */
    enum scan_witness witness;

    uint64_t progress_total;
    uint64_t progress_before; /* bytes of the segments before progress_index */
    size_t progress_index;
    uint64_t progress_said;
    weir_lsn progress_from;
};

#define LLU(v) ((unsigned long long)(v))

/* ---- verdicts ---- */

static void scan_why(struct scan *scan, const char *format, ...) WEIR__PRINTF(2, 3);

/* Adds to the sentence. */
static void scan_why(struct scan *scan, const char *format, ...)
{
    char *const why = scan->result->report.why;
    const size_t room = sizeof scan->result->report.why;
    const size_t have = strlen(why);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why + have, room - have, format, args);
    va_end(args);
}

/* The fault becomes the report's error: of a log that is corrupt or cannot be read, not of the scan. */
static int scan_decide(struct scan *scan,
                       enum weir_verdict verdict,
                       weir_lsn bad_lsn,
                       const struct weir__fault *fault)
{
    struct weir_report *const report = &scan->result->report;
    report->verdict = verdict;
    report->bad_lsn = bad_lsn;
    struct weir_error *const error = &report->error;
    error->code = fault->code;
    error->system_code = fault->code < 0 && fault->code >= -4095 ? -fault->code : 0;
    error->offset = fault->offset;
    error->lsn = fault->lsn;
    (void)snprintf(error->file, sizeof error->file, "%s", fault->file);
    (void)snprintf(error->text, sizeof error->text, "%s", fault->text);
    return SCAN_DECIDED;
}

/* Damage at bad_lsn; the text goes into the error and the sentence. range.end == range.base: the file is not known. */
static int
scan_corrupt(struct scan *scan, struct weir__range range, weir_lsn bad_lsn, const char *format, ...)
    WEIR__PRINTF(4, 5);

static int
scan_corrupt(struct scan *scan, struct weir__range range, weir_lsn bad_lsn, const char *format, ...)
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
    scan_why(scan, "%s", text);
    return scan_decide(scan, WEIR_VERDICT_CORRUPT, bad_lsn, &fault);
}

/* What a failed call on a segment means: unreadable and short files are verdicts, the rest are failures of the scan. */
static int
scan_failed(struct scan *scan, int code, struct weir__range range, const struct weir__fault *fault)
{
    if (code == WEIR_EUNREADABLE) {
        const weir_lsn lsn = fault->lsn == UINT64_MAX ? range.base : fault->lsn;
        scan_why(scan, "the block at LSN %llu cannot be read: %s", LLU(lsn), fault->text);
        return scan_decide(scan, WEIR_VERDICT_UNREADABLE, lsn, fault);
    }
    if (code == WEIR_ECORRUPT) {
        const weir_lsn lsn = fault->lsn == UINT64_MAX ? range.base : fault->lsn;
        scan_why(scan, "segment %s: %s", fault->file, fault->text);
        return scan_decide(scan, WEIR_VERDICT_CORRUPT, lsn, fault);
    }
    if (scan->fault != NULL && scan->fault->code == 0) {
        *scan->fault = *fault;
        scan->fault->code = code;
    }
    return code;
}

static const char *scan_witness_text(enum scan_witness witness)
{
    switch (witness) {
    case SCAN_WITNESS_CLOSE:
        return "the clean close";
    case SCAN_WITNESS_EPOCH:
        return "the start of the newest epoch";
    case SCAN_WITNESS_CHECKPOINT:
        return "the checkpoint";
    case SCAN_WITNESS_CALLER:
        return "the live writer";
    case SCAN_WITNESS_BATCH:
        return "a later batch";
    case SCAN_WITNESS_CONTROL:
    case SCAN_WITNESS_NONE:
        break;
    }
    return "the control file";
}

static void
scan_promise(struct scan *scan, weir_lsn promise, enum scan_witness witness, weir_lsn at)
{
    if (promise > scan->promise) {
        scan->promise = promise;
        scan->witness = witness;
        scan->promise_at = at;
    }
}

static void scan_epoch_seen(struct scan *scan, uint64_t epoch)
{
    if (epoch > scan->result->epoch_max && epoch < SCAN_EPOCH_MAX) {
        scan->result->epoch_max = epoch;
    }
}

/* ---- progress ---- */

/* Says how far the reading is, now that it stands at lsn of a segment. Segments are walked upwards. */
static void scan_progress(struct scan *scan, size_t index, weir_lsn lsn)
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

static void scan_progress_begin(struct scan *scan, weir_lsn from)
{
    scan->progress_from = from;
    for (size_t i = 0; i < scan->count; i++) {
        if (scan->ranges[i].end > from) {
            scan->progress_total += scan->ranges[i].end - weir__max_u64(scan->ranges[i].base, from);
        }
    }
}

/* ---- segments ---- */

static bool scan_aligned(const struct scan *scan, struct weir__range range)
{
    return range.base % scan->block_bytes == 0 && range.end % scan->block_bytes == 0 &&
           range.end - range.base >= 2 * (uint64_t)scan->block_bytes;
}

/* Takes the catalog's list. It is judged as it stood at one moment. */
static int scan_list(struct scan *scan)
{
    struct weir__catalog *const catalog = scan->config->catalog;
    int result = 0;
    (void)pthread_mutex_lock(&catalog->mutex);
    scan->count = catalog->count;
    if (scan->count > 0) {
        scan->room = scan->count * sizeof *scan->ranges;
        scan->ranges = weir__mem_alloc(scan->dir->mem, scan->room, _Alignof(struct weir__range));
        if (scan->ranges == NULL) {
            result = -ENOMEM;
        } else {
            memcpy(scan->ranges, catalog->ranges, scan->room);
        }
    }
    (void)pthread_mutex_unlock(&catalog->mutex);
    return result;
}

/* The segment that a position belongs to: the one that holds the byte before it. */
static size_t scan_holder(const struct scan *scan, weir_lsn lsn)
{
    for (size_t i = 0; i < scan->count && scan->ranges[i].base < lsn; i++) {
        if (lsn <= scan->ranges[i].end) {
            return i;
        }
    }
    return SCAN_NONE;
}

/* The first segment that begins at lsn. Several can: leftovers of another size. */
static size_t scan_beginning_at(const struct scan *scan, weir_lsn lsn, size_t from)
{
    for (size_t i = from; i < scan->count && scan->ranges[i].base <= lsn; i++) {
        if (scan->ranges[i].base == lsn) {
            return i;
        }
    }
    return SCAN_NONE;
}

/* Segments must lie end to end from `from` to `to`. */
static int scan_cover(struct scan *scan, weir_lsn from, weir_lsn to)
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
            return scan_corrupt(scan,
                                missing,
                                missing.base,
                                "a segment is missing: no file holds LSN %llu up to %llu",
                                LLU(missing.base),
                                LLU(missing.end));
        }
        const struct weir__range range = scan->ranges[i];
        if (!scan_aligned(scan, range)) {
            return scan_corrupt(scan,
                                range,
                                range.base,
                                "a segment's name does not fit the log's blocks of %u bytes",
                                scan->block_bytes);
        }
        if (i + 1 < scan->count && scan->ranges[i + 1].base < range.end &&
            scan->ranges[i + 1].base < to) {
            const struct weir__range other = scan->ranges[i + 1];
            return scan_corrupt(
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
    return SCAN_GO_ON;
}

static int scan_header_read(struct scan *scan,
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

/* What a segment's header says. *why_out is NULL when it is one of this log and agrees with the name, else a phrase.
 * WEIR_EFORMAT: written by a build that knows more than this one. */
static int scan_header_judge(struct scan *scan,
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
        return SCAN_GO_ON;
    }
    *why_out = NULL;
    if (header_out->log_id != scan->control->log_id) {
        *why_out = "it is of another log";
        return SCAN_GO_ON;
    }
    scan_epoch_seen(scan, header_out->epoch);
    if (header_out->base != range.base || header_out->bytes != range.end - range.base) {
        *why_out = "it names other LSNs than the file's name";
    } else if (header_out->block_bytes != scan->block_bytes) {
        *why_out = "it has another block size";
    }
    return SCAN_GO_ON;
}

/* A segment that holds part of the log must say so itself. Makes it the current one. */
static int
scan_enter(struct scan *scan, size_t index, const uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES])
{
    const struct weir__range range = scan->ranges[index];
    struct weir__segment_header header;
    const char *why = NULL;
    const int step = scan_header_judge(scan, range, bytes, &header, &why);
    if (step != SCAN_GO_ON) {
        return step;
    }
    if (why != NULL) {
        return scan_corrupt(scan,
                            range,
                            range.base,
                            "the header of the segment at LSN %llu does not hold: %s",
                            LLU(range.base),
                            why);
    }
    scan->index = index;
    scan->number = header.number;
    return SCAN_GO_ON;
}

/* The segment in which the scan begins. */
static int scan_enter_first(struct scan *scan, size_t index)
{
    uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
    struct weir__fault fault = WEIR__FAULT_NONE;
    const int result = scan_header_read(scan, scan->ranges[index], bytes, &fault);
    if (result < 0) {
        return scan_failed(scan, result, scan->ranges[index], &fault);
    }
    return scan_enter(scan, index, bytes);
}

/* ---- batches ---- */

/* Reads and checks what stands behind a header that continues the position. What does not hold is in the finding. */
static int scan_body(struct scan *scan, struct scan_finding *finding)
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
        if (result == 0 && scan->config->piece != NULL) {
            scan->said = scan->config->piece(scan->config->ctx, &finding->batch, at, data, bytes);
            if (scan->said != 0) {
                return SCAN_STOPPED;
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

/* Looks at one place where the batch that is due may stand. The window has turned to its segment. A block that cannot be
 * read is put into the finding: the batch may stand at the other place. */
static int scan_look_in(struct scan *scan, struct scan_finding *finding)
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
            scan_epoch_seen(scan, finding->batch.epoch);
        }
        if (finding->verdict != WEIR__BATCH_OK) {
            return SCAN_GO_ON;
        }
        if (weir__batch_end(&finding->batch, scan->block_bytes) > scan->limit) {
            finding->beyond_limit = true;
            return SCAN_GO_ON;
        }
        result = scan_body(scan, finding);
    }
    if (result == WEIR_EUNREADABLE) {
        finding->looked = false;
        finding->failed = true;
        return SCAN_GO_ON;
    }
    return result < 0 ? scan_failed(scan, result, finding->range, &finding->fault) : result;
}

static struct scan_finding finding_at(struct weir__range range, weir_lsn lsn)
{
    return (struct scan_finding){.lsn = lsn, .range = range, .fault = WEIR__FAULT_NONE};
}

/* The same for the position in its own segment. */
static int scan_look_here(struct scan *scan,
                          struct weir__range range,
                          weir_lsn lsn,
                          struct scan_finding *finding)
{
    *finding = finding_at(range, lsn);
    const int result = weir__window_turn(scan->window, range, true, &finding->fault);
    return result < 0 ? scan_failed(scan, result, range, &finding->fault)
                      : scan_look_in(scan, finding);
}

static bool finding_accepted(const struct scan_finding *finding)
{
    return finding->looked && finding->verdict == WEIR__BATCH_OK && !finding->body &&
           !finding->beyond_limit;
}

/* Is it a batch of an epoch that the control file does not know, which continues the log exactly? Nobody but a later
 * owner of this log can have written it. */
static bool finding_newer(const struct scan *scan, const struct scan_finding *finding)
{
    const struct weir__batch *const batch = &finding->batch;
    return finding->looked && finding->verdict == WEIR__BATCH_STALE &&
           batch->epoch > scan->control->epoch.epoch && batch->prev_end == scan->at.lsn &&
           batch->epoch_lsn == scan->at.lsn && batch->chain == scan->at.chain;
}

static int scan_accept(struct scan *scan, const struct scan_finding *finding)
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
    scan_promise(scan, batch->promise, SCAN_WITNESS_BATCH, batch->lsn);
    scan_progress(scan, scan->index, scan->at.lsn);
    if (scan->config->batch != NULL) {
        scan->said = scan->config->batch(scan->config->ctx, batch, finding->range);
    }
    return scan->said == 0 ? SCAN_GO_ON : SCAN_STOPPED;
}

/* The two places of rule 1, and what was found there when neither had the next batch. */
struct scan_stop {
    struct scan_finding here;  /* at the position, in its segment */
    struct scan_finding there; /* the first batch of the next segment */
    bool next_missing;         /* there is no next segment */
    weir_lsn next_base;        /* where it begins, or would */
    bool limited;
};

/* The first batch of the segment that begins where the position's ends. Of several candidates the first that continues
 * counts, else the first. */
static int scan_next_segment(struct scan *scan, struct scan_stop *stop)
{
    stop->next_base = scan->index == SCAN_NONE ? scan->at.lsn : scan->ranges[scan->index].end;
    size_t index = scan_beginning_at(scan, stop->next_base, 0);
    stop->next_missing = index == SCAN_NONE;
    struct scan_finding finding;
    for (; index != SCAN_NONE; index = scan_beginning_at(scan, stop->next_base, index + 1)) {
        const struct weir__range range = scan->ranges[index];
        const weir_lsn first = range.base + scan->block_bytes;
        if (!scan_aligned(scan, range) || first >= scan->limit) {
            continue;
        }
        finding = finding_at(range, first);
        uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES];
        const int result = scan_header_read(scan, range, bytes, &finding.fault);
        if (result == WEIR_EUNREADABLE || result == WEIR_ECORRUPT) {
            finding.failed = true;
        } else if (result < 0) {
            return scan_failed(scan, result, range, &finding.fault);
        } else {
            int step = scan_look_in(scan, &finding);
            if (step == SCAN_GO_ON && finding_accepted(&finding)) {
                step = scan_enter(scan, index, bytes);
                stop->there = finding;
                return step;
            }
            if (step != SCAN_GO_ON) {
                return step;
            }
        }
        if (!stop->there.looked && !stop->there.failed) {
            stop->there = finding;
        }
    }
    return SCAN_GO_ON;
}

/* Accepts batches up to the first that does not continue. */
static int scan_batches(struct scan *scan, struct scan_stop *stop)
{
    for (;;) {
        *stop = (struct scan_stop){.limited = scan->at.lsn >= scan->limit};
        if (stop->limited) {
            return SCAN_GO_ON;
        }
        int step;
        if (scan->index != SCAN_NONE && scan->at.lsn < scan->ranges[scan->index].end) {
            step = scan_look_here(scan, scan->ranges[scan->index], scan->at.lsn, &stop->here);
            if (step != SCAN_GO_ON) {
                return step;
            }
        }
        const struct scan_finding *next = &stop->here;
        if (!finding_accepted(next)) {
            step = scan_next_segment(scan, stop);
            if (step != SCAN_GO_ON) {
                return step;
            }
            next = &stop->there;
        }
        if (!finding_accepted(next)) {
            stop->limited = stop->here.beyond_limit || stop->there.beyond_limit;
            return SCAN_GO_ON;
        }
        step = scan_accept(scan, next);
        if (step != SCAN_GO_ON) {
            return step;
        }
    }
}

/* ---- where to begin ---- */

/* The first batch of the oldest segment is its own anchor: what it says it continues was trimmed. */
static int scan_anchor(struct scan *scan, size_t index)
{
    const struct weir__range range = scan->ranges[index];
    const weir_lsn first = range.base + scan->block_bytes;
    int step = scan_enter_first(scan, index);
    if (step != SCAN_GO_ON) {
        return step;
    }
    struct weir__fault fault = WEIR__FAULT_NONE;
    uint8_t header[WEIR__BATCH_HEADER_BYTES];
    const int result =
        weir__window_copy(scan->window, first, UINT64_MAX, header, sizeof header, &fault);
    if (result < 0) {
        return scan_failed(scan, result, range, &fault);
    }
    struct weir__batch batch;
    const bool sound = weir__batch_decode(header, &batch) && batch.lsn == first &&
                       batch.log_id == scan->control->log_id && batch.prev_end <= range.base;
    struct scan_finding finding = {.why = "no sound header"};
    if (sound) {
        scan->at = (struct weir__position){
            .lsn = batch.prev_end,
            .epoch = batch.epoch,
            .epoch_lsn = batch.epoch_lsn,
            .nonce = batch.nonce,
            .chain = batch.chain,
        };
        scan->result->begin = scan->at;
        scan->result->report.scan_from_lsn = first;
        step = scan_look_here(scan, range, first, &finding);
        if (step != SCAN_GO_ON) {
            return step;
        }
        if (finding.failed) {
            return scan_failed(scan, finding.fault.code, range, &finding.fault);
        }
        if (finding.beyond_limit) {
            scan_why(scan, "the limit, LSN %llu, lies within the first batch", LLU(scan->limit));
            scan->result->report.verdict = WEIR_VERDICT_CLEAN;
            return SCAN_DECIDED;
        }
        if (finding_accepted(&finding)) {
            return scan_accept(scan, &finding);
        }
    }
    scan->at = (struct weir__position){.lsn = first};
    scan->result->report.evidence_lsn = scan->promise;
    return scan_corrupt(scan,
                        range,
                        first,
                        "the first batch of the oldest segment, at LSN %llu, does not verify (%s)",
                        LLU(first),
                        finding.why);
}

/* The log's first segment is still there: its first batch continues the origin, with a chain of 0 and whatever epoch was
 * the newest then. The origin is the first place for a batch; the segment's base will do as well, since nothing lies
 * between. */
static int scan_origin(struct scan *scan, size_t index)
{
    const struct weir__range range = scan->ranges[index];
    const weir_lsn first = range.base + scan->block_bytes;
    int step = scan_enter_first(scan, index);
    if (step != SCAN_GO_ON) {
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
        scan->index = SCAN_NONE;
    }
    scan->result->begin = scan->at;
    return SCAN_GO_ON; /* a block that cannot be read is met again */
}

/* Chooses the start, sees to it that the segments up to there are complete, and enters its segment. */
static int scan_begin(struct scan *scan)
{
    struct weir_report *const report = &scan->result->report;
    const struct weir__control *const control = scan->control;
    const weir_lsn oldest = weir__max_u64(control->oldest_lsn, control->first_lsn);
    const weir_lsn origin = control->first_lsn + scan->block_bytes;

    scan->at = control->checkpoint;
    scan->index = scan_holder(scan, scan->at.lsn);
    const bool checkpoint_held =
        scan->index != SCAN_NONE || scan_beginning_at(scan, scan->at.lsn, 0) != SCAN_NONE;
    size_t oldest_index = SCAN_NONE; /* the segment that holds the oldest LSN */
    for (size_t i = 0; i < scan->count && scan->ranges[i].base <= oldest; i++) {
        if (oldest < scan->ranges[i].end) {
            oldest_index = i;
            break;
        }
    }
    bool from_checkpoint = oldest_index == SCAN_NONE;
    if (!from_checkpoint) {
        const weir_lsn oldest_first = scan->ranges[oldest_index].base + scan->block_bytes;
        from_checkpoint = scan->config->from_oldest
                              ? scan->at.lsn <= oldest_first && checkpoint_held
                              : scan->at.lsn >= oldest || checkpoint_held;
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
        if (step != SCAN_GO_ON) {
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
        if (step != SCAN_GO_ON) {
            return step;
        }
    }
    return scan->index == SCAN_NONE ? SCAN_GO_ON : scan_enter_first(scan, scan->index);
}

/* All that was promised before a batch is looked at. An earlier epoch's word holds up to the newest one's start. */
static void scan_promises(struct scan *scan)
{
    const struct weir__control_found *const found = scan->config->control;
    const struct weir__control *const newest = scan->control;
    scan_promise(scan, newest->promise, SCAN_WITNESS_CONTROL, newest->promise);
    const struct weir__control *const other = &found->copy[found->newest ^ 1];
    if (found->valid[found->newest ^ 1]) {
        scan_epoch_seen(scan, other->epoch.epoch);
        const bool same =
            other->epoch.epoch == newest->epoch.epoch && other->epoch.nonce == newest->epoch.nonce;
        const weir_lsn promise =
            same ? other->promise : weir__min_u64(other->promise, newest->epoch.lsn);
        scan_promise(scan, promise, SCAN_WITNESS_CONTROL, promise);
    }
    scan_promise(scan, newest->epoch.lsn, SCAN_WITNESS_EPOCH, newest->epoch.lsn);
    scan_promise(scan,
                 newest->checkpoint.lsn,
                 (newest->flags & WEIR__CONTROL_CLEAN) != 0 ? SCAN_WITNESS_CLOSE
                                                            : SCAN_WITNESS_CHECKPOINT,
                 newest->checkpoint.lsn);
    scan_promise(scan, scan->config->durable, SCAN_WITNESS_CALLER, scan->config->durable);
}

/* ---- behind the end ---- */

/* Which of the two places to blame: the one that has something of the log's in it, else the position itself. */
static const struct scan_finding *stop_blame(const struct scan_stop *stop)
{
    const struct scan_finding *const there = &stop->there;
    const struct scan_finding *const here = &stop->here;
    const bool here_tells = here->looked && (here->body || here->verdict == WEIR__BATCH_DAMAGED ||
                                             here->verdict == WEIR__BATCH_UNCHAINED);
    const bool there_tells =
        there->looked && (there->body || there->verdict == WEIR__BATCH_DAMAGED);
    if (here->looked && (here_tells || !there_tells)) {
        return here;
    }
    return there->looked ? there : NULL;
}

/* The log is broken below a promise: says where, and how it is known. */
static int scan_broken(struct scan *scan, const struct scan_stop *stop)
{
    const struct scan_finding *const blame = stop_blame(stop);
    const char *const witness = scan_witness_text(scan->witness);
    scan->result->report.evidence_lsn = scan->promise_at;
    if (blame != NULL) {
        return scan_corrupt(
            scan,
            blame->range,
            blame->lsn,
            "no batch continues the log at LSN %llu (%s), but %s promises up to LSN %llu",
            LLU(blame->lsn),
            blame->why,
            witness,
            LLU(scan->promise));
    }
    const weir_lsn base = stop->next_base;
    struct weir__range missing = {base, base};
    for (size_t i = 0; i < scan->count && missing.end == base; i++) {
        if (scan->ranges[i].base > base) {
            missing.end = scan->ranges[i].base;
        }
    }
    return scan_corrupt(scan,
                        missing,
                        base,
                        "no segment begins at LSN %llu, but %s promises up to LSN %llu",
                        LLU(base),
                        witness,
                        LLU(scan->promise));
}

/* What the blocks of one segment look like to the search. */
struct scan_trace {
    bool explained; /* bytes of an earlier use are to be expected here */
    bool odd;       /* bytes that are no zeros and no batch that says when it was written */
    weir_lsn odd_lsn;
    weir_lsn odd_end;
    bool stale;
    weir_lsn stale_lsn;
    uint64_t stale_epoch;
};

static bool batch_is_newest(const struct scan *scan, const struct weir__batch *batch)
{
    const struct weir__epoch *const newest = &scan->control->epoch;
    return batch->epoch == newest->epoch && batch->nonce == newest->nonce &&
           batch->epoch_lsn == newest->lsn;
}

static void behind_torn(struct scan_behind *behind, weir_lsn lsn, weir_lsn end)
{
    if (!behind->torn) {
        behind->torn = true;
        behind->torn_lsn = lsn;
    }
    behind->torn_end = weir__max_u64(behind->torn_end, end);
}

/* One block that is not all zeros. True: it proves a promise above the position. */
static bool scan_block(struct scan *scan,
                       const uint8_t *block,
                       weir_lsn lsn,
                       struct weir__range range,
                       struct scan_behind *behind,
                       struct scan_trace *trace)
{
    struct weir__batch batch;
    const bool sound = weir__get_u32(block) == WEIR__BATCH_MAGIC &&
                       weir__batch_decode(block, &batch) && batch.log_id == scan->control->log_id;
    if (sound && batch.lsn == lsn) {
        scan_epoch_seen(scan, batch.epoch);
        if (batch_is_newest(scan, &batch)) {
            if (!behind->hole) {
                behind->hole = true;
                behind->hole_lsn = lsn;
            }
            const weir_lsn end =
                weir__align_up(lsn + WEIR__BATCH_HEADER_BYTES + batch.bytes, scan->block_bytes);
            behind->torn_end = weir__max_u64(behind->torn_end, weir__min_u64(end, range.end));
            scan_promise(scan, batch.promise, SCAN_WITNESS_BATCH, lsn);
            return scan->promise > scan->at.lsn;
        }
    }
    if (sound) {
        if (!trace->stale) {
            trace->stale = true;
            trace->stale_lsn = lsn;
            trace->stale_epoch = batch.epoch;
        }
        return false;
    }
    if (!trace->odd) {
        trace->odd = true;
        trace->odd_lsn = lsn;
    }
    trace->odd_end = lsn + scan->block_bytes;
    return false;
}

/* Searches one segment from lsn on. SCAN_DECIDED: unreadable, or the promise above the position was found. */
static int scan_search_segment(struct scan *scan,
                               size_t index,
                               weir_lsn from,
                               const struct scan_stop *stop,
                               struct scan_behind *behind)
{
    const struct weir__range range = scan->ranges[index];
    const weir_lsn end = weir__min_u64(range.end, scan->limit);
    struct weir__fault fault = WEIR__FAULT_NONE;
    uint8_t bytes_of_header[WEIR__SEGMENT_HEADER_BYTES];
    int result = scan_header_read(scan, range, bytes_of_header, &fault);
    if (result < 0) {
        return scan_failed(scan, result, range, &fault);
    }
    struct weir__segment_header header;
    const char *why = NULL;
    const int step = scan_header_judge(scan, range, bytes_of_header, &header, &why);
    if (step != SCAN_GO_ON) {
        return step;
    }
    struct scan_trace trace = {.explained = why != NULL || header.origin == WEIR__SEGMENT_RECYCLED};
    weir_lsn lsn = from;
    while (lsn < end) {
        const uint8_t *data = NULL;
        size_t bytes = 0;
        result = weir__window_peek(scan->window, lsn, UINT64_MAX, &data, &bytes, &fault);
        if (result == 0 && bytes < scan->block_bytes) {
            result = weir__window_copy(scan->window,
                                       lsn,
                                       UINT64_MAX,
                                       scan->block,
                                       scan->block_bytes,
                                       &fault);
            data = scan->block;
            bytes = scan->block_bytes;
        }
        if (result < 0) {
            return scan_failed(scan, result, range, &fault);
        }
        for (; bytes >= scan->block_bytes && lsn < end; bytes -= scan->block_bytes) {
            if (!weir__all_zero(data, scan->block_bytes) &&
                scan_block(scan, data, lsn, range, behind, &trace)) {
                return scan_broken(scan, stop);
            }
            data += scan->block_bytes;
            lsn += scan->block_bytes;
            scan->result->report.bytes_scanned += scan->block_bytes;
        }
        scan_progress(scan, index, lsn);
    }
    if (trace.odd && !trace.explained && !trace.stale) {
        behind_torn(behind, trace.odd_lsn, trace.odd_end);
    } else if ((trace.odd || trace.stale) && !behind->stale) {
        behind->stale = true;
        behind->stale_lsn = trace.odd ? trace.odd_lsn : trace.stale_lsn;
        if (trace.stale) {
            behind->stale_lsn = weir__min_u64(behind->stale_lsn, trace.stale_lsn);
            behind->stale_epoch = trace.stale_epoch;
        }
    }
    return SCAN_GO_ON;
}

/* Everything above the position, in every segment of the directory. */
static int scan_search(struct scan *scan, const struct scan_stop *stop, struct scan_behind *behind)
{
    for (size_t i = 0; i < scan->count; i++) {
        const struct weir__range range = scan->ranges[i];
        if (range.end <= scan->at.lsn || !scan_aligned(scan, range)) {
            continue;
        }
        const weir_lsn from = weir__max_u64(scan->at.lsn, range.base + scan->block_bytes);
        if (from >= scan->limit) {
            continue;
        }
        const int step = scan_search_segment(scan, i, from, stop, behind);
        if (step != SCAN_GO_ON) {
            return step;
        }
    }
    return SCAN_GO_ON;
}

/* A batch that was begun at one of the two places where the next one is due. */
static void
scan_tear(const struct scan *scan, const struct scan_finding *finding, struct scan_behind *behind)
{
    if (!finding->looked || !(finding->body || finding->verdict == WEIR__BATCH_DAMAGED)) {
        return;
    }
    const uint64_t bytes =
        finding->body ? WEIR__BATCH_HEADER_BYTES + (uint64_t)finding->batch.bytes : 1;
    behind_torn(behind, finding->lsn, weir__align_up(finding->lsn + bytes, scan->block_bytes));
}

/* Nothing behind contradicts the end: gives it its name. */
static void
scan_name_end(struct scan *scan, const struct scan_stop *stop, struct scan_behind *behind)
{
    struct weir_report *const report = &scan->result->report;
    const unsigned long long end = LLU(scan->at.lsn);
    scan_tear(scan, &stop->here, behind);
    scan_tear(scan, &stop->there, behind);

    if (behind->torn || behind->hole) {
        report->verdict = WEIR_VERDICT_TORN;
        report->evidence_lsn = behind->hole ? behind->hole_lsn : behind->torn_lsn;
        report->bytes_cut = behind->torn_end > scan->at.lsn ? behind->torn_end - scan->at.lsn : 0;
        const struct scan_finding *const blame = stop_blame(stop);
        const bool same = blame != NULL && blame->lsn == behind->torn_lsn;
        if (behind->hole && !behind->torn) {
            scan_why(scan,
                     "no batch continues the log at LSN %llu; one stands at LSN %llu that nothing "
                     "leads to, above the "
                     "highest promise, %llu",
                     end,
                     LLU(behind->hole_lsn),
                     LLU(scan->promise));
        } else {
            scan_why(scan,
                     "bytes at LSN %llu do not verify (%s); they were never promised: the highest "
                     "promise is %llu",
                     LLU(behind->torn_lsn),
                     same ? blame->why : "no batch header",
                     LLU(scan->promise));
        }
        return;
    }
    if (behind->stale) {
        report->verdict = WEIR_VERDICT_STALE;
        report->evidence_lsn = behind->stale_lsn;
        if (behind->stale_epoch != 0) {
            scan_why(scan,
                     "behind LSN %llu stand bytes of an earlier use, at LSN %llu of epoch %llu",
                     end,
                     LLU(behind->stale_lsn),
                     LLU(behind->stale_epoch));
        } else {
            scan_why(scan,
                     "behind LSN %llu stand bytes of an earlier use of the file, at LSN %llu",
                     end,
                     LLU(behind->stale_lsn));
        }
        return;
    }
    report->verdict = WEIR_VERDICT_CLEAN;
    scan_why(scan, "nothing but zeros stands behind LSN %llu", end);
}

/* The first place without the next batch was found: why is it the end? */
static int scan_judge_end(struct scan *scan, const struct scan_stop *stop)
{
    struct weir_report *const report = &scan->result->report;
    const struct weir__control *const control = scan->control;
    const bool closed =
        (control->flags & WEIR__CONTROL_CLEAN) != 0 && control->checkpoint.lsn == scan->at.lsn;

    const struct scan_finding *const findings[] = {&stop->here, &stop->there};
    for (size_t i = 0; i < WEIR__ARRAY_COUNT(findings); i++) {
        if (finding_newer(scan, findings[i])) {
            report->evidence_lsn = findings[i]->lsn;
            return scan_corrupt(
                scan,
                findings[i]->range,
                findings[i]->lsn,
                "the batch at LSN %llu is of epoch %llu, the control file is older and knows "
                "%llu: it was put back from a copy",
                LLU(findings[i]->lsn),
                LLU(findings[i]->batch.epoch),
                LLU(control->epoch.epoch));
        }
    }
    if (stop->limited) {
        report->verdict = WEIR_VERDICT_CLEAN;
        scan_why(scan,
                 "everything below LSN %llu verifies, and nothing was asked beyond",
                 LLU(scan->at.lsn));
        return SCAN_GO_ON;
    }
    if (closed && scan->promise <= scan->at.lsn) {
        report->verdict = WEIR_VERDICT_CLEAN;
        scan_why(scan, "closed cleanly at LSN %llu", LLU(scan->at.lsn));
        return SCAN_GO_ON;
    }
    for (size_t i = 0; i < WEIR__ARRAY_COUNT(findings); i++) {
        if (findings[i]->failed) {
            return scan_failed(scan,
                               findings[i]->fault.code,
                               findings[i]->range,
                               &findings[i]->fault);
        }
    }
    if (scan->promise > scan->at.lsn) {
        return scan_broken(scan, stop);
    }
    struct scan_behind behind = {0};
    const int step = scan_search(scan, stop, &behind);
    if (step == SCAN_GO_ON) {
        scan_name_end(scan, stop, &behind);
    }
    return step;
}

/* ---- the whole ---- */

static int scan_run(struct scan *scan)
{
    struct scan_stop stop;
    int step = scan_begin(scan);
    if (step == SCAN_GO_ON) {
        step = scan_batches(scan, &stop);
    }
    if (step == SCAN_GO_ON) {
        /* The segments that were entered on the way lie end to end; a second file over one of them may not. */
        const struct weir__control *const control = scan->control;
        const weir_lsn oldest = weir__max_u64(control->oldest_lsn, control->first_lsn);
        if (scan->at.lsn > control->first_lsn + scan->block_bytes && oldest < scan->at.lsn) {
            step = scan_cover(scan, oldest, scan->at.lsn);
        }
    }
    if (step == SCAN_GO_ON) {
        step = scan_judge_end(scan, &stop);
    }
    return step == SCAN_STOPPED ? scan->said : step < 0 ? step : 0;
}

static void scan_finish(struct scan *scan)
{
    struct weir__scan_result *const result = scan->result;
    struct weir_report *const report = &result->report;
    const struct weir__control_found *const found = scan->config->control;
    const struct weir__control *const control = scan->control;

    result->end = scan->at;
    result->segment_number = scan->number;
    if (scan->index != SCAN_NONE) {
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
        scan_why(scan, "; copy %d of the control file is lost", found->newest ^ 1);
    }
    if (scan->config->progress != NULL) {
        scan->config->progress(scan->config->ctx, scan->progress_total, scan->progress_total);
    }
}

/* A small log does not need large chunks. */
static int scan_window_open(struct scan *scan)
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
    struct scan scan = {
        .config = config,
        .result = result_out,
        .fault = fault,
        .dir = config->dir,
        .control = control,
        .block_bytes = control->block_bytes,
        .limit = config->limit == 0 ? UINT64_MAX : config->limit,
        .index = SCAN_NONE,
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
        scan_promises(&scan);
        result_out->report.writer_live = weir__dir_writer_live(config->dir);
        result = scan_run(&scan);
    } else {
        (void)
            weir__fault_set(fault, result, "", UINT64_MAX, UINT64_MAX, "no memory to scan the log");
    }
    if (result == 0) {
        scan_finish(&scan);
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
