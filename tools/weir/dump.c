/* SPDX-License-Identifier: Apache-2.0
 * weir dump: a cursor over the log; a line when a segment begins, one when a batch begins, one per
 * record. Payload is shown only if it is asked for. */
#include "args.h"
#include "json.h"
#include "reader.h"
#include "text.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdio.h>
#include <weir/weir.h>

enum {
    HEX_PER_LINE = 32,
    OUTPUT_BYTES = 256 * 1024,
};

struct dump_options {
    bool payload;
    bool json;
};

/* What was printed last. */
struct dump_place {
    bool began;
    weir_lsn segment_lsn;
    weir_lsn batch_lsn;
};

static void segment_text(const struct weir_batch_info *batch)
{
    printf("segment %016" PRIx64 "-%016" PRIx64 ".weir  LSN %" PRIu64 " to %" PRIu64 "\n",
           batch->segment_lsn,
           batch->segment_end_lsn,
           batch->segment_lsn,
           batch->segment_end_lsn);
}

static void batch_text(const struct weir_batch_info *batch)
{
    printf("  batch LSN %" PRIu64 "  end %" PRIu64 "  previous end %" PRIu64 "  epoch %" PRIu64
           " from %" PRIu64 "  records %" PRIu32 "  bytes %" PRIu32 "  promise %" PRIu64
           "  chain %08" PRIx32 "  %s\n",
           batch->lsn,
           batch->end_lsn,
           batch->prev_end_lsn,
           batch->epoch,
           batch->epoch_lsn,
           batch->records,
           batch->bytes,
           batch->promise_lsn,
           batch->chain,
           text_time(batch->wall_ns).chars);
}

static void record_text(const struct weir_entry *entry, bool payload)
{
    const unsigned char *bytes = entry->data;

    printf("    record LSN %" PRIu64 "  tag %" PRIu64 " (0x%" PRIx64 ")  bytes %zu%s\n",
           entry->lsn,
           entry->tag,
           entry->tag,
           entry->bytes,
           entry->more ? "  more of the group follows" : "");
    for (size_t i = 0; payload && i < entry->bytes; i++) {
        const bool last = i + 1 == entry->bytes || i % HEX_PER_LINE == HEX_PER_LINE - 1;
        printf("%s%02x%s", i % HEX_PER_LINE == 0 ? "      " : " ", bytes[i], last ? "\n" : "");
    }
}

static void segment_json(const struct weir_batch_info *batch, struct json *json)
{
    json_begin(json, '{');
    json_member_text(json, "kind", "segment");
    json_member_u64(json, "lsn", batch->segment_lsn);
    json_member_u64(json, "end_lsn", batch->segment_end_lsn);
    json_end(json, '}');
    json_line(json);
}

static void batch_json(const struct weir_batch_info *batch, struct json *json)
{
    json_begin(json, '{');
    json_member_text(json, "kind", "batch");
    json_member_u64(json, "lsn", batch->lsn);
    json_member_u64(json, "end_lsn", batch->end_lsn);
    json_member_u64(json, "prev_end_lsn", batch->prev_end_lsn);
    json_member_u64(json, "epoch", batch->epoch);
    json_member_u64(json, "epoch_lsn", batch->epoch_lsn);
    json_member_u64(json, "records", batch->records);
    json_member_u64(json, "bytes", batch->bytes);
    json_member_u64(json, "promise_lsn", batch->promise_lsn);
    json_member_u64(json, "chain", batch->chain);
    json_member_u64(json, "wall_ns", batch->wall_ns);
    json_end(json, '}');
    json_line(json);
}

static void record_json(const struct weir_entry *entry, bool payload, struct json *json)
{
    json_begin(json, '{');
    json_member_text(json, "kind", "record");
    json_member_u64(json, "lsn", entry->lsn);
    json_member_u64(json, "tag", entry->tag);
    json_member_u64(json, "bytes", entry->bytes);
    json_member_bool(json, "more", entry->more);
    if (payload) {
        json_key(json, "payload_hex");
        json_hex(json, entry->data, entry->bytes);
    }
    json_end(json, '}');
    json_line(json);
}

static int records_dump(struct reader *reader, const struct dump_options *options)
{
    struct json json = JSON_INIT(stdout);
    struct dump_place place = {.began = false};
    struct weir_batch_info batch;
    struct weir_entry entry;
    int rc = 0;

    while (!text_broken() && (rc = reader_next(reader, WEIR_TRY, &entry)) == 0) {
        rc = weir_cursor_batch(reader->cursor, &batch);
        if (rc != 0) {
            text_failure(reader->verb, reader->dir, rc, NULL);
            return rc;
        }
        if (!place.began || batch.segment_lsn != place.segment_lsn) {
            options->json ? segment_json(&batch, &json) : segment_text(&batch);
        }
        if (!place.began || batch.lsn != place.batch_lsn) {
            options->json ? batch_json(&batch, &json) : batch_text(&batch);
        }
        place = (struct dump_place){.began = true,
                                    .segment_lsn = batch.segment_lsn,
                                    .batch_lsn = batch.lsn};
        if (options->json) {
            record_json(&entry, options->payload, &json);
        } else {
            record_text(&entry, options->payload);
        }
    }
    return rc == WEIR_EEND ? 0 : rc;
}

static const struct verb_text text = {
    .name = "dump",
    .summary = "print segments, batches and record headers",
    .operands = "DIR",
    .about =
        "One line per segment, per batch (LSN, end, epoch, records, bytes of frames, promise,\n"
        "chain, time) and per record (LSN, tag, bytes, whether the next one belongs to the same\n"
        "atomic group). The log may be in use; it is opened read-only. Which records are shown\n"
        "is as for weir cat. With --json, one object per line, kind is segment, batch or\n"
        "record. A log that is damaged: see weir explain and weir salvage.\n",
    .exits = ARGS_EXITS,
    .example = "  weir dump --count 10 --payload /tmp/log\n",
    .operands_min = 1,
    .operands_max = 1,
};

int dump_main(int argc, char **argv)
{
    struct reader reader = READER_INIT("dump");
    struct dump_options options = {.payload = false};
    const struct option_row rows[] = {
        READER_ROWS(reader),
        {.name = "payload",
         .kind = OPTION_FLAG,
         .target = &options.payload,
         .help = "the records' bytes too, in hex"},
        {.name = "level",
         .kind = OPTION_CHOICE,
         .target = &reader.level,
         .given = &reader.level_given,
         .value = "durable|written|appended",
         .choices = text_level_words,
         .help = "what records must have reached to be shown (default: as for weir cat)"},
        {.name = "json",
         .kind = OPTION_FLAG,
         .target = &options.json,
         .help = "print one JSON object per line"},
        {.name = NULL},
    };
    const int status = args_parse(&text, rows, argc, argv, &reader.dir);

    if (status != ARGS_RUN) {
        return status;
    }
    setvbuf(stdout, NULL, _IOFBF, OUTPUT_BYTES);
    int rc = reader_open(&reader);
    if (rc == 0) {
        rc = records_dump(&reader, &options);
        reader_close(&reader);
    }
    return text_finish("dump", rc == 0 ? STATUS_OK : STATUS_FAILED, true);
}
