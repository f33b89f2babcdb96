/* SPDX-License-Identifier: Apache-2.0
 * How many producers wait for durability at once, and what follows from it: pure arithmetic. No
 * atomics, no clock, no threads: whoever calls gives the figures and the times.
 *
 * The crowd is a maximum that decays: it rises at once with what was seen waiting before an
 * acknowledgement, and falls by a sixteenth after sixteen lower looks in a row.
 *
 * Collecting: before the open slot is sealed the flusher lets others run until as many wait in it
 * as the crowd has, for a bounded time. A score turns it off for a while where it does not pay. */
#ifndef WEIR_STAGE_CROWD_H
#define WEIR_STAGE_CROWD_H

#include <stdbool.h>
#include <stdint.h>

#define WEIR__CROWD_PATIENCE 16u       /* lower looks before it falls */
#define WEIR__COLLECT_QUIET_NS 25000u  /* nobody came for so long: stop */
#define WEIR__COLLECT_LIMIT_NS 40000u  /* stop in any case */
#define WEIR__COLLECT_TURNS_MAX 512u   /* the same, should the clock stand still */
#define WEIR__COLLECT_SCORE_MAX 16     /* and where it begins */
#define WEIR__COLLECT_PAUSE 256u       /* batches without it when the score is used up */
#define WEIR__YIELDS_MAX 30u           /* of one wait, before it sleeps, */
#define WEIR__YIELDS_FEW 3u            /* and while fewer wait than would fill the CPU with them */
#define WEIR__YIELD_ALONE_NS 1100u     /* shorter: nobody else wants this CPU */
#define WEIR__YIELD_HOG_NS 1000000u    /* longer: somebody took it for a whole slice, */
#define WEIR__YIELD_TURN_NS 4000u      /* or one of the crowd ran for so long each */
#define WEIR__YIELD_PAUSE_NS 16000000u /* after that no yields for so long, */
#define WEIR__YIELD_PAUSE_MAX_NS 1000000000u /* twice as long each time that it comes back */
#define WEIR__YIELD_PER_CORE 8u              /* waiting producers per core from which they yield, */
#define WEIR__YIELD_LONG_PER_CORE 12u        /* and yield up to WEIR__YIELDS_MAX times */
#define WEIR__YIELD_PER_CORE_LOW 6u          /* both for low latency */
#define WEIR__COLLECT_PER_CORE 16u           /* waited for at most */

struct weir__crowd {
    uint32_t size;
    uint32_t lower; /* looks in a row that were lower */
};

/* waiting: producers that wait just before an acknowledgement. Returns the crowd. */
uint32_t weir__crowd_look(struct weir__crowd *crowd, uint32_t waiting);

struct weir__collect {
    /* From batch to batch. */
    int score;
    uint32_t skip; /* batches to go without */
    /* Of the one going on. */
    uint32_t goal;
    uint32_t seen;
    uint32_t turns;
    uint64_t begin_ns;
    uint64_t grown_ns;
};

enum weir__collect_step {
    WEIR__COLLECT_ON,   /* yield, and look again */
    WEIR__COLLECT_MET,  /* as many as wanted are in: seal */
    WEIR__COLLECT_MISS, /* they did not come: seal */
};

void weir__collect_init(struct weir__collect *collect);
/* A batch is about to be sealed, `waiting` producers wait in it, and `goal` of them could. True:
 * collect, with weir__collect_step after each yield. */
bool weir__collect_begin(struct weir__collect *collect,
                         uint32_t waiting,
                         uint32_t goal,
                         uint64_t now_ns);
enum weir__collect_step
weir__collect_step(struct weir__collect *collect, uint32_t waiting, uint64_t now_ns);

enum weir__yield_verdict {
    WEIR__YIELD_ON,    /* somebody else ran: worth another */
    WEIR__YIELD_ALONE, /* nobody else to run: sleeping is free */
    WEIR__YIELD_HOG,   /* a stranger took the CPU for a slice: no yields for a while */
};

/* How often a wait yields at most before it sleeps, in a crowd of this size. from: 0, never. */
uint32_t weir__yields_allowed(uint32_t crowd, uint32_t from, uint32_t long_from);
/* What a yield that took so long says. crowd: they may all have had their turn meanwhile. */
enum weir__yield_verdict weir__yield_took(uint64_t ns, uint32_t crowd);
/* How long to go without yields after a hog: pause_ns is the last such pause (0: none yet), which
 * ended at end_ns. */
uint64_t weir__yield_pause(uint64_t pause_ns, uint64_t end_ns, uint64_t now_ns);

#endif
