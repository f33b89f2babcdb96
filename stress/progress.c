/* SPDX-License-Identifier: Apache-2.0
 * A bar that is drawn over itself. */
#include "progress.h"

#include "clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { BAR_CELLS = 30 };

void progress_begin(struct progress *progress, const char *what)
{
    *progress = (struct progress){.what = what,
                                  .terminal = isatty(STDERR_FILENO) == 1,
                                  .drawn_ns = clock_now_ns()};
}

void progress_show(struct progress *progress, uint64_t done, uint64_t total)
{
    const uint64_t now_ns = clock_now_ns();

    if (!progress->terminal || now_ns - progress->drawn_ns < 100 * CLOCK_NS_PER_MS) {
        return;
    }
    char bar[BAR_CELLS + 1];
    for (uint64_t i = 0; i < BAR_CELLS; i++) {
        bar[i] = i * total < done * BAR_CELLS ? '#' : '.';
    }
    bar[BAR_CELLS] = '\0';
    fprintf(stderr,
            "\r%s  [%s] %" PRIu64 " of %" PRIu64 "\033[K",
            progress->what,
            bar,
            done,
            total);
    progress->drawn = true;
    progress->drawn_ns = now_ns;
}

void progress_end(struct progress *progress)
{
    if (progress->drawn) {
        fprintf(stderr, "\r\033[K");
        progress->drawn = false;
    }
}
