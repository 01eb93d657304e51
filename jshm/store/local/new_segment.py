"""A new segment: a file that is complete except for its first bytes, the magic.

Its maker keeps ``LOCK_EX`` on it until the transaction that registers it. Whatever happens before that
(an error, Ctrl-C, SIGKILL) leaves a file that is neither registered nor locked, which is garbage. The
maker defers signals until the file is closed: otherwise Ctrl-C could leave it open and locked.
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
from ...segment import file as segment_file
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
    from .registry.statements import Transaction
    from .space import Budget, Limit
    from .spares import Spare

Layout = ArrayLayout | ObjectLayout
# A part of an object: bytes as they are, or an array that is written in C order, whatever its strides.
Buffer = memoryview | np.ndarray[Any, Any]
# Smaller buffers are written together.
_SMALL = 1 << 16
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class NewSegment:
    """The file of a new segment, and its row.

    Attributes
    ----------
    layout : ArrayLayout or ObjectLayout
    row : SegmentRow
    path : File
    fd : int
        Owned; locked with `LOCK_EX` until `register`.
    spare : Spare or None
        The spare that the segment is written into, if the file is not a new one.
    """

    __slots__ = ("_end", "_registered", "directory", "fd", "layout", "path", "pid", "row", "spare")

    def __init__(
        self,
        directory: Directory,
        layout: Layout,
        identity: str,
        *,
        overflow: bool = False,
        writable: bool = False,
        spare: Spare | None = None,
    ) -> None:
        self.fd = -1
        self._end = 0
        self._registered = False
        self.pid = os.getpid()
        self.layout = layout
        self.row = SegmentRow.of(identity, layout, overflow=overflow, writable=writable)
        self.path = directory.path(identity, overflow=overflow, kind=self.row.kind)
        self.directory = directory
        self.spare = spare
        if spare is None:
            self.fd = segment_file.create(self.path, directory.access)
        else:
            self.fd = spare.fd
            if spare.path != self.path:  # the spare held a segment of the other kind
                rename(spare.path, self.path)
                spare.path = self.path

    def fill(self, write: Callable[[NewSegment], None]) -> None:
        """Write the data with `write`, then the header without the magic; on any error discard the file."""
        try:
            write(self)
            magic = len(self.layout.magic)
            segment_file.write(self.fd, magic, [self.layout.header[magic:]])
        except BaseException:
            self.discard()
            raise

    def map(self) -> segment_file.Mapping:
        """Return a mapping to write into."""
        if self.spare is not None:
            return self.spare.map()
        return segment_file.map_file(self.fd, self.layout.end, "r+", self.row.id)

    def register(
        self, tx: Transaction, versions: Sequence[dict[str, Any]] | None, *, wanted: bool
    ) -> None:
        """Add the segment's row, write its trailer and its magic, and let others map it.

        Parameters
        ----------
        tx : Transaction
            The one that assigns the versions.
        versions : sequence of dict, optional
            What the trailer says of each version; None: the segment has no name and gets no trailer.
        wanted : bool
            Whether anything but its holders keeps the segment.

        Raises
        ------
        RegistryError
            The file was removed or moved away while it was written.
        """
        self._registered = True
        # The directory may be another one than when the file was created.
        now = self.directory.overflow if self.row.overflow else self.directory.segments
        if now.identity != self.path.directory.identity or not os.fstat(self.fd).st_nlink:
            raise RegistryError(
                f"{self.path} was removed or moved while it was written; something deletes files in that "
                "directory (systemd's RemoveIPC at logout?). Publish again"
            )
        tx.add_segment(self.row, wanted=wanted)
        if versions is not None:
            self._end = _write_trailer(
                self.fd, self.directory.access, self.row, self.layout.trailer_offset, versions
            )
        # The magic comes last: before it, no process takes this file for a segment.
        segment_file.write(self.fd, 0, [self.layout.magic])
        file_locks.lock(self.fd, fcntl.LOCK_SH)

    def confirm(self) -> Spare | None:
        """Note in the trailer that the registry has committed it, and close the file.

        Returns
        -------
        Spare or None
            The spare that the segment was written into, still open; the caller owns it.
        """
        with contextlib.suppress(OSError):  # no room, on a disk that copies on write
            os.pwrite(self.fd, COMMITTED, self._end)
        spare = self.spare
        if spare is not None:
            self.fd = -1
        self.close()
        return spare

    def close(self) -> None:
        """Close the descriptor; the file stays."""
        self.spare = None  # its mapping would keep the lock
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0 and self.pid == os.getpid():
            file_locks.close(fd)

    def discard(self) -> None:
        """Close the file, and remove it unless it may be registered.

        A file that may be registered is only closed: if it is not, it is garbage, unlocked and unknown.
        """
        if self.fd >= 0 and not self._registered:
            if self.spare is not None:
                self.spare.empty()
            segment_file.unlink(self.path, self.fd)
        self.close()


# -- make ------------------------------------------------------------------------------------------


def write_array(
    budget: Budget, array: np.ndarray[Any, Any], layout: ArrayLayout, *, writable: bool = False
) -> NewSegment:
    """Return a new segment that holds a copy of `array`."""

    def write(new: NewSegment) -> None:
        if new.spare is not None:
            copying.fill(layout.view(segment_file.view(new.map())), array)
        elif layout.nbytes >= _SMALL:
            copying.write(new.fd, layout.offset, array, layout.order)
        elif copying.mask_of(array.dtype) is None:  # no padding to clear: this is faster
            segment_file.write(new.fd, layout.offset, [array.tobytes(layout.order)])
        else:
            segment_file.write(new.fd, layout.offset, [copying.packed(array, layout.order)])

    return _make(budget, layout, write, writable=writable)


def write_object(
    budget: Budget,
    layout: ObjectLayout,
    pickled: Sequence[bytes],
    buffers: Sequence[Buffer],
) -> NewSegment:
    """Return a new segment that holds a pickled object."""

    def write(new: NewSegment) -> None:
        end = copying.write_bytes(new.fd, layout.offset, pickled)
        for start, chunk in _joined(layout, buffers):
            if new.spare is None:
                end = _write(new.fd, start, chunk)
            else:
                content = segment_file.view(new.map())
                content[end:start] = 0  # an older version's bytes
                end = _fill(content, start, chunk)

    return _make(budget, layout, write)


def _write(fd: int, start: int, chunk: Buffer | bytearray) -> int:
    if isinstance(chunk, np.ndarray):
        return copying.write(fd, start, chunk, "C")
    return copying.write_bytes(fd, start, [chunk])


def _fill(content: npt.NDArray[np.uint8], start: int, chunk: Buffer | bytearray) -> int:
    if isinstance(chunk, np.ndarray):
        copying.fill(np.ndarray(chunk.shape, chunk.dtype, content, start), chunk)
        return start + chunk.nbytes
    return copying.fill_bytes(content, start, [chunk])


def _joined(
    layout: ObjectLayout, buffers: Sequence[Buffer]
) -> Iterator[tuple[int, bytearray | Buffer]]:
    """Yield offsets and what to write there; adjacent small buffers are joined into one system call."""
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


def reserve(budget: Budget, layout: ArrayLayout, *, zero: bool) -> NewSegment:
    """Return a new, writable segment with all its pages allocated, so that writing it never fails.

    Its data are zeros if `zero`; otherwise they are undefined.
    """

    def write(new: NewSegment) -> None:
        if new.spare is None:
            segment_file.reserve(new.fd, layout.trailer_offset)
            return
        content = segment_file.view(new.map())
        if zero or copying.mask_of(layout.dtype) is not None:  # padding is always zero
            content[layout.offset : layout.end] = 0
        # An older version's trailer.
        segment_file.write(new.fd, layout.trailer_offset, [bytes(ALIGNMENT)])

    return _make(budget, layout, write, writable=True)


def restore(
    budget: Budget, layout: Layout, identity: str, content: npt.NDArray[np.uint8]
) -> NewSegment:
    """Return a copy of a lost segment, with its id; `content` is all of its bytes."""

    def write(new: NewSegment) -> None:
        copying.write_bytes(new.fd, layout.offset, [content[layout.offset : layout.end]])

    return _make(budget, layout, write, identity)


def _make(
    budget: Budget,
    layout: Layout,
    write: Callable[[NewSegment], None],
    identity: str = "",
    *,
    writable: bool = False,
) -> NewSegment:
    """Return a new segment, written by `write`: into a spare, into memory, or on disk if memory is full."""
    directory, size = budget.directory, layout.trailer_offset
    if size >= segment_file.MIN_SPARE_SIZE and not identity:
        spare = budget.spares.take(size)
        if spare is not None:
            try:
                new = NewSegment(directory, layout, spare.identity, writable=writable, spare=spare)
            except FileNotFoundError:  # it, or its directory, was just removed
                spare.close()
            else:
                new.fill(write)
                return new
    limit = budget.choose(size)
    if limit is not None:
        _warn_of_overflow(budget, layout, limit)
    elif danger := budget.danger(size):
        warnings.warn(danger, LowMemoryWarning, stacklevel=outside())
    made_again = 0
    while True:
        overflow = limit is not None
        try:
            new = NewSegment(
                directory, layout, identity or segment_file.new_id(),
                overflow=overflow, writable=writable,
            )  # fmt: skip
            new.fill(write)
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
            needs = f"needs {size_text(size)}, and"
            if error.errno == errno.EFBIG:
                raise NoSpaceError(
                    f"{needs} this process may not write so large a file (`ulimit -f`)"
                ) from None
            # Others have filled the room that `choose` saw.
            place = directory.overflow if overflow else directory.segments
            if overflow or not directory.chosen_overflow:
                raise NoSpaceError(
                    f"{needs} {place} ran full while it was written ({error.strerror}). Free space "
                    "there"
                ) from None
            directory.open_overflow()
            limit = budget.ran_full()
            _warn_of_overflow(budget, layout, limit)
        else:
            if not overflow:
                budget.take(layout.nbytes)
            return new


def _warn_of_overflow(budget: Budget, layout: Layout, limit: Limit) -> None:
    """Warn, once per operation, that data go to disk, before they are written: that may take minutes."""
    if budget.overflows:
        return
    budget.overflows = True
    or_release = ", or release what you no longer need" if budget.could_be_released else ""
    warnings.warn(
        f"{size_text(layout.nbytes)} do not fit into shared memory ({limit}) and go to disk, in "
        f"{budget.directory.overflow}: slower, but safe. {limit.remedy}{or_release}",
        OverflowWarning,
        stacklevel=outside(),
    )


# -- trailers --------------------------------------------------------------------------------------


def rewrite_trailer(
    path: str, access: Access, row: SegmentRow, versions: Sequence[dict[str, Any]]
) -> None:
    """Write the trailer of a registered segment again, after its rows have changed.

    The trailer is replaced, not appended to: otherwise a segment that is republished again and again
    would grow without bound.

    Raises
    ------
    PermissionError
        The segment belongs to another user.
    """
    # A sealed file stays sealed, whatever the row says: members of a group can write rows.
    sealed = segment_file.open_unheld(path, access)
    try:
        if stat.S_IMODE(os.fstat(sealed).st_mode) == access.sealed:
            row = row._replace(writable=False)
        os.fchmod(sealed, access.own)
        fd = open_file(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            if not os.path.samestat(os.fstat(fd), os.fstat(sealed)):
                raise SegmentNotFoundError(f"{path} was replaced")
            if row.kind == "array":  # to compare the header is faster than to parse it
                layout: Layout = row.layout
                row.layout.verify(fd, os.fstat(fd).st_size)
            else:
                layout = layout_in(fd, row.kind)
            _write_trailer(fd, access, row, layout.trailer_offset, versions, committed=True)
        finally:
            os.close(fd)
    finally:
        os.close(sealed)


def layout_in(fd: int, kind: str) -> Layout:
    """Return the layout of an open segment, parsed and checked.

    Raises
    ------
    CorruptSegmentError, FormatVersionError
    """
    return read_layout(fd) if kind == "array" else read_object_layout(fd)


def _write_trailer(
    fd: int,
    access: Access,
    row: SegmentRow,
    offset: int,
    versions: Sequence[dict[str, Any]],
    *,
    committed: bool = False,
) -> int:
    """Write a trailer and its end mark, and seal the file unless the segment is writable.

    Returns
    -------
    int
        Where the end mark is.

    Raises
    ------
    NoSpaceError
    """
    try:
        trailer = pack_trailer(versions, committed=committed)
        segment_file.write(fd, offset, [trailer])
    except OSError as error:
        if error.errno in NO_SPACE:
            raise NoSpaceError(
                f"no room left for the trailer of a segment ({error.strerror}): free space on its file "
                "system, by a release or otherwise"
            ) from None
        raise
    os.fchmod(fd, access.live if row.writable else access.sealed)
    return offset + len(trailer) - ALIGNMENT
