/* SPDX-License-Identifier: Apache-2.0
 * A filter that shows the calls of the I/O layer to a tracer.
 *
 * Without a tracer such calls fail with ENOSYS, so it is asked for only where there is one. What is
 * left out is what changes nothing that outlives the process: memory, time, futexes, the pipe of
 * acknowledgements. */
#include "child.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const uint32_t traced_calls[] = {
    SYS_openat,     SYS_mkdirat,   SYS_unlinkat,        SYS_renameat2,
    SYS_ftruncate,  SYS_fallocate, SYS_pwrite64,        SYS_pwritev,
    SYS_pwritev2,   SYS_fsync,     SYS_fdatasync,       SYS_fcntl,
    SYS_close,      SYS_pread64,   SYS_preadv,          SYS_preadv2,
    SYS_statx,      SYS_flock,     SYS_io_uring_setup,  SYS_io_uring_enter,
    SYS_getdents64, SYS_lseek,     SYS_sync_file_range, SYS_io_uring_register,
#ifdef SYS_open
    SYS_open,       SYS_mkdir,     SYS_unlink,          SYS_rename,
#endif
#ifdef SYS_renameat
    SYS_renameat,
#endif
};

#ifdef __SANITIZE_ADDRESS__
/* The search for leaks traces the process itself, and cannot where somebody does already. */
static int traced;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return traced;
}
#endif

enum { TRACED_COUNT = sizeof(traced_calls) / sizeof(traced_calls[0]) };

bool trace_ask(void)
{
    struct sock_filter rows[2 * TRACED_COUNT + 2];
    unsigned short count = 0;

#ifdef __SANITIZE_ADDRESS__
    traced = 1;
#endif
    rows[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                 (uint32_t)offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < TRACED_COUNT; i++) {
        rows[count++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, traced_calls[i], 0, 1);
        rows[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    rows[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog filter = {.len = count, .filter = rows};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}
