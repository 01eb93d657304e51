"""A segment in the making: a file that is complete except for its name.

Its maker holds ``LOCK_EX`` until inside the transaction that registers it; whatever happens before
(an error, Ctrl-C, SIGKILL) leaves a file that nobody knows and nobody holds, which is garbage. Who makes
one defers signals (`interrupts`) from before until it is closed: else it could be left with nobody to
close it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import (
    LowMemoryWarning,
    NoSpaceError,
    OverflowWarning,
    RegistryError,
    SegmentNotFoundError,
    outside,
)
from ...segment import copying
from ...segment import file as segment
from ...segment.array_layout import ArrayLayout, read_layout
from ...segment.object_layout import ObjectLayout, read_object_layout
from ...segment.trailer import ALIGNMENT, COMMITTED, pack_trailer
from ...system import file_locks
from ...system.access import TRIES
from ...system.directories import open_file, rename
from ...text import size_text
from .registry.rows import SegmentRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from ...system.access import Access
    from .directory import Directory
    from .space import Limit, Room
    from .spares import Spare

Layout = ArrayLayout | ObjectLayout
# Of an object: bytes as they are, or an array that is written in C order, however it lies in memory.
Buffer = memoryview | np.ndarray[Any, Any]
# Buffers of fewer bytes are written together.
_SMALL = 1 << 16
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Draft:
    """The file of a new segment, and its row.

    Attributes
    ----------
    row : SegmentRow
    path : File
    fd : int
        Owned; locked with `LOCK_EX` until `unlock`.
    spare : Spare or None
        What it is written into, if it is no new file.
    """

    __slots__ = (
        "_end", "access", "directory", "fd", "layout", "offered", "path", "pid", "row", "spare",
    )  # fmt: skip

    def __init__(
        self,
        directory: Directory,
        layout: Layout,
        identity: str,
        *,
        overflow: bool = False,
        spare: Spare | None = None,
    ) -> None:
        self.fd = -1
        self._end = 0
        self.offered = False
        self.pid = os.getpid()
        self.layout = layout
        self.row = SegmentRow.of(identity, layout, overflow=overflow, writable=False)
        self.path = directory.path(identity, overflow=overflow, kind=self.row.kind)
        self.directory = directory
        self.access = directory.access
        self.spare = spare
        if spare is None:
            self.fd = segment.create(self.path, self.access)
        else:
            self.fd = spare.fd
            if spare.path != self.path:  # an object's, and what was in it was none, or the reverse
                rename(spare.path, self.path)
                spare.path = self.path

    def offer(self) -> None:
        """Get ready to be registered; RegistryError if the file was removed or moved away under us."""
        self.offered = True
        # The directory may be another one than when this was begun.
        now = self.directory.overflow if self.row.overflow else self.directory.segments
        if now.identity != self.path.directory.identity or not os.fstat(self.fd).st_nlink:
            raise RegistryError(
                f"{self.path} was removed or moved while it was written; something does that to files in "
                "that directory (systemd's RemoveIPC at logout?). Publish again"
            )

    def finish(self, row: SegmentRow, records: Sequence[dict[str, Any]]) -> None:
        """Let the segment say what it is, and let others map it; inside the registering transaction."""
        self._end = write_records(self.fd, self.access, row, self.layout.trailer_offset, records)
        # The magic is last: until here nobody takes this for a segment.
        segment.write(self.fd, 0, [self.layout.magic])
        self.unlock()

    def confirm(self) -> None:
        """Let the segment say that it is registered: call it once that is so, and before `close`."""
        with contextlib.suppress(OSError):  # no room, on a disk that copies on write
            os.pwrite(self.fd, COMMITTED, self._end)

    def unlock(self) -> None:
        """Let others map the segment; call it inside the registering transaction."""
        file_locks.lock(self.fd, fcntl.LOCK_SH)

    def map(self) -> segment.Mapping:
        """Return a mapping of it, to write into."""
        if self.spare is not None:
            return self.spare.map()
        return segment.map_file(self.fd, self.layout.end, "r+", self.row.id)

    def leave_spare(self) -> Spare | None:
        """Return the spare that it was written into, if it was: from now on the caller's."""
        spare, self.spare = self.spare, None
        if spare is not None:
            self.fd = -1
        return spare

    def close(self) -> None:
        """Close the descriptor; the file stays."""
        self.spare = None  # its mapping would keep the lock
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0 and self.pid == os.getpid():
            file_locks.close(fd)

    def discard(self) -> None:
        """Give the file up, and remove it unless it may be registered by now.

        Then only closing it is safe. If it is not registered, it is garbage: unlocked and unknown.
        """
        if self.fd >= 0 and not self.offered:
            if self.spare is not None:
                self.spare.empty()
            segment.unlink(self.path, self.fd)
        self.close()


def write_array(room: Room, array: np.ndarray[Any, Any], layout: ArrayLayout) -> Draft:
    """Return a draft that holds a copy of `array`; only its first bytes, the magic, are missing."""

    def fill(draft: Draft) -> None:
        if draft.spare is not None:
            copying.fill(layout.view(segment.view(draft.map())), array)
        elif layout.nbytes < _SMALL:
            if copying.mask_of(array.dtype) is None:  # nothing to clear: this is faster
                segment.write(draft.fd, layout.offset, [array.tobytes(layout.order)])
            else:
                segment.write(draft.fd, layout.offset, [copying.packed(array, layout.order)])
        else:
            copying.write(draft.fd, layout.offset, array, layout.order)

    return _make(room, layout, fill)


def write_object(
    room: Room,
    layout: ObjectLayout,
    pickled: Sequence[bytes],
    buffers: Sequence[Buffer],
) -> Draft:
    """Return a draft that holds a pickled object; only its first bytes, the magic, are missing."""

    def fill(draft: Draft) -> None:
        end = copying.write_bytes(draft.fd, layout.offset, pickled)
        for start, chunk in _gathered(layout, buffers):
            if draft.spare is None:
                end = _write(draft.fd, start, chunk)
            else:
                content = segment.view(draft.map())
                content[end:start] = 0  # what an older version had there
                end = _fill(content, start, chunk)

    return _make(room, layout, fill)


def _write(fd: int, start: int, chunk: Buffer | bytearray) -> int:
    if isinstance(chunk, np.ndarray):
        return copying.write(fd, start, chunk, "C")
    return copying.write_bytes(fd, start, [chunk])


def _fill(content: npt.NDArray[np.uint8], start: int, chunk: Buffer | bytearray) -> int:
    if isinstance(chunk, np.ndarray):
        copying.fill(np.ndarray(chunk.shape, chunk.dtype, content, start), chunk)
        return start + chunk.nbytes
    return copying.fill_bytes(content, start, [chunk])


def _gathered(
    layout: ObjectLayout, buffers: Sequence[Buffer]
) -> Iterator[tuple[int, bytearray | Buffer]]:
    """Yield what is to be written where; small buffers together, for one call of the system."""
    start, small = 0, bytearray()
    for (first, _), buffer in zip(layout.spans(), buffers, strict=True):
        if small and (buffer.nbytes >= _SMALL or len(small) >= _SMALL):
            yield start, small
            small = bytearray()
        if buffer.nbytes >= _SMALL:
            yield first, buffer
            continue
        if not small:
            start = first
        small += bytes(first - start - len(small))
        small += copying.packed(buffer, "C").data if isinstance(buffer, np.ndarray) else buffer
    if small:
        yield start, small


def reserve(room: Room, layout: ArrayLayout, *, zero: bool) -> Draft:
    """Return a draft with every page allocated: writing never fails. Its data are zeros if `zero`."""

    def fill(draft: Draft) -> None:
        if draft.spare is None:
            segment.reserve(draft.fd, layout.trailer_offset)
            return
        content = segment.view(draft.map())
        if zero or copying.mask_of(layout.dtype) is not None:  # nobody writes between the fields
            content[layout.offset : layout.end] = 0
        # What an older version said of itself.
        segment.write(draft.fd, layout.trailer_offset, [bytes(ALIGNMENT)])

    return _make(room, layout, fill)


def restore(room: Room, layout: Layout, identity: str, content: npt.NDArray[np.uint8]) -> Draft:
    """Return a draft of a segment that had this id, and all of whose bytes are `content`."""

    def fill(draft: Draft) -> None:
        copying.write_bytes(draft.fd, layout.offset, [content[layout.offset : layout.end]])

    return _make(room, layout, fill, identity)


def _make(room: Room, layout: Layout, fill: Callable[[Draft], None], identity: str = "") -> Draft:
    directory = room.directory
    draft = None if identity else _over_spare(room, layout)
    if draft is not None:
        return _filled(draft, fill)
    limit = room.choose(layout.trailer_offset)
    if limit is not None:
        _warn_of_overflow(room, layout, limit)
    elif danger := room.danger(layout.trailer_offset):
        warnings.warn(danger, LowMemoryWarning, stacklevel=outside())
    made_again = 0
    while True:
        overflow = limit is not None
        try:
            draft = Draft(directory, layout, identity or segment.new_id(), overflow=overflow)
            _filled(draft, fill)
        except FileNotFoundError:  # the directory was removed
            made_again += 1
            if made_again > TRIES:
                raise RegistryError(
                    f"{directory.segments} is removed again and again. Something deletes files in that "
                    "directory. Publish again"
                ) from None
            if overflow:
                directory.open_overflow()
            else:
                directory.make_again()
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            needs = f"needs {size_text(layout.trailer_offset)}, and"
            if error.errno == errno.EFBIG:
                raise NoSpaceError(
                    f"{needs} this process may not write so large a file (`ulimit -f`)"
                ) from None
            # What `choose` saw was taken by somebody else meanwhile.
            place = directory.overflow if overflow else directory.segments
            if overflow or not directory.chosen_overflow:
                raise NoSpaceError(
                    f"{needs} {place} ran full while it was written ({error.strerror}). Free space "
                    "there"
                ) from None
            directory.open_overflow()
            limit = room.ran_full()
            _warn_of_overflow(room, layout, limit)
        else:
            if not overflow:
                room.take(layout.nbytes)
            return draft


def _over_spare(room: Room, layout: Layout) -> Draft | None:
    if layout.trailer_offset < segment.MIN_SPARE_SIZE:
        return None
    spare = room.spares.take(layout.trailer_offset)
    if spare is None:
        return None
    try:
        return Draft(room.directory, layout, spare.identity, spare=spare)
    except FileNotFoundError:  # just removed, or its directory was
        spare.close()
        return None


def _filled(draft: Draft, fill: Callable[[Draft], None]) -> Draft:
    """Write all but the magic; whatever goes wrong, nothing is left."""
    try:
        fill(draft)
        magic = len(draft.layout.magic)
        segment.write(draft.fd, magic, [draft.layout.header[magic:]])
    except BaseException:
        draft.discard()
        raise
    return draft


def _warn_of_overflow(room: Room, layout: Layout, limit: Limit) -> None:
    """Say before it is written, which may take minutes, that data go to disk; once of each operation."""
    if room.overflows:
        return
    room.overflows = True
    or_release = ", or release what you can spare" if room.could_be_released else ""
    warnings.warn(
        f"{size_text(layout.nbytes)} do not fit into shared memory ({limit}) and go to disk, in "
        f"{room.directory.overflow}: slower, but safe. {limit.remedy}{or_release}",
        OverflowWarning,
        stacklevel=outside(),
    )


def rewrite_records(
    path: str, access: Access, row: SegmentRow, contents: Sequence[dict[str, Any]]
) -> None:
    """Let a registered segment say of itself what its rows say.

    Anew and not appended: who republishes the same segment for ever must not let the file grow.
    PermissionError if it is another user's.
    """
    # What was sealed stays so, whatever the row says: members of a group can write rows.
    sealed = segment.open_unheld(path, access)
    try:
        if stat.S_IMODE(os.fstat(sealed).st_mode) == access.sealed:
            row = row._replace(writable=False)
        os.fchmod(sealed, access.own)
        fd = open_file(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            if not os.path.samestat(os.fstat(fd), os.fstat(sealed)):
                raise SegmentNotFoundError(f"{path} was replaced")
            if row.kind == "array":  # what the registry implies is compared faster than parsed
                layout: Layout = row.layout
                row.layout.verify(fd, os.fstat(fd).st_size)
            else:
                layout = layout_in(fd, row.kind)
            write_records(fd, access, row, layout.trailer_offset, contents, committed=True)
        finally:
            os.close(fd)
    finally:
        os.close(sealed)


def layout_in(fd: int, kind: str) -> Layout:
    """Parse and check what an open segment is.

    Raises
    ------
    CorruptSegmentError, FormatVersionError
    """
    return read_layout(fd) if kind == "array" else read_object_layout(fd)


def write_records(
    fd: int,
    access: Access,
    row: SegmentRow,
    offset: int,
    contents: Sequence[dict[str, Any]],
    *,
    committed: bool = False,
) -> int:
    """Write what a segment says of itself, and an end to it; seal the file unless it is writable.

    Returns
    -------
    int
        Where the records end.

    Raises
    ------
    NoSpaceError
    """
    try:
        said = pack_trailer(contents, committed=committed)
        segment.write(fd, offset, [said])
    except OSError as error:
        if error.errno in NO_SPACE:
            raise NoSpaceError(
                f"no room left for what a segment says of itself ({error.strerror}): make room on "
                "its file system, by a release or otherwise"
            ) from None
        raise
    os.fchmod(fd, access.live if row.writable else access.sealed)
    return offset + len(said) - ALIGNMENT
