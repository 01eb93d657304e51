"""How far a long copy is: told by what copies, shown to whoever waits for it.

A bar appears after a second. Until then nothing is imported or shown; an `advance` of a piece of some
megabytes takes a fraction of a microsecond.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
import warnings
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from ..system import signals as interrupts
from ..text import printable

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

# Seconds after which a bar appears.
DELAY = 1.0
_FORMAT = "{desc}: {percentage:.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_fmt}"


class Progress:
    """What this thread copies within: ``with Progress("X", X.nbytes): ...``.

    Parameters
    ----------
    label : str
        What is copied: the name.
    total : int
        Bytes that are expected.
    """

    __slots__ = ("_bar", "_done", "_due", "_label", "_token", "_total")

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._due = time.monotonic() + DELAY
        self._bar: Any = None
        self._token: Token[Progress | None] | None = None

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
        if self._bar is not None:
            with contextlib.suppress(Exception):
                self._bar.total = self._bar.n  # else a notebook keeps it, in red
                self._bar.close()

    def advance(self, nbytes: int) -> None:
        """Say that so many more bytes are there."""
        self._done += nbytes
        if time.monotonic() >= self._due:
            due, self._due = self._due, math.inf
            with contextlib.suppress(Exception):  # it is not worth failing for
                self._show(nbytes)
                self._due = due

    def _show(self, nbytes: int) -> None:
        if self._bar is not None:
            self._bar.update(nbytes)
        elif self._done < self._total and _is_watched():
            self._bar = _bar(self._label, self._total, self._done)


_current: ContextVar[Progress | None] = ContextVar("jshm_progress", default=None)


def advance(nbytes: int) -> None:
    """Say that so many bytes were copied, to whoever shows it; here Ctrl-C ends the copy."""
    interrupts.check()
    progress = _current.get()
    if progress is not None:
        progress.advance(nbytes)


def _is_watched() -> bool:
    """Tell whether somebody sees what is written to stderr now: a notebook, or a terminal."""
    stream = sys.stderr
    return type(stream).__module__.startswith("ipykernel.") or stream.isatty()


def _bar(label: str, total: int, done: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets it is a line of text, as well
        from tqdm.auto import tqdm

    # Neither a thread that watches it, nor a lock for other processes.
    bar = type("Bar", (tqdm,), {"monitor_interval": 0})
    bar.set_lock(threading.RLock())  # type: ignore[attr-defined]
    return bar(
        desc=printable(label), total=total, initial=done, unit="B", unit_scale=True, leave=False,
        bar_format=_FORMAT,
    )  # fmt: skip
