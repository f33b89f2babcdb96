/* SPDX-License-Identifier: Apache-2.0
 * What every program of the comparison shares: command line, threads, clock, histogram, the line
 * of JSON. A peer fills struct peer and calls peer_main. Nothing of weir is linked; clock.h,
 * histogram.* and json.* are those of the weir command, so that both sides are measured in the
 * same way. */
#ifndef WEIR_COMPARE_PEER_H
#define WEIR_COMPARE_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer_run {
    const char *dir; /* empty, made for this run, removed behind it */
    size_t producers;
    size_t size;         /* bytes of a record */
    double seconds;      /* of the window */
    double warm_up;      /* seconds before it */
    const char *variant; /* one of the peer's */
    uint64_t
        bytes_likely; /* what the run will probably write; for those that write their files ahead */
};

struct peer {
    const char *name;
    const char *const
        *variants;     /* ends with NULL; the first is the default and the best that was found */
    const char *about; /* of the variants, for --help */
    bool text;         /* records must not hold zero bytes */
    const char *(*version)(void);
    void *(*open)(const struct peer_run *run);
    /* Of a producer, on its thread. thread_open may be NULL: append gets what open returned. */
    void *(*thread_open)(void *log, size_t index);
    void (*thread_close)(void *thread);
    /* The record is durable at return. */
    void (*append)(void *thread, const void *data, size_t bytes);
    void (*close)(void *log);
};

int peer_main(const struct peer *peer, int argc, char **argv);

/* Says what failed, with the text of an errno, and ends the process. */
_Noreturn void peer_die(const char *what, int code);
_Noreturn void peer_die_text(const char *what, const char *why);

/* Writes a file of zeros, whole, and syncs it. Return: its descriptor, opened with flags. */
int peer_prewritten(const char *dir, const char *name, int flags, uint64_t bytes);

#endif
