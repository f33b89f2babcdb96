#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What goes in comes out: weir ingest and weir cat in the three framings, each producer's records in their order,
# acknowledgements that are true when they are written, and a reader beside a writer. WEIR is the command.
set -euo pipefail

: "${WEIR:?the path of the weir command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-cli.XXXXXX")
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

# until_true WHAT COMMAND...: for at most a minute. No test depends on how long it takes.
until_true() {
    local what=$1
    shift
    for ((i = 0; i < 1200; i++)); do
        if "$@"; then
            return 0
        fi
        sleep 0.05
    done
    fail "did not happen within a minute: $what"
}

# ---- one producer keeps the order, so the stream itself comes back
round_trip() {
    local name=$1 file=$2
    shift 2
    "$WEIR" ingest "$@" "log.$name" "$file" >figures || fail "ingest of $name"
    "$WEIR" cat "$@" "log.$name" >came || fail "cat of $name"
    cmp "$file" came || fail "$name came back changed"
    "$WEIR" ingest "$@" "log.$name.stdin" <"$file" >figures || fail "ingest of $name from standard input"
    "$WEIR" cat "$@" "log.$name.stdin" | cmp "$file" - || fail "$name from standard input came back changed"
    "$WEIR" verify "log.$name" >verdict || fail "verify of $name: $(cat verdict)"
}

: >nothing
round_trip nothing nothing
[ -z "$("$WEIR" cat log.nothing)" ] || fail "records out of an empty file"
printf '\n\n\n' >empty
round_trip empty empty
printf 'a\0b\n\0\n\nc\377\376\r\n\001\n' >binary
round_trip binary binary
head -c 300000 /dev/urandom >noise
printf '\n' >>noise
round_trip noise noise
head -c 3000000 /dev/zero | tr '\0' 'x' >long
printf '\n' >>long
round_trip long long
printf '\0\0one\0two\nlines\0\0' >zero
round_trip zero zero --zero
printf '\0\0\0\0\5\0\0\0a\nb\0c\1\0\0\0\n\0\0\0\0' >prefixed
round_trip prefixed prefixed --length-prefixed
[ "$("$WEIR" cat --format json log.prefixed | wc -l)" -eq 4 ] || fail "length-prefixed: not four records"

# The last line may lack its newline; it is a record all the same.
printf 'one\ntwo' | "$WEIR" ingest log.last >figures
"$WEIR" cat log.last | cmp - <(printf 'one\ntwo\n') || fail "the last line without a newline"
# A length-prefixed stream that ends inside a record is an error; what came before is kept.
rc=0
printf '\1\0\0\0x\5\0\0\0abc' | "$WEIR" ingest --length-prefixed log.cut >figures 2>err || rc=$?
[ "$rc" -eq 1 ] || fail "a cut stream: exit status $rc"
grep -q 'ends inside record 1' err || fail "a cut stream: $(cat err)"
[ "$("$WEIR" cat log.cut)" = x ] || fail "a cut stream lost the record before"
# A record beyond the limit is an error that names it.
rc=0
{ echo short; head -c 100000 /dev/zero | tr '\0' 'x'; } | "$WEIR" ingest --record-max 64K log.big >figures 2>err || rc=$?
[ "$rc" -eq 1 ] || fail "a record too big: exit status $rc"
grep -q 'record 1 ' err || fail "a record too big: $(cat err)"

# ---- JSON: text as text, everything else as base64
if command -v python3 >/dev/null; then
    # shellcheck disable=SC2094
    "$WEIR" cat --format json log.binary >json
    python3 -c '
import base64, json, sys
out = b""
for line in open(sys.argv[1], encoding="utf-8"):
    record = json.loads(line)
    data = record["data"].encode() if "data" in record else base64.b64decode(record["data_base64"], validate=True)
    assert len(data) == record["bytes"], record
    out += data + b"\n"
sys.stdout.buffer.write(out)
' json | cmp - binary || fail "JSON of binary records"
    grep -q data_base64 json || fail "bytes that are not UTF-8 came as text"
fi

# ---- many producers: the same multiset, each producer's in order, for each way and each wait
seq 20000 | sed 's/$/ some words behind the number/' >lines
sort lines >lines.sorted
for io in auto chain dsync posix; do
    for wait in durable written none; do
        rc=0
        "$WEIR" ingest --producers 64 --io $io --wait $wait "log.$io.$wait" lines >figures 2>err || rc=$?
        if [ $rc -ne 0 ]; then
            # A machine without io_uring refuses what demands it, and says so.
            if [ $io != auto ] && [ $io != posix ] && grep -qi 'io_uring' err; then
                echo "note: $io refused here: $(cat err)"
                break
            fi
            fail "ingest --io $io --wait $wait: $(cat err)"
        fi
        "$WEIR" cat "log.$io.$wait" | sort | cmp lines.sorted - || fail "$io $wait: other lines came back"
        # The tag: producer above bit 48, line below. Line i went to producer i mod 64, and grows within each.
        "$WEIR" cat --format json "log.$io.$wait" | sed -E 's/.*"tag":([0-9]+),.*"data":"([0-9]+) .*/\1 \2/' |
            while read -r tag number; do
                echo $((tag >> 48)) $((tag & 0xffffffffffff)) "$number"
            done | awk '
                $1 != $2 % 64 || $3 != $2 + 1 { print "wrong tag: " $0; exit 1 }
                ($1 in last) && $2 <= last[$1] { print "out of order: " $0; exit 1 }
                { last[$1] = $2; count++ }
                END { if (count != 20000) { print "records: " count; exit 1 } }' ||
            fail "$io $wait: order within a producer"
        rm -r "log.$io.$wait"
    done
done

# ---- acknowledgements: each record once, at the LSN where it stands
for wait in durable written none; do
    "$WEIR" ingest --producers 8 --tag line --wait $wait --acks 5 log.acks lines 5>acks >figures || fail "--acks"
    [ "$(wc -l <acks)" -eq 20000 ] || fail "--wait $wait: $(wc -l <acks) acknowledgements"
    "$WEIR" cat --format json log.acks | sed -E 's/^\{"lsn":([0-9]+),"epoch":[0-9]+,"tag":([0-9]+),.*/\1 \2/' >stands
    sort acks | cmp - <(sort stands) || fail "--wait $wait: acknowledged LSNs are not those in the log"
    if [ $wait = none ]; then
        sort -n -k1,1 -c acks || fail "--wait none: acknowledgements out of order"
    fi
    rm -r log.acks
done
# On standard output there are acknowledgements and nothing else.
seq 5 | "$WEIR" ingest --acks 1 log.acks1 2>figures >acks
[ "$(grep -cE '^[0-9]+ [0-4]$' acks)" -eq 5 ] || fail "--acks 1: $(cat acks)"
[ "$(wc -l <acks)" -eq 5 ] || fail "--acks 1 carries more than acknowledgements: $(cat acks)"
grep -q 'durable records/s' figures || fail "--acks 1: the figures are not on standard error"
# A reader of acknowledgements that goes away costs the exit status, not the records.
rc=0
{ "$WEIR" ingest --acks 5 log.gone lines 5>&1 >figures 2>err || echo $? >rc; } | true
[ "$(cat rc 2>/dev/null)" = 1 ] || fail "acknowledgements without a reader: $(cat rc 2>/dev/null)"
grep -q -- '--acks 5' err || fail "acknowledgements without a reader: $(cat err)"
[ "$("$WEIR" cat log.gone | wc -l)" -eq 20000 ] || fail "acknowledgements without a reader: records are missing"

# ---- a slow writer, fed by hand: nothing is acknowledged early, and a follower shows each record at once
mkfifo feed acks.pipe
exec 7<>acks.pipe # both ways, so that opening it waits for nobody
"$WEIR" ingest --tag line --acks 5 log.slow feed 5>acks.pipe 7<&- >figures 2>err &
writer=$!
pids+=("$writer")
exec 6>feed
until_true "the log exists" test -e log.slow/weir.control
follower=""
: >followed
for ((n = 0; n < 20; n++)); do
    if read -r -t 0 -u 7; then
        fail "an acknowledgement before record $n was given"
    fi
    echo "record $n" >&6
    read -r -t 60 -u 7 lsn line || fail "no acknowledgement of record $n"
    [ "$line" -eq $n ] || fail "acknowledged record $line, not $n"
    # At this moment it is durable: another process sees it as such.
    shown=$("$WEIR" cat --level durable --from "$lsn" --count 1 log.slow)
    [ "$shown" = "record $n" ] || fail "acknowledged record $n is not durable: $shown"
    if [ -z "$follower" ]; then
        "$WEIR" cat --follow log.slow >followed 2>follow.err 6>&- 7<&- &
        follower=$!
        pids+=("$follower")
    fi
    until_true "the follower shows record $n" grep -qx "record $n" followed
done
"$WEIR" cat --follow --count 3 log.slow | cmp - <(printf 'record %d\n' 0 1 2) || fail "--follow --count 3"
# A second writer is refused, and trimming is the writer's.
rc=0
echo x | "$WEIR" ingest log.slow >out 2>second || rc=$?
[ "$rc" -eq 1 ] || fail "a second writer: exit status $rc"
grep -q EBUSY second || fail "a second writer: $(cat second)"
rc=0
"$WEIR" trim log.slow --before 4096 >out 2>second || rc=$?
[ "$rc" -eq 1 ] || fail "trim beside a writer: exit status $rc"
grep -q 'only its writer' second || fail "trim beside a writer: $(cat second)"
"$WEIR" copy log.slow log.backup >out || fail "copy beside a writer"
"$WEIR" cat log.backup | cmp - <(seq -f 'record %g' 0 19) || fail "the copy beside a writer"
exec 6>&-
wait "$writer" || fail "the writer: $(cat err)"
kill -INT "$follower"
wait "$follower" || fail "the follower did not end cleanly: $(cat follow.err)"
cmp followed <(seq -f 'record %g' 0 19) || fail "the follower shows something else"
exec 7<&-

# ---- a signal ends an endless input: what was read is there
"$WEIR" ingest log.signal feed >figures 2>err &
writer=$!
pids+=("$writer")
exec 6>feed
echo first >&6
first_is_there() {
    [ "$("$WEIR" cat log.signal 2>/dev/null)" = first ]
}
until_true "the record is durable" first_is_there
kill -TERM "$writer"
rc=0
wait "$writer" || rc=$?
exec 6>&-
[ "$rc" -eq 1 ] || fail "ended by a signal: exit status $rc"
grep -q signal err || fail "ended by a signal: $(cat err)"
"$WEIR" verify log.signal >verdict || fail "ended by a signal: $(cat verdict)"
[ "$("$WEIR" cat log.signal)" = first ] || fail "ended by a signal: the record is missing"

# ---- killed: opened again, everything acknowledged is there
"$WEIR" ingest --producers 8 --acks 5 --tag line log.killed feed 5>acks >figures 2>err &
writer=$!
pids+=("$writer")
seq 1000000 >feed 2>/dev/null &
feeder=$!
pids+=("$feeder")
enough_acks() {
    [ "$(wc -l <acks)" -ge 500 ]
}
until_true "some acknowledgements" enough_acks
kill -9 "$writer"
wait "$writer" 2>/dev/null || true
wait "$feeder" 2>/dev/null || true
rc=0
"$WEIR" verify log.killed >verdict || rc=$?
[ "$rc" -le 1 ] || fail "killed: $(cat verdict)"
echo behind | "$WEIR" ingest log.killed >figures 2>err || fail "killed: cannot be opened: $(cat err)"
"$WEIR" cat --format json log.killed | sed -E 's/^\{"lsn":([0-9]+),"epoch":[0-9]+,"tag":([0-9]+),.*/\1 \2/' | sort >stands
# The last line may be half written.
grep -E '^[0-9]+ [0-9]+$' <(sed '$d' acks) | sort | comm -23 - stands >missing
[ ! -s missing ] || fail "killed: acknowledged and not there: $(head -n 3 missing)"
[ "$("$WEIR" cat log.killed | tail -n 1)" = behind ] || fail "killed: the record behind is not the last"

echo "ok"
