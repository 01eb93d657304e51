"""Publishing again and again, and attaching what is newest: with jshm, and with all its rivals."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import jshm

from .hosted import hosted_rivals
from .measure import JSHM, LIMIT, Result, timed, turns
from .rivals import file_rivals, memory_rivals, store_magic
from .workspace import size_label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .rivals import Rival

Array = np.ndarray[Any, Any]
SMALL = 1000
# jshm is as fast as it gets after four, and others have their own caches.
_WARM = 7
_PATIENCE = 3


class Jshm:
    """jshm itself: a name and its versions."""

    label = JSHM

    def write(self, array: Array) -> None:
        jshm.publish("frame", array)

    def read(self) -> object:
        return jshm.attach("frame")

    def drop(self, got: object) -> None:
        pass

    def remove(self) -> None:
        jshm.release("frame")


class Warm:
    """The physical limit: the same memory written again. It is not a snapshot: a reader sees torn data."""

    label = LIMIT

    def __init__(self, array: Array) -> None:
        self._copy = array.copy()

    def write(self, array: Array) -> None:
        np.copyto(self._copy, array)

    def read(self) -> object:
        return self._copy

    def drop(self, got: object) -> None:
        pass

    def remove(self) -> None:
        pass


def measure(place: str, nbytes: int, rounds: int, seconds: float, *, servers: bool) -> list[Result]:
    """Measure bursts of exchanges of a large array and of a small one.

    Parameters
    ----------
    place : str
    nbytes : int
        Of the large array.
    rounds : int
    seconds : float
        How long an array goes to and fro in one turn: thrice that, if it is slow.
    servers : bool
        Include the rivals that need a server of their own, which is started for this alone.
    """
    with contextlib.ExitStack() as stack:
        hosted = stack.enter_context(hosted_rivals(place, nbytes)) if servers else []
        results = []
        for size in (nbytes, SMALL):
            array = np.arange(size // 8, dtype=float)
            large = size > SMALL
            rivals: list[Rival] = [Jshm(), *([Warm(array)] if large else []), *memory_rivals()]
            rivals += [*file_rivals(place), *store_magic(place)]
            contenders = {rival.label: burst(rival, array, seconds) for rival in rivals}
            for one in hosted:
                contenders[one.label] = one.burst(size, seconds)
            results += _results(size, turns(contenders, rounds), "exchange" if large else "")
            del array, contenders, rivals
    return results


def burst(rival: Rival, array: Array, seconds: float) -> Callable[[], tuple[float, float]]:
    """Return a contender: seconds to write, and to read, once what warms up has warmed up.

    It begins with nothing, and goes on for some seconds and some exchanges, but not for ever. What
    counts is the last third of them.
    """

    def run() -> tuple[float, float]:
        taken: list[tuple[float, float]] = []
        began = time.perf_counter()
        try:
            while not _enough(len(taken), time.perf_counter() - began, seconds):
                writing, _ = timed(lambda: rival.write(array))
                reading, got = timed(rival.read)
                rival.drop(got)
                del got
                taken.append((writing, reading))
        finally:
            rival.remove()
        return _medians(taken[-(len(taken) // 3 + 1) :])

    return run


def _enough(count: int, passed: float, seconds: float) -> bool:
    return count > 0 and passed >= (seconds if count >= _WARM else _PATIENCE * seconds)


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(w for w, _ in pairs), statistics.median(r for _, r in pairs)


def _results(nbytes: int, taken: Mapping[str, list[tuple[float, float]]], key: str) -> list[Result]:
    seconds = {name: _medians(pairs) for name, pairs in taken.items()}
    written = {name: writing for name, (writing, _) in seconds.items()}
    read = {name: reading for name, (_, reading) in seconds.items() if name != LIMIT}
    both = {name: writing + reading for name, (writing, reading) in seconds.items()}
    size = size_label(nbytes)
    limit = " (limit: `np.copyto` into a warm buffer)" if LIMIT in seconds else ""
    return [
        Result(f"publish {size} again{limit}", written, key=key and "again"),
        Result(f"attach the newest {size}", read),
        Result(f"publish {size} again, and attach it{limit}", both, key=key),
    ]
