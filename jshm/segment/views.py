"""References to views: a segment's id, and the position of the view in it.

The offset is that of the first element, not of the lowest byte that the view touches: for ``m[::-1]`` they
differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CorruptSegmentError
from . import file as segment_file
from . import pages

if TYPE_CHECKING:
    from .file import Mapping, Mode


# Bytes along one axis: far more than any memory, and the sum over 64 axes fits into 64 bits.
_FARTHEST = 1 << 56


@dataclass(frozen=True, slots=True)
class Reference:
    """The position of a view in a segment, without its memory.

    Attributes
    ----------
    segment : str
    mode : {'r', 'r+', 'c'}
    offset : int
        Bytes from the start of the segment to the view's first element.
    dtype : dtype
    shape : tuple of int
    strides : tuple of int
        In bytes.
    """

    segment: str
    mode: Mode
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, mapping: Mapping) -> np.ndarray[Any, Any]:
        """Return the view in a mapping of its segment.

        Raises
        ------
        CorruptSegmentError
            The view would reach outside the segment.
        """
        root = segment_file.view(mapping)
        try:
            if self.dtype.hasobject:
                raise TypeError("Python objects in shared memory")
            if 0 in self.shape:
                return np.ndarray(self.shape, self.dtype, root)
            # NumPy checks the bounds, but takes a first axis of -1 for "as many as there are".
            if min(self.shape, default=1) < 0 or not 0 <= self.offset <= len(root):
                raise ValueError(f"shape {self.shape} from {self.offset}")
            # It computes in 64 bits: an offset that wraps around would look as if it were inside.
            reaches = map(mul, map(abs, self.strides), map((-1).__add__, self.shape))
            if max(reaches, default=0) > _FARTHEST:
                raise ValueError(f"strides {self.strides}")
            return np.ndarray(self.shape, self.dtype, root, self.offset, self.strides)
        except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
            raise CorruptSegmentError(
                f"a reference reaches outside segment {self.segment}: {error}"
            ) from error


def reference_to(array: np.ndarray[Any, Any]) -> Reference | None:
    """Return a reference to an array that is in a segment, else None."""
    mapping = segment_file.find_mapping(array)
    if mapping is None:
        return None
    offset = address_of(array) - mapping.address
    return Reference(mapping.segment, mapping.mode, offset, array.dtype, array.shape, array.strides)


def address_of(array: np.ndarray[Any, Any]) -> int:
    """Return the address of an array's first element."""
    address: int = array.__array_interface__["data"][0]
    return address


def reach(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Return the addresses where the bytes of an array begin and end; the array is not empty."""
    reaches = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    address = address_of(array)
    low = address + sum(reach for reach in reaches if reach < 0)
    return low, address + sum(reach for reach in reaches if reach > 0) + array.itemsize


def shows_segment(array: np.ndarray[Any, Any]) -> bool:
    """Return whether an array shows the data of its segment: no page of it was changed privately."""
    mapping = segment_file.find_mapping(array)
    if mapping is None:
        return False
    if mapping.mode == "r+" or not array.size:
        return True
    low, high = reach(array)
    return pages.is_pristine(mapping, low - mapping.address, high - mapping.address)


def is_shared(array: object) -> bool:
    """Return whether an array, or the array that it is a view of, is in shared memory."""
    return issubclass(type(array), np.ndarray) and segment_file.find_mapping(array) is not None  # type: ignore[arg-type]
