/* SPDX-License-Identifier: Apache-2.0
 * Opening where there is no log: making one; and what making and recovering share.
 *
 * identity -> control file, both copies -> first segment. The control file comes first: segments
 * without one would look like a log that lost it. A crash in between leaves a control file without
 * a segment, which the next opening completes. The thread that opens. */
#include "api/open.h"
#include "format/frame.h"
#include "port/clock.h"
#include "segment/segment.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

int weir__open_random(uint64_t *value_out)
{
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

int weir__open_record_limit(struct weir_log *log, struct weir__fault *fault)
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

int weir__open_make_segment(struct weir_log *log,
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

int weir__open_create(struct weir_log *log, struct weir__opened *opened, struct weir__fault *fault)
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
    int code = weir__open_record_limit(log, fault);
    if (code != 0) {
        return code;
    }
    code = weir__open_random(&log->log_id);
    if (code == 0) {
        code = weir__open_random(&log->epoch.nonce);
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
    opened->position =
        (struct weir__position){log->epoch.lsn, 1, log->epoch.lsn, log->epoch.nonce, 0};
    struct weir__control control = {
        .block_bytes = block,
        .log_id = log->log_id,
        .epoch = log->epoch,
        .oldest_lsn = log->epoch.lsn,
        .promise = log->epoch.lsn,
        .segment_bytes = o->segment_bytes,
        .first_lsn = o->first_lsn,
        .checkpoint = opened->position,
        .wall_ns = weir__wall_ns(),
    };
    code = weir__control_create(&log->control, &log->dir, &control, fault);
    if (code != 0) {
        return code;
    }
    code =
        weir__open_make_segment(log,
                                (struct weir__range){o->first_lsn, o->first_lsn + o->segment_bytes},
                                0,
                                1,
                                &opened->ready,
                                fault);
    log->report.verdict = WEIR_VERDICT_CLEAN;
    log->report.log_id = log->log_id;
    log->report.epoch = log->epoch.epoch;
    log->report.oldest_lsn = log->report.end_lsn = log->report.promise_lsn =
        log->report.scan_from_lsn = opened->position.lsn;
    log->report.segments = 1;
    snprintf(log->report.why, sizeof log->report.why, "a new log");
    return code;
}
