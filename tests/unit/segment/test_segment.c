/* SPDX-License-Identifier: Apache-2.0
 * Segment files: opening them, and the three ways in which one becomes ready. The order of the
 * calls is asserted, since a crash may come between any two. */
#include "base/bytes.h"
#include "segment/segment.h"
#include "unit/segment/test_files.h"
#include "unit/segment/trace_io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define BLOCK 4096u
#define CHUNK WEIR__PREFILL_CHUNK_BYTES
/* Two chunks and a piece, so that the last chunk is a short one. */
#define BYTES (2u * CHUNK + 3u * BLOCK)

struct fixture {
    struct weir__mem mem;
    char path[FILES_PATH_BYTES];
    struct trace_io trace;
    struct weir__dir dir;
    struct weir__fault fault;
    struct weir__prepare prepare;
    uint8_t *bytes; /* a whole segment read back */
};

static int setup_with(void **state, bool direct)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL || !files_make_dir(f->path)) {
        free(f);
        return -1;
    }
    f->bytes = malloc(BYTES);
    weir__mem_init(&f->mem, NULL);
    trace_init(&f->trace);
    f->fault = WEIR__FAULT_NONE;
    *state = f;
    if (f->bytes == NULL ||
        weir__dir_open(&f->dir, &f->trace.io, &f->mem, f->path, false, direct, &f->fault) != 0) {
        return -1;
    }
    return weir__prepare_init(&f->prepare, &f->dir);
}

static int setup(void **state)
{
    return setup_with(state, true);
}

static int setup_buffered(void **state)
{
    return setup_with(state, false);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    weir__prepare_exit(&f->prepare);
    weir__dir_close(&f->dir);
    trace_exit(&f->trace);
    weir__mem_exit(&f->mem);
    files_remove_dir(f->path);
    free(f->bytes);
    free(f);
    return 0;
}

static struct weir__range range_at(weir_lsn base)
{
    return (struct weir__range){.base = base, .end = base + BYTES};
}

static struct weir__segment_header header_of(struct weir__range range)
{
    return (struct weir__segment_header){
        .log_id = 4711,
        .number = range.base / BYTES,
        .base = range.base,
        .bytes = range.end - range.base,
        .epoch = 2,
        .prev_number = range.base == 0 ? WEIR__SEGMENT_NONE : range.base / BYTES - 1,
        .prev_base = range.base == 0 ? 0 : range.base - BYTES,
        .block_bytes = BLOCK,
    };
}

static const char *name_of(struct weir__range range)
{
    static char name[WEIR__SEGMENT_NAME_BYTES];
    weir__segment_name(range.base, range.end, name);
    return name;
}

/* A file with the name of range, every byte `fill`. */
static void make_file(struct fixture *f, struct weir__range range, int fill)
{
    assert_true(files_fill(f->path, name_of(range), fill, (size_t)(range.end - range.base)));
}

static void begin(struct fixture *f, struct weir__range range)
{
    const struct weir__segment_header header = header_of(range);
    assert_int_equal(weir__prepare_begin(&f->prepare, range, &header, &f->fault), 0);
}

/* Steps until it is ready. */
static int finish(struct fixture *f)
{
    int file = -1;
    int result = 0;
    for (int i = 0; i < 100 && result == 0; i++) {
        result = weir__prepare_step(&f->prepare, &file, &f->fault);
    }
    assert_int_equal(result, 1);
    assert_true(file >= 0);
    return file;
}

/* Of the right length, headed, and every byte behind the header's 128 as it should be. */
static void
assert_segment(struct fixture *f, struct weir__range range, uint32_t origin, uint8_t behind)
{
    assert_int_equal(files_bytes(f->path, name_of(range)), BYTES);
    assert_true(files_read(f->path, name_of(range), f->bytes, BYTES, 0));
    struct weir__segment_header header;
    assert_int_equal(weir__segment_header_decode(f->bytes, &header, NULL), 0);
    struct weir__segment_header expected = header_of(range);
    expected.origin = origin;
    uint8_t expected_bytes[WEIR__SEGMENT_HEADER_BYTES];
    weir__segment_header_encode(&expected, expected_bytes);
    assert_memory_equal(f->bytes, expected_bytes, sizeof expected_bytes);
    assert_true(
        weir__all_zero(f->bytes + WEIR__SEGMENT_HEADER_BYTES, BLOCK - WEIR__SEGMENT_HEADER_BYTES));
    for (size_t i = BLOCK; i < BYTES; i++) {
        if (f->bytes[i] != behind) {
            fail_msg("byte %zu is %u", i, f->bytes[i]);
        }
    }
}

/* ---- opening ---- */

static void open_compares_the_length(void **state)
{
    struct fixture *f = *state;
    const struct weir__range range = range_at(BYTES);
    int file = -1;
    assert_int_equal(weir__segment_open(&f->dir, range, WEIR__OPEN_READ, &file, &f->fault),
                     -ENOENT);
    assert_string_equal(f->fault.file, name_of(range));

    make_file(f, range, 0);
    const unsigned flags = WEIR__OPEN_WRITE | WEIR__OPEN_DIRECT;
    assert_int_equal(weir__segment_open(&f->dir, range, flags, &file, NULL), 0);
    assert_int_equal((fcntl(file, F_GETFL) & O_DIRECT) != 0, f->dir.direct);
    assert_int_equal(f->trace.ops.close(&f->trace.io, file), 0);

    char path[FILES_PATH_BYTES];
    files_path(f->path, name_of(range), path);
    assert_int_equal(truncate(path, BYTES + 1), 0); /* longer is no harm */
    assert_int_equal(weir__segment_open(&f->dir, range, WEIR__OPEN_READ, &file, NULL), 0);
    assert_int_equal(f->trace.ops.close(&f->trace.io, file), 0);

    assert_int_equal(truncate(path, BYTES - 1), 0);
    f->fault = WEIR__FAULT_NONE;
    assert_int_equal(weir__segment_open(&f->dir, range, WEIR__OPEN_READ, &file, &f->fault),
                     WEIR_ECORRUPT);
    assert_string_equal(f->fault.file, name_of(range));
    assert_int_equal(f->fault.offset, BYTES - 1);
    assert_int_equal(f->fault.lsn, range.base + BYTES - 1);

    /* A symbolic link is never followed. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_true(weir__segment_open(&f->dir, range, WEIR__OPEN_READ, &file, NULL) < 0);
}

static void read_header_tells_good_damaged_and_missing(void **state)
{
    struct fixture *f = *state;
    const struct weir__range range = range_at(BYTES);
    begin(f, range);
    const int file = finish(f);
    struct weir__segment_header header;
    assert_int_equal(weir__segment_read_header(&f->dir, file, range, &header, &f->fault), 0);
    assert_int_equal(header.base, range.base);
    assert_int_equal(header.origin, WEIR__SEGMENT_ZEROED);

    trace_fail(&f->trace, 0, TRACE_READ, "", 0, 1, -EIO);
    assert_int_equal(weir__segment_read_header(&f->dir, file, range, &header, &f->fault), -EIO);
    assert_string_equal(f->fault.file, name_of(range));
    assert_int_equal(f->fault.offset, 0);
    assert_int_equal(f->fault.lsn, range.base);

    const uint8_t junk = 0xff;
    assert_true(files_write(f->path, name_of(range), &junk, 1, 33));
    f->fault = WEIR__FAULT_NONE;
    assert_int_equal(weir__segment_read_header(&f->dir, file, range, &header, &f->fault),
                     WEIR_ECORRUPT);
    assert_int_equal(f->fault.code, WEIR_ECORRUPT);
    assert_int_equal(ftruncate(file, 100), 0);
    assert_int_equal(weir__segment_read_header(&f->dir, file, range, &header, NULL), WEIR_ECORRUPT);
    assert_int_equal(close(file), 0);
}

/* ---- filling ---- */

static void filled_segment_is_zero_behind_its_header(void **state)
{
    struct fixture *f = *state;
    const struct weir__range range = range_at(BYTES);
    begin(f, range);
    const int file = finish(f);
    assert_segment(f, range, WEIR__SEGMENT_ZEROED, 0);
    assert_false(files_exists(f->path, WEIR__PREPARE_NAME));
    /* What was handed out is open for writing. */
    assert_int_equal(fcntl(file, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_int_equal(close(file), 0);
    assert_int_equal(f->prepare.file, -1);

    /* The chunk of zeros is zero again: the next segment has no trace of this header. */
    const struct weir__range second = range_at(2 * BYTES);
    begin(f, second);
    assert_int_equal(close(finish(f)), 0);
    assert_segment(f, second, WEIR__SEGMENT_ZEROED, 0);
}

/* The name comes only after everything is synced, and the directory's sync after the name. */
static void fill_syncs_before_the_name_and_the_directory_after(void **state)
{
    struct fixture *f = *state;
    const struct weir__range range = range_at(BYTES);
    begin(f, range);
    int file = -1;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weir__prepare_step(&f->prepare, &file, &f->fault), 0);
        assert_false(files_exists(f->path, name_of(range)));
        assert_true(files_exists(f->path, WEIR__PREPARE_NAME));
    }
    assert_int_equal(f->prepare.done, 2 * CHUNK);
    assert_int_equal(weir__prepare_step(&f->prepare, &file, &f->fault), 1);

    long last_write = -1;
    for (long at = 0; (at = trace_find(&f->trace, TRACE_WRITE, "", at)) >= 0; at++) {
        assert_string_equal(f->trace.list[at].name, WEIR__PREPARE_NAME);
        assert_false(f->trace.list[at].dsync);
        last_write = at;
    }
    assert_int_equal(f->trace.list[last_write].offset, 0); /* the header */
    assert_int_equal(f->trace.list[last_write].bytes, BLOCK);
    const long sync = trace_find(&f->trace, TRACE_SYNC, WEIR__PREPARE_NAME, last_write);
    const long renamed = trace_find(&f->trace, TRACE_RENAME, name_of(range), 0);
    const long dir = trace_find(&f->trace, TRACE_SYNC_DIR, "", 0);
    assert_true(last_write < sync && sync < renamed && renamed < dir);
    assert_int_equal(trace_count(&f->trace, TRACE_SYNC_DIR, ""), 1);
    assert_int_equal(close(file), 0);
}

/* A longer, a shorter and a linked leftover of a crash, full of foreign bytes. */
static void leftover_of_a_crash_is_filled_anew(void **state)
{
    struct fixture *f = *state;
    static const size_t leftovers[] = {0, 1000, BYTES - BLOCK, BYTES, 2 * BYTES};
    for (size_t i = 0; i < sizeof leftovers / sizeof leftovers[0]; i++) {
        assert_true(files_fill(f->path, WEIR__PREPARE_NAME, 0xee, leftovers[i]));
        const struct weir__range range = range_at((i + 1) * BYTES);
        begin(f, range);
        assert_int_equal(close(finish(f)), 0);
        assert_segment(f, range, WEIR__SEGMENT_ZEROED, 0);
    }
    assert_true(files_fill(f->path, WEIR__PREPARE_NAME, 0xee, 100));
    assert_true(files_link(f->path, WEIR__PREPARE_NAME, "backup"));
    begin(f, range_at(BYTES * 9));
    assert_int_equal(close(finish(f)), 0);
    assert_segment(f, range_at(BYTES * 9), WEIR__SEGMENT_ZEROED, 0);
    uint8_t byte = 0;
    assert_true(files_read(f->path, "backup", &byte, 1, 99));
    assert_int_equal(byte, 0xee);
}

/* No space at any of the writes, the header's included: the same call goes on where it stood. */
static void lack_of_space_is_waited_out(void **state)
{
    struct fixture *f = *state;
    for (int k = 0; k < 4; k++) {
        const int error = k % 2 == 0 ? -ENOSPC : -EDQUOT;
        const struct weir__range range = range_at((uint64_t)(k + 1) * BYTES);
        begin(f, range);
        trace_clear(&f->trace);
        trace_fail(&f->trace, 0, TRACE_WRITE, WEIR__PREPARE_NAME, k, 3, error);
        int file = -1;
        int refusals = 0;
        int result = 0;
        for (int i = 0; i < 100 && result != 1; i++) {
            f->fault = WEIR__FAULT_NONE;
            const uint64_t done = f->prepare.done;
            result = weir__prepare_step(&f->prepare, &file, &f->fault);
            if (result < 0) {
                assert_int_equal(result, error);
                assert_int_equal(f->fault.code, error);
                assert_string_equal(f->fault.file, WEIR__PREPARE_NAME);
                assert_true(f->prepare.done >= done);
                assert_false(files_exists(f->path, name_of(range)));
                refusals++;
            }
        }
        assert_int_equal(result, 1);
        assert_int_equal(refusals, 3);
        assert_segment(f, range, WEIR__SEGMENT_ZEROED, 0);
        /* Three chunks and a header: nothing was written twice. */
        assert_int_equal(trace_count(&f->trace, TRACE_WRITE, WEIR__PREPARE_NAME), 4);
        assert_int_equal(close(file), 0);
    }
}

/* Bytes whose sync failed may be lost, and a second sync would not say so: they are written
 * again. */
static void failed_sync_is_followed_by_writing_everything_again(void **state)
{
    struct fixture *f = *state;
    const struct weir__range range = range_at(BYTES);
    begin(f, range);
    trace_fail(&f->trace, 0, TRACE_SYNC, WEIR__PREPARE_NAME, 0, 1, -ENOSPC);
    int file = -1;
    int result = 0;
    while (result == 0) {
        result = weir__prepare_step(&f->prepare, &file, &f->fault);
    }
    assert_int_equal(result, -ENOSPC);
    assert_int_equal(f->prepare.done, 0);
    trace_clear(&f->trace);
    f->fault = WEIR__FAULT_NONE;
    assert_int_equal(close(finish(f)), 0);
    assert_int_equal(trace_count(&f->trace, TRACE_WRITE, WEIR__PREPARE_NAME), 4);
    assert_segment(f, range, WEIR__SEGMENT_ZEROED, 0);
}

static void failure_behind_the_rename_leaves_a_file_to_adopt(void **state)
{
    struct fixture *f = *state;
    const struct weir__range range = range_at(BYTES);
    const struct weir__segment_header header = header_of(range);
    begin(f, range);
    trace_fail(&f->trace, 0, TRACE_SYNC_DIR, "", 0, 1, -EIO);
    int file = -1;
    int result = 0;
    while (result == 0) {
        result = weir__prepare_step(&f->prepare, &file, &f->fault);
    }
    assert_int_equal(result, -EIO);
    assert_string_equal(f->fault.file, name_of(range));
    assert_int_equal(f->prepare.file, -1);
    assert_true(f->prepare.renamed);
    assert_int_equal(weir__prepare_adopt(&f->prepare, range, &header, &file, NULL), 0);
    assert_int_equal(close(file), 0);
    assert_segment(f, range, WEIR__SEGMENT_RECYCLED, 0);
}

static void abandoned_fill_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    begin(f, range_at(0));
    int file = -1;
    assert_int_equal(weir__prepare_step(&f->prepare, &file, &f->fault), 0);
    weir__prepare_abandon(&f->prepare);
    assert_false(files_exists(f->path, WEIR__PREPARE_NAME));
    weir__prepare_abandon(&f->prepare); /* nothing under way */
    begin(f, range_at(0));
    assert_int_equal(close(finish(f)), 0);
    assert_segment(f, range_at(0), WEIR__SEGMENT_ZEROED, 0);
}

/* Piles of dirty pages would make the last sync long. */
static void buffered_fill_syncs_now_and_then(void **state)
{
    struct fixture *f = *state;
    const struct weir__range range = {.base = 0, .end = 40 * CHUNK};
    const struct weir__segment_header header = header_of(range);
    assert_int_equal(weir__prepare_begin(&f->prepare, range, &header, &f->fault), 0);
    assert_int_equal(close(finish(f)), 0);
    assert_int_equal(trace_count(&f->trace, TRACE_SYNC, WEIR__PREPARE_NAME), f->dir.direct ? 1 : 3);
}

/* ---- recycling ---- */

/* Rename, header, its sync, the directory's sync: the order of the format's section 4. */
static void recycle_goes_in_the_order_of_the_format(void **state)
{
    struct fixture *f = *state;
    const struct weir__range from = range_at(0);
    const struct weir__range range = range_at(5 * BYTES);
    const struct weir__segment_header header = header_of(range);
    make_file(f, from, 0xab);
    trace_clear(&f->trace);
    int file = -1;
    assert_int_equal(weir__prepare_recycle(&f->prepare, from, range, &header, &file, &f->fault), 0);
    assert_true(f->prepare.renamed);
    assert_false(files_exists(f->path, name_of(from)));
    assert_segment(f, range, WEIR__SEGMENT_RECYCLED, 0xab);

    const long renamed = trace_find(&f->trace, TRACE_RENAME, name_of(range), 0);
    const long written = trace_find(&f->trace, TRACE_WRITE, name_of(range), 0);
    const long sync = trace_find(&f->trace, TRACE_SYNC, name_of(range), 0);
    const long dir = trace_find(&f->trace, TRACE_SYNC_DIR, "", 0);
    assert_true(0 <= renamed && renamed < written && written < sync && sync < dir);
    assert_int_equal(f->trace.list[written].offset, 0);
    assert_int_equal(f->trace.list[written].bytes, BLOCK);
    assert_int_equal(trace_count(&f->trace, TRACE_WRITE, ""), 1);
    assert_int_equal(fcntl(file, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_int_equal(close(file), 0);
}

/* A second name is somebody's backup: its bytes are left alone. */
static void recycle_refuses_a_hard_linked_file(void **state)
{
    struct fixture *f = *state;
    const struct weir__range from = range_at(0);
    const struct weir__range range = range_at(BYTES);
    const struct weir__segment_header header = header_of(range);
    make_file(f, from, 0xab);
    assert_true(files_link(f->path, name_of(from), "backup"));
    trace_clear(&f->trace);
    int file = -1;
    assert_int_equal(weir__prepare_recycle(&f->prepare, from, range, &header, &file, &f->fault),
                     -EMLINK);
    assert_string_equal(f->fault.file, name_of(from));
    assert_false(f->prepare.renamed);
    assert_true(files_exists(f->path, name_of(from)));
    assert_int_equal(trace_count(&f->trace, TRACE_RENAME, ""), 0);
    assert_int_equal(trace_count(&f->trace, TRACE_WRITE, ""), 0);
}

static void recycle_refuses_another_length(void **state)
{
    struct fixture *f = *state;
    const struct weir__range from = {.base = 0, .end = BYTES - BLOCK};
    const struct weir__range range = range_at(BYTES);
    const struct weir__segment_header header = header_of(range);
    make_file(f, from, 0xab);
    int file = -1;
    assert_int_equal(weir__prepare_recycle(&f->prepare, from, range, &header, &file, NULL),
                     -EINVAL);
    /* By its name it fits, but the file was cut. */
    const struct weir__range cut = range_at(0);
    assert_true(files_fill(f->path, name_of(cut), 0xab, BYTES - BLOCK));
    assert_int_equal(weir__prepare_recycle(&f->prepare, cut, range, &header, &file, NULL), -EINVAL);
    assert_int_equal(
        weir__prepare_recycle(&f->prepare, range_at(7 * BYTES), range, &header, &file, NULL),
        -ENOENT);
    assert_false(f->prepare.renamed);
    assert_true(files_exists(f->path, name_of(from)));
    assert_false(files_exists(f->path, name_of(range)));
}

/* Each step fails once: the struct says which name the file bears, and what is left can be
 * adopted. */
static void failed_recycle_can_be_taken_up(void **state)
{
    struct fixture *f = *state;
    static const struct {
        enum trace_kind kind;
        bool renamed;
    } steps[] = {{TRACE_RENAME, false},
                 {TRACE_WRITE, true},
                 {TRACE_SYNC, true},
                 {TRACE_SYNC_DIR, true}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        const struct weir__range from = range_at(i * BYTES);
        const struct weir__range range = range_at((i + 10) * BYTES);
        const struct weir__segment_header header = header_of(range);
        make_file(f, from, 0xab);
        trace_fail(&f->trace, 0, steps[i].kind, "", 0, 1, -EIO);
        int file = -1;
        f->fault = WEIR__FAULT_NONE;
        assert_int_equal(weir__prepare_recycle(&f->prepare, from, range, &header, &file, &f->fault),
                         -EIO);
        assert_int_equal(f->fault.code, -EIO);
        assert_int_equal(f->prepare.renamed, steps[i].renamed);
        assert_int_equal(files_exists(f->path, name_of(from)), !steps[i].renamed);
        assert_int_equal(files_exists(f->path, name_of(range)), steps[i].renamed);
        const int again =
            steps[i].renamed
                ? weir__prepare_adopt(&f->prepare, range, &header, &file, NULL)
                : weir__prepare_recycle(&f->prepare, from, range, &header, &file, NULL);
        assert_int_equal(again, 0);
        assert_int_equal(close(file), 0);
        assert_segment(f, range, WEIR__SEGMENT_RECYCLED, 0xab);
    }
}

/* ---- adopting ---- */

static void adopt_gives_a_leftover_a_new_header(void **state)
{
    struct fixture *f = *state;
    const struct weir__range range = range_at(3 * BYTES);
    const struct weir__segment_header header = header_of(range);
    int file = -1;
    assert_int_equal(weir__prepare_adopt(&f->prepare, range, &header, &file, &f->fault), -ENOENT);

    make_file(f, range, 0xcd);
    trace_clear(&f->trace);
    assert_int_equal(weir__prepare_adopt(&f->prepare, range, &header, &file, NULL), 0);
    assert_segment(f, range, WEIR__SEGMENT_RECYCLED, 0xcd);
    const long written = trace_find(&f->trace, TRACE_WRITE, name_of(range), 0);
    const long sync = trace_find(&f->trace, TRACE_SYNC, name_of(range), 0);
    const long dir = trace_find(&f->trace, TRACE_SYNC_DIR, "", 0);
    assert_true(0 <= written && written < sync && sync < dir);
    assert_int_equal(close(file), 0);

    char path[FILES_PATH_BYTES];
    files_path(f->path, name_of(range), path);
    assert_int_equal(truncate(path, BYTES + BLOCK), 0);
    assert_int_equal(weir__prepare_adopt(&f->prepare, range, &header, &file, NULL), -EINVAL);
    assert_int_equal(truncate(path, BYTES), 0);
    assert_true(files_link(f->path, name_of(range), "backup"));
    assert_int_equal(weir__prepare_adopt(&f->prepare, range, &header, &file, NULL), -EMLINK);
}

/* A fill may be under way while a segment is recycled or adopted: it goes on afterwards. */
static void fill_survives_a_recycle_in_between(void **state)
{
    struct fixture *f = *state;
    const struct weir__range range = range_at(3 * BYTES);
    const struct weir__range other = range_at(4 * BYTES);
    const struct weir__segment_header header = header_of(other);
    begin(f, range);
    int file = -1;
    assert_int_equal(weir__prepare_step(&f->prepare, &file, &f->fault), 0);
    make_file(f, range_at(0), 0xab);
    assert_int_equal(
        weir__prepare_recycle(&f->prepare, range_at(0), other, &header, &file, &f->fault),
        0);
    assert_int_equal(close(file), 0);
    assert_int_equal(close(finish(f)), 0);
    assert_segment(f, range, WEIR__SEGMENT_ZEROED, 0);
    assert_segment(f, other, WEIR__SEGMENT_RECYCLED, 0xab);
}

int main(void)
{
#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, setup, teardown),                                        \
        cmocka_unit_test_setup_teardown(test, setup_buffered, teardown)
    const struct CMUnitTest tests[] = {
        BOTH(open_compares_the_length),
        BOTH(read_header_tells_good_damaged_and_missing),
        BOTH(filled_segment_is_zero_behind_its_header),
        BOTH(fill_syncs_before_the_name_and_the_directory_after),
        BOTH(leftover_of_a_crash_is_filled_anew),
        BOTH(lack_of_space_is_waited_out),
        BOTH(failed_sync_is_followed_by_writing_everything_again),
        BOTH(failure_behind_the_rename_leaves_a_file_to_adopt),
        BOTH(abandoned_fill_leaves_nothing),
        BOTH(buffered_fill_syncs_now_and_then),
        BOTH(recycle_goes_in_the_order_of_the_format),
        BOTH(recycle_refuses_a_hard_linked_file),
        BOTH(recycle_refuses_another_length),
        BOTH(failed_recycle_can_be_taken_up),
        BOTH(adopt_gives_a_leftover_a_new_header),
        BOTH(fill_survives_a_recycle_in_between),
    };
    return cmocka_run_group_tests_name("unit.segment.segment", tests, NULL, NULL);
}
