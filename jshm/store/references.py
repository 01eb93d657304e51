"""Arrays in a pickle that are in a segment already: written as references, and found again.

`refer` is how the Pickler writes them outside of a publish (`jshm.dumps`): nothing is kept alive.
`Referring` is how a publish does: what it refers to is kept as long as what is published.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import copying, rows, segment
from ..array import Reference, reference_to
from ..errors import NotShareableError, SegmentNotFoundError
from ..pickling import Pickler

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..database import Transaction
    from ..registry import Registry
    from ..rows import SegmentRow
    from ..segment import Mapping, Mode
    from .directory import Directory
    from .presence import Presence

Array = np.ndarray[Any, Any]


class Segments(Protocol):
    """What is needed of a store to write and to find references."""

    directory: Directory
    registry: Registry
    presence: Presence

    def path_of(self, row: SegmentRow) -> str:
        """Return the path of a segment's file."""

    def attach_segment(self, identity: str, mode: Mode) -> Mapping:
        """Map a segment by its id; SegmentNotFoundError if it is gone."""


# The segments that the object which is just being attached refers to, mapped.
resolving: ContextVar[dict[str, Mapping] | None] = ContextVar("resolving", default=None)
_default: Callable[[], Segments]


def refer(array: Array) -> Any:
    """Return how to write an array that is in a segment; None where the segment shows other data."""
    mapping = segment.find(array)
    if mapping is None or not _default().presence.mappings.is_mapped(mapping.segment):
        return None  # or it is in a group's store, where nobody would look for it
    return _reduced(array)


def _reduced(array: Array) -> Any:
    reference = reference_to(array)
    if reference is None or not shows_segment(array):
        return None
    _default().presence.referred.add(reference.segment)
    strides = reference.strides
    return load, (reference.segment, reference.offset, array.dtype, array.shape, strides)


def shows_segment(array: Array) -> bool:
    """Tell whether an array shows what its segment holds: no page of it was changed privately."""
    mapping = segment.find(array)
    if mapping is None:
        return False
    if mapping.mode == "r+" or not array.size:
        return True
    reaches = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    first = array.__array_interface__["data"][0] - mapping.address
    low = first + sum(reach for reach in reaches if reach < 0)
    high = first + sum(reach for reach in reaches if reach > 0) + array.itemsize
    return segment.is_pristine(mapping, low, high)


def load(
    identity: str,
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
    mapping = (resolving.get() or {}).get(identity) or _default().attach_segment(identity, "r")
    return Reference(identity, mapping.mode, offset, dtype, shape, strides).view(mapping)


# The segments that the object which is just being published refers to.
publishing: ContextVar[Referring | None] = ContextVar("publishing", default=None)


def resolve_in(default: Callable[[], Segments]) -> None:
    """Say where references are looked up while nothing is attached (`jshm.loads`)."""
    global _default  # noqa: PLW0603
    _default = default


class Referring:
    """The segments that one object refers to, while it is published.

    Attributes
    ----------
    needs : dict of str to Array
        Segment id → one of the arrays in it, which keeps it mapped until the object is registered.
    """

    def __init__(self, store: Segments) -> None:
        self._store = store
        self._sealing: dict[str, Array] = {}
        self.needs: dict[str, Array] = {}

    def refer(self, array: Array) -> Any:
        """Return how to write an array by reference; None if a copy is to be written."""
        mapping = segment.find(array)
        if mapping is None or not self._is_fixed(array, mapping):
            return None
        reduced = _reduced(array)
        if reduced is not None:
            self.needs[mapping.segment] = array
        return reduced

    def need(self, array: Array) -> None:
        """Keep the segment of an array that writes itself as a reference (`SharedNumpyArray`)."""
        mapping = segment.find(array)
        if mapping is not None:
            if not self._store.presence.mappings.is_mapped(mapping.segment):
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
        if row is None or row.unlinked:
            return False
        if mapping.mode != "r+" or mapping.segment in self._sealing:
            return True
        if not row.writable:
            return not array.flags.writeable  # else made before it was sealed
        if store.registry.of_segment(row.id):
            return True  # LIVE: all see all changes, also through the object
        presence = store.presence
        if presence.born.get(row.id) is not array or presence.is_held_elsewhere(row.id):
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
        if rows.put_references(tx, identity, self.needs):
            raise SegmentNotFoundError(
                "an array that it refers to was released in this very moment; publish again"
            )

    def seal(self) -> None:
        """Make the arrays that were made here read-only, once the object is registered."""
        for array in self._sealing.values():
            segment.seal(array)


Pickler.refer = staticmethod(refer)  # type: ignore[method-assign, assignment, unused-ignore]
