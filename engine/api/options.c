/* SPDX-License-Identifier: Apache-2.0
 * Options: defaults, checks, and the memory that follows from them. */
#include "api/log.h"
#include "base/num.h"
#include "read/cursor.h"

#include <errno.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define SEGMENT_BYTES_MAX (UINT64_C(1) << 40)

static int refuse(struct weir__fault *fault, const char *option, const char *why)
{
    return weir__fault_set(fault,
                           -EINVAL,
                           "",
                           UINT64_MAX,
                           UINT64_MAX,
                           "option %s: %s",
                           option,
                           why);
}

/* Copies what the caller's struct holds; a longer one, from a newer header, must be zero where this
 * build does not look. */
static int options_copy(const struct weir_options *options,
                        struct weir_options *out,
                        struct weir__fault *fault)
{
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    if (!options) {
        return 0;
    }
    if (options->struct_bytes < offsetof(struct weir_options, segment_bytes)) {
        return refuse(fault, "struct_bytes", "too small; start from WEIR_OPTIONS_INIT");
    }
    if (options->struct_bytes > sizeof *out) {
        const uint8_t *tail = (const uint8_t *)options + sizeof *out;
        for (size_t i = 0; i < options->struct_bytes - sizeof *out; i++) {
            if (tail[i] != 0) {
                return refuse(fault,
                              "struct_bytes",
                              "the struct holds options that this library does not know; it is "
                              "older than its header");
            }
        }
    }
    memcpy(out, options, weir__min_u64(options->struct_bytes, sizeof *out));
    out->struct_bytes = sizeof *out;
    return 0;
}

static void defaults_put(struct weir_options *o)
{
    o->slot_bytes = o->slot_bytes ? o->slot_bytes : (uint32_t)MIB;
    o->slots = o->slots ? o->slots : 8;
    o->oversize_buffers = o->oversize_buffers ? o->oversize_buffers : 1;
    o->max_inflight = o->max_inflight ? o->max_inflight : 8;
    o->spare_segments = o->spare_segments ? o->spare_segments : 1;
    o->recycle_segments = o->recycle_segments ? o->recycle_segments : 16;
    o->lock_timeout_ns = o->lock_timeout_ns == 0            ? UINT64_C(2000000000)
                         : o->lock_timeout_ns == UINT64_MAX ? 0
                                                            : o->lock_timeout_ns;
    o->stall_warn_ns = o->stall_warn_ns ? o->stall_warn_ns : UINT64_C(1000000000);
}

int weir__options_check(const struct weir_options *options,
                        struct weir_options *out,
                        struct weir__fault *fault)
{
    int code = options_copy(options, out, fault);

    if (code != 0) {
        return code;
    }
    struct weir_options *o = out;
    defaults_put(o);
    if ((unsigned)o->io > WEIR_IO_POSIX) {
        return refuse(fault, "io", "not one of WEIR_IO_AUTO, _CHAIN, _DSYNC, _POSIX");
    }
    if (o->block_bytes != 0 &&
        (!weir__is_pow2(o->block_bytes) || o->block_bytes < 512 || o->block_bytes > 65536)) {
        return refuse(fault, "block_bytes", "must be a power of two from 512 to 65536");
    }
    uint64_t block = o->block_bytes ? o->block_bytes : 4096;
    if (o->slot_bytes < 4096 || o->slot_bytes > 16 * MIB || o->slot_bytes % block != 0) {
        return refuse(fault, "slot_bytes", "must be 4 KiB to 16 MiB and a multiple of the block");
    }
    if (o->slots < 2 || o->slots > 512) {
        return refuse(fault, "slots", "must be 2 to 512");
    }
    if (o->oversize_buffers > 64) {
        return refuse(fault, "oversize_buffers", "must be 1 to 64");
    }
    if (o->max_inflight > 256) {
        return refuse(fault, "max_inflight", "must be 1 to 256");
    }
    if (o->spare_segments > 16) {
        return refuse(fault, "spare_segments", "must be 1 to 16");
    }
    if (o->segment_bytes != 0 && (o->segment_bytes % block != 0 || o->segment_bytes < 4 * block ||
                                  o->segment_bytes > SEGMENT_BYTES_MAX)) {
        return refuse(fault,
                      "segment_bytes",
                      "must be a multiple of the block, at least four blocks, at most 1 TiB");
    }
    if (o->first_lsn % block != 0 || o->first_lsn >= WEIR__LSN_MAX - SEGMENT_BYTES_MAX) {
        return refuse(fault,
                      "first_lsn",
                      "must be a multiple of the block and below 2^63 less a segment");
    }
    if (o->record_bytes_max > 1024 * MIB) {
        return refuse(fault, "record_bytes_max", "must be at most 1 GiB");
    }
    if ((unsigned)o->policy > WEIR_POLICY_OFF) {
        return refuse(fault, "policy", "not one of WEIR_POLICY_DEFAULT, _LOW_LATENCY, _OFF");
    }
    if (o->memory && (!o->memory->alloc || !o->memory->release)) {
        return refuse(fault, "memory", "needs both alloc and release");
    }
    return 0;
}

struct weir__stage_config weir__options_stage(const struct weir_options *options,
                                              uint32_t block_bytes)
{
    uint64_t span = WEIR__BATCH_HEADER_BYTES + weir__frame_span(options->record_bytes_max);

    return (struct weir__stage_config){
        .slots = options->slots,
        .slot_bytes = options->slot_bytes,
        .oversize_buffers = options->oversize_buffers,
        .oversize_bytes = weir__align_up(span, block_bytes),
        .block_bytes = block_bytes,
        .segment_bytes = options->segment_bytes,
    };
}

/* Options as far as they can be settled without a log: what memory depends on. */
static bool options_settle(const struct weir_options *options, struct weir_options *out)
{
    if (weir__options_check(options, out, NULL) != 0) {
        return false;
    }
    out->block_bytes = out->block_bytes ? out->block_bytes : 4096;
    out->segment_bytes = out->segment_bytes ? out->segment_bytes : 64 * MIB;
    out->record_bytes_max = out->record_bytes_max ? out->record_bytes_max : (uint32_t)(16 * MIB);
    return true;
}

/* What does not follow from the options: the handle, the ring's and the recovery's tables, the
 * catalog with up to 100,000 segments. */
#define MEMORY_REST (8 * MIB)

uint64_t weir_memory_bound(const struct weir_options *options)
{
    struct weir_options o;

    if (!options_settle(options, &o)) {
        return 0;
    }
    struct weir__stage_config stage = weir__options_stage(&o, o.block_bytes);
    return weir__stage_memory(&stage) +
           weir__flusher_memory(o.slots + o.oversize_buffers, o.max_inflight) +
           weir__mem_io_bytes(WEIR__PREFILL_CHUNK_BYTES) + sizeof(struct weir_log) + MEMORY_REST;
}

uint64_t weir_cursor_memory_bound(const struct weir_options *options)
{
    struct weir_options o;

    if (!options_settle(options, &o)) {
        return 0;
    }
    struct weir__stage_config stage = weir__options_stage(&o, o.block_bytes);
    struct weir__cursor_config config = {
        .block_bytes = o.block_bytes,
        .batch_bytes = o.slot_bytes,
        .batch_bytes_max = weir__max_u64(o.slot_bytes, stage.oversize_bytes),
        .read_ahead = true,
    };
    return weir__cursor_memory(&config) + weir__mem_io_bytes(config.batch_bytes_max) + 4096;
}
