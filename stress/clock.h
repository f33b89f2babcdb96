/* SPDX-License-Identifier: Apache-2.0
 * Monotonic time in nanoseconds. */
#ifndef WEIR_STRESS_CLOCK_H
#define WEIR_STRESS_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_US UINT64_C(1000)
#define CLOCK_NS_PER_MS UINT64_C(1000000)
#define CLOCK_NS_PER_S UINT64_C(1000000000)

static inline uint64_t clock_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

static inline void clock_sleep_ns(uint64_t ns)
{
    const struct timespec span = {.tv_sec = (time_t)(ns / CLOCK_NS_PER_S),
                                  .tv_nsec = (long)(ns % CLOCK_NS_PER_S)};

    nanosleep(&span, NULL);
}

#endif
