"""What a value consists of, to find out which variable keeps an array. The user's code is not run."""

from __future__ import annotations

import contextlib
import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import static as looking

if TYPE_CHECKING:
    from collections.abc import Iterator

# Types without parts, or only with those that everybody has.
_LEAVES = (str, bytes, int, float, ModuleType, type, set, frozenset)
# Items of an array of objects that are looked into.
_MANY = 1000
# How deep the arrays of a column or an index are: index, categorical, its type, categories, array.
_NESTED = 6

Array = np.ndarray[Any, Any]


def parts_of(value: Any) -> Iterator[tuple[str, object]]:
    """Yield how one gets to each part of a value, and the part.

    Only tables are asked for their parts, and only those whose type is pandas' own.
    """
    kind = type(value)
    if issubclass(kind, _LEAVES):
        return
    if issubclass(kind, np.ndarray):
        plain = np.ndarray.view(value, np.ndarray)
        if plain.dtype.kind == "O" and plain.size <= _MANY:
            yield from ((f"[{i}]", inner) for i, inner in enumerate(plain.ravel().tolist()))
    elif looking.root(kind) == "pandas":  # its parts are hidden in C
        # One of a table's columns may be of the user's own type, which may raise.
        with contextlib.suppress(Exception):
            yield from _parts_of_table(value)
    elif kind is FunctionType:
        yield from _parts_of_function(value)
    else:
        if issubclass(kind, dict):
            yield from ((f"[{looking.key(k)}]", inner) for k, inner in list(dict.items(value)))
        for sequence in (list, tuple):
            if issubclass(kind, sequence):
                yield from ((f"[{i}]", inner) for i, inner in enumerate(sequence.__iter__(value)))
        attributes = list((looking.attributes(value) or {}).items())
        for name, inner in [*attributes, *looking.slots(value)]:
            yield f".{looking.text(name) or looking.key(name)}", inner


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    code, space = function.__code__, function.__globals__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" (closure {name!r})", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    defaults = function.__defaults__
    if defaults is not None:
        yield from ((f" (default {i})", x) for i, x in enumerate(tuple.__iter__(defaults)))
    if space is not sys.modules["__main__"].__dict__:  # one that was attached has its own
        yield from (
            (f" (global {name!r})", dict.__getitem__(space, name))
            for name in code.co_names
            if dict.__contains__(space, name)
        )


def _parts_of_table(table: Any) -> Iterator[tuple[str, object]]:
    bases = {looking.name(base) for base in looking.mro(type(table))}
    if "DataFrame" in bases:
        for name, column in table.items():
            yield from ((f"[{looking.key(name)}]", array) for array in _arrays_of(column.array))
        for part in ("index", "columns"):
            yield from ((f".{part}", array) for array in _arrays_of(getattr(table, part)))
    elif "Series" in bases:
        yield from (("", array) for array in _arrays_of(table.array))
        yield from ((".index", array) for array in _arrays_of(table.index))
    elif not bases.isdisjoint(("Index", "ExtensionArray")):
        yield from (("", array) for array in _arrays_of(table))
    elif any(base.endswith("BlockManager") for base in bases):  # of a subclass of the user's
        yield from (("", array) for array in table.arrays)
    else:  # a group-by, a rolling window
        yield from (
            (f".{name}", inner) for name, inner in (looking.attributes(table) or {}).items()
        )


def _arrays_of(values: Any, depth: int = _NESTED) -> Iterator[Array]:
    """Yield the arrays of NumPy that the values of a column or an index are in, without a copy."""
    package = looking.root(type(values))
    if issubclass(type(values), np.ndarray):
        yield values
    elif package == "pyarrow":
        for chunk in getattr(values, "chunks", (values,)):
            for buffer in filter(None, chunk.buffers()):
                yield np.frombuffer(buffer, np.uint8)
    elif depth:
        inner = [getattr(values, "_ndarray", None)] if package == "pandas" else []
        inner += (looking.attributes(values) or {}).values()
        if issubclass(type(values), list):  # levels and codes of an index of several
            inner += list.__iter__(values)
        for part in inner:
            if looking.root(type(part)) in ("numpy", "pandas", "pyarrow"):
                yield from _arrays_of(part, depth - 1)
