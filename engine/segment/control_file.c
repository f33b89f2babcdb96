/* SPDX-License-Identifier: Apache-2.0
 * Loading and writing the two copies of the control file (FORMAT.md section 3).
 *
 * A write takes the copy that matters less (the older, or a damaged one), fills one block,
 * writes it durably, and only then may the other be touched: whatever happens, one whole copy
 * stands. Which one counts is decided by the generation, which grows with every copy written, so
 * after a failed write its number is not given out again.
 *
 * Reading goes past the page cache where the directory is direct, since a cached copy is no
 * evidence of what the disk holds. The block size is known only after a copy was read: 64 KiB
 * are asked for at each place.
 *
 * What can fail: any call of the I/O seam, and what the bytes say. Threads: one at a time. */
#include "segment/control_file.h"

#include "base/check.h"
#include "base/num.h"
#include "base/plant.h"
#include "io/transfer.h"
#include "port/clock.h"

#include <errno.h>
#include <string.h>

#define CONTROL_READ_BYTES 65536u
#define CONTROL_TRIES_LIVE 10
#define CONTROL_TRY_PAUSE_NS UINT64_C(1000000)

static uint64_t copy_offset(unsigned copy)
{
    return (uint64_t)copy * WEIR__CONTROL_COPY_OFFSET;
}

static unsigned dir_direct_flag(const struct weir__dir *dir)
{
    return dir->direct ? (unsigned)WEIR__OPEN_DIRECT : 0;
}

/* ---- reading ---- */

/* What became of one copy. */
struct copy_look {
    int error;       /* 0 sound; WEIR_EFORMAT; WEIR_ECORRUPT; a negative errno of the read */
    const char *why; /* static */
    struct weir__control control;
};

static void copy_look_once(struct weir__dir *dir,
                           int file,
                           unsigned copy,
                           uint8_t *buffer,
                           struct copy_look *look)
{
    size_t got;
    /* Gone on with where it comes back short: a sound copy must not count as lost for that. */
    const uint32_t align = dir->direct ? (uint32_t)weir__max_u64(512, dir->facts.direct_align) : 1;
    const int error = weir__io_read_upto(dir->io,
                                         file,
                                         buffer,
                                         CONTROL_READ_BYTES,
                                         copy_offset(copy),
                                         align,
                                         &got);
    if (error != 0) {
        look->error = error;
        look->why = "cannot be read";
        return;
    }
    if (got < WEIR__CONTROL_USED_BYTES) {
        look->error = WEIR_ECORRUPT;
        look->why = "control file ends early";
        return;
    }
    look->error = weir__control_decode(buffer, &look->control, &look->why);
}

/* Looks again while a writer may be in the middle of this very copy. */
static void
copy_look(struct weir__dir *dir, int file, unsigned copy, uint8_t *buffer, struct copy_look *look)
{
    /* One second look in any case: a short read proves nothing by itself. */
    int tries = 2;
    for (int i = 0; i < tries; i++) {
        copy_look_once(dir, file, copy, buffer, look);
        if (look->error == 0 || look->error == WEIR_EFORMAT) {
            return;
        }
        if (i == 0 && weir__dir_writer_live(dir)) {
            tries = 1 + CONTROL_TRIES_LIVE;
        }
        if (i + 1 < tries && tries > 2) {
            weir__sleep_ns(CONTROL_TRY_PAUSE_NS);
        }
    }
}

/* Which of the copies counts; an error where they cannot be told, or where none is to be had. */
static int found_judge(const struct copy_look look[2],
                       struct weir__control_found *found,
                       struct weir__fault *fault)
{
    for (unsigned copy = 0; copy < 2; copy++) {
        found->valid[copy] = look[copy].error == 0;
        found->copy[copy] = look[copy].control;
        if (look[copy].error == WEIR_EFORMAT) {
            return weir__fault_set(fault,
                                   WEIR_EFORMAT,
                                   WEIR__CONTROL_NAME,
                                   copy_offset(copy),
                                   UINT64_MAX,
                                   "%s",
                                   look[copy].why);
        }
    }
    if (found->valid[0] && found->valid[1]) {
        const struct weir__control *const a = &found->copy[0];
        const struct weir__control *const b = &found->copy[1];
        if (a->log_id != b->log_id || a->block_bytes != b->block_bytes ||
            a->first_lsn != b->first_lsn) {
            return weir__fault_set(fault,
                                   WEIR_ECORRUPT,
                                   WEIR__CONTROL_NAME,
                                   copy_offset(1),
                                   UINT64_MAX,
                                   "the two copies are of different logs");
        }
        found->newest = a->generation >= b->generation ? 0 : 1;
    } else if (found->valid[0] || found->valid[1]) {
        found->newest = found->valid[0] ? 0 : 1;
    } else {
        for (unsigned copy = 0; copy < 2; copy++) {
            if (look[copy].error != WEIR_ECORRUPT) {
                return weir__fault_set(fault,
                                       look[copy].error,
                                       WEIR__CONTROL_NAME,
                                       copy_offset(copy),
                                       UINT64_MAX,
                                       "no copy is valid, and this one cannot be read");
            }
        }
    }
    return 0;
}

int weir__control_load(struct weir__dir *dir,
                       struct weir__control_found *found_out,
                       struct weir__fault *fault)
{
    memset(found_out, 0, sizeof *found_out);
    found_out->newest = -1;

    struct weir__io *io = dir->io;
    int file = -1;
    const int error = io->ops->open(io,
                                    dir->file,
                                    WEIR__CONTROL_NAME,
                                    WEIR__OPEN_READ | dir_direct_flag(dir),
                                    &file);
    if (error == -ENOENT) {
        return 0;
    }
    if (error != 0) {
        return weir__fault_set(fault,
                               error,
                               WEIR__CONTROL_NAME,
                               UINT64_MAX,
                               UINT64_MAX,
                               "cannot open the control file");
    }
    found_out->exists = true;
    uint8_t *buffer = weir__mem_alloc_io(dir->mem, CONTROL_READ_BYTES);
    if (buffer == NULL) {
        (void)io->ops->close(io, file);
        return weir__fault_set(fault,
                               -ENOMEM,
                               WEIR__CONTROL_NAME,
                               UINT64_MAX,
                               UINT64_MAX,
                               "no memory to read the control file");
    }
    struct copy_look look[2];
    memset(look, 0, sizeof look);
    for (unsigned copy = 0; copy < 2; copy++) {
        copy_look(dir, file, copy, buffer, &look[copy]);
    }
    weir__mem_free_io(dir->mem, buffer, CONTROL_READ_BYTES);
    (void)io->ops->close(io, file);
    return found_judge(look, found_out, fault);
}

/* ---- writing ---- */

static int control_begin(struct weir__control_file *cf,
                         struct weir__dir *dir,
                         uint32_t block_bytes,
                         struct weir__fault *fault)
{
    memset(cf, 0, sizeof *cf);
    cf->dir = dir;
    cf->file = -1;
    cf->checkpoint_lsn[0] = UINT64_MAX;
    cf->checkpoint_lsn[1] = UINT64_MAX;
    cf->buffer = weir__mem_alloc_io(dir->mem, block_bytes);
    if (cf->buffer == NULL) {
        return weir__fault_set(fault,
                               -ENOMEM,
                               WEIR__CONTROL_NAME,
                               UINT64_MAX,
                               UINT64_MAX,
                               "no memory for the control file");
    }
    cf->buffer_bytes = block_bytes;
    return 0;
}

/* Writes the copy whose turn it is with the next generation; after a failure its turn is still
 * to come. next: in what it said, out what was written. */
static int copy_write(struct weir__control_file *cf,
                      const char *name,
                      struct weir__control *next,
                      struct weir__fault *fault)
{
    const unsigned copy = cf->next_copy;
    next->generation = ++cf->generation;
    next->wall_ns = weir__wall_ns();
    memset(cf->buffer, 0, cf->buffer_bytes);
    weir__control_encode(next, cf->buffer);

    /* Read back before it goes out: a copy that an opening would refuse must never replace one
     * that it takes. */
    struct weir__control check;
    const char *why = "";
    if (weir__control_decode(cf->buffer, &check, &why) != 0) {
        return weir__fault_set(fault,
                               -EINVAL,
                               name,
                               copy_offset(copy),
                               UINT64_MAX,
                               "will not write an unsound copy: %s",
                               why);
    }
    const int error = weir__io_write_full(cf->dir->io,
                                          cf->file,
                                          cf->buffer,
                                          cf->buffer_bytes,
                                          copy_offset(copy),
                                          true);
    if (error != 0) {
        return weir__fault_set(fault,
                               error,
                               name,
                               copy_offset(copy),
                               UINT64_MAX,
                               "cannot write copy %u of the control file",
                               copy);
    }
    cf->checkpoint_lsn[copy] = next->checkpoint.lsn;
    cf->next_copy = copy ^ 1u;
    cf->writes++;
    return 0;
}

int weir__control_create(struct weir__control_file *cf,
                         struct weir__dir *dir,
                         const struct weir__control *first,
                         struct weir__fault *fault)
{
    int error = control_begin(cf, dir, first->block_bytes, fault);
    if (error != 0) {
        return error;
    }
    struct weir__io *io = dir->io;
    int there = -1;
    error = io->ops->open(io, dir->file, WEIR__CONTROL_NAME, WEIR__OPEN_READ, &there);
    if (error != -ENOENT) {
        if (error == 0) {
            (void)io->ops->close(io, there);
            error = -EEXIST;
        }
        (void)weir__fault_set(fault,
                              error,
                              WEIR__CONTROL_NAME,
                              UINT64_MAX,
                              UINT64_MAX,
                              "there is a control file already");
        goto fail;
    }

    /* A new file: a leftover's bytes must not stand between the copies. */
    (void)io->ops->unlink(io, dir->file, WEIR__PREPARE_NAME);
    error = io->ops->open(io,
                          dir->file,
                          WEIR__PREPARE_NAME,
                          WEIR__OPEN_WRITE | WEIR__OPEN_CREATE | WEIR__OPEN_EXCLUSIVE |
                              dir_direct_flag(dir),
                          &cf->file);
    if (error != 0) {
        cf->file = -1;
        (void)weir__fault_set(fault,
                              error,
                              WEIR__PREPARE_NAME,
                              UINT64_MAX,
                              UINT64_MAX,
                              "cannot create the control file");
        goto fail;
    }
    error = io->ops->truncate(io, cf->file, WEIR__CONTROL_FILE_BYTES);
    if (error != 0) {
        (void)weir__fault_set(fault,
                              error,
                              WEIR__PREPARE_NAME,
                              UINT64_MAX,
                              UINT64_MAX,
                              "cannot set the control file's length");
        goto fail;
    }
    struct weir__control next = *first;
    for (int left = 2; left > 0; left--) {
        error = copy_write(cf, WEIR__PREPARE_NAME, &next, fault);
        if (error != 0) {
            goto fail;
        }
    }
    error = io->ops->sync(io, cf->file);
    if (error == 0) {
        error = io->ops->rename(io, dir->file, WEIR__PREPARE_NAME, WEIR__CONTROL_NAME);
    }
    if (error == 0 && !WEIR__PLANTED(control_dir_not_synced)) {
        error = io->ops->sync_dir(io, dir->file);
    }
    if (error != 0) {
        (void)weir__fault_set(fault,
                              error,
                              WEIR__CONTROL_NAME,
                              UINT64_MAX,
                              UINT64_MAX,
                              "cannot make the control file durable");
        goto fail;
    }
    cf->current = next;
    return 0;

fail:
    if (cf->file >= 0) {
        /* Where the rename had been done there is nothing left to remove. */
        (void)io->ops->unlink(io, dir->file, WEIR__PREPARE_NAME);
    }
    weir__control_close(cf);
    return error;
}

int weir__control_open(struct weir__control_file *cf,
                       struct weir__dir *dir,
                       const struct weir__control_found *found,
                       struct weir__fault *fault)
{
    weir__check(found->newest == 0 || found->newest == 1);
    const unsigned newest = (unsigned)found->newest;
    int error = control_begin(cf, dir, found->copy[newest].block_bytes, fault);
    if (error != 0) {
        return error;
    }
    struct weir__io *io = dir->io;
    error = io->ops->open(io,
                          dir->file,
                          WEIR__CONTROL_NAME,
                          WEIR__OPEN_WRITE | dir_direct_flag(dir),
                          &cf->file);
    if (error != 0) {
        cf->file = -1;
        (void)weir__fault_set(fault,
                              error,
                              WEIR__CONTROL_NAME,
                              UINT64_MAX,
                              UINT64_MAX,
                              "cannot open the control file for writing");
        goto fail;
    }
    /* A file that was cut behind its good copy gets its length back; the bad copy is written
     * before anything needs it. */
    struct weir__file_info info;
    error = io->ops->info(io, cf->file, &info);
    if (error == 0 && info.bytes < WEIR__CONTROL_FILE_BYTES) {
        error = io->ops->truncate(io, cf->file, WEIR__CONTROL_FILE_BYTES);
    }
    if (error != 0) {
        (void)weir__fault_set(fault,
                              error,
                              WEIR__CONTROL_NAME,
                              UINT64_MAX,
                              UINT64_MAX,
                              "cannot set the control file's length");
        goto fail;
    }
    cf->current = found->copy[newest];
    cf->generation = cf->current.generation;
    cf->next_copy = newest ^ 1u;
    for (unsigned copy = 0; copy < 2; copy++) {
        if (found->valid[copy]) {
            cf->checkpoint_lsn[copy] = found->copy[copy].checkpoint.lsn;
        }
    }
    return 0;

fail:
    weir__control_close(cf);
    return error;
}

int weir__control_write(struct weir__control_file *cf,
                        const struct weir__control *next,
                        bool both,
                        struct weir__fault *fault)
{
    weir__check(cf->file >= 0);
    if (next->log_id != cf->current.log_id || next->block_bytes != cf->current.block_bytes) {
        return weir__fault_set(fault,
                               -EINVAL,
                               WEIR__CONTROL_NAME,
                               UINT64_MAX,
                               UINT64_MAX,
                               "log id and block size of a control file never change");
    }
    struct weir__control written = *next;
    for (int left = both ? 2 : 1; left > 0; left--) {
        const int error = copy_write(cf, WEIR__CONTROL_NAME, &written, fault);
        if (error != 0) {
            return error;
        }
    }
    cf->current = written;
    return 0;
}

weir_lsn weir__control_checkpoint_low(const struct weir__control_file *cf)
{
    if (WEIR__PLANTED(reclaim_by_newer_copy)) {
        return cf->current.checkpoint.lsn;
    }
    return weir__min_u64(cf->checkpoint_lsn[0], cf->checkpoint_lsn[1]);
}

void weir__control_close(struct weir__control_file *cf)
{
    if (cf->file >= 0) {
        (void)cf->dir->io->ops->close(cf->dir->io, cf->file);
        cf->file = -1;
    }
    if (cf->buffer != NULL) {
        weir__mem_free_io(cf->dir->mem, cf->buffer, cf->buffer_bytes);
        cf->buffer = NULL;
        cf->buffer_bytes = 0;
    }
}
