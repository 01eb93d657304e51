"""From versions to values: all segments are mapped first, and only then code of an object's own runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import CorruptSegmentError, ReadOnlyError, RegistryError
from ...segment import file as segment
from ...system import signals as interrupts
from ..base import Attached
from . import inspection, objects
from .registry import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ...segment.array_layout import ArrayLayout
    from ...segment.file import Mapping, Mode
    from .lookup import Lookup
    from .references import World
    from .registry.rows import Entry

    Opened = dict[str, objects.Opened | np.ndarray[Any, Any]]


def open_all(
    store: Lookup, entries: Sequence[Entry], mode: Mode, world: World, *, trust: bool
) -> Opened:
    """Map the segments that versions are in, each once; by segment return what is in it.

    Raises
    ------
    SegmentNotFoundError, ReadOnlyError, UntrustedError, CorruptSegmentError, TooManyFilesError
    """
    opened: Opened = {}
    for entry in entries:
        rows.check_kind(entry)
        _check_mode(entry, mode)
        row = entry.segment
        if row.id in opened:
            continue
        if row.kind == "object":
            opened[row.id] = objects.open_object(store, row, entry.name, mode, world, trust=trust)
            continue
        mapping = world.mappings.get(row.id)
        if mapping is None:
            mapping = world.mappings[row.id] = store.map(row, mode)
        opened[row.id] = world.arrays[row.id] = view(row.layout, mapping, segment.view(mapping))
    return opened


def _check_mode(entry: Entry, mode: Mode) -> None:
    is_object = entry.segment.kind == "object"
    if mode == "r+" and (is_object or not entry.segment.writable):
        raise ReadOnlyError(
            f"{entry.name} v{entry.version} is a read-only snapshot: attach it with mode 'c' for "
            "a private writable copy"
            + (
                "; only arrays can be shared writable"
                if is_object
                else ", or let its publisher share it with --writable (writable=True)"
            )
        )


def attached(
    store: Lookup, entries: Sequence[Entry], opened: Opened, world: World
) -> list[Attached]:
    """Return what versions are; of the parts of one segment all are made at once.

    Raises
    ------
    MissingModuleError, CorruptSegmentError
    """
    values: dict[str, Any] = {
        identity: objects.unpickle(store, one, world) if isinstance(one, objects.Opened) else one
        for identity, one in opened.items()
    }
    found = []
    for entry in entries:
        row, value, shares = entry.segment, values[entry.segment.id], True
        segments: tuple[str, ...] = (row.id,)
        apart: tuple[str, ...] = ()
        one = opened[row.id]
        if isinstance(one, objects.Opened):
            one.layout.part(entry.part)  # CorruptSegmentError if there is no such part
            shares, segments = one.shares, (row.id, *one.needs)
            if entry.part:
                value, segments = value[entry.part - 1], (entry.own, *segments)
                others = inspection.together(store.catalogue, entry)
                apart = tuple(sorted(set(others).difference(other.name for other in entries)))
        found.append(
            Attached(
                entry.name, entry.version, entry.publisher, entry.created, bool(row.writable),
                entry.once, value, segments, row.kind, shares, apart,
            )
        )  # fmt: skip
    return found


def view(layout: ArrayLayout, mapping: Mapping, memory: Any) -> np.ndarray[Any, Any]:
    """Return the array that a mapped segment is, over an exporter of its memory."""
    try:
        return layout.view(memory)
    except (TypeError, ValueError) as error:
        raise CorruptSegmentError(
            f"segment {mapping.segment} does not fit what the registry says of it: {error}"
        ) from error


def always_changing(names: str) -> RegistryError:
    """Return the error for versions that are replaced whenever they are looked at."""
    return RegistryError(
        f"{names}: replaced, {len(interrupts.ATTEMPTS):,} times, between the look at the registry and the "
        "look at the memory. Publish it less often, or attach a version that stays"
    )
