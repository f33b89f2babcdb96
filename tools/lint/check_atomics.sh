#!/usr/bin/env bash
# Atomics in engine/: every access names its memory order, and nothing else stands in for an atomic.
#
#   check_atomics.sh              check this checkout
#   check_atomics.sh ROOT         check another tree
#   check_atomics.sh --self-test  plant violations in a scratch tree and see each one caught
#
# Forbidden, outside comments and strings:
#   atomic_thread_fence, atomic_signal_fence  ThreadSanitizer does not understand them, and the compilers do not say so
#   atomic_load(...) and the like             seq_cst by omission: write the _explicit form and the order
#   volatile                                  is no atomic (after asm it is something else, and allowed)
#   __sync_*, __atomic_*                      the compiler's builtins, where C11 has words for the same
#
# Exit 0: nothing found. 1: findings, one line each on stdout: file:line: what was found.
set -euo pipefail
export LC_ALL=C

# The text of a C file with comments and the insides of literals blanked; every line keeps its number.
blank() {
    awk '
        {
            out = ""
            n = length($0)
            for (i = 1; i <= n; i++) {
                c = substr($0, i, 1)
                two = substr($0, i, 2)
                if (state == "comment") {
                    if (two == "*/") { state = ""; i++ }
                } else if (state == "line") {
                    # until the end of the line
                } else if (state == "\"" || state == "\047") {
                    if (c == "\\") { i++ }
                    else if (c == state) { state = ""; out = out c }
                } else if (two == "/*") { state = "comment"; i++; out = out " " }
                else if (two == "//") { state = "line" }
                else {
                    if (c == "\"" || c == "\047") state = c
                    out = out c
                }
            }
            # Only a block comment goes on over a line end; a line comment or a literal does so behind a backslash.
            if (state != "comment" && substr($0, n, 1) != "\\") state = ""
            print out
        }' "$1"
}

names='atomic_(load|store|exchange|compare_exchange_strong|compare_exchange_weak|fetch_(add|sub|or|xor|and)'
names="$names|flag_test_and_set|flag_clear)"

check_tree() {
    local root=$1 findings=0 file found
    cd "$root"
    if [ ! -d engine ]; then
        echo "$root: no engine/ here"
        return 1
    fi
    while read -r file; do
        found=$(blank "$file" | awk -v file="$file" -v names="$names" '
            function says(what) { print file ":" FNR ": " what }
            # Words only: a letter, digit or underscore on either side makes it another name.
            function has(text, word) {
                return match(text, "(^|[^A-Za-z0-9_])(" word ")($|[^A-Za-z0-9_])")
            }
            {
                text = $0
                if (has(text, "atomic_(thread|signal)_fence")) says("a fence; order the accesses themselves")
                if (has(text, names)) says("an atomic access without _explicit")
                if (has(text, "__(sync|atomic)_[a-z0-9_]+")) says("a compiler builtin instead of a C11 atomic")
                gsub(/(__asm__|__asm|asm)[ \t]+(volatile|__volatile__)/, "", text)
                if (has(text, "volatile|__volatile__|__volatile")) says("volatile")
            }')
        if [ -n "$found" ]; then
            echo "$found"
            findings=$((findings + 1))
        fi
    done < <(find engine -type f \( -name '*.c' -o -name '*.h' \) | sort)
    [ "$findings" -eq 0 ]
}

self_test() {
    local scratch failures=0 report
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$scratch'" EXIT
    mkdir -p "$scratch/engine/stage"

    # expected part of the finding (empty: none expected), lines...
    planted() {
        local expected=$1
        printf '%s\n' "${@:2}" >"$scratch/engine/stage/slot.c"
        if report=$(check_tree "$scratch" 2>&1); then
            if [ -n "$expected" ]; then
                echo "self-test: not caught: ${*:2}"
                failures=$((failures + 1))
            fi
        elif [ -z "$expected" ] || [[ $report != *"$expected"* ]]; then
            echo "self-test: unexpected answer to: ${*:2}: $report"
            failures=$((failures + 1))
        fi
    }

    planted "" 'x = atomic_load_explicit(&a, memory_order_acquire);' \
        'atomic_fetch_add_explicit(&a, 1, memory_order_relaxed);' 'atomic_init(&a, 0);' \
        'atomic_compare_exchange_strong_explicit(&a, &b, 1, memory_order_acq_rel, memory_order_relaxed);'
    planted "" '/* volatile and atomic_thread_fence() are not for us,' ' * nor is atomic_load(). */ int a;'
    planted "" 'say("volatile \" atomic_load(&a)"); // __sync_synchronize' "char c = '\"'; /* volatile */"
    planted "" '__asm__ volatile("pause");' '__asm__ __volatile__("" ::: "memory");'
    planted "" 'int nonvolatile, volatile_bytes, my_atomic_load;'
    planted "slot.c:1: a fence" 'atomic_thread_fence(memory_order_seq_cst);'
    planted "a fence" 'atomic_signal_fence(memory_order_seq_cst);'
    planted "slot.c:2: an atomic access without _explicit" 'int a;' 'b = atomic_load(&a);'
    planted "without _explicit" 'atomic_store (&a, 1);'
    planted "without _explicit" 'atomic_exchange(&a, 1);'
    planted "without _explicit" 'if (atomic_compare_exchange_weak(&a, &b, 1))'
    planted "without _explicit" 'atomic_compare_exchange_strong(&a, &b, 1);'
    planted "without _explicit" 'atomic_fetch_sub(&a, 1);'
    planted "without _explicit" 'atomic_flag_test_and_set(&a);'
    planted "without _explicit" 'x = "text"; /* one */ atomic_fetch_or(&a, 1); /* two */'
    planted "slot.c:3: volatile" '/*' ' */' 'volatile int a;'
    planted "volatile" 'char c = '"'\\\"'"'; volatile int a;'
    planted "volatile" '__asm__ volatile("pause"); extern volatile int a;'
    planted "builtin" '__sync_synchronize();'
    planted "builtin" 'x = __atomic_load_n(&a, __ATOMIC_ACQUIRE);'

    [ "$failures" -eq 0 ] || return 1
    echo "self-test: every planted violation was caught"
}

case ${1:-} in
--self-test) self_test ;;
"") check_tree "$(dirname "${BASH_SOURCE[0]}")/../.." ;;
*) check_tree "$1" ;;
esac
