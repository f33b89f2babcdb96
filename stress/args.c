/* SPDX-License-Identifier: Apache-2.0
 * Command lines: one walk over argv, each option looked up in the verb's table. Allocates
 * nothing. */
#include "args.h"

#include "clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const args_io_words[] = {"auto", "chain", "dsync", "posix", "all", NULL};

int args_wrong(const struct verb_text *verb, const char *format, ...)
{
    va_list list;

    fprintf(stderr, "weir-stress %s: ", verb->name);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, " (weir-stress %s --help)\n", verb->name);
    return STATUS_USAGE;
}

static void help_print(const struct verb_text *verb, const struct option_row *options)
{
    printf("usage: weir-stress %s %s\n\n%s\noptions:\n", verb->name, verb->usage, verb->about);
    for (const struct option_row *row = options; row->name != NULL; row++) {
        if (row->help == NULL) {
            continue;
        }
        const int column = printf("  --%s%s%s",
                                  row->name,
                                  row->value != NULL ? " " : "",
                                  row->value != NULL ? row->value : "");
        printf("%*s%s\n", column < 30 ? 30 - column : 2, "", row->help);
    }
    printf("  %-28s%s\n\nexit codes:\n%s\nexample:\n%s",
           "--help",
           "this text",
           verb->exits,
           verb->example);
}

/* Reads a number with an optional K or M at *word. Return: false if there is none. */
static bool number_take(const char **word, bool bytes, uint64_t *value_out)
{
    if (**word < '0' || **word > '9') {
        return false;
    }
    char *end = NULL;
    errno = 0;
    *value_out = strtoull(*word, &end, 0);
    if (errno != 0) {
        return false;
    }
    if (bytes && (*end == 'K' || *end == 'M')) {
        *value_out *= *end == 'K' ? 1024 : 1024 * 1024;
        end++;
    }
    *word = end;
    return true;
}

static int
number_store(const struct verb_text *verb, const struct option_row *row, const char *word)
{
    const char *at = word;
    uint64_t value = 0;

    if (!number_take(&at, false, &value) || *at != '\0') {
        return args_wrong(verb, "--%s %s: not a number", row->name, word);
    }
    if (value < row->min || (row->max != 0 && value > row->max)) {
        return args_wrong(verb,
                          "--%s %s: must be from %" PRIu64 " to %" PRIu64,
                          row->name,
                          word,
                          row->min,
                          row->max != 0 ? row->max : UINT64_MAX);
    }
    *(uint64_t *)row->target = value;
    return ARGS_RUN;
}

static int
duration_store(const struct verb_text *verb, const struct option_row *row, const char *word)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"", CLOCK_NS_PER_S},
                 {"s", CLOCK_NS_PER_S},
                 {"ms", CLOCK_NS_PER_MS},
                 {"us", CLOCK_NS_PER_US},
                 {"m", 60 * CLOCK_NS_PER_S},
                 {"h", 3600 * CLOCK_NS_PER_S}};
    const char *at = word;
    uint64_t value = 0;

    if (number_take(&at, false, &value) && value > 0) {
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
            if (strcmp(at, units[i].name) == 0 && value <= UINT64_MAX / 4 / units[i].ns) {
                *(uint64_t *)row->target = value * units[i].ns;
                return ARGS_RUN;
            }
        }
    }
    return args_wrong(verb, "--%s %s: must be like 30s, 10m, 2h", row->name, word);
}

static int range_store(const struct verb_text *verb, const struct option_row *row, const char *word)
{
    const char *at = word;
    struct args_range range = {0, 0};
    bool good = number_take(&at, true, &range.from) && strncmp(at, "..", 2) == 0;

    if (good) {
        at += 2;
        good = number_take(&at, true, &range.to) && *at == '\0' && range.from <= range.to;
    }
    if (!good || range.from < row->min || (row->max != 0 && range.to > row->max)) {
        return args_wrong(verb,
                          "--%s %s: must be A..B bytes, from %" PRIu64 " to %" PRIu64,
                          row->name,
                          word,
                          row->min,
                          row->max);
    }
    *(struct args_range *)row->target = range;
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
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)row->target = true;
        return ARGS_RUN;
    case OPTION_WORD:
        *(const char **)row->target = word;
        return ARGS_RUN;
    case OPTION_NUMBER:
        return number_store(verb, row, word);
    case OPTION_DURATION:
        return duration_store(verb, row, word);
    case OPTION_RANGE:
        return range_store(verb, row, word);
    case OPTION_CHOICE:
        return choice_store(verb, row, word);
    }
    return STATUS_USAGE;
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

static int option_take(const struct verb_text *verb,
                       const struct option_row *options,
                       int argc,
                       char **argv,
                       int *index)
{
    const char *name = argv[*index] + 2;
    const size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
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

int args_parse(const struct verb_text *verb,
               const struct option_row *options,
               int argc,
               char **argv,
               int *operands_out)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            help_print(verb, options);
            return STATUS_OK;
        }
    }
    int i = 1;
    while (i < argc) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strncmp(argv[i], "--", 2) != 0) {
            break;
        }
        const int status = option_take(verb, options, argc, argv, &i);
        if (status != ARGS_RUN) {
            return status;
        }
        i++;
    }
    *operands_out = i;
    return ARGS_RUN;
}

int args_only(const struct verb_text *verb, const struct option_row *options, int argc, char **argv)
{
    int operands = 0;
    const int status = args_parse(verb, options, argc, argv, &operands);

    if (status == ARGS_RUN && operands < argc) {
        return args_wrong(verb, "%s: takes no operands", argv[operands]);
    }
    return status;
}
