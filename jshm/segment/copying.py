"""Copying an array into a segment: into its file with `pwrite`, or into memory that is already mapped.

Both copy piece by piece, so that Ctrl-C stops them and `progress` is told, and neither makes a private
copy of the whole array. The fastest way depends on the strides of the source. Measured with 1 GiB on two
cores, relative to one `numpy.copyto` of the same source into mapped memory:

==================================  =========  ===============  =================
source                              in memory  into a new file  of that, `pwrite`
==================================  =========  ===============  =================
contiguous, in C or in F order      1.0        8.2              8.2
``[::-1]``                          1.0        6.0              5.2
``[::2]``, ``[:, ::2]``             1.0        4.2              3.4
transposed, and in neither order    0.2–0.3    0.8              0.4
==================================  =========  ===============  =================

- For a new file, the kernel's search for memory takes the time; `posix_fallocate` alone takes as long. A
  second thread that fills the buffer meanwhile would gain a fifth at most.
- A strided source goes through a buffer. From 256 KiB to 4 MiB its size does not matter; 16 MiB do not fit
  into the processor's cache. `numpy.nditer`, which has its own buffer, takes a tenth longer.
- `numpy.copyto` reads a transposed source across the cache lines, one element of each. If they are evicted
  before their next element is read, a copy in tiles takes a half to a quarter of the time (`_tiled_axis`).

In every copy the bytes of an item that belong to no field are zero. In the source they hold old content of
the heap, or fields of another view (`records[["a", "b"]]`) that the user did not mean to share.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from . import file as segment_file
from . import progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from .array_layout import Order

    Array = np.ndarray[Any, Any]
    Buffer = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

# Bytes of a piece. Ctrl-C is noticed between pieces: every 10 ms.
_PIECE = 16 << 20
# Bytes of a piece of a contiguous array, which is copied at 10 GiB/s. Smaller pieces take 1.8 times as
# long: the C library bypasses the cache only for large copies, of 192 MiB for example.
_CONTIGUOUS_PIECE = 256 << 20
_BUFFER = 1 << 20
# Elements of a tile along the axis of the smallest stride, and along the last one. A shorter axis does not
# repay tiles.
_TILE = (2048, 16)
_LINE = 64
# Colours of a pixel at most: axes this short are copied one index at a time.
_FEW = 4
# Bytes of a cache line, cache lines that are kept, and bytes of address range in which they lie evenly.
_CACHE_LINE, _KEPT_LINES, _KEPT_RANGE = 64, 2048, 1 << 20
# The least number of bytes of a mask, so that it is applied in wide steps.
_MASK = 4096


def write(fd: int, offset: int, source: Array, order: Order) -> int:
    """Write an array's bytes, in C or F order, into a file; return the offset after them."""
    mask = mask_of(source.dtype)
    source = _elements(source, order)
    if _is_contiguous(source) and (mask is None or not source.nbytes):
        return write_bytes(fd, offset, [_raw(source)])
    # A tiled source needs a large buffer, so that the tiles are long.
    size = _PIECE if _tiled_axis(source) is not None else _BUFFER
    buffer = np.empty(max(min(size, source.nbytes), source.itemsize), np.uint8)
    for index in _pieces(source.shape, len(buffer) // source.itemsize):
        piece = source[index]
        _copy(buffer[: piece.nbytes].view(source.dtype).reshape(piece.shape), piece)
        _clear(buffer[: piece.nbytes], mask)
        offset = segment_file.write(fd, offset, [buffer[: piece.nbytes]])
        progress.advance(piece.nbytes)
    return offset


def write_bytes(fd: int, offset: int, buffers: Iterable[Buffer]) -> int:
    """Write buffers one after the other into a file; return the offset after the last one."""
    for piece in _cut(buffers, _PIECE):
        offset = segment_file.write(fd, offset, [piece])
        progress.advance(len(piece))
    return offset


def fill(destination: Array, source: Array) -> None:
    """Copy an array into another one of the same shape and dtype that shares no memory with it."""
    order: Order = "C" if destination.flags.c_contiguous else "F"
    mask = mask_of(source.dtype)
    target, source = _elements(destination, order), _elements(source, order)
    if mask is None and _is_contiguous(target) and _is_contiguous(source):
        fill_bytes(_raw(target), 0, [_raw(source)])
        return
    if not source.nbytes:
        return
    for index in _pieces(source.shape, max(1, _PIECE // source.itemsize)):
        piece, place = source[index], target[index]
        if mask is not None and not _is_contiguous(place):
            piece = _clear(packed(piece, "C"), mask).view(piece.dtype).reshape(piece.shape)
        _copy(place, piece)
        if _is_contiguous(place):
            _clear(_raw(place), mask)
        progress.advance(piece.nbytes)


def packed(source: Array, order: Order) -> npt.NDArray[np.uint8]:
    """Return a copy of an array's bytes, in C or F order."""
    mask = mask_of(source.dtype)
    source = _elements(source, order)
    copy = np.empty(source.nbytes, np.uint8)
    if source.nbytes:
        _copy(copy.view(source.dtype).reshape(source.shape), source)
        _clear(copy, mask)
    return copy


def fill_bytes(destination: npt.NDArray[np.uint8], offset: int, buffers: Iterable[Buffer]) -> int:
    """Copy buffers one after the other into memory; return the offset after the last one."""
    for piece in _cut(buffers, _CONTIGUOUS_PIECE):
        np.copyto(destination[offset : offset + len(piece)], np.frombuffer(piece, np.uint8))
        offset += len(piece)
        progress.advance(len(piece))
    return offset


def clear(array: Array) -> None:
    """Set the bytes between the fields of an array in C or F order to zero, in place."""
    mask = mask_of(array.dtype)
    if mask is not None and array.nbytes:
        _clear(_raw(_elements(array, "C" if array.flags.c_contiguous else "F")), mask)


def mask_of(dtype: np.dtype[Any]) -> npt.NDArray[np.uint8] | None:
    """Return a mask for the bytes of some items, 0 where no field is; None if fields cover all bytes."""
    if dtype.names is None:
        return None
    return _mask_of(dtype)


@lru_cache(maxsize=128)
def _mask_of(dtype: np.dtype[Any]) -> npt.NDArray[np.uint8] | None:
    item = np.zeros(dtype.itemsize, np.uint8)
    _uncover(item, dtype)
    if item.all():
        return None
    return np.tile(item, math.ceil(_MASK / len(item)))


def _uncover(item: npt.NDArray[np.uint8], dtype: np.dtype[Any]) -> None:
    """Set the bytes of an item that belong to a field."""
    if dtype.subdtype is not None:
        dtype, shape = dtype.subdtype
        for part in item.reshape(math.prod(shape), dtype.itemsize):
            _uncover(part, dtype)
    elif dtype.names is not None:
        for name in dtype.names:
            offset = dtype.fields[name][1]  # type: ignore[index]
            _uncover(item[offset : offset + dtype[name].itemsize], dtype[name])
    else:
        item[:] = 0xFF


def _clear(
    content: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8]:
    """Set the bytes that no field covers to zero, in place, and return the array."""
    if mask is not None:
        whole = len(content) - len(content) % len(mask)
        lines = content[:whole].reshape(-1, len(mask))
        np.bitwise_and(lines, mask, out=lines)
        content[whole:] &= mask[: len(content) - whole]
    return content


def _elements(array: Array, order: Order) -> Array:
    """Return a view whose C order is the wanted order, and whose elements are copied exactly."""
    array = np.asarray(array)
    if array.dtype.kind == "V" and array.itemsize:
        # Assigning structured values would skip the padding between fields, and take 5 times as long.
        array = array.view(np.dtype((np.void, array.itemsize)))
    return array.T if order == "F" else array


def _is_contiguous(array: Array) -> bool:
    return array.flags.c_contiguous or not array.nbytes


def _raw(array: Array) -> npt.NDArray[np.uint8]:
    """Return the bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8) if array.nbytes else np.empty(0, np.uint8)


def _tiled_axis(source: Array) -> int | None:
    """Return the axis of the smallest stride if a copy in tiles along it and the last axis is faster."""
    last = source.ndim - 1
    steps = [
        (abs(stride), -axis)
        for axis, stride in enumerate(source.strides)
        if stride and source.shape[axis] > 1
    ]
    axis = -min(steps)[1] if steps else last
    if axis == last or source.shape[axis] < _LINE:
        return None
    if source.shape[last] <= _FEW:
        return axis
    # In C order, this many elements are read between two neighbours, each from another cache line. The
    # cache cannot keep them all if they are many, or if their stride is a multiple of a large power of two,
    # because then they compete for few places.
    lines = math.prod(source.shape[axis + 1 :])
    step = abs(source.strides[last])
    evicted = lines > _KEPT_LINES or lines * (step & -step) > _KEPT_RANGE
    return axis if step >= _CACHE_LINE and evicted else None


def _copy(target: Array, source: Array) -> None:
    axis = _tiled_axis(source)
    if axis is None:
        np.copyto(target, source)
        return
    along, across = _TILE
    last = source.ndim - 1
    if source.shape[last] <= _FEW:
        across = 1
    before, between = (slice(None),) * axis, (slice(None),) * (last - axis - 1)
    for i in range(0, source.shape[axis], along):
        for j in range(0, source.shape[last], across):
            tile = (*before, slice(i, i + along), *between, slice(j, j + across))
            np.copyto(target[tile], source[tile])


def _pieces(shape: tuple[int, ...], limit: int) -> Iterator[tuple[Any, ...]]:
    """Yield the indices of pieces of an array, of at most `limit` elements, each contiguous in C order."""
    axis = 0
    while math.prod(shape[axis + 1 :]) > limit:
        axis += 1
    if axis == len(shape):
        yield (...,)
        return
    rows = max(1, limit // math.prod(shape[axis + 1 :]))
    for outer in product(*map(range, shape[:axis])):
        for start in range(0, shape[axis], rows):
            yield (*outer, slice(start, start + rows))


def _cut(buffers: Iterable[Buffer], size: int) -> Iterator[memoryview]:
    for buffer in buffers:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type, unused-ignore]
        for start in range(0, len(view), size):
            yield view[start : start + size]
