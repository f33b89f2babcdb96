/* SPDX-License-Identifier: Apache-2.0
 * Whose turn it is to sync a file.
 *
 * The happy path: nobody else is there, the turn is taken by one CAS and left by another. Else an
 * executor counts itself among those who wait and sleeps on the word; the owner sets its bit, goes
 * on with other work, and is woken by who leaves.
 *
 * An executor passes over a free turn for which the owner waits if the last one was an executor's;
 * the owner does if executors wait and the last one was its own. So each side gets every second
 * turn at least. No lost wake-up: whoever waits has changed the word before, by a CAS, and whoever
 * leaves changes it, too, and looks at what it was. Nothing here can fail. */
#include "io/syncs.h"

#include "base/check.h"
#include "base/plant.h"
#include "port/clock.h"
#include "port/wait.h"

#include <stddef.h>

#define TURN_TAKEN 1u
#define TURN_OWNERS 2u /* the turn, or the last one, is the owner's */
#define TURN_WANTED 4u /* by the owner */
#define TURN_WAITER 8u /* times the executors that wait */

void weir__io_syncs_take(struct weir__io_syncs *syncs)
{
    uint32_t counted = 0;
    uint32_t turn = weir__load(&syncs->turn, relaxed); /* the CAS decides */

    if (WEIR__PLANTED(syncs_at_once)) {
        return;
    }
    /* Ends: each failed CAS is somebody's progress, and see the head of this file. */
    for (;;) {
        const bool owners = (turn & TURN_WANTED) != 0 && (turn & TURN_OWNERS) == 0;
        if ((turn & TURN_TAKEN) == 0 && !owners) {
            if (weir__cas(&syncs->turn,
                          &turn,
                          ((turn | TURN_TAKEN) & ~TURN_OWNERS) - counted,
                          acquire)) {
                return;
            }
        } else if (counted == 0) {
            /* Relaxed: it only tells that somebody is to be woken. */
            if (weir__cas(&syncs->turn, &turn, turn + TURN_WAITER, relaxed)) {
                counted = TURN_WAITER;
                turn += TURN_WAITER;
            }
        } else {
            (void)weir__futex_wait(&syncs->turn, turn, WEIR__NEVER);
            turn = weir__load(&syncs->turn, relaxed);
        }
    }
}

bool weir__io_syncs_take_owner(struct weir__io_syncs *syncs)
{
    uint32_t turn = weir__load(&syncs->turn, relaxed);

    if (WEIR__PLANTED(syncs_at_once)) {
        return true;
    }
    for (;;) {
        const bool others = turn >= TURN_WAITER && (turn & TURN_OWNERS) != 0;
        if ((turn & TURN_TAKEN) == 0 && !others) {
            if (weir__cas(&syncs->turn,
                          &turn,
                          (turn | TURN_TAKEN | TURN_OWNERS) & ~TURN_WANTED,
                          acquire)) {
                return true;
            }
        } else if ((turn & TURN_WANTED) != 0 ||
                   weir__cas(&syncs->turn, &turn, turn | TURN_WANTED, relaxed)) {
            return false;
        }
    }
}

void weir__io_syncs_give_up(struct weir__io_syncs *syncs)
{
    uint32_t turn = weir__load(&syncs->turn, relaxed);

    while ((turn & TURN_WANTED) != 0) {
        if (weir__cas(&syncs->turn, &turn, turn & ~TURN_WANTED, relaxed)) {
            (void)weir__futex_wake(&syncs->turn, INT32_MAX);
            return;
        }
    }
}

void weir__io_syncs_leave(struct weir__io_syncs *syncs, int code)
{
    int32_t none = 0;
    uint32_t turn = weir__load(&syncs->turn, relaxed);

    if (code != 0) {
        /* The loser is a later failure. */
        (void)weir__cas(&syncs->failed, &none, code, release);
    }
    if (!WEIR__PLANTED(syncs_at_once)) {
        weir__check((turn & TURN_TAKEN) != 0);
        /* Release: the failure, for who has the next turn. The loser finds somebody who waits. */
        while (!weir__cas(&syncs->turn, &turn, turn & ~TURN_TAKEN, release)) {
        }
        if (turn >= TURN_WAITER) {
            /* All: which of them may have it, they find out. */
            (void)weir__futex_wake(&syncs->turn, INT32_MAX);
        }
    }
    if (syncs->wake != NULL && (code != 0 || (turn & TURN_WANTED) != 0)) {
        syncs->wake(syncs->ctx);
    }
}

int weir__io_syncs_failed(struct weir__io_syncs *syncs)
{
    return weir__load(&syncs->failed, acquire);
}
