/* SPDX-License-Identifier: Apache-2.0
 * What every verb that works on a real log does before and behind its rounds: a seed, a directory,
 * perhaps a file system of its own, lives; and at the end the table, the verdict, the line to run
 * it again. One thread. */
#ifndef WEIR_STRESS_RUN_H
#define WEIR_STRESS_RUN_H

#include "disk.h"
#include "lives.h"
#include "progress.h"
#include "scratch.h"

#include <stdbool.h>
#include <stdint.h>

/* A sanitizer keeps memory of its own, as much as it likes. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RUN_SANITIZED = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { RUN_SANITIZED = 1 };
#else
enum { RUN_SANITIZED = 0 };
#endif
#else
enum { RUN_SANITIZED = 0 };
#endif

struct run {
    const char *verb;
    struct lives_options *options;
    struct scratch scratch;
    struct disk disk;
    bool on_disk; /* the log lies on disk, else in scratch */
    char log_dir[4300];
    uint64_t begin_ns;
    struct lives lives;
};

/* fs NULL: the log lies in the run's directory; else on a file system made as disk says (0
 * bytes: of the usual size), whose refusal is a skip. Draws a seed where none was given.
 * Return: ARGS_RUN, or the status to exit with after a message. */
int run_open(struct run *run,
             const char *verb,
             struct lives_options *options,
             const char *fs,
             uint64_t fs_bytes);

/* The command line of a verb without operands, which may choose a file system, and then run_open. */
struct run_fs {
    const int *chosen; /* by the command line */
    const char *const *words;
    const uint64_t *bytes; /* of each of them; NULL: the usual size */
};
int run_begin(struct run *run,
              const struct verb_text *text,
              const struct option_row *rows,
              int argc,
              char **argv,
              struct lives_options *options,
              const struct run_fs *fs);

/* Shall there be a round with this number, counted from 1? No more than asked for, no longer than
 * asked for, none after a signal. */
bool run_goes_on(const struct run *run, uint64_t round);

/* A line for every hundred rounds. */
void run_note(struct run *run, struct progress *progress, uint64_t round);

/* Prints the table unless it was printed, and the result, removes everything that shall not be
 * kept. good: nothing was found, beyond what the ledger counts. more: the verb's own options for
 * the line to run it again. Return: exit status. */
int run_close(struct run *run, bool good, const char *more);

#endif
