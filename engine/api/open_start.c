/* SPDX-License-Identifier: Apache-2.0
 * The last step of an opening: keeper, stage, flusher, live page. From here on appends are taken.
 *
 * What can fail: memory, threads, io_uring where it is demanded. The thread that opens; nobody else
 * has the handle yet. */
#include "api/open.h"
#include "base/check.h"
#include "format/frame.h"
#include "io/transfer.h"
#include "port/thread.h"
#include "segment/segment.h"

#include <errno.h>

uint32_t weir__policy_yield_from(enum weir_policy policy, uint32_t cores)
{
    const uint32_t per_core =
        policy == WEIR_POLICY_LOW_LATENCY ? WEIR__YIELD_PER_CORE_LOW : WEIR__YIELD_PER_CORE;

    return policy == WEIR_POLICY_OFF ? 0 : (uint32_t)weir__max_u64(2, (uint64_t)per_core * cores);
}

static uint32_t yield_long_from(enum weir_policy policy, uint32_t cores)
{
    const uint32_t per_core =
        policy == WEIR_POLICY_LOW_LATENCY ? WEIR__YIELD_PER_CORE_LOW : WEIR__YIELD_LONG_PER_CORE;

    return (uint32_t)weir__min_u64(UINT32_MAX, (uint64_t)per_core * cores);
}

uint32_t weir__policy_collect_max(enum weir_policy policy, uint32_t cores)
{
    return policy == WEIR_POLICY_OFF
               ? 0
               : (uint32_t)weir__max_u64(2, (uint64_t)WEIR__COLLECT_PER_CORE * cores);
}

static void wake_ring(void *ctx)
{
    weir__flusher_wake(&((struct weir_log *)ctx)->flusher);
}

static void flusher_failed(void *ctx, const struct weir__fault *fault)
{
    weir__log_fail(ctx, fault);
}

static int start_keeper(struct weir_log *log,
                        struct weir__ready *ready,
                        const struct weir__position *start,
                        struct weir__fault *fault)
{
    struct weir__keeper_config config = {
        .dir = &log->dir,
        .control = &log->control,
        .catalog = &log->catalog,
        .segment_bytes = log->options.segment_bytes,
        .spare_segments = log->options.spare_segments,
        .recycle_segments = log->options.recycle_segments,
        .ctx = log,
    };

    weir__log_keeper_callbacks(&config);
    int code = weir__keeper_init(&log->keeper, &config, ready);
    if (code != 0) {
        return weir__fault_set(fault, code, "", UINT64_MAX, UINT64_MAX, "cannot set up the keeper");
    }
    ready->file = -1; /* the keeper's from here on, also if the next step fails */
    uint64_t need = WEIR__BATCH_HEADER_BYTES + WEIR__UNIT;
    if (ready->range.end - start->lsn < need) {
        code = weir__keeper_prepare_now(&log->keeper, fault);
        if (code == -ENOSPC || code == -EDQUOT) {
            /* A full log must open, or nobody could trim it: appends get -ENOSPC until then. */
            code = 0;
            *fault = WEIR__FAULT_NONE;
        }
    }
    return code;
}

static int start_stage(struct weir_log *log,
                       const struct weir__ready *ready,
                       const struct weir__position *start,
                       struct weir__fault *fault)
{
    struct weir__stage_config config = weir__options_stage(&log->options, log->block_bytes);

    config.mem = &log->mem;
    config.epoch = log->epoch.epoch;
    config.nonce = log->epoch.nonce;
    config.prepared_end = &log->keeper.prepared_end;
    config.space_error = &log->keeper.space_error;
    config.current_end = &log->keeper.current_end;
    config.yield_from = weir__policy_yield_from(log->options.policy, log->cores);
    config.yield_long_from = yield_long_from(log->options.policy, log->cores);
    config.wake_ring = wake_ring;
    config.ctx = log;
    int code = weir__stage_init(&log->stage,
                                &config,
                                start,
                                ready->range.base,
                                ready->range.end,
                                ready->number);
    if (code != 0) {
        return weir__fault_set(
            fault,
            code,
            "",
            UINT64_MAX,
            UINT64_MAX,
            "no memory for %u slots of %u bytes and %u of %llu: use fewer or smaller ones",
            config.slots,
            config.slot_bytes,
            config.oversize_buffers,
            (unsigned long long)config.oversize_bytes);
    }
    return 0;
}

static int start_flusher(struct weir_log *log,
                         const struct weir__ready *ready,
                         const struct weir__position *start,
                         struct weir__fault *fault)
{
    size_t block = log->block_bytes;
    uint8_t *header = weir__mem_alloc_io(&log->mem, block);

    if (!header) {
        return weir__fault_set(fault, -ENOMEM, "", UINT64_MAX, UINT64_MAX, "no memory for a block");
    }
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(ready->range.base, ready->range.end, name);
    int code = weir__io_read_full(log->dir.io, ready->file, header, block, 0);
    if (code != 0) {
        code = weir__fault_set(fault,
                               code,
                               name,
                               0,
                               ready->range.base,
                               "the segment's header cannot be read");
    } else {
        struct weir__flusher_config config = {
            .stage = &log->stage,
            .keeper = &log->keeper,
            .dir = &log->dir,
            .mem = &log->mem,
            .io = log->options.io,
            .max_inflight = log->options.max_inflight,
            .lend = log->options.policy != WEIR_POLICY_OFF &&
                    (log->options.io == WEIR_IO_AUTO || log->options.io == WEIR_IO_POSIX),
            .collect_max = weir__policy_collect_max(log->options.policy, log->cores),
            .block_bytes = log->block_bytes,
            .log_id = log->log_id,
            .epoch = log->epoch,
            .start = *start,
            .first = ready,
            .first_header = header,
            .failed = flusher_failed,
            .ctx = log,
        };
        code = weir__flusher_start(&log->flusher, &config, fault);
    }
    if (log->stage.keep_buffers) {
        /* Its write may still be under way. */
        weir__mem_abandon(&log->mem, header, weir__mem_io_bytes(block));
    } else {
        weir__mem_free_io(&log->mem, header, block);
    }
    return code;
}

static void tell_fallback(struct weir_log *log)
{
    const struct weir__flusher *flusher = &log->flusher;

    if (log->options.io != WEIR_IO_POSIX && !flusher->ring) {
        weir__log_event(log, WEIR_EVENT_FALLBACK, 0, 0, 0, flusher->io_reason);
    } else if (flusher->queue_info.note[0] != '\0') {
        weir__log_event(log, WEIR_EVENT_FALLBACK, 0, 0, 0, flusher->queue_info.note);
    }
    if (!log->dir.direct && !log->options.buffered) {
        weir__log_event(
            log,
            WEIR_EVENT_FALLBACK,
            0,
            0,
            0,
            "the file system refuses O_DIRECT: segments are written through the page cache");
    }
}

int weir__open_start(struct weir_log *log, struct weir__opened *opened, struct weir__fault *fault)
{
    const struct weir__position *position = &opened->position;
    log->cores = weir__cores();
    int code = start_keeper(log, &opened->ready, position, fault);
    if (code == 0) {
        /* keeper_init copied it; the one that stage and flusher see is the keeper's. */
        const struct weir__ready *current = weir__keeper_ready(&log->keeper, opened->ready.number);
        weir__check(current != NULL);
        code = start_stage(log, current, position, fault);
        if (code == 0) {
            code = start_flusher(log, current, position, fault);
        }
    }
    if (code != 0) {
        return code;
    }
    log->frame_salt = weir__frame_salt(log->log_id, log->epoch.nonce, log->epoch.epoch);
    struct weir__live live = {
        .log_id = log->log_id,
        .epoch = log->epoch.epoch,
        .durable = position->lsn,
        .written = position->lsn,
        .oldest = log->control.current.oldest_lsn,
    };
    weir__dir_live_begin(&log->dir, &live);
    code = weir__keeper_start(&log->keeper);
    if (code != 0) {
        return weir__fault_set(fault,
                               code,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "cannot start the keeper thread");
    }
    if (log->report.verdict == WEIR_VERDICT_TORN ||
        (log->report.verdict == WEIR_VERDICT_STALE && log->report.bytes_cut > 0)) {
        weir__log_event(log,
                        WEIR_EVENT_RECOVERED,
                        0,
                        log->report.end_lsn,
                        log->report.bytes_cut,
                        log->report.why);
    }
    tell_fallback(log);
    return 0;
}
