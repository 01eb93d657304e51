"""SQLite for many processes, threads and forks: one connection each, one transaction helper.

Why not plain `sqlite3`:

- A deferred transaction that upgrades from read to write fails at once, whatever the timeout:
  every write here is ``BEGIN IMMEDIATE``.
- SQLite's own busy handler sleeps up to 100 ms at a time; a short random backoff of our own keeps
  the waiting of the unluckiest of eight processes at a few milliseconds.
- A connection must not cross a fork (the child would see locks that it does not have, or write
  into a log that is gone): all are closed before a fork and opened again when needed.
- POSIX locks are dropped when *any* descriptor of the file is closed: nothing else in the process
  may open the database's files.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import sqlite3
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from . import blockers, interrupts
from .access import PRIVATE
from .ballast import Ballast
from .dbfiles import BESIDE, Files, Watched, alone, identify, remove, remove_torn
from .errors import CorruptRegistryError, JshmError, NoSpaceError, RegistryError, RegistryTimeout
from .forks import wait_for
from .wal import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from .access import Access

Row = tuple[Any, ...]
T = TypeVar("T")

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
# What reading a damaged database may raise: SQLite quotes its bytes in messages.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# What SQLite and Python have no code for: a schema that lacks a table, or has one that its header
# denies; a header of no known format; text that is no text.
_DAMAGE = re.compile("^no such|^Could not decode|already exists$|unsupported file format")
# Pages of the log after which SQLite brings them into the database: fewer than it does by itself, so
# that the log fits into the room that a publish leaves, and into the ballast.
_LOG_PAGES = 100
# Seconds for which a read trusts that the file still has its path; a write makes sure, or trusts, once,
# that its operation just did.
_CHECK_INTERVAL = 0.05
_JUST_NOW = 0.002


class MisplacedError(Exception):
    """The database is not the one that belongs there, or is not there any more: it is made anew."""


class _Connection:
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
        self.transaction: weakref.ref[Transaction] | None = None

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
        if self.raw is not None and self.pid == os.getpid():
            self.raw.close()
        self.raw = None

    def __del__(self) -> None:
        self.close()


class Database:
    """A SQLite database in WAL mode that several processes, threads and forks share.

    Parameters
    ----------
    path : str
        The database's file; made if it is not there.
    setup : callable
        Called with this database whenever its file was just opened by this process, to make or
        check the schema; MisplacedError if another database should be there.
    timeout : float
        Seconds to wait for other writers before RegistryTimeout.
    place : callable
        Called to make the directory again when the file is gone.
    moved : callable
        Called when the file was removed or replaced under this process, with a function that reads
        what it still has of the old one, from a statement to its rows; and whether it has nothing of
        it, since another was written into the same file.
    access : Access
        Who may use it.
    """

    def __init__(
        self,
        path: str,
        setup: Callable[[Database], None],
        timeout: float,
        place: Callable[[], object] = lambda: None,
        *,
        moved: Callable[[Callable[[str], list[Row]], bool], None] = lambda *_: None,
        access: Access = PRIVATE,
    ) -> None:
        self.path = path
        self.timeout = timeout
        self._setup = setup
        self._place = place
        self._moved = moved
        self._access = access
        self._log = Log(path)
        self._ballast = Ballast(path + ".ballast")
        self._local = threading.local()
        self._all: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._all_lock = threading.RLock()
        self._known: Files | None = None
        self._forking: list[_Connection] = []
        # Grows with every connection that is opened.
        self.serial = 0
        _databases.add(self)

    # -- connections ---------------------------------------------------------------------------

    def _connection(self, *, sure: bool = False) -> _Connection:
        """Return this thread's connection to the file that has the path *now*."""
        con: _Connection | None = getattr(self._local, "connection", None)
        if con is not None and con.raw is not None and con.pid == os.getpid():
            now = time.monotonic()
            # In the midst of a transaction it is too late to be sure, and nobody else may wait for it.
            if now < con.checked + (0 if sure else _CHECK_INTERVAL) or con.is_busy:
                return con
            if con.watched.have_their_names():
                con.checked = now
                return con
            self._leave(con)
        return self._connect()

    def _leave(self, con: _Connection) -> None:
        """Close a connection whose file was removed or replaced under us: `rm -r`, logout, repair."""
        with con.lock:
            raw = con.raw
            if raw is None:  # another thread closed it, for a fork: then others may remove its log
                return
            with contextlib.suppress(sqlite3.Error, JshmError):  # what is damaged is no help
                self._moved(lambda sql: raw.execute(sql).fetchall(), con.watched.overwritten)
            remove_torn(self.path, con.watched, self.timeout)
            con.close()

    def _connect(self) -> _Connection:
        for _ in interrupts.ATTEMPTS:
            with contextlib.suppress(MisplacedError):
                return self._connect_once()
            interrupts.check()
        raise RegistryError(f"{self.path} is replaced again and again: find out what does that")

    def _connect_once(self) -> _Connection:
        with self._all_lock:  # the first one here makes the log and its index
            con = self._ballast.spend(self._open)
            self._all.add(con)
            self._local.connection = con
        self._log.look()
        if con.watched.files != self._known:
            try:
                self._setup(self)
            except BaseException as error:
                if isinstance(error, MisplacedError):
                    con.watched.overwritten = True
                    remove_torn(self.path, con.watched, self.timeout)
                con.close()
                raise
            self._known = con.watched.files
            self._ballast.keep()
        return con

    def _open(self) -> _Connection:
        self.serial += 1
        before = identify(self.path)
        if before is None:
            self._make()
            before = identify(self.path)
        try:
            raw = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False
            )
        except _ERRORS as error:
            raise self._explain(error) from error
        try:
            # Nothing here must survive a power cut: the segments do not either.
            for pragma in (
                "journal_mode=WAL",
                "synchronous=OFF",
                "journal_size_limit=1048576",
                "temp_store=MEMORY",
                f"wal_autocheckpoint={_LOG_PAGES}",
                "trusted_schema=OFF",  # members of a group may write it
                "user_version",  # the first that reads: now log and index are there
            ):
                self._retry(lambda pragma=pragma: raw.execute(f"PRAGMA {pragma}").fetchall())  # type: ignore[misc]
            file = identify(self.path)
            if file is None or before is None or file[:2] != before[:2]:
                raise MisplacedError  # somebody has just removed it
        except BaseException:
            raw.close()
            raise
        return _Connection(raw, Watched(self.path, file))

    def _make(self) -> None:
        """Make the empty file, private from the start; -wal and -shm inherit the mode."""
        self._place()
        # Where only the file was removed, a log and its index are left that others still use: SQLite
        # would take them for the new file's. One process at a time clears them away.
        with alone(self.path, self.timeout):
            if identify(self.path) is None:
                remove(self.path, *BESIDE)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                with contextlib.suppress(FileExistsError):  # somebody put a copy there
                    fd = os.open(self.path, flags, PRIVATE.common)
                    try:
                        self._access.settle(fd, self._access.common)
                    finally:
                        os.close(fd)

    def refresh(self) -> None:
        """Make sure that the file is there, and its directory: who removed it removed all."""
        con = self._connection(sure=True)
        con.refreshed = con.checked

    def _for_writing(self) -> _Connection:
        con: _Connection | None = getattr(self._local, "connection", None)
        if con is None:
            return self._connection(sure=True)
        refreshed, con.refreshed = con.refreshed, 0.0
        return self._connection(sure=time.monotonic() > refreshed + _JUST_NOW)

    def close(self) -> None:
        """Close the connections of all threads; the next use opens them again."""
        with self._all_lock:
            for con in list(self._all):
                with con.lock:
                    con.close()

    @property
    def inode(self) -> int:
        """The inode of the file that this thread has open."""
        return self._connection().watched.files[1]

    @property
    def file(self) -> Files | None:
        """Device and inodes of the files that this process uses."""
        return self._known

    # -- use -----------------------------------------------------------------------------------

    def state(self) -> object:
        """Return what is equal to what it was as long as nobody has committed anything.

        It takes a microsecond, and no lock that others see.
        """
        con = self._connection()
        with con.lock:
            if con.raw is not None:
                # Files that were opened anew, or made anew, may begin as the others did.
                return self.serial, con.watched.state()
        return self.state()  # closed by another thread's `close` or fork in between

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Return all rows at once: an open cursor would keep the log from being reset."""
        con = self._connection()
        with con.lock:
            raw = con.raw
            if raw is not None:
                try:
                    return raw.execute(sql, parameters).fetchall()
                except _ERRORS:  # busy, maybe: it happens while another process opens the file
                    return self._retry(lambda: raw.execute(sql, parameters).fetchall())  # type: ignore[no-any-return]
        # Closed by another thread's `close` or fork in between. Without the lock: the next fork waits
        # for it, and whoever opens a connection for the fork.
        return self.read(sql, parameters)

    def require_room(self) -> None:
        """Raise RegistryTimeout if readers keep the log from being emptied, and it is too long by now.

        Who is about to add something calls this; what frees memory goes on.
        """
        con = self._connection()
        if self._log.is_too_long():
            with con.lock:
                if con.raw is not None:
                    self._log.require_room(con.raw)

    def transact(self, timeout: float | None = None) -> Transaction:
        """Return a context manager that is one ``BEGIN IMMEDIATE`` … ``COMMIT``."""
        return Transaction(self, self.timeout if timeout is None else timeout)

    def _retry(self, call: Callable[[], Any], timeout: float | None = None) -> Any:
        """Call until SQLite is not busy, or RegistryTimeout."""
        deadline = None
        pause = 5e-5
        while True:
            try:
                return call()
            except _ERRORS as error:
                # Python's own errors (a closed connection) have no code.
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BUSY:
                    raise self._explain(error) from error
                limit = self.timeout if timeout is None else timeout
                now = time.monotonic()
                if deadline is None:
                    deadline = now + limit
                if now >= deadline:
                    raise RegistryTimeout(self._blocked(limit)) from None
            interrupts.check()
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 1.5, 4e-3)

    # -- errors --------------------------------------------------------------------------------

    def _explain(self, error: Exception) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        damaged = code in _CORRUPT or isinstance(error, UnicodeDecodeError)
        # Also its header may say that it is read-only.
        if code == sqlite3.SQLITE_READONLY and os.access(self.path, os.W_OK):
            beside = filter(os.path.exists, (self.path + ending for ending in BESIDE))
            damaged = all(os.access(path, os.W_OK) for path in beside)
        if damaged or _DAMAGE.search(str(error)):
            return CorruptRegistryError(
                f"the registry {self.path} is damaged ({error}). The data is not: "
                "`jshm check --fix` rebuilds the registry from the segments"
            )
        if code in _FULL:
            return NoSpaceError(
                f"no room left for the registry in {os.path.dirname(self.path)} ({error}): release "
                "names you no longer need (%shm_list shows what each costs)"
            )
        if code == sqlite3.SQLITE_READONLY:
            con = getattr(self._local, "connection", None)
            if con is not None:
                con.close()  # it stays so; the next one may do better
            return RegistryError(
                f"the registry {self.path} cannot be written: see whose it is, and `chmod 600` it"
            )
        return RegistryError(f"the registry {self.path} cannot be used: {error}")

    def _blocked(self, timeout: float) -> str:
        return (
            f"waited {timeout:g} s for the registry; it is kept locked by "
            f"{blockers.described(self._log.writers())}. "
            "If that process is stopped (Ctrl-Z, a debugger), continue or end it"
        )

    # -- room ----------------------------------------------------------------------------------

    def making_room(self, operation: Callable[[], T]) -> T:
        """Do what frees memory, also where there is no room left for the log."""
        try:
            return operation()
        except NoSpaceError:
            self._checkpoint()
            return self._ballast.spend(operation)

    def provide(self) -> None:
        """Get ready for a full disk, while it is not: as far as it is, that is no error."""
        self._checkpoint()
        self._ballast.keep()

    def _checkpoint(self) -> None:
        """Bring the log into the database. Then it is begun anew, in the room that it has already."""
        con = self._connection()
        with con.lock, contextlib.suppress(sqlite3.Error):
            if con.raw is not None:
                con.raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                con.watched.look()

    # -- forks ---------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        self._all_lock.acquire()
        self._forking = list(self._all)
        for con in self._forking:
            con.lock.acquire()  # waits for a transaction of another thread
            con.close()

    def _after_fork_in_parent(self) -> None:
        for con in self._forking:
            con.lock.release()
        self._forking = []
        self._all_lock.release()

    def _after_fork_in_child(self) -> None:
        self._forking = []
        self._all = weakref.WeakSet()
        self._all_lock = threading.RLock()
        self._local = threading.local()


class Transaction:
    """``BEGIN IMMEDIATE`` … ``COMMIT``; any exception rolls back, and Ctrl-C waits for the end."""

    __slots__ = (
        "__weakref__", "_after", "_con", "_database", "_raw", "_timeout", "falls_behind",
    )  # fmt: skip

    _con: _Connection
    _raw: sqlite3.Connection

    def __init__(self, database: Database, timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self._after: list[Callable[[], None]] = []
        # Whether something outside the database is to be written after it.
        self.falls_behind = False

    def on_commit(self, action: Callable[[], None]) -> None:
        """Call `action` once this transaction is committed."""
        self._after.append(action)

    def __enter__(self) -> Self:
        with interrupts.deferred() as block:
            self._begin()
            block.keep()  # until __exit__
        return self

    def _begin(self) -> None:
        for _ in interrupts.ATTEMPTS:
            con = self._database._for_writing()  # noqa: SLF001 - the two are one unit
            con.lock.acquire()
            try:
                raw = con.raw
                if raw is not None:
                    if raw.in_transaction:
                        if con.is_busy:
                            raise RegistryError("a jshm operation was started inside another one")
                        con.roll_back()  # torn off, by an exception from a signal
                    try:
                        raw.execute("BEGIN IMMEDIATE")
                    except _ERRORS:  # busy, mostly
                        self._database._retry(  # noqa: SLF001
                            partial(raw.execute, "BEGIN IMMEDIATE"), self._timeout
                        )
                    self._con, self._raw = con, raw
                    con.transaction = weakref.ref(self)
                    return
            except BaseException:
                con.lock.release()
                raise
            con.lock.release()
            interrupts.check()
        raise RegistryError("the registry is closed again and again, by other threads or forks")

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        try:
            return self._raw.execute(sql, parameters).fetchall()
        except _ERRORS as error:
            raise self._database._explain(error) from error  # noqa: SLF001

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with interrupts.deferred() as block:
            block.leave()  # what __enter__ kept
            try:
                if kind is None:
                    self.execute("COMMIT")
                    for action in self._after:
                        action()
                    self._database._log.committed(self._raw)  # noqa: SLF001
                    self._con.watched.look()
            finally:
                # Also after a failed commit. SQLite may have rolled back by itself.
                self._con.roll_back()
                self._con.lock.release()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()


_forking: list[Database] = []
# Two threads may fork at the same time; each must find the other's work done.
_fork_lock = threading.Lock()


def _before_fork() -> None:
    _forking.extend(_databases)
    for database in _forking:
        database._before_fork()  # noqa: SLF001


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop()._after_fork_in_parent()  # noqa: SLF001


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop()._after_fork_in_child()  # noqa: SLF001


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
wait_for(_fork_lock)
