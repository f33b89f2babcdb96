/* SPDX-License-Identifier: Apache-2.0
 * WiredTiger: a record into its log with log_printf, then log_flush("sync=on"), each producer with
 * a session of its own. log_printf formats text, so the records hold no zero bytes; this version
 * refuses inserts by a log cursor, and there is no rawer append. */
#include "peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wiredtiger.h>

struct wt_log {
    WT_CONNECTION *connection;
    bool insert;
};

struct wt_producer {
    struct wt_log *log;
    WT_SESSION *session;
    WT_CURSOR *cursor;
};

static void check(const char *what, int rc)
{
    if (rc != 0) {
        peer_die_text(what, wiredtiger_strerror(rc));
    }
}

static void *wt_open(const struct peer_run *run)
{
    struct wt_log *log = calloc(1, sizeof(*log));
    char config[512];
    const bool dsync = strcmp(run->variant, "dsync") == 0;

    if (log == NULL) {
        peer_die("log", ENOMEM);
    }
    log->insert = strcmp(run->variant, "insert") == 0;
    snprintf(config,
             sizeof(config),
             "create,cache_size=1GB,session_max=5000,log=(enabled=true,file_max=512MB,"
             "prealloc=true%s),transaction_sync=(enabled=%s,method=%s)",
             strcmp(run->variant, "zero-fill") == 0 ? ",zero_fill=true" : "",
             log->insert || dsync ? "true" : "false",
             dsync ? "dsync" : "fsync");
    check("open", wiredtiger_open(run->dir, NULL, config, &log->connection));
    if (log->insert || dsync) {
        WT_SESSION *session = NULL;
        log->insert = true;
        check("session", log->connection->open_session(log->connection, NULL, NULL, &session));
        check("create", session->create(session, "table:log", "key_format=r,value_format=u"));
        check("close", session->close(session, NULL));
    }
    return log;
}

static void *wt_thread_open(void *ctx, size_t index)
{
    struct wt_producer *producer = calloc(1, sizeof(*producer));
    struct wt_log *log = ctx;

    (void)index;
    if (producer == NULL) {
        peer_die("producer", ENOMEM);
    }
    producer->log = log;
    check("session",
          log->connection->open_session(log->connection, NULL, NULL, &producer->session));
    if (log->insert) {
        check("cursor",
              producer->session->open_cursor(producer->session,
                                             "table:log",
                                             NULL,
                                             "append=true",
                                             &producer->cursor));
    }
    return producer;
}

static void wt_append(void *thread, const void *data, size_t bytes)
{
    struct wt_producer *producer = thread;
    WT_SESSION *session = producer->session;

    if (producer->log->insert) {
        const WT_ITEM item = {.data = data, .size = bytes};
        producer->cursor->set_value(producer->cursor, &item);
        check("insert", producer->cursor->insert(producer->cursor));
        return;
    }
    check("log_printf", session->log_printf(session, "%.*s", (int)bytes, (const char *)data));
    check("log_flush", session->log_flush(session, "sync=on"));
}

static void wt_thread_close(void *thread)
{
    struct wt_producer *producer = thread;

    check("session close", producer->session->close(producer->session, NULL));
    free(producer);
}

static void wt_close(void *ctx)
{
    struct wt_log *log = ctx;

    check("close", log->connection->close(log->connection, "leak_memory=true"));
    free(log);
}

static const char *wt_version(void)
{
    return COMPARE_VERSION;
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"log", "zero-fill", "insert", "dsync", NULL};
    static const struct peer peer = {
        .name = "wiredtiger",
        .variants = variants,
        .about = "  log        log_printf and log_flush(sync=on), log files allocated ahead\n"
                 "  zero-fill  the same with log files that are filled with zeros ahead\n"
                 "  insert     a row per record, transaction_sync with fsync\n"
                 "  dsync      a row per record, transaction_sync with dsync\n",
        .text = true,
        .version = wt_version,
        .open = wt_open,
        .thread_open = wt_thread_open,
        .thread_close = wt_thread_close,
        .append = wt_append,
        .close = wt_close,
    };

    return peer_main(&peer, argc, argv);
}
