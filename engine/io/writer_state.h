/* SPDX-License-Identifier: Apache-2.0
 * What a writer consists of, for its two halves: writer.c (what callers do) and writer_owner.c (the
 * thread that writes). Orders and partners: ORDERING.md section 4. */
#ifndef WEIR_IO_WRITER_STATE_H
#define WEIR_IO_WRITER_STATE_H

#include "base/atomic.h"
#include "base/compiler.h"
#include "io/device.h"
#include "io/file.h"
#include "io/writer.h"
#include "port/mem.h"
#include "port/thread.h"

#include <stdalign.h>

/* Where the next write may begin, at most. The rest up to 2^63 is room for those that are between
 * their look at the tail and their add: fewer than 2^22 threads (the kernel's limit), of up to 2^32
 * bytes each. */
#define WRITER_POSITION_MAX ((UINT64_C(1) << 63) - (UINT64_C(1) << 54))
#define WRITER_ADD_BYTES_MAX (UINT64_C(1) << 32)

/* Blocks of O_DIRECT, at most: what buffers are aligned to. A file system that wants more gets
 * buffered writes. */
#define WRITER_PAD_BYTES 4096u

/* Values of `sleep`. */
#define WRITER_AWAKE 0u
#define WRITER_ON_WORD 1u
#define WRITER_ON_RING 2u
#define WRITER_EAGER 4u /* besides: any commit wakes it */

struct writer_slot {
    /* Bumped when the buffer is given back, and when the writer fails. CAS rel: owner; load acq,
     * CAS for the waiter bit: producers. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint32_t) gen;
    /* Bytes committed. fetch_add sc: producers; store relaxed (published by `written`): owner. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) filled;

    /* The owner's. */
    alignas(WEIR__LINE) uint64_t done; /* bytes from the buffer's start that the file has */
    uint64_t to;                       /* what the write under way brings `done` to */
    bool busy;                         /* a write is under way */
    bool padded;                       /* it ends with padding, which is cut off afterwards */
    struct iovec iov[2];
    struct weir__transfer_op op;
    struct weir__transfer_run run;
};

struct weir_writer {
    /* Set before start, or by the owner before `ready`. */
    struct weir__mem mem;
    struct weir__io *seam;
    const char *path; /* the caller's, until `ready` */
    bool must_exist;
    struct weir_io_config config; /* as asked for, settled */
    struct weir__io_device device;
    struct weir__io_file file;
    struct weir__io_syncs syncs; /* file.syncs: of all who share its descriptor */
    struct writer_slot *slots;
    uint8_t *pad; /* one block: the last, padded one of a part. The owner's */
    uint64_t slot_count;
    uint64_t buffer_bytes;
    uint64_t base;  /* position of buffer 0's first byte */
    uint64_t start; /* where the file ended when it was opened */
    int start_code;
    pthread_t thread;
    /* The first error. Written by the owner before `failed`, or before `ready` where there is none
     * to come. */
    struct weir_error error;

    /* Where the next write goes. fetch_add, CAS rx: producers; load rx: anyone. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) tail;
    /* How the owner sleeps. RMWs only. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint32_t) sleep;
    /* Everything below is in the file. store rel: owner; load acq: anyone. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) written;
    WEIR__ATOMIC(uint64_t) sync_done; /* tickets. store rel: owner; load acq: sync */
    WEIR__ATOMIC(uint32_t) flush_gen; /* written has moved, or the writer has failed */
    WEIR__ATOMIC(uint32_t) sync_gen;  /* sync_done has moved, or the writer has failed */
    WEIR__ATOMIC(int32_t) failed;     /* the first error's code. store rel: owner; load acq */
    /* What callers want of the owner. Release, then a nudge; load acq: owner. */
    alignas(WEIR__LINE) WEIR__ATOMIC(uint64_t) flush_wanted; /* CAS max */
    WEIR__ATOMIC(uint64_t) sync_asked;                       /* tickets given out */
    WEIR__ATOMIC(uint32_t) stop;
    WEIR__ATOMIC(uint32_t) ready;   /* futex word, once: 1 */
    WEIR__ATOMIC(uint32_t) joining; /* futex word, once: 1. store rel: closer; load acq: owner */

    /* The owner's. */
    alignas(WEIR__LINE) uint64_t head; /* lowest buffer that is not wholly in the file */
    uint64_t flush_seen;
    uint64_t sync_seen;
    uint64_t sync_ticket;   /* highest that the sync to come, or under way, serves */
    uint64_t sync_position; /* what it waits for */
    bool sync_due;          /* one is to come */
    bool sync_busy;         /* one is under way */
    bool sync_turn;         /* it is ours to sync the file */
    bool sync_waits;        /* for that */
    bool pad_busy;          /* a padded write is under way: nothing else is begun */
    bool crowded;           /* the queue takes no more until something comes back */
    bool stopping;
    bool broken; /* set at the end: the kernel may still use what it was given, for good */
    struct weir__transfer_op sync_op;
    struct weir__transfer_run sync_run;
    struct weir__transfer_run **runs; /* slot_count + 1: what one look has found */
};

/* The owner's thread. */
void *weir__writer_owner(void *writer);

/* Wakes everybody who sleeps on a generation: the change comes first, then the bump. */
void weir__writer_bump(WEIR__ATOMIC(uint32_t) *gen);
/* Wakes the owner if it sleeps, after something was published to it by a release. */
void weir__writer_nudge(struct weir_writer *writer);

static inline uint64_t writer_number(const struct weir_writer *writer, uint64_t position)
{
    return (position - writer->base) / writer->buffer_bytes;
}

static inline struct writer_slot *writer_slot(struct weir_writer *writer, uint64_t number)
{
    return &writer->slots[number % writer->slot_count];
}

static inline uint8_t *writer_buffer(struct weir_writer *writer, uint64_t number)
{
    return weir__io_device_buffer(&writer->device, (uint32_t)(number % writer->slot_count));
}

#endif
