"""The store of one machine: registry + segments + leases."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from ...errors import CorruptRegistryError, CorruptSegmentError, SegmentNotFoundError
from ...segment import file as segment_file
from ...segment.object_layout import ObjectLayout, read_object_layout
from ...system import signals
from ...system.access import PRIVATE
from ...system.processes import process_start
from ..base import (
    Attached,
    Problem,
    Published,
    Reader,
    Released,
    SegmentInfo,
    Space,
    segment_of,
)
from ..names import check_name
from . import attach, check, inspection, new_segment, publish, release
from .directory import Directory, different_store
from .housekeeping import Housekeeping
from .lease import is_alive, living
from .lease import signature as lease_signature
from .locks import Lock, file_of
from .lookup import Lookup
from .offers import LocalOffers
from .process import Process
from .recover import SegmentRepair
from .references import StoreResolver, publishing
from .registry import rows
from .registry.registry import Registry
from .space import capacity, free, quota
from .spares import spare_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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


class LocalStore(Lookup):
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
        self.registry = Registry(self.directory, SegmentRepair(self.directory), timeout)
        self.catalogue = self.registry
        self.process = Process(self.directory, self.registry, self._peers())
        self.housekeeping = Housekeeping(self.process, self.registry, self.directory)
        self._listed = inspection.VersionList()
        self._offers = LocalOffers(self)

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

    # -- publish ---------------------------------------------------------------------------------

    def publish(self, values: Mapping[str, Any], **how: Any) -> list[Published]:
        return publish.publish(self, values, **how)

    @signals.deferred()
    def require_owner(self, names: Sequence[str], *, replace: bool = False) -> None:
        publish.require_owner(self, names, replace=replace)

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
        return attach.attach(self, names, mode, versions, trust=trust)

    def map(self, row: SegmentRow, mode: Mode) -> segment_file.Mapping:
        """Map a segment."""
        mappings = self.process.mappings
        if row.kind == "object":  # something refers to an array in it
            with self.opened(row) as (fd, _):
                return mappings.get_whole(row.id, fd, mode)
        mapping = mappings.get(row.id, mode)
        here = self.directory.segments
        if mapping is not None and (
            mapping.directory is here or self.directory.leads_to(row, mapping)
        ):
            return mapping
        return mappings.open(row.id, self.path_of(row), mode, row.layout)

    def attach_segment(self, segment: str, mode: Mode = "r") -> segment_file.Mapping:
        row = self.registry.segment(segment)
        if row is None or row.unlinked:
            raise SegmentNotFoundError(f"segment {segment} is gone: it was released")
        if segment_file.check_mode(mode) == "r+" and not row.writable:
            mode = "r"
        mapping = self.map(row, mode)
        self.process.tell_holds()
        return mapping

    def lock(self, name: str, *, called: str = "", **how: Any) -> Lock:
        name = check_name(name)
        return Lock(self.directory, self.process, file_of(name), called or name, **how)

    # -- allocate --------------------------------------------------------------------------------

    @signals.deferred()
    def allocate(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        order: Order = "C",
        *,
        zero: bool = True,
    ) -> np.ndarray[Any, Any]:
        return publish.allocate(self, shape, dtype, order, zero=zero)

    @signals.deferred()
    def copy(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return publish.copy(self, array)

    # -- references in pickles -------------------------------------------------------------------

    def resolver(self) -> StoreResolver:
        return StoreResolver(self)

    def refer(self, array: np.ndarray[Any, Any]) -> str:
        if (references := publishing.get()) is not None:
            references.need(array)
        mapping = segment_file.find_mapping(array)
        if mapping is not None:
            self.process.referred.add(mapping.segment)
        return self.directory.root

    def segment_at(self, address: str, segment: str) -> str:
        found = self.segment_of(address, segment)
        if found is None:
            raise SegmentNotFoundError(
                f"the array is shared in {address}, and this process uses {self.directory.root}: set "
                "JSHM_DIR alike in both"
            )
        return found

    # -- release ---------------------------------------------------------------------------------

    @signals.deferred()
    def release(self, names: Sequence[str], *, force: bool = False) -> list[Released]:
        names = list(dict.fromkeys(check_name(name) for name in names))
        self.housekeeping.refresh()
        # Before the housekeeping, which could collect an expired name that is to be released.
        released = release.release(self, names, force=force)
        self.process.reclaim(names)
        self.housekeeping.run()
        return released

    # -- look ------------------------------------------------------------------------------------

    def state(self) -> object:
        return self.registry.data_version(), lease_signature(self.directory.leases)

    @signals.deferred()
    def space(self) -> Space:
        root, spares = self.directory.root, spare_bytes(self.directory)
        return Space(
            root, free(self.directory, self.registry, spares), capacity(self.directory.made()),
            self.registry.unnamed_bytes(), quota(), spares,
        )  # fmt: skip

    @signals.deferred()
    def segments(self) -> list[SegmentInfo]:
        self.housekeeping.run()
        self._listed = listed = inspection.list_versions(
            self.registry,
            self.directory,
            self.process.identity,
            self.process.living(),
            self._listed,
        )
        return listed.segments

    @signals.deferred()
    def info(self, name: str, version: int | None = None) -> SegmentInfo:
        seen = None
        for _ in signals.ATTEMPTS:
            signals.check()
            entry = self._find_one(name, version)
            holders = self.process.holders().get(entry.segment.id, ())
            try:
                return self.describe(entry, holders, self._details_of(entry))
            except SegmentNotFoundError:
                if entry == seen:  # else it was replaced between lookup and open
                    raise
                seen = entry
        raise attach.always_changing(name)

    @signals.deferred()
    def names(self) -> list[str]:
        return self.catalogue.names()

    def own_names(self) -> list[str]:
        return self.catalogue.own_names()

    @signals.deferred()
    def complete(self, prefix: str, most: int) -> list[tuple[str, str]]:
        return [
            (name, inspection.type_of(row, part))
            for name, part, row in self.catalogue.beginning(prefix, most)
        ]

    @signals.deferred()
    def current(self, names: Sequence[str]) -> dict[str, SegmentInfo]:
        names = [self.checked(name) for name in names]
        entries = self.catalogue.current(names)
        return {entry.name: self.describe(entry) for entry in entries}

    @signals.deferred()
    def versions(self, name: str) -> list[SegmentInfo]:
        return [self.describe(e) for e in self.catalogue.versions(self.checked(name))]

    @signals.deferred()
    def names_of(self, segment: str) -> list[str]:
        entries = [
            entry
            for entry in self.catalogue.of_segment(segment_of(segment))
            if segment in (entry.segment.id, entry.value_id)
        ]
        return [e.name for e in sorted(entries, key=lambda e: not e.is_current)]

    @signals.deferred()
    def in_use(self, segment: str) -> bool:
        row = self.catalogue.segment(segment)
        if row is None or row.unlinked:
            return self.process.mappings.is_mapped(segment)
        return self.is_held(row)

    @signals.deferred()
    def location(self, name: str, version: int | None = None) -> str:
        return str(self.path_of(self._find_one(name, version).segment))

    @signals.deferred()
    def revision(self) -> object:
        return self.catalogue.data_version()

    def _find_one(self, name: str, version: int | None) -> Entry:
        wanted = None if version is None else [version]
        return attach.find(self, [self.checked(name)], wanted)[0]

    @contextlib.contextmanager
    def reader(self, name: str, version: int | None = None) -> Iterator[Reader]:
        entry = self._find_one(name, version)
        rows.check_kind(entry)
        with self.unheld(entry.segment) as fd:
            layout = new_segment.layout_in(fd, entry.segment.kind)
            part = layout.part(entry.part) if isinstance(layout, ObjectLayout) else layout
            yield FileReader(fd, part)

    def _details_of(self, entry: Entry) -> ObjectDetails | None:
        if entry.segment.kind != "object":
            return None
        with self.opened(entry.segment) as (fd, _):
            layout = read_object_layout(fd).part(entry.part)
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

    @signals.deferred()
    def flush(self) -> None:
        if not self.is_usable:
            return
        if self.registry.inodes is not None:  # else it was never used
            self.housekeeping.refresh()
        self.housekeeping.flush()

    @signals.deferred()
    def gc(self) -> int:
        self.process.tell_holds()
        spares = spare_bytes(self.directory)
        self.process.reclaim()
        return spares - spare_bytes(self.directory) + self.housekeeping.collect()

    @signals.deferred()
    def end_session(self) -> None:
        ending = (os.getpid(), process_start(os.getpid()) or "")
        self.housekeeping.end_session(ending)

    def check(self, *, fix: bool = False) -> list[Problem]:
        with contextlib.suppress(CorruptRegistryError):
            self.housekeeping.flush()
        return check.check(self.registry, self.directory, fix=fix)

    @signals.deferred()
    def close(self) -> None:
        """Give up what belongs to this process; the next use starts again."""
        self.housekeeping.close()

    @property
    def is_usable(self) -> bool:
        """Whether this process still runs as the user that opened the store."""
        return self.process.is_usable
