"""Retiring names for everyone: whose they are, what is free at once, and who still holds the rest."""

from __future__ import annotations

from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ...errors import NoSpaceError, NotOwnerError, SegmentNotFoundError
from ..base import Released
from . import collect
from .inspection import missing
from .registry import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..base import Holder
    from .collect import Removals
    from .directory import Directory
    from .process import Process
    from .registry.database import Transaction
    from .registry.registry import Registry
    from .registry.rows import Entry

# SQLite takes at most 32,766 parameters.
_PORTION = 1000
NOTHING: Mapping[str, str] = MappingProxyType({})


def release(
    process: Process,
    registry: Registry,
    directory: Directory,
    names: Sequence[str],
    *,
    force: bool,
    spare: Mapping[str, str] = NOTHING,
) -> tuple[list[Released], dict[str, list[Entry]]]:
    """Retire names, all or none.

    The names go in one transaction. Their memory goes in as many as it takes: a file that is about
    to be removed is open until then.

    Parameters
    ----------
    process, registry, directory, names, force
    spare : mapping of str to str
        Name → segment: the memory of these names stays for now, if that is what they are.

    Returns
    -------
    list of Released, and dict of str to list of Entry
        What it came to, and the versions of those names that were spared.

    Raises
    ------
    SegmentNotFoundError, NotOwnerError, RegistryError
    """
    retiring = Retiring(directory, registry, names, process.holders())
    with process.transaction() as (tx, doomed):
        if registry.lost is not None:  # first comes back what it said: it would undo this
            raise process.gone("released", "Release again")
        found = {entry.name: entry for entry in _current(tx, names)}
        for name in names:
            if name not in found:
                raise SegmentNotFoundError(missing(registry, name))
            if not force and not process.identity.owns(found[name].publisher):
                raise NotOwnerError(retiring.refusal(found[name]))
        retiring.retire(tx, names)
        spared = retiring.spare([n for n in spare if found[n].segment.id == spare[n]])
        retiring.dispose(tx, doomed)
        retiring.forget_needed(tx, [*retiring.left, *chain.from_iterable(spared.values())])
    if not tx.is_here:
        raise process.gone("released", "Release again")
    retiring.finish(process)
    return retiring.done(), spared


def in_parts(
    names: Sequence[str], release: Callable[[Sequence[str]], list[Released]]
) -> list[Released]:
    """Release names in one step, or, where that takes more room than there is, in several.

    What the first ones free is room for the rest.

    Raises
    ------
    NoSpaceError
        There is not even room to release one.
    """
    try:
        return release(names)
    except NoSpaceError:
        if len(names) == 1:
            raise
    half = len(names) // 2
    return [*in_parts(names[:half], release), *in_parts(names[half:], release)]


class _Part(NamedTuple):
    """What came of one version of a name, as in `Released`."""

    name: str
    nbytes: int
    freed: int = 0
    held_by: Sequence[str] = ()
    needed_by: Sequence[str] = ()


class Retiring:
    """Names that are being retired, and what that came to.

    Attributes
    ----------
    left : list of Entry
        Versions whose memory is still to be let go.
    """

    def __init__(
        self,
        directory: Directory,
        registry: Registry,
        names: Sequence[str],
        users: Mapping[str, tuple[Holder, ...]],
    ) -> None:
        self.left: list[Entry] = []
        self._directory = directory
        self._registry = registry
        self._users = users
        self._names = names
        self._parts: list[_Part] = []

    def refusal(self, entry: Entry) -> str:
        """Return what to tell who wants to release another notebook's name."""
        used = self._labels(entry)
        return (
            f"{entry.name} belongs to {entry.publisher.label}; "
            + (f"used by {', '.join(used)}" if used else "not in use")
            + f". Let go here: %shm_detach {entry.name}. Retire for everyone: "
            f"%shm_release {entry.name} --force (force=True)"
        )

    def retire(self, tx: Transaction, names: Sequence[str]) -> None:
        """Let the names have no newest version any more."""
        for name in names:
            rows.retire(tx, name)
            self.left += rows.entries_of(tx, name)
        # Judged now: whatever happens next, the reaper knows them for unwanted.
        rows.judge(tx, {entry.segment.id for entry in self.left})

    def spare(self, names: Sequence[str]) -> dict[str, list[Entry]]:
        """Take the versions of these names out of what is left, and return them by name."""
        spared: dict[str, list[Entry]] = {name: [] for name in names}
        for entry in self.left:
            if entry.name in spared:
                spared[entry.name].append(entry)
                self._parts.append(_Part(entry.name, entry.segment.nbytes))
        self.left = [entry for entry in self.left if entry.name not in spared]
        return spared

    def forget_needed(self, tx: Transaction, entries: Sequence[Entry]) -> None:
        """Forget those of these versions whose memory stays without them.

        Whoever is killed before the rest is disposed of leaves to the reaper what it can find: segments
        that nobody needs.
        """
        for entry in entries:
            if not rows.is_needless(tx, entry.segment.id):
                collect.forget_version(tx, entry)

    def finish(self, process: Process) -> None:
        """Let go of the memory of all versions that are left."""
        while self.left:
            left, done = list(self.left), len(self._parts)

            def dispose(left: list[Entry] = left, done: int = done) -> None:
                self.left = list(left)
                del self._parts[done:]
                with process.transaction() as (tx, doomed):
                    self.dispose(tx, doomed)

            try:
                process.making_room(dispose)
            except NoSpaceError:  # the names are retired: the next reaping frees the rest
                return

    def dispose(self, tx: Transaction, doomed: Removals) -> None:
        """Let go of the memory of as many versions as one transaction may claim."""
        # What refers to others is newer than they are, and goes first.
        self.left.sort(key=lambda entry: entry.created)
        while self.left and not doomed.full:
            entry = self.left.pop()
            name, row = entry.name, entry.segment
            if row.unlinked:
                continue
            free = collect.unlink(tx, self._directory, row, doomed)
            if free is None:  # the data are another name's too, or an object's
                needed_by = self._registry.needed_by(row.id)
                self._parts.append(_Part(name, row.nbytes if needed_by else 0, needed_by=needed_by))
                collect.forget_version(tx, entry)
            elif free:
                self._parts.append(_Part(name, row.nbytes, row.nbytes))
            else:
                held_by = self._labels(entry) or ["a process that jshm does not know"]
                self._parts.append(_Part(name, row.nbytes, held_by=held_by))

    def done(self) -> list[Released]:
        """Return what it came to, name by name."""
        parts: dict[str, list[_Part]] = {name: [] for name in self._names}
        for part in self._parts:
            parts[part.name].append(part)
        return [
            Released(
                name,
                sum(part.nbytes for part in found),
                sum(part.freed for part in found),
                tuple(sorted({label for part in found for label in part.held_by})),
                tuple(sorted({label for part in found for label in part.needed_by})),
            )
            for name, found in parts.items()
        ]

    def _labels(self, entry: Entry) -> list[str]:
        there = self._users.get(entry.segment.id, ())
        return sorted({"this notebook" if holder.here else holder.label for holder in there})


def _current(tx: Transaction, names: Sequence[str]) -> list[Entry]:
    """Return the newest versions, asked for in portions that SQLite takes."""
    return [
        entry
        for start in range(0, len(names), _PORTION)
        for entry in rows.current(tx, names[start : start + _PORTION])
    ]
