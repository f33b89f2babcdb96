/* SPDX-License-Identifier: Apache-2.0
 * The simulated machine: chance, fibers, clock, futexes, mutexes, memory; and the engine's port
 * floor on top of it, in place of port/{thread,wait,clock}.c.
 *
 * Fibers switch by a few instructions where the processor is known, else by ucontext. Nothing here
 * is ever run by two OS threads. */
#include "machine.h"

#include "port/clock.h"
#include "port/thread.h"
#include "port/wait.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/types.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FIBERS_TOLD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBERS_TOLD 1
#endif
#endif
#ifdef FIBERS_TOLD
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define FIBER_STACK_BYTES ((size_t)256 * 1024)
#define ARENA_BYTES ((size_t)64 * 1024 * 1024)
#define POINT_AWAY_NS UINT64_C(5000000)
/* No life of a log that goes well takes so many. */
#define SWITCHES_MAX UINT64_C(2000000)

/* ---- chance ---------------------------------------------------------------------------------- */

static uint64_t random_state;
static uint64_t digest;
static uint64_t now_ns;

void sim_seed(uint64_t seed)
{
    random_state = seed;
    now_ns = UINT64_C(1000000000);
    digest = UINT64_C(0xcbf29ce484222325);
}

uint64_t sim_random(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static const uint8_t *script;
static size_t script_left;

void sim_script(const uint8_t *bytes, size_t count)
{
    script = bytes;
    script_left = count;
}

/* As few bytes as the limit needs, so that each stands for a choice. */
static uint64_t script_next(uint64_t limit)
{
    uint64_t value = 0;

    for (uint64_t span = limit - 1; span > 0 && script_left > 0; span >>= 8) {
        value = value << 8 | *script++;
        script_left--;
    }
    return value;
}

uint64_t sim_below(uint64_t limit)
{
    return (script_left > 0 ? script_next(limit) : sim_random()) % limit;
}

bool sim_chance(unsigned per_mille)
{
    return per_mille > 0 && sim_below(1000) < per_mille;
}

void sim_digest_add(uint64_t value)
{
    digest = (digest ^ value) * UINT64_C(0x100000001b3);
}

uint64_t sim_digest(void)
{
    return digest ^ random_state;
}

/* ---- fibers ---------------------------------------------------------------------------------- */

enum fiber_state { FIBER_FREE = 0, FIBER_READY, FIBER_BLOCKED, FIBER_OVER };

/* Where a fiber, or the machine itself, goes on. */
struct context {
#if defined(__x86_64__) || defined(__aarch64__)
    void *stack; /* what context_switch has pushed lies there */
#else
    ucontext_t own;
#endif
};

struct fiber {
    enum fiber_state state;
    const void *token;
    uint64_t deadline_ns;
    bool timed_out;
    void (*run)(void *);
    void *arg;
    void *(*thread_run)(void *); /* of the engine's own threads */
    uint8_t *stack;
    struct context context;
};

static struct fiber fibers[SIM_FIBERS_MAX];
static unsigned fiber_count;
static struct fiber *current;
static struct context machine_context;
static uint64_t switches;
static uint64_t crash_at = UINT64_MAX;
static bool crashed;

/* Puts what a call must leave as it was (and the stack's place) into from, and goes on where to
 * was left. No system call, unlike swapcontext: a history switches some ten thousand times. */
#if defined(__x86_64__)
void sim_context_switch(void **from_stack, void *to_stack);
__asm__(".text\n"
        ".globl sim_context_switch\n"
        ".type sim_context_switch, @function\n"
        "sim_context_switch:\n"
        "    endbr64\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size sim_context_switch, . - sim_context_switch\n");
#define CONTEXT_WORDS 8u /* six registers, the address to return to, one for its caller's */
#define CONTEXT_RETURNS 6u
#elif defined(__aarch64__)
void sim_context_switch(void **from_stack, void *to_stack);
__asm__(".text\n"
        ".globl sim_context_switch\n"
        ".type sim_context_switch, %function\n"
        "sim_context_switch:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size sim_context_switch, . - sim_context_switch\n");
#define CONTEXT_WORDS 20u
#define CONTEXT_RETURNS 11u
#endif

static void fiber_main(void);

static void context_make(struct context *context, uint8_t *stack)
{
#if defined(__x86_64__) || defined(__aarch64__)
    void **const words = (void **)(void *)(stack + FIBER_STACK_BYTES) - CONTEXT_WORDS;
    memset(words, 0, CONTEXT_WORDS * sizeof *words);
    words[CONTEXT_RETURNS] = (void *)(uintptr_t)fiber_main;
    context->stack = words;
#else
    (void)getcontext(&context->own);
    context->own.uc_stack.ss_sp = stack;
    context->own.uc_stack.ss_size = FIBER_STACK_BYTES;
    context->own.uc_link = NULL;
    makecontext(&context->own, fiber_main, 0);
#endif
}

static void context_switch(struct context *from, struct context *to)
{
#if defined(__x86_64__) || defined(__aarch64__)
    sim_context_switch(&from->stack, to->stack);
#else
    (void)swapcontext(&from->own, &to->own);
#endif
}

/* AddressSanitizer wants to know on which stack it is. */
static const void *machine_stack;
static size_t machine_stack_bytes;

static void switch_told(void **kept, const void *stack, size_t bytes)
{
#ifdef FIBERS_TOLD
    __sanitizer_start_switch_fiber(kept, stack, bytes);
#else
    (void)kept;
    (void)stack;
    (void)bytes;
#endif
}

static void switch_over(void *kept, bool from_machine)
{
#ifdef FIBERS_TOLD
    __sanitizer_finish_switch_fiber(kept,
                                    from_machine ? &machine_stack : NULL,
                                    from_machine ? &machine_stack_bytes : NULL);
#else
    (void)kept;
    (void)from_machine;
#endif
}

/* From the machine into a fiber, until that one leaves. */
static void fiber_enter(struct fiber *fiber)
{
    void *kept = NULL;

    switch_told(&kept, fiber->stack, FIBER_STACK_BYTES);
    context_switch(&machine_context, &fiber->context);
    switch_over(kept, false);
}

static void fiber_leave(void)
{
    struct fiber *const fiber = current;
    void *kept = NULL;

    switch_told(&kept, machine_stack, machine_stack_bytes);
    context_switch(&fiber->context, &machine_context);
    switch_over(kept, true);
}

static void fiber_main(void)
{
    struct fiber *const fiber = current;

    switch_over(NULL, true);
    if (fiber->thread_run != NULL) {
        (void)fiber->thread_run(fiber->arg);
        fiber->state = FIBER_OVER; /* until it is joined */
        (void)sim_rouse(fiber, UINT32_MAX);
    } else {
        fiber->run(fiber->arg);
        fiber->state = FIBER_FREE;
    }
    fiber_leave();
    abort(); /* an ended fiber is never chosen */
}

void sim_machine_reset(void)
{
    for (unsigned i = 0; i < fiber_count; i++) {
        fibers[i].state = FIBER_FREE;
    }
    fiber_count = 0;
    current = NULL;
    switches = 0;
    crash_at = UINT64_MAX;
    crashed = false;
    sim_points(0);
    sim_alloc_fail(UINT64_MAX, false); /* resets the arena, see there */
}

static struct fiber *fiber_new(void)
{
    unsigned index = 0;

    while (index < fiber_count && fibers[index].state != FIBER_FREE) {
        index++;
    }
    if (index == SIM_FIBERS_MAX) {
        fprintf(stderr, "weir-stress sim: too many fibers\n");
        abort();
    }
    if (index == fiber_count) {
        fiber_count++;
    }
    struct fiber *const fiber = &fibers[index];
    if (fiber->stack == NULL) {
        fiber->stack = malloc(FIBER_STACK_BYTES);
        if (fiber->stack == NULL) {
            abort();
        }
    }
#ifdef FIBERS_TOLD
    /* What a crash left on it is no longer anybody's. */
    __asan_unpoison_memory_region(fiber->stack, FIBER_STACK_BYTES);
#endif
    context_make(&fiber->context, fiber->stack);
    fiber->state = FIBER_READY;
    fiber->thread_run = NULL;
    return fiber;
}

void sim_spawn(void (*run)(void *), void *arg)
{
    struct fiber *const fiber = fiber_new();
    fiber->run = run;
    fiber->arg = arg;
}

void sim_switch(void)
{
    if (current != NULL) {
        fiber_leave();
    }
}

/* remap.h counts down. */
uint32_t sim_point_left;
static uint32_t points_mean;

static void point_next(void)
{
    sim_point_left = points_mean == 0 ? UINT32_MAX : 1 + (uint32_t)sim_below(2 * points_mean);
}

void sim_points(uint32_t mean)
{
    points_mean = mean;
    point_next();
}

void sim_point_reached(void);
void sim_point_reached(void)
{
    static const char nobody; /* wakes from this */

    point_next();
    if (current == NULL || points_mean == 0) {
        return;
    }
    if (sim_chance(10)) {
        (void)sim_block(&nobody, now_ns + sim_below(POINT_AWAY_NS));
    } else {
        fiber_leave();
    }
}

void sim_crash(void)
{
    crashed = true;
    fiber_leave();
    abort(); /* nobody comes back from a crash */
}

void sim_crash_at_switch(uint64_t more)
{
    crash_at = more == UINT64_MAX ? UINT64_MAX : switches + more;
}

bool sim_block(const void *token, uint64_t deadline_ns)
{
    if (current == NULL) {
        abort(); /* the machine itself must not sleep */
    }
    current->state = FIBER_BLOCKED;
    current->token = token;
    current->deadline_ns = deadline_ns;
    current->timed_out = false;
    fiber_leave();
    return !current->timed_out;
}

unsigned sim_rouse(const void *token, unsigned count)
{
    unsigned roused = 0;

    for (unsigned i = 0; i < fiber_count && roused < count; i++) {
        if (fibers[i].state == FIBER_BLOCKED && fibers[i].token == token) {
            fibers[i].state = FIBER_READY;
            roused++;
        }
    }
    return roused;
}

uint64_t sim_now_ns(void)
{
    return now_ns;
}

uint64_t sim_switches(void)
{
    return switches;
}

/* One that can run, by chance; NULL: none, now. */
static struct fiber *fiber_choose(void)
{
    unsigned ready = 0;

    for (unsigned i = 0; i < fiber_count; i++) {
        ready += fibers[i].state == FIBER_READY;
    }
    if (ready == 0) {
        return NULL;
    }
    uint64_t which = sim_below(ready);
    for (unsigned i = 0; i < fiber_count; i++) {
        if (fibers[i].state == FIBER_READY && which-- == 0) {
            return &fibers[i];
        }
    }
    return NULL;
}

/* Nobody can run: time passes until the first deadline. False: there is none. */
static bool time_pass(void)
{
    uint64_t first = UINT64_MAX;

    for (unsigned i = 0; i < fiber_count; i++) {
        if (fibers[i].state == FIBER_BLOCKED && fibers[i].deadline_ns < first) {
            first = fibers[i].deadline_ns;
        }
    }
    if (first == UINT64_MAX) {
        return false;
    }
    now_ns = first > now_ns ? first : now_ns;
    for (unsigned i = 0; i < fiber_count; i++) {
        if (fibers[i].state == FIBER_BLOCKED && fibers[i].deadline_ns <= now_ns) {
            fibers[i].state = FIBER_READY;
            fibers[i].timed_out = true;
        }
    }
    return true;
}

enum sim_end sim_machine_run(const unsigned *left)
{
    while (*left > 0) {
        struct fiber *const fiber = fiber_choose();
        if (fiber == NULL) {
            if (!time_pass()) {
                return SIM_HUNG;
            }
            continue;
        }
        if (switches >= crash_at) {
            return SIM_CRASHED;
        }
        if (++switches > SWITCHES_MAX) {
            return SIM_HUNG;
        }
        now_ns += 1000; /* nothing takes no time */
        current = fiber;
        sim_digest_add((uint64_t)(fiber - fibers));
        fiber_enter(fiber);
        current = NULL;
        if (crashed) {
            return SIM_CRASHED;
        }
    }
    return SIM_DONE;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint8_t *arena;
static size_t arena_at;
static uint64_t alloc_calls;
static uint64_t alloc_live;
static uint64_t alloc_fail_at;
static bool alloc_fail_for_ever;

void sim_alloc_fail(uint64_t fail_at, bool for_ever)
{
    if (fail_at == UINT64_MAX) {
        arena_at = 0;
        alloc_live = 0;
        fail_at = 0;
    }
    alloc_calls = 0;
    alloc_fail_at = fail_at;
    alloc_fail_for_ever = for_ever;
}

uint64_t sim_alloc_calls(void)
{
    return alloc_calls;
}

uint64_t sim_alloc_live(void)
{
    return alloc_live;
}

void *sim_alloc(void *ctx, size_t bytes, size_t align)
{
    (void)ctx;
    alloc_calls++;
    if (alloc_fail_at != 0 &&
        (alloc_calls == alloc_fail_at || (alloc_fail_for_ever && alloc_calls > alloc_fail_at))) {
        return NULL;
    }
    if (arena == NULL) {
        arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (arena == MAP_FAILED) {
            abort();
        }
    }
    const size_t at = (arena_at + align - 1) & ~(align - 1);
    if (at > ARENA_BYTES || bytes > ARENA_BYTES - at) {
        return NULL;
    }
    arena_at = at + bytes;
    alloc_live++;
    return arena + at;
}

void sim_release(void *ctx, void *block, size_t bytes)
{
    (void)ctx;
    alloc_live--;
    /* The last one may be used again at once; the rest waits for the reset. */
    if ((uint8_t *)block + bytes == arena + arena_at) {
        arena_at -= bytes;
    }
}

/* ---- the engine's port floor ----------------------------------------------------------------- */

int weir__thread_start(pthread_t *thread_out, const char *name, void *(*run)(void *), void *arg)
{
    (void)name;
    struct fiber *const fiber = fiber_new();
    fiber->thread_run = run;
    fiber->arg = arg;
    *thread_out = (pthread_t)(fiber - fibers) + 1;
    return 0;
}

int sim_thread_join(pthread_t thread, void **result_out);
int sim_thread_join(pthread_t thread, void **result_out)
{
    struct fiber *const fiber = &fibers[thread - 1];
    if (result_out != NULL) {
        *result_out = NULL;
    }
    while (fiber->state != FIBER_OVER) {
        (void)sim_block(fiber, UINT64_MAX);
    }
    fiber->state = FIBER_FREE;
    return 0;
}

int weir__futex_wait(WEIR__ATOMIC(uint32_t) *word, uint32_t value, uint64_t deadline_ns)
{
    sim_switch();
    /* No switch between the look and the sleep: the kernel's promise. */
    if (weir__load(word, seq_cst) != value) {
        return 0;
    }
    if (now_ns >= deadline_ns) {
        return -ETIMEDOUT;
    }
    return sim_block(word, deadline_ns) ? 0 : -ETIMEDOUT;
}

void weir__yield(void)
{
    sim_switch();
}

unsigned weir__cores(void)
{
    return 0; /* the least: two who wait are a crowd already */
}

int weir__futex_wake(WEIR__ATOMIC(uint32_t) *word, int count)
{
    const unsigned woken = sim_rouse(word, (unsigned)count);
    sim_switch();
    return (int)woken;
}

void weir__spin_ns(uint64_t ns)
{
    (void)ns;
    sim_switch();
}

void weir__spin_while(WEIR__ATOMIC(uint32_t) *word, uint32_t value, uint64_t ns)
{
    (void)word, (void)value, (void)ns;
    sim_switch();
}

unsigned weir__cpu(void)
{
    return 0;
}

uint64_t weir__now_ns(void)
{
    return now_ns;
}

uint64_t weir__wall_ns(void)
{
    return now_ns;
}

uint64_t weir__deadline(int64_t timeout_ns)
{
    return timeout_ns < 0 ? WEIR__NEVER : now_ns + (uint64_t)timeout_ns;
}

void weir__sleep_ns(uint64_t ns)
{
    (void)sim_block(&now_ns, now_ns + ns);
}

/* ---- what remap.h sends here ----------------------------------------------------------------- */

/* The word of a mutex that a fiber holds. A fiber that finds it held lets others run. */
struct sim_mutex {
    uint32_t held;
};

_Static_assert(sizeof(struct sim_mutex) <= sizeof(pthread_mutex_t), "it lives in its place");

int sim_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int sim_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    (void)attributes;
    ((struct sim_mutex *)mutex)->held = 0;
    return 0;
}

int sim_mutex_destroy(pthread_mutex_t *mutex);
int sim_mutex_destroy(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

int sim_mutex_lock(pthread_mutex_t *mutex);
int sim_mutex_lock(pthread_mutex_t *mutex)
{
    struct sim_mutex *const own = (struct sim_mutex *)mutex;
    while (own->held != 0) {
        if (current == NULL) {
            abort(); /* held by a fiber, and nobody runs those now */
        }
        (void)sim_block(own, UINT64_MAX);
    }
    own->held = 1;
    return 0;
}

int sim_mutex_unlock(pthread_mutex_t *mutex);
int sim_mutex_unlock(pthread_mutex_t *mutex)
{
    struct sim_mutex *const own = (struct sim_mutex *)mutex;
    own->held = 0;
    (void)sim_rouse(own, 1);
    return 0;
}

/* Conditions serve the windows' read-ahead alone. */
int sim_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes);
int sim_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes)
{
    (void)cond;
    (void)attributes;
    return 0;
}

int sim_cond_destroy(pthread_cond_t *cond);
int sim_cond_destroy(pthread_cond_t *cond)
{
    (void)cond;
    return 0;
}

int sim_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int sim_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    (void)sim_mutex_unlock(mutex);
    (void)sim_block(cond, UINT64_MAX);
    return sim_mutex_lock(mutex);
}

int sim_cond_signal(pthread_cond_t *cond);
int sim_cond_signal(pthread_cond_t *cond)
{
    (void)sim_rouse(cond, 1);
    return 0;
}

int sim_sched_yield(void);
int sim_sched_yield(void)
{
    sim_switch();
    return 0;
}

ssize_t sim_getrandom(void *buffer, size_t bytes, unsigned flags);
ssize_t sim_getrandom(void *buffer, size_t bytes, unsigned flags)
{
    (void)flags;
    for (size_t at = 0; at < bytes; at++) {
        ((uint8_t *)buffer)[at] = (uint8_t)sim_random();
    }
    return (ssize_t)bytes;
}

pid_t sim_getpid(void);
pid_t sim_getpid(void)
{
    return 1;
}

void *sim_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset);
void *sim_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset)
{
    (void)at;
    (void)bytes;
    (void)protection;
    (void)flags;
    (void)file;
    (void)offset;
    return MAP_FAILED;
}

int sim_madvise(void *at, size_t bytes, int advice);
int sim_madvise(void *at, size_t bytes, int advice)
{
    (void)at;
    (void)bytes;
    (void)advice;
    return 0;
}
