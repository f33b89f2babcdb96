/* SPDX-License-Identifier: Apache-2.0
 * A queue made from a public config: backend chosen, buffers registered, what was refused told.
 *
 * What a writer, an executor, a public queue and a reader's lane have in common. The owner drives
 * `transfer`; anybody may ask for the figures. */
#ifndef WEIR_IO_DEVICE_H
#define WEIR_IO_DEVICE_H

#include "io/transfer.h"
#include "port/mem.h"

#include <weir/io.h>

struct weir__io_device {
    struct weir__mem mem;
    struct weir__io *io; /* of the backend in effect: files are opened through it, too */
    struct weir__queue *queue;
    struct weir__transfer transfer; /* entries: max_inflight in effect */
    struct weir__transfer_counters counters;
    uint8_t *buffers; /* registered_buffers of buffer_bytes each, contiguous; NULL: none */
    size_t buffers_bytes;
    /* direct_io and block_bytes are the file's to say: weir__io_device_file. */
    struct weir_io_effective effective;
};

/* The config with its defaults put in, checked. NULL = default. -EINVAL names the field. */
int weir__io_config_settle(const struct weir_io_config *config,
                           struct weir_io_config *out,
                           struct weir_error *error_out);

/* The memory seam over a host's hooks; NULL: none. */
void weir__io_memory(struct weir__mem *mem, const struct weir_memory_hooks *hooks);

/* config     checked
 * seam       NULL = the system's, by the backend; else this one, whatever the backend (tests)
 * wanders    as weir__queue_config
 * Return 0; -ENOMEM; what refused io_uring where it is demanded. On failure nothing is left to
 * close. The owner sets transfer.written, .ended and .ctx afterwards. */
int weir__io_device_open(struct weir__io_device *device,
                         const struct weir_io_config *config,
                         struct weir__io *seam,
                         bool wanders,
                         struct weir_error *error_out);
/* Waits for what is in flight. A broken queue's memory is left alone for good. */
void weir__io_device_close(struct weir__io_device *device);

/* Appends a sentence to effective.reason. */
void weir__io_device_refused(struct weir__io_device *device, const char *what);
void weir__io_device_stats(const struct weir__io_device *device, struct weir_io_stats *stats_out);

static inline uint8_t *weir__io_device_buffer(const struct weir__io_device *device, uint32_t index)
{
    return device->buffers + (size_t)index * device->effective.config.buffer_bytes;
}

#endif
