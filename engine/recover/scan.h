/* SPDX-License-Identifier: Apache-2.0
 * Finding the end of the log, and saying why it is the end. FORMAT.md section 5; the verdicts are
 * those of weir.h.
 *
 * The scan starts at a position (the checkpoint, or the first batch of the oldest segment), accepts
 * batches for as long as they continue the position, and at the first that does not, collects
 * evidence: what stands there, and whether anything behind it, up to the end of the last segment,
 * proves that the damage lies below a promise. It writes nothing. */
#ifndef WEIR_RECOVER_SCAN_H
#define WEIR_RECOVER_SCAN_H

#include "format/segment_header.h"
#include "segment/control_file.h"
#include "segment/window.h"

#include <weir/weir.h>

struct weir__scan_config {
    struct weir__dir *dir;
    struct weir__catalog *catalog;
    const struct weir__control_found *control; /* newest >= 0 */
    bool from_oldest; /* weir_verify: the whole log; else from the checkpoint */
    /* Segments that the page cache holds are read from there: not what the device says. Those that
     * may still be written to are not among them. */
    bool cached;
    /* For a log that is being written: nothing at or above it is read or judged, and what is below
     * it must verify up to `durable`. 0: no limit. */
    weir_lsn limit;
    /* A promise that the caller knows of (the live page's); 0: none. */
    weir_lsn durable;
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    /* Every accepted batch, in order (may be NULL). Non-zero ends the scan with that value. */
    int (*batch)(void *ctx, const struct weir__batch *batch, struct weir__range segment);
    /* The bytes behind a header, in order, from lsn + WEIR__BATCH_HEADER_BYTES to the end of the
     * batch's last block, as they are read and before it is known whether they verify (may be
     * NULL). Pieces of a batch that is then refused are followed by no call of `batch`; the next
     * batch begins anew. Non-zero ends the scan with that value. */
    int (*piece)(void *ctx,
                 const struct weir__batch *batch,
                 weir_lsn lsn,
                 const void *data,
                 size_t bytes);
    void *ctx;
};

struct weir__scan_result {
    struct weir__position begin; /* what the first batch had to continue */
    struct weir__position end;   /* what the next batch must continue */
    /* The segment that holds end.lsn, or whose end it is. base == end: there is none, and the next
     * one begins at base. */
    struct weir__range segment;
    uint32_t block_bytes;
    struct weir__epoch newest; /* the control file's */
    uint64_t segment_number;   /* WEIR__SEGMENT_NONE: there is none */
    /* The largest seen anywhere: control copies, segment headers, batch headers. */
    uint64_t epoch_max;
    struct weir_report report;
};

/* Which copy of the control file counts, with what a lost copy implies. 0; WEIR_ENOLOG: neither
 * control file nor segments; WEIR_ECORRUPT: no valid copy of the control file, or segments without
 * one; WEIR_EFORMAT; an errno. */
int weir__scan_control(struct weir__dir *dir,
                       struct weir__catalog *catalog,
                       struct weir__control_found *found_out,
                       struct weir__fault *fault);

/* Return 0: result filled, whatever the verdict; report.error for corrupt and unreadable.
 * WEIR_EFORMAT; -ENOMEM; -errno; what a callback returned. -ENOENT: a segment went away while it
 * was scanned (the log is being written and trimmed). */
int weir__scan(const struct weir__scan_config *config,
               struct weir__scan_result *result_out,
               struct weir__fault *fault);

#endif
