/* SPDX-License-Identifier: Apache-2.0
 * The queue part of the I/O seam over io_uring; entered through weir__io_system's table only (see
 * port/io.h). */
#ifndef WEIR_PORT_URING_H
#define WEIR_PORT_URING_H

#include "port/io.h"

/* -EINVAL: entries is 0 or above WEIR__QUEUE_ENTRIES_MAX. Else what io_uring_setup refused with;
 * weir__uring_probe has the words for it. */
int weir__uring_open(struct weir__io *io,
                     struct weir__mem *mem,
                     const struct weir__queue_config *config,
                     struct weir__queue **queue_out,
                     struct weir__queue_info *info_out);
void weir__uring_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue);
int weir__uring_push(struct weir__io *io,
                     struct weir__queue *queue,
                     const struct weir__op *ops,
                     unsigned count);
int weir__uring_reap(struct weir__io *io,
                     struct weir__queue *queue,
                     struct weir__event *events,
                     unsigned max,
                     bool wait,
                     uint64_t deadline_ns);
void weir__uring_wake(struct weir__io *io, struct weir__queue *queue);

#endif
