/* SPDX-License-Identifier: Apache-2.0
 * Starting the engine's threads.
 *
 * A new thread inherits the signal mask, so everything is blocked around pthread_create and the
 * caller's own mask is put back. Faults of the thread itself stay open: blocked, they would kill
 * the process past the host's crash handler. */
#include "port/thread.h"

#include "base/plant.h"

#include <sched.h>
#include <signal.h>
#include <unistd.h>

int weir__thread_start(pthread_t *thread_out, const char *name, void *(*run)(void *), void *arg)
{
    sigset_t blocked;
    (void)sigfillset(&blocked);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        (void)sigdelset(&blocked, faults[i]);
    }
    if (WEIR__PLANTED(signals_not_blocked)) {
        (void)sigemptyset(&blocked);
    }
    sigset_t previous;
    int error = pthread_sigmask(SIG_SETMASK, &blocked, &previous);
    if (error != 0) {
        return -error;
    }
    error = pthread_create(thread_out, NULL, run, arg);
    (void)pthread_sigmask(SIG_SETMASK, &previous, NULL);
    if (error != 0) {
        return -error;
    }
    /* A name that cannot be set (the thread may be gone already) is no reason to fail. */
    (void)pthread_setname_np(*thread_out, name);
    return 0;
}

unsigned weir__cores(void)
{
    cpu_set_t set;

    /* Refused where there are more CPUs than the set has room for. */
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (unsigned)CPU_COUNT(&set);
    }
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}
