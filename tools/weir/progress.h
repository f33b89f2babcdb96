/* SPDX-License-Identifier: Apache-2.0
 * A bar on standard error for anything long, drawn only where that is a terminal. */
#ifndef WEIR_TOOL_PROGRESS_H
#define WEIR_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what;
    bool terminal;
    bool drawn;
    bool no_rate; /* what is counted is not bytes */
    uint64_t started_ns;
    uint64_t drawn_ns;
};

void progress_begin(struct progress *progress, const char *what);
/* Draws at most ten times a second. total 0: not known. Fits the library's progress callbacks. One
 * thread. */
void progress_show(void *ctx, uint64_t done, uint64_t total);
/* Takes the bar away, so that what is printed next stands alone. */
void progress_end(struct progress *progress);

#endif
