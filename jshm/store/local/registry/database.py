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
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from ....errors import JshmError, NoSpaceError, RegistryError, RegistryTimeout
from ....system import file_locks
from ....system import signals as interrupts
from ....system.forks import wait_for
from ....system.weak import WeakSet
from . import sqlite_errors as dberrors
from .ballast import Ballast
from .connection import Connection
from .files import Files, Home, Watched, identify, opened, require_user
from .wal import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from ....system.directories import DirectoryPath, File

Row = tuple[Any, ...]
T = TypeVar("T")

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# What reading a damaged database may raise: SQLite quotes its bytes in messages.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
# Pages of the log after which SQLite brings them into the database: fewer than it does by itself, so
# that the log fits into the room that a publish leaves, and into the ballast.
_LOG_PAGES = 100
# A file may be removed while it is opened: so often, and with so many seconds in between, it is tried.
_TRIES = 50
_PAUSE = 2e-3
# Seconds for which a read trusts that the file was not emptied; a write makes sure, or trusts, once, that
# its operation just did.
_CHECK_INTERVAL = 0.05
_JUST_NOW = 0.002


class MisplacedError(Exception):
    """The database is not the one that belongs there, or is not there any more: it is made anew."""


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
    spot : DirectoryPath, optional
        Tells which directory the path leads to now.
    moved : callable
        Called when the file was removed or replaced under this process, with a function that reads
        what it still has of the old one, from a statement to its rows; and whether it has nothing of
        it, since another was written into the same file.
    """

    def __init__(
        self,
        path: str,
        setup: Callable[[Database], None],
        timeout: float,
        place: Callable[[], object] = lambda: None,
        *,
        spot: DirectoryPath | None = None,
        moved: Callable[[Callable[[str], list[Row]], bool], None] = lambda *_: None,
    ) -> None:
        self.path = path
        self.timeout = timeout
        self._user = os.geteuid()
        self._setup = setup
        self._home = Home(path, spot, place, timeout)
        self._moved = moved
        self._log = Log(path)
        self._ballast = Ballast(lambda: self._home.file(".ballast"))
        self._local = threading.local()
        self._all: WeakSet[Connection] = WeakSet()
        self._guard = interrupts.Guard(interrupts.Order.CONNECTIONS)
        self._known: Files | None = None
        # Files that were removed or replaced, and what they said was told.
        self._left: set[Files] = set()
        self._forking: list[Connection] = []
        self._inherited: list[Connection] = []
        # Grows with every connection that is opened.
        self.serial = 0
        _databases.add(self)

    # -- connections ---------------------------------------------------------------------------

    def _connection(self, *, sure: bool = False) -> Connection:
        """Return this thread's connection to the file that has the path *now*."""
        require_user(self._user, self.path)  # what is open would still be read and written
        con: Connection | None = getattr(self._local, "connection", None)
        if con is not None and con.raw is not None and con.pid == os.getpid():
            # In the midst of a transaction it is too late to be sure, and nobody else may wait for it.
            if con.is_busy:
                return con
            now = time.monotonic()
            sure = sure or now >= con.checked + _CHECK_INTERVAL
            if con.watched.have_their_names(sure=sure):
                con.checked = now if sure else con.checked
                return con
            self._leave(con)
        return self._connect()

    def _leave(self, con: Connection) -> None:
        """Close a connection whose file was removed or replaced under us: `rm -r`, logout, repair."""
        with con.lock:
            raw = con.raw
            if raw is None:  # another thread closed it, for a fork: then others may remove its log
                return
            # Once of each file: what another thread's connection has read of it later may be released
            # by now, in the one that took its place.
            if con.watched.files[:2] not in self._left:
                self._left.add(con.watched.files[:2])
                with contextlib.suppress(sqlite3.Error, JshmError):  # what is damaged is no help
                    self._moved(lambda sql: raw.execute(sql).fetchall(), con.watched.overwritten)
            try:
                self._home.remove_torn(con.watched)
            finally:
                con.close()

    def _connect(self) -> Connection:
        for _ in interrupts.ATTEMPTS:
            with contextlib.suppress(MisplacedError):
                return self._connect_once()
            interrupts.check()
        raise RegistryError(f"{self.path} is replaced again and again: find out what does that")

    def _connect_once(self) -> Connection:
        with self._guard:
            con = self._ballast.spend(self._open)  # the first one here makes the log and its index
            self._all.add(con)
            self._local.connection = con
        self._left.discard(con.watched.files[:2])
        self._log.look()
        if con.watched.files != self._known:
            try:
                self._setup(self)
            except BaseException as error:
                if isinstance(error, MisplacedError):
                    con.watched.overwritten = True
                    self._home.remove_torn(con.watched)
                con.close()
                raise
            self._known = con.watched.files
            self._ballast.keep()
        return con

    def _open(self) -> Connection:
        self.serial += 1
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                path, files = self._home.made()
                con = self._open_file(path, files)
                if con is not None:
                    return con
            interrupts.check()
            time.sleep(_PAUSE)
        raise RegistryError(
            f"{self.path} is removed or replaced again and again while it is opened: something deletes "
            "files in that directory. Try again"
        )

    def _open_file(self, path: File, files: Files) -> Connection | None:
        """Open a file; None if that is not the one that SQLite has opened, or it was removed."""
        known = sum(con.raw is not None and con.watched.files[:2] == files[:2] for con in self._all)
        try:
            # SQLite makes none: what is not there now was removed.
            raw = sqlite3.connect(
                f"file:{quote(os.fsencode(path))}?mode=rw", uri=True,
                timeout=0, isolation_level=None, check_same_thread=False,
            )  # fmt: skip
        except _ERRORS as error:
            if self._home.has(files):
                raise self._explain(error) from error
            return None
        con = None
        try:
            # SQLite has looked the path up once more: what it has opened is compared before it is read.
            found = opened(files[:2])
            if found is None or len(found) > known:
                self._begin(raw)
                now = identify(path)
                if now is not None and now[:2] == files[:2]:
                    watched = Watched(self._home, path, now)
                    if watched.are_open and watched.have_their_names():
                        con = Connection(raw, watched)
        except JshmError:
            if self._home.has(files):
                raise
        finally:
            if con is None:
                raw.close()
        return con

    def _begin(self, raw: sqlite3.Connection) -> None:
        # Nothing here must survive a power cut: the segments do not either.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=OFF",
            "journal_size_limit=1048576",
            "temp_store=MEMORY",
            f"wal_autocheckpoint={_LOG_PAGES}",
            "trusted_schema=OFF",
            "user_version",  # the first that reads: now log and index are there
        ):
            self._retry(lambda pragma=pragma: raw.execute(f"PRAGMA {pragma}").fetchall())  # type: ignore[misc]

    def refresh(self) -> None:
        """Make sure that the file is there, and its directory: who removed it removed all."""
        con = self._connection(sure=True)
        con.refreshed = con.checked

    def _for_writing(self) -> Connection:
        con: Connection | None = getattr(self._local, "connection", None)
        if con is None:
            return self._connection(sure=True)
        refreshed, con.refreshed = con.refreshed, 0.0
        return self._connection(sure=time.monotonic() > refreshed + _JUST_NOW)

    def close(self) -> None:
        """Close the connections of all threads; the next use opens them again."""
        with self._guard:
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
                if dberrors.code_of(error) not in _BUSY:
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
        explained = dberrors.explained(error, self.path)
        con = getattr(self._local, "connection", None)
        if con is not None and dberrors.code_of(error) == sqlite3.SQLITE_READONLY:
            con.close()  # it stays so; the next one may do better
        return explained

    def _blocked(self, timeout: float) -> str:
        return (
            f"waited {timeout:g} s for the registry; it is kept locked by "
            f"{file_locks.describe(self._log.writers())}. "
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
        self._guard.lock.acquire()
        self._forking = list(self._all)
        for con in self._forking:
            con.lock.acquire()  # waits for a transaction of another thread
            con.close()

    def _after_fork_in_parent(self) -> None:
        for con in self._forking:
            con.lock.release()
        self._forking = []
        self._guard.lock.release()

    def _after_fork_in_child(self) -> None:
        self._forking = []
        # What no fork has closed is the parent's, and to close it here could touch its files.
        self._inherited = [con for con in self._all if con.raw is not None]
        self._all = WeakSet()
        self._guard = interrupts.Guard(interrupts.Order.CONNECTIONS)
        self._local = threading.local()


class Transaction:
    """``BEGIN IMMEDIATE`` … ``COMMIT``; any exception rolls back, and Ctrl-C waits for the end."""

    __slots__ = (
        "__weakref__", "_after", "_con", "_database", "_raw", "_timeout", "falls_behind", "is_here",
    )  # fmt: skip

    _con: Connection
    _raw: sqlite3.Connection

    def __init__(self, database: Database, timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self._after: list[Callable[[], None]] = []
        # Whether something outside the database is to be written after it.
        self.falls_behind = False
        # As of the last `look`.
        self.is_here = True

    def look(self) -> bool:
        """Tell whether the path still leads to the files that this is a transaction of."""
        self.is_here = self._con.watched.is_at_home()
        return self.is_here

    def on_commit(self, action: Callable[[], None]) -> None:
        """Call `action` once this transaction is committed."""
        self._after.append(action)

    def __enter__(self) -> Self:
        with interrupts.deferred() as block:
            try:
                self._begin()
            except _ERRORS:  # busy, mostly
                self._database._retry(self._begin, self._timeout)  # noqa: SLF001 - the two are one unit
            block.seal()  # until __exit__
        return self

    def _begin(self) -> None:
        """Begin, or raise what SQLite says: whoever waits has no lock, and is inside no transaction."""
        for _ in interrupts.ATTEMPTS:
            con = self._database._for_writing()  # noqa: SLF001 - as above
            if con.is_busy:  # from a finalizer: handlers of signals wait
                raise RegistryError(interrupts.NESTED)
            con.lock.acquire()
            try:
                con.roll_back()  # what was torn off
                raw = con.raw
                if raw is not None:
                    con.transaction = weakref.ref(
                        self
                    )  # first, or what a finalizer begins would end it
                    raw.execute("BEGIN IMMEDIATE")
                    self._con, self._raw = con, raw
                    return
            except BaseException:
                con.transaction = None
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
            block.unseal()  # what __enter__ sealed
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


_databases: WeakSet[Database] = WeakSet()


_forking: list[Database] = []
# Whether the fork has called `_before_fork`: another thread may have imported this module later.
_began: list[bool] = []
# Two threads may fork at the same time; each must find the other's work done.
_fork_lock = threading.RLock()


def _before_fork() -> None:
    interrupts.deferred().__enter__()  # a handler would open what is closed for the child
    _began.append(True)
    _forking.extend(_databases)
    for database in _forking:
        database._before_fork()  # noqa: SLF001


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop()._after_fork_in_parent()  # noqa: SLF001
    if _began:
        _began.pop()
        interrupts.deferred().__exit__()


def _after_fork_in_child() -> None:
    _forking.clear()
    for database in _databases:
        database._after_fork_in_child()  # noqa: SLF001
    if _began:
        _began.pop()
        interrupts.deferred().__exit__()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
wait_for(_fork_lock)
