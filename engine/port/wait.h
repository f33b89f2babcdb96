/* SPDX-License-Identifier: Apache-2.0
 * Futex waits: sleep while a word holds a value, wake those who do. Private to the process. */
#ifndef WEIR_PORT_WAIT_H
#define WEIR_PORT_WAIT_H

#include "base/atomic.h"

#include <stdint.h>

/* Sleeps while *word == value, at most until deadline_ns (monotonic; WEIR__NEVER = no limit).
 * Returns 0 when woken, when the value had changed already, on a signal, or for no reason (the
 * caller looks again), -ETIMEDOUT at the deadline. */
int weir__futex_wait(WEIR__ATOMIC(uint32_t) *word, uint32_t value, uint64_t deadline_ns);
/* Wakes up to count sleepers of word (INT32_MAX = all). Returns how many were woken. */
int weir__futex_wake(WEIR__ATOMIC(uint32_t) *word, int count);
/* Lets others run that want this CPU, if there are any. */
void weir__yield(void);

/* Passes about so many ns, at most a few thousand, without giving the processor away. */
void weir__spin_ns(uint64_t ns);
/* The same, but no longer than *word is value. Relaxed. */
void weir__spin_while(WEIR__ATOMIC(uint32_t) *word, uint32_t value, uint64_t ns);
/* The processor that the caller runs on, or a number that stands for the thread: a hint, old as soon
 * as it is returned. Any thread; no system call. */
unsigned weir__cpu(void);

#endif
