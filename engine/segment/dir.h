/* SPDX-License-Identifier: Apache-2.0
 * A log's directory: opening it, the lock that says who may write, the live page. FORMAT.md
 * sections 1 and 7. */
#ifndef WEIR_SEGMENT_DIR_H
#define WEIR_SEGMENT_DIR_H

#include "base/err.h"
#include "format/control.h"
#include "port/io.h"
#include "port/mem.h"

#include <stdbool.h>
#include <stdint.h>

#define WEIR__LOCK_NAME "weir.lock"
#define WEIR__CONTROL_NAME "weir.control"
#define WEIR__LIVE_NAME "weir.live"
#define WEIR__PREPARE_NAME "weir.prepare"

struct weir__dir {
    struct weir__io *io;
    struct weir__mem *mem;
    int file;            /* the directory */
    int lock_file;       /* -1: not locked by us */
    bool writes_unknown; /* writes may still be under way: closing leaves the lock to the kernel */
    bool direct;         /* segments are opened with O_DIRECT */
    struct weir__fs_facts facts;
    int live_file; /* -1: none */
    /* The mapped page as 64-bit words, NULL: none. Each word is stored to by one thread at a
     * time (relaxed; the epoch, which makes the page valid, with release); nobody in this
     * process reads them. */
    WEIR__ATOMIC(uint64_t) *live;
};

/* Opens the directory and learns its facts. want_direct is granted only where the probe took it.
 * 0 or a code, with fault. Nothing is created but the directory itself (create). */
int weir__dir_open(struct weir__dir *dir,
                   struct weir__io *io,
                   struct weir__mem *mem,
                   const char *path,
                   bool create,
                   bool want_direct,
                   struct weir__fault *fault);
/* The same for somebody who only looks: nothing whatever is written to the directory. */
int weir__dir_look(struct weir__dir *dir,
                   struct weir__io *io,
                   struct weir__mem *mem,
                   const char *path,
                   bool want_direct,
                   struct weir__fault *fault);
/* Closes what is open; unmaps the live page. Safe on a zeroed or half-open struct whose
 * descriptors are -1. */
void weir__dir_close(struct weir__dir *dir);

/* Takes the writer's lock: creates weir.lock if missing; retries with short sleeps until
 * timeout_ns (0 = one try) because a killed writer's ring holds it until its last write has
 * landed. -EBUSY with a fault that says so. */
int weir__dir_lock(struct weir__dir *dir, uint64_t timeout_ns, struct weir__fault *fault);
/* True if another open file description holds the writer's lock. */
bool weir__dir_writer_live(struct weir__dir *dir);

/* Makes an earlier writer's page not valid: right after the lock, before anything is found out
 * about the log, for it may name positions that were lost with the power. */
void weir__dir_live_forget(struct weir__dir *dir);
/* Creates and maps the live page, marks it valid for (log_id, epoch). A refusal is no error:
 * readers then learn the durable LSN from headers. */
void weir__dir_live_begin(struct weir__dir *dir, const struct weir__live *first);
/* Relaxed stores of the three positions (each a hint of its own; a reader needs no order between
 * them). */
void weir__dir_live_publish(struct weir__dir *dir, weir_lsn durable, weir_lsn written);
void weir__dir_live_publish_oldest(struct weir__dir *dir, weir_lsn oldest);
/* Marks it not valid (epoch 0): at close. */
void weir__dir_live_end(struct weir__dir *dir);
/* Reads the page of another process by pread. False: none, or not valid. */
bool weir__dir_live_read(struct weir__dir *dir, struct weir__live *live_out);

#endif
