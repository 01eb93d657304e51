"""The store of one machine: registry + segments + leases."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from ...errors import CorruptRegistryError, CorruptSegmentError, SegmentNotFoundError
from ...segment import file as segment_file
from ...segment.array_layout import describe, describe_array
from ...segment.object_layout import ObjectLayout
from ...segment.progress import Progress
from ...system import signals as interrupts
from ...system.access import PRIVATE
from ...system.processes import process_start
from ..base import Attached, Problem, Published, Reader, Released, SegmentInfo, Space, Store
from ..names import check_name
from . import attach as attaching  # fmt: skip
from . import check as checking
from . import inspection, objects
from . import new_segment as drafts
from . import rebuild as rebuilding
from . import recover as recovery
from . import release as releasing
from .allocate import adopt
from .directory import Directory, different_store
from .housekeeping import Housekeeping
from .lease import is_alive, living
from .lease import signature as lease_signature
from .listed import Listed, list_segments
from .locks import Lock, file_of
from .lookup import Lookup
from .offers import LocalOffers
from .process import Process
from .publish import Publisher
from .references import World
from .registry import rows
from .registry.registry import Registry
from .source import check_array
from .space import capacity, free, quota
from .spares import spare_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from ...segment.array_layout import ArrayLayout, Order
    from ...segment.file import Mode
    from ...system.access import Access
    from ..base import Holder, ObjectDetails
    from ..identity import Identity
    from .registry.rows import Entry, SegmentRow

REGISTRY_TIMEOUT = 10.0


class FileReader(Reader):
    """Reads the file of a segment, which the caller keeps open."""

    def __init__(self, fd: int, layout: ArrayLayout | ObjectLayout) -> None:
        self._fd = fd
        self.layout = layout

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if len(data) < length:
            raise CorruptSegmentError(
                "a segment became shorter while it was read. Release the name and publish again"
            )
        return data


class LocalStore(Lookup, Store):
    """The store in one directory, as one process sees it.

    Parameters
    ----------
    root : str
        The directory; see `jshm.store.local.directory`.
    timeout : float
        Seconds to wait for other processes' transactions.
    access : Access
        Who may read it: this user, or a Unix group too.
    """

    abilities = frozenset({"offers", "writable", "locks", "spares", "location"})

    def __init__(
        self,
        root: str,
        timeout: float = REGISTRY_TIMEOUT,
        access: Access = PRIVATE,
    ) -> None:
        self.directory = Directory.open(root, access)
        self.registry = Registry(
            self.directory.registry,
            lambda tx, last: rebuilding.rebuild(tx, self.directory, last),
            timeout,
            self.directory.make_again,
            spot=self.directory.registry_spot,
            opened=self._readmit,
            access=access,
        )
        self.catalogue = self.registry
        self.process = Process(self.directory, self.registry, self._peers())
        self.housekeeping = Housekeeping(self.process, self.registry, self.directory)
        self._publisher = Publisher(self)
        self._listed = Listed()
        self._offers = LocalOffers(self, self.housekeeping, self.registry)

    # -- this process ----------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        return self.process.identity

    def processes(self) -> list[Identity]:
        return [who for who, _ in living(self.directory.leases)]

    def mapped(self) -> set[str]:
        return self.process.mappings.ids()

    def mappings(self, segment: str) -> list[segment_file.Mapping]:
        return self.process.mappings.of(segment)

    def unreachable(self, pid: int) -> str:
        return different_store(pid)

    @property
    def offers(self) -> LocalOffers:
        return self._offers

    def own_spares(self) -> int:
        return self.process.spares.nbytes

    def rest(self) -> bool:
        return self.housekeeping.rest()

    def _readmit(self) -> None:
        recovery.register_missing(self.registry, self.directory)

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

    @interrupts.deferred()
    def require_owner(self, names: Sequence[str], *, replace: bool = False) -> None:
        """Raise NotOwnerError now if publishing under these names would."""
        self._publisher.require_owner(names, replace=replace)

    # -- attach ----------------------------------------------------------------------------------

    def attach(
        self,
        names: Sequence[str],
        mode: Mode = "r",
        versions: Sequence[int] | None = None,
        *,
        trust: bool = False,
    ) -> list[Attached]:
        names = [self.checked(name) for name in names]
        return self._attach(names, mode, versions, trust=trust)

    def _attach(
        self, names: Sequence[str], mode: Mode, versions: Sequence[int] | None, *, trust: bool
    ) -> list[Attached]:
        segment_file.check_mode(mode)
        seen: list[Entry] = []
        with interrupts.deferred():  # once, and not for each segment
            for _ in interrupts.ATTEMPTS:
                interrupts.check()
                entries, world = self._find(names, versions), World()
                if any(entry.segment.overflow for entry in entries):
                    self.directory.check_overflow()
                try:
                    opened = attaching.open_all(self, entries, mode, world, trust=trust)
                except SegmentNotFoundError:
                    # Replaced between lookup and open: look again. Twice the same: the file is gone.
                    if entries == seen:
                        raise self.deleted(entries) from None
                    seen = entries
                else:
                    break
            else:
                raise attaching.always_changing(", ".join(names))
            self.process.tell_holds()
        # Only now: code of an object's own runs, once.
        return attaching.attached(self, entries, opened, world)

    def map(self, row: SegmentRow, mode: Mode) -> segment_file.Mapping:
        """Map a segment."""
        if row.kind == "object":
            return objects.map_segment(self, row, mode)
        mappings = self.process.mappings
        mapping = mappings.get(row.id, mode)
        here = self.directory.segments
        if mapping is not None and (
            mapping.directory is here or self.directory.leads_to(row, mapping)
        ):
            return mapping
        return mappings.open(row.id, self.path_of(row), mode, row.layout)

    def attach_segment(self, segment: str, mode: Mode = "r") -> segment_file.Mapping:
        """Map a segment by its id, with or without a name; SegmentNotFoundError if it is gone.

        Mode ``'r+'`` of a segment that is sealed by now gives ``'r'``.
        """
        row = self.registry.segment(segment)
        if row is None or row.unlinked:
            raise SegmentNotFoundError(f"segment {segment} is gone: it was released")
        if segment_file.check_mode(mode) == "r+" and not row.writable:
            mode = "r"
        mapping = self.map(row, mode)
        self.process.tell_holds()
        return mapping

    def _find(self, names: Sequence[str], wanted: Sequence[int] | None) -> list[Entry]:
        if wanted is None:
            entries = self.catalogue.current(names)
            if len(names) == len(entries) == 1 and self.registry.lost is None:
                return entries
            found = {entry.name: entry for entry in entries}
        else:
            versions = list(map(self.catalogue.version, names, wanted))
            found = {e.name: e for e in versions if e is not None and not e.segment.unlinked}
        # It was deleted, or is another one: newer versions may be mapped here, and come back.
        if self.registry.lost is not None:
            self.housekeeping.refresh()
            return self._find(names, wanted)
        for i, name in enumerate(names):
            if name not in found:
                if self.housekeeping.refresh():  # it was deleted, and is back
                    return self._find(names, wanted)
                version = None if wanted is None else wanted[i]
                raise SegmentNotFoundError(inspection.missing(self.catalogue, name, version))
        return [found[name] for name in names]

    def lock(
        self,
        name: str,
        *,
        shared: bool = False,
        timeout: float | None = None,
        called: str = "",
        waits: Callable[[str], None] | None = None,
    ) -> Lock:
        name = check_name(name)
        return Lock(
            self.directory, self.process, file_of(name), called or name,
            shared=shared, timeout=timeout, waits=waits,
        )  # fmt: skip

    # -- allocate --------------------------------------------------------------------------------

    @interrupts.deferred()
    def allocate(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        order: Order = "C",
        *,
        zero: bool = True,
    ) -> np.ndarray[Any, Any]:
        self.housekeeping.prepare()
        layout = describe(shape, dtype, order)
        with self._publisher.room() as room:
            return adopt(self, layout, drafts.reserve(room, layout, zero=zero), room)

    @interrupts.deferred()
    def copy(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a writable copy of an array in a segment that has no name."""
        check_array(array)
        self.housekeeping.prepare()
        layout = describe_array(array)
        with self._publisher.room() as room, Progress("copy", layout.nbytes):
            return adopt(self, layout, drafts.write_array(room, array, layout), room)

    # -- release ---------------------------------------------------------------------------------

    @interrupts.deferred()
    def release(self, names: Sequence[str], *, force: bool = False) -> list[Released]:
        names = list(dict.fromkeys(check_name(name) for name in names))
        self.housekeeping.refresh()
        # First the release, then the reaping: it might take a leftover that is to be released.
        released = releasing.in_parts(names, lambda part: self._release(part, force=force))
        self.process.reclaim(names)
        self.housekeeping.run()
        return released

    def _release(self, names: Sequence[str], *, force: bool) -> list[Released]:
        return self.process.making_room(
            lambda: releasing.release(
                self.process, self.registry, self.directory, names, force=force
            )[0]
        )

    # -- look ------------------------------------------------------------------------------------

    def state(self) -> object:
        return self.registry.data_version(), lease_signature(self.directory.leases)

    @interrupts.deferred()
    def space(self) -> Space:
        root, spares = self.directory.root, spare_bytes(self.directory)
        return Space(
            root, free(self.directory, self.registry, spares), capacity(self.directory.made()),
            self.registry.unnamed(), quota(), spares,
        )  # fmt: skip

    @interrupts.deferred()
    def segments(self) -> list[SegmentInfo]:
        self.housekeeping.run()
        self._listed = listed = list_segments(
            self.registry,
            self.directory,
            self.process.identity,
            self.process.living(),
            self._listed,
        )
        return listed.segments

    @interrupts.deferred()
    def info(self, name: str, version: int | None = None) -> SegmentInfo:
        seen = None
        for _ in interrupts.ATTEMPTS:
            interrupts.check()
            entry = self._find_one(name, version)
            holders = self.process.holders().get(entry.segment.id, ())
            try:
                return self.describe(entry, holders, self._details_of(entry))
            except SegmentNotFoundError:
                if entry == seen:  # else it was replaced between lookup and open
                    raise
                seen = entry
        raise attaching.always_changing(name)

    @interrupts.deferred()
    def names(self) -> list[str]:
        return self.catalogue.names()

    def own_names(self) -> list[str]:
        return self.catalogue.own_names()

    @interrupts.deferred()
    def complete(self, prefix: str, most: int) -> list[tuple[str, str]]:
        return [
            (name, inspection.type_of(row, part))
            for name, part, row in self.catalogue.beginning(prefix, most)
        ]

    @interrupts.deferred()
    def current(self, names: Sequence[str]) -> dict[str, SegmentInfo]:
        names = [self.checked(name) for name in names]
        entries = self.catalogue.current(names)
        return {entry.name: self.describe(entry) for entry in entries}

    @interrupts.deferred()
    def versions(self, name: str) -> list[SegmentInfo]:
        return [self.describe(e) for e in self.catalogue.versions(self.checked(name))]

    @interrupts.deferred()
    def names_of(self, segment: str) -> list[str]:
        entries = self.catalogue.of_segment(segment)
        return [e.name for e in sorted(entries, key=lambda e: not e.is_current)]

    @interrupts.deferred()
    def location(self, name: str, version: int | None = None) -> str:
        return str(self.path_of(self._find_one(name, version).segment))

    @interrupts.deferred()
    def revision(self) -> object:
        return self.catalogue.data_version()

    def _find_one(self, name: str, version: int | None) -> Entry:
        return self._find([self.checked(name)], None if version is None else [version])[0]

    @contextlib.contextmanager
    def reader(self, name: str, version: int | None = None) -> Iterator[Reader]:
        entry = self._find_one(name, version)
        rows.check_kind(entry)
        with self.unheld(entry.segment) as fd:
            layout = drafts.layout_in(fd, entry.segment.kind)
            part = layout.part(entry.part) if isinstance(layout, ObjectLayout) else layout
            yield FileReader(fd, part)

    def _details_of(self, entry: Entry) -> ObjectDetails | None:
        if entry.segment.kind != "object":
            return None
        layout = objects.read_layout(self, entry.segment).part(entry.part)
        together = inspection.together(self.catalogue, entry)
        return inspection.details_of(layout, self.catalogue, together)

    def describe(
        self,
        entry: Entry,
        holders: tuple[Holder, ...] = (),
        details: ObjectDetails | None = None,
    ) -> SegmentInfo:
        alive = is_alive(self.directory.leases, entry.lease)
        me = self.process.identity
        return inspection.info_of(entry, me, alive=alive, holders=holders, details=details)

    # -- housekeeping ----------------------------------------------------------------------------

    @interrupts.deferred()
    def flush(self) -> None:
        if not self.is_usable:
            return
        if self.registry.database.file is not None:  # else it was never used
            self.housekeeping.refresh()
        self.housekeeping.flush()

    @interrupts.deferred()
    def gc(self) -> int:
        self.process.tell_holds()
        spares = spare_bytes(self.directory)
        self.process.reclaim()
        return spares - spare_bytes(self.directory) + self.housekeeping.collect()

    @interrupts.deferred()
    def end_session(self) -> None:
        """Free what lives as long as this process, a Jupyter server, which is about to end.

        Names go also where their publisher still lives, or another process of this session holds them:
        its views stay valid, and the memory goes when the last of these processes ends.
        """
        ending = (os.getpid(), process_start(os.getpid()) or "")
        self.housekeeping.end_session(ending)

    def check(self, *, fix: bool = False) -> list[Problem]:
        with contextlib.suppress(CorruptRegistryError):
            self.housekeeping.flush()
        return checking.check(self.registry, self.directory, fix=fix)

    @interrupts.deferred()
    def close(self) -> None:
        """Give up what belongs to this process; the next use begins anew."""
        self.housekeeping.close()

    @property
    def is_usable(self) -> bool:
        """Whether this process still runs as the user that opened the store."""
        return self.process.is_usable
