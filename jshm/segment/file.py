"""The file of a segment and its mapping: create, write, map, seal, unlink.

The kernel knows which segments are held. A process takes ``flock(LOCK_SH)`` on a segment's file before it
maps it. The lock belongs to the open file description: it lasts until the mapping is gone, also after
``close(fd)`` and in forked children, and the kernel drops it on SIGKILL. A segment is held if
``LOCK_EX | LOCK_NB`` fails. The process that writes a new segment holds `LOCK_EX` until it is registered.

This module knows no names, no formats and no SQLite.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import re
import signal
import stat
import sys
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..errors import (
    CorruptSegmentError,
    InvalidModeError,
    RegistryError,
    RegistryTimeout,
    SegmentNotFoundError,
)
from ..system import directories, file_locks, signals
from ..system.access import PRIVATE
from ..system.directories import identity_of, open_file
from ..system.limits import limit_error
from ..system.weak import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from ..system.access import Access
    from ..system.directories import Identity, OpenDirectory

Mode = Literal["r", "r+", "c"]
"""``'r'``: private and read-only; ``'r+'``: shared and writable; ``'c'``: copy-on-write."""
_MODES = get_args(Mode)

# A FIFO with a segment's name must not block the open. For regular files it makes no difference.
_OPEN = os.O_NONBLOCK
PROBE_FLAGS = os.O_RDONLY | _OPEN
# Seconds to wait for the lock of a file that other users can lock, for as long as they like.
_GROUP_TIMEOUT = 0.05
# Bytes. Smaller segments never become spares, so their files are never renamed to another id.
MIN_SPARE_SIZE = 256 << 10
# Bytes of one `pwrite`; Ctrl-C is noticed between two.
_WRITE_CHUNK = 64 << 20
# Bytes of one `posix_fallocate`, which takes about 50 ms.
_ALLOCATED = 64 << 20
_FLAGS = np.ndarray.__dict__["flags"].__get__
_BASE = np.ndarray.__dict__["base"].__get__
_INTERFACE = np.ndarray.__dict__["__array_interface__"].__get__
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class Mapping(mmap.mmap):
    """The mapped memory of one segment; it is unmapped when the last view of it is gone.

    Attributes
    ----------
    segment : str
        The segment's id.
    mode : {'r', 'r+', 'c'}
    file : (int, int)
        Device and inode. No other file gets these while this one is mapped.
    directory : OpenDirectory or None
        The directory in which that file was last found under the segment's name.
    """

    __slots__ = ("directory", "file", "mode", "segment")

    segment: str
    mode: Mode
    file: Identity
    directory: OpenDirectory | None

    @property
    def address(self) -> int:
        """The address of its first byte."""
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


# A bit in the mode of a file that is about to be removed: its name was released, or it was superseded.
RELEASED = stat.S_IXUSR
# The id of a segment.
ID = re.compile("[0-9a-f]{16}")


def new_id() -> str:
    """Return a random segment id: 16 hexadecimal digits."""
    return os.urandom(8).hex()


def create(path: str, access: Access = PRIVATE) -> int:
    """Create a segment's file and return its descriptor, locked with `LOCK_EX`.

    The caller closes it with `file_locks.close`. Garbage collection in another process may remove the file
    between its creation and the lock; then it is made again.
    """
    for _ in signals.ATTEMPTS:
        signals.check()
        try:
            fd = file_locks.open_locked(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except OSError as error:
            raise limit_error(error) from None
        try:
            file_locks.lock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                access.settle(fd, access.own)
                return fd
        except BaseException:
            file_locks.close(fd)
            raise
        file_locks.close(fd)
    raise RegistryError(
        f"{path} was removed each of {len(signals.ATTEMPTS):,} times right after it was made: find out "
        "what removes it"
    )


def write(
    fd: int, offset: int, chunks: Iterable[bytes | bytearray | memoryview | npt.NDArray[np.uint8]]
) -> int:
    """Write buffers one after the other with `pwrite`; return the offset after the last one.

    `pwrite` reserves the space that it fills, so a full file system raises ENOSPC here, not SIGBUS later.
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
    """Make a file `size` bytes long, all zeros, with every page allocated."""
    # macOS has no posix_fallocate; ftruncate would not reserve space.
    zeros = b"" if hasattr(os, "posix_fallocate") else bytes(min(size, 1 << 20))
    step = len(zeros) or _ALLOCATED
    for start in range(0, size, step):
        signals.check()
        if zeros:
            write(fd, start, [zeros[: size - start]])
        else:
            os.posix_fallocate(fd, start, min(step, size - start))


def hold(fd: int, *, group: bool) -> None:
    """Take the shared lock that marks a segment as held.

    Parameters
    ----------
    fd : int
    group : bool
        Whether members of a group can read the file. They can lock it exclusively for as long as they
        like. After a short wait it is not locked then: it counts as held anyway, by their lock.

    Raises
    ------
    RegistryTimeout
    """
    try:
        file_locks.lock(fd, fcntl.LOCK_SH, _GROUP_TIMEOUT if group else None)
    except RegistryTimeout:
        if not group:
            raise


def open_shared(
    path: str, access: Access = PRIVATE, *, writable: bool
) -> tuple[int, os.stat_result]:
    """Open a segment's file and lock it with `LOCK_SH`; return descriptor and status.

    The caller closes the descriptor with `file_locks.close`. The lock lasts until the descriptor and every
    mapping of it are gone.

    Raises
    ------
    SegmentNotFoundError
        The file is gone, perhaps since a moment ago. Look the name up again.
    CorruptSegmentError
        It is not a regular file, or belongs to a user who has no access to the store.
    """
    flags = os.O_RDWR if writable else os.O_RDONLY
    try:
        fd = _open(path, flags, file_locks.open_locked)
    except OSError as error:
        raise _not_opened(error, path) from None
    try:
        hold(fd, group=bool(access.group))
        status = _check_file(fd, path, access)
    except BaseException:
        file_locks.close(fd)
        raise
    return fd, status


@contextlib.contextmanager
def opened_shared(
    path: str, access: Access = PRIVATE, *, writable: bool = False
) -> Iterator[tuple[int, os.stat_result]]:
    """Open a segment's file as `open_shared` does, and close it at the end, also after Ctrl-C."""
    with signals.deferred():  # otherwise Ctrl-C could leave a locked file open
        fd, status = open_shared(path, access, writable=writable)
        try:
            yield fd, status
        finally:
            file_locks.close(fd)


def open_unheld(path: str, access: Access = PRIVATE) -> int:
    """Open a segment's file for `os.pread`, without a lock, so that it does not count as held.

    The caller closes the descriptor with `os.close`. Raises as `open_shared` does.
    """
    try:
        fd = _open(path, os.O_RDONLY, open_file)
    except OSError as error:
        raise _not_opened(error, path) from None
    try:
        _check_file(fd, path, access)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open(path: str, flags: int, opener: Callable[[str, int], int]) -> int:
    """Open a file; wait while another process checks whether it `is_alone` with it."""
    try:
        return opener(path, flags | _OPEN)  # faster than the loop
    except BlockingIOError:
        pass
    for _ in file_locks.attempts(file_locks.LOCK_TIMEOUT):
        with contextlib.suppress(BlockingIOError):
            return opener(path, flags | _OPEN)
    return opener(path, flags | _OPEN)


def _not_opened(error: OSError, path: str) -> Exception:
    """Return the jshm error for a segment file that could not be opened."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SegmentNotFoundError(f"segment file {os.path.basename(path)} is gone")
    if error.errno == errno.ELOOP:
        return CorruptSegmentError(f"{path} is a symbolic link, which jshm never makes")
    if error.errno in (errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM):  # ENXIO: a socket
        return CorruptSegmentError(f"{path} cannot be opened: {error.strerror}")
    return limit_error(error)


def change_mode(path: str, access: Access, mode: int) -> None:
    """Change the mode of a segment's file, but never through a link.

    Raises as `open_shared` does, and PermissionError if it belongs to another user.
    """
    fd = open_unheld(path, access)
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _check_file(fd: int, path: str, access: Access) -> os.stat_result:
    status = os.fstat(fd)
    if not status.st_nlink or (status.st_size >= MIN_SPARE_SIZE and not _has_path(status, path)):
        raise SegmentNotFoundError(f"segment file {os.path.basename(path)} is gone")
    if not stat.S_ISREG(status.st_mode) or not access.accepts(status):
        whose = f"the group {access.group}" if access.group else "this user"
        raise CorruptSegmentError(f"{path} is not a regular file of {whose}; refused")
    return status


def _has_path(status: os.stat_result, path: str) -> bool:
    """Return whether a file still has its path: a spare is renamed when it becomes another segment."""
    try:
        return identity_of(directories.status(path)) == identity_of(status)
    except FileNotFoundError:
        return False


def claim(path: str, access: Access | None = None) -> int | None:
    """Return a descriptor with `LOCK_EX` if no process holds the segment, else None.

    Until the caller closes it with `file_locks.close`, no process can begin to hold the segment. Something
    that is not a regular file, or that does not match `access`, counts as held.

    Raises
    ------
    FileNotFoundError
    """
    try:
        fd = file_locks.open_locked(path, os.O_RDONLY | _OPEN)
    except OSError as error:
        # EAGAIN: another process is in `is_alone`.
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EAGAIN):
            return None
        if error.errno == errno.ENOTDIR:  # its directory was replaced by a file
            raise FileNotFoundError(error.errno, error.strerror, path) from None
        raise limit_error(error) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not (access is None or access.accepts(status)):
            file_locks.close(fd)
            return None
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file_locks.close(fd)
        return None
    except BaseException:
        file_locks.close(fd)
        raise
    return fd


def is_alone(fd: int) -> bool:
    """Return whether no other program, jshm or not, has a file open or mapped; False if it cannot be told.

    `fd` must be open for writing, and be this process's only descriptor of the file. Nobody else should know
    the file's path: a concurrent open waits until the lease is dropped, and is then detected.
    Source: fcntl(2), "Leases". A write lease is refused while others have the file open.
    """
    try:
        # The default signal about a broken lease would end this process. SIGURG is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        alone = fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_WRLCK
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (AttributeError, OSError):  # not Linux, or another program has it open
        return False
    return alone


def is_held(path: str) -> bool:
    """Return whether any process, also this one, has the segment mapped; False if it is gone."""
    with signals.deferred():  # as in `opened_shared`
        try:
            fd = claim(path)
        except FileNotFoundError:
            return False
        if fd is None:
            return True
        file_locks.close(fd)
        return False


def is_ours(path: str) -> bool:
    """Return whether a segment's file belongs to this user; another user's file may say anything."""
    try:
        return directories.status(path).st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def mark_released(fd: int) -> int:
    """Mark a file, by its mode, as about to be removed; return the mode that it had.

    This needs no permission to write into it, and it is only one system call.
    """
    mode = os.fstat(fd).st_mode & 0o7777
    os.fchmod(fd, mode | RELEASED)
    return mode


def unlink(path: str, fd: int = -1) -> None:
    """Remove a segment's file; with `fd`, only if it is that open file.

    Processes that have it mapped keep the memory. It is freed with the last mapping.
    """
    directories.remove(path, fd)


def map_file(
    fd: int, length: int, mode: Mode, segment: str, status: os.stat_result | None = None
) -> Mapping:
    """Map the first `length` bytes of a file; the caller may close `fd` afterwards.

    Mode ``'r'`` is ``MAP_PRIVATE`` and physically writable: code that ignores NumPy's read-only flag (C
    extensions, ctypes) changes only its own pages, and does not crash. Pages that it does not write are
    those of the page cache, the same physical memory for every process.

    Parameters
    ----------
    fd : int
    length : int
    mode : {'r', 'r+', 'c'}
    segment : str
        The segment's id.
    status : stat_result, optional
        The file's status, if the caller has it.

    Raises
    ------
    CorruptSegmentError
        The file is shorter than `length`.
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
            f"a segment is truncated: it has fewer than {length} bytes. Publish again"
        ) from None
    mapping.segment = segment
    mapping.mode = mode
    mapping.file = identity_of(status or os.fstat(fd))
    mapping.directory = None
    _live.add(mapping)
    return mapping


def memory(mapping: Mapping) -> memoryview:
    """Return all bytes of a mapping, read-only in mode ``'r'``; the result keeps the mapping alive.

    Arrays are built on it. Then nobody can close the mapping under an array, since it has exports, and an
    array on read-only memory cannot be made writable with ``setflags``.
    """
    buffer = memoryview(mapping)
    return buffer.toreadonly() if mapping.mode == "r" else buffer


def view(mapping: Mapping) -> npt.NDArray[np.uint8]:
    """Return all bytes of a mapping as an array that keeps the mapping alive."""
    return np.frombuffer(memory(mapping), np.uint8)


def split(data: memoryview, spans: Iterable[tuple[int, int]]) -> list[memoryview]:
    """Return parts of a mapping's memory, each with an exporter (`memoryview.obj`) of just its bytes.

    The exporter of a slice of `data` would be the whole mapping. Code that asks for the exporter, as the
    example in Python's documentation of out-of-band buffers does, would take all of it for its own.
    """
    whole: Any = np.frombuffer(data, np.uint8)
    return [memoryview(whole[start:end]) for start, end in spans]


def find_mapping(array: np.ndarray[Any, Any]) -> Mapping | None:
    """Return the mapping that contains an array's memory, or None.

    A view is recognised by its chain of bases; memory that came through another library
    (``torch.from_numpy(X).numpy()``) by its address.
    """
    base: Any = array
    # By NumPy's own descriptors: a subclass may override its attributes.
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


def sealable(mapping: Mapping) -> Any:
    """Return all bytes of a new mapping, as a buffer that `seal` can make read-only.

    A `pickle.PickleBuffer` asks the array behind it each time whether it is writable.
    """
    return PickleBuffer(view(mapping))  # type: ignore[arg-type, unused-ignore]


def seal(array: np.ndarray[Any, Any]) -> None:
    """Make an array on a `sealable` buffer read-only for good.

    Views that were taken before keep their flag. A new private mapping at the same address would reach
    them too, but this process would have to fault in all pages again.
    """
    array.flags.writeable = False
    owner: Any = array.base
    if isinstance(owner, PickleBuffer):
        memory: Any = owner.raw().obj
        memory.flags.writeable = False
