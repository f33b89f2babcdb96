#!/usr/bin/env bash
# What a release must look like from outside, by readelf: relocations read-only and bound at start, no executable stack,
# no text relocations, stack protector and checked libc calls in use, landing pads for indirect branches where the machine
# has them, no debt to jemalloc in the library, programs position-independent.
#
#   check_hardening.sh LIBWEIR_SO [PROGRAM...]
#   check_hardening.sh --self-test COMPILER     what a library lacks must be found
set -euo pipefail
export LC_ALL=C

if [ "${1:-}" = --self-test ]; then
    work=$(mktemp -d "${TMPDIR:-/tmp}/weir-hardening.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cat >"$work/plain.c" <<'TEXT'
#include <stdio.h>
int weir_open(char *to, const char *from);
int weir_open(char *to, const char *from)
{
    char here[100];
    return sprintf(here, "%s", from) + sprintf(to, "%s", here);
}
TEXT
    flags=(-shared -fPIC -O2 -U_FORTIFY_SOURCE -fno-stack-protector "-Wl,-z,lazy,-z,norelro,-z,execstack")
    case $(uname -m) in x86_64) flags+=(-fcf-protection=none) ;; esac
    "$2" "${flags[@]}" -o "$work/libplain.so" "$work/plain.c"
    rc=0
    bash "$0" "$work/libplain.so" >"$work/out" || rc=$?
    cat "$work/out"
    [ "$rc" -eq 1 ]
    for what in "not bound at start" "stay writable" "is executable" "no stack protector" "no checked calls"; do
        grep -q "$what" "$work/out"
    done
    case $(uname -m) in x86_64) grep -q "no landing pads" "$work/out" ;; esac
    exit 0
fi

findings=0
complain() {
    echo "$1"
    findings=$((findings + 1))
}

for file in "$@"; do
    [ -n "$file" ] || continue
    dynamic=$(readelf -dW "$file")
    segments=$(readelf -lW "$file")
    symbols=$(readelf --dyn-syms -W "$file")
    grep -qE 'BIND_NOW|Flags:.*NOW' <<<"$dynamic" || complain "$file: symbols are not bound at start"
    grep -q GNU_RELRO <<<"$segments" || complain "$file: relocations stay writable"
    grep -E 'GNU_STACK' <<<"$segments" | grep -q 'RWE' && complain "$file: the stack is executable"
    grep -q TEXTREL <<<"$dynamic" && complain "$file: has text relocations"
    readelf -hW "$file" | grep -q 'Type:.*DYN' || complain "$file: is not position-independent"
    grep -qE 'RPATH|RUNPATH' <<<"$dynamic" && [[ $file == *.so* ]] && complain "$file: has a run path"
    case $file in
    *.so*)
        # Not asked of a program, which may have no function that needs one.
        grep -q __stack_chk_fail <<<"$symbols" || complain "$file: no stack protector"
        grep -qE '__[a-z]+_chk' <<<"$symbols" || complain "$file: no checked calls of libc"
        if [ "$(uname -m)" = x86_64 ] && ! objdump -d --disassemble=weir_open "$file" | grep endbr64 >/dev/null; then
            complain "$file: no landing pads for indirect branches"
        fi
        grep -q 'NEEDED.*jemalloc' <<<"$dynamic" && complain "$file: needs jemalloc, and could not be dlopened"
        grep -qE ' TLS ' <<<"$segments" && grep -q STATIC_TLS <<<"$dynamic" &&
            complain "$file: needs static TLS, and could not always be dlopened"
        ;;
    *)
        grep -q 'NEEDED.*jemalloc' <<<"$dynamic" || complain "$file: does not use jemalloc"
        ;;
    esac
done
[ "$findings" -eq 0 ]
