"""Listing what is shared."""

from __future__ import annotations

import jshm
from jshm.store import default_store

from .attach import FEW
from .measure import JSHM, LIMIT, Result, in_turn, repeated
from .workspace import fill, private_store


def measure(names: int, rounds: int) -> list[Result]:
    """Measure `jshm.segments`; its limit is to read the registry's rows."""
    results = []
    with private_store():
        for count in (FEW, names):
            fill(count)
            registry = default_store().registry
            times = max(3, 1000 // count)
            seconds = in_turn(
                {
                    JSHM: repeated(jshm.segments, times=times),
                    LIMIT: repeated(registry.everything, times=times),
                },
                rounds,
            )
            what = f"list {count:,} names (limit: read the rows)"
            results.append(Result(what, seconds, key="" if count == FEW else "list"))
    return results
