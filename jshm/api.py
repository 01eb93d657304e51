"""The functions of ``import jshm``: the default store, in NumPy's terms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from .errors import SegmentNotFoundError, SharedStateWarning, ShortLifeWarning
from .segment import copying
from .segment.progress import Progress
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
# What is said once in a program, and was.
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

    An array is copied into shared memory once; later changes to it change nothing there. An array
    that was made by `empty`, `zeros`, `full` or `empty_like` is already there: it is sealed without a
    copy, and becomes read-only. Republishing an attached, unchanged array is no copy either.

    Anything else is pickled (see `Pickler`): functions and classes with their source, tables, models,
    dicts. Arrays in it are shared as well; those that are in shared memory already are referred to,
    and stay as long as what refers to them.

    Parameters
    ----------
    name : str, or mapping of str to object
        A mapping publishes several values, all or none, in one transaction. Those that share state (a
        model and its optimizer, two functions and their global variable) share it again when they are
        attached in one `attach`; attached apart, each is whole, and alone. A SharedStateWarning says so.
    value : ndarray or object
    replace : bool
        Make it the next version also if the name belongs to another notebook.
    keep : bool
        Let it outlive the Jupyter server (or the process) that published it, until it is released.
    move : bool
        In a notebook: rebind the variables that are this value to the shared copy, so that the
        private one can go.
    writable : bool
        Let others attach an array with mode ``'r+'``: all see all changes at once. Implies `move`.
    note : str
        Shown in lists; at most 10,000 characters.

    Returns
    -------
    SegmentInfo, or a list of them
        What was published. Holds no memory.

    Warns
    -----
    ShortLifeWarning
        Once in a program whose names end with it: a script, IPython in a terminal, a run of nbclient
        or papermill, a kernel of VS Code. Not with `keep`, and not in workers.

    Raises
    ------
    NotOwnerError
        The name belongs to another notebook.
    NotShareableError
        Something in it cannot be shared (an open file, a lock); says what, and where it is.
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
        warnings.warn(f"{text}: jshm.attach({names})", SharedStateWarning, stacklevel=2)
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
    done = store.publish(values, replace=replace, keep=keep, writable=writable, note=note)
    if not (move or writable):
        return done, [[] for _ in done]
    shared = attach_published(store, done, "r+" if writable else "r")
    namespace = user_namespace()
    pairs = zip(shared, values.values(), strict=True)
    return done, [rebind(namespace, old, attached) for attached, old in pairs]


def _warn_of_short_life(info: SegmentInfo) -> None:
    """Warn, once in a program, that what it publishes ends with it."""
    if ShortLifeWarning in _warned:
        return
    life = default_store().identity.short_life(info.lifetime)
    if life:
        _warned.add(ShortLifeWarning)
        warnings.warn(f"{life}; add keep=True to keep it longer", ShortLifeWarning, stacklevel=3)


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
    """Return what was published: the same physical memory, nothing copied.

    An object that is no array is made anew by its pickle, which runs code of the publisher's; the
    arrays in it, and other large buffers, are views of shared memory.

    Parameters
    ----------
    name : str, or list or tuple of str
        Several are attached in one consistent view: all as they were at one moment, and those that were
        published together share what they shared.
    mode : {'r', 'r+', 'c'}
        Read-only; shared and writable (only of what was published ``writable``); copy-on-write:
        writable, and changes are this process's own. Of an object, this is about the arrays in it.
    timeout : float, optional
        Seconds to wait for a name that is not there yet. By default none.
    version : int, optional
        An older version, while it exists; by default the newest.
    trust : bool
        In the store of a group: attach other members' objects too, which runs code of theirs. Arrays
        never run code.

    Returns
    -------
    ndarray or object, or a list of them
        A plain array. It keeps the memory mapped for as long as it, or a view of it, lives; nobody
        can take that away. The same holds for the arrays in an object.

    Raises
    ------
    SegmentNotFoundError
        No such name or version; names the nearest.
    ReadOnlyError
        Mode ``'r+'`` of a snapshot.
    MissingModuleError
        An object needs a package that cannot be imported here. Nothing of it was run.
    UntrustedError
        Another member's object in the store of a group, without `trust`.
    AmbiguousNameError
        Several members of the group have one of that name: say whose, ``ada:X``.
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
    """Retire names for everyone. Who has them mapped keeps what they have.

    Parameters
    ----------
    name : str, or sequence of str
        All or none.
    force : bool
        Also names of other notebooks.

    Returns
    -------
    list of Released
        What was freed, and who still holds the rest.

    Raises
    ------
    SegmentNotFoundError, NotOwnerError
    """
    return default_store().release([name] if isinstance(name, str) else list(name), force=force)


def release_found(
    written: Sequence[str], found: Sequence[str], *, force: bool = False
) -> list[Released]:
    """Release the names that a user wrote, all of them, and those found for him that are still there.

    For `force` see `Store.release`.

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
    """Let go here: delete this notebook's (or program's) variables that are views of it.

    Parameters
    ----------
    what : str or ndarray
        A name, a variable's name, or a shared array.

    Returns
    -------
    list of str
        What still keeps the memory mapped in this process; empty if it is unmapped.

    Raises
    ------
    SegmentNotFoundError
        Nothing here is a view of it.
    """
    namespace = user_namespace()
    segments = segments_named(namespace, what, default_store())
    del what  # else this very frame keeps the array
    return detach_segments(namespace, segments, store_of(next(iter(segments)))).culprits


def segments() -> list[SegmentInfo]:
    """Return what is shared on this machine: every version that takes memory, with its holders."""
    return default_store().segments()


def info(name: str, version: int | None = None) -> SegmentInfo:
    """Return what is known of a name; see `SegmentInfo`."""
    return default_store().info(name, None if version is None else check_version(version))


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = float, order: Order = "C") -> Array:
    """Return a new array in shared memory, like `numpy.empty`.

    It has no name and is this process's alone until it is published; then it is sealed without a copy
    and becomes read-only. Views taken before that can still write: do not. What is in it until then
    may be anything: memory of a version that was superseded is used again.

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
        Of a mapping (also nested) every shared array is replaced; other values stay what they are.

    Returns
    -------
    ndarray or dict
        Handles are detached; a plain array is let go when the caller's own variable is rebound:
        ``X = jshm.copy_and_detach(X)``.
    """
    from .segment.views import is_shared

    if type(what) is SharedNumpyArray:
        copy = _private_copy(what.array)
        what.detach()
        return copy
    if _is_mapping(what):
        return {key: copy_and_detach(value) for key, value in what.items()}
    return _private_copy(what) if is_shared(what) else what


def _is_mapping(value: object) -> bool:
    """Tell whether a value is a mapping by its type: it may say that it is something else."""
    try:
        return issubclass(type(value), Mapping)
    except Exception:  # noqa: BLE001 - an ABC asks the class, which may raise
        return False


def _private_copy(array: Array) -> Array:
    if type(array) is not np.ndarray:  # a subclass, which may have more to copy
        return array.copy(order="K")
    copy = np.empty_like(array)
    with Progress("copy", array.nbytes):
        copying.fill(copy, array)
    return copy


def gc() -> int:
    """Free what nobody needs any more, and all spares, now; return the bytes freed.

    Happens by itself, too, but spares stay for those who publish again and again.
    """
    return default_store().gc()


def check(*, fix: bool = False) -> list[Problem]:
    """Compare what the registry says with what is there.

    Parameters
    ----------
    fix : bool
        Mend what is found. A damaged registry is put aside and rebuilt from the segments.

    Returns
    -------
    list of Problem
        Empty if all is well.
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
