/* SPDX-License-Identifier: Apache-2.0
 * What copy and salvage made. */
#include "copied.h"

#include "json.h"
#include "text.h"

#include <inttypes.h>
#include <stdio.h>

void copied_print(const char *new_dir, const struct weir_copy_report *report, bool gaps)
{
    printf("new log        %s\n", new_dir);
    printf("log id         %016" PRIx64 "\n", report->log_id);
    printf("records        %s\n", text_count(report->records).chars);
    printf("bytes          %s\n", text_count(report->bytes).chars);
    printf("batches        %s\n", text_count(report->batches).chars);
    printf("segments       %s\n", text_count(report->segments).chars);
    printf("oldest LSN     %s\n", text_lsn(report->oldest_lsn).chars);
    printf("end LSN        %s\n", text_lsn(report->end_lsn).chars);
    if (gaps) {
        printf("gaps           %s, %s\n",
               text_count(report->gaps).chars,
               text_bytes(report->gap_bytes).chars);
    }
}

void copied_members(struct json *json,
                    const char *dir,
                    const char *new_dir,
                    const struct weir_copy_report *report,
                    bool gaps)
{
    char log_id[24];

    snprintf(log_id, sizeof(log_id), "%016" PRIx64, report->log_id);
    json_member_text(json, "dir", dir);
    json_member_text(json, "new_dir", new_dir);
    json_member_text(json, "log_id", log_id);
    json_member_u64(json, "records", report->records);
    json_member_u64(json, "bytes", report->bytes);
    json_member_u64(json, "batches", report->batches);
    json_member_u64(json, "segments", report->segments);
    json_member_lsn(json, "oldest_lsn", report->oldest_lsn);
    json_member_lsn(json, "end_lsn", report->end_lsn);
    if (gaps) {
        json_member_u64(json, "gap_count", report->gaps);
        json_member_u64(json, "gap_bytes", report->gap_bytes);
    }
}
