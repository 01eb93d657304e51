"""Retiring names for everyone: whose they are, what is free at once, and who still holds the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import rows
from ..errors import NotOwnerError, SegmentNotFoundError
from ..lease import living
from . import reaper
from .base import Released
from .inspection import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..database import Transaction
    from ..identity import Identity
    from ..registry import Registry
    from .directory import Directory
    from .presence import Presence
    from .reaper import Doomed


def release(
    presence: Presence,
    registry: Registry,
    directory: Directory,
    names: Sequence[str],
    *,
    force: bool,
) -> list[Released]:
    """Retire names, all or none.

    Raises
    ------
    SegmentNotFoundError, NotOwnerError
    """
    with presence.transaction() as (tx, doomed):
        found = {entry.name: entry for entry in rows.current(tx, names)}
        for name in names:
            if name not in found:
                raise SegmentNotFoundError(missing(registry, name))
            owner = found[name].publisher
            if not force and not presence.identity.owns(owner):
                used = _users(directory, found[name].segment.id, presence.identity)
                raise NotOwnerError(
                    f"{name} belongs to {owner.label}; "
                    + (f"used by {', '.join(used)}" if used else "not in use")
                    + f". Let go here: %shm_detach {name}. Retire for everyone: "
                    f"%shm_release {name} --force (force=True)"
                )
        return [_release(tx, directory, doomed, name, presence.identity) for name in names]


def _release(
    tx: Transaction, directory: Directory, doomed: Doomed, name: str, me: Identity
) -> Released:
    rows.retire(tx, name)
    held: set[str] = set()
    nbytes = freed = 0
    for entry in rows.entries_of(tx, name):
        row = entry.segment
        if row.unlinked:
            continue
        users = _users(directory, row.id, me)
        free = reaper.unlink_unwanted(tx, directory, row, doomed)
        if free is None:
            rows.forget_version(tx, entry)  # the data are another name's too
            continue
        nbytes += row.nbytes
        if free:
            freed += row.nbytes
        else:
            held.update(users or ["a process that jshm does not know"])
    return Released(name, nbytes, freed, tuple(sorted(held)))


def _users(directory: Directory, identity: str, me: Identity) -> list[str]:
    """Return what people call the living processes that hold a segment."""
    users = [who for who, held in living(directory.leases) if any(h[0] == identity for h in held)]
    return sorted({"this notebook" if me.owns(user) else user.label for user in users})
