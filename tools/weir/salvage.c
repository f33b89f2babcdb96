/* SPDX-License-Identifier: Apache-2.0
 * weir salvage: one call of the library; gaps are told as they are found, so that none has to be
 * kept. */
#include "args.h"
#include "copied.h"
#include "json.h"
#include "progress.h"
#include "text.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdio.h>
#include <weir/weir.h>

struct salvage {
    struct progress progress;
    struct json *json; /* NULL: text */
};

static void salvage_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct salvage *salvage = ctx;

    progress_show(&salvage->progress, done, total);
}

static void salvage_gap(void *ctx, const struct weir_gap *gap)
{
    struct salvage *salvage = ctx;

    progress_end(&salvage->progress);
    if (salvage->json == NULL) {
        printf("gap            LSN %" PRIu64 " to %" PRIu64 " (%s): %s\n",
               gap->from_lsn,
               gap->to_lsn,
               text_bytes(gap->to_lsn - gap->from_lsn).chars,
               gap->why);
        return;
    }
    json_begin(salvage->json, '{');
    json_member_u64(salvage->json, "from_lsn", gap->from_lsn);
    json_member_u64(salvage->json, "to_lsn", gap->to_lsn);
    json_member_text(salvage->json, "why", gap->why);
    json_end(salvage->json, '}');
}

static const struct verb_text text = {
    .name = "salvage",
    .summary = "copy what verifies of a damaged log into a new one",
    .operands = "DIR --to NEW",
    .about =
        "Copies every record that verifies, at its LSN, into a new log (with an identity of its\n"
        "own) in NEW, and lists the gaps: the ranges of LSNs from which nothing could be taken.\n"
        "For logs that are refused as corrupt. Nothing is ever written to DIR. NEW must not\n"
        "hold a log; it is created if missing.\n",
    .exits = "  0   done, gaps or not\n"
             "  1   it failed: one line on standard error says what, and where\n"
             "  64  the command line is wrong\n",
    .example = "  weir salvage /var/lib/service/log --to /var/lib/service/log.salvaged\n",
    .operands_min = 1,
    .operands_max = 1,
};

int salvage_main(int argc, char **argv)
{
    const char *new_dir = NULL;
    bool as_json = false;
    const struct option_row rows[] = {
        {.name = "to",
         .kind = OPTION_WORD,
         .target = &new_dir,
         .value = "NEW",
         .help = "where the new log is made; needed"},
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print one JSON object"},
        {.name = NULL},
    };
    const char *dir = NULL;
    const int status = args_parse(&text, rows, argc, argv, &dir);

    if (status != ARGS_RUN) {
        return status;
    }
    if (new_dir == NULL || new_dir[0] == '\0') {
        return args_wrong(&text, "--to: needed");
    }
    struct json json = JSON_INIT(stdout);
    struct salvage salvage = {.json = as_json ? &json : NULL};
    struct weir_copy_report report = {0};
    struct weir_error error = text_no_error();
    if (as_json) {
        json_begin(&json, '{');
        json_key(&json, "gaps");
        json_begin(&json, '[');
    }
    progress_begin(&salvage.progress, "salvage");
    const int rc =
        weir_salvage(dir, new_dir, salvage_gap, salvage_progress, &salvage, &report, &error);
    progress_end(&salvage.progress);
    if (rc != 0) {
        text_failure("salvage", dir, rc, &error);
    }
    if (as_json) {
        json_end(&json, ']');
        if (rc == 0) {
            copied_members(&json, dir, new_dir, &report, true);
        } else {
            json_member_error(&json, rc, &error);
        }
        json_end(&json, '}');
        json_line(&json);
    } else if (rc == 0) {
        copied_print(new_dir, &report, true);
    }
    return text_finish("salvage", rc == 0 ? STATUS_OK : STATUS_FAILED, false);
}
