/* SPDX-License-Identifier: Apache-2.0
 * An executor on files of one's own choice, for tests. */
#ifndef WEIR_IO_EXECUTOR_H
#define WEIR_IO_EXECUTOR_H

#include "io/file.h"

#include <weir/io.h>

/* weir_executor_open on two files, which must stay open. Either may be NULL, not both.
 * config     NULL = default
 * seam       NULL = the system's, by the config's backend */
int weir__executor_open_on(const struct weir__io_file *writer,
                           const struct weir__io_file *reader,
                           const struct weir_io_config *config,
                           struct weir__io *seam,
                           unsigned flags,
                           struct weir_executor **executor_out,
                           struct weir_error *error_out);

#endif
