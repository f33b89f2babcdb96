/* SPDX-License-Identifier: Apache-2.0
 * Between the parent and a child that is going to be killed.
 *
 * A pipe carries acknowledgements, each written only after the log gave it; a write of whole
 * acknowledgements up to PIPE_BUF bytes is atomic, so none arrives in part. A page of shared
 * memory, which outlives the child, carries how far it had come: what it was about to submit,
 * what it was about to trim. */
#ifndef WEIR_STRESS_WIRE_H
#define WEIR_STRESS_WIRE_H

#include "script.h"

#include <stdatomic.h>
#include <stdint.h>

enum {
    WIRE_FD_ACKS = 3, /* the child's descriptors */
    WIRE_FD_PAGE = 4,
    WIRE_FD_GO = 5, /* one byte, or end of file: begin */

    WIRE_EVENTS = 8,
    WIRE_ACKS_AT_ONCE = 4096 / 24,

    /* Exit statuses of a child. */
    WIRE_EXIT_DONE = 0,
    WIRE_EXIT_BROKEN = 1, /* something that must not be; message in the page */
    WIRE_EXIT_FAILED =
        3, /* the log failed or could not be opened; as it must after a power cut, and only then */
};

struct wire_ack {
    uint64_t lsn;
    uint64_t tag;   /* script_tag of the record */
    uint64_t check; /* of the other two */
};
_Static_assert(sizeof(struct wire_ack) == 24, "whole acknowledgements fill a pipe's atomic write");

enum wire_phase {
    WIRE_WAITING = 0,
    WIRE_OPENING,
    WIRE_APPENDING,
    WIRE_CLOSING,
    WIRE_CLOSED,
};

/* All fields: written by the child with release, read by the parent with acquire, so that a
 * counter is never seen ahead of what it announces. The child's death loses none of them. */
struct wire_page {
    _Atomic uint32_t phase;
    _Atomic uint32_t verdict; /* enum weir_verdict of the opening */
    _Atomic uint64_t open_ns; /* how long weir_open took */
    _Atomic uint64_t end_lsn; /* as the opening found it */
    _Atomic uint64_t oldest_lsn;
    _Atomic uint64_t bytes_cut;
    _Atomic uint64_t trim_asked; /* stored before the call */
    _Atomic uint64_t trim_done;  /* stored behind it */
    _Atomic uint64_t
        submitted[SCRIPT_PRODUCERS_MAX]; /* records of each producer, stored before the append */
    _Atomic uint64_t threads[SCRIPT_PRODUCERS_MAX]; /* their thread ids; 0: not begun, or ended */
    /* Appends that were refused for want of space, descriptors, ..., and why the last one was. */
    _Atomic uint64_t refused;
    _Atomic uint64_t refused_code;        /* a positive errno */
    _Atomic uint64_t told_code;           /* what weir_log_error said then, negated */
    _Atomic uint64_t events[WIRE_EVENTS]; /* of each enum weir_event_kind */
    _Atomic uint64_t stall_lsn;           /* of the last one told */
    _Atomic uint64_t inflight_max;        /* operations under way at once */
    _Atomic uint64_t io_used;             /* enum weir_io */
    _Atomic uint64_t io_uring;            /* 1: there is a ring */
    /* A producer that stops inside an append (child_park.h): how many times it shall, how many
     * times it stands there, how many times it may go on. The parent writes asked and freed. */
    _Atomic uint64_t park_asked;
    _Atomic uint64_t parked;
    _Atomic uint64_t park_freed;
    _Atomic uint64_t park_over; /* how many appends came back from that, */
    _Atomic uint64_t park_lsn;  /* and the LSN of the last one */
    /* Written by the parent: how much shall be kept, 0: as the child has drawn; and to end. */
    _Atomic uint64_t retain_bytes;
    _Atomic uint64_t stop;
    _Atomic uint64_t lone;           /* written by the parent: all producers but the first rest */
    _Atomic uint64_t signals;        /* handled by threads of the child */
    _Atomic uint64_t signals_astray; /* handled by a thread of the log */
    char message[512]; /* set before the child exits with WIRE_EXIT_BROKEN or WIRE_EXIT_FAILED */
};

static inline void wire_set(_Atomic uint64_t *field, uint64_t value)
{
    atomic_store_explicit(field, value, memory_order_release);
}

static inline uint64_t wire_get(_Atomic uint64_t *field)
{
    return atomic_load_explicit(field, memory_order_acquire);
}

static inline enum wire_phase wire_phase(struct wire_page *page)
{
    return (enum wire_phase)atomic_load_explicit(&page->phase, memory_order_acquire);
}

#endif
