"""Why an object cannot be written: the path to the culprit, and a way out.

Nothing here runs until a dump has failed. Then the object is walked as the Pickler walks it, until
something refuses to be reduced.
"""

from __future__ import annotations

import io
import socket
import sys
import threading
import types
import weakref
from itertools import chain
from pickle import PickleBuffer, PicklingError
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from cloudpickle import cloudpickle as cp

from ..errors import NotShareableError
from . import modules
from .namespaces import NamespaceMet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .writer import Writer

    Part = tuple[str, Any]
    """How one gets to a part of an object, and the part."""

# Objects that are looked at; the search is for people, who wait.
_LIMIT = 500_000
_SHOWN = 60
_LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event)
_DEFINED = (type, types.FunctionType, types.ModuleType)
_RUNNING = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)

_WAYS: list[tuple[Callable[[Any], bool], str, str]] = [
    (lambda o: isinstance(o, io.IOBase), "open file", "open it where it is used, by its name"),
    (lambda o: isinstance(o, _LOCKS), "lock", "make it where it is used"),
    (lambda o: isinstance(o, socket.socket), "socket", "connect where it is used"),
    (lambda o: isinstance(o, _RUNNING), "running generator",
     "share a list of what it yields, or the function that makes it"),
    (lambda o: type(o).__name__ in ("Connection", "Engine", "Cursor", "Session"),
     "live database connection", "connect where it is used"),
    (lambda o: isinstance(o, threading.Thread), "thread", "start it where it is used"),
    (lambda o: isinstance(o, weakref.ref), "weak reference", "share the object itself"),
    (lambda o: isinstance(o, types.FrameType | types.TracebackType), "stack frame",
     "share the text of the traceback"),
]  # fmt: skip


class _Step(NamedTuple):
    """One step of the way into an object."""

    outer: _Step | None
    label: str
    obj: Any


def explain(pickler: Writer, obj: Any, error: Exception) -> NotShareableError:
    """Return the error for an object that could not be written.

    It is also of the type of `error`, for those who expect that.
    """
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        text = (
            f"{pickler.name or _name(obj)} is nested too deeply (deep recursion): share a flatter form "
            "of it, or raise sys.setrecursionlimit"
        )
    else:
        text = _explained(pickler, obj, error)
    return _typed(error, text)


def module_at_fault(pickler: Writer, obj: Any, error: Exception) -> str:
    """Return the module beside the notebook that holds what cannot be written; '' if it is not one's.

    An object that does not refer to it by itself can be written without: by importing its module.
    """
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return ""
    try:
        found = _search(pickler, obj)
    except Exception:  # noqa: BLE001 - as below
        return ""
    step = found and found[0]
    while step:
        name = _module_of(step.obj)
        if name and name not in pickler.by_import and modules.origin_of(name) is not None:
            return name
        step = step.outer
    return ""


def _module_of(obj: Any) -> str:
    """Return the name of the module that defines an object, or that it is, or whose namespace it is."""
    if type(obj) is dict:
        name = obj.get("__name__")
        module = sys.modules.get(name) if type(name) is str else None
        return module.__name__ if module is not None and vars(module) is obj else ""
    if not isinstance(obj, _DEFINED):
        return ""
    return str(getattr(obj, "__module__", None) or getattr(obj, "__name__", ""))


def _typed(error: Exception, text: str) -> NotShareableError:
    """Return an error that says `text`, and is of the type of `error` too where that lets it."""
    kind = type(error)
    if not issubclass(NotShareableError, kind):
        try:
            made: NotShareableError = type("NotShareableError", (NotShareableError, kind), {})(text)
        except Exception:  # noqa: BLE001 - it wants other arguments, or has another layout
            return NotShareableError(text)
        if str(made) == text:
            return made
    return NotShareableError(text)


def _explained(pickler: Writer, obj: Any, error: Exception) -> str:
    try:
        found = _search(pickler, obj)
    except Exception:  # noqa: BLE001 - it runs code of the user's; the first error is the one that counts
        found = None
    if found is None:
        return f"{pickler.name or _name(obj)} cannot be shared: {error}"
    path, what, way_out = _unroll(*found)
    return f"{' → '.join([*path, what])}: {way_out}"


def _describe(culprit: Any, why: Exception) -> tuple[str, str]:
    """Return what an object is, in words, and what to do about it."""
    for is_one, what, way_out in _WAYS:
        if is_one(culprit):
            name = getattr(culprit, "name", None)
            shown = f" {name!r}" if isinstance(name, str) and isinstance(culprit, io.IOBase) else ""
            return what + shown, f"cannot be shared ({why}); {way_out}"
    kind = type(culprit)
    advice = getattr(why, "way_out", "") or "Leave it out, or say how to share it with __reduce__"
    return (
        f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        f"cannot be shared: {why}. {advice[0].upper()}{advice[1:]}",
    )


def _search(pickler: Writer, root: Any) -> tuple[_Step, Exception] | None:
    """Return the way to the first object that cannot be reduced, and what its reduction raised."""
    make: Any = type(pickler)
    probe: Writer = make(io.BytesIO(), pickler.proto)
    probe.by_import = pickler.by_import
    seen: set[int] = set()
    # Kept until the end: else another object would get a dead one's id.
    kept: list[_Step] = []
    stack = [_Step(None, pickler.name or _name(root), root)]
    while stack and len(seen) < _LIMIT:
        step = stack.pop()
        if id(step.obj) in seen:
            continue
        seen.add(id(step.obj))
        kept.append(step)
        try:
            parts = list(_parts(probe, step.obj))
        except NamespaceMet:  # written by reference
            continue
        except Exception as error:  # noqa: BLE001 - whatever a reducer raises, it is the culprit
            # Without its traceback, which would keep all this, and what was refused.
            return step, error.with_traceback(None)
        stack.extend(_Step(step, label, part) for label, part in reversed(parts))
    return None


def _unroll(step: _Step, error: Exception) -> tuple[list[str], str, str]:
    """Return labels up to the culprit, what it is, and a way out.

    The lock of a thread says less than the thread.
    """
    steps = [step]
    while steps[0].outer is not None:
        steps.insert(0, steps[0].outer)
    known = [i for i, s in enumerate(steps) if any(is_one(s.obj) for is_one, _, _ in _WAYS)]
    steps = steps[: known[0] + 1] if known else steps
    return [s.label for s in steps if s.label], *_describe(steps[-1].obj, error)


def _parts(probe: Writer, obj: Any) -> Iterable[Part]:
    """Return what the Pickler writes for an object; raises what it would raise."""
    kind = type(obj)
    if kind in (bool, int, float, complex, str, bytes, bytearray, type(None)):
        return ()
    if kind is dict:
        keys = (("key", key) for key in obj)
        return chain(((f"[{_short(key)}]", value) for key, value in obj.items()), keys)
    if kind in (list, tuple):
        return ((f"[{i}]", value) for i, value in enumerate(obj))
    if kind in (set, frozenset):
        return (("element", value) for value in obj)
    if kind in (memoryview, PickleBuffer):
        return ()
    if issubclass(kind, np.ndarray):
        return _array_parts(obj)
    if kind.__module__.partition(".")[0] == "pandas" and kind.__name__ == "DataFrame":
        return ((f"[{_short(name)}]", obj[name].to_numpy()) for name in obj.columns)
    reduced = probe.reducer_override(obj)
    if reduced is NotImplemented:
        if isinstance(obj, type | types.FunctionType):
            return _check_global(obj)
        known = probe.dispatch_table.get(kind)
        reduced = obj.__reduce_ex__(probe.proto) if known is None else known(obj)
    if isinstance(reduced, str):
        return ()
    if isinstance(obj, types.FunctionType) and len(reduced) > 2:  # noqa: PLR2004 - not by name
        return _function_parts(obj, reduced)
    return _reduced_parts(obj, reduced)


def _array_parts(array: np.ndarray[Any, Any]) -> Iterator[Part]:
    for name, value in getattr(array, "__dict__", {}).items():
        yield f".{name}", value
    if array.dtype.hasobject:
        values = array.ravel().tolist()
        yield from ((f"[{i}]", value) for i, value in enumerate(values))


def _check_global(obj: Any) -> tuple[()]:
    found = cp._lookup_module_and_qualname(obj)
    if found is None and obj.__module__ != "builtins":
        raise PicklingError(f"it is not what {obj.__module__}.{obj.__qualname__} is")
    return ()


def _function_parts(function: types.FunctionType, reduced: Any) -> Iterator[Part]:
    code, state = function.__code__, reduced[2][1]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"closure {name!r}", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    for name, value in state["__globals__"].items():
        yield f"global {name!r}", value
    defaults = function.__defaults__ or ()
    with_default = code.co_varnames[: code.co_argcount][code.co_argcount - len(defaults) :]
    for name, value in chain(
        zip(with_default, defaults, strict=True), (function.__kwdefaults__ or {}).items()
    ):
        yield f"default {name!r}", value
    for name, value in function.__dict__.items():
        yield f".{name}", value
    for name, value in function.__annotations__.items():
        yield f"annotation {name!r}", value


def _reduced_parts(obj: Any, reduced: tuple[Any, ...]) -> Iterator[Part]:
    """Yield the parts of a reduction, named as people reach them."""
    function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if isinstance(obj, types.MethodType):
        yield from ((".__self__", obj.__self__), (".__func__", obj.__func__))
        return
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            yield from ((f".{key}", value) for key, value in part.items())
        else:
            yield "", part
    # What is evident needs no label: the class of an instance, the contents of a cell.
    yield "", function
    yield from (("", argument) for argument in arguments or ())
    yield from ((f"[{i}]", value) for i, value in enumerate(items or ()))
    for key, value in pairs or ():
        yield f"[{_short(key)}]", value


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _name(obj: Any) -> str:
    """Return what to call an object of which no name is known."""
    # Not isinstance, which asks the object itself.
    if issubclass(type(obj), (type, types.FunctionType, types.MethodType)):
        return str(obj.__qualname__).rpartition("<locals>.")[2]
    return f"the {type(obj).__name__}"
