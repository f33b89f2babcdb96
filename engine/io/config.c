/* SPDX-License-Identifier: Apache-2.0
 * The config of the I/O layer: its presets, its checks, and the arithmetic of its figures.
 *
 * The happy path: a preset fills a struct, the caller changes what it likes, every opening settles
 * it once: copied by its length over the default, each field held against its bounds.
 *
 * What can fail: a field out of its bounds, which is named. Pure functions but for the probe, which
 * sets a ring up: any thread. */
#include "base/compiler.h"
#include "base/err.h"
#include "base/num.h"
#include "io/device.h"
#include "port/io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_KIB UINT32_C(1024)
#define CONFIG_BUFFERS_MAX 1024u
#define CONFIG_BUFFER_BYTES_MIN (4 * CONFIG_KIB)
#define CONFIG_BUFFER_BYTES_MAX (16 * CONFIG_KIB * CONFIG_KIB)
#define CONFIG_BUFFER_ALIGN 4096u
/* The struct as it was when the layer first came out: nobody has a shorter one. */
#define CONFIG_BYTES_MIN                                                                           \
    (offsetof(struct weir_io_config, memory) + sizeof((struct weir_io_config *)0)->memory)

_Static_assert(WEIR__QUEUE_ENTRIES_MAX == 4096, "the bound that weir/io.h states for max_inflight");
_Static_assert(WEIR__QUEUE_RING_MAX == 32768, "the bound that weir/io.h states for sq_entries");

/* ---- presets --------------------------------------------------------------------------------- */

struct weir_io_config weir_io_config_default(void)
{
    return (struct weir_io_config){
        .struct_bytes = sizeof(struct weir_io_config),
        .sq_entries = 1024,
        .kernel_poll = false,
        .sq_poll_idle_ms = 10,
        .max_inflight = 256,
        .direct_io = false,
        .registered_buffers = 64,
        .buffer_bytes = 64 * CONFIG_KIB,
        .backend = WEIR_IO_BACKEND_AUTO,
    };
}

struct weir_io_config weir_io_config_high_throughput(void)
{
    return (struct weir_io_config){
        .struct_bytes = sizeof(struct weir_io_config),
        .sq_entries = 4096,
        .kernel_poll = true,
        .sq_poll_idle_ms = 100,
        .max_inflight = 1024,
        .direct_io = true,
        .registered_buffers = 256,
        .buffer_bytes = 256 * CONFIG_KIB,
        .backend = WEIR_IO_BACKEND_AUTO,
    };
}

struct weir_io_config weir_io_config_low_latency(void)
{
    return (struct weir_io_config){
        .struct_bytes = sizeof(struct weir_io_config),
        .sq_entries = 256,
        .kernel_poll = true,
        .sq_poll_idle_ms = 1,
        .max_inflight = 64,
        .direct_io = true,
        .registered_buffers = 32,
        .buffer_bytes = 16 * CONFIG_KIB,
        .backend = WEIR_IO_BACKEND_AUTO,
    };
}

struct weir_io_config weir_io_config_minimal(void)
{
    return (struct weir_io_config){
        .struct_bytes = sizeof(struct weir_io_config),
        .sq_entries = 128,
        .kernel_poll = false,
        .sq_poll_idle_ms = 0,
        .max_inflight = 32,
        .direct_io = false,
        .registered_buffers = 8,
        .buffer_bytes = 4 * CONFIG_KIB,
        .backend = WEIR_IO_BACKEND_AUTO,
    };
}

/* ---- checks ---------------------------------------------------------------------------------- */

static int refuse(struct weir_error *error_out, const char *field, const char *why)
{
    if (error_out != NULL) {
        *error_out = (struct weir_error){
            .code = -EINVAL,
            .system_code = EINVAL,
            .offset = UINT64_MAX,
            .lsn = UINT64_MAX,
        };
        (void)snprintf(error_out->text, sizeof error_out->text, "config %s: %s", field, why);
    }
    return -EINVAL;
}

/* Copies what the caller's struct holds over the default; a longer one, from a newer header, must
 * be zero where this build does not look. */
static int config_copy(const struct weir_io_config *config,
                       struct weir_io_config *out,
                       struct weir_error *error_out)
{
    *out = weir_io_config_default();
    if (config == NULL) {
        return 0;
    }
    const size_t bytes = config->struct_bytes;
    if (bytes < CONFIG_BYTES_MIN) {
        return refuse(error_out, "struct_bytes", "too small; start from one of the presets");
    }
    if (bytes > sizeof *out) {
        const uint8_t *const tail = (const uint8_t *)config + sizeof *out;
        for (size_t i = 0; i < bytes - sizeof *out; i++) {
            if (tail[i] != 0) {
                return refuse(error_out,
                              "struct_bytes",
                              "the struct holds fields that this library does not know; it is "
                              "older than its header");
            }
        }
    }
    memcpy(out, config, (size_t)weir__min_u64(bytes, sizeof *out));
    out->struct_bytes = sizeof *out;
    return 0;
}

int weir__io_config_settle(const struct weir_io_config *config,
                           struct weir_io_config *out,
                           struct weir_error *error_out)
{
    const int code = config_copy(config, out, error_out);

    if (code != 0) {
        return code;
    }
    if (out->sq_entries < 1 || out->sq_entries > WEIR__QUEUE_RING_MAX) {
        return refuse(error_out, "sq_entries", "must be 1 to 32768");
    }
    if (out->max_inflight < 1 || out->max_inflight > WEIR__QUEUE_ENTRIES_MAX) {
        return refuse(error_out, "max_inflight", "must be 1 to 4096");
    }
    if (out->registered_buffers > CONFIG_BUFFERS_MAX) {
        return refuse(error_out, "registered_buffers", "must be 0 to 1024");
    }
    if (out->buffer_bytes < CONFIG_BUFFER_BYTES_MIN ||
        out->buffer_bytes > CONFIG_BUFFER_BYTES_MAX ||
        out->buffer_bytes % CONFIG_BUFFER_ALIGN != 0) {
        return refuse(error_out, "buffer_bytes", "must be 4 KiB to 16 MiB and a multiple of 4096");
    }
    if ((unsigned)out->backend > WEIR_IO_BACKEND_POSIX) {
        return refuse(error_out, "backend", "not one of WEIR_IO_BACKEND_AUTO, _URING, _POSIX");
    }
    if (out->memory != NULL && (out->memory->alloc == NULL || out->memory->release == NULL)) {
        return refuse(error_out, "memory", "needs both alloc and release");
    }
    return 0;
}

int weir_io_config_check(const struct weir_io_config *config, struct weir_error *error_out)
{
    struct weir_io_config settled;
    return weir__io_config_settle(config, &settled, error_out);
}

bool weir_io_uring_available(char *reason, size_t reason_bytes)
{
    char unread[1];

    if (reason == NULL) {
        reason = unread;
        reason_bytes = sizeof unread;
    }
    return weir__uring_probe(reason, reason_bytes) == 0;
}

/* ---- figures --------------------------------------------------------------------------------- */

uint64_t weir_io_stats_in_flight(const struct weir_io_stats *stats)
{
    return stats->ops_submitted > stats->ops_completed ? stats->ops_submitted - stats->ops_completed
                                                       : 0;
}

double weir_io_stats_completion_rate(const struct weir_io_stats *stats)
{
    /* A snapshot taken while operations end may show more of them than began. */
    if (stats->ops_completed >= stats->ops_submitted) {
        return 1.0;
    }
    return (double)stats->ops_completed / (double)stats->ops_submitted;
}

void weir__io_memory(struct weir__mem *mem, const struct weir_memory_hooks *hooks)
{
    if (hooks == NULL) {
        weir__mem_init(mem, NULL);
        return;
    }
    const struct weir__mem_hooks own = {
        .alloc = hooks->alloc,
        .release = hooks->release,
        .ctx = hooks->ctx,
    };
    weir__mem_init(mem, &own);
}
