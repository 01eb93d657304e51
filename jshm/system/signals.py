"""Signal handlers wait while something is half done: a transaction, a table of this process, a copy.

Python runs signal handlers between any two instructions of the main thread, also between a ``BEGIN``
and the ``try`` that would end it, and no ``try`` closes every such gap. A handler may raise (Ctrl-C, a
timeout), and it may use jshm itself (SIGTERM publishes a checkpoint). Inside `deferred` signals are only
noted; their handlers are called when the outermost block has ended. Blocks last milliseconds; what takes
longer, or waits, calls `check`, and the handlers are called there, as if there were no block.

Inside a transaction, or with a `Guard`, `check` lets through what only raises KeyboardInterrupt: anything
else could use jshm, and would meet what is half done.

Only the main thread runs handlers. Others need no blocks, and take locks only.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore] # the module `signal` makes an enum of every number, which takes longer than all else
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
    from types import FrameType, TracebackType

P = ParamSpec("P")
T = TypeVar("T")

# Nobody can handle the first two. The others say that an instruction failed, which would be repeated.
_OTHERS = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS,
}  # fmt: skip
_SIGNALS = sorted(map(int, signal.valid_signals() - _OTHERS))
NESTED = (
    "a jshm operation was started inside another one, by a finalizer (__del__, a callback of a weak "
    "reference) that the garbage collector called: let the finalizer note what is to be done, and do it "
    "later"
)
# Seconds after which a thread that waits for a `Guard` calls the handlers of what was noted.
_PATIENCE = 0.01

_getsignal, _install = _signal.getsignal, _signal.signal
_Handlers = dict[int, Any]

# Attempts of what fails only while others are changing it. All fail only where something is wrong: then
# the caller says what. Between two of them it calls `check`.
ATTEMPTS = range(1000)


class Block:
    """The blocks of the main thread; inner ones are part of the outermost."""

    def __init__(self) -> None:
        self.depth = 0
        # How many of the blocks must not be left by a handler that uses jshm.
        self.sealed = 0
        # What the outermost block replaced.
        self._handlers: _Handlers = {}
        self._noted: dict[int, FrameType | None] = {}
        # All handlers when they were last looked at, and which of them are in Python.
        self._seen: list[Any] = []
        self._in_python: list[int] = []

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; one that comes again before it is handled counts once, as it does in Python."""
        self._noted[number] = frame

    def seal(self) -> None:
        """Let handlers wait from now on until `unseal`; inside a block that goes on until then."""
        if get_ident() == _main:
            self.sealed += 1
            self.depth += 1

    def unseal(self) -> None:
        """End what `seal` began; inside another block, so that nothing is delivered here."""
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

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if get_ident() == _main:
            if self.depth > 1:
                self.depth -= 1
            else:
                self.give_back()

    def take(self) -> None:
        """Replace all handlers, and begin a block."""
        # One that is not replaced yet may be called meanwhile, and use blocks: it finds, and leaves, a
        # depth of 0. What was replaced before is not its business, so this is not in `_handlers` yet.
        taken: _Handlers = {}
        try:
            for number in self.find():
                handler = _getsignal(number)
                if callable(handler) and handler is not _note:
                    taken[number] = handler  # first: `_install` calls handlers, too
                    taken[number] = _install(number, _note)
        except BaseException as error:
            self._put_back(taken)
            # A subinterpreter gets no signals. An error of a handler comes from frames below this one.
            if isinstance(error, ValueError) and error.__traceback__.tb_next is None:  # type: ignore[union-attr]
                _forget_main()
                return
            raise
        # From here on no handler is called; but a finalizer may use blocks between any two lines.
        self.depth = 1
        self._handlers = taken

    def find(self) -> list[int]:
        """Return the signals that have a handler in Python; SIG_IGN, SIG_DFL and C do no harm."""
        found = list(map(_getsignal, _SIGNALS))
        if found != self._seen:
            handlers = zip(_SIGNALS, found, strict=True)
            self._in_python = [number for number, handler in handlers if callable(handler)]
            self._seen = found
        return self._in_python

    def give_back(self) -> None:
        """End a block: from here on handlers are called again, also for what was noted."""
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
        except BaseException:  # of one that is back already: the others must be, too
            self._put_back(handlers)
            raise

    def _deliver(self, handlers: _Handlers) -> None:
        """Call the handlers of what was noted: each, also where one raises."""
        for number in sorted(self._noted):
            if number in handlers and number in self._noted:
                handler: Any = handlers[number]
                frame = self._noted.pop(number)
                try:
                    if callable(handler):
                        handler(number, frame)
                    else:  # a handler that was called once set SIG_DFL in the midst of `take`
                        _signal.raise_signal(number)
                finally:
                    self._deliver(handlers)

    def check(self) -> None:
        """Call the handlers of what was noted, as if there were no block here."""
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
        except BaseException:  # of a handler: whoever is inside the block is, all the same
            self._resume(depth)
            raise
        self.depth = depth

    def after_fork_in_child(self) -> None:
        """Begin anew, unless the thread that forked is the one that gets the signals.

        What was noted is the parent's, as Python's own pending signals are.
        """
        self._noted.clear()
        if get_ident() != _main:
            self._put_back(self._handlers)
            self.__init__()  # type: ignore[misc]


class Order(IntEnum):
    """In which order a thread takes guards."""

    STORE = 0
    WATCHES = 1
    UNDO = 2
    SPARES = 3
    LEASE = 4
    MAPPINGS = 5
    CONNECTIONS = 6
    HOLDINGS = 7
    DESCRIPTORS = 8
    DEPTH = 9


class Guard:
    """A lock of what threads of this process share, for a ``with`` statement, as often as one likes.

    No handler is called while its thread has it: that would find what it guards half changed, or wait
    for a thread that waits for this one. While it waits for the lock, handlers are called.

    Finalizers (``__del__``) cannot wait: the garbage collector calls them also while a thread has a guard.
    One that uses jshm so may want a guard which another thread has, and that thread may want the first
    one: this is an error.

    Parameters
    ----------
    order : Order
        A thread that has one takes only those of a higher order.

    Attributes
    ----------
    lock : RLock
        What a fork waits for.
    """

    __slots__ = ("__weakref__", "_acquire", "_release", "lock", "order")

    def __init__(self, order: Order) -> None:
        self.lock = threading.RLock()
        self.order = order
        self._acquire, self._release = self.lock.acquire, self.lock.release
        _guards.add(self)

    # What `Block` has methods for is written out: guards are taken several times in an attach.

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()
        if get_ident() == _main:
            _block.sealed -= 1
            if _block.depth > 1:
                _block.depth -= 1
            else:
                _block.give_back()


_guards: WeakSet[Guard] = WeakSet()
_is_owned = methodcaller("_is_owned")  # what `threading.Condition` asks a lock for


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
_SIGINT = int(signal.SIGINT)
_interrupt: Any = _signal.default_int_handler


def _after_fork_in_child() -> None:
    _block.after_fork_in_child()
    _find_main()  # who forks is the child's main thread


os.register_at_fork(after_in_child=_after_fork_in_child)


def deferred() -> Block:
    """Return a context manager inside which signals are only noted."""
    return _block


def whole(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that is `deferred` as a whole: what it catches is never what a handler raised."""

    @wraps(function)
    def deferring(*args: P.args, **kwargs: P.kwargs) -> T:
        with _block:
            return function(*args, **kwargs)

    return deferring


def has_raised(error: BaseException) -> bool:
    """Tell whether a handler of a signal raised an error, for where code of the user's runs undeferred."""
    codes = {_code_of(_getsignal(number)) for number in _block.find()} - {None}
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code not in codes:
        trace = trace.tb_next
    return trace is not None


def _code_of(handler: Any) -> CodeType | None:
    """Return the code of a function, a method, or an object that can be called; None of one in C."""
    found = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return found if isinstance(found, CodeType) else None


def check() -> None:
    """Call the handlers of what was noted: while waiting, or between steps of what takes long."""
    _block.check()
