"""What is there: lists and details for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

from ...text import cached_by_text
from ..base import Holder, Lifetime, ObjectDetails, SegmentInfo, type_text
from ..identity import Identity, SessionKind
from ..names import nearest
from .registry import rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...segment.object_layout import ObjectLayout
    from .catalogue import Catalogue
    from .lease import LogContent
    from .registry.rows import Entry, SegmentRow


_SESSIONS = get_args(SessionKind)


class _Publisher(NamedTuple):
    """What people are told of a publisher."""

    label: str
    mine: bool
    session: Lifetime
    owner: str
    kernel_id: str
    notebook: str


@cached_by_text(1024)
def _publisher(identity: str, me: Identity) -> _Publisher:
    who = rows.identity_of(identity)
    # A newer jshm may tie lives to something else; until that says otherwise, as to a server's.
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
    """Return what people are told of a version; `ended` says whether its publisher's session has."""
    row, publisher = entry.segment, _publisher(entry.identity, me)
    layout = row.layout if row.kind == "array" else None
    return SegmentInfo(
        name=entry.name,
        version=entry.version,
        kind=row.kind,
        summary=type_of(row, entry.part),
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
        own=entry.own,
        owner=publisher.owner,
        kernel_id=publisher.kernel_id,
        notebook=publisher.notebook,
        leftover=ended and entry.is_current and not entry.keep and not holders,
        keeps=keeps,
        holders=holders,
        details=details,
    )


def details_of(
    layout: ObjectLayout, registry: Catalogue, together: Iterable[str] = ()
) -> ObjectDetails:
    """Return what people are told of an object, which shares state with the names `together`."""
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
    """Return the other names of which the same segment holds a value: they share state."""
    if not entry.part:
        return []
    return [
        one.name
        for one in registry.of_segment(entry.segment.id)
        if one.part and (one.name, one.part) != (entry.name, entry.part)
    ]


def _called(registry: Catalogue, row: SegmentRow) -> str:
    """Return what to call a segment that something refers to."""
    names = [f"{entry.name} v{entry.version}" for entry in registry.of_segment(row.id)]
    return " = ".join(names) or f"{type_of(row)} without a name, {row.id}"


def type_of(row: SegmentRow, part: int = 0) -> str:
    """Return what a segment, or a part of it, is, as people read it.

    Of what only a newer jshm knows, the kind.
    """
    if row.kind == "object":
        return row.summary(part)
    if row.kind not in rows.KINDS:
        return row.kind
    return type_text(row.layout.dtype, row.layout.shape)


def holders_in(said: Iterable[tuple[Identity, LogContent]]) -> dict[str, tuple[Holder, ...]]:
    """Return segment id → the processes that hold it, of what the living ones say."""
    found: dict[str, tuple[Holder, ...]] = {}
    for who, each in said:
        for segment_id, mode in sorted(each.held):
            holder = Holder(who.label, mode, who.pid, who.is_here, who.kernel_id, who.notebook)
            found[segment_id] = (*found.get(segment_id, ()), holder)
    return found


def missing(registry: Catalogue, name: str, version: int | None = None) -> str:
    """Return what to tell whoever asks for a name, or a version, that is not there."""
    known = registry.names()
    if version is not None and name in known:
        there = [f"v{e.version}" for e in registry.versions(name) if not e.segment.unlinked]
        return f"{name} has no version {version} (any more); there: {', '.join(there)}"
    nothing = f"nothing is shared under {name!r}"
    if registry.last(name):
        return (
            f"{nothing} any more: it was released, or its session has ended (--keep outlives that)"
        )
    if not known:
        return f"{nothing}: nothing at all is shared yet (%shm_publish X)"
    close = nearest(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else "see what is there: %shm_list"
    return f"{nothing}; {hint}"
