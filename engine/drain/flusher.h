/* SPDX-License-Identifier: Apache-2.0
 * The flusher: the one thread that takes complete batches, makes them durable, and acknowledges
 * them in LSN order.
 *
 * Each turn: collect completions, acknowledge (waking the waiters of those batches and no others),
 * give slots back, take what is complete, seal the open slot if nothing is under way, submit, and
 * sleep if there was nothing to do. The first write or sync error ends it: nothing is acknowledged
 * after that. */
#ifndef WEIR_DRAIN_FLUSHER_H
#define WEIR_DRAIN_FLUSHER_H

#include "io/transfer.h"
#include "keep/keeper.h"
#include "port/io.h"
#include "stage/crowd.h"
#include "stage/stage.h"

#include <pthread.h>
#include <weir/weir.h>

#define WEIR__RUN_MAX 32u /* batches in one write */

struct weir__flusher_counters { /* written by the flusher alone (relaxed), read by anyone */
    WEIR__ATOMIC(uint64_t) appends, frame_bytes, padding_bytes, header_bytes;
    WEIR__ATOMIC(uint64_t) batches, batches_durable, batches_sealed_full, batches_sealed_idle,
        batches_oversize;
    WEIR__ATOMIC(uint64_t) write_bytes, chains, covering_syncs;
    WEIR__ATOMIC(uint64_t) inflight_max, flusher_sleeps, rotations, inflight, stalls_segment;
    WEIR__ATOMIC(uint64_t) collects, collects_met, batches_alone;
};

struct weir__flusher_config {
    struct weir__stage *stage;
    struct weir__keeper *keeper;
    struct weir__dir *dir;
    struct weir__mem *mem;
    enum weir_io io;
    uint32_t max_inflight;
    bool lend;            /* a lone producer may play the flusher's part */
    uint32_t collect_max; /* producers that are waited for before a seal. 0: no collecting */
    uint32_t block_bytes;
    uint64_t log_id;
    struct weir__epoch epoch;
    struct weir__position start;     /* what the first batch continues */
    const struct weir__ready *first; /* the segment it goes to */
    const uint8_t *first_header; /* its header block, aligned, as it stands on disk: rewritten once
                                    to try the way out. The caller's again after the start, but
                                    where stage->keep_buffers is set */
    /* The first write or sync error. Flusher thread, once. */
    void (*failed)(void *ctx, const struct weir__fault *fault);
    void *ctx;
};

/* One batch between being taken and being given back. */
enum weir__batch_state {
    WEIR__BATCH_NONE = 0,
    WEIR__BATCH_TAKEN,
    WEIR__BATCH_WRITING,
    WEIR__BATCH_UNSYNCED,
    WEIR__BATCH_SYNCING,
    WEIR__BATCH_DURABLE
};

struct weir__pending {
    enum weir__batch_state state;
    bool written;
    uint32_t slot;
    uint64_t seq;
    weir_lsn lsn;
    weir_lsn end;
    uint64_t segment_number;
    weir_lsn segment_base;
    uint64_t records;
};

/* One write, chain or sync under way on the ring. */
struct weir__flight {
    bool used;
    bool covering; /* a sync alone */
    bool chained;  /* a write linked to a sync */
    bool dsync;
    uint64_t first_seq;
    uint64_t last_seq;
    struct weir__transfer_op ops[2];
    struct weir__transfer_run run;
    struct iovec iov[WEIR__RUN_MAX];
};

struct weir__flusher {
    struct weir__flusher_config config;
    pthread_t thread;
    bool started;

    /* Result of the start, for the opener: 0 not yet, 1 ready, 2 refused. Release by the flusher,
     * acquire by the opener. */
    WEIR__ATOMIC(uint32_t) ready;
    /* Set by the joiner, when nobody can be inside a call any more. Release / acquire. */
    WEIR__ATOMIC(uint32_t) joining;
    int start_code;
    struct weir__fault start_fault;
    struct weir__queue_info queue_info;
    bool ring;        /* a queue is open */
    bool multi_dsync; /* `auto`, several pending: RWF_DSYNC writes (device with FUA) instead of a
                         covering sync */
    uint64_t sync_ns;
    char io_reason[400];

    struct weir__queue *queue;      /* set before ready, gone after the thread has left */
    struct weir__transfer transfer; /* over the queue */
    struct weir__stage_flusher stage_part;
    struct weir__pending *pending; /* by seq & pending_mask */
    uint64_t pending_mask;
    uint64_t next_written; /* seq */
    uint64_t taken_end;    /* 1 + highest seq taken */
    uint64_t next_show;    /* seq up to which batches are complete in order */
    uint32_t taken;        /* in state TAKEN */
    uint32_t unsynced;     /* in state UNSYNCED */
    uint32_t inflight;     /* flights used */
    uint32_t inflight_covering;
    struct weir__flight *flights;
    uint32_t flight_count;
    uint32_t *retained; /* acknowledged slots still open to readers, oldest first: a ring of
                           slot_count + 1 */
    uint32_t retained_head, retained_tail;
    uint32_t *hidden; /* closed to readers, one still copying */
    uint32_t hidden_count;
    struct weir__position position; /* behind the last acknowledged batch */
    uint64_t acked_segment;         /* number of the segment it lies in */
    weir_lsn acked_segment_base;
    uint64_t newest_segment; /* highest number taken */
    bool failed;
    bool alone;      /* a producer has the part */
    bool fault_late; /* `fault` is to be told by the flusher's own thread */
    struct weir__fault fault;
    struct weir__crowd crowd;
    struct weir__collect collect;
    uint64_t *waits_seen; /* by slot: its waits when its last life was acknowledged */
    struct weir__flusher_counters counters;
    struct weir__transfer_counters transfers; /* on the ring and without it */
};

/* Starts the thread and waits until it has opened its ring and made one durable write. 0; or why
 * the demanded way is refused. */
int weir__flusher_start(struct weir__flusher *flusher,
                        const struct weir__flusher_config *config,
                        struct weir__fault *fault);
/* Joins it: after weir__stage_shut, or a failure. Frees what it had. */
void weir__flusher_join(struct weir__flusher *flusher);
/* By a producer to which weir__stage_commit_alone gave the flusher's part: seals the open slot, makes
 * it durable and acknowledges it, and gives the part back; or hands it over, wherever it got to, when
 * there is more to do than that. The caller waits for its record as ever. Does I/O; tells nobody of a
 * failure: the flusher does. */
void weir__flusher_alone(struct weir__flusher *flusher);
/* For weir__stage_config.wake_ring. */
void weir__flusher_wake(struct weir__flusher *flusher);
uint64_t weir__flusher_memory(uint32_t slot_count, uint32_t max_inflight);

/* ---- between flusher.c and submit.c ---------------------------------------------------------- */

struct weir__pending *weir__flusher_pending(struct weir__flusher *flusher, uint64_t seq);
void weir__flusher_fail(struct weir__flusher *flusher,
                        int code,
                        const char *what,
                        uint64_t segment_number,
                        uint64_t offset,
                        weir_lsn lsn);
/* Opens the ring as the config asks, and tries the way to the device once. */
int weir__submit_open(struct weir__flusher *flusher, struct weir__fault *fault);
void weir__submit_close(struct weir__flusher *flusher);
/* Writes the one batch that is taken, by this thread, durably. Any thread that has the part. */
void weir__submit_alone(struct weir__flusher *flusher);
/* Submits what is taken, as far as the way and max_inflight allow. True if anything was done. */
bool weir__submit_taken(struct weir__flusher *flusher);
/* Collects completions; wait: sleeps for one (or a wake-up). True if there was any. */
bool weir__submit_reap(struct weir__flusher *flusher, bool wait);

static inline void weir__tally(WEIR__ATOMIC(uint64_t) *counter, uint64_t more)
{
    /* One writer: a relaxed load and store do; nothing is published by a figure. */
    weir__store(counter, weir__load(counter, relaxed) + more, relaxed);
}

#endif
