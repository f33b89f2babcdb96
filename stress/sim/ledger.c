/* SPDX-License-Identifier: Apache-2.0
 * The ledger: every record that was ever given to the log, what the log said of it, and whether
 * that is what a cursor shows.
 *
 * A record's tag is its index here. It is written down before the append, so that what a crash
 * leaves of an append that did not return is known as well. After each opening the ledger is
 * compared with the whole log and settled: what is there is durable from now on, what is not there
 * was never promised and must never come back. */
#include "state.h"

#include "machine.h"

#include "format/batch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long llu;

static uint8_t *payloads;

/* ---- records --------------------------------------------------------------------------------- */

void ledger_reset(void)
{
    if (payloads == NULL) {
        payloads = malloc(PAYLOADS_BYTES);
        if (payloads == NULL) {
            abort();
        }
    }
    history.record_count = 0;
    history.payload_bytes = 0;
    history.trim_asked = 0;
    history.trim_sure = 0;
}

/* Where a batch's first record has its payload, and with it the bytes to the end of the block. */
static uint32_t to_block_end(void)
{
    return history.log_options.block_bytes - 96 - 24;
}

/* By chance bytes; or what the log's files hold at the beginning of some block, so placed that it
 * stands at the beginning of a block again if the record is the first of its batch: batches and
 * frames of the log inside of its records. */
static void payload_make(struct record *record)
{
    uint8_t *const to = payloads + history.payload_bytes;
    uint64_t word = 0;
    uint32_t at = 0;
    const uint32_t lead = to_block_end();

    record->payload = to;
    history.payload_bytes += record->bytes;
    for (; at < record->bytes; at++) {
        word = at % 8 == 0 ? sim_random() : word >> 8;
        to[at] = (uint8_t)word;
    }
    if (record->bytes > lead && history.disk.per_mille[SIM_FAULT_stale_frames] > 0 &&
        sim_disk_copy(to + lead, record->bytes - lead, history.log_options.block_bytes)) {
        sim_fault_count[SIM_FAULT_stale_frames]++;
    }
}

static uint32_t size_mixed(void)
{
    const uint64_t dice = sim_below(20);

    if (dice == 0) {
        return 0;
    }
    if (dice < 14) {
        return (uint32_t)sim_below(200);
    }
    if (dice < 18) {
        return (uint32_t)sim_below(2000);
    }
    if (dice == 18) {
        return to_block_end() + history.log_options.block_bytes * (uint32_t)(1 + sim_below(4));
    }
    return (uint32_t)sim_below(PAYLOAD_MAX);
}

static uint32_t size_choose(void)
{
    /* Frames of 32, 208 and 416 bytes end where sectors of 512 do, all or some of them. */
    static const uint32_t sector[] = {8, 8, 8, 184, 392};
    uint32_t bytes = 0;

    switch (history.sizes) {
    case SIZES_SECTOR:
        bytes = sector[sim_below(5)];
        break;
    case SIZES_SAME:
        bytes = history.size_same;
        break;
    case SIZES_EXACT:
        return history.size_same;
    case SIZES_LARGE:
        bytes = 800 + (uint32_t)sim_below(2800);
        break;
    case SIZES_MIXED:
    case SIZES_COUNT:
        bytes = size_mixed();
        break;
    }
    const uint32_t most = history.log_options.record_bytes_max - 64;
    bytes = bytes > most ? most : bytes;
    return bytes > PAYLOAD_MAX ? PAYLOAD_MAX : bytes;
}

bool ledger_prepare(uint32_t producer, unsigned count, unsigned *first_out)
{
    if (history.record_count + count > RECORDS_MAX ||
        history.payload_bytes + (size_t)count * PAYLOAD_MAX > PAYLOADS_BYTES) {
        return false;
    }
    *first_out = history.record_count;
    for (unsigned i = 0; i < count; i++) {
        struct record *const record = &history.records[history.record_count];
        *record = (struct record){.lsn = WEIR_LSN_NONE,
                                  .producer = producer,
                                  .group = *first_out,
                                  .group_count = count};
        record->bytes = size_choose();
        /* A group has a largest size, too. */
        if (history.sizes == SIZES_EXACT) {
            /* Whoever asks for it knows that. */
        } else if (count > 1 && count <= 5 && record->bytes > 400) {
            record->bytes = (uint32_t)sim_below(150);
        } else if (count > 5 && record->bytes > 60) {
            record->bytes = (uint32_t)sim_below(60);
        }
        payload_make(record);
        history.record_count++;
    }
    return true;
}

void ledger_appended(unsigned first, int code, const weir_lsn *lsns)
{
    for (unsigned i = 0; i < history.records[first].group_count; i++) {
        struct record *const record = &history.records[first + i];
        if (code != 0) {
            record->gone = true; /* it was not appended, and never will be */
            if (record->lsn != WEIR_LSN_NONE) {
                wrong(&history.counts->phantom,
                      "record %u was shown at LSN %llu, and its append returned %s",
                      first + i,
                      (llu)record->lsn,
                      weir_error_name(code));
            }
            continue;
        }
        if (record->lsn != WEIR_LSN_NONE && record->lsn != lsns[i]) {
            wrong(&history.counts->altered,
                  "record %u was shown at LSN %llu, and its append returned %llu",
                  first + i,
                  (llu)record->lsn,
                  (llu)lsns[i]);
        }
        record->lsn = lsns[i];
        history.counts->appended++;
    }
}

void ledger_acknowledge(unsigned first, enum ack ack)
{
    for (unsigned i = 0; i < history.records[first].group_count; i++) {
        struct record *const record = &history.records[first + i];
        if (record->ack < ack) {
            history.counts->acknowledged += ack == ACK_DURABLE;
            record->ack = ack;
        }
    }
}

void ledger_acknowledge_all(uint32_t producer, enum ack ack)
{
    for (unsigned i = 0; i < history.record_count; i++) {
        const struct record *const record = &history.records[i];
        if (record->group == i && record->lsn != WEIR_LSN_NONE && !record->gone &&
            (producer == UINT32_MAX || record->producer == producer)) {
            ledger_acknowledge(i, ack);
        }
    }
}

void ledger_power_lost(void)
{
    for (unsigned i = 0; i < history.record_count; i++) {
        if (history.records[i].ack == ACK_WRITTEN) {
            history.records[i].ack = ACK_NONE;
        }
    }
}

/* ---- what is there --------------------------------------------------------------------------- */

struct record *walk_record(struct walk *walk, const struct weir_entry *entry)
{
    struct history_counts *const counts = history.counts;
    const llu tag = entry->tag;
    const llu lsn = entry->lsn;

    if (entry->tag >= history.record_count) {
        wrong(&counts->phantom, "a record with tag %llu at LSN %llu was never appended", tag, lsn);
        return NULL;
    }
    struct record *const record = &history.records[entry->tag];
    if (walk->any && entry->lsn <= walk->before) {
        wrong(&counts->disorder, "LSN %llu comes after %llu", lsn, (llu)walk->before);
        return NULL;
    }
    if (walk->more ? entry->tag != walk->group_next : (walk->any && record->group != entry->tag)) {
        wrong(&counts->disorder, "record %llu at LSN %llu stands apart from its group", tag, lsn);
        return NULL;
    }
    if (entry->more == (entry->tag + 1 == record->group + record->group_count)) {
        wrong(&counts->disorder, "the group of record %llu is not whole", tag);
        return NULL;
    }
    if (record->gone && !history.damaged) {
        wrong(&counts->phantom,
              "record %llu is back at LSN %llu, after it was cut or refused",
              tag,
              lsn);
        return NULL;
    }
    if (record->lsn != WEIR_LSN_NONE && record->lsn != entry->lsn) {
        wrong(&counts->altered,
              "record %llu was appended at LSN %llu and is at %llu",
              tag,
              (llu)record->lsn,
              lsn);
        return NULL;
    }
    if (entry->bytes != record->bytes || memcmp(entry->data, record->payload, record->bytes) != 0) {
        wrong(&counts->altered, "record %llu at LSN %llu has other bytes", tag, lsn);
        return NULL;
    }
    walk->any = true;
    walk->more = entry->more;
    walk->group_next = entry->tag + 1;
    walk->before = entry->lsn;
    return record;
}

/* Its LSN; of one that nobody has told, what another of its group tells: they stand next to each
 * other. WEIR_LSN_NONE: nothing is known of any. */
static weir_lsn record_lsn(unsigned index)
{
    const struct record *const record = &history.records[index];
    const unsigned end = record->group + record->group_count;
    weir_lsn lsn = record->lsn;

    for (unsigned other = record->group; lsn == WEIR_LSN_NONE && other < end; other++) {
        lsn = history.records[other].lsn;
        for (unsigned i = other; lsn != WEIR_LSN_NONE && i < index; i++) {
            lsn += weir__frame_span(history.records[i].bytes);
        }
        for (unsigned i = index; lsn != WEIR_LSN_NONE && i < other; i++) {
            lsn -= weir__frame_span(history.records[i].bytes);
        }
    }
    return lsn;
}

/* May a trim have taken it? */
static bool record_trimmed(unsigned index)
{
    const weir_lsn lsn = record_lsn(index);

    return lsn != WEIR_LSN_NONE && lsn < history.trim_asked;
}

/* What was not seen although the whole log was read. */
static void record_missing(unsigned index, const struct walk *walk)
{
    struct record *const record = &history.records[index];

    if (record->gone || record_trimmed(index)) {
        return;
    }
    if (record->ack != ACK_NONE && !history.damaged) {
        wrong(&history.counts->lost,
              "record %u at LSN %llu was acknowledged (%s) and is gone",
              index,
              (llu)record->lsn,
              record->ack == ACK_DURABLE ? "durable" : "written");
    }
    if (record->lsn != WEIR_LSN_NONE && walk->any && record->lsn < walk->before &&
        !history.damaged) {
        wrong(&history.counts->disorder,
              "record %u at LSN %llu is gone, and one at %llu is there",
              index,
              (llu)record->lsn,
              (llu)walk->before);
    }
    history.counts->cut += record->lsn != WEIR_LSN_NONE;
    record->gone = true;
}

/* The device or memory failed the reader: nothing was learnt of the rest. What was not acknowledged
 * may have been cut, and its place be used again. */
static void ledger_unsettled(void)
{
    for (unsigned i = 0; i < history.record_count; i++) {
        struct record *const record = &history.records[i];
        if (record->ack != ACK_DURABLE) {
            record->lsn = WEIR_LSN_NONE;
            record->ack = ACK_NONE;
        }
    }
}

void ledger_check(void)
{
    struct weir_cursor *cursor = NULL;
    struct weir_entry entry;
    struct walk walk = {.any = false};
    const unsigned flags = sim_chance(100) ? WEIR_CURSOR_READ_AHEAD : 0;
    int code = weir_cursor_open(history.log, WEIR_LSN_OLDEST, WEIR_DURABLE, flags, &cursor);

    for (unsigned i = 0; i < history.record_count; i++) {
        history.records[i].seen = false;
    }
    while (code == 0) {
        code = weir_cursor_next(cursor, WEIR_TRY, &entry);
        if (code != 0) {
            break;
        }
        struct record *const record = walk_record(&walk, &entry);
        if (record == NULL) {
            break;
        }
        if (entry.lsn < history.trim_sure && !history.damaged) {
            wrong(&history.counts->phantom,
                  "record %llu at LSN %llu was trimmed, up to %llu",
                  (llu)entry.tag,
                  (llu)entry.lsn,
                  (llu)history.trim_sure);
        }
        record->seen = true;
        record->lsn = entry.lsn;
        history.counts->read++;
    }
    weir_cursor_close(cursor);
    if (history.failed) {
        return;
    }
    if (code == -EIO || code == -ENOMEM || code == -EMFILE || code == WEIR_EUNREADABLE) {
        ledger_unsettled();
        return;
    }
    if (code != WEIR_EEND && !(code == WEIR_ECORRUPT && history.damaged)) {
        wrong(&history.counts->refused, "the cursor says %s", weir_error_name(code));
        return;
    }
    for (unsigned i = 0; i < history.record_count; i++) {
        if (!history.records[i].seen) {
            record_missing(i, &walk);
        } else {
            history.records[i].ack = ACK_DURABLE; /* recovery has made it so */
        }
    }
}
