#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A storm of signals, without SA_RESTART, on every thread of a process that opens a log, appends and closes it, over every
# way of I/O: no call fails, no handler runs on a thread of the log, nothing acknowledged is lost.
# WEIR_TEST_SIGNALS sets the processes (default 8).
set -euo pipefail

: "${WEIR_STRESS:?the path of the weir-stress command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-signals.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

"$WEIR_STRESS" signals --rounds "${WEIR_TEST_SIGNALS:-8}" --dir "$work/log" | tee "$work/out"
handled=$(sed -nE 's/^signals handled +([0-9]+)$/\1/p' "$work/out")
[ "${handled:-0}" -ge 100 ] || fail "only ${handled:-0} signals came"
[ "$(sed -nE 's/^acknowledged +([0-9]+)$/\1/p' "$work/out")" -gt 100 ] || fail "hardly anything was acknowledged"
echo "ok"
