/* SPDX-License-Identifier: Apache-2.0
 * A simulated machine for the engine: one OS thread, whose fibers are the engine's threads and the
 * producers; a clock that moves when nobody can run; one source of chance. Same seed, same history.
 *
 * A fiber runs until it blocks on a futex word, sleeps, waits for the device, or reaches a point
 * where the machine may switch (each futex call, each I/O call, some atomic accesses: remap.h). Which fiber goes on is chance.
 * A crash leaves all fibers where they are, for good. */
#ifndef WEIR_SIM_MACHINE_H
#define WEIR_SIM_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- chance ---------------------------------------------------------------------------------- */

uint64_t sim_random(void);
/* 0 .. limit-1. */
uint64_t sim_below(uint64_t limit);
/* True in so many of 1,000 cases. */
bool sim_chance(unsigned per_mille);
void sim_seed(uint64_t seed);
/* The choices to come of sim_below and sim_chance are taken from these bytes, for as long as there are
 * any; then by the seed again. Borrowed until they are used up or the next call. */
void sim_script(const uint8_t *bytes, size_t count);
/* A value that depends on every choice made so far: two runs of a seed must agree on it. */
uint64_t sim_digest(void);
void sim_digest_add(uint64_t value);

/* ---- fibers ---------------------------------------------------------------------------------- */

#define SIM_FIBERS_MAX 48u

/* Empties the machine: no fibers, memory all free; the clock goes on. */
void sim_machine_reset(void);
/* Starts a fiber; it runs when sim_machine_run chooses it. */
void sim_spawn(void (*run)(void *), void *arg);

enum sim_end {
    SIM_DONE,    /* the fibers that `until` waits for have ended */
    SIM_CRASHED, /* sim_crash was called */
    SIM_HUNG,    /* nobody can ever run again, or there was no end to it */
};
/* Runs fibers until *left is 0. */
enum sim_end sim_machine_run(const unsigned *left);
/* From a fiber: the machine loses its power here. Does not return. */
void sim_crash(void) __attribute__((noreturn));
/* The machine crashes after so many more switches, wherever they are; UINT64_MAX: it does not. */
void sim_crash_at_switch(uint64_t more);
/* From a fiber: another one may run now. Does nothing outside of fibers. */
void sim_switch(void);
/* From a fiber: sleeps until sim_rouse(token), or until deadline_ns (UINT64_MAX: none). Returns false
 * at the deadline. */
bool sim_block(const void *token, uint64_t deadline_ns);
/* Wakes up to count of those who sleep on token; returns how many. */
unsigned sim_rouse(const void *token, unsigned count);
/* Where the engine's atomic accesses are, another fiber may run, too: at every mean-th, by chance;
 * now and then the fiber stays away for milliseconds, as a thread may. 0: at none. */
void sim_points(uint32_t mean);
uint64_t sim_now_ns(void);
/* Switches since the reset: what a hang is measured by. */
uint64_t sim_switches(void);

/* ---- memory ---------------------------------------------------------------------------------- */

/* For struct weir_memory_hooks: memory that the next reset takes back. fail_at: the call of that
 * number gets nothing, and all behind it if for_ever; 0: none. */
void *sim_alloc(void *ctx, size_t bytes, size_t align);
void sim_release(void *ctx, void *block, size_t bytes);
void sim_alloc_fail(uint64_t fail_at, bool for_ever);
uint64_t sim_alloc_calls(void);
uint64_t sim_alloc_live(void);

#endif
