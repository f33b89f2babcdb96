#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# 64 producers ingest a text, for each way of I/O: the log verifies, the multiset of lines that comes out is the one
# that went in, each producer's lines are in their order, and every record was acknowledged once, where it stands.
# WEIR_TEST_MB sets the size of the text (default 4).
set -euo pipefail
export LC_ALL=C

: "${WEIR:?the path of the weir command}"
megabytes=${WEIR_TEST_MB:-4}
producers=64
work=$(mktemp -d "${TMPDIR:-/tmp}/weir-ingest.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# Lines of many lengths, some equal, some long: a number, then words. The number is that of the line, from 0, but the
# judgement about multisets does not lean on it.
awk -v bytes=$((megabytes * 1000000)) 'BEGIN {
    srand(7)
    split("wal log segment batch frame epoch promise durable written chain slot producer", word, " ")
    for (n = 0; total < bytes; n++) {
        line = n
        count = n % 1000 == 999 ? 2000 : int(rand() * rand() * 60)
        for (i = 0; i < count; i++) {
            line = line " " word[1 + int(rand() * 12)]
        }
        print line
        total += length(line) + 1
    }
}' >lines
count=$(wc -l <lines)
sort lines >lines.sorted
echo "$(wc -c <lines) bytes, $count lines, $producers producers"

# order_check FILE: lines "TAG NUMBER" in the order of the log. The tag is the number, producer p has the numbers p,
# p + 64, ... and each of its numbers comes right behind the one before.
order_check() {
    awk -v producers=$producers -v count="$count" '
        $1 != $2 { print "tag " $1 " at line " $2; bad = 1; exit 1 }
        {
            p = $2 % producers
            want = p in last ? last[p] + producers : p
            if ($2 != want) { print "producer " p ": line " $2 ", not " want; bad = 1; exit 1 }
            last[p] = $2
            seen++
        }
        END { if (!bad && seen != count) { print seen " records, not " count; exit 1 } }' "$1"
}

# The check itself must be able to fail.
printf '0 0\n1 1\n2 2\n' >good
awk 'NR <= 3' good | { count=3 order_check /dev/stdin; } || fail "the check of the order refuses what is in order"
for bad in '0 0\n1 1\n65 65\n129 129\n193 193\n257 257\n' '64 64\n0 0\n1 1\n' '0 0\n1 2\n2 2\n' \
    '0 0\n1 1\n1 1\n' '0 0\n2 2\n194 194\n'; do
    if printf "$bad" | { count=3 order_check /dev/stdin; } >/dev/null; then
        fail "the check of the order takes $bad"
    fi
done

for io in auto chain dsync posix; do
    rc=0
    "$WEIR" ingest --producers $producers --io $io --segment 2M --tag line --acks 5 log lines \
        5>acks >figures 2>err || rc=$?
    if [ $rc -ne 0 ]; then
        # A machine without io_uring refuses what demands it, and says so.
        if { [ $io = chain ] || [ $io = dsync ]; } && grep -q 'was asked for, and refused' err; then
            echo "$io: refused here: $(cat err)"
            rm -rf log
            continue
        fi
        fail "ingest --io $io: $(cat err)"
    fi
    "$WEIR" verify log >verdict || fail "$io: verify: $(cat verdict)"
    grep -q '^clean' verdict || fail "$io: not clean: $(cat verdict)"
    "$WEIR" cat log | sort | cmp lines.sorted - || fail "$io: other lines came back"
    "$WEIR" cat --format json log |
        sed -E 's/^\{"lsn":([0-9]+),"epoch":[0-9]+,"tag":([0-9]+),.*"data":"([0-9]+).*/\1 \2 \3/' >stands
    cut -d' ' -f2,3 stands >order
    order_check order || fail "$io: order"
    cut -d' ' -f1,2 stands | sort | cmp - <(sort acks) || fail "$io: acknowledged is not what stands in the log"
    echo "$io: $(grep '^durable records/s' figures), $(sed -n 's/^segments  *//p' verdict) segments"
    rm -r log
done
echo "ok"
