/* SPDX-License-Identifier: Apache-2.0
 * The load of weir bench: N threads that append records of incompressible bytes to a log, a
 * warm-up, a window in which is measured, and the figures of that window. */
#ifndef WEIR_TOOL_LOAD_H
#define WEIR_TOOL_LOAD_H

#include "histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/weir.h>

enum load_wait {
    LOAD_WAIT_DURABLE = WEIR_DURABLE,
    LOAD_WAIT_WRITTEN = WEIR_WRITTEN,
    LOAD_WAIT_NONE,
};

struct load_options {
    size_t producers;
    size_t size;  /* bytes of a record */
    size_t group; /* records per atomic group; 1: plain records */
    double seconds;
    enum load_wait wait;
    bool async; /* with LOAD_WAIT_DURABLE: nobody waits, and the window ends when everything is
                   durable */
    bool rotation_tail;
    uint64_t retain_bytes;
    uint64_t segment_bytes;
};

struct load_result {
    double seconds; /* of the window */
    double warm_up_seconds;
    uint64_t records; /* appended in the window; async: and durable at its end */
    double cpu_seconds;
    struct weir_stats begin;
    struct weir_stats end;
    struct histogram latency; /* of calls that began in the window, in ns */
    struct histogram ack;     /* async: append to durability, sampled */
    uint64_t rotations; /* rotation_tail: how many, and the calls near to one and far from any */
    struct histogram near;
    struct histogram rest;
    int code; /* of the first failure */
    char cause[320];
};

/* Return: 0, or a negative code with cause set; -EINTR: a stop was asked for. */
int load_run(struct weir_log *log, const struct load_options *options, struct load_result *result);

#endif
