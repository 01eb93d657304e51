"""References: how a pickle holds an array that is in a segment, and how that array is found again.

- `ObjectReferences` writes them while an object is published; the object keeps what it refers to.
- `ObjectResolver` finds them while an object is attached.
- `StoreResolver` does both for `jshm.dumps` and `jshm.loads`; such a reference keeps nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import CorruptSegmentError, NotShareableError, SegmentNotFoundError
from ...pickling import frozen
from ...segment import copying
from ...segment import file as segment_file
from ...segment.array_layout import describe_array
from ...segment.views import Reference, address_of, reach, reference_to, shows_segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...segment.file import Mapping, Mode
    from .lookup import Lookup
    from .registry.statements import Transaction

Array = np.ndarray[Any, Any]

# Prefix of the index of a segment among those that an object refers to: the segment had no id yet.
_INDEX = "#"


# -- read ------------------------------------------------------------------------------------------


class StoreResolver:
    """Writes and finds references outside of a publish and an attach.

    Parameters
    ----------
    store : Lookup
    """

    __slots__ = ("_store",)

    def __init__(self, store: Lookup) -> None:
        self._store = store

    def refer(self, array: Array) -> Any:
        """Return the reduction of an array in a segment of this store; None: it is pickled by value."""
        mapping = segment_file.find_mapping(array)
        if mapping is None or not self._store.process.mappings.is_mapped(mapping.segment):
            return None
        return _reduced(self._store, array)

    def view(
        self,
        segment: str,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> Array:
        """Return the array that a reference stands for.

        Raises
        ------
        SegmentNotFoundError
            Its segment is gone.
        """
        mapping = self._mapping(segment)
        if mapping is None:
            mapping = self._store.attach_segment(segment, "r")
        return Reference(segment, mapping.mode, offset, dtype, shape, strides).view(mapping)

    def published(
        self,
        segment: str,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> Array:
        """Return an array that was published together with the object.

        If both are attached together, it is the attached array, and not another view of its memory.
        """
        return self.view(segment, offset, dtype, shape, strides)

    def _mapping(self, segment: str) -> Mapping | None:  # noqa: ARG002
        return None


class Attachment:
    """The segments that one attach has mapped: its values share memory, also in mode ``'c'``.

    Attributes
    ----------
    mappings : dict of str to Mapping
        By segment.
    arrays : dict of str to Array
        By segment, the array that it holds.
    """

    __slots__ = ("arrays", "mappings")

    def __init__(self) -> None:
        self.mappings: dict[str, Mapping] = {}
        self.arrays: dict[str, Array] = {}

    def map(self, store: Lookup, segment: str, mode: Mode) -> Mapping:
        """Return the mapping of a segment; SegmentNotFoundError if it is gone."""
        mapping = self.mappings.get(segment)
        if mapping is None:
            mapping = self.mappings[segment] = store.attach_segment(segment, mode)
        return mapping


class ObjectResolver(StoreResolver):
    """Finds what an object refers to, while the object is attached.

    Parameters
    ----------
    store : Lookup
    needs : dict of str to Mapping
        The segments that the object refers to, mapped.
    attachment : Attachment
    """

    __slots__ = ("_attachment", "_needs")

    def __init__(self, store: Lookup, needs: dict[str, Mapping], attachment: Attachment) -> None:
        super().__init__(store)
        self._needs = needs
        self._attachment = attachment

    def published(
        self,
        segment: str,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> Array:
        mapping = self._mapping(segment)
        array = None if mapping is None else self._attachment.arrays.get(mapping.segment)
        if array is None or (array.dtype, array.shape) != (dtype, shape):
            array = self.view(segment, offset, dtype, shape, strides)
            if mapping is not None:
                self._attachment.arrays.setdefault(mapping.segment, array)
        return array

    def _mapping(self, segment: str) -> Mapping | None:
        if segment[:1] != _INDEX:
            return self._needs.get(segment)
        try:
            return list(self._needs.values())[int(segment[1:])]
        except (IndexError, ValueError):
            raise CorruptSegmentError(
                f"a reference to segment {segment} of {len(self._needs)}"
            ) from None


# -- write -----------------------------------------------------------------------------------------


def _reduced(store: Lookup, array: Array) -> Any:
    """Return the reduction of an array in a segment; None if it shows other data than the segment."""
    reference = reference_to(array)
    if reference is None or not shows_segment(array):
        return None
    store.process.referred.add(reference.segment)
    found = reference.segment, reference.offset, array.dtype, array.shape, reference.strides
    return frozen.load_view, found


class NewArrays:
    """The arrays that are published in one step with objects that may refer to them.

    Their segments are not written yet while the objects are pickled.

    Parameters
    ----------
    arrays : sequence of Array
    """

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._all = arrays
        self._unwritten = [
            (i, array, describe_array(array), address_of(array))
            for i, array in enumerate(arrays)
            if array.size and segment_file.find_mapping(array) is None
        ]

    def __bool__(self) -> bool:
        return bool(self._all)

    def find(self, array: Array) -> tuple[int, int] | None:
        """Return which of them an array is a view of, and its offset in that one's segment."""
        for i, other, layout, address in self._unwritten if array.size else ():
            if array is other:
                return i, layout.offset
            if other.flags.forc and not array.dtype.hasobject:
                low, high = reach(array)
                if address <= low and high <= address + other.nbytes:
                    return i, layout.offset + address_of(array) - address
        return None

    def has(self, array: Array) -> bool:
        """Return whether an array is one of them; another view of its memory is not."""
        return any(array is one for one in self._all)


def _stored_strides(array: Array) -> tuple[int, ...]:
    """Return the strides that an array has in its segment."""
    if array.flags.forc:
        return array.strides
    step, strides = array.itemsize, []
    fortran = describe_array(array).order == "F"
    for n in array.shape if fortran else array.shape[::-1]:
        strides.append(step)
        step *= n
    return tuple(strides if fortran else strides[::-1])


publishing: ContextVar[ObjectReferences | None] = ContextVar("publishing", default=None)
"""The references of the object that is being pickled for a publish."""


class ObjectReferences:
    """The segments that one object refers to, while it is published.

    Parameters
    ----------
    store : Lookup
    new : NewArrays

    Attributes
    ----------
    needs : dict of str to Array
        Segment id → one of the arrays in it, which keeps it mapped until the object is registered.
    """

    def __init__(self, store: Lookup, new: NewArrays) -> None:
        self._store = store
        self._new = new
        # Arrays from `allocate` that are sealed with the object, by segment.
        self._sealing: dict[str, Array] = {}
        # Index among the new arrays → index among the segments that this object refers to.
        self._new_needs: dict[int, int] = {}
        self.needs: dict[str, Array] = {}

    def segments(self, written: Sequence[str]) -> list[str]:
        """Return the segments that it refers to, in the order of the indices in its references.

        Parameters
        ----------
        written : sequence of str
            The segments of the new arrays.
        """
        new = [written[i] for i in self._new_needs]
        return [*new, *sorted(self.needs.keys() - set(new))]

    def refer(self, array: Array) -> Any:
        """Return the reduction of an array, or None: a copy of it is pickled."""
        mapping = segment_file.find_mapping(array)
        if mapping is None:
            return self._refer_to_new(array)
        if not self._is_fixed(array, mapping):
            return None
        reduced = _reduced(self._store, array)
        if reduced is not None:
            self.needs[mapping.segment] = array
            if self._new.has(array):
                return frozen.load_published, reduced[1]
        return reduced

    def _refer_to_new(self, array: Array) -> Any:
        found = self._new.find(array)
        if found is None:
            return None
        index, offset = found
        position = self._new_needs.setdefault(index, len(self._new_needs))
        whole = self._new.has(array)
        strides = _stored_strides(array) if whole else array.strides
        reference = f"{_INDEX}{position}", offset, array.dtype, array.shape, strides
        return (frozen.load_published if whole else frozen.load_view), reference

    def need(self, array: Array) -> None:
        """Keep the segment of an array whose handle is pickled (`SharedNumpyArray`).

        Raises
        ------
        NotShareableError
            The segment is in another store.
        """
        mapping = segment_file.find_mapping(array)
        if mapping is not None:
            if not self._store.process.mappings.is_mapped(mapping.segment):
                raise NotShareableError(
                    "a SharedNumpyArray of another store (a group's, or your own) can only be referred "
                    "to there: share a copy, handle.array.copy()"
                )
            self._is_fixed(array, mapping)  # seals an array from `allocate`
            self.needs[mapping.segment] = array

    def _is_fixed(self, array: Array, mapping: Mapping) -> bool:
        """Return whether the segment never changes, or is LIVE; an array from `allocate` is sealed."""
        store = self._store
        row = store.registry.segment(mapping.segment)
        if row is None or row.unlinked or not store.directory.leads_to(row, mapping):
            return False
        if mapping.mode != "r+" or mapping.segment in self._sealing:
            return True
        if not row.writable:
            return (
                not array.flags.writeable
            )  # a writable view was made before the segment was sealed
        if store.registry.of_segment(row.id):
            return True  # LIVE: all processes see all changes, also through the object
        process = store.process
        if process.born.get(row.id) is not array or process.is_held_elsewhere(row.id):
            return False
        copying.clear(array)
        self._sealing[row.id] = array
        return True

    def register(self, tx: Transaction, segment: str, needs: Sequence[str]) -> None:
        """Add rows: the object's segment needs others. Runs in the transaction that registers it.

        Raises
        ------
        SegmentNotFoundError
        """
        for sealed in self._sealing:
            tx.set_writable(sealed, writable=False)
            row = self._store.registry.segment(sealed)
            if row is not None:
                access = self._store.directory.access
                segment_file.change_mode(self._store.path_of(row), access, access.sealed)
        if tx.add_references(segment, needs):
            raise SegmentNotFoundError(
                "an array that the object refers to was released at this moment; publish again"
            )

    def seal(self) -> None:
        """Make sealed arrays read-only, once the object is registered."""
        for array in self._sealing.values():
            segment_file.seal(array)
