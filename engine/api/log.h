/* SPDX-License-Identifier: Apache-2.0
 * What stands behind a weir_log handle. Private to this floor. */
#ifndef WEIR_API_LOG_H
#define WEIR_API_LOG_H

#include "api/error.h"
#include "drain/flusher.h"
#include "keep/keeper.h"
#include "recover/scan.h"
#include "segment/catalog.h"
#include "segment/control_file.h"
#include "segment/dir.h"
#include "stage/stage.h"

#include <sys/types.h>
#include <weir/weir.h>

#define WEIR__PINS_MAX 64u
#define WEIR__PIN_FREE UINT64_MAX

/* What the watchdog has seen so far. Its time is the sum of the spans between two looks, none taken
 * for longer than two ticks: a process that was stopped as a whole has held nothing up. */
struct weir__watchdog {
    uint64_t time_ns;
    uint64_t look_ns;      /* clock of the last look */
    weir_lsn durable;      /* at the last look */
    uint64_t durable_ns;   /* since when it stands still with records beyond it */
    weir_lsn straggler;    /* batch that waits the longest for a producer, */
    uint64_t straggler_ns; /* since when */
    weir_lsn straggler_told;
    bool lent;           /* the flusher's part was with a producer at the last look, */
    uint32_t lending;    /* which time, */
    uint64_t lending_ns; /* since when */
    uint32_t lending_told;
    uint64_t blamed_ns; /* when a producer was last to blame */
    weir_lsn slow_told; /* the durable LSN at which a standstill was told of */
};

struct weir_log {
    /* Normalised: no zero stands for a default any more. Set before start. */
    struct weir_options options;
    struct weir__mem mem;
    uint32_t *fork_mark; /* reads 0 in a forked child; NULL: compare process ids */
    pid_t pid;

    struct weir__dir dir;
    struct weir__control_file control;
    struct weir__catalog catalog;
    struct weir__keeper keeper;
    struct weir__stage stage;
    struct weir__flusher flusher;
    uint32_t frame_salt; /* of this epoch. Set before start */
    uint32_t block_bytes;
    uint32_t cores; /* set before start */
    uint64_t log_id;
    struct weir__epoch epoch;
    struct weir_report report;

    /* The first cause. 0 none, 1 being written, 2 there. CAS to 1 by whoever fails first;
     * store-release 2; load-acquire readers. */
    WEIR__ATOMIC(uint32_t) fault_state;
    struct weir__fault fault;
    WEIR__ATOMIC(uint32_t)
    space_low; /* 1 between SPACE_LOW and SPACE_BACK. Keeper only writes; relaxed */
    WEIR__ATOMIC(uint64_t) space_wanted; /* as above */
    struct weir__watchdog watchdog;      /* keeper thread */

    WEIR__ATOMIC(uint32_t) cursors;
    /* Lowest LSN each pinning cursor needs; WEIR__PIN_FREE: entry not in use. Taken under
     * pin_mutex, moved up without it (relaxed: the keeper may see an older, lower value, which only
     * holds back more). */
    WEIR__ATOMIC(uint64_t) pins[WEIR__PINS_MAX];
    pthread_mutex_t pin_mutex; /* rank: nothing is taken under it */
    weir_lsn trim_decided;     /* guarded by pin_mutex: no pin may be taken below it any more */
    /* Sums of closed and open cursors; relaxed. */
    WEIR__ATOMIC(uint64_t) cursor_records, cursor_bytes, cursor_slot_batches, cursor_reads,
        cursor_read_bytes;

    /* Read-only logs: the facts as last loaded, guarded by refresh_mutex (rank: outside the
     * catalog's). */
    pthread_mutex_t refresh_mutex;
    struct weir__control seen; /* guarded by refresh_mutex */
    bool seen_writer;          /* guarded by refresh_mutex */
    uint64_t seen_ns;          /* guarded by refresh_mutex: when it was last looked at */
    weir_lsn seen_limit[3];    /* guarded by refresh_mutex: by level */
};

/* The slow form, by process id. */
int weir__log_same_process(const struct weir_log *log);

/* 0, or WEIR_EFORKED: the handle is the parent's. */
static inline int weir__log_usable(const struct weir_log *log)
{
    if (WEIR__LIKELY(log->fork_mark != NULL)) {
        return WEIR__LIKELY(*log->fork_mark != 0) ? 0 : WEIR_EFORKED;
    }
    return weir__log_same_process(log);
}

/* As weir_open, over any I/O: the seam of the tests. */
int weir__open_with(struct weir__io *io,
                    const char *dir,
                    const struct weir_options *options,
                    struct weir_log **log_out,
                    struct weir_error *error_out);

/* Options with defaults put in, checked. -EINVAL names the option in fault. */
int weir__options_check(const struct weir_options *options,
                        struct weir_options *out,
                        struct weir__fault *fault);
struct weir__stage_config weir__options_stage(const struct weir_options *options,
                                              uint32_t block_bytes);

void weir__log_event(struct weir_log *log,
                     enum weir_event_kind kind,
                     int code,
                     weir_lsn lsn,
                     uint64_t value,
                     const char *text);
/* Poisons; the first cause is kept. Any thread. */
void weir__log_fail(struct weir_log *log, const struct weir__fault *fault);
/* A look of the watchdog. Keeper thread. */
void weir__log_watch(struct weir_log *log, uint64_t now_ns);
/* The keeper's questions and news; ctx is the log. */
void weir__log_keeper_callbacks(struct weir__keeper_config *config);

/* Frees everything that opening set up, from whatever stage it had reached. */
void weir__log_teardown(struct weir_log *log);

/* Read-only logs. */
int weir__readonly_load(struct weir_log *log, struct weir__fault *fault);
weir_lsn weir__readonly_limit(struct weir_log *log, enum weir_level level);
weir_lsn weir__readonly_oldest(struct weir_log *log);
struct weir__epoch weir__readonly_epoch(struct weir_log *log);
int weir__readonly_refresh(struct weir_log *log);

#endif
