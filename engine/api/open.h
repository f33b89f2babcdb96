/* SPDX-License-Identifier: Apache-2.0
 * The steps of an opening for appending, in their order; open.c puts them together. Private to this
 * floor. All run on the thread that opens, under the directory's lock. */
#ifndef WEIR_API_OPEN_H
#define WEIR_API_OPEN_H

#include "api/log.h"

/* What the first two steps leave to the third: the segment that the next batch goes to (its file is
 * the caller's to close while it is >= 0), and what that batch continues. */
struct weir__opened {
    struct weir__ready ready;
    struct weir__position position;
};

/* A log where there was none: identity, control file, first segment, in this order. */
int weir__open_create(struct weir_log *log, struct weir__opened *opened, struct weir__fault *fault);

/* A log that is there: finds its end, makes what is kept durable, begins an epoch at the cut. */
int weir__open_recover(struct weir_log *log,
                       const struct weir__control_found *found,
                       struct weir__opened *opened,
                       struct weir__fault *fault);

/* Keeper, stage and flusher over what one of the two left. Takes opened->ready.file over. */
int weir__open_start(struct weir_log *log, struct weir__opened *opened, struct weir__fault *fault);

/* ---- shared by the steps --------------------------------------------------------------------- */

/* A random number that is not 0, which says "none" in places. */
int weir__open_random(uint64_t *value_out);
/* record_bytes_max, against the segment's size. */
int weir__open_record_limit(struct weir_log *log, struct weir__fault *fault);
/* A whole segment, filled with zeros, now. It has no predecessor. */
int weir__open_make_segment(struct weir_log *log,
                            struct weir__range range,
                            uint64_t number,
                            uint64_t epoch,
                            struct weir__ready *ready,
                            struct weir__fault *fault);

/* What a policy comes down to on so many cores. Waiting producers from which on they yield: never below
 * 2, since one alone has nobody to yield to. Producers that the flusher collects at most. 0: none. */
uint32_t weir__policy_yield_from(enum weir_policy policy, uint32_t cores);
uint32_t weir__policy_collect_max(enum weir_policy policy, uint32_t cores);

#endif
