/* SPDX-License-Identifier: Apache-2.0
 * The queue of the I/O seam over plain calls.
 *
 * A push copies its ops and puts their runs (ops linked to each other) in a line. Whoever is free
 * takes the first run and makes its calls one after another; each result goes to the owner as soon
 * as it is there. A short or failed op cancels the rest of its run, as io_uring does. A reap hands
 * results out and, while there are fewer than asked for, carries out a run that nobody has taken,
 * or sleeps.
 *
 * So an owner with one run at a time needs no other thread: the push of a run with nothing else
 * under way wakes nobody, and the wait behind it makes the calls. Threads are started when a run
 * would wait for one that is not there, up to a bound, and are joined at the close. An owner that
 * leaves a run lying (it only looks, its time is up, it was woken) calls a thread for it, so that
 * none waits for a reap that may not come. Where no thread can be started, the owner does all.
 *
 * One mutex and two conditions, no lock-free list: every op is a system call of microseconds, and
 * those who share the queue are few. It is never held over a call, but over the start of a thread.
 *
 * EINTR is the seam's calls' to deal with. The lock file: a call that a killed process's thread has
 * begun ends before the lock is released. A thread in a call leaves it before it exits, the table
 * of descriptors goes with the last thread that exits, and the lock with the table. Ops that no
 * thread had begun are never carried out. Nothing has to be registered for that, as it has for a
 * ring.
 *
 * Owner: push, reap, close. Pool threads: pool_main. Any thread: wake, faults. */
#include "port/pool.h"

#include "base/check.h"
#include "base/num.h"
#include "port/clock.h"
#include "port/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define POOL_NS_PER_S UINT64_C(1000000000)
#define TASK_NONE UINT32_MAX
/* Of one read: the kernel's own bound, whole pages below INT32_MAX. */
#define POOL_READ_BYTES UINT64_C(0x7ffff000)

/* An op with the place for its result. Its fields belong to who carries out its run, from the
 * taking until the result is handed in; else they are guarded by the mutex. */
struct pool_task {
    struct weir__op op;
    int32_t result;
    uint32_t next;     /* of the free ones, of its run, or of those that are done */
    uint32_t next_run; /* of a run's first op: the run behind it in the line */
};

struct pool {
    size_t bytes; /* of this block, tasks included */
    struct weir__io *io;
    unsigned entries;
    unsigned thread_limit;

    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t work;   /* a run is there, or the end; pool threads wait */
    pthread_cond_t some;   /* enough results are there, or a wake; the owner waits */
    unsigned in_flight;    /* ops whose event the owner has not got */
    uint32_t free_head;
    uint32_t todo_head; /* runs that nobody has taken */
    uint32_t todo_tail;
    unsigned todo_runs;
    uint32_t done_head;
    uint32_t done_tail;
    unsigned done_count;
    unsigned owner_waits_for; /* results; 0: it does not sleep */
    bool woken;
    bool stopping;
    unsigned thread_count;
    unsigned free_threads; /* of these, without a run: each looks for one before it sleeps */
    pthread_t threads[WEIR__POOL_THREADS];

    struct pool_task *tasks;
};

static struct pool *pool_of(struct weir__queue *queue)
{
    return (struct pool *)queue;
}

static void pool_lock(struct pool *pool)
{
    const int error = pthread_mutex_lock(&pool->mutex);
    weir__check(error == 0);
}

static void pool_unlock(struct pool *pool)
{
    const int error = pthread_mutex_unlock(&pool->mutex);
    weir__check(error == 0);
}

/* ---- carrying out ---- */

static size_t op_bytes(const struct weir__op *op)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < op->iov_count; i++) {
        bytes += op->iov[i].iov_len;
    }
    return bytes;
}

/* A read of several ranges is one call for each; what came before an error counts. */
static ssize_t op_read(struct weir__io *io, const struct weir__op *op)
{
    ssize_t done = 0;
    for (unsigned i = 0; i < op->iov_count; i++) {
        size_t bytes = op->iov[i].iov_len;
        /* The sum of the calls must be a result. A first range that is none comes back short, as
         * from the kernel: nothing at all would read as the file's end. */
        if (done == 0) {
            bytes = (size_t)weir__min_u64(bytes, POOL_READ_BYTES);
        } else if (bytes > (size_t)(INT32_MAX - done)) {
            break;
        }
        const ssize_t got =
            io->ops->read(io, op->file, op->iov[i].iov_base, bytes, op->offset + (uint64_t)done);
        if (got < 0) {
            return done > 0 ? done : got;
        }
        done += got;
        if ((size_t)got < op->iov[i].iov_len) {
            break;
        }
    }
    return done;
}

static int32_t op_carry_out(struct weir__io *io, const struct weir__op *op)
{
    ssize_t result = -EINVAL;
    switch (op->kind) {
    case WEIR__OP_WRITE:
        result = io->ops->write(io, op->file, op->iov, op->iov_count, op->offset, op->dsync);
        break;
    case WEIR__OP_READ:
        result = op_read(io, op);
        break;
    case WEIR__OP_SYNC:
        result = io->ops->sync(io, op->file);
        break;
    }
    weir__check(result <= INT32_MAX);
    return (int32_t)result;
}

static bool op_in_full(const struct weir__op *op, int32_t result)
{
    return op->kind == WEIR__OP_SYNC ? result == 0 : result >= 0 && (size_t)result == op_bytes(op);
}

/* Hands a result in. Under the mutex. */
static void task_done(struct pool *pool, uint32_t index, int32_t result)
{
    pool->tasks[index].result = result;
    pool->tasks[index].next = TASK_NONE;
    if (pool->done_count == 0) {
        pool->done_head = index;
    } else {
        pool->tasks[pool->done_tail].next = index;
    }
    pool->done_tail = index;
    pool->done_count++;
    if (pool->owner_waits_for > 0 && pool->done_count >= pool->owner_waits_for) {
        (void)pthread_cond_signal(&pool->some);
    }
}

/* Takes the first run from the line and carries it out. Called and left under the mutex, which is
 * not held meanwhile. */
static void pool_run(struct pool *pool)
{
    weir__check(pool->todo_runs > 0);
    uint32_t index = pool->todo_head;
    pool->todo_head = pool->tasks[index].next_run;
    pool->todo_runs--;
    bool cut = false;
    while (index != TASK_NONE) {
        const struct pool_task *const task = &pool->tasks[index];
        const uint32_t next = task->next;
        int32_t result = -ECANCELED;
        if (!cut) {
            pool_unlock(pool);
            result = op_carry_out(pool->io, &task->op);
            cut = !op_in_full(&task->op, result);
            pool_lock(pool);
        }
        task_done(pool, index, result);
        index = next;
    }
}

static void *pool_main(void *arg)
{
    struct pool *const pool = arg;
    pool_lock(pool);
    for (;;) {
        if (pool->todo_runs > 0) {
            pool->free_threads--;
            pool_run(pool);
            pool->free_threads++;
        } else if (pool->stopping) {
            break;
        } else {
            (void)pthread_cond_wait(&pool->work, &pool->mutex);
        }
    }
    pool_unlock(pool);
    return NULL;
}

/* Sees to it that every run in the line has a thread that will look for it, as far as the bound
 * allows. Under the mutex. A thread that is free but not asleep yet looks by itself; signals beyond
 * the sleepers are lost and cost nothing. */
static void pool_call(struct pool *pool)
{
    while (pool->todo_runs > pool->free_threads && pool->thread_count < pool->thread_limit) {
        if (weir__thread_start(&pool->threads[pool->thread_count], "weir-pool", pool_main, pool) !=
            0) {
            break;
        }
        pool->thread_count++;
        pool->free_threads++;
    }
    const uint64_t calls = weir__min_u64(pool->todo_runs, pool->free_threads);
    for (uint64_t i = 0; i < calls; i++) {
        (void)pthread_cond_signal(&pool->work);
    }
}

/* ---- the owner's ---- */

int weir__pool_push(struct weir__io *io,
                    struct weir__queue *queue,
                    const struct weir__op *ops,
                    unsigned count)
{
    (void)io;
    struct pool *const pool = pool_of(queue);
    if (count == 0) {
        return 0;
    }
    weir__check(!ops[count - 1].link);
    pool_lock(pool);
    if (count > pool->entries - pool->in_flight) {
        pool_unlock(pool);
        return -EAGAIN;
    }
    const bool alone = pool->in_flight == 0;
    uint32_t before = TASK_NONE; /* of the same run */
    unsigned runs = 0;
    for (unsigned i = 0; i < count; i++) {
        const uint32_t index = pool->free_head;
        weir__check(index < pool->entries);
        struct pool_task *const task = &pool->tasks[index];
        pool->free_head = task->next;
        *task = (struct pool_task){.op = ops[i], .next = TASK_NONE, .next_run = TASK_NONE};
        if (before != TASK_NONE) {
            pool->tasks[before].next = index;
        } else {
            if (pool->todo_runs == 0) {
                pool->todo_head = index;
            } else {
                pool->tasks[pool->todo_tail].next_run = index;
            }
            pool->todo_tail = index;
            pool->todo_runs++;
            runs++;
        }
        before = ops[i].link ? index : TASK_NONE;
    }
    pool->in_flight += count;
    if (!alone || runs > 1) {
        pool_call(pool);
    }
    pool_unlock(pool);
    return 0;
}

/* Hands out what is there. Under the mutex. */
static unsigned pool_collect(struct pool *pool, struct weir__event *events, unsigned max)
{
    unsigned count = 0;
    while (count < max && pool->done_count > 0) {
        const uint32_t index = pool->done_head;
        struct pool_task *const task = &pool->tasks[index];
        pool->done_head = task->next;
        pool->done_count--;
        events[count++] = (struct weir__event){.data = task->op.data, .result = task->result};
        task->next = pool->free_head;
        pool->free_head = index;
        pool->in_flight--;
    }
    return count;
}

/* Sleeps until `need` results are there, a wake, or the deadline (false). Under the mutex. */
static bool pool_sleep(struct pool *pool, unsigned need, uint64_t deadline_ns)
{
    int error;
    pool->owner_waits_for = need;
    if (deadline_ns == WEIR__NEVER) {
        error = pthread_cond_wait(&pool->some, &pool->mutex);
    } else {
        const struct timespec deadline = {
            .tv_sec = (time_t)(deadline_ns / POOL_NS_PER_S),
            .tv_nsec = (long)(deadline_ns % POOL_NS_PER_S),
        };
        error = pthread_cond_timedwait(&pool->some, &pool->mutex, &deadline);
    }
    pool->owner_waits_for = 0;
    return error != ETIMEDOUT;
}

int weir__pool_reap(struct weir__io *io,
                    struct weir__queue *queue,
                    struct weir__event *events,
                    unsigned max,
                    unsigned min,
                    uint64_t deadline_ns)
{
    (void)io;
    struct pool *const pool = pool_of(queue);
    weir__check(max > 0);
    pool_lock(pool);
    const unsigned most = pool->in_flight > 0 ? pool->in_flight : 1;
    const unsigned need = (unsigned)weir__min_u64(min, most);
    bool in_time = true;
    while (pool->done_count < need && !pool->woken && in_time) {
        if (deadline_ns != WEIR__NEVER && weir__now_ns() >= deadline_ns) {
            break;
        }
        if (pool->todo_runs > 0) {
            pool_run(pool);
        } else {
            in_time = pool_sleep(pool, need, deadline_ns);
        }
    }
    if (min > 0) {
        pool->woken = false;
    }
    if (pool->todo_runs > 0) {
        pool_call(pool);
        if (pool->thread_count == 0) {
            pool_run(pool);
        }
    }
    const unsigned count = pool_collect(pool, events, max);
    pool_unlock(pool);
    return (int)count;
}

void weir__pool_wake(struct weir__io *io, struct weir__queue *queue)
{
    (void)io;
    struct pool *const pool = pool_of(queue);
    pool_lock(pool);
    pool->woken = true;
    (void)pthread_cond_signal(&pool->some);
    pool_unlock(pool);
}

void weir__pool_faults(struct weir__io *io,
                       struct weir__queue *queue,
                       struct weir__queue_faults *faults_out)
{
    /* No ring, nothing to overflow: every op has a place for its result. */
    (void)io;
    (void)queue;
    memset(faults_out, 0, sizeof *faults_out);
}

unsigned weir__pool_threads(struct weir__queue *queue)
{
    struct pool *const pool = pool_of(queue);
    pool_lock(pool);
    const unsigned count = pool->thread_count;
    pool_unlock(pool);
    return count;
}

/* ---- opening and closing ---- */

static int pool_init_locks(struct pool *pool)
{
    int error = pthread_mutex_init(&pool->mutex, NULL);
    if (error != 0) {
        return -error;
    }
    error = pthread_cond_init(&pool->work, NULL);
    if (error != 0) {
        (void)pthread_mutex_destroy(&pool->mutex);
        return -error;
    }
    /* Deadlines are of the monotonic clock. */
    pthread_condattr_t attributes;
    error = pthread_condattr_init(&attributes);
    if (error == 0) {
        error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        error = error != 0 ? error : pthread_cond_init(&pool->some, &attributes);
        (void)pthread_condattr_destroy(&attributes);
    }
    if (error != 0) {
        (void)pthread_cond_destroy(&pool->work);
        (void)pthread_mutex_destroy(&pool->mutex);
    }
    return -error;
}

int weir__pool_open(struct weir__io *io,
                    struct weir__mem *mem,
                    const struct weir__queue_config *config,
                    struct weir__queue **queue_out,
                    struct weir__queue_info *info_out)
{
    memset(info_out, 0, sizeof *info_out);
    if (config->entries == 0 || config->entries > WEIR__QUEUE_ENTRIES_MAX) {
        return -EINVAL;
    }
    const size_t bytes = sizeof(struct pool) + config->entries * sizeof(struct pool_task);
    struct pool *const pool = weir__mem_alloc(mem, bytes, _Alignof(struct pool));
    if (pool == NULL) {
        return -ENOMEM;
    }
    const int error = pool_init_locks(pool);
    if (error != 0) {
        weir__mem_free(mem, pool, bytes);
        return error;
    }
    pool->bytes = bytes;
    pool->io = io;
    pool->entries = config->entries;
    pool->thread_limit = (unsigned)weir__min_u64(config->entries, WEIR__POOL_THREADS);
    pool->tasks = (struct pool_task *)(pool + 1);
    for (uint32_t i = 0; i < config->entries; i++) {
        pool->tasks[i].next = i + 1 < config->entries ? i + 1 : TASK_NONE;
    }
    info_out->entries = pool->entries;
    info_out->threads = pool->thread_limit;
    (void)snprintf(info_out->note,
                   sizeof info_out->note,
                   "%s%s%s",
                   config->kernel_poll ? "no kernel poll: no ring" : "",
                   config->kernel_poll && config->buffer_count > 0 ? "; " : "",
                   config->buffer_count > 0 ? "buffers not registered: no ring" : "");
    *queue_out = (struct weir__queue *)pool;
    return 0;
}

void weir__pool_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue)
{
    (void)io;
    struct pool *const pool = pool_of(queue);
    if (pool == NULL) {
        return;
    }
    pool_lock(pool);
    while (pool->todo_runs > 0) {
        pool_run(pool);
    }
    pool->stopping = true;
    (void)pthread_cond_broadcast(&pool->work);
    pool_unlock(pool);
    /* A thread with a run ends it before it sees the end. */
    for (unsigned i = 0; i < pool->thread_count; i++) {
        const int error = pthread_join(pool->threads[i], NULL);
        weir__check(error == 0);
    }
    weir__check(pool->done_count == pool->in_flight);
    (void)pthread_mutex_destroy(&pool->mutex);
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_cond_destroy(&pool->some);
    weir__mem_free(mem, pool, pool->bytes);
}
