"""Locks between any processes and threads, each a ``flock`` of a file of the store.

The OS drops a lock when its holder dies, however it dies. Who wants it takes the *turn* first, a lock
of another type on the same file, and keeps it until he has the lock: else who lets go and comes again
at once would always be faster than those who wait, and a writer would wait for ever while readers come
and go. To make the file each time would take twice as long as all else: `sweep` removes those that are
not in use.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import struct
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ...errors import (
    LockHeldError,
    LockTimeoutError,
    NoSpaceError,
    RegistryError,
    UnsafeDirectoryError,
)
from ...segment import file as segment
from ...system import lock_holders as blockers
from ...system import signals as interrupts
from ...system.directories import File, Place, beside, exists, is_at, link
from ...text import shown
from .directory import disk_full
from .new_segment import NO_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...system.access import Access
    from .directory import Directory

# What jshm calls its files here; anything else is not jshm's to delete.
_OURS = re.compile(r"(once|name)-[0-9a-f]{32}(\.[0-9a-f]{16})?")
_FLAGS = os.O_RDWR | os.O_NONBLOCK
# Belongs to the open file, as a flock does, and not to the process: fcntl_locking(2). Where there is
# none (macOS) it is chance who comes next.
_SET_TURN = getattr(fcntl, "F_OFD_SETLK", None)
# Seconds between two tries: a part of what was waited already, within these bounds.
_PAUSES = (5e-5, 5e-3)
_PART = 1 / 64
# Seconds for which somebody who only looks whether a file is needed may have its lock.
_GLANCE = 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """One taking of a lock: its file, and by whom."""

    path: str
    fd: int
    pid: int
    thread: int
    owner: weakref.ref[Lock]

    def release(self) -> None:
        if self.pid != os.getpid():  # the process that has forked this one has it
            return
        with interrupts.deferred():
            _mine.pop((self.thread, self.path), None)
            # Not only closed: a process that a library has forked may keep a descriptor too.
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            segment.close(self.fd)


# What the threads of this process have, by thread and path.
_mine: dict[tuple[int, str], _Held] = {}
os.register_at_fork(after_in_child=_mine.clear)
# Owners that went without releasing: a handler of a signal can raise before `Lock.__exit__` has begun.
left: deque[weakref.ref[Lock]] = deque()


@interrupts.whole
def release_left() -> None:
    """Release what nobody can release any more."""
    left.clear()
    for held in list(_mine.values()):
        if held.owner() is None:
            held.release()


class Lock:
    """A lock that a ``with`` block takes, again and again, in any thread.

    Parameters
    ----------
    directory : Directory
    sign : callable
        Sees to it that others find out what people call this process.
    file : str
        What its file is called: as in `file_of`, or ``once-`` and 32 hexadecimal digits.
    name : str
        What people call it.
    shared : bool
        Together with others who share it.
    timeout : float, optional
        Seconds to wait for others; by default for ever.
    waits : callable, optional
        Called once if others have it, with who they are.
    """

    def __init__(
        self,
        directory: Directory,
        sign: Callable[[], object],
        file: str,
        name: str,
        *,
        shared: bool = False,
        timeout: float | None = None,
        waits: Callable[[str], None] | None = None,
    ) -> None:
        self._directory = directory
        self._sign = sign
        self._name = name
        self._shared = shared
        self._timeout = timeout
        self._waits = waits
        self._file = file
        self._path = f"{directory.root}/locks/{file}"
        self._held: list[_Held] = []

    def __repr__(self) -> str:
        return shown(f"<lock of {self._name}{', shared' if self._shared else ''}>")

    def __enter__(self) -> Self:
        held = None
        try:
            with interrupts.deferred():
                held = self._take()
                self._held.append(held)
        except BaseException:  # also Ctrl-C, in the moment in which it was taken
            if held is not None:
                self._release(held)
            raise
        return self

    @interrupts.whole
    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        # A generator, or a stack of contexts, may be closed by another thread.
        held = ([held for held in self._held if held.thread == me] or self._held)[-1]
        self._release(held)

    def _release(self, held: _Held) -> None:
        with interrupts.deferred():
            self._held.remove(held)
            held.release()

    def _take(self) -> _Held:
        me = (threading.get_ident(), self._path)
        release_left()
        if me in _mine:
            raise LockHeldError(
                f"this thread has the lock of {self._name} already, and would wait for itself for "
                "ever. Leave the `with` block before taking it again"
            )
        self._sign()
        began = time.monotonic()
        told = False
        while True:
            fd, path = self._open()
            try:
                while not self._is_won(fd):
                    waited = time.monotonic() - began
                    if self._timeout is not None and waited >= max(self._timeout, _GLANCE):
                        raise self._timed_out(fd)
                    if not told and self._waits is not None and waited > _GLANCE:
                        told = True
                        self._waits(self._holders(fd))
                    interrupts.check()
                    time.sleep(self._pause(waited))
                # A sweep may have removed the file since it was opened; or the directory was moved.
                if self._is_there(path, fd):
                    _mine[me] = held = _Held(
                        me[1], fd, os.getpid(), me[0], weakref.ref(self, left.append)
                    )  # fmt: skip
                    return held
            except BaseException:
                segment.close(fd)
                raise
            segment.close(fd)

    def _open(self) -> tuple[int, str]:
        """Return a descriptor of the file, and its path; `segment.close` it."""
        return _open(self._directory, self._file)

    def _is_there(self, path: str, fd: int) -> bool:
        """Tell whether an open file is still the one that others lock."""
        return is_at(path, fd) and _is_now(self._directory, path)

    def _is_won(self, fd: int) -> bool:
        """Take the lock if it is free and the turn is ours; else stay the next, if we are."""
        return _try(fd, shared=self._shared)

    def _pause(self, waited: float) -> float:
        least, most = _PAUSES
        if self._timeout is not None:
            most = min(most, max(self._timeout - waited, least))
        return min(max(waited * _PART, least), most)

    def _timed_out(self, fd: int) -> LockTimeoutError:
        return LockTimeoutError(
            f"waited {self._timeout:g} s for the lock of {self._name}, which {self._holders(fd)} "
            "has. If that process is stopped (Ctrl-Z, a debugger), continue or end it"
        )

    def _holders(self, fd: int) -> str:
        """Return who keeps us from it. The kernel says so: nobody who has died is among them."""
        pids = blockers.keeping(fd, "FLOCK", "WRITE")
        if not self._shared:
            pids += blockers.keeping(fd, "FLOCK", "READ")
        here = any(path == self._path for _, path in list(_mine))
        parts = ["another thread of this process"] if here else []
        if pids or not here:
            parts.append(blockers.described(pids))
        return ", ".join(parts)


class LockOfOther(Lock):
    """A lock of another member's LIVE data, in that member's directory: opened to be read.

    It knows no turns: to take one is to write. Where the file is gone, the data are LIVE no more.
    """

    def __init__(
        self, opens: Callable[[], int], path: str, directory: Directory, *of: Any, **how: Any
    ) -> None:
        super().__init__(directory, *of, **how)
        self._opens = opens
        self._path = path

    def _open(self) -> tuple[int, str]:
        return self._opens(), self._path

    def _is_there(self, path: str, fd: int) -> bool:
        return is_at(path, fd)

    def _is_won(self, fd: int) -> bool:
        return _take(fd, shared=self._shared)


def _take(fd: int, *, shared: bool) -> bool:
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try(fd: int, *, shared: bool) -> bool:
    """Take the lock if it is free and the turn is ours; else stay the next, if we are."""
    try:
        _turn(fd, fcntl.F_WRLCK)
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    _turn(fd, fcntl.F_UNLCK)
    return True


def _turn(fd: int, kind: int) -> None:
    """Take the turn, or pass it on; BlockingIOError if another has it."""
    if _SET_TURN is not None:
        fcntl.fcntl(fd, _SET_TURN, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))


# -- files -----------------------------------------------------------------------------------------


def file_of(name: str) -> str:
    """Return what the file of a name's lock is called. A name may have more bytes than a file's may."""
    return f"name-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _is_now(directory: Directory, path: str) -> bool:
    """Tell whether a file is in the directory that locks are in now."""
    try:
        directory.spot.look()
    except FileNotFoundError:
        return False
    return isinstance(path, File) and path.place.identity == directory.locks.identity


def _open(directory: Directory, name: str) -> tuple[int, File]:
    """Return a descriptor of a lock's file, which is made if it is not there, and its path."""
    for _ in interrupts.ATTEMPTS:
        interrupts.check()
        try:
            directory.spot.look()
            path = File(directory.locks, name)
            with contextlib.suppress(FileNotFoundError):
                return segment.open_locked(path, _FLAGS), path
            with contextlib.suppress(FileExistsError):  # another was faster
                return _make(path, directory.access), path
        except FileNotFoundError:
            directory.make_again()
        except UnsafeDirectoryError:
            raise
        except OSError as error:
            raise _explain(error, File(directory.locks, name)) from None
    raise RegistryError(
        f"{directory.locks} is removed again and again. Something deletes files in that directory: try again"
    )


def _make(path: File, access: Access) -> int:
    """Make the file under another name first: nobody finds it before its whole group may open it."""
    making = beside(path, f".{os.urandom(8).hex()}")
    fd = segment.open_locked(making, _FLAGS | os.O_CREAT | os.O_EXCL)
    try:
        access.settle(fd, access.own)
        link(making, path)
    except BaseException:
        segment.close(fd)
        raise
    finally:
        segment.unlink(making)
    return fd


def show(directory: Directory, name: str, *, shown: bool) -> None:
    """Let a group's members take the lock of a name, in a file that is there; or let them no more.

    Raises
    ------
    OSError, NoSpaceError
    """
    file, mode = file_of(name), directory.access.shown
    if not shown and not exists(File(directory.locks, file)):
        return
    with interrupts.deferred():
        fd, _ = _open(directory, file)
        try:
            os.fchmod(fd, mode if shown else directory.access.own)
        finally:
            segment.close(fd)


def sweep(directory: str) -> None:
    """Remove the files of locks that nobody has, and nobody waits for."""
    with interrupts.deferred(), contextlib.suppress(OSError):
        # Removed as a whole, and not made again yet; or what is there is not ours.
        place = directory if isinstance(directory, Place) else Place(directory)
        for name in filter(_OURS.fullmatch, place.names()):
            # Gone, or another user's who is about to make it.
            with contextlib.suppress(OSError):
                _sweep(File(place, name))


def _sweep(path: File) -> None:
    fd = segment.open_locked(path, _FLAGS)
    try:
        # What others may lock stays.
        if not os.fstat(fd).st_mode & 0o077 and _try(fd, shared=False):
            segment.unlink(path, fd)
    finally:
        segment.close(fd)


def _explain(error: OSError, path: str) -> OSError | NoSpaceError:
    """Return the error, or one that says what to do."""
    if error.errno in NO_SPACE:
        return disk_full("a lock", os.path.dirname(os.path.dirname(path)), error.strerror)
    if error.errno in (
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENXIO,
    ):
        return UnsafeDirectoryError(
            f"{path} cannot be opened: {error.strerror}. Somebody else made it, or changed whose it "
            "is: remove it"
        )
    return segment.limit_error(error)
