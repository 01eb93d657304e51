"""A picture that knows what it shows: text inside a PNG file."""

from __future__ import annotations

import struct
import zlib

_HEAD = 8
_KEY = b"Description\0\0\0\0\0"  # iTXt: not compressed, of no language


def with_text(png: bytes, text: str) -> bytes:
    """Return the picture with a text in it (an iTXt chunk, https://www.w3.org/TR/png/#11iTXt)."""
    body = b"iTXt" + _KEY + text.encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end = _HEAD + 25  # behind the header chunk
    return png[:end] + chunk + png[end:]


def text_of(png: bytes) -> str:
    """Return the text that `with_text` put in, or ''."""
    place = _HEAD
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        body = png[place + 4 : place + 8 + length]
        if body.startswith(b"iTXt" + _KEY):
            return body[4 + len(_KEY) :].decode()
        place += 12 + length
    return ""
