"""The registry's rows, and every change of them.

The functions that take a `Transaction` run inside one; the others read nothing.

A segment is *wanted* while a name's newest version is in it, or another segment refers to it.
An unwanted segment goes as soon as nobody holds it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from ....errors import CorruptRegistryError, CorruptSegmentError, FormatVersionError
from ....segment.array_layout import ArrayLayout, Order, as_shape, implied
from ....segment.object_layout import ObjectLayout
from ....system.caches import by_text
from ...identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .database import Row, Transaction

# Raised by changes that a jshm which does not know them cannot live with; columns and tables are added
# freely.
FORMAT = 1
# The kinds of segment that this version can map; it lists others, and leaves them alone.
KINDS = frozenset({"array", "object"})

SEGMENT = 's.id, s.kind, s.descr, s.shape, s."order", s.nbytes, s.overflow, s.writable, s.unlinked'
_RETURNED = SEGMENT.replace("s.", "")  # SQLite's RETURNING knows no alias
_ENTRY = (
    "n.name, v.version, n.current, v.lease, v.created, v.keep, v.note, v.once, v.part, l.identity, "
    + SEGMENT
)
JOINED = f"""SELECT {_ENTRY} FROM names n JOIN versions v ON v.name = n.name
              JOIN segments s ON s.id = v.segment JOIN leases l ON l.id = v.lease"""  # noqa: S608
# Between the summaries of the values of one segment; between a segment's id and a part.
_BETWEEN = "\n"
_PART = ":"
# What the segments take in memory.
IN_MEMORY = "SELECT coalesce(sum(nbytes), 0) FROM segments WHERE NOT overflow"
# Whether a segment `s` is wanted.
_WANTED = """(EXISTS (SELECT 1 FROM versions v JOIN names n ON n.name = v.name
                       WHERE v.segment = s.id AND n.current = v.version)
              OR EXISTS (SELECT 1 FROM refs WHERE needs = s.id))"""


@by_text(4096)
def _layout(descr: str, shape: str, order: Order) -> ArrayLayout:
    try:
        return implied(descr, as_shape(tuple(json.loads(shape))), order)
    except (CorruptSegmentError, RecursionError, TypeError, ValueError) as error:
        raise damaged(f"a segment of shape {shape!r}, {descr!r}") from error


def damaged(found: str) -> CorruptRegistryError:
    """Return the error for a row that jshm did not write so."""
    return CorruptRegistryError(
        f"the registry is damaged: {found}. The data is not: `jshm check --fix` rebuilds the "
        "registry from the segments"
    )


def too_new(what: str, kind: str) -> FormatVersionError:
    """Return the error for a name or a segment of a kind that this version does not know."""
    return FormatVersionError(
        f"{what} is of kind {kind!r}: it needs a newer jshm; upgrade jshm in this environment"
    )


def identity_of(text: str) -> Identity:
    """Return the identity of a lease's row."""
    try:
        return Identity.from_json(text)
    except (RecursionError, TypeError, ValueError) as error:
        raise damaged(f"a process {text!r:.200}") from error


@lru_cache(maxsize=4096)
def _shape_text(shape: tuple[int, ...]) -> str:
    return json.dumps(shape)


def own_id(segment: str, part: int) -> str:
    """Return what tells a value from all others: its segment's id, and its part of it if it is one."""
    return f"{segment}{_PART}{part}" if part else segment


def segment_in(own: str) -> str:
    """Return the segment's id of what `own_id` returned."""
    return own.partition(_PART)[0]


class SegmentRow(NamedTuple):  # and not a dataclass: rows are made by the thousand, and in C
    """A segment, as the registry knows it."""

    id: str
    kind: str
    descr: str
    shape: str
    order: Order
    nbytes: int
    overflow: bool
    writable: bool
    unlinked: bool = False

    @property
    def layout(self) -> ArrayLayout:
        """What the row implies of an array; of other kinds their segment alone can tell."""
        if self.kind != "array":
            raise too_new(f"segment {self.id}", self.kind)
        return _layout(self.descr, self.shape, self.order)

    def summary(self, part: int) -> str:
        """Return what the publisher said of an object, in a few words."""
        parts = self.descr.split(_BETWEEN) if part else [self.descr.replace(_BETWEEN, ", ")]
        if not 0 <= part <= len(parts):
            raise damaged(f"a version that is value {part} of {len(parts)}")
        return parts[part - 1]

    @classmethod
    def parse(cls, row: Row) -> SegmentRow:
        """Return what a row of `SEGMENT` says; CorruptRegistryError as for `Entry.parse`."""
        if tuple(map(type, row)) != _SEGMENT_TYPES:
            raise damaged(f"a segment that says {row!r:.200}")
        return cls._make(row)

    @classmethod
    def of(
        cls, segment: str, layout: ArrayLayout | ObjectLayout, *, overflow: bool, writable: bool
    ) -> SegmentRow:
        """Return the row of a segment."""
        if isinstance(layout, ObjectLayout):
            said = layout.parts or (layout.description,)
            what = _BETWEEN.join(part.summary.replace(_BETWEEN, " ") for part in said)
            return cls(segment, "object", what, "[]", "C", layout.nbytes, overflow, writable)
        return cls(
            segment, "array", layout.descr, _shape_text(layout.shape), layout.order, layout.nbytes,
            overflow, writable,
        )  # fmt: skip


_SEGMENT_TYPES = (str, str, str, str, str, int, int, int, int)
# By the type of the name's current version. Compared, and not looked up: hashing takes longer.
_CURRENT_TYPES, _RELEASED_TYPES = (
    (str, int, current, str, float, int, str, str, int, str, *_SEGMENT_TYPES)
    for current in (int, type(None))
)


class Entry(NamedTuple):
    """One version of a name.

    `part` says which value of its segment it is, from 1; 0 where the segment is one value.
    """

    name: str
    version: int
    current: int | None
    lease: str
    created: float
    keep: bool
    note: str
    once: str
    part: int
    identity: str
    segment: SegmentRow

    @property
    def own(self) -> str:
        """What tells this value from all others: its segment's id, and its part."""
        return own_id(self.segment.id, self.part)

    @property
    def publisher(self) -> Identity:
        return identity_of(self.identity)

    @property
    def is_current(self) -> bool:
        return self.version == self.current

    @classmethod
    def parse(cls, row: Row) -> Entry:
        """Return what a row of `JOINED` says.

        Raises
        ------
        CorruptRegistryError
            It has a value of a type that jshm did not write: SQLite lets any column have any.
        """
        kinds = tuple(map(type, row))
        if kinds not in (_CURRENT_TYPES, _RELEASED_TYPES) or not isfinite(row[4]):
            raise damaged(f"a version that says {row!r:.200}")
        return cls._make((*row[:10], SegmentRow._make(row[10:])))


@lru_cache(maxsize=64)
def current_sql(count: int) -> str:
    """Return the query for the newest versions of `count` names."""
    marks = ",".join("?" * count)
    return f"{JOINED} WHERE n.name IN ({marks}) AND v.version = n.current"


def put_identity(tx: Transaction, lease: str, identity: str) -> None:
    """Say, as JSON, who a lease belongs or belonged to."""
    tx.execute("INSERT OR IGNORE INTO leases(id, identity) VALUES (?, ?)", (lease, identity))


def put_segment(tx: Transaction, row: SegmentRow, *, wanted: bool) -> None:
    """Add a segment."""
    tx.execute(
        'INSERT INTO segments(id, kind, descr, shape, "order", nbytes, overflow, writable, wanted, '
        "unlinked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (row.id, row.kind, row.descr, row.shape, row.order, row.nbytes, row.overflow,
         row.writable, wanted),
    )  # fmt: skip


def put_references(tx: Transaction, segment: str, needs: Iterable[str]) -> list[str]:
    """Let a segment need others, which it keeps; return those that are not there any more."""
    needs = list(needs)
    for needed in needs:
        tx.execute("INSERT OR IGNORE INTO refs(segment, needs) VALUES (?, ?)", (segment, needed))
    judge(tx, needs)
    there = "SELECT 1 FROM segments WHERE id = ? AND NOT unlinked"
    return [needed for needed in needs if not tx.execute(there, (needed,))]


def newest(tx: Transaction, names: Sequence[str]) -> dict[str, tuple[int, Entry | None]]:
    """Return the last version number of each name that ever had one, and its newest version.

    There is none if the name was released; its numbers go on nevertheless.
    """
    return {
        # Version, identity and segment are missing where nothing is current (or rows were lost).
        row[1]: (
            _number(row[0]),
            None if None in (row[2], row[10], row[11]) else Entry.parse(row[1:]),
        )
        for row in tx.execute(_newest(len(names)), names)
    }


def _number(value: Any) -> int:
    if type(value) is not int:
        raise damaged(f"a version number {value!r:.80}")
    return value


@lru_cache(maxsize=64)
def _newest(count: int) -> str:
    marks = ",".join("?" * count)
    return (
        f"SELECT n.last, {_ENTRY} FROM names n "  # noqa: S608
        "LEFT JOIN versions v ON v.name = n.name AND v.version = n.current "
        "LEFT JOIN segments s ON s.id = v.segment LEFT JOIN leases l ON l.id = v.lease "
        f"WHERE n.name IN ({marks})"
    )


def put_version(tx: Transaction, entry: Entry) -> None:
    """Add a version and make it the name's newest."""
    tx.execute(
        "INSERT INTO names(name, last, current) VALUES (?, ?, ?) "
        "ON CONFLICT(name) DO UPDATE SET last = max(last, excluded.last), current = excluded.current",
        (entry.name, entry.version, entry.version),
    )
    add_version(tx, entry)


def count_from(tx: Transaction, name: str, last: int) -> None:
    """Let a name's next version be newer than `last`."""
    tx.execute(
        "INSERT INTO names(name, last) VALUES (?, ?) "
        "ON CONFLICT(name) DO UPDATE SET last = max(last, excluded.last)",
        (name, last),
    )


def add_version(tx: Transaction, entry: Entry) -> None:
    """Add a version's row only."""
    tx.execute(
        "INSERT INTO versions(name, version, segment, lease, created, keep, note, once, part) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (entry.name, entry.version, entry.segment.id, entry.lease, entry.created, entry.keep,
         entry.note, entry.once, entry.part),
    )  # fmt: skip


def current(tx: Transaction, names: Sequence[str]) -> list[Entry]:
    """Return the newest versions of those names that have one."""
    return [Entry.parse(row) for row in tx.execute(current_sql(len(names)), names)]


def entries_of(tx: Transaction, name: str) -> list[Entry]:
    """Return all versions of a name, the oldest first."""
    return [Entry.parse(row) for row in tx.execute(f"{JOINED} WHERE n.name = ?", (name,))]


def entries_in(tx: Transaction, segment: str) -> list[Entry]:
    """Return all versions that are in a segment."""
    return [Entry.parse(row) for row in tx.execute(f"{JOINED} WHERE v.segment = ?", (segment,))]


def retire(tx: Transaction, name: str) -> None:
    """Let a name have no newest version, and nobody be offered it."""
    tx.execute("UPDATE names SET current = NULL WHERE name = ?", (name,))
    tx.execute("DELETE FROM offers WHERE name = ?", (name,))


def bring_back(tx: Transaction, entry: Entry) -> bool:
    """Let a retired version be its name's newest again; tell whether its segment is still there."""
    there = "SELECT 1 FROM segments WHERE id = ? AND NOT unlinked"
    if not tx.execute(there, (entry.segment.id,)):
        return False
    forget_version(tx, entry)
    put_identity(tx, entry.lease, entry.identity)
    add_version(tx, entry)
    # A registry that was rebuilt meanwhile may not know the name.
    count_from(tx, entry.name, entry.version)
    tx.execute("UPDATE names SET current = ? WHERE name = ?", (entry.version, entry.name))
    judge(tx, [entry.segment.id])
    fall_behind(tx, entry.segment.id)
    return True


def judge(tx: Transaction, segments: Iterable[str]) -> list[SegmentRow]:
    """Find out again which of these segments are wanted; return those that are not."""
    dropped = []
    for segment in segments:
        found = tx.execute(
            f"UPDATE segments AS s SET wanted = {_WANTED} WHERE id = ? "  # noqa: S608
            f"RETURNING wanted, {_RETURNED}",
            (segment,),
        )
        dropped += [SegmentRow.parse(row[1:]) for row in found if not row[0]]
    return dropped


def is_needless(tx: Transaction, segment: str) -> bool:
    """Tell whether a segment is there and nothing wants it now. Unlike `judge`, only looks."""
    return bool(tx.execute(f"SELECT 1 FROM segments s WHERE id = ? AND NOT {_WANTED}", (segment,)))  # noqa: S608


def all_segments(tx: Transaction) -> list[SegmentRow]:
    """Return all segments."""
    return [SegmentRow.parse(row) for row in tx.execute(f"SELECT {SEGMENT} FROM segments s")]  # noqa: S608


def in_memory(tx: Transaction) -> int:
    """Return the bytes that all segments take in memory; also those that are only held."""
    return int(tx.execute(IN_MEMORY)[0][0])


def has_segment(tx: Transaction, segment: str) -> bool:
    """Tell whether a segment has a row."""
    return bool(tx.execute("SELECT 1 FROM segments WHERE id = ?", (segment,)))


def mentions(tx: Transaction, segment: str) -> bool:
    """Tell whether any row is about a segment, also where the segment's own was lost."""
    sql = """SELECT 1 FROM segments WHERE id = ?1 UNION ALL SELECT 1 FROM versions
              WHERE segment = ?1 UNION ALL SELECT 1 FROM refs WHERE needs = ?1 LIMIT 1"""
    return bool(tx.execute(sql, (segment,)))


def everything(tx: Transaction) -> list[Entry]:
    """Return all versions of all names."""
    return [Entry.parse(row) for row in tx.execute(JOINED)]


def all_references(tx: Transaction) -> dict[str, set[str]]:
    """Return for each segment that refers to others: to which."""
    found: dict[str, set[str]] = {}
    for segment, needed in tx.execute("SELECT segment, needs FROM refs"):
        found.setdefault(segment, set()).add(needed)
    return found


def misjudged(tx: Transaction) -> list[str]:
    """Return the segments whose row does not say whether they are wanted as it is."""
    rows = tx.execute(f"SELECT id FROM segments s WHERE wanted IS NOT {_WANTED}")  # noqa: S608
    return [row[0] for row in rows]


def unwanted(tx: Transaction) -> list[SegmentRow]:
    """Return the segments that nothing but a holder keeps."""
    # Asked again: data must not go because of one wrong flag.
    rows = tx.execute(f"SELECT {SEGMENT} FROM segments s WHERE NOT s.wanted AND NOT {_WANTED}")  # noqa: S608
    return [SegmentRow.parse(row) for row in rows]


def set_writable(tx: Transaction, segment: str, *, writable: bool) -> bool:
    """Say whether a segment may be attached ``'r+'``; tell whether it is still there."""
    return bool(
        tx.execute(
            "UPDATE segments SET writable = ? WHERE id = ? AND NOT unlinked RETURNING 1",
            (writable, segment),
        )
    )


def forget_versions_in(tx: Transaction, entry: Entry) -> None:
    """Delete older versions of the name that are in the same segment: they say nothing new."""
    tx.execute(
        "DELETE FROM versions WHERE name = ? AND segment = ? AND version < ?",
        (entry.name, entry.segment.id, entry.version),
    )


def forget_version(tx: Transaction, entry: Entry) -> None:
    """Delete a version's row only: its segment is needed under another name, or by an object.

    The newest version stays, so no segment is wanted less afterwards.
    """
    # A release that goes on in a later transaction may find a version that another process has restored.
    tx.execute(
        "DELETE FROM versions WHERE name = ?1 AND version = ?2 "
        "AND NOT EXISTS (SELECT 1 FROM names WHERE name = ?1 AND current = ?2)",
        (entry.name, entry.version),
    )


def forget_segment(tx: Transaction, segment: str, *, refers: bool = True) -> list[SegmentRow]:
    """Delete an unwanted segment's rows; return what only it needed, unwanted by now too.

    An array's refers to none: then there is nothing to look for.
    """
    tx.execute("DELETE FROM versions WHERE segment = ?", (segment,))
    tx.execute("DELETE FROM segments WHERE id = ?", (segment,))
    return _forget_references(tx, segment) if refers else []


def forget_lost_segment(tx: Transaction, segment: str) -> None:
    """Delete the rows of a segment whose file is gone or damaged, wanted or not."""
    tx.execute(
        "UPDATE names SET current = NULL WHERE current = "
        "(SELECT version FROM versions v WHERE v.segment = ? AND v.name = names.name "
        "AND v.version = names.current) AND name IN (SELECT name FROM versions WHERE segment = ?)",
        (segment, segment),
    )
    forget_segment(tx, segment)


def mark_unlinked(tx: Transaction, segment: str) -> list[SegmentRow]:
    """Remember a released segment whose file is gone but which is still held.

    Nobody can attach it any more, and who holds it holds what it refers to: what only it needed is
    unwanted by now, and returned.
    """
    tx.execute("UPDATE segments SET unlinked = 1 WHERE id = ?", (segment,))
    return _forget_references(tx, segment)


def _forget_references(tx: Transaction, segment: str) -> list[SegmentRow]:
    needs = [row[0] for row in tx.execute("SELECT needs FROM refs WHERE segment = ?", (segment,))]
    if needs:
        tx.execute("DELETE FROM refs WHERE segment = ?", (segment,))
    return judge(tx, needs)


def fall_behind(tx: Transaction, segment: str) -> None:
    """Note that a segment is still to say of itself what its rows say by now."""
    tx.execute("INSERT OR IGNORE INTO behind(segment) VALUES (?)", (segment,))
    tx.falls_behind = True


def behind(tx: Transaction) -> list[SegmentRow]:
    """Return the segments that are still to say of themselves what their rows say."""
    tx.execute("DELETE FROM behind WHERE segment NOT IN (SELECT id FROM segments)")
    sql = f"SELECT {SEGMENT} FROM behind b JOIN segments s ON s.id = b.segment"  # noqa: S608
    return [SegmentRow.parse(row) for row in tx.execute(sql)]


def catch_up(tx: Transaction, segment: str) -> None:
    """Note that a segment says of itself what its rows say."""
    tx.execute("DELETE FROM behind WHERE segment = ?", (segment,))


def announced(tx: Transaction) -> str:
    """Return what the list is called that a group's other members read."""
    return str(tx.execute("SELECT id FROM announced")[0][0])


def changed(tx: Transaction) -> list[str]:
    """Return the names that the group's other members are still to be told of."""
    return [row[0] for row in tx.execute("SELECT name FROM changed")]


def forget_changed(tx: Transaction) -> None:
    """Note that they were told."""
    tx.execute("DELETE FROM changed")


def all_leases(tx: Transaction) -> dict[str, str]:
    """Return the identity, as JSON, of every lease."""
    found = tx.execute("SELECT id, identity FROM leases")
    for row in found:
        if tuple(map(type, row)) != (str, str):
            raise damaged(f"a process {row!r:.200}")
    return dict(found)


def forget_lease(tx: Transaction, lease: str) -> None:
    """Delete a dead process's lease, if nothing it published is left."""
    tx.execute(
        "DELETE FROM leases WHERE id = ? AND NOT EXISTS (SELECT 1 FROM versions WHERE lease = ?)",
        (lease, lease),
    )


def leftovers(tx: Transaction, lease: str) -> list[Entry]:
    """Return the newest versions that a publisher of a dead session did not say to keep."""
    rows = tx.execute(
        f"{JOINED} WHERE v.lease = ? AND v.version = n.current AND NOT v.keep", (lease,)
    )
    return [Entry.parse(row) for row in rows]


def with_writable(row: SegmentRow, *, writable: bool) -> SegmentRow:
    """Return the row of the same segment, writable or not."""
    return row._replace(writable=writable)


def check_kind(entry: Entry) -> None:
    """Raise FormatVersionError if a version is of a kind that only a newer jshm can map."""
    if entry.segment.kind not in KINDS:
        raise too_new(entry.name, entry.segment.kind)


def metadata(entry: Entry) -> dict[str, Any]:
    """Return what a segment's own record says of a version: enough to rebuild its rows."""
    said = {
        "jshm": FORMAT,
        "name": entry.name,
        "version": entry.version,
        "created": entry.created,
        "keep": bool(entry.keep),
        "note": entry.note,
        "once": entry.once,
        "writable": bool(entry.segment.writable),
        "lease": entry.lease,
        "identity": _parsed(entry.identity),
    }
    return {**said, "part": entry.part} if entry.part else said


@lru_cache(maxsize=64)
def _parsed(identity: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(identity)
    return content
