/* SPDX-License-Identifier: Apache-2.0
 * weir explain: without an LSN, the verdict of a scan, and what stands at the positions that decide
 * it; with one, what stands there. */
#include "args.h"
#include "json.h"
#include "progress.h"
#include "report.h"
#include "text.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

static void place_print(const char *title, const struct weir_place *place)
{
    const struct weir_batch_info *batch = &place->batch;

    printf("%s: LSN %s\n", title, text_lsn(place->asked_lsn).chars);
    printf("  %s\n", place->what);
    if (!place->found_segment) {
        return;
    }
    printf("  file     %s, offset %" PRIu64 "\n", place->file, place->offset);
    printf("  segment  LSN %" PRIu64 " to %" PRIu64 "\n",
           place->segment_lsn,
           place->segment_end_lsn);
    if (place->in_batch) {
        printf("  batch    LSN %" PRIu64 " to %" PRIu64 ", epoch %" PRIu64 ", %" PRIu32
               " records, %" PRIu32 " bytes, promise %" PRIu64 ", %s\n",
               batch->lsn,
               batch->end_lsn,
               batch->epoch,
               batch->records,
               batch->bytes,
               batch->promise_lsn,
               text_time(batch->wall_ns).chars);
    }
    if (place->in_record) {
        printf("  record   LSN %" PRIu64 ", %" PRIu64 " bytes, tag %" PRIu64 "\n",
               place->record_lsn,
               place->record_bytes,
               place->record_tag);
    }
}

static void place_member(struct json *json, const char *key, const struct weir_place *place)
{
    const struct weir_batch_info *batch = &place->batch;

    json_key(json, key);
    json_begin(json, '{');
    json_member_u64(json, "lsn", place->asked_lsn);
    json_member_text(json, "what", place->what);
    if (place->found_segment) {
        json_member_text(json, "file", place->file);
        json_member_u64(json, "offset", place->offset);
        json_member_u64(json, "segment_lsn", place->segment_lsn);
        json_member_u64(json, "segment_end_lsn", place->segment_end_lsn);
    }
    if (place->in_batch) {
        json_key(json, "batch");
        json_begin(json, '{');
        json_member_u64(json, "lsn", batch->lsn);
        json_member_u64(json, "end_lsn", batch->end_lsn);
        json_member_u64(json, "epoch", batch->epoch);
        json_member_u64(json, "records", batch->records);
        json_member_u64(json, "bytes", batch->bytes);
        json_member_u64(json, "promise_lsn", batch->promise_lsn);
        json_member_u64(json, "wall_ns", batch->wall_ns);
        json_end(json, '}');
    }
    if (place->in_record) {
        json_key(json, "record");
        json_begin(json, '{');
        json_member_u64(json, "lsn", place->record_lsn);
        json_member_u64(json, "bytes", place->record_bytes);
        json_member_u64(json, "tag", place->record_tag);
        json_end(json, '}');
    }
    json_end(json, '}');
}

/* Prints what stands at lsn, as text or as a member. Return: 0 or a code, complained about. */
static int
place_tell(const char *dir, const char *title, const char *key, weir_lsn lsn, struct json *json)
{
    struct weir_error error = text_no_error();
    struct weir_place place;
    const int rc = weir_locate(dir, lsn, &place, &error);

    if (rc == WEIR_ECORRUPT || rc == WEIR_EUNREADABLE) {
        /* Damage keeps us from looking there: that is an explanation, too. */
        memset(&place, 0, sizeof place);
        place.asked_lsn = lsn;
        snprintf(place.what, sizeof place.what, "cannot be looked at: %.370s", error.text);
    } else if (rc != 0) {
        text_failure("explain", dir, rc, &error);
        return rc;
    }
    if (json != NULL) {
        place_member(json, key, &place);
    } else {
        place_print(title, &place);
    }
    return 0;
}

/* What to do about it; "" where nothing is to be done. */
static const char *way_out(enum weir_verdict verdict)
{
    switch (verdict) {
    case WEIR_VERDICT_CLEAN:
    case WEIR_VERDICT_STALE:
        break;
    case WEIR_VERDICT_TORN:
        return "What is torn was never acknowledged. The next opening for appending cuts it off "
               "and goes on.";
    case WEIR_VERDICT_CORRUPT:
        return "The log refuses to be opened for appending, and every byte is left as it is. Keep "
               "a copy of the directory; weir salvage DIR --to NEW copies what verifies.";
    case WEIR_VERDICT_UNREADABLE:
        return "The device could not read a block: see the kernel's log. Copy the device first, "
               "then weir salvage DIR --to NEW copies what verifies.";
    }
    return "";
}

static int end_tell(const char *dir, struct json *json)
{
    struct weir_error error = text_no_error();
    struct weir_report report;
    struct progress progress;

    progress_begin(&progress, "verify");
    int rc = weir_verify(dir, progress_show, &progress, &report, &error);
    progress_end(&progress);
    if (rc != 0) {
        text_failure("explain", dir, rc, &error);
        return rc;
    }
    if (json != NULL) {
        report_members(json, &report);
        json_member_text(json, "way_out", way_out(report.verdict));
    } else {
        report_print(&report);
        printf("\n");
    }
    rc = place_tell(dir, "at the end", "at_end", report.end_lsn, json);
    if (rc == 0 && report.bad_lsn != UINT64_MAX && report.bad_lsn != report.end_lsn) {
        rc = place_tell(dir, "at the bad position", "at_bad", report.bad_lsn, json);
    }
    if (rc == 0 && report.evidence_lsn != UINT64_MAX) {
        rc = place_tell(dir, "at the evidence", "at_evidence", report.evidence_lsn, json);
    }
    if (rc == 0 && json == NULL && way_out(report.verdict)[0] != '\0') {
        printf("\n%s\n", way_out(report.verdict));
    }
    return rc;
}

static const struct verb_text text = {
    .name = "explain",
    .summary = "say why the log ends where it does, or what stands at an LSN",
    .operands = "DIR [LSN]",
    .about =
        "Without LSN: the verdict as weir verify gives it, and what stands at the end of the\n"
        "log, at the position that does not verify, and at the evidence that decided. With LSN\n"
        "(decimal or 0x...): which file, offset, segment, batch and record that position is in.\n"
        "Nothing is written; the log may be in use.\n",
    .exits = "  0   told, whatever the verdict\n"
             "  1   it failed: one line on standard error says what, and where\n"
             "  64  the command line is wrong\n",
    .example = "  weir explain /tmp/log\n"
               "  weir explain /tmp/log 0x1060\n",
    .operands_min = 1,
    .operands_max = 2,
};

int explain_main(int argc, char **argv)
{
    bool as_json = false;
    const struct option_row rows[] = {
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print one JSON object"},
        {.name = NULL},
    };
    const char *operands[2];
    weir_lsn lsn = 0;
    const int status = args_parse(&text, rows, argc, argv, operands);

    if (status != ARGS_RUN) {
        return status;
    }
    if (operands[1] != NULL && !args_lsn(operands[1], &lsn)) {
        return args_wrong(&text, "%s: not an LSN (decimal or 0x...)", operands[1]);
    }
    const char *dir = operands[0];
    struct json json = JSON_INIT(stdout);
    if (as_json) {
        json_begin(&json, '{');
        json_member_text(&json, "dir", dir);
    }
    struct json *to = as_json ? &json : NULL;
    const int rc = operands[1] != NULL ? place_tell(dir, "at", "at", lsn, to) : end_tell(dir, to);
    if (as_json) {
        json_member_bool(&json, "told", rc == 0);
        json_end(&json, '}');
        json_line(&json);
    }
    return text_finish("explain", rc == 0 ? STATUS_OK : STATUS_FAILED, false);
}
