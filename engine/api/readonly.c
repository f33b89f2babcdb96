/* SPDX-License-Identifier: Apache-2.0
 * Logs opened read-only, live or not: what may be shown.
 *
 * While a writer has the log, its live page names the durable and the written LSN (believed only
 * when log id and epoch are those of the control file); without such a page the promise of the
 * control file is the limit. Without a writer, the log is scanned as recovery would scan it, and
 * written to by nobody: what verifies is "written", what lies below the highest promise is
 * "durable". Any thread; one at a time by refresh_mutex. */
#include "api/log.h"
#include "port/clock.h"

#include <errno.h>
#include <string.h>

#define LOOK_AGAIN_NS                                                                              \
    UINT64_C(1000000) /* beside a writer the files are asked at most once per ms */
#define LOOK_AGAIN_IDLE_NS UINT64_C(20000000) /* without one, seldom */
#define ROUNDS_MAX 5u                         /* looks that a writer coming or going may spoil */

static int
load_control(struct weir_log *log, struct weir__control_found *found, struct weir__fault *fault)
{
    return weir__scan_control(&log->dir, &log->catalog, found, fault);
}

static const struct weir__control *newest(const struct weir__control_found *found)
{
    return &found->copy[found->newest];
}

/* Takes over what the control file says. Another epoch is another log behind its start: what was
 * known of the old one does not hold. */
static void control_take(struct weir_log *log, const struct weir__control *control)
{
    if (control->epoch.epoch != log->seen.epoch.epoch) {
        for (unsigned level = 0; level < WEIR__ARRAY_COUNT(log->seen_limit); level++) {
            log->seen_limit[level] = control->promise;
        }
    }
    log->seen = *control;
}

static void limits_raise(struct weir_log *log, weir_lsn durable, weir_lsn written)
{
    weir_lsn *limit = log->seen_limit;

    limit[WEIR_DURABLE] = weir__max_u64(limit[WEIR_DURABLE], durable);
    limit[WEIR_WRITTEN] = weir__max_u64(limit[WEIR_WRITTEN], weir__max_u64(durable, written));
    limit[WEIR_APPENDED] = limit[WEIR_WRITTEN];
}

/* Beside a writer: its live page, believed only for the epoch of the control file. */
static int look_live(struct weir_log *log, struct weir__fault *fault)
{
    struct weir__live live;
    bool page = weir__dir_live_read(&log->dir, &live);

    if (!page || live.epoch != log->seen.epoch.epoch || live.log_id != log->seen.log_id) {
        struct weir__control_found found;
        int code = load_control(log, &found, fault);
        if (code != 0) {
            return code;
        }
        control_take(log, newest(&found));
        limits_raise(log, log->seen.promise, log->seen.promise);
    }
    if (page && live.epoch == log->seen.epoch.epoch && live.log_id == log->seen.log_id) {
        limits_raise(log, live.durable, live.written);
        log->seen.oldest_lsn = weir__max_u64(log->seen.oldest_lsn, live.oldest);
    }
    return 0;
}

static void scan_take(struct weir_log *log, const struct weir__scan_result *scan)
{
    const struct weir_report *report = &scan->report;
    bool whole =
        report->verdict != WEIR_VERDICT_CORRUPT && report->verdict != WEIR_VERDICT_UNREADABLE;

    if (log->seen_ns == 0) {
        log->report = *report; /* what the opening found; a later look changes nothing of it */
    }
    /* Damage below a promise is not an end: readers are to run into it and say where it is. */
    weir_lsn end = whole ? report->end_lsn : weir__max_u64(report->promise_lsn, report->end_lsn);
    log->seen_limit[WEIR_DURABLE] = weir__min_u64(report->promise_lsn, end);
    log->seen_limit[WEIR_WRITTEN] = end;
    log->seen_limit[WEIR_APPENDED] = end;
}

/* Without a writer the end is found by looking: as often as a writer came and went since. -EAGAIN:
 * one came meanwhile. */
static int look_idle(struct weir_log *log, struct weir__fault *fault)
{
    struct weir__control_found found;
    struct weir__scan_result scan;
    int code = load_control(log, &found, fault);

    if (code != 0) {
        return code;
    }
    if (log->seen_ns != 0 && !log->seen_writer &&
        newest(&found)->generation == log->seen.generation) {
        return 0;
    }
    code = weir__catalog_load(&log->catalog, &log->dir, fault);
    if (code == 0) {
        struct weir__scan_config config = {
            .dir = &log->dir,
            .catalog = &log->catalog,
            .control = &found,
            .progress = log->options.on_progress,
            .ctx = log->options.progress_ctx,
        };
        code = weir__scan(&config, &scan, fault);
    }
    struct weir__control_found after;
    struct weir__fault ignored = WEIR__FAULT_NONE;
    if (weir__dir_writer_live(&log->dir) || load_control(log, &after, &ignored) != 0 ||
        newest(&after)->generation != newest(&found)->generation) {
        return -EAGAIN; /* whatever the scan said, it looked at a log that was changing */
    }
    if (code == 0) {
        log->seen = *newest(&found);
        scan_take(log, &scan);
    }
    return code;
}

/* Under refresh_mutex. An error leaves what was known. */
static int look(struct weir_log *log, struct weir__fault *fault)
{
    uint64_t now = weir__now_ns();
    uint64_t pause = log->seen_writer ? LOOK_AGAIN_NS : LOOK_AGAIN_IDLE_NS;
    int code = -EAGAIN;

    if (log->seen_ns != 0 && now - log->seen_ns < pause) {
        return 0;
    }
    for (unsigned round = 0; code == -EAGAIN && round < ROUNDS_MAX; round++) {
        *fault = WEIR__FAULT_NONE;
        bool writer = weir__dir_writer_live(&log->dir);
        code = writer ? look_live(log, fault) : look_idle(log, fault);
        if (code == 0) {
            log->seen_writer = writer;
            log->seen_ns = now;
        }
    }
    return code;
}

int weir__readonly_load(struct weir_log *log, struct weir__fault *fault)
{
    struct weir__control_found found;
    int code = weir__catalog_load(&log->catalog, &log->dir, fault);

    if (code == 0) {
        code = load_control(log, &found, fault);
    }
    if (code != 0) {
        return code;
    }
    control_take(log, newest(&found));
    log->block_bytes = log->seen.block_bytes;
    log->log_id = log->seen.log_id;
    log->options.segment_bytes = log->seen.segment_bytes;
    if (log->dir.direct && log->dir.facts.direct_align > log->block_bytes) {
        log->dir.direct = false;
    }
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
    struct weir__control_found found;

    pthread_mutex_lock(&log->refresh_mutex);
    int code = weir__catalog_load(&log->catalog, &log->dir, &fault);
    if (code == 0 && load_control(log, &found, &fault) == 0) {
        log->seen.oldest_lsn = weir__max_u64(log->seen.oldest_lsn, newest(&found)->oldest_lsn);
    }
    if (log->seen_ns != 0) {
        log->seen_ns = 1; /* the next look is due at once */
    }
    pthread_mutex_unlock(&log->refresh_mutex);
    return code;
}
