/* SPDX-License-Identifier: Apache-2.0
 * weir-stress powercut: a process appends to a log on a file system that is cut off at some
 * moment.
 *
 * Each round: mount, check what the last cut left, start a process that recovers the log and
 * appends, cut, let it run against the dead file system for a moment (what it acknowledges then
 * counts as well), kill it, unmount. The same file system and the same log live on through all
 * rounds. */
#include "clock.h"
#include "progress.h"
#include "run.h"
#include "verbs.h"

static const struct verb_text text = {
    .name = "powercut",
    .usage = "[OPTION]...",
    .about = "Makes a file system in a file, mounts it through a loop device, and lets a process "
             "append to a log on it "
             "until\n"
             "the file system is shut down without a flush, as by a power cut: the page cache and "
             "the journal of the\n"
             "moment are lost. Then: mount again, read the whole log, look for every acknowledged "
             "record, append to it "
             "and\n"
             "cut again. What the device itself has taken is kept in full, so of torn and "
             "reordered writes this shows\n"
             "nothing. Needs root, a loop device and mkfs; where that is missing, it says so and "
             "exits 77.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress powercut --rounds 100\n"
               "  weir-stress powercut --fs xfs --io dsync --follow\n",
};

static const char *const fs_words[] = {"ext4", "xfs", NULL};

/* Ends the life with a cut. Return: false after a message. */
static bool life_cut(struct lives *lives, struct life *life, struct disk *disk)
{
    const int rc = disk_cut(disk);
    const uint64_t linger_ns = dice_below(&lives->dice, 3 * CLOCK_NS_PER_MS);

    if (rc == 0 && dice_below(&lives->dice, 2) == 0) {
        clock_sleep_ns(linger_ns);
    }
    life_kill(life);
    const bool good = life_end(lives, life, rc == 0);
    if (rc != 0) {
        fprintf(stderr, "weir-stress powercut: %s\n", disk->why);
    }
    return good && rc == 0;
}

static bool disk_refused(struct disk *disk, int rc)
{
    if (rc != 0) {
        fprintf(stderr, "weir-stress powercut: %s\n", disk->why);
    }
    return rc != 0;
}

static bool rounds_run(struct run *run)
{
    static struct life life;
    struct lives *lives = &run->lives;
    struct disk *disk = &run->disk;
    struct weir_report report;
    struct progress progress;
    bool good = true;

    progress_begin(&progress, "powercut");
    for (uint64_t round = 1; good && run_goes_on(run, round); round++) {
        good = life_start(lives, &life);
        if (!good) {
            break;
        }
        life_go(&life);
        good = life_await(lives, &life);
        good = life_cut(lives, &life, disk) && good;
        /* Mounted again, whatever happened: a log that fails shall be seen as the cut left it. */
        if (disk_refused(disk, disk_unmount(disk)) || disk_refused(disk, disk_mount(disk))) {
            good = false;
            break;
        }
        good = good && ledger_check(&lives->ledger, lives->log_dir, &report);
        run_note(run, &progress, round);
    }
    life_clear(&life);
    progress_end(&progress);
    return good;
}

int powercut_main(int argc, char **argv)
{
    struct lives_options options = LIVES_OPTIONS(100, 256 << 10);
    int fs = 0;
    const struct option_row rows[] = {
        LIVES_ROUNDS_ROW(options, "power cuts (default 100)"),
        LIVES_FS_ROW(fs, fs_words, "ext4|xfs"),
        LIVES_OPTION_ROWS(options),
        {.name = NULL},
    };
    static struct run run;
    const struct run_fs on = {&fs, fs_words, NULL};
    const int status = run_begin(&run, &text, rows, argc, argv, &options, &on);

    if (status != ARGS_RUN) {
        return status;
    }
    run.lives.only_durable = true;
    return run_close(&run, rounds_run(&run), fs == 1 ? " --fs xfs" : "");
}
