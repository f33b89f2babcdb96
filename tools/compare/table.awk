# SPDX-License-Identifier: Apache-2.0
# From the lines of run: size, producers, engine, round, ops/s, p50, p99, p99.9, CPU us per record. Prints a table in Markdown: medians over the rounds, and smallest and
# largest rate. With plot=FILE also writes what plot.awk draws.
function number(v, i, n, out) { # 12345.6 -> 12,346
    v = sprintf("%.0f", v)
    for (i = length(v); i > 3; i -= 3) out = "," substr(v, i - 2, 3) out
    return substr(v, 1, i) out
}
function short(v) { return v >= 1000 ? number(v) : v >= 100 ? sprintf("%.0f", v) : sprintf("%.1f", v) }
function sorted(key, n, i, k, t) { # of the values of a cell into v[1..n]
    n = count[key]
    for (i = 1; i <= n; i++) {
        t = values[key, i]
        for (k = i; k > 1 && v[k - 1] > t; k--) v[k] = v[k - 1]
        v[k] = t
    }
    return n
}
function middle(key, n) {
    n = sorted(key)
    return n == 0 ? "" : n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
function against(r, name) {
    return best == 0 ? "-" : name == best_name ? "best" : sprintf("%.2f", r / best)
}
function bytes(n) { return n >= 1024 ? n / 1024 " KiB" : n " B" }
BEGIN { FS = "\t" }
function add(what, value, key) {
    if (value == "") return
    key = $1 SUBSEP $2 SUBSEP $3 SUBSEP what
    values[key, ++count[key]] = value + 0
}
{
    if (!(($1, $2) in cell)) {
        cell[$1, $2] = 1
        cells[++cells_n] = ($1 + 0) * 100000 + $2
    }
    if (!($3 in engine)) {
        engine[$3] = 1
        engines[++engines_n] = $3
    }
    add("ops", $5)
    add("p50", $6)
    add("p99", $7)
    add("p999", $8)
    add("cpu", $9)
}
END {
    for (i = 2; i <= cells_n; i++) {
        t = cells[i]
        for (k = i; k > 1 && cells[k - 1] > t; k--) cells[k] = cells[k - 1]
        cells[k] = t
    }
    for (c = 1; c <= cells_n; c++) {
        size = int(cells[c] / 100000)
        producers = cells[c] % 100000
        best = 0
        for (e = 1; e <= engines_n; e++) {
            rate[e] = middle(size SUBSEP producers SUBSEP engines[e] SUBSEP "ops")
            if (engines[e] !~ /^(weir|fio)/ && rate[e] > best) {
                best = rate[e]
                best_name = engines[e]
            }
        }
        printf "\n%d producer%s, records of %s\n\n", producers, (producers == 1 ? "" : "s"), bytes(size)
        print "| engine | records/s | smallest - largest | runs | against the best peer | p50 us | p99 us | p99.9 us | CPU us/record |"
        print "|---|---|---|---|---|---|---|---|---|"
        for (e = 1; e <= engines_n; e++) {
            key = size SUBSEP producers SUBSEP engines[e] SUBSEP
            if (rate[e] == "") continue
            n = sorted(key "ops")
            low = v[1]
            high = v[n]
            printf "| %s | %s | %s - %s | %d | %s | %s | %s | %s | %s |\n", engines[e], number(rate[e]), number(low), number(high), n,
                against(rate[e], engines[e]),
                short(middle(key "p50")), short(middle(key "p99")), short(middle(key "p999")), (count[key "cpu"] ? sprintf("%.1f", middle(key "cpu")) : "-")
            if (plot != "") printf "%s\t%s\t%d\t%s\t%s\t%s\n", bytes(size), engines[e], producers, rate[e], low, high >plot
        }
    }
}
