#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Limits close in on a process that appends: descriptors, file size, address space while it runs; locked memory, descriptors,
# file size before it opens the log. Each has its clear code, or is invisible, and nothing acknowledged is lost.
# WEIR_TEST_LIMITS sets the processes (default 24: each limit with each way of I/O).
set -euo pipefail

: "${WEIR_STRESS:?the path of the weir-stress command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-limits.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

"$WEIR_STRESS" rlimits --rounds "${WEIR_TEST_LIMITS:-24}" --dir "$work/log" | tee "$work/out"
for limit in descriptors "file size" "address space"; do
    if [ "$limit" = "address space" ] && grep -q "^note: .*address space is left alone" "$work/out"; then
        continue
    fi
    grep -qE "^$limit while it runs .* felt by [1-9]" "$work/out" || fail "nobody felt the limit: $limit"
done

echo "== a process that never goes on is found"
rc=0
"$WEIR_STRESS" rlimits --rounds 1 --lie stuck --standstill 3s --dir "$work/stuck" >"$work/out" 2>"$work/err" || rc=$?
[ "$rc" -eq 1 ] || fail "--lie stuck was not found: exit status $rc"
grep -m 1 '^FAULT: .*descriptors were to be had again' "$work/err" || fail "--lie stuck: another fault: $(cat "$work/err")"
echo "ok"
