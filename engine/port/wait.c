/* SPDX-License-Identifier: Apache-2.0
 * Futex waits.
 *
 * A waiter gives the value that it saw; the kernel puts it to sleep only if the word still holds
 * that value, so a wake that falls between the look and the sleep is not lost. FUTEX_WAIT_BITSET
 * takes an absolute monotonic deadline: a waiter that is woken for nothing goes back to sleep
 * without shifting its end. Any thread. */
#include "port/wait.h"

#include "port/clock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

_Static_assert(sizeof(WEIR__ATOMIC(uint32_t)) == sizeof(uint32_t),
               "the kernel sees the word as it is");
_Static_assert(sizeof(struct timespec) == 16, "SYS_futex takes the 64-bit timespec as libc has it");

int weir__futex_wait(WEIR__ATOMIC(uint32_t) *word, uint32_t value, uint64_t deadline_ns)
{
    struct timespec deadline;
    struct timespec *limit = NULL;
    if (deadline_ns != WEIR__NEVER) {
        deadline.tv_sec = (time_t)(deadline_ns / NS_PER_S);
        deadline.tv_nsec = (long)(deadline_ns % NS_PER_S);
        limit = &deadline;
    }
    if (syscall(SYS_futex,
                word,
                FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG,
                value,
                limit,
                NULL,
                FUTEX_BITSET_MATCH_ANY) == 0) {
        return 0;
    }
    /* EAGAIN: the word had changed. EINTR: a signal. Both are a reason to look again. */
    if (errno == EAGAIN || errno == EINTR) {
        return 0;
    }
    return -errno;
}

int weir__futex_wake(WEIR__ATOMIC(uint32_t) *word, int count)
{
    const long woken =
        syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
    return woken < 0 ? 0 : (int)woken;
}

void weir__yield(void)
{
    (void)sched_yield(); /* cannot fail on Linux */
}
