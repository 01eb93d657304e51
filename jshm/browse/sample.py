"""A bounded sample of an array, read and not mapped: a truncated file must not kill the server.

At most about 100,000 values and a few thousand pieces are read, however large the array is.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ..segment.array_layout import ArrayLayout
    from ..store.base import Reader

WHOLE = 100_000
"""An array with at most this number of values is read completely."""

STRETCHES = 512
_RUN = 128
# Bytes. One read of a whole span takes less time than one read for each value in it.
_SPAN = 1 << 18
_MOST_READS = 4096
# The fractional part of the golden ratio: its multiples modulo 1 are spread evenly and without a period.
_SPREAD = 0.6180339887498949


class Stretches(NamedTuple):
    """Values from everywhere in an array, in the order of its memory.

    Attributes
    ----------
    values : ndarray, one-dimensional
    starts : list of int
        The index in `values` at which each stretch of the array begins.
    """

    values: np.ndarray[Any, Any]
    starts: list[int]


def stretches(reader: Reader, layout: ArrayLayout) -> Stretches:
    """Return values from equal stretches of an array: all values, or one run from each stretch.

    The array has at least one value, and its values are as small as numbers.
    """
    count = math.prod(layout.shape)
    parts = min(count, STRETCHES)
    if count <= WHOLE:
        data = reader.read(layout.offset, layout.nbytes)
        starts = [i * count // parts for i in range(parts)]
        return Stretches(np.frombuffer(data, layout.dtype), starts)
    size = layout.dtype.itemsize
    runs = []
    for i in range(parts):
        first, end = i * count // parts, (i + 1) * count // parts
        # At a different place in each stretch: the same place may always be the same column of a matrix.
        first += int(i * _SPREAD % 1 * (end - first - _RUN))
        runs.append(reader.read(layout.offset + first * size, _RUN * size))
    values = np.frombuffer(b"".join(runs), layout.dtype)
    return Stretches(values, [i * _RUN for i in range(parts)])


def centres(length: int, parts: int) -> list[int]:
    """Return the index in the middle of each of `parts` equal parts."""
    return [(2 * i + 1) * length // (2 * parts) for i in range(parts)]


def grid(
    reader: Reader, layout: ArrayLayout, index: dict[int, list[int]]
) -> np.ndarray[Any, Any] | None:
    """Return the values at all combinations of indices on some axes; None if that takes too many reads.

    Parameters
    ----------
    reader : Reader
    layout : ArrayLayout
    index : dict of int to list of int
        Axis → ascending indices. The result has these axes in this order; all other axes are at index 0.
    """
    size = layout.dtype.itemsize
    strides = _strides(layout)
    slow = sorted(index, key=lambda axis: -strides[axis])
    fast: list[int] = []
    span = size
    while slow:
        axis = slow[-1]
        wider = span + (index[axis][-1] - index[axis][0]) * strides[axis]
        if wider > _SPAN:
            break
        span = wider
        fast.insert(0, slow.pop())
    if math.prod(len(index[axis]) for axis in slow) > _MOST_READS:
        return None
    first = layout.offset + sum(index[axis][0] * strides[axis] for axis in fast)
    starts = itertools.product(*([i * strides[axis] for i in index[axis]] for axis in slow))
    within = _offsets([index[axis] for axis in fast], [strides[axis] for axis in fast])
    pieces = [_pick(reader.read(first + sum(start), span), within, size) for start in starts]
    order = [*slow, *fast]
    found = np.frombuffer(b"".join(pieces), layout.dtype)
    found = found.reshape([len(index[axis]) for axis in order])
    return found.transpose([order.index(axis) for axis in index])


def _strides(layout: ArrayLayout) -> list[int]:
    strides, step = [0] * len(layout.shape), layout.dtype.itemsize
    axes = range(len(layout.shape))
    for axis in axes if layout.order == "F" else reversed(axes):
        strides[axis] = step
        step *= layout.shape[axis]
    return strides


def offset_of(layout: ArrayLayout, index: Sequence[int]) -> int:
    """Return the offset in the segment of the value at an index."""
    steps = zip(index, _strides(layout), strict=True)
    return layout.offset + sum(i * stride for i, stride in steps)


def _offsets(index: list[Sequence[int]], strides: list[int]) -> npt.NDArray[np.int64]:
    """Return the offset of each value of a piece, from the start of the piece."""
    found = np.zeros(1, np.int64)
    for positions, stride in zip(index, strides, strict=True):
        steps = [(i - positions[0]) * stride for i in positions]
        found = (found[:, None] + np.array(steps, np.int64)).reshape(-1)
    return found


def _pick(data: bytes, offsets: npt.NDArray[np.int64], size: int) -> bytes:
    raw = np.frombuffer(data, np.uint8)
    picked: bytes = raw[offsets[:, None] + np.arange(size)].tobytes()
    return picked
