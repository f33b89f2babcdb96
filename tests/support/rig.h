/* SPDX-License-Identifier: Apache-2.0
 * A log in a directory of its own behind a fault_io, with small segments and slots, and everything
 * that it tells written down.
 *
 *     struct rig rig;
 *     rig_make(&rig, &ways[i]);
 *     rig.options.slots = 2;            // what is to be different
 *     assert_int_equal(rig_open(&rig), 0);
 *     ...
 *     assert_int_equal(rig_close(&rig), 0);
 *     rig_destroy(&rig);                // closes if need be, removes the directory */
#ifndef WEIR_TESTS_SUPPORT_RIG_H
#define WEIR_TESTS_SUPPORT_RIG_H

#include "support/fault_io.h"
#include "support/temp_dir.h"
#include "support/witness.h"

#define RIG_BLOCK 4096u
#define RIG_SEGMENT ((uint64_t)256 * 1024)

/* One of the ways to durability, on one of the two queues. */
struct rig_way {
    const char *name;
    enum weir_io io;
    enum fault_queue_kind queue;
    int fua; /* AUTO writes several batches by it: 1 durable writes, 0 a covering sync */
};

extern const struct rig_way rig_ways[];
extern const unsigned rig_way_count;

struct rig {
    const struct rig_way *way;
    char path[TEMP_DIR_BYTES];
    struct fault_io fault;
    struct events events;
    struct ledger ledger; /* of acknowledged records */
    struct weir_options options;
    struct weir_log *log; /* NULL: not open */
    struct weir_error error;
};

/* False: this machine has no io_uring, and the way needs it. To be asked before rig_make. */
bool rig_way_usable(const struct rig_way *way);
void rig_make(struct rig *rig, const struct rig_way *way);
int rig_open(struct rig *rig);
/* By weir_open, past the fault_io, as a user does it. */
int rig_open_plain(struct rig *rig);
/* error says why, if it is not 0. */
int rig_close(struct rig *rig);
void rig_destroy(struct rig *rig);

/* Appends a record with the payload of its tag and waits; an acknowledged one is put into the
 * ledger. lsn_out may be NULL. */
int rig_append(struct rig *rig, uint64_t tag, size_t bytes, weir_lsn *lsn_out);
/* True if the record stands in what a power cut would leave: its tag and its payload. */
bool rig_record_durable(struct rig *rig, weir_lsn lsn, uint64_t tag, size_t bytes);

#endif
