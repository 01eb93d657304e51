"""A picture of what is in a segment: `Preview` of the front end, from a bounded sample.

Nothing is unpickled and nothing is mapped.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..segment.array_layout import ArrayLayout
from . import numbers, sample
from .cells import describe_cell, table

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..segment.object_layout import ObjectLayout
    from ..store.base import Reader

_CELLS, _PIXELS = 96, 136  # in base64, of four bytes a pixel, just below 100 kB
# No axis of a heatmap gets less than a quarter of the other's cells, if it is that long.
_FLATTEST = 4
# A stack of pictures has such axes before that of its channels.
_PICTURE_SIDE = 8
_CHANNELS = (3, 4)
_MOST_CHANNELS = 4
_TEXT_LENGTH, _CELL_LENGTH = 8_000, 60
_ROWS, _COLUMNS = 8, 20
_MOST_ROWS = 1 << 53


def preview(reader: Reader, layout: ArrayLayout | ObjectLayout) -> dict[str, Any]:
    """Return a picture of what a segment holds, ready for JSON; see `Preview` in ``types.ts``.

    Parameters
    ----------
    reader : int
        Of the open segment.
    layout
        What its header says.

    Raises
    ------
    CorruptSegmentError
        It is truncated.
    """
    return (
        preview_array(reader, layout) if isinstance(layout, ArrayLayout) else preview_object(layout)
    )


# -- arrays ----------------------------------------------------------------------------------------


def preview_array(reader: Reader, layout: ArrayLayout) -> dict[str, Any]:
    """Return a picture of an array; for parameters and errors see `preview`."""
    kind, shape = layout.dtype.kind, layout.shape
    is_time = kind in "mM"
    if not shape:
        text = describe_cell(reader, layout.offset, layout.dtype, _TEXT_LENGTH + 1)
        stats = _stats(reader, layout) if kind in "biufc" else None
        return {"type": "text", **_cut(text, _TEXT_LENGTH), "stats": stats}
    if kind in "SUV" or (is_time and len(shape) > 1):
        return {**table(reader, layout, _ROWS, _COLUMNS, _CELL_LENGTH), "stats": None}
    if 0 in shape:
        none = {"type": "none", "text": f"It is empty: its shape is {shape}."}
        return {**none, "stats": None if is_time else numbers.no_stats()}
    if len(shape) == 1:
        return _line(reader, layout)
    is_image = layout.dtype == np.uint8 and len(shape) > 2 and shape[-1] in _CHANNELS  # noqa: PLR2004
    picture = (
        _image(reader, layout) if is_image and min(shape[-3:-1]) > 1 else _heatmap(reader, layout)
    )
    return {**picture, "stats": _stats(reader, layout)}


def _stats(reader: Reader, layout: ArrayLayout) -> dict[str, Any]:
    found = sample.stretches(reader, layout)
    return numbers.stats(found.values, math.prod(layout.shape))


def _line(reader: Reader, layout: ArrayLayout) -> dict[str, Any]:
    found = sample.stretches(reader, layout)
    values = numbers.as_floats(found.values)
    is_time = layout.dtype.kind in "mM"
    low, high = numbers.envelope(values, found.starts)
    return {
        "type": "line",
        "low": low,
        "high": high,
        "histogram": None if is_time else numbers.histogram(values, layout.dtype.kind in "biu"),
        "stats": None if is_time else numbers.stats(found.values, layout.shape[0]),
    }


def _heatmap(reader: Reader, layout: ArrayLayout) -> dict[str, Any]:
    values, where = _slice(reader, layout, _heatmap_axes(layout.shape), _CELLS, _FLATTEST)
    floats = numbers.as_floats(values)
    low, high = numbers.extent(floats)
    levels = np.where(np.isfinite(floats), np.rint(numbers.scaled(floats, low, high) * 254), 255)
    return {
        "type": "heatmap",
        "width": values.shape[1],
        "height": values.shape[0],
        "data": _encoded(levels.astype(np.uint8)),
        "low": low,
        "high": high,
        "slice": where,
    }


def _heatmap_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the axes to be shown: the last two, unless the last is that of a picture's channels."""
    last = len(shape) - 1
    is_picture = len(shape) > 2 and min(shape[-3:-1]) >= _PICTURE_SIDE  # noqa: PLR2004 - and one more
    return (last - 2, last - 1) if is_picture and shape[-1] <= _MOST_CHANNELS else (last - 1, last)


def _image(reader: Reader, layout: ArrayLayout) -> dict[str, Any]:
    last = len(layout.shape) - 1
    values, where = _slice(reader, layout, (last - 2, last - 1, last), _PIXELS, _PIXELS)
    height, width, channels = values.shape
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[..., :channels] = values
    image = {"type": "image", "width": width, "height": height, "data": _encoded(pixels)}
    return {**image, "slice": where}


def _slice(
    reader: Reader, layout: ArrayLayout, axes: tuple[int, ...], side: int, flattest: int
) -> tuple[np.ndarray[Any, Any], str]:
    """Return values of the first slice along some axes, and which slice that is.

    Parameters
    ----------
    reader : int
    layout : ArrayLayout
    axes : tuple of int
        Rows, columns, and what is taken as it is.
    side : int
        Most values along rows and along columns.
    flattest : int
        At most so many times more along one than along the other, where the other has enough.
    """
    shape = layout.shape
    picture = axes[:2]
    longest = max(shape[axis] for axis in picture)
    index = {axis: list(range(shape[axis]) if axis not in picture else ()) for axis in axes}
    found = None
    while found is None:  # the fewer values the fewer reads
        for axis in picture:
            wanted = max(side * shape[axis] // longest, side // flattest, 1)
            index[axis] = sample.centres(shape[axis], min(shape[axis], wanted))
        found = sample.grid(reader, layout, index)
        side = side * 3 // 4
    words = [":" if axis in axes else "0" for axis in range(len(shape))]
    return found, f"[{', '.join(words)}]" if "0" in words else ""


def _encoded(values: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()


# -- objects ---------------------------------------------------------------------------------------


def preview_object(layout: ObjectLayout) -> dict[str, Any]:
    """Return what an object's publisher wrote to be shown of it; anything may be written there."""
    written = layout.description.preview
    for kind in ("source", "text"):
        if isinstance(text := written.get(kind), str):
            shown = _cut(text, _TEXT_LENGTH)
            shown["truncated"] |= written.get("truncated") is True
            return {"type": kind, **shown, "stats": None}
    rows = _written_table(written)
    if rows is not None:
        return {"type": "table", **rows, "stats": None}
    if written:
        why = (
            "Another version of jshm wrote a preview that this one cannot show: upgrade jshm here."
        )
    else:
        why = "Nothing was written to be shown of it. Attach it to look inside."
    return {"type": "none", "text": why, "stats": None}


def _written_table(written: dict[str, Any]) -> dict[str, Any] | None:
    columns, rows, total = (written.get(name) for name in ("columns", "rows", "total"))
    if not (isinstance(columns, list) and isinstance(rows, list) and type(total) is int):
        return None
    columns, rows = columns[:_COLUMNS], rows[:_ROWS]
    if not all(isinstance(row, list) and len(row) >= len(columns) for row in rows):
        return None
    rows = [row[: len(columns)] for row in rows]
    if not all(isinstance(cell, str) for row in [columns, *rows] for cell in row):
        return None
    if not 0 <= total <= _MOST_ROWS:
        return None
    cut = [[_cut(cell, _CELL_LENGTH)["text"] for cell in row] for row in [columns, *rows]]
    return {"columns": cut[0], "rows": cut[1:], "total": total}


def _cut(text: str, most: int) -> dict[str, Any]:
    text = text[: most + 1].encode(errors="replace").decode()
    return {"text": text[:most], "truncated": len(text) > most}
