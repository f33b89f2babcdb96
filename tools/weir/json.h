/* SPDX-License-Identifier: Apache-2.0
 * JSON, written as it comes: compact, one value after the other, commas placed by the writer.
 * Strings are escaped so that every valid UTF-8 text comes through; bytes that are not UTF-8 are
 * for json_base64. The stream keeps its own error state, looked at when it is flushed. */
#ifndef WEIR_TOOL_JSON_H
#define WEIR_TOOL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct weir_error;

enum { JSON_DEPTH_MAX = 16 };

struct json {
    FILE *to;
    unsigned depth;
    bool more[JSON_DEPTH_MAX]; /* this level has a member already */
    bool after_key;
};
#define JSON_INIT(stream)                                                                          \
    {                                                                                              \
        .to = (stream)                                                                             \
    }

/* A whole value, or, with a key before it, a member's. */
void json_begin(struct json *json, char bracket); /* '{' or '[' */
void json_end(struct json *json, char bracket);   /* '}' or ']' */
void json_key(struct json *json, const char *key);
void json_text(struct json *json, const char *bytes, size_t count);
void json_base64(struct json *json, const unsigned char *bytes, size_t count);
void json_hex(struct json *json, const unsigned char *bytes, size_t count);
/* Ends the line and forgets the value before. */
void json_line(struct json *json);

/* Members. */
void json_member_text(struct json *json, const char *key, const char *text);
void json_member_u64(struct json *json, const char *key, uint64_t value);
void json_member_i64(struct json *json, const char *key, int64_t value);
void json_member_bool(struct json *json, const char *key, bool value);
void json_member_null(struct json *json, const char *key);
/* null for what is not finite. */
void json_member_real(struct json *json, const char *key, double value, int decimals);
/* null for UINT64_MAX, which means none in weir.h. */
void json_member_lsn(struct json *json, const char *key, uint64_t lsn);
/* "error":{"code":..,"name":..,"text":..,...} */
void json_member_error(struct json *json, int code, const struct weir_error *error);

/* True if the bytes are well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
bool json_is_utf8(const unsigned char *bytes, size_t count);

#endif
