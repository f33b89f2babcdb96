/* SPDX-License-Identifier: Apache-2.0
 * The record of a block device's writes, in the format of dm-log-writes as blklogwrites keeps it,
 * and the images that it leads to. One thread.
 *
 *   the file   a super block of one sector: u64 magic, u64 version, u64 entries, u32 sector bytes;
 *              then entries: u64 sector, u64 sectors, u64 flags, u64 0, padded to one sector, and
 *              their data, unless the flag says discard. All little-endian */
#ifndef WEIR_STRESS_WRITE_LOG_H
#define WEIR_STRESS_WRITE_LOG_H

#include "dice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WRITE_LOG_FLUSH = 1,
    WRITE_LOG_FUA = 2,
    WRITE_LOG_DISCARD = 4,
};

struct write_entry {
    uint64_t offset; /* in the device */
    uint64_t bytes;
    uint64_t flags;
    const uint8_t *data; /* NULL: none */
};

struct write_log {
    uint8_t *map;
    size_t map_bytes;
    struct write_entry *entries;
    size_t count;
    size_t flushes;
};

/* Return: 0 or a negative errno; -EBADMSG: not such a file. */
int write_log_open(struct write_log *log, const char *path);
void write_log_close(struct write_log *log);

/* What the device holds. Only pages that were ever written are kept in mind, so that an image of
 * which little is used is quickly put into a file. */
struct image {
    uint8_t *bytes;
    size_t size;
    uint8_t *touched; /* one per page */
};

/* Reads a file, which may have holes. Return: 0 or a negative errno. */
int image_open(struct image *image, const char *path);
void image_close(struct image *image);
/* Does what an entry says; with dice only a part of it: all, nothing, or some of its pages. */
void image_apply(struct image *image, const struct write_entry *entry, struct dice *dice);
/* Makes the file hold the image and nothing else. Return: 0 or a negative errno. */
int image_put(const struct image *image, int fd);
/* The same image again. Return: 0 or a negative errno. */
int image_copy(struct image *image, const struct image *from);

#endif
