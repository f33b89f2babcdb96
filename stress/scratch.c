/* SPDX-License-Identifier: Apache-2.0
 * Made with mkdtemp, removed by a walk that crosses no mount and follows no link. */
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile sig_atomic_t stop_flag; /* shared with a signal handler of the same thread only */

static void stop_note(int signal_number)
{
    (void)signal_number;
    stop_flag = 1;
}

void stop_install(void)
{
    /* Without SA_RESTART: a wait ends, and its caller looks at the flag. */
    struct sigaction action = {.sa_handler = stop_note};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

bool stop_asked(void)
{
    return stop_flag != 0;
}

static int directory_is_empty(const char *path)
{
    DIR *stream = opendir(path);

    if (stream == NULL) {
        return -errno;
    }
    int rc = 0;
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rc = -ENOTEMPTY;
        }
    }
    closedir(stream);
    return rc;
}

int scratch_open(struct scratch *scratch, const char *dir)
{
    *scratch = (struct scratch){.made = false};
    if (dir != NULL) {
        if (strlen(dir) >= sizeof(scratch->path) / 2) {
            return -ENAMETOOLONG;
        }
        snprintf(scratch->path, sizeof(scratch->path), "%s", dir);
        if (mkdir(dir, 0700) == 0) {
            scratch->made = true;
            return 0;
        }
        return errno == EEXIST ? directory_is_empty(dir) : -errno;
    }
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] == '\0' || strlen(parent) >= sizeof(scratch->path) / 2) {
        parent = "/tmp";
    }
    snprintf(scratch->path, sizeof(scratch->path), "%s/weir-stress.XXXXXX", parent);
    if (mkdtemp(scratch->path) == NULL) {
        return -errno;
    }
    scratch->made = true;
    return 0;
}

static int below_remove(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status;
    (void)kind;
    if (place->level > 0) {
        remove(path);
    }
    return 0;
}

void scratch_remove(const struct scratch *scratch)
{
    nftw(scratch->path, below_remove, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    if (scratch->made) {
        rmdir(scratch->path);
    }
}
