/* SPDX-License-Identifier: Apache-2.0
 * The same load by fio, where it is installed, to compare with. */
#ifndef WEIR_TOOL_FIO_H
#define WEIR_TOOL_FIO_H

#include "ioload.h"

#include <stdbool.h>

struct fio_result {
    double iops;
    double mb_per_s;
    double p50_us;
    double p90_us;
    double p99_us;
    double p99_9_us;
    double max_us;
};

/* Is fio on PATH? */
bool fio_found(void);
/* Runs fio with an engine of its own on the same file. Return: true with *out filled; false: why
 * holds a sentence. */
bool fio_run(const struct ioload_options *options,
             const char *engine,
             struct fio_result *out,
             char *why,
             size_t why_bytes);

#endif
