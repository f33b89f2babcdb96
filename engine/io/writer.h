/* SPDX-License-Identifier: Apache-2.0
 * What the rest of the I/O layer, and tests, may know of a writer beyond weir/io.h. */
#ifndef WEIR_IO_WRITER_H
#define WEIR_IO_WRITER_H

#include "io/file.h"

#include <weir/io.h>

/* weir_writer_create (must_exist false) and weir_writer_open through any I/O seam. NULL: the
 * system's, by the config's backend. */
int weir__writer_open_with(struct weir__io *seam,
                           const char *path,
                           bool must_exist,
                           const struct weir_io_config *config,
                           struct weir_writer **writer_out,
                           struct weir_error *error_out);
/* The seam that it was opened with, NULL if none was given. */
struct weir__io *weir__writer_seam(const struct weir_writer *writer);
/* Its file. Lives as long as the writer; constant. */
const struct weir__io_file *weir__writer_file(const struct weir_writer *writer);

#endif
