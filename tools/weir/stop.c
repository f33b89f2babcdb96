/* SPDX-License-Identifier: Apache-2.0
 * Ending early. The handler sets a flag and writes to an eventfd, both of which a handler may;
 * whoever waits polls that descriptor beside its own. These two are the only globals of the tool: a
 * handler has no other way to anything. */
#include "stop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Set before the handlers are installed; -1 until then. */
static atomic_int stop_fd = -1;
/* Set once, relaxed: it guards nothing but itself. */
static atomic_bool stop_flag = false;

bool stop_asked(void)
{
    return atomic_load_explicit(&stop_flag, memory_order_relaxed);
}

void stop_ask(void)
{
    const uint64_t one = 1;
    const int fd = atomic_load_explicit(&stop_fd, memory_order_relaxed);
    const int saved = errno;

    atomic_store_explicit(&stop_flag, true, memory_order_relaxed);
    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0) {
        /* The counter is full, so the descriptor is readable already. */
    }
    errno = saved;
}

static void on_signal(int number)
{
    (void)number;
    stop_ask();
}

int stop_install(void)
{
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct sigaction action;

    if (fd < 0) {
        return -errno;
    }
    atomic_store_explicit(&stop_fd, fd, memory_order_relaxed);
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    action.sa_flags = (int)(SA_RESETHAND | SA_RESTART); /* the second one kills */
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGINT, &action, NULL) != 0 || sigaction(SIGTERM, &action, NULL) != 0) {
        return -errno;
    }
    return fd;
}
