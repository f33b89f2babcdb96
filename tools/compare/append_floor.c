/* SPDX-License-Identifier: Apache-2.0
 * What an append costs in memory alone, to hold the engine's against:
 *   copy   checksum and memcpy of each record into a ring of buffers, nothing shared
 *   mutex  the same ring for all threads: checksum first, then reserve and copy under a mutex
 * Nothing is written to a device and nothing reads the ring: the mutex form is the best that it can
 * be. The clock is read at the beginning and the end only.
 *
 *   compare-append_floor --form copy|mutex [--producers N] [--size BYTES] [--seconds S]
 *
 * Prints one line of JSON: ns_per_append is wall time over all appends of all threads. */
#include "clock.h"
#include "crc32c.h"
#include "json.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NOISE_BYTES = 256 * 1024,
    RING_BYTES = 8 << 20, /* that of a log with default options */
    HEADER_BYTES = 16,
    PRODUCERS_MAX = 4096,
    SIZE_MAX_BYTES = 1 << 20,
    ROUND = 64, /* appends between two looks at the phase */
};

struct ring {
    pthread_mutex_t mutex;
    unsigned char *bytes;
    size_t size;
    size_t at;
};

struct producer {
    _Alignas(128) pthread_t thread;
    struct ring *ring;
    struct ring own;
    unsigned char *noise;
    uint64_t random;
    uint64_t appends;
};

static struct {
    size_t producers;
    size_t size;
    double seconds;
    bool mutex;
    struct ring shared;
} options = {.producers = 1, .size = 128, .seconds = 1};

/* 0 warming, 1 measuring, 2 stopping. store-release: main thread; load-acquire: producers. */
static _Atomic int phase;

static uint64_t random_next(uint64_t *state)
{
    /* splitmix64, as in the load of weir bench */
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

static inline void record_copy(struct ring *ring, const void *data, uint32_t crc)
{
    const uint64_t header[2] = {options.size, crc};
    const size_t whole = (HEADER_BYTES + options.size + 7) / 8 * 8;

    if (ring->at + whole > ring->size) {
        ring->at = 0;
    }
    memcpy(ring->bytes + ring->at, header, HEADER_BYTES);
    memcpy(ring->bytes + ring->at + HEADER_BYTES, data, options.size);
    ring->at += whole;
}

static void append(struct producer *producer)
{
    const unsigned char *data = producer->noise + random_next(&producer->random) % NOISE_BYTES;
    const uint32_t crc = crc32c(data, options.size);

    if (options.mutex) {
        pthread_mutex_lock(&producer->ring->mutex);
        record_copy(producer->ring, data, crc);
        pthread_mutex_unlock(&producer->ring->mutex);
    } else {
        record_copy(producer->ring, data, crc);
    }
}

static void *producer_run(void *ctx)
{
    struct producer *producer = ctx;

    for (;;) {
        const int now = atomic_load_explicit(&phase, memory_order_acquire);
        if (now == 2) {
            return NULL;
        }
        for (int i = 0; i < ROUND; i++) {
            append(producer);
        }
        if (now == 1) {
            producer->appends += ROUND;
        }
    }
}

static bool ring_make(struct ring *ring, size_t size)
{
    pthread_mutex_init(&ring->mutex, NULL);
    ring->size = size;
    ring->bytes = aligned_alloc(4096, size);
    if (ring->bytes != NULL) {
        memset(ring->bytes, 0, size);
    }
    return ring->bytes != NULL;
}

static bool producer_make(struct producer *producer, size_t index)
{
    /* Not less than two records each, and all of them together as much as the shared ring. */
    size_t share = (RING_BYTES / options.producers + 4095) / 4096 * 4096;
    const size_t least = (2 * (options.size + HEADER_BYTES + 8) + 4095) / 4096 * 4096;

    share = share < least ? least : share;
    producer->random = index + 1;
    producer->ring = options.mutex ? &options.shared : &producer->own;
    producer->noise = malloc(NOISE_BYTES + options.size);
    if (producer->noise == NULL || (!options.mutex && !ring_make(&producer->own, share))) {
        return false;
    }
    for (size_t i = 0; i < NOISE_BYTES + options.size; i++) {
        producer->noise[i] = (unsigned char)(random_next(&producer->random) >> 56);
    }
    return true;
}

static void result_print(uint64_t appends, uint64_t wall_ns)
{
    struct json json = JSON_INIT(stdout);

    json_begin(&json, '{');
    json_member_text(&json, "engine", "append_floor");
    json_member_text(&json, "variant", options.mutex ? "mutex" : "copy");
    json_member_u64(&json, "producers", options.producers);
    json_member_u64(&json, "size", options.size);
    json_member_real(&json, "seconds", (double)wall_ns / 1e9, 6);
    json_member_u64(&json, "records", appends);
    json_member_real(&json, "ops_per_s", (double)appends / ((double)wall_ns / 1e9), 1);
    json_member_real(&json, "ns_per_append", (double)wall_ns / (double)appends, 2);
    json_end(&json, '}');
    json_line(&json);
}

static bool options_take(int argc, char **argv)
{
    bool form = false;

    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--form") == 0) {
            form = strcmp(value, "copy") == 0 || strcmp(value, "mutex") == 0;
            options.mutex = strcmp(value, "mutex") == 0;
        } else if (strcmp(argv[i], "--producers") == 0) {
            options.producers = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--size") == 0) {
            options.size = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            options.seconds = strtod(value, NULL);
        } else {
            return false;
        }
    }
    return form && argc % 2 == 1 && options.producers >= 1 && options.producers <= PRODUCERS_MAX &&
           options.size >= 1 && options.size <= SIZE_MAX_BYTES && options.seconds > 0;
}

int main(int argc, char **argv)
{
    if (!options_take(argc, argv)) {
        fprintf(stderr,
                "usage: %s --form copy|mutex [--producers N] [--size BYTES] [--seconds S]\n",
                argv[0]);
        return 64;
    }
    struct producer *producers =
        aligned_alloc(_Alignof(struct producer), options.producers * sizeof(*producers));
    if (producers == NULL || !ring_make(&options.shared, RING_BYTES)) {
        fprintf(stderr, "%s: out of memory\n", argv[0]);
        return 1;
    }
    memset(producers, 0, options.producers * sizeof(*producers));
    for (size_t i = 0; i < options.producers; i++) {
        if (!producer_make(&producers[i], i) ||
            pthread_create(&producers[i].thread, NULL, producer_run, &producers[i]) != 0) {
            fprintf(stderr, "%s: out of memory or threads\n", argv[0]);
            return 1;
        }
    }
    clock_nap_ns(200 * CLOCK_NS_PER_MS);
    const uint64_t begin_ns = clock_now_ns();
    atomic_store_explicit(&phase, 1, memory_order_release);
    clock_nap_ns((uint64_t)(options.seconds * 1e9));
    atomic_store_explicit(&phase, 2, memory_order_release);
    const uint64_t wall_ns = clock_now_ns() - begin_ns;
    uint64_t appends = 0;
    for (size_t i = 0; i < options.producers; i++) {
        pthread_join(producers[i].thread, NULL);
        appends += producers[i].appends;
    }
    result_print(appends > 0 ? appends : 1, wall_ns);
    return 0;
}
