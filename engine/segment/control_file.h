/* SPDX-License-Identifier: Apache-2.0
 * The control file: two copies on disk of the log's few durable facts. FORMAT.md section 3. */
#ifndef WEIR_SEGMENT_CONTROL_FILE_H
#define WEIR_SEGMENT_CONTROL_FILE_H

#include "segment/dir.h"

struct weir__control_file {
    struct weir__dir *dir;
    int file;           /* -1: not open for writing */
    unsigned next_copy; /* which one a single write goes to: the older, or the bad one */
    uint8_t *buffer;    /* one block, aligned */
    size_t buffer_bytes;
    struct weir__control current; /* as last written */
    uint64_t generation;          /* the highest ever given to a copy, failed writes included */
    uint64_t writes;              /* copies written */
    /* The checkpoint that each copy holds, UINT64_MAX for a bad copy. An opening that finds one
     * copy damaged starts at the other's, so nothing above the lower one may be given up:
     * weir__control_checkpoint_low. */
    weir_lsn checkpoint_lsn[2];
};

struct weir__control_found {
    bool exists; /* the file is there */
    bool valid[2];
    struct weir__control copy[2];
    int newest; /* index of the one that counts, -1: none valid */
};

/* Reads both copies; writes nothing. A live writer may be in the middle of one: a copy that does
 * not verify is read again a few times before it counts as bad. A copy that the device cannot
 * read counts as bad too. Return 0 (also when nothing is there or valid: see found);
 * WEIR_EFORMAT: a sound copy of another version; WEIR_ECORRUPT: two sound copies of different
 * logs; an errno: the file cannot be opened, or no copy is valid and one of them could not be
 * read. */
int weir__control_load(struct weir__dir *dir,
                       struct weir__control_found *found_out,
                       struct weir__fault *fault);

/* Creates the file with both copies, for a new log; first->generation is not looked at. It is
 * made under the name weir.prepare and renamed when it is complete and synced, so a crash leaves
 * either no control file or a whole one. -EEXIST if it is there. The caller holds the writer's
 * lock and prepares no segment meanwhile. */
int weir__control_create(struct weir__control_file *cf,
                         struct weir__dir *dir,
                         const struct weir__control *first,
                         struct weir__fault *fault);
/* Opens it for writing with what weir__control_load found (newest >= 0). */
int weir__control_open(struct weir__control_file *cf,
                       struct weir__dir *dir,
                       const struct weir__control_found *found,
                       struct weir__fault *fault);
/* Writes `next` with the following generation and the time of day: one copy, or both, each
 * durable before the other is touched; the older or bad one first. On an error cf->current is
 * unchanged, at most one copy on disk is damaged, and a further write begins with that one.
 * -EINVAL, with nothing written: the fields of next contradict each other, or its log id or
 * block size is another. One thread at a time. */
int weir__control_write(struct weir__control_file *cf,
                        const struct weir__control *next,
                        bool both,
                        struct weir__fault *fault);
/* The lower checkpoint of the good copies on disk. */
weir_lsn weir__control_checkpoint_low(const struct weir__control_file *cf);
/* Safe on a struct that create or open left after a failure. */
void weir__control_close(struct weir__control_file *cf);

#endif
