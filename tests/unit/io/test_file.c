/* SPDX-License-Identifier: Apache-2.0
 * Opening a file by its path: what is made and synced, what is refused and in which words. */
#include "io/file.h"
#include "support/fault_io.h"
#include "support/temp_dir.h"
#include "support/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct bench {
    char dir[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    struct fault_io fault;
    struct weir__io_file file;
    struct weir_error error;
};

static int set_up(void **state)
{
    struct bench *const bench = calloc(1, sizeof *bench);
    if (bench == NULL) {
        return -1;
    }
    temp_dir_make(bench->dir);
    temp_dir_join(bench->dir, "file", bench->path);
    fault_io_init(&bench->fault, FAULT_QUEUE_THREADS);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *const bench = *state;
    fault_io_exit(&bench->fault);
    temp_dir_remove(bench->dir);
    free(bench);
    return 0;
}

static int open_at(struct bench *bench, const char *path, unsigned flags, bool direct)
{
    memset(&bench->error, 0xff, sizeof bench->error);
    return weir__io_file_open(&bench->fault.io, path, flags, direct, &bench->file, &bench->error);
}

static void put_file(const char *path, size_t bytes)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    for (size_t i = 0; i < bytes; i++) {
        assert_int_equal(write(file, "x", 1), 1);
    }
    assert_int_equal(close(file), 0);
}

/* The error names code, file and, in its sentence, what to do. */
static void assert_error(const struct bench *bench, int code, const char *name, const char *words)
{
    assert_int_equal(bench->error.code, code);
    assert_int_equal(bench->error.system_code, -code);
    assert_string_equal(bench->error.file, name);
    if (strstr(bench->error.text, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", bench->error.text, words);
    }
}

/* ---- making ---- */

/* A name that is not synced goes with the power: the sync comes before the return. */
static void a_file_that_was_made_is_synced_into_its_directory(void **state)
{
    struct bench *const bench = *state;
    assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, false), 0);
    assert_true(bench->file.created);
    assert_int_equal(bench->file.bytes, 0);
    assert_string_equal(bench->file.name, "file");
    struct fault_op made;
    struct fault_op synced;
    assert_true(fault_io_find(&bench->fault,
                              &(struct fault_look){.kind = FAULT_OPEN, .succeeded = true},
                              &made));
    assert_true(fault_io_find(&bench->fault,
                              &(struct fault_look){.kind = FAULT_SYNC_DIR, .succeeded = true},
                              &synced));
    assert_true(synced.begun > made.ended);
    weir__io_file_close(&bench->file);
}

/* Whoever made it may have died before its sync: who wants it there syncs again. */
static void a_file_that_was_there_is_synced_into_its_directory_too(void **state)
{
    struct bench *const bench = *state;
    put_file(bench->path, 3);
    assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, false), 0);
    assert_false(bench->file.created);
    assert_int_equal(bench->file.bytes, 3);
    assert_int_equal(
        fault_io_count(&bench->fault,
                       &(struct fault_look){.kind = FAULT_SYNC_DIR, .succeeded = true}),
        1);
    weir__io_file_close(&bench->file);

    /* Who does not ask for it to be made has no business with the directory. */
    fault_io_forget(&bench->fault);
    assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_READ, false), 0);
    assert_int_equal(fault_io_count(&bench->fault, &(struct fault_look){.kind = FAULT_SYNC_DIR}),
                     0);
    weir__io_file_close(&bench->file);
}

static void a_directory_that_cannot_be_synced_is_an_error(void **state)
{
    struct bench *const bench = *state;
    (void)fault_io_arm(&bench->fault,
                       &(struct fault_rule){.kind = FAULT_SYNC_DIR, .times = 1, .error = -EIO});
    assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, false),
                     -EIO);
    assert_error(bench, -EIO, "file", "sync the directory");
}

/* Descriptors are left as they were by every refusal: the next one gets the same number. */
static void a_refusal_leaves_nothing_open(void **state)
{
    struct bench *const bench = *state;
    put_file(bench->path, 1);
    const int before = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(before >= 0);
    (void)close(before);
    static const enum fault_kind kinds[] = {FAULT_OPEN, FAULT_SYNC_DIR};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (unsigned skip = 0; skip < 2; skip++) {
            const unsigned rule = fault_io_arm(
                &bench->fault,
                &(struct fault_rule){.kind = kinds[i], .skip = skip, .times = 1, .error = -EIO});
            const int code =
                open_at(bench, bench->path, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, true);
            if (code == 0) {
                weir__io_file_close(&bench->file);
            } else {
                assert_int_equal(code, -EIO);
            }
            fault_io_disarm(&bench->fault, rule);
            const int after = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            assert_int_equal(after, before);
            (void)close(after);
        }
    }
}

/* ---- paths ---- */

static void a_parent_that_is_a_link_is_followed(void **state)
{
    struct bench *const bench = *state;
    char real[TEMP_DIR_BYTES];
    char link[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES];
    temp_dir_join(bench->dir, "real", real);
    temp_dir_join(bench->dir, "link", link);
    temp_dir_join(link, "inside", path);
    assert_int_equal(mkdir(real, 0700), 0);
    assert_int_equal(symlink(real, link), 0);
    assert_int_equal(open_at(bench, path, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, false), 0);
    weir__io_file_close(&bench->file);
    struct stat status;
    temp_dir_join(real, "inside", path);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void a_name_without_a_slash_stands_in_the_working_directory(void **state)
{
    struct bench *const bench = *state;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(bench->dir), 0);
    const int code = open_at(bench, "file", WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, false);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(code, 0);
    weir__io_file_close(&bench->file);
    assert_int_equal(access(bench->path, F_OK), 0);
}

static void what_is_no_regular_file_is_refused(void **state)
{
    struct bench *const bench = *state;
    const unsigned make = WEIR__OPEN_WRITE | WEIR__OPEN_CREATE;
    char path[TEMP_DIR_BYTES];
    struct stat status;

    temp_dir_join(bench->dir, "directory", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(open_at(bench, path, make, false), -EISDIR);
    assert_error(bench, -EISDIR, "directory", "name a file in it");
    assert_int_equal(open_at(bench, bench->dir, WEIR__OPEN_READ, false), -EISDIR);

    temp_dir_join(bench->dir, "fifo", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(open_at(bench, path, make, false), -EINVAL);
    assert_error(bench, -EINVAL, "fifo", "regular files");

    /* A link is not followed, wherever it leads; nothing is made at its end. */
    temp_dir_join(bench->dir, "link", path);
    assert_int_equal(symlink(bench->path, path), 0);
    assert_int_equal(open_at(bench, path, make, false), -ELOOP);
    assert_error(bench, -ELOOP, "link", "symbolic link");
    assert_int_equal(open_at(bench, path, WEIR__OPEN_READ, true), -ELOOP);
    assert_int_equal(stat(bench->path, &status), -1);
}

static void a_path_that_leads_nowhere_is_refused(void **state)
{
    struct bench *const bench = *state;
    char path[TEMP_DIR_BYTES];
    const unsigned make = WEIR__OPEN_WRITE | WEIR__OPEN_CREATE;

    assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_WRITE, false), -ENOENT);
    assert_error(bench, -ENOENT, "file", "create it first");

    temp_dir_join(bench->dir, "missing/name", path);
    assert_int_equal(open_at(bench, path, make, false), -ENOENT);
    assert_error(bench, -ENOENT, "name", "make the directory first");

    put_file(bench->path, 1);
    temp_dir_join(bench->dir, "file/name", path);
    assert_int_equal(open_at(bench, path, make, false), -ENOTDIR);
    assert_error(bench, -ENOTDIR, "name", "must be a directory");

    assert_int_equal(open_at(bench, "", make, false), -ENOENT);
    assert_int_equal(open_at(bench, ".", make, false), -EISDIR);
    assert_int_equal(open_at(bench, "..", make, false), -EISDIR);
    assert_int_equal(open_at(bench, "/", make, false), -EISDIR);
    assert_int_equal(open_at(bench, "a/", make, false), -EISDIR);
    assert_int_equal(open_at(bench, NULL, make, false), -EINVAL);

    char *const endless = malloc(8192);
    assert_non_null(endless);
    memset(endless, 'a', 8191);
    endless[8191] = '\0';
    assert_int_equal(open_at(bench, endless, make, false), -ENAMETOOLONG);
    assert_int_equal(strlen(bench->error.file), sizeof bench->error.file - 1);
    for (size_t i = 1; i < 8190; i += 2) {
        endless[i] = '/';
    }
    assert_int_equal(open_at(bench, endless, make, false), -ENAMETOOLONG);
    free(endless);
}

/* Tests run as root, too, whom no mode keeps out: the seam does. */
static void a_file_that_may_not_be_written_is_refused(void **state)
{
    struct bench *const bench = *state;
    static const struct {
        int code;
        const char *words;
    } cases[] = {
        {-EROFS, "remount"},
        {-EACCES, "allowed to read and write"},
        {-EPERM, "allowed to read and write"},
        {-EMFILE, "ulimit"},
        {-ENOSPC, "make room"},
    };
    put_file(bench->path, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const unsigned rule = fault_io_arm(
            &bench->fault,
            &(struct fault_rule){.kind = FAULT_OPEN, .times = 1, .error = cases[i].code});
        assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_WRITE, false), cases[i].code);
        assert_error(bench, cases[i].code, "file", cases[i].words);
        fault_io_disarm(&bench->fault, rule);
    }
}

/* ---- O_DIRECT ---- */

static void direct_is_taken_where_the_file_system_takes_it(void **state)
{
    struct bench *const bench = *state;
    int dir;
    struct weir__fs_facts facts = {0};
    struct weir__io *const io = weir__io_system();
    assert_int_equal(io->ops->open_dir(io, bench->dir, false, &dir), 0);
    assert_int_equal(io->ops->facts(io, dir, &facts), 0);
    assert_int_equal(io->ops->close(io, dir), 0);

    assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, true), 0);
    const bool set = (fcntl(bench->file.file, F_GETFL) & O_DIRECT) != 0;
    assert_int_equal(bench->file.direct, facts.direct);
    assert_int_equal(set, facts.direct);
    if (facts.direct) {
        assert_int_equal(bench->file.block_bytes, facts.direct_align);
        assert_true(bench->file.block_bytes >= 512);
        assert_string_equal(bench->file.note, "");
    } else {
        assert_int_equal(bench->file.block_bytes, 1);
        assert_non_null(strstr(bench->file.note, "O_DIRECT"));
    }
    assert_true(bench->file.created); /* though it was opened twice */
    weir__io_file_close(&bench->file);
}

static void direct_that_is_refused_is_told_and_done_without(void **state)
{
    struct bench *const bench = *state;
    /* The second opening is the direct one. */
    (void)fault_io_arm(
        &bench->fault,
        &(struct fault_rule){.kind = FAULT_OPEN, .skip = 1, .times = 1, .error = -EINVAL});
    assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, true), 0);
    assert_false(bench->file.direct);
    assert_int_equal(bench->file.block_bytes, 1);
    assert_non_null(strstr(bench->file.note, "does not take O_DIRECT"));
    assert_int_equal(fcntl(bench->file.file, F_GETFL) & O_DIRECT, 0);
    weir__io_file_close(&bench->file);

    /* Any other error of it is one. */
    (void)fault_io_arm(
        &bench->fault,
        &(struct fault_rule){.kind = FAULT_OPEN, .skip = 1, .times = 1, .error = -EIO});
    assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_WRITE, true), -EIO);
    assert_error(bench, -EIO, "file", "O_DIRECT");
}

static struct weir__io_ops rename_ops;
static const struct weir__io_ops *rename_below;
static const char *rename_dir;

/* Puts another file into the place between the two openings. */
static int
rename_open(struct weir__io *io, int dir, const char *name, unsigned flags, int *file_out)
{
    if ((flags & WEIR__OPEN_DIRECT) != 0) {
        char other[TEMP_DIR_BYTES];
        char path[TEMP_DIR_BYTES];
        temp_dir_join(rename_dir, "other", other);
        temp_dir_join(rename_dir, name, path);
        put_file(other, 1);
        assert_int_equal(rename(other, path), 0);
    }
    return rename_below->open(io, dir, name, flags, file_out);
}

static void a_file_that_is_replaced_meanwhile_is_refused(void **state)
{
    struct bench *const bench = *state;
    struct weir__io *const system = weir__io_system();
    rename_below = system->ops;
    rename_ops = *rename_below;
    rename_ops.open = rename_open;
    rename_dir = bench->dir;
    struct weir__io io = {.ops = &rename_ops, .ctx = system->ctx};
    put_file(bench->path, 1);
    const int code =
        weir__io_file_open(&io, bench->path, WEIR__OPEN_READ, true, &bench->file, &bench->error);
    if (code == 0) {
        assert_false(bench->file.direct); /* refused: nothing was put in its place */
        weir__io_file_close(&bench->file);
        return;
    }
    assert_int_equal(code, -ESTALE);
}

/* ---- errors ---- */

static void an_error_names_file_and_place(void **state)
{
    struct bench *const bench = *state;
    assert_int_equal(open_at(bench, bench->path, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, false), 0);
    assert_int_equal(
        weir__io_file_error(&bench->file, -ENOSPC, 4711, "cannot write", &bench->error),
        -ENOSPC);
    assert_error(bench, -ENOSPC, "file", "cannot write: No space left on device");
    assert_int_equal(bench->error.offset, 4711);
    assert_int_equal(weir__io_file_error(&bench->file, -EIO, 0, "cannot write", NULL), -EIO);
    weir__io_file_close(&bench->file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(a_file_that_was_made_is_synced_into_its_directory),
        TEST(a_file_that_was_there_is_synced_into_its_directory_too),
        TEST(a_directory_that_cannot_be_synced_is_an_error),
        TEST(a_refusal_leaves_nothing_open),
        TEST(a_parent_that_is_a_link_is_followed),
        TEST(a_name_without_a_slash_stands_in_the_working_directory),
        TEST(what_is_no_regular_file_is_refused),
        TEST(a_path_that_leads_nowhere_is_refused),
        TEST(a_file_that_may_not_be_written_is_refused),
        TEST(direct_is_taken_where_the_file_system_takes_it),
        TEST(direct_that_is_refused_is_told_and_done_without),
        TEST(a_file_that_is_replaced_meanwhile_is_refused),
        TEST(an_error_names_file_and_place),
    };
    return cmocka_run_group_tests_name("io.file", tests, NULL, NULL);
}
