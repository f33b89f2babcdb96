/* SPDX-License-Identifier: Apache-2.0
 * Checked arithmetic on sizes and positions. */
#ifndef WEIR_BASE_NUM_H
#define WEIR_BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

static inline bool weir__is_pow2(uint64_t v)
{
    return v != 0 && (v & (v - 1)) == 0;
}

/* Next multiple of align (a power of two). The caller knows that v + align does not wrap. */
static inline uint64_t weir__align_up(uint64_t v, uint64_t align)
{
    return (v + align - 1) & ~(align - 1);
}

static inline uint64_t weir__align_down(uint64_t v, uint64_t align)
{
    return v & ~(align - 1);
}

/* False when the sum wraps; *sum_out is then not meaningful. */
static inline bool weir__add_u64(uint64_t a, uint64_t b, uint64_t *sum_out)
{
    return !__builtin_add_overflow(a, b, sum_out);
}

static inline bool weir__mul_u64(uint64_t a, uint64_t b, uint64_t *product_out)
{
    return !__builtin_mul_overflow(a, b, product_out);
}

static inline uint64_t weir__min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t weir__max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
