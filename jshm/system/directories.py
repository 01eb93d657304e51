"""Directories of ours, each opened once; the files in them are reached through its descriptor.

A path is looked up anew at each use, and may lead elsewhere the next time: the directory was moved,
copied, deleted and made again, or covered by a mount. So a `Place` is one directory, whatever its path
leads to now; a `File` is a name in it; and a `Spot` tells which directory a path leads to now.

`Place` and `File` are strings: the path, for people and for messages. What is done with a file goes
through the functions below. They take a plain path too, which is then looked up as ever.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from .forks import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

Identity = tuple[int, int]
"""Device and inode."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW
# Two changes of a directory that are so near each other, in nanoseconds, may be told the same time.
_TICK = 20_000_000
_NOWHERE = (-1, -1)

# Threads open what they need in turn: two descriptors of one directory are one too many.
_lock = threading.RLock()
wait_for(_lock)


def identity_of(status: os.stat_result) -> Identity:
    """Return what tells a file from all others, as long as it exists."""
    return status.st_dev, status.st_ino


class Place(str):
    """One directory, held open; as text, the path that it was opened by.

    Parameters
    ----------
    path : str
    parent : Place, optional
        Where the last component of `path` is looked up; by default the whole path is.

    Attributes
    ----------
    identity : (int, int)
        Device and inode. No other directory gets these while this one is held.

    Raises
    ------
    OSError
        It is not there, is not a directory, or is a symbolic link.
    """

    __slots__ = ("_fd", "identity")

    _fd: int
    identity: Identity

    def __new__(cls, path: str, parent: Place | None = None) -> Self:
        self = super().__new__(cls, path)
        if parent is None:
            self._fd = os.open(path, _FLAGS)
        else:
            self._fd = os.open(os.path.basename(path), _FLAGS, dir_fd=parent.fd)
        self.identity = identity_of(os.fstat(self._fd))
        return self

    @classmethod
    def missing(cls, path: str) -> Self:
        """Return what stands for a directory that is not there: nothing is found in it."""
        self = str.__new__(cls, path)
        self._fd, self.identity = -1, _NOWHERE
        return self

    def __bool__(self) -> bool:
        """Whether there is such a directory."""
        return self.identity != _NOWHERE

    @property
    def fd(self) -> int:
        """Its descriptor, which is open.

        Raises
        ------
        FileNotFoundError
            It is not there any more, and cannot be reached.
        """
        self.reopen()
        return self._fd

    def reopen(self) -> bool:
        """Open it again if something has closed its descriptor; tell whether it was so.

        A library that makes a daemon closes all. Then the number is nobody's, or another file's, which
        is left alone.

        Raises
        ------
        FileNotFoundError
            It is not there any more, and cannot be reached.
        """
        try:
            if identity_of(os.fstat(self._fd)) == self.identity:
                return False
        except OSError:
            pass
        with _lock:
            if self:
                fd = os.open(str(self), _FLAGS)
                if identity_of(os.fstat(fd)) == self.identity:
                    self._fd = fd
                    return True
                os.close(fd)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """In another process it is the path."""
        return str, (str(self),)

    def names(self) -> list[str]:
        """Return the names in it."""
        # Opened anew: two who list by one descriptor would share its position, forks included.
        fd = self.open_anew()
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def open_anew(self) -> int:
        """Return another descriptor of it, which is the caller's."""
        return os.open(".", _FLAGS, dir_fd=self.fd)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # closed already, or the interpreter is about to end
            if identity_of(os.fstat(self._fd)) == self.identity:
                os.close(self._fd)


class File(str):
    """A name in a `Place`; as text, the path.

    Attributes
    ----------
    place : Place
    name : str
    """

    __slots__ = ("name", "place")

    place: Place
    name: str

    def __new__(cls, place: Place, name: str) -> Self:
        self = str.__new__(cls, f"{place}/{name}")
        self.place = place
        self.name = name
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """In another process it is the path: an error may name it."""
        return str, (str(self),)


def inside(directory: str, name: str) -> str:
    """Return the path of what has a name in a directory; of a `Place`, a `File`."""
    return File(directory, name) if isinstance(directory, Place) else f"{directory}/{name}"


def beside(path: str, ending: str) -> str:
    """Return the path of the file that is called like another one, with an ending."""
    return File(path.place, path.name + ending) if isinstance(path, File) else path + ending


def names_in(directory: str) -> list[str]:
    """Return the names in a directory."""
    return directory.names() if isinstance(directory, Place) else os.listdir(directory)


# -- files -----------------------------------------------------------------------------------------


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """Open a file, as `os.open` does, and never through a link; not inherited by other programs."""
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        if not isinstance(path, File):
            return os.open(path, flags, mode)
        place = path.place
        if flags & os.O_CREAT:
            place.reopen()
        try:
            return os.open(path.name, flags, mode, dir_fd=place._fd)  # noqa: SLF001 - one unit
        except OSError:
            # It takes as long as to open a file to be sure each time that it is the descriptor still.
            if place.reopen():
                return os.open(path.name, flags, mode, dir_fd=place._fd)  # noqa: SLF001
            raise
    except OSError as error:
        error.filename = path
        raise


def status(path: str) -> os.stat_result:
    """Return what `os.lstat` does."""
    if not isinstance(path, File):
        return os.lstat(path)
    place = path.place
    try:
        return os.stat(path.name, dir_fd=place._fd, follow_symlinks=False)  # noqa: SLF001
    except OSError:
        if place.reopen():
            return os.stat(path.name, dir_fd=place._fd, follow_symlinks=False)  # noqa: SLF001
        raise


def exists(path: str) -> bool:
    """Tell whether anything has this path."""
    try:
        status(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_at(path: str, fd: int) -> bool:
    """Tell whether a path leads to an open file; False if that descriptor was closed."""
    try:
        return identity_of(status(path)) == identity_of(os.fstat(fd))
    except OSError:
        return False


def remove(path: str, fd: int = -1) -> None:
    """Remove a file, if it is there; with `fd`, only if it is that open file."""
    if fd >= 0 and not is_at(path, fd):
        return
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        if not isinstance(path, File):
            os.unlink(path)
            return
        place = path.place
        try:
            os.unlink(path.name, dir_fd=place._fd)  # noqa: SLF001
        except OSError:
            if not place.reopen():
                raise
            os.unlink(path.name, dir_fd=place._fd)  # noqa: SLF001


def _at(path: str) -> tuple[str, int | None]:
    return (path.name, path.place.fd) if isinstance(path, File) else (path, None)


def rename(path: str, to: str) -> None:
    """Rename a file, as `os.rename` does."""
    (name, place), (new, there) = _at(path), _at(to)
    os.rename(name, new, src_dir_fd=place, dst_dir_fd=there)


def link(path: str, to: str) -> None:
    """Give a file a second name, as `os.link` does."""
    (name, place), (new, there) = _at(path), _at(to)
    os.link(name, new, src_dir_fd=place, dst_dir_fd=there, follow_symlinks=False)


# -- what a path leads to --------------------------------------------------------------------------


class Seen(NamedTuple):
    """What a path led to.

    Attributes
    ----------
    place : Place
    changed : int
        When a name in it was last added, removed or replaced; -1 if that was just now.
    """

    place: Place
    changed: int


class Spot:
    """Tells which directory a path leads to now.

    Parameters
    ----------
    path : str
    open_ : callable, optional
        Opens the directory, and refuses one that is not as it should be.
    above : Spot, optional
        Of a directory above this one, which is looked at first, each time.

    Attributes
    ----------
    seen : Seen or None
        As of the last `look`. The same object as long as nothing has changed.
    """

    def __init__(
        self, path: str, open_: Callable[[str], Place] = Place, above: Spot | None = None
    ) -> None:
        self.path = path
        self.seen: Seen | None = None
        self._open = open_
        self._above = above

    def look(self) -> Seen:
        """Look at it; this takes a microsecond if nothing has changed.

        Raises
        ------
        OSError
            There is no directory.
        """
        if self._above is not None:
            self._above.look()
        try:
            found = os.lstat(self.path)
        except OSError as error:
            self.seen = None
            if not isinstance(error, FileNotFoundError):
                self._open(self.path)  # says what is wrong
            raise
        seen = self.seen
        # Not the time of the last modification: that can be set.
        if (
            seen is not None
            and found.st_ctime_ns == seen.changed
            and (found.st_dev, found.st_ino) == seen.place.identity
        ):
            return seen
        with _lock:
            return self._look_anew(found)

    def close(self) -> None:
        """Hold the directory no more, until the next `look`."""
        self.seen = None

    def _look_anew(self, found: os.stat_result) -> Seen:
        seen, self.seen = self.seen, None
        if seen is None or identity_of(found) != seen.place.identity:
            place = self._open(self.path)
        else:
            place = seen.place
        changed = found.st_ctime_ns
        # What is that new may change again without a sign: it is looked at again each time.
        settled = abs(time.time_ns() - changed) > _TICK
        self.seen = Seen(place, changed if settled else -1)
        return self.seen
