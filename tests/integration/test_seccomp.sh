#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Without io_uring, as in many containers: everything works, what demands it is refused with a clear error, and weir
# doctor says why. Each errno with which a kernel or a filter refuses.
set -euo pipefail

: "${WEIR:?the path of the weir command}"
: "${WEIR_STRESS:?the path of the weir-stress command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-seccomp.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

rc=0
"$WEIR_STRESS" seccomp -- true >out 2>&1 || rc=$?
if [ "$rc" -eq 77 ]; then
    cat out
    exit 77
fi
[ "$rc" -eq 0 ] || fail "weir-stress seccomp -- true: exit status $rc: $(cat out)"
rc=0
"$WEIR_STRESS" seccomp -- sh -c 'exit 3' || rc=$?
[ "$rc" -eq 3 ] || fail "the exit status of the command is not kept: $rc"

seq 5000 | sed 's/$/ a line/' >lines
sort lines >lines.sorted
# What doctor calls the refusal, in words.
declare -A words=([EPERM]=seccomp [ENOSYS]=seccomp [ENOMEM]=memory [EMFILE]=descriptor)
for errno in EPERM ENOSYS ENOMEM EMFILE; do
    refused() {
        "$WEIR_STRESS" seccomp --errno $errno -- "$WEIR" "$@"
    }
    echo "== io_uring calls fail with $errno"

    # ---- everything works
    refused ingest --producers 16 log lines >figures 2>err || fail "$errno: ingest: $(cat err)"
    grep -q '^io .*without io_uring: pwritev2' figures ||
        fail "$errno: ingest used something else: $(grep '^io' figures)"
    refused cat log | sort | cmp lines.sorted - || fail "$errno: other lines came back"
    refused verify log >verdict || fail "$errno: verify: $(cat verdict)"
    refused copy log backup >out || fail "$errno: copy"
    refused cat backup | sort | cmp lines.sorted - || fail "$errno: the copy differs"
    # What was written without the ring is read with it, and the other way round.
    "$WEIR" verify log >verdict || fail "$errno: verify outside the filter: $(cat verdict)"
    "$WEIR" ingest --producers 16 log lines >figures 2>err || fail "$errno: ingest outside the filter: $(cat err)"
    [ "$(refused cat log | wc -l)" -eq 10000 ] || fail "$errno: $(refused cat log | wc -l) records, not 10000"
    refused verify log >verdict || fail "$errno: verify: $(cat verdict)"

    # ---- what demands the ring is refused, and nothing was made
    for io in chain dsync; do
        rc=0
        refused ingest --io $io other lines >out 2>err || rc=$?
        [ "$rc" -eq 1 ] || fail "$errno: --io $io: exit status $rc"
        grep -q "$errno" err || fail "$errno: --io $io does not say $errno: $(cat err)"
        grep -qE "io = (chain|dsync) was asked for, and refused: .*${words[$errno]}" err ||
            fail "$errno: --io $io does not say why: $(cat err)"
    done
    cat err
    refused ingest --io posix other lines >out 2>err || fail "$errno: --io posix: $(cat err)"

    # ---- doctor says why
    refused doctor . >out || fail "$errno: doctor"
    grep -E '^io_uring +no' out || fail "$errno: doctor: $(grep io_uring out)"
    grep -E '^io_uring' out | grep -q "${words[$errno]}" || fail "$errno: doctor does not say why"
    grep -E '^auto' out | grep -qi 'posix\|pwritev2' || fail "$errno: doctor: $(grep '^auto' out)"
    rm -r log backup other
done
echo "ok"
