"""Publishing a large array for the first time."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

import jshm

from .measure import JSHM, LIMIT, Result, Target, in_turn, timed
from .rivals import SharedMemoryRival, file_rivals, memory_rivals
from .workspace import size_label

if TYPE_CHECKING:
    from collections.abc import Callable

    from .rivals import Rival

Array = np.ndarray[Any, Any]
_CHUNK = 64 << 20


def measure(place: str, nbytes: int, rounds: int) -> list[Result]:
    """Measure `jshm.publish` of a float64 array against `pwrite` and all rivals."""
    array = np.arange(nbytes // 8, dtype=float)
    contenders = {JSHM: lambda: _publish(array), LIMIT: lambda: _pwrite(place, array)}
    with contextlib.ExitStack() as stack:
        rivals: list[Rival] = [*memory_rivals(), *file_rivals(place)]
        for rival in rivals:
            stack.callback(rival.remove)
            contenders[rival.label] = _writer(rival, array)
        seconds = in_turn(contenders, rounds)
    rival_name = SharedMemoryRival.label
    return [
        Result(
            f"publish {size_label(nbytes)} (limit: `pwrite` into a new file)",
            seconds,
            (
                Target("≤ 1.15 × `pwrite`", seconds[JSHM] / seconds[LIMIT], 1.15),
                Target(
                    "≤ 0.55 × SharedMemory create and copy",
                    seconds[JSHM] / seconds[rival_name],
                    0.55,
                ),
            ),
            key="publish",
        )
    ]


def _publish(array: Array) -> float:
    seconds, _ = timed(lambda: jshm.publish("fresh", array))
    jshm.release("fresh")
    return seconds


def _pwrite(place: str, array: Array) -> float:
    path = os.path.join(place, "raw")

    def write() -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        view, offset = memoryview(array.data).cast("B"), 0
        while offset < len(view):
            offset += os.pwrite(fd, view[offset : offset + _CHUNK], offset)
        os.close(fd)

    seconds, _ = timed(write)
    os.unlink(path)
    return seconds


def _writer(rival: Rival, array: Array) -> Callable[[], float]:
    def run() -> float:
        seconds, _ = timed(lambda: rival.write(array))
        rival.remove()
        return seconds

    return run
