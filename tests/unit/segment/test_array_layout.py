from __future__ import annotations

import io
import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jshm
from jshm.errors import CorruptSegmentError, NotShareableError
from jshm.segment import array_layout as layout
from jshm.segment.array_layout import describe, describe_array, read_layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

DTYPES = [
    "f8", ">f8", "?", "c16", "S3", "U2", "V5", "M8[ns]", "m8[25us]", "M8",
    [("a", "i4"), ("b", "f8", (2,))], [(("title", "a"), "i4")], [("é", "i4")], [("日本", "i4")],
    [("quote'\"\\", "i4")], [(f"field{i}", "i4") for i in range(5000)], [],
]  # fmt: skip
SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (3, 4), (2, 0, 5), (10**12,), (1,) * 30]


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def put(fd: int, content: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, content, 0)


# -- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d)[:20])
def test_numpy_reads_the_header(dtype: Any, shape: tuple[int, ...], order: Any) -> None:
    dtype = np.dtype(dtype)
    made = describe(shape, dtype, order)
    file = io.BytesIO(made.header)
    version = np.lib.format.read_magic(file)
    reader = getattr(np.lib, "_format_impl", np.lib.format)._read_array_header
    found = reader(file, version, max_header_size=1 << 20)
    assert found == (shape, order == "F", dtype)
    assert file.read() == b""
    assert len(made.header) % 64 == 0
    size = dtype.itemsize
    for n in shape:
        size *= n
    assert made.nbytes == size
    assert made.end == made.offset + size
    assert made.end <= made.trailer_offset < made.end + 64
    assert made.trailer_offset % 64 == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d)[:20])
def test_a_header_is_read_back_exactly(fd: int, dtype: Any, shape: Any) -> None:
    made = describe(shape, dtype, "F")
    put(fd, made.header)
    os.ftruncate(fd, min(made.end, 1 << 40))
    if made.end <= 1 << 40:
        assert read_layout(fd) == made
        made.verify(fd, made.end)
    with pytest.raises(CorruptSegmentError):
        made.verify(fd, made.end - 1)


def test_the_order_is_f_only_if_numpy_copies_in_f_and_not_in_c() -> None:
    c, three = np.zeros((3, 4)), np.zeros((4, 6, 8))
    for array, order in (
        (c, "C"), (c.T, "F"), (c[:, :1], "C"), (c[:1], "C"), (c[::2], "C"), (c[:, ::2].T, "F"),
        (np.asfortranarray(c), "F"), (np.zeros(5), "C"), (np.zeros(()), "C"), (c[:0].T, "C"),
        (three[:, ::2], "C"), (three[::-1].T, "F"), (three.transpose(1, 0, 2), "C"),
        (three[:, :1, :1].T, "C"), (np.broadcast_to(c, (5, 3, 4)).T, "C"),
    ):  # fmt: skip
        assert describe_array(array).order == order
        copy = array.copy(order="K")
        assert order == ("F" if copy.flags.fnc else "C")


def test_dtypes_that_differ_in_align_flag_or_metadata_are_not_confused() -> None:
    plain = np.dtype([("a", "i4"), ("b", "i4")])
    aligned = np.dtype([("a", "i4"), ("b", "i4")], align=True)
    noted = np.dtype("f8", metadata={"a": 1})
    assert plain == aligned
    describe((3,), plain)
    describe((3,), "f8")
    for dtype in (aligned, noted, [("x", aligned)], [("x", noted)], [("x", aligned, (2,))]):
        with pytest.raises(NotShareableError):
            describe((3,), dtype)
    assert describe((3,), plain).dtype.isalignedstruct is False


@pytest.mark.parametrize("text", ["'O'", "'|O'", "'junk'", "1+1", "(", "", "[('a','O'", "x" * 200])
def test_a_descr_of_no_dtype_is_corrupt(text: str) -> None:
    with pytest.raises(CorruptSegmentError) as caught:
        layout.dtype_of(text)
    assert len(str(caught.value)) < 200


# -- malformed headers -----------------------------------------------------------------------------


def npy(text: str, version: int = 1, length: int | None = None) -> bytes:
    """An .npy header with any text."""
    body = text.encode("latin1" if version < 3 else "utf-8")
    size = struct.Struct("<H" if version == 1 else "<I")
    head = b"\x93NUMPY" + bytes((version, 0))
    padded = body.ljust(
        layout.aligned(len(head) + size.size + len(body) + 1) - len(head) - size.size - 1
    )
    return head + size.pack(len(padded) + 1 if length is None else length) + padded + b"\n"


def dictionary(descr: str = "'<f8'", order: str = "False", shape: str = "(3,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def test_the_builder_of_bad_headers_also_builds_good_ones(fd: int) -> None:
    put(fd, npy(dictionary()) + bytes(24))
    assert read_layout(fd) == describe((3,), "<f8")


BAD = [
    dictionary(shape=shape)
    for shape in ("(True,)", "(1.0,)", "(3.0,)", "(-1,)", "3", "[3]", "'3'", "None", "(3, 'a')",
                  "((3,),)", "(10**30,)", "(" + "1," * 65 + ")", "(9" + "9" * 4000 + ",)", "{}",
                  "(2**62, 2**62)", "(4611686018427387904, 4)", "(0x3,)")
] + [
    dictionary(descr=descr)
    for descr in ("'O'", "'|O'", "'<f8' ", "('<f8', (2,))", "[('a', 'O')]", "'V-1'", "'<f99'", "8",
                  "None", "[]]", "[('a', '<f8'), ('a', '<f8')]", "'<M8[junk]'", "''", "b'<f8'", "'f8'",
                  "'V99999999999'", "[('a', '<f8', -1)]", "[('a', '<f8', (99999999999,))]",
                  "[" * 5000, "[" * 500 + "]" * 500, "__import__('os').abort()", "'>V3'")
] + [
    dictionary(order="1"), dictionary(order="None"), dictionary(order="'F'"), "", "{}", "0",
    "{'descr': '<f8'}", dictionary() + " + {}", dictionary()[:-1], dictionary() + "\0", "-" * 60_000,
    dictionary().replace("}", "'extra': 1, }"), dictionary().replace(" ", "  "),
]  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:60])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_header_that_jshm_did_not_write_is_corrupt(fd: int, text: str, version: int) -> None:
    if version == 1 and len(text) > 60_000:
        version = 2
    put(fd, npy(text, version) + bytes(1000))
    with pytest.raises(CorruptSegmentError):
        read_layout(fd)
    # A refused header leaves nothing in the caches.
    assert [type(n) for n in describe((1,), "<f8").shape] == [int]
    assert [type(n) for n in describe((3,), "<f8").shape] == [int]


@pytest.mark.parametrize("version", [0, 4, 255])
def test_another_version_of_the_format_is_corrupt(fd: int, version: int) -> None:
    put(fd, npy(dictionary(), version) + bytes(24))
    with pytest.raises(CorruptSegmentError):
        read_layout(fd)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_header_with_a_wrong_length_is_corrupt(fd: int, version: int) -> None:
    for length in (0, 1, 10, 60, 117, 119, 65535, *([2**31, 2**32 - 1] if version > 1 else [])):
        put(fd, npy(dictionary(), version, length) + bytes(24))
        with pytest.raises(CorruptSegmentError):
            read_layout(fd)


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=500, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_a_mutated_header_is_corrupt_or_another_valid_one(fd: int, changes: Any) -> None:
    good = describe((3, 4), [("a", "<i2"), ("b", "S3")])
    bad = bytearray(good.header + bytes(good.nbytes))
    for position, value in changes:
        bad[position] = value
    put(fd, bytes(bad))
    if bad[: len(good.header)] != good.header:
        with pytest.raises(CorruptSegmentError):
            good.verify(fd, len(bad))
    try:
        found = read_layout(fd)
    except CorruptSegmentError:
        return
    assert found.header == bad[: len(found.header)]
    assert found.end <= len(bad)
    assert found.view(np.frombuffer(bytes(bad), np.uint8)).nbytes == found.nbytes


def test_every_truncation_is_corrupt(fd: int) -> None:
    whole = describe((3,), "<f8").header + bytes(24)
    for length in range(len(whole)):
        put(fd, whole[:length])
        with pytest.raises(CorruptSegmentError):
            read_layout(fd)
    put(fd, whole)
    assert read_layout(fd).end == len(whole)


def test_a_dtype_that_takes_a_megabyte_to_describe_is_an_object(store: LocalStore) -> None:
    """Its header would be too long to be read back: `check` took it for damaged."""
    array = np.zeros(2, [(f"{i:01000}", "u1") for i in range(1100)])
    assert jshm.publish("X", array).kind == "object"
    assert jshm.attach("X").dtype == array.dtype
    assert jshm.check() == []
    with pytest.raises(jshm.NotShareableError, match="more than"):
        jshm.empty(2, array.dtype)
