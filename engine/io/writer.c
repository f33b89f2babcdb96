/* SPDX-License-Identifier: Apache-2.0
 * A writer: what its callers do. Any number of threads; open and close once, by one.
 *
 * The happy path: write takes its place by one add to the tail, and copies piece by piece into the
 * buffers that its bytes fall into, each as soon as it is free; whoever fills a buffer wakes the
 * owner, which writes it (writer_owner.c). flush says how far the file shall go, sync takes a
 * ticket besides; both sleep until the owner has got there. No lock is taken anywhere, and nobody
 * waits for I/O but those who ask for it, and those for whom there is no free buffer.
 *
 * What can fail: the I/O, which the owner tells; a write that would end beyond what a file can
 * hold, which changes nothing. Why it is safe: ORDERING.md section 4. */
#include "io/writer.h"
#include "io/writer_state.h"

#include "base/err.h"
#include "base/num.h"
#include "base/plant.h"
#include "port/clock.h"
#include "port/wait.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- sleeping and waking --------------------------------------------------------------------- */

void weir__writer_bump(WEIR__ATOMIC(uint32_t) *gen)
{
    uint32_t seen = weir__load(gen, relaxed);

    /* Release: whoever loads the new generation sees the change that came before. The loop ends:
     * each failure is a waiter's bit that got in, and there is one bit. */
    while (!weir__cas(gen, &seen, (seen + 2) & ~1u, release)) {
    }
    if ((seen & 1u) != 0) {
        (void)weir__futex_wake(gen, INT32_MAX);
    }
}

/* Sleeps while *gen is seen. */
static void writer_wait(WEIR__ATOMIC(uint32_t) *gen, uint32_t seen)
{
    /* Relaxed: the bit only tells the bumper to wake; if the CAS fails somebody has set the bit, or
     * there was a bump, and the caller looks again. */
    if ((seen & 1u) == 0 && !weir__cas(gen, &seen, seen | 1u, relaxed)) {
        return;
    }
    (void)weir__futex_wait(gen, seen | 1u, WEIR__NEVER);
}

/* `sleep` was seen to be set. */
static void writer_kick(struct weir_writer *writer)
{
    const uint32_t how = weir__exchange(&writer->sleep, WRITER_AWAKE, acq_rel);

    if ((how & WRITER_ON_WORD) != 0) {
        (void)weir__futex_wake(&writer->sleep, 1);
    } else if ((how & WRITER_ON_RING) != 0) {
        struct weir__io *const io = writer->device.io;
        io->ops->queue_wake(io, writer->device.queue);
    }
    /* Else somebody else woke it. */
}

void weir__writer_nudge(struct weir_writer *writer)
{
    /* An RMW, not a load: either it comes before the owner's exchange in the order of this word,
     * and that exchange acquires what was published here, or it sees that the owner sleeps. */
    if (weir__fetch_or(&writer->sleep, 0u, acq_rel) != WRITER_AWAKE) {
        writer_kick(writer);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Takes bytes > 0 of the file, for good. */
static int writer_reserve(struct weir_writer *writer, uint64_t bytes, uint64_t *at_out)
{
    uint64_t tail = weir__load(&writer->tail, relaxed); /* only decides whether an add is tried */

    if (bytes <= WRITER_ADD_BYTES_MAX) {
        if (tail > WRITER_POSITION_MAX - bytes) {
            return -EFBIG;
        }
        /* Others may have added since: the room above the limit is for them. Relaxed: it hands out
         * places; to the owner it is published by the commit. */
        *at_out = weir__fetch_add(&writer->tail, bytes, relaxed);
        return 0;
    }
    for (;;) {
        if (tail > WRITER_POSITION_MAX || bytes > WRITER_POSITION_MAX - tail) {
            return -EFBIG;
        }
        /* The loser looks at the new tail. The loop ends when others pause: each failure is one
         * that got its place. */
        if (weir__cas(&writer->tail, &tail, tail + bytes, relaxed)) {
            *at_out = tail;
            return 0;
        }
    }
}

/* Waits until a buffer may be filled. 0, or the writer's error. */
static int writer_await(struct weir_writer *writer, uint64_t number)
{
    struct writer_slot *const slot = writer_slot(writer, number);

    for (;;) {
        /* Before the looks: a change that they miss bumps it. */
        const uint32_t gen = weir__load(&slot->gen, acquire);
        const uint64_t written = weir__load(&writer->written, acquire);
        if (number < writer_number(writer, written) + writer->slot_count) {
            return 0;
        }
        const int code = weir__load(&writer->failed, acquire);
        if (code != 0) {
            return code;
        }
        writer_wait(&slot->gen, gen);
    }
}

/* Copies into one buffer and commits. */
static void writer_copy(struct weir_writer *writer,
                        uint64_t number,
                        uint64_t at,
                        const uint8_t *data,
                        uint64_t bytes)
{
    struct writer_slot *const slot = writer_slot(writer, number);

    memcpy(writer_buffer(writer, number) + at, data, (size_t)bytes);
    const uint64_t filled = weir__fetch_add(&slot->filled, bytes, seq_cst) + bytes;
    /* seq_cst: an owner that goes to sleep has looked at `filled` after it said so. */
    const uint32_t sleep = weir__load(&writer->sleep, seq_cst);
    if (sleep != WRITER_AWAKE && (filled == writer->buffer_bytes || (sleep & WRITER_EAGER) != 0)) {
        writer_kick(writer);
    }
}

/* The fault: whoever writes waits for a flush that is under way. */
static void writer_planted_gate(struct weir_writer *writer)
{
    while (weir__load(&writer->flush_wanted, acquire) > weir__load(&writer->written, acquire) &&
           weir__load(&writer->failed, acquire) == 0) {
        weir__sleep_ns(UINT64_C(1000000));
    }
}

int weir_writer_write(struct weir_writer *writer,
                      const void *data,
                      size_t bytes,
                      uint64_t *offset_out)
{
    uint64_t left = bytes;
    uint64_t at = 0;

    if (data == NULL && bytes > 0) {
        return -EINVAL;
    }
    int code = weir__load(&writer->failed, acquire);
    if (code != 0) {
        return code;
    }
    if (WEIR__PLANTED(flush_blocks_writers)) {
        writer_planted_gate(writer);
    }
    if (WEIR__PLANTED(length_32)) {
        left = (uint32_t)left;
    }
    uint64_t offset = weir__load(&writer->tail, relaxed); /* of an empty write: where the next is */
    if (WEIR__PLANTED(offset_not_atomic)) {
        weir__sleep_ns(1000);
    }
    if (left > 0) {
        code = writer_reserve(writer, left, &at);
        if (code != 0) {
            return code;
        }
        if (!WEIR__PLANTED(offset_not_atomic)) {
            offset = at;
        }
    }
    const uint8_t *from = data;
    while (left > 0) {
        const uint64_t number = writer_number(writer, at);
        const uint64_t in = (at - writer->base) % writer->buffer_bytes;
        const uint64_t piece = weir__min_u64(writer->buffer_bytes - in, left);
        code = writer_await(writer, number);
        if (code != 0) {
            return code;
        }
        writer_copy(writer, number, in, from, piece);
        from += piece;
        at += piece;
        left -= piece;
    }
    if (offset_out != NULL) {
        *offset_out = offset;
    }
    return 0;
}

/* ---- flushing and syncing -------------------------------------------------------------------- */

/* Lets the owner know that the file shall go to a position; the nudge is the caller's. */
static void writer_want(struct weir_writer *writer, uint64_t position)
{
    uint64_t wanted = weir__load(&writer->flush_wanted, relaxed);

    /* Release: published by the nudge, too. The loser looks again; the value only grows. */
    while (wanted < position && !weir__cas(&writer->flush_wanted, &wanted, position, release)) {
    }
}

int weir_writer_flush(struct weir_writer *writer)
{
    /* Relaxed: writes that returned before this call come before it, so no older tail is read. */
    const uint64_t position = weir__load(&writer->tail, relaxed);
    bool asked = false;

    for (;;) {
        const uint32_t gen = weir__load(&writer->flush_gen, acquire);
        const int code = weir__load(&writer->failed, acquire);
        if (code != 0) {
            return code;
        }
        if (weir__load(&writer->written, acquire) >= position) {
            return 0;
        }
        if (!asked) {
            asked = true;
            writer_want(writer, position);
            weir__writer_nudge(writer);
            continue;
        }
        writer_wait(&writer->flush_gen, gen);
    }
}

int weir_writer_sync(struct weir_writer *writer)
{
    int code = weir__load(&writer->failed, acquire);

    if (code != 0) {
        return code;
    }
    writer_want(writer, weir__load(&writer->tail, relaxed)); /* relaxed: as in flush */
    /* Release: who serves this ticket sees the position that it needs. */
    const uint64_t ticket = weir__fetch_add(&writer->sync_asked, UINT64_C(1), release) + 1;
    weir__writer_nudge(writer);
    for (;;) {
        const uint32_t gen = weir__load(&writer->sync_gen, acquire);
        code = weir__load(&writer->failed, acquire);
        if (code != 0) {
            return code;
        }
        if (weir__load(&writer->sync_done, acquire) >= ticket) {
            return 0;
        }
        writer_wait(&writer->sync_gen, gen);
    }
}

/* ---- looking --------------------------------------------------------------------------------- */

uint64_t weir_writer_offset(struct weir_writer *writer)
{
    return weir__load(&writer->tail, relaxed); /* a figure; publishes nothing */
}

int weir_writer_error(struct weir_writer *writer, struct weir_error *error_out)
{
    const int code = weir__load(&writer->failed, acquire);

    if (error_out != NULL && code != 0) {
        *error_out = writer->error;
    } else if (error_out != NULL) {
        *error_out = (struct weir_error){.offset = UINT64_MAX, .lsn = UINT64_MAX};
        (void)snprintf(error_out->text, sizeof error_out->text, "%s", weir__code_text(0));
    }
    return code;
}

void weir_writer_effective(struct weir_writer *writer, struct weir_io_effective *effective_out)
{
    *effective_out = writer->device.effective;
}

void weir_writer_stats(struct weir_writer *writer, struct weir_io_stats *stats_out)
{
    weir__io_device_stats(&writer->device, stats_out);
}

struct weir__io *weir__writer_seam(const struct weir_writer *writer)
{
    return writer->seam;
}

const struct weir__io_file *weir__writer_file(const struct weir_writer *writer)
{
    return &writer->file;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static int writer_refuse(struct weir_error *error_out, int code, const char *text)
{
    if (error_out != NULL) {
        *error_out = (struct weir_error){
            .code = code,
            .system_code = -code,
            .offset = UINT64_MAX,
            .lsn = UINT64_MAX,
        };
        (void)snprintf(error_out->text, sizeof error_out->text, "%s", text);
    }
    return code;
}

static struct weir_writer *writer_new(const struct weir_io_config *config)
{
    struct weir__mem mem;

    weir__io_memory(&mem, config->memory);
    struct weir_writer *const writer = weir__mem_alloc(&mem, sizeof *writer, WEIR__LINE);
    if (writer == NULL) {
        weir__mem_exit(&mem);
        return NULL;
    }
    writer->mem = mem;
    writer->config = *config;
    return writer;
}

/* After the owner has gone. */
static void writer_free(struct weir_writer *writer)
{
    /* The kernel may still read what a broken queue was given. */
    void (*const drop)(struct weir__mem *, void *, size_t) =
        writer->broken ? weir__mem_abandon : weir__mem_free;
    struct weir__mem mem;

    drop(&writer->mem, writer->slots, (size_t)writer->slot_count * sizeof *writer->slots);
    drop(&writer->mem, writer->pad, WRITER_PAD_BYTES);
    weir__mem_free(&writer->mem,
                   writer->runs,
                   (size_t)(writer->slot_count + 1) * sizeof(*writer->runs));
    mem = writer->mem;
    weir__mem_free(&mem, writer, sizeof *writer);
    weir__mem_exit(&mem);
}

int weir__writer_open_with(struct weir__io *seam,
                           const char *path,
                           bool must_exist,
                           const struct weir_io_config *config,
                           struct weir_writer **writer_out,
                           struct weir_error *error_out)
{
    struct weir_io_config settled;

    int code = weir__io_config_settle(config, &settled, error_out);
    if (code != 0) {
        return code;
    }
    if (settled.registered_buffers < 2) {
        return writer_refuse(
            error_out,
            -EINVAL,
            "registered_buffers: a writer needs two at least, one to fill while one is written");
    }
    if (path == NULL || writer_out == NULL) {
        return writer_refuse(error_out, -EINVAL, "a path, and where to put the writer, are needed");
    }
    struct weir_writer *const writer = writer_new(&settled);
    if (writer == NULL) {
        return writer_refuse(error_out, -ENOMEM, "no memory for a writer");
    }
    writer->seam = seam;
    writer->path = path;
    writer->must_exist = must_exist;
    code = weir__thread_start(&writer->thread, "weir-writer", weir__writer_owner, writer);
    if (code != 0) {
        writer_free(writer);
        return writer_refuse(error_out, code, "cannot start the writer's thread");
    }
    while (weir__load(&writer->ready, acquire) == 0) {
        (void)weir__futex_wait(&writer->ready, 0, WEIR__NEVER);
    }
    code = writer->start_code;
    if (code != 0) {
        (void)pthread_join(writer->thread, NULL);
        if (error_out != NULL) {
            *error_out = writer->error;
        }
        writer_free(writer);
        return code;
    }
    writer->path = NULL; /* the caller's, and not needed any more */
    *writer_out = writer;
    return 0;
}

int weir_writer_create(const char *path,
                       const struct weir_io_config *config,
                       struct weir_writer **writer_out,
                       struct weir_error *error_out)
{
    return weir__writer_open_with(NULL, path, false, config, writer_out, error_out);
}

int weir_writer_open(const char *path,
                     const struct weir_io_config *config,
                     struct weir_writer **writer_out,
                     struct weir_error *error_out)
{
    return weir__writer_open_with(NULL, path, true, config, writer_out, error_out);
}

int weir_writer_close(struct weir_writer *writer, struct weir_error *error_out)
{
    if (writer == NULL) {
        return 0;
    }
    (void)weir_writer_flush(writer);
    weir__store(&writer->stop, 1u, release);
    weir__writer_nudge(writer);
    /* Only now may the queue go that the nudge has used. */
    weir__store(&writer->joining, 1u, release);
    (void)weir__futex_wake(&writer->joining, 1);
    (void)pthread_join(writer->thread, NULL);
    const int code = weir_writer_error(writer, error_out);
    writer_free(writer);
    return code;
}
