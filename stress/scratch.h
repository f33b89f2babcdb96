/* SPDX-License-Identifier: Apache-2.0
 * A directory for a run, and signals that end the run instead of the process, so that nothing is
 * left behind. */
#ifndef WEIR_STRESS_SCRATCH_H
#define WEIR_STRESS_SCRATCH_H

#include <stdbool.h>

struct scratch {
    char path[4096];
    bool made; /* by us: removed at the end unless it is kept */
};

/* dir NULL: a new one in $TMPDIR or /tmp. Otherwise dir, made if missing; it must be empty.
 * Return: 0 or a negative errno. */
int scratch_open(struct scratch *scratch, const char *dir);
/* Removes everything below path, and the directory if it was made here. Nothing below other file
 * systems is touched. */
void scratch_remove(const struct scratch *scratch);

/* SIGINT, SIGTERM and SIGHUP ask the run to stop. */
void stop_install(void);
bool stop_asked(void);

#endif
