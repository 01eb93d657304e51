"""What is there: lists for people, `check` for doubts, `rebuild` for a registry that was lost."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from .. import rows, segment
from ..errors import CorruptRegistryError, FormatVersionError, JshmError, RegistryTimeout
from ..identity import Identity, SessionKind, has_ended
from ..layout import ArrayLayout
from ..lease import is_alive, living
from ..object_layout import ObjectLayout
from ..records import read_records
from ..rows import Entry, SegmentRow
from . import reaper
from .base import Holder, Lifetime, ObjectDetails, Problem, SegmentInfo, type_text
from .directory import ARRAY
from .draft import layout_in
from .names import check_name, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..database import Transaction
    from ..registry import Registry
    from .directory import Directory


# Of a record that is believed; SQLite's integers end at 2 ** 63.
_MAX_VERSION = 1 << 53
# Seconds that a rebuild waits for whoever looks at a segment in this moment.
_REBUILD_LOCK = 1.0
_MAX_PID = 1 << 31
_SESSIONS = get_args(SessionKind)
_LEASE = re.compile("[0-9a-f]{16}")


class _Publisher(NamedTuple):
    """What people are told of a publisher."""

    label: str
    mine: bool
    session: Lifetime
    owner: str
    kernel_id: str
    notebook: str


@lru_cache(maxsize=1024)
def _publisher(identity: str, me: Identity) -> _Publisher:
    who = rows.identity_of(identity)
    # A newer jshm may tie lives to something else; until that says otherwise, as to a server's.
    session: Lifetime = who.session.kind if who.session.kind in _SESSIONS else "server"
    return _Publisher(who.label, me.owns(who), session, who.owner, who.kernel_id, who.notebook)


def info_of(
    entry: Entry,
    me: Identity,
    *,
    alive: bool,
    ended: bool = False,
    keeps: int = 0,
    holders: tuple[Holder, ...] = (),
    details: ObjectDetails | None = None,
) -> SegmentInfo:
    """Return what people are told of a version; `ended` says whether its publisher's session has."""
    row, publisher = entry.segment, _publisher(entry.identity, me)
    layout = row.layout if row.kind == "array" else None
    return SegmentInfo(
        name=entry.name,
        version=entry.version,
        kind=row.kind,
        summary=type_of(row),
        dtype=layout.dtype if layout else None,
        shape=layout.shape if layout else (),
        order=layout.order if layout else "C",
        nbytes=row.nbytes,
        publisher=publisher.label,
        publisher_alive=alive,
        mine=publisher.mine,
        created=entry.created,
        note=entry.note,
        keep=bool(entry.keep),
        lifetime="kept" if entry.keep else publisher.session,
        writable=bool(row.writable),
        overflow=bool(row.overflow),
        state="current" if entry.is_current else "released" if row.unlinked else "old",
        once=entry.once,
        segment=row.id,
        owner=publisher.owner,
        kernel_id=publisher.kernel_id,
        notebook=publisher.notebook,
        leftover=ended and entry.is_current and not entry.keep and not holders,
        keeps=keeps,
        holders=holders,
        details=details,
    )


def details_of(layout: ObjectLayout, registry: Registry) -> ObjectDetails:
    """Return what people are told of an object."""
    what = layout.description
    return ObjectDetails(
        what.doc,
        what.place,
        what.python,
        what.modules,
        layout.buffers,
        layout.pickled,
        tuple(what.columns),
        {
            _called(registry, row): row.nbytes
            for row in map(registry.segment, layout.references)
            if row is not None
        },
    )


def _called(registry: Registry, row: SegmentRow) -> str:
    """Return what to call a segment that something refers to."""
    names = [f"{entry.name} v{entry.version}" for entry in registry.of_segment(row.id)]
    return " = ".join(names) or f"{type_of(row)} without a name, {row.id}"


def type_of(row: SegmentRow) -> str:
    """Return what a segment is, as people read it; of what only a newer jshm knows, the kind."""
    if row.kind == "object":
        return row.descr
    if row.kind not in rows.KINDS:
        return row.kind
    return type_text(row.layout.dtype, row.layout.shape)


Listed = dict[tuple[str, int], tuple[Any, Entry, tuple[Any, ...], SegmentInfo]]
"""By name and version: the row and the facts that a list was made of, and what was made of them."""


def list_segments(
    registry: Registry, directory: Directory, me: Identity, before: Listed
) -> tuple[list[SegmentInfo], Listed]:
    """Return every version that takes memory, by name and version, with its living holders.

    Parameters
    ----------
    registry, directory, me
    before : Listed
        From the list before this one: what has not changed is not made again.
    """
    state: dict[str, tuple[bool, bool]] = {}
    held, kept = holders(directory), registry.kept()
    listed: Listed = {}
    for row in registry.rows():
        key = (row[0], row[1])
        old = before.get(key)
        entry = old[1] if old is not None and old[0] == row else Entry.parse(row)
        held_by = held.get(entry.segment.id, ())
        if entry.segment.unlinked and not held_by:
            continue  # the kernel has freed it; only the row is left, until somebody reaps
        if entry.lease not in state:
            alive = is_alive(directory.leases, entry.lease)
            state[entry.lease] = alive, not alive and has_ended(entry.publisher)
        alive, ended = state[entry.lease]
        keeps = kept.get(entry.segment.id, 0)
        facts = (alive, ended, keeps, held_by, me)
        if old is None or old[1] is not entry or old[2] != facts:
            info = info_of(entry, me, alive=alive, ended=ended, keeps=keeps, holders=held_by)
            old = row, entry, facts, info
        listed[key] = old
    return [info for _, _, _, info in listed.values()], listed


def holders(directory: Directory) -> dict[str, tuple[Holder, ...]]:
    """Return segment id → the living processes that hold it."""
    found: dict[str, tuple[Holder, ...]] = {}
    for who, held in living(directory.leases):
        for segment_id, mode in sorted(held):
            holder = Holder(who.label, mode, who.pid, who.is_here, who.kernel_id, who.notebook)
            found[segment_id] = (*found.get(segment_id, ()), holder)
    return found


def missing(registry: Registry, name: str, version: int | None = None) -> str:
    """Return what to tell whoever asks for a name, or a version, that is not there."""
    known = registry.names()
    if version is not None and name in known:
        there = [f"v{e.version}" for e in registry.versions(name) if not e.segment.unlinked]
        return f"{name} has no version {version} (any more); there: {', '.join(there)}"
    if not known:
        return f"nothing is shared under {name!r}: nothing at all is shared yet (%shm_publish X)"
    close = nearest(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else "see what is there: %shm_list"
    return f"nothing is shared under {name!r}; {hint}"


# -- check -----------------------------------------------------------------------------------------


def check(registry: Registry, directory: Directory, *, fix: bool) -> list[Problem]:
    """Compare rows and files both ways; mend what does not fit if `fix`.

    A registry that cannot be read is put aside and rebuilt from the segments.
    """
    try:
        damage = registry.database.read("PRAGMA quick_check(1)")
        if damage and damage[0][0] != "ok":
            raise CorruptRegistryError(f"the registry is damaged: {damage[0][0]}")
        return list(_compare(registry, directory, fix=fix))
    except CorruptRegistryError as error:
        if fix:
            _put_aside(registry, directory)
            registry.names()  # opens, and so rebuilds
        return [Problem(str(error), fixed=fix)]


def _put_aside(registry: Registry, directory: Directory) -> None:
    """Rename a damaged registry; only the newest is kept, they take memory."""
    aside = f"{directory.registry}.damaged-"
    registry.database.close()
    for ending in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory.registry + ending)
    for name in os.listdir(directory.root):
        if os.path.join(directory.root, name).startswith(aside):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory.root, name))
    os.rename(directory.registry, f"{aside}{time.time_ns()}")


def _compare(registry: Registry, directory: Directory, *, fix: bool) -> Iterator[Problem]:
    lost: list[str] = []
    with registry.database.transact() as tx:
        files = directory.files()
        known = {row.id: row for row in rows.all_segments(tx)}
        for row in known.values():
            problem = _examine(row, directory, files)
            if problem:
                if fix:
                    rows.forget_lost_segment(tx, row.id)
                    lost += [files[row.id]] if row.id in files else []
                yield Problem(problem, fixed=fix)
        for segment_id, found in _compare_references(tx, fix=fix):
            lost += [files[segment_id]] if fix and segment_id in files else []
            yield found
        yield from _compare_rows(tx, fix=fix)
    for path in directory.foreign():
        yield Problem(
            f"{path} is no segment, so jshm did not make it, and leaves it: remove it", fixed=False
        )
    strays = [path for identity, path in files.items() if identity not in known]
    for path in _collect(registry, strays, fix=fix):
        yield Problem(f"{path} belongs to no name, and nobody holds it", fixed=fix)
    for _ in _collect(registry, lost, fix=fix, known=True):
        pass


def _collect(
    registry: Registry, paths: list[str], *, fix: bool, known: bool = False
) -> Iterator[str]:
    """Remove (if `fix`) and yield those files that no row knows and nobody holds, in batches.

    See `reaper.collect_files` for those that a row knew until now (`known`).
    """
    doomed = reaper.Doomed()
    while paths:
        try:
            with registry.database.transact() as tx:
                reaper.collect_files(tx, paths, doomed, known=known)
            found, full = doomed.paths, doomed.full
            if fix:
                doomed.execute()
        finally:
            doomed.spare()
        yield from found
        paths = paths[paths.index(found[-1]) + 1 :] if full else []


def _examine(row: SegmentRow, directory: Directory, files: dict[str, str]) -> str:
    """Return what is wrong with a segment's file; '' if nothing is."""
    if row.kind not in rows.KINDS:
        return ""  # a newer jshm can tell
    if row.unlinked:
        return f"released segment {row.id} still has a file" if row.id in files else ""
    if row.id not in files:
        return f"the file of segment {row.id} is gone"
    path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
    try:
        with segment.shared(path) as (fd, _):
            layout = layout_in(fd, row.kind)
            implied = SegmentRow.of(row.id, layout, overflow=row.overflow, writable=row.writable)
            if implied != row._replace(
                overflow=bool(row.overflow), writable=bool(row.writable), unlinked=False
            ):
                found = _read_segment(row.id, path, overflow=row.overflow)
                if found is not None and found.entries:
                    raise rows.damaged(f"segment {row.id} is whole, and not what its row says")
                return f"segment {row.id} does not hold what the registry says"
    except CorruptRegistryError:
        raise
    except FormatVersionError:
        return ""  # a newer jshm can tell
    except JshmError as error:
        return f"segment {row.id}: {error}"
    return ""


def _compare_references(tx: Transaction, *, fix: bool) -> Iterator[tuple[str, Problem]]:
    """Find what refers to segments that are gone: it can never be attached."""
    broken = "SELECT DISTINCT segment FROM refs WHERE needs NOT IN (SELECT id FROM segments)"
    seen: set[str] = set()
    while found := [row[0] for row in tx.execute(broken) if row[0] not in seen]:
        for segment_id in found:
            seen.add(segment_id)
            names = " = ".join(f"{e.name} v{e.version}" for e in rows.entries_in(tx, segment_id))
            if names:
                if fix:
                    rows.forget_lost_segment(tx, segment_id)
                yield segment_id, Problem(f"{names} refers to memory that is gone", fixed=fix)


def _compare_rows(tx: Transaction, *, fix: bool) -> Iterator[Problem]:
    for what, condition, table in (
        ("a version", "segment NOT IN (SELECT id FROM segments)", "versions"),
        ("a version", "name NOT IN (SELECT name FROM names)", "versions"),
        ("a version", "lease NOT IN (SELECT id FROM leases)", "versions"),
        ("a reference", "segment NOT IN (SELECT id FROM segments)", "refs"),
        ("a reference", "needs NOT IN (SELECT id FROM segments)", "refs"),
    ):
        for (count,) in tx.execute(f"SELECT count(*) FROM {table} WHERE {condition}"):  # noqa: S608
            if count:
                yield Problem(f"{count} × {what} without what it belongs to", fixed=fix)
                if fix:
                    tx.execute(f"DELETE FROM {table} WHERE {condition}")  # noqa: S608
    orphan = (
        "current NOT NULL AND NOT EXISTS (SELECT 1 FROM versions v "
        "WHERE v.name = names.name AND v.version = names.current)"
    )
    for (name,) in tx.execute(f"SELECT name FROM names WHERE {orphan}"):  # noqa: S608
        yield Problem(f"{name} has no version that it could be attached by", fixed=fix)
    if fix:
        tx.execute(f"UPDATE names SET current = NULL WHERE {orphan}")  # noqa: S608


# -- rebuild ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """A segment's file, as it was read."""

    row: SegmentRow
    entries: list[Entry]
    needs: tuple[str, ...]


def rebuild(tx: Transaction, directory: Directory) -> None:
    """Fill a new registry from what segments say of themselves; what is not readable is left out."""
    read = {
        identity: found
        for identity, path in directory.files().items()
        if (found := _read_segment(identity, path, overflow=_is_in(directory.overflow, path)))
    }
    versions: dict[tuple[str, int], Entry] = {}
    kept = [identity for identity, found in read.items() if found.entries]
    for identity in kept:  # grows: what is needed is kept too, if it has no name
        found = read[identity]
        rows.put_segment(tx, found.row, wanted=False)
        kept += [needed for needed in found.needs if needed in read and needed not in kept]
        for entry in found.entries:
            key = entry.name, entry.version
            if key not in versions or versions[key].created < entry.created:
                versions[key] = entry
    for key in sorted(versions):
        entry = versions[key]
        rows.put_identity(tx, entry.lease, entry.identity)
        rows.put_version(tx, entry)
    for identity in kept:
        rows.put_references(tx, identity, [n for n in read[identity].needs if n in read])
    rows.judge(tx, kept)


def _is_in(directory: str, path: str) -> bool:
    return os.path.dirname(path) == directory


def _read_segment(identity: str, path: str, *, overflow: bool) -> _Found | None:
    """Return a segment and its versions, or None for one that is no finished segment of ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        layout = layout_in(fd, "array" if path.endswith(ARRAY) else "object")
        records = read_records(fd, layout.records)
        # A file in the making has no magic yet, or no record: who has this one locked is a prober,
        # for microseconds, or about to remove it.
        with contextlib.suppress(RegistryTimeout):
            segment.lock(fd, fcntl.LOCK_SH, _REBUILD_LOCK)
        if not os.fstat(fd).st_nlink:
            return None
        writable = isinstance(layout, ArrayLayout) and any(r.get("writable") for r in records)
        row = SegmentRow.of(identity, layout, overflow=overflow, writable=writable)
        entries = [_entry(content, row) for content in records]
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
    return _Found(row, entries, layout.references if isinstance(layout, ObjectLayout) else ())


def _storable(text: object) -> str:
    """Return text that SQLite takes; UnicodeEncodeError, a ValueError, of half a surrogate pair."""
    str(text).encode()
    return str(text)


def _check_identity(who: Identity) -> None:
    """Raise ValueError unless every field of what was read is of its type."""
    texts = [value for name, value in asdict(who).items() if name not in ("pid", "session")]
    numbers = [who.pid, who.session.pid]
    if (
        not all(isinstance(text, str) for text in [*texts, who.session.start])
        or not all(type(number) is int and 0 <= number < _MAX_PID for number in numbers)
        or not isinstance(who.session.kind, str)
    ):
        raise ValueError("not an identity")


def _entry(content: dict[str, Any], row: SegmentRow) -> Entry:
    if content["jshm"] > rows.FORMAT:
        raise ValueError("written by a newer jshm")
    version, created = int(content["version"]), float(content["created"])
    if not (0 < version < _MAX_VERSION and math.isfinite(created)):
        raise ValueError(f"version {version} of {created}")
    identity = json.dumps(content["identity"], ensure_ascii=False, separators=(",", ":"))
    _check_identity(Identity.from_json(identity))
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
        identity=_storable(identity),
        segment=row,
    )
