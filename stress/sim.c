/* SPDX-License-Identifier: Apache-2.0
 * weir-stress sim: histories of a log on a simulated machine, one per seed.
 *
 * Processes take seeds in small runs from a page that they share, and leave there what they count.
 * Each history begins with nothing but its seed, so which process runs it makes no difference, and
 * the digest of a range is a sum over its seeds. A process that dies in a history (a check of the
 * engine, a signal) or stands still in it has found something as well: the page tells the seed. */
#include "args.h"
#include "clock.h"
#include "dice.h"
#include "progress.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct verb_text text = {
    .name = "sim",
    .usage = "[OPTION]...",
    .about =
        "Runs the engine on a simulated machine: its threads, producers and readers are fibers, "
        "its "
        "clock stands still\n"
        "while they run, its disk loses what a real one may lose. A seed is a history: a log is "
        "opened, appended to,\n"
        "crashed (at a write, in a sync, while it opens), recovered, checked, appended to, crashed "
        "again. A seed also\n"
        "chooses the log's options and which faults the disk has. After every opening each "
        "acknowledged record must be\n"
        "there, byte for byte, once, at its place, groups whole; nothing that was cut may come "
        "back; nobody may sleep\n"
        "for ever. The same seeds give the same digest, with any number of jobs.\n"
        "\n"
        "With --exhaustive there is no chance: every short history of append (a), group (g), "
        "rotate "
        "(r), trim (t) and\n"
        "reopen (o), by each way of writing; before every change of its disk, every power cut, "
        "which keeps of each dirty\n"
        "unit (a version of a sector, a file's length, a change of names) either; equal states "
        "once. Each must recover,\n"
        "take a record more, and recover again. With more than 12 dirty units 4,096 of the cuts "
        "are tried.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress sim --seeds 1..100000\n"
               "  weir-stress sim --for 10m --faults all\n"
               "  weir-stress sim --seeds 4711 --print\n"
               "  weir-stress sim --exhaustive --unit 512\n",
};

#ifndef WEIR_STRESS_SIM

/* ThreadSanitizer follows threads, and fibers that are left lying are none. */
int sim_main(int argc, char **argv)
{
    const struct option_row rows[] = {{.name = NULL}};
    int operands = 0;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        return args_parse(&text, rows, argc, argv, &operands);
    }
    printf("weir-stress sim: not in a build with ThreadSanitizer\n");
    return STATUS_SKIPPED;
}

#else

#include "sim/disk.h"
#include "sim/exhaust.h"
#include "sim/history.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    JOBS_MAX = 256,
    RUN_SEEDS = 16,          /* taken at once */
    HISTORY_SECONDS_MAX = 60 /* none that is sound takes one, under any sanitizer */
};

static const char *const faults_words[] = {"none", "some", "all", NULL};

struct job {
    pid_t process;
    bool over;
    /* seed: of the history under way, 0 before the first. Relaxed: the parent reads it to see
     * whether it moves, or after the process has ended. */
    _Atomic uint64_t seed;
    uint64_t seed_seen; /* by the parent, */
    uint64_t seen_ns;   /* and how much of a processor it had had by then */
    uint64_t digest;
    struct history_counts counts;
    uint64_t faults[SIM_FAULTS];
    bool failed;
    uint64_t failed_seed;
    char why[600];
};

struct page {
    /* next: the first seed that nobody has taken. done: histories that have ended. stop: take no
     * more. All relaxed: each is a number on its own. */
    _Atomic uint64_t next;
    _Atomic uint64_t done;
    _Atomic bool stop;
    struct job jobs[];
};

struct sim {
    uint64_t from;
    uint64_t to;
    uint64_t jobs;
    uint64_t for_ns;
    int faults;
    struct history_options options;
    struct page *page;
};

/* ---- a worker -------------------------------------------------------------------------------- */

static bool seed_run(const struct sim *sim, struct job *job, uint64_t seed)
{
    uint64_t digest = 0;

    atomic_store_explicit(&job->seed, seed, memory_order_relaxed);
    const bool good =
        history_run(seed, &sim->options, &job->counts, &digest, job->why, sizeof job->why);
    job->digest += dice_mix(digest ^ dice_mix(seed));
    atomic_fetch_add_explicit(&sim->page->done, 1, memory_order_relaxed);
    if (!good) {
        job->failed = true;
        job->failed_seed = seed;
    }
    return good;
}

static void worker_run(const struct sim *sim, struct job *job, uint64_t deadline_ns)
{
    struct page *const page = sim->page;

    while (!atomic_load_explicit(&page->stop, memory_order_relaxed)) {
        uint64_t seed = atomic_fetch_add_explicit(&page->next, RUN_SEEDS, memory_order_relaxed);
        if (seed > sim->to && (sim->for_ns == 0 || clock_now_ns() >= deadline_ns)) {
            break;
        }
        uint64_t last = seed + RUN_SEEDS - 1;
        if (sim->for_ns == 0 && last > sim->to) {
            last = sim->to;
        }
        for (; seed <= last; seed++) {
            if (!seed_run(sim, job, seed)) {
                atomic_store_explicit(&page->stop, true, memory_order_relaxed);
                break;
            }
        }
    }
    memcpy(job->faults, sim_fault_count, sizeof job->faults);
}

static bool worker_start(const struct sim *sim, struct job *job, uint64_t deadline_ns)
{
    fflush(stdout);
    const pid_t process = fork();
    if (process == 0) {
        worker_run(sim, job, deadline_ns);
        fflush(stdout);
        _exit(STATUS_OK);
    }
    job->process = process;
    return process > 0;
}

/* ---- the parent ------------------------------------------------------------------------------ */

static void job_found(const struct sim *sim, struct job *job, const char *what, int number)
{
    atomic_store_explicit(&sim->page->stop, true, memory_order_relaxed);
    if (!job->failed) {
        job->failed = true;
        job->failed_seed = atomic_load_explicit(&job->seed, memory_order_relaxed);
        snprintf(job->why, sizeof job->why, "%s %d", what, number);
    }
}

/* What a process has had of the processors. It never sleeps, so this tells of one that goes round in
 * circles, and tells nothing of one that was stopped, or had to wait for its turn. */
static uint64_t job_cpu_ns(const struct job *job)
{
    clockid_t clock;
    struct timespec now;

    if (clock_getcpuclockid(job->process, &clock) != 0 || clock_gettime(clock, &now) != 0) {
        return 0;
    }
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void job_look(const struct sim *sim, struct job *job)
{
    int status = 0;
    const uint64_t now_ns = job_cpu_ns(job);

    if (waitpid(job->process, &status, WNOHANG) == job->process) {
        job->over = true;
        if (WIFSIGNALED(status)) {
            job_found(sim, job, "the process was ended by signal", WTERMSIG(status));
        } else if (WEXITSTATUS(status) != STATUS_OK) {
            job_found(sim, job, "the process ended with status", WEXITSTATUS(status));
        }
        return;
    }
    const uint64_t seed = atomic_load_explicit(&job->seed, memory_order_relaxed);
    if (seed != job->seed_seen) {
        job->seed_seen = seed;
        job->seen_ns = now_ns;
    } else if (now_ns - job->seen_ns > HISTORY_SECONDS_MAX * CLOCK_NS_PER_S) {
        job->counts.hung++;
        job_found(sim, job, "the history did not end in seconds:", HISTORY_SECONDS_MAX);
        kill(job->process, SIGKILL);
        job->seen_ns = now_ns;
    }
}

/* Until all have ended. */
static void jobs_watch(const struct sim *sim, uint64_t begun_ns)
{
    struct progress progress;
    uint64_t left = sim->jobs;

    progress_begin(&progress, "sim");
    while (left > 0) {
        clock_sleep_ns(10 * CLOCK_NS_PER_MS);
        left = 0;
        for (uint64_t i = 0; i < sim->jobs; i++) {
            struct job *const job = &sim->page->jobs[i];
            if (!job->over) {
                job_look(sim, job);
            }
            left += !job->over;
        }
        const uint64_t done = atomic_load_explicit(&sim->page->done, memory_order_relaxed);
        const uint64_t total = sim->to - sim->from + 1;
        if (sim->for_ns == 0 || done < total) {
            progress_show(&progress, done, total);
        } else {
            progress_show(&progress,
                          (clock_now_ns() - begun_ns) / CLOCK_NS_PER_S,
                          sim->for_ns / CLOCK_NS_PER_S);
        }
    }
    progress_end(&progress);
}

static void counts_add(struct history_counts *sum, const struct history_counts *more)
{
    uint64_t *const to = (uint64_t *)sum;
    const uint64_t *const from = (const uint64_t *)more;

    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) {
        to[i] += from[i];
    }
}

static void result_print(const struct sim *sim, uint64_t begun_ns)
{
    struct history_counts all = {0};
    uint64_t faults[SIM_FAULTS] = {0};
    uint64_t digest = 0;
    struct rusage usage;

    for (uint64_t i = 0; i < sim->jobs; i++) {
        const struct job *const job = &sim->page->jobs[i];
        counts_add(&all, &job->counts);
        digest += job->digest;
        for (size_t k = 0; k < SIM_FAULTS; k++) {
            faults[k] += job->faults[k];
        }
    }
    getrusage(RUSAGE_CHILDREN, &usage);
    const double wall_s = (double)(clock_now_ns() - begun_ns) / 1e9;
    const double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;

#define LINE(name, what) printf("%-22s%" PRIu64 "  (%s)\n", #name, all.name, what);
    HISTORY_COUNTS_TABLE(LINE)
#undef LINE
    for (size_t k = 0; k < SIM_FAULTS; k++) {
        if (faults[k] > 0) {
            printf("fault %-16s%" PRIu64 "  (%s)\n",
                   sim_fault_names[k],
                   faults[k],
                   sim_fault_texts[k]);
        }
    }
    printf("seconds               %.1f, of processors %.1f\n", wall_s, cpu_s);
    printf("crashes/s/core        %.0f\n", cpu_s > 0 ? (double)all.crashes / cpu_s : 0);
    printf("digest                %016" PRIx64 "\n", digest);
}

/* The lowest of the seeds that failed; the line that runs it again. */
static bool failure_print(const struct sim *sim)
{
    const struct job *worst = NULL;

    for (uint64_t i = 0; i < sim->jobs; i++) {
        const struct job *const job = &sim->page->jobs[i];
        if (job->failed && (worst == NULL || job->failed_seed < worst->failed_seed)) {
            worst = job;
        }
    }
    if (worst == NULL) {
        return false;
    }
    printf("result                FAULTS FOUND\n");
    fflush(stdout);
    fprintf(stderr,
            "seed %" PRIu64 ": %s\nrun it again: weir-stress sim --seeds %" PRIu64
            " --depth %u --faults %s%s --print\n",
            worst->failed_seed,
            worst->why,
            worst->failed_seed,
            sim->options.depth,
            faults_words[sim->faults],
            sim->options.storm ? " --storm" : "");
    return true;
}

static int sim_run(struct sim *sim)
{
    const size_t bytes = sizeof *sim->page + sim->jobs * sizeof *sim->page->jobs;
    const uint64_t begun_ns = clock_now_ns();

    sim->page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sim->page == MAP_FAILED) {
        fprintf(stderr, "weir-stress sim: no memory\n");
        return STATUS_FAILED;
    }
    atomic_store_explicit(&sim->page->next, sim->from, memory_order_relaxed);
    for (uint64_t i = 0; i < sim->jobs; i++) {
        if (!worker_start(sim, &sim->page->jobs[i], begun_ns + sim->for_ns)) {
            fprintf(stderr, "weir-stress sim: fork: %s\n", strerror(errno));
            atomic_store_explicit(&sim->page->stop, true, memory_order_relaxed);
            sim->jobs = i;
            break;
        }
    }
    jobs_watch(sim, begun_ns);
    result_print(sim, begun_ns);
    const bool found = failure_print(sim);
    if (!found) {
        printf("result                nothing found\n");
    }
    munmap(sim->page, bytes);
    return found || sim->jobs == 0 ? STATUS_FAILED : STATUS_OK;
}

/* ---- exhaustive ------------------------------------------------------------------------------ */

static struct progress exhaust_progress;
static uint64_t exhaust_deadline_ns; /* 0: none */
static bool exhaust_stopped;

static bool exhaust_goes_on(uint64_t done, uint64_t all)
{
    progress_show(&exhaust_progress, done, all);
    exhaust_stopped = exhaust_deadline_ns != 0 && clock_now_ns() >= exhaust_deadline_ns;
    return !exhaust_stopped;
}

static int exhaust_main(struct exhaust_options *options, uint64_t for_ns)
{
    struct exhaust_counts counts = {0};
    char why[800];
    const uint64_t begun_ns = clock_now_ns();

    exhaust_deadline_ns = for_ns == 0 ? 0 : begun_ns + for_ns;
    options->go_on = exhaust_goes_on;
    progress_begin(&exhaust_progress, "sim --exhaustive");
    const bool good = exhaust_run(options, &counts, why, sizeof why);
    progress_end(&exhaust_progress);
#define LINE(name, what) printf("%-22s%" PRIu64 "  (%s)\n", #name, counts.name, what);
    EXHAUST_COUNTS_TABLE(LINE)
#undef LINE
    printf("seconds               %.1f\n", (double)(clock_now_ns() - begun_ns) / 1e9);
    if (!good) {
        printf("result                FAULTS FOUND\n");
        fflush(stdout);
        fprintf(stderr, "%s\n", why);
        fprintf(stderr,
                "run it again: weir-stress sim --exhaustive --unit %u --nested %u --history %.*s\n",
                options->unit_bytes,
                options->nested,
                (int)strcspn(why + strlen("history "), ","),
                why + strlen("history "));
        return STATUS_FAILED;
    }
    printf("result                nothing found%s\n",
           exhaust_stopped ? ", and not all was looked at" : "");
    return STATUS_OK;
}

/* ---- the command line ------------------------------------------------------------------------ */

static bool seeds_read(const char *word, struct sim *sim)
{
    char *end = NULL;

    if (*word < '0' || *word > '9') {
        return false;
    }
    errno = 0;
    sim->from = strtoull(word, &end, 10);
    sim->to = sim->from;
    if (strncmp(end, "..", 2) == 0 && end[2] >= '0' && end[2] <= '9') {
        sim->to = strtoull(end + 2, &end, 10);
    }
    return errno == 0 && *end == '\0' && sim->from > 0 && sim->from <= sim->to &&
           sim->to < UINT64_MAX / 2;
}

int sim_main(int argc, char **argv)
{
    struct sim sim = {.from = 1, .to = 10000, .faults = 1};
    const char *seeds = NULL;
    bool print = false;
    uint64_t depth = 4;
    bool exhaustive = false;
    uint64_t unit = 4096;
    uint64_t operations = 0;
    uint64_t nested = 0;
    const char *word = NULL;
    const struct option_row rows[] = {
        {.name = "seeds",
         .kind = OPTION_WORD,
         .target = &seeds,
         .value = "A..B",
         .help = "histories to run, or one: A (default 1..10000)"},
        {.name = "jobs",
         .kind = OPTION_NUMBER,
         .target = &sim.jobs,
         .value = "J",
         .min = 1,
         .max = JOBS_MAX,
         .help = "processes (default: processors)"},
        {.name = "depth",
         .kind = OPTION_NUMBER,
         .target = &depth,
         .value = "N",
         .min = 1,
         .max = 100,
         .help = "crashes in a history, at most (default 4)"},
        {.name = "for",
         .kind = OPTION_DURATION,
         .target = &sim.for_ns,
         .value = "DURATION",
         .help = "go on with further seeds for so long: 30s, 10m, 2h"},
        {.name = "faults",
         .kind = OPTION_CHOICE,
         .target = &sim.faults,
         .value = "none|some|all",
         .choices = faults_words,
         .help = "besides crashes; all: also what no log survives (rot, lost and misdirected "
                 "writes): it may refuse then (default some)"},
        {.name = "storm",
         .kind = OPTION_FLAG,
         .target = &sim.options.storm,
         .help = "every history has large records of many producers and a slow device, with many "
                 "writes under way (else one in eight)"},
        {.name = "exhaustive",
         .kind = OPTION_FLAG,
         .target = &exhaustive,
         .help =
             "instead: every history of append, group, rotate, trim, reopen, every crash point, "
             "every power cut there"},
        {.name = "unit",
         .kind = OPTION_NUMBER,
         .target = &unit,
         .value = "BYTES",
         .min = 512,
         .max = 4096,
         .help = "exhaustive: of a sector and a block, 512 or 4096 (default 4096)"},
        {.name = "operations",
         .kind = OPTION_NUMBER,
         .target = &operations,
         .value = "N",
         .min = 1,
         .max = 8,
         .help = "exhaustive: of a history, at most (default 4; with units of 512 bytes 3)"},
        {.name = "nested",
         .kind = OPTION_NUMBER,
         .target = &nested,
         .value = "N",
         .min = 0,
         .max = 3,
         .help = "exhaustive: cut the power inside of recoveries, too, so many deep (default 0)"},
        {.name = "history",
         .kind = OPTION_WORD,
         .target = &word,
         .value = "WORD",
         .help = "exhaustive: this one alone, of the letters a g r t o"},
        {.name = "print",
         .kind = OPTION_FLAG,
         .target = &print,
         .help = "say what happens, for a single seed"},
        {.name = NULL},
    };
    const int status = args_only(&text, rows, argc, argv);

    if (status != ARGS_RUN) {
        return status;
    }
    if (seeds != NULL && !seeds_read(seeds, &sim)) {
        return args_wrong(&text, "--seeds %s: must be A..B or A, from 1", seeds);
    }
    if (print && (sim.from != sim.to || sim.for_ns != 0)) {
        return args_wrong(&text, "--print is for a single seed");
    }
    if (exhaustive) {
        if (unit != 512 && unit != 4096) {
            return args_wrong(&text, "--unit %u: must be 512 or 4096", (unsigned)unit);
        }
        if (word != NULL &&
            (*word == '\0' || strlen(word) > 8 || word[strspn(word, "agrto")] != '\0')) {
            return args_wrong(&text, "--history %s: must be 1 to 8 of the letters a g r t o", word);
        }
        struct exhaust_options options = {
            .operations = operations != 0 ? (unsigned)operations
                          : unit == 512   ? 3
                                          : 4,
            .unit_bytes = (uint32_t)unit,
            .units = 12,
            .nested = (unsigned)nested,
            .only = word,
        };
        return exhaust_main(&options, sim.for_ns);
    }
    if (sim.jobs == 0) {
        const long processors = sysconf(_SC_NPROCESSORS_ONLN);
        sim.jobs = processors < 1 ? 1 : processors > JOBS_MAX ? JOBS_MAX : (uint64_t)processors;
    }
    if (sim.from == sim.to && sim.for_ns == 0) {
        sim.jobs = 1;
    }
    sim.options = (struct history_options){.depth = (unsigned)depth,
                                           .faults = sim.faults >= 1,
                                           .rot = sim.faults == 2,
                                           .storm = sim.options.storm,
                                           .print = print};
    return sim_run(&sim);
}

#endif
