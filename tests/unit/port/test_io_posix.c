/* SPDX-License-Identifier: Apache-2.0
 * The synchronous part of the I/O seam on real files in a directory of its own. */
#include "io/transfer.h"
#include "port/io.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char root[PATH_MAX];
static struct weir__io *io;
static int dir = -1;

#define CACHED_BYTES ((size_t)1 << 20)
static uint8_t cached_bytes[CACHED_BYTES];

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    const char *const base = getenv("TMPDIR");
    (void)snprintf(root, sizeof root, "%s/weir-io.XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(root) == NULL) {
        return -1;
    }
    io = weir__io_system();
    return io->ops->open_dir(io, root, false, &dir);
}

static int tear_down(void **state)
{
    (void)state;
    (void)io->ops->close(io, dir);
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void path_of(char *path_out, const char *name)
{
    const int len = snprintf(path_out, PATH_MAX, "%s/%s", root, name);
    assert_true(len > 0 && len < PATH_MAX);
}

static int create(const char *name)
{
    int file = -1;
    assert_int_equal(io->ops->open(io,
                                   dir,
                                   name,
                                   WEIR__OPEN_WRITE | WEIR__OPEN_CREATE | WEIR__OPEN_EXCLUSIVE,
                                   &file),
                     0);
    return file;
}

/* Runs check in a child, so that it may spoil its process; returns its value. */
static int in_child(int (*check)(void))
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(check());
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- descriptors ---- */

static int check_low_descriptors(void)
{
    (void)close(0);
    (void)close(1);
    (void)close(2);
    int first = -1;
    int second = -1;
    int top = -1;
    const unsigned flags = WEIR__OPEN_WRITE | WEIR__OPEN_CREATE;
    if (io->ops->open(io, dir, "low-1", flags, &first) != 0 ||
        io->ops->open(io, dir, "low-2", flags, &second) != 0 ||
        io->ops->open_dir(io, root, false, &top) != 0) {
        return 1;
    }
    if (first < 3 || second < 3 || top < 3) {
        return 2;
    }
    /* Nothing may have stayed behind on the low ones either. */
    for (int low = 0; low < 3; low++) {
        if (fcntl(low, F_GETFD) != -1) {
            return 3;
        }
    }
    return 0;
}

/* A program that was started with 0-2 closed would print into a log that got one of them. */
static void descriptors_are_above_2_even_when_lower_ones_are_free(void **state)
{
    (void)state;
    assert_int_equal(in_child(check_low_descriptors), 0);
}

static void descriptors_do_not_pass_an_exec(void **state)
{
    (void)state;
    const int file = create("cloexec");
    assert_true((fcntl(file, F_GETFD) & FD_CLOEXEC) != 0);
    assert_true((fcntl(dir, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(io->ops->close(io, file), 0);
    assert_int_equal(io->ops->close(io, file), -EBADF);
}

/* ---- opening ---- */

static void file_is_created_for_its_owner_only(void **state)
{
    (void)state;
    const int file = create("mode");
    struct stat status;
    assert_int_equal(fstat(file, &status), 0);
    assert_int_equal(status.st_mode & 0777 & ~(mode_t)0600, 0);
    /* O_NONBLOCK was needed for the opening only. */
    assert_int_equal(fcntl(file, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(io->ops->close(io, file), 0);
    int again = -1;
    assert_int_equal(io->ops->open(io,
                                   dir,
                                   "mode",
                                   WEIR__OPEN_WRITE | WEIR__OPEN_CREATE | WEIR__OPEN_EXCLUSIVE,
                                   &again),
                     -EEXIST);
    assert_int_equal(io->ops->open(io, dir, "nowhere", WEIR__OPEN_READ, &again), -ENOENT);
    assert_int_equal(again, -1);
}

/* A link planted in the directory must not lead the log's writes elsewhere. */
static void symbolic_link_is_refused(void **state)
{
    (void)state;
    char path[PATH_MAX];
    assert_int_equal(io->ops->close(io, create("target")), 0);
    path_of(path, "link");
    assert_int_equal(symlink("target", path), 0);
    path_of(path, "dangling");
    assert_int_equal(symlink("made-by-link", path), 0);
    int file = -1;
    assert_int_equal(io->ops->open(io, dir, "link", WEIR__OPEN_READ, &file), -ELOOP);
    assert_int_equal(io->ops->open(io, dir, "link", WEIR__OPEN_WRITE, &file), -ELOOP);
    assert_int_equal(
        io->ops->open(io, dir, "dangling", WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &file),
        -ELOOP);
    path_of(path, "made-by-link");
    assert_int_equal(access(path, F_OK), -1);
}

/* A fifo would hang the opener, and none of these can hold a log. */
static void only_regular_files_are_opened(void **state)
{
    (void)state;
    char path[PATH_MAX];
    int file = -1;
    path_of(path, "fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(io->ops->open(io, dir, "fifo", WEIR__OPEN_READ, &file), -EINVAL);
    assert_int_equal(io->ops->open(io, dir, "fifo", WEIR__OPEN_WRITE, &file), -EINVAL);
    path_of(path, "subdir");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(io->ops->open(io, dir, "subdir", WEIR__OPEN_READ, &file), -EISDIR);
    assert_int_equal(io->ops->open(io, dir, "subdir", WEIR__OPEN_WRITE, &file), -EISDIR);
    assert_int_equal(file, -1);
}

static void name_is_one_component(void **state)
{
    (void)state;
    static const char *const names[] = {"", ".", "..", "/etc/passwd", "../x", "a/b", "x/"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int file = -1;
        assert_int_equal(io->ops->open(io, dir, names[i], WEIR__OPEN_READ, &file), -EINVAL);
        assert_int_equal(io->ops->unlink(io, dir, names[i]), -EINVAL);
        assert_int_equal(io->ops->rename(io, dir, names[i], "y"), -EINVAL);
        assert_int_equal(io->ops->rename(io, dir, "y", names[i]), -EINVAL);
    }
}

/* ---- directories ---- */

static void directory_is_made_once_and_for_its_owner_only(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct stat status;
    int made = -1;
    path_of(path, "made///");
    assert_int_equal(io->ops->open_dir(io, path, false, &made), -ENOENT);
    assert_int_equal(io->ops->open_dir(io, path, true, &made), 0);
    assert_int_equal(fstat(made, &status), 0);
    assert_int_equal(status.st_mode & 0077, 0);
    assert_int_equal(io->ops->sync_dir(io, made), 0);
    assert_int_equal(io->ops->close(io, made), 0);
    assert_int_equal(io->ops->open_dir(io, path, true, &made), 0);
    assert_int_equal(io->ops->close(io, made), 0);
    assert_int_equal(io->ops->open_dir(io, "", false, &made), -ENOENT);
    path_of(path, "no/where");
    assert_int_equal(io->ops->open_dir(io, path, true, &made), -ENOENT);
    char *const endless = malloc(PATH_MAX + 10);
    assert_non_null(endless);
    memset(endless, 'x', PATH_MAX + 9);
    endless[PATH_MAX + 9] = '\0';
    assert_int_equal(io->ops->open_dir(io, endless, false, &made), -ENAMETOOLONG);
    free(endless);
}

/* With a slash behind it the kernel would follow a link in spite of O_NOFOLLOW. */
static void directory_behind_a_symbolic_link_is_refused(void **state)
{
    (void)state;
    char path[PATH_MAX];
    int opened = -1;
    path_of(path, "real-dir");
    assert_int_equal(mkdir(path, 0700), 0);
    path_of(path, "dir-link");
    assert_int_equal(symlink("real-dir", path), 0);
    assert_int_equal(io->ops->open_dir(io, path, false, &opened), -ELOOP);
    assert_int_equal(io->ops->open_dir(io, path, true, &opened), -ELOOP);
    path_of(path, "dir-link/");
    assert_int_equal(io->ops->open_dir(io, path, false, &opened), -ELOOP);
    path_of(path, "a-file");
    assert_int_equal(io->ops->close(io, create("a-file")), 0);
    assert_int_equal(io->ops->open_dir(io, path, true, &opened), -ENOTDIR);
    assert_int_equal(opened, -1);
}

struct listing {
    unsigned seen[300];
    unsigned strange;
    unsigned calls;
    unsigned stop_after;
};

static int list_visit(void *ctx, const char *name)
{
    struct listing *const listing = ctx;
    unsigned number;
    char end;
    if (sscanf(name, "entry-with-a-rather-long-name-%3u%c", &number, &end) == 1 && number < 300) {
        listing->seen[number]++;
    } else {
        listing->strange++;
    }
    return ++listing->calls == listing->stop_after ? 77 : 0;
}

/* More entries than one read of the kernel returns; twice, since a position must not be left
 * behind. */
static void listing_shows_every_entry_once(void **state)
{
    (void)state;
    char path[PATH_MAX];
    path_of(path, "listed");
    int listed = -1;
    assert_int_equal(io->ops->open_dir(io, path, true, &listed), 0);
    for (unsigned i = 0; i < 300; i++) {
        char name[64];
        int file = -1;
        (void)snprintf(name, sizeof name, "entry-with-a-rather-long-name-%03u", i);
        assert_int_equal(
            io->ops->open(io, listed, name, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &file),
            0);
        assert_int_equal(io->ops->close(io, file), 0);
    }
    for (int round = 0; round < 2; round++) {
        struct listing listing = {.stop_after = 0};
        assert_int_equal(io->ops->list_dir(io, listed, list_visit, &listing), 0);
        assert_int_equal(listing.strange, 0);
        for (unsigned i = 0; i < 300; i++) {
            assert_int_equal(listing.seen[i], 1);
        }
    }
    struct listing stopped = {.stop_after = 5};
    assert_int_equal(io->ops->list_dir(io, listed, list_visit, &stopped), 77);
    assert_int_equal(stopped.calls, 5);
    assert_int_equal(io->ops->close(io, listed), 0);
    assert_int_equal(io->ops->list_dir(io, listed, list_visit, &stopped), -EBADF);
}

static void rename_and_unlink_act_inside_the_directory(void **state)
{
    (void)state;
    int file = create("old-name");
    struct weir__file_info before;
    assert_int_equal(io->ops->info(io, file, &before), 0);
    assert_int_equal(io->ops->close(io, file), 0);
    assert_int_equal(io->ops->rename(io, dir, "old-name", "new-name"), 0);
    assert_int_equal(io->ops->rename(io, dir, "old-name", "new-name"), -ENOENT);
    assert_int_equal(io->ops->open(io, dir, "new-name", WEIR__OPEN_READ, &file), 0);
    struct weir__file_info after;
    assert_int_equal(io->ops->info(io, file, &after), 0);
    assert_true(after.inode == before.inode && after.device == before.device);
    assert_true(after.regular && after.links == 1 && after.bytes == 0);
    assert_int_equal(io->ops->unlink(io, dir, "new-name"), 0);
    assert_int_equal(io->ops->unlink(io, dir, "new-name"), -ENOENT);
    assert_int_equal(io->ops->info(io, file, &after), 0);
    assert_true(after.links == 0);
    assert_int_equal(io->ops->close(io, file), 0);
    struct weir__file_info of_dir;
    assert_int_equal(io->ops->info(io, dir, &of_dir), 0);
    assert_false(of_dir.regular);
}

/* ---- reading and writing ---- */

static void bytes_written_come_back(void **state)
{
    (void)state;
    const int file = create("data");
    char first[] = "hello, ";
    char second[] = "world";
    const struct iovec iov[2] = {{first, 7}, {second, 5}};
    assert_int_equal(io->ops->write(io, file, iov, 2, 100, false), 12);
    assert_int_equal(io->ops->write(io, file, iov, 1, 200, true), 7);
    assert_int_equal(io->ops->sync(io, file), 0);
    char back[20];
    memset(back, 'x', sizeof back);
    assert_int_equal(io->ops->read(io, file, back, sizeof back, 100), 20);
    assert_memory_equal(back, "hello, world\0\0\0\0\0\0\0\0", 20);
    /* Short at the end, nothing behind it. */
    assert_int_equal(io->ops->read(io, file, back, sizeof back, 200), 7);
    assert_int_equal(io->ops->read(io, file, back, sizeof back, 207), 0);
    struct weir__file_info info;
    assert_int_equal(io->ops->truncate(io, file, 5000), 0);
    assert_int_equal(io->ops->info(io, file, &info), 0);
    assert_true(info.bytes == 5000);
    assert_int_equal(io->ops->truncate(io, file, 10), 0);
    assert_int_equal(io->ops->info(io, file, &info), 0);
    assert_true(info.bytes == 10);
    assert_int_equal(io->ops->close(io, file), 0);
}

static void failures_come_as_negative_errno(void **state)
{
    (void)state;
    char byte = 'x';
    const struct iovec iov = {&byte, 1};
    assert_int_equal(io->ops->read(io, -1, &byte, 1, 0), -EBADF);
    assert_int_equal(io->ops->write(io, -1, &iov, 1, 0, false), -EBADF);
    assert_int_equal(io->ops->write(io, -1, &iov, 1, 0, true), -EBADF);
    assert_int_equal(io->ops->sync(io, -1), -EBADF);
    assert_int_equal(io->ops->truncate(io, -1, 0), -EBADF);
    assert_int_equal(io->ops->lock(io, -1), -EBADF);
    const int file = create("errors");
    assert_int_equal(io->ops->close(io, file), 0);
    int reader = -1;
    assert_int_equal(io->ops->open(io, dir, "errors", WEIR__OPEN_READ, &reader), 0);
    assert_int_equal(io->ops->write(io, reader, &iov, 1, 0, false), -EBADF);
    assert_int_equal(io->ops->write(io, reader, &iov, 1, 0, true), -EBADF);
    /* Positions that off_t cannot hold. */
    assert_int_equal(io->ops->read(io, reader, &byte, 1, UINT64_MAX), -EINVAL);
    assert_int_equal(io->ops->write(io, reader, &iov, 1, UINT64_C(1) << 63, false), -EINVAL);
    assert_int_equal(io->ops->truncate(io, reader, UINT64_MAX), -EFBIG);
    assert_int_equal(io->ops->close(io, reader), 0);
}

static int check_file_limit(void)
{
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {10240, 10240};
    int file = -1;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0 ||
        io->ops->open(io, dir, "limited", WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &file) != 0) {
        return 1;
    }
    static char bytes[4096];
    const struct iovec iov = {bytes, sizeof bytes};
    for (int dsync = 0; dsync < 2; dsync++) {
        if (io->ops->write(io, file, &iov, 1, 8192, dsync != 0) != 2048) {
            return 2;
        }
    }
    if (weir__io_write_full(io, file, bytes, sizeof bytes, 8192, true) != -EFBIG) {
        return 3;
    }
    return 0;
}

static void short_write_is_a_count_and_then_an_error(void **state)
{
    (void)state;
    assert_int_equal(in_child(check_file_limit), 0);
}

/* ---- the flag that is not known ---- */

/* From here on this process gets `error` from pwritev2. */
static bool forbid_pwritev2(int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int fallback_error;

static int check_dsync_fallback(void)
{
    int file = -1;
    if (io->ops->open(io, dir, "fallback", WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &file) != 0) {
        return 1;
    }
    if (!forbid_pwritev2(fallback_error)) {
        return 77;
    }
    /* libc may turn one of these errors into another. */
    if (pwritev2(file, NULL, 0, 0, RWF_DSYNC) != -1) {
        return 77;
    }
    char text[] = "still written";
    const struct iovec iov = {text, 13};
    if (io->ops->write(io, file, &iov, 1, 0, true) != 13) {
        return 2;
    }
    char back[13];
    return weir__io_read_full(io, file, back, 13, 0) == 0 && memcmp(back, text, 13) == 0 ? 0 : 3;
}

/* Each answer that old kernels, filters and file systems give for RWF_DSYNC. */
static void write_falls_back_where_the_dsync_flag_is_refused(void **state)
{
    (void)state;
    static const int errors[] = {ENOSYS, EPERM, EOPNOTSUPP, EINVAL};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        fallback_error = errors[i];
        const int result = in_child(check_dsync_fallback);
        if (result == 77) {
            print_message("skipped: no seccomp filters here\n");
            skip();
        }
        assert_int_equal(result, 0);
    }
}

/* ---- locks ---- */

static int check_lock_is_held(void)
{
    /* A description of its own, so neither inherited nor shared. */
    int file = -1;
    if (io->ops->open(io, dir, "lock", WEIR__OPEN_WRITE, &file) != 0) {
        return 1;
    }
    return io->ops->lock(io, file) == -EBUSY ? 0 : 2;
}

/* Classic POSIX locks would let the same process in twice. */
static void lock_keeps_a_second_opening_out_in_the_same_process(void **state)
{
    (void)state;
    bool held = true;
    const int first = create("lock");
    int second = -1;
    assert_int_equal(io->ops->open(io, dir, "lock", WEIR__OPEN_WRITE, &second), 0);
    assert_int_equal(io->ops->lock_held(io, second, &held), 0);
    assert_false(held);
    assert_int_equal(io->ops->lock(io, first), 0);
    assert_int_equal(io->ops->lock(io, first), 0);
    assert_int_equal(io->ops->lock(io, second), -EBUSY);
    assert_int_equal(io->ops->lock_held(io, second, &held), 0);
    assert_true(held);
    /* One's own lock is nobody else's. */
    assert_int_equal(io->ops->lock_held(io, first, &held), 0);
    assert_false(held);
    assert_int_equal(in_child(check_lock_is_held), 0);

    /* A reader may ask too. */
    int reader = -1;
    assert_int_equal(io->ops->open(io, dir, "lock", WEIR__OPEN_READ, &reader), 0);
    assert_int_equal(io->ops->lock_held(io, reader, &held), 0);
    assert_true(held);

    /* Closing another descriptor of the file must not drop it: the trap of classic locks. */
    assert_int_equal(io->ops->close(io, reader), 0);
    assert_int_equal(io->ops->lock(io, second), -EBUSY);
    assert_int_equal(io->ops->close(io, first), 0);
    assert_int_equal(io->ops->lock(io, second), 0);
    assert_int_equal(io->ops->close(io, second), 0);
}

/* It is the description that holds the lock: a child that inherited it keeps it alive. */
static void lock_lasts_as_long_as_a_child_has_it(void **state)
{
    (void)state;
    const int first = create("lock-inherited");
    assert_int_equal(io->ops->lock(io, first), 0);
    int channel[2];
    assert_int_equal(pipe(channel), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char byte;
        (void)close(channel[1]);
        _exit(read(channel[0], &byte, 1) == 0 ? 0 : 1);
    }
    (void)close(channel[0]);
    assert_int_equal(io->ops->close(io, first), 0);
    int second = -1;
    assert_int_equal(io->ops->open(io, dir, "lock-inherited", WEIR__OPEN_WRITE, &second), 0);
    assert_int_equal(io->ops->lock(io, second), -EBUSY);
    (void)close(channel[1]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(io->ops->lock(io, second), 0);
    assert_int_equal(io->ops->close(io, second), 0);
}

/* ---- facts ---- */

static int count_visit(void *ctx, const char *name)
{
    (void)name;
    ++*(unsigned *)ctx;
    return 0;
}

static void facts_are_plausible_and_leave_nothing_behind(void **state)
{
    (void)state;
    unsigned before = 0;
    unsigned after = 0;
    struct weir__fs_facts facts = {0};
    assert_int_equal(io->ops->list_dir(io, dir, count_visit, &before), 0);
    assert_int_equal(io->ops->facts(io, dir, &facts), 0);
    assert_int_equal(io->ops->list_dir(io, dir, count_visit, &after), 0);
    print_message("%s on \"%s\": direct %d, align %u, copy-on-write %d, network %d, fua %d, "
                  "write cache %d, free %llu MiB\n",
                  facts.fs_name,
                  facts.device_name,
                  facts.direct,
                  facts.direct_align,
                  facts.copy_on_write,
                  facts.network,
                  facts.fua,
                  facts.write_cache,
                  (unsigned long long)(facts.free_bytes >> 20));
    assert_int_equal(after, before);
    assert_true(facts.fs_name[0] != '\0');
    assert_true(facts.direct_align >= 512);
    assert_int_equal(facts.direct_align & (facts.direct_align - 1), 0);
    assert_in_range(facts.fua + 1, 0, 2);
    assert_in_range(facts.write_cache + 1, 0, 2);
    assert_true(facts.free_bytes > 0);
    assert_int_equal(io->ops->facts(io, -1, &facts), -EBADF);
}

/* Who only looks learns the same, from a file that is there, and nothing where there is none. */
static void facts_learnt_by_looking_are_the_same(void **state)
{
    (void)state;
    struct weir__fs_facts facts = {0};
    struct weir__fs_facts looked = {.look_only = true};
    assert_int_equal(io->ops->facts(io, dir, &facts), 0);
    static char bytes[8192];
    const struct iovec iov = {bytes, sizeof bytes};
    const int file = create("looked at");
    assert_int_equal(io->ops->write(io, file, &iov, 1, 0, false), (ssize_t)sizeof bytes);
    assert_int_equal(io->ops->close(io, file), 0);
    assert_int_equal(io->ops->facts(io, dir, &looked), 0);
    assert_true(looked.look_only);
    assert_int_equal(looked.direct, facts.direct);
    assert_int_equal(looked.direct_align, facts.direct_align);
    assert_int_equal(io->ops->unlink(io, dir, "looked at"), 0);
}

/* The probe's word must hold for the engine's own files. */
static void direct_writes_work_where_the_facts_say_so(void **state)
{
    (void)state;
    struct weir__fs_facts facts = {0};
    assert_int_equal(io->ops->facts(io, dir, &facts), 0);
    int file = -1;
    const int result = io->ops->open(io,
                                     dir,
                                     "direct",
                                     WEIR__OPEN_WRITE | WEIR__OPEN_CREATE | WEIR__OPEN_DIRECT,
                                     &file);
    if (!facts.direct) {
        print_message("skipped: no direct I/O on %s\n", facts.fs_name);
        if (result == 0) {
            assert_int_equal(io->ops->close(io, file), 0);
        }
        skip();
    }
    assert_int_equal(result, 0);
    assert_true((fcntl(file, F_GETFL) & O_DIRECT) != 0);
    struct weir__mem mem;
    weir__mem_init(&mem, NULL);
    const size_t bytes = weir__mem_io_bytes(65536);
    char *const buffer = weir__mem_alloc_io(&mem, bytes);
    assert_non_null(buffer);
    memset(buffer, 'd', bytes);
    assert_int_equal(weir__io_write_full(io, file, buffer, bytes, bytes, true), 0);
    memset(buffer, 0, bytes);
    assert_int_equal(weir__io_read_full(io, file, buffer, bytes, bytes), 0);
    assert_int_equal(buffer[0], 'd');
    assert_int_equal(buffer[bytes - 1], 'd');
    weir__mem_free_io(&mem, buffer, bytes);
    weir__mem_exit(&mem);
    assert_int_equal(io->ops->close(io, file), 0);
}

/* Asks until the answer is `wanted`; the kernel may clean and drop pages of its own accord, so it is
 * made true anew before each. */
static void cached_becomes(int file, int wanted, void (*make)(int file))
{
    int got = -1;
    for (int i = 0; i < 100 && got != wanted; i++) {
        make(file);
        got = io->ops->cached(io, file, CACHED_BYTES);
    }
    assert_int_equal(got, wanted);
}

static void make_dirty(int file)
{
    struct iovec iov = {.iov_base = cached_bytes, .iov_len = sizeof cached_bytes};
    assert_int_equal(io->ops->write(io, file, &iov, 1, 0, false), sizeof cached_bytes);
}

static void make_cached(int file)
{
    assert_int_equal(io->ops->sync(io, file), 0);
    assert_int_equal(io->ops->read(io, file, cached_bytes, sizeof cached_bytes, 0),
                     sizeof cached_bytes);
}

static void make_forgotten(int file)
{
    assert_int_equal(io->ops->sync(io, file), 0);
    assert_int_equal(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED), 0);
}

static void make_half_forgotten(int file)
{
    make_forgotten(file);
    assert_int_equal(posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM), 0); /* nothing is read ahead */
    assert_int_equal(io->ops->read(io, file, cached_bytes, CACHED_BYTES / 2, 0), CACHED_BYTES / 2);
    assert_int_equal(posix_fadvise(file, 0, 0, POSIX_FADV_NORMAL), 0);
}

static void cached_tells_what_is_there_and_clean(void **state)
{
    (void)state;
    struct weir__fs_facts facts = {0};
    assert_int_equal(io->ops->facts(io, dir, &facts), 0);
    const int file = create("cached");
    if (io->ops->cached(io, file, CACHED_BYTES) == -ENOSYS || !facts.direct) {
        (void)io->ops->close(io, file);
        skip(); /* an old kernel, or a file system that lives in the page cache */
    }
    cached_becomes(file, 0, make_dirty);
    cached_becomes(file, 1, make_cached);
    cached_becomes(file, 0, make_half_forgotten);
    cached_becomes(file, 0, make_forgotten);
    assert_int_equal(io->ops->cached(io, -1, CACHED_BYTES), -EBADF);
    assert_int_equal(io->ops->close(io, file), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptors_are_above_2_even_when_lower_ones_are_free),
        cmocka_unit_test(descriptors_do_not_pass_an_exec),
        cmocka_unit_test(file_is_created_for_its_owner_only),
        cmocka_unit_test(symbolic_link_is_refused),
        cmocka_unit_test(only_regular_files_are_opened),
        cmocka_unit_test(name_is_one_component),
        cmocka_unit_test(directory_is_made_once_and_for_its_owner_only),
        cmocka_unit_test(directory_behind_a_symbolic_link_is_refused),
        cmocka_unit_test(listing_shows_every_entry_once),
        cmocka_unit_test(rename_and_unlink_act_inside_the_directory),
        cmocka_unit_test(bytes_written_come_back),
        cmocka_unit_test(failures_come_as_negative_errno),
        cmocka_unit_test(short_write_is_a_count_and_then_an_error),
        cmocka_unit_test(write_falls_back_where_the_dsync_flag_is_refused),
        cmocka_unit_test(lock_keeps_a_second_opening_out_in_the_same_process),
        cmocka_unit_test(lock_lasts_as_long_as_a_child_has_it),
        cmocka_unit_test(facts_are_plausible_and_leave_nothing_behind),
        cmocka_unit_test(facts_learnt_by_looking_are_the_same),
        cmocka_unit_test(direct_writes_work_where_the_facts_say_so),
        cmocka_unit_test(cached_tells_what_is_there_and_clean),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
