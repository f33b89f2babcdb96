/* SPDX-License-Identifier: Apache-2.0
 * Leader and followers. head stays the leader until its commit is over, so that nobody else leads
 * meanwhile; who comes meanwhile queues behind, and the first of them is woken as next leader. */
#include "leader.h"

#include "peer.h"

#include <errno.h>
#include <stdlib.h>

void leader_init(struct leader *leader,
                 void (*commit)(void *, const struct leader_record *, size_t),
                 void *ctx)
{
    pthread_mutex_init(&leader->mutex, NULL);
    leader->head = NULL;
    leader->tail = &leader->head;
    leader->commit = commit;
    leader->ctx = ctx;
    leader->single = false;
}

/* Called with the mutex, by the writer at the front. */
static void lead(struct leader *leader)
{
    struct leader_writer *first = leader->head;
    struct leader_writer *last = first;
    struct leader_record records[LEADER_GROUP_MAX];
    size_t count = 0;

    for (struct leader_writer *w = first; w != NULL && count < LEADER_GROUP_MAX; w = w->next) {
        records[count] = w->record;
        count++;
        last = w;
    }
    pthread_mutex_unlock(&leader->mutex);
    leader->commit(leader->ctx, records, count);
    pthread_mutex_lock(&leader->mutex);
    leader->head = last->next;
    if (leader->head == NULL) {
        leader->tail = &leader->head;
    }
    for (struct leader_writer *w = first;;) {
        /* Once it is woken it may queue itself anew. */
        struct leader_writer *next = w->next;
        const bool end = w == last;
        w->done = true;
        if (w != first) {
            pthread_cond_signal(&w->wake);
        }
        if (end) {
            break;
        }
        w = next;
    }
    if (leader->head != NULL) {
        pthread_cond_signal(&leader->head->wake);
    }
}

void leader_append(struct leader *leader,
                   struct leader_writer *writer,
                   const void *data,
                   size_t bytes)
{
    pthread_mutex_lock(&leader->mutex);
    writer->record.data = data;
    writer->record.bytes = bytes;
    writer->done = false;
    writer->next = NULL;
    *leader->tail = writer;
    leader->tail = &writer->next;
    while (!writer->done && leader->head != writer) {
        pthread_cond_wait(&writer->wake, &leader->mutex);
    }
    if (!writer->done) {
        lead(leader);
    }
    pthread_mutex_unlock(&leader->mutex);
}

struct leader_producer *leader_producer_new(struct leader *leader)
{
    struct leader_producer *producer = calloc(1, sizeof(*producer));

    if (producer == NULL) {
        peer_die("producer", ENOMEM);
    }
    producer->leader = leader;
    pthread_cond_init(&producer->writer.wake, NULL);
    return producer;
}

void leader_producer_append(void *thread, const void *data, size_t bytes)
{
    struct leader_producer *producer = thread;
    struct leader *leader = producer->leader;

    if (!leader->single) {
        leader_append(leader, &producer->writer, data, bytes);
        return;
    }
    const struct leader_record record = {.data = data, .bytes = bytes};
    pthread_mutex_lock(&leader->mutex);
    leader->commit(leader->ctx, &record, 1);
    pthread_mutex_unlock(&leader->mutex);
}
