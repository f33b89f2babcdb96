/* SPDX-License-Identifier: Apache-2.0
 * RocksDB: one put of an 8-byte key and the record per append, with sync. Of the engine only the
 * write-ahead log counts here, so the memtable is made as cheap as it can be had, and large enough
 * that no flush falls into the window. */
#include "peer.h"

#include <errno.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PREFILL_VALUE_BYTES = 1 << 20,
    /* wal_recovery_mode: 7.8 quietly turns recycling off in every other mode. */
    SKIP_ANY_CORRUPTED_RECORDS = 3,
};

struct rocksdb_log {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write_options;
    /* relaxed: only unique. */
    _Atomic uint64_t key;
};

static void error_check(const char *what, char *error)
{
    if (error != NULL) {
        peer_die_text(what, error);
    }
}

/* Two logs are filled and left behind; the next one is written over the first. */
static void logs_prefill(struct rocksdb_log *log, uint64_t bytes)
{
    rocksdb_writeoptions_t *no_sync = rocksdb_writeoptions_create();
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
    char *value = calloc(1, PREFILL_VALUE_BYTES);
    char *error = NULL;

    if (value == NULL) {
        peer_die("prefill", ENOMEM);
    }
    rocksdb_flushoptions_set_wait(flush, 1);
    for (int i = 0; i < 2; i++) {
        for (uint64_t at = 0; at < bytes; at += PREFILL_VALUE_BYTES) {
            rocksdb_put(log->db, no_sync, "prefill", 7, value, PREFILL_VALUE_BYTES, &error);
            error_check("prefill", error);
        }
        rocksdb_flush(log->db, flush, &error);
        error_check("flush", error);
    }
    free(value);
    rocksdb_flushoptions_destroy(flush);
    rocksdb_writeoptions_destroy(no_sync);
}

static void *rocksdb_log_open(const struct peer_run *run)
{
    struct rocksdb_log *log = calloc(1, sizeof(*log));
    const bool tuned = strcmp(run->variant, "default") != 0;
    char *error = NULL;

    if (log == NULL) {
        peer_die("log", ENOMEM);
    }
    log->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(log->options, 1);
    rocksdb_options_set_write_buffer_size(log->options, (size_t)4 << 30);
    rocksdb_options_set_disable_auto_compactions(log->options, 1);
    rocksdb_options_set_compression(log->options, rocksdb_no_compression);
    if (tuned) {
        rocksdb_options_set_memtable_vector_rep(log->options);
        rocksdb_options_set_allow_concurrent_memtable_write(log->options, 0);
        rocksdb_options_set_enable_write_thread_adaptive_yield(log->options, 0);
        rocksdb_options_set_recycle_log_file_num(log->options, 2);
        rocksdb_options_set_wal_recovery_mode(log->options, SKIP_ANY_CORRUPTED_RECORDS);
        if (strcmp(run->variant, "pipelined") == 0) {
            rocksdb_options_set_enable_pipelined_write(log->options, 1);
        }
        if (strcmp(run->variant, "yield") == 0) {
            rocksdb_options_set_enable_write_thread_adaptive_yield(log->options, 1);
        }
    }
    log->db = rocksdb_open(log->options, run->dir, &error);
    error_check("open", error);
    log->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(log->write_options, 1);
    if (tuned) {
        logs_prefill(log, run->bytes_likely);
    }
    return log;
}

static void rocksdb_log_append(void *ctx, const void *data, size_t bytes)
{
    struct rocksdb_log *log = ctx;
    const uint64_t key = atomic_fetch_add_explicit(&log->key, 1, memory_order_relaxed);
    char *error = NULL;

    rocksdb_put(log->db, log->write_options, (const char *)&key, sizeof(key), data, bytes, &error);
    error_check("put", error);
}

static void rocksdb_log_close(void *ctx)
{
    struct rocksdb_log *log = ctx;

    rocksdb_cancel_all_background_work(log->db, 1);
    rocksdb_close(log->db);
    rocksdb_writeoptions_destroy(log->write_options);
    rocksdb_options_destroy(log->options);
    free(log);
}

static const char *rocksdb_log_version(void)
{
    return COMPARE_VERSION;
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"pipelined", "recycled", "yield", "default", NULL};
    static const struct peer peer = {
        .name = "rocksdb",
        .variants = variants,
        .about = "  pipelined  recycled, filled log files, vector memtable, no adaptive yield,\n"
                 "             enable_pipelined_write\n"
                 "  recycled   the same without enable_pipelined_write\n"
                 "  yield      as recycled, with the adaptive yield that is RocksDB's default\n"
                 "  default    as it comes, with a memtable that is not flushed in the window\n",
        .version = rocksdb_log_version,
        .open = rocksdb_log_open,
        .append = rocksdb_log_append,
        .close = rocksdb_log_close,
    };

    return peer_main(&peer, argc, argv);
}
