from __future__ import annotations

import dataclasses
import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from jshm import is_shared
from jshm.errors import CorruptSegmentError
from jshm.segment import file as segment
from jshm.segment.views import reference_to
from jshm.system import file_locks

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 4 * 5 * 6 * 8
HEADER = 128


@pytest.fixture
def whole(store_dir: str) -> Iterator[np.ndarray[Any, Any]]:
    """All data of a segment, after a header, writable."""
    path = os.path.join(store_dir, "file")
    with open(path, "wb") as file:
        file.write(bytes(HEADER) + np.arange(120.0).tobytes())
    fd, _ = segment.open_shared(path, writable=True)
    mapping = segment.map_file(fd, HEADER + SIZE, "r+", "id")
    file_locks.close(fd)
    return np.ndarray((4, 5, 6), float, segment.view(mapping), HEADER)


def mapping_of(array: np.ndarray[Any, Any]) -> segment.Mapping:
    mapping = segment.find_mapping(array)
    assert mapping is not None
    return mapping


@given(st.data(), st.permutations(range(3)), st.sampled_from(["f8", "i4", "u1", ">i2", "S8"]))
@settings(max_examples=200, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_a_reference_finds_the_same_bytes(
    whole: np.ndarray[Any, Any], data: st.DataObject, axes: list[int], dtype: str
) -> None:
    view = whole.view(dtype).transpose(axes)
    index = data.draw(basic_indices(view.shape, allow_newaxis=True))
    view = np.asarray(view[index])
    if view.flags.owndata:  # one element came out as a scalar, not as a view
        return
    reference = reference_to(view)
    assert reference is not None
    assert (reference.segment, reference.mode) == ("id", "r+")
    again = pickle.loads(pickle.dumps(reference)).view(mapping_of(whole))
    assert (again.dtype, again.shape) == (view.dtype, view.shape)
    assert np.array_equal(again, view)
    if view.size:
        assert again.__array_interface__["data"] == view.__array_interface__["data"]
        assert again.strides == view.strides
        again[...] = again.dtype.type(7) if again.dtype.kind != "S" else b"7"
        assert np.array_equal(view, again)


def test_the_offset_of_a_reversed_view_is_that_of_its_first_element(
    whole: np.ndarray[Any, Any],
) -> None:
    reference = reference_to(whole[::-1, :, ::-1])
    assert reference is not None
    assert reference.offset == HEADER + 8 * (3 * 30 + 5)
    assert reference.strides == (-240, 48, -8)


WRONG: list[dict[str, Any]] = [
    {"offset": -1}, {"offset": HEADER + SIZE}, {"offset": HEADER + 1}, {"offset": 2**62},
    {"offset": -(2**62)}, {"shape": (5, 5, 6)}, {"shape": (2**60, 5, 6)}, {"strides": (240, 48, 16)},
    {"strides": (-240, 48, 8)}, {"strides": (2**61, 48, 8)}, {"shape": (-1, 5, 6)},
    {"strides": (48, 8)}, {"dtype": np.dtype("c16")}, {"dtype": np.dtype(object)},
    {"dtype": np.dtype([("o", object)])}, {"dtype": np.dtype("V2000")}, {"shape": (1,) * 70},
    {"shape": (10**400,)}, {"offset": 10**400}, {"shape": (0, 2**62, 2**62)}, {"shape": (0, -1)},
    {"strides": (10**400, 1, 1)}, {"offset": None}, {"shape": None}, {"dtype": None},
    # Computed in 64 bits, this would begin and end inside.
    {"offset": 0, "dtype": np.dtype("u1"), "shape": (2**32 + 1,), "strides": (2**32,)},
    {"offset": 0, "dtype": np.dtype("u1"), "shape": (2**32 + 1,), "strides": (-(2**32),)},
    # NumPy divides by the item size to find out how many elements fit.
    {"offset": 0, "dtype": np.dtype("V0"), "shape": (-1,), "strides": None},
    {"offset": 0, "dtype": np.dtype("u1"), "shape": (-1,), "strides": (0,)},
    {"shape": (4, 5), "strides": ("ab" * 5000, 2**60)},
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_a_reference_that_reaches_outside_is_refused(
    whole: np.ndarray[Any, Any], change: dict[str, Any]
) -> None:
    reference = reference_to(whole)
    assert reference is not None
    with pytest.raises(CorruptSegmentError):
        dataclasses.replace(reference, **change).view(mapping_of(whole))


def test_private_memory_has_no_reference(whole: np.ndarray[Any, Any]) -> None:
    for array in (whole.copy(), whole + 1, np.zeros(3), whole[[0, 1]]):
        assert reference_to(array) is None
        assert not is_shared(array)
    for view in (whole, whole[1:2], whole.T, whole[::-1], whole.view(np.recarray)):
        assert is_shared(view)


@pytest.mark.parametrize("value", [None, 3, "text", [1, 2], {"a": 1}, memoryview(b"abc")])
def test_other_objects_are_not_shared(value: object) -> None:
    assert is_shared(value) is False
