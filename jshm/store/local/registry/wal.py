"""SQLite's write-ahead log, which must stay short.

SQLite begins the log anew when all of it is in the database and nobody reads from it. A reader that
was stopped inside a SELECT prevents that, and so may many readers that overlap: then the log grows with
each write, in memory.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

from ....errors import RegistryTimeout
from ....system import file_locks

# A log is this long before SQLite itself tries; a large transaction may make it longer at once.
_LONG = 8 << 20
# Beyond this nothing is added.
_TOO_LONG = 64 << 20
# What is tried in vain is tried again when the log has grown by so much.
_STEP = 4 << 20
# Commits of this process between two looks.
_LOOK = 64
# Milliseconds for which a checkpoint waits for readers, and writers for the checkpoint.
_PATIENCE = 25
# The bytes of the -shm file that who writes and who reads locks: https://sqlite.org/walformat.html
_WRITER = range(120, 121)
_READERS = range(123, 128)


class Log:
    """The log of one database, as one process sees it.

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

    def look(self) -> None:
        """Find out how long it is."""
        self._commits = 0
        try:
            self._size = os.stat(self._path).st_size
        except FileNotFoundError:
            self._size = 0
        if self._size < _LONG:
            self._next = _LONG

    def committed(self, raw: sqlite3.Connection) -> None:
        """Cut the log, now and then, if it became long."""
        self._commits += 1
        if self._commits >= _LOOK:
            self.look()
            if self._size >= self._next:
                self._cut(raw)

    def is_too_long(self) -> bool:
        """Tell whether it was too long when it was looked at last."""
        return self._size >= _TOO_LONG

    def require_room(self, raw: sqlite3.Connection) -> None:
        """Raise RegistryTimeout if it is too long and cannot be cut."""
        self.look()
        if self.is_too_long():
            self._cut(raw)
        if self.is_too_long():
            raise RegistryTimeout(
                f"the registry's log cannot be emptied ({self._size >> 20} MiB): it is being read by "
                f"{file_locks.describe(file_locks.pids_locking(self._index, 'POSIX', 'READ', _READERS))}. "
                "If that process is stopped (Ctrl-Z, a debugger), continue or end it; releasing "
                "names works meanwhile"
            )

    def _cut(self, raw: sqlite3.Connection) -> None:
        """Bring all of it into the database, and empty it, if nobody reads it for too long."""
        # SQLite waits for readers with the write lock held: nobody makes the log longer meanwhile,
        # and new readers do not need it.
        with contextlib.suppress(sqlite3.Error):
            raw.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
            try:
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                raw.execute("PRAGMA busy_timeout = 0")
        self.look()
        self._next = max(_LONG, self._size + _STEP)

    def writers(self) -> list[int]:
        """Return the pids of other processes that have the write lock."""
        return file_locks.pids_locking(self._index, "POSIX", "WRITE", _WRITER)
