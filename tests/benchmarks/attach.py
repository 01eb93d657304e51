"""Attaching by name: arrays small and large, in a store that is almost empty and in a full one."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import jshm
from jshm.store import default_store
from jshm.text import size_text

from .measure import JSHM, LIMIT, Result, Target, in_turn, repeated
from .rivals import file_rivals, memory_rivals
from .workspace import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .rivals import FileRival

Array = np.ndarray[Any, Any]
LEAST = "`open`, `mmap`, lock, lookup"
"""The least that any shared-memory library with names, versions and holders must do."""
SMALL = 1_000_000
FEW = 10
_TIMES = 20
# The machine on which 25 µs were asked for opens and maps a file in 5 µs.
_MOST = 25 / 5
_ALIKE = 1.3


def measure(place: str, large: int, names: int, rounds: int) -> list[Result]:
    """Measure `jshm.attach` against raw `open` and `mmap` and all rivals, among few and many names."""
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        contenders = {
            nbytes: stack.enter_context(_contenders(place, nbytes)) for nbytes in (SMALL, large)
        }
        for count in (FEW, names):
            fill(count)
            flat = {
                (n, label): run for n, each in contenders.items() for label, run in each.items()
            }
            seconds = in_turn({f"{n} {label}": run for (n, label), run in flat.items()}, 3 * rounds)
            results += [
                _result(count, n, {label: seconds[f"{n} {label}"] for label in contenders[n]})
                for n in contenders
            ]
    first = results[0].seconds[JSHM]
    alike = [max(r.seconds[JSHM] / first, first / r.seconds[JSHM]) for r in results]
    target = Target("at any size, with any number of names: within ±30 %", max(alike), _ALIKE)
    small, last = results[0], results[-1]
    return [
        replace(small, key="attach"),
        *results[1:-1],
        replace(last, targets=(*last.targets, target), key="attach large"),
    ]


def _result(count: int, nbytes: int, seconds: dict[str, float]) -> Result:
    return Result(
        f"attach {size_text(nbytes)} among {count:,} names (limit: `open` and `mmap`)",
        seconds,
        (
            Target(
                "≤ 5 × `open` and `mmap` (25 µs where those take 5)",
                seconds[JSHM] / seconds[LIMIT],
                _MOST,
            ),
        ),
    )


@contextlib.contextmanager
def _contenders(place: str, nbytes: int) -> Iterator[dict[str, Callable[[], float]]]:
    """Publish an array of `nbytes`, and write it as every rival does; yield how each attaches."""
    name = f"array-{nbytes}"
    place = os.path.join(place, name)
    os.mkdir(place)
    # Only what loads everything needs its pages; nothing here is ever copied.
    array = np.zeros(nbytes // 8)
    jshm.publish(name, jshm.empty(array.shape, array.dtype))
    path = default_store().location(name)
    lookup = _lookup(place, name)
    contenders: dict[str, Callable[[], float]] = {
        JSHM: repeated(lambda: jshm.attach(name), times=_TIMES),
        LIMIT: repeated(lambda: map_file(path), mmap.mmap.close, times=_TIMES),
        LEAST: repeated(lambda: _lock_and_map(path, lookup), mmap.mmap.close, times=_TIMES),
    }
    with contextlib.ExitStack() as stack:
        for memory in memory_rivals():
            stack.callback(memory.remove)
            memory.reserve(array)
            contenders[memory.label] = repeated(memory.read, memory.drop, times=_TIMES)
        for rival in file_rivals(place):
            stack.callback(rival.remove)
            contenders[rival.label] = _reader(rival, path, array)
        yield contenders


def _reader(rival: FileRival, path: str, array: Array) -> Callable[[], float]:
    if rival.label.startswith("np."):
        # An array segment is such a file: no second one is needed.
        return repeated(lambda: np.load(path, mmap_mode="r"), times=_TIMES)
    rival.write(array)
    # It reads everything: a large array once a turn.
    loads_all = rival.label.startswith("pickle")
    times = max(1, min(_TIMES, (50 << 20) // array.nbytes)) if loads_all else _TIMES
    return repeated(rival.read, times=times)


def _lookup(place: str, name: str) -> Callable[[], list[Any]]:
    """Return a lookup by primary key in a separate database."""
    database = sqlite3.connect(os.path.join(place, "lookup.db"), isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE names(name TEXT PRIMARY KEY, path TEXT) WITHOUT ROWID")
    database.execute("INSERT INTO names VALUES (?, ?)", (name, "path"))
    return lambda: database.execute("SELECT path FROM names WHERE name = ?", (name,)).fetchall()


def map_file(path: str) -> mmap.mmap:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
    os.close(fd)
    return mapped


def _lock_and_map(path: str, lookup: Callable[[], list[Any]]) -> mmap.mmap:
    lookup()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    size = os.fstat(fd).st_size
    mapped = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
    os.close(fd)
    return mapped
