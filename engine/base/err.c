/* SPDX-License-Identifier: Apache-2.0
 * Names and texts of codes, and the detail that travels beside one. Texts are static; any thread.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* libc's own strings where it has static ones for all codes (glibc 2.32); elsewhere those that the
 * engine meets. */
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 32)
#define ERR_LIBC_HAS_STRINGS 1
#endif
#endif

#ifndef ERR_LIBC_HAS_STRINGS
#define ERR_ERRNO_TABLE(X)                                                                         \
    X(EPERM, "Operation not permitted")                                                            \
    X(ENOENT, "No such file or directory")                                                         \
    X(EINTR, "Interrupted system call")                                                            \
    X(EIO, "Input/output error")                                                                   \
    X(EBADF, "Bad file descriptor")                                                                \
    X(EAGAIN, "Resource temporarily unavailable")                                                  \
    X(ENOMEM, "Cannot allocate memory")                                                            \
    X(EACCES, "Permission denied")                                                                 \
    X(EBUSY, "Device or resource busy")                                                            \
    X(EEXIST, "File exists")                                                                       \
    X(ENOTDIR, "Not a directory")                                                                  \
    X(EISDIR, "Is a directory")                                                                    \
    X(EINVAL, "Invalid argument")                                                                  \
    X(ENFILE, "Too many open files in system")                                                     \
    X(EMFILE, "Too many open files")                                                               \
    X(EFBIG, "File too large")                                                                     \
    X(ENOSPC, "No space left on device")                                                           \
    X(EROFS, "Read-only file system")                                                              \
    X(ENAMETOOLONG, "File name too long")                                                          \
    X(ENOSYS, "Function not implemented")                                                          \
    X(ELOOP, "Too many levels of symbolic links")                                                  \
    X(ENODATA, "No data available")                                                                \
    X(EOPNOTSUPP, "Operation not supported")                                                       \
    X(ETIMEDOUT, "Connection timed out")                                                           \
    X(ESTALE, "Stale file handle")                                                                 \
    X(EDQUOT, "Disk quota exceeded")                                                               \
    X(ECANCELED, "Operation canceled")
#endif

static const char *err_errno_text(int number)
{
#ifdef ERR_LIBC_HAS_STRINGS
    return strerrordesc_np(number);
#else
    switch (number) {
#define ERR_CASE(name, text)                                                                       \
    case name:                                                                                     \
        return text;
        ERR_ERRNO_TABLE(ERR_CASE)
#undef ERR_CASE
    default:
        return NULL;
    }
#endif
}

static const char *err_errno_name(int number)
{
#ifdef ERR_LIBC_HAS_STRINGS
    return strerrorname_np(number);
#else
    switch (number) {
#define ERR_CASE(name, text)                                                                       \
    case name:                                                                                     \
        return #name;
        ERR_ERRNO_TABLE(ERR_CASE)
#undef ERR_CASE
    default:
        return NULL;
    }
#endif
}

/* -errno lies in -4095..-1 on Linux; everything else is ours or nobody's. */
static int err_number(int code)
{
    return code < 0 && code >= -4095 ? -code : 0;
}

const char *weir__code_text(int code)
{
    switch (code) {
    case 0:
        return "success";
#define ERR_CASE(name, value, text)                                                                \
    case value:                                                                                    \
        return text;
        WEIR_ERROR_TABLE(ERR_CASE)
#undef ERR_CASE
    default:
        break;
    }
    const int number = err_number(code);
    const char *const text = number != 0 ? err_errno_text(number) : NULL;
    return text != NULL ? text : "unknown code";
}

const char *weir__code_name(int code)
{
    switch (code) {
    case 0:
        return "OK";
#define ERR_CASE(name, value, text)                                                                \
    case value:                                                                                    \
        return #name;
        WEIR_ERROR_TABLE(ERR_CASE)
#undef ERR_CASE
    default:
        break;
    }
    const int number = err_number(code);
    const char *const name = number != 0 ? err_errno_name(number) : NULL;
    return name != NULL ? name : "UNKNOWN";
}

int weir__fault_set(struct weir__fault *fault,
                    int code,
                    const char *file,
                    uint64_t offset,
                    weir_lsn lsn,
                    const char *format,
                    ...)
{
    if (fault == NULL || fault->code != 0) {
        return code;
    }
    fault->code = code;
    fault->offset = offset;
    fault->lsn = lsn;
    (void)snprintf(fault->file, sizeof fault->file, "%s", file == NULL ? "" : file);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(fault->text, sizeof fault->text, format, args);
    va_end(args);
    return code;
}
