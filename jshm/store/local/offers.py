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
    from .housekeeping import Housekeeping
    from .lookup import Lookup
    from .registry.registry import Registry


class LocalOffers(Offers):
    """Offers in a registry.

    Parameters
    ----------
    lookup : Lookup
        The store, which describes versions.
    housekeeping : Housekeeping
    registry : Registry
    """

    def __init__(self, lookup: Lookup, housekeeping: Housekeeping, registry: Registry) -> None:
        self._lookup = lookup
        self._housekeeping = housekeeping
        self._process = housekeeping.process
        self._registry = registry

    def make(self, names: Sequence[str], recipient: Identity) -> list[SegmentInfo]:
        names = list(dict.fromkeys(map(check_name, names)))
        self._housekeeping.prepare()
        sender, now = self._process.identity.to_json(), time.time()
        with self._process.transaction() as (tx, _):
            found = {entry.name: entry for entry in tx.current(names)}
            for name in names:
                if name not in found:
                    raise not_found(self._registry, name)
                tx.add_offer(name, recipient, sender, now)
        return [self._lookup.describe(found[name]) for name in names]

    def received(self) -> list[Offer]:
        me = self._process.identity.connection_file
        if not me:  # not a kernel, so it cannot be a recipient
            return []
        return [
            Offer(self._lookup.describe(row.entry), row.sender, row.created)
            for row in self._registry.offers(me, time.time())
        ]

    def answer(self, names: Sequence[str]) -> None:
        with self._process.transaction() as (tx, _):
            tx.forget_offers(self._process.identity.connection_file, names)
