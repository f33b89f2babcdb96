/* SPDX-License-Identifier: Apache-2.0
 * weir-stress rlimits: limits that close in on a process that appends.
 *
 * The parent sets them (prlimit) on the child, in turn:
 *   files        RLIMIT_NOFILE, so that no new one comes: segments cannot be opened, appends are
 *                refused with -EMFILE; with the old limit they go on by themselves
 *   size         RLIMIT_FSIZE below a segment: no write of it passes. New segments cannot be made,
 *                or a batch's write fails: refused with -EFBIG, or poisoned; a later opening
 *                without the limit finds everything
 *   memory       RLIMIT_AS as far as it is used: appending allocates nothing and goes on,
 *                or says -ENOMEM until there is memory
 *   locked       RLIMIT_MEMLOCK small, for a process without privileges, from the start: `auto`
 *                works without a ring or without registered buffers, the others say -ENOMEM
 *   opening      RLIMIT_NOFILE small from the start: opening succeeds or says -EMFILE
 *   opening size RLIMIT_FSIZE small from the start: opening says -EFBIG
 * Judged after each: the log holds what was acknowledged. */
#include "clock.h"
#include "patience.h"
#include "run.h"
#include "verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    GO_ON_ACKS = 256,
    FDS_NONE = 3,           /* those that are open stay, and no new one comes */
    SIZE_SMALL = 256 << 10, /* below every segment */
    SIZE_BLOCK = 64 << 10,
};

static const struct verb_text text = {
    .name = "rlimits",
    .usage = "[OPTION]...",
    .about =
        "Takes resources from a process that appends, by limits that are set while it runs or "
        "before it opens the log:\n"
        "file descriptors, file size, address space, locked memory. What must follow stands in "
        "weir.h: refused with a\n"
        "clear code and going on by itself, or poisoned and whole after the next opening, or "
        "invisible. Nothing that was\n"
        "acknowledged may be lost by any of it.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress rlimits --rounds 24\n"
               "  weir-stress rlimits --for 10m --io chain\n",
};

enum way { WAY_FILES = 0, WAY_SIZE, WAY_MEMORY, WAY_LOCKED, WAY_OPEN_FILES, WAY_OPEN_SIZE, WAYS };
static const char *const way_names[WAYS] = {"descriptors while it runs",
                                            "file size while it runs",
                                            "address space while it runs",
                                            "locked memory from the start",
                                            "descriptors from the start",
                                            "file size from the start"};

struct rlimits {
    struct run run;
    uint64_t rounds[WAYS];
    uint64_t seen[WAYS]; /* in which the limit was felt */
};

static bool limit_set(struct lives *lives, struct life *life, int which, rlim_t value)
{
    struct rlimit limit;

    if (prlimit(life->child.pid, (enum __rlimit_resource)which, NULL, &limit) == 0) {
        limit.rlim_cur = value < limit.rlim_max ? value : limit.rlim_max;
        if (prlimit(life->child.pid, (enum __rlimit_resource)which, &limit, NULL) == 0) {
            return true;
        }
    }
    lives_fault(lives, "prlimit: %s", strerror(errno));
    return false;
}

static rlim_t address_space_used(pid_t process)
{
    char path[64];
    unsigned long pages = 0;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)process);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%lu", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Hears count acknowledgements. Return: false after a message, or if the child has ended. */
static bool acks_await(struct lives *lives, struct life *life, uint64_t count, const char *when)
{
    struct patience patience;
    uint64_t heard = 0;

    patience_renew(&patience);
    while (heard < count) {
        const uint64_t some = life_hear(lives, life, CLOCK_NS_PER_MS);
        heard += some;
        if (heard < count && (stop_asked() || life->child.acks_fd < 0)) {
            return false;
        }
        if (some > 0) {
            patience_renew(&patience);
        } else if (patience_lost(&patience, lives_standstill_ns(lives))) {
            lives_fault(lives,
                        "life %" PRIu32 ": only %" PRIu64 " records were acknowledged %s",
                        life->number,
                        heard,
                        when);
            return false;
        }
    }
    return true;
}

/* Hears until an append is refused. Return: as acks_await. */
static bool refusal_await(struct lives *lives, struct life *life)
{
    struct wire_page *page = life->child.page;
    struct patience patience;

    patience_renew(&patience);
    while (wire_get(&page->refused) == 0 || wire_get(&page->told_code) == 0) {
        if (stop_asked() || life->child.acks_fd < 0) {
            return false;
        }
        if (life_hear(lives, life, CLOCK_NS_PER_MS) > 0) {
            patience_renew(&patience);
        } else if (patience_lost(&patience, lives_standstill_ns(lives))) {
            lives_fault(lives,
                        "life %" PRIu32 ": nothing is acknowledged under the limit, and nothing "
                        "is refused (%" PRIu64 ")",
                        life->number,
                        wire_get(&page->refused));
            return false;
        }
    }
    return true;
}

static bool code_is(struct lives *lives, struct life *life, int expected)
{
    const uint64_t code = wire_get(&life->child.page->refused_code);
    const uint64_t told = wire_get(&life->child.page->told_code);

    if (code != (uint64_t)expected || (told != 0 && told != (uint64_t)expected)) {
        lives_fault(lives,
                    "life %" PRIu32 ": refused with %s, told as %s, and not with %s: %s",
                    life->number,
                    weir_error_name(-(int)code),
                    weir_error_name(-(int)told),
                    weir_error_name(-expected),
                    life->child.page->message);
        return false;
    }
    return true;
}

/* Ends a life that runs. */
static bool life_finish(struct lives *lives, struct life *life, bool good)
{
    life->phase = wire_phase(life->child.page);
    if (good && life->number % 2 == 0) {
        wire_set(&life->child.page->stop, 1);
        good = life_await_end(lives, life);
    } else {
        life_kill(life);
    }
    return life_end(lives, life, false) && good;
}

/* ---- while it runs --------------------------------------------------------------------------- */

static bool running_files(struct rlimits *rlimits, struct life *life)
{
    struct lives *lives = &rlimits->run.lives;
    struct rlimit old;

    bool good = prlimit(life->child.pid, RLIMIT_NOFILE, NULL, &old) == 0 &&
                limit_set(lives, life, RLIMIT_NOFILE, FDS_NONE) && refusal_await(lives, life) &&
                code_is(lives, life, EMFILE);
    rlimits->seen[WAY_FILES] += good;
    good = good && limit_set(lives, life, RLIMIT_NOFILE, old.rlim_cur) &&
           acks_await(lives, life, GO_ON_ACKS, "after descriptors were to be had again");
    return life_finish(lives, life, good || stop_asked());
}

/* Ends a life that may have been poisoned by its limit, and looks at what it said. */
static bool size_finish(struct lives *lives, struct life *life, bool good)
{
    struct wire_page *page = life->child.page;
    char message[sizeof(page->message)];

    life->phase = wire_phase(page);
    life_kill(life);
    /* It may be just about to write it, but only its end tells. */
    while (spawn_hear(&life->child, UINT64_MAX)) {
        life_hear(lives, life, 0);
    }
    memcpy(message, page->message, sizeof(message));
    message[sizeof(message) - 1] = '\0';
    good = life_end(lives, life, true) && (good || stop_asked());
    if (good && message[0] != '\0' && strstr(message, "File too large") == NULL &&
        strstr(message, "EFBIG") == NULL) {
        lives_fault(lives,
                    "life %" PRIu32 ": a file that is too large is told as: %s",
                    life->number,
                    message);
        good = false;
    }
    return good;
}

/* A segment that cannot be made is refused, a batch that cannot be written poisons the log; both may
 * come, in either order. */
static bool running_size(struct rlimits *rlimits, struct life *life)
{
    struct lives *lives = &rlimits->run.lives;

    bool good = limit_set(lives, life, RLIMIT_FSIZE, SIZE_SMALL);
    if (good && refusal_await(lives, life)) {
        good = code_is(lives, life, EFBIG) && limit_set(lives, life, RLIMIT_FSIZE, RLIM_INFINITY) &&
               (acks_await(lives, life, GO_ON_ACKS, "after files may grow again") ||
                life->child.acks_fd < 0);
    } else {
        good = good && life->child.acks_fd < 0;
    }
    rlimits->seen[WAY_SIZE] += good;
    return size_finish(lives, life, good);
}

/* Appending allocates nothing. A segment's entry in the log's tables may: then appends are refused
 * with -ENOMEM until there is memory. */
static bool running_memory(struct rlimits *rlimits, struct life *life)
{
    struct lives *lives = &rlimits->run.lives;
    struct wire_page *page = life->child.page;
    struct patience patience;
    uint64_t heard = 0;
    bool good = acks_await(lives, life, GO_ON_ACKS, "before the limit") &&
                limit_set(lives, life, RLIMIT_AS, address_space_used(life->child.pid));

    patience_renew(&patience);
    while (good && heard < 8 * GO_ON_ACKS && wire_get(&page->refused) == 0) {
        const uint64_t some = life_hear(lives, life, CLOCK_NS_PER_MS);
        heard += some;
        good = !stop_asked() && life->child.acks_fd >= 0;
        if (some > 0) {
            patience_renew(&patience);
        } else if (good && patience_lost(&patience, lives_standstill_ns(lives))) {
            lives_fault(lives,
                        "life %" PRIu32 ": without memory to be had, %" PRIu64
                        " records were acknowledged and nothing was refused",
                        life->number,
                        heard);
            good = false;
        }
    }
    good = good && (wire_get(&page->refused) == 0 || code_is(lives, life, ENOMEM));
    rlimits->seen[WAY_MEMORY] += good;
    good = good && limit_set(lives, life, RLIMIT_AS, RLIM_INFINITY) &&
           acks_await(lives, life, GO_ON_ACKS, "after there was memory again");
    return life_finish(lives, life, good || stop_asked());
}

/* ---- from the start -------------------------------------------------------------------------- */

/* With so few descriptors that the opening takes all there are, no segment can be prepared behind it:
 * appends are refused with -EMFILE, until there are more. With any other, records are taken. Return:
 * false after a message, or if the child has ended. */
static bool opened_goes_on(struct lives *lives, struct life *life, enum way way)
{
    struct wire_page *page = life->child.page;
    struct rlimit own;
    struct patience patience;

    patience_renew(&patience);
    while (life_hear(lives, life, CLOCK_NS_PER_MS) == 0) {
        if (stop_asked() || life->child.acks_fd < 0) {
            return false;
        }
        if (way == WAY_OPEN_FILES && wire_get(&page->refused) > 0) {
            return code_is(lives, life, EMFILE) && getrlimit(RLIMIT_NOFILE, &own) == 0 &&
                   limit_set(lives, life, RLIMIT_NOFILE, own.rlim_cur) &&
                   acks_await(lives, life, 1, "after descriptors were to be had");
        }
        if (patience_lost(&patience, lives_standstill_ns(lives))) {
            lives_fault(lives,
                        "life %" PRIu32 ": nothing is acknowledged under the limit (%s)",
                        life->number,
                        way_names[way]);
            return false;
        }
    }
    return true;
}

/* The opening succeeds, or says one of two codes. Return: false after a message. */
static bool
opening_judge(struct rlimits *rlimits, struct life *life, enum way way, int one, int other)
{
    struct lives *lives = &rlimits->run.lives;
    struct wire_page *page = life->child.page;

    if (life_await_open(lives, life)) {
        /* Felt, too, where it goes without what was refused, and tells so. */
        rlimits->seen[way] += wire_get(&page->events[WEIR_EVENT_FALLBACK]) > 0;
        if (way == WAY_OPEN_SIZE) {
            clock_sleep_ns(dice_below(&lives->dice, 50 * CLOCK_NS_PER_MS));
            return size_finish(lives, life, true);
        }
        return life_finish(lives, life, opened_goes_on(lives, life, way));
    }
    const uint64_t code = wire_get(&page->refused_code);
    bool good = stop_asked() || code == (uint64_t)one || code == (uint64_t)other;
    if (!good) {
        lives_fault(lives,
                    "life %" PRIu32 ": opening with a limit (%s) says %s: %s",
                    life->number,
                    way_names[way],
                    weir_error_name(-(int)code),
                    page->message);
    }
    rlimits->seen[way] += good;
    life->phase = wire_phase(page);
    life_kill(life);
    return life_end(lives, life, true) && good;
}

static bool round_run(struct rlimits *rlimits, struct life *life, enum way way)
{
    struct lives *lives = &rlimits->run.lives;

    lives->words[0] = way == WAY_LOCKED ? "--unprivileged" : NULL;
    if (way == WAY_MEMORY) {
        /* jemalloc does not survive it when a thread's first allocation finds no room for an
         * arena: then all threads share one. */
        setenv("MALLOC_CONF", "narenas:1", 1);
    }
    bool good = life_start(lives, life);
    unsetenv("MALLOC_CONF");
    if (!good) {
        return false;
    }
    if (way == WAY_LOCKED) {
        static const rlim_t limits[] = {0, 8 << 10, 64 << 10, 1 << 20};
        good = limit_set(lives, life, RLIMIT_MEMLOCK, limits[dice_below(&lives->dice, 4)]);
    } else if (way == WAY_OPEN_FILES) {
        good = limit_set(lives, life, RLIMIT_NOFILE, 7 + dice_below(&lives->dice, 12));
    } else if (way == WAY_OPEN_SIZE) {
        /* Whole blocks: of others the kernel cuts a direct write to an odd length, and then refuses
         * it as that (EINVAL). */
        good = limit_set(lives,
                         life,
                         RLIMIT_FSIZE,
                         dice_below(&lives->dice, SIZE_SMALL / SIZE_BLOCK) * SIZE_BLOCK);
    }
    life_go(life);
    if (!good) {
        life_clear(life);
        return false;
    }
    switch (way) {
    case WAY_LOCKED:
        good = opening_judge(rlimits, life, way, ENOMEM, EPERM);
        break;
    case WAY_OPEN_FILES:
        good = opening_judge(rlimits, life, way, EMFILE, EMFILE);
        break;
    case WAY_OPEN_SIZE:
        good = opening_judge(rlimits, life, way, EFBIG, EFBIG);
        break;
    default:
        good = life_await_open(lives, life);
        if (!good) {
            life->phase = wire_phase(life->child.page);
            life_kill(life);
            return life_end(lives, life, false) && stop_asked();
        }
        good = way == WAY_FILES  ? running_files(rlimits, life)
               : way == WAY_SIZE ? running_size(rlimits, life)
                                 : running_memory(rlimits, life);
        break;
    }
    rlimits->rounds[way] += good;
    return good;
}

static bool rounds_run(struct rlimits *rlimits)
{
    static struct life life;
    struct lives *lives = &rlimits->run.lives;
    struct weir_report report;
    struct progress progress;
    bool good = true;

    progress_begin(&progress, "rlimits");
    for (uint64_t round = 1; good && run_goes_on(&rlimits->run, round); round++) {
        enum way way = (enum way)((round - 1) % WAYS);
        if (way == WAY_MEMORY && RUN_SANITIZED) {
            way = WAY_FILES; /* a sanitizer does not survive it */
        }
        good = round_run(rlimits, &life, way);
        good = good && ledger_check(&lives->ledger, lives->log_dir, &report);
        run_note(&rlimits->run, &progress, round);
    }
    life_clear(&life);
    progress_end(&progress);
    return good;
}

int rlimits_main(int argc, char **argv)
{
    static struct rlimits rlimits;
    struct lives_options options = LIVES_OPTIONS(24, 256 << 10);
    const struct option_row rows[] = {
        LIVES_ROUNDS_ROW(options, "processes, the limits in turn (default 24)"),
        LIVES_OPTION_ROWS(options),
        {.name = NULL},
    };
    const int status = run_begin(&rlimits.run, &text, rows, argc, argv, &options, NULL);

    if (status != ARGS_RUN) {
        return status;
    }
    rlimits.run.lives.own_moments = true;
    /* Inherited: a limit may meet a child whose runtime still starts, and writes files of its own. */
    signal(SIGXFSZ, SIG_IGN);
    if (RUN_SANITIZED) {
        printf("note: built with a sanitizer: the address space is left alone\n");
    }
    const bool good = rounds_run(&rlimits);
    for (int i = 0; i < WAYS; i++) {
        printf("%-30s %" PRIu64 " processes, felt by %" PRIu64 "\n",
               way_names[i],
               rlimits.rounds[i],
               rlimits.seen[i]);
    }
    return run_close(&rlimits.run, good, "");
}
