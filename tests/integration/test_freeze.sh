#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A process that appends is stopped, single threads of it are, and a producer between the reservation of its place and the
# commit: the watchdog tells of it, everything goes on afterwards, in order. WEIR_TEST_FREEZES sets the processes (default 4).
set -euo pipefail

: "${WEIR_STRESS:?the path of the weir-stress command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-freeze.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

"$WEIR_STRESS" freeze --rounds "${WEIR_TEST_FREEZES:-4}" --dir "$work/log" | tee "$work/out"
grep -qE '^producers held +[1-9][0-9]* ' "$work/out" || fail "no producer was held between reservation and commit"
grep -qE '^processes stopped +[1-9]' "$work/out" || fail "no process was stopped"
echo "ok"
