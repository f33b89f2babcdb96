/* SPDX-License-Identifier: Apache-2.0
 * The textbook: leader/follower group commit (harness/leader.h) over one file that was written
 * whole before, so that no commit changes more than data blocks. A batch is one pwritev of u32
 * length, u32 CRC-32C and payload per record, checksummed by their producers, and one fdatasync.
 * At its end the file begins anew. */
#include "crc32c.h"
#include "leader.h"
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    FILE_BYTES_LEAST = 32 << 20,
    FILE_BYTES_MOST = 256 << 20,
    HEADER_BYTES = 8,
};

struct group_log {
    struct leader leader;
    int file;
    bool dsync;
    off_t at;
    off_t wraps_at; /* 0: the file grows */
};

struct group_producer {
    struct group_log *log;
    struct leader_writer writer;
    unsigned char *frame;
};

static void batch_commit(void *ctx, const struct leader_record *records, size_t count)
{
    struct group_log *log = ctx;
    struct iovec pieces[LEADER_GROUP_MAX];
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        /* What an iovec points at cannot be const. */
        memcpy(&pieces[i].iov_base, &records[i].data, sizeof(void *));
        pieces[i].iov_len = records[i].bytes;
        bytes += records[i].bytes;
    }
    if (log->wraps_at != 0 && log->at + (off_t)bytes > log->wraps_at) {
        log->at = 0;
    }
    const ssize_t written =
        pwritev2(log->file, pieces, (int)count, log->at, log->dsync ? RWF_DSYNC : 0);
    if (written != (ssize_t)bytes) {
        peer_die("pwritev2", errno);
    }
    if (!log->dsync && fdatasync(log->file) != 0) {
        peer_die("fdatasync", errno);
    }
    log->at += (off_t)bytes;
}

static void *group_open(const struct peer_run *run)
{
    struct group_log *log = calloc(1, sizeof(*log));

    if (log == NULL) {
        peer_die("log", ENOMEM);
    }
    log->dsync = strcmp(run->variant, "dsync") == 0;
    if (strcmp(run->variant, "extending") != 0) {
        log->wraps_at = run->bytes_likely < FILE_BYTES_LEAST  ? FILE_BYTES_LEAST
                        : run->bytes_likely > FILE_BYTES_MOST ? FILE_BYTES_MOST
                                                              : (off_t)run->bytes_likely;
    }
    log->file = peer_prewritten(run->dir, "log", 0, (uint64_t)log->wraps_at);
    leader_init(&log->leader, batch_commit, log);
    return log;
}

static void *group_thread_open(void *ctx, size_t index)
{
    struct group_producer *producer = calloc(1, sizeof(*producer));

    (void)index;
    if (producer == NULL || (producer->frame = malloc(HEADER_BYTES + (1 << 20))) == NULL) {
        peer_die("producer", ENOMEM);
    }
    producer->log = ctx;
    pthread_cond_init(&producer->writer.wake, NULL);
    return producer;
}

static void group_append(void *thread, const void *data, size_t bytes)
{
    struct group_producer *producer = thread;
    const uint32_t header[2] = {(uint32_t)bytes, crc32c(data, bytes)};

    memcpy(producer->frame, header, HEADER_BYTES);
    memcpy(producer->frame + HEADER_BYTES, data, bytes);
    leader_append(&producer->log->leader, &producer->writer, producer->frame, HEADER_BYTES + bytes);
}

static void group_thread_close(void *thread)
{
    struct group_producer *producer = thread;

    free(producer->frame);
    free(producer);
}

static void group_close(void *ctx)
{
    struct group_log *log = ctx;

    close(log->file);
    free(log);
}

static const char *group_version(void)
{
    return "1";
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"prewritten", "dsync", "extending", NULL};
    static const struct peer peer = {
        .name = "group_commit",
        .variants = variants,
        .about = "  prewritten  one pwritev and one fdatasync per batch over a file written whole "
                 "before\n"
                 "  dsync       the same with one pwritev2(RWF_DSYNC) per batch\n"
                 "  extending   as prewritten, but over a file that grows\n",
        .version = group_version,
        .open = group_open,
        .thread_open = group_thread_open,
        .thread_close = group_thread_close,
        .append = group_append,
        .close = group_close,
    };

    return peer_main(&peer, argc, argv);
}
