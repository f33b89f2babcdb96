/* SPDX-License-Identifier: Apache-2.0
 * The textbook: leader/follower group commit, to compare with. Not linked with weir, never
 * installed.
 *
 * A mutex, a queue of writers with a condition variable each. Whoever is at the front leads: takes
 * everybody who is queued, writes them with one pwritev to a file that was written over before,
 * syncs with fdatasync, wakes them and the next leader. Records: u32 length, u32 checksum place,
 * payload.
 *
 *   compare-group_commit --dir DIR --producers N --size BYTES --seconds S
 *
 * prints one line of JSON: records per second and latency percentiles of the waiting append. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES ((off_t)256 << 20)
#define GROUP_MAX 512
#define PRODUCERS_MAX 512
#define SAMPLES_MAX (1u << 20)

struct writer {
    struct iovec iov;
    pthread_cond_t wake;
    bool done;
    struct writer *next;
};

static struct {
    pthread_mutex_t mutex;
    struct writer *head;
    struct writer **tail;
    off_t at;
    int file;
    size_t size;
    atomic_bool stop;
} log_ = {.mutex = PTHREAD_MUTEX_INITIALIZER};

struct producer {
    pthread_t thread;
    uint64_t count;
    uint32_t samples;
    uint32_t *ns;
    unsigned char *record;
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Called with the mutex, by the writer at the front. */
static void lead(void)
{
    struct writer *first = log_.head;
    struct writer *last = first;
    struct iovec iov[GROUP_MAX];
    int count = 0;
    size_t bytes = 0;

    for (struct writer *w = first; w && count < GROUP_MAX; w = w->next) {
        iov[count++] = w->iov;
        bytes += w->iov.iov_len;
        last = w;
    }
    if (log_.at + (off_t)bytes > FILE_BYTES) {
        log_.at = 0;
    }
    off_t at = log_.at;
    log_.at += (off_t)bytes;
    pthread_mutex_unlock(&log_.mutex);
    if (pwritev(log_.file, iov, count, at) != (ssize_t)bytes || fdatasync(log_.file) != 0) {
        die("write");
    }
    pthread_mutex_lock(&log_.mutex);
    log_.head = last->next;
    if (!log_.head) {
        log_.tail = &log_.head;
    }
    for (struct writer *w = first;;) {
        struct writer *next = w->next;
        bool end = w == last;
        w->done = true;
        if (w != first) {
            pthread_cond_signal(&w->wake);
        }
        if (end) {
            break;
        }
        w = next;
    }
    if (log_.head) {
        pthread_cond_signal(&log_.head->wake);
    }
}

static void append(struct writer *w)
{
    pthread_mutex_lock(&log_.mutex);
    w->done = false;
    w->next = NULL;
    *log_.tail = w;
    log_.tail = &w->next;
    while (!w->done && log_.head != w) {
        pthread_cond_wait(&w->wake, &log_.mutex);
    }
    if (!w->done) {
        lead();
    }
    pthread_mutex_unlock(&log_.mutex);
}

static void *produce(void *arg)
{
    struct producer *p = arg;
    struct writer w = {.iov = {p->record, log_.size + 8}, .wake = PTHREAD_COND_INITIALIZER};

    while (!atomic_load(&log_.stop)) {
        uint64_t begin = now_ns();
        append(&w);
        uint64_t took = now_ns() - begin;
        if (p->samples < SAMPLES_MAX) {
            p->ns[p->samples++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
        }
        p->count++;
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void fill_random(unsigned char *to, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        to[i] = (unsigned char)seed;
    }
}

static void prewrite(const char *dir)
{
    char path[4096];
    static unsigned char zeros[1 << 20];

    snprintf(path, sizeof path, "%s/group_commit.log", dir);
    log_.file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (log_.file < 0) {
        die(path);
    }
    unlink(path);
    for (off_t at = 0; at < FILE_BYTES; at += (off_t)sizeof zeros) {
        if (pwrite(log_.file, zeros, sizeof zeros, at) != (ssize_t)sizeof zeros) {
            die("prewrite");
        }
    }
    if (fsync(log_.file) != 0) {
        die("fsync");
    }
}

int main(int argc, char **argv)
{
    const char *dir = NULL;
    long producers = 16;
    double seconds = 3;

    log_.size = 128;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--dir") == 0) {
            dir = argv[i + 1];
        } else if (strcmp(argv[i], "--producers") == 0) {
            producers = atol(argv[i + 1]);
        } else if (strcmp(argv[i], "--size") == 0) {
            log_.size = (size_t)atol(argv[i + 1]);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            seconds = atof(argv[i + 1]);
        } else {
            dir = NULL;
            break;
        }
    }
    if (!dir || argc % 2 == 0 || producers < 1 || producers > PRODUCERS_MAX || log_.size < 1 ||
        log_.size > 1u << 20) {
        fprintf(stderr,
                "usage: %s --dir DIR [--producers 1..%d] [--size BYTES] [--seconds S]\n",
                argv[0],
                PRODUCERS_MAX);
        return 64;
    }
    prewrite(dir);
    log_.tail = &log_.head;
    struct producer *all = calloc((size_t)producers, sizeof *all);
    if (!all) {
        die("calloc");
    }
    for (long i = 0; i < producers; i++) {
        all[i].ns = malloc(SAMPLES_MAX * sizeof *all[i].ns);
        all[i].record = malloc(log_.size + 8);
        if (!all[i].ns || !all[i].record) {
            die("malloc");
        }
        fill_random(all[i].record, log_.size + 8, (uint64_t)i + 88172645463325252u);
    }
    uint64_t begin = now_ns();
    for (long i = 0; i < producers; i++) {
        if (pthread_create(&all[i].thread, NULL, produce, &all[i]) != 0) {
            die("pthread_create");
        }
    }
    struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&pause, NULL);
    atomic_store(&log_.stop, true);
    uint64_t count = 0;
    size_t samples = 0;
    for (long i = 0; i < producers; i++) {
        pthread_join(all[i].thread, NULL);
        count += all[i].count;
        samples += all[i].samples;
    }
    double took = (double)(now_ns() - begin) / 1e9;
    uint32_t *ns = malloc((samples + 1) * sizeof *ns);
    if (!ns || samples == 0) {
        die("samples");
    }
    size_t at = 0;
    for (long i = 0; i < producers; i++) {
        memcpy(ns + at, all[i].ns, all[i].samples * sizeof *ns);
        at += all[i].samples;
    }
    qsort(ns, samples, sizeof *ns, by_value);
    printf("{\"engine\":\"group_commit\",\"producers\":%ld,\"size\":%zu,\"seconds\":%.3f,"
           "\"records\":%llu,\"ops_per_s\":%.1f,"
           "\"lat_us\":{\"p50\":%.1f,\"p99\":%.1f,\"p99_9\":%.1f,\"max\":%.1f}}\n",
           producers,
           log_.size,
           took,
           (unsigned long long)count,
           (double)count / took,
           ns[samples / 2] / 1e3,
           ns[samples - 1 - samples / 100] / 1e3,
           ns[samples - 1 - samples / 1000] / 1e3,
           ns[samples - 1] / 1e3);
    return 0;
}
