/* SPDX-License-Identifier: Apache-2.0
 * Runs fio as a child and reads its figures from the JSON that it prints.
 *
 * The happy path: a command line that asks for the same file, block, pattern, depth and time is
 * started with its output in a pipe, the output is read to its end, and five figures are found in
 * it by their names. fio is told to choose offsets as we do (without remembering which it had) and
 * to measure from submission to completion.
 *
 * What can fail: fio is not there, or refuses an option or the engine; what it says then is told.
 * Nothing here depends on more of its output than those names. */
#include "fio.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

enum {
    ARGS_MAX = 40,
    ARG_BYTES = 64,
    OUTPUT_BYTES_MAX = 4 << 20,
    DEPTH_MAX = 64, /* of brackets */
};

extern char **environ;

/* ---- JSON ------------------------------------------------------------------------------------ */

static const char *space_skip(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

/* Behind a string that begins at `at`; NULL: it does not end. */
static const char *string_skip(const char *at)
{
    for (at++; *at != '"'; at++) {
        if (*at == '\\' && at[1] != '\0') {
            at++;
        }
        if (*at == '\0') {
            return NULL;
        }
    }
    return at + 1;
}

/* Behind the value that begins at `at`; NULL: it does not end. */
static const char *value_skip(const char *at)
{
    int depth = 0;

    do {
        at = space_skip(at);
        switch (*at) {
        case '\0':
            return NULL;
        case '"':
            at = string_skip(at);
            if (at == NULL) {
                return NULL;
            }
            break;
        case '{':
        case '[':
            if (++depth > DEPTH_MAX) {
                return NULL;
            }
            at++;
            break;
        case '}':
        case ']':
            depth--;
            at++;
            break;
        case ',':
        case ':':
            at++;
            break;
        default:
            at += strcspn(at, ",:]}[{\" \t\r\n");
            break;
        }
    } while (depth > 0);
    return at;
}

/* The value of an object's member; NULL: it has none of that name, or `at` is none. */
static const char *member_find(const char *at, const char *name)
{
    const size_t count = strlen(name);

    if (at == NULL || *(at = space_skip(at)) != '{') {
        return NULL;
    }
    at = space_skip(at + 1);
    while (*at == '"') {
        const char *const key = at + 1;
        at = string_skip(at);
        if (at == NULL) {
            return NULL;
        }
        const bool same = (size_t)(at - 1 - key) == count && memcmp(key, name, count) == 0;
        at = space_skip(at);
        if (*at != ':') {
            return NULL;
        }
        at = space_skip(at + 1);
        if (same) {
            return at;
        }
        at = value_skip(at);
        if (at == NULL || *(at = space_skip(at)) != ',') {
            return NULL;
        }
        at = space_skip(at + 1);
    }
    return NULL;
}

/* A member's number; NaN: there is none. */
static double number_find(const char *object, const char *name)
{
    const char *const at = member_find(object, name);
    char *end = NULL;

    if (at == NULL) {
        return (double)NAN;
    }
    const double value = strtod(at, &end);
    return end == at ? (double)NAN : value;
}

static bool output_read(const char *output, bool write, struct fio_result *out)
{
    /* Warnings may stand before it. */
    const char *at = strchr(output, '{');

    at = member_find(at, "jobs");
    if (at == NULL || *at != '[') {
        return false;
    }
    const char *const rw = member_find(at + 1, write ? "write" : "read");
    const char *const latency = member_find(rw, "lat_ns");
    const char *const shares = member_find(latency, "percentile");
    *out = (struct fio_result){
        .iops = number_find(rw, "iops"),
        .mb_per_s = number_find(rw, "bw_bytes") / 1e6,
        .p50_us = number_find(shares, "50.000000") / 1e3,
        .p90_us = number_find(shares, "90.000000") / 1e3,
        .p99_us = number_find(shares, "99.000000") / 1e3,
        .p99_9_us = number_find(shares, "99.900000") / 1e3,
        .max_us = number_find(latency, "max") / 1e3,
    };
    return isfinite(out->iops) && out->iops > 0 && isfinite(out->mb_per_s);
}

/* ---- the child ------------------------------------------------------------------------------- */

struct command {
    size_t count;
    char *words[ARGS_MAX + 1];
    char texts[ARGS_MAX][ARG_BYTES];
    char *file; /* "--filename=...", of any length */
};

__attribute__((format(printf, 2, 3))) static void
command_add(struct command *command, const char *format, ...)
{
    va_list list;

    if (command->count == ARGS_MAX) {
        return;
    }
    char *const text = command->texts[command->count];
    va_start(list, format);
    vsnprintf(text, ARG_BYTES, format, list);
    va_end(list);
    command->words[command->count++] = text;
}

/* fio splits names at colons. */
static char *file_word(const char *path)
{
    static const char option[] = "--filename=";
    char *const word = malloc(sizeof(option) + 2 * strlen(path));
    char *to = word;

    if (word == NULL) {
        return NULL;
    }
    memcpy(to, option, sizeof(option) - 1);
    to += sizeof(option) - 1;
    for (; *path != '\0'; path++) {
        if (*path == ':') {
            *to++ = '\\';
        }
        *to++ = *path;
    }
    *to = '\0';
    return word;
}

static bool
command_make(struct command *command, const struct ioload_options *options, const char *engine)
{
    const bool async = strcmp(engine, "psync") != 0;

    *command = (struct command){.count = 0};
    command_add(command, "fio");
    command_add(command, "--name=iobench");
    command_add(command, "--size=%" PRIu64, options->bytes / options->block * options->block);
    command_add(command, "--bs=%" PRIu64, options->block);
    command_add(command,
                "--rw=%s%s",
                options->sequential ? "" : "rand",
                options->write ? "write" : "read");
    command_add(command, "--direct=%d", options->direct ? 1 : 0);
    command_add(command, "--ioengine=%s", engine);
    command_add(command, "--iodepth=%" PRIu64, options->depth);
    command_add(command, "--iodepth_batch_submit=%" PRIu64, options->batch);
    command_add(command, "--time_based=1");
    command_add(command, "--runtime=%.0fms", fmax(options->seconds * 1e3, 1));
    command_add(command, "--randseed=%" PRIu64, options->seed & INT32_MAX);
    /* As ours does: any block at any time, the file as it is, nothing of it in the page cache. */
    command_add(command, "--norandommap=1");
    command_add(command, "--allow_file_create=0");
    command_add(command, "--invalidate=1");
    if (options->sync_every != 0 && options->write) {
        command_add(command, "--fdatasync=%" PRIu64, options->sync_every);
    }
    if (async && options->registered && strcmp(engine, "io_uring") == 0) {
        command_add(command, "--fixedbufs=1");
    }
    command_add(command, "--clat_percentiles=0");
    command_add(command, "--lat_percentiles=1");
    command_add(command, "--percentile_list=50:90:99:99.9");
    command_add(command, "--output-format=json");
    command->file = file_word(options->path);
    if (command->file == NULL || command->count == ARGS_MAX) {
        return false;
    }
    command->words[command->count++] = command->file;
    command->words[command->count] = NULL;
    return true;
}

/* All that comes from a descriptor, as a string to be freed; NULL: no memory, or too much. */
static char *output_take(int from)
{
    size_t room = 1 << 16;
    size_t used = 0;
    char *bytes = malloc(room);

    while (bytes != NULL) {
        const ssize_t got = read(from, bytes + used, room - used - 1);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            bytes[used] = '\0';
            return bytes;
        }
        used += (size_t)got;
        if (room - used > 1) {
            continue;
        }
        char *const more = room < OUTPUT_BYTES_MAX ? realloc(bytes, room *= 2) : NULL;
        if (more == NULL) {
            free(bytes);
        }
        bytes = more;
    }
    return NULL;
}

/* Starts it with its output in a pipe. Return: the reading end, or a negative errno. */
static int child_start(struct command *command, pid_t *child_out)
{
    int ends[2];
    posix_spawn_file_actions_t actions;

    if (pipe(ends) != 0) {
        return -errno;
    }
    int error = posix_spawn_file_actions_init(&actions);
    if (error == 0) {
        (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
        (void)posix_spawn_file_actions_addclose(&actions, ends[0]);
        if (ends[1] > STDERR_FILENO) {
            (void)posix_spawn_file_actions_addclose(&actions, ends[1]);
        }
        error = posix_spawnp(child_out, "fio", &actions, NULL, command->words, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    (void)close(ends[1]);
    if (error != 0) {
        (void)close(ends[0]);
        return -error;
    }
    return ends[0];
}

bool fio_found(void)
{
    const char *path = getenv("PATH");

    while (path != NULL && *path != '\0') {
        const size_t count = strcspn(path, ":");
        char name[4096];
        if (count > 0 && count < sizeof(name) - sizeof("/fio")) {
            (void)snprintf(name, sizeof(name), "%.*s/fio", (int)count, path);
            if (access(name, X_OK) == 0) {
                return true;
            }
        }
        path += count + (path[count] == ':' ? 1 : 0);
    }
    return false;
}

bool fio_run(const struct ioload_options *options,
             const char *engine,
             struct fio_result *out,
             char *why,
             size_t why_bytes)
{
    struct command command;
    pid_t child = 0;
    int status = 0;
    char *output = NULL;
    bool read_well = false;

    const int from =
        command_make(&command, options, engine) ? child_start(&command, &child) : -ENOMEM;
    free(command.file);
    if (from < 0) {
        (void)snprintf(why, why_bytes, "fio was not started: %s", weir_strerror(from));
        return false;
    }
    output = output_take(from);
    (void)close(from);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (output != NULL && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        read_well = output_read(output, options->write, out);
    }
    if (!read_well) {
        /* Its first line says it, if anything does. */
        const bool said = output != NULL && output[0] != '{' && output[0] != '\0';
        (void)snprintf(why,
                       why_bytes,
                       "fio failed: %.*s",
                       said ? (int)strcspn(output, "\n") : INT_MAX,
                       said ? output : "its output is not understood");
    }
    free(output);
    return read_well;
}
