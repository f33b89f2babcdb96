/* SPDX-License-Identifier: Apache-2.0
 * The syncs of one open file, for all who share its descriptor: a writer, and the executors on it.
 *
 * The kernel tells that it could not write something back once per descriptor, to whoever syncs
 * first; the next sync succeeds, over the loss. So the syncs of a descriptor go one at a time, and
 * the first failure is everybody's: whoever has the turn looks at it before it begins a sync, and
 * tells how that ended before the next one has the turn.
 *
 * The turn goes to and fro between the owner of the writer, which never sleeps for it, and the
 * executors, which do: neither side has it twice while the other one waits. */
#ifndef WEIR_IO_SYNCS_H
#define WEIR_IO_SYNCS_H

#include "base/atomic.h"

#include <stdbool.h>
#include <stdint.h>

struct weir__io_syncs {
    /* Who has the turn and who waits for it, and the futex word of those who do; see syncs.c.
     * CAS acquire to take it, release to leave it. Wraps: no, waiters are counted up and down. */
    WEIR__ATOMIC(uint32_t) turn;
    /* The first failure, 0. CAS release: whoever has the turn, before it leaves; load acquire. */
    WEIR__ATOMIC(int32_t) failed;
    /* Set before start: tells the owner that its turn may have come, or that a sync has failed. Any
     * thread. NULL: there is no owner. */
    void (*wake)(void *ctx);
    void *ctx;
};

/* Waits for the turn. Not the owner. */
void weir__io_syncs_take(struct weir__io_syncs *syncs);
/* Takes the turn if it is to be had; else it is the owner's soon, and wake is called then. */
bool weir__io_syncs_take_owner(struct weir__io_syncs *syncs);
/* The owner does not wait for the turn any more. It has not got it. */
void weir__io_syncs_give_up(struct weir__io_syncs *syncs);
/* Gives the turn back, with what became of the syncs: 0, or the error of one that failed, or whose
 * end cannot be learnt. */
void weir__io_syncs_leave(struct weir__io_syncs *syncs, int code);
/* The first failure, 0. Exact for who has the turn. */
int weir__io_syncs_failed(struct weir__io_syncs *syncs);

#endif
