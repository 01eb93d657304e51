"""From segments to rows: what files say of themselves, where a registry does not know them.

It is new and empty, or an older jshm has made it again, or it is older than they are: somebody put a
copy of it back. Each segment says under which name and version it was published, so no registry that
lost it is believed.
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
from ...segment import file as segment
from ...segment.array_layout import ArrayLayout
from ...segment.object_layout import ObjectLayout
from ...segment.trailer import is_committed, read_records
from ..identity import Identity
from ..names import check_name
from .directory import ARRAY
from .new_segment import layout_in
from .registry import rows
from .registry.rows import Entry, SegmentRow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from .directory import Directory
    from .registry.database import Transaction

# Of a record that is believed; SQLite's integers end at 2 ** 63.
_MAX_VERSION = 1 << 53
# Seconds that a rebuild waits for a process that looks at a segment at this moment.
_REBUILD_LOCK = 1.0
_LEASE = re.compile("[0-9a-f]{16}")
# Characters of a name that are left where it needs an addition.
_LONGEST = 180


def keep_counting(tx: Transaction, last: Mapping[str, int]) -> None:
    """Let version numbers go on where they were, also those of names that were released."""
    for name, number in last.items():
        with contextlib.suppress(JshmError, TypeError, ValueError):
            if type(number) is int and 0 < number < _MAX_VERSION:
                rows.count_from(tx, check_name(name), number)


def rebuild(tx: Transaction, directory: Directory, last: Mapping[str, int]) -> None:
    """Add to a registry what segments say of themselves; what is not readable is left out.

    Parameters
    ----------
    tx, directory
    last : mapping of str to int
        What else is known of the last version number of names.
    """
    _admit(tx, directory, lambda _: True)
    keep_counting(tx, last)


def readmit(tx: Transaction, directory: Directory, also: Collection[str] = ()) -> None:
    """Bring a registry that is older than its segments to what they say.

    What was published since is registered again, under all its names; what was released since, so that
    its file is gone, is forgotten.

    Parameters
    ----------
    tx, directory
    also : collection of str
        Segments that were registered, as the caller knows, whether they say so or not.
    """
    known = {row.id: row for row in rows.all_segments(tx)}
    registered = {*known, *also}
    _admit(tx, directory, lambda found: found.committed or found.row.id in registered)
    files, on_disk = directory.files(), directory.has_overflow()
    for row in known.values():
        if row.id not in files and not row.unlinked and (on_disk or not row.overflow):
            rows.forget_lost_segment(tx, row.id)


def readmit_lost(tx: Transaction, directory: Directory, lost: Iterable[str]) -> None:
    """Readmit if one of these files, which `find_lost` returned, still has no row.

    Mostly each has one: it was published between the look at the rows and the look at the file. To
    readmit reads every segment, while all other writers wait.
    """
    if not all(rows.has_segment(tx, _identity(path)) for path in lost):
        readmit(tx, directory)


def find_lost(paths: Iterable[str], directory: Directory) -> list[str]:
    """Return those of these files, which no row knows, that a registry knew: it was a newer one."""
    return [path for path in paths if is_published(path, directory)]


def is_published(path: str, directory: Directory) -> bool:
    """Tell whether a file says that it is a whole segment, was registered, and was not released."""
    found = read_segment(_identity(path), path, directory, wait=False)
    return found is not None and found.committed and bool(found.entries)


def _identity(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _kind(path: str) -> str:
    return "array" if path.endswith(ARRAY) else "object"


@dataclass(slots=True)
class Found:
    """A segment's file, as it was read.

    Attributes
    ----------
    row : SegmentRow
    entries : list of Entry
        The versions that are in it.
    needs : tuple of str
    committed : bool
        Whether a registry has committed these versions, and did not release them.
    """

    row: SegmentRow
    entries: list[Entry]
    needs: tuple[str, ...]
    committed: bool


def _admit(tx: Transaction, directory: Directory, chosen: Callable[[Found], bool]) -> None:
    """Add the rows of those files that are `chosen`, and of what they refer to, as far as they miss."""
    known = {row.id: row for row in rows.all_segments(tx)}
    # Skipped: a segment whose trailer does not match its rows yet, and a released one whose file is just
    # being removed. That one refers to nothing any more.
    skipped = {row.id for row in rows.behind(tx)} | {i for i, row in known.items() if row.unlinked}
    read = {
        identity: found
        for identity, path in directory.files().items()
        if identity not in skipped and (found := read_segment(identity, path, directory))
    }
    # What has a row can be attached, so it needs no other name.
    said = [
        (entry, identity not in known and one.committed)
        for identity, one in read.items()
        if chosen(one)
        for entry in one.entries
    ]
    # Of two that say the same version, one of which was never registered, the other one counts.
    said.sort(key=lambda pair: (pair[0].name, pair[0].version, not pair[1], -pair[0].created))
    placed = [entry for pair in said if (entry := _place(tx, *pair))]
    kept = list(dict.fromkeys(entry.segment.id for entry in placed))
    for identity in kept:  # grows: what is needed is kept too, if it has no name
        row = read[identity].row
        if identity not in known:
            rows.put_segment(tx, row, wanted=False)
        elif row.writable != known[identity].writable:
            rows.set_writable(tx, identity, writable=row.writable)
        kept += [one for one in read[identity].needs if one in read and one not in kept]
    for identity in kept:
        rows.put_references(tx, identity, read[identity].needs)
    names = dict.fromkeys(entry.name for entry in placed)
    superseded = [entry.segment.id for name in names for entry in rows.entries_of(tx, name)]
    rows.judge(tx, dict.fromkeys([*kept, *superseded]))


def _place(tx: Transaction, entry: Entry, needed: bool) -> Entry | None:
    """Add a version's rows; return what it became, or None if it has no place.

    Its number may be another segment's by now, or was: two registries counted on from the same copy.
    Then it gets a name of its own, if it is `needed`, and no number ever means two different data.
    """
    found = tx.execute("SELECT last, current FROM names WHERE name = ?", (entry.name,))
    last, current = found[0] if found else (0, None)
    rows.put_identity(tx, entry.lease, entry.identity)
    if entry.version <= last:
        there = "SELECT segment FROM versions WHERE name = ? AND version = ?"
        taken = tx.execute(there, (entry.name, entry.version))
        if taken == [(entry.segment.id,)]:  # only its segment's row was lost
            return entry
        if taken or entry.version != current:
            if not needed:
                return None
            entry = _under_another_name(tx, entry)
    rows.put_version(tx, entry)
    return entry


def _under_another_name(tx: Transaction, entry: Entry) -> Entry:
    addition = f"lost-{entry.segment.id[:8]}"
    try:  # once: what has such a name already may come back from a backup once more
        own = entry.name.removesuffix(f".{addition}")
        name = check_name(f"{own[:_LONGEST]}.{addition}")
    except InvalidNameError:
        name = addition
    found = tx.execute("SELECT last FROM names WHERE name = ?", (name,))
    version = found[0][0] + 1 if found else 1
    rows.fall_behind(tx, entry.segment.id)
    return entry._replace(name=name, version=version, current=version)


def read_segment(
    identity: str, path: str, directory: Directory, *, wait: bool = True
) -> Found | None:
    """Return a segment and its versions, or None for one that is no finished segment of ours.

    Unless it shall not `wait`, it gives a process that is about to remove it time to do so.
    """
    try:
        fd = segment.open_unheld(path, directory.access)
    except (JshmError, OSError):
        return None
    try:
        layout = layout_in(fd, _kind(path))
        records = read_records(fd, layout.records)
        # A file in the making has no magic yet, or no record: who has this one locked is a prober,
        # for microseconds, or about to remove it.
        with contextlib.suppress(RegistryTimeout):
            if wait:
                segment.lock(fd, fcntl.LOCK_SH, _REBUILD_LOCK)
        status = os.fstat(fd)
        if not status.st_nlink:
            return None
        writable = isinstance(layout, ArrayLayout) and any(r.get("writable") for r in records)
        overflow = os.path.dirname(path) == directory.overflow
        row = SegmentRow.of(identity, layout, overflow=overflow, writable=writable)
        parts = len(layout.parts) if isinstance(layout, ObjectLayout) else 0
        entries = [_entry(content, row, parts) for content in records]
        committed = not status.st_mode & segment.RELEASED and is_committed(fd, layout.records)
    # A record is anybody's guess: OverflowError is float(10**400), AttributeError a list for an object;
    # RuntimeError is a newer format.
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
    """Return text that SQLite takes; UnicodeEncodeError, a ValueError, of half a surrogate pair."""
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
        raise ValueError(f"{content['lease']!r:.80} is no lease")
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
