"""Interfaces for reading names (`Catalogue`) and for the other members of a group (`Peers`).

A user's own store reads them from its registry, and has no peers. A group's store has its own versions of
both; see `jshm.store.groups`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..identity import Identity
    from .lease import LogContent
    from .registry.rows import Entry, SegmentRow


class Catalogue(ABC):
    """The names that a store can read: those of one registry, or those of all members of a group."""

    @abstractmethod
    def current(self, names: Sequence[str]) -> list[Entry]:
        """Return the newest versions of those names that have one, in one consistent read."""

    @abstractmethod
    def version(self, name: str, version: int) -> Entry | None:
        """Return one version of a name, if it still exists."""

    @abstractmethod
    def versions(self, name: str) -> list[Entry]:
        """Return all versions of a name that still exist, the oldest first."""

    @abstractmethod
    def everything(self) -> list[Entry]:
        """Return all versions of all names, by name and version."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return all names that can be attached, sorted."""

    @abstractmethod
    def own_names(self) -> list[str]:
        """Return this user's names that can be attached, sorted."""

    @abstractmethod
    def beginning(self, prefix: str, most: int) -> list[tuple[str, int, SegmentRow]]:
        """Return the first `most` names with a prefix, sorted, with the part and segment of each."""

    @abstractmethod
    def last(self, name: str) -> int:
        """Return the last version number of a name, also of a released one; 0 if it never had one."""

    @abstractmethod
    def segment(self, segment: str) -> SegmentRow | None:
        """Return a segment's row."""

    @abstractmethod
    def of_segment(self, segment: str) -> list[Entry]:
        """Return the versions in a segment."""

    @abstractmethod
    def data_version(self) -> object:
        """Return a value that changes with every commit. It costs a microsecond."""


class Peers:
    """The other members of the group, as one member's process needs them. This base has none."""

    def living(self) -> list[tuple[Identity, LogContent]]:
        """Return the running processes of other members, each with what it holds."""
        return []

    def announce(self, *, rewrite: bool = False) -> None:
        """Tell the other members what this user shares; `rewrite` writes the whole list again."""
