/* SPDX-License-Identifier: Apache-2.0
 * One history of a log on the simulated machine: opened, appended to, crashed, recovered, checked,
 * appended to, crashed again. Everything in it follows from its seed. */
#ifndef WEIR_SIM_HISTORY_H
#define WEIR_SIM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, what). */
#define HISTORY_COUNTS_TABLE(X)                                                                    \
    X(histories, "seeds")                                                                          \
    X(lives, "openings of a log, and what followed")                                               \
    X(crashes, "lives that ended before they were over")                                           \
    X(power_cuts, "of these: with the power; the others: the process was killed")                  \
    X(in_recovery, "of these: before an opening had returned")                                     \
    X(again, "of these: right behind one in an opening")                                           \
    X(and_again, "and that one, too: three openings in a row")                                     \
    X(clean_closes, "lives that ended in a close")                                                 \
    X(poisoned, "lives that ended in a close which told of an error")                              \
    X(failed_opens, "openings that a fault made fail")                                             \
    X(appended, "records")                                                                         \
    X(acknowledged, "of these: durable")                                                           \
    X(cut, "of these: not acknowledged, and gone after a crash")                                   \
    X(read, "records read and compared")                                                           \
    X(followed, "records shown to readers at the tail, and compared")                              \
    X(rotations, "segments entered, in lives that crashed")                                        \
    X(recycled, "segments made from trimmed ones, in these")                                       \
    X(alone, "batches that a lone producer wrote and synced by itself, in these")                  \
    X(covered, "syncs that covered several batches, in these")                                     \
    X(shutdowns, "with producers still calling")                                                   \
    X(looks, "of weir_verify at what a crash has left")                                            \
    X(trims, "calls")                                                                              \
    X(lost, "acknowledged, and gone")                                                              \
    X(phantom, "never appended, or cut before, and there")                                         \
    X(altered, "with other bytes, or at another place")                                            \
    X(disorder, "gaps, parts of groups, wrong order")                                              \
    X(refused, "openings and closings refused without a reason")                                   \
    X(hung, "nobody could go on")

struct history_counts {
#define HISTORY_COUNT(name, what) uint64_t name;
    HISTORY_COUNTS_TABLE(HISTORY_COUNT)
#undef HISTORY_COUNT
};

struct history_options {
    unsigned depth; /* crashes in a row, at most */
    bool faults;    /* besides crashes */
    bool rot;       /* and such as no log can survive: then only wrong bytes count */
    bool storm;     /* large records of many producers to a slow device, always */
    bool print;     /* say what happens */
};

/* Runs the history of a seed. True: it went well. Else why says what was wrong. */
bool history_run(uint64_t seed,
                 const struct history_options *options,
                 struct history_counts *counts,
                 uint64_t *digest_out,
                 char *why,
                 size_t why_bytes);

#endif
