/* SPDX-License-Identifier: Apache-2.0
 * What an executor consists of, for its two halves: executor.c (a batch as a whole, opening and
 * closing) and executor_run.c (its operations). One thread at a time. */
#ifndef WEIR_IO_EXECUTOR_STATE_H
#define WEIR_IO_EXECUTOR_STATE_H

#include "io/batch.h"
#include "io/device.h"
#include "io/executor.h"
#include "port/mem.h"

/* An operation that is with the transfer. One to each of its ops. */
struct executor_place {
    size_t index;     /* in the batch */
    size_t read;      /* which of the reads; NO_READ: it is none of the batch's */
    const void *data; /* of a read: where the bytes asked for will stand */
    size_t skip;      /* of a read: bytes before them */
    size_t bytes;     /* of a read: asked for */
    uint64_t offset;  /* of a read: asked for */
    unsigned active;  /* side by side: where it stands in `active` */
};

/* The bytes of its file that an operation touches. */
struct executor_range {
    uint64_t start;
    uint64_t end;
    uint64_t reach; /* of a write: where they begin for those who read */
    bool writes;
    unsigned place;
};

struct weir_executor {
    struct weir__mem mem;
    struct weir__io_device device;
    const struct weir__io_file *writer; /* NULL: none */
    const struct weir__io_file *reader;
    bool side_by_side;
    bool one_file;                   /* what is written may be read */
    struct weir__io_syncs *syncs;    /* of the writer's file */
    struct weir__io_syncs own_syncs; /* where nobody shares it */
    bool sync_turn;                  /* ours now: a Sync is to go out, or under way */
    int sync_code;                   /* of the first Sync that failed, 0 */
    int broken;                      /* what the queue broke with, 0 */

    /* As many of each as may be in flight; in order, no more than the ring has entries. */
    unsigned places_max;
    struct executor_place *places;
    struct weir__transfer_op *ops;
    struct iovec *iov;
    struct weir__transfer_run *runs;
    struct weir__transfer_run **starting;
    unsigned *unused;              /* side by side: places that are free */
    struct executor_range *active; /* side by side: of those that are not */

    /* Direct writes: room for two blocks, and what unaligned ones go through. */
    uint8_t *edges; /* NULL: the writer's file is not direct */
    size_t edges_bytes;
    uint8_t *pieces; /* behind the edges, or the device's buffers */
    size_t piece_bytes;
    unsigned piece_count;

    /* What was read. */
    struct weir_read_result *reads;
    size_t reads_max;
    uint8_t *memory;
    size_t memory_bytes;

    /* The execution under way. */
    const struct weir_batch *batch;
    size_t count;
    size_t next;      /* the first operation that was not begun */
    size_t next_read; /* of which this is the number of reads */
    size_t memory_at; /* and what they have of the memory */
    size_t reads_over;
    size_t failed;
    int code;
    unsigned unused_count;
    unsigned active_count;
    bool barrier;    /* a Sync is under way */
    uint64_t length; /* side by side: what the file is known to hold */
    uint64_t grown;  /* and what it will, with the writes that have come back */
};

/* Nothing has to be submitted for it? */
bool weir__executor_is_nothing(const struct weir_executor *executor, const struct weir_op *op);
/* Bytes of the executor's memory that go to a read, which is not nothing. */
uint64_t weir__executor_read_room(const struct weir_executor *executor, const struct weir_op *op);
/* An operation has failed. The lowest one counts. */
void weir__executor_fail(struct weir_executor *executor, size_t index, int code);
/* Carry the batch under way out, up to its end or the first error. */
void weir__executor_in_order(struct weir_executor *executor);
void weir__executor_side_by_side(struct weir_executor *executor);
/* The transfer's `ended`. */
void weir__executor_ended(void *ctx, struct weir__transfer_run *run, int code);

#endif
