/* SPDX-License-Identifier: Apache-2.0
 * weir-stress append: what an append that nobody waits for costs, beside what it cannot do without.
 *
 * Three forms take turns, for each number of threads, round by round:
 *   floor   CRC32C of the record and a copy of it, into memory of the thread's own. Nothing is
 *           shared.
 *   weir    weir_append, on a log whose device is made up: a write takes latency_ns and a time for
 *           its bytes, costs no processor, and keeps nothing. Segments are left sparse.
 *   mutex   the CRC, then lock, place, copy, unlock, into the same amount of memory; nobody drains
 *           it. pthread's lock.
 * Each is called in a loop with no clock in it. A figure is the time of the window divided by the
 * appends of all threads in it. */
#include "api/log.h"
#include "args.h"
#include "base/crc32c.h"
#include "clock.h"
#include "format/frame.h"
#include "port/io.h"
#include "scratch.h"
#include "verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <weir/weir.h>

enum {
    THREADS_MAX = 256,
    ROUNDS_MAX = 101,
    SLOTS = 8,
    SLOT_BYTES = 1 << 20,
    SOURCE_BYTES = 16 * 1024,
    LOOK_EVERY = 64,
    PREFILL_AT_LEAST = 64 * 1024, /* a longer write that need not be durable fills a segment */
    COUNTS = 3,
};

enum form { FORM_FLOOR, FORM_WEIR, FORM_MUTEX, FORMS };

static const char *const form_names[FORMS] = {"floor", "weir", "mutex"};
static const uint64_t thread_counts[COUNTS] = {1, 2, 16};
/* Of the floor, at most. */
static const double weir_limits[COUNTS] = {1.5, 3.2, 3.3};

static const struct verb_text text = {
    .name = "append",
    .usage = "[OPTION]...",
    .about =
        "Measures appends that nobody waits for, by 1, 2 and 16 threads: the time of one, beside\n"
        "CRC and copy alone on as many threads, and beside a mutex around place and copy. The\n"
        "device is made up, so that the processor is what is measured. Medians, and the range.\n",
    .exits = "  0   measured, and within the limits\n"
             "  1   a limit was passed, or it could not go on: said on standard error\n"
             "  64  the command line is wrong\n",
    .example = "  weir-stress append --rounds 5 --ms 200\n",
};

struct options {
    uint64_t bytes;
    uint64_t group;
    uint64_t rounds;
    uint64_t ms;
    uint64_t latency_us;
    uint64_t mb_per_s;
    uint64_t slot_bytes;
    uint64_t threads; /* 0: each of thread_counts */
};

/* ---- the made-up device ---------------------------------------------------------------------- */

struct device {
    struct weir__io io;
    struct weir__io_ops ops;
    struct weir__io *system;
    uint64_t latency_ns;
    uint64_t bytes_per_s;
    /* Set with release once the log is open: from then on writes of batches go nowhere. */
    atomic_bool away;
};

static ssize_t device_write(struct weir__io *io,
                            int file,
                            const struct iovec *iov,
                            unsigned iov_count,
                            uint64_t offset,
                            bool dsync)
{
    struct device *device = io->ctx;
    uint64_t bytes = 0;

    for (unsigned i = 0; i < iov_count; i++) {
        bytes += iov[i].iov_len;
    }
    if (!dsync && bytes >= PREFILL_AT_LEAST) {
        const int rc = device->system->ops->truncate(device->system, file, offset + bytes);
        return rc == 0 ? (ssize_t)bytes : rc;
    }
    if (!dsync || !atomic_load_explicit(&device->away, memory_order_acquire)) {
        return device->system->ops->write(device->system, file, iov, iov_count, offset, dsync);
    }
    clock_sleep_ns(device->latency_ns + bytes * CLOCK_NS_PER_S / device->bytes_per_s);
    return (ssize_t)bytes;
}

static void device_init(struct device *device, const struct options *options)
{
    device->system = weir__io_system();
    device->ops = *device->system->ops;
    device->ops.write = device_write;
    device->io = (struct weir__io){.ops = &device->ops, .ctx = device};
    device->latency_ns = options->latency_us * CLOCK_NS_PER_US;
    device->bytes_per_s = options->mb_per_s * 1000 * 1000;
    atomic_init(&device->away, false);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct run;

struct worker {
    _Alignas(128) struct run *run;
    pthread_t thread;
    uint8_t *memory; /* floor: SLOTS * SLOT_BYTES of its own */
    uint8_t source[SOURCE_BYTES];
    uint64_t done;
    int code;
};

struct run {
    const struct options *options;
    enum form form;
    struct weir_log *log;
    uint8_t *memory; /* mutex */
    /* 0 not yet, 1 go, 2 stop. Relaxed: it publishes nothing. */
    _Alignas(128) atomic_int phase;
    _Alignas(128) pthread_mutex_t lock; /* guards used */
    size_t used;
};

static size_t record_span(const struct options *options)
{
    return (size_t)weir__frame_span(options->bytes);
}

static const uint8_t *source_at(const struct worker *worker, uint64_t n)
{
    /* 64 places in 4 KiB, so that the records lie in the first cache. */
    return worker->source + n % 64 * 64;
}

static void floor_append(struct worker *worker, size_t *at, uint64_t n)
{
    const struct options *options = worker->run->options;
    const uint8_t *data = source_at(worker, n);
    const uint32_t crc = weir__crc32c(0, data, options->bytes);

    memcpy(worker->memory + *at, &crc, sizeof crc);
    memcpy(worker->memory + *at + WEIR__FRAME_HEADER_BYTES, data, options->bytes);
    *at += record_span(options);
    if (*at + record_span(options) > (size_t)SLOTS * SLOT_BYTES) {
        *at = 0;
    }
}

static void mutex_append(struct worker *worker, uint64_t n)
{
    struct run *run = worker->run;
    const struct options *options = run->options;
    const uint8_t *data = source_at(worker, n);
    const uint32_t crc = weir__crc32c(0, data, options->bytes);

    pthread_mutex_lock(&run->lock);
    if (run->used + record_span(options) > (size_t)SLOTS * SLOT_BYTES) {
        run->used = 0;
    }
    uint8_t *to = run->memory + run->used;
    run->used += record_span(options);
    memcpy(to, &crc, sizeof crc);
    memcpy(to + WEIR__FRAME_HEADER_BYTES, data, options->bytes);
    pthread_mutex_unlock(&run->lock);
}

static int weir_append_one(struct worker *worker, uint64_t n)
{
    const struct options *options = worker->run->options;

    if (options->group == 1) {
        return weir_append(worker->run->log, source_at(worker, n), options->bytes, 0, NULL);
    }
    struct weir_piece pieces[64];
    struct weir_record records[64];
    for (uint64_t i = 0; i < options->group; i++) {
        pieces[i] = (struct weir_piece){source_at(worker, n + i), options->bytes};
        records[i] = (struct weir_record){&pieces[i], 1, 0};
    }
    return weir_append_group(worker->run->log, records, options->group, WEIR_FOREVER, NULL);
}

static void *worker_main(void *ctx)
{
    struct worker *worker = ctx;
    struct run *run = worker->run;
    const uint64_t step = run->form == FORM_WEIR ? run->options->group : 1;
    size_t at = 0;
    uint64_t done = 0;

    while (atomic_load_explicit(&run->phase, memory_order_relaxed) == 0) {
    }
    for (;;) {
        for (unsigned i = 0; i < LOOK_EVERY; i++, done += step) {
            if (run->form == FORM_FLOOR) {
                floor_append(worker, &at, done);
            } else if (run->form == FORM_MUTEX) {
                mutex_append(worker, done);
            } else {
                worker->code = weir_append_one(worker, done);
                if (worker->code != 0) {
                    return NULL;
                }
            }
        }
        if (atomic_load_explicit(&run->phase, memory_order_relaxed) == 2) {
            worker->done = done;
            return NULL;
        }
    }
}

/* ---- one window ------------------------------------------------------------------------------ */

static uint8_t *memory_map(size_t bytes)
{
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        return NULL;
    }
    madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 1, bytes);
    return memory;
}

static int log_open(const struct options *options,
                    struct device *device,
                    const char *dir,
                    struct weir_log **log_out)
{
    struct weir_options log_options = WEIR_OPTIONS_INIT;
    struct weir_error error;

    log_options.io = WEIR_IO_POSIX;
    log_options.slot_bytes = (uint32_t)options->slot_bytes;
    log_options.slots = SLOTS;
    log_options.segment_bytes = UINT64_C(1) << 30;
    device_init(device, options);
    const int rc = weir__open_with(&device->io, dir, &log_options, log_out, &error);
    if (rc != 0) {
        fprintf(stderr, "weir-stress append: %s: %s\n", dir, error.text);
        return rc;
    }
    atomic_store_explicit(&device->away, true, memory_order_release);
    return 0;
}

/* ns per append of all threads together; negative: it failed. */
static double window(struct run *run, struct worker *workers, uint64_t threads)
{
    uint64_t done = 0;
    int code = 0;
    uint64_t started = 0;

    atomic_store_explicit(&run->phase, 0, memory_order_relaxed);
    run->used = 0;
    for (; started < threads; started++) {
        struct worker *worker = &workers[started];
        worker->run = run;
        worker->done = 0;
        worker->code = 0;
        code = -pthread_create(&worker->thread, NULL, worker_main, worker);
        if (code != 0) {
            break;
        }
    }
    const uint64_t begin = clock_now_ns();
    atomic_store_explicit(&run->phase, 1, memory_order_relaxed);
    clock_sleep_ns(run->options->ms * CLOCK_NS_PER_MS);
    atomic_store_explicit(&run->phase, 2, memory_order_relaxed);
    const uint64_t end = clock_now_ns();
    for (uint64_t i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        done += workers[i].done;
        code = code != 0 ? code : workers[i].code;
    }
    if (code != 0 || done == 0) {
        fprintf(stderr, "weir-stress append: %s: %s\n", form_names[run->form], weir_strerror(code));
        return -1;
    }
    return (double)(end - begin) / (double)done;
}

/* ---- the table ------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const double left = *(const double *)a;
    const double right = *(const double *)b;

    return left < right ? -1 : left > right;
}

static bool count_wanted(const struct options *options, size_t i)
{
    return options->threads == 0 || options->threads == thread_counts[i];
}

static bool table_print(const struct options *options, double (*figures)[FORMS][ROUNDS_MAX])
{
    const uint64_t rounds = options->rounds;
    bool good = true;

    printf(
        "threads   floor ns           weir ns            mutex ns           weir/floor  limit\n");
    for (size_t i = 0; i < COUNTS; i++) {
        double medians[FORMS];
        if (!count_wanted(options, i)) {
            continue;
        }
        printf("%7" PRIu64, thread_counts[i]);
        for (size_t form = 0; form < FORMS; form++) {
            double *sorted = figures[i][form];
            qsort(sorted, rounds, sizeof *sorted, compare);
            medians[form] = sorted[rounds / 2];
            printf("   %5.1f (%5.1f-%5.1f)", medians[form], sorted[0], sorted[rounds - 1]);
        }
        const double ratio = medians[FORM_WEIR] / medians[FORM_FLOOR];
        const bool within = ratio <= weir_limits[i] && medians[FORM_WEIR] <= medians[FORM_MUTEX];
        printf("   %5.2f     %5.2f  %s\n", ratio, weir_limits[i], within ? "pass" : "FAIL");
        good = good && within;
    }
    return good;
}

static int measure(const struct options *options, const char *dir)
{
    static double figures[COUNTS][FORMS][ROUNDS_MAX];
    static struct run run;
    struct device device;
    int status = STATUS_FAILED;
    const size_t memory_bytes = (size_t)SLOTS * SLOT_BYTES;
    const uint64_t most = thread_counts[COUNTS - 1];
    struct worker *workers = aligned_alloc(128, most * sizeof *workers);

    run = (struct run){.options = options, .lock = PTHREAD_MUTEX_INITIALIZER};
    if (workers == NULL) {
        return STATUS_FAILED;
    }
    memset(workers, 0, most * sizeof *workers);
    run.memory = memory_map(memory_bytes);
    bool mapped = run.memory != NULL;
    for (uint64_t i = 0; i < most; i++) {
        memset(workers[i].source, (int)i + 1, SOURCE_BYTES);
        workers[i].memory = memory_map(memory_bytes);
        mapped = mapped && workers[i].memory != NULL;
    }
    if (mapped && log_open(options, &device, dir, &run.log) == 0) {
        bool good = true;
        for (uint64_t round = 0; good && round < options->rounds && !stop_asked(); round++) {
            for (size_t i = 0; good && i < COUNTS; i++) {
                if (!count_wanted(options, i)) {
                    continue;
                }
                for (size_t form = 0; good && form < FORMS; form++) {
                    run.form = (enum form)form;
                    figures[i][form][round] = window(&run, workers, thread_counts[i]);
                    good = figures[i][form][round] > 0;
                }
            }
        }
        const int rc = weir_close(run.log, NULL);
        if (rc != 0) {
            fprintf(stderr, "weir-stress append: close: %s\n", weir_strerror(rc));
        }
        if (good && rc == 0 && !stop_asked()) {
            status = table_print(options, figures) ? STATUS_OK : STATUS_FAILED;
        }
    }
    for (uint64_t i = 0; i < most; i++) {
        if (workers[i].memory != NULL) {
            munmap(workers[i].memory, memory_bytes);
        }
    }
    if (run.memory != NULL) {
        munmap(run.memory, memory_bytes);
    }
    free(workers);
    return status;
}

int append_main(int argc, char **argv)
{
    struct options options = {.bytes = 128,
                              .group = 1,
                              .rounds = 5,
                              .ms = 200,
                              .latency_us = 60,
                              .mb_per_s = 10000,
                              .slot_bytes = SLOT_BYTES};
    const struct option_row rows[] = {
        {.name = "bytes",
         .kind = OPTION_NUMBER,
         .target = &options.bytes,
         .value = "N",
         .min = 8,
         .max = SOURCE_BYTES - 4096,
         .help = "payload of a record (default 128)"},
        {.name = "group",
         .kind = OPTION_NUMBER,
         .target = &options.group,
         .value = "N",
         .min = 1,
         .max = 64,
         .help = "records per group, of weir (default 1)"},
        {.name = "rounds",
         .kind = OPTION_NUMBER,
         .target = &options.rounds,
         .value = "N",
         .min = 1,
         .max = ROUNDS_MAX,
         .help = "rounds, of which the median is taken (default 5)"},
        {.name = "ms",
         .kind = OPTION_NUMBER,
         .target = &options.ms,
         .value = "MS",
         .min = 1,
         .help = "length of a window in ms (default 200)"},
        {.name = "threads",
         .kind = OPTION_NUMBER,
         .target = &options.threads,
         .value = "N",
         .max = 16,
         .help = "only that many: 1, 2 or 16 (default: each)"},
        {.name = "latency",
         .kind = OPTION_NUMBER,
         .target = &options.latency_us,
         .value = "US",
         .help = "the device's time for a durable write, in us (default 60)"},
        {.name = "rate",
         .kind = OPTION_NUMBER,
         .target = &options.mb_per_s,
         .value = "MB",
         .min = 1,
         .help = "and its 10^6 bytes per second on top (default 10000)"},
        {.name = "slot",
         .kind = OPTION_NUMBER,
         .target = &options.slot_bytes,
         .value = "BYTES",
         .min = 4096,
         .help = "slot_bytes of the log, of which there are 8 (default 1048576)"},
        {.name = NULL},
    };
    struct scratch scratch;
    int operands = 0;
    int status = args_parse(&text, rows, argc, argv, &operands);

    if (status != ARGS_RUN) {
        return status;
    }
    if (operands < argc) {
        return args_wrong(&text, "%s: takes no operands", argv[operands]);
    }
    stop_install();
    /* Short sleeps shall be short: they stand for a device. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    const int rc = scratch_open(&scratch, NULL);
    if (rc != 0) {
        fprintf(stderr, "weir-stress append: scratch directory: %s\n", strerror(-rc));
        return STATUS_FAILED;
    }
    status = measure(&options, scratch.path);
    scratch_remove(&scratch);
    return status;
}
