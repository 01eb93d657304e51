"""The first values of an array as short texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .sample import offset_of

if TYPE_CHECKING:
    from ..segment.array_layout import ArrayLayout
    from ..store.base import Reader

# Bytes. What is larger, and neither text nor plain bytes, is shown by its type.
_LARGEST = 4096
_CHARACTER = 4


def table(
    reader: Reader, layout: ArrayLayout, most_rows: int, most_columns: int, length: int
) -> dict[str, Any]:
    """Return the first values in the order of their indices, a row for each and a column for each field.

    Where there are several axes, a first column has the index.
    """
    dtype, shape = layout.dtype, layout.shape
    names = list(dtype.names or ())
    fields: list[tuple[np.dtype[Any], int]] = [dtype.fields[n][:2] for n in names]  # type: ignore[index]
    if dtype.names is None:
        names, fields = [str(dtype)], [(dtype, 0)]
    room = most_columns - (len(shape) > 1)
    too_many = len(fields) > room
    if too_many:
        names, fields = names[: room - 1], fields[: room - 1]
    total = math.prod(shape)
    indices = [_index(i, shape) for i in range(min(most_rows, total))]
    rows = []
    for index in indices:
        start = offset_of(layout, index)
        row = [describe_cell(reader, start + offset, kind, length) for kind, offset in fields]
        label = [f"[{', '.join(map(str, index))}]"] if len(shape) > 1 else []
        rows.append([*label, *row, *(["…"] if too_many else [])])
    columns = [*([""] if len(shape) > 1 else []), *names, *(["…"] if too_many else [])]
    return {
        "type": "table",
        "columns": [_short(name, length) for name in columns],
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


def describe_cell(reader: Reader, offset: int, dtype: np.dtype[Any], length: int) -> str:
    """Return the text of a value in a file, of at most `length` characters."""
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
        text = _unicode(reader.read(offset, min(size, (length + 1) * _CHARACTER)), dtype)
    elif dtype.kind == "V" and dtype.names is None and dtype.subdtype is None:
        text = reader.read(offset, min(size, length)).hex()
    elif size > _LARGEST:
        text = f"<{_name(dtype)}>"
    else:
        text = _value(reader.read(offset, size), dtype)
    return _short(text, length)


def _unicode(data: bytes, dtype: np.dtype[Any]) -> str:
    # NumPy would refuse what is no character.
    codec = "utf-32-le" if dtype.str[0] == "<" else "utf-32-be"
    return data.decode(codec, errors="replace").rstrip("\0")


def _name(dtype: np.dtype[Any]) -> str:
    base, shape = dtype.subdtype or (dtype, ())
    name = "structured" if base.names is not None else str(base)
    return f"{name} {shape}" if shape else name


def _value(data: bytes, dtype: np.dtype[Any]) -> str:
    base, shape = dtype.subdtype or (dtype, ())
    value = np.ndarray(shape, base, data)
    with np.printoptions(threshold=6, edgeitems=2, linewidth=1 << 20):
        try:
            return " ".join(str(value[()]).split())
        # A text with what is no character, of which NumPy says the latter; a time that no calendar has.
        except (ValueError, SystemError):
            return f"<{_name(dtype)}>"


def _short(text: str, length: int) -> str:
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.encode(errors="replace").decode()
