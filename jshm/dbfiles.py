"""The files that a SQLite database in WAL mode is made of: where, which they are, whether they changed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING

from .access import PRIVATE
from .ballast import how_to_make_room
from .errors import CorruptRegistryError, NoSpaceError, UnsafeDirectoryError
from .places import File, Spot, beside, identity_of, open_file, remove, rename, status
from .segment import limit_error, lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .places import Seen

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


class Home:
    """Where the files of one database are, in the directory that its path leads to now.

    Parameters
    ----------
    path : str
        The database's file.
    spot : Spot or None
        Tells which directory that is.
    make : callable
        Makes the directory if it is not there.
    timeout : float
        Seconds to wait for others who make or remove them.
    """

    def __init__(
        self,
        path: str,
        spot: Spot | None,
        make: Callable[[], object],
        timeout: float,
    ) -> None:
        self._name = os.path.basename(path)
        self._make = make
        self._timeout = timeout
        self.spot = spot or Spot(os.path.dirname(path))

    def file(self, ending: str = "") -> File:
        """Return the path of the database's file, or of the one with that ending."""
        return File(self.spot.look().place, self._name + ending)

    def has(self, files: Files) -> bool:
        """Tell whether the database's file is still there, and the same."""
        found = identify(self.file())
        return found is not None and found[:2] == files[:2]

    @contextlib.contextmanager
    def _alone(self, path: File) -> Iterator[None]:
        """Let only one process at a time make or remove the database's files."""
        guard = path.place.open_anew()
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
                    root = str(path.place)
                    raise NoSpaceError(
                        f"no room left for the registry in {root} ({error.strerror}): "
                        f"{how_to_make_room(root)}"
                    ) from None
            found = identify(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return path, found

    def remove_torn(self, known: Files) -> None:
        """Remove a database that was emptied, or whose log or index was removed: each would see another.

        Before the connection is closed: SQLite brings its log into a file that still has its name, and
        then deletes what is called like the log (sqlite3PagerClose, databaseIsUnmoved).
        """
        with contextlib.suppress(FileNotFoundError):  # all is gone
            path = self.file()
            if is_torn(path, known):
                with self._alone(path):
                    if is_torn(path, known):
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

    __slots__ = ("_index", "_path", "_seen", "_spot", "files")

    def __init__(self, home: Home, path: File, files: Files) -> None:
        self.files = files
        self._spot = home.spot
        self._path = path
        self._seen: Seen | None = None
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
        try:
            seen = self._spot.look()
            if seen is self._seen:
                return True
            found = identify(File(seen.place, self._path.name))
        except FileNotFoundError:
            return False
        return found is not None and found[:2] == self.files[:2]

    def have_their_names(self, *, sure: bool = True) -> bool:
        """Tell whether they are still what the path leads to; if `sure`, also that something is in them."""
        # What is moved, removed or replaced changes the directory; what is emptied does not.
        try:
            seen = self._spot.look()
            if seen is self._seen:
                return not sure or bool(status(self._path).st_size)
            if seen.place.identity != self._path.place.identity:
                return False
            if identify(self._path) != self.files:
                return False
        except FileNotFoundError:
            return False
        self._seen = seen
        return True

    def state(self) -> object:
        """Return what is equal to what it was as long as nobody has committed anything."""
        try:
            return os.pread(self._index, _HEADERS, 0)
        except OSError:  # where descriptors cannot be found, nothing is known
            return object()


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
    _inode(beside(path, JOURNAL))
    return (
        found.st_dev, found.st_ino, _inode(beside(path, log)), _inode(beside(path, index)),
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


def is_torn(path: str, known: Files) -> bool:
    """Tell whether the database is the same file, and not the same database any more."""
    found = identify(path)
    return found is not None and found[:2] == known[:2] and found != known


def clear(path: str, *endings: str) -> None:
    """Remove the files with these endings, if they are there; what is in a directory is kept aside."""
    for ending in endings:
        one = beside(path, ending)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(status(one).st_mode):
                rename(one, beside(one, f".{time.time_ns()}"))
            else:
                remove(one)
