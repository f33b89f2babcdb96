/* SPDX-License-Identifier: Apache-2.0
 * A directory of a test's own. Any failure here is the test's: it prints where and aborts, so
 * worker threads may call it. */
#ifndef WEIR_TESTS_SUPPORT_TEMP_DIR_H
#define WEIR_TESTS_SUPPORT_TEMP_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEMP_DIR_BYTES 256u

/* Makes an empty directory below $TMPDIR, else /tmp. */
void temp_dir_make(char path[TEMP_DIR_BYTES]);
/* Removes it with everything in it, directories included. */
void temp_dir_remove(const char *path);
/* path/name. */
void temp_dir_join(const char *path, const char *name, char out[TEMP_DIR_BYTES]);

/* How many entries of path have names that end in `suffix` ("" = all). */
size_t temp_dir_count(const char *path, const char *suffix);
/* The first of them in the order of their names. False: there is none. */
bool temp_dir_first(const char *path, const char *suffix, char name_out[TEMP_DIR_BYTES]);
/* Copies regular files, one level deep, into an existing directory. */
void temp_dir_copy(const char *from, const char *to);
/* A number that changes when any name, length or byte of a regular file in it does. Files whose
 * names end in `except` are left out; NULL: none is. */
uint64_t temp_dir_fingerprint(const char *path, const char *except);

#endif
