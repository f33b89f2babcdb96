/* SPDX-License-Identifier: Apache-2.0
 * A bar on standard error, where that is a terminal. */
#ifndef WEIR_STRESS_PROGRESS_H
#define WEIR_STRESS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what;
    bool terminal;
    bool drawn;
    uint64_t drawn_ns;
};

void progress_begin(struct progress *progress, const char *what);
/* Draws at most ten times a second. */
void progress_show(struct progress *progress, uint64_t done, uint64_t total);
/* Takes the bar away, so that what is printed next stands alone. */
void progress_end(struct progress *progress);

#endif
