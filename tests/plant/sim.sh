#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the simulation once for each of the log's faults in engine/base/plant.h, with that fault in it, and runs seeds until
# one finds it. Prints a table; 0: every fault was found, and nothing is found without one.
#
#   sim.sh [--all] [COMPILER] [FAULT...]   without --all or names: those that few seeds find, for a test that ends soon
#
# Only the files that name a fault are compiled again. A fault that says "-" in the rows is one that the simulation cannot
# find, for a reason that stands with it: there the seeds must find nothing, or the reason is wrong.
set -euo pipefail
export LC_ALL=C

all=0
if [ "${1:-}" = --all ]; then
    all=1
    shift
fi
compiler=${1:-cc}
[ $# -eq 0 ] || shift
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
plants=$root/engine/base/plant.h
seeds_max=100000
soon_sound=2000

# fault; soon: some hundred seeds find it, late: some thousand, only looked for with --all; -: a crash cannot show it, and why;
# and how the simulation is bent towards it
rows() {
    cat <<'TEXT'
ack_before_sync            soon
written_is_durable         soon
old_segment_not_synced     soon
sync_covers_later          soon --storm
sync_retried               soon
short_rest_dropped         soon
woken_is_enough            soon
segment_dir_not_synced     soon
zeros_not_synced           soon
recycled_header_kept       soon
recycled_header_not_synced soon
recycled_dir_not_synced    soon
control_dir_not_synced     late
control_error_ignored      soon
trim_before_control        soon
checkpoint_ahead           soon --storm
promise_ahead              soon
batch_promise_ahead        soon
no_new_epoch               soon
epoch_reused               soon
epoch_not_marked           late
frames_not_checked         soon
kept_not_durable           soon
kept_not_rewritten         soon
read_error_is_end          soon
TEXT
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/weir-plant-sim.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$root"
flags=(-std=c11 -D_GNU_SOURCE -O1 -w -Iengine -Iinclude -Istress -DWEIR_STRESS_SIM=1)
read -r -a libraries < <(pkg-config --libs ck)

# Every fault has a row, and stands somewhere; every row has a fault.
sed -e '1,/tests\/plant\/sim\.sh)/d' -e '/tests\/plant\/stress\.sh)/,$d' "$plants" | grep -oE 'WEIR__PLANT_[a-z0-9_]+' | sed 's/^WEIR__PLANT_//' | sort -u >"$scratch/faults"
rows | awk '{print $1}' | sort -u >"$scratch/rows"
if [ $# -eq 0 ] && ! diff "$scratch/faults" "$scratch/rows" >"$scratch/diff"; then
    echo "plant: faults of plant.h (<) and rows of this table (>) differ:"
    cat "$scratch/diff"
    exit 1
fi

# The engine as CMake takes it for the simulation (CMakeLists.txt, weir_sim_engine), and the verb with a main of its own.
sources=()
while read -r source; do
    sources+=("$source")
done < <(find engine -name '*.c' ! -path 'engine/io/*' | grep -vE '/port/(thread|wait|clock|uring|pool|io_posix)\.c$|/api/(probe|segment_reader)\.c$' | sort)
sources+=(engine/io/transfer.c)
verb=(stress/sim.c stress/args.c stress/progress.c)
while read -r source; do
    verb+=("$source")
done < <(find stress/sim -name '*.c' | sort)
echo 'int sim_main(int argc, char **argv); int main(int argc, char **argv) { return sim_main(argc, argv); }' >"$scratch/main.c"
verb+=("$scratch/main.c")

object_of() {
    echo "$scratch/$1/o$(tr / . <<<"$2").o"
}
mkdir "$scratch/sound"
for source in "${sources[@]}"; do
    printf '%s\0' "-include" "stress/sim/remap.h" "-c" "$source" "-o" "$(object_of sound "$source")"
done | xargs -0 -n 6 -P "$(nproc)" "$compiler" "${flags[@]}"
for source in "${verb[@]}"; do
    printf '%s\0' "-c" "$source" "-o" "$(object_of sound "$source")"
done | xargs -0 -n 4 -P "$(nproc)" "$compiler" "${flags[@]}"
"$compiler" "$scratch"/sound/*.o "${libraries[@]}" -ldl -lpthread -lm -o "$scratch/sound/sim"

build() {
    local fault=$1 source objects=() planted=0
    rm -rf "$scratch/planted"
    mkdir "$scratch/planted"
    for source in "${sources[@]}"; do
        if grep -qE "WEIR__PLANTED\($fault\)" "$source"; then
            "$compiler" "${flags[@]}" "-DWEIR_PLANT=WEIR__PLANT_$fault" -include stress/sim/remap.h -c "$source" \
                -o "$(object_of planted "$source")"
            objects+=("$(object_of planted "$source")")
            planted=1
        else
            objects+=("$(object_of sound "$source")")
        fi
    done
    for source in "${verb[@]}"; do
        objects+=("$(object_of sound "$source")")
    done
    if [ "$planted" -eq 0 ]; then
        echo "plant: nothing in engine/ has the fault $fault" >&2
        return 1
    fi
    "$compiler" "${objects[@]}" "${libraries[@]}" -ldl -lpthread -lm -o "$scratch/planted/sim"
}

# What found it: the name of the count that rose, or how the process ended.
by_what() {
    local what
    for what in lost phantom altered disorder refused hung; do
        if awk -v what=$what '$1 == what && $2 > 0 { found = 1 } END { exit !found }' "$scratch/output"; then
            echo "$what"
            return
        fi
    done
    echo "a check"
}

failures=0
for bent in "" --storm; do
    # shellcheck disable=SC2086 # a word, or none
    if ! "$scratch/sound/sim" --seeds "1..$([ "$all" -eq 1 ] && echo 20000 || echo $soon_sound)" $bent >"$scratch/output" 2>&1; then
        cat "$scratch/output"
        echo "plant: the simulation finds something without a fault"
        exit 1
    fi
done
printf '%-24s %-9s %7s %8s  %s\n' plant "found by" seeds seconds "what it said"
run() {
    local fault=$1 expected=$2 limit=$seeds_max begun ended seeds words
    shift 2
    build "$fault"
    begun=$(date +%s%N)
    if "$scratch/planted/sim" --seeds "1..$limit" --jobs 1 "$@" >"$scratch/output" 2>&1; then
        if [ "$expected" = - ]; then
            printf '%-24s %-9s %7s\n' "$fault" "-" "$limit"
        else
            printf '%-24s %-9s %7s\n' "$fault" NOTHING "$limit"
            failures=$((failures + 1))
        fi
        return
    fi
    ended=$(date +%s%N)
    seeds=$(sed -n 's/^seed \([0-9]*\): .*/\1/p' "$scratch/output" | head -n 1)
    words=$(sed -n 's/^seed [0-9]*: //p' "$scratch/output" | head -n 1 | cut -c 1-90)
    printf '%-24s %-9s %7s %8s  %s\n' "$fault" "$(by_what)" "$seeds" \
        "$(awk -v ns=$((ended - begun)) 'BEGIN { printf "%.1f", ns / 1e9 }')" "$words"
    if [ "$expected" = - ]; then
        echo "plant: $fault can be found: its row is wrong"
        failures=$((failures + 1))
    fi
}
count=0
if [ $# -gt 0 ]; then
    for fault in "$@"; do
        # shellcheck disable=SC2046 # words
        run "$fault" late $(rows | awk -v fault="$fault" '$1 == fault { $1 = $2 = ""; print }')
        count=$((count + 1))
    done
else
    while read -r fault expected bent; do
        if [ "$all" -eq 1 ] || [ "$expected" = soon ]; then
            read -r -a words <<<"$bent"
            run "$fault" "$expected" "${words[@]}"
            count=$((count + 1))
        fi
    done < <(rows)
fi
if [ "$failures" -gt 0 ]; then
    echo "plant: $failures of $count faults were not what their rows say"
    exit 1
fi
echo "plant: $count faults, all as their rows say; nothing is found without one"
