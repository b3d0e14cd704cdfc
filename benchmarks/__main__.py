"""`python -m benchmarks`: measure rows, write them to RESULTS.md and draw plot.svg from it."""

import argparse
import shutil
import signal
import sys
import time
from dataclasses import asdict

from benchmarks import plot
from benchmarks.measure import ROOT, BenchError
from benchmarks.oauth import ROWS
from benchmarks.report import PEER_PYTHON, RESULTS, machine, merge, moment, section, versions
from benchmarks.rows import QUICK, Bench, Settings


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Portway beside its peers and write benchmarks/RESULTS.md."
    )
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="ROW",
        help=f"measure this row again, keep the others; repeatable ({', '.join(names)})",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short round, printed and not written, to try the harness",
    )
    options = parser.parse_args()
    if not shutil.which("wrk"):
        parser.error("wrk is not on PATH: install it (Debian: apt-get install wrk)")
    if not (ROOT / PEER_PYTHON).exists():
        parser.error(f"{PEER_PYTHON} is missing: `make bench` makes it from locks/bench.txt")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            ending, lambda number, _frame: sys.exit(128 + number)
        )  # so that every `with running(…)` block ends

    settings = QUICK if options.quick else Settings()
    bench = Bench(settings, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    used = ", ".join(f"{name} {value:g}" for name, value in asdict(settings).items())
    how = f"Measured {{}}, on {machine()}. Settings: {used}. {versions()}."
    failed = False
    for row in ROWS:
        if options.only and row.name not in options.only:
            continue
        started, when = time.monotonic(), moment()
        print(f"{row.name}: {row.title}", file=sys.stderr, flush=True)
        try:
            text = section(row.name, row.title, row.measure(bench), how.format(when))
        except BenchError as error:
            failed = True
            print(f"{row.name}: not measured: {error}", file=sys.stderr)
            continue
        print(f"{row.name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        if options.quick:
            print(text, flush=True)
        else:
            old = RESULTS.read_text() if RESULTS.exists() else ""
            RESULTS.write_text(merge(old, {row.name: text}, names))
    if not options.quick:
        plot.write()
        print(f"written: {RESULTS.relative_to(ROOT)}, {plot.PLOT.relative_to(ROOT)}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
