/* SPDX-License-Identifier: Apache-2.0
 * weir cat: a cursor from beginning to end, each record written as it was ingested, or as a JSON
 * object. With --follow it tries for the next record, and when there is none, flushes what it has
 * printed before it waits; so whoever reads the output has each record as soon as it is durable. */
#include "args.h"
#include "clock.h"
#include "framing.h"
#include "json.h"
#include "reader.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"

#include <stdio.h>
#include <weir/weir.h>

enum {
    FORMAT_RAW = 0,
    FORMAT_JSON = 1,
    OUTPUT_BYTES = 256 * 1024,
};
/* How long a wait at the tail lasts before a signal is looked for. */
#define FOLLOW_SLICE_NS ((int64_t)(200 * CLOCK_NS_PER_MS))

static const char *const format_words[] = {"raw", "json", NULL};

struct cat_options {
    int format;
    bool zero;
    bool length_prefixed;
};

static void entry_json(const struct weir_entry *entry, struct json *json)
{
    json_begin(json, '{');
    json_member_u64(json, "lsn", entry->lsn);
    json_member_u64(json, "epoch", entry->epoch);
    json_member_u64(json, "tag", entry->tag);
    json_member_u64(json, "bytes", entry->bytes);
    json_member_bool(json, "more", entry->more);
    if (json_is_utf8(entry->data, entry->bytes)) {
        json_key(json, "data");
        json_text(json, entry->data, entry->bytes);
    } else {
        json_key(json, "data_base64");
        json_base64(json, entry->data, entry->bytes);
    }
    json_end(json, '}');
    json_line(json);
}

/* Return: 0 at the end, also one that was asked for, or when nobody reads the output any more; else
 * a code. */
static int records_print(struct reader *reader, const struct cat_options *options)
{
    const enum framing framing = options->length_prefixed ? FRAMING_LENGTH
                                 : options->zero          ? FRAMING_ZERO
                                                          : FRAMING_LINES;
    struct json json = JSON_INIT(stdout);
    struct weir_entry entry;

    while (!stop_asked()) {
        int rc = reader_next(reader, WEIR_TRY, &entry);
        if (rc == WEIR_EEND && reader->follow && !reader_done(reader)) {
            (void)fflush(stdout);
            if (text_broken()) {
                return 0;
            }
            rc = reader_next(reader, FOLLOW_SLICE_NS, &entry);
            if (rc == WEIR_EEND) {
                continue;
            }
        }
        if (rc != 0) {
            return rc == WEIR_EEND ? 0 : rc;
        }
        if (options->format == FORMAT_JSON) {
            entry_json(&entry, &json);
        } else {
            framing_write(framing, entry.data, entry.bytes, stdout);
        }
        if (text_broken()) {
            return 0;
        }
    }
    return 0;
}

static const struct verb_text text = {
    .name = "cat",
    .summary = "print the records of a log in LSN order",
    .operands = "DIR",
    .about =
        "The log may be in use. It is opened read-only: nothing is written to DIR.\n"
        "\n"
        "Without --level: beside a live writer, and with --follow, only records that are\n"
        "durable; of a log that nobody has open for appending, every record that verifies,\n"
        "which is what the next opening will keep: so the tail of a killed writer is shown too.\n"
        "\n"
        "--format json prints an object per line: lsn, epoch, tag, bytes, more (the next record\n"
        "belongs to the same atomic group) and data, or data_base64 where the record is not\n"
        "UTF-8. Numbers are 64 bits wide: readers that keep numbers as doubles lose the lower\n"
        "bits of large ones.\n"
        "\n"
        "--follow stays at the tail and prints each record as soon as it is durable, until\n"
        "SIGINT or SIGTERM (exit code 0). A reader that closes the output early (head) ends the\n"
        "command quietly.\n",
    .exits = ARGS_EXITS,
    .example = "  weir cat --format json --count 3 /tmp/log\n"
               "  weir cat --follow /tmp/log | grep error\n",
    .operands_min = 1,
    .operands_max = 1,
};

int cat_main(int argc, char **argv)
{
    struct reader reader = READER_INIT("cat");
    struct cat_options options = {.format = FORMAT_RAW};
    const struct option_row rows[] = {
        READER_ROWS(reader),
        {.name = "follow",
         .kind = OPTION_FLAG,
         .target = &reader.follow,
         .help = "wait for more at the end"},
        {.name = "format",
         .kind = OPTION_CHOICE,
         .target = &options.format,
         .value = "raw|json",
         .choices = format_words,
         .help = "raw: the record's bytes and a newline (default raw)"},
        {.name = "zero",
         .kind = OPTION_FLAG,
         .target = &options.zero,
         .help = "raw: a NUL byte behind each record instead of a newline"},
        {.name = "length-prefixed",
         .kind = OPTION_FLAG,
         .target = &options.length_prefixed,
         .help =
             "raw: a 32-bit little-endian count of bytes before each record, nothing behind it"},
        {.name = "level",
         .kind = OPTION_CHOICE,
         .target = &reader.level,
         .given = &reader.level_given,
         .value = "durable|written|appended",
         .choices = text_level_words,
         .help = "what records must have reached to be shown (default: see above)"},
        {.name = NULL},
    };
    const int status = args_parse(&text, rows, argc, argv, &reader.dir);

    if (status != ARGS_RUN) {
        return status;
    }
    if (options.zero && options.length_prefixed) {
        return args_wrong(&text, "--zero and --length-prefixed exclude each other");
    }
    if (options.format == FORMAT_JSON && (options.zero || options.length_prefixed)) {
        return args_wrong(&text, "--zero and --length-prefixed need --format raw");
    }
    setvbuf(stdout, NULL, _IOFBF, OUTPUT_BYTES);
    if (reader.follow) {
        const int stop_fd = stop_install();
        if (stop_fd < 0) {
            fprintf(stderr, "weir cat: signals: %s\n", weir_strerror(stop_fd));
            return STATUS_FAILED;
        }
    }
    int rc = reader_open(&reader);
    if (rc == 0) {
        rc = records_print(&reader, &options);
        reader_close(&reader);
    }
    return text_finish("cat", rc == 0 ? STATUS_OK : STATUS_FAILED, true);
}
