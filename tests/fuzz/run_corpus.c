/* SPDX-License-Identifier: Apache-2.0
 * Feeds files, and the files of directories, to a fuzz target: the regression run, without a
 * fuzzer. */
#include "fuzz/target.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static unsigned long files;

static int file_run(const char *path)
{
    FILE *const file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    uint8_t *const data = malloc(TARGET_BYTES_MAX);
    if (data == NULL) {
        abort();
    }
    const size_t bytes = fread(data, 1, TARGET_BYTES_MAX, file);
    (void)fclose(file);
    /* Said first, for the abort that tells of a finding. */
    fprintf(stderr, "%s: %zu bytes\n", path, bytes);
    (void)LLVMFuzzerTestOneInput(data, bytes);
    free(data);
    files++;
    return 0;
}

static int path_run(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    if (!S_ISDIR(status.st_mode)) {
        return file_run(path);
    }
    struct dirent **names = NULL;
    const int count = scandir(path, &names, NULL, alphasort);
    int failed = count < 0;
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] != '.') {
            char below[4096];
            (void)snprintf(below, sizeof below, "%s/%s", path, names[i]->d_name);
            failed |= file_run(below);
        }
        free(names[i]);
    }
    free(names);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        failed |= path_run(argv[i]);
    }
    printf("%lu files\n", files);
    return failed != 0 || files == 0;
}
