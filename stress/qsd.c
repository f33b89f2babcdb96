/* SPDX-License-Identifier: Apache-2.0
 * Start, wait until the file shows the image, stop. */
#include "qsd.h"

#include "patience.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_S = 20 };

static int file_make(struct qsd *qsd, const char *path)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_TRUNC, 0600);

    if (fd < 0) {
        const int rc = -errno;
        snprintf(qsd->why, sizeof(qsd->why), "%s: %s", path, strerror(errno));
        return rc;
    }
    close(fd);
    return 0;
}

static _Noreturn void daemon_exec(const char *base, const char *log, const char *shown)
{
    static char base_word[4400];
    static char log_word[4400];
    static char export_word[4400];
    char *argv[] = {
        (char[]){"qemu-storage-daemon"},
        (char[]){"--blockdev"},
        base_word,
        (char[]){"--blockdev"},
        log_word,
        (char[]){"--blockdev"},
        (char[]){"driver=blklogwrites,node-name=lw,file=base,log=lg,log-sector-size=512"},
        (char[]){"--export"},
        export_word,
        NULL};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(base_word, sizeof(base_word), "driver=file,node-name=base,filename=%s", base);
    snprintf(log_word, sizeof(log_word), "driver=file,node-name=lg,filename=%s", log);
    snprintf(export_word,
             sizeof(export_word),
             "type=fuse,id=e0,node-name=lw,mountpoint=%s,writable=on,growable=off",
             shown);
    const int nowhere = open("/dev/null", O_RDWR);
    dup2(nowhere, STDIN_FILENO);
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    execvp(argv[0], argv);
    _exit(127);
}

int qsd_start(struct qsd *qsd, const char *base, const char *log, const char *shown)
{
    struct stat base_stat;
    struct stat shown_stat;
    struct patience patience;

    *qsd = (struct qsd){.pid = 0};
    snprintf(qsd->shown, sizeof(qsd->shown), "%s", shown);
    int rc = file_make(qsd, log);
    if (rc == 0) {
        rc = file_make(qsd, shown);
    }
    if (rc != 0 || stat(base, &base_stat) != 0) {
        return rc != 0 ? rc : -errno;
    }
    qsd->pid = fork();
    if (qsd->pid == 0) {
        daemon_exec(base, log, shown);
    }
    if (qsd->pid < 0) {
        qsd->pid = 0;
        return -EAGAIN;
    }
    patience_renew(&patience);
    while (stat(shown, &shown_stat) != 0 || shown_stat.st_size != base_stat.st_size) {
        int status = 0;
        if (waitpid(qsd->pid, &status, WNOHANG) == qsd->pid) {
            qsd->pid = 0;
            snprintf(qsd->why,
                     sizeof(qsd->why),
                     WIFEXITED(status) && WEXITSTATUS(status) == 127
                         ? "qemu-storage-daemon is not installed"
                         : "qemu-storage-daemon shows no image with FUSE here");
            return -ENOENT;
        }
        if (patience_lost(&patience, READY_S * CLOCK_NS_PER_S)) {
            snprintf(qsd->why, sizeof(qsd->why), "qemu-storage-daemon does not become ready");
            qsd_stop(qsd);
            return -ETIMEDOUT;
        }
        clock_sleep_ns(CLOCK_NS_PER_MS);
    }
    return 0;
}

int qsd_stop(struct qsd *qsd)
{
    struct patience patience;
    int status = 0;

    if (qsd->pid <= 0) {
        return 0;
    }
    kill(qsd->pid, SIGTERM);
    patience_renew(&patience);
    while (waitpid(qsd->pid, &status, WNOHANG) == 0) {
        if (patience_lost(&patience, READY_S * CLOCK_NS_PER_S)) {
            kill(qsd->pid, SIGKILL);
        }
        clock_sleep_ns(CLOCK_NS_PER_MS);
    }
    qsd->pid = 0;
    umount2(qsd->shown, MNT_DETACH); /* its own unmounting is the rule */
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}
