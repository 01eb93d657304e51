"""Room that is given up when there is no other: without it, nothing could be released on a full disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, TypeVar

from ....errors import JshmError, NoSpaceError
from ....segment.file import open_unheld, reserve
from ....system import signals as interrupts
from ....system.directories import open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_SIZE = 512 << 10
# So much at a time: what is given up may be taken by others before we use it.
_SLICE = 128 << 10


class Ballast:
    """A file whose pages are allocated and hold nothing.

    Parameters
    ----------
    path : callable
        Returns the path of the file.
    """

    def __init__(self, path: Callable[[], str]) -> None:
        self._path = path

    def keep(self) -> None:
        """Make it as large as it should be, or as it can be now."""
        with contextlib.suppress(OSError), self._opened(os.O_CREAT) as fd:
            for size in range(_SIZE, os.fstat(fd).st_size, -_SLICE):
                with contextlib.suppress(OSError):
                    reserve(fd, size)
                    return

    def spend(self, operation: Callable[[], T]) -> T:
        """Do what needs room, with as much of the ballast given up as it takes."""
        given = False
        try:
            while True:
                try:
                    return operation()
                except NoSpaceError:
                    if not self._give():
                        raise
                    given = True
        finally:
            if given:
                self.keep()

    def _give(self) -> bool:
        """Give up a part; False if there is nothing left."""
        with contextlib.suppress(OSError), self._opened() as fd:
            size = os.fstat(fd).st_size
            os.ftruncate(fd, max(0, size - _SLICE))
            return bool(size)
        return False

    @contextlib.contextmanager
    def _opened(self, flags: int = 0) -> Iterator[int]:
        with interrupts.deferred():  # the descriptor must not be left with nobody to close it
            fd = open_file(self._path(), os.O_RDWR | flags)
            try:
                yield fd
            finally:
                os.close(fd)


def how_to_make_room(root: str) -> str:
    """Return what to do where the file system of a store's directory is full.

    Parameters
    ----------
    root : str
        Of the store. Where nothing is shared yet, nothing can be released.
    """
    free = "free space there, or set JSHM_DIR to a directory that has room"
    if not is_anything_shared(root):
        return free
    return f"release names you no longer need (%shm_list shows what each costs), or {free}"


def has_no_inode(root: str) -> bool:
    """Tell whether no file can be made there; some file systems do not count them."""
    with contextlib.suppress(OSError):
        found = os.statvfs(root)
        return bool(found.f_files) and not found.f_favail
    return False


def is_anything_shared(root: str) -> bool:
    """Tell whether a segment is in a store's directory: whether anything could be released."""
    with contextlib.suppress(OSError), os.scandir(f"{root}/segments") as entries:
        return any(_is_finished(entry.path) for entry in entries)
    return False


def _is_finished(path: str) -> bool:
    """Tell whether a segment's file is whole: one in the making is locked by its maker."""
    try:
        fd = open_unheld(path)
    except (JshmError, OSError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
