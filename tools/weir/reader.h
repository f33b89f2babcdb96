/* SPDX-License-Identifier: Apache-2.0
 * Reading a log from its directory, for cat and dump: a read-only handle, a cursor, and where to
 * begin and to end. */
#ifndef WEIR_TOOL_READER_H
#define WEIR_TOOL_READER_H

#include "progress.h"

#include <stdbool.h>
#include <stdint.h>
#include <weir/weir.h>

struct reader {
    const char *verb;
    const char *dir;
    weir_lsn from;  /* WEIR_LSN_OLDEST: the oldest record */
    weir_lsn to;    /* not included */
    uint64_t count; /* at most so many */
    int level;      /* enum weir_level, where level_given */
    bool level_given;
    bool follow;

    /* Of the scan: the log may scan again later, and then draws nothing. */
    struct progress progress;
    struct weir_log *log;
    struct weir_cursor *cursor;
    uint64_t given;
};
#define READER_INIT(verb_name)                                                                     \
    {                                                                                              \
        .verb = (verb_name), .to = UINT64_MAX, .count = UINT64_MAX                                 \
    }

/* Rows for a verb's option table. */
#define READER_ROWS(reader)                                                                        \
    {.name = "from",                                                                               \
     .kind = OPTION_LSN,                                                                           \
     .target = &(reader).from,                                                                     \
     .value = "LSN",                                                                               \
     .help = "begin with the first record at or after this LSN (default: the oldest)"},            \
        {.name = "to",                                                                             \
         .kind = OPTION_LSN,                                                                       \
         .target = &(reader).to,                                                                   \
         .value = "LSN",                                                                           \
         .help = "end before the first record at or after this LSN (default: the end)"},           \
    {                                                                                              \
        .name = "count", .kind = OPTION_NUMBER, .target = &(reader).count, .value = "N",           \
        .help = "end after N records (default: all)"                                               \
    }

/* Each complains on stderr itself. Return: 0 or the library's code. */
int reader_open(struct reader *reader);
/* The next record, waiting up to timeout_ns for it. Return: 0 | WEIR_EEND there is none (now) |
 * another code */
int reader_next(struct reader *reader, int64_t timeout_ns, struct weir_entry *entry_out);
/* Nothing will come behind --to and --count. */
bool reader_done(const struct reader *reader);
void reader_close(struct reader *reader);

#endif
