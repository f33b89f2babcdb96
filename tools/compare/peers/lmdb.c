/* SPDX-License-Identifier: Apache-2.0
 * LMDB: an append (MDB_APPEND) of an 8-byte key and the record. One writer at a time and no group
 * commit; the application's own (harness/leader.h) puts everybody who waits into one transaction. */
#include "leader.h"
#include "peer.h"

#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

struct lmdb_log {
    struct leader leader;
    MDB_env *env;
    MDB_dbi table;
    uint64_t key;
};

static void check(const char *what, int rc)
{
    if (rc != 0) {
        peer_die_text(what, mdb_strerror(rc));
    }
}

static void batch_commit(void *ctx, const struct leader_record *records, size_t count)
{
    struct lmdb_log *log = ctx;
    MDB_txn *txn = NULL;

    check("begin", mdb_txn_begin(log->env, NULL, 0, &txn));
    for (size_t i = 0; i < count; i++) {
        MDB_val key = {.mv_size = sizeof(log->key), .mv_data = &log->key};
        MDB_val value = {.mv_size = records[i].bytes};
        /* It is only read, but the interface has no const. */
        memcpy(&value.mv_data, &records[i].data, sizeof(void *));
        check("put", mdb_put(txn, log->table, &key, &value, MDB_APPEND));
        log->key++;
    }
    check("commit", mdb_txn_commit(txn));
}

static void *lmdb_open(const struct peer_run *run)
{
    struct lmdb_log *log = calloc(1, sizeof(*log));
    MDB_txn *txn = NULL;

    if (log == NULL) {
        peer_die("log", ENOMEM);
    }
    check("env", mdb_env_create(&log->env));
    check("mapsize", mdb_env_set_mapsize(log->env, (size_t)16 << 30));
    check("open",
          mdb_env_open(log->env,
                       run->dir,
                       strcmp(run->variant, "writemap") == 0 ? MDB_WRITEMAP : 0,
                       0600));
    check("begin", mdb_txn_begin(log->env, NULL, 0, &txn));
    check("table", mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &log->table));
    check("commit", mdb_txn_commit(txn));
    leader_init(&log->leader, batch_commit, log);
    log->leader.single = strcmp(run->variant, "single") == 0;
    return log;
}

static void *lmdb_thread_open(void *ctx, size_t index)
{
    (void)index;
    return leader_producer_new(&((struct lmdb_log *)ctx)->leader);
}

static void lmdb_close(void *ctx)
{
    struct lmdb_log *log = ctx;

    mdb_env_close(log->env);
    free(log);
}

static const char *lmdb_version(void)
{
    return MDB_VERSION_STRING;
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"group", "writemap", "single", NULL};
    static const struct peer peer = {
        .name = "lmdb",
        .variants = variants,
        .about = "  group     MDB_APPEND, a transaction for all who wait\n"
                 "  writemap  the same with MDB_WRITEMAP\n"
                 "  single    a transaction per record\n",
        .version = lmdb_version,
        .open = lmdb_open,
        .thread_open = lmdb_thread_open,
        .thread_close = free,
        .append = leader_producer_append,
        .close = lmdb_close,
    };

    return peer_main(&peer, argc, argv);
}
