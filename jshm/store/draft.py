"""A segment in the making: a file that is complete except for its name.

Its maker holds ``LOCK_EX`` until inside the transaction that registers it; whatever happens before
(an error, Ctrl-C, SIGKILL) leaves a file that nobody knows and nobody holds, which is garbage.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Any

from .. import segment
from ..errors import NoSpaceError, RegistryError
from ..layout import NPY_MAGIC, ArrayLayout, chunks, record
from ..rows import SegmentRow
from ..text import size_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from .directory import Directory

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Draft:
    """The file of a new segment, and its row.

    Attributes
    ----------
    row : SegmentRow
    path : str
    fd : int
        Owned; locked with `LOCK_EX` until `unlock`.
    """

    __slots__ = ("fd", "layout", "path", "row")

    def __init__(self, directory: Directory, layout: ArrayLayout, *, overflow: bool) -> None:
        identity = segment.new_id()
        self.layout = layout
        self.row = SegmentRow.of(identity, layout, overflow=overflow, writable=False)
        self.path = directory.path(identity, overflow=overflow)
        self.fd = segment.create(self.path)

    def check_linked(self) -> None:
        """Raise RegistryError if the file was removed under us (`rm -r`, logout)."""
        if not os.fstat(self.fd).st_nlink:
            raise RegistryError(
                f"{self.path} was removed while it was written; something deletes files in that "
                "directory (systemd's RemoveIPC at logout?). Publish again"
            )

    def unlock(self) -> None:
        """Let others map the segment; call it inside the registering transaction."""
        fcntl.flock(self.fd, fcntl.LOCK_SH)

    def close(self) -> None:
        """Close the descriptor; the file stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def discard(self) -> None:
        """Remove the file."""
        segment.unlink(self.path)
        self.close()


def write_array(directory: Directory, array: np.ndarray[Any, Any], layout: ArrayLayout) -> Draft:
    """Return a draft that holds a copy of `array`; only its first bytes, the magic, are missing."""

    def fill(draft: Draft) -> None:
        offset = segment.write(draft.fd, len(NPY_MAGIC), [layout.header[len(NPY_MAGIC) :]])
        segment.write(draft.fd, offset, chunks(array, layout.order))

    return _make(directory, layout, fill)


def reserve(directory: Directory, layout: ArrayLayout) -> Draft:
    """Return a draft whose data are zeros, with every page allocated: writing never fails."""

    def fill(draft: Draft) -> None:
        segment.reserve(draft.fd, layout.records)
        segment.write(draft.fd, 0, [layout.header])

    return _make(directory, layout, fill)


def _make(directory: Directory, layout: ArrayLayout, fill: Callable[[Draft], None]) -> Draft:
    overflow = directory.choose(layout.records)
    while True:
        draft = None
        try:
            draft = Draft(directory, layout, overflow=overflow)
            fill(draft)
        except BaseException as error:
            if draft is not None:
                draft.discard()
            if not isinstance(error, OSError) or error.errno not in NO_SPACE:
                raise
            # What `choose` saw was taken by somebody else meanwhile, or a quota is tighter.
            if overflow or not directory.overflow:
                place = directory.overflow if overflow else directory.segments
                raise NoSpaceError(
                    f"needs {size_text(layout.records)}, and {place} ran full while it was written "
                    f"({error.strerror})"
                ) from None
            directory.open_overflow()
            overflow = True
        else:
            return draft


def append_record(fd: int, offset: int, content: dict[str, Any]) -> None:
    """Append what a segment says of itself, behind the records that it has.

    Raises
    ------
    NoSpaceError
    """
    try:
        segment.write(fd, offset, [record(content)])
    except OSError as error:
        if error.errno in NO_SPACE:
            raise NoSpaceError(
                f"no room left for a segment's name ({error.strerror}): release names you no "
                "longer need"
            ) from None
        raise
