/* SPDX-License-Identifier: Apache-2.0
 * CRC32C (Castagnoli), the checksum of everything on disk.
 *
 * weir__crc32c(0, p, n) is the value that RFC 3720 gives ("123456789" -> 0xE3069283). Feeding a
 * result back as `crc` continues over the next bytes: crc32c(crc32c(0, a), b) == crc32c(0, ab). The
 * fastest form that the processor has is chosen once, at the first use; all forms give the same
 * values. */
#ifndef WEIR_BASE_CRC32C_H
#define WEIR_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t weir__crc32c(uint32_t crc, const void *data, size_t len);
/* The table-driven form that every processor can run; exported so that tests can compare. */
uint32_t weir__crc32c_portable(uint32_t crc, const void *data, size_t len);
/* The same as weir__crc32c over the words, little-endian, one behind the other: what the head of
 * every frame needs. By value, for its fields were just written one by one, and a load of several of
 * them would wait until those stores have left the core. */
uint32_t
weir__crc32c_words(uint32_t crc, uint64_t first, uint64_t second, uint64_t third, uint32_t fourth);
/* Name of the form in use: "avx512", "sse4.2+pclmul", "sse4.2", "armv8", "portable". */
const char *weir__crc32c_name(void);
/* For tests: *crc as weir__crc32c gives it, by the index-th form that this processor can run. Its
 * name; NULL, and nothing done: there is none. */
const char *weir__crc32c_form(unsigned index, uint32_t *crc, const void *data, size_t len);

#endif
