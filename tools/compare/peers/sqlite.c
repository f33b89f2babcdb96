/* SPDX-License-Identifier: Apache-2.0
 * SQLite in WAL mode with synchronous=FULL: an insert per record into one table, through one
 * connection. SQLite has no group commit; the application's own (harness/leader.h) puts everybody
 * who waits into one transaction. */
#include "leader.h"
#include "peer.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sqlite_log {
    struct leader leader;
    sqlite3 *db;
    sqlite3_stmt *begin;
    sqlite3_stmt *insert;
    sqlite3_stmt *commit;
};

static void check(struct sqlite_log *log, const char *what, int rc, int wanted)
{
    if (rc != wanted) {
        peer_die_text(what, sqlite3_errmsg(log->db));
    }
}

static void statement_run(struct sqlite_log *log, sqlite3_stmt *statement, const char *what)
{
    check(log, what, sqlite3_step(statement), SQLITE_DONE);
    sqlite3_reset(statement);
}

static void record_insert(struct sqlite_log *log, const struct leader_record *record)
{
    check(log,
          "bind",
          sqlite3_bind_blob(log->insert, 1, record->data, (int)record->bytes, SQLITE_STATIC),
          SQLITE_OK);
    statement_run(log, log->insert, "insert");
}

static void batch_commit(void *ctx, const struct leader_record *records, size_t count)
{
    struct sqlite_log *log = ctx;

    if (log->leader.single) {
        record_insert(log, records); /* a transaction by itself */
        return;
    }
    statement_run(log, log->begin, "begin");
    for (size_t i = 0; i < count; i++) {
        record_insert(log, &records[i]);
    }
    statement_run(log, log->commit, "commit");
}

static void execute(struct sqlite_log *log, const char *sql)
{
    check(log, sql, sqlite3_exec(log->db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static sqlite3_stmt *prepare(struct sqlite_log *log, const char *sql)
{
    sqlite3_stmt *statement = NULL;

    check(log, sql, sqlite3_prepare_v2(log->db, sql, -1, &statement, NULL), SQLITE_OK);
    return statement;
}

static void *sqlite_log_open(const struct peer_run *run)
{
    struct sqlite_log *log = calloc(1, sizeof(*log));
    char path[4200];

    if (log == NULL) {
        peer_die("log", ENOMEM);
    }
    snprintf(path, sizeof(path), "%s/log.db", run->dir);
    check(log,
          "open",
          sqlite3_open_v2(path,
                          &log->db,
                          SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                          NULL),
          SQLITE_OK);
    if (strcmp(run->variant, "exclusive") == 0 || strcmp(run->variant, "pages64") == 0) {
        execute(log, "PRAGMA locking_mode=EXCLUSIVE");
    }
    if (strcmp(run->variant, "pages64") == 0) {
        execute(log, "PRAGMA page_size=65536");
    }
    execute(log, "PRAGMA journal_mode=WAL");
    execute(log, "PRAGMA synchronous=FULL");
    execute(log, "CREATE TABLE log(lsn INTEGER PRIMARY KEY, record BLOB)");
    log->begin = prepare(log, "BEGIN IMMEDIATE");
    log->insert = prepare(log, "INSERT INTO log(record) VALUES(?1)");
    log->commit = prepare(log, "COMMIT");
    leader_init(&log->leader, batch_commit, log);
    log->leader.single = strcmp(run->variant, "single") == 0;
    return log;
}

static void *sqlite_thread_open(void *ctx, size_t index)
{
    (void)index;
    return leader_producer_new(&((struct sqlite_log *)ctx)->leader);
}

static void sqlite_log_close(void *ctx)
{
    struct sqlite_log *log = ctx;

    sqlite3_finalize(log->begin);
    sqlite3_finalize(log->insert);
    sqlite3_finalize(log->commit);
    sqlite3_close(log->db);
    free(log);
}

static const char *sqlite_version(void)
{
    return sqlite3_libversion();
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"exclusive", "group", "pages64", "single", NULL};
    static const struct peer peer = {
        .name = "sqlite",
        .variants = variants,
        .about = "  exclusive  WAL, synchronous=FULL, locking_mode=EXCLUSIVE, a transaction for "
                 "all who\n"
                 "             wait\n"
                 "  group      the same with the normal locking_mode\n"
                 "  pages64    as exclusive, with pages of 64 KiB\n"
                 "  single     the normal locking_mode, a transaction per record\n",
        .version = sqlite_version,
        .open = sqlite_log_open,
        .thread_open = sqlite_thread_open,
        .thread_close = free,
        .append = leader_producer_append,
        .close = sqlite_log_close,
    };

    return peer_main(&peer, argc, argv);
}
