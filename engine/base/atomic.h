/* SPDX-License-Identifier: Apache-2.0
 * The atomic accesses of the engine, each with its order spelled out.
 *
 * The protocol code uses these names and nothing else, so that the same text can be compiled under
 * a model checker that brings its own atomics. Orders: relaxed, acquire, release, acq_rel, seq_cst.
 * No fences: where a store must be ordered before a later load of another variable, both sides use
 * seq_cst operations or meet in RMWs of one word. */
#ifndef WEIR_BASE_ATOMIC_H
#define WEIR_BASE_ATOMIC_H

#ifndef WEIR__ATOMIC_MODEL
#include <stdatomic.h>
#define WEIR__ATOMIC(type) _Atomic(type)
#define weir__load(p, order) atomic_load_explicit((p), memory_order_##order)
#define weir__store(p, v, order) atomic_store_explicit((p), (v), memory_order_##order)
#define weir__exchange(p, v, order) atomic_exchange_explicit((p), (v), memory_order_##order)
#define weir__fetch_add(p, v, order) atomic_fetch_add_explicit((p), (v), memory_order_##order)
#define weir__fetch_sub(p, v, order) atomic_fetch_sub_explicit((p), (v), memory_order_##order)
#define weir__fetch_or(p, v, order) atomic_fetch_or_explicit((p), (v), memory_order_##order)
/* On failure *expected holds the value found, loaded relaxed: every user retries from it or gives
 * up. */
#define weir__cas(p, expected, v, order)                                                           \
    atomic_compare_exchange_strong_explicit((p),                                                   \
                                            (expected),                                            \
                                            (v),                                                   \
                                            memory_order_##order,                                  \
                                            memory_order_relaxed)
#endif

#endif
