/* SPDX-License-Identifier: Apache-2.0
 * A list of operations: what was put in comes out, in order, from where it was copied to; and what
 * fails changes nothing. */
#include "io/batch.h"
#include "support/threads.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OPS 400u
#define LIMIT (UINT64_C(1) << 63)

/* ---- an allocator that counts and refuses ---------------------------------------------------- */

struct counting {
    unsigned allocations;
    unsigned live;
    size_t live_bytes;
    size_t peak_bytes;
    unsigned refuse_at; /* this one and all behind it; 0: none */
    void *blocks[1024]; /* of the first ones: NULL when they were released */
};

static void *counting_alloc(void *ctx, size_t bytes, size_t align)
{
    struct counting *const counting = ctx;
    void *block = NULL;
    counting->allocations++;
    if (counting->refuse_at != 0 && counting->allocations >= counting->refuse_at) {
        return NULL;
    }
    if (posix_memalign(&block, align, bytes) != 0) {
        return NULL;
    }
    counting->live++;
    counting->live_bytes += bytes;
    if (counting->live_bytes > counting->peak_bytes) {
        counting->peak_bytes = counting->live_bytes;
    }
    for (size_t i = 0; i < sizeof counting->blocks / sizeof counting->blocks[0]; i++) {
        if (counting->blocks[i] == NULL) {
            counting->blocks[i] = block;
            break;
        }
    }
    return block;
}

static void counting_release(void *ctx, void *block, size_t bytes)
{
    struct counting *const counting = ctx;
    counting->live--;
    counting->live_bytes -= bytes;
    for (size_t i = 0; i < sizeof counting->blocks / sizeof counting->blocks[0]; i++) {
        if (counting->blocks[i] == block) {
            counting->blocks[i] = NULL;
        }
    }
    free(block);
}

/* ---- operations ------------------------------------------------------------------------------ */

static struct weir_batch *batch_new(void)
{
    struct weir_batch *batch = NULL;
    assert_int_equal(weir_batch_new(NULL, &batch), 0);
    return batch;
}

/* The op that stands at `index` of a batch of this seed. Data of a write: byte i is op_byte. */
static struct weir_op op_of(uint64_t seed, size_t index)
{
    static const size_t sizes[] =
        {0, 1, 7, 8, 9, 511, 512, 513, 4095, 4096, 4097, 8192, 10000, 70000, 300000};
    struct random random = {.state = seed * 1000003 + index};
    struct weir_op op = {.offset = random_next(&random) >> 2};
    switch (random_below(&random, 8)) {
    case 0:
        return (struct weir_op){.kind = WEIR_OP_SYNC};
    case 1:
    case 2:
        op.kind = WEIR_OP_READ;
        op.bytes = (size_t)(random_next(&random) >> (2 + random_below(&random, 60)));
        return op;
    default:
        op.kind = WEIR_OP_WRITE;
        op.bytes = random_below(&random, 4) == 0
                       ? sizes[random_below(&random, sizeof sizes / sizeof sizes[0])]
                       : random_below(&random, 700);
        return op;
    }
}

static uint8_t op_byte(uint64_t seed, size_t index, size_t i)
{
    return (uint8_t)(seed + index * 31 + i * 7 + i / 256);
}

static int op_add(struct weir_batch *batch, uint64_t seed, size_t index)
{
    static uint8_t data[300000];
    const struct weir_op op = op_of(seed, index);
    int code;

    switch (op.kind) {
    case WEIR_OP_SYNC:
        return weir_batch_sync(batch);
    case WEIR_OP_READ:
        return weir_batch_read(batch, op.offset, op.bytes);
    default:
        for (size_t i = 0; i < op.bytes; i++) {
            data[i] = op_byte(seed, index, i);
        }
        code = weir_batch_write(batch, op.offset, data, op.bytes);
        /* It was copied: what happens to ours is not the batch's affair. */
        memset(data, 0xee, op.bytes);
        return code;
    }
}

static bool op_is(const struct weir_op *op, uint64_t seed, size_t index)
{
    const struct weir_op want = op_of(seed, index);
    if (op->kind != want.kind || op->offset != want.offset || op->bytes != want.bytes) {
        return false;
    }
    for (size_t i = 0; op->kind == WEIR_OP_WRITE && i < op->bytes; i++) {
        if (((const uint8_t *)op->data)[i] != op_byte(seed, index, i)) {
            return false;
        }
    }
    return true;
}

/* The batch holds the ops [from, to) of the seed, and counts them right. */
static void assert_holds(const struct weir_batch *batch, uint64_t seed, size_t from, size_t to)
{
    struct weir_batch_stats want = {0};
    struct weir_batch_stats stats;
    struct weir_op op;

    assert_int_equal(weir_batch_len(batch), to - from);
    assert_int_equal(weir_batch_is_empty(batch), to == from);
    for (size_t i = from; i < to; i++) {
        assert_int_equal(weir_batch_at(batch, i - from, &op), 0);
        assert_true(op_is(&op, seed, i));
        assert_ptr_equal(weir__batch_op(batch, i - from)->data, op.data);
        want.total_ops++;
        want.write_ops += op.kind == WEIR_OP_WRITE;
        want.read_ops += op.kind == WEIR_OP_READ;
        want.sync_ops += op.kind == WEIR_OP_SYNC;
        want.write_bytes += op.kind == WEIR_OP_WRITE ? op.bytes : 0;
        want.read_bytes += op.kind == WEIR_OP_READ ? op.bytes : 0;
    }
    weir_batch_stats(batch, &stats);
    assert_int_equal(stats.total_ops, want.total_ops);
    assert_int_equal(stats.write_ops, want.write_ops);
    assert_int_equal(stats.read_ops, want.read_ops);
    assert_int_equal(stats.sync_ops, want.sync_ops);
    assert_int_equal(stats.write_bytes, want.write_bytes);
    assert_int_equal(stats.read_bytes, want.read_bytes);
    assert_int_equal(weir_batch_pending_write_bytes(batch), want.write_bytes);
    assert_int_equal(weir_batch_pending_write_ops(batch), want.write_ops);
    assert_int_equal(weir_batch_pending_read_ops(batch), want.read_ops);
    assert_int_equal(weir_batch_at(batch, to - from, &op), -EINVAL);
    assert_int_equal(weir_batch_at(batch, SIZE_MAX, &op), -EINVAL);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void batch_gives_back_what_was_put_in_and_counts_it(void **state)
{
    (void)state;
    const uint64_t seed = test_seed();
    struct weir_batch *const batch = batch_new();
    assert_holds(batch, seed, 0, 0);
    for (size_t i = 0; i < OPS; i++) {
        assert_int_equal(op_add(batch, seed, i), 0);
        if (i % 64 == 0) {
            assert_holds(batch, seed, 0, i + 1);
        }
    }
    assert_holds(batch, seed, 0, OPS);
    weir_batch_clear(batch);
    assert_holds(batch, seed, 0, 0);
    weir_batch_free(batch);
    weir_batch_free(NULL);
}

/* The executor hands addresses to the kernel, and direct writes want them aligned. */
static void data_never_move_and_large_ones_are_aligned(void **state)
{
    (void)state;
    const uint64_t seed = test_seed() + 1;
    static const void *places[OPS];
    struct weir_batch *const batch = batch_new();
    for (size_t i = 0; i < OPS; i++) {
        assert_int_equal(op_add(batch, seed, i), 0);
        const struct weir_op *const op = weir__batch_op(batch, i);
        places[i] = op->data;
        if (op->kind == WEIR_OP_WRITE && op->bytes >= WEIR__BATCH_ALIGNED_BYTES) {
            assert_int_equal((uintptr_t)op->data % WEIR__BATCH_ALIGN, 0);
        } else if (op->kind == WEIR_OP_WRITE && op->bytes >= WEIR__BATCH_SECTOR) {
            assert_int_equal((uintptr_t)op->data % WEIR__BATCH_SECTOR, 0);
        }
    }
    for (size_t dropped = 0; dropped < OPS; dropped += 50) {
        for (size_t i = dropped; i < OPS; i++) {
            assert_ptr_equal(weir__batch_op(batch, i - dropped)->data, places[i]);
        }
        assert_holds(batch, seed, dropped, OPS);
        weir__batch_drop(batch, 50);
    }
    assert_holds(batch, seed, OPS, OPS);
    weir_batch_free(batch);
}

static void what_cannot_be_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct weir_batch *const batch = batch_new();
    struct weir_op op;
    assert_int_equal(op_add(batch, 7, 0), 0);
    assert_int_equal(weir_batch_write(batch, 0, NULL, 1), -EINVAL);
    assert_int_equal(weir_batch_write(NULL, 0, "x", 1), -EINVAL);
    assert_int_equal(weir_batch_read(NULL, 0, 1), -EINVAL);
    assert_int_equal(weir_batch_sync(NULL), -EINVAL);
    assert_int_equal(weir_batch_at(batch, 0, NULL), -EINVAL);
    assert_int_equal(weir_batch_at(NULL, 0, &op), -EINVAL);
    assert_int_equal(weir_batch_write(batch, LIMIT, "x", 1), -EFBIG);
    assert_int_equal(weir_batch_write(batch, LIMIT - 1, "xy", 2), -EFBIG);
    assert_int_equal(weir_batch_write(batch, LIMIT + 1, NULL, 0), -EFBIG);
    assert_int_equal(weir_batch_write(batch, UINT64_MAX, "x", 1), -EFBIG);
    assert_int_equal(weir_batch_read(batch, LIMIT, 1), -EFBIG);
    assert_int_equal(weir_batch_read(batch, 1, (size_t)LIMIT), -EFBIG);
    assert_int_equal(weir_batch_read(batch, UINT64_MAX, SIZE_MAX), -EFBIG);
    assert_holds(batch, 7, 0, 1);
    /* The last that may be. */
    assert_int_equal(weir_batch_write(batch, LIMIT - 1, "x", 1), 0);
    assert_int_equal(weir_batch_write(batch, LIMIT, NULL, 0), 0);
    assert_int_equal(weir_batch_read(batch, 0, (size_t)LIMIT), 0);
    assert_int_equal(weir_batch_len(batch), 4);
    weir_batch_free(batch);
}

/* Lengths are of 64 bits wherever they are kept. */
static void lengths_beyond_32_bits_are_kept(void **state)
{
    (void)state;
    struct weir_batch *const batch = batch_new();
    struct weir_op op;
    struct weir_batch_stats stats;
    assert_int_equal(weir_batch_read(batch, 5, (size_t)5 << 32), 0);
    assert_int_equal(weir_batch_read(batch, (uint64_t)7 << 40, ((size_t)1 << 32) + 3), 0);
    assert_int_equal(weir_batch_at(batch, 0, &op), 0);
    assert_int_equal(op.bytes, (size_t)5 << 32);
    assert_int_equal(weir_batch_at(batch, 1, &op), 0);
    assert_int_equal(op.offset, (uint64_t)7 << 40);
    weir_batch_stats(batch, &stats);
    assert_int_equal(stats.read_bytes, ((uint64_t)6 << 32) + 3);
    weir_batch_free(batch);
}

struct taken {
    uint64_t seed;
    size_t count;
    bool good;
    struct weir_batch *again; /* every third goes into this one */
    size_t added;
};

static void take(void *ctx, const struct weir_op *op)
{
    struct taken *const taken = ctx;
    taken->good = taken->good && op_is(op, taken->seed, taken->count);
    if (taken->again != NULL && taken->count % 3 == 0) {
        taken->good = taken->good && op_add(taken->again, taken->seed + 1, taken->added++) == 0;
    }
    taken->count++;
}

static void drain_yields_all_in_order_and_empties(void **state)
{
    (void)state;
    const uint64_t seed = test_seed() + 2;
    struct weir_batch *const batch = batch_new();
    struct taken taken = {.seed = seed, .good = true};
    weir_batch_drain(batch, take, &taken);
    assert_int_equal(taken.count, 0);
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < OPS; i++) {
            assert_int_equal(op_add(batch, seed, i), 0);
        }
        taken = (struct taken){.seed = seed, .good = true};
        weir_batch_drain(batch, take, &taken);
        assert_true(taken.good);
        assert_int_equal(taken.count, OPS);
        assert_holds(batch, seed, 0, 0);
    }
    weir_batch_free(batch);
}

/* Who takes an operation may put it back, or another one. */
static void drain_may_fill_the_batch_again(void **state)
{
    (void)state;
    const uint64_t seed = test_seed() + 3;
    struct weir_batch *const batch = batch_new();
    for (size_t i = 0; i < OPS; i++) {
        assert_int_equal(op_add(batch, seed, i), 0);
    }
    struct taken taken = {.seed = seed, .good = true, .again = batch};
    weir_batch_drain(batch, take, &taken);
    assert_true(taken.good);
    assert_int_equal(taken.count, OPS);
    assert_holds(batch, seed + 1, 0, (OPS + 2) / 3);
    weir_batch_free(batch);
}

/* Each allocation of a long batch refused once, then granted. */
static void no_memory_leaves_the_batch_as_it_was(void **state)
{
    (void)state;
    const uint64_t seed = 4711;
    struct counting counting = {0};
    const struct weir_memory_hooks hooks = {counting_alloc, counting_release, &counting};
    struct weir_batch *batch = NULL;

    counting.refuse_at = 1;
    assert_int_equal(weir_batch_new(&hooks, &batch), -ENOMEM);
    assert_null(batch);
    counting = (struct counting){0};
    assert_int_equal(weir_batch_new(&hooks, &batch), 0);
    unsigned refused = 0;
    for (size_t i = 0; i < OPS; i++) {
        /* One operation asks for two at most: one for the list, one for data. Refused are the
         * first, then the second. */
        int code = -ENOMEM;
        for (unsigned granted = 0; granted < 3 && code != 0; granted++) {
            counting.refuse_at = counting.allocations + 1 + granted;
            code = op_add(batch, seed, i);
            if (code != 0) {
                assert_int_equal(code, -ENOMEM);
                assert_holds(batch, seed, 0, i);
                refused++;
            }
        }
        assert_int_equal(code, 0);
    }
    assert_true(refused >= 8);
    assert_holds(batch, seed, 0, OPS);
    weir_batch_free(batch);
    assert_int_equal(counting.live, 0);
    assert_int_equal(counting.live_bytes, 0);
}

static void a_batch_used_again_allocates_nothing(void **state)
{
    (void)state;
    struct counting counting = {0};
    const struct weir_memory_hooks hooks = {counting_alloc, counting_release, &counting};
    struct weir_batch *batch = NULL;
    static uint8_t data[6000];
    assert_int_equal(weir_batch_new(&hooks, &batch), 0);
    unsigned first = 0;
    for (unsigned round = 0; round < 5; round++) {
        for (size_t i = 0; i < 300; i++) {
            assert_int_equal(weir_batch_write(batch, i, data, i * 20), 0);
        }
        if (round == 0) {
            first = counting.allocations;
            /* Growing by doubling: far fewer than one for each. */
            assert_true(first < 20);
        }
        assert_int_equal(counting.allocations, first);
        if (round % 2 == 0) {
            weir_batch_clear(batch);
        } else {
            weir__batch_drop(batch, 300);
        }
    }
    weir_batch_free(batch);
    assert_int_equal(counting.live, 0);
}

/* One that is never empty, as that of an executor that keeps failing, does not grow for ever. */
static void what_left_the_batch_leaves_its_memory(void **state)
{
    (void)state;
    const uint64_t seed = 99;
    struct counting counting = {0};
    const struct weir_memory_hooks hooks = {counting_alloc, counting_release, &counting};
    struct weir_batch *batch = NULL;
    assert_int_equal(weir_batch_new(&hooks, &batch), 0);
    size_t in = 0;
    size_t out = 0;
    while (in < 20) {
        assert_int_equal(op_add(batch, seed, in++), 0);
    }
    for (unsigned round = 0; round < 2000; round++) {
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(op_add(batch, seed, in++), 0);
        }
        out += 3;
        weir__batch_drop(batch, 3);
        if (round % 100 == 0) {
            assert_holds(batch, seed, out, in);
        }
    }
    /* Tens of MiB went through it. */
    assert_true(counting.peak_bytes < (size_t)9 << 20);
    weir_batch_free(batch);
    assert_int_equal(counting.live, 0);
}

/* One that was large once is small when it is empty. */
static void an_empty_batch_keeps_little(void **state)
{
    (void)state;
    struct counting counting = {0};
    const struct weir_memory_hooks hooks = {counting_alloc, counting_release, &counting};
    struct weir_batch *batch = NULL;
    static uint8_t data[5000];
    assert_int_equal(weir_batch_new(&hooks, &batch), 0);
    for (size_t i = 0; i < 5000; i++) {
        assert_int_equal(weir_batch_write(batch, i, data, sizeof data), 0);
    }
    assert_true(counting.live_bytes > (size_t)20 << 20);
    weir_batch_clear(batch);
    assert_true(counting.live_bytes < (size_t)5 << 20);
    assert_int_equal(counting.live_bytes, weir__batch_memory(batch));
    weir_batch_free(batch);
    assert_int_equal(counting.live, 0);
}

static void data_larger_than_any_chunk_fit(void **state)
{
    (void)state;
    const size_t bytes = ((size_t)5 << 20) + 3;
    uint8_t *const data = malloc(bytes);
    assert_non_null(data);
    struct weir_batch *const batch = batch_new();
    for (unsigned i = 0; i < 3; i++) {
        memset(data, (int)i + 1, bytes);
        assert_int_equal(weir_batch_write(batch, i, data, bytes), 0);
        assert_int_equal(weir_batch_write(batch, i, &data[5], 3), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        memset(data, (int)i + 1, bytes);
        const struct weir_op *const large = weir__batch_op(batch, (size_t)2 * i);
        assert_int_equal(large->bytes, bytes);
        assert_memory_equal(large->data, data, bytes);
        assert_int_equal((uintptr_t)large->data % WEIR__BATCH_ALIGN, 0);
        assert_memory_equal(weir__batch_op(batch, (size_t)2 * i + 1)->data, data, 3);
    }
    weir_batch_free(batch);
    free(data);
}

/* A ring that broke may still read the data: freed, they would be somebody else's. */
static void abandoned_data_are_never_freed(void **state)
{
    (void)state;
    struct counting counting = {0};
    const struct weir_memory_hooks hooks = {counting_alloc, counting_release, &counting};
    struct weir_batch *batch = NULL;
    const void *data[2];
    assert_int_equal(weir_batch_new(&hooks, &batch), 0);
    assert_int_equal(weir_batch_write(batch, 0, "abc", 3), 0);
    static uint8_t large[400000];
    assert_int_equal(weir_batch_write(batch, 0, large, sizeof large), 0);
    data[0] = weir__batch_op(batch, 0)->data;
    data[1] = weir__batch_op(batch, 1)->data;
    weir__batch_abandon(batch);
    weir__batch_drop(batch, 1);
    assert_int_equal(weir_batch_write(batch, 0, "def", 3), 0);
    assert_memory_equal(data[0], "abc", 3);
    weir_batch_clear(batch);
    weir_batch_free(batch);
    /* Its chunks are left, and nothing else. */
    unsigned left = 0;
    for (size_t i = 0; i < sizeof counting.blocks / sizeof counting.blocks[0]; i++) {
        left += counting.blocks[i] != NULL;
    }
    assert_true(left >= 2);
    assert_int_equal(left, counting.live);
    assert_memory_equal(data[0], "abc", 3);
    assert_memory_equal(data[1], large, sizeof large);
    for (size_t i = 0; i < sizeof counting.blocks / sizeof counting.blocks[0]; i++) {
        free(counting.blocks[i]);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_gives_back_what_was_put_in_and_counts_it),
        cmocka_unit_test(data_never_move_and_large_ones_are_aligned),
        cmocka_unit_test(what_cannot_be_is_refused_and_changes_nothing),
        cmocka_unit_test(lengths_beyond_32_bits_are_kept),
        cmocka_unit_test(drain_yields_all_in_order_and_empties),
        cmocka_unit_test(drain_may_fill_the_batch_again),
        cmocka_unit_test(no_memory_leaves_the_batch_as_it_was),
        cmocka_unit_test(a_batch_used_again_allocates_nothing),
        cmocka_unit_test(what_left_the_batch_leaves_its_memory),
        cmocka_unit_test(an_empty_batch_keeps_little),
        cmocka_unit_test(data_larger_than_any_chunk_fit),
        cmocka_unit_test(abandoned_data_are_never_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
