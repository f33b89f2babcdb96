#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# weir cat --follow beside a writer: it shows every record within a second of its acknowledgement (bounded here by a
# minute, measured and printed), also when nothing more is written behind it; it goes over segments and over a change of
# writers; and it shows nothing that is not there after the writer was killed.
set -euo pipefail

: "${WEIR:?the path of the weir command}"
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-follow.XXXXXX")
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

until_true() {
    local what=$1
    shift
    for ((i = 0; i < 6000; i++)); do
        if "$@"; then
            return 0
        fi
        sleep 0.01
    done
    fail "did not happen within a minute: $what"
}

writer_start() {
    rm -f feed acks
    mkfifo feed acks
    # Opened for both directions, so that no opening waits for the other end.
    exec 6<>feed 7<>acks
    "$WEIR" ingest --acks 5 "$@" log feed 5>acks >writer.out 2>writer.err 6>&- 7>&- &
    writer=$!
    pids+=("$writer")
}

append() {
    echo "$1" >&6
    read -r -t 60 -u 7 _ _ || fail "no acknowledgement of: $1: $(cat writer.err)"
}

now_ms() {
    echo $(($(date +%s%N) / 1000000))
}

lines_are() {
    [ "$(wc -l <"$1")" -ge "$2" ]
}

# ---- one record at a time, the writer idle behind each
writer_start --wait durable
append "record 0"
"$WEIR" cat --follow log >shown 2>follow.err 6>&- 7>&- &
follower=$!
pids+=("$follower")
until_true "the follower shows the first record" lines_are shown 1
longest=0
for ((n = 1; n <= 30; n++)); do
    append "record $n"
    begin=$(now_ms)
    until_true "the follower shows record $n" lines_are shown $((n + 1))
    took=$(($(now_ms) - begin))
    [ "$took" -le "$longest" ] || longest=$took
    [ "$(tail -n 1 shown)" = "record $n" ] || fail "the follower shows $(tail -n 1 shown), not record $n"
done
echo "31 records of an idle writer: shown at most $longest ms after their acknowledgement"

# ---- idle: nothing more is shown than was acknowledged
sleep 0.3
[ "$(wc -l <shown)" -eq 31 ] || fail "the follower shows $(wc -l <shown) records, 31 were acknowledged"

# ---- the writer ends, another one comes, with other segments; the follower stays
exec 6>&- 7<&-
wait "$writer" || fail "the writer: $(cat writer.err)"
writer_start --wait durable --segment 1M
for ((n = 31; n <= 40; n++)); do
    append "record $n"
done
until_true "the follower shows the second writer's records" lines_are shown 41
seq -f 'record %g' 0 40 | cmp - shown || fail "the follower shows other records"
exec 6>&- 7<&-
wait "$writer" || fail "the writer: $(cat writer.err)"
kill -TERM "$follower"
wait "$follower" || fail "the follower did not end cleanly: $(cat follow.err)"

# ---- a fast writer over many segments, two followers, one from the middle of the log; then kill -9 of the writer
rm -r log
seq 1 400000 | sed 's/$/ some words behind the number/' >lines
"$WEIR" ingest --producers 16 --wait none --segment 1M --acks 5 log lines 5>acks.fast >writer.out 2>writer.err &
writer=$!
pids+=("$writer")
until_true "the log is there" test -e log/weir.control
until_true "something is acknowledged" test -s acks.fast
# follower_start NAME OPTION...: leaves its process in $follower, what it shows in the file NAME.
follower_start() {
    local name=$1
    shift
    "$WEIR" cat --follow --format json "$@" log >"$name" 2>"$name.err" &
    follower=$!
    pids+=("$follower")
}
follower_start from_oldest
oldest_pid=$follower
until_true "100 acknowledgements" lines_are acks.fast 101
from=$(sed -n 100p acks.fast | cut -d' ' -f1)
follower_start from_middle --from "$from"
middle_pid=$follower
until_true "20,000 acknowledgements" lines_are acks.fast 20000
kill -9 "$writer"
wait "$writer" 2>/dev/null || true

# All that was acknowledged must come, although nobody writes any more. The last line may be cut.
sed '$d' acks.fast | grep -E '^[0-9]+ [0-9]+$' | cut -d' ' -f1 | sort >acknowledged
lsns_of() {
    sed -E '$!b;/\}$/!d' "$1" | sed -E 's/^\{"lsn":([0-9]+),.*/\1/'
}
shows_acknowledged() {
    lsns_of from_oldest | sort | comm -13 - acknowledged >missing
    [ ! -s missing ]
}
shows_middle() {
    awk -v from="$from" '$1 + 0 >= from + 0' acknowledged >acknowledged.middle
    lsns_of from_middle | sort | comm -13 - acknowledged.middle >missing
    [ ! -s missing ]
}
until_true "the follower shows every acknowledged record" shows_acknowledged
until_true "the follower from the middle shows every acknowledged record from there on" shows_middle
kill -TERM "$oldest_pid" "$middle_pid"
wait "$oldest_pid" || fail "the follower did not end cleanly: $(cat from_oldest.err)"
wait "$middle_pid" || fail "the follower from the middle did not end cleanly: $(cat from_middle.err)"

# What was shown is in the log, in its order, and stays there when the next writer has recovered it.
"$WEIR" verify log >verdict || [ $? -eq 1 ] || fail "verify: $(cat verdict)"
echo "behind" | "$WEIR" ingest log >writer.out 2>writer.err || fail "the next writer: $(cat writer.err)"
"$WEIR" cat --format json log >all
shown_count=$(wc -l <from_oldest)
cut -d, -f1,3- from_oldest | cmp -n "$(cut -d, -f1,3- from_oldest | wc -c)" - <(cut -d, -f1,3- all) ||
    fail "the follower showed something else than stands in the log"
first=$(grep -n -m 1 "^{\"lsn\":$from," all | cut -d: -f1)
[ -n "$first" ] || fail "LSN $from is not in the log"
tail -n "+$first" all | cut -d, -f1,3- >all.middle
cmp -n "$(cut -d, -f1,3- from_middle | wc -c)" <(cut -d, -f1,3- from_middle) all.middle ||
    fail "the follower from the middle showed something else than stands in the log"
echo "fast writer: $(wc -l <acknowledged) acknowledged before the kill, $shown_count shown, $(wc -l <all) in the log"
echo "ok"
