/* SPDX-License-Identifier: Apache-2.0
 * Keeps `depth` operations under way: waits for one at least, counts what has ended, and submits as
 * many again, `batch` at a time. One at a time keeps the device busier: the first is there before
 * the second has been submitted. The clock is read once after a wait, and between submissions: the
 * end of one operation is the beginning of the first that follows, so what a round costs us is part
 * of a latency, as it is for any user.
 *
 * A sync waits for all that was written before, and everything waits for it: no write is begun
 * until it has ended.
 *
 * What can fail: the file, the queue, an operation. The first failure ends the load. One thread. */
#include "ioload.h"

#include "clock.h"
#include "stop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAKE_BYTES = 1 << 20, /* written at once when the file is made */
    MEMORY_ALIGN = 4096,
};

struct load_slot {
    void *data;
    uint64_t begin_ns;
};

struct load {
    const struct ioload_options *options;
    struct ioload_result *result;
    struct weir_io_queue *queue;
    int file;
    unsigned char *memory; /* of all slots; NULL: the queue's buffers */
    struct load_slot *slots;
    struct load_slot **idle; /* those without an operation */
    struct weir_io_request *requests;
    struct weir_io_end *ends;
    uint64_t idle_count;
    uint64_t blocks; /* of the file */
    uint64_t next;   /* block, when sequential */
    uint64_t random;
    uint64_t unsynced; /* writes begun behind the last sync */
    bool syncing;
    uint64_t sync_begin_ns;
};

__attribute__((format(printf, 3, 4))) static int
load_fail(struct ioload_result *result, int code, const char *format, ...)
{
    va_list list;

    if (result->code == 0) {
        result->code = code;
        va_start(list, format);
        vsnprintf(result->cause, sizeof(result->cause), format, list);
        va_end(list);
    }
    return code;
}

static uint64_t random_next(uint64_t *state)
{
    /* splitmix64: a few cycles, and no short period whatever the seed. */
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void random_fill(unsigned char *bytes, size_t count, uint64_t seed)
{
    uint64_t state = seed;

    for (size_t i = 0; i + sizeof(state) <= count; i += sizeof(state)) {
        const uint64_t word = random_next(&state);
        memcpy(bytes + i, &word, sizeof(word));
    }
}

/* ---- the file -------------------------------------------------------------------------------- */

static int file_fill(int file, const struct ioload_options *options, struct ioload_result *result)
{
    static unsigned char piece[MAKE_BYTES];
    uint64_t at = 0;

    random_fill(piece, sizeof(piece), options->seed);
    while (at < options->bytes) {
        if (stop_asked()) {
            return load_fail(result, -EINTR, "interrupted");
        }
        const uint64_t left = options->bytes - at;
        const size_t some = left < sizeof(piece) ? (size_t)left : sizeof(piece);
        const ssize_t wrote = pwrite(file, piece, some, (off_t)at);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            const int code = wrote < 0 ? -errno : -EIO;
            return load_fail(result, code, "not prepared: %s", weir_strerror(code));
        }
        at += (uint64_t)wrote;
    }
    if (fsync(file) != 0) {
        const int code = -errno;
        return load_fail(result, code, "not prepared: %s", weir_strerror(code));
    }
    return 0;
}

int ioload_make(const struct ioload_options *options, struct ioload_result *result)
{
    const int file = open(options->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (file < 0) {
        const int code = -errno;
        return load_fail(result, code, "not made: %s", weir_strerror(code));
    }
    const int code = file_fill(file, options, result);
    (void)close(file);
    if (code != 0) {
        (void)unlink(options->path);
    }
    return code;
}

static int file_open(struct load *load)
{
    const struct ioload_options *const options = load->options;
    const int flags =
        (options->write ? O_RDWR : O_RDONLY) | O_CLOEXEC | (options->direct ? O_DIRECT : 0);
    struct stat stat;

    load->file = open(options->path, flags);
    if (load->file < 0) {
        const int code = -errno;
        return load_fail(load->result,
                         code,
                         "not opened: %s%s",
                         weir_strerror(code),
                         options->direct && code == -EINVAL
                             ? "; this file system may not take O_DIRECT: --direct no"
                             : "");
    }
    if (fstat(load->file, &stat) != 0) {
        const int code = -errno;
        return load_fail(load->result, code, "%s", weir_strerror(code));
    }
    if (!S_ISREG(stat.st_mode)) {
        return load_fail(load->result, -EINVAL, "not a regular file");
    }
    if ((uint64_t)stat.st_size < options->bytes) {
        return load_fail(load->result, -EINVAL, "shorter than --size");
    }
    /* What preparing or an earlier run left in the page cache would be found there. */
    (void)posix_fadvise(load->file, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

/* ---- setting up ------------------------------------------------------------------------------ */

static int queue_open(struct load *load)
{
    const struct ioload_options *const options = load->options;
    struct weir_io_config config = weir_io_config_minimal();
    struct weir_error error = {.code = 0};

    /* A sync is alone when it is under way. */
    config.sq_entries = (uint32_t)options->depth;
    config.max_inflight = (uint32_t)options->depth;
    config.backend = options->backend;
    config.registered_buffers = options->registered ? (uint32_t)options->depth : 0;
    config.buffer_bytes =
        (uint32_t)((options->block + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN);
    const int code = weir_io_queue_open(&config, &load->queue, &error);
    if (code != 0) {
        return load_fail(load->result, code, "%s", error.text);
    }
    weir_io_queue_effective(load->queue, &load->result->effective);
    return 0;
}

static int tables_make(struct load *load)
{
    const struct ioload_options *const options = load->options;
    const size_t depth = options->depth;
    const size_t stride = (options->block + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
    void *memory = NULL;

    load->slots = calloc(depth, sizeof(*load->slots));
    load->idle = calloc(depth, sizeof(*load->idle));
    load->requests = calloc(depth, sizeof(*load->requests));
    load->ends = calloc(depth, sizeof(*load->ends));
    if (load->slots == NULL || load->idle == NULL || load->requests == NULL || load->ends == NULL ||
        (!options->registered && posix_memalign(&memory, MEMORY_ALIGN, depth * stride) != 0)) {
        return load_fail(load->result, -ENOMEM, "no memory for %zu operations", depth);
    }
    load->memory = memory;
    for (size_t i = 0; i < depth; i++) {
        struct load_slot *const slot = &load->slots[i];
        slot->data = load->memory != NULL ? load->memory + i * stride
                                          : weir_io_queue_buffer(load->queue, (uint32_t)i);
        random_fill(slot->data, options->block, options->seed + i);
        load->idle[load->idle_count++] = slot;
    }
    load->blocks = options->bytes / options->block;
    load->random = options->seed;
    return 0;
}

/* ---- going on -------------------------------------------------------------------------------- */

static uint64_t offset_next(struct load *load)
{
    uint64_t block;

    if (load->options->sequential) {
        block = load->next;
        load->next = block + 1 < load->blocks ? block + 1 : 0;
    } else {
        block = random_next(&load->random) % load->blocks;
    }
    return block * load->options->block;
}

/* Sets up to `batch` idle slots to work, or the sync that is due. Return: how many requests. */
static size_t batch_prepare(struct load *load, uint64_t now_ns)
{
    const struct ioload_options *const options = load->options;
    const uint64_t every = options->sync_every;
    size_t count = 0;

    if (every != 0 && load->unsynced == every && !load->syncing) {
        if (load->idle_count < options->depth) {
            return 0; /* the writes before it come first */
        }
        load->requests[0] = (struct weir_io_request){.kind = WEIR_OP_SYNC, .fd = load->file};
        load->syncing = true;
        load->sync_begin_ns = now_ns;
        return 1;
    }
    while (count < options->batch && load->idle_count > 0 && !load->syncing &&
           (every == 0 || load->unsynced < every)) {
        struct load_slot *const slot = load->idle[--load->idle_count];
        slot->begin_ns = now_ns;
        load->requests[count++] = (struct weir_io_request){
            .kind = options->write ? WEIR_OP_WRITE : WEIR_OP_READ,
            .fd = load->file,
            .offset = offset_next(load),
            .data = slot->data,
            .bytes = options->block,
            .user = slot,
        };
        load->unsynced++;
    }
    return count;
}

/* Sets every idle slot to work. */
static int load_submit(struct load *load, uint64_t now_ns)
{
    for (;;) {
        const size_t count = batch_prepare(load, now_ns);
        if (count == 0) {
            return 0;
        }
        const int taken = weir_io_queue_submit(load->queue, load->requests, count);
        if (taken < 0 || (size_t)taken != count) {
            const int code = taken < 0 ? taken : -EAGAIN;
            return load_fail(load->result, code, "not submitted: %s", weir_strerror(code));
        }
        if (load->idle_count == 0 || load->syncing) {
            return 0;
        }
        now_ns = clock_now_ns();
    }
}

static int end_take(struct load *load, const struct weir_io_end *end, uint64_t now_ns)
{
    struct load_slot *const slot = end->user;
    const int64_t expected = slot != NULL ? (int64_t)load->options->block : 0;

    if (end->result != expected) {
        const int code = end->result < 0 ? (int)end->result : -EIO;
        return load_fail(load->result,
                         code,
                         "%s failed: %s",
                         slot == NULL           ? "fdatasync"
                         : load->options->write ? "write"
                                                : "read",
                         weir_strerror(code));
    }
    if (slot == NULL) {
        load->syncing = false;
        load->unsynced = 0;
        load->result->syncs++;
        histogram_add(&load->result->sync, now_ns - load->sync_begin_ns);
        return 0;
    }
    histogram_add(&load->result->latency, now_ns - slot->begin_ns);
    load->result->ops++;
    load->idle[load->idle_count++] = slot;
    return 0;
}

static double cpu_now(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
}

static int load_loop(struct load *load)
{
    const uint64_t begin_ns = clock_now_ns();
    const double seconds = load->options->seconds;
    const uint64_t end_ns =
        begin_ns + (uint64_t)(seconds < 1e9 ? seconds * (double)CLOCK_NS_PER_S : 1e18);
    const double cpu = cpu_now();
    uint64_t now_ns = begin_ns;
    int code = 0;

    while (code == 0 && now_ns < end_ns) {
        code = load_submit(load, now_ns);
        if (code != 0) {
            break;
        }
        const int got =
            weir_io_queue_wait(load->queue, load->ends, load->options->depth, 1, WEIR_FOREVER);
        now_ns = clock_now_ns();
        if (got < 0) {
            code = load_fail(load->result, got, "the ring broke: %s", weir_strerror(got));
        }
        for (int i = 0; i < got && code == 0; i++) {
            code = end_take(load, &load->ends[i], now_ns);
        }
        if (code == 0 && stop_asked()) {
            code = load_fail(load->result, -EINTR, "interrupted");
        }
    }
    load->result->seconds = (double)(now_ns - begin_ns) / 1e9;
    load->result->cpu_seconds = cpu_now() - cpu;
    return code;
}

int ioload_run(const struct ioload_options *options, struct ioload_result *result)
{
    struct load load = {.options = options, .result = result, .file = -1};

    int code = file_open(&load);
    if (code == 0) {
        code = queue_open(&load);
    }
    if (code == 0) {
        code = tables_make(&load);
    }
    if (code == 0) {
        code = load_loop(&load);
        weir_io_queue_stats(load.queue, &result->stats);
    }
    /* Closed first: it waits for what still goes to and from the slots' memory. */
    weir_io_queue_close(load.queue);
    if (load.file >= 0) {
        (void)close(load.file);
    }
    free(load.memory);
    free(load.slots);
    free(load.idle);
    free(load.requests);
    free(load.ends);
    return code;
}
