/* SPDX-License-Identifier: Apache-2.0
 * CRC32C in five forms: tables (any processor), the SSE4.2 instruction alone, the same in three
 * streams, carry-less products of 512 bits in front of it, the ARMv8 instruction.
 *
 * The first call looks at the processor and stores the form to use. Several threads may do that at
 * once and store the same. All forms work on the raw remainder; the inversion before and after is
 * done once, in weir__crc32c. */
#include "base/crc32c.h"

#include "base/atomic.h"
#include "base/bytes.h"
#include "base/compiler.h"
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
#define CRC32C_THREE_BYTES 96u  /* below it, joining costs more than the streams save */
#define CRC32C_SHORT_WORDS 42u  /* of a stream at most, by the table: three fit into 1 KiB */
#define CRC32C_LONG_BYTES 1360u /* of a stream: three fit into 4 KiB */

/* x^(64i-33), reflected: moves a remainder over i words. */
static const uint32_t crc32c_moves[2 * CRC32C_SHORT_WORDS + 1] = {
    0,          0x00000001, 0x493c7d27, 0xf20c0dfe, 0xba4fc28e, 0x3da6d0cb, 0xddc0152b, 0x1c291d04,
    0x9e4addf8, 0x740eef02, 0x39d3b296, 0x083a6eec, 0x0715ce53, 0xc49f4f67, 0x47db8317, 0x2ad91c30,
    0x0d3b6092, 0x6992cea2, 0xc96cfdc0, 0x7e908048, 0x878a92a7, 0x1b3d8f29, 0xdaece73e, 0xf1d0f55e,
    0xab7aff2a, 0xa87ab8a8, 0x2162d385, 0x8462d800, 0x83348832, 0x71d111a8, 0x299847d5, 0xffd852c6,
    0xb9e02b86, 0xdcb17aa4, 0x18b33a4e, 0xf37c5aee, 0xb6dd949b, 0x6051d5a2, 0x78d9ccb7, 0x18b0d4ff,
    0xbac2fd7b, 0x21f3d99c, 0xa60ce07b, 0x8f158014, 0xce7f39f4, 0xa00457f7, 0x61d82e56, 0x8d6d2c43,
    0xd270f1a2, 0x00ac29cf, 0xc619809d, 0xe9adf796, 0x2b3cac5d, 0x96638b34, 0x65863b64, 0xe0e9f351,
    0x1b03397f, 0x9af01f2d, 0xebb883bd, 0x2cff42cf, 0xb3e32c28, 0x88f25a3a, 0x064f7f26, 0x4e36f0b0,
    0xdd7e3b0c, 0xbd6f81f8, 0xf285651c, 0x91c9bd4b, 0x10746f3c, 0x885f087b, 0xc7a68855, 0x4c144932,
    0x271d9844, 0x52148f02, 0x8e766a0c, 0xa3c6f37a, 0x93a5f730, 0xd7c0557f, 0x6cb08e5c, 0x63ded06a,
    0x6b749fb2, 0x4d56973c, 0x1393e203, 0x9669c9df, 0xcec3662e,
};
/* The same for one long stream and for two. */
#define CRC32C_LONG_ONE UINT32_C(0x3f70cc6f)
#define CRC32C_LONG_TWO UINT32_C(0x5aa1f3cf)

__attribute__((target("sse4.2,pclmul"))) static inline __m128i crc32c_product(uint64_t crc,
                                                                              uint32_t move)
{
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi32_si128((int)move), 0);
}

/* Three streams of `bytes` each; one and two: the moves over one stream and over two. */
__attribute__((target("sse4.2,pclmul"))) static inline uint64_t
crc32c_three(uint64_t crc, const unsigned char *at, size_t bytes, uint32_t one, uint32_t two)
{
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < bytes; i += 8) {
        crc = _mm_crc32_u64(crc, weir__get_u64(at + i));
        second = _mm_crc32_u64(second, weir__get_u64(at + bytes + i));
        third = _mm_crc32_u64(third, weir__get_u64(at + 2 * bytes + i));
    }
    const __m128i moved = _mm_xor_si128(crc32c_product(crc, two), crc32c_product(second, one));
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(moved)) ^ third;
}

__attribute__((target("sse4.2"))) static inline uint64_t
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
    for (; len >= 3u * CRC32C_LONG_BYTES;
         at += 3u * CRC32C_LONG_BYTES, len -= 3u * CRC32C_LONG_BYTES) {
        wide = crc32c_three(wide, at, CRC32C_LONG_BYTES, CRC32C_LONG_ONE, CRC32C_LONG_TWO);
    }
    while (len >= CRC32C_THREE_BYTES) {
        const size_t third = len / 24;
        const size_t words = third < CRC32C_SHORT_WORDS ? third : CRC32C_SHORT_WORDS;
        wide = crc32c_three(wide, at, 8 * words, crc32c_moves[words], crc32c_moves[2 * words]);
        at += 24 * words;
        len -= 24 * words;
    }
    return (uint32_t)crc32c_rest(wide, at, len);
}

/* Folding. Sixteen bytes are two words L (first) and H; moving them over D more bits multiplies
 * them by x^D, and only the remainder counts: L becomes L * (x^(D+63) mod P) and H becomes
 * H * (x^(D-1) mod P), again with the one bit by which a product of reflected words is off. Four
 * registers of four such pairs take 256 bytes per turn; then they are folded onto one another until
 * sixteen bytes are left, whose remainder crc32q takes. */
#define CRC32C_WIDE __attribute__((target("avx512f,avx512vl,vpclmulqdq,pclmul,sse4.2")))
#define CRC32C_WIDE_BYTES 256u

/* x^(D+63) and x^(D-1), reflected, for D = 2048, 1536, 1024, 512, 384, 256, 128. */
enum crc32c_fold { FOLD_2048, FOLD_1536, FOLD_1024, FOLD_512, FOLD_384, FOLD_256, FOLD_128 };
static const uint64_t crc32c_folds[][2] = {
    {UINT64_C(0xe9a5d8be00000000), UINT64_C(0x1426a81500000000)},
    {UINT64_C(0x7ccbbbf200000000), UINT64_C(0x31c9460800000000)},
    {UINT64_C(0x6577b24500000000), UINT64_C(0x7417153f00000000)},
    {UINT64_C(0x1c19243b00000000), UINT64_C(0x75bba45b00000000)},
    {UINT64_C(0xa46ef4aa00000000), UINT64_C(0x6051243f00000000)},
    {UINT64_C(0x33ccbbbc00000000), UINT64_C(0xa2158b3400000000)},
    {UINT64_C(0x3743f7bd00000000), UINT64_C(0x3171d43000000000)},
};

CRC32C_WIDE static inline __m128i crc32c_fold_by(enum crc32c_fold fold)
{
    return _mm_set_epi64x((long long)crc32c_folds[fold][1], (long long)crc32c_folds[fold][0]);
}

/* Four pairs moved onto the four of `onto`. 0x96: exclusive or of three. */
CRC32C_WIDE static inline __m512i crc32c_fold4(__m512i pairs, __m512i by, __m512i onto)
{
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(pairs, by, 0x00),
                                     _mm512_clmulepi64_epi128(pairs, by, 0x11),
                                     onto,
                                     0x96);
}

CRC32C_WIDE static inline __m128i crc32c_fold1(__m128i pair, enum crc32c_fold fold)
{
    const __m128i by = crc32c_fold_by(fold);
    return _mm_xor_si128(_mm_clmulepi64_si128(pair, by, 0x00),
                         _mm_clmulepi64_si128(pair, by, 0x11));
}

CRC32C_WIDE static uint32_t crc32c_wide(uint32_t crc, const unsigned char *at, size_t len)
{
    if (len < CRC32C_WIDE_BYTES) {
        return crc32c_sse42_three(crc, at, len);
    }
    __m512i a = _mm512_loadu_si512(at);
    __m512i b = _mm512_loadu_si512(at + 64);
    __m512i c = _mm512_loadu_si512(at + 128);
    __m512i d = _mm512_loadu_si512(at + 192);
    a = _mm512_xor_si512(a, _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
    at += CRC32C_WIDE_BYTES;
    len -= CRC32C_WIDE_BYTES;
    const __m512i by_2048 = _mm512_broadcast_i32x4(crc32c_fold_by(FOLD_2048));
    for (; len >= CRC32C_WIDE_BYTES; at += CRC32C_WIDE_BYTES, len -= CRC32C_WIDE_BYTES) {
        a = crc32c_fold4(a, by_2048, _mm512_loadu_si512(at));
        b = crc32c_fold4(b, by_2048, _mm512_loadu_si512(at + 64));
        c = crc32c_fold4(c, by_2048, _mm512_loadu_si512(at + 128));
        d = crc32c_fold4(d, by_2048, _mm512_loadu_si512(at + 192));
    }
    const __m512i by_512 = _mm512_broadcast_i32x4(crc32c_fold_by(FOLD_512));
    d = crc32c_fold4(a, _mm512_broadcast_i32x4(crc32c_fold_by(FOLD_1536)), d);
    d = crc32c_fold4(b, _mm512_broadcast_i32x4(crc32c_fold_by(FOLD_1024)), d);
    d = crc32c_fold4(c, by_512, d);
    for (; len >= 64; at += 64, len -= 64) {
        d = crc32c_fold4(d, by_512, _mm512_loadu_si512(at));
    }
    __m128i pair = _mm512_extracti32x4_epi32(d, 3);
    pair = _mm_xor_si128(pair, crc32c_fold1(_mm512_castsi512_si128(d), FOLD_384));
    pair = _mm_xor_si128(pair, crc32c_fold1(_mm512_extracti32x4_epi32(d, 1), FOLD_256));
    pair = _mm_xor_si128(pair, crc32c_fold1(_mm512_extracti32x4_epi32(d, 2), FOLD_128));
    uint64_t wide = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(pair));
    wide = _mm_crc32_u64(wide, (uint64_t)_mm_extract_epi64(pair, 1));
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

/* ---- choosing -------------------------------------------------------------------------------- */

/* The fastest first; the last one is there on every processor. */
static const struct crc32c_row {
    const char *name;
    crc32c_form *form;
} crc32c_rows[] = {
#if defined(__x86_64__)
    {"avx512", crc32c_wide},
    {"sse4.2+pclmul", crc32c_sse42_three},
    {"sse4.2", crc32c_sse42},
#elif defined(__aarch64__) && defined(__linux__)
    {"armv8", crc32c_armv8},
#endif
    {"portable", crc32c_tables},
};

#define CRC32C_ROWS (sizeof crc32c_rows / sizeof crc32c_rows[0])

static bool crc32c_runs_here(crc32c_form *form)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (form == crc32c_wide) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("pclmul") &&
               __builtin_cpu_supports("sse4.2");
    }
    if (form == crc32c_sse42_three) {
        return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.2");
    }
    if (form == crc32c_sse42) {
        return __builtin_cpu_supports("sse4.2");
    }
#elif defined(__aarch64__) && defined(__linux__)
    if (form == crc32c_armv8) {
        return (getauxval(AT_HWCAP) & CRC32C_HWCAP) != 0;
    }
#endif
    return form == crc32c_tables;
}

/* crc32c_chosen: 1 + the row in use, 0 until the first call. Relaxed on both sides: it publishes
 * nothing but itself, the rows are always there, and every thread that stores computes the same
 * value. */
static WEIR__ATOMIC(unsigned) crc32c_chosen;
#if defined(__x86_64__)
/* Set with it: the row in use has the instruction. */
static WEIR__ATOMIC(unsigned) crc32c_instruction;
#endif

static unsigned crc32c_choose(void)
{
    unsigned row = 0;
    while (!crc32c_runs_here(crc32c_rows[row].form)) {
        row++;
    }
    weir__store(&crc32c_chosen, row + 1, relaxed);
#if defined(__x86_64__)
    weir__store(&crc32c_instruction, crc32c_rows[row].form != crc32c_tables, relaxed);
#endif
    return row;
}

static inline const struct crc32c_row *crc32c_get(void)
{
    const unsigned chosen = weir__load(&crc32c_chosen, relaxed);
    return &crc32c_rows[WEIR__LIKELY(chosen != 0) ? chosen - 1 : crc32c_choose()];
}

uint32_t weir__crc32c(uint32_t crc, const void *data, size_t len)
{
    return ~crc32c_get()->form(~crc, data, len);
}

/* Out of line, so that the form below has no array. */
static __attribute__((noinline)) uint32_t
crc32c_words(uint32_t crc, uint64_t first, uint64_t second, uint64_t third, uint32_t fourth)
{
    unsigned char bytes[28];
    weir__put_u64(bytes, first);
    weir__put_u64(bytes + 8, second);
    weir__put_u64(bytes + 16, third);
    weir__put_u32(bytes + 24, fourth);
    return weir__crc32c(crc, bytes, sizeof bytes);
}

uint32_t
weir__crc32c_words(uint32_t crc, uint64_t first, uint64_t second, uint64_t third, uint32_t fourth)
{
#if defined(__x86_64__)
    if (WEIR__LIKELY(weir__load(&crc32c_instruction, relaxed) != 0)) {
        /* Assembly, so that it needs no function of its own that is built for the instruction. */
        uint64_t wide = ~crc;
        __asm__("crc32q %1, %0" : "+r"(wide) : "r"(first));
        __asm__("crc32q %1, %0" : "+r"(wide) : "r"(second));
        __asm__("crc32q %1, %0" : "+r"(wide) : "r"(third));
        uint32_t last = (uint32_t)wide;
        __asm__("crc32l %1, %0" : "+r"(last) : "r"(fourth));
        return ~last;
    }
#endif
    return crc32c_words(crc, first, second, third, fourth);
}

const char *weir__crc32c_name(void)
{
    return crc32c_get()->name;
}

const char *weir__crc32c_form(unsigned index, uint32_t *crc, const void *data, size_t len)
{
    for (unsigned row = 0; row < CRC32C_ROWS; row++) {
        if (crc32c_runs_here(crc32c_rows[row].form) && index-- == 0) {
            *crc = ~crc32c_rows[row].form(~*crc, data, len);
            return crc32c_rows[row].name;
        }
    }
    return NULL;
}
