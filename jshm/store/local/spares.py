"""Spares: superseded segments that nobody holds, kept by their publisher for the next publish.

Memory that is allocated, and mapped, takes a copy at the speed of `memcpy`: to allocate it, to clear it
and to map it takes several times as long.

Who reads an old version must never see the next one written over it. So before a file is written again

- its rows are gone, it has a new id, and so a path that nobody knows, and no magic: it is no segment;
- `LOCK_EX` says that no jshm holds it, and the kernel that nobody else has it open or mapped, jshm or
  not (`segment.is_alone`). In doubt it is removed.

A spare is a file that no row knows and nobody holds: garbage, but for a line in the log of a living
process (`lease`). So it goes when that process is killed, and others may take it away when it was
idle for long, or when memory is short: the `LOCK_EX` of whoever takes it decides.
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
from ...segment import file as segment
from ...segment.trailer import ALIGNMENT
from ...system import file_locks
from ...system import signals as interrupts
from ...system.directories import exists, is_at, rename, status
from ...system.memory import is_short, size_setting
from .lease import living

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ...system.directories import File, OpenDirectory
    from .directory import Directory
    from .lease import LeaseLog

# What all spares of one process may take.
DEFAULT = "10%"
# Seconds after which what was not used is given back.
IDLE = 60.0
# A spare may be larger than what is written into it by this share of it.
_SLACK = 8
# Each costs a descriptor.
_MOST = 64
_LOOK_INTERVAL = 1.0
# Linux 5.14. Of a shared mapping of a file in memory this maps sixteen pages at a time, for writing too.
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
        What was published in it.
    mapping : Mapping or None
        All of it, faulted in.
    """

    identity: str
    path: File
    fd: int
    nbytes: int
    name: str
    mapping: segment.Mapping | None = None

    def map(self) -> segment.Mapping:
        """Return its mapping, made now if it has none."""
        if self.mapping is None:
            self.mapping = segment.map_file(self.fd, self.nbytes, "r+", self.identity)
            with contextlib.suppress(OSError):  # an older kernel: then writing it maps it
                self.mapping.madvise(_MADV_POPULATE_READ)
        self.mapping.segment = self.identity
        return self.mapping

    def is_whole(self) -> bool:
        """Tell whether it is still there, with all its memory: others may take it away."""
        status = os.fstat(self.fd)
        return is_only(status) and min(status.st_size, 512 * status.st_blocks) >= self.nbytes

    def is_in(self, place: OpenDirectory) -> bool:
        """Tell whether it is the file that has its name in a directory."""
        return self.path.directory.identity == place.identity and is_at(self.path, self.fd)

    def empty(self) -> None:
        """Give up its memory, also where something may keep the mapping: a traceback's frames."""
        if self.mapping is not None:
            with contextlib.suppress(OSError):
                self.mapping.madvise(mmap.MADV_REMOVE)

    def close(self) -> None:
        """Let go of the file."""
        self.mapping = None
        with contextlib.suppress(OSError):  # something has closed all descriptors
            file_locks.close(self.fd)


def is_only(status: os.stat_result) -> bool:
    """Tell whether a file has one name: with others, the user keeps it (``cp -al``, ``ln``)."""
    return status.st_nlink == 1


class _Held(NamedTuple):
    """A superseded version that somebody holds."""

    path: File
    nbytes: int
    name: str


class Spares:
    """The spares of one process, and what is to become one.

    The garbage collector may call finalizers anywhere, and these may use jshm: so no table is iterated
    over, but a copy, and what is taken from one may be gone.

    Parameters
    ----------
    directory : Directory
    log : LeaseLog
        Tells other processes what is kept.
    """

    def __init__(self, directory: Directory, log: LeaseLog) -> None:
        self._directory = directory
        self._log = log
        self._guard = interrupts.Guard(interrupts.Order.SPARES)
        self._free: dict[str, Spare] = {}
        # Versions that were written into a spare, by segment: its mapping is kept for the next time.
        self._published: dict[str, Spare] = {}
        self._held: dict[str, _Held] = {}
        self._short = False
        self._next_look = 0.0
        self._used = 0.0

    def __bool__(self) -> bool:
        """Whether there is anything to give back."""
        return bool(self._free or self._published or self._held)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that only this process keeps, or will."""
        with self._guard:
            free = sum(spare.nbytes for spare in list(self._free.values()))
            return free + sum(one.nbytes for one in list(self._held.values()))

    # -- take --------------------------------------------------------------------------------------

    def take(self, nbytes: int) -> Spare | None:
        """Return a spare of at least so many bytes, locked with `LOCK_EX`, or None."""
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
                    if spare.is_in(place) and spare.is_whole() and segment.is_alone(spare.fd):
                        # First: what is said to be a spare may be taken away when it is unlocked.
                        self._log.remove_spare(spare.identity)
                        spare.map()
                        return spare
                except OSError:  # somebody is just taking it away, or there is no room to say so
                    pass
                self._remove(spare)
        return None

    def keep(self, spare: Spare, name: str) -> None:
        """Remember a version that was published in a spare, with its mapping, for the next time."""
        with self._guard:
            for identity in list(self._published)[: 1 - _MOST]:
                if (oldest := self._published.pop(identity, None)) is not None:
                    oldest.close()
            spare.name = name
            self._used = time.monotonic()
            self._published[spare.identity] = spare
            fcntl.flock(spare.fd, fcntl.LOCK_UN)  # this is not to hold it

    # -- put ---------------------------------------------------------------------------------------

    def adopt(self, name: str, fd: int, path: File) -> bool:
        """Make a spare of a file that no row knows any more; tell whether it became one.

        Parameters
        ----------
        name : str
            What was published in it.
        fd : int
            Has it locked with `LOCK_EX`; closed here.
        path : File
            Where it was. If it became no spare, nothing is there any more.
        """
        with self._guard:
            spare = self._published.pop(_identity(path), None)
            self._forget_held(_identity(path))
            if spare is not None and not is_at(path, spare.fd):  # of a directory that was moved
                spare.close()
                spare = None
            try:
                status = os.fstat(fd)
                nbytes = status.st_size
                if self._may_keep(nbytes) and self._may_write(status) and is_at(path, fd):
                    path = self._rename(fd, path)
                    if spare is None:
                        opened = file_locks.open_locked(path, os.O_RDWR)
                        spare = Spare(_identity(path), path, opened, nbytes, name)
                    if not os.path.samestat(os.fstat(spare.fd), status):
                        raise FileNotFoundError(path)  # as if it had been removed
                    # With two descriptors this process would not be alone with it.
                    file_locks.close(fd)
                    fd = -1
                    spare.identity, spare.path, spare.name = _identity(path), path, name
                    fcntl.flock(spare.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if segment.is_alone(spare.fd):
                        segment.write(spare.fd, 0, [bytes(ALIGNMENT)])  # of whatever kind it is
                        os.fchmod(spare.fd, self._directory.access.own)
                        self._log.add_spare(spare.identity, nbytes, name)
                        fcntl.flock(spare.fd, fcntl.LOCK_UN)
                        self._used = time.monotonic()
                        self._free[spare.identity] = spare
                        return True
            except (OSError, JshmError):  # somebody holds it after all; no room, no descriptor left
                pass
            # What has the path now may be another file: a directory was moved.
            segment.unlink(path, fd if fd >= 0 or spare is None else spare.fd)
            if fd >= 0:
                file_locks.close(fd)
            if spare is not None:
                spare.close()
            return False

    @staticmethod
    def _may_write(status: os.stat_result) -> bool:
        return status.st_uid == os.geteuid() and is_only(status)

    def _rename(self, fd: int, path: File) -> File:
        """Give a file a new id, and let it be written; return its path."""
        renamed = self._directory.path(segment.new_id(), overflow=False)
        os.fchmod(fd, self._directory.access.own | segment.RELEASED)  # until its magic is erased
        rename(path, renamed)
        return renamed

    def expect(self, path: File, nbytes: int, name: str) -> None:
        """Let a superseded version become a spare when nobody holds it any more."""
        with self._guard:
            if self._may_keep(nbytes):
                with contextlib.suppress(OSError):
                    self._log.add_spare(_identity(path), nbytes, name)
                    self._used = time.monotonic()
                    self._held[_identity(path)] = _Held(path, nbytes, name)

    def let_go(self) -> dict[str, str]:
        """Return what was superseded, and nobody holds by now: segment id → name."""
        with self._guard:
            held = list(self._held.copy().items())
        return {identity: one.name for identity, one in held if not segment.is_held(one.path)}

    def forget(self, identities: Collection[str]) -> None:
        """Expect no more that these become spares."""
        with self._guard:
            for identity in identities:
                self._forget_held(identity)

    def _may_keep(self, nbytes: int) -> bool:
        """Tell whether there may be one more spare; older ones make room for it."""
        most = self._most()
        if not segment.MIN_SPARE_SIZE <= nbytes <= most:
            return False
        for identity in list(self._free):
            if self.nbytes + nbytes <= most and len(self._free) < _MOST:
                break
            self._drop(identity)
        return self.nbytes + nbytes <= most and len(self._held) < _MOST and not self._is_short()

    def _is_short(self) -> bool:
        """Tell whether memory is short: to find out takes longer than to copy a megabyte."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look, self._short = now + _LOOK_INTERVAL, is_short()
        return self._short

    def _most(self) -> int:
        # Members of a group may write LIVE data, and read all; on disk there is no speed to gain.
        if self._directory.access.group or not self._directory.in_memory:
            return 0
        return spares_limit()

    # -- give back ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Let go of what was released, and of everything where memory is short. Cheap."""
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
    def _is_there(one: _Held, place: OpenDirectory) -> bool:
        return one.path.directory.identity == place.identity and exists(one.path)

    def expire(self) -> bool:
        """Give everything back if nothing was used for long; tell whether it was so."""
        idle = bool(self) and time.monotonic() - self._used >= IDLE
        if idle:
            self.give_back()
        return idle

    def give_back(self, names: Collection[str] | None = None) -> None:
        """Give back the memory of all, or of what was published under these names."""

        def concerned(kept: Mapping[str, Spare] | Mapping[str, _Held]) -> list[str]:
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
        segment.unlink(spare.path, spare.fd)
        spare.close()
        with contextlib.suppress(OSError):  # a full disk: it is gone all the same
            self._log.remove_spare(spare.identity)

    def _forget_held(self, identity: str) -> None:
        if self._held.pop(identity, None):
            with contextlib.suppress(OSError):
                self._log.remove_spare(identity)

    def after_fork_in_child(self) -> None:
        """Leave them to the parent: a child's descriptors of them are closed already."""
        self._guard = interrupts.Guard(interrupts.Order.SPARES)
        self._free.clear()
        self._published.clear()
        self._held.clear()


def _identity(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


# -- of all processes -------------------------------------------------------------------------------


class Listed(NamedTuple):
    """What a living process keeps: a spare, or a superseded version that is to become one.

    Attributes
    ----------
    nbytes : int
    name : str
        What was published in it.
    label : str
        What people call the process.
    idle : bool
        Whether it has not used any for long.
    """

    nbytes: int
    name: str
    label: str
    idle: bool


def listed(directory: Directory) -> dict[str, Listed]:
    """Return, by segment id, what living processes keep."""
    return {
        identity: Listed(spare.nbytes, spare.name, who.label, log.idle >= IDLE)
        for who, log in living(directory.leases)
        for identity, spare in log.spares.items()
    }


def spare_bytes(directory: Directory) -> int:
    """Return the bytes that spares take; what is held still is none yet."""
    total = 0
    for identity in listed(directory):
        path = directory.path(identity, overflow=False)
        with contextlib.suppress(FileNotFoundError):
            total += 0 if segment.is_held(path) else status(path).st_size
    return total
