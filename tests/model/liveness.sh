#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks with Spin (Debian: spin) that nobody waits for ever: stage.pml. Prints a line per scenario; 0: all hold and every planted fault was found,
# 77: Spin or the compiler is missing.
#   liveness.sh            the small scenarios to their end, and some faults
#   liveness.sh --long     the large ones and the other faults, too (an hour, 8 GiB)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v spin >/dev/null || { echo "model: no spin, skipped"; exit 77; }
command -v "${CC:-cc}" >/dev/null || { echo "model: no ${CC:-cc}, skipped"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
status=0

# claim, definitions: the verifier's output in $tmp/out
verify() {
    claim=$1
    shift
    rm -rf pan* ./*.trail
    spin -a "$@" "$here/stage.pml" >gen 2>&1 || { cat gen; exit 1; }
    "${CC:-cc}" -O2 -w -DNFAIR=3 -DCOLLAPSE -DVECTORSZ=2048 -o pan pan.c
    ./pan -a -f -m400000 -N "$claim" >out 2>&1 || { tail -5 out; exit 1; }
}
result() { sed -n 's/.*errors: \([0-9]*\).*/errors \1/p;s/^ *\([0-9.e+]*\) states, stored.*/states \1/p;s/.*\(acceptance cycle\|assertion violated\|search depth too small\).*/\1/p' out | tr '\n' ' '; }
holds() { # claim, definitions
    verify "$@"
    echo "model: $*: $(result)"
    if ! grep -q 'errors: 0' out || grep -q 'too small\|out of memory\|incomplete\|not completed' out; then
        status=1
    fi
}
finds() { # fault, definitions: someone waits for ever, or two have the flusher's part
    fault=$1
    shift
    verify ends "$@" "-DFAULT_$fault"
    echo "model: $fault, planted: $* $(result)"
    if ! grep -q 'acceptance cycle\|assertion violated' out; then
        echo "model: it was not found"
        status=1
    fi
}

holds ends -DPRODUCERS=1 -DRECORDS=2 -DWAIT
holds ends -DPRODUCERS=1 -DRECORDS=2 -DIO=1
holds ends -DPRODUCERS=1 -DRECORDS=3 -DSLOTS=2 -DIO=2 -DWAIT
holds ends -DPRODUCERS=1 -DRECORDS=2 -DTRY -DSLOTS=1
holds all -DPRODUCERS=1 -DRECORDS=2 -DSLOTS=2 -DIO=2
holds ends -DPRODUCERS=1 -DRECORDS=2 -DWAIT -DLEND -DSLOTS=2
if [ "${1:-}" = --long ]; then
    holds ends -DLEND -DWAIT -DCAP=2
    holds ends -DLEND -DWAIT -DSLOTS=2
    holds ends
    holds ends -DWAIT
    holds ends -DWAIT -DSLOTS=2
    holds ends -DWAIT -DCAP=2
    holds ends -DWAIT -DIO=1
    holds ends -DTRY
    holds ends -DTRY -DEARLY
    holds ends -DPRODUCERS=1 -DRECORDS=2 -DREADER
    holds ends -DPRODUCERS=1 -DRECORDS=2 -DWAIT -DFAIL
    holds all -DTRY -DWAIT
fi

# The opener's wake-up, and the flusher's: at a full slot, at a half-full one, at the end.
finds NO_BUMP_AT_OPEN
finds BUMP_BEFORE_OPEN
finds NO_KICK_AT_PUSH
finds NO_KICK_AT_COMMIT -DCAP=2 -DWAIT
finds NO_KICK_AT_SHUT
# The part that is lent: handed over without a wake, taken from its holder, kept by who lost it.
finds NO_WAKE_AT_HAND_OVER -DLEND -DWAIT -DCAP=2
finds KICK_TAKES_LENT -DLEND -DWAIT
if [ "${1:-}" = --long ]; then
    # When the role is left to it, when a reader lets go; a closer's when a slot is given back; the looks before sleep; the waiter's.
    finds LOSER_GOES_ON -DLEND -DWAIT
    finds NO_LOOK_AT_RETURN -DLEND -DWAIT -DSLOTS=2 -DCAP=2
    finds NO_KICK_AT_OWED -DTRY -DRECORDS=2
    finds NO_KICK_AT_UNPIN -DREADER
    finds NO_BUMP_AT_GIVE
    # The bumps at a shutdown only make it sooner: the flusher, which waits for nobody who sleeps there, bumps all when it leaves.
    holds ends -DEARLY -DFAULT_NO_BUMP_AT_SHUT
    finds NO_BUMP_AT_FAIL -DFAIL
    finds FAIL_LEAVES_ACK -DFAIL -DWAIT
    finds NO_RECHECK
    finds NO_LOOK_AT_HELD -DREADER
    finds SEALS_ONLY_WHAT_IT_CAN_REPLACE -DCAP=2 -DWAIT
    finds ACK_WAKES_NOBODY -DWAIT
    finds ACK_EQUAL -DWAIT
    finds BUMP_WAKES_NOBODY
fi
exit $status
