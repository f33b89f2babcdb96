/* SPDX-License-Identifier: Apache-2.0
 * Signals by the thousand.
 *
 * A timer for the process, whose signal the kernel gives to any thread that does not block it; a
 * timer for each producer; and a thread that sends the signal to every thread of the process in
 * turn, those of the log included. The log blocks signals on its threads: a handler that finds
 * itself on one of them notes it. */
#include "child.h"
#include "clock.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct wire_page *storm_page;
/* Set by a thread that is the child's own; the others are the log's. */
static _Thread_local volatile sig_atomic_t storm_ours;
static pthread_t storm_sender;
static _Atomic bool storm_stop; /* relaxed: only to end sooner or later */

static void storm_handle(int signal_number)
{
    (void)signal_number;
    /* Relaxed counters: nothing hangs on them but their being above 0. */
    atomic_fetch_add_explicit(storm_ours ? &storm_page->signals : &storm_page->signals_astray,
                              1,
                              memory_order_relaxed);
}

static int timer_start(struct sigevent *event)
{
    const struct itimerspec every = {.it_interval = {.tv_nsec = (long)CLOCK_NS_PER_MS},
                                     .it_value = {.tv_nsec = (long)CLOCK_NS_PER_MS}};
    timer_t timer;

    if (timer_create(CLOCK_MONOTONIC, event, &timer) != 0 ||
        timer_settime(timer, 0, &every, NULL) != 0) {
        return -errno;
    }
    return 0;
}

/* To every thread in turn, ten times a second each; those that block it keep one waiting. */
static void *storm_send(void *ctx)
{
    const pid_t process = getpid();

    (void)ctx;
    storm_ours = 1;
    storm_unblock();
    while (!atomic_load_explicit(&storm_stop, memory_order_relaxed)) {
        DIR *tasks = opendir("/proc/self/task");
        for (struct dirent *entry = tasks != NULL ? readdir(tasks) : NULL; entry != NULL;
             entry = readdir(tasks)) {
            const pid_t thread = (pid_t)atoi(entry->d_name);
            if (thread > 0) {
                syscall(SYS_tgkill, process, thread, SIGALRM);
            }
        }
        if (tasks != NULL) {
            closedir(tasks);
        }
        clock_sleep_ns(10 * CLOCK_NS_PER_MS);
    }
    return NULL;
}

int storm_begin(struct wire_page *page)
{
    struct sigaction action = {.sa_handler = storm_handle}; /* without SA_RESTART */
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};

    storm_page = page;
    storm_ours = 1;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGALRM, &action, NULL) != 0) {
        return -errno;
    }
    const int rc = timer_start(&event);
    if (rc != 0) {
        return rc;
    }
    storm_block();
    const int error = pthread_create(&storm_sender, NULL, storm_send, NULL);
    storm_unblock();
    return -error;
}

static void storm_mask(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(how, &set, NULL);
}

void storm_block(void)
{
    storm_mask(SIG_BLOCK);
}

void storm_unblock(void)
{
    storm_mask(SIG_UNBLOCK);
}

void storm_thread(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};

    storm_ours = 1;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    storm_unblock();
    (void)timer_start(&event); /* the process's own timer goes on in any case */
}

void storm_end(void)
{
    atomic_store_explicit(&storm_stop, true, memory_order_relaxed);
    pthread_join(storm_sender, NULL);
}
