/* SPDX-License-Identifier: Apache-2.0
 * Runs carried to their end over a queue that answers as the test says: what is pushed again, with
 * what behind it, what is final, and what the owner is told. */
#include "io/transfer.h"
#include "support/threads.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- a queue that is played ------------------------------------------------------------------ */

#define PLAYED_BYTES 4096u
#define PLAYED_OPS 4096u
#define PLAYED_BLOCK 16u
#define PLAYED_CALL ((size_t)0x7ffff000) /* no call of the kernel's moves more */

/* What one write or sync did, in the order in which the device carried it out. */
struct deed {
    enum weir__op_kind kind;
    uint64_t offset;
    size_t bytes;
    int32_t result;
};

/* A device of a few KiB. A linked run is carried out as the kernel does: until one comes back short
 * or failed; those behind it are cancelled. Each next result comes from `script`, then is full. */
struct played {
    struct weir__io io;
    struct weir__io_ops ops;
    uint8_t file[PLAYED_BYTES];
    size_t file_bytes; /* where reads end */
    struct weir__event events[PLAYED_OPS];
    unsigned event_count;
    struct deed deeds[PLAYED_OPS];
    unsigned deed_count;
    const int32_t *script; /* FULL: all of it; else what the op returns, cut to its bytes */
    unsigned script_count;
    unsigned script_at;
    unsigned pushes;
    unsigned push_fails_at; /* number of the push that is refused; 0: none */
    int reap_fails;
    unsigned cut; /* ops of the next push that the kernel takes; the rest comes back cancelled */
    struct random *random; /* not NULL: shorts and refusals at random */
};

#define FULL INT32_MAX

static struct played *played_of(struct weir__io *io)
{
    return io->ctx;
}

static int32_t played_next(struct played *played)
{
    if (played->random != NULL) {
        const uint64_t dice = random_below(played->random, 6);
        return dice == 0   ? -EAGAIN
               : dice == 1 ? -EINTR
               : dice < 4  ? (int32_t)(1 + random_below(played->random, 100))
                           : FULL;
    }
    return played->script_at < played->script_count ? played->script[played->script_at++] : FULL;
}

/* Carries one op out, for as many bytes as the script says. */
static int32_t played_do(struct played *played, const struct weir__op *op)
{
    int32_t result = played_next(played);
    size_t bytes = 0;
    for (unsigned i = 0; i < op->iov_count; i++) {
        bytes += op->iov[i].iov_len;
    }
    if (op->kind == WEIR__OP_SYNC) {
        /* A sync has no half: it is refused for good or it is there. */
        result = result == FULL || played->random != NULL ? 0 : result;
    } else if (result >= 0) {
        size_t moved = result == FULL || (size_t)result > bytes ? bytes : (size_t)result;
        if (op->kind == WEIR__OP_READ) {
            const size_t there =
                op->offset < played->file_bytes ? played->file_bytes - (size_t)op->offset : 0;
            moved = moved < there ? moved : there;
        }
        moved = moved < PLAYED_CALL ? moved : PLAYED_CALL;
        size_t at = moved <= PLAYED_BYTES ? 0 : moved; /* of larger ones only the length is real */
        for (unsigned i = 0; i < op->iov_count && at < moved; i++) {
            const size_t some = op->iov[i].iov_len < moved - at ? op->iov[i].iov_len : moved - at;
            uint8_t *const place = played->file + op->offset + at;
            if (op->kind == WEIR__OP_WRITE) {
                memcpy(place, op->iov[i].iov_base, some);
            } else {
                memcpy(op->iov[i].iov_base, place, some);
            }
            at += some;
        }
        result = (int32_t)moved;
    }
    played->deeds[played->deed_count++ % PLAYED_OPS] =
        (struct deed){op->kind, op->offset, bytes, result};
    return result;
}

static bool played_well(const struct weir__op *op, int32_t result)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < op->iov_count; i++) {
        bytes += op->iov[i].iov_len;
    }
    /* As the kernel: what it cannot move at once was never asked for. */
    bytes = bytes < PLAYED_CALL ? bytes : PLAYED_CALL;
    return op->kind == WEIR__OP_SYNC ? result == 0 : result >= 0 && (size_t)result == bytes;
}

static int played_push(struct weir__io *io,
                       struct weir__queue *queue,
                       const struct weir__op *ops,
                       unsigned count)
{
    (void)queue;
    struct played *const played = played_of(io);
    bool cancelled = false;
    if (++played->pushes == played->push_fails_at) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        int32_t result = -ECANCELED;
        if (played->cut > 0 && i >= played->cut) {
            cancelled = true;
        }
        if (!cancelled) {
            result = played_do(played, &ops[i]);
            cancelled = ops[i].link && !played_well(&ops[i], result);
        }
        played->events[played->event_count++] =
            (struct weir__event){.data = ops[i].data, .result = result};
        cancelled = cancelled && ops[i].link;
    }
    played->cut = 0;
    return 0;
}

/* The last event first: completions come in any order. */
static int played_reap(struct weir__io *io,
                       struct weir__queue *queue,
                       struct weir__event *events,
                       unsigned max,
                       unsigned min,
                       uint64_t deadline_ns)
{
    (void)queue;
    (void)min;
    (void)deadline_ns;
    struct played *const played = played_of(io);
    if (played->reap_fails != 0) {
        return played->reap_fails;
    }
    unsigned count = 0;
    while (played->event_count > 0 && count < max) {
        events[count++] = played->events[--played->event_count];
    }
    return (int)count;
}

static ssize_t
played_read(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    const struct iovec iov = {buffer, bytes};
    const struct weir__op op = {.kind = WEIR__OP_READ,
                                .file = file,
                                .iov = &iov,
                                .iov_count = 1,
                                .offset = offset};
    return played_do(played_of(io), &op);
}

static ssize_t played_write(struct weir__io *io,
                            int file,
                            const struct iovec *iov,
                            unsigned iov_count,
                            uint64_t offset,
                            bool dsync)
{
    const struct weir__op op = {.kind = WEIR__OP_WRITE,
                                .file = file,
                                .iov = iov,
                                .iov_count = iov_count,
                                .offset = offset,
                                .dsync = dsync};
    return played_do(played_of(io), &op);
}

static int played_sync(struct weir__io *io, int file)
{
    const struct weir__op op = {.kind = WEIR__OP_SYNC, .file = file};
    return played_do(played_of(io), &op);
}

/* ---- a transfer over it ---------------------------------------------------------------------- */

#define ENTRIES 64u

struct bench {
    struct played played;
    struct weir__transfer transfer;
    struct weir__transfer_counters counters;
    struct weir__op scratch[ENTRIES];
    unsigned written;
    unsigned ended;
    int code;
    unsigned first;
    struct weir__transfer_run *last;
};

static void bench_written(void *ctx, struct weir__transfer_op *op)
{
    (void)op;
    ((struct bench *)ctx)->written++;
}

static void bench_ended(void *ctx, struct weir__transfer_run *run, int code)
{
    struct bench *const bench = ctx;
    bench->ended++;
    bench->code = code;
    bench->first = run->first;
    bench->last = run;
}

static int setup(void **state)
{
    struct bench *const bench = calloc(1, sizeof *bench);
    bench->played.ops = (struct weir__io_ops){.queue_push = played_push,
                                              .queue_reap = played_reap,
                                              .read = played_read,
                                              .write = played_write,
                                              .sync = played_sync};
    bench->played.io = (struct weir__io){&bench->played.ops, &bench->played};
    bench->played.file_bytes = PLAYED_BYTES;
    weir__transfer_begin(&bench->transfer,
                         &bench->played.io,
                         NULL,
                         ENTRIES,
                         bench->scratch,
                         &bench->counters);
    bench->transfer.written = bench_written;
    bench->transfer.ended = bench_ended;
    bench->transfer.ctx = bench;
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void script(struct bench *bench, const int32_t *results, unsigned count)
{
    bench->played.script = results;
    bench->played.script_count = count;
    bench->played.script_at = 0;
}
#define SCRIPT(bench, ...)                                                                         \
    script(bench,                                                                                  \
           (const int32_t[]){__VA_ARGS__},                                                         \
           sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* Over the queue or by plain calls: both must come to the same. */
static int carry_out(struct bench *bench, bool here, struct weir__transfer_run *run)
{
    if (here) {
        bench->code = weir__transfer_here(&bench->played.io, run, &bench->counters);
        bench->first = run->first;
        bench->ended++;
        return bench->code;
    }
    const unsigned before = bench->ended;
    const int code = weir__transfer_start(&bench->transfer, run);
    if (code != 0) {
        return code;
    }
    for (int turns = 0; bench->ended == before; turns++) {
        assert_true(turns < 5000);
        assert_true(weir__transfer_reap(&bench->transfer, 1, UINT64_MAX) >= 0);
    }
    assert_int_equal(bench->transfer.in_flight, 0);
    return bench->code;
}

static struct weir__transfer_op
op_of(enum weir__op_kind kind, uint64_t offset, struct iovec *iov, unsigned count, uint32_t block)
{
    struct weir__transfer_op op = {.kind = kind,
                                   .file = 7,
                                   .block_bytes = block,
                                   .iov = iov,
                                   .iov_count = count,
                                   .offset = offset};
    for (unsigned i = 0; i < count; i++) {
        op.bytes += iov[i].iov_len;
    }
    return op;
}

static uint8_t text[512];

static void text_fill(void)
{
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (uint8_t)(1 + i * 7 % 251);
    }
}

/* ---- the tests ------------------------------------------------------------------------------- */

/* The remainder begins at the last whole block, and the sync is begun anew after it: the one that
 * was linked behind the short write never counts. */
static void short_write_goes_on_from_a_block_with_a_new_sync(void **state)
{
    struct bench *const bench = *state;
    text_fill();
    for (int here = 0; here < 2; here++) {
        struct iovec iov[3] = {{text, 40}, {text + 40, 0}, {text + 40, 60}};
        struct weir__transfer_op ops[2] = {
            op_of(WEIR__OP_WRITE, 32, iov, 3, PLAYED_BLOCK),
            op_of(WEIR__OP_SYNC, 0, NULL, 0, PLAYED_BLOCK),
        };
        struct weir__transfer_run run = {.ops = ops, .count = 2};
        memset(bench->played.file, 0, PLAYED_BYTES);
        bench->played.deed_count = 0;
        bench->written = 0;
        SCRIPT(bench, 50, 33, FULL, FULL);
        assert_int_equal(carry_out(bench, here != 0, &run), 0);
        const struct deed *const deeds = bench->played.deeds;
        assert_int_equal(bench->played.deed_count, 4);
        assert_int_equal(deeds[1].offset, 32 + 48); /* 50 cut to three blocks */
        assert_int_equal(deeds[1].bytes, 52);
        assert_int_equal(deeds[2].offset, 32 + 48 + 32);
        assert_int_equal(deeds[2].bytes, 20);
        assert_int_equal(deeds[3].kind, WEIR__OP_SYNC);
        assert_memory_equal(bench->played.file + 32, text, 100);
        assert_int_equal(ops[0].bytes, 0);
        assert_int_equal(ops[0].done, 100);
        assert_true(ops[0].over && ops[1].over);
        assert_int_equal(bench->written, here ? 0 : 1);
    }
    assert_int_equal(weir__load(&bench->counters.writes_short, relaxed), 4);
    assert_int_equal(weir__load(&bench->counters.bytes_written, relaxed), 2 * (50 + 33 + 20));
}

/* Its pages may be marked clean by now: a second one would say yes to bytes that are lost. */
static void failed_sync_is_final(void **state)
{
    struct bench *const bench = *state;
    for (int here = 0; here < 2; here++) {
        static const int32_t refusals[] = {-EIO, -EAGAIN, -EINTR, -ENOSPC, 1};
        for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
            struct iovec iov = {text, 64};
            struct iovec more = {text, 64};
            struct weir__transfer_op ops[3] = {
                op_of(WEIR__OP_WRITE, 0, &iov, 1, 1),
                op_of(WEIR__OP_SYNC, 0, NULL, 0, 1),
                op_of(WEIR__OP_WRITE, 64, &more, 1, 1),
            };
            struct weir__transfer_run run = {.ops = ops, .count = 3};
            const int32_t results[] = {FULL, refusals[i], FULL};
            bench->played.deed_count = 0;
            script(bench, results, 3);
            assert_int_equal(carry_out(bench, here != 0, &run),
                             refusals[i] < 0 ? refusals[i] : -EIO);
            assert_int_equal(bench->first, 1);
            assert_int_equal(bench->played.deed_count, 2);
            assert_true(ops[0].over);
            assert_false(ops[1].over || ops[2].over);
        }
    }
}

/* More than the kernel moves at once comes back short, with what is linked behind it carried out
 * all the same. */
static void nothing_is_linked_behind_more_than_one_call_moves(void **state)
{
    struct bench *const bench = *state;
    for (int here = 0; here < 2; here++) {
        const size_t large = (size_t)3 << 30;
        struct iovec iov[] = {{text, 16}, {text, large}, {text, 16}};
        struct weir__transfer_op ops[4] = {
            op_of(WEIR__OP_WRITE, 0, &iov[0], 1, 1),
            op_of(WEIR__OP_WRITE, 16, &iov[1], 1, 1),
            op_of(WEIR__OP_WRITE, 16, &iov[2], 1, 1),
            op_of(WEIR__OP_SYNC, 0, NULL, 0, 1),
        };
        struct weir__transfer_run run = {.ops = ops, .count = 4};
        bench->played.deed_count = 0;
        SCRIPT(bench, FULL, FULL, FULL, FULL, -EIO);
        assert_int_equal(carry_out(bench, here != 0, &run), -EIO);
        assert_int_equal(bench->first, 3);
        assert_true(ops[0].over && ops[1].over && ops[2].over);
        assert_int_equal(ops[1].done, large);
        /* The sync was begun once, after all before it. */
        assert_int_equal(bench->played.deed_count, 5);
        assert_int_equal(bench->played.deeds[1].result, PLAYED_CALL);
        assert_int_equal(bench->played.deeds[2].offset, 16 + PLAYED_CALL);
        assert_int_equal(bench->played.deeds[2].result, large - PLAYED_CALL);
        assert_int_equal(bench->played.deeds[3].offset, 16);
        assert_int_equal(bench->played.deeds[4].kind, WEIR__OP_SYNC);
    }
}

static void error_names_its_op_and_stops_those_behind(void **state)
{
    struct bench *const bench = *state;
    for (int here = 0; here < 2; here++) {
        for (unsigned bad = 0; bad < 6; bad++) {
            struct iovec iov[6];
            struct weir__transfer_op ops[6];
            int32_t results[6];
            for (unsigned i = 0; i < 6; i++) {
                iov[i] = (struct iovec){text, 8};
                ops[i] = op_of(WEIR__OP_WRITE, 8 * (uint64_t)i, &iov[i], 1, 1);
                results[i] = i == bad ? -ENOSPC : FULL;
            }
            struct weir__transfer_run run = {.ops = ops, .count = 6};
            bench->played.deed_count = 0;
            script(bench, results, 6);
            assert_int_equal(carry_out(bench, here != 0, &run), -ENOSPC);
            assert_int_equal(bench->first, bad);
            assert_int_equal(bench->played.deed_count, bad + 1);
        }
    }
}

/* A read ends at the file's end and nowhere else, also in the middle of a block. */
static void read_ends_at_the_end_of_the_file(void **state)
{
    struct bench *const bench = *state;
    struct random random = {7};
    for (size_t i = 0; i < PLAYED_BYTES; i++) {
        bench->played.file[i] = (uint8_t)(i * 13);
    }
    for (unsigned round = 0; round < 2000; round++) {
        const bool here = round % 2 == 1;
        const uint32_t block = round % 3 == 0 ? PLAYED_BLOCK : 1;
        uint8_t buffer[300];
        const size_t first = 16 * random_below(&random, 9);
        const size_t second = 16 * (1 + random_below(&random, 9));
        struct iovec iov[2] = {{buffer, first}, {buffer + first, second}};
        const uint64_t offset = 16 * random_below(&random, 12);
        struct weir__transfer_op op = op_of(WEIR__OP_READ, offset, iov, 2, block);
        struct weir__transfer_run run = {.ops = &op, .count = 1};
        bench->played.file_bytes = random_below(&random, 400);
        const int32_t shorts[] = {(int32_t)(block * random_below(&random, 9)) + (int32_t)block,
                                  -EINTR,
                                  (int32_t)block,
                                  -EAGAIN};
        script(bench, shorts, 4);
        const size_t there =
            offset < bench->played.file_bytes ? bench->played.file_bytes - (size_t)offset : 0;
        const size_t want = there < first + second ? there : first + second;
        assert_int_equal(carry_out(bench, here, &run), 0);
        assert_int_equal(op.done, want);
        assert_int_equal(op.bytes, first + second - want);
        assert_true(op.over);
        assert_memory_equal(buffer, bench->played.file + offset, want);
    }
}

/* A part of a block is the end only if the next try does not get beyond it. */
static void part_of_a_block_may_be_followed_by_more(void **state)
{
    struct bench *const bench = *state;
    for (int here = 0; here < 2; here++) {
        uint8_t back[64] = {0};
        struct iovec iov = {back, sizeof back};
        struct weir__transfer_op op = op_of(WEIR__OP_READ, 0, &iov, 1, PLAYED_BLOCK);
        struct weir__transfer_run run = {.ops = &op, .count = 1};
        memset(bench->played.file, 5, sizeof back);
        SCRIPT(bench, 37, 7, 9, FULL);
        assert_int_equal(carry_out(bench, here != 0, &run), 0);
        assert_int_equal(op.done, sizeof back);
        assert_memory_equal(back, bench->played.file, sizeof back);
    }
}

static void write_that_moves_nothing_is_an_error(void **state)
{
    struct bench *const bench = *state;
    for (int here = 0; here < 2; here++) {
        struct iovec iov = {text, 64};
        struct weir__transfer_op op = op_of(WEIR__OP_WRITE, 0, &iov, 1, 1);
        struct weir__transfer_run run = {.ops = &op, .count = 1};
        SCRIPT(bench, 10, 0);
        assert_int_equal(carry_out(bench, here != 0, &run), -EIO);
        assert_int_equal(op.done, 10);
    }
}

/* Less than a block each time, for ever: an end, with an error, and so with refusals. */
static void no_progress_is_bounded(void **state)
{
    struct bench *const bench = *state;
    static int32_t small[3000];
    for (int here = 0; here < 2; here++) {
        for (int kind = 0; kind < 2; kind++) {
            for (size_t i = 0; i < 3000; i++) {
                small[i] = kind == 0 ? 3 : -EAGAIN;
            }
            struct iovec iov = {text, 64};
            struct weir__transfer_op op = op_of(WEIR__OP_WRITE, 0, &iov, 1, PLAYED_BLOCK);
            struct weir__transfer_run run = {.ops = &op, .count = 1};
            script(bench, small, 3000);
            assert_int_equal(carry_out(bench, here != 0, &run), kind == 0 ? -EIO : -EAGAIN);
            assert_true(bench->played.script_at < 2000);
        }
    }
}

/* The kernel took a part of the push: the rest of the run did not run, and is pushed again. */
static void what_the_kernel_did_not_take_is_pushed_again(void **state)
{
    struct bench *const bench = *state;
    text_fill();
    struct iovec iov[8];
    struct weir__transfer_op ops[9];
    for (unsigned i = 0; i < 8; i++) {
        iov[i] = (struct iovec){text + 8 * (size_t)i, 8};
        ops[i] = op_of(WEIR__OP_WRITE, 8 * (uint64_t)i, &iov[i], 1, 1);
    }
    ops[8] = op_of(WEIR__OP_SYNC, 0, NULL, 0, 1);
    struct weir__transfer_run run = {.ops = ops, .count = 9};
    bench->played.cut = 3;
    assert_int_equal(carry_out(bench, false, &run), 0);
    assert_int_equal(bench->played.pushes, 2);
    assert_int_equal(bench->played.deed_count, 9);
    assert_memory_equal(bench->played.file, text, 64);
    assert_int_equal(weir__load(&bench->counters.pushes, relaxed), 2);
    assert_int_equal(weir__load(&bench->counters.ops_submitted, relaxed), 15);
    assert_int_equal(weir__load(&bench->counters.ops_completed, relaxed), 15);
}

static void refused_submission_ends_the_run(void **state)
{
    struct bench *const bench = *state;
    struct iovec iov = {text, 64};
    struct weir__transfer_op op = op_of(WEIR__OP_WRITE, 0, &iov, 1, 1);
    struct weir__transfer_run run = {.ops = &op, .count = 1};
    bench->played.push_fails_at = 1;
    assert_int_equal(weir__transfer_start(&bench->transfer, &run), -ENOMEM);
    assert_int_equal(bench->ended, 0);
    assert_int_equal(bench->transfer.in_flight, 0);
    assert_int_equal(weir__load(&bench->counters.ops_submitted, relaxed), 0);
    /* The push of a remainder. */
    SCRIPT(bench, 10);
    bench->played.push_fails_at = 3;
    assert_int_equal(carry_out(bench, false, &run), -ENOMEM);
    assert_int_equal(bench->ended, 1);
}

static void stopped_transfer_goes_on_with_nothing(void **state)
{
    struct bench *const bench = *state;
    struct iovec iov = {text, 64};
    struct weir__transfer_op op = op_of(WEIR__OP_WRITE, 0, &iov, 1, 1);
    struct weir__transfer_run run = {.ops = &op, .count = 1};
    SCRIPT(bench, 10);
    bench->transfer.stopped = true;
    assert_int_equal(carry_out(bench, false, &run), -ECANCELED);
    assert_int_equal(bench->played.pushes, 1);
    assert_int_equal(op.done, 10);
}

static void broken_queue_is_told(void **state)
{
    struct bench *const bench = *state;
    struct iovec iov = {text, 64};
    struct weir__transfer_op op = op_of(WEIR__OP_WRITE, 0, &iov, 1, 1);
    struct weir__transfer_run run = {.ops = &op, .count = 1};
    assert_int_equal(weir__transfer_start(&bench->transfer, &run), 0);
    bench->played.reap_fails = -EBADF;
    assert_int_equal(weir__transfer_reap(&bench->transfer, 1, UINT64_MAX), -EBADF);
    assert_true(bench->transfer.broken);
    assert_int_equal(bench->ended, 0);
    struct weir__transfer_run other = {.ops = &op, .count = 1};
    assert_int_equal(weir__transfer_start(&bench->transfer, &other), -EIO);
}

/* Runs side by side, shorts, refusals and orders at random: every byte arrives, every sync comes
 * after its run's writes, every run ends once. */
static void runs_side_by_side_all_arrive(void **state)
{
    struct bench *const bench = *state;
    struct random random = {11};
    text_fill();
    bench->played.random = &random;
    for (unsigned round = 0; round < 300; round++) {
        enum { RUNS = 12, WRITES = 3 };
        struct iovec iov[RUNS][WRITES];
        struct weir__transfer_op ops[RUNS][WRITES + 1];
        struct weir__transfer_run runs[RUNS];
        struct weir__transfer_run *starts[RUNS];
        memset(bench->played.file, 0, PLAYED_BYTES);
        bench->played.deed_count = 0;
        bench->ended = 0;
        for (unsigned r = 0; r < RUNS; r++) {
            for (unsigned w = 0; w < WRITES; w++) {
                const size_t at = (size_t)(r * WRITES + w) * 96;
                iov[r][w] = (struct iovec){text + at % 400, 96};
                ops[r][w] = op_of(WEIR__OP_WRITE, at, &iov[r][w], 1, w % 2 ? PLAYED_BLOCK : 1);
            }
            ops[r][WRITES] = op_of(WEIR__OP_SYNC, 0, NULL, 0, 1);
            runs[r] = (struct weir__transfer_run){.ops = ops[r], .count = WRITES + 1};
            starts[r] = &runs[r];
        }
        assert_true(weir__transfer_room(&bench->transfer, RUNS * (WRITES + 1)));
        assert_int_equal(weir__transfer_start_many(&bench->transfer, starts, RUNS), 0);
        assert_false(weir__transfer_room(&bench->transfer, ENTRIES - RUNS * (WRITES + 1) + 1));
        while (bench->ended < RUNS) {
            assert_true(weir__transfer_reap(&bench->transfer, 1, UINT64_MAX) > 0);
            assert_int_equal(bench->code, 0);
        }
        for (unsigned r = 0; r < RUNS; r++) {
            for (unsigned w = 0; w < WRITES; w++) {
                const size_t at = (size_t)(r * WRITES + w) * 96;
                assert_memory_equal(bench->played.file + at, text + at % 400, 96);
            }
        }
        assert_int_equal(bench->transfer.in_flight, 0);
    }
    assert_int_equal(weir__load(&bench->counters.ops_submitted, relaxed),
                     weir__load(&bench->counters.ops_completed, relaxed));
}

static void run_may_be_started_again(void **state)
{
    struct bench *const bench = *state;
    struct iovec iov = {text, 64};
    struct weir__transfer_op op = op_of(WEIR__OP_WRITE, 0, &iov, 1, 1);
    struct weir__transfer_run run = {.ops = &op, .count = 1};
    SCRIPT(bench, 10, -EIO);
    assert_int_equal(carry_out(bench, false, &run), -EIO);
    assert_int_equal(op.bytes, 54); /* what is left */
    assert_int_equal(carry_out(bench, false, &run), 0);
    assert_memory_equal(bench->played.file, text, 64);
}

static void empty_pieces_are_no_end(void **state)
{
    struct bench *const bench = *state;
    for (int here = 0; here < 2; here++) {
        uint8_t back[8] = {0};
        struct iovec iov[3] = {{back, 0}, {back, 4}, {back + 4, 4}};
        struct weir__transfer_op op = op_of(WEIR__OP_READ, 100, iov, 3, 1);
        struct weir__transfer_run run = {.ops = &op, .count = 1};
        memset(bench->played.file + 100, 9, 8);
        assert_int_equal(carry_out(bench, here != 0, &run), 0);
        assert_int_equal(op.done, 8);
        assert_int_equal(back[7], 9);
        struct weir__transfer_op nothing = op_of(WEIR__OP_WRITE, 100, NULL, 0, 1);
        struct weir__transfer_run empty = {.ops = &nothing, .count = 1};
        assert_int_equal(carry_out(bench, here != 0, &empty), 0);
        assert_true(nothing.over);
    }
}

/* ---- whole-length helpers -------------------------------------------------------------------- */

/* An implementation that moves at most three bytes at a time, then answers what it is told to. */
struct trickle {
    struct weir__io io;
    char bytes[64];
    size_t len;
    ssize_t in_the_end;
    unsigned dsyncs;
};

static ssize_t
trickle_read(struct weir__io *self, int file, void *buffer, size_t bytes, uint64_t offset)
{
    (void)file;
    struct trickle *const trickle = self->ctx;
    if (offset >= trickle->len) {
        return trickle->in_the_end;
    }
    size_t take = bytes < 3 ? bytes : 3;
    take = take < trickle->len - offset ? take : trickle->len - offset;
    memcpy(buffer, trickle->bytes + offset, take);
    return (ssize_t)take;
}

static ssize_t trickle_write(struct weir__io *self,
                             int file,
                             const struct iovec *iov,
                             unsigned iov_count,
                             uint64_t offset,
                             bool dsync)
{
    (void)file;
    struct trickle *const trickle = self->ctx;
    if (iov_count != 1 || offset >= trickle->len) {
        return trickle->in_the_end;
    }
    const size_t take = iov->iov_len < 3 ? iov->iov_len : 3;
    memcpy(trickle->bytes + offset, iov->iov_base, take);
    trickle->dsyncs += dsync;
    return (ssize_t)take;
}

static void full_helpers_loop_over_short_results(void **state)
{
    (void)state;
    static const struct weir__io_ops ops = {.read = trickle_read, .write = trickle_write};
    struct trickle trickle = {.len = 40, .in_the_end = 0};
    trickle.io = (struct weir__io){.ops = &ops, .ctx = &trickle};
    const char words[] = "twenty-five bytes of text";
    assert_int_equal(weir__io_write_full(&trickle.io, 9, words, 25, 10, true), 0);
    assert_int_equal(trickle.dsyncs, 9);
    char back[64];
    assert_int_equal(weir__io_read_full(&trickle.io, 9, back, 25, 10), 0);
    assert_memory_equal(back, words, 25);
    assert_int_equal(weir__io_read_full(&trickle.io, 9, back, 31, 10), -ENODATA);
    assert_int_equal(weir__io_write_full(&trickle.io, 9, words, 10, 35, false), -EIO);
    trickle.in_the_end = -ENOSPC;
    assert_int_equal(weir__io_read_full(&trickle.io, 9, back, 31, 10), -ENOSPC);
    assert_int_equal(weir__io_write_full(&trickle.io, 9, words, 10, 35, false), -ENOSPC);
    assert_int_equal(weir__io_read_full(&trickle.io, 9, back, 0, 99), 0);
    assert_int_equal(weir__io_write_full(&trickle.io, 9, words, 0, 99, true), 0);
}

#define TRANSFER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRANSFER_TEST(short_write_goes_on_from_a_block_with_a_new_sync),
        TRANSFER_TEST(failed_sync_is_final),
        TRANSFER_TEST(nothing_is_linked_behind_more_than_one_call_moves),
        TRANSFER_TEST(error_names_its_op_and_stops_those_behind),
        TRANSFER_TEST(read_ends_at_the_end_of_the_file),
        TRANSFER_TEST(part_of_a_block_may_be_followed_by_more),
        TRANSFER_TEST(write_that_moves_nothing_is_an_error),
        TRANSFER_TEST(no_progress_is_bounded),
        TRANSFER_TEST(what_the_kernel_did_not_take_is_pushed_again),
        TRANSFER_TEST(refused_submission_ends_the_run),
        TRANSFER_TEST(stopped_transfer_goes_on_with_nothing),
        TRANSFER_TEST(broken_queue_is_told),
        TRANSFER_TEST(runs_side_by_side_all_arrive),
        TRANSFER_TEST(run_may_be_started_again),
        TRANSFER_TEST(empty_pieces_are_no_end),
        cmocka_unit_test(full_helpers_loop_over_short_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
