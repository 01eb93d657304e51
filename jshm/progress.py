"""How far a long copy is: told by who copies, shown to whoever waits for it.

Below a second nothing is shown, and nothing that could be measured is done.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Progress:
    """One copy, or several under one bar.

    Parameters
    ----------
    label : str
        What is copied: the name.
    total : int
        Bytes that are expected.
    """

    def __init__(self, label: str, total: int) -> None:
        self.label = label
        self.total = total
        self.done = 0

    def advance(self, nbytes: int) -> None:
        """Say that so many more bytes are there."""
        self.done += nbytes

    def spare(self, nbytes: int) -> None:
        """Say that so many bytes need no copy after all."""
        self.total -= nbytes


_current: ContextVar[Progress | None] = ContextVar("jshm_progress", default=None)


@contextlib.contextmanager
def showing(label: str, total: int) -> Iterator[Progress]:
    """Let copies of this thread that take long show a bar; an inner one is part of the outer one."""
    progress = _current.get()
    if progress is not None:
        yield progress
        return
    progress = Progress(label, total)
    token = _current.set(progress)
    try:
        yield progress
    finally:
        _current.reset(token)


def advance(nbytes: int) -> None:
    """Tell who shows it, if anybody does, that so many more bytes were copied."""
    progress = _current.get()
    if progress is not None:
        progress.advance(nbytes)
