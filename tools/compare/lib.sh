# SPDX-License-Identifier: Apache-2.0
# What the scripts of this directory share. Sourced, not run; wants $build (where the programs are), $work (a scratch directory on the device in question), and
# perhaps $launcher, a command that the engines are started with.

die() { # message
    echo "${0##*/}: $1" >&2
    exit "${2:-1}"
}

# field NAME: the numbers that follow "NAME": in the lines of JSON on standard input; in lat_us and what stands behind it the first one counts.
field() { grep -oE "\"$1\":[0-9.]+" | sed -n '1s/.*://p'; }

# median: of the numbers on standard input, with the smallest and the largest.
median() {
    sort -g | awk '{v[NR] = $1} END {if (NR) print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2), v[1], v[NR]}'
}

# has_option NAME: whether this build's weir bench knows --NAME.
has_option() { "$build/weir" bench --help | grep -qE "^  --$1( |\$)"; }

# engine_there ID: whether NAME or NAME:VARIANT can be run here; says why not.
engine_there() {
    case ${1%%:*} in
    weir)
        [ -x "$build/weir" ] || { echo "$build/weir is not built"; return 1; }
        case $1 in
        weir:low-latency | weir:off) has_option policy || { echo "this weir bench has no --policy"; return 1; } ;;
        esac
        ;;
    fio) command -v fio >/dev/null || { echo "fio is not installed"; return 1; } ;;
    *) [ -x "$build/compare-${1%%:*}" ] || { echo "$build/compare-${1%%:*} is not built: its library is not there"; return 1; } ;;
    esac
}

# fio_run BLOCK SECONDS RW ENGINE DEPTH OPTION...: one job over $work/fio.dat, O_DIRECT, overwriting; prints a line like that of weir bench.
fio_run() {
    local block=$1 seconds=$2 rw=$3 engine=$4 depth=$5
    shift 5
    fio --name=job --filename="$work/fio.dat" --rw="$rw" --bs="$block" --direct=1 --overwrite=1 --size=256m --ioengine="$engine" --iodepth="$depth" --time_based --runtime="$(awk -v s="$seconds" 'BEGIN {printf "%.0fms", s * 1000}')" \
        --ramp_time=300ms --lat_percentiles=1 --clat_percentiles=0 --percentile_list=50:90:99:99.9 --refill_buffers --output-format=json "$@" 2>/dev/null |
        awk -v engine="$engine" -v rw="$rw" '
            /"write" : \{/ {w = 1}
            w && /"bw_bytes"/ && !bw {gsub(/[^0-9.]/, "", $3); bw = $3}
            w && /"iops" :/ && !iops {gsub(/[^0-9.]/, "", $3); iops = $3}
            w && /"50.000000"/ && !p50 {gsub(/[^0-9.]/, "", $3); p50 = $3}
            w && /"99.000000"/ && !p99 {gsub(/[^0-9.]/, "", $3); p99 = $3}
            w && /"99.900000"/ && !p999 {gsub(/[^0-9.]/, "", $3); p999 = $3}
            END {if (!iops) exit 1
                printf "{\"engine\":\"fio\",\"variant\":\"%s\",\"producers\":1,\"ops_per_s\":%.1f,\"mb_per_s\":%.3f,\"lat_us\":{\"p50\":%.3f,\"p99\":%.3f,\"p99_9\":%.3f}}\n",
                    engine, iops, bw / 1e6, p50 / 1e3, p99 / 1e3, p999 / 1e3}'
}

fio_file() {
    [ -f "$work/fio.dat" ] || dd if=/dev/zero of="$work/fio.dat" bs=1M count=256 conv=fsync status=none
}

# weir_bench OPTION...: one run on a log of its own. Prints the line of JSON.
weir_bench() {
    rm -rf "$work/log"
    ${launcher:-} "$build/weir" bench --dir "$work/log" --json "$@" 2>/dev/null
}

# engine_run ID PRODUCERS SIZE SECONDS WARM_UP: durable appends. Prints the line of JSON.
engine_run() {
    local name=${1%%:*} variant=
    [ "$name" = "$1" ] || variant=${1#*:}
    case $name in
    weir)
        local options=()
        case $variant in
        '') ;;
        chain | dsync | posix) options=(--io "$variant") ;;
        *) options=(--policy "$variant") ;;
        esac
        weir_bench --producers "$2" --size "$3" --seconds "$4" "${options[@]}"
        ;;
    fio)
        fio_file
        # A record and its header, in blocks of 4 KiB: what one producer alone has to write.
        fio_run $((($3 + 64 + 4095) / 4096 * 4))k "$4" write "${variant:-psync}" 1 --sync=dsync --numjobs=1
        ;;
    *) ${launcher:-} "$build/compare-$name" --dir "$work" --producers "$2" --size "$3" --seconds "$4" --warm-up "$5" ${variant:+--variant "$variant"} ;;
    esac
}
