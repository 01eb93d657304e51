"""How bytes get into a segment: into its file with `pwrite`, or into memory that is mapped already.

Both go piece by piece, so that Ctrl-C stops them and `progress` is told, and neither makes a private
copy of the whole. Which way is the fastest depends on how the source lies in memory. Measured with
1 GiB on two cores, relative to one `numpy.copyto` of the same source into memory that is mapped:

==================================  =========  ===============  =================
source                              in memory  into a new file  of that, `pwrite`
==================================  =========  ===============  =================
contiguous, in C or in F order      1.0        8.2              8.2
``[::-1]``                          1.0        6.0              5.2
``[::2]``, ``[:, ::2]``             1.0        4.2              3.4
transposed, and in neither order    0.2–0.3    0.8              0.4
==================================  =========  ===============  =================

- A new file costs what the kernel takes to find memory for it; `posix_fallocate` alone takes as long.
  Where a second thread filled the buffer meanwhile, a fifth could be gained at most.
- What is strided goes through a buffer. From 256 KiB to 4 MiB its size does not matter; with 16 MiB it
  leaves the processor's cache; `numpy.nditer`, which has a buffer of its own, takes a tenth longer.
- `numpy.copyto` reads a transposed source across the lines of memory, one element of each. Where the
  cache does not keep them until the next element is wanted, tiles are three to six times as fast.

Bytes of an item that belong to no field are zero in every copy. In the source they are what the heap held
before, or fields of another view (`records[["a", "b"]]`) that nobody meant to share.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from . import file as segment
from . import progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from .array_layout import Order

    Array = np.ndarray[Any, Any]
    Buffer = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

# Ctrl-C is noticed between pieces: every 10 ms.
_PIECE = 16 << 20
# Of what is copied as it is, at 10 GiB/s. In smaller ones it takes 1.8 times as long: only from some size
# on, which may be 192 MiB, does the C library write past the cache.
_CONTIGUOUS_PIECE = 256 << 20
_BUFFER = 1 << 20
# Elements of a tile: along the source's lines, and across them. Shorter lines are not worth one.
_TILE = (2048, 16)
_LINE = 64
# So many pixels have the colours of one: taken one by one, lines are long.
_FEW = 4
# Of the usual second-level cache: it keeps a line of memory in one of some ways of one set, which is the
# one that some bits of its address say.
_CACHE_LINE, _CACHE_SETS, _CACHE_WAYS = 64, 1024, 8
# A mask is at least so long: the processor takes it in wide steps.
_MASK = 4096


def write(fd: int, offset: int, source: Array, order: Order) -> int:
    """Write an array's bytes, in C or F order, into a file; return the offset behind them."""
    mask = mask_of(source.dtype)
    source = _elements(source, order)
    if _is_contiguous(source) and (mask is None or not source.nbytes):
        return write_bytes(fd, offset, [_raw(source)])
    # Of a transposed source it must hold many lines.
    size = _PIECE if _lines(source) is not None else _BUFFER
    buffer = np.empty(max(min(size, source.nbytes), source.itemsize), np.uint8)
    for index in _pieces(source.shape, len(buffer) // source.itemsize):
        piece = source[index]
        _copy(buffer[: piece.nbytes].view(source.dtype).reshape(piece.shape), piece)
        _clear(buffer[: piece.nbytes], mask)
        offset = segment.write(fd, offset, [buffer[: piece.nbytes]])
        progress.advance(piece.nbytes)
    return offset


def write_bytes(fd: int, offset: int, buffers: Iterable[Buffer]) -> int:
    """Write buffers one after the other into a file; return the offset behind the last one."""
    for piece in _cut(buffers, _PIECE):
        offset = segment.write(fd, offset, [piece])
        progress.advance(len(piece))
    return offset


def fill(destination: Array, source: Array) -> None:
    """Copy an array into another one of the same shape and dtype, which shares no memory with it."""
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
    """Copy buffers one after the other into memory; return the offset behind the last one."""
    for piece in _cut(buffers, _CONTIGUOUS_PIECE):
        np.copyto(destination[offset : offset + len(piece)], np.frombuffer(piece, np.uint8))
        offset += len(piece)
        progress.advance(len(piece))
    return offset


def clear(array: Array) -> None:
    """Set the bytes between the fields of an array, which lies in C or F order, to zero where it is."""
    mask = mask_of(array.dtype)
    if mask is not None and array.nbytes:
        _clear(_raw(_elements(array, "C" if array.flags.c_contiguous else "F")), mask)


def mask_of(dtype: np.dtype[Any]) -> npt.NDArray[np.uint8] | None:
    """Return what to AND with the bytes of some items: 0 where no field is. None: fields cover all."""
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
    """Set those bytes of an item that are of its value."""
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
    """Set the bytes that no field covers to zero, in the bytes of contiguous items; return these."""
    if mask is not None:
        whole = len(content) - len(content) % len(mask)
        lines = content[:whole].reshape(-1, len(mask))
        np.bitwise_and(lines, mask, out=lines)
        content[whole:] &= mask[: len(content) - whole]
    return content


def _elements(array: Array, order: Order) -> Array:
    """Return an array so that C order is the order wanted, and a copy of its elements is exact."""
    array = np.asarray(array)
    if array.dtype.kind == "V" and array.itemsize:
        # Assigning structured values would leave out what pads their fields, and take 5 times as long.
        array = array.view(np.dtype((np.void, array.itemsize)))
    return array.T if order == "F" else array


def _is_contiguous(array: Array) -> bool:
    return array.flags.c_contiguous or not array.nbytes


def _raw(array: Array) -> npt.NDArray[np.uint8]:
    """Return the bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8) if array.nbytes else np.empty(0, np.uint8)


def _lines(source: Array) -> int | None:
    """Return the axis along which a source lies in memory, if it is better read along that in tiles."""
    last = source.ndim - 1
    steps = [
        (abs(stride), -axis)
        for axis, stride in enumerate(source.strides)
        if stride and source.shape[axis] > 1
    ]
    axis = -min(steps)[1] if steps else last
    if axis == last or source.shape[axis] < _LINE:
        return None
    across = source.shape[last]
    return axis if across <= _FEW or across > _kept(source.strides[last]) else None


def _kept(step: int) -> float:
    """Return how many lines of memory, so many bytes apart, the cache keeps until the next element."""
    if not step:
        return math.inf
    size = _CACHE_LINE * _CACHE_SETS
    return _CACHE_WAYS * min(_CACHE_SETS, size // math.gcd(step, size))


def _copy(target: Array, source: Array) -> None:
    axis = _lines(source)
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
    """Yield what cuts an array into pieces of at most `limit` elements, in C order, each contiguous."""
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
