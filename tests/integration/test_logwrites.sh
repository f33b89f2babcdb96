#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Crash states from a block device's own record of its writes: at flushes, and with parts of what came behind them. Each is
# mounted, checked against what was acknowledged before, and every second one recovered and appended to. Where the machine
# does not allow it: 77 and the reason. WEIR_TEST_STATES sets how many states (default 24).
set -euo pipefail

: "${WEIR_STRESS:?the path of the weir-stress command}"
states=${WEIR_TEST_STATES:-24}
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-writes.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

rc=0
"$WEIR_STRESS" logwrites --rounds 1 --states "$states" --dir "$work/ext4" >"$work/out" 2>"$work/err" || rc=$?
cat "$work/out" "$work/err"
[ "$rc" -ne 77 ] || exit 77
[ "$rc" -eq 0 ] || fail "exit status $rc"
grep -qE '^crash states +[0-9]+ at flushes, [1-9][0-9]* with parts' "$work/out" || fail "no state was checked"
grep -qE ' [1-9][0-9]* marks$' "$work/out" || fail "nothing was acknowledged while it was recorded"

echo "== a process that acknowledges too early is found"
rc=0
"$WEIR_STRESS" logwrites --rounds 20 --states 60 --lie early --dir "$work/early" >"$work/out" 2>"$work/err" || rc=$?
[ "$rc" -eq 1 ] || fail "--lie early was not found: exit status $rc"
grep -m 1 '^FAULT: .*acknowledged' "$work/err" || fail "--lie early: no record is missing: $(cat "$work/err")"

if grep -q "$work" /proc/mounts; then
    fail "still mounted: $(grep "$work" /proc/mounts)"
fi
echo "ok"
