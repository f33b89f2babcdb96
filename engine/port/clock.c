/* SPDX-License-Identifier: Apache-2.0
 * Clocks: thin wrappers that turn timespecs into nanoseconds and saturate instead of wrapping. Any
 * thread. Reading the two clocks used here cannot fail on Linux. */
#include "port/clock.h"

#include "base/num.h"

#include <errno.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)

uint64_t weir__now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t weir__wall_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec < 0) {
        return 0;
    }
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t weir__deadline(int64_t timeout_ns)
{
    if (timeout_ns < 0) {
        return WEIR__NEVER;
    }
    uint64_t deadline_ns;
    if (!weir__add_u64(weir__now_ns(), (uint64_t)timeout_ns, &deadline_ns)) {
        return WEIR__NEVER;
    }
    return deadline_ns;
}

void weir__sleep_ns(uint64_t ns)
{
    /* An absolute end, so that signals cannot stretch the sleep. */
    const uint64_t now_ns = weir__now_ns();
    const uint64_t end_ns = ns > (uint64_t)INT64_MAX - now_ns ? (uint64_t)INT64_MAX : now_ns + ns;
    const struct timespec end = {
        .tv_sec = (time_t)(end_ns / NS_PER_S),
        .tv_nsec = (long)(end_ns % NS_PER_S),
    };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR) {
    }
}
