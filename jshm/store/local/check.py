"""What the files say against what the registry says: `check` for doubts."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from ...errors import CorruptRegistryError, FormatVersionError, JshmError, UnsafeDirectoryError
from ...segment import file as segment
from ...system.directories import File, remove, rename
from ..base import Problem
from . import collect as reaper
from .new_segment import layout_in
from .rebuild import find_lost, keep_counting, read_segment
from .registry import files as dbfiles
from .registry import offer_rows, rows
from .registry.rows import SegmentRow
from .spares import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .directory import Directory
    from .registry.database import Transaction
    from .registry.registry import Registry


def check(registry: Registry, directory: Directory, *, fix: bool) -> list[Problem]:
    """Compare rows and files both ways; mend what does not fit if `fix`.

    A registry that cannot be read, or contradicts itself, is put aside and rebuilt from the segments.
    """
    try:
        found = list(_contradictions(registry, directory))
    except CorruptRegistryError as error:
        found = [str(error)]
    if found and fix:
        _begin_anew(registry, directory)
    problems = [Problem(what, fixed=fix) for what in found]
    try:
        return [*problems, *_compare(registry, directory, fix=fix)]
    except CorruptRegistryError as error:
        if found:  # it was said
            return problems
        if not fix:
            raise
        _begin_anew(registry, directory)  # it can be read, and not be written
        return [Problem(str(error), fixed=True), *_compare(registry, directory, fix=True)]


def _begin_anew(registry: Registry, directory: Directory) -> None:
    """Rebuild a damaged registry; what can still be read of its version numbers goes on."""
    last: dict[str, int] = {}
    with contextlib.suppress(JshmError):
        last = dict(registry.database.read("SELECT name, last FROM names"))
    _put_aside(registry, directory)
    registry.names()  # opens, and so rebuilds
    with registry.database.transact() as tx:
        keep_counting(tx, last)


def _put_aside(registry: Registry, directory: Directory) -> None:
    """Rename a damaged registry; only the newest is kept, they take memory."""
    registry.database.close()
    path = directory.registry_file
    aside = f"{path.name}.damaged-"
    dbfiles.clear(path, *dbfiles.BESIDE, dbfiles.JOURNAL)
    for name in path.place.names():
        if name.startswith(aside):
            with contextlib.suppress(OSError):
                remove(File(path.place, name))
    rename(path, File(path.place, f"{aside}{time.time_ns()}"))


# What no transaction leaves: what it is, and a query for how many, or for the names.
_IMPOSSIBLE = {
    "{} × a version without what it belongs to": """
        SELECT count(*) FROM versions WHERE segment NOT IN (SELECT id FROM segments)
        OR name NOT IN (SELECT name FROM names) OR lease NOT IN (SELECT id FROM leases)""",
    "{} has no version that it could be attached by": """
        SELECT name FROM names n WHERE current NOT NULL AND NOT EXISTS
        (SELECT 1 FROM versions v WHERE v.name = n.name AND v.version = n.current)""",
    "{} has a newer version than its last one": """
        SELECT name FROM names n WHERE typeof(last) <> 'integer' OR last <
        (SELECT max(version) FROM versions v WHERE v.name = n.name)""",
    "{} can be attached, and its memory was released": """
        SELECT n.name FROM names n JOIN versions v ON v.name = n.name AND v.version = n.current
        JOIN segments s ON s.id = v.segment WHERE s.unlinked""",
}


def _contradictions(registry: Registry, directory: Directory) -> Iterator[str]:
    """Say what in the registry cannot be true. Who wrote that is unknown, so nothing of it counts.

    Raises
    ------
    CorruptRegistryError
        It cannot even be read.
    """
    damage = registry.database.read("PRAGMA quick_check(1)")
    if damage and damage[0][0] != "ok":
        raise CorruptRegistryError(f"the registry is damaged: {damage[0][0]}")
    with registry.database.transact() as tx:
        for text in rows.all_leases(tx).values():
            rows.identity_of(text)
        offer_rows.recipients(tx)
        for what, sql in _IMPOSSIBLE.items():
            for (found,) in tx.execute(sql):
                if found:
                    yield what.format(found)
        yield from _denied(tx, directory)
        known = {row.id for row in rows.all_segments(tx)}
        strays = [path for identity, path in directory.files().items() if identity not in known]
        for path in find_lost(strays, directory):
            yield f"{path} was published, and the registry does not know it"


def _denied(tx: Transaction, directory: Directory) -> Iterator[str]:
    """Say which rows whole segments deny."""
    files = directory.files()
    said: dict[tuple[str, int], set[str]] = {}
    known = {row.id: row for row in rows.all_segments(tx) if not row.unlinked}
    references = rows.all_references(tx)
    for row in known.values():
        path = files.get(row.id, "")
        found = read_segment(row.id, path, directory)
        if found is None or not found.entries:
            continue
        needs, refers = set(found.needs), references.get(row.id, set())
        if (
            found.row
            != row._replace(
                overflow=bool(row.overflow), writable=found.row.writable, unlinked=False
            )
            or not needs & known.keys() <= refers <= needs
        ):
            yield f"segment {row.id} is whole, and not what its row says"
        for entry in found.entries:
            said.setdefault((entry.name, entry.version), set()).add(entry.own)
    for entry in rows.everything(tx):
        if entry.own not in said.get((entry.name, entry.version), {entry.own}):
            yield f"{entry.name} v{entry.version} is in another segment than its row says"


def _compare(registry: Registry, directory: Directory, *, fix: bool) -> Iterator[Problem]:
    lost: list[File] = []
    refused = ""
    try:
        directory.check_overflow()
    except UnsafeDirectoryError as error:
        refused = str(error)
    with registry.database.transact() as tx:
        files = directory.files()
        known = {row.id: row for row in rows.all_segments(tx)}
        if refused and any(row.overflow for row in known.values()):
            yield Problem(refused, fixed=False)
        for row in known.values():
            if row.overflow and refused:
                continue  # what cannot be looked into is not gone
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
    kept = listed(directory).keys()
    strays = [path for identity, path in files.items() if identity not in known.keys() | kept]
    for path in _collect(registry, directory, strays, fix=fix):
        yield Problem(f"{path} belongs to no name, and nobody holds it", fixed=fix)
    for _ in _collect(registry, directory, lost, fix=fix, known=True):
        pass


def _collect(
    registry: Registry,
    directory: Directory,
    paths: Sequence[File],
    *,
    fix: bool,
    known: bool = False,
) -> Iterator[str]:
    """Remove (if `fix`) and yield those files that no row knows and nobody holds, in batches.

    See `reaper.collect_files` for those that a row knew until now (`known`).
    """
    doomed = reaper.Doomed()
    while paths:
        try:
            with registry.database.transact() as tx:
                reaper.collect_files(tx, directory, paths, doomed, known=known)
            found, full = doomed.paths, doomed.full
            if fix:
                doomed.execute()
        finally:
            doomed.give_up()
        yield from found
        paths = paths[paths.index(found[-1]) + 1 :] if full else []


def _examine(row: SegmentRow, directory: Directory, files: Mapping[str, str]) -> str:
    """Return what is wrong with a segment's file; '' if nothing is."""
    if row.kind not in rows.KINDS:
        return ""  # a newer jshm can tell
    if row.unlinked:
        return f"released segment {row.id} still has a file" if row.id in files else ""
    if row.id not in files:
        return f"the file of segment {row.id} is gone"
    path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
    try:
        with segment.shared(path, directory.access) as (fd, _):
            layout = layout_in(fd, row.kind)
            implied = SegmentRow.of(row.id, layout, overflow=row.overflow, writable=row.writable)
            if implied != row._replace(
                overflow=bool(row.overflow), writable=bool(row.writable), unlinked=False
            ):
                return f"segment {row.id} does not hold what the registry says"
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
    lonely = """refs WHERE segment NOT IN (SELECT id FROM segments)
                        OR needs NOT IN (SELECT id FROM segments)"""
    for (count,) in tx.execute(f"SELECT count(*) FROM {lonely}"):  # noqa: S608
        if count:
            yield Problem(f"{count} × a reference without what it belongs to", fixed=fix)
    misjudged = rows.misjudged(tx)
    if misjudged:
        yield Problem(
            f"{len(misjudged)} × a segment that is marked as if not wanted, or wanted", fixed=fix
        )
    if fix:
        tx.execute(f"DELETE FROM {lonely}")  # noqa: S608
        # Asked again: one of these references may have been all that needed a segment.
        rows.judge(tx, rows.misjudged(tx))
