/* SPDX-License-Identifier: Apache-2.0
 * Directories of tests, by plain system calls. */
#include "support/temp_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Noreturn void temp_dir_fail(const char *what, const char *path)
{
    (void)fprintf(stderr, "temp_dir: %s %s: %s\n", what, path, strerror(errno));
    abort();
}

void temp_dir_make(char path[TEMP_DIR_BYTES])
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] == '\0') {
        parent = "/tmp";
    }
    (void)snprintf(path, TEMP_DIR_BYTES, "%s/weir-test-XXXXXX", parent);
    if (mkdtemp(path) == NULL) {
        temp_dir_fail("mkdtemp", path);
    }
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    if (remove(path) != 0 && errno != ENOENT) {
        temp_dir_fail("remove", path);
    }
    return 0;
}

void temp_dir_remove(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void temp_dir_join(const char *path, const char *name, char out[TEMP_DIR_BYTES])
{
    const int length = snprintf(out, TEMP_DIR_BYTES, "%s/%s", path, name);
    if (length < 0 || (size_t)length >= TEMP_DIR_BYTES) {
        errno = ENAMETOOLONG;
        temp_dir_fail("join", name);
    }
}

static bool ends_in(const char *name, const char *suffix)
{
    const size_t length = strlen(name);
    const size_t tail = strlen(suffix);
    return length >= tail && strcmp(name + length - tail, suffix) == 0;
}

/* Calls visit for every entry but . and .. */
static void each_entry(const char *path,
                       void (*visit)(void *ctx, const char *path, const char *name),
                       void *ctx)
{
    DIR *const dir = opendir(path);
    if (dir == NULL) {
        temp_dir_fail("opendir", path);
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            visit(ctx, path, entry->d_name);
        }
    }
    (void)closedir(dir);
}

struct first_look {
    const char *suffix;
    size_t count;
    char first[TEMP_DIR_BYTES];
};

static void first_visit(void *ctx, const char *path, const char *name)
{
    (void)path;
    struct first_look *const look = ctx;
    if (!ends_in(name, look->suffix)) {
        return;
    }
    if (look->count++ == 0 || strcmp(name, look->first) < 0) {
        (void)snprintf(look->first, sizeof look->first, "%s", name);
    }
}

size_t temp_dir_count(const char *path, const char *suffix)
{
    struct first_look look = {.suffix = suffix};
    each_entry(path, first_visit, &look);
    return look.count;
}

bool temp_dir_first(const char *path, const char *suffix, char name_out[TEMP_DIR_BYTES])
{
    struct first_look look = {.suffix = suffix};
    each_entry(path, first_visit, &look);
    memcpy(name_out, look.first, TEMP_DIR_BYTES);
    return look.count > 0;
}

/* Opens a regular file for reading; -1 if it is something else, or has gone: a log may be at work
 * on the directory. */
static int open_regular(const char *path, const char *name)
{
    char full[TEMP_DIR_BYTES];
    struct stat st;
    temp_dir_join(path, name, full);
    if (stat(full, &st) != 0) {
        if (errno == ENOENT) {
            return -1; /* a live log recycled or removed it after it was listed */
        }
        temp_dir_fail("stat", full);
    }
    if (!S_ISREG(st.st_mode)) {
        return -1;
    }
    const int file = open(full, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        if (errno == ENOENT) {
            return -1;
        }
        temp_dir_fail("open", full);
    }
    return file;
}

static void copy_visit(void *ctx, const char *path, const char *name)
{
    const int from = open_regular(path, name);
    if (from < 0) {
        return;
    }
    char full[TEMP_DIR_BYTES];
    temp_dir_join(ctx, name, full);
    const int to = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to < 0) {
        temp_dir_fail("create", full);
    }
    static char buffer[1 << 16];
    ssize_t got;
    while ((got = read(from, buffer, sizeof buffer)) > 0) {
        if (write(to, buffer, (size_t)got) != got) {
            temp_dir_fail("write", full);
        }
    }
    (void)close(from);
    (void)close(to);
}

void temp_dir_copy(const char *from, const char *to)
{
    char target[TEMP_DIR_BYTES];
    (void)snprintf(target, sizeof target, "%s", to);
    each_entry(from, copy_visit, target);
}

struct fingerprint {
    const char *except;
    uint64_t sum;
};

static uint64_t fnv(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static void fingerprint_visit(void *ctx, const char *path, const char *name)
{
    struct fingerprint *const print = ctx;
    if (print->except != NULL && ends_in(name, print->except)) {
        return;
    }
    const int file = open_regular(path, name);
    if (file < 0) {
        return;
    }
    uint64_t hash = fnv(UINT64_C(0xcbf29ce484222325), name, strlen(name) + 1);
    static char buffer[1 << 16];
    ssize_t got;
    while ((got = read(file, buffer, sizeof buffer)) > 0) {
        hash = fnv(hash, buffer, (size_t)got);
    }
    (void)close(file);
    print->sum += hash; /* a sum, so that the order of the directory does not matter */
}

uint64_t temp_dir_fingerprint(const char *path, const char *except)
{
    struct fingerprint print = {.except = except};
    each_entry(path, fingerprint_visit, &print);
    return print.sum;
}
