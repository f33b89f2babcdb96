/* SPDX-License-Identifier: Apache-2.0
 * weir-stress bitrot: a small log in memory with one bit changed, or one file cut, at every place.
 *
 * Two logs are written by the engine: one that was closed, one whose process was killed with its last
 * batch above every promise. Every case is a change of one of them, looked at in three ways: a scan of
 * the whole log (as weir_verify), a reader, and a writer's opening with its recovery. What must come of
 * it follows from where the change is:
 *
 *   below the last promise   the scan calls it corrupt, or a reader's error names the LSN; what was
 *                            read before is right, and a writer that is refused has changed no byte
 *   above it                 torn, with the number of bytes cut, and everything before it there
 *   in bytes of no use       everything there
 *   in the control file      everything there: the other copy is enough; both lost: refused
 *
 * No look may ever return a record that was not appended. Processes take turns at the cases. */
#include "args.h"
#include "clock.h"
#include "dice.h"
#include "memory_dir.h"
#include "progress.h"
#include "verbs.h"

#include "api/log.h"
#include "base/num.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIR "log"
#define BLOCK 512u
#define SEGMENT_BYTES ((uint64_t)16 * 1024)
#define SEGMENTS 4u /* 64 KiB: three with records, one prepared */
#define RECORDS_MAX 256u
#define BATCHES_MAX 128u
#define PAYLOAD_MAX 6000u
#define JOBS_MAX 256u
#define CASES_AT_ONCE 64u
#define CASES_MAX                                                                                  \
    (STATES *                                                                                      \
     (SEGMENTS * SEGMENT_BYTES * 9 + WEIR__CONTROL_USED_BYTES * 16 + WEIR__CONTROL_FILE_BYTES))

static const char *const state_words[] = {"closed", "killed", "all", NULL};

enum { STATE_CLOSED, STATE_KILLED, STATES };

static const struct verb_text text = {
    .name = "bitrot",
    .usage = "[OPTION]...",
    .about =
        "Writes a log of 64 KiB into memory, once closed and once killed, and opens it with every "
        "single bit changed\n"
        "and with every file cut at every length. Never may a record be returned that was not "
        "appended; what is lost\n"
        "below a promise must be called corrupt, or named by a reader's error; what is lost above "
        "is torn, and the bytes\n"
        "that are cut must be the right ones.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress bitrot\n"
               "  weir-stress bitrot --state killed --sample 100\n"
               "  weir-stress bitrot --for 10m\n",
};

/* ---- the two logs ---------------------------------------------------------------------------- */

struct known_record {
    weir_lsn lsn;
    uint64_t tag;
    size_t bytes;
    const uint8_t *payload;
};

struct known_batch {
    weir_lsn lsn;
    weir_lsn end;
    unsigned records_before;
};

/* What is in a log, and how far it was promised. */
struct known_log {
    struct memory_dir files;
    struct known_record records[RECORDS_MAX];
    unsigned record_count;
    struct known_batch batches[BATCHES_MAX];
    unsigned batch_count;
    weir_lsn end;
    weir_lsn promise;
    struct weir__range segments[SEGMENTS];
};

static struct known_log logs[STATES];
static struct memory_dir work;

static void impossible(const char *what, int code)
{
    fprintf(stderr, "weir-stress bitrot: %s: %s\n", what, weir_strerror(code));
    exit(STATUS_FAILED);
}

static struct weir_options options_for(bool read_only)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    options.io = WEIR_IO_POSIX;
    options.memory = &memory_hooks;
    options.read_only = read_only;
    options.must_exist = read_only;
    options.block_bytes = BLOCK;
    options.segment_bytes = SEGMENT_BYTES;
    options.slot_bytes = 8192;
    options.slots = 2;
    options.record_bytes_max = 8192;
    options.max_inflight = 1;
    options.no_huge_pages = true;
    options.lock_timeout_ns = UINT64_MAX;
    return options;
}

static void
group_append(struct known_log *known, struct weir_log *log, struct dice *dice, bool last)
{
    const unsigned count = last ? 3 : 1 + (unsigned)dice_below(dice, 3);
    struct weir_piece pieces[3];
    struct weir_record records[3];
    weir_lsn lsns[3];
    const unsigned first = known->record_count;
    for (unsigned i = 0; i < count; i++) {
        struct known_record *const record = &known->records[known->record_count++];
        record->tag = first + i + 1;
        record->bytes = last ? 1900 : (size_t)dice_below(dice, i == 0 ? 900 : 100);
        uint8_t *const payload = malloc(PAYLOAD_MAX);
        if (payload == NULL) {
            impossible("payload", -ENOMEM);
        }
        for (size_t at = 0; at < record->bytes; at++) {
            payload[at] = (uint8_t)(1 + dice_below(dice, 255));
        }
        record->payload = payload;
        pieces[i] = (struct weir_piece){payload, record->bytes};
        records[i] = (struct weir_record){&pieces[i], 1, record->tag};
    }
    int code = weir_append_group(log, records, count, WEIR_FOREVER, lsns);
    code = code == 0 ? weir_sync(log, WEIR_FOREVER) : code;
    if (code != 0) {
        impossible("append", code);
    }
    for (unsigned i = 0; i < count; i++) {
        known->records[first + i].lsn = lsns[i];
    }
}

static int batch_note(void *ctx, const struct weir__batch *batch, struct weir__range segment)
{
    struct known_log *const known = ctx;
    struct known_batch *const note = &known->batches[known->batch_count++];
    (void)segment;
    note->lsn = batch->lsn;
    note->end = weir__batch_end(batch, BLOCK);
    for (unsigned i = 0; i < known->record_count; i++) {
        note->records_before += known->records[i].lsn < batch->lsn;
    }
    return known->batch_count < BATCHES_MAX ? 0 : -E2BIG;
}

/* As weir_verify: the whole log. */
static int scan(struct memory_dir *files, struct known_log *note, struct weir_report *report_out)
{
    struct weir__mem mem;
    struct weir__dir dir;
    struct weir__catalog catalog;
    struct weir__control_found found;
    struct weir__scan_result result;
    struct weir__fault fault = WEIR__FAULT_NONE;
    const struct weir__mem_hooks hooks = {memory_hooks.alloc, memory_hooks.release, NULL};
    weir__mem_init(&mem, &hooks);
    int code = weir__dir_look(&dir, &files->io, &mem, DIR, false, &fault);
    code = code == 0 ? weir__catalog_init(&catalog, &mem) : code;
    if (code != 0) {
        impossible("scan", code);
    }
    code = weir__catalog_load(&catalog, &dir, &fault);
    code = code == 0 ? weir__scan_control(&dir, &catalog, &found, &fault) : code;
    if (code == 0) {
        const struct weir__scan_config config = {
            .dir = &dir,
            .catalog = &catalog,
            .control = &found,
            .from_oldest = true,
            .batch = note == NULL ? NULL : batch_note,
            .ctx = note,
        };
        code = weir__scan(&config, &result, &fault);
    }
    if (code == 0) {
        *report_out = result.report;
        if (note != NULL) {
            note->end = result.report.end_lsn;
            note->promise = result.report.promise_lsn;
        }
    }
    weir__catalog_exit(&catalog);
    weir__dir_close(&dir);
    weir__mem_exit(&mem);
    return code;
}

/* False: the idle log has put its last promise into the control file before it was copied. */
static bool log_make(struct known_log *known, bool closed)
{
    struct dice dice = {closed ? 1 : 2};
    struct memory_dir *const files = &known->files;
    const struct weir_options options = options_for(false);
    struct weir_log *log = NULL;
    struct weir_error error;
    memset(known, 0, sizeof *known);
    memory_dir_init(files);
    int code = weir__open_with(&work.io, DIR, &options, &log, &error);
    if (code != 0) {
        impossible("open", code);
    }
    while (weir_end_lsn(log) < 2 * SEGMENT_BYTES + 5000) {
        group_append(known, log, &dice, false);
    }
    /* The next segment stands ready before long. */
    while (weir__catalog_count(&log->catalog) < SEGMENTS) {
        clock_sleep_ns(CLOCK_NS_PER_MS);
    }
    group_append(known, log, &dice, true);
    if (closed && (code = weir_close(log, NULL)) != 0) {
        impossible("close", code);
    }
    (void)pthread_mutex_lock(&work.mutex);
    memory_dir_copy(files, DIR, &work, DIR);
    (void)pthread_mutex_unlock(&work.mutex);
    if (!closed) {
        (void)weir_close(log, NULL);
    }
    memory_dir_clear(&work, NULL);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        known->segments[i] = (struct weir__range){i * SEGMENT_BYTES, (i + 1) * SEGMENT_BYTES};
    }
    struct weir_report report;
    code = scan(files, known, &report);
    const struct known_batch *const last = &known->batches[known->batch_count - 1];
    if (code != 0 || report.verdict != WEIR_VERDICT_CLEAN || last->end != known->end ||
        known->records[known->record_count - 1].lsn < last->lsn || known->promise < last->lsn) {
        fprintf(stderr, "weir-stress bitrot: not the log that was meant: %s\n", report.why);
        exit(STATUS_FAILED);
    }
    return known->promise == (closed ? known->end : last->lsn);
}

/* ---- cases ----------------------------------------------------------------------------------- */

enum case_kind { FLIP_SEGMENT, FLIP_CONTROL, CUT_SEGMENT, CUT_CONTROL, CASE_KINDS };

static const char *const case_names[CASE_KINDS] = {"bit of a segment",
                                                   "bit of the control file",
                                                   "cut of a segment",
                                                   "cut of the control file"};

static const uint64_t case_counts[CASE_KINDS] = {
    SEGMENTS * SEGMENT_BYTES * 8,
    (uint64_t)2 * WEIR__CONTROL_USED_BYTES * 8,
    SEGMENTS *SEGMENT_BYTES,
    WEIR__CONTROL_FILE_BYTES,
};

struct rot_case {
    unsigned state;
    enum case_kind kind;
    uint64_t number; /* of its kind */
};

static uint64_t cases_per_state(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < CASE_KINDS; i++) {
        sum += case_counts[i];
    }
    return sum;
}

static struct rot_case case_of(uint64_t number)
{
    struct rot_case rot = {.state = (unsigned)(number / cases_per_state())};
    number %= cases_per_state();
    while (number >= case_counts[rot.kind]) {
        number -= case_counts[rot.kind++];
    }
    rot.number = number;
    return rot;
}

/* What a case did, for people. */
static void case_tell(const struct rot_case *rot, char *out, size_t room)
{
    const uint64_t at = rot->number;
    const char *const state = state_words[rot->state];
    switch (rot->kind) {
    case FLIP_SEGMENT:
        (void)snprintf(out, room, "%s log, LSN %" PRIu64 ", bit %" PRIu64, state, at / 8, at % 8);
        break;
    case FLIP_CONTROL:
        (void)snprintf(out,
                       room,
                       "%s log, copy %" PRIu64 " of the control file, byte %" PRIu64
                       ", bit %" PRIu64,
                       state,
                       at / 8 / WEIR__CONTROL_USED_BYTES,
                       at / 8 % WEIR__CONTROL_USED_BYTES,
                       at % 8);
        break;
    case CUT_SEGMENT:
        (void)snprintf(out,
                       room,
                       "%s log, the segment at LSN %" PRIu64 " cut to %" PRIu64 " bytes",
                       state,
                       at / SEGMENT_BYTES * SEGMENT_BYTES,
                       at % SEGMENT_BYTES);
        break;
    default:
        (void)snprintf(out, room, "%s log, the control file cut to %" PRIu64 " bytes", state, at);
        break;
    }
}

static struct memory_file *segment_file(const struct known_log *known, unsigned index)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(known->segments[index].base, known->segments[index].end, name);
    struct memory_file *const file = memory_dir_find(&work, DIR, name);
    if (file == NULL) {
        impossible(name, -ENOENT);
    }
    return file;
}

static void case_apply(const struct rot_case *rot)
{
    const struct known_log *const known = &logs[rot->state];
    memory_dir_copy(&work, DIR, &known->files, DIR);
    const uint64_t byte = rot->number / 8;
    const uint8_t mask = (uint8_t)(1u << rot->number % 8);
    switch (rot->kind) {
    case FLIP_SEGMENT:
        segment_file(known, (unsigned)(byte / SEGMENT_BYTES))->data[byte % SEGMENT_BYTES] ^= mask;
        break;
    case FLIP_CONTROL:
        memory_dir_find(&work, DIR, WEIR__CONTROL_NAME)
            ->data[byte / WEIR__CONTROL_USED_BYTES * WEIR__CONTROL_COPY_OFFSET +
                   byte % WEIR__CONTROL_USED_BYTES] ^= mask;
        break;
    case CUT_SEGMENT:
        memory_file_resize(segment_file(known, (unsigned)(rot->number / SEGMENT_BYTES)),
                           rot->number % SEGMENT_BYTES);
        break;
    default:
        memory_file_resize(memory_dir_find(&work, DIR, WEIR__CONTROL_NAME), rot->number);
        break;
    }
}

/* What has to come of it. */
enum due {
    DUE_ALL,     /* everything is there */
    DUE_LOUD,    /* corrupt, or a reader's error; records before `batch` are there */
    DUE_TORN,    /* the last batch is cut */
    DUE_REFUSED, /* nobody can open it */
    DUES
};

static const char *const due_names[DUES] = {"whole", "corrupt", "torn", "refused"};

static enum due case_due(const struct rot_case *rot, const struct known_batch **batch_out)
{
    const struct known_log *const known = &logs[rot->state];
    *batch_out = NULL;
    if (rot->kind == FLIP_CONTROL) {
        return DUE_ALL;
    }
    if (rot->kind == CUT_CONTROL) {
        return rot->number < WEIR__CONTROL_USED_BYTES ? DUE_REFUSED : DUE_ALL;
    }
    if (rot->kind == CUT_SEGMENT) {
        /* What a prepared segment has lost could have been a promise, unless the log says where it
         * ends. */
        return rot->state == STATE_KILLED ||
                       rot->number / SEGMENT_BYTES * SEGMENT_BYTES < known->end
                   ? DUE_LOUD
                   : DUE_ALL;
    }
    const weir_lsn lsn = rot->number / 8;
    if (lsn % SEGMENT_BYTES < WEIR__SEGMENT_HEADER_BYTES && lsn < known->end) {
        return DUE_LOUD;
    }
    for (unsigned i = 0; i < known->batch_count; i++) {
        if (lsn >= known->batches[i].lsn && lsn < known->batches[i].end) {
            *batch_out = &known->batches[i];
            return (*batch_out)->lsn < known->promise ? DUE_LOUD : DUE_TORN;
        }
    }
    return DUE_ALL;
}

/* ---- looking --------------------------------------------------------------------------------- */

struct seen {
    int open_code;
    unsigned records;
    bool wrong; /* a record that was not appended, or out of its place */
    int end;    /* what the cursor said last */
    weir_lsn end_lsn;
    struct weir_report report;
    bool changed; /* a file of the log, by an opening that was refused */
};

static void records_read(const struct known_log *known, struct weir_log *log, struct seen *seen)
{
    struct weir_cursor *cursor = NULL;
    struct weir_error error;
    seen->end = weir_cursor_open_with(log, WEIR_LSN_OLDEST, WEIR_WRITTEN, 0, &cursor, &error);
    if (seen->end != 0) {
        seen->end_lsn = error.lsn;
    }
    while (seen->end == 0) {
        struct weir_entry entry;
        seen->end = weir_cursor_next(cursor, WEIR_TRY, &entry);
        if (seen->end != 0) {
            break;
        }
        const struct known_record *const record = &known->records[seen->records];
        if (seen->records == known->record_count || entry.lsn != record->lsn ||
            entry.tag != record->tag || entry.bytes != record->bytes ||
            memcmp(entry.data, record->payload, record->bytes) != 0) {
            seen->wrong = true;
            break;
        }
        seen->records++;
    }
    if (cursor != NULL && seen->end != WEIR_EEND) {
        (void)weir_cursor_error(cursor, &error);
        seen->end_lsn = error.lsn;
    }
    weir_cursor_close(cursor);
}

static void look(const struct known_log *known, bool read_only, struct seen *seen)
{
    const struct weir_options options = options_for(read_only);
    const uint64_t before = read_only ? 0 : memory_dir_hash(&work, DIR);
    struct weir_log *log = NULL;
    struct weir_error error;
    memset(seen, 0, sizeof *seen);
    seen->end_lsn = UINT64_MAX;
    seen->open_code = weir__open_with(&work.io, DIR, &options, &log, &error);
    if (seen->open_code != 0) {
        seen->changed = !read_only && memory_dir_hash(&work, DIR) != before;
        return;
    }
    weir_log_report(log, &seen->report);
    records_read(known, log, seen);
    (void)weir_close(log, NULL);
}

static bool whole(const struct weir_report *report)
{
    return report->verdict != WEIR_VERDICT_CORRUPT && report->verdict != WEIR_VERDICT_UNREADABLE;
}

/* NULL: it is as it must be. */
static const char *judge(const struct rot_case *rot,
                         enum due due,
                         const struct known_log *known,
                         const struct known_batch *batch,
                         int scan_code,
                         const struct weir_report *report,
                         const struct seen *reader,
                         const struct seen *writer)
{
    const struct known_batch *const last = &known->batches[known->batch_count - 1];
    const bool loud = scan_code == 0 && !whole(report) && report->bad_lsn != UINT64_MAX;

    if (reader->wrong || writer->wrong) {
        return "a record was returned that was not appended";
    }
    if (writer->changed) {
        return "a refused opening changed a file";
    }
    switch (due) {
    case DUE_REFUSED:
        return scan_code == WEIR_ECORRUPT && reader->open_code == WEIR_ECORRUPT &&
                       writer->open_code == WEIR_ECORRUPT
                   ? NULL
                   : "not refused as corrupt";
    case DUE_ALL:
        if (scan_code != 0 || !whole(report)) {
            return "the scan calls it damaged";
        }
        if (reader->open_code != 0 || writer->open_code != 0) {
            return "not opened";
        }
        if (reader->records != known->record_count || reader->end != WEIR_EEND ||
            writer->records != known->record_count || writer->end != WEIR_EEND) {
            return "not all records are there";
        }
        return NULL;
    case DUE_TORN:
        if (scan_code != 0 || report->verdict != WEIR_VERDICT_TORN || reader->open_code != 0 ||
            writer->open_code != 0 || writer->report.verdict != WEIR_VERDICT_TORN) {
            return "not torn";
        }
        if (report->end_lsn != last->lsn || report->bytes_cut != last->end - last->lsn ||
            writer->report.bytes_cut != last->end - last->lsn) {
            return "not the bytes of the last batch were cut";
        }
        if (reader->records != last->records_before || reader->end != WEIR_EEND ||
            writer->records != last->records_before || writer->end != WEIR_EEND) {
            return "not the records before the last batch are there";
        }
        return NULL;
    default:
        break;
    }
    /* DUE_LOUD. A writer's opening, which looks from the checkpoint on, may see nothing of it. */
    if (!loud) {
        return "the scan does not call it corrupt";
    }
    if (batch == NULL && rot->kind == FLIP_SEGMENT) {
        const weir_lsn base = weir__align_down(rot->number / 8, SEGMENT_BYTES);
        if (reader->open_code != 0 || reader->end != WEIR_ECORRUPT || reader->end_lsn != base ||
            report->bad_lsn != base) {
            return "a segment's header is not told by its LSN";
        }
    }
    if (batch != NULL) {
        if (reader->open_code != 0 || reader->end != WEIR_ECORRUPT) {
            return "no error to the reader";
        }
        const weir_lsn from = batch == &known->batches[0] ? 0 : batch[-1].end;
        if (report->bad_lsn < from || report->bad_lsn >= batch->end || reader->end_lsn < from ||
            reader->end_lsn >= batch->end) {
            return "the error names another place";
        }
        if (reader->records != batch->records_before) {
            return "not the records before the damage are there";
        }
    }
    if (writer->open_code != 0 && writer->open_code != WEIR_ECORRUPT &&
        writer->open_code != WEIR_EUNREADABLE) {
        return "refused with another code";
    }
    return NULL;
}

/* ---- a worker -------------------------------------------------------------------------------- */

struct job {
    pid_t process;
    bool over;
    bool failed;
    uint64_t failed_case;
    char why[200];
    /* now: the case under way. Relaxed: a number on its own. */
    _Atomic uint64_t now;
    uint64_t cases[STATES][CASE_KINDS];
    uint64_t dues[STATES][DUES];
    uint64_t by_reader; /* loud cases that a reader's error named */
    uint64_t by_writer; /* loud cases in which the opening was refused */
};

struct page {
    /* next: the first case that nobody has taken; done: how many were looked at. Relaxed: numbers on
     * their own. */
    _Atomic uint64_t next;
    _Atomic uint64_t done;
    _Atomic bool stop;
    struct job jobs[];
};

struct bitrot {
    int state;
    uint64_t jobs;
    uint64_t sample;
    uint64_t seed;
    uint64_t one;    /* a single case; UINT64_MAX: all */
    uint64_t from;   /* the first case */
    uint64_t for_ns; /* 0: no limit */
    uint64_t end_ns; /* no case is begun later than that; UINT64_MAX: no limit */
    struct page *page;
};

static bool case_run(struct job *job, uint64_t number)
{
    const struct rot_case rot = case_of(number);
    const struct known_log *const known = &logs[rot.state];
    const struct known_batch *batch = NULL;
    const enum due due = case_due(&rot, &batch);
    struct weir_report report;
    struct seen reader;
    struct seen writer;

    case_apply(&rot);
    memset(&report, 0, sizeof report);
    const int scan_code = scan(&work, NULL, &report);
    look(known, true, &reader);
    look(known, false, &writer);
    memory_dir_clear(&work, NULL);
    job->cases[rot.state][rot.kind]++;
    job->dues[rot.state][due]++;
    if (due == DUE_LOUD) {
        job->by_reader += reader.end == WEIR_ECORRUPT || reader.end == WEIR_EUNREADABLE;
        job->by_writer += writer.open_code != 0;
    }
    const char *const why = judge(&rot, due, known, batch, scan_code, &report, &reader, &writer);
    if (why == NULL) {
        return true;
    }
    job->failed = true;
    job->failed_case = number;
    (void)snprintf(job->why,
                   sizeof job->why,
                   "%s (scan: code %d, verdict %d, bad LSN %" PRIu64 ", cut %" PRIu64
                   "; reader: code %d, %u records, then %d; writer: code %d, %u records)",
                   why,
                   scan_code,
                   (int)report.verdict,
                   report.bad_lsn,
                   report.bytes_cut,
                   reader.open_code,
                   reader.records,
                   reader.end,
                   writer.open_code,
                   writer.records);
    return false;
}

static bool case_wanted(const struct bitrot *bitrot, uint64_t number)
{
    return (bitrot->state == STATES || (unsigned)bitrot->state == number / cases_per_state()) &&
           (bitrot->sample <= 1 || dice_mix(number ^ dice_mix(bitrot->seed)) % bitrot->sample == 0);
}

static void worker_run(const struct bitrot *bitrot, struct job *job)
{
    struct page *const page = bitrot->page;
    const uint64_t all = STATES * cases_per_state();

    /* What was taken is done to its end: so all cases below page->next are, when all have come back. */
    while (!atomic_load_explicit(&page->stop, memory_order_relaxed)) {
        const uint64_t from =
            atomic_fetch_add_explicit(&page->next, CASES_AT_ONCE, memory_order_relaxed);
        if (from >= all) {
            break;
        }
        for (uint64_t at = from; at < weir__min_u64(from + CASES_AT_ONCE, all); at++) {
            atomic_store_explicit(&job->now, at, memory_order_relaxed);
            if (case_wanted(bitrot, at) && !case_run(job, at)) {
                atomic_store_explicit(&page->stop, true, memory_order_relaxed);
                return;
            }
        }
        atomic_fetch_add_explicit(&page->done, CASES_AT_ONCE, memory_order_relaxed);
        if (clock_now_ns() >= bitrot->end_ns) {
            break; /* behind the first ones at the earliest: every run gets on */
        }
    }
}

/* ---- the parent ------------------------------------------------------------------------------ */

static bool job_start(const struct bitrot *bitrot, struct job *job)
{
    (void)fflush(stdout);
    const pid_t process = fork();
    if (process == 0) {
        worker_run(bitrot, job);
        _exit(0);
    }
    job->process = process; /* the page is the child's, too */
    return process > 0;
}

static void jobs_watch(const struct bitrot *bitrot)
{
    struct progress progress;
    uint64_t left = bitrot->jobs;

    progress_begin(&progress, "bitrot");
    while (left > 0) {
        clock_sleep_ns(10 * CLOCK_NS_PER_MS);
        left = 0;
        for (uint64_t i = 0; i < bitrot->jobs; i++) {
            struct job *const job = &bitrot->page->jobs[i];
            int status = 0;
            if (!job->over && waitpid(job->process, &status, WNOHANG) == job->process) {
                job->over = true;
                if (status != 0 && !job->failed) {
                    job->failed = true;
                    job->failed_case = atomic_load_explicit(&job->now, memory_order_relaxed);
                    (void)
                        snprintf(job->why, sizeof job->why, "the process died, status %d", status);
                    atomic_store_explicit(&bitrot->page->stop, true, memory_order_relaxed);
                }
            }
            left += !job->over;
        }
        progress_show(&progress,
                      atomic_load_explicit(&bitrot->page->done, memory_order_relaxed),
                      STATES * cases_per_state());
    }
    progress_end(&progress);
}

static void result_print(const struct bitrot *bitrot, uint64_t begun_ns)
{
    struct job sum;

    memset(&sum, 0, sizeof sum);
    uint64_t cases = 0;
    for (uint64_t i = 0; i < bitrot->jobs; i++) {
        const struct job *const job = &bitrot->page->jobs[i];
        for (unsigned state = 0; state < STATES; state++) {
            for (unsigned kind = 0; kind < CASE_KINDS; kind++) {
                sum.cases[state][kind] += job->cases[state][kind];
                cases += job->cases[state][kind];
            }
            for (unsigned due = 0; due < DUES; due++) {
                sum.dues[state][due] += job->dues[state][due];
            }
        }
        sum.by_reader += job->by_reader;
        sum.by_writer += job->by_writer;
    }
    for (unsigned state = 0; state < STATES; state++) {
        for (unsigned kind = 0; kind < CASE_KINDS; kind++) {
            if (sum.cases[state][kind] > 0) {
                printf("%s: %-25s %" PRIu64 "\n",
                       state_words[state],
                       case_names[kind],
                       sum.cases[state][kind]);
            }
        }
        for (unsigned due = 0; due < DUES; due++) {
            if (sum.dues[state][due] > 0) {
                printf("%s: as due: %-16s %" PRIu64 "\n",
                       state_words[state],
                       due_names[due],
                       sum.dues[state][due]);
            }
        }
    }
    printf("corrupt, named by a reader        %" PRIu64 "\n", sum.by_reader);
    printf("corrupt, refused to a writer      %" PRIu64 "\n", sum.by_writer);
    printf("cases                             %" PRIu64 ", three looks each\n", cases);
    printf("seconds                           %.1f\n", (double)(clock_now_ns() - begun_ns) / 1e9);
}

static bool failure_print(const struct bitrot *bitrot)
{
    bool found = false;

    for (uint64_t i = 0; i < bitrot->jobs; i++) {
        const struct job *const job = &bitrot->page->jobs[i];
        if (job->failed) {
            const struct rot_case rot = case_of(job->failed_case);
            char what[160];
            case_tell(&rot, what, sizeof what);
            fprintf(stderr,
                    "%s: %s\nrun it again: weir-stress bitrot --case %" PRIu64 "\n",
                    what,
                    job->why,
                    job->failed_case);
            found = true;
        }
    }
    return found;
}

/* Where the time was up before the last case: how far it came, and how to go on. */
static void rest_print(const struct bitrot *bitrot)
{
    const uint64_t all = STATES * cases_per_state();
    const uint64_t next = atomic_load_explicit(&bitrot->page->next, memory_order_relaxed);

    if (bitrot->one != UINT64_MAX || bitrot->for_ns == 0 || next >= all) {
        return;
    }
    printf("covered                           cases %" PRIu64 " to %" PRIu64 " of %" PRIu64
           "; go on: weir-stress bitrot --from %" PRIu64,
           bitrot->from,
           next,
           all,
           next);
    if (bitrot->state != STATES) {
        printf(" --state %s", state_words[bitrot->state]);
    }
    if (bitrot->sample > 1) {
        printf(" --sample %" PRIu64 " --seed %" PRIu64, bitrot->sample, bitrot->seed);
    }
    printf("\n");
}

static int bitrot_run(struct bitrot *bitrot)
{
    const size_t bytes = sizeof *bitrot->page + bitrot->jobs * sizeof *bitrot->page->jobs;
    const uint64_t begun_ns = clock_now_ns();

    memory_dir_init(&work);
    for (unsigned state = 0; state < STATES; state++) {
        for (unsigned tries = 0; !log_make(&logs[state], state == STATE_CLOSED); tries++) {
            if (tries == 100) {
                impossible("the log is always idle", -ETIMEDOUT);
            }
        }
    }
    bitrot->page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (bitrot->page == MAP_FAILED) {
        impossible("no memory", -errno);
    }
    atomic_store_explicit(&bitrot->page->next, bitrot->from, memory_order_relaxed);
    bitrot->end_ns = bitrot->for_ns == 0 ? UINT64_MAX : clock_now_ns() + bitrot->for_ns;
    if (bitrot->one != UINT64_MAX) {
        bitrot->jobs = 1;
        bitrot->page->jobs[0].over = true;
        (void)case_run(&bitrot->page->jobs[0], bitrot->one);
    } else {
        for (uint64_t i = 0; i < bitrot->jobs; i++) {
            if (!job_start(bitrot, &bitrot->page->jobs[i])) {
                fprintf(stderr, "weir-stress bitrot: fork: %s\n", strerror(errno));
                bitrot->jobs = i;
                break;
            }
        }
        jobs_watch(bitrot);
    }
    result_print(bitrot, begun_ns);
    const bool found = failure_print(bitrot);
    if (!found) {
        rest_print(bitrot);
    }
    printf("result                            %s\n", found ? "FAULTS FOUND" : "nothing found");
    munmap(bitrot->page, bytes);
    return found || bitrot->jobs == 0 ? STATUS_FAILED : STATUS_OK;
}

int bitrot_main(int argc, char **argv)
{
    struct bitrot bitrot = {.state = STATES, .sample = 1, .seed = 1, .one = UINT64_MAX};
    const struct option_row rows[] = {
        {.name = "state",
         .kind = OPTION_CHOICE,
         .target = &bitrot.state,
         .value = "closed|killed|all",
         .choices = state_words,
         .help = "of which log (default all)"},
        {.name = "sample",
         .kind = OPTION_NUMBER,
         .target = &bitrot.sample,
         .value = "N",
         .min = 1,
         .help = "one case in N, by chance (default 1: all)"},
        {.name = "seed",
         .kind = OPTION_NUMBER,
         .target = &bitrot.seed,
         .value = "N",
         .help = "which those are (default 1)"},
        {.name = "jobs",
         .kind = OPTION_NUMBER,
         .target = &bitrot.jobs,
         .value = "J",
         .min = 1,
         .max = JOBS_MAX,
         .help = "processes (default: processors)"},
        {.name = "case",
         .kind = OPTION_NUMBER,
         .target = &bitrot.one,
         .value = "N",
         .max = CASES_MAX - 1,
         .help = "this case only"},
        {.name = "from",
         .kind = OPTION_NUMBER,
         .target = &bitrot.from,
         .value = "N",
         .max = CASES_MAX - 1,
         .help = "the first case (default 0)"},
        {.name = "for",
         .kind = OPTION_DURATION,
         .target = &bitrot.for_ns,
         .value = "DURATION",
         .help = "begin no case later than that: 30s, 10m, 2h; it says how far it came"},
        {.name = NULL},
    };
    const int status = args_only(&text, rows, argc, argv);

    if (status != ARGS_RUN) {
        return status;
    }
    if (bitrot.jobs == 0) {
        const long processors = sysconf(_SC_NPROCESSORS_ONLN);
        bitrot.jobs = processors < 1 ? 1 : processors > JOBS_MAX ? JOBS_MAX : (uint64_t)processors;
    }
    return bitrot_run(&bitrot);
}
