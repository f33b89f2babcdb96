/* SPDX-License-Identifier: Apache-2.0
 * Histories. The real engine runs on the simulated machine; what its interface told is written down
 * in a ledger outside of it, and compared with what a cursor shows after each recovery.
 *
 * What must hold, whatever was cut and whatever failed:
 *   every record that was acknowledged is there, once, byte for byte, at its LSN;
 *   nothing is there that was not appended, and nothing that was cut before comes back;
 *   no gap before the end; of a group all records or none, next to each other;
 *   a producer's records in its order;
 *   an opening is never refused as corrupt (unless the device itself changed bytes);
 *   nobody sleeps for ever. */
#include "history.h"

#include "disk.h"
#include "machine.h"

#include "api/log.h"
#include "port/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

#define RECORDS_MAX 4096u
#define PAYLOAD_MAX 9000u
#define GROUP_MAX 5u
#define PRODUCERS_MAX 4u

enum ack { ACK_NONE = 0, ACK_WRITTEN, ACK_DURABLE };

struct record {
    weir_lsn lsn; /* WEIR_LSN_NONE: the call had not returned */
    uint32_t producer;
    uint32_t group; /* index of its group's first record */
    uint32_t group_count;
    uint32_t bytes;
    uint8_t *payload;
    enum ack ack;
    bool gone; /* was cut: must not come back */
    bool seen;
};

struct history {
    const struct history_options *options;
    struct history_counts *counts;
    char *why;
    size_t why_bytes;
    bool failed;
    struct record records[RECORDS_MAX];
    unsigned record_count;
    weir_lsn trimmed; /* a trim up to here was asked for */
    struct weir_options log_options;
    struct weir_memory_hooks hooks;
    struct sim_disk_config disk;
    unsigned producers;
    unsigned appends; /* each producer's, per life */
    bool damaged;     /* rot and such: the log may be refused */

    /* The life under way. */
    struct weir_log *log;
    unsigned left; /* fibers that the life waits for */
    unsigned working;
    bool opened;
    bool ended; /* closed: all that was appended is durable */
    int open_code;
    int close_code;
    bool poisoned;
    struct weir_error error;
};

static struct history history;

static void wrong(uint64_t *count, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void wrong(uint64_t *count, const char *format, ...)
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

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *format, ...)
{
    va_list arguments;

    if (history.options->print) {
        va_start(arguments, format);
        (void)vprintf(format, arguments);
        va_end(arguments);
    }
}

/* ---- records --------------------------------------------------------------------------------- */

/* A payload: by chance bytes, or a piece of what a segment holds, so that frames and batches of the
 * log stand inside of records. */
static void payload_make(struct record *record)
{
    record->payload = malloc(record->bytes + 1u);
    if (record->payload == NULL) {
        abort();
    }
    if (record->bytes >= 64 && history.disk.per_mille[SIM_FAULT_stale_frames] > 0 &&
        history.record_count > 4 && sim_chance(500)) {
        /* The header and the frames of a batch begin with these. */
        static const uint8_t batch[4] = {0x57, 0x42, 0x41, 0x54};
        const struct record *const other = &history.records[sim_below(history.record_count)];
        memset(record->payload, 0, record->bytes);
        memcpy(record->payload, batch, sizeof batch);
        if (other->payload != NULL) {
            const size_t some = other->bytes < record->bytes - 8 ? other->bytes : record->bytes - 8;
            memcpy(record->payload + 8, other->payload, some);
        }
        sim_fault_count[SIM_FAULT_stale_frames]++;
        return;
    }
    uint64_t word = 0;
    for (uint32_t i = 0; i < record->bytes; i++) {
        word = i % 8 == 0 ? sim_random() : word >> 8;
        record->payload[i] = (uint8_t)word;
    }
}

static uint32_t size_choose(void)
{
    const uint64_t dice = sim_below(20);
    const uint64_t most = history.log_options.record_bytes_max;
    if (dice == 0) {
        return 0;
    }
    if (dice < 14) {
        return (uint32_t)sim_below(200);
    }
    if (dice < 19) {
        return (uint32_t)sim_below(most < 2000 ? most : 2000);
    }
    return (uint32_t)sim_below((most < PAYLOAD_MAX ? most : PAYLOAD_MAX) - 64);
}

/* Writes a group down before it is appended: from here on it may be found. False: no room. */
static bool group_prepare(uint32_t producer, unsigned count, unsigned *first_out)
{
    if (history.record_count + count > RECORDS_MAX) {
        return false;
    }
    *first_out = history.record_count;
    for (unsigned i = 0; i < count; i++) {
        struct record *const record = &history.records[history.record_count];
        *record = (struct record){.lsn = WEIR_LSN_NONE,
                                  .producer = producer,
                                  .group = *first_out,
                                  .group_count = count};
        record->bytes = count == 1 ? size_choose() : (uint32_t)sim_below(150);
        payload_make(record);
        history.record_count++;
    }
    return true;
}

static void group_acknowledge(unsigned first, enum ack ack)
{
    for (unsigned i = 0; i < history.records[first].group_count; i++) {
        struct record *const record = &history.records[first + i];
        if (record->ack < ack) {
            history.counts->acknowledged += ack == ACK_DURABLE;
            record->ack = ack;
        }
    }
}

/* The call has told that it was not appended, and never will be. */
static void group_refused(unsigned first)
{
    for (unsigned i = 0; i < history.records[first].group_count; i++) {
        history.records[first + i].gone = true;
    }
}

/* ---- producers ------------------------------------------------------------------------------- */

static int group_append(unsigned first, int64_t timeout_ns)
{
    struct weir_piece pieces[GROUP_MAX];
    struct weir_record records[GROUP_MAX];
    weir_lsn lsns[GROUP_MAX];
    const unsigned count = history.records[first].group_count;

    for (unsigned i = 0; i < count; i++) {
        const struct record *const record = &history.records[first + i];
        pieces[i] = (struct weir_piece){record->payload, record->bytes};
        records[i] = (struct weir_record){&pieces[i], 1, first + i};
    }
    const int code = weir_append_group(history.log, records, count, timeout_ns, lsns);
    if (code == 0) {
        history.counts->appended += count;
        for (unsigned i = 0; i < count; i++) {
            history.records[first + i].lsn = lsns[i];
        }
    } else {
        group_refused(first);
    }
    return code;
}

static void producer_main(void *arg)
{
    const uint32_t producer = (uint32_t)(uintptr_t)arg;
    static const int64_t timeouts[] = {WEIR_FOREVER, WEIR_FOREVER, WEIR_TRY, 5000000};

    for (unsigned i = 0; i < history.appends; i++) {
        unsigned first;
        const unsigned count = sim_chance(200) ? 2 + (unsigned)sim_below(GROUP_MAX - 1) : 1;
        if (!group_prepare(producer, count, &first)) {
            break;
        }
        const int code = group_append(first, timeouts[sim_below(4)]);
        if (code == WEIR_EFAILED || code == WEIR_ESHUTDOWN) {
            history.poisoned |= code == WEIR_EFAILED;
            break;
        }
        if (code != 0) {
            /* No room, now: later there may be. */
            weir__sleep_ns(1000000);
            continue;
        }
        const weir_lsn lsn = history.records[first + count - 1].lsn;
        const uint64_t dice = sim_below(10);
        if (dice < 6) {
            const int waited = weir_wait(history.log, lsn, WEIR_DURABLE, WEIR_FOREVER);
            if (waited == 0) {
                group_acknowledge(first, ACK_DURABLE);
            } else {
                history.poisoned |= waited == WEIR_EFAILED;
                break;
            }
        } else if (dice == 6) {
            if (weir_wait(history.log, lsn, WEIR_WRITTEN, WEIR_FOREVER) == 0) {
                group_acknowledge(first, ACK_WRITTEN);
            }
        } else if (dice == 7) {
            /* All that this producer has appended, and what of the others lies before. */
            if (weir_sync(history.log, WEIR_FOREVER) == 0) {
                for (unsigned k = 0; k <= first; k++) {
                    const struct record *const record = &history.records[k];
                    if (record->producer == producer && record->group == k &&
                        record->lsn != WEIR_LSN_NONE && !record->gone) {
                        group_acknowledge(k, ACK_DURABLE);
                    }
                }
            }
        }
        if (sim_chance(30)) {
            const weir_lsn durable = weir_durable_lsn(history.log);
            const weir_lsn oldest = weir_oldest_lsn(history.log);
            const weir_lsn before = oldest + sim_below(durable - oldest + 1);
            history.trimmed = before > history.trimmed ? before : history.trimmed;
            history.counts->trims++;
            (void)weir_trim(history.log, before);
        }
    }
    history.working--;
    (void)sim_rouse(&history.working, 1);
}

/* ---- what is there --------------------------------------------------------------------------- */

static void check_record(const struct weir_entry *entry, struct record *record)
{
    if (record->gone) {
        wrong(&history.counts->phantom,
              "record %llu is back at LSN %llu, after it was cut or refused",
              (unsigned long long)entry->tag,
              (unsigned long long)entry->lsn);
    } else if (record->seen) {
        wrong(&history.counts->disorder,
              "record %llu is there twice",
              (unsigned long long)entry->tag);
    } else if (record->lsn != WEIR_LSN_NONE && record->lsn != entry->lsn) {
        wrong(&history.counts->altered,
              "record %llu was appended at LSN %llu and is at %llu",
              (unsigned long long)entry->tag,
              (unsigned long long)record->lsn,
              (unsigned long long)entry->lsn);
    } else if (entry->bytes != record->bytes ||
               memcmp(entry->data, record->payload, record->bytes) != 0) {
        wrong(&history.counts->altered,
              "record %llu at LSN %llu has other bytes",
              (unsigned long long)entry->tag,
              (unsigned long long)entry->lsn);
    }
    record->seen = true;
    record->lsn = entry->lsn;
    history.counts->read++;
}

/* Reads all, compares, and settles what became of each record. */
static void check_log(void)
{
    struct weir_cursor *cursor = NULL;
    struct weir_entry entry;
    weir_lsn before = 0;
    bool more = false;
    uint64_t group_next = 0;
    int code = weir_cursor_open(history.log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor);

    for (unsigned i = 0; i < history.record_count; i++) {
        history.records[i].seen = false;
    }
    bool any = false;
    while (code == 0) {
        code = weir_cursor_next(cursor, WEIR_TRY, &entry);
        if (code != 0) {
            break;
        }
        if (entry.tag >= history.record_count) {
            wrong(&history.counts->phantom,
                  "a record with tag %llu at LSN %llu was never appended",
                  (unsigned long long)entry.tag,
                  (unsigned long long)entry.lsn);
            break;
        }
        struct record *const record = &history.records[entry.tag];
        if (any && entry.lsn <= before) {
            wrong(&history.counts->disorder,
                  "LSN %llu comes after %llu",
                  (unsigned long long)entry.lsn,
                  (unsigned long long)before);
        }
        if (more ? entry.tag != group_next : (any && record->group != entry.tag)) {
            wrong(&history.counts->disorder,
                  "record %llu at LSN %llu stands apart from its group",
                  (unsigned long long)entry.tag,
                  (unsigned long long)entry.lsn);
        }
        const bool last = entry.tag + 1 == record->group + record->group_count;
        if (entry.more == last) {
            wrong(&history.counts->disorder,
                  "the group of record %llu is not whole",
                  (unsigned long long)entry.tag);
        }
        more = entry.more;
        group_next = entry.tag + 1;
        any = true;
        before = entry.lsn;
        check_record(&entry, record);
    }
    weir_cursor_close(cursor);
    if (code == -EIO || code == -ENOMEM || code == WEIR_EUNREADABLE) {
        /* The device or memory failed the reader: nothing was learnt of the rest. What was not
         * acknowledged may have been cut, and its place be used again. */
        for (unsigned i = 0; i < history.record_count; i++) {
            struct record *const record = &history.records[i];
            if (record->ack != ACK_DURABLE) {
                record->lsn = WEIR_LSN_NONE;
                record->ack = ACK_NONE;
            }
        }
        return;
    }
    if (code != WEIR_EEND) {
        wrong(&history.counts->refused, "the cursor says %s", weir_error_name(code));
        return;
    }

    for (unsigned i = 0; i < history.record_count; i++) {
        struct record *const record = &history.records[i];
        if (record->seen) {
            if (record->ack != ACK_DURABLE) {
                record->ack = ACK_DURABLE; /* recovery has made it so */
            }
            continue;
        }
        if (record->gone || (record->lsn != WEIR_LSN_NONE && record->lsn < history.trimmed)) {
            continue;
        }
        if (record->ack != ACK_NONE) {
            wrong(&history.counts->lost,
                  "record %u at LSN %llu was acknowledged (%s) and is gone",
                  i,
                  (unsigned long long)record->lsn,
                  record->ack == ACK_DURABLE ? "durable" : "written");
        }
        if (record->lsn != WEIR_LSN_NONE && record->lsn < before) {
            wrong(&history.counts->disorder,
                  "record %u at LSN %llu is gone, and one at %llu is there",
                  i,
                  (unsigned long long)record->lsn,
                  (unsigned long long)before);
        }
        history.counts->cut += record->lsn != WEIR_LSN_NONE;
        record->gone = true;
    }
}

/* ---- a life ---------------------------------------------------------------------------------- */

static void life_main(void *arg)
{
    (void)arg;
    struct weir_error error;

    memset(&error, 0, sizeof error);
    history.open_code =
        weir__open_with(sim_disk_io(), "log", &history.log_options, &history.log, &error);
    history.error = error;
    if (history.open_code != 0) {
        history.left = 0;
        return;
    }
    history.opened = true;
    check_log();
    history.working = history.failed ? 0 : history.producers;
    for (unsigned i = 0; i < history.working; i++) {
        sim_spawn(producer_main, (void *)(uintptr_t)i);
    }
    while (history.working > 0) {
        (void)sim_block(&history.working, UINT64_MAX);
    }
    history.close_code = weir_close(history.log, &error);
    history.ended = true;
    history.left = 0;
}

/* The life is over: what is left of it, and what the next one must find. */
static void life_end(enum sim_end end)
{
    struct history_counts *const counts = history.counts;

    if (end == SIM_HUNG) {
        wrong(&counts->hung, "nobody can go on");
        return;
    }
    if (end == SIM_DONE && history.open_code != 0) {
        counts->failed_opens++;
        tell("  opening: %s: %s\n", weir_error_name(history.open_code), history.error.text);
        const bool corrupt = history.open_code == WEIR_ECORRUPT ||
                             history.open_code == WEIR_EFORMAT || history.open_code == WEIR_ENOLOG;
        if (corrupt ? !history.damaged : !history.options->faults) {
            wrong(&counts->refused,
                  "opening: %s: %.300s",
                  weir_error_name(history.open_code),
                  history.error.text);
        }
    }
    if (end == SIM_DONE && history.ended && history.close_code == 0) {
        counts->clean_closes++;
        tell("  closed\n");
        for (unsigned i = 0; i < history.record_count; i++) {
            struct record *const record = &history.records[i];
            if (record->lsn != WEIR_LSN_NONE && !record->gone && record->ack != ACK_DURABLE) {
                record->ack = ACK_DURABLE;
                counts->acknowledged++;
            }
        }
        /* A clean close loses nothing to a power cut, either. */
    }
    if (end == SIM_DONE && history.ended && history.close_code != 0) {
        counts->poisoned++;
        tell("  closed: %s\n", weir_error_name(history.close_code));
        if (!history.options->faults) {
            wrong(&counts->refused, "closing: %s", weir_error_name(history.close_code));
        }
    }
    counts->crashes += end == SIM_CRASHED;
    counts->in_recovery += end == SIM_CRASHED && !history.opened;
    /* A kernel that dropped pages shows what it does not have: only a power cut tells the truth. */
    const bool power = sim_disk_lost_bytes() || sim_chance(700);
    if (power) {
        counts->power_cuts += end == SIM_CRASHED;
        sim_disk_power_cut();
        for (unsigned i = 0; i < history.record_count; i++) {
            /* Written was enough for a kill, and is nothing now. */
            if (history.records[i].ack == ACK_WRITTEN) {
                history.records[i].ack = ACK_NONE;
            }
        }
    } else {
        sim_disk_kill();
    }
    tell("  %s%s, %u records\n",
         end == SIM_CRASHED ? "crashed, " : "",
         power ? "power cut" : "killed",
         history.record_count);
    if (history.options->rot && sim_chance(300)) {
        history.damaged |= sim_disk_rot();
    }
}

static void life_run(bool crash)
{
    history.log = NULL;
    history.left = 1;
    history.opened = false;
    history.ended = false;
    history.poisoned = false;
    history.open_code = 0;
    history.close_code = 0;
    history.counts->lives++;
    sim_machine_reset();
    if (history.disk.per_mille[SIM_FAULT_no_memory] > 0 && sim_chance(100)) {
        sim_alloc_fail(1 + sim_below(60), sim_chance(300));
        sim_fault_count[SIM_FAULT_no_memory]++;
    }
    sim_disk_crash_after(crash ? 1 + sim_below(sim_chance(300) ? 40 : 400) : UINT64_MAX);
    sim_spawn(life_main, NULL);
    life_end(sim_machine_run(&history.left));
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
    rate[SIM_FAULT_stale_frames] = sim_chance(300) ? 1 : 0;
    if (!history.options->faults) {
        return;
    }
    /* A swarm: most kinds are off, the others at a rate of their own. */
    static const struct {
        enum sim_fault kind;
        uint16_t most;
    } kinds[] = {
        {SIM_FAULT_write_error, 20},
        {SIM_FAULT_write_short, 200},
        {SIM_FAULT_write_again, 100},
        {SIM_FAULT_sync_error, 20},
        {SIM_FAULT_read_error, 5},
        {SIM_FAULT_read_short, 200},
        {SIM_FAULT_no_space, 20},
        {SIM_FAULT_name_error, 20},
        {SIM_FAULT_push_refused, 10},
        {SIM_FAULT_no_memory, 1},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (sim_chance(300)) {
            rate[kinds[i].kind] = (uint16_t)(1 + sim_below(kinds[i].most));
        }
    }
    if (history.options->rot) {
        rate[SIM_FAULT_misdirected] = sim_chance(300) ? 5 : 0;
        rate[SIM_FAULT_lost_write] = sim_chance(300) ? 5 : 0;
        history.damaged = rate[SIM_FAULT_misdirected] > 0 || rate[SIM_FAULT_lost_write] > 0;
    }
}

static void options_choose(void)
{
    struct weir_options *const o = &history.log_options;

    *o = (struct weir_options)WEIR_OPTIONS_INIT;
    history.hooks = (struct weir_memory_hooks){sim_alloc, sim_release, NULL};
    o->memory = &history.hooks;
    o->io = (enum weir_io)sim_below(4);
    o->block_bytes = sim_chance(700) ? 512 : 4096;
    o->slot_bytes = 4096u << sim_below(3);
    o->slots = 2 + (uint32_t)sim_below(4);
    o->segment_bytes = o->block_bytes * (16 + 16 * sim_below(5));
    if (o->segment_bytes < 16384) {
        o->segment_bytes = 16384;
    }
    o->record_bytes_max = (uint32_t)(o->segment_bytes - 2 * o->block_bytes - 512);
    o->max_inflight = 1 + (uint32_t)sim_below(4);
    o->spare_segments = 1 + (uint32_t)sim_below(2);
    o->recycle_segments = 1 + (uint32_t)sim_below(3);
    o->buffered = sim_chance(200);
    o->first_lsn = sim_chance(200) ? o->block_bytes * sim_below(1000) : 0;
}

bool history_run(uint64_t seed,
                 const struct history_options *options,
                 struct history_counts *counts,
                 uint64_t *digest_out,
                 char *why,
                 size_t why_bytes)
{
    sim_seed(seed);
    for (unsigned i = 0; i < history.record_count; i++) {
        free(history.records[i].payload);
    }
    history.options = options;
    history.counts = counts;
    history.why = why;
    history.why_bytes = why_bytes;
    history.failed = false;
    history.record_count = 0;
    history.trimmed = 0;
    history.damaged = false;
    counts->histories++;
    options_choose();
    history.disk = (struct sim_disk_config){
        .sector_bytes = history.log_options.block_bytes == 512 || sim_chance(500) ? 512 : 4096,
        .direct = sim_chance(800),
        .fua = sim_chance(500),
        .space_bytes = UINT64_MAX,
    };
    faults_choose();
    history.producers = 1 + (unsigned)sim_below(PRODUCERS_MAX);
    history.appends = 1 + (unsigned)sim_below(30);
    sim_machine_reset();
    sim_disk_format(&history.disk);
    const unsigned lives = 1 + (unsigned)sim_below(options->depth);
    for (unsigned life = 0; life < lives && !history.failed; life++) {
        tell("life %u\n", life);
        life_run(sim_chance(900));
        if (history.damaged && history.open_code != 0) {
            break; /* refused, as it should be */
        }
    }
    /* At last without faults: it opens, and holds what it must. */
    if (!history.failed && !history.damaged) {
        struct sim_disk_config calm = history.disk;
        memset(calm.per_mille, 0, sizeof calm.per_mille);
        sim_disk_configure(&calm);
        history.disk = calm;
        tell("last life\n");
        life_run(false);
        if (!history.failed && history.open_code != 0) {
            wrong(&counts->refused,
                  "opening without faults: %s: %.300s",
                  weir_error_name(history.open_code),
                  history.error.text);
        }
    }
    *digest_out = sim_digest() ^ sim_disk_hash();
    return !history.failed;
}
