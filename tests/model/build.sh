#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles engine/stage under Relacy: build.sh OUTPUT [extra compiler flags]. STAGE=dir: another stage than the tree's (a mutant).
# The only change to the text: plain fields of slot and role become race-checked ones.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
stage=${STAGE:-$root/engine/stage}
out=$1
shift
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/stage"
cp "$stage"/*.c "$stage"/*.h "$tmp/stage/"
field='s/^    \(uint32_t\|uint64_t\|weir_lsn\|bool\) \([a-z_]*\);/    model_plain<\1> \2;/'
# A field that was broken over two lines is joined first.
sed -i -z 's/\(uint64_t\|uint32_t\|weir_lsn\|bool\)\n *\([a-z_]*;\)/\1 \2/g' "$tmp/stage/stage.h"
sed -i -e "/^struct weir__slot {/,/^};/$field" -e "/^struct weir__role {/,/^};/$field" "$tmp/stage/stage.h"
test "$(grep -c model_plain "$tmp/stage/stage.h")" -ge 14
"${CXX:-g++}" -std=gnu++17 -O2 -w -fpermissive -U_FORTIFY_SOURCE -fno-strict-aliasing -I"$tmp" -I"$root/engine" -I"$root/include" "$@" \
    "$here/stage_model.cpp" -o "$out"
