/* SPDX-License-Identifier: Apache-2.0
 * What the parts of a salvage share. Private to salvage_facts.c, which reads the source and learns
 * what it is, and salvage.c, which takes out what verifies. */
#ifndef WEIR_RECOVER_SALVAGE_STATE_H
#define WEIR_RECOVER_SALVAGE_STATE_H

#include "base/compiler.h"
#include "recover/salvage.h"

#define WEIR__SALVAGE_CHUNK_BYTES ((size_t)1 << 20)
#define WEIR__SALVAGE_PAGE_BYTES 4096u /* what is given up around a byte that cannot be read */

struct weir__salvage_segment {
    struct weir__range
        range; /* what it holds; less than its name says where the file is shorter and
                                 does not say itself that it was longer */
    struct weir__range named; /* as its name says */
    int open_code;            /* why it cannot be opened; 0: it can */
    bool agrees;              /* its header holds and says what its name says */
};

/* What is known of an epoch. */
struct weir__salvage_epoch {
    uint64_t epoch;
    uint64_t nonce;
    weir_lsn lsn; /* where it began */
    weir_lsn promise;
    uint64_t verified; /* batches that hold throughout */
    uint64_t sound;    /* headers that do */
    weir_lsn last;     /* the highest batch that holds, of those that nothing later cut; 0: none */
    bool control;      /* the control file knows it */
    bool sure;         /* it does, or the chain or a segment's first batch led to it */
    uint64_t run;      /* the last loose run that it was seen in; 0: none */
    uint32_t salt;
};

/* A segment, read chunk by chunk. */
struct weir__salvage_reader {
    struct weir__range range;
    int file;       /* -1: none; reads as zeros, all bad */
    uint64_t bytes; /* of the file; may be fewer than its name says */
    uint64_t from;  /* file offset of the chunk */
    size_t have;    /* bytes of it */
    uint8_t *chunk;
    uint8_t bad[WEIR__SALVAGE_CHUNK_BYTES /
                WEIR__SALVAGE_PAGE_BYTES]; /* pages of the chunk that could not be read */
    int bad_code;                          /* why; WEIR_EUNREADABLE: the file ends early */
};

/* Frames on their way to the new log. */
struct weir__salvage_frames {
    bool open;
    weir_lsn lsn;      /* of the batch */
    weir_lsn end;      /* behind the last frame */
    weir_lsn last_lsn; /* the last frame */
    uint64_t wall_ns;
    struct weir__image image;
};

struct weir__salvage_state {
    const struct weir__rewrite_config *config;
    struct weir__target *target;
    struct weir__salvage_result *result;
    struct weir__fault *fault;
    struct weir__dir *dir;
    struct weir__mem *mem;

    bool control_known;
    struct weir__control control;
    uint64_t log_id;
    uint32_t block_bytes;
    uint64_t segment_bytes;
    weir_lsn oldest;
    weir_lsn promise;

    struct weir__salvage_segment *segments;
    size_t segment_count;
    size_t segment_room;
    /* After the first walk: rising, each beginning above the one before. */
    struct weir__salvage_epoch *epochs;
    size_t epoch_count;
    size_t epoch_room;
    /* The first walk: what the next batch should continue, and the same for batches that nothing
     * led to so far. */
    bool chain_known;
    struct weir__position chain;
    bool loose_known;
    struct weir__position loose;
    uint64_t loose_run; /* counts those, as they break off and begin */

    struct weir__salvage_reader reader;
    struct weir__image body; /* the batch in work, as the source has it */

    size_t at;        /* the segment in work */
    size_t target_at; /* the one that the target is in */
    weir_lsn known;
    weir_lsn lost_to; /* the end of the last gap */
    bool odd;         /* from odd_lsn on there are bytes above `known` that nothing explains */
    weir_lsn odd_lsn;
    char why[sizeof((struct weir_gap *)0)->why]; /* the first thing that was wrong above `known` */
    struct weir__salvage_frames frames;

    uint64_t progress_done;
    uint64_t progress_said;
    uint64_t progress_total;
};

int weir__salvage_no_memory(struct weir__salvage_state *salvage);
/* That many bytes more were read. */
void weir__salvage_progress(struct weir__salvage_state *salvage, uint64_t bytes);

/* ---- reading ---- */

/* Turns to a segment. 0, or why there is nothing to read; it then reads as zeros. */
int weir__salvage_reader_turn(struct weir__salvage_state *salvage,
                              const struct weir__salvage_segment *segment);
void weir__salvage_reader_close(struct weir__salvage_state *salvage);
/* Behind the last block of the segment in hand of which the file holds a byte. A name may promise any
 * number of bytes: nothing is looked for above it. */
weir_lsn weir__salvage_reader_end(const struct weir__salvage_state *salvage);
/* What is above it counts as read. */
void weir__salvage_reader_skip(struct weir__salvage_state *salvage);
/* Bytes at lsn, as many as the chunk in hand has. What cannot be read reads as zeros. */
const uint8_t *
weir__salvage_reader_peek(struct weir__salvage_state *salvage, weir_lsn lsn, size_t *bytes_out);
void weir__salvage_reader_copy(struct weir__salvage_state *salvage,
                               weir_lsn lsn,
                               void *to,
                               uint64_t bytes);
/* Could the byte at lsn, which was looked at last, not be read? */
bool weir__salvage_reader_bad(const struct weir__salvage_state *salvage, weir_lsn lsn);

/* ---- what it is ---- */

/* Log id, block, oldest, promise, segments. 0; WEIR_ENOLOG; WEIR_EFORMAT; -ENOMEM. */
int weir__salvage_facts(struct weir__salvage_state *salvage, struct weir__catalog *catalog);
/* The first walk: the epochs, and the highest promise. */
int weir__salvage_learn(struct weir__salvage_state *salvage);
/* The epoch that may stand at lsn; NULL: none is known. */
const struct weir__salvage_epoch *weir__salvage_epoch_due(const struct weir__salvage_state *salvage,
                                                          weir_lsn lsn);

/* A header at lsn, in the segment in hand, that holds by itself and fits its place. */
bool weir__salvage_batch_sound(struct weir__salvage_state *salvage,
                               weir_lsn lsn,
                               struct weir__batch *batch_out);
/* Is it of the epoch that may stand there? Of one that is not sure a gap is none: its length proves
 * nothing. */
bool weir__salvage_batch_due(const struct weir__salvage_state *salvage,
                             const struct weir__batch *batch);
/* Reads the batch into the body. 1: it verifies; 0: it does not, *why_out says why; negative: no
 * memory. */
int weir__salvage_batch_read(struct weir__salvage_state *salvage,
                             const struct weir__batch *batch,
                             const char **why_out);

#endif
