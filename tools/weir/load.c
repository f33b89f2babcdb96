/* SPDX-License-Identifier: Apache-2.0
 * The load of weir bench.
 *
 * The main thread moves the phase: warming, measuring, stopping. A producer looks at it before each
 * call, and counts the call if it began in the window. Where it waits, its loop looks at the clock
 * once per round (the end of one call is the beginning of the next); where it does not, it times one
 * call in so many, for a look at the clock takes as long as an append. It adds to its own histogram,
 * and neither allocates nor prints. The trimmer gives up what lies more than retain_bytes behind the durable
 * LSN, a segment at a time. The sampler (async) measures append to durability: each producer hands
 * it one record in 1000, and at least one per millisecond, through a ring of its own; it waits for
 * the lowest of them, and looks at the clock when it wakes. The watcher (rotation_tail) reads the
 * statistics every millisecond and notes between which two looks a segment was entered; calls are
 * noted with their end, and told apart after the run. What fails first is kept, and stops the run.
 */
#include "load.h"

#include "clock.h"
#include "progress.h"
#include "stop.h"
#include "text.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    STACK_BYTES = 256 * 1024,
    NOISE_BYTES = 256 * 1024, /* records begin somewhere in so many random bytes */
    SAMPLE_EVERY = 1000,
    SAMPLE_RING = 1024, /* a power of two */
    STRIDE_MAX = 64,
    STRIDE_NS = 100 * 1000,
    MARKS_ALL = 4 * 1024 * 1024,
    ROTATIONS_MAX = 64 * 1024,
};

#define TRIM_NAP_NS (5 * CLOCK_NS_PER_MS)
#define WATCH_NAP_NS CLOCK_NS_PER_MS
#define SAMPLE_AT_LEAST_NS CLOCK_NS_PER_MS
#define ROTATION_NEAR_NS (50 * CLOCK_NS_PER_MS)
#define WARM_UP_MIN_NS (200 * CLOCK_NS_PER_MS)
#define WARM_UP_DECIDE_NS CLOCK_NS_PER_S
#define WARM_UP_MAX_NS (15 * CLOCK_NS_PER_S)

enum phase {
    PHASE_WARMING,
    PHASE_MEASURING,
    PHASE_STOPPING,
};

struct sample {
    weir_lsn lsn;
    uint64_t begin_ns;
};

/* One producer pushes, the sampler takes. */
struct sample_ring {
    /* Samples below it are filled. store-release: producer in sample_push(); load-acquire: sampler
     * in samples_look(). Counts up, never wraps. */
    _Alignas(128) _Atomic uint64_t pushed;
    /* Samples below it may be overwritten. store-release: sampler; load-acquire: producer. */
    _Alignas(128) _Atomic uint64_t taken;
    struct sample samples[SAMPLE_RING];
};

/* A call, for rotation_tail. */
struct mark {
    uint64_t end_ns;
    uint64_t latency_ns;
};

struct load;

struct load_producer {
    _Alignas(128) struct load *load;
    pthread_t thread;
    unsigned char *noise; /* NOISE_BYTES + size */
    struct weir_piece *pieces;
    struct weir_record *records_of_group;
    weir_lsn *lsns_of_group;
    uint64_t random;
    uint64_t records;
    uint64_t since_sample;
    uint64_t sampled_ns;
    struct mark *marks;
    size_t marks_max;
    size_t marks_count;
    uint64_t calls;
    struct histogram latency;
    struct sample_ring ring;
};

struct rotation {
    uint64_t before_ns;
    uint64_t after_ns;
};

struct load {
    struct weir_log *log;
    const struct load_options *options;
    struct load_producer *producers;
    /* store-release: main thread; load-acquire: producers, watcher. What a producer needs in the
     * window (mark_stride) is stored before. */
    _Alignas(128) _Atomic int phase;
    /* Set with release once the cause is written; loops that want to end early read it relaxed, the
     * cause is read after the threads were joined. */
    atomic_bool failed;
    /* store-release: main thread, once nothing will be sampled, trimmed or watched any more;
     * load-acquire: those. */
    atomic_bool over;
    uint64_t mark_stride; /* set before the window */
    _Alignas(128) sem_t sampled;
    struct histogram *ack;      /* the sampler's */
    struct rotation *rotations; /* the watcher's */
    size_t rotations_count;
    pthread_mutex_t lock; /* guards code and cause */
    int code;
    char *cause;
    size_t cause_bytes;
};

/* ---- failure --------------------------------------------------------------------------------- */

static void load_fail(struct load *load, const char *what, int code)
{
    struct weir_error error = text_no_error();

    const bool known = weir_log_error(load->log, &error) != 0 && error.text[0] != '\0';
    pthread_mutex_lock(&load->lock);
    if (load->code == 0) {
        load->code = code;
        snprintf(load->cause,
                 load->cause_bytes,
                 "%s: %s: %s",
                 what,
                 weir_error_name(code),
                 known ? error.text : weir_strerror(code));
        atomic_store_explicit(&load->failed, true, memory_order_release);
    }
    pthread_mutex_unlock(&load->lock);
}

static bool load_ends(struct load *load)
{
    return atomic_load_explicit(&load->failed, memory_order_relaxed) || stop_asked();
}

/* ---- producers ------------------------------------------------------------------------------- */

static uint64_t random_next(uint64_t *state)
{
    /* splitmix64 */
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

/* Hands a record to the sampler. With a full ring it is not sampled: the sampler is behind, and
 * will not be less so. */
static void sample_push(struct load_producer *producer, weir_lsn lsn, uint64_t begin_ns)
{
    struct sample_ring *ring = &producer->ring;
    const uint64_t pushed =
        atomic_load_explicit(&ring->pushed, memory_order_relaxed); /* only we store */
    const uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_acquire);

    if (pushed - taken == SAMPLE_RING) {
        return;
    }
    ring->samples[pushed % SAMPLE_RING] = (struct sample){.lsn = lsn, .begin_ns = begin_ns};
    atomic_store_explicit(&ring->pushed, pushed + 1, memory_order_release);
    sem_post(&producer->load->sampled);
}

/* One call. Return: its code, and the LSN of its last record. */
static int call_make(struct load_producer *producer, weir_lsn *lsn_out)
{
    const struct load_options *options = producer->load->options;
    struct weir_log *log = producer->load->log;
    const bool waits = options->wait != LOAD_WAIT_NONE && !options->async;
    const unsigned char *data = producer->noise + random_next(&producer->random) % NOISE_BYTES;

    if (options->group == 1) {
        if (waits) {
            return weir_append_wait(log,
                                    data,
                                    options->size,
                                    0,
                                    (enum weir_level)options->wait,
                                    lsn_out);
        }
        return weir_append(log, data, options->size, 0, lsn_out);
    }
    for (size_t i = 0; i < options->group; i++) {
        producer->pieces[i].data = producer->noise + random_next(&producer->random) % NOISE_BYTES;
    }
    const int rc = weir_append_group(log,
                                     producer->records_of_group,
                                     options->group,
                                     WEIR_FOREVER,
                                     producer->lsns_of_group);
    if (rc != 0) {
        return rc;
    }
    *lsn_out = producer->lsns_of_group[options->group - 1];
    return waits ? weir_wait(log, *lsn_out, (enum weir_level)options->wait, WEIR_FOREVER) : 0;
}

/* A call that began in the window has ended, and was timed; `calls` were made since the last one
 * that was. */
static void call_note(struct load_producer *producer,
                      weir_lsn lsn,
                      uint64_t begin_ns,
                      uint64_t end_ns,
                      uint64_t calls)
{
    const struct load *load = producer->load;

    histogram_add(&producer->latency, end_ns - begin_ns);
    producer->calls++;
    if (load->options->async) {
        producer->since_sample += calls;
        if (producer->since_sample >= SAMPLE_EVERY ||
            end_ns - producer->sampled_ns >= SAMPLE_AT_LEAST_NS) {
            producer->since_sample = 0;
            producer->sampled_ns = end_ns;
            sample_push(producer, lsn, begin_ns);
        }
    }
    if (producer->marks_count < producer->marks_max && producer->calls % load->mark_stride == 0) {
        producer->marks[producer->marks_count] =
            (struct mark){.end_ns = end_ns, .latency_ns = end_ns - begin_ns};
        producer->marks_count++;
    }
}

/* Calls that wait for nothing take about as long as a look at the clock: one in so many is timed,
 * and at least one in STRIDE_NS. */
static uint64_t stride_next(uint64_t spent_ns, uint64_t calls)
{
    const uint64_t mean_ns = spent_ns / calls + 1;
    const uint64_t stride = STRIDE_NS / mean_ns;

    return stride < 1 ? 1 : stride > STRIDE_MAX ? STRIDE_MAX : stride;
}

static void *producer_run_untimed(struct load_producer *producer)
{
    struct load *load = producer->load;
    uint64_t timed_ns = clock_now_ns();
    uint64_t stride = 1;
    uint64_t calls = 0;

    for (;;) {
        const int phase = atomic_load_explicit(&load->phase, memory_order_acquire);
        if (phase == PHASE_STOPPING) {
            return NULL;
        }
        const bool timed = ++calls >= stride;
        const uint64_t begin_ns = timed ? clock_now_ns() : 0;
        weir_lsn lsn = WEIR_LSN_NONE;
        const int rc = call_make(producer, &lsn);
        if (rc != 0) {
            load_fail(load, "append", rc);
            return NULL;
        }
        if (phase == PHASE_MEASURING) {
            producer->records += load->options->group;
        }
        if (timed) {
            const uint64_t end_ns = clock_now_ns();
            if (phase == PHASE_MEASURING) {
                call_note(producer, lsn, begin_ns, end_ns, calls);
            }
            stride = stride_next(end_ns - timed_ns, calls);
            timed_ns = end_ns;
            calls = 0;
        }
    }
}

static void *producer_run(void *ctx)
{
    struct load_producer *producer = ctx;
    struct load *load = producer->load;
    uint64_t now_ns = clock_now_ns();

    if (load->options->wait == LOAD_WAIT_NONE || load->options->async) {
        return producer_run_untimed(producer);
    }

    for (;;) {
        const int phase = atomic_load_explicit(&load->phase, memory_order_acquire);
        if (phase == PHASE_STOPPING) {
            return NULL;
        }
        weir_lsn lsn = WEIR_LSN_NONE;
        const int rc = call_make(producer, &lsn);
        const uint64_t begin_ns = now_ns;
        now_ns = clock_now_ns();
        if (rc != 0) {
            load_fail(load, "append", rc);
            return NULL;
        }
        if (phase == PHASE_MEASURING) {
            producer->records += load->options->group;
            call_note(producer, lsn, begin_ns, now_ns, 1);
        }
    }
}

/* ---- trimmer, sampler, watcher --------------------------------------------------------------- */

static void *trimmer_run(void *ctx)
{
    struct load *load = ctx;
    const struct load_options *options = load->options;
    weir_lsn trimmed = weir_oldest_lsn(load->log);

    while (!atomic_load_explicit(&load->over, memory_order_acquire)) {
        const weir_lsn durable = weir_durable_lsn(load->log);
        if (durable > options->retain_bytes &&
            durable - options->retain_bytes >= trimmed + options->segment_bytes) {
            const weir_lsn before = durable - options->retain_bytes;
            const int rc = weir_trim(load->log, before);
            if (rc != 0) {
                load_fail(load, "trim", rc);
                return NULL;
            }
            trimmed = before;
        }
        clock_nap_ns(TRIM_NAP_NS);
    }
    return NULL;
}

/* Takes every sample below durable. Return: the lowest LSN that is left, UINT64_MAX if none is. */
static weir_lsn samples_look(struct load *load, weir_lsn durable, uint64_t now_ns)
{
    weir_lsn lowest = UINT64_MAX;

    for (size_t i = 0; i < load->options->producers; i++) {
        struct sample_ring *ring = &load->producers[i].ring;
        const uint64_t pushed = atomic_load_explicit(&ring->pushed, memory_order_acquire);
        uint64_t taken =
            atomic_load_explicit(&ring->taken, memory_order_relaxed); /* only we store */
        while (taken != pushed) {
            const struct sample *sample = &ring->samples[taken % SAMPLE_RING];
            if (sample->lsn >= durable) {
                lowest = sample->lsn < lowest ? sample->lsn : lowest;
                break;
            }
            /* The record may have become durable before this look: the time is that of the look,
             * never shorter. */
            histogram_add(load->ack, now_ns - sample->begin_ns);
            taken++;
        }
        atomic_store_explicit(&ring->taken, taken, memory_order_release);
    }
    return lowest;
}

static void *sampler_run(void *ctx)
{
    struct load *load = ctx;

    for (;;) {
        const weir_lsn durable = weir_durable_lsn(load->log);
        const weir_lsn lowest = samples_look(load, durable, clock_now_ns());
        if (lowest != UINT64_MAX) {
            const int rc =
                weir_wait(load->log, lowest, WEIR_DURABLE, (int64_t)(100 * CLOCK_NS_PER_MS));
            if (rc != 0 && rc != -ETIMEDOUT) {
                load_fail(load, "wait", rc);
                return NULL;
            }
        } else if (atomic_load_explicit(&load->over, memory_order_acquire)) {
            return NULL;
        } else {
            sem_wait(&load->sampled);
        }
    }
}

static void *watcher_run(void *ctx)
{
    struct load *load = ctx;
    struct weir_stats stats;
    uint64_t before_ns = clock_now_ns();

    weir_stats(load->log, &stats);
    uint64_t rotations = stats.rotations;
    while (!atomic_load_explicit(&load->over, memory_order_acquire)) {
        clock_nap_ns(WATCH_NAP_NS);
        weir_stats(load->log, &stats);
        const uint64_t now_ns = clock_now_ns();
        if (stats.rotations != rotations && load->rotations_count < ROTATIONS_MAX &&
            atomic_load_explicit(&load->phase, memory_order_acquire) == PHASE_MEASURING) {
            load->rotations[load->rotations_count] =
                (struct rotation){.before_ns = before_ns, .after_ns = now_ns};
            load->rotations_count++;
        }
        rotations = stats.rotations;
        before_ns = now_ns;
    }
    return NULL;
}

/* ---- rotation tail --------------------------------------------------------------------------- */

static bool is_near_rotation(const struct load *load, uint64_t end_ns)
{
    /* The last rotation that may have happened before the end of the call. */
    size_t low = 0;
    size_t high = load->rotations_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (load->rotations[middle].before_ns <= end_ns) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && end_ns <= load->rotations[low - 1].after_ns + ROTATION_NEAR_NS;
}

static void rotations_classify(const struct load *load, struct load_result *result)
{
    /* Where one producer ran out of room for its marks, the marks of all end. */
    uint64_t end_ns = UINT64_MAX;

    for (size_t i = 0; i < load->options->producers; i++) {
        const struct load_producer *producer = &load->producers[i];
        if (producer->marks_count == producer->marks_max && producer->marks_count > 0 &&
            producer->marks[producer->marks_count - 1].end_ns < end_ns) {
            end_ns = producer->marks[producer->marks_count - 1].end_ns;
        }
    }
    for (size_t i = 0; i < load->options->producers; i++) {
        const struct load_producer *producer = &load->producers[i];
        for (size_t k = 0; k < producer->marks_count && producer->marks[k].end_ns <= end_ns; k++) {
            const struct mark *mark = &producer->marks[k];
            histogram_add(is_near_rotation(load, mark->end_ns) ? &result->near : &result->rest,
                          mark->latency_ns);
        }
    }
    for (size_t i = 0; i < load->rotations_count; i++) {
        result->rotations += load->rotations[i].after_ns <= end_ns;
    }
}

/* ---- making and freeing ---------------------------------------------------------------------- */

static int producer_make(struct load *load, struct load_producer *producer, size_t index)
{
    const struct load_options *options = load->options;
    const size_t noise_bytes = NOISE_BYTES + options->size;

    producer->load = load;
    producer->random = index + 1;
    producer->noise = malloc(noise_bytes);
    producer->pieces = calloc(options->group, sizeof(producer->pieces[0]));
    producer->records_of_group = calloc(options->group, sizeof(producer->records_of_group[0]));
    producer->lsns_of_group = calloc(options->group, sizeof(producer->lsns_of_group[0]));
    if (producer->noise == NULL || producer->pieces == NULL || producer->records_of_group == NULL ||
        producer->lsns_of_group == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < noise_bytes; i++) {
        producer->noise[i] = (unsigned char)(random_next(&producer->random) >> 56);
    }
    for (size_t i = 0; i < options->group; i++) {
        producer->pieces[i].bytes = options->size;
        producer->records_of_group[i].pieces = &producer->pieces[i];
        producer->records_of_group[i].piece_count = 1;
    }
    if (options->rotation_tail) {
        producer->marks_max = MARKS_ALL / options->producers;
        producer->marks = malloc(producer->marks_max * sizeof(producer->marks[0]));
        if (producer->marks == NULL) {
            return -ENOMEM;
        }
        /* Touched now, so that no page is missing in the window. */
        memset(producer->marks, 0xff, producer->marks_max * sizeof(producer->marks[0]));
    }
    return 0;
}

static void load_free(struct load *load)
{
    for (size_t i = 0; load->producers != NULL && i < load->options->producers; i++) {
        struct load_producer *producer = &load->producers[i];
        free(producer->noise);
        free(producer->pieces);
        free(producer->records_of_group);
        free(producer->lsns_of_group);
        free(producer->marks);
    }
    free(load->producers);
    free(load->rotations);
    sem_destroy(&load->sampled);
    pthread_mutex_destroy(&load->lock);
}

static int load_make(struct load *load)
{
    const size_t bytes = load->options->producers * sizeof(load->producers[0]);
    int rc = 0;

    sem_init(&load->sampled, 0, 0);
    pthread_mutex_init(&load->lock, NULL);
    load->producers = aligned_alloc(_Alignof(struct load_producer), bytes);
    if (load->producers == NULL) {
        return -ENOMEM;
    }
    memset(load->producers, 0, bytes);
    for (size_t i = 0; i < load->options->producers && rc == 0; i++) {
        rc = producer_make(load, &load->producers[i], i);
    }
    if (rc == 0 && load->options->rotation_tail) {
        load->rotations = calloc(ROTATIONS_MAX, sizeof(load->rotations[0]));
        rc = load->rotations != NULL ? 0 : -ENOMEM;
    }
    return rc;
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Until segments recycle; or until it is plain that they will not in the time that a warm-up may
 * take. */
static void warm_up(struct load *load, struct load_result *result)
{
    const struct load_options *options = load->options;
    const uint64_t begin_ns = clock_now_ns();
    /* Before a segment can come back, all of these have been filled once. */
    const double needed = (double)options->retain_bytes + 3 * (double)options->segment_bytes;
    uint64_t passed_ns = 0;

    while (!load_ends(load)) {
        clock_nap_ns(5 * CLOCK_NS_PER_MS);
        passed_ns = clock_now_ns() - begin_ns;
        weir_stats(load->log, &result->begin);
        if (passed_ns >= WARM_UP_MIN_NS && result->begin.segments_recycled > 0) {
            break;
        }
        const double expected =
            (double)result->begin.write_bytes / (double)passed_ns * (double)WARM_UP_MAX_NS;
        if (passed_ns >= WARM_UP_MAX_NS || (passed_ns >= WARM_UP_DECIDE_NS && expected < needed)) {
            break;
        }
    }
    result->warm_up_seconds = (double)passed_ns / 1e9;
    const double calls_per_s =
        (double)result->begin.appends / (double)options->group / result->warm_up_seconds;
    load->mark_stride = 1 + (uint64_t)(1.3 * calls_per_s * options->seconds / MARKS_ALL);
}

static double cpu_now_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
}

static void window_wait(struct load *load, uint64_t begin_ns)
{
    const uint64_t length_ns = (uint64_t)(load->options->seconds * 1e9);
    struct progress progress;

    progress_begin(&progress, "bench");
    progress.no_rate = true;
    while (!load_ends(load)) {
        const uint64_t passed_ns = clock_now_ns() - begin_ns;
        if (passed_ns >= length_ns) {
            break;
        }
        progress_show(&progress, passed_ns, length_ns);
        const uint64_t left_ns = length_ns - passed_ns;
        clock_nap_ns(left_ns < 20 * CLOCK_NS_PER_MS ? left_ns : 20 * CLOCK_NS_PER_MS);
    }
    progress_end(&progress);
}

/* From the start of the producers to their end. */
static void window_run(struct load *load, struct load_result *result)
{
    const struct load_options *options = load->options;
    pthread_attr_t attributes;
    size_t started = 0;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (started < options->producers) {
        struct load_producer *producer = &load->producers[started];
        const int rc = pthread_create(&producer->thread, &attributes, producer_run, producer);
        if (rc != 0) {
            load_fail(load, "thread", -rc);
            break;
        }
        started++;
    }
    pthread_attr_destroy(&attributes);

    warm_up(load, result);
    const double cpu_begin = cpu_now_seconds();
    weir_stats(load->log, &result->begin);
    const uint64_t begin_ns = clock_now_ns();
    atomic_store_explicit(&load->phase, PHASE_MEASURING, memory_order_release);
    window_wait(load, begin_ns);
    atomic_store_explicit(&load->phase, PHASE_STOPPING, memory_order_release);
    for (size_t i = 0; i < started; i++) {
        pthread_join(load->producers[i].thread, NULL);
    }
    if (options->async) {
        /* What was appended counts only now, and the time until now counts too. */
        const int rc = weir_sync(load->log, WEIR_FOREVER);
        if (rc != 0) {
            load_fail(load, "sync", rc);
        }
    }
    result->seconds = (double)(clock_now_ns() - begin_ns) / 1e9;
    weir_stats(load->log, &result->end);
    result->cpu_seconds = cpu_now_seconds() - cpu_begin;
}

int load_run(struct weir_log *log, const struct load_options *options, struct load_result *result)
{
    void *(*const helpers[])(void *) = {trimmer_run,
                                        options->async ? sampler_run : NULL,
                                        options->rotation_tail ? watcher_run : NULL};
    enum { HELPERS = sizeof(helpers) / sizeof(helpers[0]) };
    pthread_t threads[HELPERS];
    bool running[HELPERS] = {false};
    struct load load = {.log = log,
                        .options = options,
                        .mark_stride = 1,
                        .ack = &result->ack,
                        .cause = result->cause,
                        .cause_bytes = sizeof(result->cause)};

    int rc = load_make(&load);
    if (rc != 0) {
        load_fail(&load, "memory", rc);
    }
    for (size_t i = 0; i < HELPERS && load.code == 0; i++) {
        if (helpers[i] != NULL) {
            rc = pthread_create(&threads[i], NULL, helpers[i], &load);
            running[i] = rc == 0;
            if (rc != 0) {
                load_fail(&load, "thread", -rc);
            }
        }
    }
    if (!load_ends(&load)) {
        window_run(&load, result);
    }
    if (weir_sync(log, WEIR_FOREVER) != 0 && !load_ends(&load)) {
        load_fail(&load, "sync", WEIR_EFAILED);
    }
    atomic_store_explicit(&load.over, true, memory_order_release);
    sem_post(&load.sampled);
    for (size_t i = 0; i < HELPERS; i++) {
        if (running[i]) {
            pthread_join(threads[i], NULL);
        }
    }
    if (load.code == 0 && !stop_asked()) {
        for (size_t i = 0; i < options->producers; i++) {
            result->records += load.producers[i].records;
            histogram_merge(&result->latency, &load.producers[i].latency);
        }
        rotations_classify(&load, result);
    }
    rc = load.code != 0 ? load.code : (stop_asked() ? -EINTR : 0);
    result->code = rc;
    load_free(&load);
    return rc;
}
