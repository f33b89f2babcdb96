/* SPDX-License-Identifier: Apache-2.0
 * Appending and waiting.
 *
 * check -> payload CRCs -> reserve -> copy and frame headers -> commit. The window between reserve
 * and commit, in which a preempted producer holds up its batch, has the copies and a header CRC of
 * 28 bytes each in it, nothing else. Producer threads. */
#include "api/log.h"
#include "base/crc32c.h"
#include "format/frame.h"
#include "port/clock.h"

#include <errno.h>
#include <string.h>

/* CRCs that are computed before the reservation; those of a longer group are computed inside the
 * window. */
#define CRCS_BEFORE 128u

static uint32_t record_crc(const struct weir_record *record)
{
    uint32_t crc = 0;

    for (size_t i = 0; i < record->piece_count; i++) {
        crc = weir__crc32c(crc, record->pieces[i].data, record->pieces[i].bytes);
    }
    return crc;
}

/* Payload bytes of a record; UINT64_MAX when a piece or the sum makes no sense. */
static uint64_t record_bytes(const struct weir_record *record)
{
    uint64_t bytes = 0;

    if (record->piece_count > 0 && !record->pieces) {
        return UINT64_MAX;
    }
    for (size_t i = 0; i < record->piece_count; i++) {
        if ((record->pieces[i].bytes > 0 && !record->pieces[i].data) ||
            !weir__add_u64(bytes, record->pieces[i].bytes, &bytes)) {
            return UINT64_MAX;
        }
    }
    return bytes;
}

static inline uint8_t *record_end(uint8_t *at,
                                  uint8_t *to,
                                  uint32_t crc,
                                  uint64_t tag,
                                  uint16_t flags,
                                  uint32_t salt,
                                  weir_lsn lsn)
{
    const uint32_t bytes = (uint32_t)(to - at - WEIR__FRAME_HEADER_BYTES);
    uint8_t *end = at + weir__frame_span(bytes);
    if (to != end) {
        memset(to, 0, (size_t)(end - to));
    }
    weir__frame_put(at, bytes, crc, tag, flags, salt, lsn);
    return end;
}

static uint8_t *record_fill(uint8_t *at,
                            const struct weir_record *record,
                            uint32_t crc,
                            uint16_t flags,
                            uint32_t salt,
                            weir_lsn lsn)
{
    uint8_t *to = at + WEIR__FRAME_HEADER_BYTES;

    for (size_t i = 0; i < record->piece_count; i++) {
        if (record->pieces[i].bytes > 0) {
            memcpy(to, record->pieces[i].data, record->pieces[i].bytes);
            to += record->pieces[i].bytes;
        }
    }
    return record_end(at, to, crc, record->tag, flags, salt, lsn);
}

static int group_check(const struct weir_log *log,
                       const struct weir_record *records,
                       size_t count,
                       uint64_t *span_out)
{
    uint64_t span = 0;

    if (!records || count == 0 || count > UINT32_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = record_bytes(&records[i]);
        if (bytes == UINT64_MAX) {
            return -EINVAL;
        }
        if (bytes > log->options.record_bytes_max ||
            !weir__add_u64(span, weir__frame_span(bytes), &span)) {
            return WEIR_ETOOBIG;
        }
    }
    /* One batch must take it: an oversize buffer or a slot, and in either case an empty segment. */
    uint64_t segment_room =
        log->options.segment_bytes - log->block_bytes - WEIR__BATCH_HEADER_BYTES;
    bool fits = span <= weir__frame_span(log->options.record_bytes_max) ||
                span <= (uint64_t)log->stage.cap * WEIR__UNIT;
    *span_out = span;
    return fits && span <= segment_room ? 0 : WEIR_ETOOBIG;
}

/* The whole of an append; place tells where it went. */
static int append(struct weir_log *log,
                  const struct weir_record *records,
                  size_t count,
                  int64_t timeout_ns,
                  weir_lsn *lsns_out,
                  struct weir__place *place)
{
    uint32_t crcs[CRCS_BEFORE] WEIR__UNFILLED;
    uint64_t span;
    int code = weir__log_usable(log);

    if (code != 0) {
        return code;
    }
    if (log->options.read_only) {
        return WEIR_EREADONLY;
    }
    code = group_check(log, records, count, &span);
    if (code != 0) {
        return code;
    }
    for (size_t i = 0; i < count && i < CRCS_BEFORE; i++) {
        crcs[i] = record_crc(&records[i]);
    }
    uint64_t deadline = timeout_ns < 0    ? WEIR__NEVER
                        : timeout_ns == 0 ? 0
                                          : weir__deadline(timeout_ns);
    code = weir__stage_reserve(&log->stage, span, deadline, place);
    if (code != 0) {
        return code;
    }
    uint8_t *at = place->at;
    weir_lsn lsn = place->lsn;
    for (size_t i = 0; i < count; i++) {
        uint16_t flags = i + 1 < count ? WEIR__FRAME_MORE : 0;
        uint32_t crc = i < CRCS_BEFORE ? crcs[i] : record_crc(&records[i]);
        uint8_t *end = record_fill(at, &records[i], crc, flags, log->frame_salt, lsn);
        if (lsns_out) {
            lsns_out[i] = lsn;
        }
        lsn += (uint64_t)(end - at);
        at = end;
    }
    weir__stage_commit(&log->stage, place, (uint32_t)count);
    return 0;
}

/* The same for one record in one piece: what almost every call is. alone_out: for those who will
 * wait; set where the caller has to call weir__flusher_alone before. */
static int append_one(struct weir_log *log,
                      const void *data,
                      size_t bytes,
                      uint64_t tag,
                      weir_lsn *lsn_out,
                      struct weir__place *place,
                      bool *alone_out)
{
    int code = weir__log_usable(log);

    if (WEIR__UNLIKELY(code != 0)) {
        return code;
    }
    if (WEIR__UNLIKELY(log->options.read_only)) {
        return WEIR_EREADONLY;
    }
    if (WEIR__UNLIKELY(!data && bytes > 0)) {
        return -EINVAL;
    }
    /* What fits into record_bytes_max fits into a batch and a segment: weir__options_check. */
    if (WEIR__UNLIKELY(bytes > log->options.record_bytes_max)) {
        return WEIR_ETOOBIG;
    }
    const uint32_t crc = weir__crc32c(0, data, bytes);
    code = weir__stage_reserve(&log->stage, weir__frame_span(bytes), WEIR__NEVER, place);
    if (WEIR__UNLIKELY(code != 0)) {
        return code;
    }
    uint8_t *payload = place->at + WEIR__FRAME_HEADER_BYTES;
    if (bytes > 0) {
        memcpy(payload, data, bytes);
    }
    record_end(place->at, payload + bytes, crc, tag, 0, log->frame_salt, place->lsn);
    if (lsn_out) {
        *lsn_out = place->lsn;
    }
    if (alone_out) {
        *alone_out = weir__stage_commit_alone(&log->stage, place, 1);
    } else {
        weir__stage_commit(&log->stage, place, 1);
    }
    return 0;
}

int weir_append_group(struct weir_log *log,
                      const struct weir_record *records,
                      size_t count,
                      int64_t timeout_ns,
                      weir_lsn *lsns_out)
{
    struct weir__place place WEIR__UNFILLED;

    return append(log, records, count, timeout_ns, lsns_out, &place);
}

int weir_appendv(struct weir_log *log,
                 const struct weir_piece *pieces,
                 size_t piece_count,
                 uint64_t tag,
                 weir_lsn *lsn_out)
{
    const struct weir_record record = {pieces, piece_count, tag};
    struct weir__place place WEIR__UNFILLED;

    return append(log, &record, 1, WEIR_FOREVER, lsn_out, &place);
}

int weir_append(struct weir_log *log,
                const void *data,
                size_t bytes,
                uint64_t tag,
                weir_lsn *lsn_out)
{
    struct weir__place place WEIR__UNFILLED;

    return append_one(log, data, bytes, tag, lsn_out, &place, NULL);
}

static bool level_known(enum weir_level level)
{
    return level == WEIR_DURABLE || level == WEIR_WRITTEN || level == WEIR_APPENDED;
}

int weir_append_wait(struct weir_log *log,
                     const void *data,
                     size_t bytes,
                     uint64_t tag,
                     enum weir_level level,
                     weir_lsn *lsn_out)
{
    struct weir__place place WEIR__UNFILLED;
    weir_lsn lsn = WEIR_LSN_NONE;

    if (lsn_out) {
        *lsn_out = WEIR_LSN_NONE;
    }
    if (!level_known(level)) {
        return -EINVAL;
    }
    bool alone = false;
    int code =
        append_one(log, data, bytes, tag, &lsn, &place, level == WEIR_APPENDED ? NULL : &alone);
    if (code != 0) {
        return code;
    }
    if (lsn_out) {
        *lsn_out = lsn;
    }
    if (level == WEIR_APPENDED) {
        return 0;
    }
    if (alone) {
        weir__flusher_alone(&log->flusher);
    }
    enum weir__level which = level == WEIR_DURABLE ? WEIR__LEVEL_DURABLE : WEIR__LEVEL_WRITTEN;
    return weir__stage_wait(&log->stage, lsn, which, place.slot, place.seq, WEIR__NEVER);
}

int weir_wait(struct weir_log *log, weir_lsn lsn, enum weir_level level, int64_t timeout_ns)
{
    int code = weir__log_usable(log);

    if (code != 0) {
        return code;
    }
    if (log->options.read_only) {
        return WEIR_EREADONLY;
    }
    if (!level_known(level)) {
        return -EINVAL;
    }
    uint64_t deadline = timeout_ns < 0    ? WEIR__NEVER
                        : timeout_ns == 0 ? 0
                                          : weir__deadline(timeout_ns);
    if (level == WEIR_APPENDED) {
        code = weir__stage_wait_complete(&log->stage, lsn, deadline);
    } else {
        enum weir__level which = level == WEIR_DURABLE ? WEIR__LEVEL_DURABLE : WEIR__LEVEL_WRITTEN;
        code = weir__stage_wait(&log->stage, lsn, which, WEIR__SLOT_NONE, 0, deadline);
    }
    return code == -ETIMEDOUT && timeout_ns == 0 ? -EAGAIN : code;
}

static int wait_for_all(struct weir_log *log, enum weir__level level, int64_t timeout_ns)
{
    int code = weir__log_usable(log);

    if (code != 0) {
        return code;
    }
    if (log->options.read_only) {
        return WEIR_EREADONLY;
    }
    return weir__stage_wait_all(&log->stage,
                                level,
                                timeout_ns < 0    ? WEIR__NEVER
                                : timeout_ns == 0 ? 0
                                                  : weir__deadline(timeout_ns));
}

int weir_sync(struct weir_log *log, int64_t timeout_ns)
{
    return wait_for_all(log, WEIR__LEVEL_DURABLE, timeout_ns);
}

int weir_flush_batch(struct weir_log *log, int64_t timeout_ns)
{
    return wait_for_all(log, WEIR__LEVEL_WRITTEN, timeout_ns);
}
