/* SPDX-License-Identifier: Apache-2.0
 * Futex waits, and what is shorter than a sleep.
 *
 * A waiter gives the value that it saw; the kernel puts it to sleep only if the word still holds
 * that value, so a wake that falls between the look and the sleep is not lost. FUTEX_WAIT_BITSET
 * takes an absolute monotonic deadline: a waiter that is woken for nothing goes back to sleep
 * without shifting its end. Any thread. */
#include "port/wait.h"

#include "base/compiler.h"
#include "port/clock.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 35) && (defined(__x86_64__) || defined(__aarch64__))
#include <sys/rseq.h>
#define WAIT_HAS_RSEQ 1
#else
#define WAIT_HAS_RSEQ 0
#endif

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

/* ---- without sleeping ------------------------------------------------------------------------ */

static inline void wait_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void weir__spin_ns(uint64_t ns)
{
    const uint64_t begin = weir__now_ns();

    do {
        wait_relax();
    } while (weir__now_ns() - begin < ns);
}

void weir__spin_while(WEIR__ATOMIC(uint32_t) *word, uint32_t value, uint64_t ns)
{
    const uint64_t begin = weir__now_ns();

    while (weir__load(word, relaxed) == value && weir__now_ns() - begin < ns) {
        wait_relax();
    }
}

static inline uintptr_t wait_thread_pointer(void)
{
    uintptr_t pointer = 0;
#if defined(__x86_64__)
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
#elif defined(__aarch64__)
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#else
    pointer = (uintptr_t)pthread_self();
#endif
    return pointer;
}

unsigned weir__cpu(void)
{
    const uintptr_t thread = wait_thread_pointer();

#if WAIT_HAS_RSEQ
    /* The kernel keeps the number there for every thread that libc has registered. */
    if (WEIR__LIKELY(__rseq_size != 0)) {
        WEIR__ATOMIC(uint32_t) *const cpu =
            (WEIR__ATOMIC(uint32_t) *)(thread + (uintptr_t)__rseq_offset +
                                       offsetof(struct rseq, cpu_id_start));
        return weir__load(cpu, relaxed); /* a hint */
    }
#endif
    /* Thread blocks lie a stack apart: the upper half of the product mixes what differs. */
    return (unsigned)((uint64_t)thread * UINT64_C(0x9e3779b97f4a7c15) >> 40);
}
