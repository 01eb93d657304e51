"""Reducers for instances that `pickle` would write so that no reader could load them, or refuse needlessly.

`pickle` makes an exception again from its ``args``, although its ``__init__`` may want other arguments. It
makes an object without arguments, although its ``__new__`` may want some. And it looks up ``__setstate__``
in the empty object, whose ``__getattr__`` may need the state. Here such an object is made by the methods
that its class inherits from Python itself, and then gets its state.
"""

from __future__ import annotations

import copyreg
import enum
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from ..system.weak import WeakKeys
from . import class_reducers, ctypes_, frozen, remake, static
from .writer import UnwritableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .writer import Writer

    Rule = Callable[[Writer, Any], Any]

_REDUCERS = {"__reduce__", "__reduce_ex__"}
_UNKNOWN: Any = object()
_OF_OBJECTS = (object.__reduce_ex__, object.__reduce__)
# By class, because each instance needs it.
_rules: WeakKeys[type, Rule | None] = WeakKeys()


def reduce(pickler: Writer, obj: Any, kind: type) -> Any:
    """Reduce an instance; NotImplemented if `pickle` does it right."""
    rule = _rules.get(kind, _UNKNOWN)
    if rule is _UNKNOWN:
        rule = _rules[kind] = _rule_of(kind)
    return NotImplemented if rule is None else rule(pickler, obj)


def _rule_of(kind: Any) -> Rule | None:
    if issubclass(kind, ctypes_.KINDS):
        return ctypes_.reduce
    if issubclass(kind, enum.Enum) and kind.__reduce_ex__ is enum.Enum.__reduce_ex__:
        return class_reducers.reduce_member
    rule = _NAMED.get(f"{getattr(kind, '__module__', None)}.{kind.__qualname__}")
    own = (kind.__reduce_ex__, kind.__reduce__)
    if rule is not None or kind in cp.Pickler.dispatch_table:
        return rule
    if any(map(_is_python, own)):
        return _reduce_checked
    if issubclass(kind, BaseException):
        return _reduce_exception if any(map(_is_python, (kind.__new__, kind.__init__))) else None
    if own != _OF_OBJECTS:
        is_own = any(map(_is_python, (kind.__new__, kind.__init__)))
        return _reduce_called if is_own and _is_reduced_by_python(kind) else None
    return None if _is_made_bare(kind) and not _asks_itself(kind) else _reduce_bare


def _is_python(method: Any) -> bool:
    return isinstance(method, types.FunctionType | types.MethodType)


def _takes(method: Any, *arguments: Any) -> bool:
    """Return whether a method can be called with these arguments; True for a compiled one."""
    if not _is_python(method):
        return True
    try:
        inspect.signature(method).bind(*arguments)
    except TypeError:
        return False
    return True


def _reduce_exception(_: Writer, error: BaseException) -> Any:
    reduced = error.__reduce__()
    kind = type(error)
    if isinstance(reduced, str) or reduced[0] is not kind:
        return NotImplemented
    made_of = reduced[1]
    if _takes(kind.__new__, kind, *made_of) and _takes(kind.__init__, error, *made_of):
        return NotImplemented
    return frozen.exception, (kind, made_of, error.args), *reduced[2:]


def _reduce_checked(pickler: Writer, obj: Any) -> Any:
    """Reduce an object as its class does; refuse it if the class cannot be called with the arguments."""
    reduced = obj.__reduce_ex__(pickler.proto)
    if type(reduced) is not tuple or len(reduced) < 2:  # noqa: PLR2004 - `pickle` has a message for it
        return reduced
    kind, arguments, *_ = reduced
    if type(kind) is type and type(arguments) is tuple and not _fits(kind, len(arguments)):
        raise UnwritableError(
            f"__reduce__ gives {len(arguments)} arguments for {static.qualname(kind)}, which its "
            "__init__ or __new__ does not take: nobody could load it",
            "Define __reduce__ in the class, so that it gives what __init__ takes",
        )
    return reduced


def _fits(kind: Any, count: int) -> bool:
    """Return whether a class can be called with this number of arguments."""
    known = _fitting.get(kind)
    if known is None:
        known = _fitting[kind] = {}
    if count not in known:
        given = (None,) * (count + 1)
        known[count] = _takes(kind.__new__, *given) and _takes(kind.__init__, *given)
    return known[count]


_fitting: WeakKeys[type, dict[int, bool]] = WeakKeys()


def _reduce_called(pickler: Writer, obj: Any) -> Any:
    """Reduce an object that `pickle` makes by calling its class, as a date, a set or a `defaultdict`.

    The arguments are for the compiled class that it inherits from.
    """
    reduced = obj.__reduce_ex__(pickler.proto)
    kind = type(obj)
    if isinstance(reduced, str) or reduced[0] is not kind:
        return reduced
    _, arguments, state, *items = (*reduced, None, None, None)[:5]
    return (
        frozen.called,
        (kind, *arguments),
        state or getattr(obj, "__dict__", None) or None,
        *items,
    )


def _is_reduced_by_python(kind: type) -> bool:
    """Return whether a class inherits its reduction from a compiled class of Python's own library."""
    giver = next(base for base in kind.__mro__ if _REDUCERS & set(vars(base)))
    return str(getattr(giver, "__module__", "")).partition(".")[0] in sys.stdlib_module_names


def _is_made_bare(kind: Any) -> bool:
    """Return whether a class's ``__new__`` takes the arguments that `pickle` gives it."""
    giver = remake.giver(kind)
    if giver is None:
        return _takes(kind.__new__, kind)
    # The arguments fit the class that gives them, but perhaps not one that inherits from it.
    below = kind.__mro__[: kind.__mro__.index(giver)]
    return not any("__new__" in vars(base) for base in below)


def _asks_itself(kind: Any) -> bool:
    """Return whether looking up ``__setstate__`` may run a ``__getattr__`` that needs the state."""
    return _is_python(getattr(kind, "__getattr__", None)) and not hasattr(kind, "__setstate__")


def _reduce_bare(pickler: Writer, obj: Any) -> Any:
    reduced = obj.__reduce_ex__(pickler.proto)
    function, arguments, state, *items = (*reduced, None, None, None)[:5]
    if function is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return reduced
    kind = type(obj)
    make = function if _is_made_bare(kind) else frozen.bare
    if _asks_itself(kind):
        return make, arguments, state, *items, frozen.set_state
    return make, arguments, state, *items


def reduce_weak_dictionary(_: Writer, mapping: Any) -> Any:
    """Reduce a dictionary with weak keys or values to its present items."""
    return type(mapping), (dict(mapping),)


# -- by name ---------------------------------------------------------------------------------------


def _reduce_format(_: Writer, compiled: Any) -> Any:
    return type(compiled), (compiled.format,)


def _of_the_interpreter(name: str) -> Rule:
    """Return the rule for an object that describes the interpreter: the reader has its own."""
    return lambda _, obj: (getattr, (sys, name)) if obj is getattr(sys, name) else NotImplemented


def _with_attributes(*names: str) -> Rule:
    """Return the rule for an object whose class takes its attributes by name."""

    def reduce_attributes(_: Writer, obj: Any) -> Any:
        return frozen.with_attributes, (
            type(obj),
            {n: getattr(obj, n) for n in names if hasattr(obj, n)},
        )

    return reduce_attributes


_CODING = ("enc_hook", "decimal_format", "uuid_format", "order")
_DECODING = ("type", "strict", "dec_hook", "float_hook", "ext_hook")
_NAMED: dict[str, Rule] = {
    "_struct.Struct": _reduce_format,
    "sys.flags": _of_the_interpreter("flags"),
    "sys.version_info": _of_the_interpreter("version_info"),
    "msgspec.Meta": _with_attributes(
        "gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz", "title",
        "description", "examples", "extra_json_schema", "extra",
    ),
    **{f"msgspec.{form}.Encoder": _with_attributes(*_CODING) for form in ("json", "msgpack")},
    **{f"msgspec.{form}.Decoder": _with_attributes(*_DECODING) for form in ("json", "msgpack")},
}  # fmt: skip
