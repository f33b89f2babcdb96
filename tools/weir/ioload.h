/* SPDX-License-Identifier: Apache-2.0
 * The load of weir iobench: one thread that keeps so many reads or writes of one file under way
 * through a queue of weir/io.h, and the figures of that. */
#ifndef WEIR_TOOL_IOLOAD_H
#define WEIR_TOOL_IOLOAD_H

#include "histogram.h"

#include <stdbool.h>
#include <stdint.h>
#include <weir/io.h>

struct ioload_options {
    const char *path;
    uint64_t bytes; /* of the file that are used */
    uint64_t block; /* bytes of an operation */
    bool sequential;
    bool write;
    uint64_t depth; /* operations under way, always */
    uint64_t batch; /* submitted at once, at most */
    bool direct;
    uint64_t sync_every; /* writes between two syncs; 0: none */
    bool registered;     /* the queue's own buffers */
    double seconds;
    enum weir_io_backend backend;
    uint64_t seed;
};

struct ioload_result {
    double seconds;
    double cpu_seconds;
    uint64_t ops; /* reads or writes that ended in the window */
    uint64_t syncs;
    struct histogram latency; /* of these, from submission to end, in ns */
    struct histogram sync;    /* of the syncs */
    struct weir_io_effective effective;
    struct weir_io_stats stats;
    int code; /* of the first failure */
    char cause[480];
};

/* Makes the file, with bytes that are no pattern, in all its blocks, on the device. The file must
 * not be there. Return: 0, or a negative code with cause set and no file left; -EINTR: a stop was
 * asked for. */
int ioload_make(const struct ioload_options *options, struct ioload_result *result);
/* Return: 0, or a negative code with cause set; -EINTR: a stop was asked for. */
int ioload_run(const struct ioload_options *options, struct ioload_result *result);

#endif
