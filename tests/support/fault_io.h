/* SPDX-License-Identifier: Apache-2.0
 * A struct weir__io in front of the system's that writes down every operation and lets tests spoil
 * chosen ones.
 *
 *     struct fault_io fault;
 *     fault_io_init(&fault, FAULT_QUEUE_RING);         // or FAULT_QUEUE_THREADS: a queue of
 * threads, for any machine weir__open_with(&fault.io, dir, &options, &log, &error);
 *     fault_io_arm(&fault, &(struct fault_rule){.kind = FAULT_SYNC, .name = ".weir", .skip = 2,
 * .times = 1, .result = -EIO});
 *     ...
 *     fault_io_heal(&fault);                           // takes all rules back, lets held
 * operations go weir_close(log, NULL); fault_io_exit(&fault);
 *
 * It also keeps, for every file, the image that would be there after a power cut: bytes get into it
 * only by a sync that began after their write had come back, or that was linked behind it, or by a
 * durable write of their own. What is found in a file when it is first opened counts as durable,
 * and so do names, lengths and removals at once. fault_io_durable_at and fault_io_crash look at it.
 *
 * When an operation "came back" is when the engine was told: at the return of a call, and for a
 * queue at the queue_reap that hands the event out. So the log of operations can prove that
 * something was asked for before or after.
 *
 * Any thread. One directory at a time: files are known by their names. Nothing here asserts; what
 * cannot be is an abort. */
#ifndef WEIR_TESTS_SUPPORT_FAULT_IO_H
#define WEIR_TESTS_SUPPORT_FAULT_IO_H

#include "port/io.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/codes.h>

#define FAULT_OPS_MAX 65536u /* written down; further ones are only counted in ops_lost */
#define FAULT_RULES_MAX 8u
#define FAULT_NAME_BYTES 64u
#define FAULT_DESCRIPTORS_MAX 4096
#define FAULT_FILES_MAX 1024u

enum fault_kind {
    FAULT_OPEN = 1,
    FAULT_READ,
    FAULT_WRITE, /* plain and durable ones, called or queued */
    FAULT_SYNC,  /* called or queued */
    FAULT_RENAME,
    FAULT_UNLINK,
    FAULT_TRUNCATE,
    FAULT_SYNC_DIR,
    FAULT_QUEUE_OPEN,
    FAULT_QUEUE_PUSH,
    FAULT_QUEUE_REAP,
};

enum fault_way { FAULT_ANY_WAY = 0, FAULT_CALLED, FAULT_QUEUED };
enum fault_durable { FAULT_ANY_WRITE = 0, FAULT_PLAIN_WRITE, FAULT_DURABLE_WRITE };

/* What happens to operations of `kind` on files whose name holds `name`. */
struct fault_rule {
    enum fault_kind kind;
    const char *name;           /* NULL: any file. ".weir" are the segments and nothing else */
    enum fault_way way;         /* reads, writes, syncs */
    enum fault_durable durable; /* writes */
    uint64_t offset_from;       /* reads, writes: only at or above this offset */
    unsigned skip;              /* so many pass first */
    unsigned times;             /* then so many are spoilt; 0 = all from then on */
    /* One of these, or `hold` alone: */
    int error; /* it is not done; -errno is what comes back. What is linked behind it is -ECANCELED
                */
    bool afterwards; /* with error: it is done all the same */
    bool shortened;  /* read, write: really done for the first `bytes` bytes only, which is what
                        comes back. What is linked is cancelled */
    size_t bytes;
    bool hold; /* it begins only after fault_io_release or fault_io_heal. May be given with the
                  others */
};

struct fault_op {
    uint64_t begun; /* sequence numbers, from 1, shared by begins and ends */
    uint64_t ended; /* 0: still under way */
    enum fault_kind kind;
    bool queued;
    bool dsync;
    bool spoilt; /* by a rule */
    char name[FAULT_NAME_BYTES];
    char from[FAULT_NAME_BYTES]; /* a rename's old name */
    uint64_t offset;
    uint64_t bytes;
    long result;
};

enum fault_queue_kind {
    FAULT_QUEUE_RING,    /* the one of `base` */
    FAULT_QUEUE_THREADS, /* threads that make calls; events come in any order */
};

struct fault_file;
struct fault_queue;

struct fault_armed {
    bool used;
    unsigned spoilt; /* how often it was applied */
    struct fault_rule rule;
    char name[FAULT_NAME_BYTES];
};

struct fault_io {
    struct weir__io io; /* what is handed to the engine */
    struct weir__io_ops ops;
    /* Set before start: what it stands in front of. The system's; or the system's pool, whose queue
     * FAULT_QUEUE_RING then has. */
    struct weir__io *base;
    enum fault_queue_kind queue_kind; /* set before start */
    int fua;         /* set before start: what facts says of the device, -2: as it is */
    uint64_t jitter; /* set before start: not 0: queued operations of FAULT_QUEUE_THREADS take
                        random times, by this seed */

    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t changed;
    uint64_t sequence;
    struct fault_op *list;
    size_t count;
    uint64_t ops_lost;
    struct fault_armed rules[FAULT_RULES_MAX];
    unsigned held;
    uint64_t releases;
    char lies[FAULT_NAME_BYTES];
    bool lying;
    struct fault_file *files;
    struct fault_file *by_descriptor[FAULT_DESCRIPTORS_MAX];
    struct fault_queue *queues;
};

void fault_io_init(struct fault_io *fault, enum fault_queue_kind queue_kind);
void fault_io_exit(struct fault_io *fault);
/* False: this machine refuses io_uring, FAULT_QUEUE_RING is of no use. */
bool fault_io_has_ring(void);

/* ---- spoiling ---- */

/* Returns the rule's number. */
unsigned fault_io_arm(struct fault_io *fault, const struct fault_rule *rule);
/* How often it was applied. Also after it was used up. */
unsigned fault_io_spoilt(struct fault_io *fault, unsigned rule);
void fault_io_disarm(struct fault_io *fault, unsigned rule);
/* Lets held operations begin, and takes their rules back. */
void fault_io_release(struct fault_io *fault);
/* Takes all rules back, releases, ends lying. */
void fault_io_heal(struct fault_io *fault);
/* Waits until so many operations are held. False: it did not come to that in TEST_PATIENCE_NS. */
bool fault_io_wait_held(struct fault_io *fault, unsigned count);
/* From now on syncs of files whose name holds `name` report success and do nothing; durable writes
 * are plain ones. */
void fault_io_lie(struct fault_io *fault, const char *name);

/* ---- what was done ---- */

/* Sequence number of what began or ended last. */
uint64_t fault_io_now(struct fault_io *fault);
/* Forgets the operations written down, but for those under way. */
void fault_io_forget(struct fault_io *fault);

struct fault_look {
    enum fault_kind kind; /* 0: any */
    const char *name;     /* NULL: any */
    enum fault_way way;
    enum fault_durable durable;
    bool syncs;     /* instead of kind: syncs and durable writes */
    bool succeeded; /* ended, with a result that is no error */
    uint64_t after; /* begun after this sequence number */
    uint64_t offset_from;
};
/* How many operations match. */
size_t fault_io_count(struct fault_io *fault, const struct fault_look *look);
/* The first one that matches, in the order in which they began. False: there is none. */
bool fault_io_find(struct fault_io *fault, const struct fault_look *look, struct fault_op *op_out);
/* Copies all of them, to be freed by the caller. */
size_t fault_io_ops(struct fault_io *fault, struct fault_op **ops_out);
/* Prints them to stderr. */
void fault_io_print(struct fault_io *fault);

/* ---- what a power cut would leave ---- */

/* True if bytes at this LSN, in whichever segment holds it, are durable and equal to data. */
bool fault_io_durable_at(struct fault_io *fault, weir_lsn lsn, const void *data, size_t bytes);
/* Bytes of all files that were written and are not covered by a sync. */
uint64_t fault_io_unsynced(struct fault_io *fault, const char *name);
/* Writes every file as it would be into an existing empty directory. */
void fault_io_crash(struct fault_io *fault, const char *path);

#endif
