"""Rebuild a registry's rows from the trailers of the segments.

This is needed where the registry is new and empty, where an older jshm created it again, and where
somebody restored an old copy of it. Each trailer has the name and version under which its segment was
published, so the trailers are believed, and not a registry without them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import InvalidNameError, JshmError, RegistryTimeout
from ...segment import file as segment_file
from ...segment.array_layout import ArrayLayout
from ...segment.object_layout import ObjectLayout
from ...segment.trailer import is_committed, read_trailer
from ...system import file_locks
from ..identity import Identity
from ..names import check_name
from .directory import id_in, kind_in
from .new_segment import layout_in
from .registry import rows
from .registry.rows import Entry, SegmentRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .directory import Directory
    from .registry.statements import Transaction

# A record with a higher version is damaged; SQLite's integers end at 2 ** 63.
_MAX_VERSION = 1 << 53
# Seconds that a rebuild waits for another process's lock on a segment.
_REBUILD_LOCK = 1.0
_LEASE = re.compile("[0-9a-f]{16}")
# A name with more characters is cut before something is appended.
_LONGEST = 180


def restore_counters(tx: Transaction, last: Mapping[str, int]) -> None:
    """Continue the version numbers of names, also of released ones, where they were."""
    for name, number in last.items():
        with contextlib.suppress(JshmError, TypeError, ValueError):
            if type(number) is int and 0 < number < _MAX_VERSION:
                tx.count_from(check_name(name), number)


def rebuild(tx: Transaction, directory: Directory, last: Mapping[str, int]) -> None:
    """Add the rows of all readable segments to a new registry.

    Parameters
    ----------
    tx, directory
    last : mapping of str to int
        Last version numbers of names, as far as the caller knows them.
    """
    _add(tx, directory)
    restore_counters(tx, last)


def register(tx: Transaction, directory: Directory, also: Collection[str] = ()) -> None:
    """Update a registry that is older than its segments.

    Segments that were published later are registered again, under all their names. Segments that were
    released later, so that their files are gone, are removed from the registry.

    Parameters
    ----------
    tx, directory
    also : collection of str
        Segments that the caller knows to have been registered, whatever their trailers say.
    """
    known = _add(tx, directory, also)
    files, on_disk = directory.files(), bool(directory.overflow)
    for row in known.values():
        if row.id not in files and not row.unlinked and (on_disk or not row.overflow):
            tx.forget_broken_segment(row.id)


def register_lost(tx: Transaction, directory: Directory, lost: Iterable[str]) -> None:
    """Register the segments that a registry has lost, if one of these files still has no row.

    Usually all have rows: they were published between the look at the rows and the look at the files. To
    register reads every segment, while all other writers wait.

    Parameters
    ----------
    tx, directory
    lost : iterable of str
        Paths that `find_lost` returned.
    """
    if not all(tx.has_segment(id_in(path)) for path in lost):
        register(tx, directory)


def find_lost(paths: Iterable[str], directory: Directory) -> list[str]:
    """Return the published segments among files without a row: the registry has lost them."""
    return [path for path in paths if is_published(path, directory)]


def is_published(path: str, directory: Directory) -> bool:
    """Return whether a file is a complete segment that was registered and was not released."""
    found = read_segment(id_in(path), path, directory, wait=False)
    return found is not None and found.committed and bool(found.entries)


@dataclass(slots=True)
class Found:
    """The content of a segment's file.

    Attributes
    ----------
    row : SegmentRow
    entries : list of Entry
        The versions in it.
    needs : tuple of str
        The segments that it refers to.
    committed : bool
        Whether a registry has committed these versions and did not release them.
    """

    row: SegmentRow
    entries: list[Entry]
    needs: tuple[str, ...]
    committed: bool


def _add(
    tx: Transaction, directory: Directory, also: Collection[str] | None = None
) -> dict[str, SegmentRow]:
    """Add the rows that are missing for readable segments, and for what they refer to.

    With `also`, only segments that are committed, have a row or are in it. Returns the rows from before.
    """
    known = {row.id: row for row in tx.segments()}
    # Skipped: a segment whose trailer does not match its rows yet, and a released segment, because its file
    # is being removed at this moment.
    skipped = {row.id for row in tx.stale_trailers()}
    skipped |= {identity for identity, row in known.items() if row.unlinked}
    read = {
        identity: found
        for identity, path in directory.files().items()
        if identity not in skipped and (found := read_segment(identity, path, directory))
    }
    # A segment with a row can be attached already, so it needs no other name.
    said = [
        (entry, identity not in known and one.committed)
        for identity, one in read.items()
        if also is None or one.committed or identity in known or identity in also
        for entry in one.entries
    ]
    # If two segments have the same version and one was never registered, the other one counts.
    said.sort(key=lambda pair: (pair[0].name, pair[0].version, not pair[1], -pair[0].created))
    placed = [entry for pair in said if (entry := _place(tx, *pair))]
    added = list(dict.fromkeys(entry.segment.id for entry in placed))
    for identity in added:  # grows: a segment that another one needs is added, too, without a name
        row = read[identity].row
        if identity not in known:
            tx.add_segment(row, wanted=False)
        elif row.writable != known[identity].writable:
            tx.set_writable(identity, writable=row.writable)
        added += [one for one in read[identity].needs if one in read and one not in added]
    for identity in added:
        tx.add_references(identity, read[identity].needs)
    names = dict.fromkeys(entry.name for entry in placed)
    superseded = [entry.segment.id for name in names for entry in tx.versions(name)]
    tx.mark_wanted(dict.fromkeys([*added, *superseded]))
    return known


def _place(tx: Transaction, entry: Entry, needed: bool) -> Entry | None:
    """Add a version's rows; return the version as it was added, or None if it was left out.

    Its number may have been given to another segment: two registries continued from the same copy. It
    then gets another name, if it is `needed`, so that a number never means two different data.
    """
    last, current = tx.numbers(entry.name)
    tx.add_lease(entry.lease, entry.identity)
    if entry.version <= last:
        taken = tx.segment_of(entry.name, entry.version)
        if taken == entry.segment.id:  # only its segment's row was lost
            return entry
        if taken is not None or entry.version != current:
            if not needed:
                return None
            entry = _under_another_name(tx, entry)
    tx.add_version(entry)
    return entry


def _under_another_name(tx: Transaction, entry: Entry) -> Entry:
    addition = f"lost-{entry.segment.id[:8]}"
    try:  # appended once, even if a segment with such a name is restored from a backup again
        own = entry.name.removesuffix(f".{addition}")
        name = check_name(f"{own[:_LONGEST]}.{addition}")
    except InvalidNameError:
        name = addition
    version = tx.last(name) + 1
    tx.mark_stale(entry.segment.id)
    return entry._replace(name=name, version=version, current=version)


def read_segment(
    identity: str, path: str, directory: Directory, *, wait: bool = True
) -> Found | None:
    """Return a segment and its versions; None for a file that is not a finished segment.

    With `wait`, a process that is about to remove the file gets time to do so.
    """
    try:
        fd = segment_file.open_unheld(path, directory.access)
    except (JshmError, OSError):
        return None
    try:
        layout = layout_in(fd, kind_in(path))
        records = read_trailer(fd, layout.trailer_offset)
        # An unfinished segment has no magic or no record yet. So if this file is locked, another process
        # probes it, for microseconds, or is about to remove it.
        with contextlib.suppress(RegistryTimeout):
            if wait:
                file_locks.lock(fd, fcntl.LOCK_SH, _REBUILD_LOCK)
        status = os.fstat(fd)
        if not status.st_nlink:
            return None
        writable = isinstance(layout, ArrayLayout) and any(r.get("writable") for r in records)
        overflow = os.path.dirname(path) == directory.overflow
        row = SegmentRow.of(identity, layout, overflow=overflow, writable=writable)
        parts = len(layout.parts) if isinstance(layout, ObjectLayout) else 0
        entries = [_entry(content, row, parts) for content in records]
        committed = not status.st_mode & segment_file.RELEASED and is_committed(
            fd, layout.trailer_offset
        )
    # A record may contain anything: float(10**400) is an OverflowError, a list instead of an object an
    # AttributeError, a newer format a RuntimeError.
    except (
        OSError,
        ArithmeticError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
    ):
        return None
    finally:
        os.close(fd)
    needs = layout.references if isinstance(layout, ObjectLayout) else ()
    return Found(row, entries, needs, committed)


def _storable(text: object) -> str:
    """Return a text that SQLite can store; raise UnicodeEncodeError for half a surrogate pair."""
    str(text).encode()
    return str(text)


def _entry(content: dict[str, Any], row: SegmentRow, parts: int) -> Entry:
    if content["jshm"] > rows.FORMAT:
        raise ValueError("written by a newer jshm")
    version, created = int(content["version"]), float(content["created"])
    if not (0 < version < _MAX_VERSION and math.isfinite(created)):
        raise ValueError(f"version {version} of {created}")
    part = int(content.get("part", 0))
    if not min(parts, 1) <= part <= parts:
        raise ValueError(f"value {part} of {parts}")
    identity = json.dumps(content["identity"], ensure_ascii=False, separators=(",", ":"))
    Identity.from_json(identity)
    if not _LEASE.fullmatch(content["lease"]):  # it is the name of a file
        raise ValueError(f"{content['lease']!r:.80} is not a lease id")
    return Entry(
        name=check_name(content["name"]),
        version=version,
        current=version,
        lease=content["lease"],
        created=created,
        keep=bool(content["keep"]),
        note=_storable(content["note"]),
        once=_storable(content["once"]),
        part=part,
        identity=_storable(identity),
        segment=row,
    )
