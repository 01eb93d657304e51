"""The rows of the registry as values, checked when they are read; no SQL, and no data of segments.

SQLite lets any column hold a value of any type, and a damaged file may hold anything. Each row that is
read is therefore checked against the types that jshm writes.
"""

from __future__ import annotations

import json
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from ....errors import CorruptRegistryError, CorruptSegmentError, FormatVersionError, Remedy
from ....segment.array_layout import ArrayLayout, Order, as_shape, implied
from ....segment.object_layout import ObjectLayout
from ....text import cached_by_text
from ...base import value_id
from ...identity import Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

# Raised by a change that an older jshm could not live with; columns and tables are added freely.
FORMAT = 1
# The kinds of segment that this version can map; it lists others and leaves them alone.
KINDS = frozenset({"array", "object"})
# Between the summaries of the values of one segment.
_BETWEEN = "\n"


def damaged(found: str) -> CorruptRegistryError:
    """Return the error for a registry with contents that jshm did not write."""
    return CorruptRegistryError(
        f"{found}. No data was lost",
        remedy=Remedy("check", (), {"fix": True}, "Rebuild the registry from the segments"),
    )


def damaged_row(found: str) -> CorruptRegistryError:
    """Return the error for a row with values that jshm does not write."""
    return damaged(f"the registry is damaged: it has {found}")


def too_new(what: str, kind: str) -> FormatVersionError:
    """Return the error for a name or a segment of a kind that this version does not know."""
    return FormatVersionError(
        f"{what} is of kind {kind!r}: it needs a newer jshm; upgrade jshm in this environment"
    )


def parse_identity(text: str) -> Identity:
    """Return the identity that a lease or an offer has as JSON; CorruptRegistryError if it is none."""
    try:
        return Identity.from_json(text)
    except (RecursionError, TypeError, ValueError) as error:
        raise damaged_row(f"a process {text!r:.200}") from error


@cached_by_text(4096)
def _layout(descr: str, shape: str, order: Order) -> ArrayLayout:
    try:
        return implied(descr, as_shape(tuple(json.loads(shape))), order)
    except (CorruptSegmentError, RecursionError, TypeError, ValueError) as error:
        raise damaged_row(f"a segment of shape {shape!r}, {descr!r}") from error


@lru_cache(maxsize=4096)
def _shape_text(shape: tuple[int, ...]) -> str:
    return json.dumps(shape)


class SegmentRow(NamedTuple):  # not a dataclass: thousands are made at once, and this is made in C
    """One row of the table `segments`."""

    id: str
    kind: str
    descr: str
    shape: str
    order: Order
    nbytes: int
    overflow: bool
    writable: bool
    unlinked: bool = False

    @property
    def layout(self) -> ArrayLayout:
        """The layout of an array. For other kinds, only the segment's own header has it."""
        if self.kind != "array":
            raise too_new(f"segment {self.id}", self.kind)
        return _layout(self.descr, self.shape, self.order)

    def summary(self, part: int) -> str:
        """Return the publisher's summary of an object, or of one part of the segment."""
        parts = self.descr.split(_BETWEEN) if part else [self.descr.replace(_BETWEEN, ", ")]
        if not 0 <= part <= len(parts):
            raise damaged_row(f"a version that is value {part} of {len(parts)}")
        return parts[part - 1]

    @classmethod
    def parse(cls, row: Sequence[Any]) -> SegmentRow:
        """Return a segment's row; CorruptRegistryError as for `Entry.parse`."""
        if tuple(map(type, row)) != _SEGMENT_TYPES:
            raise damaged_row(f"the segment {row!r:.200}")
        return cls._make(row)

    @classmethod
    def of(
        cls, segment: str, layout: ArrayLayout | ObjectLayout, *, overflow: bool, writable: bool
    ) -> SegmentRow:
        """Return the row for a segment with this layout."""
        if isinstance(layout, ObjectLayout):
            parts = layout.parts or (layout.description,)
            summary = _BETWEEN.join(part.summary.replace(_BETWEEN, " ") for part in parts)
            return cls(segment, "object", summary, "[]", "C", layout.nbytes, overflow, writable)
        return cls(
            segment, "array", layout.descr, _shape_text(layout.shape), layout.order, layout.nbytes,
            overflow, writable,
        )  # fmt: skip


_SEGMENT_TYPES = (str, str, str, str, str, int, int, int, int)
# By the type of the name's current version. Compared and not looked up, because hashing takes longer.
_CURRENT_TYPES, _RELEASED_TYPES = (
    (str, int, current, str, float, int, str, str, int, str, *_SEGMENT_TYPES)
    for current in (int, type(None))
)


class Entry(NamedTuple):
    """One version of a name, with its segment and its publisher.

    `part` is the position of the value in its segment, from 1; 0 where the segment is one value.
    """

    name: str
    version: int
    current: int | None
    lease: str
    created: float
    keep: bool
    note: str
    once: str
    part: int
    identity: str
    segment: SegmentRow

    @property
    def value_id(self) -> str:
        """The id of this value: its segment's id, and its part."""
        return value_id(self.segment.id, self.part)

    @property
    def publisher(self) -> Identity:
        return parse_identity(self.identity)

    @property
    def is_current(self) -> bool:
        return self.version == self.current

    @classmethod
    def parse(cls, row: Sequence[Any]) -> Entry:
        """Return the version that a joined row describes.

        Raises
        ------
        CorruptRegistryError
            A value has a type that jshm does not write.
        """
        types = tuple(map(type, row))
        if types not in (_CURRENT_TYPES, _RELEASED_TYPES) or not isfinite(row[4]):
            raise damaged_row(f"the version {row!r:.200}")
        return cls._make((*row[:10], SegmentRow._make(row[10:])))


class OfferRow(NamedTuple):
    """One offer, with the newest version of the offered name."""

    sender: Identity
    created: float
    entry: Entry

    @classmethod
    def parse(cls, row: Sequence[Any]) -> OfferRow:
        """Return the offer that a joined row describes; CorruptRegistryError as for `Entry.parse`."""
        sender, created = row[:2]
        if (type(sender), type(created)) != (str, float) or not isfinite(created):
            raise damaged_row(f"the offer {row[:2]!r:.200}")
        return cls(parse_identity(sender), created, Entry.parse(row[2:]))


def check_kind(entry: Entry) -> None:
    """Raise FormatVersionError if only a newer jshm can map a version."""
    if entry.segment.kind not in KINDS:
        raise too_new(entry.name, entry.segment.kind)


def trailer_record(entry: Entry) -> dict[str, Any]:
    """Return the record of a version in its segment's trailer; the rows can be rebuilt from it."""
    record = {
        "jshm": FORMAT,
        "name": entry.name,
        "version": entry.version,
        "created": entry.created,
        "keep": bool(entry.keep),
        "note": entry.note,
        "once": entry.once,
        "writable": bool(entry.segment.writable),
        "lease": entry.lease,
        "identity": _parsed(entry.identity),
    }
    return {**record, "part": entry.part} if entry.part else record


@lru_cache(maxsize=64)
def _parsed(identity: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(identity)
    return content
