"""msgspec's structs: their metaclass is compiled, and wants all fields and options at once."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from . import classes, frozen, modules
from .libraries import struct_options

if TYPE_CHECKING:
    from .writer import Writer


def reduce(pickler: Writer, cls: Any, reduced: Any) -> Any:
    """Reduce a struct that cannot be imported.

    Parameters
    ----------
    pickler : Writer
    cls : type
    reduced : tuple
        cloudpickle's reduction of it.
    """
    make, (_, name, bases, keywords, *rest), state, *others = reduced
    fields, later = _fields_of(cls)
    # Only the names: what they mean may refer to the struct, and is set afterwards.
    options = struct_options(cls)
    if options.get("tag") == cls.__name__:
        options["tag"] = True  # as structs that inherit are tagged, too
    names = [field[0] for field in fields]
    kinds = {n: p.kind for n, p in inspect.signature(cls).parameters.items()}
    options["kw_only"] = any(kinds[n] is inspect.Parameter.KEYWORD_ONLY for n in names)
    constructor = functools.partial(frozen.struct, fields, options)
    arguments = (constructor, name, bases, keywords, *rest)
    made = classes.reduce(pickler, cls, (make, arguments, state, *others))
    make, arguments, state, *_, fill = made
    return make, arguments, (fill, state, later), None, None, frozen.fill_struct


def _fields_of(
    cls: Any,
) -> tuple[list[tuple[str, dict[str, Any]]], list[tuple[frozen.LateFactory, Any]]]:
    """Return a struct's own fields, as `msgspec.field` takes them, and the factories that come later."""
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
            if not _is_found(factory):
                later.append((frozen.LateFactory(), factory))
                factory = later[-1][0]
            options["default_factory"] = factory
        elif default is not sys.modules["msgspec"].NODEFAULT:
            options["default"] = default
        fields.append((name, options))
    return fields, later


def _is_found(factory: Any) -> bool:
    module = getattr(factory, "__module__", None)
    is_named = isinstance(factory, type) or inspect.isfunction(factory)
    return is_named and not modules.is_by_value(module) and cp._should_pickle_by_reference(factory)
