"""Wait for new versions of names, and watch names, in any store.

All functions here poll `Store.revision`, which costs microseconds, and read versions only after it has
changed. Callbacks run in one daemon thread per process, coroutines on their event loop.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import inspect
import operator
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Self

from ..errors import SegmentNotFoundError, WaitTimeoutError
from ..system.forks import wait_for
from ..system.signals import Guard, Order, deferred
from ..text import say, shown

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from ..errors import Remedy
    from .base import SegmentInfo, Store

# Seconds between two polls.
INTERVAL = 0.01
# A timeout names at most this number of missing names.
_SHOWN = 5
# Seconds for which the end of the process waits for a running callback.
_LAST = 1.0


# -- wait ------------------------------------------------------------------------------------------


class Newest:
    """The newest versions of some names, read again after a commit.

    Parameters
    ----------
    store : Store
    names : sequence of str

    Attributes
    ----------
    names : list of str
        In the form in which the store knows them.
    found : dict of str to SegmentInfo
        The newest versions at the last `poll`, all at one moment.
    """

    def __init__(self, store: Store, names: Sequence[str]) -> None:
        self.names = [store.checked(name) for name in names]
        self.found: dict[str, SegmentInfo] = {}
        self._store = store
        self._revision: object = None

    @deferred()
    def poll(self) -> bool:
        """Read the versions if anything was committed since the last poll; return whether it read them."""
        revision = self._store.revision()
        if revision == self._revision:
            return False
        self.found = self._store.current(self.names)
        self._revision = revision
        return True

    def missing(self, name: str) -> tuple[str, tuple[Remedy, ...]]:
        """Return why a wait for a name did not end, and what helps."""
        if name in self.found:
            return f"{name} is still v{self.found[name].version}", ()
        try:
            self._store.info(name)
        except SegmentNotFoundError as error:
            return error.message, error.remedies
        return f"{name} was published at the last moment", ()


class Waiting:
    """A wait until all of some names have a version that is new enough.

    Parameters
    ----------
    store : Store
    names : sequence of str
    timeout : float or None
        Seconds; None waits for ever.
    newer_than : int
        Each version must be newer than this one.
    """

    def __init__(
        self, store: Store, names: Sequence[str], timeout: float | None, newer_than: int = 0
    ) -> None:
        self._newest = Newest(store, names)
        self._timeout = timeout
        self._newer_than = operator.index(newer_than)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._missing: list[str] = []

    @deferred()
    def poll(self) -> list[SegmentInfo] | None:
        """Return the versions if all of them exist, else None.

        Raises
        ------
        WaitTimeoutError
            The time is over.
        """
        newest = self._newest
        if newest.poll():
            found = newest.found
            self._missing = [
                name
                for name in newest.names
                if name not in found or found[name].version <= self._newer_than
            ]
            if not self._missing:
                return [found[name] for name in newest.names]
        if self._deadline is not None and time.monotonic() >= self._deadline:
            missing = [newest.missing(name) for name in self._missing[:_SHOWN]]
            reasons = [reason for reason, _ in missing]
            if len(self._missing) > _SHOWN:
                reasons.append(f"and {len(self._missing) - _SHOWN} more")
            raise WaitTimeoutError(
                f"waited {self._timeout:g} s: {'; '.join(reasons)}",
                remedy=next((remedies for _, remedies in missing if remedies), ()),
            )
        return None

    @property
    def pause(self) -> float:
        """Seconds until the next poll."""
        if self._deadline is None:
            return INTERVAL
        return min(INTERVAL, max(0.0, self._deadline - time.monotonic()))


def wait(
    store: Store, names: Sequence[str], timeout: float | None, newer_than: int = 0
) -> list[SegmentInfo]:
    """Return the newest versions of names when all are newer than `newer_than`.

    Raises
    ------
    WaitTimeoutError
        After `timeout` seconds; None waits for ever.
    """
    waiting = Waiting(store, names, timeout, newer_than)
    while (found := waiting.poll()) is None:
        time.sleep(waiting.pause)
    return found


class Seen:
    """The last version of a name that was reported, to tell which ones are new.

    Parameters
    ----------
    newer_than : int or None
        The first version to report must be newer than this one; None: than `now`.
    now : SegmentInfo or None
        The newest version that exists now.
    """

    def __init__(self, newer_than: int | None, now: SegmentInfo | None) -> None:
        self._newer_than = 0 if newer_than is None else operator.index(newer_than)
        self._last = None if now is None or newer_than is not None else _mark(now)

    def is_new(self, info: SegmentInfo) -> bool:
        """Return whether this is another version than the last one, and remember it."""
        last, self._last = self._last, _mark(info)
        return info.version > self._newer_than if last is None else self._last != last


def _mark(info: SegmentInfo) -> tuple[int, float]:
    # Version numbers restart where somebody removed the store's directory while nobody had the name.
    return info.version, info.created


# -- watch -----------------------------------------------------------------------------------------


class Watch:
    """A callback for new versions of a name, until `stop` or the end of a ``with`` block.

    Attributes
    ----------
    name : str
    store : Store
        Of the name.
    needs_thread : bool
        Whether the thread calls it, and not an event loop.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        callback: Callable[[SegmentInfo], Any],
        newer_than: int | None,
    ) -> None:
        self.name = name
        self.store = store
        self.needs_thread = not _is_coroutine(callback)
        self._callback = callback
        # The callback publishes into the store that is current here, and prints below this cell.
        self._context = contextvars.copy_context()
        newest = Newest(store, [name])
        newest.poll()
        self._seen = Seen(newer_than, newest.found.get(name))
        self._shown: set[tuple[object, ...]] = set()
        self._stopped = False
        self._pid = os.getpid()
        self._task: asyncio.Task[None] | None = None
        if not self.needs_thread:
            self._task = self._start_task(newest)
        _add(self)

    def __repr__(self) -> str:
        return shown(f"<watch of {self.name}{', stopped' if self._is_over() else ''}>")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _is_over(self) -> bool:
        return self._stopped or self._pid != os.getpid()

    @deferred()  # a watch that is stopped but still listed would never end
    def stop(self) -> None:
        """Stop calling it. A call that has begun finishes; a coroutine is cancelled."""
        if self._is_over():  # a forked child has no watches
            return
        self._stopped = True
        _remove(self)
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def tell(self, newest: Newest) -> None:
        """Call the callback if there is a new version."""
        info = newest.found.get(self.name)
        if info is not None and self._seen.is_new(info) and not self._stopped:
            self._context.run(self._call, info)

    def _call(self, info: SegmentInfo) -> None:
        try:
            self._callback(info)
        except BaseException as error:  # noqa: BLE001 - other watches use the thread
            self._show(error)

    def show(self, error: BaseException) -> None:
        """Print an error below the cell that started the watch, once."""
        self._context.run(self._show, error)

    def _show(self, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        kind = (type(error), *((frame.filename, frame.lineno) for frame in frames))
        if kind in self._shown:
            return
        self._shown.add(kind)
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no stderr, or a closed one
            traceback.print_exception(error)
            say(
                f"jshm.watch({self.name!r}) goes on. The same error is not shown again",
                stream=sys.stderr,
            )

    def _start_task(self, newest: Newest) -> asyncio.Task[None]:
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise TypeError(
                f"{self._callback!r} is a coroutine function, but no event loop runs here: call "
                "jshm.watch in one (a notebook has one), or pass an ordinary function"
            ) from None
        task = loop.create_task(self._run(newest), name=f"jshm-watch {self.name}")
        task.add_done_callback(lambda _: self.stop())  # its loop has ended
        return task

    async def _run(self, newest: Newest) -> None:
        import asyncio

        while True:
            try:
                newest.poll()
                info = newest.found.get(self.name)
                if info is not None and self._seen.is_new(info):
                    await self._callback(info)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - the notebook uses the loop
                self._show(error)
            await asyncio.sleep(INTERVAL)


def _is_coroutine(callback: object) -> bool:
    # An object with `async def __call__` is a coroutine function only by that method.
    return any(map(inspect.iscoroutinefunction, (callback, getattr(callback, "__call__", None))))  # noqa: B004


# -- the thread ------------------------------------------------------------------------------------

# All watches that are not stopped: a notebook need not keep the result of `jshm.watch`.
_watches: list[Watch] = []
_thread: threading.Thread | None = None
_guard = Guard(Order.WATCHES)
wait_for(_guard.lock)


def _add(watch: Watch) -> None:
    global _thread  # noqa: PLW0603
    with _guard:
        if watch.needs_thread and _thread is None:
            thread = threading.Thread(target=_poll_all, name="jshm-watch", daemon=True)
            thread.start()
            _thread = thread
        _watches.append(watch)


def _remove(watch: Watch) -> None:
    with _guard, contextlib.suppress(ValueError):
        _watches.remove(watch)


def _thread_watches() -> list[Watch]:
    """Return the watches that the thread calls; if there are none, the thread ends."""
    global _thread  # noqa: PLW0603
    with _guard:
        found = [watch for watch in _watches if watch.needs_thread]
        if not found:
            _thread = None
        return found


def _poll_all() -> None:
    known: list[Watch] = []
    groups: list[tuple[Newest, list[Watch]]] = []
    while watches := _thread_watches():
        if watches != known:
            known, groups = watches, _by_store(watches)
        for newest, group in groups:
            _poll(newest, group)
        time.sleep(INTERVAL)


def _by_store(watches: Sequence[Watch]) -> list[tuple[Newest, list[Watch]]]:
    """Return the watches by store, with one `Newest` for each store."""
    groups: dict[Store, list[Watch]] = {}
    for watch in watches:
        groups.setdefault(watch.store, []).append(watch)
    return [
        (Newest(store, sorted({watch.name for watch in group})), group)
        for store, group in groups.items()
    ]


def _poll(newest: Newest, group: Sequence[Watch]) -> None:
    try:
        if not newest.poll():
            return
    except Exception as error:  # noqa: BLE001 - the store may be repaired, and other watches go on
        group[0].show(error)
        return
    for watch in group:
        watch.tell(newest)


@atexit.register
def _stop_all() -> None:
    """Stop all watches before the stores are closed: a poll would open them again."""
    thread = _thread
    for watch in _watches.copy():
        watch.stop()
    if thread is not None and thread is not threading.current_thread():
        thread.join(_LAST)


def _after_fork_in_child() -> None:
    global _thread  # noqa: PLW0603
    _watches.clear()
    _thread = None


os.register_at_fork(after_in_child=_after_fork_in_child)
