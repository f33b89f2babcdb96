/* SPDX-License-Identifier: Apache-2.0
 * The writer (engine/io/writer.c, writer_owner.c) under Relacy: the text of production, compiled as C++ with atomics, plain fields and futexes
 * of the model.
 *
 * Bytes of buffers are race-checked variables, read when a write is begun and again when it ends; so are the bytes of the "disk", which a
 * write's end changes and whoever has flushed or synced reads. The queue and its transfer are stand-ins: operations end in any order, after a
 * number of turns; a write may fail, a sync may fail. The futex orders nothing. */
#include "model.hpp"

static void *model_memcpy(void *to, const void *from, size_t bytes);

#define memcpy model_memcpy
#include "io/writer.c"
#include "io/writer_owner.c"
#undef memcpy

#include "model_ports.hpp"

/* ---- scenarios ------------------------------------------------------------------------------------------------------ */

/* A thread is a list of acts, separated by blanks: <n> write n bytes; f flush; s sync; o look at the offset. The owner is thread 0.
 * The last one closes. */
struct scenario {
    const char *name;
    uint32_t buffers, bytes; /* of each */
    uint32_t block;          /* 1: buffered */
    uint32_t start;          /* the file's length */
    uint32_t room;           /* operations under way at most */
    const char *script[4];
    int fail_write; /* the n-th write that ends fails; 0: none */
    int fail_sync;
    bool spurious;
};
static const scenario scenarios[] = {
    {"W0", 2, 1, 1, 0, 2, {"1", "1"}},
    {"W1", 2, 1, 1, 0, 2, {"1 f", "1 f"}},
    {"W2", 2, 2, 1, 0, 2, {"1 f 1", "1 f"}},
    {"W3", 2, 3, 1, 0, 2, {"1 f 1 f", "1 1 f"}},
    {"big", 2, 1, 1, 0, 2, {"5 f", "2 1"}},
    {"big-2", 3, 2, 1, 1, 3, {"9", "1 f 4", "1"}},
    {"narrow", 3, 1, 1, 0, 1, {"3 f", "2 1 f"}},
    {"many", 2, 2, 1, 3, 2, {"1 1 f", "2 1", "1 f 1"}},
    {"look", 2, 2, 1, 0, 2, {"1 o 1", "f o f", "1 f"}},
    {"sync", 2, 2, 1, 0, 2, {"1 s", "1 s 1 s"}},
    {"sync-2", 2, 2, 1, 0, 1, {"1 s", "1 s", "1 f s"}},
    {"direct", 2, 2, 2, 0, 2, {"1 f", "1 f"}},
    {"direct-2", 2, 4, 2, 3, 2, {"1 f 1 f", "2 f"}},
    {"direct-3", 2, 4, 2, 1, 3, {"1 f 3", "2 f 1", "1 s"}},
    {"direct-4", 3, 2, 2, 1, 3, {"1 f 5 f", "3 1 f"}},
    {"fail", 2, 2, 1, 0, 2, {"1 f 1 f", "3 s"}, 1},
    {"fail-2", 2, 1, 1, 0, 2, {"4 f", "1 s", "3"}, 2},
    {"fail-pad", 2, 4, 2, 1, 2, {"1 f 2 f", "4 f"}, 2},
    {"fail-sync", 2, 2, 1, 0, 2, {"1 s 1 f", "1 s"}, 0, 1},
    {"spurious", 2, 2, 1, 0, 2, {"2 f 1", "3 s 1"}, 0, 0, true},
};
static const scenario *now;
static rl::iteration_t stopped;
static struct { uint64_t writes, syncs, cuts, on_word, on_ring, refused; } tally;
static int threads;

static const int POSITIONS = 40;

/* What the stand-ins need of the test, of either size. */
struct world {
    struct weir_writer *writer;
    rl::var<uint64_t> *byte[24]; /* of the buffers */
    rl::var<uint64_t> *disk[POSITIONS];
    rl::var<uint64_t> *synced[POSITIONS]; /* 1: this byte is durable */
    uint8_t there[POSITIONS];             /* the same as disk, unchecked: writing a byte again is no change */
    bool durable[POSITIONS];
    uint64_t length;
    uint8_t memory[24];
    struct { struct weir__transfer_run *run; uint8_t seen[24]; bool on_disk[POSITIONS]; } flying[8];
    unsigned flying_count;
    bool wake;
    int writes_ended, syncs_ended;
    bool may_fail;
};
static world *the;

static rl::var<uint64_t> *byte_of(const void *at)
{
    size_t index = (size_t)((const uint8_t *)at - the->memory);
    return index < (size_t)(now->buffers * now->bytes) ? the->byte[index] : 0;
}

static void *model_memcpy(void *to, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        rl::var<uint64_t> *in = byte_of((const uint8_t *)from + i), *out = byte_of((uint8_t *)to + i);
        uint8_t value = in ? (uint8_t)(uint64_t)(*in)(RL_INFO).load() : ((const uint8_t *)from)[i];
        if (out) (*out)(RL_INFO) = value;
        else ((uint8_t *)to)[i] = value;
    }
    return to;
}

/* ---- stand-ins ------------------------------------------------------------------------------------------------------ */

static int stand_in_truncate(struct weir__io *, int, uint64_t bytes)
{
    tally.cuts++;
    ENSURE(bytes <= the->length);
    for (uint64_t p = bytes; p < the->length; p++) ENSURE(the->there[p] == 0); /* padding, never data */
    the->length = bytes;
    return 0;
}
static ssize_t stand_in_read(struct weir__io *, int, void *buffer, size_t bytes, uint64_t offset)
{
    ssize_t n = 0;
    for (; n < (ssize_t)bytes && offset + n < the->length; n++) (*byte_of((uint8_t *)buffer + n))(RL_INFO) = the->there[offset + n];
    return n;
}
int weir__io_read_upto(struct weir__io *io, int file, void *buffer, size_t bytes, uint64_t offset, uint32_t, size_t *done)
{
    *done = (size_t)stand_in_read(io, file, buffer, bytes, offset);
    return 0;
}
static void stand_in_wake(struct weir__io *, struct weir__queue *) { the->wake = true; }
static struct weir__io_ops stand_in_ops;
static struct weir__io stand_in_io = {&stand_in_ops, 0};

int weir__io_config_settle(const struct weir_io_config *, struct weir_io_config *, struct weir_error *) { return -EINVAL; }
int weir__io_device_open(struct weir__io_device *device, const struct weir_io_config *config, struct weir__io *, bool, struct weir_error *)
{
    device->io = &stand_in_io;
    device->buffers = the->memory;
    device->buffers_bytes = now->buffers * now->bytes;
    device->effective.config.buffer_bytes = now->bytes;
    device->transfer.entries = now->room;
    return 0;
}
void weir__io_device_close(struct weir__io_device *) {}
void weir__io_device_refused(struct weir__io_device *, const char *) {}
void weir__io_device_stats(const struct weir__io_device *, struct weir_io_stats *) {}
int weir__io_file_open(struct weir__io *io, const char *, unsigned, bool, struct weir__io_file *file, struct weir_error *)
{
    memset(file, 0, sizeof *file);
    file->io = io;
    file->block_bytes = now->block;
    file->direct = now->block > 1;
    file->bytes = now->start;
    return 0;
}
void weir__io_file_close(struct weir__io_file *) {}
int weir__io_file_unpad(const struct weir__io_file *, uint64_t end, uint64_t padded)
{
    ENSURE(the->length <= padded);
    return the->length > end ? stand_in_truncate(0, 0, end) : 0;
}
/* Nobody shares the descriptor: it is always the owner's turn. */
bool weir__io_syncs_take_owner(struct weir__io_syncs *) { return true; }
void weir__io_syncs_give_up(struct weir__io_syncs *) {}
void weir__io_syncs_leave(struct weir__io_syncs *, int) {}
int weir__io_syncs_failed(struct weir__io_syncs *) { return 0; }
int weir__io_file_error(const struct weir__io_file *, int code, uint64_t offset, const char *, struct weir_error *error)
{
    error->code = code;
    error->offset = offset;
    return code;
}
int weir__thread_start(pthread_t *, const char *, void *(*)(void *), void *) { return -EAGAIN; }
const char *weir__code_text(int) { return ""; }
void weir__mem_init(struct weir__mem *, const struct weir__mem_hooks *) {}
void weir__mem_exit(struct weir__mem *) {}
void weir__sleep_ns(uint64_t) { rl::ctx().yield(1, RL_INFO); }

/* What a write takes from the buffers, and from the owner's block. */
static void look_at(const struct weir__transfer_op *op, uint8_t *bytes)
{
    unsigned n = 0;
    for (unsigned i = 0; i < op->iov_count; i++) {
        for (size_t k = 0; k < op->iov[i].iov_len; k++) {
            const uint8_t *at = (const uint8_t *)op->iov[i].iov_base + k;
            rl::var<uint64_t> *in = byte_of(at);
            bytes[n++] = in ? (uint8_t)(uint64_t)(*in)(RL_INFO).load() : *at;
        }
    }
    ENSURE(n == op->bytes);
}

int weir__transfer_start_many(struct weir__transfer *transfer, struct weir__transfer_run *const *runs, unsigned count)
{
    ENSURE(count > 0 && count <= transfer->entries - transfer->in_flight);
    for (unsigned i = 0; i < count; i++) {
        auto *f = &the->flying[the->flying_count++];
        f->run = runs[i];
        struct weir__transfer_op *op = &runs[i]->ops[0];
        ENSURE(runs[i]->count == 1);
        if (op->kind == WEIR__OP_WRITE) {
            ENSURE(op->bytes > 0 && op->offset % now->block == 0 && op->bytes % now->block == 0 && op->offset + op->bytes <= POSITIONS);
            look_at(op, f->seen);
            for (unsigned k = 0; k + 1 < the->flying_count; k++) {
                struct weir__transfer_op *other = &the->flying[k].run->ops[0];
                ENSURE(other->kind != WEIR__OP_WRITE || other->offset + other->bytes <= op->offset || op->offset + op->bytes <= other->offset);
            }
        } else {
            for (int p = 0; p < POSITIONS; p++) f->on_disk[p] = (uint64_t)p < the->length;
        }
    }
    transfer->in_flight += count;
    return 0;
}

static void land(const struct weir__transfer_op *op, const uint8_t *seen)
{
    uint8_t bytes[24];
    look_at(op, bytes);
    ENSURE(!memcmp(bytes, seen, op->bytes)); /* nobody changes what is under way */
    for (size_t i = 0; i < op->bytes; i++) {
        uint64_t p = op->offset + i;
        if (the->there[p] != bytes[i]) {
            ENSURE(the->there[p] == 0);
            the->there[p] = bytes[i];
            (*the->disk[p])(RL_INFO) = bytes[i];
        }
    }
    if (op->offset + op->bytes > the->length) the->length = op->offset + op->bytes;
}

static void end_one(struct weir__transfer *transfer)
{
    unsigned pick = the->flying_count > 1 ? rl::rand(the->flying_count) : 0;
    auto f = the->flying[pick];
    the->flying[pick] = the->flying[--the->flying_count];
    transfer->in_flight--;
    struct weir__transfer_op *op = &f.run->ops[0];
    int code = 0;
    if (op->kind == WEIR__OP_WRITE) {
        tally.writes++;
        if (++the->writes_ended == now->fail_write) code = -EIO;
        else land(op, f.seen);
    } else {
        tally.syncs++;
        if (++the->syncs_ended == now->fail_sync) code = -EIO;
        for (int p = 0; p < POSITIONS && code == 0; p++) {
            if (f.on_disk[p] && !the->durable[p]) {
                the->durable[p] = true;
                (*the->synced[p])(RL_INFO) = 1;
            }
        }
    }
    transfer->ended(transfer->ctx, f.run, code);
}

int weir__transfer_reap(struct weir__transfer *transfer, unsigned min, uint64_t)
{
    ENSURE(transfer->in_flight > 0 && transfer->in_flight == the->flying_count);
    if (min == 0) {
        if (rl::rand(2)) return 0;
        end_one(transfer);
        return 1;
    }
    tally.on_ring++;
    rl::ctx().yield(1, RL_INFO);
    if (the->wake && rl::rand(2)) {
        the->wake = false;
        return 0;
    }
    end_one(transfer);
    return 1;
}

/* ---- the test ------------------------------------------------------------------------------------------------------- */

template <int N> struct test : rl::test_suite<test<N>, N> {
    world w;
    matom<uint32_t> active; /* who closes comes after all that the others did */
    uint64_t offsets[16];
    uint32_t sizes[16];
    int ids;

    rl::var<uint64_t> *fresh() { rl::var<uint64_t> *v = new (vars.take()) rl::var<uint64_t>; (*v)(RL_INFO) = 0; return v; }

    void before()
    {
        the = &w;
        memset(looks, 0, sizeof looks);
        pool32.used = pool64.used = vars.used = 0;
        spurious = now->spurious;
        the_word = 0;
        memset((void *)&w, 0, sizeof w);
        stand_in_ops.truncate = stand_in_truncate;
            stand_in_ops.queue_wake = stand_in_wake;
        for (uint32_t i = 0; i < now->buffers * now->bytes; i++) w.byte[i] = fresh();
        for (int i = 0; i < POSITIONS; i++) {
            w.disk[i] = fresh();
            w.synced[i] = fresh();
        }
        w.length = now->start;
        for (uint64_t p = 0; p < now->start; p++) {
            w.there[p] = 0xff;
            (*w.disk[p])(RL_INFO) = 0xff;
        }
        ids = 0;
        memset((void *)&active, 0, sizeof active);
        active.touch();
        for (int i = 0; i < N - 1; i++) active.a->store(active.a->debug_value() + (now->script[i] != 0), rl::mo_relaxed, RL_INFO);
        struct weir_writer *writer = w.writer = (struct weir_writer *)calloc(1, sizeof *writer);
        writer->config.registered_buffers = now->buffers;
        writer->config.direct_io = now->block > 1;
        ENSURE(owner_start(writer) == 0);
        for (auto *a : {&writer->sleep, &writer->flush_gen, &writer->sync_gen, &writer->stop, &writer->joining}) a->touch();
        for (auto *a : {&writer->tail, &writer->written, &writer->sync_done, &writer->flush_wanted, &writer->sync_asked}) a->touch();
        writer->failed.touch();
        for (uint32_t i = 0; i < now->buffers; i++) {
            struct writer_slot *slot = &writer->slots[i];
            slot->gen.touch(); slot->filled.touch();
            slot->done.touch(); slot->to.touch(); slot->busy.touch(); slot->padded.touch();
        }
        writer->head.touch(); writer->flush_seen.touch(); writer->sync_seen.touch(); writer->sync_ticket.touch();
        writer->sync_position.touch(); writer->sync_due.touch(); writer->sync_busy.touch(); writer->pad_busy.touch();
        writer->crowded.touch(); writer->stopping.touch(); writer->sync_turn.touch(); writer->sync_waits.touch();
    }

    void put(uint32_t bytes, uint64_t *mine)
    {
        uint8_t data[16];
        int id = ids++;
        ENSURE(id < 16 && bytes <= sizeof data);
        for (uint32_t i = 0; i < bytes; i++) data[i] = (uint8_t)(id * 16 + i + 1);
        sizes[id] = 0;
        looks[rl::thread_index()] = 1;
        int code = weir_writer_write(w.writer, data, bytes, &offsets[id]);
        looks[rl::thread_index()] = 0;
        if (code != 0) {
            tally.refused++;
            failed_well(code);
            return;
        }
        sizes[id] = bytes;
        *mine |= UINT64_C(1) << id;
    }
    void failed_well(int code)
    {
        struct weir_error error;
        ENSURE(code == -EIO && (now->fail_write || now->fail_sync));
        ENSURE(weir_writer_error(w.writer, &error) == -EIO && error.code == -EIO);
    }
    /* What this thread has written stands where it was told. */
    void in_file(uint64_t mine, bool durable)
    {
        for (int id = 0; id < ids; id++) {
            for (uint32_t i = 0; (mine >> id & 1) && i < sizes[id]; i++) {
                uint64_t p = offsets[id] + i;
                ENSURE((uint64_t)(*w.disk[p])(RL_INFO).load() == (uint64_t)(id * 16 + i + 1));
                if (durable) ENSURE((uint64_t)(*w.synced[p])(RL_INFO).load() == 1);
            }
        }
    }
    void run(const char *s)
    {
        uint64_t mine = 0, last = 0;
        for (; *s; s++) {
            /* The scheduler is fair: without this nobody would ever be an act ahead of the others. */
            if (*s != ' ' && rl::rand(2)) {
                for (int n = (int)rl::rand(40); n > 0; n--) rl::ctx().yield(1, RL_INFO);
            }
            if (*s >= '1' && *s <= '9') {
                put((uint32_t)(*s - '0'), &mine);
            } else if (*s == 'f' || *s == 's') {
                looks[rl::thread_index()] = 1;
                int code = *s == 'f' ? weir_writer_flush(w.writer) : weir_writer_sync(w.writer);
                looks[rl::thread_index()] = 0;
                if (code == 0) in_file(mine, *s == 's');
                else failed_well(code);
            } else if (*s == 'o') {
                uint64_t offset = weir_writer_offset(w.writer);
                ENSURE(offset >= last);
                last = offset;
            }
        }
        SITE(model, "rmw", acq_rel);
        if (do_rmw<rl::rmw_type_sub>(&active, 1, site_) == 1) {
            /* As weir_writer_close, but for the join. */
            int code = weir_writer_flush(w.writer);
            if (code != 0) failed_well(code);
            SITE(model, "store", release);
            do_store(&w.writer->stop, 1, site_);
            weir__writer_nudge(w.writer);
        }
    }
    void thread(unsigned index)
    {
        if (index == 0) owner_run(w.writer);
        else if (now->script[index - 1]) run(now->script[index - 1]);
    }
    void after()
    {
        if (!now->fail_write && !now->fail_sync) {
            uint64_t end = now->start;
            ENSURE(w.flying_count == 0);
            for (int id = 0; id < ids; id++) {
                end += sizes[id];
                for (uint32_t i = 0; i < sizes[id]; i++) ENSURE(w.there[offsets[id] + i] == id * 16 + i + 1);
            }
            ENSURE(w.length == end && (uint64_t)w.writer->tail.a->debug_value() == end);
            for (uint32_t p = 0; p < now->start; p++) ENSURE(w.there[p] == 0xff);
        }
        free(w.writer->slots);
        free(w.writer->runs);
        free(w.writer->pad);
        free(w.writer);
        pool32.drop();
        pool64.drop();
        vars.drop();
    }
};

static int threads_of(const scenario *s) { return s->script[2] ? 4 : 3; }

static void tally_print(void)
{
    printf("writes %llu syncs %llu cuts %llu ring waits %llu refused %llu\n", (unsigned long long)tally.writes, (unsigned long long)tally.syncs,
           (unsigned long long)tally.cuts, (unsigned long long)tally.on_ring, (unsigned long long)tally.refused);
}

static void mark_sites(void) {}

#define MODEL_THREADS 3
#include "model_run.hpp"
