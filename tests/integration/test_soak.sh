#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One process on a slow disk with a reader at its tail: memory and descriptors of both stay as they are, and a leak is found.
# WEIR_TEST_SOAK sets the time (default 6s).
set -euo pipefail

: "${WEIR_STRESS:?the path of the weir-stress command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-soak.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

"$WEIR_STRESS" soak --for "${WEIR_TEST_SOAK:-6s}" --dir "$work/log" | tee "$work/out"
[ "$(sed -nE 's/^shown to a reader +([0-9]+)$/\1/p' "$work/out")" -gt 0 ] || fail "the reader was shown nothing"

echo "== a process that leaks is found"
rc=0
"$WEIR_STRESS" soak --for 6s --lie leak --dir "$work/leak" >"$work/out" 2>"$work/err" || rc=$?
[ "$rc" -eq 1 ] || fail "--lie leak was not found: exit status $rc"
grep -q "^note: .*memory is not judged" "$work/out" || grep "^FAULT: the writer's memory grew" "$work/err" || fail "--lie leak: memory: $(cat "$work/err")"
grep "^FAULT: the writer's descriptors grew" "$work/err" || fail "--lie leak: descriptors: $(cat "$work/err")"
echo "ok"
