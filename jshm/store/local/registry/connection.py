"""A connection of one thread, in one process."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import weakref

    from .files import Watched


class Connection:
    """One thread's connection; `lock` is held while it is used, so that a fork can wait for it."""

    __slots__ = (
        "__weakref__", "checked", "lock", "pid", "raw", "refreshed", "transaction", "watched",
    )  # fmt: skip

    def __init__(self, raw: sqlite3.Connection, watched: Watched) -> None:
        self.raw: sqlite3.Connection | None = raw
        self.watched = watched
        self.checked = 0.0
        self.refreshed = 0.0
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.transaction: weakref.ref[Any] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether its thread is inside a transaction."""
        return self.transaction is not None and self.transaction() is not None

    def roll_back(self) -> None:
        """End the transaction, if one is open, without effect."""
        self.transaction = None
        if self.raw is not None and self.raw.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self.raw.execute("ROLLBACK")

    def close(self) -> None:
        """Close it, in the process that opened it."""
        if self.raw is not None and self.pid == os.getpid():
            self.raw.close()
        self.raw = None

    def __del__(self) -> None:
        self.close()
