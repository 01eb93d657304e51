"""The list of all versions: what has not changed since the last one is neither read nor made again.

The row of a version stays as it is until the number of its name's newest version changes, or it goes;
but its segment may be released meanwhile.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from ..identity import has_ended
from .inspection import holders_in, info_of
from .lease import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..base import Holder, SegmentInfo
    from ..identity import Identity
    from .directory import Directory
    from .lease import LogContent
    from .registry.registry import Registry
    from .registry.rows import Entry

# So many names are asked for by name; where more have changed, everything is read.
_FEW = 200


class _Read(NamedTuple):
    """What was read of the registry.

    The version numbers of its names, the segments that were released while they were held, and all
    versions by sorted name.
    """

    file: object = None
    current: Mapping[str, int | None] = {}
    unlinked: frozenset[str] = frozenset()
    entries: Mapping[str, list[Entry]] = {}


class _Facts(NamedTuple):
    """What the registry does not say.

    Who lists; by segment, its holders and the bytes without a name that it keeps; which segments are
    spares; by lease, whether its process lives, and whether its session has ended.
    """

    me: Identity
    held: Mapping[str, tuple[Holder, ...]] = {}
    kept: Mapping[str, int] = {}
    spares: frozenset[str] = frozenset()
    lives: Mapping[str, tuple[bool, bool]] = {}


class Listed(NamedTuple):
    """A list, and what it was made of."""

    read: _Read = _Read()
    facts: _Facts | None = None
    infos: Mapping[str, list[SegmentInfo]] = {}

    @property
    def segments(self) -> list[SegmentInfo]:
        """Every version that takes memory, by name and version, with its living holders."""
        return list(chain.from_iterable(self.infos.values()))


def list_segments(
    registry: Registry,
    directory: Directory,
    me: Identity,
    said: Sequence[tuple[Identity, LogContent]],
    before: Listed,
) -> Listed:
    """Return the list, made of the one before it; `said` is what the living processes say."""
    read, changed = _read(registry, before.read)
    facts = _find_out(registry, directory, me, said, read)
    changed |= _concerned(read, facts, before.facts)
    infos = dict(before.infos) if read.entries.keys() == before.infos.keys() else {}
    for name in changed if infos else read.entries:
        anew = name in changed or name not in before.infos
        infos[name] = _infos(read.entries[name], facts) if anew else before.infos[name]
    return Listed(read, facts, infos)


def _read(registry: Registry, before: _Read) -> tuple[_Read, set[str]]:
    """Return what the registry says, and which names are not as they were before."""
    file, current, unlinked = registry.database.file, registry.numbers(), registry.unlinked()
    changed = {name for name, number in current.items() if before.current.get(name, 0) != number}
    if released := unlinked ^ before.unlinked:
        changed |= {
            entry.name
            for entry in chain.from_iterable(before.entries.values())
            if entry.segment.id in released
        }
    if file == before.file and len(changed) <= _FEW:
        entries = {**before.entries, **{name: [] for name in changed}}
        for entry in registry.versions_of(changed):
            entries[entry.name].append(entry)
        # An older version may go while its name stays as it is: then there are fewer.
        if registry.count() == sum(map(len, entries.values())):
            if len(entries) > len(before.entries):
                entries = dict(sorted(entries.items()))
            return _Read(file, current, unlinked, entries), changed
    entries = {}
    for entry in registry.everything():
        entries.setdefault(entry.name, []).append(entry)
    return _Read(file, current, unlinked, entries), set(entries)


def _find_out(
    registry: Registry,
    directory: Directory,
    me: Identity,
    said: Sequence[tuple[Identity, LogContent]],
    read: _Read,
) -> _Facts:
    of_lease = {e.lease: e for e in chain.from_iterable(read.entries.values())}
    lives = {}
    for lease, entry in of_lease.items():
        alive = is_alive(directory.leases, lease)
        lives[lease] = alive, not alive and has_ended(entry.publisher)
    spares = frozenset(identity for _, each in said for identity in each.spares)
    return _Facts(me, holders_in(said), registry.kept(), spares, lives)


def _concerned(read: _Read, facts: _Facts, before: _Facts | None) -> set[str]:
    """Return the names of which others say something else than before."""
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
        needless = row.unlinked or row.id in facts.spares
        if needless and not holders and not entry.is_current:
            continue  # the kernel has freed it, or it is a spare: only the row is left for a while
        alive, ended = facts.lives[entry.lease]
        keeps = facts.kept.get(row.id, 0)
        found.append(
            info_of(entry, facts.me, alive=alive, ended=ended, keeps=keeps, holders=holders)
        )
    return found
