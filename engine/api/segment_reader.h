/* SPDX-License-Identifier: Apache-2.0
 * Reading one file of a log by itself: what tests need beyond weir/io.h. */
#ifndef WEIR_API_SEGMENT_READER_H
#define WEIR_API_SEGMENT_READER_H

#include "port/io.h"

#include <weir/io.h>

/* weir_segment_open with another I/O seam. seam: NULL = the system's, by the backend. */
int weir__segment_reader_open_with(const char *path,
                                   const struct weir_io_config *config,
                                   struct weir__io *seam,
                                   struct weir_segment **segment_out,
                                   struct weir_error *error_out);

#endif
