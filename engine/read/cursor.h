/* SPDX-License-Identifier: Apache-2.0
 * Reading a log forward, verified, from memory or from its files. Knows nothing of the writer:
 * whoever opens a cursor hands it the positions, the memory and the waiting as functions. */
#ifndef WEIR_READ_CURSOR_H
#define WEIR_READ_CURSOR_H

#include "segment/window.h"

#include <weir/weir.h>

struct weir__cursor;

struct weir__cursor_config {
    struct weir__dir *dir;
    struct weir__mem *mem;
    struct weir__catalog *catalog;
    uint32_t block_bytes;
    uint64_t log_id;
    /* Usual size of a batch (a slot); larger ones make the buffer grow to what they need. */
    size_t batch_bytes;
    size_t batch_bytes_max; /* none is larger: bound of that growth */
    enum weir_level level;
    bool read_ahead;
    /* The files may be written to around the page cache that this cursor reads through: the
     * segment that holds the limit is read past it, where the file system allows. */
    bool live_tail;

    /* Batches that end at or below it may be shown at this level. Never falls within an epoch.
     * For WEIR_DURABLE and WEIR_WRITTEN it is where a batch ends, so that a batch which is
     * missing below it is known to be missing, and one that reaches over it is corruption (a
     * checkpoint that is not the log's); for WEIR_APPENDED it may lie anywhere. */
    weir_lsn (*limit)(void *ctx, enum weir_level level);
    weir_lsn (*oldest)(void *ctx);
    struct weir__epoch (*newest)(void *ctx);
    /* A complete batch that continues prev_end and is still in memory: copies header and frames
     * to `to` (room bytes), returns their count; 0: not in memory; a count above room: nothing
     * was copied, make room. */
    size_t (*from_memory)(void *ctx, weir_lsn prev_end, void *to, size_t room);
    /* Sleeps until limit(level) > above, or the deadline; 0 look again (also earlier, and for no
     * reason: what a change of epoch must cause), -ETIMEDOUT, WEIR_ESHUTDOWN it will never move
     * again. */
    int (*wait)(void *ctx, weir_lsn above, enum weir_level level, uint64_t deadline_ns);
    /* The set of segments may have changed (another process's log): load it again. NULL: never. */
    int (*refresh)(void *ctx);
    /* The cursor's position moved to lsn (pinning). May be NULL. */
    void (*moved)(void *ctx, weir_lsn lsn);
    void *ctx;
};

struct weir__cursor_counts {
    uint64_t records, bytes, memory_batches, reads, read_bytes;
};

/* A cursor in front of the first record at or after lsn (WEIR_LSN_OLDEST: the oldest). Reads at
 * most the headers of one segment and of its batches, and what is in memory. 0 also where there is
 * nothing yet; WEIR_EPASSED; WEIR_ECORRUPT; WEIR_EUNREADABLE; WEIR_EFORMAT; -ENOMEM; an errno. On
 * failure `fault` (may be NULL) says more. */
int weir__cursor_open(const struct weir__cursor_config *config,
                      weir_lsn lsn,
                      struct weir__cursor **cursor_out,
                      struct weir__fault *fault);
/* The next record, of a batch that verified as a whole, from a segment whose header did, or from
 * memory. entry_out->data lives until the next
 * call. WEIR_EEND: wait() said that there is none; WEIR_EPASSED: it was trimmed; WEIR_EEPOCH:
 * the log was cut below the position, fault.lsn says where (a cut at the position itself takes
 * nothing away: the new epoch goes on from there); WEIR_ECORRUPT, WEIR_EUNREADABLE, WEIR_EFORMAT,
 * -ENOMEM, an errno. After any of these the cursor stands where it stood, and may be asked again. */
int weir__cursor_next(struct weir__cursor *cursor,
                      uint64_t deadline_ns,
                      struct weir_entry *entry_out);
/* Where the next record will be looked for. */
weir_lsn weir__cursor_lsn(const struct weir__cursor *cursor);
/* The last failure; stays until the next one. */
const struct weir__fault *weir__cursor_fault(const struct weir__cursor *cursor);
/* The batch of the last record. WEIR_EEND before the first one. */
int weir__cursor_batch(const struct weir__cursor *cursor, struct weir_batch_info *info_out);
void weir__cursor_counts(const struct weir__cursor *cursor, struct weir__cursor_counts *counts_out);
void weir__cursor_close(struct weir__cursor *cursor);
/* Bytes allocated by a cursor of this config, before any growth. */
size_t weir__cursor_memory(const struct weir__cursor_config *config);

#endif
