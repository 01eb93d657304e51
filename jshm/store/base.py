"""The contract of a store, and the values it speaks in. No I/O, no SQLite, no paths."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..text import age_text, shortened, shown, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    import numpy.typing as npt

    from ..segment.array_layout import Order
    from ..segment.file import Mode
    from .identity import Identity

How = Literal["copied", "sealed", "alias"]
# Seconds for which what was published is never taken for unused.
_RECENT = 600.0
# Characters of a structured dtype's fields.
_LONGEST_FIELDS = 500
Lifetime = Literal["kept", "server", "run", "process"]


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a segment mapped.

    Attributes
    ----------
    label : str
        What people call it: its notebook's name.
    mode : {'r', 'r+', 'c'}
    pid : int
    here : bool
        Whether it is this process.
    kernel_id : str
        A Jupyter server's id of it; empty if it is no server's kernel.
    notebook : str
        Path of its notebook when it started; empty if it has none.
    """

    label: str
    mode: str
    pid: int
    here: bool
    kernel_id: str = ""
    notebook: str = ""


@dataclass(frozen=True, slots=True)
class ObjectDetails:
    """What an object's segment says of it.

    Attributes
    ----------
    doc : str
        First line of its docstring.
    place : str
        Where it was defined: ``In[3]``, ``utils.py``.
    python : str
        Version of the Python that published it.
    modules : dict of str to str
        Packages that it needs, and their versions there.
    buffers : tuple of int
        Bytes of each buffer that is shared: nobody who attaches it has a copy.
    copied : int
        Bytes of the rest, of which everybody who attaches it makes his own objects.
    columns : tuple of str
        Columns of a table that are copied, because they hold Python objects.
    references : dict of str to int
        What it refers to, by name and version, and its bytes.
    together : tuple of str
        Names that share state with it, and keep that when they are attached in one attach.
    """

    doc: str
    place: str
    python: str
    modules: dict[str, str]
    buffers: tuple[int, ...]
    copied: int
    columns: tuple[str, ...]
    references: dict[str, int]
    together: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class SegmentInfo:
    """What the store knows of one version of a name. Holds no memory.

    Attributes
    ----------
    name : str
    version : int
    kind : {'array', 'object'}
    summary : str
        What it is, as people read it: ``float64 (1000, 1000)``, ``function train(X, lr=0.1)``.
    dtype : dtype or None
        Of an array.
    shape : tuple of int
    order : {'C', 'F'}
    nbytes : int
        Bytes of the data.
    publisher : str
        What people call the publishing process: its notebook's name.
    publisher_alive : bool
        Whether that very process still runs (a restarted kernel is another process).
    owner : str
        The same for all names of one notebook, script or terminal, and for nothing else.
    kernel_id, notebook : str
        Of the publishing process, as of a `Holder`.
    mine : bool
        Whether the name belongs to this notebook, script or terminal.
    created : float
        Seconds since the epoch.
    note : str
    keep : bool
        Outlives its session.
    lifetime : {'kept', 'server', 'run', 'process'}
        What the name's life is tied to.
    writable : bool
        Others may attach it ``'r+'``: LIVE.
    overflow : bool
        On disk, because the shared-memory directory was too small.
    state : {'current', 'old', 'released'}
        The newest version; one that was replaced but is held; one that was released but is held.
    once : str
        What ``%%shm_once`` remembers of the cell; else empty.
    segment : str
        Id of the segment that the version is in. Versions may share one.
    value_id : str
        The id of the value: `segment`, with the index of the value in it if it has several.
    expired : bool
        Its lifetime has run out: the next operation of any process frees it.
    keeps : int
        Bytes of memory that has no name (any more) and is there because this refers to it.
    user : str
        Login of the member whose it is, in the store of a group; else empty.
    releasable : bool
        Whether this user may release it.
    holders : tuple of Holder
    details : ObjectDetails or None
        Of an object; lists leave them out.
    """

    name: str
    version: int
    kind: str
    summary: str
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    order: Order
    nbytes: int
    publisher: str
    publisher_alive: bool
    mine: bool
    created: float
    note: str
    keep: bool
    lifetime: Lifetime
    writable: bool
    overflow: bool
    state: Literal["current", "old", "released"]
    once: str
    segment: str
    value_id: str = ""
    owner: str = ""
    kernel_id: str = ""
    notebook: str = ""
    expired: bool = False
    keeps: int = 0
    user: str = ""
    releasable: bool = True
    holders: tuple[Holder, ...] = ()
    details: ObjectDetails | None = None

    def __repr__(self) -> str:
        size = size_text(self.nbytes)
        return shown(
            f"<{self.name} v{self.version} · {self.summary} · {size} · from {self.publisher}>"
        )

    @property
    def in_use(self) -> bool:
        """Whether any process has it mapped."""
        return bool(self.holders)

    @property
    def only_copy(self) -> bool:
        """Whether nobody holds it and its publisher is gone: releasing it loses the data."""
        return self.state == "current" and not self.holders and not self.publisher_alive

    @property
    def protected(self) -> str:
        """Why a release of everything that is not in use keeps it; '' if it does not."""
        if self.keep:
            return "kept"
        if self.only_copy:
            return "only copy"
        if time.time() - self.created < _RECENT:  # who is to attach it may not have done it yet
            return f"published {age_text(self.created)}"
        return ""


def type_text(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Return dtype and shape, as people read them."""
    if dtype.names is None:
        return _plain_text(dtype, shape)
    return f"{type_name(dtype)} {shape}"


@lru_cache(maxsize=1024)  # lists of thousands have few of them, and NumPy takes its time for a name
def _plain_text(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"{dtype} {shape}"


def type_name(dtype: np.dtype[Any]) -> str:
    """Return a dtype's name, short also for structured ones: ``{x, y, label}``."""
    if dtype.names is not None:
        return "{" + shortened(", ".join(dtype.names), _LONGEST_FIELDS) + "}"
    return str(dtype)


@dataclass(frozen=True, slots=True)
class Published:
    """One name that `publish` published.

    Attributes
    ----------
    info : SegmentInfo
    how : {'copied', 'sealed', 'alias'}
        Copied into shared memory; already allocated there, sealed; a second name or version of a
        segment that was already there.
    """

    info: SegmentInfo
    how: How


class Attached(NamedTuple):  # and not a dataclass: attach counts microseconds
    """One name that `attach` attached.

    Attributes
    ----------
    name, version, created, writable, once
        As in `SegmentInfo`.
    identity : Identity
        Who published it.
    value : ndarray or object
        A view that keeps the memory mapped; an object has such views in it.
    segments : tuple of str
        What tells the value from all others, as in `SegmentInfo`; ids of the segment that it is in, if
        that is another, and of those that it refers to.
    kind : {'array', 'object'}
    shares : bool
        Whether there is any memory in it that is shared.
    apart : tuple of str
        Names that share state with it, and were not attached with it.
    """

    name: str
    version: int
    identity: Identity
    created: float
    writable: bool
    once: str
    value: Any
    segments: tuple[str, ...]
    kind: str
    shares: bool
    apart: tuple[str, ...] = ()

    @property
    def publisher(self) -> str:
        """What people call the publishing process."""
        return self.identity.label


@dataclass(frozen=True, slots=True)
class Released:
    """One name that `release` released.

    Attributes
    ----------
    name : str
    nbytes : int
        Bytes of all its versions.
    freed : int
        Bytes that are free now.
    held_by : tuple of str
        Who still has the rest mapped, by what people call them.
    needed_by : tuple of str
        Names of objects that refer to the rest, and keep it.
    undoable : bool
        Whether `Store.restore` can bring it back, for now.
    """

    name: str
    nbytes: int
    freed: int
    held_by: tuple[str, ...]
    needed_by: tuple[str, ...] = ()
    undoable: bool = False


@dataclass(frozen=True, slots=True)
class Space:
    """Where a store keeps its data, and how much fits.

    Attributes
    ----------
    where : str
        As people know the place: a directory.
    free : int
        Bytes of memory that are free. With `spares`, it is what could still be shared.
    capacity : int
        Bytes that fit there at all, if nothing else needs the memory.
    unnamed : int
        Bytes, of what is in memory, that have no name: allocated and not published yet, or only
        referred to by something that has one.
    undo_limit : int
        How many names can be released at once so that they can be restored.
    quota : int or None
        Bytes that the user allows it to take in memory; `free` and `capacity` are within it.
    spares : int
        Bytes that processes keep for what they publish next, and give back where there is need.
    """

    where: str
    free: int
    capacity: int
    unnamed: int
    undo_limit: int
    quota: int | None = None
    spares: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that `check` found.

    Attributes
    ----------
    what : str
        One sentence.
    fixed : bool
    """

    what: str
    fixed: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """A name that another notebook holds out to this one. Holds nothing.

    Attributes
    ----------
    info : SegmentInfo
        Its newest version.
    sender : Identity
        Who offers it.
    created : float
        Seconds since the epoch.
    """

    info: SegmentInfo
    sender: Identity
    created: float


class Offers(ABC):
    """What notebooks offer to each other.

    An offer goes when it is answered, when its name is released, when the kernel that it is for is gone
    for good (not when it is restarted), or after a day.
    """

    @abstractmethod
    def people(self) -> list[Identity]:
        """Return who uses the store now."""

    @abstractmethod
    def make(self, names: Sequence[str], recipient: Identity) -> list[SegmentInfo]:
        """Offer names to a kernel, all or none; return their newest versions.

        Raises
        ------
        SegmentNotFoundError
        """

    @abstractmethod
    def received(self) -> list[Offer]:
        """Return what is offered to this process, the oldest first."""

    @abstractmethod
    def answer(self, names: Sequence[str]) -> None:
        """Forget that names are offered to this process: they were accepted, or declined."""


class Store(ABC):
    """Where names live.

    Attributes
    ----------
    offers : Offers

    All methods are safe to call from several threads and processes at once. Names are checked by the
    store; an unknown one raises SegmentNotFoundError that names the nearest.
    """

    offers: Offers

    @abstractmethod
    def publish(
        self,
        values: Mapping[str, Any],
        *,
        replace: bool = False,
        keep: bool = False,
        writable: bool = False,
        note: str = "",
        once: str = "",
    ) -> list[Published]:
        """Publish several values, all or none, each as the next version of its name.

        An array is published as such, anything else as an object. Values that share state (a model and
        its optimizer, two closures) are parts of one object: attached in one attach they share it again.
        The store keeps a snapshot of its own; the caller's arrays stay the caller's, except that one that
        was allocated by `allocate` is sealed without a copy (and made read-only), also where it is a part
        of an object.

        Raises
        ------
        NotOwnerError
            A name belongs to another notebook and `replace` is False.
        NotShareableError
            Something in an object cannot be shared; says what, and where it is.
        NoSpaceError
        """

    @abstractmethod
    def attach(
        self,
        names: Sequence[str],
        mode: Mode = "r",
        version: int | None = None,
        *,
        trust: bool = False,
    ) -> list[Attached]:
        """Map the newest (or the given) versions, in one consistent view of all names.

        With `trust`, also objects of other members of a group: attaching one runs code of theirs.

        Raises
        ------
        SegmentNotFoundError, ReadOnlyError, UntrustedError, CorruptSegmentError, TooManyFilesError
        """

    @abstractmethod
    def wait(
        self, names: Sequence[str], timeout: float | None, newer_than: int = 0
    ) -> list[SegmentInfo]:
        """Return when all names have a version newer than `newer_than`.

        Raises
        ------
        WaitTimeoutError
            After `timeout` seconds; None waits for ever.
        """

    @abstractmethod
    def lock(
        self, name: str, *, shared: bool = False, timeout: float | None = None
    ) -> AbstractContextManager[object]:
        """Return a lock that a name stands for, published or not; entering waits for it.

        Who has it keeps out others who take it, in any thread of any process, and with `shared` only
        those who do not share it. It is free when its holder leaves or dies.

        Raises
        ------
        LockTimeoutError
            When it is entered, after `timeout` seconds; None waits for ever.
        LockHeldError
            When it is entered by a thread that has it.
        """

    @abstractmethod
    def allocate(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        order: Order = "C",
        *,
        zero: bool = True,
    ) -> np.ndarray[Any, Any]:
        """Return a writable array in shared memory that has no name yet: of zeros, if `zero`.

        The memory is the caller's alone until it is published, and goes when the last view goes.
        """

    @abstractmethod
    def release(
        self, names: Sequence[str], *, force: bool = False, undo: float = 0.0
    ) -> list[Released]:
        """Retire names for everyone, all or none. Holders keep what they have mapped.

        Parameters
        ----------
        names : sequence of str
        force : bool
            Also names of other notebooks.
        undo : float
            Seconds during which this process keeps the memory, so that `restore` can bring the names
            back. It goes with the next operation (or `flush`) after that, or when the process ends.

        Raises
        ------
        NotOwnerError
            A name belongs to another notebook and `force` is False.
        """

    @abstractmethod
    def restore(self, names: Sequence[str]) -> list[str]:
        """Take back what this process released with `undo`, all or none; return the names.

        Raises
        ------
        SegmentNotFoundError
            The time is over, or it was not released so.
        SegmentExistsError
            The name was published again meanwhile.
        """

    @abstractmethod
    def segments(self) -> list[SegmentInfo]:
        """Return every version of every name that takes memory, with its holders."""

    @abstractmethod
    def info(self, name: str, version: int | None = None) -> SegmentInfo:
        """Return what is known of the newest (or the given) version of a name."""

    @abstractmethod
    def state(self) -> object:
        """Return a value that changes when `segments` may have changed. Cheap: it can be polled.

        Values of different threads do not compare.
        """

    @abstractmethod
    def space(self) -> Space:
        """Return where the data are, and how much more fits."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return all names that can be attached."""

    @abstractmethod
    def flush(self) -> None:
        """Tell others what this process let go of, and free what nobody needs any more."""

    @abstractmethod
    def gc(self) -> int:
        """Free everything that has expired and all spares now; return the bytes freed."""

    @abstractmethod
    def check(self, *, fix: bool = False) -> list[Problem]:
        """Compare what the store believes with what is there; mend it if `fix`."""
