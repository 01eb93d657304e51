"""What a segment says of itself, behind its data.

Records are small JSON documents, each with its length and checksum, that say under which name and
version the segment was published: the registry can be rebuilt from the segments alone. Their offset
follows from the segment's header, not from the end of the file: a partly written record at the end
does no harm.

Behind the records stands whether the registry has committed them. A segment that says so, and that no
row knows, was published: the registry is older than it. Without it the publish may never have returned.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

from ..errors import NotShareableError

if TYPE_CHECKING:
    from collections.abc import Iterator

ALIGNMENT = 64
# Where large data start. NumPy's own large arrays start 16 bytes behind a page's beginning, and where a
# copy goes to a place that lies a little further in its page than its source does, it takes up to four
# times as long: the processor takes loads for dependent on stores when their addresses' last twelve
# bits say so.
PAGE = 4096
LARGE = 256 << 10
RECORD_MAGIC = b"\x93JSHMREC"
COMMITTED = b"\x93JSHMCOM"
_RECORD_HEAD = struct.Struct("<8sII")
_RECORD_LIMIT = 1 << 20
# `json.dumps` with options makes an encoder for every call.
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def aligned(offset: int, alignment: int = ALIGNMENT) -> int:
    """Return the next multiple of `alignment`."""
    return -(-offset // alignment) * alignment


def alignment(nbytes: int) -> int:
    """Return to a multiple of what data of so many bytes are aligned in a segment."""
    return PAGE if nbytes >= LARGE else ALIGNMENT


def record(content: dict[str, Any]) -> bytes:
    """Return a record: magic, length, CRC-32, JSON, padded to 64 bytes.

    Raises
    ------
    NotShareableError
        It is longer than any that is read back.
    """
    body = encode(content).encode()
    if len(body) > _RECORD_LIMIT:
        raise NotShareableError(
            f"what a segment says of itself takes {len(body)} bytes, more than {_RECORD_LIMIT}: "
            "shorten the note"
        )
    head = _RECORD_HEAD.pack(RECORD_MAGIC, len(body), zlib.crc32(body))
    return (head + body).ljust(aligned(_RECORD_HEAD.size + len(body)), b"\0")


def end(*, committed: bool) -> bytes:
    """Return what stands behind the records: what was there before may have been longer."""
    return (COMMITTED if committed else b"").ljust(ALIGNMENT, b"\0")


def read_records(fd: int, offset: int) -> list[dict[str, Any]]:
    """Return the records that start at `offset`, up to the first that is not whole."""
    return [content for content, _ in _records(fd, offset)]


def is_committed(fd: int, offset: int) -> bool:
    """Tell whether the registry has committed the records that start at `offset`."""
    ends = [offset, *(end for _, end in _records(fd, offset))]
    return os.pread(fd, len(COMMITTED), ends[-1]) == COMMITTED


def _records(fd: int, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each record that is whole, and where it ends."""
    while len(head := os.pread(fd, _RECORD_HEAD.size, offset)) == _RECORD_HEAD.size:
        magic, length, checksum = _RECORD_HEAD.unpack(head)
        if magic != RECORD_MAGIC or length > _RECORD_LIMIT:
            return
        body = os.pread(fd, length, offset + _RECORD_HEAD.size)
        if len(body) != length or zlib.crc32(body) != checksum:
            return
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return
        if not isinstance(content, dict):
            return
        offset += aligned(_RECORD_HEAD.size + length)
        yield content, offset
