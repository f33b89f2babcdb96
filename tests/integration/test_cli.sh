#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The weir command from outside: help, complaints, exit codes, and what programs read. WEIR is the command.
set -euo pipefail

: "${WEIR:?the path of the weir command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-cli.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# status EXPECTED COMMAND...: runs it, output to out and err, and looks at its exit status.
status() {
    local expected=$1 got=0
    shift
    "$@" >out 2>err </dev/null || got=$?
    if [ "$got" -ne "$expected" ]; then
        cat out err >&2
        fail "exit status $got, not $expected: $*"
    fi
}

said() {
    grep -qF -- "$2" "$1" || { cat "$1" >&2; fail "$1 does not say: $2"; }
}

# is_json FILE: one object per line. Without python3 there is nothing to judge with.
is_json() {
    if ! command -v python3 >/dev/null; then
        echo "note: no python3, $1 not parsed"
        return 0
    fi
    python3 -c '
import json, sys
lines = open(sys.argv[1]).read().splitlines()
assert lines, "nothing printed"
for line in lines:
    assert isinstance(json.loads(line), dict), line
' "$1" || { cat "$1" >&2; fail "$1 is not JSON"; }
}

verbs="ingest cat dump verify explain salvage copy trim doctor bench iobench"

# ---- help and version
status 0 "$WEIR" --help
for verb in $verbs; do
    said out "$verb"
done
for verb in $verbs; do
    status 0 "$WEIR" "$verb" --help
    for word in "usage: weir $verb" "options:" "exit codes:" "  64  " "example:"; do
        said out "$word"
    done
    # Help wins over whatever stands before it, and touches nothing.
    status 0 "$WEIR" "$verb" never-made --help
    [ ! -e never-made ] || fail "weir $verb never-made --help made a directory"
done
status 0 "$WEIR" --version
grep -Eq '^weir [0-9]+\.[0-9]+\.[0-9]+ \(library [0-9]+\.[0-9]+\.[0-9]+\)$' out || fail "--version: $(cat out)"

# ---- complaints name what is wrong, and exit 64
status 64 "$WEIR"
status 64 "$WEIR" frobnicate
said err frobnicate
status 64 "$WEIR" --frobnicate
said err --frobnicate
for verb in $verbs; do
    status 64 "$WEIR" "$verb" --frobnicate
    said err "--frobnicate"
    [ -s out ] && fail "weir $verb complains on standard output"
done
complains() {
    local word=$1
    shift
    status 64 "$WEIR" "$@"
    said err "$word"
    [ ! -e log ] || fail "made a log: $*"
}
complains "--producers" ingest --producers 0 log
complains "--producers" ingest --producers many log
complains "--producers" ingest --producers -1 log
complains "--producers" ingest log --producers
complains "--wait" ingest --wait perhaps log
complains "--wait" ingest --wait= log
complains "--io" ingest --io=magic log
complains "--json" ingest --json=yes log
complains "--acks" ingest --acks 97 log
complains "--zero" ingest --zero --length-prefixed log
complains "--tag" ingest --tag blue log
complains "--segment" ingest --segment 64Q log
complains "DIR" ingest
complains "three" ingest log two three
complains "--from" cat --from here log
complains "--from" cat --from -1 log
complains "--format" cat --format xml log
complains "--zero" cat --format json --zero log
complains "nowhere" explain log nowhere
complains "--to" salvage log
complains "--before" trim log
complains "--before" trim log --before 0xq
complains "NEW" copy log
complains "--dir" bench
complains "--seconds" bench --dir log --seconds 0
complains "--async" bench --dir log --async --wait none
complains "--file" iobench
complains "--depth" iobench --file log --depth 0
complains "--depth" iobench --file log --depth 1025
complains "--batch" iobench --file log --batch 0
complains "--block" iobench --file log --block 100
complains "--block" iobench --file log --block 1000
complains "--backend" iobench --file log --backend magic
complains "--buffers" iobench --file log --buffers small
complains "--direct" iobench --file log --direct perhaps
complains "--sync-every" iobench --file log --sync-every 4
complains "--size" iobench --file log --size 1K

# ---- a directory without a log
status 1 "$WEIR" cat none
said err "weir cat: none: "
said err WEIR_ENOLOG
status 1 "$WEIR" dump none
status 1 "$WEIR" explain none
status 1 "$WEIR" trim none --before 1
status 1 "$WEIR" copy none other
status 1 "$WEIR" salvage none --to other
status 3 "$WEIR" verify none
[ ! -e none ] || fail "reading made a directory"
status 1 "$WEIR" ingest log no-such-file
said err no-such-file
[ ! -e log ] || fail "a missing input made a log"

# ---- a log of 1,000 records
seq 1000 >lines
"$WEIR" ingest --producers 3 --tag line log lines >out || fail "ingest"
for word in "records " "1,000" "durable records/s" "p99.9" "stalls"; do
    said out "$word"
done
"$WEIR" ingest --json log lines >out || fail "ingest --json"
is_json out
said out '"records":1000,'
[ "$(wc -l <out)" -eq 1 ] || fail "ingest --json prints more than a line"

status 0 "$WEIR" verify log
said out "clean"
said out "2,000"
status 0 "$WEIR" verify --cached log
said out "clean"
said out "2,000"
status 0 "$WEIR" verify --cached --json log
is_json out
said out '"bytes_cached":'
status 0 "$WEIR" verify --json log
is_json out
said out '"bytes_cached":0,'
said out '"verdict":"clean"'
said out '"records":2000,'
end_lsn=$(sed -E 's/.*"end_lsn":([0-9]+).*/\1/' out)

status 0 "$WEIR" explain log
said out "at the end: LSN $end_lsn"
status 0 "$WEIR" explain --json log
is_json out

# ---- from, to, count
"$WEIR" cat --format json log >all
is_json all
[ "$(wc -l <all)" -eq 2000 ] || fail "cat shows $(wc -l <all) records"
lsn_of() {
    sed -n "${1}p" all | sed -E 's/^\{"lsn":([0-9]+),.*/\1/'
}
third=$(lsn_of 3)
sixth=$(lsn_of 6)
"$WEIR" cat --format json --from "$third" --to "$sixth" log | cmp - <(sed -n 3,5p all) || fail "--from --to"
"$WEIR" cat --format json --from "$((third + 1))" --count 2 log | cmp - <(sed -n 4,5p all) || fail "--count"
"$WEIR" cat --format json --from "$(printf '0x%x' "$third")" --count 1 log | cmp - <(sed -n 3p all) || fail "0x"
[ -z "$("$WEIR" cat --count 0 log)" ] || fail "--count 0"
[ -z "$("$WEIR" cat --from "$end_lsn" log)" ] || fail "--from the end"

status 0 "$WEIR" explain log "$third"
said out "record   LSN $third"
status 0 "$WEIR" explain --json log "$((third + 1))"
is_json out
said out "\"record\":{\"lsn\":$third,"

# ---- dump
"$WEIR" dump --count 3 log >out
said out "segment 0000000000000000-"
said out "batch LSN "
[ "$(grep -c '^    record LSN ' out)" -eq 3 ] || fail "dump --count 3"
echo "a secret line" | "$WEIR" ingest secret >/dev/null || fail "ingest secret"
"$WEIR" dump secret >out
said out "record LSN "
grep -q secret.line out && fail "dump shows payload that nobody asked for"
"$WEIR" dump --json --payload --count 1 --from "$third" log >out
is_json out
payload=$("$WEIR" cat --from "$third" --count 1 log | tr -d '\n' | od -An -tx1 | tr -d ' \n')
said out "\"payload_hex\":\"$payload\""
"$WEIR" dump --json log >out
[ "$(grep -c '"kind":"record"' out)" -eq 2000 ] || fail "dump shows $(grep -c '"kind":"record"' out) records"
grep -q payload out && fail "payload without --payload"

# ---- output that cannot be written, and a reader that leaves
if [ -e /dev/full ]; then
    rc=0
    "$WEIR" cat log >/dev/full 2>err || rc=$?
    [ "$rc" -eq 1 ] || fail "cat to a full device: exit status $rc"
    said err "standard output"
    rc=0
    "$WEIR" verify log >/dev/full 2>err || rc=$?
    [ "$rc" -ne 0 ] || fail "verify to a full device: exit status 0"
fi
# A reader that goes away: quiet, however often and wherever the write fails. With more than a pipe and a buffer hold.
seq -f '%0200.0f' 20000 | "$WEIR" ingest --wait none --producers 1 long >/dev/null
for verb in "cat log" "cat long" "cat --format json long" "dump long" "dump --json --payload long"; do
    for bytes in 1 70000 400000; do
        # shellcheck disable=SC2086
        { "$WEIR" $verb 2>err || echo "$?" >rc; } | head -c "$bytes" >out
        [ ! -e rc ] || fail "$verb into head -c $bytes: exit status $(cat rc): $(cat err)"
        [ ! -s err ] || fail "$verb into head -c $bytes: $(cat err)"
    done
done

# ---- copy, trim
status 0 "$WEIR" copy log backup
"$WEIR" cat --format json backup | sed -E 's/"epoch":[0-9]+,//' >copied
sed -E 's/"epoch":[0-9]+,//' all | cmp - copied || fail "the copy differs"
status 0 "$WEIR" verify backup
status 1 "$WEIR" copy log backup
said err "weir copy: log: "
status 0 "$WEIR" copy --json log backup2
is_json out
said out '"records":2000,'

status 1 "$WEIR" trim backup --before $((end_lsn + 1000000))
said err "above the end"
status 0 "$WEIR" trim --json backup --before "$sixth"
is_json out
said out "\"oldest_lsn\":$sixth,"
[ "$("$WEIR" cat backup | wc -l)" -eq 1995 ] || fail "after the trim: $("$WEIR" cat backup | wc -l) records"
status 1 "$WEIR" cat --from "$third" backup
said err WEIR_EPASSED

# ---- damage below the promise of a clean close: corrupt, named, salvaged
cp -r log bad
segment=$(find bad -name '0000000000000000-*.weir')
printf 'damage' | dd of="$segment" bs=1 seek=$((third + 1)) conv=notrunc status=none
status 2 "$WEIR" verify bad
said out "corrupt"
status 2 "$WEIR" verify --json bad
is_json out
said out '"verdict":"corrupt"'
said out '"error":{'
status 0 "$WEIR" explain bad
said out "weir salvage"
status 1 "$WEIR" cat bad
said err "weir cat: bad: "
said err WEIR_ECORRUPT
said err "file 0000000000000000-"
said err "offset "
status 0 "$WEIR" salvage bad --to saved
said out "gap "
status 0 "$WEIR" verify saved
status 0 "$WEIR" salvage --json bad --to saved2
is_json out
said out '"from_lsn":'
status 1 "$WEIR" salvage bad --to saved

# ---- doctor
status 0 "$WEIR" doctor .
for word in "kernel" "io_uring" "file system" "O_DIRECT" "memlock" "memory" "durable write" "auto"; do
    said out "$word"
done
grep -Eq '^policy +default: waiting producers yield from [0-9]+ on, up to [0-9]+ are collected; [0-9]+ cores$' out ||
    fail "doctor does not tell how producers wait: $(grep policy out)"
for field in backend sq_entries cq_entries threads kernel_poll sq_poll_idle_ms max_inflight direct_io \
    registered_buffers buffer_bytes refused; do
    grep -Eq "^  $field  +[^ ]" out || fail "doctor does not tell $field of the effective config"
done
status 0 "$WEIR" doctor --json
is_json out
grep -Eq '"io_config":\{"backend":"(uring|posix)","sq_entries":[0-9]+,"cq_entries":[0-9]+,"threads":[0-9]+,"kernel_poll":false,"sq_poll_idle_ms":0,"max_inflight":256,"direct_io":false,"registered_buffers":[0-9]+,"buffer_bytes":65536,"refused":".*"\}' out ||
    fail "doctor --json has another io_config: $(cat out)"
grep -Eq '"policy":"default","cores":[0-9]+,"yield_from":[0-9]+,"collect_max":[0-9]+,' out ||
    fail "doctor --json does not tell how producers wait: $(cat out)"
[ "$(wc -l <out)" -eq 1 ] || fail "doctor --json prints more than a line"
status 1 "$WEIR" doctor no-such-directory

# ---- bench: one line, these keys, in this order, and nothing left behind
lat='"lat_us": "p50": "p90": "p99": "p99_9": "max":'
ack='"ack_us": "p50": "p90": "p99": "p99_9": "max":'
head='"engine": "version": "io": "policy": "producers": "size": "wait": "async": "seconds": "records": "ops_per_s": "mb_per_s":'
tail='"cpu_s": "batches": "stalls": "segments_prefilled": "segments_recycled": "bytes_padding": "bytes_on_disk": "memory_peak": "memory_bound":'
keys_are() {
    [ "$(wc -l <out)" -eq 1 ] || fail "bench --json prints $(wc -l <out) lines"
    is_json out
    local keys
    keys=$(grep -oE '"[a-z0-9_]+":' out | tr '\n' ' ')
    [ "$keys" = "$1 " ] || fail "bench --json has the keys $keys, not $1"
    grep -qE '"records":[1-9]' out || fail "bench --json has no records: $(cat out)"
}
bench=("$WEIR" bench --dir bench --producers 2 --seconds 0.2 --segment 1M --retain 1M --json)
status 0 "${bench[@]}"
keys_are "$head $lat $tail"
status 0 "${bench[@]}" --async --size 1000
keys_are "$head $lat $ack $tail"
said out '"async":true'
status 0 "${bench[@]}" --async --group 4 --rotation-tail
keys_are "$head $lat $ack $tail \"rotation\": \"count\": \"near_p99_9\": \"rest_p99_9\": \"ratio\":"
[ ! -e bench ] || fail "bench left its directory"
mkdir bench
status 0 "$WEIR" bench --dir bench --seconds 0.1 --wait none --size 0
said out "records/s"
[ -d bench ] || fail "bench removed a directory that it did not make"
[ -z "$(ls bench)" ] || fail "bench left $(ls bench)"
status 0 "$WEIR" bench --dir bench --seconds 0.1 --keep
status 0 "$WEIR" verify bench
before=$(ls bench)
status 64 "$WEIR" bench --dir bench
said err "not empty"
[ "$(ls bench)" = "$before" ] || fail "bench touched a directory that was not empty"

# ---- iobench: one line, these keys, and nothing left behind
head='"engine": "version": "backend": "reason": "file": "size": "block": "pattern": "rw": "depth": "batch": "direct": "sync_every": "buffers": "seconds": "ops": "iops": "mb_per_s":'
tail='"cpu_s": "cqe_overflows": "sq_dropped": "fio":'
lat='"lat_us": "p50": "p90": "p99": "p99_9": "max":'
sync='"sync_us": "p50": "p90": "p99": "p99_9": "max":'
io_keys_are() {
    is_json out
    [ "$(wc -l <out)" -eq 1 ] || fail "iobench --json prints $(wc -l <out) lines"
    local keys
    keys=$(grep -oE '"[a-z0-9_]+":' out | tr '\n' ' ')
    [ "$keys" = "$1 " ] || fail "iobench --json has the keys $keys, not $1"
    grep -qE '"ops":[1-9]' out || fail "iobench --json has no operations: $(cat out)"
    said out '"cqe_overflows":0,"sq_dropped":0,'
}
backends=posix
"$WEIR" doctor --json . | grep -q '"io_uring":true' && backends="uring posix"
io=("$WEIR" iobench --file scratch --size 1M --seconds 0.1 --direct no --fio no)
for backend in $backends; do
    for depth in 1 8; do
        status 0 "${io[@]}" --backend "$backend" --depth "$depth" --json
        io_keys_are "$head $lat \"syncs\": $tail"
        said out "\"backend\":\"$backend\","
        said out "\"depth\":$depth,\"batch\":1,\"direct\":false,\"sync_every\":0,\"buffers\":\"plain\","
        said out '"syncs":0,'
        status 0 "${io[@]}" --backend "$backend" --depth "$depth" --json --rw write --sync-every 2 --pattern sequential \
            --buffers registered --block 8K --batch 4
        io_keys_are "$head $lat \"syncs\": $sync $tail"
        said out '"block":8192,"pattern":"sequential","rw":"write",'
        # A sync for every two writes; the window ends anywhere.
        ops=$(sed -E 's/.*"ops":([0-9]+).*/\1/' out) syncs=$(sed -E 's/.*"syncs":([0-9]+).*/\1/' out)
        if [ "$syncs" -gt "$((ops / 2))" ] || [ "$syncs" -lt "$((ops / 2 - 1))" ]; then
            fail "$syncs syncs for $ops writes"
        fi
    done
    [ ! -e scratch ] || fail "iobench left its file"
done
status 0 "${io[@]}"
for word in "IOPS" "MB/s" "p50" "p90" "p99" "p99.9" "max" "backend" "1 MiB"; do
    said out "$word"
done
# O_DIRECT, or a sentence that says how to do without.
rc=0
"$WEIR" iobench --file scratch --size 1M --seconds 0.1 --fio no >out 2>err || rc=$?
[ "$rc" -eq 0 ] || { [ "$rc" -eq 1 ] && said err "--direct no"; } || fail "iobench with O_DIRECT: exit status $rc"
[ ! -e scratch ] || fail "iobench left its file"
# A file that is there: read, not written, not removed, as it was.
status 0 "${io[@]}" --keep
[ "$(stat -c %s scratch)" -eq 1048576 ] || fail "--keep did not, or not all of it"
before=$(sha256sum scratch)
status 0 "$WEIR" iobench --file scratch --seconds 0.1 --direct no --fio no
said out "1 MiB"
status 64 "${io[@]}" --rw write
said err "--overwrite"
status 64 "$WEIR" iobench --file scratch --size 2M --fio no
said err "--size"
[ "$(sha256sum scratch)" = "$before" ] || fail "iobench wrote to a file that it may only read"
status 0 "${io[@]}" --rw write --overwrite --pattern sequential
[ -e scratch ] || fail "iobench removed a file that it did not make"
[ "$(stat -c %s scratch)" -eq 1048576 ] || fail "--overwrite changed the length"
status 64 "$WEIR" iobench --file .
status 1 "$WEIR" iobench --file no-such-directory/file --fio no
# fio is run where it is, and told of where it is not.
if command -v fio >/dev/null; then
    # Where its io_uring engine is refused: a failure that says so, with the rest printed.
    rc=0
    "${io[@]}" --fio yes --json --depth 2 >out 2>err || rc=$?
    is_json out
    if [ "$rc" -eq 0 ]; then
        grep -qE '"fio":\[\{"engine":"io_uring","iops":[0-9.]+,.*"ratio":[0-9.]+\}\]' out || fail "no ratio: $(cat out)"
    else
        said out '"engine":"io_uring","error":'
        said err "fio"
    fi
fi
mkdir nothing
PATH=$PWD/nothing status 0 "${io[@]}" --json
said out '"fio":[]'

echo "ok"
