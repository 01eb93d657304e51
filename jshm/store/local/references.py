"""Arrays in a pickle that are in a segment already: written as references, and found again.

`ProcessResolver` writes and finds them outside of a publish and an attach (`jshm.dumps`, `jshm.loads`):
nothing is kept alive. `Referring` writes them in a publish, which keeps what it refers to; `Resolving`
finds them in an attach.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import CorruptSegmentError, NotShareableError, SegmentNotFoundError
from ...pickling import frozen
from ...segment import copying, pages
from ...segment import file as segment
from ...segment.array_layout import describe_array
from ...segment.views import Reference, reference_to
from .registry import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...segment.file import Mapping, Mode
    from .lookup import Lookup
    from .registry.database import Transaction

Array = np.ndarray[Any, Any]


class World:
    """What one attach has mapped: several values see the same memory, also where it is private.

    Attributes
    ----------
    mappings : dict of str to Mapping
        By segment.
    arrays : dict of str to Array
        By segment, the array that it is.
    """

    __slots__ = ("arrays", "mappings")

    def __init__(self) -> None:
        self.mappings: dict[str, Mapping] = {}
        self.arrays: dict[str, Array] = {}

    def map(self, store: Lookup, identity: str, mode: Mode) -> Mapping:
        """Return the mapping of a segment; SegmentNotFoundError if it is gone."""
        mapping = self.mappings.get(identity)
        if mapping is None:
            mapping = self.mappings[identity] = store.attach_segment(identity, mode)
        return mapping


class Beside:
    """The arrays that are published in one step with objects, which refer to them.

    Their segments are not written yet while the objects are pickled.

    Parameters
    ----------
    arrays : sequence of Array
    """

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._all = arrays
        self._coming = [
            (i, array, describe_array(array), _address(array))
            for i, array in enumerate(arrays)
            if array.size and segment.find_mapping(array) is None
        ]

    def __bool__(self) -> bool:
        return bool(self._all)

    def find(self, array: Array) -> tuple[int, int] | None:
        """Return which of them an array is a view of, and where in its segment it begins."""
        for i, other, layout, address in self._coming if array.size else ():
            if array is other:
                return i, layout.offset
            if other.flags.forc and not array.dtype.hasobject:
                low, high = _reach(array)
                if address <= low and high <= address + other.nbytes:
                    return i, layout.offset + _address(array) - address
        return None

    def is_one(self, array: Array) -> bool:
        """Tell whether an array is one of them, and no other view of its memory."""
        return any(array is one for one in self._all)


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _contiguous(array: Array) -> tuple[int, ...]:
    """Return the strides that an array has in its segment."""
    if array.flags.forc:
        return array.strides
    step, strides = array.itemsize, []
    fortran = describe_array(array).order == "F"
    for n in array.shape if fortran else array.shape[::-1]:
        strides.append(step)
        step *= n
    return tuple(strides if fortran else strides[::-1])


def _reach(array: Array) -> tuple[int, int]:
    """Return where the bytes of an array begin and end; it has some."""
    reaches = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    address = _address(array)
    low = address + sum(reach for reach in reaches if reach < 0)
    return low, address + sum(reach for reach in reaches if reach > 0) + array.itemsize


# Before the index of a segment among those that an object refers to: its id was not known yet.
_INDEX = "#"


def _reduced(store: Lookup, array: Array) -> Any:
    """Return the reduction of an array in a segment; None if the segment holds other data."""
    reference = reference_to(array)
    if reference is None or not shows_segment(array):
        return None
    store.process.referred.add(reference.segment)
    where = (reference.segment, reference.offset, array.dtype, array.shape, reference.strides)
    return frozen.load_view, where


class ProcessResolver:
    """Writes and finds references outside of a publish and an attach.

    Parameters
    ----------
    store : Lookup
        The store of this process.
    """

    __slots__ = ("_store",)

    def __init__(self, store: Lookup) -> None:
        self._store = store

    def refer(self, array: Array) -> Any:
        """Return the reduction of an array in a segment of this store; None: it goes by value."""
        mapping = segment.find_mapping(array)
        if mapping is None or not self._store.process.mappings.is_mapped(mapping.segment):
            return None
        return _reduced(self._store, array)

    def view(
        self,
        identity: str,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> Array:
        """Return a view of a segment; SegmentNotFoundError if the segment is gone."""
        mapping = self._store.attach_segment(identity, "r")
        return Reference(identity, mapping.mode, offset, dtype, shape, strides).view(mapping)

    published = view


class Resolving(ProcessResolver):
    """Finds what an object refers to while it is attached.

    Parameters
    ----------
    store : Lookup
        The store of this process, for what is loaded within the object and is no part of it.
    needs : dict of str to Mapping
        The segments that the object refers to, in that order.
    world : World
        What the attach has mapped.
    """

    __slots__ = ("_needs", "_world")

    def __init__(self, store: Lookup, needs: dict[str, Mapping], world: World) -> None:
        super().__init__(store)
        self._needs = needs
        self._world = world

    def view(
        self,
        identity: str,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> Array:
        """Return a view of a segment; SegmentNotFoundError if the segment is gone."""
        mapping = self._needed(identity)
        if mapping is None:
            return super().view(identity, offset, dtype, shape, strides)
        return Reference(identity, mapping.mode, offset, dtype, shape, strides).view(mapping)

    def published(
        self,
        identity: str,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> Array:
        """Return the array that was published together with the object: the very one, if attached too."""
        mapping = self._needed(identity)
        array = None if mapping is None else self._world.arrays.get(mapping.segment)
        if array is None or (array.dtype, array.shape) != (dtype, shape):
            array = self.view(identity, offset, dtype, shape, strides)
            if mapping is not None:
                self._world.arrays.setdefault(mapping.segment, array)
        return array

    def _needed(self, identity: str) -> Mapping | None:
        if identity[:1] != _INDEX:
            return self._needs.get(identity)
        try:
            return list(self._needs.values())[int(identity[1:])]
        except (IndexError, ValueError):
            raise CorruptSegmentError(
                f"a reference to segment {identity} of {len(self._needs)}"
            ) from None


def shows_segment(array: Array) -> bool:
    """Tell whether an array shows what its segment holds: no page of it was changed privately."""
    mapping = segment.find_mapping(array)
    if mapping is None:
        return False
    if mapping.mode == "r+" or not array.size:
        return True
    low, high = _reach(array)
    return pages.is_pristine(mapping, low - mapping.address, high - mapping.address)


# The segments that the object which is just being published refers to.
publishing: ContextVar[Referring | None] = ContextVar("publishing", default=None)


class Referring:
    """The segments that one object refers to, while it is published.

    Attributes
    ----------
    needs : dict of str to Array
        Segment id → one of the arrays in it, which keeps it mapped until the object is registered.
    """

    def __init__(self, store: Lookup, beside: Beside) -> None:
        self._store = store
        self._sealing: dict[str, Array] = {}
        self._beside = beside
        # Index among those → index among what this object refers to.
        self._coming: dict[int, int] = {}
        self._segments: Sequence[str] = ()
        self.needs: dict[str, Array] = {}

    def know(self, segments: Sequence[str]) -> None:
        """Say which segments the arrays beside it have been written to."""
        self._segments = segments

    def segments(self) -> list[str]:
        """Return the segments that it refers to, in the order that its references count them."""
        coming = [self._segments[i] for i in self._coming]
        return [*coming, *sorted(self.needs.keys() - set(coming))]

    def refer(self, array: Array) -> Any:
        """Return how to write an array by reference; None if a copy is to be written."""
        mapping = segment.find_mapping(array)
        if mapping is None:
            return self._refer_to_coming(array)
        if not self._is_fixed(array, mapping):
            return None
        reduced = _reduced(self._store, array)
        if reduced is not None:
            self.needs[mapping.segment] = array
            if self._beside.is_one(array):
                return frozen.load_published, reduced[1]
        return reduced

    def _refer_to_coming(self, array: Array) -> Any:
        """Return how to write an array that is being published too, and gets its segment later."""
        found = self._beside.find(array)
        if found is None:
            return None
        index, offset = found
        position = self._coming.setdefault(index, len(self._coming))
        is_one = self._beside.is_one(array)
        strides = _contiguous(array) if is_one else array.strides
        reference = f"{_INDEX}{position}", offset, array.dtype, array.shape, strides
        return (frozen.load_published if is_one else frozen.load_view), reference

    def need(self, array: Array) -> None:
        """Keep the segment of an array that writes itself as a reference (`SharedNumpyArray`)."""
        mapping = segment.find_mapping(array)
        if mapping is not None:
            if not self._store.process.mappings.is_mapped(mapping.segment):
                raise NotShareableError(
                    "a SharedNumpyArray of another store (a group's, or your own) can only be referred "
                    "to there: share a copy, handle.array.copy()"
                )
            self._is_fixed(array, mapping)  # seals it, if it was born here
            self.needs[mapping.segment] = array

    def _is_fixed(self, array: Array, mapping: segment.Mapping) -> bool:
        """Tell whether the segment stays as it is, or is LIVE for all; one made here is sealed."""
        store = self._store
        row = store.registry.segment(mapping.segment)
        if row is None or row.unlinked or not store.directory.leads_to(row, mapping):
            return False
        if mapping.mode != "r+" or mapping.segment in self._sealing:
            return True
        if not row.writable:
            return not array.flags.writeable  # else made before it was sealed
        if store.registry.of_segment(row.id):
            return True  # LIVE: all see all changes, also through the object
        process = store.process
        if process.born.get(row.id) is not array or process.is_held_elsewhere(row.id):
            return False
        copying.clear(array)
        self._sealing[row.id] = array
        return True

    def register(self, tx: Transaction, identity: str) -> None:
        """Let the object's segment keep these, inside the transaction that registers it."""
        for sealed in self._sealing:
            rows.set_writable(tx, sealed, writable=False)
            row = self._store.registry.segment(sealed)
            if row is not None:
                access = self._store.directory.access
                segment.change_mode(self._store.path_of(row), access, access.sealed)
        if rows.put_references(tx, identity, self.segments()):
            raise SegmentNotFoundError(
                "an array that it refers to was released in this very moment; publish again"
            )

    def seal(self) -> None:
        """Make the arrays that were made here read-only, once the object is registered."""
        for array in self._sealing.values():
            segment.seal(array)
