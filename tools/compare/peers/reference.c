/* SPDX-License-Identifier: Apache-2.0
 * The way of a log with no group commit at all: a mutex around everything; each record is one
 * pwrite of length, checksum and payload to the end of the file, an fdatasync by the flush, and
 * another by the sync behind it. */
#include "crc32c.h"
#include "peer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_BYTES = 8 };

struct plain_log {
    pthread_mutex_t mutex;
    int file;
    int syncs; /* per record */
    off_t at;
    unsigned char *frame;
};

static void *plain_open(const struct peer_run *run)
{
    struct plain_log *log = calloc(1, sizeof(*log));

    if (log == NULL || (log->frame = malloc(HEADER_BYTES + run->size)) == NULL) {
        peer_die("log", ENOMEM);
    }
    pthread_mutex_init(&log->mutex, NULL);
    log->syncs = strcmp(run->variant, "one-sync") == 0 ? 1 : 2;
    log->file = peer_prewritten(run->dir, "log", 0, 0);
    return log;
}

static void plain_append(void *ctx, const void *data, size_t bytes)
{
    struct plain_log *log = ctx;
    const uint32_t header[2] = {(uint32_t)bytes, crc32c(data, bytes)};
    const size_t all = HEADER_BYTES + bytes;

    pthread_mutex_lock(&log->mutex);
    memcpy(log->frame, header, HEADER_BYTES);
    memcpy(log->frame + HEADER_BYTES, data, bytes);
    if (pwrite(log->file, log->frame, all, log->at) != (ssize_t)all) {
        peer_die("pwrite", errno);
    }
    for (int i = 0; i < log->syncs; i++) {
        if (fdatasync(log->file) != 0) {
            peer_die("fdatasync", errno);
        }
    }
    log->at += (off_t)all;
    pthread_mutex_unlock(&log->mutex);
}

static void plain_close(void *ctx)
{
    struct plain_log *log = ctx;

    close(log->file);
    free(log->frame);
    free(log);
}

static const char *plain_version(void)
{
    return "1";
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"two-syncs", "one-sync", NULL};
    static const struct peer peer = {
        .name = "reference",
        .variants = variants,
        .about = "  two-syncs  write, fdatasync, fdatasync per record, under one mutex\n"
                 "  one-sync   write, fdatasync per record, under one mutex\n",
        .version = plain_version,
        .open = plain_open,
        .append = plain_append,
        .close = plain_close,
    };

    return peer_main(&peer, argc, argv);
}
