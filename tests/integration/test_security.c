/* SPDX-License-Identifier: Apache-2.0
 * What a log's life leaves behind in the file system and in the process: files of its owner only, no
 * descriptor that a child would inherit or that stands where a program writes its messages, no
 * handler, mask, directory or output of its own. */
#include "support/rig.h"
#include "support/threads.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

#define RECORD_BYTES ((size_t)9000)
#define SIGNALS 65

/* Appends over several segments, with a reader of its own beside it, and trims. */
static void live(struct rig *rig)
{
    weir_lsn lsn = WEIR_LSN_NONE;
    for (uint64_t tag = 0; tag < 120; tag++) {
        assert_int_equal(rig_append(rig, tag, RECORD_BYTES, &lsn), 0);
    }
    struct weir_cursor *cursor = NULL;
    struct weir_entry entry;
    assert_int_equal(weir_cursor_open(rig->log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor), 0);
    assert_int_equal(weir_cursor_next(cursor, WEIR_TRY, &entry), 0);
    weir_cursor_close(cursor);
    assert_int_equal(weir_trim(rig->log, lsn), 0);
    assert_int_equal(rig_append(rig, 120, RECORD_BYTES, NULL), 0);
}

/* ---- files ----------------------------------------------------------------------------------- */

static unsigned expect_private(const char *path)
{
    struct stat status;
    unsigned count = 0;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    DIR *const list = opendir(path);
    assert_non_null(list);
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        assert_int_equal(fstatat(dirfd(list), entry->d_name, &status, AT_SYMLINK_NOFOLLOW), 0);
        if (!S_ISREG(status.st_mode) || (status.st_mode & 07777) != 0600) {
            fail_msg("%s has the mode %o", entry->d_name, (unsigned)status.st_mode);
        }
        count++;
    }
    (void)closedir(list);
    return count;
}

/* Whatever the umask is, nobody else may read a log, its copy, or what was salvaged of it. */
static void what_a_log_makes_is_its_owners(void **state)
{
    (void)state;
    static const mode_t masks[] = {0, 0777, 022};
    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        struct rig rig;
        char path[TEMP_DIR_BYTES];
        char copy[TEMP_DIR_BYTES];
        char salvaged[TEMP_DIR_BYTES];
        rig_make(&rig, &rig_ways[8]);
        temp_dir_join(rig.path, "log", path);
        temp_dir_join(rig.path, "copy", copy);
        temp_dir_join(rig.path, "salvaged", salvaged);
        const mode_t before =
            umask(masks[i] & 077); /* the owner's own bits are the owner's to take */
        struct weir_options options = rig.options;
        assert_int_equal(weir_open(path, &options, &rig.log, NULL), 0);
        live(&rig);
        assert_true(expect_private(path) >= 4); /* lock, control, live, segments */
        assert_int_equal(weir_close(rig.log, NULL), 0);
        rig.log = NULL;
        struct weir_copy_report report;
        assert_int_equal(weir_copy(path, copy, NULL, NULL, &report, NULL), 0);
        assert_int_equal(weir_salvage(path, salvaged, NULL, NULL, NULL, &report, NULL), 0);
        assert_true(expect_private(path) >= 4);
        assert_true(expect_private(copy) >= 2);
        assert_true(expect_private(salvaged) >= 2);
        (void)umask(before);
        rig_destroy(&rig);
    }
}

/* ---- the process ----------------------------------------------------------------------------- */

struct manners {
    struct sigaction actions[SIGNALS];
    sigset_t mask;
    mode_t umask_bits;
    char directory[4096];
    char **environment;
    unsigned descriptors;
};

static unsigned descriptors_count(void)
{
    unsigned count = 0;
    for (int file = 0; file < 1024; file++) {
        count += fcntl(file, F_GETFD) >= 0;
    }
    return count;
}

/* Those that an exec would pass on. */
static unsigned inheritable_count(void)
{
    unsigned count = 0;
    for (int file = 3; file < 1024; file++) {
        const int flags = fcntl(file, F_GETFD);
        count += flags >= 0 && (flags & FD_CLOEXEC) == 0;
    }
    return count;
}

static void manners_look(struct manners *manners)
{
    memset(manners, 0, sizeof *manners);
    for (int number = 1; number < SIGNALS; number++) {
        (void)sigaction(number, NULL, &manners->actions[number]);
    }
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &manners->mask), 0);
    manners->umask_bits = umask(022);
    (void)umask(manners->umask_bits);
    assert_non_null(getcwd(manners->directory, sizeof manners->directory));
    manners->environment = environ;
    manners->descriptors = descriptors_count();
}

static void expect_same(const struct manners *before)
{
    struct manners now;
    manners_look(&now);
    for (int number = 1; number < SIGNALS; number++) {
        assert_true(now.actions[number].sa_handler == before->actions[number].sa_handler);
        assert_int_equal(now.actions[number].sa_flags, before->actions[number].sa_flags);
    }
    assert_memory_equal(&now.mask, &before->mask, sizeof now.mask);
    assert_int_equal(now.umask_bits, before->umask_bits);
    assert_string_equal(now.directory, before->directory);
    assert_ptr_equal(now.environment, before->environment);
    assert_int_equal(now.descriptors, before->descriptors);
}

/* Whether one of 0 to 2 stays taken. For a moment each may be: open(2) gives the lowest number, and the
 * keeper may just be moving its file away from there. */
static bool low_numbers_stay_taken(void)
{
    for (int look = 0; look < 10000; look++) {
        if (fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0) {
            return false;
        }
        (void)usleep(1000);
    }
    return true;
}

/* Also with standard output and error closed: no file of the log may get their numbers, where the
 * program's messages would be written into it. */
static void a_log_leaves_the_process_alone(void **state)
{
    (void)state;
    for (unsigned way = 0; way < rig_way_count; way++) {
        if (!rig_way_usable(&rig_ways[way])) {
            continue;
        }
        struct rig rig;
        struct manners before;
        char said[TEMP_DIR_BYTES];
        rig_make(&rig, &rig_ways[way]);
        temp_dir_join(rig.path, "said", said);
        (void)fflush(NULL);
        const int old[2] = {fcntl(1, F_DUPFD_CLOEXEC, 100), fcntl(2, F_DUPFD_CLOEXEC, 100)};
        const int out = open(said, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(old[0] >= 0 && old[1] >= 0 && out > 2);
        manners_look(&before);
        const unsigned inheritable = inheritable_count(); /* by whoever started this test */
        assert_int_equal(dup2(out, 1), 1);
        assert_int_equal(dup2(out, 2), 2);
        const int opened = rig_open_plain(&rig);
        const unsigned passed_on = inheritable_count();
        const int closed = opened == 0 ? rig_close(&rig) : 0;
        /* With 0 to 2 free: the lowest numbers are what open(2) gives. */
        const int in = fcntl(0, F_DUPFD_CLOEXEC, 100);
        (void)close(0);
        (void)close(1);
        (void)close(2);
        const int again = rig_open_plain(&rig);
        const bool low = low_numbers_stay_taken();
        const int closed_again = again == 0 ? rig_close(&rig) : 0;
        (void)dup2(in, 0);
        (void)dup2(old[0], 1);
        (void)dup2(old[1], 2);
        (void)close(in);
        assert_int_equal(opened, 0);
        assert_int_equal(closed, 0);
        assert_int_equal(again, 0);
        assert_int_equal(closed_again, 0);
        assert_int_equal(passed_on, inheritable);
        assert_false(low);
        struct stat status;
        assert_int_equal(fstat(out, &status), 0);
        assert_int_equal(status.st_size, 0);
        expect_same(&before);
        (void)close(out);
        (void)close(old[0]);
        (void)close(old[1]);
        assert_int_equal(unlink(said), 0);
        rig_destroy(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_log_makes_is_its_owners),
        cmocka_unit_test(a_log_leaves_the_process_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
