/* SPDX-License-Identifier: Apache-2.0
 * Logs opened read-only, live or not: what may be shown.
 *
 * While a writer has the log, its live page names the durable and the written LSN (believed only when log id and epoch are those of the control file); without such a
 * page the promise of the control file is the limit. Without a writer, the log is scanned as recovery would scan it, and written to by nobody: what verifies is
 * "written", what lies below the highest promise is "durable". Any thread; one at a time by refresh_mutex. */
#include "api/log.h"
#include "port/clock.h"

#include <errno.h>
#include <string.h>

#define LOOK_AGAIN_NS UINT64_C(1000000) /* the files are asked at most once per ms */

static int load_control(struct weir_log *log, struct weir__fault *fault)
{
    struct weir__control_found found;
    int code = weir__scan_control(&log->dir, &log->catalog, &found, fault);

    if (code == 0) {
        log->seen = found.copy[found.newest];
    }
    return code;
}

/* Without a writer the end is found by looking. */
static int load_by_scan(struct weir_log *log, struct weir__fault *fault)
{
    struct weir__control_found found;
    struct weir__scan_result scan;
    int code = weir__scan_control(&log->dir, &log->catalog, &found, fault);

    if (code != 0) {
        return code;
    }
    struct weir__scan_config config = {
        .dir = &log->dir,
        .catalog = &log->catalog,
        .control = &found,
        .progress = log->options.on_progress,
        .ctx = log->options.progress_ctx,
    };
    code = weir__scan(&config, &scan, fault);
    if (code != 0) {
        return code;
    }
    log->seen = found.copy[found.newest];
    log->report = scan.report;
    log->seen_limit[WEIR_DURABLE] = weir__min_u64(scan.report.promise_lsn, scan.report.end_lsn);
    log->seen_limit[WEIR_WRITTEN] = log->seen_limit[WEIR_APPENDED] = scan.report.end_lsn;
    return 0;
}

static void limits_raise(struct weir_log *log, weir_lsn durable, weir_lsn written)
{
    log->seen_limit[WEIR_DURABLE] = weir__max_u64(log->seen_limit[WEIR_DURABLE], durable);
    log->seen_limit[WEIR_WRITTEN] =
        weir__max_u64(log->seen_limit[WEIR_WRITTEN], weir__max_u64(durable, written));
    log->seen_limit[WEIR_APPENDED] = log->seen_limit[WEIR_WRITTEN];
}

static int load_live(struct weir_log *log, struct weir__fault *fault)
{
    struct weir__live live;
    bool page = weir__dir_live_read(&log->dir, &live);

    if (!page || live.epoch != log->seen.epoch.epoch || live.log_id != log->seen.log_id) {
        int code = load_control(log, fault);
        if (code != 0) {
            return code;
        }
        limits_raise(log, log->seen.promise, log->seen.promise);
    }
    if (page && live.epoch == log->seen.epoch.epoch && live.log_id == log->seen.log_id) {
        limits_raise(log, live.durable, live.written);
        log->seen.oldest_lsn = weir__max_u64(log->seen.oldest_lsn, live.oldest);
    }
    return 0;
}

/* Under refresh_mutex. An error leaves what was known. */
static int look(struct weir_log *log, struct weir__fault *fault)
{
    uint64_t now = weir__now_ns();

    if (log->seen_ns != 0 && now - log->seen_ns < LOOK_AGAIN_NS) {
        return 0;
    }
    bool writer = weir__dir_writer_live(&log->dir);
    int code = 0;
    if (writer) {
        code = load_live(log, fault);
    } else if (log->seen_ns == 0 || log->seen_writer) {
        code = weir__catalog_load(&log->catalog, &log->dir, fault);
        if (code == 0) {
            code = load_by_scan(log, fault);
        }
    }
    if (code == 0) {
        log->seen_writer = writer;
        log->seen_ns = now;
    }
    return code;
}

int weir__readonly_load(struct weir_log *log, struct weir__fault *fault)
{
    int code = weir__catalog_load(&log->catalog, &log->dir, fault);

    if (code == 0) {
        code = load_control(log, fault);
    }
    if (code != 0) {
        return code;
    }
    log->block_bytes = log->seen.block_bytes;
    log->log_id = log->seen.log_id;
    log->options.segment_bytes = log->seen.segment_bytes;
    if (log->dir.direct && log->dir.facts.direct_align > log->block_bytes) {
        log->dir.direct = false;
    }
    log->report.bad_lsn = log->report.evidence_lsn = UINT64_MAX;
    code = look(log, fault);
    log->epoch = log->seen.epoch;
    log->report.log_id = log->log_id;
    log->report.epoch = log->epoch.epoch;
    log->report.oldest_lsn = log->seen.oldest_lsn;
    log->report.writer_live = log->seen_writer;
    if (log->seen_writer) {
        log->report.promise_lsn = log->report.end_lsn = log->seen_limit[WEIR_DURABLE];
        strcpy(log->report.why, "a writer has the log open");
    }
    return code;
}

weir_lsn weir__readonly_limit(struct weir_log *log, enum weir_level level)
{
    struct weir__fault fault = WEIR__FAULT_NONE;

    pthread_mutex_lock(&log->refresh_mutex);
    look(log, &fault);
    weir_lsn limit = log->seen_limit[level];
    pthread_mutex_unlock(&log->refresh_mutex);
    return limit;
}

weir_lsn weir__readonly_oldest(struct weir_log *log)
{
    struct weir__fault fault = WEIR__FAULT_NONE;

    pthread_mutex_lock(&log->refresh_mutex);
    look(log, &fault);
    weir_lsn oldest = log->seen.oldest_lsn;
    pthread_mutex_unlock(&log->refresh_mutex);
    return oldest;
}

struct weir__epoch weir__readonly_epoch(struct weir_log *log)
{
    struct weir__fault fault = WEIR__FAULT_NONE;

    pthread_mutex_lock(&log->refresh_mutex);
    look(log, &fault);
    struct weir__epoch epoch = log->seen.epoch;
    pthread_mutex_unlock(&log->refresh_mutex);
    return epoch;
}

int weir__readonly_refresh(struct weir_log *log)
{
    struct weir__fault fault = WEIR__FAULT_NONE;
    int code;

    pthread_mutex_lock(&log->refresh_mutex);
    log->seen_ns = log->seen_ns == 0 ? 0 : 1; /* look again now */
    code = weir__catalog_load(&log->catalog, &log->dir, &fault);
    if (code == 0 && weir__dir_writer_live(&log->dir)) {
        code = load_control(log, &fault);
    }
    pthread_mutex_unlock(&log->refresh_mutex);
    return code;
}
