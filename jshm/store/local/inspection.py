"""What users are told about versions: the list of all, and the details of one."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from ...errors import Remedy, SegmentNotFoundError
from ...text import cached_by_text
from ..base import Holder, Lifetime, ObjectDetails, SegmentInfo, type_text
from ..identity import Identity, SessionKind, has_ended
from ..names import nearest
from .lease import is_alive
from .registry import rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ...segment.object_layout import ObjectLayout
    from .catalogue import Catalogue
    from .directory import Directory
    from .lease import LogContent
    from .registry.registry import Registry
    from .registry.rows import Entry, SegmentRow

_SESSIONS = get_args(SessionKind)
# The rows of this many changed names are read by name; if more names changed, all rows are read.
_FEW = 200


# -- one version -----------------------------------------------------------------------------------


class _Publisher(NamedTuple):
    """What users are told about a publisher."""

    label: str
    mine: bool
    session: Lifetime
    owner: str
    kernel_id: str
    notebook: str


@cached_by_text(1024)
def _publisher(identity: str, me: Identity) -> _Publisher:
    who = rows.parse_identity(identity)
    # A newer jshm may know other kinds of session; they are shown as a server's.
    session: Lifetime = who.session.kind if who.session.kind in _SESSIONS else "server"
    return _Publisher(who.label, me.owns(who), session, who.owner, who.kernel_id, who.notebook)


def info_of(
    entry: Entry,
    me: Identity,
    *,
    alive: bool,
    ended: bool = False,
    keeps: int = 0,
    holders: tuple[Holder, ...] = (),
    details: ObjectDetails | None = None,
) -> SegmentInfo:
    """Return what users are told about a version.

    Parameters
    ----------
    entry : Entry
    me : Identity
        Of this process.
    alive : bool
        Whether the publishing process runs.
    ended : bool
        Whether its session has ended.
    keeps, holders, details
        As in `SegmentInfo`.
    """
    row, publisher = entry.segment, _publisher(entry.identity, me)
    layout = row.layout if row.kind == "array" else None
    return SegmentInfo(
        name=entry.name,
        version=entry.version,
        kind=row.kind,
        summary=type_text(layout.dtype, layout.shape) if layout else type_of(row, entry.part),
        dtype=layout.dtype if layout else None,
        shape=layout.shape if layout else (),
        order=layout.order if layout else "C",
        nbytes=row.nbytes,
        publisher=publisher.label,
        publisher_alive=alive,
        mine=publisher.mine,
        created=entry.created,
        note=entry.note,
        keep=bool(entry.keep),
        lifetime="kept" if entry.keep else publisher.session,
        writable=bool(row.writable),
        overflow=bool(row.overflow),
        state="current" if entry.is_current else "released" if row.unlinked else "old",
        once=entry.once,
        segment=row.id,
        value_id=entry.value_id,
        owner=publisher.owner,
        kernel_id=publisher.kernel_id,
        notebook=publisher.notebook,
        expired=ended and entry.is_current and not entry.keep and not holders,
        keeps=keeps,
        holders=holders,
        details=details,
    )


def details_of(
    layout: ObjectLayout, registry: Catalogue, together: Iterable[str] = ()
) -> ObjectDetails:
    """Return what users are told about an object; `together` are the names that share state with it."""
    what = layout.description
    return ObjectDetails(
        what.doc,
        what.place,
        what.python,
        what.modules,
        layout.buffers,
        layout.pickled,
        tuple(what.columns),
        {
            _called(registry, row): row.nbytes
            for row in map(registry.segment, layout.references)
            if row is not None
        },
        tuple(sorted(together)),
    )


def together(registry: Catalogue, entry: Entry) -> list[str]:
    """Return the other names whose values are in the same segment: they share state."""
    if not entry.part:
        return []
    return [
        one.name
        for one in registry.of_segment(entry.segment.id)
        if one.part and (one.name, one.part) != (entry.name, entry.part)
    ]


def _called(registry: Catalogue, row: SegmentRow) -> str:
    """Return what users call a segment: its names and versions, if it has any."""
    names = [f"{entry.name} v{entry.version}" for entry in registry.of_segment(row.id)]
    return " = ".join(names) or f"{type_of(row)} without a name, {row.id}"


def type_of(row: SegmentRow, part: int = 0) -> str:
    """Return the type of a segment's value, or of a part of it, as users read it.

    Of a kind that only a newer jshm knows, it is the kind.
    """
    if row.kind == "object":
        return row.summary(part)
    if row.kind not in rows.KINDS:
        return row.kind
    layout = row.layout
    return type_text(layout.dtype, layout.shape)


def holders_in(living: Iterable[tuple[Identity, LogContent]]) -> dict[str, tuple[Holder, ...]]:
    """Return segment id → the processes that hold it, from the logs of the living processes."""
    found: dict[str, tuple[Holder, ...]] = {}
    for who, log in living:
        for segment_id, mode in sorted(log.held):
            holder = Holder(who.label, mode, who.pid, who.is_here, who.kernel_id, who.notebook)
            found[segment_id] = (*found.get(segment_id, ()), holder)
    return found


def not_found(registry: Catalogue, name: str, version: int | None = None) -> SegmentNotFoundError:
    """Return the error for a name, or a version, that does not exist."""
    known = registry.names()
    if version is not None and name in known:
        there = [f"v{e.version}" for e in registry.versions(name) if not e.segment.unlinked]
        return SegmentNotFoundError(
            f"{name} has no version {version} (any more); there: {', '.join(there)}"
        )
    nothing = f"nothing is shared under {name!r}"
    if registry.last(name):
        return SegmentNotFoundError(
            f"{nothing} any more: it was released, or its session has ended",
            remedy=Remedy("publish", (name,), {"keep": True}, "Keep a name beyond its session"),
        )
    if not known:
        return SegmentNotFoundError(
            f"{nothing}: nothing at all is shared yet",
            remedy=Remedy("publish", (name,), {}, "Publish it first"),
        )
    if close := nearest(name, known):
        return SegmentNotFoundError(f"{nothing}; did you mean {' or '.join(close)}?")
    return SegmentNotFoundError(nothing, remedy=Remedy("list", (), {}, "See what is shared"))


# -- the list --------------------------------------------------------------------------------------
# Unchanged parts of the last list are not read or built again. The rows of a version stay the same until
# its name gets another newest version, or until they are deleted; only its segment may be released before.


class _Rows(NamedTuple):
    """What was read from the registry.

    Attributes
    ----------
    file : object
        The registry's file.
    current : mapping of str to int or None
        The newest version of each name.
    unlinked : frozenset of str
        The segments that were released while they were held.
    entries : mapping of str to list of Entry
        All versions, by sorted name.
    """

    file: object = None
    current: Mapping[str, int | None] = {}
    unlinked: frozenset[str] = frozenset()
    entries: Mapping[str, list[Entry]] = {}


class _Facts(NamedTuple):
    """What is not in the registry's rows.

    Attributes
    ----------
    me : Identity
        Of the process that lists.
    held : mapping of str to tuple of Holder
        By segment.
    kept : mapping of str to int
        By segment, the bytes without a name that it refers to.
    spares : frozenset of str
        Segments.
    lives : mapping of str to (bool, bool)
        By lease, whether its process runs, and whether its session has ended.
    """

    me: Identity
    held: Mapping[str, tuple[Holder, ...]] = {}
    kept: Mapping[str, int] = {}
    spares: frozenset[str] = frozenset()
    lives: Mapping[str, tuple[bool, bool]] = {}


class VersionList(NamedTuple):
    """The list of all versions, and what it was made from."""

    rows: _Rows = _Rows()
    facts: _Facts | None = None
    infos: Mapping[str, list[SegmentInfo]] = {}

    @property
    def segments(self) -> list[SegmentInfo]:
        """Every version that takes memory, by name and version, with its living holders."""
        return list(chain.from_iterable(self.infos.values()))


def list_versions(
    registry: Registry,
    directory: Directory,
    me: Identity,
    living: Sequence[tuple[Identity, LogContent]],
    before: VersionList,
) -> VersionList:
    """Return the list of all versions.

    Parameters
    ----------
    registry, directory
    me : Identity
        Of this process.
    living : sequence of (Identity, LogContent)
        The living processes and their logs.
    before : VersionList
        The last list, or an empty one.
    """
    read, changed = _read(registry, before.rows)
    facts = _find_out(registry, directory, me, living, read)
    changed |= _affected(read, facts, before.facts)
    infos = dict(before.infos) if read.entries.keys() == before.infos.keys() else {}
    for name in changed if infos else read.entries:
        is_new = name in changed or name not in before.infos
        infos[name] = _infos(read.entries[name], facts) if is_new else before.infos[name]
    return VersionList(read, facts, infos)


def _read(registry: Registry, before: _Rows) -> tuple[_Rows, set[str]]:
    """Return the rows, and the names whose rows have changed."""
    file, current, unlinked = registry.inodes, registry.current_numbers(), registry.unlinked()
    changed = {name for name, number in current.items() if before.current.get(name, 0) != number}
    if released := unlinked ^ before.unlinked:
        changed |= {
            entry.name
            for entry in chain.from_iterable(before.entries.values())
            if entry.segment.id in released
        }
    if file == before.file and len(changed) <= _FEW:
        entries = {**before.entries, **{name: [] for name in changed}}
        for entry in registry.versions(*changed):
            entries[entry.name].append(entry)
        # An older version may be deleted while its name stays as it is: then there are fewer rows.
        if registry.count_versions() == sum(map(len, entries.values())):
            if len(entries) > len(before.entries):
                entries = dict(sorted(entries.items()))
            return _Rows(file, current, unlinked, entries), changed
    entries = {}
    for entry in registry.everything():
        entries.setdefault(entry.name, []).append(entry)
    return _Rows(file, current, unlinked, entries), set(entries)


def _find_out(
    registry: Registry,
    directory: Directory,
    me: Identity,
    living: Sequence[tuple[Identity, LogContent]],
    read: _Rows,
) -> _Facts:
    of_lease = {e.lease: e for e in chain.from_iterable(read.entries.values())}
    lives = {}
    for lease, entry in of_lease.items():
        alive = is_alive(directory.leases, lease)
        lives[lease] = alive, not alive and has_ended(entry.publisher)
    spares = frozenset(identity for _, log in living for identity in log.spares)
    return _Facts(me, holders_in(living), registry.unnamed_bytes_by_referrer(), spares, lives)


def _affected(read: _Rows, facts: _Facts, before: _Facts | None) -> set[str]:
    """Return the names to which a changed fact belongs."""
    if before is None or facts.me != before.me:
        return set(read.entries)
    segments = {
        *_differing(facts.held, before.held),
        *_differing(facts.kept, before.kept),
        *(facts.spares ^ before.spares),
    }
    leases = set(_differing(facts.lives, before.lives))
    if not (segments or leases):
        return set()
    return {
        entry.name
        for entry in chain.from_iterable(read.entries.values())
        if entry.segment.id in segments or entry.lease in leases
    }


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterable[str]:
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]


def _infos(entries: list[Entry], facts: _Facts) -> list[SegmentInfo]:
    found = []
    for entry in entries:
        row, holders = entry.segment, facts.held.get(entry.segment.id, ())
        no_data = row.unlinked or row.id in facts.spares
        if no_data and not holders and not entry.is_current:
            continue  # freed, or reused as a spare: only the row is left for a while
        alive, ended = facts.lives[entry.lease]
        keeps = facts.kept.get(row.id, 0)
        found.append(
            info_of(entry, facts.me, alive=alive, ended=ended, keeps=keeps, holders=holders)
        )
    return found
