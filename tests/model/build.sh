#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles a part of the engine under Relacy: build.sh stage|writer OUTPUT [extra compiler flags]. STAGE=dir, IO=dir: another
# engine/stage or engine/io than the tree's (a mutant). The only change to the text: plain fields become race-checked ones.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
stage=${STAGE:-$root/engine/stage}
io=${IO:-$root/engine/io}
model=$1
out=$2
shift 2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
field='s/^    \(uint32_t\|uint64_t\|weir_lsn\|bool\) \([a-z_]*\);/    model_plain<\1> \2;/'
case $model in
stage | steps)
    mkdir "$tmp/stage"
    cp "$stage"/*.c "$stage"/*.h "$tmp/stage/"
    # A field that was broken over two lines is joined first.
    sed -i -z 's/\(uint64_t\|uint32_t\|weir_lsn\|bool\)\n *\([a-z_]*;\)/\1 \2/g' "$tmp/stage/stage.h"
    sed -i -e "/^struct weir__slot {/,/^};/$field" -e "/^struct weir__role {/,/^};/$field" "$tmp/stage/stage.h"
    test "$(grep -c model_plain "$tmp/stage/stage.h")" -ge 14
    ;;
writer)
    mkdir "$tmp/io"
    cp "$io"/*.c "$io"/*.h "$tmp/io/"
    sed -i -e 's/alignas(WEIR__LINE) \(uint64_t [a-z_]*;\)/\1/' "$tmp/io/writer_state.h"
    sed -i -e "/^struct writer_slot {/,/^};/$field" -e "/^struct weir_writer {/,/^};/$field" "$tmp/io/writer_state.h"
    test "$(grep -c model_plain "$tmp/io/writer_state.h")" -ge 18
    ;;
*)
    echo "build.sh: no model $model" >&2
    exit 64
    ;;
esac
"${CXX:-g++}" -std=gnu++17 -O1 -w -fpermissive -U_FORTIFY_SOURCE -fno-strict-aliasing -I"$tmp" -I"$root/engine" -I"$root/include" "$@" \
    "$here/${model}_model.cpp" -o "$out"
