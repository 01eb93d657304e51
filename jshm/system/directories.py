"""Directories that are held open, and operations on the files in them.

A path may lead elsewhere at the next use: its directory may have been moved, copied, deleted and made
again, or covered by a mount. An `OpenDirectory` is one directory, wherever its path leads now. A `File` is
a name in such a directory. A `DirectoryPath` finds out which directory a path leads to now.

`OpenDirectory` and `File` are strings, the paths, so that messages, and code that only passes a path on,
need not know of them. The functions below look a `File` up by its directory's descriptor, and any other
path in the usual way.
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
# Two changes of a directory within this time, in nanoseconds, may get the same timestamp.
_TICK = 20_000_000
_MISSING = (-1, -1)

# One thread at a time opens a directory, so that none is held open twice.
_lock = threading.RLock()
wait_for(_lock)


def identity_of(status: os.stat_result) -> Identity:
    """Return device and inode, which no other file has while this one exists."""
    return status.st_dev, status.st_ino


class OpenDirectory(str):
    """A directory that is held open; as a string, the path by which it was opened.

    Parameters
    ----------
    path : str
    parent : OpenDirectory, optional
        Where the last component of `path` is looked up; by default the whole path is.

    Attributes
    ----------
    identity : (int, int)
        Device and inode. No other directory gets these while this one is held open.

    Raises
    ------
    OSError
        It does not exist, is not a directory, or is a symbolic link.
    """

    __slots__ = ("_fd", "identity")

    _fd: int
    identity: Identity

    def __new__(cls, path: str, parent: OpenDirectory | None = None) -> Self:
        self = super().__new__(cls, path)
        if parent is None:
            self._fd = os.open(path, _FLAGS)
        else:
            self._fd = os.open(os.path.basename(path), _FLAGS, dir_fd=parent.fd)
        self.identity = identity_of(os.fstat(self._fd))
        return self

    @classmethod
    def missing(cls, path: str) -> Self:
        """Return an object for a directory that does not exist; no file is found in it."""
        self = str.__new__(cls, path)
        self._fd, self.identity = -1, _MISSING
        return self

    def __bool__(self) -> bool:
        """Whether the directory exists."""
        return self.identity != _MISSING

    @property
    def fd(self) -> int:
        """An open descriptor of it.

        Raises
        ------
        FileNotFoundError
            Its descriptor was closed, and its path does not lead to it any more.
        """
        self.reopen()
        return self._fd

    def reopen(self) -> bool:
        """Open it again if other code has closed its descriptor; return whether that was so.

        Libraries that make a daemon close all descriptors. The number may belong to another file then,
        which stays open.

        Raises
        ------
        FileNotFoundError
            Its descriptor was closed, and its path does not lead to it any more.
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
        """Pickle as the path."""
        return str, (str(self),)

    def names(self) -> list[str]:
        """Return the names in it."""
        # By another descriptor: listings by the same one, also in a forked child, share its position.
        fd = self.open_anew()
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def open_anew(self) -> int:
        """Return another descriptor of it, which the caller closes."""
        return os.open(".", _FLAGS, dir_fd=self.fd)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # it is closed, or the interpreter is about to end
            if identity_of(os.fstat(self._fd)) == self.identity:
                os.close(self._fd)


class File(str):
    """A name in an `OpenDirectory`; as a string, its path.

    Attributes
    ----------
    directory : OpenDirectory
    name : str
    """

    __slots__ = ("directory", "name")

    directory: OpenDirectory
    name: str

    def __new__(cls, directory: OpenDirectory, name: str) -> Self:
        self = str.__new__(cls, f"{directory}/{name}")
        self.directory = directory
        self.name = name
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Pickle as the path, since an error may quote it."""
        return str, (str(self),)


def file_in(directory: str, name: str) -> str:
    """Return the path of a name in a directory; for an `OpenDirectory`, a `File`."""
    return File(directory, name) if isinstance(directory, OpenDirectory) else f"{directory}/{name}"


def with_ending(path: str, ending: str) -> str:
    """Return a path with an ending; for a `File`, a `File`."""
    return File(path.directory, path.name + ending) if isinstance(path, File) else path + ending


def names_in(directory: str) -> list[str]:
    """Return the names in a directory."""
    return directory.names() if isinstance(directory, OpenDirectory) else os.listdir(directory)


# -- files -----------------------------------------------------------------------------------------

# An operation by a directory's descriptor fails if other code has closed it. Only then is the descriptor
# checked, and the operation repeated: a check before each one would take as long as opening a file.


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """Open a file as `os.open` does, but not through a link; other programs do not inherit it."""
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        if not isinstance(path, File):
            return os.open(path, flags, mode)
        directory = path.directory
        if flags & os.O_CREAT:  # never in another directory that got the number
            directory.reopen()
        try:
            return os.open(path.name, flags, mode, dir_fd=directory._fd)  # noqa: SLF001
        except OSError:
            if directory.reopen():
                return os.open(path.name, flags, mode, dir_fd=directory._fd)  # noqa: SLF001
            raise
    except OSError as error:
        error.filename = path
        raise


def status(path: str) -> os.stat_result:
    """Return the status of a file, as `os.lstat` does."""
    if not isinstance(path, File):
        return os.lstat(path)
    directory = path.directory
    try:
        return os.stat(path.name, dir_fd=directory._fd, follow_symlinks=False)  # noqa: SLF001
    except OSError:
        if directory.reopen():
            return os.stat(path.name, dir_fd=directory._fd, follow_symlinks=False)  # noqa: SLF001
        raise


def exists(path: str) -> bool:
    """Return whether a path leads to anything; a link counts as itself."""
    try:
        status(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_at(path: str, fd: int) -> bool:
    """Return whether a path leads to an open file; False if that descriptor was closed."""
    try:
        return identity_of(status(path)) == identity_of(os.fstat(fd))
    except OSError:
        return False


def remove(path: str, fd: int = -1) -> None:
    """Remove a file if it exists; with `fd`, only if it is that open file."""
    if fd >= 0 and not is_at(path, fd):
        return
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        name, dir_fd = _at(path)
        os.unlink(name, dir_fd=dir_fd)


def rename(path: str, to: str) -> None:
    """Rename a file, as `os.rename` does."""
    (name, dir_fd), (new, new_dir_fd) = _at(path), _at(to)
    os.rename(name, new, src_dir_fd=dir_fd, dst_dir_fd=new_dir_fd)


def link(path: str, to: str) -> None:
    """Give a file a second name, as `os.link` does."""
    (name, dir_fd), (new, new_dir_fd) = _at(path), _at(to)
    os.link(name, new, src_dir_fd=dir_fd, dst_dir_fd=new_dir_fd, follow_symlinks=False)


def _at(path: str) -> tuple[str, int | None]:
    return (path.name, path.directory.fd) if isinstance(path, File) else (path, None)


# -- which directory a path leads to ---------------------------------------------------------------


class Resolved(NamedTuple):
    """The directory that a path led to.

    Attributes
    ----------
    directory : OpenDirectory
    changed : int
        When a name in it was last added, removed or replaced; -1 if that was just now.
    """

    directory: OpenDirectory
    changed: int


class DirectoryPath:
    """A path, and the directory that it leads to now.

    Parameters
    ----------
    path : str
    open_ : callable, optional
        Opens the directory, and refuses one that is not safe.
    above : DirectoryPath, optional
        A directory above this one, which is resolved first each time.

    Attributes
    ----------
    resolved : Resolved or None
        The result of the last `resolve`. It is the same object as long as nothing has changed.
    """

    def __init__(
        self,
        path: str,
        open_: Callable[[str], OpenDirectory] = OpenDirectory,
        above: DirectoryPath | None = None,
    ) -> None:
        self.path = path
        self.resolved: Resolved | None = None
        self._open = open_
        self._above = above

    def resolve(self) -> Resolved:
        """Return the directory that the path leads to; this takes a microsecond if nothing has changed.

        Raises
        ------
        OSError
            There is no directory.
        """
        if self._above is not None:
            self._above.resolve()
        try:
            found = os.lstat(self.path)
        except OSError as error:
            self.resolved = None
            if not isinstance(error, FileNotFoundError):
                self._open(self.path)  # its error says more
            raise
        resolved = self.resolved
        # The change time, because programs can set the modification time.
        if (
            resolved is not None
            and found.st_ctime_ns == resolved.changed
            and (found.st_dev, found.st_ino) == resolved.directory.identity
        ):
            return resolved
        with _lock:
            return self._resolve_anew(found)

    def close(self) -> None:
        """Stop holding the directory open, until the next `resolve`."""
        self.resolved = None

    def _resolve_anew(self, found: os.stat_result) -> Resolved:
        known, self.resolved = self.resolved, None
        if known is None or identity_of(found) != known.directory.identity:
            directory = self._open(self.path)
        else:
            directory = known.directory
        changed = found.st_ctime_ns
        # A second change right after this one may get the same timestamp, so the next call looks again.
        settled = abs(time.time_ns() - changed) > _TICK
        self.resolved = Resolved(directory, changed if settled else -1)
        return self.resolved
