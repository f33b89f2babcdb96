/* SPDX-License-Identifier: Apache-2.0
 * The other uses of kill: the weir command itself, fed with lines; and every single call. */
#ifndef WEIR_STRESS_KILL_H
#define WEIR_STRESS_KILL_H

#include "run.h"

/* Runs all rounds with "weir ingest --acks". Return: false after a message, beyond the ledger's
 * faults. */
bool kill_ingest_rounds(struct run *run, const char *weir, uint64_t check_every);

/* Kills at every step-th call of the I/O layer. As kill_ingest_rounds. */
bool kill_calls_rounds(struct run *run, uint64_t step);

#endif
