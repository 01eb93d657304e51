"""The consistency check: compares rows and files both ways, and repairs them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from ...errors import CorruptRegistryError, FormatVersionError, JshmError, UnsafeDirectoryError
from ...segment import file as segment_file
from ...system.directories import File, remove, rename
from ..base import Problem
from . import collect
from .new_segment import layout_in
from .rebuild import find_lost, read_segment, restore_counters
from .registry import rows
from .registry.files import BESIDE, JOURNAL, clear
from .registry.rows import SegmentRow
from .spares import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .directory import Directory
    from .registry.registry import Registry
    from .registry.statements import Transaction


def check(registry: Registry, directory: Directory, *, fix: bool) -> list[Problem]:
    """Compare rows and files both ways; repair the differences if `fix`.

    A registry that cannot be read, or that contradicts itself, is put aside and rebuilt from the segments.
    """
    try:
        found = list(_contradictions(registry, directory))
    except CorruptRegistryError as error:
        found = [error.message]
    if found and fix:
        _rebuild(registry, directory)
    problems = [Problem(what, fixed=fix) for what in found]
    try:
        return [*problems, *_compare(registry, directory, fix=fix)]
    except CorruptRegistryError as error:
        if found:  # the same damage, reported already
            return problems
        if not fix:
            raise
        _rebuild(registry, directory)  # it can be read, but not written
        return [Problem(error.message, fixed=True), *_compare(registry, directory, fix=True)]


def _rebuild(registry: Registry, directory: Directory) -> None:
    """Rebuild a damaged registry; version numbers that can still be read continue."""
    last: dict[str, int] = {}
    with contextlib.suppress(JshmError):
        last = registry.last_numbers()
    _put_aside(registry, directory)
    registry.names()  # opens the new registry, and that rebuilds it
    with registry.transact() as tx:
        restore_counters(tx, last)


def _put_aside(registry: Registry, directory: Directory) -> None:
    """Rename a damaged registry. Only the newest one is kept, because they take memory."""
    registry.close()
    path = directory.registry_file
    aside = f"{path.name}.damaged-"
    clear(path, *BESIDE, JOURNAL)
    for name in path.directory.names():
        if name.startswith(aside):
            with contextlib.suppress(OSError):
                remove(File(path.directory, name))
    rename(path, File(path.directory, f"{aside}{time.time_ns()}"))


def _contradictions(registry: Registry, directory: Directory) -> Iterator[str]:
    """Yield what in the registry cannot be true. Its cause is unknown, so the whole registry is distrusted.

    Raises
    ------
    CorruptRegistryError
        The registry cannot be read.
    """
    registry.check_integrity()
    with registry.transact() as tx:
        for text in tx.leases().values():
            rows.parse_identity(text)
        tx.recipients()
        yield from tx.contradictions()
        yield from _denied(tx, directory)
        known = {row.id for row in tx.segments()}
        strays = [path for identity, path in directory.files().items() if identity not in known]
        for path in find_lost(strays, directory):
            yield f"{path} was published, but has no row in the registry"


def _denied(tx: Transaction, directory: Directory) -> Iterator[str]:
    """Yield the rows that complete segments contradict."""
    files = directory.files()
    said: dict[tuple[str, int], set[str]] = {}
    known = {row.id: row for row in tx.segments() if not row.unlinked}
    references = tx.references()
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
            yield f"segment {row.id} is complete, but does not match its row"
        for entry in found.entries:
            said.setdefault((entry.name, entry.version), set()).add(entry.value_id)
    for entry in tx.everything():
        if entry.value_id not in said.get((entry.name, entry.version), {entry.value_id}):
            yield f"{entry.name} v{entry.version} is in another segment than in its row"


def _compare(registry: Registry, directory: Directory, *, fix: bool) -> Iterator[Problem]:
    lost: list[File] = []
    refused = ""
    try:
        directory.check_overflow()
    except UnsafeDirectoryError as error:
        refused = error.message
    with registry.transact() as tx:
        files = directory.files()
        known = {row.id: row for row in tx.segments()}
        if refused and any(row.overflow for row in known.values()):
            yield Problem(refused, fixed=False)
        for row in known.values():
            if row.overflow and refused:
                continue  # the directory cannot be read, so the file may exist
            problem = _examine(row, directory, files)
            if problem:
                if fix:
                    tx.forget_broken_segment(row.id)
                    lost += [files[row.id]] if row.id in files else []
                yield Problem(problem, fixed=fix)
        for segment_id, found in _compare_references(tx, fix=fix):
            lost += [files[segment_id]] if fix and segment_id in files else []
            yield found
        yield from _compare_rows(tx, fix=fix)
    for path in directory.foreign():
        yield Problem(
            f"{path} is not a segment. jshm did not create it and does not remove it: remove it",
            fixed=False,
        )
    spares = listed(directory).keys()
    strays = [path for identity, path in files.items() if identity not in known.keys() | spares]
    for path in _collect(registry, directory, strays, fix=fix):
        yield Problem(f"{path} belongs to no name, and no process holds it", fixed=fix)
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
    """Yield the files without a row that no process holds, and remove them if `fix`; in batches.

    For `known` see `collect.files`.
    """
    removals = collect.Removals()
    while paths:
        try:
            with registry.transact() as tx:
                collect.files(tx, directory, paths, removals, known=known)
            found, full = removals.paths, removals.full
            if fix:
                removals.execute()
        finally:
            removals.cancel()
        yield from found
        paths = paths[paths.index(found[-1]) + 1 :] if full else []


def _examine(row: SegmentRow, directory: Directory, files: Mapping[str, str]) -> str:
    """Return what is wrong with a segment's file; '' if nothing is wrong."""
    if row.kind not in rows.KINDS:
        return ""  # only a newer jshm can check it
    if row.unlinked:
        return f"released segment {row.id} still has a file" if row.id in files else ""
    if row.id not in files:
        return f"the file of segment {row.id} is gone"
    path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
    try:
        with segment_file.opened_shared(path, directory.access) as (fd, _):
            layout = layout_in(fd, row.kind)
            implied = SegmentRow.of(row.id, layout, overflow=row.overflow, writable=row.writable)
            if implied != row._replace(
                overflow=bool(row.overflow), writable=bool(row.writable), unlinked=False
            ):
                return f"segment {row.id} does not match its row in the registry"
    except FormatVersionError:
        return ""  # only a newer jshm can check it
    except JshmError as error:
        return f"segment {row.id}: {error.message}"
    return ""


def _compare_references(tx: Transaction, *, fix: bool) -> Iterator[tuple[str, Problem]]:
    """Yield the segments that refer to segments which are gone: they can never be attached."""
    seen: set[str] = set()
    while found := [one for one in tx.referring_to_missing() if one not in seen]:
        for segment_id in found:
            seen.add(segment_id)
            names = " = ".join(f"{e.name} v{e.version}" for e in tx.of_segment(segment_id))
            if names:
                if fix:
                    tx.forget_broken_segment(segment_id)
                yield segment_id, Problem(f"{names} refers to memory that is gone", fixed=fix)


def _compare_rows(tx: Transaction, *, fix: bool) -> Iterator[Problem]:
    if count := tx.count_dangling_references():
        yield Problem(f"{count} × a reference without its segment", fixed=fix)
    wrong = tx.wrongly_marked()
    if wrong:
        yield Problem(
            f"{len(wrong)} × a segment that is wrongly marked as wanted or unwanted", fixed=fix
        )
    if fix:
        tx.forget_dangling_references()
        # Read again: one of the deleted references may have been the only one to a segment.
        tx.mark_wanted(tx.wrongly_marked())
