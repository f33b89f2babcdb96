/* SPDX-License-Identifier: Apache-2.0
 * Which segments there are: a sorted list of LSN ranges, from the names in the directory. A
 * mutex guards it (rank: innermost, nothing else is taken under it): it is asked once per
 * segment, never per record. */
#ifndef WEIR_SEGMENT_CATALOG_H
#define WEIR_SEGMENT_CATALOG_H

#include "segment/dir.h"

#include <pthread.h>

struct weir__range {
    weir_lsn base;
    weir_lsn end;
};

struct weir__catalog {
    struct weir__mem *mem;
    pthread_mutex_t mutex;
    struct weir__range *ranges; /* guarded by mutex; sorted by base */
    size_t count;               /* guarded by mutex */
    size_t room;                /* guarded by mutex */
};

int weir__catalog_init(struct weir__catalog *catalog, struct weir__mem *mem);
void weir__catalog_exit(struct weir__catalog *catalog);
/* Reads the names. Replaces what was there. Two segments that overlap are kept both: whoever
 * scans judges. */
int weir__catalog_load(struct weir__catalog *catalog,
                       struct weir__dir *dir,
                       struct weir__fault *fault);

/* The segment that holds lsn. */
bool weir__catalog_find(struct weir__catalog *catalog, weir_lsn lsn, struct weir__range *range_out);
/* The first with base >= lsn. */
bool weir__catalog_next(struct weir__catalog *catalog, weir_lsn lsn, struct weir__range *range_out);
/* The first that overlaps `range` and is not equal to it. */
bool weir__catalog_overlap(struct weir__catalog *catalog,
                           struct weir__range range,
                           struct weir__range *other_out);
int weir__catalog_add(struct weir__catalog *catalog,
                      struct weir__range range); /* 0, -ENOMEM, -EEXIST */
bool weir__catalog_remove(struct weir__catalog *catalog, struct weir__range range);
size_t weir__catalog_count(struct weir__catalog *catalog);
/* All of them as they stand at one moment, in memory of `mem`; the caller frees it. Return: 0, or
 * -ENOMEM. None: NULL and 0. */
int weir__catalog_copy(struct weir__catalog *catalog,
                       struct weir__mem *mem,
                       struct weir__range **ranges_out,
                       size_t *count_out);
uint64_t weir__catalog_bytes(struct weir__catalog *catalog);
/* Segments that lie wholly below lsn: how many; and the one with the lowest base. */
size_t
weir__catalog_below(struct weir__catalog *catalog, weir_lsn lsn, struct weir__range *lowest_out);

#endif
