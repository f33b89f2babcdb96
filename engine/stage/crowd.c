/* SPDX-License-Identifier: Apache-2.0
 * The crowd, collecting, and what a yield says. The figures are measured: PERFORMANCE.md. Nothing
 * here can fail; the flusher calls it, or the producer that has its part. */
#include "stage/crowd.h"

#include <string.h>

uint32_t weir__crowd_look(struct weir__crowd *crowd, uint32_t waiting)
{
    if (waiting >= crowd->size) {
        crowd->size = waiting;
        crowd->lower = 0;
        return crowd->size;
    }
    if (++crowd->lower == WEIR__CROWD_PATIENCE) {
        crowd->lower = 0;
        crowd->size -= (crowd->size + 15) / 16;
    }
    return crowd->size;
}

void weir__collect_init(struct weir__collect *collect)
{
    memset(collect, 0, sizeof *collect);
    collect->score = WEIR__COLLECT_SCORE_MAX;
}

bool weir__collect_begin(struct weir__collect *collect,
                         uint32_t waiting,
                         uint32_t goal,
                         uint64_t now_ns)
{
    if (collect->skip > 0) {
        collect->skip--;
        return false;
    }
    if (waiting >= goal) {
        return false;
    }
    collect->goal = goal;
    collect->seen = waiting;
    collect->turns = 0;
    collect->begin_ns = now_ns;
    collect->grown_ns = now_ns;
    return true;
}

enum weir__collect_step
weir__collect_step(struct weir__collect *collect, uint32_t waiting, uint64_t now_ns)
{
    if (waiting >= collect->goal) {
        if (collect->score < WEIR__COLLECT_SCORE_MAX) {
            collect->score++;
        }
        return WEIR__COLLECT_MET;
    }
    if (waiting > collect->seen) {
        collect->seen = waiting;
        collect->grown_ns = now_ns;
    }
    collect->turns++;
    if (now_ns - collect->grown_ns < WEIR__COLLECT_QUIET_NS &&
        now_ns - collect->begin_ns < WEIR__COLLECT_LIMIT_NS &&
        collect->turns < WEIR__COLLECT_TURNS_MAX) {
        return WEIR__COLLECT_ON;
    }
    collect->score -= 2;
    if (collect->score <= 0) {
        collect->skip = WEIR__COLLECT_PAUSE;
        collect->score = 2;
    }
    return WEIR__COLLECT_MISS;
}

uint32_t weir__yields_allowed(uint32_t crowd, uint32_t from, uint32_t long_from)
{
    if (from == 0 || crowd < from) {
        return 0;
    }
    return crowd < long_from ? WEIR__YIELDS_FEW : WEIR__YIELDS_MAX;
}

enum weir__yield_verdict weir__yield_took(uint64_t ns, uint32_t crowd)
{
    if (ns < WEIR__YIELD_ALONE_NS) {
        return WEIR__YIELD_ALONE;
    }
    const uint64_t limit_ns = WEIR__YIELD_HOG_NS + (uint64_t)crowd * WEIR__YIELD_TURN_NS;
    return ns > limit_ns ? WEIR__YIELD_HOG : WEIR__YIELD_ON;
}

uint64_t weir__yield_pause(uint64_t pause_ns, uint64_t end_ns, uint64_t now_ns)
{
    if (pause_ns == 0 || now_ns - end_ns > WEIR__YIELD_PAUSE_MAX_NS) {
        return WEIR__YIELD_PAUSE_NS; /* it has gone well for a while */
    }
    return pause_ns < WEIR__YIELD_PAUSE_MAX_NS / 2 ? 2 * pause_ns : WEIR__YIELD_PAUSE_MAX_NS;
}
