"""How an array gets into a segment: copied, sealed where it was born, or under a second name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import NotShareableError, SegmentNotFoundError
from ...pickling import static as looking
from ...segment import copying, pages
from ...segment import file as segment
from ...segment.array_layout import describe_array
from .mappings import is_mapped_by
from .registry import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...system.directories import File
    from ..base import How
    from .directory import Directory
    from .new_segment import Draft
    from .process import Process
    from .references import Referring
    from .registry.database import Transaction
    from .registry.registry import Registry
    from .registry.rows import SegmentRow


@dataclass(slots=True)
class Source:
    """A segment that is ready to get a name.

    Attributes
    ----------
    how : {'copied', 'sealed', 'alias'}
    row : SegmentRow
    path : File
    draft : Draft or None
        The file in the making, of a copy.
    referring : Referring or None
        What an object refers to.
    """

    how: How
    row: SegmentRow
    path: File
    draft: Draft | None = None
    referring: Referring | None = None

    def seal(self, tx: Transaction, metadata: Sequence[dict[str, Any]]) -> None:
        """Write the records, make the file immutable unless it is writable, and add its row.

        Runs inside the transaction that assigns the versions, before the versions' own rows.
        """
        if self.draft is not None:
            self.draft.offer()
            rows.put_segment(tx, self.row, wanted=True)
            if self.referring is not None:
                self.referring.register(tx, self.row.id)
            self.draft.finish(self.row, metadata)
            return
        if not rows.set_writable(tx, self.row.id, writable=self.row.writable):
            raise SegmentNotFoundError(
                "the array's memory was released in this very moment; publish again"
            )
        rows.fall_behind(tx, self.row.id)

    def close(self, sealed: np.ndarray[Any, Any] | None = None) -> None:
        """Let go of the file, once it is registered; the array that was sealed becomes read-only."""
        if self.draft is not None:
            self.draft.close()
        if sealed is not None:
            segment.seal(sealed)
        if self.referring is not None:
            self.referring.seal()

    def discard(self) -> None:
        """Remove what was made for nothing."""
        if self.draft is not None:
            self.draft.discard()


def source_of(
    array: np.ndarray[Any, Any],
    registry: Registry,
    directory: Directory,
    process: Process,
    *,
    writable: bool,
) -> Source | None:
    """Return how to publish an array without a copy, or None where it must be copied.

    An array that *is* the data of a segment, all of it, needs no copy if it is the very array that
    `allocate` returned and no other process has it (sealing makes *that* array read-only, and no
    other), or if what the array shows is still exactly the segment's snapshot.
    """
    mapping = segment.find_mapping(array)
    row = registry.segment(mapping.segment) if mapping is not None else None
    if mapping is None or row is None or row.unlinked or not _covers(array, mapping, row):
        return None
    if writable and registry.is_needed(row.id):
        return None  # an object needs it as it is
    path = directory.path(row.id, overflow=bool(row.overflow), kind=row.kind)
    if not is_mapped_by(path, mapping):
        return None  # the directory was copied, and another file has the name
    if mapping.mode == "r+":
        if not registry.of_segment(row.id):
            if process.born.get(row.id) is not array or process.is_held_elsewhere(row.id):
                return None
            copying.clear(array)
            return Source("sealed", rows.with_writable(row, writable=writable), path)
        # Sealed, and this array with it: only views made earlier could still write.
        same = not array.flags.writeable and not row.writable
    else:
        same = not row.writable and pages.is_pristine(mapping)
    if not same or writable or not segment.is_ours(path):
        return None
    return Source("alias", row, path)


def _covers(array: np.ndarray[Any, Any], mapping: segment.Mapping, row: SegmentRow) -> bool:
    if row.kind != "array":
        return False
    layout = row.layout
    address = array.__array_interface__["data"][0]
    # A layout has no strides: a transposed or broadcast view may have the shape of the whole.
    return (
        array.flags.forc
        and address == mapping.address + layout.offset
        and describe_array(array) == layout
    )


def check_array(array: object) -> None:
    """Raise NotShareableError, with a way out, unless `array` is a plain NumPy array."""
    # np.memmap is an ndarray whose subclass only says where the bytes came from.
    if type(array) is not np.ndarray and type(array) is not np.memmap:
        raise NotShareableError(
            f"a {looking.name(type(array))} is not a plain NumPy array: np.asarray(X) makes one; to share "
            "it as it is, publish it under a name"
        )
