/* SPDX-License-Identifier: Apache-2.0
 * Children, figures and cells of weir-stress perf. A child writes one line of JSON to a pipe, which
 * is read to its end; a child that takes far longer than it was told is killed, so that a run ends.
 * Runs that failed are said, and leave no figure. */
#include "perf.h"

#include "clock.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- series ---------------------------------------------------------------------------------- */

void series_add(struct series *series, double value)
{
    if (series->count < PERF_ROUNDS_MAX) {
        series->values[series->count] = value;
        series->count++;
    }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

double series_median(const struct series *series)
{
    struct series sorted = *series;
    const size_t n = sorted.count;

    if (n == 0) {
        return 0;
    }
    qsort(sorted.values, n, sizeof(sorted.values[0]), by_value);
    return n % 2 == 1 ? sorted.values[n / 2]
                      : (sorted.values[n / 2 - 1] + sorted.values[n / 2]) / 2;
}

double series_min(const struct series *series)
{
    double least = series->count > 0 ? series->values[0] : 0;

    for (size_t i = 1; i < series->count; i++) {
        least = series->values[i] < least ? series->values[i] : least;
    }
    return least;
}

double series_max(const struct series *series)
{
    double most = series->count > 0 ? series->values[0] : 0;

    for (size_t i = 1; i < series->count; i++) {
        most = series->values[i] > most ? series->values[i] : most;
    }
    return most;
}

struct series series_ratio(const struct series *of, const struct series *to)
{
    struct series ratio = {.count = 0};

    for (size_t i = 0; i < of->count && i < to->count; i++) {
        if (to->values[i] > 0) {
            series_add(&ratio, of->values[i] / to->values[i]);
        }
    }
    return ratio;
}

/* ---- children -------------------------------------------------------------------------------- */

void command_word(struct command *command, const char *format, ...)
{
    va_list list;

    if (command->count == PERF_ARGS_MAX || command->used >= sizeof(command->text)) {
        fprintf(stderr, "weir-stress perf: a command line is too long\n");
        exit(1);
    }
    char *word = command->text + command->used;
    va_start(list, format);
    const int length = vsnprintf(word, sizeof(command->text) - command->used, format, list);
    va_end(list);
    command->used += (size_t)length + 1;
    command->words[command->count] = word;
    command->count++;
    command->words[command->count] = NULL;
}

static void child_become(const struct command *command, int output_fd)
{
    const int nowhere = open("/dev/null", O_RDWR);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(nowhere, STDIN_FILENO);
    dup2(output_fd >= 0 ? output_fd : nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    execvp(command->words[0], command->words);
    _exit(127);
}

pid_t command_start(const struct command *command)
{
    const pid_t pid = fork();

    if (pid == 0) {
        child_become(command, -1);
    }
    return pid < 0 ? -errno : pid;
}

int command_run(const struct command *command, char output[PERF_OUTPUT_MAX], unsigned limit_s)
{
    const uint64_t deadline_ns = clock_now_ns() + limit_s * CLOCK_NS_PER_S;
    int ends[2];
    size_t held = 0;
    int status = 0;

    output[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return -errno;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        child_become(command, ends[1]);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -EAGAIN;
    }
    for (;;) {
        struct pollfd poll_fd = {.fd = ends[0], .events = POLLIN};
        if (clock_now_ns() >= deadline_ns || stop_asked()) {
            kill(pid, SIGKILL);
            break;
        }
        if (poll(&poll_fd, 1, 200) <= 0) {
            continue;
        }
        char rest[4096];
        const bool full = held == PERF_OUTPUT_MAX - 1;
        const ssize_t count = full ? read(ends[0], rest, sizeof(rest))
                                   : read(ends[0], output + held, PERF_OUTPUT_MAX - 1 - held);
        if (count <= 0) {
            break;
        }
        held += full ? 0 : (size_t)count;
    }
    output[held] = '\0';
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool json_number(const char *text, const char *after, const char *key, double *value_out)
{
    char quoted[64];

    if (after != NULL) {
        text = strstr(text, after);
    }
    snprintf(quoted, sizeof(quoted), "\"%s\":", key);
    const char *at = text != NULL ? strstr(text, quoted) : NULL;
    if (at == NULL) {
        return false;
    }
    at += strlen(quoted);
    char *end = NULL;
    *value_out = strtod(at, &end);
    return end != at;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void run_complain(const char *name, const struct command *command, int status)
{
    fprintf(stderr, "weir-stress perf: %s: failed with status %d:", name, status);
    for (size_t i = 0; i < command->count; i++) {
        fprintf(stderr, " %s", command->words[i]);
    }
    fputc('\n', stderr);
}

/* After the slash of weir/NAME: a policy, or a way of durability. */
static void weir_form(struct command *command, const char *name)
{
    const char *form = strchr(name, '/');

    if (form == NULL) {
        return;
    }
    form++;
    if (strcmp(form, "low-latency") == 0 || strcmp(form, "off") == 0) {
        command_word(command, "--policy");
    } else {
        command_word(command, "--io");
    }
    command_word(command, "%s", form);
}

bool weir_bench(const struct perf *perf,
                const char *name,
                size_t producers,
                size_t size,
                double seconds,
                const char *const more[],
                char output[PERF_OUTPUT_MAX])
{
    struct command command = {.count = 0};

    command_word(&command, "%s", perf->weir);
    command_word(&command, "bench");
    command_word(&command, "--dir");
    command_word(&command, "%s/log", perf->dir);
    command_word(&command, "--producers");
    command_word(&command, "%zu", producers);
    command_word(&command, "--size");
    command_word(&command, "%zu", size);
    command_word(&command, "--seconds");
    command_word(&command, "%.3f", seconds);
    command_word(&command, "--json");
    /* Short, so that the window is over recycled segments, as the peers' files are prewritten. */
    command_word(&command, "--retain");
    command_word(&command, "64M");
    weir_form(&command, name);
    for (size_t i = 0; more != NULL && more[i] != NULL; i++) {
        command_word(&command, "%s", more[i]);
    }
    const int status = command_run(&command, output, (unsigned)seconds + 60);
    if (status != 0 && !stop_asked()) {
        run_complain(name, &command, status);
    }
    return status == 0;
}

static bool
peer_run(const struct perf *perf, const struct subject *subject, char output[PERF_OUTPUT_MAX])
{
    struct command command = {.count = 0};

    command_word(&command, "%s/compare-%s", perf->compare, subject->name);
    command_word(&command, "--dir");
    command_word(&command, "%s", perf->dir);
    command_word(&command, "--producers");
    command_word(&command, "%zu", subject->producers);
    command_word(&command, "--size");
    command_word(&command, "%zu", subject->size);
    command_word(&command, "--seconds");
    command_word(&command, "%.3f", perf->seconds);
    command_word(&command, "--warm-up");
    command_word(&command, "%.3f", perf->warm_up);
    const int status = command_run(&command, output, (unsigned)perf->seconds + 120);
    if (status != 0 && !stop_asked()) {
        run_complain(subject->name, &command, status);
    }
    return status == 0;
}

static void subject_run(const struct perf *perf, struct subject *subject)
{
    static char output[PERF_OUTPUT_MAX];
    double ops = 0;
    double p50 = 0;
    double p99 = 0;
    double cpu = 0;
    double records = 0;
    const bool ran = strncmp(subject->name, "weir", 4) == 0 ? weir_bench(perf,
                                                                         subject->name,
                                                                         subject->producers,
                                                                         subject->size,
                                                                         perf->seconds,
                                                                         NULL,
                                                                         output)
                                                            : peer_run(perf, subject, output);

    if (!ran || !json_number(output, NULL, "ops_per_s", &ops) ||
        !json_number(output, "\"lat_us\"", "p50", &p50) ||
        !json_number(output, "\"lat_us\"", "p99", &p99) ||
        !json_number(output, NULL, "cpu_s", &cpu) ||
        !json_number(output, NULL, "records", &records) || records <= 0) {
        return;
    }
    series_add(&subject->ops, ops);
    series_add(&subject->p50, p50);
    series_add(&subject->p99, p99);
    series_add(&subject->cpu_us, cpu * 1e6 / records);
}

/* ---- cells ----------------------------------------------------------------------------------- */

/* Whether this weir bench knows an option. */
static bool bench_knows(const struct perf *perf, const char *option)
{
    static char output[PERF_OUTPUT_MAX];
    struct command command = {.count = 0};

    command_word(&command, "%s", perf->weir);
    command_word(&command, "bench");
    command_word(&command, "--help");
    return command_run(&command, output, 10) == 0 && strstr(output, option) != NULL;
}

static const char *why_not(const struct perf *perf, const char *name)
{
    char path[8192];

    if (strncmp(name, "weir", 4) == 0) {
        const bool policy = strcmp(name, "weir/low-latency") == 0 || strcmp(name, "weir/off") == 0;
        return policy && !bench_knows(perf, "--policy") ? "this weir bench has no --policy" : NULL;
    }
    snprintf(path, sizeof(path), "%s/compare-%s", perf->compare, name);
    return access(path, X_OK) == 0 ? NULL : "not built: its library is not there";
}

struct subject *cell_find(struct cell *cell, const char *name)
{
    for (size_t i = 0; i < cell->count; i++) {
        if (strcmp(cell->subjects[i].name, name) == 0) {
            return &cell->subjects[i];
        }
    }
    return NULL;
}

void cell_add(const struct perf *perf, struct cell *cell, const char *name)
{
    if (cell->count == PERF_SUBJECTS_MAX || cell_find(cell, name) != NULL) {
        return;
    }
    struct subject *subject = &cell->subjects[cell->count];
    *subject = (struct subject){.producers = cell->producers, .size = cell->size};
    snprintf(subject->name, sizeof(subject->name), "%s", name);
    subject->why = why_not(perf, name);
    cell->count++;
}

void cell_add_peers(const struct perf *perf, struct cell *cell)
{
    const char *at = perf->peers;

    while (*at != '\0') {
        char name[64];
        const size_t length = strcspn(at, ",");
        snprintf(name, sizeof(name), "%.*s", (int)length, at);
        if (length > 0) {
            cell_add(perf, cell, name);
        }
        at += length + (at[length] == ',' ? 1 : 0);
    }
}

void cell_run(const struct perf *perf, struct cell *cell)
{
    for (unsigned round = 0; round < perf->rounds; round++) {
        for (size_t i = 0; i < cell->count && !stop_asked(); i++) {
            struct subject *subject = &cell->subjects[(i + round) % cell->count];
            if (subject->why == NULL) {
                subject_run(perf, subject);
            }
        }
    }
    for (size_t i = 0; i < cell->count; i++) {
        if (cell->subjects[i].why == NULL && cell->subjects[i].ops.count < perf->rounds) {
            cell->subjects[i].why = "a run failed";
        }
    }
}

const struct subject *cell_best_peer(const struct cell *cell)
{
    const struct subject *best = NULL;

    for (size_t i = 0; i < cell->count; i++) {
        const struct subject *subject = &cell->subjects[i];
        /* The way without group commit is measured for a line of its own. */
        if (strncmp(subject->name, "weir", 4) != 0 && strcmp(subject->name, "reference") != 0 &&
            subject->why == NULL &&
            (best == NULL || series_median(&subject->ops) > series_median(&best->ops))) {
            best = subject;
        }
    }
    return best;
}

void perf_clear(const struct perf *perf, const char *name)
{
    static char output[PERF_OUTPUT_MAX];
    struct command command = {.count = 0};

    command_word(&command, "rm");
    command_word(&command, "-rf");
    command_word(&command, "%s/%s", perf->dir, name);
    command_run(&command, output, 120);
}

/* ---- reports --------------------------------------------------------------------------------- */

static void line_print(const char *verdict,
                       const char *what,
                       const struct series *measured,
                       const char *demanded,
                       const char *note)
{
    printf("%-5s %-66s %8.3f  (%.3f - %.3f, %zu runs)  %s%s%s\n",
           verdict,
           what,
           series_median(measured),
           series_min(measured),
           series_max(measured),
           measured->count,
           demanded,
           note != NULL ? "  " : "",
           note != NULL ? note : "");
}

static void line_judge(struct perf *perf,
                       const char *what,
                       const struct series *measured,
                       double demanded,
                       bool most,
                       const char *note)
{
    char text[64];

    if (measured->count == 0) {
        perf->failed = true;
        printf("FAIL  %-66s nothing was measured\n", what);
        return;
    }
    const double median = series_median(measured);
    const bool good = most ? median <= demanded : median >= demanded;
    snprintf(text, sizeof(text), "%s %g", most ? "at most" : "at least", demanded);
    perf->failed = perf->failed || !good;
    line_print(good ? "pass" : "FAIL", what, measured, text, note);
}

void line_at_most(struct perf *perf,
                  const char *what,
                  const struct series *measured,
                  double demanded,
                  const char *note)
{
    line_judge(perf, what, measured, demanded, true, note);
}

void line_at_least(struct perf *perf,
                   const char *what,
                   const struct series *measured,
                   double demanded,
                   const char *note)
{
    line_judge(perf, what, measured, demanded, false, note);
}

void line_stated(const char *what, const struct series *measured, const char *note)
{
    line_print("-", what, measured, "stated", note);
}

void line_skipped(const char *what, const char *why)
{
    printf("skip  %-66s %s\n", what, why);
}
