/* SPDX-License-Identifier: Apache-2.0
 * Command lines of weir-stress: long options from a table whose rows point at the verb's
 * variables, and the help text from the same table. "--name value" and "--name=value" are the
 * same; "--" ends the options. */
#ifndef WEIR_STRESS_ARGS_H
#define WEIR_STRESS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STATUS_OK = 0,
    STATUS_FAILED = 1,
    STATUS_USAGE = 64,
    STATUS_SKIPPED = 77,
    ARGS_RUN = -1, /* of args_parse: go on */
};

#define ARGS_EXITS                                                                                 \
    "  0   nothing found\n"                                                                        \
    "  1   found something, or could not go on: said on standard error, with a line to run it "    \
    "again\n"                                                                                      \
    "  64  the command line is wrong\n"                                                            \
    "  77  not possible on this machine: the reason is printed\n"

enum option_kind {
    OPTION_FLAG,     /* bool */
    OPTION_WORD,     /* const char * */
    OPTION_NUMBER,   /* uint64_t, min..max */
    OPTION_DURATION, /* uint64_t, nanoseconds, of 30s, 10m, 2h, 500ms or seconds */
    OPTION_RANGE,    /* struct args_range of bytes, min..max, with K and M */
    OPTION_CHOICE,   /* int, index into choices */
};

struct args_range {
    uint64_t from;
    uint64_t to;
};

struct option_row {
    const char *name; /* without "--"; NULL ends the table */
    enum option_kind kind;
    void *target;
    bool *given;       /* may be NULL */
    const char *value; /* what the help calls the value */
    uint64_t min;
    uint64_t max;               /* 0 = no limit */
    const char *const *choices; /* ends with NULL */
    const char *help;           /* with unit and default; NULL: not in the help */
};

struct verb_text {
    const char *name;
    const char *usage; /* behind the verb */
    const char *about; /* lines as they shall stand */
    const char *exits;
    const char *example;
};

/* Reads argv[1..]; argv[0] is the verb. operands_out becomes the index of the first operand,
 * argc if there is none. Operands stand behind all options. Return: ARGS_RUN, or the status to
 * exit with. */
int args_parse(const struct verb_text *verb,
               const struct option_row *options,
               int argc,
               char **argv,
               int *operands_out);

/* Complains like args_parse does. Return: STATUS_USAGE. */
int args_wrong(const struct verb_text *verb, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The ways of weir_open's io, in the order of enum weir_io, and "all" behind them. */
extern const char *const args_io_words[];
enum { ARGS_IO_ALL = 4 };

/* As args_parse, for a verb without operands. */
int args_only(const struct verb_text *verb,
              const struct option_row *options,
              int argc,
              char **argv);

#endif
