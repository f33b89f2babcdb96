/* SPDX-License-Identifier: Apache-2.0
 * Liveness of the slot protocol (engine/stage) and of the flusher's loop (engine/drain/flusher.c), for Spin: sequentially consistent, weakly fair.
 * stage_model.cpp has the memory orders and the text itself; this has what a bounded execution cannot show: that nobody waits for ever.
 *
 * Every access of a shared word is a step. A generation is its waiter bit and, per thread, whether it was bumped since that thread looked: what its value tells, without
 * the number. Sequences do not wrap. A segment's end, oversize records and levels other than durable are left out; readers hold slots.
 *
 * -D: PRODUCERS RECORDS (of each) SLOTS CAP (units of a slot; a record is one) IO (slots in flight at most; 0: writing takes no time)
 *     TRY (producer 0 tries, and gives up)  EARLY (producer 0 shuts after its last record, whatever the others do)  FAIL (somebody fails the log)
 *     READER (somebody reads slots)  WAIT (producers wait for their records)
 *     LEND (the flusher lends its part, and a producer that finds nobody else takes it; with IO 0 and WAIT)
 * Faults, each of which must be found: see run.sh. */
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef RECORDS
#define RECORDS 1
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef CAP
#define CAP 1
#endif
#ifndef IO
#define IO 0
#endif

#define FLUSHER PRODUCERS
#define OTHER (PRODUCERS + 1)
#define THREADS (PRODUCERS + 2)
#define LIVES (PRODUCERS * RECORDS + 2)
#define SEAL (CAP + 1)
#define BIAS 64
#define NONE 255
#define ENOUGH (SLOTS > 1 -> SLOTS / 2 : 1)

/* What a thread sleeps on. */
#define ON_OPEN 1
#define ON_FREE 2
#define ON_FLUSHER 3
#define ON_EXIT 4
#define ON_RING 5
#define ON_ACK 6 /* and the slot */
byte asleep[THREADS];

typedef gen { bit waiters; bit changed[THREADS] };
gen open_gen, free_gen, exit_gen;

short w_units;                 /* W */
byte w_slot;
short pend[SLOTS];
byte seq[SLOTS];
byte ack[SLOTS];               /* sequence + 1 of the last life acknowledged */
bit ack_waiters[SLOTS], ack_failed[SLOTS];
bit closed[SLOTS];             /* to readers */
byte pins[SLOTS];
byte fl_sleep;                 /* 0 awake, 1 on the word, 2 on the ring; 3 lends, 4 lent, 5 called */
/* The flusher's part: what only one thread may touch. */
byte next_ack, held;
bit shut_seen, final, must_open;
chan retained = [SLOTS] of { byte };
#ifdef LEND
byte holders, taken_count;      /* threads that have the part; lives taken and not acknowledged */
#define HOLD atomic { holders++; assert(holders == 1) }
#define RELEASE holders--
#define TOOK taken_count++
#define ACKED taken_count--
#else
#define HOLD skip
#define RELEASE skip
#define TOOK skip
#define ACKED skip
#endif
bit owed, shut, failed, drained, ring_event;
chan free = [SLOTS] of { byte };
chan sealed = [SLOTS] of { byte };
byte role_seq;
byte level;                    /* lives that are durable, and told */
byte to_come;                   /* producers with records to come */
byte finished;                 /* producers that have returned from everything */

/* The disk: one life per sequence. */
mtype = { none, taken, flying, ended, durable };
mtype state[LIVES];
byte slot_of[LIVES];
byte flying_count, ended_count; /* under way; to be reaped */

#define OPEN (w_units <= CAP)

/* It stands at 1 for all that do not look. */
inline look(g) { d_step { g.changed[me] = 0; seen = g.waiters } }

inline wake(word)
{
    d_step {
        k = 0;
        do
        :: k < THREADS ->
            if
            :: asleep[k] == word -> asleep[k] = 0
            :: else -> skip
            fi;
            k++
        :: else -> break
        od;
        k = 0
    }
}

/* The CAS and the wake are one step: who falls asleep between the two has the new value, and is woken for nothing. */
inline looked(g) { d_step { g.changed[me] = 1; seen = 0 } }

inline bump(g, word)
{
    d_step {
        had = g.waiters;
        g.waiters = 0;
        k = 0;
        do
        :: k < THREADS ->
            g.changed[k] = 1;
#ifndef FAULT_BUMP_WAKES_NOBODY
            if
            :: had && asleep[k] == word -> asleep[k] = 0
            :: else -> skip
            fi;
#endif
            k++
        :: else -> break
        od;
        k = 0;
        had = 0
    }
}

/* weir__gen_wait: the CAS that sets the bit and the futex's look are one step, for both fail by the same change. */
inline doze(g, word)
{
    d_step {
        if
        :: g.changed[me] || (g.waiters && !seen) -> skip
        :: else -> g.waiters = 1; asleep[me] = word
        fi;
        seen = 0
    }
    (asleep[me] == 0)
}

inline kick()
{
    d_step {
        if
        :: (fl_sleep == 1 || fl_sleep == 3) && asleep[FLUSHER] == ON_FLUSHER -> asleep[FLUSHER] = 0
#ifdef FAULT_KICK_TAKES_LENT
        :: fl_sleep == 4 && asleep[FLUSHER] == ON_FLUSHER -> asleep[FLUSHER] = 0
#endif
        :: fl_sleep == 2 ->
            ring_event = 1;
            if
            :: asleep[FLUSHER] == ON_RING -> asleep[FLUSHER] = 0
            :: else -> skip
            fi
        :: else -> skip
        fi;
#if defined(LEND) && !defined(FAULT_KICK_TAKES_LENT)
        fl_sleep = (fl_sleep >= 4 -> 5 : 0)
#else
        fl_sleep = 0
#endif
    }
}

inline nudge()
{
    if
    :: fl_sleep != 0 -> kick()
    :: else -> skip
    fi
}

inline push(i)
{
    sealed ! i;
#ifndef FAULT_NO_KICK_AT_PUSH
    nudge()
#endif
}

inline seal(i, end)
{
    atomic { pend[i] = pend[i] - (BIAS - end); zero = (pend[i] == 0) }
    if
    :: zero -> push(i)
    :: else -> skip
    fi
}

/* The role: its sequence stands in role_seq. */
inline role_open(i, n)
{
#ifdef FAULT_BUMP_BEFORE_OPEN
    bump(open_gen, ON_OPEN);
#endif
    atomic { seq[i] = role_seq; pend[i] = BIAS; w_units = n; w_slot = i } /* the facts are nobody's before W */
#if !defined(FAULT_NO_BUMP_AT_OPEN) && !defined(FAULT_BUMP_BEFORE_OPEN)
    bump(open_gen, ON_OPEN)
#endif
}

inline role_leave()
{
    owed = 1;
#ifndef FAULT_NO_KICK_AT_OWED
    nudge()
#endif
}

inline shut_down()
{
    shut = 1;
#ifndef FAULT_NO_KICK_AT_SHUT
    nudge()
#endif
}

#define CAN_SEAL(u, i) (u > 0 && (nempty(free) || next_ack == seq[i]))

/* weir__stage_serve, by whoever has the part. */
inline serve(i, at, end, how)
{
    if
    :: atomic { !shut_seen && shut -> shut_seen = 1 }
#ifndef FAULT_NO_BUMP_AT_SHUT
        bump(open_gen, ON_OPEN);
        bump(free_gen, ON_FREE);
#endif
        did = 1
    :: else -> skip
    fi;
    if
    :: atomic { !must_open && !final && owed -> owed = 0; must_open = 1; did = 1 }
    :: else -> skip
    fi;
    if
    :: atomic { must_open && shut_seen -> must_open = 0; final = 1; did = 1 }
    :: must_open && !shut_seen ->
        atomic { i = NONE; if :: nempty(free) -> free ? i :: empty(free) -> skip fi }
        if
        :: i != NONE -> role_open(i, 0); must_open = 0; did = 1
        :: else -> skip
        fi
    :: else -> skip
    fi;
    atomic { at = w_units; i = w_slot }
#ifdef FAULT_SEALS_ONLY_WHAT_IT_CAN_REPLACE
    if
    :: !must_open && !final && at <= CAP && (shut_seen || (may_seal && at > 0 && nempty(free))) ->
#else
    if
    :: !must_open && !final && at <= CAP && (shut_seen || (may_seal && CAN_SEAL(at, i))) ->
#endif
        atomic { at = w_units; i = w_slot; w_units = w_units + SEAL; assert(w_units <= CAP + (PRODUCERS + 2) * SEAL) }
        did = 1;
        if
        :: at <= CAP ->
            end = at;
            role_seq = (end > 0 -> seq[i] + 1 : seq[i]);
            if
            :: shut_seen -> final = 1
            :: else ->
                atomic { how = NONE; if :: nempty(free) -> free ? how :: empty(free) -> skip fi }
                if
                :: how != NONE -> role_open(how, 0)
                :: else -> must_open = 1
                fi
            fi;
            if
            :: end > 0 -> seal(i, end)
            :: else -> skip
            fi
        :: else -> skip
        fi
    :: else -> skip
    fi
}

/* take_complete */
inline take_all(i)
{
    do
    :: atomic { nempty(sealed) -> sealed ? i; assert(pend[i] == 0); state[seq[i]] = taken; TOOK; slot_of[seq[i]] = i; closed[i] = 0; did = 1 }
    :: empty(sealed) -> break
    od
}

/* acknowledge_in_order */
inline acknowledge(i)
{
    do
    :: atomic { !failed && next_ack < LIVES && state[next_ack] == durable -> i = slot_of[next_ack]; level = next_ack + 1; next_ack++; ACKED }
#ifdef FAULT_ACK_WAKES_NOBODY
        atomic { ack[i] = next_ack; ack_waiters[i] = 0; had = 0 }
#else
        atomic { ack[i] = next_ack; had = ack_waiters[i]; ack_waiters[i] = 0; if :: had -> wake(ON_ACK + i) :: else -> skip fi; had = 0 }
#endif
        retained ! i;
        did = 1
    :: else -> break
    od
}

/* retire */
inline retire(i)
{
#ifdef READER
    if
    :: held != NONE && pins[held] == 0 ->
        free ! held;
        held = NONE;
        bump(free_gen, ON_FREE);
        did = 1
    :: else -> skip
    fi;
#endif
    do
    :: atomic { nempty(retained) && held == NONE && len(free) < ENOUGH -> retained ? i; closed[i] = 1; busy = (pins[i] != 0) }
        if
        :: busy -> held = i
        :: else ->
            free ! i;
#ifndef FAULT_NO_BUMP_AT_GIVE
            bump(free_gen, ON_FREE)
#endif
        fi;
        did = 1
    :: else -> break
    od
}

/* The second look, for somebody in the state `seen`: what the part was before it was let go. */
#define SEEN_SEAL(u, i) (u > 0 && (nempty(free) || seen_ack == seq[i]))

#ifdef LEND
#define MAY_LEND (taken_count == 0 && held == NONE && !must_open && !final && !shut_seen)
inline hand_over()
{
    RELEASE;
    atomic {
        fl_sleep = 0;
#ifndef FAULT_NO_WAKE_AT_HAND_OVER
        if
        :: asleep[FLUSHER] == ON_FLUSHER -> asleep[FLUSHER] = 0
        :: else -> skip
        fi
#endif
    }
}
/* weir__flusher_alone: it has the part. */
inline alone()
{
    HOLD;
    did = 0;
    if
    :: failed -> skip
    :: else ->
        may_seal = 1;
        serve(ti, tat, tend, thow);
        take_all(ti);
        did = 0;
        if
        :: taken_count == 1 && state[next_ack] == taken ->
            state[next_ack] = durable;
            acknowledge(ti);
            go = did;
            retire(ti);
            did = go
        :: else -> skip
        fi
    fi;
    if
    :: did && MAY_LEND ->
        /* weir__stage_return */
        seen_ack = next_ack;
        RELEASE;
        atomic { go = (fl_sleep == 4); if :: go -> fl_sleep = 3 :: else -> skip fi }
        if
        :: go ->
#ifndef FAULT_NO_LOOK_AT_RETURN
            atomic { tat = w_units; ti = w_slot }
            d_step { busy = nempty(sealed) || failed || shut || owed || (tat <= CAP && SEEN_SEAL(tat, ti)) }
            if
            :: busy -> kick()
            :: else -> skip
            fi
#else
            skip
#endif
        :: else ->
            /* It was called. */
            HOLD;
            hand_over()
        fi
    :: else -> hand_over()
    fi;
    atomic { did = 0; busy = 0; may_seal = 0; ti = 0; tat = 0; tend = 0; thow = 0; seen_ack = 0; go = 0 }
}
#endif

/* ---- producers --------------------------------------------------------------------------------------------------- */

proctype producer(byte me; bit try)
{
    byte i, next, left, k, how, tries;
    short at, end;
    byte life;
#ifdef LEND
    byte ti, thow, seen_ack;
    short tat, tend;
    bit did, may_seal, busy;
#endif
    bit seen, go, had, zero, got;

    left = RECORDS;
    tries = 2;
    do
    :: left == 0 -> break
    :: else ->
        got = 0;
again:
#if defined(EARLY) || defined(FAIL)
        if
        :: failed || shut -> left = 0; goto out
        :: else -> skip
        fi;
#endif
        if
        :: try && !OPEN -> goto refused
        :: else -> skip
        fi;
        atomic { at = w_units; i = w_slot; w_units = w_units + 1; assert(w_units <= CAP + (PRODUCERS + 2) * SEAL) }
        if
        :: at + 1 <= CAP -> life = seq[i]; got = 1
        :: at <= CAP && at + 1 > CAP ->
            /* The closer. */
            end = at;
            atomic { role_seq = seq[i] + 1; next = NONE; if :: nempty(free) -> free ? next :: empty(free) -> skip fi }
            if
            :: next != NONE -> role_open(next, 1); seal(i, end)
            :: else ->
                seal(i, end);
                if
                :: try -> skip
                :: else ->
                    nudge();
                    do
                    :: look(free_gen);
                        atomic { if :: nempty(free) -> free ? next :: empty(free) -> skip fi }
                        if
                        :: next != NONE || shut || failed -> break
                        :: else -> skip
                        fi;
                        doze(free_gen, ON_FREE)
                    od;
                    looked(free_gen)
                fi;
                if
                :: next != NONE -> role_open(next, 1)
                :: else -> role_leave()
                fi
            fi;
            if
            :: next == NONE ->
                if
                :: try -> goto refused
                :: else -> left = 0; goto out
                fi
            :: else -> i = next; life = seq[i]; got = 1
            fi
        :: else ->
            if
            :: try -> goto refused
            :: else -> skip
            fi;
            do
            :: look(open_gen);
                if
                :: failed || shut -> looked(open_gen); left = 0; goto out
                :: else -> skip
                fi;
                if
                :: OPEN -> break
                :: else -> skip
                fi;
                doze(open_gen, ON_OPEN)
            od;
            looked(open_gen);
            goto again
        fi;
        /* The record is in. */
        atomic { pend[i] = pend[i] - 1; zero = (pend[i] == 0) }
        if
        :: zero -> push(i)
        :: else ->
#ifdef LEND
            how = fl_sleep;
            if
            :: how == 3 -> /* alone, as far as it can tell */
                atomic { go = (fl_sleep == 3); if :: go -> fl_sleep = 4 :: else -> skip fi }
                if
                :: go -> alone()
                :: else ->
                    if
                    :: fl_sleep == 1 || fl_sleep == 3 -> kick()
                    :: else -> skip
                    fi
                fi
            :: how == 1 || how == 3 -> kick()
            :: else -> skip
            fi;
            atomic { how = 0; go = 0 }
#elif !defined(FAULT_NO_KICK_AT_COMMIT)
            if
            :: fl_sleep == 1 -> kick()
            :: else -> skip
            fi
#else
            skip
#endif
        fi;
        left--;
#ifdef WAIT
        do
        :: level > life -> break
        :: else ->
            if
            :: failed || drained ->
                assert(failed || level > life);
                break
            :: else -> skip
            fi;
            atomic { at = ack[i]; go = !ack_failed[i] }
#ifdef FAULT_ACK_EQUAL
            if
            :: at == life + 1 || !go -> skip
#else
            if
            :: at > life || !go -> skip
#endif
            :: else ->
                d_step {
                    if
                    :: ack[i] != at || ack_failed[i] -> skip
                    :: else -> ack_waiters[i] = 1; asleep[me] = ON_ACK + i
                    fi;
                    at = 0
                }
                (asleep[me] == 0)
            fi
        od;
#endif
        goto done_one;
refused:
        tries--;
        if
        :: tries == 0 -> left--; tries = 2
        :: else -> skip
        fi;
done_one:
        skip
    od;
out:
#ifdef EARLY
    if
    :: me == 0 -> shut_down()
    :: else -> skip
    fi;
#endif
    atomic { to_come--; go = (to_come == 0) }
    if
    :: go ->
        shut_down();
        do
        :: look(exit_gen);
            if
            :: drained -> break
            :: else -> skip
            fi;
            doze(exit_gen, ON_EXIT)
        od;
        looked(exit_gen)
    :: else -> skip
    fi;
    atomic { finished++; at = 0; end = 0; i = 0; life = 0; next = 0; k = 0; go = 0; got = 0; zero = 0; tries = 0 }
}

/* ---- the flusher ------------------------------------------------------------------------------------------------- */


#if IO == 0
#define SUBMIT state[k] = durable
#else
#define SUBMIT state[k] = flying; flying_count++; inflight++
#endif

/* weir__submit_reap: what has ended is no longer under way. */
inline reap()
{
    d_step {
        k = 0;
        do
        :: k < LIVES && ended_count > 0 ->
            if
            :: state[k] == ended -> state[k] = durable; ended_count--; inflight--; did = 1
            :: else -> skip
            fi;
            k++
        :: else -> break
        od;
        k = 0
    }
}

proctype flusher()
{
    byte me = FLUSHER;
    byte i, k, how, seen_ack, inflight;
    byte end;
    short at;
    bit did, had, zero, may_seal, busy;

    HOLD;
    do
    :: atomic { did = 0; reap() }
        acknowledge(i);
        retire(i);
        take_all(i);
        /* What is under way: inflight. */
        may_seal = (inflight == 0);
        serve(i, at, end, how);
        take_all(i);
        if
        :: failed ->
            /* What is under way ends first. */
            (ended_count == inflight);
            break
        :: else -> skip
        fi;
        /* submit */
        d_step {
            k = next_ack;
            do
            :: k < LIVES && inflight < IO + (IO == 0) ->
                if
                :: state[k] == taken -> SUBMIT; did = 1
                :: else -> skip
                fi;
                k++
            :: else -> break
            od;
            k = 0
        }
        if
        :: final && inflight == 0 && next_ack == role_seq -> break
        :: else -> skip
        fi;
        if
        :: did -> skip
        :: else ->
            /* sleep_or_wait */
            if
            :: IO > 0 && inflight >= IO -> (ended_count > 0)
            :: else ->
                seen_ack = next_ack;
#ifdef LEND
                atomic { how = (MAY_LEND && inflight == 0 -> 3 : (inflight == 0 -> 1 : 2)) }
                if
                :: how == 3 -> RELEASE
                :: else -> skip
                fi;
                atomic { may_seal = (how != 2); fl_sleep = how }
#else
                atomic { how = (inflight == 0 -> 1 : 2); may_seal = (how == 1); fl_sleep = how }
#endif
#ifndef FAULT_NO_RECHECK
                atomic { at = w_units; i = w_slot }
                d_step {
#ifdef LEND
                if
                :: how == 3 -> busy = nempty(sealed) || failed || shut || owed || (at <= CAP && SEEN_SEAL(at, i))
                :: else ->
                busy = nempty(sealed) || failed || (!shut_seen && shut) || (!final && !must_open && owed);
                busy = busy || (must_open && nempty(free));
                busy = busy || (!must_open && !final && at <= CAP && (shut_seen || (may_seal && CAN_SEAL(at, i))))
                fi;
#else
                busy = nempty(sealed) || failed || (!shut_seen && shut) || (!final && !must_open && owed);
                busy = busy || (must_open && nempty(free));
                busy = busy || (!must_open && !final && at <= CAP && (shut_seen || (may_seal && CAN_SEAL(at, i))));
#endif
#ifndef FAULT_NO_LOOK_AT_HELD
                busy = busy || (how != 3 && held != NONE && pins[held] == 0);
#endif
                }
#else
                busy = 0;
#endif
#ifdef LEND
                if
                :: busy && how == 3 ->
                    /* Who loses sleeps: a producer has the part, or it has been woken. */
                    atomic { busy = (fl_sleep == 3); if :: busy -> fl_sleep = 0 :: else -> skip fi }
#ifdef FAULT_LOSER_GOES_ON
                    busy = 1
#endif
                :: else -> skip
                fi;
#endif
                if
                :: busy -> skip
                :: !busy && how != 2 ->
                    do
                    :: fl_sleep != 0 ->
                        atomic {
                            if
                            :: fl_sleep != 0 -> asleep[me] = ON_FLUSHER
                            :: else -> skip
                            fi
                        }
                        (asleep[me] == 0)
                    :: else -> break
                    od
                :: else ->
                    atomic {
                        if
                        :: ring_event || ended_count > 0 -> skip
                        :: else -> asleep[me] = ON_RING
                        fi
                    }
                    (asleep[me] == 0);
                    ring_event = 0
                fi;
#ifdef LEND
                if
                :: how == 3 -> HOLD
                :: else -> skip
                fi;
#endif
                fl_sleep = 0;
                atomic { how = 0; seen_ack = 0; at = 0; i = 0; busy = 0; zero = 0; may_seal = 0; end = 0 }
            fi
        fi
    od;
    /* weir__stage_leave */
    drained = 1;
    bump(open_gen, ON_OPEN);
    bump(free_gen, ON_FREE);
    bump(exit_gen, ON_EXIT)
}

/* Ends what is under way, in any order. */
proctype disk()
{
    byte k;
    do
    :: flying_count > 0 ->
        atomic {
            /* The first of them or the last. */
            if
            :: k = 0;
                do
                :: state[k] != flying -> k++
                :: else -> break
                od
#if IO > 1
            :: k = LIVES - 1;
                do
                :: state[k] != flying -> k--
                :: else -> break
                od
#endif
            fi;
            state[k] = ended;
            flying_count--;
            ended_count++;
            if
            :: asleep[FLUSHER] == ON_RING -> asleep[FLUSHER] = 0
            :: else -> skip
            fi;
            k = 0
        }
    :: drained -> break
    od
}

#ifdef READER
/* Looks at a slot, twice. */
proctype reader()
{
    byte me = OTHER;
    byte k, i, looks;
    bit no;

    looks = 2;
    do
    :: looks > 0 ->
        looks--;
        if
        :: i = 0
#if SLOTS > 1
        :: i = 1
#endif
        fi;
        atomic { pins[i]++; no = closed[i] }
        /* Reads, or does not. */
        atomic { pins[i]--; no = (closed[i] && pins[i] == 0) }
#ifndef FAULT_NO_KICK_AT_UNPIN
        if
        :: no -> nudge()
        :: else -> skip
        fi
#endif
    :: else -> break
    od
}
#endif

#ifdef FAIL
proctype failer()
{
    byte me = OTHER;
    byte k, i;
    bit had;

    failed = 1;
#ifndef FAULT_NO_BUMP_AT_FAIL
    bump(open_gen, ON_OPEN);
    bump(free_gen, ON_FREE);
#endif
    i = 0;
    do
    :: i < SLOTS ->
#ifndef FAULT_FAIL_LEAVES_ACK
        atomic { ack_failed[i] = 1; if :: ack_waiters[i] -> wake(ON_ACK + i) :: else -> skip fi }
#endif
        i++
    :: else -> break
    od;
    nudge()
}
#endif

init
{
    byte k;
    atomic {
        k = 0;
        held = NONE;
        do
        :: k < SLOTS -> free ! k; closed[k] = 1; k++
        :: else -> break
        od;
        k = 0;
        do
        :: k < THREADS -> open_gen.changed[k] = 1; free_gen.changed[k] = 1; exit_gen.changed[k] = 1; k++
        :: else -> break
        od;
        k = 0;
        do
        :: k < LIVES -> state[k] = none; k++
        :: else -> break
        od;
        w_units = SEAL;
        owed = 1;
        to_come = PRODUCERS;
        k = 0;
#ifdef TRY
        run producer(0, 1);
        k = 1;
#endif
        do
        :: k < PRODUCERS -> run producer(k, 0); k++
        :: else -> break
        od;
        run flusher();
        run disk();
#ifdef READER
        run reader();
#endif
#ifdef FAIL
        run failer();
#endif
    }
}

/* Everybody returns, the close ends, and unless the log failed whatever was reserved has been acknowledged. */
ltl ends { <> (finished == PRODUCERS && drained) }
ltl all { [] ((finished == PRODUCERS && drained && !failed) -> (len(sealed) == 0 && level == role_seq)) }
