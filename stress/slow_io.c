/* SPDX-License-Identifier: Apache-2.0
 * A slow disk: the system's I/O behind a table that lets writes and syncs sleep first.
 *
 * What goes through a queue is held up as a whole at each push. Any thread; the dice are shared and
 * need no order. */
#include "child.h"
#include "clock.h"
#include "dice.h"
#include "port/io.h"

#include <stdatomic.h>

static struct {
    struct weir__io io;
    struct weir__io_ops ops;
    struct weir__io *below;
    uint64_t span_ns;
    _Atomic uint64_t dice; /* relaxed: any number will do */
} slow;

static void slow_sleep(void)
{
    const uint64_t draw = dice_mix(atomic_fetch_add_explicit(&slow.dice, 1, memory_order_relaxed));
    const uint64_t span_ns = draw % slow.span_ns;

    clock_sleep_ns(draw / slow.span_ns % 1000 == 0 ? 100 * span_ns : span_ns);
}

static ssize_t slow_write(struct weir__io *io,
                          int file,
                          const struct iovec *iov,
                          unsigned iov_count,
                          uint64_t offset,
                          bool dsync)
{
    (void)io;
    slow_sleep();
    return slow.below->ops->write(slow.below, file, iov, iov_count, offset, dsync);
}

static int slow_sync(struct weir__io *io, int file)
{
    (void)io;
    slow_sleep();
    return slow.below->ops->sync(slow.below, file);
}

static int slow_push(struct weir__io *io,
                     struct weir__queue *queue,
                     const struct weir__op *ops,
                     unsigned count)
{
    (void)io;
    slow_sleep();
    return slow.below->ops->queue_push(slow.below, queue, ops, count);
}

struct weir__io *slow_io(uint64_t span_ns)
{
    slow.below = weir__io_system();
    slow.ops = *slow.below->ops;
    slow.ops.write = slow_write;
    slow.ops.sync = slow_sync;
    slow.ops.queue_push = slow_push;
    slow.io = (struct weir__io){.ops = &slow.ops, .ctx = slow.below->ctx};
    slow.span_ns = span_ns;
    return &slow.io;
}
