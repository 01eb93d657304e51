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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .. import blockers, interrupts, segment
from ..errors import (
    LockHeldError,
    LockTimeoutError,
    NoSpaceError,
    RegistryError,
    UnsafeDirectoryError,
)
from .draft import NO_SPACE
from .safety import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..access import Access
    from .directory import Directory

# What jshm calls its files here; anything else is not jshm's to delete.
_OURS = re.compile(r"(once|name)-[0-9a-f]{32}(\.[0-9a-f]{16})?")
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
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
        self._path = os.path.join(directory.locks, file)
        self._held: list[_Held] = []

    def __repr__(self) -> str:
        return f"<lock of {self._name}{', shared' if self._shared else ''}>"

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

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        # A generator, or a stack of contexts, may be closed by another thread.
        mine = [held for held in self._held if held.thread == me]
        self._release((mine or self._held)[-1])

    def _release(self, held: _Held) -> None:
        with interrupts.deferred():
            self._held.remove(held)
            held.release()

    def _take(self) -> _Held:
        me = (threading.get_ident(), self._path)
        if me in _mine:
            raise LockHeldError(
                f"this thread has the lock of {self._name} already, and would wait for itself for "
                "ever. Leave the `with` block before taking it again"
            )
        self._sign()
        began = time.monotonic()
        told = False
        while True:
            fd = _open(self._directory, self._path)
            try:
                while not _try(fd, shared=self._shared):
                    waited = time.monotonic() - began
                    if self._timeout is not None and waited >= max(self._timeout, _GLANCE):
                        raise self._timed_out(fd)
                    if not told and self._waits is not None and waited > _GLANCE:
                        told = True
                        self._waits(self._holders(fd))
                    interrupts.check()
                    time.sleep(self._pause(waited))
                # A sweep may have removed the file since it was opened.
                if _is_at(self._path, fd):
                    _mine[me] = held = _Held(self._path, fd, os.getpid(), me[0])
                    return held
            except BaseException:
                segment.close(fd)
                raise
            segment.close(fd)

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


def _open(directory: Directory, path: str) -> int:
    """Return a descriptor of a lock's file, which is made if it is not there."""
    for _ in interrupts.ATTEMPTS:
        interrupts.check()
        try:
            with contextlib.suppress(FileNotFoundError):
                return segment.open_locked(path, _FLAGS)
            if not os.path.lexists(directory.locks):
                directory.make_again()
            with contextlib.suppress(FileExistsError):  # another was faster
                return _make(path, directory.access)
        except FileNotFoundError:  # removed in between
            continue
        except UnsafeDirectoryError:
            raise
        except OSError as error:
            raise _explain(error, path) from None
    raise RegistryError(
        f"{path} is removed again and again while it is made: find out what does that"
    )


def _make(path: str, access: Access) -> int:
    """Make the file under another name first: nobody finds it before its whole group may open it."""
    check(os.path.dirname(path), access)  # a member could have put a link there
    making = f"{path}.{os.urandom(8).hex()}"
    fd = segment.open_locked(making, _FLAGS | os.O_CREAT | os.O_EXCL)
    try:
        access.settle(fd, access.common)
        os.link(making, path)
    except BaseException:
        segment.close(fd)
        raise
    finally:
        segment.unlink(making)
    return fd


def _is_at(path: str, fd: int, place: int | None = None) -> bool:
    """Tell whether a path, or a name in an open directory, still leads to an open file."""
    try:
        there = os.stat(path, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def sweep(directory: str) -> None:
    """Remove the files of locks that nobody has, and nobody waits for."""
    with interrupts.deferred():
        try:
            place = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # removed as a whole, and not made again yet; or what is there is not ours
            return
        try:
            for name in filter(_OURS.fullmatch, os.listdir(place)):
                with contextlib.suppress(
                    OSError
                ):  # gone, or another user's who is about to make it
                    _sweep(directory, name, place)
        finally:
            os.close(place)


def _sweep(directory: str, name: str, place: int) -> None:
    fd = segment.open_locked(os.path.join(directory, name), _FLAGS)
    try:
        # In the very directory that was listed, whatever has its name by now.
        if _try(fd, shared=False) and _is_at(name, fd, place):
            os.unlink(name, dir_fd=place)
    finally:
        segment.close(fd)


def _explain(error: OSError, path: str) -> OSError | NoSpaceError:
    """Return the error, or one that says what to do."""
    if error.errno in NO_SPACE:
        return NoSpaceError(
            f"no room left in {os.path.dirname(path)} ({error.strerror}): release names you no "
            "longer need (%shm_list shows what each costs)"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO):
        return UnsafeDirectoryError(
            f"{path} cannot be opened: {error.strerror}. Somebody else made it, or changed whose it "
            "is: remove it"
        )
    return segment.limit_error(error)
