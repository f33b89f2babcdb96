/* SPDX-License-Identifier: Apache-2.0
 * The textbook's leader/follower group commit: a mutex, a queue of writers with a condition
 * variable each. Whoever is at the front leads: takes everybody who is queued, commits them, wakes
 * them and the next leader. For peers that are a log of their own, or that have no group commit
 * and get one from the application. */
#ifndef WEIR_COMPARE_LEADER_H
#define WEIR_COMPARE_LEADER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum { LEADER_GROUP_MAX = 512 };

struct leader_record {
    const void *data;
    size_t bytes;
};

struct leader_writer {
    struct leader_record record;
    pthread_cond_t wake;
    bool done;
    struct leader_writer *next;
};

struct leader {
    pthread_mutex_t mutex;
    struct leader_writer *head;
    struct leader_writer **tail;
    /* Makes the records durable; one call at a time, without the mutex. */
    void (*commit)(void *ctx, const struct leader_record *records, size_t count);
    void *ctx;
    bool single; /* no groups: each record by itself, one after the other */
};

/* A thread that appends. */
struct leader_producer {
    struct leader *leader;
    struct leader_writer writer;
};

void leader_init(struct leader *leader,
                 void (*commit)(void *, const struct leader_record *, size_t),
                 void *ctx);
/* Returns when the record is durable. */
void leader_append(struct leader *leader,
                   struct leader_writer *writer,
                   const void *data,
                   size_t bytes);
/* For peers whose producers have nothing of their own: a thread's state, to be freed; and an append
 * by it, whose record is durable when it returns. */
struct leader_producer *leader_producer_new(struct leader *leader);
void leader_producer_append(void *producer, const void *data, size_t bytes);

#endif
