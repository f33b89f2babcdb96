/* SPDX-License-Identifier: Apache-2.0
 * The queue of the I/O seam over io_uring.
 *
 * A push takes a ticket per op (it holds the caller's data while the op is with the kernel),
 * reserves and prepares all entries, and hands them over in one io_uring_submit; one that is longer
 * than the ring goes out in pieces, at the borders of its runs. A reap takes completions, gives
 * each one's ticket back and, while there are fewer than asked for, sleeps in the kernel: one
 * io_uring_enter for all of them. It does not look for work of the kernel's that is due before it
 * sleeps, since that would be a call of its own.
 *
 * queue_wake is a completion: a standing read of an eventfd, handed over with the sleep. The kernel
 * ends a sleep for n completions when n are there and not before, so one would not do for n > 1.
 * Once a caller has slept for several, no-ops are linked behind that read, as many as make any
 * sleep end.
 *
 * Ops in flight are bounded by the completion ring, with the wake's own, so that it never
 * overflows.
 *
 * What can go wrong, and the answer:
 * - EINTR from a submit means that nothing was taken: again. EAGAIN and EBUSY: let completions in,
 * again, bounded.
 * - The kernel may take only the first part of a push (it ran out of memory). Were the rest sent
 * later, a sync whose write stayed behind in the first part would run unlinked. So the rest of a
 * run that was cut comes back as -ECANCELED without having run; runs that were not begun are sent
 * whole.
 * - A short write is a positive result and cancels the rest of its run: events are passed on as
 * they are.
 *
 * With kernel_poll a thread of the kernel takes the entries as soon as they are shown to it, so a
 * push stands once it was shown, and what refuses it comes back in events.
 *
 * One thread owns a queue, the one that opened it, or (`wanders`) several, one at a time; only
 * queue_wake and queue_faults may be called by others meanwhile. */
#include "port/uring.h"

#include "base/atomic.h"
#include "base/check.h"
#include "base/compiler.h"
#include "base/num.h"
#include "base/plant.h"
#include "port/clock.h"
#include "port/tsan.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define URING_NS_PER_S UINT64_C(1000000000)
/* Descriptors 0 to 2 get what others print. */
#define URING_FILE_MIN 3
/* A full kernel is asked again after 100 us, for one second at most. */
#define URING_RETRIES 10000u
#define URING_RETRY_NS UINT64_C(100000)
/* So long a push waits for the kernel's thread to take what is in the ring. */
#define URING_ROOM_NS INT64_C(10000000000)
/* So long a reap sleeps that no wake would reach. */
#define URING_DEAF_NS UINT64_C(100000)
/* user_data of entries that belong to no ticket. */
#define URING_TAG_WAKE (UINT64_C(1) << 62)
#define URING_TAG_NOTHING (UINT64_C(1) << 61)
#define URING_TAG_CROWD (UINT64_C(1) << 60)
/* Workers of the kernel per ring thread: syncs run in them, and a few at a time are all that a disk
 * takes. */
#define URING_WORKERS_BOUNDED 8u
#define URING_WORKERS_UNBOUNDED 2u
/* Waits with a deadline without a helper op (5.11), and completions that are never dropped (5.5).
 */
#define URING_FEATURES (IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP)

enum ticket_state { TICKET_FREE = 0, TICKET_IN_KERNEL, TICKET_CANCELED };

struct uring_ticket {
    uint64_t data;
    struct io_uring_sqe *entry; /* valid during the push only */
    uint32_t next;              /* in the free list, the canceled list, or the push under way */
    enum ticket_state state;
};

#define TICKET_NONE UINT32_MAX

struct weir__queue {
    struct io_uring ring;
    size_t bytes; /* of this block, tickets and buffers included */
    unsigned entries;
    unsigned in_flight; /* tickets not free */
    int wake_file;
    bool wake_armed;     /* the read of wake_file is with the kernel, or prepared */
    bool wake_own;       /* it was ended by ourselves, to be armed anew with a crowd */
    bool crowded;        /* somebody has slept for several: it is armed with a crowd */
    unsigned crowd_due;  /* no-ops behind the read that have not come back */
    unsigned crowd_full; /* as many as there is room for */
    bool closing;        /* it is not to be armed again */
    bool kernel_poll;
    bool lock_registered;
    bool buffers_registered;
    bool overflowing; /* the kernel's flag, as last seen */
    uint32_t free_head;
    uint32_t canceled_head; /* finished without the kernel, not yet reaped */
    uint64_t wake_value;    /* where the standing read puts the eventfd's count */
    /* Times that the overflow flag was seen to rise. Relaxed: a figure, nothing is published by it.
     * Written by the owner, read by any thread. */
    WEIR__ATOMIC(uint64_t) overflows;
    unsigned buffer_count;
    struct iovec *buffers; /* as registered */
    struct uring_ticket *tickets;
};

/* ---- setting a ring up ---- */

/* From the newest kernel to the oldest: each set is tried only after -EINVAL for the one before.
 * SUBMIT_ALL: an entry that fails does not stop the ones behind it. SINGLE_ISSUER and
 * DEFER_TASKRUN: completions are worked off inside our own calls and never interrupt other work.
 * TASKRUN_FLAG: a peek sees when that is due. R_DISABLED: the ring starts only after it was
 * restricted to what the engine does. */
static const unsigned uring_setups[] = {
    IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
        IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_R_DISABLED,
};
/* A ring that wanders begins here. What completes is worked off by the thread that submitted it,
 * and that one may be busy elsewhere when another waits: it has to be interrupted. */
#define URING_SETUP_WANDERS 3u
/* With the kernel's thread nobody issues but that one; the rest would be refused. */
static const unsigned uring_setups_poll[] = {
    IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SQPOLL,
    IORING_SETUP_R_DISABLED | IORING_SETUP_SQPOLL,
};

static int uring_try(struct io_uring *ring,
                     unsigned ring_entries,
                     unsigned idle_ms,
                     const unsigned *setups,
                     size_t setup_count)
{
    int error = -EINVAL;
    for (size_t i = 0; i < setup_count && error == -EINVAL; i++) {
        struct io_uring_params params;
        memset(&params, 0, sizeof params);
        params.flags = setups[i];
        params.sq_thread_idle = (setups[i] & IORING_SETUP_SQPOLL) != 0 ? idle_ms : 0;
        error = io_uring_queue_init_params(ring_entries, ring, &params);
    }
    return error;
}

/* What every ring of ours must have, and where its descriptor must be. Ends the ring if not. */
static int uring_settle(struct io_uring *ring)
{
    if ((ring->features & URING_FEATURES) != URING_FEATURES) {
        io_uring_queue_exit(ring);
        return -EOPNOTSUPP;
    }
    if (ring->ring_fd < URING_FILE_MIN) {
        const int raised = fcntl(ring->ring_fd, F_DUPFD_CLOEXEC, URING_FILE_MIN);
        if (raised < 0) {
            const int error = -errno;
            io_uring_queue_exit(ring);
            return error;
        }
        (void)close(ring->ring_fd);
        ring->ring_fd = raised;
        ring->enter_ring_fd = raised;
    }
    return 0;
}

static int uring_init(struct io_uring *ring, unsigned ring_entries, bool wanders)
{
    const unsigned first = wanders ? URING_SETUP_WANDERS : 0;
    const int error = uring_try(ring,
                                ring_entries,
                                0,
                                uring_setups + first,
                                WEIR__ARRAY_COUNT(uring_setups) - first);
    return error != 0 ? error : uring_settle(ring);
}

static int uring_init_poll(struct io_uring *ring, unsigned ring_entries, unsigned idle_ms)
{
    const int error = uring_try(ring,
                                ring_entries,
                                idle_ms,
                                uring_setups_poll,
                                WEIR__ARRAY_COUNT(uring_setups_poll));
    return error != 0 ? error : uring_settle(ring);
}

/* The ops that a ring of ours ever carries. */
static const struct {
    uint8_t code;
    const char *name;
} uring_ops[] = {
    {IORING_OP_NOP, "NOP"},
    {IORING_OP_READ, "READ"},
    {IORING_OP_READV, "READV"},
    {IORING_OP_READ_FIXED, "READ_FIXED"},
    {IORING_OP_WRITE, "WRITE"},
    {IORING_OP_WRITEV, "WRITEV"},
    {IORING_OP_WRITE_FIXED, "WRITE_FIXED"},
    {IORING_OP_FSYNC, "FSYNC"},
};
enum { OP_COUNT = sizeof uring_ops / sizeof uring_ops[0] };

/* Nothing but these ops and the registrations that closing needs: whoever takes over the process
 * later cannot use the ring for more. */
static int uring_restrict(struct io_uring *ring)
{
    struct io_uring_restriction rules[OP_COUNT + 3];
    memset(rules, 0, sizeof rules);
    for (size_t i = 0; i < OP_COUNT; i++) {
        rules[i].opcode = IORING_RESTRICTION_SQE_OP;
        rules[i].sqe_op = uring_ops[i].code;
    }
    rules[OP_COUNT].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[OP_COUNT].sqe_flags = IOSQE_IO_LINK;
    rules[OP_COUNT + 1].opcode = IORING_RESTRICTION_REGISTER_OP;
    rules[OP_COUNT + 1].register_op = IORING_UNREGISTER_FILES;
    rules[OP_COUNT + 2].opcode = IORING_RESTRICTION_REGISTER_OP;
    rules[OP_COUNT + 2].register_op = IORING_UNREGISTER_BUFFERS;
    /* The plain call: liburing 2.3 declares io_uring_register_restrictions and
     * io_uring_enable_rings, but its shared library does not export them. */
    return io_uring_register((unsigned)ring->ring_fd,
                             IORING_REGISTER_RESTRICTIONS,
                             rules,
                             OP_COUNT + 3);
}

static void queue_note(struct weir__queue_info *info, const char *what, int error)
{
    const size_t used = strlen(info->note);
    (void)snprintf(info->note + used,
                   sizeof info->note - used,
                   "%s%s: error %d%s",
                   used == 0 ? "" : "; ",
                   what,
                   -error,
                   error == -ENOMEM ? " (RLIMIT_MEMLOCK)" : "");
}

/* Registrations are refused one by one without harm: the lock is then only as long-lived as its
 * descriptor, writes go unfixed, the kernel's own bound of workers holds. info says so. */
static void queue_register(struct weir__queue *queue,
                           const struct weir__queue_config *config,
                           struct weir__queue_info *info)
{
    int error;
    if (config->lock_file >= 0) {
        error = WEIR__PLANTED(lock_not_in_ring)
                    ? 0
                    : io_uring_register_files(&queue->ring, &config->lock_file, 1);
        queue->lock_registered = error == 0;
        if (error != 0) {
            queue_note(info, "lock not registered", error);
        }
    }
    if (config->buffer_count > 0) {
        error = io_uring_register_buffers(&queue->ring, queue->buffers, queue->buffer_count);
        queue->buffers_registered = error == 0;
        if (error != 0) {
            queue_note(info, "buffers not registered", error);
        }
    }
    unsigned workers[2] = {URING_WORKERS_BOUNDED, URING_WORKERS_UNBOUNDED};
    error = io_uring_register_iowq_max_workers(&queue->ring, workers);
    if (error != 0) {
        queue_note(info, "workers not bounded", error);
    }
    error = uring_restrict(&queue->ring);
    if (error != 0) {
        queue_note(info, "ops not restricted", error);
    }
}

/* The ring itself, with the kernel's thread if that is asked for and granted. */
static int queue_set_up(struct weir__queue *queue,
                        const struct weir__queue_config *config,
                        struct weir__queue_info *info)
{
    const unsigned ring_entries = config->ring_entries > 0 ? config->ring_entries : config->entries;
    if (config->kernel_poll) {
        const int error = uring_init_poll(&queue->ring, ring_entries, config->kernel_poll_idle_ms);
        queue->kernel_poll = error == 0;
        if (error == 0) {
            return 0;
        }
        queue_note(info, "no kernel poll", error);
    }
    return uring_init(&queue->ring, ring_entries, config->wanders);
}

/* What the rings have room for, once their sizes are known: the read of the eventfd has its place
 * in both, and so have the no-ops behind it, as far as it goes. */
static void queue_bound(struct weir__queue *queue, unsigned entries)
{
    const unsigned completions = queue->ring.cq.ring_entries;
    if (!WEIR__PLANTED(cqe_bound)) {
        entries = (unsigned)weir__min_u64(entries, completions - 1);
    }
    queue->entries = entries;
    const unsigned spare = completions > entries + 1 ? completions - entries - 1 : 0;
    const unsigned behind = queue->ring.sq.ring_entries - 1;
    queue->crowd_full = (unsigned)weir__min_u64(entries - 1, weir__min_u64(spare, behind));
    for (unsigned i = 0; i < entries; i++) {
        queue->tickets[i].next = i + 1 < entries ? i + 1 : TICKET_NONE;
    }
}

int weir__uring_open(struct weir__io *io,
                     struct weir__mem *mem,
                     const struct weir__queue_config *config,
                     struct weir__queue **queue_out,
                     struct weir__queue_info *info_out)
{
    (void)io;
    memset(info_out, 0, sizeof *info_out);
    if (config->entries == 0 || config->entries > WEIR__QUEUE_ENTRIES_MAX ||
        config->ring_entries > WEIR__QUEUE_RING_MAX || config->buffer_count > IOV_MAX) {
        return -EINVAL;
    }
    /* One block: queue, tickets, buffers. Each part's size is a multiple of the next one's
     * alignment. */
    const size_t tickets_bytes = config->entries * sizeof(struct uring_ticket);
    const size_t buffers_bytes = config->buffer_count * sizeof(struct iovec);
    const size_t bytes = sizeof(struct weir__queue) + tickets_bytes + buffers_bytes;
    struct weir__queue *const queue = weir__mem_alloc(mem, bytes, _Alignof(struct weir__queue));
    if (queue == NULL) {
        return -ENOMEM;
    }
    queue->bytes = bytes;
    queue->tickets = (struct uring_ticket *)(queue + 1);
    queue->buffers = (struct iovec *)(queue->tickets + config->entries);
    queue->buffer_count = config->buffer_count;
    queue->canceled_head = TICKET_NONE;
    queue->free_head = 0;
    if (config->buffer_count > 0) {
        memcpy(queue->buffers, config->buffers, buffers_bytes);
    }

    int error = eventfd(0, EFD_CLOEXEC);
    if (error >= 0 && error < URING_FILE_MIN) {
        const int low = error;
        error = fcntl(low, F_DUPFD_CLOEXEC, URING_FILE_MIN);
        const int cause = errno;
        (void)close(low);
        errno = cause;
    }
    if (error < 0) {
        error = -errno;
        weir__mem_free(mem, queue, bytes);
        return error;
    }
    queue->wake_file = error;

    error = queue_set_up(queue, config, info_out);
    if (error != 0) {
        (void)close(queue->wake_file);
        weir__mem_free(mem, queue, bytes);
        return error;
    }
    queue_bound(queue, config->entries);
    /* Children must not share the ring's pages; a refusal costs a child nothing but address space.
     */
    (void)io_uring_ring_dontfork(&queue->ring);
    queue_register(queue, config, info_out);
    error = io_uring_register((unsigned)queue->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (error != 0) {
        io_uring_queue_exit(&queue->ring);
        (void)close(queue->wake_file);
        weir__mem_free(mem, queue, bytes);
        return error;
    }
    info_out->entries = queue->entries;
    info_out->ring_entries = queue->ring.sq.ring_entries;
    info_out->completion_entries = queue->ring.cq.ring_entries;
    info_out->kernel_poll = queue->kernel_poll;
    info_out->lock_registered = queue->lock_registered;
    info_out->buffers_registered = queue->buffers_registered;
    *queue_out = queue;
    return 0;
}

/* ---- tickets ---- */

static uint32_t ticket_take(struct weir__queue *queue, uint64_t data)
{
    const uint32_t index = queue->free_head;
    weir__check(index < queue->entries);
    struct uring_ticket *const ticket = &queue->tickets[index];
    weir__check(ticket->state == TICKET_FREE);
    queue->free_head = ticket->next;
    queue->in_flight++;
    ticket->data = data;
    ticket->state = TICKET_IN_KERNEL;
    return index;
}

static void ticket_give_back(struct weir__queue *queue, uint32_t index)
{
    struct uring_ticket *const ticket = &queue->tickets[index];
    weir__check(ticket->state != TICKET_FREE);
    weir__check(queue->in_flight > 0);
    ticket->state = TICKET_FREE;
    ticket->entry = NULL;
    ticket->next = queue->free_head;
    queue->free_head = index;
    queue->in_flight--;
}

/* ---- preparing and submitting ---- */

/* An entry that the kernel has not taken becomes one that does nothing. */
static void entry_neutralize(struct io_uring_sqe *entry)
{
    io_uring_prep_nop(entry);
    io_uring_sqe_set_data64(entry, URING_TAG_NOTHING);
}

/* Index of the registered buffer that holds all of the range, or -1. */
static int queue_find_buffer(const struct weir__queue *queue, const struct iovec *range)
{
    if (!queue->buffers_registered) {
        return -1;
    }
    const uintptr_t start = (uintptr_t)range->iov_base;
    for (unsigned i = 0; i < queue->buffer_count; i++) {
        const uintptr_t base = (uintptr_t)queue->buffers[i].iov_base;
        const size_t bytes = queue->buffers[i].iov_len;
        if (start >= base && start - base <= bytes && range->iov_len <= bytes - (start - base)) {
            return (int)i;
        }
    }
    return -1;
}

static void entry_prepare(const struct weir__queue *queue,
                          struct io_uring_sqe *entry,
                          const struct weir__op *op)
{
    if (op->kind == WEIR__OP_SYNC) {
        io_uring_prep_fsync(entry, op->file, IORING_FSYNC_DATASYNC);
    } else {
        /* One range needs no vector: the kernel then has nothing to copy and check. */
        const bool one = op->iov_count == 1 && op->iov[0].iov_len <= INT_MAX;
        const int buffer = one ? queue_find_buffer(queue, &op->iov[0]) : -1;
        void *const base = one ? op->iov[0].iov_base : NULL;
        const unsigned len = one ? (unsigned)op->iov[0].iov_len : 0;
        if (op->kind == WEIR__OP_WRITE) {
            if (buffer >= 0) {
                io_uring_prep_write_fixed(entry, op->file, base, len, op->offset, buffer);
            } else if (one) {
                io_uring_prep_write(entry, op->file, base, len, op->offset);
            } else {
                io_uring_prep_writev(entry, op->file, op->iov, op->iov_count, op->offset);
            }
            entry->rw_flags = op->dsync ? RWF_DSYNC : 0;
        } else {
            if (buffer >= 0) {
                io_uring_prep_read_fixed(entry, op->file, base, len, op->offset, buffer);
            } else if (one) {
                io_uring_prep_read(entry, op->file, base, len, op->offset);
            } else {
                io_uring_prep_readv(entry, op->file, op->iov, op->iov_count, op->offset);
            }
        }
    }
    if (op->link) {
        io_uring_sqe_set_flags(entry, IOSQE_IO_LINK);
    }
}

/* One handing-over of what is prepared. Returns how many entries the kernel took (more than 0 if
 * any were prepared, but for those that it threw away), or what it refused with; a refusal means
 * that none was taken. With kernel_poll all are shown to the thread, and the figure says nothing:
 * it may have taken them before they were counted. */
static int queue_submit(struct weir__queue *queue)
{
    int error = 0;
    for (unsigned tries = 0; tries < URING_RETRIES; tries++) {
        if (io_uring_sq_ready(&queue->ring) == 0) {
            return 0;
        }
        const int taken = io_uring_submit(&queue->ring);
        if (taken > 0 || (taken == 0 && queue->kernel_poll)) {
            return taken;
        }
        if (taken == -EINTR) {
            /* Interrupted before anything was taken. Signals do not use up the tries for long. */
            error = taken;
            continue;
        }
        if (taken != 0 && taken != -EAGAIN && taken != -EBUSY) {
            return taken;
        }
        /* Out of memory, or completions are waiting to be let in: both pass. The completion queue
         * has room for all. */
        error = taken == 0 ? -EAGAIN : taken;
        (void)io_uring_get_events(&queue->ring);
        weir__sleep_ns(URING_RETRY_NS);
    }
    /* A push must not look like one that found no free entry. */
    return error == -EAGAIN ? -EBUSY : error;
}

/* Makes room for so many entries, which are no more than the ring has. Those left from before (the
 * read of the eventfd, no-ops) are sent if they are in the way. 0, or what refused them. */
static int queue_make_room(struct weir__queue *queue, unsigned count)
{
    uint64_t deadline_ns = 0;
    while (io_uring_sq_space_left(&queue->ring) < count) {
        const int taken = queue_submit(queue);
        if (taken < 0) {
            return taken;
        }
        if (!queue->kernel_poll) {
            continue;
        }
        /* All are shown; the kernel's thread takes them when it comes to it. It may be busy with a
         * write of ours, so there is patience, but an end to it. */
        if (deadline_ns == 0) {
            deadline_ns = weir__deadline(URING_ROOM_NS);
        } else if (weir__now_ns() >= deadline_ns) {
            return -EBUSY;
        }
        const int error = io_uring_sqring_wait(&queue->ring);
        if (error < 0 && error != -EINTR && error != -EINVAL) {
            return error;
        }
        (void)sched_yield();
    }
    return 0;
}

/* Prepares the standing read of the eventfd, if it is not there and entries are free. With a crowd,
 * no-ops are linked behind it; they run when it has ended, whatever way. */
static void queue_arm_wake(struct weir__queue *queue)
{
    const unsigned crowd = queue->crowded ? queue->crowd_full : 0;
    if (queue->wake_armed || queue->crowd_due > 0 || queue->closing ||
        io_uring_sq_space_left(&queue->ring) < 1 + crowd) {
        return;
    }
    struct io_uring_sqe *entry = io_uring_get_sqe(&queue->ring);
    weir__check(entry != NULL);
    io_uring_prep_read(entry, queue->wake_file, &queue->wake_value, sizeof queue->wake_value, 0);
    io_uring_sqe_set_data64(entry, URING_TAG_WAKE);
    for (unsigned i = 0; i < crowd; i++) {
        io_uring_sqe_set_flags(entry, IOSQE_IO_LINK);
        entry = io_uring_get_sqe(&queue->ring);
        weir__check(entry != NULL);
        io_uring_prep_nop(entry);
        io_uring_sqe_set_data64(entry, URING_TAG_CROWD);
    }
    queue->wake_armed = true;
    queue->crowd_due = crowd;
}

/* Takes a ticket and prepares an entry for each op; the tickets are strung together in the order of
 * the ops. The caller knows that there is room. Returns the first ticket. */
static uint32_t push_prepare(struct weir__queue *queue, const struct weir__op *ops, unsigned count)
{
    uint32_t first = TICKET_NONE;
    uint32_t last = TICKET_NONE;
    for (unsigned i = 0; i < count; i++) {
        const uint32_t index = ticket_take(queue, ops[i].data);
        struct uring_ticket *const ticket = &queue->tickets[index];
        ticket->next = TICKET_NONE;
        ticket->entry = io_uring_get_sqe(&queue->ring);
        weir__check(ticket->entry != NULL);
        entry_prepare(queue, ticket->entry, &ops[i]);
        io_uring_sqe_set_data64(ticket->entry, index);
        weir__tsan_release(ticket);
        if (last == TICKET_NONE) {
            first = index;
        } else {
            queue->tickets[last].next = index;
        }
        last = index;
    }
    return first;
}

/* Takes back the entries of `count` ops from ticket `index` on, none of which the kernel has seen.
 */
static void push_undo(struct weir__queue *queue, uint32_t index, unsigned count)
{
    for (; count > 0; count--) {
        struct uring_ticket *const ticket = &queue->tickets[index];
        const uint32_t next = ticket->next;
        entry_neutralize(ticket->entry);
        ticket_give_back(queue, index);
        index = next;
    }
}

struct push_state {
    const struct weir__op *ops;
    unsigned count;
    unsigned taken;  /* ops whose entries the kernel has taken */
    unsigned ended;  /* ops below this one are taken or canceled */
    uint32_t ticket; /* of op number `ended` */
};

/* Ends the ops from push->ended up to `end` as -ECANCELED, without the kernel. */
static void push_cancel(struct weir__queue *queue, struct push_state *push, unsigned end)
{
    while (push->ended < end) {
        struct uring_ticket *const ticket = &queue->tickets[push->ticket];
        const uint32_t next = ticket->next;
        entry_neutralize(ticket->entry);
        ticket->state = TICKET_CANCELED;
        ticket->next = queue->canceled_head;
        queue->canceled_head = push->ticket;
        push->ticket = next;
        push->ended++;
    }
}

/* Notes that the kernel took `entries` more entries of the push, and cancels the rest of a run that
 * this has cut. */
static void push_advance(struct weir__queue *queue, struct push_state *push, unsigned entries)
{
    push->taken += entries;
    weir__check(push->taken <= push->count);
    /* Entries of ops canceled before are taken too, as no-ops: `ended` is then ahead. */
    while (push->ended < push->taken) {
        push->ticket = queue->tickets[push->ticket].next;
        push->ended++;
    }
    if (push->taken == push->count || push->taken == 0 || push->ended > push->taken) {
        return;
    }
    unsigned end = push->taken;
    while (end < push->count && push->ops[end - 1].link) {
        end++;
    }
    push_cancel(queue, push, end);
}

/* Hands over ops that fit into the ring, cut at borders of runs. An error means that none of them
 * has gone out. */
static int push_piece(struct weir__queue *queue, const struct weir__op *ops, unsigned count)
{
    const int error = queue_make_room(queue, count);
    if (error != 0) {
        return error;
    }
    unsigned ahead = io_uring_sq_ready(&queue->ring);
    struct push_state push = {.ops = ops, .count = count};
    push.ticket = push_prepare(queue, ops, count);
    if (queue->kernel_poll) {
        /* Shown is taken, by a thread that may have been faster than its waking. One that is gone
         * for good is met by the next reap. */
        (void)queue_submit(queue);
        return 0;
    }

    while (push.taken < count) {
        const int taken = queue_submit(queue);
        if (taken < 0 && push.taken == 0) {
            push_undo(queue, push.ticket, count);
            return taken;
        }
        if (taken <= 0) {
            /* Some are on their way, so the push stands; the events tell that the rest did not run.
             * 0: the kernel threw entries away (queue_faults). They will not come back. */
            push_cancel(queue, &push, count);
            return 0;
        }
        const unsigned before = (unsigned)weir__min_u64((unsigned)taken, ahead);
        ahead -= before;
        push_advance(queue, &push, (unsigned)taken - before);
    }
    return 0;
}

/* How many ops from the first on go out together: whole runs, up to the ring's size. 0: a run alone
 * is longer. */
static unsigned
push_measure(const struct weir__queue *queue, const struct weir__op *ops, unsigned count)
{
    const unsigned room = queue->ring.sq.ring_entries;
    if (count <= room) {
        return count;
    }
    unsigned fit = room;
    while (fit > 0 && ops[fit - 1].link) {
        fit--;
    }
    return fit;
}

/* Ops of a push whose first piece has gone out already: their end is told by events. */
static void push_refuse(struct weir__queue *queue, const struct weir__op *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const uint32_t index = ticket_take(queue, ops[i].data);
        struct uring_ticket *const ticket = &queue->tickets[index];
        ticket->state = TICKET_CANCELED;
        ticket->next = queue->canceled_head;
        queue->canceled_head = index;
    }
}

/* The kernel's overflow flag stands until there is room again: each rise is one. */
static void queue_see_overflow(struct weir__queue *queue)
{
    const bool overflowing = io_uring_cq_has_overflow(&queue->ring);
    if (overflowing && !queue->overflowing) {
        weir__store(&queue->overflows, weir__load(&queue->overflows, relaxed) + 1, relaxed);
    }
    queue->overflowing = overflowing;
}

int weir__uring_push(struct weir__io *io,
                     struct weir__queue *queue,
                     const struct weir__op *ops,
                     unsigned count)
{
    (void)io;
    if (count == 0) {
        return 0;
    }
    weir__check(!ops[count - 1].link);
    if (count > queue->entries - queue->in_flight) {
        return -EAGAIN;
    }
    /* Before anything goes out: a push is taken or refused as a whole. */
    for (unsigned sent = 0; sent < count;) {
        const unsigned piece = push_measure(queue, ops + sent, count - sent);
        if (piece == 0) {
            return -EINVAL;
        }
        sent += piece;
    }
    for (unsigned sent = 0; sent < count;) {
        const unsigned piece = push_measure(queue, ops + sent, count - sent);
        const int error = push_piece(queue, ops + sent, piece);
        if (error != 0 && sent == 0) {
            return error;
        }
        if (error != 0) {
            push_refuse(queue, ops + sent, count - sent);
            break;
        }
        sent += piece;
    }
    queue_see_overflow(queue);
    return 0;
}

/* ---- reaping ---- */

static void
event_fill(struct weir__queue *queue, uint64_t index, int32_t result, struct weir__event *event_out)
{
    weir__check(index < queue->entries);
    struct uring_ticket *const ticket = &queue->tickets[index];
    weir__tsan_acquire(ticket);
    event_out->data = ticket->data;
    event_out->result = result;
    ticket_give_back(queue, (uint32_t)index);
}

/* The next completion, NULL if there is none. Never enters the kernel. */
static struct io_uring_cqe *queue_look(struct weir__queue *queue)
{
    struct io_uring *const ring = &queue->ring;
    const unsigned head = *ring->cq.khead;
    if (io_uring_smp_load_acquire(ring->cq.ktail) == head) {
        return NULL;
    }
    return &ring->cq.cqes[head & ring->cq.ring_mask];
}

/* The read of the eventfd has ended. A failed one counts as a wake too: the caller looks around
 * once for nothing, and it is armed anew. */
static bool wake_came(struct weir__queue *queue, int32_t result)
{
    weir__tsan_acquire(queue);
    queue->wake_armed = false;
    /* A count of 1 is ours alone; had it been another's, ours comes back with the next read. */
    const bool own = queue->wake_own && result > 0 && queue->wake_value == 1;
    queue->wake_own = false;
    return !own;
}

/* Takes what is there without sleeping. */
static unsigned
queue_collect(struct weir__queue *queue, struct weir__event *events, unsigned max, bool *woken_out)
{
    unsigned count = 0;
    while (count < max && queue->canceled_head != TICKET_NONE) {
        const uint32_t index = queue->canceled_head;
        weir__check(queue->tickets[index].state == TICKET_CANCELED);
        queue->canceled_head = queue->tickets[index].next;
        event_fill(queue, index, -ECANCELED, &events[count++]);
    }
    struct io_uring_cqe *completion;
    while (count < max && (completion = queue_look(queue)) != NULL) {
        const uint64_t tag = completion->user_data;
        const int32_t result = completion->res;
        io_uring_cqe_seen(&queue->ring, completion);
        if (tag == URING_TAG_WAKE) {
            *woken_out = wake_came(queue, result) || *woken_out;
        } else if (tag == URING_TAG_CROWD) {
            weir__check(queue->crowd_due > 0);
            queue->crowd_due--;
        } else if (tag != URING_TAG_NOTHING) {
            event_fill(queue, tag, result, &events[count++]);
        }
    }
    return count;
}

/* Lets the kernel bring what is due into the ring: work that it defers to our calls, completions
 * that found no room. False: nothing is due. */
static bool queue_bring(struct weir__queue *queue)
{
    const unsigned due = IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN;
    return (IO_URING_READ_ONCE(*queue->ring.sq.kflags) & due) != 0 &&
           io_uring_get_events(&queue->ring) >= 0;
}

/* Hands over what is prepared, and sleeps until `want` completions are there. 0: look; -ETIMEDOUT;
 * or what the kernel refused with. */
static int queue_sleep(struct weir__queue *queue, unsigned want, uint64_t deadline_ns)
{
    struct io_uring_cqe *completion;
    struct __kernel_timespec left;
    struct __kernel_timespec *limit = NULL;
    if (deadline_ns != WEIR__NEVER) {
        const uint64_t now_ns = weir__now_ns();
        if (now_ns >= deadline_ns) {
            const int taken = queue_submit(queue);
            return taken < 0 ? taken : -ETIMEDOUT;
        }
        const uint64_t left_ns = deadline_ns - now_ns;
        left.tv_sec = (int64_t)(left_ns / URING_NS_PER_S);
        left.tv_nsec = (long long)(left_ns % URING_NS_PER_S);
        limit = &left;
    }
    const int error =
        io_uring_submit_and_wait_timeout(&queue->ring, &completion, want, limit, NULL);
    /* The clock decides about the end, not the kernel's word for it. */
    return error > 0 || error == -EINTR || error == -ETIME ? 0 : error;
}

/* For how many completions one sleep may ask so that a wake ends it: `want` at most, of the `need`
 * that the caller waits for. Arms the wake. */
static unsigned queue_prepare_sleep(struct weir__queue *queue, unsigned need, unsigned want)
{
    if (need > 1 && !queue->crowded && queue->crowd_full > 0) {
        queue->crowded = true;
        if (queue->wake_armed) {
            /* It stands alone, and is made to end so that it can stand with a crowd. */
            queue->wake_own = true;
            weir__uring_wake(NULL, queue);
        }
    }
    queue_arm_wake(queue);
    if (queue->wake_armed) {
        /* Those still due, not those that were armed: a kernel that ran out of memory in between
         * has cut some off, and they have come by themselves. */
        return (unsigned)weir__min_u64(want, queue->crowd_due + 1);
    }
    /* No-ops that are still on their way are of a read that has ended: all of them come at once. */
    return queue->crowd_due > 0 ? queue->crowd_due : 1;
}

/* Nothing of ours is with the kernel. */
static bool queue_is_quiet(const struct weir__queue *queue)
{
    return queue->in_flight == 0 && !queue->wake_armed && queue->crowd_due == 0;
}

int weir__uring_reap(struct weir__io *io,
                     struct weir__queue *queue,
                     struct weir__event *events,
                     unsigned max,
                     unsigned min,
                     uint64_t deadline_ns)
{
    (void)io;
    weir__check(max > 0);
    const unsigned most = queue->in_flight > 0 ? queue->in_flight : 1;
    const unsigned need = (unsigned)weir__min_u64(min, most);
    unsigned count = 0;
    unsigned refusals = 0;
    bool over = min == 0;
    for (;;) {
        bool woken = false;
        queue_see_overflow(queue);
        count += queue_collect(queue, events + count, max - count, &woken);
        if (count == max || woken || (count >= need && count > 0)) {
            return (int)count;
        }
        if (queue->closing && queue_is_quiet(queue)) {
            return (int)count;
        }
        if (over) {
            /* One more look at most. */
            if (count == 0 && queue_bring(queue)) {
                count = queue_collect(queue, events, max, &woken);
            }
            return (int)count;
        }
        const unsigned want = queue_prepare_sleep(queue, need, need - count);
        /* The kernel's thread may have left no room for the wake yet: nobody could end this sleep,
         * so it is short. */
        const bool deaf = !queue->wake_armed && !queue->closing;
        const uint64_t until_ns =
            deaf ? weir__min_u64(deadline_ns, weir__now_ns() + URING_DEAF_NS) : deadline_ns;
        const int error = queue_sleep(queue, want, until_ns);
        if (error == -ETIMEDOUT) {
            /* The last look was before the time was up. */
            over = until_ns == deadline_ns;
        } else if (error == -EAGAIN || error == -EBUSY) {
            /* As in queue_submit: it passes, or the queue is told to be broken. */
            if (++refusals == URING_RETRIES) {
                return count > 0 ? (int)count : -EBUSY;
            }
            (void)queue_bring(queue);
            weir__sleep_ns(URING_RETRY_NS);
        } else if (error != 0) {
            return count > 0 ? (int)count : error;
        }
    }
}

void weir__uring_wake(struct weir__io *io, struct weir__queue *queue)
{
    (void)io;
    /* Pairs with the acquire in queue_collect; the kernel orders the two in truth. */
    weir__tsan_release(queue);
    const uint64_t one = 1;
    while (write(queue->wake_file, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

void weir__uring_close(struct weir__io *io, struct weir__mem *mem, struct weir__queue *queue)
{
    if (queue == NULL) {
        return;
    }
    queue->closing = true;
    if (queue->wake_armed) {
        weir__uring_wake(io, queue);
    }
    int result = 0;
    while (result >= 0 && !queue_is_quiet(queue)) {
        struct weir__event events[16];
        result = weir__uring_reap(io, queue, events, 16, 1, WEIR__NEVER);
    }
    /* By hand, because the kernel would do it some time after the ring is gone: the lock is free
     * and the buffers are unpinned when this returns. */
    if (queue->lock_registered) {
        (void)io_uring_unregister_files(&queue->ring);
    }
    if (queue->buffers_registered) {
        (void)io_uring_unregister_buffers(&queue->ring);
    }
    io_uring_queue_exit(&queue->ring);
    (void)close(queue->wake_file);
    if (result < 0) {
        /* The kernel did not let us wait. What it may still write into is left alone for good. */
        weir__mem_abandon(mem, queue, queue->bytes);
        return;
    }
    weir__mem_free(mem, queue, queue->bytes);
}

/* ---- what it looks like from outside ---- */

void weir__uring_faults(struct weir__io *io,
                        struct weir__queue *queue,
                        struct weir__queue_faults *faults_out)
{
    (void)io;
    /* Words of the kernel's, mapped as long as the queue is open. Relaxed: figures. */
    const struct io_uring *const ring = &queue->ring;
    faults_out->overflows =
        weir__load(&queue->overflows, relaxed) + (uint64_t)IO_URING_READ_ONCE(*ring->cq.koverflow);
    faults_out->dropped = IO_URING_READ_ONCE(*ring->sq.kdropped);
}

bool weir__uring_poll_idle(const struct weir__queue *queue)
{
    return (IO_URING_READ_ONCE(*queue->ring.sq.kflags) & IORING_SQ_NEED_WAKEUP) != 0;
}

void weir__uring_spoil_entry(struct weir__queue *queue)
{
    struct io_uring *const ring = &queue->ring;
    weir__check(io_uring_sq_ready(ring) == 0 && !queue->kernel_poll);
    struct io_uring_sqe *const entry = io_uring_get_sqe(ring);
    weir__check(entry != NULL);
    entry_neutralize(entry);
    const unsigned at = *ring->sq.ktail & ring->sq.ring_mask;
    const unsigned good = ring->sq.array[at];
    ring->sq.array[at] = ring->sq.ring_entries;
    (void)io_uring_submit(ring);
    ring->sq.array[at] = good;
}

/* ---- the probe ---- */

/* Value of kernel.io_uring_disabled, or -1 where the kernel has no such switch. */
static int probe_disabled(void)
{
    const int file = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return -1;
    }
    char digit = 0;
    const ssize_t got = read(file, &digit, 1);
    (void)close(file);
    return got == 1 && digit >= '0' && digit <= '9' ? digit - '0' : -1;
}

static void probe_explain(int error, char *reason, size_t reason_bytes)
{
    const char *text = "io_uring_setup failed; io=posix does without";
    switch (error) {
    case -ENOSYS:
        text = "this kernel is built without io_uring, or a seccomp filter hides it; io=posix does "
               "without";
        break;
    case -EPERM:
    case -EACCES:
        switch (probe_disabled()) {
        case 2:
            text = "sysctl kernel.io_uring_disabled=2 forbids io_uring to all; set it to 0, or use "
                   "io=posix";
            break;
        case 1:
            text = "sysctl kernel.io_uring_disabled=1 forbids io_uring to users outside of "
                   "kernel.io_uring_group; join the group, or use io=posix";
            break;
        default:
            text =
                "a seccomp filter or security module forbids io_uring (containers do by default); "
                "allow io_uring_setup, io_uring_enter and io_uring_register, or use io=posix";
            break;
        }
        break;
    case -ENOMEM: {
        struct rlimit limit;
        if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
            (void)snprintf(
                reason,
                reason_bytes,
                "no memory for the ring: RLIMIT_MEMLOCK is %llu KiB; raise it (ulimit -l, "
                "LimitMEMLOCK=), or use io=posix",
                (unsigned long long)limit.rlim_cur / 1024);
            return;
        }
        text = "no memory for the ring";
        break;
    }
    case -EMFILE:
        text =
            "the process has no file descriptor left for the ring; raise RLIMIT_NOFILE (ulimit -n)";
        break;
    case -ENFILE:
        text = "the system has no file descriptor left for the ring; raise sysctl fs.file-max";
        break;
    case -EOPNOTSUPP:
        text = "io_uring of this kernel is older than Linux 5.11; use a newer one, or io=posix";
        break;
    case -EINVAL:
        text = "io_uring of this kernel is older than Linux 5.10; use a newer one, or io=posix";
        break;
    default:
        break;
    }
    (void)snprintf(reason, reason_bytes, "%s", text);
}

int weir__uring_probe(char *reason, size_t reason_bytes)
{
    if (reason_bytes > 0) {
        reason[0] = '\0';
    }
    struct io_uring ring;
    int error = uring_init(&ring, 4, false);
    if (error != 0) {
        probe_explain(error, reason, reason_bytes);
        return error;
    }
    /* The kernel fills one entry for each opcode, up to the 256 that fit into a byte. */
    enum { PROBE_BYTES = sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op) };
    _Alignas(struct io_uring_probe) unsigned char buffer[PROBE_BYTES];
    memset(buffer, 0, sizeof buffer);
    struct io_uring_probe *const probe = (struct io_uring_probe *)buffer;
    error = io_uring_register_probe(&ring, probe, 256);
    io_uring_queue_exit(&ring);
    if (error < 0) {
        (void)snprintf(reason, reason_bytes, "io_uring does not tell its opcodes; use io=posix");
        return error;
    }
    for (size_t i = 0; i < OP_COUNT; i++) {
        if (!io_uring_opcode_supported(probe, uring_ops[i].code)) {
            (void)snprintf(reason,
                           reason_bytes,
                           "io_uring of this kernel lacks %s; use a newer one, or io=posix",
                           uring_ops[i].name);
            return -EOPNOTSUPP;
        }
    }
    return 0;
}

void weir__uring_opcodes(char *list, size_t list_bytes)
{
    struct io_uring ring;
    struct io_uring_probe *probe = NULL;
    size_t used = 0;

    list[0] = '\0';
    if (uring_init(&ring, 4, false) == 0) {
        probe = io_uring_get_probe_ring(&ring);
        io_uring_queue_exit(&ring);
    }
    for (size_t i = 0; i < OP_COUNT && used < list_bytes; i++) {
        const bool there = probe != NULL && io_uring_opcode_supported(probe, uring_ops[i].code);
        const int wrote = snprintf(list + used,
                                   list_bytes - used,
                                   "%s%s%s",
                                   used > 0 ? " " : "",
                                   there ? "" : "no:",
                                   uring_ops[i].name);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    if (probe != NULL) {
        io_uring_free_probe(probe);
    }
}
