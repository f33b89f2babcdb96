/* SPDX-License-Identifier: Apache-2.0
 * The public queue, over the ring and over the pool: what was asked for is done once and told once,
 * whatever comes back short, fails or finds no room. */
#include "io/queue.h"
#include "port/clock.h"
#include "support/fault_io.h"
#include "support/temp_dir.h"
#include "support/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir_path[TEMP_DIR_BYTES];

static int group_setup(void **state)
{
    (void)state;
    temp_dir_make(dir_path);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    temp_dir_remove(dir_path);
    return 0;
}

/* ---- both backends --------------------------------------------------------------------------- */

static enum weir_io_backend backend_of(void **state)
{
    const enum weir_io_backend backend = *(enum weir_io_backend *)*state;
    if (backend == WEIR_IO_BACKEND_URING && !fault_io_has_ring()) {
        print_message("skipped: no io_uring here\n");
        skip();
    }
    return backend;
}

static struct weir_io_config small_config(enum weir_io_backend backend)
{
    struct weir_io_config config = weir_io_config_minimal();
    config.backend = backend;
    config.sq_entries = 8;
    config.max_inflight = 8;
    config.registered_buffers = 2;
    return config;
}

static struct weir_io_queue *queue_with(const struct weir_io_config *config)
{
    struct weir_io_queue *queue = NULL;
    struct weir_error error = {0};
    if (weir_io_queue_open(config, &queue, &error) != 0) {
        fail_msg("not opened: %s", error.text);
    }
    return queue;
}

/* A queue behind a seam that can be spoilt, and a file opened through it. */
struct spoilt {
    struct fault_io fault;
    struct weir_io_queue *queue;
    int dir;
    int file;
};

static void spoilt_open(struct spoilt *spoilt, enum weir_io_backend backend, const char *name)
{
    struct weir__io *const io = &spoilt->fault.io;
    const struct weir_io_config config = small_config(backend);
    fault_io_init(&spoilt->fault, FAULT_QUEUE_RING);
    if (backend == WEIR_IO_BACKEND_POSIX) {
        spoilt->fault.base = weir__io_system_pool();
    }
    assert_int_equal(io->ops->open_dir(io, dir_path, false, &spoilt->dir), 0);
    assert_int_equal(
        io->ops->open(io, spoilt->dir, name, WEIR__OPEN_WRITE | WEIR__OPEN_CREATE, &spoilt->file),
        0);
    assert_int_equal(io->ops->truncate(io, spoilt->file, 0), 0);
    assert_int_equal(weir__io_queue_open_with(&config, io, &spoilt->queue, NULL), 0);
}

static void spoilt_close(struct spoilt *spoilt)
{
    struct weir__io *const io = &spoilt->fault.io;
    weir_io_queue_close(spoilt->queue);
    assert_int_equal(io->ops->close(io, spoilt->file), 0);
    assert_int_equal(io->ops->close(io, spoilt->dir), 0);
    fault_io_exit(&spoilt->fault);
}

static int file_open(const char *name)
{
    char path[TEMP_DIR_BYTES];
    temp_dir_join(dir_path, name, path);
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    return file;
}

static void *as_user(uintptr_t number)
{
    return (void *)number; /* NOLINT */
}

static struct weir_io_request
request(enum weir_op_kind kind, int fd, uint64_t offset, void *data, size_t bytes, uintptr_t user)
{
    return (struct weir_io_request){
        .kind = kind,
        .fd = fd,
        .offset = offset,
        .data = data,
        .bytes = bytes,
        .user = as_user(user),
    };
}

/* One request and its end. */
static int64_t do_one(struct weir_io_queue *queue, struct weir_io_request one)
{
    struct weir_io_end end = {0};
    one.user = as_user(77);
    assert_int_equal(weir_io_queue_submit(queue, &one, 1), 1);
    assert_int_equal(weir_io_queue_wait(queue, &end, 1, 1, WEIR_FOREVER), 1);
    assert_ptr_equal(end.user, as_user(77));
    return end.result;
}

/* ---- against a model ------------------------------------------------------------------------- */

#define REGIONS 40u
#define REGION_BYTES 4096u
#define MODEL_BYTES (REGIONS * REGION_BYTES)

/* One operation at a time is under way in each region, so it is known what a read has to see. */
struct region {
    bool busy;
    enum weir_op_kind kind;
    uint64_t offset;
    size_t bytes;
    uint8_t *data; /* own, or a registered buffer */
    uint8_t own[REGION_BYTES + 64];
};

struct model {
    uint8_t bytes[MODEL_BYTES];
    struct region regions[REGIONS];
    size_t file_bytes;
    unsigned busy;
    uint64_t read_bytes;
    uint64_t written_bytes;
};

static void model_begin(struct model *model,
                        struct weir_io_queue *queue,
                        struct random *random,
                        unsigned index,
                        int file,
                        struct weir_io_request *out)
{
    struct region *const region = &model->regions[index];
    const size_t at = random_below(random, REGION_BYTES);
    const uint64_t dice = random_below(random, 16);
    void *const registered = weir_io_queue_buffer(queue, index);

    region->busy = true;
    region->kind = dice == 0 ? WEIR_OP_SYNC : dice < 8 ? WEIR_OP_WRITE : WEIR_OP_READ;
    region->offset = (uint64_t)index * REGION_BYTES + at;
    region->bytes = random_below(random, REGION_BYTES - at + 1);
    region->data = registered != NULL && dice % 2 == 0 ? registered : region->own + dice;
    if (region->kind == WEIR_OP_SYNC) {
        region->bytes = 0;
    } else if (region->kind == WEIR_OP_WRITE) {
        for (size_t i = 0; i < region->bytes; i++) {
            region->data[i] = (uint8_t)random_next(random);
        }
        memcpy(model->bytes + region->offset, region->data, region->bytes);
    } else {
        memset(region->data, 0xa5, region->bytes);
        if (index == REGIONS - 1) {
            region->bytes += 32; /* beyond the end of the file */
        }
    }
    model->busy++;
    *out = request(region->kind, file, region->offset, region->data, region->bytes, index);
    out->durable = region->kind == WEIR_OP_WRITE && dice == 3;
}

static void model_end(struct model *model, const struct weir_io_end *end)
{
    const uintptr_t index = (uintptr_t)end->user;
    assert_true(index < REGIONS);
    struct region *const region = &model->regions[index];
    assert_true(region->busy);
    size_t expected = region->bytes;
    if (region->kind == WEIR_OP_READ) {
        const size_t left = model->file_bytes - (size_t)region->offset;
        expected = expected < left ? expected : left;
        assert_memory_equal(region->data, model->bytes + region->offset, expected);
        model->read_bytes += expected;
    } else if (region->kind == WEIR_OP_WRITE) {
        model->written_bytes += expected;
    }
    assert_int_equal(end->result, expected);
    region->busy = false;
    model->busy--;
}

/* Submits a few for free regions. What finds no room is given up. */
static void
model_submit(struct model *model, struct weir_io_queue *queue, struct random *random, int file)
{
    struct weir_io_request requests[12];
    unsigned regions[12];
    const unsigned count = 1 + (unsigned)random_below(random, 12);
    unsigned made = 0;

    for (unsigned i = 0; i < count; i++) {
        const unsigned index = (unsigned)random_below(random, REGIONS);
        if (!model->regions[index].busy) {
            regions[made] = index;
            model->regions[index].busy = true;
            made++;
        }
    }
    /* First how many fit, so that the model need not be rolled back. */
    const unsigned room = 8 - model->busy;
    const unsigned fit = made < room ? made : room;
    for (unsigned i = 0; i < made; i++) {
        if (i < fit) {
            model_begin(model, queue, random, regions[i], file, &requests[i]);
        } else {
            model->regions[regions[i]].busy = false;
            requests[i] = request(WEIR_OP_SYNC, file, 0, NULL, 0, REGIONS);
        }
    }
    const int taken = weir_io_queue_submit(queue, requests, made);
    assert_int_equal(taken, made > 0 && fit == 0 ? -EAGAIN : (int)fit);
}

static void reads_and_writes_do_what_a_model_does(void **state)
{
    const struct weir_io_config config = small_config(backend_of(state));
    struct weir_io_queue *const queue = queue_with(&config);
    struct model *const model = calloc(1, sizeof *model);
    struct random random = {.state = test_seed()};
    const int file = file_open("model");
    const unsigned rounds = test_rounds(10000);
    unsigned ended = 0;

    assert_non_null(model);
    model->file_bytes = MODEL_BYTES;
    assert_int_equal(ftruncate(file, MODEL_BYTES), 0);
    while (ended < rounds || model->busy > 0) {
        if (ended < rounds) {
            model_submit(model, queue, &random, file);
        }
        struct weir_io_stats stats;
        weir_io_queue_stats(queue, &stats);
        assert_true(weir_io_stats_in_flight(&stats) <= config.max_inflight);

        struct weir_io_end ends[16];
        static const int64_t timeouts[] = {WEIR_TRY, WEIR_FOREVER, 1000, 1000000};
        const int64_t timeout_ns = timeouts[random_below(&random, 4)];
        const size_t max = 1 + random_below(&random, 16);
        const size_t min = random_below(&random, max + 1);
        const size_t due = min < model->busy ? min : model->busy;
        const int got = weir_io_queue_wait(queue, ends, max, min, timeout_ns);
        assert_true(got >= 0 && (size_t)got <= max);
        assert_true(timeout_ns != WEIR_FOREVER || (size_t)got >= due);
        for (int i = 0; i < got; i++) {
            model_end(model, &ends[i]);
        }
        ended += (unsigned)got;
    }
    uint8_t *const back = malloc(MODEL_BYTES);
    assert_non_null(back);
    assert_int_equal(pread(file, back, MODEL_BYTES, 0), MODEL_BYTES);
    assert_memory_equal(back, model->bytes, MODEL_BYTES);

    struct weir_io_stats stats;
    weir_io_queue_stats(queue, &stats);
    assert_int_equal(stats.ops_submitted, stats.ops_completed);
    assert_true(stats.ops_submitted >= ended);
    assert_int_equal(stats.bytes_written, model->written_bytes);
    assert_true(stats.bytes_read >= model->read_bytes);
    assert_int_equal(stats.cqe_overflows, 0);
    assert_int_equal(stats.sq_dropped, 0);
    assert_int_equal(weir_io_stats_in_flight(&stats), 0);
    free(back);
    free(model);
    weir_io_queue_close(queue);
    (void)close(file);
}

/* ---- how many ------------------------------------------------------------------------------- */

static void as_many_are_taken_as_fit_and_in_one_submission(void **state)
{
    const struct weir_io_config config = small_config(backend_of(state));
    struct weir_io_queue *const queue = queue_with(&config);
    const int file = file_open("room");
    struct weir_io_request requests[20];
    struct weir_io_end ends[20];
    char letters[20];

    for (unsigned i = 0; i < 20; i++) {
        letters[i] = (char)('a' + i);
        requests[i] = request(WEIR_OP_WRITE, file, i, &letters[i], 1, i);
    }
    const struct weir__transfer_counters *const counters = &weir__io_queue_device(queue)->counters;
    assert_int_equal(weir_io_queue_submit(queue, requests, 20), 8);
    assert_int_equal(weir__load(&counters->pushes, relaxed), 1);
    assert_int_equal(weir_io_queue_submit(queue, requests + 8, 12), -EAGAIN);
    assert_int_equal(weir_io_queue_submit(queue, requests + 8, 0), 0);
    /* At least 3; what is there besides stays for later, or comes too. */
    int got = weir_io_queue_wait(queue, ends, 3, 3, WEIR_FOREVER);
    assert_int_equal(got, 3);
    assert_int_equal(weir_io_queue_submit(queue, requests + 8, 12), 3);
    assert_int_equal(weir__load(&counters->pushes, relaxed), 2);
    assert_int_equal(weir_io_queue_submit(queue, requests + 11, 9), -EAGAIN);
    got = weir_io_queue_wait(queue, ends + 3, 17, 17, WEIR_FOREVER);
    assert_int_equal(got, 8); /* all that were under way */
    assert_int_equal(weir_io_queue_wait(queue, ends, 20, 20, WEIR_FOREVER), 0);
    uint32_t seen = 0;
    for (unsigned i = 0; i < 11; i++) {
        assert_int_equal(ends[i].result, 1);
        seen |= 1u << (uintptr_t)ends[i].user;
    }
    assert_int_equal(seen, (1u << 11) - 1);
    char back[20];
    assert_int_equal(pread(file, back, sizeof back, 0), 11);
    assert_memory_equal(back, letters, 11);
    weir_io_queue_close(queue);
    (void)close(file);
}

/* Ends that nobody has collected hold their place. */
static void ends_are_handed_out_max_at_a_time_and_once(void **state)
{
    const struct weir_io_config config = small_config(backend_of(state));
    struct weir_io_queue *const queue = queue_with(&config);
    const int file = file_open("max");
    struct weir_io_request requests[8];
    char letter = 'x';

    for (unsigned i = 0; i < 8; i++) {
        requests[i] = request(WEIR_OP_WRITE, file, i, &letter, 1, i);
    }
    assert_int_equal(weir_io_queue_submit(queue, requests, 8), 8);
    uint32_t seen = 0;
    for (unsigned i = 0; i < 8; i++) {
        struct weir_io_end ends[2] = {{.result = -1}, {.result = -1}};
        assert_int_equal(weir_io_queue_wait(queue, ends, 1, 1, WEIR_FOREVER), 1);
        assert_int_equal(ends[0].result, 1);
        assert_int_equal(ends[1].result, -1);
        seen |= 1u << (uintptr_t)ends[0].user;
    }
    assert_int_equal(seen, 255);
    assert_int_equal(weir_io_queue_wait(queue, NULL, 0, 0, WEIR_FOREVER), 0);
    weir_io_queue_close(queue);
    (void)close(file);
}

static void waits_end_at_their_time(void **state)
{
    struct spoilt spoilt;
    struct weir_io_end ends[4];
    char text[] = "held";
    spoilt_open(&spoilt, backend_of(state), "held");
    const struct weir_io_request requests[3] = {
        request(WEIR_OP_WRITE, spoilt.file, 0, text, 4, 1),
        request(WEIR_OP_WRITE, spoilt.file, 4, text, 4, 2),
        request(WEIR_OP_SYNC, spoilt.file, 0, NULL, 0, 3),
    };
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 4, 4, WEIR_FOREVER), 0);
    fault_io_arm(&spoilt.fault,
                 &(struct fault_rule){.kind = FAULT_WRITE, .name = "held", .hold = true});
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests, 2), 2);
    assert_true(fault_io_wait_held(&spoilt.fault, 2));
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 4, 1, WEIR_TRY), 0);
    const uint64_t before_ns = weir__now_ns();
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 4, 1, 2000000), 0);
    assert_true(weir__now_ns() - before_ns >= 2000000);
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 4, 0, WEIR_FOREVER), 0);
    /* One ends, two are waited for: the time decides, and the one is told. */
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests + 2, 1), 1);
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 4, 1, WEIR_FOREVER), 1);
    assert_ptr_equal(ends[0].user, as_user(3));
    assert_int_equal(ends[0].result, 0);
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests + 2, 1), 1);
    int got = 0;
    /* The sync is under way; a wait for all three times out and hands it out at last. */
    while (got == 0) {
        got = weir_io_queue_wait(spoilt.queue, ends, 4, 3, 1000000);
    }
    assert_int_equal(got, 1);
    fault_io_release(&spoilt.fault);
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 4, 4, WEIR_FOREVER), 2);
    assert_int_equal(ends[0].result + ends[1].result, 8);
    spoilt_close(&spoilt);
}

/* The ring of two entries: more at once than completions find room for would be an overflow. */
static void no_completion_is_ever_without_room(void **state)
{
    struct weir_io_config config = small_config(backend_of(state));
    const int file = file_open("load");
    struct weir_io_request requests[64];
    static char letters[64];
    struct weir_io_stats stats;

    config.sq_entries = 2;
    config.max_inflight = 64;
    struct weir_io_queue *const queue = queue_with(&config);
    struct weir_io_effective effective;
    weir_io_queue_effective(queue, &effective);
    assert_int_equal(pwrite(file, letters, sizeof letters, 0), sizeof letters);
    for (unsigned i = 0; i < 64; i++) {
        requests[i] = request(WEIR_OP_READ, file, i, &letters[i], 1, i);
    }
    for (unsigned round = 0; round < test_rounds(300); round++) {
        /* As many as it takes, and none collected before all have gone out. */
        unsigned taken = 0;
        for (int more = 1; more > 0 && taken<64; taken += more> 0 ? (unsigned)more : 0) {
            more = weir_io_queue_submit(queue, requests + taken, 64 - taken);
        }
        assert_int_equal(taken, effective.config.max_inflight);
        weir_io_queue_stats(queue, &stats);
        assert_true(weir_io_stats_in_flight(&stats) <= effective.config.max_inflight);
        struct weir_io_end ends[64];
        assert_int_equal(weir_io_queue_wait(queue, ends, 64, 64, WEIR_FOREVER), taken);
        for (unsigned i = 0; i < taken; i++) {
            assert_int_equal(ends[i].result, 1);
        }
    }
    weir_io_queue_stats(queue, &stats);
    assert_int_equal(stats.cqe_overflows, 0);
    assert_int_equal(stats.sq_dropped, 0);
    assert_int_equal(stats.ops_completed, stats.ops_submitted);
    weir_io_queue_close(queue);
    (void)close(file);
}

/* ---- short and long -------------------------------------------------------------------------- */

static void short_results_are_gone_on_with(void **state)
{
    struct spoilt spoilt;
    static uint8_t out[20000];
    static uint8_t back[20000];
    spoilt_open(&spoilt, backend_of(state), "short");
    struct random random = {.state = test_seed()};
    for (size_t i = 0; i < sizeof out; i++) {
        out[i] = (uint8_t)random_next(&random);
    }
    const unsigned writes = fault_io_arm(&spoilt.fault,
                                         &(struct fault_rule){.kind = FAULT_WRITE,
                                                              .name = "short",
                                                              .times = 3,
                                                              .shortened = true,
                                                              .bytes = 1001});
    assert_int_equal(
        do_one(spoilt.queue, request(WEIR_OP_WRITE, spoilt.file, 5, out, sizeof out, 0)),
        sizeof out);
    assert_int_equal(fault_io_spoilt(&spoilt.fault, writes), 3);
    /* A write goes on from the byte, however it is aligned: it may have met a limit there. */
    fault_io_forget(&spoilt.fault);
    fault_io_arm(&spoilt.fault,
                 &(struct fault_rule){.kind = FAULT_WRITE,
                                      .name = "short",
                                      .times = 1,
                                      .shortened = true,
                                      .bytes = 1001});
    assert_int_equal(do_one(spoilt.queue, request(WEIR_OP_WRITE, spoilt.file, 32768, out, 8192, 0)),
                     8192);
    struct fault_op rest;
    assert_true(fault_io_find(&spoilt.fault,
                              &(struct fault_look){.kind = FAULT_WRITE, .offset_from = 32769},
                              &rest));
    assert_int_equal(rest.offset, 32768 + 1001);
    assert_int_equal(spoilt.fault.io.ops->truncate(&spoilt.fault.io, spoilt.file, 20005), 0);
    /* The end of the file may be near the short result, or not; it may be aligned, or not. */
    static const struct {
        uint64_t offset;
        size_t bytes;
        size_t expected;
        unsigned times;
        size_t shortened;
        uint64_t block; /* of what it has to go on from, a direct descriptor or not */
    } rows[] = {
        {5, 20000, 20000, 5, 600, 1},
        {0, 16384, 16384, 1, 600, 4096},
        {0, 16384, 16384, 3, 4500, 4096},
        {16384, 8192, 20005 - 16384, 1, 600, 4096},
        {512, 19456, 19456, 3, 600, 512},
        {4096, 20000, 20005 - 4096, 3, 600, 1},
        {20004, 100, 1, 1, 600, 1},
        {20005, 100, 0, 1, 600, 1},
        {4096 * 100, 4096, 0, 1, 600, 4096},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memset(back, 0, sizeof back);
        fault_io_forget(&spoilt.fault);
        fault_io_arm(&spoilt.fault,
                     &(struct fault_rule){.kind = FAULT_READ,
                                          .name = "short",
                                          .way = FAULT_QUEUED,
                                          .times = rows[i].times,
                                          .shortened = true,
                                          .bytes = rows[i].shortened});
        assert_int_equal(
            do_one(spoilt.queue,
                   request(WEIR_OP_READ, spoilt.file, rows[i].offset, back, rows[i].bytes, 0)),
            rows[i].expected);
        fault_io_heal(&spoilt.fault);
        /* The first was shortened; the second begins with the block that it broke off in. */
        struct fault_op reads[2];
        struct fault_look look = {.kind = FAULT_READ};
        assert_true(fault_io_find(&spoilt.fault, &look, &reads[0]));
        assert_int_equal(reads[0].offset, rows[i].offset);
        look.after = reads[0].begun;
        assert_int_equal(fault_io_find(&spoilt.fault, &look, &reads[1]), rows[i].expected > 0);
        if (rows[i].expected > 0) {
            const uint64_t came = (uint64_t)reads[0].result;
            assert_true(came <= rows[i].shortened);
            assert_int_equal(reads[1].offset,
                             rows[i].offset + came / rows[i].block * rows[i].block);
        }
        const size_t skip = rows[i].offset < 5 ? (size_t)(5 - rows[i].offset) : 0;
        if (rows[i].expected > skip) {
            assert_memory_equal(back + skip,
                                out + rows[i].offset + skip - 5,
                                rows[i].expected - skip);
        }
    }
    spoilt_close(&spoilt);
}

/* Goes on from multiples of the device's block: anything else would be refused. */
static void direct_descriptor_reads_up_to_an_end_within_a_block(void **state)
{
    const struct weir_io_config config = small_config(backend_of(state));
    char path[TEMP_DIR_BYTES];
    temp_dir_join(dir_path, "direct", path);
    const int plain = file_open("direct");
    char text[5000];
    memset(text, 'd', sizeof text);
    assert_int_equal(pwrite(plain, text, sizeof text, 0), sizeof text);
    assert_int_equal(fsync(plain), 0);
    const int file = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (file < 0) {
        (void)close(plain);
        print_message("skipped: no O_DIRECT on this file system\n");
        skip();
    }
    struct weir_io_queue *const queue = queue_with(&config);
    uint8_t *memory = NULL;
    assert_int_equal(posix_memalign((void **)&memory, 4096, 8192), 0);
    assert_int_equal(do_one(queue, request(WEIR_OP_READ, file, 0, memory, 8192, 0)), 5000);
    assert_memory_equal(memory, text, 5000);
    assert_int_equal(do_one(queue, request(WEIR_OP_READ, file, 4096, memory, 4096, 0)), 904);
    assert_int_equal(do_one(queue, request(WEIR_OP_READ, file, 8192, memory, 4096, 0)), 0);
    /* Alignment is the caller's: what the file system refuses is the end. */
    assert_int_equal(do_one(queue, request(WEIR_OP_READ, file, 1, memory, 4096, 0)), -EINVAL);
    free(memory);
    weir_io_queue_close(queue);
    (void)close(file);
    (void)close(plain);
}

/* ---- durability ------------------------------------------------------------------------------ */

static void durable_writes_are_durable_when_they_end_and_others_by_a_sync(void **state)
{
    struct spoilt spoilt;
    char text[] = "keep this";
    spoilt_open(&spoilt, backend_of(state), "durable");
    struct weir_io_request one = request(WEIR_OP_WRITE, spoilt.file, 0, text, 9, 0);
    one.durable = true;
    assert_int_equal(do_one(spoilt.queue, one), 9);
    assert_int_equal(fault_io_unsynced(&spoilt.fault, "durable"), 0);
    assert_int_equal(
        fault_io_count(&spoilt.fault,
                       &(struct fault_look){.kind = FAULT_WRITE, .durable = FAULT_DURABLE_WRITE}),
        1);
    one.durable = false;
    one.offset = 9;
    assert_int_equal(do_one(spoilt.queue, one), 9);
    assert_int_equal(fault_io_unsynced(&spoilt.fault, "durable"), 9);
    /* durable says nothing of the others. */
    one = request(WEIR_OP_SYNC, spoilt.file, 0, NULL, 0, 0);
    one.durable = true;
    assert_int_equal(do_one(spoilt.queue, one), 0);
    assert_int_equal(fault_io_unsynced(&spoilt.fault, "durable"), 0);
    spoilt_close(&spoilt);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void error_is_its_own_requests_end_and_nobody_elses(void **state)
{
    struct spoilt spoilt;
    char text[] = "x";
    struct weir_io_end ends[4];
    spoilt_open(&spoilt, backend_of(state), "errors");
    fault_io_arm(&spoilt.fault,
                 &(struct fault_rule){.kind = FAULT_WRITE,
                                      .name = "errors",
                                      .offset_from = 100,
                                      .times = 1,
                                      .error = -ENOSPC});
    fault_io_arm(&spoilt.fault,
                 &(struct fault_rule){.kind = FAULT_SYNC, .times = 1, .error = -EIO});
    const struct weir_io_request requests[3] = {
        request(WEIR_OP_WRITE, spoilt.file, 0, text, 1, 0),
        request(WEIR_OP_WRITE, spoilt.file, 100, text, 1, 1),
        request(WEIR_OP_SYNC, spoilt.file, 0, NULL, 0, 2),
    };
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests, 3), 3);
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 4, 4, WEIR_FOREVER), 3);
    int64_t results[3] = {99, 99, 99};
    for (unsigned i = 0; i < 3; i++) {
        results[(uintptr_t)ends[i].user] = ends[i].result;
    }
    assert_int_equal(results[0], 1);
    assert_int_equal(results[1], -ENOSPC);
    assert_int_equal(results[2], -EIO);
    /* A failed sync is not tried again; a new one is another. */
    assert_int_equal(fault_io_count(&spoilt.fault, &(struct fault_look){.kind = FAULT_SYNC}), 1);
    assert_int_equal(do_one(spoilt.queue, request(WEIR_OP_SYNC, spoilt.file, 0, NULL, 0, 0)), 0);
    spoilt_close(&spoilt);
}

static void submission_that_is_refused_has_begun_nothing(void **state)
{
    struct spoilt spoilt;
    char text[] = "x";
    struct weir_io_end end;
    spoilt_open(&spoilt, backend_of(state), "refused");
    fault_io_arm(&spoilt.fault,
                 &(struct fault_rule){.kind = FAULT_QUEUE_PUSH, .times = 1, .error = -ENOMEM});
    struct weir_io_request requests[8];
    for (unsigned i = 0; i < 8; i++) {
        requests[i] = request(WEIR_OP_WRITE, spoilt.file, i, text, 1, i);
    }
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests, 8), -ENOMEM);
    assert_int_equal(weir_io_queue_wait(spoilt.queue, &end, 1, 1, WEIR_FOREVER), 0);
    /* No place is lost. */
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests, 8), 8);
    struct weir_io_end ends[8];
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 8, 8, WEIR_FOREVER), 8);
    struct weir_io_stats stats;
    weir_io_queue_stats(spoilt.queue, &stats);
    assert_int_equal(stats.ops_submitted, 8);
    assert_int_equal(stats.bytes_written, 8);
    spoilt_close(&spoilt);
}

static void broken_ring_is_told_by_everything_from_then_on(void **state)
{
    struct spoilt spoilt;
    char text[] = "x";
    struct weir_io_end ends[8];
    spoilt_open(&spoilt, backend_of(state), "broken");
    struct weir_io_request requests[2] = {
        request(WEIR_OP_WRITE, spoilt.file, 0, text, 1, 0),
        request(WEIR_OP_WRITE, spoilt.file, 1, text, 1, 1),
    };
    /* Two have ended, and one was collected, before it breaks. */
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests, 2), 2);
    while (weir__io_queue_device(spoilt.queue)->transfer.in_flight > 0) {
        assert_true(weir__transfer_reap(&weir__io_queue_device(spoilt.queue)->transfer,
                                        1,
                                        WEIR__NEVER) >= 0);
    }
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 1, 1, WEIR_FOREVER), 1);
    fault_io_arm(&spoilt.fault, &(struct fault_rule){.kind = FAULT_QUEUE_REAP, .error = -ENXIO});
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests, 2), 2);
    /* What is known is told first. */
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 8, 3, WEIR_FOREVER), 1);
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 8, 1, WEIR_FOREVER), -ENXIO);
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 8, 0, WEIR_TRY), -ENXIO);
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests, 2), -ENXIO);
    fault_io_heal(&spoilt.fault);
    assert_int_equal(weir_io_queue_submit(spoilt.queue, requests, 2), -ENXIO);
    assert_int_equal(weir_io_queue_wait(spoilt.queue, ends, 8, 1, WEIR_FOREVER), -ENXIO);
    spoilt_close(&spoilt);
}

static void mistakes_of_the_caller_are_refused_one_by_one(void **state)
{
    const struct weir_io_config config = small_config(backend_of(state));
    struct weir_io_queue *const queue = queue_with(&config);
    const int file = file_open("mistakes");
    char text[] = "x";
    struct weir_io_end end;
    const struct weir_io_request bad[] = {
        request((enum weir_op_kind)0, file, 0, text, 1, 0),
        request((enum weir_op_kind)4, file, 0, text, 1, 0),
        request(WEIR_OP_WRITE, file, 0, NULL, 1, 0),
        request(WEIR_OP_READ, file, 0, NULL, 1, 0),
        request(WEIR_OP_WRITE, file, (uint64_t)INT64_MAX + 1, text, 0, 0),
        request(WEIR_OP_WRITE, file, INT64_MAX, text, 1, 0),
        request(WEIR_OP_READ, file, 1, text, (size_t)INT64_MAX, 0),
        request(WEIR_OP_READ, file, 1, text, SIZE_MAX, 0),
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(weir_io_queue_submit(queue, &bad[i], 1), -EINVAL);
        /* Behind good ones: those are taken, and it is the next. */
        const struct weir_io_request two[2] = {request(WEIR_OP_SYNC, file, 0, NULL, 0, 5), bad[i]};
        assert_int_equal(weir_io_queue_submit(queue, two, 2), 1);
        assert_int_equal(weir_io_queue_wait(queue, &end, 1, 1, WEIR_FOREVER), 1);
        assert_ptr_equal(end.user, as_user(5));
        assert_int_equal(end.result, 0);
    }
    assert_int_equal(weir_io_queue_submit(queue, NULL, 1), -EINVAL);
    assert_int_equal(weir_io_queue_submit(queue, NULL, 0), 0);
    assert_int_equal(weir_io_queue_wait(queue, NULL, 1, 0, WEIR_TRY), -EINVAL);
    /* The kernel's to refuse. */
    assert_int_equal(do_one(queue, request(WEIR_OP_WRITE, -1, 0, text, 1, 0)), -EBADF);
    assert_int_equal(do_one(queue, request(WEIR_OP_SYNC, -1, 0, NULL, 0, 0)), -EBADF);
    /* Nothing is something that can be asked for. */
    assert_int_equal(do_one(queue, request(WEIR_OP_WRITE, file, 3, NULL, 0, 0)), 0);
    assert_int_equal(do_one(queue, request(WEIR_OP_READ, file, 3, NULL, 0, 0)), 0);
    weir_io_queue_close(queue);
    weir_io_queue_close(NULL);
    (void)close(file);
}

/* ---- buffers, threads, memory ---------------------------------------------------------------- */

static void registered_buffers_are_to_be_had_by_their_index(void **state)
{
    struct weir_io_config config = small_config(backend_of(state));
    config.registered_buffers = 3;
    config.buffer_bytes = 8192;
    struct weir_io_queue *const queue = queue_with(&config);
    const int file = file_open("buffers");
    uint8_t *previous = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        uint8_t *const buffer = weir_io_queue_buffer(queue, i);
        assert_non_null(buffer);
        assert_int_equal((uintptr_t)buffer % 4096, 0);
        assert_true(previous == NULL || buffer - previous >= 8192 || previous - buffer >= 8192);
        previous = buffer;
        memset(buffer, 'a' + (int)i, 8192);
        assert_int_equal(
            do_one(queue, request(WEIR_OP_WRITE, file, (uint64_t)i * 8192, buffer, 8192, 0)),
            8192);
    }
    assert_null(weir_io_queue_buffer(queue, 3));
    assert_null(weir_io_queue_buffer(queue, UINT32_MAX));
    for (uint32_t i = 0; i < 3; i++) {
        uint8_t *const buffer = weir_io_queue_buffer(queue, 2);
        assert_int_equal(
            do_one(queue, request(WEIR_OP_READ, file, (uint64_t)i * 8192, buffer, 8192, 0)),
            8192);
        assert_int_equal(buffer[0], 'a' + (int)i);
        assert_int_equal(buffer[8191], 'a' + (int)i);
    }
    weir_io_queue_close(queue);
    (void)close(file);
}

struct shared {
    struct weir_io_queue *queue;
    pthread_mutex_t turn; /* one at a time */
    int file;
    _Atomic(bool) done;
    uint64_t ended; /* guarded by turn */
};

static void take_turns(struct worker *worker)
{
    struct shared *const shared = worker->ctx;
    struct weir_io_stats stats;
    char letters[4] = "abcd";

    if (worker->index == 0) {
        /* The figures may be asked for without a turn. */
        while (!atomic_load_explicit(&shared->done, memory_order_acquire)) {
            weir_io_queue_stats(shared->queue, &stats);
            if (weir_io_stats_completion_rate(&stats) > 1.0 || stats.cqe_overflows != 0) {
                worker_fail(worker, "figures that cannot be");
            }
            random_pause(&worker->random);
        }
        return;
    }
    for (unsigned i = 0; i < test_rounds(300); i++) {
        struct weir_io_request requests[4];
        struct weir_io_end ends[8];
        (void)pthread_mutex_lock(&shared->turn);
        for (unsigned k = 0; k < 4; k++) {
            requests[k] =
                request(WEIR_OP_WRITE, shared->file, worker->index * 4 + k, &letters[k], 1, 0);
        }
        /* The half is left for whoever comes next. */
        const int taken = weir_io_queue_submit(shared->queue, requests, 4);
        const int got = weir_io_queue_wait(shared->queue, ends, 8, 4, WEIR_FOREVER);
        for (int k = 0; k < got; k++) {
            if (ends[k].result != 1) {
                worker_fail(worker, "a write ended as %lld", (long long)ends[k].result);
            }
        }
        shared->ended += got > 0 ? (unsigned)got : 0;
        if (taken != 4 || got < 4) {
            worker_fail(worker, "%d taken, %d ended", taken, got);
        }
        (void)pthread_mutex_unlock(&shared->turn);
    }
}

static void threads_use_a_queue_one_at_a_time_and_ask_for_figures_at_any(void **state)
{
    const struct weir_io_config config = small_config(backend_of(state));
    struct shared shared = {.queue = queue_with(&config), .file = file_open("threads")};
    struct workers workers;
    assert_int_equal(pthread_mutex_init(&shared.turn, NULL), 0);
    /* Two more under way than anybody waits for, from a thread that is gone by then. */
    char letters[2] = "zz";
    const struct weir_io_request two[2] = {
        request(WEIR_OP_WRITE, shared.file, 100, letters, 1, 0),
        request(WEIR_OP_WRITE, shared.file, 101, letters, 1, 0),
    };
    assert_int_equal(weir_io_queue_submit(shared.queue, two, 2), 2);
    struct workers asker;
    workers_start(&asker, 1, take_turns, &shared, test_seed());
    workers_start(&workers, 4, take_turns, &shared, test_seed() + 1);
    /* Worker 0 of each only asks; the three others take turns. */
    for (unsigned i = 1; i < 4; i++) {
        (void)pthread_join(workers.worker[i].thread, NULL);
        assert_string_equal(workers.worker[i].failure, "");
    }
    atomic_store_explicit(&shared.done, true, memory_order_release);
    (void)pthread_join(workers.worker[0].thread, NULL);
    assert_string_equal(workers.worker[0].failure, "");
    workers_finish(&asker);
    struct weir_io_end ends[8];
    const int rest = weir_io_queue_wait(shared.queue, ends, 8, 8, WEIR_FOREVER);
    assert_int_equal(shared.ended + (unsigned)rest, 3 * 4 * test_rounds(300) + 2);
    weir_io_queue_close(shared.queue);
    (void)pthread_mutex_destroy(&shared.turn);
    (void)close(shared.file);
}

static void close_waits_for_what_is_under_way(void **state)
{
    const struct weir_io_config config = small_config(backend_of(state));
    const int file = file_open("closing");
    char letters[9] = "abcdefgh";
    struct weir_io_request requests[8];
    for (unsigned round = 0; round < 20; round++) {
        struct weir_io_queue *const queue = queue_with(&config);
        assert_int_equal(ftruncate(file, 0), 0);
        for (unsigned i = 0; i < 8; i++) {
            requests[i] = request(WEIR_OP_WRITE, file, i, &letters[i], 1, i);
        }
        assert_int_equal(weir_io_queue_submit(queue, requests, 8), 8);
        weir_io_queue_close(queue);
        char back[9] = "";
        assert_int_equal(pread(file, back, 8, 0), 8);
        assert_string_equal(back, letters);
    }
    (void)close(file);
}

/* What came back short is gone on with even then: it was taken. */
static void close_sees_short_writes_through(void **state)
{
    struct spoilt spoilt;
    static char letters[5000];
    static char back[5000];
    spoilt_open(&spoilt, backend_of(state), "closed");
    memset(letters, 'c', sizeof letters);
    fault_io_arm(&spoilt.fault,
                 &(struct fault_rule){.kind = FAULT_WRITE,
                                      .name = "closed",
                                      .times = 3,
                                      .shortened = true,
                                      .bytes = 1001});
    const struct weir_io_request one =
        request(WEIR_OP_WRITE, spoilt.file, 0, letters, sizeof letters, 0);
    assert_int_equal(weir_io_queue_submit(spoilt.queue, &one, 1), 1);
    spoilt_close(&spoilt);
    char path[TEMP_DIR_BYTES];
    temp_dir_join(dir_path, "closed", path);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pread(file, back, sizeof back, 0), sizeof back);
    assert_memory_equal(back, letters, sizeof back);
    (void)close(file);
}

struct tally {
    unsigned calls;
    unsigned fail_at; /* number of the call that gets nothing; 0: none */
    size_t blocks;
};

static void *tally_alloc(void *ctx, size_t bytes, size_t align)
{
    struct tally *const tally = ctx;
    void *block = NULL;
    if (++tally->calls == tally->fail_at ||
        posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, bytes) != 0) {
        return NULL;
    }
    tally->blocks++;
    return block;
}

static void tally_release(void *ctx, void *block, size_t bytes)
{
    struct tally *const tally = ctx;
    (void)bytes;
    tally->blocks--;
    free(block);
}

static void memory_is_asked_for_at_the_opening_only_and_goes_back(void **state)
{
    struct tally tally = {0};
    const struct weir_memory_hooks hooks = {tally_alloc, tally_release, &tally};
    struct weir_io_config config = small_config(backend_of(state));
    config.memory = &hooks;
    const int file = file_open("memory");
    struct weir_io_queue *queue = queue_with(&config);
    const unsigned calls = tally.calls;
    /* The queue, its two tables, the ring or pool, the transfer's scratch, the buffers. */
    assert_true(tally.blocks >= 6);
    char letter = 'm';
    assert_int_equal(do_one(queue, request(WEIR_OP_WRITE, file, 0, &letter, 1, 0)), 1);
    assert_int_equal(do_one(queue, request(WEIR_OP_READ, file, 0, &letter, 1, 0)), 1);
    assert_int_equal(tally.calls, calls);
    weir_io_queue_close(queue);
    assert_int_equal(tally.blocks, 0);
    for (unsigned at = 1; at <= calls; at++) {
        struct weir_error error = {0};
        tally.calls = 0;
        tally.fail_at = at;
        assert_int_equal(weir_io_queue_open(&config, &queue, &error), -ENOMEM);
        assert_int_equal(error.code, -ENOMEM);
        assert_int_not_equal(error.text[0], '\0');
        assert_int_equal(tally.blocks, 0);
    }
    (void)close(file);
}

#define OVER(test)                                                                                 \
    {#test " (ring)", test, NULL, NULL, &ring},                                                    \
    {                                                                                              \
#test " (pool)", test, NULL, NULL, &pool                                                   \
    }

int main(int argc, char **argv)
{
    static enum weir_io_backend ring = WEIR_IO_BACKEND_URING;
    static enum weir_io_backend pool = WEIR_IO_BACKEND_POSIX;
    test_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        OVER(reads_and_writes_do_what_a_model_does),
        OVER(as_many_are_taken_as_fit_and_in_one_submission),
        OVER(ends_are_handed_out_max_at_a_time_and_once),
        OVER(waits_end_at_their_time),
        OVER(no_completion_is_ever_without_room),
        OVER(short_results_are_gone_on_with),
        OVER(direct_descriptor_reads_up_to_an_end_within_a_block),
        OVER(durable_writes_are_durable_when_they_end_and_others_by_a_sync),
        OVER(error_is_its_own_requests_end_and_nobody_elses),
        OVER(submission_that_is_refused_has_begun_nothing),
        OVER(broken_ring_is_told_by_everything_from_then_on),
        OVER(mistakes_of_the_caller_are_refused_one_by_one),
        OVER(registered_buffers_are_to_be_had_by_their_index),
        OVER(threads_use_a_queue_one_at_a_time_and_ask_for_figures_at_any),
        OVER(close_waits_for_what_is_under_way),
        OVER(close_sees_short_writes_through),
        OVER(memory_is_asked_for_at_the_opening_only_and_goes_back),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
