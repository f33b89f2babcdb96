/* SPDX-License-Identifier: Apache-2.0
 * The snapshot of all counters: one relaxed load each, nobody is stopped. */
#include "api/log.h"

#include <string.h>

void weir_stats(struct weir_log *log, struct weir_stats *s)
{
    memset(s, 0, sizeof *s);
#define TAKE(name, counter) s->name = weir__load(&(counter), relaxed)
    TAKE(cursor_records, log->cursor_records);
    TAKE(cursor_bytes, log->cursor_bytes);
    TAKE(cursor_slot_batches, log->cursor_slot_batches);
    TAKE(cursor_reads, log->cursor_reads);
    TAKE(cursor_read_bytes, log->cursor_read_bytes);
    TAKE(memory_bytes, log->mem.bytes);
    TAKE(memory_bytes_peak, log->mem.bytes_peak);
    s->disk_bytes = weir__catalog_bytes(&log->catalog);
    if (log->options.read_only) {
        return;
    }
    struct weir__flusher_counters *f = &log->flusher.counters;
    TAKE(appends, f->appends);
    TAKE(frame_bytes, f->frame_bytes);
    TAKE(padding_bytes, f->padding_bytes);
    TAKE(header_bytes, f->header_bytes);
    TAKE(batches, f->batches);
    TAKE(batches_durable, f->batches_durable);
    TAKE(batches_sealed_full, f->batches_sealed_full);
    TAKE(batches_sealed_idle, f->batches_sealed_idle);
    TAKE(batches_oversize, f->batches_oversize);
    TAKE(write_bytes, f->write_bytes);
    TAKE(chains, f->chains);
    TAKE(covering_syncs, f->covering_syncs);
    TAKE(inflight_max, f->inflight_max);
    TAKE(inflight, f->inflight);
    TAKE(flusher_sleeps, f->flusher_sleeps);
    TAKE(rotations, f->rotations);
    TAKE(stalls_segment, f->stalls_segment);
    TAKE(batches_alone, f->batches_alone);
    TAKE(collects, f->collects);
    TAKE(collects_met, f->collects_met);
    struct weir__transfer_counters *t = &log->flusher.transfers;
    TAKE(writes, t->writes);
    TAKE(writes_short, t->writes_short);
    TAKE(syncs, t->syncs);
    TAKE(submits, t->pushes);
    struct weir__stage_counters *p = &log->stage.counters;
    TAKE(flusher_wakes, p->flusher_wakes);
    TAKE(ack_wakes, p->ack_wakes);
    s->waits_durable = weir__stage_waits(&log->stage, WEIR__LEVEL_DURABLE);
    s->waits_written = weir__stage_waits(&log->stage, WEIR__LEVEL_WRITTEN);
    TAKE(waits_slept, p->waits_slept);
    TAKE(yield_pauses, p->yield_pauses);
    TAKE(stalls_slot, p->stalls_slot);
    TAKE(stalls_oversize, p->stalls_oversize);
    TAKE(stalls_straggler, p->stalls_straggler);
    TAKE(refused_again, p->refused_again);
    TAKE(refused_timeout, p->refused_timeout);
    TAKE(refused_space, p->refused_space);
    struct weir__keeper_counters *k = &log->keeper.counters;
    TAKE(segments_prefilled, k->segments_prefilled);
    TAKE(segments_recycled, k->segments_recycled);
    TAKE(segments_removed, k->segments_removed);
    TAKE(prefill_bytes, k->prefill_bytes);
    TAKE(prefill_unthrottled, k->prefill_unthrottled);
    TAKE(control_writes, k->control_writes);
    TAKE(checkpoints, k->checkpoints);
    TAKE(trims, k->trims);
#undef TAKE
    s->slots_free = weir__stage_free_count(&log->stage);
    weir_lsn durable = weir_durable_lsn(log);
    weir_lsn end = weir__stage_end(&log->stage);
    s->pending_bytes = end > durable ? end - durable : 0;
}
