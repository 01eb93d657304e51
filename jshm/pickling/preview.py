"""What can be seen of an object without unpickling it: its publisher writes it into the segment.

No code of the user's is called for it: of a type that is not known here, only the name is shown.
"""

from __future__ import annotations

import collections
import functools
import itertools
import linecache
import re
import sys
import textwrap
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from . import describe
from . import static as looking
from .code import shipped_block
from .static import SCALARS, is_short, short, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# In all about 8 kB at most; a character may take four bytes.
_SOURCE_BYTES = 6000
_TEXT_BYTES = 4000
_ENTRIES, _NESTED, _LINES = 20, 6, 40
_ROWS, _COLUMNS = 5, 12
_WORD, _CELL = 60, 30
_LISTED = 6
_PARTIALS = 10

_SEQUENCES = (list, tuple, set, frozenset, collections.deque)


def preview(obj: Any) -> dict[str, Any]:
    """Return what is shown of an object: a source, the first rows of a table, or a text.

    Empty if there is nothing to show. Whatever goes wrong, the object can be published without.
    """
    try:
        return _preview(obj)
    except Exception:  # noqa: BLE001 - a table that is broken, a container that another thread changes
        return {}


def _preview(obj: Any) -> dict[str, Any]:
    for _ in range(_PARTIALS):  # one may contain itself
        if type(obj) is not functools.partial:
            break
        obj = obj.func
    if type(obj) is types.MethodType:
        obj = obj.__func__
    kind = type(obj)
    if kind is types.FunctionType:
        block = shipped_block(obj.__code__)
        return _source(block[2]) if block else {}
    if issubclass(kind, type):
        return _source(_source_of_class(obj)) or _lines(obj, _attributes(obj))
    pandas = sys.modules.get("pandas")
    if pandas is not None and (kind is pandas.DataFrame or kind is pandas.Series):
        return _table(obj, pandas)
    if kind is str:
        text, cut = _bounded(obj[:_TEXT_BYTES], _TEXT_BYTES)
        return {"text": text, "truncated": cut or len(obj) > _TEXT_BYTES}
    entries = _entries(obj)
    if entries is None:
        entries = _attributes(obj)
    if entries is None:
        word = written(obj)
        return {"text": word, "truncated": word.endswith("…")} if word else {}
    return _lines(obj, entries)


# -- source ----------------------------------------------------------------------------------------


def _source(text: str) -> dict[str, Any]:
    if text[:1] in (" ", "\t"):
        text = textwrap.dedent(text)
    text, cut = _bounded(text.rstrip(), _SOURCE_BYTES)
    return {"source": text, "truncated": cut} if text else {}


def _source_of_class(cls: type) -> str:
    """Return the statement of a class whose methods travel, or these alone if it is not known."""
    codes = describe.own_codes(cls)
    blocks = [block for code in codes if (block := shipped_block(code))]
    if not blocks:
        return ""
    lines, name = linecache.getlines(codes[0].co_filename), looking.name(cls)
    methods = "".join(block[2] for block in blocks)
    return class_statement(lines, name, blocks[0][1]) or f"class {name}:\n{methods}"


def class_statement(lines: list[str], name: str, within: int) -> str:
    """Return the lines of a class, of which one is known to be within, as their indentation says.

    To parse a file costs too much for something that is only looked at.
    """
    head = re.compile(rf"([ \t]*)class {re.escape(name)}\b")
    heads = ((i, head.match(lines[i])) for i in range(min(within, len(lines)) - 1, -1, -1))
    first, found = next(((i, match) for i, match in heads if match), (0, None))
    if found is None:
        return ""
    indent = found[1]
    inside = (f"{indent} ", f"{indent}\t", f"{indent})")
    body = itertools.takewhile(
        lambda line: line.startswith(inside) or line.isspace(), lines[first + 1 :]
    )
    last = first + 1 + sum(1 for _ in body)
    while first and lines[first - 1].startswith(f"{indent}@"):
        first -= 1
    return textwrap.dedent("".join(lines[first:last]))


# -- tables ----------------------------------------------------------------------------------------


def _table(table: Any, pandas: Any) -> dict[str, Any]:
    """Return the first rows of a DataFrame or a Series."""
    series = type(table) is pandas.Series
    many = not series and table.shape[1] > _COLUMNS
    # One slice where that is enough: two cost ten times as much.
    head = table.iloc[:_ROWS, :_COLUMNS] if many else table.iloc[:_ROWS]
    if not all(_is_plain(dtype) for dtype in ([head.dtype] if series else head.dtypes)):
        return {}
    names = ["" if head.name is None else head.name] if series else head.columns.tolist()
    values = head.to_numpy(dtype=object)
    rows = values.reshape(len(head), len(names)).tolist()
    if type(head.index) is not pandas.RangeIndex:
        names.insert(0, ", ".join(str(n) for n in head.index.names if type(n) is str))
        rows = [[label, *row] for label, row in zip(head.index.tolist(), rows, strict=True)]
    if many or len(names) > _COLUMNS:
        names = [*names[: _COLUMNS - 1], "…"]
        rows = [[*row[: _COLUMNS - 1], "…"] for row in rows]
    return {
        "columns": [_cell(name) for name in names],
        "rows": [[_cell(value) for value in row] for row in rows],
        "total": len(table),
    }


def _is_plain(dtype: Any) -> bool:
    """Tell whether a column's values are made by pandas or NumPy, and take no time to make."""
    kind = type(dtype)
    if looking.root(kind) not in ("numpy", "pandas"):
        return False
    return looking.name(kind) != "ArrowDtype" or dtype.kind != "O"


def _cell(value: Any) -> str:
    if type(value) is tuple:  # of an index with several levels
        return short(", ".join(map(_word, value[:_LISTED])), _CELL)
    return _word(value)


def _word(value: Any) -> str:
    if type(value) is str:
        return short(value, _CELL)
    return short(written(value) or f"<{looking.name(type(value))}>", _CELL)


# -- text ------------------------------------------------------------------------------------------


def _lines(obj: Any, entries: Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    """Return a line for each of an object's entries, and of what these contain."""
    lines: list[str] = []
    shown = 0
    for label, value in itertools.islice(entries or (), _ENTRIES):
        shown += 1
        lines.append(_line(label, value))
        if type(value) not in SCALARS and not is_short(value):
            inner = itertools.islice(_entries(value) or (), _NESTED)
            lines += [f"    {_line(*entry)}" for entry in inner]
        if len(lines) >= _LINES:
            break
    text, cut = _bounded("\n".join(lines), _TEXT_BYTES)
    return {"text": text, "truncated": cut or shown < _length(obj)} if lines else {}


def _line(label: str, value: Any) -> str:
    text = written(value) or short(describe.summary(value), _WORD)
    return f"{label}: {text}" if label else text


def _length(obj: Any) -> int:
    """Return how many entries an object has; code of a subclass is not asked."""
    for kind in (dict, *_SEQUENCES):
        if issubclass(type(obj), kind):
            return kind.__len__(obj)
    if type(obj) is np.ndarray:
        return int(obj.size)
    return sum(1 for _ in _attributes(obj) or ())


def _entries(obj: Any) -> Iterator[tuple[str, Any]] | None:
    """Return what a container has, with its keys; None if it is none."""
    kind = type(obj)
    if issubclass(kind, dict):
        return ((looking.key(key), value) for key, value in dict.items(obj))
    for base in _SEQUENCES:
        if issubclass(kind, base):
            return (("", value) for value in base.__iter__(obj))
    if kind is np.ndarray and obj.dtype == np.dtype(object):
        return (("", value) for value in obj.flat)
    return None


def _attributes(obj: Any) -> Iterator[tuple[str, Any]] | None:
    """Return what an object's own ``__dict__`` has; properties and ``__getattr__`` are not asked."""
    found = looking.attributes(obj)
    if found is None:
        return None
    return (
        (short(name, _WORD), value)
        for name, value in list(found.items())
        if type(name) is str and name[:2] != "__"
    )


def _bounded(text: str, most: int) -> tuple[str, bool]:
    """Return a text of at most so many bytes, and whether it was longer."""
    if text.isascii():
        return text[:most], len(text) > most
    data = text.encode(errors="replace")
    return data[:most].decode(errors="ignore"), len(data) > most
