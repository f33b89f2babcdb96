/* SPDX-License-Identifier: Apache-2.0
 * Histories. The real engine runs on the simulated machine; what its interface told is written down
 * in a ledger outside of it, and compared with what a cursor shows after each opening.
 *
 * What must hold, whatever was cut and whatever failed:
 *   every record that was acknowledged, or shown at a level, is there, once, byte for byte, at its
 *   LSN; nothing is there that was not appended, and nothing that was cut or trimmed comes back;
 *   no gap before the end; of a group all records or none, next to each other;
 *   an opening is never refused as corrupt (unless the device itself changed bytes), and a look by
 *   weir_verify comes to the same end;
 *   nobody sleeps for ever.
 *
 * A life is: an opening, the check, some traffic, a close. Most are crashed: while they open, at
 * some write, sync or change of names, at a switch of fibers anywhere, or while they close. */
#include "history.h"

#include "machine.h"
#include "state.h"

#include "api/log.h"
#include "base/crc32c.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long llu;

struct history history;

void wrong(uint64_t *count, const char *format, ...)
{
    va_list arguments;

    (*count)++;
    if (!history.failed) {
        history.failed = true;
        va_start(arguments, format);
        (void)vsnprintf(history.why, history.why_bytes, format, arguments);
        va_end(arguments);
    }
}

void tell(const char *format, ...)
{
    va_list arguments;

    if (history.options->print) {
        va_start(arguments, format);
        (void)vprintf(format, arguments);
        va_end(arguments);
        (void)fflush(stdout);
    }
}

/* ---- where a life is crashed ----------------------------------------------------------------- */

enum place {
    PLACE_NONE = 0,
    PLACE_OPEN,
    PLACE_EARLY,
    PLACE_RUN,
    PLACE_NAMES,
    PLACE_SWITCH,
    PLACE_CLOSE,
    PLACES,
};

static enum place crash_place;

static const char *const place_names[] = {
    "none",
    "in the opening",
    "soon after the opening",
    "running",
    "where names change",
    "at a switch",
    "in the close",
};

/* This part of the life begins: if it is the one, the crash is on its way. An opening takes some 12
 * steps, a close 3, what lies between mostly 5 to 50. */
static void crash_arm(enum place here)
{
    if (crash_place == PLACE_OPEN && here == PLACE_OPEN) {
        sim_disk_crash_after(1 + sim_below(12));
    } else if (crash_place == PLACE_EARLY && here == PLACE_RUN) {
        sim_disk_crash_after(1 + sim_below(8));
    } else if (crash_place == PLACE_RUN && here == PLACE_RUN) {
        const uint64_t steps = sim_chance(600) ? 25 : 120;
        sim_disk_crash_after(1 + sim_below(steps));
    } else if (crash_place == PLACE_NAMES && here == PLACE_RUN) {
        const unsigned names = 1 + (unsigned)sim_below(sim_chance(700) ? 2 : 6);
        sim_disk_crash_at_name(names, sim_below(6));
    } else if (crash_place == PLACE_SWITCH && here == PLACE_OPEN) {
        sim_crash_at_switch(sim_below(history.points_mean == 0 ? 200 : 3000));
    } else if (crash_place == PLACE_CLOSE && here == PLACE_CLOSE) {
        sim_disk_crash_after(1 + sim_below(3));
    }
}

static unsigned place_weights[PLACES];

/* Histories differ in where they like to crash: some keep to one place, life for life. */
static void places_choose(void)
{
    static const unsigned usual[PLACES] = {6, 22, 18, 24, 10, 10, 10};

    for (unsigned i = 0; i < PLACES; i++) {
        static const unsigned factors[] = {0, 1, 1, 1, 6};
        place_weights[i] = usual[i] * factors[sim_below(5)];
    }
    place_weights[PLACE_NONE] = usual[PLACE_NONE];
}

static void crash_choose(bool again_in_opening)
{
    unsigned sum = 0;

    crash_place = PLACE_OPEN;
    if (again_in_opening && sim_chance(400)) {
        return;
    }
    for (unsigned i = 0; i < PLACES; i++) {
        sum += place_weights[i];
    }
    uint64_t dice = sim_below(sum);
    unsigned place = 0;
    while (dice >= place_weights[place]) {
        dice -= place_weights[place];
        place++;
    }
    crash_place = (enum place)place;
}

/* ---- a life ---------------------------------------------------------------------------------- */

static uint64_t misread_count(void)
{
    return sim_fault_count[SIM_FAULT_read_error] + sim_fault_count[SIM_FAULT_open_error];
}

static void life_main(void *arg)
{
    (void)arg;
    struct weir_error error;

    memset(&error, 0, sizeof error);
    const uint64_t misread = misread_count();
    crash_arm(PLACE_OPEN);
    history.open_code =
        weir__open_with(sim_disk_io(), "log", &history.log_options, &history.log, &error);
    history.error = error;
    if (history.open_code != 0) {
        history.left = 0;
        return;
    }
    history.opened = true;
    history.misread = misread_count() != misread;
    weir_log_report(history.log, &history.report);
    ledger_check();
    crash_arm(PLACE_RUN);
    if (!history.failed) {
        history.working = history.producers;
        for (unsigned i = 0; i < history.producers; i++) {
            sim_spawn(producer_main, (void *)(uintptr_t)i);
        }
        history.reading = history.readers;
        for (unsigned i = 0; i < history.readers; i++) {
            sim_spawn(reader_main, (void *)(uintptr_t)i);
        }
        if (history.options->faults && sim_chance(60)) {
            history.working++;
            sim_spawn(filler_main, NULL);
        }
        if (sim_chance(80)) {
            history.working++;
            sim_spawn(closer_main, NULL);
        }
    }
    while (history.working > 0) {
        (void)sim_block(&history.working, UINT64_MAX);
    }
    crash_arm(PLACE_CLOSE);
    if (history.reading > 0) {
        /* A cursor at the tail waits for more, until there is never any. */
        if (weir_shutdown(history.log, WEIR_FOREVER) == 0) {
            ledger_acknowledge_all(UINT32_MAX, ACK_DURABLE);
        }
        while (history.reading > 0) {
            (void)sim_block(&history.reading, UINT64_MAX);
        }
    }
    history.closing = true;
    history.close_code = weir_close(history.log, &error);
    history.error = error;
    history.left = 0;
}

static void opening_judge(void)
{
    const bool corrupt = history.open_code == WEIR_ECORRUPT || history.open_code == WEIR_EFORMAT ||
                         history.open_code == WEIR_ENOLOG;

    history.counts->failed_opens++;
    tell("  opening: %s: %s\n", weir_error_name(history.open_code), history.error.text);
    if (corrupt ? !history.damaged : !history.options->faults) {
        wrong(&history.counts->refused,
              "opening: %s: %.300s",
              weir_error_name(history.open_code),
              history.error.text);
    }
}

static void closing_judge(void)
{
    if (history.close_code == 0) {
        history.counts->clean_closes++;
        tell("  closed\n");
        ledger_acknowledge_all(UINT32_MAX, ACK_DURABLE);
        return;
    }
    history.counts->poisoned++;
    tell("  closed: %s: %s\n", weir_error_name(history.close_code), history.error.text);
    if (!history.options->faults) {
        wrong(&history.counts->refused,
              "closing: %s: %.300s",
              weir_error_name(history.close_code),
              history.error.text);
    }
}

/* The life is over: what is left of it for the next one. */
static void life_end(enum sim_end end)
{
    struct history_counts *const counts = history.counts;

    if (end == SIM_HUNG) {
        wrong(&counts->hung,
              "nobody can go on (%u producers, %u readers, %s)",
              history.working,
              history.reading,
              history.opened ? "opened" : "opening");
        return;
    }
    if (history.opened && !history.closing) {
        struct weir_stats stats;
        weir_stats(history.log, &stats);
        counts->rotations += stats.rotations;
        counts->recycled += stats.segments_recycled;
        counts->alone += stats.batches_alone;
        counts->covered += stats.covering_syncs;
    }
    if (end == SIM_DONE && history.open_code != 0) {
        opening_judge();
    } else if (end == SIM_DONE) {
        closing_judge();
    }
    counts->crashes += end == SIM_CRASHED;
    history.crashed_openings =
        end == SIM_CRASHED && !history.opened ? history.crashed_openings + 1 : 0;
    counts->in_recovery += history.crashed_openings >= 1;
    counts->again += history.crashed_openings >= 2;
    counts->and_again += history.crashed_openings >= 3;
    const bool power = sim_chance(history.power_per_mille);
    if (power || sim_disk_lost_bytes()) {
        ledger_power_lost(); /* what was only written is as good as lost where a sync has failed */
    }
    if (power) {
        counts->power_cuts += end == SIM_CRASHED;
        sim_disk_power_cut();
    } else {
        sim_disk_kill();
    }
    tell("  %s%s%s, %u records so far\n",
         end == SIM_CRASHED ? "crashed " : "over",
         end == SIM_CRASHED ? place_names[crash_place] : "",
         power ? ", power cut" : ", process gone",
         history.record_count);
    if (power && sim_chance(history.copy_per_mille)) {
        sim_disk_lose_copy();
    }
    if (history.options->rot && sim_chance(300)) {
        history.damaged |= sim_disk_rot();
    }
}

static void life_run(void)
{
    history.log = NULL;
    history.left = 1;
    history.opened = false;
    history.closing = false;
    history.shut_down = false;
    history.working = 0;
    history.reading = 0;
    history.open_code = 0;
    history.close_code = 0;
    history.counts->lives++;
    sim_machine_reset();
    if (history.disk.per_mille[SIM_FAULT_no_memory] > 0 && sim_chance(100)) {
        const uint64_t at = 1 + sim_below(60);
        sim_alloc_fail(at, sim_chance(300));
        sim_fault_count[SIM_FAULT_no_memory]++;
    }
    sim_points(history.points_mean);
    sim_spawn(life_main, NULL);
    life_end(sim_machine_run(&history.left));
}

/* ---- a look from outside --------------------------------------------------------------------- */

static struct {
    bool made;
    bool lost_bytes; /* a failed sync: the page cache may show what a reader past it does not see */
    int code;
    struct weir_report report;
} look;

static void look_main(void *arg)
{
    (void)arg;
    look.code = weir_verify("log", NULL, NULL, &look.report, NULL);
    look.made = true;
    history.left = 0;
}

/* weir_verify over what the crash has left, with a device that does what it is told. */
static void look_run(void)
{
    struct sim_disk_config calm = history.disk;

    memset(calm.per_mille, 0, sizeof calm.per_mille);
    calm.slow_ns = 0;
    sim_disk_configure(&calm);
    sim_machine_reset();
    history.left = 1;
    sim_spawn(look_main, NULL);
    if (sim_machine_run(&history.left) != SIM_DONE) {
        wrong(&history.counts->hung, "weir_verify does not end");
    }
    sim_disk_kill(); /* it leaves nothing behind */
    look.lost_bytes = sim_disk_lost_bytes();
    sim_disk_configure(&history.disk);
    history.counts->looks++;
}

/* The opening that followed must have come to the same end by the same name. */
static void look_judge(void)
{
    const struct weir_report *const own = &history.report;
    const struct weir_report *const seen = &look.report;

    if (history.damaged || look.code == WEIR_ENOLOG || history.failed) {
        return; /* damage below the checkpoint is seen by one of them only */
    }
    if (look.code != 0 || seen->verdict == WEIR_VERDICT_CORRUPT ||
        seen->verdict == WEIR_VERDICT_UNREADABLE) {
        wrong(&history.counts->refused,
              "weir_verify: %s: %.300s",
              weir_error_name(look.code),
              look.code == 0 ? seen->why : "");
        return;
    }
    /* An opening that could not read the newest control copy went by the other one; a buffered one
     * goes by a copy whose sync failed, for as long as the page cache shows it. */
    if (history.opened && !history.misread && !look.lost_bytes &&
        (seen->verdict != own->verdict || seen->end_lsn != own->end_lsn ||
         seen->bytes_cut != own->bytes_cut)) {
        wrong(&history.counts->refused,
              "weir_verify: verdict %d, end %llu, cut %llu; the opening: %d, %llu, %llu",
              (int)seen->verdict,
              (llu)seen->end_lsn,
              (llu)seen->bytes_cut,
              (int)own->verdict,
              (llu)own->end_lsn,
              (llu)own->bytes_cut);
    }
}

/* ---- a history ------------------------------------------------------------------------------- */

static void faults_choose(void)
{
    uint16_t *const rate = history.disk.per_mille;

    memset(rate, 0, sizeof history.disk.per_mille);
    if (sim_chance(700)) {
        rate[SIM_FAULT_late] = 1;
    }
    rate[SIM_FAULT_torn] = sim_chance(300) ? 200 : 0;
    rate[SIM_FAULT_stale_frames] = sim_chance(400) ? 1 : 0;
    if (sim_chance(400)) {
        history.disk.slow_ns = sim_chance(500) ? 20000 : 200000;
    }
    if (history.storm) {
        history.disk.slow_ns = 100000;
        history.disk.fua = sim_chance(300);
    }
    if (!history.options->faults || history.calm) {
        return;
    }
    /* A swarm: most kinds are off, the others at a rate of their own. */
    static const struct {
        enum sim_fault kind;
        uint16_t most;
    } kinds[] = {
        {SIM_FAULT_write_error, 20},
        {SIM_FAULT_write_short, 200},
        {SIM_FAULT_write_zero, 20},
        {SIM_FAULT_write_again, 100},
        {SIM_FAULT_interrupted, 100},
        {SIM_FAULT_write_dead, 10},
        {SIM_FAULT_sync_error, 60},
        {SIM_FAULT_sync_dead, 20},
        {SIM_FAULT_read_error, 60},
        {SIM_FAULT_read_short, 200},
        {SIM_FAULT_no_space, 20},
        {SIM_FAULT_name_error, 20},
        {SIM_FAULT_open_error, 20},
        {SIM_FAULT_ring_refused, 300},
        {SIM_FAULT_ring_broken, 3},
        {SIM_FAULT_push_refused, 10},
        {SIM_FAULT_no_memory, 1},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (sim_chance(150)) {
            rate[kinds[i].kind] = (uint16_t)(1 + sim_below(kinds[i].most));
        }
    }
    if (history.options->rot) {
        rate[SIM_FAULT_misdirected] = sim_chance(300) ? 5 : 0;
        rate[SIM_FAULT_misread] = sim_chance(300) ? 5 : 0;
        rate[SIM_FAULT_lost_write] = sim_chance(300) ? 5 : 0;
        history.damaged = rate[SIM_FAULT_misdirected] > 0 || rate[SIM_FAULT_misread] > 0 ||
                          rate[SIM_FAULT_lost_write] > 0;
    }
}

/* What a log has for all its lives. */
static void log_choose(void)
{
    struct weir_options *const o = &history.log_options;

    *o = (struct weir_options)WEIR_OPTIONS_INIT;
    history.hooks = (struct weir_memory_hooks){sim_alloc, sim_release, NULL};
    o->memory = &history.hooks;
    o->block_bytes = sim_chance(700) ? 512 : 4096;
    o->first_lsn = sim_chance(200) ? o->block_bytes * sim_below(1000) : 0;
    history.sizes = (enum sizes)sim_below(SIZES_COUNT);
    history.size_same = sim_chance(700) ? 8 : (uint32_t)sim_below(700);
    static const uint32_t counts[] = {3, 20, 24};
    history.group_same = counts[sim_below(3)];
    static const unsigned trims[] = {0, 30, 30, 200};
    history.trim_per_mille = trims[sim_below(4)];
    static const unsigned groups[] = {0, 200, 200, 900};
    history.group_per_mille = groups[sim_below(4)];
    static const unsigned power[] = {200, 700, 700, 1000};
    history.power_per_mille = power[sim_below(4)];
    places_choose();
    history.calm = sim_chance(300);
    history.storm = sim_chance(120) || history.options->storm;
    if (history.storm) {
        history.sizes = SIZES_LARGE;
    }
    static const unsigned buffered[] = {0, 100, 500};
    history.buffered_per_mille = buffered[sim_below(3)];
    history.copy_per_mille = history.options->faults && sim_chance(100) ? 300 : 0;
}

/* What each opening may choose anew. */
static void life_choose(bool first)
{
    struct weir_options *const o = &history.log_options;

    if (first || sim_chance(300)) {
        o->segment_bytes = o->block_bytes * (16 + 16 * sim_below(5));
        if (o->block_bytes == 512 && sim_chance(500)) {
            o->segment_bytes = 8192 + 4096 * sim_below(4);
        }
    }
    if (first || sim_chance(300)) {
        o->io = (enum weir_io)sim_below(4);
        o->slot_bytes = 4096u << sim_below(3);
        o->slots = 2 + (uint32_t)sim_below(sim_chance(300) ? 12 : 4);
        o->max_inflight = 1 + (uint32_t)sim_below(sim_chance(300) ? 8 : 4);
        o->spare_segments = 1 + (uint32_t)sim_below(2);
        o->recycle_segments = 1 + (uint32_t)sim_below(6);
        o->policy = (enum weir_policy)sim_below(3);
    }
    o->buffered = sim_chance(history.buffered_per_mille);
    if (o->slot_bytes > o->segment_bytes - o->block_bytes) {
        o->slot_bytes = 4096;
    }
    o->record_bytes_max = (uint32_t)(o->segment_bytes - 2 * o->block_bytes - 512);
    static const unsigned at_once[] = {0, 300, 300, 1000};
    history.at_once_per_mille = at_once[sim_below(4)];
    history.producers = sim_chance(200) ? 1 : 1 + (unsigned)sim_below(PRODUCERS_MAX);
    const uint64_t many = sim_below(10);
    history.appends = many < 4   ? 1 + (unsigned)sim_below(8)
                      : many < 8 ? 1 + (unsigned)sim_below(30)
                                 : 40 + (unsigned)sim_below(80);
    if (crash_place == PLACE_RUN || crash_place == PLACE_NAMES) {
        history.appends += 30; /* so that it is met */
    }
    static const uint32_t points[] = {0, 0, 400, 60, 8};
    history.points_mean = history.calm ? 0 : points[sim_below(5)];
    static const unsigned patience[] = {1000, 1000, 300, 50};
    history.patience = patience[sim_below(4)];
    if (history.storm) {
        o->slot_bytes = 4096;
        o->slots = 6 + (uint32_t)sim_below(10);
        o->max_inflight = 3 + (uint32_t)sim_below(6);
        o->segment_bytes = 65536;
        o->record_bytes_max = 32768;
        o->io = sim_chance(600) ? WEIR_IO_AUTO : o->io;
        history.producers = PRODUCERS_MAX;
        history.patience = sim_chance(500) ? 50 : 400;
    }
    history.readers = sim_chance(300) ? 1 + (unsigned)sim_below(READERS_MAX) : 0;
    history.pinned = history.readers > 0 && sim_chance(300);
}

static void life_tell(unsigned life)
{
    static const char *const ways[] = {"auto", "chain", "dsync", "posix"};
    const struct weir_options *const o = &history.log_options;

    tell("life %u: block %u, segments %llu, %u slots of %u, io %s%s; %u producers of %u, %u "
         "readers; crash: %s\n",
         life,
         o->block_bytes,
         (llu)o->segment_bytes,
         o->slots,
         o->slot_bytes,
         ways[o->io],
         o->buffered ? ", buffered" : "",
         history.producers,
         history.appends,
         history.readers,
         place_names[crash_place]);
}

static void lives_run(void)
{
    const unsigned most = history.options->depth;
    const unsigned lives = (most + 1) / 2 + (unsigned)sim_below(most / 2 + 1);
    bool in_opening = false;

    for (unsigned life = 0; life < lives && !history.failed; life++) {
        crash_choose(in_opening);
        life_choose(life == 0);
        look.made = false;
        if (life > 0 && sim_chance(100)) {
            look_run();
        }
        if (history.failed) {
            return;
        }
        history.disk.space_bytes = UINT64_MAX;
        if (history.options->faults && sim_chance(40)) {
            history.disk.space_bytes =
                sim_disk_used() + sim_below(2 * history.log_options.segment_bytes);
        }
        sim_disk_configure(&history.disk);
        life_tell(life);
        life_run();
        in_opening = !history.opened;
        if (look.made) {
            look_judge();
        }
        if (history.damaged && history.open_code != 0) {
            return; /* refused, as it should be */
        }
    }
    if (history.failed) {
        return;
    }
    /* At last without faults: it opens, and holds what it must. */
    memset(history.disk.per_mille, 0, sizeof history.disk.per_mille);
    history.disk.space_bytes = UINT64_MAX;
    sim_disk_configure(&history.disk);
    crash_place = PLACE_NONE;
    life_choose(false);
    history.producers = sim_chance(300) ? 1 : 0;
    history.readers = 0;
    life_tell(lives);
    life_run();
    if (!history.failed && history.open_code != 0 && !history.damaged) {
        wrong(&history.counts->refused,
              "opening without faults: %s: %.300s",
              weir_error_name(history.open_code),
              history.error.text);
    }
}

bool history_run(uint64_t seed,
                 const struct history_options *options,
                 struct history_counts *counts,
                 uint64_t *digest_out,
                 char *why,
                 size_t why_bytes)
{
    /* The first checksum of a process looks for the best way to make them; none may be the first. */
    (void)weir__crc32c(0, "", 0);
    sim_seed(seed);
    history.options = options;
    history.counts = counts;
    history.why = why;
    history.why_bytes = why_bytes;
    history.failed = false;
    history.damaged = false;
    history.crashed_openings = 0;
    counts->histories++;
    ledger_reset();
    log_choose();
    history.disk = (struct sim_disk_config){.space_bytes = UINT64_MAX};
    history.disk.sector_bytes =
        history.log_options.block_bytes == 512 || sim_chance(500) ? 512 : 4096;
    history.disk.direct = sim_chance(800);
    history.disk.fua = sim_chance(500);
    faults_choose();
    sim_machine_reset();
    sim_disk_format(&history.disk);
    lives_run();
    *digest_out = sim_digest() ^ sim_disk_hash();
    return !history.failed;
}
