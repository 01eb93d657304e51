"""SQLite for many processes, threads and forks: connections, transactions and errors; it knows no tables.

Why not plain `sqlite3`:

- A deferred transaction that upgrades from read to write fails at once, whatever the timeout: each write
  here is ``BEGIN IMMEDIATE``.
- SQLite's busy handler sleeps up to 100 ms at a time. A short random backoff keeps the longest wait among
  eight processes at a few milliseconds.
- A connection must not cross a fork: the child would see locks that it does not have, or write into a
  deleted log. All connections are closed before a fork and opened again when needed.
- Somebody may remove or replace the files while they are open (``rm -r``, logout, a backup): each use
  checks that the path still leads to the open files.
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
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from ....errors import JshmError, NoSpaceError, RegistryError, RegistryTimeout, UnsafeDirectoryError
from ....system import file_locks, signals
from ....system.forks import wait_for
from ....system.weak import WeakSet
from ..directory import disk_full
from .files import BESIDE, Ballast, Inodes, Location, Log, OpenFiles, descriptors_of, identify
from .rows import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from ....system.directories import DirectoryPath, File

Row = tuple[Any, ...]
T = TypeVar("T")

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# Damage for which SQLite and Python have no code: a schema without a table, or with one that its header
# denies; an unknown format in the header; text that is not valid UTF-8.
_DAMAGE = re.compile("^no such|^Could not decode|already exists$|unsupported file format")
# What reading a damaged database may raise: SQLite quotes its bytes in messages.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
# Pages of the log after which SQLite copies them into the database. Fewer than its default, so that the log
# fits into the space that a publish leaves, and into the ballast.
_LOG_PAGES = 100
# Attempts to open a file that others remove meanwhile, and seconds between them.
_TRIES = 50
_PAUSE = 2e-3
# Seconds for which a read trusts that the file was not emptied.
_CHECK_INTERVAL = 0.05
# Seconds for which a write trusts the check that its operation has just made (`Database.refresh`).
_JUST_NOW = 0.002


class MisplacedError(Exception):
    """The database does not belong where it is, or was removed: it must be created again."""


class Connection:
    """The connection of one thread; `lock` is held while it is used, so that a fork can wait for it."""

    __slots__ = (
        "__weakref__", "checked", "files", "lock", "pid", "raw", "refreshed", "transaction",
    )  # fmt: skip

    def __init__(self, raw: sqlite3.Connection, files: OpenFiles) -> None:
        self.raw: sqlite3.Connection | None = raw
        self.files = files
        self.checked = 0.0
        self.refreshed = 0.0
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.transaction: weakref.ref[ImmediateTransaction] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether its thread is inside a transaction."""
        return self.transaction is not None and self.transaction() is not None

    def roll_back(self) -> None:
        """End the open transaction, if there is one, without effect."""
        self.transaction = None
        if self.raw is not None and self.raw.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self.raw.execute("ROLLBACK")

    def close(self) -> None:
        """Close it in the process that opened it."""
        if self.raw is not None and self.pid == os.getpid():
            self.raw.close()
        self.raw = None

    def __del__(self) -> None:
        self.close()


class Database:
    """A SQLite database in WAL mode that several processes, threads and forks share.

    A subclass defines what is in it: see `prepare`, `save_removed` and `make_directory`.

    Parameters
    ----------
    path : str
        The database's file; created if it does not exist.
    timeout : float
        Seconds to wait for other writers before RegistryTimeout.
    spot : DirectoryPath, optional
        Tells which directory the path leads to now.
    """

    def __init__(self, path: str, timeout: float, spot: DirectoryPath | None = None) -> None:
        self.path = path
        self.timeout = timeout
        self._user = os.geteuid()
        self._location = Location(path, spot, timeout)
        self._log = Log(path)
        self._ballast = Ballast(self._location)
        self._local = threading.local()
        self._all: WeakSet[Connection] = WeakSet()
        self._guard = signals.Guard(signals.Order.CONNECTIONS)
        self._inodes: Inodes | None = None
        # Removed or replaced files whose contents were given to `save_removed`.
        self._abandoned: set[Inodes] = set()
        self._forking: list[Connection] = []
        self._inherited: list[Connection] = []
        # The number of connections that were opened.
        self.serial = 0
        _databases.add(self)

    # -- for subclasses --------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make or check the schema; called whenever this process has opened another file.

        Raises
        ------
        MisplacedError
            Another database belongs there; this one is removed and created again.
        """

    def save_removed(self, raw: sqlite3.Connection, *, overwritten: bool) -> None:
        """Save what is still needed of a database that was removed or replaced under this process.

        Parameters
        ----------
        raw : sqlite3.Connection
            Still reads the removed file.
        overwritten : bool
            Whether another database was written into the same file, so that the old contents are gone.
        """

    def make_directory(self) -> None:
        """Create the database's directory, if it does not exist."""

    # -- connections -----------------------------------------------------------------------------

    def _connection(self, *, thorough: bool = False) -> Connection:
        """Return this thread's connection to the file that the path leads to now."""
        if os.geteuid() != self._user:  # the open files would still be readable and writable
            raise UnsafeDirectoryError(
                f"{os.path.dirname(self.path)} was opened by user {self._user}, and this process now "
                f"belongs to user {os.geteuid()} (setuid): refused. Attached data stays attached; use "
                "jshm either before or after the change"
            )
        con: Connection | None = getattr(self._local, "connection", None)
        if con is not None and con.raw is not None and con.pid == os.getpid():
            # Inside a transaction it is too late for a check, and nobody else may wait for it.
            if con.transaction is not None and con.is_busy:
                return con
            now = time.monotonic()
            thorough = thorough or now >= con.checked + _CHECK_INTERVAL
            if con.files.are_unchanged(thorough=thorough):
                con.checked = now if thorough else con.checked
                return con
            self._abandon(con)
        return self._connect()

    def _abandon(self, con: Connection) -> None:
        """Close a connection whose file was removed or replaced: ``rm -r``, logout, repair."""
        with con.lock:
            raw = con.raw
            if raw is None:  # another thread closed it, for a fork: then others may remove its log
                return
            # Once for each file: what another thread's connection reads of it later may have been
            # released meanwhile, in the file that took its place.
            file = con.files.inodes[:2]
            if file not in self._abandoned:
                self._abandoned.add(file)
                with contextlib.suppress(sqlite3.Error, JshmError):  # a damaged one is no help
                    self.save_removed(raw, overwritten=con.files.overwritten)
            try:
                self._location.remove_broken(con.files)
            finally:
                con.close()

    def _connect(self) -> Connection:
        for _ in signals.ATTEMPTS:
            with contextlib.suppress(MisplacedError):
                return self._connect_once()
            signals.check()
        raise RegistryError(
            f"{self.path} was replaced {len(signals.ATTEMPTS):,} times in a row: find out what replaces it"
        )

    def _connect_once(self) -> Connection:
        with self._guard:
            con = self._ballast.spend(self._open)  # SQLite creates the log and its index here
            self._all.add(con)
            self._local.connection = con
        self._abandoned.discard(con.files.inodes[:2])
        self._log.measure()
        if con.files.inodes != self._inodes:
            try:
                self.prepare()
            except BaseException as error:
                if isinstance(error, MisplacedError):
                    con.files.overwritten = True
                    self._location.remove_broken(con.files)
                con.close()
                raise
            self._inodes = con.files.inodes
            self._ballast.fill()
        return con

    def _open(self) -> Connection:
        self.serial += 1
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                found = self._location.find()
                if found is None:
                    self.make_directory()
                    found = self._location.create()
                con = self._open_file(*found)
                if con is not None:
                    return con
            signals.check()
            time.sleep(_PAUSE)
        raise RegistryError(
            f"{self.path} was removed or replaced {_TRIES} times while it was opened: something deletes "
            "files in that directory. Try again"
        )

    def _open_file(self, path: File, inodes: Inodes) -> Connection | None:
        """Open a file; return None if SQLite has opened another one, or the file was removed."""
        known = sum(con.raw is not None and con.files.inodes[:2] == inodes[:2] for con in self._all)
        try:
            # mode=rw: SQLite must not create a file that was just removed.
            raw = sqlite3.connect(
                f"file:{quote(os.fsencode(path))}?mode=rw", uri=True,
                timeout=0, isolation_level=None, check_same_thread=False,
            )  # fmt: skip
        except _ERRORS as error:
            if self._location.has(inodes):
                raise self._explain(error) from error
            return None
        con = None
        try:
            # SQLite has looked up the path again: compare the file that it opened before reading it.
            found = descriptors_of(inodes[:2])
            if found is None or len(found) > known:
                self._set_up(raw)
                now = identify(path)
                if now is not None and now[:2] == inodes[:2]:
                    files = OpenFiles(self._location, path, now)
                    if files.are_complete and files.are_unchanged():
                        con = Connection(raw, files)
        except JshmError:
            if self._location.has(inodes):
                raise
        finally:
            if con is None:
                raw.close()
        return con

    def _set_up(self, raw: sqlite3.Connection) -> None:
        # Nothing here must survive a power cut: the segments do not either.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=OFF",
            "journal_size_limit=1048576",
            "temp_store=MEMORY",
            f"wal_autocheckpoint={_LOG_PAGES}",
            "trusted_schema=OFF",
            "user_version",  # the first one that reads, which creates the log and its index
        ):
            self._retry(lambda pragma=pragma: raw.execute(f"PRAGMA {pragma}").fetchall())  # type: ignore[misc]

    def refresh(self) -> None:
        """Check the files thoroughly, and create them and their directory again if they were removed."""
        con = self._connection(thorough=True)
        con.refreshed = con.checked

    def close(self) -> None:
        """Close the connections of all threads; the next use opens them again."""
        with self._guard:
            for con in list(self._all):
                with con.lock:
                    con.close()

    @property
    def inodes(self) -> Inodes | None:
        """Device and inodes of the files that this process uses; None before the first use."""
        return self._inodes

    # -- use -------------------------------------------------------------------------------------

    def data_version(self) -> object:
        """Return a value that changes with each commit of any process.

        It takes a microsecond, and no lock that others see.
        """
        con = self._connection()
        with con.lock:
            if con.raw is not None:
                # Files that were opened or created again may begin as the previous ones did.
                return self.serial, con.files.data_version()
        return self.data_version()  # another thread's `close` or fork closed it in between

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Return all rows at once: an open cursor would keep the log from being restarted."""
        con = self._connection()
        with con.lock:
            raw = con.raw
            if raw is not None:
                try:
                    return raw.execute(sql, parameters).fetchall()
                except _ERRORS:  # perhaps busy, while another process opens the file
                    return self._retry(lambda: raw.execute(sql, parameters).fetchall())  # type: ignore[no-any-return]
        # Another thread's `close` or fork closed it in between. Without the lock, because the next fork
        # waits for the lock, and to open a connection waits for that fork.
        return self.read(sql, parameters)

    def transact(self, timeout: float | None = None) -> ImmediateTransaction:
        """Return a context manager that is one ``BEGIN IMMEDIATE`` … ``COMMIT``."""
        return ImmediateTransaction(self, timeout)

    def _retry(self, call: Callable[[], Any], timeout: float | None = None) -> Any:
        """Call until SQLite is not busy, or RegistryTimeout."""
        deadline = None
        pause = 5e-5
        while True:
            try:
                return call()
            except _ERRORS as error:
                if _code_of(error) not in _BUSY:
                    raise self._explain(error) from error
                limit = self.timeout if timeout is None else timeout
                now = time.monotonic()
                if deadline is None:
                    deadline = now + limit
                if now >= deadline:
                    raise RegistryTimeout(
                        f"timed out after {limit:g} s waiting for the registry, which is locked by "
                        f"{file_locks.describe(self._log.writers())}; if that process is suspended, "
                        "resume or kill it"
                    ) from None
            signals.check()
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 1.5, 4e-3)

    def _explain(self, error: Exception) -> Exception:
        """Return the error of jshm for one of SQLite's."""
        con = getattr(self._local, "connection", None)
        if con is not None and _code_of(error) == sqlite3.SQLITE_READONLY:
            con.close()  # it stays read-only; the next one may be writable
        return explained(error, self.path)

    # -- space -----------------------------------------------------------------------------------

    def require_short_log(self) -> None:
        """Raise RegistryTimeout if readers keep the log from being emptied, and it is too long.

        For operations that add something. Those that free memory go on.
        """
        if self._log.is_too_long():
            con = self._connection()
            with con.lock:
                if con.raw is not None:
                    self._log.require_short(con.raw)

    def free_space_with(self, operation: Callable[[], T]) -> T:
        """Return the result of an operation that frees memory, also on a full disk."""
        try:
            return operation()
        except NoSpaceError:
            self._checkpoint()
            return self._ballast.spend(operation)

    def reserve_space(self) -> None:
        """Shorten the log and fill the ballast, as far as there is space, for when the disk is full."""
        self._checkpoint()
        self._ballast.fill()

    def _checkpoint(self) -> None:
        """Copy the log into the database. SQLite then restarts the log, in the space that it has."""
        con = self._connection()
        with con.lock, contextlib.suppress(sqlite3.Error):
            if con.raw is not None:
                con.raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                con.files.check_after_commit()

    # -- forks -----------------------------------------------------------------------------------

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
        # Connections that no fork has closed belong to the parent: closing them here could touch its
        # files, so they are kept open.
        self._inherited = [con for con in self._all if con.raw is not None]
        self._all = WeakSet()
        self._guard = signals.Guard(signals.Order.CONNECTIONS)
        self._local = threading.local()


class ImmediateTransaction:
    """``BEGIN IMMEDIATE`` … ``COMMIT``; any exception rolls back, and Ctrl-C waits for the end.

    Parameters
    ----------
    database : Database
    timeout : float, optional
        Seconds to wait for other writers; by default the database's.

    Attributes
    ----------
    is_in_place : bool
        Whether the path led to the files of this transaction, as of the last `check_place`.
    """

    __slots__ = ("__weakref__", "_after", "_con", "_database", "_raw", "_timeout", "is_in_place")

    _con: Connection
    _raw: sqlite3.Connection

    def __init__(self, database: Database, timeout: float | None = None) -> None:
        self._database = database
        self._timeout = timeout
        self._after: list[Callable[[], object]] = []
        self.is_in_place = True

    def check_place(self) -> bool:
        """Return whether the path still leads to the files of this transaction."""
        self.is_in_place = self._con.files.are_current()
        return self.is_in_place

    def on_commit(self, action: Callable[[], object]) -> None:
        """Call `action` once this transaction is committed."""
        self._after.append(action)

    def __enter__(self) -> Self:
        with signals.deferred() as block:
            try:
                self._begin()
            except _ERRORS:  # mostly busy
                self._database._retry(self._begin, self._timeout)  # noqa: SLF001 - the two are one unit
            block.seal()  # until __exit__
        return self

    def _begin(self) -> None:
        """Begin, or raise SQLite's error, without the connection's lock and outside any transaction."""
        database = self._database
        for _ in signals.ATTEMPTS:
            known: Connection | None = getattr(database._local, "connection", None)  # noqa: SLF001
            refreshed = 0.0
            if known is not None:
                refreshed, known.refreshed = known.refreshed, 0.0
            con = database._connection(thorough=time.monotonic() > refreshed + _JUST_NOW)  # noqa: SLF001
            if (
                con.transaction is not None and con.is_busy
            ):  # called by a finalizer; signal handlers are deferred
                raise RegistryError(signals.NESTED)
            con.lock.acquire()
            try:
                con.roll_back()  # a transaction that was interrupted
                raw = con.raw
                if raw is not None:
                    # First, or a transaction that a finalizer begins would end this one.
                    con.transaction = weakref.ref(self)
                    raw.execute("BEGIN IMMEDIATE")
                    self._con, self._raw = con, raw
                    return
            except BaseException:
                con.transaction = None
                con.lock.release()
                raise
            con.lock.release()
            signals.check()
        raise RegistryError(
            f"other threads or forks closed the registry {len(signals.ATTEMPTS):,} times in a row"
        )

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        try:
            return self._raw.execute(sql, parameters).fetchall()
        except _ERRORS as error:
            raise self._database._explain(error) from error  # noqa: SLF001

    read = execute  # for queries that run inside and outside of a transaction

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with signals.deferred() as block:
            block.unseal()  # what __enter__ sealed
            try:
                if kind is None:
                    self.execute("COMMIT")
                    for action in self._after:
                        action()
                    self._database._log.after_commit(self._raw)  # noqa: SLF001
                    self._con.files.check_after_commit()
            finally:
                # Also after a failed commit, although SQLite may have rolled back itself.
                self._con.roll_back()
                self._con.lock.release()


# -- errors ----------------------------------------------------------------------------------------


def _code_of(error: Exception) -> int:
    """Return SQLite's primary result code; 0 for Python's own errors, for example a closed connection."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def explained(error: Exception, path: str) -> JshmError:
    """Return the error of jshm for one of SQLite's.

    Parameters
    ----------
    error : sqlite3.Error or UnicodeDecodeError
    path : str
        The database's file.
    """
    code = _code_of(error)
    is_damaged = code in _CORRUPT or isinstance(error, UnicodeDecodeError)
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
        return RegistryError(f"the registry {path} was just removed or moved: try again")
    # A damaged header may also make SQLite take the database for read-only.
    if code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK):
        beside = filter(os.path.exists, (path + ending for ending in BESIDE))
        is_damaged = all(os.access(one, os.W_OK) for one in beside)
    if is_damaged or _DAMAGE.search(str(error)):
        return damaged(f"the registry {path} is damaged ({error})")
    root = os.path.dirname(path)
    if code in _FULL or (code == sqlite3.SQLITE_CANTOPEN and _has_no_inode(root)):
        return disk_full("the registry", root, error)
    if code == sqlite3.SQLITE_READONLY:
        return RegistryError(
            f"the registry {path} cannot be written: check its owner, and `chmod 600` it"
        )
    return RegistryError(f"the registry {path} cannot be used: {error}")


def _has_no_inode(root: str) -> bool:
    """Return whether the file system has no inode left; some file systems do not count them."""
    with contextlib.suppress(OSError):
        found = os.statvfs(root)
        return bool(found.f_files) and not found.f_favail
    return False


# -- forks -----------------------------------------------------------------------------------------


_databases: WeakSet[Database] = WeakSet()
_forking: list[Database] = []
# Whether this fork has called `_before_fork`: a thread may import this module while another one forks.
_began: list[bool] = []
# Two threads may fork at the same time; each must find the other's work done.
_fork_lock = threading.RLock()


def _before_fork() -> None:
    signals.deferred().__enter__()  # a handler would open what is closed for the child
    _began.append(True)
    _forking.extend(_databases)
    for database in _forking:
        database._before_fork()  # noqa: SLF001


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop()._after_fork_in_parent()  # noqa: SLF001
    _resume_signals()


def _after_fork_in_child() -> None:
    _forking.clear()
    for database in _databases:
        database._after_fork_in_child()  # noqa: SLF001
    _resume_signals()


def _resume_signals() -> None:
    if _began:
        _began.pop()
        signals.deferred().__exit__()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
wait_for(_fork_lock)
