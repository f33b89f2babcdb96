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
 * states its threads; where a line is missing the answer is "none" or, for Threads, "any thread".
 * After fork() the objects belong to the parent. */
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
    /* Borrowed until the object is closed. NULL = jemalloc if the process has it, else malloc. */
    const struct weir_memory_hooks *memory;
};

/* The presets.
 *                      entries  poll   idle ms  in flight  direct  buffers  bytes
 *   default             1024    no       10       256      no        64    64 KiB
 *   high_throughput     4096    yes     100      1024      yes      256   256 KiB
 *   low_latency          256    yes       1        64      yes       32    16 KiB
 *   minimal              128    no        0        32      no         8     4 KiB
 * All with WEIR_IO_BACKEND_AUTO and without hooks. */
WEIR_API struct weir_io_config weir_io_config_default(void);
WEIR_API struct weir_io_config weir_io_config_high_throughput(void);
WEIR_API struct weir_io_config weir_io_config_low_latency(void);
WEIR_API struct weir_io_config weir_io_config_minimal(void);

/* Is it valid? Every call that takes a config asks this first.
 * config       NULL = default, which is valid
 * error_out    [out] may be NULL; text names the field and its bounds
 * Return       0 | -EINVAL */
WEIR_API int weir_io_config_check(const struct weir_io_config *config,
                                  struct weir_error *error_out);

/* Can this process use io_uring, now? Sets a ring up and asks it for every opcode that is needed.
 * reason       [out] may be NULL: "" or a sentence that says who refuses it, and the way out
 * Return       true: yes */
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

/* Submitted less completed; 0 where a snapshot shows more completed than submitted. */
WEIR_API uint64_t weir_io_stats_in_flight(const struct weir_io_stats *stats);
/* Completed by submitted, 0.0 .. 1.0; 1.0 where nothing was submitted. */
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
 * Return       0 | -EINVAL a field, named in error_out | -ENOMEM | with WEIR_IO_BACKEND_URING, what
 *              refused the ring
 * Threads      one at a time uses a queue, not always the same */
WEIR_API int weir_io_queue_open(const struct weir_io_config *config,
                                struct weir_io_queue **queue_out,
                                struct weir_error *error_out);
/* Hands requests over, in one submission. They run side by side; only what was submitted after
 * another's end is ordered behind it. Short results are gone on with.
 * Return       how many were taken, from the first on: fewer than count where max_inflight is
 *              reached (ends not collected yet count) or one is not valid | if none was taken:
 *              -EAGAIN no room, collect ends first | -EINVAL the first is not valid | an errno
 * Progress     with the pool and a single request: none, it runs in the next call for ends */
WEIR_API int weir_io_queue_submit(struct weir_io_queue *queue,
                                  const struct weir_io_request *requests,
                                  size_t count);
/* Collects ends, at least min (or all that are under way, where that is fewer), at most max.
 * timeout_ns   WEIR_TRY, WEIR_FOREVER or ns from now
 * Return       how many; fewer than min after the timeout | an errno: the ring is broken, and
 *              memory that it was given must stay untouched until the process ends */
WEIR_API int weir_io_queue_wait(struct weir_io_queue *queue,
                                struct weir_io_end *ends,
                                size_t max,
                                size_t min,
                                int64_t timeout_ns);
/* The index-th of the registered buffers: writes from it and reads into it cost the kernel less.
 * Return: config.buffer_bytes of memory, aligned to 4096; NULL if there is no such one. */
WEIR_API void *weir_io_queue_buffer(struct weir_io_queue *queue, uint32_t index);
WEIR_API void weir_io_queue_effective(struct weir_io_queue *queue,
                                      struct weir_io_effective *effective_out);
/* Threads: any, while the queue is open. */
WEIR_API void weir_io_queue_stats(struct weir_io_queue *queue, struct weir_io_stats *stats_out);
/* Waits for what is under way; its ends are lost. queue may be NULL. */
WEIR_API void weir_io_queue_close(struct weir_io_queue *queue);

/* -------------------------------------------------------------------------------------------------
 * Writer: a file that grows at its end, from any number of threads
 * ---------------------------------------------------------------------------------------------- */

struct weir_writer;

/* Opens a file for appending: makes it (0600) if it is missing, goes on at its end if it is there.
 * No link is followed at the last component; anything but a regular file is refused. Nothing stops
 * a second writer on the same file: that is the caller's.
 * config       NULL = default
 * error_out    [out] may be NULL; filled on failure
 * Return       0 | -EINVAL | -ENOMEM | -ELOOP, -EACCES, ... an errno of the file system
 * Durability   a file that was made is in its directory for good: that was synced */
WEIR_API int weir_writer_create(const char *path,
                                const struct weir_io_config *config,
                                struct weir_writer **writer_out,
                                struct weir_error *error_out);
/* The same for a file that must be there: -ENOENT. It goes on at its end. */
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
 * Threads      any number at once. No two get overlapping ranges
 * Progress     takes its place by one fetch-add, copies; sleeps while all buffers are full
 * Durability   none: weir_writer_flush, weir_writer_sync. An error of the write itself shows there,
 *              or at a later write */
WEIR_API int
weir_writer_write(struct weir_writer *writer, const void *data, size_t bytes, uint64_t *offset_out);
/* Waits until every write that had returned before the call has reached the kernel.
 * Return       0: and unless somebody writes meanwhile the file's length is weir_writer_offset |
 *              the writer's first error, which stays
 * Durability   process kill. With O_DIRECT a process that is killed in the middle of a flush, or a
 *              write that fails beside one, may leave the file longer by less than a block of
 *              zeros */
WEIR_API int weir_writer_flush(struct weir_writer *writer);
/* Flushes, then waits for an fdatasync that was begun after that. A failed one is not tried again:
 * the error stays.
 * Durability   kernel crash and power cut */
WEIR_API int weir_writer_sync(struct weir_writer *writer);
/* Where the next write would go: the length of the file plus what is on its way. Wait-free. */
WEIR_API uint64_t weir_writer_offset(struct weir_writer *writer);
/* The first error, with file name and offset. Return: its code, 0 if there is none. */
WEIR_API int weir_writer_error(struct weir_writer *writer, struct weir_error *error_out);
WEIR_API void weir_writer_effective(struct weir_writer *writer,
                                    struct weir_io_effective *effective_out);
WEIR_API void weir_writer_stats(struct weir_writer *writer, struct weir_io_stats *stats_out);
/* Flushes, but does not sync, and frees everything. No other thread may be inside a call.
 * Return       0 | the writer's first error; the writer is gone in any case. NULL: 0 */
WEIR_API int weir_writer_close(struct weir_writer *writer, struct weir_error *error_out);

/* -------------------------------------------------------------------------------------------------
 * Reader: any part of a file, from any number of threads
 * ---------------------------------------------------------------------------------------------- */

struct weir_reader;

/* Opens a file for reading. As weir_writer_open. */
WEIR_API int weir_reader_open(const char *path,
                              const struct weir_io_config *config,
                              struct weir_reader **reader_out,
                              struct weir_error *error_out);
/* Reads from a position; there is no shared one. Large reads (above buffer_bytes) are split and put
 * on the ring side by side.
 * Return       bytes read: fewer than asked for only at the end of the file, 0 at or behind it |
 *              -EINVAL beyond 2^63 bytes | an errno; the buffer may have been written to, and where
 *              it was the ring that broke it must stay untouched until the process ends
 * Threads      any number at once, none waits for another's I/O */
WEIR_API int64_t weir_reader_read_at(struct weir_reader *reader,
                                     uint64_t offset,
                                     void *buffer,
                                     size_t bytes);
/* The same, all or nothing.
 * Return       0 | -ENODATA the file ends before; buffer may have been written to | an errno */
WEIR_API int
weir_reader_read_exact_at(struct weir_reader *reader, uint64_t offset, void *buffer, size_t bytes);
/* Length of the file now. Return: 0 or an errno. */
WEIR_API int weir_reader_bytes(struct weir_reader *reader, uint64_t *bytes_out);
WEIR_API void weir_reader_effective(struct weir_reader *reader,
                                    struct weir_io_effective *effective_out);
WEIR_API void weir_reader_stats(struct weir_reader *reader, struct weir_io_stats *stats_out);
/* No other thread may be inside a call. reader may be NULL. */
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

/* An empty batch. Threads: one at a time uses a batch.
 * memory       may be NULL; borrowed until weir_batch_free
 * Return       0 | -ENOMEM */
WEIR_API int weir_batch_new(const struct weir_memory_hooks *memory, struct weir_batch **batch_out);
WEIR_API void weir_batch_free(struct weir_batch *batch);
/* Each adds an operation at the end. data is copied. bytes may be 0.
 * Return       0 | -ENOMEM, -EINVAL, -EFBIG offset + bytes beyond 2^63: the batch is as it was */
WEIR_API int
weir_batch_write(struct weir_batch *batch, uint64_t offset, const void *data, size_t bytes);
WEIR_API int weir_batch_read(struct weir_batch *batch, uint64_t offset, size_t bytes);
WEIR_API int weir_batch_sync(struct weir_batch *batch);
WEIR_API size_t weir_batch_len(const struct weir_batch *batch);
WEIR_API bool weir_batch_is_empty(const struct weir_batch *batch);
WEIR_API void weir_batch_clear(struct weir_batch *batch);
/* Gives the operations out in order and empties the batch. take: op->data lives for the call. */
WEIR_API void weir_batch_drain(struct weir_batch *batch,
                               void (*take)(void *ctx, const struct weir_op *op),
                               void *ctx);
/* The index-th operation; its data lives until the batch changes. Return: 0 | -EINVAL. */
WEIR_API int weir_batch_at(const struct weir_batch *batch, size_t index, struct weir_op *op_out);
WEIR_API uint64_t weir_batch_pending_write_bytes(const struct weir_batch *batch);
WEIR_API size_t weir_batch_pending_write_ops(const struct weir_batch *batch);
WEIR_API size_t weir_batch_pending_read_ops(const struct weir_batch *batch);
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
     * operation begins after the one before has ended well. */
    WEIR_EXECUTOR_SIDE_BY_SIDE = 1,
};

/* Opens an executor on a writer, a reader, or both; their files, with a ring of its own. They must
 * stay open. Operations name their positions: the writer's own end is not moved, and what is
 * executed below it must not be on its way there (flush first). With direct_io the block that holds
 * the writer's end is the writer's alone for as long as it writes: it is rewritten from memory.
 * writer       may be NULL: a WRITE is then -EINVAL; a Sync succeeds and does nothing
 * reader       may be NULL: a READ is then -EINVAL
 * config       NULL = the writer's, else the reader's; direct_io is that of the files
 * Threads      one at a time uses an executor, not always the same */
WEIR_API int weir_executor_open(struct weir_writer *writer,
                                struct weir_reader *reader,
                                const struct weir_io_config *config,
                                unsigned flags,
                                struct weir_executor **executor_out,
                                struct weir_error *error_out);
/* weir_executor_open with one of the two, its config, and no flags. */
WEIR_API int weir_executor_for_writer(struct weir_writer *writer,
                                      struct weir_executor **executor_out,
                                      struct weir_error *error_out);
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
 *              be gone, and every later Sync of this executor fails with the same error
 * Durability   at 0: of everything before the last Sync */
WEIR_API int weir_executor_execute(struct weir_executor *executor,
                                   struct weir_batch *batch,
                                   struct weir_execution *execution_out);
WEIR_API void weir_executor_effective(struct weir_executor *executor,
                                      struct weir_io_effective *effective_out);
WEIR_API void weir_executor_stats(struct weir_executor *executor, struct weir_io_stats *stats_out);
/* executor may be NULL. */
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
 * Return       as weir_reader_open. A file that is no segment can be read all the same, but not
 *              record by record */
WEIR_API int weir_segment_open(const char *path,
                               const struct weir_io_config *config,
                               struct weir_segment **segment_out,
                               struct weir_error *error_out);
/* Bytes from an offset of the file, unverified: as many as there are, at most max_bytes.
 * Return       bytes, 0 at or behind the end | an errno
 * Threads      any number at once */
WEIR_API int64_t weir_segment_read_messages(struct weir_segment *segment,
                                            uint64_t offset,
                                            void *buffer,
                                            size_t max_bytes);
/* The same, all or nothing. Return: 0 | -ENODATA | an errno. */
WEIR_API int
weir_segment_read_range(struct weir_segment *segment, uint64_t offset, void *buffer, size_t bytes);
/* Length of the file, and whether that is 0. Return of the first: 0 or an errno. */
WEIR_API int weir_segment_len(struct weir_segment *segment, uint64_t *bytes_out);
WEIR_API bool weir_segment_is_empty(struct weir_segment *segment);
WEIR_API void weir_segment_describe(struct weir_segment *segment,
                                    struct weir_segment_info *info_out);
/* The next record, verified: header, frame and payload checksums, and that its batch continues the
 * one before. Whether the log goes on, and where it ends, only weir_verify can say: one file cannot
 * tell a torn batch from a stale one.
 * entry_out    data lives until the next call on the segment's records
 * Return       0 | WEIR_EEND no further batch continues here | WEIR_ECORRUPT a batch that does has
 *              frames that do not verify: its LSN stands in entry_out->lsn | WEIR_EFORMAT it is no
 *              segment | an errno
 * Threads      one at a time, for this call and the next */
WEIR_API int weir_segment_next(struct weir_segment *segment, struct weir_entry *entry_out);
/* Begins again at the first record at or after an LSN; WEIR_LSN_OLDEST: at the first of all.
 * Return       0 | -EINVAL outside of the file | WEIR_EFORMAT it is no segment */
WEIR_API int weir_segment_seek(struct weir_segment *segment, weir_lsn lsn);
WEIR_API void weir_segment_stats(struct weir_segment *segment, struct weir_io_stats *stats_out);
/* segment may be NULL. */
WEIR_API void weir_segment_close(struct weir_segment *segment);

#ifdef __cplusplus
}
#endif

#endif
