/* SPDX-License-Identifier: Apache-2.0
 * Directories in memory. Everything is done under one mutex by whoever asks; so are the operations
 * of a queue, at the push, with their results kept for the reap. A reap that finds nothing sleeps
 * until a wake or its deadline: nothing is ever under way. */
#include "memory_dir.h"

#include "base/num.h"
#include "port/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_DESCRIPTOR 3

const char *const memory_call_names[MEMORY_CALLS] = {
#define NAME_OF(name) #name,
    MEMORY_CALL_TABLE(NAME_OF)
#undef NAME_OF
};

struct weir__queue {
    unsigned entries;
    struct weir__event *events;
    unsigned count;
    bool woken;
};

static struct memory_dir *memory_of(struct weir__io *io)
{
    return io->ctx;
}

static void impossible(const char *what)
{
    fprintf(stderr, "memory_dir: %s\n", what);
    abort();
}

static void *must(void *block)
{
    if (block == NULL) {
        impossible("out of memory");
    }
    return block;
}

/* ---- files ----------------------------------------------------------------------------------- */

static unsigned dir_number(struct memory_dir *memory, const char *path)
{
    for (unsigned i = 0; i < memory->dir_count; i++) {
        if (strcmp(memory->dirs[i], path) == 0) {
            return i;
        }
    }
    if (memory->dir_count == MEMORY_DIRS_MAX) {
        impossible("too many directories");
    }
    (void)snprintf(memory->dirs[memory->dir_count], MEMORY_NAME_BYTES, "%s", path);
    return memory->dir_count++;
}

static int file_find(const struct memory_dir *memory, unsigned dir, const char *name)
{
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        const struct memory_file *const file = &memory->files[i];
        if (file->used && file->dir == dir && strcmp(file->name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int file_new(struct memory_dir *memory, unsigned dir, const char *name)
{
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        struct memory_file *const file = &memory->files[i];
        if (!file->used) {
            file->used = true;
            file->dir = dir;
            file->bytes = 0; /* data and room stay with the entry */
            file->opened = 0;
            file->locked_by = -1;
            (void)snprintf(file->name, sizeof file->name, "%s", name);
            return (int)i;
        }
    }
    impossible("too many files");
    return -1;
}

/* The name is gone; the bytes go with the last descriptor. */
static void file_drop(struct memory_file *file)
{
    file->name[0] = '\0';
    if (file->opened == 0) {
        file->used = false;
    }
}

void memory_file_resize(struct memory_file *file, size_t bytes)
{
    if (bytes > file->room) {
        size_t room = file->room == 0 ? 4096 : file->room;
        while (room < bytes) {
            room *= 2;
        }
        file->data = must(realloc(file->data, room));
        file->room = room;
    }
    if (bytes > file->bytes) {
        memset(file->data + file->bytes, 0, bytes - file->bytes);
    }
    file->bytes = bytes;
}

void memory_file_write(struct memory_file *file, size_t offset, const void *data, size_t bytes)
{
    if (bytes > 0) {
        if (offset + bytes > file->bytes) {
            memory_file_resize(file, offset + bytes);
        }
        memcpy(file->data + offset, data, bytes);
    }
}

static int descriptor_new(struct memory_dir *memory, int file, bool writes)
{
    for (int i = 0; i < (int)MEMORY_DESCRIPTORS_MAX; i++) {
        if (!memory->descriptors[i].used) {
            memory->descriptors[i].used = true;
            memory->descriptors[i].writes = writes;
            memory->descriptors[i].file = file;
            return i + FIRST_DESCRIPTOR;
        }
    }
    impossible("too many descriptors");
    return -1;
}

static struct memory_file *file_of(struct memory_dir *memory, int descriptor)
{
    const int i = descriptor - FIRST_DESCRIPTOR;
    if (i < 0 || i >= (int)MEMORY_DESCRIPTORS_MAX || !memory->descriptors[i].used ||
        memory->descriptors[i].file < 0) {
        impossible("not a file's descriptor");
    }
    return &memory->files[memory->descriptors[i].file];
}

static unsigned dir_of(const struct memory_dir *memory, int descriptor)
{
    const int i = descriptor - FIRST_DESCRIPTOR;
    if (i < 0 || i >= (int)MEMORY_DESCRIPTORS_MAX || !memory->descriptors[i].used ||
        memory->descriptors[i].file >= 0) {
        impossible("not a directory's descriptor");
    }
    return (unsigned)(-1 - memory->descriptors[i].file);
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Takes the mutex, counts the call, asks whether it is to fail. */
static long begin(struct memory_dir *memory, enum memory_call call, const char *name, size_t bytes)
{
    memory->calls++;
    return memory->before == NULL ? 0 : memory->before(memory->before_ctx, call, name, bytes);
}

static long enter(struct memory_dir *memory, enum memory_call call, const char *name)
{
    (void)pthread_mutex_lock(&memory->mutex);
    return begin(memory, call, name, 0);
}

static int leave(struct memory_dir *memory, int result)
{
    (void)pthread_mutex_unlock(&memory->mutex);
    return result;
}

static int memory_open_dir(struct weir__io *io, const char *path, bool create, int *dir_out)
{
    struct memory_dir *const memory = memory_of(io);
    (void)create;
    const long failure = enter(memory, MEMORY_CALL_open_dir, path);
    if (failure == 0) {
        *dir_out = descriptor_new(memory, -1 - (int)dir_number(memory, path), false);
    }
    return leave(memory, (int)failure);
}

static int memory_sync_dir(struct weir__io *io, int dir)
{
    struct memory_dir *const memory = memory_of(io);
    const long failure = enter(memory, MEMORY_CALL_sync_dir, "");
    (void)dir_of(memory, dir);
    return leave(memory, (int)failure);
}

static int
memory_list_dir(struct weir__io *io, int dir, int (*visit)(void *ctx, const char *name), void *ctx)
{
    struct memory_dir *const memory = memory_of(io);
    char(*const names)[MEMORY_NAME_BYTES] = must(calloc(MEMORY_FILES_MAX, MEMORY_NAME_BYTES));
    unsigned count = 0;
    int result = (int)enter(memory, MEMORY_CALL_list_dir, "");
    const unsigned number = dir_of(memory, dir);
    for (unsigned i = 0; result == 0 && i < MEMORY_FILES_MAX; i++) {
        const struct memory_file *const file = &memory->files[i];
        if (file->used && file->dir == number && file->name[0] != '\0') {
            memcpy(names[count++], file->name, MEMORY_NAME_BYTES);
        }
    }
    (void)leave(memory, 0);
    for (unsigned i = 0; result == 0 && i < count; i++) {
        result = visit(ctx, names[i]);
    }
    free(names);
    return result;
}

static int memory_facts(struct weir__io *io, int dir, struct weir__fs_facts *facts_out)
{
    struct memory_dir *const memory = memory_of(io);
    const long failure = enter(memory, MEMORY_CALL_facts, "");
    (void)dir_of(memory, dir);
    if (failure == 0) {
        const bool look_only = facts_out->look_only;
        *facts_out = (struct weir__fs_facts){
            .look_only = look_only,
            .fs_name = "memory",
            .direct_align = 512,
            .copy_on_write = true, /* no live page: there is no mapping */
            .fua = memory->fua,
            .write_cache = 1,
            .free_bytes = UINT64_MAX,
        };
    }
    return leave(memory, (int)failure);
}

static int
memory_open(struct weir__io *io, int dir, const char *name, unsigned flags, int *file_out)
{
    struct memory_dir *const memory = memory_of(io);
    int result = (int)enter(memory, MEMORY_CALL_open, name);
    const unsigned number = dir_of(memory, dir);
    int file = file_find(memory, number, name);
    if (result == 0 && (flags & WEIR__OPEN_DIRECT) != 0) {
        result = -EINVAL;
    } else if (result == 0 && file >= 0 && (flags & WEIR__OPEN_EXCLUSIVE) != 0) {
        result = -EEXIST;
    } else if (result == 0 && file < 0) {
        if ((flags & WEIR__OPEN_CREATE) != 0) {
            file = file_new(memory, number, name);
        } else {
            result = -ENOENT;
        }
    }
    if (result == 0) {
        memory->files[file].opened++;
        *file_out = descriptor_new(memory, file, (flags & WEIR__OPEN_WRITE) != 0);
    }
    return leave(memory, result);
}

static int memory_close(struct weir__io *io, int descriptor)
{
    struct memory_dir *const memory = memory_of(io);
    (void)pthread_mutex_lock(&memory->mutex);
    const int i = descriptor - FIRST_DESCRIPTOR;
    if (i < 0 || i >= (int)MEMORY_DESCRIPTORS_MAX || !memory->descriptors[i].used) {
        impossible("closed twice");
    }
    memory->descriptors[i].used = false;
    if (memory->descriptors[i].file >= 0) {
        struct memory_file *const file = &memory->files[memory->descriptors[i].file];
        if (file->locked_by == descriptor) {
            file->locked_by = -1;
        }
        if (--file->opened == 0 && file->name[0] == '\0') {
            file->used = false;
        }
    }
    return leave(memory, 0);
}

static int memory_info(struct weir__io *io, int descriptor, struct weir__file_info *info_out)
{
    struct memory_dir *const memory = memory_of(io);
    const struct memory_file *const file = file_of(memory, descriptor);
    const long failure = enter(memory, MEMORY_CALL_info, file->name);
    if (failure == 0) {
        *info_out = (struct weir__file_info){
            .bytes = file->bytes,
            .links = file->name[0] != '\0',
            .device = 1,
            .inode = (uint64_t)(file - memory->files) + 1,
            .regular = true,
        };
    }
    return leave(memory, (int)failure);
}

static int memory_rename(struct weir__io *io, int dir, const char *from, const char *to)
{
    struct memory_dir *const memory = memory_of(io);
    int result = (int)enter(memory, MEMORY_CALL_rename, from);
    const unsigned number = dir_of(memory, dir);
    const int file = file_find(memory, number, from);
    if (result == 0 && file < 0) {
        result = -ENOENT;
    }
    if (result == 0 && strcmp(from, to) != 0) {
        const int there = file_find(memory, number, to);
        if (there >= 0) {
            file_drop(&memory->files[there]);
        }
        (void)snprintf(memory->files[file].name, MEMORY_NAME_BYTES, "%s", to);
    }
    return leave(memory, result);
}

static int memory_unlink(struct weir__io *io, int dir, const char *name)
{
    struct memory_dir *const memory = memory_of(io);
    int result = (int)enter(memory, MEMORY_CALL_unlink, name);
    const int file = file_find(memory, dir_of(memory, dir), name);
    if (result == 0 && file < 0) {
        result = -ENOENT;
    }
    if (result == 0) {
        file_drop(&memory->files[file]);
    }
    return leave(memory, result);
}

static int memory_truncate(struct weir__io *io, int descriptor, uint64_t bytes)
{
    struct memory_dir *const memory = memory_of(io);
    struct memory_file *const file = file_of(memory, descriptor);
    long failure = enter(memory, MEMORY_CALL_truncate, file->name);
    if (failure == 0 && bytes > memory->file_bytes_max) {
        failure = -ENOSPC;
    }
    if (failure == 0) {
        memory_file_resize(file, (size_t)bytes);
    }
    return leave(memory, (int)failure);
}

/* Under the mutex. */
static ssize_t read_now(struct memory_dir *memory,
                        enum memory_call call,
                        int descriptor,
                        void *buffer,
                        size_t bytes,
                        uint64_t offset)
{
    const struct memory_file *const file = file_of(memory, descriptor);
    const long word = begin(memory, call, file->name, bytes);
    if (word < 0) {
        return word;
    }
    if (word > 0) {
        bytes = (size_t)weir__min_u64(bytes, (uint64_t)word);
    }
    if (offset >= file->bytes) {
        return 0;
    }
    bytes = (size_t)weir__min_u64(bytes, file->bytes - offset);
    if (bytes > 0) {
        memcpy(buffer, file->data + offset, bytes);
    }
    return (ssize_t)bytes;
}

static ssize_t write_now(struct memory_dir *memory,
                         enum memory_call call,
                         int descriptor,
                         const struct iovec *iov,
                         unsigned iov_count,
                         uint64_t offset)
{
    struct memory_file *const file = file_of(memory, descriptor);
    size_t bytes = 0;
    for (unsigned i = 0; i < iov_count; i++) {
        bytes += iov[i].iov_len;
    }
    if (!memory->descriptors[descriptor - FIRST_DESCRIPTOR].writes) {
        return -EBADF;
    }
    const long word = begin(memory, call, file->name, bytes);
    if (word < 0) {
        return word;
    }
    size_t left = word > 0 ? (size_t)weir__min_u64(bytes, (uint64_t)word) : bytes;
    if (bytes > memory->file_bytes_max || offset > memory->file_bytes_max - bytes) {
        return -ENOSPC;
    }
    size_t at = (size_t)offset;
    for (unsigned i = 0; i < iov_count && left > 0; i++) {
        const size_t some = (size_t)weir__min_u64(iov[i].iov_len, left);
        memory_file_write(file, at, iov[i].iov_base, some);
        at += some;
        left -= some;
    }
    return (ssize_t)(at - (size_t)offset);
}

static ssize_t
memory_read(struct weir__io *io, int descriptor, void *buffer, size_t bytes, uint64_t offset)
{
    struct memory_dir *const memory = memory_of(io);
    (void)pthread_mutex_lock(&memory->mutex);
    const ssize_t got = read_now(memory, MEMORY_CALL_read, descriptor, buffer, bytes, offset);
    (void)pthread_mutex_unlock(&memory->mutex);
    return got;
}

static ssize_t memory_write(struct weir__io *io,
                            int descriptor,
                            const struct iovec *iov,
                            unsigned iov_count,
                            uint64_t offset,
                            bool dsync)
{
    struct memory_dir *const memory = memory_of(io);
    (void)dsync;
    (void)pthread_mutex_lock(&memory->mutex);
    const ssize_t put = write_now(memory, MEMORY_CALL_write, descriptor, iov, iov_count, offset);
    (void)pthread_mutex_unlock(&memory->mutex);
    return put;
}

static int memory_sync(struct weir__io *io, int descriptor)
{
    struct memory_dir *const memory = memory_of(io);
    return leave(memory, (int)enter(memory, MEMORY_CALL_sync, file_of(memory, descriptor)->name));
}

static int memory_lock(struct weir__io *io, int descriptor)
{
    struct memory_dir *const memory = memory_of(io);
    struct memory_file *const file = file_of(memory, descriptor);
    int result = (int)enter(memory, MEMORY_CALL_lock, file->name);
    if (result == 0 && file->locked_by >= 0 && file->locked_by != descriptor) {
        result = -EBUSY;
    } else if (result == 0) {
        file->locked_by = descriptor;
    }
    return leave(memory, result);
}

static int memory_unlock(struct weir__io *io, int descriptor)
{
    struct memory_dir *const memory = memory_of(io);
    (void)pthread_mutex_lock(&memory->mutex);
    file_of(memory, descriptor)->locked_by = -1;
    return leave(memory, 0);
}

static int memory_lock_held(struct weir__io *io, int descriptor, bool *held_out)
{
    struct memory_dir *const memory = memory_of(io);
    const struct memory_file *const file = file_of(memory, descriptor);
    const long failure = enter(memory, MEMORY_CALL_lock_held, file->name);
    if (failure == 0) {
        *held_out = file->locked_by >= 0 && file->locked_by != descriptor;
    }
    return leave(memory, (int)failure);
}

/* ---- the queue ------------------------------------------------------------------------------- */

static int memory_queue_open(struct weir__io *io,
                             struct weir__mem *mem,
                             const struct weir__queue_config *config,
                             struct weir__queue **queue_out,
                             struct weir__queue_info *info_out)
{
    struct memory_dir *const memory = memory_of(io);
    (void)mem;
    memset(info_out, 0, sizeof *info_out);
    const long failure = enter(memory, MEMORY_CALL_queue_open, "");
    if (failure == 0) {
        struct weir__queue *const queue = must(calloc(1, sizeof *queue));
        queue->entries = (unsigned)weir__min_u64(config->entries, memory->queue_entries);
        queue->events = must(calloc(queue->entries, sizeof *queue->events));
        info_out->entries = queue->entries;
        info_out->ring_entries = queue->entries;
        info_out->completion_entries = queue->entries;
        *queue_out = queue;
    }
    return leave(memory, (int)failure);
}

static void
memory_queue_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue)
{
    (void)io;
    (void)mem;
    free(queue->events);
    free(queue);
}

static int32_t queue_do(struct memory_dir *memory, const struct weir__op *op)
{
    switch (op->kind) {
    case WEIR__OP_WRITE:
        return (int32_t)write_now(memory,
                                  MEMORY_CALL_queue_write,
                                  op->file,
                                  op->iov,
                                  op->iov_count,
                                  op->offset);
    case WEIR__OP_READ: {
        ssize_t sum = 0;
        for (unsigned i = 0; i < op->iov_count; i++) {
            const ssize_t got = read_now(memory,
                                         MEMORY_CALL_queue_read,
                                         op->file,
                                         op->iov[i].iov_base,
                                         op->iov[i].iov_len,
                                         op->offset + (uint64_t)sum);
            if (got < 0) {
                return (int32_t)got;
            }
            sum += got;
            if ((size_t)got < op->iov[i].iov_len) {
                break;
            }
        }
        return (int32_t)sum;
    }
    default:
        return (int32_t)begin(memory, MEMORY_CALL_queue_sync, file_of(memory, op->file)->name, 0);
    }
}

static size_t op_bytes(const struct weir__op *op)
{
    size_t bytes = 0;
    for (unsigned i = 0; op->kind != WEIR__OP_SYNC && i < op->iov_count; i++) {
        bytes += op->iov[i].iov_len;
    }
    return bytes;
}

static int memory_queue_push(struct weir__io *io,
                             struct weir__queue *queue,
                             const struct weir__op *ops,
                             unsigned count)
{
    struct memory_dir *const memory = memory_of(io);
    const long failure = enter(memory, MEMORY_CALL_queue_push, "");
    if (failure != 0 || queue->count + count > queue->entries) {
        return leave(memory, failure != 0 ? (int)failure : -EAGAIN);
    }
    bool broken = false; /* what is linked behind is cancelled */
    for (unsigned i = 0; i < count; i++) {
        const int32_t result = broken ? -ECANCELED : queue_do(memory, &ops[i]);
        queue->events[queue->count++] = (struct weir__event){ops[i].data, result};
        broken = ops[i].link && (broken || result < 0 || (size_t)result < op_bytes(&ops[i]));
    }
    return leave(memory, 0);
}

static int memory_queue_reap(struct weir__io *io,
                             struct weir__queue *queue,
                             struct weir__event *events,
                             unsigned max,
                             unsigned min,
                             uint64_t deadline_ns)
{
    struct memory_dir *const memory = memory_of(io);
    (void)pthread_mutex_lock(&memory->mutex);
    while (min > 0 && queue->count == 0 && !queue->woken && weir__now_ns() < deadline_ns) {
        if (deadline_ns == WEIR__NEVER) {
            (void)pthread_cond_wait(&memory->woken, &memory->mutex);
        } else {
            const struct timespec until = {
                .tv_sec = (time_t)(deadline_ns / 1000000000),
                .tv_nsec = (long)(deadline_ns % 1000000000),
            };
            (void)pthread_cond_timedwait(&memory->woken, &memory->mutex, &until);
        }
    }
    const unsigned count = queue->count < max ? queue->count : max;
    if (count > 0) {
        memcpy(events, queue->events, count * sizeof *events);
        queue->count -= count;
        memmove(queue->events, queue->events + count, queue->count * sizeof *events);
    } else if (min > 0) {
        queue->woken = false;
    }
    return leave(memory, (int)count);
}

static void memory_queue_wake(struct weir__io *io, struct weir__queue *queue)
{
    struct memory_dir *const memory = memory_of(io);
    (void)pthread_mutex_lock(&memory->mutex);
    queue->woken = true;
    (void)pthread_cond_broadcast(&memory->woken);
    (void)pthread_mutex_unlock(&memory->mutex);
}

static void memory_queue_faults(struct weir__io *io,
                                struct weir__queue *queue,
                                struct weir__queue_faults *faults_out)
{
    (void)io;
    (void)queue;
    *faults_out = (struct weir__queue_faults){0};
}

static int memory_map(struct weir__io *io, int file, size_t bytes, void **page_out)
{
    (void)io;
    (void)file;
    (void)bytes;
    (void)page_out;
    return -ENOSYS;
}

static void memory_unmap(struct weir__io *io, void *page, size_t bytes)
{
    (void)io;
    (void)page;
    (void)bytes;
}

/* ---- from outside ---------------------------------------------------------------------------- */

/* What both tables have in common: everything but the queue. */
#define MEMORY_CALLS_TABLE                                                                         \
    .open_dir = memory_open_dir, .sync_dir = memory_sync_dir, .list_dir = memory_list_dir,         \
    .facts = memory_facts, .open = memory_open, .close = memory_close, .info = memory_info,        \
    .rename = memory_rename, .unlink = memory_unlink, .truncate = memory_truncate,                 \
    .read = memory_read, .write = memory_write, .sync = memory_sync, .lock = memory_lock,          \
    .unlock = memory_unlock, .lock_held = memory_lock_held, .map = memory_map,                     \
    .unmap = memory_unmap

void memory_dir_queue(struct memory_dir *memory, unsigned entries)
{
    static const struct weir__io_ops with = {
        MEMORY_CALLS_TABLE,
        .queue_open = memory_queue_open,
        .queue_close = memory_queue_close,
        .queue_push = memory_queue_push,
        .queue_reap = memory_queue_reap,
        .queue_wake = memory_queue_wake,
        .queue_faults = memory_queue_faults,
    };
    static const struct weir__io_ops without = {MEMORY_CALLS_TABLE};
    memory->queue_entries = entries;
    memory->io.ops = entries > 0 ? &with : &without;
}

void memory_dir_init(struct memory_dir *memory)
{
    memset(memory, 0, sizeof *memory);
    memory_dir_queue(memory, 0);
    memory->io.ctx = memory;
    memory->file_bytes_max = (uint64_t)1 << 40;
    (void)pthread_mutex_init(&memory->mutex, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* that of weir__now_ns */
    (void)pthread_cond_init(&memory->woken, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

void memory_dir_exit(struct memory_dir *memory)
{
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        free(memory->files[i].data);
    }
    (void)pthread_cond_destroy(&memory->woken);
    (void)pthread_mutex_destroy(&memory->mutex);
}

struct memory_file *memory_dir_make(struct memory_dir *memory, const char *dir, const char *name)
{
    const unsigned number = dir_number(memory, dir);
    int file = file_find(memory, number, name);
    if (file < 0) {
        file = file_new(memory, number, name);
    }
    memory->files[file].bytes = 0;
    return &memory->files[file];
}

struct memory_file *memory_dir_find(struct memory_dir *memory, const char *dir, const char *name)
{
    const int file = file_find(memory, dir_number(memory, dir), name);
    return file < 0 ? NULL : &memory->files[file];
}

void memory_dir_clear(struct memory_dir *memory, const char *dir)
{
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        struct memory_file *const file = &memory->files[i];
        if (file->used && (dir == NULL || strcmp(memory->dirs[file->dir], dir) == 0)) {
            file_drop(file);
        }
    }
}

void memory_dir_copy(struct memory_dir *to,
                     const char *to_dir,
                     const struct memory_dir *from,
                     const char *from_dir)
{
    memory_dir_clear(to, to_dir);
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        const struct memory_file *const file = &from->files[i];
        if (file->used && file->name[0] != '\0' && strcmp(from->dirs[file->dir], from_dir) == 0) {
            memory_file_write(memory_dir_make(to, to_dir, file->name), 0, file->data, file->bytes);
        }
    }
}

uint64_t memory_dir_hash(const struct memory_dir *memory, const char *dir)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < MEMORY_FILES_MAX; i++) {
        const struct memory_file *const file = &memory->files[i];
        if (!file->used || file->name[0] == '\0' || strcmp(memory->dirs[file->dir], dir) != 0 ||
            strcmp(file->name, "weir.lock") == 0 || strcmp(file->name, "weir.live") == 0 ||
            strcmp(file->name, "weir.prepare") == 0) {
            continue;
        }
        uint64_t hash = UINT64_C(0xcbf29ce484222325);
        for (const char *c = file->name; *c != '\0'; c++) {
            hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
        }
        size_t at = 0;
        for (; at + 8 <= file->bytes; at += 8) {
            uint64_t word;
            memcpy(&word, file->data + at, sizeof word);
            hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
            hash ^= hash >> 29;
        }
        for (; at < file->bytes; at++) {
            hash = (hash ^ file->data[at]) * UINT64_C(0x100000001b3);
        }
        sum += (hash ^ file->bytes) * UINT64_C(0x9e3779b97f4a7c15); /* in any order of the files */
    }
    return sum;
}

unsigned memory_dir_open_count(const struct memory_dir *memory)
{
    unsigned count = 0;
    for (unsigned i = 0; i < MEMORY_DESCRIPTORS_MAX; i++) {
        count += memory->descriptors[i].used;
    }
    return count;
}

/* ---- memory ---------------------------------------------------------------------------------- */

#define KEPT_MAX 64u

static struct {
    pthread_mutex_t mutex; /* guards the rest */
    struct {
        void *block;
        size_t bytes;
    } kept[KEPT_MAX];
    unsigned count;
} kept = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void *kept_alloc(void *ctx, size_t bytes, size_t align)
{
    void *block = NULL;
    (void)ctx;
    (void)pthread_mutex_lock(&kept.mutex);
    for (unsigned i = 0; i < kept.count && block == NULL; i++) {
        if (kept.kept[i].bytes == bytes && (uintptr_t)kept.kept[i].block % align == 0) {
            block = kept.kept[i].block;
            kept.kept[i] = kept.kept[--kept.count];
        }
    }
    (void)pthread_mutex_unlock(&kept.mutex);
    if (block == NULL && posix_memalign(&block, align, bytes) != 0) {
        return NULL;
    }
    return block;
}

static void kept_release(void *ctx, void *block, size_t bytes)
{
    (void)ctx;
    (void)pthread_mutex_lock(&kept.mutex);
    if (kept.count < KEPT_MAX) {
        kept.kept[kept.count].block = block;
        kept.kept[kept.count++].bytes = bytes;
        block = NULL;
    }
    (void)pthread_mutex_unlock(&kept.mutex);
    free(block);
}

const struct weir_memory_hooks memory_hooks = {.alloc = kept_alloc, .release = kept_release};
