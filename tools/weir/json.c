/* SPDX-License-Identifier: Apache-2.0
 * JSON as it comes. Each value first puts the comma that the values before it call for. Nothing is
 * allocated; nesting is bounded by JSON_DEPTH_MAX and known to the callers. One thread per struct.
 */
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void value_comma(struct json *json)
{
    if (json->after_key) {
        json->after_key = false;
        return;
    }
    if (json->more[json->depth]) {
        putc_unlocked(',', json->to);
    }
    json->more[json->depth] = true;
}

void json_begin(struct json *json, char bracket)
{
    value_comma(json);
    putc_unlocked(bracket, json->to);
    if (json->depth + 1 < JSON_DEPTH_MAX) {
        json->depth++;
    }
    json->more[json->depth] = false;
}

void json_end(struct json *json, char bracket)
{
    putc_unlocked(bracket, json->to);
    if (json->depth > 0) {
        json->depth--;
    }
}

void json_line(struct json *json)
{
    putc_unlocked('\n', json->to);
    json->depth = 0;
    json->more[0] = false;
    json->after_key = false;
}

void json_text(struct json *json, const char *bytes, size_t count)
{
    static const char hex[] = "0123456789abcdef";

    value_comma(json);
    putc_unlocked('"', json->to);
    size_t plain = 0; /* start of what needs no escape and was not written yet */
    for (size_t i = 0; i < count; i++) {
        const unsigned char byte = (unsigned char)bytes[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f) {
            continue;
        }
        fwrite(bytes + plain, 1, i - plain, json->to);
        plain = i + 1;
        putc_unlocked('\\', json->to);
        switch (byte) {
        case '"':
        case '\\':
            putc_unlocked(byte, json->to);
            break;
        case '\n':
            putc_unlocked('n', json->to);
            break;
        case '\r':
            putc_unlocked('r', json->to);
            break;
        case '\t':
            putc_unlocked('t', json->to);
            break;
        default:
            fputs("u00", json->to);
            putc_unlocked(hex[byte >> 4], json->to);
            putc_unlocked(hex[byte & 15], json->to);
            break;
        }
    }
    fwrite(bytes + plain, 1, count - plain, json->to);
    putc_unlocked('"', json->to);
}

void json_base64(struct json *json, const unsigned char *bytes, size_t count)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    value_comma(json);
    putc_unlocked('"', json->to);
    for (size_t i = 0; i < count; i += 3) {
        const size_t left = count - i;
        const uint32_t word = (uint32_t)bytes[i] << 16 |
                              (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                              (left > 2 ? (uint32_t)bytes[i + 2] : 0);
        putc_unlocked(digits[word >> 18 & 63], json->to);
        putc_unlocked(digits[word >> 12 & 63], json->to);
        putc_unlocked(left > 1 ? digits[word >> 6 & 63] : '=', json->to);
        putc_unlocked(left > 2 ? digits[word & 63] : '=', json->to);
    }
    putc_unlocked('"', json->to);
}

void json_hex(struct json *json, const unsigned char *bytes, size_t count)
{
    static const char hex[] = "0123456789abcdef";

    value_comma(json);
    putc_unlocked('"', json->to);
    for (size_t i = 0; i < count; i++) {
        putc_unlocked(hex[bytes[i] >> 4], json->to);
        putc_unlocked(hex[bytes[i] & 15], json->to);
    }
    putc_unlocked('"', json->to);
}

void json_key(struct json *json, const char *key)
{
    json_text(json, key, strlen(key));
    putc_unlocked(':', json->to);
    json->after_key = true;
}

void json_member_text(struct json *json, const char *key, const char *text)
{
    const size_t count = strlen(text);

    json_key(json, key);
    /* A path may hold anything; what is not UTF-8 would make the whole line unreadable. */
    if (json_is_utf8((const unsigned char *)text, count)) {
        json_text(json, text, count);
    } else {
        json_base64(json, (const unsigned char *)text, count);
    }
}

void json_member_u64(struct json *json, const char *key, uint64_t value)
{
    json_key(json, key);
    value_comma(json);
    fprintf(json->to, "%" PRIu64, value);
}

void json_member_i64(struct json *json, const char *key, int64_t value)
{
    json_key(json, key);
    value_comma(json);
    fprintf(json->to, "%" PRId64, value);
}

void json_member_bool(struct json *json, const char *key, bool value)
{
    json_key(json, key);
    value_comma(json);
    fputs(value ? "true" : "false", json->to);
}

void json_member_null(struct json *json, const char *key)
{
    json_key(json, key);
    value_comma(json);
    fputs("null", json->to);
}

void json_member_real(struct json *json, const char *key, double value, int decimals)
{
    if (!isfinite(value)) {
        json_member_null(json, key);
        return;
    }
    json_key(json, key);
    value_comma(json);
    fprintf(json->to, "%.*f", decimals, value);
}

void json_member_lsn(struct json *json, const char *key, uint64_t lsn)
{
    if (lsn == UINT64_MAX) {
        json_member_null(json, key);
    } else {
        json_member_u64(json, key, lsn);
    }
}

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

bool json_is_utf8(const unsigned char *bytes, size_t count)
{
    size_t i = 0;

    while (i < count) {
        const unsigned char lead = bytes[i];
        const size_t left = count - i - 1;
        if (lead < 0x80) {
            i += 1;
            continue;
        }
        if (left < 1 || !is_continuation(bytes[i + 1])) {
            return false;
        }
        const unsigned char second = bytes[i + 1];
        if (lead >= 0xc2 && lead <= 0xdf) {
            i += 2;
            continue;
        }
        if (left < 2 || !is_continuation(bytes[i + 2])) {
            return false;
        }
        if (lead >= 0xe0 && lead <= 0xef) {
            /* E0 with a low second byte is overlong, ED with a high one a surrogate. */
            if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) {
                return false;
            }
            i += 3;
            continue;
        }
        if (left < 3 || !is_continuation(bytes[i + 3]) || lead < 0xf0 || lead > 0xf4 ||
            (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) {
            return false;
        }
        i += 4;
    }
    return true;
}
