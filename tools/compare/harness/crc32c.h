/* SPDX-License-Identifier: Apache-2.0
 * CRC-32C with the processor's plain instruction, or bit by bit where there is none: the checksum
 * that a log of the textbook's kind writes. */
#ifndef WEIR_COMPARE_CRC32C_H
#define WEIR_COMPARE_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static inline uint32_t crc32c(const void *data, size_t bytes)
{
    const unsigned char *at = data;
    uint64_t crc = UINT32_MAX;

    for (; bytes >= 8; bytes -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    for (; bytes > 0; bytes--, at++) {
        crc = __builtin_ia32_crc32qi((uint32_t)crc, *at);
    }
    return ~(uint32_t)crc;
}
#else
static inline uint32_t crc32c(const void *data, size_t bytes)
{
    const unsigned char *at = data;
    uint32_t crc = UINT32_MAX;

    for (; bytes > 0; bytes--, at++) {
        crc ^= *at;
        for (int i = 0; i < 8; i++) {
            crc = crc >> 1 ^ (UINT32_C(0x82f63b78) & -(crc & 1));
        }
    }
    return ~crc;
}
#endif

#endif
