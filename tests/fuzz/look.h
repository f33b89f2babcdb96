/* SPDX-License-Identifier: Apache-2.0
 * A directory of arbitrary bytes, looked at in every way that there is, and what has to hold of the
 * answers whatever the bytes are. A violation is an abort. */
#ifndef WEIR_TESTS_FUZZ_LOOK_H
#define WEIR_TESTS_FUZZ_LOOK_H

#include "stress/memory_dir.h"

enum look_flags {
    LOOK_APPEND = 1,  /* also as a writer: opened, appended to, closed, opened again */
    LOOK_QUEUE = 2,   /* the writer by a queue, not by calls */
    LOOK_SALVAGE = 4, /* also by salvage, into the directory "out" */
};

/* The directory is "log". A file cannot grow beyond LOOK_FILE_BYTES_MAX. */
#define LOOK_FILE_BYTES_MAX ((uint64_t)1 << 20)
void look_at(struct memory_dir *memory, unsigned flags);

#endif
