/* SPDX-License-Identifier: Apache-2.0
 * A directory of its own for each test, and plain looks at what stands in it, past the engine. */
#ifndef WEIR_TESTS_UNIT_SEGMENT_TEST_FILES_H
#define WEIR_TESTS_UNIT_SEGMENT_TEST_FILES_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files that the tests make are a few MiB at most. */
#define FILES_PATH_BYTES 512

/* False: no directory to be had. */
static inline bool files_make_dir(char path_out[FILES_PATH_BYTES])
{
    const char *const parent = getenv("TMPDIR");
    snprintf(path_out, FILES_PATH_BYTES, "%s/weir-unit-XXXXXX", parent == NULL ? "/tmp" : parent);
    return mkdtemp(path_out) != NULL;
}

static inline void files_path(const char *dir, const char *name, char path_out[FILES_PATH_BYTES])
{
    snprintf(path_out, FILES_PATH_BYTES, "%.380s/%.120s", dir, name);
}

static inline void files_remove_dir(const char *path)
{
    DIR *const list = opendir(path);
    if (list == NULL) {
        return;
    }
    for (const struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        (void)unlinkat(dirfd(list), entry->d_name, 0);
    }
    closedir(list);
    (void)rmdir(path);
}

static inline bool files_exists(const char *dir, const char *name)
{
    char path[FILES_PATH_BYTES];
    files_path(dir, name, path);
    struct stat status;
    return lstat(path, &status) == 0;
}

/* -1: not there. */
static inline int64_t files_bytes(const char *dir, const char *name)
{
    char path[FILES_PATH_BYTES];
    files_path(dir, name, path);
    struct stat status;
    return lstat(path, &status) == 0 ? (int64_t)status.st_size : -1;
}

static inline bool
files_read(const char *dir, const char *name, void *to, size_t bytes, uint64_t offset)
{
    char path[FILES_PATH_BYTES];
    files_path(dir, name, path);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return false;
    }
    const bool whole = pread(file, to, bytes, (off_t)offset) == (ssize_t)bytes;
    close(file);
    return whole;
}

/* Creates the file if it is missing. */
static inline bool
files_write(const char *dir, const char *name, const void *from, size_t bytes, uint64_t offset)
{
    char path[FILES_PATH_BYTES];
    files_path(dir, name, path);
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) {
        return false;
    }
    const bool whole = pwrite(file, from, bytes, (off_t)offset) == (ssize_t)bytes;
    close(file);
    return whole;
}

/* A file of `bytes` times `fill`. */
static inline bool files_fill(const char *dir, const char *name, int fill, size_t bytes)
{
    void *const block = malloc(bytes == 0 ? 1 : bytes);
    if (block == NULL) {
        return false;
    }
    memset(block, fill, bytes);
    const bool done = files_write(dir, name, block, bytes, 0);
    free(block);
    return done;
}

static inline bool files_link(const char *dir, const char *from, const char *to)
{
    char old_path[FILES_PATH_BYTES];
    char new_path[FILES_PATH_BYTES];
    files_path(dir, from, old_path);
    files_path(dir, to, new_path);
    return link(old_path, new_path) == 0;
}

#endif
