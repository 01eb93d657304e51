"""Promise 2: an attached value is exactly the published one, or the publish was refused with advice."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jshm
from jshm.segment import pages

from ...support.exactness import assert_same_dtype, leaves

if TYPE_CHECKING:
    from collections.abc import Callable

    from jshm.store.local.store import LocalStore

Array = np.ndarray[Any, Any]

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# -- what "exactly" means --------------------------------------------------------------------------


def assert_same(a: Array, b: Array) -> None:
    assert_same_dtype(a.dtype, b.dtype)
    assert a.shape == b.shape
    assert list(leaves(a)) == list(leaves(b))


# -- every dtype -----------------------------------------------------------------------------------

UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "25s", "7D"]
CODES = ["?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d", "g", "F", "D", "G"]
times = st.sampled_from([f"{kind}8[{u}]" for kind in "Mm" for u in UNITS] + ["M8", "m8"])
sized = st.builds("{}{}".format, st.sampled_from("SUV"), st.integers(0, 9))
swapped = st.sampled_from("<>=")
plain = st.one_of(
    st.builds(lambda d, order: np.dtype(d).newbyteorder(order), st.sampled_from(CODES), swapped),
    st.builds(lambda d, order: np.dtype(d).newbyteorder(order), times, swapped),
    st.builds(lambda d, order: np.dtype(d).newbyteorder(order), sized, swapped),
)
field_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
sub_shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)


@st.composite
def structured(draw: st.DrawFn, inner: st.SearchStrategy[np.dtype[Any]]) -> np.dtype[Any]:
    names = draw(st.lists(field_names, max_size=4, unique=True))
    formats = [
        np.dtype((dtype, draw(sub_shapes))) if dtype.itemsize else dtype
        for dtype in (draw(inner) for _ in names)
    ]
    if draw(st.booleans()):  # padded: gaps before, between and after fields
        offset, offsets = draw(st.integers(0, 3)), []
        for dtype in formats:
            offsets.append(offset)
            offset += dtype.itemsize + draw(st.integers(0, 5))
        spec = {"names": names, "formats": formats, "offsets": offsets, "itemsize": offset}
        return np.dtype(spec)
    titles = [f"title of {name}" for name in names]
    if draw(st.booleans()) and not {*titles} & {*names}:
        fields = zip(titles, names, formats, strict=True)
        return np.dtype([((title, name), dtype) for title, name, dtype in fields])
    return np.dtype(list(zip(names, formats, strict=True)))


any_dtype = st.recursive(plain, structured, max_leaves=6)


def filled(shape: tuple[int, ...], dtype: np.dtype[Any], seed: int) -> Array:
    """Return an array of random bytes: NaN payloads, NaT, denormals; a bool is only 0 or 1."""
    count = int(np.prod(shape, dtype=int))
    raw = np.random.default_rng(seed).integers(0, 256, count * dtype.itemsize, np.uint8)
    array = np.ndarray(shape, dtype, bytearray(raw))  # numpy.empty would make S1 of S0
    _make_valid(array)
    return array


def _make_valid(array: Array) -> None:
    if array.dtype.names is not None:
        for name in array.dtype.names:
            _make_valid(array[name])
    elif array.dtype.kind == "b":
        array[...] = array.view(np.uint8) & 1 == 1


def rearrange(array: Array, how: str) -> Array:
    match how:
        case "F":
            return np.asfortranarray(array) if array.ndim else array
        case "transposed":
            return array.T
        case "rolled axes":
            return np.moveaxis(array, 0, -1) if array.ndim > 1 else array
        case "negative":
            return array[(*(slice(None, None, -1) for _ in array.shape), ...)]
        case "every other":
            return array[..., ::2] if array.ndim else array
        case "broadcast":
            return np.broadcast_to(array, (2, *array.shape))
        case "broadcast within":
            return np.broadcast_to(array[..., :1], array.shape) if array.ndim else array
        case "unaligned":
            raw = np.zeros(array.nbytes + 1, np.uint8)
            view = np.ndarray(array.shape, array.dtype, raw, 1)
            view[...] = array
            return view
        case _:
            return array


HOW = ["C", "F", "transposed", "rolled axes", "negative", "every other", "broadcast",
       "broadcast within", "unaligned"]  # fmt: skip
shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)


@given(any_dtype, shapes, st.sampled_from(HOW), st.integers(0, 2**32))
@quick
def test_published_arrays_come_back_exactly(
    store: LocalStore, dtype: np.dtype[Any], shape: tuple[int, ...], how: str, seed: int
) -> None:
    original = rearrange(filled(shape, dtype, seed), how)
    jshm.publish("X", original)
    attached = jshm.attach("X")
    assert type(attached) is np.ndarray
    assert_same(attached, original)
    assert not attached.flags.writeable
    assert attached.flags.forc
    if original.flags.forc and original.nbytes:
        assert attached.flags.c_contiguous == original.flags.c_contiguous
        assert attached.flags.f_contiguous == original.flags.f_contiguous
    # NumPy's own reader sees the same in the file.
    read = np.load(store.location("X"), mmap_mode="r")
    assert_same_dtype(read.dtype, original.dtype)
    assert read.shape == original.shape
    assert list(leaves(np.asarray(read))) == list(leaves(original))


@given(any_dtype, shapes, st.sampled_from("CF"), st.integers(0, 2**32))
@quick
def test_sealed_arrays_come_back_exactly(
    store: LocalStore, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any, seed: int
) -> None:
    original = filled(shape, dtype, seed)
    shared = jshm.empty(shape, dtype, order)
    assert_same_dtype(shared.dtype, dtype)
    shared[...] = original
    jshm.publish("X", shared)
    assert_same(jshm.attach("X"), original)
    assert list(leaves(np.asarray(np.load(store.location("X"))))) == list(leaves(original))


@pytest.mark.parametrize("bits", [0x7FF0000000000001, 0xFFF8DEADBEEF0001, 0x8000000000000000])
def test_nan_payloads_and_negative_zero(store: LocalStore, bits: int) -> None:
    original = np.full((3, 4), bits, np.uint64).view(np.float64)[:, ::2]
    jshm.publish("X", original)
    assert (jshm.attach("X").view(np.uint64) == bits).all()


def test_a_memmap_is_shared_as_an_array(store: LocalStore, tmp_path: Any) -> None:
    path = tmp_path / "on disk"
    original = np.memmap(path, np.int16, "w+", shape=(3, 5))
    original[...] = np.arange(15).reshape(3, 5)
    jshm.publish("X", original[:, 1:4])
    assert_same(jshm.attach("X"), np.asarray(original[:, 1:4]))


def test_a_wide_structure_needs_a_longer_header(store: LocalStore) -> None:
    dtype = np.dtype([(f"a column with a long name {i}", "<f4") for i in range(3000)])
    original = filled((2,), dtype, 1)
    jshm.publish("X", original)
    assert_same(jshm.attach("X"), original)
    assert_same(np.load(store.location("X"), max_header_size=1 << 20), original)


# -- what .npy does not keep -----------------------------------------------------------------------


class Sub(np.ndarray):
    unit: str


ALIGNED = np.dtype([("a", "i1"), ("b", "f8")], align=True)
OVERLAPPING = np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 1]})
UNORDERED = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]})
PADDED = np.dtype({"names": ["a"], "formats": ["i4"], "offsets": [3], "itemsize": 9})
NESTED = np.dtype([("x", [("y", ml_dtypes.bfloat16), ("z", "i4")])])
METADATA = np.dtype("f8", metadata={"unit": "m"})
RECORD = np.dtype((np.record, [("a", "i4"), ("b", "f8")]))
INT_PARTS = np.dtype(("i4", [("low", "i2"), ("high", "i2")]))


def of_objects(*values: Any) -> Array:
    return np.array(values, object)


def with_unit(array: Array) -> Sub:
    sub = array.view(Sub)
    sub.unit = "m"
    return sub


def strided(dtype: Any) -> Array:
    return filled((4, 3), np.dtype(dtype), 7)[::-1, ::2]


OTHERS: dict[str, Any] = {
    "bfloat16": strided(ml_dtypes.bfloat16),
    "float8": strided(ml_dtypes.float8_e4m3fn),
    "int4": strided(ml_dtypes.int4),
    "aligned": strided(ALIGNED),
    "nested aligned": strided([("outer", ALIGNED)]),
    "overlapping": strided(OVERLAPPING),
    "unordered": strided(UNORDERED),
    "bfloat16 inside": strided(NESTED),
    "metadata": strided(METADATA),
    "metadata inside": strided([("a", METADATA, (2,))]),
    "record dtype": strided(RECORD),
    "an integer with parts": strided(INT_PARTS),
    "masked": np.ma.MaskedArray([1, 2, 3], [0, 1, 0], fill_value=9),
    "masked, no mask": np.ma.MaskedArray(np.arange(4.0)),
    "masked, strided": np.ma.MaskedArray(np.arange(12.0), np.arange(12) % 5 == 0)[::-3],
    "matrix": np.eye(3).view(np.matrix),
    "subclass": with_unit(np.arange(6)),
    "recarray": filled((5,), np.dtype([("a", "i4"), ("b", "f8")]), 3).view(np.recarray)[::2],
    "recarray padded": filled((5,), PADDED, 3).view(np.recarray),
    "recarray nested": filled((5,), np.dtype([("a", [("b", "f8", (2,))])]), 3).view(np.recarray),
    "objects": of_objects(1, 2.5, "text", None, [1]),
    "objects in a field": np.array([(1, 2), (3, [4])], [("plain", "i4"), ("o'bj", object)]),
    "no objects": np.empty((0, 3), object),
}
if hasattr(np.dtypes, "StringDType"):
    OTHERS["StringDType"] = np.array(["a", "", "日本"], np.dtypes.StringDType())


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("mode", ["r", "c"])
def test_arrays_that_npy_cannot_store_are_shared_as_objects(
    store: LocalStore, what: str, mode: Any
) -> None:
    X = OTHERS[what]
    info = jshm.publish("X", X)
    assert (info.kind, info.dtype) == ("object", None)
    back = jshm.attach("X", mode)
    assert type(back) is type(X)
    if X.dtype.hasobject or X.dtype.kind == "T":
        assert (back.dtype, back.shape, back.tolist()) == (X.dtype, X.shape, X.tolist())
        return
    assert_same(np.asarray(back), np.asarray(X))
    assert back.flags.writeable == (mode == "c")
    assert jshm.is_shared(back)
    if isinstance(X, np.ma.MaskedArray):
        assert np.array_equal(np.ma.getmaskarray(back), np.ma.getmaskarray(X))
        assert (back.mask is np.ma.nomask) == (X.mask is np.ma.nomask)
        assert back.fill_value == X.fill_value
    if isinstance(X, Sub):
        assert back.unit == "m"


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ALIGNED, METADATA, object])
def test_allocating_refuses_dtypes_that_npy_cannot_store(store: LocalStore, dtype: Any) -> None:
    with pytest.raises(
        jshm.NotShareableError, match=r"(?i)publish an array of it as it is"
    ) as refused:
        jshm.empty(3, dtype)
    assert isinstance(refused.value, TypeError)
    assert store.directory.files() == {}
    way = f"jshm.empty(shape, 'V{np.dtype(dtype).itemsize}').view(dtype)"
    if dtype is not object:
        assert way in str(refused.value)
        assert eval(way, {"jshm": jshm, "shape": 3, "dtype": dtype}).dtype == np.dtype(dtype)


# -- the same segment again ------------------------------------------------------------------------

needs_pagemap = pytest.mark.skipif(
    not os.access("/proc/self/pagemap", os.R_OK), reason="without pagemap everything is copied"
)


def republish(store: LocalStore, array: Array) -> str:
    """Publish as Y, check the data with NumPy's own reader, and return how it was published."""
    published = store.publish({"Y": array})[0]
    assert_same(np.asarray(np.load(store.location("Y"))), np.asarray(array))
    same_file = os.path.samefile(store.location("X"), store.location("Y"))
    assert same_file == (published.how == "alias")
    return published.how


@needs_pagemap
@pytest.mark.parametrize("mode", ["r", "c"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (50, 70), (600, 700)])
def test_an_unchanged_array_is_an_alias(store: LocalStore, mode: Any, shape: Any) -> None:
    jshm.publish("X", filled(shape, np.dtype(float), 1))
    attached = jshm.attach("X", mode)
    attached.tobytes()
    assert republish(store, attached) == "alias"
    assert republish(store, attached[...]) == "alias"


@pytest.mark.parametrize("position", [0, 1, 495, 496, 511, 512, 1000, 100_000, 499_999])
def test_private_changes_are_copied_with_their_values(store: LocalStore, position: int) -> None:
    original = np.arange(500_000.0)
    jshm.publish("X", original)
    attached = jshm.attach("X", "c")
    attached[position] = -1.0
    assert republish(store, attached) == "copied"
    assert jshm.attach("Y")[position] == -1.0
    assert_same(np.load(store.location("X")), original)


@pytest.mark.parametrize("position", [0, 1000, 99_999])
def test_changes_past_the_read_only_flag_are_private_and_copied(
    store: LocalStore, position: int
) -> None:
    original = np.arange(100_000.0)
    jshm.publish("X", original)
    attached = jshm.attach("X")
    ctypes.c_double.from_address(attached.ctypes.data + 8 * position).value = -1.0
    assert attached[position] == -1.0
    assert_same(np.load(store.location("X")), original)
    assert republish(store, attached) == "copied"
    assert_same(np.load(store.location("X")), original)


@pytest.mark.parametrize("pagemap", [True, False])
def test_changes_past_the_read_only_flag_are_not_attached_again(
    store: LocalStore, pagemap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pagemap:  # then changes cannot be detected
        monkeypatch.setattr(pages, "is_pristine", lambda *_: False)
    original = np.arange(100_000.0)
    jshm.publish("X", original)
    first, second = jshm.attach("X"), jshm.attach("X")
    assert np.shares_memory(first, second) == pagemap
    ctypes.c_double.from_address(first.ctypes.data + 8 * 5000).value = -1.0
    third, fourth = jshm.attach("X"), jshm.attach(["X"])[0]
    assert_same(third, original)
    assert first[5000] == -1.0
    assert np.shares_memory(third, fourth) == pagemap
    assert store.process.mappings.is_mapped(store.info("X").segment)
    del first, second, third, fourth
    assert not store.process.mappings.is_mapped(store.info("X").segment)


@pytest.mark.parametrize("how", ["published", "in an object", "needed by a handle"])
@pytest.mark.parametrize(
    "make",
    [
        jshm.empty,
        jshm.zeros,
        lambda n: jshm.full(n, 1.0),
        lambda n: jshm.SharedNumpyArray.create_copy(np.zeros(n)).array,
    ],
    ids=["empty", "zeros", "full", "copy"],
)
def test_a_sealed_array_cannot_be_made_writable_again(
    store: LocalStore, make: Any, how: str
) -> None:
    born = make(1000)
    born[:] = np.arange(1000)
    frozen = born[::2]
    frozen.flags.writeable = False
    if how == "needed by a handle":
        jshm.publish("o", [jshm.SharedNumpyArray(store, born)])
    else:
        jshm.publish("X", born if how == "published" else {"x": born})
    for view in (born, frozen, born[:], born.reshape(10, -1), born[5:], born.view("i8"), born.T):
        assert not view.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.setflags(write=True)
    assert memoryview(born).readonly
    assert born.tolist() == list(range(1000))


# Each begins at the first element and has the shape of the whole.
LOOKALIKES: dict[str, Callable[[Array], Array]] = {
    "transposed": lambda X: X.transpose(1, 0, 2),
    "transposed more": lambda X: X.transpose(0, 2, 1),
    "broadcast": lambda X: np.broadcast_to(X[:1, :1, :1], X.shape),
    "windows": lambda X: np.lib.stride_tricks.as_strided(X, X.shape, (8, 8, 8)),
    "other type": lambda X: X.view(np.int64),
    "other order": lambda X: X.view(X.dtype.newbyteorder()),
    "fortran": lambda X: X.T,
}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("look", LOOKALIKES)
def test_a_view_that_looks_like_the_whole_is_copied(
    store: LocalStore, look: str, shared: bool
) -> None:
    original = np.arange(27.0).reshape(3, 3, 3)
    if shared:  # it has no name yet, so the whole array would be sealed
        whole = jshm.empty((3, 3, 3))
        whole[...] = original
        jshm.publish("X", original)
    else:
        jshm.publish("X", original)
        whole = jshm.attach("X")
    assert republish(store, LOOKALIKES[look](whole)) == "copied"


@pytest.mark.parametrize("part", [np.s_[1:], np.s_[:2], np.s_[::-1], np.s_[:, 1], np.s_[0:0]])
def test_a_part_is_copied(store: LocalStore, part: Any) -> None:
    jshm.publish("X", np.arange(9.0).reshape(3, 3))
    assert republish(store, jshm.attach("X")[part]) == "copied"


def test_an_alias_cannot_become_writable(store: LocalStore) -> None:
    jshm.publish("X", np.zeros(4))
    jshm.publish("Y", jshm.attach("X"), writable=True)
    jshm.attach("Y", "r+")[0] = 1.0
    assert np.load(store.location("X"))[0] == 0.0
    assert np.load(store.location("Y"))[0] == 1.0
