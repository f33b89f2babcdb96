/* SPDX-License-Identifier: Apache-2.0
 * The life of an open log: failing, shutting down, closing, trimming, describing; and what the
 * keeper asks and tells. */
#include "api/log.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "port/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- events and failure ---------------------------------------------------------------------- */

void weir__log_event(struct weir_log *log,
                     enum weir_event_kind kind,
                     int code,
                     weir_lsn lsn,
                     uint64_t value,
                     const char *text)
{
    if (log->options.on_event) {
        const struct weir_event event = {kind, code, lsn, value, text};
        log->options.on_event(log->options.event_ctx, &event);
    }
}

void weir__log_fail(struct weir_log *log, const struct weir__fault *fault)
{
    uint32_t none = 0;

    /* The loser came second: its cause is not the first. Relaxed: what is published is published by
     * the 2. */
    if (!weir__cas(&log->fault_state, &none, 1u, relaxed)) {
        return;
    }
    log->fault = *fault;
    weir__store(&log->fault_state, 2u, release);
    weir__stage_fail(&log->stage);
    weir__log_event(log, WEIR_EVENT_POISON, fault->code, fault->lsn, 0, fault->text);
}

int weir_log_error(struct weir_log *log, struct weir_error *error_out)
{
    struct weir__fault fault = WEIR__FAULT_NONE;

    if (weir__log_usable(log) != 0) {
        fault.code = WEIR_EFORKED;
    } else if (weir__load(&log->fault_state, acquire) == 2) {
        fault = log->fault;
    } else if (!log->options.read_only) {
        int32_t space = weir__load(&log->keeper.space_error, acquire);
        if (space != 0) {
            weir__fault_set(&fault,
                            space,
                            WEIR__PREPARE_NAME,
                            UINT64_MAX,
                            weir__load(&log->keeper.prepared_end, acquire),
                            "the next segment of %llu bytes cannot be prepared: %s; appending goes "
                            "on by itself when that ends",
                            (unsigned long long)log->options.segment_bytes,
                            weir__code_text(space));
        }
    }
    if (error_out) {
        memset(error_out, 0, sizeof *error_out);
        if (fault.code != 0) {
            weir__error_from_fault(&fault, error_out);
        }
    }
    return fault.code;
}

/* ---- what the keeper asks and tells ---------------------------------------------------------- */

static weir_lsn keeper_durable(void *ctx)
{
    return weir__load(&((struct weir_log *)ctx)->stage.level[WEIR__LEVEL_DURABLE], acquire);
}

static weir_lsn keeper_end(void *ctx)
{
    return weir__stage_end(&((struct weir_log *)ctx)->stage);
}

static void keeper_frontier_moved(void *ctx)
{
    weir__stage_frontier_moved(&((struct weir_log *)ctx)->stage);
}

static void keeper_failed(void *ctx, const struct weir__fault *fault)
{
    weir__log_fail(ctx, fault);
}

static void keeper_space(void *ctx, int code, uint64_t wanted_bytes)
{
    struct weir_log *log = ctx;
    char text[160];

    if (code != 0) {
        snprintf(text,
                 sizeof text,
                 "the next segment of %llu bytes cannot be prepared: %s",
                 (unsigned long long)log->options.segment_bytes,
                 weir__code_text(code));
        weir__log_event(log,
                        WEIR_EVENT_SPACE_LOW,
                        code,
                        weir__load(&log->keeper.prepared_end, relaxed),
                        wanted_bytes,
                        text);
    } else {
        weir__log_event(log,
                        WEIR_EVENT_SPACE_BACK,
                        0,
                        weir__load(&log->keeper.prepared_end, relaxed),
                        0,
                        "segments can be prepared again");
    }
}

static weir_lsn keeper_pinned(void *ctx, weir_lsn target)
{
    struct weir_log *log = ctx;
    weir_lsn lowest = UINT64_MAX;

    pthread_mutex_lock(&log->pin_mutex);
    for (unsigned i = 0; i < WEIR__PINS_MAX; i++) {
        lowest = weir__min_u64(lowest, weir__load(&log->pins[i], relaxed));
    }
    /* What the keeper will trim to: a cursor that pins from now on, below this, is too late. */
    log->trim_decided = weir__max_u64(log->trim_decided, weir__min_u64(lowest, target));
    pthread_mutex_unlock(&log->pin_mutex);
    return lowest;
}

static void keeper_tick(void *ctx, uint64_t now_ns)
{
    weir__log_watch(ctx, now_ns);
}

void weir__log_keeper_callbacks(struct weir__keeper_config *config)
{
    config->durable = keeper_durable;
    config->end = keeper_end;
    config->frontier_moved = keeper_frontier_moved;
    config->failed = keeper_failed;
    config->space = keeper_space;
    config->pinned = keeper_pinned;
    config->tick = keeper_tick;
}

/* ---- ends ------------------------------------------------------------------------------------ */

int weir_shutdown(struct weir_log *log, int64_t timeout_ns)
{
    int code = weir__log_usable(log);

    if (code != 0) {
        return code;
    }
    if (log->options.read_only) {
        return 0;
    }
    weir__stage_shut(&log->stage);
    code = weir__stage_wait_drained(&log->stage,
                                    timeout_ns < 0    ? WEIR__NEVER
                                    : timeout_ns == 0 ? 0
                                                      : weir__deadline(timeout_ns));
    if (code == 0 && weir__load(&log->stage.failed, acquire)) {
        code = WEIR_EFAILED;
    }
    return code;
}

/* After a clean drain: the end is promised, so that the next opening need not look for it. */
static int mark_clean(struct weir_log *log, struct weir__fault *fault)
{
    struct weir__control next = log->control.current;

    next.checkpoint = log->flusher.position;
    next.promise = log->flusher.position.lsn;
    next.flags |= WEIR__CONTROL_CLEAN;
    next.wall_ns = weir__wall_ns();
    return weir__control_write(&log->control, &next, true, fault);
}

static void error_at_durable(struct weir_log *log,
                             const struct weir__fault *fault,
                             struct weir_error *error_out)
{
    weir_lsn durable = weir__load(&log->stage.level[WEIR__LEVEL_DURABLE], acquire);
    weir_lsn end = weir__stage_end(&log->stage);

    weir__error_from_fault(fault, error_out);
    error_out->lsn = durable;
    size_t used = strlen(error_out->text);
    snprintf(error_out->text + used,
             sizeof error_out->text - used,
             "; durable up to LSN %llu, %llu bytes appended beyond it were not made durable",
             (unsigned long long)durable,
             (unsigned long long)(end > durable ? end - durable : 0));
}

int weir_close(struct weir_log *log, struct weir_error *error_out)
{
    if (error_out) {
        memset(error_out, 0, sizeof *error_out);
    }
    if (!log) {
        return 0;
    }
    int code = weir__log_usable(log);
    if (code != 0) {
        return code;
    }
    if (weir__load(&log->cursors, acquire) != 0) {
        return -EBUSY;
    }
    if (!log->options.read_only) {
        code = weir_shutdown(log, WEIR_FOREVER);
        /* The keeper first: it may wake the flusher's ring, which lives until the join. */
        weir__keeper_stop(&log->keeper);
        struct weir__fault fault = WEIR__FAULT_NONE;
        if (weir__load(&log->fault_state, acquire) == 2) {
            fault = log->fault;
            code = WEIR_EFAILED;
        } else if (code == 0 && mark_clean(log, &fault) != 0) {
            code = WEIR_EFAILED; /* every record is durable; only the mark is missing */
        }
        if (code != 0 && error_out) {
            error_at_durable(log, &fault, error_out);
        }
    }
    weir__log_teardown(log);
    return code;
}

/* ---- positions ------------------------------------------------------------------------------- */

weir_lsn weir_durable_lsn(struct weir_log *log)
{
    return log->options.read_only ? weir__readonly_limit(log, WEIR_DURABLE)
                                  : weir__load(&log->stage.level[WEIR__LEVEL_DURABLE], acquire);
}

weir_lsn weir_written_lsn(struct weir_log *log)
{
    return log->options.read_only ? weir__readonly_limit(log, WEIR_WRITTEN)
                                  : weir__load(&log->stage.level[WEIR__LEVEL_WRITTEN], acquire);
}

weir_lsn weir_end_lsn(struct weir_log *log)
{
    return log->options.read_only ? weir__readonly_limit(log, WEIR_APPENDED)
                                  : weir__stage_end(&log->stage);
}

weir_lsn weir_oldest_lsn(struct weir_log *log)
{
    return log->options.read_only ? weir__readonly_oldest(log)
                                  : weir__load(&log->keeper.oldest, acquire);
}

/* ---- what is on its way ---------------------------------------------------------------------- */

uint64_t weir_pending_batch_ops(struct weir_log *log)
{
    return log->options.read_only ? 0 : weir__stage_pending_records(&log->stage);
}

uint64_t weir_pending_batch_bytes(struct weir_log *log)
{
    const weir_lsn durable = weir_durable_lsn(log);
    const weir_lsn end = weir_end_lsn(log);
    return !log->options.read_only && end > durable ? end - durable : 0;
}

bool weir_has_pending_batch(struct weir_log *log)
{
    return weir_pending_batch_ops(log) > 0;
}

uint64_t weir_max_batch_bytes(struct weir_log *log)
{
    return log->options.read_only ? 0 : log->options.slot_bytes;
}

uint64_t weir_size(struct weir_log *log)
{
    return weir_end_lsn(log);
}

/* ---- trimming -------------------------------------------------------------------------------- */

int weir_trim(struct weir_log *log, weir_lsn before)
{
    int code = weir__log_usable(log);

    if (code != 0) {
        return code;
    }
    if (log->options.read_only) {
        return WEIR_EREADONLY;
    }
    if (before > weir_durable_lsn(log)) {
        return -EINVAL;
    }
    if (weir__load(&log->stage.failed, acquire)) {
        return WEIR_EFAILED;
    }
    if (weir__load(&log->stage.shut, relaxed)) {
        return WEIR_ESHUTDOWN;
    }
    return weir__keeper_trim(&log->keeper, before, &log->stage.failed);
}

/* ---- descriptions ---------------------------------------------------------------------------- */

void weir_log_report(struct weir_log *log, struct weir_report *report_out)
{
    *report_out = log->report;
}

void weir_log_describe(struct weir_log *log, struct weir_log_info *info_out)
{
    const struct weir__flusher *flusher = &log->flusher;

    memset(info_out, 0, sizeof *info_out);
    info_out->io_asked = log->options.io;
    info_out->io_used =
        log->options.io == WEIR_IO_AUTO && !flusher->ring ? WEIR_IO_POSIX : log->options.io;
    info_out->io_uring = flusher->ring;
    info_out->direct = log->dir.direct;
    info_out->buffers_registered = flusher->queue_info.buffers_registered;
    info_out->huge_pages = log->stage.buffers_bytes >= (2u << 20) && !log->options.no_huge_pages;
    info_out->lock_in_ring = flusher->queue_info.lock_registered;
    info_out->block_bytes = log->block_bytes;
    info_out->slot_bytes = log->options.slot_bytes;
    info_out->slots = log->options.slots;
    info_out->max_inflight = log->options.max_inflight;
    info_out->record_bytes_max = log->options.record_bytes_max;
    info_out->segment_bytes = log->options.segment_bytes;
    info_out->epoch = log->epoch.epoch;
    info_out->log_id = log->log_id;
    info_out->sync_ns = flusher->sync_ns;
    info_out->fua = log->dir.facts.fua;
    snprintf(info_out->memory_source, sizeof info_out->memory_source, "%s", log->mem.source);
    snprintf(info_out->crc32c, sizeof info_out->crc32c, "%s", weir__crc32c_name());
    snprintf(info_out->fs_name, sizeof info_out->fs_name, "%s", log->dir.facts.fs_name);
    snprintf(info_out->io_reason,
             sizeof info_out->io_reason,
             "%s",
             log->options.read_only ? "opened read-only" : flusher->io_reason);
    info_out->policy = log->options.policy;
    info_out->cores = log->cores;
    info_out->yield_from = log->stage.config.yield_from;
    info_out->collect_max = flusher->config.collect_max;
}

const char *weir_strerror(int code)
{
    return weir__code_text(code);
}

const char *weir_error_name(int code)
{
    return weir__code_name(code);
}

const char *weir_version(void)
{
    return WEIR_VERSION_STRING;
}
