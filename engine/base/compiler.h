/* SPDX-License-Identifier: Apache-2.0
 * Compiler attributes and the few constants that layout depends on. */
#ifndef WEIR_BASE_COMPILER_H
#define WEIR_BASE_COMPILER_H

/* x86-64 and most AArch64 cores share lines of 64 bytes; adjacent-line prefetch makes 128 the
 * distance at which two writers stop disturbing each other. */
#define WEIR__LINE 128

/* Files are read and filled in chunks whose sizes are divided by this. 1, but where the simulation
 * wants small segments to have many chunks. */
#ifndef WEIR__CHUNKS_SMALLER
#define WEIR__CHUNKS_SMALLER 1u
#endif

#define WEIR__LIKELY(x) __builtin_expect(!!(x), 1)
#define WEIR__UNLIKELY(x) __builtin_expect(!!(x), 0)
#define WEIR__COLD __attribute__((noinline, cold))
/* The line will be written soon. A hint, for any address. */
#define WEIR__PREFETCH_WRITE(address) __builtin_prefetch((address), 1, 3)
#define WEIR__PRINTF(format_index, first_arg)                                                      \
    __attribute__((format(printf, format_index, first_arg)))
/* A local array that is written before it is read: not worth filling with zeros on each call. */
#if defined(__has_attribute)
#if __has_attribute(uninitialized)
#define WEIR__UNFILLED __attribute__((uninitialized))
#endif
#endif
#ifndef WEIR__UNFILLED
#define WEIR__UNFILLED
#endif
#define WEIR__MUST_CHECK __attribute__((warn_unused_result))
#define WEIR__ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#endif
