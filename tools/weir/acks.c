/* SPDX-License-Identifier: Apache-2.0
 * Acknowledgements to a descriptor.
 *
 * The writing side: lines go into one of two buffers under a lock. Whoever finds nobody writing
 * takes the buffer, lets the others fill the second one, and writes until both are empty; so each
 * write carries what gathered during the one before. A full buffer makes callers wait, which bounds
 * the memory.
 *
 * The deferred side: the board keeps the appended records of all producers. Its thread reads the
 * durable LSN first, then looks at the board: a record below that LSN that is not on the board yet
 * belongs to a producer that announced its append before and has not come back, and whose next LSN
 * is above its last one; so what is below the durable LSN and below the last LSN of every announced
 * producer is complete, and is written in LSN order. */
#include "acks.h"

#include "clock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_BYTES_MAX = 48,
    BUFFER_BYTES = 64 * 1024,
    BOARD_RECORDS = 256 * 1024,
};

struct ack {
    weir_lsn lsn;
    uint64_t line;
};

struct pledge {
    weir_lsn last; /* of this producer's earlier appends */
    bool open;     /* announced, not come back */
};

struct acks {
    int fd;
    /* Guards everything below but what only the writing or the board's thread touches. */
    pthread_mutex_t lock;
    pthread_cond_t room; /* a buffer was taken, or records left the board */
    pthread_cond_t work; /* records came to the board, or closing */
    char *filling;       /* BUFFER_BYTES */
    char *spare;         /* the writing thread's, while there is one */
    size_t filled;
    bool writing;
    int error;

    struct weir_log *log;
    bool deferred;
    bool closing;
    bool dead; /* the log has failed: what is on the board will never be durable */
    struct pledge *pledges;
    size_t producers;
    struct ack *board; /* BOARD_RECORDS, in no order */
    size_t board_count;
    struct ack *due; /* BOARD_RECORDS; the board's thread's */
    pthread_t thread;
};

/* ---- writing --------------------------------------------------------------------------------- */

/* Return: 0 or a negative errno. */
static int all_write(int fd, const char *bytes, size_t count)
{
    while (count > 0) {
        const ssize_t written = write(fd, bytes, count);
        if (written >= 0) {
            bytes += written;
            count -= (size_t)written;
        } else if (errno == EAGAIN) {
            struct pollfd polled = {.fd = fd, .events = POLLOUT};
            poll(&polled, 1, -1);
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* Called with the lock held and nobody writing; gives the lock up while it writes. */
static void lines_flush(struct acks *acks)
{
    acks->writing = true;
    while (acks->filled > 0) {
        char *full = acks->filling;
        const size_t bytes = acks->filled;
        const bool wanted = acks->error == 0;
        acks->filling = acks->spare;
        acks->spare = full;
        acks->filled = 0;
        pthread_cond_broadcast(&acks->room);
        pthread_mutex_unlock(&acks->lock);
        const int rc = wanted ? all_write(acks->fd, full, bytes) : 0;
        pthread_mutex_lock(&acks->lock);
        if (rc != 0) {
            acks->error = rc;
        }
    }
    acks->writing = false;
}

/* Called with the lock held. */
static void line_add(struct acks *acks, weir_lsn lsn, uint64_t line)
{
    while (acks->filled + LINE_BYTES_MAX > BUFFER_BYTES) {
        if (acks->writing) {
            pthread_cond_wait(&acks->room, &acks->lock);
        } else {
            lines_flush(acks);
        }
    }
    const int length = snprintf(acks->filling + acks->filled,
                                LINE_BYTES_MAX,
                                "%" PRIu64 " %" PRIu64 "\n",
                                lsn,
                                line);
    acks->filled += (size_t)length;
}

void acks_put(struct acks *acks, weir_lsn lsn, uint64_t line)
{
    pthread_mutex_lock(&acks->lock);
    line_add(acks, lsn, line);
    if (!acks->writing) {
        lines_flush(acks);
    }
    pthread_mutex_unlock(&acks->lock);
}

/* ---- the board ------------------------------------------------------------------------------- */

void acks_announce(struct acks *acks, size_t producer)
{
    pthread_mutex_lock(&acks->lock);
    while (acks->board_count + acks->producers >= BOARD_RECORDS && !acks->dead) {
        pthread_cond_wait(&acks->room, &acks->lock);
    }
    acks->pledges[producer].open = true;
    pthread_mutex_unlock(&acks->lock);
}

void acks_appended(struct acks *acks, size_t producer, weir_lsn lsn, uint64_t line)
{
    pthread_mutex_lock(&acks->lock);
    acks->pledges[producer].open = false;
    if (lsn != WEIR_LSN_NONE && !acks->dead) {
        acks->pledges[producer].last = lsn;
        acks->board[acks->board_count] = (struct ack){.lsn = lsn, .line = line};
        acks->board_count++;
        pthread_cond_signal(&acks->work);
    }
    pthread_mutex_unlock(&acks->lock);
}

static int ack_compare(const void *left, const void *right)
{
    const struct ack *a = left;
    const struct ack *b = right;

    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

/* Moves what is complete and durable from the board to due. Called with the lock held. Return: how
 * many. */
static size_t due_collect(struct acks *acks, weir_lsn durable)
{
    weir_lsn limit = durable;
    size_t due = 0;
    size_t kept = 0;

    for (size_t i = 0; i < acks->producers; i++) {
        if (acks->pledges[i].open && acks->pledges[i].last < limit) {
            limit = acks->pledges[i].last + 1;
        }
    }
    for (size_t i = 0; i < acks->board_count; i++) {
        if (acks->board[i].lsn < limit) {
            acks->due[due++] = acks->board[i];
        } else {
            acks->board[kept++] = acks->board[i];
        }
    }
    acks->board_count = kept;
    return due;
}

/* Called with the lock held and records on the board. */
static weir_lsn board_lowest(const struct acks *acks)
{
    weir_lsn lowest = acks->board[0].lsn;

    for (size_t i = 1; i < acks->board_count; i++) {
        if (acks->board[i].lsn < lowest) {
            lowest = acks->board[i].lsn;
        }
    }
    return lowest;
}

/* Writes what became due, in LSN order. Called with the lock held; gives it up meanwhile. */
static void due_write(struct acks *acks, size_t due)
{
    pthread_mutex_unlock(&acks->lock);
    qsort(acks->due, due, sizeof(acks->due[0]), ack_compare);
    pthread_mutex_lock(&acks->lock);
    for (size_t i = 0; i < due; i++) {
        line_add(acks, acks->due[i].lsn, acks->due[i].line);
    }
    lines_flush(acks);
}

static void *board_run(void *ctx)
{
    struct acks *acks = ctx;

    pthread_mutex_lock(&acks->lock);
    while (!acks->dead) {
        while (acks->board_count == 0 && !acks->closing) {
            pthread_cond_wait(&acks->work, &acks->lock);
        }
        if (acks->board_count == 0) {
            break;
        }
        const weir_lsn lowest = board_lowest(acks);
        pthread_mutex_unlock(&acks->lock);
        const int waited =
            weir_wait(acks->log, lowest, WEIR_DURABLE, (int64_t)(100 * CLOCK_NS_PER_MS));
        const weir_lsn durable = weir_durable_lsn(acks->log);
        pthread_mutex_lock(&acks->lock);
        const size_t due = due_collect(acks, durable);
        acks->dead = waited != 0 && waited != -ETIMEDOUT;
        pthread_cond_broadcast(&acks->room);
        due_write(acks, due);
    }
    pthread_mutex_unlock(&acks->lock);
    return NULL;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void acks_free(struct acks *acks)
{
    free(acks->filling);
    free(acks->spare);
    free(acks->pledges);
    free(acks->board);
    free(acks->due);
    free(acks);
}

int acks_open(struct acks **acks_out, int fd, size_t producers, bool deferred, struct weir_log *log)
{
    struct acks *acks = calloc(1, sizeof(*acks));

    if (acks == NULL) {
        return -ENOMEM;
    }
    acks->fd = fd;
    acks->log = log;
    acks->deferred = deferred;
    acks->producers = producers;
    acks->filling = malloc(BUFFER_BYTES);
    acks->spare = malloc(BUFFER_BYTES);
    acks->pledges = calloc(producers, sizeof(acks->pledges[0]));
    bool complete = acks->filling != NULL && acks->spare != NULL && acks->pledges != NULL;
    if (deferred) {
        acks->board = malloc(BOARD_RECORDS * sizeof(acks->board[0]));
        acks->due = malloc(BOARD_RECORDS * sizeof(acks->due[0]));
        complete = complete && acks->board != NULL && acks->due != NULL;
    }
    if (!complete) {
        acks_free(acks);
        return -ENOMEM;
    }
    pthread_mutex_init(&acks->lock, NULL);
    pthread_cond_init(&acks->room, NULL);
    pthread_cond_init(&acks->work, NULL);
    if (deferred) {
        const int rc = pthread_create(&acks->thread, NULL, board_run, acks);
        if (rc != 0) {
            acks_free(acks);
            return -rc;
        }
    }
    *acks_out = acks;
    return 0;
}

int acks_close(struct acks *acks)
{
    if (acks->deferred) {
        pthread_mutex_lock(&acks->lock);
        acks->closing = true;
        pthread_cond_signal(&acks->work);
        pthread_mutex_unlock(&acks->lock);
        pthread_join(acks->thread, NULL);
    }
    const int error = acks->error;
    pthread_mutex_destroy(&acks->lock);
    pthread_cond_destroy(&acks->room);
    pthread_cond_destroy(&acks->work);
    acks_free(acks);
    return error;
}
