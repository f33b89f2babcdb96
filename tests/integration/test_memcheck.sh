#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# No byte that nobody has written goes to a file, and none decides anything: the directories of integration.api_foreign
# (logs written, closed, refused, recovered, verified) under valgrind's memcheck.
set -euo pipefail

build=${WEIR_BUILD_DIR:?the build directory}
if ! command -v valgrind >/dev/null; then
    echo "skipped: no valgrind here"
    exit 77
fi
if grep -q '^WEIR_SANITIZE:STRING=.' "$build/CMakeCache.txt"; then
    echo "skipped: a sanitizer is in this build, and valgrind cannot run it"
    exit 77
fi
valgrind -q --error-exitcode=9 "$build/tests/integration.api_foreign"
