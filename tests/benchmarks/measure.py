"""Take times in turn, and say what was measured."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

JSHM = "jshm"
LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Target:
    """What was to be reached.

    Attributes
    ----------
    text : str
        What is compared with what, and the figure that is not to be exceeded.
    value : float
        What was measured.
    most : float
    """

    text: str
    value: float
    most: float

    @property
    def reached(self) -> bool:
        return self.value <= self.most


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the tables.

    Attributes
    ----------
    what : str
    seconds : mapping of str to float
        Median seconds of each contender; `JSHM` is one of them, `LIMIT` mostly.
    targets : tuple of Target
    """

    what: str
    seconds: Mapping[str, float]
    targets: tuple[Target, ...] = field(default=())


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds that a call took, and its result."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Let each contender run once a round; return the median of its seconds.

    What disturbs the machine for a while disturbs all of them, and the first of a round is another
    one each time. A round before the first warms up and does not count.

    Parameters
    ----------
    contenders : mapping of str to callable
        Each returns the seconds that it took, without what it did to prepare and to clean up.
    rounds : int
    """
    names = list(contenders)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            seconds = contenders[name]()
            if turn:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def repeated(
    take: Callable[[], T], drop: Callable[[T], object] = lambda _: None, times: int = 100
) -> Callable[[], float]:
    """Return a contender: the median of `times` calls of `take`, without `drop`."""

    def run() -> float:
        taken = []
        for _ in range(times):
            seconds, result = timed(take)
            drop(result)
            del result
            taken.append(seconds)
        return statistics.median(taken)

    return run


def percentile(values: list[float], percent: float) -> float:
    """Return the value that `percent` of the values are below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
