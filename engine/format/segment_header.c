/* SPDX-License-Identifier: Apache-2.0
 * Segment headers and segment names (FORMAT.md sections 1 and 4).
 *
 * A header is read in this order: magic, checksum, version, features, fields. Up to the checksum a
 * fault says that the bytes are damaged or somebody else's; from then on an unknown version or
 * feature says that another build wrote them, and nothing behind the version is looked at.
 *
 * Pure functions of their arguments: any thread, no state. */
#include "format/segment_header.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/num.h"

#define SEGMENT_AT_MAGIC 0
#define SEGMENT_AT_CRC 4
#define SEGMENT_AT_VERSION 8
#define SEGMENT_AT_FEATURES 12
#define SEGMENT_AT_LOG_ID 16
#define SEGMENT_AT_NUMBER 24
#define SEGMENT_AT_BASE 32
#define SEGMENT_AT_BYTES 40
#define SEGMENT_AT_EPOCH 48
#define SEGMENT_AT_PREV_NUMBER 56
#define SEGMENT_AT_PREV_BASE 64
#define SEGMENT_AT_BLOCK_BYTES 72
#define SEGMENT_AT_ORIGIN 76
#define SEGMENT_AT_WALL_NS 80
#define SEGMENT_AT_RESERVED 88

#define SEGMENT_NAME_SUFFIX ".weir"
#define SEGMENT_NAME_ALIGN 512u

static uint32_t segment_header_crc(const uint8_t *header)
{
    return weir__crc32c(0,
                        header + SEGMENT_AT_VERSION,
                        WEIR__SEGMENT_HEADER_BYTES - SEGMENT_AT_VERSION);
}

void weir__segment_header_encode(const struct weir__segment_header *header,
                                 uint8_t out[WEIR__SEGMENT_HEADER_BYTES])
{
    memset(out, 0, WEIR__SEGMENT_HEADER_BYTES);
    weir__put_u32(out + SEGMENT_AT_MAGIC, WEIR__SEGMENT_MAGIC);
    weir__put_u32(out + SEGMENT_AT_VERSION, WEIR__FORMAT_VERSION);
    weir__put_u64(out + SEGMENT_AT_LOG_ID, header->log_id);
    weir__put_u64(out + SEGMENT_AT_NUMBER, header->number);
    weir__put_u64(out + SEGMENT_AT_BASE, header->base);
    weir__put_u64(out + SEGMENT_AT_BYTES, header->bytes);
    weir__put_u64(out + SEGMENT_AT_EPOCH, header->epoch);
    weir__put_u64(out + SEGMENT_AT_PREV_NUMBER, header->prev_number);
    weir__put_u64(out + SEGMENT_AT_PREV_BASE, header->prev_base);
    weir__put_u32(out + SEGMENT_AT_BLOCK_BYTES, header->block_bytes);
    weir__put_u32(out + SEGMENT_AT_ORIGIN, header->origin);
    weir__put_u64(out + SEGMENT_AT_WALL_NS, header->wall_ns);
    weir__put_u32(out + SEGMENT_AT_CRC, segment_header_crc(out));
}

static void segment_header_read(const uint8_t *in, struct weir__segment_header *header_out)
{
    *header_out = (struct weir__segment_header){
        .log_id = weir__get_u64(in + SEGMENT_AT_LOG_ID),
        .number = weir__get_u64(in + SEGMENT_AT_NUMBER),
        .base = weir__get_u64(in + SEGMENT_AT_BASE),
        .bytes = weir__get_u64(in + SEGMENT_AT_BYTES),
        .epoch = weir__get_u64(in + SEGMENT_AT_EPOCH),
        .prev_number = weir__get_u64(in + SEGMENT_AT_PREV_NUMBER),
        .prev_base = weir__get_u64(in + SEGMENT_AT_PREV_BASE),
        .block_bytes = weir__get_u32(in + SEGMENT_AT_BLOCK_BYTES),
        .origin = weir__get_u32(in + SEGMENT_AT_ORIGIN),
        .wall_ns = weir__get_u64(in + SEGMENT_AT_WALL_NS),
    };
}

/* What is wrong with fields of version 1 whose checksum held; NULL if nothing is. */
static const char *segment_header_fault(const struct weir__segment_header *header)
{
    if (header->log_id == 0) {
        return "segment log id";
    }
    if (!weir__is_pow2(header->block_bytes) || header->block_bytes < WEIR__BLOCK_BYTES_MIN ||
        header->block_bytes > WEIR__BLOCK_BYTES_MAX) {
        return "segment block size";
    }
    if (header->bytes % header->block_bytes != 0 || header->bytes / header->block_bytes < 2) {
        return "segment size"; /* a header and at least one block of batches */
    }
    if (header->base % header->block_bytes != 0 || header->base > WEIR__LSN_MAX ||
        header->bytes > WEIR__LSN_MAX - header->base) {
        return "segment base";
    }
    if (header->epoch == 0) {
        return "segment epoch";
    }
    if (header->prev_number == WEIR__SEGMENT_NONE) {
        if (header->prev_base != 0) {
            return "segment predecessor";
        }
    } else if (header->prev_number >= header->number || header->prev_base >= header->base) {
        return "segment predecessor";
    }
    if (header->origin != WEIR__SEGMENT_ZEROED && header->origin != WEIR__SEGMENT_RECYCLED) {
        return "segment origin";
    }
    return NULL;
}

int weir__segment_header_decode(const uint8_t in[WEIR__SEGMENT_HEADER_BYTES],
                                struct weir__segment_header *header_out,
                                const char **why_out)
{
    int status = WEIR_ECORRUPT;
    const char *why = NULL;

    segment_header_read(in, header_out);
    if (weir__get_u32(in + SEGMENT_AT_MAGIC) != WEIR__SEGMENT_MAGIC) {
        why = "segment magic";
    } else if (weir__get_u32(in + SEGMENT_AT_CRC) != segment_header_crc(in)) {
        why = "segment header checksum";
    } else if (weir__get_u32(in + SEGMENT_AT_VERSION) != WEIR__FORMAT_VERSION) {
        status = WEIR_EFORMAT;
        why = "segment version";
    } else if (weir__get_u32(in + SEGMENT_AT_FEATURES) != 0) {
        status = WEIR_EFORMAT;
        why = "segment features";
    } else if (!weir__all_zero(in + SEGMENT_AT_RESERVED,
                               WEIR__SEGMENT_HEADER_BYTES - SEGMENT_AT_RESERVED)) {
        why = "segment reserved bytes";
    } else {
        why = segment_header_fault(header_out);
        if (why == NULL) {
            status = 0;
        }
    }
    if (why_out != NULL) {
        *why_out = why;
    }
    return status;
}

/* ---- names ---- */

static void segment_name_put(uint64_t value, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--) {
        out[i] = digits[value & 15u];
        value >>= 4;
    }
}

/* Reads 16 digits and stops at the first byte that is none, so that it never passes the end of a
 * shorter string. */
static bool segment_name_get(const char *in, uint64_t *value_out)
{
    uint64_t value = 0;
    for (int i = 0; i < 16; i++) {
        unsigned digit;
        if (in[i] >= '0' && in[i] <= '9') {
            digit = (unsigned)(in[i] - '0');
        } else if (in[i] >= 'a' && in[i] <= 'f') {
            digit = (unsigned)(in[i] - 'a') + 10u;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    *value_out = value;
    return true;
}

void weir__segment_name(weir_lsn base, weir_lsn end, char out[WEIR__SEGMENT_NAME_BYTES])
{
    segment_name_put(base, out);
    out[16] = '-';
    segment_name_put(end, out + 17);
    memcpy(out + 33, SEGMENT_NAME_SUFFIX, sizeof SEGMENT_NAME_SUFFIX);
}

_Static_assert(33 + sizeof SEGMENT_NAME_SUFFIX == WEIR__SEGMENT_NAME_BYTES,
               "a name fills its buffer");

bool weir__segment_name_parse(const char *name, weir_lsn *base_out, weir_lsn *end_out)
{
    weir_lsn base;
    weir_lsn end;
    if (!segment_name_get(name, &base) || name[16] != '-' || !segment_name_get(name + 17, &end) ||
        strcmp(name + 33, SEGMENT_NAME_SUFFIX) != 0) {
        return false;
    }
    if (base >= end || end > WEIR__LSN_MAX || base % SEGMENT_NAME_ALIGN != 0 ||
        end % SEGMENT_NAME_ALIGN != 0) {
        return false;
    }
    *base_out = base;
    *end_out = end;
    return true;
}
