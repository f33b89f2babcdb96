/* SPDX-License-Identifier: Apache-2.0
 * Lanes from the reader to the producers. The reader packs small records into parcels and lets them
 * go when they are full or when it is about to wait, so that the lock of a lane is taken once per
 * parcel. The budget is paid when a parcel is made and given back when it is released. The reader
 * lets everything go before it waits for the budget, so that somebody can give some back. */
#include "lane.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    PARCEL_BYTES_MIN = 4 * 1024,
    PARCEL_BYTES_MAX = 64 * 1024,
    PARCEL_BYTES_ALL = 4 * 1024 * 1024, /* of one parcel per lane */
    RECORD_ALIGN = 8,
};

struct parcel {
    struct parcel *next;
    size_t capacity;
    size_t used;
    size_t taken; /* by parcel_next */
    _Alignas(16) unsigned char bytes[];
};

/* Before each record in a parcel; the record is padded to RECORD_ALIGN. */
struct parcel_header {
    uint64_t line;
    uint64_t bytes;
};

struct lane {
    _Alignas(128) pthread_mutex_t lock; /* guards first, last, ended */
    pthread_cond_t work;
    struct parcel *first;
    struct parcel *last;
    bool ended;
    struct parcel *packing; /* the reader's */
};

struct lanes {
    size_t count;
    size_t parcel_bytes;
    uint64_t budget_bytes;
    pthread_mutex_t lock; /* guards used_bytes */
    pthread_cond_t room;
    uint64_t used_bytes;
    struct lane *lanes;
};

int lanes_open(struct lanes **lanes_out, size_t count, uint64_t budget_bytes)
{
    struct lanes *lanes = calloc(1, sizeof(*lanes));
    size_t parcel_bytes = PARCEL_BYTES_ALL / count;

    if (lanes == NULL) {
        return -ENOMEM;
    }
    parcel_bytes = parcel_bytes < PARCEL_BYTES_MIN ? PARCEL_BYTES_MIN : parcel_bytes;
    parcel_bytes = parcel_bytes > PARCEL_BYTES_MAX ? PARCEL_BYTES_MAX : parcel_bytes;
    lanes->count = count;
    lanes->parcel_bytes = parcel_bytes;
    lanes->budget_bytes = budget_bytes;
    lanes->lanes = aligned_alloc(_Alignof(struct lane), count * sizeof(lanes->lanes[0]));
    if (lanes->lanes == NULL) {
        free(lanes);
        return -ENOMEM;
    }
    memset(lanes->lanes, 0, count * sizeof(lanes->lanes[0]));
    pthread_mutex_init(&lanes->lock, NULL);
    pthread_cond_init(&lanes->room, NULL);
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_init(&lanes->lanes[i].lock, NULL);
        pthread_cond_init(&lanes->lanes[i].work, NULL);
    }
    *lanes_out = lanes;
    return 0;
}

void lanes_close(struct lanes *lanes)
{
    for (size_t i = 0; i < lanes->count; i++) {
        struct lane *lane = &lanes->lanes[i];
        struct parcel *parcel = lane->first;
        while (parcel != NULL) {
            struct parcel *next = parcel->next;
            free(parcel);
            parcel = next;
        }
        free(lane->packing);
        pthread_mutex_destroy(&lane->lock);
        pthread_cond_destroy(&lane->work);
    }
    pthread_mutex_destroy(&lanes->lock);
    pthread_cond_destroy(&lanes->room);
    free(lanes->lanes);
    free(lanes);
}

static void packing_send(struct lane *lane)
{
    struct parcel *parcel = lane->packing;

    if (parcel == NULL) {
        return;
    }
    lane->packing = NULL;
    pthread_mutex_lock(&lane->lock);
    if (lane->last != NULL) {
        lane->last->next = parcel;
    } else {
        lane->first = parcel;
    }
    lane->last = parcel;
    pthread_cond_signal(&lane->work);
    pthread_mutex_unlock(&lane->lock);
}

void lanes_flush(struct lanes *lanes)
{
    for (size_t i = 0; i < lanes->count; i++) {
        packing_send(&lanes->lanes[i]);
    }
}

void lanes_end(struct lanes *lanes)
{
    lanes_flush(lanes);
    for (size_t i = 0; i < lanes->count; i++) {
        struct lane *lane = &lanes->lanes[i];
        pthread_mutex_lock(&lane->lock);
        lane->ended = true;
        pthread_cond_signal(&lane->work);
        pthread_mutex_unlock(&lane->lock);
    }
}

static struct parcel *parcel_make(struct lanes *lanes, size_t need)
{
    const size_t capacity = need > lanes->parcel_bytes ? need : lanes->parcel_bytes;

    pthread_mutex_lock(&lanes->lock);
    if (lanes->used_bytes > 0 && lanes->used_bytes + capacity > lanes->budget_bytes) {
        pthread_mutex_unlock(&lanes->lock);
        lanes_flush(lanes);
        pthread_mutex_lock(&lanes->lock);
        while (lanes->used_bytes > 0 && lanes->used_bytes + capacity > lanes->budget_bytes) {
            pthread_cond_wait(&lanes->room, &lanes->lock);
        }
    }
    lanes->used_bytes += capacity;
    pthread_mutex_unlock(&lanes->lock);

    struct parcel *parcel = malloc(sizeof(*parcel) + capacity);
    if (parcel != NULL) {
        parcel->next = NULL;
        parcel->capacity = capacity;
        parcel->used = 0;
        parcel->taken = 0;
    }
    return parcel;
}

static size_t padded(size_t bytes)
{
    return (bytes + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

int lane_put(struct lanes *lanes,
             size_t index,
             uint64_t line,
             const unsigned char *data,
             size_t bytes)
{
    struct lane *lane = &lanes->lanes[index];
    const struct parcel_header header = {.line = line, .bytes = bytes};
    const size_t need = sizeof(header) + padded(bytes);

    if (lane->packing != NULL && lane->packing->capacity - lane->packing->used < need) {
        packing_send(lane);
    }
    if (lane->packing == NULL) {
        lane->packing = parcel_make(lanes, need);
        if (lane->packing == NULL) {
            return -ENOMEM;
        }
    }
    struct parcel *parcel = lane->packing;
    memcpy(parcel->bytes + parcel->used, &header, sizeof(header));
    memcpy(parcel->bytes + parcel->used + sizeof(header), data, bytes);
    parcel->used += need;
    return 0;
}

struct parcel *lane_take(struct lanes *lanes, size_t index)
{
    struct lane *lane = &lanes->lanes[index];

    pthread_mutex_lock(&lane->lock);
    while (lane->first == NULL && !lane->ended) {
        pthread_cond_wait(&lane->work, &lane->lock);
    }
    struct parcel *parcel = lane->first;
    if (parcel != NULL) {
        lane->first = parcel->next;
        if (lane->first == NULL) {
            lane->last = NULL;
        }
    }
    pthread_mutex_unlock(&lane->lock);
    return parcel;
}

bool parcel_next(struct parcel *parcel, struct lane_record *record_out)
{
    struct parcel_header header;

    if (parcel->taken == parcel->used) {
        return false;
    }
    memcpy(&header, parcel->bytes + parcel->taken, sizeof(header));
    record_out->line = header.line;
    record_out->bytes = header.bytes;
    record_out->data = parcel->bytes + parcel->taken + sizeof(header);
    parcel->taken += sizeof(header) + padded((size_t)header.bytes);
    return true;
}

void parcel_release(struct lanes *lanes, struct parcel *parcel)
{
    pthread_mutex_lock(&lanes->lock);
    lanes->used_bytes -= parcel->capacity;
    pthread_cond_signal(&lanes->room);
    pthread_mutex_unlock(&lanes->lock);
    free(parcel);
}
