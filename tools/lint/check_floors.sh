#!/usr/bin/env bash
# Which file may include which: the floors of engine/, as a table.
#
#   check_floors.sh              check this checkout
#   check_floors.sh ROOT         check another tree
#   check_floors.sh --self-test  plant violations in a scratch tree and see each one caught
#
# Exit 0: nothing found. 1: findings, one line each on stdout: file:line: what is wrong.
set -euo pipefail
export LC_ALL=C

# floor: the floors whose headers it may include. A floor that is not in its own row's list is a stranger, be it
# higher or a peer.
floors() {
    cat <<'TABLE'
base:    base
port:    base port
io:      base port io
format:  base format
stage:   base port format stage
segment: base port io format segment
keep:    base port io format segment keep
drain:   base port io format stage segment keep drain
recover: base port io format segment recover
read:    base port io format segment read
api:     base port io format stage segment keep drain recover read api
TABLE
}
# Floors that know nothing of the public interface but the codes and the version.
low_floors="base port format"
low_public="weir/codes.h weir/version.h"
# The only floor that names a dependency or the kernel's own headers.
dependency_floor="port"
dependency_headers='^(liburing\.h|liburing/.*|ck_.*\.h|jemalloc/.*|jemalloc\.h|linux/.*)$'

# One line per include: file, line, how ("quote" or "angle"), name. The name is as written.
list_includes() {
    find engine include/weir -type f \( -name '*.c' -o -name '*.h' \) | sort | while read -r file; do
        awk -v file="$file" '
            /^[ \t]*#[ \t]*include[ \t]*["<]/ {
                text = $0
                sub(/^[ \t]*#[ \t]*include[ \t]*/, "", text)
                how = substr(text, 1, 1) == "<" ? "angle" : "quote"
                text = substr(text, 2)
                sub(/[">].*/, "", text)
                print file, FNR, how, text
            }' "$file"
    done
}

# Path with "." and ".." taken out.
normal_path() {
    realpath -m -s --relative-to=. -- "$1"
}

check_tree() {
    local root=$1 findings=0 edges file line how name floor allowed target target_floor
    cd "$root"
    if [ ! -d engine ]; then
        echo "$root: no engine/ here"
        return 1
    fi
    declare -A may=()
    while IFS=: read -r floor allowed; do
        may[$floor]=" $(echo "$allowed" | xargs) "
    done < <(floors)
    edges=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -f '$edges'" RETURN

    complain() {
        echo "$1"
        findings=$((findings + 1))
    }

    # Every file of engine/ stands on a floor.
    while read -r file; do
        floor=$(cut -d/ -f2 <<<"$file")
        if [ "$(tr -cd / <<<"$file" | wc -c)" -lt 2 ] || [ -z "${may[$floor]:-}" ]; then
            complain "$file:1: stands on no floor; the floors are: ${!may[*]}"
        fi
    done < <(find engine -type f \( -name '*.c' -o -name '*.h' \) | sort)

    while read -r file line how name; do
        case $file in
        engine/*) floor=$(cut -d/ -f2 <<<"$file") ;;
        *) floor=public ;;
        esac
        if [ "$floor" != public ] && [ -z "${may[$floor]:-}" ]; then
            continue # complained about above
        fi

        # Where does it lead? Inside the project by either kind of brackets, else to the system.
        target=
        if [ "$how" = quote ] && [ -f "$(dirname "$file")/$name" ]; then
            target=$(normal_path "$(dirname "$file")/$name")
        elif [ -f "engine/$name" ]; then
            target=$(normal_path "engine/$name")
        elif [ -f "include/$name" ]; then
            target=$(normal_path "include/$name")
        elif [ "$how" = quote ] || [[ $name == weir/* ]]; then
            complain "$file:$line: \"$name\" is neither in engine/ nor in include/"
            continue
        fi

        case $target in
        engine/*)
            echo "$file $target" >>"$edges"
            target_floor=$(cut -d/ -f2 <<<"$target")
            if [ "$floor" = public ]; then
                complain "$file:$line: a public header includes $target"
            elif [ "${target##*.}" != h ]; then
                complain "$file:$line: includes $target, which is not a header"
            elif [[ ${may[$floor]} != *" $target_floor "* ]]; then
                complain "$file:$line: floor $floor may not include $target (it may:${may[$floor]% })"
            fi
            ;;
        include/*)
            echo "$file $target" >>"$edges"
            if [[ " $low_floors " == *" $floor "* && " $low_public " != *" ${target#include/} "* ]]; then
                complain "$file:$line: floor $floor may not include ${target#include/} (it may: $low_public)"
            fi
            ;;
        "")
            if [ "$floor" != "$dependency_floor" ] && [[ $name =~ $dependency_headers ]]; then
                complain "$file:$line: only engine/$dependency_floor may include <$name>"
            fi
            ;;
        *)
            complain "$file:$line: \"$name\" leads out of engine/ and include/: $target"
            ;;
        esac
    done < <(list_includes)

    # tsort names the members of every cycle it meets on stderr.
    if ! tsort "$edges" >/dev/null 2>"$edges.cycle"; then
        complain "include cycle: $(sed -n 's/^tsort: //p' "$edges.cycle" | grep -v 'input contains a loop' | xargs)"
    fi
    rm -f "$edges.cycle"

    # Reads, writes and what is handed to a queue: one place knows what a short result means.
    while IFS=: read -r file line _; do
        complain "$file:$line: only engine/port and engine/io/transfer.c may read, write, push and reap"
    done < <(grep -rnE --include='*.[ch]' 'ops->(read|write|queue_push|queue_reap)\(' engine |
        grep -vE '^engine/(port/|io/transfer\.c:)' | sort)
    [ "$findings" -eq 0 ]
}

# ---- self-test ----

put() { # file, lines...
    mkdir -p "$(dirname "$1")"
    printf '%s\n' "${@:2}" >"$1"
}

plant_clean_tree() {
    put include/weir/version.h '#define V 1'
    put include/weir/codes.h '#include <stdint.h>'
    put include/weir/weir.h '#include "codes.h"' '#include <weir/version.h>'
    put engine/base/num.h '#include <weir/codes.h>'
    put engine/port/ring.c '#include "base/num.h"' '#include <ck_ring.h>' '#include <linux/futex.h>'
    put engine/port/io.h '#include "base/num.h"'
    put engine/format/record.h '#include "base/num.h"'
    put engine/stage/slot.h '#include "port/io.h"' '#include "format/record.h"' '#include <weir/weir.h>'
    put engine/stage/slot.c '#include "slot.h"'
    put engine/segment/segment.h '#include "format/record.h"'
    put engine/keep/keeper.h '#include "segment/segment.h"'
    put engine/drain/drain.h '#include "stage/slot.h"' '#include "segment/segment.h"' '#include "keep/keeper.h"'
    put engine/recover/scan.h '#include "segment/segment.h"'
    put engine/read/cursor.h '#include "segment/segment.h"'
    put engine/api/log.c '#include "drain/drain.h"' '#include "recover/scan.h"' '#include "read/cursor.h"' \
        '#include "weir/weir.h"'
}

self_test() {
    local scratch failures=0 report
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$scratch'" EXIT

    # name, expected part of the finding (empty: none expected), file, lines...
    planted() {
        local name=$1 expected=$2
        rm -rf "${scratch:?}/tree"
        mkdir "$scratch/tree"
        (
            cd "$scratch/tree"
            plant_clean_tree
            [ $# -lt 3 ] || put "${@:3}"
        )
        if report=$(check_tree "$scratch/tree" 2>&1); then
            if [ -n "$expected" ]; then
                echo "self-test: $name: not caught"
                failures=$((failures + 1))
            fi
        elif [ -z "$expected" ] || [[ $report != *"$expected"* ]]; then
            echo "self-test: $name: unexpected answer: $report"
            failures=$((failures + 1))
        fi
    }

    planted "clean tree" ""
    planted "upward include" "floor base may not include engine/stage/slot.h" \
        engine/base/up.c '#include "stage/slot.h"'
    planted "a read of one's own" "only engine/port and engine/io/transfer.c may read" \
        engine/segment/own.c 'got = io->ops->read(io, file, buffer, bytes, 0);'
    planted "the transfer's read" "" engine/io/transfer.c 'got = io->ops->read(io, file, buffer, bytes, 0);'
    planted "upward include, relative path" "floor format may not include engine/drain/drain.h" \
        engine/format/up.c '#include "../drain/drain.h"'
    planted "upward include, angle brackets, spaces" "engine/port/up.c:2: floor port may not include" \
        engine/port/up.c '/* first line */' '  #  include <format/record.h>'
    planted "stage includes segment" "floor stage may not include engine/segment/segment.h" \
        engine/stage/up.c '#include "segment/segment.h"'
    planted "segment includes stage" "floor segment may not include engine/stage/slot.h" \
        engine/segment/up.c '#include "stage/slot.h"'
    planted "keep includes stage" "floor keep may not include engine/stage/slot.h" \
        engine/keep/up.c '#include "stage/slot.h"'
    planted "segment includes keep" "floor segment may not include engine/keep/keeper.h" \
        engine/segment/up.c '#include "keep/keeper.h"'
    planted "drain includes its peer recover" "floor drain may not include engine/recover/scan.h" \
        engine/drain/peer.c '#include "recover/scan.h"'
    planted "read includes its peer drain" "floor read may not include engine/drain/drain.h" \
        engine/read/peer.c '#include "drain/drain.h"'
    planted "weir.h on a low floor" "floor format may not include weir/weir.h" \
        engine/format/up.c '#include <weir/weir.h>'
    planted "liburing outside port" "only engine/port may include <liburing.h>" \
        engine/drain/dep.c '#include <liburing.h>'
    planted "ck outside port" "only engine/port may include <ck_ring.h>" \
        engine/stage/dep.c '#include <ck_ring.h>'
    planted "linux header outside port" "only engine/port may include <linux/io_uring.h>" \
        engine/api/dep.c '#include <linux/io_uring.h>'
    planted "jemalloc outside port" "only engine/port may include <jemalloc/jemalloc.h>" \
        engine/base/dep.c '#include <jemalloc/jemalloc.h>'
    planted "public header includes the engine" "a public header includes engine/base/num.h" \
        include/weir/leak.h '#include "base/num.h"'
    planted "include that leads nowhere" "is neither in engine/ nor in include/" \
        engine/base/nowhere.c '#include "base/nothing.h"'
    planted "unknown floor" "stands on no floor" engine/attic/thing.c '#include <stdio.h>'
    planted "file on no floor" "stands on no floor" engine/thing.c '#include <stdio.h>'
    planted "source file included" "which is not a header" engine/port/all.c '#include "ring.c"'
    # A cycle needs two files.
    rm -rf "${scratch:?}/tree"
    mkdir "$scratch/tree"
    (
        cd "$scratch/tree"
        plant_clean_tree
        put engine/base/one.h '#include "base/two.h"'
        put engine/base/two.h '#include "base/one.h"'
    )
    if report=$(check_tree "$scratch/tree" 2>&1) || [[ $report != *"include cycle: "*engine/base/one.h* ]]; then
        echo "self-test: cycle of two headers: unexpected answer: $report"
        failures=$((failures + 1))
    fi

    [ "$failures" -eq 0 ] || return 1
    echo "self-test: every planted violation was caught"
}

case ${1:-} in
--self-test) self_test ;;
"") check_tree "$(dirname "${BASH_SOURCE[0]}")/../.." ;;
*) check_tree "$1" ;;
esac
