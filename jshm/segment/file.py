"""One file, one mapping: create, write, map, seal, unlink.

The kernel keeps the truth about who holds a segment. Whoever maps one first takes ``flock(LOCK_SH)``
on the file; the lock lives as long as the *open file description*, that is, until the mapping is
gone, also after ``close(fd)``, also in forked children, and it drops on SIGKILL. "Does anybody hold
it?" is therefore ``LOCK_EX | LOCK_NB``, and a file in the making is one whose maker holds `LOCK_EX`.

Nothing here knows names, formats or SQLite.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import random
import re
import signal
import stat
import sys
import time
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..errors import (
    CorruptSegmentError,
    InvalidModeError,
    RegistryError,
    RegistryTimeout,
    SegmentNotFoundError,
    TooManyFilesError,
    UnsafeDirectoryError,
)
from ..system import directories as places
from ..system import lock_holders as blockers
from ..system import signals as interrupts
from ..system.access import PRIVATE
from ..system.directories import identity_of, open_file
from ..system.forks import wait_for
from ..system.weak import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from ..system.access import Access
    from ..system.directories import Identity, Place

Mode = Literal["r", "r+", "c"]
"""``'r'``: private and read-only; ``'r+'``: shared and writable; ``'c'``: copy-on-write."""
_MODES = get_args(Mode)

# Non-blocking: a FIFO in a file's place must not hang us. It changes nothing for regular files.
_OPEN = os.O_NONBLOCK
LOOK = os.O_RDONLY | _OPEN
# How long an attach waits for a prober, which holds the lock for microseconds.
LOCK_TIMEOUT = 5.0
# How long where other users may have it, for whatever reason.
_GLANCE = 0.05
# Shorter files are never written again under another id (`store.spares`).
RECYCLED = 256 << 10
# One pwrite of this size, so that Ctrl-C is noticed in between.
_WRITE_CHUNK = 64 << 20
# As much is allocated in some 50 ms.
_ALLOCATED = 64 << 20
_FLAGS = np.ndarray.__dict__["flags"].__get__
_BASE = np.ndarray.__dict__["base"].__get__
_INTERFACE = np.ndarray.__dict__["__array_interface__"].__get__
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class Mapping(mmap.mmap):
    """The memory of one segment in this process; unmapped when the last view of it goes.

    Attributes
    ----------
    segment : str
        The segment's id.
    mode : {'r', 'r+', 'c'}
    file : (int, int)
        Device and inode. No other file gets these while this one is mapped.
    place : Place or None
        The directory in which that file was last found under the segment's name.
    """

    __slots__ = ("file", "mode", "place", "segment")

    segment: str
    mode: Mode
    file: Identity
    place: Place | None

    @property
    def address(self) -> int:
        """Where it starts."""
        return int(np.frombuffer(self, np.uint8, 1).__array_interface__["data"][0])


_live: WeakSet[Mapping] = WeakSet()


def check_mode(mode: str) -> Mode:
    """Return `mode` if it is one of ``'r'``, ``'r+'``, ``'c'``, else raise InvalidModeError."""
    if mode not in _MODES:
        raise InvalidModeError(
            f"mode must be 'r' (read-only), 'r+' (shared, writable) or 'c' (copy-on-write), "
            f"not {mode!r}"
        )
    return mode  # type: ignore[return-value]


# In the mode of a file that is about to be removed: its name was released, or it was superseded.
RELEASED = stat.S_IXUSR
# What a segment is called.
ID = re.compile("[0-9a-f]{16}")


def new_id() -> str:
    """Return a random segment id: 16 hexadecimal digits."""
    return os.urandom(8).hex()


def limit_error(error: OSError) -> OSError:
    """Return `error`, or what to do about it: a limit was met, or a directory of ours is none any more."""
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return UnsafeDirectoryError(
            f"{error.filename} cannot be used: {error.strerror}. Something has taken a directory's "
            "place: remove it, or set JSHM_DIR to a directory of your own",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return TooManyFilesError(
            error.errno,
            "this process has too many open files (before Python 3.13 each attached segment "
            "costs one descriptor): detach what you no longer need, or raise the limit with "
            "`ulimit -n`",
        )
    if error.errno == errno.ENOMEM:
        return TooManyFilesError(
            error.errno,
            "the kernel refused another memory mapping: detach what you no longer need, or raise "
            "vm.max_map_count or `ulimit -v`",
        )
    return error


def lock(fd: int, operation: int, timeout: float | None = None) -> None:
    """Take a `flock`, waiting at most `timeout` (or `LOCK_TIMEOUT`) seconds.

    Raises
    ------
    RegistryTimeout
        Somebody kept a conflicting lock. Others hold theirs for microseconds, so this is a process
        that was stopped while it did.
    """
    deadline = 0.0
    while True:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            now, timeout = time.monotonic(), LOCK_TIMEOUT if timeout is None else timeout
            deadline = deadline or now + timeout
            if now > deadline:
                pids = blockers.keeping(fd, "FLOCK", "WRITE")
                if operation & fcntl.LOCK_EX:
                    pids += blockers.keeping(fd, "FLOCK", "READ")
                raise RegistryTimeout(
                    f"waited {timeout:g} s for a file that is kept locked by "
                    f"{blockers.described(pids)}. If that process is stopped (Ctrl-Z, a debugger), "
                    "continue or end it"
                ) from None
            interrupts.check()
            time.sleep(random.uniform(2e-5, 5e-4))  # noqa: S311 - jitter, not a secret
        else:
            return


# Descriptors that hold a lock and are not given up yet. A forked child closes its copies: else the
# lock would live as long as the child.
_locked: set[int] = set()
# A fork waits until what another thread opens is in there.
_opening = interrupts.Guard(interrupts.Order.DESCRIPTORS)


def open_locked(path: str, flags: int, place: int | None = None) -> int:
    """Open a file to lock it; `close` it, and no fork will keep its lock.

    The path may be relative to an open directory, `place`.
    """
    with _opening:
        if place is None:
            fd = open_file(path, flags, PRIVATE.own)
        else:
            fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE.own, dir_fd=place)
        _locked.add(fd)
    return fd


def close(fd: int) -> None:
    """Close a descriptor that `open_locked`, `create`, `open_shared` or `claim` returned.

    In a forked child that of its parent is closed by then, and this does nothing.
    """
    with _opening:
        if fd in _locked:
            _locked.remove(fd)
            os.close(fd)


def _close_inherited() -> None:
    while _locked:
        with contextlib.suppress(OSError):
            os.close(_locked.pop())


wait_for(_opening.lock)
os.register_at_fork(after_in_child=_close_inherited)


def create(path: str, access: Access = PRIVATE) -> int:
    """Create a segment's file and return its descriptor, locked with `LOCK_EX`.

    The caller owns the descriptor. A reaper may win the instant between creation and lock; then the
    file is made again.
    """
    for _ in interrupts.ATTEMPTS:
        interrupts.check()
        try:
            fd = open_locked(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except OSError as error:
            raise limit_error(error) from None
        try:
            lock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                access.settle(fd, access.own)
                return fd
        except BaseException:
            close(fd)
            raise
        close(fd)
    raise RegistryError(
        f"{path} is removed again and again while it is made: find out what does that"
    )


def write(
    fd: int, offset: int, chunks: Iterable[bytes | bytearray | memoryview | npt.NDArray[np.uint8]]
) -> int:
    """Write buffers one after the other with `pwrite`; return the offset behind the last one.

    `pwrite` reserves the space it fills: a full file system is ENOSPC here, never a SIGBUS later.
    """
    for chunk in chunks:
        view = memoryview(chunk).cast("B")  # type: ignore[arg-type, unused-ignore]
        done = 0
        while done < len(view):
            written = os.pwrite(fd, view[done : done + _WRITE_CHUNK], offset)
            done += written
            offset += written
    return offset


def reserve(fd: int, size: int) -> None:
    """Make the file `size` bytes long, with every page allocated (zeros)."""
    # macOS has no posix_fallocate, and ftruncate promises space that is not there.
    zeros = b"" if hasattr(os, "posix_fallocate") else bytes(min(size, 1 << 20))
    step = len(zeros) or _ALLOCATED
    for start in range(0, size, step):
        interrupts.check()
        if zeros:
            write(fd, start, [zeros[: size - start]])
        else:
            os.posix_fallocate(fd, start, min(step, size - start))


def hold(fd: int, *, shown: bool) -> None:
    """Take the lock that says of a segment that it is held.

    Parameters
    ----------
    fd : int
    shown : bool
        Whether members of a group may read the file: they may lock it, too, for as long as they like. Then
        the segment counts as held by them, and nothing is lost by not saying that it is held here.

    Raises
    ------
    RegistryTimeout
    """
    try:
        lock(fd, fcntl.LOCK_SH, _GLANCE if shown else None)
    except RegistryTimeout:
        if not shown:
            raise


def open_shared(
    path: str, access: Access = PRIVATE, *, writable: bool
) -> tuple[int, os.stat_result]:
    """Open a segment's file and lock it with `LOCK_SH`; return descriptor and status.

    The caller owns the descriptor; the lock lasts until it *and* every mapping of it are gone.

    Raises
    ------
    SegmentNotFoundError
        The file is gone (also: removed between open and lock). Look the name up again.
    CorruptSegmentError
        Not a regular file, or of somebody who has no access to the store.
    """
    flags = os.O_RDWR if writable else os.O_RDONLY
    try:
        fd = _when_it_may_be_opened(lambda: open_locked(path, flags | _OPEN))
    except OSError as error:
        raise _not_opened(error, path) from None
    try:
        hold(fd, shown=bool(access.group))
        status = _check_file(fd, path, access)
    except BaseException:
        close(fd)
        raise
    return fd, status


@contextlib.contextmanager
def shared(
    path: str, access: Access = PRIVATE, *, writable: bool = False
) -> Iterator[tuple[int, os.stat_result]]:
    """Open a segment's file as `open_shared` does, and close it at the end, also after Ctrl-C."""
    with interrupts.deferred():  # a locked file must not be left with nobody to close it
        fd, status = open_shared(path, access, writable=writable)
        try:
            yield fd, status
        finally:
            close(fd)


def open_unheld(path: str, access: Access = PRIVATE) -> int:
    """Open a segment's file to look at it with `os.pread`: without a lock, so that it is not held.

    The caller owns the descriptor. Raises as `open_shared` does.
    """
    try:
        fd = _when_it_may_be_opened(lambda: open_file(path, os.O_RDONLY | _OPEN))
    except OSError as error:
        raise _not_opened(error, path) from None
    try:
        _check_file(fd, path, access)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _when_it_may_be_opened(call: Callable[[], int]) -> int:
    """Open a file, also if another process asks in this very moment whether it `is_alone` with it."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            return call()
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        interrupts.check()
        time.sleep(random.uniform(2e-5, 5e-4))  # noqa: S311 - jitter, not a secret


def _not_opened(error: OSError, path: str) -> Exception:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SegmentNotFoundError(f"segment file {os.path.basename(path)} is gone")
    if error.errno == errno.ELOOP:
        return CorruptSegmentError(f"{path} is a symbolic link; jshm makes none")
    if error.errno in (errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM):  # ENXIO: a socket
        return CorruptSegmentError(f"{path} cannot be opened: {error.strerror}")
    return limit_error(error)


def change_mode(path: str, access: Access, mode: int) -> None:
    """Change the mode of a segment's file, and not of what a link leads to.

    Raises as `open_shared` does; PermissionError if it is another user's.
    """
    fd = open_unheld(path, access)
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _check_file(fd: int, path: str, access: Access) -> os.stat_result:
    status = os.fstat(fd)
    if not status.st_nlink or (status.st_size >= RECYCLED and not _has_path(status, path)):
        raise SegmentNotFoundError(f"segment file {os.path.basename(path)} is gone")
    if not stat.S_ISREG(status.st_mode) or not access.accepts(status):
        whose = f"the group {access.group}" if access.group else "this user"
        raise CorruptSegmentError(f"{path} is not a regular file of {whose}; refused")
    return status


def _has_path(status: os.stat_result, path: str) -> bool:
    """Tell whether a file has its path still, and was not renamed, to become another segment."""
    try:
        return identity_of(places.status(path)) == identity_of(status)
    except FileNotFoundError:
        return False


def claim(path: str, access: Access | None = None) -> int | None:
    """Return a descriptor with `LOCK_EX` if nobody holds the segment, else None.

    While the caller keeps the descriptor open nobody can begin to hold the segment. What is no file,
    or not of those who have `access`, counts as held. Raises FileNotFoundError if there is no such file.
    """
    try:
        fd = open_locked(path, os.O_RDONLY | _OPEN)
    except OSError as error:
        # EAGAIN: `is_alone`
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EAGAIN):
            return None
        if error.errno == errno.ENOTDIR:  # a file has its directory's place
            raise FileNotFoundError(error.errno, error.strerror, path) from None
        raise limit_error(error) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not (access is None or access.accepts(status)):
            close(fd)
            return None
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        close(fd)
        return None
    except BaseException:
        close(fd)
        raise
    return fd


def is_alone(fd: int) -> bool:
    """Tell whether nobody else has a file open or mapped, jshm or not; False where nothing tells.

    Only of a file that others do not know how to find: who opens it in this very moment is told to
    wait, and then counts. `fd` must be open for writing, and be this process's only descriptor of it.
    Source: fcntl(2), "Leases"; a lease for writing is refused while anybody else has the file open.
    """
    try:
        # What a lease is broken with would end this process; this signal is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        alone = fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_WRLCK
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (AttributeError, OSError):  # not Linux; somebody has it
        return False
    return alone


def is_held(path: str) -> bool:
    """Tell whether any process (this one too) has the segment mapped; False if it is gone."""
    with interrupts.deferred():  # as in `shared`
        try:
            fd = claim(path)
        except FileNotFoundError:
            return False
        if fd is None:
            return True
        close(fd)
        return False


def is_ours(path: str) -> bool:
    """Tell whether a segment's file belongs to this user: another's says what he wrote into it."""
    try:
        return places.status(path).st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def mark_released(fd: int) -> int:
    """Let a file say, by its mode, that it is about to be removed; return the mode it had.

    That takes no right to write into it, and no time: it is one call for each file that goes.
    """
    mode = os.fstat(fd).st_mode & 0o7777
    os.fchmod(fd, mode | RELEASED)
    return mode


def unlink(path: str, fd: int = -1) -> None:
    """Remove the file; with `fd`, only if it is that open file.

    Who has it mapped keeps the memory; it goes with the last mapping.
    """
    places.remove(path, fd)


def map_file(
    fd: int, length: int, mode: Mode, segment: str, status: os.stat_result | None = None
) -> Mapping:
    """Map the first `length` bytes; the caller may close `fd` afterwards.

    `status` is the file's, if it is known.

    Mode ``'r'`` is ``MAP_PRIVATE`` and physically writable: code that writes past NumPy's read-only
    flag (C extensions, ctypes) changes its own pages only, and does not crash. Untouched pages are
    the page cache's: the same physical memory for everybody.

    Raises
    ------
    CorruptSegmentError
        The file was truncated since its length was checked.
    TooManyFilesError
    """
    flags = mmap.MAP_SHARED if mode == "r+" else mmap.MAP_PRIVATE | _MAP_NORESERVE
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    try:
        mapping = Mapping(fd, length, flags=flags, prot=protection, **_UNTRACKED)
    except OSError as error:
        raise limit_error(error) from None
    except ValueError:
        raise CorruptSegmentError(
            f"a segment is truncated: it has fewer than {length} bytes now. Publish again"
        ) from None
    mapping.segment = segment
    mapping.mode = mode
    mapping.file = identity_of(status or os.fstat(fd))
    mapping.place = None
    _live.add(mapping)
    return mapping


def memory(mapping: Mapping) -> memoryview:
    """Return all bytes of a mapping, read-only in mode ``'r'``; it keeps the mapping alive.

    Views are built over it: a mapping with exports cannot be closed under an array, and an array of
    what is read-only cannot be made writable with ``setflags``.
    """
    buffer = memoryview(mapping)
    return buffer.toreadonly() if mapping.mode == "r" else buffer


def view(mapping: Mapping) -> npt.NDArray[np.uint8]:
    """Return all bytes of a mapping as an array that keeps the mapping alive."""
    return np.frombuffer(memory(mapping), np.uint8)


def parts(data: memoryview, spans: Iterable[tuple[int, int]]) -> list[memoryview]:
    """Return some parts of a mapping's memory, each as an exporter of just its bytes.

    Of a slice of `data` the exporter (`memoryview.obj`) is the whole mapping, and those who ask for it, as
    Python's documentation of out-of-band buffers does, would take all of that for theirs.
    """
    whole: Any = np.frombuffer(data, np.uint8)
    return [memoryview(whole[start:end]) for start, end in spans]


def find(array: np.ndarray[Any, Any]) -> Mapping | None:
    """Return the mapping that an array's memory lives in, or None.

    A view is recognised through its chain of bases; memory that came through another library
    (``torch.from_numpy(X).numpy()``) by its address.
    """
    base: Any = array
    # NumPy's own attributes: a subclass may have others.
    while True:
        kind = type(base)
        if issubclass(kind, np.ndarray):
            if _FLAGS(base).owndata:
                return None
            base = _BASE(base)
        elif kind is memoryview:
            base = base.obj
        elif kind is PickleBuffer:
            base = base.raw().obj
        elif kind is Mapping:
            return base  # type: ignore[no-any-return]
        else:
            break
    address = _INTERFACE(array)["data"][0]
    for mapping in _live:
        if 0 <= address - mapping.address < len(mapping):
            return mapping
    return None


def owned(mapping: Mapping) -> Any:
    """Return all bytes of a mapping of what was made here, as a buffer that `seal` can make read-only.

    A `pickle.PickleBuffer` asks the array behind it each time whether it may be written.
    """
    return PickleBuffer(view(mapping))  # type: ignore[arg-type, unused-ignore]


def seal(array: np.ndarray[Any, Any]) -> None:
    """Make an array over what `owned` returned read-only, for good.

    Views that were taken before keep their flag. To map the memory anew, privately, would reach them
    too, but then this process would have to fault in all of its pages again.
    """
    array.flags.writeable = False
    owner: Any = array.base
    if isinstance(owner, PickleBuffer):
        memory: Any = owner.raw().obj
        memory.flags.writeable = False
