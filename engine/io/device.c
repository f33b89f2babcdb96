/* SPDX-License-Identifier: Apache-2.0
 * A queue made from a config.
 *
 * The happy path: buffers are allocated, a ring is opened with them and the sizes asked for, what
 * the kernel made of it is written down as the config in effect, and a transfer is put on top.
 *
 * What can fail: memory, and the ring. Where the choice is ours, a refused ring is a pool of
 * threads and its reason is kept; where io_uring was demanded it is the error. Everything else that
 * is refused is done without: buffers that cannot be registered are buffers all the same. Opened
 * and closed by the owner; the figures may be asked for from any thread meanwhile. */
#include "io/device.h"

#include "base/compiler.h"
#include "base/err.h"
#include "base/num.h"
#include "port/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEVICE_ERRNO_MAX 4095
/* What a polling thread of the kernel waits for where nothing was said. */
#define DEVICE_POLL_IDLE_MS 1000u
/* The probe's longest sentence is shorter; with a few words in front it fits a reason. */
#define DEVICE_WHY_BYTES 320u

/* ---- words ----------------------------------------------------------------------------------- */

static int device_fail(int code, struct weir_error *error_out, const char *what, const char *why)
{
    if (error_out != NULL) {
        *error_out = (struct weir_error){
            .code = code,
            .system_code = code < 0 && code >= -DEVICE_ERRNO_MAX ? -code : 0,
            .offset = UINT64_MAX,
            .lsn = UINT64_MAX,
        };
        (void)snprintf(error_out->text, sizeof error_out->text, "%s: %s", what, why);
    }
    return code;
}

void weir__io_device_refused(struct weir__io_device *device, const char *what)
{
    char *const reason = device->effective.reason;
    const size_t used = strlen(reason);
    (void)snprintf(reason + used,
                   sizeof device->effective.reason - used,
                   "%s%s",
                   used == 0 ? "" : "; ",
                   what);
}

/* Why a ring was refused, and the way out. The probe has the words, if it meets the same. */
static void ring_explain(int code, char *text, size_t text_bytes)
{
    if (weir__uring_probe(text, text_bytes) != code) {
        (void)snprintf(text, text_bytes, "%s", weir__code_text(code));
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static int
buffers_open(struct weir__io_device *device, const struct weir_io_config *config, struct iovec *iov)
{
    device->buffers_bytes = (size_t)config->registered_buffers * config->buffer_bytes;
    if (device->buffers_bytes == 0) {
        return 0;
    }
    device->buffers = weir__mem_alloc_io(&device->mem, device->buffers_bytes);
    if (device->buffers == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < config->registered_buffers; i++) {
        iov[i] = (struct iovec){
            .iov_base = device->buffers + (size_t)i * config->buffer_bytes,
            .iov_len = config->buffer_bytes,
        };
    }
    return 0;
}

static int queue_try(struct weir__io_device *device,
                     struct weir__io *io,
                     const struct weir__queue_config *config,
                     struct weir__queue_info *info)
{
    device->io = io;
    if (io->ops->queue_open == NULL) {
        return -ENOSYS;
    }
    return io->ops->queue_open(io, &device->mem, config, &device->queue, info);
}

/* Opens the queue that the config wants, or may have instead. */
static int queue_choose(struct weir__io_device *device,
                        const struct weir_io_config *config,
                        struct weir__io *seam,
                        const struct weir__queue_config *queue_config,
                        struct weir__queue_info *info,
                        struct weir_error *error_out)
{
    struct weir__io *const ring = seam != NULL ? seam : weir__io_system();
    struct weir__io *const pool = seam != NULL ? seam : weir__io_system_pool();
    char why[DEVICE_WHY_BYTES];
    char refused[DEVICE_WHY_BYTES + 32];

    if (config->backend == WEIR_IO_BACKEND_POSIX) {
        const int code = queue_try(device, pool, queue_config, info);
        return code == 0 ? 0 : device_fail(code, error_out, "pool", weir__code_text(code));
    }
    int code = queue_try(device, ring, queue_config, info);
    if (code == 0) {
        return 0;
    }
    ring_explain(code, why, sizeof why);
    if (config->backend == WEIR_IO_BACKEND_URING) {
        return device_fail(code, error_out, "io_uring was demanded", why);
    }
    /* Also behind a seam: what it would not open is done by the system's. */
    code = queue_try(device, weir__io_system_pool(), queue_config, info);
    if (code != 0) {
        return device_fail(code, error_out, "io_uring and the pool", weir__code_text(code));
    }
    (void)snprintf(refused, sizeof refused, "no io_uring: %s", why);
    weir__io_device_refused(device, refused);
    return 0;
}

/* What the queue turned out to be, as a config. */
static void effective_set(struct weir__io_device *device,
                          const struct weir_io_config *config,
                          const struct weir__queue_info *info)
{
    struct weir_io_effective *const effective = &device->effective;
    const bool ring = info->ring_entries > 0;

    effective->config = *config;
    effective->config.backend = ring ? WEIR_IO_BACKEND_URING : WEIR_IO_BACKEND_POSIX;
    effective->config.sq_entries = info->ring_entries;
    effective->config.max_inflight = (uint32_t)weir__min_u64(info->entries, config->max_inflight);
    effective->config.kernel_poll = info->kernel_poll;
    if (!info->kernel_poll) {
        effective->config.sq_poll_idle_ms = 0;
    } else if (config->sq_poll_idle_ms == 0) {
        effective->config.sq_poll_idle_ms = DEVICE_POLL_IDLE_MS;
    }
    if (!info->buffers_registered) {
        effective->config.registered_buffers = 0;
    }
    /* The file's to say. */
    effective->config.direct_io = false;
    effective->block_bytes = 1;
    effective->cq_entries = info->completion_entries;
    effective->threads = info->threads;
    if (effective->config.max_inflight < config->max_inflight) {
        char cut[80];
        (void)snprintf(cut,
                       sizeof cut,
                       "max_inflight cut to %u: %u entries for completions",
                       effective->config.max_inflight,
                       info->completion_entries);
        weir__io_device_refused(device, cut);
    }
    if (info->note[0] != '\0') {
        weir__io_device_refused(device, info->note);
    }
}

static void device_free(struct weir__io_device *device)
{
    weir__mem_free_io(&device->mem, device->buffers, device->buffers_bytes);
    device->buffers = NULL;
    weir__mem_exit(&device->mem);
}

int weir__io_device_open(struct weir__io_device *device,
                         const struct weir_io_config *config,
                         struct weir__io *seam,
                         bool wanders,
                         struct weir_error *error_out)
{
    struct weir__queue_info info = {0};

    memset(device, 0, sizeof *device);
    weir__io_memory(&device->mem, config->memory);
    const size_t iov_bytes = config->registered_buffers * sizeof(struct iovec);
    struct iovec *const iov = weir__mem_alloc(&device->mem, iov_bytes, 8);
    int code = iov == NULL ? -ENOMEM : buffers_open(device, config, iov);
    if (code != 0) {
        weir__mem_free(&device->mem, iov, iov_bytes);
        device_free(device);
        return device_fail(code, error_out, "buffers", weir__code_text(code));
    }
    const struct weir__queue_config queue_config = {
        .entries = config->max_inflight,
        .ring_entries = config->sq_entries,
        .kernel_poll = config->kernel_poll,
        .kernel_poll_idle_ms = config->sq_poll_idle_ms,
        .wanders = wanders,
        .lock_file = -1,
        .buffers = iov,
        .buffer_count = config->registered_buffers,
    };
    code = queue_choose(device, config, seam, &queue_config, &info, error_out);
    weir__mem_free(&device->mem, iov, iov_bytes);
    if (code != 0) {
        device_free(device);
        return code;
    }
    effective_set(device, config, &info);
    code = weir__transfer_init(&device->transfer,
                               &device->mem,
                               device->io,
                               device->queue,
                               device->effective.config.max_inflight,
                               &device->counters);
    if (code != 0) {
        device->io->ops->queue_close(device->io, &device->mem, device->queue);
        device_free(device);
        return device_fail(code, error_out, "table of operations", weir__code_text(code));
    }
    return 0;
}

/* ---- closing --------------------------------------------------------------------------------- */

static void ended_unheard(void *ctx, struct weir__transfer_run *run, int code)
{
    (void)ctx;
    (void)run;
    (void)code;
}

void weir__io_device_close(struct weir__io_device *device)
{
    struct weir__transfer *const transfer = &device->transfer;

    /* By hand, since closing the queue does not say whether it could wait, and goes on with nothing
     * that came back short. The owner hears nothing any more. */
    transfer->written = NULL;
    transfer->ended = ended_unheard;
    while (!transfer->broken && transfer->in_flight > 0) {
        (void)weir__transfer_reap(transfer, transfer->in_flight, WEIR__NEVER);
    }
    device->io->ops->queue_close(device->io, &device->mem, device->queue);
    device->queue = NULL;
    weir__transfer_exit(transfer);
    if (transfer->broken) {
        /* The kernel may still write into them, and nobody can find out until when. */
        weir__mem_abandon(&device->mem, device->buffers, weir__mem_io_bytes(device->buffers_bytes));
        device->buffers = NULL;
    }
    device_free(device);
}

/* ---- figures --------------------------------------------------------------------------------- */

void weir__io_device_stats(const struct weir__io_device *device, struct weir_io_stats *stats_out)
{
    const struct weir__transfer_counters *const counters = &device->counters;
    struct weir__queue_faults faults = {0};

    device->io->ops->queue_faults(device->io, device->queue, &faults);
    *stats_out = (struct weir_io_stats){
        /* Relaxed: figures. Completed first, so that a snapshot rarely shows more of those than
         * were submitted. */
        .ops_completed = weir__load(&counters->ops_completed, relaxed),
        .ops_submitted = weir__load(&counters->ops_submitted, relaxed),
        .bytes_written = weir__load(&counters->bytes_written, relaxed),
        .bytes_read = weir__load(&counters->bytes_read, relaxed),
        .cqe_overflows = faults.overflows,
        .sq_dropped = faults.dropped,
    };
}
