"""Names and files where all are one user's; the store of a group does otherwise with those of others."""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from typing import TYPE_CHECKING

from ...errors import CorruptSegmentError
from ...segment import file as segment
from ..base import Store
from ..names import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from ...errors import JshmError
    from ...segment.file import Mapping, Mode
    from ..groups.union import Union
    from .directory import Directory
    from .process import Presence
    from .registry.registry import Registry
    from .registry.rows import Entry, SegmentRow


class Own(Store):
    """How names are looked for, and the files of segments opened.

    Attributes
    ----------
    directory : Directory
    registry : Registry
    presence : Presence
    catalogue : Registry or Union
        The names that can be read: in a group's store, the other members' too.
    """

    directory: Directory
    registry: Registry
    presence: Presence
    catalogue: Registry | Union

    @abstractmethod
    def map(self, row: SegmentRow, mode: Mode) -> Mapping:
        """Map a segment."""

    def exact(self, name: str) -> str:
        """Return a name in the form that never means another user's."""
        return name

    def exact_names(self) -> list[str]:
        """Return all names in that form, where it is another than the short one."""
        return []

    def is_held(self, row: SegmentRow) -> bool:
        """Tell whether any process has a segment mapped."""
        return segment.is_held(self.path_of(row))

    def segment_of(self, root: str, identity: str) -> str | None:
        """Return how a segment is called here that a process called so in a store; None: not there."""
        return identity if root == self.directory.root else None

    def checked(self, name: str) -> str:
        """Return a name as it is looked for, or raise InvalidNameError."""
        return check_name(name)

    @contextlib.contextmanager
    def unheld(self, row: SegmentRow) -> Iterator[int]:
        """Open a segment's file to look at it: without a lock, so that it is not held."""
        fd = segment.open_unheld(self.path_of(row), self.directory.access)
        try:
            yield fd
        finally:
            os.close(fd)

    def opened(self, row: SegmentRow) -> AbstractContextManager[tuple[int, os.stat_result]]:
        """Open a segment's file; what is mapped of it meanwhile holds it."""
        return segment.shared(self.path_of(row), self.directory.access)

    def beside(self, row: SegmentRow, needed: str) -> str:  # noqa: ARG002 - all are this user's
        """Return how a segment is called here that another one refers to."""
        return needed

    def require_trust(self, row: SegmentRow, name: str) -> None:
        """Raise UntrustedError if an object was written by somebody else: to attach it runs code."""

    def path_of(self, row: SegmentRow) -> str:
        """Return the path of a segment's file."""
        return self.directory.path(row.id, overflow=row.overflow, kind=row.kind)

    def deleted(self, entries: Sequence[Entry]) -> JshmError:
        """Return the error for versions that are listed, and whose files are gone."""
        return CorruptSegmentError(
            f"the memory of {', '.join(entry.name for entry in entries)} was deleted by something other "
            "than jshm; `jshm check --fix` forgets what is gone"
        )
