/* SPDX-License-Identifier: Apache-2.0
 * One process after the other appends to the same log: what the verbs on real files have in common.
 * One thread. */
#ifndef WEIR_STRESS_LIVES_H
#define WEIR_STRESS_LIVES_H

#include "args.h"
#include "dice.h"
#include "ledger.h"
#include "scratch.h"
#include "spawn.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The options of all verbs that run lives. */
struct lives_options {
    uint64_t rounds;
    bool rounds_given;
    uint64_t for_ns; /* 0: no limit */
    uint64_t seed;
    bool seed_given;
    uint64_t producers;
    struct args_range record_bytes;
    int io;
    uint64_t standstill_ns; /* 0: a minute */
    const char *dir;
    const char *lie;
    bool follow;
    bool keep;
};

/* Of a verb whose rounds are so many, and whose records so long at most, where nothing is said. */
#define LIVES_OPTIONS(rounds_usual, bytes_max)                                                     \
    {                                                                                              \
        .rounds = (rounds_usual), .producers = 8, .record_bytes = {0, (bytes_max)},                \
        .io = ARGS_IO_ALL, .lie = "none"                                                           \
    }

/* On a file system of its own. words: its choices, up to a NULL; value: the same for the help. */
#define LIVES_FS_ROW(fs, words, text)                                                              \
    {                                                                                              \
        .name = "fs", .kind = OPTION_CHOICE, .target = &(fs), .value = (text), .choices = (words), \
        .help = "file system (default ext4)"                                                       \
    }

#define LIVES_ROUNDS_ROW(options, text)                                                            \
    {                                                                                              \
        .name = "rounds", .kind = OPTION_NUMBER, .target = &(options).rounds,                      \
        .given = &(options).rounds_given, .value = "N", .min = 1, .max = SCRIPT_LIVES_MAX - 1,     \
        .help = text                                                                               \
    }

#define LIVES_OPTION_ROWS(options)                                                                 \
    {.name = "for",                                                                                \
     .kind = OPTION_DURATION,                                                                      \
     .target = &(options).for_ns,                                                                  \
     .value = "DURATION",                                                                          \
     .help = "begin no round later than that: 30s, 10m, 2h; without --rounds nothing else ends"},  \
        {.name = "seed",                                                                           \
         .kind = OPTION_NUMBER,                                                                    \
         .target = &(options).seed,                                                                \
         .given = &(options).seed_given,                                                           \
         .value = "S",                                                                             \
         .help = "what is drawn: records, sizes, moments (default: a new one, printed)"},          \
        {.name = "io",                                                                             \
         .kind = OPTION_CHOICE,                                                                    \
         .target = &(options).io,                                                                  \
         .value = "auto|chain|dsync|posix|all",                                                    \
         .choices = args_io_words,                                                                 \
         .help = "how batches are made durable; all: in turn, on one log (default all)"},          \
        {.name = "producers",                                                                      \
         .kind = OPTION_NUMBER,                                                                    \
         .target = &(options).producers,                                                           \
         .value = "N",                                                                             \
         .min = 1,                                                                                 \
         .max = SCRIPT_PRODUCERS_MAX,                                                              \
         .help = "threads that append, 1 to 256 (default 8)"},                                     \
        {.name = "record-bytes",                                                                   \
         .kind = OPTION_RANGE,                                                                     \
         .target = &(options).record_bytes,                                                        \
         .value = "A..B",                                                                          \
         .max = SCRIPT_BYTES_MAX,                                                                  \
         .help = "sizes of records (default 0..256K; most small, 3 % above B/4)"},                 \
        {.name = "follow",                                                                         \
         .kind = OPTION_FLAG,                                                                      \
         .target = &(options).follow,                                                              \
         .help = "a reader beside each writer; what it is shown must stay, too"},                  \
        {.name = "lie",                                                                            \
         .kind = OPTION_WORD,                                                                      \
         .target = &(options).lie,                                                                 \
         .value = "WHAT",                                                                          \
         .help = "plant a fault, to see it found: ghost, early, alter, twice, skip, split, trim, " \
                 "leak, stuck"},                                                                   \
        {.name = "standstill",                                                                     \
         .kind = OPTION_DURATION,                                                                  \
         .target = &(options).standstill_ns,                                                       \
         .value = "DURATION",                                                                      \
         .help = "a process of which nothing is heard for so long has failed (default 1m)"},       \
        {.name = "dir",                                                                            \
         .kind = OPTION_WORD,                                                                      \
         .target = &(options).dir,                                                                 \
         .value = "DIR",                                                                           \
         .help = "an empty or new directory to work in (default: one in $TMPDIR or /tmp)"},        \
    {                                                                                              \
        .name = "keep", .kind = OPTION_FLAG, .target = &(options).keep,                            \
        .help = "leave the directory behind"                                                       \
    }

/* When a life shall end. */
enum moment_kind {
    MOMENT_AFTER_GO,     /* so long after it began to open: likely meanwhile */
    MOMENT_AFTER_OPEN,   /* so long after it began to append */
    MOMENT_AFTER_ACKS,   /* after so many acknowledgements */
    MOMENT_AFTER_BUDGET, /* so long after it began to close */
};

struct life {
    uint32_t number;
    struct spawn child;
    struct spawn follower;
    enum moment_kind moment;
    uint64_t moment_value;
    enum wire_phase phase; /* when its moment came */
    bool heard;            /* asked for what it says, once */
    weir_lsn needed; /* the highest LSN acknowledged before this life's first acknowledgement */
};

struct lives {
    const char *verb;
    const struct lives_options *options;
    const char *log_dir;
    bool only_durable;
    bool own_moments;     /* the verb ends lives; none has a moment drawn */
    uint64_t budget;      /* groups of each producer then; 0: without end */
    const char *words[8]; /* further options of the child, up to a NULL */
    struct script script;
    struct ledger ledger;
    struct dice dice;
    int io_words[ARGS_IO_ALL];
    size_t io_count;
    uint32_t next_number;
    bool failed;                     /* something beyond the ledger's faults: said already */
    uint64_t ended[WIRE_CLOSED + 1]; /* lives by the phase in which their moment came */
    uint64_t torn_cut;
    uint64_t bytes_cut;
    uint64_t open_ns_max;
    uint64_t open_ns_sum;
    uint64_t opens;
    uint64_t inflight_max; /* operations that one life had under way at once */
    uint64_t refused;      /* appends for want of space or the like */
    const char *open_what; /* what open_ns is the time of */
};

/* Return: 0, or an exit status after a message. log_dir is borrowed. */
int lives_open(struct lives *lives,
               const char *verb,
               const struct lives_options *options,
               const char *probe_dir,
               const char *log_dir);
void lives_close(struct lives *lives);

/* Starts the next life, which waits for the word to go. Return: false after a message. */
bool life_start(struct lives *lives, struct life *life);
void life_go(struct life *life);
/* Hears acknowledgements until the life's moment. Return: false if it came to an end that is
 * none of ours, or stands still: said. */
bool life_await(struct lives *lives, struct life *life);
/* For verbs that look for the end themselves: hears acknowledgements for up to wait_ns.
 * Return: how many. */
uint64_t life_hear(struct lives *lives, struct life *life, uint64_t wait_ns);
/* Hears until the log is open, the life has ended (false), or nothing more comes (false, after a
 * message). */
bool life_await_open(struct lives *lives, struct life *life);
/* Hears until it has ended. Return: false after a message, and it is killed then. */
bool life_await_end(struct lives *lives, struct life *life);
/* Starts a reader beside it, which life_end ends. */
void life_follow(struct lives *lives, struct life *life);
/* Says that it stands still. */
void life_stuck(struct lives *lives, const struct life *life);
uint64_t lives_standstill_ns(const struct lives *lives);
void life_kill(struct life *life);
/* Reaps a killed life and takes over all that it told. may_fail: it may have met a failed log.
 * Return: false after a message. */
bool life_end(struct lives *lives, struct life *life, bool may_fail);
/* Kills and forgets. */
void life_clear(struct life *life);

/* One opening took so long. */
void lives_opened(struct lives *lives, uint64_t open_ns);
/* Something was found that the ledger does not count: prints it. */
void lives_fault(struct lives *lives, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Was nothing found? */
bool lives_good(const struct lives *lives);
/* A line for a run under way, and the table at its end. */
void lives_line(struct lives *lives, uint64_t round);
void lives_print(struct lives *lives);
/* The command to run it again. */
void lives_rerun(const struct lives *lives, FILE *to, const char *more);

#endif
