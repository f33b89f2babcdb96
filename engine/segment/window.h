/* SPDX-License-Identifier: Apache-2.0
 * Sequential reading of segments in large aligned chunks, past the page cache where the
 * directory is direct, with read-ahead through a queue (io_uring) where one is to be had and
 * asked for; else plain reads. Constant memory. One thread at a time, not always the same: with
 * read-ahead the queue belongs to a thread of the window's own. */
#ifndef WEIR_SEGMENT_WINDOW_H
#define WEIR_SEGMENT_WINDOW_H

#include "segment/catalog.h"

struct weir__window;

struct weir__window_config {
    struct weir__dir *dir;
    size_t chunk_bytes; /* of one read; rounded up to a multiple of 64 KiB; 0 = 1 MiB */
    unsigned depth;     /* chunks read ahead: 1 = none, 0 = 4 */
    bool buffered;      /* through the page cache even where the directory is direct */
    /* The log's block, 0 = not known: tells whether direct reads fit where the directory is not
     * direct. */
    uint32_t block_bytes;
};

int weir__window_open(const struct weir__window_config *config, struct weir__window **window_out);
void weir__window_close(struct weir__window *window);

/* Turns to the segment of `range`. Bytes fetched before are forgotten unless it is the same
 * range and keep is set. 0 or as weir__segment_open. */
int weir__window_turn(struct weir__window *window,
                      struct weir__range range,
                      bool keep,
                      struct weir__fault *fault);
/* Forgets what was fetched: the next peek reads anew. */
void weir__window_forget(struct weir__window *window);
/* From the next turn on: read past the page cache (or as configured again), also where directory
 * or config say otherwise, as far as the file system allows. For a second look at bytes that did
 * not verify. A turn that keeps opens anew when this changed. */
void weir__window_past_cache(struct weir__window *window, bool on);
/* From the next turn on, and before what past_cache says: a segment that ends at or below lsn is read
 * from the page cache if that holds it, all of it and nothing of it still to be written. For segments
 * that nobody writes to any more; what is read then need not be what the device would say. 0, as in
 * the beginning: none. */
void weir__window_cached_below(struct weir__window *window, weir_lsn lsn);

/* Bytes from lsn on, inside the current segment: *data_out points at *bytes_out >= 1 contiguous
 * bytes (as many as the chunk in hand holds), valid until the next call. limit: nothing at or
 * above it may be fetched (it may still be changing); bytes fetched below an earlier, lower
 * limit are not held to be more. 0; WEIR_EUNREADABLE with fault (file, offset, lsn) when the
 * device could not read the block; -ENOMEM; -EINVAL lsn outside [base, min(end, limit)), without
 * a fault. A file that ends early reads as WEIR_EUNREADABLE too. */
int weir__window_peek(struct weir__window *window,
                      weir_lsn lsn,
                      weir_lsn limit,
                      const uint8_t **data_out,
                      size_t *bytes_out,
                      struct weir__fault *fault);
/* Copies exactly bytes; as peek. */
int weir__window_copy(struct weir__window *window,
                      weir_lsn lsn,
                      weir_lsn limit,
                      void *to,
                      size_t bytes,
                      struct weir__fault *fault);
/* Reads issued and bytes read so far. */
void weir__window_counts(const struct weir__window *window,
                         uint64_t *reads_out,
                         uint64_t *bytes_out);
/* Of these bytes, those that were read by weir__window_cached_below. */
uint64_t weir__window_cached(const struct weir__window *window);
size_t weir__window_memory(const struct weir__window_config *config);

#endif
