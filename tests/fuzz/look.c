/* SPDX-License-Identifier: Apache-2.0
 * What has to hold:
 *   whoever only looks changes no byte;
 *   a reader gets records in order, each once, and comes to an end;
 *   a scan's report lies within the log, and a second scan says the same;
 *   salvage makes a log that opens clean and holds as many records as it said;
 *   a writer that is refused for what the log holds has changed no byte of it;
 *   a writer that is let in shows what a reader was shown, goes on behind it, and what it
 *   acknowledged is there at the next opening, which is clean. */
#include "fuzz/look.h"

#include "api/log.h"
#include "recover/rewrite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIR "log"
#define OUT "out"
#define APPENDS 3u
#define WAIT_NS 2000000000

static void holds(bool condition, const char *what, unsigned long long a, unsigned long long b)
{
    if (!condition) {
        fprintf(stderr, "does not hold: %s (%llu, %llu)\n", what, a, b);
        abort();
    }
}

/* Records as a cursor gives them out. */
struct shown {
    uint64_t count;
    uint64_t digest;
    weir_lsn last;
    uint64_t epoch;
    bool more;
    int end;          /* what the last call said */
    weir_lsn end_lsn; /* of an error: where */
};

static uint64_t mix(uint64_t digest, const void *data, size_t bytes)
{
    const uint8_t *const at = data;
    for (size_t i = 0; i < bytes; i++) {
        digest = (digest ^ at[i]) * UINT64_C(0x100000001b3);
    }
    return digest;
}

static void shown_add(struct shown *shown, const struct weir_entry *entry)
{
    holds(shown->count == 0 || entry->lsn > shown->last, "LSNs grow", entry->lsn, shown->last);
    holds(entry->epoch >= shown->epoch, "epochs do not fall", entry->epoch, shown->epoch);
    holds(entry->bytes < LOOK_FILE_BYTES_MAX, "a record fits its file", entry->bytes, 0);
    shown->count++;
    shown->last = entry->lsn;
    shown->epoch = entry->epoch;
    shown->more = entry->more;
    shown->digest = mix(shown->digest, &entry->lsn, sizeof entry->lsn);
    shown->digest = mix(shown->digest, &entry->epoch, sizeof entry->epoch);
    shown->digest = mix(shown->digest, &entry->tag, sizeof entry->tag);
    shown->digest = mix(shown->digest, entry->data, entry->bytes);
}

static struct shown read_all(struct weir_log *log, enum weir_level level)
{
    struct shown shown = {.digest = UINT64_C(0xcbf29ce484222325)};
    struct weir_cursor *cursor = NULL;
    struct weir_error error;
    shown.end = weir_cursor_open_with(log, WEIR_LSN_OLDEST, level, 0, &cursor, &error);
    if (shown.end != 0) {
        holds(error.code == shown.end && error.lsn != UINT64_MAX,
              "a cursor that does not open has a place",
              0,
              0);
        shown.end_lsn = error.lsn;
    }
    while (shown.end == 0) {
        struct weir_entry entry;
        shown.end = weir_cursor_next(cursor, WEIR_TRY, &entry);
        if (shown.end == 0) {
            shown_add(&shown, &entry);
            holds(shown.count < 1000000, "it comes to an end", shown.count, 0);
        }
    }
    if (cursor != NULL && shown.end != WEIR_EEND) {
        holds(weir_cursor_error(cursor, &error) == shown.end && error.lsn != UINT64_MAX,
              "a reader's error has a place",
              shown.last,
              0);
        shown.end_lsn = error.lsn;
    }
    weir_cursor_close(cursor);
    return shown;
}

static struct weir_options options_for(bool read_only)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    options.read_only = read_only;
    options.must_exist = true;
    options.no_huge_pages = true;
    options.slots = 2;
    options.slot_bytes = 65536; /* a multiple of every block */
    options.record_bytes_max = 65536;
    options.max_inflight = 2;
    options.lock_timeout_ns = UINT64_MAX;
    options.io = WEIR_IO_POSIX;
    return options;
}

/* ---- whoever only looks ---------------------------------------------------------------------- */

static bool verdict_whole(const struct weir_report *report)
{
    return report->verdict != WEIR_VERDICT_CORRUPT && report->verdict != WEIR_VERDICT_UNREADABLE;
}

static int look_as_reader(struct memory_dir *memory,
                          const char *dir,
                          struct shown *shown_out,
                          struct weir_report *report_out)
{
    const struct weir_options options = options_for(true);
    struct weir_log *log = NULL;
    struct weir_error error;
    const int code = weir__open_with(&memory->io, dir, &options, &log, &error);
    if (code != 0) {
        holds(error.code == code && error.text[0] != '\0', "a refusal says why", 0, 0);
        return code;
    }
    weir_log_report(log, report_out);
    *shown_out = read_all(log, WEIR_WRITTEN);
    holds(shown_out->end != 0 && shown_out->end != -EINVAL, "a reader is told an end", 0, 0);
    if (verdict_whole(report_out)) {
        /* An opening looks from the checkpoint on. What is bad below it a reader finds. */
        holds(shown_out->end == WEIR_EEND || shown_out->end_lsn < report_out->scan_from_lsn,
              "a whole log is read to its end",
              shown_out->end_lsn,
              report_out->end_lsn);
        holds(shown_out->count == 0 || shown_out->last < report_out->end_lsn,
              "records lie below the end",
              shown_out->last,
              report_out->end_lsn);
    }
    holds(weir_close(log, NULL) == 0, "a reader closes", 0, 0);
    return 0;
}

/* weir_verify, over this seam. */
static int scan(struct memory_dir *memory, struct weir_report *report_out)
{
    struct weir__mem mem;
    struct weir__dir dir;
    struct weir__catalog catalog;
    struct weir__control_found found;
    struct weir__scan_result result;
    struct weir__fault fault = WEIR__FAULT_NONE;
    weir__mem_init(&mem, NULL);
    holds(weir__dir_look(&dir, &memory->io, &mem, DIR, false, &fault) == 0, "the directory", 0, 0);
    holds(weir__catalog_init(&catalog, &mem) == 0, "the catalog", 0, 0);
    int code = weir__catalog_load(&catalog, &dir, &fault);
    if (code == 0) {
        code = weir__scan_control(&dir, &catalog, &found, &fault);
    }
    if (code == 0) {
        const struct weir__scan_config config = {
            .dir = &dir,
            .catalog = &catalog,
            .control = &found,
            .from_oldest = true,
        };
        code = weir__scan(&config, &result, &fault);
    }
    if (code == 0) {
        *report_out = result.report;
    }
    weir__catalog_exit(&catalog);
    weir__dir_close(&dir);
    weir__mem_exit(&mem);
    return code;
}

static void look_by_scan(struct memory_dir *memory,
                         int reader_code,
                         const struct shown *reader,
                         const struct weir_report *reader_report)
{
    struct weir_report first;
    struct weir_report second;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    const int code = scan(memory, &first);
    holds(scan(memory, &second) == code, "a second scan says the same", 0, 0);
    if (code != 0) {
        return;
    }
    holds(first.verdict == second.verdict && first.end_lsn == second.end_lsn &&
              first.records == second.records && first.bad_lsn == second.bad_lsn,
          "a second scan reports the same",
          first.end_lsn,
          second.end_lsn);
    holds(first.why[0] != '\0', "the end has a reason", first.verdict, 0);
    if (reader_code == 0 && verdict_whole(reader_report) && reader->end == WEIR_EEND &&
        reader_report->oldest_lsn == first.oldest_lsn) {
        /* The scan also sums what was trimmed in the oldest segment, of which a reader needs no more
         * than the headers. */
        holds((verdict_whole(&first) && first.end_lsn == reader_report->end_lsn) ||
                  first.bad_lsn < first.oldest_lsn,
              "what a reader reads whole is whole",
              first.end_lsn,
              reader_report->end_lsn);
    }
    if (verdict_whole(&first)) {
        holds(first.promise_lsn <= first.end_lsn, "promises are kept", first.promise_lsn, 0);
        holds(first.bad_lsn == UINT64_MAX, "nothing is bad in a whole log", first.bad_lsn, 0);
    } else {
        holds(first.bad_lsn != UINT64_MAX, "damage has a place", first.verdict, 0);
        holds(first.error.code != 0, "damage is an error", first.verdict, 0);
    }
}

static void look_by_salvage(struct memory_dir *memory)
{
    struct weir__mem mem;
    struct weir__dir dir;
    struct weir__fault fault = WEIR__FAULT_NONE;
    struct weir_copy_report copied;
    memory_dir_clear(memory, OUT);
    weir__mem_init(&mem, NULL);
    holds(weir__dir_look(&dir, &memory->io, &mem, DIR, false, &fault) == 0, "the directory", 0, 0);
    const struct weir__rewrite_config config = {
        .from = &dir,
        .to_path = OUT,
        .salvage = true,
        .limit = UINT64_MAX,
    };
    const int code = weir__rewrite(&config, &copied, &fault);
    weir__dir_close(&dir);
    weir__mem_exit(&mem);
    if (code != 0) {
        return;
    }
    struct shown shown;
    struct weir_report report;
    holds(look_as_reader(memory, OUT, &shown, &report) == 0, "what was salvaged opens", 0, 0);
    holds(report.verdict == WEIR_VERDICT_CLEAN, "it is clean", report.verdict, 0);
    holds(shown.end == WEIR_EEND, "it is read to its end", 0, 0);
    holds(shown.count == copied.records, "its records are there", shown.count, copied.records);
}

/* ---- a writer -------------------------------------------------------------------------------- */

/* Appends what is acknowledged into shown. */
static void append_some(struct weir_log *log, struct shown *shown)
{
    uint8_t payload[64];
    memset(payload, 0xa5, sizeof payload);
    for (uint64_t tag = 1; tag <= APPENDS; tag++) {
        const struct weir_piece piece = {payload, sizeof payload - tag};
        const struct weir_record record = {&piece, 1, tag};
        weir_lsn lsn = WEIR_LSN_NONE;
        struct weir_stats stats;
        int code = weir_append_group(log, &record, 1, WAIT_NS, &lsn);
        if (code == 0) {
            code = weir_wait(log, lsn, WEIR_DURABLE, WEIR_FOREVER);
            holds(code == 0, "nothing fails on this disk", (unsigned long long)-code, 0);
            weir_stats(log, &stats);
            struct weir_log_info info;
            weir_log_describe(log, &info);
            const struct weir_entry entry = {lsn, info.epoch, tag, payload, piece.bytes, false};
            shown_add(shown, &entry);
        } else {
            /* A segment that the disk has no room for, or no LSNs. */
            holds(code == -ENOSPC || code == -ETIMEDOUT || code == WEIR_ETOOBIG,
                  "an append is refused for a reason",
                  (unsigned long long)-code,
                  0);
            break;
        }
    }
}

static void look_as_writer(struct memory_dir *memory,
                           bool queue,
                           int reader_code,
                           const struct shown *reader,
                           const struct weir_report *reader_report)
{
    const uint64_t before = memory_dir_hash(memory, DIR);
    struct weir_options options = options_for(false);
    struct weir_log *log = NULL;
    struct weir_error error;
    options.io = queue ? WEIR_IO_CHAIN : WEIR_IO_POSIX;
    memory_dir_queue(memory, queue ? 64 : 0);
    int code = weir__open_with(&memory->io, DIR, &options, &log, &error);
    if (code != 0) {
        holds(error.code == code && error.text[0] != '\0', "a refusal says why", 0, 0);
        if (code == WEIR_ECORRUPT || code == WEIR_EUNREADABLE || code == WEIR_EFORMAT ||
            code == WEIR_ENOLOG || code == -EINVAL) {
            holds(memory_dir_hash(memory, DIR) == before, "a refusal changes nothing", 0, 0);
        } else {
            holds(code == -ENOSPC || code == -EOVERFLOW || code == -EFBIG,
                  "an opening is refused for a reason",
                  (unsigned long long)-code,
                  0);
        }
        return;
    }
    holds(reader_code == 0,
          "what a writer opens a reader does",
          (unsigned long long)-reader_code,
          0);
    holds(verdict_whole(reader_report), "no writer behind damage", reader_report->verdict, 0);
    struct shown shown = read_all(log, WEIR_DURABLE);
    holds(shown.end == reader->end && shown.count == reader->count &&
              shown.digest == reader->digest,
          "a writer shows what a reader was shown",
          shown.count,
          reader->count);
    struct shown appended = shown;
    append_some(log, &appended);
    if (shown.end == WEIR_EEND) {
        shown = appended; /* else they stand behind what cannot be read */
    }
    code = weir_close(log, &error);
    holds(code == 0, "a writer closes", (unsigned long long)-code, 0);
    memory_dir_queue(memory, 0);

    struct shown again;
    struct weir_report report;
    code = look_as_reader(memory, DIR, &again, &report);
    holds(code == 0, "a closed log opens", (unsigned long long)-code, 0);
    holds(report.verdict == WEIR_VERDICT_CLEAN, "it is clean", report.verdict, 0);
    holds(again.count == shown.count && again.digest == shown.digest,
          "it holds what was acknowledged",
          again.count,
          shown.count);
}

void look_at(struct memory_dir *memory, unsigned flags)
{
    struct shown shown;
    struct weir_report report;
    memset(&shown, 0, sizeof shown);
    memset(&report, 0, sizeof report);
    memory->file_bytes_max = LOOK_FILE_BYTES_MAX;
    const uint64_t before = memory_dir_hash(memory, DIR);
    const int code = look_as_reader(memory, DIR, &shown, &report);
    look_by_scan(memory, code, &shown, &report);
    if ((flags & LOOK_SALVAGE) != 0) {
        look_by_salvage(memory);
    }
    holds(memory_dir_hash(memory, DIR) == before, "looking changes nothing", 0, 0);
    if ((flags & LOOK_APPEND) != 0) {
        look_as_writer(memory, (flags & LOOK_QUEUE) != 0, code, &shown, &report);
    }
    holds(memory_dir_open_count(memory) == 0, "every file is closed", 0, 0);
}
