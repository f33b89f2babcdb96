/* SPDX-License-Identifier: Apache-2.0
 * weir ingest: the main thread reads the input and deals the records out to N producers, record i
 * to producer i mod N; each producer appends its own in their order, waits as it was told to, and
 * reports acknowledgements. At the end everything is made durable, and only then the figures are
 * printed.
 *
 * The first thing that fails ends the reading, and the exit status tells. Where it was an append,
 * the producers throw away what is still under way to them; where it was the input, they finish.
 * What was acknowledged stays acknowledged. */
#include "acks.h"
#include "args.h"
#include "clock.h"
#include "framing.h"
#include "histogram.h"
#include "intake.h"
#include "json.h"
#include "lane.h"
#include "notes.h"
#include "progress.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <weir/weir.h>

enum {
    PRODUCERS_MAX = 4096,
    PRODUCER_STACK_BYTES = 256 * 1024,
    TAG_LINE_BITS = 48,
};
#define BUDGET_BYTES (UINT64_C(64) << 20)

enum wait {
    WAIT_DURABLE = WEIR_DURABLE,
    WAIT_WRITTEN = WEIR_WRITTEN,
    WAIT_NONE,
};

static const char *const wait_words[] = {"durable", "written", "none", NULL};

enum tag_kind {
    TAG_BOTH, /* producer above, line below */
    TAG_PRODUCER,
    TAG_LINE,
    TAG_FIXED,
};

struct ingest_options {
    const char *dir;
    const char *file; /* NULL or "-": standard input */
    uint64_t producers;
    int wait;
    int io;
    uint64_t acks_fd;
    bool acks;
    bool zero;
    bool length_prefixed;
    const char *tag_word;
    enum tag_kind tag_kind;
    uint64_t tag_fixed;
    uint64_t segment_bytes;
    uint64_t slot_bytes;
    uint64_t record_bytes_max;
    bool json;
};

struct ingest {
    const struct ingest_options *options;
    struct weir_log *log;
    struct lanes *lanes;
    struct acks *acks;
    /* Something failed, and the log will take no more. Both are set once, by fail, and read by
     * loops that only want to end early: relaxed, because nothing is read on their word; the cause
     * is read after the threads were joined. */
    atomic_bool failed;
    atomic_bool dropping;
    pthread_mutex_t lock; /* guards the cause */
    char cause[512];
};

struct producer {
    struct ingest *ingest;
    size_t index;
    pthread_t thread;
    uint64_t records; /* appended, and acknowledged if it waits */
    uint64_t bytes;
    struct histogram latency;
};

/* ---- failure --------------------------------------------------------------------------------- */

static bool has_failed(struct ingest *ingest)
{
    return atomic_load_explicit(&ingest->failed, memory_order_relaxed);
}

/* Keeps the first cause, and ends the reading. */
__attribute__((format(printf, 2, 3))) static void
fail(struct ingest *ingest, const char *format, ...)
{
    va_list list;

    pthread_mutex_lock(&ingest->lock);
    if (!has_failed(ingest)) {
        va_start(list, format);
        vsnprintf(ingest->cause, sizeof(ingest->cause), format, list);
        va_end(list);
        atomic_store_explicit(&ingest->failed, true, memory_order_relaxed);
    }
    pthread_mutex_unlock(&ingest->lock);
    stop_ask();
}

/* The log's own words for a code, where it has some. */
static void fail_append(struct ingest *ingest, int code, uint64_t line, bool fate_unknown)
{
    struct weir_error error = text_no_error();

    atomic_store_explicit(&ingest->dropping, true, memory_order_relaxed);

    const bool known = (code == WEIR_EFAILED || code == -ENOSPC) &&
                       weir_log_error(ingest->log, &error) != 0 && error.text[0] != '\0';
    fail(ingest,
         "record %" PRIu64 ": %s: %s%s",
         line,
         weir_error_name(code),
         known ? error.text : weir_strerror(code),
         fate_unknown ? "; its fate is unknown until the log is opened again" : "");
}

/* ---- producers ------------------------------------------------------------------------------- */

static uint64_t tag_of(const struct ingest_options *options, size_t producer, uint64_t line)
{
    switch (options->tag_kind) {
    case TAG_PRODUCER:
        return producer;
    case TAG_LINE:
        return line;
    case TAG_FIXED:
        return options->tag_fixed;
    case TAG_BOTH:
        break;
    }
    return (uint64_t)producer << TAG_LINE_BITS | (line & ((UINT64_C(1) << TAG_LINE_BITS) - 1));
}

/* Return: false if the record could not be taken. */
static bool record_append(struct producer *producer, const struct lane_record *record)
{
    struct ingest *ingest = producer->ingest;
    const struct ingest_options *options = ingest->options;
    const uint64_t tag = tag_of(options, producer->index, record->line);
    const bool deferred = ingest->acks != NULL && options->wait == WAIT_NONE;
    weir_lsn lsn = WEIR_LSN_NONE;
    int rc;

    if (deferred) {
        acks_announce(ingest->acks, producer->index);
    }
    const uint64_t begin_ns = clock_now_ns();
    if (options->wait == WAIT_NONE) {
        rc = weir_append(ingest->log, record->data, (size_t)record->bytes, tag, &lsn);
    } else {
        rc = weir_append_wait(ingest->log,
                              record->data,
                              (size_t)record->bytes,
                              tag,
                              (enum weir_level)options->wait,
                              &lsn);
    }
    const uint64_t end_ns = clock_now_ns();
    if (deferred) {
        acks_appended(ingest->acks, producer->index, rc == 0 ? lsn : WEIR_LSN_NONE, record->line);
    }
    if (rc != 0) {
        fail_append(ingest, rc, record->line, rc == WEIR_EFAILED && lsn != WEIR_LSN_NONE);
        return false;
    }
    histogram_add(&producer->latency, end_ns - begin_ns);
    producer->records++;
    producer->bytes += record->bytes;
    if (ingest->acks != NULL && !deferred) {
        acks_put(ingest->acks, lsn, record->line);
    }
    return true;
}

static void *producer_run(void *ctx)
{
    struct producer *producer = ctx;
    struct ingest *ingest = producer->ingest;

    for (;;) {
        struct parcel *parcel = lane_take(ingest->lanes, producer->index);
        if (parcel == NULL) {
            return NULL;
        }
        struct lane_record record;
        while (!atomic_load_explicit(&ingest->dropping, memory_order_relaxed) &&
               parcel_next(parcel, &record)) {
            if (!record_append(producer, &record)) {
                break;
            }
        }
        parcel_release(ingest->lanes, parcel);
    }
}

/* Return: how many were started; with fewer than count the failure is noted. */
static size_t producers_start(struct ingest *ingest, struct producer *producers, size_t count)
{
    pthread_attr_t attributes;
    size_t started = 0;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, PRODUCER_STACK_BYTES);
    while (started < count) {
        struct producer *producer = &producers[started];
        producer->ingest = ingest;
        producer->index = started;
        const int rc = pthread_create(&producer->thread, &attributes, producer_run, producer);
        if (rc != 0) {
            fail(ingest, "producer %zu could not be started: %s", started, weir_strerror(-rc));
            break;
        }
        started++;
    }
    pthread_attr_destroy(&attributes);
    return started;
}

/* ---- the reader ------------------------------------------------------------------------------ */

/* Deals the whole input out. Return: how many records. */
static uint64_t input_deal(struct ingest *ingest, struct intake *intake, uint64_t total_bytes)
{
    const size_t producers = (size_t)ingest->options->producers;
    uint64_t line = 0;
    struct progress progress;

    progress_begin(&progress, "ingest");
    while (!has_failed(ingest)) {
        const unsigned char *data = NULL;
        size_t bytes = 0;
        const enum intake_result result = intake_next(intake, &data, &bytes);
        int rc = 0;
        if (result == INTAKE_RECORD) {
            rc = lane_put(ingest->lanes, (size_t)(line % producers), line, data, bytes);
            line++;
        } else if (result == INTAKE_MORE) {
            lanes_flush(ingest->lanes);
            rc = intake_fill(intake);
            progress_show(&progress, intake->bytes_read, total_bytes);
        } else if (result == INTAKE_TOO_BIG) {
            fail(ingest,
                 "record %" PRIu64
                 " is larger than %zu bytes, the largest that this log takes (--record-max)",
                 line,
                 intake->record_bytes_max);
        } else if (result == INTAKE_CUT) {
            fail(ingest, "the input ends inside record %" PRIu64, line);
        } else {
            break;
        }
        if (rc != 0) {
            fail(ingest, "input: %s", weir_strerror(rc));
        }
    }
    lanes_end(ingest->lanes);
    progress_end(&progress);
    return line;
}

/* ---- the report ------------------------------------------------------------------------------ */

struct ingest_report {
    uint64_t records;
    uint64_t bytes;
    double seconds;
    struct histogram latency;
    struct weir_stats stats;
    struct weir_log_info info;
    weir_lsn durable_lsn;
};

static uint64_t stalls_of(const struct weir_stats *stats)
{
    return stats->stalls_slot + stats->stalls_oversize + stats->stalls_segment;
}

static void
report_json(const struct ingest_options *options, const struct ingest_report *report, FILE *to)
{
    struct json json = JSON_INIT(to);

    json_begin(&json, '{');
    json_member_text(&json, "dir", options->dir);
    json_member_u64(&json, "producers", options->producers);
    json_member_text(&json, "wait", wait_words[options->wait]);
    json_member_text(&json, "io", text_io(report->info.io_used));
    json_member_u64(&json, "records", report->records);
    json_member_u64(&json, "bytes", report->bytes);
    json_member_real(&json, "seconds", report->seconds, 6);
    json_member_real(&json, "durable_records_per_s", (double)report->records / report->seconds, 1);
    json_member_real(&json, "mb_per_s", (double)report->bytes / 1e6 / report->seconds, 3);
    histogram_member_us(&json, "lat_us", &report->latency);
    json_member_u64(&json, "batches", report->stats.batches);
    json_member_u64(&json, "stalls", stalls_of(&report->stats));
    json_member_lsn(&json, "durable_lsn", report->durable_lsn);
    json_member_u64(&json, "epoch", report->info.epoch);
    json_end(&json, '}');
    json_line(&json);
}

static void
report_print(const struct ingest_options *options, const struct ingest_report *report, FILE *to)
{
    fprintf(to, "records            %s\n", text_count(report->records).chars);
    fprintf(to, "bytes              %s\n", text_count(report->bytes).chars);
    fprintf(to, "seconds            %.3f\n", report->seconds);
    fprintf(to,
            "durable records/s  %s\n",
            text_count((uint64_t)((double)report->records / report->seconds)).chars);
    fprintf(to,
            "latency (%s)%*s",
            wait_words[options->wait],
            options->wait == WAIT_NONE ? 5 : 2,
            "");
    histogram_print_us(&report->latency, to);
    fprintf(to, "batches            %s\n", text_count(report->stats.batches).chars);
    fprintf(to, "stalls             %s\n", text_count(stalls_of(&report->stats)).chars);
    fprintf(to, "io                 %s\n", report->info.io_reason);
    fprintf(to, "durable LSN        %s\n", text_lsn(report->durable_lsn).chars);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Between opening and closing the log. */
static void log_fill(struct ingest *ingest,
                     struct intake *intake,
                     struct producer *producers,
                     uint64_t total_bytes,
                     struct ingest_report *report)
{
    const struct ingest_options *options = ingest->options;
    const uint64_t begin_ns = clock_now_ns();
    const size_t started = producers_start(ingest, producers, (size_t)options->producers);

    input_deal(ingest, intake, total_bytes);
    for (size_t i = 0; i < started; i++) {
        pthread_join(producers[i].thread, NULL);
        report->records += producers[i].records;
        report->bytes += producers[i].bytes;
        histogram_merge(&report->latency, &producers[i].latency);
    }
    const int rc = weir_sync(ingest->log, WEIR_FOREVER);
    if (rc != 0) {
        struct weir_error error = text_no_error();
        weir_log_error(ingest->log, &error);
        fail(ingest,
             "%s: %s",
             weir_error_name(rc),
             error.text[0] != '\0' ? error.text : weir_strerror(rc));
    }
    report->seconds = (double)(clock_now_ns() - begin_ns) / 1e9;
    weir_stats(ingest->log, &report->stats);
    report->durable_lsn = weir_durable_lsn(ingest->log);
    if (intake->stopped && !has_failed(ingest)) {
        fail(ingest, "stopped by a signal; what was taken until then is durable");
    }
}

/* Opens everything that a run needs, runs it, closes everything. Return: false with the cause kept.
 */
static bool
ingest_run(struct ingest *ingest, int input_fd, int stop_fd, struct ingest_report *report)
{
    const struct ingest_options *options = ingest->options;
    const size_t count = (size_t)options->producers;
    struct intake intake = {.fd = -1};
    struct stat status;
    const enum framing framing = options->length_prefixed ? FRAMING_LENGTH
                                 : options->zero          ? FRAMING_ZERO
                                                          : FRAMING_LINES;
    const size_t record_bytes_max = report->info.record_bytes_max;
    const uint64_t budget = BUDGET_BYTES + 2 * (uint64_t)record_bytes_max;
    struct producer *producers = calloc(count, sizeof(*producers));
    int rc = producers != NULL ? 0 : -ENOMEM;

    if (rc == 0) {
        rc = intake_open(&intake, input_fd, stop_fd, framing, record_bytes_max);
    }
    if (rc == 0) {
        rc = lanes_open(&ingest->lanes, count, budget);
    }
    if (rc == 0 && options->acks) {
        rc = acks_open(&ingest->acks,
                       (int)options->acks_fd,
                       count,
                       options->wait == WAIT_NONE,
                       ingest->log);
    }
    if (rc == 0) {
        const bool sized = fstat(input_fd, &status) == 0 && S_ISREG(status.st_mode);
        log_fill(ingest, &intake, producers, sized ? (uint64_t)status.st_size : 0, report);
    } else {
        fail(ingest, "%s", weir_strerror(rc));
    }
    if (ingest->acks != NULL) {
        rc = acks_close(ingest->acks);
        if (rc != 0) {
            fail(ingest,
                 "--acks %" PRIu64 ": %s; the records were taken",
                 options->acks_fd,
                 weir_strerror(rc));
        }
    }
    if (ingest->lanes != NULL) {
        lanes_close(ingest->lanes);
    }
    intake_close(&intake);
    free(producers);
    return !has_failed(ingest);
}

static int ingest_log(const struct ingest_options *options, int input_fd, int stop_fd)
{
    struct notes notes = {.verb = "ingest", .dir = options->dir};
    struct weir_options log_options = WEIR_OPTIONS_INIT;
    struct ingest ingest = {.options = options, .lock = PTHREAD_MUTEX_INITIALIZER};
    struct weir_error error = text_no_error();

    log_options.io = (enum weir_io)options->io;
    log_options.segment_bytes = options->segment_bytes;
    log_options.slot_bytes = (uint32_t)options->slot_bytes;
    log_options.record_bytes_max = (uint32_t)options->record_bytes_max;
    log_options.on_event = notes_event;
    log_options.event_ctx = &notes;
    struct progress progress;
    progress_begin(&progress, "recovery");
    log_options.on_progress = progress_show;
    log_options.progress_ctx = &progress;

    int rc = weir_open(options->dir, &log_options, &ingest.log, &error);
    progress_end(&progress);
    if (rc != 0) {
        text_failure("ingest", options->dir, rc, &error);
        return STATUS_FAILED;
    }
    notes_recovered(&notes, ingest.log);
    struct ingest_report *report = calloc(1, sizeof(*report));
    bool done = false;
    if (report != NULL) {
        weir_log_describe(ingest.log, &report->info);
        done = ingest_run(&ingest, input_fd, stop_fd, report);
    } else {
        fail(&ingest, "%s", weir_strerror(-ENOMEM));
    }
    rc = weir_close(ingest.log, &error);
    if (rc != 0 && done) {
        text_failure("ingest", options->dir, rc, &error);
    }
    if (!done) {
        fprintf(stderr, "weir ingest: %s: %s\n", options->dir, ingest.cause);
    }
    if (report != NULL && report->seconds > 0) {
        /* Acknowledgements on standard output shall not be mixed with figures. */
        FILE *to = options->acks && options->acks_fd == STDOUT_FILENO ? stderr : stdout;
        (options->json ? report_json : report_print)(options, report, to);
    }
    free(report);
    return done && rc == 0 ? STATUS_OK : STATUS_FAILED;
}

/* ---- the command line ------------------------------------------------------------------------ */

static const struct verb_text text = {
    .name = "ingest",
    .summary = "append the lines of a file or of standard input as records",
    .operands = "DIR [FILE|-]",
    .about =
        "Each line of FILE (default: standard input) becomes a record, without its newline; the\n"
        "last line may lack one. DIR is created if it does not exist. Records are counted from\n"
        "0: record i goes to producer i mod N, each producer appends its own in their order,\n"
        "and between producers there is none.\n"
        "\n"
        "With --wait durable each producer waits until its record survives a power cut before\n"
        "it appends the next; written: until it survives a kill of this process; none: it does\n"
        "not wait. Whatever was chosen, everything is durable when the command returns 0.\n"
        "\n"
        "--acks FD: for each acknowledged record a line \"LSN RECORD\" is written to the\n"
        "descriptor FD, which must be open already, never before the acknowledgement that\n"
        "--wait asks for; with --wait none, once the record is durable, in LSN order. If FD is\n"
        "standard output, the figures go to standard error.\n"
        "\n"
        "SIGINT and SIGTERM end the input: what was read is made durable, and the exit code is\n"
        "1.\n",
    .exits = ARGS_EXITS,
    .example = "  seq 1000000 | weir ingest --producers 16 /tmp/log\n"
               "  weir cat /tmp/log | sort -n | tail -n 1\n",
    .operands_min = 1,
    .operands_max = 2,
};

static int tag_parse(struct ingest_options *options)
{
    const char *word = options->tag_word;

    if (strcmp(word, "both") == 0) {
        options->tag_kind = TAG_BOTH;
    } else if (strcmp(word, "producer") == 0) {
        options->tag_kind = TAG_PRODUCER;
    } else if (strcmp(word, "line") == 0) {
        options->tag_kind = TAG_LINE;
    } else if (args_lsn(word, &options->tag_fixed)) {
        options->tag_kind = TAG_FIXED;
    } else {
        return args_wrong(&text, "--tag %s: must be both, producer, line or a number", word);
    }
    return ARGS_RUN;
}

static int options_check(struct ingest_options *options)
{
    if (options->zero && options->length_prefixed) {
        return args_wrong(&text, "--zero and --length-prefixed exclude each other");
    }
    if (options->acks) {
        /* Looked at before anything is opened: the number could else become one of the log's own
         * files. */
        const int flags = fcntl((int)options->acks_fd, F_GETFL);
        if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
            return args_wrong(&text, "--acks %" PRIu64 ": not open for writing", options->acks_fd);
        }
    }
    return tag_parse(options);
}

int ingest_main(int argc, char **argv)
{
    struct ingest_options options = {.producers = 1, .tag_word = "both"};
    const struct option_row rows[] = {
        {.name = "producers",
         .kind = OPTION_NUMBER,
         .target = &options.producers,
         .value = "N",
         .min = 1,
         .max = PRODUCERS_MAX,
         .help = "threads that append, 1 to 4096 (default 1)"},
        {.name = "wait",
         .kind = OPTION_CHOICE,
         .target = &options.wait,
         .value = "durable|written|none",
         .choices = wait_words,
         .help = "what each producer waits for (default durable)"},
        {.name = "io",
         .kind = OPTION_CHOICE,
         .target = &options.io,
         .value = "auto|chain|dsync|posix",
         .choices = text_io_words,
         .help = "how batches are made durable (default auto; see weir doctor)"},
        {.name = "acks",
         .kind = OPTION_NUMBER,
         .target = &options.acks_fd,
         .given = &options.acks,
         .value = "FD",
         .max = INT32_MAX,
         .help = "descriptor for acknowledgements (default: none)"},
        {.name = "zero",
         .kind = OPTION_FLAG,
         .target = &options.zero,
         .help = "records end in a NUL byte instead of a newline"},
        {.name = "length-prefixed",
         .kind = OPTION_FLAG,
         .target = &options.length_prefixed,
         .help = "each record is a 32-bit little-endian count of bytes, then the bytes"},
        {.name = "tag",
         .kind = OPTION_WORD,
         .target = &options.tag_word,
         .value = "WHAT",
         .help = "tag of the records: both (producer number in the upper 16 bits, record number "
                 "in the lower 48, so that each producer's order can be rebuilt), producer, "
                 "line, or a number (default both)"},
        {.name = "segment",
         .kind = OPTION_BYTES,
         .target = &options.segment_bytes,
         .value = "BYTES",
         .help = "size of segments to come (default 64M, or as the log has it)"},
        {.name = "slot",
         .kind = OPTION_BYTES,
         .target = &options.slot_bytes,
         .value = "BYTES",
         .max = 16 << 20,
         .help = "size of the buffers in which batches are gathered, 4K to 16M (default 1M)"},
        {.name = "record-max",
         .kind = OPTION_BYTES,
         .target = &options.record_bytes_max,
         .value = "BYTES",
         .max = INT32_MAX,
         .help = "largest record (default 16M, or what fits into a segment)"},
        {.name = "json",
         .kind = OPTION_FLAG,
         .target = &options.json,
         .help = "print the figures as one JSON object"},
        {.name = NULL},
    };
    const char *operands[2];
    int status = args_parse(&text, rows, argc, argv, operands);

    if (status == ARGS_RUN) {
        status = options_check(&options);
    }
    if (status != ARGS_RUN) {
        return status;
    }
    options.dir = operands[0];
    options.file = operands[1];
    const bool named = options.file != NULL && strcmp(options.file, "-") != 0;
    const int input_fd = named ? open(options.file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (input_fd < 0) {
        fprintf(stderr, "weir ingest: %s: %s\n", options.file, weir_strerror(-errno));
        return STATUS_FAILED;
    }
    const int stop_fd = stop_install();
    if (stop_fd < 0) {
        fprintf(stderr, "weir ingest: signals: %s\n", weir_strerror(stop_fd));
        return STATUS_FAILED;
    }
    status = ingest_log(&options, input_fd, stop_fd);
    if (named) {
        close(input_fd);
    }
    return text_finish("ingest", status, false);
}
