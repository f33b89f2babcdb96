#!/usr/bin/env bash
# The exported symbols, in the three places that must agree: WEIR_API declarations in include/weir/*.h, the version
# script engine/weir.map, and what the built library really exports.
#
#   check_map.sh                headers against the map
#   check_map.sh LIBWEIR_SO     headers against the map against the library
#   check_map.sh --write        bring the map up to date: new symbols go into the newest block, vanished ones leave
#   check_map.sh --self-test    plant disagreements in a scratch tree and see each one caught
#
# Exit 0: they agree. 1: findings, one line each.
set -euo pipefail
export LC_ALL=C

# Names declared with WEIR_API, sorted. Comments and preprocessor lines are dropped, then each declaration from
# WEIR_API to its semicolon is one piece: a function's name is the first weir_ word before a parenthesis, a variable's
# the last weir_ word.
header_symbols() {
    cat "$1"/include/weir/*.h | awk '
        {
            line = $0
            if (directive) { directive = line ~ /\\$/; next }
            if (!comment && line ~ /^[ \t]*#/) { directive = line ~ /\\$/; next }
            out = ""
            while (line != "") {
                if (comment) {
                    at = index(line, "*/")
                    if (!at) { line = ""; break }
                    line = substr(line, at + 2)
                    comment = 0
                } else {
                    at = index(line, "/*")
                    if (!at) { out = out line; line = ""; break }
                    out = out substr(line, 1, at - 1) " "
                    line = substr(line, at + 2)
                    comment = 1
                }
            }
            sub(/\/\/.*/, "", out)
            text = text " " out
        }
        END {
            while (match(text, /(^|[^A-Za-z0-9_])WEIR_API[^A-Za-z0-9_]/)) {
                text = substr(text, RSTART + RLENGTH)
                end = index(text, ";")
                piece = end ? substr(text, 1, end - 1) : text
                text = substr(text, end ? end + 1 : length(text) + 1)
                name = ""
                if (match(piece, /(^|[^A-Za-z0-9_])weir_[A-Za-z0-9_]*[ \t]*\(/)) {
                    name = substr(piece, RSTART, RLENGTH)
                } else {
                    while (match(piece, /(^|[^A-Za-z0-9_])weir_[A-Za-z0-9_]*/)) {
                        name = substr(piece, RSTART, RLENGTH)
                        piece = substr(piece, RSTART + RLENGTH)
                    }
                }
                gsub(/[^A-Za-z0-9_]/, "", name)
                print name
            }
        }' | sort -u
}

# "symbol block" of every line in a global: part.
map_entries() {
    awk '
        /^[A-Za-z0-9_.]+ *\{/ { block = $1; sub(/\{.*/, "", block) }
        /global:/ { global = 1; next }
        /local:|^}/ { global = 0 }
        global && /;/ { name = $1; sub(/;.*/, "", name); print name, block }' "$1/engine/weir.map" | sort
}

map_symbols() {
    map_entries "$1" | cut -d' ' -f1 | sort -u
}

# "symbol block" of every exported symbol; the blocks' own names (type A) left out.
library_entries() {
    nm -D --defined-only "$1" | awk '
        $2 == "A" { next }
        { name = $3; at = index(name, "@"); block = "-"
          if (at) { block = substr(name, at); gsub(/@/, "", block); name = substr(name, 1, at - 1) }
          print name, block }' | sort -u
}

check() {
    local root=$1 library=${2:-} findings=0 symbol
    complain() {
        echo "$1"
        findings=$((findings + 1))
    }

    while read -r symbol; do
        complain "engine/weir.map: $symbol is missing, a header declares it"
    done < <(comm -23 <(header_symbols "$root") <(map_symbols "$root"))
    while read -r symbol; do
        complain "engine/weir.map: no header declares $symbol"
    done < <(comm -13 <(header_symbols "$root") <(map_symbols "$root"))
    while read -r symbol; do
        complain "engine/weir.map: $symbol stands in it more than once"
    done < <(map_entries "$root" | cut -d' ' -f1 | sort | uniq -d)
    while read -r symbol; do
        complain "engine/weir.map: $symbol is no public name"
    done < <(map_symbols "$root" | grep -Ev '^weir_[a-z0-9]' || true)

    if [ -n "$library" ] && [ ! -f "$library" ]; then
        complain "$library: not there"
    elif [ -n "$library" ]; then
        while read -r symbol; do
            complain "$library: does not export $symbol"
        done < <(comm -23 <(map_entries "$root") <(library_entries "$library"))
        while read -r symbol; do
            complain "$library: exports $symbol, which the map does not list so"
        done < <(comm -13 <(map_entries "$root") <(library_entries "$library"))
    fi
    [ "$findings" -eq 0 ]
}

# Blocks of released versions stay as they are, but for symbols that no header declares any more; a new symbol goes
# into the block of the version that stands in version.h.
write() {
    local root=$1 map=$1/engine/weir.map block previous="" symbols fresh
    block=WEIR_$(awk '$2 == "WEIR_VERSION_MAJOR" { a = $3 } $2 == "WEIR_VERSION_MINOR" { b = $3 }
        END { print a "." b }' "$root/include/weir/version.h")
    touch "$map"
    fresh=$(comm -23 <(header_symbols "$root") <(map_symbols "$root"))
    {
        echo "/* Exported symbols, one block per release. Written by tools/lint/check_map.sh --write from the WEIR_API"
        echo " * declarations in include/weir; ctest package.symbols compares it with them and with the library. */"
        for name in $(map_entries "$root" | cut -d' ' -f2 | sort -V -u) "$block"; do
            [ "$name" != "$previous" ] || continue
            symbols=$(comm -12 <(header_symbols "$root") \
                <(map_entries "$root" | awk -v b="$name" '$2 == b { print $1 }' | sort -u))
            if [ "$name" = "$block" ]; then
                symbols=$(printf '%s\n%s\n' "$symbols" "$fresh" | sort -u)
            fi
            echo
            echo "$name {"
            echo "global:"
            sed -n 's/..*/    &;/p' <<<"$symbols"
            if [ -z "$previous" ]; then
                echo "local:"
                echo "    *;"
                echo "};"
            else
                echo "} $previous;"
            fi
            previous=$name
        done
    } >"$map.new"
    mv "$map.new" "$map"
}

self_test() {
    local scratch failures=0 report
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$scratch'" EXIT
    mkdir -p "$scratch/include/weir" "$scratch/engine"

    cat >"$scratch/include/weir/version.h" <<'HEADER'
#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
HEADER
    cat >"$scratch/include/weir/weir.h" <<'HEADER'
#define WEIR_API __attribute__((visibility("default"))) \
    /* a WEIR_API int weir_not_this(void); in a directive */
/* WEIR_API int weir_nor_this(void);
 * WEIR_API int weir_nor_that(void); */
struct weir_log;
WEIR_API int weir_open(const char *path, struct weir_log **log_out); // WEIR_API int weir_nor_the_other(void);
WEIR_API const char *
weir_strerror(int code);
WEIR_API int weir_listen(struct weir_log *log,
                         void (*weir_event)(void *ctx), void *ctx); WEIR_API int weir_close(struct weir_log *log);
WEIR_API extern const unsigned weir_answer;
HEADER

    # expected answer of the check, then what is to be checked
    expect() {
        local expected=$1
        report=$(check "${@:2}" 2>&1) || true
        if [ "$report" != "$expected" ]; then
            echo "self-test: expected: $expected"
            echo "self-test: answered: $report"
            failures=$((failures + 1))
        fi
    }

    write "$scratch"
    if [ "$(map_symbols "$scratch" | xargs)" != "weir_answer weir_close weir_listen weir_open weir_strerror" ]; then
        echo "self-test: --write found: $(map_symbols "$scratch" | xargs)"
        failures=$((failures + 1))
    fi
    expect "" "$scratch"

    # A symbol too few, one too many, an internal one, one twice.
    cp "$scratch/engine/weir.map" "$scratch/good.map"
    grep -v weir_close "$scratch/good.map" >"$scratch/engine/weir.map"
    expect "engine/weir.map: weir_close is missing, a header declares it" "$scratch"
    sed 's/.*weir_open;/&\n    weir_ghost;/' "$scratch/good.map" >"$scratch/engine/weir.map"
    expect "engine/weir.map: no header declares weir_ghost" "$scratch"
    sed 's/.*weir_open;/&\n    weir_open;/' "$scratch/good.map" >"$scratch/engine/weir.map"
    expect "engine/weir.map: weir_open stands in it more than once" "$scratch"
    sed 's/.*weir_open;/&\n    weir__slot_take;/' "$scratch/good.map" >"$scratch/engine/weir.map"
    expect "engine/weir.map: no header declares weir__slot_take
engine/weir.map: weir__slot_take is no public name" "$scratch"

    # The next release adds a function and drops one.
    cp "$scratch/good.map" "$scratch/engine/weir.map"
    sed -i 's/MINOR 1/MINOR 2/' "$scratch/include/weir/version.h"
    sed -i 's/weir_strerror/weir_fresh/' "$scratch/include/weir/weir.h"
    write "$scratch"
    expect "" "$scratch"
    if [ "$(map_entries "$scratch" | awk '$2 == "WEIR_0.2" { print $1 }')" != weir_fresh ] ||
        ! grep -q '^} WEIR_0.1;$' "$scratch/engine/weir.map"; then
        echo "self-test: the second block is wrong:"
        cat "$scratch/engine/weir.map"
        failures=$((failures + 1))
    fi

    # A library that exports one symbol too few and one too many.
    if command -v cc >/dev/null; then
        cat >"$scratch/lib.c" <<'SOURCE'
int weir_open(void);
int weir_close(void);
int weir__leak(void);
int weir_open(void) { return 0; }
int weir_close(void) { return 0; }
int weir__leak(void) { return 0; }
SOURCE
        cc -shared -fPIC -o "$scratch/lib.so" "$scratch/lib.c" \
            "-Wl,--version-script=$scratch/engine/weir.map"
        expect "$scratch/lib.so: does not export weir_answer WEIR_0.1
$scratch/lib.so: does not export weir_fresh WEIR_0.2
$scratch/lib.so: does not export weir_listen WEIR_0.1" "$scratch" "$scratch/lib.so"
        cc -shared -fPIC -o "$scratch/lib.so" "$scratch/lib.c"
        report=$(check "$scratch" "$scratch/lib.so" || true)
        if [[ $report != *"exports weir__leak -, which"* ]]; then
            echo "self-test: a leaked internal symbol was not caught: $report"
            failures=$((failures + 1))
        fi
    fi

    [ "$failures" -eq 0 ] || return 1
    echo "self-test: every planted disagreement was caught"
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
case ${1:-} in
--self-test) self_test ;;
--write) write "$root" ;;
*) check "$root" "${1:-}" ;;
esac
