"""The registry of one store: how it is opened, created, rebuilt, and saved when it is removed."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....errors import FormatVersionError, JshmError
from ..catalogue import Catalogue
from .database import Database, MisplacedError
from .rows import FORMAT
from .statements import GROUP_SCHEMA, SCHEMA, Queries, Transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from ..directory import Directory
    from .database import Row
    from .rows import Entry, SegmentRow


class Repair(ABC):
    """How the layer above brings a registry into line with the segments' files."""

    @abstractmethod
    def rebuild(self, tx: Transaction, last: Mapping[str, int]) -> None:
        """Fill a new, empty registry from the segments, inside the transaction that creates it.

        Parameters
        ----------
        tx : Transaction
        last : mapping of str to int
            Last version numbers of names that are known from elsewhere.
        """

    @abstractmethod
    def register_missing(self, registry: Registry) -> None:
        """Register published segments that an existing registry, just opened here, does not know."""


@dataclass(frozen=True, slots=True)
class Removed:
    """Contents of a registry that was removed.

    Attributes
    ----------
    last : dict of str to int
        The last version number of each name.
    current : list of Entry
        The newest versions.
    segments : dict of str to SegmentRow
    references : dict of str to set of str
        For each segment that refers to others: their ids.
    """

    last: dict[str, int]
    current: list[Entry]
    segments: dict[str, SegmentRow]
    references: dict[str, set[str]]


class _RemovedFile(Queries):
    """Reads a registry that has no path any more, through a connection that is still open."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._raw.execute(sql, parameters).fetchall()


class Registry(Database, Queries, Catalogue):
    """The registry of one store directory.

    Parameters
    ----------
    directory : Directory
    repair : Repair
    timeout : float
        Seconds to wait for other writers.

    Attributes
    ----------
    removed : Removed or None
        What was in the registry, if it was removed under this process and not recovered yet.
    """

    def __init__(self, directory: Directory, repair: Repair, timeout: float) -> None:
        super().__init__(directory.registry, timeout, directory.registry_spot)
        self._directory = directory
        self._repair = repair
        # Last version numbers from registries that were not trusted otherwise.
        self._last: dict[str, int] = {}
        self.removed: Removed | None = None
        # What `current` has read since the last commit of any process.
        self._current: tuple[object, dict[tuple[str, ...], list[Entry]]] = (None, {})

    def own_names(self) -> list[str]:
        """Return all names that can be attached; all belong to this user."""
        return self.names()

    def current(self, names: Sequence[str]) -> list[Entry]:
        # Nobody has committed since: the same rows would be read again.
        version, key = self.data_version(), tuple(names)
        known = self._current
        if known[0] != version:
            known = self._current = version, {}
        entries = known[1].get(key)
        if entries is None:
            entries = known[1][key] = super().current(key)
        return entries

    def transact(self, timeout: float | None = None) -> Transaction:
        return Transaction(self, timeout)

    def make_directory(self) -> None:
        self._directory.make_again()

    def prepare(self) -> None:
        inode = self._connection().files.inodes[1]
        is_new = False
        if not self.read("PRAGMA user_version")[0][0]:
            with self.transact() as tx:
                is_new = not tx.execute("PRAGMA user_version")[0][0]
                if is_new:
                    for statement in SCHEMA.split(";\n"):
                        tx.execute(statement)
                    for statement in GROUP_SCHEMA if self._directory.access.group else ():
                        tx.execute(statement)
                    tx.execute("INSERT INTO place(inode) VALUES (?)", (inode,))
                    self._repair.rebuild(tx, self._last)
                    tx.execute(f"PRAGMA user_version = {FORMAT}")
        found = self.read("PRAGMA user_version")[0][0]
        if found > FORMAT:
            raise FormatVersionError(
                f"the registry {self.path} has format {found}, written by a newer jshm; this one knows "
                f"format {FORMAT}: upgrade jshm in this environment, or set JSHM_DIR to another directory"
            )
        if self.read("SELECT inode FROM place") != [(inode,)]:
            self._save_last(self)
            raise MisplacedError
        if not is_new:
            self._repair.register_missing(self)

    def save_removed(self, raw: sqlite3.Connection, *, overwritten: bool) -> None:
        file = _RemovedFile(raw)
        if overwritten:  # it has contents of another time
            self._save_last(file)
        elif self.removed is None:  # else another thread's connection has read the same
            current = [entry for entry in file.everything() if entry.is_current]
            segments = {row.id: row for row in file.segments()}
            self.removed = Removed(file.last_numbers(), current, segments, file.references())

    def _save_last(self, queries: Queries) -> None:
        with contextlib.suppress(JshmError, TypeError, ValueError):
            for name, last in queries.last_numbers().items():
                self._last[name] = max(last, self._last.get(name, 0))
