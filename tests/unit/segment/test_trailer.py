"""Trailers: documents come back in order, and damaged ones end the list."""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jshm.errors import NotShareableError
from jshm.segment import trailer
from jshm.segment.trailer import ALIGNMENT, is_committed, pack_trailer, read_trailer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENTS = [{"name": "X", "note": "schön \n日本"}, {"version": 2}, {}, {"long": "x" * 5000}]


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def put(fd: int, content: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, content, 0)


def packed(*documents: dict[str, object]) -> bytes:
    """The documents alone, without the end of the trailer."""
    return pack_trailer(documents, committed=False)[:-ALIGNMENT]


@pytest.mark.parametrize("committed", [False, True])
def test_documents_come_back_in_order(fd: int, committed: bool) -> None:
    put(fd, bytes(128) + pack_trailer(DOCUMENTS, committed=committed))
    assert read_trailer(fd, 128) == DOCUMENTS
    assert read_trailer(fd, 0) == []
    assert is_committed(fd, 128) == committed
    assert all(len(packed(document)) % 64 == 0 for document in DOCUMENTS)


def test_a_shorter_trailer_ends_a_longer_one(fd: int) -> None:
    put(fd, pack_trailer(DOCUMENTS, committed=True))
    os.pwrite(fd, pack_trailer([{}], committed=False), 0)
    assert read_trailer(fd, 0) == [{}]
    assert not is_committed(fd, 0)


def test_a_document_that_was_written_in_part_is_ignored(fd: int) -> None:
    first, second = packed(DOCUMENTS[0]), packed(DOCUMENTS[1])
    body = 16 + len(json.dumps(DOCUMENTS[1], separators=(",", ":")))
    for length in range(len(second)):
        put(fd, first + second[:length])
        # The zeros after a document are not part of it.
        assert read_trailer(fd, 0) == (DOCUMENTS[:2] if length >= body else DOCUMENTS[:1])


@given(st.integers(0, 63), st.integers(1, 255))
@settings(max_examples=200, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_a_changed_document_is_not_read(fd: int, position: int, change: int) -> None:
    good = packed({"name": "X", "version": 1})
    used = 16 + len(json.dumps({"name": "X", "version": 1}, separators=(",", ":")))
    bad = bytearray(good)
    bad[position % used] ^= change
    put(fd, bytes(bad) + good)
    assert read_trailer(fd, 0) == []


def raw(body: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<8sII", trailer.MAGIC, len(body) if length is None else length,
                       zlib.crc32(body))  # fmt: skip
    return (head + body).ljust(64, b"\0")


@pytest.mark.parametrize(
    "bad",
    [raw(b"[1]"), raw(b'"text"'), raw(b"{"), raw(b"\xff\xfe"), raw(b"[" * 100_000),
     raw(b'{"a":' * 50_000), raw(b"", 2**32 - 1), raw(b"{}", 2**31), raw(b"9" * 10_000)],
    ids=range(9),
)  # fmt: skip
def test_anything_but_a_document_ends_the_list(fd: int, bad: bytes) -> None:
    put(fd, packed({"a": 1}) + bad + packed({"b": 2}))
    assert read_trailer(fd, 0) == [{"a": 1}]


def test_a_document_that_is_too_long_to_be_read_back_is_refused(fd: int) -> None:
    longest = {"note": "x" * (trailer._LIMIT - len('{"note":""}'))}
    put(fd, packed(longest))
    assert read_trailer(fd, 0) == [longest]
    for document in ({"note": longest["note"] + "x"}, {"note": "é" * (trailer._LIMIT // 2)}):
        with pytest.raises(NotShareableError, match="shorten the note"):
            packed(document)
