/* SPDX-License-Identifier: Apache-2.0
 * Searching long runs of bytes: recovery asks of whole segments whether they are zero. Pure, any
 * thread. */
#include "base/bytes.h"

#define BYTES_STEP ((size_t)64)

bool weir__all_zero(const void *p, size_t len)
{
    const unsigned char *at = p;
    /* Eight words are combined before each look, which compilers turn into vector code. */
    for (; len >= BYTES_STEP; at += BYTES_STEP, len -= BYTES_STEP) {
        uint64_t words[BYTES_STEP / sizeof(uint64_t)];
        memcpy(words, at, sizeof words);
        uint64_t any = 0;
        for (size_t i = 0; i < BYTES_STEP / sizeof(uint64_t); i++) {
            any |= words[i];
        }
        if (any != 0) {
            return false;
        }
    }
    unsigned any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= at[i];
    }
    return any == 0;
}
