"""What goes, and when: dead holders, leftovers, unwanted segments, files that nobody registered.

Everything here runs inside a transaction and deletes rows only; the files go after the commit. Until
then each is kept locked, so that nobody can begin to map it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ...errors import FormatVersionError, JshmError, NoSpaceError
from ...segment import file as segment
from ...segment.object_layout import OBJECT_MAGIC
from ...segment.trailer import read_records
from ...system.directories import File, exists, open_file, status
from ..identity import has_ended, is_running, process_start
from .directory import ARRAY
from .lease import living, sweep
from .lease import state as lease_state
from .new_segment import layout_in, rewrite_records
from .rebuild import is_published
from .registry import rows
from .spares import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from .directory import Directory
    from .lease import Lease
    from .registry.registry import Registry
    from .registry.rows import Entry, SegmentRow
    from .registry.statements import Transaction
    from .spares import Listed

Adopt = Callable[[int, File], object]
"""What takes a file over, locked, instead of its removal."""

# So many claims take about a millisecond, for which others wait.
BATCH = 200
# So few need no look at the limit.
_FEW = 8


class _Doomed(NamedTuple):
    """A file that goes: its descriptor, and the mode it had before it said so."""

    fd: int
    path: File
    adopt: Adopt | None
    mode: int | None


class Doomed:
    """Files to remove once the transaction has been committed."""

    def __init__(self) -> None:
        self._files: list[_Doomed] = []
        self._committed = False
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._files)

    @property
    def full(self) -> bool:
        """Whether enough is claimed for one transaction: each claimed file is open."""
        if len(self._files) < _FEW:
            return False
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return len(self._files) >= (min(BATCH, files // 4) if files > 0 else BATCH)

    @property
    def paths(self) -> list[File]:
        """What is to be removed."""
        return [one.path for one in self._files]

    def add(self, path: File, fd: int = -1, adopt: Adopt | None = None) -> None:
        """Doom a file; `fd`, if given, holds `LOCK_EX` and is owned from now on.

        With `adopt`, that is called with both instead of removing it.
        """
        mode, self._committed = None, False
        # Before the commit: whoever is killed behind it leaves a file that no row knows, and that must
        # not be taken for one that a registry has lost.
        with contextlib.suppress(OSError):  # it is gone, or another user's
            fd = segment.open_locked(path, segment.LOOK) if fd < 0 else fd
            mode = segment.mark_released(fd)
        self._files.append(_Doomed(fd, path, adopt, mode))

    def execute(self) -> None:
        """Remove the files."""
        self._committed = True
        while self._files:
            fd, path, adopt, _ = self._files[-1]
            if adopt is not None:
                self._files.pop()  # it owns the descriptor now
                adopt(fd, path)
                continue
            with contextlib.suppress(OSError):
                self.nbytes += (os.fstat(fd) if fd >= 0 else status(path)).st_size
            segment.unlink(path, fd)
            self._let_go()

    def _let_go(self) -> None:
        fd, _, _, mode = self._files.pop()
        if mode is not None and not self._committed:
            with contextlib.suppress(OSError):
                os.fchmod(fd, mode)
        if fd >= 0:
            segment.close(fd)

    def give_up(self) -> None:
        """Let go of the files that are left, without removing them."""
        while self._files:
            self._let_go()


def collect(
    tx: Transaction,
    directory: Directory,
    doomed: Doomed,
    among: AbstractSet[str] | None = None,
    *,
    short: bool = False,
) -> None:
    """Doom unwanted segments (`among` these) that nobody holds, and what only they needed.

    Not what its publisher is about to write into, unless memory is `short`.
    """
    kept: Mapping[str, Listed] | None = {} if short else None
    for row in tx.unwanted():
        if doomed.full:
            return
        if among is not None and row.id not in among:
            continue
        if row.nbytes >= segment.RECYCLED:
            kept = listed(directory) if kept is None else kept
            if row.id in kept and not kept[row.id].idle:
                continue
        collect_segment(tx, directory, row, doomed)


def take_away(
    tx: Transaction, directory: Directory, identities: Iterable[str], doomed: Doomed
) -> None:
    """Doom spares, of whatever process, unless it is just using them."""
    for identity in identities:
        path = directory.path(identity, overflow=False)
        if doomed.full or tx.mentions(identity):
            continue
        with contextlib.suppress(FileNotFoundError):
            fd = segment.claim(path, directory.access)
            if fd is not None:
                doomed.add(path, fd, _empty)


def _empty(fd: int, path: File) -> None:
    """Free the memory of a spare that its process has mapped, but looks at before it uses it."""
    try:
        with contextlib.suppress(FileNotFoundError):  # its process is just removing it
            opened = open_file(path, os.O_WRONLY | os.O_NONBLOCK)
            try:
                if os.path.samestat(os.fstat(opened), os.fstat(fd)):
                    os.ftruncate(opened, 0)
            finally:
                os.close(opened)
        segment.unlink(path, fd)
    finally:
        segment.close(fd)


def collect_segment(
    tx: Transaction,
    directory: Directory,
    row: SegmentRow,
    doomed: Doomed,
    adopt: Adopt | None = None,
) -> bool:
    """Doom one segment, and what only it needed, if nobody holds it; tell whether it goes.

    With `adopt`, its file is given to that.
    """
    path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
    if row.unlinked:
        # The file is gone, so only its holders can tell; the kernel frees the memory in any case.
        gone = not any(row.id == h[0] for _, held in living(directory.leases) for h in held)
        if exists(path):
            doomed.add(path)  # whoever released it was killed between commit and unlink
    else:
        try:
            fd = segment.claim(path, directory.access)
        except FileNotFoundError:
            gone = True
        else:
            gone = fd is not None
            if fd is not None:
                doomed.add(path, fd, adopt)
    if gone:
        for needless in tx.forget_segment(row.id, refers=row.kind != "array"):
            # What is too much for one transaction stays unwanted, for the next.
            if not doomed.full:
                collect_segment(tx, directory, needless, doomed)
    return gone


def unlink_unwanted(
    tx: Transaction, directory: Directory, row: SegmentRow, doomed: Doomed
) -> bool | None:
    """Doom a segment that no name needs any more, held or not; the holders keep the memory.

    Returns
    -------
    bool or None
        Whether nobody holds it, so that the memory is free now; None if it is needed still.
    """
    if not tx.mark_wanted([row.id]):
        return None
    if collect_segment(tx, directory, row, doomed):
        return True
    for needless in tx.mark_unlinked(row.id):
        if not doomed.full:
            collect_segment(tx, directory, needless, doomed)
    doomed.add(directory.path(row.id, overflow=row.overflow, kind=row.kind))
    return False


def forget_name(tx: Transaction, entry: Entry) -> None:
    """Forget a version whose data are needed still: they are another name's too, or an object's."""
    tx.forget_version(entry)
    tx.mark_stale(entry.segment.id)


def catch_up(tx: Transaction, directory: Directory) -> None:
    """Let segments say of themselves what their rows say by now.

    That takes a transaction of its own, after the one that changed the rows: it may fail, or its process
    be killed, and then the segments would say what never was. Whoever is killed in here leaves it to the
    next.
    """
    for row in tx.stale_trailers():
        path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
        # None if it is another segment that needs this one.
        contents = [rows.trailer_record(entry) for entry in tx.of_segment(row.id)]
        try:
            rewrite_records(path, directory.access, row, contents)
        except NoSpaceError:
            continue
        except (OSError, JshmError):
            pass  # a damaged one cannot say it, `check` finds it; another user's is not ours to write
        tx.forget_stale(row.id)


def bury_the_dead(
    tx: Transaction, directory: Directory, ending: tuple[int, str] | None = None
) -> None:
    """Retire the leftovers of ended sessions, and forget processes that left nothing.

    Parameters
    ----------
    tx, directory
    ending : (int, str), optional
        Pid and start of a process that is about to end: what lives as long as it counts as ended.
    """
    for lease, text in tx.leases().items():
        state = lease_state(directory.leases, lease)
        if state == "alive":
            continue
        identity = rows.parse_identity(text)
        if state == "missing" and process_start(identity.pid) == identity.start:
            continue  # something removed the lease of a process that lives
        if has_ended(identity, ending):
            for entry in tx.published_without_keep(lease):
                row = entry.segment
                path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
                if not segment.is_held(path):
                    tx.retire(entry.name)
                    if not tx.mark_wanted([row.id]):
                        forget_name(tx, entry)
        tx.forget_lease(lease)


def leftovers(tx: Transaction, directory: Directory, lease: Lease) -> list[Entry]:
    """Return what lives as long as a process that is about to end: its own, and its dead workers'."""
    me = lease.identity
    ended = [lease.id] if me.session.kind == "process" else []
    for other, text in tx.leases().items():
        who = rows.parse_identity(text)
        theirs = (who.session.pid, who.session.start, who.pid_ns)
        if theirs != (me.pid, me.start, me.pid_ns) or other == lease.id:
            continue
        if lease_state(directory.leases, other) != "alive":
            ended.append(other)
    return [entry for one in ended for entry in tx.published_without_keep(one)]


def bury_offers(
    tx: Transaction, directory: Directory, ending: tuple[int, str] | None = None
) -> None:
    """Forget offers that are too old, of names that are gone, or to kernels that will not come back.

    Parameters
    ----------
    tx, directory, ending
        As for `bury_the_dead`.
    """
    tx.forget_old_offers(time.time())
    there = tx.recipients()
    present = {who.connection_file for who, _ in living(directory.leases)} if there else set()
    for recipient, was in there.items():
        if recipient in present or is_running(was.pid, was.start, was.pid_ns):
            continue
        # One that is restarted keeps its connection file, and its server runs on.
        if has_ended(was, ending) or not os.path.exists(recipient):
            tx.forget_recipient(recipient)


def unregistered(directory: Directory, known: Registry, kept: Collection[str]) -> list[File]:
    """Return files that no row knows, and that are none of those kept; some may be in the making.

    Needs no transaction.
    """
    files = directory.files()
    # Files are listed first: one that is registered meanwhile is then among the rows.
    ids = known.segment_ids() if files else set()
    return [path for name, path in files.items() if name not in ids and name not in kept]


def collect_files(
    tx: Transaction,
    directory: Directory,
    paths: Sequence[File],
    doomed: Doomed,
    *,
    known: bool = False,
) -> None:
    """Doom those files that no row knows and nobody holds.

    What was published, or looks like a newer jshm's, stays, unless `known`: a row told, until now, that
    it is not.
    """
    for path in paths:
        if doomed.full:
            return
        identity = os.path.splitext(os.path.basename(path))[0]
        if tx.mentions(identity) or not directory.has(path.place):
            continue  # not of this registry, if the directory was moved since it was listed
        with contextlib.suppress(FileNotFoundError):
            fd = segment.claim(path, directory.access)
            if (
                fd is not None
                and not known
                and (is_published(path, directory) or _is_newer(fd, path))
            ):
                segment.close(fd)
            elif fd is not None:
                doomed.add(path, fd)


def _is_newer(fd: int, path: str) -> bool:
    """Tell whether a newer jshm made this, in a format that only it can judge or register again."""
    kind = "array" if path.endswith(ARRAY) else "object"
    if kind == "object":
        magic = os.pread(fd, len(OBJECT_MAGIC), 0)
        if magic != OBJECT_MAGIC:
            # Of another kind; or nobody's: it was never finished.
            return not OBJECT_MAGIC.startswith(magic.rstrip(b"\0"))
    try:
        records = read_records(fd, layout_in(fd, kind).records)
    except FormatVersionError:
        return True
    except JshmError:
        return False
    formats = [content.get("jshm") for content in records]
    return any(isinstance(known, int) and known > rows.FORMAT for known in formats)


def sweep_leases(directory: Directory) -> None:
    """Remove the lease files of dead processes; their rows say who they were."""
    sweep(directory.leases)
