"""Classes that compiled code makes, or whose metaclass is compiled.

`cloudpickle` makes a class again by calling its metaclass, and then sets its attributes. That is right
for what a ``class`` statement made, and wrong for most others: they are found where they are kept, made
as their library makes them, or refused before anything is published.
"""

from __future__ import annotations

import functools
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from ..system.weak import WeakSet
from . import classes, ctypes_, frozen, structs
from .libraries import is_compiled_by_numba, is_struct
from .writer import UnwritableError

if TYPE_CHECKING:
    from .writer import Writer

_HEAP, _IMMUTABLE = 1 << 9, 1 << 8
_DTYPES = type(np.dtype)
# What only compiled code puts in a class, except for slots and these names.
_COMPILED = frozenset(
    {types.GetSetDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType}
)
_OF_EVERY_CLASS = frozenset({"__dict__", "__weakref__"})
# Where Python itself keeps types that have no name of their own.
_KEPT_IN = ("types", "_collections_abc", "typing")

# Metaclasses that were seen to make classes which are filled later.
_known_good: WeakSet[type] = WeakSet()


def reduce(pickler: Writer, cls: type, reduced: Any) -> Any:
    """Reduce a class that is not found under its name; None if it can be made like any other.

    Parameters
    ----------
    pickler : Writer
    cls : type
    reduced : tuple
        cloudpickle's reduction of it.

    Raises
    ------
    UnwritableError
        No reader could make it.
    """
    kind = type(cls)
    if kind is type and not is_compiled(cls):
        return None
    if ctypes_.is_type(cls):
        return ctypes_.reduce_type(pickler, cls, reduced)
    if is_struct(cls):
        return structs.reduce(pickler, cls, reduced)
    if is_compiled_by_numba(cls):
        raise UnwritableError(
            "Numba compiled it for this process", "decorate the class where it is used"
        )
    if is_typed_dict(cls):
        return _reduce_typed_dict(pickler, cls, reduced)
    if issubclass(kind, _DTYPES):
        return _reduce_dtype(cls)
    if is_compiled(cls):
        return _reduce_compiled(pickler, cls)
    if kind is not type and is_compiled(kind):
        _try(cls, kind)
    return None


def is_compiled(cls: type) -> bool:
    """Tell whether compiled code made a class, and no ``class`` statement."""
    if not cls.__flags__ & _HEAP or cls.__flags__ & _IMMUTABLE:
        return True
    for name, value in type.__dict__["__dict__"].__get__(cls).items():
        if type(value) in _COMPILED and value.__objclass__ is cls and name not in _OF_EVERY_CLASS:
            return True
    return False


def _reduce_compiled(pickler: Writer, cls: type) -> Any:
    place = getattr(cls, "__module__", None)
    for name in (place, *_KEPT_IN):
        if not isinstance(name, str) or name not in sys.modules:
            continue
        for key, value in list(vars(sys.modules[name]).items()):
            if value is cls:
                pickler.needs.add(name)
                return frozen.named, (name, key)
            # A metaclass, or the class of one instance, as of `sys.flags`.
            if type(value) is cls and (issubclass(cls, type) or key == cls.__name__):
                pickler.needs.add(name)
                return frozen.type_of_named, (name, key)
    raise UnwritableError(
        f"compiled code made the class {place}.{cls.__qualname__}, and keeps it under no name "
        "that another process could import",
        "take it from an instance where it is used, as type(x)",
    )


def _try(cls: type, kind: type) -> None:
    """Make an empty class as a reader would, to see that this metaclass can.

    Raises
    ------
    UnwritableError
    """
    if kind in _known_good:
        return
    try:
        types.new_class(cls.__name__, cls.__bases__, {"metaclass": kind})
    except Exception as error:
        raise UnwritableError(
            f"its metaclass {kind.__module__}.{kind.__qualname__} is compiled, and cannot make the class "
            f"again ({error})",
            "define it in a module that other notebooks can import",
        ) from error
    _known_good.add(kind)


def _reduce_dtype(cls: Any) -> Any:
    """Reduce the class of a NumPy dtype, which is found through a dtype."""
    scalar = getattr(cls, "type", None)
    try:
        dtype = np.dtype(scalar) if scalar is not None else None
    except TypeError:
        dtype = None
    if type(dtype) is cls:
        return type, (dtype,)
    # One that has no dtypes: the base of some that do.
    for concrete in _all_below(cls):
        if getattr(np.dtypes, concrete.__name__, None) is concrete:
            return frozen.base_named, (concrete, cls.__name__)
    raise UnwritableError(
        f"no dtype is known of which the class is {cls.__qualname__}",
        "share a dtype instead of its class, and take type(dtype) where it is used",
    )


def _all_below(cls: Any) -> list[Any]:
    found = list(type.__subclasses__(cls))
    for below in found:
        found += type.__subclasses__(below)
    return found


def is_typed_dict(cls: type) -> bool:
    """Tell whether a class is a `typing.TypedDict`, or one of `typing_extensions`."""
    kind = type(cls)
    return kind.__name__ == "_TypedDictMeta" and issubclass(cls, dict)


def _reduce_typed_dict(pickler: Writer, cls: Any, reduced: Any) -> Any:
    """Reduce a typed dict: it is a dict to Python, and `typing` alone makes it from what it says.

    What it inherits it has copied, and the classes that it is of are not those that it was made of.
    """
    make, (kind, name, _, keywords, *rest), state, *others = reduced
    if "__orig_bases__" in cls.__dict__:
        keywords = {**keywords, "__orig_bases__": cls.__orig_bases__}
    arguments = (functools.partial(frozen.typed_dict, kind), name, cls.__bases__, keywords, *rest)
    return classes.reduce(pickler, cls, (make, arguments, state, *others))
