/* SPDX-License-Identifier: Apache-2.0
 * weir-stress soak: one process for long, on a slow disk, with readers at its tail.
 *
 * Memory and descriptors of the writer and of the readers are looked at ten times a second. What
 * counts is growth: the highest of the last third of a life against the highest of the middle
 * third; the first third may fill caches. Everything that the writer acknowledges and the readers
 * are shown is in the ledger, which forgets what was trimmed, so that a soak of days needs no more
 * memory than one of minutes. */
#include "clock.h"
#include "patience.h"
#include "run.h"
#include "verbs.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    SAMPLE_MS = 100,
    GROWTH_BYTES_MAX = 4 << 20, /* beyond a sixteenth */
    GROWTH_FDS_MAX = 2,         /* a segment and its successor */
    FORGET_EVERY = 50,          /* samples */
};

static const struct verb_text text = {
    .name = "soak",
    .usage = "[OPTION]...",
    .about =
        "Each round a process appends for long: records and groups of all sizes, rotations, trims, "
        "on a disk whose\n"
        "writes and syncs take longer by a random span, with a reader at its tail. Its memory and "
        "descriptors, and the\n"
        "reader's, must not grow from the middle third to the last one; at the end the log is "
        "closed cleanly, and every\n"
        "record that was acknowledged or shown and not trimmed must be there.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress soak --for 10m\n"
               "  weir-stress soak --for 24h --slow 5ms --io chain\n",
};

struct usage {
    uint64_t bytes; /* resident */
    uint64_t fds;
};

/* The highest of each third of a life. */
struct thirds {
    const char *who;
    struct usage third[3];
};

static uint64_t rss_of(pid_t process)
{
    char path[64];
    char line[256];
    uint64_t kib = 0;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)process);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kib = strtoull(line + 6, NULL, 10);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib * 1024;
}

static uint64_t fds_of(pid_t process)
{
    char path[64];
    uint64_t count = 0;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)process);
    DIR *stream = opendir(path);
    if (stream == NULL) {
        return 0;
    }
    while (readdir(stream) != NULL) {
        count++;
    }
    closedir(stream);
    return count;
}

static void thirds_note(struct thirds *thirds, size_t third, pid_t process)
{
    struct usage *usage = &thirds->third[third];
    const uint64_t bytes = rss_of(process);
    const uint64_t fds = fds_of(process);

    usage->bytes = bytes > usage->bytes ? bytes : usage->bytes;
    usage->fds = fds > usage->fds ? fds : usage->fds;
}

/* Return: whether it stayed as it was. */
static bool thirds_flat(struct lives *lives, const struct thirds *thirds)
{
    const struct usage *middle = &thirds->third[1];
    const struct usage *last = &thirds->third[2];
    bool flat = true;

    printf("%-8s memory %.1f, %.1f, %.1f MiB; descriptors %" PRIu64 ", %" PRIu64 ", %" PRIu64 "\n",
           thirds->who,
           (double)thirds->third[0].bytes / 1048576.0,
           (double)middle->bytes / 1048576.0,
           (double)last->bytes / 1048576.0,
           thirds->third[0].fds,
           middle->fds,
           last->fds);
    if (!RUN_SANITIZED && last->bytes > middle->bytes + middle->bytes / 16 + GROWTH_BYTES_MAX) {
        lives_fault(lives,
                    "the %s's memory grew from %" PRIu64 " to %" PRIu64 " KiB",
                    thirds->who,
                    middle->bytes / 1024,
                    last->bytes / 1024);
        flat = false;
    }
    if (last->fds > middle->fds + GROWTH_FDS_MAX) {
        lives_fault(lives,
                    "the %s's descriptors grew from %" PRIu64 " to %" PRIu64,
                    thirds->who,
                    middle->fds,
                    last->fds);
        flat = false;
    }
    return flat;
}

/* The life from its opening to its end. Return: false after a message. */
static bool life_soak(struct run *run, struct life *life, uint64_t span_ns)
{
    struct lives *lives = &run->lives;
    struct wire_page *page = life->child.page;
    struct thirds writer = {.who = "writer"};
    struct thirds reader = {.who = "reader"};
    struct patience patience;
    const uint64_t begin_ns = clock_now_ns();
    uint64_t sampled_ns = begin_ns;
    uint64_t samples = 0;

    life_follow(lives, life);
    patience_renew(&patience);
    while (!stop_asked() && life->child.acks_fd >= 0) {
        if (life_hear(lives, life, CLOCK_NS_PER_MS) > 0) {
            patience_renew(&patience);
        } else if (patience_lost(&patience, lives_standstill_ns(lives))) {
            life_stuck(lives, life);
            return false;
        }
        const uint64_t now_ns = clock_now_ns();
        if (now_ns - begin_ns >= span_ns) {
            break;
        }
        if (now_ns - sampled_ns >= SAMPLE_MS * CLOCK_NS_PER_MS) {
            const size_t third = (size_t)(3 * (now_ns - begin_ns) / span_ns);
            thirds_note(&writer, third, life->child.pid);
            if (life->follower.pid > 0) {
                thirds_note(&reader, third, life->follower.pid);
            }
            sampled_ns = now_ns;
            if (++samples % FORGET_EVERY == 0) {
                ledger_forget(&lives->ledger, wire_get(&page->trim_done));
            }
        }
    }
    if (stop_asked() || life->child.acks_fd < 0) {
        return stop_asked(); /* an early end is life_end's to tell */
    }
    const bool flat = thirds_flat(lives, &writer);
    return thirds_flat(lives, &reader) && flat;
}

static bool rounds_run(struct run *run)
{
    static struct life life;
    struct lives *lives = &run->lives;
    struct weir_report report;
    const uint64_t whole_ns = run->options->for_ns;
    const uint64_t span_ns = whole_ns / run->options->rounds;
    bool good = true;

    for (uint64_t round = 1; good && round <= run->options->rounds && !stop_asked(); round++) {
        good = life_start(lives, &life);
        if (!good) {
            break;
        }
        life_go(&life);
        good = life_await_open(lives, &life) && life_soak(run, &life, span_ns);
        life.phase = wire_phase(life.child.page);
        if (good) {
            wire_set(&life.child.page->stop, 1);
            good = life_await_end(lives, &life);
        } else {
            life_kill(&life);
        }
        good = life_end(lives, &life, false) && good;
        good = good && ledger_check(&lives->ledger, lives->log_dir, &report);
        if (good && report.verdict != WEIR_VERDICT_CLEAN && report.verdict != WEIR_VERDICT_STALE &&
            !stop_asked()) {
            lives_fault(lives, "the log was closed and is not clean: %s", report.why);
            good = false;
        }
        lives_line(lives, round);
    }
    life_clear(&life);
    return good;
}

int soak_main(int argc, char **argv)
{
    static struct run run;
    struct lives_options options = {.rounds = 1,
                                    .for_ns = 60 * CLOCK_NS_PER_S,
                                    .producers = 8,
                                    .record_bytes = {0, 64 << 10},
                                    .io = ARGS_IO_ALL,
                                    .lie = "none"};
    uint64_t slow_ns = 2 * CLOCK_NS_PER_MS;
    char slow_word[24];
    const struct option_row rows[] = {
        LIVES_ROUNDS_ROW(options, "processes, which share the time (default 1)"),
        {.name = "slow",
         .kind = OPTION_DURATION,
         .target = &slow_ns,
         .value = "DURATION",
         .help = "what a write or sync takes longer, at most; one in a thousand up to a hundred "
                 "times that (default 2ms)"},
        LIVES_OPTION_ROWS(options),
        {.name = NULL},
    };
    const int status = run_begin(&run, &text, rows, argc, argv, &options, NULL);

    if (status != ARGS_RUN) {
        return status;
    }
    snprintf(slow_word, sizeof(slow_word), "%" PRIu64 "us", slow_ns / CLOCK_NS_PER_US);
    run.lives.own_moments = true;
    run.lives.words[0] = "--slow";
    run.lives.words[1] = slow_word;
    if (RUN_SANITIZED) {
        printf("note: built with a sanitizer: memory is not judged\n");
    }
    return run_close(&run, rounds_run(&run), "");
}
