#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The example in README.md compiles without a warning, runs, and prints the record that it appended.
# Usage: check_readme.sh SOURCE_DIR BUILD_DIR [COMPILER]
set -euo pipefail
source_dir=$1
build_dir=$2
compiler=${3:-cc}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/weir-readme.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
awk '/^```c$/ {on = 1; next} /^```$/ {on = 0} on' "$source_dir/README.md" >"$scratch/example.c"
lines=$(wc -l <"$scratch/example.c")
[ "$lines" -ge 10 ] || { echo "README.md has no example"; exit 1; }
library=$(find "$build_dir" -maxdepth 2 -name 'libweir.so' | sed -n 1p)
[ -n "$library" ] || { echo "no libweir.so under $build_dir"; exit 1; }
"$compiler" -std=c11 -Wall -Wextra -Werror -I"$source_dir/include" "$scratch/example.c" \
    -L"$(dirname "$library")" -lweir -Wl,-rpath,"$(dirname "$library")" -o "$scratch/example"
first=$("$scratch/example" "$scratch/log")
second=$("$scratch/example" "$scratch/log")
echo "$second"
[ "$(grep -c 'a record that survives a power cut' <<<"$first")" = 1 ]
[ "$(grep -c 'a record that survives a power cut' <<<"$second")" = 2 ]
echo "README example: $lines lines, one record after the first run, two after the second"
