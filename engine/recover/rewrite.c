/* SPDX-License-Identifier: Apache-2.0
 * Copying a log that verifies, batch by batch.
 *
 * The happy path: the scan walks the source from its oldest segment; the bytes of a batch are
 * collected as it reads them; when the batch is accepted it is written to the new log at the same
 * LSN; at the end the control file makes it one. So there is one judgement of what belongs to the
 * log, and every byte is read once.
 *
 * Below the oldest LSN, and where the source has a gap of its own, the new log has a gap. What a
 * live writer trims while it is copied is told from damage by reading the control file again.
 *
 * What can fail: the source's reads, the target's writes, memory. On failure the target is emptied.
 * Memory is the scan's and one batch. One thread. */
#include "recover/rewrite.h"

#include "base/check.h"
#include "base/num.h"
#include "recover/salvage.h"
#include "recover/target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct copy {
    const struct weir__rewrite_config *config;
    struct weir__catalog *catalog;
    struct weir__control_found control;
    struct weir__target *target;
    struct weir__fault *fault;
    weir_lsn oldest;
    struct weir__image image;
    uint64_t gaps;
    uint64_t gap_bytes;
};

static int
copy_piece(void *ctx, const struct weir__batch *batch, weir_lsn lsn, const void *data, size_t bytes)
{
    struct copy *const copy = ctx;
    const uint64_t offset = lsn - batch->lsn;
    int code = weir__image_reserve(&copy->image, offset + bytes);
    if (code == 0) {
        memcpy(copy->image.bytes + offset, data, bytes);
    } else {
        code = weir__fault_set(copy->fault,
                               code,
                               "",
                               UINT64_MAX,
                               lsn,
                               "no memory for a batch of the log");
    }
    return code;
}

static int copy_batch(void *ctx, const struct weir__batch *batch, struct weir__range segment)
{
    struct copy *const copy = ctx;
    struct weir__target *const target = copy->target;
    const weir_lsn end = weir__batch_end(batch, target->block_bytes);
    if (end <= copy->oldest) {
        return 0; /* trimmed: its segment only holds something newer too */
    }
    int code = 0;
    if (target->range.base != segment.base || target->range.end != segment.end) {
        code = weir__target_enter(target, segment, false);
    }
    if (code == 0 && (batch->flags & WEIR__BATCH_GAP) != 0) {
        code = weir__target_gap(target, batch->lsn);
        if (code == 0) {
            code = weir__target_gap(target, batch->gap_end);
        }
        copy->gaps++;
        copy->gap_bytes += batch->gap_end - batch->lsn;
        if (copy->config->gap != NULL) {
            struct weir_gap gap = {.from_lsn = batch->lsn, .to_lsn = batch->gap_end};
            (void)snprintf(gap.why,
                           sizeof gap.why,
                           "a gap of the source, left by an earlier salvage");
            copy->config->gap(copy->config->ctx, &gap);
        }
        return code;
    }
    return code == 0
               ? weir__target_batch(target, batch->lsn, &copy->image, batch->bytes, batch->wall_ns)
               : code;
}

static void copy_progress(void *ctx, uint64_t done, uint64_t total)
{
    const struct copy *const copy = ctx;
    copy->config->progress(copy->config->ctx, done, total);
}

/* May a live writer have given up what has just failed to read? It does so below the oldest LSN and
 * the checkpoint. */
static bool copy_passed(struct copy *copy)
{
    struct weir__control_found now;
    struct weir__fault fault = WEIR__FAULT_NONE;
    if (weir__control_load(copy->config->from, &now, &fault) != 0 || now.newest < 0) {
        return false;
    }
    const struct weir__control *const then = &copy->control.copy[copy->control.newest];
    const struct weir__control *const next = &now.copy[now.newest];
    return next->oldest_lsn != then->oldest_lsn || next->checkpoint.lsn != then->checkpoint.lsn;
}

/* The source does not verify, or could not be scanned: which is it? */
static int copy_failed(struct copy *copy, int code, const struct weir__scan_result *scan)
{
    const bool judged = code == 0;
    if (judged) {
        code = scan->report.verdict == WEIR_VERDICT_CORRUPT ? WEIR_ECORRUPT : WEIR_EUNREADABLE;
    }
    if ((judged || code == -ENOENT) && copy_passed(copy)) {
        if (copy->fault != NULL) {
            *copy->fault = WEIR__FAULT_NONE;
        }
        return weir__fault_set(copy->fault,
                               WEIR_EPASSED,
                               "",
                               UINT64_MAX,
                               scan->report.end_lsn,
                               "the log was trimmed while it was copied");
    }
    if (judged) {
        const struct weir_error *const error = &scan->report.error;
        return weir__fault_set(copy->fault,
                               code,
                               error->file,
                               error->offset,
                               error->lsn,
                               "the log does not verify, salvage it: %.140s",
                               scan->report.why);
    }
    return code;
}

/* Nothing of the source is left to copy: the new log begins where the source ends. */
static int copy_nothing(struct copy *copy, const struct weir__scan_result *scan)
{
    struct weir__target *const target = copy->target;
    if (scan->segment.base < scan->segment.end) {
        return weir__target_enter(target, scan->segment, false);
    }
    if (scan->end.lsn > target->epoch.lsn) {
        weir__target_origin(target, scan->end.lsn - target->block_bytes);
    }
    return 0;
}

static int copy_run(struct copy *copy, struct weir_copy_report *report_out)
{
    const struct weir__rewrite_config *const config = copy->config;
    struct weir__target *const target = copy->target;
    const struct weir__control *const control = &copy->control.copy[copy->control.newest];
    copy->oldest = control->oldest_lsn;
    if (config->limit < copy->oldest) {
        return weir__fault_set(copy->fault,
                               -EINVAL,
                               "",
                               UINT64_MAX,
                               copy->oldest,
                               "the limit lies below the oldest record");
    }
    int code = weir__target_begin(target,
                                  control->block_bytes,
                                  control->segment_bytes,
                                  control->log_id,
                                  control->first_lsn,
                                  copy->oldest);
    if (code != 0) {
        return code;
    }
    const struct weir__scan_config scan_config = {
        .dir = config->from,
        .catalog = copy->catalog,
        .control = &copy->control,
        .from_oldest = true,
        .limit = config->limit == UINT64_MAX ? 0 : config->limit,
        .durable = config->durable,
        .progress = config->progress == NULL ? NULL : copy_progress,
        .batch = copy_batch,
        .piece = copy_piece,
        .ctx = copy,
    };
    struct weir__scan_result scan;
    code = weir__scan(&scan_config, &scan, copy->fault);
    if (code != 0 || scan.report.verdict == WEIR_VERDICT_CORRUPT ||
        scan.report.verdict == WEIR_VERDICT_UNREADABLE) {
        return copy_failed(copy, code, &scan);
    }
    if (target->range.base == target->range.end) {
        code = copy_nothing(copy, &scan);
    }
    /* The end is where the source's is, also where trimmed batches lead up to it. */
    if (code == 0 && target->range.base < target->range.end) {
        const weir_lsn end = weir__min_u64(scan.end.lsn, target->range.end);
        if (end > weir__target_place(target)) {
            code = weir__target_gap(target, end);
        }
    }
    if (code == 0) {
        code = weir__target_finish(target, copy->oldest);
    }
    if (code == 0) {
        *report_out = (struct weir_copy_report){.gaps = copy->gaps, .gap_bytes = copy->gap_bytes};
    }
    return code;
}

/* ---- the whole ---- */

static int rewrite_copy(const struct weir__rewrite_config *config,
                        struct weir__target *target,
                        struct weir__catalog *catalog,
                        const struct weir__control_found *control,
                        struct weir_copy_report *report_out,
                        struct weir__fault *fault)
{
    struct copy copy = {
        .config = config,
        .catalog = catalog,
        .control = *control,
        .target = target,
        .fault = fault,
        .image = {.mem = config->from->mem},
    };
    const int code = copy_run(&copy, report_out);
    weir__image_release(&copy.image);
    return code;
}

static int rewrite_salvage(const struct weir__rewrite_config *config,
                           struct weir__target *target,
                           struct weir__catalog *catalog,
                           struct weir_copy_report *report_out,
                           struct weir__fault *fault)
{
    struct weir__salvage_result salvaged;
    int code = weir__salvage(config, catalog, target, &salvaged, fault);
    if (code == 0) {
        code = weir__target_finish(target, salvaged.oldest);
    }
    if (code == 0) {
        *report_out = (struct weir_copy_report){
            .gaps = salvaged.gaps,
            .gap_bytes = salvaged.gap_bytes,
        };
    }
    return code;
}

int weir__rewrite(const struct weir__rewrite_config *config,
                  struct weir_copy_report *report_out,
                  struct weir__fault *fault)
{
    struct weir__dir *const from = config->from;
    struct weir__catalog catalog;
    struct weir__target target;
    struct weir__control_found control;
    int code = weir__catalog_init(&catalog, from->mem);
    if (code != 0) {
        return weir__fault_set(fault, code, "", UINT64_MAX, UINT64_MAX, "cannot make a catalog");
    }
    /* The source is looked at before anything is made. */
    code = weir__catalog_load(&catalog, from, fault);
    if (code == 0 && !config->salvage) {
        code = weir__scan_control(from, &catalog, &control, fault);
    }
    if (code == 0 && config->salvage && weir__catalog_count(&catalog) == 0) {
        code = weir__fault_set(fault,
                               WEIR_ENOLOG,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "the directory holds no segment");
    }
    if (code == 0) {
        code = weir__target_open(&target, from->io, from->mem, config->to_path, fault);
    }
    if (code == 0) {
        struct weir_copy_report report = {0};
        code = config->salvage ? rewrite_salvage(config, &target, &catalog, &report, fault)
                               : rewrite_copy(config, &target, &catalog, &control, &report, fault);
        if (code == 0) {
            report.records = target.records;
            report.bytes = target.bytes;
            report.batches = target.batches;
            report.segments = target.made_count;
            report.log_id = target.log_id;
            report.oldest_lsn = target.oldest;
            report.end_lsn = target.position.lsn;
            *report_out = report;
        } else {
            weir__target_abandon(&target);
        }
        weir__target_close(&target);
    }
    weir__catalog_exit(&catalog);
    return code;
}
