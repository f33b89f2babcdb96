/* SPDX-License-Identifier: Apache-2.0
 * The exhaustive search: every short history, every crash point, every power cut. */
#ifndef WEIR_SIM_EXHAUST_H
#define WEIR_SIM_EXHAUST_H

#include "history.h"

/* X(name, what). */
#define EXHAUST_COUNTS_TABLE(X)                                                                    \
    X(histories, "of append, group, rotate, trim, reopen")                                         \
    X(crash_points, "moments before a write, a sync or a change of names")                         \
    X(choices, "ways of the power cut at these moments")                                           \
    X(states, "different ones of a disk and what it owed: each recovered, appended to, cut again") \
    X(points_in_recovery, "of the moments: inside of such a recovery")                             \
    X(points_bounded, "moments with more ways than were tried")                                    \
    X(choices_bounded, "ways tried at these, by chance")                                           \
    X(units_most, "units that were dirty at one moment, at most")                                  \
    X(lost, "acknowledged, and gone")                                                              \
    X(phantom, "never appended, or cut before, and there")                                         \
    X(altered, "with other bytes, or at another place")                                            \
    X(disorder, "gaps, parts of groups, wrong order")                                              \
    X(refused, "openings refused")                                                                 \
    X(hung, "nobody could go on")

struct exhaust_counts {
#define EXHAUST_COUNT(name, what) uint64_t name;
    EXHAUST_COUNTS_TABLE(EXHAUST_COUNT)
#undef EXHAUST_COUNT
};

struct exhaust_options {
    unsigned operations; /* of a history, at most */
    uint32_t unit_bytes; /* 512 or 4096: of a sector and of the log's blocks */
    unsigned units;      /* with more dirty ones not all power cuts are tried, but 2^units */
    unsigned nested;     /* recoveries inside of which power is cut, too, one in the other */
    const char *only;    /* this history alone; NULL: all */
    bool (*go_on)(uint64_t histories, uint64_t all); /* called behind each; false: stop */
};

/* True: nothing was found. Else why says what, and in which history. */
bool exhaust_run(const struct exhaust_options *options,
                 struct exhaust_counts *counts,
                 char *why,
                 size_t why_bytes);

#endif
