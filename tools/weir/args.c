/* SPDX-License-Identifier: Apache-2.0
 * Command lines. args_parse walks argv once, looks each option up in the verb's table and stores
 * its value; the help text is printed from the same table, so that it cannot tell another story.
 * Runs on the main thread before anything else; allocates nothing. */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HELP_COLUMN = 24,
    HELP_WIDTH = 100,
};

int args_wrong(const struct verb_text *verb, const char *format, ...)
{
    va_list list;

    fprintf(stderr, "weir %s: ", verb->name);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, " (weir %s --help)\n", verb->name);
    return STATUS_USAGE;
}

static bool digits_parse(const char *word, int base, uint64_t *value_out, const char **end_out)
{
    /* strtoull takes signs and spaces, which no number here has. */
    if (word[0] < '0' || word[0] > '9') {
        return false;
    }
    errno = 0;
    char *end = NULL;
    const unsigned long long value = strtoull(word, &end, base);
    if (errno != 0 || end == word) {
        return false;
    }
    *value_out = (uint64_t)value;
    *end_out = end;
    return true;
}

bool args_number(const char *word, uint64_t *value_out)
{
    const char *end = NULL;

    return digits_parse(word, 10, value_out, &end) && *end == '\0';
}

bool args_lsn(const char *word, uint64_t *value_out)
{
    const char *end = NULL;
    const bool hex = word[0] == '0' && (word[1] == 'x' || word[1] == 'X');

    return digits_parse(word, hex ? 16 : 10, value_out, &end) && *end == '\0';
}

bool args_bytes(const char *word, uint64_t *value_out)
{
    static const char suffixes[] = "KMGT";
    const char *end = NULL;
    uint64_t value = 0;

    if (!digits_parse(word, 10, &value, &end)) {
        return false;
    }
    if (*end != '\0') {
        const char *suffix = strchr(suffixes, *end);
        if (suffix == NULL || (end[1] != '\0' && strcmp(end + 1, "iB") != 0)) {
            return false;
        }
        for (ptrdiff_t i = 0; i <= suffix - suffixes; i++) {
            if (value > UINT64_MAX / 1024) {
                return false;
            }
            value *= 1024;
        }
    }
    *value_out = value;
    return true;
}

static bool seconds_parse(const char *word, double *value_out)
{
    char *end = NULL;

    if (word[0] != '.' && (word[0] < '0' || word[0] > '9')) {
        return false;
    }
    const double value = strtod(word, &end);
    if (*end == 's' && end[1] == '\0') {
        end++;
    }
    if (end == word || *end != '\0' || !isfinite(value) || value <= 0) {
        return false;
    }
    *value_out = value;
    return true;
}

/* ---- help ------------------------------------------------------------------------------------ */

/* Prints text from the current column on, breaking between words; further lines begin at
 * HELP_COLUMN. */
static void wrapped_print(const char *text, size_t column)
{
    while (column < HELP_COLUMN) {
        putchar(' ');
        column++;
    }
    const char *word = text;
    bool first = true;
    while (*word != '\0') {
        const size_t length = strcspn(word, " ");
        if (!first && column + 1 + length > HELP_WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (!first) {
            putchar(' ');
            column++;
        }
        fwrite(word, 1, length, stdout);
        column += length;
        first = false;
        word += length;
        word += strspn(word, " ");
    }
    putchar('\n');
}

static void option_print(const char *name, const char *value, const char *help)
{
    const int column =
        printf("  --%s%s%s", name, value != NULL ? " " : "", value != NULL ? value : "");
    size_t at = column > 0 ? (size_t)column : 0;

    if (at + 2 > HELP_COLUMN) {
        putchar('\n');
        at = 0;
    }
    wrapped_print(help, at);
}

static void help_print(const struct verb_text *verb, const struct option_row *options)
{
    printf("weir %s: %s\n\nusage: weir %s [OPTION]... %s\n",
           verb->name,
           verb->summary,
           verb->name,
           verb->operands);
    if (verb->about[0] != '\0') {
        printf("\n%s", verb->about);
    }
    printf("\noptions:\n");
    bool bytes = false;
    for (const struct option_row *row = options; row->name != NULL; row++) {
        option_print(row->name, row->value, row->help);
        bytes = bytes || row->kind == OPTION_BYTES;
    }
    option_print("help", NULL, "this text");
    if (bytes) {
        printf("\nBYTES may end in K, M, G or T (powers of 1024), as in 64M or 64MiB.\n");
    }
    printf("\nexit codes:\n%s\nexample:\n%s", verb->exits, verb->example);
}

/* ---- parsing --------------------------------------------------------------------------------- */

static int number_store(const struct verb_text *verb,
                        const struct option_row *row,
                        uint64_t value,
                        const char *word)
{
    if (value < row->min || (row->max != 0 && value > row->max)) {
        if (row->max != 0) {
            return args_wrong(verb,
                              "--%s %s: must be from %llu to %llu",
                              row->name,
                              word,
                              (unsigned long long)row->min,
                              (unsigned long long)row->max);
        }
        return args_wrong(verb,
                          "--%s %s: must be at least %llu",
                          row->name,
                          word,
                          (unsigned long long)row->min);
    }
    *(uint64_t *)row->target = value;
    return ARGS_RUN;
}

static int
choice_store(const struct verb_text *verb, const struct option_row *row, const char *word)
{
    for (int i = 0; row->choices[i] != NULL; i++) {
        if (strcmp(row->choices[i], word) == 0) {
            *(int *)row->target = i;
            return ARGS_RUN;
        }
    }
    return args_wrong(verb, "--%s %s: must be %s", row->name, word, row->value);
}

static int value_store(const struct verb_text *verb, const struct option_row *row, const char *word)
{
    uint64_t value = 0;

    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)row->target = true;
        return ARGS_RUN;
    case OPTION_WORD:
        *(const char **)row->target = word;
        return ARGS_RUN;
    case OPTION_NUMBER:
        if (!args_number(word, &value)) {
            return args_wrong(verb, "--%s %s: not a number", row->name, word);
        }
        return number_store(verb, row, value, word);
    case OPTION_BYTES:
        if (!args_bytes(word, &value)) {
            return args_wrong(verb, "--%s %s: not a number of bytes", row->name, word);
        }
        return number_store(verb, row, value, word);
    case OPTION_LSN:
        if (!args_lsn(word, &value)) {
            return args_wrong(verb, "--%s %s: not an LSN (decimal or 0x...)", row->name, word);
        }
        *(uint64_t *)row->target = value;
        return ARGS_RUN;
    case OPTION_SECONDS:
        if (!seconds_parse(word, row->target)) {
            return args_wrong(verb, "--%s %s: not a number of seconds", row->name, word);
        }
        return ARGS_RUN;
    case OPTION_CHOICE:
        return choice_store(verb, row, word);
    }
    return args_wrong(verb, "--%s: unknown option", row->name);
}

static const struct option_row *
row_find(const struct option_row *options, const char *name, size_t length)
{
    for (const struct option_row *row = options; row->name != NULL; row++) {
        if (strlen(row->name) == length && memcmp(row->name, name, length) == 0) {
            return row;
        }
    }
    return NULL;
}

/* Takes the option at argv[*index], and its value, which may be the word behind it. */
static int option_take(const struct verb_text *verb,
                       const struct option_row *options,
                       int argc,
                       char **argv,
                       int *index)
{
    const char *word = argv[*index];
    const char *name = word + 2;
    const size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;

    if (word[1] != '-') {
        return args_wrong(verb, "%s: unknown option", word);
    }
    const struct option_row *row = row_find(options, name, length);
    if (row == NULL) {
        return args_wrong(verb, "--%.*s: unknown option", (int)length, name);
    }
    if (row->kind == OPTION_FLAG && value != NULL) {
        return args_wrong(verb, "--%s: takes no value", row->name);
    }
    if (row->kind != OPTION_FLAG && value == NULL) {
        if (*index + 1 >= argc) {
            return args_wrong(verb, "--%s: needs a value (%s)", row->name, row->value);
        }
        *index += 1;
        value = argv[*index];
    }
    if (row->given != NULL) {
        *row->given = true;
    }
    return value_store(verb, row, value);
}

/* Help wins over whatever else is on the line, right or wrong. */
static bool help_wanted(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

int args_parse(const struct verb_text *verb,
               const struct option_row *options,
               int argc,
               char **argv,
               const char **operands_out)
{
    size_t operands = 0;
    bool only_operands = false;

    for (size_t i = 0; i < verb->operands_max; i++) {
        operands_out[i] = NULL;
    }
    if (help_wanted(argc, argv)) {
        help_print(verb, options);
        return STATUS_OK;
    }
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!only_operands && strcmp(word, "--") == 0) {
            only_operands = true;
        } else if (!only_operands && word[0] == '-' && word[1] != '\0') {
            const int status = option_take(verb, options, argc, argv, &i);
            if (status != ARGS_RUN) {
                return status;
            }
        } else if (operands == verb->operands_max) {
            return args_wrong(verb, "%s: one operand too many", word);
        } else {
            operands_out[operands] = word;
            operands++;
        }
    }
    if (operands < verb->operands_min) {
        return args_wrong(verb, "needs %s", verb->operands);
    }
    for (size_t i = 0; i < operands; i++) {
        if (operands_out[i][0] == '\0') {
            return args_wrong(verb, "an operand is empty");
        }
    }
    return ARGS_RUN;
}
