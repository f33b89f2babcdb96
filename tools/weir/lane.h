/* SPDX-License-Identifier: Apache-2.0
 * The way of a record from the thread that reads the input to the producer that appends it: one
 * lane per producer, first in, first out, and one budget of bytes for all of them. */
#ifndef WEIR_TOOL_LANE_H
#define WEIR_TOOL_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lanes;

/* A record in a parcel. */
struct lane_record {
    uint64_t line;
    uint64_t bytes;
    const unsigned char *data;
};

/* Parcels travel through a lane; a producer takes one at a time. */
struct parcel;

/* budget_bytes: of all records under way; one larger than that travels alone. Return: 0 or -ENOMEM.
 */
int lanes_open(struct lanes **lanes_out, size_t count, uint64_t budget_bytes);
/* No thread may use them any more. */
void lanes_close(struct lanes *lanes);

/* Reader: packs a record for a lane, 0..count-1; waits while the budget is used up.
 * Return: 0 or -ENOMEM. */
int lane_put(struct lanes *lanes,
             size_t index,
             uint64_t line,
             const unsigned char *data,
             size_t bytes);
/* Reader: lets everything that is packed go; before it waits for input. */
void lanes_flush(struct lanes *lanes);
/* Reader: nothing will follow. */
void lanes_end(struct lanes *lanes);

/* Producer: the next parcel; sleeps for it. Return: NULL when nothing will follow. */
struct parcel *lane_take(struct lanes *lanes, size_t index);
/* Producer: the next record of the parcel. Return: false when there is none. */
bool parcel_next(struct parcel *parcel, struct lane_record *record_out);
/* Producer: the parcel is done. */
void parcel_release(struct lanes *lanes, struct parcel *parcel);

#endif
