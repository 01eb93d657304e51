"""The tables of a registry, every query and every change.

A segment is *wanted* while a name's newest version is in it, or another segment refers to it. An unwanted
segment is removed as soon as no process holds it. The kernel knows which processes live and what they hold
(`lease`, `segment`); the registry touches no data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .database import ImmediateTransaction
from .rows import Entry, OfferRow, SegmentRow, damaged, damaged_row, parse_identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...identity import Identity
    from .database import Row

# -- schema ----------------------------------------------------------------------------------------

SCHEMA = """
CREATE TABLE names(
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL,     -- version numbers never restart, so a released name keeps its row
    current INTEGER            -- NULL: released
) WITHOUT ROWID;
CREATE TABLE segments(
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    descr TEXT NOT NULL,       -- array: dtype, as in the .npy header; else a summary
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
    once TEXT NOT NULL,        -- JSON: what %%shm_once compares; else empty
    part INTEGER NOT NULL DEFAULT 0, -- position of the value in its segment, from 1; 0: the only value
    PRIMARY KEY(name, version)
) WITHOUT ROWID;
CREATE INDEX versions_segment ON versions(segment);
CREATE INDEX versions_lease ON versions(lease);
CREATE TABLE leases(id TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE refs(
    segment TEXT NOT NULL, needs TEXT NOT NULL, PRIMARY KEY(segment, needs)
) WITHOUT ROWID;
CREATE INDEX refs_needs ON refs(needs);
-- Segments with a trailer that does not match their rows, to be rewritten.
CREATE TABLE stale_trailers(segment TEXT PRIMARY KEY) WITHOUT ROWID;
-- Names that one notebook offers to another; a rebuilt registry has none.
CREATE TABLE offers(
    name TEXT NOT NULL,
    recipient TEXT NOT NULL,   -- connection file of the kernel, which keeps it through a restart
    target TEXT NOT NULL,      -- JSON: the recipient's identity at the time of the offer
    sender TEXT NOT NULL,      -- JSON: identity
    created REAL NOT NULL,     -- seconds since the epoch
    PRIMARY KEY(name, recipient)
) WITHOUT ROWID;
-- The file in which the registry was created: a copy, of this store's or another's registry, is not
-- trusted, because the segments are newer.
CREATE TABLE place(inode INTEGER NOT NULL)
"""
# A member's registry in a group: the id of the member's list, and the names that changed since the list was
# last written (see `groups.names_file`). Triggers find the names, so that no change can be forgotten.
_CHANGED = (
    "INSERT INTO changed SELECT {name} WHERE NOT EXISTS (SELECT 1 FROM changed WHERE name = {name})"
)
GROUP_SCHEMA = [
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

# -- queries ---------------------------------------------------------------------------------------

_SEGMENT = 's.id, s.kind, s.descr, s.shape, s."order", s.nbytes, s.overflow, s.writable, s.unlinked'
_RETURNED = _SEGMENT.replace("s.", "")  # RETURNING takes no alias
_ENTRY = (
    "n.name, v.version, n.current, v.lease, v.created, v.keep, v.note, v.once, v.part, l.identity, "
    + _SEGMENT
)
_FROM = """FROM names n JOIN versions v ON v.name = n.name
           JOIN segments s ON s.id = v.segment JOIN leases l ON l.id = v.lease"""
_ENTRIES = f"SELECT {_ENTRY} {_FROM}"
# CROSS JOIN makes SQLite read by the order of names; to sort the rows afterwards takes half as long again.
_EVERYTHING = f"{_ENTRIES.replace(' JOIN ', ' CROSS JOIN ')} ORDER BY 1, 2"
_IS_WANTED = """(EXISTS (SELECT 1 FROM versions v JOIN names n ON n.name = v.name
                          WHERE v.segment = s.id AND n.current = v.version)
                 OR EXISTS (SELECT 1 FROM refs WHERE needs = s.id))"""
_IS_DANGLING = (
    """(segment NOT IN (SELECT id FROM segments) OR needs NOT IN (SELECT id FROM segments))"""
)
# States that no transaction leaves: a message, and a query for their number or the names.
_CONTRADICTIONS = {
    "{} × a version without its name, segment or lease": """
        SELECT count(*) FROM versions WHERE segment NOT IN (SELECT id FROM segments)
        OR name NOT IN (SELECT name FROM names) OR lease NOT IN (SELECT id FROM leases)""",
    "the newest version of {} is missing": """
        SELECT name FROM names n WHERE current NOT NULL AND NOT EXISTS
        (SELECT 1 FROM versions v WHERE v.name = n.name AND v.version = n.current)""",
    "{} has a version with a higher number than its last one": """
        SELECT name FROM names n WHERE typeof(last) <> 'integer' OR last <
        (SELECT max(version) FROM versions v WHERE v.name = n.name)""",
    "{} can be attached, but its memory was released": """
        SELECT n.name FROM names n JOIN versions v ON v.name = n.name AND v.version = n.current
        JOIN segments s ON s.id = v.segment WHERE s.unlinked""",
}
# Greater than every character that a name can have.
_LAST = chr(0x10FFFF)
# Seconds after which an offer is deleted.
_OFFER_LIFETIME = 86400.0
# Offers that are read at most: a process may write any number of them.
_MOST_OFFERS = 1000


@lru_cache(maxsize=64)
def _current_sql(count: int) -> str:
    marks = ",".join("?" * count)
    return f"{_ENTRIES} WHERE n.name IN ({marks}) AND v.version = n.current"


@lru_cache(maxsize=64)
def _newest_sql(count: int) -> str:
    marks = ",".join("?" * count)
    return (
        f"SELECT n.last, {_ENTRY} FROM names n "  # noqa: S608
        "LEFT JOIN versions v ON v.name = n.name AND v.version = n.current "
        "LEFT JOIN segments s ON s.id = v.segment LEFT JOIN leases l ON l.id = v.lease "
        f"WHERE n.name IN ({marks})"
    )


class Queries(ABC):
    """All that is read from the registry, inside or outside of a transaction.

    Methods raise CorruptRegistryError for rows that jshm did not write.
    """

    __slots__ = ()

    @abstractmethod
    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and return all its rows."""

    # Versions and names.

    def current(self, names: Sequence[str]) -> list[Entry]:
        """Return the newest versions of those names that have one, in one consistent read."""
        return [Entry.parse(row) for row in self.read(_current_sql(len(names)), names)]

    def newest(self, names: Sequence[str]) -> dict[str, tuple[int, Entry | None]]:
        """Return the last version number of each name that ever had one, and its newest version.

        A released name has no newest version, and its numbers continue.
        """
        found = {}
        for last, *row in self.read(_newest_sql(len(names)), names):
            if type(last) is not int:
                raise damaged_row(f"the version number {last!r:.80}")
            # Version, identity or segment is missing where nothing is current, or rows were lost.
            is_missing = None in (row[1], row[9], row[10])
            found[row[0]] = last, None if is_missing else Entry.parse(row)
        return found

    def version(self, name: str, version: int) -> Entry | None:
        """Return one version of a name, if it still exists."""
        rows = self.read(f"{_ENTRIES} WHERE n.name = ? AND v.version = ?", (name, version))
        return Entry.parse(rows[0]) if rows else None

    def versions(self, *names: str) -> list[Entry]:
        """Return all versions of these names that still exist, by name and version."""
        marks = ",".join("?" * len(names))
        sql = f"{_ENTRIES} WHERE n.name IN ({marks}) ORDER BY 1, 2"
        return [Entry.parse(row) for row in self.read(sql, names)]

    def everything(self) -> list[Entry]:
        """Return all versions of all names, by name and version."""
        return [Entry.parse(row) for row in self.read(_EVERYTHING)]

    def of_segment(self, segment: str) -> list[Entry]:
        """Return the versions that are in a segment."""
        return [
            Entry.parse(row) for row in self.read(f"{_ENTRIES} WHERE v.segment = ?", (segment,))
        ]

    def published_without_keep(self, lease: str) -> list[Entry]:
        """Return the newest versions that were published under a lease and without `keep`."""
        sql = f"{_ENTRIES} WHERE v.lease = ? AND v.version = n.current AND NOT v.keep"
        return [Entry.parse(row) for row in self.read(sql, (lease,))]

    def count_versions(self) -> int:
        """Return the number of versions of all names."""
        return int(self.read("SELECT count(*) FROM versions")[0][0])

    def current_numbers(self) -> dict[str, int | None]:
        """Return the newest version's number of every name that ever had one; None if released."""
        rows = self.read("SELECT name, current FROM names")
        _require_text(row[0] for row in rows)
        return dict(rows)

    def last_numbers(self) -> dict[str, int]:
        """Return the last version number of every name that ever had one, unchecked."""
        return dict(self.read("SELECT name, last FROM names"))

    def last(self, name: str) -> int:
        """Return the last version number of a name, also of a released one; 0 if it never had one."""
        rows = self.read("SELECT last FROM names WHERE name = ?", (name,))
        return int(rows[0][0]) if rows else 0

    def numbers(self, name: str) -> tuple[int, int | None]:
        """Return the last version number of a name, and its newest version's; (0, None) if it has none."""
        rows = self.read("SELECT last, current FROM names WHERE name = ?", (name,))
        return rows[0] if rows else (0, None)

    def segment_of(self, name: str, version: int) -> str | None:
        """Return the id of a version's segment, also where the segment's own row was lost."""
        sql = "SELECT segment FROM versions WHERE name = ? AND version = ?"
        rows = self.read(sql, (name, version))
        return rows[0][0] if rows else None

    def names(self) -> list[str]:
        """Return all names that can be attached, sorted."""
        found = [row[0] for row in self.read("SELECT name FROM names WHERE current NOT NULL")]
        _require_text(found)
        return found

    def beginning(self, prefix: str, most: int) -> list[tuple[str, int, SegmentRow]]:
        """Return the first names with a prefix that can be attached, sorted, with part and segment."""
        sql = f"""SELECT n.name, v.part, {_SEGMENT} FROM names n JOIN versions v ON v.name = n.name
                   JOIN segments s ON s.id = v.segment WHERE n.name >= ? AND n.name < ?
                   AND v.version = n.current ORDER BY 1 LIMIT ?"""  # noqa: S608
        rows = self.read(sql, (prefix, prefix + _LAST, most))
        _require_text(row[0] for row in rows)
        if any(type(row[1]) is not int for row in rows):
            raise damaged_row("a version with a part that is not a number")
        return [(row[0], row[1], SegmentRow.parse(row[2:])) for row in rows]

    # Segments.

    def segment(self, segment: str) -> SegmentRow | None:
        """Return a segment's row."""
        rows = self.read(f"SELECT {_SEGMENT} FROM segments s WHERE s.id = ?", (segment,))  # noqa: S608
        return SegmentRow.parse(rows[0]) if rows else None

    def segments(self) -> list[SegmentRow]:
        """Return the rows of all segments."""
        return [SegmentRow.parse(row) for row in self.read(f"SELECT {_SEGMENT} FROM segments s")]  # noqa: S608

    def has_segment(self, segment: str) -> bool:
        """Return whether a segment has a row."""
        return bool(self.read("SELECT 1 FROM segments WHERE id = ?", (segment,)))

    def segment_ids(self) -> set[str]:
        """Return the ids of all segments."""
        return {row[0] for row in self.read("SELECT id FROM segments")}

    def mentions(self, segment: str) -> bool:
        """Return whether any row is about a segment, also where the segment's own row was lost."""
        sql = """SELECT 1 FROM segments WHERE id = ?1 UNION ALL SELECT 1 FROM versions
                  WHERE segment = ?1 UNION ALL SELECT 1 FROM refs WHERE needs = ?1 LIMIT 1"""
        return bool(self.read(sql, (segment,)))

    def unwanted(self) -> list[SegmentRow]:
        """Return the segments that only their holders need."""
        # Computed again: one wrong flag must not delete data.
        sql = f"SELECT {_SEGMENT} FROM segments s WHERE NOT s.wanted AND NOT {_IS_WANTED}"  # noqa: S608
        return [SegmentRow.parse(row) for row in self.read(sql)]

    def has_unwanted(self, among: frozenset[str]) -> bool:
        """Return whether one of these segments is marked as unwanted."""
        found = self.read("SELECT id FROM segments WHERE NOT wanted")
        return not among.isdisjoint(row[0] for row in found)

    def is_unwanted(self, segment: str) -> bool:
        """Return whether a segment exists and is not wanted, whatever its mark says."""
        sql = f"SELECT 1 FROM segments s WHERE id = ? AND NOT {_IS_WANTED}"  # noqa: S608
        return bool(self.read(sql, (segment,)))

    def wrongly_marked(self) -> list[str]:
        """Return the ids of the segments with a wrong `wanted` mark."""
        rows = self.read(f"SELECT id FROM segments s WHERE wanted IS NOT {_IS_WANTED}")  # noqa: S608
        return [row[0] for row in rows]

    def unlinked(self) -> frozenset[str]:
        """Return the ids of the segments that were released while they were held."""
        # None of them is wanted, and few segments are unwanted.
        found = self.read("SELECT id FROM segments WHERE NOT wanted AND unlinked")
        return frozenset(row[0] for row in found)

    def bytes_in_memory(self) -> int:
        """Return the bytes that all segments take in memory, including those that are only held."""
        sql = "SELECT coalesce(sum(nbytes), 0) FROM segments WHERE NOT overflow"
        return int(self.read(sql)[0][0])

    def unnamed_bytes(self) -> int:
        """Return the bytes in memory that belong to no version."""
        # A segment without a version is unwanted, or another one refers to it: few are.
        sql = """SELECT coalesce(sum(nbytes), 0) FROM segments s WHERE NOT overflow AND NOT unlinked
                  AND id IN (SELECT id FROM segments WHERE NOT wanted UNION SELECT needs FROM refs)
                  AND NOT EXISTS (SELECT 1 FROM versions v WHERE v.segment = s.id)"""
        return int(self.read(sql)[0][0])

    # References between segments.

    def references(self) -> dict[str, set[str]]:
        """Return for each segment that refers to others: their ids."""
        found: dict[str, set[str]] = {}
        for segment, needed in self.read("SELECT segment, needs FROM refs"):
            found.setdefault(segment, set()).add(needed)
        return found

    def is_needed(self, segment: str) -> bool:
        """Return whether another segment refers to a segment."""
        return bool(self.read("SELECT 1 FROM refs WHERE needs = ? LIMIT 1", (segment,)))

    def referring_to_missing(self) -> list[str]:
        """Return the ids of the segments that refer to a segment without a row."""
        sql = "SELECT DISTINCT segment FROM refs WHERE needs NOT IN (SELECT id FROM segments)"
        return [row[0] for row in self.read(sql)]

    def count_dangling_references(self) -> int:
        """Return the number of references from or to a segment without a row."""
        return int(self.read(f"SELECT count(*) FROM refs WHERE {_IS_DANGLING}")[0][0])  # noqa: S608

    def needed_by(self, segment: str) -> list[str]:
        """Return the names of the objects that refer to a segment."""
        sql = "SELECT DISTINCT v.name FROM refs r JOIN versions v ON v.segment = r.segment WHERE needs = ?"
        return [row[0] for row in self.read(sql, (segment,))]

    def unnamed_bytes_by_referrer(self) -> dict[str, int]:
        """Return for each segment the bytes of segments without a name that it refers to."""
        sql = """SELECT r.segment, sum(s.nbytes) FROM refs r JOIN segments s ON s.id = r.needs
                  WHERE NOT EXISTS (SELECT 1 FROM versions v WHERE v.segment = s.id) GROUP BY 1"""
        return dict(self.read(sql))

    # Checks.

    def check_integrity(self) -> None:
        """Raise CorruptRegistryError if SQLite finds the database damaged."""
        found = self.read("PRAGMA quick_check(1)")
        if found and found[0][0] != "ok":
            raise damaged(f"the registry is damaged: {found[0][0]}")

    def contradictions(self) -> list[str]:
        """Return descriptions of the rows that cannot be true together."""
        return [
            message.format(found)
            for message, sql in _CONTRADICTIONS.items()
            for (found,) in self.read(sql)
            if found
        ]

    # Trailers, leases, offers, a group's announcements.

    def has_stale_trailers(self) -> bool:
        """Return whether a segment has a trailer that does not match its rows."""
        return bool(self.read("SELECT 1 FROM stale_trailers LIMIT 1"))

    def leases(self) -> dict[str, str]:
        """Return the identity, as JSON, of every lease."""
        rows = self.read("SELECT id, identity FROM leases")
        for row in rows:
            if tuple(map(type, row)) != (str, str):
                raise damaged_row(f"the process {row!r:.200}")
        return dict(rows)

    def offers(self, recipient: str, now: float) -> list[OfferRow]:
        """Return the offers to a kernel, by its connection file, that are not too old; the oldest first."""
        sql = f"""SELECT o.sender, o.created, {_ENTRY} {_FROM} JOIN offers o ON o.name = n.name
                   WHERE v.version = n.current AND o.recipient = ? AND o.created > ?
                   ORDER BY o.created LIMIT {_MOST_OFFERS}"""
        return [OfferRow.parse(row) for row in self.read(sql, (recipient, now - _OFFER_LIFETIME))]

    def recipients(self) -> dict[str, Identity]:
        """Return the connection file and the identity of every kernel that has an offer."""
        rows = self.read("SELECT DISTINCT recipient, target, sender FROM offers")
        for row in rows:
            if {type(value) for value in row} != {str}:
                raise damaged_row(f"the offer {row!r:.200}")
            parse_identity(row[2])
        return {recipient: parse_identity(target) for recipient, target, _ in rows}

    def list_id(self) -> str:
        """Return the id of the list that the other members of the group read."""
        return str(self.read("SELECT id FROM announced")[0][0])

    def has_unannounced(self) -> bool:
        """Return whether a name changed since the list was last written."""
        return bool(self.read("SELECT 1 FROM changed LIMIT 1"))

    def unannounced(self) -> list[str]:
        """Return the names that changed since the list was last written."""
        return [row[0] for row in self.read("SELECT name FROM changed")]


def _require_text(names: Iterable[object]) -> None:
    if not {str}.issuperset(map(type, names)):
        raise damaged_row("a name that is not text")


# -- changes ---------------------------------------------------------------------------------------


class Transaction(ImmediateTransaction, Queries):
    """One transaction, with all changes of the registry.

    Attributes
    ----------
    left_stale : bool
        Whether it marked a segment's trailer as stale, so that it must be rewritten afterwards.
    """

    left_stale = False

    # Adding.

    def add_lease(self, lease: str, identity: str) -> None:
        """Add a lease with its process's identity, as JSON, if it has no row."""
        self.execute("INSERT OR IGNORE INTO leases(id, identity) VALUES (?, ?)", (lease, identity))

    def add_segment(self, row: SegmentRow, *, wanted: bool) -> None:
        """Add a segment."""
        self.execute(
            'INSERT INTO segments(id, kind, descr, shape, "order", nbytes, overflow, writable, wanted, '
            "unlinked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (row.id, row.kind, row.descr, row.shape, row.order, row.nbytes, row.overflow,
             row.writable, wanted),
        )  # fmt: skip

    def add_references(self, segment: str, needs: Iterable[str]) -> list[str]:
        """Add references from one segment to others; return those of the others that are gone."""
        needs = list(needs)
        for needed in needs:
            self.execute(
                "INSERT OR IGNORE INTO refs(segment, needs) VALUES (?, ?)", (segment, needed)
            )
        self.mark_wanted(needs)
        there = "SELECT 1 FROM segments WHERE id = ? AND NOT unlinked"
        return [needed for needed in needs if not self.execute(there, (needed,))]

    def add_version(self, entry: Entry) -> None:
        """Add a version and make it its name's newest."""
        self.execute(
            "INSERT INTO names(name, last, current) VALUES (?, ?, ?) "
            "ON CONFLICT(name) DO UPDATE SET last = max(last, excluded.last), current = excluded.current",
            (entry.name, entry.version, entry.version),
        )
        self.execute(
            "INSERT INTO versions(name, version, segment, lease, created, keep, note, once, part) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (entry.name, entry.version, entry.segment.id, entry.lease, entry.created, entry.keep,
             entry.note, entry.once, entry.part),
        )  # fmt: skip

    def count_from(self, name: str, last: int) -> None:
        """Make the name's next version number greater than `last`."""
        self.execute(
            "INSERT INTO names(name, last) VALUES (?, ?) "
            "ON CONFLICT(name) DO UPDATE SET last = max(last, excluded.last)",
            (name, last),
        )

    def add_offer(self, name: str, target: Identity, sender: str, now: float) -> None:
        """Offer a name to a kernel; this replaces an earlier offer of the same name."""
        self.execute(
            "INSERT OR REPLACE INTO offers(name, recipient, target, sender, created) "
            "VALUES (?, ?, ?, ?, ?)",
            (name, target.connection_file, target.to_json(), sender, now),
        )

    # Changing.

    def retire(self, name: str) -> None:
        """Remove a name's newest version from the name, and the offers of the name."""
        self.execute("UPDATE names SET current = NULL WHERE name = ?", (name,))
        self.execute("DELETE FROM offers WHERE name = ?", (name,))

    def mark_wanted(self, segments: Iterable[str]) -> list[SegmentRow]:
        """Mark each of these segments as wanted or not; return those that are not."""
        unwanted = []
        for segment in segments:
            found = self.execute(
                f"UPDATE segments AS s SET wanted = {_IS_WANTED} WHERE id = ? "  # noqa: S608
                f"RETURNING wanted, {_RETURNED}",
                (segment,),
            )
            unwanted += [SegmentRow.parse(row[1:]) for row in found if not row[0]]
        return unwanted

    def mark_unlinked(self, segment: str) -> list[SegmentRow]:
        """Mark a segment as released and still held; return those that only it needed.

        Nobody can attach it any more, and its holders hold the segments that it refers to.
        """
        self.execute("UPDATE segments SET unlinked = 1 WHERE id = ?", (segment,))
        return self._forget_references(segment)

    def mark_stale(self, segment: str) -> None:
        """Mark a segment with a trailer that no longer matches its rows, so that it is rewritten later."""
        self.execute("INSERT OR IGNORE INTO stale_trailers(segment) VALUES (?)", (segment,))
        self.left_stale = True

    def set_writable(self, segment: str, *, writable: bool) -> bool:
        """Set whether a segment may be attached ``'r+'``; return whether it still exists."""
        return bool(
            self.execute(
                "UPDATE segments SET writable = ? WHERE id = ? AND NOT unlinked RETURNING 1",
                (writable, segment),
            )
        )

    # Removing.

    def forget_version(self, entry: Entry) -> None:
        """Delete the row of a version whose segment is needed under another name, or by an object.

        The newest version is kept, so that no segment becomes unwanted.
        """
        # A release that continues in a later transaction may find a version that another process restored.
        self.execute(
            "DELETE FROM versions WHERE name = ?1 AND version = ?2 "
            "AND NOT EXISTS (SELECT 1 FROM names WHERE name = ?1 AND current = ?2)",
            (entry.name, entry.version),
        )

    def forget_older_in_segment(self, entry: Entry) -> None:
        """Delete the name's older versions in the same segment, which are the same value."""
        self.execute(
            "DELETE FROM versions WHERE name = ? AND segment = ? AND version < ?",
            (entry.name, entry.segment.id, entry.version),
        )

    def forget_segment(self, segment: str, *, refers: bool = True) -> list[SegmentRow]:
        """Delete an unwanted segment's rows; return those segments that only it needed.

        An array refers to no others, so `refers` can be False for it.
        """
        self.execute("DELETE FROM versions WHERE segment = ?", (segment,))
        self.execute("DELETE FROM segments WHERE id = ?", (segment,))
        return self._forget_references(segment) if refers else []

    def forget_broken_segment(self, segment: str) -> None:
        """Delete the rows of a segment with a file that is gone or damaged, wanted or not."""
        self.execute(
            "UPDATE names SET current = NULL WHERE current = "
            "(SELECT version FROM versions v WHERE v.segment = ? AND v.name = names.name "
            "AND v.version = names.current) AND name IN (SELECT name FROM versions WHERE segment = ?)",
            (segment, segment),
        )
        self.forget_segment(segment)

    def _forget_references(self, segment: str) -> list[SegmentRow]:
        needs = [
            row[0] for row in self.execute("SELECT needs FROM refs WHERE segment = ?", (segment,))
        ]
        if needs:
            self.execute("DELETE FROM refs WHERE segment = ?", (segment,))
        return self.mark_wanted(needs)

    def stale_trailers(self) -> list[SegmentRow]:
        """Return the segments that are marked so, and remove the marks of those that are gone."""
        self.execute("DELETE FROM stale_trailers WHERE segment NOT IN (SELECT id FROM segments)")
        sql = f"SELECT {_SEGMENT} FROM stale_trailers t JOIN segments s ON s.id = t.segment"  # noqa: S608
        return [SegmentRow.parse(row) for row in self.execute(sql)]

    def forget_dangling_references(self) -> None:
        """Delete the references from or to a segment without a row."""
        self.execute(f"DELETE FROM refs WHERE {_IS_DANGLING}")  # noqa: S608

    def forget_stale(self, segment: str) -> None:
        """Remove a segment's mark: its trailer matches its rows again."""
        self.execute("DELETE FROM stale_trailers WHERE segment = ?", (segment,))

    def forget_lease(self, lease: str) -> None:
        """Delete a dead process's lease, if no version of it is left."""
        self.execute(
            "DELETE FROM leases WHERE id = ? AND NOT EXISTS (SELECT 1 FROM versions WHERE lease = ?)",
            (lease, lease),
        )

    def forget_offers(self, recipient: str, names: Iterable[str]) -> None:
        """Delete offers of these names that a kernel has answered."""
        for name in names:
            self.execute("DELETE FROM offers WHERE recipient = ? AND name = ?", (recipient, name))

    def forget_recipient(self, recipient: str) -> None:
        """Delete all offers to a kernel."""
        self.execute("DELETE FROM offers WHERE recipient = ?", (recipient,))

    def forget_old_offers(self, now: float) -> None:
        """Delete offers that are too old, or whose name is gone."""
        self.execute(
            "DELETE FROM offers WHERE created < ? OR typeof(created) <> 'real' "
            "OR name NOT IN (SELECT name FROM names WHERE current NOT NULL)",
            (now - _OFFER_LIFETIME,),
        )

    def forget_unannounced(self) -> None:
        """Record that the list has been written."""
        self.execute("DELETE FROM changed")
