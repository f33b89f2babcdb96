/* SPDX-License-Identifier: Apache-2.0
 * Latencies: 128 buckets per power of two (0.8 % wide), the whole range of 64 bits, nothing
 * allocated. One thread adds to a histogram; histograms of several threads are merged afterwards.
 */
#ifndef WEIR_TOOL_HISTOGRAM_H
#define WEIR_TOOL_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

struct json;

enum {
    HISTOGRAM_BITS = 7,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS,
};

/* All zeros is an empty one. */
struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Inline, because it is between two looks at the clock. */
static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    /* Values below 2^(BITS+1) have a bucket each; above, the leading BITS+1 bits choose. */
    uint64_t index = value;
    if (value >> (HISTOGRAM_BITS + 1) != 0) {
        const unsigned shift = 63U - HISTOGRAM_BITS - (unsigned)__builtin_clzll(value);
        index = ((uint64_t)shift << HISTOGRAM_BITS) + (value >> shift);
    }
    histogram->buckets[index]++;
    histogram->count++;
    if (value > histogram->max) {
        histogram->max = value;
    }
}

void histogram_merge(struct histogram *into, const struct histogram *from);
/* The smallest value that at least that share (0..1) of all values does not exceed; the middle of
 * its bucket, and never more than max. 0 of an empty one. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);
/* {"p50":..,"p90":..,"p99":..,"p99_9":..,"max":..} in microseconds, for values in nanoseconds. */
void histogram_member_us(struct json *json, const char *key, const struct histogram *histogram);
/* "p50 ..  p90 ..  p99 ..  p99.9 ..  max .." in microseconds, and a newline. */
void histogram_print_us(const struct histogram *histogram, FILE *to);

#endif
