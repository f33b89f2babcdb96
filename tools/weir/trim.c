/* SPDX-License-Identifier: Apache-2.0
 * weir trim: opens the log for appending, trims it, closes it. */
#include "args.h"
#include "json.h"
#include "notes.h"
#include "progress.h"
#include "text.h"
#include "verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <weir/weir.h>

static const struct verb_text text = {
    .name = "trim",
    .summary = "give up the records before an LSN",
    .operands = "DIR --before LSN",
    .about =
        "The records before LSN are gone for good when the command returns 0; whole segments\n"
        "below it are kept for reuse or removed. LSN must not be above the end of the log. The\n"
        "log must not be open for appending: its writer has to trim it itself (weir_trim).\n",
    .exits = ARGS_EXITS,
    .example = "  weir trim /tmp/log --before 1048576\n",
    .operands_min = 1,
    .operands_max = 1,
};

struct trimmed {
    weir_lsn from_lsn;
    weir_lsn oldest_lsn;
    weir_lsn end_lsn;
    uint64_t disk_bytes;
};

/* Between opening and closing. Return: 0 or a code, complained about. */
static int log_trim(const char *dir, struct weir_log *log, weir_lsn before, struct trimmed *trimmed)
{
    struct weir_error error = text_no_error();
    struct weir_stats stats;

    trimmed->from_lsn = weir_oldest_lsn(log);
    trimmed->end_lsn = weir_end_lsn(log);
    const int rc = weir_trim(log, before);
    if (rc == -EINVAL) {
        snprintf(error.text,
                 sizeof(error.text),
                 "--before %" PRIu64 " is above the end of the log, %" PRIu64,
                 before,
                 weir_durable_lsn(log));
    } else if (rc != 0) {
        weir_log_error(log, &error);
    }
    if (rc != 0) {
        text_failure("trim", dir, rc, &error);
        return rc;
    }
    trimmed->oldest_lsn = weir_oldest_lsn(log);
    weir_stats(log, &stats);
    trimmed->disk_bytes = stats.disk_bytes;
    return 0;
}

static int dir_trim(const char *dir, weir_lsn before, struct trimmed *trimmed)
{
    struct notes notes = {.verb = "trim", .dir = dir};
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_error error = text_no_error();
    struct weir_log *log = NULL;
    struct progress progress;

    progress_begin(&progress, "recovery");
    options.must_exist = true;
    options.on_event = notes_event;
    options.event_ctx = &notes;
    options.on_progress = progress_show;
    options.progress_ctx = &progress;
    int rc = weir_open(dir, &options, &log, &error);
    progress_end(&progress);
    if (rc == -EBUSY) {
        snprintf(error.text,
                 sizeof(error.text),
                 "the log is open for appending, so only its writer can trim it (weir_trim)");
    }
    if (rc != 0) {
        text_failure("trim", dir, rc, &error);
        return rc;
    }
    notes_recovered(&notes, log);
    rc = log_trim(dir, log, before, trimmed);
    const int closed = weir_close(log, &error);
    if (rc == 0 && closed != 0) {
        text_failure("trim", dir, closed, &error);
    }
    return rc != 0 ? rc : closed;
}

int trim_main(int argc, char **argv)
{
    weir_lsn before = 0;
    bool before_given = false;
    bool as_json = false;
    const struct option_row rows[] = {
        {.name = "before",
         .kind = OPTION_LSN,
         .target = &before,
         .given = &before_given,
         .value = "LSN",
         .help = "the first LSN to keep; needed"},
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print one JSON object"},
        {.name = NULL},
    };
    const char *dir = NULL;
    const int status = args_parse(&text, rows, argc, argv, &dir);

    if (status != ARGS_RUN) {
        return status;
    }
    if (!before_given) {
        return args_wrong(&text, "--before: needed");
    }
    struct trimmed trimmed = {0};
    if (dir_trim(dir, before, &trimmed) != 0) {
        return STATUS_FAILED;
    }
    if (as_json) {
        struct json json = JSON_INIT(stdout);
        json_begin(&json, '{');
        json_member_text(&json, "dir", dir);
        json_member_lsn(&json, "oldest_before_lsn", trimmed.from_lsn);
        json_member_lsn(&json, "oldest_lsn", trimmed.oldest_lsn);
        json_member_lsn(&json, "end_lsn", trimmed.end_lsn);
        json_member_u64(&json, "bytes_on_disk", trimmed.disk_bytes);
        json_end(&json, '}');
        json_line(&json);
    } else {
        printf("oldest LSN     %s, was %s\n",
               text_lsn(trimmed.oldest_lsn).chars,
               text_lsn(trimmed.from_lsn).chars);
        printf("end LSN        %s\n", text_lsn(trimmed.end_lsn).chars);
    }
    return text_finish("trim", STATUS_OK, false);
}
