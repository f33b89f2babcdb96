/* SPDX-License-Identifier: Apache-2.0
 * weir-stress powercut: a process appends to a log on a file system that is cut off at some
 * moment.
 *
 * Each round: mount, check what the last cut left, start a process that recovers the log and
 * appends, cut, let it run against the dead file system for a moment (what it acknowledges then
 * counts as well), kill it, unmount. The same file system and the same log live on through all
 * rounds. */
#include "clock.h"
#include "disk.h"
#include "lives.h"
#include "progress.h"
#include "verbs.h"

#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

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

static bool rounds_run(struct lives *lives, struct disk *disk)
{
    static struct life life;
    struct weir_report report;
    struct progress progress;
    const uint64_t rounds = lives->options->rounds;
    bool good = true;

    progress_begin(&progress, "powercut");
    for (uint64_t round = 1; good && round <= rounds && !stop_asked(); round++) {
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
        progress_show(&progress, round, rounds);
        if (round % 100 == 0) {
            progress_end(&progress);
            lives_line(lives, round);
        }
    }
    life_clear(&life);
    progress_end(&progress);
    return good;
}

static int powercut_run(const struct lives_options *options, const char *fs)
{
    static struct lives lives;
    static struct disk disk;
    struct scratch scratch;
    int rc = scratch_open(&scratch, options->dir);

    if (rc != 0) {
        fprintf(stderr,
                "weir-stress powercut: %s: %s\n",
                options->dir != NULL ? options->dir : "temporary directory",
                weir_strerror(rc));
        return STATUS_FAILED;
    }
    rc = disk_make(&disk, scratch.path, fs);
    if (rc == 0) {
        rc = disk_mount(&disk);
    }
    if (rc != 0) {
        printf("skipped: no power cuts here: %s\n", disk.why);
        disk_remove(&disk, false);
        scratch_remove(&scratch);
        return STATUS_SKIPPED;
    }
    char log_dir[sizeof(disk.mount_point) + 8];
    snprintf(log_dir, sizeof(log_dir), "%s/log", disk.mount_point);
    int status = lives_open(&lives, "powercut", options, disk.mount_point, log_dir);
    bool good = status == 0;
    if (status == 0) {
        lives.only_durable = true;
        printf("seed %" PRIu64 ", %s on %s%s, image %s\n",
               options->seed,
               fs,
               disk.device,
               disk.direct ? " with direct I/O" : "",
               disk.image);
        good = rounds_run(&lives, &disk) && lives_good(&lives);
        lives_print(&lives);
        if (stop_asked()) {
            printf("stopped by a signal\n");
        }
        printf("result                %s\n", good ? "nothing found" : "FAULTS FOUND");
        if (!good) {
            lives_rerun(&lives, stderr, strcmp(fs, "xfs") == 0 ? " --fs xfs" : "");
        }
        status = good && !stop_asked() ? STATUS_OK : STATUS_FAILED;
        lives_close(&lives);
    }
    const bool keep = options->keep || (!good && !stop_asked());
    disk_remove(&disk, keep);
    if (keep) {
        fprintf(stderr, "left behind: %s (the log is in /log on it)\n", disk.image);
    } else {
        scratch_remove(&scratch);
    }
    return status;
}

int powercut_main(int argc, char **argv)
{
    struct lives_options options = {.rounds = 100,
                                    .producers = 8,
                                    .record_bytes = {0, 256 << 10},
                                    .io = ARGS_IO_ALL,
                                    .lie = "none"};
    int fs = 0;
    const struct option_row rows[] = {
        {.name = "rounds",
         .kind = OPTION_NUMBER,
         .target = &options.rounds,
         .value = "N",
         .min = 1,
         .max = SCRIPT_LIVES_MAX - 1,
         .help = "power cuts (default 100)"},
        {.name = "fs",
         .kind = OPTION_CHOICE,
         .target = &fs,
         .value = "ext4|xfs",
         .choices = fs_words,
         .help = "file system (default ext4)"},
        LIVES_OPTION_ROWS(options),
        {.name = NULL},
    };
    int operands = 0;
    const int status = args_parse(&text, rows, argc, argv, &operands);

    if (status != ARGS_RUN) {
        return status;
    }
    if (operands < argc) {
        return args_wrong(&text, "%s: takes no operands", argv[operands]);
    }
    if (!options.seed_given) {
        if (getrandom(&options.seed, sizeof(options.seed), 0) != (ssize_t)sizeof(options.seed)) {
            options.seed = clock_now_ns();
        }
        options.seed >>= 16;
    }
    stop_install();
    return powercut_run(&options, fs_words[fs]);
}
