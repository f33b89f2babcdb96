/* SPDX-License-Identifier: Apache-2.0
 * A file named by a path, opened through the I/O seam the way the log opens its own: no link is
 * followed at the last component, nothing but regular files, close-on-exec, O_DIRECT where it is
 * asked for and taken. */
#ifndef WEIR_IO_FILE_H
#define WEIR_IO_FILE_H

#include "io/syncs.h"
#include "port/io.h"

#include <weir/io.h>

struct weir__io_file {
    struct weir__io *io;
    int dir; /* the directory that it stands in */
    int file;
    bool direct;
    bool created;
    uint32_t block_bytes; /* what direct offsets, lengths and memory are multiples of; 1 if not */
    uint64_t bytes;       /* length when it was opened */
    char name[64];        /* last component, cut; for errors */
    char note[160];       /* why it is not direct although that was asked for; "" */
    /* Whoever shares the descriptor syncs it by these. NULL: nobody does. Not the file's own. */
    struct weir__io_syncs *syncs;
};

/* flags      WEIR__OPEN_READ or WEIR__OPEN_WRITE, with WEIR__OPEN_CREATE: a file that was made is
 *            durably in its directory at return
 * direct     O_DIRECT, if the file system takes it (note says why not)
 * Return 0, or an errno with error_out filled; nothing is left open then. */
int weir__io_file_open(struct weir__io *io,
                       const char *path,
                       unsigned flags,
                       bool direct,
                       struct weir__io_file *file_out,
                       struct weir_error *error_out);
void weir__io_file_close(struct weir__io_file *file);
/* Cuts off what padding has put behind `end`, but not what has got behind `padded` meanwhile: then
 * the file does not end in the padding, and there is nothing to cut. 0 or the error. */
int weir__io_file_unpad(const struct weir__io_file *file, uint64_t end, uint64_t padded);
/* Fills error_out (may be NULL): "what: text of code", name, offset. Returns code. */
int weir__io_file_error(const struct weir__io_file *file,
                        int code,
                        uint64_t offset,
                        const char *what,
                        struct weir_error *error_out);

#endif
