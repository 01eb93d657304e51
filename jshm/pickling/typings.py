"""What `typing` makes, so that another version of Python can read it."""

from __future__ import annotations

import typing
from types import FunctionType
from typing import Any

from cloudpickle import cloudpickle as cp

from . import beside, frozen, modules
from .definitions import module_of


def reduce_typevar(_: object, typevar: typing.TypeVar) -> Any:
    """Reduce a type variable by value, if it is of a module that is; else as cloudpickle does."""
    module = module_of(typevar)
    if module != "__main__" and not modules.is_by_value(module):
        return NotImplemented
    reduced = frozen.type_variable, (module, *cp._decompose_typevar(typevar))
    return beside.reduce(typevar, typevar.__name__, reduced)


def is_found(obj: Any) -> bool:
    """Tell whether a reader can import something by its name."""
    if modules.is_by_value(obj.__module__):
        return False
    name = getattr(obj, "__qualname__", obj.__name__)
    return cp._lookup_module_and_qualname(obj, name=name) is not None


def reduce_new_type(_: object, new_type: Any) -> Any:
    """Reduce a `typing.NewType`, which by itself is no more than its name."""
    if is_found(new_type):
        return NotImplemented
    return frozen.new_type, (new_type.__name__, new_type.__supertype__, new_type.__module__)


def reduce_parameters(_: object, parameters: Any) -> Any:
    """Reduce a `typing.ParamSpec` or `TypeVarTuple`, which by themselves are their names."""
    return NotImplemented if is_found(parameters) else (type(parameters), (parameters.__name__,))


def reduce_of_parameters(_: object, part: Any) -> Any:
    """Reduce the ``args`` or the ``kwargs`` of a `typing.ParamSpec`."""
    return type(part), (part.__origin__,)


def reduce_alias(_: object, alias: Any) -> Any:
    """Reduce a type alias (``type X = int``), which by itself is no more than its name."""
    if is_found(alias):
        return NotImplemented
    return frozen.type_alias, (alias.__name__, alias.__value__, alias.__type_params__)


def reduce_forward_reference(_: object, reference: Any) -> Any:
    """Reduce an annotation that is text to its text; it keeps code that only this Python knows."""
    return frozen.forward_reference, (
        reference.__forward_arg__,
        getattr(reference, "__forward_is_argument__", True),
        getattr(reference, "__forward_module__", None),
        getattr(reference, "__forward_is_class__", False),
    )


def is_protocol(cls: type) -> bool:
    """Tell whether a class is a `typing.Protocol`, and not one that implements it."""
    return bool(cls.__dict__.get("_is_protocol", False))


def drop_protocol_hook(attributes: dict[str, Any]) -> None:
    """Leave out the hooks that `typing` gives to a protocol or a named tuple: the reader's own does."""
    for name in ("__subclasshook__", "__class_getitem__"):
        hook = attributes.get(name)
        hook = getattr(hook, "__func__", hook)
        if isinstance(hook, FunctionType) and hook.__module__ in ("typing", "typing_extensions"):
            del attributes[name]


def without_members(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a protocol's attributes without what its version of Python knew of its members.

    Another version would take that for members.
    """
    return {name: value for name, value in attributes.items() if name not in _MEMBERS}


def complete_protocol(cls: Any) -> None:
    """Let a protocol know its members; newer versions look for them when a class is made."""
    find = getattr(typing, "_get_protocol_attrs", None)
    if find is None or "__protocol_attrs__" not in cls.__dict__:
        return
    cls.__protocol_attrs__ = members = find(cls)
    if getattr(cls, "_is_runtime_protocol", False):
        others = {name for name in members if not callable(getattr(cls, name, None))}
        cls.__non_callable_proto_members__ = others


_MEMBERS = frozenset(
    {
        "__protocol_attrs__",
        "__callable_proto_members_only__",
        "__non_callable_proto_members__",
        "__static_attributes__",
        "__firstlineno__",
    }
)
