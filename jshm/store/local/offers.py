"""Offers between notebooks, in the store of one machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..base import Offer, Offers
from ..names import check_name
from .inspection import not_found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..base import SegmentInfo
    from ..identity import Identity
    from .lookup import Lookup


class LocalOffers(Offers):
    """Offers in a registry.

    Parameters
    ----------
    store : Lookup
    """

    def __init__(self, store: Lookup) -> None:
        self._store = store

    def make(self, names: Sequence[str], recipient: Identity) -> list[SegmentInfo]:
        names = list(dict.fromkeys(map(check_name, names)))
        self._store.housekeeping.prepare()
        sender, now = self._store.process.identity.to_json(), time.time()
        with self._store.process.transaction() as (tx, _):
            found = {entry.name: entry for entry in tx.current(names)}
            for name in names:
                if name not in found:
                    raise not_found(self._store.registry, name)
                tx.add_offer(name, recipient, sender, now)
        return [self._store.describe(found[name]) for name in names]

    def received(self) -> list[Offer]:
        me = self._store.process.identity.connection_file
        if not me:  # not a kernel, so it cannot be a recipient
            return []
        return [
            Offer(self._store.describe(row.entry), row.sender, row.created)
            for row in self._store.registry.offers(me, time.time())
        ]

    def answer(self, names: Sequence[str]) -> None:
        with self._store.process.transaction() as (tx, _):
            tx.forget_offers(self._store.process.identity.connection_file, names)
