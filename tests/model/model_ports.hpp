/* SPDX-License-Identifier: Apache-2.0
 * Stand-ins for clock, memory and futex. The futex orders nothing at all, not even between a waker and the woken. */
void weir__check_failed(const char *condition, const char *, int) { failed(condition); abort(); }

uint64_t weir__now_ns(void) { return 1; }
void weir__spin_ns(uint64_t) { rl::ctx().sched(); }
void weir__spin_while(WEIR__ATOMIC(uint32_t) *, uint32_t, uint64_t) { rl::ctx().sched(); }
unsigned weir__cpu(void) { return rl::thread_index(); }
void *weir__mem_alloc(struct weir__mem *, size_t bytes, size_t) { return calloc(1, bytes); }
void weir__mem_free(struct weir__mem *, void *block, size_t) { free(block); }
void *weir__mem_alloc_io(struct weir__mem *, size_t bytes) { return calloc(1, bytes); }
void weir__mem_free_io(struct weir__mem *, void *block, size_t) { free(block); }
void weir__mem_abandon(struct weir__mem *, void *, size_t) {}
size_t weir__mem_io_bytes(size_t bytes) { return bytes; }
static bool spurious;

int weir__futex_wait(WEIR__ATOMIC(uint32_t) *word, uint32_t value, uint64_t deadline_ns)
{
    rl::context &c = rl::ctx();
    if (looks[rl::thread_index()]) looks[rl::thread_index()] = 1;
    step(word, true);
    c.sched();
    word->touch();
    if (word->a->debug_value() != value && !planted(FUTEX_BLIND)) {
        if (search.on) {
            /* The kernel has read the word for this thread, which reads nothing older afterwards (coherence). No order comes of it. */
            uint32_t not_it = word->a->debug_value() + 1;
            c.disable_preemption();
            word->a->compare_exchange(rl::bool_t<false>(), not_it, not_it, rl::mo_relaxed, rl::mo_relaxed, RL_INFO);
            c.enable_preemption();
        } else {
            c.yield(1, RL_INFO);
        }
        return 0;
    }
    if (planted(FUTEX_DEAF)) c.sched();
    uint32_t me = 1u << rl::thread_index();
    word->sleepers |= me;
    /* Woken, it goes on with its own work; a deadline is a step. */
    step(deadline_ns != WEIR__NEVER || spurious ? (const void *)word : 0, true);
    rl::unpark_reason why = c.park_current_thread(deadline_ns != WEIR__NEVER, spurious, false, RL_INFO);
    word->sleepers &= ~me;
    return why == rl::unpark_reason_timeout ? -ETIMEDOUT : 0;
}

void weir__yield(void) { rl::ctx().yield(1, RL_INFO); }

int weir__futex_wake(WEIR__ATOMIC(uint32_t) *word, int count)
{
    rl::context &c = rl::ctx();
    int woken = 0;
    if (planted(FUTEX_ONE)) count = 1;
    step(word, true);
    c.sched();
    for (int i = 0; i < 8 && woken < count; i++) {
        if (word->sleepers & 1u << i) {
            word->sleepers &= ~(1u << i);
            next_steps[i] = next_step{0, false, false};
            c.unpark_thread(i, false, RL_INFO);
            woken++;
        }
    }
    return woken;
}
