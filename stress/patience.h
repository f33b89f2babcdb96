/* SPDX-License-Identifier: Apache-2.0
 * How long nothing happened, counted only while this process was awake: one that is stopped for an
 * hour, together with what it waits for, has not waited an hour. */
#ifndef WEIR_STRESS_PATIENCE_H
#define WEIR_STRESS_PATIENCE_H

#include "clock.h"

#include <stdbool.h>
#include <stdint.h>

struct patience {
    uint64_t looked_ns; /* at the clock */
    uint64_t still_ns;
};

/* Something happened. */
static inline void patience_renew(struct patience *patience)
{
    *patience = (struct patience){.looked_ns = clock_now_ns()};
}

/* Has nothing happened for so long? To be asked at least every 100 ms; longer pauses between two
 * questions count as that. */
static inline bool patience_lost(struct patience *patience, uint64_t limit_ns)
{
    const uint64_t now_ns = clock_now_ns();
    const uint64_t span_ns = now_ns - patience->looked_ns;

    patience->looked_ns = now_ns;
    patience->still_ns += span_ns < 100 * CLOCK_NS_PER_MS ? span_ns : 100 * CLOCK_NS_PER_MS;
    return patience->still_ns > limit_ns;
}

#endif
