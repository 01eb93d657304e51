"""Garbage collection of expired names, unreferenced segments, unregistered files and dead leases.

All functions run inside a transaction and delete rows only; the files are removed after the commit. Until
then each file is locked, so that no process can begin to map it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ...errors import FormatVersionError, JshmError, NoSpaceError
from ...segment import file as segment_file
from ...segment.object_layout import OBJECT_MAGIC
from ...segment.trailer import read_trailer
from ...system import file_locks
from ...system.directories import File, exists, open_file, status
from ...system.processes import is_running, process_start
from ..identity import has_ended
from . import lease
from .directory import id_in, kind_in
from .new_segment import layout_in, rewrite_trailer
from .rebuild import is_published
from .registry import rows
from .spares import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from .directory import Directory
    from .registry.registry import Registry
    from .registry.rows import Entry, SegmentRow
    from .registry.statements import Transaction
    from .spares import ListedSpare

Adopt = Callable[[int, File], object]
"""Takes over the descriptor (locked) and the path of a file, instead of its removal."""

# One transaction removes at most this many files: other writers wait about a millisecond for that.
BATCH = 200
# Up to this many files need no look at the limit of open files.
_FEW = 8


class _Removal(NamedTuple):
    """A file to remove: its descriptor, and its mode before it was marked as released."""

    fd: int
    path: File
    adopt: Adopt | None
    mode: int | None


class Removals:
    """The files to remove once a transaction is committed.

    Attributes
    ----------
    nbytes : int
        Bytes of the files that were removed.
    """

    def __init__(self) -> None:
        self._files: list[_Removal] = []
        self._committed = False
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._files)

    @property
    def full(self) -> bool:
        """Whether the transaction should take no more files: each is open until it is removed."""
        if len(self._files) < _FEW:
            return False
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return len(self._files) >= (min(BATCH, files // 4) if files > 0 else BATCH)

    @property
    def paths(self) -> list[File]:
        """The paths of the files."""
        return [one.path for one in self._files]

    def add(self, path: File, fd: int = -1, adopt: Adopt | None = None) -> None:
        """Add a file.

        Parameters
        ----------
        path : File
        fd : int
            Holds `LOCK_EX`, and is owned from now on; -1 if the caller has no descriptor.
        adopt : callable, optional
            Takes the file over instead of its removal.
        """
        mode, self._committed = None, False
        # Marked before the commit: if this process is killed after the commit, the file must not be
        # mistaken for a published one that a registry has lost.
        with contextlib.suppress(OSError):  # it is gone, or another user's
            fd = file_locks.open_locked(path, segment_file.PROBE_FLAGS) if fd < 0 else fd
            mode = segment_file.mark_released(fd)
        self._files.append(_Removal(fd, path, adopt, mode))

    def execute(self) -> None:
        """Remove the files."""
        self._committed = True
        while self._files:
            fd, path, adopt, _ = self._files[-1]
            if adopt is not None:
                self._files.pop()  # `adopt` owns the descriptor now
                adopt(fd, path)
                continue
            with contextlib.suppress(OSError):
                self.nbytes += (os.fstat(fd) if fd >= 0 else status(path)).st_size
            segment_file.unlink(path, fd)
            self._drop_last()

    def _drop_last(self) -> None:
        fd, _, _, mode = self._files.pop()
        if mode is not None and not self._committed:
            with contextlib.suppress(OSError):
                os.fchmod(fd, mode)
        if fd >= 0:
            file_locks.close(fd)

    def cancel(self) -> None:
        """Close the files that are left, without removing them."""
        while self._files:
            self._drop_last()


# -- segments ----------------------------------------------------------------------------------------


def unwanted(
    tx: Transaction,
    directory: Directory,
    removals: Removals,
    among: AbstractSet[str] | None = None,
    *,
    short: bool = False,
) -> None:
    """Remove unwanted segments that nobody holds, and what only they needed.

    Parameters
    ----------
    tx, directory, removals
    among : set of str, optional
        Only these segments.
    short : bool
        Memory is short: also remove what a publisher reserves for its next publish.
    """
    reserved: Mapping[str, ListedSpare] | None = {} if short else None
    for row in tx.unwanted():
        if removals.full:
            return
        if among is not None and row.id not in among:
            continue
        if row.nbytes >= segment_file.MIN_SPARE_SIZE:
            reserved = listed(directory) if reserved is None else reserved
            if row.id in reserved and not reserved[row.id].idle:
                continue
        segment(tx, directory, row, removals)


def segment(
    tx: Transaction,
    directory: Directory,
    row: SegmentRow,
    removals: Removals,
    adopt: Adopt | None = None,
) -> bool:
    """Remove one segment, and what only it needed, if nobody holds it; return whether that is so.

    With `adopt`, its file is handed over instead.
    """
    path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
    if row.unlinked:
        # There is no file to lock, so only the logs tell. The memory is freed with the last mapping.
        gone = not any(
            row.id == h[0] for _, log in lease.living(directory.leases) for h in log.held
        )
        if exists(path):
            removals.add(path)  # its release was killed between commit and unlink
    else:
        try:
            fd = segment_file.claim(path, directory.access)
        except FileNotFoundError:
            gone = True
        else:
            gone = fd is not None
            if fd is not None:
                removals.add(path, fd, adopt)
    if gone:
        for needless in tx.forget_segment(row.id, refers=row.kind != "array"):
            # Segments that do not fit into this transaction stay unwanted, for the next one.
            if not removals.full:
                segment(tx, directory, needless, removals)
    return gone


def unlink(
    tx: Transaction, directory: Directory, row: SegmentRow, removals: Removals
) -> bool | None:
    """Remove the file of a segment that no name needs, held or not; holders keep the memory.

    Returns
    -------
    bool or None
        Whether nobody holds it, so that the memory is free now; None if it is still needed.
    """
    if not tx.mark_wanted([row.id]):
        return None
    if segment(tx, directory, row, removals):
        return True
    for needless in tx.mark_unlinked(row.id):
        if not removals.full:
            segment(tx, directory, needless, removals)
    removals.add(directory.path(row.id, overflow=row.overflow, kind=row.kind))
    return False


def forget_version(tx: Transaction, entry: Entry) -> None:
    """Remove a version, but not its data: another name or an object needs them."""
    tx.forget_version(entry)
    tx.mark_stale(entry.segment.id)


def rewrite_trailers(tx: Transaction, directory: Directory) -> None:
    """Rewrite the trailers that do not match their rows any more.

    This takes its own transaction after the one that changed the rows: that one may fail, and the
    trailers would then be wrong. If this process is killed, the next collection does it.
    """
    for row in tx.stale_trailers():
        path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
        # Empty if only another segment needs this one.
        contents = [rows.trailer_record(entry) for entry in tx.of_segment(row.id)]
        try:
            rewrite_trailer(path, directory.access, row, contents)
        except NoSpaceError:
            continue
        except (OSError, JshmError):
            pass  # `check` finds a damaged segment; another user's cannot be written
        tx.forget_stale(row.id)


# -- spares ------------------------------------------------------------------------------------------


def spares(
    tx: Transaction, directory: Directory, identities: Iterable[str], removals: Removals
) -> None:
    """Remove spares of any process, unless that process uses them at this moment."""
    for identity in identities:
        path = directory.path(identity, overflow=False)
        if removals.full or tx.mentions(identity):
            continue
        with contextlib.suppress(FileNotFoundError):
            fd = segment_file.claim(path, directory.access)
            if fd is not None:
                removals.add(path, fd, _empty)


def _empty(fd: int, path: File) -> None:
    """Truncate and remove a spare. Its process has it mapped, but checks it before each use."""
    try:
        with contextlib.suppress(FileNotFoundError):  # its process removes it at the same time
            opened = open_file(path, os.O_WRONLY | os.O_NONBLOCK)
            try:
                if os.path.samestat(os.fstat(opened), os.fstat(fd)):
                    os.ftruncate(opened, 0)
            finally:
                os.close(opened)
        segment_file.unlink(path, fd)
    finally:
        file_locks.close(fd)


# -- processes and sessions --------------------------------------------------------------------------


def leases(tx: Transaction, directory: Directory, ending: tuple[int, str] | None = None) -> None:
    """Release the expired names of dead processes, and remove the rows of their leases.

    Parameters
    ----------
    tx, directory
    ending : (int, str), optional
        Pid and start of a process that is about to end: what lives as long as it counts as expired.
    """
    for name, text in tx.leases().items():
        state = lease.state(directory.leases, name)
        if state == "alive":
            continue
        identity = rows.parse_identity(text)
        if state == "missing" and process_start(identity.pid) == identity.start:
            continue  # something removed the lease of a living process
        if has_ended(identity, ending):
            for entry in tx.published_without_keep(name):
                row = entry.segment
                path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
                if not segment_file.is_held(path):
                    tx.retire(entry.name)
                    if not tx.mark_wanted([row.id]):
                        forget_version(tx, entry)
        tx.forget_lease(name)


def expiring(tx: Transaction, directory: Directory, closed: lease.Lease) -> list[Entry]:
    """Return the versions that expire with a process: its own, and those of its dead workers."""
    me = closed.identity
    ended = [closed.id] if me.session.kind == "process" else []
    for other, text in tx.leases().items():
        identity = rows.parse_identity(text)
        session = (identity.session.pid, identity.session.start, identity.pid_ns)
        if session != (me.pid, me.start, me.pid_ns) or other == closed.id:
            continue
        if lease.state(directory.leases, other) != "alive":
            ended.append(other)
    return [entry for one in ended for entry in tx.published_without_keep(one)]


def offers(tx: Transaction, directory: Directory, ending: tuple[int, str] | None = None) -> None:
    """Remove offers that are too old, or that are made to kernels that will not come back.

    Parameters
    ----------
    tx, directory, ending
        As for `leases`.
    """
    tx.forget_old_offers(time.time())
    recipients = tx.recipients()
    alive = lease.living(directory.leases) if recipients else []
    present = {identity.connection_file for identity, _ in alive}
    for recipient, identity in recipients.items():
        if recipient in present or is_running(identity.pid, identity.start, identity.pid_ns):
            continue
        # A restarted kernel keeps its connection file, and its server still runs.
        if has_ended(identity, ending) or not os.path.exists(recipient):
            tx.forget_recipient(recipient)


# -- files without a row -----------------------------------------------------------------------------


def unregistered(directory: Directory, registry: Registry, reserved: Collection[str]) -> list[File]:
    """Return the files without a row, except reserved ones. Some may be unfinished segments.

    Needs no transaction.
    """
    files = directory.files()
    # In this order: a file that is registered after the listing is then among the rows.
    ids = registry.segment_ids() if files else set()
    return [path for name, path in files.items() if name not in ids and name not in reserved]


def files(
    tx: Transaction,
    directory: Directory,
    paths: Sequence[File],
    removals: Removals,
    *,
    known: bool = False,
) -> None:
    """Remove those files that have no row and that nobody holds.

    Files that were published, or that a newer jshm may have made, stay. With `known` they are removed,
    too: they had rows until now, so their kind is known.
    """
    for path in paths:
        if removals.full:
            return
        if tx.mentions(id_in(path)) or not directory.has(path.directory):
            continue  # the directory was moved after it was listed: not this registry's file
        with contextlib.suppress(FileNotFoundError):
            fd = segment_file.claim(path, directory.access)
            if (
                fd is not None
                and not known
                and (is_published(path, directory) or _is_newer(fd, path))
            ):
                file_locks.close(fd)
            elif fd is not None:
                removals.add(path, fd)


def _is_newer(fd: int, path: str) -> bool:
    """Return whether a newer jshm may have made a file, in a format that this one cannot judge."""
    kind = kind_in(path)
    if kind == "object":
        magic = os.pread(fd, len(OBJECT_MAGIC), 0)
        if magic != OBJECT_MAGIC:
            # Another kind; or, if the magic is missing, a segment that was never finished.
            return not OBJECT_MAGIC.startswith(magic.rstrip(b"\0"))
    try:
        records = read_trailer(fd, layout_in(fd, kind).trailer_offset)
    except FormatVersionError:
        return True
    except JshmError:
        return False
    formats = [content.get("jshm") for content in records]
    return any(isinstance(known, int) and known > rows.FORMAT for known in formats)
