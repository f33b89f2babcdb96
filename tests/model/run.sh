#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Model-checks the stage and the writer with Relacy (Debian: relacy-dev), in about a minute. Prints a line per scenario; 0: all hold, 77: Relacy
# or the compiler is missing.
#   run.sh            every scenario, at random; the smallest, executions with at most one preemption for some seconds
#   run.sh full       many more of both, and two preemptions (an hour)
#   run.sh weaken     each atomic access one step weaker: which scenario finds it (some minutes; survivors are listed, not failed)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v "${CXX:-g++}" >/dev/null || { echo "model: no ${CXX:-g++}, skipped"; exit 77; }
echo "#include <relacy/relacy.hpp>" | "${CXX:-g++}" -std=gnu++17 -w -fpermissive -fsyntax-only -x c++ - 2>/dev/null || {
    echo "model: no relacy-dev, skipped"
    exit 77
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$here/build.sh" stage "$tmp/stage"
"$here/build.sh" writer "$tmp/writer"
case ${1:-} in
weaken)
    "$tmp/stage" weaken 2000
    "$tmp/writer" weaken 20000
    exit
    ;;
full)
    count=100000 preemptions=2 limit=300
    ;;
*)
    count=5000 preemptions=1 limit=5
    ;;
esac
status=0
check() { # model, scenarios for the bounded search
    model=$1
    shift
    echo "model: $model: $count random executions of each scenario"
    "$tmp/$model" run "$count" || status=1
    echo "model: $model: executions with at most $preemptions preemptions, $limit s of each"
    for scenario; do
        code=0
        timeout "$limit" "$tmp/$model" bound "$preemptions" "$scenario" || code=$?
        case $code in
        0) ;;
        124) echo "$scenario: no fault as far as it got" ;;
        *) status=1 ;;
        esac
    done
}
check stage S0 S1 wait-all-4
# A part that is lent and never given back in a state to go on sleeping is one that its holder has called for itself.
"$tmp/stage" run "$count" lend-2 | grep -q " returned [1-9]" || {
    echo "model: the flusher's part is never given back"
    status=1
}
check writer W1 W2 direct
# The models themselves have to find a fault that is known. A flusher that does not look at slots kept for readers before it sleeps:
"$here/build.sh" stage "$tmp/faulty" -DNO_LOOK_AT_HIDDEN
if "$tmp/faulty" run 50000 reader-1 >/dev/null; then
    echo "model: the fault planted in the stage was not found"
    status=1
fi
# What is committed while a part of its buffer is being written counts as written with it:
"$here/build.sh" writer "$tmp/faulty" -DWEIR_PLANT=WEIR__PLANT_pending_reset
if "$tmp/faulty" run 5000 W2 >/dev/null; then
    echo "model: the fault planted in the writer was not found"
    status=1
fi
exit $status
