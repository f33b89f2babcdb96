/* SPDX-License-Identifier: Apache-2.0
 * Numbers that look random and depend on nothing but a seed (SplitMix64). */
#ifndef WEIR_STRESS_DICE_H
#define WEIR_STRESS_DICE_H

#include <stdint.h>

struct dice {
    uint64_t state;
};

static inline uint64_t dice_mix(uint64_t value)
{
    value += UINT64_C(0x9E3779B97F4A7C15);
    value = (value ^ (value >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94D049BB133111EB);
    return value ^ (value >> 31);
}

static inline uint64_t dice_next(struct dice *dice)
{
    const uint64_t value = dice_mix(dice->state);

    dice->state += UINT64_C(0x9E3779B97F4A7C15);
    return value;
}

/* Return: 0..limit - 1; 0 for limit 0. The slight bias does not matter here. */
static inline uint64_t dice_below(struct dice *dice, uint64_t limit)
{
    const uint64_t value = dice_next(dice);

    return limit == 0 ? 0 : value % limit;
}

#endif
