#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The simulation: seeds with faults find nothing; the same seeds are the same histories, with any number of processes; a
# single seed is what it was among the others, and its line can be run again.
set -euo pipefail
export LC_ALL=C

stress=${WEIR_STRESS:?the weir-stress command}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/weir-sim.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
fail() {
    echo "FAIL: $*" >&2
    exit 1
}

seeds=${WEIR_SIM_SEEDS:-20000} # sanitizers and debug builds take their time: fewer

fault_kinds=26 # of stress/sim/disk.h: 600 seeds meet them all

code=0
"$stress" sim --seeds "1..$seeds" >"$scratch/some" || code=$?
if [ "$code" -eq 77 ]; then
    cat "$scratch/some"
    exit 77
fi
cat "$scratch/some"
[ "$code" -eq 0 ] || fail "seeds 1..$seeds"
value() {
    awk -v name="$2" '$1 == name { print $2 }' "$scratch/$1"
}
[ "$(value some histories)" -eq "$seeds" ] || fail "not all seeds were run"
[ "$(value some crashes)" -gt "$seeds" ] || fail "hardly anything crashed"
for what in lost phantom altered disorder refused hung; do
    [ "$(value some $what)" -eq 0 ] || fail "$what: $(value some $what)"
done
for what in in_recovery again and_again rotations recycled shutdowns looks followed trims cut; do
    [ "$(value some $what)" -gt 0 ] || fail "$what never happened"
done

# What the device itself changed may be refused, but never be believed.
"$stress" sim --seeds "1..$((seeds / 5))" --faults all >"$scratch/all" || fail "--faults all"
[ "$(grep -c '^fault ' "$scratch/all")" -eq "$fault_kinds" ] || fail "a kind of fault was never met"
"$stress" sim --seeds "1..$((seeds / 10))" --faults none >"$scratch/none" || fail "--faults none"

# The same seeds, the same histories.
"$stress" sim --seeds 1..200 --jobs 1 >"$scratch/one"
"$stress" sim --seeds 1..200 --jobs 3 >"$scratch/three"
digest=$(value one digest)
[ "$digest" = "$(value three digest)" ] || fail "the digest of seeds 1..200 depends on the processes"
"$stress" sim --seeds 2..200 >"$scratch/behind"
"$stress" sim --seeds 1..1 >"$scratch/first"
[ "$digest" != "$(value behind digest)" ] || fail "the digest does not see the first seed"
sum=$(printf '%016x' $((0x$(value behind digest) + 0x$(value first digest))))
[ "$digest" = "$sum" ] || fail "a seed is not the same alone and behind others"

# Every crash point and every power cut of the shortest histories, power cuts in recoveries among them; the rest takes minutes.
for how in "--operations 1" "--operations 1 --unit 512 --history g" "--nested 2 --history t"; do
    # shellcheck disable=SC2086
    "$stress" sim --exhaustive $how >"$scratch/every" || fail "--exhaustive $how"
    [ "$(value every states)" -gt 100 ] || fail "--exhaustive $how: hardly any state"
    states=$(value every states)
    # shellcheck disable=SC2086
    "$stress" sim --exhaustive $how >"$scratch/every" || fail "--exhaustive $how"
    [ "$(value every states)" -eq "$states" ] || fail "--exhaustive $how: not the same states twice"
done

# The line that runs a seed again.
"$stress" sim --seeds 7 --depth 4 --faults some --print >"$scratch/print" || fail "--print"
grep -q '^life 0: ' "$scratch/print" || fail "--print says nothing"

# Command lines.
"$stress" sim --help | grep -q -- --seeds || fail "--help"
for wrong in "--seeds 0..3" "--seeds 5..4" "--seeds x" "--for 1y" "--for 0s" "--seeds 1..2 --print" "--faults few" "--exhaustive --unit 513" "--exhaustive --history x" "word"; do
    code=0
    # shellcheck disable=SC2086
    "$stress" sim $wrong >/dev/null 2>&1 || code=$?
    [ "$code" -eq 64 ] || fail "$wrong: status $code"
done
"$stress" sim --seeds 1..2 --for 1s >"$scratch/for" || fail "--for"
[ "$(value for histories)" -gt 2 ] || fail "--for stopped with the seeds"
echo "sim: ok"
