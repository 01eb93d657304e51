"""Reducers of classes by value: the definition, what makes the class, and its attributes.

cloudpickle gives each class an id when it is first written. It tells apart classes that no name
leads to: those of functions, and those that `type` made.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import typing
from types import FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cp

from ..errors import NotShareableError
from . import classes, frozen, modules, remake
from .code import TAG, generated
from .definitions import CACHES, module_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .remake import Member

    Reduced = tuple[Callable[..., type], tuple[Any, ...]]


def reduce(cls: type, reduced: Any) -> Any:
    """Return cloudpickle's reduction of a class by value, with its definition and its slots."""
    construct, arguments, (attributes, _), *_ = reduced
    identity = cp._get_or_create_tracker_id(cls)
    module = module_of(cls)
    if construct is cp._make_skeleton_class:
        constructor, name, bases, keywords, *_ = arguments
        if "__slots__" in cls.__dict__ and not _makes_slots(cls):
            # Slots are given to the class when it is made: later is too late.
            _drop_slots(cls, attributes)
            keywords = {**keywords, "__slots__": _slots_of(cls)}
        if "__module__" in keywords:
            keywords["__module__"] = module
        construct, arguments = frozen.new_class, (constructor, name, bases, keywords)
    else:
        construct, arguments = _reduce_enumeration(cls, attributes)
    if "__module__" in attributes:
        attributes["__module__"] = module
    if remake.REPLACE is not None and attributes.get("__replace__") is remake.REPLACE:
        del attributes["__replace__"]
    _drop_typing_hooks(attributes)
    for name in CACHES & attributes.keys():
        del attributes[name]
    methods = remake.generated_methods(cls)
    for code in methods.values():
        generated.add(code)
    about = {"tag": TAG, "generated": list(methods), "qualname": cls.__qualname__}
    if issubclass(cls, enum.Enum):
        about["members"] = _members(cls)
    definition = classes.definition_written(cls, identity)
    origin = modules.origin_of(definition.module)
    # Strings are copied, because which objects in a pickle are identical is chance.
    where = (definition.to_json(), "".join(identity), tuple(origin) if origin else None)
    made = (*where, construct, arguments)
    return frozen.class_of, made, (attributes, about), None, None, frozen.fill_class


def _drop_slots(cls: type, attributes: dict[str, Any]) -> None:
    for name, value in list(attributes.items()):
        if isinstance(value, MemberDescriptorType) and _is_slot(cls, name, value):
            del attributes[name]


def _is_slot(cls: type, name: str, member: MemberDescriptorType) -> bool:
    """Return whether a descriptor belongs to a slot of this class and has the slot's name."""
    private = f"_{cls.__name__.lstrip('_')}{member.__name__}"
    return member.__objclass__ is cls and name in (member.__name__, private)


def _makes_slots(cls: type) -> bool:
    """Return whether a class's constructor sets `__slots__` itself, as that of named tuples does."""
    return typing.NamedTuple in getattr(cls, "__orig_bases__", ())


def _slots_of(cls: type) -> Any:
    slots = cls.__dict__["__slots__"]
    if isinstance(slots, (str, tuple, list, dict)):
        return slots
    # An iterator, which is exhausted.
    return tuple(n for n, value in vars(cls).items() if isinstance(value, MemberDescriptorType))


def _drop_typing_hooks(attributes: dict[str, Any]) -> None:
    """Leave out the hooks that `typing` gives to a class: the reader's `typing` gives its own."""
    for name in ("__subclasshook__", "__class_getitem__"):
        hook = attributes.get(name)
        hook = getattr(hook, "__func__", hook)
        if isinstance(hook, FunctionType) and hook.__module__ in ("typing", "typing_extensions"):
            del attributes[name]


# -- enumerations ----------------------------------------------------------------------------------


# `Enum` makes members of values of these types by itself.
_SIMPLE = (object, int, str, float, bytes)
# Values of these types do not become members in a class body.
_NO_VALUES = (FunctionType, classmethod, staticmethod, property, type)
_MADE_BY = ("__new_member__", "_new_member_", "_use_args_")


def _reduce_enumeration(cls: Any, attributes: dict[str, Any]) -> Reduced:
    """Return what makes an enumeration with its members, and the arguments for it."""
    bases, name, qualname, values, _, *_ = cp._enum_getnewargs(cls)
    known = (bases, name, qualname, module_of(cls))
    if getattr(attributes.get("_value_repr_"), "__module__", "") == "enum":
        del attributes["_value_repr_"]  # only some versions have it, and each sets its own
    if _is_simple(cls, values):
        return frozen.enumeration, (*known, values)
    for word in _MADE_BY:
        attributes.pop(word, None)
    contents = {member.name: (member.value, _content(cls, member)) for member in cls}
    made = cls.__dict__.get("__new_member__")
    return frozen.enumeration_of, (*known, contents, cls._use_args_, made)


def _is_simple(cls: Any, values: dict[str, Any]) -> bool:
    makes = cls.__dict__.get("__new_member__")
    return (
        (makes is None or not isinstance(makes, FunctionType))
        and cls._member_type_ in _SIMPLE
        and not any(_is_made_in_python(base) for base in cls.__mro__[1:])
        and not any(
            hasattr(type(v), "__get__") or isinstance(v, _NO_VALUES) for v in values.values()
        )
    )


def _is_made_in_python(base: type) -> bool:
    """Return whether an enumeration's base makes members by Python code."""
    if base.__module__ == "enum":
        return False
    own = vars(base)
    return any(isinstance(own.get(n), FunctionType) for n in ("__new_member__", "__init__")) or (
        isinstance(own.get("__new__"), staticmethod | FunctionType)
        and own["__new__"] is not enum.Enum.__new__
    )


def _content(cls: Any, member: Any) -> tuple[Any, ...]:
    """Return the arguments of `__new__` of the members' type, without the class."""
    kind = cls._member_type_
    if kind is object:
        return ()
    function, arguments, *_ = kind.__reduce_ex__(member, 2)
    if function is copyreg.__newobj__:  # type: ignore[attr-defined]
        return tuple(arguments[1:])
    if function is cls:
        return tuple(arguments)
    raise NotShareableError(
        f"members of {cls.__qualname__} are each a {kind.__qualname__} too, whose reduction does not "
        "tell how to make it"
    )


def reduce_member(_: object, member: Any) -> Any:
    """Reduce a member to its name: its value may equal nothing that arrives, if it is a function."""
    name = member.__dict__.get("_name_")
    if name not in type(member)._member_names_:
        return NotImplemented  # the new class does not have this combination of flags as a member
    # Strings are copied, because which objects in a pickle are identical is chance.
    return getattr, (type(member), "".join(name))


def _members(cls: type[enum.Enum]) -> list[Member]:
    """Return each name of an enumeration, aliases too, its value, and that member's attributes."""
    return [
        (
            name,
            member.value,
            {key: value for key, value in vars(member).items() if key[0] + key[-1] != "__"},
        )
        for name, member in cls.__members__.items()
    ]


# -- parts of dataclasses --------------------------------------------------------------------------


def reduce_slotted(_: object, obj: Any) -> Any:
    """Reduce a field, or a dataclass's parameters, whose slots differ between versions."""
    return frozen.slotted, (
        type(obj),
        {n: getattr(obj, n) for n in obj.__slots__ if hasattr(obj, n)},
    )


def reduce_sentinel(_: object, sentinel: object) -> Any:
    """Reduce one of the objects that dataclasses compare with `is`."""
    return getattr, (dataclasses, _SENTINELS[type(sentinel)])


_SENTINELS: dict[type, str] = {
    type(getattr(dataclasses, name)): name
    for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY")
}
_SLOTTED = (dataclasses.Field, type(dataclasses.dataclass(type("_", (), {})).__dataclass_params__))  # type: ignore[attr-defined]

REDUCERS: dict[type, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(_SLOTTED, reduce_slotted),
    **dict.fromkeys(_SENTINELS, reduce_sentinel),
}
