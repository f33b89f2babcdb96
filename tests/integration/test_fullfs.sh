#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A small file system fills up under a log: appends are refused with ENOSPC and nothing else, the log can be opened and read
# meanwhile, and go on by themselves when there is space again; also after a kill and a power cut on the full file system.
# Where mounting is refused: 77 and the reason. WEIR_TEST_FULL sets how often it is filled up (default 4 for each).
set -euo pipefail

: "${WEIR_STRESS:?the path of the weir-stress command}"
full=${WEIR_TEST_FULL:-4}
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-full.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

for fs in ext4 tmpfs; do
    echo "== $full times on $fs"
    rc=0
    "$WEIR_STRESS" fullfs --fs $fs --rounds "$full" --dir "$work/$fs" >"$work/out" 2>"$work/err" || rc=$?
    cat "$work/out" "$work/err"
    [ "$rc" -ne 77 ] || exit 77
    [ "$rc" -eq 0 ] || fail "$fs: exit status $rc"
    [ "$(sed -nE 's/^appends refused +([0-9]+)$/\1/p' "$work/out")" -gt 0 ] || fail "$fs was never full"
done

echo "== a process that never goes on is found"
rc=0
"$WEIR_STRESS" fullfs --fs tmpfs --rounds 1 --lie stuck --standstill 3s --dir "$work/stuck" >"$work/out" 2>"$work/err" || rc=$?
[ "$rc" -eq 1 ] || fail "--lie stuck was not found: exit status $rc"
grep -m 1 -E '^FAULT: .*(space came back|stands still)' "$work/err" || fail "--lie stuck: another fault: $(cat "$work/err")"
echo "ok"
