#!/usr/bin/env bash
# Lines and branches of the floors that decide what is in a log: engine/format, engine/recover, engine/stage (the
# reservation) and engine/drain (the flusher). What no test reaches must stand in COVERAGE.md with its reason.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tests/coverage.sh [--jobs N] [--all-tests] [--no-build] [--no-run] [--list]

Builds the preset `cov` (gcc, Debug, --coverage) in build/cov, runs the tests, and prints lines and branches of
engine/{format,recover,stage,drain}. Then compares what was not reached with tests/COVERAGE.md.

  --jobs N      compilers and tests at once (default: all processors)
  --all-tests   also those of real kernels that take longest (kill, powercut, logwrites, soak, ...)
  --no-build    as it was built
  --no-run      as it ran
  --list        print every condition that was not met both ways, as rows for COVERAGE.md
  --help        this text

Counted is the library as it is linked into tests and tools; the simulation compiles the same text a second time and is
not counted, nor is a process that was killed.

Exit 0: format and recover have 95 % of lines each, and every branch that was not reached stands in COVERAGE.md; 1 not so,
or tests failed; 2 a wrong call; 77 no gcovr here.
TEXT
}

jobs=$(nproc)
build=true
run=true
list=false
# Of real kernels, long, and of what is not counted here.
leave_out='^integration\.(kill|kill_calls|powercut|logwrites|fullfs|rlimits|signals|freeze|soak|memcheck|compare|bitrot|sim)$|^integration\.(seccomp|without_direct|executor_enters|memory|heap_bytes|two_writers)$|^fuzz\.sim$'
while [ $# -gt 0 ]; do
    case $1 in
    --jobs)
        jobs=${2:?--jobs needs a number}
        shift
        ;;
    --all-tests) leave_out='^$' ;;
    --no-build) build=false ;;
    --no-run) run=false ;;
    --list) list=true ;;
    --help | -h)
        usage
        exit 0
        ;;
    *)
        echo "tests/coverage.sh: unknown argument: $1" >&2
        usage >&2
        exit 2
        ;;
    esac
    shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v gcovr >/dev/null; then
    echo "skipped: no gcovr here"
    exit 77
fi
objects=build/cov/CMakeFiles/weir_objects.dir
if [ "$build" = true ]; then
    cmake --preset cov >/dev/null
    cmake --build build/cov -j "$jobs" >build/cov/build.log || {
        tail -n 20 build/cov/build.log
        exit 1
    }
fi
failed=0
if [ "$run" = true ]; then
    find "$objects" -name '*.gcda' -delete
    ctest --test-dir build/cov -j "$jobs" -L '^(unit|golden|fault|fuzz|integration)$' -E "$leave_out" \
        >build/cov/tests.log || failed=1
    grep -E 'tests passed|\(Failed\)|\(Timeout\)|\(SEGFAULT\)' build/cov/tests.log || true
fi

# Assertions and switches of planted faults are left out: the one side of both cannot come in a build that is right.
gcovr --root . --gcov-ignore-parse-errors --exclude-throw-branches --exclude-unreachable-branches \
    --exclude-lines-by-pattern '.*(weir__check|weir__debug|WEIR__PLANTED|_Static_assert)\(.*' \
    --filter 'engine/(format|recover|stage|drain)/' --json build/cov/coverage.json "$objects" 2>build/cov/gcovr.log || {
    tail -n 5 build/cov/gcovr.log
    exit 1
}
python3 - "$list" build/cov/coverage.json tests/COVERAGE.md <<'PYTHON' || failed=1
import json
import re
import sys

show = sys.argv[1] == "true"
files = json.load(open(sys.argv[2]))["files"]
try:
    page = open(sys.argv[3]).read()
except OSError:
    page = ""


def squeeze(text):
    return re.sub(r"\s+", "", text.replace("\\|", "|").replace("`", ""))


# Section of a file -> its rows, without spaces.
sections = {}
name = None
for row in page.split("\n"):
    if row.startswith("### "):
        name = row[4:].strip()
    elif name and row.startswith("|"):
        sections.setdefault(name, []).append(squeeze(row))

sums = {}
rows = []
print("%-34s %14s %20s" % ("", "lines", "branches"))
for file in sorted(files, key=lambda f: f["file"]):
    path = file["file"]
    source = open(path).read().split("\n")
    functions = sorted((f["lineno"], f["name"]) for f in file["functions"])
    count = [0, 0, 0, 0]
    missed = {}
    for line in file["lines"]:
        if line.get("gcovr/noncode"):
            continue
        branches = line["branches"]
        hit = sum(1 for b in branches if b["count"] > 0)
        count[0] += line["count"] > 0
        count[1] += 1
        count[2] += hit
        count[3] += len(branches)
        number = line["line_number"]
        entry = number in [at for at, _ in functions]
        # What stands behind a condition that was not met is not listed again.
        if (line["count"] == 0 and entry) or (line["count"] > 0 and hit < len(branches)):
            inside = [n for at, n in functions if at <= number]
            text = source[number - 1].strip()
            key = (path, inside[-1] if inside else "", text)
            missed[key] = line["count"] == 0
    if count[1] == 0:
        continue
    floor = "/".join(path.split("/")[:2])
    for at in (path, floor):
        sums.setdefault(at, [0, 0, 0, 0])
        sums[at] = [a + b for a, b in zip(sums[at], count)]
    rows += [(key, line) for key, line in missed.items()]


def percent(a, b):
    return 100.0 * a / b if b else 100.0


for at in sorted(sums):
    a = sums[at]
    print("%-34s %5d/%-5d %5.1f %%  %5d/%-5d %5.1f %%" % (at, a[0], a[1], percent(a[0], a[1]), a[2], a[3], percent(a[2], a[3])))

unexplained = []
for (path, function, text), whole in rows:
    wanted = ["|" + squeeze(function) + "|", squeeze("the whole function" if whole else text)]
    if show:
        print("%s| `%s` | `%s` | |" % (path, function, "the whole function" if whole else text.replace("|", "\\|")))
    if not any(all(w in row for w in wanted) for row in sections.get(path, [])):
        unexplained.append((path, function, text, whole))
bad = False
for floor in ("engine/format", "engine/recover"):
    if percent(*sums[floor][:2]) < 95:
        print("too few: %s" % floor)
        bad = True
if unexplained:
    print("not reached, and not in COVERAGE.md:")
    for path, function, text, whole in unexplained:
        print("  %s: %s: %s" % (path, function, text))
    bad = True
print("%d conditions were not met both ways, %d of them without a reason" % (len(rows), len(unexplained)))
sys.exit(1 if bad else 0)
PYTHON
exit "$failed"
