"""Release: retire names for everyone, free the memory that nobody holds, report who holds the rest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ...errors import NoSpaceError, NotOwnerError, Remedy
from ..base import Released
from . import collect, inspection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..base import Holder
    from .collect import Removals
    from .lookup import Lookup
    from .registry.rows import Entry
    from .registry.statements import Transaction

# SQLite takes at most 32,766 parameters.
_PORTION = 1000


def release(store: Lookup, names: Sequence[str], *, force: bool) -> list[Released]:
    """Retire names in one step; if the disk has no room for that, in several.

    The space that the first steps free is room for the others.

    Raises
    ------
    SegmentNotFoundError, NotOwnerError, RegistryError
    NoSpaceError
        There is not even room to release one name.
    """
    try:
        return store.registry.making_room(partial(_release, store, names, force=force))
    except NoSpaceError:
        if len(names) == 1:
            raise
    half = len(names) // 2
    return [
        *release(store, names[:half], force=force),
        *release(store, names[half:], force=force),
    ]


def _release(store: Lookup, names: Sequence[str], *, force: bool) -> list[Released]:
    """Retire names, all or none.

    All names are retired in one transaction. It takes several to free their memory, because each file
    stays open until it is removed.
    """
    registry, process = store.registry, store.process
    retired = _Retired(store, process.holders())
    with process.transaction() as (tx, removals):
        if registry.removed is not None:
            # Its names must come back first, or they would undo this release.
            raise process.gone("released", "Release again")
        found = {entry.name: entry for entry in _current(tx, names)}
        for name in names:
            if name not in found:
                raise inspection.not_found(registry, name)
            if not force and not process.identity.owns(found[name].publisher):
                raise _not_owner(found[name], retired.labels(found[name]))
        for name in names:
            tx.retire(name)
            retired.versions += tx.versions(name)
        # Now, and not when it is freed: whatever happens next, the collector finds it.
        tx.mark_wanted({entry.segment.id for entry in retired.versions})
        retired.free(tx, removals)
        # If this process is killed before it frees the rest, the collector finds unneeded segments. It
        # does not find versions of segments that stay: they are forgotten now.
        for entry in retired.versions:
            if not tx.is_unwanted(entry.segment.id):
                collect.forget_version(tx, entry)
    if not tx.is_in_place:
        raise process.gone("released", "Release again")
    retired.free_rest()
    return retired.report(names)


def _not_owner(entry: Entry, holders: Sequence[str]) -> NotOwnerError:
    name = (entry.name,)
    used = f"used by {', '.join(holders)}" if holders else "not in use"
    return NotOwnerError(
        f"{entry.name} belongs to {entry.publisher.label}; {used}",
        remedy=(
            Remedy("detach", name, {}, "Let go here"),
            Remedy("release", name, {"force": True}, "Retire for everyone"),
        ),
    )


class _Outcome(NamedTuple):
    """The outcome for one version, as in `Released`."""

    name: str
    nbytes: int
    freed: int = 0
    held_by: Sequence[str] = ()
    needed_by: Sequence[str] = ()


class _Retired:
    """The versions of retired names whose memory is still to be freed.

    Attributes
    ----------
    versions : list of Entry
    """

    def __init__(self, store: Lookup, holders: Mapping[str, tuple[Holder, ...]]) -> None:
        self.versions: list[Entry] = []
        self._store = store
        self._holders = holders
        self._outcomes: list[_Outcome] = []

    def free_rest(self) -> None:
        """Free the memory of all versions that are left."""
        while self.versions:
            before = list(self.versions), len(self._outcomes)
            try:
                self._store.registry.making_room(partial(self._free, *before))
            except NoSpaceError:  # the names are retired: the next collection frees the rest
                return

    def _free(self, versions: list[Entry], outcomes: int) -> None:
        """Free the memory in a transaction; a repeated call begins at the same state."""
        self.versions = list(versions)
        del self._outcomes[outcomes:]
        with self._store.process.transaction() as (tx, removals):
            self.free(tx, removals)

    def free(self, tx: Transaction, removals: Removals) -> None:
        """Free the memory of as many versions as one transaction may."""
        # A segment that refers to others is newer than they are, and is freed first.
        self.versions.sort(key=lambda entry: entry.created)
        while self.versions and not removals.full:
            entry = self.versions.pop()
            name, row = entry.name, entry.segment
            if row.unlinked:
                continue
            free = collect.unlink(tx, self._store.directory, row, removals)
            if free is None:  # the data are another name's too, or an object's
                needed_by = self._store.registry.needed_by(row.id)
                nbytes = row.nbytes if needed_by else 0
                self._outcomes.append(_Outcome(name, nbytes, needed_by=needed_by))
                collect.forget_version(tx, entry)
            elif free:
                self._outcomes.append(_Outcome(name, row.nbytes, row.nbytes))
            else:
                held_by = self.labels(entry) or ["a process that jshm does not know"]
                self._outcomes.append(_Outcome(name, row.nbytes, held_by=held_by))

    def report(self, names: Sequence[str]) -> list[Released]:
        """Return the outcome for each name."""
        of_name: dict[str, list[_Outcome]] = {name: [] for name in names}
        for outcome in self._outcomes:
            of_name[outcome.name].append(outcome)
        return [
            Released(
                name,
                sum(one.nbytes for one in found),
                sum(one.freed for one in found),
                tuple(sorted({label for one in found for label in one.held_by})),
                tuple(sorted({label for one in found for label in one.needed_by})),
            )
            for name, found in of_name.items()
        ]

    def labels(self, entry: Entry) -> list[str]:
        """Return the labels of the processes that hold a version."""
        holders = self._holders.get(entry.segment.id, ())
        return sorted({"this notebook" if holder.here else holder.label for holder in holders})


def _current(tx: Transaction, names: Sequence[str]) -> list[Entry]:
    """Return the newest versions of names, read in portions that SQLite takes."""
    return [
        entry
        for start in range(0, len(names), _PORTION)
        for entry in tx.current(names[start : start + _PORTION])
    ]
