"""Spares: superseded segments that nobody holds, kept by their publisher for the next publish.

To allocate memory, clear it and map it takes several times as long as a copy. A spare is allocated and
mapped already, so that a publish runs at the speed of `memcpy`.

A reader of an old version must never see the next version written over it. Before a file is written again,

- its rows are deleted, it has a new id, and so a path that no process knows, and no magic: it is not a
  segment any more;
- `LOCK_EX` proves that no jshm process holds it, and the kernel that no other process has it open or
  mapped (`segment_file.is_alone`). In doubt it is removed.

A spare is a file that no row knows and nobody holds. It would be garbage, if the log of a living process
did not list it (`lease`). So it is collected when that process dies. Other processes take it away after a
time without use, or when memory is short: the `LOCK_EX` of the process that takes it decides.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ...errors import JshmError
from ...segment import file as segment_file
from ...segment.trailer import ALIGNMENT
from ...system import file_locks, signals
from ...system.directories import exists, is_at, rename, status
from ...system.memory import is_short, size_setting
from .directory import id_in
from .lease import living

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ...system.directories import File, OpenDirectory
    from .directory import Directory
    from .lease import LeaseLog

# The memory that all spares of one process may take.
DEFAULT = "10%"
# Seconds without use after which spares are freed.
IDLE = 60.0
# A spare may be larger than the data by this fraction of the data: an eighth.
_SLACK = 8
# The number of spares: each costs a descriptor.
_MOST = 64
_LOOK_INTERVAL = 1.0
# Linux 5.14. For a shared mapping of a file in memory it maps sixteen pages at a time, writable ones too.
_MADV_POPULATE_READ = 22


def spares_limit() -> int:
    """Return the bytes that all spares of one process may take: ``JSHM_SPARES``.

    Raises
    ------
    InvalidSettingError
    """
    return size_setting("JSHM_SPARES", DEFAULT) or 0


@dataclass(slots=True, eq=False)
class Spare:
    """A file in memory to write into.

    Attributes
    ----------
    identity : str
        The id of the segment that it becomes.
    path : File
    fd : int
        Owned.
    nbytes : int
        Its length.
    name : str
        The name that was published in it.
    mapping : Mapping or None
        Of the whole file, faulted in.
    """

    identity: str
    path: File
    fd: int
    nbytes: int
    name: str
    mapping: segment_file.Mapping | None = None

    def map(self) -> segment_file.Mapping:
        """Return its mapping, which is created if it has none."""
        if self.mapping is None:
            self.mapping = segment_file.map_file(self.fd, self.nbytes, "r+", self.identity)
            with contextlib.suppress(OSError):  # an older kernel maps it when it is written
                self.mapping.madvise(_MADV_POPULATE_READ)
        self.mapping.segment = self.identity
        return self.mapping

    def is_whole(self) -> bool:
        """Return whether it still exists, with all its memory: other processes may take it away."""
        status = os.fstat(self.fd)
        return is_only(status) and min(status.st_size, 512 * status.st_blocks) >= self.nbytes

    def is_in(self, place: OpenDirectory) -> bool:
        """Return whether its path leads to it, in that directory."""
        return self.path.directory.identity == place.identity and is_at(self.path, self.fd)

    def empty(self) -> None:
        """Free its memory, even if something keeps the mapping, for example the frames of a traceback."""
        if self.mapping is not None:
            with contextlib.suppress(OSError):
                self.mapping.madvise(mmap.MADV_REMOVE)

    def close(self) -> None:
        """Close the file."""
        self.mapping = None
        with contextlib.suppress(OSError):  # something else has closed all descriptors
            file_locks.close(self.fd)


def is_only(status: os.stat_result) -> bool:
    """Return whether a file has one name; one with several is kept by the user (``cp -al``, ``ln``)."""
    return status.st_nlink == 1


class _Superseded(NamedTuple):
    """A superseded version that is still held, and becomes a spare when it is not."""

    path: File
    nbytes: int
    name: str


class Spares:
    """The spares of one process, and the superseded versions that will become spares.

    Finalizers can run anywhere and may use jshm. So a table is copied before it is iterated over, and an
    entry may be gone when it is taken out.

    Parameters
    ----------
    directory : Directory
    log : LeaseLog
        Where other processes see the spares.
    """

    def __init__(self, directory: Directory, log: LeaseLog) -> None:
        self._directory = directory
        self._log = log
        self._guard = signals.Guard(signals.Order.SPARES)
        self._free: dict[str, Spare] = {}
        # Versions that were written into a spare, by segment: the mapping is kept for the next publish.
        self._published: dict[str, Spare] = {}
        self._held: dict[str, _Superseded] = {}
        self._short = False
        self._next_look = 0.0
        self._used = 0.0

    def __bool__(self) -> bool:
        """Whether there is anything to free."""
        return bool(self._free or self._published or self._held)

    @property
    def nbytes(self) -> int:
        """Bytes of spares, and of held versions that will become spares."""
        with self._guard:
            free = sum(spare.nbytes for spare in list(self._free.values()))
            return free + sum(one.nbytes for one in list(self._held.values()))

    # -- take --------------------------------------------------------------------------------------

    def take(self, nbytes: int) -> Spare | None:
        """Return a spare of at least `nbytes` bytes, locked with `LOCK_EX`, or None."""
        if not self._most():
            return None
        with self._guard:
            fitting = [
                spare
                for spare in list(self._free.values())
                if nbytes <= spare.nbytes <= nbytes + nbytes // _SLACK
            ]
            for spare in sorted(fitting, key=lambda spare: (spare.nbytes, spare.mapping is None)):
                if self._free.pop(spare.identity, None) is None:
                    continue
                try:
                    fcntl.flock(spare.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    place = self._directory.segments
                    if spare.is_in(place) and spare.is_whole() and segment_file.is_alone(spare.fd):
                        # First: a listed spare may be taken away while it is not locked.
                        self._log.remove_spare(spare.identity)
                        spare.map()
                        return spare
                except OSError:
                    pass  # another process is taking it away, or there is no room for the log
                self._remove(spare)
        return None

    def keep(self, spare: Spare, name: str) -> None:
        """Keep the mapping of a version that was published in a spare, for the next publish."""
        with self._guard:
            for identity in list(self._published)[: 1 - _MOST]:
                if (oldest := self._published.pop(identity, None)) is not None:
                    oldest.close()
            spare.name = name
            self._used = time.monotonic()
            self._published[spare.identity] = spare
            fcntl.flock(spare.fd, fcntl.LOCK_UN)  # this must not count as a holder

    # -- put ---------------------------------------------------------------------------------------

    def adopt(self, name: str, fd: int, path: File) -> bool:
        """Make a spare of a file whose rows are deleted, or remove the file; return whether it is a spare.

        Parameters
        ----------
        name : str
            The name that was published in it.
        fd : int
            Holds its `LOCK_EX`; closed here.
        path : File
        """
        with self._guard:
            spare = self._published.pop(id_in(path), None)
            self._forget_held(id_in(path))
            if spare is not None and not is_at(path, spare.fd):  # in a directory that was moved
                spare.close()
                spare = None
            try:
                status = os.fstat(fd)
                nbytes = status.st_size
                is_mine = status.st_uid == os.geteuid() and is_only(status)
                if self._may_keep(nbytes) and is_mine and is_at(path, fd):
                    path = self._rename(fd, path)
                    if spare is None:
                        opened = file_locks.open_locked(path, os.O_RDWR)
                        spare = Spare(id_in(path), path, opened, nbytes, name)
                    if not os.path.samestat(os.fstat(spare.fd), status):
                        raise FileNotFoundError(path)  # as if it had been removed
                    # With two descriptors this process would not be its only user.
                    file_locks.close(fd)
                    fd = -1
                    spare.identity, spare.path, spare.name = id_in(path), path, name
                    fcntl.flock(spare.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if segment_file.is_alone(spare.fd):
                        segment_file.write(spare.fd, 0, [bytes(ALIGNMENT)])  # of either kind
                        os.fchmod(spare.fd, self._directory.access.own)
                        self._log.add_spare(spare.identity, nbytes, name)
                        fcntl.flock(spare.fd, fcntl.LOCK_UN)
                        self._used = time.monotonic()
                        self._free[spare.identity] = spare
                        return True
            except (OSError, JshmError):  # it is held after all; no room, no descriptor left
                pass
            # The path may lead to another file now, if a directory was moved.
            segment_file.unlink(path, fd if fd >= 0 or spare is None else spare.fd)
            if fd >= 0:
                file_locks.close(fd)
            if spare is not None:
                spare.close()
            return False

    def _rename(self, fd: int, path: File) -> File:
        """Give a file a new id and make it writable; return its new path."""
        renamed = self._directory.path(segment_file.new_id(), overflow=False)
        # Until its magic is erased, it counts as released.
        os.fchmod(fd, self._directory.access.own | segment_file.RELEASED)
        rename(path, renamed)
        return renamed

    def expect(self, path: File, nbytes: int, name: str) -> None:
        """Make a spare of a superseded version when nobody holds it any more."""
        with self._guard:
            if self._may_keep(nbytes):
                with contextlib.suppress(OSError):
                    self._log.add_spare(id_in(path), nbytes, name)
                    self._used = time.monotonic()
                    self._held[id_in(path)] = _Superseded(path, nbytes, name)

    def let_go(self) -> dict[str, str]:
        """Return the superseded versions that nobody holds any more: segment id → name."""
        with self._guard:
            held = list(self._held.copy().items())
        return {identity: one.name for identity, one in held if not segment_file.is_held(one.path)}

    def forget(self, identities: Collection[str]) -> None:
        """Do not make spares of these superseded versions."""
        with self._guard:
            for identity in identities:
                self._forget_held(identity)

    def _may_keep(self, nbytes: int) -> bool:
        """Return whether one more spare is allowed, after older ones were dropped if necessary."""
        most = self._most()
        if not segment_file.MIN_SPARE_SIZE <= nbytes <= most:
            return False
        for identity in list(self._free):
            if self.nbytes + nbytes <= most and len(self._free) < _MOST:
                break
            self._drop(identity)
        return self.nbytes + nbytes <= most and len(self._held) < _MOST and not self._is_short()

    def _is_short(self) -> bool:
        """Return whether memory is short; cached, because a look takes longer than to copy a megabyte."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look, self._short = now + _LOOK_INTERVAL, is_short()
        return self._short

    def _most(self) -> int:
        # Members of a group may write LIVE data and read everything; on disk a spare is not faster.
        if self._directory.access.group or not self._directory.in_memory:
            return 0
        return spares_limit()

    # -- give back ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Free the spares whose files are gone, or all of them if memory is short. Cheap."""
        if not self:
            return
        with self._guard:
            place = self._directory.segments
            for spare in list(self._free.values()):
                if not spare.is_in(place):
                    self._drop(spare.identity)
            for spare in list(self._published.values()):
                if not spare.is_in(place) and self._published.pop(spare.identity, None) is not None:
                    spare.close()
            held = self._held.copy()
            self.forget([i for i, one in held.items() if not self._is_there(one, place)])
            if self._is_short():
                self.give_back()

    @staticmethod
    def _is_there(one: _Superseded, place: OpenDirectory) -> bool:
        return one.path.directory.identity == place.identity and exists(one.path)

    def expire(self) -> bool:
        """Free all spares if none was used for `IDLE` seconds; return whether that was so."""
        idle = bool(self) and time.monotonic() - self._used >= IDLE
        if idle:
            self.give_back()
        return idle

    def give_back(self, names: Collection[str] | None = None) -> None:
        """Free all spares, or those that were published under these names."""

        def concerned(kept: Mapping[str, Spare] | Mapping[str, _Superseded]) -> list[str]:
            return [i for i, one in kept.items() if names is None or one.name in names]

        with self._guard:
            for identity in concerned(self._free.copy()):
                self._drop(identity)
            for identity in concerned(self._published.copy()):
                if (spare := self._published.pop(identity, None)) is not None:
                    spare.close()
            self.forget(concerned(self._held.copy()))

    def _drop(self, identity: str) -> None:
        if (spare := self._free.pop(identity, None)) is not None:
            self._remove(spare)

    def _remove(self, spare: Spare) -> None:
        segment_file.unlink(spare.path, spare.fd)
        spare.close()
        with contextlib.suppress(OSError):  # a full disk: the spare is gone all the same
            self._log.remove_spare(spare.identity)

    def _forget_held(self, identity: str) -> None:
        if self._held.pop(identity, None):
            with contextlib.suppress(OSError):
                self._log.remove_spare(identity)

    def after_fork_in_child(self) -> None:
        """Forget all: they are the parent's, and the child's descriptors of them are closed."""
        self._guard = signals.Guard(signals.Order.SPARES)
        self._free.clear()
        self._published.clear()
        self._held.clear()


# -- all processes ---------------------------------------------------------------------------------


class ListedSpare(NamedTuple):
    """A spare of a living process, or a superseded version that will become one.

    Attributes
    ----------
    nbytes : int
    name : str
        The name that was published in it.
    label : str
        Of the process.
    idle : bool
        Whether the process has used no spare for `IDLE` seconds.
    """

    nbytes: int
    name: str
    label: str
    idle: bool


def listed(directory: Directory) -> dict[str, ListedSpare]:
    """Return the spares of all living processes, by segment id."""
    return {
        identity: ListedSpare(spare.nbytes, spare.name, who.label, log.idle >= IDLE)
        for who, log in living(directory.leases)
        for identity, spare in log.spares.items()
    }


def spare_bytes(directory: Directory) -> int:
    """Return the bytes that spares take, without versions that are still held."""
    total = 0
    for identity in listed(directory):
        path = directory.path(identity, overflow=False)
        with contextlib.suppress(FileNotFoundError):
            total += 0 if segment_file.is_held(path) else status(path).st_size
    return total
