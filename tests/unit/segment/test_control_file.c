/* SPDX-License-Identifier: Apache-2.0
 * The control file: whatever is damaged or fails, one whole copy stands, and the newer one
 * counts. */
#include "port/clock.h"
#include "segment/control_file.h"
#include "unit/segment/test_files.h"
#include "unit/segment/trace_io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define BLOCK 4096u
#define COPY_1 WEIR__CONTROL_COPY_OFFSET

struct fixture {
    struct weir__mem mem;
    char path[FILES_PATH_BYTES];
    struct trace_io trace;
    struct weir__dir dir;
    struct weir__fault fault;
    struct weir__control_file cf;
    struct weir__control_found found;
};

static int setup_with(void **state, bool direct)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL || !files_make_dir(f->path)) {
        free(f);
        return -1;
    }
    weir__mem_init(&f->mem, NULL);
    trace_init(&f->trace);
    f->fault = WEIR__FAULT_NONE;
    f->cf.file = -1;
    *state = f;
    return weir__dir_open(&f->dir, &f->trace.io, &f->mem, f->path, false, direct, &f->fault);
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
    weir__control_close(&f->cf);
    weir__dir_close(&f->dir);
    trace_exit(&f->trace);
    weir__mem_exit(&f->mem);
    files_remove_dir(f->path);
    free(f);
    return 0;
}

static struct weir__control first_control(void)
{
    return (struct weir__control){
        .block_bytes = BLOCK,
        .log_id = 4711,
        .epoch = {.epoch = 1, .lsn = 0, .nonce = 99},
        .segment_bytes = 1u << 20,
        .checkpoint = {.lsn = 0, .epoch = 1, .epoch_lsn = 0, .nonce = 99},
    };
}

/* By their bytes on disk: what stands between the fields of a struct is nobody's. */
static void assert_same(const struct weir__control *a, const struct weir__control *b)
{
    uint8_t a_bytes[WEIR__CONTROL_USED_BYTES];
    uint8_t b_bytes[WEIR__CONTROL_USED_BYTES];
    weir__control_encode(a, a_bytes);
    weir__control_encode(b, b_bytes);
    assert_memory_equal(a_bytes, b_bytes, sizeof a_bytes);
}

static void create(struct fixture *f)
{
    const struct weir__control first = first_control();
    assert_int_equal(weir__control_create(&f->cf, &f->dir, &first, &f->fault), 0);
}

static void load(struct fixture *f)
{
    f->fault = WEIR__FAULT_NONE;
    assert_int_equal(weir__control_load(&f->dir, &f->found, &f->fault), 0);
}

static void write_promise(struct fixture *f, weir_lsn promise, bool both)
{
    struct weir__control next = f->cf.current;
    next.promise = promise;
    assert_int_equal(weir__control_write(&f->cf, &next, both, &f->fault), 0);
}

static void load_finds_nothing_in_an_empty_directory(void **state)
{
    struct fixture *f = *state;
    load(f);
    assert_false(f->found.exists);
    assert_int_equal(f->found.newest, -1);
}

static void create_writes_both_copies(void **state)
{
    struct fixture *f = *state;
    create(f);
    assert_int_equal(files_bytes(f->path, WEIR__CONTROL_NAME), WEIR__CONTROL_FILE_BYTES);
    load(f);
    assert_true(f->found.exists && f->found.valid[0] && f->found.valid[1]);
    assert_int_equal(f->found.copy[0].generation, 1);
    assert_int_equal(f->found.copy[1].generation, 2);
    assert_int_equal(f->found.newest, 1);
    assert_int_equal(f->found.copy[1].log_id, 4711);
    assert_same(&f->found.copy[1], &f->cf.current);
    assert_int_equal(f->cf.writes, 2);

    /* Every byte besides the two uses is zero. */
    static uint8_t bytes[WEIR__CONTROL_FILE_BYTES];
    assert_true(files_read(f->path, WEIR__CONTROL_NAME, bytes, sizeof bytes, 0));
    memset(bytes, 0, WEIR__CONTROL_USED_BYTES);
    memset(bytes + COPY_1, 0, WEIR__CONTROL_USED_BYTES);
    for (size_t i = 0; i < sizeof bytes; i++) {
        assert_int_equal(bytes[i], 0);
    }
}

/* A crash anywhere before the rename leaves no control file; the name appears when both copies
 * are on the disk. */
static void create_gives_the_name_last(void **state)
{
    struct fixture *f = *state;
    assert_true(files_fill(f->path, WEIR__PREPARE_NAME, 0xee, 200000)); /* a crash's leftover */
    create(f);
    const long copy_0 = trace_find(&f->trace, TRACE_WRITE, WEIR__PREPARE_NAME, 0);
    const long copy_1 = trace_find(&f->trace, TRACE_WRITE, WEIR__PREPARE_NAME, copy_0 + 1);
    const long sync = trace_find(&f->trace, TRACE_SYNC, WEIR__PREPARE_NAME, copy_1);
    const long renamed = trace_find(&f->trace, TRACE_RENAME, WEIR__CONTROL_NAME, sync);
    const long dir = trace_find(&f->trace, TRACE_SYNC_DIR, "", renamed);
    assert_true(0 <= copy_0 && copy_0 < copy_1 && copy_1 < sync && sync < renamed && renamed < dir);
    assert_int_equal(f->trace.list[copy_0].offset, 0);
    assert_int_equal(f->trace.list[copy_1].offset, COPY_1);
    assert_true(f->trace.list[copy_0].dsync && f->trace.list[copy_1].dsync);
    assert_false(files_exists(f->path, WEIR__PREPARE_NAME));
}

/* Whichever call fails: no control file afterwards, and the next creation succeeds. */
static void create_leaves_nothing_when_it_fails(void **state)
{
    struct fixture *f = *state;
    static const struct {
        enum trace_kind kind;
        int skip;
    } steps[] = {{TRACE_TRUNCATE, 0},
                 {TRACE_WRITE, 0},
                 {TRACE_WRITE, 1},
                 {TRACE_SYNC, 0},
                 {TRACE_RENAME, 0}};
    const struct weir__control first = first_control();
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        f->fault = WEIR__FAULT_NONE;
        trace_fail(&f->trace, 0, steps[i].kind, "", steps[i].skip, 1, -EIO);
        assert_int_equal(weir__control_create(&f->cf, &f->dir, &first, &f->fault), -EIO);
        assert_int_equal(f->fault.code, -EIO);
        assert_int_equal(f->cf.file, -1);
        assert_false(files_exists(f->path, WEIR__CONTROL_NAME));
        assert_false(files_exists(f->path, WEIR__PREPARE_NAME));
        load(f);
        assert_false(f->found.exists);
    }
    create(f);
}

static void create_refuses_to_replace_a_control_file(void **state)
{
    struct fixture *f = *state;
    create(f);
    weir__control_close(&f->cf);
    const struct weir__control first = first_control();
    assert_int_equal(weir__control_create(&f->cf, &f->dir, &first, &f->fault), -EEXIST);
    assert_string_equal(f->fault.file, WEIR__CONTROL_NAME);
    load(f);
    assert_int_equal(f->found.newest, 1);
}

/* Every byte of the used range, in either copy: the damaged one is found out, and the other
 * counts. */
static void damage_to_any_byte_of_one_copy_leaves_the_other(void **state)
{
    struct fixture *f = *state;
    create(f);
    write_promise(f, BLOCK, false);
    for (unsigned copy = 0; copy < 2; copy++) {
        for (uint64_t i = 0; i < WEIR__CONTROL_USED_BYTES; i++) {
            const uint64_t offset = copy * (uint64_t)COPY_1 + i;
            uint8_t byte;
            assert_true(files_read(f->path, WEIR__CONTROL_NAME, &byte, 1, offset));
            const uint8_t damaged = byte ^ (uint8_t)(1u << i % 8);
            assert_true(files_write(f->path, WEIR__CONTROL_NAME, &damaged, 1, offset));
            load(f);
            assert_true(f->found.exists);
            assert_false(f->found.valid[copy]);
            assert_true(f->found.valid[copy ^ 1u]);
            assert_int_equal(f->found.newest, (int)(copy ^ 1u));
            assert_true(files_write(f->path, WEIR__CONTROL_NAME, &byte, 1, offset));
        }
    }
    load(f);
    assert_true(f->found.valid[0] && f->found.valid[1]);
    assert_int_equal(f->found.newest, 0);
}

static void damage_to_both_copies_leaves_none(void **state)
{
    struct fixture *f = *state;
    create(f);
    const uint8_t junk[16] = {1, 2, 3};
    assert_true(files_write(f->path, WEIR__CONTROL_NAME, junk, sizeof junk, 24));
    assert_true(files_write(f->path, WEIR__CONTROL_NAME, junk, sizeof junk, COPY_1 + 24));
    load(f);
    assert_true(f->found.exists);
    assert_false(f->found.valid[0] || f->found.valid[1]);
    assert_int_equal(f->found.newest, -1);
}

static ssize_t
read_a_little(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset)
{
    (void)io;
    return weir__io_system()->ops->read(weir__io_system(),
                                        file,
                                        buffer,
                                        bytes < 100 ? bytes : 100,
                                        offset);
}

/* A read may be short for no reason, any number of times: the copies are none the worse. */
static void short_reads_lose_no_copy(void **state)
{
    struct fixture *f = *state;
    create(f);
    f->trace.ops.read = read_a_little;
    load(f);
    assert_true(f->found.valid[0] && f->found.valid[1]);
}

/* Every length that the file can be cut to: copy 0 counts while it is whole, and nothing is read
 * beyond the end. */
static void cut_file_is_read_as_far_as_it_goes(void **state)
{
    struct fixture *f = *state;
    create(f);
    static const struct {
        off_t bytes;
        int newest;
    } cuts[] = {{0, -1},
                {1, -1},
                {255, -1},
                {256, 0},
                {BLOCK, 0},
                {COPY_1, 0},
                {COPY_1 + 255, 0},
                {COPY_1 + 256, 1},
                {COPY_1 + BLOCK, 1}};
    for (size_t i = sizeof cuts / sizeof cuts[0]; i-- > 0;) {
        char file[FILES_PATH_BYTES];
        files_path(f->path, WEIR__CONTROL_NAME, file);
        assert_int_equal(truncate(file, cuts[i].bytes), 0);
        load(f);
        assert_true(f->found.exists);
        assert_int_equal(f->found.newest, cuts[i].newest);
        if (cuts[i].bytes == COPY_1) {
            /* Opening gives the file its length back, and the write goes to the copy that is
             * gone. */
            weir__control_close(&f->cf);
            assert_int_equal(weir__control_open(&f->cf, &f->dir, &f->found, &f->fault), 0);
            assert_int_equal(files_bytes(f->path, WEIR__CONTROL_NAME), WEIR__CONTROL_FILE_BYTES);
            write_promise(f, BLOCK, false);
            load(f);
            assert_int_equal(f->found.newest, 1);
        }
    }
}

static void single_writes_alternate_and_the_generation_decides(void **state)
{
    struct fixture *f = *state;
    create(f);
    for (uint64_t i = 1; i <= 6; i++) {
        write_promise(f, i * BLOCK, false);
        load(f);
        assert_true(f->found.valid[0] && f->found.valid[1]);
        /* After creation copy 0 is the older one. */
        assert_int_equal(f->found.newest, (int)((i + 1) % 2));
        assert_int_equal(f->found.copy[f->found.newest].promise, i * BLOCK);
        assert_int_equal(f->found.copy[f->found.newest].generation, 2 + i);
        assert_int_equal(f->found.copy[f->found.newest ^ 1].generation, 1 + i);
        assert_int_equal(f->cf.current.promise, i * BLOCK);
        assert_true(f->cf.current.wall_ns != 0 || weir__wall_ns() == 0);
    }
    /* The same after reopening: the older copy is next. */
    weir__control_close(&f->cf);
    load(f);
    assert_int_equal(weir__control_open(&f->cf, &f->dir, &f->found, &f->fault), 0);
    assert_int_equal(f->cf.next_copy, (unsigned)(f->found.newest ^ 1));
    write_promise(f, 7 * BLOCK, false);
    load(f);
    assert_int_equal(f->found.copy[f->found.newest].generation, 9);
    assert_int_equal(f->found.newest, 0);
}

static void writing_both_writes_the_older_copy_first(void **state)
{
    struct fixture *f = *state;
    create(f);
    write_promise(f, BLOCK, false); /* copy 0 is the newer one now */
    trace_clear(&f->trace);
    write_promise(f, 2 * BLOCK, true);
    assert_int_equal(trace_count(&f->trace, TRACE_WRITE, WEIR__CONTROL_NAME), 2);
    assert_int_equal(f->trace.list[0].offset, COPY_1);
    assert_int_equal(f->trace.list[1].offset, 0);
    for (int i = 0; i < 2; i++) {
        assert_true(f->trace.list[i].dsync);
        assert_int_equal(f->trace.list[i].bytes, BLOCK);
    }
    load(f);
    assert_int_equal(f->found.copy[0].promise, 2 * BLOCK);
    assert_int_equal(f->found.copy[1].promise, 2 * BLOCK);
}

/* A damaged copy is the one that is written, whatever its age. */
static void bad_copy_is_written_first(void **state)
{
    struct fixture *f = *state;
    create(f);
    weir__control_close(&f->cf);
    const uint8_t junk = 0xff;
    assert_true(
        files_write(f->path, WEIR__CONTROL_NAME, &junk, 1, COPY_1 + 30)); /* the newer one */
    load(f);
    assert_int_equal(f->found.newest, 0);
    assert_int_equal(weir__control_open(&f->cf, &f->dir, &f->found, &f->fault), 0);
    write_promise(f, BLOCK, false);
    load(f);
    assert_true(f->found.valid[0] && f->found.valid[1]);
    assert_int_equal(f->found.newest, 1);
}

/* The k-th write fails, for each k of a write of both, with nothing or half a block written: the
 * other copy stands, what counts is the old or the new state, and writing goes on at the damaged
 * one. */
static void failed_write_leaves_the_other_copy(void **state)
{
    struct fixture *f = *state;
    create(f);
    uint64_t promise = 0;
    for (int round = 0; round < 8; round++) {
        const int k = round % 2;
        const bool torn = round / 2 % 2 == 1;
        struct weir__control before = f->cf.current;
        struct weir__control next = before;
        next.promise = (promise += BLOCK);
        const unsigned victim = k == 0 ? f->cf.next_copy : f->cf.next_copy ^ 1u;
        f->fault = WEIR__FAULT_NONE;
        trace_fail(&f->trace, 0, TRACE_WRITE, WEIR__CONTROL_NAME, k, 1, -EIO);
        assert_int_equal(weir__control_write(&f->cf, &next, true, &f->fault), -EIO);
        assert_int_equal(f->fault.code, -EIO);
        assert_string_equal(f->fault.file, WEIR__CONTROL_NAME);
        assert_int_equal(f->fault.offset, victim * (uint64_t)COPY_1);
        assert_same(&f->cf.current, &before);
        assert_int_equal(f->cf.next_copy, victim);
        if (torn) {
            uint8_t half[100];
            memset(half, 0x5a, sizeof half);
            assert_true(files_write(f->path,
                                    WEIR__CONTROL_NAME,
                                    half,
                                    sizeof half,
                                    victim * (uint64_t)COPY_1 + 100));
        }
        load(f);
        assert_true(f->found.valid[victim ^ 1u]);
        if (torn) {
            assert_false(f->found.valid[victim]);
        }
        const weir_lsn counts = f->found.copy[f->found.newest].promise;
        assert_int_equal(counts, k == 0 ? before.promise : next.promise);

        /* The next single write mends the victim with a generation that was never given out. */
        write_promise(f, promise += BLOCK, false);
        load(f);
        assert_true(f->found.valid[0] && f->found.valid[1]);
        assert_int_equal(f->found.newest, (int)victim);
        assert_true(f->found.copy[victim].generation > f->found.copy[victim ^ 1u].generation);
    }
}

static void unsound_fields_are_never_written(void **state)
{
    struct fixture *f = *state;
    create(f);
    trace_clear(&f->trace);
    struct weir__control next = f->cf.current;
    next.oldest_lsn = BLOCK; /* above the promise */
    assert_int_equal(weir__control_write(&f->cf, &next, true, &f->fault), -EINVAL);
    next = f->cf.current;
    next.log_id++;
    assert_int_equal(weir__control_write(&f->cf, &next, true, NULL), -EINVAL);
    next = f->cf.current;
    next.block_bytes *= 2;
    assert_int_equal(weir__control_write(&f->cf, &next, true, NULL), -EINVAL);
    assert_int_equal(f->trace.count, 0);
    write_promise(f, BLOCK, true);
}

static void lower_checkpoint_of_both_copies_is_known(void **state)
{
    struct fixture *f = *state;
    create(f);
    assert_int_equal(weir__control_checkpoint_low(&f->cf), 0);
    struct weir__control next = f->cf.current;
    next.checkpoint.lsn = next.promise = 8 * BLOCK;
    assert_int_equal(weir__control_write(&f->cf, &next, false, NULL), 0);
    assert_int_equal(weir__control_checkpoint_low(&f->cf), 0);
    weir__control_close(&f->cf);
    load(f);
    assert_int_equal(weir__control_open(&f->cf, &f->dir, &f->found, NULL), 0);
    assert_int_equal(weir__control_checkpoint_low(&f->cf), 0);
    assert_int_equal(weir__control_write(&f->cf, &f->cf.current, false, NULL), 0);
    assert_int_equal(weir__control_checkpoint_low(&f->cf), 8 * BLOCK);

    /* A copy that is damaged at opening has none: it is written before it could be read again. */
    weir__control_close(&f->cf);
    const uint8_t zero = 0; /* makes it a checkpoint at 0, for who believes it */
    assert_true(files_write(f->path, WEIR__CONTROL_NAME, &zero, 1, 97));
    load(f);
    assert_false(f->found.valid[0]);
    assert_int_equal(weir__control_open(&f->cf, &f->dir, &f->found, NULL), 0);
    assert_int_equal(weir__control_checkpoint_low(&f->cf), 8 * BLOCK);
}

/* One copy behind a bad block is a lost copy; two are a device that cannot be read, which is not
 * the same as damage. */
static void unreadable_copies_are_told_from_damaged_ones(void **state)
{
    struct fixture *f = *state;
    create(f);
    trace_fail(&f->trace, 0, TRACE_READ, WEIR__CONTROL_NAME, 0, 2, -EIO); /* both looks at copy 0 */
    load(f);
    assert_int_equal(f->found.newest, 1);
    assert_false(f->found.valid[0]);
    trace_fail(&f->trace, 0, TRACE_READ, WEIR__CONTROL_NAME, 0, -1, -EIO);
    assert_int_equal(weir__control_load(&f->dir, &f->found, &f->fault), -EIO);
    assert_true(f->found.exists);
    assert_string_equal(f->fault.file, WEIR__CONTROL_NAME);
    assert_int_equal(f->fault.offset, 0);
    trace_fail(&f->trace, 0, TRACE_OPEN, WEIR__CONTROL_NAME, 0, 1, -EMFILE);
    f->fault = WEIR__FAULT_NONE;
    assert_int_equal(weir__control_load(&f->dir, &f->found, &f->fault), -EMFILE);
}

static void copies_of_two_logs_are_refused(void **state)
{
    struct fixture *f = *state;
    create(f);
    struct weir__control other = first_control();
    other.log_id = 4712;
    other.generation = 9;
    uint8_t bytes[WEIR__CONTROL_USED_BYTES];
    weir__control_encode(&other, bytes);
    assert_true(files_write(f->path, WEIR__CONTROL_NAME, bytes, sizeof bytes, COPY_1));
    assert_int_equal(weir__control_load(&f->dir, &f->found, &f->fault), WEIR_ECORRUPT);
    assert_int_equal(f->fault.code, WEIR_ECORRUPT);
}

struct mender {
    const char *path;
    uint8_t byte;
    int looks; /* reads of copy 0 so far; only the loading thread counts */
};

static void mend_at_the_fourth_look(void *ctx, const struct trace_op *op)
{
    struct mender *mender = ctx;
    if (op->kind == TRACE_READ && op->offset == 0 && ++mender->looks == 4) {
        (void)files_write(mender->path, WEIR__CONTROL_NAME, &mender->byte, 1, 40);
    }
}

/* A copy that a live writer is in the middle of is looked at again, and then counts. */
static void copy_under_a_live_writer_is_read_again(void **state)
{
    struct fixture *f = *state;
    struct mender mender = {.path = f->path};
    create(f);
    assert_true(files_read(f->path, WEIR__CONTROL_NAME, &mender.byte, 1, 40));
    const uint8_t damaged = mender.byte ^ 0x10;
    f->trace.before = mend_at_the_fourth_look;
    f->trace.ctx = &mender;

    /* Nobody writes: it is not waited for. */
    assert_true(files_write(f->path, WEIR__CONTROL_NAME, &damaged, 1, 40));
    load(f);
    assert_false(f->found.valid[0]);
    assert_in_range(mender.looks, 1, 3);

    struct weir__dir writer;
    assert_int_equal(
        weir__dir_open(&writer, weir__io_system(), &f->mem, f->path, false, false, NULL),
        0);
    assert_int_equal(weir__dir_lock(&writer, 0, NULL), 0);
    mender.looks = 0;
    load(f);
    assert_true(f->found.valid[0]);
    assert_int_equal(mender.looks, 4);

    /* One that stays bad is given up after a few looks. */
    assert_true(files_write(f->path, WEIR__CONTROL_NAME, &damaged, 1, 40));
    mender.looks = 100;
    load(f);
    assert_false(f->found.valid[0]);
    assert_int_equal(f->found.newest, 1);
    assert_in_range(mender.looks, 101, 120);
    weir__dir_close(&writer);
}

int main(void)
{
#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, setup, teardown),                                        \
        cmocka_unit_test_setup_teardown(test, setup_buffered, teardown)
    const struct CMUnitTest tests[] = {
        BOTH(load_finds_nothing_in_an_empty_directory),
        BOTH(create_writes_both_copies),
        BOTH(create_gives_the_name_last),
        BOTH(create_leaves_nothing_when_it_fails),
        BOTH(create_refuses_to_replace_a_control_file),
        BOTH(damage_to_any_byte_of_one_copy_leaves_the_other),
        BOTH(damage_to_both_copies_leaves_none),
        cmocka_unit_test_setup_teardown(short_reads_lose_no_copy, setup_buffered, teardown),
        BOTH(cut_file_is_read_as_far_as_it_goes),
        BOTH(single_writes_alternate_and_the_generation_decides),
        BOTH(writing_both_writes_the_older_copy_first),
        BOTH(bad_copy_is_written_first),
        BOTH(failed_write_leaves_the_other_copy),
        BOTH(unsound_fields_are_never_written),
        BOTH(lower_checkpoint_of_both_copies_is_known),
        BOTH(unreadable_copies_are_told_from_damaged_ones),
        BOTH(copies_of_two_logs_are_refused),
        BOTH(copy_under_a_live_writer_is_read_again),
    };
    return cmocka_run_group_tests_name("unit.segment.control_file", tests, NULL, NULL);
}
