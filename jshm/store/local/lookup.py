"""The methods of a store that differ between a user's own store and a group's store.

`Lookup` has those of a user's own store, and is what the other modules know of a store: how to find names
and to open segment files. `GroupStore` overrides them for what other members share.
"""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from typing import TYPE_CHECKING

from ...errors import CorruptSegmentError, Remedy
from ...segment import file as segment_file
from ..base import Store
from ..names import check_name
from .catalogue import Peers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from ...errors import JshmError
    from ...segment.file import Mapping, Mode
    from ..base import Holder, ObjectDetails, SegmentInfo
    from .catalogue import Catalogue
    from .directory import Directory
    from .housekeeping import Housekeeping
    from .process import Process
    from .registry.registry import Registry
    from .registry.rows import Entry, SegmentRow


class Lookup(Store):
    """How a store finds names and opens segment files.

    Attributes
    ----------
    directory : Directory
    registry : Registry
        With this user's names.
    catalogue : Catalogue
        With all names that can be attached.
    process : Process
    housekeeping : Housekeeping
    """

    directory: Directory
    registry: Registry
    catalogue: Catalogue
    process: Process
    housekeeping: Housekeeping

    def _peers(self) -> Peers:
        """Return the other members of the group, once `directory` and `registry` are set."""
        return Peers()

    # -- names -----------------------------------------------------------------------------------

    def checked(self, name: str) -> str:
        """Return a name in the form in which it is looked up; raise InvalidNameError if it has none."""
        return check_name(name)

    @abstractmethod
    def describe(
        self,
        entry: Entry,
        holders: tuple[Holder, ...] = (),
        details: ObjectDetails | None = None,
    ) -> SegmentInfo:
        """Return what users see of a version."""

    @abstractmethod
    def segments(self) -> list[SegmentInfo]:
        """Return every version of every name that takes memory, with its holders."""

    # -- segments --------------------------------------------------------------------------------

    @abstractmethod
    def map(self, row: SegmentRow, mode: Mode) -> Mapping:
        """Map a segment."""

    def path_of(self, row: SegmentRow) -> str:
        """Return the path of a segment's file."""
        return self.directory.path(row.id, overflow=row.overflow, kind=row.kind)

    def opened(self, row: SegmentRow) -> AbstractContextManager[tuple[int, os.stat_result]]:
        """Open a segment's file and hold it; mappings made meanwhile keep holding it."""
        return segment_file.opened_shared(self.path_of(row), self.directory.access)

    @contextlib.contextmanager
    def unheld(self, row: SegmentRow) -> Iterator[int]:
        """Open a segment's file without a lock, to read it without being a holder."""
        fd = segment_file.open_unheld(self.path_of(row), self.directory.access)
        try:
            yield fd
        finally:
            os.close(fd)

    def is_held(self, row: SegmentRow) -> bool:
        """Return whether any process has a segment mapped."""
        return segment_file.is_held(self.path_of(row))

    def segment_of(self, root: str, identity: str) -> str | None:
        """Translate a segment id from another process's store; None if this store does not have it."""
        return identity if root == self.directory.root else None

    def beside(self, row: SegmentRow, needed: str) -> str:  # noqa: ARG002 - of one user's store
        """Return the id, in this store, of a segment that another segment refers to."""
        return needed

    def require_trust(self, row: SegmentRow, name: str) -> None:
        """Raise UntrustedError if another user wrote an object: to attach it runs their code."""

    def deleted(self, entries: Sequence[Entry]) -> JshmError:
        """Return the error for versions that are listed although their files are gone."""
        return CorruptSegmentError(
            f"the memory of {', '.join(entry.name for entry in entries)} was deleted by something other "
            "than jshm",
            remedy=Remedy("check", (), {"fix": True}, "Forget what is gone"),
        )
