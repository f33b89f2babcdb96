/* SPDX-License-Identifier: Apache-2.0
 * What a log says while a verb has it open, on standard error. */
#ifndef WEIR_TOOL_NOTES_H
#define WEIR_TOOL_NOTES_H

#include <weir/weir.h>

struct notes {
    const char *verb;
    const char *dir;
};

/* An on_event hook; event_ctx is a struct notes. Tells poison, stalls and disk space; a fallback is
 * part of each verb's own report, and so is what was recovered. */
void notes_event(void *ctx, const struct weir_event *event);
/* If the opening cut a torn tail, says so. */
void notes_recovered(const struct notes *notes, struct weir_log *log);

#endif
