"""What notebooks offer to each other in the store of one machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...errors import SegmentNotFoundError
from ..base import Offer, Offers
from ..names import check_name
from .inspection import missing
from .registry import offer_rows, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..base import SegmentInfo
    from ..identity import Identity
    from .directory import Directory
    from .process import Presence
    from .registry.registry import Registry
    from .registry.rows import Entry


class LocalOffers(Offers):
    """Offers in a registry.

    Parameters
    ----------
    presence, registry, directory
    describe : callable
        Says of an entry what the store tells users.
    """

    def __init__(
        self,
        presence: Presence,
        registry: Registry,
        directory: Directory,
        describe: Callable[[Entry], SegmentInfo],
    ) -> None:
        self._presence = presence
        self._registry = registry
        self._directory = directory
        self._describe = describe

    def make(self, names: Sequence[str], recipient: Identity) -> list[SegmentInfo]:
        names = list(dict.fromkeys(map(check_name, names)))
        self._presence.prepare()
        sender, now = self._presence.identity.to_json(), time.time()
        with self._presence.transaction() as (tx, _):
            found = {entry.name: entry for entry in rows.current(tx, names)}
            for name in names:
                if name not in found:
                    raise SegmentNotFoundError(missing(self._registry, name))
                offer_rows.put_offer(tx, name, recipient, sender, now)
        return [self._describe(found[name]) for name in names]

    def received(self) -> list[Offer]:
        me = self._presence.identity.connection_file
        if not me:  # no kernel: nobody can offer it anything
            return []
        return [
            Offer(self._describe(row.entry), row.sender, row.created)
            for row in self._registry.offers(me, time.time() - offer_rows.LIFETIME)
        ]

    def answer(self, names: Sequence[str]) -> None:
        with self._presence.transaction() as (tx, _):
            offer_rows.forget_offers(tx, self._presence.identity.connection_file, names)
