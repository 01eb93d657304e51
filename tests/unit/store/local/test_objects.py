"""Objects of any kind, shared between processes: exact, not copied, checked, or refused with a reason.

Most tests have three parties: this process publishes; `reader`, another process, attaches; files, tables
and the kernel's list of mappings are read without jshm.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import importlib.util
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
import types
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.segment.object_layout import parse_object
from jshm.store import default_store
from jshm.store.local import attach

from ....support.processes import Child, in_store, reading
from ....support.touching import BASES, RAISING, recording, touched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

# Also run in the reader: describes the content of an object in JSON.
HELPERS = '''
import dataclasses, gc, hashlib, os
import numpy as np

def arrays(x):
    """All arrays in an object, in the order of its parts."""
    if isinstance(x, np.ma.MaskedArray):
        return [x.data, np.ma.getmaskarray(x)]
    if isinstance(x, np.ndarray):
        return [x]
    if isinstance(x, memoryview):
        return [np.asarray(x)]
    if isinstance(x, dict):
        return [a for value in x.values() for a in arrays(value)]
    if isinstance(x, (list, tuple)):
        return [a for value in x for a in arrays(value)]
    if hasattr(x, "columns"):
        return [x[name].to_numpy() for name in x.columns if x[name].dtype.kind in "fiuMm"]
    if hasattr(x, "indptr"):
        return [x.data, x.indices, x.indptr]
    if hasattr(x, "__dict__"):
        return arrays(vars(x))
    return []

def digest(a):
    a = np.asarray(a)
    return hashlib.sha1(a.tobytes()).hexdigest()

def told(x):
    """Dtype, shape, order where it has one, and bytes of every array."""
    found = []
    for a in arrays(x):
        a = np.asarray(a)
        order = a.flags.forc and [a.flags.c_contiguous, a.flags.f_contiguous]
        found.append([repr(a.dtype), list(a.shape), order, digest(a)])
    return found

def where(a):
    """The file that an array's memory is of, its offset there, its length, by the kernel's list."""
    low, high = np.lib.array_utils.byte_bounds(a)
    for line in lines():
        fields = line.split(None, 5)
        start, end = (int(n, 16) for n in fields[0].split("-"))
        if start <= low < end:
            return [fields[5].strip() if fields[5:] else "", low - start + int(fields[2], 16), high - low]

def mapped():
    """Which segments' files this process has mapped, as often as it has."""
    paths = [line.split(None, 5)[5].strip() for line in lines() if "/segments/" in line]
    return sorted(os.path.basename(path) for path in paths)

def lines():
    with open("/proc/self/maps") as file:
        return file.readlines()
'''
names: dict[str, Any] = {"__name__": "elsewhere"}
exec(HELPERS, names)
told, where, mapped = names["told"], names["where"], names["mapped"]
PRELUDE = struct.Struct("<8sIII")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with reading(tmp_path_factory.mktemp("reader"), HELPERS) as child:
        yield child


@pytest.fixture
def reader(store: LocalStore, process: Child) -> Iterator[Child]:
    """Another process that uses the store of this test."""
    with in_store(process, store.directory.root) as child:
        yield child


def header_of(path: str) -> tuple[dict[str, Any], int]:
    """Return the parsed header of an object's file, and the offset of its pickle."""
    with open(path, "rb") as file:
        magic, version, length, checksum = PRELUDE.unpack(file.read(PRELUDE.size))
        body = file.read(length)
    assert (magic, checksum) == (b"\x93JSHMOBJ", zlib.crc32(body))
    content = json.loads(body)
    assert version == 2
    return content, up(PRELUDE.size + length)


def up(offset: int) -> int:
    return (offset + 63) // 64 * 64


def overwrite(path: str, position: int, content: bytes) -> None:
    os.chmod(path, 0o600)
    with open(path, "r+b", buffering=0) as file:
        file.seek(position)
        file.write(content)


def read(path: str, position: int, length: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(position)
        return file.read(length)


def files(store: LocalStore) -> list[str]:
    return sorted(os.listdir(store.directory.segments))


# -- exact, and not copied -------------------------------------------------------------------------


def dataclass_of_arrays() -> Any:
    # Like a class of a notebook cell: it cannot be imported.
    fit = dataclasses.make_dataclass("Fit", ["w", "b"], namespace={"__module__": "__main__"})
    return fit(np.arange(50.0), np.arange(7, dtype="i2"))


def data_frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(
        {"a": np.arange(100.0), "b": np.arange(100), "c": np.arange(100.0) * 2,
         "t": np.arange(100).astype("M8[ns]")},
    )  # fmt: skip


def sparse() -> Any:
    scipy = pytest.importorskip("scipy.sparse")
    return scipy.csr_matrix(np.eye(40) * np.arange(40.0))


G = np.arange(24.0).reshape(4, 6)
VALUES: dict[str, Callable[[], Any]] = {
    "a dict of arrays": lambda: {"X": G, "y": np.arange(4), "mask": np.array([True, False])},
    "small ones": lambda: [np.arange(1, dtype="u1"), np.arange(3.0), np.zeros((1, 1), "c16")],
    "F order": lambda: [np.asfortranarray(G), np.asfortranarray(G.reshape(2, 3, 4))],
    "strided": lambda: [G[::2], G[:, 1:4], G.reshape(2, 3, 4).transpose(1, 0, 2), np.diag(G)],
    "reversed": lambda: [G[::-1], G[:, ::-1], np.arange(5)[::-2]],
    "broadcast": lambda: [np.broadcast_to(np.float64(7), (3, 4))],
    "read-only": lambda: [np.frombuffer(bytes(range(64)), "u2")],
    "other byte order": lambda: [G.astype(">f8"), np.arange(5, dtype=">u2")],
    "times": lambda: [np.arange(5).astype("M8[us]"), np.arange(5).astype("m8[D]")],
    "texts": lambda: [np.array(["ä", "bcd"]), np.array([b"ab", b"c"]), np.zeros(3, "V5")],
    "structures": lambda: [np.array([(1, 2.5, "x")] * 3, [("a", "i1"), ("b", "f8"), ("c", "U2")])],
    "halves and long ones": lambda: [np.arange(5, dtype="f2"), np.arange(5, dtype=np.longdouble)],
    "no axis": lambda: [np.array(3.5), np.array(1, ">i4")],
    "masked": lambda: [np.ma.masked_greater(np.arange(20.0), 9), np.ma.array(G, mask=G < 3)],
    "a memoryview": lambda: [memoryview(np.arange(9.0)), memoryview(bytes(50)), memoryview(G)],
    "a view of any memory": lambda: {"v": memoryview(np.arange(20))[3:9]},
    "a dataclass": dataclass_of_arrays,
    "a DataFrame": data_frame,
    "a sparse matrix": sparse,
    "deep": lambda: {"a": [{"b": (np.arange(5), [np.arange(6.0)])}]},
}


@pytest.mark.parametrize("what", VALUES)
def test_objects_come_back_exactly_without_a_copy(
    store: LocalStore, reader: Child, what: str
) -> None:
    value = VALUES[what]()
    info = jshm.publish("X", value)
    path = store.location("X")
    assert (info.kind, info.dtype, info.shape, info.version) == ("object", None, (), 1)
    reader.run("value = jshm.attach('X')")
    expected, got = told(value), reader.run("told(value)")
    for mine, theirs in zip(expected, got, strict=True):
        if not mine[2]:
            mine[2] = theirs[2]  # a strided array is stored contiguously
    assert got == expected
    assert all(order is not False for _, _, order, _ in got)
    places = reader.run("[where(a) for a in arrays(value)]")
    assert {place[0] for place in places} == {path}
    # The same pages: every byte written through the file is visible in the reader's array.
    for place in places:
        before = read(*place)
        overwrite(path, place[1], bytes(255 - byte for byte in before))
    changed = reader.run("[a.tobytes().hex() for a in map(np.asarray, arrays(value))]")
    overwritten = [read(*place).hex() for place in places]
    assert [sorted(bytes.fromhex(c)) for c in changed] == [
        sorted(bytes.fromhex(o)) for o in overwritten
    ]
    assert [digest for _, _, _, digest in reader.run("told(value)")] != [e[3] for e in expected]
    # Read-only and private: a write past the flag changes no other process's data.
    flags = "[bool(a.flags.writeable) for a in map(np.asarray, arrays(value))]"
    assert not any(reader.run(flags))
    reader.run("del value; gc.collect()")
    assert reader.run("mapped()") == []


def test_the_read_only_flag_cannot_be_lifted(store: LocalStore) -> None:
    lifted = []
    for name in sorted(set(VALUES) - {"a memoryview", "a view of any memory"}):
        try:
            value = VALUES[name]()
        except pytest.skip.Exception:  # no pandas, no SciPy
            continue
        jshm.publish("X", value)
        for array in names["arrays"](jshm.attach("X")):
            assert not array.flags.writeable
            with contextlib.suppress(ValueError):
                array.flags.writeable = True
                lifted.append(name)
    assert lifted == []


@pytest.mark.parametrize("what", ["a dict of arrays", "F order", "times", "masked", "a dataclass",
                                  "a view of any memory", "a sparse matrix"])  # fmt: skip
def test_copy_on_write(store: LocalStore, reader: Child, what: str) -> None:
    value = VALUES[what]()
    jshm.publish("X", value)
    path = store.location("X")
    whole = read(path, 0, 1 << 20)
    reader.run("kept = jshm.attach('X'); before = told(kept); value = jshm.attach('X', 'c')")
    assert reader.run("before == told(value)")
    assert reader.run("all(np.asarray(a).flags.writeable for a in arrays(value))")
    places = reader.run("[where(a) for a in arrays(value)]")
    assert {place[0] for place in places} == {path}
    reader.run("for a in arrays(value): np.asarray(a)[...] = 1")
    assert reader.run("all((np.asarray(a) == np.ones((), a.dtype)).all() for a in arrays(value))")
    assert reader.run("told(kept) == before")
    assert reader.run("told(jshm.attach('X')) == told(jshm.attach('X', 'c')) == before")
    assert read(path, 0, 1 << 20) == whole
    assert told(jshm.attach("X")) == reader.run("before")


def test_empty_arrays(store: LocalStore, reader: Child) -> None:
    value = [np.zeros((0,)), np.zeros((0, 3), "i2"), np.zeros((3, 0), order="F"), np.zeros(2, "S0"),
             np.zeros((0,), [("a", "f8")]), np.zeros((2, 0), ">u4"), np.arange(3)]  # fmt: skip
    jshm.publish("X", value)
    for mode in "rc":
        got = reader.run(f"[[repr(a.dtype), a.shape] for a in jshm.attach('X', {mode!r})]")
        assert got == [[repr(a.dtype), list(a.shape)] for a in value]
        assert reader.run(f"jshm.attach('X', {mode!r})[-1].tolist()") == [0, 1, 2]


def test_a_data_frame_with_a_column_of_strings(store: LocalStore, reader: Child) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"n": np.arange(5000.0), "text": [f"row {i}" for i in range(5000)],
         "kind": pandas.Categorical(["a", "b"] * 2500), "any": [{i} for i in range(5000)]},
        index=pandas.date_range("2026-01-01", periods=5000, freq="h"),
    )  # fmt: skip
    info = jshm.publish("X", frame)
    assert info.summary == "DataFrame (5000, 4)"
    assert "any" in info.details.columns
    assert "n" not in info.details.columns
    assert info.details.modules["pandas"] == pandas.__version__
    back = pickle.dumps(frame).hex()
    reader.run("import pickle, pandas; X = jshm.attach('X')")
    assert (
        reader.run(f"pandas.testing.assert_frame_equal(X, pickle.loads(bytes.fromhex({back!r})))")
        is None
    )
    assert reader.run("where(X['n'].to_numpy())[0]") == store.location("X")
    # pandas' own copy-on-write.
    reader.run("X['n'] += 1; X.loc[:, 'more'] = 1")
    assert reader.run("float(jshm.attach('X')['n'].iloc[7])") == 7.0


def test_the_file_matches_the_format(store: LocalStore) -> None:
    """The file is parsed by hand, and its pickle is loaded without jshm."""
    value = {"a": np.arange(1000.0), "b": np.arange(3, dtype="i2"), "n": 5}
    jshm.publish("exp/X", value, note="the note")
    path = store.location("exp/X")
    assert path.endswith(".jshm")
    assert os.stat(path).st_mode & 0o777 == 0o400
    content, start = header_of(path)
    length, checksum = content["pickle"]
    pickled = read(path, start, length)
    assert zlib.crc32(pickled) == checksum
    buffers, end = [], start + length
    for size in content["buffers"]:
        buffers.append(read(path, up(end), size))
        end = up(end) + size
    assert content["buffers"] == [8000, 6]
    assert content["references"] == []
    assert content["what"]["summary"] == "dict of 3"
    back = pickle.loads(pickled, buffers=buffers)
    assert back["n"] == 5
    assert back["a"].tolist() == value["a"].tolist()
    assert back["b"].tolist() == [0, 1, 2]
    magic, length, checksum = struct.unpack("<8sII", read(path, up(end), 16))
    record = read(path, up(end) + 16, length)
    assert (magic, checksum) == (b"\x93JSHMREC", zlib.crc32(record))
    said = json.loads(record)
    assert (said["name"], said["version"], said["note"]) == ("exp/X", 1, "the note")


PLAIN: list[Any] = [
    None, True, 0, -(10**50), 1.5, "text", "", b"bytes", (), (1, "a"), [], {}, {1, 2}, frozenset("a"),
    {"a": {"b": [None, ...]}}, range(3), 2j,
]  # fmt: skip


def test_an_object_without_arrays_maps_nothing(store: LocalStore, reader: Child) -> None:
    names = [f"x{i}" for i in range(len(PLAIN))]
    jshm.publish(dict(zip(names, PLAIN, strict=True)))
    reader.run(f"fds = len(os.listdir('/proc/self/fd')); values = jshm.attach({names!r})")
    expected = [[repr(value), type(value).__name__] for value in PLAIN]
    assert reader.run("[[repr(value), type(value).__name__] for value in values]") == expected
    assert reader.run("mapped(), len(os.listdir('/proc/self/fd')) - fds") == [[], 0]
    assert {i.holders for i in jshm.segments()} == {()}
    assert {jshm.info(name).details.buffers for name in names} == {()}
    # Nobody holds them, so a release frees their memory.
    assert {done.held_by for done in jshm.release(names)} == {()}
    assert files(store) == []
    assert reader.run("[[repr(value), type(value).__name__] for value in values]") == expected


def test_a_long_pickle_maps_nothing(store: LocalStore, reader: Child) -> None:
    value = [f"{i:010}" for i in range(30_000)]
    jshm.publish("X", value)
    assert header_of(store.location("X"))[0]["pickle"][0] > 1 << 18
    reader.run("value = jshm.attach('X')")
    assert reader.run("len(value), value[12345]") == [30_000, "0000012345"]
    assert reader.run("mapped()") == []


def test_many_buffers(store: LocalStore, reader: Child) -> None:
    value = [np.full(3, i) for i in range(5000)]
    jshm.publish("X", value)
    assert len(header_of(store.location("X"))[0]["buffers"]) == 5000
    assert jshm.info("X").details.buffers == (24,) * 5000
    reader.run("fds = len(os.listdir('/proc/self/fd')); value = jshm.attach('X')")
    assert reader.run("all((a == i).all() and len(a) == 3 for i, a in enumerate(value))")
    assert reader.run("len(mapped())") == 1
    assert (
        reader.run("len(os.listdir('/proc/self/fd')) - fds") <= 2
    )  # of the mapping, of the log of holds
    reader.run("last = value[4999]; del value; gc.collect()")
    assert reader.run("mapped()") == [os.path.basename(store.location("X"))]
    reader.run("del last; gc.collect()")
    assert reader.run("mapped()") == []


class ZeroCopyByteArray(bytearray):
    """The example in Python's documentation of out-of-band buffers."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self)._reconstruct, (pickle.PickleBuffer(self),), None

    @classmethod
    def _reconstruct(cls, obj: Any) -> Any:
        with memoryview(obj) as view:
            obj = view.obj
            return obj if type(obj) is cls else cls(obj)


@pytest.mark.parametrize("mode", ["r", "c"])
def test_the_exporter_of_a_buffer_is_that_buffer(store: LocalStore, mode: Any) -> None:
    sent = [ZeroCopyByteArray(b"a"), ZeroCopyByteArray(b"bc" * 1000), ZeroCopyByteArray(b"")]
    jshm.publish("o", [*sent, np.arange(3.0), pickle.PickleBuffer(b"raw")])
    *found, array, raw = jshm.attach("o", mode)
    assert found == sent
    assert array.tolist() == [0, 1, 2]
    assert array.flags.writeable == (mode == "c")
    assert jshm.is_shared(array)
    assert (bytes(raw), raw.readonly) == (b"raw", True)


def test_a_repeated_array_takes_no_memory_before_it_is_refused(
    store: LocalStore,
) -> None:
    """A view of eight bytes with a size of eight petabytes."""
    with pytest.raises(jshm.NoSpaceError, match="needs"):
        jshm.publish("o", {"x": np.broadcast_to(np.float64(1), (10**9, 10**6))})
    assert store.names() == []


def test_gaps_between_buffers_hold_nothing_of_an_older_version(store: LocalStore) -> None:
    for _ in range(3):
        jshm.publish("X", np.full(4_000_000, 0x53, np.uint8))
    for n in range(3):
        jshm.publish("o", [np.zeros(2_000_001, np.uint8), n, np.zeros(1_990_003, np.uint8)])
    with open(store.location("o"), "rb") as file:
        content = file.read()
    assert b"SS" not in content[: parse_object(content).end]


def test_identity_and_cycles(store: LocalStore, reader: Child) -> None:
    a = np.arange(100)
    loop: list[Any] = [a, a, {"a": a}]
    loop.append(loop)
    jshm.publish("X", loop)
    assert header_of(store.location("X"))[0]["buffers"] == [800]
    assert (
        reader.run(
            "X = jshm.attach('X'); a = X[0]\n"
            "[X[1] is a, X[2]['a'] is a, X[3] is X, a.tolist() == list(range(100))]"
        )
        == [True] * 4
    )


def test_two_attaches_give_two_objects_over_one_memory(store: LocalStore, reader: Child) -> None:
    jshm.publish("X", {"a": np.arange(1000.0)})
    reader.run("one, two = jshm.attach('X'), jshm.attach('X')")
    assert reader.run("one is two, len(mapped()), np.shares_memory(one['a'], two['a'])") == [
        False, 1, True,
    ]  # fmt: skip
    reader.run("one['mine'] = 1; one['a'] = None")
    assert reader.run("list(two), two['a'].tolist()[-1]") == [["a"], 999.0]


def test_a_published_object_is_a_snapshot(store: LocalStore, reader: Child) -> None:
    a = np.arange(10)
    value = {"a": a, "l": [1]}
    jshm.publish("X", value)
    a[:] = 0
    value["l"].append(2)
    assert reader.run("x = jshm.attach('X'); [x['a'].tolist(), x['l']]") == [list(range(10)), [1]]
    assert a.flags.writeable


# -- what is easily lost on the way ----------------------------------------------------------------


def test_arrays_are_written_once_when_the_pickler_restarts(
    store: LocalStore, reader: Child
) -> None:
    import builtins

    jshm.publish("X", {"a": np.zeros(4), "module": builtins, "b": np.ones(4)})
    assert reader.run("X = jshm.attach('X'); [X['a'].tolist(), X['b'].tolist()]") == [
        [0.0] * 4, [1.0] * 4,
    ]  # fmt: skip


def test_a_memoryview_in_fortran_order(store: LocalStore, reader: Child) -> None:
    view = memoryview(np.asfortranarray(np.arange(6).reshape(2, 3)))
    assert view.tolist() == [[0, 1, 2], [3, 4, 5]]
    jshm.publish("X", {"m": view})
    assert reader.run("jshm.attach('X')['m'].tolist()") == [[0, 1, 2], [3, 4, 5]]


FORMATS = {
    "byte order": np.arange(3, dtype=">i8"),
    "complex": np.arange(3) + 1j,
    "half": np.arange(3, dtype="f2"),
    "structure": np.zeros(2, [("a", "i4"), ("b", "f8")]),
    "bytes": np.array([b"ab", b"c"]),
    "empty": np.zeros((0, 3)),
}


@pytest.mark.parametrize("what", FORMATS)
def test_a_memoryview_that_comes_back_or_is_refused(store: LocalStore, what: str) -> None:
    view = memoryview(FORMATS[what])
    try:
        jshm.publish("X", {"m": view})
    except jshm.NotShareableError:
        return
    try:
        back = jshm.attach("X")["m"]
    except (ValueError, TypeError) as error:
        raise AssertionError(f"published, and cannot be attached: {error}") from None
    assert (back.format, back.shape, back.tobytes()) == (view.format, view.shape, view.tobytes())


# Each with an expression that is true after an attach; those without one are refused.
COMPILED = {
    "c.CDLL('libm.so.6')": "o.cos",
    "c.c_double * 3": "o is c.c_double * 3",
    "(c.c_double * 3)(1, 2, 3)": "list(o) == [1, 2, 3]",
    "c.CFUNCTYPE(c.c_int)": "o is c.CFUNCTYPE(c.c_int)",
    "type(np.dtype('f8'))": "o is type(np.dtype('f8'))",
    "type(type(np.dtype('f8')))": "o is type(type(np.dtype('f8')))",
    "type({}.keys())": "o is type({}.keys())",
    "c.pointer(c.c_int(1))": "",
    "c.CFUNCTYPE(c.c_int)(lambda: 1)": "",
    "type(functools.cmp_to_key(len))": "",
}


@pytest.mark.parametrize("expression", COMPILED)
def test_published_objects_can_be_attached(
    store: LocalStore, reader: Child, expression: str
) -> None:
    import ctypes
    import functools

    names = {"__name__": __name__, "c": ctypes, "np": np, "functools": functools}
    value = eval(expression, names)
    if COMPILED[expression]:
        jshm.publish("X", value)
        reader.run("import ctypes as c\nimport numpy as np\no = jshm.attach('X')")
        assert reader.run(f"bool({COMPILED[expression]})")
        return
    before = files(store)
    with pytest.raises(jshm.NotShareableError, match=r"^X → .*cannot be shared: "):
        jshm.publish("X", value)
    assert store.names() == []
    assert files(store) == before


def test_a_module_name_that_is_not_a_string(store: LocalStore) -> None:
    def function() -> None: ...

    function.__name__ = "f\ud800"
    try:
        with contextlib.suppress(jshm.JshmError):
            jshm.publish("X", function)
            assert callable(jshm.attach("X"))
    finally:
        jshm.gc()


def test_an_object_that_attaches_a_missing_name(store: LocalStore) -> None:
    jshm.publish("X", Attaching())
    with pytest.raises(jshm.SegmentNotFoundError, match="nothing is shared under 'missing'"):
        jshm.attach("X")


class Attaching:
    def __reduce__(self) -> Any:
        return jshm.attach, ("missing",)


def test_info_of_a_version_that_is_replaced_during_the_call(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    jshm.publish("X", {"a": 1})
    find, left = attach.find, [1]

    def slow(*args: Any) -> Any:
        found = find(*args)
        if left:
            left.pop()
            jshm.publish("X", {"a": 2})
        return found

    monkeypatch.setattr(attach, "find", slow)
    assert jshm.info("X").version in (1, 2)


# -- modes -----------------------------------------------------------------------------------------


def test_objects_cannot_be_published_writable(store: LocalStore, reader: Child) -> None:
    jshm.publish("X", {"a": np.arange(3)})
    error = reader.fails("jshm.attach('X', 'r+')")
    assert {"ReadOnlyError", "PermissionError"} < set(error.kinds)
    assert 'mode="c"' in error.message
    before = files(store)
    for values in (
        {"Y": {"a": 1}},
        {"Y": np.zeros(3), "Z": [np.zeros(3)]},
        {"Y": np.zeros(3, object)},
    ):
        with pytest.raises(jshm.NotShareableError, match=r"is a (dict|list|ndarray).*LIVE"):
            jshm.publish(values, writable=True)
    with pytest.raises(jshm.InvalidModeError):
        jshm.attach("X", "w")  # type: ignore[call-overload]
    assert files(store) == before
    assert store.names() == ["X"]
    assert reader.run("mapped()") == []


def test_move_rebinds_to_the_shared_copy(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"a": np.arange(1000.0)}
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "mine", value, raising=False)
    monkeypatch.setattr(main, "others", {"a": 1}, raising=False)
    jshm.publish("X", value, move=True)
    assert main.mine is not value
    assert where(main.mine["a"])[0] == store.location("X")
    assert main.others == {"a": 1}


# -- versions and groups ---------------------------------------------------------------------------


def test_holders_keep_an_older_version(store: LocalStore, reader: Child) -> None:
    jshm.publish("X", {"a": np.arange(1000)})
    first = store.location("X")
    reader.run("old = jshm.attach('X')")
    assert jshm.publish("X", {"a": np.arange(3)}).version == 2
    assert reader.run("jshm.attach('X')['a'].tolist()") == [0, 1, 2]
    assert reader.run("jshm.attach('X', version=1)['a'].tolist()[-1]") == 999
    assert [(i.version, i.state) for i in jshm.segments()] == [(1, "old"), (2, "current")]
    assert reader.run("old['a'].tolist() == list(range(1000))")
    assert os.path.exists(first)
    reader.run("del old; gc.collect(); default_store().flush()")
    jshm.gc()
    assert not os.path.exists(first)
    # From one kind to the other, and back.
    assert jshm.publish("X", np.arange(4)).kind == "array"
    assert reader.run("jshm.attach('X').tolist()") == [0, 1, 2, 3]
    assert jshm.publish("X", "text").version == 4
    assert reader.run("jshm.attach('X')") == "text"
    assert len(files(store)) == 1


def test_a_release_while_the_object_is_held(store: LocalStore, reader: Child) -> None:
    jshm.publish("X", {"a": np.arange(1000)})
    reader.run("held = jshm.attach('X')")
    (done,) = jshm.release("X")
    assert (done.freed, done.held_by) == (0, ("reader.py",))
    assert files(store) == []
    assert "SegmentNotFoundError" in reader.fails("jshm.attach('X')").kinds
    assert reader.run("held['a'].sum() == sum(range(1000))")
    assert [i.state for i in jshm.segments()] == ["released"]
    reader.run("del held; gc.collect(); default_store().flush()")
    jshm.gc()
    assert jshm.segments() == []


def test_a_publish_is_all_or_nothing(store: LocalStore, reader: Child, tmp_path: Path) -> None:
    reader.run("jshm.publish('theirs', {'a': 1})")
    before = files(store)
    with open(tmp_path / "open", "w") as file:
        bad: list[tuple[dict[str, Any], Any, str]] = [
            ({"a": {"x": np.zeros(9)}, "b": {"deep": [file]}}, jshm.NotShareableError, r"deep.*0"),
            ({"a": np.zeros(9), "b": threading.Lock()}, jshm.NotShareableError, "lock"),
            ({"a": [np.zeros(9)], "theirs": 1}, jshm.NotOwnerError, "theirs v1 was published by reader"),
            ({"a": [np.zeros(1 << 20)], "theirs": 1}, jshm.NotOwnerError, "theirs v1"),
            ({"a": [np.zeros(9)], "no name": 1}, jshm.InvalidNameError, "no name"),
        ]  # fmt: skip
        for values, error, match in bad:
            with pytest.raises(error, match=match):
                jshm.publish(values)
            jshm.gc()
            assert files(store) == before
            assert store.names() == ["theirs"]
            assert jshm.check() == []
    one, two = jshm.publish({"a": {"x": np.arange(3)}, "b": np.arange(4)})
    assert (one.kind, two.kind) == ("object", "array")
    assert reader.run("x, y = jshm.attach(['a', 'b']); [x['x'].tolist(), y.tolist()]") == [
        [0, 1, 2], [0, 1, 2, 3],
    ]  # fmt: skip


def test_two_names_are_attached_from_one_publish(store: LocalStore, reader: Child) -> None:
    """An object and an array are replaced together while another process attaches both."""
    publish = "jshm.publish({'X': {'n': i, 'a': numpy.full(50, i)}, 'y': numpy.full(3, i)})"
    reader.run(f"i = 0; {publish}")
    reader.send(f"for i in range(1, 301): {publish}")
    seen = set()
    while True:
        x, y = jshm.attach(["X", "y"])
        values = {x["n"], *x["a"].tolist(), *y.tolist()}
        assert len(values) == 1
        seen |= values
        if 300 in values:
            break
    reader.receive()
    assert len(seen) >= 5


def test_threads(store: LocalStore) -> None:
    failed: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for i in range(25):
                jshm.publish({f"t{k}": {"a": np.full(20, i)}, "all": [np.full(20, k)]})
                mine, shared = jshm.attach([f"t{k}", "all"])
                assert set(mine["a"].tolist()) == {i}
                assert len(set(shared[0].tolist())) == 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert jshm.info("all").version == 100


# -- what lists say --------------------------------------------------------------------------------


def test_info_of_an_object(store: LocalStore, reader: Child) -> None:
    reader.run(
        "def train(X, lr=0.1):\n    'Fit it.\\n\\nMore.'\n    return X * lr\n"
        "jshm.publish('train', train, note='v')"
    )
    info = jshm.info("train")
    assert info.summary == "function train(X, lr=0.1)"
    assert info.details.doc == "Fit it."
    assert info.details.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert info.details.copied == header_of(store.location("train"))[0]["pickle"][0]
    assert (info.note, info.publisher, info.mine) == ("v", "reader.py", False)
    assert jshm.attach("train")(np.arange(3.0), 2).tolist() == [0, 2, 4]
    (listed,) = jshm.segments()
    assert (listed.summary, listed.details) == (info.summary, None)
    reader.run("jshm.release('train')")


class Odd(np.ndarray[Any, Any]):
    """An array whose attributes shadow those of NumPy."""

    dtype = shape = base = flags = view = property(lambda _: 1 / 0)  # type: ignore[assignment]


# -- what is not touched ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", RAISING)
def test_every_object_that_dumps_accepts_can_be_published(store: LocalStore, name: str) -> None:
    value = RAISING[name]
    try:
        jshm.loads(jshm.dumps(value))
    except jshm.NotShareableError:
        with pytest.raises(jshm.NotShareableError, match="X → tests"):
            jshm.publish("X", value)
        assert name == "slotted"  # its attributes raise when `pickle` reads them
    else:
        published = jshm.publish("X", value)
        assert published == jshm.info("X")
        assert type(jshm.attach("X")) is type(value)
        assert jshm.segments()[0].summary == published.summary


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_a_publish_accesses_no_more_attributes_than_a_dump(store: LocalStore, base: Any) -> None:
    value = recording(base)
    jshm.dumps(value)  # fills the caches for its class
    touched.clear()
    jshm.dumps(value)
    dumped = touched.copy()
    touched.clear()
    jshm.publish("X", value)
    assert touched == dumped
    touched.clear()
    assert jshm.info("X").summary == ("Recording (2,)" if base is np.ndarray else "Recording")
    assert jshm.segments()[0].name == "X"
    assert touched == []


def test_an_array_subclass_with_its_own_reduction(store: LocalStore) -> None:
    array = np.ndarray.view(np.arange(4.0), Odd)
    jshm.publish("X", array)
    found = jshm.attach("X")
    assert type(found) is Odd
    assert np.ndarray.tolist(found) == [0, 1, 2, 3]


def test_groups_of_tables(store: LocalStore) -> None:
    pd: Any = pytest.importorskip("pandas")
    table = pd.DataFrame({"a": [1, 2, 1], "b": [1.0, 2.0, 3.0], "c": ["x", "y", "z"]})
    for groups in (table.groupby("a"), table.groupby("a").b, table.groupby("a").c):
        info = jshm.publish("groups", groups)
        assert info.summary == type(groups).__name__
        assert jshm.attach("groups").max().equals(groups.max())
    for window in (table.b.rolling(2), table.b.expanding(), table.b.ewm(1)):
        jshm.publish("window", window)
        assert jshm.attach("window").mean().equals(window.mean())


def test_a_method_of_a_partial(store: LocalStore) -> None:
    method = types.MethodType(functools.partial(max, 5), 7)
    info = jshm.publish("method", method)
    assert info.summary == "function partial(…)"
    assert jshm.attach("method")() == 7
    cycle = functools.partial(print)
    cycle.__setstate__((print, (cycle,), {}, {}))
    assert jshm.publish("cycle", cycle).summary == "partial of print"
    loop = functools.partial(print)
    loop.__setstate__((loop, (), {}, {}))
    with pytest.raises(jshm.NotShareableError, match="loop is nested too deeply"):
        jshm.publish("loop", loop)


def test_holders_of_an_object(store: LocalStore, reader: Child) -> None:
    jshm.publish("X", {"a": np.arange(9)})
    assert not jshm.info("X").in_use
    reader.run("r, c = jshm.attach('X'), jshm.attach('X', 'c')")
    assert {(h.label, h.mode, h.pid) for h in jshm.info("X").holders} == {
        ("reader.py", "r", reader.pid), ("reader.py", "c", reader.pid),
    }  # fmt: skip
    reader.run("del r, c; gc.collect(); default_store().flush()")
    assert not jshm.info("X").in_use


# -- no room ---------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[str]:
    """A store directory on a file system of 8 MB."""
    point = tmp_path / "mount"
    point.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(point)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield str(point / "store")
    subprocess.run(["umount", "-l", point], check=True)


def test_an_object_that_does_not_fit(small: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with Child(tmp_path, env={"JSHM_DIR": small, "JSHM_OVERFLOW_DIR": ""}) as child:
        child.run(
            "import os, warnings, numpy as np, jshm\nfrom jshm.store import default_store\nMB = 1 << 20\n"
            "def files(): return sorted(os.path.getsize(p) // MB for p in"
            " default_store().directory.files().values())\n"
            "jshm.publish({'x': {'a': np.ones(3 * MB, 'u1')}, 'born': 1})\n"
            "born = jshm.zeros(10)"
        )
        for operation in (
            "jshm.publish('x', {'a': np.zeros(5 * MB, 'u1')})",
            "jshm.publish('x', ['y' * (5 * MB)])",
            "jshm.publish('x', [np.zeros(MB, 'u1') for i in range(5)])",
            "jshm.publish({'y': {'b': born}, 'x': {'a': np.zeros(5 * MB, 'u1')}})",
            "jshm.publish({'y': {'a': np.zeros(2 * MB, 'u1')}, 'x': {'a': np.zeros(3 * MB, 'u1')}})",
        ):
            error = child.fails(operation)
            assert {"NoSpaceError", "MemoryError"} < set(error.kinds), operation
            for part in ("needs", "largest not in use: x (3.1 MB, child.py)"):
                assert part in error.message
            assert child.run("files()") == [0, 0, 3]
            assert child.run("jshm.info('x').version, int(jshm.attach('x')['a'].sum())") == [
                1,
                3 << 20,
            ]
            assert child.run("born.flags.writeable")
            assert child.run("jshm.check()") == []
            assert child.run("default_store().names()") == ["born", "x"]
        # Another process uses the free space during the copy.
        child.run("from jshm.store.local import space; space._free = lambda path: 1 << 30")
        for operation in (
            "jshm.publish('x', {'a': np.zeros(9 * MB, 'u1')})",
            "jshm.publish('x', [np.zeros(MB, 'u1') for i in range(9)])",
        ):
            error = child.fails(operation)
            assert "NoSpaceError" in error.kinds
            assert "ran full while it was written" in error.message
            assert child.run("files()") == [0, 0, 3]
            assert child.run("jshm.check()") == []
    with Child(tmp_path, env={"JSHM_DIR": small, "JSHM_OVERFLOW_DIR": str(disk)}) as child:
        child.run("import warnings, numpy as np, jshm; warnings.simplefilter('error')")
        error = child.fails("jshm.publish('big', {'a': np.ones(20 << 20, 'u1')})")
        assert "OverflowWarning" in error.kinds
        child.run("warnings.simplefilter('ignore')")
        child.run("info = jshm.publish('big', {'a': np.ones(20 << 20, 'u1')})")
        assert child.run("info.overflow")
        assert [path.stat().st_size >> 20 for path in disk.rglob("*.jshm")] == [20]
        assert child.run("int(jshm.attach('big')['a'].sum())") == 20 << 20
        # An object that refers to it is small, and stays in memory.
        assert child.run(
            "big = jshm.attach('big'); info = jshm.publish('ref', [big['a'][::2]])\n"
            "[info.overflow, info.nbytes < 4096, len(jshm.attach('ref')[0])]"
        ) == [False, True, 10 << 20]
        assert child.run("jshm.check()") == []
        child.run("jshm.release(['big', 'ref']); del big; jshm.gc()")
        assert list(disk.rglob("*.jshm")) == []


# -- whose file it is ------------------------------------------------------------------------------


class Tripwire:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.fixture
def marker(store_dir: str, tmp_path: Path) -> Path:
    """The file that unpickling the objects ``small`` and ``large`` creates."""
    marker = tmp_path / "unpickled"
    jshm.publish("small", [Tripwire(marker)], keep=True)
    jshm.publish("large", [Tripwire(marker), np.zeros(1000)], keep=True)
    return marker


OPERATIONS: dict[str, Callable[[str], Any]] = {
    "attach": jshm.attach,
    "attach a copy": lambda name: jshm.attach(name, "c"),
    "info": jshm.info,
}


def assert_refused(name: str, marker: Path) -> None:
    for operation in OPERATIONS.values():
        with pytest.raises(jshm.CorruptSegmentError):
            operation(name)
    jshm.segments()
    jshm.gc()
    jshm.check()
    jshm.check(fix=True)
    jshm.publish("fresh", {"a": np.arange(3)})
    assert jshm.attach("fresh")["a"].tolist() == [0, 1, 2]
    assert not marker.exists()


def test_the_tripwire_works(marker: Path) -> None:
    for name in ("small", "large"):
        jshm.attach(name)
        marker.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", ["small", "large"])
def test_another_users_file_is_not_unpickled(marker: Path, name: str) -> None:
    os.chown(default_store().location(name), 65534, 65534)
    assert_refused(name, marker)


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize("what", ["a link to itself", "a link elsewhere", "a directory", "a fifo"])
def test_another_file_in_its_place_is_not_unpickled(
    marker: Path, tmp_path: Path, name: str, what: str
) -> None:
    path = default_store().location(name)
    moved = str(tmp_path / "moved")
    if what == "a link to itself":
        os.rename(path, path + ".moved")
        os.symlink(path + ".moved", path)
    elif what == "a link elsewhere":
        with open(moved, "wb") as file:
            file.write(read(path, 0, 1 << 20))
        os.unlink(path)
        os.symlink(moved, path)
    else:
        os.unlink(path)
        (os.mkdir if what == "a directory" else os.mkfifo)(path)
    assert_refused(name, marker)
    assert os.path.lexists(path)


def test_a_missing_file(marker: Path) -> None:
    for name in ("small", "large"):
        os.unlink(default_store().location(name))
        with pytest.raises(jshm.JshmError, match=r"check --fix|gone"):
            jshm.attach(name)
    problems = jshm.check(fix=True)
    assert len(problems) == 2
    assert jshm.check() == []
    assert default_store().names() == []
    assert not marker.exists()


# -- what a reader lacks ---------------------------------------------------------------------------

PACKAGE = """\
__version__ = {version!r}
class Model:
    def __init__(self, w):
        self.w = w
{more}
"""


def package(directory: Path, version: str, more: str = "") -> dict[str, str]:
    """Create a package that only processes with this environment can import."""
    (directory / "frobnicate").mkdir(parents=True)
    (directory / "frobnicate" / "__init__.py").write_text(
        PACKAGE.format(version=version, more=more)
    )
    return {"PYTHONPATH": str(directory)}


MAKE = (
    "import frobnicate, numpy as np, jshm, os\n"
    "__name__ = '__main__'\n"
    "class Tripwire:\n    def __init__(self, p): self.p = p\n"
    "    def __reduce__(self): return os.mkdir, (self.p,)\n"
)


def test_a_missing_package(store: LocalStore, tmp_path: Path) -> None:
    marker = tmp_path / "unpickled"
    env = package(tmp_path / "here", "3.14.159", "class Late: pass")
    with Child(tmp_path, "train.py", env=env) as train:
        train.run(
            MAKE + f"jshm.publish('m', [Tripwire({str(marker)!r}), frobnicate.Model(np.zeros(9))])"
        )
        info = jshm.info("m")
        assert info.details.modules == {"frobnicate": "3.14.159"}
        with pytest.raises(jshm.MissingModuleError) as caught:
            jshm.attach("m")
        error = caught.value
        assert isinstance(error, ModuleNotFoundError)
        assert error.name == "frobnicate"
        for part in ("m needs frobnicate 3.14.159", sys.executable, "pickle_by_value"):
            assert part in str(error)
        assert not marker.exists()
        del error, caught  # their frames refer to the memory
        gc.collect()
        assert mapped() == []
        # If another version of the package lacks something, the error names both versions.
        train.run("jshm.publish('late', {'m': frobnicate.Late(), 'a': np.zeros(3)})")
        other = package(tmp_path / "there", "2.0")
        with Child(tmp_path, "eda.py", env=other) as eda:
            eda.run("import jshm")
            notes = eda.run(
                "try: jshm.attach('late')\n"
                "except Exception as error: found = [type(error).__name__, *error.__notes__]\n"
                "found"
            )
            assert notes[0] == "AttributeError"
            assert notes[1] == (
                "late was being attached; it was written by frobnicate 3.14.159 (here 2.0)"
            )
            assert eda.run("jshm.info('late').details.modules") == {"frobnicate": "3.14.159"}
        # Pickled by value, it can be attached anywhere.
        train.run(
            "jshm.pickle_by_value('frobnicate'); jshm.publish('m', frobnicate.Model(np.ones(9)))"
        )
        assert jshm.attach("m").w.sum() == 9
        assert jshm.info("m").details.modules == {}
        train.run("jshm.release(['m', 'late'])")


class WritesIntoIt:
    """Writes into its array when it is loaded."""

    def __init__(self) -> None:
        self.a = np.zeros(3)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.a[0] = 1


def test_an_object_that_needs_writable_memory_gets_a_note(store: LocalStore) -> None:
    jshm.publish("o", WritesIntoIt())
    with pytest.raises(ValueError, match="read-only") as caught:
        jshm.attach("o")
    assert any("mode 'c'" in note for note in caught.value.__notes__)
    assert jshm.attach("o", "c").a[0] == 1
    jshm.publish("X", np.zeros(3))
    sent = WritesIntoIt()
    sent.a = jshm.attach("X")
    jshm.publish("refers", sent)
    with pytest.raises(ValueError, match="read-only") as caught:
        jshm.attach("refers")
    assert any("mode 'c'" in note for note in caught.value.__notes__)


class NeedsAnotherNumPy:
    def __reduce__(self) -> Any:
        return _fail, (np.linalg.norm,)


def _fail(_: object) -> None:
    raise AttributeError("no such thing")


def test_an_error_names_the_numpy_version_of_the_publisher(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    jshm.publish("o", NeedsAnotherNumPy())
    assert jshm.info("o").details.modules["numpy"] == np.__version__
    with monkeypatch.context() as patch:
        patch.setattr(np, "__version__", "1.26.4")
        jshm.pickling.modules.version.cache_clear()
        with pytest.raises(AttributeError, match="no such thing") as caught:
            jshm.attach("o")
    jshm.pickling.modules.version.cache_clear()
    assert "(here 1.26.4)" in caught.value.__notes__[0]


def test_an_instance_of_a_class_pickled_by_value(store: LocalStore, tmp_path: Path) -> None:
    """Its module is not in `sys.modules`, as after `spec_from_file_location` or `exec`."""
    path = tmp_path / "plugin.py"
    path.write_text("class Model:\n    w = 3\n")
    spec = importlib.util.spec_from_file_location("plugin_of_nobody", path)
    assert spec is not None
    assert spec.loader is not None
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    jshm.publish("class", plugin.Model)
    assert jshm.attach("class").w == 3
    jshm.publish("instance", plugin.Model())
    assert jshm.attach("instance").w == 3


def test_an_error_of_the_object_names_the_object(store: LocalStore) -> None:
    jshm.publish("X", Refusing())
    with pytest.raises(ZeroDivisionError) as caught:
        jshm.attach("X")
    assert caught.value.__notes__ == ["X was being attached"]


class Refusing:
    def __reduce__(self) -> Any:
        return divmod, (1, 0)


# -- files that nobody registered ------------------------------------------------------------------


UNKNOWN = "0123456789abcdef.jshm"


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        (b"", False),
        (bytes(8), False),
        (bytes(100_000), False),
        (bytes(8) + b"\1\0\0\0" + b"a header" * 20, False),  # killed before its magic was written
        (b"\x93JSHMOBJ" + bytes(100), False),  # torn: no header
        (b"\x93JSHMOBJ", False),
        (b"\x93JSH" + bytes(4) + b"\1\0\0\0" + b"a header" * 20, False),
        (b"\x93JSHMTBL" + b"a table" * 20, True),
        (b"ARROW1\0\0" + b"a table" * 20, True),
        (b"\x93JSHMOBJ\4\0\0\0" + bytes(100), True),
        (b"\x93JSHMOBJ\xff\xff\xff\xff" + bytes(12), True),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_files_of_a_newer_jshm_stay_and_garbage_is_removed(
    store: LocalStore, content: bytes, stays: bool
) -> None:
    jshm.publish("X", {"a": np.arange(3)})
    path = os.path.join(store.directory.segments, UNKNOWN)
    with open(path, "wb") as file:
        file.write(content)
    before = jshm.check()
    assert os.path.exists(path)
    jshm.gc()
    jshm.check(fix=True)
    assert jshm.check() == []
    there = os.path.exists(path)
    if there:
        assert read(path, 0, 1 << 20) == content
        os.unlink(path)
    assert there == stays
    assert (before == []) == stays
    assert jshm.attach("X")["a"].tolist() == [0, 1, 2]


def test_an_unfinished_file_is_not_garbage(store: LocalStore) -> None:
    """It begins with zeros, and a process holds its lock."""
    import fcntl

    path = os.path.join(store.directory.segments, UNKNOWN)
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(bytes(1000))
        file.flush()
        jshm.gc()
        assert jshm.check(fix=True) == []
        assert os.path.exists(path)
    jshm.gc()
    assert not os.path.exists(path)


def test_an_object_of_a_newer_format_is_listed_and_left_alone(store: LocalStore) -> None:
    jshm.publish("X", {"a": np.arange(3)})
    path = store.location("X")
    overwrite(path, 8, struct.pack("<I", 3))
    whole = read(path, 0, 1 << 20)
    for operation in OPERATIONS.values():
        with pytest.raises(jshm.FormatVersionError, match=r"format 3.*upgrade jshm"):
            operation("X")
    assert [(i.name, i.summary) for i in jshm.segments()] == [("X", "dict of 1")]
    assert jshm.check() == []
    assert jshm.check(fix=True) == []
    jshm.gc()
    assert read(path, 0, 1 << 20) == whole
    # After the registry is lost, this version cannot name it; the file stays for the newer one.
    lose_registry(store)
    assert store.names() == []
    jshm.gc()
    assert jshm.check(fix=True) == []
    assert read(path, 0, 1 << 20) == whole
    overwrite(path, 8, struct.pack("<I", 2))
    lose_registry(store)
    assert jshm.attach("X")["a"].tolist() == [0, 1, 2]


def lose_registry(store: LocalStore) -> None:
    store.registry.close()
    for name in os.listdir(store.directory.root):
        if name.startswith("registry.db") and "ballast" not in name:
            os.unlink(os.path.join(store.directory.root, name))


def damage_magic(path: str) -> None:
    overwrite(path, 0, b"\0")


def damage_header(path: str) -> None:
    overwrite(path, 40, b"\xff\xff")


def truncate(path: str) -> None:
    os.truncate(path, 5000)


def empty(path: str) -> None:
    os.truncate(path, 0)


def zeros(path: str) -> None:
    overwrite(path, 0, bytes(os.path.getsize(path)))


@pytest.mark.parametrize("damage", [damage_magic, damage_header, truncate, empty, zeros])
def test_check_forgets_damaged_objects(store: LocalStore, damage: Callable[[str], None]) -> None:
    jshm.publish("X", {"a": np.arange(5000)}, note="n")
    jshm.publish("Y", {"a": np.arange(3)})
    path = store.location("X")
    damage(path)
    with pytest.raises(jshm.CorruptSegmentError):
        jshm.attach("X")
    assert len(jshm.check()) == 1
    assert [problem.fixed for problem in jshm.check(fix=True)] == [True]
    assert jshm.check() == []
    assert store.names() == ["Y"]
    jshm.gc()
    assert not os.path.exists(path)
    assert jshm.publish("X", {"a": 1}).version == 2
    assert jshm.attach("Y")["a"].tolist() == [0, 1, 2]


def test_damaged_objects_can_be_released_and_replaced(store: LocalStore) -> None:
    for name, damage in (("a", truncate), ("b", damage_header), ("c", zeros), ("d", damage_magic)):
        jshm.publish(name, {"a": np.arange(5000)})
        damage(store.location(name))
    jshm.release(["a", "b"])
    jshm.publish({"c": {"a": 1}, "d": np.arange(3)})
    gc.collect()
    assert jshm.check() == []
    assert len(files(store)) == 2


def test_buffers_have_no_checksum(store: LocalStore) -> None:
    """Only the header and the pickle have checksums; a buffer is data, and never code."""
    jshm.publish("X", {"a": np.arange(1000.0)})
    path = store.location("X")
    content, start = header_of(path)
    overwrite(path, up(start + content["pickle"][0]), b"\xff" * 8000)
    assert np.isnan(jshm.attach("X")["a"]).all()
    assert jshm.check() == []
