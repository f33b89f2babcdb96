/* SPDX-License-Identifier: Apache-2.0
 * A directory of several files: pack.h says how it is made of the bytes, look.c what has to hold. */
#include "fuzz/look.h"
#include "fuzz/pack.h"
#include "fuzz/target.h"

#include <stdlib.h>

static struct memory_dir *memory_make(void)
{
    struct memory_dir *const memory = malloc(sizeof *memory);
    if (memory == NULL) {
        abort();
    }
    memory_dir_init(memory);
    return memory;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct memory_dir *memory; /* its room is kept from one to the next */
    if (memory == NULL) {
        memory = memory_make();
    }
    const uint8_t flags = pack_read(data, bytes, memory, "log");
    look_at(memory, flags & (LOOK_APPEND | LOOK_QUEUE | LOOK_SALVAGE));
    memory_dir_clear(memory, NULL);
    return 0;
}

#ifdef WEIR_FUZZ

#include "base/bytes.h"
#include "format/control.h"
#include "format/segment_header.h"
#include "fuzz/repair.h"
#include "segment/dir.h"
#include "support/threads.h"

#include <string.h>

static struct memory_file *file_some(struct memory_dir *memory, struct random *random)
{
    for (unsigned tries = 0; tries < 64; tries++) {
        struct memory_file *const file = &memory->files[random_below(random, PACK_FILES_MAX)];
        if (file->used && file->name[0] != '\0' && file->bytes > 0) {
            return file;
        }
    }
    return NULL;
}

/* Values that mean something somewhere. */
static uint64_t value_some(struct memory_dir *memory, struct random *random, uint64_t old)
{
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      7,
                                      8,
                                      24,
                                      96,
                                      511,
                                      512,
                                      513,
                                      4096,
                                      65536,
                                      UINT32_MAX,
                                      UINT64_C(1) << 32,
                                      (UINT64_C(1) << 63) - 512,
                                      UINT64_C(1) << 63,
                                      UINT64_MAX - 511,
                                      UINT64_MAX};
    switch (random_below(random, 6)) {
    case 0:
        return values[random_below(random, sizeof values / sizeof values[0])];
    case 1:
        return old + 512 * (1 + random_below(random, 8));
    case 2:
        return old - 512 * (1 + random_below(random, 8));
    case 3:
        return old + 1;
    case 4:
        return old ^ UINT64_C(1) << random_below(random, 64);
    default: {
        /* Another field's. */
        const struct memory_file *const file = file_some(memory, random);
        if (file == NULL || file->bytes < 264) {
            return random_next(random);
        }
        return weir__get_u64(file->data + 8 * random_below(random, 32));
    }
    }
}

/* A field of a header: of a copy of the control file, of a segment, of a batch, of a frame. */
static void field_change(struct memory_dir *memory, struct random *random)
{
    struct memory_file *const file = file_some(memory, random);
    if (file == NULL || file->bytes < 1024) {
        return;
    }
    size_t at;
    if (strcmp(file->name, WEIR__CONTROL_NAME) == 0) {
        at = random_below(random, 2) * WEIR__CONTROL_COPY_OFFSET + 8 + 4 * random_below(random, 38);
    } else {
        /* The first block, or one that begins like a batch. */
        size_t block = 0;
        for (unsigned tries = 0; tries < 16 && random_below(random, 8) != 0; tries++) {
            block = 512 * random_below(random, file->bytes / 512);
            if (weir__get_u32(file->data + block) == WEIR__BATCH_MAGIC) {
                break;
            }
        }
        at = block + 8 + 4 * random_below(random, 28);
    }
    if (at + 8 > file->bytes) {
        return;
    }
    if (random_below(random, 2) == 0) {
        weir__put_u64(file->data + at, value_some(memory, random, weir__get_u64(file->data + at)));
    } else {
        weir__put_u32(file->data + at,
                      (uint32_t)value_some(memory, random, weir__get_u32(file->data + at)));
    }
}

static void name_some(struct random *random, const struct memory_file *file, char *name)
{
    static const char *const names[] = {WEIR__CONTROL_NAME,
                                        WEIR__LOCK_NAME,
                                        WEIR__LIVE_NAME,
                                        WEIR__PREPARE_NAME,
                                        "foreign"};
    weir_lsn base = 0;
    weir_lsn end = 0;
    if (random_below(random, 4) == 0 || !weir__segment_name_parse(file->name, &base, &end)) {
        strcpy(name, names[random_below(random, sizeof names / sizeof names[0])]);
        return;
    }
    const uint64_t by = 512 * (1 + random_below(random, 32));
    switch (random_below(random, 4)) {
    case 0:
        base += by;
        end += by;
        break;
    case 1:
        end += by;
        break;
    case 2:
        base -= by;
        break;
    default:
        base = end;
        end += file->bytes;
        break;
    }
    weir__segment_name(base, end, name);
}

/* A file is copied, renamed, cut, lengthened, taken away, or a stretch is put elsewhere. */
static void file_change(struct memory_dir *memory, struct random *random)
{
    struct memory_file *const file = file_some(memory, random);
    if (file == NULL) {
        return;
    }
    char name[MEMORY_NAME_BYTES] = "";
    switch (random_below(random, 5)) {
    case 0: {
        name_some(random, file, name);
        struct memory_file *const copy = memory_dir_make(memory, "log", name);
        if (copy != file) {
            memory_file_write(copy, 0, file->data, file->bytes);
        }
        break;
    }
    case 1:
        name_some(random, file, name);
        if (memory_dir_find(memory, "log", name) == NULL) {
            strcpy(file->name, name);
        }
        break;
    case 2:
        memory_file_resize(file, 512 * random_below(random, file->bytes / 512 + 3));
        break;
    case 3:
        memory_file_resize(file, random_below(random, file->bytes + 600));
        break;
    default: {
        const struct memory_file *const from = file_some(memory, random);
        if (from != NULL && from->bytes >= 512 && file->bytes >= 512) {
            const size_t bytes = 512;
            const size_t source = 512 * random_below(random, from->bytes / 512);
            const size_t target = 512 * random_below(random, file->bytes / 512);
            memmove(file->data + target, from->data + source, bytes);
        }
        break;
    }
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t room, unsigned seed)
{
    static struct memory_dir *memory;
    if (memory == NULL) {
        memory = memory_make();
    }
    struct random random = {seed};
    if (random_below(&random, 3) == 0) {
        bytes = LLVMFuzzerMutate(data, bytes, room);
        if (random_below(&random, 4) == 0) {
            return bytes;
        }
    }
    uint8_t flags = pack_read(data, bytes, memory, "log");
    for (uint64_t changes = random_below(&random, 4); changes > 0; changes--) {
        if (random_below(&random, 4) == 0) {
            file_change(memory, &random);
        } else {
            field_change(memory, &random);
        }
    }
    if (random_below(&random, 16) == 0) {
        flags ^= (uint8_t)(1u << random_below(&random, 3));
    }
    if (random_below(&random, 8) != 0) {
        repair_dir(memory, "log", random_below(&random, 3) == 0);
    }
    const size_t packed = pack_write(data, room, flags, memory, "log");
    memory_dir_clear(memory, NULL);
    return packed == 0 ? LLVMFuzzerMutate(data, bytes, room) : packed;
}

#endif
