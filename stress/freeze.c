/* SPDX-License-Identifier: Apache-2.0
 * weir-stress freeze: a process that appends, or one of its threads, is stopped for a while.
 *
 * Four ways, drawn for each step of a round:
 *   the process   SIGSTOP and SIGCONT
 *   a thread      any of its threads, the log's own included, at whatever instruction it is: seized
 *                 and interrupted with ptrace while all others go on
 *   a producer    between the reservation of its place and the commit (child_park.h), until the
 *                 watchdog has told of it
 *   a lone one    in the write by which it makes its own record durable, with the flusher's part in
 *                 hand: ptrace, until the watchdog has told of it
 * Judged: it goes on afterwards, the watchdog names the batch in which the producer stood, nothing
 * poisons the log, and the log holds what was acknowledged, in order. */
#include "clock.h"
#include "patience.h"
#include "run.h"
#include "verbs.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
    STEPS = 12, /* of a round */
    TASKS_MAX = 512,
    LONE_TRIES = 200, /* most of its time a lone producer is in its write */
    STALL_WARN_MS = 100,
    BATCH_BYTES_MAX =
        32 << 20, /* a batch is no larger than a slot or a record, and these are smaller */
};

static const struct verb_text text = {
    .name = "freeze",
    .usage = "[OPTION]...",
    .about =
        "Stops a process that appends: all of it (SIGSTOP), single threads at any instruction, the "
        "log's own ones too\n"
        "(ptrace), and a producer between the reservation of its place and the commit, or in the "
        "write that it makes\n"
        "itself where it is alone, until the watchdog tells of it.\n"
        "Afterwards everything must go on, in order, with nothing poisoned and nothing "
        "acknowledged lost. Where ptrace\n"
        "is refused, it says so and does the rest.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress freeze --rounds 20\n"
               "  weir-stress freeze --for 10m --io chain\n",
};

struct freeze {
    struct run run;
    bool no_ptrace;
    uint64_t processes; /* stopped */
    uint64_t threads;
    uint64_t producers;
    uint64_t told;
    uint64_t lone;           /* stopped in their own write, and told of */
    uint64_t threads_met[2]; /* producers, others */
};

/* ---- going on -------------------------------------------------------------------------------- */

/* Hears for span_ns. */
static void rest(struct lives *lives, struct life *life, uint64_t span_ns)
{
    const uint64_t begin_ns = clock_now_ns();

    while (clock_now_ns() - begin_ns < span_ns && !stop_asked()) {
        life_hear(lives, life, CLOCK_NS_PER_MS);
    }
}

/* Waits until the child has acknowledged something that it had not submitted before now. Return:
 * false after a message. */
static bool goes_on(struct lives *lives, struct life *life, const char *after)
{
    struct wire_page *page = life->child.page;
    struct patience patience;
    uint64_t submitted[SCRIPT_PRODUCERS_MAX];
    uint64_t heard = 0;

    for (uint32_t i = 0; i < lives->script.producers; i++) {
        submitted[i] = wire_get(&page->submitted[i]);
    }
    patience_renew(&patience);
    while (!stop_asked()) {
        heard += life_hear(lives, life, CLOCK_NS_PER_MS);
        bool all = true;
        for (uint32_t i = 0; i < lives->script.producers; i++) {
            all = all && wire_get(&page->submitted[i]) > submitted[i];
        }
        if ((all && heard > 0) || life->child.acks_fd < 0) {
            return true; /* an early end is life_end's to judge */
        }
        if (patience_lost(&patience, lives_standstill_ns(lives))) {
            lives_fault(lives,
                        "life %" PRIu32 ": not every producer goes on after %s (%" PRIu64
                        " acknowledged since)",
                        life->number,
                        after,
                        heard);
            return false;
        }
    }
    return true;
}

/* ---- the three ways -------------------------------------------------------------------------- */

static bool process_freeze(struct freeze *freeze, struct life *life)
{
    struct lives *lives = &freeze->run.lives;

    kill(life->child.pid, SIGSTOP);
    rest(lives, life, dice_below(&lives->dice, 50 * CLOCK_NS_PER_MS));
    kill(life->child.pid, SIGCONT);
    freeze->processes++;
    return goes_on(lives, life, "the process was stopped");
}

/* Any thread of the process. Return: 0 if there is none. */
static pid_t thread_draw(struct lives *lives, pid_t process)
{
    char path[64];
    pid_t tasks[TASKS_MAX];
    size_t count = 0;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)process);
    DIR *stream = opendir(path);
    if (stream == NULL) {
        return 0;
    }
    for (const struct dirent *entry = readdir(stream); entry != NULL && count < TASKS_MAX;
         entry = readdir(stream)) {
        const pid_t task = (pid_t)atoi(entry->d_name);
        if (task > 0) {
            tasks[count++] = task;
        }
    }
    closedir(stream);
    return count == 0 ? 0 : tasks[dice_below(&lives->dice, count)];
}

static bool is_producer(struct lives *lives, struct life *life, pid_t thread)
{
    for (uint32_t i = 0; i < lives->script.producers; i++) {
        if (wire_get(&life->child.page->threads[i]) == (uint64_t)thread) {
            return true;
        }
    }
    return false;
}

static bool thread_freeze(struct freeze *freeze, struct life *life)
{
    struct lives *lives = &freeze->run.lives;
    const pid_t thread = thread_draw(lives, life->child.pid);
    int status = 0;

    if (freeze->no_ptrace || thread == 0) {
        return true;
    }
    if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) != 0) {
        if (errno == EPERM && freeze->threads == 0) {
            freeze->no_ptrace = true;
            printf("note: ptrace is refused: single threads are not stopped\n");
        }
        return true; /* or it has just ended */
    }
    if (ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) != 0 ||
        waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status)) {
        return true;
    }
    /* Mostly short, so that many instructions are met; now and then long. */
    const uint64_t limit_ms = dice_below(&lives->dice, 8) == 0 ? 200 : 8;
    rest(lives, life, dice_below(&lives->dice, limit_ms * CLOCK_NS_PER_MS));
    freeze->threads++;
    freeze->threads_met[is_producer(lives, life, thread) ? 0 : 1]++;
    ptrace(PTRACE_DETACH, thread, NULL, NULL);
    return dice_below(&lives->dice, 4) != 0 || goes_on(lives, life, "a thread was stopped");
}

/* Whether the stopped thread stands in the call, or behind it and still in the kernel. */
static bool stands_in(pid_t process, pid_t thread, long call)
{
    char path[64];
    long number = -1;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", (int)process, (int)thread);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const bool known = fscanf(file, "%ld", &number) == 1;
    fclose(file);
    return known && number == call;
}

/* Waits until a counter of the page has reached value. Return: false after a message. */
static bool page_await(struct lives *lives,
                       struct life *life,
                       _Atomic uint64_t *field,
                       uint64_t value,
                       const char *what)
{
    struct patience patience;

    patience_renew(&patience);
    while (!stop_asked() && wire_get(field) < value) {
        const uint64_t heard = life_hear(lives, life, CLOCK_NS_PER_MS);
        if (life->child.acks_fd < 0) {
            return false; /* life_end says why */
        }
        if (heard > 0) {
            patience_renew(&patience);
        } else if (patience_lost(&patience, lives_standstill_ns(lives))) {
            lives_fault(lives, "life %" PRIu32 ": %s", life->number, what);
            return false;
        }
    }
    return !stop_asked();
}

/* Stops a producer inside an append until the watchdog has spoken. named_out: it spoke of that
 * batch. */
static bool producer_hold(struct freeze *freeze, struct life *life, bool *named_out)
{
    struct lives *lives = &freeze->run.lives;
    struct wire_page *page = life->child.page;
    const uint64_t number = wire_get(&page->park_asked) + 1;

    wire_set(&page->park_asked, number);
    if (!page_await(lives, life, &page->parked, number, "no producer stopped inside an append")) {
        return false;
    }
    const uint64_t told = wire_get(&page->events[WEIR_EVENT_STALL]);
    const bool heard = page_await(lives,
                                  life,
                                  &page->events[WEIR_EVENT_STALL],
                                  told + 1,
                                  "a producer holds a reservation, and the watchdog says nothing");
    const weir_lsn stall_lsn = wire_get(&page->stall_lsn);
    wire_set(&page->park_freed, number);
    if (!heard || !page_await(lives,
                              life,
                              &page->park_over,
                              number,
                              "a producer that was held does not go on")) {
        return false;
    }
    const weir_lsn lsn = wire_get(&page->park_lsn);
    *named_out = stall_lsn <= lsn && lsn - stall_lsn <= BATCH_BYTES_MAX;
    return true;
}

static bool producer_freeze(struct freeze *freeze, struct life *life)
{
    struct lives *lives = &freeze->run.lives;
    bool named = false;

    /* On a loaded machine another producer may be slow at the same time, and be told of instead. */
    for (int i = 0; i < 4 && !named; i++) {
        if (!producer_hold(freeze, life, &named)) {
            return stop_asked() || life->child.acks_fd < 0;
        }
        freeze->producers++;
        freeze->told += named;
    }
    if (!named) {
        lives_fault(lives,
                    "life %" PRIu32 ": the watchdog names LSN %" PRIu64
                    " while a producer holds LSN %" PRIu64,
                    life->number,
                    wire_get(&life->child.page->stall_lsn),
                    wire_get(&life->child.page->park_lsn));
        return false;
    }
    return goes_on(lives, life, "a producer was held inside an append");
}

/* ---- a lone producer in its own write -------------------------------------------------------- */

/* Stops the first producer in a write of its own. Return: false if it was not met there. */
static bool lone_stop(struct freeze *freeze, struct life *life, pid_t thread)
{
    struct lives *lives = &freeze->run.lives;
    int status = 0;

    for (int tries = 0; tries < LONE_TRIES && life->child.acks_fd >= 0 && !stop_asked(); tries++) {
        rest(lives, life, dice_below(&lives->dice, 4 * CLOCK_NS_PER_MS));
        if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) != 0 ||
            ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) != 0 ||
            waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status)) {
            return false;
        }
        if (stands_in(life->child.pid, thread, SYS_pwritev2)) {
            return true;
        }
        ptrace(PTRACE_DETACH, thread, NULL, NULL);
    }
    return false;
}

static bool lone_freeze(struct freeze *freeze, struct life *life)
{
    struct lives *lives = &freeze->run.lives;
    struct wire_page *page = life->child.page;
    const pid_t thread = (pid_t)wire_get(&page->threads[0]);
    const enum weir_io io = (enum weir_io)wire_get(&page->io_used);
    bool good = true;

    /* With the others the flusher writes. */
    if (freeze->no_ptrace || thread == 0 || (io != WEIR_IO_AUTO && io != WEIR_IO_POSIX)) {
        return true;
    }
    wire_set(&page->lone, 1);
    if (lone_stop(freeze, life, thread)) {
        const uint64_t told = wire_get(&page->events[WEIR_EVENT_STALL]);
        good = page_await(lives,
                          life,
                          &page->events[WEIR_EVENT_STALL],
                          told + 1,
                          "a producer stands in its own write with the flusher's part, and the "
                          "watchdog says nothing") ||
               stop_asked() || life->child.acks_fd < 0;
        ptrace(PTRACE_DETACH, thread, NULL, NULL);
        freeze->lone++;
    }
    wire_set(&page->lone, 0);
    return good && goes_on(lives, life, "a lone producer was stopped in its write");
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static bool life_freeze(struct freeze *freeze, struct life *life)
{
    struct lives *lives = &freeze->run.lives;
    bool good = true;

    for (int i = 0; i < STEPS && good && life->child.acks_fd >= 0 && !stop_asked(); i++) {
        rest(lives, life, dice_below(&lives->dice, 10 * CLOCK_NS_PER_MS));
        const uint64_t way = i == STEPS / 2 ? 0 : i == STEPS / 3 ? 8 : dice_below(&lives->dice, 9);
        good = way == 0   ? producer_freeze(freeze, life)
               : way == 8 ? lone_freeze(freeze, life)
               : way <= 2 ? process_freeze(freeze, life)
                          : thread_freeze(freeze, life);
    }
    return good;
}

static bool rounds_run(struct freeze *freeze)
{
    static struct life life;
    struct lives *lives = &freeze->run.lives;
    struct weir_report report;
    struct progress progress;
    bool good = true;

    progress_begin(&progress, "freeze");
    for (uint64_t round = 1; good && run_goes_on(&freeze->run, round); round++) {
        good = life_start(lives, &life);
        if (!good) {
            break;
        }
        struct wire_page *page = life.child.page;
        life_go(&life);
        good = life_await_open(lives, &life) && life_freeze(freeze, &life);
        life.phase = wire_phase(page);
        if (good && round % 2 == 0) {
            wire_set(&page->stop, 1);
            good = life_await_end(lives, &life);
        } else {
            life_kill(&life);
        }
        if (wire_get(&page->events[WEIR_EVENT_POISON]) > 0) {
            lives_fault(lives, "life %" PRIu32 ": the log was poisoned", life.number);
            good = false;
        }
        good = life_end(lives, &life, false) && good;
        good = good && ledger_check(&lives->ledger, lives->log_dir, &report);
        run_note(&freeze->run, &progress, round);
    }
    life_clear(&life);
    progress_end(&progress);
    return good;
}

int freeze_main(int argc, char **argv)
{
    static struct freeze freeze;
    struct lives_options options = LIVES_OPTIONS(20, 512 << 10);
    const struct option_row rows[] = {
        LIVES_ROUNDS_ROW(options, "processes (default 20)"),
        LIVES_OPTION_ROWS(options),
        {.name = NULL},
    };
    char warn[24];
    const int status = run_begin(&freeze.run, &text, rows, argc, argv, &options, NULL);

    if (status != ARGS_RUN) {
        return status;
    }
    snprintf(warn, sizeof(warn), "%dms", STALL_WARN_MS);
    freeze.run.lives.own_moments = true;
    freeze.run.lives.words[0] = "--park";
    freeze.run.lives.words[1] = "--stall-warn";
    freeze.run.lives.words[2] = warn;
    const bool good = rounds_run(&freeze);
    printf("processes stopped     %" PRIu64 "\n", freeze.processes);
    printf("threads stopped       %" PRIu64 ", %" PRIu64 " of them producers\n",
           freeze.threads,
           freeze.threads_met[0]);
    printf("producers held        %" PRIu64 " between reservation and commit, %" PRIu64
           " of them named by the watchdog\n",
           freeze.producers,
           freeze.told);
    printf("producers stopped     %" PRIu64
           " in a write of their own, each told of by the watchdog\n",
           freeze.lone);
    return run_close(&freeze.run, good, "");
}
