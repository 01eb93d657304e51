"""Explain why an object cannot be written: the path to the culprit, and a remedy.

Nothing here runs until a dump has failed. Then the object is searched as the Pickler writes it, until
the reduction of a part fails.
"""

from __future__ import annotations

import copyreg
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
from . import modules, static
from .static import Types
from .writer import NamespaceMet, UnwritableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .writer import Writer

    Part = tuple[str, Any]
    """The label of a part of an object, and the part."""

# The most objects that a search visits, because the user waits.
_LIMIT = 500_000
# The same after a RecursionError: usually no single object is to blame.
_LIMIT_OF_DEEP = 20_000
# Labels that are shown at each end of a long path.
_ENDS = 8
_LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event)
_RUNNING = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)

# `io.IOBase` is an ABC, whose check runs code of the class; this is its base in C.
_FILE = io.IOBase.__mro__[1]
_IN_MEMORY = (io.BytesIO, io.StringIO)
_CAUSE = BaseException.__dict__["__cause__"].__get__
_CONNECTIONS = frozenset({"Connection", "Engine", "Cursor", "Session"})
_ATOMS = Types(bool, int, float, complex, str, bytes, bytearray, type(None))
_IN_C = frozenset({"io", "_io"})

# By type: the object itself may claim another class, or raise.
_WAYS: list[tuple[Callable[[type], bool], str, str]] = [
    (lambda kind: issubclass(kind, _FILE) and not issubclass(kind, _IN_MEMORY),
     "open file", "open it where it is used, by its name"),
    (lambda kind: issubclass(kind, _LOCKS), "lock", "make it where it is used"),
    (lambda kind: issubclass(kind, socket.socket), "socket", "connect where it is used"),
    (lambda kind: issubclass(kind, _RUNNING), "running generator",
     "share a list of what it yields, or the function that makes it"),
    (lambda kind: static.name(kind) in _CONNECTIONS,
     "live database connection", "connect where it is used"),
    (lambda kind: issubclass(kind, threading.Thread), "thread", "start it where it is used"),
    (lambda kind: issubclass(kind, weakref.ref), "weak reference", "share the object itself"),
    (lambda kind: issubclass(kind, (types.FrameType, types.TracebackType)), "stack frame",
     "share the text of the traceback"),
]  # fmt: skip


class _Step(NamedTuple):
    """One step of the way into an object."""

    outer: _Step | None
    label: str
    obj: Any


def explain(pickler: Writer, obj: Any, error: Exception) -> NotShareableError:
    """Return the error for an object that could not be written.

    It is also of the type of `error`, for callers that catch that.
    """
    name = pickler.name or _name(obj)
    too_deep = _is_of_recursion(error)
    culprit = _search(pickler, obj, _LIMIT_OF_DEEP if too_deep else _LIMIT)
    if culprit is not None and (not too_deep or _is_of_recursion(culprit[1])):
        text = _describe(*culprit)
    elif too_deep:
        text = (
            f"{name} is nested too deeply (deep recursion): share a flatter form of it, for example a "
            "list of its parts that refer to each other by their index. A higher recursion limit does "
            "not help: it lets the stack overflow, which ends the process"
        )
    else:
        text = f"{name} cannot be shared: {_message(error)}"
    return _typed(error, text)


def module_at_fault(pickler: Writer, obj: Any, error: Exception) -> str:
    """Return the name of the module beside the notebook with the object that cannot be written; else ''.

    Then it is enough that the reader imports the module.
    """
    culprit = None if _is_of_recursion(error) else _search(pickler, obj, _LIMIT)
    step = culprit and culprit[0]
    while step:
        name = _module_of(step.obj)
        if name and name not in pickler.by_import and modules.origin_of(name) is not None:
            return name
        step = step.outer
    return ""


def _module_of(obj: Any) -> str:
    """Return the name of the module that an object is, is the namespace of, or is defined in."""
    kind = type(obj)
    if kind is dict:
        name = static.text(obj.get("__name__"))
        module = sys.modules.get(name)
        return name if module is not None and static.attributes(module) is obj else ""
    if issubclass(kind, type):
        return static.module(obj)
    if kind is types.FunctionType:
        return static.text(obj.__module__)
    return static.own_name(obj) if issubclass(kind, types.ModuleType) else ""


def _is_of_recursion(error: BaseException) -> bool:
    return any(issubclass(type(one), RecursionError) for one in (error, _CAUSE(error)))


def _message(error: BaseException) -> str:
    """Return the message of an error, whose class may be the user's, and raise."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001
        return static.name(type(error))


def _shortened(path: list[str]) -> list[str]:
    """Return a path without its middle, if it is too long to be read."""
    return path if len(path) <= 2 * _ENDS else [*path[:_ENDS], "…", *path[-_ENDS:]]


def _typed(error: Exception, text: str) -> NotShareableError:
    """Return an error with this text, of the type of `error` too if that type allows it."""
    kind = type(error)
    try:
        if not issubclass(NotShareableError, kind):
            made: NotShareableError = type("NotShareableError", (NotShareableError, kind), {})(text)
            if str(made) == text:
                return made
    except Exception:  # noqa: BLE001, S110 - the type wants other arguments, or has another layout
        pass
    return NotShareableError(text)


def _describe(step: _Step, why: Exception) -> str:
    """Return the path to the culprit, or to a known object around it (a lock: its thread), and a remedy."""
    steps = []
    outer: _Step | None = step
    while outer is not None:
        steps.append(outer)
        outer = outer.outer
    steps.reverse()
    known = [i for i, s in enumerate(steps) if any(is_one(type(s.obj)) for is_one, _, _ in _WAYS)]
    steps = steps[: known[0] + 1] if known else steps
    what, way_out = _describe_object(steps[-1].obj, why)
    path = _shortened([s.label for s in steps if s.label])
    return f"{' → '.join([*path, what])}: {way_out}"


def _describe_object(culprit: Any, why: Exception) -> tuple[str, str]:
    """Return what an object is, in words, and a remedy."""
    kind = type(culprit)
    for is_one, what, way_out in _WAYS:
        if is_one(kind):
            # The name of a file, but not of a subclass of the user's, whose code would run.
            name = getattr(culprit, "name", None) if static.module(kind) in _IN_C else None
            shown = f" {name!r}" if type(name) is str else ""
            return what + shown, f"cannot be shared ({_message(why)}); {way_out}"
    usual = "leave it out, or say how to share it with __reduce__"
    reason = (
        "its own code calls itself (deep recursion)" if _is_of_recursion(why) else _message(why)
    )
    advice = (type(why) is UnwritableError and why.way_out) or usual
    return static.full_name(kind), f"cannot be shared: {reason}. {advice[0].upper()}{advice[1:]}"


def _search(pickler: Writer, root: Any, limit: int) -> tuple[_Step, Exception] | None:
    """Return the path to the first object that cannot be reduced, and the error of its reduction.

    None if there is none, or if the search fails: it runs the user's code.
    """
    try:
        return _found(pickler, root, limit)
    except Exception:  # noqa: BLE001 - the first error is the one that counts
        return None


def _found(pickler: Writer, root: Any, limit: int) -> tuple[_Step, Exception] | None:
    make: Any = type(pickler)
    probe: Writer = make(io.BytesIO(), pickler.proto)
    probe.by_import = pickler.by_import
    seen: set[int] = set()
    # Kept until the end, so that no object gets the id of another.
    kept: list[_Step] = []
    stack = [_Step(None, pickler.name or _name(root), root)]
    while stack and len(seen) < limit:
        step = stack.pop()
        if id(step.obj) in seen:
            continue
        seen.add(id(step.obj))
        kept.append(step)
        try:
            parts = list(_parts(probe, step.obj))
        except NamespaceMet:  # written by reference
            continue
        except Exception as error:  # noqa: BLE001 - a reducer may raise anything
            # Without its traceback, which would keep these objects alive.
            return step, error.with_traceback(None)
        stack.extend(_Step(step, label, part) for label, part in reversed(parts))
    return None


def _parts(probe: Writer, obj: Any) -> Iterable[Part]:
    """Return what the Pickler writes for an object; raises what it would raise."""
    kind = type(obj)
    if kind in _ATOMS:
        return ()
    if kind is dict:
        keys = (("key", key) for key in obj)
        return chain(((f"[{static.key(key)}]", value) for key, value in obj.items()), keys)
    if kind is list or kind is tuple:
        return ((f"[{i}]", value) for i, value in enumerate(obj))
    if kind is set or kind is frozenset:
        return (("element", value) for value in obj)
    if kind is memoryview or kind is PickleBuffer:
        return ()
    if issubclass(kind, np.ndarray):
        return _array_parts(obj)
    if static.root(kind) == "pandas" and static.name(kind) == "DataFrame":
        return ((f"[{static.key(name)}]", column.to_numpy()) for name, column in obj.items())
    reduced = probe.reducer_override(obj)
    if reduced is NotImplemented:
        if issubclass(kind, type) or kind is types.FunctionType:
            return _check_global(obj)
        known = probe.dispatch_table.get(kind)
        reduced = obj.__reduce_ex__(probe.proto) if known is None else known(obj)
    if issubclass(type(reduced), str):
        return ()
    if kind is types.FunctionType and len(reduced) > 2:  # noqa: PLR2004 - not by name
        return _function_parts(obj, reduced)
    if reduced[0] is copyreg.__newobj__ and reduced[1][0] is not obj.__class__:  # type: ignore[attr-defined]
        raise PicklingError(
            f"pickle would make a {static.name(reduced[1][0])} of it, but its __class__ is "
            f"{static.name(obj.__class__)}"
        )
    return _reduced_parts(obj, reduced)


def _array_parts(array: np.ndarray[Any, Any]) -> Iterator[Part]:
    for name, value in (static.attributes(array) or {}).items():
        yield f".{name}", value
    plain = np.ndarray.view(array, np.ndarray)
    if plain.dtype.hasobject:
        values = plain.ravel().tolist()
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
    """Yield the parts of a reduction, with labels as in code."""
    function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if type(obj) is types.MethodType:
        yield from ((".__self__", obj.__self__), (".__func__", obj.__func__))
        return
    for part in state if type(state) is tuple else (state,):
        if type(part) is dict:
            labels = ((static.text(key) or static.key(key), value) for key, value in part.items())
            yield from ((f".{label}", value) for label, value in labels)
        else:
            yield "", part
    # No label for what is evident: the class of an instance, the content of a cell.
    yield "", function
    yield from (("", argument) for argument in arguments or ())
    yield from ((f"[{i}]", value) for i, value in enumerate(() if items is None else items))
    for key, value in () if pairs is None else pairs:
        yield f"[{static.key(key)}]", value


def _name(obj: Any) -> str:
    """Return what to call an object without a given name."""
    function: Any = obj.__func__ if type(obj) is types.MethodType else obj
    if issubclass(type(function), type):
        named = static.qualname(function)
    else:
        named = static.text(function.__qualname__) if type(function) is types.FunctionType else ""
    return named.rpartition("<locals>.")[2] or f"the {static.name(type(obj))}"
