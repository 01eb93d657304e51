"""The contract of a store, and the values that it exchanges. No I/O, no SQLite, no paths.

Everything outside ``store/`` uses a `Store` only through this contract. The other methods are derived from
the abstract ones here, or are optional abilities (`Store.can`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import UnsupportedError
from ..text import age_text, shortened, shown, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Mapping as Dict
    from contextlib import AbstractContextManager

    import numpy as np
    import numpy.typing as npt

    from ..pickling.frozen import Resolver
    from ..segment.array_layout import ArrayLayout, Order
    from ..segment.file import Mapping, Mode
    from ..segment.object_layout import ObjectLayout
    from .identity import Identity

How = Literal["copied", "sealed", "alias"]
# Seconds after its publish in which a version does not count as unused.
_RECENT = 600.0
# Between a segment's id and a part of it, in the id of a value.
_PART = ":"
# The most characters of a structured dtype's fields.
_LONGEST_FIELDS = 500
Ability = Literal["offers", "writable", "locks", "spares", "location"]
# What a store without an ability does not have.
_LACKS: dict[Ability, str] = {
    "offers": "offers between notebooks", "writable": "writable data", "locks": "locks",
    "spares": "spares", "location": "files that other programs can read",
}  # fmt: skip
Lifetime = Literal["kept", "server", "run", "process"]


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a segment mapped.

    Attributes
    ----------
    label : str
        The name that users see: its notebook's name.
    mode : {'r', 'r+', 'c'}
    pid : int
    here : bool
        Whether this is the current process.
    kernel_id : str
        Its id in the Jupyter server; empty if it is not a server's kernel.
    notebook : str
        Path of its notebook when the process started; empty if it has none.
    """

    label: str
    mode: str
    pid: int
    here: bool
    kernel_id: str = ""
    notebook: str = ""


@dataclass(frozen=True, slots=True)
class ObjectDetails:
    """The description of an object in its segment.

    Attributes
    ----------
    doc : str
        First line of its docstring.
    place : str
        The place of its definition: ``In[3]``, ``utils.py``.
    python : str
        Version of the Python that published it.
    modules : dict of str to str
        Packages that it needs, and their versions at its publisher.
    buffers : tuple of int
        Bytes of each buffer that is shared without a copy.
    copied : int
        Bytes of the rest, which each process that attaches it copies.
    columns : tuple of str
        Columns of a table that are copied because they hold Python objects.
    references : dict of str to int
        Segments that it refers to, by name and version, and their bytes.
    together : tuple of str
        Names that share state with it, and still do if one attach attaches them.
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
    """The description of one version of a name. It holds no memory.

    Attributes
    ----------
    name : str
    version : int
    kind : {'array', 'object'}
    summary : str
        A description for users: ``float64 (1000, 1000)``, ``function train(X, lr=0.1)``.
    dtype : dtype or None
        None for an object.
    shape : tuple of int
    order : {'C', 'F'}
    nbytes : int
        Bytes of the data.
    publisher : str
        The name of the publishing process that users see: its notebook's name.
    publisher_alive : bool
        Whether that process still runs (a restarted kernel is another process).
    owner : str
        The id of the notebook, script or terminal that the name belongs to.
    kernel_id, notebook : str
        Of the publishing process, as in `Holder`.
    mine : bool
        Whether the name belongs to this notebook, script or terminal.
    created : float
        Seconds since the epoch.
    note : str
    keep : bool
        It outlives its session.
    lifetime : {'kept', 'server', 'run', 'process'}
        The session that the name lives as long as.
    writable : bool
        Others may attach it in mode ``'r+'``: it is LIVE.
    overflow : bool
        It is on disk, because the shared-memory directory was too small.
    state : {'current', 'old', 'released'}
        The newest version; a replaced version that is held; a released version that is held.
    once : str
        The record of ``%%shm_once`` about its cell; otherwise empty.
    segment : str
        Id of the segment that the version is in. Versions may share one.
    value_id : str
        The id of the value: `segment`, with the index of the value in it if it has several.
    expired : bool
        Its lifetime has run out: the next operation of any process frees it.
    keeps : int
        Bytes of memory without a name that exists only because this version refers to it.
    user : str
        Login of the member that it belongs to, in a group's store; otherwise empty.
    releasable : bool
        Whether this user may release it.
    holders : tuple of Holder
    details : ObjectDetails or None
        Only of an object; lists leave them out.
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
        if time.time() - self.created < _RECENT:  # its readers may not have attached it yet
            return f"published {age_text(self.created)}"
        return ""


def value_id(segment: str, part: int) -> str:
    """Return the id of a value: its segment's id, with its part if the segment has several."""
    return f"{segment}{_PART}{part}" if part else segment


def segment_of(value: str) -> str:
    """Return the id of the segment that a value is in, from the value's id."""
    return value.partition(_PART)[0]


def type_text(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Return dtype and shape as text for users."""
    if dtype.names is None:
        return _plain_text(dtype, shape)
    return f"{type_name(dtype)} {shape}"


@lru_cache(maxsize=1024)  # long lists have few different dtypes, and NumPy is slow to name them
def _plain_text(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"{dtype} {shape}"


def type_name(dtype: np.dtype[Any]) -> str:
    """Return a dtype's name, short also for structured ones: ``{x, y, label}``."""
    if dtype.names is not None:
        return "{" + shortened(", ".join(dtype.names), _LONGEST_FIELDS) + "}"
    return str(dtype)


def shared_states(infos: Iterable[SegmentInfo]) -> list[tuple[list[str], str]]:
    """Return the names that share state, group by group, and a sentence that says so."""
    groups: dict[str, list[str]] = {}
    for info in infos:
        if info.details and info.details.together:
            groups.setdefault(info.segment, []).append(info.name)
    return [
        (
            names,
            f"{', '.join(names[:-1])} and {names[-1]} share state: attach them together to keep that",
        )
        for names in groups.values()
    ]


@dataclass(frozen=True, slots=True)
class Published:
    """One name that `publish` published.

    Attributes
    ----------
    info : SegmentInfo
    how : {'copied', 'sealed', 'alias'}
        Copied into shared memory; allocated there before, and now sealed; a second name or version of
        an existing segment.
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
        The process that published it.
    value : ndarray or object
        A view that keeps the memory mapped; an object contains such views.
    segments : tuple of str
        The id of the value, as in `SegmentInfo`; the id of the segment that it is in, if that is another
        id; and the ids of the segments that it refers to.
    kind : {'array', 'object'}
    shares : bool
        Whether any of its memory is shared.
    apart : tuple of str
        Names that share state with it but were not attached with it.
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
        """The name of the publishing process that users see."""
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
        The holders of the rest, by the names that users see.
    needed_by : tuple of str
        Names of objects that refer to the rest and keep it.
    """

    name: str
    nbytes: int
    freed: int
    held_by: tuple[str, ...]
    needed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Space:
    """The place of a store's data, and how much more fits.

    Attributes
    ----------
    where : str
        The place as users know it: a directory.
    free : int
        Bytes of memory that are free. The sum of `free` and `spares` can still be shared.
    capacity : int
        Bytes that fit if nothing else needs the memory.
    unnamed : int
        Bytes in memory without a name: allocated and not published yet, or only referred to by an object
        that has a name.
    quota : int or None
        The most bytes of memory that the user allows; `free` and `capacity` respect it.
    spares : int
        Bytes that processes keep for their next publish, and free if they are needed elsewhere.
    """

    where: str
    free: int
    capacity: int
    unnamed: int
    quota: int | None = None
    spares: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem that `check` found.

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
    """A name that another notebook offers to this one. It holds no memory.

    Attributes
    ----------
    info : SegmentInfo
        Its newest version.
    sender : Identity
        The process that offers it.
    created : float
        Seconds since the epoch.
    """

    info: SegmentInfo
    sender: Identity
    created: float


class Offers(ABC):
    """The offers between notebooks.

    An offer ends when it is answered, when its name is released, when its recipient's kernel ends (not
    when it is restarted), or after a day.
    """

    @abstractmethod
    def make(self, names: Sequence[str], recipient: Identity) -> list[SegmentInfo]:
        """Offer names to a kernel, all or none; return their newest versions.

        Raises
        ------
        SegmentNotFoundError
        """

    @abstractmethod
    def received(self) -> list[Offer]:
        """Return the offers to this process, the oldest first."""

    @abstractmethod
    def answer(self, names: Sequence[str]) -> None:
        """Remove the offers of these names to this process, which has accepted or declined them."""


class Reader(ABC):
    """Reads parts of one version's data, without a mapping. It is open inside a ``with`` block.

    Attributes
    ----------
    layout : ArrayLayout or ObjectLayout
        The positions of its parts, in bytes from the start of the segment.
    """

    layout: ArrayLayout | ObjectLayout

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes of the segment, from `offset`.

        Raises
        ------
        CorruptSegmentError
            The segment has become shorter.
        """


class Store(ABC):
    """A place where names live.

    All methods can be called from several threads and processes at once. The store checks names; an
    unknown name raises SegmentNotFoundError, which suggests the nearest name.

    Attributes
    ----------
    abilities : frozenset of str
        The optional abilities; see `can`.
    """

    abilities: frozenset[Ability] = frozenset()

    @property
    def group(self) -> str:
        """The Unix group whose members share this store; empty for a user's own store."""
        return ""

    def can(self, ability: Ability) -> bool:
        """Return whether the store has an optional ability.

        Parameters
        ----------
        ability : str
            ``'offers'``: `offers` exists. ``'writable'``: `publish` takes ``writable=True``, so that
            others can attach in mode ``'r+'``. ``'locks'``: `lock` works. ``'spares'``: processes keep
            spares. ``'location'``: `location` returns a path.
        """
        return ability in self.abilities

    def require(self, ability: Ability, what: str) -> None:
        """Raise UnsupportedError if the store lacks an ability.

        Parameters
        ----------
        ability : str
        what : str
            What the user asked for, as the subject of a sentence: ``%shm_push``.
        """
        if not self.can(ability):
            raise UnsupportedError(f"{what} is not possible: this store has no {_LACKS[ability]}")

    # -- this process ----------------------------------------------------------------------------

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """The identity of this process in the store. From the first use, others see that it runs."""

    @abstractmethod
    def processes(self) -> list[Identity]:
        """Return the processes that use the store now."""

    @abstractmethod
    def mapped(self) -> set[str]:
        """Return the ids of the segments that this process has mapped."""

    @abstractmethod
    def mappings(self, segment: str) -> list[Mapping]:
        """Return the mappings of a segment in this process.

        The memory stays mapped as long as the caller keeps the result.
        """

    def unreachable(self, pid: int) -> str:  # noqa: ARG002
        """Return why another process on this machine does not use this store by default; '' if it does.

        The reason completes a sentence: ``has another JSHM_DIR``. A store that does not know returns ''.
        """
        return ""

    # -- publish and attach ----------------------------------------------------------------------

    @abstractmethod
    def publish(
        self,
        values: Dict[str, Any],
        *,
        replace: bool = False,
        keep: bool = False,
        writable: bool = False,
        note: str = "",
        once: str = "",
    ) -> list[Published]:
        """Publish several values, all or none, each as the next version of its name.

        A plain array is published as an array, any other value as an object. Values that share state (a
        model and its optimizer, two closures) become parts of one object: one attach of all of them
        returns values that share that state again. The store takes a snapshot; the caller's arrays stay
        private. An array from `allocate` is sealed and not copied (it becomes read-only), also as a part
        of an object.

        Raises
        ------
        NotOwnerError
            A name belongs to another notebook and `replace` is False.
        NotShareableError
            Something in an object cannot be shared; the message names it and its place.
        NoSpaceError
        """

    @abstractmethod
    def require_owner(self, names: Sequence[str], *, replace: bool = False) -> None:
        """Check that `publish` would accept these names from this process.

        Raises
        ------
        NotOwnerError
        """

    @abstractmethod
    def attach(
        self,
        names: Sequence[str],
        mode: Mode = "r",
        versions: Sequence[int] | None = None,
        *,
        trust: bool = False,
    ) -> list[Attached]:
        """Map the newest (or the given) versions of names, all from the same moment.

        With `trust`, also objects of other members of a group, which runs their code.

        Raises
        ------
        SegmentNotFoundError, ReadOnlyError, UntrustedError, CorruptSegmentError, TooManyFilesError
        """

    def attach_published(self, done: Sequence[Published], mode: Mode = "r") -> list[Attached]:
        """Map the versions that `publish` returned, whatever the newest ones are now.

        Raises
        ------
        SegmentNotFoundError
            A version is gone: nobody held it when another process replaced it.
        """
        infos = [published.info for published in done]
        return self.attach([info.name for info in infos], mode, [info.version for info in infos])

    @abstractmethod
    def attach_segment(self, segment: str, mode: Mode = "r") -> Mapping:
        """Map a segment by its id, with or without a name.

        Mode ``'r+'`` of a segment that has been sealed gives ``'r'``.

        Raises
        ------
        SegmentNotFoundError
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
        """Return a writable array in shared memory that has no name yet; its elements are 0 if `zero`.

        The memory belongs to the caller until it is published, and is freed with the last view.
        """

    def copy(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a copy of an array, writable and in shared memory, as from `allocate`."""
        order: Order = "F" if array.flags.fnc else "C"
        found = self.allocate(array.shape, array.dtype, order, zero=False)
        found[...] = array
        return found

    # -- references in pickles -------------------------------------------------------------------

    @abstractmethod
    def resolver(self) -> Resolver:
        """Return the object that pickles arrays of this store as references, and resolves references."""

    @abstractmethod
    def refer(self, array: np.ndarray[Any, Any]) -> str:
        """Record that a handle on an array is pickled, and return the address of this store.

        If the handle is a part of an object that is being published, the object keeps the array's
        segment.

        Raises
        ------
        NotShareableError
            The object is published in another store.
        """

    @abstractmethod
    def segment_at(self, address: str, segment: str) -> str:
        """Return the id that a segment of the store at an address has in this store.

        Raises
        ------
        SegmentNotFoundError
            The store at that address is another one.
        """

    # -- look ------------------------------------------------------------------------------------

    @abstractmethod
    def checked(self, name: str) -> str:
        """Return a name in the form in which the store knows it.

        Raises
        ------
        InvalidNameError
        """

    def exact(self, name: str) -> str:
        """Return a name in a form that always means the same: ``ada:X`` in a group."""
        return name

    @abstractmethod
    def names(self) -> list[str]:
        """Return all names that can be attached."""

    def exact_names(self) -> list[str]:
        """Return all names in the form of `exact`."""
        return self.names()

    def own_names(self) -> list[str]:
        """Return the names that this user may release."""
        return self.names()

    @abstractmethod
    def complete(self, prefix: str, most: int) -> list[tuple[str, str]]:
        """Return the first names that begin with `prefix`, each with its dtype and shape."""

    @abstractmethod
    def current(self, names: Sequence[str]) -> dict[str, SegmentInfo]:
        """Return the newest versions of the names that exist, from one moment, without holders."""

    @abstractmethod
    def segments(self) -> list[SegmentInfo]:
        """Return every version of every name that takes memory, with its holders."""

    @abstractmethod
    def info(self, name: str, version: int | None = None) -> SegmentInfo:
        """Return a description of the newest (or the given) version of a name, with its holders.

        Raises
        ------
        SegmentNotFoundError
        """

    @abstractmethod
    def versions(self, name: str) -> list[SegmentInfo]:
        """Return all versions of a name that take memory, without holders."""

    def names_of(self, segment: str) -> list[str]:
        """Return the names of a segment or of a part of one, those of newest versions first."""
        found = [i for i in self.segments() if segment in (i.segment, i.value_id)]
        return [i.name for i in sorted(found, key=lambda i: i.state != "current")]

    @abstractmethod
    def in_use(self, segment: str) -> bool:
        """Return whether any process has a segment mapped, with or without a name."""

    @abstractmethod
    def reader(self, name: str, version: int | None = None) -> AbstractContextManager[Reader]:
        """Open the data of a version, to read parts of it without a mapping.

        Raises
        ------
        SegmentNotFoundError, CorruptSegmentError, FormatVersionError
        """

    def location(self, name: str, version: int | None = None) -> str:  # noqa: ARG002
        """Return the path of the file that holds the data (of an array, a valid ``.npy``); '' if none."""
        return ""

    @abstractmethod
    def revision(self) -> object:
        """Return a value that changes with every commit to the store. It costs microseconds.

        Values of different threads do not compare.
        """

    def state(self) -> object:
        """Return a value that changes when `segments` may have changed. It is cheap to poll.

        Unlike `revision`, it also changes when processes start, end, attach and detach. Values of
        different threads do not compare.
        """
        return self.revision()

    @abstractmethod
    def space(self) -> Space:
        """Return the place of the data, and how much more fits."""

    # -- let go ----------------------------------------------------------------------------------

    @abstractmethod
    def release(self, names: Sequence[str], *, force: bool = False) -> list[Released]:
        """Retire names for everyone, all or none. Holders keep their mappings.

        Parameters
        ----------
        names : sequence of str
        force : bool
            Also release names of other notebooks.

        Raises
        ------
        NotOwnerError
            A name belongs to another notebook and `force` is False.
        SegmentNotFoundError
        """

    @abstractmethod
    def flush(self) -> None:
        """Tell other processes which mappings this process let go of, and free unreferenced memory."""

    @abstractmethod
    def gc(self) -> int:
        """Free all expired names and all spares now; return the bytes freed."""

    @abstractmethod
    def check(self, *, fix: bool = False) -> list[Problem]:
        """Compare the store's records with its data; repair them if `fix`."""

    @abstractmethod
    def end_session(self) -> None:
        """Release the names that live as long as this process, a Jupyter server that is about to end.

        Views of other processes stay valid; the memory is freed when the last of them is gone.
        """

    # -- optional abilities ----------------------------------------------------------------------

    @property
    def offers(self) -> Offers:
        """The offers between notebooks.

        Raises
        ------
        UnsupportedError
            The store does not have the ability ``'offers'``.
        """
        raise UnsupportedError(f"this store has no {_LACKS['offers']}")

    def lock(
        self,
        name: str,
        *,
        shared: bool = False,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002
        called: str = "",
        waits: Callable[[str], None] | None = None,  # noqa: ARG002
    ) -> AbstractContextManager[object]:
        """Return a lock for a name, published or not; entering it waits for it.

        It excludes all others that take it, in any thread of any process; with `shared`, only those
        that do not share it. It is freed when its holder leaves or dies.

        Parameters
        ----------
        name : str
        shared : bool
        timeout : float, optional
            Seconds; None waits without limit.
        called : str
            The subject of messages about it; by default its name.
        waits : callable, optional
            Called once, with the holder's label, if the lock is not free at once.

        Raises
        ------
        LockTimeoutError
            On entering, after `timeout` seconds.
        LockHeldError
            On entering, in a thread that already has the lock.
        UnsupportedError
            The store does not have the ability ``'locks'``.
        """
        raise UnsupportedError(f"{called or name} cannot be locked: this store has no locks")

    def own_spares(self) -> int:
        """Return the bytes that this process keeps as spares."""
        return 0

    def rest(self) -> bool:
        """Free the spares that this process has not used for a while.

        Return whether some are left, so that the caller calls again later.
        """
        return False
