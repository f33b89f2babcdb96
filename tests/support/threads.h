/* SPDX-License-Identifier: Apache-2.0
 * Threads, random numbers and waits for tests.
 *
 * cmocka's assertions kill the process when a worker thread makes them, so workers write down what
 * was wrong and the main thread asserts after the join:
 *
 *     static void produce(struct worker *worker) { if (bad) { worker_fail(worker, "lost %d", n); }
 * } workers_run(4, produce, &shared, test_seed());
 */
#ifndef WEIR_TESTS_SUPPORT_THREADS_H
#define WEIR_TESTS_SUPPORT_THREADS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define WORKERS_MAX 64u
/* Far beyond what a loaded machine needs: running into it means that something hangs. */
#define TEST_PATIENCE_NS UINT64_C(60000000000)

/* ---- random numbers ---- */

struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* 0..limit-1. */
static inline uint64_t random_below(struct random *random, uint64_t limit)
{
    return random_next(random) % limit;
}

/* Reads --seed N and prints the seed and how to run with it again; --rounds N multiplies what
 * random tests do; --only PATTERN runs the tests whose names match (* and ?). To be called first in
 * main. Ends the process with 64 on other arguments. */
void test_begin(int argc, char **argv);
uint64_t test_seed(void);
/* rounds * --rounds; a tenth of that, at least 1, under ThreadSanitizer. */
unsigned test_rounds(unsigned rounds);

/* Lets other threads run, at a random point: does nothing, yields, or sleeps up to 100 us. */
void random_pause(struct random *random);

/* ---- workers ---- */

struct worker {
    unsigned index;
    void *ctx;
    struct random random;
    char failure[256]; /* the first; "" = none */
    void (*run)(struct worker *worker);
    pthread_t thread;
};

struct workers {
    unsigned count;
    struct worker worker[WORKERS_MAX];
};

void worker_fail(struct worker *worker, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void workers_start(struct workers *workers,
                   unsigned count,
                   void (*run)(struct worker *worker),
                   void *ctx,
                   uint64_t seed);
/* Joins, and fails the running cmocka test if any worker failed. Main thread. */
void workers_finish(struct workers *workers);
/* Joins only. True: none failed. */
bool workers_join(struct workers *workers);
/* Start and finish. */
void workers_run(unsigned count, void (*run)(struct worker *worker), void *ctx, uint64_t seed);

/* Polls until holds(ctx), for TEST_PATIENCE_NS at most. False: it never did. */
bool wait_until(bool (*holds)(void *ctx), void *ctx);

#endif
