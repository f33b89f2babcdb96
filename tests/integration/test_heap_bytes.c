/* SPDX-License-Identifier: Apache-2.0
 * What lay in memory does not come to the disk. All memory that the log is given is full of one
 * byte, all records are made of it, and the files of the log may hold no more of it than the
 * records do: neither what the host left there nor what an earlier batch left in its slot. */
#include "api/log.h"
#include "support/rig.h"
#include "support/threads.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    SECRET = 0xa5,
    SECRET_RUN = 4, /* fewer may meet by chance: in a checksum, say */
    RECORDS = 400,
    RECORD_BYTES_MAX = 40000,
};

static void *secret_alloc(void *ctx, size_t bytes, size_t align)
{
    (void)ctx;
    void *block = NULL;
    if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, bytes) != 0) {
        return NULL;
    }
    return memset(block, SECRET, bytes);
}

static void secret_release(void *ctx, void *block, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(block);
}

/* Bytes of all runs in all files of the directory. */
static size_t secrets_count(const char *path)
{
    size_t count = 0;
    DIR *stream = opendir(path);
    assert_non_null(stream);
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        struct stat stat;
        const int file = openat(dirfd(stream), entry->d_name, O_RDONLY | O_CLOEXEC);
        assert_true(file >= 0);
        assert_int_equal(fstat(file, &stat), 0);
        if (S_ISREG(stat.st_mode) && stat.st_size > 0) {
            uint8_t *const bytes = malloc((size_t)stat.st_size);
            assert_non_null(bytes);
            assert_int_equal(pread(file, bytes, (size_t)stat.st_size, 0), stat.st_size);
            size_t run = 0;
            for (size_t i = 0; i < (size_t)stat.st_size; i++) {
                run = bytes[i] == SECRET ? run + 1 : 0;
                count += run == SECRET_RUN ? SECRET_RUN : run > SECRET_RUN;
            }
            free(bytes);
        }
        close(file);
    }
    closedir(stream);
    return count;
}

static void nothing_but_records_comes_from_memory_to_the_disk(void **state)
{
    (void)state;
    static uint8_t payload[RECORD_BYTES_MAX];
    const struct weir_memory_hooks hooks = {.alloc = secret_alloc, .release = secret_release};
    memset(payload, SECRET, sizeof payload);
    for (unsigned i = 0; i < rig_way_count; i++) {
        if (!rig_way_usable(&rig_ways[i])) {
            continue;
        }
        struct rig rig;
        rig_make(&rig, &rig_ways[i]);
        rig.options.memory = &hooks;
        size_t appended = 0;
        for (unsigned life = 0; life < 2; life++) {
            assert_int_equal(rig_open(&rig), 0);
            for (unsigned record = 0; record < RECORDS; record++) {
                /* Lengths of every remainder; some beyond a slot; batches of one and of many. */
                const size_t bytes =
                    record % 50 == 7 ? RECORD_BYTES_MAX - record : record * 13 % 700;
                assert_int_equal(weir_append(rig.log, payload, bytes, record, NULL), 0);
                appended += bytes >= SECRET_RUN ? bytes : 0;
                if (record % 5 == 0) {
                    assert_int_equal(weir_sync(rig.log, WEIR_FOREVER), 0);
                }
            }
            assert_int_equal(rig_close(&rig), 0);
            /* A checksum beside a payload begins or ends with the byte now and then. */
            const size_t found = secrets_count(rig.path);
            assert_in_range(found, appended, appended + RECORDS / 8);
        }
        rig_destroy(&rig);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_but_records_comes_from_memory_to_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
