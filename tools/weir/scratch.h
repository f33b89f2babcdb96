/* SPDX-License-Identifier: Apache-2.0
 * A directory that a verb fills with a log for a while and then takes away again, without ever
 * touching anything that is not that log's. */
#ifndef WEIR_TOOL_SCRATCH_H
#define WEIR_TOOL_SCRATCH_H

#include <stdbool.h>

struct scratch {
    const char *dir;
    bool existed;
};

/* dir must be empty, or not exist (it is not created). Return: 0 | -ENOTEMPTY | a negative errno.
 */
int scratch_claim(struct scratch *scratch, const char *dir);
/* Removes the files of a log, by their names, and the directory if it did not exist before and is
 * empty now. Return: 0 or a negative errno. */
int scratch_remove(const struct scratch *scratch);

#endif
