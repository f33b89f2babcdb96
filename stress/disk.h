/* SPDX-License-Identifier: Apache-2.0
 * A file system of our own in a file, and a power cut for it. One thread; needs CAP_SYS_ADMIN.
 *
 * The mount stands in a mount namespace that only this process and its children are in, and the
 * loop device goes away with its last user: however this process ends, the kernel takes both
 * down. */
#ifndef WEIR_STRESS_DISK_H
#define WEIR_STRESS_DISK_H

#include <stdbool.h>
#include <stdint.h>

struct disk {
    char image[4200];
    char mount_point[4200];
    const char *fs; /* "ext4", "xfs", or "tmpfs", which is in no file and is never cut */
    uint64_t bytes;
    bool cached; /* in: the loop device goes through the page cache, though direct I/O may do */
    bool mounted;
    bool direct; /* the loop device reads and writes the image with direct I/O */
    char device[32];
    char why[512]; /* of the last refusal */
};

/* Makes the image of so many bytes (0: a usual size) and the file system below dir. Return: 0, or a negative errno with why: not
 * possible here. */
int disk_make(struct disk *disk, const char *dir, const char *fs, uint64_t bytes);
/* Attaches a fresh loop device and mounts it. Return: as disk_make. */
int disk_mount(struct disk *disk);
/* From now on nothing reaches the device any more, the journal neither: what was not made
 * durable is lost. Return: 0 or a negative errno with why. */
int disk_cut(struct disk *disk);
/* Unmounts and waits until the loop device is gone, so that nothing of it is in any cache.
 * Return: 0 or a negative errno with why. */
int disk_unmount(struct disk *disk);
/* Unmounts if need be and removes the image unless it is kept. */
void disk_remove(struct disk *disk, bool keep);

#endif
