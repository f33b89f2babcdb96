#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Damaged directories: each verdict from weir verify and weir explain, with its exit status and its evidence; what a
# writer does with each; salvage of those that cannot be opened: every record outside of the listed gaps is there, at
# its LSN, nothing else is, and no byte of the damaged log was touched.
set -euo pipefail
export LC_ALL=C

: "${WEIR:?the path of the weir command}"
: "${WEIR_STRESS:?the path of the weir-stress command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-damage.XXXXXX")
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

member() {
    grep -oE "\"$2\":[0-9]+" "$1" | sed -n 1p | cut -d: -f2
}

# verdict_is WORD STATUS DIR: what verify and explain say. Leaves verify's JSON in "verdict.json".
verdict_is() {
    local word=$1 status=$2 dir=$3 rc=0
    "${under[@]}" "$WEIR" verify --json "$dir" >verdict.json 2>err || rc=$?
    grep -q "\"verdict\":\"$word\"" verdict.json || fail "$dir: not $word: $(cat verdict.json err)"
    [ "$rc" -eq "$status" ] || fail "$dir: verify of a $word log: exit status $rc, not $status"
    rc=0
    "${under[@]}" "$WEIR" verify "$dir" >verdict 2>err || rc=$?
    [ "$rc" -eq "$status" ] || fail "$dir: verify without --json: exit status $rc, not $status"
    grep -q "^$word: " verdict || fail "$dir: verify does not begin with $word: $(cat verdict)"
    rc=0
    "${under[@]}" "$WEIR" explain "$dir" >explained 2>err || rc=$?
    [ "$rc" -eq 0 ] || fail "$dir: explain: exit status $rc: $(cat err)"
    grep -q "^$word: " explained || fail "$dir: explain does not say $word: $(cat explained)"
    echo "$dir: $(head -n 1 verdict)"
}
under=()

sums() {
    (cd "$1" && sha256sum -- *)
}

# The same without the live page: a writer that is refused has marked it not valid before it looked at the log. It is a
# hint for readers, never evidence.
log_sums() {
    sums "$1" | grep -v ' weir\.live$'
}

# Records of a log as "LSN TAG BYTES TEXT", without the epoch.
records_of() {
    "$WEIR" cat --format json "$1" | sed -E 's/"epoch":[0-9]+,//'
}

# A writer that is killed while it is idle: everything that it was given is acknowledged.
killed_writer() {
    local dir=$1 count=$2
    shift 2
    rm -f feed acks
    mkfifo feed acks
    # Opened for both directions, so that no opening waits for the other end.
    exec 6<>feed 7<>acks
    "$WEIR" ingest --tag line --acks 5 "$@" "$dir" feed 5>acks >out 2>err 6>&- 7>&- &
    local writer=$!
    pids+=("$writer")
    for ((n = 0; n < count; n++)); do
        [ -z "${filler:-}" ] || printf '%s' "$filler" >&6
        echo "late $n" >&6
        read -r -t 60 -u 7 last_lsn _ || fail "no acknowledgement: $(cat err)"
    done
    kill -9 "$writer"
    wait "$writer" 2>/dev/null || true
    exec 6>&- 7>&-
    # Its lock is gone with its last operation.
    for ((i = 0; i < 600; i++)); do
        "$WEIR" verify --json "$dir" >verdict.json || true
        grep -q '"writer_live":true' verdict.json || return 0
        sleep 0.1
    done
    fail "the lock of a killed writer stays"
}

segment_of() {
    echo "$1/$(printf '%016x' "$2")"-*.weir
}

# place LSN DIR: file and offset of an LSN, by weir explain.
place() {
    "$WEIR" explain "$2" "$1" | sed -nE 's/^ +file +([^,]+), offset ([0-9]+)$/\1 \2/p' | sed -n 1p
}

# smash DIR LSN: other bytes at an LSN.
smash() {
    local file offset
    read -r file offset <<<"$(place "$2" "$1")"
    printf 'smashed' | dd of="$1/$file" bs=1 seek="$offset" conv=notrunc status=none
}

seq 60000 | sed 's/$/ some words behind the number/' >lines

# ---------------------------------------------------------------------------------------------------- clean
"$WEIR" ingest --segment 1M --producers 4 --wait none whole lines >out
verdict_is clean 0 whole
records_of whole >whole.records
[ "$(ls whole/*.weir | wc -l)" -ge 4 ] || fail "the log has only $(ls whole/*.weir | wc -l) segments"

# Killed right behind the last acknowledgement, so that nothing promises the last batch. An idle writer promises it
# after a second: on a machine that stalls for so long, once more.
for ((attempt = 0; attempt < 20; attempt++)); do
    rm -rf killed
    killed_writer killed 5
    [ "$(member verdict.json promise_lsn)" -gt "$last_lsn" ] || break
done
verdict_is clean 0 killed
[ "$(member verdict.json promise_lsn)" -le "$last_lsn" ] || fail "killed: the last batch is promised every time"
grep -q 'zeros' verdict || fail "a killed idle writer leaves zeros: $(cat verdict)"

# ---------------------------------------------------------------------------------------------------- torn
# The last batch, which nothing promises, does not verify any more: it is cut, the others stay, and the log goes on.
cp -r killed torn
smash torn $((last_lsn + 24))
verdict_is torn 1 torn
[ "$(member verdict.json end_lsn)" -le "$last_lsn" ] || fail "torn: the end lies behind the damage"
[ "$("$WEIR" cat torn | wc -l)" -eq 4 ] || fail "torn: $("$WEIR" cat torn | wc -l) records, not 4"
echo "after" | "$WEIR" ingest torn >out 2>err || fail "torn: cannot be opened: $(cat err)"
"$WEIR" cat torn | cmp - <(printf 'late %d\n' 0 1 2 3 && echo after) || fail "torn: other records"
verdict_is clean 0 torn

# Bytes behind the end, as of a write that was cut short.
cp -r killed garbage
end=$(sed -E 's/.*"end_lsn":([0-9]+).*/\1/' <("$WEIR" verify --json garbage))
smash garbage "$end"
verdict_is torn 1 garbage
[ "$(member verdict.json end_lsn)" -eq "$end" ] || fail "garbage: the end moved"
echo "after" | "$WEIR" ingest garbage >out 2>err || fail "garbage: cannot be opened: $(cat err)"
"$WEIR" cat garbage | cmp - <(printf 'late %d\n' 0 1 2 3 4 && echo after) || fail "garbage: other records"

# ---------------------------------------------------------------------------------------------------- stale
# Trimmed segments are recycled: behind the end stand batches of their earlier use.
cp -r whole stale
"$WEIR" trim stale --before "$(member <("$WEIR" verify --json stale) end_lsn)" >out
filler=$(head -c 100000 /dev/zero | tr '\0' 'x')
killed_writer stale 15
filler=
"$WEIR" dump stale >dumped
verdict_is stale 0 stale
grep -q 'earlier use' verdict || fail "stale: $(cat verdict)"
[ "$("$WEIR" cat stale | wc -l)" -eq 15 ] || fail "stale: $("$WEIR" cat stale | wc -l) records, not 15"
echo "after" | "$WEIR" ingest stale >out 2>err || fail "stale: cannot be opened: $(cat err)"
[ "$("$WEIR" cat stale | tail -n 1)" = after ] || fail "stale: the record behind is not the last"
verdict_is clean 0 stale

# ---------------------------------------------------------------------------------------------------- corrupt
# salvage_is DIR LOST_MIN LOST_MAX: salvages it and compares; so many records may be missing.
salvage_is() {
    local dir=$1 lost_min=$2 lost_max=$3 rc=0 lost
    sums "$dir" >before.sums
    "${under[@]}" "$WEIR" salvage "$dir" --to "$dir.saved" >salvaged 2>err || rc=$?
    [ "$rc" -eq 0 ] || fail "$dir: salvage: exit status $rc: $(cat err)"
    sums "$dir" | cmp before.sums - || fail "$dir: salvage touched the damaged log"
    "$WEIR" verify "$dir.saved" >verdict || fail "$dir: what was salvaged does not verify: $(cat verdict)"
    records_of "$dir.saved" >saved.records
    # Everything that lies in no gap, and nothing else.
    sed -nE 's/^gap +LSN ([0-9]+) to ([0-9]+) .*/\1 \2/p' salvaged >gaps
    awk 'NR == FNR { from[NR] = $1; to[NR] = $2; gaps = NR; next }
        {
            split($0, part, /[:,]/)
            for (i = 1; i <= gaps; i++) {
                if (part[2] + 0 >= from[i] + 0 && part[2] + 0 < to[i] + 0) {
                    next
                }
            }
            print
        }' gaps whole.records >outside.records
    # With an empty first file awk takes the second for the first.
    [ -s gaps ] || cp whole.records outside.records
    cmp outside.records saved.records ||
        fail "$dir: what was salvaged is not what lies outside of the gaps: $(cat gaps)"
    lost=$(($(wc -l <whole.records) - $(wc -l <saved.records)))
    if [ "$lost" -lt "$lost_min" ] || [ "$lost" -gt "$lost_max" ]; then
        fail "$dir: $lost records are lost, not $lost_min to $lost_max: $(cat salvaged)"
    fi
    echo "$dir: salvaged all but $lost, $(wc -l <gaps) gaps"
    rm -rf "$dir.saved"
}

lsn_of() {
    sed -n "${1}p" whole.records | sed -E 's/^\{"lsn":([0-9]+),.*/\1/'
}
middle=$(lsn_of 30000)
whole_lines=$(wc -l <whole.records)
[ "$whole_lines" -eq 60000 ] || fail "$whole_lines records in the undamaged log"

# One record's bytes.
cp -r whole payload
smash payload $((middle + 25))
sums payload >payload.sums
verdict_is corrupt 2 payload
bad=$(member verdict.json bad_lsn)
[ "$bad" -le "$middle" ] || fail "payload: the bad LSN is $bad, the damage at $middle"
grep -q 'weir salvage' explained || fail "payload: explain does not say the way out: $(cat explained)"
"$WEIR" explain payload "$middle" >explained
grep -q 'does not verify' explained || fail "payload: explain of the LSN: $(cat explained)"
rc=0
"$WEIR" cat payload >shown 2>err || rc=$?
[ "$rc" -eq 1 ] || fail "payload: cat: exit status $rc"
grep -q WEIR_ECORRUPT err || fail "payload: cat: $(cat err)"
"$WEIR" cat whole | cmp -n "$(wc -c <shown)" shown - || fail "payload: cat shows bytes that were never appended"
rc=0
"$WEIR" copy payload other >out 2>err || rc=$?
[ "$rc" -eq 1 ] || fail "payload: copy: exit status $rc"
grep -q WEIR_ECORRUPT err || fail "payload: copy: $(cat err)"
sums payload | cmp payload.sums - || fail "payload: looking at it changed it"
salvage_is payload 1 1

# Above the last checkpoint, below a promise: a writer meets it when it opens the log, refuses, and leaves every byte.
cp -r killed promised
smash promised $(($(records_of killed | sed -n 2p | sed -E 's/^\{"lsn":([0-9]+),.*/\1/') + 25))
sums promised >promised.sums
verdict_is corrupt 2 promised
sums promised | cmp promised.sums - || fail "promised: looking at it changed it"
log_sums promised >promised.sums
rc=0
"$WEIR" ingest promised lines >out 2>err || rc=$?
[ "$rc" -eq 1 ] || fail "promised: ingest: exit status $rc"
grep -q 'WEIR_ECORRUPT.*offset [0-9].*LSN [0-9]' err ||
    fail "promised: ingest does not name file, offset and LSN: $(cat err)"
cat err
log_sums promised | cmp promised.sums - || fail "promised: a refused writer changed it"
sums promised >promised.sums
"$WEIR" salvage promised --to promised.saved >salvaged || fail "promised: salvage"
"$WEIR" cat promised.saved | cmp - <(printf 'late %d\n' 0 2 3 4) || fail "promised: salvaged something else"
sums promised | cmp promised.sums - || fail "promised: salvage changed it"
# The new log is one to go on with.
echo "after" | "$WEIR" ingest promised.saved >out 2>err ||
    fail "promised: what was salvaged cannot be opened: $(cat err)"
[ "$("$WEIR" cat promised.saved | tail -n 1)" = after ] || fail "promised: the record behind is not the last"

# The header of a batch: its frames may still tell enough to be copied.
batch=$("$WEIR" dump whole | sed -nE 's/^ +batch LSN ([0-9]+) .*/\1/p' |
    awk -v lsn="$middle" '$1 < lsn + 0' | tail -n 1)
cp -r whole header
smash header $((batch + 16))
verdict_is corrupt 2 header
[ "$(member verdict.json bad_lsn)" -eq "$batch" ] ||
    fail "header: the bad LSN is $(member verdict.json bad_lsn), not $batch"
salvage_is header 0 59999

# Several places.
cp -r whole places
for n in 100 20000 40000; do
    smash places $(($(lsn_of $n) + 25))
done
smash places $((batch + 16))
verdict_is corrupt 2 places
salvage_is places 3 59999
[ "$(wc -l <gaps)" -ge 3 ] || fail "places: $(wc -l <gaps) gaps"

# A segment that is gone, cut short, swapped with another, without its header.
segments=(whole/*.weir)
third=${segments[2]##*/}
second=${segments[1]##*/}
cp -r whole missing
rm "missing/$second"
verdict_is corrupt 2 missing
grep -q "missing" verdict || fail "missing: $(cat verdict)"
salvage_is missing 1 60000

cp -r whole short
truncate -s 500000 "short/$second"
verdict_is corrupt 2 short
salvage_is short 1 60000

cp -r whole swapped
cp "whole/$second" "swapped/$third"
cp "whole/$third" "swapped/$second"
verdict_is corrupt 2 swapped
salvage_is swapped 1 60000

cp -r whole headless
dd if=/dev/zero of="headless/$second" bs=4096 count=1 conv=notrunc status=none
verdict_is corrupt 2 headless
salvage_is headless 0 60000

# The control file: one copy is enough, none is not.
cp -r whole control1
dd if=/dev/zero of=control1/weir.control bs=65536 count=1 conv=notrunc status=none
verdict_is clean 0 control1
echo "after" | "$WEIR" ingest control1 >out 2>err || fail "control1: cannot be opened: $(cat err)"
[ "$("$WEIR" cat control1 | tail -n 1)" = after ] || fail "control1: the record behind is not the last"
cp -r whole control2
dd if=/dev/zero of=control2/weir.control bs=65536 count=2 conv=notrunc status=none
verdict_is corrupt 2 control2
log_sums control2 >control2.sums
rc=0
"$WEIR" ingest control2 lines >out 2>err || rc=$?
[ "$rc" -eq 1 ] || fail "control2: ingest: exit status $rc"
log_sums control2 | cmp control2.sums - || fail "control2: a refused writer changed it"
salvage_is control2 0 0

# ---------------------------------------------------------------------------------------------------- unreadable
# Reads behind some offset fail with EIO, by a filter of system calls.
rc=0
"$WEIR_STRESS" seccomp -- true >out || rc=$?
if [ "$rc" -eq 77 ]; then
    echo "note: unreadable not shown: $(cat out)"
else
    under=("$WEIR_STRESS" seccomp --unreadable-from 600000 --)
    cp -r whole unreadable
    verdict_is unreadable 3 unreadable
    bad=$(member verdict.json bad_lsn)
    [ "$bad" -ge 4096 ] && [ "$bad" -lt 1048576 ] ||
        fail "unreadable: the bad LSN is $bad, unreadable is the end of each segment"
    salvage_is unreadable 1 59999
    under=()
    # What cannot be read today is there when it can be read again.
    verdict_is clean 0 unreadable

    # Above the last checkpoint: a writer refuses it, too.
    filler=$(head -c 100000 /dev/zero | tr '\0' 'x')
    killed_writer unread 5
    filler=
    under=("$WEIR_STRESS" seccomp --unreadable-from 200000 --)
    verdict_is unreadable 3 unread
    log_sums unread >unread.sums
    rc=0
    "${under[@]}" "$WEIR" ingest unread lines >out 2>err || rc=$?
    [ "$rc" -eq 1 ] || fail "unread: ingest: exit status $rc"
    grep -q 'WEIR_EUNREADABLE.*offset [0-9].*LSN [0-9]' err ||
        fail "unread: ingest does not name file, offset and LSN: $(cat err)"
    cat err
    under=()
    log_sums unread | cmp unread.sums - || fail "unread: a refused writer changed it"
    [ "$("$WEIR" cat unread | wc -l)" -eq 5 ] || fail "unread: $("$WEIR" cat unread | wc -l) records, not 5"
fi

# ---------------------------------------------------------------------------------------------------- no log
mkdir empty
rc=0
"$WEIR" verify empty >out 2>err || rc=$?
[ "$rc" -eq 3 ] || fail "an empty directory: verify: exit status $rc"
grep -q WEIR_ENOLOG err || fail "an empty directory: $(cat err)"
echo "ok"
