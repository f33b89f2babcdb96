/* SPDX-License-Identifier: Apache-2.0
 * weir-stress kill --every-call: the same small life, killed at its first call of the I/O layer, at
 * its second, ... until it gets to its end.
 *
 * A filter in the child shows its calls on files and rings to this process, which traces it
 * (child_trace.c): it is stopped before each, counted, and killed where the number has come. Every
 * number begins with an empty directory; each kill is followed at once by a second life, which
 * recovers, appends and closes, and by a check. */
#include "kill.h"

#include "clock.h"
#include "progress.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    GROUPS_FIRST = 130, /* of the life that is killed: some segments, some trims */
    GROUPS_SECOND = 4,
};

struct traced {
    uint64_t calls;
    bool killed;
    int status;      /* of the process */
    int next_status; /* of the one behind it, if that ended meanwhile; else 0 */
};

/* Return: false after a message. */
static bool trace_begin(struct lives *lives, pid_t pid)
{
    const unsigned long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;

    if (ptrace(PTRACE_SEIZE, pid, NULL, options) == 0) {
        return true;
    }
    lives_fault(lives, "ptrace: %s", strerror(errno));
    return false;
}

/* Lets it run up to its call number `limit`, kills it there, and waits for its end. at_kill is
 * started in the same breath. Return: false after a message. */
static bool trace_run(struct lives *lives,
                      struct life *life,
                      uint64_t limit,
                      struct life *at_kill,
                      struct traced *out)
{
    const pid_t process = life->child.pid;

    *out = (struct traced){.calls = 0};
    for (;;) {
        int status = 0;
        const pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0 && errno == EINTR) {
            if (stop_asked()) {
                life_kill(life);
            }
            continue;
        }
        if (thread < 0) {
            lives_fault(lives, "waitpid: %s", strerror(errno));
            return false;
        }
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (thread == process) {
                out->status = status;
                life->child.pid = 0;
                return true;
            }
            if (thread == at_kill->child.pid) {
                out->next_status = status;
                at_kill->child.pid = 0;
            }
            continue;
        }
        const int event = status >> 16;
        const int signal_number = WSTOPSIG(status);
        if (event == PTRACE_EVENT_SECCOMP && !out->killed) {
            out->calls++;
            if (out->calls == limit) {
                life->phase = wire_phase(life->child.page);
                life_kill(life);
                out->killed = true;
                life_go(at_kill);
                continue;
            }
        }
        const bool deliver = event == 0 && signal_number != SIGTRAP;
        ptrace(PTRACE_CONT, thread, NULL, deliver ? signal_number : 0);
    }
}

/* One number, on an empty directory. over_out: the life came to its end before it. */
static bool number_run(struct lives *lives, uint64_t limit, bool *over_out)
{
    static struct life first;
    static struct life second;
    struct weir_report report;
    struct traced traced;

    *over_out = false;
    lives->budget = GROUPS_FIRST;
    lives->words[1] = "--traced";
    bool good = life_start(lives, &first);
    lives->budget = GROUPS_SECOND;
    lives->words[1] = NULL;
    good = good && life_start(lives, &second);
    good = good && trace_begin(lives, first.child.pid);
    if (good) {
        life_go(&first);
        good = trace_run(lives, &first, limit, &second, &traced);
    }
    if (!good) {
        life_clear(&first);
        life_clear(&second);
        return false;
    }
    if (!traced.killed) {
        first.phase = wire_phase(first.child.page);
        life_go(&second);
    }
    const bool sound = traced.killed || stop_asked() ||
                       (WIFEXITED(traced.status) && WEXITSTATUS(traced.status) == WIRE_EXIT_DONE);
    if (!sound) {
        lives_fault(lives,
                    "life %" PRIu32 " ended with status %x: %s",
                    first.number,
                    (unsigned)traced.status,
                    first.child.page->message);
    }
    good = life_end(lives, &first, false) && sound;
    good = good && life_await_end(lives, &second);
    if (!good) {
        life_kill(&second);
    }
    const bool ended_well = life_end(lives, &second, false);
    if (traced.next_status != 0 && !stop_asked()) {
        lives_fault(lives,
                    "life %" PRIu32 ", behind a kill at call %" PRIu64 ", ended with status %x",
                    second.number,
                    limit,
                    (unsigned)traced.next_status);
    }
    good = ended_well && traced.next_status == 0 && good;
    *over_out = !traced.killed;
    return good && ledger_check(&lives->ledger, lives->log_dir, &report);
}

/* Empty again: the next number begins anew. */
static bool log_remove(struct lives *lives)
{
    struct scratch whole = {.made = true};

    snprintf(whole.path, sizeof(whole.path), "%s", lives->log_dir);
    scratch_remove(&whole);
    return ledger_restart(&lives->ledger);
}

bool kill_calls_rounds(struct run *run, uint64_t step)
{
    struct lives *lives = &run->lives;
    struct progress progress;
    const size_t io_count = lives->io_count;
    int io_words[ARGS_IO_ALL];
    uint64_t round = 1;
    bool good = true;

    memcpy(io_words, lives->io_words, sizeof(io_words));
    lives->own_moments = true;
    lives->words[0] = "--fixed";
    lives->io_count = 1;
    progress_begin(&progress, "kill");
    for (size_t io = 0; good && io < io_count; io++) {
        uint64_t calls = 0;
        bool over = false;
        lives->io_words[0] = io_words[io];
        /* With a step, a different remainder for each way: every call is met by one of them. */
        for (uint64_t limit = 1 + (step * io) / io_count; good && !over && run_goes_on(run, round);
             limit += step, round++) {
            good = number_run(lives, limit, &over);
            calls = over ? calls : limit;
            good = good && log_remove(lives);
            progress_show(&progress, round, run->options->rounds);
        }
        progress_end(&progress);
        printf("%-6s killed at call 1 to %" PRIu64 "%s%s\n",
               args_io_words[io_words[io]],
               calls,
               step > 1 ? ", not at each" : ", at each",
               over ? ", then it got to its end" : "");
    }
    progress_end(&progress);
    return good;
}
