#!/usr/bin/env bash
# What a release must look like from outside, by readelf: relocations read-only and bound at start, no executable stack,
# no text relocations, stack protector in use, no debt to jemalloc in the library, programs position-independent.
#
#   check_hardening.sh LIBWEIR_SO [PROGRAM...]
set -euo pipefail
export LC_ALL=C

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
