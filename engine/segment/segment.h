/* SPDX-License-Identifier: Apache-2.0
 * One segment file: opening it, its header, making a new one ready. FORMAT.md section 4. */
#ifndef WEIR_SEGMENT_SEGMENT_H
#define WEIR_SEGMENT_SEGMENT_H

#include "base/compiler.h"
#include "format/segment_header.h"
#include "segment/catalog.h"

/* Opens the file of a range and compares its length. flags: WEIR__OPEN_WRITE, WEIR__OPEN_DIRECT
 * (granted only where the directory is direct), both or neither. 0; -ENOENT; WEIR_ECORRUPT if it
 * is no regular file or shorter than its name says; an errno. fault names the file. */
int weir__segment_open(struct weir__dir *dir,
                       struct weir__range range,
                       unsigned flags,
                       int *file_out,
                       struct weir__fault *fault);
/* Reads and decodes the header block; compares nothing with the name. As
 * weir__segment_header_decode, or an errno. */
int weir__segment_read_header(struct weir__dir *dir,
                              int file,
                              struct weir__range range,
                              struct weir__segment_header *header_out,
                              struct weir__fault *fault);

#define WEIR__PREFILL_CHUNK_BYTES (256u * 1024u / WEIR__CHUNKS_SMALLER)

/* A segment being made ready. Either a trimmed one is renamed and gets a new header (done at
 * once), or zeros are written in chunks. */
struct weir__prepare {
    struct weir__dir *dir;
    struct weir__range range;
    struct weir__segment_header header;
    int file;        /* -1: no fill under way */
    uint64_t done;   /* bytes of zeros so far */
    uint64_t synced; /* of those, not left to the last sync (buffered directories only) */
    /* A file bears the name of `range` through the last step or recycle, even if that call then
     * failed. */
    bool renamed;
    uint8_t *zeros; /* one chunk, aligned; first block used for the header */
    size_t zeros_bytes;
};

int weir__prepare_init(struct weir__prepare *prepare, struct weir__dir *dir);
/* Closes what is open, removes nothing. Safe on a zeroed struct, and twice. */
void weir__prepare_exit(struct weir__prepare *prepare);
/* Begins to fill weir.prepare (created, or reused from a crash and filled anew). header: all but
 * origin. None is under way. */
int weir__prepare_begin(struct weir__prepare *prepare,
                        struct weir__range range,
                        const struct weir__segment_header *header,
                        struct weir__fault *fault);
/* Writes the next chunk; behind the last one header, sync, rename and the directory's sync. 1:
 * the segment is ready, bears its name, everything synced, *file_out is open for the flusher's
 * writes. 0: go on. Negative: failed. -ENOSPC, -EDQUOT and other passing causes can be tried
 * again by the same call while a fill is under way (file >= 0): it goes on where it stood, or,
 * where a sync failed and nobody can say which of its bytes were lost, from the first byte. A
 * failure behind the rename ends the fill (file == -1, renamed): the file is there to be
 * adopted. */
int weir__prepare_step(struct weir__prepare *prepare, int *file_out, struct weir__fault *fault);
/* Gives up; removes weir.prepare. Nothing under way: does nothing. */
void weir__prepare_abandon(struct weir__prepare *prepare);
/* Recycles the file of `from` into range (same length, one link, else -EINVAL or -EMLINK and
 * nothing was done). In the order of FORMAT.md section 4, (2) to (4). On another failure
 * prepare->renamed says which name the file bears. A fill under way is not touched. */
int weir__prepare_recycle(struct weir__prepare *prepare,
                          struct weir__range from,
                          struct weir__range range,
                          const struct weir__segment_header *header,
                          int *file_out,
                          struct weir__fault *fault);
/* For a file that already bears the name of range (left by a crash or by an earlier run, beyond
 * the end of the log): writes the header as recycled, syncs file and directory. -ENOENT there is
 * none; -EINVAL if its length does not fit; -EMLINK if it has another name too, which may be a
 * backup's. A fill under way is not touched. */
int weir__prepare_adopt(struct weir__prepare *prepare,
                        struct weir__range range,
                        const struct weir__segment_header *header,
                        int *file_out,
                        struct weir__fault *fault);

#endif
