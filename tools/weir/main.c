/* SPDX-License-Identifier: Apache-2.0
 * The weir command: finds the verb and runs it. Stands on the public header alone, so it shows what
 * a user of the library can do, and how. */
#include "args.h"
#include "text.h"
#include "verbs.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

struct verb_row {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct verb_row verb_rows[] = {
    {"ingest", ingest_main, "append the lines of a file or of standard input as records"},
    {"cat", cat_main, "print records; --follow stays at the tail"},
    {"dump", dump_main, "print segments, batches and record headers"},
    {"verify", verify_main, "check every byte and say how the log ends"},
    {"explain", explain_main, "say why the log ends where it does, or what stands at an LSN"},
    {"salvage", salvage_main, "copy what verifies of a damaged log into a new one"},
    {"copy", copy_main, "make a consistent backup, also of a log in use"},
    {"trim", trim_main, "give up the records before an LSN"},
    {"doctor", doctor_main, "say what this machine and a directory offer to a log"},
    {"bench", bench_main, "measure appending"},
    {"iobench", iobench_main, "measure reading and writing a file through weir/io.h"},
};

enum { VERB_COUNT = sizeof(verb_rows) / sizeof(verb_rows[0]) };

static void usage_print(FILE *to)
{
    fprintf(to,
            "weir: a write-ahead log for many producers\n\n"
            "usage: weir VERB [OPTION]... OPERAND...\n\nverbs:\n");
    for (size_t i = 0; i < VERB_COUNT; i++) {
        fprintf(to, "  %-9s %s\n", verb_rows[i].name, verb_rows[i].summary);
    }
    fprintf(to,
            "\n  weir VERB --help   options, exit codes, an example\n"
            "  weir --version     version of the command and of the library\n"
            "\nexit codes:\n%s  weir verify has more: see its help\n",
            ARGS_EXITS);
}

int main(int argc, char **argv)
{
    /* A reader that goes away, and a file size limit, are errors of a write and are told as such.
     */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);

    if (argc < 2) {
        usage_print(stderr);
        return STATUS_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage_print(stdout);
        return text_finish("help", STATUS_OK, true);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("weir %s (library %s)\n", WEIR_VERSION_STRING, weir_version());
        return text_finish("version", STATUS_OK, true);
    }
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (strcmp(argv[1], verb_rows[i].name) == 0) {
            return verb_rows[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr,
            "weir: %s: unknown %s (weir --help)\n",
            argv[1],
            argv[1][0] == '-' ? "option" : "verb");
    return STATUS_USAGE;
}
