#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Model-checks the stage with Relacy (Debian: relacy-dev), in about a minute. Prints a line per scenario; 0: all hold, 77: Relacy or the
# compiler is missing.
#   run.sh            every scenario, at random; the smallest, executions with at most one preemption for some seconds
#   run.sh full       many more of both, and two preemptions (half an hour)
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
    count=100000 preemptions=2 limit=300
    ;;
*)
    count=5000 preemptions=1 limit=5
    ;;
esac
status=0
echo "model: $count random executions of each scenario"
"$tmp/stage_model" run "$count" || status=1
echo "model: executions with at most $preemptions preemptions, $limit s of each"
for scenario in S0 S1 wait-all-4; do
    code=0
    timeout "$limit" "$tmp/stage_model" bound "$preemptions" "$scenario" || code=$?
    case $code in
    0) ;;
    124) echo "$scenario: no fault as far as it got" ;;
    *) status=1 ;;
    esac
done
# The model itself has to find a fault that is known: a flusher that does not look at slots kept for readers before it sleeps.
"$here/build.sh" "$tmp/faulty" -DNO_LOOK_AT_HIDDEN
if "$tmp/faulty" run 50000 reader-1 >/dev/null; then
    echo "model: a planted fault was not found"
    status=1
fi
exit $status
