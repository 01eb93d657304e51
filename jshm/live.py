"""What happens between processes: wait for versions, watch them, and take turns in writing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from .store import default_store, watching
from .store.watching import INTERVAL, Newest, Seen, Waiting, Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractContextManager

    from .store.base import SegmentInfo

    Names = list[str] | tuple[str, ...]


@overload
def wait(name: str, *, newer_than: int = ..., timeout: float | None = ...) -> SegmentInfo: ...
@overload
def wait(
    name: Names, *, newer_than: int = ..., timeout: float | None = ...
) -> list[SegmentInfo]: ...
def wait(
    name: str | Names, *, newer_than: int = 0, timeout: float | None = None
) -> SegmentInfo | list[SegmentInfo]:
    """Return when a name has a version that is new enough. It wakes within 20 ms of the publish.

    ::

        info = jshm.wait("weights")
        while training:
            weights = jshm.attach("weights")
            ...
            info = jshm.wait("weights", newer_than=info.version)

    Parameters
    ----------
    name : str, or list or tuple of str
        Several: when all have one, as they are at one moment.
    newer_than : int
        A version's number. By default any version will do.
    timeout : float, optional
        Seconds to wait; by default for ever.

    Returns
    -------
    SegmentInfo, or a list of them
        The newest versions. Holds no memory.

    Raises
    ------
    WaitTimeoutError
        Says what is still missing.
    InvalidNameError
    """
    found = watching.wait(default_store(), _names(name), timeout, newer_than)
    return found[0] if isinstance(name, str) else found


@overload
def wait_async(
    name: str, *, newer_than: int = ..., timeout: float | None = ...
) -> Coroutine[Any, Any, SegmentInfo]: ...
@overload
def wait_async(
    name: Names, *, newer_than: int = ..., timeout: float | None = ...
) -> Coroutine[Any, Any, list[SegmentInfo]]: ...
def wait_async(
    name: str | Names, *, newer_than: int = 0, timeout: float | None = None
) -> Coroutine[Any, Any, Any]:
    """Let the event loop run while waiting as `wait` does: ``info = await jshm.wait_async("X")``."""
    waiting = Waiting(default_store(), _names(name), timeout, newer_than)
    return _wait(waiting, single=isinstance(name, str))


async def _wait(waiting: Waiting, *, single: bool) -> SegmentInfo | list[SegmentInfo]:
    import asyncio

    while True:
        if (found := waiting.poll()) is not None:
            return found[0] if single else found
        await asyncio.sleep(waiting.pause)


def watch(
    name: str, callback: Callable[[SegmentInfo], Any], *, newer_than: int | None = None
) -> Watch:
    """Call a function for each new version of a name, from now on, within 20 ms of the publish.

    ::

        jshm.watch("weights", lambda info: print(info))

    Where versions come faster than the function returns, it is called for the newest only. A release
    calls nothing; the next publish does.

    One daemon thread calls all functions of a process, one after the other: what takes long, or a
    notebook's variables that others use, is better left to `wait_async` or a coroutine function. That is
    called on the event loop that runs here (a notebook has one) and needs no thread. An error in the
    function is printed, once for each place it comes from, and the watch goes on. While nothing happens,
    all watches of a process together take about a hundredth of a core.

    Parameters
    ----------
    name : str
        It need not be there yet.
    callback : callable
        Called with a `SegmentInfo`, in the store that is chosen now (`group`). A function, or a
        coroutine function.
    newer_than : int, optional
        A version's number: call it at once if there is a newer one. By default the newest that is
        there now.

    Returns
    -------
    Watch
        Stops it: ``.stop()``, or the end of a ``with`` block. Else it goes on as long as the process.
        A forked child has no watches.

    Raises
    ------
    InvalidNameError
    TypeError
        A coroutine function where no event loop runs.
    """
    if not callable(callback):
        raise TypeError(f"callback must be a function, not {type(callback).__name__}")
    store = default_store()
    return Watch(store, store.checked(name), callback, newer_than)


def watch_async(name: str, *, newer_than: int | None = None) -> AsyncIterator[SegmentInfo]:
    """Yield each new version of a name, from now on.

    ::

        async for info in jshm.watch_async("weights"):
            weights = jshm.attach("weights")
            ...

    Where versions come faster than the loop's body runs, only the newest is yielded. For the
    parameters see `watch`.
    """
    newest = Newest(default_store(), [name])
    newest.poll()
    return _news(newest, Seen(newer_than, newest.found.get(newest.names[0])))


async def _news(newest: Newest, seen: Seen) -> AsyncIterator[SegmentInfo]:
    import asyncio

    while True:
        newest.poll()
        info = newest.found.get(newest.names[0])
        if info is not None and seen.is_new(info):
            yield info
        # Also after a version: others on the loop have their turn, however fast those come.
        await asyncio.sleep(INTERVAL)


def lock(
    name: str, *, shared: bool = False, timeout: float | None = None
) -> AbstractContextManager[object]:
    """Return a lock between all threads of all processes that use the store, for a ``with`` block.

    ::

        live = jshm.attach("counts", "r+")
        with jshm.lock("counts"):
            live[3] += 1

    It keeps out those who take the lock too, and nobody else: reading and writing need none. The OS
    frees it when its holder ends, however it ends; a forked child does not have its parent's. However
    often others come again, everybody has a turn.

    Parameters
    ----------
    name : str
        Any name; it need not be published.
    shared : bool
        Together with others who share it (readers), and never beside one who does not (a writer).
    timeout : float, optional
        Seconds to wait; 0 only tries. By default for ever.

    Returns
    -------
    context manager
        It can be used again, also in other threads. A thread that has the lock cannot take it again.

    Raises
    ------
    LockTimeoutError
        When the block is entered: others have it. Says who.
    LockHeldError
        When the block is entered: this very thread has it.
    InvalidNameError
    """
    return default_store().lock(name, shared=shared, timeout=timeout)


def _names(name: str | Names) -> list[str]:
    return [name] if isinstance(name, str) else list(name)
