"""Ctrl-C waits: a KeyboardInterrupt in the middle of a transaction would leave it open, or undo half.

Python runs signal handlers between any two instructions of the main thread, also between a ``BEGIN``
and the ``try`` that would end it, and no ``try`` closes every such gap. Inside `deferred` signals are
only noted; they are delivered when the outermost block has ended. Blocks last milliseconds; what waits
inside one calls `check`, which delivers at once.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore] # the module `signal` makes an enum of every number, which takes longer than all else
import os
import signal
import threading
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

# Those whose handlers raise: Ctrl-C, the timeouts of test runners and libraries, orderly ends.
_SIGNALS = tuple(map(int, (signal.SIGINT, signal.SIGALRM, signal.SIGTERM)))

# Attempts of what fails only while others are changing it. All fail only where something is wrong: then
# the caller says what. Between two of them it calls `check`.
ATTEMPTS = range(1000)


class Block:
    """The blocks of the main thread; inner ones are part of the outermost. Others get no signals."""

    def __init__(self) -> None:
        self._depth = 0
        self._handlers: dict[int, Any] = {}
        self._noted: list[tuple[int, FrameType | None]] = []

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal."""
        self._noted.append((number, frame))

    def keep(self) -> None:
        """Let this block go on behind its ``with`` statement, until `leave`."""
        if get_ident() == _main:
            self._depth += 1

    def leave(self) -> None:
        """End what `keep` kept; inside another block, so that nothing is delivered here."""
        if get_ident() == _main:
            self._depth -= 1

    def __enter__(self) -> Self:
        if get_ident() == _main:
            if not self._depth:
                try:
                    self._take_signals()
                except ValueError:  # a subinterpreter, which gets none
                    self._handlers.clear()
                    _forget_main()
                    return self
            self._depth += 1
        return self

    def _take_signals(self) -> None:
        for number in _SIGNALS:
            handler = _getsignal(number)
            # Neither SIG_IGN nor SIG_DFL nor a handler in C raises anything in Python.
            if callable(handler) and handler is not _note:
                self._handlers[number] = handler
                _install(number, _note)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if get_ident() == _main:
            self._depth -= 1
            if not self._depth:
                for number, handler in self._handlers.items():
                    _install(number, handler)
                try:
                    if self._noted:
                        self.check()
                finally:
                    self._handlers.clear()  # the program may install others until the next block

    def after_fork_in_child(self) -> None:
        """Begin anew, unless the thread that forked is the one that gets the signals."""
        if get_ident() != _main:
            for number, handler in self._handlers.items():
                _install(number, handler)
            self.__init__()  # type: ignore[misc]

    def check(self) -> None:
        """Deliver what was noted."""
        while self._noted and get_ident() == _main:
            number, frame = self._noted.pop(0)
            self._handlers[number](number, frame)


def _find_main() -> None:
    global _main  # noqa: PLW0603
    _main = threading.main_thread().ident


def _forget_main() -> None:
    global _main  # noqa: PLW0603
    _main = None


_main: int | None = None
_find_main()
_block = Block()
# Looked up once: blocks are taken several times in an operation that takes microseconds.
_note = _block.note
_getsignal, _install = _signal.getsignal, _signal.signal


def _after_fork_in_child() -> None:
    _block.after_fork_in_child()
    _find_main()  # who forks is the child's main thread


os.register_at_fork(after_in_child=_after_fork_in_child)


def deferred() -> Block:
    """Return a context manager inside which signals are only noted."""
    return _block


def check() -> None:
    """Deliver now what was noted: before or while waiting inside a `deferred` block."""
    _block.check()
