#!/usr/bin/env bash
# The comparison runs: every peer that was built gives a line of figures and leaves nothing behind; the table and the plot
# of known figures are as they should be. No figure is judged here.
set -euo pipefail

build=${WEIR_BUILD_DIR:?}
tools=${WEIR_SOURCE_DIR:?}/tools/compare
[ -x "$build/compare-group_commit" ] || { echo "no peers were built: skipped"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# ---- every peer ----
mkdir "$scratch/peers"
for program in "$build"/compare-*; do
    name=${program##*/compare-}
    variants=$("$program" --help | sed -n '/^variants/,$s/^  \([a-z0-9-]*\)  .*/\1/p')
    [ -n "$variants" ] || fail "$name names no variants"
    # One way each: the others differ by options only, and fill files.
    for variant in $(head -n 1 <<<"$variants"); do
        line=$("$program" --dir "$scratch/peers" --producers 2 --size 128 --seconds 0.05 --warm-up 0 --variant "$variant") || fail "$name $variant"
        grep -qE "^\{\"engine\":\"$name\",.*\"variant\":\"$variant\",\"producers\":2,\"size\":128,\"wait\":\"durable\",\"seconds\":[0-9.]+,\"records\":[1-9][0-9]*,\"ops_per_s\":[0-9.]+,.*\"lat_us\":\{\"p50\":[0-9.]+,.*\"cpu_s\":[0-9.]+.*\}$" <<<"$line" ||
            fail "$name $variant: $line"
        [ -z "$(ls -A "$scratch/peers")" ] || fail "$name $variant left something behind"
    done
    status=0
    "$program" --dir "$scratch/peers" --variant no-such-variant >/dev/null 2>&1 || status=$?
    [ $status -eq 64 ] || fail "$name takes a variant that it does not have: $status"
done

# ---- the table: medians, spread, against the best peer, which weir and fio are not ----
{
    printf '128\t1\tweir\t%s\t%s\t90\t150\t200\t30\n' 1 9000 2 11000 3 10000
    printf '128\t1\tslow\t%s\t%s\t90\t150\t200\t30\n' 1 1000 2 3000
    printf '128\t1\tfast\t%s\t%s\t90\t150\t200\t\n' 1 5000
    printf '128\t1\tfio\t%s\t%s\t80\t100\t120\t\n' 1 20000
    printf '16384\t16\tweir\t%s\t%s\t90\t150\t200\t30\n' 1 70000
} >"$scratch/results.tsv"
"$tools/run" --table "$scratch" >"$scratch/said"
grep -qF '| weir | 10,000 | 9,000 - 11,000 | 3 | 2.00 | 90.0 | 150 | 200 | 30.0 |' "$scratch/said" || fail "weir's row: $(cat "$scratch/said")"
grep -qF '| slow | 2,000 | 1,000 - 3,000 | 2 | 0.40 |' "$scratch/said" || fail "the median of two"
grep -qF '| fast | 5,000 | 5,000 - 5,000 | 1 | best | 90.0 | 150 | 200 | - |' "$scratch/said" || fail "the best peer"
grep -qF '16 producers, records of 16 KiB' "$scratch/said" || fail "the second cell"
grep -q '^<svg .*' "$scratch/rates.svg" && grep -q '</svg>' "$scratch/rates.svg" || fail "no plot"
[ "$(grep -o '<circle' "$scratch/rates.svg" | wc -l)" -eq 5 ] || fail "the plot has another number of points than the table"
