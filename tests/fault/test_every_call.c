/* SPDX-License-Identifier: Apache-2.0
 * A fixed workload in which one call after the other fails: every call that the engine makes on its
 * files and its queue, with each errno that it can give, once and from then on; and every allocation.
 *
 * Whatever fails: no call of the interface hangs (an alarm, set anew before each of them, ends the
 * process and names the case), every
 * descriptor is closed and every allocation given back, and when the cause is gone the log opens, holds
 * every record that was acknowledged, nothing that was not appended, and goes on.
 *
 * Chance picks one case in so many (--seed); WEIR_EVERY_CALL=1 in the environment runs them all, some
 * minutes. */
#include "api/log.h"
#include "base/atomic.h"
#include "stress/memory_dir.h"
#include "support/threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIR "log"
#define BLOCK 512u
#define SEGMENT ((uint64_t)16 * 1024)
#define RECORDS_MAX 128u
#define RECORD_BYTES 900u
#define SHORT_BYTES 100 /* a read or write that is cut to so many */
#define HANG_SECONDS 60u
#define RARE 100u /* one case in so many, unless all are asked for */

/* ---- what fails ------------------------------------------------------------------------------ */

struct failing {
    bool armed;
    enum memory_call call;
    unsigned skip;
    bool for_ever;
    long result;
    unsigned seen; /* calls of the kind, since it was armed */
    bool fired;
};

static struct failing failing; /* guarded by the directory's mutex */

static long before(void *ctx, enum memory_call call, const char *name, size_t bytes)
{
    (void)ctx;
    (void)name;
    (void)bytes;
    if (!failing.armed || call != failing.call) {
        return 0;
    }
    const unsigned number = failing.seen++;
    if (number < failing.skip || (number > failing.skip && !failing.for_ever)) {
        return 0;
    }
    failing.fired = true;
    return failing.result;
}

/* Memory that is counted, and refused at the call of a number. */
static struct {
    WEIR__ATOMIC(uint64_t) calls; /* relaxed: a number */
    WEIR__ATOMIC(uint64_t) live;  /* relaxed: read when nobody else is left */
    WEIR__ATOMIC(uint32_t) fired; /* relaxed */
    uint64_t fail_at;             /* set before start; 0: none */
    bool for_ever;                /* set before start */
} memory;

static void *memory_alloc(void *ctx, size_t bytes, size_t align)
{
    (void)ctx;
    const uint64_t number = weir__fetch_add(&memory.calls, 1, relaxed) + 1;
    if (memory.fail_at != 0 &&
        (number == memory.fail_at || (memory.for_ever && number > memory.fail_at))) {
        weir__store(&memory.fired, 1u, relaxed);
        return NULL;
    }
    void *block = NULL;
    if (posix_memalign(&block, align, bytes) != 0) {
        return NULL;
    }
    (void)weir__fetch_add(&memory.live, 1, relaxed);
    return block;
}

static void memory_release(void *ctx, void *block, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(block);
    (void)weir__fetch_sub(&memory.live, 1, relaxed);
}

static const struct weir_memory_hooks hooks = {.alloc = memory_alloc, .release = memory_release};

/* ---- the workload ---------------------------------------------------------------------------- */

struct way {
    const char *name;
    enum weir_io io;
    bool queue;
    int fua;
};

static const struct way ways[] = {
    {"posix", WEIR_IO_POSIX, false, 0},
    {"chain", WEIR_IO_CHAIN, true, 0},
    {"auto with FUA", WEIR_IO_AUTO, true, 1},
};

/* What became of each record; the tag is its number. */
struct fate {
    weir_lsn lsn;
    bool appended; /* it may be there */
    bool acknowledged;
};

static struct memory_dir disk;
static struct fate fates[RECORDS_MAX];
static unsigned fate_count;
static weir_lsn trimmed; /* up to here a trim was asked for */

static uint8_t byte_of(uint64_t tag, size_t at)
{
    return (uint8_t)(tag * 31 + at * 7);
}

static struct weir_options options_for(const struct way *way)
{
    struct weir_options options = WEIR_OPTIONS_INIT;
    options.io = way->io;
    options.block_bytes = BLOCK;
    options.segment_bytes = SEGMENT;
    options.slot_bytes = 4096;
    options.slots = 2;
    options.record_bytes_max = 4096;
    options.max_inflight = 2;
    options.recycle_segments = 1;
    options.no_huge_pages = true;
    options.memory = &hooks;
    options.lock_timeout_ns = UINT64_MAX;
    return options;
}

/* Before each call of the interface. */
static void patience(void)
{
    (void)alarm(HANG_SECONDS);
}

/* A group of two every fourth time. */
static void append_some(struct weir_log *log, unsigned count)
{
    uint8_t payload[2][RECORD_BYTES];
    struct weir_piece pieces[2];
    struct weir_record records[2];
    for (unsigned done = 0; done < count && fate_count + 2 <= RECORDS_MAX;) {
        const unsigned first = fate_count;
        const unsigned some = first % 4 == 0 ? 2 : 1;
        weir_lsn lsns[2] = {0};
        for (unsigned i = 0; i < some; i++) {
            const uint64_t tag = first + i;
            for (size_t at = 0; at < RECORD_BYTES; at++) {
                payload[i][at] = byte_of(tag, at);
            }
            pieces[i] = (struct weir_piece){payload[i], RECORD_BYTES - 10 * (tag % 5)};
            records[i] = (struct weir_record){&pieces[i], 1, tag};
        }
        fate_count += some;
        done += some;
        patience();
        int code = weir_append_group(log, records, some, INT64_C(100000000), lsns);
        for (unsigned i = 0; code == 0 && i < some; i++) {
            fates[first + i].appended = true;
            fates[first + i].lsn = lsns[i];
        }
        if (code != 0) {
            break;
        }
        patience();
        if (weir_wait(log, lsns[some - 1], WEIR_DURABLE, WEIR_FOREVER) == 0) {
            for (unsigned i = 0; i < some; i++) {
                fates[first + i].acknowledged = true;
            }
        }
    }
}

static void read_some(struct weir_log *log, unsigned flags)
{
    struct weir_cursor *cursor = NULL;
    struct weir_entry entry;
    patience();
    if (weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_DURABLE, flags, &cursor) == 0) {
        for (unsigned i = 0; i < 2 * RECORDS_MAX; i++) {
            patience();
            if (weir_cursor_next(cursor, WEIR_TRY, &entry) != 0) {
                break;
            }
        }
        weir_cursor_close(cursor);
    }
}

static void life(const struct way *way, unsigned records)
{
    const struct weir_options options = options_for(way);
    struct weir_log *log = NULL;
    patience();
    if (weir__open_with(&disk.io, DIR, &options, &log, NULL) != 0) {
        return;
    }
    append_some(log, records);
    read_some(log, 0);
    const weir_lsn durable = weir_durable_lsn(log);
    if (durable > SEGMENT) {
        trimmed = durable - SEGMENT > trimmed ? durable - SEGMENT : trimmed;
        patience();
        (void)weir_trim(log, durable - SEGMENT);
    }
    append_some(log, records / 2);
    read_some(log, WEIR_CURSOR_READ_AHEAD);
    patience();
    const int code = weir_close(log, NULL);
    if (code != 0 && code != WEIR_EFAILED) {
        printf("close: %d\n", code);
        abort();
    }
}

static void workload(const struct way *way)
{
    life(way, 40);
    life(way, 4);
}

/* ---- what must hold -------------------------------------------------------------------------- */

static char now[200]; /* the case under way */

static void hang(int signal)
{
    (void)signal;
    static const char text[] = "hangs: ";
    if (write(2, text, sizeof text - 1) < 0 || write(2, now, strlen(now)) < 0 ||
        write(2, "\n", 1) < 0) {
        _exit(3);
    }
    abort();
}

static void check(bool condition, const char *what, uint64_t a, uint64_t b)
{
    if (!condition) {
        print_message("%s: %s (%llu, %llu)\n",
                      now,
                      what,
                      (unsigned long long)a,
                      (unsigned long long)b);
        fail();
    }
}

/* The cause is gone: the log opens, and what was acknowledged is there. */
static void check_afterwards(const struct way *way)
{
    const struct weir_options options = options_for(way);
    struct weir_log *log = NULL;
    struct weir_error error;
    struct weir_cursor *cursor = NULL;
    patience();
    int code = weir__open_with(&disk.io, DIR, &options, &log, &error);
    if (code != 0) {
        print_message("%s: %s\n", now, error.text);
    }
    check(code == 0, "the log does not open afterwards", (uint64_t)-code, 0);
    patience();
    code = weir_cursor_open(log, WEIR_LSN_OLDEST, WEIR_DURABLE, 0, &cursor);
    check(code == 0, "no cursor", (uint64_t)-code, 0);
    bool there[RECORDS_MAX] = {false};
    struct weir_entry entry;
    weir_lsn last = 0;
    while ((code = weir_cursor_next(cursor, WEIR_TRY, &entry)) == 0) {
        patience();
        check(entry.tag < fate_count && !there[entry.tag],
              "a record nobody appended",
              entry.tag,
              0);
        check(entry.bytes == RECORD_BYTES - 10 * (entry.tag % 5),
              "a record's length",
              entry.tag,
              0);
        for (size_t at = 0; at < entry.bytes; at++) {
            check(((const uint8_t *)entry.data)[at] == byte_of(entry.tag, at), "a byte", at, 0);
        }
        check(entry.lsn > last, "the order", entry.lsn, last);
        check(fates[entry.tag].lsn == 0 || fates[entry.tag].lsn == entry.lsn,
              "a record at another place",
              entry.lsn,
              fates[entry.tag].lsn);
        check(fates[entry.tag].appended, "a refused record is there", entry.tag, 0);
        there[entry.tag] = true;
        last = entry.lsn;
    }
    check(code == WEIR_EEND, "an error behind the records", (uint64_t)-code, last);
    for (unsigned i = 0; i < fate_count; i++) {
        check(!fates[i].acknowledged || there[i] || fates[i].lsn < trimmed,
              "an acknowledged record is lost",
              i,
              fates[i].lsn);
    }
    weir_cursor_close(cursor);
    weir_lsn lsn;
    patience();
    code = weir_append_wait(log, "on", 2, 1, WEIR_DURABLE, &lsn);
    check(code == 0, "it does not go on", (uint64_t)-code, 0);
    patience();
    code = weir_close(log, NULL);
    check(code == 0, "it does not close", (uint64_t)-code, 0);
    check(memory_dir_open_count(&disk) == 0, "descriptors are left", 0, 0);
    check(weir__load(&memory.live, relaxed) == 0, "memory is left", 0, 0);
}

static void begin(const struct way *way)
{
    memory_dir_clear(&disk, NULL);
    memory_dir_queue(&disk, way->queue ? 64 : 0);
    disk.fua = way->fua;
    memset(fates, 0, sizeof fates);
    fate_count = 0;
    trimmed = 0;
    memory.fail_at = 0;
    weir__store(&memory.fired, 0u, relaxed);
    weir__store(&memory.calls, 0, relaxed);
    failing = (struct failing){0};
}

static void finish(const struct way *way)
{
    failing.armed = false;
    memory.fail_at = 0;
    check(memory_dir_open_count(&disk) == 0, "descriptors are left by what failed", 0, 0);
    check(weir__load(&memory.live, relaxed) == 0, "memory is left by what failed", 0, 0);
    check_afterwards(way);
    (void)alarm(0);
}

/* ---- the sweep ------------------------------------------------------------------------------- */

static const struct {
    enum memory_call call;
    long results[8];
} failures[] = {
    {MEMORY_CALL_open_dir, {-EACCES, -EMFILE, -ENOMEM, -EIO}},
    {MEMORY_CALL_sync_dir, {-EIO, -ENOSPC}},
    {MEMORY_CALL_list_dir, {-EIO, -ENOMEM, -EMFILE}},
    {MEMORY_CALL_facts, {-EIO, -EACCES}},
    {MEMORY_CALL_open, {-EACCES, -EMFILE, -ENFILE, -ENOSPC, -EDQUOT, -EIO, -EROFS, -ENOMEM}},
    {MEMORY_CALL_info, {-EIO, -ENOMEM}},
    {MEMORY_CALL_rename, {-EIO, -ENOSPC, -EDQUOT, -EACCES, -EROFS}},
    {MEMORY_CALL_unlink, {-EIO, -EACCES, -EROFS, -EBUSY}},
    {MEMORY_CALL_truncate, {-EIO, -ENOSPC, -EFBIG, -EDQUOT}},
    {MEMORY_CALL_read, {-EIO, -ENOMEM, SHORT_BYTES}},
    {MEMORY_CALL_write, {-EIO, -ENOSPC, -EDQUOT, -EFBIG, -EROFS, SHORT_BYTES}},
    {MEMORY_CALL_sync, {-EIO, -ENOSPC, -EDQUOT, -EROFS}},
    {MEMORY_CALL_lock, {-EIO, -ENOLCK, -EBUSY}},
    {MEMORY_CALL_lock_held, {-EIO, -ENOLCK}},
    {MEMORY_CALL_queue_open, {-ENOMEM, -EMFILE, -EPERM, -ENOSYS}},
    {MEMORY_CALL_queue_push, {-EAGAIN, -EBUSY, -ENOMEM, -EIO}},
    {MEMORY_CALL_queue_write, {-EIO, -ENOSPC, -EDQUOT, -EFBIG, -EAGAIN, SHORT_BYTES}},
    {MEMORY_CALL_queue_read, {-EIO, -ENOMEM, -EAGAIN, SHORT_BYTES}},
    {MEMORY_CALL_queue_sync, {-EIO, -ENOSPC, -EDQUOT, -EAGAIN}},
};

static bool wanted_by(unsigned *number, unsigned rare)
{
    static int all = -1;
    if (all < 0) {
        all = getenv("WEIR_EVERY_CALL") != NULL;
    }
    struct random random = {test_seed() + (*number)++};
    return all != 0 || random_below(&random, rare) == 0;
}

static void every_call_of(const struct way *way)
{
    unsigned number = 0;
    unsigned cases = 0;
    unsigned fired = 0;
    for (size_t f = 0; f < sizeof failures / sizeof failures[0]; f++) {
        /* How often does it come? A few more, for threads do not always go the same way. */
        begin(way);
        (void)snprintf(now, sizeof now, "%s, %s", way->name, memory_call_names[failures[f].call]);
        failing = (struct failing){.armed = true, .call = failures[f].call, .skip = UINT32_MAX};
        workload(way);
        const unsigned calls = failing.seen;
        finish(way);
        for (unsigned k = 0; k < calls; k++) {
            for (unsigned e = 0; e < 8 && failures[f].results[e] != 0; e++) {
                for (unsigned ever = 0; ever < 2; ever++) {
                    if (!wanted_by(&number, RARE)) {
                        continue;
                    }
                    begin(way);
                    (void)snprintf(now,
                                   sizeof now,
                                   "%s, %s number %u of %u gives %ld %s (--seed %llu)",
                                   way->name,
                                   memory_call_names[failures[f].call],
                                   k + 1,
                                   calls,
                                   failures[f].results[e],
                                   ever != 0 ? "for ever" : "once",
                                   (unsigned long long)test_seed());
                    failing = (struct failing){
                        .armed = true,
                        .call = failures[f].call,
                        .skip = k,
                        .for_ever = ever != 0,
                        .result = failures[f].results[e],
                    };
                    workload(way);
                    fired += failing.fired;
                    cases++;
                    finish(way);
                }
            }
        }
    }
    print_message("%s: %u of %u cases, %u met their call\n", way->name, cases, number, fired);
    assert_true(fired > cases / 2);
}

static void a_call_that_fails_loses_nothing_posix(void **state)
{
    (void)state;
    every_call_of(&ways[0]);
}

static void a_call_that_fails_loses_nothing_chain(void **state)
{
    (void)state;
    every_call_of(&ways[1]);
}

static void a_call_that_fails_loses_nothing_auto(void **state)
{
    (void)state;
    every_call_of(&ways[2]);
}

static void an_allocation_that_fails_loses_nothing(void **state)
{
    (void)state;
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        const struct way *const way = &ways[w];
        begin(way);
        workload(way);
        const uint64_t calls = weir__load(&memory.calls, relaxed);
        finish(way);
        unsigned number = 0;
        unsigned cases = 0;
        unsigned fired = 0;
        for (uint64_t k = 1; k <= calls; k++) {
            for (unsigned ever = 0; ever < 2; ever++) {
                if (!wanted_by(&number, RARE / 8)) {
                    continue;
                }
                cases++;
                begin(way);
                (void)snprintf(now,
                               sizeof now,
                               "%s, allocation %llu of %llu fails %s",
                               way->name,
                               (unsigned long long)k,
                               (unsigned long long)calls,
                               ever != 0 ? "for ever" : "once");
                memory.fail_at = k;
                memory.for_ever = ever != 0;
                workload(way);
                fired += weir__load(&memory.fired, relaxed);
                finish(way);
            }
        }
        print_message("%s: %llu allocations, %u of %u cases met theirs\n",
                      way->name,
                      (unsigned long long)calls,
                      fired,
                      cases);
        assert_true(fired > cases / 2);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = hang;
    (void)sigaction(SIGALRM, &action, NULL);
    memory_dir_init(&disk);
    disk.before = before;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_fails_loses_nothing_posix),
        cmocka_unit_test(a_call_that_fails_loses_nothing_chain),
        cmocka_unit_test(a_call_that_fails_loses_nothing_auto),
        cmocka_unit_test(an_allocation_that_fails_loses_nothing),
    };
    const int failed = cmocka_run_group_tests_name("fault.every_call", tests, NULL, NULL);
    memory_dir_exit(&disk);
    return failed;
}
