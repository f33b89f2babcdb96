#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How often a batch enters the kernel: 1,000 writes and a Sync, carried out in order, take at most
# 2 + 2 x ceil(1,000 / max_inflight) calls of io_uring_enter. Counted from outside, by strace, and less what an executor
# that carries out an empty batch takes for its opening and closing.
#
# Exit 77: no strace, or no io_uring, here.
set -euo pipefail
export LC_ALL=C

driver=${WEIR_BUILD_DIR:?}/tests/unit.io.executor
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! command -v strace >/dev/null; then
    echo "skipped: strace is not installed"
    exit 77
fi
if ! strace -c -o /dev/null true 2>/dev/null; then
    echo "skipped: strace may not trace here"
    exit 77
fi
# Leaks cannot be looked for in a process that is traced; the program's own run looks.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0

# writes inflight direct|buffered: prints how many calls.
enters() {
    rm -f "$scratch/file"
    strace -f -c -e trace=io_uring_enter -o "$scratch/calls" "$driver" --drive "$scratch/file" "$@"
    awk '$NF == "io_uring_enter" { calls = $4 } END { print calls + 0 }' "$scratch/calls"
}

if ! "$driver" --drive "$scratch/file" 0 8 buffered; then
    echo "skipped: no executor on io_uring here"
    exit 77
fi
failures=0
for how in buffered direct; do
    for inflight in 1 7 32 250 256 1000 4096; do
        idle=$(enters 0 "$inflight" "$how")
        all=$(enters 1000 "$inflight" "$how")
        most=$((2 + 2 * ((1000 + inflight - 1) / inflight)))
        echo "$how, max_inflight $inflight: $((all - idle)) calls of at most $most ($idle without a batch)"
        if [ "$((all - idle))" -gt "$most" ] || [ "$((all - idle))" -lt 1 ]; then
            failures=$((failures + 1))
        fi
        if [ "$(stat -c %s "$scratch/file")" -ne 4096000 ]; then
            echo "the file has $(stat -c %s "$scratch/file") bytes, not 4096000"
            failures=$((failures + 1))
        fi
    done
done
[ "$failures" -eq 0 ]
