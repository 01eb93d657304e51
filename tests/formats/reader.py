"""A reader of segments that was written from `docs/formats.md` alone: it uses nothing of jshm."""

from __future__ import annotations

import ast
import json
import struct
import zlib
from dataclasses import dataclass
from math import prod
from typing import Any

LARGE = 256 << 10
OBJECT_FORMAT = 2


def aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def after(end: int, nbytes: int) -> int:
    """Return where a part of this size starts that follows another."""
    return aligned(end, 4096 if nbytes >= LARGE else 64)


@dataclass
class Trailer:
    records: list[dict[str, Any]]
    committed: bool


@dataclass
class Array:
    header: dict[str, Any]
    content: bytes
    trailer: Trailer


@dataclass
class Object:
    header: dict[str, Any]
    pickled: bytes
    buffers: list[bytes]
    trailer: Trailer


def read_array(data: bytes, itemsize: int) -> Array:
    assert data[:6] == b"\x93NUMPY"
    wide = data[6] > 1
    (length,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    start = (12 if wide else 10) + length
    text = data[start - length : start].decode("utf-8" if data[6] == 3 else "latin1")
    assert text.endswith("\n")
    header = ast.literal_eval(text)
    assert [*header] == ["descr", "fortran_order", "shape"]
    nbytes = prod(header["shape"]) * itemsize
    assert start % (4096 if nbytes >= LARGE else 64) == 0
    end = start + nbytes
    return Array(header, data[start:end], read_trailer(data, end))


def read_object(data: bytes) -> Object:
    magic, version, length, checksum = struct.unpack_from("<8sIII", data)
    assert (magic, version) == (b"\x93JSHMOBJ", OBJECT_FORMAT)
    body = data[20 : 20 + length]
    assert zlib.crc32(body) == checksum
    header = json.loads(body)
    nbytes, checksum = header["pickle"]
    start = aligned(20 + length, 64)
    end = start + nbytes
    pickled = data[start:end]
    assert zlib.crc32(pickled) == checksum
    buffers = []
    for nbytes in header["buffers"]:
        start = after(end, nbytes)
        end = start + nbytes
        buffers.append(data[start:end])
    return Object(header, pickled, buffers, read_trailer(data, end))


def read_trailer(data: bytes, end: int) -> Trailer:
    offset = aligned(end, 64)
    records = []
    while data[offset : offset + 8] == b"\x93JSHMREC":
        length, checksum = struct.unpack_from("<II", data, offset + 8)
        body = data[offset + 16 : offset + 16 + length]
        assert zlib.crc32(body) == checksum
        records.append(json.loads(body))
        whole = aligned(16 + length, 64)
        assert not any(data[offset + 16 + length : offset + whole])
        offset += whole
    tail = data[offset : offset + 64]
    assert len(tail) == 64
    assert not any(tail[8:])
    return Trailer(records, tail[:8] == b"\x93JSHMCOM")
