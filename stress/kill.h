/* SPDX-License-Identifier: Apache-2.0
 * The second use of kill: the weir command itself, fed with lines. */
#ifndef WEIR_STRESS_KILL_H
#define WEIR_STRESS_KILL_H

#include "run.h"

/* Runs all rounds with "weir ingest --acks". Return: false after a message, beyond the ledger's
 * faults. */
bool kill_ingest_rounds(struct run *run, const char *weir, uint64_t check_every);

#endif
