/* SPDX-License-Identifier: Apache-2.0
 * The process that appends until it is killed.
 *
 * It waits for the word to go, opens the log, and lets each producer append its script's records
 * in their order, in four manners: one waits for every record, one for every window of records,
 * one looks at the durable position and waits only for half of its window, one waits for
 * "written" (where only kills are tried; else for "durable"). Acknowledged records go to the
 * parent at once, never before. Producer 0 trims. Segment, slot and queue sizes follow from the
 * seed and differ from life to life, so that the log rotates, recycles and meets all kinds of
 * leftovers.
 *
 * --lie plants a fault, to show that the parent sees it. */
#include "api/log.h"
#include "args.h"
#include "child.h"
#include "clock.h"
#include "dice.h"
#include "verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <weir/weir.h>

enum lie {
    LIE_NONE = 0,
    LIE_GHOST, /* acknowledges records that were never appended */
    LIE_EARLY, /* acknowledges before the log does */
    LIE_ALTER, /* appends other bytes than the script's */
    LIE_TWICE, /* appends records twice */
    LIE_SKIP,  /* leaves records out */
    LIE_SPLIT, /* appends groups record by record */
    LIE_TRIM,  /* trims more than it says */
    LIE_LEAK,  /* forgets memory and descriptors */
    LIE_STUCK, /* never goes on once an append was refused, or a producer was parked */
};
static const char *const lie_words[] =
    {"none", "ghost", "early", "alter", "twice", "skip", "split", "trim", "leak", "stuck", NULL};

enum {
    WINDOW_MAX = 64,
    LIE_EVERY = 40, /* groups of a producer between two lies */
    OPEN_WAIT_S = 20,
    FIGURES_EVERY = 16, /* groups of a producer */
    LEAK_BYTES = 256 << 10,
};

struct pending {
    weir_lsn lsn;
    uint64_t tag;
};

struct producer {
    struct child *child;
    uint32_t index;
    pthread_t thread;
    uint8_t *room; /* for one group */
    bool parks;
    struct dice dice;
    uint64_t groups;
    struct pending window[WINDOW_MAX + SCRIPT_GROUP_MAX];
    size_t pending;
    size_t window_limit;
    weir_lsn trim_lsn; /* beginning of a group of ours, durable */
};

void child_fail(struct child *child, int status, const char *format, ...)
{
    va_list list;

    pthread_mutex_lock(&child->lock);
    if (child->broken == 0) {
        va_start(list, format);
        vsnprintf(child->page->message, sizeof(child->page->message), format, list);
        va_end(list);
        child->broken = status;
    }
    pthread_mutex_unlock(&child->lock);
}

static bool child_broken(struct child *child)
{
    pthread_mutex_lock(&child->lock);
    const bool broken = child->broken != 0;
    pthread_mutex_unlock(&child->lock);
    return broken;
}

static void log_fail(struct child *child, const char *call, int code)
{
    struct weir_error error = {.code = 0};
    const bool known = weir_log_error(child->log, &error) != 0;
    /* Poisoned, or the system's own words where no segment could be prepared. */
    const bool device = code == WEIR_EFAILED || (code < 0 && code > -4096 && code != -EINVAL);

    child_fail(child,
               device ? WIRE_EXIT_FAILED : WIRE_EXIT_BROKEN,
               "%s: %s: %s",
               call,
               weir_error_name(code),
               known ? error.text : weir_strerror(code));
}

/* ---- acknowledging --------------------------------------------------------------------------- */

static bool acks_write(struct child *child, const struct pending *records, size_t count)
{
    struct wire_ack acks[WIRE_ACKS_AT_ONCE];

    while (count > 0) {
        const size_t some = count < WIRE_ACKS_AT_ONCE ? count : WIRE_ACKS_AT_ONCE;
        for (size_t i = 0; i < some; i++) {
            acks[i] =
                (struct wire_ack){.lsn = records[i].lsn,
                                  .tag = records[i].tag,
                                  .check = dice_mix(records[i].lsn ^ dice_mix(records[i].tag))};
        }
        ssize_t written;
        do {
            written = write(WIRE_FD_ACKS, acks, some * sizeof(acks[0]));
        } while (written < 0 && errno == EINTR);
        if (written != (ssize_t)(some * sizeof(acks[0]))) {
            child_fail(child, WIRE_EXIT_BROKEN, "acknowledgements: %s", strerror(errno));
            return false;
        }
        records += some;
        count -= some;
    }
    return true;
}

/* Acknowledges the first count records of the window, which have reached their level. */
static bool window_acknowledge(struct producer *producer, size_t count)
{
    if (!acks_write(producer->child, producer->window, count)) {
        return false;
    }
    producer->pending -= count;
    memmove(producer->window,
            producer->window + count,
            producer->pending * sizeof(producer->window[0]));
    return true;
}

/* Waits for the first count records of the window and acknowledges them. */
static bool window_settle(struct producer *producer, size_t count, enum weir_level level)
{
    struct child *child = producer->child;

    if (count == 0) {
        return true;
    }
    if (child->lie != LIE_EARLY) {
        const int rc = weir_wait(child->log, producer->window[count - 1].lsn, level, WEIR_FOREVER);
        if (rc != 0) {
            log_fail(child, "weir_wait", rc);
            return false;
        }
    }
    return window_acknowledge(producer, count);
}

static bool window_turn(struct producer *producer)
{
    struct child *child = producer->child;
    const uint32_t manner = producer->index % 4;
    const enum weir_level level = manner == 3 && !child->only_durable ? WEIR_WRITTEN : WEIR_DURABLE;

    if (producer->pending < producer->window_limit) {
        return true;
    }
    if (manner != 2) {
        return window_settle(producer, producer->pending, level);
    }
    /* Until there is room for a group again: little may be durable, and that little by little. */
    while (producer->pending >= producer->window_limit) {
        const weir_lsn durable = weir_durable_lsn(child->log);
        size_t due = 0;
        while (due < producer->pending && producer->window[due].lsn < durable) {
            due++;
        }
        if (due > 0 ? !window_acknowledge(producer, due)
                    : !window_settle(producer, (producer->pending + 1) / 2, level)) {
            return false;
        }
    }
    return true;
}

/* ---- appending ------------------------------------------------------------------------------- */

/* Producer 0: gives up what lies further behind than the log shall be long. Only before the
 * first record of a group, so that the parent can ask for whole groups. group_lsn: of the group
 * just appended, 0: none. */
static bool trim_turn(struct producer *producer, weir_lsn group_lsn)
{
    struct child *child = producer->child;
    const weir_lsn durable = weir_durable_lsn(child->log);
    const weir_lsn oldest = weir_oldest_lsn(child->log);
    const uint64_t asked = wire_get(&child->page->retain_bytes);
    const uint64_t retain_bytes = asked != 0 ? asked : child->retain_bytes;

    if (durable - oldest > retain_bytes && producer->trim_lsn > oldest &&
        producer->trim_lsn <= durable) {
        if (child->lie != LIE_TRIM) {
            wire_set(&child->page->trim_asked, producer->trim_lsn);
        }
        const int rc = weir_trim(child->log, producer->trim_lsn);
        if (rc != 0) {
            log_fail(child, "weir_trim", rc);
            return false;
        }
        wire_set(&child->page->trim_done, producer->trim_lsn);
        producer->trim_lsn = 0;
    }
    /* A candidate, taken halfway to the next trim; while nothing may be trimmed, ever newer ones. */
    const uint64_t half =
        (retain_bytes < child->retain_bytes ? retain_bytes : child->retain_bytes) / 2;
    const weir_lsn last = producer->trim_lsn > oldest ? producer->trim_lsn : oldest;
    if (group_lsn > last + half && (producer->trim_lsn <= oldest || asked != 0)) {
        producer->trim_lsn = group_lsn;
    }
    return true;
}

/* Nothing was appended, for a reason that may pass. */
static bool refusal_passes(int code)
{
    return code == -ENOSPC || code == -EDQUOT || code == -EMFILE || code == -ENFILE ||
           code == -EFBIG || code == -ENOMEM;
}

static void refusal_note(struct child *child, int code)
{
    struct weir_error error = {.code = 0};
    struct wire_page *page = child->page;

    /* The reason may have passed between the append and this look. */
    const int told = weir_log_error(child->log, &error);
    wire_set(&page->refused_code, (uint64_t)-code);
    if (told != 0) {
        wire_set(&page->told_code, (uint64_t)-told);
    }
    atomic_fetch_add_explicit(&page->refused, 1, memory_order_release);
}

static int group_append(struct producer *producer,
                        const struct weir_record *records,
                        size_t count,
                        weir_lsn *lsns)
{
    struct child *child = producer->child;

    for (;;) {
        int rc;
        if (count == 1 && producer->index % 4 == 0 && producer->window_limit == 1 &&
            child->lie == LIE_NONE) {
            const void *data = records[0].pieces[0].data;
            rc = weir_append_wait(child->log,
                                  data,
                                  records[0].pieces[0].bytes,
                                  records[0].tag,
                                  WEIR_DURABLE,
                                  lsns);
        } else if (child->lie == LIE_SPLIT) {
            rc = 0;
            for (size_t i = 0; i < count && rc == 0; i++) {
                rc = weir_append_group(child->log, &records[i], 1, WEIR_FOREVER, &lsns[i]);
            }
        } else {
            rc = weir_append_group(child->log, records, count, WEIR_FOREVER, lsns);
        }
        /* A small file system may be full until trimming has made room. */
        if (!refusal_passes(rc)) {
            return rc;
        }
        refusal_note(child, rc);
        do {
            clock_sleep_ns(CLOCK_NS_PER_MS);
        } while (child->lie == LIE_STUCK);
        if (producer->index == 0 && !trim_turn(producer, 0)) {
            return rc;
        }
        if (wire_get(&child->page->stop) != 0) {
            return rc;
        }
    }
}

/* Tells the lies that concern records; the log's own part stays honest. */
static void
group_lie(struct producer *producer, struct weir_record *records, size_t count, weir_lsn *lsns)
{
    struct child *child = producer->child;

    if (producer->groups % LIE_EVERY != LIE_EVERY - 1) {
        return;
    }
    if (child->lie == LIE_TWICE) {
        group_append(producer, records, count, lsns);
    } else if (child->lie == LIE_LEAK) {
        /* volatile: or the compiler sees that nobody misses it. */
        volatile uint8_t *room = malloc(LEAK_BYTES);
        for (size_t i = 0; room != NULL && i < LEAK_BYTES; i += 4096) {
            room[i] = 1;
        }
        const int leaked = dup(WIRE_FD_GO);
        (void)leaked;
    } else if (child->lie == LIE_GHOST) {
        struct pending ghost = {.lsn = lsns[count - 1] + 8, .tag = records[count - 1].tag};
        acks_write(child, &ghost, 1);
    }
}

/* Appends the group that begins at seq. Return: records appended, 0 on failure. */
static uint64_t group_next(struct producer *producer, uint64_t seq)
{
    struct child *child = producer->child;
    struct record_id id = {.life = (uint32_t)child->life, .producer = producer->index, .seq = seq};
    const struct script_group group = script_group(&child->script, id);
    const bool lying = producer->groups % LIE_EVERY == LIE_EVERY - 1;
    struct weir_piece pieces[SCRIPT_GROUP_MAX];
    struct weir_record records[SCRIPT_GROUP_MAX];
    weir_lsn lsns[SCRIPT_GROUP_MAX];
    uint8_t *at = producer->room;

    for (size_t i = 0; i < group.count; i++) {
        id.seq = seq + i;
        const size_t bytes = script_bytes(&child->script, id);
        script_fill(&child->script, id, at);
        if (lying && child->lie == LIE_ALTER && bytes > 0) {
            at[bytes / 2] ^= 1;
        }
        pieces[i] = (struct weir_piece){.data = at, .bytes = bytes};
        records[i] =
            (struct weir_record){.pieces = &pieces[i], .piece_count = 1, .tag = script_tag(id)};
        at += bytes;
    }
    wire_set(&child->page->submitted[producer->index], seq + group.count);
    if (lying && child->lie == LIE_SKIP) {
        return group.count;
    }
    const size_t bytes = (size_t)(at - producer->room);
    const bool park = producer->parks && park_due(child->page, bytes);
    if (park) {
        park_set(bytes);
    }
    const int rc = group_append(producer, records, group.count, lsns);
    if (park && park_over()) {
        wire_set(&child->page->park_lsn, lsns[0]);
        wire_set(&child->page->park_over, wire_get(&child->page->parked));
    } else if (park && rc == 0) {
        child_fail(child,
                   WIRE_EXIT_BROKEN,
                   "producer %" PRIu32 " could not be stopped in an append of %zu bytes: the copy "
                   "does not come behind the checksum any more",
                   producer->index,
                   bytes);
        return 0;
    }
    if (rc != 0) {
        if (wire_get(&child->page->stop) == 0 || !refusal_passes(rc)) {
            log_fail(child, "weir_append_group", rc);
        }
        return 0;
    }
    for (size_t i = 0; i < group.count; i++) {
        producer->window[producer->pending] =
            (struct pending){.lsn = lsns[i], .tag = records[i].tag};
        producer->pending++;
    }
    group_lie(producer, records, group.count, lsns);
    return group.count;
}

static void figures_note(struct child *child)
{
    struct weir_stats stats;

    weir_stats(child->log, &stats);
    wire_set(&child->page->inflight_max, stats.inflight_max);
}

static void *producer_run(void *ctx)
{
    struct producer *producer = ctx;
    struct child *child = producer->child;
    uint64_t seq = 0;

    if (child->storm) {
        storm_thread();
    }
    wire_set(&child->page->threads[producer->index], (uint64_t)syscall(SYS_gettid));
    while (producer->groups < child->budget && seq < UINT32_MAX - SCRIPT_GROUP_MAX &&
           wire_get(&child->page->stop) == 0) {
        while (producer->index != 0 && wire_get(&child->page->lone) != 0 &&
               wire_get(&child->page->stop) == 0) {
            clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        const size_t before = producer->pending;
        const uint64_t count = group_next(producer, seq);
        if (count == 0) {
            break;
        }
        const weir_lsn group_lsn = producer->pending > before ? producer->window[before].lsn : 0;
        seq += count;
        producer->groups++;
        if (!window_turn(producer)) {
            return NULL;
        }
        if (producer->index == 0 && !trim_turn(producer, group_lsn)) {
            return NULL;
        }
        if (producer->groups % FIGURES_EVERY == 0) {
            figures_note(child);
        }
    }
    if (!child_broken(child)) {
        window_settle(producer, producer->pending, WEIR_DURABLE);
    }
    wire_set(&child->page->threads[producer->index], 0);
    return NULL;
}

static void producers_run(struct child *child)
{
    const uint32_t count = child->script.producers;
    struct producer *producers = calloc(count, sizeof(*producers));
    const size_t room = (size_t)script_group_bytes_max(&child->script);
    uint32_t started = 0;

    if (child->storm) {
        storm_block();
    }
    if (producers == NULL) {
        child_fail(child, WIRE_EXIT_BROKEN, "out of memory");
        return;
    }
    for (; started < count; started++) {
        struct producer *producer = &producers[started];
        producer->child = child;
        producer->index = started;
        producer->dice.state =
            dice_mix(child->script.seed ^ dice_mix(child->life * 1000 + started));
        producer->window_limit =
            started % 4 == 0 ? 1 : 1 + (size_t)dice_below(&producer->dice, WINDOW_MAX);
        producer->parks = child->park && started == 0;
        producer->room = producer->parks ? park_room(child->page, room) : malloc(room);
        if (producer->room == NULL ||
            pthread_create(&producer->thread, NULL, producer_run, producer) != 0) {
            child_fail(child,
                       WIRE_EXIT_BROKEN,
                       "producer %" PRIu32 " could not be started",
                       started);
            if (!producer->parks) {
                free(producer->room);
            }
            break;
        }
    }
    if (child->storm) {
        storm_unblock();
    }
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(producers[i].thread, NULL);
        if (!producers[i].parks) {
            free(producers[i].room);
        }
    }
    free(producers);
}

/* ---- the life -------------------------------------------------------------------------------- */

static void options_draw(struct child *child, struct weir_options *options)
{
    static const uint32_t slots[] = {64 << 10, 256 << 10, 1 << 20};
    static const uint32_t slot_counts[] = {2, 8, 64, 96};
    static const uint32_t depths[] = {1, 4, 8, 64};
    struct dice dice = {dice_mix(child->script.seed) ^ dice_mix(child->life)};
    uint64_t base = 1 << 20;

    while (base < 2 * script_group_bytes_max(&child->script)) {
        base *= 2;
    }
    options->io = (enum weir_io)child->io;
    options->segment_bytes = base << dice_below(&dice, 3);
    options->slot_bytes = slots[dice_below(&dice, 3)];
    options->record_bytes_max = (uint32_t)(base / 2);
    options->max_inflight = depths[dice_below(&dice, 4)];
    /* Depth needs slots: a batch is in one until it is durable. */
    options->slots = slot_counts[dice_below(&dice, 4)];
    if (options->slots > 8) {
        options->max_inflight = 64;
        options->oversize_buffers = 8;
    }
    options->buffered = dice_below(&dice, 4) == 0;
    options->recycle_segments = dice_below(&dice, 3) == 0 ? 1 : 16;
    options->lock_timeout_ns = OPEN_WAIT_S * CLOCK_NS_PER_S;
    child->retain_bytes = base * (8 + dice_below(&dice, 56));
    if (child->fixed) {
        options->segment_bytes = base;
        options->slot_bytes = 64 << 10;
        options->slots = 4;
        options->max_inflight = 4;
        options->oversize_buffers = 1;
        options->buffered = false;
        options->recycle_segments = 1;
        child->retain_bytes = base + base / 2;
    }
}

static void event_note(void *ctx, const struct weir_event *event)
{
    struct wire_page *page = ctx;

    if (event->kind == WEIR_EVENT_STALL) {
        wire_set(&page->stall_lsn, event->lsn);
    }
    if ((unsigned)event->kind < WIRE_EVENTS) {
        atomic_fetch_add_explicit(&page->events[event->kind], 1, memory_order_release);
    }
}

static void child_live(struct child *child)
{
    struct wire_page *page = child->page;
    struct weir_options options = WEIR_OPTIONS_INIT;
    struct weir_error error = {.code = 0};
    struct weir_report report;

    options_draw(child, &options);
    options.on_event = event_note;
    options.event_ctx = page;
    options.stall_warn_ns = child->stall_warn_ns;
    struct weir__io *io = child->slow_ns != 0 ? slow_io(child->slow_ns) : weir__io_system();
    const int begun = child->storm ? storm_begin(page) : 0;
    if (begun != 0) {
        child_fail(child, WIRE_EXIT_BROKEN, "signals: %s", strerror(-begun));
        return;
    }
    atomic_store_explicit(&page->phase, WIRE_OPENING, memory_order_release);
    const uint64_t begin_ns = clock_now_ns();
    const int rc = weir__open_with(io, child->dir, &options, &child->log, &error);
    if (rc != 0) {
        wire_set(&page->refused_code, (uint64_t)-rc);
        child_fail(child,
                   WIRE_EXIT_FAILED,
                   "weir_open: %s: %s %s",
                   weir_error_name(rc),
                   error.text,
                   error.file);
        return;
    }
    weir_log_report(child->log, &report);
    wire_set(&page->open_ns, clock_now_ns() - begin_ns);
    wire_set(&page->bytes_cut, report.bytes_cut);
    wire_set(&page->oldest_lsn, report.oldest_lsn);
    struct weir_log_info info;
    weir_log_describe(child->log, &info);
    wire_set(&page->io_used, (uint64_t)info.io_used);
    wire_set(&page->io_uring, info.io_uring);
    wire_set(&page->end_lsn, report.end_lsn);
    atomic_store_explicit(&page->verdict, (uint32_t)report.verdict, memory_order_release);
    atomic_store_explicit(&page->phase, WIRE_APPENDING, memory_order_release);

    producers_run(child);
    atomic_store_explicit(&page->phase, WIRE_CLOSING, memory_order_release);
    const int closed = weir_close(child->log, &error);
    if (closed != 0) {
        child_fail(child,
                   closed == WEIR_EFAILED ? WIRE_EXIT_FAILED : WIRE_EXIT_BROKEN,
                   "weir_close: %s: %s",
                   weir_error_name(closed),
                   error.text);
    }
    if (child->storm) {
        storm_end();
    }
    atomic_store_explicit(&page->phase, WIRE_CLOSED, memory_order_release);
}

/* Gives up every capability, also the one to lock memory beyond the limit. */
static bool privileges_drop(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};

    return syscall(SYS_capset, &header, none) == 0;
}

int append_child_main(int argc, char **argv)
{
    static const struct verb_text text = {.name = "append-child",
                                          .usage = "",
                                          .about = "",
                                          .exits = "",
                                          .example = ""};
    struct child child = {.lock = PTHREAD_MUTEX_INITIALIZER, .budget = UINT64_MAX};
    uint64_t producers = 1;
    struct args_range range = {0, 0};
    bool traced = false;
    bool unprivileged = false;
    const struct option_row rows[] = {
        {.name = "dir", .kind = OPTION_WORD, .target = &child.dir},
        {.name = "seed", .kind = OPTION_NUMBER, .target = &child.script.seed},
        {.name = "life", .kind = OPTION_NUMBER, .target = &child.life, .max = SCRIPT_LIVES_MAX - 1},
        {.name = "producers",
         .kind = OPTION_NUMBER,
         .target = &producers,
         .min = 1,
         .max = SCRIPT_PRODUCERS_MAX},
        {.name = "record-bytes", .kind = OPTION_RANGE, .target = &range, .max = SCRIPT_BYTES_MAX},
        {.name = "budget", .kind = OPTION_NUMBER, .target = &child.budget},
        {.name = "io", .kind = OPTION_CHOICE, .target = &child.io, .choices = args_io_words},
        {.name = "fixed", .kind = OPTION_FLAG, .target = &child.fixed},
        {.name = "storm", .kind = OPTION_FLAG, .target = &child.storm},
        {.name = "traced", .kind = OPTION_FLAG, .target = &traced},
        {.name = "unprivileged", .kind = OPTION_FLAG, .target = &unprivileged},
        {.name = "park", .kind = OPTION_FLAG, .target = &child.park},
        {.name = "slow", .kind = OPTION_DURATION, .target = &child.slow_ns},
        {.name = "stall-warn", .kind = OPTION_DURATION, .target = &child.stall_warn_ns},
        {.name = "only-durable", .kind = OPTION_FLAG, .target = &child.only_durable},
        {.name = "lie", .kind = OPTION_CHOICE, .target = &child.lie, .choices = lie_words},
        {.name = NULL},
    };
    int operands = 0;
    const int status = args_parse(&text, rows, argc, argv, &operands);

    if (status != ARGS_RUN) {
        return status;
    }
    struct stat page_stat;
    if (child.dir == NULL || fstat(WIRE_FD_PAGE, &page_stat) != 0 ||
        page_stat.st_size < (off_t)sizeof(struct wire_page)) {
        return args_wrong(&text, "is started by the other verbs");
    }
    child.script.producers = (uint32_t)producers;
    child.script.bytes_min = (uint32_t)range.from;
    child.script.bytes_max = (uint32_t)range.to;
    child.page =
        mmap(NULL, sizeof(*child.page), PROT_READ | PROT_WRITE, MAP_SHARED, WIRE_FD_PAGE, 0);
    if (child.page == MAP_FAILED) {
        return STATUS_FAILED;
    }
    char go;
    while (read(WIRE_FD_GO, &go, 1) < 0 && errno == EINTR) {
    }
    /* Behind the word: only now there is somebody who follows. */
    if ((traced && !trace_ask()) || (unprivileged && !privileges_drop())) {
        return STATUS_FAILED;
    }
    signal(SIGXFSZ, SIG_IGN); /* as weir.h asks for */
    child_live(&child);
    return child.broken;
}
