#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A kernel of the time before io_uring, RWF_DSYNC, statx and MADV_WIPEONFORK (Linux 4.4), as far as a process can tell: a
# filter answers later calls as such a kernel does. Everything works, and weir doctor says what is missing; what was written
# there is read here, and the other way round.
set -euo pipefail

: "${WEIR:?the path of the weir command}"
: "${WEIR_STRESS:?the path of the weir-stress command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-old-kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}
old() {
    "$WEIR_STRESS" seccomp --old-kernel -- "$WEIR" "$@"
}

rc=0
"$WEIR_STRESS" seccomp --old-kernel -- true >out 2>&1 || rc=$?
if [ "$rc" -eq 77 ]; then
    cat out
    exit 77
fi
[ "$rc" -eq 0 ] || fail "weir-stress seccomp --old-kernel -- true: exit status $rc: $(cat out)"
# The filter is one: what asks for a later call fails (glibc makes ENOTSUP of ENOSYS where it has no way around).
if command -v python3 >/dev/null; then
    "$WEIR_STRESS" seccomp --old-kernel -- python3 -c 'import os, sys
fd = os.open("probe", os.O_RDWR | os.O_CREAT)
try:
    os.pwritev(fd, [b"x"], 0, os.RWF_DSYNC)
except OSError as error:
    sys.exit(0 if error.errno in (38, 95) else 1)
sys.exit(1)' || fail "the filter lets pwritev2 pass"
fi

seq 5000 | sed 's/$/ a line/' >lines
sort lines >lines.sorted
old doctor . >facts || fail "doctor"
grep -E '^io_uring +no' facts || fail "doctor: $(grep io_uring facts)"
grep -E '^auto' facts | grep -qi posix || fail "doctor does not say what auto comes down to: $(grep '^auto' facts)"
for io in auto posix; do
    old ingest --io $io --segment 256K --producers 16 log-$io lines >figures 2>err || fail "--io $io: ingest: $(cat err)"
    grep '^io ' figures
    old cat log-$io | sort | cmp lines.sorted - || fail "--io $io: other lines came back"
    old verify log-$io >verdict || fail "--io $io: verify: $(cat verdict)"
    old copy log-$io copy-$io >out || fail "--io $io: copy"
    old salvage log-$io --to salvaged-$io >out || fail "--io $io: salvage"
    "$WEIR" cat copy-$io | sort | cmp lines.sorted - || fail "--io $io: the copy differs"
    "$WEIR" verify log-$io >verdict || fail "--io $io: verify on this kernel: $(cat verdict)"
    "$WEIR" ingest log-$io lines >figures 2>err || fail "--io $io: ingest on this kernel: $(cat err)"
    [ "$(old cat log-$io | wc -l)" -eq 10000 ] || fail "--io $io: $(old cat log-$io | wc -l) records, not 10000"
done
for io in chain dsync; do
    rc=0
    old ingest --io $io other lines >out 2>err || rc=$?
    [ "$rc" -eq 1 ] || fail "--io $io: exit status $rc"
    grep -q ENOSYS err || fail "--io $io does not say ENOSYS: $(cat err)"
done
echo "ok"
