"""The functions of ``import jshm``: they work on the default store, and look like NumPy's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from .errors import Remedy, SegmentNotFoundError, SharedStateWarning, ShortLifeWarning
from .segment import copying
from .segment.progress import Progress
from .segment.views import is_shared
from .store import default_store, store_of, watching
from .store.base import shared_states
from .store.handle import SharedNumpyArray
from .store.names import check_version
from .store.watching import INTERVAL, Newest, Seen, Waiting, Watch
from .variables import (
    attach_published,
    detach_segments,
    rebind,
    remember,
    segments_named,
    user_namespace,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from .segment.array_layout import Order
    from .segment.file import Mode
    from .store.base import Problem, Published, Released, SegmentInfo

    Names = list[str] | tuple[str, ...]

Array = np.ndarray[Any, Any]
T = TypeVar("T")
_MISSING: Any = object()
# Warnings that a program shows once, and has shown.
_warned: set[type[Warning]] = set()


@overload
def publish(
    name: str, value: object, *, replace: bool = ..., keep: bool = ..., move: bool = ...,
    writable: bool = ..., note: str = ...,
) -> SegmentInfo: ...  # fmt: skip
@overload
def publish(
    name: Mapping[str, object], *, replace: bool = ..., keep: bool = ..., move: bool = ...,
    writable: bool = ..., note: str = ...,
) -> list[SegmentInfo]: ...  # fmt: skip
def publish(
    name: str | Mapping[str, object],
    value: object = _MISSING,
    *,
    replace: bool = False,
    keep: bool = False,
    move: bool = False,
    writable: bool = False,
    note: str = "",
) -> SegmentInfo | list[SegmentInfo]:
    """Publish an array, or any other object, under a name, as its next version.

    An array is copied into shared memory once; later changes to it are not shared. An array that was
    made by `empty`, `zeros`, `full` or `empty_like` is already there: it is sealed without a copy, and
    becomes read-only. Republishing an attached, unchanged array copies nothing either.

    Anything else is pickled (see `Pickler`): functions and classes with their source, tables, models,
    dicts. Arrays in it are shared, too. An array that is already in shared memory is referred to, and
    stays as long as the object that refers to it.

    Parameters
    ----------
    name : str, or mapping of str to object
        A mapping publishes several values, all or none, in one transaction. Those that share state (a
        model and its optimizer, two functions and their global variable) share it again if one `attach`
        attaches them. Attached separately, each is complete by itself. A SharedStateWarning says so.
    value : ndarray or object
    replace : bool
        Publish the next version even if the name belongs to another notebook.
    keep : bool
        Keep it when the publisher's Jupyter server (or process) ends, until it is released.
    move : bool
        In a notebook: rebind the variables that are this value to the shared copy, so that the
        private one can be freed.
    writable : bool
        Others may attach the array with mode ``'r+'``: every holder sees every change. Implies `move`.
    note : str
        Shown in lists; at most 10,000 characters.

    Returns
    -------
    SegmentInfo, or a list of them
        The published versions. They hold no memory.

    Warns
    -----
    ShortLifeWarning
        Once, in a program whose names are released when it ends: a script, IPython in a terminal, a
        run of nbclient or papermill, a kernel of VS Code. Not with `keep`, and not in workers.

    Raises
    ------
    NotOwnerError
        The name belongs to another notebook.
    NotShareableError
        Something in the value cannot be shared (an open file, a lock); the message names it and its
        place.
    NoSpaceError
    InvalidNameError
    """
    if isinstance(name, Mapping):
        values: Mapping[str, object] = name
    elif value is _MISSING:
        raise TypeError('publish takes a name and a value: jshm.publish("X", X)')
    else:
        values = {name: value}
    done, _ = publish_values(
        values, replace=replace, keep=keep, move=move, writable=writable, note=note
    )
    infos = [published.info for published in done]
    for names, text in shared_states(infos):
        remedy = Remedy("attach", tuple(names), {}, "For example")
        warnings.warn(SharedStateWarning(text, remedy=remedy), stacklevel=2)
    if infos and not keep:
        _warn_of_short_life(infos[0])
    return infos if isinstance(name, Mapping) else infos[0]


def publish_values(
    values: Mapping[str, object],
    *,
    replace: bool,
    keep: bool,
    move: bool,
    writable: bool,
    note: str,
) -> tuple[list[Published], list[list[str]]]:
    """Publish values, and rebind the notebook's variables to the shared copies if asked to.

    Returns
    -------
    list of Published, and list of list of str
        For each value, what was published and the variables that were rebound.
    """
    store = default_store()
    if writable:
        store.require("writable", "publish with writable=True")
    done = store.publish(values, replace=replace, keep=keep, writable=writable, note=note)
    if not (move or writable):
        return done, [[] for _ in done]
    shared = attach_published(store, done, "r+" if writable else "r")
    namespace = user_namespace()
    pairs = zip(shared, values.values(), strict=True)
    return done, [rebind(namespace, old, attached) for attached, old in pairs]


def _warn_of_short_life(info: SegmentInfo) -> None:
    """Warn, once in a program, that its names are released when it ends."""
    if ShortLifeWarning in _warned:
        return
    life = default_store().identity.short_life(info.lifetime)
    if life:
        _warned.add(ShortLifeWarning)
        remedy = Remedy("publish", (info.name,), {"keep": True}, "Keep it longer")
        warnings.warn(ShortLifeWarning(life, remedy=remedy), stacklevel=3)


@overload
def attach(
    name: str, mode: Mode = ..., timeout: float | None = ..., *, version: int | None = ...,
    trust: bool = ...,
) -> Any: ...  # fmt: skip
@overload
def attach(
    name: list[str] | tuple[str, ...],
    mode: Mode = ...,
    timeout: float | None = ...,
    *,
    version: int | None = ...,
    trust: bool = ...,
) -> list[Any]: ...
def attach(
    name: str | list[str] | tuple[str, ...],
    mode: Mode = "r",
    timeout: float | None = None,
    *,
    version: int | None = None,
    trust: bool = False,
) -> Any:
    """Return a published value: the same physical memory, nothing copied.

    An array is mapped. Any other object is unpickled, which runs the publisher's code; the arrays in
    it, and other large buffers, are views of shared memory.

    Parameters
    ----------
    name : str, or list or tuple of str
        Several are attached from the same moment, and values that were published together share the
        state that they shared.
    mode : {'r', 'r+', 'c'}
        Read-only; shared and writable (only if it was published ``writable``); copy-on-write: writable,
        and changes stay in this process. For an object, the mode applies to the arrays in it.
    timeout : float, optional
        Seconds to wait for a name that does not exist yet. By default, do not wait.
    version : int, optional
        An older version, while it exists; by default the newest.
    trust : bool
        In the store of a group: also attach objects of other members, which runs their code. Attaching
        an array never runs code.

    Returns
    -------
    ndarray or object, or a list of them
        A plain array. The memory stays mapped as long as it, or a view of it, lives, whatever other
        processes do. The same holds for the arrays in an object.

    Raises
    ------
    SegmentNotFoundError
        No such name or version; the message suggests the nearest name.
    ReadOnlyError
        Mode ``'r+'`` of a snapshot.
    MissingModuleError
        An object needs a package that cannot be imported here. Nothing of it was run.
    UntrustedError
        Another member's object in the store of a group, without `trust`.
    AmbiguousNameError
        Several members of the group have that name: write ``ada:X``.
    CorruptSegmentError
    """
    names = [name] if isinstance(name, str) else list(name)
    versions = None if version is None else [check_version(version)] * len(names)
    store = default_store()
    if timeout is not None:
        watching.wait(store, names, timeout)
    values = [
        remember(attached.value, attached.segments)
        for attached in store.attach(names, mode, versions, trust=trust)
    ]
    return values[0] if isinstance(name, str) else values


def release(name: str | Sequence[str], *, force: bool = False) -> list[Released]:
    """Retire names for everyone. Processes that have them mapped keep their views.

    Parameters
    ----------
    name : str, or sequence of str
        All or none.
    force : bool
        Also names of other notebooks.

    Returns
    -------
    list of Released
        For each name, the bytes freed and the holders of the rest.

    Raises
    ------
    SegmentNotFoundError, NotOwnerError
    """
    return default_store().release([name] if isinstance(name, str) else list(name), force=force)


def release_found(
    written: Sequence[str], found: Sequence[str], *, force: bool = False
) -> list[Released]:
    """Release names that a user wrote, and those found for the user that still exist.

    Parameters
    ----------
    written : sequence of str
        All of them must exist.
    found : sequence of str
        For example the matches of a glob. Another process may have released some of them.
    force : bool
        As in `Store.release`.

    Raises
    ------
    SegmentNotFoundError, NotOwnerError
        Nothing was released.
    """
    store = default_store()
    while True:
        try:
            return store.release([*written, *found], force=force)
        except SegmentNotFoundError:
            there = set(store.names())
            if there.issuperset(found):
                raise
            found = [name for name in found if name in there]


def detach(what: str | Array) -> list[str]:
    """Let go here: delete the variables of this notebook (or program) that are views of a segment.

    Parameters
    ----------
    what : str or ndarray
        A name, a variable's name, or a shared array.

    Returns
    -------
    list of str
        The references that still keep the memory mapped in this process; empty if it is unmapped.

    Raises
    ------
    SegmentNotFoundError
        Nothing here is a view of it.
    """
    namespace = user_namespace()
    segments = segments_named(namespace, what, default_store())
    del what  # this frame's reference would keep the array
    return detach_segments(namespace, segments, store_of(next(iter(segments)))).culprits


def segments() -> list[SegmentInfo]:
    """Return every version that takes memory on this machine, with its holders."""
    return default_store().segments()


def info(name: str, version: int | None = None) -> SegmentInfo:
    """Return a description of the newest (or the given) version of a name; see `SegmentInfo`."""
    return default_store().info(name, None if version is None else check_version(version))


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = float, order: Order = "C") -> Array:
    """Return a new array in shared memory, like `numpy.empty`.

    It has no name and is private to this process until it is published. Publishing seals it without a
    copy and makes it read-only. Views taken before that can still write: do not. Its content is
    arbitrary: memory of a superseded version is used again.

    Raises
    ------
    ValueError
        The order is neither ``'C'`` nor ``'F'``, or a dimension is negative.
    NotShareableError, NoSpaceError
    """
    return _allocate(shape, dtype, order, zero=False)


def zeros(shape: int | tuple[int, ...], dtype: npt.DTypeLike = float, order: Order = "C") -> Array:
    """Return a new array of zeros in shared memory; see `empty`."""
    return _allocate(shape, dtype, order, zero=True)


def _allocate(
    shape: int | tuple[int, ...], dtype: npt.DTypeLike, order: Order, *, zero: bool
) -> Array:
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' (rows) or 'F' (columns), not {order!r}")
    return remember(SharedNumpyArray.create_new(shape, dtype, order, zero=zero).array)


def full(
    shape: int | tuple[int, ...],
    fill_value: Any,
    dtype: npt.DTypeLike | None = None,
    order: Order = "C",
) -> Array:
    """Return a new array in shared memory, filled with a value; see `empty`."""
    array = empty(shape, np.asarray(fill_value).dtype if dtype is None else dtype, order)
    value = np.asarray(fill_value).astype(array.dtype, copy=False)
    with Progress("full", array.nbytes):
        copying.fill(array, np.broadcast_to(value, array.shape))
    return array


def empty_like(prototype: Array, dtype: npt.DTypeLike | None = None) -> Array:
    """Return a new array in shared memory, of the shape, dtype and order of another; see `empty`."""
    flags = prototype.flags
    order: Order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    return empty(prototype.shape, prototype.dtype if dtype is None else dtype, order)


@overload
def copy_and_detach(what: Array | SharedNumpyArray) -> Array: ...
@overload
def copy_and_detach(what: Mapping[T, Any]) -> dict[T, Any]: ...
def copy_and_detach(what: Any) -> Any:
    """Return a private copy of a shared array, and let go of the shared one.

    Parameters
    ----------
    what : ndarray, SharedNumpyArray, or mapping
        In a mapping (also nested) every shared array is replaced; other values stay the same objects.

    Returns
    -------
    ndarray or dict
        Handles are detached. A plain array is let go when the caller rebinds the variable:
        ``X = jshm.copy_and_detach(X)``.
    """
    if type(what) is SharedNumpyArray:
        copy = _private_copy(what.array)
        what.detach()
        return copy
    if _is_mapping(what):
        return {key: copy_and_detach(value) for key, value in what.items()}
    return _private_copy(what) if is_shared(what) else what


def _is_mapping(value: object) -> bool:
    """Return whether a value is a mapping, by its type: its ``__class__`` may say something else."""
    try:
        return issubclass(type(value), Mapping)
    except Exception:  # noqa: BLE001 - an ABC asks the class, which may raise
        return False


def _private_copy(array: Array) -> Array:
    if type(array) is not np.ndarray:  # a subclass may have more to copy
        return array.copy(order="K")
    copy = np.empty_like(array)
    with Progress("copy", array.nbytes):
        copying.fill(copy, array)
    return copy


def gc() -> int:
    """Free expired names, unreferenced segments and all spares now; return the bytes freed.

    Other operations do this too, except that they keep spares for the next publish.
    """
    return default_store().gc()


def check(*, fix: bool = False) -> list[Problem]:
    """Compare the registry with the segments.

    Parameters
    ----------
    fix : bool
        Repair the problems. A damaged registry is moved aside and rebuilt from the segments.

    Returns
    -------
    list of Problem
        Empty if there is no problem.
    """
    return default_store().check(fix=fix)


# -- between processes -------------------------------------------------------------------------------


@overload
def wait(name: str, *, newer_than: int = ..., timeout: float | None = ...) -> SegmentInfo: ...
@overload
def wait(
    name: Names, *, newer_than: int = ..., timeout: float | None = ...
) -> list[SegmentInfo]: ...
def wait(
    name: str | Names, *, newer_than: int = 0, timeout: float | None = None
) -> SegmentInfo | list[SegmentInfo]:
    """Wait until a name has a version that is new enough. It returns within 20 ms of the publish.

    ::

        info = jshm.wait("weights")
        while training:
            weights = jshm.attach("weights")
            ...
            info = jshm.wait("weights", newer_than=info.version)

    Parameters
    ----------
    name : str, or list or tuple of str
        Several: wait until all have such a version at one moment.
    newer_than : int
        A version number. By default any version is new enough.
    timeout : float, optional
        Seconds to wait; by default without limit.

    Returns
    -------
    SegmentInfo, or a list of them
        The newest versions. They hold no memory.

    Raises
    ------
    WaitTimeoutError
        The message names the versions that are still missing.
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
    """Wait as `wait` does, while the event loop runs: ``info = await jshm.wait_async("X")``."""
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
    """Call a function for each new version of a name, within 20 ms of the publish.

    ::

        jshm.watch("weights", lambda info: print(info))

    If versions come faster than the function returns, it is called only for the newest. A release does
    not call it; the next publish does.

    One daemon thread calls all functions of a process, one after the other. For long work, and for
    variables that cells use too, prefer `wait_async` or a coroutine function, which runs on the current
    event loop (a notebook has one) and needs no thread. An error in the function is printed, once for
    each place that it comes from, and the watch goes on. While nothing happens, all watches of a process
    together take about a hundredth of a core.

    Parameters
    ----------
    name : str
        It need not exist yet.
    callback : callable
        A function, or a coroutine function. It is called with a `SegmentInfo`, in the store that is
        current now (`group`).
    newer_than : int, optional
        A version number: call it at once if a newer version exists. By default the newest version that
        exists now.

    Returns
    -------
    Watch
        ``.stop()``, or the end of a ``with`` block, stops it. Otherwise it goes on as long as the
        process. A forked child has no watches.

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
    """Yield each new version of a name from now on.

    ::

        async for info in jshm.watch_async("weights"):
            weights = jshm.attach("weights")
            ...

    If versions come faster than the loop's body runs, only the newest is yielded. For the parameters see
    `watch`.
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
        # Also after a version: otherwise fast versions would starve other tasks on the loop.
        await asyncio.sleep(INTERVAL)


def lock(
    name: str, *, shared: bool = False, timeout: float | None = None
) -> AbstractContextManager[object]:
    """Return a lock between all threads of all processes that use the store, for a ``with`` block.

    ::

        live = jshm.attach("counts", "r+")
        with jshm.lock("counts"):
            live[3] += 1

    The lock excludes only others that take it: reading and writing do not need it. The OS frees it when
    its holder ends, however it ends; a forked child does not have its parent's. No waiter starves.

    Parameters
    ----------
    name : str
        Any name; it need not be published.
    shared : bool
        Share the lock with others that pass ``shared=True`` (readers); exclude those that do not
        (writers).
    timeout : float, optional
        Seconds to wait; 0 tries once. By default without limit.

    Returns
    -------
    context manager
        It can be entered again, also in other threads. A thread that has the lock cannot take it again.

    Raises
    ------
    LockTimeoutError
        On entering the block: others have the lock. The message names them.
    LockHeldError
        On entering the block: this thread already has the lock.
    InvalidNameError
    """
    return default_store().lock(name, shared=shared, timeout=timeout)


def _names(name: str | Names) -> list[str]:
    return [name] if isinstance(name, str) else list(name)
