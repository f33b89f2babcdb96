#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every test function, planted fault and verb that tests/README.md names is there, and the table of faults has all its rows.
set -euo pipefail
export LC_ALL=C

cd "$(dirname "$0")/../.."
readme=tests/README.md
failures=0

say() {
    echo "$readme: $*" >&2
    failures=$((failures + 1))
}

while read -r name; do
    grep -rqwE --include='*.c' --include='*.h' "$name" tests || say "no test function $name"
done < <(grep -oE '`[a-z0-9]+(_[a-z0-9]+){2,}`' "$readme" | tr -d '`' | sort -u)
while read -r name; do
    grep -qw "WEIR__PLANT_$name" engine/base/plant.h || say "no planted fault $name"
done < <(grep -oE 'plant\.(io|sim|stress): [a-z0-9_]+(, [a-z0-9_]+)*' "$readme" | sed 's/^[^:]*: //' | tr -d ',' | tr ' ' '\n' | grep _ | sort -u)
while read -r name; do
    path=tests/$(tr . / <<<"${name%.*}")/test_${name##*.}
    [ -e "$path.c" ] || [ -e "$path.sh" ] || say "no test $name"
done < <(grep -oE '\b(unit|integration|fault|golden)\.[a-z0-9_.]*[a-z0-9]' "$readme" | sort -u)
for row in $(seq 37); do
    grep -qE "^\| $row \|" "$readme" || say "no row $row"
done
[ "$failures" -eq 0 ] || exit 1
echo "every name in $readme stands for something"
