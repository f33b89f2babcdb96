/* SPDX-License-Identifier: Apache-2.0
 * Builds logs byte by byte, with nothing but engine/format/ and plain system calls, so that
 * whatever reads them is tested against the format and not against the engine's own writer. Also
 * damages them, and knows what a reader must find.
 *
 *     struct log_builder log;
 *     log_builder_init(&log, NULL);              // a directory of its own, no segment yet
 *     log_builder_batch(&log, 3, 100);           // a batch of 3 records with 100 bytes each;
 * segments come as needed log_builder_begin(&log);                   // or by hand:
 *     log_builder_add(&log, "x", 1, 7, true);    //   payload, tag, more
 *     log_builder_add(&log, NULL, 0, 8, false);
 *     log_builder_skip(&log, 40);
 *     log_builder_end(&log);
 *     log_builder_prepare(&log, 1);              // a spare segment behind the end
 *     log_builder_control(&log, &control);       // what the control file should say; change it,
 * then log_builder_control_write(&log, &control); log_builder_flip(&log, lsn, 0x01);         //
 * damage log_builder_exit(&log);                    // removes the directory
 *
 * After that log.records[] holds every record that is still part of the log, in order, and
 * log.batches[] every batch with its header and its image. Any failure here is the test's: it
 * prints where and aborts. One thread. */
#ifndef WEIR_TESTS_SUPPORT_LOG_BUILDER_H
#define WEIR_TESTS_SUPPORT_LOG_BUILDER_H

#include "format/batch.h"
#include "format/control.h"
#include "format/segment_header.h"
#include "segment/catalog.h"

struct log_builder_config {
    uint32_t block_bytes;   /* 0 = 512 */
    uint64_t segment_bytes; /* 0 = 16 blocks */
    weir_lsn first_lsn;
    uint64_t log_id;    /* 0 = a fixed one */
    const char *parent; /* directory in which to make one; NULL = $TMPDIR, else /tmp */
};

struct log_builder_record {
    weir_lsn lsn;
    uint64_t epoch;
    uint64_t tag;
    const uint8_t *data; /* into the batch's image */
    size_t bytes;
    bool more;
    size_t batch; /* index */
};

struct log_builder_batch {
    struct weir__batch header;
    weir_lsn end;
    struct weir__range segment;
    uint8_t *image;     /* header, frames, padding; of a GAP batch its first block */
    size_t image_bytes; /* a multiple of the block */
    bool written;       /* false: held back, see log_builder_hold */
};

struct log_builder {
    char path[256];
    int dir;
    uint32_t block_bytes;
    uint64_t segment_bytes;
    weir_lsn first_lsn;
    uint64_t log_id;

    /* Of the batches to come; change it only through the functions below. */
    struct weir__epoch newest;
    struct weir__position position; /* what the next batch continues */
    /* The promise that the next headers carry; UINT64_MAX = where the batch before ended. */
    weir_lsn promise;
    bool hold; /* batches stay in memory until log_builder_flush */
    /* The first batch of an epoch starts at the position, and where what comes does not fit
     * there, a batch without frames goes first. True: it does not, against the format, so that
     * cut batches may stand at a position that the log left. */
    bool loose_epochs;

    struct weir__range *segments; /* all files, by base; prepared ones included */
    size_t segment_count;
    struct weir__range segment; /* the one that was last written to; base == end: none yet */
    bool rotate;

    struct log_builder_batch *batches;
    size_t batch_count;
    struct log_builder_record *records;
    size_t record_count;

    /* The batch in work. */
    uint8_t *frames;
    size_t frames_bytes;
    struct log_builder_record *pending;
    size_t pending_count;
    uint64_t payload_seed;
};

/* config may be NULL. */
void log_builder_init(struct log_builder *log, const struct log_builder_config *config);
/* Removes the directory and everything in it. */
void log_builder_exit(struct log_builder *log);

/* ---- batches ---- */

void log_builder_begin(struct log_builder *log);
void log_builder_add(struct log_builder *log,
                     const void *data,
                     size_t bytes,
                     uint64_t tag,
                     bool more);
/* A reservation that was given up; its payload is noise. */
void log_builder_skip(struct log_builder *log, size_t bytes);
/* Seals and writes the batch, into the next segment if it does not fit. Returns its index. */
size_t log_builder_end(struct log_builder *log);
/* begin, `count` records of `bytes` bytes each with payloads that never repeat, end. */
size_t log_builder_batch(struct log_builder *log, size_t count, size_t bytes);
/* A GAP batch up to gap_end: a multiple of the block behind it, at most the segment's end.
 * Returns its index. */
size_t log_builder_gap(struct log_builder *log, weir_lsn gap_end);
/* The next batch goes to the next segment, whatever room there is left. */
void log_builder_rotate(struct log_builder *log);
/* Writes batches that were sealed while log->hold was set; at most `count`, in order. */
void log_builder_flush(struct log_builder *log, size_t count);

/* ---- epochs ---- */

/* A later epoch begins at the present end. */
void log_builder_epoch(struct log_builder *log);
/* The log is cut at lsn, which is the end of a batch or the log's beginning, and a later epoch
 * begins there. Records above are forgotten; their bytes stay in the files. */
void log_builder_cut(struct log_builder *log, weir_lsn lsn);

/* ---- files ---- */

/* Prepares `count` segments behind the last one. */
void log_builder_prepare(struct log_builder *log, size_t count);
/* Renames the file of `from` to `to` (same length), and writes the header if that is wanted; its
 * other bytes stay. `from` may hold batches: they are no longer part of the log's files, but
 * log->records is not changed. */
void log_builder_recycle(struct log_builder *log,
                         struct weir__range from,
                         struct weir__range to,
                         bool header);
void log_builder_remove(struct log_builder *log, struct weir__range range);
void log_builder_truncate(struct log_builder *log, struct weir__range range, uint64_t bytes);
/* The segment that holds lsn. */
struct weir__range log_builder_segment(const struct log_builder *log, weir_lsn lsn);
/* Bytes of the files, addressed by LSN; may not cross a segment. */
void log_builder_poke(struct log_builder *log, weir_lsn lsn, const void *data, size_t bytes);
void log_builder_peek(struct log_builder *log, weir_lsn lsn, void *data, size_t bytes);
void log_builder_flip(struct log_builder *log, weir_lsn lsn, uint8_t mask);
void log_builder_fill(struct log_builder *log, weir_lsn from, weir_lsn to, uint8_t value);
void log_builder_noise(struct log_builder *log, weir_lsn from, weir_lsn to, uint64_t seed);

/* ---- the control file ---- */

/* What a control file of this log says after a crash: newest epoch, oldest = first LSN,
 * checkpoint at the log's beginning, promise = that of the last batch, generation 1, not clean. */
void log_builder_control(const struct log_builder *log, struct weir__control *control_out);
/* Both copies, generation and generation + 1. */
void log_builder_control_write(struct log_builder *log, const struct weir__control *control);
/* One copy; NULL: noise in its place. */
void log_builder_control_write_copy(struct log_builder *log,
                                    unsigned copy,
                                    const struct weir__control *control);
/* The live page. */
void log_builder_live_write(struct log_builder *log, const struct weir__live *live);

/* ---- what a reader must find ---- */

/* Index of the first record at or after lsn; log->record_count: none. */
size_t log_builder_find(const struct log_builder *log, weir_lsn lsn);

/* A repeatable stream of noise. */
uint64_t log_builder_random(uint64_t *state);

#endif
