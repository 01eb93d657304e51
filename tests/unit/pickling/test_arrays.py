"""Arrays: their bytes go out-of-band, and all else arrives exactly."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jshm.pickling import dumps, loads

from ...support.exactness import assert_same_dtype, leaves
from .fresh import travel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .fresh import Interpreter

Array = np.ndarray[Any, Any]

# -- what "exactly" means --------------------------------------------------------------------------


def assert_same(a: Array, b: Array) -> None:
    assert type(a) is type(b)
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert_same_dtype(a.dtype, b.dtype)
    if a.dtype.hasobject:
        assert a.tolist() == b.tolist()
    else:
        assert list(leaves(a)) == list(leaves(b))


def send(
    obj: Any, protocol: int | None = None, *, kind: Callable[[bytes], Any] = bytearray
) -> tuple[Any, int, int]:
    """Return the object that arrives, and the sizes of the pickle and of its buffers.

    The buffers are copies, of a kind: nothing that arrives is the memory that was sent.
    """
    buffers: list[pickle.PickleBuffer] = []
    data = dumps(obj, protocol, buffers.append)
    copies = [bytes(buffer.raw()) for buffer in buffers]
    return loads(data, buffers=map(kind, copies)), len(data), sum(map(len, copies))


# -- each kind -------------------------------------------------------------------------------------

CUBE = np.arange(24.0).reshape(2, 3, 4)
ALIGNED = np.dtype([("a", "i1"), ("b", "f8"), ("t", "M8[s]")], align=True)
WITH_OFFSETS = np.dtype(
    {"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [2, 0], "itemsize": 12}
)


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


PLAIN: dict[str, Array] = {
    "C order": CUBE,
    "Fortran order": np.asfortranarray(CUBE),
    "strided": np.arange(10)[::2],
    "negative strides": np.arange(10)[::-1],
    "both negative": CUBE[::-1, ::-2],
    "transposed": CUBE.T,
    "permuted": CUBE.transpose(1, 2, 0),
    "permuted otherwise": CUBE.transpose(2, 0, 1),
    "broadcast": np.broadcast_to(np.arange(3.0), (4, 3)),
    "0-d": np.array(3.5),
    "0-d datetime": np.array("2020-01-01", "M8[D]"),
    "empty": np.empty((0, 3)),
    "empty, Fortran order": np.empty((3, 0), order="F"),
    "empty datetimes": np.empty((0, 2), "M8[us]"),
    "itemsize 0": np.empty(3, "V0"),
    "no fields": np.ndarray((3,), np.dtype([])),
    "empty texts": np.array(["", ""]),
    "datetime64": np.array(["2020-01-01", "NaT"], "M8[ns]"),
    "datetime64, 25 s": np.arange(4).astype("M8[25s]"),
    "timedelta64": np.array([[1, 2], [3, 4]], "m8[ms]").astype(">m8[ms]").T,
    "big endian integers": np.arange(5, dtype=">i4"),
    "big endian floats": np.arange(6, dtype=">f8")[::-1],
    "big endian text": np.array(["a", "bcd"], ">U3"),
    "text": np.array([["a", "bcd"], ["é", "👋"]]),
    "bytes": np.array([b"a", b"b\0c"]),
    "void": np.frombuffer(bytearray(b"abcdef"), "V3"),
    "bool": np.array([True, False]),
    "half": np.arange(3, dtype="e"),
    "long double": np.arange(3, dtype="g"),
    "complex": np.arange(3, dtype="F")[::-1] * 1j,
    "long double complex": np.arange(3, dtype="G"),
    "bfloat16": np.arange(4).astype(ml_dtypes.bfloat16),
    "bfloat16, strided": np.arange(8).astype(ml_dtypes.bfloat16)[::-2],
    "float8": np.arange(4).astype(ml_dtypes.float8_e4m3fn),
    "int4": np.arange(4).astype(ml_dtypes.int4),
    "fields": np.array([(1, 2.5, "2020-01-01")], "i4,f8,M8[s]"),
    "fields, aligned": np.ones(3, ALIGNED),
    "fields, aligned, reversed": np.ones(3, ALIGNED)[::-1],
    "fields in fields": np.ones(3, [("a", "f4", (2, 2)), ("b", [("c", ">i2"), ("d", "S3")])]),
    "fields with titles": np.ones(2, [(("title", "name"), "i4")]),
    "fields out of order": np.ones(2, WITH_OFFSETS),
    "one field": np.ones(3, ALIGNED)["b"],
    "two fields": np.ones(3, ALIGNED)[["a", "t"]],
    "metadata": np.ones(3, np.dtype("f8", metadata={"unit": "m"})),
    "metadata of a field": np.ones(3, [("a", np.dtype("i4", metadata={"unit": "s"}))]),
    "np.record": np.ones(2, np.dtype((np.record, [("x", "i4"), ("y", "M8[D]")]))),
    "not aligned": np.ndarray((2,), "f8", buffer=bytearray(range(17)), offset=1),
    "read-only": read_only(np.arange(5.0)),
    "read-only datetimes": read_only(np.arange(5).astype("M8[s]")),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_arrays(name: str) -> None:
    array = PLAIN[name]
    found, inside, outside = send(array)
    assert_same(array, found)
    assert outside == array.nbytes
    assert inside < 450
    assert found.flags.f_contiguous or not array.flags.f_contiguous
    assert found.flags.writeable == array.flags.writeable or array.nbytes == 0
    frozen = send(array, kind=bytes)[0]
    assert_same(array, frozen)
    assert not frozen.flags.writeable or array.nbytes == 0


@pytest.mark.parametrize("name", PLAIN)
def test_within_the_pickle(name: str) -> None:
    """Without a callback, as with older protocols."""
    array = PLAIN[name]
    assert_same(array, loads(dumps(array)))
    for protocol in (2, 3, 4):
        found = loads(dumps(array, protocol))
        # NumPy's own reducer converts plain big endian arrays to native byte order.
        assert_same(pickle.loads(pickle.dumps(array, protocol)), found)
        assert repr(found.tolist()) == repr(array.tolist())


def test_an_empty_array_needs_no_buffer() -> None:
    found, _, outside = send([np.empty((0, 3)), np.empty(3, "V0"), np.arange(2)])
    assert outside == 16
    assert [a.shape for a in found] == [(0, 3), (3,), (2,)]


def test_nothing_is_copied() -> None:
    array = np.zeros(1000)
    dates = array.view("M8[s]")
    for sent in (array, dates, read_only(dates), dates.reshape(10, 100).T, array.view(np.recarray)):
        buffers: list[pickle.PickleBuffer] = []
        data = dumps(sent, buffer_callback=buffers.append)
        assert [np.shares_memory(np.asarray(b), array) for b in buffers] == [True]
        found = loads(data, buffers=buffers)
        assert np.shares_memory(found, array)
        assert found.shape == sent.shape


def test_an_array_met_twice_arrives_once() -> None:
    array = np.arange(3.0)
    array_of_dates = np.arange(3).astype("M8[s]")
    found, _, outside = send([array, {"a": array}, array_of_dates, array_of_dates])
    assert found[0] is found[1]["a"]
    assert found[2] is found[3]
    assert outside == 48


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "name", ["C order", "Fortran order", "datetime64", "fields", "strided", "empty"]
)
def test_the_read_only_flag_survives_within_the_pickle(name: str, protocol: int) -> None:
    array = PLAIN[name].view()
    for writable in (True, False):
        array.flags.writeable = writable
        found = loads(dumps(array, protocol))
        assert_same(array, found)
        assert found.flags.writeable == writable


def test_an_array_over_bytes_can_be_sent_on() -> None:
    """Its flag is writable, although the bytes behind it are not."""
    array = pickle.loads(pickle.dumps(np.arange(3.0), 4))
    found = loads(dumps(array))
    assert_same(array, found)
    found[0] = 5


def test_a_read_only_array_cannot_be_written_through_a_buffer(tmp_path: Path) -> None:
    """Writing through it would crash in a read-only map, or change a constant."""
    np.save(tmp_path / "a.npy", np.zeros(10))
    constant = b"constant"
    for array in (np.load(tmp_path / "a.npy", mmap_mode="r"), np.frombuffer(constant, "u1")):
        buffers: list[pickle.PickleBuffer] = []
        data = dumps(array, buffer_callback=buffers.append)
        assert [memoryview(buffer).readonly for buffer in buffers] == [True]
        found = loads(data, buffers=buffers)
        with pytest.raises(ValueError, match="WRITEABLE"):
            found.flags.writeable = True


# -- Python objects in them ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, "a", None, [2.5]], object),
        np.array([[{"a": 1}, 2], [3, 4]], object).T,
        np.array([(1, "a")], [("n", "i4"), ("o", "O")]),
        np.array(["a", "long enough that it is not inline" * 3], np.dtypes.StringDType()),
        np.array(["a", np.nan], np.dtypes.StringDType(na_object=np.nan))[::-1],
    ],
)
def test_arrays_of_objects_are_within(array: Array) -> None:
    found, _, outside = send(array)
    assert type(found) is np.ndarray
    assert found.dtype == array.dtype
    assert repr(found) == repr(array)
    assert outside == 0


def test_arrays_in_an_array() -> None:
    inner = np.arange(3.0)
    array = np.array([inner, None, inner], object)
    found, _, outside = send(array)
    assert outside == 24
    assert found[0] is found[2]
    assert found[0].tolist() == [0, 1, 2]


# -- subclasses ------------------------------------------------------------------------------------


class Tagged(np.ndarray):  # type: ignore[type-arg]
    pass


class Careful(np.ndarray):  # type: ignore[type-arg]
    def __array_finalize__(self, other: object) -> None:
        self.info = getattr(other, "info", "default")


class Own(np.ndarray):  # type: ignore[type-arg]
    """Has its own reducer."""

    def __reduce__(self) -> Any:
        return _make_own, (self.tolist(),)


def _make_own(values: list[float]) -> Own:
    found = np.array(values).view(Own)
    found.made = True  # type: ignore[attr-defined]
    return found


class Slotted(np.ndarray):  # type: ignore[type-arg]
    __slots__ = ("__secret", "unit")

    def keep(self, secret: int) -> None:
        self.__secret = secret

    def secret(self) -> int:
        return self.__secret


def tagged(array: Array, **attributes: Any) -> Any:
    found = array.view(Tagged)
    found.__dict__.update(attributes)
    return found


def test_a_subclass_with_attributes() -> None:
    for base in (CUBE, CUBE.T, CUBE[::2], np.arange(3).astype("M8[s]"), np.array(1.0)):
        sent = tagged(base, unit="m", axis=np.arange(2.0), more=[1])
        found, _, outside = send(sent)
        assert_same(sent, found)
        assert (found.unit, found.axis.tolist(), found.more) == ("m", [0, 1], [1])
        assert outside == base.nbytes + 16
    sent = np.arange(3.0).view(Careful)
    assert send(sent)[0].info == "default"
    sent.info = "set"
    assert send(sent)[0].info == "set"
    assert send(sent[::2])[0].info == "set"


def test_slots_of_a_subclass_also_private_ones() -> None:
    sent = np.arange(3.0).view(Slotted)
    sent.keep(5)
    found = send(sent)[0]
    assert found.secret() == 5
    assert not hasattr(found, "unit")


def test_a_subclass_that_refers_to_itself() -> None:
    sent = tagged(np.arange(3.0))
    sent.me = [sent]
    found = send(sent)[0]
    assert found.me[0] is found


def test_a_subclass_with_its_own_reducer() -> None:
    found, _, outside = send(np.arange(3.0).view(Own))
    assert found.made
    assert found.tolist() == [0, 1, 2]
    assert outside == 0


def test_a_subclass_of_a_cell(writer: Interpreter, reader: Interpreter) -> None:
    pickled = travel(
        writer,
        reader,
        """\
import numpy as np
class Image(np.ndarray):
    def __new__(cls, data, scale):
        self = np.asarray(data).view(cls)
        self.scale = scale
        return self
    def __array_finalize__(self, other): self.scale = getattr(other, "scale", None)
    def area(self): return self.size * self.scale
image = Image(np.arange(1000.0).reshape(10, 100), 2)
record = np.rec.array([(1, "2020-01-01")], dtype="i4,M8[D]")
""",
        "[image, image[::2].T, record]",
        """\
import numpy as np
a, b, record = obj
assert type(a) is type(b) and a.area() == 2000 and b.area() == 1000 and b.shape == (100, 5)
assert np.array_equal(b, a[::2].T) and type(record) is np.recarray and record.f0[0] == 1
""",
    )
    assert sum(map(len, pickled.buffers)) == 8000 + 4000 + 12
    assert len(pickled.data) < 3000


def test_a_record_array() -> None:
    sent = np.rec.array([(1, 2.5, "2020-01-01"), (3, 4.5, "NaT")], dtype="i4,f8,M8[D]")
    for array in (sent, sent[::-1]):
        found, _, outside = send(array)
        assert_same(array, found)
        assert found.f1.tolist() == array.f1.tolist()
        assert type(found[0]) is np.record
        assert outside == array.nbytes
    assert_same(sent.view(np.ndarray), send(sent.view(np.ndarray))[0])


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_matrix() -> None:
    sent = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    for array in (sent, sent.T, sent.astype("M8[s]")):
        found, _, outside = send(array)
        assert_same(array, found)
        assert outside == array.nbytes
    assert (send(sent)[0] * sent).tolist() == (sent * sent).tolist()


MASK = [[False, True, False], [True, False, False]]
MASKED: dict[str, Any] = {
    "mask": np.ma.array(np.arange(6.0).reshape(2, 3), mask=MASK),
    "no mask": np.ma.array(np.arange(6.0)),
    "all masked": np.ma.masked_all((2, 2)),
    "fill_value": np.ma.array(np.arange(6).reshape(2, 3), mask=MASK, fill_value=-7),
    "hard mask": np.ma.array(np.arange(6.0).reshape(2, 3), mask=MASK, hard_mask=True),
    "strided": np.ma.array(np.arange(6.0).reshape(2, 3), mask=MASK)[:, ::-2],
    "transposed": np.ma.array(np.arange(6.0).reshape(2, 3), mask=MASK, fill_value=3).T,
    "datetimes": np.ma.array(np.arange(6).astype("M8[s]").reshape(2, 3), mask=MASK),
    "fields": np.ma.array([(1, 2.0), (3, 4.0)], mask=[(0, 1), (1, 0)], dtype="i4,f8"),
    "fields, fill_value": np.ma.array([(1, 2.0)], dtype="i4,f8", fill_value=(9, 8.0)),
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_arrays(name: str) -> None:
    sent = MASKED[name]
    found, _, outside = send(sent)
    assert_same(sent.data, found.data)
    assert type(found) is np.ma.MaskedArray
    assert (found.mask is np.ma.nomask) == (sent.mask is np.ma.nomask)
    assert_same(np.ma.getmaskarray(sent), np.ma.getmaskarray(found))
    assert found.fill_value.tolist() == sent.fill_value.tolist()
    assert found.fill_value.dtype == sent.fill_value.dtype
    assert found.hardmask == sent.hardmask
    assert repr(found) == repr(sent)
    assert outside >= sent.nbytes + (0 if sent.mask is np.ma.nomask else sent.mask.nbytes)
    if sent.mask is not np.ma.nomask and sent.dtype.names is None:
        for array in (found, sent := sent.copy()):
            array[0, 0] = np.ma.masked
            array[1, 0] = 5  # stays masked if the mask is hard
        assert_same(np.ma.getmaskarray(sent), np.ma.getmaskarray(found))
    for protocol in (2, 3, 4):  # NumPy's own: it makes a mask of none
        own = pickle.loads(pickle.dumps(MASKED[name], protocol))
        assert repr(loads(dumps(MASKED[name], protocol))) == repr(own)


def test_a_masked_array_with_attributes() -> None:
    sent = np.ma.array([1.0, 2.0], mask=[0, 1])
    sent.unit = "m"
    found = send(sent)[0]
    assert found.unit == "m"
    assert found.mask.tolist() == [False, True]
    assert send(np.ma.masked)[0] is np.ma.masked


def test_a_memmap_becomes_an_array(tmp_path: Path) -> None:
    sent = np.memmap(tmp_path / "x", "f4", "w+", shape=(10, 3))
    sent[:] = np.arange(30).reshape(10, 3)
    for array in (sent, sent[::2], sent.T):
        for protocol in (None, 4):
            if protocol is None:
                found, inside, outside = send(array)
                assert outside == array.nbytes
                assert inside < 300
            else:
                found = loads(dumps(array, protocol))
            assert type(found) is np.ndarray
            assert found.tolist() == array.tolist()


# -- memoryviews -----------------------------------------------------------------------------------

VIEWS = {
    "bytes": memoryview(b"abc"),
    "nothing": memoryview(b""),
    "floats": memoryview(np.arange(3.0)),
    "floats, 2-d": memoryview(np.arange(6.0).reshape(2, 3)),
    "integers": memoryview(np.arange(6, dtype="u2")),
    "bool": memoryview(np.array([True, False])),
    "characters": memoryview(b"abc").cast("c"),
    "0-d": memoryview(np.array(3.0)),
    "strided": memoryview(np.arange(6.0)[::2]),
    "reversed": memoryview(np.arange(6, dtype="i4")[::-1]),
    "strided, 2-d": memoryview(np.arange(12.0).reshape(3, 4)[:, ::2]),
    "Fortran order": memoryview(np.asfortranarray(CUBE[0])),
    "no floats": memoryview(np.zeros(0)),
    "no floats, 2-d": memoryview(np.zeros((0, 3))),
    "big endian": memoryview(np.arange(3, dtype=">f8")),
    "complex": memoryview(np.zeros(2, "c16")),
    "fields": memoryview(np.zeros(2, "i4,f8")),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_memoryviews(view: memoryview) -> None:
    found, inside, outside = send(view)
    assert type(found) is memoryview
    assert (found.format, found.shape, found.nbytes) == (view.format, view.shape, view.nbytes)
    assert np.array_equal(np.asarray(found), np.asarray(view))
    assert inside < 250
    assert outside == view.nbytes
    within = loads(dumps(view))
    assert type(within) is memoryview
    assert np.array_equal(np.asarray(within), np.asarray(view))
    for protocol in (2, 3, 4):
        assert loads(dumps(view, protocol)) == view.tobytes()


def test_a_memoryview_is_as_writable_as_it_was() -> None:
    assert loads(dumps(memoryview(b"abc"))).readonly
    assert not loads(dumps(memoryview(bytearray(b"abc")))).readonly


# -- and whatever else -----------------------------------------------------------------------------


def dtypes() -> st.SearchStrategy[np.dtype[Any]]:
    leaf = st.one_of(
        hnp.scalar_dtypes(),
        hnp.datetime64_dtypes(),
        hnp.timedelta64_dtypes(),
        hnp.unicode_string_dtypes(max_len=5),
        hnp.byte_string_dtypes(max_len=5),
    )
    return st.one_of(
        leaf, hnp.array_dtypes(leaf, max_size=3), hnp.nested_dtypes(leaf, max_itemsize=100)
    )


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    dtype = draw(dtypes())
    size = int(np.prod(shape)) * dtype.itemsize
    # Any bytes are valid values of these dtypes; texts need valid characters.
    top = 1 if dtype.kind == "U" or dtype.names or dtype.subdtype else 255
    seed = draw(st.integers(0, 2**32 - 1))
    data = np.random.default_rng(seed).integers(0, top, size, np.uint8, endpoint=True)
    if top == 1:
        data[:] = 0
    base = dtype.base if dtype.subdtype else dtype
    array = np.ndarray(shape, base, data.tobytes() if size else b"")
    if draw(st.booleans()):
        array = array.copy(order=draw(st.sampled_from("CF")))
    if array.ndim:
        array = array[draw(hnp.basic_indices(array.shape, allow_newaxis=True, allow_ellipsis=True))]
    array = np.asarray(array, base)
    return array.transpose(draw(st.permutations(range(array.ndim))))


@settings(max_examples=60, deadline=None)
@given(arrays(), st.sampled_from([bytes, bytearray]))
def test_any_array(array: Array, kind: Callable[[bytes], Any]) -> None:
    found, _, outside = send([array, "after"], kind=kind)
    assert_same(array, found[0])
    assert found[1] == "after"
    assert outside == array.nbytes
    writable = array.flags.writeable and kind is bytearray
    assert array.nbytes == 0 or found[0].flags.writeable == writable
    assert_same(array, loads(dumps(array)))
