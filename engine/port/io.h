/* SPDX-License-Identifier: Apache-2.0
 * The I/O seam: everything that the engine asks of files goes through this table of functions.
 *
 * Two parts. Synchronous calls on files and directories, and a queue for writes and syncs that run
 * while the caller goes on. The system's implementation is io_posix.c (calls) with io_uring
 * underneath the queue (uring.c); tests put their own table in front of it or in its place. All
 * return a negative errno on failure and never touch errno's meaning. EINTR is never seen by a
 * caller. Short results are: whoever writes must look at the count. */
#ifndef WEIR_PORT_IO_H
#define WEIR_PORT_IO_H

#include "port/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct weir__io;
struct weir__queue;

enum weir__open_flags {
    WEIR__OPEN_READ = 0,
    WEIR__OPEN_WRITE = 1,     /* read and write */
    WEIR__OPEN_CREATE = 2,    /* create if missing */
    WEIR__OPEN_EXCLUSIVE = 4, /* with CREATE: fail with -EEXIST */
    WEIR__OPEN_DIRECT = 8,    /* O_DIRECT; -EINVAL where the file system refuses it */
};

struct weir__file_info {
    uint64_t bytes;
    uint64_t links;
    uint64_t device;
    uint64_t inode;
    bool regular;
};

/* Static facts of a directory's file system and device, as far as they can be learnt. */
struct weir__fs_facts {
    bool look_only;       /* in: nothing may be written to learn them */
    char fs_name[24];     /* "ext4", "xfs", "tmpfs", "0x...." */
    char device_name[32]; /* "vda", "" if unknown */
    bool direct; /* O_DIRECT accepted by a probe file; with look_only by a read of some file
                              that is there */
    uint32_t direct_align; /* bytes of offset and length alignment (statx, else the logical block
                              size, >= 512) */
    bool copy_on_write;    /* btrfs, zfs, bcachefs, overlay...: a data write may meet ENOSPC */
    bool network;          /* nfs, cifs, ...: locks and syncs are another's word */
    int fua;               /* 1 device has FUA, 0 not, -1 unknown */
    int write_cache;       /* 1 volatile write cache, 0 none, -1 unknown */
    uint64_t free_bytes;   /* available to this user */
};

/* One entry of a queue's submission. `data` comes back in the event. */
enum weir__op_kind { WEIR__OP_WRITE = 1, WEIR__OP_READ, WEIR__OP_SYNC };

struct weir__op {
    enum weir__op_kind kind;
    int file;
    const struct iovec *iov; /* must live until the event */
    unsigned iov_count;
    uint64_t offset;
    bool dsync; /* WRITE: durable when it comes back (RWF_DSYNC) */
    bool link;  /* the next op of this push starts only after this one succeeded in full; else it is
                   -ECANCELED */
    uint64_t data;
};

struct weir__event {
    uint64_t data;
    int32_t result; /* bytes, 0 for a sync, or negative errno */
};

#define WEIR__QUEUE_ENTRIES_MAX 4096u
#define WEIR__QUEUE_RING_MAX 32768u

struct weir__queue_config {
    unsigned entries; /* ops in flight at most; 1..WEIR__QUEUE_ENTRIES_MAX */
    /* Entries of the submission ring, up to WEIR__QUEUE_RING_MAX; a longer push goes out in pieces,
     * at the borders of its linked runs. 0: as many as `entries`. */
    unsigned ring_entries;
    bool kernel_poll; /* SQPOLL. Refused: info says so, and the ring goes without */
    unsigned kernel_poll_idle_ms;
    /* Used by several threads, one at a time; else only by the one that opened it, which lets the
     * kernel do less. */
    bool wanders;
    int lock_file; /* registered with the ring so that the lock outlives its writes; -1 = none */
    const struct iovec *buffers; /* to be registered; refused ones are only a lost speed-up */
    unsigned buffer_count;
};

/* What the ring turned out to be; for reports. */
struct weir__queue_info {
    bool buffers_registered;
    bool lock_registered;
    bool kernel_poll;
    unsigned entries;      /* ops in flight at most: fewer than asked for where they could overflow
                              the completion ring */
    unsigned ring_entries; /* 0: no ring */
    unsigned completion_entries;
    unsigned threads; /* of a pool, at most; 0: no pool */
    char note[256];   /* what was refused and why; empty if nothing */
};

struct weir__queue_faults {
    uint64_t
        overflows;    /* completions that found no room: the kernel's count, and each time that its
                           flag was seen */
    uint64_t dropped; /* submissions that the kernel could not read */
};

struct weir__io_ops {
    /* Directories. open_dir follows no symlink at the last component. create: make it (0700) if
     * missing, and sync its parent. */
    int (*open_dir)(struct weir__io *io, const char *path, bool create, int *dir_out);
    int (*sync_dir)(struct weir__io *io, int dir);
    /* Calls visit for every entry but . and ..; stops with visit's value if that is not 0. */
    int (*list_dir)(struct weir__io *io,
                    int dir,
                    int (*visit)(void *ctx, const char *name),
                    void *ctx);
    int (*facts)(struct weir__io *io, int dir, struct weir__fs_facts *facts_out);

    /* Files, by name inside a directory; O_NOFOLLOW, O_CLOEXEC, descriptor > 2, mode 0600. */
    int (*open)(struct weir__io *io, int dir, const char *name, unsigned flags, int *file_out);
    int (*close)(struct weir__io *io, int file); /* also for directories */
    int (*info)(struct weir__io *io, int file, struct weir__file_info *info_out);
    int (*rename)(struct weir__io *io, int dir, const char *from, const char *to);
    int (*unlink)(struct weir__io *io, int dir, const char *name);
    int (*truncate)(struct weir__io *io, int file, uint64_t bytes);

    /* May be short: at the end of the file, or for no reason. */
    ssize_t (*read)(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset);
    /* dsync: data are durable when it returns (pwritev2(RWF_DSYNC), or a write and a sync where
     * that is refused). */
    ssize_t (*write)(struct weir__io *io,
                     int file,
                     const struct iovec *iov,
                     unsigned iov_count,
                     uint64_t offset,
                     bool dsync);
    int (*sync)(struct weir__io *io, int file); /* fdatasync */

    /* 1: the page cache holds the first `bytes` of the file, all but a hundredth of them, and none
     * that is still to be written. 0: it does not. A negative errno: it cannot be told. A look; pages
     * may be dropped at any time. May be NULL. */
    int (*cached)(struct weir__io *io, int file, uint64_t bytes);

    /* Takes an exclusive lock of the open file description; -EBUSY if another one holds it.
     * Children inherit it, and it lasts until the last reference is gone, a ring's registration
     * included. */
    int (*lock)(struct weir__io *io, int file);
    /* Gives it up for everybody who shares the description, forked children too. May be NULL:
     * closing does it. */
    int (*unlock)(struct weir__io *io, int file);
    /* True if somebody else's exclusive lock stands on the file. */
    int (*lock_held)(struct weir__io *io, int file, bool *held_out);

    /* The queue. Opened by the thread that will use it; one thread owns it. */
    int (*queue_open)(struct weir__io *io,
                      struct weir__mem *mem,
                      const struct weir__queue_config *config,
                      struct weir__queue **queue_out,
                      struct weir__queue_info *info_out);
    /* Waits for everything in flight, then frees it. */
    void (*queue_close)(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue);
    /* Submits all count ops or none (-EAGAIN: would exceed the entries). A linked run must lie
     * within one push. */
    int (*queue_push)(struct weir__io *io,
                      struct weir__queue *queue,
                      const struct weir__op *ops,
                      unsigned count);
    /* Collects up to max events. min > 0: sleeps until so many are there (or all that are in
     * flight, where that is fewer; at least one), until queue_wake, or until deadline_ns. Returns
     * how many (0 = none, woken, or timed out); also fewer than min, after which the caller asks
     * again. */
    int (*queue_reap)(struct weir__io *io,
                      struct weir__queue *queue,
                      struct weir__event *events,
                      unsigned max,
                      unsigned min,
                      uint64_t deadline_ns);
    /* Ends a waiting queue_reap, or the next one. Any thread. */
    void (*queue_wake)(struct weir__io *io, struct weir__queue *queue);
    /* Faults that the queue has counted. Any thread, while it is open. */
    void (*queue_faults)(struct weir__io *io,
                         struct weir__queue *queue,
                         struct weir__queue_faults *faults_out);

    /* Maps the first bytes of a file, shared and writable: for the live page only, never for log
     * data. -ENOSYS where an implementation has no such thing; the caller then goes without. */
    int (*map)(struct weir__io *io, int file, size_t bytes, void **page_out);
    void (*unmap)(struct weir__io *io, void *page, size_t bytes);
};

struct weir__io {
    const struct weir__io_ops *ops;
    void *ctx; /* of whoever implements it */
};

/* The system: posix calls and io_uring. Stateless; one for the process. */
struct weir__io *weir__io_system(void);
/* The same, with a pool of threads that makes the plain calls underneath the queue. */
struct weir__io *weir__io_system_pool(void);

/* Really sets a ring up and asks it for the opcodes that the engine needs. 0, or the errno that
 * refused it, with a sentence that names the way out in reason. */
int weir__uring_probe(char *reason, size_t reason_bytes);
/* The opcodes that the engine uses, separated by spaces; "no:" before those that this kernel does
 * not have. */
void weir__uring_opcodes(char *list, size_t list_bytes);

#endif
