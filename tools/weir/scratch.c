/* SPDX-License-Identifier: Apache-2.0
 * A directory for a while. Names are those of FORMAT.md, section 1; whatever else stands there is
 * left alone. */
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A segment is called BASE-END.weir. */
#define LSN_DIGITS ((size_t)16)

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static bool is_of_log(const char *name)
{
    static const char *const fixed[] = {"weir.lock", "weir.control", "weir.live", "weir.prepare"};
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (strcmp(name, fixed[i]) == 0) {
            return true;
        }
    }
    return strspn(name, digits) == LSN_DIGITS && name[LSN_DIGITS] == '-' &&
           strspn(name + LSN_DIGITS + 1, digits) == LSN_DIGITS &&
           strcmp(name + 2 * LSN_DIGITS + 1, ".weir") == 0;
}

int scratch_claim(struct scratch *scratch, const char *dir)
{
    DIR *stream = opendir(dir);

    *scratch = (struct scratch){.dir = dir, .existed = stream != NULL};
    if (stream == NULL) {
        return errno == ENOENT ? 0 : -errno;
    }
    int rc = 0;
    errno = 0;
    const struct dirent *entry = readdir(stream);
    while (entry != NULL && rc == 0) {
        if (!is_dots(entry->d_name)) {
            rc = -ENOTEMPTY;
        }
        entry = readdir(stream);
    }
    if (rc == 0) {
        rc = -errno;
    }
    closedir(stream);
    return rc;
}

int scratch_remove(const struct scratch *scratch)
{
    DIR *stream = opendir(scratch->dir);
    int rc = 0;

    if (stream == NULL) {
        return errno == ENOENT ? 0 : -errno;
    }
    const struct dirent *entry = readdir(stream);
    while (entry != NULL) {
        if (is_of_log(entry->d_name) && unlinkat(dirfd(stream), entry->d_name, 0) != 0) {
            rc = -errno;
        }
        entry = readdir(stream);
    }
    closedir(stream);
    if (!scratch->existed && rmdir(scratch->dir) != 0 && rc == 0) {
        rc = -errno;
    }
    return rc;
}
