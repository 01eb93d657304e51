"""Checks that two arrays are exactly the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    Array = np.ndarray[Any, Any]


def assert_same_dtype(a: np.dtype[Any], b: np.dtype[Any]) -> None:
    assert a == b
    assert (a.str, a.itemsize, a.alignment) == (b.str, b.itemsize, b.alignment)
    # C's long and long long are two types and one dtype.
    assert a.type is b.type or a.kind in "iu"
    assert (a.isalignedstruct, a.metadata, a.names) == (b.isalignedstruct, b.metadata, b.names)
    if a.subdtype is not None:
        assert a.shape == b.shape
        assert_same_dtype(a.base, b.base)
    for name in a.names or ():
        assert a.fields is not None
        assert b.fields is not None
        assert a.fields[name][1:] == b.fields[name][1:]  # offset and title
        assert_same_dtype(a[name], b[name])


def leaves(array: Array) -> Iterator[bytes]:
    """Yield all values as bytes, without the padding of structures."""
    if array.dtype.names is None:
        yield array.tobytes()
    for name in array.dtype.names or ():
        yield from leaves(array[name])
