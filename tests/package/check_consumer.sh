#!/usr/bin/env bash
# Installs the build into a scratch prefix and builds a small outside program against it: by find_package (shared and
# static) and by pkg-config (shared and static). Then runs all four, moves the installed tree and runs one again.
#
#   check_consumer.sh CMAKE BUILD_DIR CC
set -euo pipefail

cmake=$1
build=$2
cc=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix

runs() { # name, command...
    echo "-- $1"
    mkdir "$scratch/log-$1"
    "${@:2}" "$scratch/log-$1"
}

links() { # how, program: "shared" needs the library at run time, "static" does not
    local how=static
    if readelf -d "$2" | grep -q 'NEEDED.*\[libweir\.so'; then
        how=shared
    fi
    if [ "$how" != "$1" ]; then
        echo "$2 is $how, not $1"
        exit 1
    fi
}

"$cmake" --install "$build" --prefix "$prefix" >"$scratch/install.txt"

echo "-- find_package"
"$cmake" -S "$here/consumer" -B "$scratch/consumer" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    "-DCMAKE_C_COMPILER=$cc" "-DCMAKE_PREFIX_PATH=$prefix" >"$scratch/configure.txt" ||
    { cat "$scratch/configure.txt"; exit 1; }
"$cmake" --build "$scratch/consumer" >"$scratch/build.txt" || { cat "$scratch/build.txt"; exit 1; }
links shared "$scratch/consumer/consumer-shared"
links static "$scratch/consumer/consumer-static"
runs cmake-shared "$scratch/consumer/consumer-shared"
runs cmake-static "$scratch/consumer/consumer-static"

# The header stands on its own, in strict C11 and with the warnings that a careful user has on.
echo "-- pkg-config"
pc=$(find "$prefix" -name weir.pc)
export PKG_CONFIG_PATH=${pc%/*}
strict=(-std=c11 -pedantic -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wundef -Werror)
read -ra flags < <(pkg-config --cflags --libs weir)
"$cc" "${strict[@]}" -o "$scratch/pc-shared" "$here/consumer/main.c" "${flags[@]}"
# The same name with an archive behind it.
read -ra flags < <(pkg-config --static --cflags --libs weir | sed 's/-lweir\>/-l:libweir.a/')
"$cc" "${strict[@]}" -o "$scratch/pc-static" "$here/consumer/main.c" "${flags[@]}"
links shared "$scratch/pc-shared"
links static "$scratch/pc-static"
libdir=$(pkg-config --variable=libdir weir)
runs pc-shared env "LD_LIBRARY_PATH=$libdir" "$scratch/pc-shared"
runs pc-static "$scratch/pc-static"

# Nothing installed may remember where it was built or installed: the tree can be moved.
echo "-- moved"
mv "$prefix" "$scratch/moved"
export PKG_CONFIG_PATH=${PKG_CONFIG_PATH/"$prefix"/"$scratch/moved"}
libdir=$(pkg-config --variable=libdir weir)
read -ra flags < <(pkg-config --cflags --libs weir)
"$cc" "${strict[@]}" -o "$scratch/pc-moved" "$here/consumer/main.c" "${flags[@]}"
runs pc-moved env "LD_LIBRARY_PATH=$libdir" "$scratch/pc-moved"
if grep -rlE --include='*.cmake' --include='*.pc' "$build|$prefix" "$scratch/moved"; then
    echo "the files above name the folder of the build or of the installation"
    exit 1
fi
if [ -x "$scratch/moved/bin/weir" ]; then
    "$scratch/moved/bin/weir" --version
fi
