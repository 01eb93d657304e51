"""Kills in one way: ``python -m tests.torture.kills HOW SCENARIO … [--every 10]`` prints JSON.

HOW is ``boundaries`` (see `fuse`), ``calls`` (of the system, see `strace`) or ``times`` (at random times,
while four other processes write). ``python -m tests.torture --only kills`` tries them all.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from dataclasses import asdict

from jshm.errors import OverflowWarning

from .runner import RANDOM, SCENARIOS, Found, boundaries, calls, times, workplace


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.kills", description=__doc__)
    parser.add_argument("how", choices=["boundaries", "calls", "times"])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--count", type=int, default=30, help="of kills at random times")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore", OverflowWarning)
    found: dict[str, Found] = {}
    with workplace() as place:
        if args.how == "times":
            for i, scenario in enumerate(RANDOM):
                label = f"{scenario.name} {i}"
                found[label] = times(place, scenario, args.count // len(RANDOM), args.seed + i)
        else:
            way = {"boundaries": boundaries, "calls": calls}[args.how]
            for name in args.scenarios or SCENARIOS:
                if place.can(SCENARIOS[name]):
                    found[name] = way(place, SCENARIOS[name], args.every)
    json.dump({name: asdict(one) for name, one in found.items()}, sys.stdout)


if __name__ == "__main__":
    main()
