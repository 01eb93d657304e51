"""The files of a SQLite database in WAL mode: which they are, whether others changed them, how long they get.

SQLite keeps a log (``-wal``) and the log's index (``-shm``) beside the database. jshm adds a ballast file,
which gives the log room on a full disk. Nothing else in the process may open the database's files: POSIX
locks are dropped when any descriptor of a file is closed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
import sys
import time
from typing import TYPE_CHECKING, TypeVar

from ....errors import NoSpaceError, RegistryTimeout
from ....segment.file import reserve
from ....system import file_locks, signals
from ....system.access import PRIVATE
from ....system.directories import (
    DirectoryPath,
    File,
    identity_of,
    open_file,
    remove,
    rename,
    status,
    with_ending,
)
from ....system.limits import limit_error
from ..directory import disk_full
from .rows import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ....system.directories import Resolved

T = TypeVar("T")

# The log and the log's index.
BESIDE = ("-wal", "-shm")
# There is none in WAL mode, but SQLite would open one that it finds, and block for ever on a FIFO.
JOURNAL = "-journal"
Inodes = tuple[int, ...]
"""Device; inodes of the database, its log and the log's index (0: missing); whether it has content."""

_OPEN_FILES = "/dev/fd"
# The log's index begins with two copies of a header: https://sqlite.org/walformat.html#the_wal_index_header
_HEADER = 48
_HEADERS = 2 * _HEADER
# In the header, in the processor's byte order: the number of changes, and of frames in the log. Behind the
# headers: frames that a checkpoint has copied into the database, and frames that it has begun to copy.
_CHANGES, _FRAMES, _COPIED, _ATTEMPTED = 8, 16, 96, 128
# The number of the log, in network byte order: it grows whenever SQLite restarts the log.
_SALT = slice(32, 36)
_COUNTS = 1 << 32
# The bytes of the index that a writer locks, and those that readers lock (same page).
_WRITER = range(120, 121)
_READERS = range(123, 128)

# Bytes of the log from which on jshm truncates it. A single large transaction may exceed this at once.
_LONG = 8 << 20
# Bytes of the log from which on nothing is added.
_TOO_LONG = 64 << 20
# After a failed truncation, the next attempt waits until the log has grown by this many bytes.
_STEP = 4 << 20
# Commits of this process between two looks at the log's size.
_COMMITS = 64
# Milliseconds for which a checkpoint waits for readers, while writers wait for the checkpoint.
_PATIENCE = 25

_BALLAST = 512 << 10
# Given up in slices: other processes may take the space before this one uses it.
_SLICE = 128 << 10


class Location:
    """Where the files of one database are: a name in the directory that its path leads to now.

    Parameters
    ----------
    path : str
        The database's file.
    spot : DirectoryPath or None
        Tells which directory that is.
    timeout : float
        Seconds to wait for other processes that create or remove the files.
    """

    def __init__(self, path: str, spot: DirectoryPath | None, timeout: float) -> None:
        self._name = os.path.basename(path)
        self._timeout = timeout
        self.spot = spot or DirectoryPath(os.path.dirname(path))

    def file(self, ending: str = "") -> File:
        """Return the path of the database's file, or of the file with that ending beside it."""
        return File(self.spot.resolve().directory, self._name + ending)

    def has(self, inodes: Inodes) -> bool:
        """Return whether the path still leads to this database file."""
        found = identify(self.file())
        return found is not None and found[:2] == inodes[:2]

    def find(self) -> tuple[File, Inodes] | None:
        """Return the database's path and inodes, or None if there is none."""
        with contextlib.suppress(FileNotFoundError):
            path = self.file()
            if found := identify(path):
                return path, found
        return None

    def create(self) -> tuple[File, Inodes]:
        """Return the path and inodes of the database, which is created unless another process was faster.

        It is private from the start; SQLite gives the log and the index the same mode.

        Raises
        ------
        FileNotFoundError
            It, or its directory, was removed meanwhile.
        NoSpaceError
        """
        path = self.file()
        # If only the database was removed, a log and an index remain that other processes still use.
        # SQLite would take them for the new database's, so one process at a time clears them away.
        with self._exclusive(path):
            if identify(path) is None:
                clear(path, *BESIDE)
                try:
                    os.close(open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE.own))
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    raise disk_full("the registry", path.directory, error.strerror) from None
            found = identify(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return path, found

    def remove_broken(self, files: OpenFiles) -> None:
        """Remove a database that was emptied or overwritten, or whose log or index was removed.

        Otherwise each process would see another content. Call this before the connection is closed: on
        close SQLite copies its log into a database that still has its name, and then deletes the file that
        is named like the log (sqlite3PagerClose, databaseIsUnmoved).
        """
        with contextlib.suppress(FileNotFoundError):  # everything is gone
            path = self.file()
            if _is_broken(path, files):
                with self._exclusive(path):
                    if _is_broken(path, files):
                        clear(path, "", *BESIDE)

    @contextlib.contextmanager
    def _exclusive(self, path: File) -> Iterator[None]:
        """Admit one process at a time to creating or removing the files."""
        fd = path.directory.open_anew()
        try:
            file_locks.lock(fd, fcntl.LOCK_EX, self._timeout)
            yield
        finally:
            os.close(fd)


class OpenFiles:
    """The files that one connection has open.

    Parameters
    ----------
    location : Location
    path : File
        The database's file, in the directory in which it was opened.
    inodes : Inodes
        Of the files when they were opened.

    Attributes
    ----------
    overwritten : bool
        Whether something other than SQLite wrote into them, for example ``cp`` of a backup.
    """

    __slots__ = (
        "_checkpointed", "_index", "_logged", "_path", "_seen", "_spot", "inodes", "overwritten",
    )  # fmt: skip

    def __init__(self, location: Location, path: File, inodes: Inodes) -> None:
        self.inodes = inodes
        self.overwritten = False
        self._spot = location.spot
        self._path = path
        self._seen: Resolved | None = None
        # The position of the log when it was last read: changes, number of the log, frames.
        self._logged = (0, 0, 0)
        # When the database's file was last modified, and by which checkpoint.
        self._checkpointed: tuple[int, tuple[bytes, int]] | None = None
        # SQLite's own descriptor, which stays open as long as this process has a connection: to close
        # one of ours would drop SQLite's locks.
        self._index = next(iter(descriptors_of((inodes[0], inodes[3])) or ()), -1)

    @property
    def are_complete(self) -> bool:
        """Whether log and index were there too, as far as this system shows it."""
        return bool(self.inodes[2] and self.inodes[3]) and (
            self._index >= 0 or descriptors_of(self.inodes[:2]) is None
        )

    def are_current(self) -> bool:
        """Return whether the path still leads to this database, whatever became of its log."""
        if self.overwritten:
            return False
        try:
            seen = self._spot.resolve()
            if seen is self._seen:
                return True
            found = identify(File(seen.directory, self._path.name))
        except FileNotFoundError:
            return False
        return found is not None and found[:2] == self.inodes[:2]

    def are_unchanged(self, *, thorough: bool = True) -> bool:
        """Return whether the path still leads to all of these files.

        If `thorough`, also whether the database has content that only SQLite has written.
        """
        if self.overwritten:
            return False
        # Moving, removing or replacing a file changes the directory; emptying a file does not.
        try:
            seen = self._spot.resolve()
            if seen is not self._seen:
                if seen.directory.identity != self._path.directory.identity:
                    return False
                if identify(self._path) != self.inodes:
                    return False
                self._seen = seen
            if not thorough:
                return True
            found = status(self._path)
        except FileNotFoundError:
            return False
        self._detect_overwriting(found.st_mtime_ns)
        return bool(found.st_size) and not self.overwritten

    def check_after_commit(self) -> None:
        """Read what a commit of this process has written, and detect whether others wrote in between."""
        with contextlib.suppress(OSError):
            self._detect_overwriting(status(self._path).st_mtime_ns)

    def _detect_overwriting(self, modified: int) -> None:
        if self._has_older_log() or self._was_modified(modified):
            self.overwritten = True

    def _has_older_log(self) -> bool:
        """Return whether the log is older or shorter than it was, or its index is truncated."""
        known = self._logged  # first: a finalizer may commit in between, and read further
        try:
            index = os.pread(self._index, _HEADERS, 0)
            if len(index) < _HEADERS:  # SQLite truncates it only where nobody else has it open
                return identity_of(os.fstat(self._index)) == (self.inodes[0], self.inodes[3])
        except OSError:
            return False
        if index[:_HEADER] != index[_HEADER:]:  # a commit is writing it
            return False
        changes, frames = _number(index, _CHANGES), _number(index, _FRAMES)
        log = int.from_bytes(index[_SALT], "big")
        self._logged = (changes, log, frames)
        # After SQLite has repaired the index, it counts changes from 0; the log is then the same or longer.
        # A log that SQLite has emptied may get any number, so numbers of logs have no order.
        return _is_before(changes, known[0]) and not (log == known[1] and frames >= known[2])

    def _was_modified(self, modified: int) -> bool:
        """Return whether the database's file was modified without a checkpoint that explains it."""
        known = self._checkpointed  # first, as above
        if known is not None and modified == known[0]:
            return False
        try:
            before = self._checkpoint()
            modified = status(self._path).st_mtime_ns
            checkpoint = self._checkpoint()
        except OSError:
            return False
        if checkpoint is None or checkpoint != before:  # one is running
            return False
        self._checkpointed = modified, checkpoint
        return known is not None and known[0] != modified and known[1] == checkpoint

    def _checkpoint(self) -> tuple[bytes, int] | None:
        """Return which log, and how much of it, is in the database; None while a checkpoint runs."""
        index = os.pread(self._index, _ATTEMPTED + 4, 0)
        if len(index) < _ATTEMPTED + 4:
            return None
        copied = _number(index, _COPIED)
        return (index[_SALT], copied) if copied == _number(index, _ATTEMPTED) else None

    def data_version(self) -> object:
        """Return a value that changes with each commit of any process."""
        try:
            return os.pread(self._index, _HEADERS, 0)
        except OSError:  # where descriptors cannot be found, it changes with each call
            return object()


class Log:
    """Keeps the log of one database short, as one process sees it.

    SQLite restarts the log when all of it is in the database and nobody reads from it. A reader that is
    suspended inside a SELECT prevents that, and so do many readers that overlap. Then the log grows with
    each write, in memory.

    Parameters
    ----------
    path : str
        The database's file.
    """

    def __init__(self, path: str) -> None:
        self._path = path + "-wal"
        self._index = path + "-shm"
        self._commits = 0
        self._next = _LONG
        self._size = 0

    def measure(self) -> None:
        """Read the size of the log."""
        self._commits = 0
        try:
            self._size = os.stat(self._path).st_size
        except FileNotFoundError:
            self._size = 0
        if self._size < _LONG:
            self._next = _LONG

    def after_commit(self, raw: sqlite3.Connection) -> None:
        """Truncate the log if it has become long; its size is read after every 64th commit."""
        self._commits += 1
        if self._commits >= _COMMITS:
            self.measure()
            if self._size >= self._next:
                self._truncate(raw)

    def is_too_long(self) -> bool:
        """Return whether it was too long when it was last measured."""
        return self._size >= _TOO_LONG

    def require_short(self, raw: sqlite3.Connection) -> None:
        """Raise RegistryTimeout if the log is too long and cannot be truncated."""
        self.measure()
        if self.is_too_long():
            self._truncate(raw)
        if self.is_too_long():
            readers = file_locks.pids_locking(self._index, "POSIX", "READ", _READERS)
            raise RegistryTimeout(
                f"the registry's log cannot be emptied ({self._size >> 20} MiB): it is being read by "
                f"{file_locks.describe(readers)}; if that process is suspended, resume or kill it. "
                "Names can be released meanwhile"
            )

    def _truncate(self, raw: sqlite3.Connection) -> None:
        """Copy the log into the database and truncate it, unless readers hold it for too long."""
        # SQLite waits for readers with the write lock held: nobody extends the log meanwhile, and new
        # readers do not need it.
        with contextlib.suppress(sqlite3.Error):
            raw.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
            try:
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                raw.execute("PRAGMA busy_timeout = 0")
        self.measure()
        self._next = max(_LONG, self._size + _STEP)

    def writers(self) -> list[int]:
        """Return the pids of other processes that hold the write lock."""
        return file_locks.pids_locking(self._index, "POSIX", "WRITE", _WRITER)


class Ballast:
    """A file of allocated, empty pages that is truncated when the disk is full.

    A release writes to the log, and so needs space to free space.
    """

    def __init__(self, location: Location) -> None:
        self._location = location

    def fill(self) -> None:
        """Allocate the file, as large as it fits now."""
        with contextlib.suppress(OSError), self._opened(os.O_CREAT) as fd:
            for size in range(_BALLAST, os.fstat(fd).st_size, -_SLICE):
                with contextlib.suppress(OSError):
                    reserve(fd, size)
                    return

    def spend(self, operation: Callable[[], T]) -> T:
        """Return the result of an operation, repeated with less and less ballast while the disk is full."""
        is_spent = False
        try:
            while True:
                try:
                    return operation()
                except NoSpaceError:
                    if not self._shrink():
                        raise
                    is_spent = True
        finally:
            if is_spent:
                self.fill()

    def _shrink(self) -> bool:
        """Give up a slice; return whether there was one."""
        with contextlib.suppress(OSError), self._opened() as fd:
            size = os.fstat(fd).st_size
            os.ftruncate(fd, max(0, size - _SLICE))
            return bool(size)
        return False

    @contextlib.contextmanager
    def _opened(self, flags: int = 0) -> Iterator[int]:
        with signals.deferred():  # a handler that raises would leave the descriptor open
            fd = open_file(self._location.file(".ballast"), os.O_RDWR | flags)
            try:
                yield fd
            finally:
                os.close(fd)


def _number(index: bytes, offset: int) -> int:
    return int.from_bytes(index[offset : offset + 4], sys.byteorder)


def _is_before(count: int, known: int) -> bool:
    """Return whether a count is the earlier one; it restarts after 2 ** 32."""
    return (count - known) % _COUNTS >= _COUNTS // 2


def descriptors_of(file: tuple[int, ...]) -> list[int] | None:
    """Return this process's descriptors of a file, by device and inode; None where the system hides them.

    Raises
    ------
    TooManyFilesError
    """
    found = []
    try:
        for fd in map(int, os.listdir(_OPEN_FILES)):
            with contextlib.suppress(OSError):  # closed meanwhile
                if identity_of(os.fstat(fd)) == file:
                    found.append(fd)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise limit_error(error) from None
        return None
    return found


def identify(path: str) -> Inodes | None:
    """Return which files have the database's names now; None if there is no database.

    Raises
    ------
    CorruptRegistryError
        One of them is not a regular file: a link, a directory, a socket.
    """
    try:
        found = status(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    _require_regular(path, found)
    log, index = BESIDE
    _inode(with_ending(path, JOURNAL))
    return (
        found.st_dev, found.st_ino, _inode(with_ending(path, log)), _inode(with_ending(path, index)),
        bool(found.st_size),
    )  # fmt: skip


def _inode(path: str) -> int:
    try:
        found = status(path)
    except OSError:
        return 0
    _require_regular(path, found)
    return found.st_ino


def _require_regular(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise damaged(f"the registry {path} is not a regular file")


def _is_broken(path: str, files: OpenFiles) -> bool:
    """Return whether the database is the same file and no longer the same database."""
    found, known = identify(path), files.inodes
    return found is not None and found[:2] == known[:2] and (files.overwritten or found != known)


def clear(path: str, *endings: str) -> None:
    """Remove the files with these endings, if they exist; a directory in a file's place is renamed."""
    for ending in endings:
        one = with_ending(path, ending)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(status(one).st_mode):
                rename(one, with_ending(one, f".{time.time_ns()}"))
            else:
                remove(one)
