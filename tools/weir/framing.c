/* SPDX-License-Identifier: Apache-2.0
 * Writing records into a stream. Reading them is intake.c. */
#include "framing.h"

void framing_write(enum framing framing, const void *data, size_t bytes, FILE *to)
{
    if (framing == FRAMING_LENGTH) {
        for (unsigned i = 0; i < FRAMING_LENGTH_BYTES; i++) {
            putc_unlocked((int)(bytes >> 8 * i & 0xff), to);
        }
    }
    if (bytes != 0) {
        fwrite(data, 1, bytes, to);
    }
    if (framing == FRAMING_LINES) {
        putc_unlocked('\n', to);
    } else if (framing == FRAMING_ZERO) {
        putc_unlocked('\0', to);
    }
}
