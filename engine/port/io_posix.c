/* SPDX-License-Identifier: Apache-2.0
 * The system's files behind the I/O seam: one posix call per entry of the table.
 *
 * What is added to the plain calls: EINTR is retried; every descriptor is close-on-exec and above
 * 2, so that a stray print cannot overwrite a log; symbolic links and anything but regular files
 * are refused; no path is used after the directory was opened. Nothing is remembered between calls,
 * so any thread may call anything. */
#include "base/num.h"
#include "port/io.h"
#include "port/pool.h"
#include "port/uring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8, "files are larger than 2 GiB");

/* Descriptors 0 to 2 get what others print. */
#define POSIX_FILE_MIN 3
#define POSIX_DIRECT_BYTES_MIN 4096u
#define POSIX_DIRECT_BYTES_MAX 65536u

/* ---- descriptors ---- */

/* Takes over file and returns one above 2, or a negative errno with nothing left open. */
static int posix_raise(int file)
{
    if (file >= POSIX_FILE_MIN) {
        return file;
    }
    const int raised = fcntl(file, F_DUPFD_CLOEXEC, POSIX_FILE_MIN);
    const int error = errno;
    (void)close(file);
    return raised < 0 ? -error : raised;
}

static int posix_openat(int dir, const char *name, int flags)
{
    int file;
    do {
        file = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, S_IRUSR | S_IWUSR);
    } while (file < 0 && errno == EINTR);
    return file < 0 ? -errno : posix_raise(file);
}

static int posix_close(struct weir__io *io, int file)
{
    (void)io;
    /* Linux has released the descriptor even where it says EINTR; a second close could hit another
     * thread's file. */
    if (close(file) != 0 && errno != EINTR) {
        return -errno;
    }
    return 0;
}

/* ---- directories ---- */

static int posix_sync_file(int file, int (*call)(int))
{
    /* EINTR comes from file systems in user space, before anything was tried or reported. Any other
     * failure is final for the caller; it is not retried here. */
    while (call(file) != 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int posix_sync_dir(struct weir__io *io, int dir)
{
    (void)io;
    return posix_sync_file(dir, fsync);
}

/* Makes the directory's own entry durable. existed: another user may have made it under a parent
 * that we cannot read, and then its durability is not ours to establish. */
static int posix_sync_parent(int dir, bool existed)
{
    const int parent = posix_openat(dir, "..", O_RDONLY | O_DIRECTORY);
    if (parent == -EACCES && existed) {
        return 0;
    }
    if (parent < 0) {
        return parent;
    }
    const int error = posix_sync_file(parent, fsync);
    (void)close(parent);
    return error;
}

static int posix_open_dir(struct weir__io *io, const char *path, bool create, int *dir_out)
{
    (void)io;
    /* O_NOFOLLOW looks at the last component only if no slash comes after it. */
    char trimmed[PATH_MAX];
    size_t len = strlen(path);
    if (len == 0) {
        return -ENOENT;
    }
    if (len >= sizeof trimmed) {
        return -ENAMETOOLONG;
    }
    memcpy(trimmed, path, len + 1);
    while (len > 1 && trimmed[len - 1] == '/') {
        trimmed[--len] = '\0';
    }

    bool existed = true;
    if (create) {
        if (mkdir(trimmed, S_IRWXU) == 0) {
            existed = false;
        } else if (errno != EEXIST) {
            return -errno;
        }
    }
    const int dir = posix_openat(AT_FDCWD, trimmed, O_RDONLY | O_DIRECTORY);
    if (dir < 0) {
        struct stat status;
        /* With O_DIRECTORY the kernel calls a symbolic link "not a directory"; say what it is. */
        if (dir == -ENOTDIR && fstatat(AT_FDCWD, trimmed, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(status.st_mode)) {
            return -ELOOP;
        }
        return dir;
    }
    if (create) {
        /* Also when it existed: whoever made it may have died before this sync. */
        const int error = posix_sync_parent(dir, existed);
        if (error != 0) {
            (void)close(dir);
            return error;
        }
    }
    *dir_out = dir;
    return 0;
}

/* What getdents64 fills in; libc's readdir would take memory past the seam. */
struct posix_entry {
    uint64_t inode;
    int64_t next;
    uint16_t bytes;
    uint8_t type;
    char name[];
};

static int
posix_list_dir(struct weir__io *io, int dir, int (*visit)(void *ctx, const char *name), void *ctx)
{
    (void)io;
    /* A description of its own: the position in `dir` is shared with whoever else lists it. */
    const int list = posix_openat(dir, ".", O_RDONLY | O_DIRECTORY);
    if (list < 0) {
        return list;
    }
    int result = 0;
    while (result == 0) {
        _Alignas(struct posix_entry) char buffer[8192];
        const long filled = syscall(SYS_getdents64, list, buffer, sizeof buffer);
        if (filled < 0) {
            if (errno == EINTR) {
                continue;
            }
            result = -errno;
            break;
        }
        if (filled == 0) {
            break;
        }
        for (long at = 0; at < filled && result == 0;) {
            const struct posix_entry *const entry = (const struct posix_entry *)(buffer + at);
            at += entry->bytes;
            if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0) {
                result = visit(ctx, entry->name);
            }
        }
    }
    (void)close(list);
    return result;
}

/* ---- facts ---- */

static const struct {
    uint64_t magic;
    const char *name;
    bool copy_on_write;
    bool network;
} posix_fs_table[] = {
    {0xef53, "ext4", false, false}, /* ext2 and ext3 share it */
    {0x58465342, "xfs", false, false},
    {0x01021994, "tmpfs", false, false},
    {0x858458f6, "ramfs", false, false},
    {0x9123683e, "btrfs", true, false},
    {0x2fc12fc1, "zfs", true, false},
    {0xca451a4e, "bcachefs", true, false},
    {0xf2f52010, "f2fs", true, false},
    {0x3434, "nilfs2", true, false},
    {0x794c7630, "overlay", true, false},
    {0x3153464a, "jfs", false, false},
    {0x52654973, "reiserfs", false, false},
    {0x2011bab0, "exfat", false, false},
    {0x4d44, "vfat", false, false},
    {0x5346544e, "ntfs", false, false},
    {0x7366746e, "ntfs3", false, false},
    /* What stands behind FUSE is unknown; treated like a network until tested. */
    {0x65735546, "fuse", false, true},
    {0x6969, "nfs", false, true},
    {0xff534d42, "cifs", false, true},
    {0xfe534d42, "smb2", false, true},
    {0x517b, "smb", false, true},
    {0x01021997, "9p", false, true},
    {0x00c36400, "ceph", false, true},
    {0x5346414f, "afs", false, true},
    {0x6b414653, "afs", false, true},
    {0x73757245, "coda", false, true},
    {0x0bd00bd0, "lustre", false, true},
    {0x47504653, "gpfs", false, true},
    {0x01161970, "gfs2", false, true},
    {0x7461636f, "ocfs2", false, true},
};

static void facts_fs(const struct statfs *fs, struct weir__fs_facts *facts)
{
    /* Some architectures have a signed 32-bit field here. */
    const uint64_t magic = (uint32_t)fs->f_type;
    for (size_t i = 0; i < sizeof posix_fs_table / sizeof posix_fs_table[0]; i++) {
        if (posix_fs_table[i].magic == magic) {
            (void)snprintf(facts->fs_name, sizeof facts->fs_name, "%s", posix_fs_table[i].name);
            facts->copy_on_write = posix_fs_table[i].copy_on_write;
            facts->network = posix_fs_table[i].network;
            return;
        }
    }
    (void)snprintf(facts->fs_name, sizeof facts->fs_name, "0x%llx", (unsigned long long)magic);
}

/* Reads a short text file of sysfs without its line end. False: not there. */
static bool facts_read_text(const char *path, char *text_out, size_t text_bytes)
{
    const int file = posix_openat(AT_FDCWD, path, O_RDONLY);
    if (file < 0) {
        return false;
    }
    ssize_t got;
    do {
        got = read(file, text_out, text_bytes - 1);
    } while (got < 0 && errno == EINTR);
    (void)close(file);
    if (got <= 0) {
        return false;
    }
    text_out[got] = '\0';
    text_out[strcspn(text_out, "\n")] = '\0';
    return true;
}

/* A partition has no queue of its own; its disk, one directory up, has. */
static bool facts_read_queue(dev_t device, const char *attribute, char *text_out, size_t text_bytes)
{
    static const char *const forms[] = {
        "/sys/dev/block/%u:%u/queue/%s",
        "/sys/dev/block/%u:%u/../queue/%s",
    };
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, forms[i], major(device), minor(device), attribute);
        if (facts_read_text(path, text_out, text_bytes)) {
            return true;
        }
    }
    return false;
}

static void facts_device(dev_t device, struct weir__fs_facts *facts)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u", major(device), minor(device));
    char target[PATH_MAX];
    const ssize_t target_len = readlink(path, target, sizeof target - 1);
    if (target_len > 0) {
        target[target_len] = '\0';
        const char *const slash = strrchr(target, '/');
        const char *const name = slash == NULL ? target : slash + 1;
        (void)snprintf(facts->device_name,
                       sizeof facts->device_name,
                       "%.*s",
                       (int)sizeof facts->device_name - 1,
                       name);
    }
    char text[32];
    if (facts_read_queue(device, "logical_block_size", text, sizeof text)) {
        const unsigned long bytes = strtoul(text, NULL, 10);
        if (weir__is_pow2(bytes) && bytes >= 512 && bytes <= UINT32_C(1) << 30) {
            facts->direct_align = (uint32_t)bytes;
        }
    }
    if (facts_read_queue(device, "fua", text, sizeof text)) {
        facts->fua = strcmp(text, "0") != 0;
    }
    if (facts_read_queue(device, "write_cache", text, sizeof text)) {
        facts->write_cache = strcmp(text, "write back") == 0;
    }
}

/* What the file system itself says about direct I/O beats the block size of the device beneath.
 * False: it says that there is none. */
static bool facts_direct_align(int file, struct weir__fs_facts *facts)
{
#ifdef STATX_DIOALIGN
    struct statx status;
    if (statx(file, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
        (status.stx_mask & STATX_DIOALIGN) != 0) {
        if (status.stx_dio_offset_align == 0) {
            return false;
        }
        const uint32_t align = status.stx_dio_offset_align > status.stx_dio_mem_align
                                   ? status.stx_dio_offset_align
                                   : status.stx_dio_mem_align;
        if (weir__is_pow2(align)) {
            facts->direct_align = align < 512 ? 512 : align;
        }
    }
#else
    (void)file;
    (void)facts;
#endif
    return true;
}

/* An unlinked file for the probe: nameless where the file system can, else removed at once. */
static int facts_probe_open(int dir)
{
    int file = posix_openat(dir, ".", O_TMPFILE | O_RDWR | O_DIRECT);
    if (file != -EOPNOTSUPP && file != -EISDIR && file != -ENOENT && file != -EINVAL) {
        return file;
    }
    uint64_t salt = 0;
    if (getrandom(&salt, sizeof salt, GRND_NONBLOCK) != (ssize_t)sizeof salt) {
        salt = (uint64_t)getpid();
    }
    char name[64];
    (void)snprintf(name, sizeof name, ".weir-probe-%016llx", (unsigned long long)salt);
    file = posix_openat(dir, name, O_CREAT | O_EXCL | O_RDWR | O_DIRECT);
    /* Some file systems refuse O_DIRECT after they have made the file. */
    if (file >= 0 || file == -EINVAL) {
        (void)unlinkat(dir, name, 0);
    }
    return file;
}

/* Some regular file of the directory, for direct reads. A negative errno: there is none. */
static int facts_look_open(int dir)
{
    const int list_file = posix_openat(dir, ".", O_RDONLY | O_DIRECTORY);
    if (list_file < 0) {
        return list_file;
    }
    DIR *const list = fdopendir(list_file);
    if (list == NULL) {
        const int error = -errno;
        (void)close(list_file);
        return error;
    }
    int file = -ENOENT;
    const struct dirent *entry;
    while (file < 0 && (entry = readdir(list)) != NULL) {
        struct stat status;
        if (fstatat(dir, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode) && status.st_size >= POSIX_DIRECT_BYTES_MIN) {
            file = posix_openat(dir, entry->d_name, O_RDONLY | O_DIRECT | O_NONBLOCK);
        }
    }
    (void)closedir(list);
    return file;
}

/* One direct transfer of zeros to, or of anything from, the beginning of a file. */
static bool facts_try_direct(int file, bool look_only, uint64_t bytes)
{
    /* Anonymous pages are zero and aligned to the page; 64 KiB more leave room to align further. */
    const size_t mapped_bytes = (size_t)2 * POSIX_DIRECT_BYTES_MAX;
    void *const mapped =
        mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        return false;
    }
    const uint64_t skip = weir__align_up((uintptr_t)mapped, bytes) - (uintptr_t)mapped;
    char *const memory = (char *)mapped + skip;
    ssize_t moved;
    do {
        moved = look_only ? pread(file, memory, bytes, 0) : pwrite(file, memory, bytes, 0);
    } while (moved < 0 && errno == EINTR);
    (void)munmap(mapped, mapped_bytes);
    return look_only ? moved >= 0 : moved == (ssize_t)bytes;
}

static void facts_probe_direct(int dir, struct weir__fs_facts *facts)
{
    const int file = facts->look_only ? facts_look_open(dir) : facts_probe_open(dir);
    if (file < 0) {
        return;
    }
    if (facts_direct_align(file, facts) && facts->direct_align <= POSIX_DIRECT_BYTES_MAX) {
        const uint64_t bytes = weir__max_u64(POSIX_DIRECT_BYTES_MIN, facts->direct_align);
        facts->direct = facts_try_direct(file, facts->look_only, bytes);
    }
    (void)close(file);
}

static int posix_facts(struct weir__io *io, int dir, struct weir__fs_facts *facts_out)
{
    (void)io;
    const bool look_only = facts_out->look_only;
    memset(facts_out, 0, sizeof *facts_out);
    facts_out->look_only = look_only;
    facts_out->direct_align = 512;
    facts_out->fua = -1;
    facts_out->write_cache = -1;

    struct statfs fs;
    int result;
    do {
        result = fstatfs(dir, &fs);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
        return -errno;
    }
    struct stat status;
    if (fstat(dir, &status) != 0) {
        return -errno;
    }
    facts_fs(&fs, facts_out);
    const uint64_t unit_bytes = fs.f_frsize > 0 ? (uint64_t)fs.f_frsize : (uint64_t)fs.f_bsize;
    if (!weir__mul_u64((uint64_t)fs.f_bavail, unit_bytes, &facts_out->free_bytes)) {
        facts_out->free_bytes = UINT64_MAX;
    }
    /* Anonymous devices (tmpfs, btrfs, overlay, network) have no entry there and stay unknown. */
    facts_device(status.st_dev, facts_out);
    facts_probe_direct(dir, facts_out);
    return 0;
}

/* ---- files ---- */

/* A name is one component inside the directory, never a way out of it. */
static bool posix_name_ok(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* Refuses what is no regular file, and takes back the O_NONBLOCK that kept open() from hanging on a
 * fifo: on a ring it would turn waits into -EAGAIN. */
static int posix_settle(int file)
{
    struct stat status;
    if (fstat(file, &status) != 0) {
        return -errno;
    }
    if (!S_ISREG(status.st_mode)) {
        return S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
    }
    const int flags = fcntl(file, F_GETFL);
    if (flags < 0 || fcntl(file, F_SETFL, flags & ~O_NONBLOCK) != 0) {
        return -errno;
    }
    return 0;
}

static int posix_open(struct weir__io *io, int dir, const char *name, unsigned flags, int *file_out)
{
    (void)io;
    if (!posix_name_ok(name)) {
        return -EINVAL;
    }
    int how = O_NONBLOCK;
    how |= (flags & WEIR__OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    how |= (flags & WEIR__OPEN_CREATE) != 0 ? O_CREAT : 0;
    how |= (flags & WEIR__OPEN_EXCLUSIVE) != 0 ? O_EXCL : 0;
    how |= (flags & WEIR__OPEN_DIRECT) != 0 ? O_DIRECT : 0;
    const int file = posix_openat(dir, name, how);
    if (file < 0) {
        /* A fifo or socket: the same answer as for any other file that is not regular. */
        return file == -ENXIO ? -EINVAL : file;
    }
    const int error = posix_settle(file);
    if (error != 0) {
        (void)close(file);
        return error;
    }
    *file_out = file;
    return 0;
}

static int posix_info(struct weir__io *io, int file, struct weir__file_info *info_out)
{
    (void)io;
    struct stat status;
    if (fstat(file, &status) != 0) {
        return -errno;
    }
    *info_out = (struct weir__file_info){
        .bytes = (uint64_t)status.st_size,
        .links = (uint64_t)status.st_nlink,
        .device = (uint64_t)status.st_dev,
        .inode = (uint64_t)status.st_ino,
        .regular = S_ISREG(status.st_mode),
    };
    return 0;
}

static int posix_rename(struct weir__io *io, int dir, const char *from, const char *to)
{
    (void)io;
    if (!posix_name_ok(from) || !posix_name_ok(to)) {
        return -EINVAL;
    }
    return renameat(dir, from, dir, to) == 0 ? 0 : -errno;
}

static int posix_unlink(struct weir__io *io, int dir, const char *name)
{
    (void)io;
    if (!posix_name_ok(name)) {
        return -EINVAL;
    }
    return unlinkat(dir, name, 0) == 0 ? 0 : -errno;
}

static int posix_truncate(struct weir__io *io, int file, uint64_t bytes)
{
    (void)io;
    if (bytes > INT64_MAX) {
        return -EFBIG;
    }
    while (ftruncate(file, (off_t)bytes) != 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static ssize_t
posix_read(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    (void)io;
    if (offset > INT64_MAX) {
        return -EINVAL;
    }
    ssize_t got;
    do {
        got = pread(file, buffer, bytes, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t posix_writev(int file, const struct iovec *iov, int iov_count, off_t offset, int how)
{
    ssize_t put;
    do {
        put = how == 0 ? pwritev(file, iov, iov_count, offset)
                       : pwritev2(file, iov, iov_count, offset, how);
    } while (put < 0 && errno == EINTR);
    return put < 0 ? -errno : put;
}

static int posix_sync(struct weir__io *io, int file)
{
    (void)io;
    return posix_sync_file(file, fdatasync);
}

static ssize_t posix_write(struct weir__io *io,
                           int file,
                           const struct iovec *iov,
                           unsigned iov_count,
                           uint64_t offset,
                           bool dsync)
{
    if (offset > INT64_MAX || iov_count > IOV_MAX) {
        return -EINVAL;
    }
    if (dsync) {
        const ssize_t put = posix_writev(file, iov, (int)iov_count, (off_t)offset, RWF_DSYNC);
        /* The flag or the call is unknown (EPERM: to a seccomp filter). A mistake of the arguments
         * shows again below, and nothing was written in any of these cases. */
        if (put != -EOPNOTSUPP && put != -EINVAL && put != -ENOSYS && put != -EPERM) {
            return put;
        }
    }
    const ssize_t put = posix_writev(file, iov, (int)iov_count, (off_t)offset, 0);
    if (!dsync || put < 0) {
        return put;
    }
    const int error = posix_sync(io, file);
    return error != 0 ? error : put;
}

/* ---- locks ---- */

/* Byte 0, by the open file description: not dropped when the process closes another descriptor of
 * the file, and not shared by two opens within one process. */
static struct flock posix_lock_range(void)
{
    struct flock range;
    memset(&range, 0, sizeof range);
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    range.l_start = 0;
    range.l_len = 1;
    return range;
}

/* cachestat(2), Linux 6.5; headers may be older than the kernel. */
#ifdef SYS_cachestat
#define POSIX_CACHESTAT SYS_cachestat
#else
#define POSIX_CACHESTAT 451
#endif

struct posix_cachestat_range {
    uint64_t offset;
    uint64_t bytes;
};

struct posix_cachestat {
    uint64_t cached; /* pages, each */
    uint64_t dirty;
    uint64_t writeback;
    uint64_t evicted;
    uint64_t recently_evicted;
};

static int posix_cached(struct weir__io *io, int file, uint64_t bytes)
{
    struct posix_cachestat_range range = {.offset = 0, .bytes = bytes};
    struct posix_cachestat stat = {0};
    (void)io;
    if (syscall(POSIX_CACHESTAT, file, &range, &stat, 0) != 0) {
        return -errno;
    }
    const uint64_t pages = bytes / (uint64_t)sysconf(_SC_PAGESIZE);
    return stat.dirty == 0 && stat.writeback == 0 && stat.cached >= pages - pages / 100;
}

static int posix_lock(struct weir__io *io, int file)
{
    (void)io;
    struct flock range = posix_lock_range();
    while (fcntl(file, F_OFD_SETLK, &range) != 0) {
        if (errno == EAGAIN || errno == EACCES) {
            return -EBUSY;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int posix_unlock(struct weir__io *io, int file)
{
    (void)io;
    struct flock range = posix_lock_range();
    range.l_type = F_UNLCK;
    return fcntl(file, F_OFD_SETLK, &range) == 0 ? 0 : -errno;
}

static int posix_lock_held(struct weir__io *io, int file, bool *held_out)
{
    (void)io;
    struct flock range = posix_lock_range();
    while (fcntl(file, F_OFD_GETLK, &range) != 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    *held_out = range.l_type != F_UNLCK;
    return 0;
}

/* ---- the table and its helpers ---- */

/* For the live page only: 4 KiB of positions, a hint for other processes. Log data are never
 * mapped. */
static int posix_map(struct weir__io *io, int file, size_t bytes, void **page_out)
{
    (void)io;
    void *const page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) {
        return -errno;
    }
    *page_out = page;
    return 0;
}

static void posix_unmap(struct weir__io *io, void *page, size_t bytes)
{
    (void)io;
    (void)munmap(page, bytes);
}

/* What both tables have in common: everything but the queue. */
#define POSIX_CALLS                                                                                \
    .open_dir = posix_open_dir, .sync_dir = posix_sync_dir, .list_dir = posix_list_dir,            \
    .facts = posix_facts, .open = posix_open, .close = posix_close, .info = posix_info,            \
    .rename = posix_rename, .unlink = posix_unlink, .truncate = posix_truncate,                    \
    .read = posix_read, .write = posix_write, .sync = posix_sync, .cached = posix_cached,          \
    .lock = posix_lock, .unlock = posix_unlock, .lock_held = posix_lock_held, .map = posix_map,    \
    .unmap = posix_unmap

struct weir__io *weir__io_system(void)
{
    static const struct weir__io_ops ops = {
        POSIX_CALLS,
        .queue_open = weir__uring_open,
        .queue_close = weir__uring_close,
        .queue_push = weir__uring_push,
        .queue_reap = weir__uring_reap,
        .queue_wake = weir__uring_wake,
        .queue_faults = weir__uring_faults,
    };
    /* Never written; not const because the seam hands out what other implementations do write. */
    static struct weir__io io = {.ops = &ops, .ctx = NULL};
    return &io;
}

struct weir__io *weir__io_system_pool(void)
{
    static const struct weir__io_ops ops = {
        POSIX_CALLS,
        .queue_open = weir__pool_open,
        .queue_close = weir__pool_close,
        .queue_push = weir__pool_push,
        .queue_reap = weir__pool_reap,
        .queue_wake = weir__pool_wake,
        .queue_faults = weir__pool_faults,
    };
    static struct weir__io io = {.ops = &ops, .ctx = NULL};
    return &io;
}
