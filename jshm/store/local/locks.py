"""Locks between any processes and threads, each a ``flock`` of a file of the store.

The operating system drops a lock when its holder dies, however it dies. A process first takes the *turn*,
a lock of another type on the same file, and keeps it until it has the lock. Without this, a process that
re-acquires the lock immediately would starve the waiters, and a writer would wait for ever while readers
come and go. Files are kept, because creating one takes twice as long as everything else; `sweep` removes
those that are not in use.
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
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ...errors import (
    LockHeldError,
    LockTimeoutError,
    NoSpaceError,
    RegistryError,
    UnsafeDirectoryError,
)
from ...segment import file as segment_file
from ...system import file_locks, signals
from ...system.directories import File, OpenDirectory, exists, is_at, link, with_ending
from ...system.limits import limit_error
from ...text import shown
from .directory import disk_full
from .new_segment import NO_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...system.access import Access
    from .directory import Directory
    from .process import Process

# The names of jshm's files here; it never deletes any other.
_OURS = re.compile(r"name-[0-9a-f]{32}(\.[0-9a-f]{16})?")
_FLAGS = os.O_RDWR | os.O_NONBLOCK
# This lock belongs to the open file, like a flock, and not to the process: fcntl_locking(2). Where it does
# not exist (macOS) the next holder is decided by chance.
_SET_TURN = getattr(fcntl, "F_OFD_SETLK", None)
# Each sleep between two attempts is this part of the time waited so far: small, because users wait.
_GROWTH = 1 / 64
# A sweep that checks a file may hold its lock for this many seconds.
_SWEEP_TIME = 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class _Acquired:
    """A lock that a thread has acquired."""

    path: str
    fd: int
    pid: int
    thread: int
    owner: weakref.ref[Lock]

    def release(self) -> None:
        if self.pid != os.getpid():  # it belongs to the parent process
            return
        with signals.deferred():
            _mine.pop((self.thread, self.path), None)
            # Unlocked explicitly: a process forked by a library may have a copy of the descriptor.
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            file_locks.close(self.fd)


# The locks of this process's threads, by thread and path.
_mine: dict[tuple[int, str], _Acquired] = {}
os.register_at_fork(after_in_child=_mine.clear)
# Locks that were deleted without being released: a signal handler can raise just before `Lock.__exit__`.
abandoned: deque[weakref.ref[Lock]] = deque()


@signals.deferred()
def release_abandoned() -> None:
    """Release the locks whose `Lock` objects do not exist any more."""
    abandoned.clear()
    for held in list(_mine.values()):
        if held.owner() is None:
            held.release()


class Lock:
    """A lock for ``with`` blocks; it can be used many times and in any thread.

    Parameters
    ----------
    directory : Directory
    process : Process
        Its lease tells waiting processes the label of this one.
    file : str
        The name of its file, from `file_of`.
    name : str
        What messages call it.
    shared : bool
        Allow other holders that share it, too.
    timeout : float, optional
        Seconds to wait; by default for ever.
    waits : callable, optional
        Called once with the holders' labels, if the lock is not free at once.
    """

    def __init__(
        self,
        directory: Directory,
        process: Process,
        file: str,
        name: str,
        *,
        shared: bool = False,
        timeout: float | None = None,
        waits: Callable[[str], None] | None = None,
    ) -> None:
        self._directory = directory
        self._process = process
        self._name = name
        self._shared = shared
        self._timeout = timeout
        self._waits = waits
        self._file = file
        self._path = f"{directory.root}/locks/{file}"
        self._acquired: list[_Acquired] = []

    def __repr__(self) -> str:
        return shown(f"<lock of {self._name}{', shared' if self._shared else ''}>")

    def __enter__(self) -> Self:
        acquired = None
        try:
            with signals.deferred():
                acquired = self._acquire()
                self._acquired.append(acquired)
        except BaseException:  # also Ctrl-C just after it was acquired
            if acquired is not None:
                self._release(acquired)
            raise
        return self

    @signals.deferred()
    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        # Another thread may close a generator or an ExitStack.
        mine = [acquired for acquired in self._acquired if acquired.thread == me]
        self._release((mine or self._acquired)[-1])

    def _release(self, acquired: _Acquired) -> None:
        with signals.deferred():
            self._acquired.remove(acquired)
            acquired.release()

    def _acquire(self) -> _Acquired:
        me = (threading.get_ident(), self._path)
        release_abandoned()
        if me in _mine:
            raise LockHeldError(
                f"this thread already has the lock of {self._name}, and would wait for itself for "
                "ever. Leave the `with` block before entering it again"
            )
        _ = self._process.identity  # creates the lease
        told = False
        timeout = None if self._timeout is None else max(self._timeout, _SWEEP_TIME)
        fd, path = self._open()
        try:
            for waited in file_locks.attempts(timeout, _GROWTH):
                if self._try(fd):
                    if self._is_current(path, fd):
                        _mine[me] = acquired = _Acquired(
                            me[1], fd, os.getpid(), me[0], weakref.ref(self, abandoned.append)
                        )  # fmt: skip
                        return acquired
                    # A sweep has removed the file, or the directory was moved.
                    file_locks.close(fd)
                    fd = -1
                    fd, path = self._open()
                elif not told and self._waits is not None and waited > _SWEEP_TIME:
                    told = True
                    self._waits(self._labels(file_locks.flock_pids(fd, shared=self._shared)))
            raise self._timed_out(fd)
        except BaseException:
            file_locks.close(fd)
            raise

    def _open(self) -> tuple[int, str]:
        """Return a descriptor of the file, and its path; `file_locks.close` it."""
        return _open(self._directory, self._file)

    def _is_current(self, path: str, fd: int) -> bool:
        """Return whether an open file is still the one that other processes lock."""
        return is_at(path, fd) and _is_in(self._directory, path)

    def _try(self, fd: int) -> bool:
        """Take the turn and the lock if both are free; return whether this process has the lock."""
        return _try_in_turn(fd, shared=self._shared)

    def _timed_out(self, fd: int) -> LockTimeoutError:
        pids = file_locks.flock_pids(fd, shared=self._shared)
        return LockTimeoutError(
            f"timed out after {self._timeout:g} s waiting for the lock of {self._name} held by "
            f"{self._labels(pids)}"
            + ("; if that process is suspended, resume or kill it" if pids else "")
        )

    def _labels(self, pids: list[int]) -> str:
        here = any(path == self._path for _, path in list(_mine))
        parts = ["another thread of this process"] if here else []
        if pids or not here:
            parts.append(file_locks.describe(pids))
        return ", ".join(parts)


def try_lock(fd: int, *, shared: bool) -> bool:
    """Lock an open file if it is free, even if others wait for it; return whether it is locked now."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_in_turn(fd: int, *, shared: bool) -> bool:
    """Take the turn and the lock if both are free. A process that only gets the turn keeps it."""
    try:
        _turn(fd, fcntl.F_WRLCK)
    except BlockingIOError:
        return False
    if not try_lock(fd, shared=shared):
        return False
    _turn(fd, fcntl.F_UNLCK)
    return True


def _turn(fd: int, kind: int) -> None:
    """Take the turn or pass it on; raise BlockingIOError if another process has it."""
    if _SET_TURN is not None:
        fcntl.fcntl(fd, _SET_TURN, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))


# -- files -----------------------------------------------------------------------------------------


def file_of(name: str) -> str:
    """Return the name of the file for a name's lock: a hash, because a name may be too long for a file."""
    return f"name-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _is_in(directory: Directory, path: str) -> bool:
    """Return whether a file is in the present directory of locks."""
    try:
        directory.spot.resolve()
    except FileNotFoundError:
        return False
    return isinstance(path, File) and path.directory.identity == directory.locks.identity


def _open(directory: Directory, name: str) -> tuple[int, File]:
    """Open or create a lock's file; return its descriptor and path."""
    for _ in signals.ATTEMPTS:
        signals.check()
        try:
            directory.spot.resolve()
            path = File(directory.locks, name)
            with contextlib.suppress(FileNotFoundError):
                return file_locks.open_locked(path, _FLAGS), path
            with contextlib.suppress(FileExistsError):  # another process was faster
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
    """Create a lock's file under a temporary name, so that it has its final mode when it appears."""
    making = with_ending(path, f".{os.urandom(8).hex()}")
    fd = file_locks.open_locked(making, _FLAGS | os.O_CREAT | os.O_EXCL)
    try:
        access.settle(fd, access.own)
        link(making, path)
    except BaseException:
        file_locks.close(fd)
        raise
    finally:
        segment_file.unlink(making)
    return fd


def show(directory: Directory, name: str, *, shown: bool) -> None:
    """Allow the members of a group to open a name's lock, or stop allowing it.

    Raises
    ------
    OSError, NoSpaceError
    """
    file, mode = file_of(name), directory.access.shown
    if not shown and not exists(File(directory.locks, file)):
        return
    with signals.deferred():
        fd, _ = _open(directory, file)
        try:
            os.fchmod(fd, mode if shown else directory.access.own)
        finally:
            file_locks.close(fd)


def sweep(directory: str) -> None:
    """Remove the files of locks that have no holder and no waiter."""
    with signals.deferred(), contextlib.suppress(OSError):
        # The errors: it was removed and not created again yet, or it is another user's.
        place = directory if isinstance(directory, OpenDirectory) else OpenDirectory(directory)
        for name in filter(_OURS.fullmatch, place.names()):
            # The errors: the file is gone, or is another user's.
            with contextlib.suppress(OSError):
                _sweep(File(place, name))


def _sweep(path: File) -> None:
    fd = file_locks.open_locked(path, _FLAGS)
    try:
        # A file that a group may lock stays.
        if not os.fstat(fd).st_mode & 0o077 and _try_in_turn(fd, shared=False):
            segment_file.unlink(path, fd)
    finally:
        file_locks.close(fd)


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
            f"{path} cannot be opened: {error.strerror}. Another user created it or changed its "
            "permissions: remove it"
        )
    return limit_error(error)
