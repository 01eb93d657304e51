"""What the panel (over REST) and the widget (over a comm) ask for, and the answers, ready for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..api import release_found
from ..errors import CorruptSegmentError, FormatVersionError, SegmentNotFoundError
from . import preview, wire
from .globs import expand
from .listing import Listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..store.base import Store
    from .listing import Query
    from .people import Places


class Service:
    """Answers for one front end. Not for several threads at once.

    Parameters
    ----------
    store : Store
    places : Places
        Where notebooks are now.
    """

    def __init__(self, store: Store, places: Places) -> None:
        self._store = store
        self._places = places
        self.listing = Listing(store)

    def page(self, query: Query) -> dict[str, Any]:
        """Return a part of the list (`IPage`)."""
        self.listing.refresh()
        return self.listing.page(query, self._places)

    def summary(self) -> dict[str, Any]:
        """Return the store as a whole (`ISummary`)."""
        self.listing.refresh()
        return self.listing.summary()

    def info(self, name: str) -> dict[str, Any]:
        """Return all that is known of a name (`IDetails`).

        Raises
        ------
        SegmentNotFoundError
        """
        name = self._store.checked(name)
        self.listing.refresh()
        item = self.listing.item(name)
        if item is None:
            self._store.info(name)  # says which names are near
            raise SegmentNotFoundError(f"{name} was released")
        info = item.newest
        if info.state == "current":
            try:
                info = self._store.info(name, info.version)
            except (CorruptSegmentError, FormatVersionError):
                info = item.newest  # what the list knows of it; the preview says what is wrong
        return wire.details(info, wire.row(item.newest, item.older, self._places))

    def preview(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Return a picture of the data (`Preview`), from a bounded sample.

        Raises
        ------
        SegmentNotFoundError, CorruptSegmentError
        """
        try:
            with self._store.reader(name, version) as reader:
                return preview.preview(reader, reader.layout)
        except SegmentNotFoundError:
            item = self.listing.item(name)
            if item is None or item.newest.state == "current":
                raise
            text = "It was released: only who holds it can still read it."
            return {"type": "none", "text": text, "stats": None}

    def release_one(self, name: str) -> dict[str, Any]:
        """Retire one name for everyone (`IReleased`).

        Raises
        ------
        SegmentNotFoundError, InvalidNameError
        """
        return wire.released(release_found([name], (), force=True)[0])

    def release(self, words: Sequence[str]) -> list[dict[str, Any]]:
        """Retire names for everyone (`IReleased`); `words` may be patterns.

        Of several, those are retired that are still there.

        Raises
        ------
        SegmentNotFoundError
            There is no such name, or nothing matches.
        """
        _, written, found = expand(words, self._store.own_names(), self._store)
        if len(written) > 1:  # they were picked from a list that may be a moment old
            written, found = [], [*written, *found]
        return [wire.released(one) for one in release_found(written, found, force=True)]

    def release_unused(self) -> list[dict[str, Any]]:
        """Retire what nobody holds, but for what is spared: kept, the only copy, published just now."""
        listing = Listing(self._store)  # a list is not for several threads
        listing.refresh()
        idle = [info.name for info in listing.idle() if not info.protected]
        return [wire.released(one) for one in release_found((), idle, force=True)]
