"""What an object is, in a few words: for lists, so that nothing is unpickled to look at it."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

import numpy as np

from . import sources

_LONGEST = 200
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
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _shape(obj: Any) -> str:
    try:
        shape = obj.shape
    except Exception:  # noqa: BLE001 - a property of the user's may raise anything
        return ""
    if not isinstance(shape, tuple) or not all(isinstance(n, int | np.integer) for n in shape):
        return ""
    return f" {tuple(map(int, shape))}" if shape else ""


def _signature(obj: Any) -> str:
    try:
        return str(inspect.signature(obj))
    except Exception:  # noqa: BLE001 - builtins have none; defaults are shown by their own repr
        return "(…)"


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
        functions = [f for f in vars(obj).values() if isinstance(f, types.FunctionType)]
        return sources.place(functions[0].__code__) if functions else obj.__module__
    return ""


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
