/* SPDX-License-Identifier: Apache-2.0
 * Makes the first inputs of the fuzz targets: logs that were really written, in each of the states
 * that a log can be in.
 *
 *     fuzz-make-corpus DIR      writes DIR/segment/, DIR/dir/ and DIR/sim/, which must be there */
#include "api/log.h"
#include "fuzz/look.h"
#include "fuzz/pack.h"
#include "recover/rewrite.h"
#include "support/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512u

static struct memory_dir memory; /* the log that is at work */
static struct memory_dir state;  /* what is written out */
static const char *out_dir;

static void must(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz-make-corpus: %s\n", what);
        abort();
    }
}

static void write_out(const char *kind, const char *name, const uint8_t *data, size_t bytes)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s/%s", out_dir, kind, name);
    FILE *const file = fopen(path, "wb");
    must(file != NULL && fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0, path);
}

/* The state as a directory, and its first segment that holds a batch. */
static void state_write(const char *name, uint8_t flags)
{
    static uint8_t packed[1u << 20];
    const size_t bytes = pack_write(packed, sizeof packed, flags, &state, "log");
    must(bytes > 0, "does not fit");
    write_out("dir", name, packed, bytes);
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        const struct memory_file *const file = &state.files[i];
        weir_lsn base;
        weir_lsn end;
        if (file->used && weir__segment_name_parse(file->name, &base, &end) &&
            memcmp(file->data + BLOCK, "WBAT", 4) == 0) {
            size_t used = file->bytes;
            while (used > BLOCK && file->data[used - 1] == 0) {
                used--;
            }
            packed[0] = flags;
            memcpy(packed + 1, file->data, used);
            write_out("segment", name, packed, used + 1);
            return;
        }
    }
}

static struct weir_log *log_open(void)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_log *log = NULL;
    struct weir_error error;
    options.block_bytes = BLOCK;
    options.segment_bytes = 16 * BLOCK;
    options.slot_bytes = 4096;
    options.slots = 2;
    options.record_bytes_max = 4096;
    options.no_huge_pages = true;
    options.io = WEIR_IO_POSIX;
    const int code = weir__open_with(&memory.io, "log", &options, &log, &error);
    must(code == 0, code == 0 ? "" : error.text);
    return log;
}

static weir_lsn append(struct weir_log *log, uint64_t tag, size_t bytes)
{
    uint8_t payload[4096];
    weir_lsn lsn = 0;
    struct random random = {tag};
    for (size_t i = 0; i < bytes; i++) {
        payload[i] = (uint8_t)random_next(&random);
    }
    must(weir_append_wait(log, payload, bytes, tag, WEIR_DURABLE, &lsn) == 0, "append");
    return lsn;
}

static void append_group(struct weir_log *log)
{
    const struct weir_piece piece = {"grouped", 7};
    const struct weir_record records[3] = {{&piece, 1, 7}, {NULL, 0, 8}, {&piece, 1, 9}};
    must(weir_append_group(log, records, 3, WEIR_FOREVER, NULL) == 0, "group");
    must(weir_sync(log, WEIR_FOREVER) == 0, "sync");
}

static void state_take(void)
{
    memory_dir_copy(&state, "log", &memory, "log");
}

int main(int argc, char **argv)
{
    must(argc == 2, "usage: fuzz-make-corpus DIR");
    out_dir = argv[1];
    memory_dir_init(&memory);
    memory_dir_init(&state);

    struct weir_log *log = log_open();
    state_take();
    state_write("empty", LOOK_APPEND);
    (void)append(log, 1, 100);
    append_group(log);
    (void)append(log, 2, 0);
    state_take();
    state_write("crashed", LOOK_APPEND | LOOK_SALVAGE);
    must(weir_close(log, NULL) == 0, "close");
    state_take();
    state_write("closed", LOOK_APPEND);

    log = log_open();
    weir_lsn last = 0;
    for (uint64_t tag = 10; tag < 24; tag++) {
        last = append(log, tag, 50 * (size_t)tag);
    }
    state_take();
    state_write("rotated", LOOK_APPEND | LOOK_QUEUE);
    must(weir_trim(log, last) == 0, "trim");
    for (uint64_t tag = 30; tag < 50; tag++) {
        (void)append(log, tag, 400);
    }
    state_take();
    state_write("recycled", LOOK_APPEND | LOOK_SALVAGE);
    must(weir_close(log, NULL) == 0, "close");

    /* Crashed and recovered: the next life goes on from what the one before left. */
    for (uint64_t life = 0; life < 3; life++) {
        log = log_open();
        (void)append(log, 60 + life, 300);
        state_take();
        must(weir_close(log, NULL) == 0, "close");
        memory_dir_copy(&memory, "log", &state, "log");
    }
    state_write("epochs", LOOK_APPEND | LOOK_QUEUE | LOOK_SALVAGE);

    /* The last batch torn, in a life and behind the next one. */
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        struct memory_file *const file = &state.files[i];
        weir_lsn base;
        weir_lsn end;
        if (!file->used || !weir__segment_name_parse(file->name, &base, &end)) {
            continue;
        }
        for (size_t at = file->bytes - BLOCK; at > BLOCK; at -= BLOCK) {
            if (memcmp(file->data + at, "WBAT", 4) == 0) {
                memset(file->data + at + 200, 0, 100);
                break;
            }
        }
    }
    state_write("torn", LOOK_APPEND | LOOK_SALVAGE);

    /* Sequences of choices. */
    struct random random = {1};
    for (unsigned i = 0; i < 16; i++) {
        uint8_t bytes[1024];
        const size_t count = 16u << i % 6;
        bytes[0] = (uint8_t)i;
        for (size_t at = 1; at < count; at++) {
            bytes[at] = (uint8_t)random_next(&random);
        }
        char name[32];
        (void)snprintf(name, sizeof name, "choices-%02u", i);
        write_out("sim", name, bytes, count);
    }
    memory_dir_exit(&memory);
    memory_dir_exit(&state);
    return 0;
}
