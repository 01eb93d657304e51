"""The files that a SQLite database in WAL mode is made of: which they are, and whether they changed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time

from .ballast import how_to_make_room
from .errors import CorruptRegistryError, NoSpaceError, UnsafeDirectoryError

# What SQLite keeps beside the file: its log, and the log's index.
BESIDE = ("-wal", "-shm")
# In WAL mode there is none, but SQLite would open one that it finds, and wait for ever if it is a FIFO.
JOURNAL = "-journal"
# Device; inodes of the file, its log and the log's index; whether there is anything in it.
Files = tuple[int, ...]
# Where every process finds what it has open.
_OPEN_FILES = "/dev/fd"
# The log's index begins with two copies of what each commit changes, checksums of all it wrote among it:
# https://sqlite.org/walformat.html#the_wal_index_header
_HEADERS = 2 * 48
# Two changes of a directory that are so near each other, in nanoseconds, may be told the same time.
_TICK = 20_000_000


class Watched:
    """The files that one connection has open.

    Parameters
    ----------
    path : str
        The database's file.
    files : Files
        What `identify` returned of them.
    """

    __slots__ = ("_directory", "_glance", "_index", "_path", "files")

    def __init__(self, path: str, files: Files) -> None:
        self.files = files
        self._path = path
        self._directory = os.path.dirname(path)
        self._glance: tuple[object, ...] | None = None
        # SQLite's own descriptor, which it keeps as long as there is a connection in this process:
        # closing one of ours would drop its locks.
        self._index = _find_open(files[0], files[3])

    def have_their_names(self) -> bool:
        """Tell whether they are still what the path leads to, and something is in them."""
        # What is removed or replaced changes the directory; what is emptied does not.
        try:
            place, file = os.stat(self._directory), os.lstat(self._path)
        except OSError:
            return False
        changed = place.st_mtime_ns
        glance = place.st_ino, changed, file.st_ino, not file.st_size
        if glance != self._glance:
            if identify(self._path) != self.files:
                return False
            self._glance = glance if time.time_ns() - changed > _TICK else None
        return True

    def state(self) -> object:
        """Return what is equal to what it was as long as nobody has committed anything."""
        try:
            return os.pread(self._index, _HEADERS, 0)
        except OSError:  # where descriptors cannot be found, nothing is known
            return object()


def _find_open(device: int, inode: int) -> int:
    """Return this process's descriptor of a file; -1 where none is found."""
    with contextlib.suppress(OSError):
        for fd in map(int, os.listdir(_OPEN_FILES)):
            with contextlib.suppress(OSError):  # it is closed by now
                status = os.fstat(fd)
                if (status.st_dev, status.st_ino) == (device, inode):
                    return fd
    return -1


def identify(path: str) -> Files | None:
    """Return which files have the names now; None if there is no database.

    A log or an index that is not there has the inode 0.

    Raises
    ------
    CorruptRegistryError
        One of them is no file: a link, a directory, a socket.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    _require_file(path, status)
    log, index = BESIDE
    _inode(path + JOURNAL)
    return (
        status.st_dev, status.st_ino, _inode(path + log), _inode(path + index),
        bool(status.st_size),
    )  # fmt: skip


def _inode(path: str) -> int:
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    _require_file(path, status)
    return status.st_ino


def _require_file(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise CorruptRegistryError(
            f"the registry {path} is no file. No data was lost: `jshm check --fix` rebuilds the "
            "registry from the segments"
        )


def create(path: str, flags: int, mode: int) -> int:
    """Create the database's file; return its descriptor.

    Raises
    ------
    NoSpaceError
    """
    try:
        return os.open(path, flags, mode)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        root = os.path.dirname(path)
        raise NoSpaceError(
            f"no room left for the registry in {root} ({error.strerror}): {how_to_make_room(root)}"
        ) from None


def require_user(user: int, path: str) -> None:
    """Raise UnsafeDirectoryError if this process is not the user's any more who opened the database."""
    if os.geteuid() != user:
        raise UnsafeDirectoryError(
            f"{os.path.dirname(path)} was opened by user {user}, and this process is user "
            f"{os.geteuid()} now (setuid): refused. What is attached stays attached; use jshm before, "
            "or only after the change"
        )


def is_torn(path: str, known: Files) -> bool:
    """Tell whether the database is the same file, and not the same database any more."""
    found = identify(path)
    return found is not None and found[:2] == known[:2] and found != known


def remove(path: str, *endings: str) -> None:
    """Remove the files with these endings, if they are there; what is in a directory is kept aside."""
    for ending in endings:
        with contextlib.suppress(FileNotFoundError):
            try:
                os.unlink(path + ending)
            except IsADirectoryError:
                os.rename(path + ending, f"{path}{ending}.{time.time_ns()}")
