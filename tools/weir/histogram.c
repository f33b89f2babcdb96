/* SPDX-License-Identifier: Apache-2.0
 * What is asked of a histogram after the run; adding is in the header. */
#include "histogram.h"

#include "json.h"

_Static_assert(HISTOGRAM_BUCKETS ==
                   ((63 - HISTOGRAM_BITS) << HISTOGRAM_BITS) + (2 << HISTOGRAM_BITS),
               "the bucket of the largest value is the last one");

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        into->buckets[i] += from->buckets[i];
    }
    into->count += from->count;
    if (from->max > into->max) {
        into->max = from->max;
    }
}

static uint64_t bucket_middle(unsigned index)
{
    if (index >> (HISTOGRAM_BITS + 1) == 0) {
        return index;
    }
    const unsigned shift = (index >> HISTOGRAM_BITS) - 1;
    const uint64_t lead = (index & ((1U << HISTOGRAM_BITS) - 1)) + (1U << HISTOGRAM_BITS);
    return (lead << shift) + ((UINT64_C(1) << shift) >> 1);
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    const double place = share * (double)histogram->count;
    uint64_t rank = (uint64_t)place;
    uint64_t seen = 0;

    if ((double)rank < place || rank == 0) {
        rank++;
    }
    if (rank >= histogram->count) {
        return histogram->max;
    }
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            const uint64_t middle = bucket_middle(i);
            return middle < histogram->max ? middle : histogram->max;
        }
    }
    return histogram->max;
}

static double quantile_us(const struct histogram *histogram, double share)
{
    return (double)histogram_quantile(histogram, share) / 1e3;
}

void histogram_member_us(struct json *json, const char *key, const struct histogram *histogram)
{
    json_key(json, key);
    json_begin(json, '{');
    json_member_real(json, "p50", quantile_us(histogram, 0.5), 3);
    json_member_real(json, "p90", quantile_us(histogram, 0.9), 3);
    json_member_real(json, "p99", quantile_us(histogram, 0.99), 3);
    json_member_real(json, "p99_9", quantile_us(histogram, 0.999), 3);
    json_member_real(json, "max", (double)histogram->max / 1e3, 3);
    json_end(json, '}');
}

void histogram_print_us(const struct histogram *histogram, FILE *to)
{
    fprintf(to,
            "p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f us\n",
            quantile_us(histogram, 0.5),
            quantile_us(histogram, 0.9),
            quantile_us(histogram, 0.99),
            quantile_us(histogram, 0.999),
            (double)histogram->max / 1e3);
}
