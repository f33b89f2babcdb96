# SPDX-License-Identifier: Apache-2.0
# The atomic accesses of C files whose order is not relaxed: file:function:word:op:n order. n: the how-manieth such access (word and op) of the
# function, in the order of the text. Arguments: ROOT=dir, which is cut off the names; files. What a plant replaces is left out.
function flush_file(    text, n, c, i, two, state, start, op, depth, arg, last, word, name, at, before, key) {
    text = ""
    n = length(raw)
    state = ""
    for (i = 1; i <= n; i++) { # without comments
        two = substr(raw, i, 2)
        c = substr(raw, i, 1)
        if (state == "c") { if (two == "*/") { state = ""; i++ } else if (c == "\n") text = text c; continue }
        if (two == "/*") { state = "c"; i++; continue }
        text = text c
    }
    name = "-"
    split("", seen)
    before = ""
    while (match(text, /(^|\n)[a-z][^\n;]*\(|weir__(load|store|exchange|fetch_add|fetch_sub|fetch_or|cas)\(/)) {
        at = substr(text, RSTART, RLENGTH)
        before = substr(before substr(text, 1, RSTART - 1), length(before) + RSTART - 200)
        text = " " substr(text, RSTART + RLENGTH) # a blank, lest the middle of a line pass for its beginning
        if (at !~ /^weir__(load|store|exchange|fetch_add|fetch_sub|fetch_or|cas)\($/) { # a function begins in the first column
            sub(/^\n/, "", at)
            sub(/\(.*/, "", at)
            sub(/.*[ *]/, "", at)
            name = at
            before = ""
            continue
        }
        op = at
        sub(/^weir__/, "", op)
        sub(/\($/, "", op)
        depth = 1
        arg = ""
        word = ""
        last = 0
        for (i = 1; depth > 0; i++) {
            c = substr(text, i, 1)
            if (c ~ /[([{]/) depth++
            if (c ~ /[])}]/) depth--
            if (depth == 0) break
            if (c == "," && depth == 1) { if (!last) word = arg; last = 1; arg = "" } else arg = arg c
        }
        gsub(/[ \n]/, "", word)
        gsub(/[ \n]/, "", arg)
        if (name ~ /planted/) continue
        if (before ~ /WEIR__PLANTED\([a-z_0-9]*\)[ \n]*\?[ \n]*$/) { before = ""; continue }
        key = file ":" name ":" word ":" op
        seen[key]++
        if (arg != "relaxed") print key ":" seen[key], arg
        before = ""
    }
}
FNR == 1 { if (raw != "") flush_file(); raw = ""; file = substr(FILENAME, length(ROOT) + 2) }
{ raw = raw $0 "\n" }
END { if (raw != "") flush_file() }
