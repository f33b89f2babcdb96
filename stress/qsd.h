/* SPDX-License-Identifier: Apache-2.0
 * A block device that writes down what is done to it: an image behind qemu-storage-daemon's
 * blklogwrites, shown as a file by FUSE. Needs root and that program. One thread. */
#ifndef WEIR_STRESS_QSD_H
#define WEIR_STRESS_QSD_H

#include <sys/types.h>

struct qsd {
    pid_t pid; /* 0: does not run */
    char shown[4200];
    char why[512];
};

/* Shows the image `base` as the file `shown`, which is made, and appends to the file `log`, which
 * is made. Return: 0, or a negative errno with why: not possible here. */
int qsd_start(struct qsd *qsd, const char *base, const char *log, const char *shown);
/* Ends it; everything that it was told is in the log then. Return: 0 or a negative errno. */
int qsd_stop(struct qsd *qsd);

#endif
