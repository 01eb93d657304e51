"""How bytes get into a segment: into its file with `pwrite`, or into memory that is mapped already.

Both ways go piece by piece, so that Ctrl-C stops them and progress can be shown, and never make a
private copy of the whole: what does not lie in the wanted order goes through a buffer that stays in
the processor's cache.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from . import progress, segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from .layout import Order

    Array = np.ndarray[Any, Any]
    Buffer = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

# Ctrl-C is noticed between pieces.
_PIECE = 16 << 20
_BOUNCE = 1 << 20


def write(fd: int, offset: int, source: Array, order: Order) -> int:
    """Write an array's bytes in the given order into a file; return the offset behind them."""
    source = _bytes_of(source, order)
    if source.flags.c_contiguous:
        return write_bytes(fd, offset, [source.reshape(-1).view(np.uint8)])
    bounce = np.empty(min(source.nbytes, max(_BOUNCE, source.itemsize)), np.uint8)
    for index in _pieces(source.shape, len(bounce) // source.itemsize):
        part = source[index]
        _copy(bounce[: part.nbytes].view(source.dtype).reshape(part.shape), part)
        offset = segment.write(fd, offset, [bounce[: part.nbytes]])
        progress.advance(part.nbytes)
    return offset


def write_bytes(fd: int, offset: int, buffers: Iterable[Buffer]) -> int:
    """Write buffers one after the other into a file; return the offset behind the last one."""
    for piece in _cut(buffers):
        offset = segment.write(fd, offset, [piece])
        progress.advance(len(piece))
    return offset


def fill(destination: Array, source: Array) -> None:
    """Copy an array into another one of the same shape and dtype, which is C- or F-contiguous."""
    order: Order = "C" if destination.flags.c_contiguous else "F"
    target, source = _bytes_of(destination, order), _bytes_of(source, order)
    for index in _pieces(source.shape, max(1, _PIECE // max(1, source.itemsize))):
        _copy(target[index], source[index])
        progress.advance(target[index].nbytes)


def fill_bytes(destination: npt.NDArray[np.uint8], offset: int, buffers: Iterable[Buffer]) -> int:
    """Copy buffers one after the other into memory; return the offset behind the last one."""
    for piece in _cut(buffers):
        np.copyto(destination[offset : offset + len(piece)], np.frombuffer(piece, np.uint8))
        offset += len(piece)
        progress.advance(len(piece))
    return offset


def _bytes_of(array: Array, order: Order) -> Array:
    """Return a view in C order of elements that are mere bytes.

    A copy of them is exact: assigning structured values would leave out what pads their fields.
    """
    array = np.asarray(array)
    array = array.view(np.dtype((np.void, array.itemsize))) if array.itemsize else array
    return array.T if order == "F" else array


def _copy(target: Array, source: Array) -> None:
    np.copyto(target, source)


def _pieces(shape: tuple[int, ...], limit: int) -> Iterator[tuple[Any, ...]]:
    """Yield what cuts an array, in C order, into pieces of at most `limit` elements, contiguous ones."""
    axis = 0
    while math.prod(shape[axis + 1 :]) > limit:
        axis += 1
    if axis == len(shape):  # a single element
        yield (...,)
        return
    rows = max(1, limit // max(1, math.prod(shape[axis + 1 :])))
    for outer in product(*map(range, shape[:axis])):
        for start in range(0, shape[axis], rows):
            yield (*outer, slice(start, start + rows))


def _cut(buffers: Iterable[Buffer]) -> Iterator[memoryview]:
    for buffer in buffers:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type, unused-ignore]
        for start in range(0, len(view), _PIECE):
            yield view[start : start + _PIECE]
