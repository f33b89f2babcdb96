/* SPDX-License-Identifier: Apache-2.0
 * Little-endian reads and writes of unaligned bytes: the only way in which the engine touches what
 * stands on disk. */
#ifndef WEIR_BASE_BYTES_H
#define WEIR_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WEIR__LE16(v) (v)
#define WEIR__LE32(v) (v)
#define WEIR__LE64(v) (v)
#else
#define WEIR__LE16(v) __builtin_bswap16(v)
#define WEIR__LE32(v) __builtin_bswap32(v)
#define WEIR__LE64(v) __builtin_bswap64(v)
#endif

static inline uint16_t weir__get_u16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return WEIR__LE16(v);
}

static inline uint32_t weir__get_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return WEIR__LE32(v);
}

static inline uint64_t weir__get_u64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return WEIR__LE64(v);
}

static inline void weir__put_u16(void *p, uint16_t v)
{
    v = WEIR__LE16(v);
    memcpy(p, &v, sizeof v);
}

static inline void weir__put_u32(void *p, uint32_t v)
{
    v = WEIR__LE32(v);
    memcpy(p, &v, sizeof v);
}

static inline void weir__put_u64(void *p, uint64_t v)
{
    v = WEIR__LE64(v);
    memcpy(p, &v, sizeof v);
}

/* True when all len bytes are zero. */
bool weir__all_zero(const void *p, size_t len);

#endif
