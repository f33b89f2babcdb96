/* SPDX-License-Identifier: Apache-2.0
 * weir bench: makes a log in a directory that was empty or not there, loads it (load.c), prints the
 * figures, and takes everything away again. */
#include "args.h"
#include "json.h"
#include "load.h"
#include "notes.h"
#include "scratch.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <weir/weir.h>

enum {
    PRODUCERS_MAX = 4096,
    GROUP_MAX = 65536,
    RECORD_BYTES_DEFAULT = 16 << 20, /* the library's record_bytes_max */
    FRAME_BYTES = 64,                /* more than a record in a group takes besides its bytes */
};

static const char *const wait_words[] = {"durable", "written", "none", NULL};

struct bench_options {
    const char *dir;
    uint64_t producers;
    uint64_t size;
    uint64_t group;
    double seconds;
    int wait;
    bool async;
    int io;
    int policy;
    uint64_t segment_bytes;
    uint64_t retain_bytes;
    uint64_t slot_bytes;
    uint64_t slots;
    uint64_t inflight;
    bool buffered;
    bool rotation_tail;
    bool json;
    bool keep;
};

/* ---- figures --------------------------------------------------------------------------------- */

static uint64_t stalls_of(const struct weir_stats *stats)
{
    return stats->stalls_slot + stats->stalls_oversize + stats->stalls_segment;
}

static double p99_9_us(const struct histogram *histogram)
{
    return histogram->count == 0 ? (double)NAN : (double)histogram_quantile(histogram, 0.999) / 1e3;
}

static void result_json(const struct bench_options *options,
                        const struct weir_log_info *info,
                        uint64_t memory_bound,
                        const struct load_result *result)
{
    struct json json = JSON_INIT(stdout);
    const double ops_per_s = (double)result->records / result->seconds;

    json_begin(&json, '{');
    json_member_text(&json, "engine", "weir");
    json_member_text(&json, "version", weir_version());
    json_member_text(&json, "io", text_io(info->io_used));
    json_member_text(&json, "policy", text_policy_words[info->policy]);
    json_member_u64(&json, "producers", options->producers);
    json_member_u64(&json, "size", options->size);
    json_member_text(&json, "wait", wait_words[options->wait]);
    json_member_bool(&json, "async", options->async);
    json_member_real(&json, "seconds", result->seconds, 6);
    json_member_u64(&json, "records", result->records);
    json_member_real(&json, "ops_per_s", ops_per_s, 1);
    json_member_real(&json, "mb_per_s", ops_per_s * (double)options->size / 1e6, 3);
    histogram_member_us(&json, "lat_us", &result->latency);
    if (options->async) {
        histogram_member_us(&json, "ack_us", &result->ack);
    }
    json_member_real(&json, "cpu_s", result->cpu_seconds, 6);
    json_member_u64(&json, "batches", result->end.batches - result->begin.batches);
    json_member_u64(&json, "stalls", stalls_of(&result->end) - stalls_of(&result->begin));
    json_member_u64(&json,
                    "segments_prefilled",
                    result->end.segments_prefilled - result->begin.segments_prefilled);
    json_member_u64(&json,
                    "segments_recycled",
                    result->end.segments_recycled - result->begin.segments_recycled);
    json_member_u64(&json,
                    "bytes_padding",
                    result->end.padding_bytes - result->begin.padding_bytes);
    json_member_u64(&json, "bytes_on_disk", result->end.disk_bytes);
    json_member_u64(&json, "memory_peak", result->end.memory_bytes_peak);
    json_member_u64(&json, "memory_bound", memory_bound);
    if (options->rotation_tail) {
        json_key(&json, "rotation");
        json_begin(&json, '{');
        json_member_u64(&json, "count", result->rotations);
        json_member_real(&json, "near_p99_9", p99_9_us(&result->near), 3);
        json_member_real(&json, "rest_p99_9", p99_9_us(&result->rest), 3);
        json_member_real(&json, "ratio", p99_9_us(&result->near) / p99_9_us(&result->rest), 3);
        json_end(&json, '}');
    }
    json_end(&json, '}');
    json_line(&json);
}

static void result_print(const struct bench_options *options,
                         const struct weir_log_info *info,
                         uint64_t memory_bound,
                         const struct load_result *result)
{
    const double ops_per_s = (double)result->records / result->seconds;
    const uint64_t batches = result->end.batches - result->begin.batches;

    printf("producers      %" PRIu64 ", %s each, wait %s%s\n",
           options->producers,
           text_bytes(options->size).chars,
           wait_words[options->wait],
           options->async ? ", async" : "");
    printf("io             %s\n", info->io_reason);
    printf("policy         %s: waiting producers yield from %" PRIu32 " on, up to %" PRIu32
           " are collected\n",
           text_policy_words[info->policy],
           info->yield_from,
           info->collect_max);
    printf("seconds        %.3f, after %.3f of warm-up\n",
           result->seconds,
           result->warm_up_seconds);
    printf("records        %s\n", text_count(result->records).chars);
    printf("records/s      %s\n", text_count((uint64_t)ops_per_s).chars);
    printf("MB/s           %.1f\n", ops_per_s * (double)options->size / 1e6);
    printf("call           ");
    histogram_print_us(&result->latency, stdout);
    if (options->async) {
        printf("to durability  ");
        histogram_print_us(&result->ack, stdout);
    }
    printf("cpu            %.3f s, %.2f us per record\n",
           result->cpu_seconds,
           result->records != 0 ? result->cpu_seconds * 1e6 / (double)result->records : 0.0);
    printf("batches        %s, %.1f records each\n",
           text_count(batches).chars,
           batches != 0 ? (double)(result->end.appends - result->begin.appends) / (double)batches
                        : 0.0);
    printf("stalls         %s\n",
           text_count(stalls_of(&result->end) - stalls_of(&result->begin)).chars);
    printf("segments       %s prefilled, %s recycled\n",
           text_count(result->end.segments_prefilled - result->begin.segments_prefilled).chars,
           text_count(result->end.segments_recycled - result->begin.segments_recycled).chars);
    printf("padding        %s\n",
           text_bytes(result->end.padding_bytes - result->begin.padding_bytes).chars);
    printf("on disk        %s\n", text_bytes(result->end.disk_bytes).chars);
    printf("memory         %s of at most %s\n",
           text_bytes(result->end.memory_bytes_peak).chars,
           text_bytes(memory_bound).chars);
    if (options->rotation_tail) {
        printf("rotations      %s: p99.9 within 50 ms %.1f us, else %.1f us\n",
               text_count(result->rotations).chars,
               p99_9_us(&result->near),
               p99_9_us(&result->rest));
    }
}

/* ---- the run --------------------------------------------------------------------------------- */

static void log_options_fill(const struct bench_options *options, struct weir_options *log_options)
{
    const uint64_t group_bytes = options->group * (options->size + FRAME_BYTES);

    log_options->io = (enum weir_io)options->io;
    log_options->policy = (enum weir_policy)options->policy;
    log_options->segment_bytes = options->segment_bytes;
    log_options->slot_bytes = (uint32_t)options->slot_bytes;
    log_options->slots = (uint32_t)options->slots;
    log_options->max_inflight = (uint32_t)options->inflight;
    log_options->buffered = options->buffered;
    if (group_bytes > RECORD_BYTES_DEFAULT) {
        log_options->record_bytes_max = (uint32_t)group_bytes;
    }
}

static int bench_log(const struct bench_options *options)
{
    struct notes notes = {.verb = "bench", .dir = options->dir};
    struct weir_options log_options = WEIR_OPTIONS_INIT;
    struct weir_error error = text_no_error();
    struct weir_log *log = NULL;
    struct weir_log_info info;
    struct load_result *result = calloc(1, sizeof(*result));

    if (result == NULL) {
        text_failure("bench", options->dir, -ENOMEM, NULL);
        return STATUS_FAILED;
    }
    log_options_fill(options, &log_options);
    log_options.on_event = notes_event;
    log_options.event_ctx = &notes;
    int rc = weir_open(options->dir, &log_options, &log, &error);
    if (rc != 0) {
        text_failure("bench", options->dir, rc, &error);
        free(result);
        return STATUS_FAILED;
    }
    weir_log_describe(log, &info);
    const struct load_options load_options = {
        .producers = (size_t)options->producers,
        .size = (size_t)options->size,
        .group = (size_t)options->group,
        .seconds = options->seconds,
        .wait = (enum load_wait)options->wait,
        .async = options->async,
        .rotation_tail = options->rotation_tail,
        .retain_bytes = options->retain_bytes,
        .segment_bytes = info.segment_bytes,
    };
    const int loaded = load_run(log, &load_options, result);
    rc = weir_close(log, &error);
    if (loaded == -EINTR) {
        fprintf(stderr, "weir bench: %s: stopped by a signal\n", options->dir);
    } else if (loaded != 0) {
        fprintf(stderr, "weir bench: %s: %s\n", options->dir, result->cause);
    } else if (rc != 0) {
        text_failure("bench", options->dir, rc, &error);
    } else {
        (options->json ? result_json
                       : result_print)(options, &info, weir_memory_bound(&log_options), result);
    }
    free(result);
    return loaded == 0 && rc == 0 ? STATUS_OK : STATUS_FAILED;
}

/* ---- the command line ------------------------------------------------------------------------ */

static const struct verb_text text = {
    .name = "bench",
    .summary = "measure appending",
    .operands = "--dir DIR",
    .about =
        "N threads append records of incompressible bytes to a new log in DIR, which must be\n"
        "empty or not exist. With --wait durable (or written) each thread waits for its own\n"
        "record before it appends the next. With --async they do not wait, everything is\n"
        "durable at the end, and only durable records count: the window ends when the last of\n"
        "them is. With --wait none nothing is waited for: calls are counted.\n"
        "\n"
        "Records more than --retain behind the durable LSN are trimmed, so that segments\n"
        "recycle. The warm-up lasts until they do, and is not counted: at most 15 s, and 1 s\n"
        "where the volume is too small for it. What was written is removed at the end, unless\n"
        "--keep.\n"
        "\n"
        "With --json, one line: engine, version, io (the way in use), policy, producers, size,\n"
        "wait, async, seconds (of the window), records, ops_per_s (records), mb_per_s (10^6 "
        "payload\n"
        "bytes), lat_us (time of a call; with --wait durable, call to acknowledgement; of a\n"
        "group, the whole group; with --async and --wait none, of one call in 64 or in 100 us),\n"
        "ack_us (only with --async: from the beginning of the append\n"
        "to durability, sampled: one call in 1000, and at least one per ms and thread), cpu_s\n"
        "(user and system time of the process in the window), batches, stalls (calls that slept\n"
        "for a slot or an oversize buffer, and segments that were not ready),\n"
        "segments_prefilled, segments_recycled, bytes_padding, bytes_on_disk (all segment files\n"
        "at the end), memory_peak (the most that the log held) and memory_bound (what\n"
        "weir_memory_bound gives for these options). Percentiles are exact to 1 %, the maximum is "
        "exact. With --rotation-tail\n"
        "also rotation: count of the segments entered, p99.9 in us of the calls that ended\n"
        "within 50 ms behind one and of the rest, and the ratio; of long runs, one call in so\n"
        "many is noted that 4 million notes suffice.\n",
    .exits = "  0   done\n"
             "  1   it failed, or was stopped by a signal: one line on standard error says what\n"
             "  64  the command line is wrong, or DIR is not empty\n",
    .example = "  weir bench --dir /var/tmp/bench --producers 16 --size 128 --seconds 3\n",
    .operands_min = 0,
    .operands_max = 0,
};

static int options_check(const struct bench_options *options)
{
    if (options->dir == NULL || options->dir[0] == '\0') {
        return args_wrong(&text, "--dir: needed");
    }
    if (options->async && options->wait != LOAD_WAIT_DURABLE) {
        return args_wrong(&text, "--async: only with --wait durable");
    }
    if (options->group * (options->size + FRAME_BYTES) > UINT32_MAX) {
        return args_wrong(&text,
                          "--group: %" PRIu64 " records of %" PRIu64
                          " bytes are too much for one group",
                          options->group,
                          options->size);
    }
    return ARGS_RUN;
}

int bench_main(int argc, char **argv)
{
    struct bench_options options = {.producers = 1,
                                    .size = 128,
                                    .group = 1,
                                    .seconds = 3,
                                    .retain_bytes = UINT64_C(1) << 30};
    const struct option_row rows[] = {
        {.name = "dir",
         .kind = OPTION_WORD,
         .target = &options.dir,
         .value = "DIR",
         .help = "where the log is made; empty, or not there"},
        {.name = "producers",
         .kind = OPTION_NUMBER,
         .target = &options.producers,
         .value = "N",
         .min = 1,
         .max = PRODUCERS_MAX,
         .help = "threads that append, 1 to 4096 (default 1)"},
        {.name = "size",
         .kind = OPTION_BYTES,
         .target = &options.size,
         .value = "BYTES",
         .max = 1 << 30,
         .help = "payload of a record (default 128)"},
        {.name = "group",
         .kind = OPTION_NUMBER,
         .target = &options.group,
         .value = "K",
         .min = 1,
         .max = GROUP_MAX,
         .help = "records per atomic group (default 1: single records)"},
        {.name = "seconds",
         .kind = OPTION_SECONDS,
         .target = &options.seconds,
         .value = "S",
         .help = "length of the window (default 3)"},
        {.name = "wait",
         .kind = OPTION_CHOICE,
         .target = &options.wait,
         .value = "durable|written|none",
         .choices = wait_words,
         .help = "what each producer waits for (default durable)"},
        {.name = "async",
         .kind = OPTION_FLAG,
         .target = &options.async,
         .help = "producers do not wait; only durable records count"},
        {.name = "io",
         .kind = OPTION_CHOICE,
         .target = &options.io,
         .value = "auto|chain|dsync|posix",
         .choices = text_io_words,
         .help = "how batches are made durable (default auto)"},
        {.name = "policy",
         .kind = OPTION_CHOICE,
         .target = &options.policy,
         .value = "default|low-latency|off",
         .choices = text_policy_words,
         .help = "what waiting producers do before they sleep (default default)"},
        {.name = "segment",
         .kind = OPTION_BYTES,
         .target = &options.segment_bytes,
         .value = "BYTES",
         .help = "size of a segment (default 64M)"},
        {.name = "retain",
         .kind = OPTION_BYTES,
         .target = &options.retain_bytes,
         .value = "BYTES",
         .help = "how much of the log is kept behind the durable LSN (default 1G)"},
        {.name = "slot",
         .kind = OPTION_BYTES,
         .target = &options.slot_bytes,
         .value = "BYTES",
         .max = 16 << 20,
         .help = "buffer in which a batch is gathered, 4K to 16M (default 1M)"},
        {.name = "slots",
         .kind = OPTION_NUMBER,
         .target = &options.slots,
         .value = "N",
         .max = 512,
         .help = "how many of them, 2 to 512 (default 8)"},
        {.name = "inflight",
         .kind = OPTION_NUMBER,
         .target = &options.inflight,
         .value = "N",
         .max = 256,
         .help = "writes or chains under way at once, 1 to 256 (default 8)"},
        {.name = "buffered",
         .kind = OPTION_FLAG,
         .target = &options.buffered,
         .help = "do not use O_DIRECT"},
        {.name = "rotation-tail",
         .kind = OPTION_FLAG,
         .target = &options.rotation_tail,
         .help = "compare calls shortly behind a change of segment with the rest"},
        {.name = "json",
         .kind = OPTION_FLAG,
         .target = &options.json,
         .help = "print one JSON object, on one line"},
        {.name = "keep",
         .kind = OPTION_FLAG,
         .target = &options.keep,
         .help = "do not remove the log"},
        {.name = NULL},
    };
    int status = args_parse(&text, rows, argc, argv, NULL);

    if (status == ARGS_RUN) {
        status = options_check(&options);
    }
    if (status != ARGS_RUN) {
        return status;
    }
    struct scratch scratch;
    int rc = scratch_claim(&scratch, options.dir);
    if (rc == -ENOTEMPTY) {
        return args_wrong(&text, "--dir %s: not empty; nothing there was touched", options.dir);
    }
    if (rc == 0) {
        rc = stop_install();
    }
    if (rc < 0) {
        text_failure("bench", options.dir, rc, NULL);
        return STATUS_FAILED;
    }
    status = bench_log(&options);
    if (!options.keep) {
        rc = scratch_remove(&scratch);
        if (rc != 0) {
            text_failure("bench", options.dir, rc, NULL);
            status = STATUS_FAILED;
        }
    }
    return text_finish("bench", status, false);
}
