"""What an object is, in a few words: for lists, so that nothing is unpickled to look at it."""

from __future__ import annotations

import functools
import inspect
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from . import sources

if TYPE_CHECKING:
    from types import CodeType

_LONGEST = 200
_LONGEST_DEFAULT = 30
# What has a name without being asked for it.
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, np.ufunc)
_SIZED = (dict, list, tuple, set, frozenset, str, bytes, bytearray)


def summary(obj: Any) -> str:
    """Return what an object is: ``function train(X, lr=0.1)``, ``DataFrame (1000, 3)``, ``dict of 3``.

    Nothing of the object's own is called, except the `shape` that NumPy-like ones have.
    """
    kind = type(obj)
    if isinstance(obj, types.ModuleType):
        text = f"module {obj.__name__}"
    elif isinstance(obj, type):
        text = f"class {obj.__name__}{_signature(obj)}"
    elif isinstance(obj, types.FunctionType | types.MethodType):
        text = f"function {obj.__name__}{_signature(obj)}"
    elif isinstance(obj, types.BuiltinFunctionType):
        text = f"function {obj.__name__}"
    elif isinstance(obj, functools.partial):
        text = f"partial of {getattr(obj.func, '__name__', type(obj.func).__name__)}"
    elif kind in (np.ndarray, np.memmap):
        text = f"{obj.dtype} {obj.shape}"
    elif isinstance(obj, np.ma.MaskedArray):
        text = f"masked {obj.dtype} {obj.shape}"
    elif kind in _SIZED:
        text = f"{kind.__name__} of {len(obj):,}"
    else:
        text = f"{kind.__name__}{_shape(obj)}"
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return text.encode(errors="replace").decode()  # half a surrogate pair is no text


def _shape(obj: Any) -> str:
    try:
        shape = obj.shape
    except Exception:  # noqa: BLE001 - a property of the user's may raise anything
        return ""
    if not isinstance(shape, tuple) or not all(isinstance(n, int | np.integer) for n in shape):
        return ""
    return f" {tuple(map(int, shape))}" if shape else ""


def _signature(obj: Any) -> str:
    """Return the parameters and their defaults, without annotations: ``(X, lr=0.1, *, steps=10)``."""
    if isinstance(obj, type):
        made = [getattr(obj, name) for name in ("__init__", "__new__")]
        written = [f for f in made if isinstance(f, types.FunctionType)]
        return _parameters(written[0], 1) if written else ""
    if isinstance(obj, types.MethodType):
        obj = obj.__func__
        return _parameters(obj, 1) if isinstance(obj, types.FunctionType) else "(…)"
    return _parameters(obj, 0)


def _parameters(function: types.FunctionType, bound: int) -> str:
    # What `inspect.signature` finds out too, in ten times the time.
    code = function.__code__
    plain, after = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames
    shown = list(names[:plain])
    for i, default in enumerate(reversed(function.__defaults__ or ()), 1):
        shown[-i] += f"={_default(default)}"
    if code.co_posonlyargcount > bound:
        shown.insert(code.co_posonlyargcount, "/")
    if code.co_flags & inspect.CO_VARARGS:
        shown.append(f"*{names[after]}")
        after += 1
    elif code.co_kwonlyargcount:
        shown.append("*")
    keywords = function.__kwdefaults__ or {}
    for name in names[plain : plain + code.co_kwonlyargcount]:
        shown.append(f"{name}={_default(keywords[name])}" if name in keywords else name)
    if code.co_flags & inspect.CO_VARKEYWORDS:
        shown.append(f"**{names[after]}")
    return f"({', '.join(shown[bound:])})"


def _default(value: Any) -> str:
    """Return a default value as it was written; of others the type, whose `repr` may be anything."""
    if type(value) in (bool, int, float, complex, str, bytes, type(None)):
        text = repr(value)
        return text if len(text) <= _LONGEST_DEFAULT else "…"
    named = issubclass(type(value), _NAMED)
    return value.__name__ if named else f"<{type(value).__name__}>"


def documentation(obj: Any) -> str:
    """Return the first line of what an object's own docstring says."""
    if not isinstance(obj, types.FunctionType | types.MethodType | type | types.ModuleType):
        return ""
    text = getattr(obj, "__doc__", None)
    lines = text.strip().splitlines() if isinstance(text, str) else []
    return lines[0][:_LONGEST] if lines else ""


def place(obj: Any) -> str:
    """Return where a function or a class was defined: ``In[3]``, ``utils.py``."""
    obj = getattr(obj, "__func__", obj)
    if isinstance(obj, types.FunctionType):
        return sources.place(obj.__code__)
    if isinstance(obj, type):
        own = own_codes(obj)
        return sources.place(own[0]) if own else ""
    return ""


def own_codes(cls: type) -> list[CodeType]:
    """Return the code of the methods that were written in a class."""
    # Those of a dataclass are made of text, others may be somebody else's.
    codes = [f.__code__ for f in vars(cls).values() if isinstance(f, types.FunctionType)]
    return [code for code in codes if code.co_qualname == f"{cls.__qualname__}.{code.co_name}"]


def copied_columns(obj: Any) -> list[str]:
    """Return the columns of a DataFrame (or the Series) whose values are Python objects.

    They go into the pickle, so everybody who attaches has a copy of his own. All others are shared.
    """
    if type(obj).__module__.partition(".")[0] != "pandas":
        return []
    if hasattr(obj, "columns") and hasattr(obj, "dtypes"):
        return [str(name) for name, dtype in obj.dtypes.items() if _is_of_objects(dtype)]
    if hasattr(obj, "dtype") and _is_of_objects(obj.dtype):
        return [str(getattr(obj, "name", None) or "values")]
    return []


def _is_of_objects(dtype: Any) -> bool:
    return bool(dtype == np.dtype(object)) or getattr(dtype, "storage", None) == "python"
