/* SPDX-License-Identifier: Apache-2.0
 * The lines of weir-stress perf about logs that are there already: reading everything, and opening.
 *
 * scan: weir verify --cached, as a process, against a plain pread of the same files in pieces of 1 MiB, warm
 * (both were just read) and cold (the page cache was told to forget them before each).
 * open: weir_open of a clean log of many segments against one of few; the system calls are counted
 * with strace around a weir ingest of nothing. */
#include "perf.h"

#include "clock.h"
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <weir/weir.h>

enum {
    PIECE_BYTES = 1 << 20,
    OPEN_SEGMENT_BYTES = 256 * 1024,
    OPEN_RECORD_BYTES = 50 * 1024, /* five to a segment */
    OPEN_FEW = 10,
    OPEN_MANY = 10000,
    OPEN_MS_MORE = 10,
};

/* Calls with the path of every segment file of a log, until a call fails. */
static int segments_each(const char *dir, int (*call)(void *ctx, const char *path), void *ctx)
{
    char path[8192];
    DIR *stream = opendir(dir);
    int rc = 0;

    if (stream == NULL) {
        return -errno;
    }
    for (const struct dirent *entry = readdir(stream); entry != NULL && rc == 0;
         entry = readdir(stream)) {
        const size_t length = strlen(entry->d_name);
        if (length > 5 && strcmp(entry->d_name + length - 5, ".weir") == 0) {
            snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
            rc = call(ctx, path);
        }
    }
    closedir(stream);
    return rc;
}

/* ---- scan ------------------------------------------------------------------------------------ */

struct reading {
    void *piece;
    uint64_t bytes;
};

static int segment_read(void *ctx, const char *path)
{
    struct reading *reading = ctx;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = 0;

    if (file < 0) {
        return -errno;
    }
    off_t at = 0;
    while ((count = pread(file, reading->piece, PIECE_BYTES, at)) > 0) {
        at += count;
    }
    reading->bytes += (uint64_t)at;
    const int rc = count < 0 ? -errno : 0;
    close(file);
    return rc;
}

static int segment_forget(void *ctx, const char *path)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);

    (void)ctx;
    if (file < 0) {
        return -errno;
    }
    /* Only what is clean can be forgotten. */
    fdatasync(file);
    const int rc = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
    return -rc;
}

/* Bytes per second of a plain read; 0 if it failed. */
static double plain_read_rate(const char *dir, void *piece)
{
    struct reading reading = {.piece = piece};
    const uint64_t begin_ns = clock_now_ns();
    const int rc = segments_each(dir, segment_read, &reading);

    return rc == 0 ? (double)reading.bytes * 1e9 / (double)(clock_now_ns() - begin_ns) : 0;
}

static double verify_rate(const struct perf *perf, const char *dir)
{
    static char output[PERF_OUTPUT_MAX];
    struct command command = {.count = 0};
    double bytes = 0;

    command_word(&command, "%s", perf->weir);
    command_word(&command, "verify");
    command_word(&command, "--cached");
    command_word(&command, "--json");
    command_word(&command, "%s", dir);
    const uint64_t begin_ns = clock_now_ns();
    const int status = command_run(&command, output, 120);
    const uint64_t took_ns = clock_now_ns() - begin_ns;
    if (status != 0 || !json_number(output, NULL, "bytes_scanned", &bytes)) {
        fprintf(stderr, "weir-stress perf: weir verify %s: status %d\n", dir, status);
        return 0;
    }
    return bytes * 1e9 / (double)took_ns;
}

void perf_scan(struct perf *perf)
{
    static char output[PERF_OUTPUT_MAX];
    static const char *const more[] = {"--async", "--keep", "--retain", "1G", NULL};
    struct series plain[2] = {{.count = 0}};
    struct series verify[2] = {{.count = 0}};
    char dir[8192];
    void *piece = malloc(PIECE_BYTES);

    snprintf(dir, sizeof(dir), "%s/log", perf->dir);
    if (piece == NULL || !weir_bench(perf, "weir", 2, 256, 0.2, more, output)) {
        line_skipped("scan and verify", "its log could not be made");
        free(piece);
        return;
    }
    for (unsigned round = 0; round < perf->rounds && !stop_asked(); round++) {
        for (int cold = 0; cold < 2; cold++) {
            for (int turn = 0; turn < 2; turn++) {
                if (cold == 1) {
                    segments_each(dir, segment_forget, NULL);
                } else if (round == 0 && turn == 0) {
                    plain_read_rate(dir, piece);
                }
                if ((turn == 0) == (round % 2 == 0)) {
                    series_add(&plain[cold], plain_read_rate(dir, piece));
                } else {
                    series_add(&verify[cold], verify_rate(perf, dir));
                }
                if (cold == 1 && turn == 1) {
                    /* Warm again, for the next round. */
                    plain_read_rate(dir, piece);
                }
            }
        }
    }
    for (int cold = 0; cold < 2; cold++) {
        char note[200];
        const struct series ratio = series_ratio(&verify[cold], &plain[cold]);
        snprintf(note,
                 sizeof(note),
                 "verify %.2f GB/s, pread %.2f GB/s",
                 series_median(&verify[cold]) / 1e9,
                 series_median(&plain[cold]) / 1e9);
        line_at_least(perf,
                      cold == 1 ? "scan and verify, 256 B, cold, against plain pread"
                                : "scan and verify, 256 B, warm, against plain pread",
                      &ratio,
                      cold == 1 ? 0.95 : 0.45,
                      note);
    }
    free(piece);
    perf_clear(perf, "log");
}

/* ---- open ------------------------------------------------------------------------------------ */

static int segment_count(void *ctx, const char *path)
{
    (void)path;
    *(unsigned *)ctx += 1;
    return 0;
}

static void open_options_fill(struct weir_options *options)
{
    options->segment_bytes = OPEN_SEGMENT_BYTES;
    options->slot_bytes = OPEN_SEGMENT_BYTES / 4;
    options->record_bytes_max = OPEN_SEGMENT_BYTES / 2;
    options->spare_segments = 4;
}

/* A clean log of at least so many segments. Return: 0 or what failed. */
static int log_make(const char *dir, unsigned segments)
{
    static const unsigned char record[OPEN_RECORD_BYTES];
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_log *log = NULL;
    struct weir_stats stats;

    open_options_fill(&options);
    int rc = weir_open(dir, &options, &log, NULL);
    if (rc != 0) {
        return rc;
    }
    do {
        rc = weir_append(log, record, sizeof(record), 0, NULL);
        weir_stats(log, &stats);
    } while (rc == 0 && stats.rotations + 1 < segments && !stop_asked());
    const int closed = weir_close(log, NULL);
    return rc != 0 ? rc : closed;
}

static double open_ms(const char *dir)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_log *log = NULL;

    open_options_fill(&options);
    const uint64_t begin_ns = clock_now_ns();
    const int rc = weir_open(dir, &options, &log, NULL);
    const double took_ms = (double)(clock_now_ns() - begin_ns) / 1e6;
    if (rc == 0) {
        weir_close(log, NULL);
    }
    return rc == 0 ? took_ms : -1;
}

struct calls {
    uint64_t opened;
    uint64_t read_bytes;
};

/* What strace wrote down about segment files. */
static bool calls_count(const char *path, struct calls *calls_out)
{
    char line[4096];
    FILE *file = fopen(path, "re");

    *calls_out = (struct calls){.opened = 0};
    if (file == NULL) {
        return false;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        const char *result = strrchr(line, '=');
        const long value = result != NULL ? strtol(result + 1, NULL, 10) : -1;
        if (value < 0) {
            continue;
        }
        if (strstr(line, "openat(") != NULL && strstr(line, ".weir\"") != NULL) {
            calls_out->opened++;
        } else if (strstr(line, "read") != NULL && strstr(line, ".weir>") != NULL) {
            calls_out->read_bytes += (uint64_t)value;
        }
    }
    fclose(file);
    return true;
}

static bool open_calls(const struct perf *perf, const char *dir, struct calls *calls_out)
{
    static char output[PERF_OUTPUT_MAX];
    struct command command = {.count = 0};
    char trace[8192];

    snprintf(trace, sizeof(trace), "%s/strace", perf->dir);
    command_word(&command, "strace");
    command_word(&command, "-f");
    command_word(&command, "-y");
    command_word(&command, "-e");
    command_word(&command, "trace=openat,read,pread64,readv,preadv,preadv2");
    command_word(&command, "-o");
    command_word(&command, "%s", trace);
    command_word(&command, "%s", perf->weir);
    command_word(&command, "ingest");
    command_word(&command, "--io");
    command_word(&command, "posix");
    command_word(&command, "%s", dir);
    command_word(&command, "/dev/null");
    return command_run(&command, output, 60) == 0 && calls_count(trace, calls_out) &&
           calls_out->opened > 0;
}

static void open_calls_judge(struct perf *perf, const char *few, const char *many)
{
    static const char what[] = "open, 10,000 segments against 10: segment files opened, bytes read";
    struct calls of_few;
    struct calls of_many;

    if (!open_calls(perf, few, &of_few) || !open_calls(perf, many, &of_many)) {
        line_skipped(what, "strace is not installed, or may not trace here");
        return;
    }
    const bool good = of_few.opened == of_many.opened && of_few.read_bytes == of_many.read_bytes;
    perf->failed = perf->failed || !good;
    printf("%-5s %-66s %" PRIu64 " against %" PRIu64 ", %" PRIu64 " against %" PRIu64
           " bytes  the same\n",
           good ? "pass" : "FAIL",
           what,
           of_many.opened,
           of_few.opened,
           of_many.read_bytes,
           of_few.read_bytes);
}

/* Not judged: between few and many. */
static void open_between(const struct perf *perf, const char *dir, unsigned segments)
{
    struct series ms = {.count = 0};
    char what[128];

    snprintf(what, sizeof(what), "open of a log of %u segments: ms", segments);
    for (unsigned round = 0; round < perf->rounds && !stop_asked(); round++) {
        const double took = open_ms(dir);
        if (took >= 0) {
            series_add(&ms, took);
        }
    }
    line_stated(what, &ms, NULL);
}

void perf_open(struct perf *perf)
{
    static const char what[] = "open, 10,000 segments of 256 KiB against 10: ms more";
    struct series few_ms = {.count = 0};
    struct series many_ms = {.count = 0};
    struct series more_ms = {.count = 0};
    char few[8192];
    char many[8192];
    char note[200];
    unsigned segments = 0;

    snprintf(few, sizeof(few), "%s/few", perf->dir);
    snprintf(many, sizeof(many), "%s/many", perf->dir);
    int rc = log_make(few, OPEN_FEW);
    rc = rc == 0 ? log_make(many, OPEN_MANY) : rc;
    if (rc != 0 || stop_asked()) {
        line_skipped(what, weir_strerror(rc));
        return;
    }
    segments_each(many, segment_count, &segments);
    open_calls_judge(perf, few, many);
    for (unsigned round = 0; round < perf->rounds; round++) {
        const double first = open_ms(round % 2 == 0 ? few : many);
        const double second = open_ms(round % 2 == 0 ? many : few);
        const double of_few = round % 2 == 0 ? first : second;
        const double of_many = round % 2 == 0 ? second : first;
        if (of_few < 0 || of_many < 0) {
            break;
        }
        series_add(&few_ms, of_few);
        series_add(&many_ms, of_many);
        series_add(&more_ms, of_many - of_few);
    }
    snprintf(note,
             sizeof(note),
             "%.1f ms with %u files, %.1f ms",
             series_median(&many_ms),
             segments,
             series_median(&few_ms));
    line_at_most(perf, what, &more_ms, OPEN_MS_MORE, note);
    open_between(perf, few, OPEN_FEW);
    for (unsigned count = 10 * OPEN_FEW; count < OPEN_MANY; count *= 10) {
        char between[8192];
        snprintf(between, sizeof(between), "%s/between", perf->dir);
        if (log_make(between, count) == 0) {
            open_between(perf, between, count);
        }
        perf_clear(perf, "between");
    }
    open_between(perf, many, OPEN_MANY);
    perf_clear(perf, "few");
    perf_clear(perf, "many");
}
