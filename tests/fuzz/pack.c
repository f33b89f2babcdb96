/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/pack.h"

#include "base/bytes.h"
#include "base/num.h"

#include <string.h>

#define EXTENTS_MAX 255u
#define EXTENT_BYTES_MAX 65535u
/* So many zeros end an extent: what a new one costs, and some. */
#define ZEROS_MIN 16u

struct reader {
    const uint8_t *data;
    size_t left;
};

/* NULL: there are not so many any more. */
static const uint8_t *take(struct reader *reader, size_t bytes)
{
    if (reader->left < bytes) {
        reader->left = 0;
        return NULL;
    }
    const uint8_t *const at = reader->data;
    reader->data += bytes;
    reader->left -= bytes;
    return at;
}

static bool file_read(struct reader *reader, struct memory_dir *memory, const char *dir)
{
    char name[MEMORY_NAME_BYTES] = "";
    const uint8_t *at = take(reader, 1);
    if (at == NULL) {
        return false;
    }
    const size_t name_bytes = *at;
    at = take(reader, name_bytes);
    if (at == NULL) {
        return false;
    }
    memcpy(name, at, weir__min_u64(name_bytes, sizeof name - 1));
    at = take(reader, 5);
    if (at == NULL || name[0] == '\0' || strchr(name, '/') != NULL) {
        return false;
    }
    const size_t bytes = (size_t)weir__min_u64(weir__get_u32(at), PACK_FILE_BYTES_MAX);
    unsigned extents = at[4];
    struct memory_file *const file = memory_dir_make(memory, dir, name);
    memory_file_resize(file, bytes);
    for (; extents > 0; extents--) {
        at = take(reader, 6);
        if (at == NULL) {
            return false;
        }
        const uint64_t offset = weir__get_u32(at);
        uint64_t some = weir__min_u64(weir__get_u16(at + 4), reader->left);
        at = take(reader, (size_t)some);
        if (at != NULL && offset < bytes) {
            some = weir__min_u64(some, bytes - offset);
            memory_file_write(file, (size_t)offset, at, (size_t)some);
        }
    }
    return true;
}

uint8_t pack_read(const uint8_t *data, size_t bytes, struct memory_dir *memory, const char *dir)
{
    struct reader reader = {data, bytes};
    const uint8_t *const flags = take(&reader, 1);
    unsigned files = 0;
    memory_dir_clear(memory, dir);
    while (files < PACK_FILES_MAX && file_read(&reader, memory, dir)) {
        files++;
    }
    return flags == NULL ? 0 : *flags;
}

/* The next stretch that is not zero, ending before ZEROS_MIN zeros. False: none. */
static bool extent_next(const struct memory_file *file, size_t *from, size_t *to)
{
    size_t at = *to;
    while (at < file->bytes && file->data[at] == 0) {
        at++;
    }
    if (at == file->bytes) {
        return false;
    }
    *from = at;
    size_t zeros = 0;
    while (at < file->bytes && zeros < ZEROS_MIN && at - *from < EXTENT_BYTES_MAX) {
        zeros = file->data[at++] == 0 ? zeros + 1 : 0;
    }
    *to = at - zeros;
    return true;
}

size_t pack_write(uint8_t *out,
                  size_t room,
                  uint8_t flags,
                  const struct memory_dir *memory,
                  const char *dir)
{
    size_t at = 0;
    if (room == 0) {
        return 0;
    }
    out[at++] = flags;
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        const struct memory_file *const file = &memory->files[i];
        if (!file->used || file->name[0] == '\0' || strcmp(memory->dirs[file->dir], dir) != 0) {
            continue;
        }
        const size_t name_bytes = strlen(file->name);
        if (room - at < name_bytes + 6) {
            return 0;
        }
        out[at++] = (uint8_t)name_bytes;
        memcpy(out + at, file->name, name_bytes);
        at += name_bytes;
        weir__put_u32(out + at, (uint32_t)file->bytes);
        uint8_t *const extents = out + at + 4;
        *extents = 0;
        at += 5;
        for (size_t from = 0, to = 0; *extents < EXTENTS_MAX && extent_next(file, &from, &to);) {
            if (room - at < 6 + (to - from)) {
                return 0;
            }
            weir__put_u32(out + at, (uint32_t)from);
            weir__put_u16(out + at + 4, (uint16_t)(to - from));
            memcpy(out + at + 6, file->data + from, to - from);
            at += 6 + (to - from);
            (*extents)++;
        }
    }
    return at;
}
