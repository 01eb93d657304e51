"""What an object is, in a few words: for lists, so that nothing is unpickled to look at it."""

from __future__ import annotations

import functools
import inspect
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from . import sources
from . import static as looking
from .static import Types

if TYPE_CHECKING:
    from types import CodeType

_LONGEST = 200
_LONGEST_DEFAULT = 30
_ARRAYS = Types(np.ndarray, np.memmap)
_SIZED = Types(dict, list, tuple, set, frozenset, str, bytes, bytearray)
_ATOMS = Types(bool, int, float, complex, str, bytes, type(None))
# Packages whose `shape` is no property of the user's.
_SHAPED = frozenset(
    {
        "numpy", "pandas", "scipy", "polars", "pyarrow", "torch", "jaxlib", "tensorflow", "xarray",
        "dask", "cupy", "zarr", "h5py", "sparse",
    }
)  # fmt: skip
_COLUMNS = frozenset({"Series", "Index", "ExtensionArray"})


def summary(obj: Any) -> str:
    """Return what an object is: ``function train(X, lr=0.1)``, ``DataFrame (1000, 3)``, ``dict of 3``.

    Nothing of the object's own is called, except the `shape` of well-known libraries' types.
    """
    kind = type(obj)
    if issubclass(kind, types.ModuleType):
        text = f"module {looking.own_name(obj)}"
    elif issubclass(kind, type):
        text = f"class {looking.name(obj)}{_signature(obj)}"
    elif kind is types.FunctionType or kind is types.BuiltinFunctionType:
        text = f"function {looking.own_name(obj)}{_signature(obj)}"
    elif kind is types.MethodType:
        text = f"function {_called(obj.__func__)}{_signature(obj)}"
    elif issubclass(kind, functools.partial):
        text = f"partial of {_called(functools.partial.func.__get__(obj))}"
    elif issubclass(kind, np.ndarray):
        masked = "masked " if issubclass(kind, np.ma.MaskedArray) else ""
        known = masked or kind in _ARRAYS
        dtype = str(np.ndarray.dtype.__get__(obj)) if known else looking.name(kind)
        text = f"{masked}{dtype}{_shape(obj) or (' ()' if known else '')}"
    elif kind in _SIZED:
        text = f"{kind.__name__} of {len(obj):,}"
    else:
        text = f"{looking.name(kind)}{_shape(obj)}"
    text = (text.rstrip() or "object") if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return text.encode(errors="replace").decode()  # half of a surrogate pair cannot be encoded


def _called(function: Any) -> str:
    """Return the name of what is called; of what has none, its type's."""
    return looking.own_name(function) or looking.name(type(function))


def _shape(obj: Any) -> str:
    """Return the shape of what has one that can be read without running the user's code."""
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
    if looking.root(kind) in _SHAPED:
        return obj.shape
    found = looking.attributes(obj) or {}
    # A subclass of a pandas table has its data where pandas keeps them.
    manager: Any = found.get("_mgr")
    if looking.root(type(manager)) == "pandas":
        return manager.shape[::-1]
    return found.get("shape")


def _signature(obj: Any) -> str:
    """Return the parameters and their defaults, without annotations: ``(X, lr=0.1, *, steps=10)``."""
    kind, bound = type(obj), 0
    if issubclass(kind, type):
        made = [_unbound(looking.lookup(obj, name)) for name in ("__init__", "__new__")]
        written = [f for f in made if type(f) is types.FunctionType]
        return _parameters(written[0], 1) if written else ""
    if kind is types.MethodType:
        obj, bound = obj.__func__, 1
    elif kind is not types.FunctionType:
        return ""
    return _parameters(obj, bound) if type(obj) is types.FunctionType else "(…)"


def _unbound(found: Any) -> Any:
    return found.__func__ if type(found) is staticmethod else found


def _parameters(function: types.FunctionType, bound: int) -> str:
    # What `inspect.signature` finds out too, in ten times the time.
    code = function.__code__
    plain, after = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames
    shown = list(names[:plain])
    # Both may be of a subclass that has its own ways.
    defaults = function.__defaults__
    given = [] if defaults is None else list(tuple.__iter__(defaults))
    for i, default in zip(range(1, plain + 1), reversed(given)):  # noqa: B905 - there may be more
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
    """Return a default value as it was written; of others the type, whose `repr` may be anything."""
    if type(value) in _ATOMS:
        text = repr(value)
        return text if len(text) <= _LONGEST_DEFAULT else "…"
    return looking.own_name(value) or f"<{looking.name(type(value))}>"


def documentation(obj: Any) -> str:
    """Return the first line of what an object's own docstring says."""
    kind = type(obj)
    if kind is types.MethodType:
        obj = obj.__func__
    if issubclass(kind, type):
        found: Any = looking.namespace(obj).get("__doc__")
    elif issubclass(kind, types.ModuleType):
        found = (looking.attributes(obj) or {}).get("__doc__")
    else:
        found = obj.__doc__ if type(obj) is types.FunctionType else ""
    lines = looking.text(found).strip().splitlines()
    return lines[0][:_LONGEST] if lines else ""


def place(obj: Any) -> str:
    """Return where a function or a class was defined: ``In[3]``, ``utils.py``."""
    if type(obj) is types.MethodType:
        obj = obj.__func__
    if type(obj) is types.FunctionType:
        return sources.place(obj.__code__)
    if issubclass(type(obj), type):
        own = own_codes(obj)
        return sources.place(own[0]) if own else ""
    return ""


def own_codes(cls: type) -> list[CodeType]:
    """Return the code of the methods that were written in a class."""
    # Those of a dataclass are made of text, others may be somebody else's.
    written = list(looking.namespace(cls).values())
    codes = [f.__code__ for f in written if type(f) is types.FunctionType]
    within = looking.qualname(cls)
    return [code for code in codes if code.co_qualname == f"{within}.{code.co_name}"]


def copied_columns(obj: Any) -> list[str]:
    """Return the columns of a DataFrame (or the Series) whose values are Python objects.

    They go into the pickle, so everybody who attaches has a copy of his own. All others are shared.
    """
    kind = type(obj)
    if looking.root(kind) != "pandas":
        return []
    bases = {looking.name(base) for base in looking.mro(kind) if looking.root(base) == "pandas"}
    try:
        if "DataFrame" in bases:
            copied = [name for name, dtype in obj.dtypes.items() if _is_of_objects(dtype)]
            return [looking.text(name) or looking.key(name) for name in copied]
        if not bases.isdisjoint(_COLUMNS) and _is_of_objects(obj.dtype):
            name = getattr(obj, "name", None)
            return ["values" if name is None else looking.text(name) or looking.key(name)]
    except Exception:  # noqa: BLE001 - a table that is broken, a column of the user's own type
        return []
    return []


def _is_of_objects(dtype: Any) -> bool:
    if issubclass(type(dtype), np.dtype):
        return bool(dtype.kind == "O")
    return looking.root(type(dtype)) == "pandas" and getattr(dtype, "storage", None) == "python"
