/* SPDX-License-Identifier: Apache-2.0
 * The smallest whole use of weir, by a program that knows nothing but the installed package: open a
 * log, append a record, wait until it is durable, read it back, close. argv[1] is the directory of
 * the log. */
#include <weir/weir.h>

#include <stdio.h>
#include <string.h>

static int failed(const char *what, int code)
{
    fprintf(stderr, "%s: %s (%d)\n", what, weir_strerror(code), code);
    return 1;
}

static int read_back(struct weir_log *log, weir_lsn lsn, const char *text)
{
    struct weir_cursor *cursor = NULL;
    int rc = weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor);
    if (rc != 0) {
        return failed("weir_cursor_open", rc);
    }
    struct weir_entry entry;
    rc = weir_cursor_next(cursor, WEIR_TRY, &entry);
    int status = 0;
    if (rc != 0) {
        status = failed("weir_cursor_next", rc);
    } else if (entry.lsn != lsn || entry.tag != 7 || entry.bytes != strlen(text) ||
               memcmp(entry.data, text, entry.bytes) != 0) {
        fprintf(stderr, "another record came back than was appended\n");
        status = 1;
    } else if ((rc = weir_cursor_next(cursor, WEIR_TRY, &entry)) != WEIR_EEND) {
        status = failed("weir_cursor_next behind the last record", rc);
    }
    weir_cursor_close(cursor);
    return status;
}

int main(int argc, char **argv)
{
    static const char text[] = "one record";

    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    if (strcmp(weir_version(), WEIR_VERSION_STRING) != 0) {
        fprintf(stderr, "header of %s, library of %s\n", WEIR_VERSION_STRING, weir_version());
        return 1;
    }

    struct weir_options options = WEIR_OPTIONS_INIT;
    options.segment_bytes = 4u << 20;
    struct weir_error error = {.code = 0};
    struct weir_log *log = NULL;
    int rc = weir_open(argv[1], &options, &log, &error);
    if (rc != 0) {
        fprintf(stderr, "weir_open: %s\n", error.text);
        return failed("weir_open", rc);
    }

    weir_lsn lsn = WEIR_LSN_NONE;
    int status = 0;
    rc = weir_append(log, text, strlen(text), 7, &lsn);
    if (rc == 0) {
        rc = weir_wait(log, lsn, WEIR_DURABLE, WEIR_FOREVER);
    }
    status = rc == 0 ? read_back(log, lsn, text) : failed("weir_append, weir_wait", rc);

    rc = weir_close(log, &error);
    if (rc != 0) {
        status = failed("weir_close", rc);
    }
    if (status == 0) {
        printf("weir %s: one record at %llu\n", weir_version(), (unsigned long long)lsn);
    }
    return status;
}
