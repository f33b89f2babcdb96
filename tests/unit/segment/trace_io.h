/* SPDX-License-Identifier: Apache-2.0
 * The system's files with a table in front that writes down what was asked, in order, and can
 * let chosen calls fail. Any thread. Nothing here asserts: worker threads come through it. */
#ifndef WEIR_TESTS_UNIT_SEGMENT_TRACE_IO_H
#define WEIR_TESTS_UNIT_SEGMENT_TRACE_IO_H

#include "base/compiler.h"
#include "port/io.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TRACE_OPS_MAX 65536u
#define TRACE_FILES_MAX 1024
#define TRACE_RULES_MAX 4u

enum trace_kind {
    TRACE_OPEN = 1,
    TRACE_RENAME,
    TRACE_UNLINK,
    TRACE_TRUNCATE,
    TRACE_READ,
    TRACE_WRITE,
    TRACE_SYNC,
    TRACE_SYNC_DIR,
};

struct trace_op {
    enum trace_kind kind;
    char name[64]; /* of the file now; the new one of a rename */
    char from[64]; /* a rename's old name */
    uint64_t offset;
    uint64_t bytes;
    bool dsync;
    long result;
};

/* Calls of `kind` on files whose name holds `part` ("": any) fail with `error`, after `skip`
 * more have passed, `times` times (-1: until the rule is taken back). */
struct trace_rule {
    enum trace_kind kind; /* 0: no rule */
    char part[64];
    int skip;
    int times;
    int error;
};

struct trace_io {
    struct weir__io io; /* what is handed to the engine */
    struct weir__io_ops ops;
    pthread_mutex_t mutex;
    struct trace_op *list;                    /* guarded by mutex */
    size_t count;                             /* guarded by mutex; stops at TRACE_OPS_MAX */
    char names[TRACE_FILES_MAX][64];          /* guarded by mutex; by descriptor */
    struct trace_rule rules[TRACE_RULES_MAX]; /* guarded by mutex */
    /* Called before each of the traced calls, outside the mutex. Set before the threads start. */
    void (*before)(void *ctx, const struct trace_op *op);
    void *ctx;
};

static inline struct trace_io *trace_of(struct weir__io *io)
{
    return io->ctx;
}

static inline struct weir__io *trace_system(void)
{
    return weir__io_system();
}

static inline void trace_name_get(struct trace_io *trace, int file, char out[64])
{
    pthread_mutex_lock(&trace->mutex);
    snprintf(out, 64, "%s", file >= 0 && file < TRACE_FILES_MAX ? trace->names[file] : "");
    pthread_mutex_unlock(&trace->mutex);
}

static inline void trace_name_set(struct trace_io *trace, int file, const char *name)
{
    pthread_mutex_lock(&trace->mutex);
    if (file >= 0 && file < TRACE_FILES_MAX) {
        snprintf(trace->names[file], 64, "%s", name);
    }
    pthread_mutex_unlock(&trace->mutex);
}

/* 0, or what the call is to fail with. */
static inline int trace_begin(struct trace_io *trace, const struct trace_op *op)
{
    if (trace->before != NULL) {
        trace->before(trace->ctx, op);
    }
    int error = 0;
    pthread_mutex_lock(&trace->mutex);
    for (size_t i = 0; i < TRACE_RULES_MAX && error == 0; i++) {
        struct trace_rule *const rule = &trace->rules[i];
        if (rule->kind != op->kind || rule->times == 0 || strstr(op->name, rule->part) == NULL) {
            continue;
        }
        if (rule->skip > 0) {
            rule->skip--;
            continue;
        }
        if (rule->times > 0) {
            rule->times--;
        }
        error = rule->error;
    }
    pthread_mutex_unlock(&trace->mutex);
    return error;
}

static inline long trace_end(struct trace_io *trace, struct trace_op *op, long result)
{
    op->result = result;
    pthread_mutex_lock(&trace->mutex);
    if (trace->count < TRACE_OPS_MAX) {
        trace->list[trace->count++] = *op;
    }
    pthread_mutex_unlock(&trace->mutex);
    return result;
}

static inline int
trace_open(struct weir__io *io, int dir, const char *name, unsigned flags, int *file_out)
{
    struct trace_io *const trace = trace_of(io);
    struct trace_op op = {.kind = TRACE_OPEN, .bytes = flags};
    snprintf(op.name, sizeof op.name, "%s", name);
    int error = trace_begin(trace, &op);
    if (error == 0) {
        error = trace_system()->ops->open(trace_system(), dir, name, flags, file_out);
    }
    if (error == 0) {
        trace_name_set(trace, *file_out, name);
    }
    return (int)trace_end(trace, &op, error);
}

static inline int trace_rename(struct weir__io *io, int dir, const char *from, const char *to)
{
    struct trace_io *const trace = trace_of(io);
    struct trace_op op = {.kind = TRACE_RENAME};
    snprintf(op.name, sizeof op.name, "%s", to);
    snprintf(op.from, sizeof op.from, "%s", from);
    int error = trace_begin(trace, &op);
    if (error == 0) {
        error = trace_system()->ops->rename(trace_system(), dir, from, to);
    }
    if (error == 0) {
        pthread_mutex_lock(&trace->mutex);
        for (int i = 0; i < TRACE_FILES_MAX; i++) {
            if (strcmp(trace->names[i], from) == 0) {
                snprintf(trace->names[i], 64, "%s", to);
            }
        }
        pthread_mutex_unlock(&trace->mutex);
    }
    return (int)trace_end(trace, &op, error);
}

static inline int trace_unlink(struct weir__io *io, int dir, const char *name)
{
    struct trace_io *const trace = trace_of(io);
    struct trace_op op = {.kind = TRACE_UNLINK};
    snprintf(op.name, sizeof op.name, "%s", name);
    int error = trace_begin(trace, &op);
    if (error == 0) {
        error = trace_system()->ops->unlink(trace_system(), dir, name);
    }
    return (int)trace_end(trace, &op, error);
}

static inline int trace_truncate(struct weir__io *io, int file, uint64_t bytes)
{
    struct trace_io *const trace = trace_of(io);
    struct trace_op op = {.kind = TRACE_TRUNCATE, .bytes = bytes};
    trace_name_get(trace, file, op.name);
    int error = trace_begin(trace, &op);
    if (error == 0) {
        error = trace_system()->ops->truncate(trace_system(), file, bytes);
    }
    return (int)trace_end(trace, &op, error);
}

static inline ssize_t
trace_read(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    struct trace_io *const trace = trace_of(io);
    struct trace_op op = {.kind = TRACE_READ, .offset = offset, .bytes = bytes};
    trace_name_get(trace, file, op.name);
    ssize_t got = trace_begin(trace, &op);
    if (got == 0) {
        got = trace_system()->ops->read(trace_system(), file, buffer, bytes, offset);
    }
    return trace_end(trace, &op, got);
}

static inline ssize_t trace_write(struct weir__io *io,
                                  int file,
                                  const struct iovec *iov,
                                  unsigned iov_count,
                                  uint64_t offset,
                                  bool dsync)
{
    struct trace_io *const trace = trace_of(io);
    struct trace_op op = {.kind = TRACE_WRITE, .offset = offset, .dsync = dsync};
    for (unsigned i = 0; i < iov_count; i++) {
        op.bytes += iov[i].iov_len;
    }
    trace_name_get(trace, file, op.name);
    ssize_t put = trace_begin(trace, &op);
    if (put == 0) {
        put = trace_system()->ops->write(trace_system(), file, iov, iov_count, offset, dsync);
    }
    return trace_end(trace, &op, put);
}

static inline int trace_sync(struct weir__io *io, int file)
{
    struct trace_io *const trace = trace_of(io);
    struct trace_op op = {.kind = TRACE_SYNC};
    trace_name_get(trace, file, op.name);
    int error = trace_begin(trace, &op);
    if (error == 0) {
        error = trace_system()->ops->sync(trace_system(), file);
    }
    return (int)trace_end(trace, &op, error);
}

static inline int trace_sync_dir(struct weir__io *io, int dir)
{
    struct trace_io *const trace = trace_of(io);
    struct trace_op op = {.kind = TRACE_SYNC_DIR};
    int error = trace_begin(trace, &op);
    if (error == 0) {
        error = trace_system()->ops->sync_dir(trace_system(), dir);
    }
    return (int)trace_end(trace, &op, error);
}

/* In place of the system's, which a build may lack. */
static inline int trace_map(struct weir__io *io, int file, size_t bytes, void **page_out)
{
    (void)io;
    void *const page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) {
        return -errno;
    }
    *page_out = page;
    return 0;
}

static inline void trace_unmap(struct weir__io *io, void *page, size_t bytes)
{
    (void)io;
    (void)munmap(page, bytes);
}

static inline void trace_init(struct trace_io *trace)
{
    memset(trace, 0, sizeof *trace);
    trace->ops = *weir__io_system()->ops;
    trace->ops.open = trace_open;
    trace->ops.rename = trace_rename;
    trace->ops.unlink = trace_unlink;
    trace->ops.truncate = trace_truncate;
    trace->ops.read = trace_read;
    trace->ops.write = trace_write;
    trace->ops.sync = trace_sync;
    trace->ops.sync_dir = trace_sync_dir;
    if (trace->ops.map == NULL) {
        trace->ops.map = trace_map;
        trace->ops.unmap = trace_unmap;
    }
    trace->io = (struct weir__io){.ops = &trace->ops, .ctx = trace};
    pthread_mutex_init(&trace->mutex, NULL);
    trace->list = calloc(TRACE_OPS_MAX, sizeof *trace->list);
    if (trace->list == NULL) {
        abort();
    }
}

static inline void trace_exit(struct trace_io *trace)
{
    pthread_mutex_destroy(&trace->mutex);
    free(trace->list);
}

/* Forgets what was written down. */
static inline void trace_clear(struct trace_io *trace)
{
    pthread_mutex_lock(&trace->mutex);
    trace->count = 0;
    pthread_mutex_unlock(&trace->mutex);
}

static inline void trace_fail(struct trace_io *trace,
                              unsigned rule,
                              enum trace_kind kind,
                              const char *part,
                              int skip,
                              int times,
                              int error)
{
    pthread_mutex_lock(&trace->mutex);
    struct trace_rule *const r = &trace->rules[rule];
    *r = (struct trace_rule){.kind = kind, .skip = skip, .times = times, .error = error};
    snprintf(r->part, sizeof r->part, "%s", part);
    pthread_mutex_unlock(&trace->mutex);
}

static inline void trace_heal(struct trace_io *trace)
{
    pthread_mutex_lock(&trace->mutex);
    memset(trace->rules, 0, sizeof trace->rules);
    pthread_mutex_unlock(&trace->mutex);
}

/* How many successful calls of this kind on files whose name holds `part`. */
static inline size_t trace_count(struct trace_io *trace, enum trace_kind kind, const char *part)
{
    size_t count = 0;
    pthread_mutex_lock(&trace->mutex);
    for (size_t i = 0; i < trace->count; i++) {
        count += trace->list[i].kind == kind && trace->list[i].result >= 0 &&
                 strstr(trace->list[i].name, part) != NULL;
    }
    pthread_mutex_unlock(&trace->mutex);
    return count;
}

/* Index of the first such call at or behind `from`, -1: none. */
static inline long
trace_find(struct trace_io *trace, enum trace_kind kind, const char *part, long from)
{
    long found = -1;
    pthread_mutex_lock(&trace->mutex);
    for (size_t i = from < 0 ? 0 : (size_t)from; i < trace->count && found < 0; i++) {
        if (trace->list[i].kind == kind && trace->list[i].result >= 0 &&
            strstr(trace->list[i].name, part) != NULL) {
            found = (long)i;
        }
    }
    pthread_mutex_unlock(&trace->mutex);
    return found;
}

#endif
