"""Objects of NumPy arrive exactly, by names that NumPy 1.26 and 2 both have."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from jshm.pickling import Pickler, dumps, loads

from .globals_named import names
from .test_arrays import send

RECORDS = np.array([(1, "a")], [("n", "i4"), ("o", "O")])


class Tagged(np.ndarray):  # type: ignore[type-arg]
    pass


class Recipe(np.ndarray):  # type: ignore[type-arg]
    """As users of NumPy write it: NumPy's reduction and one more attribute."""

    info: Any

    def __reduce__(self) -> Any:
        function, arguments, state = super().__reduce__()[:3]
        return function, arguments, (state, self.info)

    def __setstate__(self, state: Any) -> None:
        self.info = state[1]
        super().__setstate__(state[0])


def recipe() -> Any:
    found: Any = np.arange(3.0).view(Recipe)
    found.info = "m"
    return found


ZOO: dict[str, Any] = {
    "array": np.arange(3.0),
    "strided": np.arange(9)[::2],
    "objects": np.array([1, "a", None], object),
    "records with objects": RECORDS,
    "0-d": np.array(3),
    "float": np.float64(0.1),
    "half": np.float16(3),
    "long double": np.longdouble("0.1"),
    "complex": np.complex64(1j),
    "int": np.int64(3),
    "bool": np.bool_(True),
    "text": np.str_("abc"),
    "no text": np.str_(""),
    "bytes": np.bytes_(b"x"),
    "date": np.datetime64("2020-01-01", "25s"),
    "not a time": np.timedelta64("NaT"),
    "void": np.void(b"abc"),
    "structure": np.array([(1, 2.0)], "i4,f8")[0],
    "structure with an object": RECORDS[0],
    "record": np.rec.array([(1, 2.0)], dtype="i4,f8")[0],
    "recarray": np.rec.array([(1, 2.0)], dtype="i4,f8"),
    "dtype": np.dtype([("a", "i4")]),
    "dtype of records": np.dtype((np.record, [("a", "i4")])),
    "dtype's type": type(np.dtype("f8")),
    "type": np.float64,
    "type of booleans": np.bool_,
    "type of recarrays": np.recarray,
    "type of character arrays": np.char.chararray,
    "ufunc": np.add,
    "function": np.sum,
    "function in C": np.dot,
    "function of a part": np.linalg.norm,
    "method": np.arange(3).sum,
    "generator": np.random.default_rng(1),
    "generator's method": np.random.default_rng(1).normal,
    "PCG64": np.random.PCG64(1),
    "MT19937": np.random.MT19937(1),
    "Philox": np.random.Philox(3),
    "old generator": np.random.RandomState(1),
    "seed": np.random.SeedSequence(4, spawn_key=(1, 2)),
    "module's generator": np.random.normal,
    "masked": np.ma.array([1, 2], mask=[0, 1]),
    "masked objects": np.ma.array([1, "a"], mask=[0, 1], dtype=object),
    "matrix": np.array([[1, 2]]).view(np.matrix),
    "subclass": np.arange(3).view(Tagged),
    "subclass of objects": np.array([None, 1]).view(Tagged),
    "subclass with a way of its own": recipe(),
    "polynomial": np.polynomial.Polynomial([1, 2]),
    "poly1d": np.poly1d([1, 2]),
    "finfo": np.finfo("f4"),
    "iinfo": np.iinfo("i4"),
    "vectorized": np.vectorize(abs),
    "s_": np.s_,
    "mgrid": np.mgrid,
    "error": np.exceptions.AxisError(1, 2),
    "texts": np.array(["a", "b"], np.dtypes.StringDType(na_object=None)),
}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("what", ZOO)
def test_nothing_private_of_numpy_is_named(what: str, protocol: int) -> None:
    sent = ZOO[what]
    if isinstance(sent, (np.finfo, np.recarray)) and protocol < 5:
        protocol = 5
    data = dumps(sent, protocol)
    for module, name in names(data):
        parts = module.split(".")
        assert parts[0] != "numpy" or not any(part.startswith("_") for part in parts), (
            module,
            name,
        )
        assert parts[:2] != ["numpy", "core"]
        assert module not in ("numpy.rec", "numpy.char")  # modules since NumPy 2
        assert (module, name) != ("numpy", "bool")
    found = pickle.loads(data)
    assert type(found) is type(sent)
    if isinstance(sent, np.ma.MaskedArray):  # of objects the fill value comes back as a text
        assert (found.tolist(), found.mask.tolist()) == (sent.tolist(), sent.mask.tolist())
    elif not callable(sent) and "0x" not in repr(sent):
        assert repr(found) == repr(sent)
    if isinstance(sent, (type, np.ufunc)) or what in ("function", "function in C", "s_", "mgrid"):
        assert found is sent


@pytest.mark.parametrize("what", [name for name, one in ZOO.items() if isinstance(one, np.generic)])
def test_scalars(what: str) -> None:
    sent = ZOO[what]
    found, _, outside = send([sent, sent])
    assert found[0] is found[1]
    assert (type(found[0]), found[0].dtype) == (type(sent), sent.dtype)
    # The padding of a long double on x86 is not a part of its value.
    assert found[0].tobytes()[:10] == sent.tobytes()[:10] or sent.dtype.hasobject
    assert outside == 0
    if isinstance(sent, np.void) and sent.dtype.names:
        found[0][0] = 7
        assert found[0].tolist()[0] == 7
        assert sent.tolist()[0] == 1


def test_the_padding_of_a_structure_is_not_sent() -> None:
    dtype = np.dtype([("a", "u1"), ("b", "f8")], align=True)
    scalar = np.frombuffer(bytearray(b"1secret:" + bytes(8)), dtype)[0]
    data = dumps([scalar])
    assert b"secret" not in data
    assert loads(data)[0] == scalar


ALIGNED = np.dtype([("a", "u1"), ("b", "f8")], align=True)


@pytest.mark.parametrize(
    "dtype",
    [
        ALIGNED,
        np.dtype((ALIGNED, (2, 3))),
        np.dtype([("x", ALIGNED), ("y", "i2")]),
        np.dtype([("x", ALIGNED), ("y", "i2", (3,))], align=True),
        np.dtype([(("title", "a"), "u1"), ("o", "O")], align=True),
        np.dtype((np.record, ALIGNED)),
        np.dtype(ALIGNED, metadata={"unit": "m"}),
        np.dtype(
            {"names": ["a"], "formats": ["u1"], "offsets": [8], "itemsize": 32, "aligned": True}
        ),
    ],
)
def test_aligned_structures(dtype: np.dtype[Any]) -> None:
    data = dumps(dtype)
    found = loads(data)
    assert found == dtype
    assert (found.isalignedstruct, found.type) == (dtype.isalignedstruct, dtype.type)
    assert (found.flags, found.alignment) == (dtype.flags, dtype.alignment)
    assert dict(found.metadata or {}) == dict(dtype.metadata or {})
    # NumPy 1.26 cannot read what 2 writes for one; and 2 loses the alignment of what 1.26 writes.
    assert all(
        place == "jshm.pickling.frozen" for place, name in names(data) if name == "aligned_dtype"
    )


def test_a_module_within_numpy_that_is_not_there() -> None:
    def norm(x: Any) -> Any:
        return np.linalg.norm(x)

    name = "numpy.linalg.linalg"  # as in 1.26
    sys.modules[name] = types.ModuleType(name)
    try:
        data = dumps(norm)
    finally:
        del sys.modules[name]
    assert name.encode() in data
    assert loads(data)([3, 4]) == 5


def test_functions_of_numpy_strings() -> None:
    data = dumps([np.char.upper, np.char.title])
    assert b"strings" not in data
    assert loads(data) == [np.char.upper, np.char.title]


@pytest.mark.parametrize(
    "kind",
    [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64],
)
def test_generators_go_on_where_they_were(kind: Any) -> None:
    bits = kind(5)
    one, other = np.random.Generator(bits), np.random.Generator(bits)
    one.normal(size=7)
    one.integers(0, 9, dtype=np.int32)  # half of a number is kept for the next one
    found, same, old = loads(dumps([one, other, np.random.RandomState(bits)]))
    assert found.bit_generator is same.bit_generator is old._bit_generator
    assert found.integers(0, 9, 10, np.int32).tolist() == one.integers(0, 9, 10, np.int32).tolist()
    assert found.normal(size=5).tolist() == one.normal(size=5).tolist()
    children = [g.spawn(2)[1].normal() for g in (found, one)]
    assert children[0] == children[1]


def test_an_old_generator_goes_on_where_it_was() -> None:
    sent = np.random.RandomState(3)
    sent.normal()  # makes two
    found = loads(dumps(sent))
    assert found.normal(size=5).tolist() == sent.normal(size=5).tolist()


def test_numpy_counts_as_needed_where_its_parts_are_named() -> None:
    import io

    from jshm.pickling import arrays

    for sent, needed in (
        ([np.zeros(3), np.float64(1), np.sum, np.add], False),
        (np.linalg.norm, True),
    ):
        pickler = Pickler(io.BytesIO())
        pickler.dump(sent)
        assert arrays.version(pickler.needs) == ({"numpy": np.__version__} if needed else {})


class New(np.ndarray):  # type: ignore[type-arg]
    """Only `copy` uses it: no array is pickled by it."""

    def __getnewargs__(self) -> Any:
        return (1,)


class Slotted(np.ndarray):  # type: ignore[type-arg]
    __slots__ = ("unit", "unset")


def test_a_subclass_that_only_says_how_it_is_made_keeps_its_attributes() -> None:
    sent: Any = np.arange(3.0).view(New)
    sent.unit = "m"
    found, _, outside = send(sent)
    assert (type(found), found.tolist(), found.unit, outside) == (New, [0, 1, 2], "m", 24)


def test_a_subclass_with_slots_keeps_them() -> None:
    sent: Any = np.arange(3.0).view(Slotted)
    sent.unit = "m"
    found = send(sent)[0]
    assert (type(found), found.tolist(), found.unit) == (Slotted, [0, 1, 2], "m")
    assert not hasattr(found, "unset")


def test_the_end_of_python_is_silent() -> None:
    """The functions that were written are freed after this module."""
    code = """
import builtins, jshm
def f(): pass
jshm.dumps(f)
builtins.kept = f.__code__
import sys
import types
sys.kept = [f.__code__, lambda: f]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
