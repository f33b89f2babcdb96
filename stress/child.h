/* SPDX-License-Identifier: Apache-2.0
 * The appending child's own state, shared by its files: append_child.c appends, child_park.c stops
 * a producer inside an append, child_storm.c showers the process with signals, child_trace.c lets
 * the parent stop it at system calls, slow_io.c is a slow disk. */
#ifndef WEIR_STRESS_CHILD_H
#define WEIR_STRESS_CHILD_H

#include "script.h"
#include "wire.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/weir.h>

struct child {
    struct script script;
    uint64_t life;
    const char *dir;
    int io;
    int lie;
    bool only_durable; /* acknowledgements must survive a power cut */
    bool fixed;        /* the same small options in every life */
    bool storm;        /* signals */
    bool park;         /* producer 0 stops inside an append when asked */
    uint64_t slow_ns;  /* what a write or sync takes longer, at most; 0: no slow disk */
    uint64_t stall_warn_ns;
    uint64_t budget; /* groups per producer, then the log is closed; UINT64_MAX: until killed */
    uint64_t retain_bytes;
    struct wire_page *page;
    struct weir_log *log;
    pthread_mutex_t lock; /* guards broken */
    int broken;           /* exit status of the first failure */
};

/* Keeps the first failure for the parent. */
void child_fail(struct child *child, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- child_park.c: one thread stops between the reservation of a place and its commit.
 *
 * It appends from memory of which a page cannot be read. The checksum over the payload comes first
 * and reads all of it: at the last page the handler of SIGSEGV takes the first page away instead.
 * The copy into the reserved place begins there, and the thread is held in the handler. */

/* Makes room for one group of bytes_max bytes. Return: it, or NULL. One for the process. */
uint8_t *park_room(struct wire_page *page, size_t bytes_max);
/* Is a stop asked for, and are these bytes at the beginning of the room enough for one? */
bool park_due(struct wire_page *page, size_t bytes);
/* Sets the trap for the first bytes of the room, which are written. */
void park_set(size_t bytes);
/* Behind the append. Return: whether it stopped on the way. */
bool park_over(void);

/* ---- child_storm.c */

/* From now on: SIGALRM a thousand times a second for the process and for each thread that calls
 * storm_thread, and now and then for every thread there is, without SA_RESTART. Return: 0 or a
 * negative errno. */
int storm_begin(struct wire_page *page);
void storm_thread(void);
/* Around the start of threads, so that each can say first that it is not the log's. */
void storm_block(void);
void storm_unblock(void);
void storm_end(void);

/* ---- child_trace.c */

/* From now on every system call on files and rings is shown to the process that traces this one,
 * before it is made. Return: false if that cannot be. */
bool trace_ask(void);

/* ---- slow_io.c */

struct weir__io;
/* The system's I/O, of which each write and sync takes up to span_ns longer, and one in a thousand
 * a hundred times that. One for the process. */
struct weir__io *slow_io(uint64_t span_ns);

#endif
