/* SPDX-License-Identifier: Apache-2.0
 * A log to be spoilt. */
#include "support/rig.h"

#include "api/log.h"
#include "base/bytes.h"
#include "format/frame.h"

#include <stdlib.h>
#include <string.h>

const struct rig_way rig_ways[] = {
    {"auto on the ring, covering syncs", WEIR_IO_AUTO, FAULT_QUEUE_RING, 0},
    {"auto on the ring, durable writes", WEIR_IO_AUTO, FAULT_QUEUE_RING, 1},
    {"chain on the ring", WEIR_IO_CHAIN, FAULT_QUEUE_RING, -2},
    {"dsync on the ring", WEIR_IO_DSYNC, FAULT_QUEUE_RING, -2},
    {"auto on threads, covering syncs", WEIR_IO_AUTO, FAULT_QUEUE_THREADS, 0},
    {"auto on threads, durable writes", WEIR_IO_AUTO, FAULT_QUEUE_THREADS, 1},
    {"chain on threads", WEIR_IO_CHAIN, FAULT_QUEUE_THREADS, -2},
    {"dsync on threads", WEIR_IO_DSYNC, FAULT_QUEUE_THREADS, -2},
    {"posix", WEIR_IO_POSIX, FAULT_QUEUE_THREADS, -2},
};
const unsigned rig_way_count = sizeof rig_ways / sizeof rig_ways[0];

bool rig_way_usable(const struct rig_way *way)
{
    return way->queue != FAULT_QUEUE_RING || fault_io_has_ring();
}

void rig_make(struct rig *rig, const struct rig_way *way)
{
    memset(rig, 0, sizeof *rig);
    rig->way = way;
    temp_dir_make(rig->path);
    fault_io_init(&rig->fault, way->queue);
    rig->fault.fua = way->fua;
    events_init(&rig->events);
    ledger_init(&rig->ledger);
    rig->options = (struct weir_options)WEIR_OPTIONS_INIT;
    rig->options.io = way->io;
    rig->options.block_bytes = RIG_BLOCK;
    rig->options.segment_bytes = RIG_SEGMENT;
    rig->options.slot_bytes = 4 * RIG_BLOCK;
    rig->options.slots = 4;
    rig->options.max_inflight = 4;
    rig->options.record_bytes_max = 65536;
    rig->options.on_event = events_on;
    rig->options.event_ctx = &rig->events;
}

int rig_open(struct rig *rig)
{
    return weir__open_with(&rig->fault.io, rig->path, &rig->options, &rig->log, &rig->error);
}

int rig_open_plain(struct rig *rig)
{
    return weir_open(rig->path, &rig->options, &rig->log, &rig->error);
}

int rig_close(struct rig *rig)
{
    const int code = weir_close(rig->log, &rig->error);
    if (code == 0 || code == WEIR_EFAILED) {
        rig->log = NULL;
    }
    return code;
}

void rig_destroy(struct rig *rig)
{
    fault_io_heal(&rig->fault);
    if (rig->log != NULL) {
        (void)rig_close(rig);
    }
    ledger_exit(&rig->ledger);
    events_exit(&rig->events);
    fault_io_exit(&rig->fault);
    temp_dir_remove(rig->path);
}

int rig_append(struct rig *rig, uint64_t tag, size_t bytes, weir_lsn *lsn_out)
{
    weir_lsn lsn = WEIR_LSN_NONE;
    uint8_t *const payload = malloc(bytes > 0 ? bytes : 1);
    if (payload == NULL) {
        abort();
    }
    payload_fill(tag, payload, bytes);
    const int code = weir_append_wait(rig->log, payload, bytes, tag, WEIR_DURABLE, &lsn);
    free(payload);
    if (code == 0) {
        ledger_add(&rig->ledger, lsn, tag, bytes);
    }
    if (lsn_out != NULL) {
        *lsn_out = lsn;
    }
    return code;
}

bool rig_record_durable(struct rig *rig, weir_lsn lsn, uint64_t tag, size_t bytes)
{
    uint8_t tag_bytes[8];
    uint8_t *const payload = malloc(bytes > 0 ? bytes : 1);
    if (payload == NULL) {
        abort();
    }
    payload_fill(tag, payload, bytes);
    weir__put_u64(tag_bytes, tag);
    const bool durable =
        fault_io_durable_at(&rig->fault, lsn + 8, tag_bytes, sizeof tag_bytes) &&
        fault_io_durable_at(&rig->fault, lsn + WEIR__FRAME_HEADER_BYTES, payload, bytes);
    free(payload);
    return durable;
}
