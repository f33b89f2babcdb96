/* SPDX-License-Identifier: Apache-2.0
 * What `weir ingest --acks FD` writes: "LSN LINE\n" for each acknowledged record, never before its
 * acknowledgement, whole lines in one write(2), as many as have gathered while the write before was
 * under way.
 *
 * Producers that wait for their records report each with acks_put. Producers that do not wait
 * announce an append before they make it and hand the record over behind it; a thread of the board
 * waits until records are durable and writes them in LSN order. */
#ifndef WEIR_TOOL_ACKS_H
#define WEIR_TOOL_ACKS_H

#include <stddef.h>
#include <stdint.h>
#include <weir/weir.h>

struct acks;

/* fd is borrowed. deferred: a thread waits for durability of log, which outlives the board; else
 * log is not used. Return: 0 or a negative errno. */
int acks_open(struct acks **acks_out,
              int fd,
              size_t producers,
              bool deferred,
              struct weir_log *log);
/* Waits until everything that was handed over is written, as far as it becomes durable, and frees
 * the board. Return: 0, or the negative errno of the first write that failed: nothing was written
 * after it. */
int acks_close(struct acks *acks);

/* The record is acknowledged: writes its line, or leaves it to the thread that is writing now. */
void acks_put(struct acks *acks, weir_lsn lsn, uint64_t line);

/* Deferred: around every append of that producer. lsn WEIR_LSN_NONE: the append failed. */
void acks_announce(struct acks *acks, size_t producer);
void acks_appended(struct acks *acks, size_t producer, weir_lsn lsn, uint64_t line);

#endif
