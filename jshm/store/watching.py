"""Callbacks for new versions: one daemon thread for all of a process; coroutines on their own loop.

The thread is there while there is a watch that needs it. It looks for news every ten milliseconds.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import inspect
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Self

from ..system.forks import wait_for
from ..system.signals import Guard, Order, deferred
from ..text import say, shown
from .local.waiting import INTERVAL, Seen

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from .base import SegmentInfo
    from .local.registry.rows import Entry
    from .local.store import LocalStore
    from .local.waiting import Newest

# Seconds for which the end of the process waits for a callback that runs.
_LAST = 1.0


class Watch:
    """A callback that is called for new versions of a name, until `stop`, or the end of a ``with``.

    Attributes
    ----------
    name : str
    """

    def __init__(
        self,
        store: LocalStore,
        name: str,
        callback: Callable[[SegmentInfo], Any],
        newer_than: int | None,
    ) -> None:
        self.name = name
        self._store = store
        self._callback = callback
        # What the callback publishes goes to the store that was chosen here; what it prints, below the
        # cell that asked for it.
        self._context = contextvars.copy_context()
        newest = store.newest([name])
        newest.look()
        self._seen = Seen(newer_than, newest.found.get(name))
        self._shown: set[tuple[object, ...]] = set()
        self._stopped = False
        self._pid = os.getpid()
        self._task: asyncio.Task[None] | None = None
        if _is_coroutine(callback):
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

    @property
    def store(self) -> LocalStore:
        """Where the name is."""
        return self._store

    @property
    def needs_thread(self) -> bool:
        """Whether no event loop calls it."""
        return self._task is None

    @deferred()  # one that counts as stopped, and is among all, would never end
    def stop(self) -> None:
        """Call it no more. A call that has begun goes on to its end; a coroutine is cancelled."""
        if self._is_over():  # a forked child has none of its parent's
            return
        self._stopped = True
        _remove(self)
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def tell(self, newest: Newest) -> None:
        """Call the callback if there is news."""
        entry = newest.found.get(self.name)
        if entry is not None and self._seen.is_new(entry) and not self._stopped:
            self._context.run(self._call, newest, entry)

    def _call(self, newest: Newest, entry: Entry) -> None:
        try:
            self._callback(newest.describe(entry))
        except BaseException as error:  # noqa: BLE001 - the thread is others' too
            self._show(error)

    def show(self, error: BaseException) -> None:
        """Print an error where the user sees it, once."""
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
                f"{self._callback!r} is a coroutine function, and no event loop runs here to call "
                "it: call jshm.watch in one (a notebook has one), or pass an ordinary function"
            ) from None
        task = loop.create_task(self._run(newest), name=f"jshm-watch {self.name}")
        task.add_done_callback(lambda _: self.stop())  # its loop has ended
        return task

    async def _run(self, newest: Newest) -> None:
        import asyncio

        while True:
            try:
                newest.look()
                entry = newest.found.get(self.name)
                if entry is not None and self._seen.is_new(entry):
                    await self._callback(newest.describe(entry))
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - the loop is the notebook's
                self._show(error)
            await asyncio.sleep(INTERVAL)


def _is_coroutine(callback: object) -> bool:
    # Of an object with `async def __call__` only the method says so.
    return any(map(inspect.iscoroutinefunction, (callback, getattr(callback, "__call__", None))))  # noqa: B004


# -- the thread ------------------------------------------------------------------------------------

# All that are not stopped: a notebook need not keep what `jshm.watch` returned.
_watches: list[Watch] = []
_thread: threading.Thread | None = None
_guard = Guard(Order.WATCHES)
wait_for(_guard.lock)


def _add(watch: Watch) -> None:
    global _thread  # noqa: PLW0603
    with _guard:
        if watch.needs_thread and _thread is None:
            thread = threading.Thread(target=_look_for_all, name="jshm-watch", daemon=True)
            thread.start()
            _thread = thread
        _watches.append(watch)


def _remove(watch: Watch) -> None:
    with _guard, contextlib.suppress(ValueError):
        _watches.remove(watch)


def _to_tell() -> list[Watch]:
    """Return the watches of the thread, which ends if there are none."""
    global _thread  # noqa: PLW0603
    with _guard:
        found = [watch for watch in _watches if watch.needs_thread]
        if not found:
            _thread = None
        return found


def _look_for_all() -> None:
    known: list[Watch] = []
    groups: list[tuple[Newest, list[Watch]]] = []
    while watches := _to_tell():
        if watches != known:
            known, groups = watches, _by_store(watches)
        for newest, group in groups:
            _look(newest, group)
        time.sleep(INTERVAL)


def _by_store(watches: Sequence[Watch]) -> list[tuple[Newest, list[Watch]]]:
    """Let one look serve all that watch in the same store."""
    groups: dict[LocalStore, list[Watch]] = {}
    for watch in watches:
        groups.setdefault(watch.store, []).append(watch)
    return [
        (store.newest(sorted({watch.name for watch in group})), group)
        for store, group in groups.items()
    ]


def _look(newest: Newest, group: Sequence[Watch]) -> None:
    try:
        if not newest.look():
            return
    except Exception as error:  # noqa: BLE001 - it may be mended, and others' watches go on
        group[0].show(error)
        return
    for watch in group:
        watch.tell(newest)


@atexit.register
def _stop_all() -> None:
    """Before the stores are closed: a look would open them again."""
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
