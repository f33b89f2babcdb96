/* SPDX-License-Identifier: Apache-2.0
 * Berkeley DB: a record into its log with log_put(DB_FLUSH), which groups by itself. */
#include "peer.h"

#include <db.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct bdb_log {
    DB_ENV *env;
};

static void check(const char *what, int rc)
{
    if (rc != 0) {
        peer_die_text(what, db_strerror(rc));
    }
}

/* One file for the whole run: the next would be filled in the middle of it. */
static u_int32_t zeroed_bytes(const struct peer_run *run)
{
    const uint64_t least = UINT64_C(64) << 20;
    const uint64_t most = UINT64_C(3) << 30;
    const uint64_t bytes = run->bytes_likely < least ? least : run->bytes_likely;

    return (u_int32_t)(bytes < most ? bytes : most);
}

static void *bdb_open(const struct peer_run *run)
{
    struct bdb_log *log = calloc(1, sizeof(*log));
    const bool zeroed = strcmp(run->variant, "zeroed") == 0;

    if (log == NULL) {
        peer_die("log", ENOMEM);
    }
    check("create", db_env_create(&log->env, 0));
    check("lg_bsize", log->env->set_lg_bsize(log->env, 32 << 20));
    check("lg_max", log->env->set_lg_max(log->env, zeroed ? zeroed_bytes(run) : 1 << 30));
    if (zeroed) {
        check("DB_LOG_ZERO", log->env->log_set_config(log->env, DB_LOG_ZERO, 1));
    }
    if (strcmp(run->variant, "dsync") == 0) {
        check("DB_LOG_DSYNC", log->env->log_set_config(log->env, DB_LOG_DSYNC, 1));
    }
    check("open",
          log->env->open(log->env,
                         run->dir,
                         DB_CREATE | DB_INIT_LOG | DB_INIT_MPOOL | DB_THREAD | DB_PRIVATE,
                         0600));
    if (zeroed) {
        /* The first record makes the file and fills it. */
        DBT record = {.size = 1};
        char byte = 0;
        DB_LSN lsn;
        record.data = &byte;
        check("log_put", log->env->log_put(log->env, &lsn, &record, DB_FLUSH));
    }
    return log;
}

static void bdb_append(void *ctx, const void *data, size_t bytes)
{
    struct bdb_log *log = ctx;
    DBT record = {.size = (u_int32_t)bytes};
    DB_LSN lsn;

    /* It is only read, but the interface has no const. */
    memcpy(&record.data, &data, sizeof(void *));
    check("log_put", log->env->log_put(log->env, &lsn, &record, DB_FLUSH));
}

static void bdb_close(void *ctx)
{
    struct bdb_log *log = ctx;

    check("close", log->env->close(log->env, 0));
    free(log);
}

static const char *bdb_version(void)
{
    return DB_VERSION_STRING;
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"zeroed", "flush", "dsync", NULL};
    static const struct peer peer = {
        .name = "bdb",
        .variants = variants,
        .about =
            "  zeroed  log_put(DB_FLUSH), a file that was filled with zeros, buffer of 32 MiB\n"
            "  flush   the same over files of 1 GiB that are not filled\n"
            "  dsync   as flush, with DB_LOG_DSYNC\n",
        .version = bdb_version,
        .open = bdb_open,
        .append = bdb_append,
        .close = bdb_close,
    };

    return peer_main(&peer, argc, argv);
}
