/* SPDX-License-Identifier: Apache-2.0
 *
 * weir/io.h: the storage I/O under the log, for those who want the parts without it: a queue of
 * operations, an appending writer, a positional reader, batches and their executor, a reader of
 * segments. io_uring where it is to be had and asked for, else a pool of threads that makes the
 * plain calls; both do the same, and the tests run both.
 *
 * Every object has a ring (or pool) of its own, made from a struct weir_io_config, and tells what
 * became of each field: weir_*_effective. What the kernel or the file system refuses is done
 * without and reported there; it is an error only where the backend itself was demanded.
 *
 * Return codes as in weir.h: 0 or a count, else a negative errno or one of weir's. Every function
 * below states: parameters with units, Return, Threads, Progress (may it sleep, does it do I/O),
 * Durability, Ordering, Ownership. Where a line is missing the answer is "none" or, for Threads,
 * "any thread, any number at once". For all of them:
 *  - objects and *_out parameters are not NULL where nothing else is said; objects are borrowed for
 *    the call. *_out are written on success only, error_out on failure only.
 *  - what a call that opens gives out is the caller's until the call that closes it. While that one
 *    runs no other thread may be inside a call on the object.
 *  - hooks, paths and configs are copied, or not looked at any more, when a call returns; but the
 *    hooks themselves are called until the object is closed.
 *  - after fork() the objects belong to the parent. No call is safe in a signal handler.
 *  - all are there since 0.1. */
#ifndef WEIR_IO_H
#define WEIR_IO_H

#include <weir/weir.h>

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------------------------------------------
 * Configuration
 * ---------------------------------------------------------------------------------------------- */

enum weir_io_backend {
    WEIR_IO_BACKEND_AUTO = 0, /* io_uring, or the pool where the kernel refuses it */
    WEIR_IO_BACKEND_URING,    /* io_uring, or the error that refused it */
    WEIR_IO_BACKEND_POSIX,    /* pread, pwrite and fdatasync in a pool of threads */
};

struct weir_io_config {
    size_t struct_bytes; /* sizeof(struct weir_io_config); set by the presets */
    /* Entries of the submission ring, 1..32768; rounded up to a power of two. */
    uint32_t sq_entries;
    /* A kernel thread takes the submissions (SQPOLL), without a call. It burns a core while it is
     * awake: on few cores everything else gets slower. */
    bool kernel_poll;
    /* After so many ms without a submission that thread sleeps. 0 = the kernel's own (1 s). Counts
     * only with kernel_poll. */
    uint32_t sq_poll_idle_ms;
    /* Operations with the kernel at once, at most; 1..4096. Cut to what the completion ring holds,
     * so that it never overflows. */
    uint32_t max_inflight;
    /* O_DIRECT where the file system takes it. Any buffer, offset and length will still do. */
    bool direct_io;
    /* Buffers of the object's own, known to the kernel beforehand; 0..1024. A writer needs two. */
    uint32_t registered_buffers;
    /* Of each, 4 KiB..16 MiB, a multiple of 4096. */
    uint32_t buffer_bytes;
    enum weir_io_backend backend;
    /* What it points to is borrowed until the object is closed. NULL = jemalloc if the process has it, else malloc. */
    const struct weir_memory_hooks *memory;
};

/* The presets.
 *                      entries  poll   idle ms  in flight  direct  buffers  bytes
 *   default             1024    no       10       256      no        64    64 KiB
 *   high_throughput     4096    yes     100      1024      yes      256   256 KiB
 *   low_latency          256    yes       1        64      yes       32    16 KiB
 *   minimal              128    no        0        32      no         8     4 KiB
 * All with WEIR_IO_BACKEND_AUTO and without hooks.
 * Return       a config by value, valid as it is; the caller changes what it likes */
WEIR_API struct weir_io_config weir_io_config_default(void);
WEIR_API struct weir_io_config weir_io_config_high_throughput(void);
WEIR_API struct weir_io_config weir_io_config_low_latency(void);
WEIR_API struct weir_io_config weir_io_config_minimal(void);

/* Is it valid? Every call that takes a config asks this first.
 * config       NULL = default, which is valid
 * error_out    [out] may be NULL; text names the field and its bounds
 * Return       0 | -EINVAL a field is beyond its bounds, or struct_bytes is no length of this struct
 * Progress     no I/O, no sleep, no allocation */
WEIR_API int weir_io_config_check(const struct weir_io_config *config,
                                  struct weir_error *error_out);

/* Can this process use io_uring, now? Sets a ring up and asks it for every opcode that is needed.
 * reason       [out] may be NULL: "" or a sentence that says who refuses it, and the way out
 * reason_bytes of reason; the sentence is cut to it, and ends with a zero. 400 hold all of it
 * Return       true: yes. Of this moment: a later refusal is told by the call that meets it
 * Progress     some system calls; never remembered */
WEIR_API bool weir_io_uring_available(char *reason, size_t reason_bytes);

/* What became of a config. */
struct weir_io_effective {
    struct weir_io_config config; /* each field as it is in effect; backend is never AUTO */
    uint32_t cq_entries;          /* 0 with the pool */
    uint32_t threads;             /* of the pool, at most; 0 with io_uring */
    uint32_t block_bytes;         /* alignment that O_DIRECT needs here; 1 without it */
    char reason[400];             /* what was refused and why, "" if nothing */
};

/* -------------------------------------------------------------------------------------------------
 * Figures
 * ---------------------------------------------------------------------------------------------- */

/* Of one object, from its opening on. An operation is what goes to the kernel: a write that came
 * back short is two. */
struct weir_io_stats {
    uint64_t ops_submitted;
    uint64_t ops_completed;
    uint64_t bytes_written;
    uint64_t bytes_read;
    uint64_t cqe_overflows; /* completions that found no room: the kernel's counter and its flag */
    uint64_t sq_dropped;    /* submissions that the kernel could not read: its counter */
};

/* The object's figures are snapshots, taken by weir_*_stats while it works: each figure is exact by
 * itself, and two of them need not be of the same moment.
 *
 * Operations under way.
 * Return       submitted less completed; 0 where a snapshot shows more completed than submitted
 * Progress     arithmetic */
WEIR_API uint64_t weir_io_stats_in_flight(const struct weir_io_stats *stats);
/* The part of what was submitted that has come back.
 * Return       completed by submitted, 0.0 .. 1.0; 1.0 where nothing was submitted
 * Progress     arithmetic */
WEIR_API double weir_io_stats_completion_rate(const struct weir_io_stats *stats);

/* -------------------------------------------------------------------------------------------------
 * Queue: operations of the caller's own, many at once
 * ---------------------------------------------------------------------------------------------- */

enum weir_op_kind {
    WEIR_OP_WRITE = 1,
    WEIR_OP_READ,
    WEIR_OP_SYNC, /* fdatasync */
};

struct weir_io_queue;

struct weir_io_request {
    enum weir_op_kind kind;
    int fd;
    bool durable; /* WRITE: it is on the device when it ends (RWF_DSYNC) */
    uint64_t offset;
    void *data; /* borrowed until its end; not written to by a WRITE */
    size_t bytes;
    void *user; /* comes back with its end */
};

struct weir_io_end {
    void *user;
    int64_t
        result; /* bytes (of a READ: fewer only at the end of the file), 0 of a SYNC, or why not */
};

/* Opens a queue. direct_io of the config is not used: descriptors and their alignment are the
 * caller's.
 * config       NULL = default
 * error_out    [out] may be NULL
 * Return       0 | -EINVAL a field, named in error_out | -ENOMEM | with WEIR_IO_BACKEND_URING, what
 *              refused the ring
 * Threads      one at a time uses a queue, not always the same; who hands it on orders the two
 * Progress     system calls, no I/O on files
 * Ownership    the queue is the caller's until weir_io_queue_close */
WEIR_API int weir_io_queue_open(const struct weir_io_config *config,
                                struct weir_io_queue **queue_out,
                                struct weir_error *error_out);
/* Hands requests over, in one submission. They run side by side; only what was submitted after
 * another's end is ordered behind it. Short results are gone on with.
 * requests     [in] count of them, not needed after the return; what their data points to is, until
 *              their ends: the caller keeps it there, and does not touch what is read into
 * Return       how many were taken, from the first on: fewer than count where max_inflight is
 *              reached (ends not collected yet count) or one is not valid | if none was taken:
 *              -EAGAIN no room, collect ends first | -EINVAL the first is not valid | an errno
 * Threads      one at a time, as for the queue
 * Progress     a system call, or none with kernel_poll; does not wait for the I/O. With the pool and
 *              a single request: none, it runs in the next call for ends
 * Durability   none by the return; at its end: of a durable WRITE its bytes, of a SYNC all WRITEs of
 *              the file whose ends had been collected before it was submitted
 * Ordering     none among those under way */
WEIR_API int weir_io_queue_submit(struct weir_io_queue *queue,
                                  const struct weir_io_request *requests,
                                  size_t count);
/* Collects ends, at least min (or all that are under way, where that is fewer), at most max.
 * ends         [out] room for max; in no order
 * timeout_ns   WEIR_TRY, WEIR_FOREVER or ns from now
 * Return       how many; fewer than min after the timeout | an errno: the ring is broken, and
 *              memory that it was given must stay untouched until the process ends
 * Threads      one at a time, as for the queue
 * Progress     sleeps up to timeout_ns; with the pool it makes calls of operations itself, and may
 *              be longer by one of them
 * Ordering     what a READ brought, and what a WRITE did, is there for whoever has its end
 * Ownership    the memory of a request is the caller's again with its end */
WEIR_API int weir_io_queue_wait(struct weir_io_queue *queue,
                                struct weir_io_end *ends,
                                size_t max,
                                size_t min,
                                int64_t timeout_ns);
/* One of the registered buffers: writes from it and reads into it cost the kernel less.
 * index        0 .. registered_buffers - 1
 * Return       config.buffer_bytes of memory, aligned to 4096; NULL if there is no such one. Also
 *              where the kernel has not registered them (weir_io_queue_effective)
 * Ownership    the queue's, until its close; what it is used for is the caller's business */
WEIR_API void *weir_io_queue_buffer(struct weir_io_queue *queue, uint32_t index);
/* What became of its config. Constant from the opening on.
 * effective_out  [out] a copy */
WEIR_API void weir_io_queue_effective(struct weir_io_queue *queue,
                                      struct weir_io_effective *effective_out);
/* Its figures, a snapshot.
 * stats_out    [out] since the opening
 * Threads      any, also while another one uses the queue
 * Progress     wait-free */
WEIR_API void weir_io_queue_stats(struct weir_io_queue *queue, struct weir_io_stats *stats_out);
/* Waits for what is under way, whose ends are lost, and frees the queue.
 * queue        may be NULL. Gone afterwards
 * Progress     sleeps until the last operation has come back. With a broken ring it does not wait,
 *              and memory that the kernel may still use is left alone for good */
WEIR_API void weir_io_queue_close(struct weir_io_queue *queue);

/* -------------------------------------------------------------------------------------------------
 * Writer: a file that grows at its end, from any number of threads
 * ---------------------------------------------------------------------------------------------- */

struct weir_writer;

/* Opens a file for appending: makes it (0600) if it is missing, goes on at its end if it is there.
 * No link is followed at the last component; anything but a regular file is refused. Nothing stops
 * a second writer on the same file: that is the caller's.
 * path         its directory must be there; not needed after the return
 * config       NULL = default. registered_buffers, two at least, of buffer_bytes are what writes are
 *              gathered in: who writes faster than the device sleeps when they are full
 * error_out    [out] may be NULL
 * Return       0 | -EINVAL a field, named in error_out, no path, or not a regular file | -ENOMEM |
 *              -EAGAIN no thread | -ELOOP, -EACCES, -EISDIR, ... an errno of the file system |
 *              with WEIR_IO_BACKEND_URING, what refused the ring
 * Progress     I/O: opens, syncs the directory, reads the last block with direct_io. Starts a thread
 * Durability   a file that was made is in its directory for good: that was synced. No bytes of it
 * Ownership    the writer is the caller's until weir_writer_close */
WEIR_API int weir_writer_create(const char *path,
                                const struct weir_io_config *config,
                                struct weir_writer **writer_out,
                                struct weir_error *error_out);
/* The same for a file that must be there. It goes on at its end; the directory is not synced.
 * Return       as weir_writer_create | -ENOENT */
WEIR_API int weir_writer_open(const char *path,
                              const struct weir_io_config *config,
                              struct weir_writer **writer_out,
                              struct weir_error *error_out);
/* Appends bytes, all of them, next to each other.
 * data         copied before return
 * bytes        any number; 0 is legal and returns the offset where the next write would go
 * offset_out   [out] may be NULL: where in the file they stand
 * Return       0 | the writer's first error, which stays | -EFBIG it would end beyond
 *              2^63 - 2^54 bytes: nothing was taken
 * Threads      any number at once. No two get overlapping ranges, and none has a hole
 * Progress     takes its place by one fetch-add (above 4 GiB by a CAS), copies; sleeps while all
 *              buffers are full. No I/O, no lock; allocates nothing
 * Durability   none: weir_writer_flush, weir_writer_sync. An error of the write itself shows there,
 *              or at a later write
 * Ordering     a write that returned before another began stands before it */
WEIR_API int
weir_writer_write(struct weir_writer *writer, const void *data, size_t bytes, uint64_t *offset_out);
/* Waits until every write that had returned before the call has reached the kernel.
 * Return       0: and unless somebody writes meanwhile the file's length is weir_writer_offset |
 *              the writer's first error, which stays
 * Progress     sleeps until the I/O is over. Does not hold writers up
 * Durability   process kill. With O_DIRECT a process that is killed in the middle of a flush, or a
 *              write that fails beside one, may leave the file longer by less than a block of
 *              zeros */
WEIR_API int weir_writer_flush(struct weir_writer *writer);
/* Flushes, then waits for an fdatasync that was begun after that. One serves all who wait. It does
 * not go beside a Sync of an executor on this writer, but after it.
 * Return       0 | the writer's first error, which stays. A failed fdatasync is not tried again, and
 *              an executor's counts: what it could not write may be of anybody
 * Progress     sleeps until the I/O is over. Does not hold writers up
 * Durability   at 0, of every write that had returned before the call: kernel crash and power cut */
WEIR_API int weir_writer_sync(struct weir_writer *writer);
/* Where the next write would go.
 * Return       bytes: the length of the file plus what is on its way. While others write it is a
 *              lower bound
 * Progress     wait-free */
WEIR_API uint64_t weir_writer_offset(struct weir_writer *writer);
/* The first error.
 * error_out    [out] may be NULL; filled in any case: what failed, file name, offset
 * Return       its code, 0 if there is none
 * Progress     wait-free */
WEIR_API int weir_writer_error(struct weir_writer *writer, struct weir_error *error_out);
/* What became of its config. Constant from the opening on.
 * effective_out  [out] a copy */
WEIR_API void weir_writer_effective(struct weir_writer *writer,
                                    struct weir_io_effective *effective_out);
/* Its figures, a snapshot. An executor on the writer has its own.
 * stats_out    [out] since the opening
 * Progress     wait-free */
WEIR_API void weir_writer_stats(struct weir_writer *writer, struct weir_io_stats *stats_out);
/* Flushes, but does not sync, and frees everything.
 * writer       may be NULL. Its executors have been closed. Gone afterwards in any case
 * error_out    [out] may be NULL; filled in any case
 * Return       0 | the writer's first error
 * Progress     sleeps until the I/O is over; joins the writer's thread
 * Durability   at 0: process kill */
WEIR_API int weir_writer_close(struct weir_writer *writer, struct weir_error *error_out);

/* -------------------------------------------------------------------------------------------------
 * Reader: any part of a file, from any number of threads
 * ---------------------------------------------------------------------------------------------- */

struct weir_reader;

/* Opens a file for reading. No link is followed at the last component; anything but a regular file
 * is refused.
 * path         not needed after the return
 * config       NULL = default. max_inflight is for all calls together
 * error_out    [out] may be NULL
 * Return       0 | -EINVAL a field, named in error_out, no path, or not a regular file | -ENOMEM |
 *              -ENOENT, -ELOOP, -EACCES, ... an errno of the file system | with
 *              WEIR_IO_BACKEND_URING, what refused the ring
 * Progress     I/O: opens; no thread is started before it is needed
 * Ownership    the reader is the caller's until weir_reader_close */
WEIR_API int weir_reader_open(const char *path,
                              const struct weir_io_config *config,
                              struct weir_reader **reader_out,
                              struct weir_error *error_out);
/* Reads from a position; there is no shared one. Large reads (above buffer_bytes) are split and put
 * on the ring side by side.
 * Return       bytes read: fewer than asked for only at the end of the file, 0 at or behind it |
 *              -EINVAL beyond 2^63 bytes | an errno; the buffer may have been written to, and where
 *              it was the ring that broke it must stay untouched until the process ends
 * Threads      any number at once, none waits for another's I/O
 * Progress     I/O, sleeps for it. Allocates only where direct_io meets memory or places that are
 *              not of whole blocks, and at a lane's first use
 * Ordering     what others write meanwhile may be seen or not, and in parts
 * Ownership    buffer is the caller's, and the call's until it returns */
WEIR_API int64_t weir_reader_read_at(struct weir_reader *reader,
                                     uint64_t offset,
                                     void *buffer,
                                     size_t bytes);
/* The same, all or nothing.
 * Return       0 | -ENODATA the file ends before; buffer may have been written to | -EINVAL, an
 *              errno as weir_reader_read_at
 * Threads, Progress, Ordering, Ownership  as weir_reader_read_at */
WEIR_API int
weir_reader_read_exact_at(struct weir_reader *reader, uint64_t offset, void *buffer, size_t bytes);
/* Length of the file now.
 * bytes_out    [out]
 * Return       0 | an errno
 * Progress     a system call */
WEIR_API int weir_reader_bytes(struct weir_reader *reader, uint64_t *bytes_out);
/* What became of its config. Constant from the opening on.
 * effective_out  [out] a copy */
WEIR_API void weir_reader_effective(struct weir_reader *reader,
                                    struct weir_io_effective *effective_out);
/* Its figures, a snapshot over all its rings and plain calls.
 * stats_out    [out] since the opening
 * Progress     wait-free */
WEIR_API void weir_reader_stats(struct weir_reader *reader, struct weir_io_stats *stats_out);
/* Frees everything.
 * reader       may be NULL. Its executors have been closed. Gone afterwards */
WEIR_API void weir_reader_close(struct weir_reader *reader);

/* -------------------------------------------------------------------------------------------------
 * Batch: a list of operations; executor: runs one
 * ---------------------------------------------------------------------------------------------- */

struct weir_batch;
struct weir_executor;

struct weir_op {
    enum weir_op_kind kind;
    uint64_t offset;  /* WRITE, READ */
    const void *data; /* WRITE */
    size_t bytes;     /* WRITE, READ */
};

struct weir_batch_stats {
    size_t total_ops;
    size_t write_ops;
    size_t read_ops;
    size_t sync_ops;
    uint64_t write_bytes;
    uint64_t read_bytes; /* asked for */
};

/* An empty batch. Threads, of this and all that follow: one at a time uses a batch, not always the
 * same. None of them does I/O or sleeps.
 * memory       NULL = as in a config; what it points to is borrowed until weir_batch_free
 * Return       0 | -ENOMEM
 * Ownership    the batch is the caller's until weir_batch_free */
WEIR_API int weir_batch_new(const struct weir_memory_hooks *memory, struct weir_batch **batch_out);
/* Frees it, with what is in it.
 * batch        may be NULL. Gone afterwards */
WEIR_API void weir_batch_free(struct weir_batch *batch);
/* Adds a WRITE at the end.
 * offset       in the file
 * data         [in] copied before return; may be NULL iff bytes is 0
 * bytes        any number; 0 is legal, and an operation that does nothing
 * Return       0 | the batch is as it was: -ENOMEM | -EINVAL data is missing | -EFBIG offset + bytes
 *              is beyond 2^63
 * Progress     allocates where what it has does not do */
WEIR_API int
weir_batch_write(struct weir_batch *batch, uint64_t offset, const void *data, size_t bytes);
/* Adds a READ at the end. As weir_batch_write; what is read is the executor's (weir_read_result). */
WEIR_API int weir_batch_read(struct weir_batch *batch, uint64_t offset, size_t bytes);
/* Adds a Sync at the end.
 * Return       0 | -ENOMEM the batch is as it was */
WEIR_API int weir_batch_sync(struct weir_batch *batch);
/* Return: operations in it. */
WEIR_API size_t weir_batch_len(const struct weir_batch *batch);
/* Return: whether there are none. */
WEIR_API bool weir_batch_is_empty(const struct weir_batch *batch);
/* Takes all operations out, undone. Keeps a little memory for the next ones. */
WEIR_API void weir_batch_clear(struct weir_batch *batch);
/* Gives the operations out in order and empties the batch.
 * take         called once for each, in order; op and op->data live for the call. It may add to the
 *              batch: that is there afterwards, and not given out
 * ctx          handed to take */
WEIR_API void weir_batch_drain(struct weir_batch *batch,
                               void (*take)(void *ctx, const struct weir_op *op),
                               void *ctx);
/* One operation.
 * index        0 .. len - 1
 * op_out       [out] its data is the batch's, and lives until the batch changes
 * Return       0 | -EINVAL there is no such one */
WEIR_API int weir_batch_at(const struct weir_batch *batch, size_t index, struct weir_op *op_out);
/* Return: bytes of all its WRITEs. */
WEIR_API uint64_t weir_batch_pending_write_bytes(const struct weir_batch *batch);
/* Return: how many WRITEs it has. */
WEIR_API size_t weir_batch_pending_write_ops(const struct weir_batch *batch);
/* Return: how many READs it has. */
WEIR_API size_t weir_batch_pending_read_ops(const struct weir_batch *batch);
/* What is in it, by kinds.
 * stats_out    [out] exact: who uses the batch is one at a time */
WEIR_API void weir_batch_stats(const struct weir_batch *batch, struct weir_batch_stats *stats_out);

struct weir_read_result {
    uint64_t offset;  /* as in the operation */
    const void *data; /* the executor's, until the next weir_executor_execute or its close */
    size_t bytes;     /* fewer than asked for only at the end of the file */
};

struct weir_execution {
    size_t executed; /* operations done, from the first on */
    size_t failed;   /* index of the operation that failed; SIZE_MAX if none did */
    int code;        /* its error, 0 */
    /* Operations behind the failed one that may have been carried out: 0, but with
     * WEIR_EXECUTOR_SIDE_BY_SIDE, or where the ring itself broke, those that were submitted. */
    size_t unsure;
    const struct weir_read_result *reads; /* of the reads executed, in order */
    size_t read_count;
};

enum weir_executor_flags {
    /* Operations between two Syncs that do not overlap run side by side: faster on a device, and
     * after an error some behind the failed one may have been carried out too. Without it every
     * operation begins after the one before has ended well; with kernel_poll, in a kernel that runs
     * out of memory in the middle of a submission, that holds of the Syncs alone. */
    WEIR_EXECUTOR_SIDE_BY_SIDE = 1,
};

/* Opens an executor on a writer, a reader, or both; their files, with a ring of its own. They must
 * stay open. Operations name their positions: the writer's own end is not moved, and what is
 * executed below it must not be on its way there (flush first). With direct_io the block that holds
 * the writer's end is the writer's alone for as long as it writes: it is rewritten from memory. What
 * is executed behind that block stays there, but not beside a call on the writer: where the file
 * ends is found out and set in two steps.
 * writer       may be NULL: a WRITE is then -EINVAL; a Sync succeeds and does nothing
 * reader       may be NULL: a READ is then -EINVAL
 * config       NULL = the writer's, else the reader's; direct_io is that of the files
 * flags        of enum weir_executor_flags, or 0
 * error_out    [out] may be NULL
 * Return       0 | -EINVAL neither of the two, a flag, or a field, named in error_out | -ENOMEM |
 *              with WEIR_IO_BACKEND_URING, what refused the ring
 * Threads      one at a time uses an executor, not always the same
 * Progress     system calls, no I/O on the files
 * Ownership    the executor is the caller's until weir_executor_close, which comes before that of
 *              the writer and the reader */
WEIR_API int weir_executor_open(struct weir_writer *writer,
                                struct weir_reader *reader,
                                const struct weir_io_config *config,
                                unsigned flags,
                                struct weir_executor **executor_out,
                                struct weir_error *error_out);
/* weir_executor_open with one of the two, its config, and no flags. All else as there. */
WEIR_API int weir_executor_for_writer(struct weir_writer *writer,
                                      struct weir_executor **executor_out,
                                      struct weir_error *error_out);
/* The same on a reader. */
WEIR_API int weir_executor_for_reader(struct weir_reader *reader,
                                      struct weir_executor **executor_out,
                                      struct weir_error *error_out);
/* Carries out a batch, in its order: a Sync comes after all before it and before all after it. One
 * submission per max_inflight operations. On direct files any offset and length will do; a write
 * that is not of whole blocks goes alone, and the file's length is exact when it has ended.
 * batch        emptied on success; on an error it keeps the failed operation and those behind it
 * execution_out  [out] may be NULL; also filled on an error
 * Return       0 | -EINVAL a WRITE without a writer or a READ without a reader, and -ENOMEM for
 *              what is to be read: found before anything is executed, the batch is as it was | the
 *              first failed operation's error. A failed Sync is final: what it could not write may
 *              be gone. Every later Sync on the file fails with the same error, of this executor, of
 *              others on the same writer, and of the writer, which then takes no more writes; and
 *              after a failed sync of the writer's, every Sync of its executors does
 * Threads      one at a time, as for the executor
 * Progress     sleeps until all is over. A window that holds a Sync waits for a sync of the writer's
 *              or of another executor's that is under way; each side gets every second turn
 * Durability   at 0, of everything before the last Sync, also what the writer had flushed before the
 *              call: kernel crash and power cut. The rest: process kill
 * Ordering     in order, or with WEIR_EXECUTOR_SIDE_BY_SIDE as if in order but for errors
 * Ownership    the results are the executor's, until its next execute or its close */
WEIR_API int weir_executor_execute(struct weir_executor *executor,
                                   struct weir_batch *batch,
                                   struct weir_execution *execution_out);
/* What became of its config. Constant from the opening on.
 * effective_out  [out] a copy */
WEIR_API void weir_executor_effective(struct weir_executor *executor,
                                      struct weir_io_effective *effective_out);
/* Its figures, a snapshot.
 * stats_out    [out] since the opening
 * Threads      any, also while another one executes
 * Progress     wait-free */
WEIR_API void weir_executor_stats(struct weir_executor *executor, struct weir_io_stats *stats_out);
/* Frees it, with its results. The writer and the reader stay open.
 * executor     may be NULL. Gone afterwards */
WEIR_API void weir_executor_close(struct weir_executor *executor);

/* -------------------------------------------------------------------------------------------------
 * Segment reader: one file of a log, or a plain file
 * ---------------------------------------------------------------------------------------------- */

struct weir_segment;

struct weir_segment_info {
    bool is_segment; /* its header verifies; the rest says nothing if not */
    uint64_t log_id;
    uint64_t number;
    weir_lsn base_lsn;
    weir_lsn end_lsn;
    uint64_t epoch;
    uint32_t block_bytes;
};

/* Opens one file. A segment of a live log may be opened: what is not durable yet may be seen or
 * not.
 * path, config, error_out, Progress  as weir_reader_open
 * Return       as weir_reader_open. A file that is no segment can be read all the same, but not
 *              record by record
 * Ownership    the segment is the caller's until weir_segment_close */
WEIR_API int weir_segment_open(const char *path,
                               const struct weir_io_config *config,
                               struct weir_segment **segment_out,
                               struct weir_error *error_out);
/* Bytes from an offset of the file, unverified: as many as there are, at most max_bytes.
 * Return       bytes, 0 at or behind the end | -EINVAL, an errno as weir_reader_read_at
 * Threads, Progress, Ordering, Ownership  as weir_reader_read_at */
WEIR_API int64_t weir_segment_read_messages(struct weir_segment *segment,
                                            uint64_t offset,
                                            void *buffer,
                                            size_t max_bytes);
/* The same, all or nothing.
 * Return       0 | -ENODATA the file ends before; buffer may have been written to | an errno */
WEIR_API int
weir_segment_read_range(struct weir_segment *segment, uint64_t offset, void *buffer, size_t bytes);
/* Length of the file now.
 * bytes_out    [out]
 * Return       0 | an errno
 * Progress     a system call */
WEIR_API int weir_segment_len(struct weir_segment *segment, uint64_t *bytes_out);
/* Return: whether that is 0; false where it cannot be learnt. A system call. */
WEIR_API bool weir_segment_is_empty(struct weir_segment *segment);
/* What its header says. Constant from the opening on.
 * info_out     [out] a copy */
WEIR_API void weir_segment_describe(struct weir_segment *segment,
                                    struct weir_segment_info *info_out);
/* The next record, verified: header, frame and payload checksums, and that its batch continues the
 * one before. Whether the log goes on, and where it ends, only weir_verify can say: one file cannot
 * tell a torn batch from a stale one.
 * entry_out    data lives until the next call on the segment's records
 * Return       0 | WEIR_EEND no further batch continues here | WEIR_ECORRUPT a batch that does has
 *              frames that do not verify: its LSN stands in entry_out->lsn | WEIR_EFORMAT it is no
 *              segment | an errno
 * Threads      one at a time, for this call and the next
 * Progress     I/O, sleeps for it
 * On error     entry_out is written to in any case; the next call looks at the same place again */
WEIR_API int weir_segment_next(struct weir_segment *segment, struct weir_entry *entry_out);
/* Begins again at the first record at or after an LSN; WEIR_LSN_OLDEST: at the first of all.
 * Return       0 | -EINVAL outside of the file | WEIR_EFORMAT it is no segment
 * Threads      one at a time, as weir_segment_next
 * Progress     no I/O: the next weir_segment_next does it */
WEIR_API int weir_segment_seek(struct weir_segment *segment, weir_lsn lsn);
/* Its figures, a snapshot.
 * stats_out    [out] since the opening
 * Progress     wait-free */
WEIR_API void weir_segment_stats(struct weir_segment *segment, struct weir_io_stats *stats_out);
/* Frees everything, the record handed out last with it.
 * segment      may be NULL. Gone afterwards */
WEIR_API void weir_segment_close(struct weir_segment *segment);

#ifdef __cplusplus
}
#endif

#endif
