#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Model-checks the slot protocol and the writer with Relacy (Debian: relacy-dev): the very text of engine/stage and engine/io. Prints a line per
# scenario; 0: all hold, 77: Relacy or the compiler is missing.
#   run.sh steps           each step by itself: every execution. Then the faults of the stand-ins, each of which has to be found
#   run.sh stage           lives of slots: at random, and every execution within bounds of the smallest
#   run.sh writer          the writer: at random, and every execution within bounds of the smallest
#   run.sh                 all three
#   run.sh --long [WHICH]  the large steps, many more random executions, wider bounds (hours)
# Orders weakened by one step: the verb `weaken` of the programs that build.sh makes (README.md). liveness.sh has what Spin checks.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v "${CXX:-g++}" >/dev/null || { echo "model: no ${CXX:-g++}, skipped"; exit 77; }
echo "#include <relacy/relacy.hpp>" | "${CXX:-g++}" -std=gnu++17 -w -fpermissive -fsyntax-only -x c++ - 2>/dev/null || {
    echo "model: no relacy-dev, skipped"
    exit 77
}
long=false
if [ "${1:-}" = --long ]; then
    long=true
    shift
fi
which=${1:-steps stage writer}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0

# Walks that end, but not in seconds.
large="commit-commit push-push wait-ack-3 lend-again lend-commit lend-nudge lend-straggler reserve-close-3 open-late-3 lend-back
wait-reuse end-own end-falls oversize-frontier lives-1 lives-2 lives-acks"
steps() {
    "$here/build.sh" steps "$tmp/steps"
    names=$("$tmp/steps" names)
    for large_one in $large; do
        # The lives are walked within bounds.
        case $large_one in lives-* | end-*) ;; *) $long && continue ;; esac
        names=$(echo "$names" | grep -vx "$large_one")
    done
    echo "model: steps: every execution"
    # shellcheck disable=SC2086 # a list of names
    "$tmp/steps" full $names || status=1
    # Two producers, the flusher, and a slot that is used again, within bounds: preemptions, older values, scenario.
    lives_bounds="2 1 lives-1,3 0 lives-1"
    ! $long || lives_bounds="3 1 lives-1,4 0 lives-1,3 0 lives-acks,3 0 lives-2"
    (IFS=,; for bounds in $lives_bounds; do echo "$bounds"; done) >"$tmp/bounds"
    while read -r preemptions older life; do
        "$tmp/steps" walk "$preemptions" "$older" "$life" || status=1
    done <"$tmp/bounds"
    "$tmp/steps" run 2000 end-own end-falls || status=1
    # The reduction of the search leaves nothing out that the search without it finds.
    echo "model: steps: without the reduction"
    "$tmp/steps" plain retire-late fail-wait || status=1
    # A fault of a stand-in, and a step that shows it.
    while read -r fault step; do
        if MODEL_FAULT=$fault "$tmp/steps" full "$step" >"$tmp/out"; then
            echo "model: $fault was not found by $step"
            status=1
        else
            echo "model: $fault, planted: found by $(cat "$tmp/out")"
        fi
    done <<'LIST'
ring-stale commit-seal
ring-early reserve-seal
ring-loses push-push
ring-twice reserve-seal
futex-blind reserve-seal
futex-deaf open-late
futex-one wait-ack-3
LIST
    # A commit that does not publish the bytes it has filled: each of the two.
    "$here/build.sh" steps "$tmp/steps-faulty" -DWEIR_PLANT=WEIR__PLANT_commit_no_release
    for step in commit-seal lend; do
        if "$tmp/steps-faulty" full "$step" >"$tmp/out"; then
            echo "model: commit_no_release was not found by $step"
            status=1
        else
            echo "model: commit_no_release, planted: found by $(cat "$tmp/out")"
        fi
    done
}

# model, random executions, preemptions, older values, seconds, scenarios of the bounded walk
lives() {
    model=$1 count=$2 preemptions=$3 older=$4 limit=$5
    shift 5
    echo "model: $model: $count random executions of each scenario"
    "$tmp/$model" run "$count" || status=1
    for scenario; do
        code=0
        timeout "$limit" "$tmp/$model" walk "$preemptions" "$older" "$scenario" || code=$?
        case $code in
        0) ;;
        124) echo "$scenario: no fault in $limit s, not all" ;;
        *) status=1 ;;
        esac
    done
}
stage() {
    "$here/build.sh" stage "$tmp/stage"
    if $long; then
        lives stage 100000 3 1 3600 S0 S1 reuse
    else
        lives stage 2000 1 0 20 S0 S1 reuse
    fi
    # A part that is lent and never given back in a state to go on sleeping is one that its holder has called for itself.
    "$tmp/stage" run 2000 lend-2 | grep -q " returned [1-9]" || {
        echo "model: the flusher's part is never given back"
        status=1
    }
    # A commit that does not publish the bytes it has filled.
    "$here/build.sh" stage "$tmp/faulty" -DWEIR_PLANT=WEIR__PLANT_commit_no_release
    if "$tmp/faulty" run 5000 S1 >/dev/null; then
        echo "model: commit_no_release was not found"
        status=1
    fi
    # A flusher that does not look at slots kept for readers before it sleeps.
    if MODEL_FAULT=no-look-at-hidden "$tmp/stage" run 50000 reader-1 >/dev/null; then
        echo "model: the fault planted in the stage was not found"
        status=1
    fi
}
writer() {
    "$here/build.sh" writer "$tmp/writer"
    if $long; then
        lives writer 100000 2 1 3600 W0 W1 W2 direct
    else
        lives writer 2000 1 0 10 W0 W1 W2 direct
    fi
    # What is committed while a part of its buffer is being written counts as written with it.
    "$here/build.sh" writer "$tmp/faulty" -DWEIR_PLANT=WEIR__PLANT_pending_reset
    if "$tmp/faulty" run 5000 W2 >/dev/null; then
        echo "model: the fault planted in the writer was not found"
        status=1
    fi
}
for one in $which; do
    case $one in
    steps | stage | writer) $one ;;
    *)
        echo "run.sh: no model $one" >&2
        exit 64
        ;;
    esac
done
exit $status
