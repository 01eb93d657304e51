"""The names that are shared before a process is killed, and the only data that each may show.

The world: X, Y and R, arrays; L, one that is LIVE; H, one whose name was released; B, one that never had
any; O, an object that refers to R, H and B and has its own buffer; P, which refers to that buffer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import jshm

Names = dict[str, int]
"""The names that can be attached → their versions."""

LENGTH = 3000
# Too large for the small file system, on which the overflow is tried; large enough for spares.
LENGTHS = {"big": 1 << 18, "S": 1 << 15, "T": 1 << 15}
BEFORE: Names = dict.fromkeys(["L", "O", "P", "R", "X", "Y"], 1)
# These names are aliases: they show another one's data.
_SHOWS = {"A": "X"}


def make(name: str, version: int) -> np.ndarray[Any, Any]:
    """Return the only data that a name and version may ever show."""
    name = _SHOWS.get(name, name)
    array = np.arange(LENGTHS.get(name, LENGTH), dtype=np.float64) * version
    array[0] = sum(name.encode())
    return array


def is_whole(array: np.ndarray[Any, Any]) -> bool:
    """Tell whether an array is all of what `make` made, or what nothing was written to yet."""
    return bool((array[1:] == np.arange(1, len(array)) * array[1]).all())


def setup() -> None:
    """Make the world."""
    jshm.publish({name: make(name, 1) for name in "XYRH"}, keep=True)
    jshm.publish("L", make("L", 1), keep=True, writable=True)
    r, h = jshm.attach(["R", "H"])
    put_object("O", 1, x=r[::-1], h=h, b=born())
    jshm.publish("P", {"v": 1, "o": jshm.attach("O")["own"][::2]}, keep=True)
    del r, h
    jshm.release("H")


def born(name: str = "B", version: int = 1) -> np.ndarray[Any, Any]:
    """Return an array that was made in shared memory."""
    array = jshm.empty(LENGTHS.get(name, LENGTH))
    array[:] = make(name, version)
    return array


def put_object(name: str, version: int, **more: Any) -> None:
    """Publish an object with its own buffer."""
    jshm.publish(name, {"v": version, "own": make(name, version), **more}, keep=True)


def wrong_in(name: str, version: int, value: Any) -> list[str]:
    """Say what is wrong with what was attached."""
    if isinstance(value, np.ndarray):
        wrong = not np.array_equal(value, make(name, version))
        return [f"{name} v{version} shows {value[:3]}"] if wrong else []
    expected = {
        "own": make(name, value["v"]),
        "x": make("R", 1)[::-1],
        "h": make("H", 1),
        "b": make("B", 1),
        "o": make("O", value["v"])[::2],
        "old": make("O", value["v"] - 1),
        "whole": make("X", value["v"]),
    }
    return [
        f"{name} v{version}[{key!r}] shows {array[:3]}"
        for key, array in value.items()
        if key != "v" and not np.array_equal(array, expected[key])
    ]
