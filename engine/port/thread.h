/* SPDX-License-Identifier: Apache-2.0
 * The engine's own threads: named, signals blocked, joined by whoever started them. */
#ifndef WEIR_PORT_THREAD_H
#define WEIR_PORT_THREAD_H

#include <pthread.h>

/* Starts a joinable thread with all signals blocked but those that its own faults raise (SIGSEGV,
 * SIGBUS, ...), which belong to the host's crash handler. name: at most 15 bytes, shown by ps and
 * perf. Returns 0 or -errno. */
int weir__thread_start(pthread_t *thread_out, const char *name, void *(*run)(void *), void *arg);
/* CPUs that this process may run on; at least 1. */
unsigned weir__cores(void);

#endif
