"""Bring back names after the directory was deleted under live processes.

systemd's ``RemoveIPC`` deletes it at logout, and so does ``rm -r``. The files have no names any more, but a
process that has a segment mapped still has its bytes, and a connection to the deleted registry still reads
its rows. Each process writes again what *it* has mapped, with its next operation; what no process has
mapped is lost. It has to be a copy: a deleted file cannot get a second name (linkat(2), ENOENT).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import warnings
from typing import TYPE_CHECKING

from ...errors import CorruptSegmentError, DirectoryLostWarning, JshmError, RegistryError, outside
from ...segment import file as segment_file
from ...segment.object_layout import parse_object
from ...system import file_locks, signals
from ...text import listed
from . import collect, new_segment, rebuild
from .registry import rows
from .registry.registry import Repair
from .space import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...system.directories import File
    from .directory import Directory
    from .process import Process
    from .registry.registry import Registry, Removed
    from .registry.rows import Entry, SegmentRow
    from .registry.statements import Transaction

# Seconds to wait for another process that restores a segment: enough for some gigabytes.
_PATIENCE = 60.0
# Attempts to write a file that another process writes at the same time and gives up.
_ATTEMPTS = 10
# A warning names at most this many names.
_SHOWN = 10


@signals.deferred()  # as everything that writes segments
def recover(process: Process, registry: Registry, directory: Directory) -> bool:
    """Restore what this process still has of a deleted registry, and warn about the rest.

    Returns
    -------
    bool
        Whether anything was restored, by this process or meanwhile by another one.
    """
    lost, registry.removed = registry.removed, None
    if lost is None:
        return False
    recovery = Recovery(process, registry, directory, lost)
    try:
        recovery.restore_counters()
        recovery.restore()
    except BaseException:  # Ctrl-C, a timeout, a full disk: the next operation continues
        registry.removed = lost
        raise
    recovery.warn()
    return bool(recovery.restored) or recovery.awaited


class SegmentRepair(Repair):
    """Brings a registry into line with the segments in a store's directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def rebuild(self, tx: Transaction, last: Mapping[str, int]) -> None:
        rebuild.rebuild(tx, self._directory, last)

    def register_missing(self, registry: Registry) -> None:
        # A read must not fail because of this; the next collection tries again.
        with contextlib.suppress(JshmError, OSError):
            unknown = collect.unregistered(self._directory, registry, ())
            if lost := rebuild.find_lost(unknown, self._directory):
                with registry.transact() as tx:
                    rebuild.register_lost(tx, self._directory, lost)


class Recovery:
    """The recovery by one process.

    Attributes
    ----------
    restored : list of str
        Names.
    awaited : bool
        Whether another process restored something meanwhile.
    refused : list of str
        For names that could not be restored: why.
    """

    def __init__(
        self, process: Process, registry: Registry, directory: Directory, lost: Removed
    ) -> None:
        self._process = process
        self._registry = registry
        self._directory = directory
        self._lost = lost
        self.restored: list[str] = []
        self.awaited = False
        self.refused: list[str] = []

    def restore_counters(self) -> None:
        """Register the segments that still have files, and continue all version numbers."""
        with self._process.transaction() as (tx, _):
            current = {entry.segment.id for entry in self._lost.current}
            rebuild.register(tx, self._directory, current)
            rebuild.restore_counters(tx, self._lost.last)

    def restore(self) -> None:
        """Write again what had a name and is mapped here, with what it refers to."""
        lost: dict[str, list[Entry]] = {}
        for entry in self._lost.current:
            lost.setdefault(entry.segment.id, []).append(entry)
        # One read, instead of a transaction for each of the many that still have files.
        there = {(entry.name, entry.version) for entry in self._registry.everything()}
        # The oldest first: a segment is newer than those that it refers to.
        for entries in sorted(lost.values(), key=lambda entries: entries[0].created):
            names = [entry.name for entry in entries]
            try:
                if not there.issuperset((entry.name, entry.version) for entry in entries):
                    self.restored += names if self._restore_once(entries) else []
            except (JshmError, OSError) as error:
                why = error.message if isinstance(error, JshmError) else error
                self.refused.append(f"{', '.join(names)}: {why}")
            # From now on an attach maps the new file, and holds it.
            self._process.mappings.forget(entries[0].segment.id)

    def _restore_once(self, entries: list[Entry]) -> bool:
        """Restore all names of a segment; return whether this process did it, and not another one."""
        path = ""
        for _ in range(_ATTEMPTS):
            signals.check()
            try:
                return self._restore_segment(entries)
            except FileExistsError as error:
                path = error.filename
                with contextlib.suppress(FileNotFoundError):  # the other process gave up
                    self._await(path)
            if self._registry.segment(entries[0].segment.id) is not None:
                self.awaited = True
                return False
        raise RegistryError(
            f"{path} exists, is not the segment that was shared, and is held by "
            f"{', '.join(self._holders(entries[0])) or 'an unknown process'}"
        )

    def _holders(self, entry: Entry) -> list[str]:
        there = self._process.holders().get(entry.segment.id, ())
        return ["this process" if holder.here else holder.label for holder in there]

    def _await(self, path: File) -> None:
        """Wait for another process that writes a file; it keeps the file locked until it is done."""
        fd = file_locks.open_locked(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            file_locks.lock(fd, fcntl.LOCK_SH, _PATIENCE)
        finally:
            file_locks.close(fd)
        with self._process.transaction() as (tx, removals):
            collect.files(tx, self._directory, [path], removals)  # if the other one was killed

    def _restore_segment(self, entries: list[Entry]) -> bool:
        """Restore all names of a segment that are missing; return whether any were.

        Raises
        ------
        FileExistsError
            Another process is doing it.
        """
        rows_missing = self._missing(entries[0].segment)
        if not all(self._process.mappings.is_mapped(row.id) for row in rows_missing):
            return False
        making: list[new_segment.NewSegment] = []
        try:
            for row in rows_missing:
                making.append(self._copy(row))
            with self._process.transaction() as (tx, _):
                missed = [entry for entry in entries if _is_missed(tx, entry)]
                if missed:
                    self._register(tx, making, missed)
        finally:
            for new in making:
                new.discard()
        return bool(missed)

    def _missing(self, row: SegmentRow) -> list[SegmentRow]:
        """Return the segments to write for one segment, those that it refers to first."""
        needs = [self._lost.segments[needed] for needed in self._lost.references.get(row.id, ())]
        return [one for one in [*needs, row] if self._registry.segment(one.id) is None]

    def _copy(self, row: SegmentRow) -> new_segment.NewSegment:
        """Write a segment again, under its old id, so that references to it work again."""
        mapping = self._process.mappings.find(row.id)
        if mapping is None:
            raise CorruptSegmentError("the mapping here was changed, and is not what was shared")
        content = segment_file.view(mapping)
        layout = row.layout if row.kind == "array" else parse_object(segment_file.memory(mapping))
        if content[: layout.offset].tobytes()[: len(layout.header)] != layout.header:
            raise CorruptSegmentError("the mapping here does not match the registry's row")
        return new_segment.restore(
            Budget(self._directory, self._registry, self._process.spares, self._process.reclaim),
            layout,
            row.id,
            content,
        )

    def _register(
        self, tx: Transaction, making: list[new_segment.NewSegment], entries: list[Entry]
    ) -> None:
        segment = entries[0].segment
        for new in making:
            writable = self._lost.segments[new.row.id].writable
            new.row = new.row._replace(writable=writable)
            named = entries if new.row.id == segment.id else []
            new.register(tx, [rows.trailer_record(entry) for entry in named], wanted=False)
            tx.on_commit(new.confirm)
        tx.add_references(segment.id, self._lost.references.get(segment.id, ()))
        for entry in entries:
            tx.add_lease(entry.lease, entry.identity)
            tx.add_version(entry)
        superseded = [other.segment.id for e in entries for other in tx.versions(e.name)]
        tx.mark_wanted(dict.fromkeys([segment.id, *superseded]))

    def warn(self) -> None:
        """Warn about the loss, if names of this notebook or mappings of this process are concerned."""
        me = self._process.identity
        mine = {e.name: e for e in self._lost.current if me.owns(e.publisher)}
        there = {entry.name: entry for entry in self._registry.everything() if entry.is_current}
        gone = [name for name in mine if name not in there]
        older = [
            f"{name} v{mine[name].version} (now v{entry.version})"
            for name, entry in there.items()
            if name in mine and entry.created < mine[name].created
        ]
        if not (self.restored or self.refused or gone or older):
            return
        root = self._directory.root
        why = "systemd does that at logout: `loginctl enable-linger` prevents it"
        parts = [f"{root} was deleted or replaced while it was in use ({why})"]
        if self.restored:
            parts.append(f"Restored from what is attached here: {listed(self.restored, _SHOWN)}")
        if gone:
            parts.append(f"Lost, unless another notebook has it attached: {listed(gone, _SHOWN)}")
        if older:
            parts.append(
                f"Older now, unless another notebook has the newer version attached: {listed(older, _SHOWN)}"
            )
        parts += [f"Could not be restored: {reason}" for reason in self.refused]
        warnings.warn(". ".join(parts), DirectoryLostWarning, stacklevel=outside())


def _is_missed(tx: Transaction, entry: Entry) -> bool:
    """Return whether a name is missing: neither this version nor a later one exists."""
    if any(other.version == entry.version for other in tx.versions(entry.name)):
        return False
    return all(other.created < entry.created for other in tx.current([entry.name]))
