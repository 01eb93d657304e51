"""The files that a SQLite database in WAL mode is made of: where, which they are, whether they changed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import time
from typing import TYPE_CHECKING

from ....errors import CorruptRegistryError, NoSpaceError, UnsafeDirectoryError
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
from ....system.file_locks import lock
from ....system.limits import limit_error
from .ballast import how_to_make_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ....system.directories import Resolved

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
_HEADER = 48
_HEADERS = 2 * _HEADER
# In the processor's order: changes, frames in the log. Behind the headers: frames that were brought into
# the database, and frames that a checkpoint began to bring there.
_CHANGES, _FRAMES, _DONE, _BEGUN = 8, 16, 96, 128
# The number of the log, which grows with every time that it is begun anew; in network order.
_SALT = slice(32, 36)
_COUNTS = 1 << 32


class Home:
    """Where the files of one database are, in the directory that its path leads to now.

    Parameters
    ----------
    path : str
        The database's file.
    spot : DirectoryPath or None
        Tells which directory that is.
    make : callable
        Makes the directory if it is not there.
    timeout : float
        Seconds to wait for others who make or remove them.
    """

    def __init__(
        self,
        path: str,
        spot: DirectoryPath | None,
        make: Callable[[], object],
        timeout: float,
    ) -> None:
        self._name = os.path.basename(path)
        self._make = make
        self._timeout = timeout
        self.spot = spot or DirectoryPath(os.path.dirname(path))

    def file(self, ending: str = "") -> File:
        """Return the path of the database's file, or of the one with that ending."""
        return File(self.spot.resolve().directory, self._name + ending)

    def has(self, files: Files) -> bool:
        """Tell whether the database's file is still there, and the same."""
        found = identify(self.file())
        return found is not None and found[:2] == files[:2]

    @contextlib.contextmanager
    def _alone(self, path: File) -> Iterator[None]:
        """Let only one process at a time make or remove the database's files."""
        guard = path.directory.open_anew()
        try:
            lock(guard, fcntl.LOCK_EX, self._timeout)
            yield
        finally:
            os.close(guard)

    def made(self) -> tuple[File, Files]:
        """Return the path of the file, which is made if it is not there, and what it is.

        Private from the start; -wal and -shm inherit the mode.

        Raises
        ------
        FileNotFoundError
            It is removed while it is made.
        """
        with contextlib.suppress(FileNotFoundError):
            path = self.file()
            if found := identify(path):
                return path, found
        self._make()
        path = self.file()
        # Where only the file was removed, a log and its index are left that others still use: SQLite
        # would take them for the new file's. One process at a time clears them away.
        with self._alone(path):
            if identify(path) is None:
                clear(path, *BESIDE)
                try:
                    os.close(open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE.own))
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    root = str(path.directory)
                    raise NoSpaceError(
                        f"no room left for the registry in {root} ({error.strerror}): "
                        f"{how_to_make_room(root)}"
                    ) from None
            found = identify(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return path, found

    def remove_torn(self, watched: Watched) -> None:
        """Remove a database that was emptied, or whose log or index was removed: each would see another.

        Also one that another was copied into. Before the connection is closed: SQLite brings its log
        into a file that still has its name, and then deletes what is called like the log
        (sqlite3PagerClose, databaseIsUnmoved).
        """
        with contextlib.suppress(FileNotFoundError):  # all is gone
            path = self.file()
            if _is_torn(path, watched):
                with self._alone(path):
                    if _is_torn(path, watched):
                        clear(path, "", *BESIDE)


class Watched:
    """The files that one connection has open.

    Parameters
    ----------
    home : Home
    path : File
        The database's file, in the directory in which it was opened.
    files : Files
        What `identify` returned of them.
    """

    __slots__ = (
        "_index", "_path", "_reached", "_seen", "_spot", "_written", "files", "overwritten",
    )  # fmt: skip

    def __init__(self, home: Home, path: File, files: Files) -> None:
        self.files = files
        self._spot = home.spot
        self._path = path
        self._seen: Resolved | None = None
        # How far the log had got; when the file was written, and which checkpoint that was.
        self._reached = (0, 0, 0)
        self._written: tuple[int, tuple[bytes, int]] | None = None
        # Whether something other than SQLite has written into them: somebody copied a backup there.
        self.overwritten = False
        # SQLite's own descriptor, which it keeps as long as there is a connection in this process:
        # closing one of ours would drop its locks.
        self._index = next(iter(opened((files[0], files[3])) or ()), -1)

    @property
    def are_open(self) -> bool:
        """Whether all that SQLite uses was there, as far as it can be told."""
        return bool(self.files[2] and self.files[3]) and (
            self._index >= 0 or opened(self.files[:2]) is None
        )

    def is_at_home(self) -> bool:
        """Tell whether the file, whatever became of its log, is still what the path leads to."""
        if self.overwritten:
            return False
        try:
            seen = self._spot.resolve()
            if seen is self._seen:
                return True
            found = identify(File(seen.directory, self._path.name))
        except FileNotFoundError:
            return False
        return found is not None and found[:2] == self.files[:2]

    def have_their_names(self, *, sure: bool = True) -> bool:
        """Tell whether they are still what the path leads to; if `sure`, also that something is in them."""
        if self.overwritten:
            return False
        # What is moved, removed or replaced changes the directory; what is emptied does not.
        try:
            seen = self._spot.resolve()
            if seen is self._seen:
                return not sure or self._is_believed()
            if seen.directory.identity != self._path.directory.identity:
                return False
            if identify(self._path) != self.files:
                return False
        except FileNotFoundError:
            return False
        self._seen = seen
        return not sure or self._is_believed()

    def _is_believed(self) -> bool:
        """Tell whether something is in the file, and nobody but SQLite has written it."""
        try:
            found = status(self._path)
        except FileNotFoundError:
            return False
        if self._goes_back() or self._was_written(found.st_mtime_ns):
            self.overwritten = True
        return bool(found.st_size) and not self.overwritten

    def look(self) -> None:
        """Look at what a commit of this process has written, and at what it was committed to."""
        with contextlib.suppress(OSError):
            if self._goes_back() or self._was_written(status(self._path).st_mtime_ns):
                self.overwritten = True

    def _goes_back(self) -> bool:
        """Tell whether the log is an earlier one, or shorter than it was, or its index is cut off."""
        known = self._reached  # first: a finalizer may look in between, and find more
        try:
            index = os.pread(self._index, _HEADERS, 0)
            if len(index) < _HEADERS:  # SQLite cuts it only where nobody else has it open
                return identity_of(os.fstat(self._index)) == (self.files[0], self.files[3])
        except OSError:
            return False
        if index[:_HEADER] != index[_HEADER:]:  # somebody is just writing it
            return False
        reached = (
            _number(index, _CHANGES),
            int.from_bytes(index[_SALT], "big"),
            _number(index, _FRAMES),
        )
        self._reached = reached
        # SQLite counts changes from 0 when it has repaired the index; the log is the same then, or longer.
        # It may give any number to a log that it has emptied, so that of two numbers none is the earlier.
        return _is_before(reached[0], known[0]) and not (
            reached[1] == known[1] and reached[2] >= known[2]
        )

    def _was_written(self, changed: int) -> bool:
        """Tell whether the file has changed, and no checkpoint was made since that would explain it."""
        known = self._written  # first, as above
        if known is not None and changed == known[0]:
            return False
        try:
            before = self._checkpoint()
            changed = status(self._path).st_mtime_ns
            checkpoint = self._checkpoint()
        except OSError:
            return False
        if checkpoint is None or checkpoint != before:  # one is just being made
            return False
        self._written = changed, checkpoint
        return known is not None and known[0] != changed and known[1] == checkpoint

    def _checkpoint(self) -> tuple[bytes, int] | None:
        """Return which log, and how much of it, is in the database; None in the midst of a checkpoint."""
        index = os.pread(self._index, _BEGUN + 4, 0)
        if len(index) < _BEGUN + 4:
            return None
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


def opened(file: tuple[int, ...]) -> list[int] | None:
    """Return this process's descriptors of a file, by device and inode; None where nothing tells.

    Raises
    ------
    TooManyFilesError
    """
    found = []
    try:
        for fd in map(int, os.listdir(_OPEN_FILES)):
            with contextlib.suppress(OSError):  # it is closed by now
                if identity_of(os.fstat(fd)) == file:
                    found.append(fd)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise limit_error(error) from None
        return None
    return found


def identify(path: str) -> Files | None:
    """Return which files have the names now; None if there is no database.

    A log or an index that is not there has the inode 0.

    Raises
    ------
    CorruptRegistryError
        One of them is no file: a link, a directory, a socket.
    """
    try:
        found = status(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    _require_file(path, found)
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
    _require_file(path, found)
    return found.st_ino


def _require_file(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise CorruptRegistryError(
            f"the registry {path} is no file. No data was lost: `jshm check --fix` rebuilds the "
            "registry from the segments"
        )


def require_user(user: int, path: str) -> None:
    """Raise UnsafeDirectoryError if this process is not the user's any more who opened the database."""
    if os.geteuid() != user:
        raise UnsafeDirectoryError(
            f"{os.path.dirname(path)} was opened by user {user}, and this process is user "
            f"{os.geteuid()} now (setuid): refused. What is attached stays attached; use jshm before, "
            "or only after the change"
        )


def _is_torn(path: str, watched: Watched) -> bool:
    """Tell whether the database is the same file, and not the same database any more."""
    found, known = identify(path), watched.files
    return found is not None and found[:2] == known[:2] and (watched.overwritten or found != known)


def clear(path: str, *endings: str) -> None:
    """Remove the files with these endings, if they are there; what is in a directory is kept aside."""
    for ending in endings:
        one = with_ending(path, ending)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(status(one).st_mode):
                rename(one, with_ending(one, f".{time.time_ns()}"))
            else:
                remove(one)
