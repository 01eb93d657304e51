"""Publishing an array that was made in shared memory: its size does not matter."""

from __future__ import annotations

import os
from functools import partial

import jshm
from jshm.text import size_text

from .measure import JSHM, LIMIT, Result, Target, in_turn, timed
from .small import Floor

_SMALL = 1_000_000
_MOST = 200e-6


def measure(place: str, large: int, rounds: int) -> list[Result]:
    """Measure `jshm.publish` of a `jshm.empty` array, small and large, against the floor of `small`."""
    with Floor(os.path.join(place, "floor")) as floor:
        seconds = in_turn(
            {
                "small": lambda: _born(_SMALL),
                "large": lambda: _born(large),
                LIMIT: lambda: timed(floor.transact)[0],
            },
            3 * rounds,
        )
    return [
        Result(
            f"publish {size_text(nbytes)} of `jshm.empty` (limit: one transaction)",
            {JSHM: seconds[key], LIMIT: seconds[LIMIT]},
            (Target("≤ 200 µs (in µs)", seconds[key] * 1e6, _MOST * 1e6),),
            key="born" if key == "large" else "",
        )
        for key, nbytes in (("small", _SMALL), ("large", large))
    ]


def _born(nbytes: int) -> float:
    array = jshm.empty(nbytes // 8)
    seconds, _ = timed(partial(jshm.publish, "born", array))
    jshm.release("born")
    del array
    jshm.gc()  # else the next publish tidies up, too
    return seconds
