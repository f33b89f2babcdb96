/* SPDX-License-Identifier: Apache-2.0
 * Notes on standard error, one line each. Called from the log's own threads as well, so each is one
 * fprintf. */
#include "notes.h"

#include "text.h"

#include <stdio.h>

void notes_event(void *ctx, const struct weir_event *event)
{
    const struct notes *notes = ctx;

    switch (event->kind) {
    case WEIR_EVENT_POISON:
    case WEIR_EVENT_STALL:
    case WEIR_EVENT_SLOW:
    case WEIR_EVENT_SPACE_LOW:
    case WEIR_EVENT_SPACE_BACK:
        fprintf(stderr,
                "weir %s: %s: note: %s\n",
                notes->verb,
                notes->dir,
                event->text != NULL ? event->text : weir_strerror(event->code));
        break;
    case WEIR_EVENT_FALLBACK:
    case WEIR_EVENT_RECOVERED:
        break;
    }
}

void notes_recovered(const struct notes *notes, struct weir_log *log)
{
    struct weir_report report;

    weir_log_report(log, &report);
    if (report.verdict == WEIR_VERDICT_TORN) {
        fprintf(stderr,
                "weir %s: %s: note: cut a torn tail at LSN %s, %s behind it: %s\n",
                notes->verb,
                notes->dir,
                text_lsn(report.end_lsn).chars,
                text_bytes(report.bytes_cut).chars,
                report.why);
    }
}
