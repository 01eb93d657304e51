"""The catalogue: names → versions → segments, leases, and references between segments.

It touches no data bytes. Who lives and who holds what is the kernel's to say (`lease`, `segment`).
Here are the schema and the reads; the rows and their changes are in `rows`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ....errors import FormatVersionError, JshmError
from ....system.access import PRIVATE
from ..catalogue import Catalogue
from . import offer_rows
from .database import Database, MisplacedError, Transaction
from .offer_rows import OfferRow
from .rows import FORMAT, IN_MEMORY, JOINED, SEGMENT, Entry, SegmentRow, current_sql, damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ....system.access import Access
    from ....system.directories import DirectoryPath
    from .database import Row

_SCHEMA = """
CREATE TABLE names(
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL,     -- version numbers never restart, so a released name keeps its row
    current INTEGER            -- NULL: released
) WITHOUT ROWID;
CREATE TABLE segments(
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    descr TEXT NOT NULL,       -- dtype, as in the .npy header
    shape TEXT NOT NULL,       -- JSON
    "order" TEXT NOT NULL,
    nbytes INTEGER NOT NULL,   -- of the data
    overflow INTEGER NOT NULL, -- on disk, not in memory
    writable INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    unlinked INTEGER NOT NULL  -- released while held: the file is gone, the memory is not yet
) WITHOUT ROWID;
CREATE INDEX unwanted_segments ON segments(id) WHERE NOT wanted;
CREATE TABLE versions(
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    segment TEXT NOT NULL,
    lease TEXT NOT NULL,       -- of the publisher, dead or alive
    created REAL NOT NULL,     -- seconds since the epoch
    keep INTEGER NOT NULL,
    note TEXT NOT NULL,
    once TEXT NOT NULL,        -- JSON: what %%shm_once must know; else empty
    part INTEGER NOT NULL DEFAULT 0, -- which value of the segment, from 1; 0: it is one value
    PRIMARY KEY(name, version)
) WITHOUT ROWID;
CREATE INDEX versions_segment ON versions(segment);
CREATE INDEX versions_lease ON versions(lease);
CREATE TABLE leases(id TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE refs(
    segment TEXT NOT NULL, needs TEXT NOT NULL, PRIMARY KEY(segment, needs)
) WITHOUT ROWID;
CREATE INDEX refs_needs ON refs(needs);
CREATE TABLE behind(segment TEXT PRIMARY KEY) WITHOUT ROWID;
"""
# The file that it was made in. A copy that somebody puts there, of this store's or another's, is not
# believed: the segments are newer.
_PLACE = "CREATE TABLE place(inode INTEGER NOT NULL)"
# What a member's registry has besides: the names that changed since the group was last told (see
# `store.announcing`), found by the database itself, so that no change can be forgotten.
_CHANGED = (
    "INSERT INTO changed SELECT {name} WHERE NOT EXISTS (SELECT 1 FROM changed WHERE name = {name})"
)
_OF_GROUP = [
    "CREATE TABLE announced(id TEXT NOT NULL)",
    "INSERT INTO announced VALUES (lower(hex(randomblob(8))))",
    "CREATE TABLE changed(name TEXT PRIMARY KEY) WITHOUT ROWID",
    *(
        f"CREATE TRIGGER {table}_{event} AFTER {event} ON {table} "
        f"BEGIN {_CHANGED.format(name=f'{row}.name')}; END"
        for table, event, row in (
            ("versions", "INSERT", "NEW"), ("versions", "UPDATE", "NEW"), ("versions", "DELETE", "OLD"),
            ("names", "INSERT", "NEW"), ("names", "UPDATE", "NEW"), ("names", "DELETE", "OLD"),
        )
    ),
    """CREATE TRIGGER segments_UPDATE AFTER UPDATE OF writable, unlinked ON segments BEGIN
        INSERT INTO changed SELECT DISTINCT name FROM versions
        WHERE segment = NEW.id AND name NOT IN (SELECT name FROM changed); END""",
]  # fmt: skip


# By the order of names, in which SQLite so reads them: sorted afterwards it took half as long again.
_IN_ORDER = f"{JOINED.replace(' JOIN ', ' CROSS JOIN ')} ORDER BY 1, 2"

_BEGINNING = f"""SELECT n.name, v.part, {SEGMENT} FROM names n JOIN versions v ON v.name = n.name
                  JOIN segments s ON s.id = v.segment WHERE n.name >= ? AND n.name < ?
                  AND v.version = n.current ORDER BY 1 LIMIT ?"""  # noqa: S608
# Comes after every character that a name can have.
_LAST = chr(0x10FFFF)


@dataclass(frozen=True, slots=True)
class Lost:
    """What a registry said that is gone.

    Attributes
    ----------
    last : dict of str to int
        The last version number of each name.
    current : list of Entry
        The newest versions.
    segments : dict of str to SegmentRow
    needs : dict of str to list of str
        For segments that refer to others: which.
    """

    last: dict[str, int]
    current: list[Entry]
    segments: dict[str, SegmentRow]
    needs: dict[str, list[str]]


class Registry(Catalogue):
    """The registry of one store directory.

    Parameters
    ----------
    path : str
        The database's file.
    rebuild : callable
        Called inside the transaction that makes a new, empty registry, to fill it from segments
        that are already there; with what is known of the last version number of names.
    timeout : float
        Seconds to wait for other writers.
    place : callable
        Makes the directory again if it is gone.
    spot : DirectoryPath, optional
        Tells which directory the path leads to now.
    opened : callable
        Called when this process has opened a registry that was there, to compare it with the segments.
    access : Access
        Of a group's: changes are remembered for its members.

    Attributes
    ----------
    lost : Lost or None
        What the registry said, if it was removed under this process.
    """

    def __init__(
        self,
        path: str,
        rebuild: Callable[[Transaction, Mapping[str, int]], None],
        timeout: float,
        place: Callable[[], object] = lambda: None,
        *,
        spot: DirectoryPath | None = None,
        opened: Callable[[], None] = lambda: None,
        access: Access = PRIVATE,
    ) -> None:
        self._rebuild = rebuild
        self._access = access
        self._opened = opened
        # The last version numbers that a registry said which was not believed.
        self._last: dict[str, int] = {}
        self.lost: Lost | None = None
        self._read: tuple[object, dict[tuple[str, ...], list[Entry]]] = (None, {})
        self.database = Database(
            path, self._prepare, timeout, place, spot=spot, moved=self._remember
        )

    def _remember(self, read: Callable[[str], list[Row]], overwritten: bool) -> None:
        """Keep what a registry said that was removed under us, until somebody makes use of it."""
        if overwritten:  # it says what was once, and not what was there until now
            self._count(read)
            return
        if self.lost is not None:  # another thread's connection said the same
            return
        needs: dict[str, list[str]] = {}
        for segment, needed in read("SELECT segment, needs FROM refs"):
            needs.setdefault(segment, []).append(needed)
        segments = map(SegmentRow._make, read(f"SELECT {SEGMENT} FROM segments s"))  # noqa: S608
        self.lost = Lost(
            dict(read("SELECT name, last FROM names")),
            [entry for row in read(_IN_ORDER) if (entry := Entry.parse(row)).is_current],
            {row.id: row for row in segments},
            needs,
        )

    def _count(self, read: Callable[[str], list[Row]]) -> None:
        with contextlib.suppress(JshmError, TypeError, ValueError):
            for name, last in read("SELECT name, last FROM names"):
                self._last[name] = max(last, self._last.get(name, 0))

    def _prepare(self, database: Database) -> None:
        is_new = False
        if not database.read("PRAGMA user_version")[0][0]:
            with database.transact() as tx:
                is_new = not tx.execute("PRAGMA user_version")[0][0]
                if is_new:
                    for statement in (*_SCHEMA.split(";\n"), offer_rows.SCHEMA, _PLACE):
                        tx.execute(statement)
                    for statement in _OF_GROUP if self._access.group else ():
                        tx.execute(statement)
                    tx.execute("INSERT INTO place(inode) VALUES (?)", (database.inode,))
                    self._rebuild(tx, self._last)
                    tx.execute(f"PRAGMA user_version = {FORMAT}")
        found = database.read("PRAGMA user_version")[0][0]
        if found > FORMAT:
            raise FormatVersionError(
                f"the registry {database.path} has format {found}, written by a newer jshm; this "
                f"one knows format {FORMAT}: upgrade jshm in this environment, or set JSHM_DIR to "
                "another directory"
            )
        if database.read("SELECT inode FROM place") != [(database.inode,)]:
            self._count(database.read)
            raise MisplacedError
        if not is_new:
            self._opened()

    # -- reads -----------------------------------------------------------------------------------

    def current(self, names: Sequence[str]) -> list[Entry]:
        """Return the newest versions of those names that have one, in one consistent read."""
        # What was read since the last change of anybody's is so still.
        state, key = self.database.state(), tuple(names)
        known = self._read
        if known[0] != state:
            known = self._read = state, {}
        entries = known[1].get(key)
        if entries is None:
            rows = self.database.read(current_sql(len(key)), key)
            entries = known[1][key] = [Entry.parse(row) for row in rows]
        return entries

    def version(self, name: str, version: int) -> Entry | None:
        """Return one version of a name, if it still exists."""
        rows = self.database.read(f"{JOINED} WHERE n.name = ? AND v.version = ?", (name, version))
        return Entry.parse(rows[0]) if rows else None

    def versions(self, name: str) -> list[Entry]:
        """Return all versions of a name that still exist, the oldest first."""
        return [Entry.parse(r) for r in self.database.read(f"{JOINED} WHERE n.name = ?", (name,))]

    def everything(self) -> list[Entry]:
        """Return all versions of all names, by name and version."""
        return [Entry.parse(row) for row in self.database.read(_IN_ORDER)]

    def numbers(self) -> dict[str, int | None]:
        """Return the newest version's number of every name that ever had one; None if released."""
        found: dict[str, int | None] = dict(self.database.read("SELECT name, current FROM names"))
        if not {str}.issuperset(map(type, found)):
            raise damaged("a name that is no text")
        return found

    def versions_of(self, names: Collection[str]) -> list[Entry]:
        """Return all versions of these names that still exist, by name and version."""
        sql = f"{JOINED} WHERE n.name IN ({','.join('?' * len(names))}) ORDER BY 1, 2"
        return [Entry.parse(row) for row in self.database.read(sql, tuple(names))]

    def count(self) -> int:
        """Return how many versions there are."""
        return int(self.database.read("SELECT count(*) FROM versions")[0][0])

    def last(self, name: str) -> int:
        """Return the last version number of a name, also of a released one; 0 if it never had one."""
        rows = self.database.read("SELECT last FROM names WHERE name = ?", (name,))
        return int(rows[0][0]) if rows else 0

    def of_segment(self, segment: str) -> list[Entry]:
        """Return the versions that are in a segment."""
        rows = self.database.read(f"{JOINED} WHERE v.segment = ?", (segment,))
        return [Entry.parse(row) for row in rows]

    def names(self) -> list[str]:
        """Return all names that can be attached, sorted."""
        found = [r[0] for r in self.database.read("SELECT name FROM names WHERE current NOT NULL")]
        if not {str}.issuperset(map(type, found)):
            raise damaged("a name that is no text")
        return found

    def own_names(self) -> list[str]:
        """Return all names that can be attached: all are this user's."""
        return self.names()

    def beginning(self, prefix: str, most: int) -> list[tuple[str, int, SegmentRow]]:
        """Return the first names, sorted, that can be attached and begin so, and what they are.

        That is a part of a segment, as in `Entry`.
        """
        rows = self.database.read(_BEGINNING, (prefix, prefix + _LAST, most))
        if not {(str, int)}.issuperset((type(row[0]), type(row[1])) for row in rows):
            raise damaged("a name that is no text")
        return [(row[0], row[1], SegmentRow.parse(row[2:])) for row in rows]

    def segment(self, segment: str) -> SegmentRow | None:
        """Return a segment's row."""
        rows = self.database.read(f"SELECT {SEGMENT} FROM segments s WHERE s.id = ?", (segment,))  # noqa: S608
        return SegmentRow.parse(rows[0]) if rows else None

    def is_needed(self, segment: str) -> bool:
        """Tell whether another segment refers to a segment."""
        return bool(self.database.read("SELECT 1 FROM refs WHERE needs = ? LIMIT 1", (segment,)))

    def needed_by(self, segment: str) -> list[str]:
        """Return the names of what refers to a segment."""
        sql = "SELECT DISTINCT v.name FROM refs r JOIN versions v ON v.segment = r.segment WHERE needs = ?"
        return [row[0] for row in self.database.read(sql, (segment,))]

    def kept(self) -> dict[str, int]:
        """Return for each segment the bytes without a name that it keeps by referring to them."""
        sql = """SELECT r.segment, sum(s.nbytes) FROM refs r JOIN segments s ON s.id = r.needs
                  WHERE NOT EXISTS (SELECT 1 FROM versions v WHERE v.segment = s.id) GROUP BY 1"""
        return dict(self.database.read(sql))

    def unnamed(self) -> int:
        """Return the bytes in memory that no version is in."""
        # What has no name is unwanted, or something refers to it: few are.
        sql = """SELECT coalesce(sum(nbytes), 0) FROM segments s WHERE NOT overflow AND NOT unlinked
                  AND id IN (SELECT id FROM segments WHERE NOT wanted UNION SELECT needs FROM refs)
                  AND NOT EXISTS (SELECT 1 FROM versions v WHERE v.segment = s.id)"""
        return int(self.database.read(sql)[0][0])

    def in_memory(self) -> int:
        """Return the bytes that all segments take in memory; also those that are only held."""
        return int(self.database.read(IN_MEMORY)[0][0])

    def segment_ids(self) -> set[str]:
        """Return the ids of all segments."""
        return {row[0] for row in self.database.read("SELECT id FROM segments")}

    def has_unwanted(self, among: frozenset[str]) -> bool:
        """Tell whether nothing but a holder keeps one of these segments."""
        found = self.database.read("SELECT id FROM segments WHERE NOT wanted")
        return not among.isdisjoint(row[0] for row in found)

    def unlinked(self) -> frozenset[str]:
        """Return the ids of the segments that were released while they were held."""
        # None of them is wanted, and of those there are few.
        found = self.database.read("SELECT id FROM segments WHERE NOT wanted AND unlinked")
        return frozenset(row[0] for row in found)

    def has_changes(self) -> bool:
        """Tell whether the other members of the group are still to be told of something."""
        return bool(self.database.read("SELECT 1 FROM changed LIMIT 1"))

    def is_behind(self) -> bool:
        """Tell whether a segment says of itself what is no longer so."""
        return bool(self.database.read("SELECT 1 FROM behind LIMIT 1"))

    def offers(self, recipient: str, since: float) -> list[OfferRow]:
        """Return what is offered to a kernel, by its connection file, the oldest first."""
        found = self.database.read(offer_rows.TO, (recipient, since))
        return [OfferRow.parse(row) for row in found]

    def leases(self) -> dict[str, str]:
        """Return the identity, as JSON, of every lease."""
        return dict(self.database.read("SELECT id, identity FROM leases"))

    def data_version(self) -> object:
        """Return a value that changes when anybody has committed a change; it takes a microsecond."""
        return self.database.state()
