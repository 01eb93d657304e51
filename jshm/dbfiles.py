"""The files that a SQLite database in WAL mode is made of: which they are, and whether they changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import time
from typing import TYPE_CHECKING

from .errors import CorruptRegistryError
from .segment import lock

if TYPE_CHECKING:
    from collections.abc import Iterator

# What SQLite keeps beside the file: its log, and the log's index.
BESIDE = ("-wal", "-shm")
# Device; inodes of the file, its log and the log's index; whether there is anything in it.
Files = tuple[int, ...]
# Where every process finds what it has open.
_OPEN_FILES = "/dev/fd"
# The log's index begins with two copies of what each commit changes, checksums of all it wrote among it:
# https://sqlite.org/walformat.html#the_wal_index_header
_HEADER = 48
_HEADERS = 2 * _HEADER
# In the processor's order: changes, frames in the log. Behind the headers: frames that were brought into
# the database, and frames that a checkpoint began to bring there.
_CHANGES, _FRAMES, _DONE, _BEGUN = 8, 16, 96, 128
# The number of the log, which grows with every time that it is begun anew; in network order.
_SALT = slice(32, 36)
_COUNTS = 1 << 32
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

    __slots__ = (
        "_directory", "_glance", "_index", "_path", "_reached", "_written", "files", "overwritten",
    )  # fmt: skip

    def __init__(self, path: str, files: Files) -> None:
        self.files = files
        self._path = path
        self._directory = os.path.dirname(path)
        self._glance: tuple[object, ...] | None = None
        # How far the log had got; when the file was written, and which checkpoint that was.
        self._reached = (0, 0, 0)
        self._written: tuple[int, tuple[bytes, int]] | None = None
        # Whether something other than SQLite has written into them: somebody copied a backup there.
        self.overwritten = False
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
        if self._goes_back() or self._was_written(file.st_mtime_ns):
            self.overwritten = True
        return not self.overwritten

    def look(self) -> None:
        """Look at what a commit of this process has written into the file."""
        with contextlib.suppress(OSError):
            if self._was_written(os.lstat(self._path).st_mtime_ns):
                self.overwritten = True

    def _goes_back(self) -> bool:
        """Tell whether the log is an earlier one, or shorter than it was."""
        try:
            index = os.pread(self._index, _HEADERS, 0)
        except OSError:
            return False
        if index[:_HEADER] != index[_HEADER:]:  # somebody is just writing it
            return False
        reached = (
            _number(index, _CHANGES),
            int.from_bytes(index[_SALT], "big"),
            _number(index, _FRAMES),
        )
        known, self._reached = self._reached, reached
        # Both must: SQLite counts changes from 0 when it has repaired the index, and may give any number
        # to a log that it has emptied.
        return _is_before(reached[0], known[0]) and (
            reached[2] < known[2] if reached[1] == known[1] else _is_before(reached[1], known[1])
        )

    def _was_written(self, changed: int) -> bool:
        """Tell whether the file has changed, and no checkpoint was made since that would explain it."""
        if self._written is not None and changed == self._written[0]:
            return False
        try:
            before = self._checkpoint()
            changed = os.lstat(self._path).st_mtime_ns
            checkpoint = self._checkpoint()
        except OSError:
            return False
        if checkpoint is None or checkpoint != before:  # one is just being made
            return False
        known, self._written = self._written, (changed, checkpoint)
        return known is not None and known[0] != changed and known[1] == checkpoint

    def _checkpoint(self) -> tuple[bytes, int] | None:
        """Return which log, and how much of it, is in the database; None in the midst of a checkpoint."""
        index = os.pread(self._index, _BEGUN + 4, 0)
        done = _number(index, _DONE)
        return (index[_SALT], done) if done == _number(index, _BEGUN) else None

    def state(self) -> object:
        """Return what is equal to what it was as long as nobody has committed anything."""
        try:
            return os.pread(self._index, _HEADERS, 0)
        except OSError:  # where descriptors cannot be found, nothing is known
            return object()


def _number(index: bytes, offset: int) -> int:
    return int.from_bytes(index[offset : offset + 4], sys.byteorder)


def _is_before(count: int, known: int) -> bool:
    """Tell whether a count that begins anew after 2 ** 32 is an earlier one."""
    return (count - known) % _COUNTS >= _COUNTS // 2


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
        It is no file: a link, a directory.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise CorruptRegistryError(
            f"the registry {path} is no file. The data are not lost: `jshm check --fix` rebuilds the "
            "registry from the segments"
        )
    log, index = BESIDE
    return (
        status.st_dev, status.st_ino, _inode(path + log), _inode(path + index),
        bool(status.st_size),
    )  # fmt: skip


def _inode(path: str) -> int:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0


@contextlib.contextmanager
def alone(path: str, timeout: float) -> Iterator[None]:
    """Let only one process at a time make or remove the database's files."""
    guard = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        lock(guard, fcntl.LOCK_EX, timeout)
        yield
    finally:
        os.close(guard)


def remove_torn(path: str, watched: Watched, timeout: float) -> None:
    """Remove a database that was emptied, or whose log or index was removed: each would see another.

    Also one that another was copied into. Before the connection is closed: SQLite brings its log into a
    file that still has its name, and then deletes what is called like the log (sqlite3PagerClose,
    databaseIsUnmoved).
    """
    if _is_torn(path, watched):
        with alone(path, timeout):
            if _is_torn(path, watched):
                remove(path, "", *BESIDE)


def _is_torn(path: str, watched: Watched) -> bool:
    """Tell whether the database is the same file, and not the same database any more."""
    found, known = identify(path), watched.files
    return found is not None and found[:2] == known[:2] and (watched.overwritten or found != known)


def remove(path: str, *endings: str) -> None:
    """Remove the files with these endings, if they are there."""
    for ending in endings:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ending)
