/* SPDX-License-Identifier: Apache-2.0
 * What must stand in the log, and the check that it does.
 *
 * A record must be there from its first acknowledgement on, or from the first check that saw it,
 * until it is trimmed. A check reads the whole log and demands:
 *   the verdict is clean, stale or torn; the oldest LSN lies between what was trimmed for
 *     certain and what was asked for
 *   every record that must be there is, at its LSN, with its identity
 *   every record's bytes and tag are the script's, and it was submitted
 *   lives follow one another, and each producer's records, without a gap or a repetition
 *   groups are whole and adjacent
 * One thread. */
#ifndef WEIR_STRESS_LEDGER_H
#define WEIR_STRESS_LEDGER_H

#include "script.h"
#include "spawn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/weir.h>

struct ledger_need {
    weir_lsn lsn;
    struct record_id id;
};

struct ledger_life {
    uint64_t *submitted; /* per producer; NULL: not told, nothing of it may be there */
    uint64_t *next;      /* per producer: the seq that must come next, during a check */
    bool met;            /* a record of it was seen in this check */
};

struct ledger_counts {
    uint64_t acknowledged;
    uint64_t shown; /* by a reader beside the writer */
    uint64_t checks;
    uint64_t records_read;
    uint64_t lost;    /* had to be there and is not, or another stands there */
    uint64_t phantom; /* never submitted */
    uint64_t altered; /* other bytes or another tag */
    uint64_t twice;
    uint64_t disorder; /* a gap, or lives mixed */
    uint64_t split;    /* groups not whole or not adjacent */
    uint64_t verdicts; /* corrupt, unreadable, or not to be read at all */
    uint64_t trims;    /* the oldest LSN is not where it may be */
    uint64_t torn;     /* checks that found a torn tail: no fault */
    uint64_t log_bytes_max;
};

struct ledger {
    const struct script *script;
    struct ledger_need *needs;
    size_t need_count;
    size_t need_room;
    struct ledger_life *lives;
    size_t life_count;
    weir_lsn trim_asked;
    weir_lsn trim_done;
    weir_lsn acknowledged_max;
    bool made; /* the log was opened, or found, once: from then on it must be there */
    uint8_t *scratch;
    unsigned said; /* faults printed since the last check began */
    struct ledger_counts counts;
};

/* Return: false if there is no memory. */
bool ledger_open(struct ledger *ledger, const struct script *script);
void ledger_close(struct ledger *ledger);

/* A record was acknowledged (or shown as durable). */
void ledger_acknowledge(struct ledger *ledger, weir_lsn lsn, struct record_id id);

/* Takes all whole acknowledgements out of a child's buffer. Return: how many. */
uint64_t ledger_hear(struct ledger *ledger, struct spawn *spawn);

/* How many records of each producer a life has submitted at most. */
void ledger_submitted(struct ledger *ledger, uint32_t life, const uint64_t *submitted);

/* What the page of a dead child tells: submissions and trims. */
void ledger_page(struct ledger *ledger, uint32_t life, struct wire_page *page);

/* Begins anew, with an empty log; the counts stay. Return: false if there is no memory. */
bool ledger_restart(struct ledger *ledger);

/* Forgets what was trimmed for certain. */
void ledger_forget(struct ledger *ledger, weir_lsn trimmed);

/* Reads and checks the log; faults are counted, and the first ten printed. Return: true if there
 * were none. */
bool ledger_check(struct ledger *ledger, const char *dir, struct weir_report *report_out);

uint64_t ledger_faults(const struct ledger *ledger);

/* Counts and prints a fault that somebody else saw. */
void ledger_fault(struct ledger *ledger, uint64_t *count, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The last part of the table at the end of a run. */
void ledger_print(const struct ledger *ledger);

#endif
