/* SPDX-License-Identifier: Apache-2.0
 * Segment files: opening them, reading their headers, making new ones ready (FORMAT.md section
 * 4).
 *
 * A new segment is filled under the name weir.prepare: zeros chunk by chunk, then header, sync,
 * rename, sync of the directory. So a file that bears a segment's name is complete. A trimmed
 * segment is recycled by rename first and header second; a crash between the two leaves a file
 * whose name and header disagree, which is an unused segment beyond the end of the log. A
 * segment that an earlier run had prepared is adopted: it gets a header of its own time, and is
 * synced.
 *
 * What can fail: any call of the I/O seam. Lack of space is met here, before a record depends on
 * the segment, and can be waited out. A failed sync is never repeated over the same bytes: they
 * are written again, or the file is given up. Threads: one at a time per struct weir__prepare;
 * the two functions at the top from any thread. */
#include "segment/segment.h"

#include "base/check.h"
#include "base/num.h"
#include "base/plant.h"
#include "io/transfer.h"

#include <errno.h>
#include <string.h>

/* Through the page cache zeros only pile up until a sync; this many at a time keep the last one
 * short. */
#define PREFILL_SYNC_BYTES (16u * WEIR__PREFILL_CHUNK_BYTES)
/* A header is read before its block size is known. */
#define HEADER_READ_BYTES_MIN 4096u

static unsigned segment_direct_flag(const struct weir__dir *dir)
{
    return dir->direct ? (unsigned)WEIR__OPEN_DIRECT : 0;
}

static uint64_t range_bytes(struct weir__range range)
{
    return range.end - range.base;
}

int weir__segment_open(struct weir__dir *dir,
                       struct weir__range range,
                       unsigned flags,
                       int *file_out,
                       struct weir__fault *fault)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    if (!dir->direct) {
        flags &= ~(unsigned)WEIR__OPEN_DIRECT;
    }
    struct weir__io *io = dir->io;
    int file = -1;
    int error = io->ops->open(io, dir->file, name, flags, &file);
    if (error != 0) {
        return weir__fault_set(fault,
                               error,
                               name,
                               UINT64_MAX,
                               range.base,
                               "cannot open the segment");
    }
    struct weir__file_info info;
    error = io->ops->info(io, file, &info);
    if (error != 0) {
        (void)weir__fault_set(fault,
                              error,
                              name,
                              UINT64_MAX,
                              range.base,
                              "cannot look at the segment");
    } else if (!info.regular) {
        error = weir__fault_set(fault,
                                WEIR_ECORRUPT,
                                name,
                                UINT64_MAX,
                                range.base,
                                "the segment is not a regular file");
    } else if (info.bytes < range_bytes(range)) {
        error = weir__fault_set(fault,
                                WEIR_ECORRUPT,
                                name,
                                info.bytes,
                                range.base + info.bytes,
                                "the segment is %llu bytes long, %llu by its name",
                                (unsigned long long)info.bytes,
                                (unsigned long long)range_bytes(range));
    }
    if (error != 0) {
        (void)io->ops->close(io, file);
        return error;
    }
    *file_out = file;
    return 0;
}

int weir__segment_read_header(struct weir__dir *dir,
                              int file,
                              struct weir__range range,
                              struct weir__segment_header *header_out,
                              struct weir__fault *fault)
{
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    const size_t bytes = weir__max_u64(HEADER_READ_BYTES_MIN, dir->facts.direct_align);
    uint8_t *block = weir__mem_alloc_io(dir->mem, bytes);
    if (block == NULL) {
        return weir__fault_set(fault,
                               -ENOMEM,
                               name,
                               0,
                               range.base,
                               "no memory to read the segment's header");
    }
    /* Short only where the file is: a second try tells that from a short read for no reason. */
    size_t got = 0;
    int error = 0;
    for (int i = 0; i < 2 && error == 0 && got < WEIR__SEGMENT_HEADER_BYTES; i++) {
        error = weir__io_read_upto(dir->io,
                                   file,
                                   block,
                                   bytes,
                                   0,
                                   (uint32_t)weir__max_u64(dir->facts.direct_align, 1),
                                   &got);
    }
    if (error != 0) {
        error =
            weir__fault_set(fault, error, name, 0, range.base, "cannot read the segment's header");
    } else if (got < WEIR__SEGMENT_HEADER_BYTES) {
        error = weir__fault_set(fault,
                                WEIR_ECORRUPT,
                                name,
                                (uint64_t)got,
                                range.base,
                                "the segment ends within its header");
    } else {
        const char *why = "";
        error = weir__segment_header_decode(block, header_out, &why);
        if (error != 0) {
            (void)weir__fault_set(fault, error, name, 0, range.base, "%s", why);
        }
    }
    weir__mem_free_io(dir->mem, block, bytes);
    return error;
}

/* ---- making ready ---- */

int weir__prepare_init(struct weir__prepare *prepare, struct weir__dir *dir)
{
    memset(prepare, 0, sizeof *prepare);
    prepare->dir = dir;
    prepare->file = -1;
    prepare->zeros_bytes = WEIR__PREFILL_CHUNK_BYTES;
    prepare->zeros = weir__mem_alloc_io(dir->mem, prepare->zeros_bytes);
    return prepare->zeros == NULL ? -ENOMEM : 0;
}

static void prepare_close(struct weir__prepare *prepare)
{
    if (prepare->file >= 0) {
        (void)prepare->dir->io->ops->close(prepare->dir->io, prepare->file);
        prepare->file = -1;
    }
}

void weir__prepare_exit(struct weir__prepare *prepare)
{
    if (prepare->zeros == NULL) {
        return;
    }
    prepare_close(prepare);
    weir__mem_free_io(prepare->dir->mem, prepare->zeros, prepare->zeros_bytes);
    prepare->zeros = NULL;
}

void weir__prepare_abandon(struct weir__prepare *prepare)
{
    if (prepare->file < 0) {
        return;
    }
    prepare_close(prepare);
    struct weir__io *io = prepare->dir->io;
    /* What cannot be removed is reused by the next fill. */
    (void)io->ops->unlink(io, prepare->dir->file, WEIR__PREPARE_NAME);
}

/* Writes the header's block through the chunk of zeros, which is all zero again afterwards. */
static int header_write(struct weir__prepare *prepare,
                        int file,
                        const struct weir__segment_header *header,
                        enum weir__segment_origin origin)
{
    struct weir__segment_header out = *header;
    out.origin = (uint32_t)origin;
    weir__segment_header_encode(&out, prepare->zeros);
    const int error =
        weir__io_write_full(prepare->dir->io, file, prepare->zeros, header->block_bytes, 0, false);
    memset(prepare->zeros, 0, WEIR__SEGMENT_HEADER_BYTES);
    return error;
}

static void header_check(struct weir__range range, const struct weir__segment_header *header)
{
    weir__check(range.base < range.end);
    weir__check(header->base == range.base);
    weir__check(header->bytes == range_bytes(range));
    weir__check(weir__is_pow2(header->block_bytes));
    weir__check(header->block_bytes <= WEIR__PREFILL_CHUNK_BYTES);
    weir__check(header->bytes % header->block_bytes == 0);
}

int weir__prepare_begin(struct weir__prepare *prepare,
                        struct weir__range range,
                        const struct weir__segment_header *header,
                        struct weir__fault *fault)
{
    weir__check(prepare->file < 0);
    header_check(range, header);
    struct weir__dir *dir = prepare->dir;
    struct weir__io *io = dir->io;
    const unsigned flags = WEIR__OPEN_WRITE | WEIR__OPEN_CREATE | segment_direct_flag(dir);
    int file = -1;
    struct weir__file_info info = {0};
    int error = io->ops->open(io, dir->file, WEIR__PREPARE_NAME, flags, &file);
    if (error == 0) {
        error = io->ops->info(io, file, &info);
        if (error == 0 && info.links > 1) {
            /* Under another name too: those bytes are somebody else's now. Ours is a new file. */
            (void)io->ops->close(io, file);
            file = -1;
            error = io->ops->unlink(io, dir->file, WEIR__PREPARE_NAME);
            if (error == 0) {
                info = (struct weir__file_info){0};
                error = io->ops->open(io,
                                      dir->file,
                                      WEIR__PREPARE_NAME,
                                      flags | (unsigned)WEIR__OPEN_EXCLUSIVE,
                                      &file);
            }
        }
    }
    if (error == 0 && info.bytes > range_bytes(range)) {
        error = io->ops->truncate(io, file, range_bytes(range));
    }
    if (error != 0) {
        if (file >= 0) {
            (void)io->ops->close(io, file);
        }
        return weir__fault_set(fault,
                               error,
                               WEIR__PREPARE_NAME,
                               UINT64_MAX,
                               range.base,
                               "cannot begin a new segment");
    }
    prepare->range = range;
    prepare->header = *header;
    prepare->file = file;
    prepare->done = 0;
    prepare->synced = 0;
    prepare->renamed = false;
    return 0;
}

/* Writes up to one chunk of zeros at `done`. */
static int prepare_fill(struct weir__prepare *prepare, struct weir__fault *fault)
{
    struct weir__io *io = prepare->dir->io;
    const uint64_t bytes = range_bytes(prepare->range);
    const uint64_t left = weir__min_u64(bytes - prepare->done, prepare->zeros_bytes);
    size_t put = 0;
    /* Direct writes go on at a block only. */
    const int error = weir__io_write_upto(io,
                                          prepare->file,
                                          prepare->zeros,
                                          (size_t)left,
                                          prepare->done,
                                          prepare->header.block_bytes,
                                          &put);
    prepare->done += put;
    if (error != 0) {
        return weir__fault_set(fault,
                               error,
                               WEIR__PREPARE_NAME,
                               prepare->done,
                               prepare->range.base + prepare->done,
                               "cannot fill a new segment");
    }
    return 0;
}

/* After a failed sync nobody knows which bytes are on the disk: all are written again before the
 * next one. */
static int prepare_sync(struct weir__prepare *prepare, struct weir__fault *fault)
{
    const int error = WEIR__PLANTED(zeros_not_synced)
                          ? 0
                          : prepare->dir->io->ops->sync(prepare->dir->io, prepare->file);
    if (error != 0) {
        prepare->done = 0;
        prepare->synced = 0;
        return weir__fault_set(fault,
                               error,
                               WEIR__PREPARE_NAME,
                               UINT64_MAX,
                               prepare->range.base,
                               "cannot sync a new segment");
    }
    prepare->synced = prepare->done;
    return 0;
}

int weir__prepare_step(struct weir__prepare *prepare, int *file_out, struct weir__fault *fault)
{
    weir__check(prepare->file >= 0);
    struct weir__dir *dir = prepare->dir;
    struct weir__io *io = dir->io;
    const uint64_t bytes = range_bytes(prepare->range);

    int error = prepare_fill(prepare, fault);
    if (error != 0) {
        return error;
    }
    if (prepare->done < bytes) {
        if (!dir->direct && prepare->done - prepare->synced >= PREFILL_SYNC_BYTES) {
            return prepare_sync(prepare, fault);
        }
        return 0;
    }
    weir__check(prepare->done == bytes);

    error = header_write(prepare, prepare->file, &prepare->header, WEIR__SEGMENT_ZEROED);
    if (error != 0) {
        return weir__fault_set(fault,
                               error,
                               WEIR__PREPARE_NAME,
                               0,
                               prepare->range.base,
                               "cannot write a new segment's header");
    }
    error = prepare_sync(prepare, fault);
    if (error != 0) {
        return error;
    }
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(prepare->range.base, prepare->range.end, name);
    error = io->ops->rename(io, dir->file, WEIR__PREPARE_NAME, name);
    if (error != 0) {
        return weir__fault_set(fault,
                               error,
                               name,
                               UINT64_MAX,
                               prepare->range.base,
                               "cannot give a new segment its name");
    }
    prepare->renamed = true;
    error = WEIR__PLANTED(segment_dir_not_synced) ? 0 : io->ops->sync_dir(io, dir->file);
    if (error != 0) {
        prepare_close(prepare);
        return weir__fault_set(fault,
                               error,
                               name,
                               UINT64_MAX,
                               prepare->range.base,
                               "cannot sync the directory of a new segment");
    }
    *file_out = prepare->file;
    prepare->file = -1;
    return 1;
}

/* A file that may be made into `range`: opened for writing, of the right length, under one name
 * only. */
static int reuse_open(struct weir__prepare *prepare,
                      struct weir__range from,
                      uint64_t bytes,
                      int *file_out,
                      struct weir__fault *fault)
{
    struct weir__dir *dir = prepare->dir;
    struct weir__io *io = dir->io;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(from.base, from.end, name);
    int file = -1;
    int error =
        io->ops->open(io, dir->file, name, WEIR__OPEN_WRITE | segment_direct_flag(dir), &file);
    if (error != 0) {
        return weir__fault_set(fault,
                               error,
                               name,
                               UINT64_MAX,
                               from.base,
                               "cannot open the segment to be used again");
    }
    struct weir__file_info info;
    error = io->ops->info(io, file, &info);
    if (error != 0) {
        (void)weir__fault_set(fault,
                              error,
                              name,
                              UINT64_MAX,
                              from.base,
                              "cannot look at the segment to be used again");
    } else if (!info.regular || info.bytes != bytes) {
        error = weir__fault_set(fault,
                                -EINVAL,
                                name,
                                UINT64_MAX,
                                from.base,
                                "the segment's length does not fit");
    } else if (info.links != 1) {
        error = weir__fault_set(fault,
                                -EMLINK,
                                name,
                                UINT64_MAX,
                                from.base,
                                "the segment has another name too");
    }
    if (error != 0) {
        (void)io->ops->close(io, file);
        return error;
    }
    *file_out = file;
    return 0;
}

/* The new header, durable; then the name. Takes over file. */
static int reuse_finish(struct weir__prepare *prepare,
                        struct weir__range range,
                        const struct weir__segment_header *header,
                        int file,
                        int *file_out,
                        struct weir__fault *fault)
{
    struct weir__io *io = prepare->dir->io;
    int error = WEIR__PLANTED(recycled_header_kept)
                    ? 0
                    : header_write(prepare, file, header, WEIR__SEGMENT_RECYCLED);
    if (error == 0 && !WEIR__PLANTED(recycled_header_not_synced)) {
        error = io->ops->sync(io, file);
    }
    if (error == 0 && !WEIR__PLANTED(recycled_dir_not_synced)) {
        error = io->ops->sync_dir(io, prepare->dir->file);
    }
    if (error != 0) {
        (void)io->ops->close(io, file);
        char name[WEIR__SEGMENT_NAME_BYTES];
        weir__segment_name(range.base, range.end, name);
        return weir__fault_set(fault,
                               error,
                               name,
                               0,
                               range.base,
                               "cannot make the header of a segment used again durable");
    }
    *file_out = file;
    return 0;
}

int weir__prepare_recycle(struct weir__prepare *prepare,
                          struct weir__range from,
                          struct weir__range range,
                          const struct weir__segment_header *header,
                          int *file_out,
                          struct weir__fault *fault)
{
    header_check(range, header);
    prepare->renamed = false;
    char old_name[WEIR__SEGMENT_NAME_BYTES];
    char new_name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(from.base, from.end, old_name);
    weir__segment_name(range.base, range.end, new_name);
    if (range_bytes(from) != range_bytes(range)) {
        return weir__fault_set(fault,
                               -EINVAL,
                               old_name,
                               UINT64_MAX,
                               from.base,
                               "the segment's length does not fit");
    }
    int file = -1;
    int error = reuse_open(prepare, from, range_bytes(range), &file, fault);
    if (error != 0) {
        return error;
    }
    struct weir__io *io = prepare->dir->io;
    error = io->ops->rename(io, prepare->dir->file, old_name, new_name);
    if (error != 0) {
        (void)io->ops->close(io, file);
        return weir__fault_set(fault,
                               error,
                               old_name,
                               UINT64_MAX,
                               from.base,
                               "cannot rename a trimmed segment");
    }
    prepare->renamed = true;
    return reuse_finish(prepare, range, header, file, file_out, fault);
}

int weir__prepare_adopt(struct weir__prepare *prepare,
                        struct weir__range range,
                        const struct weir__segment_header *header,
                        int *file_out,
                        struct weir__fault *fault)
{
    header_check(range, header);
    int file = -1;
    const int error = reuse_open(prepare, range, range_bytes(range), &file, fault);
    if (error != 0) {
        return error;
    }
    return reuse_finish(prepare, range, header, file, file_out, fault);
}
