"""The store of one machine: registry + segments + leases.

Order of a publish, so that SIGKILL at any instruction leaves the old version or the new one: write the
file (unknown to anybody, locked), then one transaction that numbers the version, writes the file's record
and magic, and adds the rows; after the commit, delete what it superseded.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import rows, segment
from ..errors import (
    CorruptRegistryError,
    CorruptSegmentError,
    InvalidNameError,
    NoSpaceError,
    NotOwnerError,
    NotShareableError,
    ReadOnlyError,
    SegmentNotFoundError,
    WaitTimeoutError,
)
from ..layout import describe, describe_array
from ..lease import is_alive
from ..registry import Registry
from ..rows import Entry, SegmentRow
from ..text import age_text, size_text
from . import draft as drafts
from . import inspection, objects, reaper, releasing
from .base import Attached, Problem, Published, Released, SegmentInfo, Store
from .directory import Directory
from .names import check_name, check_note
from .presence import Presence
from .source import Source, check_array, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from ..database import Transaction
    from ..layout import ArrayLayout, Order
    from ..segment import Mode
    from .base import Holder, ObjectDetails
    from .reaper import Doomed

REGISTRY_TIMEOUT = 10.0
_WAIT_INTERVAL = 0.01
# Bytes that are copied faster than the registry is asked twice.
_QUICK = 1 << 20


class LocalStore(Store):
    """The store in one directory, as one process sees it.

    Parameters
    ----------
    root : str
        The directory; see `jshm.store.directory`.
    timeout : float
        Seconds to wait for other processes' transactions.
    """

    def __init__(self, root: str, timeout: float = REGISTRY_TIMEOUT) -> None:
        self.directory = Directory.open(root)
        self.registry = Registry(
            self.directory.registry,
            lambda tx: inspection.rebuild(tx, self.directory),
            timeout,
            self._describe_pid,
            lambda: Directory.open(root),
        )
        self.presence = Presence(self.directory, self.registry)
        _stores.add(self)

    def _describe_pid(self, pid: int) -> str:
        return self.presence.describe_pid(pid)

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
        names = _check_names(values)
        check_note(note)
        if writable:
            _check_all_arrays(values)
        ready = [objects.prepare(self, name, value) for name, value in values.items()]
        large = sum(one.nbytes for one in ready) > _QUICK
        # Room is made before a large copy; a small one leaves it to its own transaction.
        self.presence.housekeep(flush=large)
        if large:
            # The transaction decides. This is so that nobody waits for a copy in vain.
            self._check_owners(self.registry.current(names), replace=replace)
        sources: list[Source] = []
        try:
            for one in ready:
                sources.append(self._source(one, writable=writable))
            with self.presence.transaction() as (tx, doomed):
                lease, now = self.presence.lease(tx), time.time()
                newest = rows.newest(tx, names)
                self._check_owners((old for _, old in newest.values() if old), replace=replace)
                entries = []
                for name, source in zip(names, sources, strict=True):
                    last, old = newest.get(name, (0, None))
                    # Kept once is kept until released: a notebook that runs again must not lose it.
                    kept = keep or (old is not None and bool(old.keep))
                    entry = Entry(
                        name, last + 1, last + 1, lease.id, now, kept, note, once, lease.text,
                        source.row,
                    )  # fmt: skip
                    self._register(tx, doomed, source, entry, old)
                    entries.append(entry)
                self.presence.collect(tx, doomed)
                for source, value in zip(sources, values.values(), strict=True):
                    seal = source.how == "sealed" and not writable
                    tx.on_commit(partial(source.close, value if seal else None))
        except BaseException:
            for source in sources:
                source.discard()
            raise
        me = self.presence.identity
        return [
            Published(
                inspection.info_of(entry, me, alive=True, details=self._details(one)), source.how
            )
            for entry, source, one in zip(entries, sources, ready, strict=True)
        ]

    def _details(self, value: objects.Packed | np.ndarray[Any, Any]) -> ObjectDetails | None:
        if isinstance(value, objects.Packed):
            return inspection.details_of(value.layout, self.registry)
        return None

    def _source(self, value: objects.Packed | np.ndarray[Any, Any], *, writable: bool) -> Source:
        """Find out how a value gets into a segment, and write it there if it must be written."""
        if isinstance(value, objects.Packed):
            layout, pickled, buffers = value.layout, value.pickle, value.buffers
            draft = self._draft(
                lambda: drafts.write_object(self.directory, layout, pickled, buffers)
            )
            return Source("copied", draft.row, draft.path, draft, value.referring)
        return self._array_source(value, writable=writable)

    def _array_source(self, array: np.ndarray[Any, Any], *, writable: bool) -> Source:
        source = source_of(array, self.registry, self.directory, self.presence, writable=writable)
        if source is not None:
            return source
        layout = describe_array(array)
        draft = self._draft(lambda: drafts.write_array(self.directory, array, layout))
        return Source("copied", rows.with_writable(draft.row, writable=writable), draft.path, draft)

    def _draft(self, make: Callable[[], drafts.Draft]) -> drafts.Draft:
        try:
            return make()
        except NoSpaceError as error:
            raise NoSpaceError(f"{error}{self._could_go()}") from None

    def _register(
        self, tx: Transaction, doomed: Doomed, source: Source, entry: Entry, old: Entry | None
    ) -> None:
        source.seal(tx, rows.metadata(entry))
        rows.put_version(tx, entry)
        if source.draft is None:
            rows.judge(tx, [entry.segment.id])
            rows.forget_versions_in(tx, entry)
        if old is None or old.segment.id == entry.segment.id:
            return
        if not rows.is_needless(tx, old.segment.id):
            reaper.forget_name(tx, self.directory, old)
        # Mostly nobody holds what is superseded. Then its row goes at once, unmarked.
        elif not reaper.collect_segment(tx, self.directory, old.segment, doomed):
            rows.judge(tx, [old.segment.id])

    def require_owner(self, names: Sequence[str], *, replace: bool) -> None:
        """Raise NotOwnerError now if publishing under these names would."""
        self._check_owners(self.registry.current(_check_names(names)), replace=replace)

    def _check_owners(self, entries: Iterable[Entry], *, replace: bool) -> None:
        for entry in entries:
            if not replace and not self.presence.identity.owns(entry.publisher):
                raise NotOwnerError(
                    f"{entry.name} v{entry.version} was published by {entry.publisher.label}, "
                    f"{age_text(entry.created)}: publish under another name (--as NAME), or add "
                    "--replace (replace=True) to make yours the next version"
                )

    def _could_go(self) -> str:
        """Return what is not in use, the largest first, for the message of a NoSpaceError."""
        idle = sorted((i for i in self.segments() if not i.in_use), key=lambda i: -i.nbytes)
        if not idle:
            return ". Nothing that is shared could be released"
        shown = ", ".join(f"{i.name} ({size_text(i.nbytes)}, {i.publisher})" for i in idle[:3])
        return f"; largest not in use: {shown}. Release what you can spare, or make it smaller"

    # -- attach ----------------------------------------------------------------------------------

    def attach(
        self, names: Sequence[str], mode: Mode = "r", version: int | None = None
    ) -> list[Attached]:
        segment.check_mode(mode)
        names = [check_name(name) for name in names]
        seen: list[Entry] = []
        while True:
            entries = self._find(names, version)
            try:
                opened = [self._open(entry, mode) for entry in entries]
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
        self.presence.tell_holds()
        # Only now: code of an object's own runs, once.
        return [self._attached(entry, one) for entry, one in zip(entries, opened, strict=True)]

    def _open(self, entry: Entry, mode: Mode) -> objects.Opened | np.ndarray[Any, Any]:
        """Map what a version is."""
        rows.check_kind(entry)
        is_object = entry.segment.kind == "object"
        if mode == "r+" and (is_object or not entry.segment.writable):
            raise ReadOnlyError(
                f"{entry.name} v{entry.version} is a read-only snapshot: attach it with mode 'c' for "
                "a private writable copy"
                + (
                    "; only arrays can be shared writable"
                    if is_object
                    else ", or let its publisher share it with --writable (writable=True)"
                )
            )
        if is_object:
            return objects.open_object(self, entry.segment, entry.name, mode)
        return _array(entry.segment.layout, self._map(entry.segment, mode))

    def _attached(self, entry: Entry, opened: objects.Opened | np.ndarray[Any, Any]) -> Attached:
        value: Any = opened
        needs: tuple[str, ...] = ()
        shares = True
        if isinstance(opened, objects.Opened):
            value, needs, shares = objects.unpickle(opened), tuple(opened.needs), opened.shares
        return Attached(
            entry.name, entry.version, entry.publisher, entry.created,
            bool(entry.segment.writable), entry.once, value, (entry.segment.id, *needs),
            entry.segment.kind, shares,
        )  # fmt: skip

    def _map(self, row: SegmentRow, mode: Mode) -> segment.Mapping:
        if row.kind == "object":
            return objects.map_segment(self, row, mode)
        return self.presence.mappings.get(row.id, self.path_of(row), mode, row.layout)

    def attach_segment(self, identity: str, mode: Mode) -> segment.Mapping:
        """Map a segment by its id, with or without a name; SegmentNotFoundError if it is gone.

        Mode ``'r+'`` of a segment that is sealed by now gives ``'r'``.
        """
        row = self.registry.segment(identity)
        if row is None or row.unlinked:
            raise SegmentNotFoundError(f"segment {identity} is gone: it was released")
        if segment.check_mode(mode) == "r+" and not row.writable:
            mode = "r"
        mapping = self._map(row, mode)
        self.presence.tell_holds()
        return mapping

    def _find(self, names: Sequence[str], version: int | None) -> list[Entry]:
        if version is None:
            entries = self.registry.current(names)
            if len(names) == len(entries) == 1:
                return entries
            found = {entry.name: entry for entry in entries}
        else:
            versions = [self.registry.version(name, version) for name in names]
            found = {e.name: e for e in versions if e is not None and not e.segment.unlinked}
        for name in names:
            if name not in found:
                raise SegmentNotFoundError(inspection.missing(self.registry, name, version))
        return [found[name] for name in names]

    def wait(
        self, names: Sequence[str], timeout: float | None, newer_than: int = 0
    ) -> list[SegmentInfo]:
        names = [check_name(name) for name in names]
        deadline = None if timeout is None else time.monotonic() + timeout
        state = None
        while True:
            if state != (state := self.registry.data_version()):
                found = {entry.name: entry for entry in self.registry.current(names)}
                missing = [n for n in names if n not in found or found[n].version <= newer_than]
                if not missing:
                    return [self._info(found[name]) for name in names]
            if deadline is not None and time.monotonic() >= deadline:
                name = missing[0]
                why = (
                    f"{name} is still v{newer_than}"
                    if name in found
                    else inspection.missing(self.registry, name)
                )
                raise WaitTimeoutError(f"waited {timeout:g} s: {why}")
            time.sleep(_WAIT_INTERVAL)

    # -- allocate --------------------------------------------------------------------------------

    def allocate(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike, order: Order = "C"
    ) -> np.ndarray[Any, Any]:
        self.presence.housekeep()
        layout = describe(shape, dtype, order)
        return self._adopt(layout, self._draft(lambda: drafts.reserve(self.directory, layout)))

    def copy(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a writable copy of an array in a segment that has no name."""
        check_array(array)
        self.presence.housekeep()
        layout = describe_array(array)
        draft = self._draft(lambda: drafts.write_array(self.directory, array, layout))
        return self._adopt(layout, draft)

    def _adopt(self, layout: ArrayLayout, draft: drafts.Draft) -> np.ndarray[Any, Any]:
        """Register a segment that only its holders keep, and map it."""
        row = rows.with_writable(draft.row, writable=True)
        try:
            mapping = segment.map_file(draft.fd, layout.end, "r+", row.id)
            with self.presence.transaction() as (tx, _):
                draft.offer()
                rows.put_segment(tx, row, wanted=False)
                segment.write(draft.fd, 0, [layout.header])
                draft.unlock()
                tx.on_commit(draft.close)
        except BaseException:
            draft.discard()
            raise
        self.presence.mappings.adopt(mapping)
        self.presence.tell_holds()
        array = _array(layout, mapping)
        self.presence.born[row.id] = array
        return array

    # -- release ---------------------------------------------------------------------------------

    def release(self, names: Sequence[str], *, force: bool = False) -> list[Released]:
        names = list(dict.fromkeys(check_name(name) for name in names))
        # First the release, then the reaping: it might take a leftover that is to be released.
        released = self.presence.making_room(
            lambda: releasing.release(
                self.presence, self.registry, self.directory, names, force=force
            )
        )
        self.presence.housekeep()
        return released

    # -- look ------------------------------------------------------------------------------------

    def segments(self) -> list[SegmentInfo]:
        self.presence.housekeep()
        return inspection.list_segments(self.registry, self.directory, self.presence.identity)

    def info(self, name: str, version: int | None = None) -> SegmentInfo:
        seen = None
        while True:
            entry = self._find([check_name(name)], version)[0]
            holders = inspection.holders(self.directory).get(entry.segment.id, ())
            try:
                return self._info(entry, holders, self._details_of(entry.segment))
            except SegmentNotFoundError:
                if entry == seen:  # else it was replaced between lookup and open
                    raise
                seen = entry

    def names(self) -> list[str]:
        return self.registry.names()

    def summaries(self) -> list[tuple[str, str]]:
        """Return each name that can be attached, with its dtype and shape: for completion."""
        return [
            (entry.name, inspection.type_of(entry.segment))
            for entry in self.registry.everything()
            if entry.is_current
        ]

    def path(self, name: str, version: int | None = None) -> str:
        """Return the path of the file that a name's data are in: for an array, a valid ``.npy``."""
        row = self._find([check_name(name)], version)[0].segment
        return self.path_of(row)

    def path_of(self, row: SegmentRow) -> str:
        """Return the path of a segment's file."""
        return self.directory.path(row.id, overflow=row.overflow, kind=row.kind)

    def _details_of(self, row: SegmentRow) -> ObjectDetails | None:
        if row.kind != "object":
            return None
        return inspection.details_of(objects.read_layout(self, row), self.registry)

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
        self.presence.flush()

    def gc(self) -> int:
        return self.presence.reap()

    def check(self, *, fix: bool = False) -> list[Problem]:
        with contextlib.suppress(CorruptRegistryError):
            self.presence.flush()
        return inspection.check(self.registry, self.directory, fix=fix)

    def close(self) -> None:
        """Give up what belongs to this process; the next use begins anew."""
        self.presence.close()


def _check_all_arrays(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if not objects.is_array(value):
            raise NotShareableError(
                f"{name} is a {type(value).__name__}: only plain arrays can be shared writable (LIVE); "
                "publish it without --writable (writable=True)"
            )


def _check_names(given: Iterable[str]) -> list[str]:
    names = [check_name(name) for name in given]
    if len(set(names)) < len(names):
        raise InvalidNameError(f"the same name twice: {', '.join(names)}")
    return names


def _array(layout: ArrayLayout, mapping: segment.Mapping) -> np.ndarray[Any, Any]:
    try:
        return layout.view(segment.view(mapping))
    except (TypeError, ValueError) as error:
        raise CorruptSegmentError(
            f"segment {mapping.segment} does not fit what the registry says of it: {error}"
        ) from error


_stores: weakref.WeakSet[LocalStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_stores):
        store.presence.after_fork_in_child()


@atexit.register
def _close_all() -> None:
    for store in list(_stores):
        store.close()


def _after_fork_in_parent() -> None:
    for store in list(_stores):
        store.presence.forked = True


os.register_at_fork(after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent)
