/* SPDX-License-Identifier: Apache-2.0
 * Why the log ends where it does.
 *
 * The happy path: nothing promised more, and the log was closed there, or nothing but zeros stands
 * behind. Else, in this order: a batch of a later epoch than the control file knows; a promise
 * above the end; a block that cannot be read; and then a search, block by block through everything
 * behind, for a batch of the newest epoch that knows of a higher promise. What that search saw
 * gives the end its name.
 *
 * Only what a checksum covers is believed, and only batches of the newest epoch are witnesses:
 * bytes of an earlier epoch say nothing about what was promised later, and below the newest epoch's
 * start everything was promised when it began.
 *
 * What can fail: reading. A block that cannot be read could hide a promise, so it is never passed
 * over. One thread. */
#include "recover/scan_state.h"

#include "base/bytes.h"
#include "base/num.h"
#include "base/plant.h"

#define LLU(v) ((unsigned long long)(v))

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

static const char *scan_witness_text(enum weir__scan_witness witness)
{
    switch (witness) {
    case WEIR__SCAN_WITNESS_CLOSE:
        return "the clean close";
    case WEIR__SCAN_WITNESS_EPOCH:
        return "the start of the newest epoch";
    case WEIR__SCAN_WITNESS_CHECKPOINT:
        return "the checkpoint";
    case WEIR__SCAN_WITNESS_CALLER:
        return "the live writer";
    case WEIR__SCAN_WITNESS_BATCH:
        return "a later batch";
    case WEIR__SCAN_WITNESS_CONTROL:
    case WEIR__SCAN_WITNESS_NONE:
        break;
    }
    return "the control file";
}

/* Is it a batch of an epoch that the control file does not know, which continues the log exactly?
 * Nobody but a later owner of this log can have written it. */
static bool finding_newer(const struct weir__scan_state *scan,
                          const struct weir__scan_finding *finding)
{
    const struct weir__batch *const batch = &finding->batch;
    return finding->looked && finding->verdict == WEIR__BATCH_STALE &&
           batch->epoch > scan->control->epoch.epoch && batch->prev_end == scan->at.lsn &&
           batch->epoch_lsn == scan->at.lsn && batch->chain == scan->at.chain;
}

/* Which of the two places to blame: the one that has something of the log's in it, else the
 * position itself. */
static const struct weir__scan_finding *stop_blame(const struct weir__scan_stop *stop)
{
    const struct weir__scan_finding *const there = &stop->there;
    const struct weir__scan_finding *const here = &stop->here;
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
static int scan_broken(struct weir__scan_state *scan, const struct weir__scan_stop *stop)
{
    const struct weir__scan_finding *const blame = stop_blame(stop);
    const char *const witness = scan_witness_text(scan->witness);
    scan->result->report.evidence_lsn = scan->promise_at;
    if (blame != NULL && blame->body) {
        return weir__scan_corrupt(
            scan,
            blame->range,
            blame->lsn,
            "the batch at LSN %llu does not hold (%s, at LSN %llu), but %s promises up to LSN %llu",
            LLU(blame->lsn),
            blame->why,
            LLU(blame->frame_lsn),
            witness,
            LLU(scan->promise));
    }
    if (blame != NULL) {
        return weir__scan_corrupt(
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
    return weir__scan_corrupt(scan,
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

static bool batch_is_newest(const struct weir__scan_state *scan, const struct weir__batch *batch)
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
static bool scan_block(struct weir__scan_state *scan,
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
        weir__scan_epoch_seen(scan, batch.epoch);
        if (batch_is_newest(scan, &batch) || WEIR__PLANTED(stale_promise_believed)) {
            if (!behind->hole) {
                behind->hole = true;
                behind->hole_lsn = lsn;
            }
            const weir_lsn end =
                weir__align_up(lsn + WEIR__BATCH_HEADER_BYTES + batch.bytes, scan->block_bytes);
            behind->torn_end = weir__max_u64(behind->torn_end, weir__min_u64(end, range.end));
            weir__scan_promise(scan, batch.promise, WEIR__SCAN_WITNESS_BATCH, lsn);
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

/* Searches one segment from lsn on. WEIR__SCAN_DECIDED: unreadable, or the promise above the
 * position was found. */
static int scan_search_segment(struct weir__scan_state *scan,
                               size_t index,
                               weir_lsn from,
                               const struct weir__scan_stop *stop,
                               struct scan_behind *behind)
{
    const struct weir__range range = scan->ranges[index];
    const weir_lsn end = weir__min_u64(range.end, scan->limit);
    struct weir__fault fault = WEIR__FAULT_NONE;
    uint8_t bytes_of_header[WEIR__SEGMENT_HEADER_BYTES];
    int result = weir__scan_header_read(scan, range, bytes_of_header, &fault);
    if (result < 0) {
        return weir__scan_failed(scan, result, range, &fault);
    }
    struct weir__segment_header header;
    const char *why = NULL;
    const int step = weir__scan_header_judge(scan, range, bytes_of_header, &header, &why);
    if (step != WEIR__SCAN_GO_ON) {
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
            return weir__scan_failed(scan, result, range, &fault);
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
        weir__scan_progress(scan, index, lsn);
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
    return WEIR__SCAN_GO_ON;
}

/* Everything above the position, in every segment of the directory. */
static int scan_search(struct weir__scan_state *scan,
                       const struct weir__scan_stop *stop,
                       struct scan_behind *behind)
{
    for (size_t i = 0; i < scan->count; i++) {
        const struct weir__range range = scan->ranges[i];
        if (range.end <= scan->at.lsn || !weir__scan_aligned(scan, range)) {
            continue;
        }
        const weir_lsn from = weir__max_u64(scan->at.lsn, range.base + scan->block_bytes);
        if (from >= scan->limit) {
            continue;
        }
        const int step = scan_search_segment(scan, i, from, stop, behind);
        if (step != WEIR__SCAN_GO_ON) {
            return step;
        }
    }
    return WEIR__SCAN_GO_ON;
}

/* A batch that was begun at one of the two places where the next one is due. */
static void scan_tear(const struct weir__scan_state *scan,
                      const struct weir__scan_finding *finding,
                      struct scan_behind *behind)
{
    if (!finding->looked || !(finding->body || finding->verdict == WEIR__BATCH_DAMAGED)) {
        return;
    }
    const uint64_t bytes =
        finding->body ? WEIR__BATCH_HEADER_BYTES + (uint64_t)finding->batch.bytes : 1;
    behind_torn(behind, finding->lsn, weir__align_up(finding->lsn + bytes, scan->block_bytes));
}

/* Nothing behind contradicts the end: gives it its name. */
static void scan_name_end(struct weir__scan_state *scan,
                          const struct weir__scan_stop *stop,
                          struct scan_behind *behind)
{
    struct weir_report *const report = &scan->result->report;
    const unsigned long long end = LLU(scan->at.lsn);
    scan_tear(scan, &stop->here, behind);
    scan_tear(scan, &stop->there, behind);

    if (behind->torn || behind->hole) {
        report->verdict = WEIR_VERDICT_TORN;
        report->evidence_lsn = behind->hole ? behind->hole_lsn : behind->torn_lsn;
        report->bytes_cut = behind->torn_end > scan->at.lsn ? behind->torn_end - scan->at.lsn : 0;
        const struct weir__scan_finding *const blame = stop_blame(stop);
        const bool same = blame != NULL && blame->lsn == behind->torn_lsn;
        if (behind->hole && !behind->torn) {
            weir__scan_why(
                scan,
                "no batch continues the log at LSN %llu; one stands at LSN %llu that nothing "
                "leads to, above the "
                "highest promise, %llu",
                end,
                LLU(behind->hole_lsn),
                LLU(scan->promise));
        } else {
            weir__scan_why(
                scan,
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
            weir__scan_why(
                scan,
                "behind LSN %llu stand bytes of an earlier use, at LSN %llu of epoch %llu",
                end,
                LLU(behind->stale_lsn),
                LLU(behind->stale_epoch));
        } else {
            weir__scan_why(scan,
                           "behind LSN %llu stand bytes of an earlier use of the file, at LSN %llu",
                           end,
                           LLU(behind->stale_lsn));
        }
        return;
    }
    report->verdict = WEIR_VERDICT_CLEAN;
    weir__scan_why(scan, "nothing but zeros stands behind LSN %llu", end);
}

/* The first place without the next batch was found: why is it the end? */
int weir__scan_judge_end(struct weir__scan_state *scan, const struct weir__scan_stop *stop)
{
    struct weir_report *const report = &scan->result->report;
    const struct weir__control *const control = scan->control;
    const bool closed =
        (control->flags & WEIR__CONTROL_CLEAN) != 0 && control->checkpoint.lsn == scan->at.lsn;

    const struct weir__scan_finding *const findings[] = {&stop->here, &stop->there};
    for (size_t i = 0; i < WEIR__ARRAY_COUNT(findings); i++) {
        if (finding_newer(scan, findings[i])) {
            report->evidence_lsn = findings[i]->lsn;
            return weir__scan_corrupt(
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
        weir__scan_why(scan,
                       "everything below LSN %llu verifies, and nothing was asked beyond",
                       LLU(scan->at.lsn));
        return WEIR__SCAN_GO_ON;
    }
    if (closed && scan->promise <= scan->at.lsn) {
        report->verdict = WEIR_VERDICT_CLEAN;
        weir__scan_why(scan, "closed cleanly at LSN %llu", LLU(scan->at.lsn));
        return WEIR__SCAN_GO_ON;
    }
    for (size_t i = 0; i < WEIR__ARRAY_COUNT(findings); i++) {
        if (findings[i]->failed) {
            return weir__scan_failed(scan,
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
    if (step == WEIR__SCAN_GO_ON) {
        scan_name_end(scan, stop, &behind);
    }
    return step;
}
