"""Run the torture and print its table: ``python -m tests.torture [--only PART …] [--minutes 30]``."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from dataclasses import replace

from .report import Options, Row, as_text

PARTS = {
    "kills": "tests.torture.kills.torture",
    "disk": "tests.torture.full_disk.torture",
    "fuzz": "tests.torture.fuzz.torture",
    "storms": "tests.torture.storms.torture",
    "interrupts": "tests.torture.interrupts.torture",
    "hub": "tests.kernels.lifetimes.torture",
    "soak": "tests.torture.storms.soak",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--minutes", type=float, default=Options().minutes, help="of the soak")
    parser.add_argument("--mutations", type=int, default=Options().mutations)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    args = parser.parse_args()
    # A shell gives its background jobs an ignored Ctrl-C, and they to their children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    options = Options(args.minutes, args.mutations, args.seed)
    print(f"seed {options.seed}", flush=True)
    rows: list[Row] = []
    for part in args.only:
        began = time.monotonic()
        for row in importlib.import_module(PARTS[part]).torture(options):
            now = time.monotonic()
            rows.append(replace(row, seconds=now - began))
            began = now
            print(f"{part}: {row.what}: {row.tried:,} {row.unit}, {len(row.failures)} failures")
            for failure in row.failures:
                print(f"    {failure}")
            sys.stdout.flush()
    print(f"\n{as_text(rows)}")
    return 1 if any(row.failures for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
