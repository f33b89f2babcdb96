/* SPDX-License-Identifier: Apache-2.0
 * weir-stress fullfs: the file system fills up under a log, and space comes back.
 *
 * Each round a process appends and trims nothing, and a ballast file takes what is free, until an
 * append is refused. Then, in turn:
 *   space comes back because the ballast goes, and the process goes on
 *   space comes back because the log itself is trimmed, and it goes on
 *   the process is killed on the full file system, another one tries to open the log there, the log
 *   is read; then the ballast goes
 *   the power is cut on the full file system (not on tmpfs), and then as before
 * Judged: refused with -ENOSPC and nothing else, weir_log_error says the same, the events of a full
 * and of a usable disk come, appends go on by themselves, an opening on a full file system succeeds
 * or says -ENOSPC, reading goes on, and the log holds what was acknowledged. */
#include "clock.h"
#include "patience.h"
#include "run.h"
#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    LEAVE_BYTES_MAX = 6 << 20,
    TRIM_LEAVE_BYTES = 32 << 20, /* several segments, so that there is something to trim */
    TRIM_TO_BYTES = 2 << 20,
    GO_ON_ACKS = 64,
};

static const struct verb_text text = {
    .name = "fullfs",
    .usage = "[OPTION]...",
    .about =
        "Fills a small file system up while a process appends to a log on it, until an append is "
        "refused for want of\n"
        "space. Then space comes back: from another file, or by trimming the log; in between the "
        "process is killed, the\n"
        "log opened on the full file system, or its power cut. Appends must go on by themselves, "
        "and every\n"
        "acknowledged record must be there. Needs root; where mounting is refused, it says so and "
        "exits 77.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress fullfs --rounds 20\n"
               "  weir-stress fullfs --fs tmpfs --io posix\n",
};

static const char *const fs_words[] = {"ext4", "xfs", "tmpfs", NULL};

enum way { WAY_BALLAST = 0, WAY_TRIM, WAY_KILL, WAY_CUT, WAYS };

struct fullfs {
    struct run run;
    char ballast[4300];
    uint64_t ways[WAYS];
    uint64_t refused_openings;
};

/* ---- the ballast ----------------------------------------------------------------------------- */

/* Takes all that is free but leave bytes. Return: false after a message. */
static bool ballast_take(struct fullfs *fullfs, uint64_t leave)
{
    const int fd = open(fullfs->ballast, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct statvfs facts;
    bool good = fd >= 0;

    for (int i = 0; good && i < 64; i++) {
        good = fstatvfs(fd, &facts) == 0;
        const uint64_t left = good ? (uint64_t)facts.f_bfree * facts.f_frsize : 0;
        const off_t size = lseek(fd, 0, SEEK_END);
        if (!good || left < leave + facts.f_frsize) {
            break;
        }
        uint64_t more = left - leave;
        while (more >= facts.f_frsize && fallocate(fd, 0, size, (off_t)more) != 0) {
            more /= 2; /* the file system keeps some for itself */
        }
        if (more < facts.f_frsize) {
            break;
        }
    }
    if (!good) {
        lives_fault(&fullfs->run.lives, "%s: %s", fullfs->ballast, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return good;
}

static void ballast_drop(struct fullfs *fullfs)
{
    unlink(fullfs->ballast);
}

/* ---- full and usable ------------------------------------------------------------------------- */

/* Waits for the first refusal and looks at what it says. Return: false after a message, or if the
 * child has ended. */
static bool full_await(struct fullfs *fullfs, struct life *life)
{
    struct lives *lives = &fullfs->run.lives;
    struct wire_page *page = life->child.page;
    struct patience patience;

    patience_renew(&patience);
    while (wire_get(&page->refused) == 0 || wire_get(&page->told_code) == 0 ||
           wire_get(&page->events[WEIR_EVENT_SPACE_LOW]) == 0) {
        if (stop_asked() || life->child.acks_fd < 0) {
            return false;
        }
        if (life_hear(lives, life, CLOCK_NS_PER_MS) > 0) {
            patience_renew(&patience);
        } else if (patience_lost(&patience, lives_standstill_ns(lives))) {
            lives_fault(lives,
                        "life %" PRIu32 ": nothing is acknowledged any more; refused %" PRIu64
                        " times, weir_log_error says %s, %" PRIu64 " events of a full disk",
                        life->number,
                        wire_get(&page->refused),
                        weir_error_name(-(int)wire_get(&page->told_code)),
                        wire_get(&page->events[WEIR_EVENT_SPACE_LOW]));
            return false;
        }
    }
    const uint64_t code = wire_get(&page->refused_code);
    const uint64_t told = wire_get(&page->told_code);
    if (code != ENOSPC || told != ENOSPC) {
        lives_fault(lives,
                    "life %" PRIu32 ": a full file system is refused with %s, told as %s",
                    life->number,
                    weir_error_name(-(int)code),
                    weir_error_name(-(int)told));
        return false;
    }
    return true;
}

/* Waits until appends go on. Return: as full_await. */
static bool usable_await(struct fullfs *fullfs, struct life *life, const char *how)
{
    struct lives *lives = &fullfs->run.lives;
    struct wire_page *page = life->child.page;
    struct patience patience;
    uint64_t heard = 0;

    patience_renew(&patience);
    while (heard < GO_ON_ACKS || wire_get(&page->events[WEIR_EVENT_SPACE_BACK]) == 0) {
        if (stop_asked() || life->child.acks_fd < 0) {
            return false;
        }
        heard += life_hear(lives, life, CLOCK_NS_PER_MS);
        if (patience_lost(&patience, lives_standstill_ns(lives))) {
            lives_fault(lives,
                        "life %" PRIu32 ": space came back (%s), and only %" PRIu64
                        " records were acknowledged since, with %" PRIu64 " events of it",
                        life->number,
                        how,
                        heard,
                        wire_get(&page->events[WEIR_EVENT_SPACE_BACK]));
            return false;
        }
    }
    return true;
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static bool check(struct lives *lives)
{
    struct weir_report report;

    return ledger_check(&lives->ledger, lives->log_dir, &report);
}

static bool disk_refused(const struct disk *disk, int rc)
{
    if (rc != 0) {
        fprintf(stderr, "weir-stress fullfs: %s\n", disk->why);
    }
    return rc != 0;
}

/* Another process opens the log while the file system is full. */
static bool full_open(struct fullfs *fullfs, struct life *life)
{
    struct lives *lives = &fullfs->run.lives;
    bool good = life_start(lives, life);

    if (!good) {
        return false;
    }
    struct wire_page *page = life->child.page;
    wire_set(&page->retain_bytes, UINT64_MAX);
    life_go(life);
    const bool open = life_await_open(lives, life);
    const uint64_t code = wire_get(&page->refused_code);
    if (!open && code != ENOSPC && !stop_asked()) {
        lives_fault(lives,
                    "life %" PRIu32 ": opening on a full file system: %s: %s",
                    life->number,
                    weir_error_name(-(int)code),
                    page->message);
        good = false;
    }
    fullfs->refused_openings += !open;
    life->phase = wire_phase(page);
    life_kill(life);
    good = life_end(lives, life, !open) && good;
    return good && check(lives);
}

/* The life stands before a full disk. Return: false after a message; the life may have ended. */
static bool way_go(struct fullfs *fullfs, struct life *life, enum way way)
{
    struct lives *lives = &fullfs->run.lives;
    struct disk *disk = &fullfs->run.disk;
    bool good = true;

    switch (way) {
    case WAY_BALLAST:
    case WAYS:
        ballast_drop(fullfs);
        return usable_await(fullfs, life, "a file was removed");
    case WAY_TRIM:
        wire_set(&life->child.page->retain_bytes, TRIM_TO_BYTES);
        return usable_await(fullfs, life, "the log was trimmed");
    case WAY_KILL:
        life->phase = wire_phase(life->child.page);
        life_kill(life);
        good = life_end(lives, life, false);
        break;
    case WAY_CUT:
        good = !disk_refused(disk, disk_cut(disk));
        life->phase = wire_phase(life->child.page);
        life_kill(life);
        good = life_end(lives, life, true) && good;
        /* Mounted again, whatever happened. */
        if (disk_refused(disk, disk_unmount(disk)) || disk_refused(disk, disk_mount(disk))) {
            return false;
        }
        break;
    }
    good = good && check(lives);
    for (int i = 0; good && i < 2; i++) {
        good = full_open(fullfs, life);
    }
    return good;
}

static bool round_run(struct fullfs *fullfs, struct life *life, enum way way)
{
    struct lives *lives = &fullfs->run.lives;
    bool good = life_start(lives, life);

    if (!good) {
        return false;
    }
    wire_set(&life->child.page->retain_bytes, UINT64_MAX);
    life_go(life);
    good = life_await_open(lives, life) &&
           ballast_take(fullfs,
                        (way == WAY_TRIM ? TRIM_LEAVE_BYTES : 0) +
                            dice_below(&lives->dice, LEAVE_BYTES_MAX)) &&
           full_await(fullfs, life);
    good = good && way_go(fullfs, life, way);
    fullfs->ways[way] += good;
    if (life->child.pid > 0) {
        life->phase = wire_phase(life->child.page);
        if (good) {
            /* So that the next round begins with room. */
            wire_set(&life->child.page->retain_bytes, TRIM_TO_BYTES);
            life_hear(lives, life, 20 * CLOCK_NS_PER_MS);
            wire_set(&life->child.page->stop, 1);
            good = life_await_end(lives, life);
        } else {
            life_kill(life);
        }
        good = life_end(lives, life, false) && good;
    }
    ballast_drop(fullfs);
    return good && check(lives);
}

/* Opens the log with room, and lets it trim what the rounds have left. */
static bool round_tidy(struct fullfs *fullfs, struct life *life)
{
    struct lives *lives = &fullfs->run.lives;
    bool good = life_start(lives, life);

    if (!good) {
        return false;
    }
    struct wire_page *page = life->child.page;
    struct patience patience;
    wire_set(&page->retain_bytes, TRIM_TO_BYTES);
    life_go(life);
    good = life_await_open(lives, life);
    patience_renew(&patience);
    while (good && wire_get(&page->trim_done) == 0 && life->child.acks_fd >= 0 && !stop_asked()) {
        life_hear(lives, life, CLOCK_NS_PER_MS);
        if (patience_lost(&patience, lives_standstill_ns(lives))) {
            life_stuck(lives, life);
            good = false;
        }
    }
    wire_set(&page->stop, 1);
    life->phase = wire_phase(page);
    if (good) {
        good = life_await_end(lives, life);
    } else {
        life_kill(life);
    }
    return life_end(lives, life, false) && good && check(lives);
}

static bool rounds_run(struct fullfs *fullfs, bool can_cut)
{
    static struct life life;
    struct lives *lives = &fullfs->run.lives;
    struct progress progress;
    bool good = true;

    progress_begin(&progress, "fullfs");
    for (uint64_t round = 1; good && run_goes_on(&fullfs->run, round); round++) {
        const enum way way = (enum way)((round - 1) % WAYS);
        good = round_run(fullfs, &life, way == WAY_CUT && !can_cut ? WAY_KILL : way);
        good = good && (stop_asked() || round_tidy(fullfs, &life));
        good = good || stop_asked();
        run_note(&fullfs->run, &progress, round);
    }
    life_clear(&life);
    progress_end(&progress);
    return good && lives_good(lives);
}

int fullfs_main(int argc, char **argv)
{
    static struct fullfs fullfs;
    struct lives_options options = LIVES_OPTIONS(16, 256 << 10);
    int fs = 0;
    const struct option_row rows[] = {
        LIVES_ROUNDS_ROW(options, "times that it is filled up (default 16)"),
        LIVES_FS_ROW(fs, fs_words, "ext4|xfs|tmpfs"),
        LIVES_OPTION_ROWS(options),
        {.name = NULL},
    };
    static const uint64_t fs_bytes[] = {96 << 20, 0, 96 << 20};
    char more[32];
    const struct run_fs on = {&fs, fs_words, fs_bytes};
    const int status = run_begin(&fullfs.run, &text, rows, argc, argv, &options, &on);

    if (status != ARGS_RUN) {
        return status;
    }
    const bool can_cut = fs != 2;
    snprintf(fullfs.ballast, sizeof(fullfs.ballast), "%s/ballast", fullfs.run.disk.mount_point);
    snprintf(more, sizeof(more), " --fs %s", fs_words[fs]);
    fullfs.run.lives.own_moments = true;
    fullfs.run.lives.only_durable = can_cut;
    const bool good = rounds_run(&fullfs, can_cut);
    printf("filled up             %" PRIu64 " freed by another file, %" PRIu64
           " by trimming, %" PRIu64 " with a kill, %" PRIu64 " with a power cut\n",
           fullfs.ways[WAY_BALLAST],
           fullfs.ways[WAY_TRIM],
           fullfs.ways[WAY_KILL],
           fullfs.ways[WAY_CUT]);
    printf("openings refused      %" PRIu64 " on the full file system\n", fullfs.refused_openings);
    return run_close(&fullfs.run, good, more);
}
