#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Model-checks the stage with Relacy (Debian: relacy-dev), in about a minute. Prints a line per scenario; 0: all hold, 77: Relacy or the
# compiler is missing.
#   run.sh            every scenario, at random; the smallest, every execution with one preemption
#   run.sh full       ten times as many, and two preemptions (some minutes)
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
"$here/build.sh" "$tmp/stage_model"
case ${1:-} in
weaken)
    "$tmp/stage_model" weaken 2000
    exit
    ;;
full)
    count=100000 preemptions=2
    ;;
*)
    count=10000 preemptions=1
    ;;
esac
status=0
echo "model: $count random executions of each scenario"
"$tmp/stage_model" run "$count" || status=1
echo "model: every execution with at most $preemptions preemptions"
for scenario in S0 S1 wait-all-4; do
    timeout 600 "$tmp/stage_model" bound "$preemptions" "$scenario" || status=1
done
# The model itself has to find a fault that is known: a flusher that does not look at slots kept for readers before it sleeps.
"$here/build.sh" "$tmp/faulty" -DNO_LOOK_AT_HIDDEN
if "$tmp/faulty" run 50000 reader-1 >/dev/null; then
    echo "model: a planted fault was not found"
    status=1
fi
exit $status
