"""The layout of an array's segment, and every bounds check on it.

The segment is a valid ``.npy`` file (NumPy Enhancement Proposal 1; `numpy.lib.format`) followed by a
trailer (`jshm.segment.trailer`), which readers of ``.npy`` ignore.
"""

from __future__ import annotations

import ast
import math
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ..errors import CorruptSegmentError, NotShareableError
from ..text import cached_by_text
from .trailer import PAGE, aligned, alignment

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

Order = Literal["C", "F"]

NPY_MAGIC = b"\x93NUMPY"
# Kinds whose bytes are their value: without pointers, and not registered at run time.
_PLAIN_KINDS = frozenset("biufcSUVmM")
_HEADER_LIMIT = 1 << 20
_MAX_NDIM = 64


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """The positions of an array's parts in its segment.

    Attributes
    ----------
    descr : str
        The dtype as a Python literal, as `numpy.lib.format.dtype_to_descr` gives it.
    shape : tuple of int
    order : {'C', 'F'}
    header : bytes
        The ``.npy`` header, magic included; its length is a multiple of 64, or of 4096 before large data.
    nbytes : int
        Bytes of the data.
    dtype : dtype
        The dtype that `descr` describes.
    offset : int
        The start of the data, after the header.
    end : int
        The end of the data. A reader maps the file up to here.
    """

    descr: str
    shape: tuple[int, ...]
    order: Order
    header: bytes
    nbytes: int
    magic: ClassVar[bytes] = NPY_MAGIC
    dtype: np.dtype[Any] = field(init=False, repr=False, compare=False)
    offset: int = field(init=False, repr=False, compare=False)
    end: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Fields, not properties: layouts are cached, and an attach reads all of them.
        object.__setattr__(self, "dtype", dtype_of(self.descr))
        object.__setattr__(self, "offset", len(self.header))
        object.__setattr__(self, "end", len(self.header) + self.nbytes)

    @property
    def trailer_offset(self) -> int:
        """The start of the trailer."""
        return aligned(self.end)

    def view(self, root: Any) -> np.ndarray[Any, Any]:
        """Return the array in `root`, a buffer with the bytes of the segment from its start."""
        return np.ndarray(self.shape, self.dtype, root, self.offset, order=self.order)

    def verify(self, fd: int, size: int) -> None:
        """Raise CorruptSegmentError unless the file starts with exactly this header and is complete."""
        # With `pread`: reading the mapping would be a page fault.
        if os.pread(fd, len(self.header), 0) != self.header:
            raise CorruptSegmentError(
                "a segment differs from what the registry says: its header was overwritten. "
                "Release the name and publish again"
            )
        if size < self.end:
            raise CorruptSegmentError(
                f"a segment is truncated: {self.end} bytes expected, {size} found. Release the name "
                "and publish again"
            )


@cached_by_text(512)
def dtype_of(descr: str) -> np.dtype[Any]:
    """Return the dtype that a `descr` literal describes; CorruptSegmentError if it describes none."""
    try:
        dtype = np.lib.format.descr_to_dtype(ast.literal_eval(descr))
    except Exception:  # noqa: BLE001 - a SyntaxError would quote the file
        raise CorruptSegmentError(f"{descr[:80]!r} is not the description of a dtype") from None
    if dtype.hasobject:  # pointers, which another process could choose
        raise CorruptSegmentError(
            f"{descr[:80]!r} is not the description of a dtype that a segment holds: Python objects"
        )
    return dtype


def describe(shape: tuple[int, ...], dtype: npt.DTypeLike, order: Order = "C") -> ArrayLayout:
    """Return the layout of an array.

    Raises
    ------
    NotShareableError
        The dtype would not come back exactly, or needs a header that is too long to be read back.
    """
    layout = implied(_descr(np.dtype(dtype)), shape, order)
    if layout.offset > _HEADER_LIMIT:
        raise NotShareableError(
            f"a dtype that takes {layout.offset} bytes to describe, more than {_HEADER_LIMIT}, does not fit "
            "into a .npy file of jshm: publish an array of it as it is"
        )
    return layout


@cached_by_text(4096)
def implied(descr: str, shape: tuple[int, ...], order: Order) -> ArrayLayout:
    """Return the layout of an array from its `descr` literal, which is not checked, shape and order."""
    nbytes = math.prod(shape) * dtype_of(descr).itemsize
    header = _header(descr, shape, order, alignment(nbytes))
    return ArrayLayout(descr, shape, order, header, nbytes)


def describe_array(array: np.ndarray[Any, Any]) -> ArrayLayout:
    """Return the layout in which an array is stored, in the order that `order_of` tells."""
    return describe(array.shape, array.dtype, order_of(array))


def order_of(array: np.ndarray[Any, Any]) -> Order:
    """Return the order in which an array is stored: C, or F if its strides are in F order."""
    if array.flags.forc:
        return "C" if array.flags.c_contiguous else "F"
    # For the transpose of some columns a copy in F order is fast, and it is what numpy.copy makes.
    steps = [abs(step) for step, n in zip(array.strides, array.shape, strict=True) if n > 1]
    return "F" if 0 not in steps and len(steps) > 1 and steps == sorted(steps) else "C"


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is one of the common ones that a ``.npy`` file surely keeps exactly."""
    return dtype.isbuiltin == 1 and dtype.kind in _PLAIN_KINDS and not dtype.metadata


def _descr(dtype: np.dtype[Any]) -> str:
    # Not cached: dtypes that differ only in align flag or metadata are equal and have the same hash.
    if is_plain(dtype):
        return repr(dtype.str)
    if dtype.hasobject:
        raise NotShareableError(
            f"dtype {dtype} holds Python objects, which an array in shared memory cannot contain: "
            "publish an array of it as it is, or give it a plain dtype"
        )
    if reason := _inexact(dtype):
        raise NotShareableError(
            f"dtype {dtype} cannot be stored exactly in a .npy file: {reason}. Publish an array of it as "
            f"it is, or allocate its bytes: jshm.empty(shape, 'V{dtype.itemsize}').view(dtype)"
        )
    return repr(np.lib.format.dtype_to_descr(dtype))


def _inexact(dtype: np.dtype[Any]) -> str:
    """Return why a dtype would not come back exactly from ``.npy``; an empty string if it would."""
    for leaf in _parts(dtype):
        if leaf.isbuiltin == 2 or leaf.kind not in _PLAIN_KINDS:  # noqa: PLR2004 - NumPy's own code
            return f"{leaf} is not one of NumPy's own plain dtypes"
        if leaf.metadata:
            return "it carries metadata"
        if leaf.type is np.record:
            return "np.record is a subclass of np.void"
    try:
        back = np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype))
    except (ValueError, TypeError) as error:
        return str(error)
    if back != dtype:
        return f"it would come back as {back}"
    for mine, theirs in zip(_parts(dtype), _parts(back), strict=True):
        if mine.isalignedstruct != theirs.isalignedstruct:
            return "its align flag would be lost"
        # Equal numeric types may be different ones: C's long and long long, if both have 64 bits.
        if mine.type is not theirs.type and mine.kind not in "iufc":
            return f"{mine} would come back as {theirs}"
    return ""


def _parts(dtype: np.dtype[Any]) -> Iterator[np.dtype[Any]]:
    """Yield a dtype and all its parts."""
    yield dtype
    if dtype.subdtype is not None:
        yield from _parts(dtype.subdtype[0])
    for name in dtype.names or ():
        yield from _parts(dtype[name])


def _header(descr: str, shape: tuple[int, ...], order: Order, multiple: int) -> bytes:
    """Return a ``.npy`` header, as `numpy.lib.format` describes it."""
    text = f"{{'descr': {descr}, 'fortran_order': {order == 'F'}, 'shape': {shape!r}, }}"
    try:
        body, version = text.encode("latin1"), 1
    except UnicodeEncodeError:
        body, version = text.encode(), 3
    if len(body) + 2 * PAGE > 0xFFFF:  # noqa: PLR2004 - the largest number in two bytes
        version = max(version, 2)
    length = struct.Struct("<H" if version == 1 else "<I")
    head = len(NPY_MAGIC) + 2 + length.size
    size = aligned(head + len(body) + 1, multiple) - head
    padded = body.ljust(size - 1) + b"\n"
    return NPY_MAGIC + bytes((version, 0)) + length.pack(size) + padded


def read_layout(fd: int) -> ArrayLayout:
    """Parse and check the ``.npy`` header of an open segment.

    Raises
    ------
    CorruptSegmentError
        The header is not one that jshm wrote, or the data reach beyond the end of the file.
    """
    head = os.pread(fd, 12, 0)
    if len(head) < 12 or head[:6] != NPY_MAGIC:  # noqa: PLR2004 - magic, version, length
        raise CorruptSegmentError("not a complete .npy file")
    wide = head[6] > 1
    length = struct.unpack_from("<I" if wide else "<H", head, 8)[0] + (12 if wide else 10)
    if length > _HEADER_LIMIT:
        raise CorruptSegmentError(f"an .npy header of {length} bytes")
    raw = os.pread(fd, length, 0)
    try:
        text = raw[12 if wide else 10 :].decode("utf-8" if head[6] > 2 else "latin1")  # noqa: PLR2004
        fields = ast.literal_eval(text)
        order: Order = "F" if fields["fortran_order"] else "C"
        shape = as_shape(fields["shape"])
        layout = describe(shape, dtype_of(repr(fields["descr"])), order)
    except Exception as error:  # noqa: BLE001 - any error of the parsers
        raise CorruptSegmentError(f"unreadable .npy header: {error}") from None
    if layout.header != raw:
        raise CorruptSegmentError("an .npy header that jshm did not write")
    if layout.end > os.fstat(fd).st_size:
        raise CorruptSegmentError(
            f"truncated: {layout.end} bytes expected, {os.fstat(fd).st_size} found"
        )
    return layout


def as_shape(shape: Any) -> tuple[int, ...]:
    """Return a value that was read if it is a shape, else raise CorruptSegmentError.

    Call it before any cache: (True,) and (1.0,) equal (1,) and have the same hash.
    """
    if (
        isinstance(shape, tuple)
        and len(shape) <= _MAX_NDIM
        and all(type(n) is int and n >= 0 for n in shape)
    ):
        return shape
    raise CorruptSegmentError(f"not a shape: {shape!r:.80}")
