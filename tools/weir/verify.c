/* SPDX-License-Identifier: Apache-2.0
 * weir verify: one call of the library over the whole log, its verdict as a word and as the exit
 * code. */
#include "args.h"
#include "json.h"
#include "progress.h"
#include "report.h"
#include "text.h"
#include "verbs.h"

#include <stdio.h>
#include <weir/weir.h>

enum {
    STATUS_TORN = 1,
    STATUS_CORRUPT = 2,
    STATUS_UNREADABLE = 3,
};

static int verdict_status(enum weir_verdict verdict)
{
    switch (verdict) {
    case WEIR_VERDICT_CLEAN:
    case WEIR_VERDICT_STALE:
        return STATUS_OK;
    case WEIR_VERDICT_TORN:
        return STATUS_TORN;
    case WEIR_VERDICT_CORRUPT:
        return STATUS_CORRUPT;
    case WEIR_VERDICT_UNREADABLE:
        break;
    }
    return STATUS_UNREADABLE;
}

static const struct verb_text text = {
    .name = "verify",
    .summary = "check every byte of a log and say how it ends",
    .operands = "DIR",
    .about =
        "Reads the whole log from its oldest record, checks every checksum and every link, and\n"
        "says why the log ends where it ends. Nothing is written. The log may be in use. Reads\n"
        "past the page cache where the file system can, so that it is the device that is\n"
        "checked.\n"
        "\n"
        "  clean       closed cleanly, or nothing but zeros behind the last batch\n"
        "  stale       behind the last batch, bytes of an earlier use of the file: as it should\n"
        "              be\n"
        "  torn        bad bytes at or above every promise: they were never acknowledged;\n"
        "              opening cuts them\n"
        "  corrupt     bad bytes below a promise: acknowledged records are damaged; see weir\n"
        "              explain, weir salvage\n"
        "  unreadable  the device could not read a block\n",
    .exits = "  0   clean or stale\n"
             "  1   torn\n"
             "  2   corrupt\n"
             "  3   unreadable, or not to be verified at all: no log there, an unknown format, no "
             "permission\n"
             "  64  the command line is wrong\n",
    .example = "  weir verify /tmp/log && echo fine\n",
    .operands_min = 1,
    .operands_max = 1,
};

int verify_main(int argc, char **argv)
{
    bool as_json = false;
    bool cached = false;
    const struct option_row rows[] = {
        {.name = "cached",
         .kind = OPTION_FLAG,
         .target = &cached,
         .help = "read what the page cache holds from there: faster, and the device is asked only "
                 "about the rest, and about what does not verify"},
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print one JSON object"},
        {.name = NULL},
    };
    const char *dir = NULL;
    int status = args_parse(&text, rows, argc, argv, &dir);

    if (status != ARGS_RUN) {
        return status;
    }
    struct weir_report report;
    struct weir_error error = text_no_error();
    struct progress progress;
    progress_begin(&progress, "verify");
    const int rc = weir_verify_with(dir,
                                    cached ? WEIR_VERIFY_CACHED : 0,
                                    progress_show,
                                    &progress,
                                    &report,
                                    &error);
    progress_end(&progress);
    if (rc != 0) {
        text_failure("verify", dir, rc, &error);
        return text_finish("verify", STATUS_UNREADABLE, false);
    }
    status = verdict_status(report.verdict);
    if (as_json) {
        struct json json = JSON_INIT(stdout);
        json_begin(&json, '{');
        json_member_text(&json, "dir", dir);
        report_members(&json, &report);
        json_end(&json, '}');
        json_line(&json);
    } else {
        report_print(&report);
    }
    return text_finish("verify", status, false);
}
