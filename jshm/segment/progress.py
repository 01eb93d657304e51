"""Progress bars for long copies.

The code that copies calls `advance`. A bar appears after a second. Until then nothing is imported or
shown; a call takes a fraction of a microsecond per piece of some megabytes.
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

from ..system import signals
from ..text import printable

if TYPE_CHECKING:
    from contextvars import Token

# Seconds after which a bar appears.
DELAY = 1.0
_FORMAT = "{desc}: {percentage:.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_fmt}"


class Progress:
    """The progress of the copies that this thread makes inside ``with Progress("X", X.nbytes): ...``.

    Parameters
    ----------
    label : str
        Shown before the bar: the name that is copied.
    total : int
        Bytes that will be copied.
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

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        if self._token is not None:
            _current.reset(self._token)
        if self._bar is not None:
            with contextlib.suppress(Exception):
                # Otherwise an unfinished bar stays in the notebook, in red.
                self._bar.total = self._bar.n
                self._bar.close()

    def advance(self, nbytes: int) -> None:
        """Add to the bytes that were copied, and show the bar if it is due."""
        self._done += nbytes
        if time.monotonic() >= self._due:
            due, self._due = self._due, math.inf
            with contextlib.suppress(Exception):  # a failing bar must not stop the copy
                self._show(nbytes)
                self._due = due

    def _show(self, nbytes: int) -> None:
        if self._bar is not None:
            self._bar.update(nbytes)
        elif self._done < self._total and _is_watched():
            self._bar = _bar(self._label, self._total, self._done)


_current: ContextVar[Progress | None] = ContextVar("jshm_progress", default=None)


def advance(nbytes: int) -> None:
    """Report that this many bytes were copied; Ctrl-C ends the copy here."""
    signals.check()
    progress = _current.get()
    if progress is not None:
        progress.advance(nbytes)


def _is_watched() -> bool:
    """Return whether stderr is shown to a user: it belongs to a notebook or a terminal."""
    stream = sys.stderr
    return type(stream).__module__.startswith("ipykernel.") or stream.isatty()


def _bar(label: str, total: int, done: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing ipywidgets: the bar is a line of text then
        from tqdm.auto import tqdm

    # Without tqdm's monitor thread, and without its lock between processes.
    bar = type("Bar", (tqdm,), {"monitor_interval": 0})
    bar.set_lock(threading.RLock())  # type: ignore[attr-defined]
    return bar(
        desc=printable(label), total=total, initial=done, unit="B", unit_scale=True, leave=False,
        bar_format=_FORMAT,
    )  # fmt: skip
