/* SPDX-License-Identifier: Apache-2.0
 * Operations pass through begin and end, both under the mutex; what is between them runs outside
 * it.
 *
 * begin writes the operation down, picks the rule that applies and copies the bytes of a write. end
 * takes the result down and moves bytes into the durable image. The two queues share both; they
 * differ in who runs an operation: the system's ring, where a chain that a rule touches is taken
 * apart and its operations are pushed one by one, or threads that make the system's calls. */
#include "support/fault_io.h"

#include "format/segment_header.h"
#include "port/clock.h"
#include "support/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CHAIN_MAX 32u
#define IOV_MAX_HERE 64u
#define QUEUE_THREADS 8u
#define JITTER_NS 300000u

/* A write that is not in the durable image yet. */
struct fault_write {
    struct fault_write *next; /* in the order in which they ended, those under way last */
    uint64_t ended;           /* sequence number, 0: under way */
    uint64_t offset;
    size_t bytes;
    uint8_t *data;
};

struct fault_file {
    struct fault_file *next;
    char name[FAULT_NAME_BYTES]; /* "": removed */
    uint8_t *durable;
    uint64_t bytes;
    uint64_t room;
    struct fault_write *writes;
};

/* An operation between begin and end. */
struct fault_live {
    struct fault_io *fault;
    struct fault_op op;
    size_t index; /* in list; SIZE_MAX: not written down */
    struct fault_file *file;
    struct fault_write *write;
    uint64_t covers_from; /* syncs: writes that ended before it are covered */
    bool spoilt;
    bool lie;
    bool hold;
    uint64_t hold_release; /* releases when it was to begin */
    struct fault_rule rule;
};

static struct weir__io *below(const struct fault_io *fault)
{
    return fault->base;
}

static struct fault_io *fault_of(struct weir__io *io)
{
    return io->ctx;
}

static _Noreturn void impossible(const char *what)
{
    (void)fprintf(stderr, "fault_io: %s\n", what);
    abort();
}

static void *must_alloc(size_t bytes)
{
    void *const block = calloc(1, bytes > 0 ? bytes : 1);
    if (block == NULL) {
        impossible("out of memory");
    }
    return block;
}

/* ---- the durable image; all of it under the mutex ---- */

static struct fault_file *file_named(struct fault_io *fault, const char *name)
{
    for (struct fault_file *file = fault->files; file != NULL; file = file->next) {
        if (file->name[0] != '\0' && strcmp(file->name, name) == 0) {
            return file;
        }
    }
    return NULL;
}

static void image_resize(struct fault_file *file, uint64_t bytes)
{
    if (bytes > file->room) {
        uint64_t room = file->room > 0 ? file->room : 4096;
        while (room < bytes) {
            room *= 2;
        }
        uint8_t *const grown = realloc(file->durable, room);
        if (grown == NULL) {
            impossible("out of memory");
        }
        memset(grown + file->room, 0, room - file->room);
        file->durable = grown;
        file->room = room;
    }
    if (bytes < file->bytes) {
        memset(file->durable + bytes, 0, file->bytes - bytes);
    }
    file->bytes = bytes;
}

static void image_put(struct fault_file *file, uint64_t offset, const uint8_t *data, size_t bytes)
{
    if (offset + bytes > file->bytes) {
        image_resize(file, offset + bytes);
    }
    memcpy(file->durable + offset, data, bytes);
}

static void write_free(struct fault_write *write)
{
    free(write->data);
    free(write);
}

static void write_drop(struct fault_file *file, struct fault_write *write)
{
    for (struct fault_write **at = &file->writes; *at != NULL; at = &(*at)->next) {
        if (*at == write) {
            *at = write->next;
            write_free(write);
            return;
        }
    }
    impossible("a write that nobody knows");
}

/* Puts a write where its end belongs: behind all that ended before, in front of those under way. */
static void write_ended(struct fault_file *file, struct fault_write *write)
{
    struct fault_write **at = &file->writes;
    while (*at != write) {
        at = &(*at)->next;
    }
    *at = write->next;
    at = &file->writes;
    while (*at != NULL && (*at)->ended != 0 && (*at)->ended < write->ended) {
        at = &(*at)->next;
    }
    write->next = *at;
    *at = write;
}

/* Everything that ended before `before` is on the device now. */
static void image_sync(struct fault_file *file, uint64_t before)
{
    while (file->writes != NULL && file->writes->ended != 0 && file->writes->ended < before) {
        struct fault_write *const write = file->writes;
        image_put(file, write->offset, write->data, write->bytes);
        file->writes = write->next;
        write_free(write);
    }
}

/* A durable write ended: older bytes that are still unsynced must not come back over it. */
static void image_durable_write(struct fault_file *file, struct fault_write *write)
{
    image_put(file, write->offset, write->data, write->bytes);
    for (struct fault_write *other = file->writes; other != NULL; other = other->next) {
        if (other == write || other->ended == 0) {
            continue;
        }
        const uint64_t from = other->offset > write->offset ? other->offset : write->offset;
        const uint64_t end_other = other->offset + other->bytes;
        const uint64_t end_write = write->offset + write->bytes;
        const uint64_t end = end_other < end_write ? end_other : end_write;
        if (from < end) {
            memcpy(other->data + (from - other->offset),
                   write->data + (from - write->offset),
                   (size_t)(end - from));
        }
    }
    write_drop(file, write);
}

static struct fault_file *file_new(struct fault_io *fault, const char *name)
{
    struct fault_file *const file = must_alloc(sizeof *file);
    (void)snprintf(file->name, sizeof file->name, "%s", name);
    file->next = fault->files;
    fault->files = file;
    return file;
}

static void file_forget(struct fault_file *file)
{
    file->name[0] = '\0';
    free(file->durable);
    file->durable = NULL;
    file->bytes = file->room = 0;
}

/* ---- begin and end ---- */

static bool name_holds(const char *name, const char *part)
{
    return part == NULL || strstr(name, part) != NULL;
}

static bool way_fits(enum fault_way way, bool queued)
{
    return way == FAULT_ANY_WAY || (way == FAULT_QUEUED) == queued;
}

static bool durable_fits(enum fault_durable durable, const struct fault_op *op)
{
    return durable == FAULT_ANY_WRITE || op->kind != FAULT_WRITE ||
           (durable == FAULT_DURABLE_WRITE) == op->dsync;
}

static void rule_pick(struct fault_io *fault, struct fault_live *live)
{
    for (unsigned i = 0; i < FAULT_RULES_MAX; i++) {
        struct fault_armed *const armed = &fault->rules[i];
        struct fault_rule *const rule = &armed->rule;
        if (!armed->used || rule->kind != live->op.kind || !name_holds(live->op.name, rule->name) ||
            !way_fits(rule->way, live->op.queued) || !durable_fits(rule->durable, &live->op) ||
            live->op.offset < rule->offset_from ||
            (rule->times > 0 && armed->spoilt == rule->times)) {
            continue;
        }
        if (rule->skip > 0) {
            rule->skip--;
            continue;
        }
        armed->spoilt++;
        live->spoilt = live->op.spoilt = true;
        live->rule = *rule;
        live->hold = rule->hold;
        live->hold_release = fault->releases;
        return;
    }
}

static void op_begin(struct fault_io *fault,
                     struct fault_live *live,
                     enum fault_kind kind,
                     bool queued,
                     int descriptor,
                     const char *name)
{
    /* With the mutex held; offset, bytes and dsync of live->op are set. */
    live->fault = fault;
    live->op.kind = kind;
    live->op.queued = queued;
    live->op.begun = ++fault->sequence;
    live->covers_from = live->op.begun;
    if (descriptor >= 0 && descriptor < FAULT_DESCRIPTORS_MAX) {
        live->file = fault->by_descriptor[descriptor];
    }
    if (name != NULL) {
        (void)snprintf(live->op.name, sizeof live->op.name, "%s", name);
    } else if (live->file != NULL) {
        memcpy(live->op.name, live->file->name, sizeof live->op.name);
    }
    rule_pick(fault, live);
    live->lie = fault->lying && strstr(live->op.name, fault->lies) != NULL &&
                (kind == FAULT_SYNC || live->op.dsync);
    if (fault->count < FAULT_OPS_MAX) {
        live->index = fault->count++;
        fault->list[live->index] = live->op;
    } else {
        live->index = SIZE_MAX;
        fault->ops_lost++;
    }
}

static void write_begin(struct fault_live *live, const struct iovec *iov, unsigned iov_count)
{
    struct fault_file *const file = live->file;
    if (file == NULL) {
        return;
    }
    struct fault_write *const write = must_alloc(sizeof *write);
    write->offset = live->op.offset;
    write->bytes = live->op.bytes;
    write->data = must_alloc(live->op.bytes);
    size_t done = 0;
    for (unsigned i = 0; i < iov_count; i++) {
        memcpy(write->data + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    struct fault_write **at = &file->writes;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = write;
    live->write = write;
}

static void op_end_locked(struct fault_io *fault, struct fault_live *live, long result)
{
    struct fault_file *const file = live->file;
    live->op.ended = ++fault->sequence;
    live->op.result = result;
    if (live->index != SIZE_MAX && live->index < fault->count &&
        fault->list[live->index].begun == live->op.begun) {
        fault->list[live->index] = live->op;
    }
    if (live->write != NULL) {
        struct fault_write *const write = live->write;
        const bool done = result > 0 || (live->rule.afterwards && live->spoilt && result < 0);
        live->write = NULL;
        if (!done) {
            write_drop(file, write);
        } else {
            if (result > 0 && (size_t)result < write->bytes) {
                write->bytes = (size_t)result;
            }
            write->ended = live->op.ended;
            if (live->op.dsync && !live->lie && result > 0) {
                image_durable_write(file, write);
            } else {
                write_ended(file, write);
            }
        }
    } else if (live->op.kind == FAULT_SYNC && result == 0 && !live->lie && file != NULL) {
        image_sync(file, live->covers_from);
    }
    (void)pthread_cond_broadcast(&fault->changed);
}

static long op_end(struct fault_io *fault, struct fault_live *live, long result)
{
    (void)pthread_mutex_lock(&fault->mutex);
    op_end_locked(fault, live, result);
    (void)pthread_mutex_unlock(&fault->mutex);
    return result;
}

/* Sleeps while the operation is held. */
static void op_hold(struct fault_io *fault, struct fault_live *live)
{
    if (!live->hold) {
        return;
    }
    (void)pthread_mutex_lock(&fault->mutex);
    fault->held++;
    (void)pthread_cond_broadcast(&fault->changed);
    while (fault->releases == live->hold_release) {
        (void)pthread_cond_wait(&fault->changed, &fault->mutex);
    }
    fault->held--;
    (void)pthread_mutex_unlock(&fault->mutex);
}

/* Operations without bytes: 0, or what they are to fail with. */
static int plain_begin(struct fault_io *fault,
                       struct fault_live *live,
                       enum fault_kind kind,
                       int descriptor,
                       const char *name)
{
    (void)pthread_mutex_lock(&fault->mutex);
    op_begin(fault, live, kind, false, descriptor, name);
    (void)pthread_mutex_unlock(&fault->mutex);
    op_hold(fault, live);
    return live->spoilt && !live->rule.afterwards ? live->rule.error : 0;
}

/* The result that the caller gets for what was done. */
static long plain_result(const struct fault_live *live, long result)
{
    return live->spoilt && live->rule.afterwards && live->rule.error != 0 ? live->rule.error
                                                                          : result;
}

/* ---- names ---- */

/* What is in a file that is opened for the first time is durable. */
static void image_load(const struct fault_io *fault, struct fault_file *file, int descriptor)
{
    struct weir__file_info info;
    if (below(fault)->ops->info(below(fault), descriptor, &info) != 0 || !info.regular ||
        info.bytes == 0) {
        return;
    }
    image_resize(file, info.bytes);
    uint8_t *block = NULL;
    const size_t chunk = (size_t)1 << 16;
    if (posix_memalign((void **)&block, 4096, chunk) != 0) {
        impossible("out of memory");
    }
    for (uint64_t done = 0; done < info.bytes;) {
        const ssize_t got = below(fault)->ops->read(below(fault), descriptor, block, chunk, done);
        if (got <= 0) {
            break;
        }
        const uint64_t left = info.bytes - done;
        memcpy(file->durable + done, block, (uint64_t)got < left ? (size_t)got : (size_t)left);
        done += (uint64_t)got;
    }
    free(block);
}

static int fault_open(struct weir__io *io, int dir, const char *name, unsigned flags, int *file_out)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {.op.bytes = flags};
    int error = plain_begin(fault, &live, FAULT_OPEN, -1, name);
    if (error == 0) {
        error = below(fault)->ops->open(below(fault), dir, name, flags, file_out);
    }
    if (error == 0) {
        if (*file_out >= FAULT_DESCRIPTORS_MAX) {
            impossible("too many descriptors");
        }
        (void)pthread_mutex_lock(&fault->mutex);
        struct fault_file *file = file_named(fault, name);
        if (file == NULL) {
            file = file_new(fault, name);
            image_load(fault, file, *file_out);
        }
        fault->by_descriptor[*file_out] = file;
        (void)pthread_mutex_unlock(&fault->mutex);
    }
    return (int)op_end(fault, &live, error);
}

static int fault_close(struct weir__io *io, int descriptor)
{
    struct fault_io *const fault = fault_of(io);
    (void)pthread_mutex_lock(&fault->mutex);
    if (descriptor >= 0 && descriptor < FAULT_DESCRIPTORS_MAX) {
        fault->by_descriptor[descriptor] = NULL;
    }
    (void)pthread_mutex_unlock(&fault->mutex);
    return below(fault)->ops->close(below(fault), descriptor);
}

static int fault_rename(struct weir__io *io, int dir, const char *from, const char *to)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {0};
    (void)snprintf(live.op.from, sizeof live.op.from, "%s", from);
    int error = plain_begin(fault, &live, FAULT_RENAME, -1, to);
    if (error == 0) {
        error = below(fault)->ops->rename(below(fault), dir, from, to);
        if (error == 0) {
            (void)pthread_mutex_lock(&fault->mutex);
            struct fault_file *const there = file_named(fault, to);
            if (there != NULL) {
                file_forget(there);
            }
            struct fault_file *const file = file_named(fault, from);
            if (file != NULL) {
                (void)snprintf(file->name, sizeof file->name, "%s", to);
            }
            (void)pthread_mutex_unlock(&fault->mutex);
        }
        error = (int)plain_result(&live, error);
    }
    return (int)op_end(fault, &live, error);
}

static int fault_unlink(struct weir__io *io, int dir, const char *name)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {0};
    int error = plain_begin(fault, &live, FAULT_UNLINK, -1, name);
    if (error == 0) {
        error = below(fault)->ops->unlink(below(fault), dir, name);
        if (error == 0) {
            (void)pthread_mutex_lock(&fault->mutex);
            struct fault_file *const file = file_named(fault, name);
            if (file != NULL) {
                file_forget(file);
            }
            (void)pthread_mutex_unlock(&fault->mutex);
        }
        error = (int)plain_result(&live, error);
    }
    return (int)op_end(fault, &live, error);
}

static int fault_truncate(struct weir__io *io, int descriptor, uint64_t bytes)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {.op.bytes = bytes};
    int error = plain_begin(fault, &live, FAULT_TRUNCATE, descriptor, NULL);
    if (error == 0) {
        error = below(fault)->ops->truncate(below(fault), descriptor, bytes);
        if (error == 0 && live.file != NULL) {
            (void)pthread_mutex_lock(&fault->mutex);
            image_resize(live.file, bytes);
            (void)pthread_mutex_unlock(&fault->mutex);
        }
        error = (int)plain_result(&live, error);
    }
    return (int)op_end(fault, &live, error);
}

static int fault_sync_dir(struct weir__io *io, int dir)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {0};
    int error = plain_begin(fault, &live, FAULT_SYNC_DIR, -1, "");
    if (error == 0) {
        error = (int)plain_result(&live, below(fault)->ops->sync_dir(below(fault), dir));
    }
    return (int)op_end(fault, &live, error);
}

/* ---- reads, writes, syncs ---- */

static ssize_t
fault_read(struct weir__io *io, int descriptor, void *buffer, size_t bytes, uint64_t offset)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {.op = {.offset = offset, .bytes = bytes}};
    ssize_t got = plain_begin(fault, &live, FAULT_READ, descriptor, NULL);
    if (got == 0) {
        got = below(fault)->ops->read(below(fault), descriptor, buffer, bytes, offset);
        if (live.spoilt && live.rule.shortened && got > (ssize_t)live.rule.bytes) {
            got = (ssize_t)live.rule.bytes;
        }
    }
    return op_end(fault, &live, got);
}

static size_t iov_bytes(const struct iovec *iov, unsigned iov_count)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < iov_count; i++) {
        bytes += iov[i].iov_len;
    }
    return bytes;
}

/* The first `bytes` bytes of a list. Returns the count of entries. */
static unsigned
iov_trim(const struct iovec *iov, unsigned iov_count, size_t bytes, struct iovec *out)
{
    unsigned count = 0;
    if (iov_count > IOV_MAX_HERE) {
        impossible("too many pieces in a write");
    }
    while (count < iov_count && bytes > 0) {
        out[count] = iov[count];
        if (out[count].iov_len > bytes) {
            out[count].iov_len = bytes;
        }
        bytes -= out[count].iov_len;
        count++;
    }
    return count;
}

/* A part of a write may not be what O_DIRECT takes; it then goes through another descriptor of the
 * same file. */
static ssize_t write_below(const struct fault_io *fault,
                           int descriptor,
                           const struct iovec *iov,
                           unsigned iov_count,
                           uint64_t offset,
                           bool dsync)
{
    const ssize_t done =
        below(fault)->ops->write(below(fault), descriptor, iov, iov_count, offset, dsync);
    if (done != -EINVAL) {
        return done;
    }
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    const int other = open(path, O_WRONLY | O_CLOEXEC);
    if (other < 0) {
        return -errno;
    }
    const ssize_t result =
        below(fault)->ops->write(below(fault), other, iov, iov_count, offset, true);
    (void)close(other);
    return result;
}

/* Runs a write that has begun, in the calling thread; not its end. */
static long write_run(const struct fault_live *live,
                      int descriptor,
                      const struct iovec *iov,
                      unsigned iov_count)
{
    if (live->spoilt && live->rule.error != 0 && !live->rule.afterwards) {
        return live->rule.error;
    }
    struct iovec part[IOV_MAX_HERE];
    if (live->spoilt && live->rule.shortened) {
        if (live->rule.bytes == 0) {
            return 0;
        }
        iov_count = iov_trim(iov, iov_count, live->rule.bytes, part);
        iov = part;
    }
    return plain_result(live,
                        write_below(live->fault,
                                    descriptor,
                                    iov,
                                    iov_count,
                                    live->op.offset,
                                    live->op.dsync && !live->lie));
}

/* A queued read. A short one is read in full and told short: the length may be none that O_DIRECT
 * takes. */
static long
read_run(const struct fault_live *live, int descriptor, const struct iovec *iov, unsigned iov_count)
{
    if (live->spoilt && live->rule.error != 0) {
        return live->rule.error;
    }
    long done = 0;
    for (unsigned i = 0; i < iov_count; i++) {
        const ssize_t got = below(live->fault)
                                ->ops->read(below(live->fault),
                                            descriptor,
                                            iov[i].iov_base,
                                            iov[i].iov_len,
                                            live->op.offset + (uint64_t)done);
        if (got < 0) {
            return done > 0 ? done : got;
        }
        done += got;
        if ((size_t)got < iov[i].iov_len) {
            break;
        }
    }
    if (live->spoilt && live->rule.shortened && done > (long)live->rule.bytes) {
        done = (long)live->rule.bytes;
    }
    return done;
}

static long sync_run(const struct fault_live *live, int descriptor)
{
    if (live->spoilt && live->rule.error != 0 && !live->rule.afterwards) {
        return live->rule.error;
    }
    return plain_result(live,
                        live->lie ? 0
                                  : below(live->fault)->ops->sync(below(live->fault), descriptor));
}

static ssize_t fault_write(struct weir__io *io,
                           int descriptor,
                           const struct iovec *iov,
                           unsigned iov_count,
                           uint64_t offset,
                           bool dsync)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {
        .op = {.offset = offset, .bytes = iov_bytes(iov, iov_count), .dsync = dsync}};
    (void)pthread_mutex_lock(&fault->mutex);
    op_begin(fault, &live, FAULT_WRITE, false, descriptor, NULL);
    write_begin(&live, iov, iov_count);
    (void)pthread_mutex_unlock(&fault->mutex);
    op_hold(fault, &live);
    return op_end(fault, &live, write_run(&live, descriptor, iov, iov_count));
}

static int fault_sync(struct weir__io *io, int descriptor)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {0};
    (void)pthread_mutex_lock(&fault->mutex);
    op_begin(fault, &live, FAULT_SYNC, false, descriptor, NULL);
    (void)pthread_mutex_unlock(&fault->mutex);
    op_hold(fault, &live);
    return (int)op_end(fault, &live, sync_run(&live, descriptor));
}

/* ---- the queue: what both kinds share ---- */

struct fault_chain {
    bool used;
    bool stepped; /* ring: its operations are pushed one by one */
    bool waits;   /* ring: the next one is held */
    bool cut;     /* the rest is cancelled */
    unsigned count;
    unsigned at;        /* the one to run next */
    unsigned delivered; /* events that the engine has */
    struct weir__op ops[CHAIN_MAX];
    struct fault_live live[CHAIN_MAX];
};

struct fault_done {
    struct fault_chain *chain;
    unsigned index;
    int32_t result;
};

struct fault_queue {
    struct fault_io *fault;
    struct fault_queue *next; /* guarded by the fault's mutex */
    unsigned entries;
    unsigned in_flight; /* operations whose events the engine does not have yet */
    struct fault_chain *chains;
    struct fault_done *done; /* a ring of `entries` */
    unsigned done_first;
    unsigned done_count;

    struct weir__queue *ring; /* FAULT_QUEUE_RING; everything above is its owner's then */

    /* FAULT_QUEUE_THREADS: everything is guarded by mutex. */
    pthread_mutex_t mutex;
    pthread_cond_t work;
    pthread_cond_t some;
    struct fault_chain **todo; /* a ring of `entries` */
    unsigned todo_first;
    unsigned todo_count;
    bool woken;
    bool stopping;
    pthread_t threads[QUEUE_THREADS];
    struct random random;
};

static struct fault_queue *queue_of(struct weir__queue *queue)
{
    return (struct fault_queue *)queue;
}

static void
queue_done(struct fault_queue *queue, struct fault_chain *chain, unsigned index, long result)
{
    if (queue->done_count == queue->entries) {
        impossible("more events than operations");
    }
    queue->done[(queue->done_first + queue->done_count++) % queue->entries] =
        (struct fault_done){chain, index, (int32_t)result};
}

static bool in_full(const struct fault_chain *chain, unsigned index, long result)
{
    return chain->ops[index].kind == WEIR__OP_SYNC ? result == 0
                                                   : result == (long)chain->live[index].op.bytes;
}

/* An operation has run: the rest of the chain goes on or is cancelled. */
static void chain_ran(struct fault_queue *queue, struct fault_chain *chain, long result)
{
    const unsigned index = chain->at++;
    queue_done(queue, chain, index, result);
    if (!in_full(chain, index, result)) {
        while (chain->at < chain->count) {
            queue_done(queue, chain, chain->at++, -ECANCELED);
        }
    }
}

/* Hands out what is there: the end of each operation. */
static int queue_deliver(struct fault_queue *queue, struct weir__event *events, unsigned max)
{
    struct fault_io *const fault = queue->fault;
    unsigned count = 0;
    while (count < max && queue->done_count > 0) {
        const struct fault_done done = queue->done[queue->done_first];
        queue->done_first = (queue->done_first + 1) % queue->entries;
        queue->done_count--;
        struct fault_chain *const chain = done.chain;
        (void)pthread_mutex_lock(&fault->mutex);
        op_end_locked(fault, &chain->live[done.index], done.result);
        if (done.index + 1 < chain->count && in_full(chain, done.index, done.result)) {
            chain->live[done.index + 1].covers_from = ++fault->sequence; /* it began after this */
        }
        (void)pthread_mutex_unlock(&fault->mutex);
        events[count++] = (struct weir__event){chain->ops[done.index].data, done.result};
        queue->in_flight--;
        if (++chain->delivered == chain->count) {
            chain->used = false;
        }
    }
    return (int)count;
}

static struct fault_chain *
chain_take(struct fault_queue *queue, const struct weir__op *ops, unsigned count)
{
    struct fault_io *const fault = queue->fault;
    struct fault_chain *chain = queue->chains;
    while (chain->used) {
        chain++;
    }
    if (count > CHAIN_MAX) {
        impossible("a chain too long");
    }
    memset(chain, 0, sizeof *chain);
    chain->used = true;
    chain->count = count;
    memcpy(chain->ops, ops, count * sizeof *ops);
    (void)pthread_mutex_lock(&fault->mutex);
    for (unsigned i = 0; i < count; i++) {
        struct fault_live *const live = &chain->live[i];
        if (ops[i].kind == WEIR__OP_WRITE) {
            live->op.offset = ops[i].offset;
            live->op.bytes = iov_bytes(ops[i].iov, ops[i].iov_count);
            live->op.dsync = ops[i].dsync;
            op_begin(fault, live, FAULT_WRITE, true, ops[i].file, NULL);
            write_begin(live, ops[i].iov, ops[i].iov_count);
        } else if (ops[i].kind == WEIR__OP_READ) {
            live->op.offset = ops[i].offset;
            live->op.bytes = iov_bytes(ops[i].iov, ops[i].iov_count);
            op_begin(fault, live, FAULT_READ, true, ops[i].file, NULL);
        } else {
            op_begin(fault, live, FAULT_SYNC, true, ops[i].file, NULL);
        }
        chain->stepped |= live->spoilt || live->lie;
    }
    (void)pthread_mutex_unlock(&fault->mutex);
    queue->in_flight += count;
    return chain;
}

/* How many operations from the first on are one chain. */
static unsigned chain_length(const struct weir__op *ops, unsigned count)
{
    unsigned length = 1;
    while (length < count && ops[length - 1].link) {
        length++;
    }
    return length;
}

/* ---- the queue: the system's ring ---- */

static bool ring_held(struct fault_queue *queue, const struct fault_live *live)
{
    struct fault_io *const fault = queue->fault;
    (void)pthread_mutex_lock(&fault->mutex);
    const bool held = live->hold && fault->releases == live->hold_release;
    (void)pthread_mutex_unlock(&fault->mutex);
    return held;
}

static void ring_hold(struct fault_queue *queue, struct fault_chain *chain, bool holds)
{
    struct fault_io *const fault = queue->fault;
    if (chain->waits == holds) {
        return;
    }
    chain->waits = holds;
    (void)pthread_mutex_lock(&fault->mutex);
    fault->held += holds ? 1u : -1u;
    (void)pthread_cond_broadcast(&fault->changed);
    (void)pthread_mutex_unlock(&fault->mutex);
}

static uint64_t
ring_data(const struct fault_queue *queue, const struct fault_chain *chain, unsigned index)
{
    return (uint64_t)(chain - queue->chains) * CHAIN_MAX + index;
}

/* Runs a chain that is taken apart, until an operation is with the kernel or is held. */
static void ring_step(struct fault_queue *queue, struct fault_chain *chain)
{
    while (chain->at < chain->count) {
        struct fault_live *const live = &chain->live[chain->at];
        if (ring_held(queue, live)) {
            ring_hold(queue, chain, true);
            return;
        }
        ring_hold(queue, chain, false);
        if (live->spoilt && live->rule.error != 0 && !live->rule.afterwards) {
            chain_ran(queue, chain, live->rule.error);
            continue;
        }
        if (live->lie && live->op.kind == FAULT_SYNC) {
            chain_ran(queue, chain, 0);
            continue;
        }
        if (live->spoilt && live->rule.shortened) {
            /* Called, because the length may be none that O_DIRECT takes. */
            const struct weir__op *const op = &chain->ops[chain->at];
            chain_ran(queue,
                      chain,
                      op->kind == WEIR__OP_READ
                          ? read_run(live, op->file, op->iov, op->iov_count)
                          : write_run(live, op->file, op->iov, op->iov_count));
            continue;
        }
        struct weir__op op = chain->ops[chain->at];
        op.link = false;
        op.dsync = op.dsync && !live->lie;
        op.data = ring_data(queue, chain, chain->at);
        const int code =
            below(queue->fault)->ops->queue_push(below(queue->fault), queue->ring, &op, 1);
        if (code == 0) {
            return;
        }
        chain_ran(queue, chain, code);
    }
}

static int ring_push(struct fault_queue *queue, const struct weir__op *ops, unsigned count)
{
    struct weir__op *const real = must_alloc(count * sizeof *real);
    unsigned real_count = 0;
    for (unsigned i = 0; i < count;) {
        const unsigned length = chain_length(ops + i, count - i);
        struct fault_chain *const chain = chain_take(queue, ops + i, length);
        if (chain->stepped) {
            ring_step(queue, chain);
        }
        for (unsigned j = 0; j < length && !chain->stepped; j++) {
            real[real_count] = ops[i + j];
            real[real_count++].data = ring_data(queue, chain, j);
        }
        i += length;
    }
    const int code = real_count > 0
                         ? below(queue->fault)
                               ->ops->queue_push(below(queue->fault), queue->ring, real, real_count)
                         : 0;
    for (unsigned i = 0; i < real_count && code != 0; i++) {
        /* Refused as a whole; the engine gets no events for these. */
        struct fault_chain *const chain = &queue->chains[real[i].data / CHAIN_MAX];
        (void)op_end(queue->fault, &chain->live[real[i].data % CHAIN_MAX], code);
        chain->used = false;
        queue->in_flight--;
    }
    free(real);
    return code;
}

static void ring_event(struct fault_queue *queue, const struct weir__event *event)
{
    struct fault_chain *const chain = &queue->chains[event->data / CHAIN_MAX];
    const unsigned index = event->data % CHAIN_MAX;
    if (!chain->stepped) {
        queue_done(queue, chain, index, event->result);
        return;
    }
    chain_ran(queue, chain, plain_result(&chain->live[index], event->result));
    ring_step(queue, chain);
}

/* Held operations that may begin now. */
static void ring_go_on(struct fault_queue *queue)
{
    for (unsigned i = 0; i < queue->entries; i++) {
        if (queue->chains[i].used && queue->chains[i].waits) {
            ring_step(queue, &queue->chains[i]);
        }
    }
}

/* For how many events a reap waits. */
static unsigned queue_need(const struct fault_queue *queue, unsigned min)
{
    const unsigned most = queue->in_flight > 0 ? queue->in_flight : 1;
    return min < most ? min : most;
}

static int ring_reap(struct fault_queue *queue,
                     struct weir__event *events,
                     unsigned max,
                     unsigned min,
                     uint64_t deadline_ns)
{
    const unsigned need = queue_need(queue, min);
    for (;;) {
        ring_go_on(queue);
        struct weir__event got[64];
        const int count =
            below(queue->fault)
                ->ops->queue_reap(below(queue->fault),
                                  queue->ring,
                                  got,
                                  sizeof got / sizeof got[0],
                                  queue->done_count < need ? need - queue->done_count : 0,
                                  deadline_ns);
        if (count < 0) {
            return count;
        }
        for (int i = 0; i < count; i++) {
            ring_event(queue, &got[i]);
        }
        if (queue->done_count > 0) {
            return queue_deliver(queue, events, max);
        }
        if (count == 0) {
            return 0; /* woken, by a release perhaps: the next call sees to it */
        }
    }
}

/* ---- the queue: threads ---- */

static long thread_run(struct fault_queue *queue, struct fault_chain *chain, unsigned index)
{
    const struct weir__op *const op = &chain->ops[index];
    struct fault_live *const live = &chain->live[index];
    op_hold(queue->fault, live);
    if (op->kind == WEIR__OP_WRITE) {
        return write_run(live, op->file, op->iov, op->iov_count);
    }
    if (op->kind == WEIR__OP_SYNC) {
        return sync_run(live, op->file);
    }
    return read_run(live, op->file, op->iov, op->iov_count);
}

static void *thread_main(void *arg)
{
    struct fault_queue *const queue = arg;
    (void)pthread_mutex_lock(&queue->mutex);
    while (!queue->stopping || queue->todo_count > 0) {
        if (queue->todo_count == 0) {
            (void)pthread_cond_wait(&queue->work, &queue->mutex);
            continue;
        }
        struct fault_chain *const chain = queue->todo[queue->todo_first];
        queue->todo_first = (queue->todo_first + 1) % queue->entries;
        queue->todo_count--;
        int own[CHAIN_MAX];
        const unsigned own_count = chain->count;
        for (unsigned i = 0; i < own_count; i++) {
            own[i] = chain->ops[i].file;
        }
        while (chain->at < chain->count) {
            const unsigned index = chain->at;
            const uint64_t pause_ns =
                queue->fault->jitter != 0 ? random_below(&queue->random, JITTER_NS) : 0;
            (void)pthread_mutex_unlock(&queue->mutex);
            if (pause_ns > 0) {
                weir__sleep_ns(pause_ns);
            }
            const long result = thread_run(queue, chain, index);
            (void)pthread_mutex_lock(&queue->mutex);
            const bool last = index + 1 == chain->count || !in_full(chain, index, result);
            chain_ran(queue, chain, result);
            (void)pthread_cond_signal(&queue->some);
            if (last) {
                break; /* the chain is the owner's, and may be another's by now */
            }
        }
        for (unsigned i = 0; i < own_count; i++) {
            (void)close(own[i]);
        }
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

static int threads_push(struct fault_queue *queue, const struct weir__op *ops, unsigned count)
{
    (void)pthread_mutex_lock(&queue->mutex);
    for (unsigned i = 0; i < count;) {
        const unsigned length = chain_length(ops + i, count - i);
        struct fault_chain *const chain = chain_take(queue, ops + i, length);
        for (unsigned j = 0; j < length; j++) {
            /* As the kernel does it: what is submitted outlives the descriptor. */
            chain->ops[j].file = fcntl(chain->ops[j].file, F_DUPFD_CLOEXEC, 3);
            if (chain->ops[j].file < 0) {
                impossible("no descriptor for an operation");
            }
        }
        queue->todo[(queue->todo_first + queue->todo_count++) % queue->entries] = chain;
        i += length;
    }
    (void)pthread_cond_broadcast(&queue->work);
    (void)pthread_mutex_unlock(&queue->mutex);
    return 0;
}

static int threads_reap(struct fault_queue *queue,
                        struct weir__event *events,
                        unsigned max,
                        unsigned min,
                        uint64_t deadline_ns)
{
    const struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / UINT64_C(1000000000)),
        .tv_nsec = (long)(deadline_ns % UINT64_C(1000000000)),
    };
    (void)pthread_mutex_lock(&queue->mutex);
    int late = 0;
    const unsigned need = queue_need(queue, min);
    while (queue->done_count < need && !queue->woken && late == 0) {
        late = deadline_ns == WEIR__NEVER
                   ? pthread_cond_wait(&queue->some, &queue->mutex)
                   : pthread_cond_timedwait(&queue->some, &queue->mutex, &deadline);
    }
    if (min > 0) {
        queue->woken = false;
    }
    const int count = queue_deliver(queue, events, max);
    (void)pthread_mutex_unlock(&queue->mutex);
    return count;
}

/* ---- the queue: its table ---- */

static void queue_free(struct fault_queue *queue)
{
    (void)pthread_mutex_destroy(&queue->mutex);
    (void)pthread_cond_destroy(&queue->work);
    (void)pthread_cond_destroy(&queue->some);
    free(queue->chains);
    free(queue->done);
    free(queue->todo);
    free(queue);
}

static int fault_queue_open(struct weir__io *io,
                            struct weir__mem *mem,
                            const struct weir__queue_config *config,
                            struct weir__queue **queue_out,
                            struct weir__queue_info *info_out)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {0};
    int error = plain_begin(fault, &live, FAULT_QUEUE_OPEN, -1, "");
    if (error != 0) {
        return (int)op_end(fault, &live, error);
    }
    struct fault_queue *const queue = must_alloc(sizeof *queue);
    queue->fault = fault;
    queue->entries = config->entries;
    queue->chains = must_alloc(queue->entries * sizeof *queue->chains);
    queue->done = must_alloc(queue->entries * sizeof *queue->done);
    queue->todo = must_alloc(queue->entries * sizeof(struct fault_chain *));
    queue->random.state = fault->jitter;
    (void)pthread_mutex_init(&queue->mutex, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&queue->work, NULL);
    (void)pthread_cond_init(&queue->some, &attributes);
    (void)pthread_condattr_destroy(&attributes);

    if (fault->queue_kind == FAULT_QUEUE_RING) {
        error = below(fault)->ops->queue_open(below(fault), mem, config, &queue->ring, info_out);
        queue->entries = error == 0 ? info_out->entries : queue->entries;
    } else {
        memset(info_out, 0, sizeof *info_out);
        info_out->entries = config->entries;
        info_out->threads = QUEUE_THREADS;
        for (unsigned i = 0; i < QUEUE_THREADS; i++) {
            if (pthread_create(&queue->threads[i], NULL, thread_main, queue) != 0) {
                impossible("no thread for the queue");
            }
        }
    }
    if (error != 0) {
        queue_free(queue);
        return (int)op_end(fault, &live, error);
    }
    (void)pthread_mutex_lock(&fault->mutex);
    queue->next = fault->queues;
    fault->queues = queue;
    (void)pthread_mutex_unlock(&fault->mutex);
    *queue_out = (struct weir__queue *)queue;
    return (int)op_end(fault, &live, 0);
}

static void fault_queue_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *q)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_queue *const queue = queue_of(q);
    fault_io_release(fault);
    (void)pthread_mutex_lock(&fault->mutex);
    struct fault_queue **at = &fault->queues;
    while (*at != queue) {
        at = &(*at)->next;
    }
    *at = queue->next;
    (void)pthread_mutex_unlock(&fault->mutex);
    if (fault->queue_kind == FAULT_QUEUE_RING) {
        ring_go_on(queue);
        below(fault)->ops->queue_close(below(fault), mem, queue->ring);
    } else {
        (void)pthread_mutex_lock(&queue->mutex);
        queue->stopping = true;
        (void)pthread_cond_broadcast(&queue->work);
        (void)pthread_mutex_unlock(&queue->mutex);
        for (unsigned i = 0; i < QUEUE_THREADS; i++) {
            (void)pthread_join(queue->threads[i], NULL);
        }
    }
    /* What nobody asked for any more has ended all the same, one way or the other: it counts as not
     * done. */
    for (unsigned i = 0; i < queue->entries; i++) {
        struct fault_chain *const chain = &queue->chains[i];
        for (unsigned j = chain->delivered; chain->used && j < chain->count; j++) {
            (void)op_end(fault, &chain->live[j], -ECANCELED);
        }
    }
    queue_free(queue);
}

static int fault_queue_push(struct weir__io *io,
                            struct weir__queue *q,
                            const struct weir__op *ops,
                            unsigned count)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_queue *const queue = queue_of(q);
    struct fault_live live = {.op.bytes = count};
    int error = plain_begin(fault, &live, FAULT_QUEUE_PUSH, ops[0].file, NULL);
    if (error == 0) {
        if (fault->queue_kind == FAULT_QUEUE_RING) {
            error =
                queue->in_flight + count > queue->entries ? -EAGAIN : ring_push(queue, ops, count);
        } else {
            (void)pthread_mutex_lock(&queue->mutex);
            const bool full = queue->in_flight + count > queue->entries;
            (void)pthread_mutex_unlock(&queue->mutex);
            error = full ? -EAGAIN : threads_push(queue, ops, count);
        }
    }
    return (int)op_end(fault, &live, error);
}

static int fault_queue_reap(struct weir__io *io,
                            struct weir__queue *q,
                            struct weir__event *events,
                            unsigned max,
                            unsigned min,
                            uint64_t deadline_ns)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_live live = {0};
    /* Too many to write down: only for the rules. */
    (void)pthread_mutex_lock(&fault->mutex);
    live.op.kind = FAULT_QUEUE_REAP;
    rule_pick(fault, &live);
    (void)pthread_mutex_unlock(&fault->mutex);
    if (live.spoilt) {
        return live.rule.error;
    }
    struct fault_queue *const queue = queue_of(q);
    return fault->queue_kind == FAULT_QUEUE_RING
               ? ring_reap(queue, events, max, min, deadline_ns)
               : threads_reap(queue, events, max, min, deadline_ns);
}

static void fault_queue_wake(struct weir__io *io, struct weir__queue *q)
{
    (void)io;
    struct fault_queue *const queue = queue_of(q);
    if (queue->ring != NULL) {
        below(queue->fault)->ops->queue_wake(below(queue->fault), queue->ring);
        return;
    }
    (void)pthread_mutex_lock(&queue->mutex);
    queue->woken = true;
    (void)pthread_cond_signal(&queue->some);
    (void)pthread_mutex_unlock(&queue->mutex);
}

static void fault_queue_faults(struct weir__io *io,
                               struct weir__queue *q,
                               struct weir__queue_faults *faults_out)
{
    struct fault_io *const fault = fault_of(io);
    struct fault_queue *const queue = queue_of(q);
    memset(faults_out, 0, sizeof *faults_out);
    if (queue->ring != NULL) {
        below(fault)->ops->queue_faults(below(fault), queue->ring, faults_out);
    }
}

/* ---- setting up ---- */

static int fault_facts(struct weir__io *io, int dir, struct weir__fs_facts *facts_out)
{
    const struct fault_io *const fault = fault_of(io);
    const int error = below(fault)->ops->facts(below(fault), dir, facts_out);
    if (error == 0 && fault->fua != -2) {
        facts_out->fua = fault->fua;
    }
    return error;
}

bool fault_io_has_ring(void)
{
    char reason[160];
    return weir__uring_probe(reason, sizeof reason) == 0;
}

void fault_io_init(struct fault_io *fault, enum fault_queue_kind queue_kind)
{
    memset(fault, 0, sizeof *fault);
    fault->base = weir__io_system();
    fault->ops = *below(fault)->ops;
    fault->ops.facts = fault_facts;
    fault->ops.open = fault_open;
    fault->ops.close = fault_close;
    fault->ops.rename = fault_rename;
    fault->ops.unlink = fault_unlink;
    fault->ops.truncate = fault_truncate;
    fault->ops.sync_dir = fault_sync_dir;
    fault->ops.read = fault_read;
    fault->ops.write = fault_write;
    fault->ops.sync = fault_sync;
    fault->ops.queue_open = fault_queue_open;
    fault->ops.queue_close = fault_queue_close;
    fault->ops.queue_push = fault_queue_push;
    fault->ops.queue_reap = fault_queue_reap;
    fault->ops.queue_wake = fault_queue_wake;
    fault->ops.queue_faults = fault_queue_faults;
    fault->io = (struct weir__io){.ops = &fault->ops, .ctx = fault};
    fault->queue_kind = queue_kind;
    fault->fua = -2;
    (void)pthread_mutex_init(&fault->mutex, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&fault->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    fault->list = must_alloc(FAULT_OPS_MAX * sizeof *fault->list);
}

void fault_io_exit(struct fault_io *fault)
{
    while (fault->files != NULL) {
        struct fault_file *const file = fault->files;
        fault->files = file->next;
        while (file->writes != NULL) {
            struct fault_write *const write = file->writes;
            file->writes = write->next;
            write_free(write);
        }
        free(file->durable);
        free(file);
    }
    free(fault->list);
    (void)pthread_cond_destroy(&fault->changed);
    (void)pthread_mutex_destroy(&fault->mutex);
}

/* ---- spoiling ---- */

unsigned fault_io_arm(struct fault_io *fault, const struct fault_rule *rule)
{
    (void)pthread_mutex_lock(&fault->mutex);
    unsigned i = 0;
    while (i < FAULT_RULES_MAX && fault->rules[i].used) {
        i++;
    }
    if (i == FAULT_RULES_MAX) {
        impossible("too many rules");
    }
    struct fault_armed *const armed = &fault->rules[i];
    *armed = (struct fault_armed){.used = true, .rule = *rule};
    if (rule->name != NULL) {
        (void)snprintf(armed->name, sizeof armed->name, "%s", rule->name);
        armed->rule.name = armed->name;
    }
    (void)pthread_mutex_unlock(&fault->mutex);
    return i;
}

unsigned fault_io_spoilt(struct fault_io *fault, unsigned rule)
{
    (void)pthread_mutex_lock(&fault->mutex);
    const unsigned spoilt = fault->rules[rule].spoilt;
    (void)pthread_mutex_unlock(&fault->mutex);
    return spoilt;
}

void fault_io_disarm(struct fault_io *fault, unsigned rule)
{
    (void)pthread_mutex_lock(&fault->mutex);
    fault->rules[rule].used = false;
    (void)pthread_mutex_unlock(&fault->mutex);
}

static void release(struct fault_io *fault, bool all)
{
    (void)pthread_mutex_lock(&fault->mutex);
    fault->releases++;
    for (unsigned i = 0; i < FAULT_RULES_MAX; i++) {
        if (all || fault->rules[i].rule.hold) {
            fault->rules[i].used = false;
        }
    }
    if (all) {
        fault->lying = false;
    }
    (void)pthread_cond_broadcast(&fault->changed);
    /* A ring's held operations are begun by its owner. Under the mutex, so that the ring is still
     * there. */
    for (struct fault_queue *queue = fault->queues; queue != NULL; queue = queue->next) {
        if (queue->ring != NULL) {
            below(fault)->ops->queue_wake(below(fault), queue->ring);
        }
    }
    (void)pthread_mutex_unlock(&fault->mutex);
}

void fault_io_release(struct fault_io *fault)
{
    release(fault, false);
}

void fault_io_heal(struct fault_io *fault)
{
    release(fault, true);
}

bool fault_io_wait_held(struct fault_io *fault, unsigned count)
{
    const uint64_t end_ns = weir__now_ns() + TEST_PATIENCE_NS;
    const struct timespec end = {
        .tv_sec = (time_t)(end_ns / UINT64_C(1000000000)),
        .tv_nsec = (long)(end_ns % UINT64_C(1000000000)),
    };
    (void)pthread_mutex_lock(&fault->mutex);
    int late = 0;
    while (fault->held < count && late == 0) {
        late = pthread_cond_timedwait(&fault->changed, &fault->mutex, &end);
    }
    const bool held = fault->held >= count;
    (void)pthread_mutex_unlock(&fault->mutex);
    return held;
}

void fault_io_lie(struct fault_io *fault, const char *name)
{
    (void)pthread_mutex_lock(&fault->mutex);
    (void)snprintf(fault->lies, sizeof fault->lies, "%s", name);
    fault->lying = true;
    (void)pthread_mutex_unlock(&fault->mutex);
}

/* ---- what was done ---- */

uint64_t fault_io_now(struct fault_io *fault)
{
    (void)pthread_mutex_lock(&fault->mutex);
    const uint64_t now = fault->sequence;
    (void)pthread_mutex_unlock(&fault->mutex);
    return now;
}

void fault_io_forget(struct fault_io *fault)
{
    (void)pthread_mutex_lock(&fault->mutex);
    fault->count = 0;
    fault->ops_lost = 0;
    (void)pthread_mutex_unlock(&fault->mutex);
}

static bool look_fits(const struct fault_look *look, const struct fault_op *op)
{
    if (look->syncs ? op->kind != FAULT_SYNC && !(op->kind == FAULT_WRITE && op->dsync)
                    : look->kind != 0 && op->kind != look->kind) {
        return false;
    }
    return name_holds(op->name, look->name) && way_fits(look->way, op->queued) &&
           durable_fits(look->durable, op) && op->begun > look->after &&
           op->offset >= look->offset_from &&
           (!look->succeeded || (op->ended != 0 && op->result >= 0));
}

size_t fault_io_count(struct fault_io *fault, const struct fault_look *look)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&fault->mutex);
    for (size_t i = 0; i < fault->count; i++) {
        count += look_fits(look, &fault->list[i]);
    }
    (void)pthread_mutex_unlock(&fault->mutex);
    return count;
}

bool fault_io_find(struct fault_io *fault, const struct fault_look *look, struct fault_op *op_out)
{
    bool found = false;
    (void)pthread_mutex_lock(&fault->mutex);
    for (size_t i = 0; i < fault->count && !found; i++) {
        found = look_fits(look, &fault->list[i]);
        if (found) {
            *op_out = fault->list[i];
        }
    }
    (void)pthread_mutex_unlock(&fault->mutex);
    return found;
}

size_t fault_io_ops(struct fault_io *fault, struct fault_op **ops_out)
{
    (void)pthread_mutex_lock(&fault->mutex);
    const size_t count = fault->count;
    *ops_out = must_alloc(count * sizeof **ops_out);
    memcpy(*ops_out, fault->list, count * sizeof **ops_out);
    (void)pthread_mutex_unlock(&fault->mutex);
    return count;
}

void fault_io_print(struct fault_io *fault)
{
    static const char *const kinds[] = {"?",
                                        "open",
                                        "read",
                                        "write",
                                        "sync",
                                        "rename",
                                        "unlink",
                                        "truncate",
                                        "sync_dir",
                                        "queue_open",
                                        "queue_push",
                                        "queue_reap"};
    struct fault_op *ops;
    const size_t count = fault_io_ops(fault, &ops);
    for (size_t i = 0; i < count; i++) {
        (void)fprintf(stderr,
                      "%6" PRIu64 " %6" PRIu64 " %-10s %s%s %s at %" PRIu64 " + %" PRIu64
                      " = %ld%s\n",
                      ops[i].begun,
                      ops[i].ended,
                      kinds[ops[i].kind],
                      ops[i].queued ? "queued" : "called",
                      ops[i].dsync ? " dsync" : "",
                      ops[i].name,
                      ops[i].offset,
                      ops[i].bytes,
                      ops[i].result,
                      ops[i].spoilt ? " (spoilt)" : "");
    }
    free(ops);
}

/* ---- what a power cut would leave ---- */

bool fault_io_durable_at(struct fault_io *fault, weir_lsn lsn, const void *data, size_t bytes)
{
    bool good = false;
    (void)pthread_mutex_lock(&fault->mutex);
    for (const struct fault_file *file = fault->files; file != NULL; file = file->next) {
        weir_lsn base;
        weir_lsn end;
        if (file->name[0] == '\0' || !weir__segment_name_parse(file->name, &base, &end) ||
            lsn < base || lsn >= end) {
            continue;
        }
        const uint64_t offset = lsn - base;
        good = offset + bytes <= file->bytes && memcmp(file->durable + offset, data, bytes) == 0;
        break;
    }
    (void)pthread_mutex_unlock(&fault->mutex);
    return good;
}

uint64_t fault_io_unsynced(struct fault_io *fault, const char *name)
{
    uint64_t bytes = 0;
    (void)pthread_mutex_lock(&fault->mutex);
    for (const struct fault_file *file = fault->files; file != NULL; file = file->next) {
        if (file->name[0] == '\0' || !name_holds(file->name, name)) {
            continue;
        }
        for (const struct fault_write *write = file->writes; write != NULL; write = write->next) {
            bytes += write->bytes;
        }
    }
    (void)pthread_mutex_unlock(&fault->mutex);
    return bytes;
}

void fault_io_crash(struct fault_io *fault, const char *path)
{
    (void)pthread_mutex_lock(&fault->mutex);
    for (const struct fault_file *file = fault->files; file != NULL; file = file->next) {
        if (file->name[0] == '\0') {
            continue;
        }
        char full[512];
        (void)snprintf(full, sizeof full, "%s/%s", path, file->name);
        const int out = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (out < 0) {
            impossible("cannot write the files of a crash");
        }
        for (uint64_t done = 0; done < file->bytes;) {
            const ssize_t put = write(out, file->durable + done, (size_t)(file->bytes - done));
            if (put <= 0) {
                impossible("cannot write the files of a crash");
            }
            done += (uint64_t)put;
        }
        (void)close(out);
    }
    (void)pthread_mutex_unlock(&fault->mutex);
}
