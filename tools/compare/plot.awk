# SPDX-License-Identifier: Apache-2.0
# Draws lines into one SVG: a panel beside the other. Standard input, tab-separated: panel, series, x, y, smallest y, largest y. Variables: title, xlabel, ylabel;
# linear=1 for a y axis from 0 instead of a logarithmic one. The x axis is logarithmic where every x is above 0 and they span more than a factor of 8.
function escape(s) {
    gsub(/&/, "\\&amp;", s)
    gsub(/</, "\\&lt;", s)
    gsub(/>/, "\\&gt;", s)
    return s
}
function log10(x) { return log(x) / log(10) }
function human(v, u) {
    split("k M G T", u, " ")
    for (i = 0; v >= 1000 && i < 4; i++) v /= 1000
    return sprintf("%g", v) (i ? u[i] : "")
}
function human2(v, u) { # powers of 1024, for sizes
    split("K M G T", u, " ")
    for (i = 0; v >= 1024 && v % 1024 == 0 && i < 4; i++) v /= 1024
    return sprintf("%g", v) (i ? u[i] : "")
}
function place_x(x) { return left + (logx ? (log(x) - log(xmin)) / (log(xmax) - log(xmin)) : (x - xmin) / (xmax - xmin)) * (width - 2 * inset) + inset }
function place_y(y) {
    if (linear) return top + height * (1 - y / ytop)
    if (y <= 0) return top + height
    return top + height * (1 - (log10(y) - ylow) / (yhigh - ylow))
}
BEGIN {
    FS = "\t"
    split("#1b6ca8 #d1495b #2e933c #8f5bb5 #e08e1b #4c4c4c #12a4a4 #b3a100 #c06090 #7a4a22", colours, " ")
    colours_n = 10
}
NF >= 4 {
    if (!($1 in panel)) {
        panel[$1] = ++panels
        panel_name[panels] = $1
    }
    if (!($2 in series)) {
        series[$2] = ++series_n
        series_name[series_n] = $2
    }
    n++
    p[n] = panel[$1]; s[n] = series[$2]; x[n] = $3 + 0; y[n] = $4 + 0; lo[n] = $5 == "" ? y[n] : $5 + 0; hi[n] = $6 == "" ? y[n] : $6 + 0
    if (n == 1 || x[n] < xmin) xmin = x[n]
    if (n == 1 || x[n] > xmax) xmax = x[n]
    if (lo[n] > 0 && (ymin == "" || lo[n] < ymin)) ymin = lo[n]
    if (ymax == "" || hi[n] > ymax) ymax = hi[n]
    if (!(x[n] in known)) {
        known[x[n]] = 1
        ticks[++ticks_n] = x[n]
    }
}
END {
    if (n == 0) exit
    logx = xmin > 0 && xmax / xmin > 8
    if (xmin == xmax) xmax = xmin + 1
    if (ymin == "" || ymax <= 0) { ymin = 1; ymax = 10 }
    ylow = int(log10(ymin)); if (ylow > log10(ymin)) ylow--
    yhigh = int(log10(ymax)); if (yhigh < log10(ymax)) yhigh++
    if (yhigh == ylow) yhigh++
    step = 10 ^ int(log10(ymax)); if (ymax / step < 2) step /= 5; else if (ymax / step < 5) step /= 2
    ytop = step * (int(ymax / step) + 1)
    width = 330; height = 260; top = 60; gap = 70; inset = 12
    total = panels * (width + gap) + 190
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n", total, height + 130, total, height + 130
    printf "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"20\" y=\"24\" font-size=\"15\" font-weight=\"bold\">%s</text>\n", escape(title)
    for (k = 1; k <= panels; k++) {
        left = 62 + (k - 1) * (width + gap)
        printf "<text x=\"%d\" y=\"50\" font-weight=\"bold\">%s</text>\n", left, escape(panel_name[k])
        printf "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", left, top, width, height
        if (linear) {
            for (t = 0; t <= ytop + step / 2; t += step)
                printf "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left, left + width, place_y(t), place_y(t), left - 5, place_y(t) + 4, human(t)
        } else {
            for (t = ylow; t <= yhigh; t++)
                printf "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left, left + width, place_y(10 ^ t), place_y(10 ^ t), left - 5, place_y(10 ^ t) + 4, human(10 ^ t)
        }
        for (t = 1; t <= ticks_n; t++)
            printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#888\"/><text transform=\"translate(%.1f,%d) rotate(45)\">%s</text>\n", place_x(ticks[t]), place_x(ticks[t]), top + height, top + height + 4, place_x(ticks[t]) - 4, top + height + 16, human2(ticks[t])
        printf "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", left + width / 2, top + height + 58, escape(xlabel)
        for (e = 1; e <= series_n; e++) {
            colour = colours[(e - 1) % colours_n + 1]
            m = 0
            for (i = 1; i <= n; i++)
                if (p[i] == k && s[i] == e) {
                    for (j = ++m; j > 1 && x[order[j - 1]] > x[i]; j--) order[j] = order[j - 1]
                    order[j] = i
                }
            points = ""
            for (j = 1; j <= m; j++) {
                i = order[j]
                points = points sprintf("%.1f,%.1f ", place_x(x[i]), place_y(y[i]))
                printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-opacity=\"0.5\"/><circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"%s\"/>\n", place_x(x[i]), place_x(x[i]), place_y(lo[i]), place_y(hi[i]), colour, place_x(x[i]), place_y(y[i]), colour
            }
            if (m > 1) printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\"/>\n", points, colour
        }
    }
    for (e = 1; e <= series_n; e++)
        printf "<rect x=\"%d\" y=\"%d\" width=\"14\" height=\"4\" fill=\"%s\"/><text x=\"%d\" y=\"%d\">%s</text>\n", total - 195, top + 6 + e * 18, colours[(e - 1) % colours_n + 1], total - 175, top + 12 + e * 18, escape(series_name[e])
    printf "<text transform=\"translate(14,%d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n</svg>\n", top + height / 2, escape(ylabel)
}
