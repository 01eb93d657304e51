"""The requests of the panel (over REST) and of the widget (over a comm), answered ready for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..api import release_found
from ..errors import CorruptSegmentError, FormatVersionError, SegmentNotFoundError
from . import previews, wire
from .globs import expand
from .listing import Listing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..store.base import Store
    from .labels import Notebooks
    from .listing import Query


class Service:
    """Answers for one front end. Not for several threads at once.

    Parameters
    ----------
    store : Store
    notebooks : Notebooks
    """

    def __init__(self, store: Store, notebooks: Notebooks) -> None:
        self._store = store
        self._notebooks = notebooks
        self.listing = Listing(store)

    def page(self, query: Query) -> dict[str, Any]:
        """Return a part of the list (`Page`)."""
        self.listing.refresh()
        return self.listing.page(query, self._notebooks)

    def summary(self) -> dict[str, Any]:
        """Return sums over the whole store (`Summary`)."""
        self.listing.refresh()
        return self.listing.summary()

    def info(self, name: str) -> dict[str, Any]:
        """Return all that is known of a name (`Details`).

        Raises
        ------
        SegmentNotFoundError
        """
        name = self._store.checked(name)
        self.listing.refresh()
        item = self.listing.item(name)
        if item is None:
            self._store.info(name)  # raises an error that suggests the nearest names
            raise SegmentNotFoundError(f"{name} was released")
        info = item.newest
        if info.state == "current":
            try:
                info = self._store.info(name, info.version)
            except (CorruptSegmentError, FormatVersionError):
                info = item.newest  # the preview says what is wrong with the segment
        return wire.details(info, wire.row(item.newest, item.older, self._notebooks))

    def preview(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Return a preview of the data (`Preview`), from a bounded sample.

        Raises
        ------
        SegmentNotFoundError, CorruptSegmentError
        """
        try:
            with self._store.reader(name, version) as reader:
                return previews.preview(reader)
        except SegmentNotFoundError:
            item = self.listing.item(name)
            if item is None or item.newest.state == "current":
                raise
            text = "This name was released: only its holders can still read the data."
            return {"type": "none", "text": text, "stats": None}

    def release_one(self, name: str) -> dict[str, Any]:
        """Release one name (`Released`).

        Raises
        ------
        SegmentNotFoundError, InvalidNameError
        """
        return wire.released(release_found([name], (), force=True)[0])

    def release(
        self, words: Sequence[str], versions: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Release names (a list of `Released`).

        Parameters
        ----------
        words : sequence of str
            Names and glob patterns. Of several names, those are released that still exist.
        versions : mapping of str to int, optional
            The newest version of a name that the user saw. A name with a newer one is not released.

        Raises
        ------
        SegmentNotFoundError
            There is no such name, or a pattern matches nothing.
        """
        _, written, found = expand(words, self._store.own_names(), self._store)
        if len(written) > 1:  # the user picked them from a list that may be out of date
            written, found = [], [*written, *found]
        if versions:
            current = self._store.current([*written, *found])
            newer = {
                name
                for name, info in current.items()
                if info.version > versions.get(name, info.version)
            }
            written, found = ([n for n in names if n not in newer] for names in (written, found))
        done = release_found(written, found, force=True) if written or found else []
        return [wire.released(one) for one in done]

    def release_unused(self) -> list[dict[str, Any]]:
        """Release the names that nobody holds, except kept, only and very recent copies."""
        listing = Listing(self._store)  # this may run in another thread than the lists
        listing.refresh()
        idle = [info.name for info in listing.idle() if not info.protected]
        return [wire.released(one) for one in release_found((), idle, force=True)]
