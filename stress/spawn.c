/* SPDX-License-Identifier: Apache-2.0
 * Child processes with a pipe for what they acknowledge and a page of memory that outlives them.
 *
 * Every descriptor is close-on-exec, so that a child holds no other child's pipe and the end of
 * a file is the end of its writer. */
#include "spawn.h"

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PIPE_BYTES = 1 << 20, /* so that a child seldom waits for us */
    FD_SAFE = 16,         /* above every descriptor that a child is given */
};

struct plumbing {
    int acks[2];
    int go[2];
    int input[2];
    int page;
};

int spawn_up(int fd)
{
    if (fd < 0) {
        return -errno;
    }
    const int up = fcntl(fd, F_DUPFD_CLOEXEC, FD_SAFE);
    const int rc = up < 0 ? -errno : up;
    close(fd);
    return rc;
}

static int pipe_up(int fds[2])
{
    int made[2];

    if (pipe2(made, O_CLOEXEC) != 0) {
        return -errno;
    }
    fds[0] = spawn_up(made[0]);
    fds[1] = spawn_up(made[1]);
    return fds[0] < 0 ? fds[0] : fds[1] < 0 ? fds[1] : 0;
}

static void fd_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void plumbing_close(struct plumbing *plumbing)
{
    fd_close(&plumbing->acks[0]);
    fd_close(&plumbing->acks[1]);
    fd_close(&plumbing->go[0]);
    fd_close(&plumbing->go[1]);
    fd_close(&plumbing->input[0]);
    fd_close(&plumbing->input[1]);
    fd_close(&plumbing->page);
}

static int plumbing_open(struct plumbing *plumbing, bool input)
{
    *plumbing = (struct plumbing){{-1, -1}, {-1, -1}, {-1, -1}, -1};
    int rc = pipe_up(plumbing->acks);
    if (rc == 0 && input) {
        rc = pipe_up(plumbing->input);
    }
    if (rc == 0 && !input) {
        rc = pipe_up(plumbing->go);
    }
    if (rc == 0 && !input) {
        plumbing->page = spawn_up(memfd_create("weir-stress", MFD_CLOEXEC));
        rc = plumbing->page < 0                                                ? plumbing->page
             : ftruncate(plumbing->page, (off_t)sizeof(struct wire_page)) != 0 ? -errno
                                                                               : 0;
    }
    return rc;
}

/* In the child, between fork and exec: async-signal-safe calls only. */
static _Noreturn void
child_exec(const struct plumbing *plumbing, char *const argv[], int errors_fd, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(126);
    }
    bool good = dup2(plumbing->acks[1], WIRE_FD_ACKS) >= 0;
    if (plumbing->page >= 0) {
        good = good && dup2(plumbing->page, WIRE_FD_PAGE) >= 0 &&
               dup2(plumbing->go[0], WIRE_FD_GO) >= 0;
    }
    if (plumbing->input[0] >= 0) {
        good = good && dup2(plumbing->input[0], STDIN_FILENO) >= 0;
    }
    if (errors_fd >= 0) { /* at FD_SAFE or above: see spawn_up */
        good = good && dup2(errors_fd, STDOUT_FILENO) >= 0 && dup2(errors_fd, STDERR_FILENO) >= 0;
    }
    if (good) {
        execvp(argv[0], argv);
    }
    _exit(127);
}

int spawn_start(struct spawn *spawn, char *const argv[], bool input, int errors_fd)
{
    struct plumbing plumbing;
    const pid_t parent = getpid();

    spawn->pid = 0;
    spawn->acks_fd = spawn->go_fd = spawn->input_fd = -1;
    spawn->page = NULL;
    spawn->held = 0;
    int rc = plumbing_open(&plumbing, input);
    if (rc == 0 && !input) {
        void *page = mmap(NULL,
                          sizeof(struct wire_page),
                          PROT_READ | PROT_WRITE,
                          MAP_SHARED,
                          plumbing.page,
                          0);
        spawn->page = page == MAP_FAILED ? NULL : page;
        rc = spawn->page == NULL ? -ENOMEM : 0;
    }
    if (rc == 0) {
        fcntl(plumbing.acks[0], F_SETPIPE_SZ, PIPE_BYTES);
        spawn->pid = fork();
        if (spawn->pid == 0) {
            child_exec(&plumbing, argv, errors_fd, parent);
        }
        rc = spawn->pid < 0 ? -errno : 0;
    }
    if (rc != 0) {
        spawn->pid = 0;
        if (spawn->page != NULL) {
            munmap(spawn->page, sizeof(*spawn->page));
            spawn->page = NULL;
        }
        plumbing_close(&plumbing);
        return rc;
    }
    spawn->acks_fd = plumbing.acks[0];
    spawn->go_fd = plumbing.go[1];
    spawn->input_fd = plumbing.input[1];
    plumbing.acks[0] = plumbing.go[1] = plumbing.input[1] = -1;
    plumbing_close(&plumbing);
    fcntl(spawn->acks_fd, F_SETFL, O_NONBLOCK);
    if (spawn->input_fd >= 0) {
        fcntl(spawn->input_fd, F_SETFL, O_NONBLOCK);
    }
    return 0;
}

void spawn_go(struct spawn *spawn)
{
    fd_close(&spawn->go_fd); /* the end of the file is the word */
}

bool spawn_hear(struct spawn *spawn, uint64_t deadline_ns)
{
    if (spawn->acks_fd < 0) {
        return false;
    }
    if (spawn->held == sizeof(spawn->buffer)) {
        return true;
    }
    for (;;) {
        const ssize_t count =
            read(spawn->acks_fd, spawn->buffer + spawn->held, sizeof(spawn->buffer) - spawn->held);
        if (count > 0) {
            spawn->held += (size_t)count;
            return true;
        }
        if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
            fd_close(&spawn->acks_fd);
            return false;
        }
        const uint64_t now_ns = clock_now_ns();
        if (now_ns >= deadline_ns) {
            return true;
        }
        struct pollfd polled = {.fd = spawn->acks_fd, .events = POLLIN};
        const uint64_t left_ns = deadline_ns - now_ns;
        const struct timespec left = {.tv_sec = (time_t)(left_ns / CLOCK_NS_PER_S),
                                      .tv_nsec = (long)(left_ns % CLOCK_NS_PER_S)};
        if (ppoll(&polled, 1, &left, NULL) < 0 && errno == EINTR) {
            return true; /* a signal: the caller looks */
        }
    }
}

void spawn_drop(struct spawn *spawn, size_t count)
{
    spawn->held -= count;
    memmove(spawn->buffer, spawn->buffer + count, spawn->held);
}

void spawn_kill(const struct spawn *spawn)
{
    if (spawn->pid > 0) {
        kill(spawn->pid, SIGKILL);
    }
}

int spawn_reap(struct spawn *spawn)
{
    int status = 0;

    if (spawn->pid > 0) {
        while (waitpid(spawn->pid, &status, 0) < 0 && errno == EINTR) {
        }
    }
    spawn->pid = 0;
    return status;
}

void spawn_clear(struct spawn *spawn)
{
    spawn_kill(spawn);
    spawn_reap(spawn);
    fd_close(&spawn->acks_fd);
    fd_close(&spawn->go_fd);
    fd_close(&spawn->input_fd);
    if (spawn->page != NULL) {
        munmap(spawn->page, sizeof(*spawn->page));
        spawn->page = NULL;
    }
    spawn->held = 0;
}

int spawn_run(char *const argv[], bool loud)
{
    const pid_t pid = fork();

    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        if (!loud) {
            const int nowhere = open("/dev/null", O_RDWR);
            dup2(nowhere, STDIN_FILENO);
            dup2(nowhere, STDOUT_FILENO);
            dup2(nowhere, STDERR_FILENO);
        }
        execvp(argv[0], argv);
        _exit(127);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char *spawn_self(void)
{
    static char path[4096];

    if (path[0] == '\0') {
        const ssize_t count = readlink("/proc/self/exe", path, sizeof(path) - 1);
        path[count > 0 ? count : 0] = '\0';
    }
    return path;
}
