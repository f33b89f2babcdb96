/* SPDX-License-Identifier: Apache-2.0
 * A writer's owner: the thread that writes its buffers out and syncs its file.
 *
 * The happy path: it looks at what callers want (listen), at every buffer between the file's end
 * and the tail (collect), begins a write for each that is full and for the last one if a flush
 * wants what is in it, and takes what comes back: `written` moves on in order of positions, buffers
 * are given back, sleepers woken. With nothing to do it says how it sleeps, looks once more, and
 * sleeps. Why no wake-up is lost, and why a part may be written: ORDERING.md section 4.
 *
 * Executors on the writer share its descriptor, so syncs go by turns with theirs (io/syncs.h), and
 * a failed one of theirs is the writer's failure, too.
 *
 * With O_DIRECT a part begins at the block in which the file ends, which is written again, and ends
 * with a block that is padded in memory of the owner's own; when that has come back the file is cut
 * to its exact length, and only then counts as written.
 *
 * What can fail: any write, sync, truncation or submission. The first one is kept and final: the
 * file is not touched any more, everybody is told. What is under way then is waited for. */
#include "io/writer_state.h"

#include "base/check.h"
#include "base/num.h"
#include "base/plant.h"
#include "port/clock.h"
#include "port/wait.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The start of a file's last block is read anew when it comes back short: so often. */
#define OWNER_READ_TRIES 16u

/* ---- failing --------------------------------------------------------------------------------- */

/* After an error: nobody else is to wait for us, or to be told that a sync went well whose end
 * nobody knows. One that is under way keeps the turn until it comes back. */
static void owner_leave_syncs(struct weir_writer *writer, int code)
{
    const bool lost = writer->sync_busy && writer->device.transfer.broken;

    if (writer->sync_waits) {
        writer->sync_waits = false;
        weir__io_syncs_give_up(&writer->syncs);
    }
    if (writer->sync_turn && (lost || !writer->sync_busy)) {
        writer->sync_turn = false;
        weir__io_syncs_leave(&writer->syncs, lost ? code : 0);
    }
}

static void owner_fail(struct weir_writer *writer, int code, uint64_t offset, const char *what)
{
    if (weir__load(&writer->failed, relaxed) != 0) { /* ours alone to set */
        return;
    }
    (void)weir__io_file_error(&writer->file, code, offset, what, &writer->error);
    writer->device.transfer.stopped = true;
    weir__store(&writer->failed, code, release);
    owner_leave_syncs(writer, code);
    for (uint64_t i = 0; i < writer->slot_count; i++) {
        weir__writer_bump(&writer->slots[i].gen);
    }
    weir__writer_bump(&writer->flush_gen);
    weir__writer_bump(&writer->sync_gen);
}

static bool owner_failed(struct weir_writer *writer)
{
    return weir__load(&writer->failed, relaxed) != 0;
}

/* ---- what comes back ------------------------------------------------------------------------- */

/* Tells how far the file goes, and gives back the buffers that are wholly in it. */
static void owner_publish(struct weir_writer *writer)
{
    struct writer_slot *slot = writer_slot(writer, writer->head);
    const uint64_t before = weir__load(&writer->written, relaxed); /* ours alone to set */

    while (slot->done == writer->buffer_bytes) {
        /* Relaxed: published by `written`, which whoever fills it next acquires. */
        weir__store(&slot->filled, UINT64_C(0), relaxed);
        slot->done = 0;
        writer->head++;
        weir__store(&writer->written, writer->base + writer->head * writer->buffer_bytes, release);
        weir__writer_bump(&slot->gen);
        slot = writer_slot(writer, writer->head);
    }
    const uint64_t now = writer->base + writer->head * writer->buffer_bytes + slot->done;
    if (now > before) {
        weir__store(&writer->written, now, release);
        weir__writer_bump(&writer->flush_gen);
    }
}

/* The buffer that a run writes from. */
static uint64_t slot_number(const struct weir_writer *writer, const struct writer_slot *slot)
{
    const uint64_t index = (uint64_t)(slot - writer->slots);
    const uint64_t first = writer->head % writer->slot_count;

    return writer->head + (index + writer->slot_count - first) % writer->slot_count;
}

static void slot_ended(struct weir_writer *writer, struct writer_slot *slot, int code)
{
    const uint64_t number = slot_number(writer, slot);
    const uint64_t end = writer->base + number * writer->buffer_bytes + slot->to;
    const bool padded = slot->padded;

    slot->busy = false;
    slot->padded = false;
    if (padded) {
        writer->pad_busy = false;
    }
    if (code != 0 && !WEIR__PLANTED(lost_rest)) {
        owner_fail(writer, code, slot->op.offset, "cannot write to the file");
    }
    if (owner_failed(writer)) {
        return;
    }
    if (padded) {
        const uint64_t block = writer->file.block_bytes;
        code = weir__io_file_unpad(&writer->file, end, weir__align_up(end, block));
        if (code != 0) {
            owner_fail(writer, code, end, "cannot cut the padding off the file's last block");
            return;
        }
    }
    slot->done = slot->to;
    if (WEIR__PLANTED(pending_reset)) {
        /* What was committed while the part was under way counts as written with it. */
        slot->done = weir__load(&slot->filled, seq_cst);
    }
    owner_publish(writer);
}

static void sync_ended(struct weir_writer *writer, int code)
{
    writer->sync_busy = false;
    writer->sync_turn = false;
    /* -ECANCELED: it was not begun, or not again. */
    weir__io_syncs_leave(&writer->syncs, code == -ECANCELED ? 0 : code);
    if (code != 0) {
        /* Never tried again: what it could not write may be marked clean by now. */
        owner_fail(writer, code, UINT64_MAX, "cannot sync the file");
    }
    if (owner_failed(writer)) {
        return;
    }
    weir__store(&writer->sync_done, writer->sync_ticket, release);
    weir__writer_bump(&writer->sync_gen);
}

static void owner_ended(void *ctx, struct weir__transfer_run *run, int code)
{
    struct weir_writer *const writer = ctx;

    if (run == &writer->sync_run) {
        sync_ended(writer, code);
    } else {
        slot_ended(writer, run->user, code);
    }
}

/* ---- what goes out --------------------------------------------------------------------------- */

static void slot_piece(struct writer_slot *slot, uint8_t *from, uint64_t bytes)
{
    if (bytes > 0) {
        slot->iov[slot->op.iov_count++] =
            (struct iovec){.iov_base = from, .iov_len = (size_t)bytes};
        slot->op.bytes += (size_t)bytes;
    }
}

/* The write of a buffer up to `to`: from the last whole block that the file has of it. */
static void slot_prepare(struct weir_writer *writer, uint64_t number, uint64_t to)
{
    struct writer_slot *const slot = writer_slot(writer, number);
    uint8_t *const buffer = writer_buffer(writer, number);
    const uint32_t block = writer->file.block_bytes;
    const uint64_t from = weir__align_down(slot->done, block);
    const uint64_t whole = weir__align_down(to, block);
    uint64_t offset = writer->base + number * writer->buffer_bytes + from;

    if (WEIR__PLANTED(open_at_zero)) {
        offset -= writer->base;
    }
    slot->to = to;
    slot->padded = whole < to;
    slot->op = (struct weir__transfer_op){
        .kind = WEIR__OP_WRITE,
        .file = writer->file.file,
        .block_bytes = block,
        .iov = slot->iov,
        .offset = offset,
    };
    slot_piece(slot, buffer + from, whole - from);
    if (slot->padded) {
        /* Not in the buffer: somebody may be copying in behind `to` by now. */
        memcpy(writer->pad, buffer + whole, (size_t)(to - whole));
        memset(writer->pad + (to - whole), 0, (size_t)(block - (to - whole)));
        slot_piece(slot, writer->pad, block);
    }
    slot->run = (struct weir__transfer_run){.ops = &slot->op, .count = 1, .user = slot};
}

/* How far a buffer may be written now; 0: no further than it has been. */
static uint64_t slot_ready(struct weir_writer *writer, uint64_t number)
{
    struct writer_slot *const slot = writer_slot(writer, number);
    const uint64_t at = writer->base + number * writer->buffer_bytes;

    if (slot->busy || slot->done == writer->buffer_bytes) {
        return 0;
    }
    /* Before the tail. seq_cst: see the last look in owner_sleep. */
    const uint64_t filled = weir__load(&slot->filled, seq_cst);
    weir__check(filled <= writer->buffer_bytes);
    if (filled == writer->buffer_bytes) {
        return filled;
    }
    if (filled > slot->done && writer->flush_seen > at + slot->done &&
        at + filled == weir__load(&writer->tail, relaxed)) {
        /* All that is reserved is committed: so it is a part without holes. Relaxed: the load of
         * filled has acquired the reservations that it counts. */
        return filled;
    }
    return 0;
}

/* The writes that can be begun now, up to room; into writer->runs if `prepare`. */
static unsigned owner_collect(struct weir_writer *writer, unsigned room, bool prepare)
{
    unsigned count = 0;

    if (writer->pad_busy || owner_failed(writer)) {
        return 0;
    }
    /* Relaxed: an older tail hides full buffers above the lowest one that is not in the file, for a
     * while; never that one, since it begins at or below every tail that we can read. */
    const uint64_t tail = weir__load(&writer->tail, relaxed);
    const uint64_t end =
        weir__min_u64(writer_number(writer, tail) + 1, writer->head + writer->slot_count);
    for (uint64_t number = writer->head; number < end && count < room; number++) {
        const uint64_t to = slot_ready(writer, number);
        if (to == 0) {
            continue;
        }
        if (prepare) {
            slot_prepare(writer, number, to);
            writer->runs[count] = &writer_slot(writer, number)->run;
        }
        count++;
    }
    return count;
}

static bool owner_sync_ready(struct weir_writer *writer)
{
    if (!writer->sync_due || writer->sync_busy || owner_failed(writer) ||
        weir__load(&writer->written, relaxed) < writer->sync_position) {
        return false;
    }
    if (!writer->sync_turn) {
        writer->sync_turn = weir__io_syncs_take_owner(&writer->syncs);
        writer->sync_waits = !writer->sync_turn;
    }
    /* One that failed is heard of by owner_listen. */
    return writer->sync_turn && weir__io_syncs_failed(&writer->syncs) == 0;
}

static void owner_prepare_sync(struct weir_writer *writer)
{
    writer->sync_op = (struct weir__transfer_op){
        .kind = WEIR__OP_SYNC,
        .file = writer->file.file,
        .block_bytes = 1,
    };
    writer->sync_run = (struct weir__transfer_run){.ops = &writer->sync_op, .count = 1};
}

/* Begins what can be begun, in one submission. True: something was. */
static bool owner_submit(struct weir_writer *writer)
{
    struct weir__transfer *const transfer = &writer->device.transfer;
    unsigned room = transfer->entries - transfer->in_flight;
    unsigned count = 0;

    writer->crowded = false;
    /* The sync first: the writes could take all the room, again and again. */
    const bool sync = room > 0 && owner_sync_ready(writer);
    if (sync) {
        owner_prepare_sync(writer);
        room--;
    }
    count = owner_collect(writer, room, true);
    const unsigned writes = count;
    if (sync) {
        writer->runs[count++] = &writer->sync_run;
    }
    if (count == 0) {
        writer->crowded = room == 0 && transfer->in_flight > 0;
        return false;
    }
    const int code = weir__transfer_start_many(transfer, writer->runs, count);
    if (code == -EAGAIN && transfer->in_flight > 0) {
        writer->crowded = true;
        return false;
    }
    if (code != 0) {
        const uint64_t offset = writes > 0 ? writer->runs[0]->ops[0].offset : UINT64_MAX;
        owner_fail(writer, code, offset, "cannot hand operations to the kernel");
        return true;
    }
    for (unsigned i = 0; i < writes; i++) {
        struct writer_slot *const slot = writer->runs[i]->user;
        slot->busy = true;
        /* At most one, and the last: a part is that of the tail's buffer. */
        writer->pad_busy = writer->pad_busy || slot->padded;
    }
    if (sync) {
        writer->sync_due = false;
        writer->sync_busy = true;
    }
    return true;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* What is wanted of us. True: something new. */
static bool owner_listen(struct weir_writer *writer)
{
    bool news = false;

    /* Tickets before positions: the position that a ticket needs was published before it. */
    const uint64_t asked = weir__load(&writer->sync_asked, acquire);
    const uint64_t wanted = weir__load(&writer->flush_wanted, acquire);
    if (wanted > writer->flush_seen) {
        writer->flush_seen = wanted;
        news = true;
    }
    if (asked > writer->sync_seen) {
        writer->sync_seen = asked;
        news = true;
    }
    if (writer->sync_seen > writer->sync_ticket && !writer->sync_due && !writer->sync_busy) {
        writer->sync_ticket = writer->sync_seen;
        writer->sync_position = writer->flush_seen;
        writer->sync_due = true;
        news = true;
    }
    const int lost = owner_failed(writer) ? 0 : weir__io_syncs_failed(&writer->syncs);
    if (lost != 0) {
        owner_fail(writer, lost, UINT64_MAX, "an executor's Sync of the file has failed");
        news = true;
    }
    if (!writer->stopping && weir__load(&writer->stop, acquire) != 0) {
        writer->stopping = true;
        news = true;
    }
    return news;
}

/* Takes what has come back; waits for it if asked to. True: something has. */
static bool owner_reap(struct weir_writer *writer, bool wait)
{
    struct weir__transfer *const transfer = &writer->device.transfer;

    if (transfer->in_flight == 0 || transfer->broken) {
        return false;
    }
    const int count = weir__transfer_reap(transfer, wait ? 1 : 0, wait ? WEIR__NEVER : 0);
    if (count < 0) {
        owner_fail(writer, count, UINT64_MAX, "cannot learn what became of the operations");
    }
    return count != 0;
}

static void owner_sleep(struct weir_writer *writer)
{
    const struct weir__transfer *const transfer = &writer->device.transfer;
    const bool on_ring = transfer->in_flight > 0 && !transfer->broken;

    if (on_ring && writer->crowded) {
        /* Nothing that anybody wants can be begun before something comes back. */
        (void)owner_reap(writer, true);
        return;
    }
    uint32_t how = on_ring ? WRITER_ON_RING : WRITER_ON_WORD;
    if (writer->flush_seen > weir__load(&writer->written, relaxed)) {
        how |= WRITER_EAGER;
    }
    /* seq_cst, and so are the looks at filled behind it: a commit that they miss comes after them,
     * and finds this. */
    (void)weir__exchange(&writer->sleep, how, seq_cst);
    if (!owner_listen(writer) && !owner_sync_ready(writer) &&
        owner_collect(writer, 1, false) == 0) {
        if (on_ring) {
            (void)owner_reap(writer, true);
        } else {
            (void)weir__futex_wait(&writer->sleep, how, WEIR__NEVER);
        }
    }
    /* An RMW, so that what was published to us by others' RMWs stays so. */
    (void)weir__exchange(&writer->sleep, WRITER_AWAKE, acq_rel);
}

static void owner_run(struct weir_writer *writer)
{
    const struct weir__transfer *const transfer = &writer->device.transfer;

    for (;;) {
        const bool news = owner_listen(writer);
        const bool begun = owner_submit(writer);
        const bool ended = owner_reap(writer, false);
        if (writer->stopping && (transfer->in_flight == 0 || transfer->broken)) {
            return;
        }
        if (!news && !begun && !ended) {
            owner_sleep(writer);
        }
    }
}

/* ---- starting -------------------------------------------------------------------------------- */

/* Reads what the file has of its last block, to be written again with what comes behind it. */
static int owner_read_end(struct weir_writer *writer, struct weir_error *error_out)
{
    struct weir__io *const io = writer->file.io;
    const uint64_t need = writer->start - writer->base;

    for (unsigned i = 0; i < OWNER_READ_TRIES; i++) {
        size_t got;
        const int code = weir__io_read_upto(io,
                                            writer->file.file,
                                            writer_buffer(writer, 0),
                                            writer->file.block_bytes,
                                            writer->base,
                                            writer->file.block_bytes,
                                            &got);
        if (code != 0) {
            return weir__io_file_error(&writer->file,
                                       code,
                                       writer->base,
                                       "cannot read the file's last block",
                                       error_out);
        }
        if (got >= need) {
            return 0;
        }
    }
    return weir__io_file_error(&writer->file,
                               -EIO,
                               writer->base,
                               "the file's last block comes back short of its length",
                               error_out);
}

static int owner_open_file(struct weir_writer *writer, bool direct)
{
    return weir__io_file_open(writer->device.io,
                              writer->path,
                              WEIR__OPEN_WRITE | (writer->must_exist ? 0 : WEIR__OPEN_CREATE),
                              direct,
                              &writer->file,
                              &writer->error);
}

static int owner_open_files(struct weir_writer *writer)
{
    struct weir_io_effective *const effective = &writer->device.effective;
    int code = owner_open_file(writer, writer->config.direct_io);

    if (code == 0 && writer->file.direct && writer->file.block_bytes > WRITER_PAD_BYTES) {
        char text[128];
        (void)snprintf(text,
                       sizeof text,
                       "direct_io: O_DIRECT wants blocks of %u bytes here, more than buffers are "
                       "aligned to; the page cache is used",
                       writer->file.block_bytes);
        weir__io_file_close(&writer->file);
        weir__io_device_refused(&writer->device, text);
        code = owner_open_file(writer, false);
    } else if (code == 0 && writer->file.note[0] != '\0') {
        weir__io_device_refused(&writer->device, writer->file.note);
    }
    if (code != 0) {
        return code;
    }
    writer->file.syncs = &writer->syncs;
    effective->config.direct_io = writer->file.direct;
    effective->block_bytes = writer->file.block_bytes;
    return 0;
}

static int owner_no_memory(struct weir_writer *writer)
{
    return weir__io_file_error(&writer->file,
                               -ENOMEM,
                               UINT64_MAX,
                               "no memory for the writer's buffers",
                               &writer->error);
}

/* Buffers and positions. */
static int owner_lay_out(struct weir_writer *writer)
{
    const uint32_t block = writer->file.block_bytes;

    writer->buffer_bytes = writer->device.effective.config.buffer_bytes;
    writer->slot_count = writer->device.buffers_bytes / writer->buffer_bytes;
    if (writer->slot_count > writer->config.registered_buffers) {
        writer->slot_count = writer->config.registered_buffers; /* the rest is rounding */
    }
    if (writer->device.buffers == NULL || writer->slot_count < 2) {
        return owner_no_memory(writer);
    }
    writer->slots = weir__mem_alloc(&writer->mem,
                                    (size_t)writer->slot_count * sizeof *writer->slots,
                                    WEIR__LINE);
    writer->runs =
        weir__mem_alloc(&writer->mem, (size_t)(writer->slot_count + 1) * sizeof *writer->runs, 8);
    writer->pad = weir__mem_alloc(&writer->mem, WRITER_PAD_BYTES, WRITER_PAD_BYTES);
    if (writer->slots == NULL || writer->runs == NULL || writer->pad == NULL) {
        return owner_no_memory(writer);
    }
    writer->start = writer->file.bytes;
    writer->base = weir__align_down(writer->start, block);
    if (writer->base < writer->start) {
        const int code = owner_read_end(writer, &writer->error);
        if (code != 0) {
            return code;
        }
        /* Relaxed, these and the next: published by `ready`. */
        weir__store(&writer->slots[0].filled, writer->start - writer->base, relaxed);
        writer->slots[0].done = writer->start - writer->base;
    }
    weir__store(&writer->tail, writer->start, relaxed);
    weir__store(&writer->written, writer->start, relaxed);
    return 0;
}

/* From any thread that has synced the file, or failed to. */
static void owner_wake(void *ctx)
{
    weir__writer_nudge(ctx);
}

static int owner_start(struct weir_writer *writer)
{
    int code =
        weir__io_device_open(&writer->device, &writer->config, writer->seam, false, &writer->error);

    if (code != 0) {
        return code;
    }
    writer->syncs.wake = owner_wake;
    writer->syncs.ctx = writer;
    writer->device.transfer.ended = owner_ended;
    writer->device.transfer.ctx = writer;
    code = owner_open_files(writer);
    if (code == 0) {
        code = owner_lay_out(writer);
        if (code != 0) {
            weir__io_file_close(&writer->file);
        }
    }
    if (code != 0) {
        weir__io_device_close(&writer->device);
    }
    return code;
}

void *weir__writer_owner(void *arg)
{
    struct weir_writer *const writer = arg;

    const int code = owner_start(writer);
    writer->start_code = code;
    weir__store(&writer->ready, 1u, release);
    (void)weir__futex_wake(&writer->ready, 1);
    if (code == 0) {
        owner_run(writer);
        /* Whoever told us to stop may still be about to wake the queue. */
        while (weir__load(&writer->joining, acquire) == 0) {
            (void)weir__futex_wait(&writer->joining, 0, WEIR__NEVER);
        }
        writer->broken = writer->device.transfer.broken;
        weir__io_device_close(&writer->device);
        weir__io_file_close(&writer->file);
    }
    return NULL;
}
