#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A file system that is mounted read-only is read like any other, by readers that cannot write; appending is refused with
# EROFS and changes nothing. One that becomes read-only under a writer, as ext4 does after an error of its own, fails the
# log, and what was acknowledged is there. Needs root, a loop device and ext4; else 77 and the reason.
set -euo pipefail

: "${WEIR:?the path of the weir command}"

skip() {
    echo "skipped: $*"
    exit 77
}
fail() {
    echo "FAIL: $*" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || skip "not root"
command -v mkfs.ext4 >/dev/null && command -v e2fsck >/dev/null || skip "no mkfs.ext4 or e2fsck"
# In a mount namespace of its own: a test beside this one that makes one would hold a copy of the mount, and the file
# system would live on, read-only, behind an umount.
if [ "${1:-}" != --inside ]; then
    unshare --mount true 2>/dev/null || skip "no mount namespace of our own here"
    exec unshare --mount bash "$0" --inside
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-read-only.XXXXXX")
clean_up() {
    cd /
    umount "$work/mnt" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
cd "$work"
mkdir mnt
truncate -s 300M image
mkfs.ext4 -q -F image
mount -o loop,errors=remount-ro image mnt 2>err || skip "a loop device cannot be mounted: $(cat err)"

# Names, lengths, times and bytes of the log.
state() {
    (cd "$1" && find . -type f -printf '%p %s %T@\n' -exec cksum {} + | sort)
}

echo "== a read-only mount"
seq 3000 | sed 's/$/ a line/' >lines
"$WEIR" ingest --segment 1M mnt/log lines >figures 2>err || fail "ingest: $(cat err)"
mount -o remount,ro mnt
state mnt/log >before
"$WEIR" cat mnt/log | cmp lines - || fail "other lines came back"
"$WEIR" verify mnt/log >verdict || fail "verify: $(cat verdict)"
"$WEIR" copy mnt/log copied >out || fail "copy: $(cat out)"
"$WEIR" cat copied | cmp lines - || fail "the copy differs"
"$WEIR" salvage mnt/log --to salvaged >out || fail "salvage: $(cat out)"
"$WEIR" cat salvaged | cmp lines - || fail "what was salvaged differs"
for dir in mnt/log mnt/other; do
    rc=0
    "$WEIR" ingest "$dir" lines >out 2>err || rc=$?
    [ "$rc" -eq 1 ] || fail "ingest into $dir on a read-only mount: exit status $rc"
    grep -q EROFS err || fail "ingest into $dir does not say EROFS: $(cat err)"
done
rc=0
"$WEIR" trim mnt/log --before 4096 >out 2>err || rc=$?
[ "$rc" -eq 1 ] || fail "trim on a read-only mount: exit status $rc: $(cat out err)"
grep -q EROFS err || fail "trim does not say EROFS: $(cat err)"
state mnt/log | cmp before - || fail "something changed on a read-only mount"
[ ! -e mnt/other ] || fail "a directory was made on a read-only mount"

mount -o remount,rw mnt
"$WEIR" ingest mnt/log lines >out 2>err || fail "ingest into a log that was read-only: $(cat err)"
[ "$("$WEIR" cat mnt/log | wc -l)" -eq 6000 ] || fail "not all lines are there"

echo "== one that becomes read-only under a writer"
device=$(findmnt -no SOURCE mnt)
trigger=/sys/fs/ext4/$(basename "$device")/trigger_fs_error
if [ ! -w "$trigger" ]; then
    echo "not shown: this kernel has no $trigger"
    echo "ok"
    exit 0
fi
for io in auto posix; do
    rm -rf mnt/log
    mkfifo input
    : >acks
    (exec 2>/dev/null; i=0; while echo "line $i"; do i=$((i + 1)); done) >input &
    producer=$!
    # The parent's shell must not hold the fifo; the acknowledgements go to another file system.
    timeout 120 "$WEIR" ingest --io $io --segment 64M --acks 3 mnt/log input >figures 2>err 3>acks &
    writer=$!
    while [ "$(wc -l <acks)" -lt 200 ]; do
        kill -0 $writer 2>/dev/null || fail "--io $io: ended by itself: $(cat err)"
        sleep 0.05
    done
    echo 1 >"$trigger"
    rc=0
    wait $writer || rc=$?
    wait $producer || true
    rm input
    [ "$rc" -eq 1 ] || fail "--io $io: exit status $rc of a writer whose file system became read-only: $(cat err)"
    grep -qE 'EROFS|EIO|WEIR_EFAILED' err || fail "--io $io: no reason: $(cat err)"
    cat err
    acknowledged=$(wc -l <acks)
    # A reader needs no file system that can be written to.
    "$WEIR" cat mnt/log >there 2>err || fail "--io $io: cat while it is read-only: $(cat err)"
    umount mnt
    for _ in $(seq 200); do
        [ -n "$(losetup -j image)" ] || break
        sleep 0.05
    done
    [ -z "$(losetup -j image)" ] || fail "--io $io: still attached after the umount: $(losetup -j image)"
    rc=0
    e2fsck -fy image >out 2>&1 || rc=$?
    [ "$rc" -le 2 ] || fail "--io $io: e2fsck: exit status $rc: $(cat out)"
    mount -o loop,errors=remount-ro image mnt
    for lines in there again; do
        [ "$lines" = there ] || "$WEIR" cat mnt/log >again
        awk 'BEGIN { i = 0 } $0 != "line " i++ { exit 1 }' $lines || fail "--io $io: $lines: not the lines that were appended"
        [ "$(wc -l <$lines)" -ge "$acknowledged" ] ||
            fail "--io $io: $lines: $acknowledged lines were acknowledged, $(wc -l <$lines) are there"
    done
    echo "--io $io: $acknowledged acknowledged, $(wc -l <again) there"
    echo more | "$WEIR" ingest mnt/log >figures 2>err || fail "--io $io: cannot go on: $(cat err)"
    [ "$("$WEIR" cat mnt/log | tail -n 1)" = more ] || fail "--io $io: what was appended afterwards is not the end"
    device=$(findmnt -no SOURCE mnt)
    trigger=/sys/fs/ext4/$(basename "$device")/trigger_fs_error
done
echo "ok"
