"""The list of all names, in parts: filtered, sorted, grouped by notebook.

It is read anew only when something has changed, so that a part of a long one costs little.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby, zip_longest
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..text import size_text
from . import wire
from .people import current_label, distinct

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store.base import SegmentInfo, Space, Store
    from .people import Places

SortKey = Literal["name", "size", "age", "type", "holders"]
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)
MOST_ROWS = 1000
_DIGITS = re.compile(r"(\d+)")
# Below this part of what could be shared, people should think of freeing something.
_SCARCE = 0.05


@dataclass(frozen=True, slots=True)
class Query:
    """Which part of the list; see `IQuery` of the front end's `types.ts`."""

    filter: str = ""
    sort: SortKey = "name"
    descending: bool = False
    grouped: bool = False
    unused: bool = False
    offset: int = 0
    limit: int = 200


@dataclass(frozen=True, slots=True)
class Item:
    """One name: its newest version, and older ones that somebody holds.

    Attributes
    ----------
    newest : SegmentInfo
    older : tuple of SegmentInfo
    is_idle : bool
        Whether it is a name of this user that nobody holds in any version.
    """

    newest: SegmentInfo
    older: tuple[SegmentInfo, ...]
    is_idle: bool = field(init=False)

    def __post_init__(self) -> None:
        newest = self.newest
        idle = (
            newest.state == "current" and newest.releasable and not newest.in_use and not self.older
        )
        object.__setattr__(self, "is_idle", idle)  # each list looks at it several times


class Listing:
    """What one process shows of a store. Not for several threads at once.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: object = None
        self._shown: tuple[list[SegmentInfo], int, int] | None = None
        self._prefix = os.urandom(4).hex()
        self._serial = 0
        self._items: dict[str, Item] = {}
        self._summary: dict[str, Any] = {}
        self._ordered: tuple[Query, dict[str, str], list[Item]] | None = None

    def refresh(self) -> bool:
        """Read the store if it has changed; tell whether it had."""
        self._store.flush()
        seen = self._store.state()
        if seen == self._seen:
            return False
        infos, space = self._store.segments(), self._store.space()
        # Not what it is by now: what came in between is found the next time.
        self._seen = seen
        shown = infos, space.unnamed, space.spares
        if shown == self._shown:
            return False
        self._shown = shown
        self._serial += 1
        self._ordered = None
        self._items = _items(_relabelled(infos), self._items)
        self._summary = _summary(infos, self._items, space)
        return True

    @property
    def state(self) -> str:
        """Name of what was read last."""
        return f"{self._prefix}-{self._serial}"

    def item(self, name: str) -> Item | None:
        """Return what is known of a name."""
        return self._items.get(name)

    def summary(self) -> dict[str, Any]:
        """Return the store as a whole (`ISummary`), with what is free, and in spares, now."""
        space = self._store.space()
        left = {"free": space.free, "spares": space.spares}
        return {**self._summary, **left, "notices": _notices(self._summary, space)}

    def idle(self) -> list[SegmentInfo]:
        """Return the names that nobody holds in any version."""
        return [item.newest for item in self._items.values() if item.is_idle]

    def page(self, query: Query, places: Places) -> dict[str, Any]:
        """Return a part of the list (`IPage`)."""
        items = self._order(replace(query, offset=0, limit=0), places.names)
        part = items[query.offset : query.offset + min(query.limit, MOST_ROWS)]
        return {
            "state": self.state,
            "total": len(items),
            "offset": query.offset,
            "rows": [wire.row(item.newest, item.older, places) for item in part],
            "groups": _groups(items, places) if query.grouped else [],
            "summary": self.summary(),
        }

    def _order(self, query: Query, names: dict[str, str]) -> list[Item]:
        if self._ordered is None or self._ordered[:2] != (query, names):
            items = [item for item in self._items.values() if item.is_idle or not query.unused]
            words = query.filter.casefold().split()
            if words:
                items = [item for item in items if _matches(item.newest, words, names)]
            self._ordered = query, names, _sorted(items, query, names)
        return self._ordered[2]


# -- reading ---------------------------------------------------------------------------------------


def _relabelled(infos: list[SegmentInfo]) -> list[SegmentInfo]:
    """Return the versions, with publishers of equal names told apart by their folders."""
    labels = {(info.owner, info.publisher) for info in infos}
    called = distinct(labels)
    if all(called[owner] == label for owner, label in labels):
        return infos
    return [
        info
        if called[info.owner] == info.publisher
        else replace(info, publisher=called[info.owner])
        for info in infos
    ]


def _items(infos: list[SegmentInfo], before: dict[str, Item]) -> dict[str, Item]:
    """Return the names, as people sort them, of versions that come by name and version.

    What is as `before` is not made anew, and not sorted anew.
    """
    found: dict[str, Item] = {}
    older: tuple[SegmentInfo, ...] = ()
    for info, following in zip_longest(infos, infos[1:]):
        if following is not None and following.name == info.name:
            older += (info,) if info.in_use else ()
            continue
        known = before.get(info.name)
        if known is not None and known.newest is info and known.older == older:
            found[info.name] = known
        elif info.state == "current" or info.in_use or older:
            found[info.name] = Item(info, older)
        older = ()
    same = found.keys() == before.keys()
    return {name: found[name] for name in (before if same else sorted(found, key=_natural))}


def _summary(infos: list[SegmentInfo], items: dict[str, Item], space: Space) -> dict[str, Any]:
    """Return sums over segments; those that versions share count once."""
    idle = [item.newest for item in items.values() if item.is_idle]
    parts: dict[str, dict[str, int]] = {part: {} for part in (*_PARTS, "overflow")}
    parts["idle"] = {info.segment: info.nbytes for info in idle if not info.overflow}
    for info in infos:  # most of which are idle
        if info.segment not in parts["idle"]:
            parts[_part(info)][info.segment] = info.nbytes
    seen: set[str] = set()
    sums = {}
    for part, found in parts.items():  # what is current under one name may be old under another
        new = found if seen.isdisjoint(found) else {s: found[s] for s in found.keys() - seen}
        sums[part] = sum(new.values())
        seen.update(found)
    used = sum(sums[part] for part in _PARTS) + space.unnamed
    return {
        "where": space.where,
        "names": sum(item.newest.state == "current" for item in items.values()),
        "used": used,
        **sums,
        "unnamed": space.unnamed,
        "idleNames": len(idle),
        "leftovers": sum({i.segment: i.nbytes for i in infos if i.expired}.values()),
        "capacity": space.capacity,
    }


# What is used is one of these; the first that a segment is in decides.
_PARTS = ("inUse", "idle", "old", "restorable")


def _part(info: SegmentInfo) -> str:
    """Return the part that what is not idle is in."""
    if info.overflow:
        return "overflow"
    if info.state == "current":
        return "inUse"
    return "old" if info.in_use else "restorable"


def _notices(summary: dict[str, Any], space: Space) -> list[dict[str, str]]:
    found = []
    free = space.free + space.spares  # which are given back where there is need
    if free < _SCARCE * (free + summary["used"]):
        text = f"Only {size_text(free)} are free: release what is not needed any more."
        found.append({"level": "warning", "text": text})
    if summary["overflow"]:
        text = (
            f"{size_text(summary['overflow'])} are on disk, because there was no room in memory. Give "
            f"{space.where} more (Docker: --shm-size){' or raise JSHM_QUOTA' * bool(space.quota)}, and "
            "publish them again."
        )
        found.append({"level": "info", "text": text})
    return found


# -- order -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 15)
def _natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return what sorts names as people do: ``run2`` before ``run10``."""
    parts = _DIGITS.split(name.casefold())
    return tuple((part.isdigit(), int(part) if part.isdecimal() else 0, part) for part in parts)


_KEYS: dict[SortKey, Callable[[SegmentInfo], Any]] = {
    "size": lambda info: info.nbytes,
    "age": lambda info: -info.created,
    "type": lambda info: (info.kind, info.summary.casefold()),
    "holders": lambda info: len(info.holders),
}


def _matches(info: SegmentInfo, words: list[str], names: dict[str, str]) -> bool:
    publisher = current_label(info.publisher, names.get(info.kernel_id, ""))
    text = f"{info.name}\n{publisher}\n{info.summary}\n{info.note}".casefold()
    return all(word in text for word in words)


def _sorted(items: list[Item], query: Query, names: dict[str, str]) -> list[Item]:
    """Return what comes by name in the order that is asked for."""
    if query.sort != "name":
        key = _KEYS[query.sort]
        items = sorted(items, key=lambda item: key(item.newest), reverse=query.descending)
    elif query.descending:  # they come by name
        items = items[::-1]
    if not query.grouped:
        return items
    # Groups come in the order of their first row; those of one notebook, together.
    first: dict[str, int] = {}
    for item in items:
        first.setdefault(item.newest.owner, len(first))
    if query.sort == "name":  # of the groups, too
        order = sorted(
            {
                info.owner: current_label(info.publisher, names.get(info.kernel_id, ""))
                for info in (item.newest for item in items)
            }.items(),
            key=lambda pair: (_natural(pair[1]), pair[0]),
            reverse=query.descending,
        )
        first = {owner: i for i, (owner, _) in enumerate(order)}
    return sorted(items, key=lambda item: first[item.newest.owner])


def _groups(items: list[Item], places: Places) -> list[dict[str, Any]]:
    found = []
    for owner, group in groupby(items, attrgetter("newest.owner")):
        members = list(group)
        sizes = {item.newest.segment: item.newest.nbytes for item in members}
        sizes |= {old.segment: old.nbytes for item in members for old in item.older}
        # The newest says best what has become of the notebook.
        latest = max(members, key=attrgetter("newest.created"))
        found.append(
            {
                "id": owner,
                "publisher": wire.publisher(latest.newest, places),
                "count": len(members),
                "nbytes": sum(sizes.values()),
            }
        )
    return found
