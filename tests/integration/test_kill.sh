#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 at random moments, with large writes in flight, reopened at once: every acknowledged record stays, byte
# for byte, and the verdict is never corrupt. First with a process of our own over every way of I/O on one log, with a
# reader beside it; then with weir ingest. And the test is worth something: with a planted fault it fails.
# WEIR_TEST_KILLS sets the rounds of each part (default 50).
set -euo pipefail

: "${WEIR:?the path of the weir command}"
: "${WEIR_STRESS:?the path of the weir-stress command}"
rounds=${WEIR_TEST_KILLS:-50}
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-kill.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# What was acknowledged must not be nothing: a run that kills too early proves nothing.
shows_enough() {
    local what=$1 out=$2 acknowledged
    acknowledged=$(sed -nE 's/^acknowledged +([0-9]+)$/\1/p' "$out")
    [ "${acknowledged:-0}" -ge "$rounds" ] || fail "$what: only ${acknowledged:-0} records were acknowledged"
}

echo "== $rounds kills of a process that appends, every way of I/O on one log, a reader beside it"
"$WEIR_STRESS" kill --rounds "$rounds" --follow --dir "$work/own" | tee "$work/out"
shows_enough "kill" "$work/out"

echo "== $rounds kills of weir ingest --acks, every way of I/O on one log"
"$WEIR_STRESS" kill --ingest --weir "$WEIR" --rounds "$rounds" --dir "$work/ingest" | tee "$work/out"
shows_enough "kill --ingest" "$work/out"

echo "== planted faults are found"
for lie in ghost early alter twice skip split trim; do
    rc=0
    "$WEIR_STRESS" kill --rounds 60 --check-every 1 --lie $lie --dir "$work/$lie" >"$work/out" 2>"$work/err" || rc=$?
    [ "$rc" -eq 1 ] || fail "--lie $lie was not found: exit status $rc"
    grep -q '^FAULT: ' "$work/err" || fail "--lie $lie: exit status 1, but no fault: $(cat "$work/err")"
    grep -q '^rerun: weir-stress kill --seed ' "$work/err" || fail "--lie $lie: no line to run it again"
    echo "$lie: $(grep -m 1 '^FAULT: ' "$work/err")"
    rm -rf "${work:?}/$lie"
done
echo "ok"
