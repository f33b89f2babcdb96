/* SPDX-License-Identifier: Apache-2.0
 * Reading any part of a file, from any number of threads: what the layer's other parts and the
 * tests get from a public reader beyond weir/io.h. */
#ifndef WEIR_IO_READER_H
#define WEIR_IO_READER_H

#include "io/file.h"

#include <weir/io.h>

/* Rings of one reader, at most. */
#define WEIR__READER_LANES 8u

/* How calls were carried out, from the opening on. Relaxed: figures only. */
struct weir__reader_counts {
    uint64_t ring;    /* calls that were split and put on a ring */
    uint64_t here;    /* calls that were read by their own thread's calls alone */
    uint64_t crowded; /* of those, the ones that wanted a lane and found all of them taken */
    uint64_t bounced; /* direct reads, each of one chunk at most, that went through our memory */
    unsigned lanes;   /* rings open now */
};

/* weir_reader_open with another I/O seam. seam: NULL = the system's, by the backend. */
int weir__reader_open_with(const char *path,
                           const struct weir_io_config *config,
                           struct weir__io *seam,
                           struct weir_reader **reader_out,
                           struct weir_error *error_out);
/* weir_reader_read_at that tells whether the ring broke with the read: the kernel may then still
 * write into the buffer, which is to be left alone for good. */
int64_t weir__reader_read(struct weir_reader *reader,
                          uint64_t offset,
                          void *buffer,
                          size_t bytes,
                          bool *lost_out);
/* Its file, for as long as the reader is open. */
const struct weir__io_file *weir__reader_file(const struct weir_reader *reader);
/* Its config as it was asked for, defaults put in. */
const struct weir_io_config *weir__reader_config(const struct weir_reader *reader);
void weir__reader_counts(struct weir_reader *reader, struct weir__reader_counts *counts_out);

#endif
