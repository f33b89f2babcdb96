/* SPDX-License-Identifier: Apache-2.0
 * The process that reads a log beside its writer and reports every record that it was shown as
 * durable. The parent then expects these to be there after the kill or the power cut, like those
 * that the writer acknowledged.
 *
 * The descriptors and their meaning are those of wire.h. Ends at the first error: a reader
 * beside a dying writer or on a dead file system meets some. */
#include "args.h"
#include "dice.h"
#include "verbs.h"
#include "wire.h"

#include <errno.h>
#include <unistd.h>
#include <weir/weir.h>

#define FOLLOW_SLICE_NS INT64_C(100000000)

static bool shown_report(const struct weir_entry *entry)
{
    const struct wire_ack ack = {.lsn = entry->lsn,
                                 .tag = entry->tag,
                                 .check = dice_mix(entry->lsn ^ dice_mix(entry->tag))};
    ssize_t written;

    do {
        written = write(WIRE_FD_ACKS, &ack, sizeof(ack));
    } while (written < 0 && errno == EINTR);
    return written == (ssize_t)sizeof(ack);
}

static void follow(const char *dir, weir_lsn from)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_log *log = NULL;
    struct weir_cursor *cursor = NULL;
    struct weir_entry entry;

    options.read_only = true;
    options.must_exist = true;
    if (weir_open(dir, &options, &log, NULL) != 0) {
        return;
    }
    int rc = weir_cursor_open(log, from, WEIR_DURABLE, 0, &cursor);
    while (rc == 0 || rc == WEIR_EEND) {
        rc = weir_cursor_next(cursor, FOLLOW_SLICE_NS, &entry);
        if (rc == 0 && !shown_report(&entry)) {
            break;
        }
    }
    weir_cursor_close(cursor);
    weir_close(log, NULL);
}

int follow_child_main(int argc, char **argv)
{
    static const struct verb_text text = {.name = "follow-child",
                                          .usage = "",
                                          .about = "",
                                          .exits = "",
                                          .example = ""};
    const char *dir = NULL;
    uint64_t from = 0;
    const struct option_row rows[] = {
        {.name = "dir", .kind = OPTION_WORD, .target = &dir},
        {.name = "from", .kind = OPTION_NUMBER, .target = &from},
        {.name = NULL},
    };
    int operands = 0;
    const int status = args_parse(&text, rows, argc, argv, &operands);

    if (status != ARGS_RUN) {
        return status;
    }
    if (dir == NULL) {
        return args_wrong(&text, "is started by kill and powercut");
    }
    follow(dir, from);
    return STATUS_OK;
}
