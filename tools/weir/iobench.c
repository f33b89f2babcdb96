/* SPDX-License-Identifier: Apache-2.0
 * weir iobench: prepares a file, reads or writes it through a queue of weir/io.h (ioload.c), lets
 * fio do the same where it is there (fio.c), prints both, and takes the file away again. */
#include "args.h"
#include "fio.h"
#include "ioload.h"
#include "json.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <weir/io.h>

enum {
    BLOCK_BYTES_MIN = 512,
    BLOCK_BYTES_MAX = 16 << 20, /* of a registered buffer */
    DIRECT_BYTES_MIN = 512,
    DEPTH_MAX = 1024, /* as many registered buffers as a queue has */
    ENGINES_MAX = 3,
    WHY_BYTES = 400,
};

static const char *const pattern_words[] = {"random", "sequential", NULL};
static const char *const rw_words[] = {"read", "write", NULL};
static const char *const yes_words[] = {"yes", "no", NULL};
static const char *const buffers_words[] = {"plain", "registered", NULL};
static const char *const fio_words[] = {"auto", "yes", "no", NULL};
static const char *const backend_words[] = {
    [WEIR_IO_BACKEND_AUTO] = "auto",
    [WEIR_IO_BACKEND_URING] = "uring",
    [WEIR_IO_BACKEND_POSIX] = "posix",
    NULL,
};

enum { FIO_AUTO, FIO_YES, FIO_NO };

struct iobench_options {
    const char *file;
    uint64_t size;
    bool size_given;
    uint64_t block;
    int pattern;
    int rw;
    uint64_t depth;
    uint64_t batch;
    int direct; /* index into yes_words */
    uint64_t sync_every;
    double seconds;
    int backend;
    int buffers;
    int fio;
    uint64_t seed;
    bool json;
    bool keep;
    bool overwrite;
};

/* What fio came to with one of its engines. */
struct fio_row {
    const char *engine;
    bool done;
    struct fio_result result;
    char why[WHY_BYTES];
};

struct fio_rows {
    size_t count;
    struct fio_row rows[ENGINES_MAX];
};

/* ---- figures --------------------------------------------------------------------------------- */

static double iops_of(const struct ioload_result *result)
{
    return (double)result->ops / result->seconds;
}

/* fio's syncs go out among the writes and wait for none of those under way; ours wait for all. */
static bool is_comparable(const struct iobench_options *options)
{
    return options->sync_every == 0 || options->depth == 1;
}

static void fio_json(const struct iobench_options *options,
                     struct json *json,
                     const struct fio_rows *fio,
                     double iops)
{
    json_key(json, "fio");
    json_begin(json, '[');
    for (size_t i = 0; i < fio->count; i++) {
        const struct fio_row *const row = &fio->rows[i];
        json_begin(json, '{');
        json_member_text(json, "engine", row->engine);
        if (row->done) {
            json_member_real(json, "iops", row->result.iops, 1);
            json_member_real(json, "mb_per_s", row->result.mb_per_s, 3);
            json_key(json, "lat_us");
            json_begin(json, '{');
            json_member_real(json, "p50", row->result.p50_us, 3);
            json_member_real(json, "p90", row->result.p90_us, 3);
            json_member_real(json, "p99", row->result.p99_us, 3);
            json_member_real(json, "p99_9", row->result.p99_9_us, 3);
            json_member_real(json, "max", row->result.max_us, 3);
            json_end(json, '}');
            json_member_real(json,
                             "ratio",
                             is_comparable(options) ? iops / row->result.iops : (double)NAN,
                             3);
        } else {
            json_member_text(json, "error", row->why);
        }
        json_end(json, '}');
    }
    json_end(json, ']');
}

static void result_json(const struct iobench_options *options,
                        const struct ioload_options *load,
                        const struct ioload_result *result,
                        const struct fio_rows *fio)
{
    struct json json = JSON_INIT(stdout);
    const double iops = iops_of(result);

    json_begin(&json, '{');
    json_member_text(&json, "engine", "weir");
    json_member_text(&json, "version", weir_version());
    json_member_text(&json, "backend", backend_words[result->effective.config.backend]);
    json_member_text(&json, "reason", result->effective.reason);
    json_member_text(&json, "file", options->file);
    json_member_u64(&json, "size", load->bytes);
    json_member_u64(&json, "block", options->block);
    json_member_text(&json, "pattern", pattern_words[options->pattern]);
    json_member_text(&json, "rw", rw_words[options->rw]);
    json_member_u64(&json, "depth", options->depth);
    json_member_u64(&json, "batch", load->batch);
    json_member_bool(&json, "direct", load->direct);
    json_member_u64(&json, "sync_every", options->sync_every);
    json_member_text(&json, "buffers", buffers_words[options->buffers]);
    json_member_real(&json, "seconds", result->seconds, 6);
    json_member_u64(&json, "ops", result->ops);
    json_member_real(&json, "iops", iops, 1);
    json_member_real(&json, "mb_per_s", iops * (double)options->block / 1e6, 3);
    histogram_member_us(&json, "lat_us", &result->latency);
    json_member_u64(&json, "syncs", result->syncs);
    if (result->syncs != 0) {
        histogram_member_us(&json, "sync_us", &result->sync);
    }
    json_member_real(&json, "cpu_s", result->cpu_seconds, 6);
    json_member_u64(&json, "cqe_overflows", result->stats.cqe_overflows);
    json_member_u64(&json, "sq_dropped", result->stats.sq_dropped);
    fio_json(options, &json, fio, iops);
    json_end(&json, '}');
    json_line(&json);
}

static void backend_print(const struct weir_io_effective *effective)
{
    if (effective->config.backend == WEIR_IO_BACKEND_URING) {
        printf("backend        uring, %" PRIu32 " entries, %" PRIu32 " for completions",
               effective->config.sq_entries,
               effective->cq_entries);
    } else {
        printf("backend        posix, %" PRIu32 " threads at most", effective->threads);
    }
    printf("%s%s\n", effective->reason[0] != '\0' ? ": " : "", effective->reason);
}

static void
fio_print(const struct iobench_options *options, const struct fio_rows *fio, double iops)
{
    for (size_t i = 0; i < fio->count; i++) {
        const struct fio_row *const row = &fio->rows[i];
        printf("\nfio %-10s ", row->engine);
        if (!row->done) {
            printf("%s\n", row->why);
            continue;
        }
        printf("IOPS %s, MB/s %.1f\n",
               text_count((uint64_t)row->result.iops).chars,
               row->result.mb_per_s);
        printf("latency        p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f us\n",
               row->result.p50_us,
               row->result.p90_us,
               row->result.p99_us,
               row->result.p99_9_us,
               row->result.max_us);
        if (is_comparable(options)) {
            printf("weir to fio    %.3f of its IOPS\n", iops / row->result.iops);
        } else {
            printf("weir to fio    not comparable: its syncs wait for no write under way\n");
        }
    }
}

static void result_print(const struct iobench_options *options,
                         const struct ioload_options *load,
                         const struct ioload_result *result,
                         const struct fio_rows *fio)
{
    const double iops = iops_of(result);

    printf("file           %s, %s\n", options->file, text_bytes(load->bytes).chars);
    printf("load           %s %s of %s, depth %" PRIu64 ", %" PRIu64 " at once, %s, %s buffers",
           pattern_words[options->pattern],
           rw_words[options->rw],
           text_bytes(options->block).chars,
           options->depth,
           load->batch,
           load->direct ? "O_DIRECT" : "through the page cache",
           buffers_words[options->buffers]);
    if (options->sync_every != 0) {
        printf(", a sync after every %" PRIu64, options->sync_every);
    }
    printf("\n");
    backend_print(&result->effective);
    printf("seconds        %.3f\n", result->seconds);
    printf("IOPS           %s\n", text_count((uint64_t)iops).chars);
    printf("MB/s           %.1f\n", iops * (double)options->block / 1e6);
    printf("latency        ");
    histogram_print_us(&result->latency, stdout);
    if (result->syncs != 0) {
        printf("fdatasync      %s, ", text_count(result->syncs).chars);
        histogram_print_us(&result->sync, stdout);
    }
    printf("cpu            %.3f s, %.2f us per operation\n",
           result->cpu_seconds,
           result->ops != 0 ? result->cpu_seconds * 1e6 / (double)result->ops : 0.0);
    fio_print(options, fio, iops);
}

/* ---- the run --------------------------------------------------------------------------------- */

static int result_failure(const char *file, const struct ioload_result *result)
{
    struct weir_error error = text_no_error();

    snprintf(error.text, sizeof(error.text), "%.399s", result->cause);
    text_failure("iobench", file, result->code, &error);
    return STATUS_FAILED;
}

static void fio_all(const struct ioload_options *load, struct fio_rows *fio)
{
    static const char *const engines[ENGINES_MAX] = {"io_uring", "psync", "libaio"};
    /* The others do one thing at a time, or are there for comparison only. */
    const size_t count = load->depth == 1 ? ENGINES_MAX : 1;

    for (size_t i = 0; i < count && !stop_asked(); i++) {
        struct fio_row *const row = &fio->rows[fio->count++];
        row->engine = engines[i];
        row->done = fio_run(load, engines[i], &row->result, row->why, sizeof(row->why));
    }
}

static int iobench_load(const struct iobench_options *options, const struct ioload_options *load)
{
    /* Histograms are too large for a stack. */
    static struct ioload_result result;
    static struct fio_rows fio;

    if (ioload_run(load, &result) != 0) {
        return result_failure(options->file, &result);
    }
    if (options->fio == FIO_YES || (options->fio == FIO_AUTO && fio_found())) {
        fio_all(load, &fio);
    }
    if (options->json) {
        result_json(options, load, &result, &fio);
    } else {
        result_print(options, load, &result, &fio);
    }
    const bool missing = options->fio == FIO_YES && (fio.count == 0 || !fio.rows[0].done);
    if (missing) {
        fprintf(stderr,
                "weir iobench: %s: %s\n",
                options->file,
                fio.count == 0 ? "fio was not run" : fio.rows[0].why);
    }
    return missing ? STATUS_FAILED : STATUS_OK;
}

static const struct verb_text text = {
    .name = "iobench",
    .summary = "measure reading and writing a file through weir/io.h",
    .operands = "",
    .about =
        "Makes FILE with every block of it written, reads or writes it for S seconds with N\n"
        "operations under way at any time, prints IOPS, MB/s and latencies, and removes it. Where\n"
        "fio is installed it then does the same with its io_uring engine (at depth 1 also with\n"
        "psync and libaio), and the ratio is printed. A FILE that is there is only read, unless\n"
        "--overwrite is given, and never removed.\n",
    .exits = ARGS_EXITS,
    .example = "  weir iobench --file /var/lib/service/scratch --depth 32\n"
               "  weir iobench --file scratch --rw write --sync-every 64 --json\n",
    .operands_min = 0,
    .operands_max = 0,
};

static int options_check(const struct iobench_options *options)
{
    if (options->file == NULL || options->file[0] == '\0') {
        return args_wrong(&text, "--file: needed");
    }
    if (options->direct == 0 && options->block % DIRECT_BYTES_MIN != 0) {
        return args_wrong(&text, "--block: with O_DIRECT a multiple of the device's block");
    }
    if (options->sync_every != 0 && options->rw == 0) {
        return args_wrong(&text, "--sync-every: only with --rw write");
    }
    if (options->size < options->block) {
        return args_wrong(&text, "--size: less than a block");
    }
    if (options->seconds > 1e6) {
        return args_wrong(&text, "--seconds: too many");
    }
    return ARGS_RUN;
}

/* Is the file there already? Then how much of it is used. Return: ARGS_RUN, or a status. */
static int
file_look(const struct iobench_options *options, struct ioload_options *load, bool *there)
{
    struct stat stat;

    *there = lstat(options->file, &stat) == 0;
    if (!*there) {
        if (errno != ENOENT) {
            text_failure("iobench", options->file, -errno, NULL);
            return STATUS_FAILED;
        }
        return ARGS_RUN;
    }
    if (options->rw != 0 && !options->overwrite) {
        return args_wrong(&text,
                          "--file %s: is there, and would be written over; nothing was touched "
                          "(--overwrite allows it)",
                          options->file);
    }
    if (!S_ISREG(stat.st_mode)) {
        return args_wrong(&text, "--file %s: not a regular file", options->file);
    }
    if (!options->size_given) {
        load->bytes = (uint64_t)stat.st_size;
    }
    if (load->bytes > (uint64_t)stat.st_size || load->bytes < options->block) {
        return args_wrong(&text,
                          "--size: %s has only %" PRIu64 " bytes",
                          options->file,
                          (uint64_t)stat.st_size);
    }
    return ARGS_RUN;
}

static int iobench_run(const struct iobench_options *options)
{
    static struct ioload_result made;
    struct ioload_options load = {
        .path = options->file,
        .bytes = options->size,
        .block = options->block,
        .sequential = options->pattern != 0,
        .write = options->rw != 0,
        .depth = options->depth,
        .batch = options->batch < options->depth ? options->batch : options->depth,
        .direct = options->direct == 0,
        .sync_every = options->sync_every,
        .registered = options->buffers != 0,
        .seconds = options->seconds,
        .backend = (enum weir_io_backend)options->backend,
        .seed = options->seed,
    };
    bool there = false;
    int status = file_look(options, &load, &there);

    if (status != ARGS_RUN) {
        return status;
    }
    const int rc = stop_install();
    if (rc < 0) {
        text_failure("iobench", options->file, rc, NULL);
        return STATUS_FAILED;
    }
    if (!there && ioload_make(&load, &made) != 0) {
        return result_failure(options->file, &made);
    }
    status = iobench_load(options, &load);
    if (!there && !options->keep && unlink(options->file) != 0) {
        text_failure("iobench", options->file, -errno, NULL);
        status = STATUS_FAILED;
    }
    return text_finish("iobench", status, false);
}

int iobench_main(int argc, char **argv)
{
    struct iobench_options options = {
        .size = UINT64_C(1) << 30,
        .block = 4096,
        .depth = 1,
        .batch = 1,
        .seconds = 3,
        .seed = 1,
    };
    const struct option_row rows[] = {
        {.name = "file",
         .kind = OPTION_WORD,
         .target = &options.file,
         .value = "FILE",
         .help = "what is read or written; made first if it is not there"},
        {.name = "size",
         .kind = OPTION_BYTES,
         .target = &options.size,
         .given = &options.size_given,
         .value = "BYTES",
         .min = BLOCK_BYTES_MIN,
         .max = UINT64_C(1) << 50,
         .help = "how much of it (default 1G; of a file that is there, all)"},
        {.name = "block",
         .kind = OPTION_BYTES,
         .target = &options.block,
         .value = "BYTES",
         .min = BLOCK_BYTES_MIN,
         .max = BLOCK_BYTES_MAX,
         .help = "of an operation, 512 to 16M (default 4K)"},
        {.name = "pattern",
         .kind = OPTION_CHOICE,
         .target = &options.pattern,
         .value = "random|sequential",
         .choices = pattern_words,
         .help = "which block is next (default random)"},
        {.name = "rw",
         .kind = OPTION_CHOICE,
         .target = &options.rw,
         .value = "read|write",
         .choices = rw_words,
         .help = "what is done (default read)"},
        {.name = "depth",
         .kind = OPTION_NUMBER,
         .target = &options.depth,
         .value = "N",
         .min = 1,
         .max = DEPTH_MAX,
         .help = "operations under way, 1 to 1024 (default 1)"},
        {.name = "batch",
         .kind = OPTION_NUMBER,
         .target = &options.batch,
         .value = "N",
         .min = 1,
         .max = DEPTH_MAX,
         .help = "how many are submitted in one call (default 1, as fio does)"},
        {.name = "direct",
         .kind = OPTION_CHOICE,
         .target = &options.direct,
         .value = "yes|no",
         .choices = yes_words,
         .help = "O_DIRECT, or through the page cache (default yes)"},
        {.name = "sync-every",
         .kind = OPTION_NUMBER,
         .target = &options.sync_every,
         .value = "N",
         .min = 1,
         .help = "after every N writes an fdatasync that waits for them (default: none)"},
        {.name = "seconds",
         .kind = OPTION_SECONDS,
         .target = &options.seconds,
         .value = "S",
         .help = "length of the window (default 3)"},
        {.name = "backend",
         .kind = OPTION_CHOICE,
         .target = &options.backend,
         .value = "auto|uring|posix",
         .choices = backend_words,
         .help = "io_uring, or a pool of threads (default auto)"},
        {.name = "buffers",
         .kind = OPTION_CHOICE,
         .target = &options.buffers,
         .value = "registered|plain",
         .choices = buffers_words,
         .help = "memory that the kernel knows beforehand, or any (default plain)"},
        {.name = "fio",
         .kind = OPTION_CHOICE,
         .target = &options.fio,
         .value = "auto|yes|no",
         .choices = fio_words,
         .help = "let fio do the same afterwards (default auto: where it is installed)"},
        {.name = "seed",
         .kind = OPTION_NUMBER,
         .target = &options.seed,
         .value = "N",
         .help = "of the random offsets (default 1)"},
        {.name = "json",
         .kind = OPTION_FLAG,
         .target = &options.json,
         .help = "print one JSON object, on one line"},
        {.name = "keep",
         .kind = OPTION_FLAG,
         .target = &options.keep,
         .help = "do not remove the file that was made"},
        {.name = "overwrite",
         .kind = OPTION_FLAG,
         .target = &options.overwrite,
         .help = "write to a file that is there"},
        {.name = NULL},
    };
    int status = args_parse(&text, rows, argc, argv, NULL);

    if (status == ARGS_RUN) {
        status = options_check(&options);
    }
    return status == ARGS_RUN ? iobench_run(&options) : status;
}
