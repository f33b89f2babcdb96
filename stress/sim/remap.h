/* SPDX-License-Identifier: Apache-2.0
 * Put in front of every engine source of the simulation: what would leave the simulated machine goes
 * to stress/sim/machine.c instead. The engine's text is that of production. */
#ifndef WEIR_SIM_REMAP_H
#define WEIR_SIM_REMAP_H

#define pthread_mutex_init sim_mutex_init
#define pthread_mutex_destroy sim_mutex_destroy
#define pthread_mutex_lock sim_mutex_lock
#define pthread_mutex_unlock sim_mutex_unlock
#define pthread_cond_init sim_cond_init
#define pthread_cond_destroy sim_cond_destroy
#define pthread_cond_wait sim_cond_wait
#define pthread_cond_signal sim_cond_signal
#define pthread_join sim_thread_join
#define sched_yield sim_sched_yield
#define getrandom sim_getrandom
#define getpid sim_getpid
/* Small segments have many chunks then, and a life is not spent in clearing large ones. */
#define WEIR__CHUNKS_SMALLER 16u

/* Another fiber may run before each access of the protocol: between a producer's reservation, its
 * copy and its commit, between any two steps of the flusher and of those who wait. */
#include <stdatomic.h>
#include <stdint.h>
extern uint32_t sim_point_left;
void sim_point_reached(void);
/* A function, so that two accesses in one expression come one after the other. */
static inline void sim_point(void)
{
    if (--sim_point_left == 0) {
        sim_point_reached();
    }
}
#define SIM_POINT() sim_point()
#define WEIR__ATOMIC_MODEL 1
#define WEIR__ATOMIC(type) _Atomic(type)
#define weir__load(p, order) (SIM_POINT(), atomic_load_explicit((p), memory_order_##order))
#define weir__store(p, v, order)                                                                   \
    (SIM_POINT(), atomic_store_explicit((p), (v), memory_order_##order))
#define weir__exchange(p, v, order)                                                                \
    (SIM_POINT(), atomic_exchange_explicit((p), (v), memory_order_##order))
#define weir__fetch_add(p, v, order)                                                               \
    (SIM_POINT(), atomic_fetch_add_explicit((p), (v), memory_order_##order))
#define weir__fetch_sub(p, v, order)                                                               \
    (SIM_POINT(), atomic_fetch_sub_explicit((p), (v), memory_order_##order))
#define weir__fetch_or(p, v, order)                                                                \
    (SIM_POINT(), atomic_fetch_or_explicit((p), (v), memory_order_##order))
#define weir__cas(p, expected, v, order)                                                           \
    (SIM_POINT(),                                                                                  \
     atomic_compare_exchange_strong_explicit((p),                                                  \
                                             (expected),                                           \
                                             (v),                                                  \
                                             memory_order_##order,                                 \
                                             memory_order_relaxed))

/* No page of a process that never forks; advice about memory that is thrown away. */
#define mmap sim_mmap
#define madvise sim_madvise

#endif
