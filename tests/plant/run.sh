#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the I/O floor once for each fault of engine/base/plant.h, with that fault in it, and wants the test that is named for it
# to fail. Prints a table; 0: every fault was caught by its test.
#
#   run.sh BUILD_DIR [COMPILER]   BUILD_DIR holds libweir.a and the tests' support library, of any build without sanitizers
#
# Only the files that name a fault are compiled; they stand before the library on the linker's command line, so that it gives
# what they leave open and nothing they have. The same is done with those files as they are, and there each of the tests has to
# pass: a test that fails anyway has caught nothing.
#
# A test that does not end is a failure, as it is under ctest, but its time is waited for: none is meant to.
set -euo pipefail
export LC_ALL=C

build=${1:?the build directory}
compiler=${2:-cc}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
plants=$root/engine/base/plant.h
limit_s=20 # of a test with its fault; without it is waited for longer
export WEIR_SOURCE_DIR=$root

# fault, program under tests/, test
rows() {
    cat <<'TEXT'
open_at_zero          unit/io/test_writer              an_existing_file_is_gone_on_with_at_its_end
offset_not_atomic     unit/io/test_writer              writes_of_many_threads_stand_where_their_offsets_say
lost_rest             unit/io/test_writer              an_error_in_the_middle_stays
flush_blocks_writers  unit/io/test_writer              a_flush_does_not_hold_writers_up
pending_reset         unit/io/test_writer              what_is_written_during_a_flush_is_not_forgotten
length_32             unit/io/test_writer              a_length_above_4_gib_is_not_cut
dir_not_synced        unit/io/test_file                a_file_that_was_made_is_synced_into_its_directory
shared_position       unit/io/test_reader              sixteen_threads_each_get_the_bytes_of_their_place
read_length_32        unit/io/test_reader              length_beyond_32_bits_is_not_cut
crc_not_checked       integration/test_segment_reader  damaged_payload_is_told_with_its_batch
cqe_bound             unit/io/test_queue               no_completion_is_ever_without_room (ring)
drained_rest_lost     unit/io/test_executor            an_error_tells_its_index_and_keeps_the_rest
batch_no_barrier      unit/io/test_executor            a_sync_comes_between_what_is_before_and_behind
read_order            unit/io/test_executor            reads_that_came_back_late_keep_their_place
lock_not_in_ring      unit/port/test_uring             registered_lock_outlives_its_descriptor_until_the_close
reclaim_by_newer_copy unit/segment/test_control_file   lower_checkpoint_of_both_copies_is_known
older_epoch_accepted  unit/format/test_batch           judge_stale_for_an_older_epoch_above_the_newest_start
salt_without_epoch    unit/format/test_frame           frame_moved_to_another_place_or_history_is_refused
chain_not_checked     unit/format/test_batch           judge_unchained_when_the_position_is_another
stale_promise_believed unit/recover/test_scan          longer_tail_of_an_earlier_epoch_is_stale
nobody_yields         unit/stage/test_stage            one_of_a_crowd_lets_others_run_before_it_sleeps
nobody_collects       fault/test_crowd                 a_flusher_collects_those_it_has_woken
syncs_at_once         unit/io/test_syncs               syncs_of_a_file_go_one_at_a_time
blind_cut             unit/io/test_syncs               a_flush_leaves_what_stands_behind_the_end
TEXT
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/weir-plant.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
library=$build/libweir.a
support=$build/tests/libweir_test_support.a
for file in "$library" "$support"; do
    [ -f "$file" ] || { echo "plant: no $file" >&2; exit 1; }
done
flags=(-std=c11 -D_GNU_SOURCE -O1 -fPIC -w "-I$root/engine" "-I$root/include" "-I$root/tests" "-DWEIR_SOURCE_DIR=\"$root\"")
read -r -a libraries < <(pkg-config --libs cmocka ck liburing)

# Every fault has a row, and stands somewhere; every row has a fault. commit_no_release is the model checker's; the log's are sim.sh's.
sed '/tests\/plant\/sim\.sh)/,$d' "$plants" | grep -oE 'WEIR__PLANT_[a-z0-9_]+' | sed 's/^WEIR__PLANT_//' | sort -u | grep -vE '^(name|commit_no_release)$' >"$scratch/faults"
rows | awk '{print $1}' | sort -u >"$scratch/rows"
if ! diff "$scratch/faults" "$scratch/rows" >"$scratch/diff"; then
    echo "plant: faults of plant.h (<) and rows of this table (>) differ:"
    cat "$scratch/diff"
    exit 1
fi

# program: compiled once, for all its faults.
test_object() {
    local object=$scratch/${1##*/}.o
    [ -f "$object" ] || "$compiler" "${flags[@]}" -c "$root/tests/$1.c" -o "$object"
    echo "$object"
}

# fault program output [define...]: the files that name the fault, and all that was built without it.
program_make() {
    local fault=$1 program=$2 output=$3 source object objects=()
    shift 3
    while read -r source; do
        object=$scratch/$(tr / . <<<"${source#"$root"/}").o
        "$compiler" "${flags[@]}" "$@" -c "$source" -o "$object"
        objects+=("$object")
    done < <(grep -rlE --include='*.c' "WEIR__PLANTED\($fault\)" "$root/engine")
    if [ "${#objects[@]}" -eq 0 ]; then
        echo "plant: nothing in engine/ has the fault $fault" >&2
        return 1
    fi
    # The support library asks for the engine and is asked by nobody but the test.
    "$compiler" "$(test_object "$program")" "${objects[@]}" "$support" "$library" "${libraries[@]}" -ldl -lpthread -lm -o "$output"
}

# binary test seconds: passed, failed, silent (no such test), or hung; the output stays.
verdict() {
    local code=0
    timeout -k 1 "$3" "$1" --only "$2*" >"$scratch/output" 2>&1 || code=$?
    if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
        echo hung
    elif grep -qF "[  FAILED  ] $2" "$scratch/output"; then
        echo failed
    elif ! grep -qF "[ RUN      ] $2" "$scratch/output"; then
        echo silent
    elif [ "$code" -eq 0 ] && grep -qF "[       OK ] $2" "$scratch/output"; then
        echo passed
    elif [ "$code" -eq 0 ]; then
        echo skipped
    else
        echo failed # it ended the process
    fi
}

failures=0
printf '%-22s %s\n' "plant" "caught by"
while read -r fault program test; do
    program_make "$fault" "$program" "$scratch/sound"
    sound=$(verdict "$scratch/sound" "$test" $((3 * limit_s)))
    if [ "$sound" = skipped ]; then
        printf '%-22s %s\n' "$fault" "(skipped here: $program $test)"
        continue
    fi
    if [ "$sound" != passed ]; then
        printf '%-22s %s\n' "$fault" "NOTHING: $program $test: $sound without the fault"
        cat "$scratch/output"
        failures=$((failures + 1))
        continue
    fi
    program_make "$fault" "$program" "$scratch/planted" -DWEIR_PLANT="WEIR__PLANT_$fault"
    planted=$(verdict "$scratch/planted" "$test" "$limit_s")
    case $planted in
    failed) printf '%-22s %s\n' "$fault" "$program $test" ;;
    hung) printf '%-22s %s\n' "$fault" "$program $test (did not end)" ;;
    *)
        printf '%-22s %s\n' "$fault" "NOTHING: $program $test: $planted"
        failures=$((failures + 1))
        ;;
    esac
done < <(rows)
if [ "$failures" -gt 0 ]; then
    echo "plant: $failures of $(rows | wc -l) faults were not caught"
    exit 1
fi
echo "plant: every fault was caught, and none of these tests fails without it"
