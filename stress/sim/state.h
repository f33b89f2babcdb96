/* SPDX-License-Identifier: Apache-2.0
 * What the parts of a history share: the ledger of records (ledger.c), those who append and read
 * (actors.c), and the lives that are made of them (history.c). */
#ifndef WEIR_SIM_STATE_H
#define WEIR_SIM_STATE_H

#include "disk.h"
#include "history.h"

#include <weir/weir.h>

#define RECORDS_MAX 4096u
#define PAYLOAD_MAX 9000u
#define PAYLOADS_BYTES ((size_t)8 << 20)
#define GROUP_MAX 24u
#define PRODUCERS_MAX 4u
#define READERS_MAX 2u

enum ack { ACK_NONE = 0, ACK_WRITTEN, ACK_DURABLE };

struct record {
    weir_lsn lsn; /* WEIR_LSN_NONE: nobody has told it yet */
    uint32_t producer;
    uint32_t group; /* index of its group's first record */
    uint32_t group_count;
    uint32_t bytes;
    const uint8_t *payload;
    enum ack ack;
    bool gone; /* was cut, or refused: must not come back */
    bool seen; /* by the check under way */
};

/* How large a history's records are. Records of one size fill the same places in each epoch: bytes
 * of a cut one then fit where a new one is due. */
enum sizes { SIZES_MIXED = 0, SIZES_SECTOR, SIZES_SAME, SIZES_COUNT, SIZES_LARGE, SIZES_EXACT };

struct history {
    const struct history_options *options;
    struct history_counts *counts;
    char *why;
    size_t why_bytes;
    bool failed;

    struct record records[RECORDS_MAX];
    unsigned record_count;
    size_t payload_bytes; /* of the payloads' memory, in use */
    weir_lsn trim_asked;  /* a trim up to here was asked for: below it nothing has to be there */
    weir_lsn trim_sure;   /* told to be durable: below it nothing may be there */

    struct weir_options log_options;
    struct weir_memory_hooks hooks;
    struct sim_disk_config disk;
    enum sizes sizes;
    uint32_t size_same;
    uint32_t group_same; /* and its groups' */
    unsigned trim_per_mille;
    unsigned group_per_mille;
    unsigned at_once_per_mille; /* of single records, appended and waited for in one call */
    unsigned power_per_mille;   /* lives that end with the power, not with the process alone */
    unsigned buffered_per_mille;
    unsigned copy_per_mille; /* a copy of the control file is lost behind a life */
    bool calm;    /* a device without faults, fibers that change at calls alone: what is rare in the
                   protocol itself is met more often */
    bool storm;   /* much traffic on a slow device: several writes under way */
    bool damaged; /* rot and such: the log may be refused, and what it promised be gone */

    unsigned crashed_openings; /* in a row, up to now */

    /* The life under way. */
    struct weir_log *log;
    unsigned left;        /* fibers that the life waits for */
    unsigned producers;   /* of this life */
    unsigned appends;     /* each producer's */
    unsigned patience;    /* per mille of the appends that are waited for */
    uint32_t points_mean; /* of atomic accesses, between two at which the fibers may change */
    unsigned readers;
    unsigned working; /* producers and others that have to end before the log is closed */
    unsigned reading;
    bool pinned;    /* a reader holds trims back */
    bool opened;    /* the opening has returned 0 */
    bool misread;   /* and could not read something meanwhile */
    bool closing;   /* the handle may be gone at any moment */
    bool shut_down; /* somebody has called for it */
    int open_code;
    int close_code;
    struct weir_error error;
    struct weir_report report;
};

extern struct history history;

/* Counts a fault, and keeps the first one's words. */
void wrong(uint64_t *count, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* With --print. */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- ledger.c -------------------------------------------------------------------------------- */

void ledger_reset(void);
/* Writes a group down before it is appended: from here on it may be found. False: no room. */
bool ledger_prepare(uint32_t producer, unsigned count, unsigned *first_out);
/* What the append of a group returned. */
void ledger_appended(unsigned first, int code, const weir_lsn *lsns);
/* A group has reached a level, so the log has said. */
void ledger_acknowledge(unsigned first, enum ack ack);
/* All that this producer has appended (UINT32_MAX: that anybody has). */
void ledger_acknowledge_all(uint32_t producer, enum ack ack);
/* Written was enough for a kill, and is nothing after a power cut. */
void ledger_power_lost(void);

/* Looks at records in the order in which a cursor gives them out. */
struct walk {
    bool any;
    bool more;           /* the last one's group goes on, */
    uint64_t group_next; /* with this tag */
    weir_lsn before;
};

/* The next record of a walk: one that was appended, at its place, whole, behind those before it,
 * with its group. NULL: it is not, which was counted. */
struct record *walk_record(struct walk *walk, const struct weir_entry *entry);
/* Reads the whole log after an opening, and settles what became of each record. */
void ledger_check(void);

/* ---- actors.c -------------------------------------------------------------------------------- */

void producer_main(void *number);
void reader_main(void *number);
/* Takes the disk's space away and gives it back. */
void filler_main(void *nothing);
/* Shuts the log down at some moment. */
void closer_main(void *nothing);

#endif
