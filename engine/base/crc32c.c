/* SPDX-License-Identifier: Apache-2.0
 * CRC32C in three forms: tables (any processor), the SSE4.2 instruction, the ARMv8 instruction.
 *
 * The first call looks at the processor and stores the form to use. Several threads may do that at
 * once and store the same. All forms work on the raw remainder; the inversion before and after is
 * done once, in weir__crc32c. */
#include "base/crc32c.h"

#include "base/atomic.h"
#include "base/bytes.h"
#include "base/crc32c_table.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

typedef uint32_t crc32c_form(uint32_t crc, const unsigned char *at, size_t len);

static uint32_t crc32c_tables(uint32_t crc, const unsigned char *at, size_t len)
{
    for (; len >= 8; at += 8, len -= 8) {
        const uint32_t low = weir__get_u32(at) ^ crc;
        const uint32_t high = weir__get_u32(at + 4);
        crc = crc32c_table[7][low & 255] ^ crc32c_table[6][(low >> 8) & 255] ^
              crc32c_table[5][(low >> 16) & 255] ^ crc32c_table[4][low >> 24] ^
              crc32c_table[3][high & 255] ^ crc32c_table[2][(high >> 8) & 255] ^
              crc32c_table[1][(high >> 16) & 255] ^ crc32c_table[0][high >> 24];
    }
    for (; len > 0; at++, len--) {
        crc = (crc >> 8) ^ crc32c_table[0][(crc ^ *at) & 255];
    }
    return crc;
}

uint32_t weir__crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    return ~crc32c_tables(~crc, data, len);
}

#if defined(__x86_64__)
/* The instruction takes three cycles but can start every cycle, so three streams run side by side
 * over one block each. Joining them means moving a remainder over n more bytes, that is multiplying
 * it by x^(8n) modulo the polynomial. A carry-less product with x^(8n-33) and one more crc32q,
 * which multiplies by x^32 and reduces, do that; the missing x is the bit by which the product of
 * two reflected words is off. */
struct crc32c_block {
    size_t bytes; /* of one stream; a multiple of 8 */
    uint32_t shift_one;
    uint32_t shift_two;
};

/* x^(8n-33), reflected, for n = one block and two. Long blocks fit three times into 4 KiB, short
 * ones into 1 KiB. */
static const struct crc32c_block crc32c_long = {1360, 0x3f70cc6f, 0x5aa1f3cf};
static const struct crc32c_block crc32c_short = {336, 0xa60ce07b, 0xcec3662e};

__attribute__((target("sse4.2,pclmul"))) static uint64_t crc32c_move(uint64_t crc, uint32_t shift)
{
    const __m128i product =
        _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi32_si128((int)shift), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static uint64_t
crc32c_three(uint64_t crc, const unsigned char *at, const struct crc32c_block *block)
{
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < block->bytes; i += 8) {
        crc = _mm_crc32_u64(crc, weir__get_u64(at + i));
        second = _mm_crc32_u64(second, weir__get_u64(at + block->bytes + i));
        third = _mm_crc32_u64(third, weir__get_u64(at + 2 * block->bytes + i));
    }
    return crc32c_move(crc, block->shift_two) ^ crc32c_move(second, block->shift_one) ^ third;
}

__attribute__((target("sse4.2"))) static uint64_t
crc32c_rest(uint64_t crc, const unsigned char *at, size_t len)
{
    for (; len >= 8; at += 8, len -= 8) {
        crc = _mm_crc32_u64(crc, weir__get_u64(at));
    }
    for (; len > 0; at++, len--) {
        crc = _mm_crc32_u8((uint32_t)crc, *at);
    }
    return crc;
}

__attribute__((target("sse4.2"))) static uint32_t
crc32c_sse42(uint32_t crc, const unsigned char *at, size_t len)
{
    return (uint32_t)crc32c_rest(crc, at, len);
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t
crc32c_sse42_three(uint32_t crc, const unsigned char *at, size_t len)
{
    uint64_t wide = crc;
    for (; len >= 3 * crc32c_long.bytes;
         at += 3 * crc32c_long.bytes, len -= 3 * crc32c_long.bytes) {
        wide = crc32c_three(wide, at, &crc32c_long);
    }
    for (; len >= 3 * crc32c_short.bytes;
         at += 3 * crc32c_short.bytes, len -= 3 * crc32c_short.bytes) {
        wide = crc32c_three(wide, at, &crc32c_short);
    }
    return (uint32_t)crc32c_rest(wide, at, len);
}
#elif defined(__aarch64__) && defined(__linux__)
/* Assembly instead of arm_acle.h, whose functions some compilers hide unless the whole file is
 * built for the extension. Bit 7 of AT_HWCAP is the kernel's word for CRC32. */
#define CRC32C_HWCAP (1UL << 7)

static uint32_t crc32c_armv8(uint32_t crc, const unsigned char *at, size_t len)
{
    for (; len >= 8; at += 8, len -= 8) {
        const uint64_t word = weir__get_u64(at);
        __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
    }
    for (; len > 0; at++, len--) {
        const uint32_t byte = *at;
        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(byte));
    }
    return crc;
}
#endif

static crc32c_form *crc32c_choose(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2")) {
        return __builtin_cpu_supports("pclmul") ? crc32c_sse42_three : crc32c_sse42;
    }
#elif defined(__aarch64__) && defined(__linux__)
    if ((getauxval(AT_HWCAP) & CRC32C_HWCAP) != 0) {
        return crc32c_armv8;
    }
#endif
    return crc32c_tables;
}

/* crc32c_chosen: the form in use, NULL until the first call. Relaxed on both sides: it publishes
 * nothing but itself, the code that it points to is always there, and every thread that stores
 * computes the same value. */
static WEIR__ATOMIC(crc32c_form *) crc32c_chosen;

static crc32c_form *crc32c_get(void)
{
    crc32c_form *form = weir__load(&crc32c_chosen, relaxed);
    if (form == NULL) {
        form = crc32c_choose();
        weir__store(&crc32c_chosen, form, relaxed);
    }
    return form;
}

uint32_t weir__crc32c(uint32_t crc, const void *data, size_t len)
{
    return ~crc32c_get()(~crc, data, len);
}

const char *weir__crc32c_name(void)
{
    crc32c_form *const form = crc32c_get();
#if defined(__x86_64__)
    if (form == crc32c_sse42 || form == crc32c_sse42_three) {
        return "sse4.2";
    }
#elif defined(__aarch64__) && defined(__linux__)
    if (form == crc32c_armv8) {
        return "armv8";
    }
#endif
    (void)form;
    return "portable";
}
