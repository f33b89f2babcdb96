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
/* No page of a process that never forks; advice about memory that is thrown away. */
#define mmap sim_mmap
#define madvise sim_madvise

#endif
