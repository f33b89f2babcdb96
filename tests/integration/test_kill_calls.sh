#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A small life is killed before its first call on files and rings, before a later one, and so on, over every way of I/O; each
# time the next process recovers the log at once. WEIR_TEST_STEP sets the distance (default 31; 1: at every call).
set -euo pipefail

: "${WEIR_STRESS:?the path of the weir-stress command}"
step=${WEIR_TEST_STEP:-31}
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-calls.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# LeakSanitizer stops its process to look at it, which a traced process cannot be.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0

rc=0
"$WEIR_STRESS" kill --every-call --step "$step" --dir "$work/log" >"$work/out" 2>"$work/err" || rc=$?
cat "$work/out" "$work/err"
if grep -q '^FAULT: ptrace: ' "$work/err"; then
    echo "skipped: ptrace is refused here"
    exit 77
fi
[ "$rc" -eq 0 ] || fail "exit status $rc"
grep -qE '^posix +killed at call 1 to [0-9]+.* it got to its end' "$work/out" || fail "it did not get to its end"
echo "ok"
