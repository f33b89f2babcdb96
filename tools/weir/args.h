/* SPDX-License-Identifier: Apache-2.0
 * Command lines: long options, operands, and the help text of a verb, all from one table.
 *
 * A verb fills a table whose rows point at its variables, which hold the defaults; args_parse sets
 * those that were given. "--name value" and "--name=value" are the same, "--" ends the options, "-"
 * is an operand, and options and operands may stand in any order. Whatever is wrong is said on
 * stderr with the option's name. */
#ifndef WEIR_TOOL_ARGS_H
#define WEIR_TOOL_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STATUS_OK = 0,
    STATUS_FAILED = 1,
    STATUS_USAGE = 64,
    ARGS_RUN = -1, /* of args_parse: nothing to print, go on */
};

enum option_kind {
    OPTION_FLAG,    /* bool */
    OPTION_WORD,    /* const char * */
    OPTION_NUMBER,  /* uint64_t, min..max */
    OPTION_BYTES,   /* uint64_t, min..max, with K, M, G, T (powers of 1024) */
    OPTION_LSN,     /* uint64_t, decimal or 0x... */
    OPTION_SECONDS, /* double, more than 0 */
    OPTION_CHOICE,  /* int, index into choices */
};

struct option_row {
    const char *name; /* without "--"; NULL ends the table */
    enum option_kind kind;
    void *target;
    bool *given;                /* may be NULL */
    const char *value;          /* what the help calls the value; NULL for a flag */
    uint64_t min;               /* of numbers and bytes */
    uint64_t max;               /* 0 = no limit */
    const char *const *choices; /* ends with NULL */
    const char *help;           /* with unit and default */
};

struct verb_text {
    const char *name;
    const char *summary;  /* one line, no full stop */
    const char *operands; /* "DIR [FILE|-]" */
    const char *about;    /* paragraphs, wrapped as they shall stand; "" if none */
    const char *exits;    /* lines "  0   ..." */
    const char *example;  /* lines "  weir ..." */
    size_t operands_min;
    size_t operands_max;
};

/* The exit codes of most verbs. */
#define ARGS_EXITS                                                                                 \
    "  0   done\n"                                                                                 \
    "  1   it failed: one line on standard error says what, and where\n"                           \
    "  64  the command line is wrong\n"

/* Reads argv[1..] (argv[0] is the verb). operands_out has operands_max entries; those not given
 * become NULL. Return: ARGS_RUN, or the status to exit with: STATUS_OK after --help, STATUS_USAGE
 * after a complaint. */
int args_parse(const struct verb_text *verb,
               const struct option_row *options,
               int argc,
               char **argv,
               const char **operands_out);

/* Complains about the command line like args_parse does; for what a table cannot say. Return:
 * STATUS_USAGE. */
int args_wrong(const struct verb_text *verb, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A whole word as a number. Return: false if it is not one or does not fit. */
bool args_number(const char *word, uint64_t *value_out);
bool args_bytes(const char *word, uint64_t *value_out);
bool args_lsn(const char *word, uint64_t *value_out);

#endif
