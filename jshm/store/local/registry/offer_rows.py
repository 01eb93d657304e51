"""The rows of offers: names that one notebook holds out to another, and every change of them.

They hold nothing, and say nothing that a segment would say: a registry that is rebuilt has none.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from .rows import JOINED, Entry, damaged, identity_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...identity import Identity
    from .database import Row, Transaction

SCHEMA = """CREATE TABLE offers(
    name TEXT NOT NULL,
    recipient TEXT NOT NULL,   -- connection file of the kernel, which keeps it through a restart
    target TEXT NOT NULL,      -- JSON: who that was when it was offered
    sender TEXT NOT NULL,      -- JSON: who offers it
    created REAL NOT NULL,     -- seconds since the epoch
    PRIMARY KEY(name, recipient)
) WITHOUT ROWID"""
# Seconds after which nobody will answer any more.
LIFETIME = 86400.0
# So many are read at most: members of a group may write any number.
_MOST = 1000
TO = f"""{JOINED.replace("SELECT ", "SELECT o.sender, o.created, ", 1)}
          JOIN offers o ON o.name = n.name WHERE v.version = n.current
          AND o.recipient = ? AND o.created > ? ORDER BY o.created LIMIT {_MOST}"""


class OfferRow(NamedTuple):
    """One offer, and the newest version of what is offered."""

    sender: Identity
    created: float
    entry: Entry

    @classmethod
    def parse(cls, row: Row) -> OfferRow:
        """Return what a row of `TO` says; CorruptRegistryError as for `Entry.parse`."""
        sender, created = row[:2]
        if (type(sender), type(created)) != (str, float) or not isfinite(created):
            raise damaged(f"an offer that says {row[:2]!r:.200}")
        return cls(identity_of(sender), created, Entry.parse(row[2:]))


def put_offer(tx: Transaction, name: str, target: Identity, sender: str, now: float) -> None:
    """Offer a name to a kernel; one that was offered already is offered anew."""
    tx.execute(
        "INSERT OR REPLACE INTO offers(name, recipient, target, sender, created) "
        "VALUES (?, ?, ?, ?, ?)",
        (name, target.connection_file, target.to_json(), sender, now),
    )


def forget_offers(tx: Transaction, recipient: str, names: Iterable[str]) -> None:
    """Delete offers that a kernel has answered."""
    for name in names:
        tx.execute("DELETE FROM offers WHERE recipient = ? AND name = ?", (recipient, name))


def recipients(tx: Transaction) -> dict[str, Identity]:
    """Return whom anything is offered to.

    Raises
    ------
    CorruptRegistryError
        An offer is to nobody, or of nobody's.
    """
    found = tx.execute("SELECT DISTINCT recipient, target, sender FROM offers")
    for row in found:
        if {type(value) for value in row} != {str}:
            raise damaged(f"an offer that says {row!r:.200}")
        identity_of(row[2])
    return {recipient: identity_of(target) for recipient, target, _ in found}


def forget_old(tx: Transaction, now: float) -> None:
    """Delete offers that are too old, or of names that are gone."""
    tx.execute(
        "DELETE FROM offers WHERE created < ? OR typeof(created) <> 'real' "
        "OR name NOT IN (SELECT name FROM names WHERE current NOT NULL)",
        (now - LIFETIME,),
    )


def forget_recipient(tx: Transaction, recipient: str) -> None:
    """Delete all that is offered to a kernel."""
    tx.execute("DELETE FROM offers WHERE recipient = ?", (recipient,))
