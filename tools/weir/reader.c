/* SPDX-License-Identifier: Apache-2.0
 * Reading a log. Without --level, what is shown depends on whether somebody appends to it now:
 * beside a live writer only what is durable, because the rest may still be lost; of a log that
 * nobody writes, everything that verifies, because that is what the next opening will keep. */
#include "reader.h"

#include "text.h"

#include <string.h>

static enum weir_level level_choose(const struct reader *reader)
{
    struct weir_report report;

    if (reader->level_given) {
        return (enum weir_level)reader->level;
    }
    if (reader->follow) {
        return WEIR_DURABLE;
    }
    weir_log_report(reader->log, &report);
    return report.writer_live ? WEIR_DURABLE : WEIR_WRITTEN;
}

int reader_open(struct reader *reader)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_error error = text_no_error();

    progress_begin(&reader->progress, "scan");
    options.read_only = true;
    options.must_exist = true;
    options.on_progress = progress_show;
    options.progress_ctx = &reader->progress;
    int rc = weir_open(reader->dir, &options, &reader->log, &error);
    progress_end(&reader->progress);
    reader->progress.terminal = false;
    if (rc != 0) {
        text_failure(reader->verb, reader->dir, rc, &error);
        return rc;
    }
    rc = weir_cursor_open_with(reader->log,
                               reader->from,
                               level_choose(reader),
                               reader->follow ? 0 : WEIR_CURSOR_READ_AHEAD,
                               &reader->cursor,
                               &error);
    if (rc != 0) {
        text_failure(reader->verb, reader->dir, rc, &error);
        reader_close(reader);
    }
    return rc;
}

bool reader_done(const struct reader *reader)
{
    return reader->given >= reader->count || weir_cursor_lsn(reader->cursor) >= reader->to;
}

int reader_next(struct reader *reader, int64_t timeout_ns, struct weir_entry *entry_out)
{
    if (reader_done(reader)) {
        return WEIR_EEND;
    }
    const int rc = weir_cursor_next(reader->cursor, timeout_ns, entry_out);
    if (rc == WEIR_EEND) {
        return rc;
    }
    if (rc != 0) {
        struct weir_error error = text_no_error();
        if (weir_cursor_error(reader->cursor, &error) == 0) {
            error.lsn = weir_cursor_lsn(reader->cursor);
        }
        text_failure(reader->verb, reader->dir, rc, &error);
        return rc;
    }
    if (entry_out->lsn >= reader->to) {
        reader->count = reader->given;
        return WEIR_EEND;
    }
    reader->given++;
    return 0;
}

void reader_close(struct reader *reader)
{
    weir_cursor_close(reader->cursor);
    weir_close(reader->log, NULL);
    reader->cursor = NULL;
    reader->log = NULL;
}
