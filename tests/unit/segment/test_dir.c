/* SPDX-License-Identifier: Apache-2.0
 * The directory, the writer's lock and the live page. */
#include "port/clock.h"
#include "segment/dir.h"
#include "unit/segment/test_files.h"
#include "unit/segment/trace_io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

#define NS_PER_MS UINT64_C(1000000)

struct fixture {
    struct weir__mem mem;
    char path[FILES_PATH_BYTES];
    struct weir__fault fault;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL || !files_make_dir(f->path)) {
        free(f);
        return -1;
    }
    weir__mem_init(&f->mem, NULL);
    f->fault = WEIR__FAULT_NONE;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    weir__mem_exit(&f->mem);
    files_remove_dir(f->path);
    free(f);
    return 0;
}

static void open_dir(struct fixture *f, struct weir__dir *dir)
{
    assert_int_equal(
        weir__dir_open(dir, weir__io_system(), &f->mem, f->path, false, true, &f->fault),
        0);
}

static void dir_open_creates_only_when_told_to(void **state)
{
    struct fixture *f = *state;
    char path[FILES_PATH_BYTES];
    files_path(f->path, "inner", path);
    struct weir__dir dir;
    assert_int_equal(weir__dir_open(&dir, weir__io_system(), &f->mem, path, false, true, &f->fault),
                     -ENOENT);
    assert_int_equal(f->fault.code, -ENOENT);
    assert_non_null(strstr(f->fault.file, "weir-unit-"));
    weir__dir_close(&dir); /* safe, and twice */
    weir__dir_close(&dir);
    assert_int_equal(weir__dir_open(&dir, weir__io_system(), &f->mem, path, true, false, NULL), 0);
    assert_false(dir.direct);
    weir__dir_close(&dir);
    /* Nothing was made in it. */
    assert_int_equal(rmdir(path), 0);
}

static void direct_is_granted_only_where_the_probe_took_it(void **state)
{
    struct fixture *f = *state;
    struct weir__dir dir;
    open_dir(f, &dir);
    assert_int_equal(dir.direct, dir.facts.direct);
    weir__dir_close(&dir);
}

static void lock_is_refused_to_a_second_opening_of_this_process(void **state)
{
    struct fixture *f = *state;
    struct weir__dir first;
    struct weir__dir second;
    open_dir(f, &first);
    open_dir(f, &second);
    assert_false(weir__dir_writer_live(&second)); /* no lock file yet */
    assert_int_equal(weir__dir_lock(&first, 0, &f->fault), 0);
    assert_true(weir__dir_writer_live(&second));
    assert_false(weir__dir_writer_live(&first)); /* its own does not count */

    assert_int_equal(weir__dir_lock(&second, 0, &f->fault), -EBUSY);
    assert_int_equal(f->fault.code, -EBUSY);
    assert_string_equal(f->fault.file, WEIR__LOCK_NAME);
    assert_int_equal(second.lock_file, -1);
    /* With a timeout it is still refused, not before the timeout. */
    const uint64_t start_ns = weir__now_ns();
    assert_int_equal(weir__dir_lock(&second, 30 * NS_PER_MS, NULL), -EBUSY);
    assert_true(weir__now_ns() - start_ns >= 30 * NS_PER_MS);

    weir__dir_close(&first);
    assert_false(weir__dir_writer_live(&second));
    assert_int_equal(weir__dir_lock(&second, 0, NULL), 0);
    weir__dir_close(&second);
}

/* The child opens the directory anew: it must not get in through what it inherited. */
static void lock_is_refused_to_a_forked_child(void **state)
{
    struct fixture *f = *state;
    struct weir__dir dir;
    open_dir(f, &dir);
    assert_int_equal(weir__dir_lock(&dir, 0, &f->fault), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct weir__dir own;
        int code = 1;
        if (weir__dir_open(&own, weir__io_system(), &f->mem, f->path, false, false, NULL) == 0) {
            const bool live = weir__dir_writer_live(&own);
            code = weir__dir_lock(&own, 10 * NS_PER_MS, NULL) == -EBUSY && live ? 0 : 2;
        }
        _exit(code);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    weir__dir_close(&dir);
}

static void *close_after_a_while(void *arg)
{
    weir__sleep_ns(40 * NS_PER_MS);
    weir__dir_close(arg);
    return NULL;
}

static void lock_waits_for_the_one_who_has_it(void **state)
{
    struct fixture *f = *state;
    struct weir__dir first;
    struct weir__dir second;
    open_dir(f, &first);
    open_dir(f, &second);
    assert_int_equal(weir__dir_lock(&first, 0, &f->fault), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, close_after_a_while, &first), 0);
    assert_int_equal(weir__dir_lock(&second, UINT64_C(60000) * NS_PER_MS, &f->fault), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    weir__dir_close(&second);
}

static const struct weir__live LIVE = {.log_id = 77,
                                       .epoch = 3,
                                       .durable = 4096,
                                       .written = 8192,
                                       .oldest = 512};

static void live_page_goes_from_writer_to_reader(void **state)
{
    struct fixture *f = *state;
    struct weir__dir writer;
    struct weir__dir reader;
    struct weir__live live;
    struct trace_io trace;
    trace_init(&trace);
    assert_int_equal(weir__dir_open(&writer, &trace.io, &f->mem, f->path, false, false, NULL), 0);
    writer.facts.copy_on_write = false; /* wherever the test runs */
    open_dir(f, &reader);
    assert_false(weir__dir_live_read(&reader, &live));
    weir__dir_live_begin(&writer, &LIVE);
    assert_non_null(writer.live);
    assert_int_equal(files_bytes(f->path, WEIR__LIVE_NAME), WEIR__LIVE_BYTES);
    assert_true(weir__dir_live_read(&reader, &live));
    assert_memory_equal(&live, &LIVE, sizeof live);

    weir__dir_live_publish(&writer, 12288, 16384);
    weir__dir_live_publish_oldest(&writer, 1024);
    assert_true(weir__dir_live_read(&reader, &live));
    assert_int_equal(live.durable, 12288);
    assert_int_equal(live.written, 16384);
    assert_int_equal(live.oldest, 1024);

    weir__dir_live_end(&writer);
    assert_false(weir__dir_live_read(&reader, &live));
    weir__dir_close(&writer);

    /* A second writer begins with the file of the first. */
    assert_int_equal(weir__dir_open(&writer, &trace.io, &f->mem, f->path, false, false, NULL), 0);
    writer.facts.copy_on_write = false;
    weir__dir_live_begin(&writer, &LIVE);
    assert_true(weir__dir_live_read(&reader, &live));
    assert_memory_equal(&live, &LIVE, sizeof live);
    weir__dir_close(&writer);
    weir__dir_close(&reader);
    trace_exit(&trace);
}

/* Where every write moves a block, a store to the page may find no room for the new one. */
static void live_page_is_not_mapped_on_copy_on_write_file_systems(void **state)
{
    struct fixture *f = *state;
    struct trace_io trace;
    trace_init(&trace);
    struct weir__dir dir;
    assert_int_equal(weir__dir_open(&dir, &trace.io, &f->mem, f->path, false, false, NULL), 0);
    dir.facts.copy_on_write = true;
    weir__dir_live_begin(&dir, &LIVE);
    assert_null(dir.live);
    weir__dir_close(&dir);
    trace_exit(&trace);
}

/* A page that a killed writer left must not stay valid beside a writer that cannot map one. */
static void live_page_that_cannot_be_mapped_is_not_valid(void **state)
{
    struct fixture *f = *state;
    uint8_t old[64];
    struct weir__live live;
    weir__live_encode(&LIVE, old);
    assert_true(files_fill(f->path, WEIR__LIVE_NAME, 0, WEIR__LIVE_BYTES));
    assert_true(files_write(f->path, WEIR__LIVE_NAME, old, sizeof old, 0));

    struct trace_io trace;
    trace_init(&trace);
    trace.ops.map = NULL;
    struct weir__dir dir;
    assert_int_equal(weir__dir_open(&dir, &trace.io, &f->mem, f->path, false, false, NULL), 0);
    assert_true(weir__dir_live_read(&dir, &live));
    weir__dir_live_begin(&dir, &LIVE);
    assert_null(dir.live);
    assert_int_equal(dir.live_file, -1);
    assert_false(weir__dir_live_read(&dir, &live));
    weir__dir_live_publish(&dir, 1, 2); /* harmless */
    weir__dir_live_publish_oldest(&dir, 1);
    weir__dir_live_end(&dir);
    weir__dir_close(&dir);
    trace_exit(&trace);
}

/* The blocks must stand beneath the page before it is mapped: a store to a hole on a full disk
 * would kill the process. */
static void live_page_is_written_before_it_is_mapped(void **state)
{
    struct fixture *f = *state;
    struct trace_io trace;
    trace_init(&trace);
    struct weir__dir dir;
    assert_int_equal(weir__dir_open(&dir, &trace.io, &f->mem, f->path, false, false, NULL), 0);
    dir.facts.copy_on_write = false;
    trace_fail(&trace, 0, TRACE_WRITE, WEIR__LIVE_NAME, 0, -1, -ENOSPC);
    weir__dir_live_begin(&dir, &LIVE);
    assert_null(dir.live);
    trace_heal(&trace);
    weir__dir_live_begin(&dir, &LIVE);
    assert_true(trace_find(&trace, TRACE_WRITE, WEIR__LIVE_NAME, 0) >= 0);
    assert_int_equal(files_bytes(f->path, WEIR__LIVE_NAME), WEIR__LIVE_BYTES);
    weir__dir_close(&dir);
    trace_exit(&trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dir_open_creates_only_when_told_to, setup, teardown),
        cmocka_unit_test_setup_teardown(direct_is_granted_only_where_the_probe_took_it,
                                        setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lock_is_refused_to_a_second_opening_of_this_process,
                                        setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lock_is_refused_to_a_forked_child, setup, teardown),
        cmocka_unit_test_setup_teardown(lock_waits_for_the_one_who_has_it, setup, teardown),
        cmocka_unit_test_setup_teardown(live_page_goes_from_writer_to_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(live_page_is_not_mapped_on_copy_on_write_file_systems,
                                        setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(live_page_that_cannot_be_mapped_is_not_valid,
                                        setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(live_page_is_written_before_it_is_mapped, setup, teardown),
    };
    return cmocka_run_group_tests_name("unit.segment.dir", tests, NULL, NULL);
}
