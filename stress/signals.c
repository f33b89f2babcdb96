/* SPDX-License-Identifier: Apache-2.0
 * weir-stress signals: a process appends while it is showered with signals.
 *
 * Judged: no call of the interface fails or ends early by it (the child takes any failure for a
 * fault), no signal is handled on a thread of the log, the log closes cleanly or survives a kill,
 * and all that was acknowledged is there. */
#include "clock.h"
#include "run.h"
#include "verbs.h"

#include <inttypes.h>

static const struct verb_text text = {
    .name = "signals",
    .usage = "[OPTION]...",
    .about =
        "Each round a process opens a log, appends and closes it while SIGALRM comes a thousand "
        "times a second: to\n"
        "the process, to each producer, and to every other thread, without SA_RESTART. No call may "
        "fail by it, no\n"
        "handler may run on a thread of the log, and every acknowledged record must be there "
        "afterwards. Every fourth\n"
        "round ends with a kill.\n",
    .exits = ARGS_EXITS,
    .example = "  weir-stress signals --rounds 20\n"
               "  weir-stress signals --for 10m --io chain\n",
};

static bool rounds_run(struct run *run, uint64_t *signals)
{
    static struct life life;
    struct lives *lives = &run->lives;
    struct weir_report report;
    struct progress progress;
    bool good = true;

    progress_begin(&progress, "signals");
    for (uint64_t round = 1; good && run_goes_on(run, round); round++) {
        const bool killed = round % 4 == 0;
        const uint64_t span_ns =
            100 * CLOCK_NS_PER_MS + dice_below(&lives->dice, 200 * CLOCK_NS_PER_MS);
        good = life_start(lives, &life);
        if (!good) {
            break;
        }
        struct wire_page *page = life.child.page;
        life_go(&life);
        good = life_await_open(lives, &life);
        const uint64_t begin_ns = clock_now_ns();
        while (good && life.child.acks_fd >= 0 && clock_now_ns() - begin_ns < span_ns) {
            life_hear(lives, &life, CLOCK_NS_PER_MS);
        }
        wire_set(&page->stop, 1);
        life.phase = wire_phase(page);
        if (killed || !good) {
            life_kill(&life);
        } else {
            good = life_await_end(lives, &life);
        }
        *signals += wire_get(&page->signals);
        const uint64_t astray = wire_get(&page->signals_astray);
        if (astray > 0) {
            lives_fault(lives,
                        "life %" PRIu32 ": %" PRIu64 " signals were handled by threads of the log",
                        life.number,
                        astray);
        }
        good = life_end(lives, &life, false) && good && astray == 0;
        good = good && ledger_check(&lives->ledger, lives->log_dir, &report);
        run_note(run, &progress, round);
    }
    life_clear(&life);
    progress_end(&progress);
    return good;
}

int signals_main(int argc, char **argv)
{
    static struct run run;
    struct lives_options options = LIVES_OPTIONS(20, 256 << 10);
    const struct option_row rows[] = {
        LIVES_ROUNDS_ROW(options, "processes (default 20)"),
        LIVES_OPTION_ROWS(options),
        {.name = NULL},
    };
    uint64_t signals = 0;
    const int status = run_begin(&run, &text, rows, argc, argv, &options, NULL);

    if (status != ARGS_RUN) {
        return status;
    }
    run.lives.own_moments = true;
    run.lives.words[0] = "--storm";
    bool good = rounds_run(&run, &signals);
    printf("signals handled       %" PRIu64 "\n", signals);
    if (good && signals == 0 && !stop_asked()) {
        lives_fault(&run.lives, "no signal ever came: the run proves nothing");
        good = false;
    }
    return run_close(&run, good, "");
}
