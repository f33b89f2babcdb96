#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds weir-stress once for each fault of engine/base/plant.h that real threads, descriptors and file systems show, with that
# fault in it, and runs the verb that has to find it. Prints a table; 0: every fault was found, and nothing is found without one.
#
#   stress.sh [--all] BUILD_DIR [COMPILER [FAULT...]]   BUILD_DIR holds libweir.a, of any build without sanitizers
#                                            without --all: those that are found within seconds
#
# Only the files that name a fault are compiled again; they stand before the library on the linker's command line. A verb that
# is not possible on this machine (77) is said to be skipped.
set -euo pipefail
export LC_ALL=C

all=0
if [ "${1:-}" = --all ]; then
    all=1
    shift
fi
build=${1:?the build directory}
compiler=${2:-cc}
shift $(($# < 2 ? $# : 2))
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
plants=$root/engine/base/plant.h

# fault; soon, or late: only with --all; the verb that finds it
rows() {
    cat <<'TEXT'
signals_not_blocked     soon  signals --rounds 4
oversize_not_watched    soon  freeze --rounds 20 --standstill 4s
lent_not_watched        soon  freeze --rounds 20 --standstill 4s --io posix
retired_not_closed      soon  soak --for 6s
space_error_kept        soon  fullfs --fs tmpfs --rounds 1 --standstill 4s
trim_before_control     late  kill --every-call --io posix
ack_before_sync         soon  powercut --rounds 400 --io auto
written_is_durable      late  logwrites --rounds 20 --io posix
segment_dir_not_synced  soon  powercut --rounds 400 --io posix
TEXT
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/weir-plant-stress.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
[ -f "$build/libweir.a" ] || { echo "plant: no $build/libweir.a" >&2; exit 1; }
cd "$root"
flags=(-std=c11 -D_GNU_SOURCE -O1 -fPIC -w -Iengine -Iinclude -Istress)
read -r -a libraries < <(pkg-config --libs ck liburing jemalloc)

# Every fault of this part has a row, and every row stands somewhere.
while read -r fault; do
    rows | grep -qE "^$fault " || { echo "plant: no row for $fault"; exit 1; }
done < <(sed '1,/tests\/plant\/stress\.sh)/d' "$plants" | grep -oE 'WEIR__PLANT_[a-z0-9_]+' | sed 's/^WEIR__PLANT_//' | grep -v '^name$')

objects=()
for source in stress/*.c; do
    objects+=("$scratch/$(basename "$source" .c).o")
    printf '%s\0' -c "$source" -o "${objects[-1]}"
done | xargs -0 -n 4 -P "$(nproc)" "$compiler" "${flags[@]}"
objects=("$scratch"/*.o)

# fault
program_make() {
    local source planted=()
    while read -r source; do
        "$compiler" "${flags[@]}" "-DWEIR_PLANT=WEIR__PLANT_$1" -c "$source" -o "$scratch/planted.$(basename "$source").o"
        planted+=("$scratch/planted.$(basename "$source").o")
    done < <(grep -rlE --include='*.c' "WEIR__PLANTED\($1\)" engine)
    if [ "${#planted[@]}" -eq 0 ]; then
        echo "plant: nothing in engine/ has the fault $1" >&2
        return 1
    fi
    "$compiler" "${objects[@]}" "${planted[@]}" "$build/libweir.a" "${libraries[@]}" -ldl -lpthread -lm -o "$scratch/weir-stress"
}

failures=0
printf '%-24s %s\n' "plant" "caught by"
while read -r fault when verb; do
    if [ $# -gt 0 ]; then
        [[ " $* " == *" $fault "* ]] || continue
    else
        [ "$when" = soon ] || [ "$all" -eq 1 ] || continue
    fi
    program_make "$fault"
    read -r -a words <<<"$verb"
    code=0
    mkdir "$scratch/run"
    begun=$(date +%s%N)
    "$scratch/weir-stress" "${words[@]}" --dir "$scratch/run/log" >"$scratch/output" 2>&1 || code=$?
    rm -rf "$scratch/run"
    seconds=$(awk -v ns=$(($(date +%s%N) - begun)) 'BEGIN { printf "%.1f", ns / 1e9 }')
    if [ "$code" -eq 77 ]; then
        printf '%-24s %s\n' "$fault" "(skipped here: $verb: $(grep -m 1 skipped "$scratch/output"))"
    elif [ "$code" -eq 1 ] && grep -q '^FAULT: ' "$scratch/output"; then
        printf '%-24s %s\n' "$fault" "$seconds s, $verb: $(grep -m 1 '^FAULT: ' "$scratch/output" | cut -c8-)"
    else
        printf '%-24s %s\n' "$fault" "NOTHING: $verb: exit status $code"
        cat "$scratch/output"
        failures=$((failures + 1))
    fi
done < <(rows)
if [ "$failures" -gt 0 ]; then
    echo "plant: $failures faults were not caught"
    exit 1
fi
echo "plant: every fault was caught"
