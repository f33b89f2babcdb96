/* SPDX-License-Identifier: Apache-2.0
 * Copying a log into a new one, record by record at their LSNs: salvage and backup. The source is
 * only read.
 *
 * The new log has an id of its own and one epoch, the source's segment boundaries, and says where
 * it came from. Its control file is made last, when everything else is durable: what a crash leaves
 * behind is no log. What a failure leaves behind is removed. */
#ifndef WEIR_RECOVER_REWRITE_H
#define WEIR_RECOVER_REWRITE_H

#include "recover/scan.h"

struct weir__rewrite_config {
    struct weir__dir *from;
    const char *to_path;
    bool salvage;   /* take what verifies, frame by frame, and list the gaps; else any damage is
                       WEIR_ECORRUPT */
    weir_lsn limit; /* batches that end above it are left out; UINT64_MAX = all that verify. Not for
                       salvage */
    weir_lsn durable; /* a promise that the caller knows of (a live writer's); 0: none. Not for
                         salvage */
    void (*gap)(void *ctx, const struct weir_gap *gap);
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

/* Return 0 | WEIR_ENOLOG there is nothing to copy | WEIR_EEXISTS the target holds a log, or part of
 * one | WEIR_ECORRUPT, WEIR_EUNREADABLE the source does not verify (copy) | WEIR_EPASSED the source
 * was trimmed meanwhile: begin again (copy) | WEIR_EFORMAT | -EBUSY somebody writes to the target |
 * -EINVAL limit below the oldest record | -ENOMEM | an errno. *report_out is written only on 0. */
int weir__rewrite(const struct weir__rewrite_config *config,
                  struct weir_copy_report *report_out,
                  struct weir__fault *fault);

#endif
