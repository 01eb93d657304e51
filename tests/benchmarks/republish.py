"""Publishing the next version of a large name: into fresh memory, into a spare, again and again."""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import jshm

from .measure import JSHM, LIMIT, Result, Target, in_turn, timed
from .workspace import size_label

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Array = np.ndarray[Any, Any]
# The first two are there before any is superseded, the next two take each one's memory for the first
# time; after those nothing is new.
_FRESH, _FIRST, _STEADY = 0, 2, 4
_COUNT = 7
_AGAIN, _FIRST_REUSE = 1.15, 1.7
_numbers = itertools.count()


def measure(nbytes: int, rounds: int) -> list[Result]:
    """Measure a series of versions against `np.copyto` into a buffer that is warm."""
    array = np.arange(nbytes // 8, dtype=float)
    warm = array.copy()
    alone = _Series(array)
    with _Follower() as follower:
        followed = _Series(array, follower)
        seconds = in_turn(
            {
                "first": lambda: alone.seconds(_FRESH),
                "reused": lambda: alone.seconds(_FIRST),
                JSHM: lambda: alone.seconds(_STEADY),
                "followed": lambda: followed.seconds(_STEADY),
                LIMIT: copying(array, warm),
            },
            rounds,
        )
    what = f"publish {size_label(nbytes)}"
    limit = seconds[LIMIT]
    return [
        against_copy(f"{what}: the first version", seconds["first"], limit),
        against_copy(
            f"{what}: the first into a spare", seconds["reused"], limit, _FIRST_REUSE, "reused"
        ),
        against_copy(f"{what}: again and again", seconds[JSHM], limit, _AGAIN, "steady"),
        against_copy(
            f"{what}: again and again, another process follows", seconds["followed"], limit, _AGAIN,
            "followed",
        ),
    ]  # fmt: skip


def copying(source: Array, target: Array) -> Any:
    """Return a contender: the physical limit."""
    return lambda: timed(lambda: np.copyto(target, source))[0]


def against_copy(
    what: str, seconds: float, limit: float, most: float | None = None, key: str = ""
) -> Result:
    """Return a result, and how many times the copy's time it may take."""
    return Result(
        f"{what} (limit: `np.copyto` into a warm buffer)",
        {JSHM: seconds, LIMIT: limit},
        () if most is None else (Target(f"≤ {most:g} × `np.copyto`", seconds / limit, most),),
        key,
    )


class _Series:
    """Versions of a name that is new each time."""

    def __init__(self, array: Array, follower: _Follower | None = None) -> None:
        self._array = array
        self._follower = follower

    def seconds(self, first: int) -> float:
        """Return the seconds of that version; of `_STEADY`, the median of all from there on."""
        count = _COUNT if first == _STEADY else first + 1
        taken = publish_versions(self._array, count, self._follower)
        return statistics.median(taken[first:])


def publish_versions(array: Array, count: int, follower: _Follower | None = None) -> list[float]:
    """Publish versions of a new name; return the seconds of each. Nothing is left."""
    name = f"series-{next(_numbers)}"
    taken = []
    try:
        for _ in range(count):
            seconds, _info = timed(lambda: jshm.publish(name, array))
            taken.append(seconds)
            if follower is not None:
                follower.attach(name)
    finally:
        if follower is not None:
            follower.attach("")
        jshm.release(name)
    return taken


class _Follower:
    """Another process, which attaches each version and lets the last one go."""

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_follow, args=(theirs,))
        self._process.start()
        theirs.close()
        return self

    def attach(self, name: str) -> None:
        """Return when it has attached the newest version; without a name, when it holds nothing."""
        self._ours.send(name)
        self._ours.recv()

    def __exit__(self, *_exception: object) -> None:
        self._ours.close()
        self._process.join()


def _follow(orders: Connection) -> None:
    held: Array | None = None
    while True:
        try:
            name = orders.recv()
        except EOFError:
            return
        # The old one goes when the new one is there, as a variable that is bound again.
        held = jshm.attach(name) if name else None
        if held is not None:
            float(held[-1])
        orders.send(None)
