"""Attach: from names to versions, and from versions to values.

All segments are mapped before an object is unpickled: that runs the publisher's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import (
    CorruptSegmentError,
    ReadOnlyError,
    RegistryError,
    Remedy,
    SegmentNotFoundError,
)
from ...segment import file as segment_file
from ...system import signals
from ..base import Attached
from . import inspection
from .objects import OpenObject, open_object, unpickle
from .references import Attachment
from .registry import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ...segment.file import Mode
    from .lookup import Lookup
    from .registry.rows import Entry

    Opened = dict[str, OpenObject | np.ndarray[Any, Any]]


def attach(
    store: Lookup, names: Sequence[str], mode: Mode, versions: Sequence[int] | None, *, trust: bool
) -> list[Attached]:
    """Map the newest (or the given) versions of names; see `jshm.store.base.Store.attach`."""
    segment_file.check_mode(mode)
    seen: list[Entry] = []
    with signals.deferred():  # once, and not for each segment
        for _ in signals.ATTEMPTS:
            signals.check()
            entries, attachment = find(store, names, versions), Attachment()
            try:
                opened = _open(store, entries, mode, attachment, trust=trust)
            except SegmentNotFoundError:
                # Replaced after the look at the registry, if another look finds other versions.
                if entries == seen:
                    raise store.deleted(entries) from None
                seen = entries
            else:
                break
        else:
            raise always_changing(", ".join(names))
        store.process.tell_holds()
    return _values(store, entries, opened, attachment)


def find(store: Lookup, names: Sequence[str], wanted: Sequence[int] | None) -> list[Entry]:
    """Return the newest (or the wanted) versions of names.

    Raises
    ------
    SegmentNotFoundError
    """
    if wanted is None:
        entries = store.catalogue.current(names)
        if len(names) == len(entries) == 1 and store.registry.removed is None:
            return entries
        found = {entry.name: entry for entry in entries}
    else:
        versions = list(map(store.catalogue.version, names, wanted))
        found = {e.name: e for e in versions if e is not None and not e.segment.unlinked}
    # The registry was deleted or replaced: what is mapped here may be newer, and is registered again.
    if store.registry.removed is not None:
        store.housekeeping.refresh()
        return find(store, names, wanted)
    for i, name in enumerate(names):
        if name not in found:
            if store.housekeeping.refresh():
                return find(store, names, wanted)
            version = None if wanted is None else wanted[i]
            raise inspection.not_found(store.catalogue, name, version)
    return [found[name] for name in names]


def _open(
    store: Lookup, entries: Sequence[Entry], mode: Mode, attachment: Attachment, *, trust: bool
) -> Opened:
    """Map the segments of versions, each once; return by segment what it holds.

    Raises
    ------
    SegmentNotFoundError, ReadOnlyError, UntrustedError, CorruptSegmentError, TooManyFilesError
    """
    opened: Opened = {}
    for entry in entries:
        row = entry.segment
        rows.check_kind(entry)
        if mode == "r+" and (row.kind != "array" or not row.writable):
            raise _read_only(entry)
        if row.id in opened:
            continue
        if row.overflow:
            store.directory.check_overflow()
        if row.kind == "object":
            opened[row.id] = open_object(store, row, entry.name, mode, attachment, trust=trust)
            continue
        mapping = attachment.mappings.get(row.id)
        if mapping is None:
            mapping = attachment.mappings[row.id] = store.map(row, mode)
        try:
            array = row.layout.view(segment_file.view(mapping))
        except (TypeError, ValueError) as error:
            raise CorruptSegmentError(
                f"segment {row.id} does not fit its row in the registry: {error}"
            ) from error
        opened[row.id] = attachment.arrays[row.id] = array
    return opened


def _read_only(entry: Entry) -> ReadOnlyError:
    copy = Remedy("attach", (entry.name,), {"mode": "c"}, "Get a private writable copy")
    text = f"{entry.name} v{entry.version} is a read-only snapshot"
    if entry.segment.kind == "object":
        return ReadOnlyError(f"{text}; only arrays can be shared writable", remedy=copy)
    live = Remedy(
        "publish", (entry.name,), {"writable": True}, "Its publisher can share it writable"
    )
    return ReadOnlyError(text, remedy=(copy, live))


def _values(
    store: Lookup, entries: Sequence[Entry], opened: Opened, attachment: Attachment
) -> list[Attached]:
    """Return the values of versions; an object is unpickled once, with all its parts.

    Raises
    ------
    MissingModuleError, CorruptSegmentError
    """
    values: dict[str, Any] = {}
    for segment, one in opened.items():
        values[segment] = unpickle(store, one, attachment) if isinstance(one, OpenObject) else one
    found = []
    for entry in entries:
        row, value, shares = entry.segment, values[entry.segment.id], True
        segments: tuple[str, ...] = (row.id,)
        apart: tuple[str, ...] = ()
        one = opened[row.id]
        if isinstance(one, OpenObject):
            one.layout.part(entry.part)  # CorruptSegmentError if there is no such part
            shares, segments = one.shares, (row.id, *one.needs)
            if entry.part:
                value, segments = value[entry.part - 1], (entry.value_id, *segments)
                others = inspection.together(store.catalogue, entry)
                apart = tuple(sorted(set(others).difference(other.name for other in entries)))
        found.append(
            Attached(
                entry.name, entry.version, entry.publisher, entry.created, bool(row.writable),
                entry.once, value, segments, row.kind, shares, apart,
            )
        )  # fmt: skip
    return found


def always_changing(names: str) -> RegistryError:
    """Return the error for versions that are replaced whenever an operation looks at them."""
    return RegistryError(
        f"{names}: replaced {len(signals.ATTEMPTS):,} times between the look at the registry and the look "
        "at the memory. Publish it less often, or attach an older version"
    )
