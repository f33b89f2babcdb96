/* SPDX-License-Identifier: Apache-2.0
 * Figures for people. Everything is returned by value, so that several may stand in one printf. Any
 * thread. */
#include "text.h"

#include "args.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const char *const text_io_words[] = {
    [WEIR_IO_AUTO] = "auto",
    [WEIR_IO_CHAIN] = "chain",
    [WEIR_IO_DSYNC] = "dsync",
    [WEIR_IO_POSIX] = "posix",
    NULL,
};

const char *const text_policy_words[] = {
    [WEIR_POLICY_DEFAULT] = "default",
    [WEIR_POLICY_LOW_LATENCY] = "low-latency",
    [WEIR_POLICY_OFF] = "off",
    NULL,
};

const char *const text_level_words[] = {
    [WEIR_DURABLE] = "durable",
    [WEIR_WRITTEN] = "written",
    [WEIR_APPENDED] = "appended",
    NULL,
};

struct text text_count(uint64_t value)
{
    struct text text = {{0}};
    char digits[24];
    const int length = snprintf(digits, sizeof(digits), "%" PRIu64, value);
    size_t at = 0;

    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            text.chars[at++] = ',';
        }
        text.chars[at++] = digits[i];
    }
    return text;
}

struct text text_bytes(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    struct text text;
    size_t unit = 0;
    double value = (double)bytes;

    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    const bool whole = value == (double)(uint64_t)value;
    snprintf(text.chars,
             sizeof(text.chars),
             "%.*f %s",
             whole || value >= 100 ? 0 : 1,
             value,
             units[unit]);
    return text;
}

struct text text_duration(uint64_t ns)
{
    struct text text;
    const double value = (double)ns;

    if (ns < 1000) {
        snprintf(text.chars, sizeof(text.chars), "%" PRIu64 " ns", ns);
    } else if (ns < 1000000) {
        snprintf(text.chars, sizeof(text.chars), "%.1f us", value / 1e3);
    } else if (ns < 1000000000) {
        snprintf(text.chars, sizeof(text.chars), "%.2f ms", value / 1e6);
    } else {
        snprintf(text.chars, sizeof(text.chars), "%.2f s", value / 1e9);
    }
    return text;
}

struct text text_lsn(weir_lsn lsn)
{
    struct text text;

    if (lsn == UINT64_MAX) {
        snprintf(text.chars, sizeof(text.chars), "-");
    } else {
        snprintf(text.chars, sizeof(text.chars), "%" PRIu64 " (0x%" PRIx64 ")", lsn, lsn);
    }
    return text;
}

struct text text_time(uint64_t wall_ns)
{
    struct text text;
    char day[32];
    struct tm broken_down;
    const time_t seconds = (time_t)(wall_ns / 1000000000);

    if (gmtime_r(&seconds, &broken_down) == NULL ||
        strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &broken_down) == 0) {
        snprintf(day, sizeof(day), "%" PRIu64, wall_ns / 1000000000);
    }
    snprintf(text.chars, sizeof(text.chars), "%s.%09" PRIu64 " UTC", day, wall_ns % 1000000000);
    return text;
}

const char *text_io(enum weir_io io)
{
    return io >= WEIR_IO_AUTO && io <= WEIR_IO_POSIX ? text_io_words[io] : "unknown";
}

const char *text_level(enum weir_level level)
{
    return level >= WEIR_DURABLE && level <= WEIR_APPENDED ? text_level_words[level] : "unknown";
}

const char *text_verdict(enum weir_verdict verdict)
{
    switch (verdict) {
    case WEIR_VERDICT_CLEAN:
        return "clean";
    case WEIR_VERDICT_STALE:
        return "stale";
    case WEIR_VERDICT_TORN:
        return "torn";
    case WEIR_VERDICT_CORRUPT:
        return "corrupt";
    case WEIR_VERDICT_UNREADABLE:
        return "unreadable";
    }
    return "unknown";
}

const char *text_tristate(int value)
{
    return value < 0 ? "unknown" : text_bool(value != 0);
}

const char *text_bool(bool value)
{
    return value ? "yes" : "no";
}

/* Adds ", ITEM" or, the first time, " (ITEM" to a line. Cuts what does not fit. */
static void detail_add(char *line, size_t size, bool *open, const char *item)
{
    const size_t length = strlen(line);

    snprintf(line + length, size - length, "%s%s", *open ? ", " : " (", item);
    *open = true;
}

struct weir_error text_no_error(void)
{
    struct weir_error error;

    memset(&error, 0, sizeof(error));
    error.offset = UINT64_MAX;
    error.lsn = UINT64_MAX;
    return error;
}

void text_failure(const char *verb, const char *dir, int code, const struct weir_error *error)
{
    char line[1024];
    char item[384];
    bool open = false;
    const bool has_text = error != NULL && error->text[0] != '\0';

    snprintf(line,
             sizeof(line),
             "weir %s: %s: %s",
             verb,
             dir,
             has_text ? error->text : weir_strerror(code));
    detail_add(line, sizeof(line), &open, weir_error_name(code));
    if (error != NULL) {
        if (error->file[0] != '\0') {
            snprintf(item, sizeof(item), "file %s", error->file);
            detail_add(line, sizeof(line), &open, item);
        }
        if (error->offset != UINT64_MAX && error->file[0] != '\0') {
            snprintf(item, sizeof(item), "offset %" PRIu64, error->offset);
            detail_add(line, sizeof(line), &open, item);
        }
        if (error->lsn != UINT64_MAX && error->lsn != WEIR_LSN_NONE) {
            snprintf(item, sizeof(item), "LSN %" PRIu64, error->lsn);
            detail_add(line, sizeof(line), &open, item);
        }
        if (error->system_code > 0) {
            snprintf(item,
                     sizeof(item),
                     "errno %d: %s",
                     error->system_code,
                     weir_strerror(-error->system_code));
            detail_add(line, sizeof(line), &open, item);
        }
    }
    fprintf(stderr, "%s)\n", line);
}

static int broken_cause; /* errno of the first failed write to standard output, 0 if none */

bool text_broken(void)
{
    if (ferror(stdout) && broken_cause == 0) {
        broken_cause = errno != 0 ? errno : EIO;
    }
    return broken_cause != 0;
}

int text_finish(const char *verb, int status, bool quiet_pipe)
{
    if (!text_broken()) {
        errno = 0;
        (void)fflush(stdout);
        if (!text_broken()) {
            return status;
        }
    }
    if (broken_cause == EPIPE && quiet_pipe) {
        return status;
    }
    fprintf(stderr, "weir %s: standard output: %s\n", verb, weir_strerror(-broken_cause));
    return status == STATUS_OK ? STATUS_FAILED : status;
}
