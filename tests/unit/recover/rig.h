/* SPDX-License-Identifier: Apache-2.0
 * What the tests of this folder share: a directory handle over the system's files with a table in
 * front that can refuse reads, stop at the k-th change, and notes which files were opened and
 * whether a write changed a byte. */
#ifndef WEIR_TESTS_UNIT_RECOVER_RIG_H
#define WEIR_TESTS_UNIT_RECOVER_RIG_H

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "port/io.h"
#include "recover/scan.h"
#include "support/log_builder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RIG_FILES_MAX 1024
#define RIG_OPENS_MAX 4096

struct rig_io {
    struct weir__io io;
    struct weir__io_ops ops;
    char names[RIG_FILES_MAX][64]; /* by descriptor */
    char opened[RIG_OPENS_MAX][64];
    size_t opened_count;

    /* Reads of this file that touch [bad_from, bad_to) fail; "": none. */
    char bad_name[64];
    uint64_t bad_from;
    uint64_t bad_to;
    int bad_error;

    /* Of the calls that change something, the one with this number and all later ones fail; 0:
     * none. */
    unsigned stop_at;
    unsigned changes;
    unsigned writes;
    unsigned syncs;
    unsigned dir_syncs;
    uint64_t written;
    bool differs; /* a write put other bytes where there were some */
    uint64_t reads;
};

static inline struct rig_io *rig_of(struct weir__io *io)
{
    return io->ctx;
}

static inline int rig_change(struct rig_io *rig)
{
    rig->changes++;
    return rig->stop_at != 0 && rig->changes >= rig->stop_at ? -EIO : 0;
}

static inline int
rig_open(struct weir__io *io, int dir, const char *name, unsigned flags, int *file_out)
{
    struct rig_io *const rig = rig_of(io);
    const int code = weir__io_system()->ops->open(weir__io_system(), dir, name, flags, file_out);
    if (code == 0 && *file_out < RIG_FILES_MAX) {
        (void)snprintf(rig->names[*file_out], sizeof rig->names[0], "%s", name);
        if (rig->opened_count < RIG_OPENS_MAX) {
            (void)snprintf(rig->opened[rig->opened_count++], sizeof rig->opened[0], "%s", name);
        }
    }
    return code;
}

static inline ssize_t
rig_read(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    struct rig_io *const rig = rig_of(io);
    rig->reads++;
    if (rig->bad_name[0] != '\0' && strcmp(rig->names[file], rig->bad_name) == 0 &&
        offset < rig->bad_to && offset + bytes > rig->bad_from) {
        return rig->bad_error;
    }
    return weir__io_system()->ops->read(weir__io_system(), file, buffer, bytes, offset);
}

static inline ssize_t rig_write(struct weir__io *io,
                                int file,
                                const struct iovec *iov,
                                unsigned iov_count,
                                uint64_t offset,
                                bool dsync)
{
    struct rig_io *const rig = rig_of(io);
    uint64_t at = offset;
    for (unsigned i = 0; i < iov_count; i++) {
        void *const there = aligned_alloc(4096, (iov[i].iov_len + 4095) / 4096 * 4096);
        const ssize_t got =
            weir__io_system()->ops->read(weir__io_system(), file, there, iov[i].iov_len, at);
        if (got != (ssize_t)iov[i].iov_len || memcmp(there, iov[i].iov_base, iov[i].iov_len) != 0) {
            rig->differs = true;
        }
        free(there);
        at += iov[i].iov_len;
    }
    const int code = rig_change(rig);
    if (code != 0) {
        return code;
    }
    rig->writes++;
    const ssize_t wrote =
        weir__io_system()->ops->write(weir__io_system(), file, iov, iov_count, offset, dsync);
    rig->written += wrote > 0 ? (uint64_t)wrote : 0;
    return wrote;
}

static inline int rig_sync(struct weir__io *io, int file)
{
    struct rig_io *const rig = rig_of(io);
    const int code = rig_change(rig);
    rig->syncs += code == 0;
    return code == 0 ? weir__io_system()->ops->sync(weir__io_system(), file) : code;
}

static inline int rig_sync_dir(struct weir__io *io, int dir)
{
    struct rig_io *const rig = rig_of(io);
    const int code = rig_change(rig);
    rig->dir_syncs += code == 0;
    return code == 0 ? weir__io_system()->ops->sync_dir(weir__io_system(), dir) : code;
}

static inline int rig_rename(struct weir__io *io, int dir, const char *from, const char *to)
{
    const int code = rig_change(rig_of(io));
    return code == 0 ? weir__io_system()->ops->rename(weir__io_system(), dir, from, to) : code;
}

static inline int rig_truncate(struct weir__io *io, int file, uint64_t bytes)
{
    const int code = rig_change(rig_of(io));
    return code == 0 ? weir__io_system()->ops->truncate(weir__io_system(), file, bytes) : code;
}

/* Reads then all come through the table. */
static inline int rig_queue_open(struct weir__io *io,
                                 struct weir__mem *mem,
                                 const struct weir__queue_config *config,
                                 struct weir__queue **queue_out,
                                 struct weir__queue_info *info_out)
{
    (void)io;
    (void)mem;
    (void)config;
    (void)queue_out;
    (void)info_out;
    return -ENOSYS;
}

static inline void rig_io_init(struct rig_io *rig)
{
    memset(rig, 0, sizeof *rig);
    rig->ops = *weir__io_system()->ops;
    rig->ops.open = rig_open;
    rig->ops.read = rig_read;
    rig->ops.write = rig_write;
    rig->ops.sync = rig_sync;
    rig->ops.sync_dir = rig_sync_dir;
    rig->ops.rename = rig_rename;
    rig->ops.truncate = rig_truncate;
    rig->ops.queue_open = rig_queue_open;
    rig->io.ops = &rig->ops;
    rig->io.ctx = rig;
    rig->bad_error = -EIO;
}

/* A segment's name as the table sees it. */
static inline void rig_bad(struct rig_io *rig, struct weir__range range, uint64_t from, uint64_t to)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    (void)snprintf(rig->bad_name, sizeof rig->bad_name, "%s", name);
    rig->bad_from = from;
    rig->bad_to = to;
}

/* ---- a log looked at ---- */

struct rig {
    struct weir__mem mem;
    struct rig_io io;
    struct weir__dir dir;
    struct weir__catalog catalog;
    struct weir__control_found found;
    struct weir__fault fault;
};

static inline void rig_init_at(struct rig *rig, const char *path)
{
    memset(rig, 0, sizeof *rig);
    weir__mem_init(&rig->mem, NULL);
    rig_io_init(&rig->io);
    rig->fault = WEIR__FAULT_NONE;
    assert_int_equal(
        weir__dir_open(&rig->dir, &rig->io.io, &rig->mem, path, false, false, &rig->fault),
        0);
    assert_int_equal(weir__catalog_init(&rig->catalog, &rig->mem), 0);
    rig->io.opened_count = 0;
}

static inline void rig_init(struct rig *rig, const struct log_builder *log)
{
    rig_init_at(rig, log->path);
}

static inline void rig_exit(struct rig *rig)
{
    weir__catalog_exit(&rig->catalog);
    weir__dir_close(&rig->dir);
    assert_int_equal(weir__load(&rig->mem.bytes, relaxed), 0);
    weir__mem_exit(&rig->mem);
}

/* Names and control file anew. */
static inline int rig_load(struct rig *rig)
{
    rig->fault = WEIR__FAULT_NONE;
    assert_int_equal(weir__catalog_load(&rig->catalog, &rig->dir, &rig->fault), 0);
    return weir__scan_control(&rig->dir, &rig->catalog, &rig->found, &rig->fault);
}

static inline struct weir__scan_config rig_config(struct rig *rig, bool from_oldest)
{
    return (struct weir__scan_config){
        .dir = &rig->dir,
        .catalog = &rig->catalog,
        .control = &rig->found,
        .from_oldest = from_oldest,
    };
}

static inline void rig_scan(struct rig *rig, bool from_oldest, struct weir__scan_result *result_out)
{
    assert_int_equal(rig_load(rig), 0);
    const struct weir__scan_config config = rig_config(rig, from_oldest);
    assert_int_equal(weir__scan(&config, result_out, &rig->fault), 0);
}

/* One look at a log that a builder made. */
static inline struct weir__scan_result rig_look(const struct log_builder *log, bool from_oldest)
{
    struct rig *const rig = malloc(sizeof *rig);
    struct weir__scan_result result;
    rig_init(rig, log);
    rig_scan(rig, from_oldest, &result);
    rig_exit(rig);
    free(rig);
    return result;
}

/* A control file as a clean close leaves it. */
static inline void rig_close_clean(struct log_builder *log, struct weir__control *control_out)
{
    struct weir__control control;
    log_builder_control(log, &control);
    control.promise = log->position.lsn;
    control.checkpoint = log->position;
    control.flags = WEIR__CONTROL_CLEAN;
    log_builder_control_write(log, &control);
    if (control_out != NULL) {
        *control_out = control;
    }
}

/* A control file as a crash leaves it: promise given, checkpoint at the log's beginning. */
static inline void
rig_crash(struct log_builder *log, weir_lsn promise, struct weir__control *control_out)
{
    struct weir__control control;
    log_builder_control(log, &control);
    control.promise = promise;
    log_builder_control_write(log, &control);
    if (control_out != NULL) {
        *control_out = control;
    }
}

#endif
