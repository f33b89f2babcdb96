/* SPDX-License-Identifier: Apache-2.0
 * The outcome of a scan. */
#include "report.h"

#include "json.h"
#include "text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

static bool is_bad(const struct weir_report *report)
{
    return report->verdict == WEIR_VERDICT_CORRUPT || report->verdict == WEIR_VERDICT_UNREADABLE;
}

void report_print(const struct weir_report *report)
{
    printf("%s: %s\n", text_verdict(report->verdict), report->why);
    printf("end LSN        %s\n", text_lsn(report->end_lsn).chars);
    printf("oldest LSN     %s\n", text_lsn(report->oldest_lsn).chars);
    printf("promise LSN    %s\n", text_lsn(report->promise_lsn).chars);
    if (report->bad_lsn != UINT64_MAX) {
        printf("bad LSN        %s\n", text_lsn(report->bad_lsn).chars);
    }
    if (report->evidence_lsn != UINT64_MAX) {
        printf("evidence LSN   %s\n", text_lsn(report->evidence_lsn).chars);
    }
    if (is_bad(report)) {
        printf("file           %s, offset %" PRIu64 "\n", report->error.file, report->error.offset);
    }
    if (report->bytes_cut != 0) {
        printf("bytes torn     %s\n", text_count(report->bytes_cut).chars);
    }
    printf("records        %s\n", text_count(report->records).chars);
    printf("batches        %s\n", text_count(report->batches).chars);
    printf("segments       %s\n", text_count(report->segments).chars);
    printf("bytes scanned  %s\n", text_count(report->bytes_scanned).chars);
    if (report->bytes_cached != 0) {
        printf("from the cache %s\n", text_count(report->bytes_cached).chars);
    }
    printf("epoch          %" PRIu64 "\n", report->epoch);
    printf("log id         %016" PRIx64 "\n", report->log_id);
    printf("writer         %s\n", report->writer_live ? "has it open" : "none");
}

void report_members(struct json *json, const struct weir_report *report)
{
    char log_id[24];

    snprintf(log_id, sizeof(log_id), "%016" PRIx64, report->log_id);
    json_member_text(json, "verdict", text_verdict(report->verdict));
    json_member_text(json, "why", report->why);
    json_member_lsn(json, "end_lsn", report->end_lsn);
    json_member_lsn(json, "oldest_lsn", report->oldest_lsn);
    json_member_lsn(json, "promise_lsn", report->promise_lsn);
    json_member_lsn(json, "scan_from_lsn", report->scan_from_lsn);
    json_member_lsn(json, "bad_lsn", report->bad_lsn);
    json_member_lsn(json, "evidence_lsn", report->evidence_lsn);
    json_member_u64(json, "epoch", report->epoch);
    json_member_text(json, "log_id", log_id);
    json_member_u64(json, "records", report->records);
    json_member_u64(json, "batches", report->batches);
    json_member_u64(json, "segments", report->segments);
    json_member_u64(json, "bytes_scanned", report->bytes_scanned);
    json_member_u64(json, "bytes_cached", report->bytes_cached);
    json_member_u64(json, "bytes_cut", report->bytes_cut);
    json_member_bool(json, "writer_live", report->writer_live);
    if (is_bad(report)) {
        json_member_error(json, report->error.code, &report->error);
    }
}
