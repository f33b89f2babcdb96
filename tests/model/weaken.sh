#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every memory order of the engine, one step weaker. orders.tsv says for each which check dies, or why none has to.
#   weaken.sh --table    only that the table and the source agree: every access of engine/ whose order is not relaxed stands in it,
#                        with each weaker order, a check or a reason; and nothing else does. Needs no tool
#   weaken.sh            that, and each check of the table, with the access weakened: it has to die (Relacy; a minute)
#   weaken.sh --alive    that, and every small step with each order of the stage that the table calls alive: none may die (minutes)
#   weaken.sh --help
# 0: as the table says, 1: not, 77: a tool is missing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
table=${ORDERS:-$here/orders.tsv}
tab=$(printf '\t')
case ${1:-} in
'' | --table | --alive) ;;
--help) sed -n 's/^# \{0,1\}//;3,10p' "$0"; exit 0 ;;
*) echo "weaken.sh: no $1; --help" >&2; exit 64 ;;
esac
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0

# The table and the source.
find "$root/engine" -name '*.[ch]' ! -path '*/base/atomic.h' | sort >"$tmp/files"
# shellcheck disable=SC2046 # names without blanks
awk -v ROOT="$root/engine" -f "$here/accesses.awk" $(cat "$tmp/files") | awk '{
    load = $1 ~ /:load:[0-9]+$/; store = $1 ~ /:store:[0-9]+$/
    if ($2 == "seq_cst") print $1, $2, load ? "acquire" : store ? "release" : "acq_rel"
    else if ($2 == "acq_rel") { print $1, $2, "acquire"; print $1, $2, "release" }
    else print $1, $2, "relaxed"
}' | sort >"$tmp/source"
grep -v '^#' "$table" | awk -F "$tab" '{ print $1, $2, $3 }' | sort >"$tmp/said"
test -s "$tmp/source"
if ! diff "$tmp/said" "$tmp/source" >"$tmp/diff"; then
    sed -n 's/^</weaken.sh: in the table, not in the source:/p;s/^>/weaken.sh: in the source, not in the table:/p' "$tmp/diff"
    status=1
fi
if grep -v '^#' "$table" | awk -F "$tab" '$4 == "" || ($4 == "-" && length($5) < 5)' | grep .; then
    echo "weaken.sh: neither a check nor a reason"
    status=1
fi
echo "weaken.sh: $(wc -l <"$tmp/source") orders, $(grep -v '^#' "$table" | awk -F "$tab" '$4 != "-"' | wc -l) with a check, the others with a reason"
if [ "${1:-}" = --table ] || [ $status -ne 0 ]; then exit $status; fi

command -v "${CXX:-g++}" >/dev/null || { echo "model: no ${CXX:-g++}, skipped"; exit 77; }
echo "#include <relacy/relacy.hpp>" | "${CXX:-g++}" -std=gnu++17 -w -fpermissive -fsyntax-only -x c++ - 2>/dev/null || {
    echo "model: no relacy-dev, skipped"
    exit 77
}
# Each check with its access weakened.
for program in steps writer; do
    "$here/build.sh" $program "$tmp/$program"
    awk -F "$tab" -v program=$program '$4 ~ "^" program " " {
        split($4, check, " ")
        sub(/^[a-z]*\//, "", $1)
        print $1, $3, check[3] + 0, check[2]
    }' "$table" >"$tmp/lines"
    "$tmp/$program" weakened <"$tmp/lines" >"$tmp/out" || status=1
    grep -v ': killed by ' "$tmp/out" | sed 's/^/weaken.sh: it does not die: /' && status=1
    echo "weaken.sh: $program: $(grep -c ': killed by ' "$tmp/out") of $(wc -l <"$tmp/lines") die"
done
if [ "${1:-}" = --alive ]; then
    small=$("$tmp/steps" names | grep -vxE "commit-commit|push-push|wait-ack-3|lend-again|lend-commit|lend-nudge|lend-straggler|lend-back|reserve-close-3|open-late-3|wait-reuse|end-.*|oversize-frontier|lives-.*" | tr '\n' ' ')
    awk -F "$tab" -v small="$small" '$4 == "-" && $1 ~ "^stage/" { sub(/^[a-z]*\//, "", $1); print $1, $3, 0, small }' "$table" >"$tmp/lines"
    "$tmp/steps" weakened <"$tmp/lines" | sed 's/ 0 .*:/:/' >"$tmp/out"
    grep -v ': alive$' "$tmp/out" | sed 's/^/weaken.sh: called alive, and dies: /' && status=1
    echo "weaken.sh: $(grep -c ': alive$' "$tmp/out") of $(wc -l <"$tmp/lines") alive in every execution of the small steps"
fi
exit $status
