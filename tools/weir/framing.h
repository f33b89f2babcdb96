/* SPDX-License-Identifier: Apache-2.0
 * How records stand in a stream of bytes: the options --zero and --length-prefixed of ingest and
 * cat. */
#ifndef WEIR_TOOL_FRAMING_H
#define WEIR_TOOL_FRAMING_H

#include <stddef.h>
#include <stdio.h>

enum framing {
    FRAMING_LINES,  /* each record ends in a newline, the last one of a stream may lack it */
    FRAMING_ZERO,   /* the same with a NUL byte */
    FRAMING_LENGTH, /* u32 little-endian count of bytes, then the bytes */
};

enum { FRAMING_LENGTH_BYTES = 4 };

/* Writes one record; errors stay in the stream. bytes must be below 4 GiB. */
void framing_write(enum framing framing, const void *data, size_t bytes, FILE *to);

#endif
