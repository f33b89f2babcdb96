/* SPDX-License-Identifier: Apache-2.0
 * weir copy: one call of the library. */
#include "args.h"
#include "copied.h"
#include "json.h"
#include "progress.h"
#include "text.h"
#include "verbs.h"

#include <stdio.h>
#include <weir/weir.h>

static const struct verb_text text = {
    .name = "copy",
    .summary = "make a consistent backup, also of a log in use",
    .operands = "DIR NEW",
    .about =
        "Copies all records from the oldest to what was durable when the command began, at\n"
        "their LSNs, into a new log (with an identity of its own) in NEW, durably. Nothing is\n"
        "written to DIR. NEW must not hold a log; it is created if missing. A log that does not\n"
        "verify is refused: see weir salvage.\n",
    .exits = ARGS_EXITS,
    .example = "  weir copy /var/lib/service/log /backup/log\n",
    .operands_min = 2,
    .operands_max = 2,
};

int copy_main(int argc, char **argv)
{
    bool as_json = false;
    const struct option_row rows[] = {
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print one JSON object"},
        {.name = NULL},
    };
    const char *operands[2];
    const int status = args_parse(&text, rows, argc, argv, operands);

    if (status != ARGS_RUN) {
        return status;
    }
    const char *dir = operands[0];
    const char *new_dir = operands[1];
    struct weir_copy_report report = {0};
    struct weir_error error = text_no_error();
    struct progress progress;
    progress_begin(&progress, "copy");
    const int rc = weir_copy(dir, new_dir, progress_show, &progress, &report, &error);
    progress_end(&progress);
    if (rc != 0) {
        text_failure("copy", dir, rc, &error);
        return STATUS_FAILED;
    }
    if (as_json) {
        struct json json = JSON_INIT(stdout);
        json_begin(&json, '{');
        copied_members(&json, dir, new_dir, &report, false);
        json_end(&json, '}');
        json_line(&json);
    } else {
        copied_print(new_dir, &report, false);
    }
    return text_finish("copy", STATUS_OK, false);
}
