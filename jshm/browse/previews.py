"""Previews of published data, made from a bounded sample.

Nothing is unpickled and nothing is mapped. `Preview` in ``openapi.yaml`` describes the result.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..segment.array_layout import ArrayLayout
from . import numbers, sample

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..segment.object_layout import ObjectLayout
    from ..store.base import Reader

_CELLS, _PIXELS = 96, 136  # in base64, of four bytes a pixel, just below 100 kB
# The longer axis of a heatmap gets at most four times as many cells as the shorter one, if that has enough.
_FLATTEST = 4
# The least height and width of a picture: axes this long before a short one are a stack of pictures.
_PICTURE_SIDE = 8
_CHANNELS = (3, 4)
_MOST_CHANNELS = 4
_TEXT_LENGTH, _CELL_LENGTH = 8_000, 60
_ROWS, _COLUMNS = 8, 20
_MOST_ROWS = 1 << 53


def preview(reader: Reader) -> dict[str, Any]:
    """Return the preview of a version, ready for JSON.

    Raises
    ------
    CorruptSegmentError
        The segment is truncated.
    """
    layout = reader.layout
    return (
        array_preview(reader, layout) if isinstance(layout, ArrayLayout) else object_preview(layout)
    )


# -- arrays ----------------------------------------------------------------------------------------


def array_preview(reader: Reader, layout: ArrayLayout) -> dict[str, Any]:
    """Return the preview of an array; for errors see `preview`."""
    kind, shape = layout.dtype.kind, layout.shape
    is_time = kind in "mM"
    if not shape:
        text = _cell_text(reader, layout.offset, layout.dtype, _TEXT_LENGTH + 1)
        stats = _stats(reader, layout) if kind in "biufc" else None
        return {"type": "text", **_cut(text, _TEXT_LENGTH), "stats": stats}
    if kind in "SUV" or (is_time and len(shape) > 1):
        return {**_first_values(reader, layout), "stats": None}
    if 0 in shape:
        none = {"type": "none", "text": f"The array is empty: its shape is {shape}."}
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
    """Return the axes to show: the last two, or the two before a last axis of color channels."""
    last = len(shape) - 1
    is_picture = len(shape) > 2 and min(shape[-3:-1]) >= _PICTURE_SIDE  # noqa: PLR2004 - and an axis before them
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
    """Return sampled values of the first slice along some axes, and the text of that slice.

    Parameters
    ----------
    reader : Reader
    layout : ArrayLayout
    axes : tuple of int
        Rows, columns, and axes that are not sampled.
    side : int
        The most values along the rows and along the columns.
    flattest : int
        The most times that one of the two may have more values than the other, if that has enough.
    """
    shape = layout.shape
    picture = axes[:2]
    longest = max(shape[axis] for axis in picture)
    index = {axis: list(range(shape[axis]) if axis not in picture else ()) for axis in axes}
    found = None
    while found is None:  # fewer values need fewer reads
        for axis in picture:
            wanted = max(side * shape[axis] // longest, side // flattest, 1)
            index[axis] = sample.centres(shape[axis], min(shape[axis], wanted))
        found = sample.grid(reader, layout, index)
        side = side * 3 // 4
    words = [":" if axis in axes else "0" for axis in range(len(shape))]
    return found, f"[{', '.join(words)}]" if "0" in words else ""


def _encoded(values: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()


# -- values as text --------------------------------------------------------------------------------

# Bytes. A larger value that is neither text nor plain bytes is shown by its type.
_LARGEST = 4096
_CHARACTER = 4


def _first_values(reader: Reader, layout: ArrayLayout) -> dict[str, Any]:
    """Return the first values as a table: a row for each value, a column for each field.

    With several axes, the first column is the index of the value.
    """
    dtype, shape = layout.dtype, layout.shape
    names = list(dtype.names or ())
    fields: list[tuple[np.dtype[Any], int]] = [dtype.fields[n][:2] for n in names]  # type: ignore[index]
    if dtype.names is None:
        names, fields = [str(dtype)], [(dtype, 0)]
    width = _COLUMNS - (len(shape) > 1)
    too_many = len(fields) > width
    if too_many:
        names, fields = names[: width - 1], fields[: width - 1]
    total = math.prod(shape)
    indices = [_index(i, shape) for i in range(min(_ROWS, total))]
    rows = []
    for index in indices:
        start = sample.offset_of(layout, index)
        row = [_cell_text(reader, start + offset, kind, _CELL_LENGTH) for kind, offset in fields]
        label = [f"[{', '.join(map(str, index))}]"] if len(shape) > 1 else []
        rows.append([*label, *row, *(["…"] if too_many else [])])
    columns = [*([""] if len(shape) > 1 else []), *names, *(["…"] if too_many else [])]
    return {
        "type": "table",
        "columns": [_short(name, _CELL_LENGTH) for name in columns],
        "rows": rows,
        "total": total,
    }


def _index(position: int, shape: tuple[int, ...]) -> list[int]:
    """Return the index of a value from its position in C order."""
    index = []
    for length in reversed(shape):
        position, i = divmod(position, length)
        index.append(i)
    return index[::-1]


def _cell_text(reader: Reader, offset: int, dtype: np.dtype[Any], length: int) -> str:
    """Return the text of one value, of at most `length` characters."""
    size = dtype.itemsize
    if not size:
        return ""
    if dtype.kind == "S":
        text = (
            reader.read(offset, min(size, length + 1))
            .rstrip(b"\0")
            .decode(errors="backslashreplace")
        )
    elif dtype.kind == "U":
        text = _unicode_text(reader.read(offset, min(size, (length + 1) * _CHARACTER)), dtype)
    elif dtype.kind == "V" and dtype.names is None and dtype.subdtype is None:
        text = reader.read(offset, min(size, length)).hex()
    elif size > _LARGEST:
        text = f"<{_type_text(dtype)}>"
    else:
        text = _value_text(reader.read(offset, size), dtype)
    return _short(text, length)


def _unicode_text(data: bytes, dtype: np.dtype[Any]) -> str:
    # NumPy refuses a code that is not a character.
    codec = "utf-32-le" if dtype.str[0] == "<" else "utf-32-be"
    return data.decode(codec, errors="replace").rstrip("\0")


def _type_text(dtype: np.dtype[Any]) -> str:
    base, shape = dtype.subdtype or (dtype, ())
    name = "structured" if base.names is not None else str(base)
    return f"{name} {shape}" if shape else name


def _value_text(data: bytes, dtype: np.dtype[Any]) -> str:
    base, shape = dtype.subdtype or (dtype, ())
    value = np.ndarray(shape, base, data)
    with np.printoptions(threshold=6, edgeitems=2, linewidth=1 << 20):
        try:
            return " ".join(str(value[()]).split())
        # Text with a code that is not a character (NumPy raises SystemError); a time outside the calendar.
        except (ValueError, SystemError):
            return f"<{_type_text(dtype)}>"


def _short(text: str, length: int) -> str:
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.encode(errors="replace").decode()


# -- objects ---------------------------------------------------------------------------------------


def object_preview(layout: ObjectLayout) -> dict[str, Any]:
    """Return the preview that the publisher of an object wrote. It is checked: it may contain anything."""
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
        why = "Another version of jshm wrote a preview that this version cannot show: upgrade jshm here."
    else:
        why = "This object has no preview. Attach it to look inside."
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
