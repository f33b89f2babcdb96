/* SPDX-License-Identifier: Apache-2.0
 * Records out of a stream of bytes of any length, in bounded memory: one buffer, which grows only
 * as far as the largest record that the log takes. One thread. */
#ifndef WEIR_TOOL_INTAKE_H
#define WEIR_TOOL_INTAKE_H

#include "framing.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct intake {
    int fd;      /* borrowed */
    int stop_fd; /* borrowed; readable: behave as if the input ended here */
    enum framing framing;
    size_t record_bytes_max;
    unsigned char *buffer;
    size_t capacity;
    size_t start;   /* of what was not given out */
    size_t end;     /* of what was read */
    size_t scanned; /* no separator between start and here */
    bool at_end;
    bool stopped;
    uint64_t bytes_read;
};

enum intake_result {
    INTAKE_RECORD,
    INTAKE_MORE, /* the buffer holds no whole record: call intake_fill */
    INTAKE_END,
    INTAKE_TOO_BIG, /* a record beyond record_bytes_max */
    INTAKE_CUT,     /* the input ends inside a record (length-prefixed only) */
};

/* Return: 0 or -ENOMEM. */
int intake_open(struct intake *intake,
                int fd,
                int stop_fd,
                enum framing framing,
                size_t record_bytes_max);
void intake_close(struct intake *intake);
/* The next record of the buffer; data lives until intake_fill. */
enum intake_result
intake_next(struct intake *intake, const unsigned char **data_out, size_t *bytes_out);
/* Reads more; may wait for it. Return: 0 or a negative errno. */
int intake_fill(struct intake *intake);

#endif
