"""What comes back after the directory was deleted under live processes.

systemd's ``RemoveIPC`` does that at logout, and so does ``rm -r``. The files have no names any more, but
whoever has a segment mapped still has its bytes, and a connection to the deleted registry still reads
what it said. Each process writes anew what *it* has mapped, when it next uses jshm; what nobody has
mapped is gone. It is a copy: the kernel gives a deleted file no second name (linkat(2), ENOENT).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import warnings
from typing import TYPE_CHECKING

from ...errors import CorruptSegmentError, DirectoryLostWarning, JshmError, RegistryError, outside
from ...segment import file as segment
from ...segment.object_layout import parse_object
from ...system import signals as interrupts
from . import collect as reaper
from . import new_segment as drafts
from . import rebuild as rebuilding
from .registry import rows
from .space import Room

if TYPE_CHECKING:
    from ...system.directories import File
    from .directory import Directory
    from .process import Presence
    from .registry.database import Transaction
    from .registry.registry import Lost, Registry
    from .registry.rows import Entry, SegmentRow

# Seconds for another process to bring something back: some gigabytes.
_PATIENCE = 60.0
# Attempts to write a file that another process writes too, and gives up.
_ATTEMPTS = 10
# So many names are named in a warning.
_SHOWN = 10


def recover(presence: Presence, registry: Registry, directory: Directory) -> bool:
    """Bring back what this process still has of a registry that was deleted, and say what came of it.

    Returns
    -------
    bool
        Whether anything was brought back, here or by another process meanwhile.
    """
    lost, registry.lost = registry.lost, None
    if lost is None:
        return False
    recovery = Recovery(presence, registry, directory, lost)
    try:
        recovery.keep_counting()
        recovery.restore()
    except BaseException:  # Ctrl-C, no time, no room: it is still mapped, and the next use goes on
        registry.lost = lost
        raise
    recovery.explain()
    return bool(recovery.restored) or recovery.awaited


def readmit(registry: Registry, directory: Directory) -> None:
    """Register what was published, and what the registry that is there now does not know."""
    # A read must not fail because of what could be better; the next reaping tries it again.
    with contextlib.suppress(JshmError, OSError):
        unknown = reaper.unregistered(directory, registry, ())
        if lost := rebuilding.find_lost(unknown, directory):
            with registry.database.transact() as tx:
                rebuilding.readmit_lost(tx, directory, lost)


class Recovery:
    """What one process brings back.

    Attributes
    ----------
    restored : list of str
        Names.
    awaited : bool
        Whether another process brought something back meanwhile.
    refused : list of str
        Why names that could have come back did not.
    """

    def __init__(
        self, presence: Presence, registry: Registry, directory: Directory, lost: Lost
    ) -> None:
        self._presence = presence
        self._registry = registry
        self._directory = directory
        self._lost = lost
        self.restored: list[str] = []
        self.awaited = False
        self.refused: list[str] = []

    def keep_counting(self) -> None:
        """Let version numbers go on where they were, also those of names that were released.

        Before that, what is whole is registered again.
        """
        with self._presence.transaction() as (tx, _):
            # Their files may be there still, and need not be written anew.
            current = {entry.segment.id for entry in self._lost.current}
            rebuilding.readmit(tx, self._directory, current)
            rebuilding.keep_counting(tx, self._lost.last)

    def restore(self) -> None:
        """Write anew what had a name and is mapped here, with what it refers to."""
        lost: dict[str, list[Entry]] = {}
        for entry in self._lost.current:
            lost.setdefault(entry.segment.id, []).append(entry)
        # Of thousands, most are there again, with their files: they cost no transaction each.
        there = {(entry.name, entry.version) for entry in self._registry.everything()}
        # What refers to others is newer than they are.
        for entries in sorted(lost.values(), key=lambda entries: entries[0].created):
            names = [entry.name for entry in entries]
            try:
                if not there.issuperset((entry.name, entry.version) for entry in entries):
                    self.restored += names if self._bring_back_once(entries) else []
            except (JshmError, OSError) as error:
                self.refused.append(f"{', '.join(names)}: {error}")
            # Who attaches it here from now on has the new file, and holds it.
            self._presence.mappings.forget(entries[0].segment.id)

    def _bring_back_once(self, entries: list[Entry]) -> bool:
        """Restore all names of a segment; tell whether it was this process that did, and no other."""
        path = ""
        for _ in range(_ATTEMPTS):
            interrupts.check()
            try:
                return self._bring_back(entries)
            except FileExistsError as error:
                path = error.filename
                with contextlib.suppress(FileNotFoundError):  # it was given up
                    self._await(path)
            if self._registry.segment(entries[0].segment.id) is not None:
                self.awaited = True
                return False
        raise RegistryError(
            f"{path} is there, is not what was shared, and is held by "
            f"{', '.join(self._holders(entries[0])) or 'a process that jshm does not know'}"
        )

    def _holders(self, entry: Entry) -> list[str]:
        there = self._presence.holders().get(entry.segment.id, ())
        return ["this process" if holder.here else holder.label for holder in there]

    def _await(self, path: File) -> None:
        """Wait for whoever makes a file: he has it locked until it is registered, or given up."""
        fd = segment.open_locked(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            segment.lock(fd, fcntl.LOCK_SH, _PATIENCE)
        finally:
            segment.close(fd)
        with self._presence.transaction() as (tx, doomed):
            reaper.collect_files(tx, self._directory, [path], doomed)  # if its maker was killed

    def _bring_back(self, entries: list[Entry]) -> bool:
        """Restore all names of a segment, if they are not there; tell whether that was so.

        FileExistsError if another process is at it.
        """
        rows_missing = self._missing(entries[0].segment)
        if not all(self._presence.mappings.is_mapped(row.id) for row in rows_missing):
            return False
        making: list[drafts.Draft] = []
        try:
            for row in rows_missing:
                making.append(self._copy(row))
            with self._presence.transaction() as (tx, _):
                missed = [entry for entry in entries if _is_missed(tx, entry)]
                if missed:
                    self._register(tx, making, missed)
        finally:
            for draft in making:
                draft.discard()
        return bool(missed)

    def _missing(self, row: SegmentRow) -> list[SegmentRow]:
        """Return the segments to be written for one to be there again, what it refers to first."""
        needs = [self._lost.segments[needed] for needed in self._lost.needs.get(row.id, ())]
        return [one for one in [*needs, row] if self._registry.segment(one.id) is None]

    def _copy(self, row: SegmentRow) -> drafts.Draft:
        """Write a segment anew, under its old id: who refers to it finds it again."""
        mapping = self._presence.mappings.find(row.id)
        if mapping is None:
            raise CorruptSegmentError(
                "what is attached here was changed, and is not what was shared"
            )
        content = segment.view(mapping)
        layout = row.layout if row.kind == "array" else parse_object(segment.memory(mapping))
        if content[: layout.offset].tobytes()[: len(layout.header)] != layout.header:
            raise CorruptSegmentError("what is attached here is not what the registry said")
        return drafts.restore(
            Room(self._directory, self._registry, self._presence.spares, self._presence.reclaim),
            layout,
            row.id,
            content,
        )

    def _register(self, tx: Transaction, making: list[drafts.Draft], entries: list[Entry]) -> None:
        own = entries[0].segment
        for draft in making:
            row = rows.with_writable(draft.row, writable=self._lost.segments[draft.row.id].writable)
            records = [rows.metadata(entry) for entry in entries] if row.id == own.id else []
            draft.offer()
            rows.put_segment(tx, row, wanted=False)
            draft.finish(row, records)
            tx.on_commit(draft.confirm)
            tx.on_commit(draft.close)
        rows.put_references(tx, own.id, self._lost.needs.get(own.id, ()))
        for entry in entries:
            rows.put_identity(tx, entry.lease, entry.identity)
            rows.put_version(tx, entry)
        superseded = [other.segment.id for e in entries for other in rows.entries_of(tx, e.name)]
        rows.judge(tx, dict.fromkeys([own.id, *superseded]))

    def explain(self) -> None:
        """Warn, if this process has to do with what was lost."""
        me = self._presence.identity
        mine = {e.name: e for e in self._lost.current if me.owns(e.publisher)}
        there = {entry.name: entry for entry in self._registry.everything() if entry.is_current}
        gone = [name for name in mine if name not in there]
        older = [
            f"{name} v{mine[name].version} (it is v{entry.version} now)"
            for name, entry in there.items()
            if name in mine and entry.created < mine[name].created
        ]
        if not (self.restored or self.refused or gone or older):
            return
        root = self._directory.root
        why = "systemd does that at logout: `loginctl enable-linger` prevents it"
        parts = [f"{root} was deleted or replaced while it was in use ({why})"]
        if self.restored:
            parts.append(f"Back, from what is attached here: {_shown(self.restored)}")
        if gone:
            parts.append(f"Gone, unless another notebook has it attached: {_shown(gone)}")
        if older:
            parts.append(
                f"Older now, unless another notebook has the newer one attached: {_shown(older)}"
            )
        parts += [f"Could not be brought back: {reason}" for reason in self.refused]
        warnings.warn(". ".join(parts), DirectoryLostWarning, stacklevel=outside())


def _is_missed(tx: Transaction, entry: Entry) -> bool:
    """Tell whether a name is not there, neither this version nor one that was published since."""
    if any(other.version == entry.version for other in rows.entries_of(tx, entry.name)):
        return False
    return all(other.created < entry.created for other in rows.current(tx, [entry.name]))


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
