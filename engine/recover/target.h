/* SPDX-License-Identifier: Apache-2.0
 * The new log that a copy or a salvage writes: batches go in with rising LSNs, segments are made as
 * they are entered, and weir__target_finish makes a log of it. Private to this floor. */
#ifndef WEIR_RECOVER_TARGET_H
#define WEIR_RECOVER_TARGET_H

#include "segment/control_file.h"
#include "segment/segment.h"

/* A batch being put together: header, frames, padding. Aligned for direct writes. Frames need no
 * valid header CRC: it is computed for the new log when the batch is written. */
struct weir__image {
    struct weir__mem *mem;
    uint8_t *bytes;
    size_t room;
};

/* Makes room for `bytes`, keeping what is there. 0 or -ENOMEM. */
int weir__image_reserve(struct weir__image *image, uint64_t bytes);
void weir__image_release(struct weir__image *image);

struct weir__target {
    struct weir__dir dir;
    bool dir_open;
    struct weir__fault *fault;
    uint32_t block_bytes;
    uint64_t segment_bytes; /* of segments to come, for the control file */
    uint64_t log_id;
    uint64_t parent_log_id;
    struct weir__epoch epoch;
    weir_lsn first_lsn;
    weir_lsn oldest; /* records below it are not counted */

    struct weir__position position; /* what the next batch continues */
    struct weir__range range;       /* the segment in work; base == end: none yet */
    uint64_t number;                /* of it */
    int file;                       /* of it; -1: none */
    struct weir__prepare prepare;
    struct weir__image block; /* for headers of gaps and of segments */

    /* Every segment made so far, for a failure's cleaning up. */
    struct weir__range *made;
    size_t made_count;
    size_t made_room;

    uint64_t records;
    uint64_t bytes; /* of payload */
    uint64_t batches;
};

/* Opens or creates the directory, takes the writer's lock, and sees to it that no log is there. 0,
 * WEIR_EEXISTS, -EBUSY, an errno. On failure nothing is left open. */
int weir__target_open(struct weir__target *target,
                      struct weir__io *io,
                      struct weir__mem *mem,
                      const char *path,
                      struct weir__fault *fault);
/* Draws the identity. The first segment that is entered is where the log begins; if none ever is,
 * it begins at first_lsn. */
int weir__target_begin(struct weir__target *target,
                       uint32_t block_bytes,
                       uint64_t segment_bytes,
                       uint64_t parent_log_id,
                       weir_lsn first_lsn,
                       weir_lsn oldest);
/* Where the log begins. Before the first segment is entered. */
void weir__target_origin(struct weir__target *target, weir_lsn first_lsn);
/* Makes the segment and turns to it; the one before is synced and closed. It begins where that one
 * ended. `hollow`: nothing will be written to it but a gap, so its zeros need not be written. */
int weir__target_enter(struct weir__target *target, struct weir__range range, bool hollow);
/* The first place in the segment in work where a batch could go. */
weir_lsn weir__target_place(const struct weir__target *target);
/* Writes a GAP batch from there to `to`: a multiple of the block in the segment. Nothing to do if
 * to is that place. */
int weir__target_gap(struct weir__target *target, weir_lsn to);
/* Writes a batch with the frames that stand in the image from WEIR__BATCH_HEADER_BYTES on; a gap
 * before it if lsn lies beyond the place. frames_bytes is what they take. */
int weir__target_batch(struct weir__target *target,
                       weir_lsn lsn,
                       struct weir__image *image,
                       uint64_t frames_bytes,
                       uint64_t wall_ns);
/* Everything synced, then the control file, clean. oldest is raised to the new log's first LSN. */
int weir__target_finish(struct weir__target *target, weir_lsn oldest);
/* Removes what was made. */
void weir__target_abandon(struct weir__target *target);
void weir__target_close(struct weir__target *target);

#endif
