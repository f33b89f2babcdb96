/* SPDX-License-Identifier: Apache-2.0
 * Opening a log: lock, control file, recovery, a new epoch, the threads.
 *
 * Order, each step durable before the next depends on it: lock -> scan (writes nothing; corrupt and
 * unreadable end here) -> what is kept is made durable -> the new epoch, whose start is the cut,
 * goes to both control copies -> first segment ready -> keeper and flusher. The calling thread. */
#include "api/log.h"
#include "base/check.h"
#include "format/frame.h"
#include "port/clock.h"
#include "recover/repair.h"
#include "segment/segment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

int weir__log_same_process(const struct weir_log *log)
{
    return log->pid == getpid() ? 0 : WEIR_EFORKED;
}

static int random_u64(uint64_t *value_out)
{
    /* Never zero: zero says "none" in places. */
    do {
        ssize_t got = getrandom(value_out, sizeof *value_out, 0);
        if (got != (ssize_t)sizeof *value_out) {
            if (got < 0 && errno == EINTR) {
                *value_out = 0;
                continue;
            }
            return got < 0 ? -errno : -EIO;
        }
    } while (*value_out == 0);
    return 0;
}

static int record_limit_settle(struct weir_log *log, struct weir__fault *fault)
{
    struct weir_options *o = &log->options;
    /* A record must fit an empty segment: its header block, the batch header, the frame. */
    uint64_t room = o->segment_bytes - log->block_bytes;
    uint64_t most = room - WEIR__BATCH_HEADER_BYTES - WEIR__FRAME_HEADER_BYTES - WEIR__FRAME_ALIGN;
    uint64_t usual = weir__min_u64(most, UINT64_C(16) << 20);

    if (o->record_bytes_max == 0) {
        o->record_bytes_max = (uint32_t)usual;
    }
    if (o->record_bytes_max > most) {
        return weir__fault_set(fault,
                               -EINVAL,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "option record_bytes_max: at most %llu with segments of %llu bytes",
                               (unsigned long long)most,
                               (unsigned long long)o->segment_bytes);
    }
    return 0;
}

/* ---- a new log ------------------------------------------------------------------------------- */

/* The whole first segment, filled with zeros, now. */
static int make_segment(struct weir_log *log,
                        struct weir__range range,
                        uint64_t number,
                        uint64_t epoch,
                        struct weir__ready *ready,
                        struct weir__fault *fault)
{
    struct weir__segment_header header = {
        .log_id = log->log_id,
        .number = number,
        .base = range.base,
        .bytes = range.end - range.base,
        .epoch = epoch,
        .prev_number = WEIR__SEGMENT_NONE,
        .block_bytes = log->block_bytes,
        .wall_ns = weir__wall_ns(),
    };
    struct weir__prepare prepare;
    int code = weir__prepare_init(&prepare, &log->dir);

    if (code == 0) {
        code = weir__prepare_begin(&prepare, range, &header, fault);
    }
    ready->file = -1;
    if (code == 0) {
        do {
            code = weir__prepare_step(&prepare, &ready->file, fault);
        } while (code == 0);
        code = code == 1 ? 0 : code;
    }
    if (code != 0) {
        weir__prepare_abandon(&prepare);
    }
    weir__prepare_exit(&prepare);
    if (code == 0) {
        ready->range = range;
        ready->number = number;
        code = weir__catalog_add(&log->catalog, range);
    }
    return code;
}

static int create(struct weir_log *log,
                  struct weir__ready *ready,
                  struct weir__position *start,
                  struct weir__fault *fault)
{
    struct weir_options *o = &log->options;
    uint32_t block = o->block_bytes ? o->block_bytes : 4096;

    if (log->dir.direct && block < log->dir.facts.direct_align) {
        if (o->block_bytes != 0) {
            return weir__fault_set(
                fault,
                -EINVAL,
                "",
                UINT64_MAX,
                UINT64_MAX,
                "option block_bytes: the device's direct I/O needs %u; or open buffered",
                log->dir.facts.direct_align);
        }
        block = log->dir.facts.direct_align;
    }
    log->block_bytes = block;
    o->segment_bytes = o->segment_bytes ? o->segment_bytes : UINT64_C(64) << 20;
    if (o->segment_bytes % block != 0 || o->slot_bytes % block != 0) {
        return weir__fault_set(
            fault,
            -EINVAL,
            "",
            UINT64_MAX,
            UINT64_MAX,
            "options segment_bytes and slot_bytes must be multiples of the block, %u here",
            block);
    }
    int code = record_limit_settle(log, fault);
    if (code != 0) {
        return code;
    }
    code = random_u64(&log->log_id);
    if (code == 0) {
        code = random_u64(&log->epoch.nonce);
    }
    if (code != 0) {
        return weir__fault_set(fault,
                               code,
                               "",
                               UINT64_MAX,
                               UINT64_MAX,
                               "no random bytes for the log's identity");
    }
    log->epoch.epoch = 1;
    log->epoch.lsn = o->first_lsn + block;
    *start = (struct weir__position){log->epoch.lsn, 1, log->epoch.lsn, log->epoch.nonce, 0};
    struct weir__control control = {
        .block_bytes = block,
        .log_id = log->log_id,
        .epoch = log->epoch,
        .oldest_lsn = log->epoch.lsn,
        .promise = log->epoch.lsn,
        .segment_bytes = o->segment_bytes,
        .first_lsn = o->first_lsn,
        .checkpoint = *start,
        .wall_ns = weir__wall_ns(),
    };
    code = weir__control_create(&log->control, &log->dir, &control, fault);
    if (code != 0) {
        return code;
    }
    /* The control file first: segments without one would look like a log that lost it. */
    code = make_segment(log,
                        (struct weir__range){o->first_lsn, o->first_lsn + o->segment_bytes},
                        0,
                        1,
                        ready,
                        fault);
    log->report.verdict = WEIR_VERDICT_CLEAN;
    log->report.log_id = log->log_id;
    log->report.epoch = log->epoch.epoch;
    log->report.oldest_lsn = log->report.end_lsn = log->report.promise_lsn =
        log->report.scan_from_lsn = start->lsn;
    log->report.bad_lsn = log->report.evidence_lsn = UINT64_MAX;
    snprintf(log->report.why, sizeof log->report.why, "a new log");
    return code;
}

/* ---- an existing log ------------------------------------------------------------------------- */

/* What was kept is durable; now the cut is: a batch of an older epoch at or above this one's start
 * is stale from here on. */
static int begin_epoch(struct weir_log *log,
                       const struct weir__scan_result *scan,
                       const struct weir__control_found *found,
                       struct weir__fault *fault)
{
    struct weir__control next = found->copy[found->newest];
    uint64_t nonce;
    int code = random_u64(&nonce);

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
        return make_segment(log,
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
static int mark_epoch(struct weir_log *log,
                      const struct weir__ready *ready,
                      struct weir__position *start,
                      struct weir__fault *fault)
{
    uint64_t room = ready->range.end - start->lsn;
    struct weir__stage_config stage = weir__options_stage(&log->options, log->block_bytes);

    if (start->lsn <= ready->range.base || room == 0 ||
        room >= weir__max_u64(stage.oversize_bytes, stage.slot_bytes)) {
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

static int recover(struct weir_log *log,
                   const struct weir__control_found *found,
                   struct weir__ready *ready,
                   struct weir__position *start,
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
    int code = record_limit_settle(log, fault);
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
        code = open_current(log, &scan, ready, fault);
    }
    *start = scan.end;
    return code == 0 ? mark_epoch(log, ready, start, fault) : code;
}

/* ---- the threads ----------------------------------------------------------------------------- */

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
            code = 0; /* a full log must open, or nobody could trim it: appends get -ENOSPC until
                         there is space */
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
    weir__mem_free_io(&log->mem, header, block);
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

static int start(struct weir_log *log,
                 struct weir__ready *ready,
                 const struct weir__position *start_at,
                 struct weir__fault *fault)
{
    int code = start_keeper(log, ready, start_at, fault);
    if (code == 0) {
        /* keeper_init copied it; the one that stage and flusher see is the keeper's. */
        const struct weir__ready *current = weir__keeper_ready(&log->keeper, ready->number);
        weir__check(current != NULL);
        code = start_stage(log, current, start_at, fault);
        if (code == 0) {
            code = start_flusher(log, current, start_at, fault);
        }
    }
    if (code != 0) {
        return code;
    }
    log->frame_salt = weir__frame_salt(log->log_id, log->epoch.nonce, log->epoch.epoch);
    struct weir__live live = {
        .log_id = log->log_id,
        .epoch = log->epoch.epoch,
        .durable = start_at->lsn,
        .written = start_at->lsn,
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

/* ---- weir_open ------------------------------------------------------------------------------- */

static int open_for_append(struct weir_log *log, struct weir__fault *fault)
{
    struct weir__control_found found;
    struct weir__ready ready = {.file = -1};
    struct weir__position position;
    int code = weir__dir_lock(&log->dir, log->options.lock_timeout_ns, fault);

    if (code == 0) {
        weir__dir_live_forget(&log->dir);
        code = weir__catalog_load(&log->catalog, &log->dir, fault);
    }
    if (code == 0) {
        code = weir__scan_control(&log->dir, &log->catalog, &found, fault);
        if (code == WEIR_ENOLOG && !log->options.must_exist) {
            *fault = WEIR__FAULT_NONE;
            code = create(log, &ready, &position, fault);
        } else if (code == 0) {
            code = recover(log, &found, &ready, &position, fault);
        }
    }
    if (code == 0) {
        code = start(log, &ready, &position, fault);
    }
    if (ready.file >= 0) {
        log->dir.io->ops->close(log->dir.io, ready.file);
    }
    return code;
}

void weir__log_teardown(struct weir_log *log)
{
    /* The flusher may be running if a later step of opening failed; nobody else is inside. */
    if (log->flusher.started) {
        weir__stage_shut(&log->stage);
        weir__stage_wait_drained(&log->stage, WEIR__NEVER);
    }
    if (log->keeper.config.dir) {
        weir__keeper_stop(&log->keeper);
    }
    weir__flusher_join(&log->flusher);
    log->dir.writes_unknown = log->stage.keep_buffers;
    weir__stage_exit(&log->stage);
    weir__control_close(&log->control);
    weir__catalog_exit(&log->catalog);
    weir__dir_live_end(&log->dir);
    weir__dir_close(&log->dir);
    pthread_mutex_destroy(&log->refresh_mutex);
    pthread_mutex_destroy(&log->pin_mutex);
    weir__mem_free_fork_mark(&log->mem, log->fork_mark);
    struct weir__mem mem;
    memcpy(&mem, &log->mem, sizeof mem);
    weir__mem_free(&mem, log, sizeof *log);
    weir__mem_exit(&mem);
}

static struct weir_log *log_new(const struct weir_options *options, struct weir__io *io)
{
    struct weir__mem mem;
    struct weir__mem_hooks hooks;

    if (options->memory) {
        hooks = (struct weir__mem_hooks){options->memory->alloc,
                                         options->memory->release,
                                         options->memory->ctx};
    }
    weir__mem_init(&mem, options->memory ? &hooks : NULL);
    struct weir_log *log = weir__mem_alloc(&mem, sizeof *log, WEIR__LINE);
    if (!log) {
        weir__mem_exit(&mem);
        return NULL;
    }
    log->mem = mem;
    log->options = *options;
    log->options.memory = NULL; /* copied into the seam */
    log->pid = getpid();
    log->dir.io = io;
    log->dir.file = log->dir.lock_file = log->dir.live_file = -1;
    log->control.file = -1;
    for (unsigned i = 0; i < WEIR__PINS_MAX; i++) {
        weir__store(&log->pins[i], WEIR__PIN_FREE, relaxed);
    }
    pthread_mutex_init(&log->refresh_mutex, NULL);
    pthread_mutex_init(&log->pin_mutex, NULL);
    log->fork_mark = weir__mem_alloc_fork_mark(&log->mem);
    return log;
}

int weir__open_with(struct weir__io *io,
                    const char *dir,
                    const struct weir_options *options,
                    struct weir_log **log_out,
                    struct weir_error *error_out)
{
    struct weir__fault fault = WEIR__FAULT_NONE;
    struct weir_options checked;
    int code = dir && log_out ? weir__options_check(options, &checked, &fault) : -EINVAL;

    if (error_out) {
        memset(error_out, 0, sizeof *error_out);
    }
    struct weir_log *log = NULL;
    if (code == 0) {
        log = log_new(&checked, io);
        code = log ? 0
                   : weir__fault_set(&fault,
                                     -ENOMEM,
                                     "",
                                     UINT64_MAX,
                                     UINT64_MAX,
                                     "no memory for the handle");
    }
    if (code == 0) {
        code = weir__catalog_init(&log->catalog, &log->mem);
    }
    if (code == 0) {
        bool make = !checked.read_only && !checked.must_exist;
        code = weir__dir_open(&log->dir, io, &log->mem, dir, make, !checked.buffered, &fault);
        if (code == -ENOENT && !make) {
            fault = WEIR__FAULT_NONE;
            code = weir__fault_set(&fault,
                                   WEIR_ENOLOG,
                                   "",
                                   UINT64_MAX,
                                   UINT64_MAX,
                                   "there is no such directory");
        }
    }
    if (code == 0) {
        code = checked.read_only ? weir__readonly_load(log, &fault) : open_for_append(log, &fault);
    }
    if (code != 0) {
        if (fault.code == 0) {
            weir__fault_set(&fault, code, "", UINT64_MAX, UINT64_MAX, "%s", weir__code_text(code));
        }
        if (error_out) {
            weir__error_from_fault(&fault, error_out);
        }
        if (log) {
            weir__log_teardown(log);
        }
        return code;
    }
    log->options.on_progress = NULL; /* for the opening only */
    *log_out = log;
    return 0;
}

int weir_open(const char *dir,
              const struct weir_options *options,
              struct weir_log **log_out,
              struct weir_error *error_out)
{
    return weir__open_with(weir__io_system(), dir, options, log_out, error_out);
}
