/* SPDX-License-Identifier: Apache-2.0
 * Cursors of the public interface: a reading cursor (read/cursor.h) fed with what this log knows:
 * positions, slots in memory, waiting, pins. */
#include "read/cursor.h"
#include "api/log.h"
#include "port/clock.h"

#include <errno.h>
#include <string.h>

struct weir_cursor {
    struct weir_log *log;
    struct weir__cursor *inner;
    WEIR__ATOMIC(uint64_t) *pin;        /* our entry, NULL: does not pin */
    struct weir__cursor_counts counted; /* already in the log's sums */
    unsigned calls;
    uint64_t pause_ns; /* another process's log: of the last look at the tail */
};

/* ---- the writer's own log -------------------------------------------------------------------- */

static weir_lsn own_limit(void *ctx, enum weir_level level)
{
    struct weir_log *log = ((struct weir_cursor *)ctx)->log;

    switch (level) {
    case WEIR_DURABLE:
        return weir__load(&log->stage.level[WEIR__LEVEL_DURABLE], acquire);
    case WEIR_WRITTEN:
        return weir__load(&log->stage.level[WEIR__LEVEL_WRITTEN], acquire);
    default:
        return weir__load(&log->stage.complete, acquire);
    }
}

static weir_lsn own_oldest(void *ctx)
{
    return weir__load(&((struct weir_cursor *)ctx)->log->keeper.oldest, acquire);
}

static struct weir__epoch own_epoch(void *ctx)
{
    return ((struct weir_cursor *)ctx)->log->epoch;
}

static size_t own_memory(void *ctx, weir_lsn prev_end, void *to, size_t room)
{
    return weir__stage_copy(&((struct weir_cursor *)ctx)->log->stage, prev_end, to, room);
}

static int own_wait(void *ctx, weir_lsn above, enum weir_level level, uint64_t deadline_ns)
{
    struct weir_log *log = ((struct weir_cursor *)ctx)->log;
    int code;

    if (level == WEIR_APPENDED) {
        code = weir__stage_wait_complete(&log->stage, above, deadline_ns);
    } else {
        enum weir__level which = level == WEIR_DURABLE ? WEIR__LEVEL_DURABLE : WEIR__LEVEL_WRITTEN;
        code = weir__stage_wait(&log->stage, above, which, WEIR__SLOT_NONE, 0, deadline_ns);
    }
    return code == WEIR_EFAILED ? WEIR_ESHUTDOWN
                                : code; /* a poisoned log is still read, up to what was durable */
}

/* ---- another process's log ------------------------------------------------------------------- */

static weir_lsn other_limit(void *ctx, enum weir_level level)
{
    return weir__readonly_limit(((struct weir_cursor *)ctx)->log, level);
}

static weir_lsn other_oldest(void *ctx)
{
    return weir__readonly_oldest(((struct weir_cursor *)ctx)->log);
}

static struct weir__epoch other_epoch(void *ctx)
{
    return weir__readonly_epoch(((struct weir_cursor *)ctx)->log);
}

static size_t other_memory(void *ctx, weir_lsn prev_end, void *to, size_t room)
{
    (void)ctx, (void)prev_end, (void)to, (void)room;
    return 0;
}

/* Nobody wakes us across processes: look again after a pause, which grows to 20 ms while nothing
 * happens. The caller looks at the epoch, too. */
static int other_wait(void *ctx, weir_lsn above, enum weir_level level, uint64_t deadline_ns)
{
    struct weir_cursor *cursor = ctx;

    if (weir__readonly_limit(cursor->log, level) > above) {
        cursor->pause_ns = 0;
        return 0;
    }
    uint64_t now = weir__now_ns();
    if (now >= deadline_ns) {
        return -ETIMEDOUT;
    }
    cursor->pause_ns = weir__min_u64(weir__max_u64(cursor->pause_ns * 2, 200000), 20000000);
    weir__sleep_ns(weir__min_u64(cursor->pause_ns, deadline_ns - now));
    return 0;
}

static int other_refresh(void *ctx)
{
    return weir__readonly_refresh(((struct weir_cursor *)ctx)->log);
}

/* ---- pins ------------------------------------------------------------------------------------ */

/* Takes an entry at lsn. WEIR_EPASSED: a trim beyond it is under way; -EAGAIN: all are taken. */
static int pin_take(struct weir_log *log, weir_lsn *lsn_io, WEIR__ATOMIC(uint64_t) **pin_out)
{
    int code = -EAGAIN;

    pthread_mutex_lock(&log->pin_mutex);
    weir_lsn oldest = weir__load(&log->keeper.oldest, acquire);
    weir_lsn floor = weir__max_u64(oldest, log->trim_decided);
    if (*lsn_io == WEIR_LSN_OLDEST) {
        *lsn_io = floor; /* a trim to it may just be under way */
    }
    if (*lsn_io < floor) {
        code = WEIR_EPASSED;
    } else {
        for (unsigned i = 0; i < WEIR__PINS_MAX; i++) {
            if (weir__load(&log->pins[i], relaxed) == WEIR__PIN_FREE) {
                weir__store(&log->pins[i], *lsn_io, relaxed);
                *pin_out = &log->pins[i];
                code = 0;
                break;
            }
        }
    }
    pthread_mutex_unlock(&log->pin_mutex);
    return code;
}

static void pin_move(void *ctx, weir_lsn lsn)
{
    struct weir_cursor *cursor = ctx;

    if (cursor->pin) {
        weir__store(cursor->pin, lsn, relaxed);
    }
}

/* ---- the public calls ------------------------------------------------------------------------ */

static void config_fill(struct weir__cursor_config *config,
                        struct weir_cursor *cursor,
                        enum weir_level level,
                        unsigned flags)
{
    struct weir_log *log = cursor->log;
    bool own = !log->options.read_only;

    *config = (struct weir__cursor_config){
        .dir = &log->dir,
        .mem = &log->mem,
        .catalog = &log->catalog,
        .block_bytes = log->block_bytes,
        .log_id = log->log_id,
        .batch_bytes = log->options.slot_bytes,
        .level = !own && level == WEIR_APPENDED ? WEIR_WRITTEN : level,
        .read_ahead = (flags & WEIR_CURSOR_READ_AHEAD) != 0,
        .live_tail = !own || log->dir.direct, /* our own buffered writes are in the page cache */
        .limit = own ? own_limit : other_limit,
        .oldest = own ? own_oldest : other_oldest,
        .newest = own ? own_epoch : other_epoch,
        .from_memory = own ? own_memory : other_memory,
        .wait = own ? own_wait : other_wait,
        .refresh = own ? NULL : other_refresh,
        .moved = pin_move,
        .ctx = cursor,
    };
    /* A batch of any earlier opening may be as large as its options allowed: at most a segment. */
    config->batch_bytes_max = weir__max_u64(log->options.segment_bytes, (uint64_t)1 << 30);
}

static int cursor_open(struct weir_log *log,
                       weir_lsn lsn,
                       enum weir_level level,
                       unsigned flags,
                       struct weir_cursor **cursor_out,
                       struct weir__fault *fault)
{
    int code = weir__log_usable(log);

    if (code != 0) {
        return code;
    }
    if (!cursor_out || (unsigned)level > WEIR_APPENDED ||
        (flags & ~(unsigned)(WEIR_CURSOR_PIN | WEIR_CURSOR_READ_AHEAD)) != 0) {
        return -EINVAL;
    }
    struct weir_cursor *cursor = weir__mem_alloc(&log->mem, sizeof *cursor, 8);
    if (!cursor) {
        return -ENOMEM;
    }
    cursor->log = log;
    if ((flags & WEIR_CURSOR_PIN) && !log->options.read_only) {
        code = pin_take(log, &lsn, &cursor->pin);
    }
    if (code == 0) {
        struct weir__cursor_config config;
        config_fill(&config, cursor, level, flags);
        code = weir__cursor_open(&config, lsn, &cursor->inner, fault);
    }
    if (code != 0) {
        if (cursor->pin) {
            weir__store(cursor->pin, WEIR__PIN_FREE, release);
        }
        weir__mem_free(&log->mem, cursor, sizeof *cursor);
        return code;
    }
    weir__fetch_add(&log->cursors, 1u, acq_rel);
    *cursor_out = cursor;
    return 0;
}

int weir_cursor_open_with(struct weir_log *log,
                          weir_lsn lsn,
                          enum weir_level level,
                          unsigned flags,
                          struct weir_cursor **cursor_out,
                          struct weir_error *error_out)
{
    struct weir__fault fault = WEIR__FAULT_NONE;
    int code = cursor_open(log, lsn, level, flags, cursor_out, &fault);

    if (code != 0 && error_out) {
        /* Refused before anything was looked at. */
        (void)
            weir__fault_set(&fault, code, "", UINT64_MAX, UINT64_MAX, "%s", weir__code_text(code));
        weir__error_from_fault(&fault, error_out);
    }
    return code;
}

int weir_cursor_open(struct weir_log *log,
                     weir_lsn lsn,
                     enum weir_level level,
                     unsigned flags,
                     struct weir_cursor **cursor_out)
{
    return weir_cursor_open_with(log, lsn, level, flags, cursor_out, NULL);
}

/* Brings what the inner cursor did since last time into the log's sums: now and then, not per
 * record. */
static void count_up(struct weir_cursor *cursor)
{
    struct weir__cursor_counts now;
    struct weir_log *log = cursor->log;

    weir__cursor_counts(cursor->inner, &now);
#define SUM(field, total)                                                                          \
    if (now.field != cursor->counted.field) {                                                      \
        weir__fetch_add(&log->total, now.field - cursor->counted.field, relaxed);                  \
    }
    SUM(records, cursor_records)
    SUM(bytes, cursor_bytes)
    SUM(memory_batches, cursor_slot_batches)
    SUM(reads, cursor_reads)
    SUM(read_bytes, cursor_read_bytes)
#undef SUM
    cursor->counted = now;
}

int weir_cursor_next(struct weir_cursor *cursor, int64_t timeout_ns, struct weir_entry *entry_out)
{
    int code = weir__log_usable(cursor->log);

    if (code != 0) {
        return code;
    }
    uint64_t deadline = timeout_ns < 0    ? WEIR__NEVER
                        : timeout_ns == 0 ? 0
                                          : weir__deadline(timeout_ns);
    code = weir__cursor_next(cursor->inner, deadline, entry_out);
    if (code != 0 || ++cursor->calls % 256 == 0) {
        count_up(cursor);
    }
    return code;
}

weir_lsn weir_cursor_lsn(struct weir_cursor *cursor)
{
    return weir__cursor_lsn(cursor->inner);
}

int weir_cursor_error(struct weir_cursor *cursor, struct weir_error *error_out)
{
    struct weir__fault forked = WEIR__FAULT_NONE;
    const struct weir__fault *fault = weir__cursor_fault(cursor->inner);

    if (weir__log_usable(cursor->log) != 0) {
        forked.code = WEIR_EFORKED;
        fault = &forked;
    }
    if (error_out) {
        memset(error_out, 0, sizeof *error_out);
        if (fault->code != 0) {
            weir__error_from_fault(fault, error_out);
        }
    }
    return fault->code;
}

int weir_cursor_batch(struct weir_cursor *cursor, struct weir_batch_info *info_out)
{
    int code = weir__log_usable(cursor->log);

    return code == 0 ? weir__cursor_batch(cursor->inner, info_out) : code;
}

void weir_cursor_close(struct weir_cursor *cursor)
{
    if (!cursor || weir__log_usable(cursor->log) != 0) {
        return;
    }
    struct weir_log *log = cursor->log;
    count_up(cursor);
    weir__cursor_close(cursor->inner);
    if (cursor->pin) {
        weir__store(cursor->pin, WEIR__PIN_FREE, release);
    }
    weir__mem_free(&log->mem, cursor, sizeof *cursor);
    weir__fetch_sub(&log->cursors, 1u, acq_rel);
}
