"""``python -m tests.benchmarks``: measure everything, print Markdown, draw the README's chart."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from . import (
    archive,
    attach,
    born,
    browse,
    calls,
    chart,
    exchange,
    follow,
    imports,
    listing,
    objects,
    pairs,
    publish,
    report,
    republish,
    small,
    strided,
    waiting,
)
from .workspace import private_store, room

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .measure import Result

    Theme = Callable[[str], Sequence[Result | calls.Calls]]


def main() -> None:
    """Run the benchmarks; fails only where an update was lost, not where a target was missed."""
    options = _options()
    run = archive.load(options.redraw) if options.redraw else _measure(options)
    if options.json:
        archive.save(run, options.json)
    if options.readme:
        with open(options.readme, encoding="utf-8") as file:
            text = report.renewed(file.read(), run)
        with open(options.readme, "w", encoding="utf-8") as file:
            file.write(text)
    if options.chart:
        with open(options.chart, "w", encoding="utf-8") as file:
            file.write(chart.draw(run.results, run.machine.partition(";")[0]))
    print(report.document(run))


def _measure(options: argparse.Namespace) -> archive.Run:
    themes = _themes(options)
    unknown = sorted(set(options.themes) - set(themes))
    if unknown:
        raise SystemExit(f"no such theme: {', '.join(unknown)}; there are {', '.join(themes)}")
    found: list[Result | calls.Calls] = []
    for name in options.themes or themes:
        print(f"{name} …", file=sys.stderr)
        with private_store() as place:
            found += themes[name](place)
    counts = [each for each in found if isinstance(each, calls.Calls)]
    results = [each for each in found if not isinstance(each, calls.Calls)]
    return archive.Run(archive.machine(options.rounds), results, counts)


def _themes(options: argparse.Namespace) -> dict[str, Theme]:
    """Return the themes; each has its own store and directory."""
    rounds, names = options.rounds, options.names
    # The source, the copies of all sides, and pickle's own; some room for everybody else.
    size, large = min(options.size, room() // 8), min(options.large, room() // 6)
    return {
        "publish": lambda place: publish.measure(place, size, rounds),
        "republish": lambda _: republish.measure(size, rounds),
        "strided": lambda _: strided.measure(size, rounds),
        "exchange": lambda place: exchange.measure(
            place, size, rounds, options.burst, servers=options.servers
        ),
        "born": lambda place: born.measure(place, large, rounds),
        "attach": lambda place: attach.measure(place, large, names, rounds),
        "small": lambda place: small.measure(place, rounds),
        "follow": lambda _: follow.measure(rounds),
        "waiting": lambda _: waiting.measure(rounds),
        "pairs": lambda _: pairs.measure(options.processes, options.seconds),
        "objects": lambda place: objects.measure(place, min(size, objects.LARGE), rounds),
        "listing": lambda _: listing.measure(names, rounds),
        "browse": lambda _: browse.measure(names, rounds),
        "calls": lambda _: calls.measure(),
        "imports": lambda place: imports.measure(place, rounds),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("themes", nargs="*", metavar="THEME", help="what to measure (everything)")
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes to publish (1 GiB)")
    parser.add_argument("--large", type=int, default=4 * 10**9, help="bytes to attach (4 GB)")
    parser.add_argument("--names", type=int, default=10_000, help="how many are many names")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, default=8, help="that publish at the same time")
    parser.add_argument("--seconds", type=float, default=5, help="that those run")
    parser.add_argument(
        "--burst", type=float, default=1.5, help="seconds that a rival exchanges arrays in a turn"
    )
    parser.add_argument(
        "--no-servers",
        dest="servers",
        action="store_false",
        help="start no server: leave out Ray, Redis and ipyparallel",
    )
    parser.add_argument("--json", metavar="FILE", help="keep the results")
    parser.add_argument("--chart", metavar="FILE.svg", help="draw the README's chart")
    parser.add_argument("--readme", metavar="FILE.md", help="renew its tables")
    parser.add_argument("--redraw", metavar="FILE", help="measure nothing: read kept results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
