"""The large picture that the demo's notebooks share, and a small view of it."""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from IPython.display import Image
    from numpy.typing import NDArray

# The centres of two waves, in a picture from -1 to 1, and the frequency of each colour.
_SOURCES = ((-0.4, -0.25), (0.7, 0.6))
_COLOURS = (14, 12.5, 10)  # red, green, blue
_BAND = 256
_SMALL = 200


def paint(nbytes: int) -> NDArray[np.uint8]:
    """Return a square picture of waves: ``(side, side, 3)`` of uint8, of about `nbytes`."""
    side = max(16, math.isqrt(nbytes // 3))
    picture = np.empty((side, side, 3), "uint8")
    x = np.linspace(-1, 1, side, dtype="float32")
    for top in range(0, side, _BAND):  # a few rows at a time: intermediate results stay small
        y = x[top : top + _BAND, None]
        distances = [np.sqrt((x - left) ** 2 + (y - up) ** 2) for left, up in _SOURCES]
        for colour, frequency in enumerate(_COLOURS):
            waves = sum(np.sin(frequency * distance) for distance in distances)
            picture[top : top + _BAND, :, colour] = 127.5 + 63 * waves
    return picture


def show(picture: NDArray[np.uint8]) -> Image:
    """Return a small version of a picture, of every n-th pixel, for display in a notebook."""
    from IPython.display import Image

    step = max(1, len(picture) // _SMALL)
    return Image(_png(picture[::step, ::step]))  # type: ignore[no-untyped-call]


def _png(pixels: NDArray[Any]) -> bytes:
    """Return RGB pixels as a PNG file (PNG specification, third edition, §11)."""
    height, width, _ = pixels.shape
    # Each row begins with its filter: 1 is "the difference to the pixel at the left".
    rows = np.diff(pixels, axis=1, prepend=np.zeros((height, 1, 3), "uint8")).reshape(height, -1)
    data = np.insert(rows, 0, 1, axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
