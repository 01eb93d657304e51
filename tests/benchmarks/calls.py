"""How many calls a publish and an attach of a small array take, and how many of them cross files.

Time depends on the machine; these counts do not. They show whether a hot path became longer.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import jshm

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PACKAGE = os.path.dirname(jshm.__file__) + os.sep
# The first publishes make spares, connections and caches, and a store that was just made is checked more
# often. Once a second an operation also removes what has expired. The smallest counts of some seconds are
# those of the operations themselves.
_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one operation.

    Attributes
    ----------
    what : str
    python : int
        Calls of functions of jshm. A generator that goes on counts as a call.
    others : int
        Calls of Python functions of other packages and of the standard library.
    builtin : int
        Calls of functions that are written in C.
    crossings : int
        Calls from a function of one file of jshm to a function of another file of jshm.
    files : int
        Files of jshm in which a function is called.
    """

    what: str
    python: int
    others: int
    builtin: int
    crossings: int
    files: int


def count(what: str, operation: Callable[[], object]) -> Calls:
    """Return what an operation calls in this thread."""
    files: list[str] = []  # of each call of a function of jshm
    others = builtin = crossings = 0

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal others, builtin, crossings
        if event == "c_call":
            builtin += 1
        elif event == "call":
            file = frame.f_code.co_filename
            if not file.startswith(PACKAGE):
                others += 1
                return
            files.append(file)
            caller = frame.f_back.f_code.co_filename if frame.f_back is not None else ""
            crossings += caller != file and caller.startswith(PACKAGE)

    sys.setprofile(profile)
    try:
        operation()
    finally:
        sys.setprofile(None)
    # The last C call is that of `sys.setprofile` itself.
    return Calls(what, len(files), others, builtin - 1, crossings, len(set(files)))


def measure() -> list[Calls]:
    """Count a warm publish of a small array, and its first and second attach."""
    array = np.arange(100.0)
    rounds: list[list[Calls]] = []
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        held: list[Any] = []
        rounds.append(
            [
                count("publish", lambda: jshm.publish("counted", array)),
                count("attach, first", lambda: held.append(jshm.attach("counted"))),  # noqa: B023
                count("attach, again", lambda: held.append(jshm.attach("counted"))),  # noqa: B023
            ]
        )
    jshm.release("counted")
    return [min(counts, key=lambda calls: calls.python) for counts in zip(*rounds, strict=True)]
