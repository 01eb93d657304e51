"""Whose class it is that arrives.

cloudpickle gives a class an id when it is first written. Where a class of that id is known already, no
second one is made: so all objects of a class are, wherever they come from. But it also sets all
attributes of the class again, to what they were when it was written. Here that is done once for what
was written once; and a class is never set back in the process that defined it.
"""

from __future__ import annotations

import enum
import typing
import weakref
from contextvars import ContextVar
from types import MemberDescriptorType
from typing import Any

from cloudpickle import cloudpickle as cp

from . import generated, typings
from .code import TAG, mark_generated

origin: ContextVar[str] = ContextVar("origin", default="")
"""What is loaded at the moment (a segment's id); empty: something that nobody can tell again."""

_own: weakref.WeakSet[type] = weakref.WeakSet()
# Class → what its attributes are from.
_filled: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def reduce(cls: type, reduced: Any) -> Any:
    """Return cloudpickle's reduction of a class by value, with `fill` and with its slots."""
    if cls not in _filled:
        _own.add(cls)
    make, arguments, (attributes, _), *_, _setter = reduced
    if "__slots__" in cls.__dict__ and make is cp._make_skeleton_class and not _makes_slots(cls):
        # Made again from `__slots__`: given to the class when it is made, for later is too late.
        members = [
            name
            for name, value in attributes.items()
            if isinstance(value, MemberDescriptorType) and _is_slot(cls, name, value)
        ]
        for name in members:
            del attributes[name]
        constructor, name, bases, keywords, *rest = arguments
        keywords = {**keywords, "__slots__": _slots_of(cls)}
        arguments = (constructor, name, bases, keywords, *rest)
    if generated.REPLACE is not None and attributes.get("__replace__") is generated.REPLACE:
        del attributes["__replace__"]
    typings.drop_protocol_hook(attributes)
    methods = generated.methods(cls)
    for code in methods.values():
        mark_generated(code)
    about = {"tag": TAG, "generated": list(methods), "qualname": cls.__qualname__}
    if issubclass(cls, enum.Enum):
        about["members"] = _members(cls)
    return make, arguments, (attributes, about), None, None, fill


def _is_slot(cls: type, name: str, member: MemberDescriptorType) -> bool:
    """Tell whether a descriptor is that of a slot of this class, under the slot's own name."""
    private = f"_{cls.__name__.lstrip('_')}{member.__name__}"
    return member.__objclass__ is cls and name in (member.__name__, private)


def _members(cls: type[enum.Enum]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return each name of an enumeration, aliases too, its value, and that member's attributes."""
    return [
        (
            name,
            member.value,
            {key: value for key, value in vars(member).items() if key[0] + key[-1] != "__"},
        )
        for name, member in cls.__members__.items()
    ]


def _complete_members(cls: Any, members: list[tuple[str, Any, dict[str, Any]]]) -> None:
    """Give back what an enumeration is not made with: aliases, and what ``__init__`` set."""
    named = dict(cls._member_map_)
    for name, value, attributes in members:
        member = named.get(name)
        if member is None:
            member = cls(value)
            if all(member is not known for known in named.values()):
                member._name_ = name  # several flags, with a name of their own
            named[name] = member
            type.__setattr__(cls, name, member)
        member.__dict__.update(attributes)
    cls._member_map_.clear()
    cls._member_map_.update((name, named[name]) for name, _, _ in members)


def _makes_slots(cls: type) -> bool:
    """Tell whether a class's constructor sets `__slots__` itself: that of named tuples does."""
    return typing.NamedTuple in getattr(cls, "__orig_bases__", ())


def _slots_of(cls: type) -> Any:
    slots = cls.__dict__["__slots__"]
    if isinstance(slots, (str, tuple, list, dict)):
        return slots
    # An iterator, which is used up by now.
    return tuple(n for n, value in vars(cls).items() if isinstance(value, MemberDescriptorType))


def fill(cls: type, state: Any) -> None:
    """Set the attributes of a class that was just made, or was known."""
    source = origin.get()
    if cls in _own or (source and _filled.get(cls) == source):
        return
    attributes, about = state
    tag = about["tag"]
    if tag != TAG and typings.is_protocol(cls):
        attributes = typings.without_members(attributes)
    cp._class_setstate(cls, (attributes, {}))
    cls.__qualname__ = about["qualname"]
    if "members" in about:
        _complete_members(cls, about["members"])
    if about["generated"] and tag != TAG:
        generated.restore(cls, about["generated"])
    if generated.REPLACE is not None and "__dataclass_params__" in cls.__dict__:
        cls.__replace__ = generated.REPLACE  # type: ignore[attr-defined]
    if tag != TAG and typings.is_protocol(cls):
        typings.complete_protocol(cls)
    _filled[cls] = source
