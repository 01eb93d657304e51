"""Take times in turn, and say what was measured."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

JSHM = "jshm"
LIMIT = "limit"
PERCENTILES = (50, 90, 99)
_SLOW = 8.0


class Unavailable(Exception):  # noqa: N818 - no error: it is left out
    """A contender cannot take part, or not any longer; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach.

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
        Often with ``(limit: …)``, what `LIMIT` is.
    seconds : mapping of str to float
        Median seconds of each contender; `JSHM` is one of them, `LIMIT` mostly.
    targets : tuple of Target
    key : str
        By which the README's table and the chart find it; empty if it is in neither.
    """

    what: str
    seconds: Mapping[str, float]
    targets: tuple[Target, ...] = field(default=())
    key: str = ""

    @property
    def title(self) -> str:
        """The name of the measurement, without its limit."""
        return self.what.replace(f" (limit: {self.limit})", "")

    @property
    def limit(self) -> str:
        """The name of the limit; empty if there is none."""
        return self.what.partition(" (limit: ")[2].partition(")")[0]


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds that a call took, and its result."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Run each contender once a round; return the median of its seconds.

    Parameters
    ----------
    contenders : mapping of str to callable
        Each returns the seconds that it took, without what it did to prepare and to clean up.
    rounds : int
    """
    taken = turns(contenders, rounds)
    return {name: statistics.median(values) for name, values in taken.items()}


def turns(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run each contender once a round; return all results of each.

    What disturbs the machine for a while disturbs all of them, and the first of a round is another
    one each time. A round before the first warms up and does not count; but for who took very long
    in it, and therefore takes part in every third one only. Who turns out to be `Unavailable` is
    left out.
    """
    names = list(contenders)
    taken: dict[str, list[T]] = {name: [] for name in names}
    slow: set[str] = set()
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if name not in taken or (name in slow and turn % 3):
                continue
            gc.collect()
            try:
                seconds, value = timed(contenders[name])
            except Unavailable as error:
                print(f"left out: {error}")
                del taken[name]
                continue
            if not turn and seconds > _SLOW:
                slow.add(name)
            if turn or name in slow:
                taken[name].append(value)
    return taken


def each(
    take: Callable[[], T], drop: Callable[[T], object] = lambda _: None, times: int = 100
) -> Callable[[], list[float]]:
    """Return a contender of `latencies`: the seconds of each of `times` calls, without `drop`."""

    def run() -> list[float]:
        taken = []
        for _ in range(times):
            seconds, result = timed(take)
            drop(result)
            del result
            taken.append(seconds)
        return taken

    return run


def repeated(
    take: Callable[[], T], drop: Callable[[T], object] = lambda _: None, times: int = 100
) -> Callable[[], float]:
    """Return a contender of `in_turn`: the median of `times` calls of `take`, without `drop`."""
    run = each(take, drop, times)
    return lambda: statistics.median(run())


def latencies(
    what: str, contenders: Mapping[str, Callable[[], list[float]]], rounds: int
) -> list[Result]:
    """Run the contenders in turn; return a result for each of `PERCENTILES` of all their calls."""
    calls = {
        name: list(itertools.chain.from_iterable(runs))
        for name, runs in turns(contenders, rounds).items()
    }
    return [
        Result(f"{what}: p{percent}", {n: percentile(taken, percent) for n, taken in calls.items()})
        for percent in PERCENTILES
    ]


def percentile(values: list[float], percent: float) -> float:
    """Return the value that `percent` of the values are below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
