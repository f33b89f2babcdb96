/* SPDX-License-Identifier: Apache-2.0
 * The queue part of the I/O seam over io_uring; entered through weir__io_system's table only (see
 * port/io.h). */
#ifndef WEIR_PORT_URING_H
#define WEIR_PORT_URING_H

#include "port/io.h"

/* -EINVAL: entries is 0 or above WEIR__QUEUE_ENTRIES_MAX, ring_entries above WEIR__QUEUE_RING_MAX,
 * or too many buffers. Else what io_uring_setup refused with;
 * weir__uring_probe has the words for it. */
int weir__uring_open(struct weir__io *io,
                     struct weir__mem *mem,
                     const struct weir__queue_config *config,
                     struct weir__queue **queue_out,
                     struct weir__queue_info *info_out);
void weir__uring_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue);
/* As in port/io.h; and -EINVAL where one run alone is longer than the ring. A thread that pushes
 * must not exit before the events have come: the kernel cancels what it has under way. */
int weir__uring_push(struct weir__io *io,
                     struct weir__queue *queue,
                     const struct weir__op *ops,
                     unsigned count);
int weir__uring_reap(struct weir__io *io,
                     struct weir__queue *queue,
                     struct weir__event *events,
                     unsigned max,
                     unsigned min,
                     uint64_t deadline_ns);
void weir__uring_wake(struct weir__io *io, struct weir__queue *queue);
void weir__uring_faults(struct weir__io *io,
                        struct weir__queue *queue,
                        struct weir__queue_faults *faults_out);

/* For tests. With kernel_poll: its thread sleeps and must be woken by a call. */
bool weir__uring_poll_idle(const struct weir__queue *queue);
/* For tests. Submits an entry by an index that the ring does not have: the kernel drops it. Without
 * kernel_poll, and with nothing prepared. */
void weir__uring_spoil_entry(struct weir__queue *queue);

#endif
