/* SPDX-License-Identifier: Apache-2.0
 * The public queue of operations: what the tests get from it beyond weir/io.h. */
#ifndef WEIR_IO_QUEUE_H
#define WEIR_IO_QUEUE_H

#include "io/device.h"

#include <weir/io.h>

/* weir_io_queue_open with another I/O seam. seam: NULL = the system's, by the backend. */
int weir__io_queue_open_with(const struct weir_io_config *config,
                             struct weir__io *seam,
                             struct weir_io_queue **queue_out,
                             struct weir_error *error_out);
/* Its device, for as long as the queue is open. */
struct weir__io_device *weir__io_queue_device(struct weir_io_queue *queue);

#endif
