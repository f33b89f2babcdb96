/* SPDX-License-Identifier: Apache-2.0
 * What the parts of a scan share. Private to scan.c, which walks the log to where it ends, and
 * scan_behind.c, which says why it ends there. */
#ifndef WEIR_RECOVER_SCAN_STATE_H
#define WEIR_RECOVER_SCAN_STATE_H

#include "base/compiler.h"
#include "recover/scan.h"

#define WEIR__SCAN_NONE SIZE_MAX

/* What the steps below return, as int; negative: the scan itself failed. */
enum weir__scan_step {
    WEIR__SCAN_GO_ON = 0,
    WEIR__SCAN_DECIDED, /* the verdict is in the report */
    WEIR__SCAN_STOPPED, /* a callback said so: scan->said */
};

/* Who promised. */
enum weir__scan_witness {
    WEIR__SCAN_WITNESS_NONE,
    WEIR__SCAN_WITNESS_CONTROL,
    WEIR__SCAN_WITNESS_CLOSE,
    WEIR__SCAN_WITNESS_EPOCH,
    WEIR__SCAN_WITNESS_CHECKPOINT,
    WEIR__SCAN_WITNESS_CALLER,
    WEIR__SCAN_WITNESS_BATCH,
};

/* What stands at a place where a batch could be. */
struct weir__scan_finding {
    bool looked;       /* there was such a place, and it could be read */
    bool failed;       /* there was, and it could not: fault */
    bool beyond_limit; /* a batch that continues, but ends above the limit */
    bool body;         /* the header continues the position, what stands behind it does not hold */
    enum weir__batch_verdict verdict;
    const char *why; /* static */
    weir_lsn lsn;
    weir_lsn frame_lsn; /* body: where the frames stopped making sense */
    struct weir__range range;
    struct weir__batch batch;
    struct weir__fault fault; /* failed */
};

struct weir__scan_state {
    const struct weir__scan_config *config;
    struct weir__scan_result *result;
    struct weir__fault *fault;
    struct weir__dir *dir;
    const struct weir__control *control; /* the copy that counts */
    uint32_t block_bytes;
    weir_lsn limit;
    int said;   /* by a callback that ended the scan */
    bool quiet; /* a look ahead: no callback hears of what it reads */
    struct weir__window *window;
    uint8_t *block;             /* room for one */
    struct weir__range *ranges; /* the catalog as it was at the start, sorted by base */
    size_t count;
    size_t room;

    struct weir__position at; /* what the next batch must continue */
    size_t index;             /* the segment that holds at.lsn - 1, or WEIR__SCAN_NONE */
    uint64_t number;          /* of that segment */

    weir_lsn promise;
    weir_lsn promise_at; /* where the witness stands */
    enum weir__scan_witness witness;

    uint64_t progress_total;
    uint64_t progress_before; /* bytes of the segments before progress_index */
    size_t progress_index;
    uint64_t progress_said;
    weir_lsn progress_from;
};

/* The two places of rule 1, and what was found there when neither had the next batch. */
struct weir__scan_stop {
    struct weir__scan_finding here;  /* at the position, in its segment */
    struct weir__scan_finding there; /* the first batch of the next segment */
    weir_lsn next_base;              /* where it begins, or would */
    bool limited;
};

/* Adds to the report's sentence. */
void weir__scan_why(struct weir__scan_state *scan, const char *format, ...) WEIR__PRINTF(2, 3);
/* Damage at bad_lsn; the text goes into the error and the sentence. range.end == range.base: the
 * file is not known. */
int weir__scan_corrupt(struct weir__scan_state *scan,
                       struct weir__range range,
                       weir_lsn bad_lsn,
                       const char *format,
                       ...) WEIR__PRINTF(4, 5);
/* What a failed call on a segment means: unreadable and short files are verdicts, the rest are
 * failures of the scan. */
int weir__scan_failed(struct weir__scan_state *scan,
                      int code,
                      struct weir__range range,
                      const struct weir__fault *fault);
/* Somebody promised: the highest counts. `at`: where the witness stands. */
void weir__scan_promise(struct weir__scan_state *scan,
                        weir_lsn promise,
                        enum weir__scan_witness witness,
                        weir_lsn at);
void weir__scan_epoch_seen(struct weir__scan_state *scan, uint64_t epoch);
/* Says how far the reading is, now that it stands at lsn of a segment. Segments are walked upwards.
 */
void weir__scan_progress(struct weir__scan_state *scan, size_t index, weir_lsn lsn);
/* Do the segment's ends fit the log's blocks? */
bool weir__scan_aligned(const struct weir__scan_state *scan, struct weir__range range);
/* Turns to the segment and reads its header. As the window. */
int weir__scan_header_read(struct weir__scan_state *scan,
                           struct weir__range range,
                           uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES],
                           struct weir__fault *fault);
/* What a segment's header says. *why_out is NULL when it is one of this log and agrees with the
 * name, else a phrase. WEIR_EFORMAT: written by a build that knows more than this one. */
int weir__scan_header_judge(struct weir__scan_state *scan,
                            struct weir__range range,
                            const uint8_t bytes[WEIR__SEGMENT_HEADER_BYTES],
                            struct weir__segment_header *header_out,
                            const char **why_out);

/* scan_behind.c: the first place without the next batch was found; gives the verdict. */
int weir__scan_judge_end(struct weir__scan_state *scan, const struct weir__scan_stop *stop);

#endif
