/* SPDX-License-Identifier: Apache-2.0
 * weir-stress perf: the ratios that weir is held to, measured in one run, pass or fail per line.
 *
 * Each line compares runs that were interleaved, round by round: a ratio is taken within a round,
 * and its median over the rounds is judged. Everything measured is a child process: weir, the
 * peers of tools/compare, fio, this program. What is not there is skipped and named. No figure here
 * is of use on a machine that does something else meanwhile, so no test runs it.
 *
 * Lines that need the same work share its cell (cell_run), so that it is measured once. */
#include "perf.h"

#include "args.h"
#include "clock.h"
#include "scratch.h"
#include "spawn.h"
#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    HOG_CPUS_MAX = 8,
    ROTATIONS_LEAST = 100,
    FIO_FILE_MB = 1024,
};

/* ---- cells ----------------------------------------------------------------------------------- */

/* The cells that were measured already, for lines that share one. */
static struct cell cells[16];
static size_t cells_count;

static struct cell *cell_of(const struct perf *perf, size_t producers, size_t size)
{
    for (size_t i = 0; i < cells_count; i++) {
        if (cells[i].producers == producers && cells[i].size == size) {
            return &cells[i];
        }
    }
    struct cell *cell = &cells[cells_count];
    cells_count++;
    *cell = (struct cell){.producers = producers, .size = size};
    cell_add(perf, cell, "weir");
    if (producers == 2 || producers == 4 || (producers == 64 && size == 128)) {
        cell_add(perf, cell, "weir/off");
    }
    if (producers == 16 && size <= 1024) {
        cell_add(perf, cell, "weir/low-latency");
    }
    if (producers >= 4) {
        cell_add_peers(perf, cell);
    }
    if ((producers == 16 || producers == 64) && size == 128) {
        cell_add(perf, cell, "reference");
    }
    cell_run(perf, cell);
    return cell;
}

static void work_name(char text[128], const struct cell *cell, const char *form)
{
    snprintf(text,
             128,
             "%zu producers, %zu%s, durable%s",
             cell->producers,
             cell->size >= 1024 ? cell->size / 1024 : cell->size,
             cell->size >= 1024 ? " KiB" : " B",
             form);
}

/* Judges the rate of name in the cell against the best peer's. */
static void against_best_peer(struct perf *perf, struct cell *cell, const char *name, double wanted)
{
    const struct subject *best = cell_best_peer(cell);
    const struct subject *subject = cell_find(cell, name);
    char what[128];
    char note[256];

    work_name(what,
              cell,
              strcmp(name, "weir") == 0 ? ", against the best peer"
                                        : ", low latency, against the best peer");
    if (subject == NULL || subject->why != NULL) {
        line_skipped(what, subject != NULL ? subject->why : "not run");
        return;
    }
    if (best == NULL) {
        line_skipped(what, "no peer could be run");
        return;
    }
    const struct series ratio = series_ratio(&subject->ops, &best->ops);
    snprintf(note,
             sizeof(note),
             "weir %.0f/s, %.1f us CPU; %s %.0f/s, %.1f us",
             series_median(&subject->ops),
             series_median(&subject->cpu_us),
             best->name,
             series_median(&best->ops),
             series_median(&best->cpu_us));
    line_at_least(perf, what, &ratio, wanted, note);
}

static void against(struct perf *perf,
                    struct cell *cell,
                    const char *name,
                    const char *other,
                    const char *form,
                    double wanted)
{
    const struct subject *subject = cell_find(cell, name);
    const struct subject *to = cell_find(cell, other);
    char what[128];
    char note[256];

    work_name(what, cell, form);
    if (subject == NULL || to == NULL || subject->why != NULL || to->why != NULL) {
        line_skipped(what, to != NULL && to->why != NULL ? to->why : "weir could not be run");
        return;
    }
    const struct series ratio = series_ratio(&subject->ops, &to->ops);
    snprintf(note,
             sizeof(note),
             "%.0f/s, %.0f/s",
             series_median(&subject->ops),
             series_median(&to->ops));
    line_at_least(perf, what, &ratio, wanted, note);
}

/* ---- fio ------------------------------------------------------------------------------------- */

static bool fio_there(void)
{
    struct command command = {.count = 0};
    static char output[PERF_OUTPUT_MAX];

    command_word(&command, "fio");
    command_word(&command, "--version");
    return command_run(&command, output, 10) == 0;
}

/* Written whole, so that fio overwrites. */
static bool fio_file_make(const char *path)
{
    static unsigned char zeros[1 << 20];
    const int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    bool good = file >= 0;

    for (int i = 0; i < FIO_FILE_MB && good; i++) {
        good = pwrite(file, zeros, sizeof(zeros), (off_t)i * (off_t)sizeof(zeros)) ==
               (ssize_t)sizeof(zeros);
    }
    good = good && fsync(file) == 0;
    if (file >= 0) {
        close(file);
    }
    return good;
}

struct fio_job {
    const char *engine;
    unsigned block_kib;
    unsigned depth;
    bool dsync;
    unsigned sync_every; /* writes; 0: never */
};

struct fio_figures {
    double p50_us;
    double p99_us;
    double mb_per_s;
};

/* Return: false if it could not be run. */
static bool
fio_run(const struct perf *perf, const struct fio_job *job, struct fio_figures *figures_out)
{
    static char output[PERF_OUTPUT_MAX];
    struct command command = {.count = 0};
    double bytes = 0;

    command_word(&command, "fio");
    command_word(&command, "--name=job");
    command_word(&command, "--filename=%s/fio.dat", perf->dir);
    command_word(&command, "--rw=write");
    command_word(&command, "--bs=%uk", job->block_kib);
    command_word(&command, "--direct=1");
    command_word(&command, "--overwrite=1");
    command_word(&command, "--size=%um", FIO_FILE_MB);
    command_word(&command, "--ioengine=%s", job->engine);
    command_word(&command, "--iodepth=%u", job->depth);
    command_word(&command, "--time_based");
    command_word(&command, "--ramp_time=300ms");
    command_word(&command, "--runtime=%.0fms", perf->seconds * 1e3);
    command_word(&command, "--lat_percentiles=1");
    command_word(&command, "--clat_percentiles=0");
    command_word(&command, "--percentile_list=50:99");
    command_word(&command, "--refill_buffers");
    command_word(&command, "--output-format=json");
    if (job->dsync) {
        command_word(&command, "--sync=dsync");
    }
    if (job->sync_every != 0) {
        command_word(&command, "--fdatasync=%u", job->sync_every);
    }
    if (command_run(&command, output, (unsigned)perf->seconds + 60) != 0) {
        return false;
    }
    /* fio puts a space before the colon; the order of its members is fixed. */
    char *at = strstr(output, "\"write\" : {");
    for (char *from = at, *to = at; from != NULL; from++) {
        if (*from != ' ') {
            *to++ = *from;
        }
        if (*from == '\0') {
            break;
        }
    }
    if (at == NULL || !json_number(at, NULL, "bw_bytes", &bytes) ||
        !json_number(at, "\"lat_ns\"", "50.000000", &figures_out->p50_us) ||
        !json_number(at, "\"lat_ns\"", "99.000000", &figures_out->p99_us)) {
        return false;
    }
    figures_out->mb_per_s = bytes / 1e6;
    figures_out->p50_us /= 1e3;
    figures_out->p99_us /= 1e3;
    return true;
}

/* Whether the lines that need fio can be run; says so otherwise. */
static bool fio_ready(const struct perf *perf, const char *what)
{
    char path[8192];

    snprintf(path, sizeof(path), "%s/fio.dat", perf->dir);
    if (!fio_there()) {
        line_skipped(what, "fio is not installed");
        return false;
    }
    if (access(path, F_OK) != 0 && !fio_file_make(path)) {
        line_skipped(what, "fio's file could not be written");
        return false;
    }
    return true;
}

/* ---- the lines ------------------------------------------------------------------------------- */

/* Holds this process, and those that it will start, on one processor: a different one per round. Where
 * the scheduler puts a lone thread, on the processor of the disk's interrupt or beside it, makes a
 * tenth, and fio and weir shall not draw different lots. */
static void hold_on_one(const cpu_set_t *all, unsigned round)
{
    const unsigned count = (unsigned)CPU_COUNT(all);
    unsigned nth = count == 0 ? 0 : round % count;

    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, all) && nth-- == 0) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof one, &one); /* without it: as it comes */
            return;
        }
    }
}

static void line_alone(struct perf *perf)
{
    static const char p50_what[] = "1 producer, 128 B, durable: p50 against fio 4 KiB dsync";
    static const char p99_what[] = "1 producer, 128 B, durable: p99 against fio 4 KiB dsync";
    static const struct fio_job jobs[] = {
        {.engine = "psync", .block_kib = 4, .depth = 1, .dsync = true},
        {.engine = "io_uring", .block_kib = 4, .depth = 1, .dsync = true},
    };
    static char output[PERF_OUTPUT_MAX];
    struct series p50 = {.count = 0};
    struct series p99 = {.count = 0};
    struct series fio_p50[2] = {{.count = 0}};
    struct series fio_p99[2] = {{.count = 0}};

    if (!fio_ready(perf, p50_what)) {
        return;
    }
    cpu_set_t all;
    const bool know_all = sched_getaffinity(0, sizeof all, &all) == 0;
    for (unsigned round = 0; round < perf->rounds && !stop_asked(); round++) {
        if (know_all) {
            hold_on_one(&all, round);
        }
        for (unsigned turn = 0; turn < 3; turn++) {
            const unsigned who = (turn + round) % 3;
            struct fio_figures figures;
            double value = 0;
            if (who < 2) {
                if (fio_run(perf, &jobs[who], &figures)) {
                    series_add(&fio_p50[who], figures.p50_us);
                    series_add(&fio_p99[who], figures.p99_us);
                }
            } else if (weir_bench(perf, "weir", 1, 128, perf->seconds, NULL, output)) {
                if (json_number(output, "\"lat_us\"", "p50", &value)) {
                    series_add(&p50, value);
                }
                if (json_number(output, "\"lat_us\"", "p99", &value)) {
                    series_add(&p99, value);
                }
            }
        }
    }
    if (know_all) {
        (void)sched_setaffinity(0, sizeof all, &all);
    }
    /* The faster of the two is the device. */
    const int best =
        fio_p50[1].count == perf->rounds && series_median(&fio_p50[1]) < series_median(&fio_p50[0])
            ? 1
            : 0;
    const struct series p50_ratio = series_ratio(&p50, &fio_p50[best]);
    const struct series p99_ratio = series_ratio(&p99, &fio_p99[best]);
    char note[200];
    snprintf(note,
             sizeof(note),
             "weir %.1f us, fio %s %.1f us",
             series_median(&p50),
             jobs[best].engine,
             series_median(&fio_p50[best]));
    line_at_most(perf, p50_what, &p50_ratio, 1.02, note);
    snprintf(note,
             sizeof(note),
             "weir %.1f us, fio %s %.1f us",
             series_median(&p99),
             jobs[best].engine,
             series_median(&fio_p99[best]));
    line_at_most(perf, p99_what, &p99_ratio, 1.15, note);
}

static void line_few(struct perf *perf)
{
    for (size_t producers = 2; producers <= 4; producers += 2) {
        struct cell *cell = cell_of(perf, producers, 128);
        against(perf, cell, "weir", "weir/off", ", against no collection", 1.2);
        if (producers == 4) {
            against_best_peer(perf, cell, "weir", 1.4);
        }
    }
}

static void line_sixteen(struct perf *perf)
{
    for (size_t size = 128; size <= 1024; size *= 8) {
        struct cell *cell = cell_of(perf, 16, size);
        against_best_peer(perf, cell, "weir", 1.7);
        against_best_peer(perf, cell, "weir/low-latency", 2.2);
    }
}

static void line_sixty_four(struct perf *perf)
{
    struct cell *small = cell_of(perf, 64, 128);
    const struct subject *weir = cell_find(small, "weir");
    const struct subject *off = cell_find(small, "weir/off");
    static const char what[] = "64 producers, 128 B, durable: CPU per record against futexes alone";

    against_best_peer(perf, small, "weir", 3.5);
    if (weir->why != NULL || off->why != NULL) {
        line_skipped(what, off->why != NULL ? off->why : weir->why);
    } else {
        char note[200];
        const struct series ratio = series_ratio(&weir->cpu_us, &off->cpu_us);
        snprintf(note,
                 sizeof(note),
                 "%.2f us, %.2f us",
                 series_median(&weir->cpu_us),
                 series_median(&off->cpu_us));
        line_at_most(perf, what, &ratio, 1.0, note);
    }
    against_best_peer(perf, cell_of(perf, 64, 1024), "weir", 2.8);
}

static void line_reference(struct perf *perf)
{
    against(perf, cell_of(perf, 16, 128), "weir", "reference", ", against the reference", 18);
    against(perf, cell_of(perf, 64, 128), "weir", "reference", ", against the reference", 70);
}

static void line_many(struct perf *perf)
{
    against_best_peer(perf, cell_of(perf, 128, 128), "weir", 5);
}

static void line_large(struct perf *perf)
{
    against_best_peer(perf, cell_of(perf, 16, 16384), "weir", 1.9);
    against_best_peer(perf, cell_of(perf, 64, 16384), "weir", 2.4);
}

/* A process that does nothing but use one processor. Return: its pid or a negative errno. */
static pid_t hog_start(int cpu)
{
    const pid_t pid = fork();

    if (pid != 0) {
        return pid < 0 ? -errno : pid;
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) {
        _exit(1);
    }
    for (volatile unsigned long turns = 0;; turns = turns + 1) {
    }
}

static void line_hog(struct perf *perf)
{
    static char output[PERF_OUTPUT_MAX];
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const int cpus = online > HOG_CPUS_MAX ? HOG_CPUS_MAX : (int)online;
    /* The last one is without a hog. */
    struct series ops[HOG_CPUS_MAX + 1] = {{.count = 0}};
    struct series p99[HOG_CPUS_MAX + 1] = {{.count = 0}};

    for (unsigned round = 0; round < perf->rounds && !stop_asked(); round++) {
        for (int turn = 0; turn <= cpus; turn++) {
            const int cpu = (turn + (int)round) % (cpus + 1);
            const pid_t hog = cpu < cpus ? hog_start(cpu) : 0;
            double value = 0;
            const bool ran = weir_bench(perf, "weir", 16, 128, perf->seconds, NULL, output);
            if (hog > 0) {
                kill(hog, SIGKILL);
                waitpid(hog, NULL, 0);
            }
            if (ran && json_number(output, NULL, "ops_per_s", &value)) {
                series_add(&ops[cpu], value);
                json_number(output, "\"lat_us\"", "p99", &value);
                series_add(&p99[cpu], value);
            }
        }
    }
    for (int cpu = 0; cpu < cpus; cpu++) {
        char what[128];
        char note[128];
        const struct series rate = series_ratio(&ops[cpu], &ops[cpus]);
        const struct series tail = series_ratio(&p99[cpu], &p99[cpus]);
        snprintf(what,
                 sizeof(what),
                 "16 producers, 128 B, a process spinning on core %d: rate",
                 cpu);
        snprintf(note,
                 sizeof(note),
                 "%.0f/s, undisturbed %.0f/s",
                 series_median(&ops[cpu]),
                 series_median(&ops[cpus]));
        line_at_least(perf, what, &rate, 0.75, note);
        snprintf(what,
                 sizeof(what),
                 "16 producers, 128 B, a process spinning on core %d: p99",
                 cpu);
        snprintf(note,
                 sizeof(note),
                 "%.0f us, undisturbed %.0f us",
                 series_median(&p99[cpu]),
                 series_median(&p99[cpus]));
        line_at_most(perf, what, &tail, 2, note);
    }
}

static void line_async(struct perf *perf)
{
    static const char *const single[] = {"--async", NULL};
    static const char *const grouped[] = {"--async", "--group", "16", NULL};
    static char output[PERF_OUTPUT_MAX];
    struct series millions[2] = {{.count = 0}};

    for (unsigned round = 0; round < perf->rounds && !stop_asked(); round++) {
        for (int turn = 0; turn < 2; turn++) {
            const int form = (turn + (int)round) % 2;
            double ops = 0;
            if (weir_bench(perf,
                           "weir",
                           2,
                           128,
                           perf->seconds,
                           form == 0 ? single : grouped,
                           output) &&
                json_number(output, NULL, "ops_per_s", &ops)) {
                series_add(&millions[form], ops / 1e6);
            }
        }
    }
    line_at_least(perf, "async, 2 producers, 128 B: million durable/s", &millions[0], 16, NULL);
    line_at_least(perf,
                  "async, 2 producers, 128 B, groups of 16: million durable/s",
                  &millions[1],
                  24,
                  NULL);
    struct cell *cell = cell_of(perf, 64, 128);
    const struct subject *best = cell_best_peer(cell);
    static const char what[] = "async, 2 producers, 128 B, against the best peer's 64 producers";
    if (best == NULL) {
        line_skipped(what, "no peer could be run");
        return;
    }
    struct series ratio = series_ratio(&millions[0], &best->ops);
    for (size_t i = 0; i < ratio.count; i++) {
        ratio.values[i] *= 1e6;
    }
    line_at_least(perf, what, &ratio, 100, best->name);
}

static void line_async_large(struct perf *perf)
{
    static const char what[] = "async, 4 KiB records: durable MB/s against fio, depth 8";
    static const char *const more[] = {"--async", NULL};
    static const struct fio_job jobs[] = {
        {.engine = "io_uring", .block_kib = 256, .depth = 8, .sync_every = 256},
        {.engine = "io_uring", .block_kib = 512, .depth = 8, .sync_every = 128},
        {.engine = "io_uring", .block_kib = 1024, .depth = 8, .sync_every = 64},
    };
    enum { JOBS = sizeof(jobs) / sizeof(jobs[0]) };
    static char output[PERF_OUTPUT_MAX];
    struct series fio_mb[JOBS] = {{.count = 0}};
    struct series weir_mb = {.count = 0};

    if (!fio_ready(perf, what)) {
        return;
    }
    for (unsigned round = 0; round < perf->rounds && !stop_asked(); round++) {
        for (unsigned turn = 0; turn <= JOBS; turn++) {
            const unsigned who = (turn + round) % (JOBS + 1);
            struct fio_figures figures;
            double value = 0;
            if (who < JOBS) {
                if (fio_run(perf, &jobs[who], &figures)) {
                    series_add(&fio_mb[who], figures.mb_per_s);
                }
            } else if (weir_bench(perf, "weir", 2, 4096, perf->seconds, more, output) &&
                       json_number(output, NULL, "mb_per_s", &value)) {
                series_add(&weir_mb, value);
            }
        }
    }
    unsigned best = 0;
    for (unsigned i = 1; i < JOBS; i++) {
        best = series_median(&fio_mb[i]) > series_median(&fio_mb[best]) ? i : best;
    }
    char note[128];
    const struct series ratio = series_ratio(&weir_mb, &fio_mb[best]);
    snprintf(note,
             sizeof(note),
             "weir %.0f MB/s, fio %u KiB %.0f MB/s",
             series_median(&weir_mb),
             jobs[best].block_kib,
             series_median(&fio_mb[best]));
    line_at_least(perf, what, &ratio, 0.85, note);
}

/* What an append costs in one round, per form: weir, copy and CRC, a mutex. */
enum { APPEND_WEIR, APPEND_COPY, APPEND_MUTEX, APPEND_FORMS };
enum { APPEND_COUNTS = 3 };
static const struct {
    size_t producers;
    double most;
} append_rows[APPEND_COUNTS] = {{1, 1.5}, {2, 3.2}, {16, 3.3}};

/* By weir-stress append, whose device is made up, so that the processor alone is measured. Return:
 * false if it failed. */
static bool append_round(const struct perf *perf, struct series ns[APPEND_COUNTS][APPEND_FORMS])
{
    static char output[PERF_OUTPUT_MAX];
    struct command command = {.count = 0};
    size_t taken = 0;

    command_word(&command, "%s", spawn_self());
    command_word(&command, "append");
    command_word(&command, "--rounds");
    command_word(&command, "1");
    command_word(&command, "--ms");
    command_word(&command, "%.0f", perf->seconds * 500);
    const int status = command_run(&command, output, (unsigned)(perf->seconds * 9) + 60);
    if (status != 0 && status != 1) {
        return false;
    }
    for (char *rest = output, *line = strsep(&rest, "\n"); line != NULL;
         line = strsep(&rest, "\n")) {
        unsigned long threads = 0;
        double copy = 0;
        double weir = 0;
        double mutex = 0;
        if (sscanf(line, "%lu %lf (%*f-%*f) %lf (%*f-%*f) %lf", &threads, &copy, &weir, &mutex) !=
            4) {
            continue;
        }
        for (size_t row = 0; row < APPEND_COUNTS; row++) {
            if (append_rows[row].producers == threads) {
                series_add(&ns[row][APPEND_WEIR], weir);
                series_add(&ns[row][APPEND_COPY], copy);
                series_add(&ns[row][APPEND_MUTEX], mutex);
                taken++;
            }
        }
    }
    return taken == APPEND_COUNTS;
}

static void line_append(struct perf *perf)
{
    static struct series ns[APPEND_COUNTS][APPEND_FORMS];

    for (unsigned round = 0; round < perf->rounds && !stop_asked(); round++) {
        if (!append_round(perf, ns)) {
            line_skipped("append without waiting", "weir-stress append failed");
            return;
        }
    }
    for (size_t row = 0; row < APPEND_COUNTS; row++) {
        char what[128];
        char note[160];
        snprintf(what,
                 sizeof(what),
                 "append without waiting, 128 B, %zu producers: ns, to copy + CRC",
                 append_rows[row].producers);
        const struct series to_copy = series_ratio(&ns[row][APPEND_WEIR], &ns[row][APPEND_COPY]);
        snprintf(note,
                 sizeof(note),
                 "weir %.1f ns, copy + CRC %.1f ns",
                 series_median(&ns[row][APPEND_WEIR]),
                 series_median(&ns[row][APPEND_COPY]));
        line_at_most(perf, what, &to_copy, append_rows[row].most, note);
        snprintf(what,
                 sizeof(what),
                 "append without waiting, 128 B, %zu producers: ns, to a mutex",
                 append_rows[row].producers);
        const struct series to_mutex = series_ratio(&ns[row][APPEND_WEIR], &ns[row][APPEND_MUTEX]);
        snprintf(note, sizeof(note), "mutex %.1f ns", series_median(&ns[row][APPEND_MUTEX]));
        line_at_most(perf, what, &to_mutex, 1.0, note);
    }
}

static void line_rotation(struct perf *perf)
{
    static const char what[] = "p99.9 within 50 ms of a rotation, against the rest";
    static const char *const more[] =
        {"--rotation-tail", "--segment", "4M", "--retain", "256M", NULL};
    static char output[PERF_OUTPUT_MAX];
    struct series ratio = {.count = 0};
    struct series counts = {.count = 0};
    double seconds = perf->quick ? 5 : 15;
    char note[128];

    for (unsigned round = 0; round < perf->rounds && !stop_asked(); round++) {
        double count = 0;
        double of = 0;
        /* Pooled over so many: where a run had fewer, the next is longer. */
        for (int attempt = 0; attempt < 3 && count < ROTATIONS_LEAST; attempt++) {
            if (!weir_bench(perf, "weir", 16, 128, seconds, more, output) ||
                !json_number(output, "\"rotation\"", "count", &count) ||
                !json_number(output, "\"rotation\"", "ratio", &of)) {
                break;
            }
            if (count < ROTATIONS_LEAST) {
                seconds *= 1.3 * ROTATIONS_LEAST / (count + 1);
                seconds = seconds > 120 ? 120 : seconds;
            }
        }
        if (count >= ROTATIONS_LEAST) {
            series_add(&ratio, of);
            series_add(&counts, count);
        }
    }
    snprintf(note, sizeof(note), "%.0f rotations a run", series_median(&counts));
    line_at_most(perf, what, &ratio, 1.2, note);
}

static void line_io(struct perf *perf)
{
    struct cell cell = {.producers = 16, .size = 128};
    static const char *const others[] = {"weir/chain", "weir/posix"};

    cell_add(perf, &cell, "weir/dsync");
    cell_add(perf, &cell, "weir/chain");
    cell_add(perf, &cell, "weir/posix");
    cell_run(perf, &cell);
    for (size_t i = 0; i < 2; i++) {
        const struct subject *dsync = cell_find(&cell, "weir/dsync");
        const struct subject *other = cell_find(&cell, others[i]);
        const struct series ratio = series_ratio(&other->ops, &dsync->ops);
        char what[128];
        char note[160];
        snprintf(what, sizeof(what), "16 producers, 128 B: %s against dsync", others[i] + 5);
        snprintf(note,
                 sizeof(note),
                 "%.0f/s, p99 %.0f us, %.1f us CPU; dsync %.0f/s, p99 %.0f us, %.1f us CPU",
                 series_median(&other->ops),
                 series_median(&other->p99),
                 series_median(&other->cpu_us),
                 series_median(&dsync->ops),
                 series_median(&dsync->p99),
                 series_median(&dsync->cpu_us));
        line_stated(what, &ratio, note);
    }
}

struct perf_line {
    const char *name;
    void (*run)(struct perf *perf);
    const char *about;
};

static const struct perf_line lines[] = {
    {"alone", line_alone, "1 producer against the device as fio has it"},
    {"few", line_few, "2 and 4 producers against no collection and the best peer"},
    {"sixteen", line_sixteen, "16 producers against the best peer"},
    {"sixty-four", line_sixty_four, "64 producers against the best peer, CPU per record"},
    {"reference", line_reference, "16 and 64 producers against a mutex and two syncs a record"},
    {"many", line_many, "128 producers against the best peer"},
    {"large", line_large, "records of 16 KiB against the best peer"},
    {"hog", line_hog, "16 producers beside a process that spins on a core"},
    {"async", line_async, "durable records a second when nobody waits"},
    {"async-large", line_async_large, "durable MB/s when nobody waits, against fio"},
    {"append", line_append, "ns per append against copy and CRC, and against a mutex"},
    {"scan", perf_scan, "verify against a plain read, warm and cold"},
    {"rotation", line_rotation, "the tail near a change of segment"},
    {"open", perf_open, "10,000 segments against 10"},
    {"io", line_io, "chain and posix against dsync: stated"},
};

enum { LINES = sizeof(lines) / sizeof(lines[0]) };

/* ---- the command line ------------------------------------------------------------------------ */

static const struct verb_text text = {
    .name = "perf",
    .usage = "[OPTION]...",
    .about =
        "Measures the ratios that weir is held to: against fio, against the peers that were built\n"
        "beside it (tools/compare), against itself. Per line pass, FAIL, skip with the reason, or\n"
        "- for what is only stated; the median of the rounds' ratios, their range, and what is\n"
        "demanded. The machine should do nothing else meanwhile.\n"
        "\n"
        "Lines: alone, few, sixteen, sixty-four, reference, many, large, hog, async, async-large,\n"
        "append, scan, rotation, open, io.\n",
    .exits = "  0   every line that could be measured passed\n"
             "  1   some line failed, or it could not go on: said on standard error\n"
             "  64  the command line is wrong\n"
             "  77  nothing could be measured: the reason is printed\n",
    .example = "  weir-stress perf --quick --only sixteen,io\n",
};

static bool line_wanted(const char *only, const char *name)
{
    if (only == NULL) {
        return true;
    }
    const size_t length = strlen(name);
    for (const char *at = only; *at != '\0';) {
        const size_t word = strcspn(at, ",");
        if (word == length && strncmp(at, name, word) == 0) {
            return true;
        }
        at += word + (at[word] == ',' ? 1 : 0);
    }
    return false;
}

/* Every word of only is a line's name. */
static bool only_is_known(const char *only)
{
    for (const char *at = only; *at != '\0';) {
        const size_t word = strcspn(at, ",");
        bool known = false;
        for (size_t i = 0; i < LINES; i++) {
            known =
                known || (strlen(lines[i].name) == word && strncmp(at, lines[i].name, word) == 0);
        }
        if (!known) {
            return false;
        }
        at += word + (at[word] == ',' ? 1 : 0);
    }
    return only[0] != '\0';
}

/* The programs lie beside this one, built or installed. */
static void beside(char path[4096], const char *given, const char *name)
{
    if (given != NULL) {
        snprintf(path, 4096, "%s", given);
        return;
    }
    const char *self = spawn_self();
    const char *slash = strrchr(self, '/');
    const int length = slash != NULL ? (int)(slash - self) : 0;
    snprintf(path, 4096, "%.*s%s%s", length, self, name[0] != '\0' ? "/" : "", name);
}

static int lines_run(struct perf *perf, const char *only)
{
    printf("      %-66s %8s  (smallest - largest)  demanded\n", "work", "median");
    for (size_t i = 0; i < LINES && !stop_asked(); i++) {
        if (line_wanted(only, lines[i].name)) {
            lines[i].run(perf);
        }
    }
    if (stop_asked()) {
        fprintf(stderr, "weir-stress perf: stopped by a signal\n");
        return STATUS_FAILED;
    }
    return perf->failed ? STATUS_FAILED : STATUS_OK;
}

int perf_main(int argc, char **argv)
{
    struct {
        bool quick;
        const char *only;
        const char *weir;
        const char *compare;
        const char *dir;
        const char *peers;
        uint64_t rounds;
        uint64_t ms;
    } options = {.rounds = 3};
    const struct option_row rows[] = {
        {.name = "quick",
         .kind = OPTION_FLAG,
         .target = &options.quick,
         .help = "short runs, and only the fastest peers: for a first look"},
        {.name = "only",
         .kind = OPTION_WORD,
         .target = &options.only,
         .value = "LINES",
         .help = "these lines, with commas between (default: all)"},
        {.name = "rounds",
         .kind = OPTION_NUMBER,
         .target = &options.rounds,
         .value = "N",
         .min = 1,
         .max = PERF_ROUNDS_MAX,
         .help = "interleaved rounds (default 3)"},
        {.name = "ms",
         .kind = OPTION_NUMBER,
         .target = &options.ms,
         .value = "N",
         .min = 50,
         .max = 600000,
         .help = "length of each run (default 2000; with --quick 500)"},
        {.name = "peers",
         .kind = OPTION_WORD,
         .target = &options.peers,
         .value = "LIST",
         .help = "to compare with (default: group_commit,rocksdb,bdb, and without --quick also "
                 "sqlite,lmdb,wiredtiger)"},
        {.name = "dir",
         .kind = OPTION_WORD,
         .target = &options.dir,
         .value = "DIR",
         .help = "on the device in question; empty, or not there (default: a new one in $TMPDIR or "
                 "/tmp)"},
        {.name = "weir",
         .kind = OPTION_WORD,
         .target = &options.weir,
         .value = "FILE",
         .help = "the weir command (default: beside this program)"},
        {.name = "compare",
         .kind = OPTION_WORD,
         .target = &options.compare,
         .value = "DIR",
         .help = "where compare-* are (default: beside this program)"},
        {.name = NULL},
    };
    int operands = 0;
    int status = args_parse(&text, rows, argc, argv, &operands);

    if (status == ARGS_RUN && operands < argc) {
        status = args_wrong(&text, "%s: takes no operands", argv[operands]);
    }
    if (status == ARGS_RUN && options.only != NULL && !only_is_known(options.only)) {
        status = args_wrong(&text, "--only %s: not the names of lines", options.only);
    }
    if (status != ARGS_RUN) {
        return status;
    }
    struct perf perf = {
        .peers = options.peers,
        .rounds = (unsigned)options.rounds,
        .seconds = (options.ms != 0 ? (double)options.ms
                    : options.quick ? 500
                                    : 2000) /
                   1e3,
        .warm_up = options.quick ? 0.3 : 1,
        .quick = options.quick,
    };
    if (perf.peers == NULL) {
        perf.peers = options.quick ? "group_commit,rocksdb,bdb"
                                   : "group_commit,rocksdb,bdb,sqlite,lmdb,wiredtiger";
    }
    beside(perf.weir, options.weir, "weir");
    beside(perf.compare, options.compare, "");
    if (access(perf.weir, X_OK) != 0) {
        printf("%s: cannot be run, so nothing can be measured\n", perf.weir);
        return STATUS_SKIPPED;
    }
    struct scratch scratch;
    const int rc = scratch_open(&scratch, options.dir);
    if (rc != 0) {
        fprintf(stderr, "weir-stress perf: %s: %s\n", options.dir, strerror(-rc));
        return rc == -ENOTEMPTY ? STATUS_USAGE : STATUS_FAILED;
    }
    stop_install();
    snprintf(perf.dir, sizeof(perf.dir), "%s", scratch.path);
    status = lines_run(&perf, options.only);
    scratch_remove(&scratch);
    return status;
}
