/* SPDX-License-Identifier: Apache-2.0
 * Logs by hand. See log_builder.h.
 *
 * A batch is put together in memory as it will stand on disk, its header taken from `position`
 * and `newest`, and goes to its file with one pwrite. Segments are made when the first batch
 * needs them, by ftruncate (zeros) and a header block. */
#include "support/log_builder.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUILDER_LOG_ID UINT64_C(0x1122334455667788)
#define BUILDER_WALL_NS UINT64_C(1700000000000000000)

#define builder_require(condition)                                                                 \
    ((condition) ? (void)0 : builder_failed(#condition, __func__, __LINE__))

_Noreturn static void builder_failed(const char *condition, const char *function, int line)
{
    (void)fprintf(stderr,
                  "log_builder: %s, line %d: %s: %s\n",
                  function,
                  line,
                  condition,
                  strerror(errno));
    abort();
}

/* Room for one more element. */
static void *builder_grow(void *array, size_t count, size_t element_bytes)
{
    void *const grown = realloc(array, (count + 1) * element_bytes);
    builder_require(grown != NULL);
    return grown;
}

uint64_t log_builder_random(uint64_t *state)
{
    /* splitmix64 */
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void builder_noise(uint8_t *to, size_t bytes, uint64_t seed)
{
    uint64_t state = seed;
    for (size_t i = 0; i < bytes; i++) {
        to[i] = (uint8_t)log_builder_random(&state);
    }
}

/* ---- files ---- */

static int builder_open(const struct log_builder *log, const char *name, int flags)
{
    const int file = openat(log->dir, name, flags | O_CLOEXEC, 0600);
    builder_require(file >= 0);
    return file;
}

static void builder_write(const struct log_builder *log,
                          const char *name,
                          int flags,
                          const void *data,
                          size_t bytes,
                          uint64_t offset)
{
    const int file = builder_open(log, name, O_WRONLY | flags);
    const uint8_t *from = data;
    size_t done = 0;
    while (done < bytes) {
        const ssize_t wrote = pwrite(file, from + done, bytes - done, (off_t)(offset + done));
        builder_require(wrote > 0);
        done += (size_t)wrote;
    }
    builder_require(close(file) == 0);
}

static void
builder_write_header(const struct log_builder *log, struct weir__range range, bool recycled)
{
    const uint64_t number = (range.base - log->first_lsn) / log->segment_bytes;
    const struct weir__segment_header header = {
        .log_id = log->log_id,
        .number = number,
        .base = range.base,
        .bytes = range.end - range.base,
        .epoch = log->newest.epoch,
        .prev_number = number == 0 ? WEIR__SEGMENT_NONE : number - 1,
        .prev_base = number == 0 ? 0 : range.base - log->segment_bytes,
        .block_bytes = log->block_bytes,
        .origin = recycled ? WEIR__SEGMENT_RECYCLED : WEIR__SEGMENT_ZEROED,
        .wall_ns = BUILDER_WALL_NS,
    };
    uint8_t *const block = calloc(1, log->block_bytes);
    builder_require(block != NULL);
    weir__segment_header_encode(&header, block);
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    builder_write(log, name, 0, block, log->block_bytes, 0);
    free(block);
}

static void builder_segment_add(struct log_builder *log, struct weir__range range)
{
    log->segments = builder_grow(log->segments, log->segment_count, sizeof *log->segments);
    size_t at = log->segment_count;
    for (; at > 0 && log->segments[at - 1].base > range.base; at--) {
        log->segments[at] = log->segments[at - 1];
    }
    log->segments[at] = range;
    log->segment_count++;
}

static void builder_segment_drop(struct log_builder *log, struct weir__range range)
{
    for (size_t i = 0; i < log->segment_count; i++) {
        if (log->segments[i].base == range.base && log->segments[i].end == range.end) {
            memmove(&log->segments[i],
                    &log->segments[i + 1],
                    (log->segment_count - i - 1) * sizeof *log->segments);
            log->segment_count--;
            return;
        }
    }
    builder_failed("a segment of this log", __func__, __LINE__);
}

static void builder_segment_create(struct log_builder *log, struct weir__range range)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    const int file = builder_open(log, name, O_RDWR | O_CREAT | O_EXCL);
    builder_require(ftruncate(file, (off_t)(range.end - range.base)) == 0);
    builder_require(close(file) == 0);
    builder_write_header(log, range, false);
    builder_segment_add(log, range);
}

static bool
builder_segment_find(const struct log_builder *log, weir_lsn lsn, struct weir__range *range_out)
{
    for (size_t i = 0; i < log->segment_count; i++) {
        if (lsn >= log->segments[i].base && lsn < log->segments[i].end) {
            *range_out = log->segments[i];
            return true;
        }
    }
    return false;
}

struct weir__range log_builder_segment(const struct log_builder *log, weir_lsn lsn)
{
    struct weir__range range = {0};
    builder_require(builder_segment_find(log, lsn, &range));
    return range;
}

void log_builder_prepare(struct log_builder *log, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const weir_lsn base =
            log->segment_count == 0 ? log->first_lsn : log->segments[log->segment_count - 1].end;
        builder_segment_create(log, (struct weir__range){base, base + log->segment_bytes});
    }
}

void log_builder_recycle(struct log_builder *log,
                         struct weir__range from,
                         struct weir__range to,
                         bool header)
{
    builder_require(from.end - from.base == to.end - to.base);
    char old_name[WEIR__SEGMENT_NAME_BYTES];
    char new_name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(from.base, from.end, old_name);
    weir__segment_name(to.base, to.end, new_name);
    builder_require(renameat(log->dir, old_name, log->dir, new_name) == 0);
    builder_segment_drop(log, from);
    builder_segment_add(log, to);
    if (header) {
        builder_write_header(log, to, true);
    }
}

void log_builder_remove(struct log_builder *log, struct weir__range range)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    builder_require(unlinkat(log->dir, name, 0) == 0);
    builder_segment_drop(log, range);
}

void log_builder_truncate(struct log_builder *log, struct weir__range range, uint64_t bytes)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    const int file = builder_open(log, name, O_WRONLY);
    builder_require(ftruncate(file, (off_t)bytes) == 0);
    builder_require(close(file) == 0);
}

void log_builder_poke(struct log_builder *log, weir_lsn lsn, const void *data, size_t bytes)
{
    const struct weir__range range = log_builder_segment(log, lsn);
    builder_require(bytes <= range.end - lsn);
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    builder_write(log, name, 0, data, bytes, lsn - range.base);
}

void log_builder_peek(struct log_builder *log, weir_lsn lsn, void *data, size_t bytes)
{
    const struct weir__range range = log_builder_segment(log, lsn);
    builder_require(bytes <= range.end - lsn);
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    const int file = builder_open(log, name, O_RDONLY);
    uint8_t *to = data;
    size_t done = 0;
    while (done < bytes) {
        const ssize_t got = pread(file, to + done, bytes - done, (off_t)(lsn - range.base + done));
        builder_require(got > 0);
        done += (size_t)got;
    }
    builder_require(close(file) == 0);
}

void log_builder_flip(struct log_builder *log, weir_lsn lsn, uint8_t mask)
{
    uint8_t byte = 0;
    log_builder_peek(log, lsn, &byte, 1);
    byte ^= mask;
    log_builder_poke(log, lsn, &byte, 1);
}

void log_builder_fill(struct log_builder *log, weir_lsn from, weir_lsn to, uint8_t value)
{
    builder_require(from < to);
    uint8_t *const bytes = malloc(to - from);
    builder_require(bytes != NULL);
    memset(bytes, value, to - from);
    log_builder_poke(log, from, bytes, to - from);
    free(bytes);
}

void log_builder_noise(struct log_builder *log, weir_lsn from, weir_lsn to, uint64_t seed)
{
    builder_require(from < to);
    uint8_t *const bytes = malloc(to - from);
    builder_require(bytes != NULL);
    builder_noise(bytes, to - from, seed);
    log_builder_poke(log, from, bytes, to - from);
    free(bytes);
}

/* ---- beginning and end ---- */

void log_builder_init(struct log_builder *log, const struct log_builder_config *config)
{
    const struct log_builder_config none = {0};
    const struct log_builder_config *const c = config == NULL ? &none : config;
    memset(log, 0, sizeof *log);
    const char *parent = c->parent;
    if (parent == NULL) {
        parent = getenv("TMPDIR");
    }
    if (parent == NULL || parent[0] == '\0') {
        parent = "/tmp";
    }
    const int wrote = snprintf(log->path, sizeof log->path, "%s/weir-log-XXXXXX", parent);
    builder_require(wrote > 0 && (size_t)wrote < sizeof log->path);
    builder_require(mkdtemp(log->path) != NULL);
    log->dir = open(log->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    builder_require(log->dir >= 0);

    log->block_bytes = c->block_bytes == 0 ? 512 : c->block_bytes;
    log->segment_bytes = c->segment_bytes == 0 ? UINT64_C(16) * log->block_bytes : c->segment_bytes;
    log->first_lsn = c->first_lsn;
    log->log_id = c->log_id == 0 ? BUILDER_LOG_ID : c->log_id;
    builder_require(log->segment_bytes % log->block_bytes == 0);
    builder_require(log->first_lsn % log->block_bytes == 0);

    log->newest =
        (struct weir__epoch){.epoch = 1, .lsn = log->first_lsn, .nonce = log->log_id ^ 0x5eed};
    log->position = (struct weir__position){
        .lsn = log->first_lsn,
        .epoch = 1,
        .epoch_lsn = log->first_lsn,
        .nonce = log->newest.nonce,
    };
    log->promise = UINT64_MAX;
    log->segment = (struct weir__range){log->first_lsn, log->first_lsn};
}

void log_builder_exit(struct log_builder *log)
{
    DIR *const list = fdopendir(log->dir);
    builder_require(list != NULL);
    rewinddir(list);
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            builder_require(unlinkat(dirfd(list), entry->d_name, 0) == 0);
        }
    }
    builder_require(closedir(list) == 0);
    builder_require(rmdir(log->path) == 0);
    for (size_t i = 0; i < log->batch_count; i++) {
        free(log->batches[i].image);
    }
    free(log->batches);
    free(log->records);
    free(log->segments);
    free(log->frames);
    free(log->pending);
    memset(log, 0, sizeof *log);
    log->dir = -1;
}

/* ---- batches ---- */

void log_builder_begin(struct log_builder *log)
{
    log->frames_bytes = 0;
    log->pending_count = 0;
}

/* Appends a frame; its header CRC needs the LSN and is written when the batch is sealed. */
static uint8_t *builder_frame(struct log_builder *log, const struct weir__frame *frame)
{
    const size_t span = (size_t)weir__frame_span(frame->bytes);
    uint8_t *const frames = realloc(log->frames, log->frames_bytes + span);
    builder_require(frames != NULL);
    log->frames = frames;
    uint8_t *const at = frames + log->frames_bytes;
    memset(at, 0, span);
    weir__frame_encode(frame, 0, 0, at);
    log->frames_bytes += span;
    return at + WEIR__FRAME_HEADER_BYTES;
}

void log_builder_add(struct log_builder *log,
                     const void *data,
                     size_t bytes,
                     uint64_t tag,
                     bool more)
{
    builder_require(bytes <= UINT32_MAX);
    const size_t offset = log->frames_bytes;
    const struct weir__frame frame = {
        .bytes = (uint32_t)bytes,
        .payload_crc = weir__crc32c(0, data, bytes),
        .tag = tag,
        .type = WEIR__FRAME_RECORD,
        .flags = more ? WEIR__FRAME_MORE : 0,
    };
    uint8_t *const payload = builder_frame(log, &frame);
    if (bytes > 0) {
        memcpy(payload, data, bytes);
    }
    log->pending = builder_grow(log->pending, log->pending_count, sizeof *log->pending);
    log->pending[log->pending_count++] = (struct log_builder_record){
        .lsn = offset, /* in the frames, until the batch has its place */
        .tag = tag,
        .bytes = bytes,
        .more = more,
    };
}

void log_builder_skip(struct log_builder *log, size_t bytes)
{
    builder_require(bytes <= UINT32_MAX);
    const struct weir__frame frame = {.bytes = (uint32_t)bytes, .type = WEIR__FRAME_SKIP};
    uint8_t *const payload = builder_frame(log, &frame);
    builder_noise(payload, bytes, ++log->payload_seed);
}

static bool builder_fits(const struct log_builder *log, uint64_t bytes)
{
    const weir_lsn here = log->position.lsn;
    return log->segment.base != log->segment.end && !log->rotate &&
           here >= log->segment.base + log->block_bytes && here <= log->segment.end &&
           bytes <= log->segment.end - here;
}

/* Where a batch of `bytes` goes; makes the segment if there is none. */
static weir_lsn builder_place(struct log_builder *log, uint64_t bytes)
{
    if (builder_fits(log, bytes)) {
        return log->position.lsn;
    }
    log->rotate = false;
    const weir_lsn base = log->segment.end;
    struct weir__range next = {base, base + log->segment_bytes};
    if (!builder_segment_find(log, base, &next)) {
        builder_segment_create(log, next);
    }
    builder_require(next.base == base);
    builder_require(bytes <= next.end - next.base - log->block_bytes);
    log->segment = next;
    return next.base + log->block_bytes;
}

static void builder_put(struct log_builder *log, struct log_builder_batch *batch)
{
    log_builder_poke(log, batch->header.lsn, batch->image, batch->image_bytes);
    batch->written = true;
}

/* Gives the batch its header and image, writes it, moves the position. */
static size_t
builder_seal(struct log_builder *log, struct weir__batch *header, const uint8_t *frames)
{
    header->log_id = log->log_id;
    header->prev_end = log->position.lsn;
    header->epoch = log->newest.epoch;
    header->epoch_lsn = log->newest.lsn;
    header->nonce = log->newest.nonce;
    header->promise = log->promise == UINT64_MAX ? log->position.lsn : log->promise;
    header->wall_ns = BUILDER_WALL_NS + log->batch_count;
    header->chain = log->position.chain;

    log->batches = builder_grow(log->batches, log->batch_count, sizeof *log->batches);
    struct log_builder_batch *const batch = &log->batches[log->batch_count];
    *batch = (struct log_builder_batch){
        .header = *header,
        .end = weir__batch_end(header, log->block_bytes),
        .segment = log->segment,
        .image_bytes =
            (size_t)weir__align_up(WEIR__BATCH_HEADER_BYTES + header->bytes, log->block_bytes),
    };
    batch->image = calloc(1, batch->image_bytes);
    builder_require(batch->image != NULL);
    weir__batch_encode(header, batch->image);
    if (header->bytes > 0) {
        memcpy(batch->image + WEIR__BATCH_HEADER_BYTES, frames, header->bytes);
    }
    log->position = weir__position_after(header, log->block_bytes);
    log->batch_count++;
    return log->batch_count - 1;
}

/* Begins the epoch at the position if the batch to come does not. */
static void builder_begin_epoch(struct log_builder *log, uint64_t bytes)
{
    if (log->loose_epochs || log->newest.epoch == log->position.epoch || builder_fits(log, bytes) ||
        log->segment.base == log->segment.end || log->position.lsn >= log->segment.end) {
        return;
    }
    const bool rotate = log->rotate;
    log->rotate = false;
    struct weir__batch header = {.lsn = log->position.lsn};
    const size_t index = builder_seal(log, &header, NULL);
    if (!log->hold) {
        builder_put(log, &log->batches[index]);
    }
    log->rotate = rotate;
}

size_t log_builder_end(struct log_builder *log)
{
    const uint64_t bytes =
        weir__align_up(WEIR__BATCH_HEADER_BYTES + log->frames_bytes, log->block_bytes);
    builder_begin_epoch(log, bytes);
    struct weir__batch header = {
        .bytes = (uint32_t)log->frames_bytes,
        .records = (uint32_t)log->pending_count,
    };
    header.lsn = builder_place(log, bytes);
    const size_t index = builder_seal(log, &header, log->frames);
    struct log_builder_batch *const batch = &log->batches[index];

    /* Now that the LSNs are known: the headers of the frames once more. */
    const weir_lsn frames_lsn = batch->header.lsn + WEIR__BATCH_HEADER_BYTES;
    const uint32_t salt = weir__frame_salt(log->log_id, batch->header.nonce, batch->header.epoch);
    size_t offset = 0;
    while (offset < log->frames_bytes) {
        uint8_t *const at = batch->image + WEIR__BATCH_HEADER_BYTES + offset;
        const struct weir__frame frame = {
            .bytes = weir__get_u32(at),
            .payload_crc = weir__get_u32(at + 4),
            .tag = weir__get_u64(at + 8),
            .type = weir__get_u16(at + 16),
            .flags = weir__get_u16(at + 18),
        };
        weir__frame_encode(&frame, salt, frames_lsn + offset, at);
        offset += (size_t)weir__frame_span(frame.bytes);
    }
    for (size_t i = 0; i < log->pending_count; i++) {
        struct log_builder_record record = log->pending[i];
        record.data =
            batch->image + WEIR__BATCH_HEADER_BYTES + record.lsn + WEIR__FRAME_HEADER_BYTES;
        record.lsn += frames_lsn;
        record.epoch = batch->header.epoch;
        record.batch = index;
        log->records = builder_grow(log->records, log->record_count, sizeof *log->records);
        log->records[log->record_count++] = record;
    }
    if (!log->hold) {
        builder_put(log, batch);
    }
    log_builder_begin(log);
    return index;
}

size_t log_builder_batch(struct log_builder *log, size_t count, size_t bytes)
{
    uint8_t *const payload = malloc(bytes + 1);
    builder_require(payload != NULL);
    log_builder_begin(log);
    for (size_t i = 0; i < count; i++) {
        builder_noise(payload, bytes, ++log->payload_seed);
        log_builder_add(log, payload, bytes, log->payload_seed, false);
    }
    free(payload);
    return log_builder_end(log);
}

size_t log_builder_gap(struct log_builder *log, weir_lsn gap_end)
{
    builder_begin_epoch(log, log->block_bytes);
    struct weir__batch header = {.flags = WEIR__BATCH_GAP, .gap_end = gap_end};
    header.lsn = builder_place(log, log->block_bytes);
    builder_require(gap_end > header.lsn && gap_end <= log->segment.end);
    builder_require(gap_end % log->block_bytes == 0);
    const size_t index = builder_seal(log, &header, NULL);
    if (!log->hold) {
        builder_put(log, &log->batches[index]);
    }
    return index;
}

void log_builder_rotate(struct log_builder *log)
{
    log->rotate = true;
}

void log_builder_flush(struct log_builder *log, size_t count)
{
    for (size_t i = 0; i < log->batch_count && count > 0; i++) {
        if (!log->batches[i].written) {
            builder_put(log, &log->batches[i]);
            count--;
        }
    }
}

/* ---- epochs ---- */

void log_builder_epoch(struct log_builder *log)
{
    uint64_t state = log->newest.nonce;
    log->newest = (struct weir__epoch){
        .epoch = log->newest.epoch + 1,
        .lsn = log->position.lsn,
        .nonce = log_builder_random(&state),
    };
}

void log_builder_cut(struct log_builder *log, weir_lsn lsn)
{
    size_t keep = log->batch_count;
    while (keep > 0 && log->batches[keep - 1].end > lsn) {
        keep--;
        free(log->batches[keep].image);
    }
    while (log->record_count > 0 && log->records[log->record_count - 1].batch >= keep) {
        log->record_count--;
    }
    log->batch_count = keep;
    log->rotate = false;
    if (keep == 0) {
        builder_require(lsn == log->first_lsn);
        log->position = (struct weir__position){
            .lsn = log->first_lsn,
            .epoch = 1,
            .epoch_lsn = log->first_lsn,
            .nonce = log->log_id ^ 0x5eed,
        };
        log->segment = (struct weir__range){log->first_lsn, log->first_lsn};
    } else {
        builder_require(log->batches[keep - 1].end == lsn);
        log->position = weir__position_after(&log->batches[keep - 1].header, log->block_bytes);
        log->segment = log->batches[keep - 1].segment;
    }
    log_builder_epoch(log);
}

/* ---- the control file ---- */

void log_builder_control(const struct log_builder *log, struct weir__control *control_out)
{
    *control_out = (struct weir__control){
        .block_bytes = log->block_bytes,
        .log_id = log->log_id,
        .generation = 1,
        .epoch = log->newest,
        .oldest_lsn = log->first_lsn,
        .promise = log->batch_count == 0 ? log->first_lsn
                                         : log->batches[log->batch_count - 1].header.promise,
        .segment_bytes = log->segment_bytes,
        .first_lsn = log->first_lsn,
        .checkpoint =
            {
                .lsn = log->first_lsn,
                .epoch = 1,
                .epoch_lsn = log->first_lsn,
                .nonce = log->log_id ^ 0x5eed,
            },
        .wall_ns = BUILDER_WALL_NS,
    };
}

void log_builder_control_write_copy(struct log_builder *log,
                                    unsigned copy,
                                    const struct weir__control *control)
{
    builder_require(copy < 2);
    uint8_t *const block = calloc(1, log->block_bytes);
    builder_require(block != NULL);
    if (control != NULL) {
        weir__control_encode(control, block);
    } else {
        builder_noise(block, log->block_bytes, copy + 1);
    }
    builder_write(log,
                  "weir.control",
                  O_CREAT,
                  block,
                  log->block_bytes,
                  (uint64_t)copy * WEIR__CONTROL_COPY_OFFSET);
    free(block);
    const int file = builder_open(log, "weir.control", O_WRONLY);
    builder_require(ftruncate(file, WEIR__CONTROL_FILE_BYTES) == 0);
    builder_require(close(file) == 0);
}

void log_builder_control_write(struct log_builder *log, const struct weir__control *control)
{
    struct weir__control next = *control;
    log_builder_control_write_copy(log, 0, &next);
    next.generation++;
    log_builder_control_write_copy(log, 1, &next);
}

void log_builder_live_write(struct log_builder *log, const struct weir__live *live)
{
    uint8_t page[WEIR__LIVE_BYTES] = {0};
    weir__live_encode(live, page);
    builder_write(log, "weir.live", O_CREAT, page, sizeof page, 0);
}

/* ---- what a reader must find ---- */

size_t log_builder_find(const struct log_builder *log, weir_lsn lsn)
{
    size_t index = 0;
    while (index < log->record_count && log->records[index].lsn < lsn) {
        index++;
    }
    return index;
}
