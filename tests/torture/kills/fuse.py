"""A fuse in the process that is to be killed: it burns at the n-th boundary of what jshm does.

A boundary is a call by which jshm reaches the system, or SQLite: before each call, in the middle of
each write, and before and after each SQL statement. What happens inside a call (SQLite's own writes) is
for `strace` to find, and for kills at random times.
"""

from __future__ import annotations

import builtins
import fcntl
import functools
import mmap
import os
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

from jshm.segment import file as segment

if TYPE_CHECKING:
    from collections.abc import Callable

# All calls by which jshm changes, waits for, or reads anything of the system.
CALLS = {
    "access", "chmod", "chown", "close", "fchmod", "fchown", "fstat", "ftruncate", "link", "listdir",
    "lstat", "makedirs", "mkdir", "open", "posix_fallocate", "pread", "pwrite", "read", "readlink", "rename",
    "replace", "rmdir", "scandir", "stat", "statvfs", "symlink", "truncate", "unlink", "write",
}  # fmt: skip
# Calls without a system call, calls that only identify this process, and calls about other processes.
HARMLESS = {
    "fsdecode", "fsencode", "getegid", "geteuid", "getgrouplist", "getgroups", "getpid", "getppid", "getuid",
    "kill", "major", "minor", "register_at_fork", "strerror", "urandom", "waitid",
}  # fmt: skip
_TORN = {"pwrite", "write"}


class Fuse:
    """Counts boundaries while it is armed, and kills this process at the n-th.

    Parameters
    ----------
    at : int
        The first is 1; at 0 it never burns.
    """

    def __init__(self, at: int) -> None:
        self.left = at
        self.armed = False

    def reached(self) -> bool:
        """Count one boundary; tell whether it is the one."""
        if self.armed:
            self.left -= 1
            return self.left == 0
        return False

    def boundary(self) -> None:
        """Burn here if it is time."""
        if self.reached():
            burn()

    def install(self) -> None:
        """Put boundaries before all calls, for good: this process ends soon."""
        for name in CALLS:
            call = getattr(os, name)
            setattr(os, name, self._torn(call) if name in _TORN else self._before(call))
        fcntl.flock = self._before(fcntl.flock)
        fcntl.fcntl = self._before(fcntl.fcntl)
        builtins.open = self._before(open)
        mmap.mmap = self._before(mmap.mmap)  # type: ignore[assignment, misc]
        segment.map_file = self._before(segment.map_file)
        fuse = self

        class Connection(sqlite3.Connection):
            def execute(self, *args: Any) -> sqlite3.Cursor:
                fuse.boundary()
                result = super().execute(*args)
                fuse.boundary()
                return result

            def close(self) -> None:  # the last one writes the log back, and removes it
                fuse.boundary()
                super().close()
                fuse.boundary()

        sqlite3.connect = functools.partial(sqlite3.connect, factory=Connection)  # type: ignore[assignment]

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.boundary()
            return call(*args, **kwargs)

        return wrapped

    def _torn(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapped(fd: int, data: Any, *offset: int) -> Any:
            self.boundary()
            if self.reached():
                whole = memoryview(data).cast("B")
                call(fd, whole[: len(whole) // 2], *offset)
                burn()
            return call(fd, data, *offset)

        return wrapped


def burn() -> None:
    """Die as if by somebody else's ``kill -9``."""
    os.kill(os.getpid(), signal.SIGKILL)
