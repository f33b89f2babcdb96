/* SPDX-License-Identifier: Apache-2.0
 * weir-stress kill: a process appends, is killed at some moment, and the next one opens the log
 * at once.
 *
 * The next process stands ready before the kill and is told to go in the same breath, so that it
 * opens the log while the kernel still carries out the dead one's writes. Every few rounds
 * nothing is started until the whole log was checked against what was acknowledged (ledger.h).
 * The log lives on through all rounds. */
#include "kill.h"

#include "progress.h"
#include "verbs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct verb_text text = {
    .name = "kill",
    .usage = "[OPTION]...",
    .about =
        "Each round a process appends with several producers until it is killed (SIGKILL) at a "
        "random moment: "
        "while it\n"
        "opens, appends or closes. The next one opens the same log without a pause, while writes "
        "of the killed one\n"
        "are still under way, and goes on. Every few rounds, and at the end, the whole log is "
        "read: each "
        "acknowledged\n"
        "record that was not trimmed must be there, byte for byte, once, in its producer's order, "
        "groups whole;\n"
        "nothing that was not submitted; the verdict never corrupt or unreadable.\n"
        "\n"
        "With --ingest the process is \"weir ingest --acks\", fed with lines; else one of our own, "
        "which also "
        "appends\n"
        "groups, trims, and draws the sizes of segments, slots and queues anew in each life.\n"
        "With --every-call each round begins with an empty directory and kills at the next call on "
        "files and rings.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress kill --rounds 1000\n"
               "  weir-stress kill --rounds 50 --ingest --weir build/weir --io chain\n",
};

static bool rounds_run(struct run *run, uint64_t check_every)
{
    static struct life places[2];
    struct lives *lives = &run->lives;
    struct life *now = &places[0];
    struct life *next = &places[1];
    struct weir_report report;
    struct progress progress;

    progress_begin(&progress, "kill");
    bool good = life_start(lives, now);
    if (good) {
        life_go(now);
    }
    *next = (struct life){.child = SPAWN_NONE, .follower = SPAWN_NONE};
    for (uint64_t round = 1; good; round++) {
        const bool last = !run_goes_on(run, round + 1);
        const bool check = round % check_every == 0 || last;
        if (!check) {
            good = life_start(lives, next);
        }
        good = good && life_await(lives, now);
        life_kill(now);
        if (!check) {
            life_go(next);
        }
        good = life_end(lives, now, false) && good;
        if (check) {
            good = good && ledger_check(&lives->ledger, lives->log_dir, &report);
            if (good && last) {
                break;
            }
            good = good && life_start(lives, next);
            if (good) {
                life_go(next);
            }
        }
        good = good && ledger_faults(&lives->ledger) == 0;
        struct life *swap = now;
        now = next;
        next = swap;
        run_note(run, &progress, round);
    }
    life_clear(now);
    life_clear(next);
    progress_end(&progress);
    return good;
}

/* Return: exit status. */
static int kill_run(struct lives_options *options,
                    uint64_t check_every,
                    bool ingest,
                    const char *weir,
                    uint64_t every_call)
{
    static struct run run;
    const int status = run_open(&run, "kill", options, NULL, 0);

    if (status != ARGS_RUN) {
        return status;
    }
    run.lives.script.text = ingest;
    const bool good = ingest            ? kill_ingest_rounds(&run, weir, check_every)
                      : every_call != 0 ? kill_calls_rounds(&run, every_call)
                                        : rounds_run(&run, check_every);
    char more[48] = "";
    if (ingest) {
        snprintf(more, sizeof(more), " --ingest");
    } else if (every_call != 0) {
        snprintf(more, sizeof(more), " --every-call --step %" PRIu64, every_call);
    }
    return run_close(&run, good, more);
}

/* --weir, else $WEIR, else the one beside this program. */
static const char *weir_find(const char *given)
{
    static char path[4200];

    if (given != NULL) {
        return given;
    }
    const char *named = getenv("WEIR");
    if (named != NULL && named[0] != '\0') {
        return named;
    }
    const char *self = spawn_self();
    const char *slash = strrchr(self, '/');
    snprintf(path, sizeof(path), "%.*sweir", slash != NULL ? (int)(slash + 1 - self) : 0, self);
    return path;
}

int kill_main(int argc, char **argv)
{
    struct lives_options options = LIVES_OPTIONS(1000, 256 << 10);
    uint64_t check_every = 4;
    bool ingest = false;
    bool every_call = false;
    uint64_t step = 1;
    const char *weir = NULL;
    const struct option_row rows[] = {
        LIVES_ROUNDS_ROW(options, "kills (default 1000)"),
        {.name = "check-every",
         .kind = OPTION_NUMBER,
         .target = &check_every,
         .value = "K",
         .min = 1,
         .help = "rounds between two checks of the whole log (default 4)"},
        {.name = "ingest",
         .kind = OPTION_FLAG,
         .target = &ingest,
         .help = "kill \"weir ingest --acks\""},
        {.name = "every-call",
         .kind = OPTION_FLAG,
         .target = &every_call,
         .help = "a small life, killed at its first call on files and rings, at its second, ..."},
        {.name = "step",
         .kind = OPTION_NUMBER,
         .target = &step,
         .value = "N",
         .min = 1,
         .help = "with --every-call: at every Nth (default 1)"},
        {.name = "weir",
         .kind = OPTION_WORD,
         .target = &weir,
         .value = "PATH",
         .help = "the weir command (default $WEIR, else the one beside this program)"},
        LIVES_OPTION_ROWS(options),
        {.name = NULL},
    };
    const int status = args_only(&text, rows, argc, argv);

    if (status != ARGS_RUN) {
        return status;
    }
    if (ingest && (strcmp(options.lie, "none") != 0 || options.follow)) {
        return args_wrong(&text, "--lie and --follow are for our own child, not for --ingest");
    }
    if (every_call && (ingest || options.follow)) {
        return args_wrong(&text, "--every-call is alone with our own child");
    }
    if (every_call) {
        /* One producer and no small records: the same calls in nearly the same order each time. */
        options.producers = 1;
        options.record_bytes = (struct args_range){20 << 10, 64 << 10};
        options.rounds = options.rounds_given ? options.rounds : SCRIPT_LIVES_MAX / 2;
    }
    return kill_run(&options, check_every, ingest, weir_find(weir), every_call ? step : 0);
}
