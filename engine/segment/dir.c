/* SPDX-License-Identifier: Apache-2.0
 * A log's directory, the writer's lock and the live page (FORMAT.md sections 1 and 7).
 *
 * A writer opens the directory, takes the lock and begins the live page; a reader opens the
 * directory, asks whether a writer is there and reads the page with pread. The lock belongs to
 * an open file description: another descriptor of the same process is refused like another
 * process, and it falls only when the last reference is gone, a ring's registration included.
 * That is why taking it may mean waiting for the last writes of a killed writer.
 *
 * The live page is the one mapping of a file in the engine. A store to a mapped page that has no
 * block beneath it kills the process with SIGBUS when the disk is full, so the page is written
 * with write() before it is mapped, and is not used at all on file systems that move a block at
 * every write.
 *
 * What can fail: any call of the I/O seam. The live page never fails anything: it is a hint.
 * Threads: open, lock, close and the two ends of the live page belong to the opener; each
 * position of the page to the one thread that publishes it. */
#include "segment/dir.h"

#include "base/bytes.h"
#include "base/check.h"
#include "io/transfer.h"
#include "port/clock.h"

#include <errno.h>
#include <string.h>

#define DIR_LOCK_PAUSE_MIN_NS UINT64_C(1000000)
#define DIR_LOCK_PAUSE_MAX_NS UINT64_C(20000000)
#define DIR_LIVE_USED_BYTES 64u

_Static_assert(sizeof(WEIR__ATOMIC(uint64_t)) == sizeof(uint64_t),
               "the live page is words as they stand in the file");

static int dir_open(struct weir__dir *dir,
                    struct weir__io *io,
                    struct weir__mem *mem,
                    const char *path,
                    bool create,
                    bool look_only,
                    bool want_direct,
                    struct weir__fault *fault)
{
    memset(dir, 0, sizeof *dir);
    dir->io = io;
    dir->mem = mem;
    dir->file = -1;
    dir->lock_file = -1;
    dir->live_file = -1;

    int error = io->ops->open_dir(io, path, create, &dir->file);
    if (error != 0) {
        dir->file = -1;
        return weir__fault_set(fault,
                               error,
                               path,
                               UINT64_MAX,
                               UINT64_MAX,
                               "cannot open the log's directory");
    }
    dir->facts.look_only = look_only;
    error = io->ops->facts(io, dir->file, &dir->facts);
    if (error != 0) {
        weir__dir_close(dir);
        return weir__fault_set(fault,
                               error,
                               path,
                               UINT64_MAX,
                               UINT64_MAX,
                               "cannot learn what file system the log's directory is on");
    }
    dir->direct = want_direct && dir->facts.direct;
    return 0;
}

int weir__dir_open(struct weir__dir *dir,
                   struct weir__io *io,
                   struct weir__mem *mem,
                   const char *path,
                   bool create,
                   bool want_direct,
                   struct weir__fault *fault)
{
    return dir_open(dir, io, mem, path, create, false, want_direct, fault);
}

int weir__dir_look(struct weir__dir *dir,
                   struct weir__io *io,
                   struct weir__mem *mem,
                   const char *path,
                   bool want_direct,
                   struct weir__fault *fault)
{
    return dir_open(dir, io, mem, path, false, true, want_direct, fault);
}

void weir__dir_close(struct weir__dir *dir)
{
    if (dir->io == NULL) {
        return;
    }
    const struct weir__io_ops *ops = dir->io->ops;
    if (dir->live != NULL) {
        ops->unmap(dir->io, (void *)(uintptr_t)dir->live, WEIR__LIVE_BYTES);
        dir->live = NULL;
    }
    /* Explicitly, for a forked child may share the description. */
    if (dir->lock_file >= 0 && ops->unlock != NULL && !dir->writes_unknown) {
        (void)ops->unlock(dir->io, dir->lock_file);
    }
    /* A file that was only read, locked or mapped has nothing to say at its close. */
    int *const files[] = {&dir->live_file, &dir->lock_file, &dir->file};
    for (size_t i = 0; i < WEIR__ARRAY_COUNT(files); i++) {
        if (*files[i] >= 0) {
            (void)ops->close(dir->io, *files[i]);
            *files[i] = -1;
        }
    }
}

int weir__dir_lock(struct weir__dir *dir, uint64_t timeout_ns, struct weir__fault *fault)
{
    weir__check(dir->lock_file < 0);
    struct weir__io *io = dir->io;
    int file = -1;
    int error =
        io->ops->open(io, dir->file, WEIR__LOCK_NAME, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &file);
    if (error != 0) {
        return weir__fault_set(fault,
                               error,
                               WEIR__LOCK_NAME,
                               UINT64_MAX,
                               UINT64_MAX,
                               "cannot open the lock file");
    }

    const uint64_t start_ns = weir__now_ns();
    uint64_t deadline_ns = start_ns + timeout_ns;
    if (deadline_ns < start_ns) {
        deadline_ns = WEIR__NEVER;
    }
    uint64_t pause_ns = DIR_LOCK_PAUSE_MIN_NS;
    for (;;) {
        error = io->ops->lock(io, file);
        if (error != -EBUSY) {
            break;
        }
        const uint64_t now_ns = weir__now_ns();
        if (now_ns >= deadline_ns) {
            break;
        }
        const uint64_t left_ns = deadline_ns - now_ns;
        weir__sleep_ns(pause_ns < left_ns ? pause_ns : left_ns);
        pause_ns = pause_ns * 2 < DIR_LOCK_PAUSE_MAX_NS ? pause_ns * 2 : DIR_LOCK_PAUSE_MAX_NS;
    }
    if (error != 0) {
        (void)io->ops->close(io, file);
        if (error == -EBUSY) {
            return weir__fault_set(
                fault,
                error,
                WEIR__LOCK_NAME,
                UINT64_MAX,
                UINT64_MAX,
                "another writer has the log open, or the last writes of a killed one are still "
                "under way (waited %llu ms)",
                (unsigned long long)((weir__now_ns() - start_ns) / 1000000));
        }
        return weir__fault_set(fault,
                               error,
                               WEIR__LOCK_NAME,
                               UINT64_MAX,
                               UINT64_MAX,
                               "cannot take the writer's lock");
    }
    dir->lock_file = file;
    return 0;
}

bool weir__dir_writer_live(struct weir__dir *dir)
{
    if (dir->lock_file >= 0) {
        return false; /* The lock is ours, so it is nobody else's. */
    }
    struct weir__io *io = dir->io;
    int file = -1;
    if (io->ops->open(io, dir->file, WEIR__LOCK_NAME, WEIR__OPEN_READ, &file) != 0) {
        return false;
    }
    bool held = false;
    if (io->ops->lock_held(io, file, &held) != 0) {
        held = false;
    }
    (void)io->ops->close(io, file);
    return held;
}

/* ---- the live page ---- */

static WEIR__ATOMIC(uint64_t) *live_word(struct weir__dir *dir, size_t offset)
{
    return &dir->live[offset / sizeof(uint64_t)];
}

/* Creates weir.live and puts WEIR__LIVE_BYTES zeros into it: marked not valid, and with a block
 * beneath it. */
static int live_file_open(struct weir__dir *dir, int *file_out)
{
    static const uint8_t zeros[WEIR__LIVE_BYTES];
    struct weir__io *io = dir->io;
    int file = -1;
    int error =
        io->ops->open(io, dir->file, WEIR__LIVE_NAME, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &file);
    if (error != 0) {
        return error;
    }
    error = weir__io_write_full(io, file, zeros, sizeof zeros, 0, false);
    if (error == 0) {
        error = io->ops->truncate(io, file, WEIR__LIVE_BYTES);
    }
    if (error != 0) {
        (void)io->ops->close(io, file);
        return error;
    }
    *file_out = file;
    return 0;
}

void weir__dir_live_forget(struct weir__dir *dir)
{
    const struct weir__io_ops *ops = dir->io->ops;
    static const uint8_t zeros[64];
    int file;

    if (ops->open(dir->io, dir->file, WEIR__LIVE_NAME, WEIR__OPEN_WRITE, &file) == 0) {
        /* Best effort: a page that stays is believed only for its own epoch. */
        (void)weir__io_write_full(dir->io, file, zeros, sizeof zeros, 0, false);
        (void)ops->close(dir->io, file);
    }
}

void weir__dir_live_begin(struct weir__dir *dir, const struct weir__live *first)
{
    weir__check(dir->live == NULL && dir->live_file < 0);
    struct weir__io *io = dir->io;
    int file = -1;
    /* Opened even where it will not be used: a page that an earlier writer left must not look
     * valid. */
    if (live_file_open(dir, &file) != 0) {
        return;
    }
    void *page = NULL;
    if (dir->facts.copy_on_write || io->ops->map == NULL || io->ops->unmap == NULL ||
        io->ops->map(io, file, WEIR__LIVE_BYTES, &page) != 0) {
        (void)io->ops->close(io, file);
        return;
    }
    dir->live_file = file;
    dir->live = page;

    uint8_t bytes[DIR_LIVE_USED_BYTES];
    weir__live_encode(first, bytes);
    for (size_t offset = 0; offset < sizeof bytes; offset += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, bytes + offset, sizeof word); /* already in the order of the file */
        if (offset != WEIR__LIVE_EPOCH) {
            weir__store(live_word(dir, offset), word, relaxed);
        }
    }
    /* Last, so that a page with an epoch is a page with everything else. */
    weir__store(live_word(dir, WEIR__LIVE_EPOCH), WEIR__LE64(first->epoch), release);
}

void weir__dir_live_publish(struct weir__dir *dir, weir_lsn durable, weir_lsn written)
{
    if (dir->live != NULL) {
        weir__store(live_word(dir, WEIR__LIVE_DURABLE), WEIR__LE64(durable), relaxed);
        weir__store(live_word(dir, WEIR__LIVE_WRITTEN), WEIR__LE64(written), relaxed);
    }
}

void weir__dir_live_publish_oldest(struct weir__dir *dir, weir_lsn oldest)
{
    if (dir->live != NULL) {
        weir__store(live_word(dir, WEIR__LIVE_OLDEST), WEIR__LE64(oldest), relaxed);
    }
}

void weir__dir_live_end(struct weir__dir *dir)
{
    if (dir->live != NULL) {
        weir__store(live_word(dir, WEIR__LIVE_EPOCH), UINT64_C(0), release);
    }
}

bool weir__dir_live_read(struct weir__dir *dir, struct weir__live *live_out)
{
    struct weir__io *io = dir->io;
    int file = -1;
    if (io->ops->open(io, dir->file, WEIR__LIVE_NAME, WEIR__OPEN_READ, &file) != 0) {
        return false;
    }
    uint8_t bytes[DIR_LIVE_USED_BYTES];
    const int error = weir__io_read_full(io, file, bytes, sizeof bytes, 0);
    (void)io->ops->close(io, file);
    return error == 0 && weir__live_decode(bytes, live_out);
}
