/* SPDX-License-Identifier: Apache-2.0
 * The load of a peer, as weir bench loads weir: N threads in a closed loop, each with records of
 * incompressible bytes that begin somewhere in its own noise; the clock is read once per round; a
 * call counts if it began in the window. The main thread moves the phase: warming, measuring,
 * stopping. */
#include "peer.h"

#include "clock.h"
#include "histogram.h"
#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NOISE_BYTES = 256 * 1024,
    PRODUCERS_MAX = 4096,
    SIZE_MAX_BYTES = 1 << 20,
    /* What a run is expected to write at most per second: records, and bytes. */
    LIKELY_RECORDS = 150 * 1000,
    LIKELY_BYTES = 700 * 1000 * 1000,
    RECORD_OVERHEAD = 64,
};

enum phase {
    PHASE_WARMING,
    PHASE_MEASURING,
    PHASE_STOPPING,
};

struct producer {
    _Alignas(128) struct load *load;
    pthread_t thread;
    size_t index;
    unsigned char *noise;
    uint64_t random;
    uint64_t records;
    struct histogram latency;
};

struct load {
    const struct peer *peer;
    const struct peer_run *run;
    void *log;
    struct producer *producers;
    /* store-release: main thread; load-acquire: producers. */
    _Alignas(128) _Atomic int phase;
};

static const char *peer_name = "compare";

_Noreturn void peer_die_text(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s: %s\n", peer_name, what, why);
    fflush(stderr);
    _exit(1);
}

_Noreturn void peer_die(const char *what, int code)
{
    peer_die_text(what, strerror(code < 0 ? -code : code));
}

int peer_prewritten(const char *dir, const char *name, int flags, uint64_t bytes)
{
    enum { CHUNK = 1 << 20 };
    char path[4096];
    void *zeros = NULL;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || posix_memalign(&zeros, 4096, CHUNK) != 0) {
        peer_die(path, errno);
    }
    memset(zeros, 0, CHUNK);
    for (uint64_t at = 0; at < bytes; at += CHUNK) {
        if (pwrite(file, zeros, CHUNK, (off_t)at) != CHUNK) {
            peer_die(path, errno);
        }
    }
    free(zeros);
    if (fsync(file) != 0) {
        peer_die(path, errno);
    }
    const int opened = open(path, O_RDWR | O_CLOEXEC | flags);
    if (opened < 0) {
        peer_die(path, errno);
    }
    close(file);
    return opened;
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

static void *producer_run(void *ctx)
{
    struct producer *producer = ctx;
    struct load *load = producer->load;
    const struct peer *peer = load->peer;
    const size_t size = load->run->size;
    void *thread =
        peer->thread_open != NULL ? peer->thread_open(load->log, producer->index) : load->log;
    uint64_t now_ns = clock_now_ns();

    for (;;) {
        const int phase = atomic_load_explicit(&load->phase, memory_order_acquire);
        if (phase == PHASE_STOPPING) {
            break;
        }
        peer->append(thread, producer->noise + random_next(&producer->random) % NOISE_BYTES, size);
        const uint64_t begin_ns = now_ns;
        now_ns = clock_now_ns();
        if (phase == PHASE_MEASURING) {
            histogram_add(&producer->latency, now_ns - begin_ns);
            producer->records++;
        }
    }
    if (peer->thread_close != NULL) {
        peer->thread_close(thread);
    }
    return NULL;
}

static void producer_make(struct load *load, size_t index)
{
    struct producer *producer = &load->producers[index];
    const size_t noise_bytes = NOISE_BYTES + load->run->size;

    producer->load = load;
    producer->index = index;
    producer->random = index + 1;
    producer->noise = malloc(noise_bytes);
    if (producer->noise == NULL) {
        peer_die("noise", ENOMEM);
    }
    for (size_t i = 0; i < noise_bytes; i++) {
        const unsigned char byte = (unsigned char)(random_next(&producer->random) >> 56);
        producer->noise[i] = load->peer->text && byte == 0 ? 1 : byte;
    }
}

/* ---- the run --------------------------------------------------------------------------------- */

struct usage {
    double cpu_seconds;
    uint64_t switches;
};

static struct usage usage_now(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (struct usage){
        .cpu_seconds = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                       ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6,
        .switches = (uint64_t)usage.ru_nvcsw + (uint64_t)usage.ru_nivcsw};
}

static void nap(double seconds)
{
    const uint64_t end_ns = clock_now_ns() + (uint64_t)(seconds * 1e9);

    for (uint64_t now_ns = clock_now_ns(); now_ns < end_ns; now_ns = clock_now_ns()) {
        clock_nap_ns(end_ns - now_ns);
    }
}

static void result_print(const struct load *load, double seconds, struct usage used)
{
    static struct histogram latency;
    struct json json = JSON_INIT(stdout);
    uint64_t records = 0;

    for (size_t i = 0; i < load->run->producers; i++) {
        records += load->producers[i].records;
        histogram_merge(&latency, &load->producers[i].latency);
    }
    const double ops_per_s = (double)records / seconds;
    json_begin(&json, '{');
    json_member_text(&json, "engine", load->peer->name);
    json_member_text(&json, "version", load->peer->version());
    json_member_text(&json, "variant", load->run->variant);
    json_member_u64(&json, "producers", load->run->producers);
    json_member_u64(&json, "size", load->run->size);
    json_member_text(&json, "wait", "durable");
    json_member_real(&json, "seconds", seconds, 6);
    json_member_u64(&json, "records", records);
    json_member_real(&json, "ops_per_s", ops_per_s, 1);
    json_member_real(&json, "mb_per_s", ops_per_s * (double)load->run->size / 1e6, 3);
    histogram_member_us(&json, "lat_us", &latency);
    json_member_real(&json, "cpu_s", used.cpu_seconds, 6);
    json_member_u64(&json, "switches", used.switches);
    json_end(&json, '}');
    json_line(&json);
}

static void load_run(const struct peer *peer, const struct peer_run *run)
{
    struct load load = {.peer = peer, .run = run};
    const size_t bytes = run->producers * sizeof(load.producers[0]);

    load.producers = aligned_alloc(_Alignof(struct producer), bytes);
    if (load.producers == NULL) {
        peer_die("producers", ENOMEM);
    }
    memset(load.producers, 0, bytes);
    for (size_t i = 0; i < run->producers; i++) {
        producer_make(&load, i);
    }
    load.log = peer->open(run);
    for (size_t i = 0; i < run->producers; i++) {
        const int rc =
            pthread_create(&load.producers[i].thread, NULL, producer_run, &load.producers[i]);
        if (rc != 0) {
            peer_die("thread", rc);
        }
    }
    nap(run->warm_up);
    const struct usage before = usage_now();
    const uint64_t begin_ns = clock_now_ns();
    atomic_store_explicit(&load.phase, PHASE_MEASURING, memory_order_release);
    nap(run->seconds);
    atomic_store_explicit(&load.phase, PHASE_STOPPING, memory_order_release);
    for (size_t i = 0; i < run->producers; i++) {
        pthread_join(load.producers[i].thread, NULL);
    }
    const double seconds = (double)(clock_now_ns() - begin_ns) / 1e9;
    const struct usage after = usage_now();
    peer->close(load.log);
    result_print(&load,
                 seconds,
                 (struct usage){.cpu_seconds = after.cpu_seconds - before.cpu_seconds,
                                .switches = after.switches - before.switches});
    for (size_t i = 0; i < run->producers; i++) {
        free(load.producers[i].noise);
    }
    free(load.producers);
}

/* ---- the command line ------------------------------------------------------------------------ */

static int entry_remove(const char *path, const struct stat *stat, int kind, struct FTW *place)
{
    (void)stat;
    (void)kind;
    (void)place;
    return remove(path);
}

static int usage_print(const struct peer *peer, FILE *to, int status)
{
    fprintf(
        to,
        "usage: compare-%s --dir DIR [--producers N] [--size BYTES] [--seconds S] [--warm-up S]\n"
        "       [--variant V]\n\n"
        "N threads append records of incompressible bytes, each waits until its own is durable.\n"
        "Defaults: 16 producers, 128 bytes, 3 seconds behind 1 of warm-up. Writes below DIR,\n"
        "removes what it wrote, prints one line of JSON: that of weir bench.\n\n"
        "variants, the first by default:\n%s",
        peer->name,
        peer->about);
    return status;
}

static bool number_take(const char *word, double low, double high, double *value_out)
{
    char *end = NULL;
    const double value = strtod(word, &end);

    if (end == word || *end != '\0' || !(value >= low && value <= high)) {
        return false;
    }
    *value_out = value;
    return true;
}

static const char *variant_find(const struct peer *peer, const char *word)
{
    for (size_t i = 0; peer->variants[i] != NULL; i++) {
        if (strcmp(peer->variants[i], word) == 0) {
            return peer->variants[i];
        }
    }
    return NULL;
}

static bool options_take(const struct peer *peer, int argc, char **argv, struct peer_run *run)
{
    double number = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--dir") == 0) {
            run->dir = value;
        } else if (strcmp(argv[i], "--producers") == 0 &&
                   number_take(value, 1, PRODUCERS_MAX, &number)) {
            run->producers = (size_t)number;
        } else if (strcmp(argv[i], "--size") == 0 &&
                   number_take(value, 1, SIZE_MAX_BYTES, &number)) {
            run->size = (size_t)number;
        } else if (strcmp(argv[i], "--seconds") == 0 && number_take(value, 0.01, 3600, &number)) {
            run->seconds = number;
        } else if (strcmp(argv[i], "--warm-up") == 0 && number_take(value, 0, 3600, &number)) {
            run->warm_up = number;
        } else if (strcmp(argv[i], "--variant") == 0 && variant_find(peer, value) != NULL) {
            run->variant = variant_find(peer, value);
        } else {
            return false;
        }
    }
    return argc % 2 == 1 && run->dir != NULL;
}

int peer_main(const struct peer *peer, int argc, char **argv)
{
    struct peer_run run = {.producers = 16,
                           .size = 128,
                           .seconds = 3,
                           .warm_up = 1,
                           .variant = peer->variants[0]};
    char dir[4096];

    peer_name = peer->name;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        return usage_print(peer, stdout, 0);
    }
    if (!options_take(peer, argc, argv, &run)) {
        return usage_print(peer, stderr, 64);
    }
    snprintf(dir, sizeof(dir), "%s/%s.XXXXXX", run.dir, peer->name);
    if (mkdtemp(dir) == NULL) {
        peer_die(dir, errno);
    }
    run.dir = dir;
    const double of_records = (double)LIKELY_RECORDS * (double)(run.size + RECORD_OVERHEAD);
    run.bytes_likely =
        (uint64_t)((run.seconds + run.warm_up) *
                   (of_records < (double)LIKELY_BYTES ? of_records : (double)LIKELY_BYTES));
    load_run(peer, &run);
    nftw(dir, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
    return fflush(stdout) == 0 ? 0 : 1;
}
