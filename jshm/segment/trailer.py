"""The trailer of a segment, after its data: JSON records from which the registry can be rebuilt.

Each record describes one version of a name that the segment is published as, and has a length and a
checksum. The trailer's offset follows from the segment's header, not from the end of the file, so a
record that was written only in part does no harm.

A mark after the last record says that the registry has committed them all. If a segment has the mark and no
row of the registry knows it, it was published, and the registry is older. Without the mark, the publish
may never have returned.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

from ..errors import NotShareableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ALIGNMENT = 64
# The alignment of large data. A copy takes up to four times as long if its target lies a little further
# within a page than its source, because the processor compares only the last twelve bits of addresses to
# find out whether a load depends on a store. NumPy's large arrays start 16 bytes after a page boundary.
PAGE = 4096
LARGE = 256 << 10
MAGIC = b"\x93JSHMREC"
COMMITTED = b"\x93JSHMCOM"
_HEAD = struct.Struct("<8sII")
_LIMIT = 1 << 20
# `json.dumps` with options would make an encoder at every call.
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def aligned(offset: int, alignment: int = ALIGNMENT) -> int:
    """Return the smallest multiple of `alignment` that is not less than `offset`."""
    return -(-offset // alignment) * alignment


def alignment(nbytes: int) -> int:
    """Return the alignment in a segment of data with this number of bytes."""
    return PAGE if nbytes >= LARGE else ALIGNMENT


def pack_trailer(records: Iterable[dict[str, Any]], *, committed: bool) -> bytes:
    """Return a trailer: the records, and `ALIGNMENT` bytes with the mark if they are `committed`.

    Each record is magic, length, CRC-32 and JSON, padded to 64 bytes. The last `ALIGNMENT` bytes end the
    trailer if an older and longer one was there before.

    Raises
    ------
    NotShareableError
        A record is longer than `read_trailer` accepts.
    """
    trailer = b""
    for record in records:
        body = encode(record).encode()
        if len(body) > _LIMIT:
            raise NotShareableError(
                f"the description of a segment takes {len(body)} bytes, more than {_LIMIT}: shorten the "
                "note"
            )
        head = _HEAD.pack(MAGIC, len(body), zlib.crc32(body))
        trailer += (head + body).ljust(aligned(_HEAD.size + len(body)), b"\0")
    return trailer + (COMMITTED if committed else b"").ljust(ALIGNMENT, b"\0")


def read_trailer(fd: int, offset: int) -> list[dict[str, Any]]:
    """Return the records of the trailer at `offset`, up to the first that is not complete."""
    return [record for record, _ in _records(fd, offset)]


def is_committed(fd: int, offset: int) -> bool:
    """Return whether the registry has committed the records of the trailer at `offset`."""
    ends = [offset, *(end for _, end in _records(fd, offset))]
    return os.pread(fd, len(COMMITTED), ends[-1]) == COMMITTED


def _records(fd: int, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each complete record, and the offset after it."""
    while len(head := os.pread(fd, _HEAD.size, offset)) == _HEAD.size:
        magic, length, checksum = _HEAD.unpack(head)
        if magic != MAGIC or length > _LIMIT:
            return
        body = os.pread(fd, length, offset + _HEAD.size)
        if len(body) != length or zlib.crc32(body) != checksum:
            return
        try:
            record = json.loads(body)
        except (ValueError, RecursionError):
            return
        if not isinstance(record, dict):
            return
        offset += aligned(_HEAD.size + length)
        yield record, offset
