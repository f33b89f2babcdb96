/* SPDX-License-Identifier: Apache-2.0
 * Opening a log that is there.
 *
 * Order, each step durable before the next depends on it: scan (writes nothing; corrupt and
 * unreadable end here) -> what is kept is made durable -> the new epoch, whose start is the cut,
 * goes to both control copies -> its first block, where a first record might not fit. The thread
 * that opens. */
#include "api/open.h"
#include "base/plant.h"
#include "io/transfer.h"
#include "port/clock.h"
#include "recover/repair.h"
#include "segment/segment.h"

#include <errno.h>

/* What was kept is durable; now the cut is: a batch of an older epoch at or above this one's start
 * is stale from here on. */
static int begin_epoch(struct weir_log *log,
                       const struct weir__scan_result *scan,
                       const struct weir__control_found *found,
                       struct weir__fault *fault)
{
    struct weir__control next = found->copy[found->newest];
    uint64_t nonce;
    int code = weir__open_random(&nonce);

    if (code != 0) {
        return weir__fault_set(fault,
                               code,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "no random bytes for the epoch's nonce");
    }
    next.epoch = (struct weir__epoch){weir__max_u64(scan->epoch_max, next.epoch.epoch) + 1,
                                      scan->end.lsn,
                                      nonce};
    if (WEIR__PLANTED(no_new_epoch)) {
        next.epoch = found->copy[found->newest].epoch;
    }
    if (WEIR__PLANTED(epoch_reused) && !found->valid[found->newest ^ 1]) {
        next.epoch.epoch--;
        next.epoch.nonce = found->copy[found->newest].epoch.nonce;
    }
    next.promise = scan->end.lsn;
    next.checkpoint = scan->end;
    next.segment_bytes = log->options.segment_bytes;
    next.flags &= ~WEIR__CONTROL_CLEAN;
    next.wall_ns = weir__wall_ns();
    log->epoch = next.epoch;
    code = weir__control_open(&log->control, &log->dir, found, fault);
    return code == 0 ? weir__control_write(&log->control, &next, true, fault) : code;
}

static int open_current(struct weir_log *log,
                        const struct weir__scan_result *scan,
                        struct weir__ready *ready,
                        struct weir__fault *fault)
{
    if (scan->segment.base == scan->segment.end) {
        /* The control file is there, no segment is: killed while the log was being created. */
        weir_lsn base = log->control.current.first_lsn;
        if (scan->end.lsn != base + log->block_bytes) {
            return weir__fault_set(fault,
                                   WEIR_ECORRUPT,
                                   "",
                                   UINT64_MAX,
                                   scan->end.lsn,
                                   "no segment is there, but the log had come to LSN %llu",
                                   (unsigned long long)scan->end.lsn);
        }
        return weir__open_make_segment(
            log,
            (struct weir__range){base, base + log->options.segment_bytes},
            0,
            log->epoch.epoch,
            ready,
            fault);
    }
    ready->range = scan->segment;
    ready->number = scan->segment_number;
    return weir__segment_open(&log->dir,
                              scan->segment,
                              WEIR__OPEN_WRITE | (log->dir.direct ? WEIR__OPEN_DIRECT : 0u),
                              &ready->file,
                              fault);
}

/* An epoch's first batch must start where the log was cut (FORMAT.md section 5): if it went to the
 * next segment, sound batches of a cut epoch could stand at the cut for ever and be taken for the
 * log by a later scan. Where a first record might not fit, a batch without frames takes that place
 * now. */
static int mark_epoch(struct weir_log *log, struct weir__opened *opened, struct weir__fault *fault)
{
    const struct weir__ready *ready = &opened->ready;
    struct weir__position *start = &opened->position;
    uint64_t room = ready->range.end - start->lsn;
    struct weir__stage_config stage = weir__options_stage(&log->options, log->block_bytes);

    if (start->lsn <= ready->range.base || room == 0 ||
        room >= weir__max_u64(stage.oversize_bytes, stage.slot_bytes) ||
        WEIR__PLANTED(epoch_not_marked)) {
        return 0;
    }
    uint8_t *block = weir__mem_alloc_io(&log->mem, log->block_bytes);
    if (!block) {
        return weir__fault_set(fault, -ENOMEM, "", UINT64_MAX, UINT64_MAX, "no memory for a block");
    }
    struct weir__batch batch = {
        .log_id = log->log_id,
        .lsn = start->lsn,
        .prev_end = start->lsn,
        .epoch = log->epoch.epoch,
        .epoch_lsn = log->epoch.lsn,
        .nonce = log->epoch.nonce,
        .promise = start->lsn,
        .wall_ns = weir__wall_ns(),
        .chain = start->chain,
    };
    weir__batch_encode(&batch, block);
    uint64_t offset = start->lsn - ready->range.base;
    int code = weir__io_write_full(log->dir.io, ready->file, block, log->block_bytes, offset, true);
    weir__mem_free_io(&log->mem, block, log->block_bytes);
    if (code != 0) {
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(ready->range.base, ready->range.end, name);
        return weir__fault_set(fault,
                               code,
                               name,
                               offset,
                               start->lsn,
                               "the epoch's first batch cannot be written");
    }
    *start = weir__position_after(&batch, log->block_bytes);
    return 0;
}

int weir__open_recover(struct weir_log *log,
                       const struct weir__control_found *found,
                       struct weir__opened *opened,
                       struct weir__fault *fault)
{
    const struct weir__control *control = &found->copy[found->newest];
    struct weir_options *o = &log->options;
    struct weir__scan_result scan;
    struct weir__scan_config config = {
        .dir = &log->dir,
        .catalog = &log->catalog,
        .control = found,
        .progress = o->on_progress,
        .ctx = o->progress_ctx,
    };

    log->block_bytes = control->block_bytes;
    log->log_id = control->log_id;
    if (log->dir.direct && log->dir.facts.direct_align > log->block_bytes) {
        return weir__fault_set(
            fault,
            -EINVAL,
            WEIR__CONTROL_NAME,
            UINT64_MAX,
            UINT64_MAX,
            "the log has blocks of %u bytes, the device's direct I/O needs %u; open it buffered",
            log->block_bytes,
            log->dir.facts.direct_align);
    }
    o->segment_bytes = o->segment_bytes ? o->segment_bytes : control->segment_bytes;
    if (o->segment_bytes % log->block_bytes != 0 || o->slot_bytes % log->block_bytes != 0) {
        return weir__fault_set(
            fault,
            -EINVAL,
            "",
            UINT64_MAX,
            UINT64_MAX,
            "options segment_bytes and slot_bytes must be multiples of the log's block, %u",
            log->block_bytes);
    }
    int code = weir__open_record_limit(log, fault);
    if (code == 0) {
        code = weir__scan(&config, &scan, fault);
    }
    if (code != 0) {
        return code;
    }
    log->report = scan.report;
    if (scan.report.verdict == WEIR_VERDICT_CORRUPT ||
        scan.report.verdict == WEIR_VERDICT_UNREADABLE) {
        code = scan.report.verdict == WEIR_VERDICT_CORRUPT ? WEIR_ECORRUPT : WEIR_EUNREADABLE;
        const struct weir_error *error = &scan.report.error;
        fault->system_code = error->system_code;
        return weir__fault_set(fault,
                               code,
                               error->file,
                               error->offset,
                               error->lsn,
                               "%.180s; weir salvage copies what verifies",
                               scan.report.why);
    }
    code = weir__repair(&log->dir, &log->catalog, &scan, fault);
    if (code == 0) {
        code = begin_epoch(log, &scan, found, fault);
    }
    if (code == 0) {
        code = open_current(log, &scan, &opened->ready, fault);
    }
    opened->position = scan.end;
    return code == 0 ? mark_epoch(log, opened, fault) : code;
}
