"""The list of all names, page by page: filtered, sorted and grouped by notebook.

The store is read again only after a change, so a page of a long list is cheap.
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
from .labels import current_label, distinct

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..store.base import SegmentInfo, Space, Store
    from .labels import Notebooks

SortKey = Literal["name", "size", "age", "type", "holders"]
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)
MOST_ROWS = 1000
_DIGITS = re.compile(r"(\d+)")
# If a smaller part of the memory than this is free, the user is told.
_SCARCE = 0.05


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of one page; see ``/segments`` in ``openapi.yaml``."""

    filter: str = ""
    sort: SortKey = "name"
    descending: bool = False
    grouped: bool = False
    unused: bool = False
    offset: int = 0
    limit: int = 200


@dataclass(frozen=True, slots=True)
class Item:
    """One name: its newest version, and the older versions that a process holds.

    Attributes
    ----------
    newest : SegmentInfo
    older : tuple of SegmentInfo
    is_idle : bool
        Whether this user may release it and no process holds any version.
    """

    newest: SegmentInfo
    older: tuple[SegmentInfo, ...]
    is_idle: bool = field(init=False)

    def __post_init__(self) -> None:
        newest = self.newest
        idle = (
            newest.state == "current" and newest.releasable and not newest.in_use and not self.older
        )
        object.__setattr__(self, "is_idle", idle)  # computed once: each page reads it several times


class Listing:
    """The list that one process shows of a store. Not for several threads at once.

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
        self._ordered: tuple[Query, Mapping[str, str], list[Item]] | None = None

    def refresh(self) -> bool:
        """Read the store if it has changed; return whether the list is a new one."""
        self._store.flush()
        seen = self._store.state()
        if seen == self._seen:
            return False
        infos, space = self._store.segments(), self._store.space()
        # The state from before the read: a change during the read is found by the next refresh.
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
        """An id of the list that was read last."""
        return f"{self._prefix}-{self._serial}"

    def item(self, name: str) -> Item | None:
        """Return one name of the list; None if it is not there."""
        return self._items.get(name)

    def summary(self) -> dict[str, Any]:
        """Return sums over the whole store (`Summary`); free memory and spares are those of now."""
        space = self._store.space()
        left = {"free": space.free, "spares": space.spares}
        return {**self._summary, **left, "notices": _notices(self._summary, space)}

    def idle(self) -> list[SegmentInfo]:
        """Return the names of this user that no process holds in any version."""
        return [item.newest for item in self._items.values() if item.is_idle]

    def page(self, query: Query, notebooks: Notebooks) -> dict[str, Any]:
        """Return a part of the list (`Page`)."""
        items = self._order(replace(query, offset=0, limit=0), notebooks.names)
        part = items[query.offset : query.offset + min(query.limit, MOST_ROWS)]
        return {
            "state": self.state,
            "total": len(items),
            "offset": query.offset,
            "rows": [wire.row(item.newest, item.older, notebooks) for item in part],
            "groups": _groups(items, notebooks) if query.grouped else [],
            "summary": self.summary(),
        }

    def _order(self, query: Query, names: Mapping[str, str]) -> list[Item]:
        if self._ordered is None or self._ordered[:2] != (query, names):
            items = [item for item in self._items.values() if item.is_idle or not query.unused]
            words = query.filter.casefold().split()
            if words:
                items = [item for item in items if _matches(item.newest, words, names)]
            self._ordered = query, names, _sorted(items, query, names)
        return self._ordered[2]


# -- reading ---------------------------------------------------------------------------------------


def _relabelled(infos: list[SegmentInfo]) -> list[SegmentInfo]:
    """Return the versions; publishers with equal labels get their folders too."""
    labels = {(info.owner, info.publisher) for info in infos}
    unique = distinct(labels)
    if all(unique[owner] == label for owner, label in labels):
        return infos
    return [
        info
        if unique[info.owner] == info.publisher
        else replace(info, publisher=unique[info.owner])
        for info in infos
    ]


def _items(infos: list[SegmentInfo], before: dict[str, Item]) -> dict[str, Item]:
    """Return the names in natural order, from versions that are sorted by name and version.

    Unchanged items are taken from `before`. With the same names as `before`, nothing is sorted.
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
    """Return sums over segments; a segment that several versions share counts once."""
    idle = [item.newest for item in items.values() if item.is_idle]
    parts: dict[str, dict[str, int]] = {part: {} for part in (*_PARTS, "overflow")}
    parts["idle"] = {info.segment: info.nbytes for info in idle if not info.overflow}
    for info in infos:  # most of them are idle
        if info.segment not in parts["idle"]:
            parts[_part(info)][info.segment] = info.nbytes
    seen: set[str] = set()
    sums = {}
    for (
        part,
        found,
    ) in parts.items():  # a segment may be current under one name and old under another
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
        "expired": sum({i.segment: i.nbytes for i in infos if i.expired}.values()),
        "capacity": space.capacity,
    }


# The parts of the memory that is used. A segment counts in the first part that it belongs to.
_PARTS = ("inUse", "idle", "old")


def _part(info: SegmentInfo) -> str:
    """Return the part of a version that is not idle."""
    if info.overflow:
        return "overflow"
    return "inUse" if info.state == "current" else "old"


def _notices(summary: dict[str, Any], space: Space) -> list[dict[str, str]]:
    found = []
    free = space.free + space.spares  # spares are given back when memory is needed
    if free < _SCARCE * (free + summary["used"]):
        text = f"Only {size_text(free)} are free: release names that are not needed."
        found.append({"level": "warning", "text": text})
    if summary["overflow"]:
        text = (
            f"{size_text(summary['overflow'])} are on disk, because shared memory was full. Make "
            f"{space.where} larger (Docker: --shm-size){' or raise JSHM_QUOTA' * bool(space.quota)}, "
            "then publish them again."
        )
        found.append({"level": "info", "text": text})
    return found


# -- order -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 15)
def _natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a sort key with natural order: ``run2`` before ``run10``."""
    parts = _DIGITS.split(name.casefold())
    return tuple((part.isdigit(), int(part) if part.isdecimal() else 0, part) for part in parts)


_KEYS: dict[SortKey, Callable[[SegmentInfo], Any]] = {
    "size": lambda info: info.nbytes,
    "age": lambda info: -info.created,
    "type": lambda info: (info.kind, info.summary.casefold()),
    "holders": lambda info: len(info.holders),
}


def _matches(info: SegmentInfo, words: list[str], names: Mapping[str, str]) -> bool:
    publisher = current_label(info.publisher, names.get(info.kernel_id, ""))
    text = f"{info.name}\n{publisher}\n{info.summary}\n{info.note}".casefold()
    return all(word in text for word in words)


def _sorted(items: list[Item], query: Query, names: Mapping[str, str]) -> list[Item]:
    """Return items that are sorted by name in the order of a query."""
    if query.sort != "name":
        key = _KEYS[query.sort]
        items = sorted(items, key=lambda item: key(item.newest), reverse=query.descending)
    elif query.descending:
        items = items[::-1]
    if not query.grouped:
        return items
    # Groups are in the order of their first row, or by label if the rows are sorted by name.
    first: dict[str, int] = {}
    for item in items:
        first.setdefault(item.newest.owner, len(first))
    if query.sort == "name":
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


def _groups(items: list[Item], notebooks: Notebooks) -> list[dict[str, Any]]:
    found = []
    for owner, group in groupby(items, attrgetter("newest.owner")):
        members = list(group)
        sizes = {item.newest.segment: item.newest.nbytes for item in members}
        sizes |= {old.segment: old.nbytes for item in members for old in item.older}
        # The newest version knows best whether the notebook is alive.
        latest = max(members, key=attrgetter("newest.created"))
        found.append(
            {
                "id": owner,
                "publisher": wire.publisher(latest.newest, notebooks),
                "count": len(members),
                "nbytes": sum(sizes.values()),
            }
        )
    return found
