/* SPDX-License-Identifier: Apache-2.0
 * A bar on standard error. Drawn over itself with a carriage return; no escape sequences but "erase
 * to the end of the line". Costs a look at the clock per call where there is a terminal, and
 * nothing where there is none. */
#include "progress.h"

#include "clock.h"
#include "text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR_CELLS = 30 };

void progress_begin(struct progress *progress, const char *what)
{
    const uint64_t now_ns = clock_now_ns();

    *progress = (struct progress){.what = what,
                                  .terminal = isatty(STDERR_FILENO) == 1,
                                  .started_ns = now_ns,
                                  .drawn_ns = now_ns};
}

void progress_show(void *ctx, uint64_t done, uint64_t total)
{
    struct progress *progress = ctx;

    if (!progress->terminal) {
        return;
    }
    const uint64_t now_ns = clock_now_ns();
    /* The first tenth of a second draws nothing: what is quick needs no bar. */
    if (now_ns - progress->drawn_ns < 100 * CLOCK_NS_PER_MS) {
        return;
    }
    progress->drawn_ns = now_ns;
    progress->drawn = true;
    const double seconds = (double)(now_ns - progress->started_ns) / 1e9;
    struct text rate = text_bytes((uint64_t)((double)done / seconds));
    if (progress->no_rate) {
        rate.chars[0] = '\0';
    } else {
        strncat(rate.chars, "/s", sizeof(rate.chars) - strlen(rate.chars) - 1);
    }
    if (total == 0) {
        fprintf(stderr, "\r%s  %s  %s\033[K", progress->what, text_bytes(done).chars, rate.chars);
        return;
    }
    const double share = done < total ? (double)done / (double)total : 1.0;
    char bar[BAR_CELLS + 1];
    for (int i = 0; i < BAR_CELLS; i++) {
        bar[i] = share * BAR_CELLS > i ? '#' : '.';
    }
    bar[BAR_CELLS] = '\0';
    fprintf(stderr, "\r%s  [%s] %3.0f %%  %s\033[K", progress->what, bar, share * 100, rate.chars);
}

void progress_end(struct progress *progress)
{
    if (progress->drawn) {
        fprintf(stderr, "\r\033[K");
        progress->drawn = false;
    }
}
