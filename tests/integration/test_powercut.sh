#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Power cuts on a file system in a file, each followed by recovery, appends and the next cut on the same log: no
# acknowledged record is missing, and none that a reader was shown as durable. Where mounting is refused: 77 and the
# reason. WEIR_TEST_CUTS sets the rounds (default 10 for ext4, 5 for xfs).
set -euo pipefail

: "${WEIR_STRESS:?the path of the weir-stress command}"
cuts=${WEIR_TEST_CUTS:-10}
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-cut.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# cut NAME STATUS OPTION...: one run, which must end with that status.
cut_run() {
    local name=$1 expected=$2 rc=0
    shift 2
    "$WEIR_STRESS" powercut "$@" --dir "$work/$name" >"$work/out" 2>"$work/err" || rc=$?
    if [ "$rc" -eq 77 ]; then
        cat "$work/out"
        return 77
    fi
    if [ "$rc" -ne "$expected" ]; then
        cat "$work/out" "$work/err" >&2
        fail "$name: exit status $rc, not $expected"
    fi
}

echo "== $cuts power cuts on ext4"
cut_run ext4 0 --rounds "$cuts" --follow || exit $?
cat "$work/out"
acknowledged=$(sed -nE 's/^acknowledged +([0-9]+)$/\1/p' "$work/out")
[ "${acknowledged:-0}" -gt 0 ] || fail "nothing was acknowledged"

echo "== $(((cuts + 1) / 2)) power cuts on xfs"
rc=0
cut_run xfs 0 --fs xfs --rounds $(((cuts + 1) / 2)) --follow || rc=$?
[ "$rc" -eq 77 ] || cat "$work/out"

echo "== a process that acknowledges too early is found"
cut_run early 1 --rounds 60 --lie early
grep -m 1 '^FAULT: .*acknowledged' "$work/err" || fail "--lie early: no record is missing: $(cat "$work/err")"

# Nothing of it stays mounted or attached.
if grep -q "$work" /proc/mounts; then
    fail "still mounted: $(grep "$work" /proc/mounts)"
fi
for backing in /sys/block/loop*/loop/backing_file; do
    [ -e "$backing" ] || continue
    if grep -q "$work" "$backing" 2>/dev/null; then
        fail "still attached: $backing"
    fi
done
echo "ok"
