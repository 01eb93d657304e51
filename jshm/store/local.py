"""The store of one machine: registry + segments + leases."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
import weakref
from typing import TYPE_CHECKING, Any

from .. import blockers, interrupts, rows, segment
from ..access import PRIVATE
from ..errors import (
    CorruptRegistryError,
    CorruptSegmentError,
    JshmError,
    NoSpaceError,
    RegistryError,
    SegmentNotFoundError,
)
from ..identity import process_start
from ..layout import describe, describe_array
from ..lease import is_alive
from ..lease import signature as lease_signature
from ..object_layout import ObjectLayout
from ..progress import Progress
from ..registry import Registry
from ..workers import after_workers
from . import attaching, checking, inspection, objects, reaper, rebuilding, recovery, releasing
from . import draft as drafts
from .base import Attached, Problem, Published, Released, SegmentInfo, Space, Store
from .directory import Directory
from .listed import Listed, list_segments
from .locks import Lock, file_of
from .names import check_name
from .offers import LocalOffers
from .presence import Presence
from .publishing import Publisher
from .references import World
from .room import capacity, free, quota
from .source import check_array
from .spares import spare_bytes
from .undo import Undo, undo_limit
from .waiting import Newest, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from ..access import Access
    from ..layout import ArrayLayout, Order
    from ..rows import Entry, SegmentRow
    from ..segment import Mode
    from .base import Holder, ObjectDetails
    from .room import Room

REGISTRY_TIMEOUT = 10.0


class LocalStore(Store):
    """The store in one directory, as one process sees it.

    Parameters
    ----------
    root : str
        The directory; see `jshm.store.directory`.
    timeout : float
        Seconds to wait for other processes' transactions.
    access : Access
        Whose it is: this user's, or a Unix group's.
    """

    def __init__(
        self, root: str, timeout: float = REGISTRY_TIMEOUT, access: Access = PRIVATE
    ) -> None:
        self.directory = Directory.open(root, access)
        self.registry = Registry(
            self.directory.registry,
            lambda tx, last: rebuilding.rebuild(tx, self.directory, last),
            timeout,
            self.directory.make_again,
            opened=self._readmit,
            access=access,
        )
        self.presence = Presence(self.directory, self.registry, self._recover)
        self._publisher = Publisher(self)
        self._listed = Listed()
        self._undo = Undo(self.presence, self.registry, self.directory)
        self.offers = LocalOffers(self.presence, self.registry, self.directory, self._info)
        _stores.add(self)

    def _readmit(self) -> None:
        """Register what was published, and what the registry that is there now does not know."""
        # A read must not fail because of what could be better; the next reaping tries it again.
        with contextlib.suppress(JshmError, OSError):
            unknown = reaper.unregistered(self.directory, self.registry, ())
            if rebuilding.find_lost(unknown, self.directory):
                with self.registry.database.transact() as tx:
                    rebuilding.readmit(tx, self.directory)

    def _recover(self) -> bool:
        return recovery.recover(self.presence, self.registry, self.directory)

    # -- publish ---------------------------------------------------------------------------------

    def publish(
        self,
        values: Mapping[str, Any],
        *,
        replace: bool = False,
        keep: bool = False,
        writable: bool = False,
        note: str = "",
        once: str = "",
    ) -> list[Published]:
        return self._publisher.publish(
            values, replace=replace, keep=keep, writable=writable, note=note, once=once
        )

    def require_owner(self, names: Sequence[str], *, replace: bool) -> None:
        """Raise NotOwnerError now if publishing under these names would."""
        self._publisher.require_owner(names, replace=replace)

    # -- attach ----------------------------------------------------------------------------------

    def attach(
        self,
        names: Sequence[str],
        mode: Mode = "r",
        version: int | None = None,
        *,
        trust: bool = False,
    ) -> list[Attached]:
        names = [check_name(name) for name in names]
        versions = None if version is None else [version] * len(names)
        return self._attach(names, mode, versions, trust=trust)

    def attach_published(self, done: Sequence[Published], mode: Mode = "r") -> list[Attached]:
        """Map the very versions that were published, as `attach` does."""
        infos = [published.info for published in done]
        return self._attach(
            [info.name for info in infos], mode, [info.version for info in infos], trust=False
        )

    def _attach(
        self, names: Sequence[str], mode: Mode, versions: Sequence[int] | None, *, trust: bool
    ) -> list[Attached]:
        segment.check_mode(mode)
        seen: list[Entry] = []
        for _ in interrupts.ATTEMPTS:
            interrupts.check()
            entries, world = self._find(names, versions), World()
            # It was deleted: what is mapped here may not be what has the name now.
            if self.registry.lost is not None:
                self.presence.refresh()
                continue
            try:
                opened = attaching.open_all(self, entries, mode, world, trust=trust)
            except SegmentNotFoundError:
                # Replaced between lookup and open: look again. Twice the same: the file is gone.
                if entries == seen:
                    raise CorruptSegmentError(
                        f"the memory of {', '.join(names)} was deleted by something other than "
                        "jshm; `jshm check --fix` forgets what is gone"
                    ) from None
                seen = entries
            else:
                break
        else:
            raise _always_changing(", ".join(names))
        self.presence.tell_holds()
        # Only now: code of an object's own runs, once.
        return attaching.attached(self, entries, opened, world)

    def map(self, row: SegmentRow, mode: Mode) -> segment.Mapping:
        """Map a segment."""
        if row.kind == "object":
            return objects.map_segment(self, row, mode)
        mappings = self.presence.mappings
        return mappings.get(row.id, mode) or mappings.open(
            row.id, self.path_of(row), mode, row.layout
        )

    def attach_segment(self, identity: str, mode: Mode) -> segment.Mapping:
        """Map a segment by its id, with or without a name; SegmentNotFoundError if it is gone.

        Mode ``'r+'`` of a segment that is sealed by now gives ``'r'``.
        """
        row = self.registry.segment(identity)
        if row is None or row.unlinked:
            raise SegmentNotFoundError(f"segment {identity} is gone: it was released")
        if segment.check_mode(mode) == "r+" and not row.writable:
            mode = "r"
        mapping = self.map(row, mode)
        self.presence.tell_holds()
        return mapping

    def _find(self, names: Sequence[str], wanted: Sequence[int] | None) -> list[Entry]:
        if wanted is None:
            entries = self.registry.current(names)
            if len(names) == len(entries) == 1:
                return entries
            found = {entry.name: entry for entry in entries}
        else:
            versions = list(map(self.registry.version, names, wanted))
            found = {e.name: e for e in versions if e is not None and not e.segment.unlinked}
        for i, name in enumerate(names):
            if name not in found:
                if self.presence.refresh():  # it was deleted, and is back
                    return self._find(names, wanted)
                version = None if wanted is None else wanted[i]
                raise SegmentNotFoundError(inspection.missing(self.registry, name, version))
        return [found[name] for name in names]

    def wait(
        self, names: Sequence[str], timeout: float | None, newer_than: int = 0
    ) -> list[SegmentInfo]:
        waiting = self.waiting(names, timeout, newer_than)
        while (found := waiting.look()) is None:
            time.sleep(waiting.pause)
        return found

    def waiting(self, names: Sequence[str], timeout: float | None, newer_than: int = 0) -> Waiting:
        """Return a `wait` to be looked at again and again, by who has other things to do meanwhile."""
        return Waiting(self.newest([check_name(name) for name in names]), timeout, newer_than)

    def newest(self, names: Sequence[str]) -> Newest:
        """Return what tells, again and again, which versions of names are the newest."""
        return Newest(self.registry, names, self._info)

    def lock(self, name: str, *, shared: bool = False, timeout: float | None = None) -> Lock:
        name = check_name(name)
        return self.lock_of(file_of(name), name, shared=shared, timeout=timeout)

    def lock_of(
        self,
        file: str,
        name: str,
        *,
        shared: bool = False,
        timeout: float | None = None,
        waits: Callable[[str], None] | None = None,
    ) -> Lock:
        """Return the lock of that file; see `Lock`."""
        return Lock(
            self.directory, lambda: self.presence.identity, file, name,
            shared=shared, timeout=timeout, waits=waits,
        )  # fmt: skip

    # -- allocate --------------------------------------------------------------------------------

    def allocate(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        order: Order = "C",
        *,
        zero: bool = True,
    ) -> np.ndarray[Any, Any]:
        self.presence.prepare()
        layout = describe(shape, dtype, order)
        with self._publisher.room() as room:
            return self._adopt(layout, drafts.reserve(room, layout, zero=zero), room)

    def copy(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a writable copy of an array in a segment that has no name."""
        check_array(array)
        self.presence.prepare()
        layout = describe_array(array)
        with self._publisher.room() as room, Progress("copy", layout.nbytes):
            return self._adopt(layout, drafts.write_array(room, array, layout), room)

    def _adopt(self, layout: ArrayLayout, draft: drafts.Draft, room: Room) -> np.ndarray[Any, Any]:
        """Register a segment that only its holders keep, and map it."""
        row = rows.with_writable(draft.row, writable=True)
        try:
            mapping = draft.map()
            with self.presence.transaction() as (tx, _):
                room.confirm(tx)
                draft.offer()
                rows.put_segment(tx, row, wanted=False)
                segment.write(draft.fd, 0, [layout.magic])
                draft.unlock()
                tx.on_commit(draft.close)
        except BaseException:
            draft.discard()
            raise
        self.presence.mappings.adopt(mapping)
        self.presence.tell_holds()
        array = attaching.view(layout, mapping, segment.owned(mapping))
        self.presence.born[row.id] = array
        return array

    # -- release ---------------------------------------------------------------------------------

    def release(
        self, names: Sequence[str], *, force: bool = False, undo: float = 0.0
    ) -> list[Released]:
        names = list(dict.fromkeys(check_name(name) for name in names))
        self.presence.refresh()
        # First the release, then the reaping: it might take a leftover that is to be released.
        released = self._release(names, force=force, undo=undo)
        self.presence.reclaim(names)
        self.presence.housekeep()
        return released

    def _release(self, names: Sequence[str], *, force: bool, undo: float) -> list[Released]:
        def release() -> list[Released]:
            if undo > 0:
                return self._undo.release(names, force=force, seconds=undo)
            return releasing.release(
                self.presence, self.registry, self.directory, names, force=force
            )[0]

        try:
            return self.presence.making_room(release)
        except NoSpaceError:
            if len(names) == 1:
                raise
        # All of them may be released, but not in one step: that takes more room than there is. What the
        # first ones free is room for the rest.
        half = len(names) // 2
        return [
            released
            for part in (names[:half], names[half:])
            for released in self._release(part, force=force, undo=undo)
        ]

    def restore(self, names: Sequence[str]) -> list[str]:
        names = list(dict.fromkeys(check_name(name) for name in names))
        self._undo.restore(names)
        return names

    # -- look ------------------------------------------------------------------------------------

    def state(self) -> object:
        return self.registry.data_version(), lease_signature(self.directory.leases)

    def space(self) -> Space:
        root, spares = self.directory.root, spare_bytes(self.directory)
        return Space(
            root, free(self.directory, self.registry, spares), capacity(root),
            self.registry.unnamed(), undo_limit(), quota(), spares,
        )  # fmt: skip

    def segments(self) -> list[SegmentInfo]:
        self._undo.expire(time.monotonic())
        self.presence.housekeep()
        self._listed = listed = list_segments(
            self.registry, self.directory, self.presence.identity, self._listed
        )
        return listed.segments

    def info(self, name: str, version: int | None = None) -> SegmentInfo:
        seen = None
        for _ in interrupts.ATTEMPTS:
            interrupts.check()
            entry = self._find_one(name, version)
            holders = inspection.holders(self.directory).get(entry.segment.id, ())
            try:
                return self._info(entry, holders, self._details_of(entry))
            except SegmentNotFoundError:
                if entry == seen:  # else it was replaced between lookup and open
                    raise
                seen = entry
        raise _always_changing(name)

    def names(self) -> list[str]:
        return self.registry.names()

    def summaries(self, prefix: str = "", most: int = -1) -> list[tuple[str, str]]:
        """Return the first names that begin so, with dtype and shape: for completion."""
        return [
            (name, inspection.type_of(row, part))
            for name, part, row in self.registry.beginning(prefix, most)
        ]

    def path(self, name: str, version: int | None = None) -> str:
        """Return the path of the file that a name's data are in: for an array, a valid ``.npy``."""
        return self.path_of(self._find_one(name, version).segment)

    def _find_one(self, name: str, version: int | None) -> Entry:
        return self._find([check_name(name)], None if version is None else [version])[0]

    @contextlib.contextmanager
    def look(
        self, name: str, version: int | None = None
    ) -> Iterator[tuple[int, ArrayLayout | ObjectLayout]]:
        """Open the file that a version is in, to read a little of it with `os.pread`.

        Nobody is told, and nothing is mapped: what is wrong with the file is an error, never a crash.

        Raises
        ------
        SegmentNotFoundError, CorruptSegmentError, FormatVersionError
        """
        entry = self._find_one(name, version)
        rows.check_kind(entry)
        fd = segment.open_unheld(self.path_of(entry.segment), self.directory.access)
        try:
            layout = drafts.layout_in(fd, entry.segment.kind)
            yield fd, layout.part(entry.part) if isinstance(layout, ObjectLayout) else layout
        finally:
            os.close(fd)

    def path_of(self, row: SegmentRow) -> str:
        """Return the path of a segment's file."""
        return self.directory.path(row.id, overflow=row.overflow, kind=row.kind)

    def _details_of(self, entry: Entry) -> ObjectDetails | None:
        if entry.segment.kind != "object":
            return None
        layout = objects.read_layout(self, entry.segment).part(entry.part)
        together = inspection.together(self.registry, entry)
        return inspection.details_of(layout, self.registry, together)

    def _info(
        self,
        entry: Entry,
        holders: tuple[Holder, ...] = (),
        details: ObjectDetails | None = None,
    ) -> SegmentInfo:
        alive = is_alive(self.directory.leases, entry.lease)
        me = self.presence.identity
        return inspection.info_of(entry, me, alive=alive, holders=holders, details=details)

    # -- housekeeping ----------------------------------------------------------------------------

    def flush(self) -> None:
        self._undo.expire(time.monotonic())
        if self.registry.database.file is not None:  # else it was never used
            self.presence.refresh()
        self.presence.flush()

    def gc(self) -> int:
        self._undo.expire()
        self.presence.tell_holds()
        spares = spare_bytes(self.directory)
        self.presence.reclaim()
        return spares - spare_bytes(self.directory) + self.presence.reap()

    def end_session(self) -> None:
        """Free what lives as long as this process, a Jupyter server, which is about to end."""
        self._undo.expire()
        self.presence.reap((os.getpid(), process_start(os.getpid()) or ""))

    def check(self, *, fix: bool = False) -> list[Problem]:
        with contextlib.suppress(CorruptRegistryError):
            self.presence.flush()
        return checking.check(self.registry, self.directory, fix=fix)

    def close(self) -> None:
        """Give up what belongs to this process; the next use begins anew."""
        with contextlib.suppress(JshmError):
            self._undo.expire()
        self.presence.close()

    def after_fork_in_child(self) -> None:
        """Be another process."""
        self._undo.after_fork_in_child()
        self.presence.after_fork_in_child()


def _always_changing(names: str) -> RegistryError:
    return RegistryError(
        f"{names}: replaced, {len(interrupts.ATTEMPTS):,} times, between the look at the registry and the "
        "look at the memory. Publish it less often, or attach a version that stays"
    )


_stores: weakref.WeakSet[LocalStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_stores):
        store.after_fork_in_child()


@atexit.register
@after_workers
def _close_all() -> None:
    for store in list(_stores):
        store.close()


def _after_fork_in_parent() -> None:
    for store in list(_stores):
        store.presence.after_fork_in_parent()


os.register_at_fork(after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent)


def _label_of(pid: int) -> str:
    labels = (store.presence.label_of(pid) for store in list(_stores))
    return next(filter(None, labels), "a process")


blockers.described_by(_label_of)
