#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A log has one writer: the second is refused with an error that says so, whatever it asks for, and the first goes on as
# if nothing had been; when the first is gone, killed or closed, the next one gets in.
set -euo pipefail

: "${WEIR:?the path of the weir command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-two.XXXXXX")
pids=()
cleanup() {
    for pid in "${pids[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# first_start: weir ingest in the background, fed through descriptor 6, acknowledging on descriptor 7.
first_start() {
    rm -f feed acks
    mkfifo feed acks
    # Opened for both directions, so that no opening waits for the other end.
    exec 6<>feed 7<>acks
    "$WEIR" ingest --tag line --acks 5 log feed 5>acks >first.out 2>first.err 6>&- 7>&- &
    first=$!
    pids+=("$first")
}

# first_appends TEXT NUMBER: gives it a line and waits for its acknowledgement.
first_appends() {
    echo "$1" >&6
    read -r -t 60 -u 7 _ line || fail "the first writer does not acknowledge: $(cat first.err)"
    [ "$line" -eq "$2" ] || fail "the first writer acknowledged record $line, not $2"
}

# second_is_refused COMMAND...: exit status 1, and the reason on standard error.
second_is_refused() {
    local rc=0
    timeout 60 "$@" </dev/null >out 2>err || rc=$?
    [ "$rc" -eq 1 ] || fail "$*: exit status $rc, not 1: $(cat err)"
    grep -q 'EBUSY' err || fail "$*: the error does not say EBUSY: $(cat err)"
    [ "$(wc -l <err)" -eq 1 ] || fail "$*: more than one line: $(cat err)"
}

first_start
first_appends "one" 0

echo "== a second writer while the first is alive"
echo "two" >lines
for io in auto posix; do
    second_is_refused "$WEIR" ingest --io $io log lines
    cat err
done
grep -qiE 'lock|writer|open' err || fail "the error does not say who is in the way: $(cat err)"
second_is_refused "$WEIR" trim log --before 4096
second_is_refused "$WEIR" salvage log --to saved
# By another name it is the same log.
second_is_refused "$WEIR" ingest "$work/../${work##*/}/./log/" lines

echo "== the first goes on"
for ((n = 1; n <= 3; n++)); do
    second_is_refused "$WEIR" ingest log lines
    first_appends "line $n" "$n"
done

echo "== stopped, it still has the log; killed, it has it no more"
kill -STOP "$first"
second_is_refused "$WEIR" ingest log lines
kill -CONT "$first"
first_appends "line 4" 4
kill -9 "$first"
wait "$first" 2>/dev/null || true
exec 6>&- 7<&-
"$WEIR" ingest log lines >out 2>err || fail "the second writer after the first was killed: $(cat err)"

echo "== many at once: each gets in or is refused, nothing is lost"
for ((n = 0; n < 4; n++)); do
    {
        for ((k = 0; k < 5; k++)); do
            rc=0
            echo "writer $n record $k" | timeout 120 "$WEIR" ingest log >/dev/null 2>"err.$n" || rc=$?
            if [ "$rc" -eq 0 ]; then
                echo "writer $n record $k"
            elif [ "$rc" -ne 1 ] || ! grep -q EBUSY "err.$n"; then
                echo "broken: writer $n record $k: $rc $(cat "err.$n")"
            fi
        done >"won.$n"
    } &
    pids+=("$!")
done
wait
! grep -h '^broken' won.* || fail "a writer was neither let in nor refused with EBUSY"
[ -n "$(cat won.*)" ] || fail "no writer got in"
"$WEIR" verify log >out || fail "verify: $(cat out)"
{
    printf 'one\n'
    seq -f 'line %g' 1 4
    echo two
    cat won.*
} | sort >expected
"$WEIR" cat log | sort | cmp expected - || fail "the log does not hold what was accepted"
echo "let in: $(cat won.* | wc -l) of 20"
echo "ok"
