#!/usr/bin/env bash
# Layout of every C file, as .clang-format says. Fix with: tools/lint/check_format.sh --fix
#
# Exit 0: nothing to change. 1: differences, named. 77: clang-format 14 is not here, so nothing was checked.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for clang_format in clang-format-14 clang-format ""; do
    if [ -z "$clang_format" ]; then
        echo "clang-format 14 is not installed: skipped"
        exit 77
    fi
    # Another version lays out the same options differently.
    if command -v "$clang_format" >/dev/null && "$clang_format" --version | grep -q 'version 14\.'; then
        break
    fi
done

folders=()
for folder in include engine stress tests tools; do
    [ ! -d "$folder" ] || folders+=("$folder")
done
mapfile -d '' files < <(find "${folders[@]}" -type f \( -name '*.c' -o -name '*.h' \) -print0 | sort -z)

if [ "${1:-}" = --fix ]; then
    "$clang_format" --style=file -i "${files[@]}"
elif ! report=$("$clang_format" --style=file --dry-run -Werror "${files[@]}" 2>&1); then
    # The places only; what it should be is one --fix away.
    sed -n 's/: error: code should be clang-formatted.*//p' <<<"$report" | head -n 50
    exit 1
fi
