"""Deferred signal handlers: none runs while an operation is half done.

Python runs signal handlers between any two instructions of the main thread, also between a ``BEGIN``
and the ``try`` that would end it, and no ``try`` closes every such gap. A handler may raise (Ctrl-C, a
timeout), and it may use jshm itself (SIGTERM publishes a checkpoint).

- `deferred` is a block: inside it signals are only noted, and their handlers run when the outermost block
  has ended. A block lasts milliseconds.
- `check` runs the handlers of noted signals inside a block, as if there were none. Code that waits, or
  takes long, calls it at points where a handler may raise and may use jshm.
- `Guard` is a lock between threads that is a block too. While a thread has a guard, or is in a
  transaction (`Block.seal`), `check` runs only Python's own handler for Ctrl-C, which does no more than
  raise KeyboardInterrupt: another handler could use jshm and find data that are half changed.

Only the main thread runs handlers. In other threads blocks do nothing, and guards are plain locks.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore] # `signal` converts every number to an enum, which takes longer than the rest
import os
import signal
import threading
from _thread import get_ident
from enum import IntEnum
from functools import wraps
from operator import methodcaller
from types import CodeType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from ..errors import RegistryError
from .weak import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

P = ParamSpec("P")
T = TypeVar("T")

# The first two cannot be handled. The others report that an instruction failed, which would be repeated.
_NOT_DEFERRED = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS,
}  # fmt: skip
_SIGNALS = sorted(map(int, signal.valid_signals() - _NOT_DEFERRED))
NESTED = (
    "a jshm operation was started inside another one, by a finalizer (__del__, a callback of a weak "
    "reference) that the garbage collector called: note in the finalizer what is to be done, and do it "
    "later"
)
# Seconds after which a thread that waits for a `Guard` calls `check`.
_PATIENCE = 0.01

_getsignal, _install = _signal.getsignal, _signal.signal
_Handlers = dict[int, Any]

# Attempts of an operation that fails only if another process changes its files at the same moment. If all
# fail, something is wrong, and the caller raises an error. Between two attempts it calls `check`.
ATTEMPTS = range(1000)


class Block:
    """The block that the main thread is in; inner blocks only count as part of the outermost.

    For a ``with`` statement, or as a decorator of a function that is a block as a whole: then the function
    never catches an exception of a handler, because none runs inside it.
    """

    def __init__(self) -> None:
        self.depth = 0
        # How many of the blocks are transactions or guards.
        self.sealed = 0
        # The handlers that the outermost block replaced.
        self._handlers: _Handlers = {}
        # Signals that came meanwhile, and the frame that each interrupted.
        self._noted: dict[int, FrameType | None] = {}
        # All handlers at the last `find`, and which of them are in Python.
        self._seen: list[Any] = []
        self._in_python: list[int] = []

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; like in Python, one that comes again before it is handled counts once."""
        self._noted[number] = frame

    def seal(self) -> None:
        """Make `check` run no handler that could use jshm, until `unseal`; called inside a block."""
        if get_ident() == _main:
            self.sealed += 1
            self.depth += 1

    def unseal(self) -> None:
        """Undo `seal`; called inside another block, so that no handler runs here."""
        if get_ident() == _main:
            self.depth -= 1
            self.sealed -= 1

    def __enter__(self) -> Self:
        if get_ident() == _main:
            if self.depth:
                self.depth += 1
            else:
                self.take()
        return self

    def __exit__(self, kind: object = None, value: object = None, traceback: object = None) -> None:
        if get_ident() == _main:
            if self.depth > 1:
                self.depth -= 1
            else:
                self.give_back()

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function that is a block as a whole."""

        @wraps(function)
        def deferring(*args: P.args, **kwargs: P.kwargs) -> T:
            with self:
                return function(*args, **kwargs)

        return deferring

    def take(self) -> None:
        """Begin the outermost block: replace all handlers."""
        # A handler that is not replaced yet may run meanwhile, and use blocks. It finds a depth of 0, and
        # must not put back the handlers replaced so far, so these are not in `_handlers` yet.
        taken: _Handlers = {}
        try:
            for number in self.find():
                handler = _getsignal(number)
                if callable(handler) and handler is not _note:
                    taken[number] = handler  # before `_install`, which may run handlers
                    taken[number] = _install(number, _note)
        except BaseException as error:
            self._put_back(taken)
            # ValueError from here, and not from a handler's frame: subinterpreters get no signals.
            if isinstance(error, ValueError) and error.__traceback__.tb_next is None:  # type: ignore[union-attr]
                _forget_main()
                return
            raise
        # From here on no handler runs; but a finalizer may use blocks between any two lines.
        self.depth = 1
        self._handlers = taken

    def find(self) -> list[int]:
        """Return the signals whose handler is in Python: SIG_IGN, SIG_DFL and handlers in C do no harm."""
        found = list(map(_getsignal, _SIGNALS))
        if found != self._seen:
            handlers = zip(_SIGNALS, found, strict=True)
            self._in_python = [number for number, handler in handlers if callable(handler)]
            self._seen = found
        return self._in_python

    def give_back(self) -> None:
        """End the outermost block: put the handlers back, and run those of noted signals."""
        handlers = self._handlers
        self._handlers = {}
        self.depth = 0
        try:
            self._put_back(handlers)
        finally:
            if self._noted:
                self._deliver(handlers)

    def _put_back(self, handlers: _Handlers) -> None:
        try:
            for number, handler in handlers.items():
                if _getsignal(number) is _note:
                    _install(number, handler)
        except BaseException:  # a handler that is back already raised: put back the others, too
            self._put_back(handlers)
            raise

    def _deliver(self, handlers: _Handlers) -> None:
        """Run the handlers of noted signals: every one, even if one raises."""
        for number in sorted(self._noted):
            if number in handlers and number in self._noted:
                handler: Any = handlers[number]
                frame = self._noted.pop(number)
                try:
                    if callable(handler):
                        handler(number, frame)
                    else:  # during `take`, another handler replaced this one by SIG_DFL
                        _signal.raise_signal(number)
                finally:
                    self._deliver(handlers)

    def check(self) -> None:
        """Run the handlers of noted signals, as if there were no block here; see `check`."""
        if not self._noted or not self.depth or get_ident() != _main:
            return
        if self.sealed:
            handler = self._handlers.get(_SIGINT)
            if handler is _interrupt and _SIGINT in self._noted:
                handler(_SIGINT, self._noted.pop(_SIGINT))
            return
        depth = self.depth
        try:
            self.give_back()
        finally:
            self._resume(depth)

    def _resume(self, depth: int) -> None:
        try:
            self.take()
        except BaseException:  # a handler raised; the caller is inside the block nevertheless
            self._resume(depth)
            raise
        self.depth = depth

    def after_fork_in_child(self) -> None:
        """Leave all blocks, unless the thread that forked is the main thread.

        Noted signals are dropped: they were sent to the parent. Python drops its pending ones as well.
        """
        self._noted.clear()
        if get_ident() != _main:
            self._put_back(self._handlers)
            self.__init__()  # type: ignore[misc]


class Order(IntEnum):
    """The order in which a thread takes guards, so that two threads never wait for each other."""

    STORE = 0
    WATCHES = 1
    SPARES = 2
    LEASE = 3
    MAPPINGS = 4
    CONNECTIONS = 5
    HOLDINGS = 6
    DESCRIPTORS = 7
    DEPTH = 8


class Guard:
    """A reentrant lock between threads that also defers signal handlers; for a ``with`` statement.

    While the main thread has it, no handler runs: a handler could find the guarded data half changed, or
    wait for a thread that waits for this one. While the main thread waits for it, handlers run.

    The garbage collector may call a finalizer (``__del__``) while its thread has a guard. If the finalizer
    uses jshm, it may wait for a guard of another thread, which waits for the first one. This raises
    RegistryError instead of waiting for ever.

    Parameters
    ----------
    order : Order
        A thread that has a guard takes only guards of a higher order.

    Attributes
    ----------
    lock : RLock
        The lock itself, for forks to wait for.
    """

    __slots__ = ("__weakref__", "_acquire", "_release", "lock", "order")

    def __init__(self, order: Order) -> None:
        self.lock = threading.RLock()
        self.order = order
        self._acquire, self._release = self.lock.acquire, self.lock.release
        _guards.add(self)

    # The methods of `Block` are written out here: an attach takes several guards.

    def __enter__(self) -> Self:
        if get_ident() != _main:
            if not self._acquire(False):
                self._wait()
            return self
        if _block.depth:
            _block.depth += 1
        else:
            _block.take()
        if not self._acquire(False):
            try:
                self._wait()
            except BaseException:
                _block.__exit__()
                raise
        _block.sealed += 1
        return self

    def _wait(self) -> None:
        while not self._acquire(timeout=_PATIENCE):
            owned = [guard for guard in _guards if _is_owned(guard.lock)]
            if any(guard.order > self.order for guard in owned):
                raise RegistryError(NESTED)
            _block.check()

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        self._release()
        if get_ident() == _main:
            _block.sealed -= 1
            if _block.depth > 1:
                _block.depth -= 1
            else:
                _block.give_back()


_guards: WeakSet[Guard] = WeakSet()
_is_owned = methodcaller("_is_owned")  # as `threading.Condition` asks a lock


def _find_main() -> None:
    global _main  # noqa: PLW0603
    _main = threading.main_thread().ident


def _forget_main() -> None:
    global _main  # noqa: PLW0603
    _main = None


_main: int | None = None
_find_main()
_block = Block()
# Looked up once: an operation of a few microseconds takes several blocks.
_note = _block.note
_SIGINT = int(signal.SIGINT)
_interrupt: Any = _signal.default_int_handler


def _after_fork_in_child() -> None:
    _block.after_fork_in_child()
    _find_main()  # the thread that forked is the child's main thread


os.register_at_fork(after_in_child=_after_fork_in_child)


def deferred() -> Block:
    """Return a context manager inside which no handler runs; also a decorator, ``@deferred()``."""
    return _block


def has_raised(error: BaseException) -> bool:
    """Return whether a signal handler raised an error. For callers that run user code outside a block."""
    codes = {_code_of(_getsignal(number)) for number in _block.find()} - {None}
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code not in codes:
        trace = trace.tb_next
    return trace is not None


def _code_of(handler: Any) -> CodeType | None:
    """Return the code of a function, a method, or another callable; None if it is in C."""
    found = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return found if isinstance(found, CodeType) else None


def check() -> None:
    """Run the handlers of noted signals now: while waiting, or between the steps of a long operation.

    They may raise, and they may use jshm, unless the caller has a guard or is in a transaction: then only
    Ctrl-C raises, and other signals go on waiting.
    """
    _block.check()
