/* SPDX-License-Identifier: Apache-2.0
 * Transfers: reads, writes and syncs carried out to their end over a queue of the I/O seam.
 *
 * The one place that knows what a short result, a cut run and a refused submission mean. A run is a
 * list of operations that go one after another: each begins only after the one before has ended
 * well (linked on the ring). Runs go side by side. What comes back short is gone on with from its
 * last whole block, with everything behind it in its run anew, so that a sync linked behind a write
 * is always one that was begun after all of the write had come back.
 *
 * A failed sync is final: a run is never gone on with behind one. One thread owns a transfer. */
#ifndef WEIR_IO_TRANSFER_H
#define WEIR_IO_TRANSFER_H

#include "base/atomic.h"
#include "port/io.h"

struct weir__transfer_run;

/* One operation. The first part is the owner's, set before the start; iov belongs to the transfer
 * until the run's end, and is changed by it. */
struct weir__transfer_op {
    enum weir__op_kind kind;
    int file;
    bool dsync;
    uint32_t block_bytes; /* what a short result goes on from a multiple of; 1: any byte */
    struct iovec *iov;
    unsigned iov_count;
    uint64_t offset;
    size_t bytes; /* sum of iov, still to go; 0 at the end, but for a read that met the file's */
    void *user;

    /* The transfer's. */
    size_t done; /* bytes that have come or gone */
    size_t tail; /* bytes of a broken block that a short read ended with */
    bool over;   /* carried out in full, or up to the file's end */
    int32_t result;
    struct weir__transfer_run *run;
};

struct weir__transfer_run {
    struct weir__transfer_op *ops;
    unsigned count; /* 1 .. transfer's entries */
    void *user;

    /* The transfer's. */
    unsigned first; /* op that is not over: where it fails, and whence it is pushed again */
    unsigned end;   /* those below it have been pushed */
    unsigned due;   /* events to come */
    unsigned tries; /* without progress */
};

/* Relaxed; one writer, the owner. Any thread reads. */
struct weir__transfer_counters {
    WEIR__ATOMIC(uint64_t) ops_submitted, ops_completed, bytes_written, bytes_read;
    WEIR__ATOMIC(uint64_t) writes, writes_short, syncs, pushes;
};

struct weir__transfer {
    struct weir__io *io;
    struct weir__queue *queue;
    unsigned entries;   /* operations in flight at most */
    unsigned in_flight; /* operations pushed whose event has not come */
    struct weir__transfer_counters *counters;
    /* A write has come back in full: the kernel has its bytes. Before the run's end, where a sync is
     * linked behind it. May be NULL. */
    void (*written)(void *ctx, struct weir__transfer_op *op);
    /* A run has ended. code 0: every op is over. Else the error of op number run->first; those
     * behind it were not carried out. The run is the owner's again, and may be started anew. */
    void (*ended)(void *ctx, struct weir__transfer_run *run, int code);
    void *ctx;
    struct weir__op *scratch; /* entries of them */
    struct weir__mem *mem;    /* of the scratch; NULL: the owner's */
    bool broken;              /* a reap failed: what is in flight is not known any more */
    /* The owner's: what comes back short or refused is not gone on with any more; such a run ends
     * as -ECANCELED. */
    bool stopped;
};

/* The queue is the caller's, opened with at least `entries`; so are the counters, zeroed, and the
 * scratch, `entries` of them. */
void weir__transfer_begin(struct weir__transfer *transfer,
                          struct weir__io *io,
                          struct weir__queue *queue,
                          unsigned entries,
                          struct weir__op *scratch,
                          struct weir__transfer_counters *counters);
/* The same with a scratch of its own, given back by exit. 0 or -ENOMEM. */
int weir__transfer_init(struct weir__transfer *transfer,
                        struct weir__mem *mem,
                        struct weir__io *io,
                        struct weir__queue *queue,
                        unsigned entries,
                        struct weir__transfer_counters *counters);
void weir__transfer_exit(struct weir__transfer *transfer);
/* What init allocates. */
size_t weir__transfer_memory(unsigned entries);

/* Room for a run of count ops, now? */
static inline bool weir__transfer_room(const struct weir__transfer *transfer, unsigned count)
{
    return count <= transfer->entries - transfer->in_flight;
}

/* Begins a run, in one submission. There must be room. 0: `ended` will be called; or what refused
 * the submission: nothing was begun. */
int weir__transfer_start(struct weir__transfer *transfer, struct weir__transfer_run *run);
/* Begins several, in one submission, all or none. */
int weir__transfer_start_many(struct weir__transfer *transfer,
                              struct weir__transfer_run *const *runs,
                              unsigned count);

/* Collects events and calls back for what they end. min: sleeps until so many operations have come
 * back (or all in flight, where that is fewer), until the queue is woken, or until deadline_ns; 0
 * does not sleep. Returns how many operations came back, or why the queue is broken: nothing more
 * will be called, and what the kernel may still use must be abandoned. */
int weir__transfer_reap(struct weir__transfer *transfer, unsigned min, uint64_t deadline_ns);

/* Carries a run out by the calling thread's own calls, without a queue. 0, or the error of op
 * number run->first. counters may be NULL. */
int weir__transfer_here(struct weir__io *io,
                        struct weir__transfer_run *run,
                        struct weir__transfer_counters *counters);

/* One range by the calling thread, up to the file's end, or to the first error. A short result is
 * gone on with from a multiple of block_bytes. Return 0, -errno; *done_out tells in any case how
 * much has come or gone. */
int weir__io_read_upto(struct weir__io *io,
                       int file,
                       void *buffer,
                       size_t bytes,
                       uint64_t offset,
                       uint32_t block_bytes,
                       size_t *done_out);
int weir__io_write_upto(struct weir__io *io,
                        int file,
                        const void *buffer,
                        size_t bytes,
                        uint64_t offset,
                        uint32_t block_bytes,
                        size_t *done_out);
/* The same, whole. Return 0, -errno; read_full -ENODATA at the end of the file. */
int weir__io_read_full(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset);
int weir__io_write_full(struct weir__io *io,
                        int file,
                        const void *buffer,
                        size_t bytes,
                        uint64_t offset,
                        bool dsync);

#endif
