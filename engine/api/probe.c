/* SPDX-License-Identifier: Apache-2.0
 * What a directory, its device and this kernel offer: the figures behind `weir doctor`.
 *
 * Writes a scratch file of 1 MiB, measures small durable writes to it the two ways that `auto`
 * chooses between, removes it. The calling thread. */
#include "api/error.h"
#include "api/open.h"
#include "base/crc32c.h"
#include "io/transfer.h"
#include "port/clock.h"
#include "port/mem.h"
#include "port/thread.h"
#include "segment/dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <weir/weir.h>

#define SCRATCH_NAME "weir.probe"
#define SCRATCH_BYTES (1u << 20)
#define ROUNDS 200u
#define IMPLAUSIBLE_NS 15000u /* no disk or flash with a volatile cache empties it in less */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void chain_ended(void *ctx, struct weir__transfer_run *run, int code)
{
    (void)ctx;
    *(int *)run->user = code;
    run->user = NULL;
}

/* One durable write of a block through the queue: a write linked to a sync. */
static int chain_once(struct weir__transfer *transfer,
                      int file,
                      struct iovec iov,
                      uint32_t block_bytes,
                      uint64_t offset)
{
    int result = 0;
    struct weir__transfer_op ops[2] = {
        {.kind = WEIR__OP_WRITE,
         .file = file,
         .block_bytes = block_bytes,
         .iov = &iov,
         .iov_count = 1,
         .offset = offset,
         .bytes = iov.iov_len},
        {.kind = WEIR__OP_SYNC, .file = file, .block_bytes = block_bytes},
    };
    struct weir__transfer_run run = {.ops = ops, .count = 2, .user = &result};
    int code = weir__transfer_start(transfer, &run);

    while (code == 0 && run.user != NULL) {
        int got = weir__transfer_reap(transfer, 2, WEIR__NEVER);
        code = got < 0 ? got : 0;
    }
    return code != 0 ? code : result;
}

/* Median and 99th percentile of ROUNDS durable writes; transfer NULL: by pwritev2(RWF_DSYNC). */
static int measure(struct weir__dir *dir,
                   struct weir__transfer *transfer,
                   int file,
                   uint8_t *block,
                   size_t bytes,
                   uint64_t *p50,
                   uint64_t *p99)
{
    uint64_t times[ROUNDS];
    struct iovec iov = {block, bytes};

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t offset = (uint64_t)(i % (SCRATCH_BYTES / bytes)) * bytes;
        uint64_t begin = weir__now_ns();
        int code = transfer ? chain_once(transfer, file, iov, (uint32_t)bytes, offset)
                            : weir__io_write_full(dir->io, file, block, bytes, offset, true);
        if (code != 0) {
            return code;
        }
        times[i] = weir__now_ns() - begin;
    }
    qsort(times, ROUNDS, sizeof times[0], by_value);
    *p50 = times[ROUNDS / 2];
    *p99 = times[ROUNDS - ROUNDS / 100 - 1];
    return 0;
}

static int measure_both(struct weir__dir *dir, struct weir_probe *probe, struct weir__fault *fault)
{
    struct weir__io *io = dir->io;
    size_t bytes = dir->direct && dir->facts.direct_align > 4096 ? dir->facts.direct_align : 4096;
    uint8_t *scratch = weir__mem_alloc_io(dir->mem, SCRATCH_BYTES);
    int file = -1;
    int code = scratch ? 0 : -ENOMEM;

    if (code == 0) {
        unsigned flags =
            WEIR__OPEN_WRITE | WEIR__OPEN_CREATE | (dir->direct ? WEIR__OPEN_DIRECT : 0u);
        code = io->ops->open(io, dir->file, SCRATCH_NAME, flags, &file);
    }
    if (code == 0) {
        /* Written first, as segments are: a write into a hole or beyond the end costs metadata as
         * well. */
        code = weir__io_write_full(io, file, scratch, SCRATCH_BYTES, 0, true);
    }
    if (code == 0) {
        code = measure(dir, NULL, file, scratch, bytes, &probe->sync_ns_p50, &probe->sync_ns_p99);
    }
    if (code == 0 && probe->io_uring) {
        struct weir__queue_config config = {.entries = 8, .lock_file = -1};
        struct weir__queue_info info;
        struct weir__queue *queue;
        if (io->ops->queue_open(io, dir->mem, &config, &queue, &info) == 0) {
            struct weir__transfer_counters counters = {0};
            struct weir__transfer transfer;
            uint64_t p99;
            code = weir__transfer_init(&transfer, dir->mem, io, queue, config.entries, &counters);
            if (code == 0) {
                transfer.ended = chain_ended;
                code = measure(dir, &transfer, file, scratch, bytes, &probe->chain_ns_p50, &p99);
            }
            io->ops->queue_close(io, dir->mem, queue);
            weir__transfer_exit(&transfer);
        }
    }
    if (file >= 0) {
        io->ops->close(io, file);
        io->ops->unlink(io, dir->file, SCRATCH_NAME);
    }
    weir__mem_free_io(dir->mem, scratch, SCRATCH_BYTES);
    if (code != 0) {
        return weir__fault_set(fault,
                               code,
                               SCRATCH_NAME,
                               UINT64_MAX,
                               UINT64_MAX,
                               "the scratch file cannot be written durably: %s",
                               weir__code_text(code));
    }
    return 0;
}

static void facts_take(const struct weir__dir *dir, struct weir_probe *probe)
{
    const struct weir__fs_facts *facts = &dir->facts;

    snprintf(probe->fs_name, sizeof probe->fs_name, "%s", facts->fs_name);
    snprintf(probe->device_name, sizeof probe->device_name, "%s", facts->device_name);
    probe->direct = facts->direct;
    probe->direct_align = facts->direct_align;
    probe->copy_on_write = facts->copy_on_write;
    probe->network = facts->network;
    probe->fua = facts->fua;
    probe->write_cache = facts->write_cache;
    probe->free_bytes = facts->free_bytes;
}

static void kernel_take(struct weir_probe *probe)
{
    struct utsname name;
    struct rlimit limit;

    if (uname(&name) == 0) {
        snprintf(probe->kernel, sizeof probe->kernel, "%.20s %.40s", name.sysname, name.release);
    }
    probe->memlock_bytes = getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY
                               ? limit.rlim_cur
                               : UINT64_MAX;
    probe->io_uring_code = weir__uring_probe(probe->io_uring_reason, sizeof probe->io_uring_reason);
    probe->io_uring = probe->io_uring_code == 0;
    weir__uring_opcodes(probe->io_uring_opcodes, sizeof probe->io_uring_opcodes);
}

static void auto_judge(struct weir_probe *probe)
{
    probe->io_auto = probe->io_uring ? WEIR_IO_AUTO : WEIR_IO_POSIX;
    if (!probe->io_uring) {
        snprintf(probe->io_auto_reason,
                 sizeof probe->io_auto_reason,
                 "posix: no io_uring (%.240s); pwritev2(RWF_DSYNC) by the flusher",
                 probe->io_uring_reason);
    } else {
        snprintf(probe->io_auto_reason,
                 sizeof probe->io_auto_reason,
                 "one pending batch by pwritev2(RWF_DSYNC), %.1f us here against %.1f us as a "
                 "chain; several on the ring %s",
                 (double)probe->sync_ns_p50 / 1000,
                 (double)probe->chain_ns_p50 / 1000,
                 probe->fua == 1 ? "with RWF_DSYNC (the device has FUA)"
                                 : "under one covering sync (no FUA)");
    }
    probe->sync_implausible =
        probe->write_cache != 0 && !probe->network && probe->sync_ns_p50 < IMPLAUSIBLE_NS;
}

int weir_probe(const char *path, struct weir_probe *probe_out, struct weir_error *error_out)
{
    struct weir__fault fault = WEIR__FAULT_NONE;
    struct weir__mem mem;
    struct weir__dir dir;

    if (!path || !probe_out) {
        weir__fault_set(&fault,
                        -EINVAL,
                        "",
                        UINT64_MAX,
                        UINT64_MAX,
                        "%s must not be NULL",
                        !path ? "dir" : "probe_out");
        weir__error_from_fault(&fault, error_out);
        return -EINVAL;
    }
    memset(probe_out, 0, sizeof *probe_out);
    weir__mem_init(&mem, NULL);
    memset(&dir, 0, sizeof dir);
    dir.file = dir.lock_file = dir.live_file = -1;
    kernel_take(probe_out);
    snprintf(probe_out->memory_source, sizeof probe_out->memory_source, "%s", mem.source);
    snprintf(probe_out->crc32c, sizeof probe_out->crc32c, "%s", weir__crc32c_name());
    int code = weir__dir_open(&dir, weir__io_system(), &mem, path, false, true, &fault);
    if (code == 0) {
        facts_take(&dir, probe_out);
        code = measure_both(&dir, probe_out, &fault);
    }
    auto_judge(probe_out);
    probe_out->policy = WEIR_POLICY_DEFAULT;
    probe_out->cores = weir__cores();
    probe_out->yield_from = weir__policy_yield_from(probe_out->policy, probe_out->cores);
    probe_out->collect_max = weir__policy_collect_max(probe_out->policy, probe_out->cores);
    weir__dir_close(&dir);
    weir__mem_exit(&mem);
    if (error_out) {
        memset(error_out, 0, sizeof *error_out);
        if (code != 0) {
            weir__fault_set(&fault, code, "", UINT64_MAX, UINT64_MAX, "%s", weir__code_text(code));
            weir__error_from_fault(&fault, error_out);
        }
    }
    return code;
}
