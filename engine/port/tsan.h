/* SPDX-License-Identifier: Apache-2.0
 * Hand-offs that ThreadSanitizer cannot see (through the kernel's rings), told to it in one place.
 * Empty otherwise. */
#ifndef WEIR_PORT_TSAN_H
#define WEIR_PORT_TSAN_H

#if defined(__SANITIZE_THREAD__)
#define WEIR__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEIR__TSAN 1
#endif
#endif

#ifdef WEIR__TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define weir__tsan_acquire(address) __tsan_acquire((void *)(address))
#define weir__tsan_release(address) __tsan_release((void *)(address))
#else
#define weir__tsan_acquire(address) ((void)(address))
#define weir__tsan_release(address) ((void)(address))
#endif

#endif
