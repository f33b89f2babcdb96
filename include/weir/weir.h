/* SPDX-License-Identifier: Apache-2.0
 *
 * weir: an embeddable write-ahead log for many producers. The whole public interface.
 *
 * A log is a directory. One process at a time has it open for appending; any number of processes
 * read it meanwhile. Producers append from any number of threads; one flusher thread of the log
 * makes batches durable; a keeper thread prepares segments and keeps the log's few durable facts.
 * The library prints nothing, installs no signal handler, changes no global state.
 *
 * Before you embed it:
 *  - Durable means: survives process kill, kernel crash and power cut, on a device and file system
 *    that honour flush.
 *  - The fate of an append that failed or timed out while waiting is unknown until the log is
 *    reopened: the record is then there once, or not at all.
 *  - After fork() a handle belongs to the parent. In the child every call on it returns
 *    WEIR_EFORKED; do not close it.
 *  - No call is safe in a signal handler. Threads must not be cancelled asynchronously inside a
 *    call.
 *  - Network file systems: locks and syncs are then another machine's word. Not supported for
 *    appending.
 *  - Ignore SIGXFSZ if you set RLIMIT_FSIZE, or the process may be killed.
 *
 * Every function below states: parameters with units, Return, Threads, Progress (may it sleep, does
 * it do I/O), Durability, Ordering, Ownership. Where a line is missing the answer is "none" or, for
 * Threads, "any thread". */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir/codes.h>
#include <weir/version.h>

#if defined(__GNUC__)
#define WEIR_API __attribute__((visibility("default")))
#else
#define WEIR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct weir_log;
struct weir_cursor;

/* -------------------------------------------------------------------------------------------------
 * Errors and version
 * ---------------------------------------------------------------------------------------------- */

/* Where and why: filled by calls that take one. offset and lsn are UINT64_MAX where they say
 * nothing. */
struct weir_error {
    int code;        /* what the call returned */
    int system_code; /* the errno beneath it, 0 if none */
    uint64_t offset; /* in file, bytes */
    weir_lsn lsn;
    char file[64];  /* name inside the log's directory, "" if none */
    char text[400]; /* one sentence: what failed, and the way out */
};

/* Text of a code: one of ours, or a negative errno. Return: static string, never NULL. Threads:
 * any. */
WEIR_API const char *weir_strerror(int code);
/* Name of a code: "WEIR_ECORRUPT", "ENOSPC". Return: static string, never NULL. Threads: any. */
WEIR_API const char *weir_error_name(int code);
/* The library's own version, "0.1.0"; compare with WEIR_VERSION_STRING of the header. Return:
 * static string. */
WEIR_API const char *weir_version(void);

/* -------------------------------------------------------------------------------------------------
 * Options
 * ---------------------------------------------------------------------------------------------- */

/* How batches are made durable. See ARCHITECTURE.md, "Four ways". */
enum weir_io {
    /* By what the directory and the kernel offer, and by what is pending at each submission. */
    WEIR_IO_AUTO = 0,
    WEIR_IO_CHAIN, /* io_uring: write linked to fdatasync */
    WEIR_IO_DSYNC, /* io_uring: one write with RWF_DSYNC */
    WEIR_IO_POSIX, /* no io_uring: pwritev2(RWF_DSYNC) */
};

/* What waiting producers and the flusher do with the CPU before they sleep. Where many producers
 * wait at once they yield it (sched_yield) a bounded number of times before they sleep, and the
 * flusher lets those that it has just woken append before it seals the next batch, for 40 us at
 * most. That spares sleeps and wake-ups, and makes batches larger; it makes the CPU look busy where
 * it would have been idle, though other threads that want it get it. Where a yield gives the
 * CPU to a stranger for a whole time slice, there are none for 16 ms, and up to 1 s if it comes back. */
enum weir_policy {
    /* Yields from 8 waiting producers per core on, 3 times at most: a tenth to a third more records,
     * at a fifth to a third more CPU for each. From 12 on, 30 times: more records for the same or
     * less CPU each. Figures: engine/PERFORMANCE.md. */
    WEIR_POLICY_DEFAULT = 0,
    /* Up to 30 times from 6 per core on: shorter waits, at up to twice the CPU per record, and no idle core. */
    WEIR_POLICY_LOW_LATENCY,
    /* Nobody yields, nobody is waited for, no producer does I/O. */
    WEIR_POLICY_OFF,
};

/* What a record has survived. */
enum weir_level {
    WEIR_DURABLE = 0, /* power cut. The default of everything */
    /* Kill of the process: the kernel has it. With dsync and posix it comes with durable. */
    WEIR_WRITTEN = 1,
    WEIR_APPENDED = 2, /* nothing yet: it has its place in the order */
};

enum weir_event_kind {
    WEIR_EVENT_FALLBACK = 1, /* io_uring or a feature of it was refused; text says what and why */
    WEIR_EVENT_POISON,       /* the first write or sync error; the log takes no more */
    WEIR_EVENT_STALL, /* a producer holds up the log for longer than stall_warn_ns (value: ns) */
    WEIR_EVENT_SPACE_LOW,  /* a segment could not be prepared: disk full (value: bytes wanted) */
    WEIR_EVENT_SPACE_BACK, /* preparing works again */
    WEIR_EVENT_RECOVERED,  /* opening found a torn or stale tail and cut it (value: bytes cut) */
    /* For longer than stall_warn_ns nothing became durable, and it is no producer that holds it up
     * (value: ns): the device does not answer, or the flusher's thread is stopped. Told once; no
     * failure, stall_limit_ns does not count for it. */
    WEIR_EVENT_SLOW,
};

struct weir_event {
    enum weir_event_kind kind;
    int code;
    weir_lsn lsn;
    uint64_t value;
    const char *text; /* lives for the call */
};

struct weir_memory_hooks {
    void *(*alloc)(void *ctx, size_t bytes, size_t align); /* any thread; NULL = out of memory */
    void (*release)(void *ctx, void *block, size_t bytes);
    void *ctx;
};

struct weir_options {
    size_t struct_bytes; /* sizeof(struct weir_options); set by WEIR_OPTIONS_INIT */
    enum weir_io io;
    bool read_only;  /* open a log, live or not, for cursors only; takes no lock, writes nothing */
    bool must_exist; /* do not create: WEIR_ENOLOG if there is no log */
    bool buffered;   /* do not use O_DIRECT even where the file system takes it */
    bool no_huge_pages; /* do not ask for them: for hosts that count every page */
    /* Of segments to come; a multiple of the block. 0 = 64 MiB (an existing log: as it is). */
    uint64_t segment_bytes;
    /* At creation only. 0 = 4096, or more if the device's direct I/O needs it. */
    uint32_t block_bytes;
    /* In which a batch is gathered: 4 KiB..16 MiB, a multiple of the block. 0 = 1 MiB. */
    uint32_t slot_bytes;
    uint32_t slots; /* 2..512. 0 = 8. Memory: slots * slot_bytes */
    /* Largest record or group, at most a segment less its headers. 0 = 16 MiB. */
    uint32_t record_bytes_max;
    uint32_t oversize_buffers; /* for records and groups beyond a slot. 0 = 1; 1..64; more wait */
    uint32_t max_inflight;     /* writes or chains under way at once. 0 = 8; 1..256 */
    /* Prepared ahead of need; while trimmed segments are recycled, the last of them when half of the
     * current segment is used, at the latest. 0 = 1; 1..16 */
    uint32_t spare_segments;
    uint32_t recycle_segments; /* trimmed segments kept for recycling; more are removed. 0 = 16 */
    /* To wait for a dying writer's last writes. 0 = 2 s; UINT64_MAX = do not wait. */
    uint64_t lock_timeout_ns;
    /* How long one producer may hold up the others: by a reservation that it does not commit, or,
     * where it was alone and makes its record durable itself, by not coming back from that write.
     * A process that is stopped as a whole holds nobody up. 0 = 1 s. */
    uint64_t stall_warn_ns;
    /* Beyond it the log is poisoned with WEIR_ESTALLED; to be longer than any write of the device
     * may take. 0 = never. */
    uint64_t stall_limit_ns;
    weir_lsn first_lsn; /* at creation only: where the LSNs begin, multiple of the block. 0 = 0 */
    enum weir_policy policy;
    /* Borrowed until close. NULL = jemalloc if the process has it, else malloc. */
    const struct weir_memory_hooks *memory;
    /* Called from the flusher, the keeper and from weir_open; must not call weir on the same log;
     * must be quick. */
    void (*on_event)(void *ctx, const struct weir_event *event);
    void *event_ctx;
    /* Called from weir_open while it scans: bytes done of total. */
    void (*on_progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
};
#define WEIR_OPTIONS_INIT                                                                          \
    {                                                                                              \
        .struct_bytes = sizeof(struct weir_options)                                                \
    }

/* Upper bound of the memory that a log with these options allocates, without cursors, in bytes.
 * NULL = defaults.
 *   slots * slot_bytes + oversize_buffers * (record_bytes_max + block)
 *   + prefill chunk + rings and tables
 * each I/O buffer rounded up to 2 MiB (4 KiB below that). A cursor takes weir_cursor_memory_bound
 * more.
 * Return: bytes, 0 if the options are not valid. Threads: any. */
WEIR_API uint64_t weir_memory_bound(const struct weir_options *options);
/* The same for one cursor on a log with these options. */
WEIR_API uint64_t weir_cursor_memory_bound(const struct weir_options *options);

/* -------------------------------------------------------------------------------------------------
 * Opening and closing
 * ---------------------------------------------------------------------------------------------- */

/* How the log ended when it was opened, told by evidence. */
enum weir_verdict {
    WEIR_VERDICT_CLEAN = 0,  /* closed cleanly, or nothing but zeros behind the last batch */
    WEIR_VERDICT_STALE,      /* bytes of an earlier use of the file behind the last batch */
    WEIR_VERDICT_TORN,       /* bad bytes at or above every promise: never acknowledged */
    WEIR_VERDICT_CORRUPT,    /* bad bytes below a promise */
    WEIR_VERDICT_UNREADABLE, /* the device could not read a block */
};

/* What the scan of a log found. */
struct weir_report {
    enum weir_verdict verdict;
    weir_lsn oldest_lsn;  /* first position that is still there */
    weir_lsn end_lsn;     /* behind the last batch that verifies */
    weir_lsn promise_lsn; /* the highest promise seen anywhere */
    /* Where the scan began: the checkpoint; for weir_verify the first batch of the segment that
     * holds the oldest LSN. */
    weir_lsn scan_from_lsn;
    uint64_t epoch; /* newest */
    uint64_t log_id;
    uint64_t records; /* scanned */
    uint64_t batches;
    uint64_t bytes_scanned;
    uint64_t
        bytes_cached;   /* read from the page cache, by WEIR_VERIFY_CACHED: not from the device */
    uint64_t bytes_cut; /* torn: extent of the bytes behind end_lsn that were not zero */
    uint64_t segments;  /* files of the log, prepared ones not counted */
    weir_lsn bad_lsn; /* corrupt, unreadable: the position that does not verify; else UINT64_MAX */
    /* Where the deciding evidence stands (a later batch, a promise); else UINT64_MAX. */
    weir_lsn evidence_lsn;
    bool writer_live;        /* another process has it open for appending */
    struct weir_error error; /* corrupt, unreadable: file, offset, LSN */
    char why[400];           /* one sentence: why the log ends here */
};

/* Opens a log, creating it if need be, recovers it, and starts its threads.
 * dir          path of the directory; created (0700) if missing, its parent is not
 * options      NULL = defaults
 * log_out      [out] written only on 0
 * error_out    [out] may be NULL; filled on failure
 * Return       0 | -EINVAL an option, named in error_out | -EBUSY somebody has it open for
 *              appending, also this process | WEIR_ECORRUPT, WEIR_EUNREADABLE, WEIR_EFORMAT every
 *              byte of the log left as it was | WEIR_ENOLOG | -ENOSPC | -ENOMEM | -ENOSYS, -EPERM,
 *              ... io_uring was demanded (chain, dsync) and refused | any errno of the file system
 * Progress     I/O: reads from the last checkpoint to the end of the last prepared segment;
 *              prepares the first segment; sleeps up to lock_timeout_ns
 * Durability   what was kept is durable, the cut is durable and a new epoch has begun, before this
 *              returns
 * Ownership    the handle is the caller's until weir_close */
WEIR_API int weir_open(const char *dir,
                       const struct weir_options *options,
                       struct weir_log **log_out,
                       struct weir_error *error_out);

/* Stops taking records: appends that have not reserved yet, and later ones, get WEIR_ESHUTDOWN.
 * Everything reserved is made durable. Producers may still be calling.
 * timeout_ns   relative; negative = as long as it takes
 * Return       0 all that was appended is durable | -ETIMEDOUT still draining | WEIR_EFAILED the
 *              log was poisoned: see weir_log_error; records from weir_durable_lsn on are lost to
 *              this process
 * Threads      any, any number; not from on_event. Progress: sleeps */
WEIR_API int weir_shutdown(struct weir_log *log, int64_t timeout_ns);

/* Shuts down if that was not done, marks the log clean, joins the threads, frees everything.
 * log          may be NULL. No other thread may be inside a call on it, nor a cursor of it be open
 *              (-EBUSY, nothing done)
 * error_out    [out] may be NULL: on WEIR_EFAILED the first cause, with lsn = the durable LSN; what
 *              was appended beyond it could not be made durable
 * Return       0 | WEIR_EFAILED | -EBUSY cursors are open | WEIR_EFORKED. After 0 and WEIR_EFAILED
 *              the handle is gone */
WEIR_API int weir_close(struct weir_log *log, struct weir_error *error_out);

/* The first cause of failure, or the present reason why no segment can be prepared. Return: its
 * code, 0 if there is none. */
WEIR_API int weir_log_error(struct weir_log *log, struct weir_error *error_out);

/* What the opening found; constant until close. */
WEIR_API void weir_log_report(struct weir_log *log, struct weir_report *report_out);

struct weir_log_info {
    enum weir_io io_asked;
    enum weir_io io_used; /* AUTO with the ring, or POSIX where the ring was refused */
    bool io_uring;        /* a ring is in use */
    bool direct;          /* O_DIRECT */
    bool buffers_registered;
    bool huge_pages;   /* asked for */
    bool lock_in_ring; /* the lock outlives the ring's writes */
    uint32_t block_bytes;
    uint32_t slot_bytes;
    uint32_t slots;
    uint32_t max_inflight;
    uint32_t record_bytes_max;
    uint64_t segment_bytes;
    uint64_t epoch;
    uint64_t log_id;
    uint64_t sync_ns;       /* of a small durable write, measured at opening */
    int fua;                /* 1, 0, -1 unknown */
    char memory_source[16]; /* "host", "jemalloc", "malloc" */
    char crc32c[16];        /* form in use */
    char fs_name[24];
    char io_reason[400]; /* why io_used is what it is */
    enum weir_policy policy;
    uint32_t cores;       /* that this process could use when it opened the log */
    uint32_t yield_from;  /* waiting producers from which on they yield; 0: never */
    uint32_t collect_max; /* waiting producers that the flusher collects at most; 0: none */
};
WEIR_API void weir_log_describe(struct weir_log *log, struct weir_log_info *info_out);

/* -------------------------------------------------------------------------------------------------
 * Appending
 * ---------------------------------------------------------------------------------------------- */

#define WEIR_FOREVER ((int64_t)-1)
#define WEIR_TRY ((int64_t)0)

struct weir_piece {
    const void *data; /* may be NULL iff bytes is 0 */
    size_t bytes;
};

/* A record to append: pieces are joined. No pieces: an empty record, which is legal. */
struct weir_record {
    const struct weir_piece *pieces;
    size_t piece_count;
    uint64_t tag; /* the user's: stream, partition, type, ... */
};

/* Appends one record. Same as weir_append_group with one record of one piece and WEIR_FOREVER.
 * lsn_out      [out] may be NULL
 * Return, Threads, ... as weir_append_group */
WEIR_API int
weir_append(struct weir_log *log, const void *data, size_t bytes, uint64_t tag, weir_lsn *lsn_out);

/* Appends one record gathered from pieces. As weir_append. */
WEIR_API int weir_appendv(struct weir_log *log,
                          const struct weir_piece *pieces,
                          size_t piece_count,
                          uint64_t tag,
                          weir_lsn *lsn_out);

/* Appends records as one atomic group: adjacent, in order, and after a crash all or none.
 * records      [in] copied before return; count >= 1
 * timeout_ns   how long to wait for room: WEIR_TRY, WEIR_FOREVER, or ns from now
 * lsns_out     [out] may be NULL; count entries, written only on 0
 * Return       0 appended: the records have their places, nothing is durable yet | nothing was
 *              appended: -EAGAIN no room now (WEIR_TRY) | -ETIMEDOUT | -ENOSPC (or -EIO, -EMFILE,
 *              ...) no segment can be prepared, try again when there is space (weir_log_error says
 *              more) | WEIR_ETOOBIG | -EINVAL | WEIR_ESHUTDOWN | WEIR_EFAILED | WEIR_EREADONLY |
 *              WEIR_EFORKED
 * Threads      any number at once
 * Progress     reserving and committing inside the open slot are lock-free; at a change of slot all
 *              wait for one closer; with every slot full, sleeps. Allocates nothing, does no I/O
 * Durability   none; weir_wait, or weir_append_wait
 * Ordering     LSNs are in reservation order: an append that returned before another began has the
 *              lower LSN */
WEIR_API int weir_append_group(struct weir_log *log,
                               const struct weir_record *records,
                               size_t count,
                               int64_t timeout_ns,
                               weir_lsn *lsns_out);

/* Appends one record and sleeps until it is durable (or written).
 * Return       0 it is | as weir_append_group; *lsn_out is WEIR_LSN_NONE then | WEIR_EFAILED with
 *              *lsn_out set: appended, its fate is unknown until the log is reopened
 * Progress     sleeps; with WEIR_IO_AUTO and _POSIX a caller that is alone writes and syncs its record
 *              itself, unless the policy is off: file I/O in the caller's thread, with cancellation
 *              off meanwhile
 * Durability   at 0: level */
WEIR_API int weir_append_wait(struct weir_log *log,
                              const void *data,
                              size_t bytes,
                              uint64_t tag,
                              enum weir_level level,
                              weir_lsn *lsn_out);

/* Sleeps until the record at lsn has reached a level.
 * lsn          as an append returned it. A position above all appended ones is waited for as well
 * timeout_ns   WEIR_TRY, WEIR_FOREVER or ns from now
 * Return       0 | -ETIMEDOUT (-EAGAIN for WEIR_TRY) | WEIR_EFAILED fate unknown until reopened |
 *              WEIR_ESHUTDOWN the log has drained and will never get there | -EINVAL no such level
 *              | WEIR_EREADONLY | WEIR_EFORKED
 * Ordering     at 0 every lower LSN has reached the level too */
WEIR_API int
weir_wait(struct weir_log *log, weir_lsn lsn, enum weir_level level, int64_t timeout_ns);

/* Makes everything durable that was appended before the call (by this thread, or seen by it to have
 * returned).
 * Return       0 | -ETIMEDOUT | WEIR_EFAILED | WEIR_EREADONLY | WEIR_EFORKED. Progress: sleeps */
WEIR_API int weir_sync(struct weir_log *log, int64_t timeout_ns);

/* Waits until everything that was appended before the call has reached the kernel: weir_sync for
 * WEIR_WRITTEN.
 * timeout_ns   WEIR_TRY, WEIR_FOREVER or ns from now
 * Return       0 | -ETIMEDOUT | WEIR_EFAILED | WEIR_EREADONLY | WEIR_EFORKED. Progress: sleeps
 * Durability   process kill */
WEIR_API int weir_flush_batch(struct weir_log *log, int64_t timeout_ns);

/* What was appended and is not durable yet: bytes of the log (frames, headers, padding of closed
 * batches), records, and whether there is anything. Each is a snapshot, 0 on a read-only log and
 * on a log that has drained.
 * Threads      any. Progress: wait-free */
WEIR_API uint64_t weir_pending_batch_bytes(struct weir_log *log);
WEIR_API uint64_t weir_pending_batch_ops(struct weir_log *log);
WEIR_API bool weir_has_pending_batch(struct weir_log *log);
/* Most bytes of frames and header that are gathered in one ordinary batch: the slot's size in
 * effect. 0 on a read-only log. */
WEIR_API uint64_t weir_max_batch_bytes(struct weir_log *log);
/* The log's size: where it ends, weir_end_lsn. */
WEIR_API uint64_t weir_size(struct weir_log *log);

/* Positions. Each is a snapshot: it may have moved when you look at it; it never falls.
 *   durable  everything below survives power loss
 *   written  everything below survives a killed process
 *   end      where the next record would go, at the earliest
 *   oldest   records below were trimmed */
WEIR_API weir_lsn weir_durable_lsn(struct weir_log *log);
WEIR_API weir_lsn weir_written_lsn(struct weir_log *log);
WEIR_API weir_lsn weir_end_lsn(struct weir_log *log);
WEIR_API weir_lsn weir_oldest_lsn(struct weir_log *log);

/* Gives up the records below an LSN; whole segments below it are recycled or removed in the
 * background.
 * before       <= the durable LSN, else -EINVAL; lower than now: nothing to do, 0. Held back by
 *              cursors that pin
 * Return       0 the new oldest LSN is durable | -EINVAL | WEIR_EFAILED | WEIR_EREADONLY |
 *              WEIR_ESHUTDOWN
 * Progress     sleeps for two small durable writes
 * Durability   the trim itself is durable at 0 */
WEIR_API int weir_trim(struct weir_log *log, weir_lsn before);

/* -------------------------------------------------------------------------------------------------
 * Reading
 * ---------------------------------------------------------------------------------------------- */

enum weir_cursor_flags {
    /* Hold back trimming at this cursor's position. Without effect on a log opened read-only: its
     * writer knows nothing of it. */
    WEIR_CURSOR_PIN = 1,
    WEIR_CURSOR_READ_AHEAD = 2, /* for scans: read ahead through io_uring where it is to be had */
};

struct weir_entry {
    weir_lsn lsn;
    uint64_t epoch;
    uint64_t tag;
    const void *data; /* lives until the next call on the cursor */
    size_t bytes;
    bool more; /* the next record belongs to the same atomic group */
};

/* Opens a cursor before the first record at or after lsn.
 * lsn          WEIR_LSN_OLDEST, or any position; below the oldest: WEIR_EPASSED
 * level        what records must have reached to be shown. A log opened read-only takes every
 *              level: APPENDED is then WRITTEN
 * Return       0 | WEIR_EPASSED | WEIR_ECORRUPT, WEIR_EUNREADABLE, WEIR_EFORMAT met on the way to
 *              the first record | -EAGAIN 64 cursors pin already | -ENOMEM | -EINVAL |
 *              WEIR_EFORKED | an errno
 * Threads      a cursor is used by one thread at a time; cursors are independent. Progress: may
 *              read one segment's headers
 * Ownership    the cursor is the caller's until weir_cursor_close, which must come before
 *              weir_close */
WEIR_API int weir_cursor_open(struct weir_log *log,
                              weir_lsn lsn,
                              enum weir_level level,
                              unsigned flags,
                              struct weir_cursor **cursor_out);
/* The same, and on failure error_out (may be NULL) says where and why: file, offset and LSN of what
 * does not verify on the way to the first record; the oldest LSN for WEIR_EPASSED. */
WEIR_API int weir_cursor_open_with(struct weir_log *log,
                                   weir_lsn lsn,
                                   enum weir_level level,
                                   unsigned flags,
                                   struct weir_cursor **cursor_out,
                                   struct weir_error *error_out);

/* The next record, verified: the header of the segment that holds it, and its batch as a whole,
 * which for what is still in the writer's memory is the batch alone.
 * timeout_ns   how long to wait at the tail: WEIR_TRY, WEIR_FOREVER or ns from now
 * Return       0 | WEIR_EEND none yet (also after the timeout), or never one (log shut down) |
 *              WEIR_EPASSED trimmed meanwhile, and its file is gone | WEIR_ECORRUPT,
 *              WEIR_EUNREADABLE, WEIR_EFORMAT: weir_cursor_error says where | WEIR_EEPOCH the log
 *              was cut below this position. After an error the position is unchanged
 * Progress     reads; sleeps up to timeout_ns */
WEIR_API int
weir_cursor_next(struct weir_cursor *cursor, int64_t timeout_ns, struct weir_entry *entry_out);

/* Where the next record will be looked for. */
WEIR_API weir_lsn weir_cursor_lsn(struct weir_cursor *cursor);
/* The last error in detail. Return: its code, 0 if none. */
WEIR_API int weir_cursor_error(struct weir_cursor *cursor, struct weir_error *error_out);
WEIR_API void weir_cursor_close(struct weir_cursor *cursor);

/* The batch that the cursor's last record came from. */
struct weir_batch_info {
    weir_lsn lsn;
    weir_lsn end_lsn;
    weir_lsn prev_end_lsn;
    weir_lsn promise_lsn;
    uint64_t epoch;
    uint64_t epoch_lsn;
    uint64_t wall_ns;
    uint32_t records;
    uint32_t bytes;
    uint32_t chain;
    weir_lsn segment_lsn; /* base of its segment */
    weir_lsn segment_end_lsn;
};
/* Return 0, WEIR_EEND before the first record. */
WEIR_API int weir_cursor_batch(struct weir_cursor *cursor, struct weir_batch_info *info_out);

/* -------------------------------------------------------------------------------------------------
 * Figures
 * ---------------------------------------------------------------------------------------------- */

/* X(name, what). All count from opening and never fall, but for the ones named "now". */
#define WEIR_STATS_TABLE(X)                                                                        \
    X(appends, "records whose batch was taken by the flusher")                                     \
    X(frame_bytes, "bytes of their frames: 24 of header each, payload, padding")                   \
    X(padding_bytes, "zeros between the frames' end and the block's")                              \
    X(header_bytes, "batch headers")                                                               \
    X(batches, "batches written")                                                                  \
    X(batches_durable, "batches acknowledged")                                                     \
    X(batches_sealed_full, "slots closed by a record that did not fit")                            \
    X(batches_sealed_idle, "slots closed by the flusher")                                          \
    X(batches_oversize, "batches of one record or group beyond a slot")                            \
    X(batches_alone, "batches that a lone producer made durable by itself")                        \
    X(writes, "write operations submitted")                                                        \
    X(writes_short, "of these came back short and were continued")                                 \
    X(write_bytes, "bytes written to segments by the flusher")                                     \
    X(syncs, "operations that ask the device for durability: fdatasync, RWF_DSYNC writes")         \
    X(chains, "write+fsync chains submitted to the ring")                                          \
    X(covering_syncs, "fsyncs that covered more than one batch")                                   \
    X(submits, "submissions to the ring")                                                          \
    X(inflight_max, "most operations under way at once")                                           \
    X(flusher_sleeps, "times the flusher slept")                                                   \
    X(flusher_wakes, "times a producer woke it")                                                   \
    X(collects, "times the flusher let producers run before it sealed a slot")                     \
    X(collects_met, "of these, as many as expected had come")                                      \
    X(ack_wakes, "wake-up calls for waiters")                                                      \
    X(waits_durable, "calls that waited for durability")                                           \
    X(waits_written, "calls that waited for the written level")                                    \
    X(waits_slept, "sleeps of those")                                                              \
    X(yield_pauses, "times yields were given up for a while because a stranger had the CPU")       \
    X(stalls_slot, "calls that slept because every slot was full or a slot was changing")          \
    X(stalls_oversize, "calls that slept for an oversize buffer")                                  \
    X(stalls_segment, "times the next segment was not ready")                                      \
    X(stalls_straggler, "sealed slots that had to wait for a producer still copying")              \
    X(refused_again, "appends refused with -EAGAIN")                                               \
    X(refused_timeout, "appends refused with -ETIMEDOUT")                                          \
    X(refused_space, "appends refused with -ENOSPC")                                               \
    X(rotations, "segments entered")                                                               \
    X(segments_prefilled, "segments made by writing zeros")                                        \
    X(segments_recycled, "segments made from trimmed ones")                                        \
    X(segments_removed, "trimmed segments removed")                                                \
    X(prefill_bytes, "zeros written")                                                              \
    X(prefill_unthrottled,                                                                         \
      "chunks of zeros written at full speed because appenders would have waited")                 \
    X(control_writes, "copies of the control file written")                                        \
    X(checkpoints, "checkpoints written")                                                          \
    X(trims, "trims made durable")                                                                 \
    X(cursor_records, "records given out by cursors")                                              \
    X(cursor_bytes, "payload bytes of those")                                                      \
    X(cursor_slot_batches, "batches that cursors read from memory")                                \
    X(cursor_reads, "reads from files by cursors")                                                 \
    X(cursor_read_bytes, "bytes of those")                                                         \
    X(memory_bytes, "now: allocated through the log's seam")                                       \
    X(memory_bytes_peak, "the highest of that")                                                    \
    X(slots_free, "now")                                                                           \
    X(inflight, "now: operations under way")                                                       \
    X(pending_bytes, "now: end LSN less durable LSN")                                              \
    X(disk_bytes, "now: bytes of all segment files, prepared and kept ones included")

struct weir_stats {
#define WEIR_STATS_FIELD(name, what) uint64_t name;
    WEIR_STATS_TABLE(WEIR_STATS_FIELD)
#undef WEIR_STATS_FIELD
};

/* A snapshot; stops nobody; each figure is read once, so figures of one snapshot may be some
 * operations apart. Threads: any. Progress: wait-free. */
WEIR_API void weir_stats(struct weir_log *log, struct weir_stats *stats_out);

/* -------------------------------------------------------------------------------------------------
 * Looking after logs. None of these needs an open log, none writes to the directory that it
 * looks at.
 * ---------------------------------------------------------------------------------------------- */

/* Scans the whole log from its oldest record and says how it ends. Reads past the page cache where
 * the file system can: the verdict is about what the device holds.
 * progress     may be NULL: bytes done of total
 * Return       0 the scan was made, whatever the verdict | WEIR_ENOLOG | WEIR_EFORMAT | an errno */
WEIR_API int weir_verify(const char *dir,
                         void (*progress)(void *ctx, uint64_t done, uint64_t total),
                         void *ctx,
                         struct weir_report *report_out,
                         struct weir_error *error_out);

enum weir_verify_flags {
    /* A segment that the page cache holds, all of it and nothing of it still to be written, is read
     * from there: as fast as memory, and no evidence of what the device would say.
     * weir_report.bytes_cached tells how much that was. A log that does not verify in this way is
     * scanned once more past the cache: a bad verdict is always the device's. */
    WEIR_VERIFY_CACHED = 1,
};

/* The same with flags; -EINVAL for one that is not known. */
WEIR_API int weir_verify_with(const char *dir,
                              unsigned flags,
                              void (*progress)(void *ctx, uint64_t done, uint64_t total),
                              void *ctx,
                              struct weir_report *report_out,
                              struct weir_error *error_out);

/* What stands at one position. */
struct weir_place {
    weir_lsn asked_lsn;
    bool found_segment;
    char file[64];
    uint64_t offset;
    weir_lsn segment_lsn;
    weir_lsn segment_end_lsn;
    bool in_batch; /* inside a batch that verifies; batch holds its header */
    struct weir_batch_info batch;
    bool in_record; /* inside, or at the start of, a record of it */
    weir_lsn record_lsn;
    uint64_t record_bytes;
    uint64_t record_tag;
    char what[400]; /* one sentence */
};
WEIR_API int weir_locate(const char *dir,
                         weir_lsn lsn,
                         struct weir_place *place_out,
                         struct weir_error *error_out);

struct weir_gap {
    weir_lsn from_lsn;
    weir_lsn to_lsn; /* not included */
    char why[128];
};
struct weir_copy_report {
    uint64_t records;
    uint64_t bytes; /* payload */
    uint64_t batches;
    uint64_t segments;
    uint64_t gaps;
    uint64_t gap_bytes;
    uint64_t log_id; /* of the new log */
    weir_lsn oldest_lsn;
    weir_lsn end_lsn;
};

/* Copies every record that verifies, at its LSN, into a new log (new log id) and tells the gaps.
 * For logs that weir_open refuses. Never writes to dir. Of an atomic group whose batch is damaged,
 * the records that verify are kept: the gap tells that some are missing.
 * new_dir      must not hold a log (WEIR_EEXISTS); created if missing
 * on_gap       may be NULL
 * Return       0 done (gaps or not) | WEIR_ENOLOG nothing there that could be read | -EBUSY a
 *              writer has it open | WEIR_EEXISTS | WEIR_EFORMAT of a version that is not known | an
 *              errno
 * Durability   at 0 the new log is durable and clean */
WEIR_API int weir_salvage(const char *dir,
                          const char *new_dir,
                          void (*on_gap)(void *ctx, const struct weir_gap *gap),
                          void (*progress)(void *ctx, uint64_t done, uint64_t total),
                          void *ctx,
                          struct weir_copy_report *report_out,
                          struct weir_error *error_out);

/* A consistent backup of a log, live or not: all records from its oldest to the LSN that was
 * durable at the call, at their LSNs, in a new log with an id of its own. A log that does not
 * verify is an error (WEIR_ECORRUPT, WEIR_EUNREADABLE): salvage it. Else as weir_salvage. */
WEIR_API int weir_copy(const char *dir,
                       const char *new_dir,
                       void (*progress)(void *ctx, uint64_t done, uint64_t total),
                       void *ctx,
                       struct weir_copy_report *report_out,
                       struct weir_error *error_out);

/* What a directory, its device and this kernel offer; writes and removes one scratch file of 1 MiB
 * in dir. */
struct weir_probe {
    char kernel[64];
    bool io_uring;
    int io_uring_code; /* negative errno that refused it */
    char io_uring_reason[256];
    char io_uring_opcodes[128]; /* those the engine uses, and whether each is there */
    char fs_name[24];
    char device_name[32];
    bool direct;
    uint32_t direct_align;
    bool copy_on_write;
    bool network;
    int fua;
    int write_cache;
    uint64_t free_bytes;
    uint64_t memlock_bytes; /* RLIMIT_MEMLOCK, UINT64_MAX = unlimited */
    char memory_source[16];
    char crc32c[16];
    uint64_t sync_ns_p50; /* one 4 KiB durable write, the way `auto` would */
    uint64_t sync_ns_p99;
    uint64_t chain_ns_p50; /* the same as a linked chain on the ring; 0 without a ring */
    /* Too fast for a device that really persists (below 15 us and a volatile cache). */
    bool sync_implausible;
    enum weir_io io_auto; /* what `auto` comes down to here */
    char io_auto_reason[400];
    /* The waiting of a log opened here with default options, as in weir_log_info. */
    enum weir_policy policy;
    uint32_t cores;
    uint32_t yield_from;
    uint32_t collect_max;
};
WEIR_API int
weir_probe(const char *dir, struct weir_probe *probe_out, struct weir_error *error_out);

#ifdef __cplusplus
}
#endif

#endif
