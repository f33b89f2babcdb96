/* SPDX-License-Identifier: Apache-2.0
 * The watchdog: producers that hold up the log, and a flusher that does not come back. Keeper
 * thread. */
#include "api/log.h"
#include "base/num.h"
#include "base/plant.h"

#include <stdio.h>

/* Tells of a stall once, and gives the log up beyond the limit. told: of this one already. Return:
 * whether it has been told of by now. */
static bool
stall_judge(struct weir_log *log, bool told, weir_lsn lsn, uint64_t age_ns, const char *what)
{
    const struct weir_options *options = &log->options;
    const unsigned long long age_ms = age_ns / 1000000;
    char text[200];

    if (age_ns < options->stall_warn_ns) {
        return told;
    }
    if (!told) {
        snprintf(text,
                 sizeof text,
                 "%s the batch at LSN %llu for %llu ms; nothing behind it becomes durable",
                 what,
                 (unsigned long long)lsn,
                 age_ms);
        weir__log_event(log, WEIR_EVENT_STALL, 0, lsn, age_ns, text);
    }
    if (options->stall_limit_ns != 0 && age_ns >= options->stall_limit_ns) {
        struct weir__fault fault = WEIR__FAULT_NONE;
        weir__fault_set(&fault,
                        WEIR_ESTALLED,
                        "",
                        UINT64_MAX,
                        lsn,
                        "%s the batch at LSN %llu for %llu ms, over the limit of %llu ms",
                        what,
                        (unsigned long long)lsn,
                        age_ms,
                        (unsigned long long)(options->stall_limit_ns / 1000000));
        weir__log_fail(log, &fault);
    }
    return true;
}

/* A producer that sits on a reservation. */
static void watch_stragglers(struct weir_log *log, uint64_t now_ns)
{
    struct weir__watchdog *dog = &log->watchdog;
    weir_lsn lsn = 0;
    const uint64_t clock_ns = weir__stage_straggler(&log->stage, now_ns, &lsn);

    if (clock_ns == 0) {
        dog->straggler = UINT64_MAX;
        return;
    }
    if (lsn != dog->straggler) {
        dog->straggler = lsn;
        dog->straggler_ns = dog->time_ns;
    }
    const uint64_t age_ns = weir__min_u64(clock_ns, dog->time_ns - dog->straggler_ns);
    if (stall_judge(log,
                    dog->straggler_told == lsn,
                    lsn,
                    age_ns,
                    "a producer has held a reservation in")) {
        dog->straggler_told = lsn;
    }
}

/* A producer that took the flusher's part and does not come back with it. */
static void watch_lending(struct weir_log *log)
{
    struct weir__watchdog *dog = &log->watchdog;
    uint32_t lending;
    const bool before = dog->lent;

    dog->lent = weir__stage_lent(&log->stage, &lending);
    if (!dog->lent || WEIR__PLANTED(lent_not_watched)) {
        return;
    }
    if (!before || lending != dog->lending) {
        dog->lending = lending;
        dog->lending_ns = dog->time_ns;
    }
    if (stall_judge(log,
                    dog->lending_told == lending,
                    dog->durable,
                    dog->time_ns - dog->lending_ns,
                    "a producer that was alone has not come back from the write of")) {
        dog->lending_told = lending;
    }
}

/* Something waits for nobody but the flusher, and nothing becomes durable: its thread is stopped, or
 * the kernel does not answer. From outside that is a slow device, which is no fault: told, never more. */
static void watch_flusher(struct weir_log *log)
{
    struct weir__watchdog *dog = &log->watchdog;
    const uint64_t age_ns = dog->time_ns - weir__max_u64(dog->durable_ns, dog->blamed_ns);
    char text[200];

    if (dog->straggler != UINT64_MAX || dog->lent) {
        dog->blamed_ns = dog->time_ns;
        return;
    }
    /* Relaxed: nobody writes to a log that has failed, and one word too many does no harm. */
    if (age_ns < log->options.stall_warn_ns || dog->slow_told == dog->durable ||
        weir__load(&log->stage.failed, relaxed) || !weir__stage_due(&log->stage, dog->durable)) {
        return;
    }
    dog->slow_told = dog->durable;
    snprintf(
        text,
        sizeof text,
        "nothing above LSN %llu has become durable for %llu ms: the device does not answer, or "
        "the flusher's thread is stopped",
        (unsigned long long)dog->durable,
        (unsigned long long)(age_ns / 1000000));
    weir__log_event(log, WEIR_EVENT_SLOW, 0, dog->durable, age_ns, text);
}

void weir__log_watch(struct weir_log *log, uint64_t now_ns)
{
    struct weir__watchdog *dog = &log->watchdog;
    const weir_lsn durable = weir__load(&log->stage.level[WEIR__LEVEL_DURABLE], acquire);

    dog->time_ns += weir__min_u64(now_ns - dog->look_ns, 2 * WEIR__KEEPER_TICK_NS);
    dog->look_ns = now_ns;
    if (durable != dog->durable || weir__stage_end(&log->stage) <= durable) {
        dog->durable = durable;
        dog->durable_ns = dog->time_ns;
    } else if (dog->time_ns - dog->durable_ns >= log->options.stall_warn_ns) {
        /* Reserved long ago, and nothing came of it. A lone producer that never commits wakes
         * nobody: the flusher is to seal its slot, so that it is seen below. */
        weir__stage_rouse(&log->stage);
    }
    watch_stragglers(log, now_ns);
    watch_lending(log);
    watch_flusher(log);
}
