"""Copies into a segment are exact for every layout, go piece by piece, and stop at Ctrl-C."""

from __future__ import annotations

import math
import os
import signal
import tempfile
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jshm
from jshm.segment import copying, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jshm.store.local.store import LocalStore

Array = np.ndarray[Any, Any]
DTYPES = [
    "f8", ">f4", "i1", "?", "c16", ">u2", "S3", "S0", "U2", "V5", "V0", "M8[us]", ">m8[D]",
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype([("a", ">i2"), ("b", "S3", (2,)), ("c", [("d", "f2")])]),
    np.dtype({"names": ["a"], "formats": ["i2"], "offsets": [3], "itemsize": 9}),
]  # fmt: skip


def elements(array: Array) -> Array:
    """The array, with its items as bytes: `tobytes` would skip the padding of structures."""
    return array.view((np.void, array.itemsize)) if array.itemsize else array


def without_padding(array: Array) -> Array:
    """The items as bytes, with zeros between the fields."""
    if not array.nbytes:
        return elements(array)
    items = np.array([list(item.tobytes()) for item in elements(array).flat], np.uint8)
    items[:, sorted(set(range(array.itemsize)) - set(_of_fields(array.dtype)))] = 0
    return items.view((np.void, array.itemsize)).reshape(array.shape)


def _of_fields(dtype: np.dtype[Any], start: int = 0) -> Iterator[int]:
    if dtype.subdtype is not None:
        for i in range(math.prod(dtype.shape)):
            yield from _of_fields(dtype.base, start + i * dtype.base.itemsize)
    elif dtype.names is None:
        yield from range(start, start + dtype.itemsize)
    for name in dtype.names or ():
        yield from _of_fields(dtype[name], start + dtype.fields[name][1])  # type: ignore[index]


def random_array(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of any bit patterns: NaNs with payloads, booleans that are neither 0 nor 1."""
    dtype = np.dtype(dtype)
    return np.ndarray(shape, dtype, bytearray(os.urandom(math.prod(shape) * dtype.itemsize) or 1))


@st.composite
def sources(draw: st.DrawFn) -> Array:
    """Views with axes in any order and any steps, also broadcast and read-only ones."""
    shape = draw(st.lists(st.integers(0, 6), max_size=4).map(tuple))
    array = random_array(shape, draw(st.sampled_from(DTYPES)))
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    steps = [slice(None, None, draw(st.sampled_from([1, 2, -1, -2]))) for _ in shape]
    array = array[(*steps, ...)]
    if draw(st.booleans()):
        array = np.broadcast_to(array, (draw(st.integers(1, 5)), *array.shape))
    if array.ndim and draw(st.booleans()):
        array = np.moveaxis(array, 0, -1)
    if draw(st.booleans()):
        array = array.view()
        array.flags.writeable = False
    return array


@given(
    sources(), st.sampled_from("CF"), st.integers(1, 300), st.integers(1, 300), st.integers(1, 5)
)
@settings(deadline=None, max_examples=300)
def test_copies_of_every_layout_are_exact(
    source: Array, order: Any, piece: int, buffer: int, few: int
) -> None:
    wanted = without_padding(source).tobytes(order)
    assert copying.packed(source, order).tobytes() == wanted
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile(dir="/dev/shm") as file:
        for name, value in {
            "_PIECE": piece, "_CONTIGUOUS_PIECE": piece, "_BUFFER": buffer, "_TILE": (3, 2),
            "_LINE": few, "_FEW": few, "_CACHE_LINE": few, "_KEPT_LINES": few,
        }.items():  # fmt: skip
            patch.setattr(copying, name, value)
        end = copying.write(file.fileno(), 7, source, order)
        assert end == 7 + len(wanted)
        assert os.pread(file.fileno(), len(wanted) + 1, 7) == wanted

        copy = np.ndarray(source.shape, source.dtype, bytearray(len(wanted) or 1), order=order)
        copying.fill(copy, source)
        assert elements(copy).tobytes(order) == wanted

        strided = random_array((*source.shape, 2), source.dtype)[..., 1]
        copying.fill(strided, source)
        assert elements(strided).tobytes(order) == wanted


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a.reshape(3000, -1)[::2].T,
        lambda a: a[: 2048 * 2048].reshape(2048, -1)[:, 1::2].T,
        lambda a: a.reshape(3, -1, 500).transpose(1, 2, 0),
        lambda a: a.reshape(-1, 500, 3).transpose(2, 0, 1),
        lambda a: a.reshape(20, -1, 300).transpose(0, 2, 1),
        lambda a: a.reshape(100, 100, -1).transpose(1, 2, 0)[::-1],
        lambda a: a.reshape(2, -1, 600).transpose(1, 0, 2)[:, :, ::-1],
        lambda a: a[::2],
    ],
)
def test_copies_of_several_tiles_and_pieces_are_exact(
    make: Callable[[Array], Array],
) -> None:
    for dtype in ("u1", "f4"):
        source = make(random_array((6_000_000,), dtype))
        with tempfile.TemporaryFile(dir="/dev/shm") as file:
            copying.write(file.fileno(), 0, source, "C")
            written = np.fromfile(file, np.uint8)
        filled = np.zeros(source.shape, dtype)
        copying.fill(filled, source)
        assert np.array_equal(written, np.ascontiguousarray(source).reshape(-1).view(np.uint8))
        assert np.array_equal(filled.view(np.uint8).reshape(-1), written)


PADDED = np.dtype(
    {"names": ["x", "y"], "formats": ["<i4", "u1"], "offsets": [8, 3], "itemsize": 20}
)
STRUCTURES = {
    "padded": PADDED,
    "aligned": np.dtype([("x", "u1"), ("y", "f8")], align=True),
    "nested": np.dtype([("a", "u1"), ("b", PADDED, (3,))]),
    "overlapping": np.dtype(
        {"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [4, 6], "itemsize": 16}
    ),
    "titles": np.dtype({"names": ["a"], "formats": ["u1"], "titles": ["t"], "itemsize": 7}),
    "no fields": np.dtype({"names": [], "formats": [], "itemsize": 8}),
    "large": np.dtype({"names": ["a"], "formats": ["u1"], "offsets": [5000], "itemsize": 9000}),
}
VIEWS: dict[str, Any] = {
    "contiguous": lambda a: a,
    "every second": lambda a: a[::2],
    "reversed": lambda a: a[::-1],
    "transposed": lambda a: a.reshape(10, -1).T,
    "neither": lambda a: a.reshape(10, 10, -1).transpose(1, 0, 2),
    "repeated": lambda a: np.broadcast_to(a[:1], (100,)),
    "0-d": lambda a: a[3].reshape(()) if isinstance(a[3], np.ndarray) else a[3:4].reshape(()),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("n", [100, 10_000])
def test_bytes_between_fields_are_zero_in_every_copy(
    store: LocalStore, structure: str, view: str, n: int
) -> None:
    dtype = STRUCTURES[structure]
    source = VIEWS[view](
        np.ndarray(
            (min(n, 4_000_000 // dtype.itemsize // 100 * 100),),
            dtype,
            bytearray(b"\x53" * n * dtype.itemsize),
        )
    )
    wanted = without_padding(source)
    buffers: list[Any] = []
    copies = [
        jshm.loads(jshm.dumps(source, buffer_callback=buffers.append), buffers=buffers),
        jshm.loads(jshm.dumps(source)),
    ]
    # In new memory, in a spare, and in an object.
    for _ in range(3):
        jshm.publish("X", source)
        jshm.publish("O", {"x": source})
        copies += [jshm.attach("X"), jshm.attach("O")["x"]]
    if jshm.store.local.publish.is_array(source):
        copies.append(jshm.SharedNumpyArray.create_copy(source).array)
    for copy in copies:
        assert copy.dtype == dtype
        assert elements(copy).tobytes() == wanted.tobytes()


def test_fields_that_a_view_leaves_out_are_not_published(store: LocalStore) -> None:
    """NumPy's view of some fields also contains the bytes of the others."""
    records = np.zeros(5000, [("x", "f8"), ("secret", "S16"), ("z", "i4")])
    records["secret"] = b"password=hunter2"
    records["x"] = np.arange(5000)
    shown = records[["x", "z"]]
    jshm.publish("X", shown)
    jshm.publish("O", [shown])
    for name in "XO":
        with open(store.location(name), "rb") as file:
            assert b"hunter2" not in file.read()
    assert (jshm.attach("X")["x"] == records["x"]).all()
    assert (jshm.attach("O")[0] == shown).all()
    assert b"hunter2" not in jshm.dumps(shown)


def test_bytes_between_fields_are_zero_in_an_allocated_array(
    store: LocalStore,
) -> None:
    dtype = np.dtype({"names": ["x"], "formats": ["u1"], "offsets": [0], "itemsize": 64})
    for _ in range(3):
        jshm.publish("X", np.full(10_000 * 64, 0x53, np.uint8))
    array = jshm.empty(10_000, dtype)
    array["x"] = 1
    assert elements(array).tobytes() == (b"\1" + bytes(63)) * 10_000
    # The same after a copy into it.
    elements(array)[...] = np.void(b"\1" + b"S" * 63)
    jshm.publish("Y", array)
    assert elements(jshm.attach("Y")).tobytes() == (b"\1" + bytes(63)) * 10_000
    array = jshm.empty((2, 3), dtype, "F")
    elements(array)[...] = np.void(b"\1" + b"S" * 63)
    jshm.publish("o", [array])
    assert elements(jshm.attach("o")[0]).tobytes() == (b"\1" + bytes(63)) * 6


def test_tiles_are_used_if_the_cache_cannot_keep_the_lines() -> None:
    for array, axis in (
        (np.zeros((2048, 2048)).T, 0),
        (np.zeros((10, 2048, 2048), np.uint8).transpose(0, 2, 1), 1),
        (np.zeros((3, 500, 500)).transpose(1, 2, 0), 1),
        (np.zeros((2048, 2048)), None),
        (np.zeros((2048, 2048))[::-1, ::-2], None),
        (np.zeros((100, 100, 100)).transpose(0, 2, 1), None),
        (np.zeros((20_000, 30)).T, None),
        (np.broadcast_to(np.zeros((5000, 1)), (5000, 5000)), None),
        (np.broadcast_to(0.0, (5000, 5000)), None),
    ):
        assert copying._tiled_axis(array) == axis


def test_buffers_are_copied_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_PIECE", 3)
    monkeypatch.setattr(copying, "_CONTIGUOUS_PIECE", 3)
    buffers = [b"abcdefgh", b"", bytearray(b"xy"), memoryview(np.arange(65, 69, dtype=np.int16))]
    wanted = b"".join(map(bytes, buffers))
    memory = np.zeros(40, np.uint8)
    assert copying.fill_bytes(memory, 5, buffers) == 5 + len(wanted)
    assert memory.tobytes() == bytes(5) + wanted + bytes(40 - 5 - len(wanted))
    with tempfile.TemporaryFile() as file:
        assert copying.write_bytes(file.fileno(), 5, buffers) == 5 + len(wanted)
        assert os.pread(file.fileno(), 100, 0) == bytes(5) + wanted


@pytest.mark.parametrize(
    ("source", "limit"),
    [
        (np.zeros((6000, 6000), np.uint8)[:, ::2], copying._BUFFER),
        (np.zeros(36_000_000, ">u2")[::-1], copying._BUFFER),
        (np.broadcast_to(np.zeros(1000), (5000, 1000)), copying._BUFFER),
        (np.zeros((6000, 6000), np.uint8)[::2].T, copying._PIECE),
        (np.zeros((6000, 6000), np.uint8).T, 0),
    ],
    ids=["columns", "backwards", "repeated", "transposed", "Fortran"],
)
def test_no_source_is_copied_as_a_whole(store: LocalStore, source: Array, limit: int) -> None:
    jshm.publish("warm", 1)
    tracemalloc.start()
    try:
        for name, value in {"X": source, "O": {"x": source}}.items():
            tracemalloc.reset_peak()
            jshm.publish(name, value)
            assert tracemalloc.get_traced_memory()[1] < limit + (1 << 19)
    finally:
        tracemalloc.stop()
    for found in (jshm.attach("X"), jshm.attach("O")["x"]):
        assert np.array_equal(found, source)
        assert found.flags.forc


def test_strides_in_f_order_come_back_in_f_order(store: LocalStore) -> None:
    source = np.arange(24.0).reshape(4, 6)[:, ::2].T
    jshm.publish("X", source)
    shared = jshm.attach("X")
    assert np.array_equal(shared, source)
    assert shared.flags.f_contiguous
    assert not shared.flags.c_contiguous


# -- Ctrl-C ----------------------------------------------------------------------------------------


@pytest.fixture
def interrupted_halfway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Send this process a real SIGINT when a given number of bytes was copied, in small pieces."""
    for name in ("_PIECE", "_CONTIGUOUS_PIECE", "_BUFFER"):
        monkeypatch.setattr(copying, name, 1 << 16)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def arm(left: int) -> None:
        def advance(nbytes: int) -> None:
            nonlocal left
            left -= nbytes
            if left <= 0:
                monkeypatch.setattr(progress, "advance", lambda _: pytest.fail("it went on"))
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(progress, "advance", advance)

    try:
        yield arm
    finally:
        signal.signal(signal.SIGINT, handler)


SOURCES: dict[str, Array] = {
    "contiguous": np.zeros(1 << 20),
    "strided": np.zeros(1 << 21)[::2],
    "transposed": np.zeros((512, 2048, 2))[..., 0].T,
    "a list of two": np.zeros((2, 1 << 19)),
}


@pytest.mark.parametrize("times", [0, 1, 3], ids=["first", "second", "into a spare"])
@pytest.mark.parametrize("source", SOURCES)
def test_ctrl_c_leaves_the_old_version_and_nothing_else(
    store: LocalStore,
    interrupted_halfway: Callable[[int], None],
    source: str,
    times: int,
) -> None:
    value: Any = SOURCES[source]
    value = value if source != "a list of two" else list(value)
    for _ in range(times):
        jshm.publish("X", value)
    before = jshm.segments()
    assert (store.process.spares.nbytes > 0) == (times > 1)
    interrupted_halfway(4 << 20)
    with pytest.raises(KeyboardInterrupt):
        jshm.publish("X", SOURCES[source] + 1 if source != "a list of two" else value)
    assert [(info.name, info.version) for info in jshm.segments()] == [
        (info.name, info.version) for info in before
    ]
    assert jshm.check() == []
    if times:
        assert not np.any(jshm.attach("X"))
    store.process.spares.give_back()
    assert len(store.directory.files()) == min(times, 1)


def test_ctrl_c_does_not_stop_a_publish_in_another_thread(
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    interrupted_halfway: Callable[[int], None],
) -> None:
    array = random_array((1 << 20,), "f8")
    copied = threading.Event()
    pieces: list[int] = []

    def advance(nbytes: int) -> None:
        pieces.append(nbytes)
        if len(pieces) == 10:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress, "advance", advance)
    # Not Thread.join: before Python 3.13 a thread counts as ended when a join is interrupted.
    threading.Thread(target=lambda: (jshm.publish("X", array), copied.set())).start()
    with pytest.raises(KeyboardInterrupt):
        copied.wait(60)
    assert copied.wait(60)
    assert sum(pieces) == array.nbytes
    assert jshm.attach("X").tobytes() == array.tobytes()
