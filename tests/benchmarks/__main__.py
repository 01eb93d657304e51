"""``python -m tests.benchmarks``: measure everything, print Markdown."""

from __future__ import annotations

import argparse
import os
import platform

import numpy as np

from . import attach, browse, imports, listing, objects, pairs, publish, report
from .workspace import private_store, room


def main() -> None:
    """Run all benchmarks; fails only where an update was lost, not where a target was missed."""
    options = _options()
    # The source, the copy, and pickle's own copy; some room for everybody else.
    size = min(options.size, room() // 5)
    large = min(options.large, room() // 6)
    with private_store() as place:
        results = publish.measure(place, size, options.rounds)
    with private_store() as place:
        results += attach.measure(place, large, options.rounds)
    with private_store() as place:
        results += objects.measure(place, options.rounds)
    results += listing.measure(options.rounds)
    results += browse.measure(options.rounds)
    results += pairs.measure(options.seconds)
    with private_store() as place:
        results += imports.measure(place, options.rounds)
    print(
        f"\nPython {platform.python_version()}, NumPy {np.__version__}, {os.cpu_count()} cores, "
        f"medians of {options.rounds} rounds, all in turn\n\n"
        "How many times jshm's time the others take:\n"
    )
    print(report.ratios(results), "\nMedian times:\n", report.medians(results), sep="\n")
    print("\nTo reach:\n", report.targets(results), sep="\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes to publish (1 GiB)")
    parser.add_argument("--large", type=int, default=4 * 10**9, help="bytes to attach (4 GB)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5, help="that the eight processes run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
