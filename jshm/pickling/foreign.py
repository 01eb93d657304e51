"""Reducers of classes: by reference, by value, or as the library that made them makes them.

`cloudpickle` makes a class again by calling its metaclass, and then sets its attributes. That is
right for what a ``class`` statement made, and wrong for most others: classes of compiled code, or
of a compiled metaclass. These are found where they are kept, made as their library makes them, or
refused before anything is published.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
from cloudpickle import cloudpickle as cp

from ..system.weak import WeakSet
from . import class_reducers, ctypes_, frozen, functions, hints, modules, static
from .definitions import is_struct, struct_options
from .writer import UnwritableError

if TYPE_CHECKING:
    from .writer import Writer

_HEAP, _IMMUTABLE = 1 << 9, 1 << 8
_DTYPES = type(np.dtype)
# Only compiled code puts these into a class, except for slots and the names below.
_COMPILED = frozenset(
    {types.GetSetDescriptorType, types.WrapperDescriptorType, types.MethodDescriptorType}
)
_OF_EVERY_CLASS = frozenset({"__dict__", "__weakref__"})
# Modules where Python keeps types that cannot be imported by their own name.
_KEPT_IN = ("types", "_collections_abc", "typing")
# Compiled metaclasses that can make a class without attributes, as was tried.
_known_good: WeakSet[type] = WeakSet()


def reduce_class(pickler: Writer, cls: type) -> Any:
    """Reduce a class, by value or by reference.

    Raises
    ------
    UnwritableError
        No reader could make it.
    """
    module = getattr(cls, "__module__", None)
    by_value = modules.is_by_value(module)
    if by_value and (reference := functions.reduce_to_import(pickler, cls, cls.__qualname__)):
        return reference
    reduced = cp._dynamic_class_reduce(cls) if by_value else cp._class_reduce(cls)
    if reduced is NotImplemented:
        if isinstance(module, str):
            return functions.reduce_named(pickler, module, cls.__qualname__, cls)
        return reduced
    if reduced[-1] is not cp._class_setstate:
        return reduced
    hints.resolve(pickler, cls, reduced[2][0])
    kind = type(cls)
    if kind is type and not is_compiled(cls):
        return class_reducers.reduce(cls, reduced)
    if ctypes_.is_type(cls):
        return ctypes_.reduce_type(cls, reduced)
    if is_struct(cls):
        return _reduce_struct(cls, reduced)
    if _is_compiled_by_numba(cls):
        raise UnwritableError(
            "Numba compiled it for this process", "decorate the class where it is used"
        )
    if is_typed_dict(cls):
        return _reduce_typed_dict(cls, reduced)
    if issubclass(kind, _DTYPES):
        return _reduce_dtype(cls)
    if is_compiled(cls):
        return _reduce_compiled(pickler, cls)
    if kind is not type and is_compiled(kind):
        _try(cls, kind)
    return class_reducers.reduce(cls, reduced)


def is_compiled(cls: type) -> bool:
    """Return whether compiled code made a class, and not a ``class`` statement."""
    if not cls.__flags__ & _HEAP or cls.__flags__ & _IMMUTABLE:
        return True
    for name, value in static.namespace(cls).items():
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
            # A metaclass, or the class of a single instance such as `sys.flags`.
            if type(value) is cls and (issubclass(cls, type) or key == cls.__name__):
                pickler.needs.add(name)
                return frozen.type_of_named, (name, key)
    raise UnwritableError(
        f"compiled code made the class {place}.{cls.__qualname__}, and keeps it under no name "
        "that another process could import",
        "take it from an instance where it is used, as type(x)",
    )


def _try(cls: type, kind: type) -> None:
    """Make an empty class as a reader would, to check that the metaclass can do that.

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
    # A base class without dtypes is found through a class below it.
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
    """Return whether a class is a `typing.TypedDict`, or one of `typing_extensions`."""
    kind = type(cls)
    return kind.__name__ == "_TypedDictMeta" and issubclass(cls, dict)


def _reduce_typed_dict(cls: Any, reduced: Any) -> Any:
    """Reduce a typed dict: its class is a plain dict, made by `typing`.

    It has copied all that it inherits, and its bases are not those of its ``class`` statement.
    """
    make, (kind, name, _, keywords, *rest), state, *others = reduced
    if "__orig_bases__" in cls.__dict__:
        keywords = {**keywords, "__orig_bases__": cls.__orig_bases__}
    arguments = (functools.partial(frozen.typed_dict, kind), name, cls.__bases__, keywords, *rest)
    return class_reducers.reduce(cls, (make, arguments, state, *others))


def _is_compiled_by_numba(cls: type) -> bool:
    """Return whether a class is one that Numba does not pickle: a jitclass."""
    numba: Any = sys.modules.get("numba.core.serialize")
    return numba is not None and type(cls) in numba.NumbaPickler.disabled_types


# -- structs of msgspec ----------------------------------------------------------------------------


def _reduce_struct(cls: Any, reduced: Any) -> Any:
    """Reduce a struct: its metaclass is compiled, and wants all fields and options at once."""
    make, (_, name, bases, keywords, *rest), state, *others = reduced
    fields, later = _fields_of(cls)
    # Only the names of the fields: their types may refer to the struct, and are set afterwards.
    options = struct_options(cls)
    if options.get("tag") == cls.__name__:
        options["tag"] = True  # so that structs that inherit are tagged too
    names = [field[0] for field in fields]
    kinds = {n: p.kind for n, p in inspect.signature(cls).parameters.items()}
    options["kw_only"] = any(kinds[n] is inspect.Parameter.KEYWORD_ONLY for n in names)
    constructor = functools.partial(frozen.struct, fields, options)
    arguments = (constructor, name, bases, keywords, *rest)
    made = class_reducers.reduce(cls, (make, arguments, state, *others))
    make, arguments, state, *_, fill = made
    return make, arguments, (fill, state, later), None, None, frozen.fill_struct


def _fields_of(
    cls: Any,
) -> tuple[list[tuple[str, dict[str, Any]]], list[tuple[frozen.LateFactory, Any]]]:
    """Return a struct's own fields, as `msgspec.field` takes them, and default factories to be set later."""
    every, defaults = cls.__struct_fields__, cls.__struct_defaults__
    missing = len(every) - len(defaults)
    encoded = dict(zip(every, cls.__struct_encode_fields__, strict=True))
    own = inspect.get_annotations(cls)
    fields: list[tuple[str, dict[str, Any]]] = []
    later: list[tuple[frozen.LateFactory, Any]] = []
    for name in own:
        if name not in encoded:
            continue  # a class variable
        options: dict[str, Any] = {"name": encoded[name]}
        index = every.index(name) - missing
        default = defaults[index] if index >= 0 else sys.modules["msgspec"].NODEFAULT
        if type(default).__name__ == "Factory":
            factory = default.factory
            if isinstance(factory, frozen.LateFactory):
                factory = factory.function
            if not modules.is_by_reference(factory):
                later.append((frozen.LateFactory(), factory))
                factory = later[-1][0]
            options["default_factory"] = factory
        elif default is not sys.modules["msgspec"].NODEFAULT:
            options["default"] = default
        fields.append((name, options))
    return fields, later
