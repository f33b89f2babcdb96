/* SPDX-License-Identifier: Apache-2.0
 * The queue part of the I/O seam over plain calls and a pool of threads; entered through
 * weir__io_system_pool's table only (see port/io.h).
 *
 * Promises what the ring promises, with these differences. A descriptor must stay open until the
 * events of its ops have come, since the calls are made later. An owner that waits may carry out a
 * run itself, and is not woken before its end. Nothing is registered: info's note says so where it
 * was asked for. After a fork the child must leave the queue alone, closing included: its threads
 * are the parent's, and its lock may be held by one of them for good. */
#ifndef WEIR_PORT_POOL_H
#define WEIR_PORT_POOL_H

#include "port/io.h"

/* Threads of one queue at most. */
#define WEIR__POOL_THREADS 16u

/* -EINVAL: entries is 0 or above WEIR__QUEUE_ENTRIES_MAX. Starts no thread yet. */
int weir__pool_open(struct weir__io *io,
                    struct weir__mem *mem,
                    const struct weir__queue_config *config,
                    struct weir__queue **queue_out,
                    struct weir__queue_info *info_out);
void weir__pool_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue);
int weir__pool_push(struct weir__io *io,
                    struct weir__queue *queue,
                    const struct weir__op *ops,
                    unsigned count);
int weir__pool_reap(struct weir__io *io,
                    struct weir__queue *queue,
                    struct weir__event *events,
                    unsigned max,
                    unsigned min,
                    uint64_t deadline_ns);
void weir__pool_wake(struct weir__io *io, struct weir__queue *queue);
void weir__pool_faults(struct weir__io *io,
                       struct weir__queue *queue,
                       struct weir__queue_faults *faults_out);

/* For tests: threads started so far. */
unsigned weir__pool_threads(struct weir__queue *queue);

#endif
