/* SPDX-License-Identifier: Apache-2.0
 * weir-stress: tries to make a log lose, invent or damage records. One command, a file per verb. */
#include "args.h"
#include "verbs.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

struct verb_row {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; /* NULL: not for people */
};

static const struct verb_row verb_rows[] = {
    {"kill",
     kill_main,
     "kill -9 appending processes at random moments and look for what was acknowledged"},
    {"powercut", powercut_main, "the same with a file system that loses what was not made durable"},
    {"bitrot",
     bitrot_main,
     "every single bit of a small log changed, every file cut at every length"},
    {"sim", sim_main, "crashes of a simulated machine, by the thousand per second"},
    {"seccomp",
     seccomp_main,
     "run a command with io_uring refused, or with unreadable parts of files"},
    {"logwrites", logwrites_main, "crash states from a block device's own record of its writes"},
    {"fullfs",
     fullfs_main,
     "fill the file system up, give space back, look for what was acknowledged"},
    {"rlimits", rlimits_main, "take files, descriptors, memory from a process that appends"},
    {"signals", signals_main, "append under a storm of signals"},
    {"freeze", freeze_main, "stop processes, threads, and producers inside an append"},
    {"soak", soak_main, "append, trim and read for long; memory and descriptors must not grow"},
    {"perf", perf_main, "measure the ratios that weir is held to, pass or fail per line"},
    {"append", append_main, "measure appends that nobody waits for, beside CRC and copy alone"},
    {"append-child", append_child_main, NULL},
    {"follow-child", follow_child_main, NULL},
};

enum { VERB_COUNT = sizeof(verb_rows) / sizeof(verb_rows[0]) };

static void usage_print(FILE *to)
{
    fprintf(to,
            "weir-stress: looks for records that a log loses, invents or damages\n\n"
            "usage: weir-stress VERB [OPTION]...\n\nverbs:\n");
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (verb_rows[i].summary != NULL) {
            fprintf(to, "  %-9s %s\n", verb_rows[i].name, verb_rows[i].summary);
        }
    }
    fprintf(to,
            "\n  weir-stress VERB --help   options, exit codes, an example\n"
            "\nexit codes:\n" ARGS_EXITS);
}

int main(int argc, char **argv)
{
    /* A child that was killed leaves its pipe: an error of a write, not the end of this process. */
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);

    if (argc < 2) {
        usage_print(stderr);
        return STATUS_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage_print(stdout);
        return STATUS_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("weir-stress %s (library %s)\n", WEIR_VERSION_STRING, weir_version());
        return STATUS_OK;
    }
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (strcmp(argv[1], verb_rows[i].name) == 0) {
            return verb_rows[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr,
            "weir-stress: %s: unknown %s (weir-stress --help)\n",
            argv[1],
            argv[1][0] == '-' ? "option" : "verb");
    return STATUS_USAGE;
}
