/* SPDX-License-Identifier: Apache-2.0
 * Sequential reading of one segment in large aligned chunks.
 *
 * The window owns `depth` chunk buffers in one block of memory, used as a ring in file order. The
 * happy path of a peek:
 *   1. the chunk that holds the byte is found in the ring, chunks before it are given back;
 *   2. free buffers are handed to the reader thread, up to the limit of this call and no further;
 *   3. if the chunk itself is still on its way, it is waited for;
 *   4. the caller gets a pointer into the chunk.
 * A byte that no chunk holds starts a new run there: what is on its way is waited for, since its
 * memory is about to be used again. Without read-ahead there is one chunk at a time, read on
 * demand; it starts small after a jump and doubles while the reading is sequential, so that whoever
 * hops from header to header does not read all that lies between.
 *
 * A queue belongs to the thread that opened it, while a cursor may pass from thread to thread. So
 * read-ahead has a thread of its own, which opens the queue, pushes what is wanted and reaps what
 * has landed; the two sides meet under one mutex, once per chunk.
 *
 * What can fail: the device. A chunk that cannot be read as a whole is read again block by block,
 * so that the good blocks before the bad one are delivered and the fault names the bad one.
 * Failures are not remembered: asking again reads again. A queue that is refused or breaks costs
 * speed only; memory that a broken one may still write to is left to it for good. One thread at a
 * time. */
#include "segment/window.h"

#include "base/check.h"
#include "base/compiler.h"
#include "base/num.h"
#include "io/transfer.h"
#include "port/clock.h"
#include "port/thread.h"
#include "segment/segment.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define WINDOW_CHUNK_STEP_BYTES ((size_t)64 * 1024 / WEIR__CHUNKS_SMALLER)
#define WINDOW_CHUNK_DEFAULT_BYTES ((size_t)1024 * 1024 / WEIR__CHUNKS_SMALLER)
#define WINDOW_CHUNK_MAX_BYTES ((size_t)256 * 1024 * 1024)
/* Of a read from the page cache: what stays in the processor's own cache until it is looked at. */
#define WINDOW_CACHED_BYTES ((size_t)256 * 1024 / WEIR__CHUNKS_SMALLER)
#define WINDOW_DEPTH_DEFAULT 4u
#define WINDOW_DEPTH_MAX 64u
#define WINDOW_HUGE_BYTES ((size_t)2 * 1024 * 1024)
#define WINDOW_UNIT_MIN_BYTES 512u

/* Who has a chunk's memory. */
enum chunk_state {
    CHUNK_OURS = 0, /* the caller's side */
    CHUNK_WANTED,   /* handed to the reader thread, not yet begun */
    CHUNK_READING,  /* the kernel may write to it */
};

struct window_chunk {
    uint64_t offset; /* in the file, a multiple of the unit */
    size_t bytes; /* asked for, a multiple of the unit; cut to what is there once that is known */
    size_t done;  /* read so far; while handed over: guarded by ahead.mutex, as is state */
    enum chunk_state state;
    bool handed; /* caller's side: may still be away */
    struct iovec iov;
    struct weir__transfer_op op; /* the reader thread's */
    struct weir__transfer_run run;
    uint8_t *memory;
};

/* What the caller's side and the reader thread share. */
struct window_ahead {
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a chunk came back, or the thread has opened its queue or given up */
    pthread_t thread;
    bool running;              /* caller's side: the thread is to be joined */
    bool refused;              /* caller's side: do not start it (again) */
    bool ready;                /* guarded by mutex: the queue is open, wanted chunks will be read */
    bool over;                 /* guarded by mutex: the thread takes nothing more */
    bool stop;                 /* guarded by mutex */
    bool lost;                 /* guarded by mutex: the queue broke with reads under way */
    struct weir__queue *queue; /* set before ready */
    struct weir__transfer transfer; /* the reader thread's */
    struct weir__transfer_counters counters;
};

struct weir__window {
    struct weir__dir *dir;
    size_t chunk_bytes;
    unsigned depth;
    uint32_t block_bytes;
    bool buffered;
    bool past_cache;       /* asked for by weir__window_past_cache */
    weir_lsn cached_below; /* by weir__window_cached_below */

    /* The segment in hand. */
    struct weir__range range;
    int file; /* -1: none; not changed while a chunk is away */
    bool file_direct;
    bool
        file_cached; /* read through the page cache because that holds it: weir__window_cached_below */
    uint32_t unit; /* offsets and lengths of reads are multiples of it */

    /* The ring: chunks first, first + 1, ..., count of them, contiguous in the file. */
    unsigned first;
    unsigned count;
    uint64_t run_end;   /* file offset behind the last chunk: where the next one begins */
    size_t plain_bytes; /* size of the next plain read */

    uint64_t reads;
    uint64_t read_bytes;
    uint64_t cached_bytes; /* of these, read while file_cached */
    uint8_t *memory;
    size_t memory_bytes;
    bool lost; /* the kernel may still write to the memory: it is not to be used again, nor freed */
    struct window_ahead ahead; /* only with depth > 1 */
    struct window_chunk chunks[];
};

/* ---- sizes ----------------------------------------------------------------------------------- */

static size_t window_chunk_bytes(const struct weir__window_config *config)
{
    if (config->chunk_bytes == 0) {
        return WINDOW_CHUNK_DEFAULT_BYTES;
    }
    if (config->chunk_bytes >= WINDOW_CHUNK_MAX_BYTES) {
        return WINDOW_CHUNK_MAX_BYTES;
    }
    return (size_t)weir__align_up(config->chunk_bytes, WINDOW_CHUNK_STEP_BYTES);
}

static unsigned window_depth(const struct weir__window_config *config)
{
    if (config->depth == 0) {
        return WINDOW_DEPTH_DEFAULT;
    }
    return config->depth < WINDOW_DEPTH_MAX ? config->depth : WINDOW_DEPTH_MAX;
}

/* Direct reads into ordinary pages measured 2.8 times slower once a request needs more segments
 * than the device takes, so whatever comes near a huge page gets one. */
static size_t window_buffer_bytes(const struct weir__window_config *config)
{
    const size_t bytes = window_chunk_bytes(config) * window_depth(config);
    return bytes > WINDOW_HUGE_BYTES / 4 ? (size_t)weir__align_up(bytes, WINDOW_HUGE_BYTES) : bytes;
}

static size_t window_struct_bytes(unsigned depth)
{
    return sizeof(struct weir__window) + depth * sizeof(struct window_chunk);
}

size_t weir__window_memory(const struct weir__window_config *config)
{
    return window_struct_bytes(window_depth(config)) +
           weir__mem_io_bytes(window_buffer_bytes(config));
}

/* ---- the reader thread ----------------------------------------------------------------------- */

static struct window_chunk *window_chunk_at(struct weir__window *window, unsigned index)
{
    weir__debug(index < window->depth);
    return &window->chunks[(window->first + index) % window->depth];
}

/* Pushes chunks that are wanted. Those that the queue does not take go back untouched: the caller
 * reads them itself. */
static void ahead_push(struct weir__window *window)
{
    struct window_ahead *const ahead = &window->ahead;
    for (unsigned i = 0; i < window->depth; i++) {
        struct window_chunk *const chunk = &window->chunks[i];
        (void)pthread_mutex_lock(&ahead->mutex);
        const bool wanted = chunk->state == CHUNK_WANTED;
        if (wanted) {
            chunk->state = CHUNK_READING;
        }
        (void)pthread_mutex_unlock(&ahead->mutex);
        if (!wanted) {
            continue;
        }
        chunk->iov = (struct iovec){.iov_base = chunk->memory, .iov_len = chunk->bytes};
        chunk->op = (struct weir__transfer_op){
            .kind = WEIR__OP_READ,
            .file = window->file,
            .block_bytes = window->unit,
            .iov = &chunk->iov,
            .iov_count = 1,
            .offset = chunk->offset,
            .bytes = chunk->bytes,
        };
        chunk->run = (struct weir__transfer_run){.ops = &chunk->op, .count = 1, .user = chunk};
        if (weir__transfer_start(&ahead->transfer, &chunk->run) < 0) {
            (void)pthread_mutex_lock(&ahead->mutex);
            chunk->state = CHUNK_OURS;
            (void)pthread_cond_signal(&ahead->changed);
            (void)pthread_mutex_unlock(&ahead->mutex);
        }
    }
}

/* A chunk has landed. An error, or the file's end, is no more than unfinished work: the plain read
 * that completes the chunk when somebody asks for it will meet it again. */
static void ahead_take(void *ctx, struct weir__transfer_run *run, int code)
{
    struct weir__window *const window = ctx;
    struct window_ahead *const ahead = &window->ahead;
    struct window_chunk *const chunk = run->user;
    (void)code;
    (void)pthread_mutex_lock(&ahead->mutex);
    weir__check(chunk->state == CHUNK_READING);
    chunk->done = chunk->op.done;
    chunk->state = CHUNK_OURS;
    (void)pthread_cond_signal(&ahead->changed);
    (void)pthread_mutex_unlock(&ahead->mutex);
}

static void *ahead_run(void *arg)
{
    struct weir__window *const window = arg;
    struct window_ahead *const ahead = &window->ahead;
    struct weir__io *const io = window->dir->io;
    const struct weir__queue_config config = {.entries = window->depth, .lock_file = -1};
    struct weir__queue_info info;
    memset(&info, 0, sizeof info);
    struct weir__queue *queue = NULL;
    const int opened = io->ops->queue_open(io, window->dir->mem, &config, &queue, &info);
    struct weir__op scratch[WINDOW_DEPTH_MAX];
    weir__transfer_begin(&ahead->transfer, io, queue, window->depth, scratch, &ahead->counters);
    ahead->transfer.ended = ahead_take;
    ahead->transfer.ctx = window;

    (void)pthread_mutex_lock(&ahead->mutex);
    ahead->queue = opened < 0 ? NULL : queue;
    ahead->ready = opened >= 0;
    ahead->over = opened < 0;
    (void)pthread_cond_signal(&ahead->changed);
    while (!ahead->over) {
        if (ahead->stop) {
            break;
        }
        (void)pthread_mutex_unlock(&ahead->mutex);
        ahead_push(window);
        const int count = weir__transfer_reap(&ahead->transfer, 1, WEIR__NEVER);
        (void)pthread_mutex_lock(&ahead->mutex);
        if (count < 0) {
            ahead->over = true;
            for (unsigned i = 0; i < window->depth; i++) {
                ahead->lost = ahead->lost || window->chunks[i].state == CHUNK_READING;
            }
        }
        (void)pthread_cond_signal(&ahead->changed);
    }
    (void)pthread_mutex_unlock(&ahead->mutex);
    if (opened >= 0) {
        /* Waits for what is in flight, if that can be waited for at all. */
        io->ops->queue_close(io, window->dir->mem, queue);
    }
    (void)pthread_mutex_lock(&ahead->mutex);
    ahead->over = true;
    for (unsigned i = 0; i < window->depth; i++) {
        window->chunks[i].state = CHUNK_OURS;
    }
    (void)pthread_cond_signal(&ahead->changed);
    (void)pthread_mutex_unlock(&ahead->mutex);
    return NULL;
}

/* True when there is a reader thread with a queue. Starts it at the first call. */
static bool ahead_ready(struct weir__window *window)
{
    struct window_ahead *const ahead = &window->ahead;
    if (window->depth < 2 || ahead->refused) {
        return false;
    }
    if (!ahead->running) {
        if (window->dir->io->ops->queue_open == NULL ||
            weir__thread_start(&ahead->thread, "weir-read-ahead", ahead_run, window) < 0) {
            ahead->refused = true;
            return false;
        }
        ahead->running = true;
        (void)pthread_mutex_lock(&ahead->mutex);
        while (!ahead->ready && !ahead->over) {
            (void)pthread_cond_wait(&ahead->changed, &ahead->mutex);
        }
        ahead->refused = ahead->over;
        (void)pthread_mutex_unlock(&ahead->mutex);
    }
    return !ahead->refused;
}

/* Waits until the chunk is back. */
static void ahead_wait(struct weir__window *window, struct window_chunk *chunk)
{
    if (!chunk->handed) {
        return;
    }
    struct window_ahead *const ahead = &window->ahead;
    (void)pthread_mutex_lock(&ahead->mutex);
    while (chunk->state != CHUNK_OURS) {
        (void)pthread_cond_wait(&ahead->changed, &ahead->mutex);
    }
    /* A queue that broke is not asked again: plain reads do the same, slower. */
    ahead->refused = ahead->over;
    window->lost = window->lost || ahead->lost;
    (void)pthread_mutex_unlock(&ahead->mutex);
    chunk->handed = false;
    window->read_bytes += chunk->done;
}

static void ahead_stop(struct weir__window *window)
{
    struct window_ahead *const ahead = &window->ahead;
    if (!ahead->running) {
        return;
    }
    (void)pthread_mutex_lock(&ahead->mutex);
    ahead->stop = true;
    if (ahead->ready && !ahead->over) {
        /* Under the mutex, so that the queue is still there. */
        window->dir->io->ops->queue_wake(window->dir->io, ahead->queue);
    }
    (void)pthread_mutex_unlock(&ahead->mutex);
    (void)pthread_join(ahead->thread, NULL);
    ahead->running = false;
}

/* ---- opening and turning --------------------------------------------------------------------- */

static void window_share_memory(struct weir__window *window)
{
    for (unsigned i = 0; i < window->depth; i++) {
        window->chunks[i].memory = window->memory + i * window->chunk_bytes;
    }
}

int weir__window_open(const struct weir__window_config *config, struct weir__window **window_out)
{
    struct weir__mem *const mem = config->dir->mem;
    const unsigned depth = window_depth(config);
    struct weir__window *const window =
        weir__mem_alloc(mem, window_struct_bytes(depth), _Alignof(struct weir__window));
    if (window == NULL) {
        return -ENOMEM;
    }
    window->memory_bytes = window_buffer_bytes(config);
    window->memory = weir__mem_alloc_io(mem, window->memory_bytes);
    if (window->memory == NULL) {
        weir__mem_free(mem, window, window_struct_bytes(depth));
        return -ENOMEM;
    }
    window->dir = config->dir;
    window->chunk_bytes = window_chunk_bytes(config);
    window->depth = depth;
    window->block_bytes = config->block_bytes;
    window->buffered = config->buffered;
    window->file = -1;
    window->unit = WINDOW_UNIT_MIN_BYTES;
    window->plain_bytes = WINDOW_CHUNK_STEP_BYTES;
    window_share_memory(window);
    if (depth > 1) {
        /* Both only ever fail for want of memory that this platform does not need. */
        (void)pthread_mutex_init(&window->ahead.mutex, NULL);
        (void)pthread_cond_init(&window->ahead.changed, NULL);
    }
    *window_out = window;
    return 0;
}

/* Empties the ring. Waits for what is on its way: the kernel is writing to that memory. */
static void window_reset(struct weir__window *window)
{
    for (unsigned i = 0; i < window->count; i++) {
        ahead_wait(window, window_chunk_at(window, i));
    }
    window->first = 0;
    window->count = 0;
}

static void window_file_close(struct weir__window *window)
{
    window_reset(window);
    if (window->file >= 0) {
        (void)window->dir->io->ops->close(window->dir->io, window->file);
        window->file = -1;
    }
}

void weir__window_close(struct weir__window *window)
{
    if (window == NULL) {
        return;
    }
    window_file_close(window);
    ahead_stop(window);
    if (window->depth > 1) {
        (void)pthread_cond_destroy(&window->ahead.changed);
        (void)pthread_mutex_destroy(&window->ahead.mutex);
    }
    struct weir__mem *const mem = window->dir->mem;
    if (window->lost) {
        weir__mem_abandon(mem, window->memory, weir__mem_io_bytes(window->memory_bytes));
    } else {
        weir__mem_free_io(mem, window->memory, window->memory_bytes);
    }
    weir__mem_free(mem, window, window_struct_bytes(window->depth));
}

/* Other memory for the chunks, if what they had is lost. The ring is empty. */
static bool window_replace_memory(struct weir__window *window)
{
    if (window->lost) {
        uint8_t *const memory = weir__mem_alloc_io(window->dir->mem, window->memory_bytes);
        if (memory == NULL) {
            return false;
        }
        weir__mem_abandon(window->dir->mem,
                          window->memory,
                          weir__mem_io_bytes(window->memory_bytes));
        window->memory = memory;
        window->lost = false;
        window_share_memory(window);
    }
    return true;
}

void weir__window_past_cache(struct weir__window *window, bool on)
{
    window->past_cache = on;
}

void weir__window_cached_below(struct weir__window *window, weir_lsn lsn)
{
    window->cached_below = lsn;
}

/* Another host's writes reach a cached page of a network file system late, or never. */
static bool window_may_be_cached(const struct weir__window *window, struct weir__range range)
{
    return range.end <= window->cached_below && !window->dir->facts.network &&
           window->dir->io->ops->cached != NULL;
}

/* The file is open past the page cache: goes through it instead if it holds the segment, all of it
 * as it was read from the device. */
static bool window_take_cached(struct weir__window *window, struct weir__range range, int *file)
{
    struct weir__io *const io = window->dir->io;
    int cached = -1;
    if (!window_may_be_cached(window, range) ||
        io->ops->cached(io, *file, range.end - range.base) <= 0 ||
        weir__segment_open(window->dir, range, 0, &cached, NULL) < 0) {
        return false;
    }
    (void)io->ops->close(io, *file);
    *file = cached;
    return true;
}

static bool window_wants_direct(const struct weir__window *window)
{
    const struct weir__fs_facts *const facts = &window->dir->facts;
    if (!window->past_cache) {
        return window->dir->direct && !window->buffered;
    }
    /* A log that was made for smaller blocks than this device takes cannot be read directly up to
     * every limit. */
    return window->dir->direct || (facts->direct && (window->block_bytes == 0 ||
                                                     facts->direct_align <= window->block_bytes));
}

/* A log's block is a multiple of what the device needs, so a unit of the device never reaches over
 * a limit. */
static uint32_t window_unit(const struct weir__window *window, bool direct)
{
    const uint32_t align = window->dir->facts.direct_align;
    if (!direct || align < WINDOW_UNIT_MIN_BYTES || align > WINDOW_CHUNK_STEP_BYTES ||
        !weir__is_pow2(align)) {
        return WINDOW_UNIT_MIN_BYTES;
    }
    return align;
}

int weir__window_turn(struct weir__window *window,
                      struct weir__range range,
                      bool keep,
                      struct weir__fault *fault)
{
    bool direct = window_wants_direct(window);
    const bool kind_kept = window->file_cached ? direct && window_may_be_cached(window, range)
                                               : window->file_direct == direct;
    if (keep && window->file >= 0 && kind_kept && window->range.base == range.base &&
        window->range.end == range.end) {
        return 0;
    }
    window_file_close(window);
    int file = -1;
    int result = -EINVAL;
    if (direct && !window->dir->direct) {
        /* Nobody promised direct reads here, so a refusal is not held against the segment. */
        struct weir__dir past_cache = *window->dir;
        past_cache.direct = true;
        result = weir__segment_open(&past_cache, range, WEIR__OPEN_DIRECT, &file, NULL);
        direct = result == 0;
    }
    if (result < 0) {
        result =
            weir__segment_open(window->dir, range, direct ? WEIR__OPEN_DIRECT : 0, &file, fault);
    }
    if (result < 0) {
        return result;
    }
    window->file_cached = direct && window_take_cached(window, range, &file);
    direct = direct && !window->file_cached;
    window->file = file;
    window->file_direct = direct;
    window->range = range;
    window->unit = window_unit(window, direct);
    window->plain_bytes = WINDOW_CHUNK_STEP_BYTES;
    return 0;
}

void weir__window_forget(struct weir__window *window)
{
    window_reset(window);
    window->plain_bytes = WINDOW_CHUNK_STEP_BYTES;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Reads on until the chunk is full, the file ends or the device refuses. `step` bytes at most per
 * call (a multiple of the unit), none across a unit's end if it is one unit. 0: full; 1: the file
 * ends at chunk->done; negative: errno at align_down(chunk->done, unit). */
static int chunk_read(struct weir__window *window, struct window_chunk *chunk, size_t step)
{
    while (chunk->done < chunk->bytes) {
        /* A direct read must go on at a multiple of the unit. */
        const size_t at =
            window->file_direct ? (size_t)weir__align_down(chunk->done, window->unit) : chunk->done;
        const size_t bytes = (size_t)weir__min_u64(step - at % window->unit, chunk->bytes - at);
        struct iovec iov = {.iov_base = chunk->memory + at, .iov_len = bytes};
        struct weir__transfer_op op = {
            .kind = WEIR__OP_READ,
            .file = window->file,
            .block_bytes = window->file_direct ? window->unit : 1,
            .iov = &iov,
            .iov_count = 1,
            .offset = chunk->offset + at,
            .bytes = bytes,
        };
        struct weir__transfer_run run = {.ops = &op, .count = 1};
        const int code = weir__transfer_here(window->dir->io, &run, NULL);
        window->reads++;
        if (at + op.done > chunk->done) {
            window->read_bytes += at + op.done - chunk->done;
            window->cached_bytes += window->file_cached ? at + op.done - chunk->done : 0;
            chunk->done = at + op.done;
        }
        if (code < 0) {
            return code;
        }
        if (op.bytes > 0) {
            return 1;
        }
    }
    return 0;
}

/* Cuts a chunk of the ring to what was read of it, and drops those behind it, which no longer join
 * on. */
static void chunk_cut(struct weir__window *window, struct window_chunk *chunk)
{
    unsigned index = 0;
    while (index < window->count && window_chunk_at(window, index) != chunk) {
        index++;
    }
    for (unsigned i = index + 1; i < window->count; i++) {
        ahead_wait(window, window_chunk_at(window, i));
    }
    window->count = index + 1;
    chunk->bytes = chunk->done;
    window->run_end = chunk->offset + chunk->bytes;
}

/* Completes a chunk that is not away, in plain reads. On 0 it holds at least the byte at `needed`
 * (an offset in the chunk), and chunk->bytes says how far it goes. */
static int chunk_finish(struct weir__window *window,
                        struct window_chunk *chunk,
                        size_t needed,
                        struct weir__fault *fault)
{
    weir__debug(!chunk->handed);
    int result = chunk_read(window, chunk, chunk->bytes);
    if (result < 0 && result != -ENOMEM) {
        result = chunk_read(window, chunk, window->unit);
    }
    if (result == 0) {
        return 0;
    }
    if (result < 0) {
        /* The part of a block in front of the failure is not worth the doubt. */
        chunk->done = (size_t)weir__align_down(chunk->done, window->unit);
    }
    chunk_cut(window, chunk);
    if (needed < chunk->bytes) {
        return 0; /* whoever asks for what lies behind meets the failure again */
    }
    const uint64_t offset = chunk->offset + chunk->bytes;
    const weir_lsn lsn = window->range.base + offset;
    char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(window->range.base, window->range.end, name);
    if (result > 0) {
        return weir__fault_set(fault,
                               WEIR_EUNREADABLE,
                               name,
                               offset,
                               lsn,
                               "the file ends here, too early");
    }
    if (result == -ENOMEM) {
        return weir__fault_set(fault, result, name, offset, lsn, "no memory for a read");
    }
    if (fault != NULL && fault->code == 0) {
        fault->system_code = -result;
    }
    return weir__fault_set(fault,
                           WEIR_EUNREADABLE,
                           name,
                           offset,
                           lsn,
                           "the device could not read this block: %s",
                           weir__code_text(result));
}

/* Appends a chunk at run_end. The ring has room and something lies below fetch_end. */
static struct window_chunk *
window_extend(struct weir__window *window, uint64_t fetch_end, size_t chunk_bytes)
{
    weir__debug(window->count < window->depth);
    weir__debug(window->run_end < fetch_end);
    struct window_chunk *const chunk = window_chunk_at(window, window->count);
    chunk->offset = window->run_end;
    chunk->bytes = (size_t)weir__min_u64(chunk_bytes, fetch_end - window->run_end);
    chunk->done = 0;
    weir__debug(!chunk->handed);
    window->count++;
    window->run_end += chunk->bytes;
    return chunk;
}

/* True while a chunk at run_end is worth the hand-over: a full one, or the segment's last. What a
 * growing limit adds at a log's end comes in pieces too small for that; they are read when they are
 * asked for. */
static bool window_ahead_wanted(const struct weir__window *window, uint64_t fetch_end)
{
    return !window->file_cached && window->count < window->depth && window->run_end < fetch_end &&
           (fetch_end - window->run_end >= window->chunk_bytes ||
            fetch_end == window->range.end - window->range.base);
}

/* Hands what the ring has room for to the reader thread. */
static void window_read_ahead(struct weir__window *window, uint64_t fetch_end)
{
    if (!window_ahead_wanted(window, fetch_end) || !ahead_ready(window)) {
        return;
    }
    struct window_ahead *const ahead = &window->ahead;
    (void)pthread_mutex_lock(&ahead->mutex);
    if (!ahead->over) {
        while (window_ahead_wanted(window, fetch_end)) {
            struct window_chunk *const chunk =
                window_extend(window, fetch_end, window->chunk_bytes);
            chunk->state = CHUNK_WANTED;
            chunk->handed = true;
            window->reads++;
        }
        window->dir->io->ops->queue_wake(window->dir->io, ahead->queue);
    }
    (void)pthread_mutex_unlock(&ahead->mutex);
}

/* The chunk of the ring that holds `offset`, with those before it given back; NULL: none holds it.
 */
static struct window_chunk *window_find(struct weir__window *window, uint64_t offset)
{
    if (window->count == 0 || offset < window_chunk_at(window, 0)->offset) {
        return NULL;
    }
    for (unsigned i = 0; i < window->count; i++) {
        struct window_chunk *const chunk = window_chunk_at(window, i);
        if (offset < chunk->offset || offset - chunk->offset >= chunk->bytes) {
            continue;
        }
        for (unsigned j = 0; j < i; j++) {
            ahead_wait(window, window_chunk_at(window, j)); /* jumped over, perhaps still away */
        }
        window->first = (window->first + i) % window->depth;
        window->count -= i;
        return chunk;
    }
    return NULL;
}

/* Starts a run at `offset`. NULL: no memory for it. */
static struct window_chunk *
window_start(struct weir__window *window, uint64_t offset, uint64_t fetch_end, size_t wanted)
{
    const uint64_t start = weir__align_down(offset, window->unit);
    const bool sequential = window->count > 0 && start == window->run_end;
    window_reset(window);
    if (!window_replace_memory(window)) {
        return NULL;
    }
    window->run_end = start;
    if (fetch_end - start > window->chunk_bytes) {
        window_read_ahead(window, fetch_end);
    }
    if (window->count == 0) {
        if (window->file_cached) {
            window->plain_bytes = (size_t)weir__min_u64(WINDOW_CACHED_BYTES, window->chunk_bytes);
        } else if (window->depth > 1) {
            window->plain_bytes = window->chunk_bytes; /* it means to read on */
        } else if (sequential) {
            window->plain_bytes =
                (size_t)weir__min_u64(window->plain_bytes * 2, window->chunk_bytes);
        } else {
            window->plain_bytes = WINDOW_CHUNK_STEP_BYTES;
        }
        /* What the caller is known to need is read in one piece. */
        const uint64_t bytes = weir__max_u64(
            window->plain_bytes,
            weir__align_up((offset - start) + weir__min_u64(wanted, window->chunk_bytes),
                           WINDOW_CHUNK_STEP_BYTES));
        (void)window_extend(window, fetch_end, (size_t)weir__min_u64(bytes, window->chunk_bytes));
    }
    return window_chunk_at(window, 0);
}

/* peek, for somebody who is going to need `wanted` bytes. */
static int window_look(struct weir__window *window,
                       weir_lsn lsn,
                       weir_lsn limit,
                       size_t wanted,
                       const uint8_t **data_out,
                       size_t *bytes_out,
                       struct weir__fault *fault)
{
    if (window->file < 0 || lsn < window->range.base || limit <= window->range.base) {
        return -EINVAL;
    }
    const uint64_t offset = lsn - window->range.base;
    const uint64_t fetch_end =
        weir__align_down(weir__min_u64(limit, window->range.end) - window->range.base,
                         window->unit);
    if (offset >= fetch_end) {
        return -EINVAL;
    }
    struct window_chunk *chunk = window_find(window, offset);
    if (chunk == NULL) {
        chunk = window_start(window, offset, fetch_end, wanted);
    }
    if (chunk != NULL) {
        /* Ahead first, so that the device is busy while this chunk is waited for and consumed. */
        window_read_ahead(window, fetch_end);
        ahead_wait(window, chunk);
    }
    if (window->lost) {
        chunk = window_start(window, offset, fetch_end, wanted);
    }
    if (chunk == NULL) {
        return weir__fault_set(fault, -ENOMEM, "", offset, lsn, "no memory for a read");
    }
    const int result = chunk_finish(window, chunk, (size_t)(offset - chunk->offset), fault);
    if (result < 0) {
        window_reset(window);
        return result;
    }
    *data_out = chunk->memory + (offset - chunk->offset);
    *bytes_out = (size_t)(weir__min_u64(chunk->offset + chunk->bytes, fetch_end) - offset);
    return 0;
}

int weir__window_peek(struct weir__window *window,
                      weir_lsn lsn,
                      weir_lsn limit,
                      const uint8_t **data_out,
                      size_t *bytes_out,
                      struct weir__fault *fault)
{
    return window_look(window, lsn, limit, 1, data_out, bytes_out, fault);
}

int weir__window_copy(struct weir__window *window,
                      weir_lsn lsn,
                      weir_lsn limit,
                      void *to,
                      size_t bytes,
                      struct weir__fault *fault)
{
    uint8_t *const target = to;
    size_t done = 0;
    while (done < bytes) {
        const uint8_t *data = NULL;
        size_t have = 0;
        const int result =
            window_look(window, lsn + done, limit, bytes - done, &data, &have, fault);
        if (result != 0) {
            return result;
        }
        const size_t take = (size_t)weir__min_u64(have, bytes - done);
        memcpy(target + done, data, take);
        done += take;
    }
    return 0;
}

void weir__window_counts(const struct weir__window *window,
                         uint64_t *reads_out,
                         uint64_t *bytes_out)
{
    *reads_out = window->reads;
    *bytes_out = window->read_bytes;
}

uint64_t weir__window_cached(const struct weir__window *window)
{
    return window->cached_bytes;
}
