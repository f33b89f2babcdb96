/* SPDX-License-Identifier: Apache-2.0
 * What every model has: the names of base/atomic.h and plain fields on Relacy's atomics and race-checked variables.
 *
 * A model includes this, then the text that it checks, then model_ports.hpp, its scenarios and its struct test, and last model_run.hpp. */
#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <relacy/relacy.hpp>
#undef new
#undef delete
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef errno
#undef assert

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sstream>
#include <string>

#include "search.hpp"

/* ---- access sites: every atomic access of the text, with an order that a mutant may override ---------------------- */

struct alignas(64) site {
    const char *file;
    int line;
    const char *func;
    const char *expr;
    const char *op;
    const char *name;
    int order;
    int now;
    int fresh; /* an index came through a ring: the newest value is read, though nothing but this access acquires it */
};
extern site __start_model_sites[], __stop_model_sites[];
#define SITE(p, op, order)                                                                                                 \
    static site site_ __attribute__((section("model_sites"), used)) = {                                                    \
        __FILE__, __LINE__, __func__, #p, op, #order, rl::mo_##order, rl::mo_##order}

/* ---- faults of the stand-ins: MODEL_FAULT in the environment, by which the checks are checked --------------------------------------------- */

enum fault { NO_FAULT, RING_STALE, RING_EARLY, RING_LOSES, RING_TWICE, FUTEX_BLIND, FUTEX_ONE, FUTEX_DEAF, NO_LOOK_AT_HIDDEN };
static enum fault the_fault()
{
    static const char *const names[] = {"ring-stale", "ring-early", "ring-loses", "ring-twice", "futex-blind", "futex-one", "futex-deaf", "no-look-at-hidden"};
    const char *name = getenv("MODEL_FAULT");
    if (!name || !*name) return NO_FAULT;
    for (int i = 0; i < 8; i++) {
        if (!strcmp(names[i], name)) return (enum fault)(i + 1);
    }
    fprintf(stderr, "no fault %s\n", name);
    exit(2);
}
static bool planted(enum fault fault)
{
    static const enum fault one = the_fault();
    return one == fault;
}

/* ---- memory of one execution --------------------------------------------------------------------------------------- */

static const int POOL = 400;
template <typename T> struct pool {
    alignas(16) char room[POOL][sizeof(T)];
    int used;
    T *take() { if (used == POOL) abort(); return (T *)room[used++]; }
    void drop() { for (int i = 0; i < used; i++) ((T *)room[i])->~T(); used = 0; }
};
static pool<rl::atomic<uint32_t>> pool32;
static pool<rl::atomic<uint64_t>> pool64;
static pool<rl::var<uint64_t>> vars;
template <typename T> struct pool_of;
template <> struct pool_of<uint32_t> { static rl::atomic<uint32_t> *take() { return pool32.take(); } };
template <> struct pool_of<int32_t> { static rl::atomic<uint32_t> *take() { return pool32.take(); } };
template <> struct pool_of<uint64_t> { static rl::atomic<uint64_t> *take() { return pool64.take(); } };
template <typename T> struct wide { typedef T type; };
template <> struct wide<int32_t> { typedef uint32_t type; };

static void failed(const char *what) { rl::ctx().fail_test(what, rl::test_result_user_assert_failed, RL_INFO); }
#define ENSURE(x) do { if (!(x)) failed(#x); } while (0)

/* All-zero bytes are a valid, not yet touched one: production memsets its structs. */
template <typename T> struct matom {
    typedef rl::atomic<typename wide<T>::type> cell;
    cell *a;
    uint32_t sleepers;
    uint32_t cheap;         /* a counter or a hint, or nobody else looks at it in this scenario: no step of its own */
    rl::var<uint64_t> *one; /* the same, and race-checked: whoever looks at it comes before or after */
    T plain;
    void touch() { if (!a) { a = new (pool_of<T>::take()) cell; a->store(0, rl::mo_relaxed, RL_INFO); } }
    /* Before the threads begin. */
    void make_cheap() { touch(); plain = (T)a->debug_value(); cheap = 1; }
    void make_one() { touch(); one = new (vars.take()) rl::var<uint64_t>; (*one)(RL_INFO) = (uint64_t)a->debug_value(); }
};
template <typename T> struct same { typedef T type; };
static unsigned looks[8]; /* of a thread inside a wait, since it slept last; 0: in none */
static void *the_word;
static uint64_t word_limit;

template <typename T> T do_load(matom<T> *p, const site &s)
{
    unsigned *mine = &looks[rl::thread_index()];
    if (*mine && ++*mine > 200) failed("a wait that spins");
    if (p->cheap) return p->plain;
    if (p->one) return (T)(*p->one)(RL_INFO).load();
    p->touch();
    step(p, false);
    if (s.fresh) {
        /* A CAS that fails is a load of the newest value. */
        typename wide<T>::type e = p->a->debug_value() + 1;
        for (;;) {
            typename wide<T>::type not_it = e;
            if (!p->a->compare_exchange(rl::bool_t<false>(), e, not_it, rl::mo_acq_rel, (rl::memory_order)s.now, rl::debug_info(s.func, s.file, s.line))) return (T)e;
        }
    }
    return (T)p->a->load((rl::memory_order)s.now, rl::debug_info(s.func, s.file, s.line));
}
template <typename T> void do_store(matom<T> *p, typename same<T>::type v, const site &s)
{
    if (p->cheap) { p->plain = v; return; }
    if (p->one) { (*p->one)(RL_INFO) = (uint64_t)v; return; }
    p->touch();
    step(p, true);
    p->a->store(v, (rl::memory_order)s.now, rl::debug_info(s.func, s.file, s.line));
}
template <rl::rmw_type_e type, typename T> T do_rmw(matom<T> *p, typename same<T>::type v, const site &s)
{
    if (p->cheap) { T old = p->plain; p->plain = rl::perform_rmw(rl::rmw_type_t<type>(), old, v); return old; }
    p->touch();
    step(p, true);
    T old = (T)p->a->rmw(rl::rmw_type_t<type>(), (typename wide<T>::type)v, (rl::memory_order)s.now, rl::debug_info(s.func, s.file, s.line));
    if ((void *)p == the_word) ENSURE(((uint64_t)old & ((UINT64_C(1) << 36) - 1)) <= word_limit);
    return old;
}
template <typename T> bool do_cas(matom<T> *p, T *expected, typename same<T>::type v, const site &s)
{
    if (p->cheap) {
        if (p->plain != *expected) { *expected = p->plain; return false; }
        p->plain = v;
        return true;
    }
    p->touch();
    step(p, true);
    typename wide<T>::type e = *expected;
    bool ok = p->a->compare_exchange(rl::bool_t<false>(), e, (typename wide<T>::type)v, (rl::memory_order)s.now, rl::mo_relaxed,
                                     rl::debug_info(s.func, s.file, s.line));
    *expected = (T)e;
    return ok;
}

#define WEIR__ATOMIC_MODEL
#define WEIR__ATOMIC(type) matom<type>
#define weir__load(p, order) ({ SITE(p, "load", order); do_load((p), site_); })
#define weir__store(p, v, order) ({ SITE(p, "store", order); do_store((p), (v), site_); })
#define weir__exchange(p, v, order) ({ SITE(p, "rmw exchange", order); do_rmw<rl::rmw_type_swap>((p), (v), site_); })
#define weir__fetch_add(p, v, order) ({ SITE(p, "rmw fetch_add", order); do_rmw<rl::rmw_type_add>((p), (v), site_); })
#define weir__fetch_sub(p, v, order) ({ SITE(p, "rmw fetch_sub", order); do_rmw<rl::rmw_type_sub>((p), (v), site_); })
#define weir__fetch_or(p, v, order) ({ SITE(p, "rmw fetch_or", order); do_rmw<rl::rmw_type_or>((p), (v), site_); })
#define weir__cas(p, e, v, order) ({ SITE(p, "rmw cas", order); do_cas((p), (e), (v), site_); })

/* A plain field: build.sh puts this type into its copy of the text. */
template <typename T> struct model_plain {
    rl::var<uint64_t> *v;
    T init;
    model_plain() : v(0), init(0) {}
    model_plain(T value) : v(0), init(value) {}
    model_plain(const model_plain &o) : v(0), init(o) {}
    void touch() { if (!v) { v = new (vars.take()) rl::var<uint64_t>; (*v)(RL_INFO) = (uint64_t)init; } }
    operator T() const { return v ? (T)(*v)(RL_INFO).load() : init; }
    model_plain &operator=(T value) { touch(); (*v)(RL_INFO) = (uint64_t)value; return *this; }
    model_plain &operator=(const model_plain &o) { T value = o; return *this = value; }
    T operator++() { T value = (T)(*this + 1); *this = value; return value; }
    T operator++(int) { T value = *this; *this = (T)(value + 1); return value; }
};

#define _Static_assert(condition, text) static_assert(true, text) /* sizes are the model's here */
#define _Noreturn __attribute__((noreturn))
