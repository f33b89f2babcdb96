#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The I/O layer and the log on a file system that refuses O_DIRECT: ramfs, mounted for this test alone. The tests of the
# I/O layer run there once more, direct ones included, which then have to fall back and say so.
# Exit 77: this machine does not let us mount.
set -euo pipefail
export LC_ALL=C

: "${WEIR:?the path of the weir command}" "${WEIR_BUILD_DIR:?where the tests were built}"

if [ "${1:-}" != --inside ]; then
    if ! unshare --mount true 2>/dev/null; then
        echo "skipped: no mount namespace of our own here"
        exit 77
    fi
    exec unshare --mount bash "$0" --inside
fi

place=$(mktemp -d "${TMPDIR:-/tmp}/weir-ramfs.XXXXXX")
trap 'cd /; umount "$place" 2>/dev/null || true; rmdir "$place"' EXIT
if ! mount -t ramfs ramfs "$place" 2>/dev/null; then
    echo "skipped: ramfs cannot be mounted here"
    exit 77
fi
cd "$place"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

if dd if=/dev/zero of=probe bs=4k count=1 oflag=direct 2>/dev/null; then
    echo "skipped: this ramfs takes O_DIRECT"
    exit 77
fi
rm -f probe

for test in unit.io.file unit.io.writer unit.io.reader unit.io.executor unit.io.queue integration.segment_reader; do
    TMPDIR=$place timeout 250 "$WEIR_BUILD_DIR/tests/$test" >output 2>&1 || {
        tail -n 60 output
        fail "$test fails here"
    }
    echo "$test: $(grep -aoE 'PASSED  \] [0-9]+ test' output)"
done

seq -f 'line %g' 20000 >lines
"$WEIR" ingest --producers 8 log lines >figures 2>err || fail "ingest: $(cat err)"
"$WEIR" verify log >verdict || fail "verify: $(cat verdict)"
"$WEIR" cat log | sort >shown
sort lines | cmp - shown || fail "other lines came back"
"$WEIR" doctor "$place" >facts
grep -qE '^O_DIRECT +no' facts || fail "doctor: $(cat facts)"
grep -qE 'direct_io +no' facts || fail "doctor: $(cat facts)"
echo ok
