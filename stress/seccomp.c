/* SPDX-License-Identifier: Apache-2.0
 * weir-stress seccomp: runs a command under a filter that refuses system calls, as containers
 * do.
 *
 * Three filters: io_uring_setup, _enter and _register fail; with --old-kernel, other calls that came
 * after Linux 4.5 fail as they did there; and, with --unreadable-from, preads of a file's part from
 * there on fail with EIO: a device that cannot read a part of a file, without the device. The
 * io_uring numbers are the same on every architecture; the rest come from the
 * headers of the machine that this is built for, and the filter only serves programs of that
 * architecture. */
#include "args.h"
#include "verbs.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    CALL_IO_URING_FIRST = 425, /* setup, enter, register */
    CALL_IO_URING_LAST = 427,
    /* The same everywhere, and younger than the headers of this distribution. */
    CALL_OPENAT2 = 437,
    CALL_CACHESTAT = 451,
    ADVICE_WIPEONFORK = 18,
    FILTER_MAX = 64,
};

static const struct verb_text text = {
    .name = "seccomp",
    .usage = "[OPTION]... -- COMMAND [ARG]...",
    .about = "Runs COMMAND with io_uring refused by a seccomp filter, as in many containers. The "
             "exit code is that of "
             "COMMAND,\n"
             "126 or 127 if it could not be run.\n",
    .exits = "  64  the command line is wrong\n"
             "  77  filters are not possible on this machine\n"
             "  otherwise that of COMMAND\n",
    .example = "  weir-stress seccomp -- weir doctor\n"
               "  weir-stress seccomp --unreadable-from 1048576 -- weir verify DIR\n",
};

static const char *const errno_words[] = {"EPERM", "ENOSYS", "ENOMEM", "EMFILE", NULL};
static const uint32_t errno_values[] = {EPERM, ENOSYS, ENOMEM, EMFILE};

struct program {
    struct sock_filter rows[FILTER_MAX];
    unsigned short count;
};

static void row_add(struct program *program, struct sock_filter row)
{
    program->rows[program->count] = row;
    program->count++;
}

static uint32_t fail_with(uint32_t code)
{
    return SECCOMP_RET_ERRNO | (code & SECCOMP_RET_DATA);
}

/* Low or high half of a 64-bit argument. */
static uint32_t argument_at(unsigned index, bool high)
{
    const uint32_t base =
        (uint32_t)(offsetof(struct seccomp_data, args) + index * sizeof(uint64_t));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return base + (high ? 4 : 0);
#else
    return base + (high ? 0 : 4);
#endif
}

static void uring_refuse(struct program *program, uint32_t code)
{
    row_add(program,
            (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                         (uint32_t)offsetof(struct seccomp_data, nr)));
    row_add(program,
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, CALL_IO_URING_FIRST, 0, 2));
    row_add(program,
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, CALL_IO_URING_LAST, 1, 0));
    row_add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, fail_with(code)));
}

/* Expects the call's number in the accumulator, and leaves it there. */
static void call_refuse(struct program *program, uint32_t call, uint32_t code)
{
    row_add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    row_add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, fail_with(code)));
}

/* The same. Calls that the engine makes and that Linux 4.5 did not have, and madvise for a page that
 * is empty in a child. */
static void late_calls_refuse(struct program *program)
{
    const struct sock_filter wipe[] = {
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument_at(2, false)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ADVICE_WIPEONFORK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, fail_with(EINVAL)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    call_refuse(program, SYS_preadv2, ENOSYS);
    call_refuse(program, SYS_pwritev2, ENOSYS);
    call_refuse(program, SYS_statx, ENOSYS);
    call_refuse(program, CALL_OPENAT2, ENOSYS);
    call_refuse(program, CALL_CACHESTAT, ENOSYS);
    for (size_t i = 0; i < sizeof(wipe) / sizeof(wipe[0]); i++) {
        row_add(program, wipe[i]);
    }
}

/* Expects the call's number in the accumulator. Reads that touch what lies at `from` or behind
 * fail: offset + count is above it. Of preadv and preadv2 only the offset counts, since their
 * lengths are out of a filter's sight. */
static void reads_refuse(struct program *program, uint32_t from)
{
    const struct sock_filter rows[] = {
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_preadv, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_preadv2, 0, 8),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument_at(3, true)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument_at(2, false)), /* count, or how many pieces */
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument_at(3, false)),
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, from, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, fail_with(EIO)),
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        row_add(program, rows[i]);
    }
}

int seccomp_main(int argc, char **argv)
{
    int code = 0;
    uint64_t from = 0;
    bool unreadable = false;
    bool old = false;
    const struct option_row rows[] = {
        {.name = "errno",
         .kind = OPTION_CHOICE,
         .target = &code,
         .value = "EPERM|ENOSYS|...",
         .choices = errno_words,
         .help = "what io_uring calls fail with: EPERM, ENOSYS, ENOMEM, EMFILE (default EPERM)"},
        {.name = "unreadable-from",
         .kind = OPTION_NUMBER,
         .target = &from,
         .given = &unreadable,
         .value = "OFFSET",
         .max = UINT32_MAX,
         .help = "reads of what lies at this file offset or behind fail with EIO"},
        {.name = "old-kernel",
         .kind = OPTION_FLAG,
         .target = &old,
         .help = "calls that came after Linux 4.5 fail as they did there; io_uring with ENOSYS"},
        {.name = NULL},
    };
    int operands = 0;
    const int status = args_parse(&text, rows, argc, argv, &operands);
    struct program program = {.count = 0};

    if (status != ARGS_RUN) {
        return status;
    }
    if (operands >= argc) {
        return args_wrong(&text, "needs a command");
    }
    uring_refuse(&program, old ? ENOSYS : errno_values[code]);
    if (old) {
        late_calls_refuse(&program);
    }
    if (unreadable) {
        reads_refuse(&program, (uint32_t)from);
    }
    row_add(&program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const struct sock_fprog filter = {.len = program.count, .filter = program.rows};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        printf("skipped: no seccomp filters here: %s\n", strerror(errno));
        return STATUS_SKIPPED;
    }
    execvp(argv[operands], argv + operands);
    const int failure = errno;
    fprintf(stderr, "weir-stress seccomp: %s: %s\n", argv[operands], strerror(failure));
    return failure == ENOENT ? 127 : 126;
}
