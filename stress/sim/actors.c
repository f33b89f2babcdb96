/* SPDX-License-Identifier: Apache-2.0
 * Those who use the log during a life: producers, readers at the tail, one who fills the disk, one
 * who shuts the log down while the others are still calling. Each is a fiber. */
#include "state.h"

#include "machine.h"

#include "port/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

static void actor_ends(unsigned *count)
{
    (*count)--;
    (void)sim_rouse(count, 1);
}

/* ---- producers ------------------------------------------------------------------------------- */

static int64_t timeout_choose(void)
{
    static const int64_t timeouts[] = {WEIR_FOREVER, WEIR_FOREVER, WEIR_TRY, 5 * MS};

    return timeouts[sim_below(4)];
}

static int group_append(unsigned first)
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
    const int code = weir_append_group(history.log, records, count, timeout_choose(), lsns);
    ledger_appended(first, code, lsns);
    return code;
}

/* One record, appended and waited for in one call: a producer that is alone then makes it durable by
 * itself. */
static int single_append_wait(unsigned first)
{
    const struct record *const record = &history.records[first];
    weir_lsn lsn = WEIR_LSN_NONE;
    const int code =
        weir_append_wait(history.log, record->payload, record->bytes, first, WEIR_DURABLE, &lsn);

    ledger_appended(first, lsn == WEIR_LSN_NONE ? code : 0, &lsn);
    if (code == 0) {
        ledger_acknowledge(first, ACK_DURABLE);
    }
    return code;
}

/* Waits for a group in one of the ways that there are. False: this producer has had enough. */
static bool group_wait(uint32_t producer, unsigned first)
{
    const struct record *const record =
        &history.records[first + history.records[first].group_count - 1];
    const uint64_t dice = sim_below(20);
    int code = 0;

    if (dice < 10) {
        code = weir_wait(history.log, record->lsn, WEIR_DURABLE, WEIR_FOREVER);
        if (code == 0) {
            ledger_acknowledge(first, ACK_DURABLE);
        }
        return code == 0;
    }
    if (dice < 12) {
        if (weir_wait(history.log, record->lsn, WEIR_WRITTEN, WEIR_FOREVER) == 0) {
            ledger_acknowledge(first, ACK_WRITTEN);
        }
    } else if (dice < 14) {
        if (weir_wait(history.log, record->lsn, WEIR_DURABLE, timeout_choose()) == 0) {
            ledger_acknowledge(first, ACK_DURABLE);
        }
    } else if (dice == 14) {
        if (weir_sync(history.log, timeout_choose()) == 0) {
            ledger_acknowledge_all(producer, ACK_DURABLE);
        }
    } else if (dice == 15) {
        if (weir_flush_batch(history.log, timeout_choose()) == 0) {
            ledger_acknowledge_all(producer, ACK_WRITTEN);
        }
    } else if (dice == 16) {
        /* What the position says is as good as a wait. */
        if (weir_durable_lsn(history.log) > record->lsn) {
            ledger_acknowledge(first, ACK_DURABLE);
        }
    }
    return true;
}

static void trim(void)
{
    /* In this order: others trim meanwhile, and never above what is durable by then. */
    const weir_lsn oldest = weir_oldest_lsn(history.log);
    const weir_lsn durable = weir_durable_lsn(history.log);

    if (durable < oldest) {
        wrong(&history.counts->disorder,
              "the oldest LSN %llu is above the durable one, %llu",
              (unsigned long long)oldest,
              (unsigned long long)durable);
        return;
    }
    const weir_lsn before = sim_chance(300) ? durable : oldest + sim_below(durable - oldest + 1);
    if (before > history.trim_asked) {
        history.trim_asked = before;
    }
    history.counts->trims++;
    if (weir_trim(history.log, before) == 0 && !history.pinned && before > history.trim_sure) {
        history.trim_sure = before;
    }
}

/* Most go on at once; some let the log come to rest, for long enough that it writes its idle
 * promise. */
static void pause_some(void)
{
    if (sim_chance(100)) {
        weir__sleep_ns(sim_below(2 * MS));
    } else if (sim_chance(8)) {
        weir__sleep_ns(1200 * MS);
    }
}

static unsigned count_choose(void)
{
    if (!sim_chance(history.group_per_mille)) {
        return 1;
    }
    return history.sizes == SIZES_SAME ? history.group_same : 2 + (unsigned)sim_below(4);
}

void producer_main(void *number)
{
    const uint32_t producer = (uint32_t)(uintptr_t)number;

    for (unsigned i = 0; i < history.appends; i++) {
        unsigned first;
        const unsigned count = count_choose();
        pause_some();
        if (sim_disk_files() > 80 || !ledger_prepare(producer, count, &first)) {
            break;
        }
        const bool at_once = count == 1 && sim_chance(history.at_once_per_mille);
        const int code = at_once ? single_append_wait(first) : group_append(first);
        if (code == WEIR_EFAILED || code == WEIR_ESHUTDOWN) {
            break;
        }
        if (code == 0) {
            if (!at_once && sim_chance(history.patience) && !group_wait(producer, first)) {
                break;
            }
        } else {
            weir__sleep_ns(MS); /* no room, now: later there may be */
        }
        if (sim_chance(history.trim_per_mille)) {
            trim();
        }
    }
    actor_ends(&history.working);
}

/* ---- readers --------------------------------------------------------------------------------- */

struct reader {
    struct weir_cursor *cursor;
    enum weir_level level;
    struct walk walk;
    bool seen[RECORDS_MAX]; /* since the walk began */
    weir_lsn first;
};

static struct reader readers[READERS_MAX];

/* Between the first and the last that it saw, nothing that the log has told may be missing. */
static void reader_judge(struct reader *reader)
{
    for (unsigned i = 0; reader->walk.any && i < history.record_count; i++) {
        const struct record *const record = &history.records[i];
        if (record->lsn != WEIR_LSN_NONE && !record->gone && record->lsn >= reader->first &&
            record->lsn <= reader->walk.before && !reader->seen[i]) {
            wrong(&history.counts->disorder,
                  "a reader passed over record %u at LSN %llu",
                  i,
                  (unsigned long long)record->lsn);
            return;
        }
    }
}

static int reader_open(struct reader *reader, weir_lsn from, unsigned flags)
{
    reader->walk = (struct walk){.any = false};
    memset(reader->seen, 0, sizeof reader->seen);
    reader->cursor = NULL;
    return weir_cursor_open(history.log, from, reader->level, flags, &reader->cursor);
}

static bool reader_take(struct reader *reader, const struct weir_entry *entry)
{
    const bool fresh = !reader->walk.any;
    struct record *const record = walk_record(&reader->walk, entry);

    if (record == NULL) {
        return false;
    }
    if (fresh) {
        reader->first = entry->lsn;
    }
    reader->seen[entry->tag] = true;
    record->lsn = entry->lsn;
    history.counts->followed++;
    /* To be shown at a level is to be told that it was reached; and of a group all or none is. */
    if (reader->level != WEIR_APPENDED) {
        ledger_acknowledge(record->group,
                           reader->level == WEIR_DURABLE ? ACK_DURABLE : ACK_WRITTEN);
    }
    return true;
}

void reader_main(void *number)
{
    struct reader *const reader = &readers[(uintptr_t)number];
    static const int64_t timeouts[] = {WEIR_FOREVER, WEIR_TRY, 2 * MS};
    const unsigned pin = history.pinned && sim_chance(700) ? WEIR_CURSOR_PIN : 0;
    const unsigned ahead = sim_chance(200) ? WEIR_CURSOR_READ_AHEAD : 0;
    const unsigned flags = pin | ahead;
    struct weir_entry entry;

    reader->level = (enum weir_level)sim_below(3);
    const weir_lsn from = sim_chance(500) ? WEIR_LSN_OLDEST : weir_durable_lsn(history.log);
    int code = reader_open(reader, from, flags);
    while (code == 0 && !history.failed) {
        const int64_t timeout_ns = timeouts[sim_below(3)];
        code = weir_cursor_next(reader->cursor, timeout_ns, &entry);
        if (code == 0) {
            if (!reader_take(reader, &entry)) {
                break;
            }
            if (sim_chance(20)) {
                weir__sleep_ns(sim_below(5 * MS));
            }
        } else if (code == WEIR_EPASSED) {
            reader_judge(reader);
            weir_cursor_close(reader->cursor);
            code = reader_open(reader, WEIR_LSN_OLDEST, flags);
        } else if (code == WEIR_EEND && timeout_ns != WEIR_FOREVER && history.working > 0) {
            weir__sleep_ns(MS);
            code = 0;
        }
    }
    if (code != 0 && code != WEIR_EEND && code != WEIR_EPASSED && code != WEIR_EUNREADABLE &&
        code != -EIO && code != -ENOMEM && code != -EAGAIN && code != -EMFILE &&
        !(code == WEIR_ECORRUPT && history.damaged)) {
        wrong(&history.counts->refused, "a reader's cursor says %s", weir_error_name(code));
    }
    if (!history.damaged) {
        reader_judge(reader);
    }
    weir_cursor_close(reader->cursor);
    actor_ends(&history.reading);
}

/* ---- others ---------------------------------------------------------------------------------- */

void filler_main(void *nothing)
{
    (void)nothing;
    for (unsigned i = 0; i < 3 && history.working > 1; i++) {
        weir__sleep_ns(sim_below(3 * MS));
        history.disk.space_bytes =
            sim_disk_used() + sim_below(3 * history.log_options.segment_bytes);
        sim_disk_configure(&history.disk);
        weir__sleep_ns(sim_below(200 * MS));
        history.disk.space_bytes = UINT64_MAX;
        sim_disk_configure(&history.disk);
    }
    actor_ends(&history.working);
}

void closer_main(void *nothing)
{
    (void)nothing;
    weir__sleep_ns(sim_below(3 * MS));
    history.shut_down = true;
    history.counts->shutdowns++;
    if (weir_shutdown(history.log, sim_chance(300) ? (int64_t)MS : WEIR_FOREVER) == 0) {
        ledger_acknowledge_all(UINT32_MAX, ACK_DURABLE);
    }
    actor_ends(&history.working);
}
