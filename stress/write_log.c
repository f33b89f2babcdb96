/* SPDX-License-Identifier: Apache-2.0
 * Parsing and replaying.
 *
 * The log is mapped. Entries whose data lie beyond its end were not finished and end it. */
#include "write_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITE_LOG_MAGIC UINT64_C(0x6a736677736872)
#define WRITE_LOG_VERSION UINT64_C(1)

enum { PAGE = 4096 };

static uint64_t word_at(const uint8_t *at)
{
    uint64_t value = 0;

    for (int i = 7; i >= 0; i--) {
        value = value << 8 | at[i];
    }
    return value;
}

static int entry_add(struct write_log *log, size_t *room, struct write_entry entry)
{
    if (log->count == *room) {
        *room = *room == 0 ? 1024 : *room * 2;
        struct write_entry *more = realloc(log->entries, *room * sizeof(*more));
        if (more == NULL) {
            return -ENOMEM;
        }
        log->entries = more;
    }
    log->entries[log->count++] = entry;
    log->flushes += (entry.flags & WRITE_LOG_FLUSH) != 0;
    return 0;
}

static int entries_read(struct write_log *log)
{
    const uint64_t sector = word_at(log->map + 24) & UINT32_MAX;
    const uint64_t count = word_at(log->map + 16);
    uint64_t at = sector;
    size_t room = 0;
    int rc = 0;

    if (word_at(log->map) != WRITE_LOG_MAGIC || word_at(log->map + 8) != WRITE_LOG_VERSION ||
        sector < 512) {
        return -EBADMSG;
    }
    for (uint64_t i = 0; rc == 0 && i < count && at + sector <= log->map_bytes; i++) {
        const uint8_t *head = log->map + at;
        struct write_entry entry = {.offset = word_at(head) * sector,
                                    .bytes = word_at(head + 8) * sector,
                                    .flags = word_at(head + 16)};
        at += sector;
        if ((entry.flags & WRITE_LOG_DISCARD) == 0 && entry.bytes > 0) {
            if (entry.bytes > log->map_bytes - at) {
                break;
            }
            entry.data = log->map + at;
            at += entry.bytes;
        }
        rc = entry_add(log, &room, entry);
    }
    return rc;
}

int write_log_open(struct write_log *log, const char *path)
{
    struct stat stat;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    *log = (struct write_log){.map = NULL};
    if (fd < 0) {
        return -errno;
    }
    int rc = fstat(fd, &stat) != 0 ? -errno : stat.st_size < 512 ? -EBADMSG : 0;
    if (rc == 0) {
        void *map = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        rc = map == MAP_FAILED ? -errno : 0;
        log->map = rc == 0 ? map : NULL;
        log->map_bytes = (size_t)stat.st_size;
    }
    close(fd);
    if (rc == 0) {
        rc = entries_read(log);
    }
    if (rc != 0) {
        write_log_close(log);
    }
    return rc;
}

void write_log_close(struct write_log *log)
{
    if (log->map != NULL) {
        munmap(log->map, log->map_bytes);
    }
    free(log->entries);
    *log = (struct write_log){.map = NULL};
}

/* ---- images ---------------------------------------------------------------------------------- */

static int image_room(struct image *image, size_t size)
{
    *image = (struct image){.size = size};
    void *bytes = mmap(NULL,
                       size,
                       PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1,
                       0);
    image->bytes = bytes == MAP_FAILED ? NULL : bytes;
    image->touched = calloc(size / PAGE + 1, 1);
    if (image->bytes == NULL || image->touched == NULL) {
        image_close(image);
        return -ENOMEM;
    }
    return 0;
}

static void image_touch(struct image *image, uint64_t offset, uint64_t bytes)
{
    if (bytes > 0) {
        const uint64_t first = offset / PAGE;
        memset(image->touched + first, 1, (offset + bytes - 1) / PAGE - first + 1);
    }
}

int image_open(struct image *image, const char *path)
{
    struct stat stat;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    int rc = fstat(fd, &stat) != 0 ? -errno : image_room(image, (size_t)stat.st_size);
    off_t at = 0;
    while (rc == 0 && at < stat.st_size) {
        const off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0) {
            rc = errno == ENXIO ? 0 : -errno;
            break;
        }
        const off_t hole = lseek(fd, data, SEEK_HOLE);
        image_touch(image, (uint64_t)data, (uint64_t)(hole - data));
        for (at = data; rc == 0 && at < hole;) {
            const ssize_t got = pread(fd, image->bytes + at, (size_t)(hole - at), at);
            rc = got < 0 ? -errno : got == 0 ? -EIO : 0;
            at += got > 0 ? got : 0;
        }
    }
    close(fd);
    if (rc != 0) {
        image_close(image);
    }
    return rc;
}

void image_close(struct image *image)
{
    if (image->bytes != NULL) {
        munmap(image->bytes, image->size);
    }
    free(image->touched);
    *image = (struct image){.size = 0};
}

void image_apply(struct image *image, const struct write_entry *entry, struct dice *dice)
{
    if (entry->data == NULL || entry->offset > image->size ||
        entry->bytes > image->size - entry->offset) {
        return; /* a flush; a discard, after which a device may well return what was there */
    }
    const uint64_t manner = dice == NULL || (entry->flags & WRITE_LOG_FUA) != 0
                                ? 0
                                : dice_below(dice, 3); /* all, nothing, some */
    if (manner == 1) {
        return;
    }
    for (uint64_t done = 0; done < entry->bytes;) {
        const uint64_t at = entry->offset + done;
        const uint64_t left = entry->bytes - done;
        const uint64_t page_left = PAGE - at % PAGE;
        const uint64_t some = left < page_left ? left : page_left;
        if (manner == 0 || dice_below(dice, 2) == 0) {
            memcpy(image->bytes + at, entry->data + done, some);
            image_touch(image, at, some);
        }
        done += some;
    }
}

int image_put(const struct image *image, int fd)
{
    const size_t pages = image->size / PAGE;

    if (ftruncate(fd, 0) != 0 || ftruncate(fd, (off_t)image->size) != 0) {
        return -errno;
    }
    for (size_t page = 0; page < pages;) {
        size_t end = page;
        while (end < pages && image->touched[end] != 0) {
            end++;
        }
        for (size_t at = page * PAGE; at < end * PAGE;) {
            const ssize_t put = pwrite(fd, image->bytes + at, end * PAGE - at, (off_t)at);
            if (put <= 0) {
                return put < 0 ? -errno : -EIO;
            }
            at += (size_t)put;
        }
        page = end + 1;
    }
    return 0;
}

int image_copy(struct image *image, const struct image *from)
{
    const int rc = image_room(image, from->size);

    for (size_t page = 0; rc == 0 && page < from->size / PAGE; page++) {
        if (from->touched[page] != 0) {
            memcpy(image->bytes + page * PAGE, from->bytes + page * PAGE, PAGE);
            image->touched[page] = 1;
        }
    }
    return rc;
}
