/* SPDX-License-Identifier: Apache-2.0
 * Image, loop device, mount, shutdown.
 *
 * The cut is EXT4_IOC_SHUTDOWN without a flush of the journal (XFS knows the same number): the
 * file system fails every operation from then on and forgets what its journal and the page cache
 * had not written. The loop device is taken down after each cut, since its page cache could else
 * bring back metadata that was never written. */
#include "disk.h"

#include "clock.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FS_IOC_SHUTDOWN_                                                                           \
    _IOR('X', 125, uint32_t) /* 0x8004587d: EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN */

enum {
    SHUTDOWN_NO_LOG_FLUSH = 2,
    LOOP_TRIES = 64,
    GONE_S = 60,
};

__attribute__((format(printf, 3, 4))) static int
refuse(struct disk *disk, int code, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    const int length = vsnprintf(disk->why, sizeof(disk->why), format, list);
    va_end(list);
    if (length >= 0 && (size_t)length < sizeof(disk->why)) {
        snprintf(disk->why + length, sizeof(disk->why) - (size_t)length, ": %s", strerror(-code));
    }
    return code;
}

static int image_make(struct disk *disk, uint64_t wanted)
{
    const bool xfs = strcmp(disk->fs, "xfs") == 0;
    const off_t bytes = wanted != 0 ? (off_t)wanted : (off_t)(xfs ? 512 : 256) << 20;
    const int fd = open(disk->image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0) {
        return refuse(disk, -errno, "%s", disk->image);
    }
    const int rc = ftruncate(fd, bytes) == 0 ? 0 : -errno;
    close(fd);
    if (rc != 0) {
        return refuse(disk, rc, "%s", disk->image);
    }
    char program[] = "mkfs.ext4";
    char program_xfs[] = "mkfs.xfs";
    char *ext4_argv[] =
        {program, (char[]){"-q"}, (char[]){"-F"}, (char[]){"-m"}, (char[]){"0"}, disk->image, NULL};
    char *xfs_argv[] = {program_xfs, (char[]){"-q"}, (char[]){"-f"}, disk->image, NULL};
    const int status = spawn_run(xfs ? xfs_argv : ext4_argv, false);
    if (status == 127) {
        return refuse(disk, -ENOENT, "mkfs.%s is not installed", disk->fs);
    }
    return status == 0 ? 0 : refuse(disk, -EIO, "mkfs.%s ended with status %d", disk->fs, status);
}

int disk_make(struct disk *disk, const char *dir, const char *fs, uint64_t bytes)
{
    *disk = (struct disk){.fs = fs, .bytes = bytes};
    snprintf(disk->image, sizeof(disk->image), "%s/image", dir);
    snprintf(disk->mount_point, sizeof(disk->mount_point), "%s/mnt", dir);
    if (geteuid() != 0) {
        return refuse(disk, -EPERM, "mounting needs root");
    }
    if (unshare(CLONE_NEWNS) != 0) {
        return refuse(disk, -errno, "a mount namespace of our own");
    }
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return refuse(disk, -errno, "making mounts private");
    }
    if (mkdir(disk->mount_point, 0700) != 0) {
        return refuse(disk, -errno, "%s", disk->mount_point);
    }
    return strcmp(fs, "tmpfs") == 0 ? 0 : image_make(disk, bytes);
}

/* ---- the loop device ------------------------------------------------------------------------- */

/* Return: descriptor of an attached loop device that goes away with its last user, or a negative
 * errno with why. */
static int loop_attach(struct disk *disk)
{
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (control < 0) {
        return refuse(disk, -errno, "/dev/loop-control");
    }
    const int image = open(disk->image, O_RDWR | O_CLOEXEC);
    int result = image < 0 ? refuse(disk, -errno, "%s", disk->image) : -EBUSY;
    /* Others take free devices, too: then the next one. */
    for (int i = 0; i < LOOP_TRIES && result == -EBUSY; i++) {
        const int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0) {
            result = refuse(disk, -errno, "no free loop device");
            break;
        }
        snprintf(disk->device, sizeof(disk->device), "/dev/loop%d", number);
        const int fd = open(disk->device, O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            result = refuse(disk, -errno, "%s", disk->device);
            break;
        }
        struct loop_config config = {
            .fd = (uint32_t)image,
            .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | (disk->cached ? 0 : LO_FLAGS_DIRECT_IO)}};
        const bool configured = ioctl(fd, LOOP_CONFIGURE, &config) == 0;
        int code = configured ? 0 : errno;
        disk->direct = configured && !disk->cached;
        if (code == EINVAL) {
            config.info.lo_flags = LO_FLAGS_AUTOCLEAR; /* no direct I/O for this image */
            code = ioctl(fd, LOOP_CONFIGURE, &config) == 0 ? 0 : errno;
        }
        result = code == 0 ? fd : -code;
        if (code != 0) {
            close(fd);
        }
        if (code != 0 && code != EBUSY) {
            refuse(disk, -code, "%s", disk->device);
        }
    }
    if (image >= 0) {
        close(image);
    }
    close(control);
    return result == -EBUSY ? refuse(disk, -EBUSY, "no free loop device") : result;
}

/* Waits until the device has no image any more. */
static int loop_gone(struct disk *disk)
{
    const uint64_t begin_ns = clock_now_ns();

    while (clock_now_ns() - begin_ns < GONE_S * CLOCK_NS_PER_S) {
        struct loop_info64 info;
        const int fd = open(disk->device, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return 0;
        }
        struct stat image;
        const bool ours = ioctl(fd, LOOP_GET_STATUS64, &info) == 0 &&
                          stat(disk->image, &image) == 0 && info.lo_inode == image.st_ino &&
                          info.lo_device == image.st_dev;
        close(fd);
        if (!ours) {
            return 0;
        }
        clock_sleep_ns(CLOCK_NS_PER_MS);
    }
    return refuse(disk, -ETIMEDOUT, "%s stays attached", disk->device);
}

/* ---- mounting -------------------------------------------------------------------------------- */

static int tmpfs_mount(struct disk *disk)
{
    char size[48];

    snprintf(size, sizeof(size), "mode=0700,size=%" PRIu64, disk->bytes);
    if (mount("none", disk->mount_point, "tmpfs", MS_NOATIME, size) != 0) {
        return refuse(disk, -errno, "mounting a tmpfs");
    }
    snprintf(disk->device, sizeof(disk->device), "memory");
    disk->mounted = true;
    return 0;
}

int disk_mount(struct disk *disk)
{
    if (strcmp(disk->fs, "tmpfs") == 0) {
        return tmpfs_mount(disk);
    }
    const int fd = loop_attach(disk);

    if (fd < 0) {
        return fd;
    }
    const int rc =
        mount(disk->device, disk->mount_point, disk->fs, MS_NOATIME, NULL) == 0 ? 0 : -errno;
    close(fd);
    if (rc != 0) {
        return refuse(disk, rc, "mounting %s as %s", disk->device, disk->fs);
    }
    disk->mounted = true;
    return 0;
}

int disk_cut(struct disk *disk)
{
    uint32_t flags = SHUTDOWN_NO_LOG_FLUSH;
    const int fd = open(disk->mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        return refuse(disk, -errno, "%s", disk->mount_point);
    }
    const int rc = ioctl(fd, FS_IOC_SHUTDOWN_, &flags) == 0 ? 0 : -errno;
    close(fd);
    return rc == 0 ? 0 : refuse(disk, rc, "shutting %s down", disk->fs);
}

int disk_unmount(struct disk *disk)
{
    const uint64_t begin_ns = clock_now_ns();

    if (!disk->mounted) {
        return 0;
    }
    /* A killed process's ring still holds files for a while. */
    while (umount2(disk->mount_point, 0) != 0) {
        if (errno != EBUSY || clock_now_ns() - begin_ns > GONE_S * CLOCK_NS_PER_S) {
            return refuse(disk, -errno, "unmounting %s", disk->mount_point);
        }
        clock_sleep_ns(CLOCK_NS_PER_MS);
    }
    disk->mounted = false;
    return strcmp(disk->fs, "tmpfs") == 0 ? 0 : loop_gone(disk);
}

void disk_remove(struct disk *disk, bool keep)
{
    if (disk_unmount(disk) != 0) {
        umount2(disk->mount_point, MNT_DETACH);
    }
    rmdir(disk->mount_point);
    if (!keep) {
        unlink(disk->image);
    }
}
