"""Descriptions of an object for lists and previews; its publisher writes them into the segment.

So nothing is unpickled to look at an object. The user's code is never called: of a type
that is not known here, only the name is shown.
"""

from __future__ import annotations

import collections
import functools
import inspect
import itertools
import linecache
import sys
import textwrap
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from . import source, static
from .code import block_written
from .source import class_statement
from .static import SCALARS, Types, is_short, short, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType

_LONGEST = 200
_LONGEST_DEFAULT = 30
_ARRAYS = Types(np.ndarray, np.memmap)
_SIZED = Types(dict, list, tuple, set, frozenset, str, bytes, bytearray)
_ATOMS = Types(bool, int, float, complex, str, bytes, type(None))
# Packages whose `shape` runs no code of the user's.
_SHAPED = frozenset(
    {
        "numpy", "pandas", "scipy", "polars", "pyarrow", "torch", "jaxlib", "tensorflow", "xarray",
        "dask", "cupy", "zarr", "h5py", "sparse",
    }
)  # fmt: skip
_COLUMN_TYPES = frozenset({"Series", "Index", "ExtensionArray"})


# -- descriptions ----------------------------------------------------------------------------------


def summary(obj: Any) -> str:
    """Return what an object is: ``function train(X, lr=0.1)``, ``DataFrame (1000, 3)``, ``dict of 3``.

    No method of the object is called, except the `shape` of types of well-known libraries.
    """
    kind = type(obj)
    if issubclass(kind, types.ModuleType):
        text = f"module {static.own_name(obj)}"
    elif issubclass(kind, type):
        text = f"class {static.name(obj)}{_signature(obj)}"
    elif kind is types.FunctionType or kind is types.BuiltinFunctionType:
        text = f"function {static.own_name(obj)}{_signature(obj)}"
    elif kind is types.MethodType:
        text = f"function {_called(obj.__func__)}{_signature(obj)}"
    elif issubclass(kind, functools.partial):
        text = f"partial of {_called(functools.partial.func.__get__(obj))}"
    elif issubclass(kind, np.ndarray):
        masked = "masked " if issubclass(kind, np.ma.MaskedArray) else ""
        known = masked or kind in _ARRAYS
        dtype = str(np.ndarray.dtype.__get__(obj)) if known else static.name(kind)
        text = f"{masked}{dtype}{_shape(obj) or (' ()' if known else '')}"
    elif kind in _SIZED:
        text = f"{kind.__name__} of {len(obj):,}"
    else:
        text = f"{static.name(kind)}{_shape(obj)}"
    text = (text.rstrip() or "object") if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return text.encode(errors="replace").decode()  # a lone surrogate cannot be encoded


def _called(function: Any) -> str:
    """Return the name of a function, or of its type if it has none."""
    return static.own_name(function) or static.name(type(function))


def _shape(obj: Any) -> str:
    """Return the shape of an object; '' if it has none, or reading it would run the user's code."""
    try:
        shape = _read_shape(obj)
    except Exception:  # noqa: BLE001 - a file that is closed, a table that is broken
        return ""
    sizes = list(tuple.__iter__(shape)) if issubclass(type(shape), tuple) else []
    if not all(type(n) is int or issubclass(type(n), np.integer) for n in sizes):
        return ""
    return f" {tuple(map(int, sizes))}" if sizes else ""


def _read_shape(obj: Any) -> Any:
    kind = type(obj)
    if issubclass(kind, np.ndarray):
        return np.ndarray.shape.__get__(obj)
    if static.root(kind) in _SHAPED:
        return obj.shape
    found = static.attributes(obj) or {}
    # A subclass of a pandas table has its data where pandas keeps them.
    manager: Any = found.get("_mgr")
    if static.root(type(manager)) == "pandas":
        return manager.shape[::-1]
    return found.get("shape")


def _signature(obj: Any) -> str:
    """Return the parameters and their defaults, without annotations: ``(X, lr=0.1, *, steps=10)``."""
    kind, bound = type(obj), 0
    if issubclass(kind, type):
        made = (static.lookup(obj, name) for name in ("__init__", "__new__"))
        functions = (f.__func__ if type(f) is staticmethod else f for f in made)
        found = next((f for f in functions if type(f) is types.FunctionType), None)
        return _parameters(found, 1) if found else ""
    if kind is types.MethodType:
        obj, bound = obj.__func__, 1
    elif kind is not types.FunctionType:
        return ""
    return _parameters(obj, bound) if type(obj) is types.FunctionType else "(…)"


def _parameters(function: types.FunctionType, bound: int) -> str:
    # `inspect.signature` would take ten times as long.
    code = function.__code__
    plain, after = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames
    shown = list(names[:plain])
    # Both may be of a subclass with methods of its own.
    defaults = function.__defaults__
    given = [] if defaults is None else list(tuple.__iter__(defaults))
    for i, default in zip(range(1, plain + 1), reversed(given)):  # noqa: B905 - there may be more defaults than parameters
        shown[-i] += f"={_default(default)}"
    if code.co_posonlyargcount > bound:
        shown.insert(code.co_posonlyargcount, "/")
    if code.co_flags & inspect.CO_VARARGS:
        shown.append(f"*{names[after]}")
        after += 1
    elif code.co_kwonlyargcount:
        shown.append("*")
    by_name = function.__kwdefaults__
    keywords = {} if by_name is None else dict(dict.items(by_name))
    for name in names[plain : plain + code.co_kwonlyargcount]:
        shown.append(f"{name}={_default(keywords[name])}" if name in keywords else name)
    if code.co_flags & inspect.CO_VARKEYWORDS:
        shown.append(f"**{names[after]}")
    return f"({', '.join(shown[bound:])})"


def _default(value: Any) -> str:
    """Return a default value as text; its type if it is not a plain value, whose `repr` is safe."""
    if type(value) in _ATOMS:
        text = repr(value)
        return text if len(text) <= _LONGEST_DEFAULT else "…"
    return static.own_name(value) or f"<{static.name(type(value))}>"


def documentation(obj: Any) -> str:
    """Return the first line of an object's own docstring."""
    kind = type(obj)
    if kind is types.MethodType:
        obj = obj.__func__
    if issubclass(kind, type):
        found: Any = static.namespace(obj).get("__doc__")
    elif issubclass(kind, types.ModuleType):
        found = (static.attributes(obj) or {}).get("__doc__")
    else:
        found = obj.__doc__ if type(obj) is types.FunctionType else ""
    lines = static.text(found).strip().splitlines()
    return lines[0][:_LONGEST] if lines else ""


def place(obj: Any) -> str:
    """Return where a function or a class was defined: ``In[3]``, ``utils.py``."""
    if type(obj) is types.MethodType:
        obj = obj.__func__
    if type(obj) is types.FunctionType:
        return source.place(obj.__code__)
    if issubclass(type(obj), type):
        own = own_codes(obj)
        return source.place(own[0]) if own else ""
    return ""


def own_codes(cls: type) -> list[CodeType]:
    """Return the code of the methods that were written in a class."""
    # Not methods that dataclasses generated, nor functions from elsewhere.
    written = list(static.namespace(cls).values())
    codes = [f.__code__ for f in written if type(f) is types.FunctionType]
    within = static.qualname(cls)
    return [code for code in codes if code.co_qualname == f"{within}.{code.co_name}"]


def copied_columns(obj: Any) -> list[str]:
    """Return the columns of a DataFrame (or the Series) whose values are Python objects.

    They go into the pickle, so each process that attaches has its own copy. All others are shared.
    """
    kind = type(obj)
    if static.root(kind) != "pandas":
        return []
    bases = {static.name(base) for base in static.mro(kind) if static.root(base) == "pandas"}
    try:
        if "DataFrame" in bases:
            copied = [name for name, dtype in obj.dtypes.items() if _is_of_objects(dtype)]
            return [static.text(name) or static.key(name) for name in copied]
        if not bases.isdisjoint(_COLUMN_TYPES) and _is_of_objects(obj.dtype):
            name = getattr(obj, "name", None)
            return ["values" if name is None else static.text(name) or static.key(name)]
    except Exception:  # noqa: BLE001 - a table that is broken, a column of the user's own type
        return []
    return []


def _is_of_objects(dtype: Any) -> bool:
    if issubclass(type(dtype), np.dtype):
        return bool(dtype.kind == "O")
    return static.root(type(dtype)) == "pandas" and getattr(dtype, "storage", None) == "python"


# -- previews --------------------------------------------------------------------------------------


# A preview has about 8 kB at most; a character may take four bytes.
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

    Empty if there is nothing to show, or if anything fails: the object is published without it.
    """
    try:
        return _preview(obj)
    except Exception:  # noqa: BLE001 - a table that is broken, a container that another thread changes
        return {}


def _preview(obj: Any) -> dict[str, Any]:
    for _ in range(_PARTIALS):  # a partial may contain itself
        if type(obj) is not functools.partial:
            break
        obj = obj.func
    if type(obj) is types.MethodType:
        obj = obj.__func__
    kind = type(obj)
    if kind is types.FunctionType:
        block = block_written(obj.__code__)
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
    """Return the statement of a class whose methods travel; only the methods if it is not known."""
    codes = own_codes(cls)
    blocks = [block for code in codes if (block := block_written(code))]
    if not blocks:
        return ""
    lines, name = linecache.getlines(codes[0].co_filename), static.name(cls)
    methods = "".join(block[2] for block in blocks)
    return class_statement(lines, name, blocks[0][1]) or f"class {name}:\n{methods}"


# -- tables ----------------------------------------------------------------------------------------


def _table(table: Any, pandas: Any) -> dict[str, Any]:
    """Return the first rows of a DataFrame or a Series."""
    series = type(table) is pandas.Series
    many = not series and table.shape[1] > _COLUMNS
    # One slice if that is enough: two cost ten times as much.
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
    """Return whether a column's values are made by pandas or NumPy, and made quickly."""
    kind = type(dtype)
    if static.root(kind) not in ("numpy", "pandas"):
        return False
    return static.name(kind) != "ArrowDtype" or dtype.kind != "O"


def _cell(value: Any) -> str:
    if type(value) is tuple:  # a label of an index with several levels
        return short(", ".join(map(_word, value[:_LISTED])), _CELL)
    return _word(value)


def _word(value: Any) -> str:
    if type(value) is str:
        return short(value, _CELL)
    return short(written(value) or f"<{static.name(type(value))}>", _CELL)


# -- text ------------------------------------------------------------------------------------------


def _lines(obj: Any, entries: Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    """Return a line for each entry of an object, and for the entries within it."""
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
    text = written(value) or short(summary(value), _WORD)
    return f"{label}: {text}" if label else text


def _length(obj: Any) -> int:
    """Return the number of entries of an object; no method of a subclass is called."""
    for kind in (dict, *_SEQUENCES):
        if issubclass(type(obj), kind):
            return kind.__len__(obj)
    if type(obj) is np.ndarray:
        return int(obj.size)
    return sum(1 for _ in _attributes(obj) or ())


def _entries(obj: Any) -> Iterator[tuple[str, Any]] | None:
    """Return the items of a container, with their keys; None for any other object."""
    kind = type(obj)
    if issubclass(kind, dict):
        return ((static.key(key), value) for key, value in dict.items(obj))
    for base in _SEQUENCES:
        if issubclass(kind, base):
            return (("", value) for value in base.__iter__(obj))
    if kind is np.ndarray and obj.dtype == np.dtype(object):
        return (("", value) for value in obj.flat)
    return None


def _attributes(obj: Any) -> Iterator[tuple[str, Any]] | None:
    """Return the items of an object's own ``__dict__``; no property and no ``__getattr__`` is called."""
    found = static.attributes(obj)
    if found is None:
        return None
    return (
        (short(name, _WORD), value)
        for name, value in list(found.items())
        if type(name) is str and name[:2] != "__"
    )


def _bounded(text: str, most: int) -> tuple[str, bool]:
    """Return a text cut to `most` bytes, and whether it was longer."""
    if text.isascii():
        return text[:most], len(text) > most
    data = text.encode(errors="replace")
    return data[:most].decode(errors="ignore"), len(data) > most
