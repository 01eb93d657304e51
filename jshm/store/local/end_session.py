"""The end of a session, where processes of it still live: kernels and workers of a server that ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...segment.file import is_held
from ..identity import is_part_of
from . import collect as reaper
from .registry import rows

if TYPE_CHECKING:
    from .directory import Directory
    from .process import Presence
    from .registry.statements import Transaction


def retire_session(presence: Presence, directory: Directory, ending: tuple[int, str]) -> None:
    """Retire what a session published, unless it is kept or a process of another session holds it.

    A process that ends without a warning frees nothing. So files that only this session's processes
    hold are removed now: the kernel of the operating system frees their memory with the last mapping.

    Parameters
    ----------
    presence, directory
    ending : (int, str)
        Pid and start of the session's program.
    """
    while True:
        with presence.transaction() as (tx, doomed):
            _retire(tx, presence, directory, ending, doomed)
            full = doomed.full
        if not full:
            return


def _retire(
    tx: Transaction,
    presence: Presence,
    directory: Directory,
    ending: tuple[int, str],
    doomed: reaper.Doomed,
) -> None:
    held: set[str] = set()
    others: set[str] = set()
    spares: list[str] = []
    for who, said in presence.said():
        mine = is_part_of(who, ending)
        (held if mine else others).update(segment for segment, _ in said.held)
        if mine:
            spares += said.kept
    for lease, text in tx.leases().items():
        if not is_part_of(rows.parse_identity(text), ending):
            continue
        for entry in tx.published_without_keep(lease):
            if doomed.full:
                return
            row = entry.segment
            path = directory.path(row.id, overflow=row.overflow, kind=row.kind)
            if row.id in others or (row.id not in held and is_held(path)):
                continue
            tx.retire(entry.name)
            if reaper.unlink_unwanted(tx, directory, row, doomed) is None:
                reaper.forget_name(tx, entry)  # it is another name's too, or an object's
    for row in tx.unwanted():  # older versions, and arrays without a name
        if doomed.full:
            return
        if row.id in held - others and not row.unlinked:
            reaper.unlink_unwanted(tx, directory, row, doomed)
    reaper.take_away(tx, directory, spares, doomed)
