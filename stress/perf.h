/* SPDX-License-Identifier: Apache-2.0
 * What the files of weir-stress perf share: child processes whose line of JSON is the figure, and
 * series of such figures, one per round. One thread. */
#ifndef WEIR_STRESS_PERF_H
#define WEIR_STRESS_PERF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    PERF_ROUNDS_MAX = 31,
    PERF_OUTPUT_MAX = 64 * 1024,
    PERF_ARGS_MAX = 48,
    PERF_SUBJECTS_MAX = 16,
};

/* One value per round, in their order. */
struct series {
    double values[PERF_ROUNDS_MAX];
    size_t count;
};

void series_add(struct series *series, double value);
/* 0 of an empty one. */
double series_median(const struct series *series);
double series_min(const struct series *series);
double series_max(const struct series *series);
/* value by value, as far as both go */
struct series series_ratio(const struct series *of, const struct series *to);

/* A command line under construction; the words are copied. */
struct command {
    char *words[PERF_ARGS_MAX + 1]; /* ends with NULL */
    size_t count;
    char text[8192];
    size_t used;
};

void command_word(struct command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Runs it to its end, at most limit_s; standard output into output, ended with a zero byte.
 * Return: its exit status, 128 + signal, or a negative errno. */
int command_run(const struct command *command, char output[PERF_OUTPUT_MAX], unsigned limit_s);
/* Starts it with nothing to read and nowhere to write. Return: its pid or a negative errno. */
pid_t command_start(const struct command *command);

/* The number behind "key": that follows the first "after" (NULL: the beginning). Return: false if
 * there is none. */
bool json_number(const char *text, const char *after, const char *key, double *value_out);

/* How everything here is run. */
struct perf {
    char dir[4096];     /* scratch, on the device in question */
    char weir[4096];    /* the command */
    char compare[4096]; /* where compare-* are */
    const char *peers;  /* names, with commas between */
    unsigned rounds;
    double seconds; /* of each run */
    double warm_up; /* of the peers'; weir's own depends on the log */
    bool quick;
    bool failed; /* some line did */
};

/* Something that appends durably, and what its runs gave. */
struct subject {
    char name[64];   /* weir, weir/low-latency, weir/off, weir/chain, ..., or a peer's */
    const char *why; /* it cannot be run, NULL if it can */
    size_t producers;
    size_t size;
    struct series ops, p50, p99, cpu_us;
};

/* A cell: the same work for several subjects. */
struct cell {
    size_t producers;
    size_t size;
    struct subject subjects[PERF_SUBJECTS_MAX];
    size_t count;
};

/* Runs every subject of the cell in every round, beginning with another one each time. */
void cell_run(const struct perf *perf, struct cell *cell);
struct subject *cell_find(struct cell *cell, const char *name);
void cell_add(const struct perf *perf, struct cell *cell, const char *name);
/* Adds all of perf->peers. */
void cell_add_peers(const struct perf *perf, struct cell *cell);
/* The peer with the highest median rate, of those that ran; NULL if none did. */
const struct subject *cell_best_peer(const struct cell *cell);

/* One run of weir bench. name as in struct subject; more: further options, NULL at its end. Return:
 * false if it failed, which was said. */
bool weir_bench(const struct perf *perf,
                const char *name,
                size_t producers,
                size_t size,
                double seconds,
                const char *const more[],
                char output[PERF_OUTPUT_MAX]);

/* Removes what is below the scratch directory under that name. */
void perf_clear(const struct perf *perf, const char *name);

/* Reports. A line's verdict: the measured series against what is demanded of its median. */
void line_at_most(struct perf *perf,
                  const char *what,
                  const struct series *measured,
                  double demanded,
                  const char *note);
void line_at_least(struct perf *perf,
                   const char *what,
                   const struct series *measured,
                   double demanded,
                   const char *note);
void line_stated(const char *what, const struct series *measured, const char *note);
void line_skipped(const char *what, const char *why);

/* perf_files.c: lines about files that exist already. */
void perf_scan(struct perf *perf);
void perf_open(struct perf *perf);

#endif
