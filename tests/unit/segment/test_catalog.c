/* SPDX-License-Identifier: Apache-2.0
 * The set of segments: order, questions, overlaps, and what a directory's listing makes of it. */
#include "segment/catalog.h"
#include "unit/segment/test_files.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define RANGE(b, e) ((struct weir__range){.base = (b), .end = (e)})

struct fixture {
    struct weir__mem mem;
    struct weir__catalog catalog;
    size_t alloc_left; /* of the failing hooks */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return -1;
    }
    weir__mem_init(&f->mem, NULL);
    *state = f;
    return weir__catalog_init(&f->catalog, &f->mem);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    weir__catalog_exit(&f->catalog);
    weir__mem_exit(&f->mem);
    free(f);
    return 0;
}

static void assert_range(struct weir__range range, weir_lsn base, weir_lsn end)
{
    assert_int_equal(range.base, base);
    assert_int_equal(range.end, end);
}

static void copy_is_all_of_them_and_stays_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct weir__range *ranges;
    size_t count = 1;
    assert_int_equal(weir__catalog_copy(&f->catalog, &f->mem, &ranges, &count), 0);
    assert_null(ranges);
    assert_int_equal(count, 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(512, 1024)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(0, 512)), 0);
    assert_int_equal(weir__catalog_copy(&f->catalog, &f->mem, &ranges, &count), 0);
    assert_true(weir__catalog_remove(&f->catalog, RANGE(0, 512)));
    assert_int_equal(count, 2);
    assert_range(ranges[0], 0, 512);
    assert_range(ranges[1], 512, 1024);
    weir__mem_free(&f->mem, ranges, count * sizeof *ranges);
}

/* Whatever the order of the additions, the walk from 0 upwards is sorted. */
static void catalog_is_sorted_whatever_the_order_of_additions(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 200 };
    for (uint64_t i = 0; i < COUNT; i++) {
        const uint64_t k = i * 77 % COUNT; /* 77 and 200 share no factor: each k once */
        assert_int_equal(weir__catalog_add(&f->catalog, RANGE(k * 512, (k + 1) * 512)), 0);
    }
    assert_int_equal(weir__catalog_count(&f->catalog), COUNT);
    assert_int_equal(weir__catalog_bytes(&f->catalog), COUNT * 512);
    weir_lsn lsn = 0;
    struct weir__range range;
    for (uint64_t i = 0; i < COUNT; i++) {
        assert_true(weir__catalog_next(&f->catalog, lsn, &range));
        assert_range(range, i * 512, (i + 1) * 512);
        lsn = range.end;
    }
    assert_false(weir__catalog_next(&f->catalog, lsn, &range));
}

static void add_refuses_an_equal_range_only(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(0, 1024)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(0, 1024)), -EEXIST);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(0, 2048)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(512, 1024)), 0);
    assert_int_equal(weir__catalog_count(&f->catalog), 3);
}

static void remove_takes_the_equal_range_only(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(0, 1024)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(1024, 2048)), 0);
    assert_false(weir__catalog_remove(&f->catalog, RANGE(0, 2048)));
    assert_false(weir__catalog_remove(&f->catalog, RANGE(512, 1024)));
    assert_true(weir__catalog_remove(&f->catalog, RANGE(0, 1024)));
    assert_false(weir__catalog_remove(&f->catalog, RANGE(0, 1024)));
    struct weir__range range;
    assert_true(weir__catalog_next(&f->catalog, 0, &range));
    assert_range(range, 1024, 2048);
}

static void find_gives_the_segment_that_holds_the_lsn(void **state)
{
    struct fixture *f = *state;
    struct weir__range range;
    assert_false(weir__catalog_find(&f->catalog, 0, &range));
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(1024, 2048)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(4096, 8192)), 0);

    assert_false(weir__catalog_find(&f->catalog, 1023, &range));
    assert_true(weir__catalog_find(&f->catalog, 1024, &range));
    assert_range(range, 1024, 2048);
    assert_true(weir__catalog_find(&f->catalog, 2047, &range));
    assert_range(range, 1024, 2048);
    /* In the gap, and at the end, which belongs to the next one. */
    assert_false(weir__catalog_find(&f->catalog, 2048, &range));
    assert_false(weir__catalog_find(&f->catalog, 4095, &range));
    assert_true(weir__catalog_find(&f->catalog, 4096, &range));
    assert_range(range, 4096, 8192);
    assert_false(weir__catalog_find(&f->catalog, 8192, &range));
    assert_false(weir__catalog_find(&f->catalog, UINT64_MAX, &range));
}

/* A long segment under a short one: what the short one does not hold is still found in the long
 * one. */
static void find_looks_below_an_overlapping_segment(void **state)
{
    struct fixture *f = *state;
    struct weir__range range;
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(0, 8192)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(1024, 2048)), 0);
    assert_true(weir__catalog_find(&f->catalog, 1500, &range));
    assert_range(range, 1024, 2048);
    assert_true(weir__catalog_find(&f->catalog, 5000, &range));
    assert_range(range, 0, 8192);
}

static void next_gives_the_first_that_begins_at_or_above(void **state)
{
    struct fixture *f = *state;
    struct weir__range range;
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(1024, 2048)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(1024, 4096)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(4096, 8192)), 0);
    assert_true(weir__catalog_next(&f->catalog, 0, &range));
    assert_range(range, 1024, 2048);
    assert_true(weir__catalog_next(&f->catalog, 1024, &range));
    assert_range(range, 1024, 2048);
    assert_true(weir__catalog_next(&f->catalog, 1025, &range));
    assert_range(range, 4096, 8192);
    assert_false(weir__catalog_next(&f->catalog, 4097, &range));
}

static void overlap_gives_the_first_other_segment_that_shares_a_byte(void **state)
{
    struct fixture *f = *state;
    struct weir__range other;
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(0, 1024)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(1024, 2048)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(2048, 4096)), 0);
    /* Neighbours touch and do not overlap; a segment does not overlap itself. */
    assert_false(weir__catalog_overlap(&f->catalog, RANGE(1024, 2048), &other));
    assert_false(weir__catalog_overlap(&f->catalog, RANGE(4096, 8192), &other));
    assert_true(weir__catalog_overlap(&f->catalog, RANGE(1536, 8192), &other));
    assert_range(other, 1024, 2048);
    assert_true(weir__catalog_overlap(&f->catalog, RANGE(3584, 4608), &other));
    assert_range(other, 2048, 4096);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(1024, 4096)), 0);
    assert_true(weir__catalog_overlap(&f->catalog, RANGE(1024, 2048), &other));
    assert_range(other, 1024, 4096);
}

static void below_counts_whole_segments_only(void **state)
{
    struct fixture *f = *state;
    struct weir__range lowest = RANGE(1, 2);
    assert_int_equal(weir__catalog_below(&f->catalog, UINT64_MAX, &lowest), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(512, 1024)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(1024, 2048)), 0);
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(2048, 4096)), 0);
    assert_int_equal(weir__catalog_below(&f->catalog, 1023, &lowest), 0);
    assert_range(lowest, 1, 2);
    assert_int_equal(weir__catalog_below(&f->catalog, 1024, &lowest), 1);
    assert_range(lowest, 512, 1024);
    assert_int_equal(weir__catalog_below(&f->catalog, 4095, &lowest), 2);
    assert_int_equal(weir__catalog_below(&f->catalog, 4096, NULL), 3);
}

/* Names that are not exactly a segment's are foreign; a directory that bears one is listed all
 * the same, since only the name is looked at. */
static void load_reads_names_and_ignores_foreign_ones(void **state)
{
    struct fixture *f = *state;
    char path[FILES_PATH_BYTES];
    assert_true(files_make_dir(path));
    static const char *const names[] = {
        "0000000000010000-0000000000020000.weir",
        "0000000000000000-0000000000010000.weir",
        "0000000000000000-0000000000008000.weir", /* overlaps: kept */
        "0000000000020000-0000000000010000.weir", /* ends before it begins */
        "0000000000020000-0000000000030000.weir.bak",
        "000000000002000A-0000000000030000.weir",
        "000000000002000a-0000000000030000.weir", /* not at a block */
        "weir.control",
        "weir.prepare",
        "README",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_true(files_fill(path, names[i], 0, 0));
    }
    struct weir__dir dir;
    struct weir__fault fault = WEIR__FAULT_NONE;
    assert_int_equal(weir__dir_open(&dir, weir__io_system(), &f->mem, path, false, false, &fault),
                     0);
    /* What was there before is replaced. */
    assert_int_equal(weir__catalog_add(&f->catalog, RANGE(1 << 20, 1 << 21)), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weir__catalog_load(&f->catalog, &dir, &fault), 0);
        assert_int_equal(weir__catalog_count(&f->catalog), 3);
    }
    struct weir__range range;
    assert_true(weir__catalog_next(&f->catalog, 0, &range));
    assert_range(range, 0, 0x8000);
    assert_true(weir__catalog_overlap(&f->catalog, range, &range));
    assert_range(range, 0, 0x10000);
    assert_true(weir__catalog_find(&f->catalog, 0x1ffff, &range));
    assert_range(range, 0x10000, 0x20000);
    weir__dir_close(&dir);
    files_remove_dir(path);
}

/* A directory that gives names in no order, and some twice: every count up to a few, and one that is
 * large. */
struct shuffled {
    struct weir__io io;
    struct weir__io_ops ops;
    uint64_t count;
};

static int
shuffled_list(struct weir__io *io, int dir, int (*visit)(void *ctx, const char *name), void *ctx)
{
    const struct shuffled *shuffled = (const struct shuffled *)(const void *)io;
    (void)dir;
    for (uint64_t i = 0; i < shuffled->count; i++) {
        /* 7919 is a prime that divides no count here: each k once */
        const uint64_t k = i * 7919 % shuffled->count;
        char name[64];
        snprintf(name,
                 sizeof name,
                 "%016" PRIx64 "-%016" PRIx64 ".weir",
                 k * 0x1000,
                 (k + 1) * 0x1000);
        for (int times = k % 3 == 0 ? 2 : 1; times > 0; times--) {
            const int rc = visit(ctx, name);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

static void load_sorts_what_a_listing_gives_and_keeps_each_once(void **state)
{
    struct fixture *f = *state;
    struct shuffled shuffled = {.ops = {.list_dir = shuffled_list}};
    shuffled.io.ops = &shuffled.ops;
    struct weir__dir dir = {.io = &shuffled.io};
    struct weir__fault fault = WEIR__FAULT_NONE;
    static const uint64_t counts[] = {0, 1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 5000};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        shuffled.count = counts[c];
        assert_int_equal(weir__catalog_load(&f->catalog, &dir, &fault), 0);
        assert_int_equal(weir__catalog_count(&f->catalog), counts[c]);
        weir_lsn lsn = 0;
        struct weir__range range;
        for (uint64_t i = 0; i < counts[c]; i++) {
            assert_true(weir__catalog_next(&f->catalog, lsn, &range));
            assert_range(range, i * 0x1000, (i + 1) * 0x1000);
            lsn = range.end;
        }
        assert_false(weir__catalog_next(&f->catalog, lsn, &range));
    }
}

static void *alloc_until_none_left(void *ctx, size_t bytes, size_t align)
{
    struct fixture *f = ctx;
    if (f->alloc_left == 0) {
        return NULL;
    }
    f->alloc_left--;
    void *block = NULL;
    return posix_memalign(&block, align < sizeof block ? sizeof block : align, bytes) == 0 ? block
                                                                                           : NULL;
}

static void release_block(void *ctx, void *block, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(block);
}

static void lack_of_memory_leaves_the_catalog_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct weir__mem mem;
    const struct weir__mem_hooks hooks = {.alloc = alloc_until_none_left,
                                          .release = release_block,
                                          .ctx = f};
    weir__mem_init(&mem, &hooks);
    struct weir__catalog catalog;
    assert_int_equal(weir__catalog_init(&catalog, &mem), 0);
    f->alloc_left = 1;
    uint64_t added = 0;
    while (added < 1000 &&
           weir__catalog_add(&catalog, RANGE(added * 512, (added + 1) * 512)) == 0) {
        added++;
    }
    assert_in_range(added, 1, 999);
    assert_int_equal(weir__catalog_add(&catalog, RANGE(added * 512, (added + 1) * 512)), -ENOMEM);
    assert_int_equal(weir__catalog_count(&catalog), added);
    struct weir__range *ranges;
    size_t count = 1;
    assert_int_equal(weir__catalog_copy(&catalog, &mem, &ranges, &count), -ENOMEM);
    assert_null(ranges);
    assert_int_equal(count, 0);
    f->alloc_left = 1;
    assert_int_equal(weir__catalog_add(&catalog, RANGE(added * 512, (added + 1) * 512)), 0);
    assert_int_equal(weir__catalog_count(&catalog), added + 1);
    weir__catalog_exit(&catalog);
    weir__mem_exit(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(catalog_is_sorted_whatever_the_order_of_additions,
                                        setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(add_refuses_an_equal_range_only, setup, teardown),
        cmocka_unit_test_setup_teardown(remove_takes_the_equal_range_only, setup, teardown),
        cmocka_unit_test_setup_teardown(find_gives_the_segment_that_holds_the_lsn, setup, teardown),
        cmocka_unit_test_setup_teardown(find_looks_below_an_overlapping_segment, setup, teardown),
        cmocka_unit_test_setup_teardown(next_gives_the_first_that_begins_at_or_above,
                                        setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(overlap_gives_the_first_other_segment_that_shares_a_byte,
                                        setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(below_counts_whole_segments_only, setup, teardown),
        cmocka_unit_test_setup_teardown(copy_is_all_of_them_and_stays_as_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(load_reads_names_and_ignores_foreign_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(load_sorts_what_a_listing_gives_and_keeps_each_once,
                                        setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lack_of_memory_leaves_the_catalog_as_it_was,
                                        setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("unit.segment.catalog", tests, NULL, NULL);
}
