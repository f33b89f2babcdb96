/* SPDX-License-Identifier: Apache-2.0
 * Workers that write down, waits that end, random numbers that can be had again. */
#include "support/threads.h"

#include "port/clock.h"

#include <inttypes.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__)
#define SLOWED_DOWN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SLOWED_DOWN 1
#endif
#endif

static uint64_t seed_value;
static unsigned rounds_factor = 1;

void test_begin(int argc, char **argv)
{
    bool given = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed_value = strtoull(argv[++i], NULL, 0);
            given = true;
        } else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
            rounds_factor = (unsigned)strtoul(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            cmocka_set_test_filter(argv[++i]);
        } else {
            (void)fprintf(stderr, "usage: %s [--seed N] [--rounds N] [--only PATTERN]\n", argv[0]);
            exit(64);
        }
    }
    if (!given) {
        seed_value = weir__wall_ns() & UINT64_C(0xffffffffff);
    }
    (void)fprintf(stderr,
                  "seed %" PRIu64 "; again: %s --seed %" PRIu64 "\n",
                  seed_value,
                  argv[0],
                  seed_value);
}

uint64_t test_seed(void)
{
    return seed_value;
}

unsigned test_rounds(unsigned rounds)
{
    rounds *= rounds_factor;
#ifdef SLOWED_DOWN
    rounds = (rounds + 9) / 10;
#endif
    return rounds > 0 ? rounds : 1;
}

void random_pause(struct random *random)
{
    switch (random_below(random, 8)) {
    case 0:
        (void)sched_yield();
        break;
    case 1:
        weir__sleep_ns(random_below(random, 100000));
        break;
    default:
        break;
    }
}

void worker_fail(struct worker *worker, const char *format, ...)
{
    if (worker->failure[0] != '\0') {
        return;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(worker->failure, sizeof worker->failure, format, args);
    va_end(args);
}

static void *worker_main(void *arg)
{
    struct worker *const worker = arg;
    worker->run(worker);
    return NULL;
}

void workers_start(struct workers *workers,
                   unsigned count,
                   void (*run)(struct worker *worker),
                   void *ctx,
                   uint64_t seed)
{
    if (count > WORKERS_MAX) {
        abort();
    }
    workers->count = count;
    for (unsigned i = 0; i < count; i++) {
        struct worker *const worker = &workers->worker[i];
        *worker = (struct worker){
            .index = i,
            .ctx = ctx,
            .random = {seed + i * UINT64_C(0x632be59bd9b4e019)},
            .run = run,
        };
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            abort();
        }
    }
}

bool workers_join(struct workers *workers)
{
    bool good = true;
    for (unsigned i = 0; i < workers->count; i++) {
        (void)pthread_join(workers->worker[i].thread, NULL);
        if (workers->worker[i].failure[0] != '\0') {
            (void)fprintf(stderr, "worker %u: %s\n", i, workers->worker[i].failure);
            good = false;
        }
    }
    workers->count = 0;
    return good;
}

void workers_finish(struct workers *workers)
{
    assert_true(workers_join(workers));
}

void workers_run(unsigned count, void (*run)(struct worker *worker), void *ctx, uint64_t seed)
{
    struct workers workers;
    workers_start(&workers, count, run, ctx, seed);
    workers_finish(&workers);
}

bool wait_until(bool (*holds)(void *ctx), void *ctx)
{
    const uint64_t end_ns = weir__now_ns() + TEST_PATIENCE_NS;
    uint64_t pause_ns = 20000;
    while (!holds(ctx)) {
        if (weir__now_ns() > end_ns) {
            return false;
        }
        weir__sleep_ns(pause_ns);
        pause_ns = pause_ns < 2000000 ? pause_ns * 2 : pause_ns;
    }
    return true;
}
