/* SPDX-License-Identifier: Apache-2.0
 * Assertions on our own mistakes. Never on input, on bytes read back, or on what the system
 * returns.
 *
 * weir__check: always compiled in, cheap. weir__debug: only with WEIR_DEBUG. A failed one writes
 * its condition and place to descriptor 2 with write(2) and aborts: going on would risk
 * acknowledged data. */
#ifndef WEIR_BASE_CHECK_H
#define WEIR_BASE_CHECK_H

_Noreturn void weir__check_failed(const char *condition, const char *file, int line);

#define weir__check(condition)                                                                     \
    (__builtin_expect(!!(condition), 1) ? (void)0                                                  \
                                        : weir__check_failed(#condition, __FILE__, __LINE__))

#ifdef WEIR_DEBUG
#define weir__debug(condition) weir__check(condition)
#else
#define weir__debug(condition) ((void)0)
#endif

#endif
