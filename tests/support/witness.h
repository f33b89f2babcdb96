/* SPDX-License-Identifier: Apache-2.0
 * What a log told and took: its events, and the records that it must hold.
 *
 * A record's payload follows from its tag and its length, so that whatever a cursor gives out can
 * be checked by itself; the ledger holds what was appended. Both take entries from any thread. */
#ifndef WEIR_TESTS_SUPPORT_WITNESS_H
#define WEIR_TESTS_SUPPORT_WITNESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/weir.h>

/* ---- events ---- */

#define EVENTS_MAX 256u

struct event_seen {
    enum weir_event_kind kind;
    int code;
    weir_lsn lsn;
    uint64_t value;
    char text[256];
};

struct events {
    pthread_mutex_t mutex;
    unsigned count;                     /* guarded by mutex */
    struct event_seen list[EVENTS_MAX]; /* guarded by mutex */
};

void events_init(struct events *events);
void events_exit(struct events *events);
/* For weir_options.on_event, with the struct as event_ctx. */
void events_on(void *events, const struct weir_event *event);
unsigned events_count(struct events *events, enum weir_event_kind kind);
/* The last of a kind. False: there was none. */
bool events_last(struct events *events, enum weir_event_kind kind, struct event_seen *event_out);
/* Sleeps until there were `count` of a kind. False: it did not come to that. */
bool events_wait(struct events *events, enum weir_event_kind kind, unsigned count);

/* ---- records ---- */

void payload_fill(uint64_t tag, void *out, size_t bytes);
bool payload_holds(uint64_t tag, const void *data, size_t bytes);

struct ledger_entry {
    weir_lsn lsn;
    uint64_t tag;
    size_t bytes;
};

struct ledger {
    pthread_mutex_t mutex;
    struct ledger_entry *entries; /* guarded by mutex */
    size_t count;                 /* guarded by mutex */
    size_t room;                  /* guarded by mutex */
};

void ledger_init(struct ledger *ledger);
void ledger_exit(struct ledger *ledger);
void ledger_add(struct ledger *ledger, weir_lsn lsn, uint64_t tag, size_t bytes);
/* Reads the log from its oldest record to what has reached the level now. Every record must be as
 * its tag says and stand above the one before; every entry of the ledger from the oldest LSN up to
 * `below` must be there at its LSN; with `exact` nothing else. True, or false with a sentence in
 * why. */
bool ledger_check(struct ledger *ledger,
                  struct weir_log *log,
                  enum weir_level level,
                  weir_lsn below,
                  bool exact,
                  char why[256]);
/* As ledger_check of everything durable; opens the log with options, io_uring off, and closes it
 * again. */
bool ledger_check_dir(struct ledger *ledger,
                      const char *dir,
                      const struct weir_options *options,
                      bool exact,
                      char why[256]);

#endif
