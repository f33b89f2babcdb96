/* SPDX-License-Identifier: Apache-2.0
 * A file read at positions that its callers name.
 *
 * The happy path:
 *   1. up to buffer_bytes: the calling thread's own pread, until the file's end or all is there;
 *   2. above that: a lane is taken, the range is cut at multiples of buffer_bytes, and the pieces
 *      are put on the lane's ring side by side, further ones as the first come back;
 *   3. what came back short is gone on with by plain reads, from the lowest such place on.
 *
 * A lane is a ring with its buffers, one thread's for the length of a call. It is taken by a CAS
 * and given back by a store, and the next one to have it may be any thread. There are only a few;
 * each is opened when it is first needed. Nobody waits for one: a call that finds all of them taken
 * reads by plain calls itself, for with so many threads reading at once the device has enough to do
 * without the pieces of one of them going side by side. The same holds for the operations in
 * flight, whose bound is for all lanes together.
 *
 * Direct reads whose place, length or memory is not a multiple of the block go through memory of
 * ours, and only what was asked for is copied. All other reads go straight into the caller's.
 *
 * Whether a short result is the file's end is found out below (io/transfer.h). But a file may grow
 * while its pieces are read: one that ends early is not believed to be the last while others are
 * behind it.
 *
 * What can fail: a read, which is then the whole call's error, whatever else arrived; memory for a
 * piece that has to go round. A ring that breaks while pieces are in flight is not used any more.
 * Any thread; nothing here is shared but the lanes' words and the figures. */
#include "io/reader.h"

#include "base/check.h"
#include "base/compiler.h"
#include "base/num.h"
#include "base/plant.h"
#include "io/device.h"
#include "port/clock.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

/* Memory that the seam hands out for I/O is aligned to this, and no device wants more. */
#define READER_MEMORY_ALIGN 4096u
/* Pieces that go round at once where the lane has no buffers of its own. */
#define READER_SPARES 8u
#define READER_BOUNCES_MAX 128u
#define READER_NOWHERE UINT64_MAX

_Static_assert(READER_BOUNCES_MAX *WEIR__READER_LANES >= 1024,
               "a lane's share of the most buffers that a config may have");

enum lane_state { LANE_FREE = 0, LANE_TAKEN, LANE_DEAD };

/* A piece on the ring. */
struct reader_piece {
    struct weir__transfer_run run;
    struct weir__transfer_op op;
    struct iovec iov;
    uint64_t from; /* first byte read */
    uint64_t at;   /* first byte wanted */
    size_t want;
    uint8_t *to;     /* where they belong in the caller's memory */
    uint8_t *bounce; /* NULL: they are read straight to there */
};

struct reader_lane {
    /* enum lane_state. FREE -> TAKEN: CAS acquire, lane_take; back: store-release, lane_give, which
     * hands everything below to the next taker. The loser of a CAS tries the next lane. DEAD is
     * final. No ABA: a FREE lane is the same thing whoever had it. */
    WEIR__ATOMIC(uint32_t) state;
    /* 1: the device is open, and stays so until the reader's close. store-release in lane_open;
     * load-acquire by whoever wants its figures. */
    WEIR__ATOMIC(uint32_t) opened;
    /* Guarded by state. */
    struct weir__io_device device;
    unsigned bounces; /* buffers that pieces may go through */
    unsigned piece_count;
    struct reader_piece *pieces;
    struct weir__transfer_run **starting; /* piece_count of them, and so below */
    struct reader_piece **unused;
};

struct weir_reader {
    struct weir__mem mem;
    /* Set before start. */
    struct weir_io_config config;
    struct weir__io *seam;
    struct weir__io_file file;
    struct weir_io_effective effective;
    size_t chunk_bytes;  /* of a piece: buffer_bytes, but a block at least */
    size_t memory_align; /* of direct reads */
    uint64_t end_max;    /* no file has bytes here or above, and the kernel would refuse to look */

    /* Operations that may still be put on rings. Relaxed: it bounds a number, and publishes
     * nothing. Never below 0: taken by a CAS whose loser looks again, and gives up at 0. */
    WEIR__ATOMIC(uint32_t) room;
    /* Relaxed, any thread: figures. */
    WEIR__ATOMIC(uint64_t) ops_submitted, ops_completed, bytes_read;
    WEIR__ATOMIC(uint64_t) calls_ring, calls_here, calls_crowded, bounced;

    struct reader_lane lanes[WEIR__READER_LANES];
};

/* ---- lanes ----------------------------------------------------------------------------------- */

/* The lane's part of the reader's buffers: as many as the config has, over all lanes. */
static uint32_t lane_share(const struct weir_reader *reader, unsigned index)
{
    const uint32_t all = reader->config.registered_buffers;
    return all / WEIR__READER_LANES + (index < all % WEIR__READER_LANES ? 1 : 0);
}

static void lane_free_tables(struct weir_reader *reader, struct reader_lane *lane)
{
    const size_t count = lane->piece_count;
    weir__mem_free(&reader->mem, lane->unused, count * sizeof(struct reader_piece *));
    weir__mem_free(&reader->mem, lane->starting, count * sizeof(struct weir__transfer_run *));
    weir__mem_free(&reader->mem, lane->pieces, count * sizeof *lane->pieces);
    lane->pieces = NULL;
}

/* The caller has taken the lane, or is the only one. */
static int lane_open(struct weir_reader *reader, unsigned index, struct weir_error *error_out)
{
    struct reader_lane *const lane = &reader->lanes[index];
    struct weir_io_config config = reader->config;

    config.registered_buffers = lane_share(reader, index);
    if (index > 0) {
        /* As the first one turned out. One thread of the kernel that spins is enough, though. */
        config.backend = reader->effective.config.backend;
        config.kernel_poll = false;
    }
    const int code = weir__io_device_open(&lane->device, &config, reader->seam, true, error_out);
    if (code != 0) {
        return code;
    }
    const size_t count = lane->device.transfer.entries;
    lane->piece_count = (unsigned)count;
    lane->pieces = weir__mem_alloc(&reader->mem, count * sizeof *lane->pieces, 8);
    lane->starting = weir__mem_alloc(&reader->mem, count * sizeof(struct weir__transfer_run *), 8);
    lane->unused = weir__mem_alloc(&reader->mem, count * sizeof(struct reader_piece *), 8);
    if (lane->pieces == NULL || lane->starting == NULL || lane->unused == NULL) {
        lane_free_tables(reader, lane);
        weir__io_device_close(&lane->device);
        return -ENOMEM;
    }
    if (lane->device.buffers != NULL) {
        const size_t fit = lane->device.buffers_bytes / config.buffer_bytes;
        lane->bounces = (unsigned)weir__min_u64(fit, config.registered_buffers);
    }
    weir__store(&lane->opened, 1, release);
    return 0;
}

/* A lane, the caller's until it gives it back; NULL: none is to be had now. */
static struct reader_lane *lane_take(struct weir_reader *reader)
{
    for (unsigned i = 0; i < WEIR__READER_LANES; i++) {
        struct reader_lane *const lane = &reader->lanes[i];
        uint32_t state = LANE_FREE;
        if (!weir__cas(&lane->state, &state, LANE_TAKEN, acquire)) {
            continue;
        }
        /* Relaxed: who opened it gave it back before we could take it. */
        if (weir__load(&lane->opened, relaxed) == 1 || lane_open(reader, i, NULL) == 0) {
            return lane;
        }
        /* What refused it now (memory, descriptors) may give way, but asking at each call would
         * cost more than the lane is worth. */
        weir__store(&lane->state, LANE_DEAD, release);
    }
    return NULL;
}

static void lane_give(struct reader_lane *lane)
{
    const bool broken = lane->device.transfer.broken;
    weir__store(&lane->state, broken ? LANE_DEAD : LANE_FREE, release);
}

/* Takes up to `want` of the operations that may be in flight. */
static unsigned room_take(struct weir_reader *reader, unsigned want)
{
    uint32_t room = weir__load(&reader->room, relaxed);
    /* Ends: a lost CAS means that another call got some, and there are finitely many. */
    while (room > 0) {
        const uint32_t take = (uint32_t)weir__min_u64(room, want);
        if (weir__cas(&reader->room, &room, room - take, relaxed)) {
            return take;
        }
    }
    return 0;
}

/* ---- by plain calls -------------------------------------------------------------------------- */

static void count_one(WEIR__ATOMIC(uint64_t) *counter)
{
    (void)weir__fetch_add(counter, 1, relaxed);
}

/* May the piece be read straight into the caller's memory? */
static bool is_straight(const struct weir_reader *reader, uint64_t at, const void *to, size_t bytes)
{
    const uint64_t block = reader->file.block_bytes;
    return !reader->file.direct ||
           (at % block == 0 && bytes % block == 0 && (uintptr_t)to % reader->memory_align == 0);
}

/* One range of the file, up to its end. 0 with *got_out, or the error. */
static int
here_read(struct weir_reader *reader, uint64_t from, uint8_t *to, size_t bytes, size_t *got_out)
{
    struct weir__transfer_counters counters = {0};
    struct iovec iov = {.iov_base = to, .iov_len = bytes};
    struct weir__transfer_op op = {
        .kind = WEIR__OP_READ,
        .file = reader->file.file,
        .block_bytes = reader->file.block_bytes,
        .iov = &iov,
        .iov_count = 1,
        .offset = from,
        .bytes = bytes,
    };
    struct weir__transfer_run run = {.ops = &op, .count = 1};

    const int code = weir__transfer_here(reader->file.io, &run, &counters);
    /* Counted aside first: a transfer's own counters are for one writer. */
    (void)weir__fetch_add(&reader->ops_submitted,
                          weir__load(&counters.ops_submitted, relaxed),
                          relaxed);
    (void)weir__fetch_add(&reader->ops_completed,
                          weir__load(&counters.ops_completed, relaxed),
                          relaxed);
    (void)weir__fetch_add(&reader->bytes_read, weir__load(&counters.bytes_read, relaxed), relaxed);
    *got_out = op.done;
    return code;
}

/* Memory that one call's direct pieces go through when they are read one after the other. */
struct bounce {
    uint8_t *memory;
    size_t bytes;
    bool ours; /* from the seam: to be freed */
};

static int bounce_get(struct weir_reader *reader,
                      const struct reader_lane *lane,
                      size_t bytes,
                      struct bounce *bounce)
{
    if (bounce->memory != NULL) {
        return 0;
    }
    if (lane != NULL && lane->bounces > 0 && reader->chunk_bytes == reader->config.buffer_bytes) {
        bounce->memory = weir__io_device_buffer(&lane->device, 0);
        bounce->bytes = reader->chunk_bytes;
        return 0;
    }
    bounce->bytes = (size_t)weir__min_u64(reader->chunk_bytes, bytes);
    bounce->memory = weir__mem_alloc_io(&reader->mem, bounce->bytes);
    bounce->ours = bounce->memory != NULL;
    return bounce->ours ? 0 : -ENOMEM;
}

/* Reads by the calling thread's own calls. lane: may be NULL; only its buffer is used, and none of
 * its pieces is under way. Bytes read, or the error. */
static int64_t read_here(struct weir_reader *reader,
                         const struct reader_lane *lane,
                         uint64_t offset,
                         uint8_t *buffer,
                         size_t bytes)
{
    const uint64_t block = reader->file.block_bytes;
    struct bounce bounce = {0};
    size_t done = 0;
    int code = 0;

    /* Each turn brings all that it wants, or is the last. */
    while (done < bytes) {
        const uint64_t at = offset + done;
        const uint64_t from = weir__align_down(at, block);
        const size_t skip = (size_t)(at - from);
        size_t want = bytes - done;
        size_t whole = (size_t)weir__align_down(want, block);
        size_t got = 0;
        if (whole > 0 && is_straight(reader, at, buffer + done, whole)) {
            want = whole;
            code = here_read(reader, at, buffer + done, want, &got);
        } else {
            code = bounce_get(reader, lane, (size_t)weir__align_up(skip + want, block), &bounce);
            if (code != 0) {
                break;
            }
            want = (size_t)weir__min_u64(want, bounce.bytes - skip);
            whole = (size_t)weir__align_up(skip + want, block);
            code = here_read(reader, from, bounce.memory, whole, &got);
            count_one(&reader->bounced);
            got = got > skip ? (size_t)weir__min_u64(got - skip, want) : 0;
            if (code == 0) {
                memcpy(buffer + done, bounce.memory + skip, got);
            }
        }
        done += code == 0 ? got : 0;
        if (code != 0 || got < want) {
            break;
        }
    }
    if (bounce.ours) {
        weir__mem_free_io(&reader->mem, bounce.memory, bounce.bytes);
    }
    return code != 0 ? code : (int64_t)done;
}

/* ---- on a lane's ring ------------------------------------------------------------------------ */

/* One call. */
struct reader_call {
    struct weir_reader *reader;
    struct reader_lane *lane;
    uint64_t offset;
    uint64_t end;
    uint8_t *buffer;
    uint64_t next; /* from here on nothing was begun */
    /* Lowest position that is not known to have been read, though something at or above it was
     * begun: to be gone on with by plain calls. */
    uint64_t short_at;
    uint64_t failed_at; /* of code */
    int code;
    unsigned active; /* pieces with the ring */
    unsigned unused; /* in lane->unused */
    uint8_t *bounces;
    unsigned bounces_free;
    uint8_t bounce_free[READER_BOUNCES_MAX]; /* their indices */
    size_t spare_bytes; /* bounces are from the seam, so large; 0: they are the lane's */
};

static void call_ended(void *ctx, struct weir__transfer_run *run, int code)
{
    struct reader_call *const call = ctx;
    struct reader_piece *const piece = run->user;

    if (code != 0) {
        if (piece->at < call->failed_at) {
            call->failed_at = piece->at;
            call->code = code;
        }
    } else {
        const size_t skip = (size_t)(piece->at - piece->from);
        const size_t read = piece->op.done;
        const size_t got = read > skip ? (size_t)weir__min_u64(read - skip, piece->want) : 0;
        if (piece->bounce != NULL) {
            memcpy(piece->to, piece->bounce + skip, got);
        }
        if (got < piece->want) {
            call->short_at = weir__min_u64(call->short_at, piece->at + got);
        }
    }
    if (piece->bounce != NULL) {
        const size_t index = (size_t)(piece->bounce - call->bounces) / call->reader->chunk_bytes;
        call->bounce_free[call->bounces_free++] = (uint8_t)index;
    }
    call->lane->unused[call->unused++] = piece;
    call->active--;
}

/* Memory for pieces that go round, looked for with the first of them. */
static int call_bounces(struct reader_call *call)
{
    struct weir_reader *const reader = call->reader;
    unsigned count = call->lane->bounces;

    if (call->bounces != NULL) {
        return 0;
    }
    if (count > 0 && reader->chunk_bytes == reader->config.buffer_bytes) {
        call->bounces = weir__io_device_buffer(&call->lane->device, 0);
    } else {
        count = (unsigned)weir__min_u64(READER_SPARES, call->unused);
        call->spare_bytes = count * reader->chunk_bytes;
        call->bounces = weir__mem_alloc_io(&reader->mem, call->spare_bytes);
        if (call->bounces == NULL) {
            return -ENOMEM;
        }
    }
    while (call->bounces_free < count) {
        call->bounce_free[call->bounces_free] = (uint8_t)call->bounces_free;
        call->bounces_free++;
    }
    return 0;
}

/* Sets the next piece up. False: it has to wait for a buffer, or code says what failed. */
static bool call_prepare(struct reader_call *call)
{
    struct weir_reader *const reader = call->reader;
    const uint64_t block = reader->file.block_bytes;
    const uint64_t at = call->next;
    const uint64_t border = at - at % reader->chunk_bytes + reader->chunk_bytes;
    const uint64_t to = weir__min_u64(border, call->end);
    const size_t want = (size_t)(to - at);
    uint8_t *const memory = call->buffer + (at - call->offset);
    uint8_t *bounce = NULL;
    uint64_t from = at;
    size_t bytes = want;

    if (!is_straight(reader, at, memory, want)) {
        const int code = call_bounces(call);
        if (code != 0) {
            call->code = code;
            return false;
        }
        if (call->bounces_free == 0) {
            return false;
        }
        const size_t index = call->bounce_free[--call->bounces_free];
        bounce = call->bounces + index * reader->chunk_bytes;
        from = weir__align_down(at, block);
        bytes = (size_t)(weir__align_up(to, block) - from);
        count_one(&reader->bounced);
    }
    struct reader_piece *const piece = call->lane->unused[--call->unused];
    *piece = (struct reader_piece){
        .run = {.ops = &piece->op, .count = 1, .user = piece},
        .op = {.kind = WEIR__OP_READ,
               .file = reader->file.file,
               .block_bytes = reader->file.block_bytes,
               .iov = &piece->iov,
               .iov_count = 1,
               .offset = from,
               .bytes = bytes},
        .iov = {.iov_base = bounce != NULL ? bounce : memory, .iov_len = bytes},
        .from = from,
        .at = at,
        .want = want,
        .to = memory,
        .bounce = bounce,
    };
    call->next = to;
    return true;
}

/* Begins as many pieces as there is room for, in one submission. */
static void call_start(struct reader_call *call)
{
    struct weir__transfer_run **const starting = call->lane->starting;
    const uint64_t first = call->next;
    unsigned count = 0;

    while (call->code == 0 && call->short_at == READER_NOWHERE && call->next < call->end &&
           call->unused > 0) {
        if (!call_prepare(call)) {
            break;
        }
        starting[count] = &call->lane->unused[call->unused]->run;
        count++;
    }
    if (count == 0) {
        return;
    }
    if (weir__transfer_start_many(&call->lane->device.transfer, starting, count) == 0) {
        call->active += count;
        return;
    }
    /* Nothing was begun. What the ring does not take is read without it. */
    call->short_at = weir__min_u64(call->short_at, first);
}

/* Sees all pieces through. 0: short_at says how far that went; or the error. */
static int call_run(struct reader_call *call)
{
    struct weir__transfer *const transfer = &call->lane->device.transfer;

    for (;;) {
        call_start(call);
        if (call->active == 0) {
            return call->code;
        }
        /* As long as there is more to begin, the device is not to run dry. */
        const bool more =
            call->next < call->end && call->code == 0 && call->short_at == READER_NOWHERE;
        const unsigned min = more ? (call->active + 3) / 4 : call->active;
        const int reaped = weir__transfer_reap(transfer, min, WEIR__NEVER);
        if (reaped < 0) {
            return reaped;
        }
    }
}

/* Bytes read, or the error. The lane is the caller's. room: operations that may be in flight. */
static int64_t read_on_ring(struct weir_reader *reader,
                            struct reader_lane *lane,
                            unsigned room,
                            uint64_t offset,
                            uint8_t *buffer,
                            size_t bytes)
{
    struct weir__transfer *const transfer = &lane->device.transfer;
    struct reader_call call = {
        .reader = reader,
        .lane = lane,
        .offset = offset,
        .end = offset + bytes,
        .buffer = buffer,
        .next = offset,
        .short_at = READER_NOWHERE,
        .failed_at = READER_NOWHERE,
    };

    weir__check(transfer->in_flight == 0 && room > 0 && room <= lane->piece_count);
    while (call.unused < room) {
        lane->unused[call.unused] = &lane->pieces[call.unused];
        call.unused++;
    }
    transfer->written = NULL;
    transfer->ended = call_ended;
    transfer->ctx = &call;
    const int code = call_run(&call);
    if (call.spare_bytes > 0) {
        if (transfer->broken) {
            weir__mem_abandon(&reader->mem, call.bounces, weir__mem_io_bytes(call.spare_bytes));
        } else {
            weir__mem_free_io(&reader->mem, call.bounces, call.spare_bytes);
        }
    }
    if (code != 0) {
        return code;
    }
    if (call.short_at == READER_NOWHERE) {
        return (int64_t)bytes;
    }
    /* The file's end, as a rule, but others may have been read behind it since. */
    const size_t done = (size_t)(call.short_at - offset);
    const int64_t more = read_here(reader, lane, call.short_at, buffer + done, bytes - done);
    return more < 0 ? more : (int64_t)done + more;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int64_t reader_read(struct weir_reader *reader,
                           uint64_t offset,
                           uint8_t *buffer,
                           size_t bytes,
                           bool *lost_out)
{
    const bool large = bytes > reader->config.buffer_bytes;
    struct reader_lane *lane = NULL;
    int64_t result;

    if (large || !is_straight(reader, offset, buffer, bytes)) {
        lane = lane_take(reader);
        if (lane == NULL) {
            count_one(&reader->calls_crowded);
        }
    }
    unsigned room = 0;
    if (large && lane != NULL) {
        const uint64_t last = (offset + bytes - 1) / reader->chunk_bytes;
        const uint64_t pieces = last - offset / reader->chunk_bytes + 1;
        room = room_take(reader, (unsigned)weir__min_u64(pieces, lane->piece_count));
        if (room == 0) {
            count_one(&reader->calls_crowded);
        }
    }
    if (room > 0) {
        count_one(&reader->calls_ring);
        result = read_on_ring(reader, lane, room, offset, buffer, bytes);
        (void)weir__fetch_add(&reader->room, room, relaxed);
    } else {
        count_one(&reader->calls_here);
        result = read_here(reader, lane, offset, buffer, bytes);
    }
    if (lane != NULL) {
        /* A lane that broke before could not have been taken. */
        *lost_out = lane->device.transfer.broken;
        lane_give(lane);
    }
    return result;
}

int64_t weir__reader_read(struct weir_reader *reader,
                          uint64_t offset,
                          void *buffer,
                          size_t bytes,
                          bool *lost_out)
{
    *lost_out = false;
    if (WEIR__PLANTED(read_length_32)) {
        bytes = (uint32_t)bytes;
    }
    if (offset > (UINT64_C(1) << 63) || bytes > (UINT64_C(1) << 63) - offset ||
        bytes > (size_t)INT64_MAX) {
        return -EINVAL;
    }
    if (bytes > 0 && buffer == NULL) {
        return -EINVAL;
    }
    if (offset >= reader->end_max) {
        return 0;
    }
    bytes = (size_t)weir__min_u64(bytes, reader->end_max - offset);
    if (bytes == 0) {
        return 0;
    }
    if (WEIR__PLANTED(shared_position)) {
        (void)lseek(reader->file.file, (off_t)offset, SEEK_SET);
        (void)sched_yield();
        offset = (uint64_t)lseek(reader->file.file, (off_t)bytes, SEEK_CUR) - bytes;
    }
    return reader_read(reader, offset, buffer, bytes, lost_out);
}

int64_t weir_reader_read_at(struct weir_reader *reader, uint64_t offset, void *buffer, size_t bytes)
{
    bool lost;
    return weir__reader_read(reader, offset, buffer, bytes, &lost);
}

int weir_reader_read_exact_at(struct weir_reader *reader,
                              uint64_t offset,
                              void *buffer,
                              size_t bytes)
{
    const int64_t got = weir_reader_read_at(reader, offset, buffer, bytes);
    if (got < 0) {
        return (int)got;
    }
    return (uint64_t)got == bytes ? 0 : -ENODATA;
}

/* ---- opening and closing --------------------------------------------------------------------- */

/* What the first lane and the file made of the config. */
static void reader_set_effective(struct weir_reader *reader)
{
    struct weir__io_device *const device = &reader->lanes[0].device;
    struct weir_io_effective *const effective = &reader->effective;

    if (reader->file.note[0] != '\0') {
        weir__io_device_refused(device, reader->file.note);
    }
    *effective = device->effective;
    effective->config.direct_io = reader->file.direct;
    effective->block_bytes = reader->file.block_bytes;
    if (effective->config.registered_buffers == lane_share(reader, 0)) {
        effective->config.registered_buffers = reader->config.registered_buffers;
    }
}

int weir__reader_open_with(const char *path,
                           const struct weir_io_config *config,
                           struct weir__io *seam,
                           struct weir_reader **reader_out,
                           struct weir_error *error_out)
{
    struct weir_io_config settled;
    struct weir__mem mem;

    int code = weir__io_config_settle(config, &settled, error_out);
    if (code != 0) {
        return code;
    }
    weir__io_memory(&mem, settled.memory);
    struct weir_reader *const reader =
        weir__mem_alloc(&mem, sizeof *reader, _Alignof(struct weir_reader));
    const struct weir__io_file none = {.dir = -1, .file = -1};
    if (reader == NULL) {
        weir__mem_exit(&mem);
        return weir__io_file_error(&none, -ENOMEM, UINT64_MAX, "no memory for a reader", error_out);
    }
    reader->mem = mem;
    reader->config = settled;
    reader->seam = seam;
    reader->file = none;

    /* The first lane at once: it says what the kernel makes of the config. */
    code = lane_open(reader, 0, error_out);
    if (code == -ENOMEM) {
        (void)weir__io_file_error(&none, code, UINT64_MAX, "no memory for a ring", error_out);
    }
    if (code == 0) {
        reader->file.io = reader->lanes[0].device.io;
        struct weir__io_file file;
        code = weir__io_file_open(reader->file.io,
                                  path,
                                  WEIR__OPEN_READ,
                                  settled.direct_io,
                                  &file,
                                  error_out);
        if (code == 0) {
            reader->file = file;
        }
    }
    if (code != 0) {
        weir_reader_close(reader);
        return code;
    }
    const uint32_t block = reader->file.block_bytes;
    reader->chunk_bytes = (size_t)weir__align_up(settled.buffer_bytes, block);
    reader->memory_align = (size_t)weir__min_u64(block, READER_MEMORY_ALIGN);
    reader->end_max = weir__align_down(INT64_MAX, block);
    weir__store(&reader->room, reader->lanes[0].piece_count, relaxed);
    reader_set_effective(reader);
    *reader_out = reader;
    return 0;
}

int weir_reader_open(const char *path,
                     const struct weir_io_config *config,
                     struct weir_reader **reader_out,
                     struct weir_error *error_out)
{
    return weir__reader_open_with(path, config, NULL, reader_out, error_out);
}

void weir_reader_close(struct weir_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    for (unsigned i = 0; i < WEIR__READER_LANES; i++) {
        struct reader_lane *const lane = &reader->lanes[i];
        /* Relaxed: nobody else is left. */
        if (weir__load(&lane->opened, relaxed) == 0) {
            continue;
        }
        if (lane->device.transfer.broken) {
            /* The kernel may still look at the pieces' vectors. */
            weir__mem_abandon(&reader->mem, lane->pieces, lane->piece_count * sizeof *lane->pieces);
            lane->pieces = NULL;
        }
        weir__io_device_close(&lane->device);
        lane_free_tables(reader, lane);
    }
    if (reader->file.file >= 0) {
        weir__io_file_close(&reader->file);
    }
    struct weir__mem mem = reader->mem;
    weir__mem_free(&mem, reader, sizeof *reader);
    weir__mem_exit(&mem);
}

/* ---- questions ------------------------------------------------------------------------------- */

int weir_reader_bytes(struct weir_reader *reader, uint64_t *bytes_out)
{
    struct weir__file_info info;
    const int code = reader->file.io->ops->info(reader->file.io, reader->file.file, &info);
    if (code == 0) {
        *bytes_out = info.bytes;
    }
    return code;
}

void weir_reader_effective(struct weir_reader *reader, struct weir_io_effective *effective_out)
{
    *effective_out = reader->effective;
}

void weir_reader_stats(struct weir_reader *reader, struct weir_io_stats *stats_out)
{
    struct weir_io_stats sum = {
        /* Completed first, so that a snapshot rarely shows more of those than were submitted. */
        .ops_completed = weir__load(&reader->ops_completed, relaxed),
        .ops_submitted = weir__load(&reader->ops_submitted, relaxed),
        .bytes_read = weir__load(&reader->bytes_read, relaxed),
    };
    for (unsigned i = 0; i < WEIR__READER_LANES; i++) {
        const struct reader_lane *const lane = &reader->lanes[i];
        if (weir__load(&lane->opened, acquire) == 0) {
            continue;
        }
        struct weir_io_stats stats;
        weir__io_device_stats(&lane->device, &stats);
        sum.ops_submitted += stats.ops_submitted;
        sum.ops_completed += stats.ops_completed;
        sum.bytes_written += stats.bytes_written;
        sum.bytes_read += stats.bytes_read;
        sum.cqe_overflows += stats.cqe_overflows;
        sum.sq_dropped += stats.sq_dropped;
    }
    *stats_out = sum;
}

const struct weir__io_file *weir__reader_file(const struct weir_reader *reader)
{
    return &reader->file;
}

const struct weir_io_config *weir__reader_config(const struct weir_reader *reader)
{
    return &reader->config;
}

void weir__reader_counts(struct weir_reader *reader, struct weir__reader_counts *counts_out)
{
    *counts_out = (struct weir__reader_counts){
        .ring = weir__load(&reader->calls_ring, relaxed),
        .here = weir__load(&reader->calls_here, relaxed),
        .crowded = weir__load(&reader->calls_crowded, relaxed),
        .bounced = weir__load(&reader->bounced, relaxed),
    };
    for (unsigned i = 0; i < WEIR__READER_LANES; i++) {
        counts_out->lanes += weir__load(&reader->lanes[i].opened, acquire);
    }
}
