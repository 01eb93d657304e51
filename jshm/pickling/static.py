"""Look at an object without running the user's code.

`getattr`, `hasattr`, `isinstance`, `vars`, `len`, `==` and `repr` may run methods of the object or
of its metaclass: a property, ``__getattr__`` or ``__class__`` may raise, load data or open a connection.
The functions here use `type`, and Python's own descriptors. Besides them,
``issubclass(type(value), kind)`` is safe if `kind` is a plain class and not an ABC.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WORD = 60
_LISTED = 6
_INTEGER_BITS = 128
_NAME = type.__dict__["__name__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__
_MODULE = type.__dict__["__module__"].__get__
_MRO = type.__dict__["__mro__"].__get__
_NAMESPACE = type.__dict__["__dict__"].__get__


class Types:
    """A set of types that compares by identity: a metaclass may have its own ``__eq__`` and ``__hash__``."""

    def __init__(self, *kinds: type) -> None:
        self._kinds = {id(kind): kind for kind in kinds}

    def __contains__(self, kind: type) -> bool:
        return id(kind) in self._kinds


SCALARS = Types(bool, int, float, complex, type(None), type(...))
_TIMES = Types(dt.date, dt.time, dt.datetime, dt.timedelta)
_PANDAS_SCALARS = frozenset({"Timestamp", "Timedelta", "Period", "NaTType", "NAType"})
# Packages whose time zones do not run the user's code.
_ZONES = frozenset({"datetime", "zoneinfo", "pytz", "dateutil", "pandas"})
_NAMED = Types(types.FunctionType, types.BuiltinFunctionType, np.ufunc)
_PLAIN = Types(types.GetSetDescriptorType, types.MemberDescriptorType)


# -- types -----------------------------------------------------------------------------------------


def name(kind: type) -> str:
    """Return a class's name."""
    return text(_NAME(kind))


def qualname(kind: type) -> str:
    """Return a class's qualified name."""
    return text(_QUALNAME(kind))


def module(kind: type) -> str:
    """Return the name of a class's module; '' if its ``__module__`` is not text."""
    try:
        return text(_MODULE(kind))
    except AttributeError:
        return ""


def root(kind: type) -> str:
    """Return the package that a class is from: ``pandas``; '' if that is not known."""
    return module(kind).partition(".")[0]


def full_name(kind: type) -> str:
    """Return a class's name with its module, if that is known and is not `builtins`."""
    return f"{module(kind)}.{qualname(kind)}".removeprefix("builtins.").removeprefix(".")


def mro(kind: type) -> tuple[type, ...]:
    """Return a class and its bases, in the order in which attributes are looked up."""
    found: tuple[type, ...] = _MRO(kind)
    return found


def namespace(kind: type) -> Mapping[str, Any]:
    """Return the namespace of a class, without its bases."""
    found: Mapping[str, Any] = _NAMESPACE(kind)
    return found


def lookup(kind: type, attribute: str) -> Any:
    """Return what a class or its bases have under a name, unbound; None if they have nothing."""
    for base in mro(kind):
        if attribute in namespace(base):
            return namespace(base)[attribute]
    return None


# -- objects ---------------------------------------------------------------------------------------


def text(value: object) -> str:
    """Return a text as a plain `str`; '' for anything else."""
    if type(value) is str:
        return value
    return str.__str__(value) if issubclass(type(value), str) else ""


def own_name(obj: Any) -> str:
    """Return the name that a function, a class or a module was given; '' for anything else."""
    kind = type(obj)
    if issubclass(kind, type):
        return name(obj)
    if issubclass(kind, types.ModuleType):
        return text((attributes(obj) or {}).get("__name__"))
    return text(obj.__name__) if kind in _NAMED else ""


def attributes(obj: object) -> Mapping[str, Any] | None:
    """Return an object's own ``__dict__``; None if it has none, or a property of that name."""
    for base in mro(type(obj)):
        descriptor = namespace(base).get("__dict__")
        if descriptor is not None:
            found = descriptor.__get__(obj) if type(descriptor) in _PLAIN else None
            plain = type(found) is dict or type(found) is types.MappingProxyType
            return found if plain else None
    return None


def slots(obj: object) -> Iterator[tuple[str, Any]]:
    """Yield the names of an object's slots and their values, if they are set."""
    for base in mro(type(obj)):
        if "__slots__" in namespace(base):
            for label, descriptor in list(namespace(base).items()):
                if type(descriptor) is types.MemberDescriptorType:
                    try:
                        value = descriptor.__get__(obj)
                    except AttributeError:  # it is not set
                        continue
                    yield label, value


# -- words -----------------------------------------------------------------------------------------


def key(value: Any) -> str:
    """Return a key as text within brackets; its type if its `repr` may run the user's code."""
    if type(value) is not tuple or len(value) > _LISTED:
        return _item(value)
    # A tuple in a tuple is shown by its type, because it may be nested without limit.
    inner = ", ".join(map(_item, value))
    return short(f"({inner}{',' if len(value) == 1 else ''})", _WORD)


def _item(value: Any) -> str:
    kind = type(value)
    if issubclass(kind, enum.Enum):
        return short(f"{name(kind)}.{text((attributes(value) or {}).get('_name_'))}", _WORD)
    return written(value) or f"<{short(name(kind), _WORD)}>"


def is_short(value: Any) -> bool:
    """Return whether a list or a tuple is short enough for one line."""
    kind = type(value)
    if (kind is not list and kind is not tuple) or len(value) > _LISTED:
        return False
    return all(type(item) in SCALARS for item in value)


def written(value: Any) -> str:
    """Return a value as text, if its type's `repr` is known to be safe; else ''."""
    kind = type(value)
    if kind is str or kind is bytes:
        return short(repr(value) if len(value) < _WORD else f"{value[:_WORD]!r}…", _WORD)
    if kind is int and value.bit_length() > _INTEGER_BITS:
        return f"int of {value.bit_length():,} bits"
    if kind in SCALARS:
        return repr(value)
    if is_short(value):
        return short(f"{value}", _WORD)
    if kind in _TIMES:
        zone = getattr(value, "tzinfo", None)
        return str(value) if zone is None or root(type(zone)) in _ZONES else ""
    package = root(kind)
    if package == "numpy" and issubclass(kind, np.number | np.bool_ | np.datetime64):
        return str(value)
    if package == "pandas" and name(kind) in _PANDAS_SCALARS:
        return str(value)
    return ""


def short(words: str, most: int) -> str:
    """Return a text cut to `most` characters, without lone surrogates."""
    words = words if len(words) <= most else f"{words[: most - 1]}…"
    # A lone surrogate cannot be encoded.
    return words if words.isascii() else words.encode(errors="replace").decode()


# -- parts -----------------------------------------------------------------------------------------


# Types without parts, or only with parts that are not the value's own.
_LEAVES = (str, bytes, int, float, types.ModuleType, type, set, frozenset)
# Larger arrays of objects are not looked into.
_MOST_ITEMS = 1000
# Depth of the arrays in a column or an index: index, categorical, its type, categories, array.
_TABLE_DEPTH = 6


def parts_of(value: Any) -> Iterator[tuple[str, object]]:
    """Yield the label of each part of a value, and the part: to find which variable keeps an array.

    No method is called, except those of tables whose type is pandas' own.
    """
    kind = type(value)
    if issubclass(kind, _LEAVES):
        return
    if issubclass(kind, np.ndarray):
        plain = np.ndarray.view(value, np.ndarray)
        if plain.dtype.kind == "O" and plain.size <= _MOST_ITEMS:
            yield from ((f"[{i}]", inner) for i, inner in enumerate(plain.ravel().tolist()))
    elif root(kind) == "pandas":  # its parts are in C
        # A column may be of a type of the user's, which may raise.
        with contextlib.suppress(Exception):
            yield from _parts_of_table(value)
    elif kind is types.FunctionType:
        yield from _parts_of_function(value)
    else:
        if issubclass(kind, dict):
            yield from ((f"[{key(k)}]", inner) for k, inner in list(dict.items(value)))
        for sequence in (list, tuple):
            if issubclass(kind, sequence):
                yield from ((f"[{i}]", inner) for i, inner in enumerate(sequence.__iter__(value)))
        own = list((attributes(value) or {}).items())
        for name, inner in [*own, *slots(value)]:
            yield f".{text(name) or key(name)}", inner


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    code, space = function.__code__, function.__globals__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" (closure {name!r})", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    defaults = function.__defaults__
    if defaults is not None:
        yield from ((f" (default {i})", x) for i, x in enumerate(tuple.__iter__(defaults)))
    if space is not sys.modules["__main__"].__dict__:  # an attached function has its own globals
        yield from (
            (f" (global {name!r})", dict.__getitem__(space, name))
            for name in code.co_names
            if dict.__contains__(space, name)
        )


def _parts_of_table(table: Any) -> Iterator[tuple[str, object]]:
    bases = {name(base) for base in mro(type(table))}
    if "DataFrame" in bases:
        for label, column in table.items():
            yield from ((f"[{key(label)}]", array) for array in _arrays_of(column.array))
        for part in ("index", "columns"):
            yield from ((f".{part}", array) for array in _arrays_of(getattr(table, part)))
    elif "Series" in bases:
        yield from (("", array) for array in _arrays_of(table.array))
        yield from ((".index", array) for array in _arrays_of(table.index))
    elif not bases.isdisjoint(("Index", "ExtensionArray")):
        yield from (("", array) for array in _arrays_of(table))
    elif any(base.endswith("BlockManager") for base in bases):  # in a subclass of the user's
        yield from (("", array) for array in table.arrays)
    else:  # a group-by, a rolling window
        yield from ((f".{label}", inner) for label, inner in (attributes(table) or {}).items())


def _arrays_of(values: Any, depth: int = _TABLE_DEPTH) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the arrays of NumPy that the values of a column or an index are in, without a copy."""
    package = root(type(values))
    if issubclass(type(values), np.ndarray):
        yield values
    elif package == "pyarrow":
        for chunk in getattr(values, "chunks", (values,)):
            for buffer in filter(None, chunk.buffers()):
                yield np.frombuffer(buffer, np.uint8)
    elif depth:
        inner = [getattr(values, "_ndarray", None)] if package == "pandas" else []
        inner += (attributes(values) or {}).values()
        if issubclass(type(values), list):  # levels and codes of an index with several levels
            inner += list.__iter__(values)
        for part in inner:
            if root(type(part)) in ("numpy", "pandas", "pyarrow"):
                yield from _arrays_of(part, depth - 1)
