#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bits changed and files cut at places that chance chooses, of a log that was closed and of one that was killed. All places:
# weir-stress bitrot.
set -euo pipefail
export LC_ALL=C

stress=${WEIR_STRESS:?the weir-stress command}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/weir-bitrot.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
fail() {
    echo "FAIL: $*" >&2
    exit 1
}

"$stress" bitrot --sample "${WEIR_BITROT_SAMPLE:-500}" >"$scratch/out" || fail "something was found: $(cat "$scratch/out")"
cat "$scratch/out"
for due in 'closed: as due: whole' 'closed: as due: corrupt' 'killed: as due: whole' 'killed: as due: corrupt' \
    'killed: as due: torn'; do
    grep -q "^$due  *[1-9]" "$scratch/out" || fail "never happened: $due"
done
# A single case, and one in which both copies of the control file are lost.
"$stress" bitrot --case 593923 >"$scratch/out" || fail "$(cat "$scratch/out")"
grep -q '^closed: as due: refused  *1$' "$scratch/out" || fail "$(cat "$scratch/out")"
# A run that is ended by its time says how far it came, and one from there is the rest: no case twice, none left out.
sampled=$((20 * ${WEIR_BITROT_SAMPLE:-500}))
at=0
sum=0
for _ in $(seq 1000); do
    "$stress" bitrot --sample "$sampled" --from "$at" --for 300ms >"$scratch/out" || fail "$(cat "$scratch/out")"
    sum=$((sum + $(sed -n 's/^cases  *\([0-9]*\),.*/\1/p' "$scratch/out")))
    next=$(sed -n 's/^covered .*go on: weir-stress bitrot --from \([0-9]*\) .*/\1/p' "$scratch/out")
    [ -n "$next" ] || break
    at=$next
done
[ -z "$next" ] || fail "it does not come to its end"
"$stress" bitrot --sample "$sampled" >"$scratch/out" || fail "$(cat "$scratch/out")"
grep -q "^cases  *$sum," "$scratch/out" || fail "$sum cases in parts, and in one: $(cat "$scratch/out")"
